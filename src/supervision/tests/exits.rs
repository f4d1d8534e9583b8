//! How lives end: each way has its own reason, whatever ractor makes of it.

use std::sync::Arc;

use ractor::{ActorProcessingErr, ActorRef};

use super::kit::{Do, Kit, ms, root, until};
use crate::supervision::child::ActorRun;
use crate::supervision::life::{ActorHandle, Body};
use crate::supervision::*;

/// A ractor actor without our wrapper.
struct Bare;

impl ractor::Actor for Bare {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

impl Body for Bare {
    fn release(&self) {}
}

async fn last_exit(kit: &Kit, path: &str) -> ExitReason {
    until(|| kit.system.probe(path).is_some_and(|probe| !probe.history().is_empty())).await;
    kit.system.probe(path).unwrap().history().last().unwrap().reason.clone()
}

#[tokio::test(start_paused = true)]
async fn x01_a_task_that_is_aborted_has_its_own_reason() {
    let kit = Kit::new();
    let (task_sender, mut task) = tokio::sync::mpsc::unbounded_channel();
    let aborted = ChildSpec::new("aborted", move |ctx| {
        let task_sender = task_sender.clone();
        Box::pin(async move {
            let parent = ctx.parent.clone().unwrap();
            let (actor, task) = ractor::Actor::spawn_linked(None, Bare, (), parent).await.unwrap();
            task_sender.send(task).unwrap();
            let handle = ActorHandle { cell: actor.get_cell(), life: ctx.life.clone(), body: Arc::new(Bare) };
            Ok(Started::Actor(ActorRun { handle, info: None }))
        })
    });
    let _running = kit.start(root(Strategy::OneForOne).child(aborted)).await;
    task.recv().await.unwrap().abort();
    assert_eq!(last_exit(&kit, "/aborted").await, ExitReason::Aborted);
}

#[tokio::test(start_paused = true)]
async fn x11_an_unknown_linked_actor_that_exits_does_not_touch_the_supervisor() {
    let kit = Kit::new();
    let (sender, mut strays) = tokio::sync::mpsc::unbounded_channel();
    let (child, address) = kit.worker("x");
    let start = child.start.clone().unwrap();
    let child = ChildSpec::new("x", move |ctx| {
        let (start, sender) = (start.clone(), sender.clone());
        Box::pin(async move {
            let parent = ctx.parent.clone().unwrap();
            for _ in 0..2 {
                let (stray, _) = ractor::Actor::spawn_linked(None, Bare, (), parent.clone()).await.unwrap();
                sender.send(stray).unwrap();
            }
            start(ctx).await
        })
    });
    let running = kit.start(root(Strategy::OneForOne).child(child)).await;
    strays.recv().await.unwrap().stop(None);
    strays.recv().await.unwrap().kill();
    tokio::time::sleep(ms(100)).await;
    assert_eq!(address.call(Do::Ping, ms(1000)).await, Ok(1));
    assert_eq!(running.stop().await, ExitReason::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_stops_itself_runs_its_cleanup_with_its_own_reason() {
    let kit = Kit::new();
    let (child, address) = kit.worker("x");
    let _running = kit.start(root(Strategy::OneForOne).child(child.restart(Restart::Transient))).await;
    address.cast(Do::Stop(ExitReason::ShutdownWith("done".into()))).unwrap();
    assert_eq!(last_exit(&kit, "/x").await, ExitReason::ShutdownWith("done".into()));
    assert_eq!(kit.journal.take(), ["stop x", "x was shutdown: done"]);
}

/// Cannot be dropped without a panic, as a runtime cannot within asynchronous code.
struct Brittle;

impl Actor for Brittle {
    type Msg = ();
    type Args = ();

    async fn init(_: &Ctx<()>, (): ()) -> Result<Self, ActorError> {
        Ok(Self)
    }

    async fn handle(&mut self, _: &Ctx<()>, (): ()) -> Result<Flow, ActorError> {
        Ok(Flow::Continue)
    }
}

impl Drop for Brittle {
    fn drop(&mut self) {
        panic!("not here");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_destructor_of_an_actor_holds_nobody_up_also_when_its_supervisor_is_killed() {
    let kit = Kit::new();
    let brittle = ChildSpec::actor::<Brittle>("brittle", &Address::new("brittle", 1), || ());
    let sub = SupervisorSpec::new("sub", Strategy::OneForOne).child(brittle).into_child();
    let running = kit.start(root(Strategy::OneForOne).child(sub)).await;
    kit.kill("/sub/brittle");
    kit.runs("/sub/brittle", 2).await;
    kit.kill("/sub");
    kit.runs("/sub/brittle", 3).await;
    assert_eq!(running.stop().await, ExitReason::Shutdown);
}
