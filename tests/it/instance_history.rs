//! What supervisors and operators did is kept in the database, bounded, and outlives the instance.

use singularity::instance::{EVENTS_KEPT_MAX, EventRow, events};
use singularity::postgres::Database;
use singularity::supervision::Operation;

use crate::support::db::{DEADLINE, TestDb};
use crate::support::node::{Fixture, TestNode, until};

async fn kept(database: &Database) -> Vec<EventRow> {
    events(database, None, u32::MAX).await.unwrap()
}

fn of<'a>(rows: &'a [EventRow], path: &str) -> Vec<&'a str> {
    rows.iter().filter(|row| row.path == path).map(|row| row.event.as_str()).collect()
}

async fn until_kept(database: &Database, path: &str, wanted: &[&str]) -> Vec<EventRow> {
    until(&format!("{wanted:?} of {path}"), || async {
        let rows = kept(database).await;
        (of(&rows, path) == wanted).then_some(rows)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_are_kept_also_over_a_crash_of_their_keeper() {
    let (db, database) = TestDb::migrated().await;
    let node = TestNode::start(db.url(), "one", &Fixture::default(), |_| {}).await;
    assert!(node.system().kill("/instance/history"));
    assert!(node.system().kill("/services/stager"));
    let rows = until_kept(&database, "/services/stager", &["exited", "started"]).await;
    assert_eq!(of(&rows, "/instance/history"), ["exited", "started"]);
    let crash = rows.iter().find(|row| row.path == "/services/stager").unwrap();
    assert_eq!((crash.instance_id.as_str(), crash.level.as_str(), crash.incarnation), ("one", "warning", 1));
    assert_eq!((crash.reason.as_deref(), &crash.detail["exit"]), (Some("killed"), &"killed".into()));
    node.shutdown().await;
    assert_eq!(kept(&database).await.len(), rows.len(), "an orderly end is no news");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_tree_that_gave_up_is_kept() {
    let (db, database) = TestDb::migrated().await;
    let node = TestNode::start(db.url(), "one", &Fixture::default(), |_| {}).await;
    // Each round costs the supervisor of services one restart, and in the end the root its last.
    let gave_up = async {
        loop {
            node.system().kill("/services/stager");
            tokio::task::yield_now().await;
        }
    };
    let end = async {
        tokio::select! {
            _ = node.gave_up() => {}
            () = gave_up => {}
        }
    };
    tokio::time::timeout(DEADLINE, end).await.expect("an end");
    node.shutdown().await;
    let rows = kept(&database).await;
    let last = rows.last().unwrap();
    assert!(of(&rows, "/services/stager").contains(&"max_intensity"), "{:?}", of(&rows, "/services/stager"));
    assert_eq!((last.event.as_str(), last.level.as_str(), last.path.as_str()), ("max_intensity", "error", "/services"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_events_of_an_instance_are_kept_and_no_more() {
    let (db, database) = TestDb::migrated().await;
    let node = TestNode::start(db.url(), "one", &Fixture::default(), |_| {}).await;
    let orders = EVENTS_KEPT_MAX + 150;
    for order in 0..orders {
        node.system().operate(Operation::Terminate, "/", "test", Some(&order.to_string())).await.unwrap_err();
    }
    let newest = (orders - 1).to_string();
    until("the last order", || async {
        let rows = kept(&database).await;
        rows.iter().any(|row| row.why.as_ref() == Some(&newest)).then_some(())
    })
    .await;
    node.shutdown().await;
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM supervision_events").fetch_one(database.pool()).await.unwrap();
    assert_eq!(usize::try_from(count).unwrap(), EVENTS_KEPT_MAX);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_instances_long_gone_are_forgotten_after_thirty_days() {
    let (db, database) = TestDb::migrated().await;
    for (instance, days) in [("old", 31), ("gone", 29)] {
        db.execute(format!(
            "INSERT INTO supervision_events (instance_id, process, seq, at, level, path, incarnation, event, inserted_at)
             VALUES ('{instance}', gen_random_uuid(), 1, now(), 'error', '/', 1, 'zombie', now() - interval '{days} days')"
        ))
        .await;
    }
    let _node = TestNode::start(db.url(), "one", &Fixture::default(), |_| {}).await;
    until("one of two", || async {
        let rows = kept(&database).await;
        (rows.iter().map(|row| row.instance_id.as_str()).collect::<Vec<_>>() == ["gone"]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_the_database_refuses_holds_up_no_other_and_is_counted() {
    let (db, database) = TestDb::migrated().await;
    db.execute("ALTER TABLE supervision_events ADD CHECK (path <> '/services/stager')").await;
    let node = TestNode::start(db.url(), "one", &Fixture::default(), |_| {}).await;
    assert!(node.system().kill("/services/stager"));
    assert!(node.system().kill("/services/lifeline"));
    let lost = until("two kept and two lost", || async {
        let rows = kept(&database).await;
        let lost: u64 = rows.iter().filter_map(|row| row.detail["events"].as_u64()).sum();
        (of(&rows, "/services/lifeline") == ["exited", "started"] && lost == 2).then_some(rows)
    })
    .await;
    assert!(lost.iter().any(|row| row.event == "events_lost" && row.path == "/instance/history"));
    node.shutdown().await;
}
