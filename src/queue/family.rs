//! Jobs that other jobs wait for.
//!
//! A job may enqueue others, its children, and wait for them without holding a slot: it is scheduled meanwhile, and the
//! end of a child makes it available before its time. The records are `job_children` and `job_waits`;
//! [`crate::workflow`] writes them. Children go with their parent: when that is cancelled or discarded, they are
//! cancelled.

use super::completions::Completion;
use super::job::Job;
use super::state::State;

/// Key in a child's `meta` under which the id of its parent stands.
pub const META_PARENT_JOB: &str = "parent_job";

/// The job that waits for this one, if one does.
pub(super) fn parent_of(job: &Job) -> Option<i64> {
    job.meta.get(META_PARENT_JOB)?.as_i64()
}

/// The job that may have to be woken by a stored result: the parent of a job that ended; and one that has just gone to
/// sleep, because all that it waits for may have ended in between.
pub(super) fn concerned(completion: &Completion) -> Option<i64> {
    let ack = &completion.ack.ack;
    match ack.state {
        state if state.is_terminal() => parent_of(&completion.job),
        State::Scheduled if ack.snoozed => Some(completion.job.id),
        _ => None,
    }
}
