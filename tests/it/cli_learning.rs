//! `singularity routing`, `learning`, `cost`, `pattern`: what people see of what was learned, and what they order.

use serde_json::{Value, json};
use singularity::postgres::Database;

use crate::cli_support::{enqueue, run};
use crate::cloud_down::{publish, publish_rule};
use crate::support::db::TestDb;
use crate::support::process::{Place, until};

const CONFIG: &str = "[cloud]\nsync_interval = \"200ms\"\n\
    [models.sim_opus.simulated]\nlatency = \"1ms\"\n[models.sim_sonnet.simulated]\nlatency = \"1ms\"\n\
    [models.sim_flash.simulated]\nlatency = \"1ms\"\n";

/// Enqueues a complex request and waits for its result.
async fn ask(place: &Place, database: &Database, prompt: &str) -> (i64, Value) {
    let args = json!({ "prompt": prompt, "complexity": "complex" }).to_string();
    let id = enqueue(place, &["llm_request", "--args", &args]);
    let result = until("a result", || async {
        sqlx::query_scalar("SELECT to_jsonb(r) FROM job_results r WHERE job_id = $1 AND success")
            .bind(id)
            .fetch_optional(database.pool())
            .await
            .unwrap()
    })
    .await;
    (id, result)
}

/// Waits until all of `instances` have followed the log to `learning`.
async fn followed(place: &Place, instances: usize, learning: i64) -> Value {
    until("the log", || async {
        let shown = run(place, &["routing", "show", "--json"]).done().document("singularity.routing.v1");
        let answers = shown["instances"].as_array().unwrap();
        let all = answers.len() == instances && answers.iter().all(|one| one["holds"]["cursor"] == learning);
        all.then_some(shown)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_by_the_rule_and_explains_itself_and_pins_and_switches_beat_it() {
    let (db, database) = TestDb::migrated().await;
    let place = Place::new(&db, CONFIG);
    let (_one, _) = place.start(&["--instance-id", "one"]);
    let (id, first) = ask(&place, &database, "before").await;
    assert_eq!((&first["model_used"], &first["route"]), (&json!("sim_opus"), &json!("complex")));
    assert_eq!((&first["policy_version"], first["propensity"].as_f64()), (&Value::Null, Some(1.0)));
    let told = run(&place, &["routing", "explain", &id.to_string()]).done().out;
    assert!(told.contains("no rule held"), "{told}");

    publish_rule(&database, "complex", 0.5).await;
    followed(&place, 1, 1).await;
    let mut seen = std::collections::BTreeMap::<String, i64>::new();
    for step in 0..12 {
        let (id, result) = ask(&place, &database, &format!("question {step}")).await;
        assert_eq!((&result["policy_version"], &result["propensity"]), (&json!(1), &json!(0.5)));
        let model = result["model_used"].as_str().unwrap().to_owned();
        let told = run(&place, &["routing", "explain", &id.to_string(), "--json"]).done();
        let told = told.document("singularity.routing_explain.v1");
        assert_eq!((&told["choice"]["model"], &told["choice"]["basis"]["draw"]), (&json!(model), &told["draw"]));
        assert_eq!(told["learning"]["evidence"], json!({ "n": 100 }));
        seen.insert(model, id);
    }
    // 1 of 2,048 runs would have one model alone; the draws come from the jobs' numbers, so it is this run or none.
    let id = seen["sim_flash"];
    let told = run(&place, &["routing", "explain", &id.to_string()]).done().out;
    for part in ["rule of learning 1", "sim_flash 50.0% → 50.0%", "the same again", "probability 50.0%", "evidence n"]
    {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }

    let pinned = ["routing", "pin", "complex", "sim_sonnet", "--reason", "audit", "--for", "1h"];
    let table = run(&place, &pinned).done().out;
    assert!(table.lines().any(|line| line.contains("sim_sonnet") && line.contains("100.0%")), "{table}");
    for step in 0..5 {
        let (_, result) = ask(&place, &database, &format!("pinned {step}")).await;
        assert_eq!((&result["model_used"], &result["policy_version"]), (&json!("sim_sonnet"), &Value::Null));
    }
    let shown = run(&place, &["routing", "show"]).done().out;
    for part in ["policy of learning 1", "pinned", "routing.pin.complex = \"sim_sonnet\" for all", ": audit", "ends in"]
    {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
    run(&place, &["routing", "off", "sim_sonnet"]).done();
    run(&place, &["routing", "off", "sim_flash"]).done();
    for step in 0..5 {
        let (_, result) = ask(&place, &database, &format!("off {step}")).await;
        assert_eq!((&result["model_used"], result["propensity"].as_f64()), (&json!("sim_opus"), Some(1.0)));
    }
    run(&place, &["routing", "on", "sim_sonnet"]).done();
    run(&place, &["routing", "on", "sim_flash"]).done();
    run(&place, &["routing", "unpin", "complex"]).done();
    run(&place, &["routing", "learning", "off"]).done();
    let (_, result) = ask(&place, &database, "reference").await;
    assert_eq!((&result["model_used"], &result["policy_version"]), (&json!("sim_opus"), &Value::Null));

    run(&place, &["routing", "unpin", "complex"]).refused(3, &["E0862"]);
    run(&place, &["routing", "pin", "complexx", "sim_opus"]).refused(3, &["E0860", "did you mean \"complex\"?"]);
    run(&place, &["routing", "pin", "complex", "sim_embedding"]).refused(2, &["E0614", "answers with vectors"]);
    run(&place, &["routing", "off", "sim_opos"]).refused(3, &["E0861", "did you mean \"sim_opus\"?"]);
    run(&place, &["routing", "explain", "999999"]).refused(3, &["E0821"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proposed_learning_waits_for_a_person_whose_word_holds_for_all() {
    let (db, database) = TestDb::migrated().await;
    let place = Place::new(&db, CONFIG);
    let propose = Place::new(&db, &CONFIG.replace("[cloud]\n", "[cloud]\napply = \"propose\"\n"));
    let (_careful, _) = propose.start(&["--instance-id", "careful"]);
    let (_bold, _) = place.start(&["--instance-id", "bold"]);
    publish_rule(&database, "complex", 0.5).await;
    publish_rule(&database, "complex", 0.7).await;
    followed(&place, 2, 2).await;
    let weights = || {
        let shown = run(&place, &["routing", "show", "--json"]).done().document("singularity.routing.v1");
        let learning = |one: &Value| {
            let line =
                one["holds"]["table"].as_array().unwrap().iter().find(|line| line["cell"] == "llm_request/complex");
            line.unwrap()["learning"].clone()
        };
        let answers = shown["instances"].as_array().unwrap();
        let of = |id: &str| learning(answers.iter().find(|one| one["instance_id"] == id).unwrap());
        (of("careful"), of("bold"))
    };
    assert_eq!(weights(), (Value::Null, json!(2)));
    let listed = run(&place, &["learning", "list"]).done().out;
    assert!(listed.contains("1 applied, 1 proposed"), "{listed}");

    run(&place, &["learning", "apply", "2", "--reason", "looks good"]).done();
    assert_eq!(weights(), (json!(2), json!(2)));
    // A policy older than its own is refused.
    run(&place, &["learning", "apply", "1"]).refused(4, &["E0866", "2 is about the same"]);
    assert_eq!(weights(), (json!(2), json!(2)));
    run(&place, &["learning", "reject", "2", "--reason", "too early"]).done();
    assert_eq!(weights(), (json!(1), json!(1)), "what it had replaced holds again");
    // Also for those that join later.
    let (_late, _) = place.start(&["--instance-id", "late"]);
    followed(&place, 3, 2).await;
    let shown = run(&place, &["learning", "show", "2"]).done().out;
    assert_eq!(shown.matches("rejected").count(), 3, "{shown}");
    assert!(shown.contains("too early") && shown.contains("evidence n"), "{shown}");

    publish(&database, "prompt_advice", "x", json!({}), None).await;
    followed(&place, 3, 3).await;
    run(&place, &["learning", "apply", "3"]).refused(4, &["E0865", "E1102"]);
    run(&place, &["learning", "show", "17"]).refused(3, &["E0864"]);
    run(&place, &["instance", "forget", "late"]).refused(4, &["E0702", "stop it first"]);
    run(&place, &["instance", "forget", "later"]).refused(3, &["E0703"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn costs_are_exact_sums_and_what_is_unknown_is_counted_apart() {
    let (db, database) = TestDb::migrated().await;
    let place = Place::new(&db, CONFIG);
    sqlx::query(
        "INSERT INTO job_results (job_id, attempt, instance_id, job_type, workflow_type, success, duration_ms, cost_nanousd,
           model_used, tokens_input, tokens_output, completed_at)
         SELECT n, 1, 'i' || n % 2, 'llm_request', 'LlmRequest', n % 4 <> 0, 10, 9007199254740993, 'big', n, 1, now()
         FROM generate_series(1, 4) AS n
         UNION ALL VALUES (5, 1, 'i1', 'embedding', 'Embedding', true, 10, NULL::bigint, 'free', 1, NULL::bigint, now()),
           (6, 1, 'i1', 'embedding', 'Embedding', true, 10, 5, 'big', 1, 1, now() - interval '2 days')",
    )
    .execute(database.pool())
    .await
    .unwrap();
    let summary = |args: &[&str]| {
        let args = [&["cost", "summary", "--json"], args].concat();
        run(&place, &args).done().document("singularity.cost_summary.v1")
    };
    let by_model = summary(&["--since", "1d"]);
    let groups = by_model["groups"].as_array().unwrap();
    assert_eq!((&groups[0]["name"], &groups[0]["cost_nanousd"]), (&json!("big"), &json!(36_028_797_018_963_972_u64)));
    assert_eq!(groups[0]["cost_per_success_nanousd"], json!(12_009_599_006_321_324_u64));
    assert_eq!((&groups[1]["unpriced"], &groups[1]["cost_per_success_nanousd"]), (&json!(1), &Value::Null));
    assert_eq!((&by_model["total"]["jobs"], &by_model["total"]["attempts"]), (&json!(5), &json!(5)));
    let everything = summary(&["--by", "workflow"]);
    assert_eq!(everything["total"]["cost_nanousd"], json!(36_028_797_018_963_977_u64));
    assert_eq!(summary(&["--by", "instance"])["groups"].as_array().unwrap().len(), 2);
    assert_eq!(summary(&["--by", "queue"])["groups"][0]["name"], Value::Null, "those jobs are not kept");
    let table = run(&place, &["cost", "summary", "--since", "1d"]).done();
    assert!(table.out.contains("$36028797.018964"), "{}", table.out);
    assert!(table.err.contains("1 attempts of unknown cost"), "{}", table.err);

    sqlx::query(
        "INSERT INTO pattern_library (name, definition, source) VALUES ('a>b', '{\"steps\": [\"a\", \"b\"]}', 'jobs')",
    )
    .execute(database.pool())
    .await
    .unwrap();
    let listed = run(&place, &["pattern", "list", "--json"]).done().document("singularity.pattern_list.v1");
    assert_eq!(listed["patterns"][0]["name"], "a>b");
    run(&place, &["pattern", "show", "a>c"]).refused(3, &["E0867"]);
    assert!(run(&place, &["pattern", "show", "a>b"]).done().out.contains("\"steps\""));
}
