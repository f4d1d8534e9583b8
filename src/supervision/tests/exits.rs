//! How lives end: each way has its own reason, whatever ractor makes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ractor::{ActorProcessingErr, ActorRef};

use super::kit::{Do, Kit, Script, ms, root, scripted, until, within};
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
async fn x01_panic_error_kill_and_abort_are_told_apart() {
    let kit = Kit::new();
    let (panics, panics_at) = kit.worker("panics");
    let (fails, fails_at) = kit.worker("fails");
    let (killed, _) = kit.worker("killed");
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
    let spec = root(Strategy::OneForOne).children([panics, fails, killed, aborted]);
    let _running = kit.start(spec).await;

    panics_at.cast(Do::Panic).unwrap();
    let ExitReason::Panic(crash) = last_exit(&kit, "/panics").await else { panic!("not a panic") };
    assert_eq!(crash.text, "told to panic");
    assert_eq!((crash.path.as_str(), crash.incarnation, crash.doing.as_str()), ("/panics", 1, "panic"));
    assert_eq!((crash.actor.as_str(), crash.ancestors.as_slice()), ("Worker", &["/".to_owned()][..]));
    assert!(crash.location.unwrap().contains("kit.rs:"));

    fails_at.cast(Do::Fail).unwrap();
    let ExitReason::Error(error) = last_exit(&kit, "/fails").await else { panic!("not an error") };
    assert_eq!((error.text.as_str(), error.chain.as_slice()), ("told to fail", &["because".to_owned()][..]));

    kit.kill("/killed");
    assert_eq!(last_exit(&kit, "/killed").await, ExitReason::Killed);

    task.recv().await.unwrap().abort();
    assert_eq!(last_exit(&kit, "/aborted").await, ExitReason::Aborted);
}

#[test]
fn x01_a_runtime_that_goes_down_aborts_the_root() {
    let kit = Kit::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let running = runtime.block_on(kit.start(root(Strategy::OneForOne).child(kit.worker("a").0)));
    runtime.shutdown_background();
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(other.block_on(within(running.wait())), ExitReason::Aborted);
}

#[tokio::test(start_paused = true)]
async fn x01_a_panic_in_cleanup_is_a_panic() {
    let kit = Kit::new();
    let (child, _) = scripted(Script { stop_panics: true, ..kit.script("x") });
    let running = kit.start(root(Strategy::OneForOne).child(child)).await;
    assert_eq!(running.stop().await, ExitReason::Shutdown);
    assert!(matches!(last_exit(&kit, "/x").await, ExitReason::Panic(crash) if crash.doing == "stopped"));
}

#[tokio::test(start_paused = true)]
async fn x02_a_panic_in_init_fails_the_start_and_is_retried_in_a_restart() {
    let kit = Kit::new();
    let panicking = Arc::new(AtomicUsize::new(1));
    let script = Script { panicking: panicking.clone(), ..kit.script("x") };
    let (child, address) = scripted(script);
    let spec = root(Strategy::OneForOne).child(child);
    let error = kit.system.start(spec.clone()).await.unwrap_err();
    assert_eq!(error.to_string(), "child \"x\" failed to start: panic during start: init panics");
    assert!(!address.is_up());

    let _running = kit.start(spec).await;
    panicking.store(2, Ordering::SeqCst);
    address.cast(Do::Panic).unwrap();
    until(|| kit.node("/x").state == NodeState::Running && kit.node("/x").restarts_total == 3).await;
    assert_eq!(kit.journal.take(), ["start x", "start x", "start x"]);
}

#[tokio::test(start_paused = true)]
async fn x02_a_panic_in_the_start_function_itself_is_an_error_value() {
    let kit = Kit::new();
    let child = ChildSpec::new("x", |_| panic!("no future at all"));
    let error = kit.system.start(root(Strategy::OneForOne).child(child)).await.unwrap_err();
    let StartError::Child { source, .. } = error else { panic!("not the child") };
    let StartError::Panic(crash) = *source else { panic!("not a panic") };
    assert_eq!((crash.text.as_str(), crash.doing.as_str()), ("no future at all", "start"));
    assert!(crash.location.unwrap().contains("exits.rs:"));
}

#[tokio::test(start_paused = true)]
async fn x03_a_start_that_takes_too_long_is_dropped_and_its_place_is_free() {
    let kit = Kit::new();
    let (slow, address) = scripted(Script { init_takes: ms(60_000), ..kit.script("slow") });
    let spec = root(Strategy::OneForOne).child(kit.worker("a").0).child(slow.start_timeout(ms(500)));
    let began = tokio::time::Instant::now();
    let error = kit.system.start(spec).await.unwrap_err();
    assert_eq!(error.to_string(), "child \"slow\" failed to start: did not start within 500 ms");
    assert_eq!(began.elapsed().as_millis(), 500);
    assert_eq!(kit.journal.take(), ["start a", "start slow", "stop a"]);
    assert!(!address.is_up());
    assert!(kit.system.start(root(Strategy::OneForOne).child(kit.worker("slow").0)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn x10_the_exit_of_an_incarnation_that_was_already_replaced_is_ignored() {
    let kit = Kit::new();
    let (child, _) = kit.worker("x");
    let (other, other_at) = kit.worker("other");
    let _running = kit.start(root(Strategy::OneForAll).child(other).child(child)).await;
    // The group restart stops "x"; its own exit event arrives afterwards and must not count.
    other_at.cast(Do::Panic).unwrap();
    kit.runs("/x", 2).await;
    tokio::time::sleep(ms(100)).await;
    assert_eq!((kit.node("/x").incarnation, kit.node("/").restarts_in_window), (2, 1));
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
