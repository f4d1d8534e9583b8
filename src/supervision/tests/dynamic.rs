//! Dynamic supervisors.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::Instant;

use super::kit::{Do, Kit, Script, ms, root, scripted, until, within};
use crate::supervision::*;

async fn started(kit: &Kit, max_children: usize) -> (Running, DynamicHandle) {
    let handle = DynamicHandle::new();
    let spec = DynamicSupervisorSpec::new("jobs", max_children).intensity(Intensity::new(1000, ms(5000)));
    let running = kit.start(root(Strategy::OneForOne).child(spec.into_child(&handle))).await;
    (running, handle)
}

#[tokio::test(start_paused = true)]
async fn d18_max_children_zero_refuses() {
    let kit = Kit::new();
    let (_running, handle) = started(&kit, 0).await;
    let error = handle.start_child(kit.worker("x").0).await.unwrap_err();
    assert_eq!(error, StartChildError::MaxChildren(0));
    assert_eq!(kit.journal.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn d10_a_lowered_limit_keeps_children_and_refuses_new_ones() {
    let kit = Kit::new();
    let (_running, handle) = started(&kit, 2).await;
    let first = handle.start_child(kit.worker("x").0).await.unwrap();
    // Ids are for people: the same one twice is fine.
    handle.start_child(kit.worker("x").0).await.unwrap();
    assert_eq!(handle.start_child(kit.worker("x").0).await.unwrap_err(), StartChildError::MaxChildren(2));
    handle.set_max_children(1).await.unwrap();
    handle.terminate_child(&first).await.unwrap();
    assert_eq!(handle.count_children().await.unwrap().active, 1);
    assert_eq!(handle.start_child(kit.worker("x").0).await.unwrap_err(), StartChildError::MaxChildren(1));
    handle.set_max_children(2).await.unwrap();
    assert!(handle.start_child(kit.worker("x").0).await.is_ok());
    let too_many = CHILDREN_MAX + 1;
    assert_eq!(handle.set_max_children(too_many).await, Err(ChildError::MaxChildrenLimit(too_many)));
}

/// Ends a dynamic child and tells whether it came back.
async fn comes_back(restart: Restart, how: Do) -> bool {
    let kit = Kit::new();
    let (_running, handle) = started(&kit, 5).await;
    let (child, address) = kit.worker("x");
    let child = handle.start_child(child.restart(restart)).await.unwrap();
    address.cast(how).unwrap();
    child.ended().await;
    tokio::time::sleep(ms(10)).await;
    let active = handle.count_children().await.unwrap().active == 1;
    assert_eq!(active, address.is_up());
    assert_eq!(kit.system.snapshot().find("/jobs/x").is_some(), active);
    active
}

#[tokio::test(start_paused = true)]
async fn d19_temporary_is_never_restarted() {
    for how in [Do::Stop(ExitReason::Normal), Do::Fail, Do::Panic] {
        assert!(!comes_back(Restart::Temporary, how).await);
    }
}

#[tokio::test(start_paused = true)]
async fn d20_transient_is_restarted_unless_it_ended_clean() {
    for clean in [ExitReason::Normal, ExitReason::Shutdown, ExitReason::ShutdownWith("x".into())] {
        assert!(!comes_back(Restart::Transient, Do::Stop(clean)).await);
    }
    assert!(comes_back(Restart::Transient, Do::Fail).await);
    assert!(comes_back(Restart::Transient, Do::Panic).await);
}

#[tokio::test(start_paused = true)]
async fn d21_permanent_is_restarted_for_every_reason() {
    for how in [Do::Stop(ExitReason::Normal), Do::Stop(ExitReason::Shutdown), Do::Fail, Do::Panic] {
        assert!(comes_back(Restart::Permanent, how).await);
    }
}

#[tokio::test(start_paused = true)]
async fn d27_too_many_restarts_end_the_supervisor_with_shutdown() {
    let kit = Kit::new();
    let handle = DynamicHandle::new();
    let jobs = DynamicSupervisorSpec::new("jobs", 5).into_child(&handle).restart(Restart::Transient);
    let _running = kit.start(root(Strategy::OneForOne).child(jobs)).await;
    let (child, address) = kit.worker("x");
    handle.start_child(child).await.unwrap();
    let bystander = handle.start_child(kit.worker("y").0).await.unwrap();
    for incarnation in 2..=4 {
        address.cast(Do::Panic).unwrap();
        until(|| kit.node("/jobs/x").incarnation == incarnation && address.is_up()).await;
    }
    address.cast(Do::Panic).unwrap();
    assert_eq!(bystander.ended().await, ExitReason::Shutdown);
    // Transient and clean: it stays down.
    kit.is("/jobs", NodeState::Stopped).await;
    assert_eq!(kit.node("/jobs").last_exit.unwrap().reason, "shutdown");
    assert_eq!(handle.start_child(kit.worker("z").0).await.unwrap_err(), StartChildError::NoProc);
}

#[tokio::test(start_paused = true)]
async fn d16_d17_what_a_start_returns_reaches_the_caller() {
    let kit = Kit::new();
    let (_running, handle) = started(&kit, 5).await;
    let failing = Script { failing: Arc::new(AtomicUsize::new(1)), ..kit.script("x") };
    let error = handle.start_child(scripted(failing).0).await.unwrap_err();
    assert_eq!(error, StartChildError::Start(StartError::Init(ErrorInfo::text("init fails"))));
    let panicking = Script { panicking: Arc::new(AtomicUsize::new(1)), ..kit.script("x") };
    let error = handle.start_child(scripted(panicking).0).await.unwrap_err();
    assert!(matches!(error, StartChildError::Start(StartError::Panic(_))));
    let ignoring = ChildSpec::new("x", |_| Box::pin(async { Ok(Started::Ignore) }));
    assert_eq!(handle.start_child(ignoring).await.unwrap_err(), StartChildError::Ignored);
    assert_eq!(handle.count_children().await.unwrap(), ChildCounts::default());
    let significant = kit.worker("x").0.restart(Restart::Temporary).significant(true);
    let error = handle.start_child(significant).await.unwrap_err();
    assert_eq!(error, StartChildError::InvalidSpec(SpecError::SignificantNever("x".into())));
}

#[tokio::test(start_paused = true)]
async fn d39_d41_terminate_child() {
    let kit = Kit::new();
    let (_running, handle) = started(&kit, 5).await;
    let child = handle.start_child(kit.worker("x").0).await.unwrap();
    assert_eq!(handle.terminate_child(&child).await, Ok(()));
    assert_eq!(handle.terminate_child(&child).await, Err(ChildError::NotFound));
    assert_eq!(child.ended().await, ExitReason::Shutdown);

    let failing = Arc::new(AtomicUsize::new(0));
    let (spec, address) = scripted(Script { failing: failing.clone(), ..kit.script("y") });
    let backoff = Backoff::new(ms(10), ms(10));
    let child = handle.start_child(spec.restart(Restart::Permanent).backoff(backoff)).await.unwrap();
    failing.store(usize::MAX, Ordering::SeqCst);
    address.cast(Do::Panic).unwrap();
    kit.is("/jobs/y", NodeState::Restarting).await;
    assert_eq!(handle.count_children().await.unwrap(), ChildCounts { specs: 1, active: 0, supervisors: 0, workers: 1 });
    assert_eq!(handle.terminate_child(&child).await, Ok(()));
    assert_eq!(handle.terminate_child(&child).await, Err(ChildError::NotFound));
    assert!(kit.system.snapshot().find("/jobs/y").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_slow_terminate_does_not_block_other_requests() {
    let kit = Kit::new();
    let (_running, handle) = started(&kit, 5).await;
    let (slow, _) = scripted(Script { stop_takes: ms(3000), ..kit.script("slow") });
    let slow = handle.start_child(slow).await.unwrap();
    let began = Instant::now();
    let others = async {
        kit.is("/jobs/slow", NodeState::Stopping).await;
        handle.start_child(kit.worker("x").0).await.unwrap();
        assert!(began.elapsed() < ms(100));
    };
    let (first, second, ()) = tokio::join!(handle.terminate_child(&slow), handle.terminate_child(&slow), others);
    assert_eq!((first, second), (Ok(()), Ok(())));
    assert_eq!(began.elapsed().as_millis(), 3000);
}

#[tokio::test(start_paused = true)]
async fn s36_the_end_of_a_dynamic_supervisor_stops_its_children_side_by_side() {
    let kit = Kit::new();
    let (running, handle) = started(&kit, 100).await;
    let mut children = Vec::new();
    for i in 0..20 {
        let (child, _) = scripted(Script { stop_takes: ms(1000 + i * 10), ..kit.script(&format!("c{i}")) });
        children.push(handle.start_child(child).await.unwrap());
    }
    let (stubborn, _) = scripted(Script { stop_takes: ms(60_000), ..kit.script("stubborn") });
    let stubborn = handle.start_child(stubborn.shutdown(Shutdown::Timeout(ms(2000)))).await.unwrap();
    // One of them is already being terminated when the end comes.
    let terminated = handle.terminate_child(&children[0]);
    let began = Instant::now();
    let (terminated, reason) = tokio::join!(terminated, running.stop());
    assert_eq!((terminated, reason), (Ok(()), ExitReason::Shutdown));
    assert_eq!(began.elapsed().as_millis(), 2000);
    for child in &children {
        assert_eq!(child.ended().await, ExitReason::Shutdown);
    }
    assert_eq!(stubborn.ended().await, ExitReason::Killed);
}

#[tokio::test(start_paused = true)]
async fn a_handle_and_its_limit_survive_a_restart_of_the_supervisor() {
    let kit = Kit::new();
    let (_running, handle) = started(&kit, 1).await;
    handle.set_max_children(2).await.unwrap();
    let (child, address) = kit.worker("x");
    let child = handle.start_child(child).await.unwrap();
    kit.kill("/jobs");
    kit.runs("/jobs", 2).await;
    assert!(!address.is_up());
    assert_eq!(handle.count_children().await.unwrap(), ChildCounts::default());
    assert_eq!(handle.terminate_child(&child).await, Err(ChildError::NotFound));
    for _ in 0..2 {
        handle.start_child(kit.worker("x").0).await.unwrap();
    }
    assert_eq!(handle.start_child(kit.worker("x").0).await.unwrap_err(), StartChildError::MaxChildren(2));
}

#[tokio::test(start_paused = true)]
async fn x08_a_terminated_dynamic_child_in_backoff_never_comes_back() {
    let kit = Kit::new();
    let (_running, handle) = started(&kit, 1).await;
    let (child, address) = kit.worker("x");
    let child = handle.start_child(child.backoff(Backoff::new(ms(500), ms(500)))).await.unwrap();
    address.cast(Do::Panic).unwrap();
    kit.is("/jobs/x", NodeState::Restarting).await;
    handle.terminate_child(&child).await.unwrap();
    tokio::time::sleep(ms(5000)).await;
    assert_eq!(kit.journal.take(), ["start x"]);
}

/// Many short jobs in waves, on real threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x14_a_hundred_thousand_temporary_children_leave_nothing_behind() {
    const WAVE: usize = 100;
    const WAVES: usize = 1_000;
    let kit = Kit::new();
    let (running, handle) = started(&kit, WAVE).await;
    let script = kit.script("job");
    let alive = Arc::downgrade(&script.failing);
    let address = Address::<Do>::new("job", 10);
    for _ in 0..WAVES {
        let mut wave = Vec::with_capacity(WAVE);
        for i in 0..WAVE {
            let (script, address) = (script.clone(), Address::<Do>::new("job", 10));
            let spec = ChildSpec::actor::<super::kit::Worker>(format!("{i}"), &address, move || script.clone());
            wave.push((handle.start_child(spec.restart(Restart::Temporary)).await.unwrap(), address));
        }
        for (i, (child, address)) in wave.iter().enumerate() {
            match i % 4 {
                0 => address.cast(Do::Stop(ExitReason::Normal)).unwrap(),
                1 => address.cast(Do::Fail).unwrap(),
                2 => child.kill(),
                _ => handle.terminate_child(child).await.unwrap(),
            }
        }
        for (child, _) in &wave {
            within(child.ended()).await;
        }
        // An ended child gives its place free a moment later, when its supervisor has heard of it.
        while handle.count_children().await.unwrap().specs > 0 {
            tokio::task::yield_now().await;
        }
        kit.journal.take();
    }
    drop((script, address));
    assert!(kit.node("/jobs").children.is_empty());
    until(|| alive.strong_count() == 0).await;
    assert_eq!(running.stop().await, ExitReason::Shutdown);
}
