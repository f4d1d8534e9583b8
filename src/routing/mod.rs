//! Which model serves which request: what is asked for, the rules and orders of the moment, and the choice by them.

mod live;
mod policy;
mod select;
mod table;
mod wish;

pub use live::LivePolicy;
pub use policy::{Orders, Policy, Rule, Weight};
pub use select::{Barred, Basis, Choice, Decided, Share, Situation, draw, select};
pub use table::{Line, table};
pub use wish::{Asked, Reason, Route, RoutingError, Wish, asked};
