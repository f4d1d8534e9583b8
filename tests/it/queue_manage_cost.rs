//! Changing and listing few jobs among 300,000 reads few rows: every statement finds them by an index.

use std::time::Instant;

use serde_json::json;
use singularity::queue::engine::JobFilter;
use singularity::queue::{Engine, JobUpdate, State};

use crate::support::db::TestDb;
use crate::support::node::until;

/// Finished ones mostly, many scheduled, and few of queue `rare` and of each customer.
const ROWS: &str = "
    INSERT INTO oban_jobs (state, queue, worker, args, scheduled_at)
    SELECT (CASE WHEN n % 10 < 8 THEN 'completed' WHEN n % 10 = 8 THEN 'scheduled' ELSE 'available' END)::oban_job_state,
           CASE WHEN n % 15000 = 0 THEN 'rare' WHEN n % 10 = 8 THEN 'later' ELSE 'default' END,
           'w', jsonb_build_object('customer', n % 30000), timezone('UTC', now()) + n * interval '1 second'
    FROM generate_series(1, 300000) n";

/// Rows that scans of the whole table read, and lookups by an index, so far.
async fn scans(engine: &Engine) -> (i64, i64) {
    sqlx::query_as("SELECT seq_tup_read, idx_scan FROM pg_stat_user_tables WHERE relname = 'oban_jobs'")
        .fetch_one(engine.db().pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn few_jobs_among_many_are_found_by_an_index() {
    let (db, database) = TestDb::migrated().await;
    let looker = Engine::new(database);
    // Without the limits of a pool.
    db.execute(ROWS).await;
    db.execute("VACUUM ANALYZE oban_jobs").await;
    let any = JobFilter::default;
    let queue = |name: &str| JobFilter { queues: Some(vec![name.into()]), ..any() };
    let customer = |number: i64| JobFilter { args: json!({"customer": number}).as_object().cloned(), ..any() };
    let touch = || JobUpdate { priority: Some(2), ..JobUpdate::default() };
    let in_state = |state: State| JobFilter { states: Some(vec![state]), ..any() };
    // How many it must change or list.
    for (what, wanted) in [
        ("cancel 299999", 1),
        ("update ids", 3),
        ("update queue rare", 20),
        ("retry queue rare", 20),
        ("cancel queue rare", 20),
        ("update customer 7", 10),
        ("delete customer 7", 10),
        ("delete executing", 0),
        ("cancel later, at most 50", 50),
        ("list newest", 50),
        ("list executing", 0),
        ("list queue rare", 19),
    ] {
        // A pool of its own, whose counts are known when it is closed.
        let engine = Engine::new(db.connect("public").await);
        let (read, lookups) = scans(&looker).await;
        let began = Instant::now();
        let ids = JobFilter { ids: Some(vec![5, 500, 50_000]), ..any() };
        let done = match what {
            "cancel 299999" => u64::from(engine.cancel(299_999).await.is_ok()),
            "update ids" => engine.update_all(&ids, touch()).await.unwrap().total(),
            "update queue rare" => engine.update_all(&queue("rare"), touch()).await.unwrap().total(),
            "retry queue rare" => engine.retry_all(&queue("rare")).await.unwrap().total(),
            "cancel queue rare" => engine.cancel_all(&queue("rare")).await.unwrap().total(),
            "update customer 7" => engine.update_all(&customer(7), touch()).await.unwrap().total(),
            "delete customer 7" => engine.delete_all(&customer(7)).await.unwrap().total(),
            "delete executing" => engine.cancel_all(&in_state(State::Executing)).await.unwrap().total(),
            "cancel later, at most 50" => {
                let cancel = singularity::queue::Change::Cancel;
                engine.change_all(cancel, &queue("later"), Some(50)).await.unwrap().total()
            }
            "list newest" => engine.list(&any(), None, 50).await.unwrap().len() as u64,
            "list executing" => engine.list(&in_state(State::Executing), None, 50).await.unwrap().len() as u64,
            _ => engine.list(&queue("rare"), Some(290_000), 50).await.unwrap().len() as u64,
        };
        println!("{what}: {done} jobs in {:?}", began.elapsed());
        assert_eq!(done, wanted, "{what}");
        engine.db().close().await;
        let after = until("the counts", || async {
            let now = scans(&looker).await;
            (now.1 > lookups).then_some(now)
        })
        .await;
        assert_eq!(after.0, read, "{what} read the whole table");
    }
}
