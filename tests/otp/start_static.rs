//! Starts of and under static supervisors: order, failures, and children that choose not to run.

use singularity::supervision::*;

use super::kit::{Do, Kit, Start, counts, ms, root, settle};
use super::log::Log;

#[tokio::test(start_paused = true)]
async fn s01_sup_start_normal() {
    let kit = Kit::new();
    let (running, handle) = kit.root(Strategy::OneForOne, []).await;
    assert_eq!(handle.count_children().await, Ok(counts(0, 0, 0, 0)));
    assert_eq!(running.stop().await, ExitReason::Shutdown);
    assert_eq!(handle.count_children().await, Err(ChildError::NoProc));
}

#[tokio::test(start_paused = true)]
async fn s02_sup_start_ignore_init() {
    let kit = Kit::new();
    let other = kit.worker("other");
    let (running, handle) = kit.root(Strategy::OneForOne, [&other]).await;
    let ignoring = || ChildSpec::supervisor("sub", || Ok(None));
    assert_eq!(handle.start_child(ignoring()).await, Err(StartChildError::Ignored));
    assert_eq!(handle.count_children().await, Ok(counts(2, 1, 1, 1)));
    settle().await;
    assert_eq!((kit.node("/sub").state, kit.exits("/sub")), (NodeState::Stopped, vec![]));
    assert_eq!(other.ping().await, Ok(1));
    running.stop().await;

    // In the first list it holds up nobody either.
    let again = kit.system.start(root(Strategy::OneForOne).child(ignoring()).child(other.spec.clone())).await.unwrap();
    assert_eq!(again.stop().await, ExitReason::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn s03_sup_start_ignore_child() {
    let kit = Kit::new();
    let [first, second] = kit.workers(["first", "second"]);
    let (_running, handle) = kit.root(Strategy::OneForOne, [&first]).await;
    second.starts(Start::Ignores);
    assert_eq!(handle.start_child(second.spec.clone()).await, Err(StartChildError::Ignored));
    assert_eq!(handle.count_children().await, Ok(counts(2, 1, 0, 2)));
    let listed = handle.which_child("second").await.unwrap();
    assert_eq!((listed.child, listed.state), (None, NodeState::Stopped));
    // It is known, so it can be started once it wants to run.
    second.starts(Start::Runs);
    assert!(handle.restart_child("second").await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn s04_sup_start_ignore_temporary_child() {
    let kit = Kit::new();
    let ignoring = kit.worker("ignoring").restart(Restart::Temporary);
    ignoring.starts(Start::Ignores);
    let other = kit.worker("other");
    let (running, handle) = kit.root(Strategy::OneForOne, [&ignoring, &other]).await;
    assert_eq!(handle.count_children().await, Ok(counts(1, 1, 0, 1)));
    assert_eq!(handle.which_children().await.unwrap()[0].id.as_str(), "other");
    assert!(kit.find("/ignoring").is_none());
    assert_eq!(running.stop().await, ExitReason::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn s05_sup_start_ignore_temporary_child_start_child() {
    let kit = Kit::new();
    let [ignoring, other] = kit.workers(["ignoring", "other"]);
    let (running, handle) = kit.root(Strategy::OneForOne, []).await;
    let ignoring = ignoring.restart(Restart::Temporary);
    ignoring.starts(Start::Ignores);
    assert_eq!(handle.start_child(ignoring.spec).await, Err(StartChildError::Ignored));
    handle.start_child(other.spec).await.unwrap();
    assert_eq!(handle.count_children().await, Ok(counts(1, 1, 0, 1)));
    assert!(kit.find("/ignoring").is_none());
    assert_eq!(running.stop().await, ExitReason::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn s08_sup_start_error_return() {
    let kit = Kit::new();
    let other = kit.worker("other");
    let (_running, handle) = kit.root(Strategy::OneForOne, [&other]).await;
    let sub = ChildSpec::supervisor("sub", || Err(ActorError::msg("bad return")));
    let refused = handle.start_child(sub).await;
    assert_eq!(refused, Err(StartChildError::Start(StartError::Init(ErrorInfo::text("bad return")))));
    settle().await;
    assert_eq!((handle.count_children().await, kit.lives(["/other"])), (Ok(counts(1, 1, 0, 1)), [1]));
}

#[tokio::test(start_paused = true)]
async fn s09_sup_start_fail() {
    let kit = Kit::new();
    let other = kit.worker("other");
    let (_running, handle) = kit.root(Strategy::OneForOne, [&other]).await;
    let sub = ChildSpec::supervisor("sub", || panic!("no such luck"));
    let Err(StartChildError::Start(StartError::Panic(crash))) = handle.start_child(sub).await else {
        panic!("not a panic")
    };
    assert_eq!((crash.text.as_str(), crash.path.as_str()), ("no such luck", "/sub"));
    assert!(crash.location.unwrap().contains("start_static.rs:"));
    settle().await;
    assert_eq!((handle.count_children().await, kit.lives(["/other"])), (Ok(counts(1, 1, 0, 1)), [1]));
}

#[tokio::test(start_paused = true)]
async fn s10_sup_start_restart_child_returns_error() {
    let kit = Kit::new();
    let x = kit.worker("x");
    let (_running, handle) = kit.root(Strategy::OneForOne, [&x]).await;
    handle.terminate_child("x").await.unwrap();
    for start in [Start::Fails, Start::Panics, Start::PanicsEarly] {
        x.starts(start);
        assert!(matches!(handle.restart_child("x").await, Err(ChildError::Start(_))), "{start:?}");
        let listed = handle.which_child("x").await.unwrap();
        assert_eq!((listed.child, listed.state), (None, NodeState::Stopped), "{start:?}");
    }
    settle().await;
    assert_eq!(handle.count_children().await, Ok(counts(1, 0, 0, 1)));
}

#[tokio::test(start_paused = true)]
async fn s11_sup_start_child_returns_error() {
    let kit = Kit::new();
    let (_running, handle) = kit.root(Strategy::OneForOne, []).await;
    let x = kit.worker("x");
    x.next_starts([Start::Fails, Start::Panics, Start::PanicsEarly]);
    for reason in ["init fails", "panic during start: init panics", "panic during start: start panics"] {
        let error = handle.start_child(x.spec.clone()).await.unwrap_err();
        assert_eq!(error.to_string(), format!("the child did not start: {reason}"));
        assert_eq!(handle.which_children().await.unwrap().len(), 0);
        assert!(kit.find("/x").is_none());
    }
    assert!(handle.start_child(x.spec.clone()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn s13_sup_start_map() {
    let kit = Kit::new();
    let handle = SupervisorHandle::new();
    let sub = SupervisorSpec::new("sub", Strategy::OneForOne).into_child();
    let dynamic = DynamicSupervisorSpec::new("jobs", 1).into_child(&DynamicHandle::new());
    let spec = root(Strategy::OneForOne).handle(&handle).children([kit.worker("x").spec, sub, dynamic]);
    let _running = kit.start(spec).await;
    let rules = handle.get_childspec("x").await.unwrap().rules().clone();
    assert_eq!((rules.id.as_str(), rules.restart, rules.kind), ("x", Restart::Permanent, ChildKind::Worker));
    assert_eq!((rules.shutdown, rules.significant), (Shutdown::Timeout(ms(5_000)), false));
    assert_eq!((rules.backoff, SHUTDOWN_DEFAULT), (None, ms(5_000)));
    for id in ["sub", "jobs"] {
        let rules = handle.get_childspec(id).await.unwrap().rules().clone();
        assert_eq!((rules.restart, rules.kind), (Restart::Permanent, ChildKind::Supervisor));
        assert_eq!((rules.shutdown, rules.significant), (Shutdown::Infinity, false));
    }
    assert_eq!(handle.get_childspec("none").await.unwrap_err(), ChildError::NotFound);
}

#[tokio::test(start_paused = true)]
async fn s25_extra_return() {
    let kit = Kit::new();
    let x = kit.worker("x");
    let (_running, handle) = kit.root(Strategy::OneForOne, []).await;
    x.next_starts([Start::Tells(1), Start::Tells(2), Start::Tells(3)]);
    let started = handle.start_child(x.spec.clone()).await.unwrap();
    assert_eq!(started.info::<u32>().as_deref(), Some(&1));
    assert_eq!(started.info::<String>(), None, "only as what it is");
    handle.terminate_child("x").await.unwrap();
    let started = handle.restart_child("x").await.unwrap().unwrap();
    assert_eq!(started.info::<u32>().as_deref(), Some(&2));
    x.panics();
    kit.runs("/x", 3).await;
    let listed = handle.which_child("x").await.unwrap().child.unwrap();
    assert_eq!(listed.info::<u32>().as_deref(), Some(&3));
    assert_eq!(x.ping().await, Ok(3));
}

#[tokio::test(start_paused = true)]
async fn s44_external_start_no_progress_log() {
    let log = Log::default();
    let _logging = log.here();
    let kit = Kit::new();
    let [first, asked] = kit.workers(["first", "asked"]);
    let (_running, handle) = kit.root(Strategy::OneForOne, [&first]).await;
    handle.start_child(asked.spec.clone()).await.unwrap();
    let of_asked = |target: &str, id: &str| log.lines(&[target, id]).len();
    assert_eq!(of_asked("sup.progress", "started.id=first"), 1);
    assert_eq!(of_asked("sup.progress", "started.id=asked"), 0);
    asked.panics();
    kit.runs("/asked", 2).await;
    assert_eq!(log.lines(&["sup.report", "errorContext=\"child_terminated\"", "offender.id=asked"]).len(), 1);
    assert_eq!(of_asked("sup.progress", "started.id=asked"), 1, "an automatic restart is reported");
}

#[tokio::test(start_paused = true)]
async fn s51_faulty_application_shutdown() {
    let kit = Kit::new();
    let leaf = kit.worker("leaf");
    leaf.next_starts([Start::Fails, Start::Panics]);
    let sub = || SupervisorSpec::new("sub", Strategy::OneForOne).child(leaf.spec.clone()).into_child();
    let error = kit.system.start(root(Strategy::OneForOne).child(sub())).await.unwrap_err();
    let expected = "child \"sub\" failed to start: child \"leaf\" failed to start: init fails";
    assert_eq!(error.to_string(), expected);
    let error = kit.system.start(root(Strategy::OneForOne).child(sub())).await.unwrap_err();
    let StartError::Child { source, .. } = error else { panic!("not the child") };
    let StartError::Child { id, source } = *source else { panic!("not the leaf") };
    let StartError::Panic(crash) = *source else { panic!("not a panic") };
    assert_eq!((id.as_str(), crash.path.as_str(), crash.doing.as_str()), ("leaf", "/sub/leaf", "init"));
    assert!(crash.location.unwrap().contains("kit.rs:"));
}

#[tokio::test(start_paused = true)]
async fn s51_those_that_started_before_are_stopped_in_reverse() {
    let kit = Kit::new();
    let [a, b, c] = kit.workers(["a", "b", "c"]);
    c.next_starts([Start::Fails]);
    let sub = SupervisorSpec::new("sub", Strategy::OneForOne).child(b.spec).into_child();
    let error = kit.system.start(root(Strategy::OneForOne).children([a.spec.clone(), sub, c.spec])).await.unwrap_err();
    assert_eq!(error.to_string(), "child \"c\" failed to start: init fails");
    assert_eq!(kit.journal.take(), ["start a", "start b", "start c", "stop b", "stop a"]);
    assert_eq!(kit.node("/").state, NodeState::Stopped);
    assert!(kit.system.start(root(Strategy::OneForOne).child(a.spec)).await.is_ok(), "the system can start again");
}

#[tokio::test(start_paused = true)]
async fn s87_order_of_children() {
    let kit = Kit::new();
    let [c, a, d, b] = kit.workers(["c", "a", "d", "b"]);
    let spec = root(Strategy::RestForOne).children([&c, &a, &d, &b].map(|worker| worker.spec.clone()));
    let running = kit.system.start(spec).await.unwrap();
    assert_eq!(kit.journal.take(), ["start c", "start a", "start d", "start b"]);
    a.tell(Do::Panic);
    kit.runs("/b", 2).await;
    assert_eq!(kit.journal.take(), ["stop b", "stop d", "start a", "start d", "start b"]);
    assert_eq!(running.stop().await, ExitReason::Shutdown);
    assert_eq!(kit.journal.take(), ["stop b", "stop d", "stop a", "stop c"]);
}
