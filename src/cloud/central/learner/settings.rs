//! What the learner may do, in numbers.

use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// Numbers that a decision depends on beside what was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// How much lower than the reference's the success of a model may be and count as not worse.
    pub margin: f64,
    /// Chance of a wrong claim, over all looks together; divided among the candidates of a cell.
    pub alpha: f64,
    /// Least share of each candidate, so that it is seen when it gets better, and of the reference, so that drift is.
    pub floor: f64,
    /// Largest share of a candidate.
    pub ceiling: f64,
    /// A share changes at most by this factor in one step.
    pub step: f64,
    /// A model with fewer attempts than this is in the nursery.
    pub nursery_jobs: u64,
    /// Share of the whole nursery.
    pub nursery_share: f64,
    /// How many attempts the parent's success counts as.
    pub prior_mass: f64,
    /// What is left of the weight of an attempt after each day.
    pub keep_per_day: f64,
    /// What is older counts for nothing.
    pub window: Duration,
    /// 95 % of the attempts of a model must be faster, where it is set.
    pub latency_ceiling_ms: Option<u64>,
    /// Draws of one allocation.
    pub draws: u32,
    /// The statistic of the falling test at which a model is taken back.
    pub fall_threshold: f64,
    /// Fewest attempts of each model in a claim.
    pub claim_attempts: u64,
    /// Fewest successes of a pattern that is told.
    pub pattern_successes: u64,
    /// A rule that is not confirmed for so long no longer holds.
    pub routing_lifetime: Duration,
    /// A claim or a benchmark that is not confirmed for so long no longer holds.
    pub claim_lifetime: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            margin: 0.02,
            alpha: 0.05,
            floor: 0.05,
            ceiling: 0.9,
            step: 2.0,
            nursery_jobs: 30,
            nursery_share: 0.05,
            prior_mass: 10.0,
            keep_per_day: 0.98,
            window: DAY * 30,
            latency_ceiling_ms: None,
            draws: 1_000,
            fall_threshold: 5.0,
            claim_attempts: 100,
            pattern_successes: 10,
            routing_lifetime: DAY * 7,
            claim_lifetime: DAY * 30,
        }
    }
}

impl Settings {
    /// The floor where there are so many candidates: all floors together leave half of the requests to those that
    /// won.
    pub(super) fn floor_of(&self, candidates: usize) -> f64 {
        self.floor.min(0.5 / (candidates.max(1) as f64))
    }
}
