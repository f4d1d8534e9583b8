//! PostgreSQL: the one thing that all instances share.
//!
//! | File | What it is |
//! | --- | --- |
//! | `pool` | [`Database`]: a pool with every option decided, and the schema it works in |
//! | `url` | a database's URL, read strictly |
//! | `clock` | how far this machine's clock is from the server's |
//! | `session` | statements that always come to an end |
//! | `scratch` | a schema that exists only for a measurement |
//! | `horizon` | who keeps vacuum from clearing dead rows |
//! | `lane` | a connection beside the pool for statements that must be fast |
//! | `schema` | [`SchemaName`]: an identifier that is safe inside SQL text |
//! | `error` | [`DbError`]: "not reachable now" told apart from "refused" |
//! | `server` | which server and database an error is about |
//! | `retry` | waiting until the database is back |
//! | `migrate` | Oban's tables and ours, brought up to date by whoever starts first |
//! | `pgmq` | finding or installing the message queue functions |
//! | `notifier` | LISTEN and NOTIFY on Oban's channels |
//! | `embedded` | a server of our own where nobody names one |

mod clock;
#[cfg(feature = "embedded-postgres")]
pub mod embedded;
mod error;
pub mod horizon;
mod lane;
pub mod migrate;
pub mod notifier;
pub mod pgmq;
mod pool;
mod retry;
mod schema;
mod scratch;
mod server;
mod session;
mod transaction;
mod url;

pub use clock::is_skewed;
pub use error::{DbError, READ_ONLY_WAY_OUT};
pub use lane::Lane;
pub use pool::{Database, PoolOptions};
pub use retry::{RETRY_DELAY_MAX, RETRY_DELAY_MIN, retry_delay, retry_unavailable};
pub use schema::SchemaName;
pub use scratch::Scratch;
pub use session::Session;
pub use transaction::Transaction;
