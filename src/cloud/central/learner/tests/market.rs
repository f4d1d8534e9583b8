//! A market of simulated models: the truth is known, so that what the learner makes of it can be counted.
//!
//! Every 50 jobs the learner looks at what has come in and decides, as every 5 minutes at one job in 6 seconds. All
//! chance comes from the seed of the run.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::super::evidence::falls;
use super::super::*;
use crate::cloud::{Cell, Payload};
use crate::workflow::Attempted;

pub(super) const STEP: usize = 50;
const SECONDS_PER_JOB: i64 = 6;

/// What a model is really like at a job: success, mean cost in nano-dollars; `None` where it does not exist yet.
pub(super) type Truth = fn(job: usize) -> Option<(f64, f64)>;

/// A market.
#[derive(Clone, Copy)]
pub(super) struct Market {
    pub(super) name: &'static str,
    /// The first is the reference.
    pub(super) models: &'static [Truth],
    pub(super) jobs: usize,
    /// After how many further jobs the result of one is known.
    pub(super) delay: usize,
    pub(super) runs: u64,
}

/// What one run came to.
#[derive(Default)]
pub(super) struct Run {
    /// Weights during each step.
    pub(super) weights: Vec<Vec<f64>>,
    /// Claims: at which job, for which model.
    pub(super) claims: Vec<(usize, usize)>,
    pub(super) rollbacks: Vec<usize>,
    pub(super) published: usize,
    pub(super) objections: usize,
    /// Expected cost and successes of what was done, of always the reference, of always the best that is not worse.
    pub(super) own: (f64, f64),
    pub(super) reference: (f64, f64),
    pub(super) best: (f64, f64),
}

struct State {
    view: CellView,
    next_id: i64,
    /// Per model: jobs under way with when they are known.
    pending: Vec<(usize, usize, Row)>,
}

fn at(job: usize) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(i64::try_from(job).unwrap() * SECONDS_PER_JOB)
}

fn name(model: usize) -> String {
    format!("m{model}")
}

impl Market {
    pub(super) fn run(&self, seed: u64) -> Run {
        let settings = Settings { draws: 200, ..Settings::default() };
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut run = Run::default();
        let view = CellView {
            cell: Cell::new("llm_request", "complex"),
            models: vec![],
            rule: None,
            claim: None,
            benchmarks: None,
        };
        let mut state = State { view, next_id: 1, pending: Vec::new() };
        for start in (0..self.jobs).step_by(STEP) {
            self.appear(&mut state, start);
            let weights = state.weights();
            run.weights.push(weights.clone());
            for job in start..start + STEP {
                self.one(job, &weights, &mut state, &mut run, &mut rng);
            }
            state.learn(start + STEP);
            state.decide(start + STEP, seed, &settings, &mut run);
        }
        run
    }

    /// Models that exist by now are candidates.
    fn appear(&self, state: &mut State, job: usize) {
        for (index, truth) in self.models.iter().enumerate().skip(state.view.models.len()) {
            if truth(job).is_some() {
                state.view.models.push(ModelView { model: name(index), ..ModelView::default() });
            }
        }
    }

    fn one(&self, job: usize, weights: &[f64], state: &mut State, run: &mut Run, rng: &mut Xoshiro256PlusPlus) {
        let mut left = rng.random::<f64>();
        let chosen = weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        let chosen = chosen.unwrap_or(0);
        let truths: Vec<_> = weights.iter().enumerate().map(|(model, _)| self.models[model](job).unwrap()).collect();
        let (success, cost) = truths[chosen];
        let outcome = if rng.random::<f64>() < success { Attempted::Success } else { Attempted::Failure };
        let row = Row {
            outcome,
            // A spread of 58 % of the mean.
            cost_nanousd: Some((cost * 2.0 * rng.random::<f64>()) as i64),
            duration_ms: 1_000,
            completed_at: at(job),
            policy_version: state.view.rule.as_ref().map(|rule| rule.id),
            propensity: Some(weights[chosen]),
        };
        state.pending.push((job + self.delay, chosen, row));
        let count = |sums: &mut (f64, f64), (success, cost): (f64, f64)| {
            sums.0 += cost;
            sums.1 += success;
        };
        count(&mut run.own, (success, cost));
        count(&mut run.reference, truths[0]);
        let good = truths.iter().filter(|truth| truth.0 >= truths[0].0 - 0.02 - 1e-9);
        let best = good.min_by(|a, b| (a.1 / a.0).total_cmp(&(b.1 / b.0))).unwrap();
        count(&mut run.best, *best);
    }
}

impl State {
    fn weights(&self) -> Vec<f64> {
        let rule = self.view.rule.as_ref();
        let weight = |(index, model): (usize, &ModelView)| match rule {
            Some(rule) => rule.value.weight(&model.model),
            None => f64::from(u8::from(index == 0)),
        };
        self.view.models.iter().enumerate().map(weight).collect()
    }

    /// Takes in what is known by now.
    fn learn(&mut self, job: usize) {
        let (known, pending) = std::mem::take(&mut self.pending).into_iter().partition(|(when, ..)| *when <= job);
        self.pending = pending;
        let known: Vec<(usize, usize, Row)> = known;
        for (_, model, row) in known {
            let view = &mut self.view.models[model];
            view.rows.push(row);
            if view.since.is_none_or(|since| row.completed_at >= since) {
                view.sums.entry(row.policy_version.unwrap_or_default()).or_default().add(&row);
            }
            let surplus = view.rows.len().saturating_sub(ModelView::ROWS_MAX + 500);
            if surplus > 0 {
                view.rows.drain(..surplus + 499);
            }
        }
    }

    fn decide(&mut self, job: usize, seed: u64, settings: &Settings, run: &mut Run) {
        let now = at(job);
        for Decision { name, draft, .. } in decide(&self.view, settings, now, seed ^ (job as u64) << 20) {
            run.objections += usize::from(name == "object");
            let Some(draft) = draft else { continue };
            draft.payload.check().unwrap();
            let id = self.next_id;
            self.next_id += 1;
            run.published += 1;
            let expires_at = Some(now + draft.lifetime);
            match draft.payload {
                Payload::ModelRouting(routing) => {
                    let [rule] = <[_; 1]>::try_from(routing.routing_rules).unwrap();
                    self.view.rule = Some(InForce { id, value: rule, created_at: now, expires_at });
                    if draft.rolls_back.is_some() {
                        run.rollbacks.push(job);
                    }
                    for (model, since) in falls(&draft.evidence) {
                        self.forget(&model, since);
                    }
                }
                Payload::CostOptimization(claim) if draft.rolls_back.is_none() => {
                    let model = claim.settings.prefer.trim_start_matches('m').parse().unwrap();
                    run.claims.push((job, model));
                    self.view.claim = Some(InForce { id, value: claim, created_at: now, expires_at });
                }
                Payload::CostOptimization(_) => self.view.claim = None,
                Payload::PerformanceBenchmark(measured) => {
                    let value = measured.benchmarks;
                    self.view.benchmarks = Some(InForce { id, value, created_at: now, expires_at });
                }
                Payload::PatternDiscovery(_) => {}
            }
        }
    }

    /// What was before a fall says nothing any more.
    fn forget(&mut self, model: &str, since: DateTime<Utc>) {
        let view = self.view.models.iter_mut().find(|view| view.model == model).unwrap();
        view.since = Some(since);
        let mut sums: BTreeMap<i64, Sums> = BTreeMap::new();
        for row in view.rows.iter().filter(|row| row.completed_at >= since) {
            sums.entry(row.policy_version.unwrap_or_default()).or_default().add(row);
        }
        view.sums = sums;
    }
}
