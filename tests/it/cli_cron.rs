//! `cron list`, and what `config check` says of periodic jobs.

use serde_json::{Value, json};

use crate::cli_support::run;
use crate::support::db::TestDb;
use crate::support::process::{Place, until};

const CONFIG: &str = "[cron.often]\nexpr = \"* * * * * *\"\nworker = \"elsewhere\"\nqueue = \"elsewhere\"\n\
    [cron.nightly]\nexpr = \"30 3 * * *\"\nworker = \"cleanup\"\ntimezone = \"Europe/Berlin\"\ncatch_up = \"last\"\n\
    args = { keep_days = 30 }\n";

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_listed_with_their_next_time_and_their_last_job() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, CONFIG);
    let list = || place.json(&["cron", "list", "--json"]);
    let idle = run(&place, &["cron", "list"]).done();
    assert!(idle.err.contains("no instance is online"), "{}", idle.err);
    let before = list();
    assert_eq!((&before["schema"], &before["leader"]), (&json!("singularity.cron_list.v1"), &Value::Null));
    let (node, _) = place.start(&["--instance-id", "one"]);
    let listed =
        until("a job", || async { Some(list()).filter(|list| list["entries"][1]["last_job_id"].is_i64()) }).await;
    assert_eq!(listed["leader"], "one");
    let (nightly, often) = (&listed["entries"][0], &listed["entries"][1]);
    assert_eq!(
        (&nightly["name"], &nightly["expr"], &nightly["timezone"]),
        (&json!("nightly"), &json!("30 3 * * *"), &json!("Europe/Berlin"))
    );
    assert_eq!(
        (&nightly["worker"], &nightly["queue"], &nightly["catch_up"], &often["queue"]),
        (&json!("cleanup"), &Value::Null, &json!("last"), &json!("elsewhere"))
    );
    assert_eq!((&nightly["last_at"], &nightly["last_job_state"]), (&Value::Null, &Value::Null));
    let next: chrono::DateTime<chrono::Utc> = nightly["next_at"].as_str().unwrap().parse().unwrap();
    assert!(next > chrono::Utc::now() && next < chrono::Utc::now() + chrono::TimeDelta::hours(26), "{next}");
    assert_eq!(often["last_job_state"], "available");
    assert!(often["obstacle"].as_str().unwrap().contains("no online instance knows worker \"elsewhere\""), "{often}");
    let ended = run(&place, &["cron", "list"]).done();
    assert!(ended.err.contains("often: no online instance knows worker"), "{}", ended.err);
    let people = ended.out;
    for part in [
        "nightly",
        "30 3 * * *",
        "Europe/Berlin",
        " CE",
        "03:30:00",
        "cleanup",
        "often",
        "available",
        "last",
        "its worker's",
    ] {
        assert!(people.contains(part), "{part:?} is not in {people}");
    }
    node.signal("TERM");
    node.finish();
    db.execute("DELETE FROM oban_jobs").await;
    place.write("actors.toml", "[cron.nightly]\nexpr = \"@daily\"\nworker = \"cleanup\"\n");
    let said = run(&place, &["cron", "list"]).done();
    assert!(said.err.contains("known from others: often"), "{}", said.err);
}

#[tokio::test]
async fn wrong_entries_are_found_by_config_check() {
    let (db, _) = TestDb::migrated().await;
    let config = "[cron.a]\nexpr = \"61 * * * *\"\nworker = \"w\"\ntimezone = \"Europe/Berln\"\n\
        [cron.b]\nexpr = \"0 0 31 FEB *\"\nworker = \"w\"\nmeta = { cron_name = \"x\" }\n[cron.c]\nworker = \"w\"\n";
    let ended = run(&Place::new(&db, config), &["config", "check"]);
    assert_eq!(ended.code, Some(78), "{}", ended.err);
    for part in [
        "cron.a.expr: minute is \"61\"; allowed is *, 0 to 59",
        "did you mean \"Europe/Berlin\"?",
        "no month of \"FEB\" has a day of \"31\"",
        "\"cron_name\" is one of the keys that say where a job comes from",
        "cron.c: expr is missing",
        "5 problems",
    ] {
        assert!(ended.err.contains(part), "{part:?} is not in {}", ended.err);
    }
}
