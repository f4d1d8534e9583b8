//! Which queues and workers there are, for whoever misspells one.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::timeout;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::{codes, live};
use crate::config::nearest;
use crate::instance::{InstanceRow, Settings};
use crate::node::{Storage, queue_of};
use crate::postgres::notifier::{self, Event, Listener, ListenerOptions, encoding};
use crate::queue::Engine;
use crate::workflow::agents::{AGENT_COORDINATION, AGENT_TASK};
use crate::workflow::{EMBEDDING, LLM_REQUEST};

/// How long nodes of other runtimes are listened to before a queue is said to be nobody's: they tell of their queues
/// every 0.75 s (Elixir, with Oban Web) or every second (Python).
const GOSSIP_LIMIT: Duration = Duration::from_millis(1_600);

/// Workers of the built-in workflows.
const BUILT_IN: [&str; 4] = [LLM_REQUEST, EMBEDDING, AGENT_COORDINATION, AGENT_TASK];

/// Checks sent by gossip, as far as they matter here.
#[derive(Deserialize)]
struct Gossip {
    checks: Vec<Told>,
}

#[derive(Deserialize)]
struct Told {
    queue: String,
}

/// Refuses a queue that nobody has: the configuration does not name it, no job is in it, no instance ran it when it was
/// last heard of, nothing is kept for it, and no node of another runtime tells of it. One of another runtime that tells
/// nobody of its queues, and that never had a job, cannot be told from those.
///
/// # Errors
/// Exit 3, and those of the database.
pub(super) async fn queue(storage: &Storage, context: &Context, wanted: &str) -> Result<(), Failure> {
    let engine = Engine::new(storage.db().clone());
    let mut names = configured(context);
    if names.contains(wanted) || engine.has_queue(wanted).await? {
        return Ok(());
    }
    names.extend(live::instances(storage).await?.iter().flat_map(live::queues).map(|view| view.queue));
    let kept = Settings::new(storage.db().clone()).in_force(None).await?;
    names.extend(kept.iter().filter_map(|setting| queue_of(&setting.key)).map(|(queue, _)| queue.to_owned()));
    names.extend(engine.python_queues().await?);
    if names.contains(wanted) || is_gossiped(storage, wanted).await {
        return Ok(());
    }
    names.extend(engine.queue_counts().await?.into_iter().map(|counts| counts.queue));
    let text = format!(
        "there is no queue \"{wanted}\": no instance runs it, no job is in it, and the configuration does not name it"
    );
    let failure = Failure::new(Exit::NotFound, codes::NO_QUEUE, text);
    Err(match nearest(wanted, names.iter().map(String::as_str)) {
        Some(near) => failure.hint(format!("did you mean \"{near}\"?")),
        None => failure.hint("see `singularity queue list`, or start it with `singularity queue start`"),
    })
}

/// As [`queue`], of several.
///
/// # Errors
/// As [`queue`], for the first that nobody has.
pub(super) async fn queues(storage: &Storage, context: &Context, wanted: Option<&[String]>) -> Result<(), Failure> {
    for name in wanted.unwrap_or_default() {
        queue(storage, context, name).await?;
    }
    Ok(())
}

/// Refuses a worker that nobody knows: it is none of the built-in workflows, the configuration names no periodic job of
/// it, no instance knew it when it was last heard of, and none of the newest jobs that were performed is one of it.
/// Before any instance is online only what looks like a known one misspelled is refused, unless somebody `waits` for
/// the job.
///
/// # Errors
/// Exit 3, and those of the database.
pub(super) async fn worker(
    storage: &Storage,
    context: &Context,
    instances: &[InstanceRow],
    wanted: &str,
    waits: bool,
) -> Result<(), Failure> {
    let mut names: BTreeSet<&str> = BUILT_IN.into();
    names.extend(context.config.cron.values().map(|entry| entry.worker.as_str()));
    names.extend(instances.iter().flat_map(live::workers));
    if names.contains(wanted) {
        return Ok(());
    }
    let performed = Engine::new(storage.db().clone()).performed_workers().await?;
    names.extend(performed.iter().map(String::as_str));
    if names.contains(wanted) {
        return Ok(());
    }
    let near = nearest(wanted, names.iter().copied());
    if near.is_none() && !waits && !instances.iter().any(live::is_live) {
        return Ok(());
    }
    let text = format!("nobody knows worker \"{wanted}\": no instance has it, and no job of it was performed lately");
    let known = names.into_iter().collect::<Vec<_>>().join(", ");
    let meant = near.map_or_else(|| format!("known are {known};"), |near| format!("did you mean \"{near}\"?"));
    Err(Failure::new(Exit::NotFound, codes::NO_WORKER, text)
        .hint(format!("{meant} add --later where its instance starts later or is of another runtime")))
}

fn configured(context: &Context) -> BTreeSet<String> {
    let config = &context.config;
    let of_instances = config.instances.values().flat_map(|instance| instance.queues.keys());
    let of_cron = config.cron.values().filter_map(|entry| entry.queue.as_ref());
    config.queues.keys().chain(of_instances).chain(of_cron).cloned().collect()
}

/// Whether anybody says within [`GOSSIP_LIMIT`] that it runs this queue. Where nothing can be heard, nobody does.
async fn is_gossiped(storage: &Storage, wanted: &str) -> bool {
    let mut listener = Listener::new(storage.db(), &[notifier::GOSSIP], ListenerOptions::default());
    let heard = async {
        loop {
            if let Event::Notified { payload, .. } = listener.next().await
                && tells_of(&payload, wanted)
            {
                return;
            }
        }
    };
    timeout(GOSSIP_LIMIT, heard).await.is_ok()
}

fn tells_of(payload: &str, wanted: &str) -> bool {
    let text = encoding::read(payload).ok();
    let gossip = text.and_then(|text| serde_json::from_str::<Gossip>(&text).ok());
    gossip.is_some_and(|gossip| gossip.checks.iter().any(|told| told.queue == wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gossip_of_other_runtimes_names_their_queues() {
        let told = r#"{"checks":[{"node":"web.1","name":"Oban","queue":"mailers","limit":5},{"queue":"media"}]}"#;
        assert!(tells_of(told, "mailers") && tells_of(told, "media") && !tells_of(told, "mail"));
        assert!(!tells_of("", "mail") && !tells_of(r#"{"checks":[{"node":"x"}]}"#, "mail"));
    }
}
