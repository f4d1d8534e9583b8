//! A workflow of one's own: a list of texts, one step that is run for each of them, and one that puts the results
//! together.
//!
//! Run it with `cargo run --example workflow_fan_out`. The job goes to the database that `DATABASE_URL` names, into
//! schema `examples`; without it the embedded server is started in `.singularity/postgres`. Each text has a checkpoint
//! of its own: where the process dies in the middle, the same job goes on with the texts that are left.
#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use singularity::config::{Config, Queue};
use singularity::node::{Node, NodeOptions};
use singularity::queue::NewJob;
use singularity::workflow::{Definition, DefinitionError, StepError, StepRetry, Store, Workflow};

/// How long the job may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Arguments of a job.
#[derive(Serialize, Deserialize)]
struct Texts {
    texts: Vec<String>,
}

/// What one text comes to.
type Counts = BTreeMap<String, usize>;

async fn count(text: String) -> Result<Counts, StepError> {
    let mut counts = Counts::new();
    for word in text.split_whitespace() {
        *counts.entry(word.to_lowercase()).or_default() += 1;
    }
    Ok(counts)
}

async fn add(all: Vec<Counts>) -> Result<Counts, StepError> {
    let mut sum = Counts::new();
    for (word, count) in all.into_iter().flatten() {
        *sum.entry(word).or_default() += count;
    }
    Ok(sum)
}

fn definition() -> Result<Definition, DefinitionError> {
    Workflow::<Texts>::builder("count_words")
        .step("read", |given: Texts, _| async move { Ok(given.texts) })
        .each("count", |text: String, _| count(text))
        .parallel(4)
        .within(Duration::from_secs(5))
        .retrying(StepRetry::in_place(3, Duration::from_millis(100)))
        .step("add", |counts: Vec<Counts>, _| add(counts))
        .build()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut config = Config::shipped()?;
    config.database.schema = "examples".into();
    config.queues = [("default".to_owned(), Queue::default())].into();
    let mut options = NodeOptions::new(config);
    options.workflows.register(definition()?);
    let node = Box::pin(Node::start(options)).await?;

    let texts = ["to be or not to be", "that is the question", "be that as it may"];
    let id = node.engine().insert(NewJob::new("count_words", json!({ "texts": texts }))).await?.id;
    let store = Store::new(node.storage().db().clone());
    let completed = async {
        loop {
            let run = store.run(id).await?.filter(|run| run.state == "completed");
            match run {
                Some(run) => return Ok::<_, Box<dyn Error>>(run),
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let run = tokio::time::timeout(PATIENCE, completed).await??;
    for step in &run.steps {
        println!("{}: {}", step.step, step.output);
    }
    for part in &run.parts {
        println!("  {} ({}): {}", part.step, part.path, part.output);
    }
    node.shutdown(std::future::pending()).await;
    Ok(())
}
