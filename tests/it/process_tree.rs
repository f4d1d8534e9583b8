//! The live tree of real processes, looked at and operated from other processes, and what is left of dead ones.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli_support::run;
use crate::support::db::TestDb;
use crate::support::process::{Place, Running, until};

const CONFIG: &str = "[runtime]\nshutdown_grace = \"0s\"\n[instance]\nheartbeat = \"1s\"\n";

/// What `tree --json` promises of every actor.
const FIELDS: [&str; 23] = [
    "actor",
    "busy_ms",
    "children",
    "children_by_state",
    "children_total",
    "current_message",
    "id",
    "incarnation",
    "kind",
    "labels",
    "last_exit",
    "mailbox",
    "path",
    "restart",
    "restart_limit",
    "restart_period_ms",
    "restarts_in_window",
    "restarts_total",
    "retry_at",
    "started_at",
    "state",
    "strategy",
    "uptime_ms",
];

/// What `tree events --json` promises of every event.
const EVENT_FIELDS: [&str; 12] = [
    "at",
    "by_whom",
    "detail",
    "event",
    "id",
    "incarnation",
    "instance_id",
    "level",
    "path",
    "process",
    "reason",
    "why",
];

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

fn actor(place: &Place, path: &str) -> Value {
    let document = run(place, &["tree", path, "--json"]).done().document("singularity.actor.v1");
    document["instances"][0]["actor"].clone()
}

fn events(place: &Place, more: &[&str]) -> Vec<Value> {
    let args = [&["tree", "events", "--json"], more].concat();
    let document = run(place, &args).done().document("singularity.tree_events.v1");
    document["events"].as_array().unwrap().clone()
}

async fn node(place: &Place, id: &str) -> Running {
    place.start(&["--instance-id", id]).0
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_looks_and_gives_orders_from_outside_and_each_leaves_a_line() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, CONFIG);
    let _node = node(&place, "one").await;
    let stager = "/services/stager";

    let before = actor(&place, stager);
    assert_eq!(keys(&before), ["history", "node", "spec"]);
    assert_eq!(keys(&before["node"]), FIELDS);
    assert_eq!(keys(&before["node"]["mailbox"]), ["depth", "limit", "oldest_ms", "processed"]);
    assert_eq!((&before["node"]["incarnation"], &before["spec"]["restart"]), (&json!(1), &json!("permanent")));

    let said = run(&place, &["tree", "restart", stager, "--reason", "it hangs"]).done().out;
    assert_eq!(said, "/services/stager restarted on instance one: running, incarnation 2\n");
    let after = actor(&place, stager);
    assert_eq!(keys(&after["history"][0]), ["at", "exit", "incarnation", "lived_ms", "reason"]);
    assert_eq!((&after["node"]["incarnation"], &after["history"][0]["reason"]), (&json!(2), &json!("shutdown")));

    run(&place, &["tree", "terminate", stager, "--reason", "quiet"]).done();
    assert_eq!(actor(&place, stager)["node"]["state"], "stopped");
    run(&place, &["tree", "restart", stager]).done();
    let suspended = run(&place, &["tree", "suspend", stager, "--instance", "one", "--json"]).done();
    let suspended = suspended.document("singularity.tree_order.v1");
    assert_eq!(
        (&suspended["operation"], &suspended["actor"]["node"]["state"]),
        (&json!("suspend"), &json!("suspended"))
    );
    let shown = run(&place, &["tree", stager]).done().out;
    for part in ["one online", "SUSPENDED", "incarnation 3", "permanent", "mailbox", "shutdown"] {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
    run(&place, &["tree", "resume", stager]).done();
    assert_eq!(actor(&place, stager)["node"]["state"], "running");

    for (order, path, code, parts) in [
        ("terminate", "/completer", 4, ["error[E0933]", "Pause the queues"]),
        ("suspend", "/instance/registry", 4, ["error[E0933]", "heartbeat"]),
        ("terminate", "/executors", 4, ["error[E0933]", "Pause the queue"]),
        ("terminate", "/infra", 4, ["error[E0933]", "new process"]),
        ("suspend", "/queues/default", 4, ["error[E0933]", "singularity queue pause default"]),
        ("restart", "/instance", 4, ["error[E0934]", "carries out"]),
        ("restart", "/", 4, ["error[E0932]", "root"]),
        ("suspend", "/services", 4, ["error[E0935]", "supervisor"]),
        ("restart", "/services/stagger", 3, ["error[E0930]", "did you mean /services/stager?"]),
        ("restart", "stager", 3, ["error[E0930]", "did you mean /services/stager?"]),
    ] {
        run(&place, &["tree", order, path]).refused(code, &parts);
    }
    run(&place, &["tree", "/queues/defualt"]).refused(3, &["did you mean /queues/default?"]);
    run(&place, &["tree", "evnts"]).refused(2, &["singularity tree events"]);
    run(&place, &["tree", "restart", stager, "--instance", "ona"]).refused(3, &["did you mean \"one\"?"]);
    run(&place, &["tree", "restart", stager, "--reason", &"x".repeat(2_001)]).refused(2, &["E0717"]);

    let kept = until("every order", || async {
        let kept = events(&place, &[]);
        (kept.len() == 13).then_some(kept)
    })
    .await;
    let orders: Vec<_> = kept.iter().map(|event| event["detail"]["operation"].as_str().unwrap()).collect();
    assert_eq!(orders[..5], ["restart", "terminate", "restart", "suspend", "resume"]);
    assert_eq!(
        (&kept[0]["why"], &kept[0]["path"], &kept[0]["level"]),
        (&json!("it hangs"), &json!(stager), &json!("warning"))
    );
    assert!(kept[0]["by_whom"].as_str().unwrap().contains("process"), "{}", kept[0]);
    assert!(kept[5]["reason"].as_str().unwrap().contains("no result of a job is stored"), "{}", kept[5]);
    let shown = run(&place, &["tree", "events", "--limit", "20"]).done().out;
    assert!(shown.contains("restart by") && shown.contains("it hangs") && shown.contains("refused"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_node_answers_within_a_second() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, CONFIG);
    let _node = node(&place, "one").await;
    let took = (0..3).map(|_| {
        let begun = Instant::now();
        run(&place, &["tree"]).done();
        begun.elapsed()
    });
    let best = took.min().unwrap();
    assert!(best < Duration::from_secs(1), "{best:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_instance_did_is_told_afterwards() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, CONFIG);
    let mut node = node(&place, "one").await;
    run(&place, &["tree", "restart", "/services/lifeline", "--reason", "last words"]).done();
    until("the order", || async { (!events(&place, &[]).is_empty()).then_some(()) }).await;
    node.signal("KILL");
    node.wait();
    let ended = run(&place, &["tree", "--instance", "one"]);
    assert!(ended.out.starts_with("one offline, last heartbeat") && ended.out.contains("last words"), "{}", ended.out);
    ended.refused(3, &["\"one\" is offline", "tree events --instance one"]);
    let document = run(&place, &["tree", "--instance", "one", "--json"]).document("singularity.tree.v1");
    assert_eq!(document["instances"][0]["events"][0]["why"], "last words");
    let kept = events(&place, &["--instance", "one"]);
    assert_eq!((kept.len(), &kept[1]["event"], &kept[1]["level"]), (2, &json!("died"), &json!("error")));
    let shown = run(&place, &["tree", "events", "--instance", "one"]).done().out;
    assert!(shown.contains("died: its process is gone; its jobs are taken over"), "{shown}");
    run(&place, &["tree", "events", "--instance", "two"]).refused(3, &["\"two\" is unknown"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_tree_gave_up_exits_with_70_and_leaves_its_last_events() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, CONFIG);
    let mut node = node(&place, "one").await;
    // Somebody else has its name: the registry fails, and fails again whenever it is started.
    db.execute("UPDATE instance_registry SET incarnation = gen_random_uuid()").await;
    assert_eq!(node.wait().code(), Some(70));
    let kept = events(&place, &["--instance", "one"]);
    let last = kept.last().unwrap();
    assert_eq!((&last["event"], &last["level"]), (&json!("max_intensity"), &json!("error")));
    assert_eq!(keys(last), EVENT_FIELDS);
    let shown = run(&place, &["tree", "events"]).done().out;
    assert!(shown.contains("max intensity") && shown.contains("another process has taken"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn watching_prints_one_object_a_line_until_it_is_interrupted() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, CONFIG);
    let _node = node(&place, "one").await;
    let mut watching = place.spawn(&["tree", "--watch", "--interval", "100ms", "--json"]);
    for _ in 0..3 {
        let look: Value = serde_json::from_str(&watching.line()).unwrap();
        assert_eq!(
            (&look["schema"], &look["instances"][0]["tree"]["path"]),
            (&json!("singularity.tree.v1"), &json!("/"))
        );
    }
    watching.signal("INT");
    assert_eq!(watching.wait().code(), Some(130));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_instances_one_must_be_named_and_a_late_order_is_withdrawn() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, CONFIG);
    let (_one, two) = (node(&place, "one").await, node(&place, "two").await);
    let order = ["tree", "restart", "/services/stager"];
    run(&place, &order).refused(2, &["E0827", "online: one, two", "--instance one"]);
    let both = run(&place, &["tree", "/services/stager", "--json"]).done().document("singularity.actor.v1");
    assert_eq!(both["instances"].as_array().unwrap().len(), 2);

    two.signal("STOP");
    let late = run(&place, &[&order[..], &["--instance", "two", "--timeout", "500ms"]].concat());
    two.signal("CONT");
    late.refused(5, &["E0704", "did not answer", "last heartbeat"]);
    // It answers again, and has not done what nobody waits for any more.
    let both = run(&place, &["tree", "/services/stager", "--json"]).done().document("singularity.actor.v1");
    for instance in both["instances"].as_array().unwrap() {
        assert_eq!(instance["actor"]["node"]["incarnation"], 1, "{instance}");
    }
    assert!(events(&place, &[]).is_empty());
}
