//! Where the story takes place: a folder with a configuration and an embedded server, and nothing of the caller's.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::troupe::Player;
use crate::cli::codes;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::config::{self, Config, Source};
use crate::node::{Guardian, NodeError, Storage};
use crate::postgres::migrate;

/// The configuration of all processes, but for the intervals.
const ACTORS: &str = include_str!("actors.toml");

/// Time between two reports, syncs and decisions, and the same for those in a hurry.
const INTERVAL: Duration = Duration::from_secs(2);
const FAST_INTERVAL: Duration = Duration::from_millis(400);

/// An open stage.
#[derive(Debug)]
pub(super) struct Stage {
    dir: PathBuf,
    config: Config,
    interval: Duration,
    storage: Storage,
    players: Mutex<Vec<Player>>,
}

impl Stage {
    /// Makes the folder, starts the server and brings its tables up to date.
    ///
    /// # Errors
    /// The folder cannot be made, or those of a node's start.
    pub(super) async fn build(fast: bool) -> Result<Self, Failure> {
        let dir = std::env::temp_dir().join(format!("singularity-demo-{}", std::process::id()));
        let failed = |what: &str, error: std::io::Error| {
            Failure::new(Exit::Failed, codes::DEMO_STAGE, format!("{what} {}: {error}", dir.display()))
                .hint("name a folder that you may write to in TMPDIR")
        };
        std::fs::create_dir(&dir).map_err(|error| failed("cannot make the folder", error))?;
        output::note(format!("making a database in {}", dir.display()));
        let interval = if fast { FAST_INTERVAL } else { INTERVAL };
        let text = ACTORS.replace("INTERVAL", &format!("{}ms", interval.as_millis()));
        let path = dir.join("actors.toml");
        std::fs::write(&path, text).map_err(|error| failed("cannot write into", error))?;
        let source =
            Source { path: Some(path), search_dir: dir.clone(), env: Default::default(), overrides: Vec::new() };
        let config = config::load(&source)?.config;
        let storage = Storage::embedded(&config, &dir, "singularity-demo", Guardian::ThisProgram).await?;
        if let Err(error) = migrate::up(storage.db()).await {
            storage.close().await;
            return Err(NodeError::from(error).into());
        }
        Ok(Self { dir, config, interval, storage, players: Mutex::default() })
    }

    /// The folder.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The configuration of all processes.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Time between two reports, syncs and decisions.
    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// The database.
    pub(super) fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Starts an instance, which ends with the stage.
    ///
    /// # Errors
    /// Those of [`Player::start`].
    pub(super) async fn enter(&self, name: &str, role: &str) -> Result<(), Failure> {
        let player = Player::start(&self.dir, name, role).await?;
        self.players.lock().unwrap_or_else(PoisonError::into_inner).push(player);
        Ok(())
    }

    /// Kills an instance with -9; tells whether there was one of this name.
    pub(super) async fn kill(&self, name: &str) -> bool {
        let player = {
            let mut players = self.players.lock().unwrap_or_else(PoisonError::into_inner);
            let at = players.iter().position(|player| player.name() == name);
            at.map(|at| players.remove(at))
        };
        match player {
            Some(player) => {
                player.kill().await;
                true
            }
            None => false,
        }
    }

    /// Stops everybody and the server, and removes the folder unless it is kept.
    pub(super) async fn strike(self, keep: bool) {
        let players = self.players.into_inner().unwrap_or_else(PoisonError::into_inner);
        futures_util::future::join_all(players.into_iter().map(Player::stop)).await;
        self.storage.close().await;
        if !keep {
            // The server's last files may still be on their way out; what stays is in the folder of temporary files.
            drop(std::fs::remove_dir_all(&self.dir));
        }
    }
}
