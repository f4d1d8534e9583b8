//! Dynamic supervisors in their tree, what their children are started from, and the places children occupy.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use singularity::supervision::*;

use super::kit::{Do, Kit, Puppet, Start, WIDE, counts, ms, root, within};

#[tokio::test(start_paused = true)]
async fn d01_under_a_supervisor() {
    let kit = Kit::new();
    let handle = DynamicHandle::new();
    let jobs = DynamicSupervisorSpec::new("jobs", 5).into_child(&handle);
    let running = kit.start(root(Strategy::OneForOne).child(jobs)).await;
    let x = kit.worker("x");
    handle.start_child(x.spec.clone()).await.unwrap();
    assert_eq!((x.ping().await, kit.node("/jobs").children.len()), (Ok(1), 1));
    // Its supervisor restarts it, empty.
    kit.kill("/jobs");
    kit.runs("/jobs", 2).await;
    assert_eq!((x.is_up(), handle.count_children().await), (false, Ok(counts(0, 0, 0, 0))));
    handle.start_child(x.spec.clone()).await.unwrap();
    assert_eq!(running.stop().await, ExitReason::Shutdown);
    assert!(!x.is_up());
}

#[tokio::test(start_paused = true)]
async fn d02_several_under_one_supervisor() {
    let kit = Kit::new();
    let [one, two] = [DynamicHandle::new(), DynamicHandle::new()];
    let dynamic = |id: &str, handle| DynamicSupervisorSpec::new(id, 5).into_child(handle);
    let handle = SupervisorHandle::new();
    let spec = root(Strategy::OneForOne).handle(&handle);
    let spec = spec.child(dynamic("one", &one).registered("one")).child(dynamic("two", &two).registered("two"));
    let _running = kit.start(spec).await;
    one.start_child(kit.worker("x").spec).await.unwrap();
    assert_eq!(one.count_children().await.unwrap().specs, 1);
    assert_eq!(two.count_children().await.unwrap().specs, 0);
    assert!(kit.system.lookup::<DynamicHandle>("two").is_some());
    let again = dynamic("one", &DynamicHandle::new());
    assert_eq!(handle.start_child(again.clone()).await, Err(StartChildError::AlreadyStarted));
    let twice = root(Strategy::OneForOne).child(again.clone()).child(again);
    assert_eq!(twice.validate(), Err(SpecError::DuplicateId("one".into())));
}

/// A child that is given what all children share and what is its own.
fn with_shared(kit: &Kit, shared: &Arc<AtomicUsize>, own: &str) -> (ChildSpec, Address<Do>) {
    let address = Address::new("puppet", 10);
    let (shared, script) = (shared.clone(), kit.script(own));
    let spec = ChildSpec::actor::<Puppet>(own, &address, move || {
        let count = shared.fetch_add(1, Ordering::SeqCst);
        script.journal.note(format!("shared {count}, own {}", script.name));
        (script.clone(), Start::Runs)
    });
    (spec, address)
}

#[tokio::test(start_paused = true)]
async fn d14_extra_arguments() {
    let kit = Kit::new();
    let (_running, handle) = kit.dynamic(5, WIDE).await;
    let shared = Arc::new(AtomicUsize::new(0));
    for own in ["a", "b"] {
        handle.start_child(with_shared(&kit, &shared, own).0).await.unwrap();
    }
    assert_eq!(kit.journal.take(), ["shared 0, own a", "start a", "shared 1, own b", "start b"]);
}

#[tokio::test(start_paused = true)]
async fn d25_extra_arguments_at_restarts() {
    let kit = Kit::new();
    let (_running, handle) = kit.dynamic(5, WIDE).await;
    let shared = Arc::new(AtomicUsize::new(0));
    let (spec, address) = with_shared(&kit, &shared, "a");
    handle.start_child(spec).await.unwrap();
    address.cast(Do::Panic).unwrap();
    kit.runs("/jobs/a", 2).await;
    assert_eq!(kit.journal.take(), ["shared 0, own a", "start a", "shared 1, own a", "start a"]);
}

#[tokio::test(start_paused = true)]
async fn d18_max_children_0_refuses() {
    let kit = Kit::new();
    let (_running, handle) = kit.dynamic(0, WIDE).await;
    assert_eq!(handle.start_child(kit.worker("x").spec).await, Err(StartChildError::MaxChildren(0)));
    assert_eq!((kit.journal.len(), handle.count_children().await), (0, Ok(counts(0, 0, 0, 0))));
}

#[tokio::test(start_paused = true)]
async fn d23_restarting_children_occupy_places() {
    let kit = Kit::new();
    let (_running, handle) = kit.dynamic(1, WIDE).await;
    let x = kit.watchable("x");
    let child = handle.start_child(x.spec.clone()).await.unwrap();
    x.starts(Start::Fails);
    x.panics();
    kit.journal.lines(4).await;
    assert_eq!(handle.count_children().await, Ok(counts(1, 0, 0, 1)));
    let y = kit.worker("y");
    assert_eq!(handle.start_child(y.spec.clone()).await, Err(StartChildError::MaxChildren(1)));
    handle.terminate_child(&child).await.unwrap();
    assert!(handle.start_child(y.spec).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn d24_restarted_children_occupy_places() {
    let kit = Kit::new();
    let (_running, handle) = kit.dynamic(1, WIDE).await;
    let x = kit.worker("x");
    handle.start_child(x.spec.clone()).await.unwrap();
    x.panics();
    kit.runs("/jobs/x", 2).await;
    assert_eq!(handle.start_child(kit.worker("y").spec).await, Err(StartChildError::MaxChildren(1)));
    assert_eq!(handle.count_children().await, Ok(counts(1, 1, 0, 1)));
}

#[tokio::test(start_paused = true)]
async fn d06_link_name_and_stop() {
    let kit = Kit::new();
    let handle = DynamicHandle::new();
    let jobs = DynamicSupervisorSpec::new("jobs", 5).into_child(&handle).restart(Restart::Transient);
    let _running = kit.start(root(Strategy::OneForOne).child(jobs.registered("the jobs"))).await;
    let found = kit.system.lookup::<DynamicHandle>("the jobs").unwrap();
    let x = kit.slow("x", ms(1_000));
    let child = found.start_child(x.spec.clone()).await.unwrap();
    assert_eq!(handle.count_children().await.unwrap().active, 1, "it is the same supervisor");
    assert_eq!(within(handle.stop(ExitReason::Normal, None)).await, Ok(()));
    assert_eq!(child.ended().await, ExitReason::Shutdown);
    kit.is("/jobs", NodeState::Stopped).await;
    assert_eq!(kit.exits("/jobs"), [ExitReason::Normal]);
    assert!(kit.system.lookup::<DynamicHandle>("the jobs").is_none());
    assert_eq!(handle.stop(ExitReason::Normal, None).await, Err(ChildError::NoProc));
}

#[tokio::test(start_paused = true)]
async fn d06_it_dies_with_its_supervisor() {
    let kit = Kit::new();
    let (running, handle) = kit.dynamic(5, WIDE).await;
    let x = kit.worker("x");
    handle.start_child(x.spec.clone()).await.unwrap();
    running.kill().await;
    assert!(!x.is_up());
    assert_eq!(handle.count_children().await, Err(ChildError::NoProc));
}
