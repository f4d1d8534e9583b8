//! Requests to a running static supervisor.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::kit::{Do, Kit, Script, ms, root, scripted, until, within};
use crate::supervision::*;

#[tokio::test(start_paused = true)]
async fn s23_start_terminate_restart_delete() {
    let kit = Kit::new();
    let handle = SupervisorHandle::new();
    let (child, _) = kit.worker("x");
    assert_eq!(handle.start_child(child.clone()).await.unwrap_err(), StartChildError::NoProc);
    let running = kit.start(root(Strategy::OneForOne).handle(&handle)).await;

    let started = handle.start_child(child.clone()).await.unwrap();
    assert_eq!((started.path().as_str(), started.state()), ("/x", NodeState::Running));
    assert_eq!(handle.start_child(child.clone()).await.unwrap_err(), StartChildError::AlreadyStarted);
    let counts = ChildCounts { specs: 1, active: 1, supervisors: 0, workers: 1 };
    assert_eq!(handle.count_children().await.unwrap(), counts);
    assert_eq!(handle.restart_child("x").await.unwrap_err(), ChildError::Running);
    assert_eq!(handle.delete_child("x").await, Err(ChildError::Running));

    assert_eq!(handle.terminate_child("x").await, Ok(()));
    assert_eq!(started.ended().await, ExitReason::Shutdown);
    assert_eq!(handle.terminate_child("x").await, Ok(()));
    assert_eq!(handle.count_children().await.unwrap(), ChildCounts { active: 0, ..counts });
    assert_eq!(handle.start_child(child.clone()).await.unwrap_err(), StartChildError::AlreadyPresent);
    assert_eq!(handle.restart_child("x").await.unwrap().unwrap().incarnation(), Incarnation(2));

    handle.terminate_child("x").await.unwrap();
    assert_eq!(handle.delete_child("x").await, Ok(()));
    assert_eq!(handle.delete_child("x").await, Err(ChildError::NotFound));
    assert!(kit.system.snapshot().find("/x").is_none());

    running.stop().await;
    assert_eq!(handle.count_children().await, Err(ChildError::NoProc));
}

#[tokio::test(start_paused = true)]
async fn s11_start_child_returns_the_error_and_records_nothing() {
    let kit = Kit::new();
    let handle = SupervisorHandle::new();
    let _running = kit.start(root(Strategy::OneForOne).handle(&handle)).await;
    let (child, _) = scripted(Script { failing: Arc::new(AtomicUsize::new(1)), ..kit.script("x") });
    let error = handle.start_child(child.clone()).await.unwrap_err();
    assert_eq!(error.to_string(), "the child did not start: init fails");
    assert_eq!(handle.count_children().await.unwrap(), ChildCounts::default());
    assert!(handle.start_child(child).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn s03_a_child_that_ignores_its_start_stays_known() {
    let kit = Kit::new();
    let handle = SupervisorHandle::new();
    let _running = kit.start(root(Strategy::OneForOne).handle(&handle)).await;
    let ignoring = ChildSpec::new("x", |_| Box::pin(async { Ok(Started::Ignore) }));
    assert_eq!(handle.start_child(ignoring.clone()).await.unwrap_err(), StartChildError::Ignored);
    let counts = ChildCounts { specs: 1, active: 0, supervisors: 0, workers: 1 };
    assert_eq!(handle.count_children().await.unwrap(), counts);
    let temporary = handle.start_child(ignoring.restart(Restart::Temporary)).await;
    assert_eq!(temporary.unwrap_err(), StartChildError::AlreadyPresent);
    handle.delete_child("x").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn s80_the_supervisor_serves_requests_during_a_failing_restart_loop() {
    let kit = Kit::new();
    let handle = SupervisorHandle::new();
    let failing = Arc::new(AtomicUsize::new(0));
    let (child, address) = scripted(Script { failing: failing.clone(), ..kit.script("x") });
    let backoff = Backoff::new(ms(10), ms(10)).without_jitter();
    let spec = root(Strategy::OneForOne).handle(&handle).child(child.clone().backoff(backoff));
    let running = kit.start(spec).await;
    failing.store(usize::MAX, Ordering::SeqCst);
    address.cast(Do::Panic).unwrap();
    kit.journal.lines(5).await;
    assert_eq!(handle.start_child(child).await.unwrap_err(), StartChildError::AlreadyPresent);
    assert_eq!(handle.restart_child("x").await.unwrap_err(), ChildError::Restarting);
    assert_eq!(handle.delete_child("x").await, Err(ChildError::Restarting));
    assert_eq!(handle.count_children().await.unwrap().active, 0);
    assert_eq!(handle.terminate_child("x").await, Ok(()));
    assert_eq!(kit.node("/x").state, NodeState::Stopped);
    assert_eq!(within(running.stop()).await, ExitReason::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn s80_without_backoff_the_loop_ends_in_a_meltdown_between_requests() {
    let kit = Kit::new();
    let handle = SupervisorHandle::new();
    let failing = Arc::new(AtomicUsize::new(0));
    let (child, address) = scripted(Script { failing: failing.clone(), ..kit.script("x") });
    let running = kit.start(SupervisorSpec::new("root", Strategy::OneForOne).handle(&handle).child(child)).await;
    failing.store(usize::MAX, Ordering::SeqCst);
    address.cast(Do::Panic).unwrap();
    assert_eq!(within(running.wait()).await, ExitReason::Shutdown);
    assert_eq!(kit.journal.take(), ["start x", "start x", "start x"]);
}

#[tokio::test(start_paused = true)]
async fn x08_terminate_during_backoff_cancels_the_retry() {
    let kit = Kit::new();
    let handle = SupervisorHandle::new();
    let (child, address) = kit.worker("x");
    let backoff = Backoff::new(ms(1000), ms(1000)).without_jitter();
    let _running = kit.start(root(Strategy::OneForOne).handle(&handle).child(child.backoff(backoff))).await;
    address.cast(Do::Panic).unwrap();
    kit.is("/x", NodeState::Restarting).await;
    assert_eq!(handle.terminate_child("x").await, Ok(()));
    tokio::time::sleep(ms(5000)).await;
    assert_eq!((kit.node("/x").state, kit.node("/x").incarnation), (NodeState::Stopped, 1));
    assert!(kit.journal.take().is_empty());
    assert!(handle.restart_child("x").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn s49_a_transient_child_that_ended_can_be_started_by_hand() {
    let kit = Kit::new();
    let handle = SupervisorHandle::new();
    let (child, address) = kit.worker("x");
    let _running = kit.start(root(Strategy::OneForOne).handle(&handle).child(child.restart(Restart::Transient))).await;
    address.cast(Do::Stop(ExitReason::Normal)).unwrap();
    kit.is("/x", NodeState::Stopped).await;
    handle.restart_child("x").await.unwrap();
    assert_eq!(address.call(Do::Ping, ms(1000)).await, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn an_invalid_child_is_refused_before_it_reaches_the_supervisor() {
    let kit = Kit::new();
    let handle = SupervisorHandle::new();
    let (child, _) = kit.worker("a/b");
    let error = handle.start_child(child.clone()).await.unwrap_err();
    assert_eq!(error, StartChildError::InvalidSpec(SpecError::SlashInId("a/b".into())));
    let error = kit.system.start(root(Strategy::OneForOne).child(child)).await.unwrap_err();
    assert_eq!(error, StartError::InvalidSpec(SpecError::SlashInId("a/b".into())));
    until(|| kit.node("/").state == NodeState::Stopped).await;
}
