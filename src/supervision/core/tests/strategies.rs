//! Boot, the three strategies, restart types, intensity, retries.

use std::time::Duration;

use super::sim::{Sim, error, permanent, rules};
use crate::supervision::core::*;

fn abc() -> Vec<ChildRules> {
    vec![permanent("a"), permanent("b"), permanent("c")]
}

fn limited(strategy: Strategy, max_restarts: u32, children: Vec<ChildRules>) -> Sim {
    let intensity = Intensity::new(max_restarts, Duration::from_secs(5));
    let mut sim = Sim::new(strategy, intensity, AutoShutdown::Never, children);
    sim.boot();
    sim.told();
    sim
}

#[test]
fn s01_an_empty_supervisor_boots_and_shuts_down() {
    let mut sim = Sim::new(Strategy::OneForOne, Intensity::default(), AutoShutdown::Never, vec![]);
    sim.boot();
    sim.event(Event::Shutdown(ExitReason::Shutdown));
    assert_eq!(sim.told(), ["booted", "exit shutdown"]);
}

#[test]
fn s87_children_start_in_list_order_and_stop_in_reverse() {
    let children = vec![permanent("z"), permanent("a"), permanent("m")];
    let mut sim = Sim::new(Strategy::OneForOne, Intensity::default(), AutoShutdown::Never, children);
    sim.boot();
    assert_eq!(sim.told(), ["start z", "start a", "start m", "booted"]);
    sim.event(Event::Shutdown(ExitReason::Shutdown));
    assert_eq!(sim.told(), ["stop m", "stop a", "stop z", "exit shutdown"]);
}

#[test]
fn s51_a_child_that_fails_to_start_unwinds_those_before_it() {
    let mut sim = Sim::new(Strategy::OneForOne, Intensity::default(), AutoShutdown::Never, abc());
    sim.failing.insert("c", 1);
    sim.boot();
    let expected = ["start a", "start b", "start c", "start_error c", "stop b", "stop a", "boot failed c"];
    assert_eq!(sim.told(), expected);
}

#[test]
fn s04_a_temporary_child_that_ignores_its_start_is_forgotten_and_another_kept() {
    let children = vec![rules("t", Restart::Temporary), permanent("p")];
    let mut sim = Sim::new(Strategy::OneForOne, Intensity::default(), AutoShutdown::Never, children);
    sim.ignoring.extend(["t", "p"]);
    sim.boot();
    assert_eq!(sim.told(), ["start t", "forget t", "start p", "booted"]);
    assert!(sim.machine.key_of(&"p".into()).is_some());
}

#[test]
fn s30_one_for_one_restarts_only_the_failed_child_and_ends_above_the_intensity() {
    let mut sim = limited(Strategy::OneForOne, 2, abc());
    for _ in 0..2 {
        sim.ends("b", error());
        assert_eq!(sim.told(), ["child_terminated b", "start b"]);
    }
    sim.ends("b", error());
    assert_eq!(sim.told(), ["child_terminated b", "max_intensity b", "stop c", "stop a", "exit shutdown"]);
}

#[test]
fn s32_one_for_all_stops_the_others_in_reverse_and_counts_one_incident() {
    let mut sim = limited(Strategy::OneForAll, 2, abc());
    for _ in 0..2 {
        sim.ends("b", error());
        assert_eq!(sim.told(), ["child_terminated b", "stop c", "stop a", "start a", "start b", "start c"]);
    }
    sim.ends("a", error());
    assert_eq!(sim.told(), ["child_terminated a", "max_intensity a", "stop c", "stop b", "exit shutdown"]);
}

#[test]
fn s34_one_for_all_other_child_fails_restart() {
    let mut sim = limited(Strategy::OneForAll, 2, abc());
    sim.failing.insert("b", 1);
    sim.ends("c", error());
    assert_eq!(
        sim.told(),
        ["child_terminated c", "stop b", "stop a", "start a", "start b", "start_error b", "retry b"]
    );
    sim.retry_once();
    assert_eq!(sim.told(), ["stop a", "start a", "start b", "start c"]);
}

#[test]
fn s41_rest_for_one_restarts_the_child_and_what_follows() {
    let mut sim = limited(Strategy::RestForOne, 2, abc());
    sim.ends("b", error());
    assert_eq!(sim.told(), ["child_terminated b", "stop c", "start b", "start c"]);
    sim.ends("c", error());
    assert_eq!(sim.told(), ["child_terminated c", "start c"]);
}

#[test]
fn s43_rest_for_one_other_child_fails_restart_and_the_retry_pivots_on_it() {
    let mut sim = limited(Strategy::RestForOne, 5, abc());
    sim.failing.insert("b", 1);
    sim.ends("a", error());
    assert_eq!(
        sim.told(),
        ["child_terminated a", "stop c", "stop b", "start a", "start b", "start_error b", "retry b"]
    );
    sim.retry_once();
    assert_eq!(sim.told(), ["start b", "start c"]);
}

#[test]
fn s31_a_child_that_cannot_restart_ends_the_supervisor() {
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        let mut sim = limited(strategy, 4, abc());
        sim.failing.insert("b", usize::MAX);
        sim.ends("b", error());
        let mut attempts = 1;
        while sim.retry_once() {
            attempts += 1;
        }
        assert_eq!(sim.exit, Some(ExitReason::Shutdown), "{strategy}");
        // Four allowed attempts and the one that was too many.
        assert_eq!(attempts, 5, "{strategy}");
        assert!(sim.running.is_empty());
    }
}

#[test]
fn s45_to_s54_restart_types_against_reasons() {
    let clean = [ExitReason::Normal, ExitReason::Shutdown, ExitReason::ShutdownWith("x".into())];
    let abnormal = [error(), ExitReason::Killed, ExitReason::Aborted, ExitReason::Panic(Box::default())];
    for (restart, after_clean, after_abnormal) in
        [(Restart::Permanent, true, true), (Restart::Transient, false, true), (Restart::Temporary, false, false)]
    {
        for (reasons, back) in [(&clean[..], after_clean), (&abnormal[..], after_abnormal)] {
            for reason in reasons {
                let mut sim = Sim::booted(Strategy::OneForOne, vec![rules("x", restart)]);
                sim.ends("x", reason.clone());
                assert_eq!(sim.is_running("x"), back, "{restart} {reason}");
                let reported = sim.trace.iter().any(|line| line == "child_terminated x");
                assert_eq!(reported, restart == Restart::Permanent || !reason.is_clean(), "{restart} {reason}");
                let known = sim.machine.key_of(&"x".into()).is_some();
                assert_eq!(known, restart != Restart::Temporary, "{restart} {reason}");
            }
        }
    }
}

#[test]
fn s78_temporary_bystanders_are_stopped_and_dropped_and_burn_no_intensity() {
    let mut sim = limited(Strategy::OneForAll, 1, vec![permanent("a"), rules("t", Restart::Temporary)]);
    sim.ends("a", error());
    assert_eq!(sim.told(), ["child_terminated a", "stop t", "forget t", "start a"]);
    assert_eq!(sim.exit, None);
}

#[test]
fn s56_a_transient_child_that_is_down_comes_back_with_a_group_restart() {
    let mut sim = Sim::booted(Strategy::OneForAll, vec![permanent("a"), rules("t", Restart::Transient)]);
    sim.ends("t", ExitReason::Normal);
    assert_eq!(sim.told(), Vec::<String>::new());
    sim.ends("a", error());
    assert_eq!(sim.told(), ["child_terminated a", "start a", "start t"]);
}

#[test]
fn s21_unexpected_reasons_at_an_ordered_stop_are_reported() {
    let children = vec![permanent("p"), rules("t", Restart::Transient), permanent("q")];
    let mut sim = Sim::booted(Strategy::OneForOne, children);
    sim.stubborn.insert("p", (ExitReason::Normal, true));
    sim.stubborn.insert("t", (ExitReason::Normal, true));
    sim.stubborn.insert("q", (ExitReason::Killed, true));
    sim.event(Event::Shutdown(ExitReason::Shutdown));
    assert_eq!(sim.told(), ["stop q", "shutdown_error q", "stop t", "stop p", "shutdown_error p", "exit shutdown"]);
}

#[test]
fn x09_an_exit_that_was_already_handled_by_the_group_restart_is_stale() {
    let mut sim = Sim::booted(Strategy::OneForAll, vec![permanent("a"), permanent("b")]);
    let (key, incarnation) = sim.running["b"];
    sim.ends("a", error());
    sim.told();
    sim.event(Event::Exited { key, incarnation, reason: error(), gone: true });
    assert_eq!(sim.told(), Vec::<String>::new());
}

#[test]
fn x10_events_of_an_old_incarnation_or_an_unknown_child_are_ignored() {
    let mut sim = Sim::booted(Strategy::OneForOne, vec![permanent("a")]);
    let (key, old) = sim.running["a"];
    sim.ends("a", error());
    sim.told();
    sim.event(Event::Exited { key, incarnation: old, reason: error(), gone: true });
    sim.event(Event::Exited { key: Key(99), incarnation: old, reason: error(), gone: true });
    sim.event(Event::RetryDue { key, token: 0 });
    sim.event(Event::Gone { key });
    assert_eq!(sim.told(), Vec::<String>::new());
    assert!(sim.is_running("a"));
}

#[test]
fn x08_an_old_retry_does_nothing_after_the_child_was_started_otherwise() {
    let mut sim = Sim::booted(Strategy::OneForAll, vec![permanent("a"), permanent("b")]);
    sim.failing.insert("b", 1);
    sim.ends("b", error());
    let (key, token, _) = sim.retries[0];
    sim.ends("a", error());
    sim.told();
    sim.event(Event::RetryDue { key, token });
    assert_eq!(sim.told(), Vec::<String>::new());
}

#[test]
fn a_backoff_stops_dependents_at_once_and_starts_later() {
    let mut slow = permanent("a");
    slow.backoff = Some(Backoff::new(Duration::from_millis(100), Duration::from_secs(1)).without_jitter());
    let mut sim = Sim::booted(Strategy::RestForOne, vec![slow, permanent("b")]);
    for wait_ms in [100, 200, 400] {
        sim.ends("a", error());
        assert_eq!(sim.told(), ["child_terminated a", "stop b", "retry a"]);
        assert_eq!(sim.retries[0].2.as_millis(), wait_ms);
        sim.retry_once();
        assert_eq!(sim.told(), ["start a", "start b"]);
    }
    sim.now += Duration::from_secs(1);
    sim.ends("a", error());
    assert_eq!(sim.retries[0].2.as_millis(), 100, "a long life resets the backoff");
}

#[test]
fn an_attempt_after_a_backoff_is_counted_once() {
    let mut slow = permanent("a");
    slow.backoff = Some(Backoff::new(Duration::from_millis(1), Duration::from_millis(1)).without_jitter());
    let mut sim = limited(Strategy::OneForOne, 2, vec![slow]);
    for _ in 0..2 {
        sim.ends("a", error());
        sim.retry_once();
        assert!(sim.is_running("a"));
    }
    sim.ends("a", error());
    assert_eq!(sim.exit, Some(ExitReason::Shutdown));
}

#[test]
fn s59_s60_significant_children_end_their_supervisor() {
    let significant = |id, restart| ChildRules { significant: true, ..rules(id, restart) };
    let cases = [
        (AutoShutdown::AnySignificant, Restart::Temporary, error(), true),
        (AutoShutdown::AnySignificant, Restart::Transient, ExitReason::Normal, true),
        (AutoShutdown::AnySignificant, Restart::Transient, error(), false),
        (AutoShutdown::AllSignificant, Restart::Temporary, error(), false),
    ];
    for (auto_shutdown, restart, reason, ends) in cases {
        let children = vec![permanent("p"), significant("x", restart), significant("y", restart)];
        let mut sim = Sim::new(Strategy::OneForOne, Intensity::default(), auto_shutdown, children);
        sim.boot();
        sim.ends("x", reason.clone());
        assert_eq!(sim.exit.is_some(), ends, "{auto_shutdown:?} {restart} {reason}");
        if auto_shutdown == AutoShutdown::AllSignificant {
            sim.ends("y", reason);
            assert_eq!(sim.exit, Some(ExitReason::Shutdown));
        }
    }
}

#[test]
fn s62_significant_bystanders_of_a_group_restart_do_not_count() {
    let bystander = ChildRules { significant: true, ..rules("x", Restart::Temporary) };
    let mut sim = Sim::new(
        Strategy::OneForAll,
        Intensity::default(),
        AutoShutdown::AnySignificant,
        vec![permanent("a"), bystander],
    );
    sim.boot();
    sim.ends("a", error());
    assert_eq!(sim.exit, None);
}

#[test]
fn s26_s28_invalid_specifications_are_refused_with_their_reason() {
    let check = |change: fn(&mut ChildRules)| {
        let mut child = permanent("x");
        change(&mut child);
        validate_group(Intensity::default(), AutoShutdown::Never, [child].iter())
    };
    assert_eq!(check(|child| child.id = "".into()), Err(SpecError::EmptyId));
    assert_eq!(check(|child| child.id = "a/b".into()), Err(SpecError::SlashInId("a/b".into())));
    assert_eq!(check(|child| child.id = "x".repeat(201).into()), Err(SpecError::LongId(201)));
    assert_eq!(check(|child| child.significant = true), Err(SpecError::SignificantPermanent("x".into())));
    let never = |child: &mut ChildRules| (child.significant, child.restart) = (true, Restart::Transient);
    assert_eq!(check(never), Err(SpecError::SignificantNever("x".into())));
    let none = || [].iter();
    let twice = [permanent("x"), permanent("x")];
    let group = |intensity, children| validate_group(intensity, AutoShutdown::Never, children);
    assert_eq!(group(Intensity::default(), twice.iter()), Err(SpecError::DuplicateId("x".into())));
    assert_eq!(group(Intensity::new(1, Duration::ZERO), none()), Err(SpecError::Period));
    assert_eq!(group(Intensity::new(10_001, Duration::from_secs(1)), none()), Err(SpecError::MaxRestarts(10_001)));
}
