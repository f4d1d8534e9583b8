//! What a supervisor is told about itself and its children, and the checks of it.
//!
//! Defaults are OTP's, except the intensity, which is Elixir's 3 restarts in 5 s.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Backoff, ChildId};

/// Longest id of a child, in bytes.
pub const ID_BYTES_MAX: usize = 200;

/// Most children of one supervisor, static or dynamic.
pub const CHILDREN_MAX: usize = 1_000_000;

/// Largest `max_restarts`; the times of so many restarts are kept.
pub const MAX_RESTARTS_MAX: u32 = 10_000;

/// Whom a supervisor restarts when one child ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Only the child that ended.
    OneForOne,
    /// All children: the others are stopped in reverse order, then all are started in order.
    OneForAll,
    /// The child that ended and all that were started after it.
    RestForOne,
}

/// When a child that ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Always.
    #[default]
    Permanent,
    /// Only after an abnormal end; see [`ExitReason::is_clean`](super::ExitReason::is_clean).
    Transient,
    /// Never; its spec is dropped when it ends.
    Temporary,
}

/// How a child is made to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shutdown {
    /// Kill at once: no cleanup.
    BrutalKill,
    /// Ask, wait so long, then kill.
    Timeout(Duration),
    /// Ask and wait without limit; the rule for supervisors.
    Infinity,
}

/// What a child is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildKind {
    /// An actor that supervises nobody.
    #[default]
    Worker,
    /// A static or dynamic supervisor.
    Supervisor,
}

/// Whether a supervisor ends by itself once significant children have ended (OTP 24, EEP 56).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoShutdown {
    /// Never.
    #[default]
    Never,
    /// When any significant child ended by itself.
    AnySignificant,
    /// When the last significant child ended by itself.
    AllSignificant,
}

/// What happens when a killed child does not die, because it never reaches an await point. BEAM has no such case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnZombie {
    /// Keep its place; start the next incarnation only once it is really gone. The default.
    #[default]
    Hold,
    /// Report it and go on as if it were dead. For children that hold nothing exclusive.
    Replace,
    /// End the supervisor with an error.
    Escalate,
}

/// How many restarts within which time are too many. Default 3 in 5 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Intensity {
    /// So many restarts are allowed within `period`; one more ends the supervisor. At most [`MAX_RESTARTS_MAX`].
    pub max_restarts: u32,
    /// The window. A restart exactly this long ago still counts.
    pub period: Duration,
}

impl Intensity {
    /// `max_restarts` restarts within `period`.
    pub const fn new(max_restarts: u32, period: Duration) -> Self {
        Self { max_restarts, period }
    }
}

impl Default for Intensity {
    fn default() -> Self {
        Self { max_restarts: 3, period: Duration::from_secs(5) }
    }
}

/// Gives a plain enum the names that snapshots, reports and JSON show.
macro_rules! names {
    ($type:ty { $($variant:ident => $name:literal),+ $(,)? }) => {
        impl $type {
            /// The name used in snapshots, reports and JSON.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}
pub(crate) use names;

names!(Strategy { OneForOne => "one_for_one", OneForAll => "one_for_all", RestForOne => "rest_for_one" });
names!(Restart { Permanent => "permanent", Transient => "transient", Temporary => "temporary" });
names!(ChildKind { Worker => "worker", Supervisor => "supervisor" });

impl fmt::Display for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BrutalKill => f.write_str("brutal_kill"),
            Self::Timeout(limit) => write!(f, "{}ms", limit.as_millis()),
            Self::Infinity => f.write_str("infinity"),
        }
    }
}

/// A child as the decisions see it: everything but how to start it. Made by [`ChildSpec`](super::super::ChildSpec).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ChildRules {
    /// Name among its siblings.
    pub id: ChildId,
    /// When it is started again. Default permanent.
    pub restart: Restart,
    /// How it is stopped. Default 5 s for workers, infinity for supervisors.
    pub shutdown: Shutdown,
    /// What it is.
    pub kind: ChildKind,
    /// Whether its end may end its supervisor. Default false.
    pub significant: bool,
    /// Wait between restarts. Default none, as in OTP.
    pub backoff: Option<Backoff>,
    /// What happens when it is killed but does not end.
    pub on_zombie: OnZombie,
}

/// Why a specification was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The id is empty.
    #[error("a child of this supervisor has an empty id; give every child a name")]
    EmptyId,
    /// The id contains a slash, which separates the parts of a path.
    #[error("child id \"{0}\" contains \"/\", which separates the parts of a path")]
    SlashInId(ChildId),
    /// The id is too long.
    #[error("child id of {0} bytes is too long; at most {ID_BYTES_MAX} bytes are allowed")]
    LongId(usize),
    /// Two children have the same id.
    #[error("two children have the id \"{0}\"; ids must differ among siblings")]
    DuplicateId(ChildId),
    /// Too many children.
    #[error("{0} children are too many for one supervisor; at most {CHILDREN_MAX} are allowed")]
    TooManyChildren(usize),
    /// The intensity's count is too large.
    #[error("max_restarts {0} is too large; at most {MAX_RESTARTS_MAX} are allowed")]
    MaxRestarts(u32),
    /// The intensity's window is empty.
    #[error("the restart period is 0; it must be longer")]
    Period,
    /// A significant child that is always restarted would never end.
    #[error("child \"{0}\" is significant and permanent; a significant child must be transient or temporary")]
    SignificantPermanent(ChildId),
    /// A significant child under a supervisor that does not care.
    #[error("child \"{0}\" is significant, but its supervisor's auto_shutdown is never")]
    SignificantNever(ChildId),
    /// A partition supervisor of no partitions.
    #[error("a partition supervisor needs between 1 and {CHILDREN_MAX} partitions, not {0}")]
    Partitions(usize),
    /// The backoff's numbers make no sense.
    #[error("child \"{0}\": its backoff must have 0 < min <= max and a factor of at least 1")]
    Backoff(ChildId),
}

impl ChildRules {
    /// Checks what can be wrong with one child.
    pub(crate) fn validate(&self, auto_shutdown: AutoShutdown) -> Result<(), SpecError> {
        let id = self.id.as_str();
        if id.is_empty() {
            return Err(SpecError::EmptyId);
        }
        if id.len() > ID_BYTES_MAX {
            return Err(SpecError::LongId(id.len()));
        }
        if id.contains('/') {
            return Err(SpecError::SlashInId(self.id.clone()));
        }
        if self.significant && self.restart == Restart::Permanent {
            return Err(SpecError::SignificantPermanent(self.id.clone()));
        }
        if self.significant && auto_shutdown == AutoShutdown::Never {
            return Err(SpecError::SignificantNever(self.id.clone()));
        }
        if self.backoff.is_some_and(|backoff| !backoff.is_valid()) {
            return Err(SpecError::Backoff(self.id.clone()));
        }
        Ok(())
    }
}

impl Intensity {
    /// Checks the limits.
    pub(crate) fn validate(self) -> Result<(), SpecError> {
        if self.max_restarts > MAX_RESTARTS_MAX {
            return Err(SpecError::MaxRestarts(self.max_restarts));
        }
        if self.period.is_zero() {
            return Err(SpecError::Period);
        }
        Ok(())
    }
}

/// Checks a static supervisor's whole specification.
pub(crate) fn validate_group<'a>(
    intensity: Intensity,
    auto_shutdown: AutoShutdown,
    children: impl ExactSizeIterator<Item = &'a ChildRules>,
) -> Result<(), SpecError> {
    intensity.validate()?;
    if children.len() > CHILDREN_MAX {
        return Err(SpecError::TooManyChildren(children.len()));
    }
    let mut seen = HashSet::with_capacity(children.len());
    for child in children {
        child.validate(auto_shutdown)?;
        if !seen.insert(&child.id) {
            return Err(SpecError::DuplicateId(child.id.clone()));
        }
    }
    Ok(())
}
