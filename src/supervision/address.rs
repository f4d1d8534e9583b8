//! Addresses: how actors are reached. An address is made before its actor exists and outlives its restarts.

use std::fmt;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use ractor::ActorCell;
use tokio::sync::oneshot;

use super::error::{CallError, CastError};
use super::link::answer_of;
use super::lock::{read, write};
use super::mailbox::{Mailbox, Signal};

/// Where to send messages for an actor, whichever incarnation runs now. Cheap to clone.
///
/// An incarnation is reachable from before its `init` runs until it ends. While none is, messages are refused with
/// `Down`; they are never kept for the next one. Give an address to one child only.
pub struct Address<M> {
    shared: Arc<Shared<M>>,
}

struct Shared<M> {
    name: &'static str,
    limit: usize,
    mailbox: RwLock<Option<Arc<Mailbox<M>>>>,
}

/// Where the answer to a call goes. Dropping it unanswered fails the call at once.
pub struct Reply<R> {
    sender: oneshot::Sender<R>,
}

impl<M: Send + 'static> Address<M> {
    /// An address that nobody listens on yet. At most `limit` messages wait; `name` is for people.
    pub fn new(name: &'static str, limit: usize) -> Self {
        Self { shared: Arc::new(Shared { name, limit, mailbox: RwLock::new(None) }) }
    }

    /// Puts a message into the mailbox and returns at once.
    ///
    /// Errors: `Full` above the limit, `Down` when no incarnation runs; both give the message back. A message may still
    /// be lost afterwards, when the incarnation ends before it handles it.
    pub fn cast(&self, message: M) -> Result<(), CastError<M>> {
        match self.mailbox() {
            Some(mailbox) => mailbox.push(message, true),
            None => Err(CastError::Down(message)),
        }
    }

    /// Sends what `make` builds around a [`Reply`] and waits for the answer, at most `timeout`.
    ///
    /// Errors: `Full` and `Down` as for `cast`; `Dropped` as soon as the request is dropped, also when the actor ends;
    /// `Timeout`. Never call yourself: the answer cannot come.
    ///
    /// Cancel safety: dropping the future gives up the answer; the request may still be handled.
    pub async fn call<R>(&self, make: impl FnOnce(Reply<R>) -> M, timeout: Duration) -> Result<R, CallError> {
        let (sender, answer) = oneshot::channel();
        self.cast(make(Reply { sender }))?;
        wait(answer, timeout).await
    }

    /// What the actor tells about itself; see [`Actor::status`](super::Actor::status). Answered between messages, not
    /// subject to the mailbox limit.
    ///
    /// Errors: `Down`, `Dropped`, `Timeout`; `Full` when too many such questions wait already.
    pub async fn status(&self, timeout: Duration) -> Result<serde_json::Value, CallError> {
        let mailbox = self.mailbox().ok_or(CallError::Down)?;
        let (sender, answer) = oneshot::channel();
        let cell = mailbox.ask(Signal::Status(sender))?;
        answered(cell, answer, timeout).await
    }

    /// Makes the actor stop taking messages once it has handled those that wait already (OTP's `sys:suspend`). Later
    /// ones are kept, up to the limit. Stops and questions for the status are still heeded; an incarnation that is
    /// restarted is not suspended.
    ///
    /// Errors and cancel safety: as for [`status`](Self::status).
    pub async fn suspend(&self, timeout: Duration) -> Result<(), CallError> {
        self.order(Signal::Suspend, timeout).await
    }

    /// Makes a suspended actor take messages again.
    ///
    /// Errors and cancel safety: as for [`status`](Self::status).
    pub async fn resume(&self, timeout: Duration) -> Result<(), CallError> {
        self.order(Signal::Resume, timeout).await
    }

    async fn order(&self, signal: fn(oneshot::Sender<()>) -> Signal, timeout: Duration) -> Result<(), CallError> {
        let mailbox = self.mailbox().ok_or(CallError::Down)?;
        let (sender, done) = oneshot::channel();
        let cell = mailbox.ask(signal(sender))?;
        answered(cell, done, timeout).await
    }

    /// How many messages wait now.
    pub fn depth(&self) -> usize {
        self.mailbox().map_or(0, |mailbox| mailbox.depth())
    }

    /// How many messages may wait.
    pub fn limit(&self) -> usize {
        self.shared.limit
    }

    /// The name given at its making.
    pub fn name(&self) -> &'static str {
        self.shared.name
    }

    /// Whether an incarnation is reachable now.
    pub fn is_up(&self) -> bool {
        self.mailbox().is_some()
    }

    fn mailbox(&self) -> Option<Arc<Mailbox<M>>> {
        read(&self.shared.mailbox).clone()
    }

    pub(crate) fn plug(&self, mailbox: &Arc<Mailbox<M>>) {
        *write(&self.shared.mailbox) = Some(mailbox.clone());
    }

    /// Takes this mailbox away, unless a later incarnation has already replaced it.
    pub(crate) fn unplug(&self, mailbox: &Arc<Mailbox<M>>) {
        let mut current = write(&self.shared.mailbox);
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, mailbox)) {
            *current = None;
        }
    }
}

/// Waits for the answer to a question or an order; `Dropped` once the actor is gone without one.
pub(super) async fn answered<R>(
    cell: &ActorCell,
    answer: oneshot::Receiver<R>,
    timeout: Duration,
) -> Result<R, CallError> {
    match tokio::time::timeout(timeout, answer_of(cell, answer)).await {
        Ok(answer) => answer.ok_or(CallError::Dropped),
        Err(_) => Err(CallError::Timeout),
    }
}

async fn wait<R>(answer: oneshot::Receiver<R>, timeout: Duration) -> Result<R, CallError> {
    match tokio::time::timeout(timeout, answer).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) => Err(CallError::Dropped),
        Err(_) => Err(CallError::Timeout),
    }
}

impl<R> Reply<R> {
    /// Answers. An answer nobody waits for any more is dropped.
    pub fn send(self, value: R) {
        // The caller may have given up; that is its right.
        self.sender.send(value).ok();
    }

    /// Whether nobody waits any more.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

impl<M> Clone for Address<M> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<M> fmt::Debug for Address<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address").field(&self.shared.name).finish()
    }
}

impl<R> fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}
