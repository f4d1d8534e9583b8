//! Looking at a live node from other processes: tree, queues, instances, results.

use serde_json::{Value, json};

use crate::cli_support::{enqueue, run};
use crate::support::db::TestDb;
use crate::support::process::{Place, until};

/// A model that answers at once and one that takes a minute.
const CONFIG: &str = "[runtime]\nshutdown_grace = \"0s\"\n\
    [models.sim_flash.simulated]\nlatency = \"1ms\"\n\
    [models.sim_opus.simulated]\nlatency = \"60s\"\njitter = 0.0\n\
    [queues.default]\nlimit = 3\n[queues.slow]\nlimit = 2\npaused = true\n";

fn ask(prompt: &str, model: &str) -> String {
    json!({"prompt": prompt, "model": model, "id": "q1"}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_waited_for_and_shown_with_its_cost_and_its_mark() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, CONFIG);
    let (_node, _) = place.start(&["--instance-id", "one"]);
    let said = run(&place, &["job", "enqueue", "llm_request", "--args", &ask("hello", "sim_flash")]).done();
    assert_eq!(said.err, "", "a live node knows worker and queue");
    let waited = run(&place, &["job", "wait", "1", "--timeout", "30s"]).done();
    assert_eq!(waited.out, "job 1 completed, attempt 1/5\n");

    let shown = run(&place, &["job", "show", "1", "--json"]).done().document("singularity.job.v1");
    let (run_row, result) = (&shown["run"], &shown["result"]);
    assert_eq!((&run_row["workflow"], &run_row["state"]), (&json!("llm_request"), &json!("completed")));
    let steps: Vec<&str> =
        run_row["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["receive", "select_model", "call_llm", "publish_result"]);
    assert_eq!(
        (&result["success"], &result["simulated"], &result["model_used"]),
        (&json!(true), &json!(true), &json!("sim_flash"))
    );
    assert!(result["cost_nanousd"].as_i64().unwrap() > 0 && result["tokens_output"].as_i64().unwrap() > 0, "{result}");
    let answer = result["result"]["text"].as_str().unwrap();
    let people = run(&place, &["job", "show", "1"]).done().out;
    for part in ["(simulated)", "$0.", "sim_flash", "request_id", "call_llm", answer.lines().next().unwrap()] {
        assert!(people.contains(part), "{part:?} is not in {people}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn obstacles_of_a_job_are_told_when_it_is_enqueued_or_waited_for() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, CONFIG);
    let (_node, _) = place.start(&["--instance-id", "one"]);
    let args = ask("hello", "sim_flash");
    for (more, part) in [
        (vec!["nobody", "--later"], "no online instance knows worker \"nobody\""),
        (vec!["llm_request", "--args", &args, "--queue", "nope"], "queues are default, slow"),
        (vec!["llm_request", "--args", &args, "--queue", "slow"], "queue \"slow\" is paused"),
    ] {
        let said = run(&place, &[&["job", "enqueue"], &more[..]].concat()).done();
        assert!(said.err.contains(part), "{part:?} is not in {:?}", said.err);
    }
    // What nobody ever heard of is a typing error; what jobs of other runtimes named is none.
    run(&place, &["job", "enqueue", "llm_requets"]).refused(3, &["E0839", "did you mean \"llm_request\"?", "--later"]);
    run(&place, &["job", "enqueue", "nobody"]).refused(3, &["E0839", "known are agent_coordination"]);
    db.execute("UPDATE oban_jobs SET attempt = 1 WHERE worker = 'nobody'".to_owned()).await;
    run(&place, &["job", "enqueue", "nobody"]).done();
    let ended = run(&place, &["job", "wait", "3", "--timeout", "100ms"]);
    ended.refused(5, &["queue \"slow\" is paused", "job 3 is available"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_instances_and_tree_show_a_running_job() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, CONFIG);
    let (node, _) = place.start(&["--instance-id", "one"]);
    let id = enqueue(&place, &["llm_request", "--args", &ask("hello", "sim_opus")]);
    enqueue(&place, &["llm_request", "--args", &ask("hello", "sim_opus"), "--queue", "slow"]);
    until("the job runs", || async {
        let shown = place.json(&["job", "show", &id.to_string(), "--json"]);
        // Its second step is stored before the third, which takes long, begins.
        (shown["run"]["steps"].as_array().is_some_and(|steps| steps.len() == 2)).then_some(())
    })
    .await;

    let tree = run(&place, &["tree"]).done().out;
    let line = tree.lines().find(|line| line.contains("call_llm")).unwrap_or_else(|| panic!("no step in {tree}"));
    for part in [format!("job {id}"), "worker llm_request".into(), "attempt 1/5".into(), "running".into(), "up ".into()]
    {
        assert!(line.contains(&part), "{part:?} is not in {line:?}");
    }
    assert!(tree.contains("running 1/3") && tree.contains("(rest_for_one)") && tree.contains("restarts 0/3"), "{tree}");
    let document = run(&place, &["tree", "--instance", "one", "--depth", "1", "--json"]).done();
    let document = document.document("singularity.tree.v1");
    let root = &document["instances"][0]["tree"];
    assert_eq!((&document["instances"][0]["instance_id"], &root["id"]), (&json!("one"), &json!("singularity")));
    let children = root["children"].as_array().unwrap();
    assert!(children.len() >= 5 && children.iter().all(|child| child["children"] == json!([])), "{root}");
    run(&place, &["tree", "--instance", "two"]).refused(3, &["\"two\" is unknown"]);

    // Running counts are those of the last heartbeat; the table's are exact.
    let queues = run(&place, &["queue", "list", "--json"]).done().document("singularity.queue_list.v1");
    let of = |name: &str| queues["queues"].as_array().unwrap().iter().find(|queue| queue["queue"] == name).cloned();
    let (default, slow) = (of("default").unwrap(), of("slow").unwrap());
    assert_eq!((&default["executing"], &default["available"], &slow["available"]), (&json!(1), &json!(0), &json!(1)));
    assert_eq!((&default["instances"][0]["limit"], &slow["instances"][0]["paused"]), (&json!(3), &json!(true)));
    assert!(slow["oldest_available_ms"].as_i64().is_some_and(|ms| (0..600_000).contains(&ms)), "{slow}");
    assert_eq!(default["oldest_available_ms"], json!(null));
    let table = run(&place, &["queue", "list"]).done().out;
    assert_eq!(table.lines().count(), 3, "{table}");
    let shown = run(&place, &["queue", "show", "slow"]).done().out;
    assert!(shown.contains("slow: 1 available (the oldest for "), "{shown}");
    let waiting = run(&place, &["job", "show", "2"]).done().out;
    assert!(waiting.contains("queue \"slow\" is paused, so the job waits"), "{waiting}");

    let instances = run(&place, &["instance", "list", "--json"]).done().document("singularity.instance_list.v1");
    let one = &instances["instances"][0];
    assert_eq!((&one["instance_id"], &one["status"]), (&json!("one"), &json!("online")));
    assert_eq!(one["capabilities"]["workers"], json!(["agent_coordination", "agent_task", "embedding", "llm_request"]));
    let doctor = run(&place, &["doctor"]).done().out;
    assert!(doctor.contains("1 online: one"), "{doctor}");

    // Killed, it counts as gone at once: its process can be seen to be missing.
    node.signal("KILL");
    let mut node = node;
    node.wait();
    let none = run(&place, &["instance", "list", "--json"]).done().document("singularity.instance_list.v1");
    assert_eq!(none["instances"], json!([]));
    let all = run(&place, &["instance", "list", "--all", "--json"]).done().document("singularity.instance_list.v1");
    assert_eq!(all["instances"][0]["status"], "offline");
    run(&place, &["tree"]).refused(3, &["E0825", "no instance is online"]);
    run(&place, &["tree", "--instance", "one"]).refused(3, &["\"one\" is offline", "last heartbeat"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_does_not_answer_is_told_with_its_last_heartbeat() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, CONFIG);
    let (node, _) = place.start(&["--instance-id", "one"]);
    node.signal("STOP");
    let ended = run(&place, &["tree"]);
    node.signal("CONT");
    ended.refused(5, &["\"one\" did not answer", "last heartbeat was"]);
}

#[tokio::test]
async fn listings_of_an_empty_database_are_empty_documents() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, "");
    let jobs = run(&place, &["job", "list", "--json"]).done().document("singularity.job_list.v1");
    assert_eq!(jobs["jobs"], json!([]));
    let instances = run(&place, &["instance", "list", "--json"]).done().document("singularity.instance_list.v1");
    assert_eq!(instances["instances"], json!([]));
    let queues = run(&place, &["queue", "list", "--json"]).done().document("singularity.queue_list.v1");
    let names: Vec<&Value> = queues["queues"].as_array().unwrap().iter().map(|queue| &queue["queue"]).collect();
    assert_eq!(names, ["default", "metrics", "pattern_mining", "training"]);
    assert!(run(&place, &["queue", "list"]).done().err.contains("singularity start"));
}
