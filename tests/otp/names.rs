//! Registered names.

use singularity::supervision::*;

use super::kit::{Do, Kit, WIDE, ms, restarts, root, within};

fn whereis(kit: &Kit, name: &str) -> Option<Address<Do>> {
    kit.system.lookup(name)
}

async fn ping(kit: &Kit, name: &str) -> Option<u64> {
    whereis(kit, name)?.call(Do::Ping, ms(10_000)).await.ok()
}

fn names(kit: &Kit) -> Vec<String> {
    kit.system.registered().into_iter().map(|(name, path)| format!("{name} {path}")).collect()
}

#[tokio::test(start_paused = true)]
async fn s79_simple_global_supervisor() {
    let kit = Kit::new();
    let worker = kit.worker("w").with(|spec| spec.registered("worker"));
    let top = SupervisorHandle::new();
    let sub = SupervisorSpec::new("sub", Strategy::OneForOne).child(worker.spec.clone()).into_child();
    let spec = root(Strategy::OneForOne).handle(&top).child(sub.registered("supervisor"));
    let _running = kit.start(spec).await;
    let sub = || kit.system.lookup::<SupervisorHandle>("supervisor").expect("the supervisor has its name");
    assert_eq!(names(&kit), ["supervisor /sub", "worker /sub/w"]);
    // The worker: killed, leaving, terminated and restarted by request.
    kit.kill("/sub/w");
    kit.runs("/sub/w", 2).await;
    assert_eq!(ping(&kit, "worker").await, Some(2));
    worker.leaves(ExitReason::Normal);
    kit.runs("/sub/w", 3).await;
    assert_eq!(ping(&kit, "worker").await, Some(3));
    sub().terminate_child("w").await.unwrap();
    assert_eq!(names(&kit), ["supervisor /sub"]);
    sub().restart_child("w").await.unwrap();
    assert_eq!(ping(&kit, "worker").await, Some(4));
    // The supervisor: killed, ended, terminated and restarted by request.
    kit.kill("/sub");
    kit.runs("/sub/w", 5).await;
    assert_eq!((sub().count_children().await.unwrap().active, ping(&kit, "worker").await), (1, Some(5)));
    within(sub().stop(ExitReason::Normal, None)).await.unwrap();
    kit.runs("/sub/w", 6).await;
    assert_eq!(ping(&kit, "worker").await, Some(6));
    top.terminate_child("sub").await.unwrap();
    assert!(names(&kit).is_empty());
    top.restart_child("sub").await.unwrap();
    assert_eq!((sub().count_children().await.unwrap().active, ping(&kit, "worker").await), (1, Some(7)));
}

#[tokio::test(start_paused = true)]
async fn s91_already_started_outside_supervisor() {
    let kit = Kit::new();
    let holder = kit.worker("holder").with(|spec| spec.registered("taken"));
    let (_running, handle) = kit.root(Strategy::OneForOne, [&holder]).await;
    let late = kit.worker("late").with(|spec| spec.registered("taken"));
    let error = handle.start_child(late.spec.clone()).await.unwrap_err();
    let StartChildError::Start(StartError::NameTaken { name, holder: path }) = error else { panic!("{error}") };
    assert_eq!((name.as_str(), path.as_str()), ("taken", "/holder"));
    assert_eq!(handle.which_child("late").await.unwrap_err(), ChildError::NotFound);
    assert!(!kit.journal.take().contains(&"start late".to_owned()), "its init did not even run");
    assert_eq!(ping(&kit, "taken").await, Some(1));
    // Free again, it goes to whoever asks next.
    handle.terminate_child("holder").await.unwrap();
    handle.start_child(late.spec).await.unwrap();
    assert_eq!(names(&kit), ["taken /late"]);
    let refused = handle.restart_child("holder").await.unwrap_err();
    assert!(matches!(refused, ChildError::Start(StartError::NameTaken { .. })), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn s91_the_same_under_a_dynamic_supervisor() {
    let kit = Kit::new();
    let (_running, handle) = kit.dynamic(5, WIDE).await;
    let [first, second] = kit.workers(["x", "x"]).map(|worker| worker.with(|spec| spec.registered("taken")));
    let child = handle.start_child(first.spec).await.unwrap();
    let error = handle.start_child(second.spec.clone()).await.unwrap_err();
    assert_eq!(error.to_string(), "the child did not start: the name \"taken\" is already registered by /jobs/x");
    assert_eq!(handle.count_children().await.unwrap().specs, 1);
    handle.terminate_child(&child).await.unwrap();
    assert!(handle.start_child(second.spec).await.is_ok());
}

/// Starts a supervisor under a name and finds it by that.
async fn named_supervisor() -> (Kit, Running, SupervisorHandle) {
    let kit = Kit::new();
    let sub = SupervisorSpec::new("sub", Strategy::OneForOne).intensity(restarts(2)).into_child();
    let running = kit.start(root(Strategy::OneForOne).child(sub.registered("my name"))).await;
    let found = kit.system.lookup::<SupervisorHandle>("my name").unwrap();
    (kit, running, found)
}

#[tokio::test(start_paused = true)]
async fn e05_supervisor_via_a_registry() {
    let (kit, _running, found) = named_supervisor().await;
    let x = kit.worker("x");
    found.start_child(x.spec.clone()).await.unwrap();
    assert_eq!(kit.node("/sub/x").state, NodeState::Running);
    assert_eq!(kit.system.registered(), [("my name".to_owned(), kit.system.probe("/sub").unwrap().path().clone())]);
}

#[tokio::test(start_paused = true)]
async fn e07_supervisor_by_its_name() {
    let (kit, running, found) = named_supervisor().await;
    assert!(kit.system.lookup::<Address<Do>>("my name").is_none(), "only as what it is");
    assert!(kit.system.lookup::<SupervisorHandle>("another name").is_none());
    running.stop().await;
    assert!(kit.system.lookup::<SupervisorHandle>("my name").is_none());
    assert_eq!(found.count_children().await, Err(ChildError::NoProc));
}

#[tokio::test(start_paused = true)]
async fn e08_named_child() {
    let kit = Kit::new();
    let x = kit.worker("x").with(|spec| spec.registered("stack"));
    let (_running, _) = kit.root(Strategy::OneForOne, [&x]).await;
    assert_eq!(ping(&kit, "stack").await, Some(1));
    x.leaves(ExitReason::Normal);
    kit.runs("/x", 2).await;
    assert_eq!(ping(&kit, "stack").await, Some(2));

    let twice = kit.workers(["a", "b"]).map(|worker| worker.spec.registered("same"));
    let error = Kit::new().system.start(root(Strategy::OneForOne).children(twice)).await.unwrap_err();
    assert_eq!(error.to_string(), "child \"b\" failed to start: the name \"same\" is already registered by /a");
}

#[tokio::test(start_paused = true)]
async fn x15_two_systems_know_nothing_of_each_other() {
    let (one, two) = (Kit::new(), Kit::new());
    let named = |kit: &Kit| kit.worker("same").with(|spec| spec.registered("same"));
    let (first, second) = (named(&one), named(&two));
    let (_one, _) = one.root(Strategy::OneForOne, [&first]).await;
    let (running, _) = two.root(Strategy::OneForOne, [&second]).await;
    let mut events = two.system.events();
    first.panics();
    one.runs("/same", 2).await;
    assert_eq!((ping(&one, "same").await, ping(&two, "same").await), (Some(2), Some(1)));
    assert!(events.try_recv().is_err());
    running.stop().await;
    assert_eq!((ping(&one, "same").await, names(&two)), (Some(2), vec![]));
}
