//! Workflows: checkpoints in order, attempts that die after every step, and writes that come too late.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use singularity::queue::{Engine, NewJob, Outcome, State, Workers};
use singularity::workflow::{
    Checkpoint, Definition, Effect, JobResult, Owner, Step, StepContext, StepError, StepOutput, Store, Work,
    WorkflowWorker,
};
use uuid::Uuid;

use crate::support::db::{TestDb, waits_for_a_lock};
use crate::support::node::{TestNode, until};
use crate::support::rows::{engine, set_columns};

const NAMES: [&str; 4] = ["read", "call", "think", "write"];
const EFFECTS: [Effect; 4] = [Effect::Pure, Effect::External, Effect::Pure, Effect::External];

/// What happens to the job when it comes to this step; the key is a job's `args.plan`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The step fails.
    Fails,
    /// Its code panics.
    Panics,
    /// It does not end until the attempt is stopped there.
    Hangs,
    /// It gives up for good.
    GivesUp,
}

/// Counts which steps ran and decides what happens to them.
#[derive(Clone, Default)]
struct Plan(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    /// Job and step, in order.
    runs: Vec<(i64, usize)>,
    fates: BTreeMap<usize, Fate>,
    keys: Vec<(i64, usize, String)>,
}

impl Plan {
    fn runs(&self, id: i64) -> Vec<usize> {
        self.0.lock().unwrap().runs.iter().filter(|(job, _)| *job == id).map(|(_, step)| *step).collect()
    }

    /// The next time that this step runs, this happens.
    fn at(&self, step: usize, fate: Fate) {
        self.0.lock().unwrap().fates.insert(step, fate);
    }

    async fn run(self, position: usize, context: StepContext) -> Result<StepOutput, StepError> {
        let id = context.job.id;
        assert_eq!(context.outputs.len(), position, "what the steps before came to");
        for (step, output) in context.outputs.iter().enumerate() {
            assert_eq!(output["step"], NAMES[step]);
        }
        let fate = {
            let mut seen = self.0.lock().unwrap();
            seen.runs.push((id, position));
            seen.keys.push((id, position, context.idempotency_key.clone()));
            seen.fates.remove(&position)
        };
        let result = |success| Box::new(JobResult { success, cost_nanousd: Some(5), ..JobResult::default() });
        match fate {
            Some(Fate::Panics) => panic!("step {position} panics"),
            Some(Fate::Hangs) => {
                context.cancelled.cancelled().await;
                Err(StepError { outcome: Outcome::Failed { error: "stopped".into(), retry_in: None }, result: None })
            }
            Some(Fate::Fails) => Err(StepError {
                outcome: Outcome::Failed { error: format!("step {position}"), retry_in: Some(Duration::ZERO) },
                result: Some(result(false)),
            }),
            Some(Fate::GivesUp) => {
                Err(StepError { outcome: Outcome::Cancelled("enough".into()), result: Some(result(false)) })
            }
            None => Ok(StepOutput {
                value: json!({"step": NAMES[position], "attempt": context.job.attempt}),
                result: (position == 3).then(|| result(true)),
                ..StepOutput::default()
            }),
        }
    }

    fn definition(&self, version: u32) -> Definition {
        let steps = (0..4)
            .map(|position| {
                let plan = self.clone();
                let work = Work::code(move |context| plan.clone().run(position, context));
                Step::new(NAMES[position], EFFECTS[position], work)
            })
            .collect();
        Definition { worker: "planned", name: "Planned", version, timeout: Duration::from_secs(60), steps }
    }
}

struct Bench {
    db: TestDb,
    engine: Engine,
    store: Store,
    plan: Plan,
}

impl Bench {
    async fn new() -> Self {
        let (db, engine) = engine().await;
        let store = Store::new(engine.db().clone());
        Self { db, engine, store, plan: Plan::default() }
    }

    async fn node(&self, name: &str, version: u32) -> TestNode {
        let mut workers = Workers::default();
        workers.register_executable(WorkflowWorker::new(self.plan.definition(version), self.store.clone()));
        TestNode::try_start(self.db.url(), name, workers, |config| {
            config.runtime.shutdown_grace = singularity::config::Period::from_millis(0);
        })
        .await
        .unwrap()
    }

    async fn insert(&self) -> i64 {
        self.engine.insert(NewJob::new("planned", json!({"n": 1}))).await.unwrap().id
    }

    async fn reaches(&self, id: i64, state: State) -> singularity::queue::Job {
        crate::support::node::reaches(&self.engine, id, state).await
    }

    /// Names of the stored steps and the attempt that stored each.
    async fn stored(&self, id: i64) -> Vec<(String, i32)> {
        let run = self.store.run(id).await.unwrap();
        run.into_iter().flat_map(|run| run.steps).map(|step| (step.step, step.attempt)).collect()
    }

    async fn results(&self, id: i64) -> Vec<(bool, i32)> {
        sqlx::query_as("SELECT success, attempt FROM job_results WHERE job_id = $1 ORDER BY id")
            .bind(id)
            .fetch_all(self.engine.db().pool())
            .await
            .unwrap()
    }
}

fn names(stored: &[(String, i32)]) -> Vec<&str> {
    stored.iter().map(|(name, _)| name.as_str()).collect()
}

#[tokio::test]
async fn every_step_leaves_a_checkpoint_in_order_and_the_last_one_the_result() {
    let bench = Bench::new().await;
    let node = bench.node("one", 1).await;
    let id = bench.insert().await;
    bench.reaches(id, State::Completed).await;
    assert_eq!(bench.plan.runs(id), [0, 1, 2, 3]);
    let run = bench.store.run(id).await.unwrap().unwrap();
    assert_eq!((run.workflow.as_str(), run.state.as_str(), run.instance_id.as_str()), ("planned", "completed", "one"));
    assert!(run.finished_at >= Some(run.started_at));
    for (position, step) in run.steps.iter().enumerate() {
        assert_eq!((step.position as usize, step.step.as_str(), step.attempt), (position, NAMES[position], 1));
        assert_eq!(step.output, json!({"step": NAMES[position], "attempt": 1}));
    }
    assert_eq!((run.steps.len(), bench.results(id).await), (4, vec![(true, 1)]));
    let result = &bench.store.results(&[id]).await.unwrap()[0];
    assert_eq!((result.success, result.cost_nanousd, result.instance_id.as_str()), (true, Some(5), "one"));
    // The key of a call is its own and does not change from attempt to attempt.
    let keys = bench.plan.0.lock().unwrap().keys.clone();
    assert_eq!(keys[1].2, format!("{}-1", run.id));
    // A person retries what is done: the stored answer stands, and nothing runs.
    bench.engine.retry(id).await.unwrap();
    until("completed again", || async {
        let job = bench.engine.get(id).await.unwrap().unwrap();
        (job.state == State::Completed && job.attempt == 2).then_some(())
    })
    .await;
    assert_eq!((bench.plan.runs(id).len(), bench.results(id).await), (4, vec![(true, 1)]));
    node.shutdown().await;
}

/// Which steps are stored before this one begins: all of them if it reaches out, else up to the last that did.
fn stored_before(step: usize) -> usize {
    if EFFECTS[step] == Effect::External {
        return step;
    }
    (0..step).rev().find(|earlier| EFFECTS[*earlier] == Effect::External).map_or(0, |earlier| earlier + 1)
}

#[tokio::test]
async fn an_attempt_that_dies_at_any_step_is_continued_and_no_stored_step_runs_again() {
    let bench = Bench::new().await;
    let mut node = bench.node("one", 1).await;
    for fate in [Fate::Fails, Fate::Panics, Fate::Hangs] {
        for step in 0..4 {
            bench.plan.at(step, fate);
            let id = bench.insert().await;
            if fate == Fate::Fails {
                bench.reaches(id, State::Completed).await;
            } else {
                until("the step", || async { bench.plan.runs(id).contains(&step).then_some(()) }).await;
                if fate == Fate::Hangs {
                    // The node stops in the middle, and another one goes on.
                    node.shutdown().await;
                    assert_eq!(bench.stored(id).await.len(), stored_before(step));
                    node = bench.node(["one", "two"][step % 2], 1).await;
                } else {
                    bench.reaches(id, State::Retryable).await;
                    assert_eq!(bench.stored(id).await.len(), stored_before(step));
                    bench.engine.retry(id).await.unwrap();
                }
                bench.reaches(id, State::Completed).await;
            }
            let resumed = stored_before(step);
            let wanted: Vec<usize> = (0..=step).chain(resumed..4).collect();
            assert_eq!(bench.plan.runs(id), wanted, "{fate:?} at step {step}");
            let stored = bench.stored(id).await;
            assert_eq!(names(&stored), NAMES);
            // A handed back attempt was not spent, so its number is used again.
            let second = if fate == Fate::Hangs { 1 } else { 2 };
            for (position, (name, attempt)) in stored.iter().enumerate() {
                assert_eq!(*attempt, if position < resumed { 1 } else { second }, "{fate:?} at {step}: {name}");
            }
            let mut results = vec![(true, second)];
            if fate != Fate::Hangs {
                results.insert(0, (false, 1));
            }
            assert_eq!(bench.results(id).await, results, "{fate:?} at step {step}");
        }
    }
}

#[tokio::test]
async fn failures_are_one_row_an_attempt_and_the_run_says_so_until_it_goes_on() {
    let bench = Bench::new().await;
    let node = bench.node("one", 1).await;
    bench.plan.at(1, Fate::GivesUp);
    let id = bench.insert().await;
    bench.reaches(id, State::Cancelled).await;
    let run = bench.store.run(id).await.unwrap().unwrap();
    assert_eq!((run.state.as_str(), run.finished_at.is_some()), ("failed", true));
    for attempt in [2, 3] {
        bench.plan.at(1, Fate::GivesUp);
        bench.engine.retry(id).await.unwrap();
        until("another failure", || async { (bench.results(id).await.len() == attempt).then_some(()) }).await;
        bench.reaches(id, State::Cancelled).await;
    }
    assert_eq!(bench.results(id).await, [(false, 1), (false, 2), (false, 3)]);
    assert_eq!(bench.store.results(&[id]).await.unwrap()[0].attempt, 3, "the last one");
    bench.engine.retry(id).await.unwrap();
    bench.reaches(id, State::Completed).await;
    assert_eq!(bench.results(id).await[3..], [(true, 4)]);
    let stored = bench.store.results(&[id, 999]).await.unwrap();
    assert!(stored.len() == 1 && stored[0].success, "the success counts, not the last failure");
    assert_eq!(bench.store.run(id).await.unwrap().unwrap().state, "completed");
    node.shutdown().await;
}

#[tokio::test]
async fn a_run_is_never_continued_by_other_steps_and_begins_anew_where_nothing_was_stored() {
    let bench = Bench::new().await;
    let node = bench.node("one", 1).await;
    bench.plan.at(0, Fate::GivesUp);
    let unbegun = bench.insert().await;
    bench.reaches(unbegun, State::Cancelled).await;
    // One whose second step failed after the first was stored.
    bench.plan.at(1, Fate::GivesUp);
    let halfway = bench.insert().await;
    bench.reaches(halfway, State::Cancelled).await;
    node.shutdown().await;

    let node = bench.node("one", 2).await;
    bench.engine.retry(halfway).await.unwrap();
    let job = bench.reaches(halfway, State::Discarded).await;
    let text = job.errors[1]["error"].as_str().unwrap();
    assert!(text.starts_with("** (E0620) workflow Planned"), "{text}");
    assert_eq!(bench.plan.runs(halfway), [0, 1]);
    // Begun by version 1 without a checkpoint, continued by version 2, which then fails on the way: it is version 2's
    // run.
    bench.plan.at(1, Fate::Fails);
    bench.engine.retry(unbegun).await.unwrap();
    bench.reaches(unbegun, State::Completed).await;
    assert_eq!(bench.plan.runs(unbegun), [0, 0, 1, 1, 2, 3]);
    node.shutdown().await;
}

#[tokio::test]
async fn a_stale_runners_checkpoint_end_and_failure_change_nothing() {
    let bench = Bench::new().await;
    let definition = bench.plan.definition(1);
    let id = bench.insert().await;
    let producer = Uuid::now_v7();
    let own = format!("state = 'executing', attempt = 2, attempted_by = ARRAY['one', '{producer}']");
    set_columns(&bench.engine, id, &own).await;
    let owner = Owner { job_id: id, attempt: 2, producer: producer.to_string(), instance_id: "one".into() };
    let begun = bench.store.begin(&owner, &definition, &json!({})).await.unwrap().unwrap();
    assert!(begun.outputs.is_empty() && !begun.completed);
    let checkpoint = |position: i32, output: Value| Checkpoint {
        position,
        step: NAMES[position as usize],
        output,
        cost_nanousd: None,
        duration_ms: 1,
    };
    assert!(bench.store.checkpoint(&owner, begun.run_id, &[checkpoint(0, json!(0))]).await.unwrap());
    let result = JobResult { success: true, ..JobResult::default() };
    let failure = JobResult::default();
    let snapshot = async || -> Value {
        sqlx::query_scalar(
            "SELECT jsonb_build_array(
                      (SELECT jsonb_agg(r) FROM workflow_runs r), (SELECT jsonb_agg(s) FROM workflow_steps s),
                                      (SELECT jsonb_agg(r) FROM job_results r),
                                      (SELECT jsonb_agg(j) FROM oban_jobs j))",
        )
        .fetch_one(bench.engine.db().pool())
        .await
        .unwrap()
    };
    let others = format!("attempted_by = ARRAY['two', '{}']", Uuid::now_v7());
    for change in ["attempt = 3", "state = 'cancelled'", "state = 'available'", others.as_str()] {
        set_columns(&bench.engine, id, change).await;
        let before = snapshot().await;
        let late = [checkpoint(1, json!("late"))];
        assert!(!bench.store.checkpoint(&owner, begun.run_id, &late).await.unwrap(), "{change}");
        assert!(!bench.store.finish(&owner, begun.run_id, &definition, &late, Some(&result), 1).await.unwrap());
        bench.store.fail(&owner, &definition, &failure, 1).await.unwrap();
        assert_eq!(bench.store.begin(&owner, &definition, &json!({})).await.unwrap(), None);
        assert_eq!(snapshot().await, before, "{change}");
        set_columns(&bench.engine, id, &own).await;
    }
    // A checkpoint that is stored stays as it is, and the first success too.
    assert!(bench.store.checkpoint(&owner, begun.run_id, &[checkpoint(0, json!("again"))]).await.unwrap());
    for text in ["first", "second"] {
        let result = JobResult { success: true, result: Some(json!(text)), ..JobResult::default() };
        let all = [checkpoint(1, json!(1))];
        assert!(bench.store.finish(&owner, begun.run_id, &definition, &all, Some(&result), 1).await.unwrap());
    }
    let run = bench.store.run(id).await.unwrap().unwrap();
    assert_eq!(run.steps.iter().map(|step| step.output.clone()).collect::<Vec<_>>(), [json!(0), json!(1)]);
    assert_eq!(bench.store.results(&[id]).await.unwrap()[0].result, Some(json!("first")));
    assert_eq!(bench.results(id).await, [(true, 2)]);
    assert!(bench.store.begin(&owner, &definition, &json!({})).await.unwrap().unwrap().completed);
}

/// Promise 2 for checkpoints: whoever takes the job over waits for a write that is under way, or makes it change
/// nothing.
#[tokio::test]
async fn taking_a_job_over_and_a_late_checkpoint_exclude_each_other() {
    let bench = Bench::new().await;
    let definition = bench.plan.definition(1);
    let id = bench.insert().await;
    let producer = Uuid::now_v7();
    set_columns(
        &bench.engine,
        id,
        &format!("state = 'executing', attempt = 1, attempted_by = ARRAY['one', '{producer}']"),
    )
    .await;
    let owner = Owner { job_id: id, attempt: 1, producer: producer.to_string(), instance_id: "one".into() };
    let begun = bench.store.begin(&owner, &definition, &json!({})).await.unwrap().unwrap();
    let mut taking = bench.engine.db().pool().begin().await.unwrap();
    sqlx::query("UPDATE oban_jobs SET state = 'available' WHERE id = $1").bind(id).execute(&mut *taking).await.unwrap();
    let late = [Checkpoint { position: 0, step: "read", output: json!(0), cost_nanousd: None, duration_ms: 1 }];
    let write = bench.store.checkpoint(&owner, begun.run_id, &late);
    tokio::pin!(write);
    let blocked =
        until("a wait for the row", || async { waits_for_a_lock(bench.engine.db(), "%").await.then_some(()) });
    tokio::select! {
        early = &mut write => panic!("did not wait: {early:?}"),
        () = blocked => {}
    }
    taking.commit().await.unwrap();
    assert!(!write.await.unwrap());
    assert!(bench.stored(id).await.is_empty());
}
