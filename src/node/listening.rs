//! The listening itself: events of the connection, the echo that shows that notifications arrive, and looks at the
//! tables after every doubt.
//!
//! Notices are hints. After a lost connection, a payload that cannot be read, and every second while nothing can be
//! heard, everybody looks at the tables as if something had been said.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::complaints::Complaints;
use super::notices::NoticesArgs;
use crate::cloud::sync::LEARNING_CHANNEL;
use crate::instance::CONTROL_CHANNEL;
use crate::postgres::DbError;
use crate::postgres::notifier::echo::{Echo, Hearing, Ping};
use crate::postgres::notifier::message::decode_echo;
use crate::postgres::notifier::{self, Event, Listener, ListenerOptions};
use crate::supervision::Probe;

/// Time between two looks while nothing can be heard, whatever the queues' own `poll_interval`: that of Oban's poll.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// An echo on its way to the database.
type Sending = Pin<Box<dyn Future<Output = Result<(), DbError>> + Send>>;

/// What is listened on.
const CHANNELS: [&str; 7] = [
    notifier::INSERT,
    notifier::SIGNAL,
    notifier::LEADER,
    notifier::SONAR,
    notifier::ECHO,
    CONTROL_CHANNEL,
    LEARNING_CHANNEL,
];

struct Listening {
    args: NoticesArgs,
    probe: Arc<Probe>,
    complaints: Complaints,
    echo: Echo,
    sending: Option<Sending>,
    /// When to look next while nothing can be heard.
    look_at: Instant,
    away: bool,
    silent: bool,
}

/// Listens until it is dropped.
pub(super) async fn listen(args: NoticesArgs, probe: Arc<Probe>) {
    let mut listener = Listener::new(args.storage.db(), &CHANNELS, ListenerOptions::default());
    let mut listening = Listening {
        args,
        probe,
        complaints: Complaints::default(),
        echo: Echo::default(),
        sending: None,
        look_at: Instant::now() + LOOK_EVERY,
        away: false,
        silent: false,
    };
    loop {
        tokio::select! {
            event = listener.next() => listening.event(event).await,
            () = sleep_until(listening.wake_at()) => listening.wake(),
            sent = sent(&mut listening.sending) => {
                listening.sending = None;
                if let Err(error) = sent {
                    tracing::debug!(target: "postgres", %error, "an echo could not be sent");
                    listening.echo.not_sent(Instant::now());
                }
            }
        }
    }
}

/// Resolves when what is on its way has arrived; never while nothing is. Cancel safe.
async fn sent(sending: &mut Option<Sending>) -> Result<(), DbError> {
    match sending {
        Some(sending) => sending.as_mut().await,
        None => std::future::pending().await,
    }
}

impl Listening {
    async fn event(&mut self, event: Event) {
        match event {
            Event::Notified { channel, payload } => self.notified(&channel, &payload),
            Event::Resync => {
                self.probe.set_label("listens", "yes");
                if std::mem::take(&mut self.away) {
                    tracing::info!(target: "postgres", "the database is back");
                }
                self.silent = false;
                self.echo.begin(Instant::now());
                self.args.look_everywhere();
            }
            Event::Down { error } => {
                self.probe.set_label("listens", "no");
                if !std::mem::replace(&mut self.away, true) {
                    tracing::warn!(target: "postgres", %error, "the database is away; work resumes when it is back");
                }
                self.echo.end();
                self.args.storage.heal().await;
                self.args.look_everywhere();
            }
        }
    }

    fn notified(&mut self, channel: &str, payload: &str) {
        let understood = if channel == notifier::ECHO {
            decode_echo(payload).map(|ping| {
                if ping.instance == *self.args.steering.instance_id {
                    self.echo.heard(ping.number, Instant::now());
                    self.tell_hearing();
                }
            })
        } else {
            self.args.notified(channel, payload)
        };
        if let Err(error) = understood {
            self.complaints.report(channel, &error);
            self.args.doubt(channel);
        }
    }

    fn wake_at(&self) -> Instant {
        self.echo.due_at().map_or(self.look_at, |due| due.min(self.look_at))
    }

    fn wake(&mut self) {
        let now = Instant::now();
        if let Some(number) = self.echo.due(now) {
            let (db, instance) = (self.args.storage.db().clone(), self.args.steering.instance_id.to_string());
            self.sending = Some(Box::pin(async move {
                notifier::notify(&db, &db.channel(notifier::ECHO), &[Ping { instance, number }]).await
            }));
        }
        self.tell_hearing();
        if now >= self.look_at {
            self.look_at = now + LOOK_EVERY;
            // The same where an Elixir node leads that is never heard; the peer says so.
            if self.silent || self.args.foreign.silent().is_some() {
                self.args.look();
            }
        }
    }

    /// Keeps what is shown and logged in step with what is known about our own ears.
    fn tell_hearing(&mut self) {
        let silent = match self.echo.hearing() {
            Hearing::Unknown => return,
            Hearing::Heard => false,
            Hearing::Silent => true,
        };
        if silent == self.silent {
            return;
        }
        self.silent = silent;
        self.probe.set_label("listens", if silent { "hears nothing" } else { "yes" });
        if silent {
            tracing::warn!(
                target: "postgres",
                "notifications do not arrive, so jobs start up to a second late and running jobs cannot be cancelled; \
                 connect to PostgreSQL directly, not through a proxy that pools transactions"
            );
        } else {
            tracing::info!(target: "postgres", "notifications arrive");
        }
    }
}
