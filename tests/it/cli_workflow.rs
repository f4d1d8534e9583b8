//! `singularity workflow`: running one, and looking at runs step by step.

use serde_json::{Value, json};
use singularity::queue::{NewJob, Workers};
use singularity::workflow::{Child, StepError, Store, Workflow, WorkflowWorker};

use crate::cli_support::run;
use crate::support::db::TestDb;
use crate::support::node::{Fixture, TestNode, workers};
use crate::support::process::Place;

/// A fan-out with costs, a child, and a last step that may refuse.
fn workers_of(store: &Store, fixture: &Fixture) -> Workers {
    let definition = Workflow::<Value>::builder("letters")
        .step("read", |args: Value, _| async move {
            Ok(args["words"].as_array().into_iter().flatten().map(|word| word.to_string()).collect::<Vec<_>>())
        })
        .each("count", |word: String, _| async move { Ok::<usize, StepError>(word.len() - 2) })
        .jobs("child", |counts: Vec<usize>| {
            let value = json!({"do": "record", "value": counts});
            Ok(vec![NewJob::new(crate::support::node::FIXTURE, value)])
        })
        .step("add", |children: Vec<Child>, _| async move {
            let counts: Vec<u64> = children[0].output()?;
            if counts.contains(&0) {
                return Err(StepError::new(singularity::queue::Outcome::Cancelled("a word is empty".into())));
            }
            Ok(json!({ "letters": counts.iter().sum::<u64>() }))
        })
        .build()
        .unwrap();
    let mut all = workers(fixture);
    all.register_executable(WorkflowWorker::new(definition, store.clone()));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_waited_for_and_shown_with_steps_costs_errors_and_children() {
    let (db, database) = TestDb::migrated().await;
    let (place, fixture) = (Place::new(&db, ""), Fixture::new());
    let store = Store::new(database);
    let node = TestNode::try_start(db.url(), "one", workers_of(&store, &fixture), |_| {}).await.unwrap();

    let words = r#"{"words": ["to", "be", "or"]}"#;
    let document = run(&place, &["workflow", "run", "letters", words, "--timeout", "30s", "--json"]).done();
    let known = document.document("singularity.workflow.v1");
    assert_eq!((&known["run"]["state"], &known["job"]["state"]), (&json!("completed"), &json!("completed")));
    assert_eq!(known["result"]["result"], json!({"letters": 6}));
    let (id, run_id) = (known["job"]["id"].as_i64().unwrap(), known["run"]["id"].as_str().unwrap().to_owned());
    // What stands in the tables for people, by job and by run.
    for which in [id.to_string(), run_id] {
        let shown = run(&place, &["workflow", "show", &which]).done().out;
        for part in ["letters completed", "count[1]", "1.1", "child", "fixture", "add", "completed"] {
            assert!(shown.contains(part), "{part:?} is not in {shown}");
        }
    }
    // From a file, and one that fails: what was done is shown all the same.
    place.write("words.json", r#"{"words": ["to", ""]}"#);
    let failed = run(&place, &["workflow", "run", "letters", "--file", "words.json", "--timeout", "30s"]);
    failed.refused(1, &["E0823", "was cancelled: a word is empty"]);
    assert!(failed.out.contains("letters failed") && failed.out.contains("error") && failed.out.contains("count[0]"));

    let of = |args: &[&str]| run(&place, &[&["workflow", "list", "--json"], args].concat()).done();
    let jobs = |args: &[&str]| -> Vec<i64> {
        let listed = of(args).document("singularity.workflow_list.v1");
        listed["runs"].as_array().unwrap().iter().map(|run| run["job_id"].as_i64().unwrap()).collect()
    };
    let all = jobs(&[]);
    assert!(all.len() == 2 && all[1] == id, "{all:?}");
    assert_eq!(jobs(&["--state", "completed"]), [id]);
    assert_eq!(jobs(&["--state", "failed,completed", "--workflow", "letters", "--limit", "1"]), all[..1]);
    assert_eq!(jobs(&["--workflow", "llm_request"]), [0; 0]);
    // What its job tries again has not failed for good.
    let again = "UPDATE oban_jobs SET state = 'retryable', scheduled_at = timezone('UTC', now()) + interval '1 hour'";
    db.execute(format!("{again} WHERE id = {}", all[0])).await;
    assert_eq!((jobs(&["--state", "failed"]), jobs(&["--state", "retrying"])), (vec![], all[..1].to_vec()));
    let shown = run(&place, &["workflow", "show", &all[0].to_string()]).done().out;
    assert!(shown.contains("letters retrying") && !shown.contains("\ntook "), "{shown}");
    db.execute(format!("UPDATE oban_jobs SET state = 'cancelled' WHERE id = {}", all[0])).await;
    assert_eq!(jobs(&["--state", "failed"]), all[..1]);
    // A job that ends from outside takes its run with it, for those who look.
    let runs_on = format!("UPDATE workflow_runs SET state = 'running', finished_at = NULL WHERE job_id = {}", all[0]);
    db.execute(runs_on).await;
    assert_eq!(jobs(&["--state", "running"]), [0; 0]);
    assert_eq!(jobs(&["--state", "cancelled"]), all[..1]);
    let shown = run(&place, &["workflow", "show", &all[0].to_string()]).done().out;
    assert!(shown.contains("letters cancelled"), "{shown}");
    let table = run(&place, &["workflow", "list"]).done().out;
    assert!(table.contains("a word is empty") && table.contains("cancelled"), "{table}");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_run_or_shown_is_refused_with_what_to_try() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, "");
    run(&place, &["workflow", "run", "letters", "[1]"]).refused(2, &["E0820", "ARGS is [1]; it must be a JSON object"]);
    run(&place, &["workflow", "run", "letters", "--file", "none.json"]).refused(2, &["E0829", "none.json cannot be"]);
    run(&place, &["workflow", "run", "llm_request", "{}"]).refused(2, &["E0602"]);
    run(&place, &["workflow", "show", "17"]).refused(3, &["E0830", "job 17 has no run of a workflow"]);
    let id = uuid::Uuid::now_v7().to_string();
    run(&place, &["workflow", "show", &id]).refused(3, &["E0830", "there is no run"]);
    let strange = run(&place, &["workflow", "show", "x"]);
    assert!(strange.code == Some(2) && strange.err.contains("the number of a job"), "{}", strange.err);
    // A name that nobody knows ends at once, unless somebody says that its instance starts later.
    let nobody = ["E0839", "nobody knows worker \"leters\"", "known are agent_coordination", "--later"];
    run(&place, &["workflow", "run", "leters"]).refused(3, &nobody);
    let near = run(&place, &["workflow", "run", "llm_requets", "{}"]);
    near.refused(3, &["E0839", "did you mean \"llm_request\"?"]);
    let waited = run(&place, &["workflow", "run", "letters", "--timeout", "1ms", "--later"]);
    waited.refused(5, &["E0824", "is available", "no instance is online"]);
    let none = run(&place, &["workflow", "list"]).done();
    assert_eq!((none.out.as_str(), none.err.contains("no run fits")), ("", true));
}
