//! Which part this instance takes beside others on its database: what the configuration says, and what is found.
//!
//! Oban assumes that all nodes are configured alike: while one leads, no other prunes, rescues or inserts periodic
//! jobs. A leader of ours would silence what Elixir or Python nodes are configured to do. So beside them an instance is
//! a guest unless its operator says otherwise.

use std::fmt;
use std::time::Duration;

use crate::config::Mode;

/// A node of Oban in another language: one that is not in `instance_registry`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreigner {
    /// Its name.
    pub node: String,
    /// Where it was seen.
    pub sight: Sight,
}

/// Where a foreign node was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// It holds a lease in `oban_peers`, for as long.
    LeadsElixir(Duration),
    /// It holds a lease in `oban_leaders`, for as long.
    LeadsPython(Duration),
    /// It has fresh rows in `oban_producers`.
    WorksPython,
    /// It said on channel `sonar` that it is there.
    Heard,
    /// Nowhere any more, but it is remembered.
    Gone,
}

impl Sight {
    /// How much of its lease is left, if it leads.
    pub fn lease(self) -> Option<Duration> {
        match self {
            Self::LeadsElixir(left) | Self::LeadsPython(left) => Some(left),
            Self::WorksPython | Self::Heard | Self::Gone => None,
        }
    }
}

impl fmt::Display for Foreigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = &self.node;
        match self.sight {
            Sight::LeadsElixir(_) => write!(f, "{node} leads in oban_peers"),
            Sight::LeadsPython(_) => write!(f, "{node} leads in oban_leaders"),
            Sight::WorksPython => write!(f, "{node} works in oban_producers"),
            Sight::Heard => write!(f, "{node} was heard"),
            Sight::Gone => write!(f, "{node} was there lately"),
        }
    }
}

/// The part that an instance takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It campaigns; there are only instances of this program.
    Standalone,
    /// It never campaigns: others lead, prune and rescue.
    Guest,
    /// It campaigns beside nodes of other runtimes.
    Peer,
}

impl Role {
    /// The role in `mode` where `foreigner` was seen lately.
    pub fn of(mode: Mode, foreigner: Option<&Foreigner>) -> Self {
        match (mode, foreigner) {
            (Mode::Guest, _) | (Mode::Auto, Some(_)) => Self::Guest,
            (Mode::Standalone, _) | (Mode::Auto, None) => Self::Standalone,
            (Mode::Peer, _) => Self::Peer,
        }
    }

    /// Whether it takes part in elections.
    pub fn campaigns(self) -> bool {
        self != Self::Guest
    }

    /// As in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::Guest => "guest",
            Self::Peer => "peer",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_foreign_nodes_only_the_operator_makes_an_instance_campaign() {
        let elixir = Foreigner { node: "a@b".into(), sight: Sight::LeadsElixir(Duration::ZERO) };
        for (mode, alone, beside) in [
            (Mode::Auto, Role::Standalone, Role::Guest),
            (Mode::Standalone, Role::Standalone, Role::Standalone),
            (Mode::Guest, Role::Guest, Role::Guest),
            (Mode::Peer, Role::Peer, Role::Peer),
        ] {
            assert_eq!((Role::of(mode, None), Role::of(mode, Some(&elixir))), (alone, beside), "{mode:?}");
        }
        assert!(Role::Standalone.campaigns() && Role::Peer.campaigns() && !Role::Guest.campaigns());
    }
}
