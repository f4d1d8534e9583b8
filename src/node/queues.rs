//! The queues of a running node, for the program that runs it: look at them, and give orders as Oban's functions of the
//! same names do.

use super::assembly::Node;
use super::steering::OrderError;
use crate::queue::{QueueCheck, QueueError, QueueOrder};

impl Node {
    /// One queue of this instance as it is now, Oban's `check_queue`; `None` when it does not run here.
    pub fn check_queue(&self, queue: &str) -> Option<QueueCheck> {
        self.steering.checks(Some(queue)).pop()
    }

    /// All queues of this instance, Oban's `check_all_queues`.
    pub fn check_all_queues(&self) -> Vec<QueueCheck> {
        self.steering.checks(None)
    }

    /// Carries out an order on this instance alone, Oban's `local_only`, and waits until it is. Returns the queues that
    /// it is about as they are then: none when they do not run here, and one that was stopped for as long as its jobs
    /// run.
    ///
    /// Cancel safety: a start or stop may still be carried out.
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn order_here(&self, order: &QueueOrder) -> Result<Vec<QueueCheck>, OrderError> {
        self.steering.carry_out(order, None).await
    }

    /// Sends an order to the instance with this id, or to all; Oban nodes in other languages obey it too. Returns when
    /// it is sent: like Oban's own functions, it waits for nobody.
    ///
    /// # Errors
    /// [`QueueError::Invalid`], [`QueueError::Db`].
    pub async fn order(&self, instance_id: Option<&str>, order: &QueueOrder) -> Result<(), QueueError> {
        self.engine.order(&self.steering.oban, instance_id, order).await
    }
}
