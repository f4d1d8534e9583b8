//! Forgets what has an end: single results and aggregates, messages that were put aside, and the queues of instances
//! that are gone. What was learned from them stays: sums, patterns, learnings.

use std::time::Duration;

use crate::cloud::store::retention::{Keep, Store};
use crate::postgres::DbError;
use crate::supervision::{Actor, ActorError, Address, ChildSpec, Ctx, Flow, Timer};

/// Mailbox of the actor; only its own timer writes to it.
const RETENTION_MAILBOX_MAX: usize = 4;

/// Time between two rounds.
const INTERVAL: Duration = Duration::from_secs(600);

/// What the actor works with.
#[derive(Debug, Clone)]
pub struct RetentionArgs {
    /// Statements.
    pub store: Store,
    /// How long what is kept.
    pub keep: Keep,
}

/// The actor.
#[derive(Debug)]
pub struct Retention {
    args: RetentionArgs,
    timer: Timer,
}

/// Its only message.
#[derive(Debug)]
pub struct Forget;

impl Retention {
    /// The child that forgets.
    pub fn child(args: RetentionArgs) -> ChildSpec {
        let address = Address::new("retention", RETENTION_MAILBOX_MAX);
        ChildSpec::actor::<Self>("retention", &address, move || args.clone())
    }

    async fn round(&self) -> Result<(), DbError> {
        let forgotten = self.args.store.forget(&self.args.keep).await?;
        let dropped = self.args.store.drop_idle_queues().await?;
        if forgotten + dropped > 0 {
            tracing::debug!(target: "cloud", forgotten, dropped, "old reports and queues forgotten");
        }
        Ok(())
    }
}

impl Actor for Retention {
    type Msg = Forget;
    type Args = RetentionArgs;

    async fn init(ctx: &Ctx<Forget>, args: RetentionArgs) -> Result<Self, ActorError> {
        Ok(Self { args, timer: ctx.send_after(INTERVAL, Forget) })
    }

    async fn handle(&mut self, ctx: &Ctx<Forget>, _msg: Forget) -> Result<Flow, ActorError> {
        if let Err(error) = self.round().await {
            tracing::warn!(target: "cloud", %error, "old reports were not forgotten; they will be");
        }
        self.timer = ctx.send_after(INTERVAL, Forget);
        Ok(Flow::Continue)
    }

    fn message_kind(_msg: &Forget) -> &'static str {
        "forget"
    }
}
