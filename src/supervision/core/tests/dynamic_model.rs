//! Random sequences against a naive model of a dynamic supervisor, and against what no sequence may break. A failure
//! prints the shortest sequence that shows it, and the seed that repeats the run.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::{Just, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as Gen;

use super::dynamic_sim::DynamicSim;
use super::seed::seeded;
use super::sim::error;
use crate::supervision::core::*;

#[derive(Clone, Debug)]
enum Step {
    /// A child is asked for, while so many are allowed.
    Admit(Restart, usize),
    /// A running child ends by itself; cleanly or not; and is gone or not.
    Ends(usize, bool, bool),
    Terminate(usize),
    Cycle(usize),
    /// A stop under way is done, or did not help.
    Stopped(usize, bool),
    RetryDue(usize),
    StaleRetry(usize),
    StaleExit(usize),
    ZombieGone(usize),
    /// So many starts fail, and leave something behind or not.
    StartsFail(usize, bool),
    StartsIgnored(usize),
    Wait(u64),
}

fn restart() -> impl Gen<Value = Restart> {
    prop_oneof![Just(Restart::Permanent), Just(Restart::Transient), Just(Restart::Temporary)]
}

fn calm_step() -> impl Gen<Value = Step> {
    prop_oneof![
        4 => (restart(), 0..6usize).prop_map(|(restart, max)| Step::Admit(restart, max)),
        6 => (any::<usize>(), any::<bool>()).prop_map(|(index, clean)| Step::Ends(index, clean, true)),
        2 => any::<usize>().prop_map(Step::Terminate),
        1 => any::<usize>().prop_map(Step::Cycle),
        2 => any::<usize>().prop_map(|index| Step::Stopped(index, true)),
        2 => (0..3000u64).prop_map(Step::Wait),
        1 => any::<usize>().prop_map(Step::StaleExit),
        1 => any::<usize>().prop_map(Step::StaleRetry),
    ]
}

fn wild_step() -> impl Gen<Value = Step> {
    prop_oneof![
        10 => calm_step(),
        4 => any::<usize>().prop_map(Step::RetryDue),
        2 => (0..4usize, any::<bool>()).prop_map(|(times, lingers)| Step::StartsFail(times, lingers)),
        1 => (0..2usize).prop_map(Step::StartsIgnored),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(index, clean)| Step::Ends(index, clean, false)),
        1 => any::<usize>().prop_map(|index| Step::Stopped(index, false)),
        2 => any::<usize>().prop_map(Step::ZombieGone),
    ]
}

fn apply(sim: &mut DynamicSim, step: &Step) {
    match *step {
        Step::Admit(restart, max) => {
            let occupied = sim.children.len();
            let admitted = sim.admit(restart, max).is_some();
            assert_eq!(admitted, occupied < max, "{occupied} of {max} places were occupied");
        }
        Step::Ends(index, clean, gone) => {
            if let Some(key) = sim.nth(index, |seen| seen.runs) {
                sim.ends(key, if clean { ExitReason::Normal } else { error() }, gone);
            }
        }
        Step::Terminate(index) | Step::Cycle(index) => {
            if let Some(key) = sim.nth(index, |_| true) {
                sim.ask(key, matches!(step, Step::Cycle(_)));
            }
        }
        Step::Stopped(index, gone) => {
            if let Some(key) = sim.nth(index, |seen| seen.stopping) {
                sim.stopped(key, gone);
            }
        }
        Step::RetryDue(index) => {
            if let Some(key) = sim.nth(index, |seen| seen.retry.is_some()) {
                sim.retry(key);
            }
        }
        Step::StaleRetry(index) => {
            if let Some(key) = sim.nth(index, |seen| seen.retry.is_none()) {
                sim.event(DynamicEvent::RetryDue { key, token: 1 });
            }
        }
        Step::StaleExit(index) => {
            if let Some(key) = sim.nth(index, |_| true) {
                let incarnation = Incarnation(sim.children[&key].incarnation.0.saturating_sub(1));
                sim.event(DynamicEvent::Exited { key, incarnation, reason: error(), gone: true });
            }
        }
        Step::ZombieGone(index) => {
            if let Some(key) = sim.nth(index, |seen| seen.zombie) {
                sim.zombie_gone(key);
            }
        }
        Step::StartsFail(times, lingers) => (sim.failing, sim.lingers) = (times, lingers),
        Step::StartsIgnored(times) => sim.ignoring = times,
        Step::Wait(span) => sim.now += Duration::from_millis(span),
    }
}

/// What Elixir's documentation says, as plainly as possible; starts never fail here, and killed children die.
struct Model {
    intensity: Intensity,
    children: BTreeMap<Key, Kept>,
    restarts: Vec<Duration>,
    ending: bool,
}

struct Kept {
    restart: Restart,
    /// A stop is under way; started again after it or not.
    stopping: Option<bool>,
}

impl Model {
    fn runs(&self) -> Vec<Key> {
        self.children.iter().filter(|(_, kept)| kept.stopping.is_none()).map(|(key, _)| *key).collect()
    }

    fn ends(&mut self, key: Key, clean: bool, now: Duration) {
        let restart = self.children[&key].restart;
        if restart == Restart::Temporary || (restart == Restart::Transient && clean) {
            self.children.remove(&key);
            return;
        }
        self.restarts.push(now);
        let recent = self.restarts.iter().filter(|time| now - **time <= self.intensity.period).count();
        if recent > self.intensity.max_restarts as usize {
            self.children.remove(&key);
            self.ending = true;
        }
    }
}

proptest! {
    #![proptest_config(seeded(600))]

    #[test]
    fn without_failing_starts_the_dynamic_machine_equals_the_naive_model(
        max_restarts in 0..6u32,
        steps in proptest::collection::vec(calm_step(), 0..60),
    ) {
        let intensity = Intensity::new(max_restarts, Duration::from_secs(5));
        let mut sim = DynamicSim::new(intensity, OnZombie::Hold);
        let mut model = Model { intensity, children: BTreeMap::new(), restarts: Vec::new(), ending: false };
        for step in &steps {
            let known: Vec<Key> = sim.children.keys().copied().collect();
            match *step {
                Step::Ends(index, clean, _) => if let Some(key) = sim.nth(index, |seen| seen.runs) {
                    model.ends(key, clean, sim.now);
                },
                Step::Terminate(index) => if let Some(key) = sim.nth(index, |_| true) {
                    model.children.get_mut(&key).expect("both know it").stopping = Some(false);
                },
                Step::Cycle(index) => if let Some(key) = sim.nth(index, |_| true) {
                    // One that is being stopped is not brought back by it.
                    model.children.get_mut(&key).expect("both know it").stopping.get_or_insert(true);
                },
                Step::Stopped(index, _) => if let Some(key) = sim.nth(index, |seen| seen.stopping) {
                    let kept = model.children.get_mut(&key).expect("both know it");
                    if kept.stopping == Some(true) { kept.stopping = None } else { model.children.remove(&key); }
                },
                _ => {}
            }
            apply(&mut sim, step);
            if let Step::Admit(restart, _) = *step {
                let new = sim.children.keys().filter(|key| !known.contains(key));
                model.children.extend(new.map(|key| (*key, Kept { restart, stopping: None })));
            }
            prop_assert_eq!(sim.machine.is_closing(), model.ending, "after {:?}", step);
            if model.ending {
                break;
            }
            let runs: Vec<Key> = sim.children.iter().filter(|(_, seen)| seen.runs).map(|(key, _)| *key).collect();
            prop_assert_eq!(runs, model.runs(), "after {:?}", step);
            prop_assert_eq!(sim.children.len(), model.children.len(), "after {:?}", step);
        }
    }

    #[test]
    fn no_sequence_breaks_the_invariants_of_a_dynamic_supervisor(
        max_restarts in 0..6u32,
        on_zombie in prop_oneof![Just(OnZombie::Hold), Just(OnZombie::Replace), Just(OnZombie::Escalate)],
        steps in proptest::collection::vec(wild_step(), 0..80),
        last_stops_help in any::<bool>(),
    ) {
        let intensity = Intensity::new(max_restarts, Duration::from_secs(5));
        let mut sim = DynamicSim::new(intensity, on_zombie);
        let mut escalated = false;
        for step in &steps {
            if sim.machine.is_closing() {
                break;
            }
            // The simulator itself asserts that no child runs twice, and that whoever asks is answered.
            apply(&mut sim, step);
            let too_many = sim.counted.iter().filter(|at| sim.now - **at <= intensity.period).count()
                > max_restarts as usize;
            let lives_on = matches!(step, Step::Ends(.., false) | Step::Stopped(_, false)) || sim.lingered;
            escalated |= on_zombie == OnZombie::Escalate && lives_on;
            let closes = sim.machine.is_closing();
            prop_assert!(!too_many || closes, "the intensity is exceeded after {:?}", step);
            prop_assert!(too_many || !closes || escalated, "it ends for no reason after {:?}", step);
        }
        if !sim.machine.is_closing() {
            sim.event(DynamicEvent::Shutdown(ExitReason::Shutdown));
        }
        prop_assert!(sim.admit(Restart::Permanent, usize::MAX).is_none(), "nothing is taken in while it ends");
        while let Some(key) = sim.nth(0, |seen| seen.stopping) {
            prop_assert!(sim.exit.is_none());
            sim.stopped(key, last_stops_help);
        }
        prop_assert!(sim.exit.is_some(), "it ends once all are stopped");
        prop_assert_eq!(sim.asked, sim.answered, "one answer for each request");
    }
}
