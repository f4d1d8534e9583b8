//! Allocation: how the requests of a cell are divided, by constrained Thompson sampling.
//!
//! Thompson 1933, Chapelle and Li 2011. Each draw is one possible world: a success rate and a cost for each model, as
//! likely as what was measured makes them. In each world the cheapest model wins that is not worse than the reference
//! by more than the margin; the share of worlds that a model wins is the share of requests that it should have. What
//! it gets is bounded: floors keep every model in sight, a ramp lets no mistake become large before it is seen.

use rand::Rng;

use super::arm::Arm;
use super::beta::{beta, normal};
use super::settings::Settings;

/// A drawn cost is at least this part of the believed one.
const COST_MIN: f64 = 0.1;

/// Weights are whole multiples of one in so many: people read them, and noise below it is none.
pub(super) const GRAIN: f64 = 1_000.0;

/// What the draws of one decision gave a model.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Drawn {
    /// Share of the draws that it won.
    pub won: f64,
    /// Share in which it was worse than the margin allows.
    pub worse: f64,
    /// It takes no part: too few attempts, too slow, or of unknown cost.
    pub out: Option<Out>,
}

/// Why a model takes no part in the draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Out {
    /// It has to be tried first.
    Nursery,
    /// Its latency is above the ceiling.
    TooSlow,
    /// Nobody knows what it costs, or what the reference does.
    NoCost,
}

impl Out {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Nursery => "in the nursery",
            Self::TooSlow => "slower than the ceiling",
            Self::NoCost => "of unknown cost",
        }
    }
}

/// Draws; the first arm is the reference.
pub(super) fn draw(arms: &[Arm], settings: &Settings, rng: &mut impl Rng) -> Vec<Drawn> {
    let mut drawn: Vec<Drawn> = arms.iter().map(|_| Drawn::default()).collect();
    let Some((reference, candidates)) = arms.split_first() else { return drawn };
    for (arm, drawn) in candidates.iter().zip(&mut drawn[1..]) {
        drawn.out = match arm {
            arm if arm.n < settings.nursery_jobs => Some(Out::Nursery),
            arm if arm.too_slow => Some(Out::TooSlow),
            arm if arm.cost.is_none() || reference.cost.is_none() => Some(Out::NoCost),
            _ => None,
        };
    }
    let each = 1.0 / f64::from(settings.draws.max(1));
    for _ in 0..settings.draws.max(1) {
        let (mut winner, mut least) = (0, f64::INFINITY);
        let mut bar = 0.0;
        for (index, arm) in arms.iter().enumerate() {
            if drawn[index].out.is_some() {
                continue;
            }
            let (a, b) = arm.beta(settings);
            let success = beta(a, b, rng);
            if index == 0 {
                bar = success - settings.margin;
            } else if success < bar {
                drawn[index].worse += each;
                continue;
            }
            let Some((mean, error)) = arm.cost else { continue };
            let cost = (mean + error * normal(rng)).max(mean * COST_MIN) / success;
            if cost < least {
                (winner, least) = (index, cost);
            }
        }
        drawn[winner].won += each;
    }
    drawn
}

/// The next weights: towards the draws, as far as floors, ceiling and ramp allow. `now` are the present weights, 0
/// for a model that is new. What is not given to a candidate is the reference's.
///
/// `may_rise` is false while nothing has come in that the present weights chose: a share that grew unseen would grow
/// again.
pub(super) fn weights(drawn: &[Drawn], now: &[f64], may_rise: bool, settings: &Settings) -> Vec<f64> {
    let candidates = drawn.len().saturating_sub(1);
    let floor = settings.floor_of(candidates);
    let nursery = drawn.iter().filter(|drawn| drawn.out == Some(Out::Nursery)).count();
    let mut weights = vec![0.0; drawn.len()];
    for index in 1..drawn.len() {
        let Drawn { won, out, .. } = drawn[index];
        if out == Some(Out::Nursery) {
            weights[index] = (settings.nursery_share / nursery as f64).min(floor);
            continue;
        }
        let most = if may_rise { now[index] * settings.step } else { now[index] };
        let least = (now[index] / settings.step).max(floor);
        weights[index] = won.min(settings.ceiling).min(most.max(floor)).max(least);
    }
    let given: f64 = weights.iter().sum();
    let room = 1.0 - settings.floor;
    if given > room {
        let floors: f64 = weights.iter().map(|weight| weight.min(floor)).sum();
        let scale = (room - floors).max(0.0) / (given - floors);
        for weight in &mut weights {
            *weight = weight.min(floor) + (*weight - floor).max(0.0) * scale;
        }
    }
    settle(weights)
}

/// Rounds, and gives the rest to the reference.
pub(super) fn settle(mut weights: Vec<f64>) -> Vec<f64> {
    for weight in &mut weights {
        *weight = (*weight * GRAIN).round() / GRAIN;
    }
    let given: f64 = weights.iter().skip(1).sum();
    if let Some(reference) = weights.first_mut() {
        *reference = ((1.0 - given) * GRAIN).round() / GRAIN;
    }
    weights
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::Xoshiro256PlusPlus;

    use super::*;

    fn arm(successes: f64, failures: f64, cost: f64) -> Arm {
        let n = (successes + failures) as u64;
        Arm { n, successes, failures, prior: 0.9, cost: Some((cost, cost / 100.0)), too_slow: false }
    }

    fn won(arms: &[Arm]) -> Vec<f64> {
        draw(arms, &Settings::default(), &mut Xoshiro256PlusPlus::seed_from_u64(7))
            .iter()
            .map(|drawn| drawn.won)
            .collect()
    }

    #[test]
    fn the_cheapest_that_is_not_worse_wins() {
        let reference = arm(950.0, 50.0, 10.0);
        assert!(won(&[reference.clone(), arm(950.0, 50.0, 6.0)])[1] > 0.9);
        assert!(won(&[reference.clone(), arm(950.0, 50.0, 12.0)])[1] < 0.01);
        assert!(won(&[reference.clone(), arm(850.0, 150.0, 1.0)])[1] < 0.01, "a cheap bad one never beats a good one");
        let three = won(&[reference, arm(950.0, 50.0, 6.0), arm(960.0, 40.0, 3.0)]);
        assert!(three[2] > 0.9 && (three.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn who_is_new_slow_or_of_unknown_cost_takes_no_part() {
        let reference = arm(950.0, 50.0, 10.0);
        let few = arm(29.0, 0.0, 1.0);
        let slow = Arm { too_slow: true, ..arm(950.0, 50.0, 1.0) };
        let unknown = Arm { cost: None, ..arm(950.0, 50.0, 1.0) };
        let drawn =
            draw(&[reference, few, slow, unknown], &Settings::default(), &mut Xoshiro256PlusPlus::seed_from_u64(7));
        assert_eq!(
            drawn.iter().map(|drawn| drawn.out).collect::<Vec<_>>(),
            [None, Some(Out::Nursery), Some(Out::TooSlow), Some(Out::NoCost)]
        );
        assert!((drawn[0].won - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_winner_climbs_by_doubling_and_ends_at_the_ceiling() {
        let settings = Settings::default();
        let drawn = [Drawn::default(), Drawn { won: 1.0, ..Drawn::default() }];
        let mut now = vec![1.0, 0.0];
        let mut seen = Vec::new();
        for _ in 0..6 {
            now = weights(&drawn, &now, true, &settings);
            seen.push(now[1]);
        }
        assert_eq!(seen, [0.05, 0.1, 0.2, 0.4, 0.8, 0.9]);
        assert_eq!(weights(&drawn, &[0.8, 0.2], false, &settings), [0.8, 0.2], "nothing rises unseen");
    }

    #[test]
    fn the_nursery_shares_its_share() {
        let new = Drawn { out: Some(Out::Nursery), ..Drawn::default() };
        let drawn = [Drawn::default(), new, new];
        assert_eq!(weights(&drawn, &[1.0, 0.0, 0.0], true, &Settings::default()), [0.95, 0.025, 0.025]);
    }

    proptest! {
        #[test]
        fn weights_keep_their_bounds(
            won in prop::collection::vec(0.0..1.0_f64, 2..12),
            shares in prop::collection::vec(0.0..1.0_f64, 12),
            out in prop::collection::vec(0..4_u8, 12),
            may_rise: bool,
        ) {
            let settings = Settings::default();
            let k = won.len();
            let total: f64 = won.iter().sum::<f64>().max(1e-9);
            let drawn: Vec<Drawn> = (0..k)
                .map(|i| {
                    let out = [None, Some(Out::Nursery), Some(Out::TooSlow), Some(Out::NoCost)][usize::from(out[i])];
                    let out = out.filter(|_| i > 0);
                    Drawn { won: if out.is_none() { won[i] / total } else { 0.0 }, worse: 0.0, out }
                })
                .collect();
            let sum: f64 = shares[..k].iter().sum::<f64>().max(1e-9);
            let now: Vec<f64> = shares[..k].iter().map(|share| share / sum).collect();
            let next = weights(&drawn, &now, may_rise, &settings);
            let floor = settings.floor_of(k - 1);
            let grain = 1.0 / GRAIN;
            prop_assert!((next.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            prop_assert!(next[0] >= settings.floor - grain * k as f64, "reference {}", next[0]);
            for i in 1..k {
                prop_assert!(next[i] <= settings.ceiling + grain);
                if drawn[i].out != Some(Out::Nursery) {
                    prop_assert!(next[i] >= floor - grain, "{i}: {next:?}");
                    prop_assert!(next[i] <= (now[i] * settings.step).max(floor) + grain, "{i}: {now:?} {next:?}");
                }
            }
            let nursery: f64 = (1..k).filter(|i| drawn[*i].out == Some(Out::Nursery)).map(|i| next[i]).sum();
            prop_assert!(nursery <= settings.nursery_share + grain * k as f64);
        }
    }
}
