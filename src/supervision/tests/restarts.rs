//! Strategies, restart types, intensity and retries on real actors.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::kit::{Do, Kit, Script, ms, root, scripted, until};
use crate::supervision::*;

async fn three(kit: &Kit, strategy: Strategy, max_restarts: u32) -> (Running, [Address<Do>; 3]) {
    let workers = ["a", "b", "c"].map(|name| kit.worker(name));
    let addresses = workers.each_ref().map(|(_, address)| address.clone());
    let spec = SupervisorSpec::new("root", strategy)
        .intensity(Intensity::new(max_restarts, Duration::from_secs(5)))
        .children(workers.map(|(child, _)| child));
    (kit.start(spec).await, addresses)
}

#[tokio::test(start_paused = true)]
async fn s30_one_for_one() {
    let kit = Kit::new();
    let (running, [_, b, _]) = three(&kit, Strategy::OneForOne, 2).await;
    for incarnation in [2, 3] {
        b.cast(Do::Panic).unwrap();
        kit.runs("/b", incarnation).await;
        assert_eq!(kit.journal.take(), ["start b"]);
    }
    assert_eq!((kit.node("/a").incarnation, kit.node("/c").incarnation), (1, 1));
    b.cast(Do::Fail).unwrap();
    assert_eq!(running.wait().await, ExitReason::Shutdown);
    assert_eq!(kit.journal.take(), ["stop c", "stop a"]);
}

#[tokio::test(start_paused = true)]
async fn s30_failures_spread_wider_than_the_period_never_end_it() {
    let kit = Kit::new();
    let (_running, [a, ..]) = three(&kit, Strategy::OneForOne, 1).await;
    for incarnation in 2..10 {
        a.cast(Do::Panic).unwrap();
        kit.runs("/a", incarnation).await;
        tokio::time::sleep(ms(5_001)).await;
    }
    assert_eq!(kit.node("/").restarts_in_window, 0);
    assert_eq!(kit.node("/a").restarts_total, 8);
}

#[tokio::test(start_paused = true)]
async fn s32_one_for_all() {
    let kit = Kit::new();
    let (running, [_, b, _]) = three(&kit, Strategy::OneForAll, 2).await;
    for incarnation in [2, 3] {
        b.cast(Do::Panic).unwrap();
        kit.runs("/c", incarnation).await;
        assert_eq!(kit.journal.take(), ["stop c", "stop a", "start a", "start b", "start c"]);
    }
    assert_eq!(kit.node("/").restarts_in_window, 2);
    b.cast(Do::Panic).unwrap();
    assert_eq!(running.wait().await, ExitReason::Shutdown);
    assert_eq!(kit.journal.take(), ["stop c", "stop a"]);
}

#[tokio::test(start_paused = true)]
async fn s34_one_for_all_other_child_fails_restart() {
    let kit = Kit::new();
    let failing = Arc::new(AtomicUsize::new(0));
    let (a, address) = kit.worker("a");
    let (b, _) = scripted(Script { failing: failing.clone(), ..kit.script("b") });
    let _running = kit.start(root(Strategy::OneForAll).child(a).child(b)).await;
    failing.store(1, Ordering::SeqCst);
    address.cast(Do::Panic).unwrap();
    let expected = ["stop b", "start a", "start b", "stop a", "start a", "start b"];
    assert_eq!(kit.journal.lines(6).await, expected);
    kit.runs("/b", 3).await;
}

#[tokio::test(start_paused = true)]
async fn s41_rest_for_one() {
    let kit = Kit::new();
    let (_running, [_, b, _]) = three(&kit, Strategy::RestForOne, 2).await;
    b.cast(Do::Panic).unwrap();
    kit.runs("/c", 2).await;
    assert_eq!(kit.journal.take(), ["stop c", "start b", "start c"]);
    assert_eq!(kit.node("/a").incarnation, 1);
}

#[tokio::test(start_paused = true)]
async fn s43_rest_for_one_other_child_fails_restart() {
    let kit = Kit::new();
    let failing = Arc::new(AtomicUsize::new(0));
    let (a, address) = kit.worker("a");
    let (b, _) = scripted(Script { failing: failing.clone(), ..kit.script("b") });
    let (c, _) = kit.worker("c");
    let _running = kit.start(root(Strategy::RestForOne).child(a).child(b).child(c)).await;
    failing.store(1, Ordering::SeqCst);
    address.cast(Do::Panic).unwrap();
    let expected = ["stop c", "stop b", "start a", "start b", "start b", "start c"];
    assert_eq!(kit.journal.lines(6).await, expected);
    kit.runs("/c", 2).await;
    assert_eq!((kit.node("/a").incarnation, kit.node("/b").incarnation), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn s42_a_child_that_cannot_restart_ends_the_supervisor() {
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        let kit = Kit::new();
        let failing = Arc::new(AtomicUsize::new(0));
        let (a, address) = scripted(Script { failing: failing.clone(), ..kit.script("a") });
        let (b, _) = kit.worker("b");
        let running = kit.start(SupervisorSpec::new("root", strategy).child(a).child(b)).await;
        failing.store(usize::MAX, Ordering::SeqCst);
        address.cast(Do::Panic).unwrap();
        assert_eq!(running.wait().await, ExitReason::Shutdown, "{strategy}");
        assert_eq!(kit.node("/b").state, NodeState::Stopped);
    }
}

/// Ends a child of this type for each of these reasons; tells whether it came back and whether its supervisor still
/// knows it.
async fn outcome(restart: Restart, how: fn() -> Do) -> (bool, bool) {
    let kit = Kit::new();
    let (child, address) = kit.worker("x");
    let _running = kit.start(root(Strategy::OneForOne).child(child.restart(restart)).child(kit.worker("y").0)).await;
    address.cast(how()).unwrap();
    let gone = || kit.system.snapshot().find("/x").is_none_or(|node| node.last_exit.is_some());
    until(gone).await;
    until(|| kit.system.snapshot().find("/x").is_none_or(|node| node.state != NodeState::Starting)).await;
    tokio::time::sleep(ms(10)).await;
    assert_eq!(kit.node("/y").incarnation, 1);
    (address.is_up(), kit.system.snapshot().find("/x").is_some())
}

fn normal() -> Do {
    Do::Stop(ExitReason::Normal)
}
fn shutdown() -> Do {
    Do::Stop(ExitReason::Shutdown)
}
fn shutdown_with() -> Do {
    Do::Stop(ExitReason::ShutdownWith("x".into()))
}

#[tokio::test(start_paused = true)]
async fn s45_permanent_normal() {
    assert_eq!(outcome(Restart::Permanent, normal).await, (true, true));
}

#[tokio::test(start_paused = true)]
async fn s46_transient_normal() {
    assert_eq!(outcome(Restart::Transient, normal).await, (false, true));
}

#[tokio::test(start_paused = true)]
async fn s47_temporary_normal() {
    assert_eq!(outcome(Restart::Temporary, normal).await, (false, false));
}

#[tokio::test(start_paused = true)]
async fn s48_permanent_shutdown() {
    assert_eq!(outcome(Restart::Permanent, shutdown).await, (true, true));
    assert_eq!(outcome(Restart::Permanent, shutdown_with).await, (true, true));
}

#[tokio::test(start_paused = true)]
async fn s49_transient_shutdown() {
    assert_eq!(outcome(Restart::Transient, shutdown).await, (false, true));
    assert_eq!(outcome(Restart::Transient, shutdown_with).await, (false, true));
}

#[tokio::test(start_paused = true)]
async fn s50_temporary_shutdown() {
    assert_eq!(outcome(Restart::Temporary, shutdown).await, (false, false));
    assert_eq!(outcome(Restart::Temporary, shutdown_with).await, (false, false));
}

#[tokio::test(start_paused = true)]
async fn s52_permanent_abnormal() {
    assert_eq!(outcome(Restart::Permanent, || Do::Fail).await, (true, true));
    assert_eq!(outcome(Restart::Permanent, || Do::Panic).await, (true, true));
}

#[tokio::test(start_paused = true)]
async fn s53_transient_abnormal() {
    assert_eq!(outcome(Restart::Transient, || Do::Fail).await, (true, true));
    assert_eq!(outcome(Restart::Transient, || Do::Panic).await, (true, true));
}

#[tokio::test(start_paused = true)]
async fn s54_temporary_abnormal() {
    assert_eq!(outcome(Restart::Temporary, || Do::Fail).await, (false, false));
    assert_eq!(outcome(Restart::Temporary, || Do::Panic).await, (false, false));
}

#[tokio::test(start_paused = true)]
async fn s53_a_killed_transient_child_is_restarted() {
    let kit = Kit::new();
    let (child, _) = kit.worker("x");
    let _running = kit.start(root(Strategy::OneForOne).child(child.restart(Restart::Transient))).await;
    kit.kill("/x");
    kit.runs("/x", 2).await;
    assert_eq!(kit.node("/x").last_exit.unwrap().reason, "killed");
}

#[tokio::test(start_paused = true)]
async fn x09_two_siblings_that_fail_together_cause_one_round() {
    let kit = Kit::new();
    let (running, [a, b, _]) = three(&kit, Strategy::OneForAll, 1).await;
    a.cast(Do::Panic).unwrap();
    b.cast(Do::Panic).unwrap();
    kit.runs("/c", 2).await;
    tokio::time::sleep(ms(100)).await;
    assert_eq!(kit.journal.take(), ["stop c", "start a", "start b", "start c"]);
    assert_eq!(running.stop().await, ExitReason::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn the_old_incarnation_is_dropped_before_the_next_starts() {
    let kit = Kit::new();
    let (child, _) = scripted(Script { notes_drop: true, ..kit.script("x") });
    let (first, address) = kit.worker("first");
    let _running = kit.start(root(Strategy::OneForAll).child(first).child(child)).await;
    kit.kill("/x");
    kit.runs("/x", 2).await;
    assert_eq!(kit.journal.take(), ["drop x", "stop first", "start first", "start x"]);
    address.cast(Do::Panic).unwrap();
    kit.runs("/x", 3).await;
    assert_eq!(kit.journal.take(), ["stop x", "drop x", "start first", "start x"]);
}

#[tokio::test(start_paused = true)]
async fn a_backoff_delays_restarts_and_shows_as_restarting() {
    let kit = Kit::new();
    let (child, address) = kit.worker("x");
    let backoff = Backoff::new(ms(200), ms(800)).without_jitter();
    let _running = kit.start(root(Strategy::OneForOne).child(child.backoff(backoff))).await;
    for (incarnation, wait_ms) in [(2, 200), (3, 400), (4, 800), (5, 800)] {
        address.cast(Do::Panic).unwrap();
        let began = tokio::time::Instant::now();
        kit.is("/x", NodeState::Restarting).await;
        kit.runs("/x", incarnation).await;
        let waited = began.elapsed().as_millis();
        assert!((wait_ms..wait_ms + 5).contains(&waited), "{waited} ms instead of {wait_ms}");
    }
}
