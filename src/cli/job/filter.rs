//! Options that say which jobs, of listing and of changing many.

use clap::Args;
use serde_json::Value;

use super::enqueue;
use crate::cli::exit::Failure;
use crate::queue::State;
use crate::queue::engine::JobFilter;

/// Which jobs: those that fit every option, each with any of its values.
#[derive(Debug, Args)]
#[group(id = "filter", multiple = true)]
pub(super) struct FilterArgs {
    /// Those of this queue, which must be one that somebody has; may be given several times, as may the others
    #[arg(long = "queue", value_name = "QUEUE")]
    queues: Vec<String>,
    /// Those in this state: suspended, scheduled, available, executing, retryable, completed, discarded or cancelled
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',')]
    states: Vec<State>,
    /// Those of this worker
    #[arg(long = "worker", value_name = "WORKER")]
    workers: Vec<String>,
    /// Those with this tag
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Those whose arguments contain these, a JSON object
    #[arg(long, value_name = "JSON")]
    args: Option<String>,
}

impl FilterArgs {
    /// Whether no option was given.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
            && self.states.is_empty()
            && self.workers.is_empty()
            && self.tags.is_empty()
            && self.args.is_none()
    }

    /// The filter; an option that was not given allows all.
    ///
    /// # Errors
    /// Arguments that are no JSON object.
    pub(super) fn filter(self) -> Result<JobFilter, Failure> {
        fn given<T>(values: Vec<T>) -> Option<Vec<T>> {
            (!values.is_empty()).then_some(values)
        }
        let args = match self.args.as_deref().map(|text| enqueue::object("--args", text)).transpose()? {
            Some(Value::Object(args)) => Some(args),
            _ => None,
        };
        Ok(JobFilter {
            ids: None,
            states: given(self.states),
            queues: given(self.queues),
            workers: given(self.workers),
            // Tags are stored in lower case.
            tags: given(self.tags.iter().map(|tag| tag.trim().to_lowercase()).collect()),
            args,
            since: None,
        })
    }
}
