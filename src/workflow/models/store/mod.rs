//! Statements of the model service: budgets, kept answers, and what calls leave at their job.

mod answers;
mod budgets;
mod calls;

pub use answers::Answers;
pub use budgets::{Budgets, Holder, Spent};
pub(super) use calls::{Calls, FailedCall};
