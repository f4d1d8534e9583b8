//! A worker that does what it is told, a journal of what happened, and waiting for conditions.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::supervision::*;

/// Longest time a condition is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// What happened, in order.
#[derive(Clone, Default)]
pub(super) struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    pub(super) fn note(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    /// What happened since the last call.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Waits for so many lines and takes them.
    pub(super) async fn lines(&self, count: usize) -> Vec<String> {
        until(|| self.len() >= count).await;
        self.take()
    }
}

/// Waits until a condition holds.
pub(super) async fn until(mut holds: impl FnMut() -> bool) {
    let poll = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, poll).await.expect("the condition holds in time");
}

pub(super) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it ends in time")
}

pub(super) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What a worker is told.
pub(super) enum Do {
    Panic,
    Fail,
    Stop(ExitReason),
    Sleep(Duration),
    Later(Duration),
    Ping(Reply<u64>),
    Keep(Reply<u64>),
    Note(&'static str),
}

/// How a worker behaves; shared by all its incarnations.
#[derive(Clone, Default)]
pub(super) struct Script {
    pub(super) name: String,
    pub(super) journal: Journal,
    pub(super) stop_takes: Duration,
    pub(super) notes_drop: bool,
}

pub(super) struct Worker {
    script: Script,
    kept: Vec<Reply<u64>>,
    timers: Vec<Timer>,
}

#[derive(Debug, thiserror::Error)]
#[error("told to fail")]
struct ToldToFail(#[source] std::io::Error);

/// Even a sleep of nothing would take a millisecond of real time.
async fn pause(span: Duration) {
    if !span.is_zero() {
        tokio::time::sleep(span).await;
    }
}

impl Actor for Worker {
    type Msg = Do;
    type Args = Script;

    async fn init(_: &Ctx<Do>, script: Script) -> Result<Self, ActorError> {
        script.journal.note(format!("start {}", script.name));
        Ok(Self { script, kept: Vec::new(), timers: Vec::new() })
    }

    async fn handle(&mut self, ctx: &Ctx<Do>, message: Do) -> Result<Flow, ActorError> {
        match message {
            Do::Panic => panic!("told to panic"),
            Do::Fail => return Err(ToldToFail(std::io::Error::other("because")).into()),
            Do::Stop(reason) => return Ok(Flow::Stop(reason)),
            Do::Sleep(span) => tokio::time::sleep(span).await,
            Do::Later(span) => self.timers.push(ctx.send_after(span, Do::Note("later"))),
            Do::Ping(reply) => reply.send(ctx.incarnation().0),
            Do::Keep(reply) => self.kept.push(reply),
            Do::Note(line) => self.script.journal.note(line),
        }
        Ok(Flow::Continue)
    }

    async fn stopped(&mut self, _: &Ctx<Do>, reason: &ExitReason) {
        self.script.journal.note(format!("stop {}", self.script.name));
        pause(self.script.stop_takes).await;
        if *reason != ExitReason::Shutdown {
            self.script.journal.note(format!("{} was {}", self.script.name, reason));
        }
    }

    fn message_kind(message: &Do) -> &'static str {
        match message {
            Do::Panic => "panic",
            Do::Sleep(_) => "sleep",
            _ => "other",
        }
    }

    fn status(&self) -> serde_json::Value {
        serde_json::json!({ "kept": self.kept.len() })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.script.notes_drop {
            self.script.journal.note(format!("drop {}", self.script.name));
        }
    }
}

/// One system with one journal.
pub(super) struct Kit {
    pub(super) system: System,
    pub(super) journal: Journal,
}

impl Kit {
    pub(super) fn new() -> Self {
        Self { system: System::new("test"), journal: Journal::default() }
    }

    pub(super) fn script(&self, name: &str) -> Script {
        Script { name: name.to_owned(), journal: self.journal.clone(), ..Script::default() }
    }

    pub(super) fn worker(&self, name: &str) -> (ChildSpec, Address<Do>) {
        scripted(self.script(name))
    }

    /// Starts a root and forgets what the starts noted.
    pub(super) async fn start(&self, root: SupervisorSpec) -> Running {
        let running = self.system.start(root).await.expect("the root starts");
        self.journal.take();
        running
    }

    pub(super) fn node(&self, path: &str) -> TreeNode {
        self.system.snapshot().find(path).unwrap_or_else(|| panic!("no node {path}")).clone()
    }

    /// Waits until the child runs in this incarnation.
    pub(super) async fn runs(&self, path: &str, incarnation: u64) {
        until(|| {
            let tree = self.system.snapshot();
            tree.find(path).is_some_and(|node| node.state == NodeState::Running && node.incarnation == incarnation)
        })
        .await;
    }

    /// Waits until the child is in this state.
    pub(super) async fn is(&self, path: &str, state: NodeState) {
        until(|| self.system.snapshot().find(path).is_some_and(|node| node.state == state)).await;
    }

    /// Kills the actor at `path`, as a crash outside of our control would.
    pub(super) fn kill(&self, path: &str) {
        self.system.probe(path).and_then(|probe| probe.attached()).expect("it runs").cell.kill();
    }
}

pub(super) fn scripted(script: Script) -> (ChildSpec, Address<Do>) {
    let address = Address::new("worker", 100);
    let name = script.name.clone();
    (ChildSpec::actor::<Worker>(name, &address, move || script.clone()), address)
}

/// A root with a wide-open intensity.
pub(super) fn root(strategy: Strategy) -> SupervisorSpec {
    SupervisorSpec::new("root", strategy).intensity(Intensity::new(1000, Duration::from_secs(5)))
}
