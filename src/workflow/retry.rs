//! What happens when the code of a step fails: a pure table.

use std::time::Duration;

use crate::queue::Outcome;

/// Most tries of a step within one attempt.
pub const STEP_TRIES_MAX: u32 = 100;
/// Longest wait between two tries within one attempt, unless the step says otherwise. The job holds its slot meanwhile.
pub const STEP_WAIT_MAX: Duration = Duration::from_secs(60);

/// What happens when the code of a step fails. By default the job's attempt fails and is tried again as its worker and
/// queue say; steps with a checkpoint are not run again.
///
/// Only failures are tried again (an error, a panic, a time-out). A step that snoozes, cancels or discards the job is
/// taken at its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepRetry {
    /// Tries within one attempt, 1 to [`STEP_TRIES_MAX`]. They are not remembered: an attempt that goes on after a
    /// crash counts from 1.
    pub tries: u32,
    /// Wait after the first failed try; it doubles from try to try.
    pub wait: Duration,
    /// Longest wait between two tries.
    pub wait_max: Duration,
    /// Wait of the job when its attempt fails by this step, doubling from attempt to attempt; `None` is the backoff of
    /// Oban.
    pub job_wait: Option<Duration>,
}

impl Default for StepRetry {
    fn default() -> Self {
        Self { tries: 1, wait: Duration::ZERO, wait_max: STEP_WAIT_MAX, job_wait: None }
    }
}

impl StepRetry {
    /// So many tries within one attempt, at most [`STEP_TRIES_MAX`], with waits of `wait`, twice that, four times that,
    /// at most [`STEP_WAIT_MAX`]. For trouble that passes soon: the job holds its slot meanwhile.
    pub fn in_place(tries: u32, wait: Duration) -> Self {
        Self { tries, wait, ..Self::default() }
    }

    /// Fails the job's attempt, with a wait of `wait` before the second, twice that before the third, and so on. For
    /// trouble that lasts.
    pub fn by_job(wait: Duration) -> Self {
        Self { job_wait: Some(wait), ..Self::default() }
    }

    /// How long to wait before the next try in this attempt, after try number `tries` (from 1) came to `outcome`;
    /// `None` where there is none.
    pub fn next_try(&self, tries: u32, outcome: &Outcome) -> Option<Duration> {
        let fails = matches!(outcome, Outcome::Failed { .. });
        (fails && tries < self.tries).then(|| doubled(self.wait, tries).min(self.wait_max))
    }

    /// What the job comes to when the step's tries are used up in attempt number `attempt`.
    pub fn of_job(&self, attempt: i32, outcome: Outcome) -> Outcome {
        match (outcome, self.job_wait) {
            (Outcome::Failed { error, retry_in: None }, Some(wait)) => {
                Outcome::Failed { error, retry_in: Some(doubled(wait, attempt.unsigned_abs())) }
            }
            (outcome, _) => outcome,
        }
    }
}

/// `wait`, doubled for each number after 1; never more than snoozes may take.
fn doubled(wait: Duration, number: u32) -> Duration {
    let factor = 2_u32.saturating_pow(number.saturating_sub(1));
    wait.saturating_mul(factor).min(crate::queue::SNOOZE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn failed(retry_in: Option<Duration>) -> Outcome {
        Outcome::Failed { error: "no".into(), retry_in }
    }

    #[test]
    fn a_failure_is_tried_again_in_place_as_often_as_said_with_waits_that_double() {
        let retry = StepRetry { wait_max: 3 * SECOND, ..StepRetry::in_place(5, SECOND) };
        let waits: Vec<_> = (1..=6).map(|tries| retry.next_try(tries, &failed(None))).collect();
        let three = Some(3 * SECOND);
        assert_eq!(waits, [Some(SECOND), Some(2 * SECOND), three, three, None, None]);
        assert_eq!(StepRetry::default().next_try(1, &failed(None)), None);
        for outcome in [Outcome::Snoozed(SECOND), Outcome::Cancelled("no".into()), Outcome::Discarded("no".into())] {
            assert_eq!(retry.next_try(1, &outcome), None, "{outcome:?}");
        }
    }

    #[test]
    fn a_job_waits_as_its_step_says_unless_the_failure_says_otherwise() {
        let retry = StepRetry::by_job(SECOND);
        for (attempt, wait) in [(1, SECOND), (2, 2 * SECOND), (4, 8 * SECOND), (i32::MAX, crate::queue::SNOOZE_MAX)] {
            assert_eq!(retry.of_job(attempt, failed(None)), failed(Some(wait)), "{attempt}");
        }
        assert_eq!(retry.of_job(1, failed(Some(Duration::ZERO))), failed(Some(Duration::ZERO)));
        assert_eq!(StepRetry::default().of_job(3, failed(None)), failed(None));
        assert_eq!(retry.of_job(1, Outcome::Snoozed(SECOND)), Outcome::Snoozed(SECOND));
    }
}
