//! `start` that is told to stop before it is ready.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::support::db::TestDb;
use crate::support::process::{Place, text, until};

/// A database that takes connections and says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_told_to_stop_ends_at_once_and_in_order() {
    for (signal, code) in [("TERM", 0), ("INT", 130)] {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        silent.set_nonblocking(true).unwrap();
        let place = Place::embedded("[database]\nurl = \"file:url\"\n");
        place.write("url", &format!("postgres://nobody@127.0.0.1:{}/none", silent.local_addr().unwrap().port()));
        let starting = place.spawn(&["start", "--instance-id", "one"]);
        let _connection = until("it asks for the database", || async { silent.accept().ok() }).await;
        starting.signal(signal);
        let (status, out) = starting.finish();
        assert_eq!((status.code(), out.as_str()), (Some(code), ""), "{signal}");
    }
}

/// It registers only after it was told to stop, so that it has to say goodbye.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_others_may_see_says_goodbye() {
    let (db, database) = TestDb::migrated().await;
    let place = Place::new(&db, "");
    let mut lock = database.pool().begin().await.unwrap();
    sqlx::query("LOCK TABLE instance_registry").execute(&mut *lock).await.unwrap();
    let mut starting = place.command(&["start", "--instance-id", "one"]);
    let mut starting = starting.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("it waits for the table", || async {
        let waiting =
            "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'instance_registry'::regclass)";
        sqlx::query_scalar::<_, bool>(waiting).fetch_one(database.pool()).await.unwrap().then_some(())
    })
    .await;
    let told = Command::new("kill").arg(starting.id().to_string()).status().unwrap();
    assert!(told.success());
    // Only when it has heard so may it go on.
    let heard = BufReader::new(starting.stderr.take().unwrap()).lines().map_while(Result::ok);
    let heard = heard.skip_while(|line| !line.starts_with("stopping before it is ready")).take(1).count();
    assert_eq!(heard, 1);
    lock.rollback().await.unwrap();
    let ended = starting.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), text(&ended.stdout).as_str()), (Some(0), ""));
    let said: Vec<String> =
        sqlx::query_scalar("SELECT status FROM instance_registry").fetch_all(database.pool()).await.unwrap();
    assert_eq!(said, ["offline"]);
}
