//! Settings of queues that operators keep: over restarts, for the fleet or one instance, until they expire or are
//! forgotten.

use std::time::Duration;

use serde_json::{Value, json};
use singularity::config::Role;
use singularity::instance::{Authorship, Settings, ask};
use singularity::node::{Node, kept, keys_of};
use singularity::postgres::Database;
use singularity::queue::{QueueOrder, State};
use singularity::supervision::Operation;

use crate::support::db::TestDb;
use crate::support::node::{Fixture, TestNode, job, signal, until};

fn scale(limit: u32) -> QueueOrder {
    QueueOrder::Scale { queue: "default".into(), limit }
}

async fn keep(database: &Database, instance: Option<&str>, order: &QueueOrder, lasts: Option<Duration>) {
    let by = Authorship { author: "test", reason: Some("to see"), lasts };
    Settings::new(database.clone()).keep(instance, &kept(order), &by).await.unwrap();
}

fn limit(node: &Node) -> Option<u32> {
    node.check_queue("default").map(|check| check.limit)
}

/// Tells an instance that settings have changed, and waits until it has seen to it.
async fn look(database: &Database, instance: &str) -> Value {
    let body = json!({ "queue": "default", "settings": true });
    ask(database, instance, "queues", &body, "test", Duration::from_secs(20)).await.unwrap()
}

#[tokio::test]
async fn what_is_kept_outlives_restarts_and_what_is_not_does_not() {
    let (db, database) = TestDb::migrated().await;
    let fixture = Fixture::new();
    let start = async |id: &str| TestNode::start(db.url(), id, &fixture, |_| {}).await;
    keep(&database, Some("one"), &scale(5), None).await;
    keep(&database, None, &QueueOrder::Start { queue: "novel".into(), limit: 3, paused: true }, None).await;
    let (one, two) = (start("one").await, start("two").await);
    assert_eq!((limit(&one), limit(&two)), (Some(5), Some(10)));
    let novel = two.check_queue("novel").unwrap();
    assert_eq!((novel.limit, novel.paused), (3, true));

    one.order_here(&scale(7)).await.unwrap();
    assert_eq!(limit(&one), Some(7));
    one.shutdown().await;
    let one = start("one").await;
    assert_eq!(limit(&one), Some(5), "what was not kept is gone");
    one.shutdown().await;
    // The last word counts: what is kept for all takes the place of what one had.
    keep(&database, None, &scale(20), None).await;
    keep(&database, None, &QueueOrder::Stop { queue: "novel".into() }, None).await;
    let one = start("one").await;
    assert_eq!((limit(&one), one.check_queue("novel")), (Some(20), None));
    keep(&database, Some("one"), &scale(6), None).await;
    one.shutdown().await;
    let one = start("one").await;
    assert_eq!(limit(&one), Some(6), "and one may have its own again");
}

#[tokio::test]
async fn a_running_instance_follows_when_what_is_kept_changes_expires_or_is_forgotten() {
    let (db, database) = TestDb::migrated().await;
    let (fixture, settings) = (Fixture::new(), Settings::new(database.clone()));
    let node = TestNode::start(db.url(), "one", &fixture, |_| {}).await;
    let held = node.insert(json!({"do": "hold"})).await;
    fixture.started(held).await;
    keep(&database, None, &scale(4), None).await;
    assert_eq!(look(&database, "one").await["queues"][0]["limit"], 4);
    // What somebody ordered since stays, as long as nothing of what is kept changes.
    node.order_here(&scale(8)).await.unwrap();
    assert_eq!(look(&database, "one").await["queues"][0]["limit"], 8);
    assert_eq!(settings.forget(None, &keys_of("default")).await.unwrap(), 1);
    assert_eq!(look(&database, "one").await["queues"][0]["limit"], 10);

    keep(&database, Some("one"), &QueueOrder::Pause { queue: "default".into() }, Some(Duration::from_secs(600))).await;
    assert_eq!(look(&database, "one").await["queues"][0]["paused"], true);
    assert_eq!(settings.in_force(Some("two")).await.unwrap(), []);
    let kept = settings.in_force(Some("one")).await.unwrap();
    assert_eq!((kept[0].author.as_str(), kept[0].reason.as_deref()), ("test", Some("to see")));
    assert!(kept[0].expires_at.unwrap() > kept[0].set_at);
    db.execute("UPDATE instance_settings SET expires_at = now()").await;
    assert_eq!(look(&database, "one").await["queues"][0]["paused"], false);

    // Also through the actor's own restart, which forgets nothing of what it has seen.
    keep(&database, None, &QueueOrder::Stop { queue: "default".into() }, None).await;
    node.system().operate(Operation::Restart, "/instance/settings", "test", None).await.unwrap();
    assert!(!look(&database, "one").await["queues"][0]["shutdown_started_at"].is_null());
    fixture.release(held);
    until("an end", || async { node.check_queue("default").is_none().then_some(()) }).await;
    settings.forget(None, &keys_of("default")).await.unwrap();
    assert_eq!(look(&database, "one").await["queues"][0]["limit"], 10);
    let next = node.engine().insert(job(json!({"do": "ok"}))).await.unwrap();
    node.reaches(next.id, State::Completed).await;
    assert!(fixture.seen().dropped.is_empty());
}

#[tokio::test]
async fn a_pause_of_all_queues_is_kept_over_restarts_until_a_later_word_about_one() {
    let (db, database) = TestDb::migrated().await;
    let fixture = Fixture::new();
    let start = async || {
        TestNode::start(db.url(), "one", &fixture, |config| {
            config.queues.insert("other".into(), singularity::config::Queue::default());
        })
        .await
    };
    let paused = |node: &Node| node.check_all_queues().iter().map(|queue| queue.paused).collect::<Vec<_>>();
    let node = start().await;
    keep(&database, None, &QueueOrder::Pause { queue: "*".into() }, None).await;
    look(&database, "one").await;
    assert_eq!(paused(&node), [true, true]);
    node.shutdown().await;
    let node = start().await;
    assert_eq!(paused(&node), [true, true], "also after a restart");
    keep(&database, None, &QueueOrder::Resume { queue: "other".into() }, None).await;
    look(&database, "one").await;
    assert_eq!(paused(&node), [true, false]);
    assert_eq!(Settings::new(database.clone()).forget(None, &keys_of("*")).await.unwrap(), 1);
    look(&database, "one").await;
    assert_eq!(paused(&node), [false, false]);
    node.shutdown().await;
}

#[tokio::test]
async fn where_no_job_is_executed_no_queue_starts_whoever_orders_it() {
    let (db, database) = TestDb::migrated().await;
    let start = || QueueOrder::Start { queue: "reports".into(), limit: 5, paused: false };
    let central = TestNode::start(db.url(), "hub", &Fixture::new(), |config| config.cloud.role = Role::Central).await;
    let names = || central.queues().names();
    assert_eq!(names(), [""; 0]);
    // By a request, to which it says that there is no such queue here.
    let ordered = async |order: QueueOrder| {
        let body = json!({ "signal": order.signal("any") });
        ask(&database, "hub", "queues", &body, "test", Duration::from_secs(20)).await.unwrap()
    };
    assert_eq!(ordered(start()).await, json!({ "queues": [] }));
    assert_eq!(central.order_here(&start()).await.unwrap(), []);
    // By a kept order, and by one that is forgotten.
    keep(&database, None, &start(), None).await;
    keep(&database, None, &QueueOrder::Stop { queue: "default".into() }, None).await;
    look(&database, "hub").await;
    assert_eq!(Settings::new(database.clone()).forget(None, &keys_of("default")).await.unwrap(), 1);
    look(&database, "hub").await;
    // By a signal. Notices come in their order, and orders wait in one mailbox, so it is obeyed before the next.
    signal(&database, json!(start().signal("any"))).await;
    ordered(QueueOrder::Stop { queue: "other".into() }).await;
    assert_eq!(names(), [""; 0]);
    central.shutdown().await;
}

#[tokio::test]
async fn what_could_not_be_carried_out_is_told_and_tried_again() {
    let (db, database) = TestDb::migrated().await;
    let node = TestNode::start(db.url(), "one", &Fixture::new(), |_| {}).await;
    // It cannot look.
    db.execute("ALTER TABLE instance_settings RENAME TO elsewhere").await;
    let told = look(&database, "one").await;
    assert_eq!((&told["error"]["kind"], &told["error"]["code"]), (&json!("failed"), &json!("E0724")), "{told}");
    db.execute("ALTER TABLE elsewhere RENAME TO instance_settings").await;

    // It cannot act: nobody is there who starts and stops queues.
    let operate = async |operation| node.system().operate(operation, "/services/queue_keeper", "test", None).await;
    operate(Operation::Terminate).await.unwrap();
    keep(&database, None, &QueueOrder::Stop { queue: "default".into() }, None).await;
    keep(&database, None, &QueueOrder::Start { queue: "novel".into(), limit: 3, paused: true }, None).await;
    let told = look(&database, "one").await;
    assert_eq!(told["error"]["code"], "E0724", "{told}");
    assert!(node.check_queue("default").is_some() && node.check_queue("novel").is_none());

    operate(Operation::Restart).await.unwrap();
    look(&database, "one").await;
    assert_eq!(node.check_queue("novel").unwrap().limit, 3);
    until("an end", || async { node.check_queue("default").is_none().then_some(()) }).await;
    node.shutdown().await;
}

/// The table can be written to by hand.
#[tokio::test]
async fn settings_that_cannot_be_used_keep_no_instance_from_starting() {
    let (db, database) = TestDb::migrated().await;
    for (key, value) in [
        ("queues.default.limit", json!(0)),
        ("queues.default.paused", json!("yes")),
        ("queues.a/b.start", json!(true)),
        ("queues", json!(null)),
        ("nonsense", json!([1])),
    ] {
        let by = Authorship { author: "hand", reason: None, lasts: None };
        Settings::new(database.clone()).keep(None, &[(key.to_owned(), value)], &by).await.unwrap();
    }
    let node = TestNode::start(db.url(), "one", &Fixture::new(), |_| {}).await;
    let checks = node.check_all_queues();
    assert_eq!(checks.len(), 1);
    assert_eq!((checks[0].limit, checks[0].paused), (10, false));
}
