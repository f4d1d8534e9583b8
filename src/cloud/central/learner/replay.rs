//! Replay: what a rule would have made of the requests that were logged.
//!
//! Each attempt was chosen with a known probability, so its result can be weighed by how much likelier the new rule
//! would have chosen it: inverse propensity (Horvitz and Thompson 1952), without bias but of large spread. The doubly
//! robust estimate (Dudík, Langford and Li 2011) starts from what is believed of each model and corrects by weighed
//! surprises; it is right when either the beliefs or the probabilities are. Both are taken of the *difference* to the
//! rule in force, on the same attempts, which cancels most of the spread.

/// An attempt counts at most so many times: a rare choice must not decide alone.
const WEIGHT_MAX: f64 = 20.0;

/// Fewest effective attempts that can say something.
const EFFECTIVE_MIN: f64 = 30.0;

/// One-sided 95 %.
const Z_ONE_SIDED: f64 = 1.645;

/// An attempt whose model was drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Logged {
    /// Place of its model in the rule.
    pub model: usize,
    /// With which probability it was chosen.
    pub propensity: f64,
    /// 1 for a success, 0 for none; `None` where it says nothing about the model.
    pub success: Option<f64>,
    /// Nano-dollars, where they are known.
    pub cost_nanousd: Option<f64>,
}

/// What is believed of a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Belief {
    /// Success.
    pub success: f64,
    /// Nano-dollars an attempt; 0 where they are not known.
    pub cost_nanousd: f64,
}

/// An estimate with its standard error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Its standard error.
    pub error: f64,
}

/// What the new rule would have done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Replay {
    /// Attempts that were replayed.
    pub n: usize,
    /// How many of the new rule's own they are worth.
    pub effective_n: f64,
    /// Success under the new rule, by inverse propensity.
    pub success_ips: Estimate,
    /// The same, doubly robust.
    pub success: Estimate,
    /// Success under the new rule minus that under the old one, doubly robust.
    pub success_change: Estimate,
    /// The same of nano-dollars an attempt.
    pub cost_change: Estimate,
    /// Share of the requests that would have gone to another model.
    pub moved: f64,
}

/// Running mean and variance (Welford 1962).
#[derive(Default)]
struct Running {
    n: f64,
    mean: f64,
    squares: f64,
}

impl Running {
    fn add(&mut self, value: f64) {
        self.n += 1.0;
        let off = value - self.mean;
        self.mean += off / self.n;
        self.squares += off * (value - self.mean);
    }

    fn estimate(&self) -> Estimate {
        let variance = if self.n > 1.0 { self.squares / (self.n - 1.0) } else { 0.0 };
        Estimate { mean: self.mean, error: (variance / self.n.max(1.0)).sqrt() }
    }
}

/// Replays `logged` under the weights `new` and under those in force; `None` where nothing was logged. The three
/// slices of models have the same order and length; attempts of other models are left out.
pub fn replay(logged: &[Logged], beliefs: &[Belief], old: &[f64], new: &[f64]) -> Option<Replay> {
    let (mut ips, mut success, mut change, mut cost) =
        (Running::default(), Running::default(), Running::default(), Running::default());
    let (mut weights, mut weights_squared) = (0.0, 0.0);
    let expected = |weights: &[f64], of: fn(&Belief) -> f64| -> f64 {
        weights.iter().zip(beliefs).map(|(weight, belief)| weight * of(belief)).sum()
    };
    let success_of = |belief: &Belief| belief.success;
    let cost_of = |belief: &Belief| belief.cost_nanousd;
    let base = expected(new, success_of);
    let base_change = base - expected(old, success_of);
    let base_cost = expected(new, cost_of) - expected(old, cost_of);
    for row in logged {
        let model = row.model;
        let (Some(belief), Some(old), Some(new)) = (beliefs.get(model), old.get(model), new.get(model)) else {
            continue;
        };
        let propensity = row.propensity.max(f64::MIN_POSITIVE);
        let weight = (new / propensity).min(WEIGHT_MAX);
        let shift = ((new - old) / propensity).clamp(-WEIGHT_MAX, WEIGHT_MAX);
        weights += weight;
        weights_squared += weight * weight;
        let surprise = row.success.map_or(0.0, |success| success - belief.success);
        if let Some(success) = row.success {
            ips.add(weight * success);
        }
        success.add(base + weight * surprise);
        change.add(base_change + shift * surprise);
        cost.add(base_cost + row.cost_nanousd.map_or(0.0, |paid| shift * (paid - belief.cost_nanousd)));
    }
    let moved = old.iter().zip(new).map(|(old, new)| (new - old).max(0.0)).sum();
    (success.n > 0.0).then(|| Replay {
        n: success.n as usize,
        effective_n: if weights_squared > 0.0 { weights * weights / weights_squared } else { 0.0 },
        success_ips: ips.estimate(),
        success: success.estimate(),
        success_change: change.estimate(),
        cost_change: cost.estimate(),
        moved,
    })
}

impl Replay {
    /// Why the new rule must not be published; `None` where nothing speaks against it. A move is stopped when the
    /// requests that it moves would surely succeed less by more than `margin`, or would surely cost more and succeed
    /// no better.
    pub fn objection(&self, margin: f64) -> Option<&'static str> {
        if self.effective_n < EFFECTIVE_MIN {
            return None;
        }
        let Self { success_change, cost_change, moved, .. } = *self;
        if success_change.mean + Z_ONE_SIDED * success_change.error < -margin * moved {
            return Some("the replay of what was logged succeeds less, by more than the margin");
        }
        if cost_change.mean - Z_ONE_SIDED * cost_change.error > 0.0 && success_change.mean <= 0.0 {
            return Some("the replay of what was logged costs more and succeeds no better");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{RngExt, SeedableRng};

    use super::*;

    const TRUTH: [Belief; 2] =
        [Belief { success: 0.95, cost_nanousd: 100.0 }, Belief { success: 0.85, cost_nanousd: 40.0 }];
    const OLD: [f64; 2] = [0.8, 0.2];

    fn log(n: usize) -> Vec<Logged> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(5);
        (0..n)
            .map(|_| {
                let model = usize::from(rng.random::<f64>() > OLD[0]);
                let success = Some(f64::from(u8::from(rng.random::<f64>() < TRUTH[model].success)));
                let cost = TRUTH[model].cost_nanousd * (0.5 + rng.random::<f64>());
                Logged { model, propensity: OLD[model], success, cost_nanousd: Some(cost) }
            })
            .collect()
    }

    #[test]
    fn finds_what_a_rule_would_have_done_also_with_wrong_beliefs() {
        let wrong = [Belief { success: 0.5, cost_nanousd: 10.0 }; 2];
        for beliefs in [TRUTH, wrong] {
            let found = replay(&log(20_000), &beliefs, &OLD, &[0.3, 0.7]).unwrap();
            let near = |estimate: Estimate, truth: f64| {
                assert!((estimate.mean - truth).abs() < 4.0 * estimate.error, "{estimate:?} {truth}");
            };
            near(found.success_ips, 0.88);
            near(found.success, 0.88);
            near(found.success_change, -0.05);
            near(found.cost_change, -30.0);
            assert!((found.moved - 0.5).abs() < 1e-9 && found.effective_n > 5_000.0);
            assert!(found.success.error <= found.success_ips.error);
        }
    }

    #[test]
    fn stops_what_is_surely_worse_or_dearer_for_nothing() {
        let towards = |new: [f64; 2]| replay(&log(5_000), &TRUTH, &OLD, &new).unwrap();
        assert!(towards([0.3, 0.7]).objection(0.02).unwrap().contains("succeeds less"));
        assert_eq!(towards([0.95, 0.05]).objection(0.02), None, "dearer, but better");
        assert_eq!(towards([0.3, 0.7]).objection(0.2), None, "the margin allows it");
        let equal = [Belief { success: 0.85, ..TRUTH[0] }, TRUTH[1]];
        let rows: Vec<_> = log(5_000).into_iter().map(|row| Logged { success: Some(0.85), ..row }).collect();
        let dearer = replay(&rows, &equal, &OLD, &[0.95, 0.05]).unwrap();
        assert!(dearer.objection(0.02).unwrap().contains("costs more"));
        assert_eq!(replay(&rows[..20], &equal, &OLD, &[0.95, 0.05]).unwrap().objection(0.02), None, "too few");
        assert_eq!(replay(&[], &equal, &OLD, &OLD), None);
    }
}
