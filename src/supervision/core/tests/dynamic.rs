//! The decisions of a dynamic supervisor.

use std::time::Duration;

use super::sim::{error, rules};
use crate::supervision::core::*;

fn machine(max_restarts: u32) -> DynamicMachine {
    DynamicMachine::new(Intensity::new(max_restarts, Duration::from_secs(5)))
}

fn step(machine: &mut DynamicMachine, event: DynamicEvent) -> Vec<String> {
    tell(machine.step(event, Duration::ZERO).as_slice())
}

fn tell(effects: &[Effect]) -> Vec<String> {
    let line = |effect: &Effect| match effect {
        Effect::Start { restart, .. } => Some(if *restart { "restart" } else { "start" }),
        Effect::Stop { .. } => Some("stop"),
        Effect::Retry { .. } => Some("retry"),
        Effect::CancelRetry { .. } => Some("cancel"),
        Effect::Forget { .. } => Some("forget"),
        Effect::Exit(ExitReason::Shutdown) => Some("exit shutdown"),
        Effect::Exit(_) => Some("exit"),
        Effect::Report(Report::MaxIntensity { .. }) => Some("max_intensity"),
        Effect::Report(Report::Zombie { .. }) => Some("zombie"),
        _ => None,
    };
    effects.iter().filter_map(line).map(str::to_owned).collect()
}

fn started(machine: &mut DynamicMachine, restart: Restart) -> Key {
    let (key, effects) = machine.admit(&rules("job", restart), 10).expect("a free place");
    assert_eq!(tell(effects.as_slice()), ["start"]);
    drop(effects);
    step(machine, DynamicEvent::Started(key));
    key
}

fn exit(key: Key, incarnation: u64, reason: ExitReason) -> DynamicEvent {
    DynamicEvent::Exited { key, incarnation: Incarnation(incarnation), reason, gone: true }
}

#[test]
fn d19_d20_d21_restart_types() {
    for (restart, clean, abnormal) in [
        (Restart::Temporary, "forget", "forget"),
        (Restart::Transient, "forget", "restart"),
        (Restart::Permanent, "restart", "restart"),
    ] {
        for (reason, expected) in [
            (ExitReason::Normal, clean),
            (ExitReason::Shutdown, clean),
            (ExitReason::ShutdownWith("x".into()), clean),
            (error(), abnormal),
            (ExitReason::Killed, abnormal),
        ] {
            let mut machine = machine(100);
            let key = started(&mut machine, restart);
            assert_eq!(step(&mut machine, exit(key, 1, reason.clone())), [expected], "{restart} {reason}");
        }
    }
}

#[test]
fn d10_d18_the_limit_refuses_new_children_and_keeps_old_ones() {
    let mut machine = machine(1);
    assert!(machine.admit(&rules("x", Restart::Temporary), 0).is_none());
    let key = started(&mut machine, Restart::Temporary);
    assert!(machine.admit(&rules("x", Restart::Temporary), 1).is_none());
    step(&mut machine, exit(key, 1, ExitReason::Normal));
    assert!(machine.admit(&rules("x", Restart::Temporary), 1).is_some());
}

#[test]
fn d23_d26_a_restarting_child_occupies_its_place_and_may_succeed_later() {
    let mut machine = machine(100);
    let key = started(&mut machine, Restart::Permanent);
    assert_eq!(step(&mut machine, exit(key, 1, error())), ["restart"]);
    assert_eq!(step(&mut machine, DynamicEvent::StartFailed { key, reason: "no".into(), gone: true }), ["retry"]);
    assert!(machine.admit(&rules("x", Restart::Temporary), 1).is_none());
    assert_eq!(step(&mut machine, DynamicEvent::RetryDue { key, token: 3 }), ["restart"]);
    step(&mut machine, DynamicEvent::Started(key));
    assert_eq!(machine.active(), 1);
}

#[test]
fn a_restart_that_leaves_something_behind_is_held_or_replaced_as_the_child_says() {
    for (on_zombie, expected) in [
        (OnZombie::Replace, vec!["zombie", "retry"]),
        (OnZombie::Hold, vec!["zombie"]),
        (OnZombie::Escalate, vec!["zombie", "exit"]),
    ] {
        let mut machine = machine(2);
        let held = ChildRules { on_zombie, ..rules("job", Restart::Permanent) };
        let key = machine.admit(&held, 10).expect("a free place").0;
        step(&mut machine, DynamicEvent::Started(key));
        step(&mut machine, exit(key, 1, error()));
        let failed = DynamicEvent::StartFailed { key, reason: "no".into(), gone: false };
        assert_eq!(step(&mut machine, failed.clone()), expected, "{on_zombie:?}");
        if on_zombie != OnZombie::Hold {
            continue;
        }
        // It counted at once.
        assert_eq!(step(&mut machine, DynamicEvent::Gone(key)), ["restart"]);
        assert_eq!(step(&mut machine, failed), ["zombie", "max_intensity", "exit shutdown"]);
    }
}

#[test]
fn a_first_start_that_leaves_something_behind_is_held_or_forgotten_as_the_child_says() {
    for (on_zombie, expected) in [
        (OnZombie::Replace, vec!["zombie", "forget"]),
        (OnZombie::Hold, vec!["zombie"]),
        (OnZombie::Escalate, vec!["zombie", "exit"]),
    ] {
        let mut machine = machine(2);
        let rules = ChildRules { on_zombie, ..rules("job", Restart::Permanent) };
        let key = machine.admit(&rules, 10).expect("a free place").0;
        let failed = DynamicEvent::StartFailed { key, reason: "no".into(), gone: false };
        assert_eq!(step(&mut machine, failed), expected, "{on_zombie:?}");
        assert_eq!(machine.admit(&rules, 1).is_some(), on_zombie == OnZombie::Replace, "{on_zombie:?}");
        if on_zombie == OnZombie::Hold {
            assert!(step(&mut machine, DynamicEvent::Cycle(key)).is_empty());
            assert_eq!(step(&mut machine, DynamicEvent::Gone(key)), ["forget"], "whoever asked was told no");
        }
    }
}

#[test]
fn d27_d28_too_many_restarts_end_the_supervisor() {
    let mut machine = machine(1);
    let (a, _b) = (started(&mut machine, Restart::Permanent), started(&mut machine, Restart::Permanent));
    step(&mut machine, exit(a, 1, error()));
    step(&mut machine, DynamicEvent::Started(a));
    assert_eq!(step(&mut machine, exit(a, 2, error())), ["max_intensity", "forget", "stop"]);
    let end = DynamicEvent::Stopped { key: Key(1), reason: ExitReason::Shutdown, gone: true };
    assert_eq!(step(&mut machine, end), ["forget", "exit shutdown"]);
    assert!(machine.admit(&rules("x", Restart::Temporary), 10).is_none());
}

#[test]
fn d12_a_first_start_that_fails_or_is_ignored_leaves_nothing() {
    let mut machine = machine(1);
    for event in [DynamicEvent::Ignored as fn(Key) -> DynamicEvent, |key| DynamicEvent::StartFailed {
        key,
        reason: "no".into(),
        gone: true,
    }] {
        let (key, _) = machine.admit(&rules("x", Restart::Permanent), 1).expect("a free place");
        assert_eq!(step(&mut machine, event(key)), ["forget"]);
    }
}

#[test]
fn d39_d41_terminate_a_running_and_a_restarting_child() {
    let mut machine = machine(100);
    let key = started(&mut machine, Restart::Permanent);
    assert_eq!(step(&mut machine, DynamicEvent::Terminate(key)), ["stop"]);
    assert_eq!(step(&mut machine, DynamicEvent::Terminate(key)), Vec::<String>::new());
    let end = DynamicEvent::Stopped { key, reason: ExitReason::Shutdown, gone: true };
    assert_eq!(step(&mut machine, end), ["forget"]);

    let key = started(&mut machine, Restart::Permanent);
    step(&mut machine, exit(key, 1, error()));
    step(&mut machine, DynamicEvent::StartFailed { key, reason: "no".into(), gone: true });
    assert_eq!(step(&mut machine, DynamicEvent::Terminate(key)), ["cancel", "forget"]);
    assert_eq!(machine.is_zombie(key), None);
}

#[test]
fn s36_shutdown_stops_all_side_by_side_and_waits_for_the_last() {
    let mut machine = machine(1);
    let keys: Vec<Key> = (0..3).map(|_| started(&mut machine, Restart::Temporary)).collect();
    assert_eq!(step(&mut machine, DynamicEvent::Shutdown(ExitReason::Shutdown)), ["stop", "stop", "stop"]);
    for (i, &key) in keys.iter().enumerate() {
        let told = step(&mut machine, DynamicEvent::Stopped { key, reason: ExitReason::Shutdown, gone: true });
        assert_eq!(told.contains(&"exit shutdown".to_owned()), i == 2);
    }
}

#[test]
fn a_held_zombie_keeps_its_place_and_does_not_delay_the_end() {
    let mut machine = machine(1);
    let key = started(&mut machine, Restart::Temporary);
    step(&mut machine, DynamicEvent::Terminate(key));
    let stuck = DynamicEvent::Stopped { key, reason: ExitReason::Killed, gone: false };
    assert_eq!(step(&mut machine, stuck), ["zombie"]);
    assert_eq!(machine.is_zombie(key), Some(true));
    assert!(machine.admit(&rules("x", Restart::Temporary), 1).is_none());
    assert_eq!(step(&mut machine, DynamicEvent::Gone(key)), ["forget"]);
}
