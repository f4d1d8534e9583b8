//! Requests to a running static supervisor.

use super::sim::{Sim, error, permanent, rules};
use crate::supervision::core::*;

fn start(rules: ChildRules) -> Request {
    Request::Start(rules, Incarnation(0))
}

#[test]
fn s23_the_life_cycle_of_a_child_by_request() {
    let mut sim = Sim::booted(Strategy::OneForOne, vec![permanent("a")]);
    assert_eq!(sim.request(start(permanent("a"))), Err(RequestError::AlreadyStarted));
    let key = sim.request(start(permanent("b"))).unwrap();
    assert!(key.is_some());
    assert_eq!(sim.request(Request::Restart("b".into())), Err(RequestError::Running));
    assert_eq!(sim.request(Request::Delete("b".into())), Err(RequestError::Running));
    for _ in 0..2 {
        assert_eq!(sim.request(Request::Terminate("b".into())), Ok(key));
    }
    assert_eq!(sim.request(start(permanent("b"))), Err(RequestError::AlreadyPresent));
    assert_eq!(sim.request(Request::Restart("b".into())), Ok(key));
    assert!(sim.is_running("b"));
    sim.request(Request::Terminate("b".into())).unwrap();
    assert_eq!(sim.request(Request::Delete("b".into())), Ok(key));
    for gone in [Request::Delete, Request::Restart, Request::Terminate] {
        assert_eq!(sim.request(gone("b".into())), Err(RequestError::NotFound));
    }
}

#[test]
fn s11_a_child_whose_start_fails_is_not_recorded() {
    let mut sim = Sim::booted(Strategy::OneForOne, vec![]);
    sim.failing.insert("a", 1);
    assert_eq!(sim.request(start(permanent("a"))), Err(RequestError::Start));
    assert_eq!(sim.request(Request::Terminate("a".into())), Err(RequestError::NotFound));
}

#[test]
fn s10_a_manual_restart_that_fails_leaves_the_child_down() {
    let mut sim = Sim::booted(Strategy::OneForOne, vec![permanent("a")]);
    sim.request(Request::Terminate("a".into())).unwrap();
    sim.failing.insert("a", 1);
    assert_eq!(sim.request(Request::Restart("a".into())), Err(RequestError::Start));
    assert!(sim.request(Request::Restart("a".into())).is_ok());
}

#[test]
fn s50_a_terminated_temporary_child_is_forgotten_and_its_id_free() {
    let mut sim = Sim::booted(Strategy::OneForOne, vec![rules("t", Restart::Temporary)]);
    assert!(sim.request(Request::Terminate("t".into())).is_ok());
    assert_eq!(sim.told(), ["stop t", "forget t"]);
    assert!(sim.request(start(rules("t", Restart::Temporary))).is_ok());
}

#[test]
fn s80_requests_during_a_failing_restart_loop() {
    let mut sim = Sim::booted(Strategy::OneForAll, vec![permanent("a"), permanent("b")]);
    sim.failing.insert("b", usize::MAX);
    sim.ends("b", error());
    assert_eq!(sim.request(start(permanent("b"))), Err(RequestError::AlreadyPresent));
    assert_eq!(sim.request(Request::Restart("b".into())), Err(RequestError::Restarting));
    assert_eq!(sim.request(Request::Delete("b".into())), Err(RequestError::Restarting));
    sim.told();
    assert!(sim.request(Request::Terminate("b".into())).is_ok());
    assert_eq!(sim.told(), ["cancel b"]);
    assert!(!sim.retry_once());
    sim.event(Event::Shutdown(ExitReason::Shutdown));
    assert_eq!(sim.exit, Some(ExitReason::Shutdown));
}

#[test]
fn a_cycle_stops_and_starts_whom_the_strategy_restarts_and_counts_nothing() {
    let children = || ["a", "b", "c"].map(permanent).to_vec();
    let expected = [
        (Strategy::OneForOne, vec!["stop b", "start b"]),
        (Strategy::RestForOne, vec!["stop c", "stop b", "start b", "start c"]),
        (Strategy::OneForAll, vec!["stop c", "stop b", "stop a", "start a", "start b", "start c"]),
    ];
    for (strategy, steps) in expected {
        let mut sim = Sim::booted(strategy, children());
        assert!(sim.request(Request::Cycle("b".into())).is_ok());
        assert_eq!((sim.told(), sim.counted.len()), (steps.iter().map(ToString::to_string).collect(), 0));
    }
}

#[test]
fn a_cycle_whose_start_fails_is_answered_and_tried_again_as_a_restart() {
    let mut sim = Sim::booted(Strategy::OneForOne, vec![permanent("a")]);
    sim.failing.insert("a", 1);
    assert_eq!(sim.request(Request::Cycle("a".into())), Err(RequestError::Start));
    assert!(!sim.is_running("a"));
    assert!(sim.retry_once());
    assert!(sim.is_running("a"));
    assert_eq!(sim.counted.len(), 1);
}

#[test]
fn a_cycle_starts_a_child_that_is_down_and_refuses_a_temporary_one() {
    let mut sim = Sim::booted(Strategy::OneForOne, vec![permanent("a"), rules("t", Restart::Temporary)]);
    sim.request(Request::Terminate("a".into())).unwrap();
    sim.request(Request::Cycle("a".into())).unwrap();
    assert!(sim.is_running("a"));
    assert_eq!(sim.request(Request::Cycle("t".into())), Err(RequestError::Temporary));
    assert_eq!(sim.request(Request::Cycle("x".into())), Err(RequestError::NotFound));
}

#[test]
fn s83_code_change_replaces_flags_and_rules_and_starts_and_stops_nothing() {
    let mut sim = Sim::booted(Strategy::OneForOne, ["a", "b"].map(permanent).to_vec());
    let update = Update {
        strategy: Strategy::OneForAll,
        intensity: Intensity::new(0, std::time::Duration::from_secs(1)),
        auto_shutdown: AutoShutdown::Never,
        children: vec![(rules("a", Restart::Temporary), Incarnation(0)), (permanent("c"), Incarnation(0))],
    };
    sim.ids.insert(Key(2), "c".into());
    sim.request(Request::Update(Box::new(update))).unwrap();
    assert!(sim.told().is_empty());
    assert!(sim.is_running("a") && sim.is_running("b") && !sim.is_running("c"));
    // "a" is temporary now; "b" is one incident too many for the new intensity.
    sim.ends("a", error());
    assert_eq!(sim.machine.key_of(&"a".into()), None);
    sim.ends("b", error());
    assert_eq!(sim.exit, Some(ExitReason::Shutdown));
}
