//! The process that stops a server whose users were all killed.
//!
//! It waits on the use lock, which the kernel gives it when no user is left, however they went. After a grace time it
//! looks again under the start lock: a new user keeps the server, else the server is stopped and the guardian ends.
//! There is one a folder: the guardian lock is let go under the start lock only, so whoever holds the start lock and
//! finds it free knows that a guardian is needed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::cluster::Cluster;
use super::error::EmbeddedError;
use super::home::Home;
use super::identity::{self, Identity};
use super::lock::{Held, Locks};
use super::settings::Profile;

/// Hidden first argument of the executable that makes it run [`guardian_main`] with the remaining ones.
pub const GUARDIAN_ARGUMENT: &str = "__postgres-guardian";

/// Runs the guardian to its end: `args` are the server's folder and the grace time in milliseconds. Blocks for as long
/// as anybody uses the server.
///
/// # Errors
/// `E0215` for other arguments, and whatever stopping the server can fail with. The caller turns it into an exit code.
pub fn guardian_main(args: impl IntoIterator<Item = OsString>) -> Result<(), EmbeddedError> {
    let args: Vec<OsString> = args.into_iter().collect();
    let (folder, linger) = match args.as_slice() {
        [folder, linger] => (PathBuf::from(folder), linger.to_str().and_then(|text| text.parse().ok())),
        _ => (PathBuf::new(), None),
    };
    let Some(linger) = linger.map(Duration::from_millis) else {
        return Err(EmbeddedError::GuardianArguments { given: format!("{args:?}") });
    };
    let home = Home::at(folder);
    let identity = Identity::detect(Some(&home.server()))?;
    let locks = Locks::open(home.path())?;
    let cluster = Cluster { home, identity, bin_dir: None, profile: Profile::Durable };
    watch(&cluster, &locks, linger)
}

fn watch(cluster: &Cluster, locks: &Locks, linger: Duration) -> Result<(), EmbeddedError> {
    let start = locks.start.lock()?;
    let Some(only_one) = locks.guardian.try_lock()? else { return Ok(()) };
    drop(start);
    loop {
        locks.usage.wait_until_unused()?;
        std::thread::sleep(linger);
        let start = locks.start.lock()?;
        // The folder was removed, and perhaps made anew: what runs in it now has users that these locks do not count.
        if !locks.usage.is_in_place() {
            return Ok(());
        }
        if let Some(last) = locks.usage.try_lock()? {
            // The owner of the folder may have changed since: it did not exist when this process began.
            let identity = Identity::detect(Some(&cluster.home.server()))?;
            let cluster = Cluster { identity, home: cluster.home.clone(), bin_dir: None, profile: cluster.profile };
            let stopped = cluster.stop(&start, &last);
            drop(only_one);
            return stopped;
        }
    }
}

/// Starts a guardian unless there is one. The caller holds the start lock and a share of the server.
///
/// `command` is a program and its leading arguments; `None` means this executable with [`GUARDIAN_ARGUMENT`], an empty
/// one no guardian.
pub(super) fn ensure(
    home: &Home,
    locks: &Locks,
    linger: Duration,
    command: Option<&[OsString]>,
    _start: &Held<'_>,
) -> Result<(), EmbeddedError> {
    if command.is_some_and(<[_]>::is_empty) || locks.guardian.try_lock()?.is_none() {
        return Ok(());
    }
    let default;
    let command = match command {
        Some(command) => command,
        None => {
            default = [this_executable()?, GUARDIAN_ARGUMENT.into()];
            &default
        }
    };
    // The shell's background job becomes a child of init: no zombie for the node to reap, no signal of its terminal.
    let shell = Path::new("/bin/sh");
    identity::bare_command(shell, Path::new("/"))
        .args(["-c", "\"$0\" \"$@\" &"])
        .args(command)
        .arg(home.path())
        .arg(linger.as_millis().to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map(drop)
        .map_err(EmbeddedError::io("run", shell))
}

/// Path of the running program; still valid when the file was replaced by a newer build.
fn this_executable() -> Result<OsString, EmbeddedError> {
    let path = std::env::current_exe().map_err(EmbeddedError::io("find", Path::new("the running program")))?;
    let running = PathBuf::from(format!("/proc/{}/exe", std::process::id()));
    Ok(if path.exists() || !running.exists() { path.into_os_string() } else { running.into_os_string() })
}
