//! Several nodes on one table: each job runs once, and no node ever runs more than its limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use singularity::config::{Period, Queue};
use singularity::queue::{Engine, JobContext, JobError, NewJob, Outcome, Worker, Workers};
use tokio::sync::watch;

use crate::support::db::TestDb;
use crate::support::node::TestNode;

const NODES: u32 = 3;
/// Jobs that are inserted by one statement.
const BATCH: usize = 10_000;
/// What a job takes.
const WORK: Duration = Duration::from_millis(20);
/// Longest wait for all of them, on a machine that has much else to do.
const DEADLINE: Duration = Duration::from_secs(240);

/// What all nodes see of each job, and one node of itself.
#[derive(Clone)]
struct Noop {
    runs: Arc<Vec<AtomicU8>>,
    /// Runs that ended, of all jobs together.
    ended: Arc<watch::Sender<usize>>,
    running: Arc<AtomicU32>,
    peak: Arc<AtomicU32>,
}

impl Worker for Noop {
    type Args = Value;
    const NAME: &'static str = "noop";

    async fn perform(&self, _: Value, context: JobContext) -> Result<Outcome, JobError> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(running, Ordering::SeqCst);
        if let Some(runs) = usize::try_from(context.job.id).ok().and_then(|id| self.runs.get(id)) {
            runs.fetch_add(1, Ordering::SeqCst);
        }
        // Long enough for a claim too many to be seen.
        tokio::time::sleep(WORK).await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        self.ended.send_modify(|ended| *ended += 1);
        Ok(Outcome::Completed)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_run_thirty_thousand_jobs_once_each_within_their_limits() {
    run_once_each(30_000, 200).await;
}

/// Then results are stored and jobs are claimed in one statement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_with_small_limits_run_three_thousand_jobs_once_each_within_them() {
    run_once_each(3_000, 10).await;
}

async fn run_once_each(jobs: usize, limit: u32) {
    let (db, database) = TestDb::migrated().await;
    let engine = Engine::new(database.clone());
    for begun in (0..jobs).step_by(BATCH) {
        engine.insert_many(vec![NewJob::new("noop", json!({})); BATCH.min(jobs - begun)]).await.unwrap();
    }
    // As autovacuum would have done by now on a server that is not just made.
    sqlx::query("ANALYZE oban_jobs").execute(database.pool()).await.unwrap();
    let runs: Arc<Vec<AtomicU8>> = Arc::new((0..=jobs).map(|_| AtomicU8::new(0)).collect());
    let ended: Arc<watch::Sender<usize>> = Arc::default();
    let mut nodes = Vec::new();
    for number in 0..NODES {
        let noop =
            Noop { runs: Arc::clone(&runs), ended: Arc::clone(&ended), running: Arc::default(), peak: Arc::default() };
        let mut workers = Workers::default();
        workers.register(noop.clone());
        let node = TestNode::try_start(db.url(), &format!("node_{number}"), workers, |config| {
            let poll_interval = Period::from_millis(500);
            let queue = Queue { limit, paused: true, poll_interval, ..Queue::default() };
            config.queues.insert("default".into(), queue);
        })
        .await
        .unwrap();
        nodes.push((node, noop));
    }
    // All at once, when each of them is there.
    for (node, _) in &nodes {
        node.queues().get("default").unwrap().set_paused(false);
    }
    let all_done = async {
        ended.subscribe().wait_for(|ended| *ended >= jobs).await.unwrap();
        for (node, _) in &nodes {
            node.queues().idle().await;
        }
    };
    tokio::time::timeout(DEADLINE, all_done).await.expect("all jobs run and their results stored");
    let open: i64 = sqlx::query_scalar("SELECT count(*) FROM oban_jobs WHERE state <> 'completed'")
        .fetch_one(database.pool())
        .await
        .unwrap();
    assert_eq!(open, 0, "jobs that are not completed");
    let other: Vec<(usize, u8)> = runs
        .iter()
        .enumerate()
        .skip(1)
        .map(|(id, runs)| (id, runs.load(Ordering::SeqCst)))
        .filter(|(_, runs)| *runs != 1)
        .collect();
    assert_eq!(other, [], "jobs that did not run exactly once");
    for (node, noop) in nodes {
        let peak = noop.peak.load(Ordering::SeqCst);
        assert!((1..=limit).contains(&peak), "{peak} at once on {}, which may {limit}", node.instance_id());
        node.shutdown().await;
    }
    let (attempts, owners): (i64, i64) =
        sqlx::query_as("SELECT sum(attempt)::bigint, count(DISTINCT attempted_by[1]) FROM oban_jobs")
            .fetch_one(database.pool())
            .await
            .unwrap();
    assert_eq!((attempts, owners), (jobs as i64, i64::from(NODES)), "once each, and every node had some");
}
