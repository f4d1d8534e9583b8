//! A strict reader of what is sent on Oban's channels: keys, types and values as Oban's own readers need them, and not
//! one key more where they would stumble over it.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use singularity::postgres::Database;
use singularity::postgres::notifier::encoding;
use sqlx::postgres::PgListener;

use super::db::DEADLINE;

/// All channels on which Oban's nodes and dashboards listen.
pub const CHANNELS: [&str; 7] = ["insert", "signal", "leader", "sonar", "gossip", "metrics", "cronitor"];

/// States of a job.
const STATES: [&str; 8] =
    ["suspended", "scheduled", "available", "executing", "retryable", "completed", "discarded", "cancelled"];

/// Largest text that PostgreSQL delivers and Elixir's error handling survives.
const BYTES_MAX: usize = 7_999;

/// One message.
#[derive(Debug, Clone)]
pub struct Said {
    pub channel: String,
    /// As it was sent.
    pub text: String,
    pub json: Value,
}

/// Hears everything that is said.
pub struct Ear {
    listener: PgListener,
    prefix: String,
}

impl Ear {
    pub async fn new(database: &Database) -> Self {
        Self::on(database, &CHANNELS).await
    }

    pub async fn on(database: &Database, channels: &[&str]) -> Self {
        let mut listener = PgListener::connect_with(database.pool()).await.unwrap();
        let names: Vec<String> = channels.iter().map(|name| database.channel(name)).collect();
        listener.listen_all(names.iter().map(String::as_str)).await.unwrap();
        Self { listener, prefix: database.channel("") }
    }

    /// The next message, which must be one that Oban's readers understand.
    pub async fn next(&mut self) -> Said {
        let notification = tokio::time::timeout(DEADLINE, self.listener.recv()).await.expect("a message").unwrap();
        let channel = notification.channel().strip_prefix(&self.prefix).unwrap().to_owned();
        let text = notification.payload().to_owned();
        match check(&channel, &text) {
            Ok(json) => Said { channel, text, json },
            Err(error) => panic!("on {channel}: {error}: {text}"),
        }
    }

    /// Listens until something is said that is wanted, and returns all until then.
    pub async fn until(&mut self, wanted: impl Fn(&Said) -> bool) -> Vec<Said> {
        let mut all = Vec::new();
        let listening = async {
            loop {
                all.push(self.next().await);
                if all.last().is_some_and(&wanted) {
                    break;
                }
            }
        };
        let in_time = tokio::time::timeout(DEADLINE, listening).await.is_ok();
        assert!(in_time, "not said: {:#?}", all.iter().map(|said| &said.text).collect::<Vec<_>>());
        all
    }
}

/// Reads a message, or says what is wrong with it.
pub fn check(channel: &str, text: &str) -> Result<Value, String> {
    if text.len() > BYTES_MAX {
        return Err(format!("{} bytes", text.len()));
    }
    // Oban for Python looks for the brace and takes everything else for gzip; it cannot read "Z:".
    if !text.starts_with('{') && !text.starts_with("H4sI") {
        return Err("neither an object nor gzip in base64".into());
    }
    let json: Value = serde_json::from_str(&encoding::read(text).map_err(|error| error.to_string())?)
        .map_err(|error| error.to_string())?;
    let object = json.as_object().ok_or("no object")?;
    match channel {
        "insert" => {
            keys(object, &["queue"], &[])?;
            name(object, "queue")?;
        }
        "signal" => signal(object)?,
        "leader" => match object.get("action") {
            // Oban for Python.
            Some(action) => {
                keys(object, &["action", "node", "name"], &[])?;
                known(action == "resign", "resign")?;
            }
            None => {
                keys(object, &["down"], &[])?;
                name(object, "down")?;
            }
        },
        "gossip" => {
            keys(object, &["checks"], &[])?;
            let checks = list(object, "checks")?;
            known(!checks.is_empty(), "checks")?;
            checks.iter().try_for_each(gossip_check)?;
        }
        "metrics" => {
            keys(object, &["metrics", "name", "node", "time"], &[])?;
            from_node(object)?;
            let now = Utc::now().timestamp();
            let time = object["time"].as_i64().ok_or("time is no whole number")?;
            known((now - 60..=now + 60).contains(&time), "time in seconds")?;
            let metrics = list(object, "metrics")?;
            known(!metrics.is_empty(), "metrics")?;
            metrics.iter().try_for_each(metric)?;
        }
        "cronitor" => {
            keys(object, &["crontab", "name", "node"], &[])?;
            from_node(object)?;
            for entry in list(object, "crontab")? {
                let entry = entry.as_array().filter(|entry| entry.len() == 3).ok_or("an entry has three elements")?;
                known(entry[0].is_string() && entry[1].is_string() && entry[2]["name"].is_string(), "entry")?;
            }
        }
        // A lone Elixir node that hears of others stops looking at the table by itself.
        "sonar" => return Err("only Elixir nodes say this".into()),
        other => return Err(format!("no channel of Oban: {other}")),
    }
    Ok(json)
}

fn signal(object: &Map<String, Value>) -> Result<(), String> {
    let (required, optional): (&[&str], &[&str]) = match object["action"].as_str().unwrap_or_default() {
        "pause" | "resume" | "stop" => (&["action", "queue", "ident"], &[]),
        "scale" => (&["action", "queue", "ident", "limit"], &[]),
        "start" => (&["action", "queue", "ident", "limit"], &["paused", "local_only"]),
        "pkill" => (&["action", "job_id"], &[]),
        other => return Err(format!("unknown action {other:?}")),
    };
    // A key that is no atom in the receiving node crashes the queue, which then starts again and crashes again.
    keys(object, required, optional)?;
    for key in required {
        match *key {
            "action" => {}
            "limit" | "job_id" => known(object[*key].as_u64().is_some_and(|number| number > 0), key)?,
            _ => name(object, key)?,
        }
    }
    optional.iter().try_for_each(|key| known(object.get(*key).is_none_or(Value::is_boolean), key))
}

fn gossip_check(check: &Value) -> Result<(), String> {
    let check = check.as_object().ok_or("a check is an object")?;
    keys(
        check,
        &["uuid", "node", "name", "queue", "local_limit", "paused", "running", "started_at"],
        &["shutdown_started_at"],
    )?;
    from_node(check)?;
    // Without it Oban's examiner crashes.
    name(check, "queue")?;
    check["uuid"].as_str().and_then(|text| text.parse::<uuid::Uuid>().ok()).ok_or("uuid")?;
    known(check["local_limit"].as_u64().is_some_and(|limit| limit > 0), "local_limit")?;
    known(check["paused"].is_boolean(), "paused")?;
    known(list(check, "running")?.iter().all(|id| id.as_i64().is_some_and(|id| id > 0)), "running")?;
    for key in ["started_at", "shutdown_started_at"] {
        // Only a text with an offset is one for this parser, as for the dashboard's.
        let time = check.get(key).map(|time| time.as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok()));
        known(time.is_none_or(|time| time.is_some()), key)?;
    }
    Ok(())
}

fn metric(metric: &Value) -> Result<(), String> {
    let metric = metric.as_object().ok_or("a metric is an object")?;
    let series = metric.get("series").and_then(Value::as_str).unwrap_or_default();
    match series {
        "full_count" => keys(metric, &["series", "state", "queue", "value"], &[])?,
        "exec_time" | "wait_time" | "exec_count" => {
            keys(metric, &["series", "state", "queue", "worker", "value"], &[])?;
            name(metric, "worker")?;
        }
        other => return Err(format!("unknown series {other:?}")),
    }
    name(metric, "queue")?;
    known(metric["state"].as_str().is_some_and(|state| STATES.contains(&state)), "state")?;
    let value = metric["value"].as_object().ok_or("value")?;
    if series.ends_with("_time") {
        keys(value, &["data", "size"], &[])?;
        let bins = value["data"].as_object().ok_or("data of a sketch")?;
        known(bins.keys().all(|bin| bin.parse::<u32>().is_ok_and(|bin| bin <= 1_110)), "bins")?;
        let sum = bins.values().map(Value::as_u64).sum::<Option<u64>>().ok_or("counts")?;
        known(value["size"].as_u64() == Some(sum) && sum > 0, "size")
    } else {
        keys(value, &["data"], &[])?;
        known(value["data"].as_array().is_some_and(|data| data.len() == 1 && data[0].is_u64()), "data of a gauge")
    }
}

fn keys(object: &Map<String, Value>, required: &[&str], optional: &[&str]) -> Result<(), String> {
    let found: BTreeSet<&str> = object.keys().map(String::as_str).collect();
    let missing: Vec<_> = required.iter().filter(|key| !found.contains(*key)).collect();
    let extra: Vec<_> = found.iter().filter(|key| !required.contains(key) && !optional.contains(key)).collect();
    if missing.is_empty() && extra.is_empty() { Ok(()) } else { Err(format!("missing {missing:?}, extra {extra:?}")) }
}

fn from_node(object: &Map<String, Value>) -> Result<(), String> {
    name(object, "name")?;
    name(object, "node")
}

fn name(object: &Map<String, Value>, key: &str) -> Result<(), String> {
    known(object.get(key).and_then(Value::as_str).is_some_and(|text| !text.is_empty()), key)
}

fn list<'a>(object: &'a Map<String, Value>, key: &str) -> Result<&'a Vec<Value>, String> {
    object.get(key).and_then(Value::as_array).ok_or_else(|| format!("{key} is no list"))
}

fn known(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("wrong: {what}")) }
}
