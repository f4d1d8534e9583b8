//! LISTEN and NOTIFY through every way in which a connection can die.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;
use singularity::error::Coded;
use singularity::postgres::notifier::message::{self, Insert, Undecodable};
use singularity::postgres::notifier::{self, Event, INSERT, Listener, ListenerOptions, SIGNAL, notify};
use singularity::postgres::{Database, PoolOptions};

use crate::support::db::{DEADLINE, TestDb};
use crate::support::proxy::{Mode, Proxy};

/// A beat that a test can wait for.
fn fast() -> ListenerOptions {
    ListenerOptions { beat_interval: Duration::from_millis(200), beat_timeout: Duration::from_secs(1), seed: 1 }
}

async fn next(listener: &mut Listener) -> Event {
    tokio::time::timeout(DEADLINE, listener.next()).await.expect("an event")
}

async fn resync(listener: &mut Listener) {
    assert!(matches!(next(listener).await, Event::Resync));
}

/// The next notification, past whatever an outage brings.
async fn notified(listener: &mut Listener) -> (String, String) {
    loop {
        if let Event::Notified { channel, payload } = next(listener).await {
            return (channel, payload);
        }
    }
}

/// Goes on until listening begins again; the connection must have been reported lost.
async fn until_resync(listener: &mut Listener) {
    let mut is_down = false;
    loop {
        match next(listener).await {
            Event::Down { error } => {
                assert!(error.is_unavailable(), "{error:?}");
                is_down = true;
            }
            Event::Resync => break assert!(is_down),
            Event::Notified { .. } => panic!("nothing was sent"),
        }
    }
}

async fn send(database: &Database, queue: &str) {
    notify(database.pool(), &database.channel(INSERT), &[Insert { queue: queue.into() }]).await.unwrap();
}

async fn connected_through_proxy(options: ListenerOptions) -> (TestDb, Database, Proxy, Listener) {
    let db = TestDb::new().await;
    let database = db.connect("public").await;
    let proxy = Proxy::start(db.host_and_port()).await;
    let through = Database::connect_lazy(&db.url_through(proxy.address()), &PoolOptions::default()).unwrap();
    let mut listener = Listener::new(&through, &[INSERT], options);
    resync(&mut listener).await;
    (db, database, proxy, listener)
}

#[tokio::test]
async fn delivers_what_is_sent_on_its_channels_and_in_its_schema() {
    let db = TestDb::new().await;
    let (jobs, others) = (db.connect("jobs").await, db.connect("others").await);
    let mut listener = Listener::new(&jobs, &[INSERT, SIGNAL, INSERT], ListenerOptions::default());
    resync(&mut listener).await;

    send(&others, "elsewhere").await;
    let queues = [Insert { queue: "a".into() }, Insert { queue: "b".into() }];
    notify(jobs.pool(), &jobs.channel(INSERT), &queues).await.unwrap();
    notify(jobs.pool(), &jobs.channel(SIGNAL), &[json!({"action": "pkill", "job_id": 1})]).await.unwrap();
    for queue in queues {
        let (channel, payload) = notified(&mut listener).await;
        assert_eq!((channel.as_str(), message::decode_insert(&payload)), (INSERT, Ok(queue)));
    }
    let (channel, payload) = notified(&mut listener).await;
    assert_eq!((channel.as_str(), payload.as_str()), (SIGNAL, r#"{"action":"pkill","job_id":1}"#));
}

#[tokio::test]
async fn sends_with_the_callers_transaction() {
    let db = TestDb::new().await;
    let database = db.connect("public").await;
    let mut listener = Listener::new(&database, &[INSERT], ListenerOptions::default());
    resync(&mut listener).await;

    let channel = database.channel(INSERT);
    let mut lost = database.pool().begin().await.unwrap();
    notify(&mut *lost, &channel, &[Insert { queue: "lost".into() }]).await.unwrap();
    lost.rollback().await.unwrap();

    let mut kept = database.pool().begin().await.unwrap();
    notify(&mut *kept, &channel, &[Insert { queue: "kept".into() }]).await.unwrap();
    let noise: Vec<u32> = (0..4_000_u32).map(|i| i.wrapping_mul(2_654_435_761)).collect();
    for (payload, reason) in [(json!([1]), "object"), (json!({"a": noise}), "7900")] {
        let error = notify(&mut *kept, &channel, &[payload]).await.unwrap_err();
        assert!(error.code() == "E0228" && error.to_string().contains(reason), "{error}");
    }
    let many = vec![json!({}); notifier::PAYLOADS_MAX + 1];
    assert_eq!(notify(&mut *kept, &channel, &many).await.unwrap_err().code(), "E0228");
    kept.commit().await.unwrap();
    assert_eq!(notified(&mut listener).await.1, r#"{"queue":"kept"}"#);
}

#[tokio::test]
async fn giving_up_on_next_loses_nothing() {
    let db = TestDb::new().await;
    let database = db.connect("public").await;
    // Beats and notifications meet all the time.
    let options = ListenerOptions { beat_interval: Duration::from_millis(2), beat_timeout: DEADLINE, seed: 1 };
    let mut listener = Listener::new(&database, &[INSERT], options);
    let patience = Duration::from_micros(300);
    let connecting = async { while tokio::time::timeout(patience, listener.next()).await.is_err() {} };
    tokio::time::timeout(DEADLINE, connecting).await.unwrap();

    let sender = async {
        for number in 0..200 {
            send(&database, &number.to_string()).await;
        }
    };
    let receiver = async {
        let mut received = Vec::new();
        while received.len() < 200 {
            match tokio::time::timeout(patience, listener.next()).await {
                Ok(Event::Notified { payload, .. }) => received.push(message::decode_insert(&payload).unwrap().queue),
                Ok(other) => panic!("{other:?}"),
                Err(_) => {}
            }
        }
        received
    };
    let (received, ()) = tokio::time::timeout(DEADLINE, async { tokio::join!(receiver, sender) }).await.unwrap();
    assert_eq!(received, (0..200).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn hears_again_after_its_backend_was_terminated() {
    let db = TestDb::new().await;
    let database = db.connect("public").await;
    let options = PoolOptions { application_name: "listens".into(), ..PoolOptions::default() };
    let listening = Database::connect_lazy(db.url(), &options).unwrap();
    let mut listener = Listener::new(&listening, &[INSERT], ListenerOptions::default());
    resync(&mut listener).await;
    for round in ["1", "2"] {
        db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE application_name = 'listens' AND datname = current_database()",
        )
        .await;
        until_resync(&mut listener).await;
        send(&database, round).await;
        assert_eq!(notified(&mut listener).await.1, format!(r#"{{"queue":"{round}"}}"#));
    }
}

#[tokio::test]
async fn hears_again_after_a_connection_reset() {
    let (_db, database, proxy, mut listener) = connected_through_proxy(ListenerOptions::default()).await;
    proxy.set(Mode::Reset);
    assert!(matches!(next(&mut listener).await, Event::Down { .. }));
    // As long as it goes on, each attempt is an event and nothing ends.
    assert!(matches!(next(&mut listener).await, Event::Down { .. }));
    proxy.set(Mode::Pass);
    while !matches!(next(&mut listener).await, Event::Resync) {}
    send(&database, "after").await;
    assert_eq!(notified(&mut listener).await.1, r#"{"queue":"after"}"#);
}

#[tokio::test]
async fn the_beat_notices_a_connection_that_swallows_everything() {
    let (_db, database, proxy, mut listener) = connected_through_proxy(fast()).await;
    send(&database, "before").await;
    assert_eq!(notified(&mut listener).await.1, r#"{"queue":"before"}"#);
    proxy.set(Mode::Blackhole);
    match next(&mut listener).await {
        Event::Down { error } => assert!(error.is_unavailable(), "{error:?}"),
        other => panic!("{other:?}"),
    }
    proxy.set(Mode::Pass);
    while !matches!(next(&mut listener).await, Event::Resync) {}
    send(&database, "after").await;
    assert_eq!(notified(&mut listener).await.1, r#"{"queue":"after"}"#);
}

#[tokio::test]
async fn a_quiet_connection_is_kept_as_long_as_the_beat_is_answered() {
    let (_db, database, _proxy, mut listener) = connected_through_proxy(fast()).await;
    let beats = async {
        let mut seen = HashSet::new();
        while seen.len() < 4 {
            let last: Vec<DateTime<Utc>> = sqlx::query_scalar(
                "SELECT query_start FROM pg_stat_activity WHERE query = 'SELECT 1' AND datname = current_database()",
            )
            .fetch_all(database.pool())
            .await
            .unwrap();
            seen.extend(last);
        }
    };
    tokio::select! {
        event = listener.next() => panic!("{event:?}"),
        beats = tokio::time::timeout(DEADLINE, beats) => beats.unwrap(),
    }
    send(&database, "after").await;
    assert_eq!(notified(&mut listener).await.1, r#"{"queue":"after"}"#);
}

#[tokio::test]
async fn garbage_is_delivered_and_harms_nobody() {
    let db = TestDb::new().await;
    let database = db.connect("public").await;
    let mut listener = Listener::new(&database, &[INSERT], ListenerOptions::default());
    resync(&mut listener).await;
    for payload in ["", "{", "null", "[1]", "H4sIgarbage", "Z:garbage", "1"] {
        sqlx::query("SELECT pg_notify('public.oban_insert', $1)").bind(payload).execute(database.pool()).await.unwrap();
        let (_, received) = notified(&mut listener).await;
        assert_eq!(received, payload);
        assert!(message::decode_insert(&received).is_err());
    }
    assert!(matches!(message::decode_insert("H4sIgarbage"), Err(Undecodable::Compressed { .. })));
    send(&database, "good").await;
    assert_eq!(notified(&mut listener).await.1, r#"{"queue":"good"}"#);
}
