//! `singularity tree`: the live supervision tree of a node, asked through the database.
//!
//! The answer is read leniently, because the node may be of another version than this program.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use termtree::Tree;

use super::codes;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::{live, output};
use crate::instance::{self, InstanceError, InstanceRow};
use crate::node::Storage;

/// Longest wait for an answer; a live node looks at least once a second.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Characters of a failure's reason that are shown.
const REASON_CHARS_MAX: usize = 100;

/// Whose tree, and how much of it.
#[derive(Debug, Args)]
pub(super) struct TreeArgs {
    /// Only this instance; without it all that are online
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// Levels below the root that are shown; 0 is the root alone
    #[arg(long, value_name = "N")]
    depth: Option<usize>,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Listing {
    instances: Vec<Answered>,
}

#[derive(Serialize)]
struct Answered {
    instance_id: String,
    status: String,
    tree: Value,
}

/// A node of the tree, as far as it is printed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct View {
    id: String,
    kind: String,
    state: String,
    strategy: Option<String>,
    restarts_total: u64,
    restarts_in_window: u64,
    restart_limit: Option<u64>,
    uptime_ms: i64,
    last_exit: Option<Exited>,
    mailbox: Option<Mailbox>,
    labels: BTreeMap<String, String>,
    children: Vec<View>,
}

#[derive(Debug, Deserialize)]
struct Exited {
    reason: String,
    at: DateTime<Utc>,
}

#[derive(Debug, Deserialize)]
struct Mailbox {
    depth: u64,
    #[serde(default)]
    limit: u64,
}

/// Does it.
///
/// # Errors
/// Exit 3 when no such instance is online, 5 when one does not answer, and those of the database.
pub(super) async fn run(args: TreeArgs, context: &Context) -> Result<(), Failure> {
    let (answered, silent) = context.with_tables(async |storage| ask(storage, args.instance.as_deref()).await).await?;
    let mut shown = Vec::with_capacity(answered.len());
    for (row, mut tree) in answered {
        if let Some(depth) = args.depth {
            prune(&mut tree, depth);
        }
        shown.push(Answered { instance_id: row.instance_id, status: row.status, tree });
    }
    if args.json {
        output::document("singularity.tree.v1", &Listing { instances: shown })?;
    } else {
        for answered in &shown {
            print(answered)?;
        }
    }
    silent.map_or(Ok(()), Err)
}

/// Trees of those that answered, and the failure that tells who did not.
type Asked = (Vec<(InstanceRow, Value)>, Option<Failure>);

async fn ask(storage: &Storage, wanted: Option<&str>) -> Result<Asked, Failure> {
    let rows = live::instances(storage).await?;
    let chosen = choose(rows, wanted)?;
    let asked_by = format!("singularity tree, process {}", std::process::id());
    let body = json!({});
    let answers = chosen.into_iter().map(|row| {
        let (db, asked_by, body) = (storage.db(), &asked_by, &body);
        async move {
            let answer = instance::ask(db, &row.instance_id, "tree", body, asked_by, ANSWER_LIMIT).await;
            (row, answer)
        }
    });
    let (mut answered, mut silent) = (Vec::new(), Vec::new());
    for (row, answer) in join_all(answers).await {
        match answer {
            Ok(tree) => match tree.get("error").and_then(Value::as_str) {
                Some(error) => silent.push(format!("instance \"{}\" cannot tell: {error}", row.instance_id)),
                None => answered.push((row, tree)),
            },
            Err(error @ InstanceError::NoAnswer { .. }) => {
                silent.push(format!("{error}; its last heartbeat was {} ago", output::millis(row.heartbeat_age_ms)));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let failure = (!silent.is_empty()).then(|| {
        Failure::new(Exit::TimedOut, InstanceError::NO_ANSWER, silent.join("\n"))
            .hint("see `singularity instance list` for its heartbeats, and its log")
    });
    Ok((answered, failure))
}

fn choose(rows: Vec<InstanceRow>, wanted: Option<&str>) -> Result<Vec<InstanceRow>, Failure> {
    let Some(wanted) = wanted else {
        let online: Vec<_> = rows.into_iter().filter(live::is_live).collect();
        if online.is_empty() {
            let failure = Failure::new(Exit::NotFound, codes::NOBODY_ONLINE, "no instance is online");
            return Err(failure.hint("start one with `singularity start`"));
        }
        return Ok(online);
    };
    let not_online = |status: String| {
        let error = InstanceError::NotOnline { instance_id: wanted.to_owned(), status };
        Failure::coded(Exit::NotFound, &error)
    };
    match rows.into_iter().find(|row| row.instance_id == wanted) {
        Some(row) if live::is_live(&row) => Ok(vec![row]),
        Some(row) => {
            Err(not_online(format!("{}, last heartbeat {} ago", row.status, output::millis(row.heartbeat_age_ms))))
        }
        None => Err(not_online("unknown".into())),
    }
}

/// Removes what is deeper than `depth` levels below this node.
fn prune(tree: &mut Value, depth: usize) {
    let Some(children) = tree.get_mut("children").and_then(Value::as_array_mut) else { return };
    if depth == 0 {
        children.clear();
    }
    children.iter_mut().for_each(|child| prune(child, depth - 1));
}

fn print(answered: &Answered) -> Result<(), Failure> {
    let view = View::deserialize(&answered.tree).map_err(|error| {
        let text = format!("the answer of instance \"{}\" cannot be read: {error}", answered.instance_id);
        Failure::new(Exit::Failed, codes::STRANGE_ANSWER, text)
            .hint("use --json, or the program version of that instance")
    })?;
    output::line(format!("{} {}", answered.instance_id, answered.status));
    output::line(branch(&view, Utc::now()).to_string().trim_end());
    Ok(())
}

fn branch(view: &View, now: DateTime<Utc>) -> Tree<String> {
    Tree::new(describe(view, now)).with_leaves(view.children.iter().map(|child| branch(child, now)))
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
    parts.push(view.state.clone());
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
    if let Some(exit) = &view.last_exit {
        let reason = output::shortened(&exit.reason, REASON_CHARS_MAX);
        parts.push(format!("last failure {}: {reason}", output::relative(exit.at, now)));
    }
    parts.join("  ")
}

#[cfg(test)]
mod tests {
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
    fn pruning_keeps_the_wanted_levels() {
        for (depth, nodes) in [(0, 1), (1, 2), (2, 3), (9, 3)] {
            let mut tree = tree();
            prune(&mut tree, depth);
            let text = branch(&View::deserialize(&tree).unwrap(), Utc::now()).to_string();
            assert_eq!(text.lines().count(), nodes);
        }
    }
}
