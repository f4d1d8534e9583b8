//! `singularity job` without a node: what each verb accepts, prints and refuses.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::cli_support::{enqueue, run};
use crate::support::db::TestDb;
use crate::support::process::{Place, text};

#[tokio::test]
async fn an_enqueued_job_is_listed_and_shown_with_what_was_asked_for() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, "");
    run(&place, &["job", "enqueue", "embeding"]).refused(3, &["E0839", "did you mean \"embedding\"?"]);
    // Before anybody is there, nobody can say which other workers there will be.
    let said = run(&place, &["job", "enqueue", "mail"]).done();
    assert_eq!(said.out, "job 1 available in queue default\n");
    assert!(said.err.contains("no instance is online"), "{}", said.err);

    let id = enqueue(
        &place,
        &[
            "mail",
            "--args",
            r#"{"to": "ann"}"#,
            "--queue",
            "metrics",
            "--in",
            "5m",
            "--priority",
            "3",
            "--max-attempts",
            "7",
            "--tag",
            "News",
            "--tag",
            "b",
            "--meta",
            r#"{"by": "me"}"#,
        ],
    );
    let shown = run(&place, &["job", "show", &id.to_string(), "--json"]).done().document("singularity.job.v1");
    let job = &shown["job"];
    let expected = json!({
        "id": id, "state": "scheduled", "queue": "metrics", "worker": "mail", "args": {"to": "ann"},
        "meta": {"by": "me"}, "tags": ["news", "b"], "errors": [], "attempt": 0,
        "max_attempts": 7, "priority": 3, "attempted_by": [],
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&job[name], value, "{name}");
    }
    assert!(chrono::DateTime::parse_from_rfc3339(job["scheduled_at"].as_str().unwrap()).is_ok());
    assert_eq!((&shown["run"], &shown["result"]), (&Value::Null, &Value::Null));
    let people = run(&place, &["job", "show", &id.to_string()]).done().out;
    assert!(people.contains("scheduled") && people.contains("news, b") && people.contains("in 4m 5"), "{people}");

    for (filter, ids) in [
        (["--queue", "metrics"], vec![id]),
        (["--state", "available"], vec![1]),
        (["--worker", "mail"], vec![id, 1]),
        (["--tag", "NEWS"], vec![id]),
        (["--limit", "1"], vec![id]),
        (["--worker", "other"], vec![]),
    ] {
        let args = [&["job", "list", "--json"], &filter[..]].concat();
        let listed = run(&place, &args).done().document("singularity.job_list.v1");
        let found: Vec<i64> =
            listed["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_i64().unwrap()).collect();
        assert_eq!(found, ids, "{filter:?}");
    }
    let table = run(&place, &["job", "list"]).done().out;
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.lines().nth(1).unwrap().starts_with(&format!("{id} ")), "{table}");
}

#[tokio::test]
async fn defaults_of_an_llm_request_come_from_the_configuration_and_its_arguments_are_checked() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, "[workflows.llm_request]\nqueue = \"training\"\nmax_attempts = 2\n");
    let id = enqueue(&place, &["llm_request", "--args", r#"{"prompt": "hi"}"#]);
    let job = &run(&place, &["job", "show", &id.to_string(), "--json"]).done().document("singularity.job.v1")["job"];
    assert_eq!((&job["queue"], &job["max_attempts"]), (&json!("training"), &json!(2)));
    let id = enqueue(&place, &["llm_request", "--args", r#"{"prompt": "hi"}"#, "--queue", "q", "--max-attempts", "9"]);
    let job = &run(&place, &["job", "show", &id.to_string(), "--json"]).done().document("singularity.job.v1")["job"];
    assert_eq!((&job["queue"], &job["max_attempts"]), (&json!("q"), &json!(9)));
    for (args, code) in [("{}", "E0602"), (r#"{"prompt": "hi", "promt": 1}"#, "E0601"), (r#"{"prompt": " "}"#, "E0512")]
    {
        run(&place, &["job", "enqueue", "llm_request", "--args", args]).refused(2, &[code]);
    }
}

#[tokio::test]
async fn a_unique_job_is_stored_once_and_a_dry_run_stores_nothing() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, "");
    let args = ["job", "enqueue", "mail", "--args", r#"{"to": 1}"#, "--unique", "--json"];
    let first = run(&place, &args).done().document("singularity.job_enqueue.v1");
    let second = run(&place, &args).done().document("singularity.job_enqueue.v1");
    assert_eq!((&first["conflict"], &second["conflict"]), (&json!(false), &json!(true)));
    assert_eq!(first["id"], second["id"]);

    let dry = [&args[..], &["--dry-run"]].concat();
    let dry = run(&place, &dry).done().document("singularity.job_enqueue.v1");
    assert_eq!((&dry["id"], &dry["dry_run"], &dry["queue"]), (&Value::Null, &json!(true), &json!("default")));
    let said = run(&place, &["job", "enqueue", "mail", "--in", "5m", "--dry-run"]).done().out;
    assert!(said.contains("due in 5m 0s") && said.contains("nothing was stored"), "{said}");
    let listed = run(&place, &["job", "list", "--json"]).done().document("singularity.job_list.v1");
    assert_eq!(listed["jobs"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn options_say_when_a_job_is_the_same_and_what_is_overwritten() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, "");
    let first = enqueue(&place, &["mail", "--args", r#"{"id": 1, "text": "a"}"#]);
    let second = |more: &[&str]| {
        let args = ["job", "enqueue", "mail", "--args", r#"{"id": 1, "text": "b"}"#, "--json"];
        run(&place, &[&args[..], more].concat()).done().document("singularity.job_enqueue.v1")
    };
    let told = second(&["--unique-fields", "worker,args", "--unique-keys", "id", "--replace", "available:args,tags"]);
    assert_eq!((&told["id"], &told["conflict"], &told["replaced"]), (&json!(first), &json!(true), &json!(true)));
    let job = &run(&place, &["job", "show", &first.to_string(), "--json"]).done().document("singularity.job.v1")["job"];
    assert_eq!(job["args"]["text"], "b");
    assert_eq!(second(&["--unique-states", "executing,completed"])["conflict"], json!(false));
    assert_eq!(second(&["--unique-period", "1h", "--unique-timestamp", "scheduled_at"])["conflict"], json!(true));
    for (args, part) in [
        (vec!["--unique-fields", "state"], "there are args, meta, queue, worker"),
        (vec!["--unique-states", "done"], "the groups all"),
        (vec!["--replace", "done:args"], "is not a job state"),
        (vec!["--replace", "state"], "is not a field that can be replaced"),
        (vec!["--unique-fields", "worker", "--unique-keys", "id"], "using :keys expects :fields"),
    ] {
        run(&place, &[&["job", "enqueue", "mail"], &args[..]].concat()).refused(2, &[part]);
    }
}

#[tokio::test]
async fn arguments_are_read_from_standard_input() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, "");
    let mut command = place.command(&["job", "enqueue", "mail", "--args", "-", "--json"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(br#"{"to": "ann"}"#).unwrap();
    let output = child.wait_with_output().unwrap();
    let job: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    assert_eq!(job["args"], json!({"to": "ann"}));
}

#[tokio::test]
async fn wrong_arguments_are_refused_before_the_database_is_touched() {
    // Nobody listens there, so whatever needs the database ends with another code.
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, "[database]\nurl = \"file:nowhere\"\n");
    place.write("nowhere", "postgres://nobody@127.0.0.1:1/none");
    for (args, part) in [
        (vec!["enqueue", "w", "--args", "["], "E0820"),
        (vec!["enqueue", "w", "--args", "[]"], "must be a JSON object"),
        (vec!["enqueue", "w", "--meta", "3"], "--meta is 3"),
        (vec!["enqueue", ""], "worker is \"\""),
        (vec!["enqueue", "w", "--queue", "a\"b"], "queue is"),
        (vec!["enqueue", "w", "--in", "5x"], "is not a period"),
        (vec!["enqueue", "w", "--at", "tomorrow"], "RFC 3339"),
        (vec!["enqueue", "w", "--in", "5m", "--at", "2030-01-01T00:00:00Z"], "cannot be used with"),
        (vec!["enqueue", "w", "--priority", "10"], "allowed are 0 to 9"),
        (vec!["enqueue", "w", "--max-attempts", "0"], "allowed are 1 to 32767"),
        (vec!["list", "--state", "done"], "there are suspended, scheduled"),
        (vec!["list", "--limit", "0"], "allowed are 1 to 10000"),
        (vec!["show", "x"], "<ID> is \"x\"; a whole number is expected"),
        (vec!["show", "0"], "\"0\"; allowed are 1 "),
        (vec!["cancel"], "required"),
        (vec!["wait", "1", "--timeout", "soon"], "is not a period"),
    ] {
        run(&place, &[&["job"], &args[..]].concat()).refused(2, &[part]);
    }
    run(&place, &["job", "list"]).refused(69, &["E0222"]);
}

#[tokio::test]
async fn each_verb_accepts_the_states_that_oban_lets_it() {
    let (db, database) = TestDb::migrated().await;
    let place = Place::new(&db, "");
    let matrix = [
        ("suspended", true, true, true),
        ("scheduled", true, true, true),
        ("available", true, false, true),
        ("executing", true, false, false),
        ("retryable", true, true, true),
        ("completed", false, true, true),
        ("discarded", false, true, true),
        ("cancelled", false, true, true),
    ];
    for (state, cancel, retry, delete) in matrix {
        for (verb, allowed, after) in
            [("cancel", cancel, Some("cancelled")), ("retry", retry, Some("available")), ("delete", delete, None)]
        {
            let id = enqueue(&place, &["mail"]);
            sqlx::query("UPDATE oban_jobs SET state = $2::oban_job_state WHERE id = $1")
                .bind(id)
                .bind(state)
                .execute(database.pool())
                .await
                .unwrap();
            let ended = run(&place, &["job", verb, &id.to_string(), "--json"]);
            let line = &ended.document("singularity.job_change.v1")["jobs"][0];
            assert_eq!((&line["id"], &line["state_before"]), (&json!(id), &json!(state)));
            if allowed {
                assert_eq!((&line["outcome"], &line["state"]), (&json!("changed"), &json!(after)), "{verb} {state}");
                assert_eq!(ended.code, Some(0));
            } else {
                assert_eq!((&line["outcome"], &line["state"]), (&json!("refused"), &json!(state)), "{verb} {state}");
                ended.refused(4, &["E0822", &format!("job {id} is {state}"), &format!("{verb} is allowed for")]);
            }
            let now: Option<String> = sqlx::query_scalar("SELECT state::text FROM oban_jobs WHERE id = $1")
                .bind(id)
                .fetch_optional(database.pool())
                .await
                .unwrap();
            assert_eq!(now.as_deref(), if allowed { after } else { Some(state) }, "{verb} {state}");
        }
    }
}

#[tokio::test]
async fn every_id_is_tried_and_a_missing_one_is_told() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, "");
    let ids = [enqueue(&place, &["a"]), enqueue(&place, &["b"])].map(|id| id.to_string());
    let ended = run(&place, &["job", "cancel", "777", &ids[0], &ids[1], &ids[1]]);
    ended.refused(3, &["E0821", "no job 777"]);
    assert_eq!(ended.out.lines().count(), 2, "{}", ended.out);
    for verb in ["show", "retry", "delete", "wait"] {
        run(&place, &["job", verb, "777"]).refused(3, &["no job 777"]);
    }
}

#[tokio::test]
async fn waiting_ends_as_the_job_did() {
    let (db, database) = TestDb::migrated().await;
    let place = Place::new(&db, "");
    let finish = async |state: &str| {
        let id = enqueue(&place, &["mail"]);
        let error = json!({"at": "2030-01-01T00:00:00Z", "attempt": 1, "error": "** (Boom) no wind"});
        sqlx::query("UPDATE oban_jobs SET state = $2::oban_job_state, errors = ARRAY[$3]::jsonb[] WHERE id = $1")
            .bind(id)
            .bind(state)
            .bind(error)
            .execute(database.pool())
            .await
            .unwrap();
        id.to_string()
    };
    let (completed, discarded, cancelled) =
        (finish("completed").await, finish("discarded").await, finish("cancelled").await);
    let ended = run(&place, &["job", "wait", &completed, "--json"]).done().document("singularity.job_wait.v1");
    assert_eq!((&ended["timed_out"], &ended["jobs"][0]["state"]), (&json!(false), &json!("completed")));
    for (id, state) in [(&discarded, "discarded"), (&cancelled, "cancelled")] {
        run(&place, &["job", "wait", &completed, id]).refused(1, &["E0823", "no wind", state]);
    }
    let open = enqueue(&place, &["mail"]).to_string();
    let ended = run(&place, &["job", "wait", &open, &completed, "--timeout", "200ms", "--json"]);
    ended.refused(5, &["E0824", "after 200ms", &format!("job {open} is available"), "no instance is online"]);
    assert_eq!(ended.document("singularity.job_wait.v1")["timed_out"], true);
}
