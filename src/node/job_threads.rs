//! The runtime of job code, where the program that starts the node gives none.

use tokio::runtime::{Builder, Handle, Runtime};

use super::error::NodeError;

/// Threads for job code. When this is dropped they end, each as soon as its code reaches an await point; nobody waits
/// for them, so it may be dropped in asynchronous code.
#[derive(Debug)]
pub(super) struct JobThreads {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl JobThreads {
    /// So many; 0 means one a core.
    ///
    /// # Errors
    /// [`NodeError::JobThreads`].
    pub(super) fn start(threads: usize) -> Result<Self, NodeError> {
        let mut builder = Builder::new_multi_thread();
        if threads > 0 {
            builder.worker_threads(threads);
        }
        let runtime = builder.thread_name("jobs").enable_all().build().map_err(NodeError::JobThreads)?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Where job code is started.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for JobThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
