//! Orders to the queues of this instance, by whatever way they come: a signal of any Oban node, a request of the
//! command line, a call of the program that runs the node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::settings::SettingsMsg;
use crate::cloud::sync::{Holding, SyncMsg};
use crate::config::Queue;
use crate::error::Coded;
use crate::instance::RegistryMsg;
use crate::postgres::notifier::message::QUEUE_ANY;
use crate::queue::{Began, BeginError, KeeperMsg, Pause, QueueCheck, QueueError, QueueOrder, Queues, ident};
use crate::supervision::{Address, CallError};

/// How long a queue may take to start.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// It is none that an instance could obey.
    #[error(transparent)]
    Invalid(#[from] QueueError),
    /// The queue did not start.
    #[error("queue {queue:?} did not start: {error}")]
    Begin {
        /// Which queue.
        queue: String,
        /// Why.
        error: BeginError,
    },
    /// Who starts and stops queues, looks at kept settings or follows the log of learnings did not answer.
    #[error("this instance does not get to it: {0}")]
    Keeper(#[from] CallError),
    /// What is kept about queues could not be looked at, or not all of it be carried out.
    #[error("kept settings are not carried out: {0}")]
    Settings(String),
    /// What was decided or ordered about routing could not be looked at.
    #[error("the log of learnings cannot be followed: {0}")]
    Learnings(String),
}

impl Coded for OrderError {
    fn code(&self) -> &'static str {
        match self {
            Self::Invalid(error) => error.code(),
            Self::Begin { error, .. } => error.code(),
            Self::Keeper(_) => "E0721",
            Self::Learnings(_) => "E0722",
            Self::Settings(_) => "E0724",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Invalid(error) => error.hint(),
            Self::Begin { .. } | Self::Learnings(_) => Some("see the log of that instance".into()),
            Self::Settings(_) => Some("see the log of that instance, which tries again within half a minute".into()),
            Self::Keeper(_) => Some(
                "see /services/queue_keeper, /instance/settings and /cloud/learning_sync in `singularity tree`".into(),
            ),
        }
    }
}

/// What orders are carried out on. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Steering {
    pub(super) queues: Queues,
    pub(super) keeper: Address<KeeperMsg>,
    /// Beats at once after a change, so that others see it.
    pub(super) registry: Address<RegistryMsg>,
    /// Looks at kept settings when it is told that they have changed.
    pub(super) settings: Address<SettingsMsg>,
    /// Follows the log of learnings, and tells what is held of it.
    pub(super) learning: Address<SyncMsg>,
    /// Queues of the configuration as they are on this instance, also those that do not start with it.
    pub(super) configured: Arc<BTreeMap<String, Queue>>,
    /// Whether it executes jobs. One that is CentralCloud alone has no queue, whoever orders one to start.
    pub(super) executes: bool,
    /// Name of the Oban that this instance belongs to.
    pub(super) oban: Arc<str>,
    pub(super) instance_id: Arc<str>,
}

impl Steering {
    /// What signals for this instance alone are addressed to.
    pub(super) fn ident(&self) -> String {
        ident(&self.oban, &self.instance_id)
    }

    /// This queue of this instance, or all with `*` or none.
    pub(super) fn checks(&self, queue: Option<&str>) -> Vec<QueueCheck> {
        let wanted =
            self.queues.iter().filter(|state| queue.is_none_or(|queue| queue == state.name() || queue == QUEUE_ANY));
        wanted.map(|state| state.check(&self.oban, &self.instance_id)).collect()
    }

    /// Carries out an order, waits until it is, and returns the queues that it is about as they are then. Those that do
    /// not run here are none of this instance's business, so the list may be empty; where no job is executed none ever
    /// starts. A queue that was stopped is in it while its jobs run.
    ///
    /// A queue that it pauses tells `by` whom.
    ///
    /// Cancel safety: a start or stop may still be carried out.
    pub(super) async fn carry_out(
        &self,
        order: &QueueOrder,
        by: Option<&Pause>,
    ) -> Result<Vec<QueueCheck>, OrderError> {
        order.check()?;
        match order {
            QueueOrder::Start { .. } if !self.executes => pass_over(order),
            QueueOrder::Start { queue, limit, paused } => {
                let settings = self.settings(queue, *limit, *paused);
                let name = queue.clone();
                let start = |reply| KeeperMsg::Start { queue: name, settings, reply: Some(reply) };
                match self.keeper.call(start, START_LIMIT).await? {
                    Ok(Began::Now | Began::Again | Began::Before) => {}
                    Err(error) => return Err(OrderError::Begin { queue: queue.clone(), error }),
                }
            }
            QueueOrder::Stop { queue } => {
                let name = queue.clone();
                self.keeper.call(|reply| KeeperMsg::Stop { queue: name, reply: Some(reply) }, START_LIMIT).await?;
            }
            _ => self.change(order, by),
        }
        let queues = self.queues.iter().filter(|queue| order.is_about(queue.name()));
        Ok(queues.map(|queue| queue.check(&self.oban, &self.instance_id)).collect())
    }

    /// Carries out an order that nobody waits for. What cannot be is said in the log.
    pub(super) fn obey(&self, order: &QueueOrder) {
        if let Err(error) = order.check() {
            tracing::warn!(target: "queue", %error, ?order, "a signal is not obeyed");
            return;
        }
        let told = match order {
            QueueOrder::Start { .. } if !self.executes => {
                pass_over(order);
                return;
            }
            QueueOrder::Start { queue, limit, paused } => {
                let settings = self.settings(queue, *limit, *paused);
                self.keeper.cast(KeeperMsg::Start { queue: queue.clone(), settings, reply: None })
            }
            QueueOrder::Stop { queue } => self.keeper.cast(KeeperMsg::Stop { queue: queue.clone(), reply: None }),
            _ => {
                self.change(order, None);
                return;
            }
        };
        if let Err(error) = told {
            tracing::warn!(target: "queue", %error, ?order, "a signal is not obeyed");
        }
    }

    /// Waits until kept settings that have changed are carried out.
    pub(super) async fn look_at_settings(&self) -> Result<(), OrderError> {
        self.settings.call(SettingsMsg::Look, START_LIMIT).await?.map_err(OrderError::Settings)
    }

    /// What this instance holds of what was learned, after a look at what was decided and ordered.
    pub(super) async fn look_at_learnings(&self) -> Result<Holding, OrderError> {
        self.learning.call(SyncMsg::Ask, START_LIMIT).await?.map_err(OrderError::Learnings)
    }

    /// What a queue starts with: the order's limit, and for the rest what the configuration says about it.
    fn settings(&self, queue: &str, limit: u32, paused: bool) -> Queue {
        let configured = self.configured.get(queue).cloned().unwrap_or_default();
        Queue { limit, paused, ..configured }
    }

    /// Changes queues that run.
    fn change(&self, order: &QueueOrder, by: Option<&Pause>) {
        for queue in self.queues.iter().filter(|queue| order.is_about(queue.name())) {
            match order {
                QueueOrder::Pause { .. } => match by {
                    Some(by) => queue.pause_by(by.clone()),
                    None => queue.set_paused(true),
                },
                QueueOrder::Resume { .. } => queue.set_paused(false),
                QueueOrder::Scale { limit, .. } => queue.set_limit(*limit),
                QueueOrder::Start { .. } | QueueOrder::Stop { .. } => continue,
            }
            let (limit, paused) = (queue.limit(), queue.is_paused());
            tracing::info!(target: "queue", queue = queue.name(), limit, paused, "queue changed");
        }
        self.announce();
    }

    /// Makes the next heartbeat come now.
    pub(super) fn announce(&self) {
        // Refused only when one is due anyway.
        drop(self.registry.cast(RegistryMsg::Beat));
    }
}

/// Orders go to the whole fleet, so this one is no mistake: it is the others' business.
fn pass_over(order: &QueueOrder) {
    tracing::info!(target: "queue", ?order, "this instance is CentralCloud and starts no queue");
}
