//! Starts that come to nothing: what they began is gone before anything else happens.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::kit::{Journal, Kit, ms, root};
use crate::supervision::*;

/// Notes when it starts and when it is dropped.
struct Noting(Journal);

impl Actor for Noting {
    type Msg = ();
    type Args = Journal;

    async fn init(_: &Ctx<()>, journal: Journal) -> Result<Self, ActorError> {
        journal.note("start");
        Ok(Self(journal))
    }

    async fn handle(&mut self, _: &Ctx<()>, (): ()) -> Result<Flow, ActorError> {
        Ok(Flow::Continue)
    }
}

impl Drop for Noting {
    fn drop(&mut self) {
        self.0.note("drop");
    }
}

/// What a start function does once its actor runs.
#[derive(Clone, Copy, Debug)]
enum Then {
    Fails,
    Panics,
    Hangs,
    Ignores,
}

/// A registered child of which these starts go so and all others succeed.
fn child(kit: &Kit, then: Then, bad: Range<usize>) -> ChildSpec {
    let (journal, address) = (kit.journal.clone(), Address::new("noting", 1));
    let starts = Arc::new(AtomicUsize::new(0));
    let spec = ChildSpec::new("x", move |ctx| {
        let (journal, address) = (journal.clone(), address.clone());
        let is_bad = bad.contains(&starts.fetch_add(1, Ordering::SeqCst));
        Box::pin(async move {
            let started = ctx.actor::<Noting>(&address, journal).await?;
            match then {
                _ if !is_bad => Ok(started),
                Then::Fails => Err(StartError::Init(ErrorInfo::text("the rest fails"))),
                Then::Panics => panic!("the rest panics"),
                Then::Hangs => std::future::pending().await,
                Then::Ignores => Ok(Started::Ignore),
            }
        })
    });
    spec.registered("x").start_timeout(ms(500))
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_takes_the_actor_along_that_it_had_started() {
    for then in [Then::Fails, Then::Panics, Then::Hangs] {
        let kit = Kit::new();
        let handle = SupervisorHandle::new();
        let running = kit.start(root(Strategy::OneForOne).handle(&handle)).await;
        assert!(handle.start_child(child(&kit, then, 0..1)).await.is_err(), "{then:?}");
        assert_eq!(kit.journal.take(), ["start", "drop"], "{then:?}");
        assert!(kit.system.registered().is_empty(), "{then:?}");
        // In a restart each try finds the place and the name free.
        handle.start_child(child(&kit, then, 1..3)).await.unwrap();
        kit.kill("/x");
        kit.runs("/x", 4).await;
        assert_eq!(kit.journal.take(), ["start", "drop", "start", "drop", "start", "drop", "start"], "{then:?}");
        assert_eq!(running.stop().await, ExitReason::Shutdown);
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_chooses_not_to_run_takes_along_what_it_had_started() {
    let kit = Kit::new();
    let handle = SupervisorHandle::new();
    let _running = kit.start(root(Strategy::OneForOne).handle(&handle)).await;
    let ignored = handle.start_child(child(&kit, Then::Ignores, 0..1)).await;
    assert_eq!(ignored.map(drop), Err(StartChildError::Ignored));
    assert_eq!(kit.journal.take(), ["start", "drop"]);
    assert_eq!((kit.node("/x").state, kit.system.registered().len()), (NodeState::Stopped, 0));
    assert!(handle.restart_child("x").await.unwrap().is_some());
}
