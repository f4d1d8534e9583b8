//! Roots: dropped, killed, and one at a time.

use super::kit::{Kit, root};
use crate::supervision::*;

#[tokio::test(start_paused = true)]
async fn a_root_that_is_dropped_takes_its_tree_along() {
    let kit = Kit::new();
    let (child, address) = kit.worker("a");
    drop(kit.start(root(Strategy::OneForOne).child(child)).await);
    super::kit::until(|| !address.is_up()).await;
    assert_eq!(kit.journal.take(), Vec::<String>::new());
    kit.is("/", NodeState::Stopped).await;
}

#[tokio::test(start_paused = true)]
async fn a_system_runs_one_root_at_a_time() {
    let kit = Kit::new();
    let running = kit.start(root(Strategy::OneForOne)).await;
    let error = kit.system.start(root(Strategy::OneForOne)).await.unwrap_err();
    assert_eq!(error, StartError::AlreadyRunning("test".into()));
    running.stop().await;
    let again = kit.start(root(Strategy::OneForOne)).await;
    assert_eq!(kit.node("/").incarnation, 2);
    again.kill().await;
    assert_eq!(again.wait().await, ExitReason::Killed);
}
