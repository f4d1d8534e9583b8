//! Conformance point 11, the lease in `oban_peers`: who leads, who does not, and how the lead passes on.

use std::time::Duration;

use serde_json::json;
use singularity::config::{Config, Mode, Period};
use singularity::postgres::Database;
use singularity::postgres::notifier::{Event, Listener, ListenerOptions};
use singularity::queue::Engine;
use singularity::queue::engine::Election;

use crate::support::db::TestDb;
use crate::support::node::{Fixture, TestNode, notify, until};
use crate::support::process::Place;
use crate::support::proxy::{Mode as Proxied, Proxy};
use crate::support::rows::engine;

const LEASE: Duration = Duration::from_secs(30);

async fn won(engine: &Engine, node: &str, term: Option<chrono::NaiveDateTime>) -> Option<chrono::NaiveDateTime> {
    match engine.elect("Oban", node, term, LEASE).await.unwrap() {
        Election::Won { started_at } => Some(started_at),
        Election::Lost { .. } => None,
    }
}

async fn peers(database: &Database) -> Vec<(String, String)> {
    sqlx::query_as("SELECT name, node FROM oban_peers ORDER BY name").fetch_all(database.pool()).await.unwrap()
}

async fn run(database: &Database, sql: &'static str) {
    sqlx::raw_sql(sql).execute(database.pool()).await.unwrap();
}

#[tokio::test]
async fn oban_11_the_first_takes_the_lease_and_only_its_own_term_prolongs_it() {
    let (_db, engine) = engine().await;
    let term = won(&engine, "one", None).await.expect("nobody had it");
    let lasts = "SELECT extract(epoch FROM expires_at - started_at)::float8, started_at FROM oban_peers";
    let (seconds, started_at): (f64, chrono::NaiveDateTime) =
        sqlx::query_as(lasts).fetch_one(engine.db().pool()).await.unwrap();
    assert!((29.9..30.1).contains(&seconds), "{seconds}");
    assert_eq!(started_at, term);
    match engine.elect("Oban", "two", None, LEASE).await.unwrap() {
        Election::Lost { node, remaining } => {
            assert_eq!(node.as_deref(), Some("one"));
            assert!(remaining <= LEASE && remaining > LEASE / 2, "{remaining:?}");
        }
        other @ Election::Won { .. } => panic!("{other:?}"),
    }
    assert_eq!(won(&engine, "one", None).await, None, "an earlier process of the same name is somebody else");
    assert_eq!(won(&engine, "one", Some(term)).await, Some(term), "prolonged, the same term");
    let (longer, _): (f64, chrono::NaiveDateTime) = sqlx::query_as(lasts).fetch_one(engine.db().pool()).await.unwrap();
    assert!(longer > seconds);
    assert!(won(&engine, "other", None).await.is_none());
    assert!(engine.elect("Oban.Other", "other", None, LEASE).await.is_ok_and(|e| matches!(e, Election::Won { .. })));
}

#[tokio::test]
async fn oban_11_an_expired_lease_is_taken_over_and_its_former_holder_cannot_prolong_it() {
    let (_db, engine) = engine().await;
    let old = won(&engine, "one", None).await.unwrap();
    run(engine.db(), "UPDATE oban_peers SET expires_at = timezone('UTC', now()) - interval '1 ms'").await;
    let new = won(&engine, "two", None).await.expect("expired");
    assert!(new > old);
    assert_eq!(won(&engine, "one", Some(old)).await, None);
    assert!(!engine.resign("Oban", "one", old).await.unwrap(), "nor give it back");
    assert_eq!(peers(engine.db()).await, [("Oban".into(), "two".into())]);
}

#[tokio::test]
async fn oban_11_many_at_once_elect_one() {
    let (_db, engine) = engine().await;
    for _ in 0..10 {
        run(engine.db(), "DELETE FROM oban_peers").await;
        let names: Vec<String> = (0..8).map(|n| format!("node-{n}")).collect();
        let elections = names.iter().map(|name| won(&engine, name, None));
        let winners = futures_util::future::join_all(elections).await.into_iter().flatten().count();
        assert_eq!(winners, 1);
    }
}

#[tokio::test]
async fn oban_11_resigning_deletes_the_row_and_says_so_in_obans_words() {
    let (_db, engine) = engine().await;
    let mut listener = Listener::new(engine.db(), &["leader"], ListenerOptions::default());
    assert!(matches!(listener.next().await, Event::Resync));
    let term = won(&engine, "one", None).await.unwrap();
    assert!(engine.resign("Oban", "one", term).await.unwrap());
    assert!(peers(engine.db()).await.is_empty());
    match listener.next().await {
        Event::Notified { channel, payload } => {
            assert_eq!(channel, "leader");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&payload).unwrap(), json!({"down": "Oban"}));
        }
        other => panic!("{other:?}"),
    }
}

fn lease(seconds: u64) -> impl FnOnce(&mut Config) {
    move |config| {
        config.mode = Mode::Peer;
        config.services.leader.lease = Period::from_secs(seconds);
    }
}

fn leads(node: &TestNode) -> bool {
    let tree = node.system().snapshot();
    tree.find("/infra/peer").is_some_and(|peer| peer.labels.get("leader").is_some_and(|leader| leader == "yes"))
}

async fn until_leads(node: &TestNode) {
    until("the lead", || async { leads(node).then_some(()) }).await;
}

/// The lease is five minutes: what happens within a test's patience happened by notice.
#[tokio::test]
async fn oban_11_of_two_nodes_one_leads_and_its_stop_hands_over_at_once() {
    let (db, database) = TestDb::migrated().await;
    let fixture = Fixture::new();
    let one = TestNode::start(db.url(), "one", &fixture, lease(300)).await;
    until_leads(&one).await;
    let two = TestNode::start(db.url(), "two", &fixture, lease(300)).await;
    until("the other's election", || async {
        let tree = two.system().snapshot();
        tree.find("/infra/peer")?.labels.get("leader").map(drop)
    })
    .await;
    assert!(leads(&one) && !leads(&two));
    assert_eq!(peers(&database).await, [("Oban".into(), "one".into())]);
    one.shutdown().await;
    until_leads(&two).await;
    assert_eq!(peers(&database).await, [("Oban".into(), "two".into())]);
    two.shutdown().await;
    assert!(peers(&database).await.is_empty(), "released");
}

/// The lease is five minutes: a row that the node took for another's it would wait for.
#[tokio::test]
async fn oban_11_a_leader_whose_election_failed_leads_again_by_its_own_row() {
    let (db, database) = TestDb::migrated().await;
    let proxy = Proxy::start(db.host_and_port()).await;
    let one = TestNode::start(&db.url_through(proxy.address()), "one", &Fixture::new(), lease(300)).await;
    until_leads(&one).await;
    let started = "SELECT started_at::text FROM oban_peers";
    let before: String = sqlx::query_scalar(started).fetch_one(database.pool()).await.unwrap();
    proxy.set(Proxied::Reset);
    until("the end of its belief", || async { (!leads(&one)).then_some(()) }).await;
    proxy.set(Proxied::Pass);
    until_leads(&one).await;
    let after: String = sqlx::query_scalar(started).fetch_one(database.pool()).await.unwrap();
    assert_eq!(after, before, "one term");
    one.shutdown().await;
}

#[tokio::test]
async fn oban_11_a_foreign_leader_is_respected_until_it_says_that_it_leaves() {
    let (db, database) = TestDb::migrated().await;
    run(
        &database,
        "INSERT INTO oban_peers VALUES ('Oban', 'elixir@host', timezone('UTC', now()), timezone('UTC', now()) + interval '1 h')",
    )
    .await;
    let node = TestNode::start(db.url(), "one", &Fixture::new(), lease(300)).await;
    let elected = |at_least: u64| {
        let node = &node;
        async move {
            until("an election", || async {
                let tree = node.system().snapshot();
                let peer = tree.find("/infra/peer")?;
                (peer.mailbox.as_ref()?.processed >= at_least && peer.current_message.is_none()).then_some(())
            })
            .await;
        }
    };
    elected(1).await;
    let before = node.system().snapshot().find("/infra/peer").unwrap().mailbox.as_ref().unwrap().processed;
    notify(&database, "leader", json!({"down": "Oban"})).await;
    elected(before + 1).await;
    assert!(!leads(&node), "its row is still there");
    assert_eq!(peers(&database).await, [("Oban".into(), "elixir@host".into())]);
    run(&database, "DELETE FROM oban_peers").await;
    notify(&database, "leader", json!({"down": "Oban"})).await;
    until_leads(&node).await;
    // Whoever lost the row to another gives up when it next asks.
    run(&database, "UPDATE oban_peers SET node = 'elixir@host'").await;
    notify(&database, "leader", json!({"down": "Oban"})).await;
    until("the loss", || async { (!leads(&node)).then_some(()) }).await;
    node.shutdown().await;
    assert_eq!(peers(&database).await, [("Oban".into(), "elixir@host".into())], "not ours to delete");
}

#[tokio::test(flavor = "multi_thread")]
async fn oban_11_after_kill_9_of_the_leader_another_leads_within_the_lease() {
    let (db, database) = TestDb::migrated().await;
    let place = Place::new(&db, "[services.leader]\nlease = \"3s\"\n");
    let (one, _) = place.start(&["--instance-id", "one"]);
    until("the first leader", || async { (!peers(&database).await.is_empty()).then_some(()) }).await;
    let (two, _) = place.start(&["--instance-id", "two"]);
    let instances = place.json(&["instance", "list", "--json"]);
    let leaders: Vec<(&str, bool)> = instances["instances"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["instance_id"].as_str().unwrap(), row["leader"].as_bool().unwrap()))
        .collect();
    assert_eq!(leaders, [("one", true), ("two", false)]);
    one.signal("KILL");
    let killed = std::time::Instant::now();
    one.finish();
    until("the next leader", || async {
        (peers(&database).await == [("Oban".to_owned(), "two".to_owned())]).then_some(())
    })
    .await;
    assert!(killed.elapsed() < Duration::from_secs(6), "{:?}: the lease, and an election", killed.elapsed());
    two.signal("TERM");
    assert_eq!(two.finish().0.code(), Some(0));
    assert!(peers(&database).await.is_empty(), "released");
}
