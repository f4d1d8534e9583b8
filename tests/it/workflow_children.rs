//! Jobs that a workflow enqueues and waits for: who wakes it, what it is given, and who is cancelled with it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use singularity::queue::engine::Changed;
use singularity::queue::{Engine, Job, NewJob, State};
use singularity::workflow::{
    CHILDREN_POLL, ChildJob, Children, Definition, Plan, StepError, Store, Wait, Workflow, WorkflowWorker,
};

use crate::support::db::TestDb;
use crate::support::node::{FIXTURE, Fixture, TestNode, reaches, until};
use crate::support::rows::{engine, set_columns};

#[derive(Serialize, Deserialize)]
struct Given {
    /// Arguments of the fixture's jobs.
    jobs: Vec<Value>,
}

struct Bench {
    db: TestDb,
    engine: Engine,
    store: Store,
    fixture: Fixture,
}

impl Bench {
    async fn new() -> Self {
        let (db, engine) = engine().await;
        let store = Store::new(engine.db().clone());
        Self { db, engine, store, fixture: Fixture::new() }
    }

    async fn node(&self, name: &str, definitions: Vec<Definition>, limit: u32) -> TestNode {
        let mut workers = crate::support::node::workers(&self.fixture);
        for definition in definitions {
            workers.register_executable(WorkflowWorker::new(definition, self.store.clone()));
        }
        TestNode::try_start(self.db.url(), name, workers, |config| {
            config.queues.get_mut("default").unwrap().limit = limit;
            config.runtime.shutdown_grace = singularity::config::Period::from_millis(0);
        })
        .await
        .unwrap()
    }

    async fn insert(&self, worker: &str, jobs: &[Value]) -> i64 {
        self.engine.insert(NewJob::new(worker, json!({ "jobs": jobs }))).await.unwrap().id
    }

    async fn reaches(&self, id: i64, state: State) -> Job {
        reaches(&self.engine, id, state).await
    }

    /// Jobs of the children of a job, in the order of their keys.
    async fn children(&self, id: i64) -> Vec<i64> {
        sqlx::query_scalar("SELECT job_id FROM job_children WHERE parent_id = $1 ORDER BY key")
            .bind(id)
            .fetch_all(self.engine.db().pool())
            .await
            .unwrap()
    }

    /// Waits until a job waits for so many children.
    async fn waits(&self, id: i64, count: usize) -> Vec<i64> {
        until("the wait for children", || async {
            let children = self.children(id).await;
            let state = self.engine.get(id).await.unwrap().unwrap().state;
            (state == State::Scheduled && children.len() == count).then_some(children)
        })
        .await
    }

    async fn result(&self, id: i64) -> Value {
        self.store.results(&[id]).await.unwrap()[0].result.clone().unwrap()
    }
}

/// Enqueues a job for each element and lists what they came to.
fn parent() -> Definition {
    Workflow::<Given>::builder("parent")
        .step("read", |given: Given, _| async move { Ok(given.jobs) })
        .jobs("work", |jobs: Vec<Value>| Ok(jobs.into_iter().map(|args| NewJob::new(FIXTURE, args)).collect()))
        .step("list", |children: Vec<singularity::workflow::Child>, _| async move {
            children.iter().map(|child| child.output::<Value>()).collect::<Result<Vec<_>, _>>()
        })
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_parent_waits_without_a_slot_and_is_woken_by_the_end_of_its_last_child() {
    let bench = Bench::new().await;
    // One slot: a parent that held it would wait for ever.
    let node = bench.node("one", vec![parent()], 1).await;
    let started = std::time::Instant::now();
    let jobs: Vec<Value> = (0..20).map(|n| json!({"do": "record", "value": n})).collect();
    let id = bench.insert("parent", &jobs).await;
    let job = bench.reaches(id, State::Completed).await;
    assert_eq!(bench.result(id).await, json!((0..20).collect::<Vec<u32>>()));
    assert!(started.elapsed() < CHILDREN_POLL, "it was woken and did not find out by looking");
    assert_eq!((job.attempt, job.errors.len(), bench.fixture.seen().started.len()), (1, 0, 20));
    // Children name their parent and its run.
    let run = bench.store.run(id).await.unwrap().unwrap();
    for child in bench.children(id).await {
        let child = bench.engine.get(child).await.unwrap().unwrap();
        assert_eq!((&child.meta["parent_job"], &child.meta["parent_run"]), (&json!(id), &json!(run.id)));
    }
    // Nothing waits any more.
    let waits: i64 =
        sqlx::query_scalar("SELECT count(*) FROM job_waits").fetch_one(bench.engine.db().pool()).await.unwrap();
    assert_eq!(waits, 0);
    let none = bench.insert("parent", &[]).await;
    bench.reaches(none, State::Completed).await;
    assert_eq!(bench.result(none).await, json!([]));
    node.shutdown().await;
}

#[tokio::test]
async fn a_parent_that_nobody_wakes_looks_by_itself() {
    let bench = Bench::new().await;
    let node = bench.node("one", vec![parent()], 5).await;
    let id = bench.insert("parent", &[json!({"do": "hold"})]).await;
    let children = bench.waits(id, 1).await;
    let job = bench.engine.get(id).await.unwrap().unwrap();
    let wait = job.scheduled_at - job.attempted_at.unwrap();
    assert!((14..=17).contains(&wait.num_seconds()), "{wait}");
    assert_eq!(bench.store.run(id).await.unwrap().unwrap().state, "waiting");
    // As an Oban node ends a job: no word to the parent.
    sqlx::query("DELETE FROM job_waits").execute(bench.engine.db().pool()).await.unwrap();
    bench.fixture.release(children[0]);
    bench.reaches(children[0], State::Completed).await;
    assert_eq!(bench.engine.get(id).await.unwrap().unwrap().state, State::Scheduled);
    // The time of its look comes.
    set_columns(&bench.engine, id, "scheduled_at = timezone('UTC', now())").await;
    bench.reaches(id, State::Completed).await;
    node.shutdown().await;
}

#[tokio::test]
async fn a_child_that_fails_for_good_wakes_its_parent_which_is_told_why() {
    let bench = Bench::new().await;
    let node = bench.node("one", vec![parent()], 5).await;
    let id = bench.insert("parent", &[json!({"do": "discard"}), json!({"do": "ok"})]).await;
    let job = bench.reaches(id, State::Discarded).await;
    let children = bench.children(id).await;
    let error = job.errors[0]["error"].as_str().unwrap();
    let wanted = format!("** (E0625) child \"000000\", job {}, was discarded: ** (Fixture) hopeless", children[0]);
    assert_eq!(error, wanted);
    node.shutdown().await;
}

/// Four jobs of which two wait for the first and the last for those two.
fn diamond() -> Definition {
    let after: BTreeMap<&str, Vec<&str>> =
        [("a", vec![]), ("b", vec!["a"]), ("c", vec!["a"]), ("d", vec!["b", "c"])].into();
    Workflow::<Given>::builder("diamond")
        .children("work", move |_: Given, children: Children, _| {
            let done = |key: &str| children.get(key).is_some_and(|child| child.has_completed());
            let plan = if done("d") {
                Plan::Done(children.all.keys().cloned().collect::<Vec<String>>())
            } else {
                let ready = after.iter().filter(|(_, before)| before.iter().all(|key| done(key)));
                let job = |key: &&str| NewJob::new(FIXTURE, json!({"do": "hold", "key": key}));
                let enqueue = ready.map(|(key, _)| ChildJob { key: (*key).to_owned(), job: job(key) }).collect();
                Plan::Wait { enqueue, until: Wait::Any }
            };
            std::future::ready(Ok::<_, StepError>(plan))
        })
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_plan_enqueues_further_children_when_those_before_have_ended() {
    let bench = Bench::new().await;
    let node = bench.node("one", vec![diamond()], 5).await;
    let id = bench.insert("diamond", &[]).await;
    let started = std::time::Instant::now();
    let [a] = bench.waits(id, 1).await[..] else { panic!("one child") };
    bench.fixture.release(a);
    // Both run at the same time.
    let [_, b, c] = bench.waits(id, 3).await[..] else { panic!("three children") };
    bench.fixture.started(b).await;
    bench.fixture.started(c).await;
    bench.fixture.release(c);
    bench.reaches(c, State::Completed).await;
    bench.waits(id, 3).await;
    bench.fixture.release(b);
    let [_, _, _, d] = bench.waits(id, 4).await[..] else { panic!("four children") };
    bench.fixture.release(d);
    bench.reaches(id, State::Completed).await;
    assert!(started.elapsed() < CHILDREN_POLL);
    assert_eq!(bench.result(id).await, json!(["a", "b", "c", "d"]));
    assert_eq!(bench.fixture.seen().started.len(), 4, "each once");
    node.shutdown().await;
}

/// Two levels: a parent of parents.
fn grandparent() -> Definition {
    Workflow::<Given>::builder("grandparent")
        .jobs("parents", |given: Given| Ok(vec![NewJob::new("parent", json!({ "jobs": given.jobs })); 2]))
        .step("done", |children: Vec<singularity::workflow::Child>, _| async move {
            children.iter().map(|child| child.output::<Value>()).collect::<Result<Vec<_>, _>>()
        })
        .build()
        .unwrap()
}

#[tokio::test]
async fn who_cancels_a_parent_cancels_its_children_on_whatever_instance_and_a_retry_sets_them_going_again() {
    let bench = Bench::new().await;
    let node = bench.node("one", vec![parent(), grandparent()], 3).await;
    let other = bench.node("two", vec![parent(), grandparent()], 3).await;
    let id = bench.insert("grandparent", &[json!({"do": "hold"}), json!({"do": "hold"})]).await;
    let parents = bench.waits(id, 2).await;
    let mut leaves = Vec::new();
    for parent in &parents {
        leaves.extend(bench.waits(*parent, 2).await);
    }
    for leaf in &leaves {
        bench.fixture.started(*leaf).await;
    }
    assert_eq!(bench.engine.cancel(id).await.unwrap(), Changed::Yes(State::Scheduled));
    for child in parents.iter().chain(&leaves) {
        assert_eq!(bench.engine.get(*child).await.unwrap().unwrap().state, State::Cancelled, "{child}");
    }
    // Their code ends, wherever it runs.
    for leaf in &leaves {
        bench.fixture.ended(*leaf).await;
    }
    // All go on where they were: nobody enqueues anything a second time.
    bench.engine.retry(id).await.unwrap();
    bench.fixture.release_all();
    bench.reaches(id, State::Completed).await;
    assert_eq!(bench.children(id).await, parents);
    assert_eq!(bench.result(id).await, json!([[null, null], [null, null]]));
    node.shutdown().await;
    other.shutdown().await;
}

#[tokio::test]
async fn children_whose_parent_was_cancelled_by_others_are_found_and_cancelled() {
    let bench = Bench::new().await;
    let node = bench.node("one", vec![parent()], 5).await;
    let id = bench.insert("parent", &[json!({"do": "hold"})]).await;
    let children = bench.waits(id, 1).await;
    bench.fixture.started(children[0]).await;
    // As Oban for Elixir does it.
    set_columns(&bench.engine, id, "state = 'cancelled', cancelled_at = timezone('UTC', now())").await;
    bench.reaches(children[0], State::Cancelled).await;
    bench.fixture.ended(children[0]).await;
    node.shutdown().await;
}

#[tokio::test]
async fn a_plan_that_makes_no_sense_is_refused_with_its_reason() {
    let bench = Bench::new().await;
    let strange = |worker, enqueue: Vec<ChildJob>| {
        Workflow::<Given>::builder(worker)
            .children("work", move |_: Given, _, _| {
                std::future::ready(Ok::<Plan<()>, StepError>(Plan::Wait { enqueue: enqueue.clone(), until: Wait::All }))
            })
            .build()
            .unwrap()
    };
    let child = |key: &str| ChildJob { key: key.into(), job: NewJob::new(FIXTURE, json!({})) };
    let unique = ChildJob {
        key: "a".into(),
        job: NewJob { unique: Some(singularity::queue::Unique::forever()), ..child("a").job },
    };
    let cases = [
        ("nothing", vec![], "it waits for All and enqueues nothing, but no child is under way"),
        ("twice", vec![child("a"), child("a")], "key \"a\" stands twice"),
        ("unnamed", vec![child("")], "key \"\" has 0 characters; 1 to 255 are allowed"),
        ("unique", vec![unique], "child \"a\" is a unique job"),
        (
            "wrong",
            vec![ChildJob { key: "a".into(), job: child("a").job.queue("") }],
            "child \"a\": E0401: queue is \"\"",
        ),
        ("many", (0..1_001).map(|n| child(&n.to_string())).collect(), "it has 1001 children; at most 1000 are allowed"),
    ];
    let definitions = cases.iter().map(|(worker, enqueue, _)| strange(worker, enqueue.clone())).collect();
    let node = bench.node("one", definitions, 5).await;
    for (worker, _, wanted) in cases {
        let id = bench.insert(worker, &[]).await;
        let job = bench.reaches(id, State::Discarded).await;
        let error = job.errors[0]["error"].as_str().unwrap();
        assert!(error.starts_with("** (E0626) the plan of step work: ") && error.contains(wanted), "{error}");
        assert_eq!(bench.children(id).await, [0; 0], "nothing is enqueued");
    }
    assert_eq!(bench.fixture.seen().started, []);
    node.shutdown().await;
}
