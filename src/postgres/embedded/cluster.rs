//! A cluster on disk: made under a temporary name, renamed when complete.
//!
//! A kill -9 at any moment leaves either no cluster or a whole one with its database in it. An `initdb` that outlives
//! its node keeps writing to its own temporary folder, which the next creation removes.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use secrecy::{ExposeSecret, SecretString};

use super::binaries::{self, Binaries};
use super::connection::{DATABASE, USER};
use super::error::EmbeddedError;
use super::home::Home;
use super::identity::Identity;
use super::lock::Held;
use super::settings::{INCLUDE, Profile};

/// Beginning of the names of unfinished clusters.
const UNFINISHED: &str = "data.new.";

/// Beginning of the names of password files that initdb reads.
const INITIAL_PASSWORD: &str = "password.new.";

/// Most of a program's output that an error repeats, in bytes.
const OUTPUT_BYTES_MAX: usize = 2_000;

/// One cluster and how to handle it.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) home: Home,
    pub(super) identity: Identity,
    pub(super) bin_dir: Option<PathBuf>,
    pub(super) profile: Profile,
}

impl Cluster {
    /// Programs that can run this cluster, of its own major version when it exists.
    pub(super) fn binaries(&self) -> Result<Binaries, EmbeddedError> {
        binaries::discover_as(&self.identity, self.bin_dir.as_deref(), self.major()?)
    }

    fn major(&self) -> Result<Option<u32>, EmbeddedError> {
        if !self.home.has_cluster() {
            return Ok(None);
        }
        let path = self.home.data().join("PG_VERSION");
        let text = fs::read_to_string(&path).map_err(EmbeddedError::io("read", &path))?;
        let foreign = |_| EmbeddedError::ForeignFolder { path, what: "does not hold a version number" };
        text.trim().parse().map(Some).map_err(foreign)
    }

    /// Makes the cluster when there is none. `_start` is the start lock.
    pub(super) fn create_if_missing(&self, password: &SecretString, _start: &Held<'_>) -> Result<(), EmbeddedError> {
        if self.home.has_cluster() {
            return Ok(());
        }
        let binaries = self.binaries()?;
        self.make_server_folder()?;
        self.remove_leftovers();

        let unfinished = format!("{UNFINISHED}{:08x}", rand::random::<u32>());
        let made = self.fill(&unfinished, &binaries, password);
        if made.is_err() {
            self.remove_leftovers();
        }
        made?;

        let (server, data) = (self.home.server(), self.home.data());
        fs::rename(server.join(&unfinished), &data).map_err(EmbeddedError::io("make", &data))?;
        if self.profile == Profile::Durable {
            File::open(&server).and_then(|folder| folder.sync_all()).map_err(EmbeddedError::io("sync", &server))?;
        }
        tracing::info!(data_dir = %data.display(), version = %binaries.version, "embedded PostgreSQL cluster made");
        Ok(())
    }

    fn fill(&self, unfinished: &str, binaries: &Binaries, password: &SecretString) -> Result<(), EmbeddedError> {
        let password_file = self.initial_password(password)?;
        let mut initdb = self.identity.server_command(binaries.program("initdb"), &self.home.server());
        initdb.args(["-D", unfinished, "-U", USER, "-E", "UTF8", "--locale=C", "-A", "scram-sha-256"]);
        let mut pwfile = OsString::from("--pwfile=");
        pwfile.push(self.home.path().join(&password_file));
        initdb.arg(pwfile);
        if self.profile == Profile::Fast {
            initdb.arg("--no-sync");
        }
        let made = self.run("initdb", &mut initdb, "");
        self.remove(&self.home.path().join(&password_file));
        made?;

        let mut append = self.identity.server_command("/bin/sh", &self.home.server());
        append.args(["-c", "cat >> \"$0/postgresql.conf\"", unfinished]);
        self.run("writing postgresql.conf", &mut append, &format!("\n{INCLUDE}\n"))?;

        let mut single = self.identity.server_command(binaries.program("postgres"), &self.home.server());
        single.args(["--single", "-D", unfinished, "-c", "exit_on_error=on"]);
        if self.profile == Profile::Fast {
            single.arg("-F");
        }
        single.arg("postgres");
        self.run("CREATE DATABASE", &mut single, &format!("CREATE DATABASE {DATABASE}\n"))
    }

    /// Runs a program to its end with some input.
    fn run(&self, step: &'static str, command: &mut Command, input: &str) -> Result<(), EmbeddedError> {
        let failed = |output: String| EmbeddedError::Create { step, path: self.home.path().to_owned(), output };
        let mut run = || {
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                // A program that ended early tells why in its output.
                stdin.write_all(input.as_bytes()).ok();
            }
            child.wait_with_output()
        };
        let output = run().map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let text = [output.stdout, output.stderr].concat();
        Err(failed(format!("{}: {}", output.status, tail(&text))))
    }

    /// The server's own folder. A node may have been killed between making it and giving it away.
    fn make_server_folder(&self) -> Result<(), EmbeddedError> {
        let server = self.home.server();
        if !server.exists() {
            fs::DirBuilder::new().mode(0o700).create(&server).map_err(EmbeddedError::io("make", &server))?;
        }
        let meta = fs::metadata(&server).map_err(EmbeddedError::io("read", &server))?;
        if meta.uid() != self.identity.server_uid() { self.identity.give(&server) } else { Ok(()) }
    }

    /// A file with the password that only the server's user can read, in a folder where that user cannot write.
    fn initial_password(&self, password: &SecretString) -> Result<String, EmbeddedError> {
        let name = format!("{INITIAL_PASSWORD}{:08x}", rand::random::<u32>());
        let path = self.home.path().join(&name);
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(password.expose_secret().as_bytes())?;
            match self.identity.server {
                Some(user) => fchown(&file, Some(user.uid), Some(user.gid)),
                None => Ok(()),
            }
        };
        write().map_err(EmbeddedError::io("write", &path))?;
        Ok(name)
    }

    /// Removes what an interrupted creation left. What an orphaned initdb still holds stays for the next time.
    pub(super) fn remove_leftovers(&self) {
        for (folder, prefix) in [(self.home.server(), UNFINISHED), (self.home.path().to_owned(), INITIAL_PASSWORD)] {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with(prefix) {
                    self.remove(&entry.path());
                }
            }
        }
    }

    fn remove(&self, path: &Path) {
        let removed = match path.is_dir() {
            true => fs::remove_dir_all(path),
            false => fs::remove_file(path),
        };
        if let Err(error) = removed {
            tracing::debug!(path = %path.display(), %error, "leftover not removed");
        }
    }
}

/// Last lines of a program's output as one text.
pub(super) fn tail(output: &[u8]) -> String {
    let start = output.len().saturating_sub(OUTPUT_BYTES_MAX);
    let text = String::from_utf8_lossy(&output[start..]);
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" | ")
}
