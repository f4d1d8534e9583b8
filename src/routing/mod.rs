//! Which model serves which request.

mod select;

pub use select::{Choice, Reason, RoutingError, Wish, select};
