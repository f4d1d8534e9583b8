//! Hears what others say on the database's channels and wakes whom it concerns.
//!
//! Notices are hints: whenever some may have been lost, every producer looks at the table.

use std::fmt;
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::listening::listen;
use super::steering::Steering;
use super::storage::Storage;
use crate::cloud::sync::{LEARNING_CHANNEL, SyncMsg};
use crate::instance::{CONTROL_CHANNEL, ControlMsg};
use crate::postgres::notifier;
use crate::postgres::notifier::message::{
    Signal, Undecodable, decode_insert, decode_leader, decode_signal, decode_sonar,
};
use crate::queue::{Foreign, PeerMsg, QueueOrder, StopCause};
use crate::supervision::{Actor, ActorError, Address, ChildSpec, Ctx, Flow};

/// Mailbox of the actor; only its own task writes to it.
const NOTICES_MAILBOX_MAX: usize = 4;

/// Whom notices concern.
#[derive(Clone)]
pub(super) struct NoticesArgs {
    pub(super) storage: Storage,
    pub(super) steering: Steering,
    pub(super) control: Address<ControlMsg>,
    pub(super) peer: Address<PeerMsg>,
    /// Who is told of nodes of other runtimes.
    pub(super) foreign: Foreign,
}

impl fmt::Debug for NoticesArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NoticesArgs").finish_non_exhaustive()
    }
}

/// The actor. It owns the task that listens.
#[derive(Debug)]
pub(super) struct Notices {
    task: JoinHandle<()>,
}

/// Its only message.
#[derive(Debug)]
pub(super) enum NoticesMsg {
    /// The task ended, which only a bug makes it do.
    Ended,
}

impl Notices {
    pub(super) fn child(args: NoticesArgs) -> ChildSpec {
        let address = Address::new("notifier", NOTICES_MAILBOX_MAX);
        ChildSpec::actor::<Self>("notifier", &address, move || args.clone())
    }
}

impl Actor for Notices {
    type Msg = NoticesMsg;
    type Args = NoticesArgs;

    async fn init(ctx: &Ctx<NoticesMsg>, args: NoticesArgs) -> Result<Self, ActorError> {
        /// Says so when the task ends in whatever way.
        struct Ended(Address<NoticesMsg>);
        impl Drop for Ended {
            fn drop(&mut self) {
                // Refused only when the actor is gone already.
                drop(self.0.cast(NoticesMsg::Ended));
            }
        }
        let (ended, probe) = (Ended(ctx.address().clone()), Arc::clone(ctx.probe()));
        #[expect(clippy::disallowed_methods, reason = "the actor aborts it when it is dropped")]
        let task = tokio::spawn(async move {
            let _ended = ended;
            listen(args, probe).await;
        });
        Ok(Self { task })
    }

    async fn handle(&mut self, _ctx: &Ctx<NoticesMsg>, msg: NoticesMsg) -> Result<Flow, ActorError> {
        match msg {
            NoticesMsg::Ended => Err(ActorError::msg("the listening task ended")),
        }
    }

    fn message_kind(_msg: &NoticesMsg) -> &'static str {
        "ended"
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl NoticesArgs {
    /// After a time without a connection.
    pub(super) fn look_everywhere(&self) {
        self.elect();
        self.look();
        self.look_at_learnings();
    }

    /// Looks at what others may have said.
    pub(super) fn look(&self) {
        self.steering.queues.poke_all();
        self.look_at_questions();
    }

    fn elect(&self) {
        // Refused only when an election is due anyway.
        drop(self.peer.cast(PeerMsg::Elect));
    }

    fn look_at_questions(&self) {
        // Refused only when a look is due anyway.
        drop(self.control.cast(ControlMsg::Look));
    }

    fn look_at_learnings(&self) {
        // Refused only when a look is due anyway.
        drop(self.steering.learning.cast(SyncMsg::Look));
    }

    /// What was said on a channel.
    pub(super) fn notified(&self, channel: &str, payload: &str) -> Result<(), Undecodable> {
        match channel {
            notifier::INSERT => {
                if let Some(queue) = self.steering.queues.get(&decode_insert(payload)?.queue) {
                    queue.poke();
                }
            }
            notifier::SIGNAL => self.signal(&decode_signal(payload)?),
            notifier::LEADER => {
                let leaving = decode_leader(payload)?;
                if leaving.is_none_or(|name| *name == *self.steering.oban) {
                    self.elect();
                }
            }
            // Elixir nodes say here that they are there. Instances of ours do not, but one that did would be known.
            notifier::SONAR => {
                let node = decode_sonar(payload)?;
                if *node != *self.steering.instance_id && self.foreign.hear(&node) {
                    self.elect();
                }
            }
            // Answers are told on this channel too; a look too many is harmless.
            CONTROL_CHANNEL if payload.contains(&*self.steering.instance_id) => self.look_at_questions(),
            LEARNING_CHANNEL => self.look_at_learnings(),
            _ => {}
        }
        Ok(())
    }

    /// Something was said on `channel` that cannot be read: look, because it may have concerned us.
    pub(super) fn doubt(&self, channel: &str) {
        self.steering.queues.poke_all();
        if channel == notifier::LEADER {
            self.elect();
        }
    }

    fn signal(&self, signal: &Signal) {
        if !signal.is_for(&self.steering.ident()) {
            return;
        }
        match (signal, QueueOrder::of(signal)) {
            (Signal::Pkill { job_id }, _) => self.steering.queues.stop_job(*job_id, StopCause::Cancelled),
            (_, Some(order)) => self.steering.obey(&order),
            (_, None) => {}
        }
    }
}
