//! What attempts came to since the last report: times and numbers by state, queue and worker, for `metrics`.
//!
//! Kept only while somebody listens, in memory of a bounded size; what cannot be reported is forgotten, because a
//! dashboard has no use for it later.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::state::State;
use crate::postgres::notifier::metrics::{Metric, Series, Sketch, Value};

/// Most sets of queue, worker and state of one report; attempts beyond are not counted.
const SETS_MAX: usize = 1_000;

/// Shared by the completer, which fills it, and the reporter, which empties it. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct Measures(Arc<Mutex<Option<Sets>>>);

#[derive(Debug, Default)]
struct Sets {
    by_queue: BTreeMap<String, BTreeMap<String, BTreeMap<State, Measured>>>,
    count: usize,
}

#[derive(Debug, Default)]
struct Measured {
    exec_time: Sketch,
    wait_time: Sketch,
    count: u64,
}

impl Measures {
    /// Takes what there is and goes on, or ends: without a listener nothing is kept.
    pub fn take(&self, go_on: bool) -> Vec<Metric> {
        let next = go_on.then(Sets::default);
        let taken = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), next);
        taken.map(Sets::into_metrics).unwrap_or_default()
    }

    /// An attempt ended in `state`: how long it ran, and how long it had waited since it was due.
    pub(super) fn add(&self, state: State, queue: &str, worker: &str, ran: Duration, waited: Duration) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(measured) = kept.as_mut().and_then(|sets| sets.of(state, queue, worker)) {
            measured.exec_time.add(nanoseconds(ran));
            measured.wait_time.add(nanoseconds(waited));
            measured.count += 1;
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Sets {
    /// The set for these labels, unless there are too many already. Allocates only for a new one.
    fn of(&mut self, state: State, queue: &str, worker: &str) -> Option<&mut Measured> {
        let is_known = self.by_queue.get(queue).and_then(|workers| workers.get(worker)?.get(&state)).is_some();
        if !is_known {
            if self.count >= SETS_MAX {
                return None;
            }
            self.count += 1;
            let workers = self.by_queue.entry(queue.to_owned()).or_default();
            workers.entry(worker.to_owned()).or_default().insert(state, Measured::default());
        }
        self.by_queue.get_mut(queue)?.get_mut(worker)?.get_mut(&state)
    }

    fn into_metrics(self) -> Vec<Metric> {
        let mut metrics = Vec::with_capacity(3 * self.count);
        for (queue, workers) in self.by_queue {
            for (worker, states) in workers {
                for (state, measured) in states {
                    let values = [
                        (Series::ExecTime, Value::Sketch(measured.exec_time)),
                        (Series::WaitTime, Value::Sketch(measured.wait_time)),
                        (Series::ExecCount, Value::Gauge(measured.count.into())),
                    ];
                    metrics.extend(values.map(|(series, value)| Metric {
                        series,
                        state: state.as_str(),
                        queue: queue.clone(),
                        worker: Some(worker.clone()),
                        value,
                    }));
                }
            }
        }
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn keeps_by_labels_while_somebody_listens() {
        let measures = Measures::default();
        measures.add(State::Completed, "default", "a", MS, MS);
        assert_eq!(measures.take(true), [], "nobody listened");
        measures.add(State::Completed, "default", "a", MS, Duration::ZERO);
        measures.add(State::Completed, "default", "a", 2 * MS, Duration::MAX);
        measures.add(State::Retryable, "default", "a", MS, MS);
        let taken = measures.take(true);
        let labels: Vec<_> = taken.iter().map(|one| (one.series, one.state)).collect();
        let of = |state| [(Series::ExecTime, state), (Series::WaitTime, state), (Series::ExecCount, state)];
        assert_eq!(labels, [of("retryable"), of("completed")].concat());
        assert_eq!(taken[5].value, Value::Gauge(2.into()));
        assert_eq!(measures.take(false), [], "they are told once");
        measures.add(State::Completed, "default", "a", MS, MS);
        assert_eq!(measures.take(true), []);
    }

    #[test]
    fn has_a_bounded_size() {
        let measures = Measures::default();
        measures.take(true);
        (0..3_000).for_each(|n| measures.add(State::Completed, "default", &n.to_string(), MS, MS));
        assert_eq!(measures.take(true).len(), 3 * SETS_MAX);
    }
}
