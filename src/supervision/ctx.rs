//! What an actor knows about its own place: address, probe, timers, its end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ractor::ActorCell;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::core::{ExitReason, Incarnation, Path};
use super::life::Life;
use super::mailbox::Mailbox;
use super::{Address, Probe, System};

/// An actor's view of itself; belongs to one incarnation. Cheap to clone.
pub struct Ctx<M> {
    address: Address<M>,
    mailbox: Arc<Mailbox<M>>,
    life: Arc<Life>,
    cell: ActorCell,
    runtime: Handle,
    system: System,
}

impl<M: Send + 'static> Ctx<M> {
    pub(super) fn new(
        address: Address<M>,
        mailbox: Arc<Mailbox<M>>,
        life: Arc<Life>,
        cell: ActorCell,
        runtime: Handle,
        system: System,
    ) -> Self {
        Self { address, mailbox, life, cell, runtime, system }
    }

    /// Where to reach this actor, also after a restart.
    pub fn address(&self) -> &Address<M> {
        &self.address
    }

    /// Its probe, for labels.
    pub fn probe(&self) -> &Arc<Probe> {
        &self.life.probe
    }

    /// Its place in the tree.
    pub fn path(&self) -> &Path {
        &self.life.probe.path
    }

    /// The system it belongs to, for [`System::lookup`].
    pub fn system(&self) -> &System {
        &self.system
    }

    /// Which life this is.
    pub fn incarnation(&self) -> Incarnation {
        self.life.incarnation
    }

    /// Cancelled as soon as this incarnation is asked to stop, also while a message is handled.
    pub(super) fn stopping(&self) -> &CancellationToken {
        self.life.stopping()
    }

    /// The ractor actor of this incarnation.
    pub(super) fn cell(&self) -> &ActorCell {
        &self.cell
    }

    /// Sends `msg` to this incarnation after the wait, also when the mailbox is full. Dropping the timer cancels it; it
    /// also ends with the incarnation.
    #[must_use = "dropping the timer cancels it"]
    pub fn send_after(&self, after: Duration, msg: M) -> Timer {
        let (mailbox, life) = (self.mailbox.clone(), self.life.clone());
        #[expect(clippy::disallowed_methods, reason = "the timer aborts it, and it ends with the incarnation")]
        let task = self.runtime.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(after) => {
                    // Refused only when the incarnation is gone; then the message is meaningless.
                    mailbox.push(msg, false).ok();
                }
                () = life.down().cancelled() => {}
            }
        });
        Timer { task: task.abort_handle() }
    }

    /// Ends this incarnation in order once the current message is handled: waiting messages are dropped and `stopped`
    /// runs. The first reason given stands.
    pub fn stop_self(&self, reason: ExitReason) {
        self.life.request_stop(&self.cell, reason);
    }
}

impl<M> Clone for Ctx<M> {
    fn clone(&self) -> Self {
        Self {
            address: self.address.clone(),
            mailbox: self.mailbox.clone(),
            life: self.life.clone(),
            cell: self.cell.clone(),
            runtime: self.runtime.clone(),
            system: self.system.clone(),
        }
    }
}

impl<M> fmt::Debug for Ctx<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ctx").field(&self.life.probe.path).finish()
    }
}

/// A message that will be sent later; dropping it cancels it.
#[derive(Debug)]
pub struct Timer {
    task: AbortHandle,
}

impl Timer {
    /// Whether the message was sent or the timer cancelled.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
