//! What starts under a dynamic supervisor return, and what is kept of them.

use singularity::supervision::*;

use super::kit::{Kit, Start, WIDE, counts};

/// A start that ignores is told to whoever asked and leaves nothing.
async fn ignored(restart: Restart) {
    let kit = Kit::new();
    let (running, handle) = kit.dynamic(5, WIDE).await;
    let x = kit.worker("x").restart(restart);
    x.next_starts([Start::Ignores]);
    assert_eq!(handle.start_child(x.spec.clone()).await, Err(StartChildError::Ignored));
    assert_eq!(handle.count_children().await, Ok(counts(0, 0, 0, 0)));
    assert!(handle.which_children().await.unwrap().is_empty());
    assert!(kit.find("/jobs/x").is_none());
    assert!(handle.start_child(x.spec).await.is_ok(), "its supervisor goes on");
    assert_eq!(running.stop().await, ExitReason::Shutdown);
    assert_eq!(kit.exits("/jobs"), [ExitReason::Shutdown]);
}

#[tokio::test(start_paused = true)]
async fn s06_sup_start_ignore_temporary_child_start_child_simple() {
    ignored(Restart::Temporary).await;
}

#[tokio::test(start_paused = true)]
async fn s07_sup_start_ignore_permanent_child_start_child_simple() {
    ignored(Restart::Permanent).await;
}

#[tokio::test(start_paused = true)]
async fn s12_sup_start_child_returns_error_simple() {
    let kit = Kit::new();
    let (_running, handle) = kit.dynamic(5, WIDE).await;
    let x = kit.worker("x");
    x.next_starts([Start::Fails, Start::Panics]);
    let fails = StartChildError::Start(StartError::Init(ErrorInfo::text("init fails")));
    assert_eq!(handle.start_child(x.spec.clone()).await, Err(fails));
    let panics = handle.start_child(x.spec.clone()).await;
    assert!(matches!(panics, Err(StartChildError::Start(StartError::Panic(_)))), "{panics:?}");
    assert_eq!(handle.count_children().await, Ok(counts(0, 0, 0, 0)));
    assert!(kit.find("/jobs/x").is_none());
}

#[tokio::test(start_paused = true)]
async fn s14_sup_start_map_simple() {
    let kit = Kit::new();
    let (_running, handle) = kit.dynamic(5, WIDE).await;
    let x = handle.start_child(kit.worker("x").spec).await.unwrap();
    let rules = handle.get_childspec(&x).await.unwrap().rules().clone();
    assert_eq!((rules.id.as_str(), rules.restart, rules.kind), ("x", Restart::Permanent, ChildKind::Worker));
    assert_eq!(rules.shutdown, Shutdown::Timeout(SHUTDOWN_DEFAULT));

    let other = Kit::new();
    let (_other_running, other_handle) = other.dynamic(5, WIDE).await;
    let foreign = other_handle.start_child(other.worker("x").spec).await.unwrap();
    assert_eq!(handle.get_childspec(&foreign).await.unwrap_err(), ChildError::NotFound);
    handle.terminate_child(&x).await.unwrap();
    assert_eq!(handle.get_childspec(&x).await.unwrap_err(), ChildError::NotFound);
}

#[tokio::test(start_paused = true)]
async fn d16_different_returns() {
    let kit = Kit::new();
    let (_running, handle) = kit.dynamic(5, WIDE).await;
    let x = kit.worker("x");
    x.next_starts([Start::Runs, Start::Tells(7), Start::Ignores, Start::Fails]);
    let plain = handle.start_child(x.spec.clone()).await.unwrap();
    assert_eq!((plain.path().as_str(), plain.info::<u32>()), ("/jobs/x", None));
    // Ids are for people: the same one twice is fine. The address is free again.
    handle.terminate_child(&plain).await.unwrap();
    let told = handle.start_child(x.spec.clone()).await.unwrap();
    assert_eq!(told.info::<u32>().as_deref(), Some(&7));
    assert_eq!(handle.start_child(x.spec.clone()).await, Err(StartChildError::Ignored));
    let failed = StartChildError::Start(StartError::Init(ErrorInfo::text("init fails")));
    assert_eq!(handle.start_child(x.spec).await, Err(failed));
    assert_eq!(handle.count_children().await, Ok(counts(1, 1, 0, 1)));
}

#[tokio::test(start_paused = true)]
async fn d17_panics_become_error_values() {
    let kit = Kit::new();
    let (_running, handle) = kit.dynamic(5, WIDE).await;
    let x = kit.worker("x");
    x.next_starts([Start::Panics, Start::PanicsEarly]);
    for (text, doing) in [("init panics", "init"), ("start panics", "start")] {
        let Err(StartChildError::Start(StartError::Panic(crash))) = handle.start_child(x.spec.clone()).await else {
            panic!("not a panic")
        };
        assert_eq!((crash.text.as_str(), crash.doing.as_str()), (text, doing));
        assert!(crash.location.is_some());
    }
    assert!(handle.start_child(x.spec).await.is_ok());
    assert_eq!(kit.lives(["/jobs"]), [1]);
}

#[tokio::test(start_paused = true)]
async fn s37_simple_one_for_one_extra() {
    let kit = Kit::new();
    let (_running, handle) = kit.dynamic(5, WIDE).await;
    let [x, y] = kit.workers(["x", "y"]);
    x.next_starts([Start::Tells(1), Start::Tells(2)]);
    let child = handle.start_child(x.spec.clone()).await.unwrap();
    handle.start_child(y.spec.clone()).await.unwrap();
    assert_eq!(child.info::<u32>().as_deref(), Some(&1));
    x.panics();
    kit.runs("/jobs/x", 2).await;
    let listed = handle.which_child(&child).await.unwrap().child.unwrap();
    assert_eq!((listed.incarnation(), listed.info::<u32>().as_deref()), (Incarnation(2), Some(&2)));
    assert_eq!((x.ping().await, y.ping().await), (Ok(2), Ok(1)));
}
