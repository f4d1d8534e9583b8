//! Who is there: registering, being taken over, going stale, being replaced, and questions from outside.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use singularity::error::Coded;
use singularity::instance::{
    Answer, Beat, BeatAnswer, CONTROL_CHANNEL, Control, ControlMsg, Identity, InstanceError, Presence, Request,
    Sightings, ask,
};
use singularity::postgres::Database;
use singularity::postgres::notifier::{Listener, ListenerOptions};
use singularity::queue::State;
use singularity::supervision::{Strategy, SupervisorSpec, System, TreeNode};
use sqlx::postgres::PgListener;
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use crate::support::db::{DEADLINE, TestDb, waits_for_a_lock};
use crate::support::node::{Fixture, TestNode, restarts, until, workers};

fn beat(status: &'static str, load: i32) -> Beat {
    Beat { status, load, queues: json!({"default": {"limit": 3}}) }
}

fn identity(name: &str) -> Identity {
    Identity::of_this_process(name).unwrap()
}

async fn presence() -> (TestDb, Presence) {
    let (db, database) = TestDb::migrated().await;
    (db, Presence::new(database, identity("x").host_key))
}

async fn register(presence: &Presence, who: &Identity) -> Result<(), InstanceError> {
    presence.register(who, &json!({"llm": true}), &beat("online", 0), 30_000).await
}

async fn status(presence: &Presence, name: &str) -> String {
    presence.get(name).await.unwrap().unwrap().status
}

/// The last heartbeat was so long ago.
async fn age(db: &TestDb, seconds: u32) {
    db.execute(format!("UPDATE instance_registry SET last_heartbeat = now() - interval '{seconds} s'")).await;
}

/// What is on record of an instance, with the reason.
async fn happened(db: &TestDb, instance: &str) -> Vec<(String, String)> {
    let events = singularity::instance::events(&db.connect("public").await, Some(instance), 100).await.unwrap();
    events.into_iter().map(|event| (event.event, event.reason.unwrap_or_default())).collect()
}

/// A process that is gone and was waited for.
fn dead_process() -> u32 {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

#[tokio::test]
async fn a_registered_instance_is_listed_with_what_it_said() {
    let (_db, presence) = presence().await;
    let one = identity("one");
    register(&presence, &one).await.unwrap();
    let row = presence.get("one").await.unwrap().unwrap();
    assert_eq!((row.hostname, row.pid), (one.hostname.clone(), one.pid.to_string()));
    assert_eq!((row.status.as_str(), row.load, &row.capabilities["llm"]), ("online", 0, &json!(true)));
    assert_eq!((&row.queues["default"]["limit"], row.version.as_str()), (&json!(3), env!("CARGO_PKG_VERSION")));
    assert!((0..5_000).contains(&row.heartbeat_age_ms));
    assert_eq!(presence.beat(&one, &beat("paused", 7)).await.unwrap(), BeatAnswer::Stored);
    let after = presence.get("one").await.unwrap().unwrap();
    assert_eq!((after.status.as_str(), after.load), ("paused", 7));
    assert!(after.last_heartbeat > row.last_heartbeat && after.created_at == row.created_at);
    presence.leave(&one).await.unwrap();
    assert_eq!(status(&presence, "one").await, "offline");
}

#[tokio::test]
async fn a_name_that_is_in_use_is_refused_and_free_again_when_its_owner_has_left() {
    let (_db, presence) = presence().await;
    let (first, second) = (identity("one"), identity("one"));
    register(&presence, &first).await.unwrap();
    for error in [register(&presence, &second).await, presence.refuse_taken(&second).await] {
        let error = error.unwrap_err();
        assert_eq!(error.code(), "E0702");
        assert!(error.to_string().contains(&first.pid.to_string()) && error.hint().is_some(), "{error}");
    }
    register(&presence, &first).await.unwrap();
    assert_eq!(presence.beat(&second, &beat("online", 0)).await.unwrap(), BeatAnswer::Replaced);
    presence.leave(&second).await.unwrap();
    assert_eq!(status(&presence, "one").await, "online", "only the owner can leave");
    presence.leave(&first).await.unwrap();
    register(&presence, &second).await.unwrap();
    assert_eq!(presence.beat(&first, &beat("online", 0)).await.unwrap(), BeatAnswer::Replaced);
}

#[tokio::test]
async fn of_many_processes_that_want_one_name_at_the_same_time_one_gets_it() {
    let (_db, presence) = presence().await;
    let all: Vec<Identity> = (0..10).map(|_| identity("one")).collect();
    let results = futures_util::future::join_all(all.iter().map(|who| register(&presence, who))).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
}

#[tokio::test]
async fn a_neighbour_whose_process_is_gone_is_dead_at_once() {
    let (db, presence) = presence().await;
    let gone = Identity { pid: dead_process(), ..identity("one") };
    // The same process id elsewhere says nothing.
    let elsewhere =
        Identity { host_key: Some("another machine".into()), ..Identity { pid: gone.pid, ..identity("two") } };
    let unknown = Identity { host_key: None, ..Identity { pid: gone.pid, ..identity("three") } };
    for who in [&elsewhere, &unknown, &gone] {
        register(&presence, who).await.unwrap();
    }
    assert_eq!(presence.mark_gone().await.unwrap(), ["one"]);
    let died = ("died".into(), "its process is gone; its jobs are taken over".into());
    assert_eq!(happened(&db, "one").await, [died]);
    assert_eq!(status(&presence, "two").await, "online");
    assert_eq!(status(&presence, "three").await, "online");
    // And its name can be had without waiting.
    register(&presence, &gone).await.unwrap();
    register(&presence, &identity("one")).await.unwrap();
}

#[tokio::test]
async fn an_instance_without_heartbeat_is_dead_after_its_own_time() {
    let (db, presence) = presence().await;
    let one = identity("one");
    register(&presence, &one).await.unwrap();
    let (mut sightings, start) = (Sightings::default(), Instant::now());
    age(&db, 25).await;
    assert!(presence.mark_dead(&mut sightings, start).await.unwrap().is_empty());
    let later = start + Duration::from_secs(100);
    assert!(presence.mark_dead(&mut sightings, later).await.unwrap().is_empty(), "stands still, but is not stale");
    age(&db, 31).await;
    assert!(presence.mark_dead(&mut sightings, later).await.unwrap().is_empty(), "is stale, but just seen");
    assert_eq!(status(&presence, "one").await, "offline", "for those who look");
    let later = later + Duration::from_secs(10);
    assert_eq!(presence.mark_dead(&mut sightings, later).await.unwrap(), ["one"]);
    assert!(presence.mark_dead(&mut sightings, later).await.unwrap().is_empty(), "once");
    assert_eq!(presence.beat(&one, &beat("online", 0)).await.unwrap(), BeatAnswer::WasDead);
    assert_eq!(presence.beat(&one, &beat("online", 0)).await.unwrap(), BeatAnswer::Stored);
    // And once more, which is an event of its own.
    assert_eq!(
        happened(&db, "one").await,
        [("died".into(), "its heartbeat stood still; its jobs are taken over".into())]
    );
    age(&db, 31).await;
    let mut sightings = Sightings::default();
    assert!(presence.mark_dead(&mut sightings, later).await.unwrap().is_empty());
    assert_eq!(presence.mark_dead(&mut sightings, later + Duration::from_secs(10)).await.unwrap(), ["one"]);
    assert_eq!(happened(&db, "one").await.len(), 2);
    assert_eq!(presence.beat(&one, &beat("online", 0)).await.unwrap(), BeatAnswer::WasDead);
    // A stale name can be taken over in one step.
    age(&db, 31).await;
    register(&presence, &identity("one")).await.unwrap();
}

#[tokio::test]
async fn a_heartbeat_that_comes_while_its_instance_is_declared_dead_is_in_time() {
    let (db, presence) = presence().await;
    register(&presence, &identity("one")).await.unwrap();
    age(&db, 31).await;
    let (mut sightings, start) = (Sightings::default(), Instant::now());
    assert!(presence.mark_dead(&mut sightings, start).await.unwrap().is_empty(), "just seen");
    let database = db.connect("public").await;
    let mut beating = database.pool().begin().await.unwrap();
    let sql = "UPDATE instance_registry SET last_heartbeat = clock_timestamp()";
    sqlx::query(sql).execute(&mut *beating).await.unwrap();
    // Stored when the other has read the old one and is about to write.
    let stored = async {
        until("a writer that waits for the row", || async {
            waits_for_a_lock(&database, "WITH dead%").await.then_some(())
        })
        .await;
        beating.commit().await.unwrap();
    };
    let (dead, ()) = tokio::join!(presence.mark_dead(&mut sightings, start + Duration::from_secs(10)), stored);
    assert!(dead.unwrap().is_empty());
    assert_eq!(status(&presence, "one").await, "online");
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_makes_nobody_dead() {
    let (db, presence) = presence().await;
    let one = identity("one");
    register(&presence, &one).await.unwrap();
    let (mut sightings, start) = (Sightings::default(), Instant::now());
    // By the jumped clock every heartbeat is an hour old, until the instance has written its next one.
    for beats in 0..5 {
        let now = start + Duration::from_secs(beats * 5);
        age(&db, 3_600).await;
        assert!(presence.mark_dead(&mut sightings, now).await.unwrap().is_empty());
        assert!(presence.mark_dead(&mut sightings, now + Duration::from_secs(4)).await.unwrap().is_empty());
        assert_eq!(presence.beat(&one, &beat("online", 0)).await.unwrap(), BeatAnswer::Stored);
    }
}

#[tokio::test]
async fn a_time_in_which_the_database_was_away_is_no_time_of_standing_still() {
    let (db, presence) = presence().await;
    let one = identity("one");
    register(&presence, &one).await.unwrap();
    let (mut sightings, start) = (Sightings::default(), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    // By a clock that is a minute ahead; the instance has no time to beat before the database goes away.
    age(&db, 60).await;
    assert!(presence.mark_dead(&mut sightings, at(0)).await.unwrap().is_empty());
    let away = db.connect("public").await;
    away.pool().close().await;
    assert!(Presence::new(away, None).mark_dead(&mut sightings, at(5)).await.is_err());
    assert!(presence.mark_dead(&mut sightings, at(14)).await.unwrap().is_empty());
    assert!(presence.mark_dead(&mut sightings, at(23)).await.unwrap().is_empty());
    assert_eq!(presence.mark_dead(&mut sightings, at(24)).await.unwrap(), ["one"]);
}

#[tokio::test]
async fn an_instance_that_others_counted_as_dead_stops_what_they_may_have_taken() {
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, |config| {
        // Nobody rescues, so that what the instance itself does can be seen.
        config.services.lifeline.interval = singularity::config::Period::from_secs(3_600);
    })
    .await;
    until("the lifeline's first run", || async {
        let tree = node.system().snapshot();
        let lifeline = tree.find("/services/lifeline").unwrap();
        (lifeline.mailbox.as_ref()?.processed == 1 && lifeline.current_message.is_none()).then_some(())
    })
    .await;
    let id = node.insert(json!({"do": "hang"})).await;
    fixture.started(id).await;
    db.execute("UPDATE instance_registry SET status = 'offline'").await;
    fixture.until("the end of the first run", |seen| seen.dropped == [(id, 1)]).await;
    // Nobody took it, so it is handed back with its attempt unspent, and runs again.
    fixture.until("a second run", |seen| seen.started == [(id, 1), (id, 1)]).await;
    // The next time is as the first.
    db.execute("UPDATE instance_registry SET status = 'offline'").await;
    fixture.until("the end of the second run", |seen| seen.dropped == [(id, 1), (id, 1)]).await;
    until("its record", || async {
        happened(&db, "one")
            .await
            .iter()
            .any(|(event, reason)| event == "fenced" && reason.contains("as dead"))
            .then_some(())
    })
    .await;
    assert_eq!(restarts(&node.system().snapshot()), 0);
}

#[tokio::test]
async fn a_node_whose_name_was_taken_stops_its_jobs_and_gives_up() {
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, |_| {}).await;
    let id = node.insert(json!({"do": "hang"})).await;
    fixture.started(id).await;
    db.execute(format!("UPDATE instance_registry SET incarnation = '{}'", Uuid::now_v7())).await;
    fixture.until("the end of the run", |seen| seen.dropped == [(id, 1)]).await;
    tokio::time::timeout(Duration::from_secs(20), node.gave_up()).await.expect("an end");
}

#[tokio::test]
async fn heartbeats_say_what_runs_and_a_node_whose_queues_are_all_paused_is_paused() {
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, |_| {}).await;
    let presence = Presence::new(node.engine().db().clone(), None);
    let id = node.insert(json!({"do": "hold"})).await;
    fixture.started(id).await;
    let row = until("load 1", || async { presence.get("one").await.unwrap().filter(|row| row.load == 1) }).await;
    let producer = node.queues().get("default").unwrap().producer();
    let queue = json!({"limit": 10, "paused": false, "running": 1, "stopping": false, "producer": producer});
    assert_eq!(row.queues["default"], queue);
    assert!(row.capabilities["workers"].as_array().unwrap().contains(&json!("fixture")));
    node.queues().get("default").unwrap().set_paused(true);
    until("paused", || async { (status(&presence, "one").await == "paused").then_some(()) }).await;
    fixture.release(id);
    node.reaches(id, State::Completed).await;
    node.shutdown().await;
}

/// What instances say to each other and to commands, on channels beside those of Oban.
#[tokio::test]
async fn golden_texts_of_what_is_asked_and_answered_and_learned() {
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, |_| {}).await;
    let database = db.connect("public").await;
    let mut listener = PgListener::connect_with(database.pool()).await.unwrap();
    listener
        .listen_all(["control", "learning"].map(|name| database.channel(name)).iter().map(String::as_str))
        .await
        .unwrap();
    let mut next = async || {
        let notice = tokio::time::timeout(DEADLINE, listener.recv()).await.expect("a notice").unwrap();
        (notice.channel().to_owned(), notice.payload().to_owned())
    };
    question(&database, "one", "tree").await.unwrap();
    let id: Uuid = sqlx::query_scalar("SELECT id FROM control_requests").fetch_one(database.pool()).await.unwrap();
    assert_eq!(next().await, ("public.oban_control".to_owned(), r#"{"instance" : "one"}"#.to_owned()));
    assert_eq!(next().await, ("public.oban_control".to_owned(), format!(r#"{{"answered" : "{id}"}}"#)));
    let learned = "INSERT INTO learnings (id, type, key, summary, payload) VALUES (1, 'a', 'b', 'c', '{}')";
    sqlx::raw_sql(learned).execute(database.pool()).await.unwrap();
    assert_eq!(next().await, ("public.oban_learning".to_owned(), String::new()));
    node.shutdown().await;
}

async fn question(db: &Database, instance: &str, action: &str) -> Result<Value, InstanceError> {
    ask(db, instance, action, &json!({}), "test", Duration::from_secs(10)).await
}

#[tokio::test]
async fn a_live_node_answers_questions_and_nobody_answers_for_another() {
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, |_| {}).await;
    let id = node.insert(json!({"do": "hold"})).await;
    fixture.started(id).await;
    let asker = db.connect("public").await;
    let tree: TreeNode = serde_json::from_value(question(&asker, "one", "tree").await.unwrap()).unwrap();
    let job = tree.find(&format!("/executors/default/{id}")).unwrap();
    assert_eq!((job.labels["worker"].as_str(), job.labels["attempt"].as_str()), ("fixture", "1/20"));
    let answer = question(&asker, "one", "explode").await.unwrap();
    assert_eq!(answer["error"]["code"], "E0715", "{answer}");
    assert!(answer["error"]["text"].as_str().unwrap().contains("explode"), "{answer}");
    let nobody = ask(&asker, "two", "tree", &json!({}), "test", Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(nobody.code(), "E0704");
    let (asked, answered): (i64, i64) = sqlx::query_as("SELECT count(*), count(answered_at) FROM control_requests")
        .fetch_one(asker.pool())
        .await
        .unwrap();
    assert_eq!((asked, answered), (3, 2), "a record stays");
    fixture.release(id);
    drop(workers(&fixture));
}

#[tokio::test]
async fn an_answer_with_a_character_that_the_database_refuses_comes_without_it() {
    let (_db, database) = TestDb::migrated().await;
    let control = Control::address();
    let answer: Answer = Arc::new(|_| Box::pin(async { Ok(json!({ "a\0": ["line \0 of a binary file", 7] })) }));
    let child = Control::child(database.clone(), "one".into(), &control, answer);
    let system = System::new("test");
    let running = system.start(SupervisorSpec::new("test", Strategy::OneForOne).child(child)).await.unwrap();
    let asked = question(&database, "one", "tree");
    // As whoever hears a notice has the actor look.
    let looking = async {
        loop {
            drop(control.cast(ControlMsg::Look));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let answered = tokio::select! {
        answered = asked => answered.unwrap(),
        () = looking => unreachable!("it looks for ever"),
    };
    assert_eq!(answered, json!({ "a\u{fffd}": ["line \u{fffd} of a binary file", 7] }));
    running.stop().await;
}

#[tokio::test]
async fn a_long_answer_holds_up_no_other_and_goes_on_when_its_asker_gives_up() {
    let (_db, database) = TestDb::migrated().await;
    let (begun, control) = (Arc::new(Notify::new()), Control::address());
    let seen = Arc::clone(&begun);
    let answer: Answer = Arc::new(move |request: Request| {
        let seen = Arc::clone(&seen);
        Box::pin(async move {
            if request.action == "long" {
                seen.notify_one();
                std::future::pending::<()>().await;
            }
            Ok(json!(request.by))
        })
    });
    let system = System::new("test");
    let child = Control::child(database.clone(), "one".into(), &control, answer);
    let running = system.start(SupervisorSpec::new("test", Strategy::OneForOne).child(child)).await.unwrap();
    let (body, limit) = (json!({}), Duration::from_secs(3));
    let long = ask(&database, "one", "long", &body, "test", limit);
    let other = async {
        begun.notified().await;
        question(&database, "one", "short").await.unwrap()
    };
    // As on a node, whoever hears a notice has the actor look.
    let mut listener = Listener::new(&database, &[CONTROL_CHANNEL], ListenerOptions::default());
    let hearing = async {
        loop {
            listener.next().await;
            drop(control.cast(ControlMsg::Look));
        }
    };
    let (long, other) = tokio::select! {
        answers = async { tokio::join!(long, other) } => answers,
        () = hearing => unreachable!("it listens for ever"),
    };
    assert_eq!((long.unwrap_err().code(), other), ("E0705", json!("test")));
    running.stop().await;
}
