//! Supervisors under supervisors.

use singularity::supervision::*;

use super::kit::{Kit, Start, counts, restarts, root, settle};

#[tokio::test(start_paused = true)]
async fn s56_tree() {
    let kit = Kit::new();
    let (handle, dynamic) = (SupervisorHandle::new(), DynamicHandle::new());
    let [first, leaf, transient, job] = kit.workers(["first", "leaf", "transient", "job"]);
    let transient = transient.restart(Restart::Transient);
    let jobs = DynamicSupervisorSpec::new("jobs", 10).into_child(&dynamic);
    let sub = SupervisorSpec::new("sub", Strategy::OneForOne).intensity(restarts(3)).handle(&handle).children([
        leaf.spec.clone(),
        transient.spec.clone(),
        jobs,
    ]);
    let _running = kit.start(root(Strategy::OneForAll).child(first.spec.clone()).child(sub.into_child())).await;
    dynamic.start_child(job.spec.clone()).await.unwrap();
    assert_eq!(handle.count_children().await, Ok(counts(3, 3, 1, 2)));
    assert_eq!(kit.system.snapshot().count(), 7);

    // A leaf's restart is local.
    leaf.panics();
    kit.runs("/sub/leaf", 2).await;
    assert_eq!(kit.lives(["/first", "/sub", "/sub/transient", "/sub/jobs", "/sub/jobs/job"]), [1; 5]);

    // A terminated transient child stays down over restarts of its siblings.
    handle.terminate_child("transient").await.unwrap();
    leaf.panics();
    kit.runs("/sub/leaf", 3).await;
    assert_eq!(kit.node("/sub/transient").state, NodeState::Stopped);

    // The meltdown of "sub" restarts the group: static children are back, the dynamic one is not.
    leaf.panics();
    kit.runs("/sub/leaf", 4).await;
    leaf.panics();
    kit.runs("/sub/jobs", 2).await;
    assert_eq!(kit.lives(["/first", "/sub", "/sub/leaf", "/sub/transient"]), [2, 2, 5, 2]);
    assert_eq!(kit.exits("/sub"), [ExitReason::Shutdown]);
    assert_eq!(kit.node("/sub/transient").state, NodeState::Running);
    settle().await;
    assert!(kit.node("/sub/jobs").children.is_empty() && !job.is_up());
    assert_eq!(handle.count_children().await, Ok(counts(3, 3, 1, 2)));
}

#[tokio::test(start_paused = true)]
async fn s56_a_transient_supervisor_that_melts_down_is_not_restarted() {
    let kit = Kit::new();
    let leaf = kit.worker("leaf");
    let sub = SupervisorSpec::new("sub", Strategy::OneForOne).intensity(restarts(0)).child(leaf.spec.clone());
    let _running = kit.start(root(Strategy::OneForOne).child(sub.into_child().restart(Restart::Transient))).await;
    leaf.panics();
    settle().await;
    assert_eq!((kit.node("/sub").state, kit.lives(["/sub"])), (NodeState::Stopped, [1]));
    assert_eq!(kit.exits("/sub"), [ExitReason::Shutdown], "OTP's reason, which is clean");
}

#[tokio::test(start_paused = true)]
async fn s56_a_meltdown_cascades_to_the_root() {
    let kit = Kit::new();
    let [leaf, other] = kit.workers(["leaf", "other"]);
    let sub = SupervisorSpec::new("sub", Strategy::OneForOne).intensity(restarts(1)).child(leaf.spec.clone());
    let spec = root(Strategy::OneForOne).intensity(restarts(1)).child(other.spec).child(sub.into_child());
    let running = kit.start(spec).await;
    let mut events = kit.system.events();
    leaf.starts(Start::Fails);
    leaf.panics();
    assert_eq!(running.wait().await, ExitReason::Shutdown);
    assert!(kit.journal.take().contains(&"stop other".to_owned()));
    let mut melted = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let SupervisionEventKind::MaxIntensity { .. } = event.kind {
            melted.push(event.path.to_string());
        }
    }
    assert_eq!(melted, ["/sub/leaf", "/sub"]);
}
