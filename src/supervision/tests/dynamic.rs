//! What survives a restart of a dynamic supervisor.

use super::kit::{Kit, ms, root};
use crate::supervision::*;

async fn started(kit: &Kit, max_children: usize) -> (Running, DynamicHandle) {
    let handle = DynamicHandle::new();
    let spec = DynamicSupervisorSpec::new("jobs", max_children).intensity(Intensity::new(1000, ms(5000)));
    let running = kit.start(root(Strategy::OneForOne).child(spec.into_child(&handle))).await;
    (running, handle)
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
