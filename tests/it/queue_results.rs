//! Results that the database does not take: one holds up no other, and each is stored in the end and counted once.

use serde_json::json;
use singularity::config::{Config, Period, Queue};
use singularity::queue::{Engine, State};
use sqlx::AssertSqlSafe;

use crate::support::db::{DEADLINE, TestDb};
use crate::support::node::{Fixture, TestNode, reaches, until};
use crate::support::proxy::{Mode, Proxy};

/// Long polls: what happens within a test's patience comes by notice or by a result.
fn limit(limit: u32) -> impl Fn(&mut Config) {
    move |config| {
        let queue = Queue { limit, poll_interval: Period::from_secs(600), ..Queue::default() };
        config.queues.insert("default".into(), queue);
    }
}

fn label(node: &TestNode, name: &str) -> Option<String> {
    node.system().snapshot().find("/completer").unwrap().labels.get(name).cloned()
}

/// Jobs one after the other, so that each needs a write of its own, of every way that results are stored.
async fn others_flow(node: &TestNode) {
    let flow = async {
        for _ in 0..3 {
            for (args, state) in [
                (json!({}), State::Completed),
                (json!({"do": "error"}), State::Retryable),
                (json!({"do": "record", "value": 1}), State::Completed),
            ] {
                let id = node.insert(args).await;
                node.reaches(id, state).await;
            }
        }
    };
    tokio::time::timeout(DEADLINE, flow).await.expect("others are held up");
}

#[tokio::test]
async fn a_row_that_somebody_has_locked_holds_up_no_other_result() {
    for queue in [60, 4] {
        let (db, fixture) = (TestDb::new().await, Fixture::new());
        let node = TestNode::start(db.url(), "one", &fixture, limit(queue)).await;
        let held = node.insert(json!({"do": "hold"})).await;
        fixture.started(held).await;
        let mut other = node.engine().db().pool().begin().await.unwrap();
        sqlx::query("SELECT FROM oban_jobs WHERE id = $1 FOR NO KEY UPDATE")
            .bind(held)
            .execute(&mut *other)
            .await
            .unwrap();
        fixture.release(held);
        until("the locked one set aside", || async { (label(&node, "aside")? == "1").then_some(()) }).await;
        others_flow(&node).await;
        assert_eq!((node.state(held).await, node.queues().running()), (State::Executing, 1));
        other.rollback().await.unwrap();
        node.reaches(held, State::Completed).await;
        until("nothing aside", || async { label(&node, "aside").is_none().then_some(()) }).await;
        assert_eq!((node.queues().running(), label(&node, "superseded")), (0, None));
    }
}

#[tokio::test]
async fn a_result_that_the_database_refuses_holds_up_no_other() {
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, limit(60)).await;
    let refused = node.insert(json!({"do": "hold"})).await;
    fixture.started(refused).await;
    let trigger = format!(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';
         CREATE TRIGGER refuse BEFORE UPDATE ON oban_jobs FOR EACH ROW WHEN (NEW.id = {refused}) EXECUTE FUNCTION refuse()"
    );
    sqlx::raw_sql(AssertSqlSafe(trigger)).execute(node.engine().db().pool()).await.unwrap();
    fixture.release(refused);
    until("the refused one set aside", || async { (label(&node, "aside")? == "1").then_some(()) }).await;
    others_flow(&node).await;
    sqlx::raw_sql("DROP TRIGGER refuse ON oban_jobs").execute(node.engine().db().pool()).await.unwrap();
    node.reaches(refused, State::Completed).await;
    until("nothing aside", || async { label(&node, "aside").is_none().then_some(()) }).await;
    assert_eq!((node.queues().running(), label(&node, "superseded")), (0, None));
}

#[tokio::test]
async fn a_result_that_was_stored_without_an_answer_counts() {
    // With a small limit producers store what succeeded.
    for queue in [60, 4] {
        let (db, fixture) = (TestDb::new().await, Fixture::new());
        let engine = Engine::new(db.connect("public").await);
        let proxy = Proxy::start(db.host_and_port()).await;
        let node = TestNode::start(&db.url_through(proxy.address()), "one", &fixture, limit(queue)).await;
        let mut held = Vec::new();
        for _ in 0..3 {
            let id = node.insert(json!({"do": "hold"})).await;
            fixture.started(id).await;
            held.push(id);
        }
        proxy.set(Mode::Unanswered);
        fixture.release_all();
        for id in held {
            reaches(&engine, id, State::Completed).await;
        }
        proxy.set(Mode::Pass);
        until("all stored", || async { (node.queues().running() == 0).then_some(()) }).await;
        // What the completer shows it has shown when it is done with the next.
        let next = node.insert(json!({"do": "error"})).await;
        reaches(&engine, next, State::Retryable).await;
        assert_eq!((label(&node, "superseded"), label(&node, "aside")), (None, None));
    }
}
