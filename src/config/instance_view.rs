//! What holds on one instance: its table under `[instances]` laid over the common ones.

use std::collections::BTreeMap;

use super::load::Loaded;
use super::model::{Config, Queue, QueueChange};

impl QueueChange {
    /// The queue with what this states.
    pub fn over(&self, queue: &Queue) -> Queue {
        Queue {
            limit: self.limit.unwrap_or(queue.limit),
            paused: self.paused.unwrap_or(queue.paused),
            start: self.start.unwrap_or(queue.start),
            poll_interval: self.poll_interval.unwrap_or(queue.poll_interval),
            dispatch_cooldown: self.dispatch_cooldown.unwrap_or(queue.dispatch_cooldown),
            on_stuck: self.on_stuck.unwrap_or(queue.on_stuck),
            blocking_max: self.blocking_max.or(queue.blocking_max),
        }
    }
}

impl Config {
    /// All queues of the file as they are on the instance with this id, also those that do not start with it.
    pub fn queues_of(&self, instance_id: &str) -> BTreeMap<String, Queue> {
        let changes = self.instances.get(instance_id).map(|table| &table.queues);
        let over = |name: &str, queue: &Queue| {
            changes.and_then(|changes| changes.get(name)).map_or_else(|| queue.clone(), |change| change.over(queue))
        };
        self.queues.iter().map(|(name, queue)| (name.clone(), over(name, queue))).collect()
    }
}

impl Loaded {
    /// The configuration as it is on the instance with this id: its table has gone into the common ones, and each value
    /// keeps the origin that it has there. The tables of the instances stay, so that it loads as the same.
    #[must_use]
    pub fn on_instance(&self, instance_id: &str) -> Self {
        let mut view = self.clone();
        view.config.queues = self.config.queues_of(instance_id);
        let table = format!("instances.{instance_id}.");
        for (key, origin) in &self.origins {
            if let Some(common) = key.strip_prefix(&table) {
                view.origins.insert(common.to_owned(), origin.clone());
            }
        }
        view
    }
}
