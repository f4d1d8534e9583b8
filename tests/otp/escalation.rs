//! Dynamic children that fail too often.

use singularity::supervision::*;

use super::kit::{Kit, Start, restarts};

#[tokio::test(start_paused = true)]
async fn s35_simple_one_for_one() {
    let kit = Kit::new();
    let (_running, handle) = kit.dynamic(5, restarts(2)).await;
    let [a, b] = kit.workers(["a", "b"]);
    handle.start_child(a.spec.clone()).await.unwrap();
    let bystander = handle.start_child(b.spec.clone()).await.unwrap();
    kit.journal.take();
    for incarnation in [2, 3] {
        a.panics();
        kit.runs("/jobs/a", incarnation).await;
        assert_eq!(kit.journal.take(), ["start a"]);
        assert_eq!(b.ping().await, Ok(1));
    }
    a.panics();
    assert_eq!(bystander.ended().await, ExitReason::Shutdown);
    kit.is("/jobs", NodeState::Stopped).await;
    assert_eq!(kit.exits("/jobs"), [ExitReason::Shutdown]);
    assert_eq!(handle.start_child(a.spec).await, Err(StartChildError::NoProc));
}

#[tokio::test(start_paused = true)]
async fn s38_simple_one_for_one_escalation() {
    let kit = Kit::new();
    let (_running, handle) = kit.dynamic(5, restarts(4)).await;
    let [a, b] = kit.workers(["a", "b"]);
    handle.start_child(a.spec.clone()).await.unwrap();
    let bystander = handle.start_child(b.spec.clone()).await.unwrap();
    a.starts(Start::Fails);
    a.panics();
    assert_eq!(bystander.ended().await, ExitReason::Shutdown);
    kit.is("/jobs", NodeState::Stopped).await;
    assert!(!a.is_up() && !b.is_up());
}
