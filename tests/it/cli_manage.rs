//! `job cancel`, `retry`, `delete` and `update` of all jobs that fit, and pages of `job list`.

use serde_json::{Value, json};
use singularity::postgres::Database;

use crate::cli_support::{enqueue, run};
use crate::support::db::TestDb;
use crate::support::process::Place;

async fn states(database: &Database) -> Vec<(i64, String)> {
    sqlx::query_as("SELECT id, state::text FROM oban_jobs ORDER BY id").fetch_all(database.pool()).await.unwrap()
}

async fn set(database: &Database, sql: &'static str) {
    sqlx::raw_sql(sql).execute(database.pool()).await.unwrap();
}

/// Three jobs of queue `mail`, the third tagged, and one of another.
fn mails(place: &Place) {
    for to in ["1", "2"] {
        enqueue(place, &["mail", "--queue", "mail", "--args", &format!(r#"{{"to": {to}, "kind": "news"}}"#)]);
    }
    enqueue(place, &["mail", "--queue", "mail", "--tag", "Late", "--in", "1h"]);
    enqueue(place, &["sms", "--queue", "other"]);
}

#[tokio::test]
async fn what_fits_is_counted_changed_and_told_and_nothing_else_is_touched() {
    let (db, database) = TestDb::migrated().await;
    let place = Place::new(&db, "");
    mails(&place);
    set(&database, "UPDATE oban_jobs SET state = 'completed' WHERE id = 2").await;
    let before = states(&database).await;
    let planned = run(&place, &["job", "cancel", "--queue", "mail", "--dry-run", "--json"]).done();
    let wanted = json!({
        "schema": "singularity.job_change_many.v1", "action": "cancel", "dry_run": true, "limit": null,
        "changed_total": 2, "changed": {"available": 1, "scheduled": 1}, "left": {"completed": 1},
    });
    assert_eq!(planned.document("singularity.job_change_many.v1"), wanted);
    assert_eq!(states(&database).await, before, "a dry run changes nothing");

    let told = run(&place, &["job", "cancel", "--queue", "mail", "--limit", "1"]).done();
    assert_eq!(told.out, "cancelled 1 job (1 available)\n");
    assert!(told.err.contains("1 job (1 completed); cancel is allowed for suspended"), "{}", told.err);
    assert!(told.err.contains("because of --limit: 1 job (1 scheduled)"), "{}", told.err);
    let told = run(&place, &["job", "cancel", "--tag", "LATE", "--worker", "mail", "--json"]).done();
    assert_eq!(told.document("singularity.job_change_many.v1")["changed"], json!({"scheduled": 1}));
    // Who names no state means what did not succeed.
    let told = run(&place, &["job", "retry", "--all", "--dry-run"]).done();
    assert_eq!(told.out, "would retry 2 jobs (2 cancelled); nothing was changed\n");
    assert!(told.err.contains("name others with --state"), "{}", told.err);
    let told = run(&place, &["job", "retry", "--state", "cancelled,completed", "--args", r#"{"kind": "news"}"#]).done();
    assert_eq!(told.out, "made available 2 jobs (1 completed, 1 cancelled)\n");
    let now: Vec<String> = states(&database).await.into_iter().map(|(_, state)| state).collect();
    assert_eq!(now, ["available", "available", "cancelled", "available"]);
    assert_eq!(run(&place, &["job", "cancel", "--all"]).done().out, "cancelled 3 jobs (3 available)\n");
    assert_eq!(run(&place, &["job", "cancel", "--queue", "default"]).done().out, "cancelled no jobs\n");
}

#[tokio::test]
async fn deleting_all_that_fit_says_how_many_and_wants_to_be_told_again() {
    let (db, database) = TestDb::migrated().await;
    let place = Place::new(&db, "");
    mails(&place);
    set(&database, "UPDATE oban_jobs SET state = 'executing' WHERE id = 1").await;
    let before = states(&database).await;
    let refused = run(&place, &["job", "delete", "--queue", "mail"]);
    refused.refused(2, &["E0841", "2 jobs (1 scheduled, 1 available)", "nothing was deleted", "--yes"]);
    assert_eq!(states(&database).await, before);
    run(&place, &["job", "delete", "--all", "--dry-run"]).done();
    assert_eq!(states(&database).await, before);
    let told = run(&place, &["job", "delete", "--queue", "mail", "--yes"]).done();
    assert_eq!(told.out, "deleted 2 jobs (1 scheduled, 1 available)\n");
    assert!(told.err.contains("left as they are: 1 job (1 executing)"), "{}", told.err);
    let left: Vec<i64> = states(&database).await.iter().map(|(id, _)| *id).collect();
    assert_eq!(left, [1, 4]);
    // By id a deletion is meant as it is said, and one that fits nothing needs no confirmation.
    assert_eq!(run(&place, &["job", "delete", "4"]).done().out, "job 4 deleted (was available)\n");
    run(&place, &["job", "delete", "--queue", "default"]).done();
}

#[tokio::test]
async fn a_queue_that_nobody_has_is_a_typing_error_and_not_an_empty_one() {
    let (db, database) = TestDb::migrated().await;
    let place = Place::new(&db, "[queues.default]\n[queues.media]\nstart = false\n");
    mails(&place);
    let each = [&["job", "list"][..], &["job", "delete", "--yes"], &["job", "update", "--set-priority", "1"]];
    for command in each {
        let wrong = run(&place, &[command, &["--queue", "mail", "--queue", "meida"]].concat());
        wrong.refused(3, &["E0835", "there is no queue \"meida\"", "did you mean \"media\"?"]);
        assert_eq!(wrong.out, "");
        run(&place, &[command, &["--queue", "media"]].concat()).done();
    }
    // One that has jobs and nothing else is one.
    run(&place, &["job", "cancel", "--queue", "mial", "--json"]).refused(3, &["did you mean \"mail\"?"]);
    assert!(states(&database).await.iter().all(|(_, state)| state == "available" || state == "scheduled"));
    run(&place, &["queue", "pause", "meida"]).refused(3, &["E0835", "did you mean \"media\"?"]);
    // What somebody keeps for one that comes later, and what nodes of other runtimes have, is no typing error.
    run(&place, &["queue", "start", "meida", "--limit", "3", "--keep"]).done();
    run(&place, &["queue", "pause", "meida", "--keep"]).done();
    run(&place, &["job", "cancel", "--queue", "meida"]).done();
    set(
        &database,
        "CREATE UNLOGGED TABLE oban_leaders (name text);
         CREATE UNLOGGED TABLE oban_producers (queue text, node text, updated_at timestamp);
         ALTER TABLE oban_leaders ADD node text, ADD expires_at timestamp;
         INSERT INTO oban_producers VALUES ('python', 'host.1', timezone('UTC', now())), ('gone', 'host.2', '2020-01-01')",
    )
    .await;
    run(&place, &["job", "list", "--queue", "python"]).done();
    run(&place, &["job", "list", "--queue", "gone"]).refused(3, &["E0835"]);
    let gossip = r#"{"checks":[{"name":"Oban","node":"web","queue":"elixir","limit":5}]}"#;
    let talk = async {
        loop {
            let said = sqlx::query("SELECT pg_notify('public.oban_gossip', $1)").bind(gossip);
            said.execute(database.pool()).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let list = tokio::task::spawn_blocking(move || run(&place, &["job", "list", "--queue", "elixir"]));
    tokio::select! {
        () = talk => {}
        listed = list => drop(listed.unwrap().done()),
    }
}

#[tokio::test]
async fn an_update_writes_the_values_that_are_given() {
    let (db, database) = TestDb::migrated().await;
    let place = Place::new(&db, "");
    mails(&place);
    let args = ["job", "update", "1", "3", "--set-queue", "slow", "--set-worker", "post", "--set-priority", "4"];
    let more =
        ["--set-max-attempts", "7", "--set-tags", "A,b", "--set-args", r#"{"x": 1}"#, "--set-meta", r#"{"m": 2}"#];
    let planned = run(&place, &[&args[..], &more, &["--dry-run"]].concat()).done().out;
    assert_eq!(planned, "would update job 1, which is available\nwould update job 3, which is scheduled\n");
    let told = run(&place, &[&args[..], &more, &["--json"]].concat()).done().document("singularity.job_change.v1");
    assert_eq!((&told["action"], &told["jobs"][1]["state"]), (&json!("update"), &json!("scheduled")));
    let job = &run(&place, &["job", "show", "1", "--json"]).done().document("singularity.job.v1")["job"];
    for (column, value) in json!({
        "queue": "slow", "worker": "post", "priority": 4, "max_attempts": 7, "tags": ["a", "b"], "args": {"x": 1},
        "meta": {"m": 2}, "state": "available",
    })
    .as_object()
    .unwrap()
    {
        assert_eq!(&job[column], value, "{column}");
    }
    run(&place, &["job", "update", "1", "--set-in", "1h"]).done();
    let told = run(&place, &["job", "update", "--queue", "mail", "--set-at", "2040-01-01T00:00:00Z"]).done();
    assert_eq!(told.out, "updated 1 job (1 available)\n");
    let now: Vec<String> = states(&database).await.into_iter().map(|(_, state)| state).collect();
    assert_eq!(now, ["scheduled", "scheduled", "scheduled", "available"]);
    set(&database, "UPDATE oban_jobs SET state = 'completed' WHERE id = 1").await;
    let refused = run(&place, &["job", "update", "1", "--set-in", "1h"]);
    refused.refused(4, &["E0822", "job 1 is completed", "update is allowed for scheduled, available, retryable"]);
}

#[tokio::test]
async fn what_is_not_said_clearly_is_refused_before_the_database_is_touched() {
    let (db, _) = TestDb::migrated().await;
    // Nobody listens there, so whatever needs the database ends with another code.
    let place = Place::new(&db, "[database]\nurl = \"file:nowhere\"\n");
    place.write("nowhere", "postgres://nobody@127.0.0.1:1/none");
    for (args, part) in [
        (vec!["cancel"], "E0840"),
        (vec!["delete", "--yes"], "E0840"),
        (vec!["retry", "--limit", "3"], "--all are required"),
        (vec!["cancel", "1", "--queue", "q"], "cannot be used with"),
        (vec!["cancel", "--all", "--queue", "q"], "cannot be used with"),
        (vec!["cancel", "--all", "1"], "cannot be used with"),
        (vec!["cancel", "1", "--limit", "2"], "cannot be used with"),
        (vec!["cancel", "--state", "done"], "is not a job state"),
        (vec!["cancel", "--args", "["], "E0820"),
        (vec!["cancel", "--args", "[1]"], "must be a JSON object"),
        (vec!["cancel", "--queue", "q", "--limit", "0"], "\"0\"; allowed are 1 "),
        (vec!["update", "1"], "at least one of args"),
        (vec!["update", "1", "--set-priority", "10"], "allowed are 0 to 9"),
        (vec!["update", "1", "--set-queue", ""], "queue is"),
        (vec!["update", "1", "--set-args", "1"], "--set-args is 1"),
        (vec!["update", "1", "--set-in", "1h", "--set-at", "2040-01-01T00:00:00Z"], "cannot be used with"),
        (vec!["update", "--set-priority", "1"], "E0840"),
        (vec!["list", "--before", "0"], "\"0\"; allowed are 1 "),
    ] {
        run(&place, &[&["job"], &args[..]].concat()).refused(2, &[part]);
    }
}

#[tokio::test]
async fn a_list_shows_the_last_error_where_there_is_one_and_what_happened_lately() {
    let (db, database) = TestDb::migrated().await;
    let place = Place::new(&db, "");
    mails(&place);
    let list = |args: &[&str]| run(&place, &[&["job", "list"], args].concat()).done();
    let head = |out: &str| out.lines().next().unwrap().to_owned();
    assert!(!head(&list(&[]).out).contains("error"));
    let long = "the vendor is down ".repeat(20);
    let errors = format!(
        r#"UPDATE oban_jobs SET state = 'discarded', discarded_at = timezone('UTC', now()), attempt = 2,
             errors = ARRAY['{{"attempt": 1, "error": "first"}}', '{{"attempt": 2, "error": "{long}"}}']::jsonb[]
           WHERE id = 2"#
    );
    db.execute(errors).await;
    let out = list(&[]).out;
    let of = |id: &str| out.lines().find(|line| line.starts_with(id)).unwrap().to_owned();
    assert!(head(&out).ends_with("last error") && of("2 ").ends_with("is down th…"), "{out}");
    assert!(!out.contains("first") && of("1 ").ends_with('}'), "{out}");
    let jobs = list(&["--state", "discarded", "--json"]).document("singularity.job_list.v1")["jobs"].clone();
    assert_eq!(jobs[0]["errors"][1]["error"], long, "as a whole");

    // By the database's clock, whatever happened to them.
    set(
        &database,
        "UPDATE oban_jobs SET inserted_at = inserted_at - interval '3 hours';
         UPDATE oban_jobs SET discarded_at = discarded_at - interval '1 hour' WHERE id = 2;
         UPDATE oban_jobs SET attempted_at = timezone('UTC', now()) - interval '5 minutes' WHERE id = 4",
    )
    .await;
    let since = |time: &str| -> Vec<i64> {
        let listed = list(&["--since", time, "--json"]).document("singularity.job_list.v1");
        listed["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_i64().unwrap()).collect()
    };
    assert_eq!((since("10m"), since("2h"), since("1d")), (vec![4], vec![4, 2], vec![4, 3, 2, 1]));
    assert_eq!((since("2020-01-31T08:00:00Z").len(), since("2099-01-31T08:00:00+02:00").len()), (4, 0));
    assert!(list(&["--since", "1s"]).err.contains("no job fits"));
    let wrong = run(&place, &["job", "list", "--since", "yesterday"]);
    assert!(wrong.code == Some(2) && wrong.err.contains("RFC 3339"), "{}", wrong.err);
}

#[tokio::test]
async fn a_long_list_is_read_page_by_page() {
    let (db, database) = TestDb::migrated().await;
    let place = Place::new(&db, "");
    set(&database, "INSERT INTO oban_jobs (worker) SELECT 'w' FROM generate_series(1, 25)").await;
    let mut seen: Vec<i64> = Vec::new();
    let mut before: Option<String> = None;
    for page in [10, 10, 5] {
        let mut args = vec!["job", "list", "--limit", "10", "--json"];
        args.extend(before.iter().flat_map(|id| ["--before", id.as_str()]));
        let listed = run(&place, &args).done().document("singularity.job_list.v1");
        let ids: Vec<i64> = listed["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_i64().unwrap()).collect();
        assert_eq!(ids.len(), page);
        seen.extend(ids);
        before = listed["next_before"].as_i64().map(|id| id.to_string());
        assert_eq!(before.is_some(), page == 10);
    }
    assert_eq!(seen, (1..=25).rev().collect::<Vec<i64>>());
    let people = run(&place, &["job", "list", "--limit", "10"]).done();
    assert!(people.err.contains("--before 16"), "{}", people.err);
}

#[tokio::test]
async fn a_job_of_any_runtime_can_be_shown() {
    let (db, database) = TestDb::migrated().await;
    let place = Place::new(&db, "");
    let id = enqueue(&place, &["Elixir.Mailer"]).to_string();
    set(
        &database,
        r#"UPDATE oban_jobs SET meta = NULL, tags = NULL, attempted_by = NULL, attempt = 20, state = 'discarded', args = '[1]',
           errors = ARRAY['{"at": "2026-01-01T00:00:00+00:00", "attempt": 1, "error": "Traceback\n  File"}', '"odd"',
                          '{"attempt": "two", "error": 7}', 'null']::jsonb[]"#,
    )
    .await;
    let job = &run(&place, &["job", "show", &id, "--json"]).done().document("singularity.job.v1")["job"];
    assert_eq!((&job["meta"], &job["tags"], &job["attempted_by"]), (&json!({}), &json!([]), &json!([])));
    assert_eq!((&job["errors"][1], &job["errors"][3]), (&json!("odd"), &Value::Null));
    let people = run(&place, &["job", "show", &id]).done().out;
    for part in ["Elixir.Mailer", "attempt 1 at 2026-01-01T00:00:00+00:00: Traceback", "\"odd\"", "\"attempt\":\"two\""]
    {
        assert!(people.contains(part), "{part} is not in {people}");
    }
    run(&place, &["job", "list"]).done();
    run(&place, &["job", "wait", &id]).refused(1, &["null"]);
}
