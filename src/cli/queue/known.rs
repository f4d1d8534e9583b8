//! Which queues there are, for whoever misspells one.

use std::collections::BTreeSet;

use crate::cli::codes;
use crate::cli::exit::{Exit, Failure};
use crate::cli::live;
use crate::config::{Config, nearest};
use crate::instance::InstanceRow;
use crate::postgres::notifier::message::QUEUE_ANY;
use crate::queue::Engine;

/// Refuses a queue that nobody has: no instance runs it, no job is in it, the configuration does not name it. One that
/// only an Oban node of another language runs, and that never had a job, cannot be told from those.
///
/// # Errors
/// Exit 3.
pub(super) async fn check(engine: &Engine, rows: &[InstanceRow], config: &Config, queue: &str) -> Result<(), Failure> {
    let mut names: BTreeSet<String> = config.queues.keys().cloned().collect();
    names.extend(rows.iter().flat_map(live::queues).map(|view| view.queue));
    if queue == QUEUE_ANY || names.contains(queue) || engine.has_queue(queue).await? {
        return Ok(());
    }
    let text = format!("there is no queue \"{queue}\": no instance runs it, and no job is in it");
    let failure = Failure::new(Exit::NotFound, codes::NO_QUEUE, text);
    Err(match nearest(queue, names.iter().map(String::as_str)) {
        Some(near) => failure.hint(format!("did you mean \"{near}\"?")),
        None => failure.hint("see `singularity queue list`, or start it with `singularity queue start`"),
    })
}
