//! Limits of steps: of their time, with code that does not end when it is over, and of what they come to.

use std::future::Ready;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use singularity::queue::{Engine, NewJob, State, Workers};
use singularity::workflow::{Definition, Step, StepError, StepOutput, StepRetry, Store, Workflow, WorkflowWorker};
use tokio::sync::watch;

use crate::support::db::TestDb;
use crate::support::node::{TestNode, reaches, until};
use crate::support::rows::engine;

async fn node(definition: Definition) -> (TestDb, Engine, TestNode) {
    let (db, engine) = engine().await;
    let mut workers = Workers::default();
    workers.register_executable(WorkflowWorker::new(definition, Store::new(engine.db().clone())));
    let node = TestNode::try_start(db.url(), "one", workers, |_| {}).await.unwrap();
    (db, engine, node)
}

async fn insert(engine: &Engine) -> i64 {
    engine.insert(NewJob::new("limited", json!({}))).await.unwrap().id
}

/// Tries of a step's code: how many began, and how many of them run.
#[derive(Default, Clone, Copy)]
struct Tries {
    begun: usize,
    running: usize,
    peak: usize,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Tries>>);

impl Log {
    fn begin(&self) -> Running {
        let mut tries = self.0.lock().unwrap();
        tries.begun += 1;
        tries.running += 1;
        tries.peak = tries.peak.max(tries.running);
        Running(self.clone())
    }

    fn seen(&self) -> (usize, usize) {
        let tries = *self.0.lock().unwrap();
        (tries.begun, tries.peak)
    }
}

struct Running(Log);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().running -= 1;
    }
}

const LIMIT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn a_step_is_tried_again_when_the_code_of_the_former_try_has_ended() {
    let log = Log::default();
    let tries = log.clone();
    let definition = Workflow::<Value>::builder("limited")
        .call("spin", move |_, context| {
            let running = tries.begin();
            async move {
                // Never reaches an await; it is the token that tells it.
                while context.tries < 3 && !context.cancelled.is_cancelled() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                drop(running);
                Ok(context.tries)
            }
        })
        .within(LIMIT)
        .retrying(StepRetry::in_place(3, Duration::ZERO))
        .build()
        .unwrap();
    let (_db, engine, node) = node(definition).await;
    let id = insert(&engine).await;
    let job = reaches(&engine, id, State::Completed).await;
    assert_eq!((job.attempt, log.seen()), (1, (3, 1)));
    node.shutdown().await;
}

#[tokio::test]
async fn a_step_whose_code_does_not_end_is_not_run_beside_itself() {
    let (log, released) = (Log::default(), watch::Sender::new(false));
    let (tries, until_then) = (log.clone(), released.clone());
    let definition = Workflow::<Value>::builder("limited")
        .call("spin", move |_, _| {
            let (running, released) = (tries.begin(), until_then.clone());
            async move {
                while !*released.borrow() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                drop(running);
                Ok(())
            }
        })
        .within(LIMIT)
        .retrying(StepRetry::in_place(3, Duration::ZERO))
        .build()
        .unwrap();
    let (_db, engine, node) = node(definition).await;
    let id = insert(&engine).await;
    until("a stuck job in the tree", || async {
        let tree = node.system().snapshot();
        tree.find(&format!("/executors/default/{id}"))?.labels.get("stuck").cloned()
    })
    .await;
    assert_eq!((node.state(id).await, log.seen()), (State::Executing, (1, 1)));
    released.send_replace(true);
    let job = reaches(&engine, id, State::Retryable).await;
    let error = job.errors[0]["error"].as_str().unwrap();
    assert!(
        error.starts_with("** (E0622) step spin ran for longer than 50 ms\nits code was told to end and"),
        "{error}"
    );
    node.shutdown().await;
}

#[tokio::test]
async fn blocking_code_of_a_step_has_threads_of_its_own_and_ends_with_its_try() {
    let log = Log::default();
    let tries = log.clone();
    let definition = Workflow::<Value>::builder("limited")
        .call("block", move |_, context| {
            let tries = tries.clone();
            async move {
                let (cancelled, number) = (context.cancelled.clone(), context.tries);
                let blocked = context.run_blocking(move || {
                    let _running = tries.begin();
                    while number < 3 && !cancelled.is_cancelled() {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    std::thread::current().name().map(str::to_owned)
                });
                Ok((blocked.await?, number))
            }
        })
        .within(LIMIT)
        .retrying(StepRetry::in_place(3, Duration::ZERO))
        .call("panic", |_: (Option<String>, u32), context| async move {
            context.run_blocking(|| panic!("while it blocks")).await?;
            Ok(())
        })
        .build()
        .unwrap();
    let (_db, engine, node) = node(definition).await;
    let id = insert(&engine).await;
    let job = reaches(&engine, id, State::Retryable).await;
    assert_eq!(log.seen(), (3, 1));
    let error = job.errors[0]["error"].as_str().unwrap();
    assert!(error.starts_with("** (Panic) while it blocks\n    at "), "{error}");
    node.shutdown().await;
}

#[tokio::test]
async fn a_list_that_becomes_too_large_is_given_up_before_more_is_done_for_it() {
    let log = Log::default();
    let elements = log.clone();
    let definition = Workflow::<Value>::builder("limited")
        .step("list", |_, _| async move { Ok((0..12).collect::<Vec<u8>>()) })
        .each("answer", move |_: u8, _| {
            drop(elements.begin());
            async move { Ok::<_, StepError>("x".repeat(1024 * 1024)) }
        })
        .parallel(1)
        .build()
        .unwrap();
    let (_db, engine, node) = node(definition).await;
    let id = insert(&engine).await;
    let job = reaches(&engine, id, State::Discarded).await;
    let error = job.errors[0]["error"].as_str().unwrap();
    assert!(error.starts_with("** (E0623) the result of step answer has "), "{error}");
    assert_eq!(log.seen().0, 4, "the fourth is the first that makes it too large");
    node.shutdown().await;
}

#[tokio::test]
async fn what_a_step_does_before_it_awaits_is_its_code_too() {
    let step = Step::pure("begin", |context| -> Ready<Result<StepOutput, StepError>> {
        if context.job.attempt == 1 {
            panic!("no future of it");
        }
        std::future::ready(Ok(StepOutput::value(json!(std::thread::current().name()))))
    });
    let steps = vec![step];
    let timeout = Duration::from_secs(60);
    let (_db, engine, node) = node(Definition { worker: "limited", name: "Limited", version: 1, timeout, steps }).await;
    let id = insert(&engine).await;
    let job = reaches(&engine, id, State::Retryable).await;
    let error = job.errors[0]["error"].as_str().unwrap();
    assert!(error.starts_with("** (Panic) no future of it\n    at "), "{error}");
    engine.retry(id).await.unwrap();
    reaches(&engine, id, State::Completed).await;
    let results = Store::new(engine.db().clone()).results(&[id]).await.unwrap();
    assert_eq!(results[0].result, Some(json!("jobs")));
    node.shutdown().await;
}
