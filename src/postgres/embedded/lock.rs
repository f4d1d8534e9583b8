//! The lock files that several processes share one server with.
//!
//! - `start.lock`, exclusive, held around "is it running? else make and start it", "am I the last? then stop it".
//! - `use.lock`, shared by every user of the server for as long as it uses it.
//! - `guardian.lock`, exclusive, for the life of the one guardian.
//!
//! The kernel releases them at kill -9. Order: `use.lock` is taken while `start.lock` is held, and nobody waits for
//! `start.lock` while holding `use.lock` exclusively. Lock files are never removed. `std` opens them close-on-exec;
//! they are unlocked explicitly, because a copy in a child between fork and exec would otherwise prolong a lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::EmbeddedError;

/// Longest wait for `start.lock`. Creating and starting takes a second, crash recovery of a busy server a minute.
const START_LOCK_WAIT_MAX: Duration = Duration::from_secs(300);

/// Time between two tries.
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// Tries for the exclusive use lock. The guardian holds it for an instant whenever the last share goes.
const LAST_USER_TRIES: u32 = 4;

/// An open lock file.
#[derive(Debug)]
pub(super) struct LockFile {
    file: File,
    path: PathBuf,
}

impl LockFile {
    /// Opens, and makes if need be, a lock file with mode 0600.
    pub(super) fn open(path: PathBuf) -> Result<Self, EmbeddedError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(EmbeddedError::io("open", &path))?;
        Ok(Self { file, path })
    }

    /// Takes the lock exclusively; waits at most 5 minutes.
    pub(super) fn lock(&self) -> Result<Held<'_>, EmbeddedError> {
        let started = Instant::now();
        loop {
            if let Some(held) = self.try_lock()? {
                return Ok(held);
            }
            if started.elapsed() > START_LOCK_WAIT_MAX {
                return Err(EmbeddedError::LockTimeout { path: self.path.clone(), waited: START_LOCK_WAIT_MAX });
            }
            std::thread::sleep(LOCK_RETRY);
        }
    }

    /// Takes the lock exclusively if that is possible now.
    pub(super) fn try_lock(&self) -> Result<Option<Held<'_>>, EmbeddedError> {
        match self.file.try_lock() {
            Ok(()) => Ok(Some(Held(self))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(TryLockError::Error(error)) => Err(EmbeddedError::io("lock", &self.path)(error)),
        }
    }

    /// Takes a share, which lasts until [`Self::unlock`] or the end of the process.
    pub(super) fn share(&self) -> Result<(), EmbeddedError> {
        uninterrupted(|| self.file.lock_shared()).map_err(EmbeddedError::io("lock", &self.path))
    }

    /// Blocks, for as long as it takes, until nobody holds a share; then lets go at once.
    pub(super) fn wait_until_unused(&self) -> Result<(), EmbeddedError> {
        uninterrupted(|| self.file.lock()).map_err(EmbeddedError::io("lock", &self.path))?;
        self.unlock();
        Ok(())
    }

    /// Exclusive lock for whoever just gave up its own share: `None` means that others still use the server.
    pub(super) fn try_lock_as_last(&self) -> Result<Option<Held<'_>>, EmbeddedError> {
        for _ in 1..LAST_USER_TRIES {
            if let Some(held) = self.try_lock()? {
                return Ok(Some(held));
            }
            std::thread::sleep(LOCK_RETRY);
        }
        self.try_lock()
    }

    /// Gives up whatever this file holds. Never blocks.
    pub(super) fn unlock(&self) {
        // It fails only for a descriptor that is no file; the kernel unlocks at close in any case.
        self.file.unlock().ok();
    }

    /// Whether the path still leads to this very file.
    pub(super) fn is_in_place(&self) -> bool {
        let (Ok(held), Ok(now)) = (self.file.metadata(), std::fs::metadata(&self.path)) else { return false };
        (held.dev(), held.ino()) == (now.dev(), now.ino())
    }
}

/// An exclusive lock, given up when dropped.
#[derive(Debug)]
pub(super) struct Held<'a>(&'a LockFile);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.unlock();
    }
}

/// All lock files of one server folder.
#[derive(Debug)]
pub(super) struct Locks {
    pub(super) start: LockFile,
    pub(super) usage: LockFile,
    pub(super) guardian: LockFile,
}

impl Locks {
    pub(super) fn open(home: &Path) -> Result<Self, EmbeddedError> {
        Ok(Self {
            start: LockFile::open(home.join("start.lock"))?,
            usage: LockFile::open(home.join("use.lock"))?,
            guardian: LockFile::open(home.join("guardian.lock"))?,
        })
    }
}

fn uninterrupted(mut lock: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    loop {
        match lock() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
