//! Settings of the embedded server: what it may lose at a crash (nothing), and how much it may take.

use std::fmt::Write;
use std::path::Path;

/// How careful the server is with what it has promised to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// Every commit is on disk when it returns.
    #[default]
    Durable,
    /// Commits return before they are written, and nothing is forced to disk: kill -9 of the server loses the last
    /// commits, a crash of the machine may destroy the cluster. For tests and benches that need neither.
    Fast,
}

/// Line that a new cluster's `postgresql.conf` ends with; relative to that file, so that the folder may be moved.
pub(super) const INCLUDE: &str = "include_if_exists = '../../server.conf'";

/// Text of `server.conf`. `socket_dir` has none of the characters that would need quoting.
pub(super) fn text(port: u16, socket_dir: &Path, profile: Profile) -> String {
    let mut text = format!(
        "# Written at every start. To change a setting use ALTER SYSTEM, which wins over this file.
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{}'
unix_socket_permissions = 0700
password_encryption = 'scram-sha-256'
max_connections = 200
shared_buffers = 128MB
jit = off
wal_level = minimal
max_wal_senders = 0
max_wal_size = 1GB
autovacuum_naptime = 10s
idle_in_transaction_session_timeout = 60s
",
        socket_dir.display()
    );
    if cfg!(target_os = "linux") {
        // Notices during a long statement that its client is gone.
        text.push_str("client_connection_check_interval = 2s\n");
    }
    let switch = match profile {
        Profile::Durable => "on",
        Profile::Fast => "off",
    };
    for name in ["fsync", "synchronous_commit", "full_page_writes"] {
        // Writing to a String cannot fail.
        writeln!(text, "{name} = {switch}").ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durable_is_the_default_and_fast_is_asked_for() {
        let durable = text(5433, Path::new("/s"), Profile::default());
        assert!(durable.contains("\nfsync = on\nsynchronous_commit = on\nfull_page_writes = on\n"));
        assert!(durable.contains("\nunix_socket_directories = '/s'\n"));
        assert!(text(5433, Path::new("/s"), Profile::Fast).contains("\nfsync = off\n"));
    }
}
