//! The actor that learns: every few minutes it looks at each cell in which something has happened, decides, and
//! publishes.
//!
//! It keeps nothing: what is known stands in the tables, so that a restart, or another CentralCloud beside it, makes no
//! difference. The only thing that it remembers is how many attempts it has seen of each cell, to leave those alone in
//! which nothing has happened.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;

use super::learner::{Decision, Settings, decide, patterns};
use crate::cloud::learning::Cell;
use crate::cloud::store::learner::{LearnerStore, Looked, Seen};
use crate::postgres::DbError;
use crate::supervision::{Actor, ActorError, Address, ChildSpec, Ctx, Flow, Timer};

/// Mailbox of the actor; only its own timer writes to it.
const LEARNER_MAILBOX_MAX: usize = 4;

/// A cell is looked at after so long also when nothing has happened: what holds there may end.
const LOOK_ANYWAY: Duration = Duration::from_secs(3_600);

/// How long notes of decisions are kept that published nothing.
const NOTES_KEPT: Duration = Duration::from_secs(30 * 86_400);

/// Share of the interval that is added or taken at random, so that several learners do not keep meeting.
const JITTER: f64 = 0.1;

/// What the actor works with.
#[derive(Debug, Clone)]
pub struct LearnerArgs {
    /// Statements.
    pub store: LearnerStore,
    /// Models of each route, the reference first.
    pub routes: Arc<BTreeMap<String, Vec<String>>>,
    /// Numbers that decisions depend on.
    pub settings: Settings,
    /// Time between two looks.
    pub interval: Duration,
}

/// The actor.
#[derive(Debug)]
pub struct Learner {
    args: LearnerArgs,
    timer: Timer,
    /// Attempts of each cell when it was last looked at, and when that was.
    seen: BTreeMap<Cell, (i64, Instant)>,
    failing: bool,
}

/// Its only message.
#[derive(Debug)]
pub struct Learn;

/// What one round came to.
#[derive(Debug, Default)]
struct Round {
    cells: usize,
    published: usize,
    busy: bool,
}

impl Learner {
    /// The child that learns.
    pub fn child(args: LearnerArgs) -> ChildSpec {
        let address = Address::new("learner", LEARNER_MAILBOX_MAX);
        ChildSpec::actor::<Self>("learner", &address, move || args.clone())
    }

    async fn round(&mut self) -> Result<Round, DbError> {
        let mut round = Round::default();
        let settings = self.args.settings.clone();
        for Seen { cell, attempts } in self.args.store.cells(settings.window).await? {
            let Some(models) = self.args.routes.get(&cell.route).filter(|models| !models.is_empty()) else { continue };
            let news = |(before, at): &(i64, Instant)| *before != attempts || at.elapsed() >= LOOK_ANYWAY;
            if !self.seen.get(&cell).is_none_or(news) {
                continue;
            }
            let seed: u64 = rand::rng().random();
            // Another learner may have looked just now; two within one interval would climb the ramp twice as fast.
            let pause = self.args.interval / 2;
            let looked = self
                .args
                .store
                .look(&cell, models, &settings, pause, |view, now| decide(view, &settings, now, seed))
                .await?;
            match looked {
                Looked::Busy => round.busy = true,
                Looked::Recent => {}
                Looked::Decided(decisions) => {
                    round.cells += 1;
                    round.published += tell(&decisions);
                    self.seen.insert(cell, (attempts, Instant::now()));
                }
            }
        }
        let looked = self.args.store.look_at_patterns(|counts, now| patterns(counts, now, &settings)).await?;
        if let Looked::Decided(decisions) = looked {
            round.published += tell(&decisions);
        }
        self.args.store.forget(NOTES_KEPT).await?;
        Ok(round)
    }

    fn pause(&self) -> Duration {
        self.args.interval.mul_f64(1.0 + JITTER * (rand::rng().random::<f64>() * 2.0 - 1.0))
    }
}

/// Writes into the log what was published; returns how many that were.
fn tell(decisions: &[(Decision, Option<i64>)]) -> usize {
    let mut published = 0;
    for (decision, id) in decisions {
        if let (Some(draft), Some(id)) = (&decision.draft, id) {
            published += 1;
            let (decision, kind) = (decision.name, draft.payload.kind().as_str());
            tracing::info!(target: "cloud", id, decision, kind, key = draft.payload.key(), "{}", draft.summary);
        }
    }
    published
}

impl Actor for Learner {
    type Msg = Learn;
    type Args = LearnerArgs;

    async fn init(ctx: &Ctx<Learn>, args: LearnerArgs) -> Result<Self, ActorError> {
        let timer = ctx.send_after(args.interval / 2, Learn);
        Ok(Self { args, timer, seen: BTreeMap::new(), failing: false })
    }

    async fn handle(&mut self, ctx: &Ctx<Learn>, _msg: Learn) -> Result<Flow, ActorError> {
        match self.round().await {
            Ok(round) => {
                self.failing = false;
                let looked = if round.busy { "another decides".into() } else { format!("{} cells", round.cells) };
                ctx.probe().set_label("looked", looked);
                ctx.probe().set_label("published", round.published.to_string());
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(target: "cloud", %error, "nothing is learned for now");
                }
            }
        }
        self.timer = ctx.send_after(self.pause(), Learn);
        Ok(Flow::Continue)
    }

    fn message_kind(_msg: &Learn) -> &'static str {
        "learn"
    }
}
