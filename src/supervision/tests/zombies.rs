//! Actors that hog their thread at awkward moments: nobody of them has a second incarnation beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::kit::{Kit, ms, root, until};
use crate::supervision::*;

/// What one actor does, over all its incarnations.
#[derive(Default)]
struct Seen {
    alive: AtomicUsize,
    most: AtomicUsize,
    hogs: AtomicBool,
    released: AtomicBool,
}

/// Hogs its thread, once it is told to, until it is released.
struct Stubborn(Arc<Seen>);

impl Actor for Stubborn {
    type Msg = ();
    type Args = Arc<Seen>;

    async fn init(_: &Ctx<()>, seen: Arc<Seen>) -> Result<Self, ActorError> {
        let alive = seen.alive.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most.fetch_max(alive, Ordering::SeqCst);
        Ok(Self(seen))
    }

    async fn handle(&mut self, _: &Ctx<()>, (): ()) -> Result<Flow, ActorError> {
        self.0.hogs.store(true, Ordering::SeqCst);
        while !self.0.released.load(Ordering::SeqCst) {
            std::thread::sleep(ms(1));
        }
        Ok(Flow::Continue)
    }
}

impl Drop for Stubborn {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Releases it when the test ends, however that ends: a runtime waits for code that hogs its threads.
struct Release(Arc<Seen>);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.released.store(true, Ordering::SeqCst);
    }
}

fn stubborn(seen: &Arc<Seen>, address: &Address<()>) -> ChildSpec {
    let seen = seen.clone();
    ChildSpec::actor::<Stubborn>("stubborn", address, move || seen.clone()).shutdown(Shutdown::Timeout(ms(50)))
}

/// Makes the actor hog its thread.
async fn hog(seen: &Seen, address: &Address<()>) {
    address.cast(()).unwrap();
    until(|| seen.hogs.load(Ordering::SeqCst)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_system_starts_again_only_when_nothing_is_left_of_it() {
    let (kit, seen, address) = (Kit::new(), Arc::<Seen>::default(), Address::new("stubborn", 1));
    let _release = Release(seen.clone());
    let running = kit.start(root(Strategy::OneForOne).child(stubborn(&seen, &address))).await;
    hog(&seen, &address).await;
    running.stop().await;
    assert_eq!(kit.node("/stubborn").state, NodeState::Zombie);
    for name in ["root", "other"] {
        let again = SupervisorSpec::new(name, Strategy::OneForOne).child(stubborn(&seen, &address));
        assert_eq!(kit.system.start(again).await.unwrap_err(), StartError::AlreadyRunning("test".into()), "{name}");
    }
    seen.released.store(true, Ordering::SeqCst);
    let running = kit.start(root(Strategy::OneForOne).child(stubborn(&seen, &address))).await;
    assert_eq!(seen.most.load(Ordering::SeqCst), 1);
    assert_eq!(running.stop().await, ExitReason::Shutdown);
}

/// Its start of this number, from 0, makes the stubborn one hog its thread, and fails.
fn obstacle(seen: &Arc<Seen>, address: &Address<()>, bad: usize) -> ChildSpec {
    let (seen, address, starts) = (seen.clone(), address.clone(), Arc::new(AtomicUsize::new(0)));
    ChildSpec::new("obstacle", move |_| {
        let (seen, address, number) = (seen.clone(), address.clone(), starts.fetch_add(1, Ordering::SeqCst));
        Box::pin(async move {
            if number != bad {
                return Ok(Started::Ignore);
            }
            hog(&seen, &address).await;
            Err(StartError::Init(ErrorInfo::text("in the way")))
        })
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervisor_whose_start_failed_is_tried_again_only_when_nothing_is_left_of_it() {
    let (kit, seen, address) = (Kit::new(), Arc::<Seen>::default(), Address::new("stubborn", 1));
    let _release = Release(seen.clone());
    let sub = SupervisorSpec::new("sub", Strategy::OneForOne);
    let sub = sub.child(stubborn(&seen, &address)).child(obstacle(&seen, &address, 1)).into_child();
    let running = kit.start(root(Strategy::OneForOne).child(sub)).await;
    kit.kill("/sub");
    kit.is("/sub", NodeState::Zombie).await;
    assert_eq!((kit.node("/sub").incarnation, seen.most.load(Ordering::SeqCst)), (2, 1));
    seen.released.store(true, Ordering::SeqCst);
    kit.runs("/sub", 3).await;
    kit.runs("/sub/stubborn", 3).await;
    assert_eq!((kit.node("/").restarts_in_window, seen.most.load(Ordering::SeqCst)), (2, 1));
    assert_eq!(running.stop().await, ExitReason::Shutdown);
}

/// A supervisor whose first start fails and leaves one below it that hogs its thread.
fn first_start_fails(seen: &Arc<Seen>, address: &Address<()>) -> ChildSpec {
    let sub = SupervisorSpec::new("sub", Strategy::OneForOne);
    sub.child(stubborn(seen, address)).child(obstacle(seen, address, 0)).into_child()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_that_leaves_something_alive_keeps_its_id_until_that_is_gone() {
    let (kit, seen, address) = (Kit::new(), Arc::<Seen>::default(), Address::new("stubborn", 1));
    let _release = Release(seen.clone());
    let handle = SupervisorHandle::new();
    let _running = kit.start(root(Strategy::OneForOne).handle(&handle)).await;
    let sub = first_start_fails(&seen, &address);
    assert!(matches!(handle.start_child(sub.clone()).await, Err(StartChildError::Start(_))));
    assert_eq!(kit.node("/sub").state, NodeState::Zombie);
    assert_eq!(handle.start_child(sub.clone()).await.unwrap_err(), StartChildError::AlreadyPresent);
    seen.released.store(true, Ordering::SeqCst);
    until(|| kit.system.snapshot().find("/sub").is_none()).await;
    handle.start_child(sub).await.unwrap();
    assert_eq!(seen.most.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_of_a_held_dynamic_child_that_leaves_something_alive_keeps_its_place() {
    let (kit, seen, address) = (Kit::new(), Arc::<Seen>::default(), Address::new("stubborn", 1));
    let _release = Release(seen.clone());
    let handle = DynamicHandle::new();
    let spec = DynamicSupervisorSpec::new("jobs", 1);
    let _running = kit.start(root(Strategy::OneForOne).child(spec.into_child(&handle))).await;
    let sub = first_start_fails(&seen, &address).on_zombie(OnZombie::Hold);
    assert!(matches!(handle.start_child(sub.clone()).await, Err(StartChildError::Start(_))));
    assert_eq!(kit.node("/jobs/sub").state, NodeState::Zombie);
    assert_eq!(handle.start_child(sub.clone()).await.unwrap_err(), StartChildError::MaxChildren(1));
    seen.released.store(true, Ordering::SeqCst);
    until(|| kit.system.snapshot().find("/jobs/sub").is_none()).await;
    handle.start_child(sub).await.unwrap();
    assert_eq!(seen.most.load(Ordering::SeqCst), 1);
}
