//! Asking a running job to stop, and why.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// Why a job is asked to stop. The first cause counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopCause {
    /// Somebody cancelled it.
    Cancelled,
    /// The instance stops.
    HandBack,
    /// The instance may no longer work, because it could not prove that it lives: its jobs are about to be taken over,
    /// so they end at once.
    Fenced,
}

/// Shared by a job's slot, its executor and its code.
#[derive(Debug, Clone, Default)]
pub struct StopSignal {
    token: CancellationToken,
    at_once: CancellationToken,
    cause: Arc<OnceLock<StopCause>>,
}

impl StopSignal {
    /// Asks the job to stop.
    pub fn stop(&self, cause: StopCause) {
        // A later cause changes nothing: the job is on its way out already.
        self.cause.get_or_init(|| cause);
        if cause == StopCause::Fenced {
            self.at_once.cancel();
        }
        self.token.cancel();
    }

    /// Why the job shall stop, if it shall.
    pub fn cause(&self) -> Option<StopCause> {
        self.cause.get().copied()
    }

    /// Resolves when the job may not even end by itself, whatever it was asked before. Cancel safe.
    pub async fn fenced(&self) {
        self.at_once.cancelled().await;
    }

    /// Resolves when the job shall stop. Cancel safe.
    pub async fn requested(&self) -> StopCause {
        self.token.cancelled().await;
        self.cause().unwrap_or(StopCause::HandBack)
    }

    /// The token that job code may watch.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }
}
