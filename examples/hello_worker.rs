//! A worker of one's own on a node in one's own program: typed arguments, options, progress, a result.
//!
//! Run it with `cargo run --example hello_worker`. The jobs go to the database that `DATABASE_URL` names, into
//! schema `examples`; without it the embedded server is started in `.singularity/postgres`.
#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use singularity::config::{Config, Queue};
use singularity::node::{Node, NodeOptions};
use singularity::queue::{JobContext, JobError, NewJob, Outcome, State, Worker, WorkerOptions};

/// How long the example waits for its jobs.
const PATIENCE: Duration = Duration::from_secs(30);

struct Hello;

/// Its arguments, as they stand in the column `args`.
#[derive(Serialize, Deserialize)]
struct Guest {
    name: String,
}

impl Worker for Hello {
    type Args = Guest;
    const NAME: &'static str = "hello";
    // What it was called before, and the module of an Elixir node: jobs of these names are its own too.
    const ALIASES: &'static [&'static str] = &["MyApp.Hello"];
    const OPTIONS: WorkerOptions = WorkerOptions {
        max_attempts: 3,
        tags: &["example"],
        timeout: Some(Duration::from_secs(10)),
        ..WorkerOptions::DEFAULT
    };

    async fn perform(&self, guest: Guest, context: JobContext) -> Result<Outcome, JobError> {
        context.progress(&format!("greeting {}", guest.name));
        if guest.name.is_empty() {
            return Ok(Outcome::Cancelled("nobody to greet".into()));
        }
        // Code that blocks its thread has a place of its own. Any error ends the attempt by `?` and is a failure.
        let name = guest.name;
        let greeting = context.run_blocking(move || format!("Hello, {name}!")).await?;
        println!("job {}, attempt {}: {greeting}", context.job.id, context.attempt());
        Ok(Outcome::Recorded(json!(greeting)))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut config = Config::shipped()?;
    config.database.schema = "examples".into();
    config.queues = [("default".to_owned(), Queue::default())].into();
    let mut options = NodeOptions::new(config);
    options.workers.register(Hello);
    let node = Box::pin(Node::start(options)).await?;

    let jobs = vec![
        Hello::new_job(&Guest { name: "Joe".into() })?,
        Hello::new_job(&Guest { name: String::new() })?,
        NewJob::new("MyApp.Hello", json!({"name": "Robert"})),
        NewJob::new("hello", json!({"nom": "Mike"})),
    ];
    let ids: Vec<i64> = node.engine().insert_many(jobs).await?.iter().map(|inserted| inserted.id).collect();
    let ended = async {
        loop {
            let jobs = node.engine().get_many(&ids).await?;
            if jobs.iter().all(|job| job.state.is_terminal() || job.state == State::Retryable) {
                return Ok::<_, Box<dyn Error>>(jobs);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    for job in tokio::time::timeout(PATIENCE, ended).await?? {
        let error = job.errors.last().and_then(|error| error["error"].as_str());
        match (job.recorded(), error) {
            (Some(result), _) => println!("{}: {result}", job.state),
            (None, error) => println!("{}: {}", job.state, error.unwrap_or_default()),
        }
    }
    node.shutdown(std::future::pending()).await;
    Ok(())
}
