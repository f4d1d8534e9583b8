//! Periodic jobs: one for each time, whoever leads and whoever dies, and what becomes of missed times.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::{DateTime, Timelike, Utc};
use futures_util::future::join_all;
use serde_json::{Value, json};
use singularity::config::{CatchUp, Config, Cron, CronUnique, Object, Period, PeriodOrOff};
use singularity::postgres::Database;
use singularity::queue::engine::CronDecision;
use singularity::queue::{
    Crontab, Engine, JobContext, JobError, Outcome, Unique, UniqueField, Worker, WorkerOptions, Workers,
};

use crate::support::db::{TestDb, waits_for_a_lock};
use crate::support::node::{Fixture, TestNode, until};
use crate::support::process::Place;
use crate::support::rows::engine;

const LEASE: Duration = Duration::from_secs(30);

fn entry(expr: &str, catch_up: CatchUp) -> Cron {
    Cron { expr: expr.into(), worker: "elsewhere".into(), queue: Some("elsewhere".into()), catch_up, ..Cron::default() }
}

fn crontab<const N: usize>(entries: [(&str, Cron); N]) -> Crontab {
    let entries: BTreeMap<_, _> = entries.into_iter().map(|(name, entry)| (name.to_owned(), entry)).collect();
    Crontab::new(&entries, LEASE, &Workers::default()).unwrap()
}

/// What a leader would do now.
async fn decisions(engine: &Engine, crontab: &Crontab) -> Vec<CronDecision> {
    let stand = engine.cron_stand("Oban", &crontab.keys(), Duration::ZERO).await.unwrap();
    crontab.plan(&stand.decided_until, stand.now, None).decisions
}

/// Time and number of jobs of every time that an entry has jobs of.
async fn times(database: &Database, name: &str) -> Vec<(DateTime<Utc>, i64)> {
    let sql = "SELECT (meta->>'cron_at')::timestamptz, count(*) FROM oban_jobs WHERE meta->>'cron_name' = $1
               GROUP BY 1 ORDER BY 1";
    sqlx::query_as(sql).bind(name).fetch_all(database.pool()).await.unwrap()
}

/// As if the entry had last been looked at so long ago.
async fn set_back(database: &Database, name: &str, seconds: f64) {
    let sql = "UPDATE cron_entries SET decided_until = clock_timestamp() - $2 * interval '1 second' WHERE name = $1";
    let done = sqlx::query(sql).bind(name).bind(seconds).execute(database.pool()).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
}

/// An entry that was known before the first node starts.
async fn known(database: &Database, name: &str, entry: &Cron, seconds: f64) {
    let sql =
        "INSERT INTO cron_entries (oban_name, name, expr, timezone, decided_until) VALUES ('Oban', $1, $2, $3, now())";
    let known = sqlx::query(sql).bind(name).bind(&entry.expr).bind(&entry.timezone);
    known.execute(database.pool()).await.unwrap();
    set_back(database, name, seconds).await;
}

fn leader(entries: Vec<(&'static str, Cron)>) -> impl FnOnce(&mut Config) {
    move |config| {
        config.services.leader.lease = Period::from_secs(300);
        config.cron = entries.into_iter().map(|(name, entry)| (name.to_owned(), entry)).collect();
    }
}

#[tokio::test]
async fn a_new_entry_and_one_with_another_expression_have_missed_nothing() {
    let (_db, engine) = engine().await;
    let secondly = crontab([("e", entry("* * * * * *", CatchUp::All))]);
    assert!(decisions(&engine, &secondly).await.is_empty(), "not even the present second");
    set_back(engine.db(), "e", 100.0).await;
    // One more where a second ends between the two clocks that are read.
    let missed = decisions(&engine, &secondly).await[0].jobs.len();
    assert!((100..=101).contains(&missed), "{missed}");
    let minutely = crontab([("e", entry("*/1 * * * * *", CatchUp::All))]);
    assert!(decisions(&engine, &minutely).await.is_empty(), "another expression");
    set_back(engine.db(), "e", 100.0).await;
    let elsewhere = Cron { timezone: "Europe/Berlin".into(), ..entry("*/1 * * * * *", CatchUp::All) };
    assert!(decisions(&engine, &crontab([("e", elsewhere)])).await.is_empty(), "another zone");
    // Another Oban's entry of the same name is another entry.
    assert!(engine.cron_stand("Other", &minutely.keys(), Duration::ZERO).await.unwrap().decided_until[0].is_some());
    assert_eq!(engine.cron_overview("Other").await.unwrap().rows.len(), 1);
}

#[tokio::test]
async fn an_entry_goes_on_after_the_databases_clock_was_far_ahead() {
    let (_db, engine) = engine().await;
    let secondly = crontab([("e", entry("* * * * * *", CatchUp::All)), ("f", entry("@daily", CatchUp::All))]);
    decisions(&engine, &secondly).await;
    // Decided in a moment in which the clock showed tomorrow, or was a little ahead.
    set_back(engine.db(), "e", -86_400.0).await;
    set_back(engine.db(), "f", -1_800.0).await;
    let stand = engine.cron_stand("Oban", &secondly.keys(), Duration::ZERO).await.unwrap();
    assert!(stand.set_back[0].is_some_and(|was| was > stand.now), "{stand:?}");
    assert!(stand.decided_until[0].is_some_and(|until| until <= stand.now), "{stand:?}");
    assert_eq!(stand.set_back[1], None);
    assert!(stand.decided_until[1].is_some_and(|until| until > stand.now), "{stand:?}");
    assert_eq!(engine.cron_stand("Oban", &secondly.keys(), Duration::ZERO).await.unwrap().set_back, [None, None]);
    set_back(engine.db(), "e", 3.0).await;
    assert!(!decisions(&engine, &secondly).await.is_empty());
}

#[tokio::test]
async fn a_reboot_entry_fires_once_a_start_also_after_the_databases_clock_was_far_ahead() {
    let (_db, engine) = engine().await;
    let reboot = crontab([("r", entry("@reboot", CatchUp::None))]);
    let now = engine.cron_stand("Oban", &reboot.keys(), Duration::ZERO).await.unwrap().now;
    // This process led first in a moment in which the clock showed tomorrow.
    let first_led = now + chrono::TimeDelta::days(1);
    for _ in 0..3 {
        let stand = engine.cron_stand("Oban", &reboot.keys(), Duration::ZERO).await.unwrap();
        assert_eq!(stand.set_back, [None]);
        let plan = reboot.plan(&stand.decided_until, stand.now, Some(first_led));
        engine.cron_decide("Oban", plan.decisions).await.unwrap();
    }
    let jobs: i64 = sqlx::query_scalar("SELECT count(*) FROM oban_jobs").fetch_one(engine.db().pool()).await.unwrap();
    assert_eq!(jobs, 1);
    // What was another entry until now has to be put right nevertheless.
    decisions(&engine, &crontab([("s", entry("@daily", CatchUp::None))])).await;
    set_back(engine.db(), "s", -86_400.0).await;
    let stand = engine
        .cron_stand("Oban", &crontab([("s", entry("@reboot", CatchUp::None))]).keys(), Duration::ZERO)
        .await
        .unwrap();
    assert!(stand.decided_until[0].is_some_and(|until| until <= stand.now), "{stand:?}");
}

/// Also where the server's own default of isolation is another one: the second of two would fail to serialise, or not
/// see what the first has moved.
#[tokio::test]
async fn of_many_stale_leaders_one_inserts_each_time_also_after_its_job_was_deleted() {
    for level in ["read committed", "repeatable read", "serializable"] {
        let (db, database) = TestDb::migrated().await;
        drop(database);
        let set = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = %L',
                   current_database(), 'LEVEL'); END $$";
        db.execute(set.replace("LEVEL", level)).await;
        let database = db.connect("public").await;
        let shown: String = sqlx::query_scalar("SHOW transaction_isolation").fetch_one(database.pool()).await.unwrap();
        assert_eq!(shown, level);
        stale_leaders(&Engine::new(database)).await;
    }
}

async fn stale_leaders(engine: &Engine) {
    let crontab = crontab([("a", entry("* * * * * *", CatchUp::All)), ("b", entry("*/5 * * * * *", CatchUp::None))]);
    decisions(engine, &crontab).await;
    for name in ["a", "b"] {
        set_back(engine.db(), name, 20.0).await;
    }
    // Everybody decides before anybody acts; half of them in the opposite order.
    let mut stale = join_all((0..8).map(|_| decisions(engine, &crontab))).await;
    stale.iter_mut().step_by(2).for_each(|decisions| decisions.reverse());
    let again = stale.clone();
    let all = join_all(stale.into_iter().map(|decisions| engine.cron_decide("Oban", decisions))).await;
    let done: usize = all.iter().map(|counts| counts.as_ref().unwrap().iter().flatten().count()).sum();
    assert_eq!(done, 2, "each entry was moved once: {all:?}");
    let a = times(engine.db(), "a").await;
    assert!(a.len() >= 20 && a.iter().all(|(_, jobs)| *jobs == 1), "{a:?}");
    // One more where five seconds end between the two clocks that are read.
    let b = times(engine.db(), "b").await;
    assert!((4..=5).contains(&b.len()) && b.iter().all(|(_, jobs)| *jobs == 1), "{b:?}");
    sqlx::query("DELETE FROM oban_jobs").execute(engine.db().pool()).await.unwrap();
    for decisions in again {
        assert_eq!(engine.cron_decide("Oban", decisions).await.unwrap(), [None, None]);
    }
    assert!(times(engine.db(), "a").await.is_empty(), "deleted rows do not come back");
}

#[tokio::test]
async fn two_nodes_that_both_believe_to_lead_insert_each_second_once() {
    let (db, database) = TestDb::migrated().await;
    let fixture = Fixture::new();
    let entries = || leader(vec![("e", entry("* * * * * *", CatchUp::None))]);
    let one = TestNode::start(db.url(), "one", &fixture, entries()).await;
    until("jobs of the first", || async { (times(&database, "e").await.len() >= 2).then_some(()) }).await;
    // Its belief lasts five minutes.
    sqlx::query("DELETE FROM oban_peers").execute(database.pool()).await.unwrap();
    let two = TestNode::start(db.url(), "two", &fixture, entries()).await;
    let due = |node: &TestNode| node.system().snapshot().find("/services/cron")?.labels.get("next").cloned();
    until("both to lead", || async {
        [&one, &two].iter().all(|node| due(node).is_some_and(|next| next.ends_with('Z'))).then_some(())
    })
    .await;
    let so_far = times(&database, "e").await.len();
    until("jobs of both", || async { (times(&database, "e").await.len() >= so_far + 3).then_some(()) }).await;
    let times = times(&database, "e").await;
    assert!(times.iter().all(|(_, jobs)| *jobs == 1), "{times:?}");
    assert!(
        times.windows(2).all(|pair| (pair[1].0 - pair[0].0).num_seconds() == 1),
        "no second is left out: {times:?}"
    );
    one.shutdown().await;
    two.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_of_the_leader_in_the_middle_of_an_insertion_each_time_has_one_job() {
    let (db, database) = TestDb::migrated().await;
    let config = "[services.leader]\nlease = \"2s\"\n\
        [cron.e]\nexpr = \"*/20 * * * *\"\nworker = \"elsewhere\"\nqueue = \"elsewhere\"\ncatch_up = \"all\"\n";
    let place = Place::new(&db, config);
    known(&database, "e", &entry("*/20 * * * *", CatchUp::All), 7_200.0).await;
    // Nobody can insert a job, so the leader stands between its two statements.
    let mut lock = database.pool().begin().await.unwrap();
    sqlx::query("LOCK TABLE oban_jobs IN SHARE MODE").execute(&mut *lock).await.unwrap();
    let (one, _) = place.start(&["--instance-id", "one"]);
    until("the insertion", || async { waits_for_a_lock(&database, "%INSERT INTO%oban_jobs%").await.then_some(()) })
        .await;
    one.signal("KILL");
    one.finish();
    lock.rollback().await.unwrap();
    let (two, _) = place.start(&["--instance-id", "two"]);
    let times =
        until("the jobs", || async { Some(times(&database, "e").await).filter(|times| times.len() >= 6) }).await;
    assert!(times.iter().all(|(_, jobs)| *jobs == 1), "{times:?}");
    assert!(times.windows(2).all(|pair| (pair[1].0 - pair[0].0).num_minutes() == 20), "{times:?}");
    two.signal("TERM");
    assert_eq!(two.finish().0.code(), Some(0));
}

#[tokio::test]
async fn after_five_hours_without_a_leader_each_policy_does_as_it_says() {
    let (db, database) = TestDb::migrated().await;
    // Once an hour, last half an hour ago: never near the present.
    let expr = format!("{} * * * *", (Utc::now().minute() + 30) % 60);
    let entries = [("none", CatchUp::None), ("last", CatchUp::Last), ("all", CatchUp::All)];
    let short = Cron { catch_up_within: Period::from_secs(2 * 3_600), ..entry(&expr, CatchUp::All) };
    let mut configured: Vec<_> = entries.map(|(name, policy)| (name, entry(&expr, policy))).to_vec();
    configured.push(("short", short));
    for (name, entry) in &configured {
        known(&database, name, entry, 5.0 * 3_600.0).await;
    }
    let node = TestNode::start(db.url(), "one", &Fixture::new(), leader(configured)).await;
    until("decisions", || async { (!times(&database, "all").await.is_empty()).then_some(()) }).await;
    for (name, expected) in [("none", 0), ("last", 1), ("all", 5), ("short", 2)] {
        let times = times(&database, name).await;
        assert_eq!(times.len(), expected, "{name}: {times:?}");
        assert!(times.iter().all(|(at, jobs)| *jobs == 1 && (Utc::now() - *at).num_hours() < 5));
    }
    node.shutdown().await;
}

#[tokio::test]
async fn reboot_entries_get_one_job_of_each_process_that_leads() {
    let (db, database) = TestDb::migrated().await;
    let entries =
        || leader(vec![("boot", entry("@reboot", CatchUp::None)), ("e", entry("* * * * * *", CatchUp::None))]);
    let fixture = Fixture::new();
    let one = TestNode::start(db.url(), "one", &fixture, entries()).await;
    let more_of_e = async || {
        let so_far = times(&database, "e").await.len();
        until("a tick", || async { (times(&database, "e").await.len() > so_far).then_some(()) }).await;
    };
    more_of_e().await;
    assert_eq!(times(&database, "boot").await.len(), 1);
    // A crash of the actor is no start of the process.
    assert!(one.system().kill("/services/cron"));
    until("the restart", || async {
        (one.system().snapshot().find("/services/cron")?.restarts_total == 1).then_some(())
    })
    .await;
    more_of_e().await;
    assert_eq!(times(&database, "boot").await.len(), 1);
    one.shutdown().await;
    let two = TestNode::start(db.url(), "two", &fixture, entries()).await;
    until("the second start", || async { (times(&database, "boot").await.len() == 2).then_some(()) }).await;
    two.shutdown().await;
}

#[tokio::test]
async fn who_follows_inserts_nothing_and_says_so() {
    let (db, database) = TestDb::migrated().await;
    let one = TestNode::start(db.url(), "one", &Fixture::new(), leader(vec![])).await;
    until("a leader", || async {
        let tree = one.system().snapshot();
        (tree.find("/infra/peer")?.labels.get("leader")? == "yes").then_some(())
    })
    .await;
    let entries = leader(vec![("e", entry("* * * * * *", CatchUp::None))]);
    let two = TestNode::start(db.url(), "two", &Fixture::new(), entries).await;
    let next = until("its looks", || async {
        let tree = two.system().snapshot();
        let cron = tree.find("/services/cron")?;
        (cron.mailbox.as_ref()?.processed >= 3).then(|| cron.labels.get("next").cloned())?
    })
    .await;
    assert_eq!(next, "when this instance leads");
    assert!(times(&database, "e").await.is_empty());
    let entries: i64 =
        sqlx::query_scalar("SELECT count(*) FROM cron_entries").fetch_one(database.pool()).await.unwrap();
    assert_eq!(entries, 0);
    two.shutdown().await;
    one.shutdown().await;
}

/// Nobody of them leads, and a leader of another runtime does not know their entries.
#[tokio::test]
async fn guests_insert_each_time_once_and_leave_starts_to_a_leader() {
    let (db, database) = TestDb::migrated().await;
    let guest = || {
        |config: &mut Config| {
            let entries = [("e", entry("* * * * * *", CatchUp::None)), ("boot", entry("@reboot", CatchUp::None))];
            leader(entries.into())(config);
            config.mode = singularity::config::Mode::Guest;
        }
    };
    let one = TestNode::start(db.url(), "one", &Fixture::new(), guest()).await;
    let two = TestNode::start(db.url(), "two", &Fixture::new(), guest()).await;
    let jobs = until("jobs", || async { Some(times(&database, "e").await).filter(|times| times.len() >= 4) }).await;
    assert!(jobs.iter().all(|(_, jobs)| *jobs == 1), "{jobs:?}");
    assert!(times(&database, "boot").await.is_empty());
    one.shutdown().await;
    let before = times(&database, "e").await.len();
    until("jobs of the other", || async { (times(&database, "e").await.len() > before + 1).then_some(()) }).await;
    two.shutdown().await;
}

/// As while a fleet is being updated. The two expressions mean the same times, and each changes the other's entry.
#[tokio::test]
async fn guests_whose_tables_differ_leave_no_time_out() {
    let (db, database) = TestDb::migrated().await;
    let guest = |expr: &'static str| {
        move |config: &mut Config| {
            leader(vec![("e", entry(expr, CatchUp::None))])(config);
            config.mode = singularity::config::Mode::Guest;
        }
    };
    let one = TestNode::start(db.url(), "one", &Fixture::new(), guest("* * * * * *")).await;
    let two = TestNode::start(db.url(), "two", &Fixture::new(), guest("*/1 * * * * *")).await;
    let jobs = until("jobs", || async { Some(times(&database, "e").await).filter(|times| times.len() >= 8) }).await;
    assert!(jobs.iter().all(|(_, jobs)| *jobs == 1), "{jobs:?}");
    let gaps = jobs.windows(2).filter(|pair| (pair[1].0 - pair[0].0).num_seconds() > 1).count();
    assert_eq!(gaps, 0, "{jobs:?}");
    one.shutdown().await;
    two.shutdown().await;
}

#[tokio::test]
async fn an_entry_whose_job_the_database_refuses_does_not_hold_up_the_others() {
    let (db, database) = TestDb::migrated().await;
    db.execute("ALTER TABLE oban_jobs ADD CONSTRAINT no_bad CHECK (worker <> 'bad')").await;
    let bad = Cron { worker: "bad".into(), ..entry("* * * * * *", CatchUp::None) };
    let entries = leader(vec![("bad", bad), ("good", entry("* * * * * *", CatchUp::None))]);
    let node = TestNode::start(db.url(), "one", &Fixture::new(), entries).await;
    let jobs = until("jobs of the good one", || async {
        Some(times(&database, "good").await).filter(|times| times.len() >= 3)
    })
    .await;
    assert!(jobs.iter().all(|(_, jobs)| *jobs == 1), "{jobs:?}");
    db.execute("ALTER TABLE oban_jobs DROP CONSTRAINT no_bad").await;
    until("the other", || async { (!times(&database, "bad").await.is_empty()).then_some(()) }).await;
    node.shutdown().await;
}

/// Its jobs are the same when their kinds are, for an hour.
struct Report;

impl Worker for Report {
    type Args = Value;
    const NAME: &'static str = "report";
    const OPTIONS: WorkerOptions = WorkerOptions {
        queue: "elsewhere",
        max_attempts: 3,
        priority: 4,
        tags: &["report"],
        unique: Some(|| Unique {
            fields: vec![UniqueField::Args],
            keys: vec!["kind".into()],
            period: Some(Duration::from_secs(3_600)),
            ..Unique::forever()
        }),
        ..WorkerOptions::DEFAULT
    };

    async fn perform(&self, _: Value, _: JobContext) -> Result<Outcome, JobError> {
        Ok(Outcome::Completed)
    }
}

#[tokio::test]
async fn jobs_have_their_workers_options_and_over_them_their_entrys_also_when_they_are_unique() {
    let (db, database) = TestDb::migrated().await;
    let report = |kind: &str| {
        let args = Object(json!({ "kind": kind }).as_object().unwrap().clone());
        Cron { expr: "* * * * * *".into(), worker: "report".into(), args, ..Cron::default() }
    };
    let own = Cron {
        priority: Some(1),
        unique: Some(CronUnique { period: Some(PeriodOrOff::on(Period::from_secs(2))), ..CronUnique::default() }),
        ..report("often")
    };
    let mut workers = Workers::default();
    workers.register(Report);
    let node = TestNode::try_start(db.url(), "one", workers, |config| {
        leader(vec![("hourly", report("hourly")), ("often", own), ("tick", entry("* * * * * *", CatchUp::None))])(
            config,
        );
    })
    .await
    .unwrap();
    // Both were due as often as the third, whose jobs are never the same.
    until("eight seconds", || async { (times(&database, "tick").await.len() >= 8).then_some(()) }).await;
    until("a second job of its own period", || async { (times(&database, "often").await.len() >= 2).then_some(()) })
        .await;
    let hourly = times(&database, "hourly").await;
    assert_eq!(hourly.len(), 1, "its worker's period: {hourly:?}");
    let (often, ticks) = (times(&database, "often").await, times(&database, "tick").await.len());
    assert!(often.len() < ticks, "its own period, its worker's keys: {often:?} of {ticks}");
    let sql = "SELECT DISTINCT meta->>'cron_name', queue, max_attempts, priority, tags::text FROM oban_jobs
               WHERE worker = 'report' ORDER BY 1";
    let options: Vec<(String, String, i32, i32, String)> =
        sqlx::query_as(sql).fetch_all(database.pool()).await.unwrap();
    let of = |name: &str, priority| (name.to_owned(), "elsewhere".to_owned(), 3, priority, "{report}".to_owned());
    assert_eq!(options, [of("hourly", 4), of("often", 1)]);
    // Its only job belongs to its first time.
    let sql = "SELECT decided_until FROM cron_entries WHERE name = 'hourly' AND job_id IS NOT NULL";
    let decided: DateTime<Utc> = sqlx::query_scalar(sql).fetch_one(database.pool()).await.unwrap();
    assert!(decided > hourly[0].0 + chrono::TimeDelta::seconds(3), "times without a new job are decided too");
    node.shutdown().await;
}

#[tokio::test]
async fn jobs_of_built_in_workflows_have_what_their_table_says_and_over_it_their_entrys() {
    let (db, database) = TestDb::migrated().await;
    let ask = || {
        let args = Object(json!({ "prompt": "hello", "model": "sim_flash" }).as_object().unwrap().clone());
        Cron { expr: "* * * * * *".into(), worker: "llm_request".into(), args, ..Cron::default() }
    };
    let node = TestNode::try_start(db.url(), "one", Workers::default(), |config| {
        let paused = config.queues["default"].clone();
        config.queues.insert("asked".into(), singularity::config::Queue { paused: true, ..paused });
        config.workflows.llm_request.queue = "asked".into();
        config.workflows.llm_request.max_attempts = 7;
        leader(vec![("as_told", ask()), ("own", Cron { max_attempts: Some(2), ..ask() })])(config);
    })
    .await
    .unwrap();
    let jobs = || async {
        let sql = "SELECT DISTINCT meta->>'cron_name', queue, max_attempts FROM oban_jobs ORDER BY 1";
        let rows: Vec<(String, String, i32)> = sqlx::query_as(sql).fetch_all(database.pool()).await.unwrap();
        (rows.len() == 2).then_some(rows)
    };
    let of = |name: &str, attempts| (name.to_owned(), "asked".to_owned(), attempts);
    assert_eq!(until("a job of each", jobs).await, [of("as_told", 7), of("own", 2)]);
    node.shutdown().await;
}

/// The flag of the process is a value that the actor is given, so that a test can be two processes.
#[tokio::test]
async fn a_decision_that_was_carried_out_is_not_repeated_when_its_answer_was_lost() {
    let (_db, engine) = engine().await;
    let crontab = crontab([("boot", entry("@reboot", CatchUp::None))]);
    let first_led: Arc<OnceLock<DateTime<Utc>>> = Arc::default();
    for _ in 0..2 {
        let stand = engine.cron_stand("Oban", &crontab.keys(), Duration::ZERO).await.unwrap();
        let led = *first_led.get_or_init(|| stand.now + chrono::TimeDelta::microseconds(1));
        let plan = crontab.plan(&stand.decided_until, stand.now, Some(led));
        drop(engine.cron_decide("Oban", plan.decisions).await.unwrap());
    }
    assert_eq!(times(engine.db(), "boot").await.len(), 1);
}
