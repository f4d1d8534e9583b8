//! Conformance point 12: which jobs pruning and rescue take, and which they leave.

use std::time::Duration;

use serde_json::{Value, json};
use singularity::config::{Config, Mode, Period, PeriodOrOff};
use singularity::instance::{Beat, Identity, Presence};
use singularity::queue::engine::Rescued;
use singularity::queue::{Engine, NewJob, State};
use uuid::Uuid;

use crate::support::db::TestDb;
use crate::support::node::{Fixture, TestNode, until};
use crate::support::rows::{SHAPES, engine, engine_in, row, set_columns, state, with};

const HOUR: Duration = Duration::from_secs(3_600);
/// Just before and just after an hour ago.
const OLD: &str = "timezone('UTC', now()) - interval '1 hour 1 second'";
const YOUNG: &str = "timezone('UTC', now()) - interval '59 minutes'";

fn job() -> NewJob {
    NewJob::new("w", json!({}))
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
async fn oban_12_rescue_takes_over_from_the_dead_and_from_earlier_processes_and_from_nobody_else() {
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
            // Nodes of other runtimes may have an instance's name; their producers are not ours.
            executing(&engine, "dead", FOREIGN_PRODUCER, tries).await,
            executing(&engine, "live", FOREIGN_PRODUCER, tries).await,
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
        assert_gave_up(&discarded, "dead");
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

/// The last error is of Oban's form and says whose job it was.
fn assert_gave_up(row: &Value, owner: &str) {
    let error = row["errors"].as_array().unwrap().last().unwrap();
    let mut keys: Vec<&String> = error.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["at", "attempt", "error"]);
    assert_eq!(error["attempt"], row["attempt"]);
    let at = error["at"].as_str().unwrap();
    assert!(at.ends_with('Z') && chrono::DateTime::parse_from_rfc3339(at).is_ok(), "{at}");
    let text = error["error"].as_str().unwrap();
    assert_eq!(
        text,
        format!("** (OwnerGone) w did not end on \"{owner}\", which is gone, and this was its last attempt")
    );
}

/// Of version 4, as Oban for Elixir and for Python make them.
const FOREIGN_PRODUCER: Uuid = Uuid::from_u128(0x6f9619ff_8b86_4d01_b42d_00cf4fc964ff);

/// Owners as Oban for Elixir, its inline engine, and Oban for Python write them, and none.
const FOREIGN_OWNERS: [&str; 5] = [
    "ARRAY['web@host', '6f9619ff-8b86-4d01-b42d-00cf4fc964ff']",
    "ARRAY['host']",
    "ARRAY['host.4711', '6f9619ff-8b86-4d01-b42d-00cf4fc964ff']",
    "ARRAY['drain', 'drain']",
    "ARRAY[]::text[]",
];

#[tokio::test]
async fn oban_12_rescue_by_age_cuts_by_attempted_at_and_takes_nothing_of_registered_instances() {
    for shape in SHAPES {
        let (_db, engine) = engine_in(shape).await;
        let presence = Presence::new(engine.db().clone(), None);
        let (live, dead) = (Uuid::now_v7(), Uuid::now_v7());
        register(&presence, "live", live).await;
        presence.leave(&register(&presence, "dead", dead).await).await.unwrap();

        let with_owner = |owner: String, set: &'static str| {
            let engine = &engine;
            async move { with(engine, job(), &format!("state = 'executing', attempted_by = {owner}, {set}")).await }
        };
        let (old, young) = (
            "attempt = 1, attempted_at = timezone('UTC', now()) - interval '3601 s'",
            "attempt = 1, attempted_at = timezone('UTC', now()) - interval '3590 s'",
        );
        let (mut taken, mut spared) = (Vec::new(), Vec::new());
        // The last two have the names of instances and producers that are not ours.
        let same = ["live", "dead"].map(|name| format!("ARRAY['{name}', '{}']", FOREIGN_PRODUCER));
        for owner in FOREIGN_OWNERS.iter().map(|owner| (*owner).to_owned()).chain(same) {
            taken.push(with_owner(owner.clone(), old).await);
            spared.push(with_owner(owner, young).await);
        }
        for (name, producer) in [("live", live), ("dead", dead), ("live", Uuid::now_v7())] {
            spared.push(with_owner(format!("ARRAY['{name}', '{producer}']"), old).await);
        }
        spared.push(with_owner(FOREIGN_OWNERS[0].into(), "attempted_at = NULL").await);
        for state in ["available", "scheduled", "retryable", "completed"] {
            let id = with_owner(FOREIGN_OWNERS[0].into(), old).await;
            set_columns(&engine, id, &format!("state = '{state}'")).await;
            spared.push(id);
        }
        let last = with_owner(FOREIGN_OWNERS[0].into(), old).await;
        set_columns(&engine, last, "attempt = 20").await;
        let mut before = Vec::new();
        for id in taken.iter().chain(&spared) {
            before.push(row(engine.db(), *id).await);
        }
        let rescued = engine.rescue_by_age(HOUR).await.unwrap();
        let ids: Vec<(i64, bool)> = rescued.iter().map(|job| (job.id, job.discarded)).collect();
        let wanted: Vec<(i64, bool)> = taken.iter().map(|id| (*id, false)).chain([(last, true)]).collect();
        assert_eq!(ids, wanted, "{shape:?}");
        taken.iter().enumerate().for_each(|(n, _)| before[n]["state"] = json!("available"));
        for (id, before) in taken.iter().chain(&spared).zip(before) {
            assert_eq!(row(engine.db(), *id).await, before, "{shape:?}: the state alone, as in Oban");
        }
        let discarded = row(engine.db(), last).await;
        assert_eq!((&discarded["state"], discarded["discarded_at"].is_string()), (&json!("discarded"), true));
        assert_gave_up(&discarded, "web@host");
        assert!(engine.rescue_by_age(HOUR).await.unwrap().is_empty());
    }
}

async fn left(engine: &Engine) -> Vec<i64> {
    sqlx::query_scalar("SELECT id FROM oban_jobs ORDER BY id").fetch_all(engine.db().pool()).await.unwrap()
}

/// Every state, with each of the four times old while the others are young: only Oban's column decides.
#[tokio::test]
async fn oban_12_prune_cuts_by_obans_column_of_each_state() {
    let columns = ["scheduled_at", "completed_at", "cancelled_at", "discarded_at"];
    let decides = [("completed", "scheduled_at"), ("cancelled", "cancelled_at"), ("discarded", "discarded_at")];
    for shape in SHAPES {
        let (_db, engine) = engine_in(shape).await;
        let (mut doomed, mut spared) = (Vec::new(), Vec::new());
        for state in
            ["suspended", "scheduled", "available", "executing", "retryable", "completed", "discarded", "cancelled"]
        {
            for old in columns {
                let times = columns.map(|column| format!("{column} = {}", if column == old { OLD } else { YOUNG }));
                let id = with(&engine, job(), &format!("state = '{state}', {}", times.join(", "))).await;
                if decides.contains(&(state, old)) { doomed.push(id) } else { spared.push(id) }
            }
        }
        // Without its time a job stays for ever.
        for state in ["cancelled", "discarded"] {
            spared.push(
                with(&engine, job(), &format!("state = '{state}', scheduled_at = {OLD}, completed_at = {OLD}")).await,
            );
        }
        let pruned = engine.prune(HOUR, 100).await.unwrap();
        assert_eq!((pruned.completed, pruned.cancelled, pruned.discarded), (1, 1, 1), "{shape:?}");
        assert_eq!(left(&engine).await, spared, "{shape:?}, doomed were {doomed:?}");
        assert_eq!(engine.prune(HOUR, 100).await.unwrap().count(), 0);
    }
}

#[tokio::test]
async fn oban_12_prune_deletes_at_most_its_limit_of_all_states_together() {
    let (_db, engine) = engine().await;
    for state in ["completed", "cancelled", "discarded"] {
        for _ in 0..3 {
            let times = format!("scheduled_at = {OLD}, cancelled_at = {OLD}, discarded_at = {OLD}");
            with(&engine, job(), &format!("state = '{state}', {times}")).await;
        }
    }
    let mut counts = Vec::new();
    for _ in 0..4 {
        counts.push(engine.prune(HOUR, 4).await.unwrap().count());
    }
    assert_eq!(counts, [4, 4, 1, 0]);
}

#[tokio::test]
async fn oban_12_prune_neither_waits_for_nor_takes_a_job_that_is_retried_meanwhile() {
    let (_db, engine) = engine().await;
    let id = with(&engine, job(), &format!("state = 'discarded', discarded_at = {OLD}")).await;
    let mut person = engine.db().pool().begin().await.unwrap();
    let sql = format!("UPDATE oban_jobs SET state = 'available' WHERE id = {id}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut *person).await.unwrap();
    let pruned = tokio::time::timeout(Duration::from_secs(4), engine.prune(HOUR, 10)).await;
    assert_eq!(pruned.expect("no wait").unwrap().count(), 0);
    person.commit().await.unwrap();
    assert_eq!(engine.prune(HOUR, 10).await.unwrap().count(), 0);
    assert_eq!(row(engine.db(), id).await["state"], "available");
}

#[tokio::test]
async fn several_pruners_at_once_count_every_job_once() {
    let (_db, engine) = engine().await;
    engine.insert_many(vec![job(); 300]).await.unwrap();
    let sql = format!("UPDATE oban_jobs SET state = 'completed', scheduled_at = {OLD}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(engine.db().pool()).await.unwrap();
    let (a, b, c) = tokio::join!(engine.prune(HOUR, 200), engine.prune(HOUR, 200), engine.prune(HOUR, 200));
    let mut total = [a, b, c].into_iter().map(|pruned| pruned.unwrap().count()).sum::<u64>();
    total += engine.prune(HOUR, 300).await.unwrap().count();
    assert_eq!((total, left(&engine).await.len()), (300, 0));
}

fn prunes(config: &mut Config) {
    config.services.pruner.interval = Period::from_millis(20);
    config.services.pruner.max_age = PeriodOrOff::on(Period::from_secs(3_600));
}

async fn old_job(engine: &Engine) -> i64 {
    with(engine, job(), &format!("state = 'completed', scheduled_at = {OLD}")).await
}

async fn until_gone(engine: &Engine, id: i64) {
    until("pruning", || async { engine.get(id).await.unwrap().is_none().then_some(()) }).await;
}

/// How often the pruner of a node has run.
fn runs(node: &TestNode) -> u64 {
    node.system().snapshot().find("/services/pruner").unwrap().mailbox.as_ref().unwrap().processed
}

#[tokio::test]
async fn only_the_leader_prunes_and_results_outlive_their_jobs() {
    let (db, database) = TestDb::migrated().await;
    let foreign = "INSERT INTO oban_peers
        VALUES ('Oban', 'elixir@host', timezone('UTC', now()), timezone('UTC', now()) + interval '1 h')";
    sqlx::raw_sql(foreign).execute(database.pool()).await.unwrap();
    let node = TestNode::start(db.url(), "one", &Fixture::new(), |config| {
        prunes(config);
        config.mode = Mode::Peer;
        config.services.leader.lease = Period::from_secs(1);
    })
    .await;
    let id = old_job(node.engine()).await;
    let result = "INSERT INTO job_results (job_id, attempt, instance_id, job_type, workflow_type, success, duration_ms)
        VALUES ($1, 1, 'one', 'w', 'w', true, 1)";
    sqlx::query(result).bind(id).execute(database.pool()).await.unwrap();
    let before = runs(&node);
    until("five runs", || async { (runs(&node) >= before + 5).then_some(()) }).await;
    assert!(node.engine().get(id).await.unwrap().is_some(), "another leads");
    sqlx::raw_sql("DELETE FROM oban_peers").execute(database.pool()).await.unwrap();
    until_gone(node.engine(), id).await;
    let results: i64 = sqlx::query_scalar("SELECT count(*) FROM job_results WHERE job_id = $1")
        .bind(id)
        .fetch_one(database.pool())
        .await
        .unwrap();
    assert_eq!(results, 1);
    node.shutdown().await;
}

/// All are gone before the second run: a full batch is followed by the next at once.
#[tokio::test]
async fn a_full_batch_is_followed_by_the_next_at_once() {
    let (db, _database) = TestDb::migrated().await;
    let node = TestNode::start(db.url(), "one", &Fixture::new(), |config| {
        prunes(config);
        config.services.pruner.limit = 2;
        config.services.pruner.interval = Period::from_secs(8);
    })
    .await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(old_job(node.engine()).await);
    }
    until("the first batch", || async { (left(node.engine()).await.len() < 20).then_some(()) }).await;
    let first = tokio::time::Instant::now();
    for id in ids {
        until_gone(node.engine(), id).await;
    }
    assert!(first.elapsed() < Duration::from_secs(8), "{:?}", first.elapsed());
    assert_eq!(left(node.engine()).await.len(), 0);
    node.shutdown().await;
}

#[tokio::test]
async fn a_pruner_that_is_off_is_not_there() {
    let (db, _database) = TestDb::migrated().await;
    let node = TestNode::start(db.url(), "one", &Fixture::new(), |config| {
        config.services.pruner.max_age = PeriodOrOff::OFF;
    })
    .await;
    assert!(node.system().snapshot().find("/services/pruner").is_none());
    assert!(node.system().snapshot().find("/services/stager").is_some());
    node.shutdown().await;
}

/// A job that is pruned was finished; one that somebody put back is not.
#[tokio::test]
async fn a_job_that_was_put_back_is_spared_by_its_state_alone() {
    let (_db, engine) = engine().await;
    let id = old_job(&engine).await;
    set_columns(&engine, id, "state = 'retryable'").await;
    assert_eq!(engine.prune(Duration::ZERO, 10).await.unwrap().count(), 0);
    assert_eq!(engine.get(id).await.unwrap().unwrap().state, State::Retryable);
}
