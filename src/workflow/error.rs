//! What goes wrong in the making and in the execution of workflows, apart from what their steps do.

use super::definition::{FAN_OUT_ITEMS_MAX, FAN_OUT_PARALLEL_MAX, StepError};
use super::retry::STEP_TRIES_MAX;
use crate::error::Coded;
use crate::queue::Outcome;

/// A run was begun with steps that this program does not have.
pub(super) const CHANGED: &str = "E0620";
/// The input of a step is of another form.
pub(super) const INPUT: &str = "E0621";
/// A step ran over its time.
pub(super) const STEP_TIMEOUT: &str = "E0622";
/// The result of a step cannot be stored.
pub(super) const OUTPUT: &str = "E0623";
/// A fan-out over something that is no list, or too long a one.
pub(super) const FAN_OUT: &str = "E0624";
/// A child did not complete.
pub(super) const CHILD_FAILED: &str = "E0625";
/// A plan of children makes no sense.
pub(super) const PLAN: &str = "E0626";

/// Why a workflow cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    /// Nothing to do.
    #[error("workflow {worker} has no step; it has at least one")]
    NoStep {
        /// The workflow.
        worker: &'static str,
    },
    /// Two steps of one name.
    #[error("workflow {worker} has two steps {step:?}; names of steps are unique")]
    SameName {
        /// The workflow.
        worker: &'static str,
        /// The step.
        step: &'static str,
    },
    /// A number out of its bounds.
    #[error("step {step:?} of workflow {worker} has {what} {value}; {allowed}")]
    OutOfBounds {
        /// The workflow.
        worker: &'static str,
        /// The step.
        step: &'static str,
        /// What it is.
        what: &'static str,
        /// What was given.
        value: usize,
        /// What is allowed.
        allowed: String,
    },
    /// A setting of a step that has no such thing, or of a workflow that has no step yet.
    #[error("{what} was set in workflow {worker} where it means nothing: {why}")]
    Misplaced {
        /// The workflow.
        worker: &'static str,
        /// The setting.
        what: &'static str,
        /// Why not.
        why: String,
    },
}

impl DefinitionError {
    pub(super) fn parallel(worker: &'static str, step: &'static str, value: usize) -> Self {
        let allowed = format!("1 to {FAN_OUT_PARALLEL_MAX} are allowed");
        Self::OutOfBounds { worker, step, what: "elements at the same time:", value, allowed }
    }

    pub(super) fn tries(worker: &'static str, step: &'static str, value: u32) -> Self {
        let allowed = format!("1 to {STEP_TRIES_MAX} are allowed");
        Self::OutOfBounds { worker, step, what: "tries:", value: value as usize, allowed }
    }
}

impl Coded for DefinitionError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoStep { .. } => "E0627",
            Self::SameName { .. } => "E0628",
            Self::OutOfBounds { .. } => "E0629",
            Self::Misplaced { .. } => "E0630",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoStep { .. } => "add one with step or call".into(),
            Self::SameName { .. } => "rename one of them".into(),
            Self::OutOfBounds { allowed, .. } => format!("choose another number: {allowed}"),
            Self::Misplaced { .. } => "set it right after the step that it is meant for".into(),
        })
    }
}

/// The job fails, and is tried again as others are.
pub(super) fn failed(code: &'static str, text: impl std::fmt::Display) -> StepError {
    StepError::new(Outcome::Failed { error: format!("** ({code}) {text}"), retry_in: None })
}

/// The job is given up: another attempt would come to the same.
pub(super) fn discarded(code: &'static str, text: impl std::fmt::Display) -> StepError {
    StepError::new(Outcome::Discarded(format!("** ({code}) {text}")))
}

/// A list that a step cannot be run for.
pub(super) fn no_list(step: &str, found: &serde_json::Value) -> StepError {
    let what = match found {
        serde_json::Value::Array(items) => format!("a list of {} elements", items.len()),
        serde_json::Value::Object(_) => "an object".into(),
        other => other.to_string().chars().take(40).collect(),
    };
    discarded(
        FAN_OUT,
        format!("step {step} is run for each element of a list of at most {FAN_OUT_ITEMS_MAX}; it was given {what}"),
    )
}
