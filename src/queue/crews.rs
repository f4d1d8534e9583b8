//! The two actors of each queue: its producer, and the supervisor of its executors.
//!
//! Queues come and go while the node runs, and supervisors forget at a restart what they were given by request. So both
//! supervisors make their list of children anew at each start, from the queues that there are then; requests bring the
//! same about while they run.

use std::fmt;
use std::sync::Arc;

use super::producer::{Producer, ProducerArgs};
use super::queues::Queues;
use super::slots::QueueState;
use crate::supervision::{
    ChildError, ChildId, ChildSpec, DynamicSupervisorSpec, StartChildError, Strategy, SupervisorHandle, SupervisorSpec,
};

/// Executors of one queue: its largest limit, as many that have reported and are about to end, and as many that are
/// stuck and whose slots were released. The limit itself is kept by the queue's slots, so that it can change while jobs
/// run.
const EXECUTORS_MAX: usize = 30_000;

/// Why operators may neither terminate nor suspend the executors of a queue.
const PROTECTS_EXECUTORS: &str =
    "its producer hands jobs to it, which would be claimed and could not run. Pause the queue instead";

/// Why they may do neither to its producer.
fn protects_producer(queue: &str) -> String {
    format!(
        "jobs that it has just begun would have nobody who heeds their time limit or stops them. \
         Pause the queue instead: singularity queue pause {queue}"
    )
}

/// What a producer of a queue works with.
pub type MakeProducer = Arc<dyn Fn(&Arc<QueueState>) -> ProducerArgs + Send + Sync>;

/// The supervisors of all producers and of all executors of an instance. Cheap to clone.
#[derive(Clone)]
pub struct Crews {
    queues: Queues,
    producer: MakeProducer,
    producers: SupervisorHandle,
    executors: SupervisorHandle,
}

impl fmt::Debug for Crews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crews").field("queues", &self.queues).finish_non_exhaustive()
    }
}

impl Crews {
    /// Supervisors that do not run yet.
    pub fn new(queues: Queues, producer: MakeProducer) -> Self {
        Self { queues, producer, producers: SupervisorHandle::new(), executors: SupervisorHandle::new() }
    }

    /// The supervisor of executors: one dynamic supervisor a queue. It starts before [`Crews::producers_child`].
    pub fn executors_child(&self) -> ChildSpec {
        let crews = self.clone();
        ChildSpec::supervisor("executors", move || {
            let children = crews.queues.iter().map(|queue| executors_of(&queue));
            let spec = SupervisorSpec::new("executors", Strategy::OneForOne);
            Ok(Some(spec.handle(&crews.executors).children(children)))
        })
    }

    /// The supervisor of producers, one a queue. Queues that stop have none any more once it was restarted.
    pub fn producers_child(&self) -> ChildSpec {
        let crews = self.clone();
        ChildSpec::supervisor("queues", move || {
            let claiming = crews.queues.iter().filter(|queue| !queue.is_leaving());
            let children = claiming.map(|queue| crews.producer_of(&queue));
            let spec = SupervisorSpec::new("queues", Strategy::OneForOne);
            Ok(Some(spec.handle(&crews.producers).children(children)))
        })
    }

    fn producer_of(&self, queue: &Arc<QueueState>) -> ChildSpec {
        Producer::child((self.producer)(queue)).protected(protects_producer(queue.name()))
    }

    /// Starts what is missing of a queue's two. A supervisor that is down brings them when it is up again.
    pub(super) async fn start(&self, queue: &Arc<QueueState>) -> Result<(), StartChildError> {
        start(&self.executors, queue.name(), executors_of(queue)).await?;
        start(&self.producers, queue.name(), self.producer_of(queue)).await
    }

    /// Ends the producer of a queue and forgets it. It ends what it is about first.
    pub(super) async fn stop_producer(&self, queue: &str) -> Result<(), ChildError> {
        stop(&self.producers, queue).await
    }

    /// Ends the supervisor of a queue's executors and forgets it.
    pub(super) async fn stop_executors(&self, queue: &str) -> Result<(), ChildError> {
        stop(&self.executors, queue).await
    }
}

fn executors_of(queue: &Arc<QueueState>) -> ChildSpec {
    DynamicSupervisorSpec::new(queue.name(), EXECUTORS_MAX).into_child(queue.executors()).protected(PROTECTS_EXECUTORS)
}

async fn start(supervisor: &SupervisorHandle, queue: &str, child: ChildSpec) -> Result<(), StartChildError> {
    match supervisor.start_child(child).await {
        Ok(_) | Err(StartChildError::AlreadyStarted | StartChildError::NoProc) => Ok(()),
        // It was not forgotten when it was stopped, or it is being restarted, which brings it too.
        Err(StartChildError::AlreadyPresent) => match supervisor.restart_child(ChildId::from(queue)).await {
            Ok(_) | Err(ChildError::Running | ChildError::Restarting | ChildError::NoProc) => Ok(()),
            Err(ChildError::Start(error)) => Err(StartChildError::Start(error)),
            Err(_) => Err(StartChildError::AlreadyPresent),
        },
        Err(error) => Err(error),
    }
}

async fn stop(supervisor: &SupervisorHandle, queue: &str) -> Result<(), ChildError> {
    for result in [supervisor.terminate_child(queue).await, supervisor.delete_child(queue).await] {
        match result {
            Ok(()) | Err(ChildError::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
