//! Whether next weights are worth a rule: noise of the draws is no news, but every step of a way up is, however small
//! the shares are that many candidates have to begin with.

use super::allocation::{Drawn, GRAIN};
use super::settings::Settings;

/// A weight that changes by at least so much is news,
pub(super) const CHANGE_MIN: f64 = 0.03;

/// and by at least this part of itself, or of what is left.
const CHANGE_SHARE_MIN: f64 = 0.2;

/// Whether the weight of any candidate says something new. `now` and `next` are the weights before and after what was
/// `drawn`; the reference, the first, has what is left, so that it says nothing of its own.
pub(super) fn is_news(drawn: &[Drawn], now: &[f64], next: &[f64], settings: &Settings) -> bool {
    let floor = settings.floor_of(now.len().saturating_sub(1));
    let grain = 1.0 / GRAIN;
    drawn.iter().zip(now).zip(next).skip(1).any(|((drawn, &now), &next)| {
        let change = (next - now).abs();
        let is_large = change >= CHANGE_MIN && change >= CHANGE_SHARE_MIN * now.min(1.0 - now);
        // Out of the nursery, where several shared less than the floor of one.
        let begins = next > now && now < floor - grain;
        // As far as the ramp lets it on the way to a share that is news.
        let climbs = next > now && next > now * settings.step - grain && drawn.won >= now + CHANGE_MIN;
        is_large || begins || climbs
    })
}

#[cfg(test)]
mod tests {
    use super::super::allocation::{Out, weights};
    use super::*;

    /// The weights that are published one after the other while the draws give the first candidate this share of all
    /// and the others none. So many of the others stay in the nursery.
    fn published(candidates: usize, won: f64, new_ones: usize) -> Vec<Vec<f64>> {
        let settings = Settings::default();
        let new = Drawn { out: Some(Out::Nursery), ..Drawn::default() };
        let mut drawn = vec![new; candidates + 1];
        drawn[0] = Drawn { won: 1.0, ..Drawn::default() };
        let mut now = vec![0.0; candidates + 1];
        now[0] = 1.0;
        let mut rules = vec![weights(&drawn, &now, true, &settings)];
        drawn[..=candidates - new_ones].fill(Drawn::default());
        (drawn[0].won, drawn[1].won) = (1.0 - won, won);
        for _ in 0..40 {
            now.clone_from(&rules[rules.len() - 1]);
            let next = weights(&drawn, &now, true, &settings);
            if is_news(&drawn, &now, &next, &settings) {
                rules.push(next);
            }
        }
        rules
    }

    #[test]
    fn who_wins_every_draw_climbs_among_however_many() {
        // Floors keep a half of all requests at most and the reference its own; a change by a fifth is news.
        let is_stuck = |rules: Vec<Vec<f64>>| rules[rules.len() - 1][1] < 0.45 / 1.2;
        for candidates in 1..=100 {
            for new_ones in [0, candidates / 2, candidates - 1] {
                let rules = published(candidates, 1.0, new_ones);
                assert!(!is_stuck(rules), "{candidates} candidates, {new_ones} of them not yet tried");
            }
        }
    }

    #[test]
    fn at_the_floor_small_shares_of_the_draws_are_noise() {
        for (candidates, won) in [(1, 0.07), (2, 0.07), (20, 0.04), (100, 0.03)] {
            let rules = published(candidates, won, 0);
            assert!(rules.len() <= 2, "{candidates} candidates: {rules:?}");
        }
    }
}
