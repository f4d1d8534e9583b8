//! What is measured: children of this crate's supervisors.

use std::time::{Duration, Instant};

use singularity::supervision::{
    Actor, ActorError, Address, ChildSpec, Ctx, DynamicHandle, DynamicSupervisorSpec, Flow, Intensity,
    MAX_RESTARTS_MAX, Restart, Running, Strategy, SupervisorSpec, System,
};
use tokio::sync::mpsc::UnboundedSender;

/// Does nothing but say that it runs, if it was told whom to tell.
struct Idle;

impl Actor for Idle {
    type Msg = ();
    type Args = Option<UnboundedSender<()>>;

    async fn init(_: &Ctx<()>, started: Self::Args) -> Result<Self, ActorError> {
        if let Some(started) = started {
            started.send(()).ok();
        }
        Ok(Self)
    }

    async fn handle(&mut self, _: &Ctx<()>, (): ()) -> Result<Flow, ActorError> {
        Ok(Flow::Continue)
    }
}

/// A system of so many dynamic supervisors.
pub struct Ours {
    pub system: System,
    pub running: Running,
    pub supervisors: Vec<DynamicHandle>,
}

impl Ours {
    pub async fn start(supervisors: usize) -> Self {
        let system = System::new("bench");
        let mut root = SupervisorSpec::new("root", Strategy::OneForOne);
        let mut handles = Vec::new();
        for number in 0..supervisors {
            let handle = DynamicHandle::new();
            root = root.child(DynamicSupervisorSpec::new(format!("s{number}"), 1_000_000).into_child(&handle));
            handles.push(handle);
        }
        let running = system.start(root).await.unwrap();
        Self { system, running, supervisors: handles }
    }

    /// Starts temporary children under each supervisor, each after the other.
    pub async fn children(&self, children: u64) -> Duration {
        let begin = Instant::now();
        for supervisor in &self.supervisors {
            for number in 0..children {
                let address = Address::new("idle", 16);
                let child = ChildSpec::actor::<Idle>(number.to_string(), &address, || None);
                supervisor.start_child(child.restart(Restart::Temporary)).await.unwrap();
            }
        }
        begin.elapsed()
    }

    /// Stops everything in order and returns when the last is gone.
    pub async fn end(self) -> Duration {
        let begin = Instant::now();
        self.running.stop().await;
        begin.elapsed()
    }
}

/// Kills the only child of a static supervisor again and again, each time as soon as the next incarnation runs.
pub async fn restart(times: u64) -> Duration {
    let (sender, mut started) = tokio::sync::mpsc::unbounded_channel();
    let system = System::new("bench");
    let child = ChildSpec::actor::<Idle>("idle", &Address::new("idle", 16), move || Some(sender.clone()));
    // So many within so short a time are never counted: the window is a nanosecond.
    let wide = Intensity::new(MAX_RESTARTS_MAX, Duration::from_nanos(1));
    let running =
        system.start(SupervisorSpec::new("root", Strategy::OneForOne).intensity(wide).child(child)).await.unwrap();
    started.recv().await.unwrap();
    let probe = system.probe("/idle").unwrap();
    let mut took = Duration::ZERO;
    for _ in 0..times {
        // As soon as `init` says so the supervisor may still be taking the child over.
        while probe.state() != singularity::supervision::NodeState::Running {
            tokio::task::yield_now().await;
        }
        let begin = Instant::now();
        assert!(system.kill("/idle"));
        started.recv().await.unwrap();
        took += begin.elapsed();
    }
    running.stop().await;
    took
}
