//! What each outcome does to a row, column by column, and the guard that keeps stale runners from writing.

use std::time::Duration;

use serde_json::{Value, json};
use singularity::queue::{Engine, Job, NewJob, Outcome, ack};
use uuid::Uuid;

use crate::support::rows::{SHAPES, claim, engine, engine_in, guarded, row, seconds_until, set_columns, with, without};

const BACKOFF: Duration = Duration::from_secs(17);

/// Inserts a job with these columns and claims it.
async fn claimed(engine: &Engine, producer: Uuid, set: &str) -> Job {
    with(engine, NewJob::new("w", json!({"a": 1})).meta("kept", "x"), set).await;
    claim(engine, producer, 1).await.remove(0)
}

async fn complete(engine: &Engine, job: &Job, producer: Uuid, outcome: Outcome) -> Vec<i64> {
    let ack = ack(&outcome, job.id, job.attempt, job.max_attempts, BACKOFF);
    engine.complete(&[guarded(job, ack, producer)]).await.unwrap()
}

fn failed() -> Outcome {
    Outcome::Failed { error: "** (E) boom\n  at here".into(), retry_in: None }
}

#[tokio::test]
async fn each_outcome_writes_its_columns_and_no_other_in_both_row_shapes() {
    for shape in SHAPES {
        let (_db, engine) = engine_in(shape).await;
        let producer = Uuid::now_v7();
        let error = |attempt: i32, text: &str| json!([{"attempt": attempt, "error": text}]);
        // Outcome, state before, and what changes; times of the present are written as "now", waits in seconds.
        let cases = [
            (Outcome::Completed, "attempt = 0", json!({"state": "completed", "completed_at": "now"})),
            (
                failed(),
                "attempt = 2",
                json!({"state": "retryable", "scheduled_at": 17, "errors": error(3, "** (E) boom\n  at here")}),
            ),
            (
                Outcome::Failed { error: "e".into(), retry_in: Some(Duration::from_millis(90_500)) },
                "attempt = 0",
                json!({"state": "retryable", "scheduled_at": 90.5, "errors": error(1, "e")}),
            ),
            (
                failed(),
                "attempt = 19",
                json!({"state": "discarded", "discarded_at": "now", "errors": error(20, "** (E) boom\n  at here")}),
            ),
            (
                Outcome::Snoozed(Duration::from_secs(60)),
                "attempt = 0",
                json!({"state": "scheduled", "scheduled_at": 60, "attempt": 0, "meta": {"kept": "x", "snoozed": 1}}),
            ),
            (
                Outcome::Snoozed(Duration::ZERO),
                "attempt = 19, meta = '{\"snoozed\": 4}'",
                json!({"state": "scheduled", "scheduled_at": 0, "attempt": 19, "meta": {"snoozed": 5}}),
            ),
            (
                Outcome::Cancelled("enough".into()),
                "attempt = 0",
                json!({"state": "cancelled", "cancelled_at": "now", "errors": error(1, "enough")}),
            ),
            (
                Outcome::Discarded("hopeless".into()),
                "attempt = 0",
                json!({"state": "discarded", "discarded_at": "now", "errors": error(1, "hopeless")}),
            ),
            (
                Outcome::Recorded(json!({"ok": [1]})),
                "attempt = 0",
                json!({
                    "state": "completed", "completed_at": "now",
                    "meta": {"kept": "x", "recorded": true, "return": "g3QAAAABbQAAAAJva2wAAAABYQFq"},
                }),
            ),
            (Outcome::HandedBack, "attempt = 5", json!({"state": "available", "attempt": 5})),
        ];
        for (outcome, set, changes) in cases {
            let job = claimed(&engine, producer, set).await;
            let before = row(engine.db(), job.id).await;
            assert_eq!(complete(&engine, &job, producer, outcome.clone()).await, [job.id]);
            let mut after = row(engine.db(), job.id).await;
            let mut expected = before.clone();
            for (column, value) in changes.as_object().unwrap() {
                expected[column] = match (column.as_str(), value) {
                    (time, Value::String(_)) if time.ends_with("_at") => {
                        let age = -seconds_until(engine.db(), job.id, time).await;
                        assert!((0.0..5.0).contains(&age), "{outcome:?}: {time} is {age} s old");
                        after[column].clone()
                    }
                    ("scheduled_at", wait) => {
                        let early = wait.as_f64().unwrap() - seconds_until(engine.db(), job.id, "scheduled_at").await;
                        assert!((0.0..5.0).contains(&early), "{outcome:?}: {early} s early");
                        after[column].clone()
                    }
                    _ => value.clone(),
                };
            }
            for element in after["errors"].as_array_mut().unwrap() {
                let at = element.as_object_mut().unwrap().remove("at").unwrap();
                let at = at.as_str().unwrap();
                assert!(at.ends_with('Z') && at.parse::<chrono::DateTime<chrono::Utc>>().is_ok(), "{at}");
            }
            assert_eq!(after, expected, "{shape:?} {outcome:?}");
            set_columns(&engine, job.id, "state = 'completed'").await;
        }
    }
}

#[tokio::test]
async fn errors_are_appended_behind_those_that_are_there_in_both_row_shapes() {
    for shape in SHAPES {
        let (_db, engine) = engine_in(shape).await;
        let producer = Uuid::now_v7();
        let job = claimed(&engine, producer, "attempt = 0").await;
        for attempt in 1..=3 {
            let job = Job { attempt, ..job.clone() };
            set_columns(&engine, job.id, &format!("state = 'executing', attempt = {attempt}")).await;
            let outcome = Outcome::Failed { error: format!("no. {attempt} \u{0} \"'"), retry_in: None };
            assert_eq!(complete(&engine, &job, producer, outcome).await, [job.id]);
        }
        let errors = engine.get(job.id).await.unwrap().unwrap().errors;
        let short: Vec<_> = errors.iter().map(|e| (e["attempt"].clone(), e["error"].clone())).collect();
        let wanted = (1..=3).map(|n| (json!(n), json!(format!("no. {n} \u{fffd} \"'"))));
        assert_eq!(short, wanted.collect::<Vec<_>>(), "{shape:?}");
    }
}

#[tokio::test]
async fn odd_meta_of_others_does_not_keep_a_snooze_from_being_stored() {
    let (_db, engine) = engine().await;
    let producer = Uuid::now_v7();
    for (meta, wanted) in [
        ("NULL", json!({"snoozed": 1})),
        ("'{\"snoozed\": \"often\", \"a\": null}'", json!({"snoozed": 1, "a": null})),
        ("'{\"snoozed\": 1.5}'", json!({"snoozed": 2.5})),
    ] {
        let job = claimed(&engine, producer, &format!("meta = {meta}")).await;
        assert_eq!(complete(&engine, &job, producer, Outcome::Snoozed(Duration::ZERO)).await, [job.id]);
        assert_eq!(row(engine.db(), job.id).await["meta"], wanted, "{meta}");
    }
}

#[tokio::test]
async fn a_snooze_keeps_what_others_wrote_into_meta_meanwhile() {
    let (_db, engine) = engine().await;
    let producer = Uuid::now_v7();
    let job = claimed(&engine, producer, "attempt = 0").await;
    set_columns(&engine, job.id, "meta = meta || '{\"theirs\": true}'").await;
    complete(&engine, &job, producer, Outcome::Snoozed(Duration::ZERO)).await;
    assert_eq!(row(engine.db(), job.id).await["meta"], json!({"kept": "x", "theirs": true, "snoozed": 1}));
}

#[tokio::test]
async fn a_stale_runners_write_changes_nothing() {
    let (_db, engine) = engine().await;
    let producer = Uuid::now_v7();
    let outcomes = || {
        [
            Outcome::Completed,
            failed(),
            Outcome::Snoozed(Duration::ZERO),
            Outcome::Cancelled("c".into()),
            Outcome::Discarded("d".into()),
            Outcome::HandedBack,
        ]
    };
    for outcome in outcomes() {
        let job = claimed(&engine, producer, "attempt = 3").await;
        // Another attempt, another producer, a state that others chose.
        let stale = [
            "attempt = attempt + 1".to_owned(),
            format!("attempted_by = ARRAY['here', '{}']", Uuid::now_v7()),
            "attempted_at = attempted_at + interval '1 second'".to_owned(),
            "state = 'cancelled', cancelled_at = now()".to_owned(),
            "state = 'available'".to_owned(),
            "state = 'completed'".to_owned(),
        ];
        for change in stale {
            let fresh = row(engine.db(), job.id).await;
            set_columns(&engine, job.id, &change).await;
            let before = row(engine.db(), job.id).await;
            assert!(complete(&engine, &job, producer, outcome.clone()).await.is_empty(), "{outcome:?} after {change}");
            assert_eq!(row(engine.db(), job.id).await, before, "{outcome:?} after {change}");
            let reset = format!(
                "state = 'executing', attempt = {}, attempted_at = '{}', attempted_by = ARRAY['here', '{producer}'], cancelled_at = NULL",
                job.attempt,
                fresh["attempted_at"].as_str().unwrap()
            );
            set_columns(&engine, job.id, &reset).await;
        }
        assert_eq!(complete(&engine, &job, producer, outcome.clone()).await, [job.id]);
        let after = row(engine.db(), job.id).await;
        assert!(complete(&engine, &job, producer, outcome.clone()).await.is_empty(), "the second time nothing");
        assert_eq!(row(engine.db(), job.id).await, after);
        set_columns(&engine, job.id, "state = 'completed'").await;
    }
}

/// Producer, attempt and time of the claim alone name no job: those of two may be equal.
#[tokio::test]
async fn a_write_is_about_its_own_job_and_no_other_of_the_same_claim() {
    let (_db, engine) = engine().await;
    let producer = Uuid::now_v7();
    for outcome in [Outcome::Completed, failed(), Outcome::Recorded(json!(1))] {
        let (job, other) =
            (claimed(&engine, producer, "attempt = 0").await, claimed(&engine, producer, "attempt = 0").await);
        let same = format!("attempted_at = (SELECT attempted_at FROM oban_jobs WHERE id = {})", job.id);
        set_columns(&engine, other.id, &same).await;
        let before = row(engine.db(), other.id).await;
        assert_eq!(complete(&engine, &job, producer, outcome.clone()).await, [job.id], "{outcome:?}");
        assert_eq!(row(engine.db(), other.id).await, before, "{outcome:?}");
        set_columns(&engine, other.id, "state = 'completed'").await;
    }
}

#[tokio::test]
async fn a_repeated_write_does_not_meet_the_next_claim_of_the_same_attempt_by_the_same_producer() {
    let (_db, engine) = engine().await;
    let producer = Uuid::now_v7();
    for outcome in [Outcome::HandedBack, Outcome::Snoozed(Duration::ZERO)] {
        let job = claimed(&engine, producer, "attempt = 0").await;
        assert_eq!(complete(&engine, &job, producer, outcome.clone()).await, [job.id]);
        set_columns(&engine, job.id, "state = 'available'").await;
        let again = claim(&engine, producer, 1).await.remove(0);
        assert_eq!((again.id, again.attempt), (job.id, job.attempt), "the attempt was given back");
        // The reply to the first write was lost, so it is sent again.
        assert!(complete(&engine, &job, producer, outcome).await.is_empty());
        assert_eq!(complete(&engine, &again, producer, Outcome::Completed).await, [job.id]);
    }
}

#[tokio::test]
async fn a_batch_stores_what_its_guards_allow_and_says_which() {
    let (_db, engine) = engine().await;
    let producer = Uuid::now_v7();
    engine.insert_many(vec![NewJob::new("w", json!({})); 6]).await.unwrap();
    let jobs = claim(&engine, producer, 6).await;
    set_columns(&engine, jobs[1].id, "state = 'cancelled'").await;
    set_columns(&engine, jobs[4].id, "state = 'cancelled'").await;
    let outcomes = [
        Outcome::Completed,
        Outcome::Completed,
        failed(),
        Outcome::HandedBack,
        failed(),
        Outcome::Discarded("d".into()),
    ];
    let acks: Vec<_> = jobs
        .iter()
        .zip(&outcomes)
        .map(|(job, outcome)| guarded(job, ack(outcome, job.id, job.attempt, job.max_attempts, BACKOFF), producer))
        .collect();
    let mut accepted = engine.complete(&acks).await.unwrap();
    accepted.sort_unstable();
    assert_eq!(accepted, [jobs[0].id, jobs[2].id, jobs[3].id, jobs[5].id]);
    let mut states = Vec::new();
    for job in &jobs {
        states.push(without(row(engine.db(), job.id).await, &["id"])["state"].as_str().unwrap().to_owned());
    }
    assert_eq!(states, ["completed", "cancelled", "retryable", "available", "cancelled", "discarded"]);
    assert!(engine.complete(&[]).await.unwrap().is_empty());
}
