//! One actor in detail, for people.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::view::{self, View};
use crate::cli::output;

/// Characters of an end's reason that are shown.
const REASON_CHARS_MAX: usize = 400;

/// What a node answers, as far as it is printed.
#[derive(Debug, Deserialize)]
struct Detail {
    node: Value,
    spec: Spec,
    #[serde(default)]
    history: Vec<End>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    restart: String,
    shutdown: String,
    significant: bool,
    start_timeout_ms: Option<u64>,
    backoff_ms: Option<(u64, u64)>,
    registered_name: Option<String>,
    protected: Option<String>,
}

#[derive(Debug, Deserialize)]
struct End {
    at: DateTime<Utc>,
    incarnation: u64,
    reason: String,
    lived_ms: i64,
    #[serde(default)]
    exit: Value,
}

/// The lines about the actor of this answer, and what is below it.
pub(super) fn lines(
    detail: &Value,
    depth: Option<usize>,
    now: DateTime<Utc>,
) -> Result<Vec<String>, serde_json::Error> {
    let detail = Detail::deserialize(detail)?;
    let view = View::deserialize(&detail.node)?;
    let mut pairs: Vec<(&str, String)> = vec![("path", view.path.clone())];
    let actor = if view.actor.is_empty() { String::new() } else { format!("{}, ", view.actor) };
    pairs.push(("actor", format!("{actor}{}", view.kind.replace('_', " "))));
    pairs.push(("state", state(&view, now)));
    pairs.push(("spec", spec(&detail.spec)));
    let more = [("protected", &detail.spec.protected), ("registered", &detail.spec.registered_name)];
    pairs.extend(more.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
    if !view.labels.is_empty() {
        let labels: Vec<_> = view.labels.iter().map(|(name, value)| format!("{name} {value}")).collect();
        pairs.push(("labels", labels.join("\n")));
    }
    if let Some(mailbox) = &view.mailbox {
        let oldest = mailbox.oldest_ms.map(|ms| format!(", the oldest for {}", output::millis(ms))).unwrap_or_default();
        let (depth, limit, processed) = (mailbox.depth, mailbox.limit, mailbox.processed);
        pairs.push(("mailbox", format!("{depth} of {limit} wait{oldest}; {processed} handled")));
    }
    if let Some(doing) = &view.current_message {
        pairs.push(("doing", format!("{doing} for {}", output::millis(view.busy_ms.unwrap_or_default()))));
    }
    if let Some(limit) = view.restart_limit {
        let strategy = view.strategy.as_ref().map(|strategy| format!("{strategy}, ")).unwrap_or_default();
        let window = view.restart_period_ms.map(|ms| format!(" within {}", output::millis(ms))).unwrap_or_default();
        pairs.push(("strategy", format!("{strategy}{} of {limit} restarts{window}", view.restarts_in_window)));
        pairs.push(("children", view::counts(&view)));
    }
    pairs.push(("restarts", format!("{} automatic", view.restarts_total)));
    if !detail.history.is_empty() {
        let ends: Vec<_> = detail.history.iter().rev().map(|end| describe(end, now)).collect();
        pairs.push(("ends", ends.join("\n")));
    }
    let pairs: Vec<_> = pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let mut lines = output::pair_lines(&pairs);
    if !view.children.is_empty() && depth != Some(0) {
        lines.push(view::tree(&detail.node, now)?);
    }
    Ok(lines)
}

fn state(view: &View, now: DateTime<Utc>) -> String {
    let mut parts = vec![view::state(view, now), format!("incarnation {}", view.incarnation)];
    if view.uptime_ms > 0 {
        parts.push(format!("up {}", output::millis(view.uptime_ms)));
    }
    parts.join(", ")
}

fn spec(spec: &Spec) -> String {
    let mut parts = vec![spec.restart.clone(), format!("shutdown {}", spec.shutdown.replace('_', " "))];
    if spec.significant {
        parts.push("significant".into());
    }
    let millis = |ms: u64| output::millis(i64::try_from(ms).unwrap_or(i64::MAX));
    parts.extend(spec.start_timeout_ms.map(|ms| format!("start within {}", millis(ms))));
    parts.extend(spec.backoff_ms.map(|(min, max)| format!("backoff {} to {}", millis(min), millis(max))));
    parts.join(", ")
}

fn describe(end: &End, now: DateTime<Utc>) -> String {
    let place = end.exit.pointer("/detail/location").and_then(Value::as_str);
    let place = place.map(|place| format!(" at {place}")).unwrap_or_default();
    let reason = output::shortened(&end.reason, REASON_CHARS_MAX);
    let (when, lived) = (output::relative(end.at, now), output::millis(end.lived_ms));
    format!("{when}, incarnation {} after {lived}: {reason}{place}", end.incarnation)
}
