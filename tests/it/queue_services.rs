//! Staging what is due, and taking over what dead instances left.

use std::time::Duration;

use serde_json::json;
use singularity::instance::{Beat, Identity, Presence};
use singularity::queue::engine::Rescued;
use singularity::queue::{Engine, NewJob, State};
use uuid::Uuid;

use crate::support::rows::{SHAPES, engine, engine_in, names, row, state, with};

const DUE: &str = "scheduled_at = timezone('UTC', now()) - interval '1 second'";

fn job() -> NewJob {
    NewJob::new("w", json!({}))
}

async fn due(engine: &Engine, state: &str, seconds_ago: u32) -> i64 {
    let set = format!("state = '{state}', scheduled_at = timezone('UTC', now()) - interval '{seconds_ago} s'");
    with(engine, job(), &set).await
}

#[tokio::test]
async fn staging_takes_due_jobs_of_its_queues_oldest_first_and_changes_the_state_alone() {
    for shape in SHAPES {
        let (_db, engine) = engine_in(shape).await;
        let (young, old, middle) = (
            due(&engine, "scheduled", 1).await,
            due(&engine, "retryable", 3).await,
            due(&engine, "scheduled", 2).await,
        );
        let early =
            with(&engine, job(), "state = 'scheduled', scheduled_at = timezone('UTC', now()) + interval '1 h'").await;
        let elsewhere = with(&engine, job().queue("q"), &format!("state = 'scheduled', {DUE}")).await;
        let suspended = due(&engine, "suspended", 9).await;
        let mut expected = row(engine.db(), old).await;
        assert_eq!(engine.stage(Some(&names(&["default", "none"])), 2).await.unwrap(), ["default"]);
        expected["state"] = json!("available");
        assert_eq!(row(engine.db(), old).await, expected);
        let states = [old, middle, young, early, elsewhere, suspended];
        let wanted = ["available", "available", "scheduled", "scheduled", "scheduled", "suspended"];
        for (id, wanted) in states.into_iter().zip(wanted) {
            assert_eq!(state(&engine, id).await.as_str(), wanted, "{shape:?} job {id}");
        }
        assert_eq!(engine.stage(Some(&names(&["default"])), 10).await.unwrap(), ["default"]);
        assert!(engine.stage(Some(&names(&["default"])), 10).await.unwrap().is_empty(), "nothing left");
    }
}

#[tokio::test]
async fn staging_for_all_takes_due_jobs_of_every_queue() {
    let (_db, engine) = engine().await;
    let here = due(&engine, "scheduled", 1).await;
    let elsewhere = with(&engine, job().queue("elixir"), &format!("state = 'retryable', {DUE}")).await;
    let mut queues = engine.stage(None, 10).await.unwrap();
    queues.sort();
    assert_eq!(queues, ["default", "elixir"]);
    for id in [here, elsewhere] {
        assert_eq!(state(&engine, id).await, State::Available);
    }
}

#[tokio::test]
async fn staging_neither_waits_for_a_locked_row_nor_revives_what_its_holder_made_of_it() {
    let (_db, engine) = engine().await;
    for change in ["state = 'executing', attempt = 1", "state = 'cancelled'"] {
        let (held, free) = (due(&engine, "scheduled", 5).await, due(&engine, "retryable", 1).await);
        let mut holder = engine.db().pool().begin().await.unwrap();
        let sql = format!("UPDATE oban_jobs SET {change} WHERE id = {held}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut *holder).await.unwrap();
        let staged = tokio::time::timeout(Duration::from_secs(4), engine.stage(Some(&names(&["default"])), 10)).await;
        assert_eq!(staged.expect("no wait").unwrap(), ["default"]);
        assert_eq!(state(&engine, free).await, State::Available);
        holder.commit().await.unwrap();
        let after = row(engine.db(), held).await;
        engine.stage(Some(&names(&["default"])), 10).await.unwrap();
        assert_eq!(row(engine.db(), held).await, after);
    }
}

/// Hazard 3 of Oban's staging: chosen while it was due, changed by somebody else before the write.
#[tokio::test]
async fn concurrent_staging_claiming_and_cancelling_never_revive_a_job() {
    let (_db, engine) = engine().await;
    for _ in 0..20 {
        let mut due_jobs = Vec::new();
        for _ in 0..5 {
            due_jobs.push(due(&engine, "scheduled", 1).await);
        }
        let stage = || async { engine.stage(Some(&names(&["default"])), 100).await.map(drop) };
        let cancel = || async {
            for id in &due_jobs {
                engine.cancel(*id).await?;
            }
            Ok(())
        };
        let (first, cancelled, second) = tokio::join!(stage(), cancel(), stage());
        first.and(cancelled).and(second).unwrap();
        for id in due_jobs {
            assert_eq!(state(&engine, id).await, State::Cancelled, "job {id}");
        }
    }
}

/// What registered instances say: producer of queue `default`.
fn beat(producer: Uuid) -> Beat {
    Beat { status: "online", load: 0, queues: json!({"default": {"producer": producer, "limit": 1}}) }
}

async fn register(presence: &Presence, name: &str, producer: Uuid) -> Identity {
    let identity = Identity::of_this_process(name).unwrap();
    presence.register(&identity, &json!({}), &beat(producer), 30_000).await.unwrap();
    identity
}

async fn executing(engine: &Engine, instance: &str, producer: Uuid, set: &str) -> i64 {
    let owner = format!("state = 'executing', attempted_by = ARRAY['{instance}', '{producer}'], {set}");
    with(engine, job(), &owner).await
}

#[tokio::test]
async fn rescue_takes_over_from_the_dead_and_from_earlier_processes_and_from_nobody_else() {
    for shape in SHAPES {
        let (_db, engine) = engine_in(shape).await;
        let presence = Presence::new(engine.db().clone(), None);
        let (live, dead, earlier) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
        register(&presence, "live", live).await;
        let gone = register(&presence, "dead", dead).await;
        presence.leave(&gone).await.unwrap();

        let tries = "attempt = 1, errors = errors || '{\"attempt\": 1}'::jsonb";
        let orphan = executing(&engine, "dead", dead, tries).await;
        let before = executing(&engine, "live", earlier, tries).await;
        let last = executing(&engine, "dead", dead, "attempt = 20").await;
        let untouched = [
            executing(&engine, "live", live, tries).await,
            executing(&engine, "elixir@host", Uuid::now_v7(), tries).await,
            with(&engine, job(), &format!("attempted_by = ARRAY['dead', '{dead}'], state = 'retryable'")).await,
        ];
        let mut rows = Vec::new();
        for id in untouched {
            rows.push(row(engine.db(), id).await);
        }
        let mut expected = row(engine.db(), orphan).await;
        expected["state"] = json!("available");

        let rescued = engine.rescue().await.unwrap();
        let of = |id, instance: &str, discarded| Rescued {
            id,
            queue: "default".into(),
            instance_id: instance.into(),
            discarded,
        };
        assert_eq!(rescued, [of(orphan, "dead", false), of(before, "live", false), of(last, "dead", true)]);
        assert_eq!(row(engine.db(), orphan).await, expected, "the state alone, as in Oban");
        assert_eq!(state(&engine, before).await, State::Available);
        let discarded = row(engine.db(), last).await;
        assert_eq!((&discarded["state"], discarded["discarded_at"].is_string()), (&json!("discarded"), true));
        for (id, before) in untouched.into_iter().zip(rows) {
            assert_eq!(row(engine.db(), id).await, before, "{shape:?}");
        }
        assert!(engine.rescue().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn several_rescuers_at_once_rescue_each_job_once() {
    let (_db, engine) = engine().await;
    let presence = Presence::new(engine.db().clone(), None);
    let producer = Uuid::now_v7();
    let gone = register(&presence, "dead", producer).await;
    engine.insert_many(vec![job(); 200]).await.unwrap();
    let owner =
        format!("UPDATE oban_jobs SET state = 'executing', attempt = 1, attempted_by = ARRAY['dead', '{producer}']");
    sqlx::raw_sql(sqlx::AssertSqlSafe(owner)).execute(engine.db().pool()).await.unwrap();
    assert!(engine.rescue().await.unwrap().is_empty(), "its owner is alive");
    presence.leave(&gone).await.unwrap();
    let (a, b, c) = tokio::join!(engine.rescue(), engine.rescue(), engine.rescue());
    let mut all: Vec<i64> = [a, b, c].into_iter().flat_map(|rescued| rescued.unwrap()).map(|job| job.id).collect();
    all.extend(engine.rescue().await.unwrap().iter().map(|job| job.id));
    assert_eq!(all.len(), 200);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 200);
}
