//! `config`, `migrate` and `doctor`: is everything there that a node needs?

use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::cli_support::run;
use crate::support::db::TestDb;
use crate::support::process::{Place, text};

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
async fn whoever_only_looks_makes_neither_tables_nor_a_database() {
    let db = TestDb::new().await;
    let place = Place::new(&db, "");
    for args in [["job", "list"], ["queue", "list"], ["instance", "list"], ["tree", "--json"], ["workflow", "list"]] {
        run(&place, &args).refused(4, &["E0311", "schema \"public\" of this database has no tables", "migrate up"]);
    }
    run(&place, &["job", "enqueue", "llm_request", "--args", r#"{"prompt": "x"}"#]).refused(4, &["E0311"]);
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_tables WHERE schemaname IN ('public', 'pgmq')")
        .fetch_one(&db.connect("public").await)
        .await
        .unwrap();
    assert_eq!(tables, 0);
    run(&place, &["migrate", "up"]).done();
    run(&place, &["job", "list"]).done();
    db.execute("DELETE FROM singularity_migrations WHERE version > 10").await;
    run(&place, &["job", "list"]).refused(4, &["E0311", "of an older release: 2 migrations are pending"]);

    let empty = Place::embedded("");
    for args in [["job", "list"], ["migrate", "status"], ["tree", "--json"]] {
        run(&empty, &args).refused(69, &["E0714", "there is no database here", "DATABASE_URL is not set"]);
    }
    let doctor = run(&empty, &["doctor"]);
    assert!(doctor.out.contains("there is no database here"), "{}{}", doctor.out, doctor.err);
    assert!(!empty.path().join(".singularity").exists());
    let blank = empty.command(&["job", "list"]).env("DATABASE_URL", " ").output().unwrap();
    let said = String::from_utf8_lossy(&blank.stderr);
    assert!(blank.status.code() == Some(78) && said.contains("E0710") && said.contains("set to nothing"), "{said}");
}

#[tokio::test]
async fn output_that_cannot_be_written_is_an_error_and_a_closed_pipe_is_none() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, "");
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let ended = place.command(&["job", "list"]).stdout(full).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(1) && said.contains("E0806"), "{said}");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = place.command(&["job", "list"]).stdout(writer).output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
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
async fn doctor_says_where_nothing_can_be_written() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, "");
    let url = db.url().expose_secret().to_owned();
    let writable = |url: &str| {
        let output = place.command(&["doctor", "--json"]).env("DATABASE_URL", url).output().unwrap();
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), check(&document, "writable").clone())
    };
    assert_eq!(writable(&url).1["status"], "ok");
    let separator = if url.contains('?') { '&' } else { '?' };
    let (code, standby) = writable(&format!("{url}{separator}options[default_transaction_read_only]=on"));
    assert_eq!((code, &standby["message"]), (Some(1), &json!("transactions are read-only here")));
    let output = place
        .command(&["job", "enqueue", "llm_request", "--args", r#"{"prompt": "x"}"#])
        .env("DATABASE_URL", format!("{url}{separator}options[default_transaction_read_only]=on"))
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert!(
        said.contains("read-only transaction\n") && said.contains("try: name the server that takes writes"),
        "{said}"
    );

    let role = format!("r_{}", db.name());
    db.execute(format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'p'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};
         GRANT USAGE ON SCHEMA public TO {role}"
    ))
    .await;
    let (code, looker) = writable(db.url_as(&role, "p").expose_secret());
    db.execute(format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}")).await;
    let (message, fix) = (looker["message"].as_str().unwrap(), looker["fix"].as_str().unwrap());
    assert!(code == Some(1) && message.contains("public.instance_registry, ") && fix.contains(&role), "{looker}");
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
    run(&place, &["job", "list"]).refused(69, &["E0222", "not available (\"none\" at 127.0.0.1:1): "]);
    let url = db.url().expose_secret();
    let wrong = url.replace(db.name(), "nosuch");
    place.write("nowhere", &wrong);
    run(&place, &["job", "list"]).refused(69, &["E0223", "refused the connection (\"nosuch\" at "]);
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
    assert!(run(&place, &["--version"]).done().out.starts_with("singularity "));
}

#[tokio::test]
async fn wrong_arguments_are_told_as_every_other_error_is() {
    let db = TestDb::new().await;
    let place = Place::new(&db, "");
    for (args, parts) in [
        (vec!["jbo"], ["error[E0807]: `singularity` has no command \"jbo\"", "try: did you mean \"job\"?"]),
        (vec!["job", "list", "--jsno"], ["error[E0808]: ", "try: did you mean \"--json\"?"]),
        (
            vec!["job", "show"],
            ["error[E0809]: `singularity job show` lacks <ID>", "try: write `singularity job show <ID>`"],
        ),
        (vec!["job"], ["Usage: singularity job", "error[E0809]: `singularity job` lacks a command"]),
        (
            vec!["start", "--role", "x"],
            ["error[E0816]: --role is \"x\"; allowed are both, member, central", "try: see `s"],
        ),
        (vec!["job", "cancel", "1", "--all"], ["error[E0817]: ", "cannot be used with --all"]),
    ] {
        let ended = run(&place, &args);
        ended.refused(2, &parts);
        assert_eq!(ended.out, "");
    }
}
