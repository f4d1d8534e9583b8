//! The signals that ask the process to stop.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::codes;
use super::exit::{Exit, Failure};

/// SIGTERM, SIGINT and SIGHUP, which a closed terminal sends, in the order in which they arrive.
#[derive(Debug)]
pub(super) struct Stops {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Stops {
    /// Starts to listen; from now on these signals no longer end the process.
    ///
    /// # Errors
    /// The system allows no handler.
    pub(super) fn listen() -> Result<Self, Failure> {
        let problem = |error| Failure::new(Exit::Failed, codes::SIGNALS, format!("signals cannot be handled: {error}"));
        Ok(Self {
            term: signal(SignalKind::terminate()).map_err(problem)?,
            int: signal(SignalKind::interrupt()).map_err(problem)?,
            hup: signal(SignalKind::hangup()).map_err(problem)?,
        })
    }

    /// Resolves at the next signal. Cancel safe.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
            _ = self.hup.recv() => {}
        }
    }
}
