//! Reads the queues of reports and stores what they say.
//!
//! Any number of instances may do this at once: each message counts once. One that cannot be used, for its shape or
//! because the database refuses what it says, goes to the dead letters of its queue with the reason, and stops nothing.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cloud::record::Records;
use crate::cloud::report::Report;
use crate::cloud::store::ingest::{Intake, Mail};
use crate::cloud::store::pgmq::Message;
use crate::postgres::DbError;
use crate::supervision::{Actor, ActorError, Address, ChildSpec, Ctx, Flow, Timer};

/// Mailbox of the actor; only its own timer writes to it.
const INGEST_MAILBOX_MAX: usize = 4;

/// Reads after which a message is put aside: whoever read it so often did not live to say what is wrong with it.
pub const READS_MAX: i32 = 20;

/// Looks in one round, so that the actor hears its supervisor also while there is always more.
const LOOKS_MAX: usize = 50;

/// What the actor works with.
#[derive(Debug, Clone)]
pub struct IngestArgs {
    /// Statements.
    pub intake: Intake,
    /// Time between two looks, when there was nothing.
    pub interval: Duration,
}

/// The actor.
#[derive(Debug)]
pub struct Ingest {
    clerk: Clerk,
    interval: Duration,
    timer: Timer,
    failing: bool,
}

/// Who reads and stores.
#[derive(Debug)]
struct Clerk {
    intake: Intake,
    taken: Taken,
}

/// What was taken in since the actor was started.
#[derive(Debug, Default)]
struct Taken {
    results: u64,
    reports: u64,
    repeated: u64,
    dead: u64,
}

/// Its only message.
#[derive(Debug)]
pub struct Take;

/// Messages that can be used, as what they say.
#[derive(Debug)]
enum Batch {
    Records(Vec<Records>),
    Reports(Vec<Report>, Vec<String>),
}

impl Batch {
    fn of(is_updates: bool) -> Self {
        if is_updates { Self::Reports(Vec::new(), Vec::new()) } else { Self::Records(Vec::new()) }
    }

    /// Adds a message, or says why it cannot be used.
    fn add(&mut self, message: &Message) -> Result<(), String> {
        let body = message.body.as_deref();
        match self {
            Self::Records(parts) => parts.push(Records::parse(body)?),
            Self::Reports(reports, bodies) => {
                reports.push(Report::parse(body)?);
                bodies.push(body.unwrap_or_default().to_owned());
            }
        }
        Ok(())
    }

    /// How many results or reports it has.
    fn size(&self) -> usize {
        match self {
            Self::Records(parts) => parts.iter().map(|part| part.records.len()).sum(),
            Self::Reports(reports, _) => reports.len(),
        }
    }
}

impl Ingest {
    /// The child that takes in reports.
    pub fn child(args: IngestArgs) -> ChildSpec {
        let address = Address::new("ingest", INGEST_MAILBOX_MAX);
        ChildSpec::actor::<Self>("ingest", &address, move || args.clone())
    }

    /// Takes in what there is, without an actor: at the end of a node, whose own last report comes after the actor.
    ///
    /// # Errors
    /// [`DbError`]; what was not taken in stays in the queues.
    pub async fn once(intake: Intake) -> Result<(), DbError> {
        Clerk { intake, taken: Taken::default() }.round().await.map(drop)
    }
}

impl Clerk {
    /// Takes in what there is; `true` when there may be more.
    async fn round(&mut self) -> Result<bool, DbError> {
        for _ in 0..LOOKS_MAX {
            let mail: Mail = self.intake.read().await?;
            if mail.is_empty() {
                return Ok(false);
            }
            for (queue, messages) in mail {
                self.take(&queue, messages).await?;
            }
        }
        Ok(true)
    }

    async fn take(&mut self, queue: &str, messages: Vec<Message>) -> Result<(), DbError> {
        let is_updates = queue == self.intake.updates();
        let (mut batch, mut good) = (Batch::of(is_updates), Vec::new());
        for message in messages {
            let usable = if message.read_ct > READS_MAX {
                Err(format!("it was read {} times and never stored", message.read_ct - 1))
            } else {
                batch.add(&message)
            };
            match usable {
                Ok(()) => good.push(message),
                Err(reason) => self.bury(queue, &message, &reason).await?,
            }
        }
        if good.is_empty() {
            return Ok(());
        }
        match self.store(queue, &good, &batch).await {
            Err(error) if is_about_content(&error) && good.len() > 1 => self.one_by_one(queue, is_updates, good).await,
            Err(error) if is_about_content(&error) => self.bury(queue, &good[0], &error.to_string()).await,
            stored => stored,
        }
    }

    /// The database refused a batch. The message that is to blame is put aside, the others are stored.
    async fn one_by_one(&mut self, queue: &str, is_updates: bool, messages: Vec<Message>) -> Result<(), DbError> {
        for message in messages {
            let mut batch = Batch::of(is_updates);
            if batch.add(&message).is_err() {
                continue;
            }
            match self.store(queue, std::slice::from_ref(&message), &batch).await {
                Err(error) if is_about_content(&error) => self.bury(queue, &message, &error.to_string()).await?,
                stored => stored?,
            }
        }
        Ok(())
    }

    async fn store(&mut self, queue: &str, messages: &[Message], batch: &Batch) -> Result<(), DbError> {
        let ids: Vec<i64> = messages.iter().map(|message| message.msg_id).collect();
        let fresh = match batch {
            Batch::Records(parts) => self.intake.store_records(queue, &ids, parts).await?,
            Batch::Reports(reports, bodies) => self.intake.store_reports(&ids, reports, bodies).await?,
        };
        // Somebody else stored some of them. What is left is seen again when its time is over.
        let Some(fresh) = fresh else { return Ok(()) };
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        match batch {
            Batch::Records(_) => self.taken.results += count(fresh),
            Batch::Reports(..) => self.taken.reports += count(fresh),
        }
        self.taken.repeated += count(batch.size().saturating_sub(fresh));
        Ok(())
    }

    async fn bury(&mut self, queue: &str, message: &Message, reason: &str) -> Result<(), DbError> {
        if self.intake.bury(queue, message, reason).await? {
            self.taken.dead += 1;
            tracing::warn!(
                target: "cloud", queue, msg_id = message.msg_id, reason,
                "a message cannot be used and was put aside; see `singularity cloud dead`"
            );
        }
        Ok(())
    }
}

/// Whether the database refused what a message says, so that the same will happen again.
fn is_about_content(error: &DbError) -> bool {
    // Data exceptions and violated constraints, but no missing table and no lock.
    error.sqlstate().is_some_and(|code| code.starts_with("22") || code.starts_with("23") || code == "54000")
}

impl Actor for Ingest {
    type Msg = Take;
    type Args = IngestArgs;

    async fn init(ctx: &Ctx<Take>, args: IngestArgs) -> Result<Self, ActorError> {
        let timer = ctx.send_after(Duration::ZERO, Take);
        let clerk = Clerk { intake: args.intake, taken: Taken::default() };
        Ok(Self { clerk, interval: args.interval, timer, failing: false })
    }

    async fn handle(&mut self, ctx: &Ctx<Take>, _msg: Take) -> Result<Flow, ActorError> {
        let more = match self.clerk.round().await {
            Ok(more) => {
                self.failing = false;
                more
            }
            Err(error) => {
                if std::mem::replace(&mut self.failing, true) {
                    tracing::debug!(target: "cloud", %error, "reports were not taken in");
                } else {
                    tracing::warn!(target: "cloud", %error, "reports were not taken in; they will be");
                }
                false
            }
        };
        self.timer = ctx.send_after(if more { Duration::ZERO } else { self.interval }, Take);
        Ok(Flow::Continue)
    }

    fn message_kind(_msg: &Take) -> &'static str {
        "take"
    }

    fn status(&self) -> Value {
        json!({
            "results": self.clerk.taken.results,
            "reports": self.clerk.taken.reports,
            "repeated": self.clerk.taken.repeated,
            "dead_letters": self.clerk.taken.dead,
            "failing": self.failing,
        })
    }
}
