//! A crash at every boundary of a workflow: the node dies at the n-th write of a run, for every n, once with the write
//! lost and once with the write done after its death, and another node goes on.
//!
//! The boundaries are those of the database: a trigger counts what is written about runs and completions, and holds the
//! n-th write up until the test lets it go. So nothing in the program knows of these tests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use singularity::queue::{Engine, JobContext, JobError, NewJob, Outcome, State, Worker, Workers};
use singularity::workflow::{Child, Definition, LLM_REQUEST, StepContext, StepError, Store, Workflow, WorkflowWorker};

use crate::support::db::TestDb;
use crate::support::node::{TestNode, until};
use crate::support::provider::{FakeProvider, Wire};
use crate::support::rows::engine;

/// Lock that holds the write up.
const LOCK: i64 = 4_711;
/// More boundaries than any workflow here has.
const BOUNDARIES_MAX: i64 = 60;

const TRIGGERS: &str = "
    CREATE SEQUENCE boundary_number;
    CREATE TABLE boundary_stop (number bigint NOT NULL);
    INSERT INTO boundary_stop VALUES (0);
    CREATE FUNCTION boundary() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF nextval('boundary_number') = (SELECT number FROM boundary_stop) THEN
        PERFORM pg_advisory_lock(4711);
        PERFORM pg_advisory_unlock(4711);
      END IF;
      RETURN NEW;
    END $$;
    CREATE TRIGGER boundary BEFORE INSERT OR UPDATE ON workflow_runs FOR EACH ROW EXECUTE FUNCTION boundary();
    CREATE TRIGGER boundary BEFORE INSERT ON workflow_steps FOR EACH ROW EXECUTE FUNCTION boundary();
    CREATE TRIGGER boundary BEFORE INSERT ON workflow_parts FOR EACH ROW EXECUTE FUNCTION boundary();
    CREATE TRIGGER boundary BEFORE INSERT OR UPDATE ON job_children FOR EACH ROW EXECUTE FUNCTION boundary();
    CREATE TRIGGER boundary BEFORE INSERT ON job_waits FOR EACH ROW EXECUTE FUNCTION boundary();
    CREATE TRIGGER boundary BEFORE INSERT ON job_results FOR EACH ROW EXECUTE FUNCTION boundary();
    CREATE TRIGGER boundary BEFORE UPDATE ON oban_jobs FOR EACH ROW
      WHEN (OLD.state = 'executing' AND NEW.state NOT IN ('executing', 'available'))
      EXECUTE FUNCTION boundary();";

/// What becomes of the write at which the node dies.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// It never happens.
    Lost,
    /// It is done when the node is dead.
    Late,
}

/// Which calls were made, by idempotency key, and what was stored when they began.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<BTreeMap<String, usize>>>);

impl Calls {
    fn note(&self, context: &StepContext) {
        *self.0.lock().unwrap().entry(context.idempotency_key.clone()).or_default() += 1;
    }
}

/// A job that a workflow waits for.
struct Leaf;

impl Worker for Leaf {
    type Args = Value;
    const NAME: &'static str = "leaf";

    async fn perform(&self, args: Value, _: JobContext) -> Result<Outcome, JobError> {
        Ok(Outcome::Recorded(args["n"].clone()))
    }
}

/// Steps of every kind: pure and external, a fan-out over a sub-workflow, children, and a last one.
fn everything(calls: &Calls) -> Definition {
    let call = |calls: &Calls| {
        let calls = calls.clone();
        move |n: u64, context: StepContext| {
            calls.note(&context);
            std::future::ready(Ok::<u64, StepError>(n + 1))
        }
    };
    let inner = Workflow::<u64>::builder("inner").step("think", call(calls)).call("ask", call(calls));
    Workflow::<Value>::builder("everything")
        .step("read", |args: Value, _| async move { Ok(args["n"].as_u64().unwrap_or_default()) })
        .call("fetch", call(calls))
        .step("list", |n: u64, _| async move { Ok((0..n).collect::<Vec<u64>>()) })
        .each_sub("each", inner)
        .parallel(1)
        .jobs("jobs", |list: Vec<u64>| Ok(list.iter().map(|n| NewJob::new("leaf", json!({ "n": n }))).collect()))
        .step("read_jobs", |children: Vec<Child>, _| async move {
            children.iter().map(Child::output::<u64>).collect::<Result<Vec<_>, _>>()
        })
        .call("publish", {
            let calls = calls.clone();
            move |list: Vec<u64>, context: StepContext| {
                calls.note(&context);
                std::future::ready(Ok(json!({ "sum": list.iter().sum::<u64>() })))
            }
        })
        .build()
        .unwrap()
}

struct Bench {
    db: TestDb,
    engine: Engine,
    store: Store,
    calls: Calls,
    provider: FakeProvider,
    nodes: usize,
}

impl Bench {
    async fn new() -> Self {
        let (db, engine) = engine().await;
        db.execute(TRIGGERS).await;
        let store = Store::new(engine.db().clone());
        let provider = FakeProvider::start(Wire::Openai).await;
        Self { db, engine, store, calls: Calls::default(), provider, nodes: 0 }
    }

    async fn node(&mut self) -> TestNode {
        self.nodes += 1;
        let mut workers = Workers::default();
        workers.register(Leaf);
        workers.register_executable(WorkflowWorker::new(everything(&self.calls), self.store.clone()));
        TestNode::try_start(self.db.url(), &format!("node{}", self.nodes), workers, |config| {
            crate::workflow_llm::models(config, Wire::Openai, self.provider.base_url());
        })
        .await
        .unwrap()
    }

    async fn sql(&self, sql: &str) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(self.engine.db().pool()).await.unwrap();
    }

    /// Process of the session that waits at the boundary.
    async fn held(&self) -> Option<i32> {
        sqlx::query_scalar(
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid::bigint = $1 AND NOT granted
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
        .bind(LOCK)
        .fetch_optional(self.engine.db().pool())
        .await
        .unwrap()
    }

    /// Runs a job whose node dies at boundary `number`, and lets another one finish it. `None` when there are fewer
    /// boundaries.
    async fn crash_at(&mut self, number: i64, fate: Fate, job: NewJob) -> Option<i64> {
        self.sql(&format!("ALTER SEQUENCE boundary_number RESTART; UPDATE boundary_stop SET number = {number}")).await;
        // On a connection of its own, because the lock belongs to the session.
        let mut holder = self.engine.db().pool().acquire().await.unwrap();
        sqlx::query("SELECT pg_advisory_lock($1)").bind(LOCK).execute(&mut *holder).await.unwrap();
        let node = self.node().await;
        let id = self.engine.insert(job).await.unwrap().id;
        let pid = until(&format!("boundary {number}, or the end"), || async {
            match self.held().await {
                Some(pid) => Some(Some(pid)),
                None => {
                    let state = self.engine.get(id).await.unwrap().unwrap().state;
                    (state == State::Completed).then_some(None)
                }
            }
        })
        .await;
        let unlock = "SELECT pg_advisory_unlock($1)";
        let Some(pid) = pid else {
            sqlx::query(unlock).bind(LOCK).execute(&mut *holder).await.unwrap();
            node.shutdown().await;
            return None;
        };
        let name = node.instance_id().to_owned();
        drop(node);
        self.sql("UPDATE boundary_stop SET number = 0").await;
        if matches!(fate, Fate::Lost) {
            sqlx::query("SELECT pg_terminate_backend($1)").bind(pid).execute(&mut *holder).await.unwrap();
        }
        sqlx::query(unlock).bind(LOCK).execute(&mut *holder).await.unwrap();
        drop(holder);
        until("the end of the write", || async {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND state = 'active'";
            let active: i64 = sqlx::query_scalar(sql).bind(pid).fetch_one(self.engine.db().pool()).await.unwrap();
            (active == 0).then_some(())
        })
        .await;
        // Others find the dead one by its heartbeat, which stands still for a while; this saves the test the wait.
        self.sql(&format!("UPDATE instance_registry SET status = 'offline' WHERE instance_id = '{name}'")).await;
        let node = self.node().await;
        until("the end of the job", || async {
            let job = self.engine.get(id).await.unwrap().unwrap();
            assert!(!matches!(job.state, State::Discarded | State::Cancelled), "{:?}", job.errors);
            (job.state == State::Completed).then_some(())
        })
        .await;
        node.shutdown().await;
        Some(id)
    }
}

#[tokio::test]
async fn a_crash_at_any_boundary_loses_no_run_and_repeats_no_stored_step() {
    let mut bench = Bench::new().await;
    let job = || NewJob::new("everything", json!({"n": 1}));
    for fate in [Fate::Lost, Fate::Late] {
        let mut boundaries = 0;
        for number in 1..=BOUNDARIES_MAX {
            bench.calls.0.lock().unwrap().clear();
            let Some(id) = bench.crash_at(number, fate, job()).await else { break };
            boundaries = number;
            let run = bench.store.run(id).await.unwrap().unwrap();
            let at = format!("{fate:?} at boundary {number}");
            assert_eq!((run.state.as_str(), run.output), ("completed", Some(json!({"sum": 5}))), "{at}");
            let steps: Vec<&str> = run.steps.iter().map(|step| step.step.as_str()).collect();
            assert_eq!(steps, ["read", "fetch", "list", "each", "jobs", "read_jobs", "publish"], "{at}");
            assert_eq!((run.parts.len(), run.children.len()), (6, 2), "{at}");
            // One call may be repeated: the one whose checkpoint was on its way when the node died.
            let calls = bench.calls.0.lock().unwrap().clone();
            let repeated: Vec<_> = calls.iter().filter(|(_, times)| **times > 1).collect();
            assert!(repeated.len() <= 2 && repeated.iter().all(|(_, times)| **times == 2), "{at}: {repeated:?}");
            let external = |key: &str| !key.ends_with(".0");
            assert!(repeated.iter().filter(|(key, _)| external(key)).count() <= 1, "{at}: {repeated:?}");
            assert_eq!(calls.len(), 6, "{at}: {calls:?}");
            // And none whose checkpoint was stored by the first attempt.
            let stored = run.steps.iter().map(|step| (step.position.to_string(), step.attempt));
            let stored: BTreeMap<String, i32> =
                stored.chain(run.parts.iter().map(|part| (part.path.clone(), part.attempt))).collect();
            for (key, times) in calls {
                let path = key.rsplit('-').next().unwrap();
                assert!(times == 1 || stored[path] == 2, "{at}: {path} was stored and ran again");
            }
            let results: i64 = sqlx::query_scalar("SELECT count(*) FROM job_results WHERE job_id = $1")
                .bind(id)
                .fetch_one(bench.engine.db().pool())
                .await
                .unwrap();
            assert_eq!(results, 1, "{at}");
            let leaves: i64 = sqlx::query_scalar("SELECT count(*) FROM oban_jobs WHERE meta ->> 'parent_job' = $1")
                .bind(id.to_string())
                .fetch_one(bench.engine.db().pool())
                .await
                .unwrap();
            assert_eq!(leaves, 2, "{at}: no child is enqueued twice");
        }
        eprintln!("{fate:?}: {boundaries} boundaries");
        assert!((20..BOUNDARIES_MAX).contains(&boundaries), "{boundaries} boundaries");
    }
}

#[tokio::test]
async fn a_crash_at_any_boundary_of_an_llm_request_pays_once_for_what_was_stored() {
    let mut bench = Bench::new().await;
    let job = || NewJob::new(LLM_REQUEST, json!({"prompt": "hello"}));
    for fate in [Fate::Lost, Fate::Late] {
        let mut boundaries = 0;
        for number in 1..=BOUNDARIES_MAX {
            let before = bench.provider.calls();
            let Some(id) = bench.crash_at(number, fate, job()).await else { break };
            boundaries = number;
            let run = bench.store.run(id).await.unwrap().unwrap();
            let at = format!("{fate:?} at boundary {number}");
            let calls = bench.provider.received().split_off(before);
            // Paid twice only where the answer was on its way to the database when the node died.
            let answered_by = run.steps[2].attempt;
            assert!(calls.len() == 1 || (calls.len() == 2 && answered_by == 2), "{at}: {} calls", calls.len());
            let keys: Vec<_> = calls.iter().map(|call| call.header("idempotency-key").map(str::to_owned)).collect();
            assert!(keys.iter().all(|key| key.is_some() && *key == keys[0]), "{at}: {keys:?}");
            assert_eq!((run.state.as_str(), run.steps.len()), ("completed", 4), "{at}");
            let results = bench.store.results(&[id]).await.unwrap();
            assert!(results.len() == 1 && results[0].success, "{at}");
        }
        eprintln!("{fate:?}: {boundaries} boundaries of llm_request");
        assert!((6..BOUNDARIES_MAX).contains(&boundaries), "{boundaries} boundaries");
    }
}
