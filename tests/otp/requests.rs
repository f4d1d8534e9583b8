//! Requests about children while their supervisor runs, and what it lists and counts.

use singularity::supervision::*;

use super::kit::{Kit, Start, WIDE, counts, ms, root, settle};

#[tokio::test(start_paused = true)]
async fn s23_child_adm() {
    let kit = Kit::new();
    let handle = SupervisorHandle::new();
    let x = kit.worker("x").spec;
    assert_eq!(handle.start_child(x.clone()).await, Err(StartChildError::NoProc));
    let running = kit.start(root(Strategy::OneForOne).handle(&handle)).await;

    let started = handle.start_child(x.clone()).await.unwrap();
    assert_eq!((started.path().as_str(), started.state()), ("/x", NodeState::Running));
    assert_eq!(handle.start_child(x.clone()).await, Err(StartChildError::AlreadyStarted));
    assert_eq!(handle.which_child("x").await.unwrap().child.as_ref(), Some(&started));
    assert_eq!(handle.restart_child("x").await, Err(ChildError::Running));
    assert_eq!(handle.delete_child("x").await, Err(ChildError::Running));
    assert_eq!(handle.count_children().await, Ok(counts(1, 1, 0, 1)));

    assert_eq!(handle.terminate_child("x").await, Ok(()));
    assert_eq!(started.ended().await, ExitReason::Shutdown);
    assert_eq!(handle.terminate_child("x").await, Ok(()), "twice is fine");
    assert_eq!(handle.count_children().await, Ok(counts(1, 0, 0, 1)));
    assert_eq!(handle.start_child(x.clone()).await, Err(StartChildError::AlreadyPresent));
    assert_eq!(handle.restart_child("x").await.unwrap().unwrap().incarnation(), Incarnation(2));
    assert_eq!(handle.terminate_child("x").await, Ok(()));
    assert_eq!(handle.delete_child("x").await, Ok(()));
    assert_eq!(handle.count_children().await, Ok(counts(0, 0, 0, 0)));

    assert_eq!(handle.terminate_child("x").await, Err(ChildError::NotFound));
    assert_eq!(handle.restart_child("x").await, Err(ChildError::NotFound));
    assert_eq!(handle.delete_child("x").await, Err(ChildError::NotFound));
    assert_eq!(handle.which_child("x").await.unwrap_err(), ChildError::NotFound);
    assert!(kit.find("/x").is_none());
    assert!(handle.start_child(x).await.is_ok());
    running.stop().await;
    assert_eq!(handle.terminate_child("x").await, Err(ChildError::NoProc));
}

#[tokio::test(start_paused = true)]
async fn s24_child_adm_simple() {
    let kit = Kit::new();
    let (running, handle) = kit.dynamic(5, WIDE).await;
    let [a, b] = kit.workers(["same", "same"]);
    let first = handle.start_child(a.spec.clone()).await.unwrap();
    let second = handle.start_child(b.spec).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(handle.count_children().await, Ok(counts(2, 2, 0, 2)));
    assert_eq!(handle.terminate_child(&first).await, Ok(()));
    assert_eq!(first.ended().await, ExitReason::Shutdown);
    assert_eq!(handle.terminate_child(&first).await, Err(ChildError::NotFound));
    assert_eq!(handle.count_children().await, Ok(counts(1, 1, 0, 1)));

    let other = Kit::new();
    let (_other_running, other_handle) = other.dynamic(5, WIDE).await;
    let foreign = other_handle.start_child(other.worker("x").spec).await.unwrap();
    assert_eq!(handle.terminate_child(&foreign).await, Err(ChildError::NotFound));
    assert_eq!(foreign.state(), NodeState::Running);
    running.stop().await;
    assert_eq!(handle.start_child(a.spec).await, Err(StartChildError::NoProc));
    assert_eq!(handle.terminate_child(&second).await, Err(ChildError::NoProc));
}

/// Ids in the order in which they are listed, with whether each runs.
async fn listed(handle: &SupervisorHandle) -> Vec<String> {
    let children = handle.which_children().await.unwrap();
    children.iter().map(|info| format!("{} {} {:?}", info.id, info.child.is_some(), info.state)).collect()
}

#[tokio::test(start_paused = true)]
async fn s92_which_children() {
    let kit = Kit::new();
    let [a, b] = kit.workers(["a", "b"]);
    let (_running, handle) = kit.root(Strategy::OneForOne, [&a]).await;
    assert_eq!(listed(&handle).await, ["a true Running"]);
    let started = handle.start_child(b.spec).await.unwrap();
    let sub = SupervisorSpec::new("sub", Strategy::OneForOne).into_child();
    handle.start_child(sub).await.unwrap();
    assert_eq!(listed(&handle).await, ["sub true Running", "b true Running", "a true Running"], "newest first");
    let b = handle.which_child("b").await.unwrap();
    assert_eq!((b.child, b.kind, b.actor), (Some(started), ChildKind::Worker, "Puppet"));
    assert_eq!(handle.which_child("sub").await.unwrap().kind, ChildKind::Supervisor);

    handle.terminate_child("b").await.unwrap();
    assert_eq!(listed(&handle).await, ["sub true Running", "b false Stopped", "a true Running"]);
    assert_eq!(handle.which_child("b").await.unwrap().child, None);
    handle.delete_child("b").await.unwrap();
    assert_eq!(listed(&handle).await, ["sub true Running", "a true Running"]);
    assert_eq!(handle.which_child("b").await.unwrap_err(), ChildError::NotFound);
}

#[tokio::test(start_paused = true)]
async fn s93_which_children_simple_one_for_one() {
    let kit = Kit::new();
    let (_running, handle) = kit.dynamic(5, WIDE).await;
    assert!(handle.which_children().await.unwrap().is_empty());
    let a = handle.start_child(kit.worker("a").spec).await.unwrap();
    let b = handle.start_child(kit.worker("b").spec).await.unwrap();
    let mut ids: Vec<_> = handle.which_children().await.unwrap().into_iter().map(|info| info.id.to_string()).collect();
    ids.sort();
    assert_eq!(ids, ["a", "b"]);
    let info = handle.which_child(&b).await.unwrap();
    assert_eq!((info.child, info.state, info.kind), (Some(b.clone()), NodeState::Running, ChildKind::Worker));
    handle.terminate_child(&b).await.unwrap();
    assert_eq!(handle.which_child(&b).await.unwrap_err(), ChildError::NotFound);
    let left = handle.which_children().await.unwrap();
    assert_eq!((left.len(), left[0].child.as_ref()), (1, Some(&a)));
}

#[tokio::test(start_paused = true)]
async fn s73_count_restarting_children() {
    let kit = Kit::new();
    let (_running, handle) = kit.dynamic(5, WIDE).await;
    let workers = ["a", "b", "c"].map(|name| kit.watchable(name));
    let mut children = Vec::new();
    for worker in &workers {
        children.push(handle.start_child(worker.spec.clone()).await.unwrap());
    }
    assert_eq!(handle.count_children().await, Ok(counts(3, 3, 0, 3)));
    for (down, worker) in workers.iter().enumerate() {
        worker.starts(Start::Fails);
        worker.panics();
        settle().await;
        assert_eq!(handle.count_children().await, Ok(counts(3, 2 - down, 0, 3)));
    }
    workers[0].starts(Start::Runs);
    kit.is("/jobs/a", NodeState::Running).await;
    assert_eq!(handle.count_children().await, Ok(counts(3, 1, 0, 3)));
    for (left, child) in children.iter().enumerate().rev() {
        assert_eq!(handle.terminate_child(child).await, Ok(()));
        assert_eq!(handle.count_children().await.unwrap().specs, left);
    }
}

#[tokio::test(start_paused = true)]
async fn e12_start_child_with_a_specification() {
    let kit = Kit::new();
    let (_running, handle) = kit.root(Strategy::OneForOne, []).await;
    let x = kit.worker("x");
    let started = handle.start_child(x.spec.clone()).await.unwrap();
    assert_eq!((started.id().as_str(), x.ping().await), ("x", Ok(1)));
}

#[tokio::test(start_paused = true)]
async fn e16_child_life_cycle() {
    let kit = Kit::new();
    let x = kit.worker("x");
    let (_running, handle) = kit.root(Strategy::OneForOne, [&x]).await;
    assert_eq!(listed(&handle).await, ["x true Running"]);
    assert_eq!(handle.count_children().await, Ok(counts(1, 1, 0, 1)));
    assert_eq!(handle.delete_child("x").await, Err(ChildError::Running));
    assert_eq!(handle.terminate_child("x").await, Ok(()));
    assert_eq!(listed(&handle).await, ["x false Stopped"]);
    assert!(handle.restart_child("x").await.unwrap().is_some());
    assert_eq!(x.ping().await, Ok(2));
    assert_eq!(handle.terminate_child("x").await, Ok(()));
    assert_eq!(handle.delete_child("x").await, Ok(()));
    assert_eq!(listed(&handle).await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn x08_terminate_during_backoff_cancels_the_retry() {
    let kit = Kit::new();
    let backoff = Backoff::new(ms(1_000), ms(1_000)).without_jitter();
    let x = kit.worker("x").with(|spec| spec.backoff(backoff));
    let (_running, handle) = kit.root(Strategy::OneForOne, [&x]).await;
    x.panics();
    kit.is("/x", NodeState::Restarting).await;
    assert_eq!(handle.terminate_child("x").await, Ok(()));
    tokio::time::sleep(ms(5_000)).await;
    assert_eq!((kit.node("/x").state, kit.lives(["/x"]), kit.journal.len()), (NodeState::Stopped, [1], 0));
    assert!(handle.restart_child("x").await.is_ok());

    let kit = Kit::new();
    let (_running, jobs) = kit.dynamic(1, WIDE).await;
    let x = kit.worker("x").with(|spec| spec.backoff(backoff));
    let child = jobs.start_child(x.spec.clone()).await.unwrap();
    x.panics();
    kit.is("/jobs/x", NodeState::Restarting).await;
    assert_eq!(jobs.terminate_child(&child).await, Ok(()));
    tokio::time::sleep(ms(5_000)).await;
    assert_eq!(kit.journal.take(), ["start x"]);
}
