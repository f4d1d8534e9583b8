//! Queues as a whole: orders to them, sent as Oban sends them, and whether there is one.

use super::Engine;
use crate::postgres::notifier;
use crate::queue::error::QueueError;
use crate::queue::order::{QueueOrder, ident_of};

impl Engine {
    /// Tells the instance with this id, or all, to do something with a queue. `oban` is the name of the Oban that they
    /// belong to. Oban nodes in other languages obey too.
    ///
    /// A hint as every notice: it reaches those that listen now, and nobody answers.
    ///
    /// # Errors
    /// [`QueueError::Invalid`], [`QueueError::Db`].
    pub async fn order(&self, oban: &str, instance_id: Option<&str>, order: &QueueOrder) -> Result<(), QueueError> {
        order.check()?;
        let signal = order.signal(&ident_of(oban, instance_id));
        notifier::notify(&self.db, &self.db.channel(notifier::SIGNAL), &[signal]).await?;
        Ok(())
    }

    /// Whether any job is in this queue, in whatever state.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn has_queue(&self, queue: &str) -> Result<bool, QueueError> {
        // All states by name, so that the index, which begins with the state, finds one row of each.
        let has = sqlx::query_scalar!(
            r#"SELECT EXISTS (
                 SELECT FROM oban_jobs WHERE state = ANY(enum_range(NULL::oban_job_state)) AND queue = $1
               ) AS "has!""#,
            queue,
        );
        Ok(has.fetch_one(&self.db).await?)
    }
}
