//! What `gossip` carries: the state of every queue of an instance, which dashboards show.
//!
//! The reader, Oban's examiner, keeps a check for 30 s by node, name and queue, and a check without one of these three
//! stops it; the dashboard's page of queues fails on a start without an offset. So a [`Check`] always has all of them.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::encoding::{self, PAYLOAD_BYTES_MAX, Payload, Unsendable};

/// Most ids of running jobs in one check. A dashboard counts them; those of a queue that runs more are left out.
pub const RUNNING_IDS_MAX: usize = 1_000;

/// What stands around the checks of a message, in bytes.
const FRAME_BYTES: usize = r#"{"checks":[]}"#.len();

/// One queue on one instance.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// Name of the Oban, such as `Oban`.
    pub name: String,
    /// The instance.
    pub node: String,
    /// The queue.
    pub queue: String,
    /// Its producer, as in `attempted_by`.
    pub uuid: Uuid,
    /// Jobs that may run at once.
    pub local_limit: u32,
    /// Whether it takes no jobs.
    pub paused: bool,
    /// Jobs that run.
    pub running: Vec<i64>,
    /// When it began to work.
    #[serde(serialize_with = "with_offset")]
    pub started_at: DateTime<Utc>,
    /// When it began to stop; the dashboard marks it as terminating.
    #[serde(serialize_with = "maybe_with_offset", skip_serializing_if = "Option::is_none")]
    pub shutdown_started_at: Option<DateTime<Utc>>,
}

fn with_offset<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::Micros, true))
}

fn maybe_with_offset<S: Serializer>(time: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => with_offset(time, serializer),
        None => serializer.serialize_none(),
    }
}

#[derive(Serialize)]
struct Message<'a> {
    checks: &'a [Check],
}

/// The messages for these checks, as few as their sizes allow; none for none. A check that is too large even by itself
/// says of fewer jobs that they run.
///
/// # Errors
/// [`Unsendable`], for names that no configuration allows.
pub fn messages(mut checks: Vec<Check>) -> Result<Vec<Payload>, Unsendable> {
    checks.iter_mut().for_each(|check| check.running.truncate(RUNNING_IDS_MAX));
    let groups = encoding::in_groups(checks, PAYLOAD_BYTES_MAX - FRAME_BYTES)?;
    groups.into_iter().map(message).collect()
}

fn message(mut checks: Vec<Check>) -> Result<Payload, Unsendable> {
    loop {
        match encoding::write(&Message { checks: &checks }) {
            // Ends: at most a check by itself is too large, and its list becomes empty.
            Err(Unsendable::TooLarge { .. }) if checks.iter().any(|check| !check.running.is_empty()) => {
                checks.iter_mut().for_each(|check| check.running.truncate(check.running.len() / 2));
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn check(queue: &str, running: Vec<i64>) -> Check {
        Check {
            name: "Oban".into(),
            node: "worker-1.4711".into(),
            queue: queue.into(),
            uuid: Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001),
            local_limit: 10,
            paused: false,
            running,
            started_at: DateTime::from_timestamp(1_795_660_813, 120_456_000).unwrap(),
            shutdown_started_at: None,
        }
    }

    fn read(payload: &Payload) -> Vec<Value> {
        let value: Value = serde_json::from_str(&encoding::read(payload.as_str()).unwrap()).unwrap();
        value["checks"].as_array().unwrap().clone()
    }

    #[test]
    fn golden() {
        let mut stopping = check("media", vec![]);
        (stopping.paused, stopping.shutdown_started_at) = (true, Some(DateTime::UNIX_EPOCH));
        let texts = messages(vec![check("default", vec![1, 4711]), stopping]).unwrap();
        let texts: Vec<&str> = texts.iter().map(Payload::as_str).collect();
        assert_eq!(
            texts,
            [concat!(
                r#"{"checks":[{"name":"Oban","node":"worker-1.4711","queue":"default","#,
                r#""uuid":"01900000-0000-7000-8000-000000000001","local_limit":10,"paused":false,"#,
                r#""running":[1,4711],"started_at":"2026-11-26T02:40:13.120456Z"},"#,
                r#"{"name":"Oban","node":"worker-1.4711","queue":"media","#,
                r#""uuid":"01900000-0000-7000-8000-000000000001","local_limit":10,"paused":true,"#,
                r#""running":[],"started_at":"2026-11-26T02:40:13.120456Z","#,
                r#""shutdown_started_at":"1970-01-01T00:00:00.000000Z"}]}"#
            )]
        );
    }

    #[test]
    fn many_checks_go_in_several_messages_that_lose_none() {
        let names: Vec<String> = (0..200).map(|number| format!("queue_{number:03}")).collect();
        let texts = messages(names.iter().map(|name| check(name, vec![1])).collect()).unwrap();
        assert!((5..10).contains(&texts.len()), "{}", texts.len());
        assert!(texts.iter().all(|text| text.as_str().starts_with('{') && text.as_str().len() <= PAYLOAD_BYTES_MAX));
        let read: Vec<_> = texts.iter().flat_map(read).map(|check| check["queue"].as_str().unwrap().into()).collect();
        assert_eq!(names, Vec::<String>::from_iter(read));
        assert_eq!(messages(vec![]).unwrap(), []);
    }

    #[test]
    fn long_lists_of_jobs_are_bounded() {
        let ids = |count: u64| (0..count).map(|n| i64::MAX - (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2) as i64);
        // Much alike: compressed, with as many ids as are allowed.
        let texts = messages(vec![check("busy", (0..10_000).collect())]).unwrap();
        assert_eq!((texts.len(), read(&texts[0])[0]["running"].as_array().unwrap().len()), (1, RUNNING_IDS_MAX));
        // Not alike at all: as many as fit.
        let texts = messages(vec![check("a", ids(1_000).collect()), check("b", vec![1])]).unwrap();
        let sizes: Vec<_> =
            texts.iter().flat_map(read).map(|check| check["running"].as_array().unwrap().len()).collect();
        assert!(sizes == [500, 1] || sizes == [1_000, 1], "{sizes:?}");
        assert!(texts.iter().all(|text| text.as_str().len() <= PAYLOAD_BYTES_MAX));
    }
}
