//! Children that were killed but do not end.

use std::time::Duration;

use super::sim::{Sim, error, permanent};
use crate::supervision::core::*;

fn with_policy(policy: OnZombie) -> Sim {
    let stuck = ChildRules { on_zombie: policy, ..permanent("b") };
    let mut sim = Sim::booted(Strategy::OneForAll, vec![permanent("a"), stuck, permanent("c")]);
    sim.stubborn.insert("b", (ExitReason::Killed, false));
    sim
}

#[test]
fn a_held_zombie_keeps_its_place_and_the_restart_goes_on_when_it_is_gone() {
    let mut sim = with_policy(OnZombie::Hold);
    let (key, _) = sim.running["b"];
    sim.ends("a", error());
    assert_eq!(sim.told(), ["child_terminated a", "stop c", "stop b", "zombie b", "start a"]);
    assert_eq!(sim.request(Request::Terminate("b".into())), Err(RequestError::Zombie));
    sim.ends("a", error());
    assert_eq!(sim.told(), ["child_terminated a", "start a"], "a second incident waits for the same zombie");
    sim.event(Event::Gone { key });
    assert_eq!(sim.told(), ["zombie_gone b", "start b", "start c"]);
}

#[test]
fn a_cycle_that_waits_for_a_zombie_beside_its_child_says_so_and_goes_on_when_it_is_gone() {
    for child in ["a", "c"] {
        let mut sim = with_policy(OnZombie::Hold);
        let (key, _) = sim.running["b"];
        assert_eq!(sim.request(Request::Cycle(child.into())), Err(RequestError::Zombie), "{child}");
        assert_eq!(sim.told()[..2], ["stop c", "stop b"]);
        sim.event(Event::Gone { key });
        assert_eq!(sim.told(), ["zombie_gone b", "start b", "start c"]);
    }
}

#[test]
fn a_replaced_zombie_delays_nothing() {
    let mut sim = with_policy(OnZombie::Replace);
    sim.ends("a", error());
    let expected = ["child_terminated a", "stop c", "stop b", "zombie b", "start a", "start b", "start c"];
    assert_eq!(sim.told(), expected);
}

#[test]
fn an_escalated_zombie_ends_the_supervisor_with_an_error() {
    let mut sim = with_policy(OnZombie::Escalate);
    sim.ends("a", error());
    assert_eq!(sim.told()[..4], ["child_terminated a", "stop c", "stop b", "zombie b"]);
    assert!(sim.exit.is_some_and(|reason| !reason.is_clean()));
    assert!(sim.running.is_empty());
}

#[test]
fn x05_a_child_whose_descendants_still_live_is_restarted_when_they_are_gone() {
    let mut sim = Sim::booted(Strategy::OneForOne, vec![permanent("sub")]);
    let (key, _) = sim.running["sub"];
    sim.ends_leaving("sub", ExitReason::Killed, false);
    assert_eq!(sim.told(), ["child_terminated sub", "zombie sub"]);
    sim.event(Event::Gone { key });
    assert_eq!(sim.told(), ["zombie_gone sub", "start sub"]);
}

#[test]
fn a_zombie_does_not_delay_the_end_of_its_supervisor() {
    let mut sim = with_policy(OnZombie::Hold);
    sim.event(Event::Shutdown(ExitReason::Shutdown));
    assert_eq!(sim.told(), ["stop c", "stop b", "zombie b", "stop a", "exit shutdown"]);
}

/// One whose restart fails once and leaves something behind, under a supervisor that permits so many restarts.
fn lingering(policy: OnZombie, max_restarts: u32) -> Sim {
    let rules = ChildRules { on_zombie: policy, ..permanent("b") };
    let intensity = Intensity::new(max_restarts, Duration::from_secs(5));
    let children = vec![permanent("a"), rules, permanent("c")];
    let mut sim = Sim::new(Strategy::OneForAll, intensity, AutoShutdown::Never, children);
    sim.boot();
    sim.failing.insert("b", 1);
    sim.lingering.insert("b");
    sim.ends("a", error());
    let expected =
        ["booted", "child_terminated a", "stop c", "stop b", "start a", "start b", "start_error b", "zombie b"];
    assert_eq!(sim.trace[3..11], expected);
    sim.trace.drain(..11);
    sim
}

#[test]
fn a_start_that_leaves_something_behind_is_tried_again_when_that_is_gone_and_counts_at_once() {
    let mut sim = lingering(OnZombie::Hold, 2);
    let key = sim.machine.key_of(&"b".into()).unwrap();
    assert_eq!((sim.told(), sim.retries.len(), sim.counted.len()), (vec![], 0, 2));
    assert_eq!(sim.request(Request::Restart("b".into())), Err(RequestError::Zombie));
    sim.event(Event::Gone { key });
    assert_eq!(sim.told(), ["zombie_gone b", "start b", "start c"]);
    let mut sim = lingering(OnZombie::Hold, 1);
    assert_eq!(sim.told(), ["max_intensity b", "stop a", "exit shutdown"]);
}

#[test]
fn the_policy_may_replace_or_escalate_what_a_start_has_left_behind() {
    let mut sim = lingering(OnZombie::Replace, 2);
    assert_eq!(sim.told(), ["retry b"]);
    let sim = lingering(OnZombie::Escalate, 2);
    assert!(sim.exit.is_some_and(|reason| !reason.is_clean()));
}

#[test]
fn a_request_that_leaves_something_behind_holds_the_place_of_a_known_child() {
    let mut sim = Sim::booted(Strategy::OneForOne, vec![permanent("a")]);
    let (key, _) = sim.running["a"];
    sim.request(Request::Terminate("a".into())).unwrap();
    sim.failing.insert("a", 1);
    sim.lingering.insert("a");
    assert_eq!(sim.request(Request::Restart("a".into())), Err(RequestError::Start));
    assert_eq!(sim.request(Request::Restart("a".into())), Err(RequestError::Zombie));
    sim.event(Event::Gone { key });
    assert!(!sim.is_running("a"), "nobody asked for it again");
    assert_eq!(sim.request(Request::Restart("a".into())), Ok(Some(key)));
}

#[test]
fn a_first_start_that_leaves_something_behind_keeps_its_place_until_that_is_gone() {
    let mut sim = Sim::booted(Strategy::OneForAll, vec![permanent("a")]);
    sim.failing.insert("b", 1);
    sim.lingering.insert("b");
    let start = || Request::Start(permanent("b"), Incarnation(0));
    assert_eq!(sim.request(start()), Err(RequestError::Start));
    assert_eq!(sim.told(), ["start b", "start_error b", "zombie b"]);
    assert_eq!(sim.request(start()), Err(RequestError::AlreadyPresent));
    assert_eq!(sim.request(Request::Restart("b".into())), Err(RequestError::Zombie));
    sim.ends("a", error());
    assert_eq!(sim.told(), ["child_terminated a", "start a"], "nobody waits for what was never there");
    assert!(sim.request(Request::Cycle("a".into())).is_ok());
    sim.told();
    let key = sim.machine.key_of(&"b".into()).unwrap();
    sim.event(Event::Gone { key });
    assert_eq!(sim.told(), ["zombie_gone b", "forget b"]);
    assert!(sim.request(start()).is_ok());
}

#[test]
fn whoever_asked_is_answered_also_when_a_zombie_ends_the_supervisor() {
    for request in [Request::Terminate("b".into()), Request::Cycle("b".into()), Request::Cycle("a".into())] {
        let mut sim = with_policy(OnZombie::Escalate);
        assert_eq!(sim.request(request.clone()), Err(RequestError::Zombie), "{request:?}");
        assert!(sim.exit.is_some_and(|reason| !reason.is_clean()) && sim.running.is_empty());
    }
    let mut sim = Sim::booted(Strategy::OneForOne, vec![permanent("a")]);
    sim.failing.insert("b", 1);
    sim.lingering.insert("b");
    let rules = ChildRules { on_zombie: OnZombie::Escalate, ..permanent("b") };
    assert_eq!(sim.request(Request::Start(rules, Incarnation(0))), Err(RequestError::Start));
    assert!(sim.exit.is_some_and(|reason| !reason.is_clean()) && sim.running.is_empty());
}

#[test]
fn a_boot_that_fails_tells_its_cause_also_when_a_zombie_is_left_of_it() {
    let stuck = ChildRules { on_zombie: OnZombie::Escalate, ..permanent("a") };
    let intensity = Intensity::new(1, Duration::from_secs(5));
    let mut sim = Sim::new(Strategy::OneForOne, intensity, AutoShutdown::Never, vec![stuck, permanent("b")]);
    sim.stubborn.insert("a", (ExitReason::Killed, false));
    sim.failing.insert("b", 1);
    sim.boot();
    assert_eq!(sim.told(), ["start a", "start b", "start_error b", "stop a", "zombie a", "boot failed b"]);
    assert!(sim.exit.is_none());
}

#[test]
fn a_significant_zombie_that_will_be_started_again_keeps_its_supervisor() {
    let significant = |id| ChildRules { significant: true, ..super::sim::rules(id, Restart::Transient) };
    let intensity = Intensity::new(9, Duration::from_secs(5));
    let children = vec![significant("a"), significant("b")];
    let mut sim = Sim::new(Strategy::OneForOne, intensity, AutoShutdown::AllSignificant, children);
    sim.boot();
    let (key, _) = sim.running["b"];
    sim.ends_leaving("b", error(), false);
    sim.ends("a", ExitReason::Normal);
    assert!(sim.exit.is_none());
    sim.event(Event::Gone { key });
    sim.ends("b", ExitReason::Normal);
    assert_eq!(sim.exit, Some(ExitReason::Shutdown));
}
