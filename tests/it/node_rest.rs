//! What a node costs that has nothing to do.

use std::time::{Duration, Instant};

use singularity::config::{Config, Instance, Queue, Services};

use crate::support::db::TestDb;
use crate::support::node::{Fixture, TestNode, until};
use crate::support::proxy::Proxy;

/// Statements in one window: a few rare ones fall into each.
const WINDOW: u64 = 60;

/// How long it may take until a node has come to rest.
const PATIENCE: Duration = Duration::from_secs(120);

/// Statements of an idle node with four queues, per second.
const STATEMENTS_MAX: f64 = 5.0;

/// Counted on the wire: the server's own figures come late and hold what autovacuum does.
#[tokio::test]
async fn an_idle_node_with_four_queues_sends_at_most_five_statements_a_second() {
    let db = TestDb::new().await;
    let proxy = Proxy::start(db.host_and_port()).await;
    let node = TestNode::start(&db.url_through(proxy.address()), "one", &Fixture::new(), |config| {
        // The pace that is shipped, not the one of tests.
        config.queues = ["a", "b", "c", "d"].map(|name| (name.to_owned(), Queue::default())).into();
        config.workflows.llm_request.queue = "a".into();
        config.services = Services::default();
        config.instance = Instance { id: "one".into(), ..Config::default().instance };
    })
    .await;
    // The first window still holds the start; at rest is one that does not.
    let began = Instant::now();
    loop {
        let (first, from) = (proxy.statements(), Instant::now());
        until("some statements", || async { (proxy.statements() >= first + WINDOW).then_some(()) }).await;
        let rate = WINDOW as f64 / from.elapsed().as_secs_f64();
        println!("{rate:.2} statements a second");
        if rate <= STATEMENTS_MAX {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "the last {WINDOW} statements came at {rate:.1} a second");
    }
    node.shutdown().await;
}
