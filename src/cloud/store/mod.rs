//! Every statement of reports, CentralCloud and learnings.

pub(super) mod costs;
pub(super) mod ingest;
pub(super) mod learner;
pub(super) mod learnings;
mod moved;
pub(super) mod overview;
pub(super) mod patterns;
pub mod pgmq;
mod publish;
pub(super) mod report;
pub(super) mod retention;
pub(super) mod sync;
pub(super) mod watch;

use serde::Serialize;

use crate::postgres::DbError;

/// A message or parameter as JSON text. Sums beyond 64 bits stay whole in it, which they do not as a
/// `serde_json::Value`.
fn text<T: Serialize>(message: &T) -> Result<String, DbError> {
    serde_json::to_string(message).map_err(|error| DbError::Statement { error: sqlx::Error::Encode(error.into()) })
}
