//! What each instance holds of routing at this moment, and who does not say.

use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cli::exit::{Exit, Failure};
use crate::cli::tree::ask;
use crate::cli::{codes, live};
use crate::cloud::sync::Holding;
use crate::instance::InstanceRow;
use crate::node::Storage;

/// What one instance says.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Answer {
    pub(in crate::cli) instance_id: String,
    /// What it holds; `null` where it does not say.
    pub(in crate::cli) holds: Option<Holding>,
    /// Why there is no answer.
    pub(in crate::cli) error: Option<String>,
    #[serde(skip)]
    failure: Option<Failure>,
}

/// Refuses an instance that nobody has ever seen, before anything is ordered for it.
///
/// # Errors
/// Exit 3.
pub(in crate::cli) async fn check(storage: &Storage, wanted: Option<&str>) -> Result<(), Failure> {
    let rows = live::instances(storage).await?;
    match wanted.filter(|wanted| !rows.iter().any(|row| row.instance_id == **wanted)) {
        Some(wanted) => Err(ask::unknown(wanted, &rows)),
        None => Ok(()),
    }
}

/// Asks all instances that are online, or the one that is named, to look at what was ordered and say what they hold.
///
/// # Errors
/// The database is away. An instance that is offline says nothing.
pub(in crate::cli) async fn ask_all(
    storage: &Storage,
    wanted: Option<&str>,
    limit: Duration,
) -> Result<Vec<Answer>, Failure> {
    let rows = live::instances(storage).await?;
    let asked = rows.iter().filter(|row| live::is_live(row) && wanted.is_none_or(|wanted| wanted == row.instance_id));
    Ok(join_all(asked.map(|row| ask_one(storage, row, limit))).await)
}

async fn ask_one(storage: &Storage, row: &InstanceRow, limit: Duration) -> Answer {
    let said = ask::ask(storage, row, "routing", &json!({}), limit).await;
    let said =
        said.and_then(|said| Holding::deserialize(&said).map_err(|error| ask::strange(&row.instance_id, &error)));
    let instance_id = row.instance_id.clone();
    match said {
        Ok(holds) => Answer { instance_id, holds: Some(holds), error: None, failure: None },
        Err(failure) => Answer { instance_id, holds: None, error: failure.message.clone(), failure: Some(failure) },
    }
}

/// The failure of a command that not all have answered, with the exit code of the first that did not.
pub(in crate::cli) fn unanswered(answers: &[Answer]) -> Option<Failure> {
    let failing = || answers.iter().filter(|answer| answer.holds.is_none());
    let first = failing().next()?;
    let exit = first.failure.as_ref().map_or(Exit::Failed, |failure| failure.exit);
    let names: Vec<&str> = failing().map(|answer| answer.instance_id.as_str()).collect();
    let details: Vec<&str> = failing().filter_map(|answer| answer.error.as_deref()).collect();
    let text = format!("not confirmed by {}\n{}", names.join(", "), details.join("\n"));
    Some(Failure::new(exit, codes::NOT_CONFIRMED, text).hint("it looks by itself within [cloud] sync_interval"))
}
