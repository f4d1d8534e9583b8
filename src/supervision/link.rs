//! How requests reach a supervisor, whichever incarnation runs now.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use ractor::{ActorCell, ActorStatus};
use tokio::sync::oneshot;

use super::error::{ChildError, StartChildError};
use super::lock::{read, write};

/// Most requests that one supervisor has to handle; further ones are refused.
pub const REQUESTS_MAX: usize = 10_000;

/// The same with orders to end, which must find a place when requests do not.
const REQUESTS_AND_STOPS_MAX: usize = REQUESTS_MAX + 100;

pub(super) struct Link<C> {
    cell: RwLock<Option<ActorCell>>,
    waiting: Arc<AtomicUsize>,
    command: PhantomData<fn(C)>,
}

/// What stands in the mailbox of a supervisor. A request keeps its place until it was handled, also when whoever asked
/// has given up: else one who asks again and again in vain would fill the memory.
pub(super) struct Queued<C> {
    pub(super) command: C,
    pub(super) _place: Option<Place>,
}

/// What a supervisor tells itself needs no place.
impl<C> From<C> for Queued<C> {
    fn from(command: C) -> Self {
        Self { command, _place: None }
    }
}

/// Why a request got no answer.
pub(super) enum AskError {
    NoProc,
    Busy,
}

impl<C: Send + 'static> Link<C> {
    pub(super) fn new() -> Self {
        Self { cell: RwLock::new(None), waiting: Arc::default(), command: PhantomData }
    }

    pub(super) fn plug(&self, cell: ActorCell) {
        *write(&self.cell) = Some(cell);
    }

    pub(super) fn unplug(&self, cell: &ActorCell) {
        let mut current = write(&self.cell);
        if current.as_ref() == Some(cell) {
            *current = None;
        }
    }

    /// Whether somebody takes requests now.
    pub(super) fn is_up(&self) -> bool {
        read(&self.cell).as_ref().is_some_and(|cell| cell.get_status() < ActorStatus::Draining)
    }

    /// Sends a request and waits for the answer without a time limit, as OTP does.
    pub(super) async fn ask<R>(&self, make: impl FnOnce(oneshot::Sender<R>) -> C) -> Result<R, AskError> {
        let cell = read(&self.cell).clone().ok_or(AskError::NoProc)?;
        let _place = Some(Place::take(&self.waiting, REQUESTS_MAX).ok_or(AskError::Busy)?);
        let (sender, answer) = oneshot::channel();
        cell.send_message(Queued { command: make(sender), _place }).map_err(|_| AskError::NoProc)?;
        answer_of(&cell, answer).await.ok_or(AskError::NoProc)
    }
}

/// Waits for an answer, or for the end of who was asked. A message that is sent just when its receiver goes away can
/// stay in the channel for as long as anybody can send to it, and with it the way to answer: it alone tells no end.
///
/// Cancel safety: dropping the future gives up the answer.
pub(super) async fn answer_of<R>(cell: &ActorCell, mut answer: oneshot::Receiver<R>) -> Option<R> {
    tokio::select! {
        biased;
        answered = &mut answer => answered.ok(),
        // The last thing it did may have been to answer.
        _ = cell.wait(None) => answer.try_recv().ok(),
    }
}

impl<C: Send + 'static> Link<C> {
    /// Sends an order to end and waits until that is done.
    pub(super) async fn stop(&self, order: C, timeout: Option<Duration>) -> Result<(), ChildError> {
        let cell = read(&self.cell).clone().ok_or(ChildError::NoProc)?;
        let _place = Some(Place::take(&self.waiting, REQUESTS_AND_STOPS_MAX).ok_or(ChildError::Busy)?);
        cell.send_message(Queued { command: order, _place }).map_err(|_| ChildError::NoProc)?;
        cell.wait(timeout).await.map_err(|_| ChildError::Timeout)
    }
}

/// One among those that a supervisor has to handle.
pub(super) struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(waiting: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        let place = Self(waiting.clone());
        (waiting.fetch_add(1, Ordering::Relaxed) < limit).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl From<AskError> for StartChildError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::NoProc => Self::NoProc,
            AskError::Busy => Self::Busy,
        }
    }
}

impl From<AskError> for ChildError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::NoProc => Self::NoProc,
            AskError::Busy => Self::Busy,
        }
    }
}
