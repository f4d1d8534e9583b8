//! Keeps supervision events of level warning and up in the database, so that a dead instance can be examined.
//!
//! Events are taken from the system as they come ([`System::warnings`]) and wait in a shared list that outlives the
//! actor: a restart, or a database that is away, delays them. The list is bounded; what does not fit is counted, and
//! the count is kept as an event of its own. What still waits when the tree is down is written by the node
//! ([`History::finish`]).

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::Utc;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::task::JoinHandle;

use super::event_record::EventRecord;
use super::events::{self, EVENTS_BATCH_MAX, EVENTS_KEPT_MAX};
use super::identity::Identity;
use crate::postgres::{Database, DbError};
use crate::supervision::{
    Actor, ActorError, Address, ChildSpec, Ctx, ExitReason, Flow, Shutdown, SupervisionEvent, System, Timer,
};

/// Events that wait to be written: more would be deleted again anyway.
pub const EVENTS_WAITING_MAX: usize = EVENTS_KEPT_MAX;
/// Where the actor stands, for records of its own.
const PATH: &str = "/instance/history";
/// Mailbox of the actor; pokes are merged.
const HISTORY_MAILBOX_MAX: usize = 16;
/// Wait before a failed write is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How long a stopping actor tries to write; the rest is the node's.
const STOP_FLUSH_LIMIT: Duration = Duration::from_secs(1);
/// Time between two deletions of old events.
const FORGET_EVERY: Duration = Duration::from_hours(1);

/// Events on their way to the database. Cheap to clone; all clones are one list.
#[derive(Clone)]
pub struct History(Arc<Shared>);

struct Shared {
    db: Database,
    identity: Arc<Identity>,
    /// Held by the task of the actor that runs, so that a restart loses nothing.
    source: tokio::sync::Mutex<Receiver<SupervisionEvent>>,
    waiting: Mutex<VecDeque<(i64, EventRecord)>>,
    next_seq: AtomicI64,
    lost: AtomicU64,
    poked: AtomicBool,
    address: Address<HistoryMsg>,
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History").field("waiting", &self.len()).finish_non_exhaustive()
    }
}

impl History {
    /// Takes events of `system` from now on; made before the tree is started, so that none is missed.
    pub fn new(db: Database, identity: Arc<Identity>, system: &System) -> Self {
        Self(Arc::new(Shared {
            db,
            identity,
            source: tokio::sync::Mutex::new(system.warnings()),
            waiting: Mutex::default(),
            next_seq: AtomicI64::new(1),
            lost: AtomicU64::new(0),
            poked: AtomicBool::new(false),
            address: Address::new("history", HISTORY_MAILBOX_MAX),
        }))
    }

    /// The child that writes them.
    pub fn child(&self) -> ChildSpec {
        let history = self.clone();
        ChildSpec::actor::<Historian>("history", &self.0.address, move || history.clone())
            .shutdown(Shutdown::Timeout(STOP_FLUSH_LIMIT + Duration::from_secs(1)))
    }

    /// Keeps that this instance stopped its jobs, and why.
    pub fn fenced(&self, reason: &str) {
        self.push(EventRecord::fenced(reason, Utc::now()));
        self.poke();
    }

    /// Keeps an order that an operator gave about what stands at `path`.
    pub fn ordered(&self, order: &str, path: &str, by: &str, why: Option<&str>) {
        self.push(EventRecord::ordered(order, path, (by, why), Utc::now()));
        self.poke();
    }

    /// Events that are not written yet.
    pub fn len(&self) -> usize {
        self.waiting().len()
    }

    /// Whether everything is written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes all that came and still waits, at the end of a node whose tree is down. Says in the log what could not be
    /// written within `limit`.
    pub async fn finish(&self, limit: Duration) {
        let rest = async {
            // The task of the actor, which was aborted, may still hold it for a moment.
            self.drain(&mut *self.0.source.lock().await);
            self.flush().await
        };
        let left = match tokio::time::timeout(limit, rest).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the database did not answer in time".to_owned(),
        };
        tracing::warn!(target: "instance", error = left, events = self.len(), "supervision events are not kept");
    }

    /// Writes all that waits.
    ///
    /// Cancel safety: what was written may be written again, which changes nothing; nothing is lost.
    async fn flush(&self) -> Result<(), DbError> {
        loop {
            let batch: Vec<_> = self.waiting().iter().take(EVENTS_BATCH_MAX).cloned().collect();
            if batch.is_empty() {
                match self.0.lost.swap(0, Ordering::AcqRel) {
                    0 => return Ok(()),
                    lost => self.push(EventRecord::lost(lost, PATH, Utc::now())),
                }
                continue;
            }
            match self.write(&batch).await {
                Ok(()) => self.written(&batch),
                Err(error) if error.is_transient() => return Err(error),
                Err(_) => self.write_one_by_one(&batch).await?,
            }
        }
    }

    /// After the database refused a batch: writes what it accepts and counts the rest as lost.
    async fn write_one_by_one(&self, batch: &[(i64, EventRecord)]) -> Result<(), DbError> {
        for record in batch.chunks(1) {
            match self.write(record).await {
                Ok(()) => {}
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => {
                    tracing::error!(target: "instance", %error, "a supervision event was refused by the database");
                    // A count that is refused cannot be told there.
                    let count = record.iter().filter(|(_, record)| record.event != super::event_record::LOST).count();
                    self.0.lost.fetch_add(count as u64, Ordering::AcqRel);
                }
            }
            self.written(record);
        }
        Ok(())
    }

    async fn write(&self, batch: &[(i64, EventRecord)]) -> Result<(), DbError> {
        let identity = &self.0.identity;
        events::store(&self.0.db, &identity.instance_id, identity.incarnation, batch).await
    }

    /// Some may have been pushed out meanwhile, so they are found by their numbers.
    fn written(&self, batch: &[(i64, EventRecord)]) {
        if let Some((last, _)) = batch.last() {
            self.waiting().retain(|(seq, _)| seq > last);
        }
    }

    fn drain(&self, source: &mut Receiver<SupervisionEvent>) {
        loop {
            match source.try_recv() {
                Ok(event) => drop(self.take(&event)),
                Err(TryRecvError::Lagged(count)) => drop(self.0.lost.fetch_add(count, Ordering::AcqRel)),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    /// Puts an event into the list, if it is one to keep.
    fn take(&self, event: &SupervisionEvent) -> bool {
        let Some(record) = EventRecord::of(event) else { return false };
        self.push(record);
        true
    }

    fn push(&self, record: EventRecord) {
        let mut waiting = self.waiting();
        while waiting.len() >= EVENTS_WAITING_MAX {
            let lost = waiting.pop_front().map_or(0, |(_, record)| record.events);
            self.0.lost.fetch_add(lost, Ordering::AcqRel);
        }
        let seq = self.0.next_seq.fetch_add(1, Ordering::Relaxed);
        waiting.push_back((seq, record));
    }

    fn poke(&self) {
        if !self.0.poked.swap(true, Ordering::AcqRel) && self.0.address.cast(HistoryMsg::Flush).is_err() {
            // Not running: it flushes when it starts.
            self.0.poked.store(false, Ordering::Release);
        }
    }

    /// Takes events until their source is gone.
    async fn listen(self) {
        let mut source = self.0.source.lock().await;
        loop {
            match source.recv().await {
                Ok(event) => {
                    if self.take(&event) {
                        self.poke();
                    }
                }
                Err(RecvError::Lagged(count)) => {
                    self.0.lost.fetch_add(count, Ordering::AcqRel);
                    self.poke();
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<(i64, EventRecord)>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The actor. It owns the task that takes events.
#[derive(Debug)]
pub struct Historian {
    history: History,
    task: JoinHandle<()>,
    retry: Option<Timer>,
    forget: Timer,
    failing: bool,
}

/// What the actor is told.
#[derive(Debug)]
pub enum HistoryMsg {
    /// Events are waiting.
    Flush,
    /// Old events are to be deleted.
    Forget,
}

impl Actor for Historian {
    type Msg = HistoryMsg;
    type Args = History;

    async fn init(ctx: &Ctx<HistoryMsg>, history: History) -> Result<Self, ActorError> {
        #[expect(clippy::disallowed_methods, reason = "the actor aborts it when it is dropped")]
        let task = tokio::spawn(history.clone().listen());
        // What a former incarnation left.
        let retry = Some(ctx.send_after(Duration::ZERO, HistoryMsg::Flush));
        let forget = ctx.send_after(Duration::ZERO, HistoryMsg::Forget);
        Ok(Self { history, task, retry, forget, failing: false })
    }

    async fn handle(&mut self, ctx: &Ctx<HistoryMsg>, msg: HistoryMsg) -> Result<Flow, ActorError> {
        if matches!(msg, HistoryMsg::Forget) {
            if let Err(error) = events::forget_old(&self.history.0.db).await {
                tracing::debug!(target: "instance", %error, "old supervision events stay");
            }
            self.forget = ctx.send_after(FORGET_EVERY, HistoryMsg::Forget);
            return Ok(Flow::Continue);
        }
        self.history.0.poked.store(false, Ordering::Release);
        match self.history.flush().await {
            Ok(()) => {
                ctx.probe().remove_label("waiting");
                self.failing = false;
            }
            Err(error) => {
                let waiting = self.history.len();
                ctx.probe().set_label("waiting", waiting.to_string());
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(target: "instance", %error, waiting, "supervision events wait to be written");
                }
                self.retry = Some(ctx.send_after(RETRY_AFTER, HistoryMsg::Flush));
            }
        }
        Ok(Flow::Continue)
    }

    async fn stopped(&mut self, _ctx: &Ctx<HistoryMsg>, _reason: &ExitReason) {
        // What is not written here waits for the next incarnation, or for the node's end.
        drop(tokio::time::timeout(STOP_FLUSH_LIMIT, self.history.flush()).await);
    }

    fn message_kind(msg: &HistoryMsg) -> &'static str {
        match msg {
            HistoryMsg::Flush => "flush",
            HistoryMsg::Forget => "forget",
        }
    }
}

impl Drop for Historian {
    fn drop(&mut self) {
        self.task.abort();
    }
}
