//! `instance list` and `instance show`: who is there, and what became of those that are not.

use serde_json::{Value, json};

use crate::cli_support::{enqueue, run};
use crate::support::db::TestDb;
use crate::support::process::{Place, until};

/// A model that takes a minute.
const CONFIG: &str = "[runtime]\nshutdown_grace = \"0s\"\n\
    [models.sim_opus.simulated]\nlatency = \"60s\"\njitter = 0.0\n\
    [queues.default]\nlimit = 3\n[queues.slow]\nlimit = 2\npaused = true\n";

fn shown(place: &Place, id: &str) -> Value {
    run(place, &["instance", "show", id, "--json"]).done().document("singularity.instance.v1")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_shown_with_what_runs_there_and_how_it_ended() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, CONFIG);
    let (mut killed, _) = place.start(&["--instance-id", "one"]);
    let args = json!({"prompt": "hello", "model": "sim_opus"}).to_string();
    let id = enqueue(&place, &["llm_request", "--args", &args]);
    run(&place, &["queue", "scale", "slow", "4", "--instance", "one", "--keep", "--reason", "night"]).done();
    let live = until("the job runs and its queue is told with it", || async {
        let live = shown(&place, "one");
        (live["jobs"][0]["id"] == id && live["queues"]["slow"]["limit"] == 4).then_some(live)
    })
    .await;
    assert_eq!((&live["status"], &live["ended"], &live["died"]), (&json!("online"), &Value::Null, &json!(false)));
    assert_eq!((&live["jobs"][0]["queue"], &live["jobs"][0]["attempt"]), (&json!("default"), &json!(1)));
    assert_eq!((&live["kept"][0]["value"], &live["kept"][0]["reason"]), (&json!(4), &json!("night")));
    let time = |name: &str| chrono::DateTime::parse_from_rfc3339(live[name].as_str().unwrap()).unwrap();
    assert!(time("started_at") <= time("last_heartbeat"), "{live}");
    let people = run(&place, &["instance", "show", "one"]).done().out;
    let id = id.to_string();
    for part in
        ["state       online", "process ", "started     ", "heartbeat   ", "llm_request", "queues.slow.limit = 4", &id]
    {
        assert!(people.contains(part), "{part:?} is not in {people}");
    }
    let listed = run(&place, &["instance", "list"]).done().out;
    assert!(listed.lines().next().unwrap().contains("started") && listed.contains("default 1/3, slow 0/4"), "{listed}");

    // Killed and not taken over: it still holds its job.
    killed.signal("KILL");
    killed.wait();
    let dead = shown(&place, "one");
    assert_eq!((&dead["status"], &dead["ended"]["how"]), (&json!("offline"), &json!("died")));
    assert_eq!(dead["ended"]["reason"], "its process is gone; its jobs are taken over");
    assert_eq!(dead["jobs"][0]["id"].to_string(), id);
    let last = dead["events"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["event"], &last["process"]), (&json!("died"), &dead["incarnation"]));
    let people = run(&place, &["instance", "show", "one"]).done().out;
    assert!(people.contains("offline, died ") && people.contains("ago: its process is gone"), "{people}");

    let (mut stopped, _) = place.start(&["--instance-id", "two"]);
    stopped.signal("TERM");
    stopped.wait();
    assert_eq!(shown(&place, "two")["ended"]["how"], "stopped");
    let listed = run(&place, &["instance", "list", "--all"]).done().out;
    for (instance, status) in [("one", "offline, died"), ("two", "offline, stopped")] {
        let line = listed.lines().find(|line| line.starts_with(instance)).unwrap();
        assert!(line.contains(status), "{listed}");
    }

    // It came back: that it died once is an event, and not its end.
    let (_back, _) = place.start(&["--instance-id", "one"]);
    let back = shown(&place, "one");
    assert_eq!((&back["status"], &back["ended"], &back["died"]), (&json!("online"), &Value::Null, &json!(false)));
    assert_ne!(back["incarnation"], dead["incarnation"]);
    run(&place, &["instance", "show", "tow"]).refused(3, &["E0703", "did you mean \"two\"?"]);
}
