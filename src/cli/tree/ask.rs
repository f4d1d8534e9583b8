//! Which instances are asked, and what they answer.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::cli::codes;
use crate::cli::exit::{Exit, Failure};
use crate::cli::{live, output};
use crate::config::nearest;
use crate::instance::{self, Identity, InstanceError, InstanceRow, Refusal, RefusalKind};
use crate::node::Storage;

/// Whom a command is about.
pub(in crate::cli) enum Chosen {
    /// Those that are there, at least one.
    Live(Vec<InstanceRow>),
    /// The one that was named, which is offline.
    Offline(Box<InstanceRow>),
}

/// All instances that are there, or the one that is named.
///
/// # Errors
/// Exit 3 when nobody is there, or nobody of this name was ever.
pub(in crate::cli) async fn choose(storage: &Storage, wanted: Option<&str>) -> Result<Chosen, Failure> {
    let rows = live::instances(storage).await?;
    let Some(wanted) = wanted else {
        let online: Vec<_> = rows.into_iter().filter(live::is_live).collect();
        if online.is_empty() {
            let failure = Failure::new(Exit::NotFound, codes::NOBODY_ONLINE, "no instance is online");
            return Err(
                failure.hint("start one with `singularity start`; `singularity tree events` tells of former ones")
            );
        }
        return Ok(Chosen::Live(online));
    };
    match rows.iter().find(|row| row.instance_id == wanted) {
        Some(row) if live::is_live(row) => Ok(Chosen::Live(vec![row.clone()])),
        Some(row) => Ok(Chosen::Offline(Box::new(row.clone()))),
        None => Err(unknown(wanted, &rows)),
    }
}

/// Nobody of this name was ever here.
pub(in crate::cli) fn unknown(wanted: &str, rows: &[InstanceRow]) -> Failure {
    let error = InstanceError::NotOnline { instance_id: wanted.to_owned(), status: "unknown".into() };
    let failure = Failure::coded(Exit::NotFound, &error);
    let names = rows.iter().filter(|row| live::is_live(row)).map(|row| row.instance_id.as_str());
    match nearest(wanted, rows.iter().map(|row| row.instance_id.as_str())) {
        Some(near) => failure.hint(format!("did you mean \"{near}\"? See `singularity instance list`")),
        None if names.clone().next().is_some() => {
            failure.hint(format!("one of those that are online: {}", names.collect::<Vec<_>>().join(", ")))
        }
        None => failure.hint("see `singularity instance list --all`"),
    }
}

/// The instance that was named is not there.
pub(in crate::cli) fn offline(row: &InstanceRow) -> Failure {
    let status = format!("{}, last heartbeat {} ago", row.status, output::millis(row.heartbeat_age_ms));
    let error = InstanceError::NotOnline { instance_id: row.instance_id.clone(), status };
    Failure::coded(Exit::NotFound, &error)
        .hint(format!("see `singularity tree events --instance {}` for what happened there", row.instance_id))
}

/// Asks one instance. `by` is who asks.
///
/// # Errors
/// Exit 5 when it does not answer, and what it says when it refuses.
pub(in crate::cli) async fn ask(
    storage: &Storage,
    row: &InstanceRow,
    action: &str,
    body: &Value,
    limit: Duration,
) -> Result<Value, Failure> {
    let answer = instance::ask(storage.db(), &row.instance_id, action, body, &by()?, limit).await;
    match answer {
        Ok(answer) => match answer.get("error") {
            Some(error) => Err(refused(&row.instance_id, error)),
            None => Ok(answer),
        },
        Err(error @ InstanceError::NoAnswer { .. }) => {
            let age = output::millis(row.heartbeat_age_ms);
            let text = format!("{error}; its last heartbeat was {age} ago");
            Err(Failure::new(Exit::TimedOut, InstanceError::NO_ANSWER, text)
                .hint("see `singularity instance list` for its heartbeats, and its log"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Who gives orders here: user, host and process.
pub(in crate::cli) fn by() -> Result<String, Failure> {
    let me = Identity::of_this_process("auto")?;
    let user = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
    let uid = || std::fs::metadata("/proc/self").ok().map(|own| format!("uid {}", own.uid()));
    let user = user.or_else(uid).unwrap_or_else(|| "unknown".into());
    Ok(format!("{user}@{}, process {}", me.hostname, me.pid))
}

fn refused(instance_id: &str, error: &Value) -> Failure {
    let Ok(refusal) = Refusal::deserialize(error) else {
        // A version without codes.
        let text = error.as_str().map_or_else(|| error.to_string(), str::to_owned);
        let text = format!("instance \"{instance_id}\" refuses: {text}");
        return Failure::new(Exit::Failed, codes::STRANGE_ANSWER, text)
            .hint("use the program version of that instance");
    };
    let exit = match refusal.kind {
        RefusalKind::Invalid => Exit::Usage,
        RefusalKind::NotFound => Exit::NotFound,
        RefusalKind::Refused => Exit::Conflict,
        RefusalKind::TimedOut => Exit::TimedOut,
        RefusalKind::Failed => Exit::Failed,
    };
    let failure = Failure::new(exit, &refusal.code, format!("instance \"{instance_id}\": {}", refusal.text));
    failure.hint(refusal.hint.unwrap_or_else(|| format!("see `singularity tree --instance {instance_id}`")))
}

/// An answer that this program does not understand.
pub(in crate::cli) fn strange(instance_id: &str, error: &serde_json::Error) -> Failure {
    let text = format!("the answer of instance \"{instance_id}\" cannot be read: {error}");
    Failure::new(Exit::Failed, codes::STRANGE_ANSWER, text).hint("use --json, or the program version of that instance")
}
