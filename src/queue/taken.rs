//! Running jobs that somebody else has taken: found, reported and told to stop.
//!
//! What such an attempt comes to does not count any more, because every write of it is guarded, and most likely another
//! runs the job already. Code that cannot be stopped goes on; its result is superseded.
//!
//! The other may be this very queue: what a runtime that does not know who lives makes available again, any producer
//! may claim. Then the row has the right owner, and only the claim tells.

use super::engine::Engine;
use super::error::QueueError;
use super::job::Job;
use super::slots::QueueState;
use super::state::State;
use super::stop::StopCause;

/// Looks at the rows of all jobs whose code runs in `queue` and stops those that are not ours any more. Only the
/// queue's producer may call it, between its claims.
///
/// # Errors
/// [`QueueError::Db`].
pub(super) async fn stop_taken(engine: &Engine, queue: &QueueState) -> Result<(), QueueError> {
    let running = queue.unfinished_ids();
    if running.is_empty() {
        return Ok(());
    }
    let taken = engine.taken(queue.producer(), &running).await?;
    if taken.is_empty() {
        return Ok(());
    }
    // A row that changed because its attempt came to its end meanwhile is no surprise.
    let still = queue.unfinished_ids();
    for job in taken.iter().filter(|job| still.binary_search(&job.id).is_ok()) {
        let state = job.state.map_or("gone", State::as_str);
        tracing::warn!(
            target: "job", id = job.id, queue = queue.name(), row = state,
            "job was taken from this instance while it runs; it is told to stop, and what it comes to does not count"
        );
        for signal in queue.stop_signals_of(job.id) {
            signal.stop(StopCause::Cancelled);
        }
    }
    Ok(())
}

/// Stops what still runs in `queue` of jobs that it has just claimed: somebody made them available meanwhile.
pub(super) fn stop_claimed_again(queue: &QueueState, claimed: &[Job]) {
    for (id, signal) in queue.unfinished_among(claimed.iter().map(|job| job.id)) {
        tracing::warn!(
            target: "job", id, queue = queue.name(),
            "job was made available by somebody else while it runs here, and is claimed again; the attempt that runs is \
             told to stop, and what it comes to does not count"
        );
        signal.stop(StopCause::Cancelled);
    }
}
