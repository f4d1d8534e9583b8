//! Configuration: `actors.toml`, its layers and its checks.

mod model;
mod period;
mod secret;

pub use model::*;
pub use period::Period;
pub use secret::SecretRef;
