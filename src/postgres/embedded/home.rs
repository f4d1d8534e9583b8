//! The folder of the server: what is where, and which folder it is.
//!
//! ```text
//! <home>/                 ours: locks, pgpass (the password), url, port, server.conf
//!   server/               the server's user's: data (the cluster), log, socket
//! ```
//!
//! The wanted folder is taken unless the server's user cannot reach it (below /root, say) or it cannot be written; then
//! a fixed replacement is. A folder that already has a cluster is never left for another one.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::error::EmbeddedError;
use super::identity::Identity;

/// Pause before a folder is called unreachable for good: another process may be making it at this moment.
const SECOND_LOOK: Duration = Duration::from_millis(50);

/// Paths below one home folder.
#[derive(Debug, Clone)]
pub(super) struct Home {
    path: PathBuf,
}

impl Home {
    /// A home at a path that was chosen before.
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What belongs to the server's user.
    pub(super) fn server(&self) -> PathBuf {
        self.path.join("server")
    }

    /// The cluster.
    pub(super) fn data(&self) -> PathBuf {
        self.path.join("server/data")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join("server/log")
    }

    /// The password, in the format of libpq's password file.
    pub(super) fn pgpass(&self) -> PathBuf {
        self.path.join("pgpass")
    }

    /// Connection URL with the password.
    pub(super) fn url(&self) -> PathBuf {
        self.path.join("url")
    }

    /// The port of the last start.
    pub(super) fn port(&self) -> PathBuf {
        self.path.join("port")
    }

    /// Settings, written at every start.
    pub(super) fn settings(&self) -> PathBuf {
        self.path.join("server.conf")
    }

    pub(super) fn has_cluster(&self) -> bool {
        self.data().join("PG_VERSION").exists()
    }

    /// Sixteen hexadecimal digits that stand for this path.
    pub(super) fn digest(&self) -> String {
        digest(&self.path)
    }
}

/// Whether [`choose`] would find a cluster, as far as can be seen without making anything; true also where that cannot
/// be seen, so that [`choose`] says why.
pub(super) fn has_cluster(wanted: &Path) -> Result<bool, EmbeddedError> {
    let wanted = std::path::absolute(wanted).map_err(EmbeddedError::io("resolve", wanted))?;
    let identity = Identity::detect(Some(&Home::at(wanted.clone()).server()))?;
    let replacements = replacements(&wanted, identity.user);
    let mut homes = std::iter::once(wanted).chain(replacements).map(Home::at);
    Ok(homes.any(|home| home.data().join("PG_VERSION").try_exists().unwrap_or(true)))
}

/// Chooses and makes the home folder. Returns notes for people when it is not the wanted one.
pub(super) fn choose(wanted: &Path) -> Result<(Home, Identity, Vec<String>), EmbeddedError> {
    let wanted = std::path::absolute(wanted).map_err(EmbeddedError::io("resolve", wanted))?;
    let home = Home::at(wanted.clone());
    let identity = Identity::detect(Some(&home.server()))?;
    check_contents(&home, &identity)?;
    let reason = match prepare(&home, &identity)? {
        Ok(()) if home.has_cluster() => return Ok((home, identity, Vec::new())),
        Ok(()) => None,
        Err(reason) if home.has_cluster() => return Err(EmbeddedError::Unreachable { reasons: vec![reason] }),
        Err(reason) => Some(reason),
    };

    let replacements = replacements(&wanted, identity.user);
    let is_taken = |home: &Home| home.has_cluster() && check_private(home, &identity).is_ok();
    let taken = replacements.iter().map(|path| Home::at(path.clone())).find(is_taken);
    let (candidates, mut reasons) = match (reason, taken) {
        (None, None) => return Ok((home, identity, Vec::new())),
        (None, Some(taken)) => (vec![taken.path], vec![format!("the cluster for {} was made there", wanted.display())]),
        (Some(reason), Some(taken)) => (vec![taken.path], vec![reason]),
        (Some(reason), None) => (replacements, vec![reason]),
    };
    for candidate in candidates {
        let home = Home::at(candidate);
        let identity = Identity::detect(Some(&home.server()))?;
        match prepare(&home, &identity)?.and_then(|()| check_private(&home, &identity)) {
            Ok(()) => {
                let note = format!("the embedded server is in {}: {}", home.path.display(), reasons.join("; "));
                return Ok((home, identity, vec![note]));
            }
            Err(reason) => reasons.push(reason),
        }
    }
    Err(EmbeddedError::Unreachable { reasons })
}

/// Refuses what is somebody else's or some other cluster.
fn check_contents(home: &Home, identity: &Identity) -> Result<(), EmbeddedError> {
    let Ok(meta) = fs::metadata(&home.path) else { return Ok(()) };
    let foreign = |what| Err(EmbeddedError::ForeignFolder { path: home.path.clone(), what });
    if !meta.is_dir() {
        return foreign("is no folder");
    }
    if home.path.join("PG_VERSION").exists() {
        return foreign("is itself the data directory of a PostgreSQL server");
    }
    if meta.uid() != identity.user {
        return Err(EmbeddedError::OwnedByAnother { path: home.path.clone(), owner: meta.uid(), user: identity.user });
    }
    if home.data().exists() && !home.has_cluster() {
        return foreign("has a folder server/data that is no cluster");
    }
    Ok(())
}

/// Makes the folder if the server's user will be able to reach it. The inner error is a reason to try another folder.
fn prepare(home: &Home, identity: &Identity) -> Result<Result<(), String>, EmbeddedError> {
    let Some(existing) = home.path.ancestors().find(|path| path.exists()) else {
        return Ok(Err(format!("{} has no existing parent", home.path.display())));
    };
    if identity.server.is_some() && !reaches(identity, existing)? {
        return Ok(Err(format!("the server's user cannot enter {}", existing.display())));
    }
    let mut missing: Vec<&Path> = home.path.ancestors().take_while(|path| *path != existing).collect();
    missing.reverse();
    for path in missing {
        // The server's user must be able to pass through, but not to look around in the home itself.
        let mode = match (identity.server, path == home.path) {
            (Some(_), true) => 0o711,
            (Some(_), false) => 0o755,
            (None, true) => 0o700,
            (None, false) => 0o777,
        };
        match DirBuilder::new().mode(mode).create(path) {
            // Made here: a strict umask must not lock the server's user out.
            Ok(()) if identity.server.is_some() => {
                fs::set_permissions(path, Permissions::from_mode(mode))
                    .map_err(EmbeddedError::io("set the mode of", path))?;
            }
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Ok(Err(format!("{} cannot be made: {error}", path.display()))),
        }
    }
    let writable = tempfile_probe(&home.path);
    Ok(writable.map_err(|error| format!("{} cannot be written: {error}", home.path.display())))
}

fn reaches(identity: &Identity, path: &Path) -> Result<bool, EmbeddedError> {
    if identity.server_can("-x", path)? {
        return Ok(true);
    }
    std::thread::sleep(SECOND_LOOK);
    identity.server_can("-x", path)
}

/// A read-only file system does not show in the mode, so it is tried.
fn tempfile_probe(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!("probe.{:08x}", rand::random::<u32>()));
    fs::File::create_new(&path)?;
    fs::remove_file(&path)
}

/// A replacement may lie in a folder where everybody writes: it must be a real folder, ours, and closed to others.
fn check_private(home: &Home, identity: &Identity) -> Result<(), String> {
    let meta = fs::symlink_metadata(&home.path).map_err(|error| format!("{}: {error}", home.path.display()))?;
    if meta.is_dir() && meta.uid() == identity.user && meta.mode() & 0o022 == 0 {
        Ok(())
    } else {
        Err(format!("{} was made by somebody else", home.path.display()))
    }
}

/// Where the server goes when the wanted folder cannot be used, best first; the same for every process of a user.
fn replacements(wanted: &Path, user: u32) -> Vec<PathBuf> {
    let name = format!("postgres-{}", digest(wanted));
    let lasting = match user {
        0 => Some(PathBuf::from("/var/lib/singularity")),
        _ => std::env::home_dir().filter(|dir| dir.is_absolute()).map(|dir| dir.join(".local/state/singularity")),
    };
    let last_resort = Path::new("/var/tmp").join(format!("singularity-{user}-{name}"));
    lasting.map(|dir| dir.join(&name)).into_iter().chain([last_resort]).collect()
}

fn digest(path: &Path) -> String {
    Sha256::digest(path.as_os_str().as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Coded;

    #[test]
    fn replacements_differ_by_path_and_user_and_stay_the_same() {
        let all: Vec<_> = ["/a", "/b"].iter().flat_map(|path| replacements(Path::new(path), 0)).collect();
        let unique: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(unique.len(), 4);
        assert_eq!(replacements(Path::new("/a"), 0), replacements(Path::new("/a"), 0));
        assert_ne!(replacements(Path::new("/a"), 0).last(), replacements(Path::new("/a"), 7).last());
    }

    #[test]
    fn refuses_a_file_a_foreign_cluster_and_a_half_one() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        let cluster = parent.path().join("cluster");
        fs::create_dir(&cluster).unwrap();
        fs::write(cluster.join("PG_VERSION"), "15\n").unwrap();
        let half = parent.path().join("half");
        fs::create_dir_all(half.join("server/data")).unwrap();
        for (path, text) in [(file, "is no folder"), (cluster, "is itself the data"), (half, "is no cluster")] {
            let error = choose(&path).unwrap_err();
            assert_eq!(error.code(), "E0206");
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
