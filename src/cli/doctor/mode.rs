//! Which part an instance takes beside nodes of other runtimes, and whether somebody leads.

use super::Check;
use crate::config::Mode;
use crate::postgres::Database;
use crate::queue::{Engine, Foreigner, Role, describe_role};

/// What a node with this configuration would be now.
pub(super) async fn check(db: &Database, mode: Mode) -> Check {
    match Engine::new(db.clone()).foreigners(&[]).await {
        Ok(looked) => judge(mode, looked.found.iter().max_by_key(|foreigner| foreigner.sight.lease())),
        Err(error) => Check::error("mode", &error),
    }
}

fn judge(mode: Mode, foreigner: Option<&Foreigner>) -> Check {
    let role = Role::of(mode, foreigner);
    let text = describe_role(role, mode, foreigner);
    match (role, foreigner) {
        (Role::Standalone, Some(_)) => Check::warn(
            "mode",
            format!("{text}; while an instance leads, that node's pruner, lifeline and periodic jobs rest"),
            "write mode = \"guest\" or, if instances shall do that work, mode = \"peer\" in actors.toml",
        ),
        (Role::Guest, None) => Check::warn(
            "mode",
            format!("{text}: nobody prunes, and nobody rescues jobs of other runtimes"),
            "write mode = \"auto\" in actors.toml, or start the nodes that shall lead",
        ),
        (Role::Standalone | Role::Peer, None) | (Role::Guest | Role::Peer, Some(_)) => Check::ok("mode", text),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Status;
    use super::*;
    use crate::queue::Sight;

    #[test]
    fn warns_where_a_mode_does_not_fit_who_is_there() {
        let elixir = Foreigner { node: "web@host".into(), sight: Sight::LeadsElixir(Duration::from_secs(9)) };
        for (mode, foreigner, status, text) in [
            (Mode::Auto, None, Status::Ok, "standalone by itself, no other runtime was seen"),
            (Mode::Auto, Some(&elixir), Status::Ok, "guest by itself, web@host leads in oban_peers"),
            (Mode::Peer, Some(&elixir), Status::Ok, "peer, web@host leads in oban_peers"),
            (Mode::Standalone, Some(&elixir), Status::Warn, "standalone, web@host leads in oban_peers; while"),
            (Mode::Guest, None, Status::Warn, "guest, no other runtime was seen: nobody prunes"),
        ] {
            let check = judge(mode, foreigner);
            assert_eq!(check.status, status, "{check:?}");
            assert!(check.message.starts_with(text), "{check:?}");
        }
    }
}
