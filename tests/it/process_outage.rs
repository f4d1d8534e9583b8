//! The database goes away under a running node and comes back: a state, not a crash.

use std::process::Command;
use std::time::Duration;

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use singularity::postgres::embedded::{Options, Profile, Server};
use sqlx::{Connection, PgConnection};

use crate::support::process::{Place, until};

/// Long enough for several heartbeats, polls and attempts to reconnect, and shorter than the lease.
const OUTAGE: Duration = Duration::from_secs(10);
const JOBS: i64 = 40;

/// Restarts anywhere in the tree.
fn restarts(node: &Value) -> u64 {
    let children = node["children"].as_array().map_or(0, |children| children.iter().map(restarts).sum());
    node["restarts_total"].as_u64().unwrap_or(0) + children
}

async fn scalar(url: &str, sql: &'static str) -> Option<i64> {
    let mut connection = PgConnection::connect(url).await.ok()?;
    sqlx::query_scalar(sql).fetch_one(&mut connection).await.ok()
}

fn kill(signal: &str, pid: u32) {
    assert!(Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_costs_no_restart_and_no_job_and_work_resumes_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    Command::new("chmod").arg("755").arg(dir.path()).status().unwrap();
    let mut options = Options::new(dir.path().join("postgres"));
    options.profile = Profile::Fast;
    options.guardian = Some(Vec::new());
    let server = tokio::task::spawn_blocking(move || Server::acquire(&options).unwrap()).await.unwrap();
    let url = server.connection().url();

    let place = Place::embedded(
        "[instance]\nheartbeat = \"1s\"\n[queues.default]\nlimit = 4\n\
         [models.sim_flash.simulated]\nlatency = \"800ms\"\njitter = 0.5\n",
    );
    place.write("url", url.expose_secret());
    let with_url = |args: &[&'static str]| -> Vec<&'static str> {
        args.iter().copied().chain(["--set", "database.url=file:url"]).collect()
    };
    let mut node = place.spawn(&with_url(&["start", "--instance-id", "one"]));
    assert!(node.line().starts_with("READY "));
    let lines: String =
        (0..JOBS).map(|n| format!("{}\n", json!({"prompt": format!("q {n}"), "model": "sim_flash"}))).collect();
    for line in lines.lines() {
        let mut args = with_url(&["job", "enqueue", "llm_request", "--json", "--args"]);
        args.insert(5, line);
        place.json(&args);
    }
    let url = url.expose_secret().to_owned();
    let done = "SELECT count(*) FROM job_results WHERE success";
    until("the first answers", || async { scalar(&url, done).await.filter(|done| *done >= 3) }).await;

    kill("INT", server.postmaster_pid());
    until("the end of the server", || async { PgConnection::connect(&url).await.is_err().then_some(()) }).await;
    tokio::time::sleep(OUTAGE).await;
    let server = tokio::task::spawn_blocking(move || {
        server.ensure_running().unwrap();
        server
    })
    .await
    .unwrap();

    until("every answer", || async { scalar(&url, done).await.filter(|done| *done == JOBS) }).await;
    until("every job", || async {
        scalar(&url, "SELECT count(*) FROM oban_jobs WHERE state = 'completed'").await.filter(|done| *done == JOBS)
    })
    .await;
    let calls_twice = "SELECT count(*) FROM oban_jobs WHERE attempt > 1 OR array_length(errors, 1) > 0";
    assert_eq!(
        scalar(&url, calls_twice).await,
        Some(0),
        "what ran when the server went away was stored when it was back"
    );
    let document = place.json(&with_url(&["tree", "--json"]));
    assert_eq!(restarts(&document["instances"][0]["tree"]), 0, "{document}");
    node.signal("TERM");
    assert_eq!(node.wait().code(), Some(0));
    tokio::task::spawn_blocking(move || server.release().unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_restarts_its_killed_embedded_server_and_goes_on() {
    let place = Place::embedded("[models.sim_flash.simulated]\nlatency = \"50ms\"\n");
    let (node, ready) = place.start(&["--instance-id", "one"]);
    assert!(ready.contains("database=embedded"), "{ready}");
    let pid_file = place.path().join(".singularity/postgres/server/data/postmaster.pid");
    let pid = || -> Option<u32> { std::fs::read_to_string(&pid_file).ok()?.lines().next()?.trim().parse().ok() };
    let first = pid().unwrap();
    kill("KILL", first);
    until("another server", || async { pid().filter(|pid| *pid != first) }).await;
    let args = json!({"prompt": "hello", "model": "sim_flash"}).to_string();
    let job = place.json(&["job", "enqueue", "llm_request", "--args", &args, "--json"]);
    let id = job["id"].to_string();
    let output = place.run(&["job", "wait", &id, "--timeout", "30s"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    node.signal("TERM");
    assert_eq!(node.finish().0.code(), Some(0));
    assert_eq!(pid(), None, "the last one out stopped the server");
}
