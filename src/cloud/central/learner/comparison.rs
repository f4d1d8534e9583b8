//! Two models compared, with bounds that hold at all times.
//!
//! Models are compared within each policy version only, and the differences added up: within one version it was
//! chance who got which request, between versions requests and shares have changed together. Versions are weighted as
//! Cochran, Mantel and Haenszel do, by n₁n₂/(n₁+n₂), the inverse of the variance of their difference; the sum of the
//! weights is the number of comparisons that the confidence sequence counts.

use super::arm::{PRICED_SHARE, smoothed};
use super::sequence::radius;
use super::view::{ModelView, Sums};

/// A candidate beside the reference.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Comparison {
    /// All attempts that were compared, of the reference and of the candidate.
    pub reference: Sums,
    pub candidate: Sums,
    /// Comparisons that they are worth.
    pub comparisons: f64,
    /// Success of the candidate minus that of the reference.
    pub difference: f64,
    /// It is surely above this.
    pub difference_low: f64,
    /// What is known of the costs.
    pub cost: Option<CostComparison>,
}

/// Costs of a success beside each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct CostComparison {
    /// Nano-dollars a success.
    pub reference: f64,
    pub candidate: f64,
    /// The candidate's by the reference's.
    pub ratio: f64,
    /// It is surely below this.
    pub ratio_high: f64,
}

/// Means of one model over the versions, by their weights.
#[derive(Default)]
struct Side {
    all: Sums,
    success: f64,
    cost: f64,
    /// Sum of weight² by attempts: with the variance of one attempt it is that of the means.
    spread: f64,
}

impl Side {
    fn add(&mut self, sums: &Sums, weight: f64) {
        let n = sums.n as f64;
        self.all.merge(sums);
        self.success += weight * sums.successes as f64 / n;
        self.cost += weight * sums.cost_each().unwrap_or(0.0);
        self.spread += weight * weight / n;
    }

    /// Divides by the sum of the weights.
    fn settle(&mut self, weights: f64) {
        self.success /= weights;
        self.cost /= weights;
        self.spread /= weights * weights;
    }

    fn success_variance(&self) -> f64 {
        let share = smoothed(self.all.successes, self.all.n);
        share * (1.0 - share) * self.spread
    }

    fn is_priced(&self) -> bool {
        self.all.priced as f64 >= PRICED_SHARE * self.all.n as f64 && self.cost > 0.0 && self.success > 0.0
    }

    /// Variance of the logarithm of the cost a success: by the delta method that of cost ÷ mean − success ÷ mean.
    fn log_variance(&self) -> f64 {
        let (n, priced) = (self.all.n as f64, self.all.priced as f64);
        let success = smoothed(self.all.successes, self.all.n);
        let cost = self.all.cost / priced + self.all.lost / n;
        let squared = self.all.cost_squared / priced + self.all.lost_squared / n;
        let one =
            squared / (cost * cost) + 1.0 / success - 2.0 * self.all.cost_of_successes / priced / (cost * success);
        one.max(0.0) * self.spread
    }
}

/// Compares a candidate with the reference, each bound wrong with probability `alpha` at most; `None` where no
/// version has attempts of both.
pub(super) fn compare(reference: &ModelView, candidate: &ModelView, alpha: f64) -> Option<Comparison> {
    let (mut comparisons, mut left, mut right) = (0.0, Side::default(), Side::default());
    // What no rule chose (version 0) was not divided by chance.
    for (version, theirs) in candidate.sums.range(1..) {
        let Some(ours) = reference.sums.get(version).filter(|ours| ours.n > 0 && theirs.n > 0) else { continue };
        let (n, m) = (ours.n as f64, theirs.n as f64);
        let weight = n * m / (n + m);
        comparisons += weight;
        left.add(ours, weight);
        right.add(theirs, weight);
    }
    if comparisons <= 0.0 {
        return None;
    }
    left.settle(comparisons);
    right.settle(comparisons);
    let far = |variance: f64| radius((variance * comparisons).sqrt(), comparisons, alpha);
    let difference = right.success - left.success;
    let cost = (left.is_priced() && right.is_priced()).then(|| {
        let (reference, candidate) = (left.cost / left.success, right.cost / right.success);
        let ratio = candidate / reference;
        let ratio_high = ratio * far(left.log_variance() + right.log_variance()).exp();
        CostComparison { reference, candidate, ratio, ratio_high }
    });
    Some(Comparison {
        difference_low: difference - far(left.success_variance() + right.success_variance()),
        reference: left.all,
        candidate: right.all,
        comparisons,
        difference,
        cost,
    })
}

#[cfg(test)]
mod tests;
