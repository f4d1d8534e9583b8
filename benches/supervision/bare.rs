//! The same on ractor alone: what actors cost before anybody supervises them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::mpsc::UnboundedSender;

/// Does nothing, like the child that it is compared with.
pub struct Idle;

impl Actor for Idle {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// A parent that survives the ends of its children and, if it was told whom to tell, starts another for each.
#[derive(Default)]
pub struct Parent {
    restarted: Option<UnboundedSender<ActorRef<()>>>,
    /// How many children said that they run.
    running: Arc<AtomicU64>,
}

/// So many in a row: often enough let run that what was just written is still at hand, and so seldom that the switch
/// costs next to nothing.
pub const MANY: u64 = 100;

/// A parent and how many children told it that they run.
pub struct Family {
    pub parent: ActorRef<()>,
    running: Arc<AtomicU64>,
}

/// How long starts took. `spawn_linked` returns when `pre_start` did; the task of the child, which then tells its
/// parent that it runs, has only been queued.
#[derive(Clone, Copy)]
pub struct Took {
    /// Until the last call returned.
    pub returned: Duration,
    /// Until the parent had heard from the last child that it runs.
    pub ran: Duration,
}

impl Actor for Parent {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<()>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match (event, &self.restarted) {
            (SupervisionEvent::ActorStarted(_), _) => {
                self.running.fetch_add(1, Ordering::Release);
            }
            (SupervisionEvent::ActorTerminated(..), Some(restarted)) => {
                let (child, _) = Actor::spawn_linked(None, Idle, (), myself.get_cell()).await?;
                restarted.send(child).ok();
            }
            _ => {}
        }
        Ok(())
    }
}

pub async fn parent() -> Family {
    let running = Arc::<AtomicU64>::default();
    let parent = Parent { running: running.clone(), ..Parent::default() };
    Family { parent: Actor::spawn(None, parent, ()).await.unwrap().0, running }
}

/// Starts children under a new parent with `spawn_linked`, each after the other, and lets them run after so many: after
/// each, as somebody does who starts one, or after [`MANY`].
pub async fn start(family: &Family, children: u64, in_a_row: u64) -> Took {
    let begin = Instant::now();
    let mut returned = Duration::ZERO;
    let mut started = 0;
    while started < children {
        let batch = Instant::now();
        for _ in 0..in_a_row.min(children - started) {
            Actor::spawn_linked(None, Idle, (), family.parent.get_cell()).await.unwrap();
            started += 1;
        }
        returned += batch.elapsed();
        while family.running.load(Ordering::Acquire) < started {
            tokio::task::yield_now().await;
        }
    }
    Took { returned, ran: begin.elapsed() }
}

/// Ends the parent, and with it, killed, its children; returns when the last is gone.
pub async fn end(Family { parent, .. }: Family) -> Duration {
    let children = parent.get_cell().get_children();
    let begin = Instant::now();
    parent.stop(None);
    for child in children {
        child.wait(None).await.unwrap();
    }
    parent.get_cell().wait(None).await.ok();
    begin.elapsed()
}

/// Kills the only child again and again, each time as soon as the next one runs.
pub async fn restart(times: u64) -> Duration {
    let (sender, mut restarted) = tokio::sync::mpsc::unbounded_channel();
    let family = Family {
        running: Arc::default(),
        parent: {
            let parent = Parent { restarted: Some(sender), ..Parent::default() };
            Actor::spawn(None, parent, ()).await.unwrap().0
        },
    };
    let parent = &family.parent;
    let (mut child, _) = Actor::spawn_linked(None, Idle, (), parent.get_cell()).await.unwrap();
    let begin = Instant::now();
    for _ in 0..times {
        child.kill();
        child = restarted.recv().await.unwrap();
    }
    let took = begin.elapsed();
    end(family).await;
    took
}
