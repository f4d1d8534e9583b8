//! A database for each test, on one server for the whole suite.

use std::sync::OnceLock;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use singularity::config::Indexes;
use singularity::postgres::embedded::{GUARDIAN_ARGUMENT, Options, Profile, Server};
use singularity::postgres::{Database, PoolOptions, migrate};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// Longest wait for anything that a test waits for.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Longest wait for a database to be dropped.
const DROP_WAIT: Duration = Duration::from_millis(500);

/// A database that lives as long as this value, also when the test panics.
pub struct TestDb {
    name: String,
    admin_url: SecretString,
    url: SecretString,
}

impl TestDb {
    /// An empty database.
    pub async fn new() -> Self {
        let admin_url = server_url().await;
        let name = format!("it_{}", uuid::Uuid::now_v7().simple());
        admin(&admin_url, format!("CREATE DATABASE {name} TEMPLATE template0")).await;
        let url = with_database(admin_url.expose_secret(), &name).into();
        Self { name, admin_url, url }
    }

    /// A database with everything in schema `public`, and a pool on it.
    pub async fn migrated() -> (Self, Database) {
        let db = Self::new().await;
        let database = db.connect("public").await;
        migrate::up(&database).await.unwrap();
        (db, database)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its URL, password included.
    pub fn url(&self) -> &SecretString {
        &self.url
    }

    /// Its URL with another address, for a proxy in between.
    pub fn url_through(&self, address: std::net::SocketAddr) -> SecretString {
        let url = self.url.expose_secret();
        let host = self.host_and_port();
        url.replacen(&host, &address.to_string(), 1).into()
    }

    /// Its URL for another user.
    pub fn url_as(&self, user: &str, password: &str) -> SecretString {
        format!("postgres://{user}:{password}@{}/{}", self.host_and_port(), self.name).into()
    }

    /// `host:port` of the server, which listens on TCP.
    pub fn host_and_port(&self) -> String {
        let (_, rest) = self.url.expose_secret().split_once("://").unwrap();
        let authority = rest.split('/').next().unwrap();
        authority.rsplit('@').next().unwrap().to_owned()
    }

    /// A pool on it that works in `schema`.
    pub async fn connect(&self, schema: &str) -> Database {
        let options = PoolOptions { schema: schema.parse().unwrap(), indexes: indexes(), ..PoolOptions::default() };
        Database::connect(&self.url, &options).await.unwrap()
    }

    /// Runs statements on a connection of its own, with the server's default search path.
    pub async fn execute(&self, sql: impl Into<String>) {
        admin(&self.url, sql.into()).await;
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let url = self.admin_url.clone();
        let (done, wait) = std::sync::mpsc::channel();
        // A runtime of its own, because the test's may be ending. Best effort: what stays harms no other test.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let dropped: Result<_, sqlx::Error> = runtime.block_on(async {
                let mut connection = PgConnection::connect(url.expose_secret()).await?;
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await
            });
            done.send(dropped.map(drop)).map_err(std::io::Error::other)
        });
        // The server waits for connections that are being made, and some may be of this thread's runtime, which stands
        // still meanwhile: then it is dropped when they are gone.
        if let Ok(Err(error)) = wait.recv_timeout(DROP_WAIT) {
            eprintln!("database {} was not dropped: {error}", self.name);
        }
    }
}

/// Whether a statement like this in this database waits for a lock that another transaction holds.
pub async fn waits_for_a_lock(database: &Database, statement: &str) -> bool {
    let sql = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
                              AND wait_event_type = 'Lock' AND query LIKE $1)";
    sqlx::query_scalar(sql).bind(statement).fetch_one(database.pool()).await.unwrap()
}

/// Indexes of tables that tests make: Oban's, or those that `SINGULARITY_TEST_INDEXES` names.
pub fn indexes() -> Indexes {
    match std::env::var("SINGULARITY_TEST_INDEXES").as_deref() {
        Ok("lean") => Indexes::Lean,
        _ => Indexes::Oban,
    }
}

/// The suite's server: the embedded one, shared by all tests and by suites that run at the same time, or the one that
/// `SINGULARITY_TEST_DATABASE_URL` names (on TCP, where databases may be created).
async fn server_url() -> SecretString {
    if let Ok(url) = std::env::var("SINGULARITY_TEST_DATABASE_URL") {
        return url.into();
    }
    tokio::task::spawn_blocking(|| SERVER.get_or_init(start_server).connection().url()).await.unwrap()
}

/// Lives as long as the process; the guardian stops the server after that.
static SERVER: OnceLock<Server> = OnceLock::new();

fn start_server() -> Server {
    let mut options = Options::new(concat!(env!("CARGO_TARGET_TMPDIR"), "/postgres"));
    options.profile = Profile::Fast;
    options.linger = Duration::from_secs(5);
    options.guardian = Some(vec![env!("CARGO_BIN_EXE_singularity").into(), GUARDIAN_ARGUMENT.into()]);
    Server::acquire(&options).unwrap()
}

async fn admin(url: &SecretString, sql: String) {
    let mut connection = PgConnection::connect(url.expose_secret()).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

fn with_database(url: &str, name: &str) -> String {
    let (main, query) = url.split_once('?').map_or((url, String::new()), |(main, query)| (main, format!("?{query}")));
    let (scheme, rest) = main.split_once("://").unwrap();
    let authority = rest.split('/').next().unwrap();
    format!("{scheme}://{authority}/{name}{query}")
}
