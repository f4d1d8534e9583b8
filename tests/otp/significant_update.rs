//! Changes of auto_shutdown and of significance while a supervisor runs.

use singularity::supervision::AutoShutdown::{AllSignificant as All, AnySignificant as Any, Never};
use singularity::supervision::*;

use super::kit::{Kit, Worker, root, settle};
use super::significant::significant;

/// A supervisor whose settings change. Its children are transient.
struct Changing {
    kit: Kit,
    running: Running,
    handle: SupervisorHandle,
    workers: Vec<Worker>,
}

fn spec<'a>(mode: AutoShutdown, workers: impl IntoIterator<Item = &'a Worker>) -> SupervisorSpec {
    root(Strategy::OneForOne).auto_shutdown(mode).children(workers.into_iter().map(|worker| worker.spec.clone()))
}

impl Changing {
    async fn new(mode: AutoShutdown, significances: &[bool]) -> Self {
        let kit = Kit::new();
        let handle = SupervisorHandle::new();
        let workers: Vec<Worker> = significances
            .iter()
            .enumerate()
            .map(|(number, yes)| {
                let name = format!("w{number}");
                let plain = kit.worker(&name).restart(Restart::Transient);
                plain.with(|spec| spec.significant(*yes))
            })
            .collect();
        let running = kit.start(spec(mode, &workers).handle(&handle)).await;
        Self { kit, running, handle, workers }
    }

    /// Takes over another mode and other significances of the same children.
    async fn change(&mut self, mode: AutoShutdown, significances: &[bool]) -> Result<SpecDiff, ChildError> {
        let changed = self.workers.iter().cloned().zip(significances);
        let workers: Vec<_> = changed.map(|(worker, yes)| worker.with(|spec| spec.significant(*yes))).collect();
        let changed = self.handle.update(spec(mode, &workers)).await;
        if changed.is_ok() {
            self.workers = workers;
        }
        changed
    }

    async fn leaves(&self, number: usize) {
        self.workers[number].leaves(ExitReason::Normal);
        settle().await;
    }

    fn runs(&self) -> bool {
        self.kit.node("/").state == NodeState::Running
    }

    async fn ended(&self) -> bool {
        !self.runs() && self.running.wait().await == ExitReason::Shutdown
    }
}

#[tokio::test(start_paused = true)]
async fn s64_significant_upgrade_never_any() {
    let mut supervisor = Changing::new(Never, &[false, false]).await;
    let early = significant(&supervisor.kit, "new", Restart::Transient).spec;
    let refused = supervisor.handle.start_child(early.clone()).await;
    assert_eq!(refused, Err(StartChildError::InvalidSpec(SpecError::SignificantNever("new".into()))));
    supervisor.change(Any, &[true, false]).await.unwrap();
    assert!(supervisor.handle.start_child(early).await.is_ok(), "legal now");
    supervisor.leaves(1).await;
    assert!(supervisor.runs());
    supervisor.leaves(0).await;
    assert!(supervisor.ended().await);
}

#[tokio::test(start_paused = true)]
async fn s65_significant_upgrade_any_never() {
    let mut supervisor = Changing::new(Any, &[true]).await;
    let refused = supervisor.change(Never, &[true]).await;
    assert_eq!(refused, Err(ChildError::InvalidSpec(SpecError::SignificantNever("w0".into()))));
    // A change that does not name the present child keeps it as it is.
    supervisor.handle.update(spec(Never, [])).await.unwrap();
    supervisor.leaves(0).await;
    assert!(supervisor.runs(), "it ends nobody any more");
    let late = significant(&supervisor.kit, "late", Restart::Transient).spec;
    let refused = supervisor.handle.start_child(late).await;
    assert_eq!(refused, Err(StartChildError::InvalidSpec(SpecError::SignificantNever("late".into()))));
}

#[tokio::test(start_paused = true)]
async fn s66_significant_upgrade_never_all() {
    let mut supervisor = Changing::new(Never, &[false, false]).await;
    supervisor.change(All, &[true, true]).await.unwrap();
    supervisor.leaves(0).await;
    assert!(supervisor.runs());
    supervisor.leaves(1).await;
    assert!(supervisor.ended().await);
}

#[tokio::test(start_paused = true)]
async fn s67_significant_upgrade_all_never() {
    let supervisor = Changing::new(All, &[true, true]).await;
    supervisor.handle.update(spec(Never, [])).await.unwrap();
    supervisor.leaves(0).await;
    supervisor.leaves(1).await;
    assert!(supervisor.runs());
}

#[tokio::test(start_paused = true)]
async fn s68_significant_upgrade_any_all() {
    let mut supervisor = Changing::new(Any, &[true, true]).await;
    supervisor.change(All, &[true, true]).await.unwrap();
    supervisor.leaves(0).await;
    assert!(supervisor.runs());
    supervisor.leaves(1).await;
    assert!(supervisor.ended().await);
}

#[tokio::test(start_paused = true)]
async fn s69_significant_upgrade_all_any() {
    let mut supervisor = Changing::new(All, &[true, true]).await;
    supervisor.change(Any, &[true, true]).await.unwrap();
    supervisor.leaves(0).await;
    assert!(supervisor.ended().await);
}

#[tokio::test(start_paused = true)]
async fn s70_significant_upgrade_child() {
    let mut supervisor = Changing::new(Any, &[true, true, false]).await;
    let diff = supervisor.change(Any, &[false, true, true]).await.unwrap();
    assert_eq!(diff.changed, ["w0".into(), "w2".into()]);
    supervisor.leaves(0).await;
    assert!(supervisor.runs(), "not significant any more");
    supervisor.leaves(2).await;
    assert!(supervisor.ended().await, "significant now");

    let mut supervisor = Changing::new(Never, &[false]).await;
    let refused = supervisor.change(Never, &[true]).await;
    assert_eq!(refused, Err(ChildError::InvalidSpec(SpecError::SignificantNever("w0".into()))));
    supervisor.leaves(0).await;
    assert!(supervisor.runs());
}
