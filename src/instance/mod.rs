//! This process as one of several: identity, presence in `instance_registry`, the lease that lets it work, the requests
//! that others send it, and the supervision events that outlive it.

mod ask;
mod control;
mod error;
mod event_record;
mod events;
mod held;
mod history;
mod identity;
mod lease;
mod presence;
mod registry;
mod settings;
mod sightings;

pub use ask::ask;
pub use control::{Answer, CONTROL_CHANNEL, Control, ControlMsg, Refusal, RefusalKind, Request};
pub use error::InstanceError;
pub use event_record::EVENT_TEXT_CHARS_MAX;
pub use events::{EVENTS_BATCH_MAX, EVENTS_KEPT_MAX, EVENTS_LISTED_MAX, EventRow, events};
pub use held::{HELD_JOBS_MAX, HeldJob, held_jobs};
pub use history::{EVENTS_WAITING_MAX, Historian, History, HistoryMsg};
pub use identity::{INSTANCE_ID_CHARS_MAX, Identity};
pub use lease::{Lease, Moment};
pub use presence::{Beat, BeatAnswer, InstanceRow, Presence};
pub use registry::{Registry, RegistryArgs, RegistryMsg};
pub use settings::{Authorship, REASON_CHARS_MAX, Setting, Settings};
pub use sightings::Sightings;
