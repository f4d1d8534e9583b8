//! Testing workers and the code that enqueues their jobs, with and without a database.
//!
//! `cargo run --example testing` prints what each helper finds; in a program of one's own these lines stand in tests.
//! What needs a database uses the one that `DATABASE_URL` names, in schema `examples`; without it the embedded server
//! is started in `.singularity/postgres`.
#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use singularity::config::Config;
use singularity::node::{Guardian, Storage};
use singularity::postgres::migrate;
use singularity::queue::{
    Engine, Enqueue, JobContext, JobError, Outcome, QueueError, Schedule, Worker, WorkerOptions, Workers,
};
use singularity::testing::{
    Drain, Enqueued, Inline, assert_enqueued, build_job, drain_queue, perform_built_job, perform_job, refute_enqueued,
};

struct Remind;

#[derive(Serialize, Deserialize)]
struct Reminder {
    user: u32,
}

impl Worker for Remind {
    type Args = Reminder;
    const NAME: &'static str = "remind";
    const OPTIONS: WorkerOptions = WorkerOptions { queue: "reminders", max_attempts: 2, ..WorkerOptions::DEFAULT };

    async fn perform(&self, reminder: Reminder, context: JobContext) -> Result<Outcome, JobError> {
        match reminder.user {
            0 => Ok(Outcome::Cancelled("no such user".into())),
            13 if context.is_last_attempt() => Ok(Outcome::Discarded("it never works for 13".into())),
            13 => Err(JobError::msg("out of luck")),
            _ => Ok(Outcome::Completed),
        }
    }
}

/// The code under test: it enqueues through whatever it is given.
async fn sign_up(jobs: &impl Enqueue, user: u32) -> Result<(), QueueError> {
    let reminder = Remind::new_job(&Reminder { user })?.schedule(Schedule::In(Duration::from_secs(3_600)));
    jobs.enqueue(reminder).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // A worker by itself.
    println!("user 1: {:?}", perform_job(&Remind, Reminder { user: 1 }).await?);
    println!("user 0: {:?}", perform_job(&Remind, Reminder { user: 0 }).await?);
    let mut job = build_job(Remind::new_job(&Reminder { user: 13 })?)?;
    job.attempt = 2;
    println!("user 13, attempt 2: {:?}", perform_built_job(&Remind, job).await?);
    if let Err(error) = perform_job(&Remind, serde_json::json!({"user": "Joe"})).await {
        println!("{error:?}");
    }

    // Code that enqueues, with its jobs run on the spot.
    let inline = Inline::default().with(Remind);
    sign_up(&inline, 1).await?;
    println!("inline: {:?}", inline.performed().first().map(|done| done.job.state.as_str()));
    if let Err(error) = sign_up(&inline, 13).await {
        println!("inline: {error}");
    }

    // The same code with a database.
    let mut config = Config::shipped()?;
    config.database.schema = "examples".into();
    let storage = Storage::open(&config, Path::new("."), "testing", Guardian::Nobody).await?;
    migrate::up(storage.db()).await?;
    let engine = Engine::new(storage.db().clone());
    for user in [1, 13] {
        sign_up(&engine, user).await?;
    }
    let wanted = Enqueued::of::<Remind>()
        .arg("user", 13)
        .scheduled_in(Duration::from_secs(3_600))
        .within(Duration::from_secs(60));
    println!("enqueued: {}", assert_enqueued(&engine, &wanted).await?.len());
    refute_enqueued(&engine, &Enqueued::of::<Remind>().arg("user", 2)).await?;
    let mut workers = Workers::default();
    workers.register(Remind);
    let drain = Drain::queue("reminders").with_scheduled().with_recursion();
    println!("{:?}", drain_queue(&engine, &workers, &drain).await?);
    storage.close().await;
    Ok(())
}
