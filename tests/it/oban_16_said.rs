//! Oban conformance, point 16: whatever a node says on a channel is what Oban's own readers understand; and the hazards
//! of saying it.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use singularity::config::{Config, Cron, Mode, Period, Queue, Tell};
use singularity::postgres::Database;
use singularity::queue::engine::Election;
use singularity::queue::{NewJob, QueueOrder, Replace, ReplaceField, Schedule, State, Unique};

use crate::support::db::TestDb;
use crate::support::node::{FIXTURE, Fixture, TestNode, job, notify, until};
use crate::support::rows::{engine, names, set_columns};
use crate::support::said::{CHANNELS, Ear, Said};

fn talkative(config: &mut Config) {
    config.services.gossip.send = Tell::Always;
    config.services.metrics.send = Tell::Always;
}

fn series(said: &Said, series: &str) -> Vec<Value> {
    let metrics = said.json["metrics"].as_array().cloned().unwrap_or_default();
    metrics.into_iter().filter(|metric| metric["series"] == series).collect()
}

fn has_series(said: &Said, name: &str) -> bool {
    !series(said, name).is_empty()
}

/// Checks of queues in a message.
fn checks(said: &Said) -> Vec<Value> {
    said.json["checks"].as_array().cloned().unwrap_or_default()
}

async fn setup(change: impl FnOnce(&mut Config)) -> (TestDb, Database, Ear, Fixture, TestNode) {
    let (db, database) = TestDb::migrated().await;
    let ear = Ear::new(&database).await;
    let fixture = Fixture::new();
    let node = TestNode::start(db.url(), "one", &fixture, change).await;
    (db, database, ear, fixture, node)
}

#[tokio::test]
async fn oban_16_all_that_a_working_node_says_is_what_oban_reads() {
    let (_db, _database, mut ear, fixture, node) = setup(talkative).await;
    let mut all = Vec::new();

    let held = node.insert(json!({"do": "hold"})).await;
    fixture.started(held).await;
    all.extend(ear.until(|said| checks(said).iter().any(|check| check["running"] == json!([held]))).await);
    node.engine().cancel(held).await.unwrap();

    let soon = job(json!({})).schedule(Schedule::In(std::time::Duration::from_millis(50)));
    let soon = node.engine().insert(soon).await.unwrap().id;
    let fails = node.insert(json!({"do": "error"})).await;
    node.reaches(soon, State::Completed).await;
    node.reaches(fails, State::Retryable).await;
    let both = |said: &Said| {
        let counts = series(said, "full_count");
        let of =
            |state: &str| counts.iter().any(|count| count["state"] == state && count["value"]["data"] == json!([1]));
        of("completed") && of("retryable") && of("cancelled")
    };
    all.extend(ear.until(both).await);
    node.shutdown().await;
    all.extend(ear.until(|said| said.channel == "leader").await);

    let texts = |channel: &str| -> BTreeSet<&str> {
        all.iter().filter(|said| said.channel == channel).map(|said| said.text.as_str()).collect()
    };
    // What statements build, to the letter.
    assert_eq!(texts("insert"), BTreeSet::from([r#"{"queue" : "default"}"#]));
    assert_eq!(texts("signal"), BTreeSet::from([format!(r#"{{"action" : "pkill", "job_id" : {held}}}"#).as_str()]));
    assert_eq!(texts("leader"), BTreeSet::from([r#"{"down" : "Oban"}"#]));
    for name in ["exec_time", "wait_time", "exec_count", "full_count"] {
        assert!(all.iter().any(|said| has_series(said, name)), "{name}");
    }
    let executed: u64 = all
        .iter()
        .flat_map(|said| series(said, "exec_count"))
        .map(|metric| metric["value"]["data"][0].as_u64().unwrap())
        .sum();
    assert!(executed >= 2, "each attempt that ended, once: {executed}");
}

/// Byte for byte, as PostgreSQL writes JSON. Messages that the program itself writes have their bytes beside the code
/// that does.
#[tokio::test]
async fn oban_16_golden_texts_of_all_that_statements_send() {
    let (_db, engine) = engine().await;
    let mut ear = Ear::on(engine.db(), &["insert", "signal", "leader"]).await;
    let job = |queue: &str| NewJob::new("w", json!({})).queue(queue);
    let (insert, end) = (|queue: &str| ("insert".to_owned(), format!(r#"{{"queue" : "{queue}"}}"#)), "end of a step");
    let mut since = async |wanted: Vec<(String, String)>, what: &str| {
        notify(engine.db(), "insert", json!({"queue": end})).await;
        let mut said = ear.until(|said| said.json["queue"] == end).await;
        said.pop();
        let said: Vec<_> = said.into_iter().map(|said| (said.channel, said.text)).collect();
        assert_eq!(said, wanted, "{what}");
    };
    let id = engine.insert(job("one")).await.unwrap().id;
    since(vec![insert("one")], "one insert").await;
    engine.insert_many(vec![job("many").meta("a", 1); 3]).await.unwrap();
    since(vec![insert("many")], "many").await;
    let unique = || job("same").unique(Unique::forever()).replace(Replace::always(&[ReplaceField::Priority]));
    engine.insert(unique()).await.unwrap();
    since(vec![insert("same")], "a unique insert").await;
    assert!(engine.insert(unique()).await.unwrap().replaced);
    since(vec![insert("same")], "a replacement").await;
    set_columns(&engine, id, "state = 'scheduled'").await;
    engine.stage(Some(&names(&["one"])), 10).await.unwrap();
    since(vec![insert("one")], "staging").await;
    set_columns(&engine, id, "state = 'executing', attempt = 1, attempted_by = ARRAY['gone', 'u']").await;
    engine.cancel(id).await.unwrap();
    since(vec![("signal".into(), format!(r#"{{"action" : "pkill", "job_id" : {id}}}"#))], "a cancelled job").await;
    engine.retry(id).await.unwrap();
    since(vec![insert("one")], "a retry").await;
    set_columns(&engine, id, "state = 'executing', attempt = 1, attempted_at = now() - interval '2 hours'").await;
    assert_eq!(engine.rescue_by_age(std::time::Duration::from_secs(3_600)).await.unwrap().len(), 1);
    since(vec![insert("one")], "a rescue").await;
    let child = engine.insert(job("child")).await.unwrap().id;
    since(vec![insert("child")], "a child").await;
    let family = format!(
        "INSERT INTO workflow_runs (id, job_id, workflow, definition_hash, state, input, instance_id)
         VALUES ('{0}', {id}, 'w', 'h', 'running', '{{}}', 'one');
         INSERT INTO job_children (parent_id, run_id, path, key, job_id) VALUES ({id}, '{0}', 'p', 'k', {child});
         INSERT INTO job_waits (job_id, until) VALUES ({id}, 'all')",
        uuid::Uuid::now_v7()
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(family)).execute(engine.db().pool()).await.unwrap();
    set_columns(&engine, child, "state = 'completed'").await;
    set_columns(&engine, id, "state = 'scheduled'").await;
    assert_eq!(engine.wake_parents(&[id]).await.unwrap(), 1);
    since(vec![insert("one")], "a parent whose children have ended").await;
    set_columns(&engine, child, "state = 'executing'").await;
    set_columns(&engine, id, "state = 'cancelled'").await;
    assert_eq!(engine.cancel_orphans().await.unwrap(), 1);
    since(vec![("signal".into(), format!(r#"{{"action" : "pkill", "job_id" : {child}}}"#))], "an orphan").await;
    let Election::Won { started_at } =
        engine.elect("My.Oban", "one", None, std::time::Duration::from_secs(30)).await.unwrap()
    else {
        panic!("nobody else leads")
    };
    assert!(engine.resign("My.Oban", "one", started_at).await.unwrap());
    since(vec![("leader".into(), r#"{"down" : "My.Oban"}"#.into())], "a resignation").await;
    let order = QueueOrder::Scale { queue: "one".into(), limit: 3 };
    engine.order("My.Oban", Some("host.1"), &order).await.unwrap();
    let text = r#"{"action":"scale","queue":"one","ident":"My.Oban.host.1","limit":3}"#;
    since(vec![("signal".into(), text.into())], "an order").await;
}

#[tokio::test]
async fn oban_16_gossip_shows_pause_limit_and_the_producer_of_the_row() {
    let (_db, database, mut ear, fixture, node) = setup(talkative).await;
    let id = node.insert(json!({"do": "hold"})).await;
    fixture.started(id).await;
    let owner: Vec<String> = sqlx::query_scalar("SELECT attempted_by FROM oban_jobs WHERE id = $1")
        .bind(id)
        .fetch_one(database.pool())
        .await
        .unwrap();
    let runs = ear.until(|said| checks(said).iter().any(|check| check["running"] == json!([id]))).await;
    let check = checks(runs.last().unwrap())[0].clone();
    assert_eq!([check["node"].as_str().unwrap(), check["uuid"].as_str().unwrap()], [owner[0].as_str(), &owner[1]]);
    assert_eq!(
        (&check["name"], &check["queue"], &check["local_limit"]),
        (&json!("Oban"), &json!("default"), &json!(10))
    );
    assert_eq!(check["paused"], false);

    notify(&database, "signal", json!({"action": "scale", "queue": "default", "limit": 3, "ident": "any"})).await;
    notify(&database, "signal", json!({"action": "pause", "queue": "default", "ident": "Oban.one"})).await;
    ear.until(|said| checks(said).iter().any(|check| check["paused"] == true && check["local_limit"] == 3)).await;
    assert!(check.get("shutdown_started_at").is_none());
    let last_words = async {
        ear.until(|said| checks(said).iter().any(|check| check["shutdown_started_at"].is_string())).await;
        fixture.release(id);
    };
    tokio::join!(node.shutdown(), last_words);
}

#[tokio::test]
async fn oban_16_periodic_jobs_are_told_as_far_as_elixir_reads_their_times() {
    let (_db, _database, mut ear, _fixture, _node) = setup(|config| {
        talkative(config);
        for (name, expr) in [("nightly", "0 3 * * MON-FRI"), ("half_minute", "*/30 * * * * *")] {
            let entry = Cron { expr: expr.into(), worker: FIXTURE.into(), ..Cron::default() };
            config.cron.insert(name.into(), entry);
        }
    })
    .await;
    let said = ear.until(|said| said.channel == "cronitor").await.pop().unwrap();
    let options = json!({"name": "nightly", "queue": "default", "timezone": "Etc/UTC"});
    assert_eq!(said.json["crontab"], json!([["0 3 * * MON-FRI", FIXTURE, options]]));
    assert_eq!((&said.json["name"], &said.json["node"]), (&json!("Oban"), &json!("one")));
}

#[tokio::test]
async fn hazard_11_12_13_many_queues_are_told_in_messages_that_all_readers_survive() {
    let (_db, _database, mut ear, _fixture, node) = setup(|config| {
        talkative(config);
        for number in 0..60 {
            let queue = Queue { limit: 1, poll_interval: Period::from_secs(3_600), ..Queue::default() };
            config.queues.insert(format!("queue_{number:02}_{}", "x".repeat(80)), queue);
        }
    })
    .await;
    let names: BTreeSet<String> = node.queues().names().into_iter().collect();
    let mut told = BTreeSet::new();
    let mut messages = 0;
    while told.len() < names.len() {
        // Each was checked: short enough, readable by all, every check with its queue.
        let said = ear.until(|said| said.channel == "gossip").await;
        messages += 1;
        told.extend(checks(said.last().unwrap()).iter().map(|check| check["queue"].as_str().unwrap().to_owned()));
    }
    assert!(told == names && messages > 1, "{messages} messages");
}

#[tokio::test]
async fn hazard_20_no_node_says_that_it_is_there_on_sonar_and_alone_none_talks_to_dashboards() {
    let (_db, database, mut ear, _fixture, node) = setup(|_| ()).await;
    let id = node.insert(json!({})).await;
    node.reaches(id, State::Completed).await;
    until("a look for others", || async {
        let tree = node.system().snapshot();
        (tree.find("/services/gossip")?.labels.get("sends")?.starts_with("no")).then_some(())
    })
    .await;
    notify(&database, "insert", json!({"queue": "end"})).await;
    let all = ear.until(|said| said.json["queue"] == "end").await;
    assert!(all.iter().all(|said| said.channel == "insert"), "{all:#?}");

    // An Elixir node: now there may be a dashboard.
    let mut ear = Ear::on(&database, &["gossip"]).await;
    notify(&database, "sonar", json!({"node": "app@elixir", "ping": true})).await;
    let all = ear.until(|said| said.channel == "gossip").await;
    assert_eq!(checks(&all[0])[0]["node"], "one");
}

#[tokio::test]
async fn gossip_begins_at_once_where_a_foreign_node_leads() {
    let (db, database) = TestDb::migrated().await;
    db.execute(
        "INSERT INTO oban_peers (name, node, started_at, expires_at)
         VALUES ('Oban', 'app@elixir', timezone('UTC', now()), timezone('UTC', now()) + interval '1 hour')",
    )
    .await;
    let mut ear = Ear::on(&database, &["gossip"]).await;
    let _node = TestNode::start(db.url(), "one", &Fixture::new(), |_| ()).await;
    ear.until(|said| said.channel == "gossip").await;
}

#[tokio::test]
async fn hazard_26_only_the_leader_tells_how_many_jobs_there_are_and_once_a_second() {
    let (db, database) = TestDb::migrated().await;
    let mut ear = Ear::on(&database, &CHANNELS).await;
    let fixture = Fixture::new();
    let leads = TestNode::start(db.url(), "leads", &fixture, talkative).await;
    until("a leader", || async {
        (leads.system().snapshot().find("/infra/peer")?.labels.get("leader")? == "yes").then_some(())
    })
    .await;
    let follows = TestNode::start(db.url(), "follows", &fixture, talkative).await;
    let as_guest = |config: &mut Config| {
        talkative(config);
        config.mode = Mode::Guest;
    };
    let guest = TestNode::start(db.url(), "guest", &fixture, as_guest).await;
    for _ in 0..20 {
        let id = follows.insert(json!({})).await;
        guest.reaches(id, State::Completed).await;
    }
    let mut seconds = BTreeSet::new();
    while seconds.len() < 4 {
        let said = ear.until(|said| has_series(said, "full_count")).await.pop().unwrap();
        assert_eq!(said.json["node"], "leads");
        assert!(seconds.insert(said.json["time"].as_i64().unwrap()), "twice in a second, which readers add up");
    }
    // The next leader goes on with it.
    leads.shutdown().await;
    let said = ear.until(|said| has_series(said, "full_count") && said.json["node"] != "leads").await.pop().unwrap();
    assert_eq!(said.json["node"], "follows");
    drop((follows, guest));
}
