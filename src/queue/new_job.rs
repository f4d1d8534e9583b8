//! A job that is to be inserted, and the rules it must keep (Oban's changeset, `oban_jobs`' constraints).

use std::time::Duration;

use chrono::{DateTime, Datelike, Utc};
use serde_json::{Map, Value};

use super::error::QueueError;
use super::unique::{Replace, Unique};

/// Longest worker and queue name in characters; the database refuses 128.
pub const NAME_CHARS_MAX: usize = 127;
/// Largest `max_attempts` that every Oban schema can hold (a smallint in the one for Python).
pub const MAX_ATTEMPTS_MAX: i32 = 32_767;
/// Least urgent priority.
pub const PRIORITY_MAX: i32 = 9;
/// Largest arguments or meta of one job, in bytes of JSON.
pub const PAYLOAD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Deepest nesting of arrays and objects in arguments and meta. Readers stop at 127, and what is read is often stored
/// again with something around it.
pub const PAYLOAD_DEPTH_MAX: usize = 100;
/// Longest wait until a job is due, a hundred years: later ones are mistakes.
pub const DELAY_MAX: Duration = Duration::from_secs(36_525 * 86_400);
/// Attempts of a job that says nothing about them.
pub const MAX_ATTEMPTS_DEFAULT: i32 = 20;

/// When a job becomes due.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Schedule {
    /// At once.
    #[default]
    Now,
    /// So long after the database's clock at insertion.
    In(Duration),
    /// At a moment; one in the past is staged at the next tick.
    At(DateTime<Utc>),
}

impl Schedule {
    fn check(self) -> Result<(), QueueError> {
        match self {
            Self::In(delay) if delay > DELAY_MAX => {
                Err(invalid("schedule", &format!("in {} s", delay.as_secs()), "at most 36525 days from now"))
            }
            Self::At(at) if !(1..=9999).contains(&at.year()) => {
                Err(invalid("schedule", &at.to_rfc3339(), "a moment in the years 1 to 9999"))
            }
            _ => Ok(()),
        }
    }

    /// Milliseconds from the database's present, or the moment; neither for now.
    pub(super) fn columns(self) -> (Option<i64>, Option<DateTime<Utc>>) {
        match self {
            Self::Now => (None, None),
            Self::In(delay) => (Some(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX)), None),
            Self::At(at) => (None, Some(at)),
        }
    }
}

/// A job to insert. Made with [`NewJob::new`] and the setters, checked when it is inserted.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// Worker that performs it.
    pub worker: String,
    /// Arguments; a JSON object.
    pub args: Value,
    /// Queue; `default` unless set.
    pub queue: String,
    /// Data beside the arguments.
    pub meta: Map<String, Value>,
    /// Words to find it by; trimmed, lower-cased and without repetitions when stored.
    pub tags: Vec<String>,
    /// 1 to 32,767.
    pub max_attempts: i32,
    /// 0 (most urgent) to 9.
    pub priority: i32,
    /// When it is due.
    pub schedule: Schedule,
    /// Insert only if no other job is the same.
    pub unique: Option<Unique>,
    /// What is written into the other job where there is one; nothing unless set. Needs [`NewJob::unique`].
    pub replace: Replace,
}

impl NewJob {
    /// A job for `worker` with Oban's defaults: queue `default`, 20 attempts, priority 0, due now.
    pub fn new(worker: impl Into<String>, args: Value) -> Self {
        Self {
            worker: worker.into(),
            args,
            queue: "default".into(),
            meta: Map::new(),
            tags: Vec::new(),
            max_attempts: MAX_ATTEMPTS_DEFAULT,
            priority: 0,
            schedule: Schedule::Now,
            unique: None,
            replace: Replace::default(),
        }
    }

    /// Sets the queue.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = queue.into();
        self
    }

    /// Sets the number of attempts.
    #[must_use]
    pub fn max_attempts(mut self, max_attempts: i32) -> Self {
        self.max_attempts = max_attempts;
        self
    }

    /// Sets the priority, 0 (most urgent) to 9.
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Sets the tags, instead of those that it had.
    #[must_use]
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags = tags.into_iter().map(Into::into).collect();
        self
    }

    /// Sets when it is due.
    #[must_use]
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// Sets one key of `meta`.
    #[must_use]
    pub fn meta(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.meta.insert(key.into(), value.into());
        self
    }

    /// Inserts it only if no other job is the same, as the options of its worker say, or Oban's where it has none, with
    /// what `change` makes of them: the keys that it does not name stay, as where Oban merges options.
    ///
    /// ```
    /// use std::time::Duration;
    /// use serde_json::json;
    /// use singularity::queue::{NewJob, Unique};
    ///
    /// let job = NewJob::new("greet", json!({})).unique(Unique { keys: vec!["id".into()], ..Unique::forever() });
    /// let job = job.unique_with(|unique| Unique { period: Some(Duration::from_secs(60)), ..unique });
    /// let unique = job.unique.unwrap_or_default();
    /// assert_eq!((unique.keys, unique.period), (vec!["id".to_owned()], Some(Duration::from_secs(60))));
    /// ```
    #[must_use]
    pub fn unique_with(mut self, change: impl FnOnce(Unique) -> Unique) -> Self {
        self.unique = Some(change(self.unique.unwrap_or_default()));
        self
    }

    /// Inserts it only if no other job is the same, whatever the options of its worker say.
    #[must_use]
    pub fn unique(mut self, unique: Unique) -> Self {
        self.unique = Some(unique);
        self
    }

    /// Sets what is written into the other job where there is one.
    #[must_use]
    pub fn replace(mut self, replace: Replace) -> Self {
        self.replace = replace;
        self
    }

    /// Checks every rule and brings tags into stored form.
    ///
    /// # Errors
    /// [`QueueError::Invalid`] naming the field, the value and what is allowed; [`QueueError::Unique`].
    pub fn validated(mut self) -> Result<Self, QueueError> {
        name("worker", &self.worker)?;
        name("queue", &self.queue)?;
        // Before anything else walks through them.
        let meta_is_deep = self.meta.values().any(|value| is_deeper(value, PAYLOAD_DEPTH_MAX - 1));
        for (field, is_deep) in [("args", is_deeper(&self.args, PAYLOAD_DEPTH_MAX)), ("meta", meta_is_deep)] {
            if is_deep {
                return Err(invalid(field, "nested deeper", "JSON of at most 100 levels"));
            }
        }
        if !self.args.is_object() {
            return Err(invalid("args", &self.args.to_string(), "a JSON object"));
        }
        for (field, bytes) in [("args", size(&self.args)), ("meta", self.meta.values().map(size).sum())] {
            if bytes > PAYLOAD_BYTES_MAX {
                return Err(invalid(field, &format!("{bytes} bytes"), "at most 4 MiB of JSON"));
            }
        }
        let meta_has_nul = self.meta.iter().any(|(key, value)| key.contains('\0') || contains_nul(value));
        let tags_have_nul = self.tags.iter().any(|tag| tag.contains('\0'));
        for (field, bad) in [("args", contains_nul(&self.args)), ("meta", meta_has_nul), ("tags", tags_have_nul)] {
            if bad {
                return Err(invalid(field, "a text with the character U+0000", "text that PostgreSQL can store"));
            }
        }
        self.schedule.check()?;
        if !(1..=MAX_ATTEMPTS_MAX).contains(&self.max_attempts) {
            return Err(invalid("max_attempts", &self.max_attempts.to_string(), "a number from 1 to 32767"));
        }
        if !(0..=PRIORITY_MAX).contains(&self.priority) {
            return Err(invalid("priority", &self.priority.to_string(), "a number from 0 (most urgent) to 9"));
        }
        match &self.unique {
            Some(unique) => unique.validate()?,
            None if self.replace.is_empty() => {}
            None => return Err(invalid("replace", "set", "a replacement only of a job that is unique")),
        }
        self.tags = stored_tags(&self.tags);
        Ok(self)
    }
}

/// Tags as Oban stores them: trimmed, lower-cased, blanks and repetitions removed, order kept.
fn stored_tags(tags: &[String]) -> Vec<String> {
    let mut stored: Vec<String> = Vec::with_capacity(tags.len());
    for tag in tags.iter().map(|tag| tag.trim().to_lowercase()).filter(|tag| !tag.is_empty()) {
        if !stored.contains(&tag) {
            stored.push(tag);
        }
    }
    stored
}

fn name(field: &'static str, value: &str) -> Result<(), QueueError> {
    let chars = value.chars().count();
    // A quote or control character in a queue's name breaks notifications of Oban for Python, and with them its
    // listeners.
    if chars == 0 || chars > NAME_CHARS_MAX || value.chars().any(|c| c.is_control() || c == '"') {
        return Err(invalid(field, value, "1 to 127 characters without quotes and control characters"));
    }
    Ok(())
}

fn size(value: &Value) -> usize {
    // Counting what would be written; a value that cannot be written counts as too large.
    serde_json::to_vec(value).map_or(usize::MAX / 2, |bytes| bytes.len())
}

/// Whether `value` has more than `levels` levels of arrays and objects.
fn is_deeper(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(|item| is_deeper(item, levels - 1)),
        Value::Object(fields) => levels == 0 || fields.values().any(|value| is_deeper(value, levels - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn contains_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(contains_nul),
        Value::Object(fields) => fields.iter().any(|(key, value)| key.contains('\0') || contains_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn invalid(field: &'static str, value: &str, allowed: &'static str) -> QueueError {
    QueueError::Invalid { field, value: value.chars().take(200).collect(), allowed }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// So many arrays, one in the other.
    fn nested(levels: usize) -> Value {
        (0..levels).fold(Value::Null, |inner, _| json!([inner]))
    }

    #[test]
    fn names_the_field_the_value_and_what_is_allowed() {
        let cases = [
            (NewJob::new("", json!({})), "worker"),
            (NewJob::new("w".repeat(128), json!({})), "worker"),
            (NewJob::new("w", json!({})).queue("a\"b"), "queue"),
            (NewJob::new("w", json!([1])), "args"),
            (NewJob::new("w", json!({"a": ["\0"]})), "args"),
            (NewJob::new("w", json!({})).meta("a\0", 1), "meta"),
            (NewJob::new("w", json!({"a": nested(PAYLOAD_DEPTH_MAX)})), "args"),
            (NewJob::new("w", json!({})).meta("a", nested(PAYLOAD_DEPTH_MAX)), "meta"),
            (NewJob { tags: vec!["\0".into()], ..NewJob::new("w", json!({})) }, "tags"),
            (NewJob::new("w", json!({})).schedule(Schedule::In(Duration::MAX)), "schedule"),
            (NewJob::new("w", json!({})).schedule(Schedule::At(DateTime::<Utc>::MAX_UTC)), "schedule"),
            (NewJob::new("w", json!({})).schedule(Schedule::At(DateTime::<Utc>::MIN_UTC)), "schedule"),
            (NewJob::new("w", json!({})).max_attempts(0), "max_attempts"),
            (NewJob { priority: 10, ..NewJob::new("w", json!({})) }, "priority"),
            (NewJob::new("w", json!({"a": "x".repeat(PAYLOAD_BYTES_MAX)})), "args"),
        ];
        for (job, field) in cases {
            let error = job.validated().unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
        assert!(NewJob::new("w".repeat(127), json!({})).validated().is_ok());
        let deepest =
            NewJob::new("w", json!({"a": nested(PAYLOAD_DEPTH_MAX - 1)})).meta("a", nested(PAYLOAD_DEPTH_MAX - 1));
        assert!(deepest.validated().is_ok());
    }

    #[test]
    fn tags_are_stored_trimmed_lower_case_and_once() {
        let tags: Vec<String> = [" A", "b", "a", "  ", "B"].map(String::from).to_vec();
        let job = NewJob { tags, ..NewJob::new("w", json!({})) };
        assert_eq!(job.validated().unwrap().tags, ["a", "b"]);
    }
}
