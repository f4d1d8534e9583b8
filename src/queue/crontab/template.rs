//! The job of a periodic entry: what its worker's options say, and over it what the entry says. Pure.

use super::super::error::QueueError;
use super::super::new_job::NewJob;
use super::super::unique::Unique;
use super::super::worker::Workers;
use crate::config::{Cron, CronUnique};

/// The job of `config`, without what says where it comes from.
///
/// # Errors
/// [`QueueError::Unique`]; not with a configuration that was loaded.
pub(super) fn template(config: &Cron, workers: &Workers) -> Result<NewJob, QueueError> {
    let mut job = workers.template(NewJob::new(config.worker.as_str(), config.args.0.clone().into()));
    if let Some(queue) = &config.queue {
        job.queue.clone_from(queue);
    }
    if let Some(max_attempts) = config.max_attempts {
        job.max_attempts = i32::try_from(max_attempts).unwrap_or(i32::MAX);
    }
    if let Some(priority) = config.priority {
        job.priority = i32::try_from(priority).unwrap_or(i32::MAX);
    }
    if let Some(tags) = &config.tags {
        job.tags.clone_from(tags);
    }
    if let Some(own) = &config.unique {
        job.unique = Some(over(job.unique.take().unwrap_or_default(), own)?);
    }
    job.meta.clone_from(&config.meta.0);
    Ok(job)
}

/// What the worker says, with the keys that the entry names.
fn over(mut unique: Unique, own: &CronUnique) -> Result<Unique, QueueError> {
    let refused = |reason: String| QueueError::Unique { reason };
    if let Some(fields) = &own.fields {
        unique.fields = fields.iter().map(|name| name.parse()).collect::<Result<_, _>>().map_err(refused)?;
    }
    if let Some(keys) = &own.keys {
        unique.keys.clone_from(keys);
    }
    if let Some(period) = own.period {
        unique.period = period.get();
    }
    if let Some(names) = &own.states {
        let groups: Vec<_> =
            names.iter().map(|name| Unique::states_named(name)).collect::<Result<_, _>>().map_err(refused)?;
        unique.states = groups.concat();
    }
    if let Some(timestamp) = &own.timestamp {
        unique.timestamp = timestamp.parse().map_err(refused)?;
    }
    Ok(unique)
}
