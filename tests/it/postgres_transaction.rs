//! Transactions come to an end whatever the network does, and leave nothing behind that they did not commit.

use std::time::Duration;

use singularity::cloud::SyncStore;
use singularity::postgres::{Database, DbError, PoolOptions, Transaction};

use crate::support::db::{DEADLINE, TestDb};
use crate::support::node::until;
use crate::support::proxy::{Mode, Proxy};

/// A pool of one connection, so that a place which is not given back is missed at once.
fn one(statement_timeout: u64) -> PoolOptions {
    PoolOptions { max: 1, statement_timeout: Duration::from_millis(statement_timeout), ..PoolOptions::default() }
}

/// Waits until there is a place in the pool: closing a connection that is silent takes some seconds.
async fn joins(store: &SyncStore, instance_id: &str) {
    until("a free place", || async { store.join(instance_id).await.ok() }).await;
}

#[tokio::test]
async fn one_whose_answers_get_lost_ends_and_gives_its_place_in_the_pool_back() {
    let (db, _database) = TestDb::migrated().await;
    let proxy = Proxy::start(db.host_and_port()).await;
    let database = Database::connect(&db.url_through(proxy.address()), &one(1_000)).await.unwrap();
    let store = SyncStore::new(database.clone());
    store.join("first").await.unwrap();

    proxy.set(Mode::Blackhole);
    let lost = tokio::time::timeout(DEADLINE, store.join("second")).await.expect("an end");
    assert!(lost.unwrap_err().is_unavailable());
    // Also one whose caller does not wait for it.
    proxy.set(Mode::Pass);
    joins(&store, "third").await;
    proxy.set(Mode::Blackhole);
    assert!(tokio::time::timeout(Duration::from_millis(100), store.join("fourth")).await.is_err());

    proxy.set(Mode::Pass);
    joins(&store, "fifth").await;
    let joined: Vec<String> =
        sqlx::query_scalar("SELECT instance_id FROM learning_cursors ORDER BY 1").fetch_all(&database).await.unwrap();
    assert_eq!(joined, ["fifth", "first", "third"]);
}

#[tokio::test]
async fn what_was_not_committed_is_gone_when_the_call_returns_and_the_connection_is_kept() {
    let (db, other) = TestDb::migrated().await;
    db.execute("CREATE TABLE notes (text text)").await;
    let database = Database::connect(db.url(), &one(10_000)).await.unwrap();
    let write = async |commits: bool, fails: bool| {
        let writing = async |mut transaction: Transaction<'_>| -> Result<i32, DbError> {
            let pid = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *transaction).await?;
            sqlx::query("SELECT pg_advisory_xact_lock(1)").execute(&mut *transaction).await?;
            sqlx::query("INSERT INTO notes VALUES ('written')").execute(&mut *transaction).await?;
            if fails {
                sqlx::query("SELECT 1 / 0").execute(&mut *transaction).await?;
            }
            if commits {
                transaction.commit().await?;
            }
            Ok(pid)
        };
        database.transaction(4, writing).await
    };
    let found = async || {
        let free: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock(1)").fetch_one(&other).await.unwrap();
        let notes: i64 = sqlx::query_scalar("SELECT count(*) FROM notes").fetch_one(&other).await.unwrap();
        (free, notes)
    };
    let pid = write(false, false).await.unwrap();
    assert_eq!(found().await, (true, 0));
    assert_eq!(write(true, true).await.unwrap_err().sqlstate().as_deref(), Some("22012"));
    assert_eq!(found().await, (true, 0));
    assert_eq!(write(true, false).await.unwrap(), pid, "nothing was wrong with the connection");
    assert_eq!(found().await, (true, 1));
}
