//! All instances at once: whom a command about queues is for, what each answers, and who does not.

use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::exit::{Exit, Failure};
use crate::cli::tree::ask;
use crate::cli::{codes, live, output};
use crate::instance::InstanceRow;
use crate::node::Storage;
use crate::queue::QueueCheck;

/// Columns of [`rows`].
pub(super) const HEAD: [&str; 7] = ["instance", "queue", "limit", "paused", "running", "started", "state"];

/// What one instance says.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    pub(super) instance_id: String,
    /// Whether it answered, so that what it was told to do is done.
    pub(super) confirmed: bool,
    /// The queues that were asked about and that run there.
    pub(super) queues: Vec<QueueCheck>,
    /// Why there is no answer.
    pub(super) error: Option<String>,
    #[serde(skip)]
    failure: Option<Failure>,
}

#[derive(Deserialize)]
struct Said {
    queues: Vec<QueueCheck>,
}

/// All instances that are online, perhaps none, or the one that is named.
///
/// # Errors
/// Exit 3 when the one that is named is not online.
pub(super) async fn choose(storage: &Storage, wanted: Option<&str>) -> Result<Vec<InstanceRow>, Failure> {
    let mut rows = live::instances(storage).await?;
    let Some(wanted) = wanted else {
        rows.retain(live::is_live);
        return Ok(rows);
    };
    match rows.iter().find(|row| row.instance_id == wanted) {
        Some(row) if live::is_live(row) => Ok(vec![row.clone()]),
        Some(row) => Err(ask::offline(row)),
        None => Err(ask::unknown(wanted, &rows)),
    }
}

/// As [`choose`], but one that is named and not online is nobody.
pub(super) async fn online(storage: &Storage, wanted: Option<&str>) -> Result<Vec<InstanceRow>, Failure> {
    let mut rows = live::instances(storage).await?;
    rows.retain(|row| live::is_live(row) && wanted.is_none_or(|wanted| wanted == row.instance_id));
    Ok(rows)
}

/// Asks all of them at the same time.
pub(super) async fn ask_all(storage: &Storage, rows: &[InstanceRow], body: &Value, limit: Duration) -> Vec<Answer> {
    join_all(rows.iter().map(|row| ask_one(storage, row, body, limit))).await
}

async fn ask_one(storage: &Storage, row: &InstanceRow, body: &Value, limit: Duration) -> Answer {
    let said = ask::ask(storage, row, "queues", body, limit).await;
    let said = said.and_then(|said| Said::deserialize(&said).map_err(|error| ask::strange(&row.instance_id, &error)));
    let instance_id = row.instance_id.clone();
    match said {
        Ok(said) => Answer { instance_id, confirmed: true, queues: said.queues, error: None, failure: None },
        Err(failure) => {
            let error = failure.message.clone();
            Answer { instance_id, confirmed: false, queues: Vec::new(), error, failure: Some(failure) }
        }
    }
}

/// The failure of a command that not all have confirmed, with the exit code of the first that did not.
pub(super) fn unconfirmed(answers: &[Answer]) -> Option<Failure> {
    let failing = || answers.iter().filter(|answer| !answer.confirmed);
    let first = failing().next()?;
    let exit = first.failure.as_ref().map_or(Exit::Failed, |failure| failure.exit);
    let hint = first.failure.as_ref().and_then(|failure| failure.hint.clone());
    let names: Vec<&str> = failing().map(|answer| answer.instance_id.as_str()).collect();
    let details: Vec<&str> = failing().filter_map(|answer| answer.error.as_deref()).collect();
    let text = format!("not confirmed by {}\n{}", names.join(", "), details.join("\n"));
    let failure = Failure::new(exit, codes::NOT_CONFIRMED, text);
    Some(match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    })
}

/// Lines of a table: one a queue, or one that says why there is none.
pub(super) fn rows(answer: &Answer, queue: &str) -> Vec<Vec<String>> {
    let line = |queue: &str, state: &str| {
        let mut line = vec![answer.instance_id.clone(), queue.to_owned()];
        line.resize(HEAD.len() - 1, String::new());
        line.push(state.to_owned());
        line
    };
    if !answer.confirmed {
        return vec![line(queue, "no answer")];
    }
    if answer.queues.is_empty() {
        return vec![line(queue, "not here")];
    }
    let now = chrono::Utc::now();
    let of = |check: &QueueCheck| {
        let state = if check.shutdown_started_at.is_some() { "stopping" } else { "runs" };
        vec![
            answer.instance_id.clone(),
            check.queue.clone(),
            check.limit.to_string(),
            if check.paused { "yes" } else { "no" }.to_owned(),
            check.running.len().to_string(),
            output::relative(check.started_at, now),
            state.to_owned(),
        ]
    };
    answer.queues.iter().map(of).collect()
}
