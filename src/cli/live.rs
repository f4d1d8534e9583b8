//! Which instances are there, and what a person should know about them before a job waits for ever.

use serde::Deserialize as _;

use super::exit::Failure;
use crate::instance::{Identity, InstanceRow, Presence};
use crate::node::Storage;
use crate::queue::Pause;

/// All instances, those that are not offline first. Instances whose process is gone from this machine are marked
/// offline before, as every node does it all the time: a killed one would be shown as online until then.
///
/// # Errors
/// The database is away.
pub(super) async fn instances(storage: &Storage) -> Result<Vec<InstanceRow>, Failure> {
    let presence = Presence::new(storage.db().clone(), Identity::of_this_process("auto")?.host_key);
    presence.mark_gone().await?;
    Ok(presence.list().await?)
}

/// Whether it is there, in whatever mood.
pub(super) fn is_live(row: &InstanceRow) -> bool {
    row.status != "offline"
}

/// Workers that an instance knows.
pub(super) fn workers(row: &InstanceRow) -> Vec<&str> {
    let names = row.capabilities.get("workers").and_then(|workers| workers.as_array());
    names.into_iter().flatten().filter_map(|name| name.as_str()).collect()
}

/// Queues that an instance works on.
pub(super) fn queues(row: &InstanceRow) -> Vec<QueueView> {
    let queues = row.queues.as_object().into_iter().flatten();
    queues
        .map(|(name, values)| QueueView {
            queue: name.clone(),
            limit: values.get("limit").and_then(|value| value.as_u64()).unwrap_or_default(),
            running: values.get("running").and_then(|value| value.as_u64()).unwrap_or_default(),
            paused: values.get("paused").and_then(|value| value.as_bool()).unwrap_or_default(),
            pause: values.get("pause").and_then(|value| Pause::deserialize(value).ok()),
            stopping: values.get("stopping").and_then(|value| value.as_bool()).unwrap_or_default(),
        })
        .collect()
}

/// A queue as an instance's last heartbeat told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueueView {
    pub(super) queue: String,
    pub(super) limit: u64,
    pub(super) running: u64,
    pub(super) paused: bool,
    /// Who paused it, where that is known.
    pub(super) pause: Option<Pause>,
    /// It takes no more jobs and is about to be gone.
    pub(super) stopping: bool,
}

/// Why a job of `worker` in `queue` would wait although it is due, if it would. Without a queue only the worker
/// decides.
pub(super) fn obstacle(rows: &[InstanceRow], worker: &str, queue: Option<&str>) -> Option<String> {
    let claiming: Vec<&InstanceRow> = rows.iter().filter(|row| is_live(row) && row.status != "draining").collect();
    if claiming.is_empty() {
        return Some("no instance is online; the job waits until one is, start one with `singularity start`".into());
    }
    let knowing: Vec<&&InstanceRow> = claiming.iter().filter(|row| workers(row).contains(&worker)).collect();
    if knowing.is_empty() {
        let known = names(claiming.iter().flat_map(|row| workers(row)).map(str::to_owned));
        return Some(format!("no online instance knows worker \"{worker}\", so the job waits; known are {known}"));
    }
    let queue = queue?;
    let serving: Vec<QueueView> =
        knowing.iter().flat_map(|row| queues(row)).filter(|view| view.queue == queue && !view.stopping).collect();
    if serving.is_empty() {
        let known = names(knowing.iter().flat_map(|row| queues(row)).map(|view| view.queue));
        return Some(format!(
            "no online instance that knows worker \"{worker}\" works on queue \"{queue}\", so the job waits; queues are {known}"
        ));
    }
    serving.iter().all(|view| view.paused).then(|| format!("queue \"{queue}\" is paused, so the job waits"))
}

fn names(names: impl Iterator<Item = String>) -> String {
    let names: std::collections::BTreeSet<String> = names.collect();
    if names.is_empty() { "none".into() } else { names.into_iter().collect::<Vec<_>>().join(", ") }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::json;

    use super::*;

    fn row(status: &str, workers: &[&str], queues: serde_json::Value) -> InstanceRow {
        InstanceRow {
            instance_id: "a".into(),
            hostname: "h".into(),
            pid: "1".into(),
            status: status.into(),
            last_heartbeat: DateTime::UNIX_EPOCH,
            heartbeat_age_ms: 0,
            leader: false,
            load: 0,
            capabilities: json!({ "llm": true, "workers": workers }),
            queues,
            version: "0".into(),
            created_at: DateTime::UNIX_EPOCH,
            incarnation: uuid::Uuid::nil(),
            started_at: None,
            stale_after_ms: 30_000,
            registered_status: status.into(),
            died: false,
        }
    }

    #[test]
    fn says_what_a_job_would_wait_for() {
        let queues = json!({ "default": { "limit": 5, "paused": false, "running": 1, "producer": "x" } });
        let paused = json!({ "default": { "limit": 5, "paused": true, "running": 0, "producer": "x" } });
        let cases = [
            (vec![], Some("no instance is online")),
            (vec![row("offline", &["w"], queues.clone())], Some("no instance is online")),
            (vec![row("draining", &["w"], queues.clone())], Some("no instance is online")),
            (vec![row("online", &["v"], queues.clone())], Some("known are v")),
            (vec![row("online", &["w"], json!({ "other": {} }))], Some("queues are other")),
            (vec![row("paused", &["w"], paused)], Some("is paused")),
            (vec![row("online", &["v"], queues.clone()), row("online", &["w"], queues)], None),
        ];
        for (rows, part) in cases {
            let said = obstacle(&rows, "w", Some("default"));
            match part {
                Some(part) => {
                    assert!(said.as_deref().is_some_and(|said| said.contains(part)), "{said:?} lacks {part:?}")
                }
                None => assert_eq!(said, None),
            }
        }
    }
}
