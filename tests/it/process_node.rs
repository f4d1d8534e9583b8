//! `start` as a real process: ready, drained, killed, taken over, looked at from outside.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::db::TestDb;
use crate::support::process::{Place, text, until};

/// One slow model, so that a job can be met while it runs.
fn slow(latency: &str, grace: &str) -> String {
    format!(
        "[runtime]\nshutdown_grace = \"{grace}\"\n\
         [models.sim_flash.simulated]\nlatency = \"{latency}\"\njitter = 0.0\n"
    )
}

async fn enqueue(place: &Place) -> i64 {
    let args = json!({"prompt": "hello", "model": "sim_flash"}).to_string();
    let job = place.json(&["job", "enqueue", "llm_request", "--args", &args, "--json"]);
    job["id"].as_i64().unwrap()
}

async fn state(pool: &PgPool, id: i64) -> (String, i32) {
    sqlx::query_as("SELECT state::text, attempt FROM oban_jobs WHERE id = $1").bind(id).fetch_one(pool).await.unwrap()
}

async fn until_state(pool: &PgPool, id: i64, wanted: &str) -> i32 {
    until(&format!("job {id} {wanted}"), || async {
        let (state, attempt) = state(pool, id).await;
        (state == wanted).then_some(attempt)
    })
    .await
}

async fn status(pool: &PgPool, instance: &str) -> String {
    sqlx::query_scalar("SELECT status FROM instance_registry WHERE instance_id = $1")
        .bind(instance)
        .fetch_one(pool)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_simulated_models_warns_where_it_joins_others() {
    let (db, _database) = TestDb::migrated().await;
    let place = Place::new(&db, "");
    let warned = |id: &str| {
        let output = place.run(&["start", "--until-stdin-closes", "--instance-id", id]);
        let stderr = text(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        stderr.lines().find(|line| line.starts_with("warning: ")).map(str::to_owned)
    };
    assert_eq!(warned("alone"), None);
    let (_one, _ready) = place.start(&["--instance-id", "one"]);
    let text = warned("two").unwrap();
    let wanted = "models are simulated here for simple, medium, complex, and one shares the jobs; ";
    assert!(text.starts_with(&format!("warning: {wanted}")), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_told_so_ends_with_its_standard_input() {
    let (db, database) = TestDb::migrated().await;
    let place = Place::new(&db, "");
    let mut command = place.command(&["start", "--until-stdin-closes", "--instance-id", "one"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert!(ready.starts_with("READY instance=one"), "{ready}");
    drop(child.stdin.take());
    let child = Mutex::new(child);
    let exit = until("its end", || async { child.lock().unwrap().try_wait().unwrap() }).await;
    assert_eq!(exit.code(), Some(0));
    assert_eq!(status(database.pool(), "one").await, "offline");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_node_lets_its_job_finish_and_leaves() {
    stops_in_order("TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_terminal_stops_a_node_in_order() {
    stops_in_order("HUP").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_started_to_outlive_its_terminal_does() {
    let (db, database) = TestDb::migrated().await;
    let place = Place::new(&db, &slow("1s", "20s"));
    // What `nohup` does.
    let (node, _) = place.start_by(&["sh", "-c", "trap '' HUP; exec \"$@\"", "sh"], &["--instance-id", "one"]);
    let id = enqueue(&place).await;
    until_state(database.pool(), id, "executing").await;
    node.signal("HUP");
    until_state(database.pool(), id, "completed").await;
    let later = enqueue(&place).await;
    until_state(database.pool(), later, "completed").await;
    assert_eq!(status(database.pool(), "one").await, "online");
    node.signal("TERM");
    let (exit, _) = node.finish();
    assert_eq!(exit.code(), Some(0));
}

async fn stops_in_order(signal: &str) {
    let (db, database) = TestDb::migrated().await;
    let place = Place::new(&db, &slow("1s", "20s"));
    // Also where whoever runs the tests has them ignore it.
    let heeds = format!("--default-signal={signal}");
    let (node, ready) = place.start_by(&["env", &heeds], &["--instance-id", "one"]);
    assert!(ready.contains("instance=one") && ready.contains("default:10"), "{ready}");
    assert!(!ready.contains("password"), "{ready}");
    let id = enqueue(&place).await;
    until_state(database.pool(), id, "executing").await;
    node.signal(signal);
    let (exit, _) = node.finish();
    assert_eq!(exit.code(), Some(0));
    assert_eq!(state(database.pool(), id).await, ("completed".into(), 1));
    assert_eq!(status(database.pool(), "one").await, "offline");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_does_not_finish_within_the_grace_is_handed_back_unspent() {
    let (db, database) = TestDb::migrated().await;
    let place = Place::new(&db, &slow("60s", "200ms"));
    let (node, _) = place.start(&["--instance-id", "one"]);
    let id = enqueue(&place).await;
    until_state(database.pool(), id, "executing").await;
    node.signal("TERM");
    let (exit, _) = node.finish();
    assert_eq!(exit.code(), Some(0));
    assert_eq!(state(database.pool(), id).await, ("available".into(), 0));
    assert_eq!(status(database.pool(), "one").await, "offline");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_cuts_the_grace_short() {
    let (db, database) = TestDb::migrated().await;
    let place = Place::new(&db, &slow("60s", "50s"));
    let (node, _) = place.start(&["--instance-id", "one"]);
    let id = enqueue(&place).await;
    until_state(database.pool(), id, "executing").await;
    node.signal("TERM");
    until("draining", || async { (status(database.pool(), "one").await == "draining").then_some(()) }).await;
    node.signal("TERM");
    let (exit, _) = node.finish();
    assert_eq!(exit.code(), Some(130));
    assert_eq!(state(database.pool(), id).await, ("available".into(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_job_of_a_killed_node_is_taken_over_by_another() {
    let (db, database) = TestDb::migrated().await;
    let place = Place::new(&db, &slow("2s", "20s"));
    let (one, _) = place.start(&["--instance-id", "one"]);
    let id = enqueue(&place).await;
    until_state(database.pool(), id, "executing").await;
    one.signal("KILL");
    one.finish();
    let (two, _) = place.start(&["--instance-id", "two"]);
    assert_eq!(until_state(database.pool(), id, "completed").await, 2);
    assert_eq!(status(database.pool(), "one").await, "offline");
    let results: i64 = sqlx::query_scalar("SELECT count(*) FROM job_results WHERE job_id = $1 AND success")
        .bind(id)
        .fetch_one(database.pool())
        .await
        .unwrap();
    assert_eq!(results, 1);
    two.signal("TERM");
    assert_eq!(two.finish().0.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_a_live_node_has_is_refused() {
    let (db, _database) = TestDb::migrated().await;
    let place = Place::new(&db, "");
    let (node, _) = place.start(&["--instance-id", "one"]);
    let output = place.run(&["start", "--instance-id", "one"]);
    assert_eq!(output.status.code(), Some(4));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("error[E0702]") && stderr.contains("try: "), "{stderr}");
    node.signal("INT");
    assert_eq!(node.finish().0.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tree_of_a_live_node_shows_its_job_and_step_from_another_process() {
    fn find<'a>(node: &'a Value, id: &str) -> Option<&'a Value> {
        if node["id"] == id {
            return Some(node);
        }
        node["children"].as_array()?.iter().find_map(|child| find(child, id))
    }

    let (db, database) = TestDb::migrated().await;
    let place = Place::new(&db, &slow("30s", "100ms"));
    let (node, _) = place.start(&["--instance-id", "one"]);
    let id = enqueue(&place).await;
    until_state(database.pool(), id, "executing").await;
    let job = until("the step in the tree", || async {
        let document = place.json(&["tree", "--json"]);
        let tree = document["instances"].as_array()?.first()?["tree"].clone();
        assert_eq!(find(&tree, "queues").unwrap()["children"].as_array().unwrap().len(), 4, "{tree}");
        find(&tree, &id.to_string()).filter(|job| job["labels"]["step"] == "call_llm").cloned()
    })
    .await;
    assert_eq!(job["state"], "running");
    assert_eq!(job["labels"]["worker"], "llm_request");
    assert!(job["uptime_ms"].as_u64().is_some());
    let shown = String::from_utf8(place.run(&["tree"]).stdout).unwrap();
    for word in ["singularity", "executors", "default", &id.to_string(), "call_llm", "running", "0/3"] {
        assert!(shown.contains(word), "{word} is missing in\n{shown}");
    }
    node.signal("TERM");
    assert_eq!(node.finish().0.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_from_another_process_stops_a_running_job() {
    let (db, database) = TestDb::migrated().await;
    let place = Place::new(&db, &slow("60s", "100ms"));
    let (node, _) = place.start(&["--instance-id", "one"]);
    let id = enqueue(&place).await;
    until_state(database.pool(), id, "executing").await;
    assert!(place.run(&["job", "cancel", &id.to_string()]).status.success());
    until("an idle node", || async {
        let load: i64 = sqlx::query_scalar("SELECT (queues -> 'default' ->> 'running')::bigint FROM instance_registry")
            .fetch_one(database.pool())
            .await
            .unwrap();
        let tree = place.json(&["tree", "--json"]).to_string();
        (load == 0 && !tree.contains("call_llm")).then_some(())
    })
    .await;
    assert_eq!(state(database.pool(), id).await.0, "cancelled");
    node.signal("TERM");
    assert_eq!(node.finish().0.code(), Some(0));
    tokio::time::timeout(Duration::from_secs(5), database.close()).await.unwrap();
}
