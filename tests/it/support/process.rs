//! The real program as a real process, in a folder of its own, against a database that the test names.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::db::TestDb;

/// Longest wait for anything that a process does.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A folder with a configuration, and the database of its commands.
pub struct Place {
    dir: TempDir,
    database_url: Option<String>,
}

/// A running process; killed when the test ends early.
pub struct Running {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Place {
    /// A folder with this `actors.toml`, whose commands use `db`.
    pub fn new(db: &TestDb, config: &str) -> Self {
        let place = Self::embedded(config);
        Self { database_url: Some(db.url().expose_secret().to_owned()), ..place }
    }

    /// A folder whose commands use the embedded server.
    pub fn embedded(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The server's unprivileged user must be able to reach its folder.
        Command::new("chmod").arg("755").arg(dir.path()).status().unwrap();
        std::fs::write(dir.path().join("actors.toml"), config).unwrap();
        Self { dir, database_url: None }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file into the folder.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }

    /// The program with these arguments, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        self.command_by(&[], args)
    }

    /// The program with these arguments, not started yet, run by another one.
    fn command_by(&self, by: &[&str], args: &[&str]) -> Command {
        let words: Vec<&str> = by.iter().copied().chain([env!("CARGO_BIN_EXE_singularity")]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("SINGULARITY_") || name == "DATABASE_URL" || name == "INSTANCE_ID" {
                command.env_remove(name);
            }
        }
        if let Some(url) = &self.database_url {
            command.env("DATABASE_URL", url);
        }
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs the program to its end and reads its output as one JSON document.
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let output = self.run(args);
        let stdout = text(&output.stdout);
        serde_json::from_str(&stdout)
            .unwrap_or_else(|error| panic!("{args:?} printed {stdout:?}, {error}; {}", text(&output.stderr)))
    }

    /// Starts the program; its standard error goes where the test's goes.
    pub fn spawn(&self, args: &[&str]) -> Running {
        Self::spawned(self.command(args))
    }

    fn spawned(mut command: Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let stdout = child.stdout.take().map(BufReader::new);
        Running { child, stdout }
    }

    /// Starts a node and waits until it is ready. Returns the READY line too.
    pub fn start(&self, args: &[&str]) -> (Running, String) {
        self.start_by(&[], args)
    }

    /// As [`Place::start`], run by another program, which must become it.
    pub fn start_by(&self, by: &[&str], args: &[&str]) -> (Running, String) {
        let args: Vec<&str> = ["start"].iter().chain(args).copied().collect();
        let mut running = Self::spawned(self.command_by(by, &args));
        let line = running.line();
        assert!(line.starts_with("READY "), "{line:?}");
        (running, line)
    }
}

impl Running {
    /// The next line of standard output; empty at its end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "the process did not end in time");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for the end and returns what is left of standard output.
    pub fn finish(mut self) -> (ExitStatus, String) {
        let mut rest = String::new();
        self.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
        (self.wait(), rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Repeats a question until its answer is right.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < until, "{what} did not happen in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
