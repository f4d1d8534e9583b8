//! The periodic jobs of this instance, with what a person should know about them.

use std::sync::Arc;

use crate::config::{Config, Mode, nearest};
use crate::queue::{Cron, CronArgs, Crontab, QueueError, Workers};
use crate::supervision::SupervisorSpec;

/// The entries of the configuration. What may be a mistake is logged; a worker that only other nodes know is none.
pub(super) fn crontab(config: &Config, workers: &Workers) -> Result<Arc<Crontab>, QueueError> {
    let crontab = Crontab::new(&config.cron, config.services.leader.lease.get(), workers)?;
    if config.mode == Mode::Guest {
        for entry in crontab.iter().filter(|entry| entry.expression().is_reboot()) {
            let entry = entry.name();
            tracing::warn!(target: "queue", entry, "only a leader inserts jobs of @reboot, and a guest never leads");
        }
    }
    let names = workers.names();
    for (name, entry) in config.cron.iter().filter(|(_, entry)| workers.get(&entry.worker).is_none()) {
        let worker = entry.worker.as_str();
        if let Some(near) = nearest(worker, names.iter().map(String::as_str)) {
            tracing::warn!(target: "queue", entry = %name, worker, near, "unknown worker of a periodic job");
        } else {
            tracing::info!(target: "queue", entry = %name, worker, "a periodic job's worker is one of other nodes");
        }
    }
    Ok(Arc::new(crontab))
}

/// `services` with the actor that inserts them, where there are any.
pub(super) fn with_cron(services: SupervisorSpec, args: CronArgs) -> SupervisorSpec {
    if args.crontab.is_empty() { services } else { services.child(Cron::child(args)) }
}
