//! The folder of the server's Unix socket.
//!
//! A socket's path has at most 107 bytes on Linux and 103 on macOS. The folder lies in the home when that leaves room,
//! else under /tmp with a name of its own. It is made by the server's user, closed to others, and checked, because
//! anybody may have made a folder of that name in /tmp before.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::error::EmbeddedError;
use super::home::Home;
use super::identity::Identity;

/// Longest socket path, in bytes: that of macOS, the smallest.
const SOCKET_PATH_BYTES_MAX: usize = 103;

/// What the server appends to the folder.
const SOCKET_NAME_LONGEST: &str = "/.s.PGSQL.65535";

/// Beginning of the names of a socket and its lock file.
const SOCKET_PREFIX: &str = ".s.PGSQL.";

/// Makes the socket folder and empties it: under the start lock, with no server running, a socket in it is a leftover,
/// and the lock file beside it may name a pid that is somebody else's by now.
pub(super) fn prepare(home: &Home, identity: &Identity) -> Result<PathBuf, EmbeddedError> {
    let inside = home.server().join("socket");
    let name = format!("singularity-{}-{}", identity.server_uid(), home.digest());
    let mut reasons = Vec::new();
    for folder in [inside, Path::new("/tmp").join(&name), Path::new("/var/tmp").join(&name)] {
        if !is_plain_and_short(&folder) {
            reasons.push(format!("{} is too long or has unusual characters", folder.display()));
        } else if !make(&folder, identity)? {
            reasons.push(format!("{} cannot be made, or belongs to somebody else", folder.display()));
        } else {
            clear(&folder);
            return Ok(folder);
        }
    }
    Err(EmbeddedError::SocketFolder { reasons })
}

/// Removes a socket folder outside the home when the server is gone.
pub(super) fn discard(home: &Home, folder: &Path) {
    if !folder.starts_with(home.path()) {
        // It is empty after an ordered stop; anything else in it is a reason to leave it.
        fs::remove_dir(folder).ok();
    }
}

/// The setting takes a list of names with quoting rules of its own; plain names need none.
fn is_plain_and_short(folder: &Path) -> bool {
    let bytes = folder.as_os_str().as_bytes();
    bytes.len() + SOCKET_NAME_LONGEST.len() <= SOCKET_PATH_BYTES_MAX
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+@".contains(byte))
}

fn make(folder: &Path, identity: &Identity) -> Result<bool, EmbeddedError> {
    if fs::symlink_metadata(folder).is_err() {
        let shell = Path::new("/bin/sh");
        // That it failed shows in the check below.
        identity
            .server_command(shell, Path::new("/"))
            .args(["-c", "mkdir -m 700 \"$0\""])
            .arg(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map_err(EmbeddedError::io("run", shell))?;
    }
    let Ok(meta) = fs::symlink_metadata(folder) else { return Ok(false) };
    Ok(meta.is_dir() && meta.uid() == identity.server_uid() && meta.mode() & 0o077 == 0)
}

fn clear(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(SOCKET_PREFIX) {
            // What cannot be removed makes the start fail with the server's own words.
            fs::remove_file(entry.path()).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_unusual_paths_are_told_from_plain_short_ones() {
        assert!(is_plain_and_short(Path::new("/home/ann/project-1/.singularity/postgres/server/socket")));
        assert!(!is_plain_and_short(&Path::new("/").join("x".repeat(90))));
        for path in ["/a b", "/a,b", "/a'b", "/a\"b", "/ä"] {
            assert!(!is_plain_and_short(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn a_folder_with_open_rights_or_a_link_is_not_trusted() {
        let parent = tempfile::tempdir().unwrap();
        let identity = Identity { user: fs::metadata(parent.path()).unwrap().uid(), server: None };
        let folder = parent.path().join("s");
        assert!(make(&folder, &identity).unwrap());
        fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert!(!make(&folder, &identity).unwrap());
        let link = parent.path().join("link");
        std::os::unix::fs::symlink("/tmp", &link).unwrap();
        assert!(!make(&link, &identity).unwrap());
    }
}
