//! Learnings come down: the actor that follows the log of learnings for this instance and keeps the policy that its
//! jobs are routed by.
//!
//! The log is the truth, and a cursor in the database says how far this instance has followed it; so it makes no
//! difference when it starts, how long it was away, or how often it hears of the same learning. Its queue and the
//! notices of the log only say when to look. What it holds is made from the database whenever something may have
//! changed, so that a crash between any two statements leaves nothing that another start would not make good.

mod fold;
mod verdict;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::learning::{Benchmark, CostOptimization, Learning, PatternDiscovery};
use super::store::pgmq::{self, Message};
use super::store::sync::SyncStore;
use crate::config::Config;
use crate::instance::{Setting, Settings};
use crate::postgres::{Database, DbError};
use crate::routing::{Line, LivePolicy, Orders, Policy, table};
use crate::supervision::{Actor, ActorError, Address, ChildSpec, Ctx, Flow, Reply, Timer};
use crate::workflow::LLM_REQUEST;

pub use fold::{Learned, Said};
pub use verdict::{BY_CONFIGURATION, Decision, State, Verdict, decision_key, verdict};

/// Channel on which the log tells of new learnings, before the schema's prefix is put to it. A trigger of the table
/// tells, so it makes no difference who publishes and how.
pub const LEARNING_CHANNEL: &str = "learning";
/// Mailbox of the actor: its timer, notices, and whoever asks.
const SYNC_MAILBOX_MAX: usize = 64;
/// Messages that are read from the queue at a time.
const MESSAGES_MAX: i32 = 100;
/// How long others, that is an earlier process of this name, do not see what was read.
const MESSAGES_HIDDEN: Duration = Duration::from_secs(5);
/// Time between two looks for instances that will not come back.
const FORGET_EVERY: Duration = Duration::from_secs(600);

/// What the actor works with.
#[derive(Clone)]
pub struct SyncArgs {
    /// The log, and settings.
    pub db: Database,
    /// Whose place in the log.
    pub instance_id: Arc<str>,
    /// Models and routes.
    pub config: Arc<Config>,
    /// What breakers say.
    pub is_held_back: IsHeldBack,
    /// What jobs are routed by.
    pub live: LivePolicy,
}

impl fmt::Debug for SyncArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncArgs").field("instance_id", &self.instance_id).finish_non_exhaustive()
    }
}

/// Whether calls of a model are held back at this moment.
pub type IsHeldBack = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// What an instance holds, as it tells when it is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Holding {
    /// The learning up to which it has followed the log.
    pub cursor: i64,
    /// Number of the latest learning among its rules of routing; 0 for none.
    pub policy_version: i64,
    /// What was learned does not count, by a person's order.
    pub learning_off: bool,
    /// Which model serves how much of what.
    pub table: Vec<Line>,
    /// What was measured, by CentralCloud.
    pub benchmarks: Vec<Benchmark>,
    /// What is proven about costs.
    pub claims: Vec<Said<CostOptimization>>,
    /// Patterns that succeed.
    pub patterns: Vec<Said<PatternDiscovery>>,
    /// Orders that cannot be used, in words.
    pub unusable: Vec<String>,
}

impl Holding {
    /// What `learned` and `policy` come to at `now`.
    pub fn new(
        config: &Config,
        (learned, policy, now): (&Learned, &Policy, DateTime<Utc>),
        is_held_back: &dyn Fn(&str) -> bool,
    ) -> Self {
        Self {
            cursor: learned.version(),
            policy_version: policy.version(),
            learning_off: policy.orders.learning_off,
            table: table(config, policy, LLM_REQUEST, is_held_back),
            benchmarks: learned.benchmarks(now).cloned().collect(),
            claims: learned.claims(now).map(Said::cloned).collect(),
            patterns: learned.patterns(now).map(Said::cloned).collect(),
            unusable: Vec::new(),
        }
    }
}

/// The policy of an instance as the database has it: what it applied, and the orders that hold. Also what of the orders
/// cannot be used.
///
/// # Errors
/// [`DbError`].
pub async fn policy_of(db: &Database, instance_id: &str) -> Result<(Policy, Vec<String>), DbError> {
    let (learned, settings) = held_by(db, instance_id).await?;
    let now = db.server_now().await?;
    let (orders, unusable) = orders(&settings);
    Ok((learned.policy(orders, now), unusable))
}

/// What an instance applied, and all settings that it goes by.
///
/// # Errors
/// [`DbError`].
pub async fn held_by(db: &Database, instance_id: &str) -> Result<(Learned, Vec<Setting>), DbError> {
    let mut learned = Learned::default();
    for learning in SyncStore::new(db.clone()).applied(instance_id).await? {
        let id = learning.id;
        if let Err(error) = learned.take(learning) {
            // A later version of the program applied it, and this one is back.
            tracing::warn!(target: "cloud", learning = id, %error, "an applied learning cannot be read here");
        }
    }
    Ok((learned, Settings::new(db.clone()).in_force(Some(instance_id)).await?))
}

fn orders(settings: &[Setting]) -> (Orders, Vec<String>) {
    Orders::read(settings.iter().map(|setting| (setting.key.as_str(), &setting.value)))
}

/// The actor.
#[derive(Debug)]
pub struct LearningSync {
    args: SyncArgs,
    store: SyncStore,
    /// Its queue, once it has one.
    queue: Option<String>,
    forgot_at: Instant,
    cursor: i64,
    learned: Learned,
    /// The database's clock when that was made.
    now: DateTime<Utc>,
    unusable: Vec<String>,
    timer: Timer,
    failing: bool,
}

/// What the actor is told.
#[derive(Debug)]
pub enum SyncMsg {
    /// Something was published, or a notice may have been lost.
    Look,
    /// The poll is due.
    Poll,
    /// Somebody has decided or ordered something and waits until it holds, or asks what does.
    Ask(Reply<Result<Holding, String>>),
}

impl LearningSync {
    /// Where it listens.
    pub fn address() -> Address<SyncMsg> {
        Address::new("learning_sync", SYNC_MAILBOX_MAX)
    }

    /// The child that follows the log.
    pub fn child(args: SyncArgs, address: &Address<SyncMsg>) -> ChildSpec {
        ChildSpec::actor::<Self>("learning_sync", address, move || args.clone())
    }

    /// Follows the log to its end, empties the queue, and brings what is held up to date.
    async fn sync(&mut self) -> Result<(), DbError> {
        let queue = match &self.queue {
            Some(queue) => queue.clone(),
            None => self.begin().await?,
        };
        self.follow().await?;
        match self.read(&queue).await {
            Ok(()) => {}
            // Somebody took this instance for gone.
            Err(error) if is_no_table(&error) => self.queue = None,
            Err(error) => return Err(error),
        }
        self.refresh().await?;
        if self.forgot_at.elapsed() >= FORGET_EVERY {
            self.forgot_at = Instant::now();
            self.forget().await?;
        }
        Ok(())
    }

    /// Joins, and looks again at what an earlier version of this program did not know.
    async fn begin(&mut self) -> Result<String, DbError> {
        let (instance_id, apply) = (&*self.args.instance_id, self.args.config.cloud.apply);
        let queue = self.store.join(instance_id).await?;
        let unknown = self.store.unknown(instance_id).await?;
        for learning in unknown {
            let now = self.args.db.server_now().await?;
            let verdict = verdict(&learning, apply, None, now);
            if verdict.state != State::Unknown {
                self.store.reconsider(instance_id, learning.id, &verdict).await?;
                say(&learning, &verdict);
            }
        }
        self.queue = Some(queue.clone());
        Ok(queue)
    }

    /// One learning after the other, each in a transaction of its own.
    async fn follow(&mut self) -> Result<(), DbError> {
        let (instance_id, apply) = (Arc::clone(&self.args.instance_id), self.args.config.cloud.apply);
        let judge = |learning: &Learning, decision: Option<&Decision>, now| verdict(learning, apply, decision, now);
        while let Some((learning, verdict)) = self.store.advance(&instance_id, judge).await? {
            self.cursor = learning.id;
            say(&learning, &verdict);
        }
        Ok(())
    }

    /// What the queue says is in the log already, or was never published: the one is deleted, the other put aside.
    async fn read(&mut self, queue: &str) -> Result<(), DbError> {
        loop {
            let messages = pgmq::read(&self.args.db, queue, MESSAGES_HIDDEN, MESSAGES_MAX).await?;
            if messages.is_empty() {
                return Ok(());
            }
            // Published after the log was followed, and so in it now.
            self.follow().await?;
            let cursor = self.store.standing(&self.args.instance_id).await?.cursor.unwrap_or(0);
            let mut known = Vec::new();
            for message in &messages {
                match unusable(message, cursor) {
                    None => known.push(message.msg_id),
                    Some(reason) => self.put_aside(queue, message, &reason).await?,
                }
            }
            pgmq::delete(&self.args.db, queue, &known).await?;
        }
    }

    async fn put_aside(&self, queue: &str, message: &Message, reason: &str) -> Result<(), DbError> {
        if pgmq::put_aside(&self.args.db, queue, message, reason).await? {
            tracing::warn!(target: "cloud", queue, message = message.msg_id, reason, "a message is put aside");
        }
        Ok(())
    }

    /// Makes what is held anew if anything was decided, ordered or has expired since.
    async fn refresh(&mut self) -> Result<(), DbError> {
        let standing = self.store.standing(&self.args.instance_id).await?;
        let Some(cursor) = standing.cursor else {
            self.queue = None;
            return Ok(());
        };
        self.cursor = cursor;
        let (learned, settings) = held_by(&self.args.db, &self.args.instance_id).await?;
        let (orders, unusable) = orders(&settings);
        let policy = learned.policy(orders, standing.now);
        if unusable != self.unusable {
            for setting in &unusable {
                tracing::warn!(target: "cloud", setting, "an order about routing cannot be used");
            }
            self.unusable = unusable;
        }
        (self.learned, self.now) = (learned, standing.now);
        if policy != *self.args.live.current() {
            let (version, rules) = (policy.version(), policy.rules().len());
            self.args.live.replace(policy);
            tracing::info!(target: "cloud", version, rules, cursor, "the policy of routing has changed");
        }
        Ok(())
    }

    fn holding(&self, policy: &Policy) -> Holding {
        let held = Holding::new(&self.args.config, (&self.learned, policy, self.now), &*self.args.is_held_back);
        Holding { cursor: self.cursor, unusable: self.unusable.clone(), ..held }
    }

    /// Drops the queues of instances that will not come back.
    async fn forget(&self) -> Result<(), DbError> {
        let after_ms = i64::try_from(self.args.config.cloud.forget_after.get().as_millis()).unwrap_or(i64::MAX);
        for instance_id in self.store.long_gone(after_ms).await? {
            if self.store.leave(&instance_id).await? {
                tracing::info!(target: "cloud", instance = instance_id, "a long-gone instance has no queue any more");
            }
        }
        Ok(())
    }
}

/// Why a message of the queue cannot be what was published, when everything up to `cursor` has been followed.
fn unusable(message: &Message, cursor: i64) -> Option<String> {
    let Some(body) = &message.body else { return Some("the message is empty".into()) };
    let value = match serde_json::from_str(body) {
        Ok(value) => value,
        Err(error) => return Some(format!("the message is not JSON: {error}")),
    };
    match Learning::from_message(&value) {
        Ok(learning) if learning.id > cursor => Some(format!("there is no learning {} in the log", learning.id)),
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    }
}

fn is_no_table(error: &DbError) -> bool {
    error.sqlstate().as_deref() == Some("42P01")
}

fn say(learning: &Learning, verdict: &Verdict) {
    let Learning { id, kind, key, summary, .. } = learning;
    let state = verdict.state.as_str();
    match verdict.state {
        State::Unknown | State::Invalid => {
            let reason = verdict.reason.as_deref();
            tracing::warn!(target: "cloud", learning = id, kind, key, state, reason, "a learning cannot be applied");
        }
        _ => tracing::info!(target: "cloud", learning = id, kind, key, state, summary, "learning"),
    }
}

impl Actor for LearningSync {
    type Msg = SyncMsg;
    type Args = SyncArgs;

    async fn init(ctx: &Ctx<SyncMsg>, args: SyncArgs) -> Result<Self, ActorError> {
        Ok(Self {
            store: SyncStore::new(args.db.clone()),
            args,
            queue: None,
            cursor: 0,
            learned: Learned::default(),
            now: DateTime::UNIX_EPOCH,
            unusable: Vec::new(),
            forgot_at: Instant::now(),
            timer: ctx.send_after(Duration::ZERO, SyncMsg::Poll),
            failing: false,
        })
    }

    async fn handle(&mut self, ctx: &Ctx<SyncMsg>, msg: SyncMsg) -> Result<Flow, ActorError> {
        let synced = self.sync().await;
        match &synced {
            Ok(()) => self.failing = false,
            // The registry reports a database that is away.
            Err(error) if error.is_unavailable() => {
                tracing::debug!(target: "cloud", %error, "learnings are looked at later")
            }
            Err(error) if !std::mem::replace(&mut self.failing, true) => {
                tracing::warn!(target: "cloud", %error, "the log of learnings cannot be followed");
            }
            Err(_) => {}
        }
        let policy = self.args.live.current();
        ctx.probe().set_label("cursor", self.cursor.to_string());
        ctx.probe().set_label("policy", policy.version().to_string());
        match msg {
            SyncMsg::Ask(reply) => {
                reply.send(synced.map(|()| self.holding(&policy)).map_err(|error| error.to_string()))
            }
            SyncMsg::Poll => self.timer = ctx.send_after(self.args.config.cloud.sync_interval.get(), SyncMsg::Poll),
            SyncMsg::Look => {}
        }
        Ok(Flow::Continue)
    }

    fn message_kind(msg: &SyncMsg) -> &'static str {
        match msg {
            SyncMsg::Look => "look",
            SyncMsg::Poll => "poll",
            SyncMsg::Ask(_) => "ask",
        }
    }
}
