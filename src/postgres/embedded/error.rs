//! What can go wrong with the embedded server. Codes `E0201` to `E0216`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Coded;

/// An error of the embedded server. None of them leaves a half-made cluster behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// No folder has usable `initdb`, `pg_ctl` and `postgres`.
    #[error("no usable PostgreSQL programs (initdb, pg_ctl, postgres) were found; looked at {}", .searched.join("; "))]
    NoBinaries {
        /// One entry a place, with the reason where there is more to say than that they are not there.
        searched: Vec<String>,
    },
    /// The cluster exists and was made by a major version that is not installed.
    #[error(
        "the cluster needs the programs of PostgreSQL {major}, which were not found; looked at {}",
        .searched.join("; ")
    )]
    MajorMissing {
        /// Major version in the cluster's `PG_VERSION`.
        major: u32,
        /// One entry a place, with what was found there.
        searched: Vec<String>,
    },
    /// Root has nobody to run the server as: PostgreSQL refuses to run as root.
    #[error("PostgreSQL refuses to run as root, and {reason}")]
    NoServerUser {
        /// Why no other user can be taken.
        reason: String,
    },
    /// A folder belongs to another user, so its password and locks are not ours to use.
    #[error("{} belongs to uid {owner}, and this process runs as uid {user}", .path.display())]
    OwnedByAnother {
        /// The folder.
        path: PathBuf,
        /// Who owns it.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// Neither the wanted folder nor a replacement can be used.
    #[error("no usable folder for the embedded server: {}", .reasons.join("; "))]
    Unreachable {
        /// One entry a place, with its reason.
        reasons: Vec<String>,
    },
    /// The folder holds something that is not a cluster of ours.
    #[error("{} {what}", .path.display())]
    ForeignFolder {
        /// The folder.
        path: PathBuf,
        /// What was found, as the end of a sentence.
        what: &'static str,
    },
    /// `initdb` or the first single-user start failed. Nothing was left behind.
    #[error("{step} failed for a new cluster in {}: {output}", .path.display())]
    Create {
        /// Program that failed.
        step: &'static str,
        /// Where the cluster was to be.
        path: PathBuf,
        /// Last lines of its output.
        output: String,
    },
    /// The server did not start.
    #[error("the server in {} did not start: {output}", .path.display())]
    Start {
        /// Folder of the server.
        path: PathBuf,
        /// Last lines of its log.
        output: String,
    },
    /// Another process held the start lock for too long.
    #[error("{} was locked by another process for more than {} s", .path.display(), .waited.as_secs())]
    LockTimeout {
        /// The lock file.
        path: PathBuf,
        /// How long was waited.
        waited: Duration,
    },
    /// The old postmaster neither serves nor goes away.
    #[error("the postmaster with pid {pid} {what}, and was waited for {} s", .waited.as_secs())]
    Stuck {
        /// Process id in `postmaster.pid`.
        pid: u32,
        /// What it is, as the end of a sentence.
        what: &'static str,
        /// How long was waited.
        waited: Duration,
    },
    /// The server did not stop, not even after an immediate shutdown was asked for.
    #[error("the postmaster with pid {pid} did not stop within {} s", .waited.as_secs())]
    Stop {
        /// Process id of the postmaster.
        pid: u32,
        /// How long was waited.
        waited: Duration,
    },
    /// The folder was removed or replaced while this process used it.
    #[error("{} was removed or replaced while it was in use", .path.display())]
    Vanished {
        /// The folder.
        path: PathBuf,
    },
    /// The cluster exists and its password file does not, or is unreadable.
    #[error("the password file {} of an existing cluster {what}", .path.display())]
    Password {
        /// The file.
        path: PathBuf,
        /// What is wrong, as the end of a sentence.
        what: &'static str,
    },
    /// No folder for the Unix socket that is short enough and safe.
    #[error("no usable folder for the Unix socket: {}", .reasons.join("; "))]
    SocketFolder {
        /// One entry a place, with its reason.
        reasons: Vec<String>,
    },
    /// The guardian was called with arguments it does not know.
    #[error("the guardian takes a data folder and milliseconds, not {given}")]
    GuardianArguments {
        /// What was given.
        given: String,
    },
    /// A file, folder or process operation failed.
    #[error("cannot {action} {}: {reason}", .path.display())]
    Io {
        /// What was tried, such as `read`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        reason: io::Error,
    },
}

impl EmbeddedError {
    /// Adapter for `map_err`.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |reason| Self::Io { action, path, reason }
    }
}

impl Coded for EmbeddedError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoBinaries { .. } => "E0201",
            Self::MajorMissing { .. } => "E0202",
            Self::NoServerUser { .. } => "E0203",
            Self::OwnedByAnother { .. } => "E0204",
            Self::Unreachable { .. } => "E0205",
            Self::ForeignFolder { .. } => "E0206",
            Self::Create { .. } => "E0207",
            Self::Start { .. } => "E0208",
            Self::LockTimeout { .. } => "E0209",
            Self::Stuck { .. } => "E0210",
            Self::Stop { .. } => "E0211",
            Self::Vanished { .. } => "E0212",
            Self::Password { .. } => "E0213",
            Self::SocketFolder { .. } => "E0214",
            Self::GuardianArguments { .. } => "E0215",
            Self::Io { .. } => "E0216",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoBinaries { .. } => "install PostgreSQL 14 or newer (Debian, Ubuntu: apt-get install postgresql; macOS: brew \
                 install postgresql), or set DATABASE_URL to a server that already runs, or name the folder of its \
                 programs as bin_dir under [embedded] in actors.toml"
                .into(),
            Self::MajorMissing { major, .. } => format!(
                "install PostgreSQL {major} (Debian, Ubuntu: apt-get install postgresql-{major}), or name its folder as \
                 bin_dir under [embedded], or set another data_dir there to begin with an empty cluster"
            ),
            Self::NoServerUser { .. } => {
                "run as an ordinary user, or add a user named postgres, or set DATABASE_URL to a server that already runs"
                    .into()
            }
            Self::OwnedByAnother { .. } => {
                "run as that user, or set another data_dir under [embedded] in actors.toml".into()
            }
            Self::Unreachable { .. } => {
                "set data_dir under [embedded] in actors.toml to a folder that the user of the server can enter".into()
            }
            Self::ForeignFolder { .. } => {
                "set data_dir under [embedded] to a folder of its own; to use an existing cluster start its server and \
                 set DATABASE_URL"
                    .into()
            }
            Self::Create { output, .. } if output.contains("could not look up effective user ID") => {
                "run as a user that has an entry in the password database; this uid has none".into()
            }
            Self::Create { .. } => "check free space and the rights of that folder, then start again".into(),
            Self::Start { path, .. } => format!("read the whole log in {}", path.join("server/log").display()),
            Self::LockTimeout { .. } => "see with `fuser` or `lsof` which process holds it, and what it does".into(),
            Self::Stuck { what, .. } if what.contains("zombie") => {
                "start the container with an init process that reaps children, for example `docker run --init`".into()
            }
            Self::Stuck { .. } | Self::Stop { .. } => "read the server's log, then stop that process yourself".into(),
            Self::Vanished { .. } => "restart this process; a folder in use must not be removed".into(),
            Self::Password { .. } => {
                "restore the file, or remove the folder to begin with an empty cluster".into()
            }
            Self::SocketFolder { .. } => "set a shorter data_dir under [embedded] in actors.toml".into(),
            Self::GuardianArguments { .. } => "leave this command to the node, which starts it by itself".into(),
            Self::Io { reason, .. } if reason.kind() == io::ErrorKind::StorageFull => "free some disk space".into(),
            Self::Io { .. } => "check that the path exists and that this user may use it".into(),
        })
    }
}
