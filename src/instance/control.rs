//! Questions to a live instance, through the database: no port is needed, and they work from wherever the database is
//! reached.
//!
//! A client inserts a row into `control_requests` and sends a notice; the instance writes the answer into the row and
//! sends a notice back. Rows stay for an hour, as a record of who asked what.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use super::error::InstanceError;
use crate::postgres::{Database, DbError};
use crate::supervision::{Actor, ActorError, Address, ChildSpec, Ctx, Flow, Timer};

/// Channel of both notices, before the schema's prefix is put to it.
pub const CONTROL_CHANNEL: &str = "control";
/// Questions answered at a time.
const REQUESTS_MAX: i64 = 20;
/// Mailbox of the control actor; notices are merged.
const CONTROL_MAILBOX_MAX: usize = 16;
/// Look at the table behind the notices, which can be lost.
const POLL: Duration = Duration::from_secs(1);
/// How often a client looks for its answer.
const CLIENT_POLL: Duration = Duration::from_millis(50);
/// Looks between two clean-ups of old rows.
const CLEAN_EVERY_POLLS: u32 = 600;

/// Answers questions: action and body in, answer out.
pub type Answer = Arc<dyn Fn(&str, &Value) -> Value + Send + Sync>;

/// The actor.
pub struct Control {
    db: Database,
    instance_id: Arc<str>,
    answer: Answer,
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
    /// A notice arrived, or one may have been lost.
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

    async fn answer_all(&self) -> Result<(), DbError> {
        let requests = sqlx::query!(
            "SELECT id, action, body FROM control_requests
             WHERE instance_id = $1 AND answered_at IS NULL AND requested_at > now() - interval '1 minute'
             ORDER BY requested_at LIMIT $2",
            &*self.instance_id,
            REQUESTS_MAX,
        )
        .fetch_all(&self.db)
        .await?;
        for request in requests {
            let answer = (self.answer)(&request.action, &request.body);
            sqlx::query!(
                "WITH answered AS (
                   UPDATE control_requests SET answer = $2, answered_at = now() WHERE id = $1 AND answered_at IS NULL RETURNING id
                 )
                 SELECT pg_notify($3, json_build_object('answered', id)::text) FROM answered",
                request.id,
                answer,
                self.db.channel(CONTROL_CHANNEL),
            )
            .fetch_optional(&self.db)
            .await?;
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

impl Actor for Control {
    type Msg = ControlMsg;
    type Args = (Database, Arc<str>, Answer);

    async fn init(ctx: &Ctx<ControlMsg>, (db, instance_id, answer): Self::Args) -> Result<Self, ActorError> {
        Ok(Self { db, instance_id, answer, timer: ctx.send_after(POLL, ControlMsg::Poll), polls: 0 })
    }

    async fn handle(&mut self, ctx: &Ctx<ControlMsg>, msg: ControlMsg) -> Result<Flow, ActorError> {
        if let Err(error) = self.answer_all().await {
            // The registry reports a database that is away; the client sees that no answer came.
            tracing::debug!(target: "instance", %error, "questions wait");
        }
        if matches!(msg, ControlMsg::Poll) {
            self.polls = self.polls.wrapping_add(1);
            if self.polls.is_multiple_of(CLEAN_EVERY_POLLS)
                && let Err(error) = self.clean().await
            {
                tracing::debug!(target: "instance", %error, "old questions stay");
            }
            self.timer = ctx.send_after(POLL, ControlMsg::Poll);
        }
        Ok(Flow::Continue)
    }

    fn message_kind(msg: &ControlMsg) -> &'static str {
        match msg {
            ControlMsg::Look => "look",
            ControlMsg::Poll => "poll",
        }
    }
}

/// Asks `instance_id` and waits for its answer.
///
/// Cancel safety: the question stays in the table and may still be answered; asking again is harmless.
///
/// # Errors
/// [`InstanceError::NoAnswer`] after `limit`, [`InstanceError::Db`].
pub async fn ask(
    db: &Database,
    instance_id: &str,
    action: &str,
    body: &Value,
    requested_by: &str,
    limit: Duration,
) -> Result<Value, InstanceError> {
    let id = Uuid::now_v7();
    sqlx::query!(
        "WITH asked AS (
           INSERT INTO control_requests (id, instance_id, action, body, requested_by) VALUES ($1, $2, $3, $4, $5) RETURNING instance_id
         )
         SELECT pg_notify($6, json_build_object('instance', instance_id)::text) FROM asked",
        id,
        instance_id,
        action,
        body,
        requested_by,
        db.channel(CONTROL_CHANNEL),
    )
    .fetch_one(db)
    .await?;
    let answered = async {
        loop {
            let answer = sqlx::query_scalar!(
                "SELECT answer FROM control_requests WHERE id = $1 AND answered_at IS NOT NULL",
                id
            )
            .fetch_optional(db)
            .await?;
            if let Some(answer) = answer {
                return Ok::<_, InstanceError>(answer.unwrap_or(Value::Null));
            }
            tokio::time::sleep(CLIENT_POLL).await;
        }
    };
    match tokio::time::timeout(limit, answered).await {
        Ok(answer) => answer,
        Err(_) => Err(InstanceError::NoAnswer { instance_id: instance_id.to_owned(), limit_ms: limit.as_millis() }),
    }
}
