//! The runtime that job code runs on, apart from the one of supervisors and heartbeat.
//!
//! Rust code cannot be preempted: a job that never awaits holds its thread until it ends. On a runtime of its own it
//! cannot hold up the heartbeat, and aborting it takes effect at its next await.

use std::future::Future;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::supervision::{Caught, catch, catch_sync};

/// Handle of the job runtime.
#[derive(Debug, Clone)]
pub struct JobRuntime(Handle);

/// Aborts its task when dropped, so that no job code outlives its executor.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why job code has no result.
#[derive(Debug)]
pub enum JobCodeError {
    /// It panicked: the text, and on a second line where.
    Panicked(String),
    /// Its runtime is shutting down.
    Gone,
}

impl JobRuntime {
    /// Job code runs on `handle`.
    pub fn new(handle: Handle) -> Self {
        Self(handle)
    }

    /// Runs `code` on the job runtime and waits for it.
    ///
    /// Cancel safety: dropping the returned future aborts the code at its next await.
    ///
    /// # Errors
    /// [`JobCodeError::Panicked`] with message and location; [`JobCodeError::Gone`] while the runtime shuts down.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        code: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, JobCodeError> {
        #[expect(clippy::disallowed_methods, reason = "aborted when the caller drops this future")]
        let mut task = AbortOnDrop(self.0.spawn(catch(code)));
        match (&mut task.0).await {
            Ok(result) => result.map_err(JobCodeError::from),
            Err(_) => Err(JobCodeError::Gone),
        }
    }

    /// Runs code that blocks on a thread of its own and waits for it.
    ///
    /// Cancel safety: code that has not begun never runs when the returned future is dropped; other code goes on.
    ///
    /// # Errors
    /// As [`JobRuntime::run`].
    pub(super) async fn run_blocking<T: Send + 'static>(
        &self,
        code: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JobCodeError> {
        let mut task = AbortOnDrop(self.0.spawn_blocking(move || catch_sync(code)));
        match (&mut task.0).await {
            Ok(result) => result.map_err(JobCodeError::from),
            Err(_) => Err(JobCodeError::Gone),
        }
    }
}

impl From<Caught> for JobCodeError {
    fn from(caught: Caught) -> Self {
        let mut text = caught.text;
        for more in [caught.location, caught.backtrace].into_iter().flatten() {
            text.push_str(&format!("\n    at {more}"));
        }
        Self::Panicked(text)
    }
}
