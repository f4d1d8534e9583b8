//! The bounded mailbox of one incarnation.
//!
//! ractor's own mailbox is unbounded, tells no depth, and may keep a late message alive. So messages wait here, and
//! ractor carries only a wake-up for each. Closing drops what waits, at once, so every pending call is answered.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use ractor::ActorCell;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::error::{CallError, CastError};
use super::lock::lock;

/// What ractor carries to the wrapper.
#[derive(Debug)]
pub(crate) enum Signal {
    /// A message waits in the mailbox.
    Wake,
    /// Someone wants to know the actor's status.
    Status(oneshot::Sender<serde_json::Value>),
    /// Take no more messages; answered once that holds.
    Suspend(oneshot::Sender<()>),
    /// Take messages again.
    Resume(oneshot::Sender<()>),
}

/// Most questions and orders for one actor, beside its messages, that wait.
const SYSTEM_WAITING_MAX: usize = 64;

pub(crate) struct Mailbox<M> {
    limit: usize,
    system_waiting: AtomicUsize,
    suspended: AtomicBool,
    cell: OnceLock<ActorCell>,
    queue: Mutex<Queue<M>>,
    /// What the queue comes to, written under its lock: a look at an empty mailbox need not lock.
    depth: AtomicUsize,
    processed: AtomicU64,
}

struct Queue<M> {
    waiting: VecDeque<(Instant, M)>,
    closed: bool,
}

/// What the tree shows of a mailbox.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MailboxStats {
    pub(crate) depth: usize,
    pub(crate) limit: usize,
    pub(crate) oldest: Option<Duration>,
    pub(crate) processed: u64,
    pub(crate) suspended: bool,
}

/// A mailbox without its type.
pub(crate) trait Gauge: Send + Sync {
    fn stats(&self) -> MailboxStats;
    /// Makes the actor take no more messages, or take them again; see [`Mailbox::ask`].
    fn order(&self, suspend: bool, done: oneshot::Sender<()>) -> Result<&ActorCell, CallError>;
}

impl<M: Send + 'static> Mailbox<M> {
    pub(crate) fn new(limit: usize) -> Self {
        let queue = Queue { waiting: VecDeque::new(), closed: false };
        Self {
            limit,
            system_waiting: AtomicUsize::new(0),
            suspended: AtomicBool::new(false),
            cell: OnceLock::new(),
            queue: Mutex::new(queue),
            depth: AtomicUsize::new(0),
            processed: AtomicU64::new(0),
        }
    }

    /// Names the actor to wake. Messages before that are refused.
    pub(crate) fn open(&self, cell: ActorCell) {
        self.cell.set(cell).ok();
    }

    /// Sends a question or an order, outside of the queue. Who waits for the answer must wait for the end of the
    /// returned actor too, see [`answer_of`](super::link::answer_of).
    pub(crate) fn ask(&self, signal: Signal) -> Result<&ActorCell, CallError> {
        let cell = self.cell.get().ok_or(CallError::Down)?;
        if self.system_waiting.fetch_add(1, Ordering::Relaxed) >= SYSTEM_WAITING_MAX {
            self.answered();
            return Err(CallError::Full);
        }
        cell.send_message(signal).map_err(|_| CallError::Down)?;
        Ok(cell)
    }

    /// One question or order was taken out.
    pub(crate) fn answered(&self) {
        self.system_waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether the actor takes no messages now.
    pub(crate) fn is_suspended(&self) -> bool {
        self.suspended.load(Ordering::Relaxed)
    }

    /// Stops or goes on taking messages. What was announced meanwhile is announced again; an announcement too many does
    /// nothing.
    pub(crate) fn suspend(&self, suspended: bool) {
        if self.suspended.swap(suspended, Ordering::Relaxed) && !suspended {
            let queue = lock(&self.queue);
            if let Some(cell) = self.cell.get() {
                for _ in 0..queue.waiting.len() {
                    cell.send_message(Signal::Wake).ok();
                }
            }
        }
    }

    /// Puts a message in; `limited` ones are refused above the limit.
    pub(crate) fn push(&self, message: M, limited: bool) -> Result<(), CastError<M>> {
        let Some(cell) = self.cell.get() else { return Err(CastError::Down(message)) };
        let mut queue = lock(&self.queue);
        if queue.closed {
            return Err(CastError::Down(message));
        }
        if limited && queue.waiting.len() >= self.limit {
            return Err(CastError::Full(message));
        }
        queue.waiting.push_back((Instant::now(), message));
        if cell.send_message(Signal::Wake).is_ok() {
            self.depth.store(queue.waiting.len(), Ordering::Release);
            return Ok(());
        }
        match queue.waiting.pop_back() {
            Some((_, message)) => Err(CastError::Down(message)),
            None => Ok(()),
        }
    }

    pub(crate) fn pop(&self) -> Option<M> {
        let mut queue = lock(&self.queue);
        let (_, message) = queue.waiting.pop_front()?;
        self.depth.store(queue.waiting.len(), Ordering::Release);
        self.processed.fetch_add(1, Ordering::Relaxed);
        Some(message)
    }

    pub(crate) fn depth(&self) -> usize {
        self.depth.load(Ordering::Acquire)
    }

    /// Drops what waits and refuses what comes.
    pub(crate) fn close(&self) {
        let waiting = {
            let mut queue = lock(&self.queue);
            queue.closed = true;
            self.depth.store(0, Ordering::Release);
            std::mem::take(&mut queue.waiting)
        };
        // Outside of the lock: dropping a message may run any code.
        drop(waiting);
    }
}

impl<M: Send + 'static> Gauge for Mailbox<M> {
    fn order(&self, suspend: bool, done: oneshot::Sender<()>) -> Result<&ActorCell, CallError> {
        self.ask(if suspend { Signal::Suspend(done) } else { Signal::Resume(done) })
    }

    fn stats(&self) -> MailboxStats {
        let oldest = || lock(&self.queue).waiting.front().map(|(since, _)| since.elapsed());
        let depth = self.depth();
        MailboxStats {
            depth,
            limit: self.limit,
            oldest: if depth == 0 { None } else { oldest() },
            processed: self.processed.load(Ordering::Relaxed),
            suspended: self.is_suspended(),
        }
    }
}
