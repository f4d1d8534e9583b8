//! What a node costs that has nothing to do.

use std::time::{Duration, Instant};

use singularity::config::{Config, Instance, Queue, Services};

use crate::support::db::TestDb;
use crate::support::node::{Fixture, TestNode, until};

/// Transactions in one window. Sessions tell what they did once a second at most, so a few say little.
const TRANSACTIONS: i64 = 60;

/// How long it may take until a node has come to rest.
const PATIENCE: Duration = Duration::from_secs(120);

/// Statements of an idle node with four queues, per second.
const STATEMENTS_MAX: f64 = 5.0;

#[tokio::test]
async fn an_idle_node_with_four_queues_sends_at_most_five_statements_a_second() {
    let (db, other) = (TestDb::new().await, TestDb::new().await);
    let node = TestNode::start(db.url(), "one", &Fixture::new(), |config| {
        // The pace that is shipped, not the one of tests.
        config.queues = ["a", "b", "c", "d"].map(|name| (name.to_owned(), Queue::default())).into();
        config.workflows.llm_request.queue = "a".into();
        config.services = Services::default();
        // Each connection prepares each statement once, which counts too. Few connections have soon done so.
        config.database.pool_max = 4;
        config.instance = Instance { id: "one".into(), ..Config::default().instance };
    })
    .await;
    // Asked from another database, so that the question does not count itself.
    let outside = other.connect("public").await;
    let count = || async {
        let sql = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1";
        sqlx::query_scalar::<_, i64>(sql).bind(db.name()).fetch_one(&outside).await.unwrap()
    };
    // The first windows still hold the start; at rest is one that does not.
    let began = Instant::now();
    loop {
        let (first, from) = (count().await, Instant::now());
        until("some transactions", || async { (count().await >= first + TRANSACTIONS).then_some(()) }).await;
        let rate = TRANSACTIONS as f64 / from.elapsed().as_secs_f64();
        if rate <= STATEMENTS_MAX {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "the last {TRANSACTIONS} statements came at {rate:.1} a second");
    }
    node.shutdown().await;
}
