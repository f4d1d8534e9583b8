//! LISTEN and NOTIFY on Oban's channels: hints that make things fast, on which nothing depends.
//!
//! Notifications get lost: while a connection is down, when a network drops packets without a word, when nobody
//! listens. So the listener tells not only what arrived but also when something may have been missed
//! ([`Event::Resync`], [`Event::Down`]); whoever acts on notifications looks at the tables then, and every second
//! anyway.
//!
//! Invariants: the listener's connection is its own, never one of the pool. A silent connection is noticed by a beat.
//! Payloads come from other programs: they are decoded by [`message`] and may be anything.
//!
//! sqlx's own reconnect is not used, because it does not see every way in which a connection dies: each new connection
//! is a new sqlx listener. The old one's last task (an UNLISTEN) may outlive it on a connection that swallows packets,
//! until the kernel gives the connection up.

pub mod cronitor;
pub mod echo;
pub mod encoding;
pub mod gossip;
pub mod message;
pub mod metrics;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::Serialize;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{Executor, PgExecutor};
use tokio::time::{Instant, timeout, timeout_at};

use super::pool::ACQUIRE_TIMEOUT;
use super::server::located;
use super::{Database, DbError, retry_delay};

/// New available jobs; `{"queue": "…"}`.
pub const INSERT: &str = "insert";
/// Control of queues and jobs.
pub const SIGNAL: &str = "signal";
/// A leader leaves.
pub const LEADER: &str = "leader";
/// Which Elixir nodes are there. Read, and never written: a lone Elixir node that hears of others relies on the leader
/// to tell it of jobs, instead of looking for itself.
pub const SONAR: &str = "sonar";
/// State of queues, for dashboards.
pub const GOSSIP: &str = "gossip";
/// Times and counts, for dashboards.
pub const METRICS: &str = "metrics";
/// Periodic jobs, for dashboards.
pub const CRONITOR: &str = "cronitor";
/// What an instance sends to itself.
pub const ECHO: &str = "echo";

pub use encoding::{PAYLOAD_BYTES_MAX, Payload, Unsendable};

/// Most payloads of one [`notify`].
pub const PAYLOADS_MAX: usize = 1_000;

/// What a listener reports.
#[derive(Debug)]
pub enum Event {
    /// A notification arrived.
    Notified {
        /// Short name, as it was given to [`Listener::new`].
        channel: String,
        /// Its text, below 8,000 bytes.
        payload: String,
    },
    /// Listening begins now, for the first time or again; what was sent before is lost.
    Resync,
    /// The connection is lost, or one more attempt to get it back failed. The next call waits a little and tries again.
    Down {
        /// Why.
        error: DbError,
    },
}

/// Timing of a listener.
#[derive(Debug, Clone)]
pub struct ListenerOptions {
    /// A connection that was silent for this long is tested. Default 15 s.
    pub beat_interval: Duration,
    /// The test must be answered within this. Default 5 s.
    pub beat_timeout: Duration,
    /// Seed of the jitter between attempts to connect.
    pub seed: u64,
}

impl Default for ListenerOptions {
    fn default() -> Self {
        Self { beat_interval: Duration::from_secs(15), beat_timeout: Duration::from_secs(5), seed: rand::random() }
    }
}

/// Listens on channels, on a connection of its own, for as long as it exists. Drop it inside the tokio runtime.
pub struct Listener {
    /// The work until the next event. It lives here and not in `next`, so that giving up on `next` loses nothing.
    step: Pin<Box<dyn Future<Output = (Session, Event)> + Send>>,
}

impl Listener {
    /// A listener on the channels with these short names, in the schema of `database`. Connects with the first `next`,
    /// so the first event is `Resync` or `Down`.
    pub fn new(database: &Database, channels: &[&str], options: ListenerOptions) -> Self {
        let mut names: Vec<String> = channels.iter().map(|name| (*name).to_owned()).collect();
        names.sort_unstable();
        names.dedup();
        let session = Session {
            connect: database.session_unlimited(),
            server: Arc::clone(database.server()),
            prefix: database.channel(""),
            names,
            rng: StdRng::seed_from_u64(options.seed),
            options,
            failures: 0,
            connection: None,
        };
        Self { step: Box::pin(session.step()) }
    }

    /// Waits for the next event. Never ends and never fails: an outage is an event too.
    ///
    /// Cancel safety: complete. Dropping the future loses no notification and no progress of a reconnect; both go on
    /// with the next call, and rest in between.
    pub async fn next(&mut self) -> Event {
        let (session, event) = (&mut self.step).await;
        self.step = Box::pin(session.step());
        event
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").finish_non_exhaustive()
    }
}

struct Session {
    connect: PgConnectOptions,
    /// For its errors.
    server: Arc<str>,
    /// `<schema>.oban_`
    prefix: String,
    names: Vec<String>,
    options: ListenerOptions,
    rng: StdRng,
    /// Lost connections and failed attempts since a connection last proved itself; one that is lost at once does not.
    failures: u32,
    connection: Option<PgListener>,
}

impl Session {
    async fn step(mut self) -> (Self, Event) {
        let result = match self.connection.take() {
            Some(connection) => self.receive(connection).await,
            None => self.open().await,
        };
        let event = result.unwrap_or_else(|error| {
            self.failures = self.failures.saturating_add(1);
            Event::Down { error }
        });
        (self, event)
    }

    async fn open(&mut self) -> Result<Event, DbError> {
        if let Some(waits) = self.failures.checked_sub(1) {
            tokio::time::sleep(retry_delay(waits, &mut self.rng)).await;
        }
        let channels: Vec<String> = self.names.iter().map(|name| format!("{}{name}", self.prefix)).collect();
        let attempt = async {
            let pool = PgPoolOptions::new()
                .max_connections(1)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
                .connect_lazy_with(self.connect.clone());
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.eager_reconnect(false);
            listener.ignore_pool_close_event(true);
            listener.listen_all(channels.iter().map(String::as_str)).await?;
            Ok::<_, sqlx::Error>(listener)
        };
        let opened = timeout(ACQUIRE_TIMEOUT, attempt).await.unwrap_or_else(|_| Err(timed_out("connecting")));
        let listener = opened.map_err(|error| located(error, &self.server))?;
        self.connection = Some(listener);
        Ok(Event::Resync)
    }

    async fn receive(&mut self, mut listener: PgListener) -> Result<Event, DbError> {
        let mut beat_at = Instant::now() + self.options.beat_interval;
        loop {
            match timeout_at(beat_at, listener.try_recv()).await {
                Ok(Ok(Some(notification))) => {
                    self.failures = 0;
                    beat_at = Instant::now() + self.options.beat_interval;
                    if let Some(name) = notification.channel().strip_prefix(&self.prefix) {
                        let event =
                            Event::Notified { channel: name.to_owned(), payload: notification.payload().to_owned() };
                        self.connection = Some(listener);
                        return Ok(event);
                    }
                }
                Ok(Ok(None)) => {
                    let error =
                        std::io::Error::new(std::io::ErrorKind::ConnectionAborted, "the listener's connection ended");
                    return Err(located(sqlx::Error::Io(error), &self.server).into());
                }
                Ok(Err(error)) => return Err(located(error, &self.server).into()),
                Err(_) => {
                    let tested = timeout(self.options.beat_timeout, listener.execute("SELECT 1"))
                        .await
                        .unwrap_or_else(|_| Err(timed_out("a test of the listener's connection")));
                    tested.map_err(|error| located(error, &self.server))?;
                    self.failures = 0;
                    beat_at = Instant::now() + self.options.beat_interval;
                }
            }
        }
    }
}

fn timed_out(what: &str) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, format!("{what} took too long")))
}

/// Sends payloads on a channel (the full name, from [`Database::channel`]), in one statement. They are delivered when
/// the transaction of `executor` commits; equal ones of one transaction are merged. Nothing is sent for an empty slice.
///
/// Each payload is written in a form that every version of Oban in use reads, see [`encoding::write`].
///
/// # Errors
/// `E0228` for more than [`PAYLOADS_MAX`] payloads, one that is no JSON object, or one that is above
/// [`PAYLOAD_BYTES_MAX`] even compressed: nothing is sent then, and a transaction goes on unharmed. Those of any
/// statement besides.
pub async fn notify<'e>(
    executor: impl PgExecutor<'e>,
    channel: &str,
    payloads: &[impl Serialize],
) -> Result<(), DbError> {
    let written = payloads.iter().map(encoding::write).collect::<Result<Vec<_>, _>>();
    send(executor, channel, &written.map_err(|error| unsendable(channel, &error))?).await
}

/// The same for payloads that are written already.
///
/// # Errors
/// `E0228` for more than [`PAYLOADS_MAX`] payloads. Those of any statement besides.
pub async fn send<'e>(executor: impl PgExecutor<'e>, channel: &str, payloads: &[Payload]) -> Result<(), DbError> {
    if payloads.is_empty() {
        return Ok(());
    }
    if payloads.len() > PAYLOADS_MAX {
        let reason = format!("{} payloads at once; at most {PAYLOADS_MAX} are allowed", payloads.len());
        return Err(DbError::Payload { channel: channel.to_owned(), reason });
    }
    let texts: Vec<&str> = payloads.iter().map(Payload::as_str).collect();
    sqlx::query("SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload")
        .bind(channel)
        .bind(texts)
        .execute(executor)
        .await?;
    Ok(())
}

/// The error for a payload that cannot be written, on a channel (its full name).
pub fn unsendable(channel: &str, error: &Unsendable) -> DbError {
    DbError::Payload { channel: channel.to_owned(), reason: error.to_string() }
}
