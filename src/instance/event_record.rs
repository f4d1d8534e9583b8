//! A supervision event as it is kept in the database: bounded texts, and only what a database accepts.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use crate::supervision::{EventLevel, ExitReason, SupervisionEvent, SupervisionEventKind};

/// Longest reason, operator and operator's reason, in characters.
pub const EVENT_TEXT_CHARS_MAX: usize = 2_000;
/// Longest backtrace, in characters: the innermost frames come first.
const BACKTRACE_CHARS_MAX: usize = 8_000;
/// Name of the record that says that others are missing.
pub(super) const LOST: &str = "events_lost";
/// Name of the record that says that others counted the instance as dead.
pub(super) const DIED: &str = "died";
/// Name of the record of an order of an operator.
const OPERATED: &str = "operated";
/// Name of the record that says that the instance stopped its own jobs, so that none runs twice.
const FENCED: &str = "fenced";

/// One row to be, all but the instance.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct EventRecord {
    pub(super) at: DateTime<Utc>,
    pub(super) level: &'static str,
    pub(super) path: String,
    pub(super) incarnation: i64,
    pub(super) event: &'static str,
    pub(super) reason: Option<String>,
    pub(super) detail: Value,
    pub(super) by_whom: Option<String>,
    pub(super) why: Option<String>,
    /// Events that are lost with this record.
    pub(super) events: u64,
}

impl EventRecord {
    /// The record of `event`, unless that is the course of things.
    pub(super) fn of(event: &SupervisionEvent) -> Option<Self> {
        let level = match event.level() {
            EventLevel::Info => return None,
            EventLevel::Warning => "warning",
            EventLevel::Error => "error",
        };
        let mut record = Self {
            at: event.at,
            level,
            path: clean(event.path.as_str(), EVENT_TEXT_CHARS_MAX),
            incarnation: i64::try_from(event.incarnation.0).unwrap_or(i64::MAX),
            event: "",
            reason: None,
            detail: json!({}),
            by_whom: None,
            why: None,
            events: 1,
        };
        let because = |record: &mut Self, reason: &ExitReason| {
            record.reason = Some(clean(&reason.to_string(), EVENT_TEXT_CHARS_MAX));
            record.detail = detail(reason);
        };
        record.event = match &event.kind {
            SupervisionEventKind::Started { restart } => {
                record.detail = json!({ "restart": restart });
                "started"
            }
            SupervisionEventKind::Exited { reason } => {
                because(&mut record, reason);
                "exited"
            }
            SupervisionEventKind::Stopped { reason, .. } => {
                because(&mut record, reason);
                "stopped"
            }
            SupervisionEventKind::StartFailed { reason } => {
                record.reason = Some(clean(reason, EVENT_TEXT_CHARS_MAX));
                "start_failed"
            }
            SupervisionEventKind::MaxIntensity { reason } => {
                because(&mut record, reason);
                "max_intensity"
            }
            SupervisionEventKind::Zombie => "zombie",
            SupervisionEventKind::ZombieGone => "zombie_gone",
            SupervisionEventKind::Operated { operation, by, why, refused } => {
                record.reason = refused.as_deref().map(|refused| clean(refused, EVENT_TEXT_CHARS_MAX));
                record.detail = json!({ "operation": operation.as_str(), "refused": refused.is_some() });
                record.by_whom = Some(clean(by, EVENT_TEXT_CHARS_MAX));
                record.why = why.as_deref().map(|why| clean(why, EVENT_TEXT_CHARS_MAX));
                OPERATED
            }
        };
        Some(record)
    }

    /// Says that the instance stopped its jobs, and why.
    pub(super) fn fenced(reason: &str, at: DateTime<Utc>) -> Self {
        Self {
            at,
            level: "error",
            path: "/".to_owned(),
            incarnation: 0,
            event: FENCED,
            reason: Some(clean(&format!("{reason}; running jobs were stopped"), EVENT_TEXT_CHARS_MAX)),
            detail: json!({}),
            by_whom: None,
            why: None,
            events: 1,
        }
    }

    /// An order of an operator that no supervisor carried out, such as one about a queue: by whom, and why.
    pub(super) fn ordered(order: &str, path: &str, (by, why): (&str, Option<&str>), at: DateTime<Utc>) -> Self {
        Self {
            at,
            level: "warning",
            path: clean(path, EVENT_TEXT_CHARS_MAX),
            incarnation: 0,
            event: OPERATED,
            reason: None,
            detail: json!({ "operation": order, "refused": false }),
            by_whom: Some(clean(by, EVENT_TEXT_CHARS_MAX)),
            why: why.map(|why| clean(why, EVENT_TEXT_CHARS_MAX)),
            events: 1,
        }
    }

    /// Says that `events` events are missing before this place.
    pub(super) fn lost(events: u64, path: &str, at: DateTime<Utc>) -> Self {
        Self {
            at,
            level: "warning",
            path: path.to_owned(),
            incarnation: 0,
            event: LOST,
            reason: Some(format!("{events} events could not be kept: too many came, or the database was away")),
            detail: json!({ "events": events }),
            by_whom: None,
            why: None,
            events,
        }
    }
}

/// What is known beside the text.
fn detail(reason: &ExitReason) -> Value {
    let mut detail = Map::new();
    detail.insert("exit".into(), reason.kind().into());
    let mut put = |name: &str, value: Value| {
        if !matches!(&value, Value::Null) {
            detail.insert(name.into(), value);
        }
    };
    let text = |text: &str| Value::from(clean(text, EVENT_TEXT_CHARS_MAX));
    match reason {
        ExitReason::Panic(crash) => {
            put("actor", text(&crash.actor));
            put("doing", text(&crash.doing));
            put("location", crash.location.as_deref().map_or(Value::Null, text));
            put("mailbox_depth", crash.mailbox_depth.into());
            put("lived_ms", crash.lived_ms.into());
            put("ancestors", crash.ancestors.iter().map(|ancestor| text(ancestor)).collect());
            let backtrace = crash.backtrace.as_deref().map(|backtrace| clean(backtrace, BACKTRACE_CHARS_MAX));
            put("backtrace", backtrace.into());
        }
        ExitReason::Error(error) => {
            put("code", error.code.as_deref().map_or(Value::Null, text));
            put("hint", error.hint.as_deref().map_or(Value::Null, text));
            put("chain", error.chain.iter().map(|cause| text(cause)).collect());
        }
        _ => {}
    }
    Value::Object(detail)
}

/// The first characters, without the one that PostgreSQL's text and jsonb refuse.
fn clean(text: &str, chars_max: usize) -> String {
    let mut kept: String = text.chars().take(chars_max).map(|c| if c == '\0' { '\u{fffd}' } else { c }).collect();
    if kept.len() < text.len() && text.chars().nth(chars_max).is_some() {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervision::{CrashInfo, Incarnation, Operation, Path};

    fn event(kind: SupervisionEventKind) -> SupervisionEvent {
        let at = DateTime::UNIX_EPOCH;
        SupervisionEvent { at, path: Path::root().join(&"stager".into()), incarnation: Incarnation(2), kind }
    }

    #[test]
    fn the_course_of_things_is_not_kept() {
        assert_eq!(EventRecord::of(&event(SupervisionEventKind::Started { restart: false })), None);
        assert_eq!(EventRecord::of(&event(SupervisionEventKind::Exited { reason: ExitReason::Normal })), None);
    }

    #[test]
    fn a_crash_is_kept_with_its_place_within_limits_and_without_what_the_database_refuses() {
        let crash = CrashInfo {
            doing: "look".into(),
            text: format!("nul \0 {}", "x".repeat(9_000)),
            location: Some("src/x.rs:1:2".into()),
            backtrace: Some("frame\n".repeat(9_000)),
            ancestors: vec!["/".into()],
            mailbox_depth: 3,
            ..CrashInfo::default()
        };
        let reason = ExitReason::Panic(Box::new(crash));
        let record = EventRecord::of(&event(SupervisionEventKind::Exited { reason })).unwrap();
        assert_eq!((record.level, record.event, record.path.as_str()), ("warning", "exited", "/stager"));
        let reason = record.reason.unwrap();
        assert!(reason.starts_with("panic in look: nul \u{fffd} x"), "{reason}");
        assert_eq!(reason.chars().count(), EVENT_TEXT_CHARS_MAX + 1);
        assert_eq!(record.detail["location"], "src/x.rs:1:2");
        assert_eq!((&record.detail["mailbox_depth"], &record.detail["ancestors"]), (&json!(3), &json!(["/"])));
        assert!(!record.detail.to_string().contains("\\u0000"));
        assert!(record.detail["backtrace"].as_str().unwrap().chars().count() <= BACKTRACE_CHARS_MAX + 1);
    }

    #[test]
    fn an_order_is_kept_with_who_gave_it_and_why() {
        let kind = SupervisionEventKind::Operated {
            operation: Operation::Terminate,
            by: "root@a".into(),
            why: Some("test".into()),
            refused: Some("no".into()),
        };
        let record = EventRecord::of(&event(kind)).unwrap();
        assert_eq!(
            (record.event, record.by_whom.as_deref(), record.why.as_deref()),
            ("operated", Some("root@a"), Some("test"))
        );
        assert_eq!((record.reason.as_deref(), &record.detail["refused"]), (Some("no"), &json!(true)));
    }
}
