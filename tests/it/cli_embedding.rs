//! `singularity embedding`, on vectors that a node made without network.

use serde_json::json;
use singularity::queue::{State, Workers};

use crate::cli_support::{enqueue, run};
use crate::support::db::TestDb;
use crate::support::node::{TestNode, reaches};
use crate::support::process::Place;

#[tokio::test]
async fn texts_are_enqueued_listed_and_found() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, "[workflows.embedding]\nmax_attempts = 3\n");
    let refused = run(&place, &["job", "enqueue", "embedding", "--args", r#"{"items": []}"#]);
    refused.refused(2, &["E0651"]);
    assert!(run(&place, &["embedding", "list"]).done().err.contains("no vectors are stored"));
    let node = TestNode::try_start(db.url(), "one", Workers::default(), |config| {
        let shipped = singularity::config::Config::shipped().unwrap();
        (config.providers, config.models) = (shipped.providers, shipped.models);
    })
    .await
    .unwrap();
    for (key, text) in [("a", "how to restart a failed job"), ("b", "mild weather in Lisbon")] {
        let args = json!({"collection": "docs", "key": key, "text": text}).to_string();
        let id = enqueue(&place, &["embedding", "--args", &args]);
        let job = reaches(node.engine(), id, State::Completed).await;
        assert_eq!(job.max_attempts, 3);
    }
    let listed = run(&place, &["embedding", "list", "--json"]).done().document("singularity.embedding_list.v1");
    let expected = json!(["docs", "sim_embedding", 256, 2, true]);
    let row = &listed["collections"][0];
    assert_eq!(json!([row["collection"], row["model"], row["dimensions"], row["vectors"], row["simulated"]]), expected);
    let keys = ["embedding", "list", "--collection", "docs", "--limit", "1", "--json"];
    let keys = run(&place, &keys).done().document("singularity.embedding_keys.v1");
    assert_eq!((&keys["entries"][0]["key"], &keys["next_after"]), (&json!("a"), &json!("a")));
    let found = run(&place, &["embedding", "search", "restart the job", "--limit", "1", "--json"]).done();
    let found = found.document("singularity.embedding_search.v1");
    assert_eq!(
        (&found["matches"][0]["key"], &found["compared"], &found["simulated"]),
        (&json!("a"), &json!(2), &json!(true))
    );
    let people = run(&place, &["embedding", "search", "restart the job"]).done();
    assert!(people.out.contains("how to restart") && people.err.contains("simulated"), "{}{}", people.out, people.err);
    run(&place, &["embedding", "list", "--collection", "dogs"]).refused(3, &["E0850", "there are docs"]);
    run(&place, &["embedding", "search", "x", "--model", "opus"]).refused(2, &["answers with text"]);
    node.shutdown().await;
}
