//! Point 14 of the conformance suite, unique jobs: what is the same, what is replaced, and that one row results however
//! many insert, also beside another implementation as far as that is possible.

use std::time::Duration;

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use singularity::error::Coded;
use singularity::queue::engine::UNIQUE_BATCH_MAX;
use singularity::queue::{
    Engine, NewJob, QueueError, Replace, ReplaceField, Schedule, State, Unique, UniqueField, UniqueTimestamp,
};
use sqlx::{Connection, PgConnection};

use crate::support::rows::{SHAPES, engine, engine_in, row, set_columns, with};

fn unique() -> Unique {
    Unique::forever()
}

fn on(fields: &[UniqueField]) -> Unique {
    Unique { fields: fields.to_vec(), ..unique() }
}

fn keys(fields: &[UniqueField], keys: &[&str]) -> Unique {
    Unique { keys: keys.iter().map(|key| (*key).to_owned()).collect(), ..on(fields) }
}

async fn clear(engine: &Engine) {
    sqlx::query("DELETE FROM oban_jobs").execute(engine.db().pool()).await.unwrap();
}

async fn count(engine: &Engine) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM oban_jobs").fetch_one(engine.db().pool()).await.unwrap()
}

#[tokio::test]
async fn oban_14_two_jobs_are_the_same_exactly_as_the_options_say_in_both_row_shapes() {
    use UniqueField::{Args, Meta, Queue, Worker};
    let job = |args: Value, meta: Value| NewJob { meta: meta.as_object().unwrap().clone(), ..NewJob::new("w", args) };
    let plain = |args: Value| job(args, json!({}));
    let older = "inserted_at = inserted_at - interval '1 hour', scheduled_at = scheduled_at + interval '1 hour'";
    let within = |secs: u64| Unique { period: Some(Duration::from_secs(secs)), ..unique() };
    let due_within = |secs: u64| Unique { timestamp: UniqueTimestamp::ScheduledAt, ..within(secs) };
    // The job that is there and columns of it, the new one, its options, whether they are the same.
    let cases: Vec<(NewJob, &str, NewJob, Unique, bool)> = vec![
        // Arguments, queue and worker unless said otherwise.
        (plain(json!({"a": 1})), "", plain(json!({"a": 1})), unique(), true),
        (plain(json!({"a": 1, "b": {"c": [1]}})), "", plain(json!({"b": {"c": [1.0]}, "a": 1})), unique(), true),
        (plain(json!({"a": 1})), "", plain(json!({"a": 2})), unique(), false),
        (plain(json!({"a": 1, "b": 2})), "", plain(json!({"a": 1})), unique(), false),
        (plain(json!({"a": 1})), "", plain(json!({"a": 1, "b": 2})), unique(), false),
        (plain(json!({"a": [1, 2]})), "", plain(json!({"a": [2, 1]})), unique(), false),
        (plain(json!({})), "", plain(json!({})), unique(), true),
        (plain(json!({"a": 1})), "", plain(json!({})), unique(), false),
        (plain(json!({})).queue("q"), "", plain(json!({})), unique(), false),
        (NewJob::new("v", json!({})), "", plain(json!({})), unique(), false),
        (job(json!({}), json!({"m": 1})), "", plain(json!({})), unique(), true),
        // Fields.
        (plain(json!({"a": 1})).queue("q"), "", plain(json!({"a": 2})), on(&[Worker]), true),
        (NewJob::new("v", json!({"a": 1})), "", plain(json!({"a": 2})), on(&[Queue]), true),
        (NewJob::new("v", json!({"a": 1})).queue("q"), "", plain(json!({"a": 1})), on(&[Args]), true),
        (job(json!({"a": 1}), json!({"m": 1})), "", job(json!({}), json!({"m": 1})), on(&[Meta]), true),
        (job(json!({}), json!({"m": 1, "n": 1})), "", job(json!({}), json!({"m": 1})), on(&[Meta]), false),
        (job(json!({}), json!({"m": 1})), "", plain(json!({})), on(&[Meta, Worker]), false),
        // Keys.
        (plain(json!({"id": 1, "x": 1})), "", plain(json!({"id": 1, "x": 2})), keys(&[Args, Worker], &["id"]), true),
        (plain(json!({"id": 1})), "", plain(json!({"id": 2})), keys(&[Args, Worker], &["id"]), false),
        (plain(json!({"id": 1, "x": 1})), "", plain(json!({"id": 1, "x": 2})), keys(&[Args], &["id", "x"]), false),
        (plain(json!({"id": 1, "y": 1})), "", plain(json!({"y": 1})), keys(&[Args], &["id"]), false),
        (plain(json!({})), "", plain(json!({"y": 1})), keys(&[Args], &["id"]), true),
        (
            job(json!({}), json!({"id": 1, "k": 1})),
            "",
            job(json!({"z": 1}), json!({"id": 1})),
            keys(&[Meta], &["id"]),
            true,
        ),
        (
            job(json!({"id": 1}), json!({"id": 2})),
            "",
            job(json!({"id": 1}), json!({"id": 1})),
            keys(&[Args, Meta], &["id"]),
            false,
        ),
        // Period and timestamp: the other one was stored an hour ago and is due in an hour.
        (plain(json!({})), older, plain(json!({})), within(3_500), false),
        (plain(json!({})), older, plain(json!({})), within(3_700), true),
        (plain(json!({})), older, plain(json!({})), Unique::default(), false),
        (plain(json!({})), older, plain(json!({})), due_within(1), true),
        (
            plain(json!({})),
            "scheduled_at = scheduled_at - interval '1 hour'",
            plain(json!({})),
            due_within(3_500),
            false,
        ),
        (plain(json!({})), older, plain(json!({})), Unique { period: Some(Duration::MAX), ..unique() }, true),
    ];
    for shape in SHAPES {
        let (_db, engine) = engine_in(shape).await;
        for (there, set, new, unique, same) in &cases {
            let set = if set.is_empty() { "priority = 0" } else { set };
            let id = with(&engine, there.clone(), set).await;
            let inserted = engine.insert(new.clone().unique(unique.clone())).await.unwrap();
            assert_eq!(inserted.conflict, *same, "{shape:?}: {there:?} {set} {new:?} {unique:?}");
            assert_eq!(inserted.id == id, *same);
            clear(&engine).await;
        }
    }
}

#[tokio::test]
async fn oban_14_every_group_of_states_counts_the_states_that_it_has_and_no_other() {
    let (_db, engine) = engine().await;
    for group in ["all", "incomplete", "scheduled", "successful", "executing"] {
        let states = Unique::states_named(group).unwrap();
        for state in State::ALL {
            with(&engine, NewJob::new("w", json!({})), &format!("state = '{state}'")).await;
            let unique = Unique { states: states.clone(), ..unique() };
            let inserted = engine.insert(NewJob::new("w", json!({})).unique(unique)).await.unwrap();
            assert_eq!(inserted.conflict, states.contains(&state), "{group}: {state}");
            clear(&engine).await;
        }
    }
}

#[tokio::test]
async fn oban_14_a_conflict_replaces_the_fields_of_its_state_and_no_other() {
    use ReplaceField::{Args, MaxAttempts, Meta, Priority, Queue, ScheduledAt, Tags, Worker};
    let every = [Args, MaxAttempts, Meta, Priority, Queue, ScheduledAt, Tags, Worker];
    let new = || {
        NewJob { priority: 3, tags: vec!["t".into()], ..NewJob::new("v", json!({"n": 2})) }
            .queue("q")
            .max_attempts(7)
            .meta("m", 1)
            .schedule(Schedule::At("2040-01-01T00:00:00Z".parse().unwrap()))
            .unique(Unique { states: Unique::all(), fields: vec![UniqueField::Meta], ..unique() })
    };
    let columns = |field: ReplaceField| match field {
        Args => json!({"args": {"n": 2}}),
        MaxAttempts => json!({"max_attempts": 7}),
        Meta => json!({}),
        Priority => json!({"priority": 3}),
        Queue => json!({"queue": "q"}),
        ScheduledAt => json!({"scheduled_at": "2040-01-01T00:00:00"}),
        Tags => json!({"tags": ["t"]}),
        Worker => json!({"worker": "v"}),
    };
    for shape in SHAPES {
        let (_db, engine) = engine_in(shape).await;
        for state in State::ALL {
            for field in every {
                for applies in [true, false] {
                    let set = format!("state = '{state}', attempt = 1");
                    let id = with(&engine, NewJob::new("w", json!({"n": 1})).meta("m", 1), &set).await;
                    let mut expected = row(engine.db(), id).await;
                    let of = if applies {
                        state
                    } else if state == State::Suspended {
                        State::Available
                    } else {
                        State::Suspended
                    };
                    let inserted = engine.insert(new().replace(Replace::default().when(of, &[field]))).await.unwrap();
                    assert_eq!(
                        (inserted.id, inserted.conflict, inserted.replaced),
                        (id, true, applies),
                        "{state} {field}"
                    );
                    if applies {
                        for (column, value) in columns(field).as_object().unwrap() {
                            expected[column] = value.clone();
                        }
                    }
                    assert_eq!(row(engine.db(), id).await, expected, "{shape:?} {state} {field} {applies}");
                    clear(&engine).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_replacement_keeps_the_row_sound() {
    let (_db, engine) = engine().await;
    let id = with(&engine, NewJob::new("w", json!({})), "state = 'executing', attempt = 9").await;
    let before = row(engine.db(), id).await;
    let new = NewJob::new("w", json!({})).max_attempts(2).unique(unique());
    let all = Replace::always(&[ReplaceField::MaxAttempts, ReplaceField::ScheduledAt]);
    assert!(engine.insert(new.replace(all)).await.unwrap().replaced);
    let after = row(engine.db(), id).await;
    assert_eq!(after["max_attempts"], 9, "never below the attempts begun");
    assert_eq!(after["scheduled_at"], before["scheduled_at"], "no new time was given");
    let error =
        engine.insert(NewJob::new("w", json!({})).replace(Replace::always(&[ReplaceField::Args]))).await.unwrap_err();
    assert!(error.code() == "E0401" && error.to_string().contains("unique"), "{error}");
}

#[tokio::test]
async fn oban_14_one_row_results_however_many_connections_insert_the_same_in_whatever_order() {
    let (db, engine) = engine().await;
    let mut inserters = Vec::new();
    for number in 0..12 {
        // Pools of their own, as several nodes have; half of them insert in bulk, in opposite orders.
        let engine = Engine::new(db.connect("public").await);
        inserters.push(async move {
            let job = |n: usize| NewJob::new("w", json!({"n": n})).unique(Unique { period: None, ..Unique::default() });
            let mut order: Vec<usize> = (0..25).collect();
            if number % 2 == 0 {
                order.reverse();
            }
            if number % 4 < 2 {
                return engine.insert_many(order.into_iter().map(job).collect()).await.unwrap();
            }
            let mut inserted = Vec::new();
            for n in order {
                inserted.push(engine.insert(job(n)).await.unwrap());
            }
            inserted
        });
    }
    let inserted: Vec<_> = futures_util::future::join_all(inserters).await.into_iter().flatten().collect();
    assert_eq!(count(&engine).await, 25);
    assert_eq!(inserted.len(), 12 * 25);
    assert_eq!(inserted.iter().filter(|one| !one.conflict).count(), 25, "each was new to one inserter");
    let numbers: i64 =
        sqlx::query_scalar("SELECT count(DISTINCT args) FROM oban_jobs").fetch_one(engine.db().pool()).await.unwrap();
    assert_eq!(numbers, 25);
}

#[tokio::test]
async fn plain_and_unique_jobs_of_one_call_keep_their_order() {
    let (_db, engine) = engine().await;
    let job = |n: i64| NewJob::new("w", json!({"n": n}));
    let jobs = vec![job(1), job(2).unique(unique()), job(3), job(2).unique(unique()), job(4), job(1).unique(unique())];
    let inserted = engine.insert_many(jobs).await.unwrap();
    assert_eq!(inserted.iter().map(|one| one.conflict).collect::<Vec<_>>(), [false, false, false, true, false, true]);
    assert_eq!((inserted[3].id, inserted[5].id), (inserted[1].id, inserted[0].id));
    let stored = engine.get_many(&inserted.iter().map(|one| one.id).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(stored.iter().map(|job| job.args["n"].clone()).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let many = (0..=UNIQUE_BATCH_MAX as i64).map(|n| job(n).unique(unique())).collect();
    assert!(matches!(engine.insert_many(many).await, Err(QueueError::TooMany { max: UNIQUE_BATCH_MAX, .. })));
    assert_eq!(count(&engine).await, 4);
}

#[tokio::test]
async fn where_nothing_keeps_others_away_unique_jobs_are_refused() {
    let (db, engine) = engine().await;
    let job = || vec![NewJob::new("w", json!({})).unique(unique())];
    let mut caller = PgConnection::connect(db.url().expose_secret()).await.unwrap();
    let error = engine.insert_many_on(&mut caller, job()).await.unwrap_err();
    assert!(error.code() == "E0404" && error.to_string().contains("outside of a transaction"), "{error}");
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let begin = sqlx::AssertSqlSafe(format!("BEGIN ISOLATION LEVEL {level}"));
        let mut tx = caller.begin_with(begin).await.unwrap();
        let error = engine.insert_many_on(&mut tx, job()).await.unwrap_err();
        assert!(error.code() == "E0404" && error.hint().unwrap().contains("READ COMMITTED"), "{error}");
        tx.rollback().await.unwrap();
    }
    assert_eq!(count(&engine).await, 0);
    // A transaction that was begun in a way that only the server knows of.
    sqlx::raw_sql("BEGIN").execute(&mut caller).await.unwrap();
    assert!(!engine.insert_many_on(&mut caller, job()).await.unwrap()[0].conflict);
    sqlx::raw_sql("COMMIT").execute(&mut caller).await.unwrap();
    assert_eq!(count(&engine).await, 1);
    set_columns(&engine, 1, "state = 'completed'").await;
    assert!(engine.insert_many(job()).await.unwrap()[0].conflict);
}

/// What Oban for Elixir does: a lock of its own that it does not wait for, a look, an insert. `None` when it came to
/// nothing because somebody else held the lock.
async fn insert_as_elixir(connection: &mut PgConnection, n: i64) -> Option<i64> {
    let args = json!({"n": n});
    let mut tx = connection.begin().await.unwrap();
    // Its numbers are made from its build; those of ours are far away.
    let is_locked: bool =
        sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)").bind(n).fetch_one(&mut *tx).await.unwrap();
    if !is_locked {
        return None;
    }
    let look = "SELECT id FROM oban_jobs WHERE state NOT IN ('cancelled', 'discarded') AND worker = 'w'
                AND queue = 'default' AND args @> $1 AND args <@ $1 LIMIT 1";
    let there: Option<i64> = sqlx::query_scalar(look).bind(&args).fetch_optional(&mut *tx).await.unwrap();
    if there.is_some() {
        return there;
    }
    let insert = "INSERT INTO oban_jobs (args, meta, state, max_attempts, queue, worker, errors, tags, attempt)
                  VALUES ($1, '{\"by\": \"elixir\"}', 'available', 20, 'default', 'w', '{}', '{}', 0)
                  ON CONFLICT DO NOTHING RETURNING id";
    let id = sqlx::query_scalar(insert).bind(&args).fetch_one(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    Some(id)
}

/// Hazards 6 and 7: each sees what the other has committed. What neither can see, because the other's lock cannot be
/// known, are inserts at the same moment: then each has a row of its own, and none of ours comes to nothing.
#[tokio::test]
async fn oban_14_beside_another_implementation_each_finds_what_the_other_committed_and_no_insert_vanishes() {
    const NUMBERS: i64 = 15;
    let (db, engine) = engine().await;
    let job = |n: i64| NewJob::new("w", json!({"n": n})).unique(unique());
    let mut elixir = PgConnection::connect(db.url().expose_secret()).await.unwrap();
    let theirs = insert_as_elixir(&mut elixir, 100).await;
    let found = engine.insert(job(100)).await.unwrap();
    assert_eq!((found.conflict, Some(found.id)), (true, theirs));
    let ours = engine.insert(job(101)).await.unwrap();
    assert_eq!(insert_as_elixir(&mut elixir, 101).await, Some(ours.id));
    clear(&engine).await;

    let mut us = Vec::new();
    let mut them = Vec::new();
    for _ in 0..4 {
        let (engine, mut elixir) = (engine.clone(), PgConnection::connect(db.url().expose_secret()).await.unwrap());
        us.push(async move {
            let mut ids = Vec::new();
            for n in 0..NUMBERS {
                ids.push((n, engine.insert(job(n)).await.unwrap().id));
            }
            ids
        });
        them.push(async move {
            for n in 0..NUMBERS {
                insert_as_elixir(&mut elixir, n).await;
            }
        });
    }
    let (us, _) = tokio::join!(futures_util::future::join_all(us), futures_util::future::join_all(them));
    for (n, id) in us.into_iter().flatten() {
        let stored = engine.get(id).await.unwrap().unwrap_or_else(|| panic!("an insert of {n} vanished"));
        assert_eq!(stored.args["n"], n);
    }
    let rows: Vec<(i64, bool, i64)> =
        sqlx::query_as("SELECT (args->>'n')::bigint, meta ? 'by', count(*) FROM oban_jobs GROUP BY 1, 2 ORDER BY 1, 2")
            .fetch_all(engine.db().pool())
            .await
            .unwrap();
    assert!(rows.iter().all(|(.., rows)| *rows == 1), "one row each at most: {rows:?}");
}
