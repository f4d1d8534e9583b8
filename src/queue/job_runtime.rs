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

/// Code on the job runtime. Aborts it when dropped, so that no job code outlives who it belongs to.
#[derive(Debug)]
pub(super) struct CodeTask<T>(JoinHandle<T>);

impl<T> CodeTask<T> {
    /// Whether it has ended, in whatever way.
    pub(super) fn has_ended(&self) -> bool {
        self.0.is_finished()
    }

    /// Resolves with what it came to, or without when it was dropped. Cancel safe.
    pub(super) async fn ended(&mut self) -> Option<T> {
        (&mut self.0).await.ok()
    }
}

impl<T> Drop for CodeTask<T> {
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
        let ended = self.begin(caught(code)).ended().await;
        ended.unwrap_or(Err(JobCodeError::Gone))
    }

    /// Begins `code`, which must not panic.
    pub(super) fn begin<T: Send + 'static>(&self, code: impl Future<Output = T> + Send + 'static) -> CodeTask<T> {
        #[expect(clippy::disallowed_methods, reason = "aborted when what is returned is dropped")]
        CodeTask(self.0.spawn(code))
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
        let mut task = CodeTask(self.0.spawn_blocking(move || catch_sync(code)));
        task.ended().await.map_or(Err(JobCodeError::Gone), |result| result.map_err(JobCodeError::from))
    }
}

/// Runs `code` with its panics caught.
pub(super) async fn caught<T>(code: impl Future<Output = T>) -> Result<T, JobCodeError> {
    catch(code).await.map_err(JobCodeError::from)
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
