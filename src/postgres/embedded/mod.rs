//! The PostgreSQL server that a node runs when no database is named.
//!
//! Installed programs are discovered, a cluster is made, and every process that is given the same folder shares one
//! server. No library does this without harm under root, kill -9 and several processes, hence this one.
//!
//! Invariants:
//! - Nobody owns the server. Users are counted by a shared file lock, which the kernel takes back from the killed.
//! - One process at a time makes, starts, heals or stops it.
//! - The last user out stops it ([`Server::release`]); when all were killed, a guardian process does.
//! - A cluster exists whole or not at all.
//! - As root every program of the server runs as user `postgres` or `nobody`, and files of ours stay ours.
//! - Only loopback and a closed socket folder; every connection needs the password.
//!
//! Everything here blocks; asynchronous callers use `spawn_blocking`. Linux is tried; without `/proc` a server is
//! recognised by its name only. Locks and process ids must mean the same to all users of a folder: one machine, one pid
//! namespace, no network file system.

mod binaries;
mod cluster;
mod connection;
mod error;
mod guardian;
mod home;
mod identity;
mod lock;
mod postmaster;
mod run;
mod settings;
mod socket;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::SecretString;

pub use binaries::{Binaries, discover};
pub use connection::Connection;
pub use error::EmbeddedError;
pub use guardian::{GUARDIAN_ARGUMENT, guardian_main};
pub use settings::Profile;

use cluster::Cluster;
use lock::Locks;
use postmaster::{Endpoint, State};

/// Grace time of a server without users unless another one is set.
const LINGER_DEFAULT: Duration = Duration::from_secs(2);

/// Which server, and how it is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder of the server; made if need be. Several processes that name the same one share the server.
    pub data_dir: PathBuf,
    /// Folder with `initdb`, `pg_ctl` and `postgres`; `None` means discovery.
    pub bin_dir: Option<PathBuf>,
    /// How long the guardian lets the server live after its last user was killed or dropped its [`Server`]. Default 2
    /// s. The value of the process that starts the guardian counts. A longer time than the default is meant for those
    /// who come soon again, so it holds after [`Server::release`] too, where there is a guardian.
    pub linger: Duration,
    /// How careful the server is. The value of the process that starts it counts.
    pub profile: Profile,
    /// Program and leading arguments of the guardian, to which folder and milliseconds are appended. `None` means the
    /// running executable with [`GUARDIAN_ARGUMENT`]: its `main` must pass what follows to [`guardian_main`]. An empty
    /// list means no guardian; a server whose users were all killed then stays until its next user releases it.
    pub guardian: Option<Vec<OsString>>,
}

impl Options {
    /// A durable server in this folder, everything else as by default.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            bin_dir: None,
            linger: LINGER_DEFAULT,
            profile: Profile::default(),
            guardian: None,
        }
    }
}

/// What [`Server::ensure_running`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restarted {
    /// The server runs as before.
    No,
    /// Another process restarted it.
    ByOther,
    /// This call restarted it.
    Here,
}

impl Restarted {
    /// Whether it is another postmaster than before, perhaps on another port.
    pub fn is_new(self) -> bool {
        self != Self::No
    }
}

/// One user's share of the running server.
///
/// Dropping it gives the share back without blocking; the guardian then stops the server after the grace time if it was
/// the last one. [`Self::release`] stops it at once, unless it shall linger for longer than by default.
#[derive(Debug)]
pub struct Server {
    cluster: Cluster,
    locks: Locks,
    password: SecretString,
    endpoint: Mutex<Endpoint>,
    linger: Duration,
    guardian: Option<Vec<OsString>>,
    notes: Vec<String>,
}

impl Server {
    /// Attaches to the server of a folder; makes and starts it first if need be. Processes may do this at the same
    /// time.
    ///
    /// Blocks for some milliseconds when the server runs, 0.2 s when it has to be started, 1 s when the cluster has to
    /// be made (several on a busy machine), longer after a crash of a busy server.
    ///
    /// # Errors
    /// `E0201` without installed programs, and every other error of [`EmbeddedError`] but `E0215`.
    pub fn acquire(options: &Options) -> Result<Self, EmbeddedError> {
        let (home, identity, notes) = home::choose(&options.data_dir)?;
        for note in &notes {
            tracing::warn!("{note}");
        }
        let locks = Locks::open(home.path())?;
        let cluster = Cluster { home, identity, bin_dir: options.bin_dir.clone(), profile: options.profile };
        let (linger, guardian) = (options.linger, options.guardian.clone());
        let (password, endpoint) = {
            let start = locks.start.lock()?;
            let password = connection::password(&cluster.home)?;
            cluster.create_if_missing(&password, &start)?;
            locks.usage.share()?;
            // Before the start: were this process killed right after it, the server would have nobody.
            guardian::ensure(&cluster.home, &locks, linger, guardian.as_deref(), &start)?;
            let (endpoint, _) = cluster.ensure_started(&start)?;
            connection::announce(&cluster.home, &Connection::new(&cluster.home, &endpoint, password.clone()))?;
            (password, endpoint)
        };
        tracing::info!(pid = endpoint.pid, port = endpoint.port, home = %cluster.home.path().display(), "embedded PostgreSQL in use");
        Ok(Self { cluster, locks, password, endpoint: Mutex::new(endpoint), linger, guardian, notes })
    }

    /// Whether there is a cluster that [`Self::acquire`] would use. Makes nothing; blocks for a moment.
    ///
    /// # Errors
    /// As [`Self::acquire`], for the path and the user alone.
    pub fn exists(options: &Options) -> Result<bool, EmbeddedError> {
        home::has_cluster(&options.data_dir)
    }

    /// Starts the server again if it is gone, for example after kill -9 of the postmaster. When several users call
    /// this, one restarts it and the others wait for that. The port stays the same where it is still free; ask
    /// [`Self::connection`] again afterwards. A postmaster that is dying at this very moment still counts as running:
    /// call again while connections fail.
    ///
    /// # Errors
    /// `E0212` when the folder was removed, and whatever a start can fail with; calling again later is fine.
    pub fn ensure_running(&self) -> Result<Restarted, EmbeddedError> {
        if !self.locks.usage.is_in_place() || !self.locks.start.is_in_place() || !self.cluster.home.has_cluster() {
            return Err(EmbeddedError::Vanished { path: self.cluster.home.path().to_owned() });
        }
        let state = postmaster::inspect(&self.cluster.home.data(), &self.cluster.identity)?;
        if matches!(state, State::Ready(endpoint) if endpoint == *self.endpoint()) {
            return Ok(Restarted::No);
        }
        let start = self.locks.start.lock()?;
        guardian::ensure(&self.cluster.home, &self.locks, self.linger, self.guardian.as_deref(), &start)?;
        let (endpoint, started) = self.cluster.ensure_started(&start)?;
        let connection = Connection::new(&self.cluster.home, &endpoint, self.password.clone());
        connection::announce(&self.cluster.home, &connection)?;
        drop(start);
        let pid = endpoint.pid;
        let before = std::mem::replace(&mut *self.endpoint(), endpoint);
        Ok(match (started, before.pid == pid) {
            (true, _) => {
                tracing::warn!(pid, "embedded PostgreSQL restarted");
                Restarted::Here
            }
            (false, true) => Restarted::No,
            (false, false) => Restarted::ByOther,
        })
    }

    /// How to connect, as of the last [`Self::acquire`] or [`Self::ensure_running`].
    pub fn connection(&self) -> Connection {
        Connection::new(&self.cluster.home, &self.endpoint(), self.password.clone())
    }

    /// Process id of the postmaster, as of the last [`Self::acquire`] or [`Self::ensure_running`].
    pub fn postmaster_pid(&self) -> u32 {
        self.endpoint().pid
    }

    /// The folder in use: the one that was asked for, or its replacement.
    pub fn data_dir(&self) -> &Path {
        self.cluster.home.path()
    }

    /// What a person should be told, for example that another folder than the wanted one is in use.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Gives the share back, and stops the server in order when this was the last one. Close connections first; a fast
    /// shutdown ends those that are left. Blocks for about 0.1 s when it stops the server. With a guardian and an
    /// [`Options::linger`] above the default it leaves the stop to the guardian.
    ///
    /// # Errors
    /// `E0209` and `E0211`, when the lock or the server does not react for minutes. The share is given back in any
    /// case.
    pub fn release(self) -> Result<(), EmbeddedError> {
        let has_guardian = self.guardian.as_deref().is_none_or(|command| !command.is_empty());
        if has_guardian && self.linger > LINGER_DEFAULT {
            return Ok(());
        }
        let start = self.locks.start.lock()?;
        self.locks.usage.unlock();
        // A folder that was made anew has a server of others, whom this lock does not count.
        if !self.locks.usage.is_in_place() {
            return Ok(());
        }
        match self.locks.usage.try_lock_as_last()? {
            Some(last) => self.cluster.stop(&start, &last),
            None => Ok(()),
        }
    }

    fn endpoint(&self) -> MutexGuard<'_, Endpoint> {
        self.endpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.locks.usage.unlock();
    }
}
