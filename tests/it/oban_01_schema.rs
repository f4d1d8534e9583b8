//! Conformance point 1: the schema is Oban's at version 14, and an older one of Oban's is worked on as it is.

use std::time::Duration;

use serde_json::json;
use singularity::postgres::migrate;
use singularity::queue::engine::{Changed, Election, JobFilter};
use singularity::queue::{Engine, NewJob, Replace, ReplaceField, State, Unique};
use uuid::Uuid;

use crate::postgres_migrate::catalog::Catalog;
use crate::postgres_migrate::foreign;
use crate::support::db::TestDb;
use crate::support::rows::{claim, ids, names, state, with};

#[tokio::test]
async fn oban_01_the_schema_is_that_of_version_14_in_public_and_in_another_schema() {
    let db = TestDb::new().await;
    for schema in ["public", "jobs"] {
        let database = db.connect(schema).await;
        migrate::up(&database).await.unwrap();
        Catalog::read(&database).await.assert_is_version_14(schema);
    }
}

/// Hazard 10: its enum has no `suspended`, so no statement may name it.
#[tokio::test]
async fn oban_01_services_work_on_a_database_of_version_13() {
    let db = TestDb::new().await;
    db.execute(foreign::VERSION_13).await;
    let engine = Engine::new(db.connect("public").await);
    let found = migrate::up(engine.db()).await.unwrap().oban_before.unwrap();
    assert!(!found.states.iter().any(|state| state == "suspended"), "{found:?}");

    // The groups of states that unique jobs are compared in have it.
    let unique = Unique { states: Unique::all(), ..Unique::forever() };
    for unique in [Unique::default(), unique, Unique { states: vec![State::Suspended], ..Unique::forever() }] {
        let same =
            || NewJob::new("unique", json!({})).unique(unique.clone()).replace(Replace::always(&[ReplaceField::Tags]));
        let first = engine.insert(same()).await.unwrap();
        let again = engine.insert(same()).await.unwrap();
        let is_compared = unique.states != [State::Suspended];
        assert_eq!((again.conflict, again.id == first.id), (is_compared, is_compared), "{unique:?}");
    }
    assert_eq!(engine.delete_all(&JobFilter::default()).await.unwrap().total(), 3);

    let job = || NewJob::new("w", json!({}));
    let ago = "timezone('UTC', now()) - interval '2 h'";
    let due = with(&engine, job(), &format!("state = 'scheduled', scheduled_at = {ago}")).await;
    let lost = format!("state = 'executing', attempt = 1, attempted_at = {ago}, attempted_by = ARRAY['web@host']");
    let lost = with(&engine, job(), &lost).await;
    let old = with(&engine, job(), &format!("state = 'completed', scheduled_at = {ago}")).await;
    let finished = with(&engine, job(), "state = 'discarded'").await;

    assert_eq!(engine.stage(Some(&names(&["default"])), 10).await.unwrap().jobs, 1);
    assert_eq!(engine.stage(None, 10).await.unwrap().queues, ["default"]);
    let hour = Duration::from_secs(3_600);
    assert_eq!(engine.rescue_by_age(hour).await.unwrap().len(), 1);
    assert!(engine.rescue().await.unwrap().is_empty());
    assert_eq!(engine.prune(hour, 10).await.unwrap().count(), 1);
    assert_eq!(engine.get(old).await.unwrap(), None);
    assert_eq!(engine.retry(finished).await.unwrap(), Changed::Yes(State::Discarded));
    let mut claimed = ids(&claim(&engine, Uuid::now_v7(), 10).await);
    claimed.sort_unstable();
    assert_eq!(claimed, [due, lost, finished]);
    assert_eq!(engine.cancel(due).await.unwrap(), Changed::Yes(State::Executing));
    assert_eq!(state(&engine, due).await, State::Cancelled);
    assert!(engine.foreigners(&[]).await.unwrap().found.is_empty());
    let election = engine.elect("Oban", "one", None, hour).await.unwrap();
    assert!(matches!(election, Election::Won { .. }), "{election:?}");
}
