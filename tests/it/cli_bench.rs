//! `bench run`: what it prints, and that nothing of it stays behind.

use secrecy::ExposeSecret;
use sqlx::{Connection, PgConnection};

use crate::cli_support::run;
use crate::support::db::TestDb;
use crate::support::process::{Place, until};

/// Every schema that is not the server's own.
async fn schemas(db: &TestDb) -> Vec<String> {
    let mut connection = PgConnection::connect(db.url().expose_secret()).await.unwrap();
    let names = sqlx::query_scalar(
        "SELECT nspname::text FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1",
    );
    names.fetch_all(&mut connection).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_measurement_prints_every_figure_and_leaves_no_schema() {
    let db = TestDb::new().await;
    let place = Place::new(&db, "");
    let args = ["bench", "run", "--jobs", "300", "--queue-limit", "20", "--history", "50", "--json"];
    let document = run(&place, &args).done().document("singularity.bench_run.v1");
    for key in [
        "inserts_per_second",
        "limit_inserts_per_second",
        "single_inserts_per_second",
        "jobs_per_second",
        "limit_jobs_per_second",
        "ratio",
    ] {
        assert!(document[key].as_f64().is_some_and(|figure| figure > 0.0), "{key} in {document}");
    }
    let latency = &document["latency_ms"];
    for (least, most) in [
        ("start_p50", "start_p99"),
        ("finish_p50", "finish_p99"),
        ("start_p50", "finish_p50"),
        ("notice_p50", "chain_p50"),
        ("chain_p50", "chain_p99"),
        ("notified_start_p50", "notified_start_p99"),
        ("notified_start_p50", "notified_finish_p50"),
    ] {
        let (least, most) = (latency[least].as_f64().unwrap(), latency[most].as_f64().unwrap());
        assert!(0.0 < least && least <= most, "{latency}");
    }
    let conditions = &document["conditions"];
    assert_eq!((&conditions["jobs"], &conditions["queue_limit"]), (&300.into(), &20.into()));
    assert_eq!((&conditions["workers"], &conditions["history"]), (&"noop".into(), &50.into()));
    assert_eq!(schemas(&db).await, ["public"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_measurement_leaves_no_schema_and_a_killed_one_leaves_it_to_the_next() {
    let db = TestDb::new().await;
    let place = Place::new(&db, "");
    let args = ["bench", "run", "--duration", "3600", "--workers", "sleep:5"];
    let is_there = || async { (schemas(&db).await.len() == 2).then_some(()) };

    let mut interrupted = place.spawn(&args);
    until("the schema", is_there).await;
    interrupted.signal("INT");
    assert_eq!(interrupted.wait().code(), Some(130));
    assert_eq!(schemas(&db).await, ["public"]);

    let mut killed = place.spawn(&args);
    until("the schema", is_there).await;
    killed.signal("KILL");
    killed.wait();
    assert_eq!(schemas(&db).await.len(), 2);
    // The server notices the end of the connection that holds the lock on its own time.
    until("removal", || async {
        run(&place, &["bench", "run", "--jobs", "1"]).done();
        (schemas(&db).await == ["public"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn wrong_work_is_refused_with_what_is_allowed() {
    let db = TestDb::new().await;
    let ended = run(&Place::new(&db, ""), &["bench", "run", "--workers", "sleep"]);
    ended.refused(2, &["--workers", "write noop, or sleep:MS"]);
}
