//! A periodic job in a program of one's own: a worker, an entry that is due every two seconds, and a node that leads.
//!
//! Run it with `cargo run --example cron`; it ends after three jobs. They go to the database that `DATABASE_URL` names,
//! into a schema of their own, `examples`; without it the embedded server is started in `.singularity/postgres`.
#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::time::Duration;

use serde::Deserialize;
use singularity::config::{CatchUp, Config, Cron, Object};
use singularity::node::{Node, NodeOptions};
use singularity::queue::{JobContext, JobError, Outcome, Worker};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// Jobs that are waited for.
const JOBS: usize = 3;
/// Longest wait for each of them.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tells of each job.
struct Report(UnboundedSender<String>);

/// Its arguments.
#[derive(Deserialize)]
struct About {
    kind: String,
}

impl Worker for Report {
    type Args = About;
    const NAME: &'static str = "report";

    async fn perform(&self, about: About, context: JobContext) -> Result<Outcome, JobError> {
        let job = &context.job;
        // The program may be at its end already.
        self.0.send(format!("job {}: report of {} for {}", job.id, about.kind, job.meta["cron_at"])).ok();
        Ok(Outcome::Completed)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut config = Config::shipped()?;
    config.database.schema = "examples".into();
    let mut args = Object::default();
    args.0.insert("kind".into(), "sales".into());
    config.cron.insert(
        "report".into(),
        Cron {
            // Six fields begin with the second. A file says the same as [cron.report].
            expr: "*/2 * * * * *".into(),
            worker: "report".into(),
            args,
            timezone: "Europe/Berlin".into(),
            catch_up: CatchUp::Last,
            ..Cron::default()
        },
    );
    let (tell, mut told) = unbounded_channel();
    let mut options = NodeOptions::new(config);
    options.workers.register(Report(tell));
    let node = Box::pin(Node::start(options)).await?;
    for _ in 0..JOBS {
        let line = tokio::time::timeout(PATIENCE, told.recv()).await?.ok_or("the worker is gone")?;
        println!("{line}");
    }
    Box::pin(node.shutdown(std::future::pending())).await;
    Ok(())
}
