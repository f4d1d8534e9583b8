//! Batches of requests: each is asked once, an interrupted batch goes on, a failed request is tried again.

use serde_json::json;
use singularity::error::Coded;
use singularity::instance::{Beat, Identity, Presence};
use singularity::queue::{Engine, State};
use singularity::workflow::{Batch, BatchRequest, LLM_REQUEST, LlmRequest, Requests, RequestsError};

use crate::support::rows::{engine, set_columns};

/// Requests by id and prompt.
fn batch(fingerprint: &str, requests: &[(Option<&str>, &str)]) -> Batch {
    let requests = requests
        .iter()
        .map(|(id, prompt)| {
            let mut args = json!({"prompt": prompt});
            if let Some(id) = id {
                args["id"] = json!(id);
            }
            let request = LlmRequest::parse(&args).unwrap();
            BatchRequest { id: request.id.clone(), fingerprint: request.fingerprint(), args }
        })
        .collect();
    Batch {
        fingerprint: fingerprint.into(),
        instance_id: "one".into(),
        queue: "default".into(),
        max_attempts: 5,
        requests,
    }
}

async fn jobs(engine: &Engine) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM oban_jobs").fetch_one(engine.db().pool()).await.unwrap()
}

/// Stores a success for a job, as its workflow would.
async fn answer(engine: &Engine, id: i64) {
    let sql = format!(
        "INSERT INTO job_results (job_id, attempt, instance_id, job_type, workflow_type, success, duration_ms)
         VALUES ({id}, 1, 'one', 'llm_request', 'LlmRequest', true, 1)"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(engine.db().pool()).await.unwrap();
    set_columns(engine, id, "state = 'completed', attempt = 1").await;
}

#[tokio::test]
async fn every_request_gets_a_job_in_the_order_of_the_input() {
    let (_db, engine) = engine().await;
    let input = batch("f", &[(Some("b"), "two"), (None, "one"), (Some("a"), "one"), (None, "one")]);
    let enqueued = Requests::new(engine.clone()).enqueue(&input).await.unwrap();
    assert!(!enqueued.resumed && enqueued.known == 0 && enqueued.job_ids.is_sorted());
    let stored = engine.get_many(&enqueued.job_ids).await.unwrap();
    assert_eq!(stored.len(), 4, "equal questions without ids are asked each");
    for (job, request) in stored.iter().zip(&input.requests) {
        assert_eq!((job.worker.as_str(), &job.args, job.max_attempts), (LLM_REQUEST, &request.args, 5));
    }
}

#[tokio::test]
async fn an_id_is_asked_once_for_ever_whatever_becomes_of_its_job() {
    let (_db, engine) = engine().await;
    let requests = Requests::new(engine.clone());
    let first = requests.enqueue(&batch("f", &[(Some("a"), "q"), (Some("b"), "q")])).await.unwrap();
    requests.finish(first.id).await.unwrap();
    // In any state it keeps its job; beside it, a new one.
    for state in ["available", "executing", "retryable", "scheduled", "completed"] {
        set_columns(&engine, first.job_ids[0], &format!("state = '{state}'")).await;
        let again = requests.enqueue(&batch("g", &[(Some("c"), "q"), (Some("a"), "q")])).await.unwrap();
        assert_eq!((again.job_ids[1], again.resumed), (first.job_ids[0], false), "{state}");
        requests.finish(again.id).await.unwrap();
    }
    assert_eq!(jobs(&engine).await, 3);
    // Pruned with a stored answer: not asked again. Deleted without one: asked again.
    answer(&engine, first.job_ids[0]).await;
    sqlx::query("DELETE FROM oban_jobs").execute(engine.db().pool()).await.unwrap();
    let again = requests.enqueue(&batch("h", &[(Some("a"), "q"), (Some("b"), "q")])).await.unwrap();
    assert_eq!(again.job_ids[0], first.job_ids[0]);
    assert_ne!(again.job_ids[1], first.job_ids[1]);
    assert_eq!(jobs(&engine).await, 1);
    let third = requests.enqueue(&batch("i", &[(Some("b"), "q")])).await.unwrap();
    assert_eq!((third.job_ids[0], third.known), (again.job_ids[1], 1));
}

#[tokio::test]
async fn an_id_that_stands_for_another_question_is_refused_and_nothing_is_enqueued() {
    let (_db, engine) = engine().await;
    let requests = Requests::new(engine.clone());
    let first = requests.enqueue(&batch("f", &[(Some("a"), "q"), (Some("b"), "q")])).await.unwrap();
    let input =
        [(None, "new"), (Some("a"), "other"), (Some("b"), "q"), (Some("x"), "1"), (Some("x"), "2"), (Some("x"), "1")];
    let error = requests.enqueue(&batch("g", &input)).await.unwrap_err();
    assert_eq!(error.code(), "E0605");
    let RequestsError::Conflicts(conflicts) = &error else { panic!("{error}") };
    let short: Vec<_> =
        conflicts.iter().map(|conflict| (conflict.index, conflict.id.as_str(), conflict.job_id)).collect();
    assert_eq!(short, [(1, "a", Some(first.job_ids[0])), (4, "x", None)]);
    assert!(error.to_string().contains("\"a\" of job") && error.hint().is_some(), "{error}");
    assert_eq!(jobs(&engine).await, 2);
    // The same question twice under one id is one request.
    let twice = requests.enqueue(&batch("h", &[(Some("y"), "1"), (Some("y"), "1")])).await.unwrap();
    assert_eq!(twice.job_ids[0], twice.job_ids[1]);
}

#[tokio::test]
async fn an_interrupted_batch_goes_on_and_a_finished_one_begins_anew() {
    let (_db, engine) = engine().await;
    let requests = Requests::new(engine.clone());
    let input = batch("f", &[(None, "1"), (None, "2")]);
    let first = requests.enqueue(&input).await.unwrap();
    let resumed = requests.enqueue(&input).await.unwrap();
    assert!(resumed.resumed && resumed.id == first.id && resumed.job_ids == first.job_ids && resumed.known == 2);
    let other = requests.enqueue(&batch("g", &[(None, "1"), (None, "2")])).await.unwrap();
    assert!(!other.resumed && other.id != first.id);
    requests.finish(first.id).await.unwrap();
    let anew = requests.enqueue(&input).await.unwrap();
    assert!(!anew.resumed && anew.id != first.id && anew.job_ids[0] > first.job_ids[1]);
}

#[tokio::test]
async fn a_batch_that_a_live_instance_works_on_is_left_to_it() {
    let (_db, engine) = engine().await;
    let (requests, presence) = (Requests::new(engine.clone()), Presence::new(engine.db().clone(), None));
    let one = Identity::of_this_process("one").unwrap();
    let beat = Beat { status: "online", load: 0, queues: json!({}) };
    presence.register(&one, &json!({}), &beat, 30_000).await.unwrap();
    let input = batch("f", &[(None, "1")]);
    let first = requests.enqueue(&input).await.unwrap();
    let others = Batch { instance_id: "two".into(), ..input.clone() };
    let second = requests.enqueue(&others).await.unwrap();
    assert!(!second.resumed && second.id != first.id);
    requests.finish(second.id).await.unwrap();
    presence.leave(&one).await.unwrap();
    let taken = requests.enqueue(&others).await.unwrap();
    assert!(taken.resumed && taken.id == first.id && taken.job_ids == first.job_ids);
}

#[tokio::test]
async fn a_request_whose_job_failed_is_tried_again_and_one_with_an_answer_is_not() {
    let (_db, engine) = engine().await;
    let requests = Requests::new(engine.clone());
    let input = batch("f", &[(Some("a"), "1"), (Some("b"), "2"), (Some("c"), "3")]);
    let ids = requests.enqueue(&input).await.unwrap().job_ids;
    set_columns(&engine, ids[0], "state = 'discarded', attempt = 5, discarded_at = now()").await;
    set_columns(&engine, ids[1], "state = 'cancelled', attempt = 1, cancelled_at = now()").await;
    answer(&engine, ids[2]).await;
    set_columns(&engine, ids[2], "state = 'cancelled'").await;
    let again = requests.enqueue(&input).await.unwrap();
    assert_eq!(again.job_ids, ids);
    let stored = engine.get_many(&ids).await.unwrap();
    let short: Vec<_> = stored.iter().map(|job| (job.state, job.attempt, job.max_attempts)).collect();
    assert_eq!(short, [(State::Available, 5, 6), (State::Available, 1, 5), (State::Cancelled, 1, 5)]);
    assert!(stored[0].discarded_at.is_none() && stored[1].cancelled_at.is_none());
}

#[tokio::test]
async fn two_at_the_same_time_enqueue_each_request_once() {
    let (_db, engine) = engine().await;
    let requests = Requests::new(engine.clone());
    let input: Vec<(Option<String>, String)> = (0..200).map(|n| (Some(format!("id {n}")), format!("q {n}"))).collect();
    let input: Vec<(Option<&str>, &str)> = input.iter().map(|(id, prompt)| (id.as_deref(), prompt.as_str())).collect();
    let (left, right) = (batch("f", &input), batch("g", &input));
    let (left, right) = tokio::join!(requests.enqueue(&left), requests.enqueue(&right));
    assert_eq!(left.unwrap().job_ids, right.unwrap().job_ids);
    assert_eq!(jobs(&engine).await, 200);
}

#[tokio::test]
async fn long_ids_are_told_apart() {
    let (_db, engine) = engine().await;
    let long = |end: &str| format!("{}{end}", "x".repeat(254));
    let (left, right) = (long("a"), long("b"));
    let enqueued =
        Requests::new(engine.clone()).enqueue(&batch("f", &[(Some(&left), "1"), (Some(&right), "2")])).await.unwrap();
    assert_ne!(enqueued.job_ids[0], enqueued.job_ids[1]);
}
