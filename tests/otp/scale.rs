//! Many children, and what is not kept of those that are gone.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use singularity::supervision::*;

use super::kit::{Do, Kit, Puppet, Start, WIDE, counts, grows_less, root, settle, within};

/// A temporary child whose start function owns something, and whether that still exists.
fn owning(kit: &Kit, id: &str) -> (ChildSpec, Weak<[u8; 1024]>, Address<Do>) {
    let (owned, script) = (Arc::new([0; 1024]), kit.script(id));
    let (alive, address) = (Arc::downgrade(&owned), Address::new("puppet", 10));
    let spec = ChildSpec::actor::<Puppet>(id, &address, move || {
        let _ = &owned;
        (script.clone(), Start::Runs)
    });
    (spec, alive, address)
}

#[tokio::test(start_paused = true)]
async fn s75_do_not_save_start_parameters_for_temporary_children() {
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        for (restart, kept) in [(Restart::Permanent, true), (Restart::Transient, true), (Restart::Temporary, false)] {
            let kit = Kit::new();
            let (_running, handle) = kit.root(strategy, []).await;
            let (spec, owned, address) = owning(&kit, "x");
            handle.start_child(spec.restart(restart)).await.unwrap();
            assert_eq!((owned.upgrade().is_some(), address.is_up()), (kept, true), "{strategy} {restart}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s39_simple_one_for_one_corruption() {
    let kit = Kit::new();
    let (_running, handle) = kit.dynamic(10, WIDE).await;
    for round in 0..5 {
        let (spec, owned, address) = owning(&kit, &format!("x{round}"));
        handle.start_child(spec.restart(Restart::Temporary)).await.unwrap();
        assert!(owned.upgrade().is_none() && address.is_up(), "round {round}");
        if round == 0 {
            address.cast(Do::Panic).unwrap();
            settle().await;
        }
    }
    let (spec, owned, _) = owning(&kit, "permanent");
    let child = handle.start_child(spec).await.unwrap();
    assert!(owned.upgrade().is_some());
    handle.terminate_child(&child).await.unwrap();
    assert!(owned.upgrade().is_none(), "gone with the child");
}

async fn thousands(kind: ChildKind, child: impl Fn(&Kit, usize) -> ChildSpec) {
    let kit = Kit::new();
    let (_running, handle) = kit.dynamic(10_000, WIDE).await;
    let mut children = Vec::new();
    for thousand in 1..=2 {
        for number in 0..1_000 {
            children.push(handle.start_child(child(&kit, number)).await.unwrap());
        }
        let all = thousand * 1_000;
        let expected = if kind == ChildKind::Worker { counts(all, all, 0, all) } else { counts(all, all, all, 0) };
        for _ in 0..3 {
            assert_eq!(handle.count_children().await, Ok(expected));
        }
        let listed = handle.which_children().await.unwrap();
        assert_eq!(listed.len(), all);
        assert!(listed.iter().all(|info| info.kind == kind && info.child.is_some()));
    }
    for child in &children[..500] {
        handle.terminate_child(child).await.unwrap();
    }
    assert_eq!(handle.count_children().await.unwrap().specs, 1_500);
}

#[tokio::test(start_paused = true)]
async fn s71_count_children() {
    thousands(ChildKind::Worker, |kit, number| kit.worker(&number.to_string()).spec).await;
}

#[tokio::test(start_paused = true)]
async fn s72_count_children_supervisor() {
    thousands(ChildKind::Supervisor, |_, number| {
        SupervisorSpec::new(number.to_string(), Strategy::OneForOne).into_child()
    })
    .await;
}

#[tokio::test]
async fn s77_simple_one_for_one_scale_many_temporary_children() {
    async fn terminates(number: usize) -> Duration {
        let kit = Kit::new();
        let (_running, handle) = kit.dynamic(10_000, WIDE).await;
        let mut children = Vec::new();
        for _ in 0..number {
            children.push(handle.start_child(kit.worker("x").restart(Restart::Temporary).spec).await.unwrap());
        }
        let began = Instant::now();
        for child in &children {
            handle.terminate_child(child).await.unwrap();
        }
        began.elapsed()
    }
    grows_less(50, async || [terminates(200).await], async || [terminates(2_000).await]).await;
}

#[tokio::test]
async fn s88_scale_start_stop_many_children() {
    async fn starts_and_stops(number: usize) -> Duration {
        let kit = Kit::new();
        let children: Vec<_> = (0..number).map(|id| kit.worker(&id.to_string()).spec).collect();
        let began = Instant::now();
        let running = kit.system.start(root(Strategy::OneForOne).children(children)).await.unwrap();
        assert_eq!(within(running.stop()).await, ExitReason::Shutdown);
        let took = began.elapsed();
        let journal = kit.journal.take();
        assert_eq!(journal.len(), 2 * number);
        let started = journal[..number].iter().map(|line| line.trim_start_matches("start ").to_owned());
        let stopped = journal[number..].iter().rev().map(|line| line.trim_start_matches("stop ").to_owned());
        assert!(started.eq(stopped), "stopped in exact reverse");
        took
    }
    grows_less(50, async || [starts_and_stops(1_000).await], async || [starts_and_stops(20_000).await]).await;
}
