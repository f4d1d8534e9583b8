//! What the workflows that ask models share: the model at this moment, and what a job does where there is no answer.

use std::sync::Arc;
use std::time::Duration;

use super::definition::{StepContext, StepError};
use super::models::{Asking, Called, Failed, Models, Unanswered};
use super::steps::database;
use crate::config::Config;
use crate::llm::{Advice, Gateway};
use crate::postgres::Database;
use crate::queue::Outcome;
use crate::routing::{Choice, LivePolicy, RoutingError, Situation, Wish, draw, select};

/// When a job looks again whose models are all switched off: nothing else will tell it.
const SWITCHED_OFF_WAIT: Duration = Duration::from_secs(30);

/// What models are chosen by and asked through. Cheap to clone.
#[derive(Clone)]
pub(super) struct Asker {
    pub(super) config: Arc<Config>,
    gateway: Arc<Gateway>,
    policy: LivePolicy,
    models: Models,
}

impl Asker {
    /// Bound to configuration, providers and the policy of the moment.
    pub(super) fn new(config: Arc<Config>, gateway: Arc<Gateway>, policy: LivePolicy, db: Database) -> Self {
        let models = Models::new(Arc::clone(&config), Arc::clone(&gateway), db);
        Self { config, gateway, policy, models }
    }

    /// The model for what is wished at this moment. While a person has switched all of them off the job waits and
    /// spends no attempt; other errors become what `refused` says.
    pub(super) fn choose(
        &self,
        context: &StepContext,
        job_type: &str,
        wish: Wish<'_>,
        refused: impl FnOnce(&RoutingError) -> StepError,
    ) -> Result<Choice, StepError> {
        let situation = Situation {
            config: &self.config,
            policy: &self.policy.current(),
            job_type,
            draw: draw(context.job.id, context.job.attempt),
            is_held_back: &|model| self.gateway.is_held_back(model),
        };
        select(wish, &situation).map_err(|error| match error {
            RoutingError::AllOff(_) => {
                tracing::info!(target: "job", id = context.job.id, %error, wait = ?SWITCHED_OFF_WAIT, "the job waits");
                StepError::new(Outcome::Snoozed(SWITCHED_OFF_WAIT))
            }
            _ => refused(&error),
        })
    }

    /// A choice that was made before, perhaps by an earlier attempt, without what people have switched off since;
    /// `None` when that is the chosen model itself.
    pub(super) fn still(&self, choice: Choice) -> Option<Choice> {
        choice.still(&self.policy.current())
    }

    /// Asks; calls that failed become what `failed` says.
    pub(super) async fn ask(
        &self,
        asking: &Asking<'_>,
        failed: impl FnOnce(&Failed, Advice) -> StepError,
    ) -> Result<Called, StepError> {
        self.models.ask(asking).await.map_err(|unanswered| match unanswered {
            Unanswered::Failed { call, advice } => failed(&call, advice),
            // No failure: nothing was answered, and what was spent is recorded.
            Unanswered::Waits(wait) => StepError::new(Outcome::Snoozed(wait)),
            Unanswered::Db(error) => database(error),
        })
    }
}
