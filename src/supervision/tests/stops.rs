//! Starting in order, stopping in reverse, shutdown times.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::time::Instant;

use super::kit::{Do, Kit, Script, ms, root, scripted, within};
use crate::supervision::*;

#[tokio::test(start_paused = true)]
async fn s87_children_start_in_list_order_and_stop_in_reverse() {
    let kit = Kit::new();
    let mut spec = root(Strategy::OneForOne);
    for name in ["c", "a", "b"] {
        spec = spec.child(kit.worker(name).0);
    }
    let running = kit.system.start(spec).await.unwrap();
    assert_eq!(kit.journal.take(), ["start c", "start a", "start b"]);
    assert_eq!(running.stop().await, ExitReason::Shutdown);
    assert_eq!(kit.journal.take(), ["stop b", "stop a", "stop c"]);
}

#[tokio::test(start_paused = true)]
async fn s17_a_child_that_does_not_stop_in_time_is_killed_and_the_others_stop_in_order() {
    let kit = Kit::new();
    let slow = Script { stop_takes: ms(60_000), notes_drop: true, ..kit.script("slow") };
    let (slow, _) = scripted(slow);
    let spec = root(Strategy::OneForOne).child(kit.worker("quick").0).child(slow.shutdown(Shutdown::Timeout(ms(1000))));
    let running = kit.start(spec).await;
    let began = Instant::now();
    assert_eq!(running.stop().await, ExitReason::Shutdown);
    assert_eq!(began.elapsed().as_millis(), 1000);
    assert_eq!(kit.journal.take(), ["stop slow", "drop slow", "stop quick"]);
    assert_eq!(kit.node("/slow").last_exit.unwrap().reason, "killed");
    assert_eq!(kit.node("/quick").last_exit.unwrap().reason, "shutdown");
}

#[tokio::test(start_paused = true)]
async fn s19_brutal_kill_runs_no_cleanup() {
    let kit = Kit::new();
    let brutal = kit.worker("brutal").0.shutdown(Shutdown::BrutalKill);
    let running = kit.start(root(Strategy::OneForOne).child(kit.worker("timed").0).child(brutal)).await;
    running.stop().await;
    assert_eq!(kit.journal.take(), ["stop timed"]);
    assert_eq!(kit.node("/brutal").last_exit.unwrap().reason, "killed");
    assert_eq!(kit.node("/timed").last_exit.unwrap().reason, "shutdown");
}

#[tokio::test(start_paused = true)]
async fn s16_infinity_waits_as_long_as_it_takes() {
    let kit = Kit::new();
    let (slow, _) = scripted(Script { stop_takes: ms(3_600_000), ..kit.script("slow") });
    let running = kit.start(root(Strategy::OneForOne).child(slow.shutdown(Shutdown::Infinity))).await;
    running.stop().await;
    assert_eq!(kit.node("/slow").last_exit.unwrap().reason, "shutdown");
}

#[tokio::test(start_paused = true)]
async fn s21_children_that_leave_by_themselves_during_shutdown_keep_their_own_reason() {
    for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
        let kit = Kit::new();
        let reasons = [
            ExitReason::Normal,
            ExitReason::Shutdown,
            ExitReason::ShutdownWith("x".into()),
            ExitReason::Error(ErrorInfo::text("other")),
        ];
        let mut spec = root(Strategy::OneForOne);
        let mut addresses = Vec::new();
        for name in ["a", "b", "c", "d"] {
            let (child, address) = kit.worker(name);
            spec = spec.child(child.restart(restart));
            addresses.push(address);
        }
        let mut events = kit.system.events();
        let running = kit.start(spec).await;
        for (address, reason) in addresses.iter().zip(&reasons) {
            // Still asleep when the stop arrives, so the own reason comes first.
            address.cast(Do::Sleep(ms(10))).unwrap();
            address.cast(Do::Stop(reason.clone())).unwrap();
        }
        drop(within(running.stop()).await);
        let mut ended = 0;
        while let Ok(event) = events.try_recv() {
            if let SupervisionEventKind::Stopped { .. } | SupervisionEventKind::Exited { .. } = event.kind {
                ended += 1;
            }
        }
        assert_eq!(ended, 4, "{restart}");
    }
}

#[tokio::test(start_paused = true)]
async fn s09_a_child_that_fails_to_start_fails_the_root_and_unwinds_the_others() {
    let kit = Kit::new();
    let failing = Script { failing: Arc::new(AtomicUsize::new(1)), ..kit.script("c") };
    let spec = root(Strategy::OneForOne)
        .child(kit.worker("a").0)
        .child(SupervisorSpec::new("sub", Strategy::OneForOne).child(kit.worker("b").0).into_child())
        .child(scripted(failing).0);
    let error = kit.system.start(spec).await.unwrap_err();
    assert_eq!(error.to_string(), "child \"c\" failed to start: init fails");
    assert_eq!(kit.journal.take(), ["start a", "start b", "start c", "stop b", "stop a"]);
    assert_eq!(kit.node("/").state, NodeState::Stopped);
    let spec = root(Strategy::OneForOne).child(kit.worker("a").0);
    assert!(kit.system.start(spec).await.is_ok(), "the system can be started again");
}

#[tokio::test(start_paused = true)]
async fn s51_a_failing_grandchild_is_named_through_all_levels() {
    let kit = Kit::new();
    let failing = Script { failing: Arc::new(AtomicUsize::new(1)), ..kit.script("leaf") };
    let sub = SupervisorSpec::new("sub", Strategy::OneForOne).child(scripted(failing).0);
    let error = kit.system.start(root(Strategy::OneForOne).child(sub.into_child())).await.unwrap_err();
    let expected = "child \"sub\" failed to start: child \"leaf\" failed to start: init fails";
    assert_eq!(error.to_string(), expected);
}

#[tokio::test(start_paused = true)]
async fn x06_a_stop_asked_for_twice_stops_once() {
    let kit = Kit::new();
    let (slow, _) = scripted(Script { stop_takes: ms(1000), ..kit.script("slow") });
    let running = kit.start(root(Strategy::OneForOne).child(slow)).await;
    let (first, second) = tokio::join!(running.stop(), running.stop());
    assert_eq!((first, second), (ExitReason::Shutdown, ExitReason::Shutdown));
    assert_eq!(kit.journal.take(), ["stop slow"]);
}

#[tokio::test(start_paused = true)]
async fn x12_the_tree_is_readable_while_a_supervisor_is_blocked_in_a_long_shutdown() {
    let kit = Kit::new();
    let (slow, _) = scripted(Script { stop_takes: ms(60_000), ..kit.script("slow") });
    let sub = SupervisorSpec::new("sub", Strategy::OneForOne).child(slow.shutdown(Shutdown::Timeout(ms(60_000))));
    let running = kit.start(root(Strategy::OneForOne).child(sub.into_child())).await;
    let watch = async {
        kit.journal.lines(1).await;
        tokio::time::sleep(ms(30_000)).await;
        let tree = kit.system.snapshot();
        for path in ["/", "/sub", "/sub/slow"] {
            assert_eq!(tree.find(path).unwrap().state, NodeState::Stopping, "{path}");
        }
        assert_eq!(tree.find("/sub/slow").unwrap().current_message.as_deref(), Some("stopped"));
        assert!(tree.find("/sub/slow").unwrap().busy_ms.unwrap() >= 29_000);
    };
    tokio::join!(running.stop(), watch);
    assert_eq!(kit.node("/sub/slow").state, NodeState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_root_that_is_dropped_takes_its_tree_along() {
    let kit = Kit::new();
    let (child, address) = kit.worker("a");
    drop(kit.start(root(Strategy::OneForOne).child(child)).await);
    super::kit::until(|| !address.is_up()).await;
    assert_eq!(kit.journal.take(), Vec::<String>::new());
    kit.is("/", NodeState::Stopped).await;
}

#[tokio::test(start_paused = true)]
async fn a_system_runs_one_root_at_a_time() {
    let kit = Kit::new();
    let running = kit.start(root(Strategy::OneForOne)).await;
    let error = kit.system.start(root(Strategy::OneForOne)).await.unwrap_err();
    assert_eq!(error, StartError::AlreadyRunning("test".into()));
    running.stop().await;
    let again = kit.start(root(Strategy::OneForOne)).await;
    assert_eq!(kit.node("/").incarnation, 2);
    again.kill().await;
    assert_eq!(again.wait().await, ExitReason::Killed);
}
