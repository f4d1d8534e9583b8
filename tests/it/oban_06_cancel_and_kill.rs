//! Point 6 of the conformance suite: cancelling in each state, by us and in the ways of Oban for Elixir and for Python,
//! and the end of a job that runs.

use serde_json::{Value, json};
use singularity::config::{Config, Period, Queue};
use singularity::queue::engine::Changed;
use singularity::queue::{NewJob, State};

use crate::support::db::TestDb;
use crate::support::heard::Heard;
use crate::support::node::{Fixture, TestNode, until};
use crate::support::rows::{row, set_columns, with};

/// Base64 of gzip of `{"action":"pkill","job_id":1}`, which is how Oban for Python sends every notice.
const PKILL_1_PYTHON: &str = "H4sIAAAAAAACA6tWSkwuyczPU7JSKsjOzMlR0lHKyk+Kz0xRsjKsBQAxNptdHQAAAA==";

/// What a worker that was killed leaves in `errors`, in Oban's words.
const KILLED: &str = "** (Oban.PerformError) fixture failed with {:cancel, :shutdown}";

fn by_notice(config: &mut Config) {
    let queue = Queue { poll_interval: Period::from_secs(600), ..Queue::default() };
    config.queues.insert("default".into(), queue);
}

async fn send(node: &TestNode, payload: &str) {
    let database = node.engine().db();
    sqlx::query("SELECT pg_notify($1, $2)")
        .bind(database.channel("signal"))
        .bind(payload)
        .execute(database.pool())
        .await
        .unwrap();
}

#[tokio::test]
async fn oban_06_cancel_in_each_state_and_only_what_runs_is_killed() {
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, by_notice).await;
    let mut heard = Heard::on(node.engine().db(), &["signal"]).await;
    for state in State::ALL {
        // A queue that nobody works on, and a time that no leader meets.
        let job = NewJob::new("w", json!({})).queue("elsewhere");
        let set = format!("state = '{state}', attempt = 1, scheduled_at = scheduled_at + interval '1 hour'");
        let id = with(node.engine(), job, &set).await;
        let before = row(node.engine().db(), id).await;
        let changed = node.engine().cancel(id).await.unwrap();
        let after = row(node.engine().db(), id).await;
        if state.is_terminal() {
            assert_eq!((changed, &after), (Changed::No(state), &before), "{state}");
        } else {
            assert_eq!((changed, &after["state"]), (Changed::Yes(state), &json!("cancelled")), "{state}");
            assert!(after["cancelled_at"].is_string());
            assert_eq!(after["errors"], json!([]), "whoever cancels adds no error");
        }
        let kill = ("signal".to_owned(), json!({"action": "pkill", "job_id": id}));
        let wanted = if state == State::Executing { vec![kill] } else { vec![] };
        assert_eq!(heard.all().await, wanted, "{state}");
    }
}

/// Oban for Elixir cancels the row and then tells its runner; what the runner writes comes too late.
#[tokio::test]
async fn oban_06_a_kill_in_the_way_of_elixir_stops_the_job_and_leaves_the_row() {
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, by_notice).await;
    let other = node.insert(json!({"do": "hold"})).await;
    fixture.started(other).await;
    for (what, payload) in [
        ("hang", r#"{"action":"pkill","job_id":ID}"#),
        ("heed", r#"{"action": "pkill", "job_id": ID, "ident": null}"#),
        // Other versions may say more.
        ("hang", r#"{"job_id":ID,"action":"pkill","node":"web.1"}"#),
    ] {
        let id = node.insert(json!({"do": what})).await;
        fixture.started(id).await;
        set_columns(node.engine(), id, "state = 'cancelled', cancelled_at = timezone('UTC', now())").await;
        let cancelled = row(node.engine().db(), id).await;
        send(&node, &payload.replace("ID", &id.to_string())).await;
        fixture.ended(id).await;
        until("a free slot", || async { (node.queues().running() == 1).then_some(()) }).await;
        assert_eq!(row(node.engine().db(), id).await, cancelled, "{payload}");
    }
    // Nobody is meant by these.
    for payload in
        [r#"{"action":"pkill","job_id":999999}"#, r#"{"action":"pkill"}"#, r#"{"action":"pkill","job_id":"1"}"#]
    {
        send(&node, payload).await;
    }
    fixture.release(other);
    assert_eq!(node.reaches(other, State::Completed).await.attempt, 1);
}

/// Oban for Python leaves the row executing; its runner writes what became of it.
#[tokio::test]
async fn oban_06_a_kill_in_the_way_of_python_is_stored_by_the_runner() {
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, by_notice).await;
    let id = node.insert(json!({"do": "hang"})).await;
    let other = node.insert(json!({"do": "hold"})).await;
    assert_eq!(id, 1, "the notice is for the first job of this database");
    fixture.started(id).await;
    fixture.started(other).await;
    send(&node, PKILL_1_PYTHON).await;
    let job = node.reaches(id, State::Cancelled).await;
    let errors: Vec<(Value, Value)> =
        job.errors.iter().map(|error| (error["attempt"].clone(), error["error"].clone())).collect();
    assert_eq!(errors, [(json!(1), json!(KILLED))]);
    assert!(job.cancelled_at.is_some() && job.attempt == 1);
    fixture.release(other);
    node.reaches(other, State::Completed).await;
}
