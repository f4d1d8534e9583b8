//! Incarnations: never two at once, and none that outlives its supervisor.

use std::sync::{Arc, Mutex};

use singularity::supervision::*;

use super::kit::{Kit, Script, Worker, ms, restarts, root, settle};

/// Counts how many of it live now, and the most there ever were.
struct Alone(Arc<Mutex<(usize, usize)>>);

impl Actor for Alone {
    type Msg = ();
    type Args = Arc<Mutex<(usize, usize)>>;

    async fn init(_: &Ctx<()>, lives: Self::Args) -> Result<Self, ActorError> {
        {
            let mut counts = lives.lock().unwrap();
            counts.0 += 1;
            counts.1 = counts.1.max(counts.0);
        }
        Ok(Self(lives))
    }

    async fn handle(&mut self, _: &Ctx<()>, (): ()) -> Result<Flow, ActorError> {
        std::thread::sleep(ms(20));
        tokio::task::yield_now().await;
        Ok(Flow::Continue)
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.0.lock().unwrap().0 -= 1;
    }
}

/// The actor hogs its thread while its supervisor is killed: it cannot die at once, and the next one must wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x05_a_subtree_restart_waits_for_every_descendant() {
    let kit = Kit::new();
    let lives = Arc::new(Mutex::new((0, 0)));
    let address = Address::new("alone", 1000);
    let args = lives.clone();
    let leaf = ChildSpec::actor::<Alone>("leaf", &address, move || args.clone());
    let inner = SupervisorSpec::new("inner", Strategy::OneForOne).child(leaf);
    let sub = SupervisorSpec::new("sub", Strategy::OneForOne).child(inner.into_child());
    let running = kit.start(root(Strategy::OneForOne).child(sub.into_child())).await;
    for round in 1..=20 {
        kit.runs("/sub/inner/leaf", round).await;
        for _ in 0..3 {
            address.cast(()).unwrap();
        }
        tokio::task::yield_now().await;
        kit.kill("/sub");
    }
    kit.runs("/sub/inner/leaf", 21).await;
    assert_eq!(*lives.lock().unwrap(), (1, 1), "never two at once");
    running.stop().await;
    assert_eq!(lives.lock().unwrap().0, 0);
}

#[tokio::test(start_paused = true)]
async fn x07_a_supervisor_killed_in_a_group_restart_leaves_no_orphan() {
    let kit = Kit::new();
    let [a, c] = ["a", "c"].map(|name| Worker::new(Script { notes_drop: true, ..kit.script(name) }));
    let slow = Worker::new(Script { init_takes: ms(1_000), ..kit.script("slow") });
    let sub = SupervisorSpec::new("sub", Strategy::OneForAll).children([&a, &slow, &c].map(|w| w.spec.clone()));
    let running = kit.start(root(Strategy::OneForOne).child(sub.into_child())).await;
    a.panics();
    kit.is("/sub/slow", NodeState::Starting).await;
    kit.journal.take();
    kit.kill("/sub");
    kit.runs("/sub/c", 2).await;
    // The "a" that the broken restart had started is gone before the next one comes.
    assert_eq!(kit.journal.take(), ["drop a", "start a", "start slow", "start c"]);
    assert_eq!(running.stop().await, ExitReason::Shutdown);
    assert!([a, slow, c].iter().all(|worker| !worker.is_up()));
}

#[tokio::test(start_paused = true)]
async fn x09_two_siblings_that_fail_together_cause_one_round() {
    for strategy in [Strategy::OneForAll, Strategy::RestForOne] {
        let kit = Kit::new();
        let [a, b, c] = kit.workers(["a", "b", "c"]);
        let spec = root(strategy).intensity(restarts(1)).children([&a, &b, &c].map(|worker| worker.spec.clone()));
        let running = kit.start(spec).await;
        a.panics();
        b.panics();
        kit.runs("/c", 2).await;
        settle().await;
        assert_eq!(kit.journal.take(), ["stop c", "start a", "start b", "start c"], "{strategy}");
        assert_eq!(kit.node("/").restarts_in_window, 1, "{strategy}");
        assert_eq!(running.stop().await, ExitReason::Shutdown);
    }
}

#[tokio::test(start_paused = true)]
async fn x10_events_of_an_old_incarnation_are_ignored() {
    let kit = Kit::new();
    let [other, x] = kit.workers(["other", "x"]);
    let (_running, handle) = kit.root(Strategy::OneForAll, [&other, &x]).await;
    // The group restart stops "x"; its own exit event arrives afterwards and must not count.
    other.panics();
    kit.runs("/x", 2).await;
    settle().await;
    assert_eq!((kit.lives(["/x"]), kit.node("/").restarts_in_window), ([2], 1));
    // Nor does that of one which ended just before it was terminated and restarted by request.
    x.leaves(ExitReason::Normal);
    handle.terminate_child("x").await.unwrap();
    let again = handle.restart_child("x").await;
    settle().await;
    assert!(x.is_up() && again.is_ok());
    assert_eq!(kit.lives(["/x"]), [again.unwrap().unwrap().incarnation().0]);
}
