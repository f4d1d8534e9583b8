//! What `metrics` carries: how long attempts took and waited, how many there were, and how many jobs are in which
//! state.
//!
//! The reader, Oban's recorder, adds up what it hears for one series, second and set of labels. For times and attempts
//! that is what is wanted; for `full_count` it means that a database must have one sender and a second one message.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use serde::Serialize;

use super::encoding::{self, PAYLOAD_BYTES_MAX, Payload, Unsendable};

/// Relative error of a quantile that is read from a sketch: the one that Oban's readers assume.
const ERROR: f64 = 0.02;

/// Counts of durations by size, from which quantiles can be read, and which can be added up: a bin's upper limit is 4 %
/// above the next lower one's.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Sketch {
    data: BTreeMap<i32, u64>,
    size: u64,
}

impl Sketch {
    /// Adds a duration in nanoseconds; 0 counts as 1, because there is no bin for it.
    pub fn add(&mut self, nanoseconds: u64) {
        *self.data.entry(bin(NonZeroU64::new(nanoseconds).unwrap_or(NonZeroU64::MIN))).or_default() += 1;
        self.size += 1;
    }
}

/// The bin of a value: the logarithm to the base gamma, rounded up.
fn bin(value: NonZeroU64) -> i32 {
    let gamma: f64 = (1.0 + ERROR) / (1.0 - ERROR);
    // Multiplied by the inverse, as the readers do: a division rounds differently where two bins meet.
    let inverse = 1.0 / gamma.ln();
    #[expect(clippy::cast_precision_loss, reason = "the bins are coarser")]
    let position = ((value.get() as f64).ln() * inverse).ceil();
    #[expect(clippy::cast_possible_truncation, reason = "between 0 and 1,110 for every value")]
    let bin = position as i32;
    bin
}

/// One number.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gauge {
    data: [u64; 1],
}

impl From<u64> for Gauge {
    fn from(value: u64) -> Self {
        Self { data: [value] }
    }
}

/// What a series has to say.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Durations.
    Sketch(Sketch),
    /// A number.
    Gauge(Gauge),
}

/// Which number it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Series {
    /// Time from the claim to the result, a sketch.
    ExecTime,
    /// Time from when the job was due to the claim, a sketch.
    WaitTime,
    /// Attempts that ended, a number.
    ExecCount,
    /// Jobs in the table, a number without a worker.
    FullCount,
}

/// One series for one set of labels.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metric {
    /// Which.
    pub series: Series,
    /// State that attempts ended in, or that jobs are in.
    pub state: &'static str,
    /// The queue.
    pub queue: String,
    /// The worker, in series of attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// What it says.
    pub value: Value,
}

#[derive(Serialize)]
struct Message<'a> {
    metrics: &'a [Metric],
    name: &'a str,
    node: &'a str,
    time: i64,
}

/// The messages for these metrics of `node` at `time` (seconds since 1970), as few as their sizes allow; none for none.
///
/// # Errors
/// [`Unsendable`].
pub fn messages(metrics: Vec<Metric>, name: &str, node: &str, time: i64) -> Result<Vec<Payload>, Unsendable> {
    let frame = encoding::json(&Message { metrics: &[], name, node, time })?.len();
    let groups = encoding::in_groups(metrics, PAYLOAD_BYTES_MAX.saturating_sub(frame))?;
    groups.iter().map(|metrics| encoding::write(&Message { metrics, name, node, time })).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn metric(series: Series, worker: Option<&str>, value: Value) -> Metric {
        Metric { series, state: "completed", queue: "default".into(), worker: worker.map(Into::into), value }
    }

    #[test]
    fn golden() {
        let mut sketch = Sketch::default();
        [0, 1, 2, 1_000_000, 1_000_000, 5_000_000_000].iter().for_each(|value| sketch.add(*value));
        let metrics = vec![
            metric(Series::ExecTime, Some("MyApp.Mailer"), Value::Sketch(sketch.clone())),
            metric(Series::WaitTime, Some("MyApp.Mailer"), Value::Sketch(sketch)),
            metric(Series::ExecCount, Some("MyApp.Mailer"), Value::Gauge(6.into())),
            metric(Series::FullCount, None, Value::Gauge(0.into())),
        ];
        let texts = messages(metrics, "Oban", "worker-1.4711", 1_795_660_813).unwrap();
        let texts: Vec<&str> = texts.iter().map(Payload::as_str).collect();
        assert_eq!(
            texts,
            [concat!(
                r#"{"metrics":[{"series":"exec_time","state":"completed","queue":"default","worker":"MyApp.Mailer","#,
                r#""value":{"data":{"0":2,"18":1,"346":2,"559":1},"size":6}},"#,
                r#"{"series":"wait_time","state":"completed","queue":"default","worker":"MyApp.Mailer","#,
                r#""value":{"data":{"0":2,"18":1,"346":2,"559":1},"size":6}},"#,
                r#"{"series":"exec_count","state":"completed","queue":"default","worker":"MyApp.Mailer","#,
                r#""value":{"data":[6]}},"#,
                r#"{"series":"full_count","state":"completed","queue":"default","value":{"data":[0]}}],"#,
                r#""name":"Oban","node":"worker-1.4711","time":1795660813}"#
            )]
        );
    }

    /// What Oban for Python 0.7 makes of the same (`oban._metrics._compute_bin`).
    #[test]
    fn bins_are_those_of_the_readers() {
        for (value, expected) in [
            (1, 0),
            (2, 18),
            (3, 28),
            (10, 58),
            (1_000, 173),
            (123_456_789, 466),
            (1_000_000_000, 519),
            (3_600_000_000_000, 723),
            (u64::MAX, 1_109),
        ] {
            assert_eq!(bin(NonZeroU64::new(value).unwrap()), expected, "{value}");
        }
    }

    #[test]
    fn many_go_in_several_messages_that_lose_none() {
        let metrics: Vec<_> = (0..300)
            .map(|number| Metric {
                queue: format!("queue_{number}"),
                ..metric(Series::FullCount, None, Value::Gauge(number.into()))
            })
            .collect();
        let texts = messages(metrics, "Oban", "n", 0).unwrap();
        assert!((3..8).contains(&texts.len()), "{}", texts.len());
        let mut queues = Vec::new();
        for text in &texts {
            assert!(text.as_str().starts_with('{') && text.as_str().len() <= PAYLOAD_BYTES_MAX);
            let value: serde_json::Value = serde_json::from_str(text.as_str()).unwrap();
            let metrics = value["metrics"].as_array().unwrap();
            queues.extend(metrics.iter().map(|metric| metric["queue"].as_str().unwrap().to_owned()));
        }
        assert_eq!(queues, Vec::from_iter((0..300).map(|number| format!("queue_{number}"))));
        assert_eq!(messages(vec![], "Oban", "n", 0).unwrap(), []);
    }

    proptest! {
        /// A reader takes the middle of a bin for its values.
        #[test]
        fn a_bin_tells_its_values_to_within_two_percent(value in 1..=u64::MAX) {
            let gamma: f64 = 1.02 / 0.98;
            let read = 2.0 * gamma.powi(bin(NonZeroU64::new(value).unwrap())) / (gamma + 1.0);
            let error = (read - value as f64).abs() / value as f64;
            prop_assert!(error <= 0.020_001, "{value} is read as {read}");
        }
    }
}
