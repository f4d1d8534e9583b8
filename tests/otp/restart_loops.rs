//! Requests while restarts keep failing. Each attempt takes 10 ms, so there is time to ask between two.

use singularity::supervision::*;

use super::kit::{Kit, Start, WIDE, Worker, counts, restarts, root, settle, within};

/// Makes the worker crash and fail to come back, and waits until that has happened some times.
async fn hang(kit: &Kit, worker: &Worker) {
    worker.starts(Start::Fails);
    worker.panics();
    kit.journal.lines(5).await;
}

#[tokio::test(start_paused = true)]
async fn s80_hanging_restart_loop() {
    let kit = Kit::new();
    let x = kit.watchable("x");
    let (running, handle) = kit.root(Strategy::OneForOne, [&x]).await;
    hang(&kit, &x).await;
    assert_eq!(handle.start_child(x.spec.clone()).await, Err(StartChildError::AlreadyPresent));
    assert_eq!(handle.restart_child("x").await, Err(ChildError::Restarting));
    assert_eq!(handle.delete_child("x").await, Err(ChildError::Restarting));
    assert_eq!(handle.count_children().await, Ok(counts(1, 0, 0, 1)));
    let listed = handle.which_child("x").await.unwrap();
    assert_eq!((listed.child, listed.state), (None, NodeState::Restarting));
    assert_eq!(handle.terminate_child("x").await, Ok(()));
    kit.journal.take();
    settle().await;
    assert_eq!((kit.journal.len(), kit.node("/x").state), (0, NodeState::Stopped), "no further attempt");

    x.starts(Start::Runs);
    handle.restart_child("x").await.unwrap();
    hang(&kit, &x).await;
    assert_eq!(within(running.stop()).await, ExitReason::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn s80_without_a_pause_the_loop_ends_in_a_meltdown() {
    let kit = Kit::new();
    let x = kit.worker("x");
    let running = kit.start(root(Strategy::OneForOne).intensity(restarts(3)).child(x.spec.clone())).await;
    x.starts(Start::Fails);
    x.panics();
    assert_eq!(within(running.wait()).await, ExitReason::Shutdown);
    assert_eq!(kit.journal.take(), ["start x", "start x", "start x"]);
}

#[tokio::test(start_paused = true)]
async fn s81_hanging_restart_loop_rest_for_one() {
    let kit = Kit::new();
    let [a, c] = kit.workers(["a", "c"]);
    let b = kit.watchable("b");
    let (running, handle) = kit.root(Strategy::RestForOne, [&a, &b, &c]).await;
    hang(&kit, &b).await;
    let mut listed = Vec::new();
    for info in handle.which_children().await.unwrap() {
        listed.push((info.id.to_string(), info.child.is_some(), info.state));
    }
    let expected = [
        ("c".to_owned(), false, NodeState::Stopped),
        ("b".to_owned(), false, NodeState::Restarting),
        ("a".to_owned(), true, NodeState::Running),
    ];
    assert_eq!(listed, expected);
    assert_eq!(handle.count_children().await, Ok(counts(3, 1, 0, 3)));
    assert_eq!(handle.start_child(b.spec.clone()).await, Err(StartChildError::AlreadyPresent));
    assert_eq!(handle.restart_child("b").await, Err(ChildError::Restarting));
    assert_eq!(handle.start_child(c.spec.clone()).await, Err(StartChildError::AlreadyPresent));
    assert_eq!(a.ping().await, Ok(1));
    assert_eq!(handle.terminate_child("b").await, Ok(()));
    settle().await;
    assert_eq!((b.is_up(), c.is_up()), (false, false));
    assert_eq!(within(running.stop()).await, ExitReason::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn s82_hanging_restart_loop_simple() {
    let kit = Kit::new();
    let (running, handle) = kit.dynamic(5, WIDE).await;
    let x = kit.watchable("x");
    let child = handle.start_child(x.spec.clone()).await.unwrap();
    let other = kit.worker("other");
    handle.start_child(other.spec.clone()).await.unwrap();
    hang(&kit, &x).await;
    let info = handle.which_child(&child).await.unwrap();
    assert_eq!((info.child, info.state), (None, NodeState::Restarting));
    assert_eq!(handle.count_children().await, Ok(counts(2, 1, 0, 2)));
    assert!(handle.start_child(kit.worker("new").spec).await.is_ok());
    assert_eq!(other.ping().await, Ok(1));
    assert_eq!(handle.terminate_child(&child).await, Ok(()));
    assert_eq!(handle.count_children().await, Ok(counts(2, 2, 0, 2)));

    let again = kit.watchable("again");
    handle.start_child(again.spec.clone()).await.unwrap();
    hang(&kit, &again).await;
    assert_eq!(within(running.stop()).await, ExitReason::Shutdown);
}
