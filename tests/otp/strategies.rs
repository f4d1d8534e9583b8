//! Whom a strategy restarts, and the window of restarts.

use singularity::supervision::*;

use super::kit::{Do, Kit, Start, Worker, ms, restarts, root};

async fn three(kit: &Kit, strategy: Strategy, max_restarts: u32) -> (Running, SupervisorHandle, [Worker; 3]) {
    let workers = kit.workers(["a", "b", "c"]);
    let handle = SupervisorHandle::new();
    let spec = root(strategy).intensity(restarts(max_restarts)).handle(&handle);
    let running = kit.start(spec.children(workers.each_ref().map(|worker| worker.spec.clone()))).await;
    (running, handle, workers)
}

#[tokio::test(start_paused = true)]
async fn s29_multiple_restarts() {
    let kit = Kit::new();
    let a = kit.worker("a");
    let spec = root(Strategy::OneForOne).intensity(Intensity::new(1, ms(1_000))).child(a.spec.clone());
    let running = kit.start(spec).await;
    for incarnation in 2..8 {
        a.panics();
        kit.runs("/a", incarnation).await;
        tokio::time::sleep(ms(2_100)).await;
    }
    assert_eq!((kit.node("/").restarts_in_window, kit.node("/a").restarts_total), (0, 6));
    // Two within the second are one too many.
    a.panics();
    kit.runs("/a", 8).await;
    a.panics();
    assert_eq!(running.wait().await, ExitReason::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn s29_a_restart_exactly_one_period_ago_still_counts() {
    for (wait, ends) in [(1_000, true), (1_001, false)] {
        let kit = Kit::new();
        let a = kit.worker("a");
        let spec = root(Strategy::OneForOne).intensity(Intensity::new(1, ms(1_000))).child(a.spec.clone());
        let running = kit.start(spec).await;
        let mut events = kit.system.events();
        a.panics();
        // Woken by the restart itself, so no time passes unseen.
        while !matches!(events.recv().await.unwrap().kind, SupervisionEventKind::Started { .. }) {}
        tokio::time::sleep(ms(wait)).await;
        a.panics();
        let ended = tokio::time::timeout(ms(100), running.wait()).await.is_ok();
        assert_eq!(ended, ends, "{wait} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn s30_one_for_one() {
    let kit = Kit::new();
    let (running, handle, [_, b, _]) = three(&kit, Strategy::OneForOne, 2).await;
    for incarnation in [2, 3] {
        b.panics();
        kit.runs("/b", incarnation).await;
        assert_eq!(kit.journal.take(), ["start b"]);
        assert_eq!(kit.lives(["/a", "/b", "/c"]), [1, incarnation, 1]);
        assert_eq!(handle.count_children().await.unwrap().active, 3);
    }
    b.tell(Do::Fail);
    assert_eq!(running.wait().await, ExitReason::Shutdown);
    assert_eq!(kit.journal.take(), ["stop c", "stop a"]);
}

/// The one that cannot be started again takes its sibling and the supervisor along; `fails` is restarted because
/// `breaks` broke.
async fn escalates(strategy: Strategy, breaks: &str, fails: &str) {
    let kit = Kit::new();
    let workers = kit.workers(["a", "b"]);
    let of = |name: &str| &workers[usize::from(name == "b")];
    let spec = root(strategy).intensity(restarts(4)).children(workers.each_ref().map(|worker| worker.spec.clone()));
    let running = kit.start(spec).await;
    of(fails).starts(Start::Fails);
    of(breaks).panics();
    assert_eq!(running.wait().await, ExitReason::Shutdown, "{strategy}");
    assert!(workers.iter().all(|worker| !worker.is_up()));
    let attempts = kit.journal.take().iter().filter(|line| **line == format!("start {fails}")).count();
    assert_eq!(attempts, 4, "{strategy}: every attempt counts");
}

#[tokio::test(start_paused = true)]
async fn s31_one_for_one_escalation() {
    escalates(Strategy::OneForOne, "a", "a").await;
}

#[tokio::test(start_paused = true)]
async fn s32_one_for_all() {
    let kit = Kit::new();
    let (running, handle, [_, b, _]) = three(&kit, Strategy::OneForAll, 2).await;
    for incarnation in [2, 3] {
        b.panics();
        kit.runs("/c", incarnation).await;
        assert_eq!(kit.journal.take(), ["stop c", "stop a", "start a", "start b", "start c"]);
        assert_eq!(kit.lives(["/a", "/b", "/c"]), [incarnation; 3]);
        assert_eq!(handle.count_children().await.unwrap(), super::kit::counts(3, 3, 0, 3));
    }
    assert_eq!(kit.node("/").restarts_in_window, 2, "a round counts once");
    b.panics();
    assert_eq!(running.wait().await, ExitReason::Shutdown);
    assert_eq!(kit.journal.take(), ["stop c", "stop a"]);
}

#[tokio::test(start_paused = true)]
async fn s33_one_for_all_escalation() {
    escalates(Strategy::OneForAll, "a", "b").await;
    escalates(Strategy::OneForAll, "b", "a").await;
}

#[tokio::test(start_paused = true)]
async fn s34_one_for_all_other_child_fails_restart() {
    let kit = Kit::new();
    let [a, b] = kit.workers(["a", "b"]);
    let (_running, _) = kit.root(Strategy::OneForAll, [&a, &b]).await;
    b.next_starts([Start::Fails]);
    a.panics();
    kit.runs("/b", 3).await;
    assert_eq!(kit.journal.take(), ["stop b", "start a", "start b", "stop a", "start a", "start b"]);
    let ends: Vec<_> = kit.exits("/a").iter().map(ExitReason::kind).collect();
    assert_eq!((ends, kit.lives(["/a"])), (vec!["panic", "shutdown"], [3]));
}

#[tokio::test(start_paused = true)]
async fn s41_rest_for_one() {
    let kit = Kit::new();
    let (running, handle, [a, b, c]) = three(&kit, Strategy::RestForOne, 2).await;
    b.panics();
    kit.runs("/c", 2).await;
    assert_eq!(kit.journal.take(), ["stop c", "start b", "start c"]);
    assert_eq!((kit.lives(["/a", "/b", "/c"]), a.ping().await), ([1, 2, 2], Ok(1)));
    c.panics();
    kit.runs("/c", 3).await;
    assert_eq!(kit.journal.take(), ["start c"]);
    assert_eq!(handle.count_children().await.unwrap().active, 3);
    b.panics();
    assert_eq!(running.wait().await, ExitReason::Shutdown);
    assert_eq!(kit.journal.take(), ["stop c", "stop a"]);
}

#[tokio::test(start_paused = true)]
async fn s42_rest_for_one_escalation() {
    escalates(Strategy::RestForOne, "a", "b").await;
}

#[tokio::test(start_paused = true)]
async fn s43_rest_for_one_other_child_fails_restart() {
    let kit = Kit::new();
    let [a, b, c] = kit.workers(["a", "b", "c"]);
    let (_running, _) = kit.root(Strategy::RestForOne, [&a, &b, &c]).await;
    b.next_starts([Start::Fails]);
    a.panics();
    kit.runs("/c", 2).await;
    assert_eq!(kit.journal.take(), ["stop c", "stop b", "start a", "start b", "start b", "start c"]);
    assert_eq!(kit.lives(["/a", "/b"]), [2, 3]);
}

#[tokio::test(start_paused = true)]
async fn s62_significant_bystander() {
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        for auto_shutdown in [AutoShutdown::AnySignificant, AutoShutdown::AllSignificant] {
            for restart in [Restart::Transient, Restart::Temporary] {
                let kit = Kit::new();
                let [a, b] = kit.workers(["a", "b"]);
                let b = b.restart(restart).with(|spec| spec.significant(true));
                let spec = root(strategy).auto_shutdown(auto_shutdown).children([a.spec.clone(), b.spec.clone()]);
                let running = kit.start(spec).await;
                a.panics();
                kit.runs("/a", 2).await;
                super::kit::settle().await;
                let stays = strategy == Strategy::OneForOne || restart == Restart::Transient;
                assert_eq!(kit.find("/b").is_some(), stays, "{strategy} {restart}");
                assert_eq!(a.ping().await, Ok(2), "{strategy} {restart}");
                assert_eq!(running.stop().await, ExitReason::Shutdown);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s78_temporary_bystander() {
    for strategy in [Strategy::OneForAll, Strategy::RestForOne] {
        let kit = Kit::new();
        let [a, b, c] = kit.workers(["a", "b", "c"]);
        let b = b.restart(Restart::Temporary);
        let (_running, handle) = kit.root(strategy, [&a, &b, &c]).await;
        a.panics();
        kit.runs("/c", 2).await;
        assert_eq!(kit.journal.take(), ["stop c", "stop b", "start a", "start c"]);
        assert_eq!(handle.get_childspec("b").await.unwrap_err(), ChildError::NotFound);
        assert_eq!(kit.node("/").restarts_in_window, 1);
        super::kit::settle().await;
        assert!(!b.is_up());
    }
}
