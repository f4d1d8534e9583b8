//! Conformance, point 5: pause, resume, scale, start and stop by raw NOTIFY, for all, for this instance, for others.

use serde_json::json;
use singularity::config::{Config, Period, Queue};
use singularity::node::Node;
use singularity::queue::{QueueCheck, State};

use crate::support::db::TestDb;
use crate::support::node::{Fixture, TestNode, job, restarts, until};

/// What makes a signal one for instance `one`, as the end of a JSON object.
const FOR_ONE: [&str; 4] = ["}", r#","ident":null}"#, r#","ident":"any"}"#, r#","ident":"Oban.one"}"#];
/// What makes it one for others.
const FOR_OTHERS: [&str; 6] = [
    r#","ident":"Oban.two"}"#,
    r#","ident":"Oban"}"#,
    r#","ident":"one"}"#,
    r#","ident":"My.Oban.one"}"#,
    r#","ident":"oban.one"}"#,
    r#","ident":"ANY"}"#,
];

/// A node `one` with queues `default` and `other`, and the means to talk to it.
struct Case {
    db: TestDb,
    fixture: Fixture,
    node: TestNode,
    marks: u32,
}

impl Case {
    async fn new(change: impl FnOnce(&mut Config)) -> Self {
        let (db, fixture) = (TestDb::new().await, Fixture::new());
        let node = TestNode::start(db.url(), "one", &fixture, |config| {
            config.queues.insert("default".into(), Queue { poll_interval: Period::from_secs(600), ..Queue::default() });
            config.queues.insert("other".into(), Queue { limit: 2, ..Queue::default() });
            change(config);
        })
        .await;
        Self { db, fixture, node, marks: 0 }
    }

    async fn say(&self, payload: &str) {
        let database = self.node.engine().db();
        sqlx::query("SELECT pg_notify($1, $2)")
            .bind(database.channel("signal"))
            .bind(payload)
            .execute(database.pool())
            .await
            .unwrap();
    }

    /// Waits until all that was said is heard and done: signals are heard in their order, and queues started in it.
    async fn settled(&mut self) {
        self.marks += 1;
        let mark = format!("mark_{}", self.marks);
        self.say(&format!(r#"{{"action":"start","queue":"{mark}","limit":1,"ident":"Oban.one"}}"#)).await;
        until("the mark", || async { self.node.check_queue(&mark) }).await;
        self.say(&format!(r#"{{"action":"stop","queue":"{mark}","ident":"Oban.one"}}"#)).await;
        until("no mark", || async { self.node.check_queue(&mark).is_none().then_some(()) }).await;
    }

    fn default(&self) -> QueueCheck {
        self.node.check_queue("default").unwrap()
    }
}

/// What orders could have changed.
fn settings(node: &Node) -> Vec<(String, u32, bool, bool)> {
    let of = |check: QueueCheck| (check.queue, check.limit, check.paused, check.shutdown_started_at.is_some());
    node.check_all_queues().into_iter().map(of).collect()
}

#[tokio::test]
async fn oban_05_pause_and_resume() {
    let mut case = Case::new(|_| {}).await;
    for end in FOR_ONE {
        for queue in ["default", "*"] {
            case.say(&format!(r#"{{"action":"pause","queue":"{queue}"{end}"#)).await;
            case.settled().await;
            let of_all: Vec<bool> = settings(&case.node).iter().map(|queue| queue.2).collect();
            assert_eq!(of_all, [true, queue == "*"], "{end}");
            case.say(&format!(r#"{{"action":"resume","queue":"{queue}"{end}"#)).await;
            case.settled().await;
            assert!(settings(&case.node).iter().all(|queue| !queue.2), "{end}");
        }
    }
    let before = settings(&case.node);
    for end in FOR_OTHERS {
        case.say(&format!(r#"{{"action":"pause","queue":"*"{end}"#)).await;
    }
    case.say(r#"{"action":"pause","queue":"nobody_has_it","ident":"any"}"#).await;
    case.settled().await;
    assert_eq!(settings(&case.node), before);
}

#[tokio::test]
async fn oban_05_keys_come_in_any_order_and_beside_others() {
    let mut case = Case::new(|_| {}).await;
    for (payload, limit, paused) in [
        (r#"{"queue":"default","limit":7,"ident":"any","action":"scale"}"#, 7, false),
        (r#"{"ident":"any","action":"pause","queue":"default"}"#, 7, true),
        (r#"{"queue":"default","action":"resume","ident":"Oban.one","local_only":false}"#, 7, false),
        // Whoever names a node in Elixir sends it along; engines have options of their own.
        (r#"{"action":"scale","queue":"default","limit":3,"node":"one","ident":"Oban.one"}"#, 3, false),
        (r#"{"action":"scale","rate":{"a":[1,null]},"queue":"default","limit":4,"global_limit":9}"#, 4, false),
        (r#"{ "action" : "scale" , "queue" : "default" , "limit" : 5 }"#, 5, false),
        (r#"{"action":"\u0073cale","queue":"default","limit":6,"limit":8}"#, 8, false),
    ] {
        case.say(payload).await;
        case.settled().await;
        let check = case.default();
        assert_eq!((check.limit, check.paused), (limit, paused), "{payload}");
    }
}

#[tokio::test]
async fn oban_05_scale() {
    let mut case = Case::new(|_| {}).await;
    for (number, end) in FOR_ONE.iter().enumerate() {
        let limit = 20 + u32::try_from(number).unwrap();
        case.say(&format!(r#"{{"action":"scale","queue":"default","limit":{limit}{end}"#)).await;
        case.settled().await;
        assert_eq!(case.default().limit, limit, "{end}");
    }
    let before = settings(&case.node);
    for end in FOR_OTHERS {
        case.say(&format!(r#"{{"action":"scale","queue":"default","limit":3{end}"#)).await;
    }
    case.settled().await;
    assert_eq!(settings(&case.node), before);
}

#[tokio::test]
async fn oban_05_start() {
    let mut case = Case::new(|_| {}).await;
    for (number, end) in FOR_ONE.iter().enumerate() {
        let queue = format!("Novel-{number}.v2");
        case.say(&format!(r#"{{"action":"start","queue":"{queue}","limit":3,"paused":false{end}"#)).await;
        let begun = until("a queue", || async { case.node.check_queue(&queue) }).await;
        assert_eq!((begun.limit, begun.paused, begun.running.len()), (3, false, 0), "{end}");
        let one = case.node.engine().insert(job(json!({"do": "ok"})).queue(&queue)).await.unwrap();
        let done = case.node.reaches(one.id, State::Completed).await;
        assert_eq!(done.attempted_by[1], begun.uuid.to_string());
    }
    // Paused as it is told, and not changed by a second start.
    case.say(r#"{"action":"start","queue":"quiet","limit":1,"paused":true,"ident":"any"}"#).await;
    case.say(r#"{"action":"start","queue":"quiet","limit":9,"ident":"any"}"#).await;
    case.say(r#"{"action":"start","queue":"default","limit":9,"paused":true,"ident":"any"}"#).await;
    case.settled().await;
    let quiet = case.node.check_queue("quiet").unwrap();
    assert_eq!((quiet.limit, quiet.paused), (1, true));
    assert_eq!((case.default().limit, case.default().paused), (10, false));
    let before = settings(&case.node);
    for end in FOR_OTHERS {
        case.say(&format!(r#"{{"action":"start","queue":"theirs","limit":3{end}"#)).await;
    }
    case.settled().await;
    assert_eq!(settings(&case.node), before);
    // It has everything that a queue of the configuration has: signals find it, and it survives its supervisor.
    case.say(r#"{"action":"resume","queue":"quiet","ident":"any"}"#).await;
    case.say(r#"{"action":"scale","queue":"quiet","limit":4,"ident":"any"}"#).await;
    case.settled().await;
    case.node.system().operate(singularity::supervision::Operation::Restart, "/queues", "test", None).await.unwrap();
    let one = case.node.engine().insert(job(json!({"do": "ok"})).queue("quiet")).await.unwrap();
    case.node.reaches(one.id, State::Completed).await;
    assert_eq!(case.node.check_queue("quiet").unwrap().limit, 4);
}

#[tokio::test]
async fn oban_05_stop_lets_running_jobs_finish_and_claims_no_more() {
    let mut case = Case::new(|_| {}).await;
    for (number, end) in FOR_ONE.iter().enumerate() {
        let running = case.node.insert(json!({"do": "hold"})).await;
        case.fixture.started(running).await;
        let uuid = case.default().uuid;
        case.say(&format!(r#"{{"action":"stop","queue":"default"{end}"#)).await;
        let stopping =
            until("a stop", || async { Some(case.default()).filter(|c| c.shutdown_started_at.is_some()) }).await;
        assert_eq!((stopping.running, stopping.uuid), (vec![running], uuid), "{end}");
        let waiting = case.node.insert(json!({"do": "ok"})).await;
        // A second stop, and all other orders, change nothing of that.
        case.say(r#"{"action":"stop","queue":"default","ident":"any"}"#).await;
        case.say(r#"{"action":"scale","queue":"default","limit":50,"ident":"any"}"#).await;
        case.say(r#"{"action":"resume","queue":"*","ident":"any"}"#).await;
        case.settled().await;
        assert_eq!((case.node.state(running).await, case.fixture.starts_of(waiting)), (State::Executing, 0));
        if number == 0 {
            // Also when whoever waits for the end is restarted meanwhile.
            let restart = singularity::supervision::Operation::Restart;
            case.node.system().operate(restart, "/services/queue_keeper", "test", None).await.unwrap();
        }
        case.fixture.release(running);
        case.node.reaches(running, State::Completed).await;
        until("an end", || async { case.node.check_queue("default").is_none().then_some(()) }).await;
        until("its actors' end", || async {
            let tree = case.node.system().snapshot();
            (tree.find("/queues/default").is_none() && tree.find("/executors/default").is_none()).then_some(())
        })
        .await;
        assert_eq!((case.node.state(waiting).await, case.fixture.starts_of(waiting)), (State::Available, 0));
        // Orders find nothing, and a start finds what waits.
        case.say(r#"{"action":"resume","queue":"default","ident":"any"}"#).await;
        case.say(r#"{"action":"start","queue":"default","limit":2,"ident":"any"}"#).await;
        case.node.reaches(waiting, State::Completed).await;
        let again = case.default();
        assert!(again.limit == 2 && again.uuid != uuid && again.refresh_interval == 600_000, "{again:?}");
    }
    for end in FOR_OTHERS {
        case.say(&format!(r#"{{"action":"stop","queue":"default"{end}"#)).await;
    }
    case.settled().await;
    assert_eq!(case.default().shutdown_started_at, None);
    assert_eq!(restarts(&case.node.system().snapshot()), 0);
    assert!(case.fixture.seen().dropped.is_empty());
}

#[tokio::test]
async fn oban_05_a_start_takes_a_stop_back_that_is_not_done() {
    let mut case = Case::new(|config| config.runtime.shutdown_grace = Period::from_millis(1_500)).await;
    let running = case.node.insert(json!({"do": "hold"})).await;
    case.fixture.started(running).await;
    let uuid = case.default().uuid;
    case.say(r#"{"action":"stop","queue":"default","ident":"any"}"#).await;
    case.say(r#"{"action":"start","queue":"default","limit":7,"ident":"any"}"#).await;
    case.settled().await;
    let check = case.default();
    assert_eq!((check.limit, check.shutdown_started_at, check.uuid), (7, None, uuid));
    let other = case.node.insert(json!({"do": "ok"})).await;
    case.node.reaches(other, State::Completed).await;
    // The stop's grace would be over when another queue's is that was stopped later.
    let late = case.node.engine().insert(job(json!({"do": "hang"})).queue("other")).await.unwrap();
    case.fixture.started(late.id).await;
    case.say(r#"{"action":"stop","queue":"other","ident":"any"}"#).await;
    until("the later grace", || async { case.node.check_queue("other").is_none().then_some(()) }).await;
    assert_eq!(case.node.state(running).await, State::Executing);
    case.fixture.release(running);
    case.node.reaches(running, State::Completed).await;
    assert_eq!(case.fixture.starts_of(running), 1, "the grace of the stop that was taken back cut nothing off");
}

/// What makes no sense is reported, and nothing is changed by it.
#[tokio::test]
async fn oban_05_garbage_harms_nothing() {
    let mut case = Case::new(|_| {}).await;
    let before = settings(&case.node);
    let long = "q".repeat(128);
    let mut payloads: Vec<String> = [
        "garbage",
        " ",
        "null",
        "7",
        "[]",
        "{}",
        "{",
        r#""pause""#,
        r#"[{"action":"pause","queue":"*"}]"#,
        "H4sIAAAAAAAAA",
        "Z:H4sI",
        r#"{"action":"pause"}"#,
        r#"{"queue":"default"}"#,
        r#"{"action":7,"queue":"default"}"#,
        r#"{"action":"explode","queue":"default"}"#,
        r#"{"action":"Pause","queue":"default"}"#,
        r#"{"action":"pause","queue":7}"#,
        r#"{"action":"pause","queue":""}"#,
        r#"{"action":"pause","queue":["default"]}"#,
        r#"{"action":"pause","queue":"default","ident":7}"#,
        r#"{"action":"pause","queue":"default","ident":["any"]}"#,
        r#"{"action":"stop","queue":"*","ident":"any"}"#,
        r#"{"action":"stop","ident":"any"}"#,
        r#"{"action":"pkill"}"#,
        r#"{"action":"pkill","job_id":"1"}"#,
        r#"{"action":"pkill","job_id":-1}"#,
        r#"{"action":"start","queue":"novel","limit":3,"paused":"yes"}"#,
        r#"{"action":"start","queue":"novel"}"#,
        r#"{"action":"start","queue":"a/b","limit":3}"#,
        r#"{"action":"start","queue":"a\"b","limit":3}"#,
        r#"{"action":"start","queue":"a\u0000b","limit":3}"#,
        r#"{"action":"start","queue":"*","limit":3}"#,
        r#"{"action":"scale","queue":"*","limit":3}"#,
        r#"{"action":"scale","queue":"default"}"#,
    ]
    .map(str::to_owned)
    .into();
    for limit in ["0", "-1", "1.5", "\"7\"", "null", "true", "10001", "4294967296", "1e9", "[3]"] {
        payloads.push(format!(r#"{{"action":"scale","queue":"default","limit":{limit}}}"#));
        payloads.push(format!(r#"{{"action":"start","queue":"novel","limit":{limit}}}"#));
    }
    payloads.push(format!(r#"{{"action":"start","queue":"{long}","limit":3}}"#));
    payloads.push(format!(r#"{{"action":"pause","queue":"default","ident":{}1{}}}"#, "[".repeat(900), "]".repeat(900)));
    for payload in &payloads {
        case.say(payload).await;
    }
    case.settled().await;
    assert_eq!(settings(&case.node), before);
    let one = case.node.insert(json!({"do": "ok"})).await;
    case.node.reaches(one, State::Completed).await;
    assert_eq!(restarts(&case.node.system().snapshot()), 0);
    drop(case.db);
}
