//! Unique jobs: one row, however often the same is inserted, and what an insert may change in the row that is there.
//!
//! Run it with `cargo run --example unique_jobs`. The jobs go to the database that `DATABASE_URL` names, into
//! schema `examples`; without it the embedded server is started in `.singularity/postgres`. No node runs them.
#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use singularity::config::Config;
use singularity::node::{Guardian, Storage};
use singularity::postgres::migrate;
use singularity::queue::engine::Inserted;
use singularity::queue::{
    Engine, JobContext, JobError, Outcome, Replace, ReplaceField, Schedule, State, Unique, Worker, WorkerOptions,
};

struct Invoice;

#[derive(Serialize, Deserialize)]
struct Order {
    customer: u32,
    amount: u32,
}

impl Worker for Invoice {
    type Args = Order;
    const NAME: &'static str = "invoice";
    const OPTIONS: WorkerOptions = WorkerOptions {
        queue: "invoices",
        // One invoice a customer and hour, whatever its amount; also when the earlier one is done.
        unique: Some(|| Unique {
            keys: vec!["customer".into()],
            period: Some(Duration::from_secs(3_600)),
            ..Unique::default()
        }),
        // While the earlier one waits for its time, the later amount counts.
        replace: Some(|| Replace::default().when(State::Scheduled, &[ReplaceField::Args])),
        ..WorkerOptions::DEFAULT
    };

    async fn perform(&self, _: Order, _: JobContext) -> Result<Outcome, JobError> {
        Ok(Outcome::Completed)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut config = Config::shipped()?;
    config.database.schema = "examples".into();
    let storage = Storage::open(&config, Path::new("."), "unique_jobs", Guardian::Nobody).await?;
    migrate::up(storage.db()).await?;
    let engine = Engine::new(storage.db().clone());
    // A customer of this run, because the rows of earlier ones are still there.
    let customer = std::process::id();
    let later = Schedule::In(Duration::from_secs(600));

    let mut first = None;
    for amount in [10, 20] {
        let job = Invoice::new_job(&Order { customer, amount })?.schedule(later);
        let inserted = engine.insert(job).await?;
        first = first.or(Some(inserted.id));
        println!("{amount}: {}", told(inserted, first));
    }
    // Eight at once, each on a connection of its own: they wait for each other, and one row results.
    let customer = customer.wrapping_add(1 << 31);
    let inserts = (0..8).map(|amount| {
        let engine = engine.clone();
        async move { engine.insert(Invoice::new_job(&Order { customer, amount })?).await }
    });
    let all = futures_util::future::try_join_all(inserts).await?;
    let new = all.iter().filter(|inserted| !inserted.conflict).count();
    println!("8 at once: {new} new, {} met it", all.len() - new);
    if let Some(job) = engine.get(first.unwrap_or_default()).await? {
        println!("the first job now has amount {}", job.args["amount"]);
    }
    storage.close().await;
    Ok(())
}

fn told(inserted: Inserted, first: Option<i64>) -> &'static str {
    match (inserted.conflict, inserted.replaced, first == Some(inserted.id)) {
        (false, ..) => "a new job",
        (true, true, true) => "the job that is there, with new arguments",
        (true, ..) => "the job that is there",
    }
}
