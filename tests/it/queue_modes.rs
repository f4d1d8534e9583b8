//! Standalone, guest, peer: which part a node takes beside Oban nodes in other languages, here played by their rows and
//! notices.

use std::time::Duration;

use serde_json::json;
use singularity::config::{Config, Mode, Period, PeriodOrOff};
use singularity::postgres::Database;
use singularity::postgres::notifier::{Event, Listener, ListenerOptions};
use singularity::queue::{NewJob, State};

use crate::cli_support::run;
use crate::support::db::{DEADLINE, TestDb};
use crate::support::node::{Fixture, TestNode, notify, until};
use crate::support::process::Place;
use crate::support::rows::{set_columns, with};

/// The tables of Oban for Python that matter here.
const PYTHON: &str = "
    CREATE UNLOGGED TABLE oban_leaders (name text PRIMARY KEY DEFAULT 'oban', node text NOT NULL,
      elected_at timestamp NOT NULL, expires_at timestamp NOT NULL);
    CREATE UNLOGGED TABLE oban_producers (uuid uuid PRIMARY KEY, name text NOT NULL DEFAULT 'oban', node text NOT NULL,
      queue text NOT NULL, meta jsonb NOT NULL DEFAULT '{}',
      started_at timestamp NOT NULL DEFAULT timezone('UTC', now()),
      updated_at timestamp NOT NULL DEFAULT timezone('UTC', now()))";

async fn execute(database: &Database, sql: &str) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(database.pool()).await.unwrap();
}

/// An Elixir node takes, or keeps, the lease.
async fn elixir_leads(database: &Database, lasts: &str) {
    execute(
        database,
        &format!(
            "INSERT INTO oban_peers
             VALUES ('Oban', 'web@host', timezone('UTC', now()), timezone('UTC', now()) + interval '{lasts}')
             ON CONFLICT (name) DO UPDATE SET node = excluded.node, expires_at = excluded.expires_at"
        ),
    )
    .await;
}

/// A Python node takes, or keeps, its lease.
async fn python_leads(database: &Database, lasts: &str) {
    execute(
        database,
        &format!(
            "INSERT INTO oban_leaders
             VALUES ('Oban', 'host.4711', timezone('UTC', now()), timezone('UTC', now()) + interval '{lasts}')
             ON CONFLICT (name) DO UPDATE SET node = excluded.node, expires_at = excluded.expires_at"
        ),
    )
    .await;
}

async fn leaders(database: &Database, table: &str) -> Vec<String> {
    let sql = format!("SELECT node FROM {table}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(database.pool()).await.unwrap()
}

fn label(node: &TestNode, path: &str, name: &str) -> Option<String> {
    node.system().snapshot().find(path)?.labels.get(name).cloned()
}

async fn until_mode(node: &TestNode, wanted: &str) {
    until(&format!("mode {wanted:?}"), || async {
        label(node, "/infra/peer", "mode").filter(|mode| mode.starts_with(wanted)).map(drop)
    })
    .await;
}

async fn until_leads(node: &TestNode) {
    until("the lead", || async { (label(node, "/infra/peer", "leader")? == "yes").then_some(()) }).await;
}

async fn until_stages(node: &TestNode, wanted: &str) {
    until(&format!("staging {wanted:?}"), || async {
        (label(node, "/services/stager", "stages")? == wanted).then_some(())
    })
    .await;
}

/// Messages that a service has handled.
fn runs(node: &TestNode, path: &str) -> u64 {
    node.system().snapshot().find(path).unwrap().mailbox.as_ref().unwrap().processed
}

async fn until_runs(node: &TestNode, path: &str, more: u64) {
    let before = runs(node, path);
    until("more runs", || async { (runs(node, path) >= before + more).then_some(()) }).await;
}

/// A lease of two seconds, so that four of them can be waited for, and services that run all the time.
fn quick(mode: Mode) -> impl FnOnce(&mut Config) {
    move |config| {
        config.mode = mode;
        config.services.leader.lease = Period::from_secs(2);
        config.services.pruner.interval = Period::from_millis(20);
        config.services.pruner.max_age = PeriodOrOff::on(Period::from_secs(3_600));
        config.services.lifeline.rescue_after = PeriodOrOff::on(Period::from_secs(3_600));
    }
}

/// A job of each kind that only a leader deals with: due in a queue that nobody runs here, old, lost by another
/// runtime.
async fn leaders_work(node: &TestNode) -> [i64; 3] {
    let job = || NewJob::new("w", json!({})).queue("elixir");
    let ago = "timezone('UTC', now()) - interval '2 h'";
    let lost = format!("state = 'executing', attempt = 1, attempted_at = {ago}, attempted_by = ARRAY['web@host']");
    [
        with(node.engine(), job(), &format!("state = 'scheduled', scheduled_at = {ago}")).await,
        with(node.engine(), job(), &format!("state = 'completed', scheduled_at = {ago}")).await,
        with(node.engine(), job(), &lost).await,
    ]
}

async fn states(node: &TestNode, ids: [i64; 3]) -> [Option<State>; 3] {
    let mut states = [None; 3];
    for (state, id) in states.iter_mut().zip(ids) {
        *state = node.engine().get(id).await.unwrap().map(|job| job.state);
    }
    states
}

const UNTOUCHED: [Option<State>; 3] = [Some(State::Scheduled), Some(State::Completed), Some(State::Executing)];
const DONE: [Option<State>; 3] = [Some(State::Available), None, Some(State::Available)];

async fn until_done(node: &TestNode, ids: [i64; 3]) {
    until("a leader's work", || async { (states(node, ids).await == DONE).then_some(()) }).await;
}

#[tokio::test]
async fn alone_a_node_is_standalone_by_itself_and_does_a_leaders_work() {
    let (db, database) = TestDb::migrated().await;
    let node = TestNode::start(db.url(), "one", &Fixture::new(), quick(Mode::Auto)).await;
    until_mode(&node, "standalone by itself, no other runtime was seen").await;
    until_leads(&node).await;
    until_stages(&node, "all queues").await;
    let ids = leaders_work(&node).await;
    until_done(&node, ids).await;
    assert_eq!(leaders(&database, "oban_peers").await, ["one"]);
    node.shutdown().await;
}

/// Hazards 2 and 3.
#[tokio::test]
async fn beside_a_foreign_leader_a_node_is_a_guest_and_leaves_all_to_it_until_it_is_long_gone() {
    let (db, database) = TestDb::migrated().await;
    elixir_leads(&database, "1 h").await;
    let fixture = Fixture::new();
    let node = TestNode::start(db.url(), "one", &fixture, quick(Mode::Auto)).await;
    until_mode(&node, "guest by itself, web@host leads in oban_peers").await;
    until_stages(&node, "nothing, a node of another runtime does").await;
    let ids = leaders_work(&node).await;
    // Also what is due in a queue of its own: it has a leader who stages it.
    let own = node.insert(json!({})).await;
    node.reaches(own, State::Completed).await;
    set_columns(node.engine(), own, "state = 'retryable', scheduled_at = timezone('UTC', now())").await;
    for path in ["/services/stager", "/services/pruner", "/services/lifeline", "/infra/peer"] {
        until_runs(&node, path, 3).await;
    }
    assert_eq!(states(&node, ids).await, UNTOUCHED);
    assert_eq!(node.state(own).await, State::Retryable);
    assert_eq!(leaders(&database, "oban_peers").await, ["web@host"]);

    // All of its nodes stop, and come back a moment later.
    execute(&database, "DELETE FROM oban_peers").await;
    notify(&database, "leader", json!({"down": "Oban"})).await;
    until_stages(&node, "its own queues").await;
    node.reaches(own, State::Completed).await;
    assert!(leaders(&database, "oban_peers").await.is_empty(), "remembered");
    elixir_leads(&database, "3 s").await;
    notify(&database, "leader", json!({"action": "elected"})).await;
    until_stages(&node, "nothing, a node of another runtime does").await;
    let gone = tokio::time::Instant::now();
    until_leads(&node).await;
    assert!(gone.elapsed() > Duration::from_secs(6), "{:?}: four leases", gone.elapsed());
    until_mode(&node, "standalone by itself, no other runtime was seen").await;
    until_done(&node, ids).await;
    node.shutdown().await;
}

/// Hazard 2: a node that led while all Elixir nodes were down gives the lead back when one is there again.
#[tokio::test]
async fn a_leader_by_itself_gives_the_lead_back_when_a_foreign_node_is_heard() {
    let (db, database) = TestDb::migrated().await;
    let node = TestNode::start(db.url(), "one", &Fixture::new(), |config| {
        quick(Mode::Auto)(config);
        config.services.leader.lease = Period::from_secs(300);
    })
    .await;
    until_leads(&node).await;
    let mut listener = Listener::new(&database, &["leader"], ListenerOptions::default());
    assert!(matches!(listener.next().await, Event::Resync));
    notify(&database, "sonar", json!({"node": "one", "ping": true})).await;
    notify(&database, "sonar", json!({"node": "web@host", "ping": true})).await;
    until_mode(&node, "guest by itself, web@host was heard").await;
    let said = tokio::time::timeout(DEADLINE, listener.next()).await.unwrap();
    assert!(matches!(&said, Event::Notified { payload, .. } if payload.contains("\"down\" : \"Oban\"")), "{said:?}");
    assert!(leaders(&database, "oban_peers").await.is_empty());
    assert_eq!(label(&node, "/infra/peer", "leader").as_deref(), Some("no"));
    node.shutdown().await;
}

/// Hazard 1: two tables of leases, one leader.
#[tokio::test]
async fn where_the_tables_of_python_are_a_leader_holds_both_leases() {
    let (db, database) = TestDb::migrated().await;
    execute(&database, PYTHON).await;
    let one = TestNode::start(db.url(), "one", &Fixture::new(), quick(Mode::Auto)).await;
    until_leads(&one).await;
    let two = TestNode::start(db.url(), "two", &Fixture::new(), quick(Mode::Auto)).await;
    until_mode(&two, "standalone by itself").await;
    until_runs(&one, "/infra/peer", 3).await;
    for table in ["oban_peers", "oban_leaders"] {
        assert_eq!(leaders(&database, table).await, ["one"], "{table}");
    }
    let terms: bool = sqlx::query_scalar("SELECT p.started_at = l.elected_at FROM oban_peers p, oban_leaders l")
        .fetch_one(database.pool())
        .await
        .unwrap();
    assert!(terms, "one term");
    let producers: i64 =
        sqlx::query_scalar("SELECT count(*) FROM oban_producers").fetch_one(database.pool()).await.unwrap();
    assert_eq!(producers, 0, "hazard 29: a row that nobody refreshes is none of ours");
    let mut listener = Listener::new(&database, &["leader"], ListenerOptions::default());
    assert!(matches!(listener.next().await, Event::Resync));
    one.shutdown().await;
    let mut said = Vec::new();
    while said.len() < 2 {
        if let Event::Notified { payload, .. } = tokio::time::timeout(DEADLINE, listener.next()).await.unwrap() {
            said.push(serde_json::from_str::<serde_json::Value>(&payload).unwrap());
        }
    }
    assert_eq!(said, [json!({"down": "Oban"}), json!({"action": "resign", "node": "one", "name": "Oban"})]);
    until_leads(&two).await;
    assert_eq!(leaders(&database, "oban_leaders").await, ["two"]);
    two.shutdown().await;
    assert!(leaders(&database, "oban_leaders").await.is_empty());
}

#[tokio::test]
async fn beside_a_python_leader_a_node_is_a_guest_that_stages_its_own_queues() {
    let (db, database) = TestDb::migrated().await;
    execute(&database, PYTHON).await;
    python_leads(&database, "1 h").await;
    let node = TestNode::start(db.url(), "one", &Fixture::new(), quick(Mode::Auto)).await;
    until_mode(&node, "guest by itself, host.4711 leads in oban_leaders").await;
    until_stages(&node, "its own queues").await;
    let ids = leaders_work(&node).await;
    let own = node.insert(json!({"do": "error_once"})).await;
    node.reaches(own, State::Completed).await;
    for path in ["/services/pruner", "/services/lifeline", "/infra/peer"] {
        until_runs(&node, path, 3).await;
    }
    assert_eq!(states(&node, ids).await, UNTOUCHED);
    assert!(leaders(&database, "oban_peers").await.is_empty());
    node.shutdown().await;
}

#[tokio::test]
async fn a_leader_by_itself_gives_both_leases_back_when_a_python_node_works() {
    let (db, database) = TestDb::migrated().await;
    execute(&database, PYTHON).await;
    let node = TestNode::start(db.url(), "one", &Fixture::new(), quick(Mode::Auto)).await;
    until_leads(&node).await;
    // A producer that stopped is none.
    let producer = |node: &str, age: &str| {
        format!(
            "INSERT INTO oban_producers (uuid, node, queue, updated_at)
             VALUES (gen_random_uuid(), '{node}', 'default', timezone('UTC', now()) - interval '{age}')"
        )
    };
    execute(&database, &producer("old.1", "2 min")).await;
    execute(&database, &producer("one", "0 s")).await;
    until_runs(&node, "/infra/peer", 2).await;
    until_leads(&node).await;
    execute(&database, &producer("host.4711", "0 s")).await;
    until_mode(&node, "guest by itself, host.4711 works in oban_producers").await;
    assert!(leaders(&database, "oban_peers").await.is_empty());
    assert!(leaders(&database, "oban_leaders").await.is_empty());
    node.shutdown().await;
}

#[tokio::test]
async fn a_guest_never_campaigns_also_when_it_is_alone_and_stages_its_own_queues() {
    let (db, database) = TestDb::migrated().await;
    let node = TestNode::start(db.url(), "one", &Fixture::new(), quick(Mode::Guest)).await;
    until_mode(&node, "guest, no other runtime was seen").await;
    until_stages(&node, "its own queues").await;
    let ids = leaders_work(&node).await;
    let own = node.insert(json!({"do": "error_once"})).await;
    node.reaches(own, State::Completed).await;
    for path in ["/services/stager", "/services/pruner", "/services/lifeline", "/infra/peer"] {
        until_runs(&node, path, 3).await;
    }
    assert_eq!(states(&node, ids).await, UNTOUCHED);
    assert!(leaders(&database, "oban_peers").await.is_empty());
    node.shutdown().await;
}

#[tokio::test]
async fn a_peer_campaigns_beside_foreign_nodes_and_leads_when_both_leases_are_free() {
    let (db, database) = TestDb::migrated().await;
    execute(&database, PYTHON).await;
    python_leads(&database, "1 h").await;
    let node = TestNode::start(db.url(), "one", &Fixture::new(), quick(Mode::Peer)).await;
    until_mode(&node, "peer, host.4711 leads in oban_leaders").await;
    until_runs(&node, "/infra/peer", 2).await;
    assert!(
        leaders(&database, "oban_peers").await.is_empty(),
        "one lease alone would silence Elixir nodes for nothing"
    );
    elixir_leads(&database, "1 h").await;
    execute(&database, "DELETE FROM oban_leaders").await;
    until_mode(&node, "peer, web@host leads in oban_peers").await;
    let ids = leaders_work(&node).await;
    until_runs(&node, "/services/lifeline", 3).await;
    assert_eq!(states(&node, ids).await, UNTOUCHED);
    execute(&database, "DELETE FROM oban_peers").await;
    notify(&database, "leader", json!({"down": "Oban"})).await;
    until_leads(&node).await;
    // A foreign node that is heard changes nothing: the operator said so.
    notify(&database, "sonar", json!({"node": "web@host", "ping": true})).await;
    until_mode(&node, "peer, web@host").await;
    until_done(&node, ids).await;
    assert_eq!(leaders(&database, "oban_leaders").await, ["one"]);
    node.shutdown().await;
}

/// What is inserted without a word is found, and that the leader is never heard is told.
#[tokio::test]
async fn hazard_25_beside_a_leader_that_says_nothing_the_table_is_looked_at() {
    let (db, database) = TestDb::migrated().await;
    elixir_leads(&database, "1 h").await;
    let node = TestNode::start(db.url(), "one", &Fixture::new(), quick(Mode::Auto)).await;
    until_stages(&node, "nothing, a node of another runtime does").await;
    let mute = "INSERT INTO oban_jobs (worker) VALUES ('fixture') RETURNING id";
    let id: i64 = sqlx::query_scalar(mute).fetch_one(database.pool()).await.unwrap();
    node.reaches(id, State::Completed).await;
    until("the label", || async { label(&node, "/infra/peer", "unheard").filter(|node| node == "web@host") }).await;
    notify(&database, "sonar", json!({"node": "web@host", "ping": true})).await;
    until("no label", || async { label(&node, "/infra/peer", "unheard").is_none().then_some(()) }).await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tree_and_doctor_say_which_mode_holds_and_why() {
    let (db, database) = TestDb::migrated().await;
    elixir_leads(&database, "1 h").await;
    let place = Place::new(&db, "");
    let (_node, _) = place.start(&["--instance-id", "one"]);
    let tree = until("the peer's label", || async {
        let tree = run(&place, &["tree"]).done().out;
        tree.contains("guest by itself").then_some(tree)
    })
    .await;
    assert!(tree.contains("web@host leads in oban_peers"), "{tree}");
    let doctor = run(&place, &["doctor"]).done().out;
    assert!(doctor.contains("guest by itself, web@host leads in oban_peers"), "{doctor}");
    let doctor = run(&place, &["doctor", "--set", "mode=standalone"]).done().out;
    assert!(doctor.contains("WARN  mode") && doctor.contains("mode = \"guest\""), "{doctor}");
}
