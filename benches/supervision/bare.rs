//! The same on ractor alone: what actors cost before anybody supervises them.

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
pub struct Parent(pub Option<UnboundedSender<ActorRef<()>>>);

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
        if let (SupervisionEvent::ActorTerminated(..), Some(restarted)) = (event, &self.0) {
            let (child, _) = Actor::spawn_linked(None, Idle, (), myself.get_cell()).await?;
            restarted.send(child).ok();
        }
        Ok(())
    }
}

pub async fn parent() -> ActorRef<()> {
    Actor::spawn(None, Parent(None), ()).await.unwrap().0
}

/// Starts children under `parent` with `spawn_linked`, each after the other.
pub async fn start(parent: &ActorRef<()>, children: u64) -> Duration {
    let begin = Instant::now();
    for _ in 0..children {
        Actor::spawn_linked(None, Idle, (), parent.get_cell()).await.unwrap();
    }
    begin.elapsed()
}

/// Ends the parent, and with it, killed, its children; returns when the last is gone.
pub async fn end(parent: ActorRef<()>) -> Duration {
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
    let (parent, _) = Actor::spawn(None, Parent(Some(sender)), ()).await.unwrap();
    let (mut child, _) = Actor::spawn_linked(None, Idle, (), parent.get_cell()).await.unwrap();
    let begin = Instant::now();
    for _ in 0..times {
        child.kill();
        child = restarted.recv().await.unwrap();
    }
    let took = begin.elapsed();
    end(parent).await;
    took
}
