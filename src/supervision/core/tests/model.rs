//! Random sequences of events against a naive model, and against the invariants that no sequence may break. A
//! failure prints the shortest sequence that shows it, and the seed that repeats the run.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::{Just, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as Gen;

use super::seed::seeded;
use super::sim::{Sim, error, rules};
use crate::supervision::core::*;

const NAMES: [&str; 5] = ["e", "a", "d", "b", "c"];

#[derive(Clone, Debug)]
enum Step {
    Ends(usize, bool),
    Wait(u64),
    RetryDue,
    StartsFail(usize, usize),
    Terminate(usize),
    Restart(usize),
    Delete(usize),
    Add(usize),
    /// It ends and leaves descendants that still live.
    EndsLeaving(usize),
    Cycle(usize),
    StopHangs(usize, bool),
    /// Starts of it that fail leave something behind.
    Lingers(usize, bool),
    ZombieGone,
    /// An event about an incarnation that is long gone.
    Stale(usize),
}

fn strategy() -> impl Gen<Value = Strategy> {
    prop_oneof![Just(Strategy::OneForOne), Just(Strategy::OneForAll), Just(Strategy::RestForOne)]
}

fn restart() -> impl Gen<Value = Restart> {
    prop_oneof![Just(Restart::Permanent), Just(Restart::Transient), Just(Restart::Temporary)]
}

fn calm_step() -> impl Gen<Value = Step> {
    prop_oneof![
        6 => (0..5usize, any::<bool>()).prop_map(|(child, clean)| Step::Ends(child, clean)),
        2 => (0..3000u64).prop_map(Step::Wait),
        1 => (0..5usize).prop_map(Step::Terminate),
        1 => (0..5usize).prop_map(Step::Restart),
        1 => (0..5usize).prop_map(Step::Delete),
        1 => (0..5usize).prop_map(Step::Add),
        1 => (0..5usize).prop_map(Step::Stale),
    ]
}

fn wild_step() -> impl Gen<Value = Step> {
    prop_oneof![
        8 => calm_step(),
        4 => Just(Step::RetryDue),
        2 => (0..5usize, 0..4usize).prop_map(|(child, times)| Step::StartsFail(child, times)),
        1 => (0..5usize, any::<bool>()).prop_map(|(child, hangs)| Step::StopHangs(child, hangs)),
        1 => (0..5usize).prop_map(Step::EndsLeaving),
        1 => (0..5usize).prop_map(Step::Cycle),
        1 => (0..5usize, any::<bool>()).prop_map(|(child, lingers)| Step::Lingers(child, lingers)),
        2 => Just(Step::ZombieGone),
    ]
}

/// What OTP's documentation says, as plainly as possible; starts never fail here.
struct Model {
    strategy: Strategy,
    intensity: Intensity,
    /// In start order: name, restart type, whether it runs.
    children: Vec<(&'static str, Restart, bool)>,
    restarts: Vec<Duration>,
    ended: bool,
}

impl Model {
    fn running(&self) -> BTreeSet<&'static str> {
        self.children.iter().filter(|(_, _, runs)| *runs).map(|(name, ..)| *name).collect()
    }

    fn ends(&mut self, name: &str, clean: bool, now: Duration) {
        let Some(at) = self.children.iter().position(|(child, ..)| *child == name) else { return };
        let restart = self.children[at].1;
        self.children[at].2 = false;
        match restart {
            Restart::Temporary => drop(self.children.remove(at)),
            Restart::Transient if clean => {}
            _ => self.restart(at, now),
        }
    }

    fn restart(&mut self, at: usize, now: Duration) {
        self.restarts.push(now);
        let recent = self.restarts.iter().filter(|time| now - **time <= self.intensity.period).count();
        if recent > self.intensity.max_restarts as usize {
            self.ended = true;
            self.children.iter_mut().for_each(|child| child.2 = false);
            return;
        }
        let affected = match self.strategy {
            Strategy::OneForOne => at..at + 1,
            Strategy::RestForOne => at..self.children.len(),
            Strategy::OneForAll => 0..self.children.len(),
        };
        let group = self.strategy != Strategy::OneForOne;
        let mut index = 0;
        self.children.retain_mut(|(_, restart, runs)| {
            let hit = affected.contains(&index);
            index += 1;
            *runs |= hit;
            !(hit && group && *restart == Restart::Temporary)
        });
    }
}

fn apply(sim: &mut Sim, step: &Step) {
    match step {
        Step::Ends(child, clean) => {
            let name = NAMES[*child];
            if sim.is_running(name) {
                sim.ends(name, if *clean { ExitReason::Normal } else { error() });
            }
        }
        Step::Wait(span) => sim.now += Duration::from_millis(*span),
        Step::RetryDue => drop(sim.retry_once()),
        Step::StartsFail(child, times) => drop(sim.failing.insert(NAMES[*child], *times)),
        Step::Terminate(child) => drop(sim.request(Request::Terminate(NAMES[*child].into())).ok()),
        Step::Restart(child) => drop(sim.request(Request::Restart(NAMES[*child].into())).ok()),
        Step::Delete(child) => drop(sim.request(Request::Delete(NAMES[*child].into())).ok()),
        Step::Add(child) => {
            let rules = ChildRules { on_zombie: sim.on_zombie, ..rules(NAMES[*child], Restart::Permanent) };
            sim.request(Request::Start(rules, Incarnation(0))).ok();
        }
        Step::EndsLeaving(child) => {
            if sim.is_running(NAMES[*child]) {
                sim.ends_leaving(NAMES[*child], error(), false);
            }
        }
        Step::Cycle(child) => drop(sim.request(Request::Cycle(NAMES[*child].into())).ok()),
        Step::Lingers(child, true) => drop(sim.lingering.insert(NAMES[*child])),
        Step::Lingers(child, false) => drop(sim.lingering.remove(NAMES[*child])),
        Step::StopHangs(child, true) => drop(sim.stubborn.insert(NAMES[*child], (ExitReason::Killed, false))),
        Step::StopHangs(child, false) => drop(sim.stubborn.remove(NAMES[*child])),
        Step::ZombieGone => {
            if let Some(key) = sim.zombies.pop_front() {
                sim.event(Event::Gone { key });
            }
        }
        Step::Stale(child) => {
            if let Some(&(key, incarnation)) = sim.running.get(NAMES[*child]) {
                let old = Incarnation(incarnation.0.saturating_sub(1));
                sim.event(Event::Exited { key, incarnation: old, reason: error(), gone: true });
            }
        }
    }
}

fn supervisor(strategy: Strategy, intensity: Intensity, restarts: &[Restart], on_zombie: OnZombie) -> Sim {
    let child = |(name, restart): (&&str, &Restart)| ChildRules { on_zombie, ..rules(name, *restart) };
    let children = NAMES.iter().zip(restarts).map(child).collect();
    let mut sim = Sim::new(strategy, intensity, AutoShutdown::Never, children);
    sim.boot();
    sim
}

proptest! {
    #![proptest_config(seeded(600))]

    #[test]
    fn without_failing_starts_the_machine_equals_the_naive_model(
        strategy in strategy(),
        max_restarts in 0..6u32,
        restarts in proptest::collection::vec(restart(), 1..=5),
        steps in proptest::collection::vec(calm_step(), 0..40),
    ) {
        let intensity = Intensity::new(max_restarts, Duration::from_secs(5));
        let mut sim = supervisor(strategy, intensity, &restarts, OnZombie::Hold);
        let children = NAMES.into_iter().zip(&restarts).map(|(name, restart)| (name, *restart, true)).collect();
        let mut model = Model { strategy, intensity, children, restarts: Vec::new(), ended: false };
        for step in &steps {
            if sim.exit.is_some() {
                break;
            }
            let at = |model: &Model, child: usize| model.children.iter().position(|(name, ..)| *name == NAMES[child]);
            match *step {
                Step::Ends(child, clean) if model.running().contains(NAMES[child]) => {
                    model.ends(NAMES[child], clean, sim.now);
                }
                Step::Terminate(child) => if let Some(at) = at(&model, child) {
                    model.children[at].2 = false;
                    if model.children[at].1 == Restart::Temporary {
                        model.children.remove(at);
                    }
                },
                Step::Restart(child) => if let Some(at) = at(&model, child) {
                    model.children[at].2 = true;
                },
                Step::Delete(child) => if let Some(at) = at(&model, child) && !model.children[at].2 {
                    model.children.remove(at);
                },
                Step::Add(child) if at(&model, child).is_none() => {
                    model.children.push((NAMES[child], Restart::Permanent, true));
                }
                _ => {}
            }
            apply(&mut sim, step);
            let running: BTreeSet<&str> = sim.running.keys().map(String::as_str).collect();
            prop_assert_eq!(running, model.running(), "after {:?}", step);
            prop_assert_eq!(sim.exit.is_some(), model.ended, "after {:?}", step);
        }
    }

    #[test]
    fn no_sequence_breaks_the_invariants(
        strategy in strategy(),
        max_restarts in 0..6u32,
        restarts in proptest::collection::vec(restart(), 1..=5),
        on_zombie in prop_oneof![
            2 => Just(OnZombie::Hold),
            1 => Just(OnZombie::Replace),
            1 => Just(OnZombie::Escalate),
        ],
        steps in proptest::collection::vec(wild_step(), 0..60),
    ) {
        let intensity = Intensity::new(max_restarts, Duration::from_secs(5));
        let mut sim = supervisor(strategy, intensity, &restarts, on_zombie);
        for step in &steps {
            if sim.exit.is_some() {
                break;
            }
            sim.batch.clear();
            // The simulator itself asserts that no child is started twice, or stopped when it does not run.
            apply(&mut sim, step);
            // An end that follows from a restart or a stop is an undertaking of its own.
            if sim.exit.is_some() {
                let begin = sim.batch.iter().rposition(|(start, _)| *start || on_zombie == OnZombie::Escalate);
                sim.batch.drain(..begin.map_or(0, |at| at + 1));
            }
            let (starts, stops): (Vec<(bool, Key)>, Vec<_>) = sim.batch.iter().copied().partition(|(start, _)| *start);
            prop_assert!(stops.is_sorted_by(|a, b| a.1 > b.1), "stops in reverse: {:?}", sim.batch);
            prop_assert!(starts.is_sorted_by(|a, b| a.1 < b.1), "starts in order: {:?}", sim.batch);
            prop_assert!(sim.batch.is_sorted_by_key(|(start, _)| *start), "stops first: {:?}", sim.batch);
            prop_assert!(sim.replies.is_empty(), "one answer for each request");
            let recent = sim.counted.iter().filter(|at| sim.now - **at <= intensity.period).count();
            let escalates = on_zombie == OnZombie::Escalate && !sim.zombies.is_empty();
            prop_assert_eq!(sim.exit.is_some(), escalates || recent > max_restarts as usize, "after {:?}", step);
        }
        if sim.exit.is_none() {
            sim.event(Event::Shutdown(ExitReason::Shutdown));
        }
        let escalated = on_zombie == OnZombie::Escalate && sim.exit.as_ref().is_some_and(|reason| !reason.is_clean());
        prop_assert!(escalated || sim.exit == Some(ExitReason::Shutdown), "{:?}", sim.exit);
        prop_assert!(sim.running.is_empty() && sim.retries.is_empty());
        sim.told();
        sim.boot();
        prop_assert!(sim.told().is_empty(), "nothing happens after the end");
    }
}
