//! Answers questions and carries out orders that come through the database: no port is needed, and they work from
//! wherever the database is reached.
//!
//! A client inserts a row into `control_requests` and sends a notice (`ask.rs`); the instance takes the row, writes the
//! answer into it and sends a notice back. A row is taken once: an order is not carried out again when the actor is
//! restarted in the middle of it. Rows stay for an hour, as a record of who asked what.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::error::Coded;
use crate::postgres::{Database, DbError, Lane};
use crate::supervision::{Actor, ActorError, Address, ChildSpec, Ctx, ExitReason, Flow, Timer};

/// Channel of both notices, before the schema's prefix is put to it.
pub const CONTROL_CHANNEL: &str = "control";
/// Requests answered at a time; the others wait in the table.
const REQUESTS_MAX: usize = 20;
/// Mailbox of the control actor; notices are merged.
const CONTROL_MAILBOX_MAX: usize = 16;
/// Look at the table behind the notices, which can be lost. While nothing is heard at all, whoever listens asks for a
/// look each second; this one is for the single notice that was lost.
const POLL: Duration = Duration::from_secs(5);
/// Looks between two clean-ups of old rows.
const CLEAN_EVERY_POLLS: u32 = 120;

/// What somebody asks of this instance.
#[derive(Debug, Clone)]
pub struct Request {
    /// What is asked for, for example `tree`.
    pub action: String,
    /// With what; not checked yet.
    pub body: Value,
    /// Who asks.
    pub by: String,
}

/// Why a request is not answered as it was meant; part of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What kind of refusal it is.
    pub kind: RefusalKind,
    /// Stable code.
    pub code: String,
    /// What is wrong.
    pub text: String,
    /// What to try.
    pub hint: Option<String>,
}

/// Kinds of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// The request cannot be understood; nothing was done.
    Invalid,
    /// What it is about is not there; nothing was done.
    NotFound,
    /// It took too long, and may still be done.
    TimedOut,
    /// It was begun and failed.
    Failed,
    /// Not in the present state; nothing was done.
    #[serde(other)]
    Refused,
}

impl Refusal {
    /// A refusal for this error.
    pub fn new(kind: RefusalKind, error: &impl Coded) -> Self {
        Self { kind, code: error.code().to_owned(), text: error.to_string(), hint: error.hint() }
    }
}

/// Answers requests. Runs beside the actor, so it may take long; at most 20 run at a time.
pub type Answer = Arc<dyn Fn(Request) -> BoxFuture<'static, Result<Value, Refusal>> + Send + Sync>;

/// The actor.
pub struct Control {
    db: Database,
    /// For its own statements: who asks why nothing moves must be answered when jobs keep the whole pool.
    lane: Lane,
    instance_id: Arc<str>,
    answer: Answer,
    /// Requests that are being answered; they end with the actor.
    answering: JoinSet<()>,
    timer: Timer,
    polls: u32,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("instance_id", &self.instance_id).finish_non_exhaustive()
    }
}

/// What the control actor is told.
#[derive(Debug)]
pub enum ControlMsg {
    /// A notice arrived, or one may have been lost, or a request was answered.
    Look,
    /// The poll is due.
    Poll,
}

impl Control {
    /// Where notices are sent to.
    pub fn address() -> Address<ControlMsg> {
        Address::new("control", CONTROL_MAILBOX_MAX)
    }

    /// The child that answers for `instance_id`.
    pub fn child(db: Database, instance_id: Arc<str>, address: &Address<ControlMsg>, answer: Answer) -> ChildSpec {
        ChildSpec::actor::<Self>("control", address, move || {
            (db.clone(), Arc::clone(&instance_id), Arc::clone(&answer))
        })
    }

    /// Takes as many requests as may be answered now.
    async fn take(&mut self, ctx: &Ctx<ControlMsg>) -> Result<(), DbError> {
        while self.answering.try_join_next().is_some() {}
        let free = REQUESTS_MAX.saturating_sub(self.answering.len());
        if free == 0 {
            return Ok(());
        }
        let taken = sqlx::query!(
            "UPDATE control_requests SET taken_at = clock_timestamp() WHERE id IN (
               SELECT id FROM control_requests
               WHERE instance_id = $1 AND taken_at IS NULL AND answered_at IS NULL
                 AND requested_at > now() - interval '1 minute'
               ORDER BY requested_at LIMIT $2 FOR UPDATE SKIP LOCKED
             )
             RETURNING id, action, body, requested_by",
            &*self.instance_id,
            i64::try_from(free).unwrap_or(i64::MAX),
        )
        .fetch_all(&self.lane)
        .await?;
        for row in taken {
            let request = Request { action: row.action, body: row.body, by: row.requested_by };
            let (answer, lane, address) = ((self.answer)(request), self.lane.clone(), ctx.address().clone());
            let channel = self.db.channel(CONTROL_CHANNEL);
            self.answering.spawn(async move {
                let answer = answer.await.unwrap_or_else(|refusal| json!({ "error": refusal }));
                if let Err(error) = store(&lane, &channel, row.id, storable(answer)).await {
                    tracing::warn!(target: "instance", %error, "an answer was not stored");
                    // Whoever asked hears that there is none, or sees that none came, and may ask again.
                    let refusal = json!({ "error": Refusal::new(RefusalKind::Failed, &error) });
                    drop(store(&lane, &channel, row.id, storable(refusal)).await);
                }
                // More may wait. Refused only when a look is due anyway.
                drop(address.cast(ControlMsg::Look));
            });
        }
        Ok(())
    }

    async fn clean(&self) -> Result<(), DbError> {
        sqlx::query!("DELETE FROM control_requests WHERE requested_at < now() - interval '1 hour'")
            .execute(&self.db)
            .await?;
        Ok(())
    }
}

async fn store(lane: &Lane, channel: &str, id: Uuid, answer: Value) -> Result<(), DbError> {
    sqlx::query!(
        "WITH answered AS (
           UPDATE control_requests SET answer = $2, answered_at = now() WHERE id = $1 AND answered_at IS NULL RETURNING id
         )
         SELECT pg_notify($3, json_build_object('answered', id)::text) FROM answered",
        id,
        answer,
        channel,
    )
    .fetch_optional(lane)
    .await?;
    Ok(())
}

/// The answer without the one character that PostgreSQL's jsonb refuses: jobs show whatever text they like.
fn storable(answer: Value) -> Value {
    let clean = |text: String| if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text };
    match answer {
        Value::String(text) => Value::String(clean(text)),
        Value::Array(items) => items.into_iter().map(storable).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (clean(name), storable(value))).collect(),
        other => other,
    }
}

impl Actor for Control {
    type Msg = ControlMsg;
    type Args = (Database, Arc<str>, Answer);

    async fn init(ctx: &Ctx<ControlMsg>, (db, instance_id, answer): Self::Args) -> Result<Self, ActorError> {
        let timer = ctx.send_after(POLL, ControlMsg::Poll);
        Ok(Self { lane: Lane::new(db.clone()), db, instance_id, answer, answering: JoinSet::new(), timer, polls: 0 })
    }

    async fn handle(&mut self, ctx: &Ctx<ControlMsg>, msg: ControlMsg) -> Result<Flow, ActorError> {
        if let Err(error) = self.take(ctx).await {
            // The registry reports a database that is away; the client sees that no answer came.
            tracing::debug!(target: "instance", %error, "requests wait");
        }
        if matches!(msg, ControlMsg::Poll) {
            self.polls = self.polls.wrapping_add(1);
            if self.polls.is_multiple_of(CLEAN_EVERY_POLLS)
                && let Err(error) = self.clean().await
            {
                tracing::debug!(target: "instance", %error, "old requests stay");
            }
            self.timer = ctx.send_after(POLL, ControlMsg::Poll);
        }
        Ok(Flow::Continue)
    }

    async fn stopped(&mut self, _ctx: &Ctx<ControlMsg>, _reason: &ExitReason) {
        while self.answering.try_join_next().is_some() {}
        if !self.answering.is_empty() {
            let requests = self.answering.len();
            tracing::warn!(target: "instance", requests, "requests stay unanswered; orders that were given stand");
        }
    }

    fn message_kind(msg: &ControlMsg) -> &'static str {
        match msg {
            ControlMsg::Look => "look",
            ControlMsg::Poll => "poll",
        }
    }
}
