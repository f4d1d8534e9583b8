//! Typed workflows: fan-out and fan-in, sub-workflows, tries and limits of steps, older definitions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use singularity::queue::{Engine, Job, NewJob, Outcome, State, Workers};
use singularity::workflow::{Definition, StepContext, StepError, StepRetry, Store, Workflow, WorkflowWorker};

use crate::support::db::TestDb;
use crate::support::node::{TestNode, reaches, until};
use crate::support::rows::engine;

#[derive(Serialize, Deserialize)]
struct Given {
    count: u64,
}

/// What code of steps did, by the label that it gives itself.
#[derive(Clone)]
struct Log(Arc<Shared>);

struct Shared {
    ran: Mutex<BTreeMap<String, usize>>,
    keys: Mutex<BTreeMap<String, Vec<String>>>,
    running: Mutex<(usize, usize)>,
    three: tokio::sync::Barrier,
}

impl Log {
    fn new() -> Self {
        let three = tokio::sync::Barrier::new(3);
        let (ran, keys, running) = Default::default();
        Self(Arc::new(Shared { ran, keys, running, three }))
    }

    fn ran(&self, what: &str) -> usize {
        self.0.ran.lock().unwrap().get(what).copied().unwrap_or_default()
    }

    fn note(&self, what: &str, context: &StepContext) -> usize {
        self.0.keys.lock().unwrap().entry(what.into()).or_default().push(context.idempotency_key.clone());
        let mut ran = self.0.ran.lock().unwrap();
        let times = ran.entry(what.into()).or_default();
        *times += 1;
        *times
    }

    fn enter(&self) {
        let mut running = self.0.running.lock().unwrap();
        running.0 += 1;
        running.1 = running.1.max(running.0);
    }

    fn leave(&self) {
        self.0.running.lock().unwrap().0 -= 1;
    }
}

struct Bench {
    db: TestDb,
    engine: Engine,
    store: Store,
    log: Log,
}

impl Bench {
    async fn new() -> Self {
        let (db, engine) = engine().await;
        let store = Store::new(engine.db().clone());
        Self { db, engine, store, log: Log::new() }
    }

    async fn node(&self, name: &str, definitions: Vec<Definition>) -> TestNode {
        let mut workers = Workers::default();
        let mut definitions = definitions.into_iter();
        let first = WorkflowWorker::new(definitions.next().unwrap(), self.store.clone());
        workers.register_executable(definitions.fold(first, WorkflowWorker::with_older));
        TestNode::try_start(self.db.url(), name, workers, |config| {
            config.runtime.shutdown_grace = singularity::config::Period::from_millis(0);
        })
        .await
        .unwrap()
    }

    async fn insert(&self, args: serde_json::Value) -> i64 {
        self.engine.insert(NewJob::new("typed", args)).await.unwrap().id
    }

    async fn reaches(&self, id: i64, state: State) -> Job {
        reaches(&self.engine, id, state).await
    }

    async fn parts(&self, id: i64) -> Vec<(String, String)> {
        sqlx::query_as(
            "SELECT p.path, p.step FROM workflow_parts p JOIN workflow_runs r ON r.id = p.run_id WHERE r.job_id = $1
             ORDER BY string_to_array(p.path, '.')::int[]",
        )
        .bind(id)
        .fetch_all(self.engine.db().pool())
        .await
        .unwrap()
    }

    async fn result(&self, id: i64) -> serde_json::Value {
        self.store.results(&[id]).await.unwrap()[0].result.clone().unwrap()
    }
}

fn error_of(job: &Job) -> String {
    job.errors.last().unwrap()["error"].as_str().unwrap().to_owned()
}

/// Squares of a list. Element 3 does not end by itself, the first time.
fn squares(log: &Log, parallel: usize) -> Definition {
    let (list, item, sum) = (log.clone(), log.clone(), log.clone());
    Workflow::<Given>::builder("typed")
        .named("Typed")
        .step("list", move |given: Given, context| {
            list.note("list", &context);
            async move { Ok((0..given.count).collect::<Vec<u64>>()) }
        })
        .each("square", move |n: u64, context| {
            let log = item.clone();
            async move {
                log.enter();
                let times = log.note(&format!("square {n}"), &context);
                assert_eq!(context.item, usize::try_from(n).ok());
                // The first three of many wait for each other, so that they must run at the same time.
                if n < 3 && context.outputs[0].as_array().is_some_and(|list| list.len() == 8) {
                    log.0.three.wait().await;
                }
                if n == 3 && times == 1 {
                    context.cancelled.cancelled().await;
                    log.leave();
                    return Err(StepError::msg("stopped"));
                }
                log.leave();
                Ok(n * n)
            }
        })
        .parallel(parallel)
        .step("sum", move |squares: Vec<u64>, context| {
            sum.note("sum", &context);
            async move { Ok(json!({ "sum": squares.iter().sum::<u64>(), "squares": squares })) }
        })
        .build()
        .unwrap()
}

#[tokio::test]
async fn each_element_is_a_checkpoint_of_its_own_and_the_fan_in_has_them_in_order() {
    let bench = Bench::new().await;
    let node = bench.node("one", vec![squares(&bench.log, 3)]).await;
    let id = bench.insert(json!({"count": 8})).await;
    // All but the one that waits are stored, and no more than three ran at the same time.
    until("seven elements", || async { (bench.parts(id).await.len() == 7).then_some(()) }).await;
    assert_eq!(bench.log.0.running.lock().unwrap().1, 3);
    assert_eq!(bench.log.ran("sum"), 0);
    node.shutdown().await;
    assert_eq!(bench.parts(id).await.len(), 7);

    // Another node runs the one that is left, and no other.
    let node = bench.node("two", vec![squares(&bench.log, 3)]).await;
    bench.reaches(id, State::Completed).await;
    for n in 0..8 {
        assert_eq!(bench.log.ran(&format!("square {n}")), if n == 3 { 2 } else { 1 }, "{n}");
    }
    assert_eq!((bench.log.ran("list"), bench.log.ran("sum")), (1, 1));
    let squares: Vec<u64> = (0..8).map(|n| n * n).collect();
    assert_eq!(bench.result(id).await, json!({"sum": 140, "squares": squares}));
    let parts = bench.parts(id).await;
    assert_eq!(parts[3], ("1.3".to_owned(), "square[3]".to_owned()));
    // The call that was repeated had the same key both times, and no other call had it.
    let keys = bench.log.0.keys.lock().unwrap().clone();
    let run = bench.store.run(id).await.unwrap().unwrap();
    assert_eq!(keys["square 3"], vec![format!("{}-1.3", run.id); 2]);
    assert_eq!(keys["list"], [format!("{}-0", run.id)]);
    node.shutdown().await;
}

#[tokio::test]
async fn a_list_that_is_too_long_or_none_is_refused_with_its_reason() {
    let bench = Bench::new().await;
    let node = bench.node("one", vec![squares(&bench.log, 3)]).await;
    let id = bench.insert(json!({"count": 10_001})).await;
    let error = error_of(&bench.reaches(id, State::Discarded).await);
    let wanted =
        "** (E0624) step square is run for each element of a list of at most 10000; it was given a list of 10001";
    assert!(error.starts_with(wanted), "{error}");
    let id = bench.insert(json!({"count": 0})).await;
    bench.reaches(id, State::Completed).await;
    assert_eq!(bench.result(id).await, json!({"sum": 0, "squares": []}));
    // Arguments of another form are a failure that says so, as for any worker.
    let id = bench.insert(json!({"count": "many"})).await;
    let error = error_of(&bench.reaches(id, State::Retryable).await);
    assert!(error.starts_with("** (E0621) what step list is given has another form: invalid type"), "{error}");
    node.shutdown().await;
}

/// A step that fails twice and a fan-out whose elements fail once.
fn trying(log: &Log, retry: StepRetry) -> Definition {
    let (step, item) = (log.clone(), log.clone());
    Workflow::<Given>::builder("typed")
        .call("twice", move |given: Given, context| {
            let times = step.note("twice", &context);
            async move {
                if times <= 2 {
                    return Err(StepError::msg(format!("no {}", context.tries)));
                }
                Ok((0..given.count).collect::<Vec<u64>>())
            }
        })
        .retrying(retry)
        .each("once", move |n: u64, context| {
            let times = item.note(&format!("once {n}"), &context);
            async move { if times == 1 { panic!("element {n}") } else { Ok(n) } }
        })
        .retrying(retry)
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_failed_step_is_tried_again_in_place_or_by_the_job_as_it_says() {
    let bench = Bench::new().await;
    let retry = StepRetry::in_place(3, Duration::from_millis(1));
    let node = bench.node("one", vec![trying(&bench.log, retry)]).await;
    let id = bench.insert(json!({"count": 3})).await;
    let job = bench.reaches(id, State::Completed).await;
    assert_eq!((job.attempt, job.errors.len()), (1, 0), "one attempt was enough");
    assert_eq!((bench.log.ran("twice"), bench.log.ran("once 2")), (3, 2));
    assert_eq!(bench.result(id).await, json!([0, 1, 2]));
    let keys = bench.log.0.keys.lock().unwrap()["twice"].clone();
    assert!(keys.iter().all(|key| *key == keys[0]), "the same call has the same key: {keys:?}");
    node.shutdown().await;

    let bench = Bench::new().await;
    let node = bench.node("one", vec![trying(&bench.log, StepRetry::by_job(Duration::from_secs(3600)))]).await;
    let id = bench.insert(json!({"count": 1})).await;
    let job = bench.reaches(id, State::Retryable).await;
    let waits = |job: &Job| (job.scheduled_at - job.attempted_at.unwrap()).num_minutes();
    assert!((59..=61).contains(&waits(&job)), "{}", waits(&job));
    assert_eq!(error_of(&job), "** (JobError) no 1");
    bench.engine.retry(id).await.unwrap();
    let job = until("the second failure", || async {
        bench.engine.get(id).await.unwrap().filter(|job| job.state == State::Retryable && job.attempt == 2)
    })
    .await;
    assert!((119..=121).contains(&waits(&job)), "{}", waits(&job));
    let run = bench.store.run(id).await.unwrap().unwrap();
    assert_eq!((run.state.as_str(), run.error.as_deref()), ("retrying", Some("** (JobError) no 1")));
    node.shutdown().await;
}

#[tokio::test]
async fn a_step_has_a_limit_of_its_own() {
    let bench = Bench::new().await;
    let log = bench.log.clone();
    let definition = Workflow::<Given>::builder("typed")
        .call("slow", move |_: Given, context| {
            let times = log.note("slow", &context);
            async move {
                if times == 1 {
                    std::future::pending::<()>().await;
                }
                Ok(times)
            }
        })
        .within(Duration::from_millis(50))
        .retrying(StepRetry::by_job(Duration::ZERO))
        .build()
        .unwrap();
    let node = bench.node("one", vec![definition]).await;
    let id = bench.insert(json!({"count": 0})).await;
    let job = bench.reaches(id, State::Completed).await;
    assert_eq!(error_of(&job), "** (E0622) step slow ran for longer than 50 ms");
    assert_eq!((job.attempt, bench.result(id).await), (2, json!(2)));
    node.shutdown().await;
}

/// A workflow in a workflow, once and for each element. `fails` names the code that gives up its first time.
fn nested(log: &Log, fails: &'static str) -> Definition {
    let inner = |log: &Log, prefix: &'static str| {
        let (one, two) = (log.clone(), log.clone());
        let run = move |log: &Log, name: &str, n: u64, context: &StepContext| {
            let name = format!("{prefix}{name} {n}");
            let times = log.note(&name, context);
            if name == fails && times == 1 {
                Err(StepError::new(Outcome::Cancelled("enough".into())))
            } else {
                Ok(n + 1)
            }
        };
        Workflow::<u64>::builder("inner")
            .step("add", move |n: u64, context| std::future::ready(run(&one, "add", n, &context)))
            .call("ask", move |n: u64, context| std::future::ready(run(&two, "ask", n, &context)))
    };
    Workflow::<Given>::builder("typed")
        .step("count", |given: Given, _| async move { Ok(given.count) })
        .sub("once", inner(log, "one "))
        .step("list", |n: u64, _| async move { Ok((0..n).collect::<Vec<u64>>()) })
        .each_sub("all", inner(log, "all "))
        .build()
        .unwrap()
}

#[tokio::test]
async fn steps_of_a_sub_workflow_are_checkpoints_too_and_none_is_repeated() {
    for fails in ["", "one add 1", "one ask 2", "all add 2", "all ask 1"] {
        let bench = Bench::new().await;
        let node = bench.node("one", vec![nested(&bench.log, fails)]).await;
        let id = bench.insert(json!({"count": 1})).await;
        if !fails.is_empty() {
            bench.reaches(id, State::Cancelled).await;
            bench.engine.retry(id).await.unwrap();
        }
        bench.reaches(id, State::Completed).await;
        assert_eq!(bench.result(id).await, json!([2, 3, 4]));
        let labels: Vec<String> =
            bench.parts(id).await.into_iter().map(|(path, step)| format!("{path} {step}")).collect();
        let mut wanted = vec!["1.0 once/add".to_owned(), "1.1 once/ask".to_owned()];
        for n in 0..3 {
            wanted.push(format!("3.{n} all[{n}]"));
            wanted.push(format!("3.{n}.0 all[{n}]/add"));
            wanted.push(format!("3.{n}.1 all[{n}]/ask"));
        }
        assert_eq!(labels, wanted, "{fails}");
        let ran = bench.log.0.ran.lock().unwrap().clone();
        for (name, times) in ran {
            // What only computes and was not stored when the next failed may run again; what reaches out may not.
            let expected = if name == fails { 2 } else { 1 };
            assert_eq!(times, expected, "{name} when {fails} fails");
        }
        node.shutdown().await;
    }
}

/// Two steps of which the second is the version's own.
fn versioned(log: &Log, version: u32) -> Definition {
    let (first, second) = (log.clone(), log.clone());
    Workflow::<Given>::builder("typed")
        .version(version)
        .call("first", move |_: Given, context| {
            first.note(&format!("first of {version}"), &context);
            std::future::ready(Ok(version))
        })
        .call("second", move |begun: u32, context| {
            let times = second.note(&format!("second of {version}"), &context);
            std::future::ready(if version == 1 && times == 1 {
                Err(StepError::new(Outcome::Cancelled("not today".into())))
            } else {
                Ok(vec![begun, version])
            })
        })
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_run_is_finished_by_the_definition_that_began_it_where_that_is_known_and_else_stopped() {
    let bench = Bench::new().await;
    let node = bench.node("one", vec![versioned(&bench.log, 1)]).await;
    let id = bench.insert(json!({"count": 0})).await;
    bench.reaches(id, State::Cancelled).await;
    node.shutdown().await;

    // The new program alone: stopped with a reason, and nothing of the new steps ran.
    let node = bench.node("one", vec![versioned(&bench.log, 2)]).await;
    bench.engine.retry(id).await.unwrap();
    let error = error_of(&bench.reaches(id, State::Discarded).await);
    assert!(error.starts_with("** (E0620) workflow typed was begun with other steps than this program has"), "{error}");
    assert_eq!((bench.log.ran("first of 2"), bench.log.ran("second of 2")), (0, 0));
    node.shutdown().await;

    // The new program that knows the old definition: old runs by the old steps, new ones by the new.
    let node =
        bench.node("one", vec![versioned(&bench.log, 3), versioned(&bench.log, 2), versioned(&bench.log, 1)]).await;
    bench.engine.retry(id).await.unwrap();
    bench.reaches(id, State::Completed).await;
    assert_eq!(bench.result(id).await, json!([1, 1]));
    let new = bench.insert(json!({"count": 0})).await;
    bench.reaches(new, State::Completed).await;
    assert_eq!(bench.result(new).await, json!([3, 3]));
    assert_eq!((bench.log.ran("first of 1"), bench.log.ran("second of 2")), (1, 0));
    node.shutdown().await;
}

#[tokio::test]
async fn runs_that_ended_long_ago_are_pruned_with_their_checkpoints_and_their_results_stay() {
    let bench = Bench::new().await;
    let node = bench.node("one", vec![squares(&bench.log, 3), versioned(&bench.log, 1)]).await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        let id = bench.insert(json!({"count": 2})).await;
        bench.reaches(id, State::Completed).await;
        ids.push(id);
    }
    node.shutdown().await;
    let old = "now() - interval '2 days'";
    let change = async |id: i64, run: &str, job: &str| {
        let sql = format!("UPDATE workflow_runs SET {run} WHERE job_id = {id}; {job}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(bench.engine.db().pool()).await.unwrap();
    };
    let [done, young, retried, given_up, lost, waiting] = ids[..] else { panic!("{ids:?}") };
    let state = |id: i64, state: &str| format!("UPDATE oban_jobs SET state = '{state}' WHERE id = {id}");
    change(done, &format!("finished_at = {old}"), "").await;
    change(young, "finished_at = now()", "").await;
    change(retried, &format!("state = 'failed', finished_at = {old}"), &state(retried, "retryable")).await;
    change(given_up, &format!("state = 'failed', finished_at = {old}"), &state(given_up, "discarded")).await;
    let gone = format!("DELETE FROM oban_jobs WHERE id = {lost}");
    change(lost, &format!("state = 'running', finished_at = NULL, started_at = {old}"), &gone).await;
    let set = format!("state = 'waiting', finished_at = NULL, started_at = {old}");
    change(waiting, &set, &state(waiting, "scheduled")).await;

    assert_eq!(bench.store.prune_runs(Duration::from_secs(3 * 86_400), 10).await.unwrap(), 0);
    assert_eq!(bench.store.prune_runs(Duration::from_secs(86_400), 2).await.unwrap(), 2, "at most the limit");
    assert_eq!(bench.store.prune_runs(Duration::from_secs(86_400), 10).await.unwrap(), 1);
    for (id, is_there) in
        [(done, false), (young, true), (retried, true), (given_up, false), (lost, false), (waiting, true)]
    {
        assert_eq!(bench.store.run(id).await.unwrap().is_some(), is_there, "{id} of {ids:?}");
        assert_eq!(bench.parts(id).await.len(), if is_there { 2 } else { 0 });
    }
    assert_eq!(bench.store.results(&ids).await.unwrap().len(), 6);

    // The leader does it by itself.
    let node = TestNode::try_start(bench.db.url(), "two", Workers::default(), |config| {
        config.services.pruner.runs_max_age =
            singularity::config::PeriodOrOff::on(singularity::config::Period::from_millis(0));
        config.services.pruner.interval = singularity::config::Period::from_millis(20);
    })
    .await
    .unwrap();
    until("pruning", || async { bench.store.run(young).await.unwrap().is_none().then_some(()) }).await;
    assert!(bench.store.run(waiting).await.unwrap().is_some());
    node.shutdown().await;
}
