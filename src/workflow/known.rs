//! The workflows that a program adds to its node.

use std::collections::BTreeMap;

use super::definition::Definition;
use super::executor::WorkflowWorker;
use super::store::Store;
use crate::queue::Workers;

/// Definitions by worker. Built once, then given to a node.
#[derive(Debug, Clone, Default)]
pub struct Workflows {
    /// The present one last.
    known: BTreeMap<&'static str, Vec<Definition>>,
}

impl Workflows {
    /// Adds a workflow. Where one of this worker is known already, that one is older now: it finishes the runs that it
    /// began, and new runs begin with this one. So register the versions of a workflow in their order.
    pub fn register(&mut self, definition: Definition) {
        self.known.entry(definition.worker).or_default().push(definition);
    }

    /// Their workers, with checkpoints in `store`.
    pub fn workers(self, store: &Store) -> Workers {
        let mut workers = Workers::default();
        for mut versions in self.known.into_values() {
            if let Some(present) = versions.pop() {
                let worker = WorkflowWorker::new(present, store.clone());
                workers.register_executable(versions.into_iter().fold(worker, WorkflowWorker::with_older));
            }
        }
        workers
    }
}
