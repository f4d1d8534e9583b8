//! A worker that does what it is told, a journal of what happened, and waiting for conditions.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use singularity::supervision::*;

/// Longest time a condition is waited for.
const PATIENCE: Duration = Duration::from_secs(300);

pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Waits until a condition holds.
pub async fn until(mut holds: impl FnMut() -> bool) {
    let poll = async {
        while !holds() {
            tokio::time::sleep(ms(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, poll).await.expect("the condition holds in time");
}

pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it ends in time")
}

/// Lets everything that is on its way arrive; on the paused clock no time is lost.
pub async fn settle() {
    tokio::time::sleep(ms(20)).await;
}

/// Measurements of the few, of which the best counts.
const FEW_ROUNDS: usize = 3;
/// Measurements of the many at most: one that is good enough ends them.
const MANY_ROUNDS: usize = 3;

/// Fails unless each span of `many` is shorter than `factor` times that of `few`. Others use the machine too, so both
/// are measured more than once; growth that is in the code is there each time.
pub async fn grows_less<const N: usize>(
    factor: u32,
    mut few: impl AsyncFnMut() -> [Duration; N],
    mut many: impl AsyncFnMut() -> [Duration; N],
) {
    let best = |best: [Duration; N], took: [Duration; N]| std::array::from_fn(|at| took[at].min(best[at]));
    let (mut of_few, mut of_many) = ([Duration::MAX; N], [Duration::MAX; N]);
    for _ in 0..FEW_ROUNDS {
        of_few = best(of_few, few().await);
    }
    for _ in 0..MANY_ROUNDS {
        of_many = best(of_many, many().await);
        if of_many.iter().zip(of_few).all(|(many, few)| *many < few * factor) {
            return;
        }
    }
    panic!("{of_many:?} for many is not less than {factor} times {of_few:?} for few");
}

/// What happened, in order.
#[derive(Clone, Default)]
pub struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    pub fn note(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    /// What happened since the last call.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Waits for so many lines and takes them.
    pub async fn lines(&self, count: usize) -> Vec<String> {
        until(|| self.len() >= count).await;
        self.take()
    }
}

/// How a start goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Runs,
    /// Runs and tells this number beside it.
    Tells(u32),
    /// The start function chooses not to run.
    Ignores,
    /// `init` returns an error.
    Fails,
    /// `init` panics.
    Panics,
    /// The start function itself panics, before there is an actor.
    PanicsEarly,
}

/// How a worker behaves; shared by all its incarnations.
#[derive(Clone)]
pub struct Script {
    pub name: String,
    pub journal: Journal,
    pub init_takes: Duration,
    pub stop_takes: Duration,
    pub stop_panics: bool,
    /// Noted when the worker's state is dropped.
    pub notes_drop: bool,
    /// The next starts, and how those after them go.
    pub plan: Arc<Mutex<(VecDeque<Start>, Start)>>,
}

impl Script {
    fn next(&self) -> Start {
        let mut plan = self.plan.lock().unwrap();
        let always = plan.1;
        plan.0.pop_front().unwrap_or(always)
    }
}

/// What a worker is told.
pub enum Do {
    Panic,
    Fail,
    Stop(ExitReason),
    /// Takes so long, and ends by itself then.
    StopAfter(Duration, ExitReason),
    /// Hogs the thread until released: no await point.
    Hog(Arc<AtomicBool>),
    Ping(Reply<u64>),
}

pub struct Puppet(Script);

impl Actor for Puppet {
    type Msg = Do;
    type Args = (Script, Start);

    async fn init(_: &Ctx<Do>, (script, start): Self::Args) -> Result<Self, ActorError> {
        script.journal.note(format!("start {}", script.name));
        pause(script.init_takes).await;
        match start {
            Start::Fails => Err(ActorError::msg("init fails")),
            Start::Panics => panic!("init panics"),
            _ => Ok(Self(script)),
        }
    }

    async fn handle(&mut self, ctx: &Ctx<Do>, message: Do) -> Result<Flow, ActorError> {
        match message {
            Do::Panic => panic!("told to panic"),
            Do::Fail => return Err(ActorError::msg("told to fail")),
            Do::Stop(reason) => return Ok(Flow::Stop(reason)),
            Do::StopAfter(span, reason) => {
                pause(span).await;
                return Ok(Flow::Stop(reason));
            }
            Do::Hog(released) => {
                while !released.load(Ordering::SeqCst) {
                    std::thread::sleep(ms(1));
                }
            }
            Do::Ping(reply) => reply.send(ctx.incarnation().0),
        }
        Ok(Flow::Continue)
    }

    async fn stopped(&mut self, _: &Ctx<Do>, _: &ExitReason) {
        self.0.journal.note(format!("stop {}", self.0.name));
        pause(self.0.stop_takes).await;
        assert!(!self.0.stop_panics, "stopped panics");
    }

    fn message_kind(message: &Do) -> &'static str {
        match message {
            Do::Panic => "panic",
            _ => "other",
        }
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        if self.0.notes_drop {
            self.0.journal.note(format!("drop {}", self.0.name));
        }
    }
}

/// Even a sleep of nothing would take a millisecond of real time.
async fn pause(span: Duration) {
    if !span.is_zero() {
        tokio::time::sleep(span).await;
    }
}

/// A child specification with what reaches and directs its worker.
#[derive(Clone)]
pub struct Worker {
    pub spec: ChildSpec,
    pub address: Address<Do>,
    script: Script,
}

impl Worker {
    pub fn new(script: Script) -> Self {
        let address = Address::new("puppet", 100);
        let (started, at) = (script.clone(), address.clone());
        let spec = ChildSpec::new(script.name.clone(), move |ctx| {
            let (script, at) = (started.clone(), at.clone());
            let start = script.next();
            match start {
                Start::Ignores => Box::pin(async { Ok(Started::Ignore) }),
                Start::PanicsEarly => panic!("start panics"),
                Start::Tells(info) => Box::pin(async move {
                    let started = ctx.actor::<Puppet>(&at, (script, start)).await?;
                    Ok(started.with_info(info))
                }),
                _ => Box::pin(async move { ctx.actor::<Puppet>(&at, (script, start)).await }),
            }
        });
        Self { spec, address, script }
    }

    /// Every start from now on goes so.
    pub fn starts(&self, start: Start) {
        self.script.plan.lock().unwrap().1 = start;
    }

    /// The next starts go so, and those after them as before.
    pub fn next_starts(&self, starts: impl IntoIterator<Item = Start>) {
        self.script.plan.lock().unwrap().0.extend(starts);
    }

    pub fn tell(&self, what: Do) {
        self.address.cast(what).expect("the worker is up");
    }

    pub fn panics(&self) {
        self.tell(Do::Panic);
    }

    /// Ends by itself for this reason.
    pub fn leaves(&self, reason: ExitReason) {
        self.tell(Do::Stop(reason));
    }

    /// Which incarnation answers.
    pub async fn ping(&self) -> Result<u64, CallError> {
        self.address.call(Do::Ping, ms(10_000)).await
    }

    pub fn is_up(&self) -> bool {
        self.address.is_up()
    }

    #[must_use]
    pub fn restart(self, restart: Restart) -> Self {
        self.with(|spec| spec.restart(restart))
    }

    #[must_use]
    pub fn with(self, change: impl FnOnce(ChildSpec) -> ChildSpec) -> Self {
        Self { spec: change(self.spec), ..self }
    }
}

/// One system with one journal.
pub struct Kit {
    pub system: System,
    pub journal: Journal,
}

impl Kit {
    pub fn new() -> Self {
        Self { system: System::new("test"), journal: Journal::default() }
    }

    pub fn script(&self, name: &str) -> Script {
        Script {
            name: name.to_owned(),
            journal: self.journal.clone(),
            init_takes: Duration::ZERO,
            stop_takes: Duration::ZERO,
            stop_panics: false,
            notes_drop: false,
            plan: Arc::new(Mutex::new((VecDeque::new(), Start::Runs))),
        }
    }

    pub fn worker(&self, name: &str) -> Worker {
        Worker::new(self.script(name))
    }

    pub fn workers<const N: usize>(&self, names: [&str; N]) -> [Worker; N] {
        names.map(|name| self.worker(name))
    }

    /// A worker that takes its time to stop.
    pub fn slow(&self, name: &str, stop_takes: Duration) -> Worker {
        Worker::new(Script { stop_takes, ..self.script(name) })
    }

    /// A worker whose starts take 10 ms: one that fails forever can be watched, and uses up no [`WIDE`] intensity.
    pub fn watchable(&self, name: &str) -> Worker {
        Worker::new(Script { init_takes: ms(10), ..self.script(name) })
    }

    /// Starts a root and forgets what the starts noted.
    pub async fn start(&self, root: SupervisorSpec) -> Running {
        let running = self.system.start(root).await.expect("the root starts");
        self.journal.take();
        running
    }

    /// A root that is reached through the handle, over these workers.
    pub async fn root<const N: usize>(&self, strategy: Strategy, workers: [&Worker; N]) -> (Running, SupervisorHandle) {
        let handle = SupervisorHandle::new();
        let spec = root(strategy).handle(&handle).children(workers.map(|worker| worker.spec.clone()));
        (self.start(spec).await, handle)
    }

    /// A dynamic supervisor at `/jobs` under a root; transient, so it stays down after a meltdown.
    pub async fn dynamic(&self, max_children: usize, intensity: Intensity) -> (Running, DynamicHandle) {
        let handle = DynamicHandle::new();
        let jobs = DynamicSupervisorSpec::new("jobs", max_children).intensity(intensity).into_child(&handle);
        (self.start(root(Strategy::OneForOne).child(jobs.restart(Restart::Transient))).await, handle)
    }

    pub fn find(&self, path: &str) -> Option<TreeNode> {
        self.system.snapshot().find(path).cloned()
    }

    pub fn node(&self, path: &str) -> TreeNode {
        self.find(path).unwrap_or_else(|| panic!("no node {path}"))
    }

    /// Which lives of these children run, or ran last.
    pub fn lives<const N: usize>(&self, paths: [&str; N]) -> [u64; N] {
        paths.map(|path| self.node(path).incarnation)
    }

    /// Waits until the child runs in this incarnation.
    pub async fn runs(&self, path: &str, incarnation: u64) {
        let running = |node: TreeNode| node.state == NodeState::Running && node.incarnation == incarnation;
        until(|| self.find(path).is_some_and(running)).await;
    }

    /// Waits until the child is in this state.
    pub async fn is(&self, path: &str, state: NodeState) {
        until(|| self.find(path).is_some_and(|node| node.state == state)).await;
    }

    /// How the lives of this child ended, oldest first.
    pub fn exits(&self, path: &str) -> Vec<ExitReason> {
        let probe = self.system.probe(path).unwrap_or_else(|| panic!("no node {path}"));
        probe.history().into_iter().map(|exit| exit.reason).collect()
    }

    /// Kills the actor at `path`.
    pub fn kill(&self, path: &str) {
        assert!(self.system.kill(path), "nothing runs at {path}");
    }
}

/// A root with a wide-open intensity.
pub fn root(strategy: Strategy) -> SupervisorSpec {
    SupervisorSpec::new("root", strategy).intensity(WIDE)
}

/// Restarts that no test uses up.
pub const WIDE: Intensity = Intensity::new(1000, Duration::from_secs(5));

/// So many restarts within five seconds.
pub const fn restarts(max_restarts: u32) -> Intensity {
    Intensity::new(max_restarts, Duration::from_secs(5))
}

pub const fn counts(specs: usize, active: usize, supervisors: usize, workers: usize) -> ChildCounts {
    ChildCounts { specs, active, supervisors, workers }
}

pub fn noted(text: &str) -> ExitReason {
    ExitReason::ShutdownWith(text.to_owned())
}

/// Ends that keep a transient child down.
pub fn clean_reasons() -> [ExitReason; 3] {
    [ExitReason::Normal, ExitReason::Shutdown, noted("x")]
}
