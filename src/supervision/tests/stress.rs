//! Random crashes and orders on real threads: nothing may hang, leak or run twice.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use super::kit::{Kit, ms, until, within};
use crate::supervision::*;

const ROUNDS: usize = 10_000;
/// Ends that requests meet.
const KILLS: usize = 3_000;
/// Longer than any condition is waited for.
const FOR_EVER: Duration = Duration::from_secs(3_600);
/// One round in so many waits until the tree is whole again, so that crashes also meet trees that run.
const CALM_EVERY: usize = 10;

/// How many incarnations of each name live, and the most there ever were.
type Lives = Arc<Mutex<HashMap<String, (usize, usize)>>>;

enum Blow {
    Panic,
    Fail,
    Stop,
    Nap,
    /// Keeps its thread, so a kill takes effect only afterwards.
    Hog,
    Ping(Reply<()>),
}

struct Victim {
    name: String,
    lives: Lives,
}

impl Actor for Victim {
    type Msg = Blow;
    type Args = (String, Lives, u32);

    async fn init(_: &Ctx<Blow>, (name, lives, dice): Self::Args) -> Result<Self, ActorError> {
        tokio::task::yield_now().await;
        // Before it counts as living: a failed start leaves nothing.
        match dice {
            0 => return Err(ActorError::msg("bad luck at start")),
            1 => panic!("worse luck at start"),
            _ => {}
        }
        {
            let mut lives = lives.lock().unwrap();
            let (now, most) = lives.entry(name.clone()).or_default();
            *now += 1;
            *most = (*most).max(*now);
        }
        Ok(Self { name, lives })
    }

    async fn handle(&mut self, _: &Ctx<Blow>, blow: Blow) -> Result<Flow, ActorError> {
        match blow {
            Blow::Panic => panic!("hit"),
            Blow::Fail => return Err(ActorError::msg("hit")),
            Blow::Stop => return Ok(Flow::Stop(ExitReason::Normal)),
            Blow::Hog => std::thread::sleep(ms(4)),
            Blow::Nap => tokio::time::sleep(ms(1)).await,
            Blow::Ping(reply) => reply.send(()),
        }
        Ok(Flow::Continue)
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        if let Some((now, _)) = self.lives.lock().unwrap().get_mut(&self.name) {
            *now -= 1;
        }
    }
}

fn victim(name: String, lives: &Lives, seed: u64) -> (ChildSpec, Address<Blow>) {
    let address = Address::new("victim", 1000);
    let (lives, id) = (lives.clone(), name.clone());
    let dice = Mutex::new(StdRng::seed_from_u64(seed));
    let started = AtomicBool::new(false);
    let spec = ChildSpec::actor::<Victim>(id.clone(), &address, move || {
        // The first start always succeeds, so that the tree comes up.
        let first = !started.swap(true, Ordering::SeqCst);
        let dice = if first { 9 } else { dice.lock().unwrap().random_range(0..20) };
        (name.clone(), lives.clone(), dice)
    });
    // A name would keep a second incarnation from starting; half of them do without, so that one would show.
    let named = seed.is_multiple_of(2);
    (if named { spec.registered(id) } else { spec }, address)
}

/// Restarts the child, whatever was done to it. Between two lives of its supervisor nobody takes requests: such a
/// refusal is not the last word.
async fn restarted(kit: &Kit, path: &str) {
    let restart = async {
        while let Err(OperateError::NotFound(_) | OperateError::Child(ChildError::NoProc)) =
            kit.system.operate(Operation::Restart, path, "dice", None).await
        {
            tokio::time::sleep(ms(1)).await;
        }
    };
    within(restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn random_crashes_never_hang_leak_or_run_a_child_twice() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let kit = Kit::new();
    let lives = Lives::default();
    let mut addresses = Vec::new();
    let wide = Intensity::new(MAX_RESTARTS_MAX, ms(1000));
    let mut spec = SupervisorSpec::new("root", Strategy::OneForOne).intensity(wide);
    for (s, strategy) in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne].into_iter().enumerate() {
        let mut sub = SupervisorSpec::new(format!("s{s}"), strategy).intensity(wide);
        for w in 0..4 {
            let (child, address) = victim(format!("s{s}w{w}"), &lives, dice.next_u64());
            sub = sub.child(child);
            addresses.push(address);
        }
        spec = spec.child(sub.into_child());
    }
    let jobs = DynamicHandle::new();
    spec = spec.child(DynamicSupervisorSpec::new("jobs", 50).intensity(wide).into_child(&jobs));
    let running = within(kit.system.start(spec)).await.unwrap();
    let mut probes: Vec<Weak<Probe>> = Vec::new();

    for round in 0..ROUNDS {
        let address = &addresses[dice.random_range(0..addresses.len())];
        let supervisor = format!("/s{}", dice.random_range(0..3));
        // Refusals are part of the game: the target may be down.
        match dice.random_range(0..12) {
            0 => drop(address.cast(Blow::Panic)),
            1 => drop(address.cast(Blow::Fail)),
            2 => drop(address.cast(Blow::Stop)),
            3 => drop(address.cast(Blow::Nap)),
            4 => drop(within(address.call(Blow::Ping, ms(100))).await),
            5 => {
                // Its supervisor dies while it keeps its thread.
                let at = dice.random_range(0..addresses.len());
                if addresses[at].cast(Blow::Hog).is_ok() {
                    until(|| addresses[at].depth() == 0).await;
                }
                kit.system.kill(&format!("/s{}", at / 4));
            }
            6 => drop(kit.system.kill(&format!("{supervisor}/{}w{}", &supervisor[1..], dice.random_range(0..4)))),
            7 => drop(kit.system.kill(if round % 10 == 0 { "/jobs" } else { "/jobs/none" })),
            8 => {
                let path = format!("{supervisor}/{}w{}", &supervisor[1..], dice.random_range(0..4));
                let operation = Operation::ALL[dice.random_range(0..4)];
                drop(within(kit.system.operate(operation, &path, "dice", None)).await);
                restarted(&kit, &path).await;
            }
            _ => {
                let (job, address) = victim(format!("job{round}"), &lives, dice.next_u64());
                let job = within(jobs.start_child(job.restart(Restart::Transient))).await;
                probes.extend(job.as_ref().ok().map(|job| Arc::downgrade(job.probe())));
                match (job, dice.random_range(0..4)) {
                    (Ok(job), 0) => drop(within(jobs.terminate_child(&job)).await),
                    (Ok(_), 1) => drop(address.cast(Blow::Panic)),
                    (Ok(_), 2) => drop(address.cast(Blow::Stop)),
                    (Ok(job), _) => job.kill(),
                    (Err(_), _) => {}
                }
            }
        }
        if dice.random_range(0..3) == 0 {
            tokio::task::yield_now().await;
        }
        if round % CALM_EVERY == 0 {
            until(|| addresses.iter().all(Address::is_up)).await;
        }
    }

    // It settles: every static child runs, once.
    until(|| addresses.iter().all(Address::is_up)).await;
    for address in &addresses {
        until(|| matches!(address.cast(Blow::Nap), Ok(()))).await;
    }
    assert!(!probes.is_empty());
    assert!(lives.lock().unwrap().values().all(|(_, most)| *most <= 1), "two at once: {:?}", lives.lock().unwrap());
    assert_eq!(within(running.stop()).await, ExitReason::Shutdown);
    until(|| lives.lock().unwrap().values().all(|(now, _)| *now == 0)).await;
    assert!(addresses.iter().all(|address| !address.is_up()));
    assert_eq!(kit.system.registered(), [], "no name is left");
    until(|| probes.iter().all(|probe| probe.strong_count() == 0)).await;
    let tree = kit.system.snapshot();
    assert!(tree.find("/jobs").unwrap().children.is_empty());
    fn stopped(node: &TreeNode) -> bool {
        node.state == NodeState::Stopped && node.children.iter().all(stopped)
    }
    assert!(stopped(&tree), "{tree:#?}");
}

/// A message that is sent just when its receiver goes away can stay in the channel, and with it the way to answer: such
/// a request must end all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_to_those_that_are_killed_meanwhile_all_end() {
    let kit = Kit::new();
    let lives = Lives::default();
    let wide = Intensity::new(MAX_RESTARTS_MAX, ms(1));
    let handle = SupervisorHandle::new();
    let (child, address) = victim("w".into(), &lives, 1);
    let group = SupervisorSpec::new("s", Strategy::OneForOne).intensity(wide).handle(&handle).child(child);
    let spec = SupervisorSpec::new("root", Strategy::OneForOne).intensity(wide).child(group.into_child());
    let running = within(kit.system.start(spec)).await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let asking = (0..3).map(|_| {
        let (handle, address, over) = (handle.clone(), address.clone(), over.clone());
        #[expect(clippy::disallowed_methods, reason = "awaited below")]
        tokio::spawn(async move {
            while !over.load(Ordering::SeqCst) {
                // Refusals are part of the game; what must not happen is no answer.
                drop(within(handle.which_children()).await);
                drop(within(address.status(FOR_EVER)).await);
                tokio::task::yield_now().await;
            }
        })
    });
    let asking = futures_util::future::join_all(asking);
    let killing = async {
        for _ in 0..KILLS {
            while handle.count_children().await.is_err() {
                tokio::task::yield_now().await;
            }
            kit.system.kill("/s");
        }
        over.store(true, Ordering::SeqCst);
    };
    let (ended, ()) = tokio::join!(asking, killing);
    ended.into_iter().for_each(|ended| ended.unwrap());
    running.kill().await;
}
