//! What an instance is and what it stands on: `mode`, `[instance]`, `[database]`, `[embedded]`, `[runtime]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::period::Period;
use super::secret::SecretRef;

/// Which part an instance takes beside Oban nodes in other languages on its database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Guest while such a node is seen and for four leases after, standalone otherwise.
    #[default]
    Auto,
    /// There are none: it takes part in the election and does a leader's work when it wins.
    Standalone,
    /// They lead, prune and rescue; it never takes part in an election.
    Guest,
    /// It takes part in their election, because its operator has it do all that their leader would.
    Peer,
}

/// `[instance]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Instance {
    /// `"auto"` (host name and process id) or a fixed name of 1 to 63 visible characters. `INSTANCE_ID` and
    /// `--instance-id` win over it.
    pub id: String,
    /// What this instance offers to others, for example `llm`.
    pub capabilities: Vec<String>,
    /// Time between heartbeats; 100 ms to 1 minute. Default 5 s.
    pub heartbeat: Period,
    /// Without a heartbeat for this long an instance counts as dead and its jobs are taken over; it stops its own jobs
    /// before that. At least three heartbeats and 10 s, at most a day. Default 30 s.
    pub stale_after: Period,
}

/// `[database]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// `env:NAME` or `file:PATH`. When the default `env:DATABASE_URL` is not set, the embedded server is used; any
    /// other reference that cannot be read is an error.
    pub url: SecretRef,
    /// PostgreSQL schema of the Oban tables and ours: an identifier of `[a-z_][a-z0-9_]*`, at most 30 characters.
    pub schema: String,
    /// Connections of the pool; 4 to 200. Beside it an instance has a few for what must not wait: heartbeat, notices,
    /// requests, claims, results, enqueued jobs. Default 10.
    pub pool_max: u32,
    /// Limit of one statement on the server; 100 ms to 1 hour. Default 10 s.
    pub statement_timeout: Period,
    /// Which indexes the table of jobs gets where it is made; one that is there is switched by `migrate indexes` only.
    /// Default `oban`.
    pub indexes: Indexes,
}

/// Which indexes the table of jobs has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Indexes {
    /// Oban's own, which every runtime and every tool around Oban expects.
    #[default]
    Oban,
    /// Fewer and smaller ones, each over one state: claims and completions cost less, searches in arguments and looks
    /// for unique jobs read the whole table.
    Lean,
}

impl Indexes {
    /// As it is written in `actors.toml`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Oban => "oban",
            Self::Lean => "lean",
        }
    }
}

/// `[embedded]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Embedded {
    /// Cluster folder. A relative path starts at the folder of the configuration file.
    pub data_dir: PathBuf,
    /// Folder with `initdb`, `pg_ctl` and `postgres`; unset means discovery.
    pub bin_dir: Option<PathBuf>,
    /// How long the server stays after its last user is gone; at most a day. Default 2 s. Up to that a user that ends
    /// in order stops it at once, and so does a program that has no guardian, whatever this says.
    pub linger: Period,
}

/// `[runtime]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Runtime {
    /// Restarts that the root supervisor allows within `max_window` before the process gives up with exit code 70;
    /// at most 1,000. Default 3.
    pub max_restarts: u32,
    /// Window of `max_restarts`; 1 s to 1 day. Default 5 s.
    pub max_window: Period,
    /// How long running jobs may take to finish after a stop was asked for; at most a day. Default 25 s.
    pub shutdown_grace: Period,
    /// Threads of the job runtime; 0, the default, means one per core; at most 1,024.
    pub job_threads: usize,
}

impl Default for Instance {
    fn default() -> Self {
        Self {
            id: "auto".into(),
            capabilities: vec!["llm".into()],
            heartbeat: Period::from_secs(5),
            stale_after: Period::from_secs(30),
        }
    }
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: SecretRef::env("DATABASE_URL"),
            schema: "public".into(),
            pool_max: 10,
            statement_timeout: Period::from_secs(10),
            indexes: Indexes::Oban,
        }
    }
}

impl Default for Embedded {
    fn default() -> Self {
        Self { data_dir: ".singularity/postgres".into(), bin_dir: None, linger: Period::from_secs(2) }
    }
}

impl Default for Runtime {
    fn default() -> Self {
        Self {
            max_restarts: 3,
            max_window: Period::from_secs(5),
            shutdown_grace: Period::from_secs(25),
            job_threads: 0,
        }
    }
}
