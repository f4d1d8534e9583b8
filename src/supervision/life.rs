//! One incarnation: what its wrapper and its supervisor both know, and how it is made to stop.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use ractor::{ActorCell, ActorStatus};
use tokio_util::sync::CancellationToken;

use super::core::{ExitReason, Incarnation, Shutdown};
use super::error::StartError;
use super::lock::lock;
use super::panics::catch_sync;
use super::probe::{Attached, Probe};
use super::registry::{Registration, Registry};

/// How long a killed actor, or the descendants of a dead supervisor, may take to be gone before they count as zombies.
/// A kill acts at the next await point, so only code that never awaits needs longer.
pub const KILL_WAIT_MAX: Duration = Duration::from_secs(2);

/// Text handed to ractor with an ordered stop; the typed reason is in [`Life`].
pub(super) const ORDERED_STOP: &str = "supervised stop";

/// One life of a child.
pub(crate) struct Life {
    pub(super) probe: Arc<Probe>,
    pub(super) incarnation: Incarnation,
    turns: Mutex<Turns>,
    /// Cancelled when it is asked to stop; made only for who wants to know.
    stopping: OnceLock<CancellationToken>,
    /// Cancelled when the actor is gone and has let go of everything; made only for who wants to know.
    down: OnceLock<CancellationToken>,
    exit: OnceLock<ExitReason>,
    registration: OnceLock<Registration>,
}

/// What a life has come to.
#[derive(Default)]
struct Turns {
    /// Why it was asked to stop.
    requested: Option<ExitReason>,
    /// The actor is gone and has let go of everything.
    down: bool,
}

impl Life {
    pub(super) fn new(probe: Arc<Probe>, incarnation: Incarnation) -> Arc<Self> {
        let (turns, stopping, down) = (Mutex::default(), OnceLock::new(), OnceLock::new());
        let (exit, registration) = (OnceLock::new(), OnceLock::new());
        Arc::new(Self { probe, incarnation, turns, stopping, down, exit, registration })
    }

    /// Registers what reaches this life under the name of its spec, if that has one.
    pub(super) fn register<T: Any + Send + Sync>(&self, registry: &Arc<Registry>, value: T) -> Result<(), StartError> {
        if let Some(name) = self.probe.registered_name() {
            let registration = registry.register(name, &self.probe.path, value)?;
            self.registration.set(registration).ok();
        }
        Ok(())
    }

    /// Last of all, when everything else is let go of: the name is free and whoever waits for the end goes on.
    pub(super) fn release(&self) {
        if let Some(registration) = self.registration.get() {
            registration.end();
        }
        self.probe.detach(self.incarnation);
        lock(&self.turns).down = true;
        if let Some(down) = self.down.get() {
            down.cancel();
        }
    }

    /// Cancelled as soon as the actor is gone and has let go of everything, also when that was before the call.
    pub(super) fn down(&self) -> &CancellationToken {
        let token = self.down.get_or_init(CancellationToken::new);
        // Whoever lets go later finds the token made above.
        if lock(&self.turns).down {
            token.cancel();
        }
        token
    }

    /// Asks the actor to stop in order; the first reason stands.
    pub(super) fn request_stop(&self, cell: &ActorCell, reason: ExitReason) {
        lock(&self.turns).requested.get_or_insert(reason);
        if let Some(stopping) = self.stopping.get() {
            stopping.cancel();
        }
        cell.stop(Some(ORDERED_STOP.to_owned()));
    }

    /// Cancelled as soon as it is asked to stop, also when that was before the call.
    pub(super) fn stopping(&self) -> &CancellationToken {
        let stopping = self.stopping.get_or_init(CancellationToken::new);
        // Whoever asks later finds the token made above.
        if lock(&self.turns).requested.is_some() {
            stopping.cancel();
        }
        stopping
    }

    /// Why it was asked to stop.
    pub(super) fn requested(&self) -> ExitReason {
        lock(&self.turns).requested.clone().unwrap_or(ExitReason::Shutdown)
    }

    /// This life as its probe knows it.
    pub(super) fn attached(self: &Arc<Self>, cell: ActorCell) -> Attached {
        Attached { cell, life: self.clone() }
    }

    /// Notes how it ended; the first note stands.
    pub(super) fn set_exit(&self, reason: ExitReason) {
        self.exit.set(reason).ok();
    }

    /// How it ended, if its wrapper had the chance to say so.
    pub(super) fn exit(&self) -> Option<ExitReason> {
        self.exit.get().cloned()
    }
}

/// What an incarnation holds and must let go of when it is gone, however it went.
pub(super) trait Body: Send + Sync {
    /// Refuses messages, takes addresses away, drops state, and last says so to the probe. May be called more than
    /// once, also at the same time: each call returns only when the state is dropped.
    fn release(&self);
}

/// A running actor, as its supervisor holds it.
#[derive(Clone)]
pub(super) struct ActorHandle {
    pub(super) cell: ActorCell,
    pub(super) life: Arc<Life>,
    pub(super) body: Arc<dyn Body>,
}

impl ActorHandle {
    /// The actor is gone: let go of what it held and tell how it ended, `otherwise` when it could not say.
    pub(super) fn buried(&self, otherwise: ExitReason) -> ExitReason {
        release(&*self.body);
        self.life.exit().unwrap_or(otherwise)
    }

    /// Stops it as ordered and tells how it ended, and whether it and everything below it is gone.
    ///
    /// Cancel safety: the order stands, only the waiting ends.
    pub(super) async fn stop(&self, how: Shutdown) -> (ExitReason, bool) {
        let in_time = match how {
            Shutdown::BrutalKill => false,
            Shutdown::Timeout(limit) => {
                self.life.request_stop(&self.cell, ExitReason::Shutdown);
                self.cell.wait(Some(limit)).await.is_ok()
            }
            Shutdown::Infinity => {
                self.life.request_stop(&self.cell, ExitReason::Shutdown);
                self.cell.wait(None).await.is_ok()
            }
        };
        if !in_time {
            self.cell.kill();
            if self.cell.wait(Some(KILL_WAIT_MAX)).await.is_err() {
                return (ExitReason::Killed, false);
            }
        }
        let reason = self.buried(ExitReason::Killed);
        (reason, descendants_gone(&self.life.probe).await)
    }

    /// Waits until it and everything below it is gone.
    pub(super) async fn gone(&self) {
        self.cell.wait(None).await.ok();
        release(&*self.body);
        for living in self.life.probe.living_descendants() {
            living.life.down().cancelled().await;
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        self.cell.get_status() != ActorStatus::Stopped
    }
}

impl fmt::Debug for ActorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActorHandle").field("path", &self.life.probe.path).finish_non_exhaustive()
    }
}

/// Waits up to [`KILL_WAIT_MAX`] until nothing below this node is alive. A dead supervisor is announced before its
/// descendants are dead, and two incarnations of them must never work at once.
pub(super) async fn descendants_gone(probe: &Probe) -> bool {
    let living = probe.living_descendants();
    if living.is_empty() {
        return true;
    }
    let all = async {
        for actor in living {
            // ractor kills descendants itself, except those that are already stopping.
            actor.cell.kill();
            actor.life.down().cancelled().await;
        }
    };
    tokio::time::timeout(KILL_WAIT_MAX, all).await.is_ok()
}

/// Ends what a start that came to nothing has left behind, and tells whether it is gone: the actor that the start
/// function had started before, and all below it. Waits up to [`KILL_WAIT_MAX`] for either.
pub(super) async fn start_undone(probe: &Probe, incarnation: Incarnation) -> bool {
    if let Some(own) = probe.attached().filter(|own| own.life.incarnation == incarnation) {
        own.cell.kill();
        if tokio::time::timeout(KILL_WAIT_MAX, own.life.down().cancelled()).await.is_err() {
            return false;
        }
    }
    descendants_gone(probe).await
}

/// Lets go of what a dead actor held. Its destructors are foreign code: a panic in them must not hit the supervisor.
pub(super) fn release(body: &dyn Body) {
    if let Err(caught) = catch_sync(|| body.release()) {
        tracing::error!(target: "sup.crash", text = caught.text, location = caught.location, "panic while dropping an actor");
    }
}
