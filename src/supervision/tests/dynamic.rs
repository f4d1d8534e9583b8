//! What survives a restart of a dynamic supervisor.

use futures_util::FutureExt as _;

use super::kit::{Kit, Script, ms, root, scripted};
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

#[tokio::test(start_paused = true)]
async fn requests_keep_their_places_until_they_are_handled_also_when_nobody_waits_for_them_any_more() {
    let kit = Kit::new();
    let (_running, handle) = started(&kit, 1).await;
    let slow = ChildSpec::new("slow", |_| {
        Box::pin(async {
            tokio::time::sleep(ms(1_000)).await;
            Ok(Started::Ignore)
        })
    });
    let starting = handle.start_child(slow);
    tokio::pin!(starting);
    assert!(starting.as_mut().now_or_never().is_none());
    // It is handled now, and the next one is the first to wait.
    tokio::task::yield_now().await;
    for _ in 1..REQUESTS_MAX {
        assert!(handle.count_children().now_or_never().is_none(), "sent, and given up");
    }
    assert_eq!(handle.count_children().await.unwrap_err(), ChildError::Busy);
    assert_eq!(starting.await.unwrap_err(), StartChildError::Ignored);
    handle.count_children().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_shrink_that_was_given_up_is_finished_by_the_next() {
    let kit = Kit::new();
    let handle = PartitionHandle::new();
    let slow = Script { stop_takes: ms(1_000), ..kit.script("part") };
    let parts = PartitionSupervisorSpec::new("parts", 3, move |_| scripted(slow.clone()).0);
    let _running = kit.start(root(Strategy::OneForOne).child(parts.into_child(&handle))).await;
    assert!(tokio::time::timeout(ms(500), handle.resize(1)).await.is_err());
    handle.resize(1).await.unwrap();
    assert_eq!((handle.partitions(), handle.count_children().await.unwrap().active), (1, 1));
}
