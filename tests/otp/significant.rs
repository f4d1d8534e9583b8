//! Supervisors that end once significant children have ended (EEP 56).

use singularity::supervision::*;

use super::kit::{Do, Kit, Worker, clean_reasons, root, settle};

const MODES: [AutoShutdown; 3] = [AutoShutdown::Never, AutoShutdown::AnySignificant, AutoShutdown::AllSignificant];

pub fn significant(kit: &Kit, name: &str, restart: Restart) -> Worker {
    kit.worker(name).restart(restart).with(|spec| spec.significant(true))
}

/// A root with this mode over two workers.
async fn pair(kit: &Kit, mode: AutoShutdown, [a, b]: [&Worker; 2]) -> (Running, SupervisorHandle) {
    let handle = SupervisorHandle::new();
    let spec = root(Strategy::OneForOne).auto_shutdown(mode).handle(&handle);
    (kit.start(spec.child(a.spec.clone()).child(b.spec.clone())).await, handle)
}

/// Whether the root still runs after what is on its way has arrived.
async fn runs(kit: &Kit) -> bool {
    settle().await;
    kit.node("/").state == NodeState::Running
}

#[tokio::test(start_paused = true)]
async fn s57_nonsignificant_temporary() {
    for mode in MODES {
        let kit = Kit::new();
        let [a, b] = kit.workers(["a", "b"]).map(|worker| worker.restart(Restart::Temporary));
        let (running, handle) = pair(&kit, mode, [&a, &b]).await;
        a.leaves(ExitReason::Normal);
        b.tell(Do::Fail);
        assert!(runs(&kit).await, "{mode:?}");
        assert_eq!(handle.count_children().await.unwrap().specs, 0);
        for restart in [a.spec.clone(), b.spec.clone()] {
            handle.start_child(restart).await.unwrap();
        }
        kit.kill("/a");
        handle.terminate_child("b").await.unwrap();
        assert!(runs(&kit).await, "{mode:?}");
        assert_eq!(running.stop().await, ExitReason::Shutdown);
    }
}

#[tokio::test(start_paused = true)]
async fn s58_nonsignificant_transient() {
    for mode in MODES {
        let kit = Kit::new();
        let [a, b] = kit.workers(["a", "b"]).map(|worker| worker.restart(Restart::Transient));
        let (_running, handle) = pair(&kit, mode, [&a, &b]).await;
        a.tell(Do::Fail);
        kit.kill("/b");
        assert!(runs(&kit).await, "{mode:?}");
        assert_eq!(kit.lives(["/a", "/b"]), [2, 2]);
        a.leaves(ExitReason::Normal);
        b.leaves(ExitReason::Shutdown);
        assert!(runs(&kit).await, "{mode:?}");
        assert_eq!(handle.count_children().await, Ok(super::kit::counts(2, 0, 0, 2)));
    }
}

#[tokio::test(start_paused = true)]
async fn s59_significant_temporary() {
    // Any: the first end that is its own, whatever it is.
    for end in 0..4 {
        let kit = Kit::new();
        let [a, b] = ["a", "b"].map(|name| significant(&kit, name, Restart::Temporary));
        let (running, handle) = pair(&kit, AutoShutdown::AnySignificant, [&a, &b]).await;
        handle.terminate_child("b").await.unwrap();
        assert!(runs(&kit).await, "a termination by request does not count");
        match end {
            0 => kit.kill("/a"),
            1 => a.tell(Do::Fail),
            2 => a.panics(),
            _ => a.leaves(ExitReason::Normal),
        }
        assert_eq!(running.wait().await, ExitReason::Shutdown);
    }
    // All: only the last one's.
    let kit = Kit::new();
    let [a, b] = ["a", "b"].map(|name| significant(&kit, name, Restart::Temporary));
    let (running, _) = pair(&kit, AutoShutdown::AllSignificant, [&a, &b]).await;
    a.leaves(ExitReason::Normal);
    assert!(runs(&kit).await);
    b.tell(Do::Fail);
    assert_eq!(running.wait().await, ExitReason::Shutdown);
    // All, when the last one is terminated by request: that does not count.
    let kit = Kit::new();
    let [a, b] = ["a", "b"].map(|name| significant(&kit, name, Restart::Temporary));
    let (_running, handle) = pair(&kit, AutoShutdown::AllSignificant, [&a, &b]).await;
    a.leaves(ExitReason::Normal);
    assert!(runs(&kit).await);
    handle.terminate_child("b").await.unwrap();
    assert!(runs(&kit).await);
}

#[tokio::test(start_paused = true)]
async fn s60_significant_transient() {
    for clean in clean_reasons() {
        let kit = Kit::new();
        let [a, b] = ["a", "b"].map(|name| significant(&kit, name, Restart::Transient));
        let (running, _) = pair(&kit, AutoShutdown::AnySignificant, [&a, &b]).await;
        a.tell(Do::Fail);
        kit.kill("/b");
        assert!(runs(&kit).await, "abnormal ends restart");
        assert_eq!(kit.lives(["/a", "/b"]), [2, 2]);
        a.leaves(clean.clone());
        assert_eq!(running.wait().await, ExitReason::Shutdown, "{clean}");
        assert!(!b.is_up());

        let kit = Kit::new();
        let [a, b] = ["a", "b"].map(|name| significant(&kit, name, Restart::Transient));
        let (running, _) = pair(&kit, AutoShutdown::AllSignificant, [&a, &b]).await;
        a.leaves(clean.clone());
        b.tell(Do::Fail);
        assert!(runs(&kit).await, "{clean}");
        assert_eq!((a.is_up(), b.ping().await), (false, Ok(2)));
        b.leaves(clean.clone());
        assert_eq!(running.wait().await, ExitReason::Shutdown, "{clean}");
    }
}

#[tokio::test(start_paused = true)]
async fn s61_significant_simple() {
    let kit = Kit::new();
    let (_running, handle) = kit.dynamic(5, super::kit::WIDE).await;
    for restart in [Restart::Transient, Restart::Temporary] {
        let refused = handle.start_child(significant(&kit, "x", restart).spec).await;
        assert_eq!(refused, Err(StartChildError::InvalidSpec(SpecError::SignificantNever("x".into()))));
    }
    assert_eq!(handle.count_children().await.unwrap().specs, 0);
}

/// A root over `sub` over one significant worker.
async fn nested(kit: &Kit, sub_is_significant: bool, worker: &Worker) -> Running {
    let sub = SupervisorSpec::new("sub", Strategy::OneForOne)
        .auto_shutdown(AutoShutdown::AnySignificant)
        .child(worker.spec.clone())
        .into_child()
        .restart(Restart::Transient)
        .significant(sub_is_significant);
    let spec = root(Strategy::OneForOne).auto_shutdown(AutoShutdown::AnySignificant);
    kit.start(spec.child(kit.worker("other").spec).child(sub)).await
}

#[tokio::test(start_paused = true)]
async fn s63_significant_escalation() {
    let kit = Kit::new();
    let x = significant(&kit, "x", Restart::Transient);
    let running = nested(&kit, true, &x).await;
    x.leaves(ExitReason::Normal);
    assert_eq!(running.wait().await, ExitReason::Shutdown);
    assert_eq!(kit.journal.take(), ["stop x", "stop other"]);
    assert_eq!(kit.exits("/sub"), [ExitReason::Shutdown]);

    let kit = Kit::new();
    let x = significant(&kit, "x", Restart::Transient);
    let _running = nested(&kit, false, &x).await;
    x.leaves(ExitReason::Normal);
    assert!(runs(&kit).await);
    assert_eq!((kit.node("/sub").state, kit.exits("/sub")), (NodeState::Stopped, vec![ExitReason::Shutdown]));
    assert_eq!(kit.node("/other").state, NodeState::Running);
}
