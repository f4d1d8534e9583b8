//! Jobs in a transaction of one's own: they exist, and nodes hear of them, when what they are about is committed.
//!
//! Run it with `cargo run --example transactional_enqueue`. Everything goes to the database that `DATABASE_URL` names,
//! into schema `examples`; without it the embedded server is started in `.singularity/postgres`. No node runs the jobs.
#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::path::Path;

use serde::{Deserialize, Serialize};
use singularity::config::Config;
use singularity::node::{Guardian, Storage};
use singularity::postgres::migrate;
use singularity::queue::{Engine, JobContext, JobError, Outcome, Worker};
use singularity::testing::{Enqueued, all_enqueued};

/// The program's own table.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS examples.accounts (id bigserial PRIMARY KEY, name text NOT NULL)";

struct Welcome;

#[derive(Serialize, Deserialize)]
struct Account {
    id: i64,
}

impl Worker for Welcome {
    type Args = Account;
    const NAME: &'static str = "welcome";

    async fn perform(&self, _: Account, _: JobContext) -> Result<Outcome, JobError> {
        Ok(Outcome::Completed)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut config = Config::shipped()?;
    config.database.schema = "examples".into();
    let storage = Storage::open(&config, Path::new("."), "transactional_enqueue", Guardian::Nobody).await?;
    migrate::up(storage.db()).await?;
    sqlx::query(TABLE).execute(storage.db().pool()).await?;
    let engine = Engine::new(storage.db().clone());

    for commits in [false, true] {
        let mut tx = storage.db().pool().begin().await?;
        let id: i64 = sqlx::query_scalar("INSERT INTO examples.accounts (name) VALUES ('Joe') RETURNING id")
            .fetch_one(&mut *tx)
            .await?;
        engine.insert_many_on(&mut tx, vec![Welcome::new_job(&Account { id })?]).await?;
        let end = if commits { "committed" } else { "rolled back" };
        if commits {
            tx.commit().await?;
        } else {
            tx.rollback().await?;
        }
        let accounts: i64 = sqlx::query_scalar("SELECT count(*) FROM examples.accounts WHERE id = $1")
            .bind(id)
            .fetch_one(storage.db().pool())
            .await?;
        let jobs = all_enqueued(&engine, &Enqueued::of::<Welcome>().arg("id", id)).await?.len();
        println!("{end}: {accounts} account, {jobs} job");
    }
    storage.close().await;
    Ok(())
}
