//! Supervisors under supervisors.

use std::sync::{Arc, Mutex};

use super::kit::{Do, Kit, ms, root, until, within};
use crate::supervision::*;

#[tokio::test(start_paused = true)]
async fn s56_tree() {
    let kit = Kit::new();
    let (handle, dynamic) = (SupervisorHandle::new(), DynamicHandle::new());
    let (leaf, leaf_at) = kit.worker("leaf");
    let (transient, _) = kit.worker("transient");
    let jobs = DynamicSupervisorSpec::new("jobs", 10).into_child(&dynamic);
    let sub = SupervisorSpec::new("sub", Strategy::OneForOne)
        .handle(&handle)
        .child(leaf)
        .child(transient.restart(Restart::Transient))
        .child(jobs);
    let spec = root(Strategy::OneForAll).child(kit.worker("first").0).child(sub.into_child());
    let _running = kit.start(spec).await;
    dynamic.start_child(kit.worker("job").0).await.unwrap();
    assert_eq!(handle.count_children().await.unwrap(), ChildCounts { specs: 3, active: 3, supervisors: 1, workers: 2 });
    assert_eq!(kit.system.snapshot().count(), 7);

    // A leaf's restart is local.
    leaf_at.cast(Do::Panic).unwrap();
    kit.runs("/sub/leaf", 2).await;
    assert_eq!(kit.node("/sub").incarnation, 1);

    // A terminated transient child stays down over restarts of its siblings.
    handle.terminate_child("transient").await.unwrap();
    leaf_at.cast(Do::Panic).unwrap();
    kit.runs("/sub/leaf", 3).await;
    assert_eq!(kit.node("/sub/transient").state, NodeState::Stopped);

    // The meltdown of "sub" restarts the group: static children are back, the dynamic one is not.
    for incarnation in [4, 5] {
        leaf_at.cast(Do::Panic).unwrap();
        until(|| kit.node("/sub/leaf").incarnation >= incarnation && leaf_at.is_up()).await;
    }
    kit.runs("/sub/jobs", 2).await;
    assert_eq!((kit.node("/first").incarnation, kit.node("/sub").incarnation), (2, 2));
    assert_eq!(kit.node("/sub").last_exit.unwrap().reason, "shutdown");
    assert_eq!(kit.node("/sub/transient").state, NodeState::Running);
    assert!(kit.node("/sub/jobs").children.is_empty());
    assert_eq!(handle.count_children().await.unwrap().active, 3);
}

#[tokio::test(start_paused = true)]
async fn a_transient_supervisor_that_melts_down_is_not_restarted() {
    let kit = Kit::new();
    let (leaf, leaf_at) = kit.worker("leaf");
    let sub = SupervisorSpec::new("sub", Strategy::OneForOne).intensity(Intensity::new(0, ms(5000))).child(leaf);
    let spec = root(Strategy::OneForOne).child(sub.into_child().restart(Restart::Transient));
    let _running = kit.start(spec).await;
    leaf_at.cast(Do::Panic).unwrap();
    kit.is("/sub", NodeState::Stopped).await;
    tokio::time::sleep(ms(100)).await;
    assert_eq!(kit.node("/sub").incarnation, 1);
}

#[tokio::test(start_paused = true)]
async fn meltdown_cascades_to_the_root() {
    let kit = Kit::new();
    let (leaf, leaf_at) = kit.worker("leaf");
    let none = Intensity::new(0, ms(5000));
    let sub = SupervisorSpec::new("sub", Strategy::OneForOne).intensity(none).child(leaf);
    let spec = SupervisorSpec::new("root", Strategy::OneForOne).intensity(none);
    let running = kit.start(spec.child(kit.worker("other").0).child(sub.into_child())).await;
    let mut events = kit.system.events();
    leaf_at.cast(Do::Panic).unwrap();
    assert_eq!(within(running.wait()).await, ExitReason::Shutdown);
    assert_eq!(kit.journal.take(), ["stop other"]);
    let mut melted = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let SupervisionEventKind::MaxIntensity { .. } = event.kind {
            melted.push(event.path.to_string());
        }
    }
    assert_eq!(melted, ["/sub/leaf", "/sub"]);
}

/// The actor hogs its thread while its supervisor is killed: it cannot die at once, and the next incarnation must wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x05_a_subtree_restart_waits_for_every_descendant_of_the_old_incarnation() {
    let kit = Kit::new();
    let lives = Arc::new(Mutex::new((0, 0)));

    struct Alone(Arc<Mutex<(usize, usize)>>);
    impl Actor for Alone {
        type Msg = ();
        type Args = Arc<Mutex<(usize, usize)>>;

        async fn init(_: &Ctx<()>, lives: Self::Args) -> Result<Self, ActorError> {
            {
                let mut counts = lives.lock().unwrap();
                counts.0 += 1;
                counts.1 = counts.1.max(counts.0);
            }
            Ok(Self(lives))
        }

        async fn handle(&mut self, _: &Ctx<()>, (): ()) -> Result<Flow, ActorError> {
            std::thread::sleep(ms(20));
            tokio::task::yield_now().await;
            Ok(Flow::Continue)
        }
    }
    impl Drop for Alone {
        fn drop(&mut self) {
            self.0.lock().unwrap().0 -= 1;
        }
    }

    let address = Address::new("alone", 1000);
    let args = lives.clone();
    let leaf = ChildSpec::actor::<Alone>("leaf", &address, move || args.clone());
    let inner = SupervisorSpec::new("inner", Strategy::OneForOne).child(leaf);
    let sub = SupervisorSpec::new("sub", Strategy::OneForOne).child(inner.into_child());
    let running = kit.start(root(Strategy::OneForOne).child(sub.into_child())).await;
    for round in 1..=20 {
        kit.runs("/sub/inner/leaf", round).await;
        for _ in 0..3 {
            address.cast(()).unwrap();
        }
        tokio::task::yield_now().await;
        kit.kill("/sub");
    }
    kit.runs("/sub/inner/leaf", 21).await;
    assert_eq!(*lives.lock().unwrap(), (1, 1), "never two at once");
    running.stop().await;
    assert_eq!(lives.lock().unwrap().0, 0);
}

#[tokio::test(start_paused = true)]
async fn x07_a_supervisor_killed_in_the_middle_of_a_group_restart_leaves_no_orphan() {
    let kit = Kit::new();
    let (a, a_at) = kit.worker("a");
    let (slow, _) = super::kit::scripted(super::kit::Script { init_takes: ms(1000), ..kit.script("slow") });
    let (c, _) = kit.worker("c");
    let sub = SupervisorSpec::new("sub", Strategy::OneForAll).children([a, slow, c]);
    let running = kit.start(root(Strategy::OneForOne).child(sub.into_child())).await;
    a_at.cast(Do::Panic).unwrap();
    kit.is("/sub/slow", NodeState::Starting).await;
    kit.kill("/sub");
    kit.runs("/sub/c", 2).await;
    assert_eq!(kit.journal.count("start c"), 1);
    assert_eq!(kit.journal.count("start a"), 2);
    running.stop().await;
    assert!(!a_at.is_up());
}

#[tokio::test(start_paused = true)]
async fn x15_two_systems_do_not_see_each_other() {
    let (one, two) = (Kit::new(), Kit::new());
    let (child, address) = one.worker("same");
    let (other, other_at) = two.worker("same");
    let _one = one.start(root(Strategy::OneForOne).child(child)).await;
    let _two = two.start(root(Strategy::OneForOne).child(other)).await;
    let mut events = two.system.events();
    address.cast(Do::Panic).unwrap();
    one.runs("/same", 2).await;
    assert_eq!(two.node("/same").incarnation, 1);
    assert!(events.try_recv().is_err());
    assert_eq!(other_at.call(Do::Ping, ms(1000)).await, Ok(1));
}
