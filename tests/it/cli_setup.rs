//! `config`, `migrate` and `doctor`: is everything there that a node needs?

use serde_json::{Value, json};

use crate::cli_support::run;
use crate::support::db::TestDb;
use crate::support::process::Place;

/// The finding about `name`.
fn check(document: &Value, name: &str) -> Value {
    let checks = document["checks"].as_array().unwrap();
    checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("no {name} in {document}")).clone()
}

#[tokio::test]
async fn every_problem_of_the_configuration_is_reported_at_once() {
    let db = TestDb::new().await;
    let place = Place::new(&db, "[queues.default]\nlimt = 5\nlimit = 0\n[log]\nformat = \"xml\"\n");
    let ended = run(&place, &["config", "check"]);
    assert_eq!(ended.code, Some(78));
    for part in ["limt", "limit", "format", "3 problems", "actors.toml:2"] {
        assert!(ended.err.contains(part), "{part:?} is not in {}", ended.err);
    }
    // The same for every other command.
    assert_eq!(run(&place, &["job", "list"]).code, Some(78));
}

#[tokio::test]
async fn a_valid_configuration_is_printed_with_the_origin_of_each_value() {
    let db = TestDb::new().await;
    let place = Place::new(&db, "[queues.default]\nlimit = 7\n");
    assert!(run(&place, &["config", "check"]).done().out.starts_with("ok: "));
    let text = run(&place, &["config", "print", "--set", "log.filter=warn"]).done().out;
    let line =
        |key: &str| text.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("no {key} in {text}"));
    assert!(line("queues.default.limit = 7").contains("actors.toml:2"));
    assert!(line("log.filter = ").contains("warn"));
    assert!(line("database.schema = ").ends_with("# default"));
    let document = run(&place, &["config", "print", "--json"]).done().document("singularity.config.v1");
    let values = document["values"].as_array().unwrap();
    let limit = values.iter().find(|entry| entry["key"] == "queues.default.limit").unwrap();
    assert_eq!((&limit["value"], &limit["origin"]["layer"]), (&json!(7), &json!("file")));
    assert!(document["path"].as_str().unwrap().ends_with("actors.toml"));
}

#[tokio::test]
async fn models_that_cannot_be_called_are_problems_of_the_configuration() {
    let db = TestDb::new().await;
    let place = Place::new(&db, "[providers.local]\nkind = \"openai\"\nbase_url = \"http://\"\n");
    let ended = run(&place, &["config", "check"]);
    assert_eq!(ended.code, Some(78), "{}{}", ended.out, ended.err);
    assert!(ended.err.contains("providers.local"), "{}", ended.err);
}

#[tokio::test]
async fn migrations_are_shown_applied_and_shown_again() {
    let db = TestDb::new().await;
    let place = Place::new(&db, "[database]\nschema = \"jobs\"\n");
    let status = || run(&place, &["migrate", "status", "--json"]).done().document("singularity.migrate_status.v1");
    let before = status();
    assert_eq!(
        (&before["is_current"], &before["oban"], &before["database_schema"]),
        (&json!(false), &Value::Null, &json!("jobs"))
    );
    assert!(run(&place, &["migrate", "status"]).done().err.contains("singularity migrate up"));
    let up = || run(&place, &["migrate", "up", "--json"]).done().document("singularity.migrate_up.v1");
    let first = up();
    assert_eq!(first["applied"].as_array().unwrap().len(), before["migrations"].as_array().unwrap().len());
    assert_eq!(up()["applied"], json!([]));
    let after = status();
    assert_eq!((&after["is_current"], &after["oban"]["version"]), (&json!(true), &json!("14")));
    assert!(after["migrations"].as_array().unwrap().iter().all(|step| step["state"] == "applied"));
    assert_eq!(run(&place, &["migrate", "up"]).done().out.lines().next(), Some("schema jobs is up to date"));
    db.execute("COMMENT ON TABLE jobs.oban_jobs IS '99'").await;
    run(&place, &["migrate", "up"]).refused(1, &["E0301", "99"]);
}

#[tokio::test]
async fn doctor_tells_what_is_missing_and_how_to_get_it() {
    let db = TestDb::new().await;
    let place = Place::new(
        &db,
        "[providers.anthropic]\napi_key = \"env:CLI_TEST_KEY_THAT_NOBODY_SETS\"\n\
         [models.m]\nprovider = \"anthropic\"\nname = \"unheard-of\"\n",
    );
    let document = |args: &[&str]| {
        let ended = run(&place, &[&["doctor", "--json"], args].concat());
        (ended.code, ended.document("singularity.doctor.v1"))
    };
    let (code, fresh) = document(&[]);
    assert_eq!((code, &fresh["ok"]), (Some(0), &json!(true)), "{fresh}");
    for (name, status) in [
        ("configuration", "ok"),
        ("database", "ok"),
        ("migrations", "warn"),
        ("pgmq", "warn"),
        ("clock", "ok"),
        ("notifications", "ok"),
        ("models", "ok"),
        ("provider_key", "warn"),
    ] {
        assert_eq!(check(&fresh, name)["status"], status, "{name} in {fresh}");
    }
    assert!(!fresh.to_string().contains("password"), "{fresh}");

    run(&place, &["migrate", "up"]).done();
    let (_, migrated) = document(&[]);
    assert_eq!(check(&migrated, "migrations")["status"], "ok");
    assert_eq!(
        (&check(&migrated, "instances")["status"], &check(&migrated, "instances")["fix"]),
        (&json!("warn"), &json!("singularity start"))
    );

    // Requests are routed to a model whose key is not there and whose price nobody knows.
    let (code, routed) = document(&["--set", "routing.models.simple=m"]);
    assert_eq!((code, &routed["ok"]), (Some(1), &json!(false)), "{routed}");
    let key = check(&routed, "provider_key");
    assert_eq!(key["status"], "fail");
    assert!(key["message"].as_str().unwrap().contains("routed to m"), "{key}");
    assert!(check(&routed, "models")["message"].as_str().unwrap().contains("no price is known for m"));
    let people = run(&place, &["doctor", "--set", "routing.models.simple=m"]);
    assert_eq!(people.code, Some(1));
    assert!(
        people.out.lines().any(|line| line.starts_with("FAIL  provider_key")) && people.out.contains("try: export"),
        "{}",
        people.out
    );
}

#[tokio::test]
async fn doctor_goes_on_where_no_database_answers() {
    let db = TestDb::new().await;
    let place = Place::new(&db, "[database]\nurl = \"file:nowhere\"\n");
    place.write("nowhere", "postgres://nobody:secret@127.0.0.1:1/none");
    let ended = run(&place, &["doctor", "--json"]);
    assert_eq!(ended.code, Some(1));
    let document = ended.document("singularity.doctor.v1");
    let database = check(&document, "database");
    assert_eq!(database["status"], "fail");
    assert!(database["message"].as_str().unwrap().contains("E0222") && database["fix"].is_string(), "{database}");
    assert_eq!(check(&document, "models")["status"], "ok");
    assert!(!ended.out.contains("secret") && !ended.err.contains("secret"));
}

#[tokio::test]
async fn help_names_the_exit_codes_and_every_verb() {
    let db = TestDb::new().await;
    let place = Place::new(&db, "");
    let help = run(&place, &["--help"]).done().out;
    for part in ["Exit codes", "run", "start", "job", "queue", "instance", "tree", "migrate", "config", "doctor"] {
        assert!(help.contains(part), "{part:?} is not in {help}");
    }
    assert!(!help.contains("guardian"), "{help}");
    assert_eq!(run(&place, &["job", "nonsense"]).code, Some(2));
}
