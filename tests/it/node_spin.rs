//! Job code that never awaits, on every thread that jobs have: the node goes on beside it.
//!
//! The node's own actors have a runtime of one thread, as in the binary; the test watches from a third runtime, so that
//! a node that stands still is a failure and no test without an end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use singularity::config::Period;
use singularity::instance::{Presence, ask};
use singularity::queue::{Engine, JobContext, JobError, NewJob, Outcome, State, Worker, Workers};
use tokio::runtime::{Builder, Runtime};

use crate::cli_support::run;
use crate::support::db::TestDb;
use crate::support::node::{JOB_THREADS, TestNode, until};
use crate::support::process::Place;
use crate::support::rows::row;

/// How soon a node answers whose jobs hold all their threads, and all of this machine's: one that is held up by them
/// answers never.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// What is promised of an answer. Other tests take turns on this machine, so the best of some shows it.
const ANSWER_GOAL: Duration = Duration::from_secs(1);
const ASKS: usize = 5;
/// As a node of these tests is set.
const STALE_AFTER: Duration = Duration::from_secs(10);
/// Heartbeats to see.
const BEATS: usize = 8;
/// Handing back, and killing executors that do not end.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(30);

/// Loops until it is let go, also when the test fails.
#[derive(Clone, Default)]
struct Spinner(Arc<AtomicBool>);

struct LetGo(Spinner);

impl Drop for LetGo {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Release);
    }
}

impl Worker for Spinner {
    type Args = Value;
    const NAME: &'static str = "spinner";

    async fn perform(&self, _: Value, _: JobContext) -> Result<Outcome, JobError> {
        while !self.0.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
        Ok(Outcome::Completed)
    }
}

/// A runtime that may be dropped where others run.
struct ControlRuntime(Option<Runtime>);

impl ControlRuntime {
    fn new() -> Self {
        Self(Some(Builder::new_multi_thread().worker_threads(1).thread_name("control").enable_all().build().unwrap()))
    }

    async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.0.as_ref().unwrap().spawn(work).await.unwrap()
    }
}

impl Drop for ControlRuntime {
    fn drop(&mut self) {
        self.0.take().unwrap().shutdown_background();
    }
}

async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let begun = Instant::now();
    (work.await, begun.elapsed())
}

/// Runs the program and says how long it took.
async fn command(place: &Arc<Place>, args: &'static [&'static str]) -> (String, Duration) {
    let place = Arc::clone(place);
    let ended = tokio::task::spawn_blocking(move || run(&place, args).done().out);
    let (out, took) = timed(ended).await;
    (out.unwrap(), took)
}

/// Waits for new heartbeats, none of which may be near to being too late. Returns the longest time between two.
async fn beats(presence: &Presence) -> chrono::TimeDelta {
    let mut last = presence.get("one").await.unwrap().unwrap().last_heartbeat;
    let mut longest = chrono::TimeDelta::zero();
    for _ in 0..BEATS {
        let next = until("a heartbeat", || async {
            let row = presence.get("one").await.unwrap().unwrap();
            assert!(u128::try_from(row.heartbeat_age_ms).unwrap() < STALE_AFTER.as_millis(), "{row:?}");
            (row.last_heartbeat > last).then_some(row.last_heartbeat)
        })
        .await;
        longest = longest.max(next - last);
        last = next;
    }
    longest
}

#[tokio::test]
async fn endless_loops_on_all_job_threads_hold_up_neither_heartbeat_nor_answers_nor_the_end() {
    let (db, database) = TestDb::migrated().await;
    let (engine, presence) = (Engine::new(database.clone()), Presence::new(database.clone(), None));
    let (control, spinner) = (ControlRuntime::new(), Spinner::default());
    let let_go = LetGo(spinner.clone());
    let url = db.url().clone();
    let node = control
        .run(async move {
            let mut workers = Workers::default();
            workers.register(spinner);
            TestNode::try_start(&url, "one", workers, |config| {
                config.instance.stale_after = Period::from_secs(STALE_AFTER.as_secs());
                config.runtime.shutdown_grace = Period::from_secs(0);
            })
            .await
            .unwrap()
        })
        .await;
    let mut ids = Vec::new();
    for _ in 0..JOB_THREADS {
        ids.push(engine.insert(NewJob::new("spinner", json!({}))).await.unwrap().id);
    }
    for id in &ids {
        until("a job", || async { (engine.get(*id).await.unwrap()?.state == State::Executing).then_some(()) }).await;
    }

    let gap = beats(&presence).await;
    println!("{BEATS} heartbeats while all job threads spin, at most {} ms apart", gap.num_milliseconds());
    assert!(gap.to_std().unwrap() < STALE_AFTER);

    let mut best = ANSWER_LIMIT;
    for _ in 0..ASKS {
        let (answer, took) = timed(ask(&database, "one", "tree", &json!({}), "test", ANSWER_LIMIT)).await;
        println!("the tree was answered in {} ms", took.as_millis());
        assert!(answer.unwrap().to_string().contains("spinner"));
        best = best.min(took);
        if best < ANSWER_GOAL {
            break;
        }
    }
    assert!(best < ANSWER_GOAL, "{best:?}");

    assert!(engine.cancel(ids[0]).await.unwrap() == singularity::queue::engine::Changed::Yes(State::Executing));
    until("a stuck job in the tree", || async {
        let tree = node.system().snapshot();
        let job = tree.find(&format!("/executors/default/{}", ids[0]))?;
        job.labels.contains_key("stuck").then_some(())
    })
    .await;

    let place = Arc::new(Place::new(&db, ""));
    let (_, bare) = command(&place, &["--version"]).await;
    let (shown, took) = command(&place, &["tree", "--json"]).await;
    println!("`singularity tree` took {} ms, `singularity --version` {} ms", took.as_millis(), bare.as_millis());
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert!(shown.to_string().contains("\"stuck\":"), "{shown}");

    let (_, took) = timed(control.run(node.shutdown())).await;
    println!("shut down in {} ms while job code spins", took.as_millis());
    assert!(took < SHUTDOWN_LIMIT, "{took:?}");
    assert_eq!(row(&database, ids[0]).await["state"], "cancelled");
    assert_eq!(row(&database, ids[1]).await["state"], "available", "handed back");
    drop(let_go);
}
