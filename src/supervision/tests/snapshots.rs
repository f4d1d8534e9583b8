//! What the tree and the event stream show.

use std::collections::BTreeSet;

use serde_json::json;

use super::kit::{Do, Kit, ms, root, until};
use crate::supervision::*;

#[tokio::test(start_paused = true)]
async fn a_snapshot_tells_everything_about_a_busy_worker() {
    let kit = Kit::new();
    let (child, address) = kit.worker("x");
    let dynamic = DynamicHandle::new();
    let jobs = DynamicSupervisorSpec::new("jobs", 1).into_child(&dynamic);
    let _running = kit.start(root(Strategy::RestForOne).child(child.label("queue", "default")).child(jobs)).await;
    address.cast(Do::Panic).unwrap();
    kit.runs("/x", 2).await;
    address.cast(Do::Sleep(ms(10_000))).unwrap();
    until(|| address.depth() == 0).await;
    address.cast(Do::Note("a")).unwrap();
    tokio::time::sleep(ms(3000)).await;

    let tree = kit.system.snapshot();
    assert_eq!(
        (tree.id.as_str(), tree.path.as_str(), tree.kind, tree.state),
        ("root", "/", NodeKind::Supervisor, NodeState::Running)
    );
    assert_eq!(
        (tree.strategy, tree.restart_limit, tree.restarts_in_window),
        (Some(Strategy::RestForOne), Some(1000), 1)
    );
    assert_eq!(tree.children.iter().map(|child| child.id.as_str()).collect::<Vec<_>>(), ["x", "jobs"]);
    assert_eq!(tree.children[1].kind, "dynamic_supervisor");

    let x = tree.find("/x").unwrap();
    assert_eq!((x.kind, &*x.actor, x.state), (NodeKind::Worker, "Worker", NodeState::Running));
    assert_eq!((x.incarnation, x.restarts_total, x.restart), (2, 1, Restart::Permanent));
    assert_eq!(x.labels["queue"], "default");
    assert_eq!(x.current_message.as_deref(), Some("sleep"));
    assert!(x.busy_ms.unwrap() >= 3000 && x.uptime_ms >= 3000);
    let mailbox = x.mailbox.as_ref().unwrap();
    assert_eq!((mailbox.depth, mailbox.limit, mailbox.processed), (1, 100, 1));
    assert!(mailbox.oldest_ms.unwrap() >= 3000);
    let exit = x.last_exit.as_ref().unwrap();
    assert_eq!(exit.reason, "panic in panic: told to panic");
    assert!(exit.location.as_ref().unwrap().contains("kit.rs"));

    let text = serde_json::to_value(&tree).unwrap();
    assert_eq!(text["children"][0]["state"], "running");
    assert_eq!(text["strategy"], "rest_for_one");
    let back: TreeNode = serde_json::from_value(text).unwrap();
    assert_eq!(back.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn as_json_every_node_has_every_field() {
    let kit = Kit::new();
    let _running = kit.start(root(Strategy::OneForOne).child(kit.worker("idle").0)).await;
    let tree = serde_json::to_value(kit.system.snapshot()).unwrap();
    let fields = |node: &serde_json::Value| node.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let all = "actor busy_ms children children_by_state children_total current_message id incarnation kind labels \
               last_exit mailbox path restart restart_limit restart_period_ms restarts_in_window restarts_total \
               retry_at started_at state strategy uptime_ms";
    let all: BTreeSet<_> = all.split_whitespace().map(str::to_owned).collect();
    let idle = &tree["children"][0];
    assert_eq!((fields(&tree), fields(idle)), (all.clone(), all));
    assert_eq!((&idle["labels"], &idle["children"], &idle["strategy"]), (&json!({}), &json!([]), &json!(null)));
    let again: TreeNode = serde_json::from_value(tree.clone()).unwrap();
    assert_eq!(serde_json::to_value(again).unwrap(), tree);
}

#[tokio::test(start_paused = true)]
async fn history_keeps_the_latest_ends() {
    let kit = Kit::new();
    let (child, address) = kit.worker("x");
    let _running = kit.start(root(Strategy::OneForOne).child(child)).await;
    for incarnation in 2..=(HISTORY_MAX as u64 + 5) {
        address.cast(Do::Fail).unwrap();
        kit.runs("/x", incarnation).await;
    }
    let history = kit.system.probe("/x").unwrap().history();
    assert_eq!(history.len(), HISTORY_MAX);
    assert_eq!(history.last().unwrap().incarnation, Incarnation(HISTORY_MAX as u64 + 4));
}

#[tokio::test(start_paused = true)]
async fn events_tell_the_story_of_a_child() {
    let kit = Kit::new();
    let mut events = kit.system.events();
    let (child, address) = kit.worker("x");
    let running = kit.start(root(Strategy::OneForOne).child(child)).await;
    address.cast(Do::Fail).unwrap();
    kit.runs("/x", 2).await;
    running.stop().await;
    let mut story = Vec::new();
    while let Ok(event) = events.try_recv() {
        let text = serde_json::to_value(&event).unwrap();
        story.push(format!("{} {} {}", event.path, event.incarnation, text["event"].as_str().unwrap()));
    }
    assert_eq!(story, ["/x 1 started", "/x 1 exited", "/x 2 started", "/x 2 stopped"]);
}

#[tokio::test(start_paused = true)]
async fn a_system_that_runs_nothing_shows_a_stopped_root() {
    let tree = System::new("node-1").snapshot();
    assert_eq!((tree.id.as_str(), tree.path.as_str(), tree.state), ("node-1", "/", NodeState::Stopped));
    assert!(tree.children.is_empty());
}

#[tokio::test(start_paused = true)]
async fn of_very_many_children_the_first_are_shown_and_all_are_counted_and_found() {
    let kit = Kit::new();
    let dynamic = DynamicHandle::new();
    let more = 5;
    let jobs = DynamicSupervisorSpec::new("jobs", TREE_CHILDREN_MAX + more).into_child(&dynamic);
    let _running = kit.start(root(Strategy::OneForOne).child(jobs)).await;
    for job in 0..TREE_CHILDREN_MAX + more {
        dynamic.start_child(kit.worker(&job.to_string()).0).await.unwrap();
    }
    let node = kit.node("/jobs");
    assert_eq!((node.children.len(), node.children_total), (TREE_CHILDREN_MAX, TREE_CHILDREN_MAX + more));
    assert_eq!(
        node.children_by_state.clone().into_iter().collect::<Vec<_>>(),
        [(NodeState::Running, TREE_CHILDREN_MAX + more)]
    );
    let last = format!("/jobs/{}", TREE_CHILDREN_MAX + more - 1);
    assert_eq!(kit.system.describe(&last).unwrap().node.path.as_str(), last);
}

#[tokio::test(start_paused = true)]
async fn who_wants_warnings_hears_of_nothing_else() {
    let kit = Kit::new();
    let mut warnings = kit.system.warnings();
    let (child, address) = kit.worker("x");
    let running = kit.start(root(Strategy::OneForOne).child(child)).await;
    address.cast(Do::Panic).unwrap();
    kit.runs("/x", 2).await;
    running.stop().await;
    let (exit, start) = (warnings.try_recv().unwrap(), warnings.try_recv().unwrap());
    assert!(matches!(exit.kind, SupervisionEventKind::Exited { .. }), "{exit:?}");
    assert_eq!(start.kind, SupervisionEventKind::Started { restart: true });
    assert!(warnings.try_recv().is_err(), "starts and orderly ends are no warnings");
}
