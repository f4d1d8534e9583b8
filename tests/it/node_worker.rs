//! What a worker of one's own sees and decides: typed arguments, its options, its other names, its context.

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use singularity::config::{Config, Period, Queue, SecretRef, Source, load};
use singularity::error::Coded;
use singularity::node::{Node, NodeOptions};
use singularity::queue::{
    JobContext, JobError, NewJob, Outcome, PROGRESS_CHARS_MAX, State, Worker, WorkerOptions, Workers,
};
use tokio::sync::Semaphore;

use crate::support::db::TestDb;
use crate::support::node::{TestNode, fast, reaches, until};
use crate::support::rows::seconds_until;

/// Adds up, and shows how far it is.
struct Sum(Arc<Semaphore>);

#[derive(Serialize, Deserialize)]
struct Numbers {
    numbers: Vec<u8>,
    #[serde(default)]
    wait: bool,
}

impl Worker for Sum {
    type Args = Numbers;
    const NAME: &'static str = "sum";
    const ALIASES: &'static [&'static str] = &["MyApp.Sum", "add"];
    const OPTIONS: WorkerOptions = WorkerOptions {
        max_attempts: 2,
        tags: &["math"],
        timeout: Some(Duration::from_secs(60)),
        backoff: Some(Duration::from_secs(600)),
        ..WorkerOptions::DEFAULT
    };

    async fn perform(&self, args: Numbers, context: JobContext) -> Result<Outcome, JobError> {
        context.progress(&format!("{} of {} {}", context.attempt(), context.job.max_attempts, "·".repeat(500)));
        if args.wait {
            self.0.acquire().await?.forget();
        }
        let mut sum = 0_u8;
        for number in args.numbers {
            sum = sum.checked_add(number).ok_or_else(|| JobError::msg("more than 255"))?;
        }
        let left = context.time_left().ok_or_else(|| JobError::msg("no deadline"))?;
        Ok(Outcome::Recorded(json!({
            "sum": sum,
            "by": context.meta()["by"],
            "last": context.is_last_attempt(),
            "in_time": left <= Duration::from_secs(60) && left > Duration::from_secs(50),
        })))
    }
}

async fn node() -> (TestDb, TestNode, Arc<Semaphore>) {
    let (db, semaphore) = (TestDb::new().await, Arc::new(Semaphore::new(0)));
    let mut workers = Workers::default();
    workers.register(Sum(Arc::clone(&semaphore)));
    let node = TestNode::try_start(db.url(), "one", workers, fast).await.unwrap();
    (db, node, semaphore)
}

#[tokio::test]
async fn it_gets_its_arguments_meta_attempt_and_deadline_and_its_jobs_have_its_options() {
    let (_db, node, _semaphore) = node().await;
    let new = Sum::new_job(&Numbers { numbers: vec![1, 2, 3], wait: false }).unwrap().meta("by", "me");
    let id = node.engine().insert(new).await.unwrap().id;
    let job = node.reaches(id, State::Completed).await;
    assert_eq!(job.recorded().unwrap(), json!({"sum": 6, "by": "me", "last": false, "in_time": true}));
    assert_eq!((job.worker.as_str(), job.max_attempts, job.tags), ("sum", 2, vec!["math".to_owned()]));
}

#[tokio::test]
async fn its_errors_are_failures_and_wait_as_its_options_say() {
    let (_db, node, _semaphore) = node().await;
    let new = Sum::new_job(&Numbers { numbers: vec![200, 200], wait: false }).unwrap();
    let id = node.engine().insert(new).await.unwrap().id;
    let job = node.reaches(id, State::Retryable).await;
    assert_eq!(job.errors[0]["error"], "** (JobError) more than 255");
    let wait = seconds_until(node.storage().db(), id, "scheduled_at").await;
    assert!((590.0..=600.0).contains(&wait), "{wait}");
}

#[tokio::test]
async fn arguments_of_another_form_are_a_failure_that_says_what_is_wrong() {
    let (_db, node, _semaphore) = node().await;
    for (args, reason) in [
        (json!({}), "missing field `numbers`"),
        (json!({"numbers": "many"}), "invalid type: string \"many\", expected a sequence"),
        (json!({"numbers": [256]}), "invalid value: integer `256`, expected u8"),
    ] {
        let id = node.engine().insert(NewJob::new("sum", args)).await.unwrap().id;
        let job = node.reaches(id, State::Retryable).await;
        assert_eq!(job.errors[0]["error"], format!("** (ArgsError) E0441: arguments of worker sum: {reason}"));
    }
}

#[tokio::test]
async fn it_performs_the_jobs_of_its_other_names() {
    let (_db, node, _semaphore) = node().await;
    for name in Sum::ALIASES {
        let id = node.engine().insert(NewJob::new(*name, json!({"numbers": [1]}))).await.unwrap().id;
        let job = node.reaches(id, State::Completed).await;
        assert_eq!((job.worker.as_str(), &job.recorded().unwrap()["sum"]), (*name, &json!(1)));
    }
}

#[tokio::test]
async fn its_progress_is_shown_in_the_tree_and_cut() {
    let (_db, node, semaphore) = node().await;
    let new = Sum::new_job(&Numbers { numbers: vec![], wait: true }).unwrap();
    let id = node.engine().insert(new).await.unwrap().id;
    let shown = until("progress in the tree", || async {
        let tree = node.system().snapshot();
        tree.find(&format!("/executors/default/{id}"))?.labels.get("progress").cloned()
    })
    .await;
    assert!(shown.starts_with("1 of 2 ·"), "{shown}");
    assert_eq!(shown.chars().count(), PROGRESS_CHARS_MAX);
    semaphore.add_permits(1);
    node.reaches(id, State::Completed).await;
}

fn config(db: &TestDb, dir: &tempfile::TempDir) -> Config {
    let mut config = Config::shipped().unwrap();
    fast(&mut config);
    std::fs::write(dir.path().join("url"), db.url().expose_secret()).unwrap();
    config.database.url = SecretRef::File(dir.path().join("url"));
    config
}

/// Says which thread it runs on.
struct Whereabouts;

impl Worker for Whereabouts {
    type Args = Value;
    const NAME: &'static str = "whereabouts";

    async fn perform(&self, _: Value, _: JobContext) -> Result<Outcome, JobError> {
        Ok(Outcome::Recorded(json!(std::thread::current().name())))
    }
}

#[tokio::test]
async fn it_runs_on_threads_of_its_nodes_own_where_the_program_gives_none() {
    let (db, dir) = (TestDb::new().await, tempfile::tempdir().unwrap());
    let config = config(&db, &dir);
    let mut options = NodeOptions::new(config);
    options.workers.register(Whereabouts);
    let node = Box::pin(Node::start(options)).await.unwrap();
    let id = node.engine().insert(Whereabouts::new_job(&json!({})).unwrap()).await.unwrap().id;
    let job = reaches(node.engine(), id, State::Completed).await;
    assert_eq!(job.recorded().unwrap(), json!("jobs"));
    Box::pin(node.shutdown(std::future::pending())).await;
}

#[tokio::test]
async fn a_node_of_a_program_leaves_the_jobs_of_the_built_in_workflows_to_others() {
    let (db, dir) = (TestDb::new().await, tempfile::tempdir().unwrap());
    let mut options = NodeOptions::new(config(&db, &dir));
    options.workers.register(Whereabouts);
    let node = Box::pin(Node::start(options)).await.unwrap();
    let prompt = NewJob::new("llm_request", json!({"prompt": "Say hello"}));
    let prompt = node.engine().insert(prompt).await.unwrap().id;
    let own = node.engine().insert(Whereabouts::new_job(&json!({})).unwrap()).await.unwrap().id;
    reaches(node.engine(), own, State::Completed).await;
    // It is older, so whoever claims it claims it first.
    let prompt = node.engine().get(prompt).await.unwrap().unwrap();
    assert_eq!((prompt.state, prompt.attempt), (State::Available, 0));
    assert!(node.system().snapshot().find("/central").is_none());
    Box::pin(node.shutdown(std::future::pending())).await;
}

#[tokio::test]
async fn a_node_of_a_program_has_the_id_and_the_folder_of_its_configuration() {
    let (db, dir) = (TestDb::new().await, tempfile::tempdir().unwrap());
    let file = dir.path().join("actors.toml");
    std::fs::write(dir.path().join("url"), db.url().expose_secret()).unwrap();
    let text = "[instance]\nid = \"web_1\"\n[database]\nurl = \"file:url\"\n[queues.default]\nlimit = 9\n\
                [instances.web_1.queues.default]\nlimit = 2\n";
    std::fs::write(&file, text).unwrap();
    let loaded = load(&Source { path: Some(file), ..Source::default() }).unwrap();
    let options = NodeOptions::loaded(loaded);
    assert_eq!(options.base_dir, dir.path());
    let node = Box::pin(Node::start(options)).await.unwrap();
    assert_eq!(node.instance_id(), "web_1");
    assert_eq!(node.queues().get("default").unwrap().limit(), 2);
    Box::pin(node.shutdown(std::future::pending())).await;
}

#[tokio::test]
async fn a_configuration_that_a_file_may_not_have_starts_no_node() {
    let mut config = Config::shipped().unwrap();
    config.instance.stale_after = Period::from_secs(5);
    config.queues.insert("mail".into(), Queue { limit: 0, ..Queue::default() });
    let error = Box::pin(Node::start(NodeOptions::new(config))).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("instance.stale_after: ") && text.contains("queues.mail.limit: "), "{text}");
    assert_eq!(error.code(), "E0103");
}
