//! The helpers for tests that look at a database: what waits to run, and running it.

use std::time::Duration;

use chrono::Utc;
use serde_json::{Value, json};
use singularity::error::Coded;
use singularity::queue::{
    Engine, JobContext, JobError, NewJob, Outcome, Schedule, State, Worker, WorkerOptions, Workers,
};
use singularity::testing::{
    Drain, DrainCounts, Enqueued, all_enqueued, assert_enqueued, assert_enqueued_within, drain_queue, refute_enqueued,
    refute_enqueued_within,
};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::support::node::{Fixture, job, workers};
use crate::support::rows::{SHAPES, engine, engine_in, ids, set_columns, state};

const HOUR: Duration = Duration::from_secs(3_600);

struct Mail;

impl Worker for Mail {
    type Args = Value;
    const NAME: &'static str = "mail";
    const OPTIONS: WorkerOptions = WorkerOptions { queue: "mail", tags: &["a", "b"], ..WorkerOptions::DEFAULT };

    async fn perform(&self, _: Value, _: JobContext) -> Result<Outcome, JobError> {
        Ok(Outcome::Completed)
    }
}

#[tokio::test]
async fn waiting_jobs_are_found_by_all_that_can_be_said_about_them() {
    for shape in SHAPES {
        let (_db, engine) = engine_in(shape).await;
        let args = json!({"id": 1, "to": {"name": "Joe", "lang": "en"}, "list": [1, 2]});
        let new = Mail::new_job(&args).unwrap().meta("from", "web").priority(3).schedule(Schedule::In(HOUR));
        let id = engine.insert(new).await.unwrap().id;
        let due = engine.get(id).await.unwrap().unwrap().scheduled_at;
        let other = engine.insert(NewJob::new("other", json!({}))).await.unwrap().id;
        let mail = Enqueued::of::<Mail>;
        let fits = [
            mail(),
            mail().queue("mail").priority(3).tag("a").tag("b").meta("from", "web"),
            mail().arg("id", 1).arg("to", json!({"name": "Joe"})).arg("list", json!([2])),
            mail().any_arg("to"),
            mail().scheduled_at(due + Duration::from_millis(900)),
            mail().scheduled_at(due - Duration::from_secs(100)).within(Duration::from_secs(101)),
            mail().scheduled_in(HOUR).within(Duration::from_secs(60)),
        ];
        for wanted in fits {
            assert_eq!(ids(&assert_enqueued(&engine, &wanted).await.unwrap()), [id], "{wanted:?}");
            let error = refute_enqueued(&engine, &wanted).await.unwrap_err();
            assert_eq!(error.code(), "E0454");
            assert!(error.to_string().contains(&format!("\n  {id} scheduled mail in mail")), "{error}");
        }
        let misses = [
            mail().queue("default"),
            mail().priority(0),
            mail().tag("c"),
            mail().meta("from", "api"),
            mail().arg("id", 2),
            mail().arg("to", json!({"name": "Joe", "age": 1})),
            mail().any_arg("nobody"),
            mail().scheduled_at(due + Duration::from_millis(1_100)),
            mail().scheduled_in(Duration::ZERO),
            Enqueued::any().worker("mai"),
        ];
        for wanted in misses {
            refute_enqueued(&engine, &wanted).await.unwrap();
            let error = assert_enqueued(&engine, &wanted).await.unwrap_err();
            let text = format!("{error:?}");
            assert!(text.starts_with("E0454: expected a job that fits") && text.contains("other in default"), "{text}");
        }
        assert_eq!(ids(&all_enqueued(&engine, &Enqueued::any()).await.unwrap()), [id, other]);
        // Only what waits counts.
        for (gone, waits) in [("executing", false), ("completed", false), ("retryable", false), ("suspended", true)] {
            set_columns(&engine, other, &format!("state = '{gone}'")).await;
            let found = all_enqueued(&engine, &Enqueued::any().worker("other")).await.unwrap();
            assert_eq!(found.len(), usize::from(waits), "{gone}");
        }
    }
}

#[tokio::test]
async fn a_job_that_comes_later_is_waited_for() {
    let (_db, engine) = engine().await;
    let wanted = Enqueued::of::<Mail>();
    let none = refute_enqueued_within(&engine, &wanted, Duration::from_millis(30)).await;
    none.unwrap();
    let (found, inserted) = tokio::join!(assert_enqueued_within(&engine, &wanted, Duration::from_secs(20)), async {
        refute_enqueued(&engine, &wanted).await.unwrap();
        engine.insert(Mail::new_job(&json!({})).unwrap()).await.unwrap()
    });
    assert_eq!(ids(&found.unwrap()), [inserted.id]);
    assert!(refute_enqueued_within(&engine, &wanted, Duration::from_secs(20)).await.is_err());
}

async fn insert(engine: &Engine, args: Value) -> i64 {
    engine.insert(job(args)).await.unwrap().id
}

async fn drained(engine: &Engine, drain: Drain) -> DrainCounts {
    drain_queue(engine, &workers(&Fixture::new()), &drain).await.unwrap()
}

#[tokio::test]
async fn a_queue_is_drained_and_what_its_jobs_came_to_is_counted_and_stored() {
    let (_db, engine) = engine().await;
    let mut jobs = Vec::new();
    for what in ["ok", "error", "panic", "cancel", "discard", "snooze", "block_panic"] {
        jobs.push(insert(&engine, json!({"do": what, "for_ms": 600_000})).await);
    }
    let last = engine.insert(job(json!({"do": "error"})).max_attempts(1)).await.unwrap().id;
    let elsewhere = engine.insert(job(json!({})).queue("other")).await.unwrap().id;
    let unknown = engine.insert(NewJob::new("unknown", json!({}))).await.unwrap().id;
    let later = engine.insert(job(json!({})).schedule(Schedule::In(HOUR))).await.unwrap().id;
    let counts = drained(&engine, Drain::queue("default")).await;
    assert_eq!(counts, DrainCounts { success: 1, failure: 3, discard: 2, cancelled: 1, snoozed: 1 });
    let wanted = [
        State::Completed,
        State::Retryable,
        State::Retryable,
        State::Cancelled,
        State::Discarded,
        State::Scheduled,
        State::Retryable,
    ];
    for (id, wanted) in jobs.iter().zip(wanted) {
        assert_eq!(state(&engine, *id).await, wanted);
    }
    let rest = [(last, State::Discarded), (elsewhere, State::Available), (unknown, State::Available)];
    for (id, wanted) in rest.into_iter().chain([(later, State::Scheduled)]) {
        assert_eq!(state(&engine, id).await, wanted);
    }
    assert_eq!(drained(&engine, Drain::queue("default")).await, DrainCounts::default(), "nothing is left");
}

#[tokio::test]
async fn what_is_due_later_is_drained_on_request_up_to_a_moment() {
    let (_db, engine) = engine().await;
    let soon = engine.insert(job(json!({})).schedule(Schedule::In(HOUR))).await.unwrap().id;
    let late = engine.insert(job(json!({})).schedule(Schedule::In(3 * HOUR))).await.unwrap().id;
    let failed = insert(&engine, json!({"do": "error_once"})).await;
    assert_eq!(drained(&engine, Drain::queue("default")).await.failure, 1);
    set_columns(&engine, failed, "scheduled_at = scheduled_at + interval '1 hour'").await;
    let counts = drained(&engine, Drain::queue("default").with_scheduled_until(Utc::now() + 2 * HOUR)).await;
    assert_eq!(counts, DrainCounts { success: 2, ..DrainCounts::default() });
    assert_eq!((state(&engine, soon).await, state(&engine, late).await), (State::Completed, State::Scheduled));
    assert_eq!(drained(&engine, Drain::queue("default").with_scheduled()).await.success, 1);
}

#[tokio::test]
async fn the_time_of_each_begins_when_it_begins() {
    /// Notes when its time is over, and when it ended.
    struct Timed(watch::Sender<Vec<(Instant, Instant)>>);
    impl Worker for Timed {
        type Args = Value;
        const NAME: &'static str = "timed";
        const OPTIONS: WorkerOptions = WorkerOptions { timeout: Some(HOUR), ..WorkerOptions::DEFAULT };

        async fn perform(&self, _: Value, context: JobContext) -> Result<Outcome, JobError> {
            self.0.send_modify(|seen| seen.push((context.deadline().unwrap(), Instant::now())));
            Ok(Outcome::Completed)
        }
    }
    let (_db, engine) = engine().await;
    let seen = watch::Sender::new(Vec::new());
    let mut workers = Workers::default();
    workers.register(Timed(seen.clone()));
    for _ in 0..3 {
        engine.insert(Timed::new_job(&json!({})).unwrap()).await.unwrap();
    }
    assert_eq!(drain_queue(&engine, &workers, &Drain::queue("default")).await.unwrap().success, 3);
    let seen = seen.borrow();
    assert!(seen.windows(2).all(|jobs| jobs[1].0 >= jobs[0].1 + HOUR), "{seen:?}");
}

#[tokio::test]
async fn a_limit_bounds_a_round_and_order_is_that_of_the_queue() {
    let (_db, engine) = engine().await;
    let late = insert(&engine, json!({})).await;
    let first = engine.insert(job(json!({})).priority(0)).await.unwrap().id;
    set_columns(&engine, late, "priority = 5").await;
    assert_eq!(drained(&engine, Drain::queue("default").with_limit(1)).await.success, 1);
    assert_eq!((state(&engine, first).await, state(&engine, late).await), (State::Completed, State::Available));
    // With recursion each round has the limit.
    for _ in 0..3 {
        insert(&engine, json!({})).await;
    }
    assert_eq!(drained(&engine, Drain::queue("default").with_limit(2).with_recursion()).await.success, 4);
}

/// Enqueues its successor, down to zero.
struct Chain(Engine);

impl Worker for Chain {
    type Args = Value;
    const NAME: &'static str = "chain";

    async fn perform(&self, args: Value, _: JobContext) -> Result<Outcome, JobError> {
        if let Some(left) = args["left"].as_u64().and_then(|left| left.checked_sub(1)) {
            self.0.insert(Self::new_job(&json!({"left": left}))?).await?;
        }
        Ok(Outcome::Completed)
    }
}

#[tokio::test]
async fn jobs_of_jobs_are_drained_with_recursion_only() {
    let (_db, engine) = engine().await;
    let mut workers = Workers::default();
    workers.register(Chain(engine.clone()));
    let chain = Chain::new_job(&json!({"left": 3})).unwrap();
    engine.insert(chain).await.unwrap();
    let once = drain_queue(&engine, &workers, &Drain::queue("default")).await.unwrap();
    let all = drain_queue(&engine, &workers, &Drain::queue("default").with_recursion()).await.unwrap();
    assert_eq!((once.success, all.success), (1, 3));
}

#[tokio::test]
async fn without_safety_the_first_failure_is_an_error_and_the_rest_stays_as_it_was() {
    let (_db, engine) = engine().await;
    let (good, bad) = (insert(&engine, json!({})).await, insert(&engine, json!({"do": "error"})).await);
    let rest = insert(&engine, json!({})).await;
    let drain = Drain::queue("default").without_safety();
    let error = drain_queue(&engine, &workers(&Fixture::new()), &drain).await.unwrap_err();
    assert_eq!(error.code(), "E0453");
    assert_eq!(error.to_string(), format!("job {bad} of worker fixture failed: ** (Fixture) no luck"));
    assert_eq!((state(&engine, good).await, state(&engine, bad).await), (State::Completed, State::Retryable));
    let rest = engine.get(rest).await.unwrap().unwrap();
    assert_eq!((rest.state, rest.attempt), (State::Available, 0));
}

#[tokio::test]
async fn a_drain_that_never_ends_is_given_up_with_what_it_did() {
    struct Again(watch::Sender<u32>);
    impl Worker for Again {
        type Args = Value;
        const NAME: &'static str = "again";

        async fn perform(&self, _: Value, _: JobContext) -> Result<Outcome, JobError> {
            self.0.send_modify(|times| *times += 1);
            Ok(Outcome::Snoozed(Duration::ZERO))
        }
    }
    let (_db, engine) = engine().await;
    let times = watch::Sender::new(0);
    let mut workers = Workers::default();
    workers.register(Again(times.clone()));
    engine.insert(Again::new_job(&json!({})).unwrap()).await.unwrap();
    let drain = Drain::queue("default").with_scheduled().with_recursion().with_rounds(5);
    let error = drain_queue(&engine, &workers, &drain).await.unwrap_err();
    assert_eq!((error.code(), *times.borrow()), ("E0454", 5), "{error}");
}
