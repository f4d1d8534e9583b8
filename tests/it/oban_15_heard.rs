//! Oban conformance, point 15: payloads in all three forms reach a running node, and garbage on its channels harms
//! nothing and loses nothing.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use singularity::config::{Config, Period, Queue};
use singularity::postgres::Database;
use singularity::queue::State;

use crate::support::db::TestDb;
use crate::support::node::{FIXTURE, Fixture, TestNode, restarts, until};
use crate::support::proxy::{Mode, Proxy};

/// So long that only a notice can be the reason for a look; nor does it lead, because a leader looks everywhere.
fn patient(config: &mut Config) {
    config.mode = singularity::config::Mode::Guest;
    let queue = Queue { limit: 5, poll_interval: Period::from_secs(3_600), ..Queue::default() };
    config.queues.insert("default".into(), queue);
}

fn gzip(text: &[u8]) -> String {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    STANDARD.encode(encoder.finish().unwrap())
}

/// A payload in its three forms.
fn forms(payload: &Value) -> [String; 3] {
    let packed = gzip(payload.to_string().as_bytes());
    [payload.to_string(), packed.clone(), format!("Z:{packed}")]
}

async fn send(database: &Database, channel: &str, payload: &str) {
    sqlx::query("SELECT pg_notify($1, $2)")
        .bind(database.channel(channel))
        .bind(payload)
        .execute(database.pool())
        .await
        .unwrap();
}

/// A job that nobody is told of.
async fn insert_silently(database: &Database) -> i64 {
    sqlx::query_scalar("INSERT INTO oban_jobs (worker) VALUES ($1) RETURNING id")
        .bind(FIXTURE)
        .fetch_one(database.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn oban_15_a_payload_is_read_in_each_of_its_three_forms() {
    let (db, database) = TestDb::migrated().await;
    let fixture = Fixture::new();
    let node = TestNode::start(db.url(), "one", &fixture, patient).await;
    let queue = node.queues().get("default").unwrap();
    for insert in forms(&json!({"queue": "default"})) {
        let id = insert_silently(&database).await;
        send(&database, "insert", &insert).await;
        node.reaches(id, State::Completed).await;
    }
    for form in 0..3 {
        for (action, paused) in [("pause", true), ("resume", false)] {
            let signal = json!({"action": action, "queue": "default", "ident": "any", "later_key": [1]});
            send(&database, "signal", &forms(&signal)[form]).await;
            until("the signal", || async { (queue.is_paused() == paused).then_some(()) }).await;
        }
    }
}

#[tokio::test]
async fn oban_15_garbage_is_survived_and_whatever_it_may_have_said_is_looked_for() {
    let (db, database) = TestDb::migrated().await;
    let fixture = Fixture::new();
    let node = TestNode::start(db.url(), "one", &fixture, patient).await;
    let bomb = gzip(&vec![b' '; 5_000_000]);
    assert!(bomb.len() < 8_000);
    let mut garbage: Vec<String> = [
        "",
        " ",
        "{",
        "}",
        "null",
        "[]",
        "1",
        "\"text\"",
        "{}",
        "{\"queue\":null}",
        "{\"queue\":7}",
        "{\"action\":1}",
        "{\"action\":\"scale\",\"queue\":\"default\",\"limit\":0}",
        "{\"action\":\"pause\"}",
        "{\"down\":[]}",
        "{\"node\":{}}",
        "{\"instance\":\"one\",\"number\":-1}",
        "H4sI",
        "H4sI!",
        "H4sIAAAA",
        "Z:",
        "Z:Z:",
        "Z:{}",
        "\u{1f980}",
    ]
    .map(Into::into)
    .to_vec();
    garbage.extend([
        bomb.clone(),
        format!("Z:{bomb}"),
        "x".repeat(7_999),
        "[".repeat(7_999),
        gzip(b"\xff"),
        gzip(b"[1]"),
    ]);
    let valid = gzip(br#"{"queue":"default"}"#);
    garbage.extend((4..valid.len()).step_by(7).map(|cut| valid[..cut].to_owned()));

    for channel in ["insert", "signal", "leader", "sonar", "echo", "control", "learning", "gossip"] {
        for payload in &garbage {
            send(&database, channel, payload).await;
        }
        if ["insert", "signal", "leader", "sonar"].contains(&channel) {
            let id = insert_silently(&database).await;
            send(&database, channel, "{").await;
            node.reaches(id, State::Completed).await;
        }
    }

    let id = node.insert(json!({"do": "hold"})).await;
    fixture.started(id).await;
    send(&database, "signal", &json!({"action": "pkill", "job_id": id}).to_string()).await;
    node.reaches(id, State::Cancelled).await;
    let tree = node.system().snapshot();
    assert_eq!((restarts(&tree), node.queues().get("default").unwrap().limit()), (0, 5));
}

async fn listens(node: &TestNode, wanted: &str) {
    until(&format!("listens: {wanted}"), || async {
        let tree = node.system().snapshot();
        (tree.find("/infra/notifier")?.labels.get("listens")? == wanted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn hazard_24_behind_a_proxy_that_pools_transactions_a_node_looks_every_second_and_says_so() {
    let (db, database) = TestDb::migrated().await;
    let proxy = Proxy::start(db.host_and_port()).await;
    proxy.set(Mode::Deaf);
    let fixture = Fixture::new();
    let node = TestNode::start(&db.url_through(proxy.address()), "one", &fixture, patient).await;
    listens(&node, "hears nothing").await;
    for _ in 0..2 {
        let id = insert_silently(&database).await;
        node.reaches(id, State::Completed).await;
    }
    proxy.set(Mode::Pass);
    listens(&node, "yes").await;
    let id = node.insert(json!({})).await;
    node.reaches(id, State::Completed).await;
    assert_eq!(restarts(&node.system().snapshot()), 0);
}

#[tokio::test]
async fn after_a_lost_connection_a_node_looks_for_what_it_did_not_hear() {
    let (db, database) = TestDb::migrated().await;
    let proxy = Proxy::start(db.host_and_port()).await;
    let fixture = Fixture::new();
    let node = TestNode::start(&db.url_through(proxy.address()), "one", &fixture, patient).await;
    for _ in 0..2 {
        proxy.set(Mode::Reset);
        listens(&node, "no").await;
        let id = insert_silently(&database).await;
        proxy.set(Mode::Pass);
        node.reaches(id, State::Completed).await;
    }
}
