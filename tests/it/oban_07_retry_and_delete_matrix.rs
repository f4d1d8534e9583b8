//! Point 7 of the conformance suite: what cancel, retry, delete and update do in each state, column by column, of one
//! job and of all that fit, in both row shapes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};
use singularity::error::Coded;
use singularity::queue::engine::{CHANGE_BATCH_MAX, Changed, FILTER_VALUES_MAX, JobFilter};
use singularity::queue::{Change, Engine, JobUpdate, NewJob, Schedule, State};
use sqlx::Connection;
use uuid::Uuid;

use crate::support::db::waits_for_a_lock;
use crate::support::heard::Heard;
use crate::support::node::until;
use crate::support::rows::{
    SHAPES, Shape, claim, engine, engine_in, ids, row, seconds_until, set_columns, state, with,
};

fn job() -> NewJob {
    NewJob::new("w", json!({"a": 1})).meta("kept", "x")
}

/// A job that has used up its attempts, with every column written.
async fn in_state(engine: &Engine, state: State) -> i64 {
    let set = format!(
        "state = '{state}', attempt = 20, completed_at = '2020-01-02', discarded_at = '2020-01-03',
         cancelled_at = '2020-01-04', scheduled_at = '2020-01-01', attempted_at = '2020-01-01',
         attempted_by = ARRAY['n', 'u'], errors = errors || '{{\"attempt\": 20}}'::jsonb"
    );
    with(engine, job(), &set).await
}

fn update(update: JobUpdate) -> Change {
    Change::Update(Box::new(update))
}

/// An API, the states that it accepts in the order of `State::ALL`, and what it writes there: `now` is the database's
/// present, a number in a time column the seconds until it, and `null` a row that is gone.
fn matrix() -> Vec<(Change, [u8; 8], Value)> {
    let empty = JobUpdate::default;
    let meta = json!({"by": "me"}).as_object().unwrap().clone();
    let retried = json!({
        "state": "available", "scheduled_at": "now", "max_attempts": 21, "completed_at": null, "cancelled_at": null,
        "discarded_at": null,
    });
    vec![
        (Change::Cancel, [1, 1, 1, 1, 1, 0, 0, 0], json!({"state": "cancelled", "cancelled_at": "now"})),
        (Change::Retry, [1, 1, 0, 0, 1, 1, 1, 1], retried),
        (Change::Delete, [1, 1, 1, 0, 1, 1, 1, 1], Value::Null),
        (update(JobUpdate { args: Some(json!({"b": 2})), ..empty() }), [1; 8], json!({"args": {"b": 2}})),
        (update(JobUpdate { meta: Some(meta), ..empty() }), [1; 8], json!({"meta": {"by": "me"}})),
        (update(JobUpdate { priority: Some(7), ..empty() }), [1; 8], json!({"priority": 7})),
        (update(JobUpdate { tags: Some(vec![" A ".into(), "a".into()]), ..empty() }), [1; 8], json!({"tags": ["a"]})),
        (update(JobUpdate { max_attempts: Some(30), ..empty() }), [1; 8], json!({"max_attempts": 30})),
        (update(JobUpdate { queue: Some("q".into()), ..empty() }), [1, 1, 1, 0, 1, 1, 1, 1], json!({"queue": "q"})),
        (update(JobUpdate { worker: Some("v".into()), ..empty() }), [1, 1, 1, 0, 1, 1, 1, 1], json!({"worker": "v"})),
        // Oban's own update wakes up finished jobs here.
        (
            update(JobUpdate { schedule: Some(Schedule::In(Duration::from_secs(60))), ..empty() }),
            [0, 1, 1, 0, 1, 0, 0, 0],
            json!({"state": "scheduled", "scheduled_at": 60}),
        ),
        (
            update(JobUpdate {
                schedule: Some(Schedule::At("2040-01-01T00:00:00Z".parse().unwrap())),
                priority: Some(1),
                ..empty()
            }),
            [0, 1, 1, 0, 1, 0, 0, 0],
            json!({"state": "scheduled", "scheduled_at": "2040-01-01T00:00:00", "priority": 1}),
        ),
    ]
}

async fn one(engine: &Engine, change: &Change, id: i64) -> Changed {
    let changed = match change {
        Change::Cancel => engine.cancel(id).await,
        Change::Retry => engine.retry(id).await,
        Change::Delete => engine.delete(id).await,
        Change::Update(update) => engine.update(id, (**update).clone()).await,
    };
    changed.unwrap()
}

/// Compares a row with what it was before and what is written into it.
async fn compare(engine: &Engine, id: i64, mut expected: Value, writes: &Value, what: &str) {
    if writes.is_null() {
        assert!(engine.get(id).await.unwrap().is_none(), "{what}");
        return;
    }
    let after = row(engine.db(), id).await;
    for (column, value) in writes.as_object().unwrap() {
        let seconds = match value {
            Value::String(now) if now == "now" => Some(0.0),
            Value::Number(seconds) if column.ends_with("_at") => seconds.as_f64(),
            _ => None,
        };
        expected[column] = value.clone();
        if let Some(seconds) = seconds {
            let early = seconds - seconds_until(engine.db(), id, column).await;
            assert!((0.0..10.0).contains(&early), "{what}: {column} is {early} s early");
            expected[column] = after[column].clone();
        }
    }
    assert_eq!(after, expected, "{what}");
}

#[tokio::test]
async fn oban_07_each_api_in_each_state_of_one_job() {
    for shape in SHAPES {
        let (_db, engine) = engine_in(shape).await;
        for (change, accepts, writes) in matrix() {
            for (state, accepts) in State::ALL.into_iter().zip(accepts) {
                let what = format!("{shape:?} {change:?} of a job that is {state}");
                let id = in_state(&engine, state).await;
                let before = row(engine.db(), id).await;
                let changed = one(&engine, &change, id).await;
                if accepts == 1 {
                    assert_eq!(changed, Changed::Yes(state), "{what}");
                    compare(&engine, id, before, &writes, &what).await;
                    let after = engine.get(id).await.unwrap().map(|job| job.state);
                    assert_eq!(change.after(state), after, "{what}");
                } else {
                    assert_eq!(changed, Changed::No(state), "{what}");
                    compare(&engine, id, before, &json!({}), &what).await;
                }
            }
            assert_eq!(one(&engine, &change, 1_000_000).await, Changed::NotFound);
        }
    }
}

#[tokio::test]
async fn oban_07_each_api_in_each_state_of_all_that_fit() {
    for shape in SHAPES {
        let (_db, engine) = engine_in(shape).await;
        for (change, accepts, writes) in matrix() {
            let mut jobs = Vec::new();
            for state in State::ALL {
                jobs.push(in_state(&engine, state).await);
            }
            let other = in_state(&engine, State::Scheduled).await;
            let untouched = row(engine.db(), other).await;
            let mut before = Vec::new();
            for id in &jobs {
                before.push(row(engine.db(), *id).await);
            }
            let filter = JobFilter { ids: Some(jobs.clone()), ..JobFilter::default() };
            let result = engine.change_all(change.clone(), &filter, None).await.unwrap();
            let of = |wanted: u8| -> BTreeMap<State, u64> {
                State::ALL
                    .into_iter()
                    .zip(accepts)
                    .filter(|(_, is)| *is == wanted)
                    .map(|(state, _)| (state, 1))
                    .collect()
            };
            assert_eq!((&result.changed, &result.left), (&of(1), &of(0)), "{shape:?} {change:?}");
            for (number, id) in jobs.into_iter().enumerate() {
                let what = format!("{shape:?} {change:?} of all, and of one that is {}", State::ALL[number]);
                let writes = if accepts[number] == 1 { writes.clone() } else { json!({}) };
                compare(&engine, id, before[number].clone(), &writes, &what).await;
            }
            assert_eq!(row(engine.db(), other).await, untouched, "one that does not fit");
        }
    }
}

#[tokio::test]
async fn oban_07_a_job_that_was_retried_can_be_claimed_again() {
    for shape in SHAPES {
        let (_db, engine) = engine_in(shape).await;
        for state in [State::Discarded, State::Suspended, State::Completed] {
            let id = in_state(&engine, state).await;
            assert_eq!(engine.retry(id).await.unwrap(), Changed::Yes(state));
            let jobs = claim(&engine, Uuid::now_v7(), 1).await;
            assert_eq!((jobs[0].id, jobs[0].attempt, jobs[0].max_attempts), (id, 21, 21), "{state}");
        }
    }
}

/// In the table of Oban for Python attempts are smallints: one more than the most would stop the whole statement.
#[tokio::test]
async fn oban_07_a_job_at_the_most_attempts_that_its_column_holds_stops_nobody_and_is_run_once_more() {
    for shape in SHAPES {
        let (_db, engine) = engine_in(shape).await;
        let most = "state = 'discarded', attempt = 32767, max_attempts = 32767";
        let ids = [
            with(&engine, NewJob::new("w", json!({})), "state = 'discarded', attempt = 20").await,
            with(&engine, NewJob::new("w", json!({})), most).await,
            with(&engine, NewJob::new("w", json!({})), "state = 'cancelled', attempt = 3").await,
        ];
        assert_eq!(engine.retry_all(&JobFilter::default()).await.unwrap().total(), 3, "{shape:?}");
        let (last, limit) = if shape == Shape::Python { (32_766, 32_767) } else { (32_767, 32_768) };
        let attempts = async |id| {
            let job = engine.get(id).await.unwrap().unwrap();
            (job.attempt, job.max_attempts)
        };
        assert_eq!(
            [attempts(ids[0]).await, attempts(ids[1]).await, attempts(ids[2]).await],
            [(20, 21), (last, limit), (3, 20)],
            "{shape:?}"
        );
        let claimed = claim(&engine, Uuid::now_v7(), 9).await;
        assert_eq!((claimed.len(), claimed[1].attempt), (3, limit), "{shape:?}: it has an attempt left");
        set_columns(&engine, ids[1], "state = 'retryable', attempt = max_attempts").await;
        let fewer = JobUpdate { max_attempts: Some(7), ..JobUpdate::default() };
        assert_eq!(engine.update_all(&JobFilter::default(), fewer).await.unwrap().total(), 3, "{shape:?}");
    }
}

#[tokio::test]
async fn an_update_of_attempts_never_makes_a_row_that_nobody_can_claim() {
    for shape in SHAPES {
        let (_db, engine) = engine_in(shape).await;
        let few = || JobUpdate { max_attempts: Some(2), ..JobUpdate::default() };
        for (was, wanted) in [
            (State::Available, 6),
            (State::Scheduled, 6),
            (State::Retryable, 6),
            (State::Suspended, 6),
            (State::Executing, 5),
            (State::Completed, 5),
            (State::Discarded, 5),
        ] {
            let id = with(&engine, job(), &format!("state = '{was}', attempt = 5")).await;
            assert_eq!(engine.update(id, few()).await.unwrap(), Changed::Yes(was));
            assert_eq!(engine.get(id).await.unwrap().unwrap().max_attempts, wanted, "{shape:?} {was}");
        }
    }
}

#[tokio::test]
async fn notices_tell_runners_of_cancelled_jobs_and_queues_of_jobs_that_wait() {
    let (_db, engine) = engine().await;
    let mut heard = Heard::on(engine.db(), &["signal", "insert"]).await;
    let count = usize::try_from(CHANGE_BATCH_MAX).unwrap() + 500;
    engine.insert_many(vec![job(); count]).await.unwrap();
    let all = JobFilter::default();
    heard.all().await;
    sqlx::raw_sql("UPDATE oban_jobs SET state = 'executing' WHERE id % 2 = 0")
        .execute(engine.db().pool())
        .await
        .unwrap();
    let executing: Vec<i64> = sqlx::query_scalar("SELECT id FROM oban_jobs WHERE state = 'executing' ORDER BY id")
        .fetch_all(engine.db().pool())
        .await
        .unwrap();
    assert_eq!(engine.cancel_all(&all).await.unwrap().total(), count as u64);
    // Oban's own form, one for each job that ran, none for the others.
    let kills: Vec<(String, Value)> =
        executing.iter().map(|id| ("signal".into(), json!({"action": "pkill", "job_id": id}))).collect();
    let mut told = heard.all().await;
    told.sort_by_key(|(_, payload)| payload["job_id"].as_i64());
    assert_eq!(told, kills);

    sqlx::raw_sql("UPDATE oban_jobs SET queue = 'q' WHERE id % 3 = 0").execute(engine.db().pool()).await.unwrap();
    let insert = |queue: &str| ("insert".to_owned(), json!({"queue": queue}));
    assert_eq!(engine.retry_all(&all).await.unwrap().total(), count as u64);
    let mut told = heard.all().await;
    told.sort_by_key(|(_, payload)| payload.to_string());
    told.dedup();
    assert_eq!(told, [insert("default"), insert("q")]);

    let moved = JobUpdate { queue: Some("r".into()), ..JobUpdate::default() };
    let (available, later) = (engine.insert(job()).await.unwrap().id, in_state(&engine, State::Scheduled).await);
    heard.all().await;
    engine.update(later, moved.clone()).await.unwrap();
    assert_eq!(heard.all().await, [], "it is not available");
    engine.update(available, moved).await.unwrap();
    assert_eq!(heard.all().await, [insert("r")]);
    engine.delete(available).await.unwrap();
    assert_eq!(heard.all().await, []);
}

#[tokio::test]
async fn a_filter_chooses_by_every_field_that_is_set() {
    for shape in SHAPES {
        let (_db, engine) = engine_in(shape).await;
        let jobs = [
            NewJob { tags: vec!["x".into(), "y".into()], ..NewJob::new("v", json!({"a": 1, "b": {"c": 2}})) },
            NewJob { tags: vec!["y".into()], ..NewJob::new("w", json!({"a": 1})) }.queue("q"),
            NewJob::new("w", json!({"a": 2})).schedule(Schedule::In(Duration::from_secs(9))),
        ];
        let mut made = Vec::new();
        for job in jobs {
            made.push(engine.insert(job).await.unwrap().id);
        }
        // As another program may have left it: nothing in the columns that may be empty.
        if shape == crate::support::rows::Shape::Elixir {
            set_columns(&engine, made[2], "tags = NULL, meta = NULL, attempted_by = NULL").await;
        }
        let any = JobFilter::default;
        let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        let args = |args: Value| args.as_object().cloned();
        for (filter, wanted) in [
            (any(), vec![0, 1, 2]),
            (JobFilter { ids: Some(vec![made[1], made[2], 77]), ..any() }, vec![1, 2]),
            (JobFilter { ids: Some(vec![]), ..any() }, vec![]),
            (JobFilter { states: Some(vec![State::Scheduled, State::Suspended]), ..any() }, vec![2]),
            (JobFilter { states: Some(vec![]), ..any() }, vec![]),
            (JobFilter { queues: words(&["q", "z"]), ..any() }, vec![1]),
            (JobFilter { queues: words(&["default"]), workers: words(&["w"]), ..any() }, vec![2]),
            (JobFilter { workers: words(&["v", "w"]), ..any() }, vec![0, 1, 2]),
            (JobFilter { tags: words(&["y", "z"]), ..any() }, vec![0, 1]),
            (JobFilter { args: args(json!({"a": 1})), ..any() }, vec![0, 1]),
            (JobFilter { args: args(json!({"b": {"c": 2}})), ..any() }, vec![0]),
            (JobFilter { args: args(json!({})), tags: words(&["x"]), ..any() }, vec![0]),
        ] {
            let listed = ids(&engine.list(&filter, None, 100).await.unwrap());
            let expected: Vec<i64> = wanted.iter().rev().map(|number: &usize| made[*number]).collect();
            assert_eq!(listed, expected, "{shape:?} {filter:?}");
            let counted: u64 = engine.count_by_state(&filter).await.unwrap().values().sum();
            assert_eq!(counted, wanted.len() as u64, "{filter:?}");
            let touched = JobUpdate { priority: Some(3), ..JobUpdate::default() };
            assert_eq!(engine.update_all(&filter, touched).await.unwrap().total(), wanted.len() as u64);
        }
        let pages = [engine.list(&any(), None, 2).await.unwrap(), engine.list(&any(), Some(made[1]), 2).await.unwrap()];
        assert_eq!(pages.map(|page| ids(&page)), [vec![made[2], made[1]], vec![made[0]]]);
        let many = JobFilter { ids: Some(vec![1; FILTER_VALUES_MAX + 1]), ..any() };
        for error in [engine.delete_all(&many).await.unwrap_err(), engine.list(&many, None, 1).await.unwrap_err()] {
            assert!(error.code() == "E0401" && error.to_string().contains("10001 values"), "{error}");
        }
        let nothing = engine.update_all(&any(), JobUpdate::default()).await.unwrap_err();
        assert!(nothing.to_string().contains("at least one of args"), "{nothing}");
        let three = Map::from_iter([("a".to_owned(), json!(3))]);
        assert!(engine.delete_all(&JobFilter { args: Some(three), ..any() }).await.unwrap().changed.is_empty());
    }
}

#[tokio::test]
async fn the_oldest_are_changed_up_to_the_limit_over_many_batches_and_what_is_left_is_told() {
    let (_db, engine) = engine().await;
    let count = 2 * CHANGE_BATCH_MAX + 300;
    let made = engine.insert_many(vec![job(); usize::try_from(count).unwrap()]).await.unwrap();
    sqlx::raw_sql("UPDATE oban_jobs SET state = 'completed' WHERE id % 10 = 0")
        .execute(engine.db().pool())
        .await
        .unwrap();
    let finished = count / 10;
    let limit = CHANGE_BATCH_MAX + 10;
    let result = engine.change_all(Change::Cancel, &JobFilter::default(), Some(limit)).await.unwrap();
    assert_eq!(result.changed, BTreeMap::from([(State::Available, limit)]));
    let left = BTreeMap::from([(State::Available, count - finished - limit), (State::Completed, finished)]);
    assert_eq!(result.left, left);
    let oldest: bool = sqlx::query_scalar(
        "SELECT max(id) FILTER (WHERE state = 'cancelled') < min(id) FILTER (WHERE state = 'available') FROM oban_jobs",
    )
    .fetch_one(engine.db().pool())
    .await
    .unwrap();
    assert!(oldest);
    let result = engine.cancel_all(&JobFilter::default()).await.unwrap();
    assert_eq!(result.total(), count - finished - limit, "the rest");
    assert_eq!(state(&engine, made[0].id).await, State::Cancelled);
    // An update leaves rows as fitting as they were, and still comes to its end.
    let touched = JobUpdate { priority: Some(3), ..JobUpdate::default() };
    assert_eq!(engine.update_all(&JobFilter::default(), touched).await.unwrap().total(), count);
    assert_eq!(engine.delete_all(&JobFilter::default()).await.unwrap().total(), count);
}

/// A row that is locked is waited for by itself, and its state is looked at again.
#[tokio::test]
async fn a_job_that_somebody_else_is_changing_is_judged_by_what_becomes_of_it() {
    for (change, meanwhile, wanted) in [
        (Change::Cancel, "state = 'completed'", State::Completed),
        (Change::Cancel, "priority = 5", State::Cancelled),
        // A cancellation would be allowed, but those that execute are not meant.
        (Change::Cancel, "state = 'executing', attempt = 1", State::Executing),
        (Change::Delete, "state = 'executing', attempt = 1", State::Executing),
        (Change::Retry, "state = 'executing', attempt = 1", State::Executing),
    ] {
        let (db, engine) = engine().await;
        let made = engine.insert_many(vec![job(); 3]).await.unwrap();
        let start = if change == Change::Retry { "retryable" } else { "available" };
        sqlx::query("UPDATE oban_jobs SET state = $1::oban_job_state")
            .bind(start)
            .execute(engine.db().pool())
            .await
            .unwrap();
        let mut other = sqlx::PgConnection::connect(secrecy::ExposeSecret::expose_secret(db.url())).await.unwrap();
        let mut tx = other.begin().await.unwrap();
        let sql = format!("UPDATE oban_jobs SET {meanwhile} WHERE id = {}", made[1].id);
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut *tx).await.unwrap();
        let filter = JobFilter { states: Some(vec![start.parse().unwrap()]), ..JobFilter::default() };
        let changing = engine.change_all(change.clone(), &filter, None);
        let commit = async {
            until("the others changed, and a wait for the one", || async {
                let waits = waits_for_a_lock(engine.db(), "%FOR UPDATE)%").await;
                let others = engine.get_many(&[made[0].id, made[2].id]).await.unwrap();
                (waits && others.iter().all(|job| job.state.as_str() != start)).then_some(())
            })
            .await;
            tx.commit().await.unwrap();
        };
        let (result, ()) = tokio::join!(changing, commit);
        let taken = wanted == State::Cancelled;
        assert_eq!(result.unwrap().total(), if taken { 3 } else { 2 }, "{change:?} {meanwhile}");
        assert_eq!(state(&engine, made[1].id).await, wanted, "{change:?} {meanwhile}");
    }
}

/// Two that change many in opposite moods, and one that claims and completes: none waits for another for ever.
#[tokio::test]
async fn those_that_change_many_at_once_exclude_each_other_row_by_row() {
    let (db, engine) = engine().await;
    engine.insert_many(vec![job(); 3_000]).await.unwrap();
    let mut changers = Vec::new();
    for number in 0..6 {
        let engine = Engine::new(db.connect("public").await);
        changers.push(async move {
            let mut total = 0;
            for round in 0..4 {
                let change = if (number + round) % 2 == 0 { Change::Cancel } else { Change::Retry };
                total += engine.change_all(change, &JobFilter::default(), None).await.unwrap().total();
            }
            total
        });
    }
    let totals = futures_util::future::join_all(changers).await;
    assert!(totals.iter().sum::<u64>() >= 3_000, "{totals:?}");
    let odd: i64 = sqlx::query_scalar("SELECT count(*) FROM oban_jobs WHERE state NOT IN ('cancelled', 'available')")
        .fetch_one(engine.db().pool())
        .await
        .unwrap();
    assert_eq!(odd, 0);
}
