//! The processes of the story: this program again, with `start`, each with its log in the stage's folder.
//!
//! Whatever happens to the demo, they end: they stop when their standard input is closed.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::cli::codes;
use crate::cli::exit::{Exit, Failure};

/// How long a process may take until it is ready, on a machine that is busy.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How long one may take to stop before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// One running process.
#[derive(Debug)]
pub(super) struct Player {
    name: String,
    child: Child,
    /// Closed to make it stop.
    stdin: Option<ChildStdin>,
}

impl Player {
    /// Starts an instance and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be started or does not become ready.
    pub(super) async fn start(dir: &Path, name: &str, role: &str) -> Result<Self, Failure> {
        let log_path = dir.join(format!("{name}.log"));
        let problem = |what: &str| {
            Failure::new(Exit::Failed, codes::DEMO_PROCESS, format!("instance {name}: {what}"))
                .hint(format!("see {}", log_path.display()))
        };
        // A second life goes on in the log of the first.
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&log_path)
            .map_err(|error| problem(&format!("its log cannot be written: {error}")))?;
        let program = std::env::current_exe().map_err(|error| problem(&format!("no path of this program: {error}")))?;
        let mut child = Command::new(program)
            .args(["start", "--until-stdin-closes", "--role", role, "--instance-id", name, "--config"])
            .arg(dir.join("actors.toml"))
            .current_dir(dir)
            // Nothing of the caller's own set-up has a part in the story.
            .env_remove("DATABASE_URL")
            .env_remove("INSTANCE_ID")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // A terminal's Ctrl-C is for the demo, which stops them in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| problem(&format!("cannot be started: {error}")))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or_else(|| problem("has no output"))?;
        let mut lines = BufReader::new(stdout).lines();
        let ready = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.starts_with("READY ") {
                    return true;
                }
            }
            false
        };
        match tokio::time::timeout(READY_LIMIT, ready).await {
            Ok(true) => Ok(Self { name: name.to_owned(), child, stdin }),
            Ok(false) => Err(problem("ended before it was ready")),
            Err(_) => Err(problem("did not become ready in time")),
        }
    }

    /// Its instance id.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// kill -9.
    pub(super) async fn kill(mut self) {
        // It may have ended by itself; then there is nothing to kill.
        drop(self.child.start_kill());
        drop(self.child.wait().await);
    }

    /// Lets it drain and end; kills it when it does not.
    pub(super) async fn stop(mut self) {
        drop(self.stdin.take());
        if tokio::time::timeout(STOP_LIMIT, self.child.wait()).await.is_err() {
            self.kill().await;
        }
    }
}
