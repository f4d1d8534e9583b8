//! Changed specifications of running supervisors, OTP's `code_change`.

use singularity::supervision::*;

use super::kit::{Do, Kit, Start, WIDE, ms, restarts, root};

#[tokio::test(start_paused = true)]
async fn s83_code_change() {
    let kit = Kit::new();
    let [a, b, new] = kit.workers(["a", "b", "new"]);
    let (running, handle) = kit.root(Strategy::OneForOne, [&a, &b]).await;

    // What is invalid changes nothing.
    for (invalid, error) in [
        (root(Strategy::OneForAll).children([a.spec.clone(), a.spec.clone()]), SpecError::DuplicateId("a".into())),
        (root(Strategy::OneForAll).intensity(Intensity::new(1, ms(0))), SpecError::Period),
    ] {
        assert_eq!(handle.update(invalid).await, Err(ChildError::InvalidSpec(error)));
    }
    assert_eq!((kit.node("/").strategy, kit.node("/").restart_limit), (Some(Strategy::OneForOne), Some(1000)));

    let changed = root(Strategy::OneForAll).intensity(restarts(1)).children([new.spec.clone(), a.spec.clone()]);
    let diff = handle.update(changed).await.unwrap();
    assert_eq!((diff.added, diff.same), (vec!["new".into()], vec!["a".into()]));
    assert_eq!((diff.kept, diff.changed), (vec!["b".into()], vec![]));
    assert_eq!(kit.journal.len(), 0, "nothing is started or stopped");
    assert_eq!((a.ping().await, b.ping().await, new.is_up()), (Ok(1), Ok(1), false));
    let ids: Vec<_> = handle.which_children().await.unwrap().into_iter().map(|info| info.id.to_string()).collect();
    assert_eq!(ids, ["new", "b", "a"]);

    // The new flags hold.
    a.panics();
    kit.runs("/b", 2).await;
    a.panics();
    assert_eq!(running.wait().await, ExitReason::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn s84_code_change_map() {
    let kit = Kit::new();
    let x = kit.slow("x", ms(60_000));
    let (_running, handle) = kit.root(Strategy::OneForOne, [&x]).await;
    let changed = x.spec.clone().restart(Restart::Transient).shutdown(Shutdown::Timeout(ms(100)));
    let diff = handle.update(root(Strategy::OneForOne).child(changed)).await.unwrap();
    assert_eq!(diff.changed, ["x".into()]);
    let rules = handle.get_childspec("x").await.unwrap().rules().clone();
    assert_eq!((rules.restart, rules.shutdown), (Restart::Transient, Shutdown::Timeout(ms(100))));
    assert_eq!(x.ping().await, Ok(1), "the same incarnation goes on");
    let began = tokio::time::Instant::now();
    handle.terminate_child("x").await.unwrap();
    assert_eq!(began.elapsed(), ms(100));
    handle.restart_child("x").await.unwrap();
    x.tell(Do::Panic);
    kit.runs("/x", 3).await;
}

#[tokio::test(start_paused = true)]
async fn s84_changed_starts_hold_from_the_next_start_on() {
    let kit = Kit::new();
    let [old, new] = kit.workers(["x", "x"]);
    let (_running, handle) = kit.root(Strategy::OneForOne, [&old]).await;
    handle.update(root(Strategy::OneForOne).child(new.spec.clone())).await.unwrap();
    assert_eq!((old.ping().await, new.is_up()), (Ok(1), false));
    old.panics();
    kit.runs("/x", 2).await;
    assert_eq!((old.is_up(), new.ping().await), (false, Ok(2)));
}

#[tokio::test(start_paused = true)]
async fn s85_code_change_simple() {
    let kit = Kit::new();
    let (_running, handle) = kit.dynamic(5, WIDE).await;
    let x = kit.worker("x");
    let child = handle.start_child(x.spec.clone()).await.unwrap();
    let changed = DynamicSupervisorSpec::new("jobs", 7).intensity(restarts(1));
    assert_eq!(handle.update(changed).await, Ok(()));
    assert_eq!((handle.max_children(), kit.node("/jobs").restart_limit), (7, Some(1)));
    assert_eq!((x.ping().await, kit.lives(["/jobs"])), (Ok(1), [1]));
    x.panics();
    kit.runs("/jobs/x", 2).await;
    x.panics();
    kit.is("/jobs", NodeState::Stopped).await;
    assert_eq!(child.probe().restarts_total(), 1);
}

/// A change with invalid settings is refused, and the supervisor goes on by the old ones.
async fn invalid_dynamic_change(change: DynamicSupervisorSpec, error: SpecError) {
    let kit = Kit::new();
    let (_running, handle) = kit.dynamic(5, WIDE).await;
    let x = kit.worker("x");
    handle.start_child(x.spec.clone()).await.unwrap();
    assert_eq!(handle.update(change).await, Err(ChildError::InvalidSpec(error)));
    assert_eq!((handle.max_children(), kit.node("/jobs").restart_limit), (5, Some(1000)));
    x.panics();
    kit.runs("/jobs/x", 2).await;
}

#[tokio::test(start_paused = true)]
async fn s86_code_change_simple_map() {
    let none = Intensity::new(3, ms(0));
    invalid_dynamic_change(DynamicSupervisorSpec::new("jobs", 7).intensity(none), SpecError::Period).await;
}

#[tokio::test(start_paused = true)]
async fn d09_config_change_with_invalid_values() {
    let wild = restarts(MAX_RESTARTS_MAX + 1);
    let change = DynamicSupervisorSpec::new("jobs", 7).intensity(wild);
    invalid_dynamic_change(change, SpecError::MaxRestarts(MAX_RESTARTS_MAX + 1)).await;
    let many = CHILDREN_MAX + 1;
    invalid_dynamic_change(DynamicSupervisorSpec::new("jobs", many), SpecError::TooManyChildren(many)).await;
}

#[tokio::test(start_paused = true)]
async fn d10_lowered_max_children() {
    let kit = Kit::new();
    let (_running, handle) = kit.dynamic(3, WIDE).await;
    let workers = kit.workers(["a", "b", "c"]);
    let mut children = Vec::new();
    for worker in &workers {
        children.push(handle.start_child(worker.spec.clone()).await.unwrap());
    }
    handle.update(DynamicSupervisorSpec::new("jobs", 1).intensity(WIDE)).await.unwrap();
    assert_eq!(handle.count_children().await.unwrap().active, 3, "those that are there stay");
    workers[0].panics();
    kit.runs("/jobs/a", 2).await;
    for child in &children[..2] {
        assert_eq!(handle.start_child(kit.worker("x").spec).await, Err(StartChildError::MaxChildren(1)));
        handle.terminate_child(child).await.unwrap();
    }
    assert_eq!(handle.start_child(kit.worker("x").spec).await, Err(StartChildError::MaxChildren(1)));
    handle.set_max_children(2).await.unwrap();
    let x = kit.worker("x");
    x.next_starts([Start::Runs]);
    assert!(handle.start_child(x.spec).await.is_ok());
    let many = CHILDREN_MAX + 1;
    assert_eq!(handle.set_max_children(many).await, Err(ChildError::MaxChildrenLimit(many)));
}
