//! Who we are, and as whom the server runs.
//!
//! PostgreSQL refuses to run as root. As root, every program of the server runs as an unprivileged user; `Command`
//! drops uid, gid and supplementary groups before it executes anything. An ordinary user runs the server itself.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::error::EmbeddedError;

/// Users that root may run the server as, best first.
const SERVER_USERS: [&str; 2] = ["postgres", "nobody"];

/// Variables that server programs keep. All others are dropped: a node's environment holds keys, and the environment of
/// a process can be read by its user, who is another one when root dropped its rights.
const VARIABLES_KEPT: [&str; 5] = ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ", "TZDIR"];

/// The user that the server runs as when it is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ServerUser {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// This process's user, and the server's where it differs.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) user: u32,
    pub(super) server: Option<ServerUser>,
}

impl Identity {
    /// Looks up the effective user, and as root whom to run the server as. `server_dir` is the folder of an existing
    /// cluster, whose owner stays the one, also when a better user was added to the system since.
    pub(super) fn detect(server_dir: Option<&Path>) -> Result<Self, EmbeddedError> {
        let user = effective_uid()?;
        if user != 0 {
            return Ok(Self { user, server: None });
        }
        let owner = server_dir.and_then(|dir| std::fs::metadata(dir).ok()).filter(|meta| meta.uid() != 0);
        let server = match owner {
            Some(meta) => ServerUser { uid: meta.uid(), gid: meta.gid() },
            None => {
                let path = Path::new("/etc/passwd");
                let text = std::fs::read_to_string(path).map_err(EmbeddedError::io("read", path))?;
                SERVER_USERS.iter().find_map(|name| find_user(&text, name)).ok_or_else(|| {
                    EmbeddedError::NoServerUser {
                        reason: format!("/etc/passwd has none of the users {}", SERVER_USERS.join(", ")),
                    }
                })?
            }
        };
        Ok(Self { user, server: Some(server) })
    }

    /// Owner of what the server writes.
    pub(super) fn server_uid(&self) -> u32 {
        self.server.map_or(self.user, |server| server.uid)
    }

    /// A command that runs as the server's user in `folder`, with a bare environment, no input, and out of reach of a
    /// terminal's Ctrl-C, which must not hit the server before the node has drained its jobs.
    pub(super) fn server_command(&self, program: impl AsRef<OsStr>, folder: &Path) -> Command {
        let mut command = bare_command(program, folder);
        if let Some(server) = self.server {
            command.uid(server.uid).gid(server.gid);
        }
        command
    }

    /// Gives a folder or file of ours to the server's user.
    pub(super) fn give(&self, path: &Path) -> Result<(), EmbeddedError> {
        match self.server {
            Some(server) => std::os::unix::fs::lchown(path, Some(server.uid), Some(server.gid))
                .map_err(EmbeddedError::io("change the owner of", path)),
            None => Ok(()),
        }
    }

    /// Whether the server's user passes a file test of `sh`, such as `-x`.
    pub(super) fn server_can(&self, test: &str, path: &Path) -> Result<bool, EmbeddedError> {
        let script = format!("test {test} \"$0\"");
        let status = self
            .server_command("/bin/sh", Path::new("/"))
            .args(["-c", &script])
            .arg(path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map_err(|error| self.refused(error))?;
        Ok(status.success())
    }

    /// Explains why `/bin/sh` could not be run as the server's user.
    fn refused(&self, error: io::Error) -> EmbeddedError {
        match self.server {
            Some(server) => EmbeddedError::NoServerUser {
                reason: format!("a program cannot be run as uid {}: {error}", server.uid),
            },
            None => EmbeddedError::Io { action: "run", path: "/bin/sh".into(), reason: error },
        }
    }
}

/// As [`Identity::server_command`], as ourselves.
pub(super) fn bare_command(program: impl AsRef<OsStr>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    for name in VARIABLES_KEPT {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.env("LC_ALL", "C").current_dir(folder).stdin(Stdio::null()).process_group(0);
    command
}

/// Effective uid of this process: from `/proc`, elsewhere from `id -u`.
fn effective_uid() -> Result<u32, EmbeddedError> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(uid) = uid_of_status(&status) {
        return Ok(uid);
    }
    let output = Command::new("id").arg("-u").output().map_err(EmbeddedError::io("run", Path::new("id")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().map_err(|error| EmbeddedError::Io {
        action: "read the output of",
        path: "id -u".into(),
        reason: io::Error::new(io::ErrorKind::InvalidData, error),
    })
}

/// Second number of the `Uid:` line of `/proc/<pid>/status`, which is the effective one.
pub(super) fn uid_of_status(text: &str) -> Option<u32> {
    text.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().nth(1)?.parse().ok()
}

/// Looks a name up in the text of a passwd file. Users with uid 0 under another name do not count.
fn find_user(passwd: &str, name: &str) -> Option<ServerUser> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next() == Some(name);
        let uid = fields.nth(1)?.parse().ok().filter(|uid| *uid != 0)?;
        let gid = fields.next()?.parse().ok()?;
        found.then_some(ServerUser { uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_users_by_exact_name_and_never_root() {
        let text =
            "root:x:0:0:root:/root:/bin/bash\nbroken\npostgresql:x:7:7::/:\npostgres:x:101:104:,,,:/var/lib:/bin/sh\n";
        assert_eq!(find_user(text, "postgres"), Some(ServerUser { uid: 101, gid: 104 }));
        assert_eq!(find_user(text, "nobody"), None);
        assert_eq!(find_user("postgres:x:0:0::/:", "postgres"), None);
    }

    #[test]
    fn reads_the_effective_uid() {
        assert_eq!(uid_of_status("Name:\tx\nUid:\t1000\t0\t1000\t1000\n"), Some(0));
        assert_eq!(uid_of_status(""), None);
        assert!(effective_uid().is_ok());
    }
}
