//! Code that never reaches an await point cannot be killed; on real threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::kit::{Do, Kit, ms, root, until, within};
use crate::supervision::*;

/// Makes an actor hog its thread until the result is set.
async fn hog(address: &Address<Do>) -> Arc<AtomicBool> {
    // A task that wakes another and then hogs its thread keeps that other one waiting in tokio's LIFO slot. So its
    // supervisor must have heard of its start before.
    address.call(Do::Ping, ms(10_000)).await.unwrap();
    tokio::time::sleep(ms(10)).await;
    let released = Arc::new(AtomicBool::new(false));
    address.cast(Do::Hog(released.clone())).unwrap();
    until(|| address.depth() == 0).await;
    released
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x04_a_child_that_hogs_its_thread_is_shown_as_zombie_and_restarted_only_when_gone() {
    let kit = Kit::new();
    let handle = SupervisorHandle::new();
    let (child, address) = kit.worker("stuck");
    let (first, first_at) = kit.worker("first");
    let spec = root(Strategy::OneForAll).handle(&handle).child(first).child(child.shutdown(Shutdown::Timeout(ms(50))));
    let running = kit.start(spec).await;
    let mut events = kit.system.events();
    let released = hog(&address).await;
    first_at.cast(Do::Panic).unwrap();
    kit.is("/stuck", NodeState::Zombie).await;
    assert_eq!(handle.terminate_child("stuck").await, Err(ChildError::Zombie));
    first_at.cast(Do::Panic).unwrap();
    kit.runs("/first", 3).await;
    assert_eq!(kit.node("/stuck").state, NodeState::Zombie);
    released.store(true, Ordering::SeqCst);
    kit.runs("/stuck", 2).await;
    assert_eq!(kit.journal.take(), ["start first", "start first", "start stuck"]);
    let mut kinds = Vec::new();
    while let Ok(event) = events.try_recv() {
        kinds.push(event.kind);
    }
    assert!(kinds.contains(&SupervisionEventKind::Zombie) && kinds.contains(&SupervisionEventKind::ZombieGone));
    assert_eq!(running.stop().await, ExitReason::Shutdown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dynamic_zombie_gives_its_place_free_and_the_caller_learns_it() {
    let kit = Kit::new();
    let handle = DynamicHandle::new();
    let jobs = DynamicSupervisorSpec::new("jobs", 1).into_child(&handle);
    let running = kit.start(root(Strategy::OneForOne).child(jobs)).await;
    let (child, address) = kit.worker("stuck");
    let child = child.restart(Restart::Temporary).shutdown(Shutdown::Timeout(ms(50)));
    let child = handle.start_child(child).await.unwrap();
    let released = hog(&address).await;
    assert_eq!(handle.terminate_child(&child).await, Err(ChildError::Zombie));
    assert!(handle.start_child(kit.worker("next").0).await.is_ok());
    released.store(true, Ordering::SeqCst);
    assert_eq!(within(child.ended()).await, ExitReason::Killed);
    running.stop().await;
}
