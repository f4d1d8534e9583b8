//! `config check`: what a node, or each of its jobs, would be refused for later.

use serde_json::{Value, json};

use crate::cli_support::{Ended, run};
use crate::support::db::TestDb;
use crate::support::process::{Place, text};

const CHECK: &str = "singularity.config_check.v1";

fn with(place: &Place, name: &str, value: &str, args: &[&str]) -> Ended {
    let output = place.command(args).env(name, value).output().unwrap();
    Ended { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

#[test]
fn arguments_of_periodic_jobs_are_those_that_enqueue_takes() {
    let place = Place::embedded(
        "[queues.mail]\nlimit = 1\n\
         [cron.good]\nexpr = \"0 3 * * *\"\nworker = \"llm_request\"\nargs = { prompt = \"x\" }\n\
         [cron.bad]\nexpr = \"0 3 * * *\"\nworker = \"llm_request\"\nargs = { promt = \"x\" }\n\
         [cron.none]\nexpr = \"0 3 * * *\"\nworker = \"embedding\"\n\
         [cron.near]\nexpr = \"0 3 * * *\"\nworker = \"llm_reqest\"\nqueue = \"mial\"\n\
         [cron.others]\nexpr = \"0 3 * * *\"\nworker = \"Elixir.Mailer\"\nqueue = \"elsewhere\"\n\
         [workflows.llm_request]\nqueue = \"mail\"\n[workflows.embedding]\nqueue = \"mail\"\n\
         [workflows.agent_coordination]\nqueue = \"mail\"\n[workflows.agent_task]\nqueue = \"mail\"\n",
    );
    let refused = run(&place, &["job", "enqueue", "llm_request", "--args", r#"{"promt": "x"}"#, "--dry-run"]);
    let told = refused.err.lines().next().unwrap().split_once(": ").unwrap().1;
    let ended = run(&place, &["config", "check"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(78), ""), "{}", ended.err);
    for part in [
        &*format!("error[E0601]: cron.bad.args: {told}\n  at ./actors.toml:10\n  try: use the fields prompt"),
        "error[E0651]: cron.none.args: ",
        "actors.toml:13",
        "warning: cron.near.worker: ",
        "did you mean \"llm_request\"?",
        "warning: cron.near.queue: ",
        "did you mean \"mail\"?",
        "2 problems in the configuration",
    ] {
        assert!(ended.err.contains(part), "{part:?} is not in {}", ended.err);
    }
    assert!(!ended.err.contains("cron.good") && !ended.err.contains("cron.others"), "{}", ended.err);

    let ended = run(&place, &["config", "check", "--json"]);
    assert_eq!(ended.code, Some(78));
    let document = ended.document(CHECK);
    let bad = &document["problems"][0];
    assert_eq!((&document["ok"], &bad["code"], &bad["key"]), (&json!(false), &json!("E0601"), &json!("cron.bad.args")));
    assert_eq!(bad["origin"]["line"], 10);
    assert_eq!(document["warnings"].as_array().map(Vec::len), Some(2), "{document}");
}

#[test]
fn a_configuration_that_is_valid_or_cannot_be_loaded_is_told_as_json_too() {
    let place = Place::embedded("");
    let valid = run(&place, &["config", "check", "--json"]).done().document(CHECK);
    assert_eq!((&valid["ok"], &valid["problems"], &valid["warnings"]), (&json!(true), &json!([]), &json!([])));
    assert!(valid["path"].as_str().is_some_and(|path| path.ends_with("actors.toml")), "{valid}");

    let place = Place::embedded("[queues.default]\nlimt = 5\n");
    let ended = run(&place, &["config", "check", "--json"]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(78), ""));
    let document = ended.document(CHECK);
    let problem = &document["problems"][0];
    assert_eq!((&document["ok"], &document["path"]), (&json!(false), &Value::Null));
    assert_eq!((&problem["code"], &problem["key"]), (&json!("E0101"), &json!("queues.default.limt")));
    assert_eq!(problem["suggestion"], "did you mean \"limit\"?");
}

#[tokio::test]
async fn what_the_environment_says_wrongly_is_found_before_a_node_is_started() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, "");
    let (wrong, right) = ("SINGULARITY_QUEUES_DEFAULT_LIMIT", "SINGULARITY__QUEUES__DEFAULT__LIMIT");
    let ended = with(&place, wrong, "3", &["config", "check"]).done();
    assert!(
        ended.err.contains(&format!("at environment variable {wrong}\n  try: did you mean {right}?")),
        "{}",
        ended.err
    );
    let document = with(&place, wrong, "3", &["config", "check", "--json"]).done().document(CHECK);
    assert_eq!(document["warnings"][0]["origin"], json!({"layer": "environment", "name": wrong}));
    let doctor = with(&place, wrong, "3", &["doctor"]).done().out;
    assert!(doctor.lines().any(|line| line.starts_with("WARN  configuration") && line.contains(wrong)), "{doctor}");
    let started = with(&place, wrong, "3", &["start", "--until-stdin-closes"]).done();
    assert!(started.err.contains(right), "{}", started.err);
    assert_eq!(with(&place, right, "3", &["config", "check"]).done().err, "");

    let ended = with(&place, "INSTANCE_ID", "a b", &["config", "check"]);
    assert_eq!(ended.code, Some(78));
    for part in ["error[E0701]: instance id \"a b\"", "at environment variable INSTANCE_ID\n  try: ", "1 problem in"] {
        assert!(ended.err.contains(part), "{part:?} is not in {}", ended.err);
    }
}
