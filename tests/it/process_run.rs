//! `run` as a real process: the main job, its idempotence, and what a kill in the middle costs.

use std::collections::HashMap;

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::db::TestDb;
use crate::support::process::{Place, text, until};
use crate::support::provider::{FakeProvider, Reply, Wire};

/// Fast answers.
const FAST: &str = r#"
[queues.default]
limit = 50
[models.sim_flash.simulated]
latency = "30ms"
"#;

/// Answers so slow that a thousand of them take four seconds at least, fifty at once: a kill comes in the middle.
const SLOW: &str = r#"
[queues.default]
limit = 50
[models.sim_flash.simulated]
latency = "200ms"
"#;

fn prompts(count: usize) -> String {
    (0..count)
        .map(|n| {
            format!("{}\n", json!({"id": format!("r{n}"), "prompt": format!("question {n}"), "task_type": "parser"}))
        })
        .collect()
}

async fn scalar(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

fn rows(output: &str) -> Vec<Value> {
    output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_prompts_survive_kill_9_in_the_middle_and_each_is_answered_once() {
    let (db, database) = TestDb::migrated().await;
    let place = Place::new(&db, SLOW);
    place.write("prompts.jsonl", &prompts(1_000));
    let run = place.spawn(&["run", "prompts.jsonl", "--json"]);
    let pool = database.pool();
    until("the first hundred answers", || async {
        (scalar(pool, "SELECT count(*) FROM job_results WHERE success").await >= 100).then_some(())
    })
    .await;
    run.signal("KILL");
    let (status, _) = run.finish();
    assert!(!status.success());
    let calls = "SELECT run_id::text, output::text FROM workflow_steps WHERE step = 'call_llm' ORDER BY run_id";
    let before: Vec<(String, String)> = sqlx::query_as(calls).fetch_all(pool).await.unwrap();
    assert!((100..1_000).contains(&before.len()), "killed in the middle, after {} calls", before.len());

    let output = place.run(&["run", "prompts.jsonl", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows = rows(&text(&output.stdout));
    assert_eq!(rows.len(), 1_000);
    assert!(rows.iter().all(|row| row["outcome"] == "completed" && row["simulated"] == true));
    assert_eq!(scalar(pool, "SELECT count(*) FROM job_results WHERE success").await, 1_000);
    assert_eq!(scalar(pool, "SELECT count(DISTINCT job_id) FROM job_results WHERE success").await, 1_000);
    assert_eq!(scalar(pool, "SELECT count(*) FROM oban_jobs WHERE state = 'completed'").await, 1_000);
    let after: HashMap<String, String> =
        sqlx::query_as::<_, (String, String)>(calls).fetch_all(pool).await.unwrap().into_iter().collect();
    assert!(before.iter().all(|(run, answer)| after.get(run) == Some(answer)), "a stored answer was replaced");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_is_repeated_whose_checkpoint_was_stored() {
    let (db, database) = TestDb::migrated().await;
    let provider = FakeProvider::start(Wire::Openai).await;
    provider.set_default(Reply::stream("the answer"));
    let config = format!(
        "[queues.default]\nlimit = 5\n[providers.fake]\nkind = \"openai\"\nbase_url = \"{}\"\n\
         [models.fake]\nprovider = \"fake\"\nname = \"fake-1\"\n[routing.models]\nsimple = \"fake\"\n",
        provider.base_url()
    );
    let place = Place::new(&db, &config);
    place.write("prompts.jsonl", &prompts(300));
    let run = place.spawn(&["run", "prompts.jsonl", "--json"]);
    let pool = database.pool();
    until("the first answers", || async {
        (scalar(pool, "SELECT count(*) FROM job_results WHERE success").await >= 30).then_some(())
    })
    .await;
    run.signal("KILL");
    run.finish();
    let stored: Vec<String> = sqlx::query_scalar(
        "SELECT r.input ->> 'prompt' FROM workflow_steps s JOIN workflow_runs r ON r.id = s.run_id WHERE s.step = 'call_llm'",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!((30..300).contains(&stored.len()), "killed in the middle, after {} calls", stored.len());

    let output = place.run(&["run", "prompts.jsonl", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(scalar(pool, "SELECT count(*) FROM job_results WHERE success").await, 300);
    let mut calls: HashMap<String, usize> = HashMap::new();
    for request in provider.received() {
        let prompt = request.body["messages"][0]["content"].as_str().unwrap().to_owned();
        *calls.entry(prompt).or_default() += 1;
    }
    for prompt in &stored {
        assert_eq!(calls[prompt], 1, "{prompt} was asked again although its answer was stored");
    }
    let repeated = calls.values().filter(|count| **count > 1).count();
    assert!(repeated <= 5, "{repeated} calls were repeated; at most the five that ran when it was killed can be");

    // The same command once more asks nobody.
    let (calls, output) = (provider.calls(), place.run(&["run", "prompts.jsonl", "--json"]));
    assert!(output.status.success());
    assert!(rows(&text(&output.stdout)).iter().all(|row| row["stored"] == true && row["text"] == "the answer"));
    assert_eq!(provider.calls(), calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_of_requests_without_ids_goes_on_and_a_finished_one_begins_anew() {
    let (db, database) = TestDb::migrated().await;
    let place = Place::new(&db, "[queues.default]\nlimit = 5\n");
    let lines: String =
        (0..60).map(|n| format!("{}\n", json!({"prompt": format!("question {n}"), "task_type": "parser"}))).collect();
    place.write("prompts.jsonl", &lines);
    let pool = database.pool();
    let run = place.spawn(&["run", "prompts.jsonl", "--json"]);
    until("the first answers", || async {
        (scalar(pool, "SELECT count(*) FROM job_results WHERE success").await >= 10).then_some(())
    })
    .await;
    run.signal("INT");
    let (status, printed) = run.finish();
    assert_eq!(status.code(), Some(130));
    assert_eq!(rows(&printed).len(), 60, "what is there is reported");

    let output = place.run(&["run", "prompts.jsonl", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(scalar(pool, "SELECT count(*) FROM oban_jobs").await, 60);
    let output = place.run(&["run", "prompts.jsonl", "--json"]);
    assert!(output.status.success());
    assert_eq!(scalar(pool, "SELECT count(*) FROM oban_jobs").await, 120, "asked on purpose, so asked again");
    // Each was an instance of a name that nobody will have again: nothing is kept for it.
    assert_eq!(scalar(pool, "SELECT count(*) FROM learning_cursors").await, 0);
    let queues = "SELECT count(*) FROM pgmq.meta WHERE queue_name LIKE 'instance_learning%'";
    assert_eq!(scalar(pool, queues).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_finishes_while_an_interrupted_run_stops_is_in_its_report() {
    let (db, database) = TestDb::migrated().await;
    let slow = "[models.sim_flash.simulated]\nlatency = \"2s\"\n[queues.default]\nlimit = 3\n";
    let place = Place::new(&db, slow);
    let lines: String =
        (0..5).map(|n| format!("{}\n", json!({"prompt": format!("question {n}"), "model": "sim_flash"}))).collect();
    place.write("prompts.jsonl", &lines);
    let run = place.spawn(&["run", "prompts.jsonl", "--json"]);
    until("running requests", || async {
        (scalar(database.pool(), "SELECT count(*) FROM oban_jobs WHERE state = 'executing'").await == 3).then_some(())
    })
    .await;
    run.signal("INT");
    let (status, printed) = run.finish();
    assert_eq!(status.code(), Some(130));
    let completed = rows(&printed).iter().filter(|row| row["outcome"] == "completed").count();
    assert_eq!(completed, 3, "those that ran were let finish: {printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_lines_are_all_reported_and_nothing_is_enqueued() {
    let (db, database) = TestDb::migrated().await;
    let place = Place::new(&db, FAST);
    place.write("prompts.jsonl", "{\"prompt\":\"good\"}\nnonsense\n{\"promt\":\"typo\"}\n");
    let output = place.run(&["run", "prompts.jsonl"]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("prompts.jsonl:2: error[E0814]") && stderr.contains("prompts.jsonl:3: error[E0601]"),
        "{stderr}"
    );
    assert_eq!(scalar(database.pool(), "SELECT count(*) FROM oban_jobs").await, 0);

    let output = place.run(&["run", "prompts.jsonl", "--skip-bad"]);
    assert_eq!(output.status.code(), Some(1), "not every line was answered");
    assert!(text(&output.stdout).contains("1 completed"), "{}", text(&output.stdout));
    assert_eq!(scalar(database.pool(), "SELECT count(*) FROM oban_jobs").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_fails_is_reported_with_its_reason_and_tried_again_by_the_same_command() {
    let (db, _database) = TestDb::migrated().await;
    let provider = FakeProvider::with(Wire::Openai, [Reply::status(400, "invalid_request_error")]).await;
    provider.set_default(Reply::stream("better now"));
    let config = format!(
        "[providers.fake]\nkind = \"openai\"\nbase_url = \"{}\"\n[models.fake]\nprovider = \"fake\"\nname = \"fake-1\"\n",
        provider.base_url()
    );
    let place = Place::new(&db, &config);
    place.write("prompts.jsonl", "{\"id\":\"x\",\"prompt\":\"hm\",\"model\":\"fake\"}\n");
    let output = place.run(&["run", "prompts.jsonl", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let row = &rows(&text(&output.stdout))[0];
    assert_eq!(row["outcome"], "cancelled");
    assert!(row["error"].as_str().unwrap().contains("E0505"), "{row}");

    let output = place.run(&["run", "prompts.jsonl", "--json"]);
    assert!(output.status.success());
    assert_eq!(rows(&text(&output.stdout))[0]["text"], "better now");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_stands_for_another_question_is_refused() {
    let (db, database) = TestDb::migrated().await;
    let place = Place::new(&db, FAST);
    place.write("a.jsonl", "{\"id\":\"x\",\"prompt\":\"one\",\"task_type\":\"parser\"}\n");
    place.write("b.jsonl", "{\"id\":\"y\",\"prompt\":\"new\"}\n{\"id\":\"x\",\"prompt\":\"two\"}\n");
    assert!(place.run(&["run", "a.jsonl"]).status.success());
    let output = place.run(&["run", "b.jsonl"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(text(&output.stderr).contains("b.jsonl:2: error[E0605]"), "{}", text(&output.stderr));
    assert_eq!(scalar(database.pool(), "SELECT count(*) FROM oban_jobs").await, 1, "all or nothing");
}
