//! The tree as text, one line an actor.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;
use termtree::Tree;

use crate::cli::output;

/// Characters of a failure's reason that are shown.
const REASON_CHARS_MAX: usize = 100;
/// An actor that handles one message for so long is called stuck.
const STUCK_AFTER_MS: i64 = 30_000;

/// A node of the tree, as far as it is printed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct View {
    id: String,
    pub(super) path: String,
    pub(super) kind: String,
    pub(super) actor: String,
    pub(super) state: String,
    pub(super) strategy: Option<String>,
    pub(super) incarnation: u64,
    pub(super) restarts_total: u64,
    pub(super) restarts_in_window: u64,
    pub(super) restart_limit: Option<u64>,
    pub(super) restart_period_ms: Option<i64>,
    retry_at: Option<DateTime<Utc>>,
    pub(super) uptime_ms: i64,
    last_exit: Option<Exited>,
    pub(super) mailbox: Option<Mailbox>,
    pub(super) current_message: Option<String>,
    pub(super) busy_ms: Option<i64>,
    pub(super) labels: BTreeMap<String, String>,
    children_total: usize,
    children_by_state: BTreeMap<String, usize>,
    pub(super) children: Vec<View>,
}

#[derive(Debug, Deserialize)]
struct Exited {
    reason: String,
    at: DateTime<Utc>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Mailbox {
    pub(super) depth: u64,
    #[serde(default)]
    pub(super) limit: u64,
    #[serde(default)]
    pub(super) oldest_ms: Option<i64>,
    #[serde(default)]
    pub(super) processed: u64,
}

/// Removes what is deeper than `depth` levels below this node.
pub(super) fn prune(tree: &mut Value, depth: usize) {
    let Some(children) = tree.get_mut("children").and_then(Value::as_array_mut) else { return };
    if depth == 0 {
        children.clear();
    }
    children.iter_mut().for_each(|child| prune(child, depth - 1));
}

/// The tree of an answer, without a line end after it.
pub(super) fn tree(tree: &Value, now: DateTime<Utc>) -> Result<String, serde_json::Error> {
    let view = View::deserialize(tree)?;
    Ok(branch(&view, now).to_string().trim_end().to_owned())
}

fn branch(view: &View, now: DateTime<Utc>) -> Tree<String> {
    let hidden = view.children_total.saturating_sub(view.children.len());
    let more = (hidden > 0 && !view.children.is_empty())
        .then(|| Tree::new(format!("{hidden} more, found by their path; of all {}", counts(view))));
    Tree::new(describe(view, now)).with_leaves(view.children.iter().map(|child| branch(child, now)).chain(more))
}

/// How many children there are, by state.
pub(super) fn counts(view: &View) -> String {
    let states: Vec<_> = view.children_by_state.iter().map(|(state, count)| format!("{count} {state}")).collect();
    match view.children_total {
        0 => "none".into(),
        total => format!("{total}: {}", states.join(", ")),
    }
}

/// What it is doing, with a word more where somebody should look.
pub(super) fn state(view: &View, now: DateTime<Utc>) -> String {
    match view.state.as_str() {
        "zombie" => "ZOMBIE, killed but does not end".into(),
        "suspended" => "SUSPENDED, takes no messages".into(),
        "restarting" => match view.retry_at {
            Some(at) => format!("restarting {}", output::relative(at, now)),
            None => view.state.clone(),
        },
        "running" => match (view.busy_ms, &view.current_message) {
            (Some(ms), Some(message)) if ms >= STUCK_AFTER_MS => {
                format!("STUCK, handles {message} for {}", output::millis(ms))
            }
            _ => view.state.clone(),
        },
        _ => view.state.clone(),
    }
}

fn describe(view: &View, now: DateTime<Utc>) -> String {
    // An executor is named by its job's id alone.
    let is_job = view.labels.contains_key("attempt") && view.id.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts = vec![if is_job { format!("job {}", view.id) } else { view.id.clone() }];
    match view.kind.as_str() {
        "worker" => {}
        kind => parts
            .push(format!("({})", view.strategy.as_deref().unwrap_or(kind).replace("dynamic_supervisor", "dynamic"))),
    }
    parts.push(state(view, now));
    parts.extend(view.labels.iter().map(|(name, value)| format!("{name} {value}")));
    match view.restart_limit {
        Some(limit) => parts.push(format!("restarts {}/{limit}", view.restarts_in_window)),
        None if view.restarts_total > 0 => parts.push(format!("restarted {} times", view.restarts_total)),
        None => {}
    }
    if view.uptime_ms > 0 {
        parts.push(format!("up {}", output::millis(view.uptime_ms)));
    }
    if let Some(mailbox) = view.mailbox.as_ref().filter(|mailbox| mailbox.depth > 0) {
        parts.push(format!("mailbox {}/{}", mailbox.depth, mailbox.limit));
    }
    if view.children.is_empty() && view.children_total > 0 {
        parts.push(format!("children {}", counts(view)));
    }
    if let Some(exit) = &view.last_exit {
        let reason = output::shortened(&exit.reason, REASON_CHARS_MAX);
        let is_clean = reason == "normal" || reason.starts_with("shutdown");
        let when = output::relative(exit.at, now);
        if !is_clean {
            parts.push(format!("last failure {when}: {reason}"));
        } else if view.state == "stopped" {
            // An orderly end before the present life is not worth a word.
            parts.push(format!("ended {when}: {reason}"));
        }
    }
    parts.join("  ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tree() -> Value {
        let mail = json!({ "depth": 3, "limit": 16, "oldest_ms": 1, "processed": 9 });
        json!({
            "id": "singularity", "path": "/", "kind": "supervisor", "state": "running", "strategy": "rest_for_one",
            "restarts_in_window": 1, "restart_limit": 3, "uptime_ms": 61_000, "labels": {}, "later": true,
            "children": [
                { "id": "default", "kind": "dynamic_supervisor", "state": "running", "restart_limit": 0, "children": [
                    { "id": "7", "kind": "worker", "state": "running", "uptime_ms": 850,
                      "labels": { "worker": "llm_request", "attempt": "1/5", "step": "call_llm" }, "mailbox": mail },
                ] },
            ],
        })
    }

    #[test]
    fn a_line_tells_state_restarts_uptime_labels_and_mailbox() {
        let view = View::deserialize(&tree()).unwrap();
        let text = branch(&view, Utc::now()).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "singularity  (rest_for_one)  running  restarts 1/3  up 1m 1s");
        assert_eq!(lines[1], "└── default  (dynamic)  running  restarts 0/0");
        assert_eq!(
            lines[2],
            "    └── job 7  running  attempt 1/5  step call_llm  worker llm_request  up 850ms  mailbox 3/16"
        );
    }

    #[test]
    fn a_failure_is_told_on_the_line() {
        let now = Utc::now();
        let last_exit = Some(Exited { reason: "panic: boom\nat x".into(), at: now - chrono::TimeDelta::seconds(5) });
        let view =
            View { id: "stager".into(), kind: "worker".into(), state: "running".into(), last_exit, ..View::default() };
        assert_eq!(describe(&view, now), "stager  running  last failure 5.0s ago: panic: boom at x");
    }

    #[test]
    fn what_somebody_should_look_at_is_said_in_words() {
        let now = Utc::now();
        let worker = |change: Value| {
            let mut node = json!({ "id": "x", "kind": "worker", "state": "running" });
            node.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            describe(&View::deserialize(&node).unwrap(), now)
        };
        assert_eq!(worker(json!({ "state": "zombie" })), "x  ZOMBIE, killed but does not end");
        assert_eq!(worker(json!({ "state": "suspended" })), "x  SUSPENDED, takes no messages");
        let busy = json!({ "current_message": "beat", "busy_ms": 61_000 });
        assert_eq!(worker(busy), "x  STUCK, handles beat for 1m 1s");
        assert_eq!(worker(json!({ "current_message": "beat", "busy_ms": 10 })), "x  running");
        let retry_at = now + chrono::TimeDelta::milliseconds(2_500);
        assert_eq!(worker(json!({ "state": "restarting", "retry_at": retry_at })), "x  restarting in 2.5s");
    }

    #[test]
    fn children_that_are_not_shown_are_counted() {
        let child = json!({ "id": "1", "kind": "worker", "state": "running" });
        let counts = json!({ "running": 1_999, "stopping": 1 });
        let node = |children: Vec<Value>| {
            let node = json!({ "id": "jobs", "kind": "dynamic_supervisor", "state": "running",
                "children_total": 2_000, "children_by_state": counts, "children": children });
            super::tree(&node, Utc::now()).unwrap()
        };
        let shown = node(vec![child]);
        assert!(
            shown.ends_with("└── 1999 more, found by their path; of all 2000: 1999 running, 1 stopping"),
            "{shown}"
        );
        assert_eq!(node(vec![]), "jobs  (dynamic)  running  children 2000: 1999 running, 1 stopping");
    }

    #[test]
    fn an_orderly_end_is_told_while_nothing_runs() {
        let now = Utc::now();
        let of = |state: &str| {
            let last_exit = Some(Exited { reason: "shutdown".into(), at: now - chrono::TimeDelta::seconds(5) });
            describe(
                &View { id: "x".into(), kind: "worker".into(), state: state.into(), last_exit, ..View::default() },
                now,
            )
        };
        assert_eq!(
            (of("running"), of("stopped")),
            ("x  running".into(), "x  stopped  ended 5.0s ago: shutdown".into())
        );
    }

    #[test]
    fn pruning_keeps_the_wanted_levels() {
        for (depth, nodes) in [(0, 1), (1, 2), (2, 3), (9, 3)] {
            let mut tree = tree();
            prune(&mut tree, depth);
            let text = branch(&View::deserialize(&tree).unwrap(), Utc::now()).to_string();
            assert_eq!(text.lines().count(), nodes);
        }
    }
}
