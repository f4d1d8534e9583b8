//! `singularity queue`: orders to live nodes, what each of them answers, and what is said when one does not.

use serde_json::{Value, json};

use crate::cli_support::{enqueue, run};
use crate::support::db::TestDb;
use crate::support::process::{Place, until};

const CONFIG: &str = "[runtime]\nshutdown_grace = \"30s\"\n\
    [models.sim_opus.simulated]\nlatency = \"60s\"\njitter = 0.0\n\
    [queues.default]\nlimit = 3\n[queues.slow]\nlimit = 2\npaused = true\n[queues.gpu]\nstart = false\n\
    [instances.two.queues.default]\nlimit = 7\n";

/// Instance and one value of its only queue, for each answer.
fn each(document: &Value, field: &str) -> Vec<(String, Value)> {
    let of = |answer: &Value| (answer["instance_id"].as_str().unwrap().to_owned(), answer["queues"][0][field].clone());
    document["instances"].as_array().unwrap().iter().map(of).collect()
}

fn pairs(values: [(&str, Value); 2]) -> Vec<(String, Value)> {
    values.map(|(instance, value)| (instance.to_owned(), value)).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_reach_one_instance_or_all_and_each_says_what_it_has_now() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, CONFIG);
    let (_one, _) = place.start(&["--instance-id", "one"]);
    let (_two, _) = place.start(&["--instance-id", "two"]);
    let show = || run(&place, &["queue", "show", "default", "--json"]).done().document("singularity.queue.v1");
    assert_eq!(each(&show(), "limit"), pairs([("one", json!(3)), ("two", json!(7))]), "each has its own");

    let of_one = run(&place, &["queue", "list", "--instance", "one", "--json"]).done();
    for queue in of_one.document("singularity.queue_list.v1")["queues"].as_array().unwrap() {
        let shares = queue["instances"].as_array().unwrap();
        assert!(shares.iter().all(|share| share["instance_id"] == "one"), "{queue}");
        assert!(queue["queue"] != "default" || shares.len() == 1, "{queue}");
    }
    run(&place, &["queue", "list", "--instance", "three"]).refused(3, &["three"]);

    let scaled = run(&place, &["queue", "scale", "default", "20", "--instance", "one", "--json"]).done();
    let scaled = scaled.document("singularity.queue_order.v1");
    assert_eq!((&scaled["order"], &scaled["queue"]), (&json!("scale"), &json!("default")));
    assert_eq!(scaled["instances"].as_array().unwrap().len(), 1);
    assert_eq!(scaled["instances"][0]["confirmed"], true);
    assert_eq!(each(&show(), "limit"), pairs([("one", json!(20)), ("two", json!(7))]));
    run(&place, &["queue", "scale", "default", "5"]).done();
    assert_eq!(each(&show(), "limit"), pairs([("one", json!(5)), ("two", json!(5))]));

    let paused = run(&place, &["queue", "pause", "default", "--json"]).done().document("singularity.queue_order.v1");
    assert_eq!(each(&paused, "paused"), pairs([("one", json!(true)), ("two", json!(true))]));
    // Others see it without waiting for the next heartbeat.
    until("a heartbeat", || async {
        let queues = run(&place, &["queue", "list", "--json"]).done().document("singularity.queue_list.v1");
        let default = queues["queues"].as_array().unwrap().iter().find(|queue| queue["queue"] == "default")?.clone();
        let shares = default["instances"].as_array().unwrap().clone();
        (shares.len() == 2 && shares.iter().all(|share| share["paused"] == true)).then_some(())
    })
    .await;
    let table = run(&place, &["queue", "resume", "*"]).done().out;
    assert_eq!(table.lines().count(), 5, "two queues on each of two instances: {table}");
    assert!(!table.contains("yes"), "{table}");

    let begun = run(&place, &["queue", "start", "gpu", "--limit", "4", "--instance", "two", "--json"]).done();
    let begun = begun.document("singularity.queue_order.v1");
    assert_eq!(begun["instances"][0]["queues"][0]["limit"], 4);
    let table = run(&place, &["queue", "show", "gpu"]).done().out;
    assert!(table.contains("one") && table.contains("not here"), "{table}");
    let again = run(&place, &["queue", "start", "gpu", "--limit", "9", "--instance", "two"]).done();
    assert!(again.err.contains("not changed by a start"), "{}", again.err);
    run(&place, &["queue", "stop", "gpu"]).done();
    until("an end", || async {
        let gone = run(&place, &["queue", "show", "gpu", "--json"]).done().document("singularity.queue.v1");
        each(&gone, "limit").iter().all(|(_, limit)| limit.is_null()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_queue_is_shown_with_the_jobs_that_still_run() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, CONFIG);
    let (_one, _) = place.start(&["--instance-id", "one"]);
    let args = json!({"prompt": "hello", "model": "sim_opus", "id": "q1"}).to_string();
    let id = enqueue(&place, &["llm_request", "--args", &args]);
    until("the job runs", || async {
        let shown = run(&place, &["queue", "show", "default", "--json"]).done().document("singularity.queue.v1");
        (shown["instances"][0]["queues"][0]["running"] == json!([id])).then_some(())
    })
    .await;
    let stopped = run(&place, &["queue", "stop", "default"]).done();
    assert!(stopped.out.contains("stopping") && stopped.err.contains("1 jobs still run"), "{stopped:?}");
    let shown = run(&place, &["queue", "show", "default"]).done().out;
    assert!(shown.contains("1 executing") && shown.contains(&format!("running on one: {id}")), "{shown}");
    let tree = run(&place, &["tree"]).done().out;
    assert!(tree.lines().any(|line| line.contains("running 1/3") && line.contains("stopping yes")), "{tree}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_ordered_is_refused_and_who_does_not_confirm_is_named() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, CONFIG);
    run(&place, &["queue", "pause", "default"]).refused(3, &["E0825", "no instance is online"]);
    let (_one, _) = place.start(&["--instance-id", "one"]);
    let (two, _) = place.start(&["--instance-id", "two"]);
    run(&place, &["queue", "scale", "defualt", "5"]).refused(3, &["E0835", "did you mean \"default\"?"]);
    run(&place, &["queue", "scale", "default", "0"]).refused(2, &["E0401", "limit", "1 to 10000"]);
    run(&place, &["queue", "scale", "*", "5"]).refused(2, &["E0401", "only pause and resume"]);
    run(&place, &["queue", "start", "a/b"]).refused(2, &["E0401"]);
    run(&place, &["queue", "pause", "default", "--instance", "tow"]).refused(3, &["did you mean \"two\"?"]);

    // An order that is sent before an instance listens is lost to it.
    until("both to hear", || async {
        (run(&place, &["queue", "scale", "default", "8"]).code == Some(0)).then_some(())
    })
    .await;
    two.signal("STOP");
    let ended = run(&place, &["queue", "scale", "default", "9", "--timeout", "500ms", "--json"]);
    two.signal("CONT");
    ended.refused(5, &["E0836", "not confirmed by two", "did not answer"]);
    let answers = ended.document("singularity.queue_order.v1");
    let confirmed: Vec<&Value> = answers["instances"].as_array().unwrap().iter().map(|one| &one["confirmed"]).collect();
    assert_eq!(confirmed, [true, false]);
    // The signal finds it as soon as it runs again.
    until("the late one", || async {
        let shown = run(&place, &["queue", "show", "default", "--json"]).done().document("singularity.queue.v1");
        (each(&shown, "limit") == pairs([("one", json!(9)), ("two", json!(9))])).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_shown_with_author_and_reason_and_ends_when_it_is_forgotten() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, CONFIG);
    let limits = || {
        let shown = run(&place, &["queue", "show", "default", "--json"]).done().document("singularity.queue.v1");
        each(&shown, "limit")
    };
    // For one that is not there yet, too.
    let said = run(&place, &["queue", "scale", "default", "4", "--keep", "--instance", "one"]).done();
    assert!(said.err.contains("holds from their next start"), "{said:?}");
    let (one, _) = place.start(&["--instance-id", "one"]);
    assert_eq!(limits(), [("one".to_owned(), json!(4))]);
    let args = ["queue", "scale", "default", "9", "--keep", "--reason", "sale", "--for", "2h"];
    assert!(run(&place, &args).done().out.contains(" 9 "));
    let shown = run(&place, &["queue", "show", "default", "--json"]).done().document("singularity.queue.v1");
    let kept = shown["kept"].as_array().unwrap();
    assert_eq!(kept.len(), 1, "it takes the place of that of one instance: {kept:?}");
    assert_eq!(
        (&kept[0]["value"], &kept[0]["scope"], &kept[0]["reason"]),
        (&json!(9), &json!("fleet"), &json!("sale"))
    );
    let people = run(&place, &["queue", "show", "default"]).done().out;
    let line = people.lines().find(|line| line.starts_with("kept for all: limit = 9, by ")).expect(&people).to_owned();
    assert!(line.contains("ends in 1h 59m") && line.ends_with(": sale"), "{line}");

    one.signal("TERM");
    one.finish();
    let (_one, _) = place.start(&["--instance-id", "one"]);
    assert_eq!(limits(), [("one".to_owned(), json!(9))]);
    let forgotten = run(&place, &["queue", "forget", "default", "--json"]).done();
    let forgotten = forgotten.document("singularity.queue_forget.v1");
    assert_eq!((&forgotten["forgotten"], each(&forgotten, "limit")), (&json!(1), vec![("one".into(), json!(3))]));
    run(&place, &["queue", "forget", "default"]).refused(3, &["E0838"]);

    // All queues together.
    run(&place, &["queue", "pause", "*", "--keep"]).done();
    let people = run(&place, &["queue", "show", "default"]).done().out;
    assert!(people.contains("kept for all: paused of all queues = true, by "), "{people}");
    let forgotten = run(&place, &["queue", "forget", "*", "--json"]).done().document("singularity.queue_forget.v1");
    let paused: Vec<&Value> =
        forgotten["instances"][0]["queues"].as_array().unwrap().iter().map(|queue| &queue["paused"]).collect();
    assert_eq!((&forgotten["forgotten"], paused), (&json!(1), vec![&json!(false), &json!(true)]), "as configured");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_tells_who_ordered_it_and_why_wherever_it_is_seen() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, CONFIG);
    let (_one, _) = place.start(&["--instance-id", "one"]);
    let (_two, _) = place.start(&["--instance-id", "two"]);
    let show = || run(&place, &["queue", "show", "default", "--json"]).done().document("singularity.queue.v1");
    let whys = |document: &Value| -> Vec<Value> {
        each(document, "pause").into_iter().map(|(_, pause)| pause["why"].clone()).collect()
    };
    let paused = run(&place, &["queue", "pause", "default", "--reason", "the vendor is down", "--json"]).done();
    assert_eq!(whys(&paused.document("singularity.queue_order.v1")), ["the vendor is down"; 2]);
    // The signal that every Oban node hears says nothing of it, whenever it arrives.
    db.execute(r#"SELECT pg_notify('public.oban_signal', '{"action":"pause","queue":"default","ident":"any"}')"#).await;
    db.execute(r#"SELECT pg_notify('public.oban_signal', '{"action":"pause","queue":"slow","ident":"any"}')"#).await;
    let line =
        |out: &str| out.lines().find(|line| line.starts_with("default is paused on one, two by ")).map(str::to_owned);
    let people = run(&place, &["queue", "show", "default"]).done().out;
    let told = line(&people).expect(&people);
    assert!(told.contains("process ") && told.ends_with(" ago: the vendor is down"), "{told}");
    until("the list", || async { line(&run(&place, &["queue", "list"]).done().out) }).await;
    let event = |order: &str| {
        let events = run(&place, &["tree", "events"]).done().out;
        let of = |line: &&str| line.contains("/queues/default") && line.contains(&format!("{order} by "));
        events.lines().filter(of).map(str::to_owned).collect::<Vec<_>>()
    };
    let kept = until("the history", || async { Some(event("pause")).filter(|events| events.len() == 2) }).await;
    assert!(kept.iter().all(|line| line.ends_with(": the vendor is down")), "{kept:?}");

    run(&place, &["queue", "resume", "default"]).done();
    assert_eq!(each(&show(), "pause"), pairs([("one", Value::Null), ("two", Value::Null)]));
    until("the end of it", || async { Some(event("resume")).filter(|events| events.len() == 2) }).await;
    // A bare signal is a pause of which nobody knows more.
    db.execute(r#"SELECT pg_notify('public.oban_signal', '{"action":"pause","queue":"default","ident":"any"}')"#).await;
    until("the signal", || async {
        (each(&show(), "paused") == pairs([("one", json!(true)), ("two", json!(true))])).then_some(())
    })
    .await;
    assert_eq!(each(&show(), "pause"), pairs([("one", Value::Null), ("two", Value::Null)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_a_kept_setting_will_undo_says_so() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, CONFIG);
    let (_one, _) = place.start(&["--instance-id", "one"]);
    let said = |args: &[&str]| run(&place, &[&["queue"], args].concat()).done().err;
    let kept = said(&["pause", "default", "--keep", "--reason", "sale"]);
    assert_eq!(kept, "");
    let list = run(&place, &["queue", "list"]).done().out;
    assert!(list.lines().any(|line| line.starts_with("default kept for all: paused = true, by ")), "{list}");
    let resumed = said(&["resume", "default"]);
    for part in
        ["comes back when an instance starts: kept for all: paused = true, by ", "sale", "queue forget 'default'"]
    {
        assert!(resumed.contains(part), "{part:?} is not in {resumed}");
    }
    assert!(said(&["resume", "*"]).contains("comes back"), "it is one of all");
    assert_eq!(said(&["resume", "slow"]), "");
    assert_eq!(said(&["scale", "default", "4"]), "", "no limit is kept");
    assert_eq!(said(&["resume", "default", "--keep"]), "");
    assert_eq!(said(&["resume", "default"]), "");
    assert!(said(&["pause", "default"]).contains("paused = false"));
}
