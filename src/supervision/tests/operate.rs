//! Orders of operators: what they do, what is refused, and the trace they leave.

use super::kit::{Do, Kit, ms, root, until, within};
use crate::supervision::*;

async fn order(kit: &Kit, operation: Operation, path: &str) -> Result<(), OperateError> {
    within(kit.system.operate(operation, path, "ann", Some("a test"))).await
}

/// A root with strategy rest_for_one over three workers.
async fn three(kit: &Kit) -> (Running, Vec<Address<Do>>) {
    let workers: Vec<_> = ["a", "b", "c"].into_iter().map(|name| kit.worker(name)).collect();
    let addresses = workers.iter().map(|(_, address)| address.clone()).collect();
    let running = kit.start(root(Strategy::RestForOne).children(workers.into_iter().map(|(child, _)| child))).await;
    (running, addresses)
}

#[tokio::test(start_paused = true)]
async fn a_restart_follows_the_strategy_in_order_and_counts_as_no_failure() {
    let kit = Kit::new();
    let _running = three(&kit).await;
    order(&kit, Operation::Restart, "/b").await.unwrap();
    assert_eq!(kit.journal.take(), ["stop c", "stop b", "start b", "start c"]);
    let tree = kit.system.snapshot();
    assert_eq!((tree.restarts_in_window, tree.children[1].incarnation, tree.children[1].restarts_total), (0, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_terminated_child_stays_down_until_it_is_restarted() {
    let kit = Kit::new();
    let _running = three(&kit).await;
    order(&kit, Operation::Terminate, "/b").await.unwrap();
    assert_eq!((kit.journal.take(), kit.node("/b").state), (vec!["stop b".to_owned()], NodeState::Stopped));
    order(&kit, Operation::Restart, "/b").await.unwrap();
    assert_eq!(kit.node("/b").state, NodeState::Running);
}

#[tokio::test(start_paused = true)]
async fn a_suspended_actor_keeps_its_messages_and_handles_each_once_when_it_is_resumed() {
    let kit = Kit::new();
    let (_running, addresses) = three(&kit).await;
    order(&kit, Operation::Suspend, "/a").await.unwrap();
    assert_eq!(kit.node("/a").state, NodeState::Suspended);
    for line in ["one", "two", "three"] {
        addresses[0].cast(Do::Note(line)).unwrap();
    }
    // It answers what is not a message, and takes none.
    within(addresses[0].status(ms(1_000))).await.unwrap();
    assert_eq!((kit.journal.len(), kit.node("/a").mailbox.unwrap().depth), (0, 3));
    order(&kit, Operation::Resume, "/a").await.unwrap();
    addresses[0].cast(Do::Note("four")).unwrap();
    assert_eq!(kit.journal.lines(4).await, ["one", "two", "three", "four"]);
    assert_eq!(kit.node("/a").state, NodeState::Running);
}

#[tokio::test(start_paused = true)]
async fn a_suspended_actor_can_be_stopped_and_its_next_incarnation_is_not_suspended() {
    let kit = Kit::new();
    let _running = three(&kit).await;
    order(&kit, Operation::Suspend, "/c").await.unwrap();
    order(&kit, Operation::Restart, "/c").await.unwrap();
    assert_eq!((kit.node("/c").state, kit.node("/c").incarnation), (NodeState::Running, 2));
}

#[tokio::test(start_paused = true)]
async fn a_dynamic_child_is_restarted_in_its_place_unless_it_is_temporary() {
    let kit = Kit::new();
    let jobs = DynamicHandle::new();
    let _running =
        kit.start(root(Strategy::OneForOne).child(DynamicSupervisorSpec::new("jobs", 2).into_child(&jobs))).await;
    let (keeps, _) = kit.worker("keeps");
    let (once, _) = kit.worker("once");
    jobs.start_child(keeps).await.unwrap();
    jobs.start_child(once.restart(Restart::Temporary)).await.unwrap();
    kit.journal.take();
    order(&kit, Operation::Restart, "/jobs/keeps").await.unwrap();
    kit.runs("/jobs/keeps", 2).await;
    assert_eq!(kit.journal.take(), ["stop keeps", "start keeps"]);
    assert_eq!(order(&kit, Operation::Restart, "/jobs/once").await, Err(OperateError::Child(ChildError::Temporary)));
    order(&kit, Operation::Terminate, "/jobs/once").await.unwrap();
    until(|| kit.node("/jobs").children.len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn what_would_be_unsafe_is_refused_with_the_reason() {
    let kit = Kit::new();
    let (vital, _) = kit.worker("vital");
    let (carrier, _) = kit.worker("carrier");
    let (free, _) = kit.worker("free");
    let group = SupervisorSpec::new("group", Strategy::OneForAll)
        .child(vital.protected("results are stored by it"))
        .child(carrier.carries_requests());
    let _running = kit.start(root(Strategy::OneForOne).child(group.into_child()).child(free)).await;
    for operation in [Operation::Terminate, Operation::Suspend] {
        let refused = order(&kit, operation, "/group/vital").await.unwrap_err();
        assert_eq!(refused.to_string(), format!("cannot {operation} /group/vital: results are stored by it"));
    }
    let above = order(&kit, Operation::Terminate, "/group").await.unwrap_err();
    assert_eq!(above.to_string(), "cannot terminate /group/vital: results are stored by it");
    // one_for_all restarts the carrier along with its sibling.
    for path in ["/group", "/group/carrier", "/group/vital"] {
        let refused = order(&kit, Operation::Restart, path).await.unwrap_err();
        assert!(matches!(refused, OperateError::CarriesRequests { .. }), "{refused}");
    }
    assert_eq!(order(&kit, Operation::Restart, "/").await, Err(OperateError::Root(Operation::Restart)));
    assert_eq!(order(&kit, Operation::Resume, "/group").await, Err(OperateError::Supervisor("/group".into())));
    assert_eq!(order(&kit, Operation::Suspend, "/none").await, Err(OperateError::NotFound("/none".into())));
    order(&kit, Operation::Terminate, "/free").await.unwrap();
    assert_eq!(order(&kit, Operation::Suspend, "/free").await, Err(OperateError::Down("/free".into())));
    assert_eq!(kit.journal.take(), ["stop free"]);
}

#[tokio::test(start_paused = true)]
async fn every_order_is_an_event_with_who_and_why_also_a_refused_one() {
    let kit = Kit::new();
    let (vital, _) = kit.worker("vital");
    let _running = kit.start(root(Strategy::OneForOne).child(vital.protected("of its work"))).await;
    let mut events = kit.system.events();
    order(&kit, Operation::Terminate, "/vital").await.unwrap_err();
    order(&kit, Operation::Suspend, "/vital").await.unwrap_err();
    order(&kit, Operation::Resume, "/vital").await.unwrap();
    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        assert_eq!(event.level(), EventLevel::Warning);
        let SupervisionEventKind::Operated { operation, by, why, refused } = event.kind else { continue };
        told.push((operation, by, why, refused.is_some()));
    }
    let line = |operation, refused| (operation, "ann".to_owned(), Some("a test".to_owned()), refused);
    assert_eq!(
        told,
        [line(Operation::Terminate, true), line(Operation::Suspend, true), line(Operation::Resume, false)]
    );
}

#[tokio::test(start_paused = true)]
async fn an_order_whose_end_nobody_waits_for_is_an_event_that_says_so() {
    let kit = Kit::new();
    let (child, address) = kit.worker("w");
    let _running = kit.start(root(Strategy::OneForOne).child(child.shutdown(Shutdown::Infinity))).await;
    let mut events = kit.system.events();
    // Busy for longer than the one who ordered waits.
    address.cast(Do::Sleep(ms(10_000))).unwrap();
    let ordered = kit.system.operate(Operation::Terminate, "/w", "ann", None);
    assert!(tokio::time::timeout(ms(1_000), ordered).await.is_err());
    let refused = loop {
        if let SupervisionEventKind::Operated { refused, .. } = within(events.recv()).await.unwrap().kind {
            break refused;
        }
    };
    assert_eq!(refused.unwrap(), "nobody waited for its end; what was ordered stands");
    assert_eq!(kit.journal.len(), 0, "it is under way");
    assert_eq!(kit.journal.lines(1).await, ["stop w"]);
}

#[tokio::test(start_paused = true)]
async fn a_child_is_described_with_its_spec_and_its_past() {
    let kit = Kit::new();
    let (child, address) = kit.worker("w");
    let child = child.restart(Restart::Transient).shutdown(Shutdown::Infinity).registered("boss");
    let _running = kit.start(root(Strategy::OneForOne).child(child)).await;
    address.cast(Do::Panic).unwrap();
    kit.runs("/w", 2).await;
    let detail = kit.system.describe("/w").unwrap();
    assert_eq!((detail.spec.restart, detail.spec.shutdown.as_str()), (Restart::Transient, "infinity"));
    assert_eq!(detail.spec.registered_name.as_deref(), Some("boss"));
    assert_eq!((detail.history.len(), detail.history[0].incarnation), (1, 1));
    assert!(matches!(detail.history[0].exit, ExitReason::Panic(_)));
    assert!(kit.system.describe("/none").is_none());
}
