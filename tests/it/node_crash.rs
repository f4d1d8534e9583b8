//! What becomes of jobs when parts of the tree die: executors, supervisors, producers, the completer.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use singularity::config::{Period, Queue};
use singularity::instance::{Lease, Moment};
use singularity::queue::{
    Attempt, Completer, Completions, Engine, Executable, Execution, JobRuntime, Looks, NewJob, Producer, ProducerArgs,
    QueueState, Queues, State, Workers,
};
use singularity::supervision::{
    Actor, ActorError, Address, ChildSpec, Ctx, DynamicHandle, DynamicSupervisorSpec, Flow, Intensity, Restart,
    Running, Strategy, SupervisorHandle, SupervisorSpec, System,
};

use crate::support::db::{TestDb, waits_for_a_lock};
use crate::support::node::{Fixture, job, reaches, restarts, until, workers};
use crate::support::rows::engine;

/// The queue half of a tree, with handles into it.
struct Parts {
    engine: Engine,
    queue: Arc<QueueState>,
    completions: Completions,
    workers: Workers,
    root: SupervisorHandle,
    lease: Lease,
    system: System,
}

impl Parts {
    fn new(engine: &Engine, workers: Workers, limit: u32) -> Self {
        let lease = Lease::new(Duration::from_secs(600));
        lease.renew(Moment::now());
        Self {
            engine: engine.clone(),
            queue: Arc::new(QueueState::new(
                "default",
                Queue { limit, poll_interval: Period::from_millis(100), ..Queue::default() },
            )),
            completions: Completions::default(),
            workers,
            root: SupervisorHandle::new(),
            lease,
            system: System::new("here"),
        }
    }

    async fn start(&self) -> Running {
        let handle = DynamicHandle::new();
        let producer = ProducerArgs {
            queue: Arc::clone(&self.queue),
            engine: self.engine.clone(),
            instance_id: "here".into(),
            workers: self.workers.clone(),
            looks: Looks::new(self.engine.clone(), Queues::default()),
            executors: handle.clone(),
            runtime: JobRuntime::new(tokio::runtime::Handle::current()),
            completions: self.completions.clone(),
            lease: self.lease.clone(),
        };
        let root = SupervisorSpec::new("root", Strategy::OneForOne)
            .handle(&self.root)
            .intensity(Intensity { max_restarts: 100, period: Duration::from_secs(1) })
            .child(Completer::child(self.engine.clone(), self.completions.clone()))
            .child(DynamicSupervisorSpec::new("executors", 100).into_child(&handle))
            .child(Producer::child(producer));
        self.system.start(root).await.unwrap()
    }
}

async fn insert(engine: &Engine, count: usize, args: serde_json::Value) -> Vec<i64> {
    engine.insert_many(vec![job(args); count]).await.unwrap().iter().map(|one| one.id).collect()
}

/// An executor that takes its attempt with it when it dies.
struct Dies;
struct Dying(#[allow(dead_code, reason = "held until it dies")] Attempt);
#[derive(Debug)]
struct Die;

impl Executable for Dies {
    fn name(&self) -> &str {
        "dies"
    }

    fn begin(&self, attempt: Attempt) -> Execution {
        let address = Address::new("dies", 1);
        let attempt = std::sync::Mutex::new(Some(attempt));
        let child = ChildSpec::actor::<Dying>("dies", &address, move || attempt.lock().unwrap().take());
        Execution::Executor(child.restart(Restart::Temporary))
    }
}

impl Actor for Dying {
    type Msg = Die;
    type Args = Option<Attempt>;

    async fn init(ctx: &Ctx<Die>, attempt: Option<Attempt>) -> Result<Self, ActorError> {
        let attempt = attempt.unwrap();
        if attempt.job().args["when"] == "init" {
            return Err(ActorError::msg("not today"));
        }
        ctx.address().cast(Die).unwrap();
        Ok(Self(attempt))
    }

    async fn handle(&mut self, _: &Ctx<Die>, _: Die) -> Result<Flow, ActorError> {
        panic!("an executor that is broken")
    }

    fn message_kind(_: &Die) -> &'static str {
        "die"
    }
}

#[tokio::test]
async fn an_executor_that_dies_fails_its_job_and_no_other() {
    let (_db, engine) = engine().await;
    let fixture = Fixture::new();
    let mut workers = workers(&fixture);
    workers.register_executable(Dies);
    let parts = Parts::new(&engine, workers, 5);
    let running = parts.start().await;
    let neighbour = insert(&engine, 1, json!({"do": "hold"})).await[0];
    fixture.started(neighbour).await;
    for when in ["init", "later"] {
        let id = engine.insert(NewJob::new("dies", json!({"when": when}))).await.unwrap().id;
        let job = reaches(&engine, id, State::Retryable).await;
        let text = job.errors[0]["error"].as_str().unwrap();
        assert!(text.starts_with("** (ExecutorExit)"), "{text}");
    }
    until("free slots", || async { (parts.queue.running() == 1).then_some(()) }).await;
    fixture.release(neighbour);
    reaches(&engine, neighbour, State::Completed).await;
    assert_eq!(restarts(&parts.system.snapshot()), 0);
    running.stop().await;
}

#[tokio::test]
async fn jobs_of_a_killed_tree_do_not_stay_executing() {
    let (_db, engine) = engine().await;
    let fixture = Fixture::new();
    let parts = Parts::new(&engine, workers(&fixture), 5);
    let running = parts.start().await;
    let ids = insert(&engine, 3, json!({"do": "hang"})).await;
    fixture.until("three runs", |seen| seen.running == 3).await;
    // Younger ones, which have no executor yet, are handed back.
    until("three executors", || async {
        (parts.system.snapshot().find("/executors")?.children.len() == 3).then_some(())
    })
    .await;
    running.kill().await;
    fixture.until("their end", |seen| seen.dropped.len() == 3).await;
    drop(running);
    // What they came to waits for the next completer.
    assert_eq!(parts.completions.len(), 3);
    let again = parts.start().await;
    for id in ids {
        let job = reaches(&engine, id, State::Retryable).await;
        assert!(job.errors[0]["error"].as_str().unwrap().starts_with("** (ExecutorExit)"));
    }
    until("free slots", || async { (parts.queue.running() == 0).then_some(()) }).await;
    again.stop().await;
}

#[tokio::test]
async fn a_supervisor_of_executors_that_is_stopped_hands_its_jobs_back() {
    let (_db, engine) = engine().await;
    let fixture = Fixture::new();
    let parts = Parts::new(&engine, workers(&fixture), 2);
    let running = parts.start().await;
    let ids = insert(&engine, 3, json!({"do": "heed"})).await;
    fixture.until("two runs", |seen| seen.running == 2).await;
    parts.root.terminate_child("executors").await.unwrap();
    fixture.until("their end", |seen| seen.running == 0).await;
    // Meanwhile nobody executes: claimed jobs are handed back, and none is failed.
    parts.root.restart_child("executors").await.unwrap();
    fixture.until("two runs again", |seen| seen.running == 2).await;
    for id in ids {
        let job = engine.get(id).await.unwrap().unwrap();
        assert!(job.errors.is_empty() && job.attempt <= 1, "{job:?}");
    }
    assert!(fixture.seen().peak <= 2);
    running.stop().await;
}

#[tokio::test]
async fn a_producer_that_was_restarted_knows_what_runs_and_keeps_to_the_limit() {
    let (_db, engine) = engine().await;
    let fixture = Fixture::new();
    let parts = Parts::new(&engine, workers(&fixture), 3);
    let running = parts.start().await;
    let ids = insert(&engine, 12, json!({"do": "hold"})).await;
    for (number, id) in ids.iter().enumerate() {
        let wanted = (number + 3).min(12);
        fixture.until("three at once", |seen| seen.started.len() == wanted).await;
        parts.root.terminate_child("default").await.unwrap();
        parts.root.restart_child("default").await.unwrap();
        fixture.release(*id);
        reaches(&engine, *id, State::Completed).await;
    }
    let seen = fixture.seen();
    assert_eq!((seen.peak, seen.started.len(), seen.dropped.len()), (3, 12, 0), "each once, never more than three");
    running.stop().await;
}

#[tokio::test]
async fn a_claim_whose_producer_died_with_the_reply_runs_in_the_end() {
    let (_db, engine) = engine().await;
    let fixture = Fixture::new();
    let parts = Parts::new(&engine, workers(&fixture), 3);
    let lost = insert(&engine, 2, json!({"do": "ok"})).await;
    // Claimed in the name of this producer, by an incarnation that is gone.
    let names = parts.workers.names();
    let claim = singularity::queue::engine::Claim {
        queue: "default",
        instance_id: "here",
        producer: parts.queue.producer(),
        workers: &names,
        demand: 3,
    };
    assert_eq!(engine.claim(&claim).await.unwrap().len(), 2);
    let running = parts.start().await;
    for id in lost {
        assert_eq!(reaches(&engine, id, State::Completed).await.attempt, 1);
    }
    running.stop().await;
}

#[tokio::test]
async fn a_completer_that_was_away_loses_no_result() {
    let (_db, engine) = engine().await;
    let fixture = Fixture::new();
    // With a smaller limit the producer stores what succeeds.
    let parts = Parts::new(&engine, workers(&fixture), 50);
    let running = parts.start().await;
    let ids = insert(&engine, 52, json!({"do": "hold"})).await;
    fixture.until("fifty runs", |seen| seen.running == 50).await;
    parts.root.terminate_child("completer").await.unwrap();
    fixture.release_all();
    fixture.until("fifty ends", |seen| seen.finished.len() == 50).await;
    until("fifty results", || async { (parts.completions.len() == 50).then_some(()) }).await;
    assert_eq!(
        (parts.queue.running(), fixture.seen().started.len()),
        (50, 50),
        "a slot is busy until its result is stored"
    );
    parts.root.restart_child("completer").await.unwrap();
    for id in ids {
        assert_eq!(reaches(&engine, id, State::Completed).await.attempt, 1);
    }
    assert!(parts.completions.is_empty());
    running.stop().await;
}

#[tokio::test]
async fn results_are_stored_while_the_producer_is_away_that_would_store_them() {
    let (_db, engine) = engine().await;
    let fixture = Fixture::new();
    let parts = Parts::new(&engine, workers(&fixture), 3);
    let running = parts.start().await;
    let ids = insert(&engine, 4, json!({"do": "hold"})).await;
    fixture.until("three runs", |seen| seen.running == 3).await;
    parts.root.terminate_child("default").await.unwrap();
    fixture.release_all();
    for id in &ids[..3] {
        reaches(&engine, *id, State::Completed).await;
    }
    until("free slots", || async { (parts.queue.running() == 0).then_some(()) }).await;
    parts.root.restart_child("default").await.unwrap();
    reaches(&engine, ids[3], State::Completed).await;
    assert_eq!((fixture.seen().started.len(), parts.completions.len()), (4, 0));
    running.stop().await;
}

/// A trigger or a unique index of somebody else may refuse one row for ever.
#[tokio::test]
async fn a_result_that_the_database_refuses_holds_up_no_other() {
    let (db, engine) = engine().await;
    db.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF NEW.state = 'completed' AND NEW.args ? 'refused' THEN RAISE 'not this one'; END IF;
           RETURN NEW;
         END $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON oban_jobs FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .await;
    let fixture = Fixture::new();
    let parts = Parts::new(&engine, workers(&fixture), 2);
    let running = parts.start().await;
    let refused = insert(&engine, 1, json!({"do": "ok", "refused": true})).await[0];
    for id in insert(&engine, 5, json!({"do": "ok"})).await {
        reaches(&engine, id, State::Completed).await;
    }
    assert_eq!(fixture.starts_of(refused), 1, "it keeps its slot, and is not run again");
    db.execute("DROP TRIGGER refuse ON oban_jobs").await;
    reaches(&engine, refused, State::Completed).await;
    assert_eq!(fixture.starts_of(refused), 1);
    running.stop().await;
}

#[tokio::test]
async fn without_a_lease_nothing_is_claimed() {
    let (_db, engine) = engine().await;
    let fixture = Fixture::new();
    let parts = Parts { lease: Lease::new(Duration::from_secs(600)), ..Parts::new(&engine, workers(&fixture), 2) };
    let running = parts.start().await;
    let id = insert(&engine, 1, json!({"do": "ok"})).await[0];
    parts.queue.poke();
    until("a look", || async {
        let tree = parts.system.snapshot();
        let producer = tree.find("/default").unwrap();
        producer.mailbox.as_ref().is_some_and(|mailbox| mailbox.processed >= 3).then_some(())
    })
    .await;
    assert_eq!(engine.get(id).await.unwrap().unwrap().attempt, 0);
    parts.lease.renew(Moment::now());
    reaches(&engine, id, State::Completed).await;
    running.stop().await;
}

/// A process that stood still, or a reply that took long: others may have the jobs by then.
#[tokio::test]
async fn a_claim_whose_reply_came_after_the_lease_had_run_out_is_handed_back_and_runs_later() {
    let (_db, engine) = engine().await;
    let (lease, long_ago) = (Lease::new(Duration::from_secs(1)), Moment::now());
    lease.renew(long_ago);
    until("the end of a lease", || async { (!lease.is_held()).then_some(()) }).await;
    // Repeated where this machine stood still for so long that the claim gave up its wait.
    loop {
        let fixture = Fixture::new();
        // It looks when it is told to: once for lost claims, before the lock is taken.
        let queue = Queue { limit: 2, poll_interval: Period::from_secs(600), ..Queue::default() };
        let queue = Arc::new(QueueState::new("default", queue));
        let parts = Parts { queue, lease: lease.clone(), ..Parts::new(&engine, workers(&fixture), 2) };
        let running = parts.start().await;
        let completed = async |ids: &[i64]| {
            until("jobs completed under a lease", || {
                lease.renew(Moment::now());
                parts.queue.poke();
                async {
                    let jobs = engine.get_many(ids).await.unwrap();
                    jobs.iter().all(|job| job.state == State::Completed).then_some(jobs)
                }
            })
            .await
        };
        completed(&insert(&engine, 1, json!({"do": "ok"})).await).await;
        parts.queue.set_paused(true);
        let ids = insert(&engine, 2, json!({"do": "ok"})).await;
        // Every statement on jobs waits for this lock.
        let mut lock = engine.db().pool().begin().await.unwrap();
        sqlx::query("LOCK TABLE oban_jobs").execute(&mut *lock).await.unwrap();
        parts.queue.set_paused(false);
        let claims = || waits_for_a_lock(engine.db(), "WITH chosen%");
        until("a claim that waits", || {
            lease.renew(Moment::now());
            parts.queue.poke();
            async { claims().await.then_some(()) }
        })
        .await;
        lease.renew(long_ago);
        assert!(!lease.is_held());
        lock.commit().await.unwrap();
        until("the end of the claim", || async {
            let is_idle = parts.system.snapshot().find("/default")?.current_message.is_none();
            (!claims().await && is_idle).then_some(())
        })
        .await;
        let jobs = until("both handed back", || async {
            let jobs = engine.get_many(&ids).await.unwrap();
            jobs.iter().all(|job| job.state != State::Executing).then_some(jobs)
        })
        .await;
        assert!(jobs.iter().all(|job| job.state == State::Available && job.attempt == 0), "{jobs:?}");
        assert_eq!(fixture.seen().started.len(), 1, "only what was claimed before");
        if jobs.iter().any(|job| job.attempted_at.is_none()) {
            running.stop().await;
            sqlx::query("DELETE FROM oban_jobs").execute(engine.db().pool()).await.unwrap();
            continue;
        }
        assert!(completed(&ids).await.iter().all(|job| job.attempt == 1));
        running.stop().await;
        return;
    }
}

#[tokio::test]
async fn a_second_root_of_a_node_that_is_up_is_refused_its_name() {
    let db = TestDb::new().await;
    let fixture = Fixture::new();
    let node = crate::support::node::TestNode::start(db.url(), "one", &fixture, |_| {}).await;
    let again = crate::support::node::TestNode::try_start(db.url(), "one", workers(&fixture), |_| {}).await;
    let error = again.err().unwrap();
    assert_eq!(singularity::error::Coded::code(&error), "E0702", "{error}");
    node.shutdown().await;
    let node = crate::support::node::TestNode::start(db.url(), "one", &fixture, |_| {}).await;
    node.shutdown().await;
}
