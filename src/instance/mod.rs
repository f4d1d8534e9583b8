//! This process as one of several: identity, presence in `instance_registry`, the lease that lets it work, and the
//! questions that others ask it.

mod control;
mod error;
mod identity;
mod lease;
mod presence;
mod registry;

pub use control::{Answer, CONTROL_CHANNEL, Control, ControlMsg, ask};
pub use error::InstanceError;
pub use identity::{INSTANCE_ID_CHARS_MAX, Identity};
pub use lease::Lease;
pub use presence::{Beat, BeatAnswer, InstanceRow, Presence};
pub use registry::{Registry, RegistryArgs, RegistryMsg};
