//! PostgreSQL: where the shared database is and how it is reached.

#[cfg(feature = "embedded-postgres")]
pub mod embedded;
