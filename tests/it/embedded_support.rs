//! Folders, other processes and checks for the tests of the embedded server.
//!
//! Another process is this test binary again, running [`shares_a_server`] alone: it takes orders on stdin and answers
//! with lines that begin with [`MARK`].

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use singularity::error::Coded;
use singularity::postgres::embedded::{GUARDIAN_ARGUMENT, Options, Profile, Server};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

/// Longest wait for anything; only a failing test waits this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const MARK: &str = "@@ ";
const HOME_VARIABLE: &str = "SINGULARITY_TEST_EMBEDDED_HOME";
const LINGER_VARIABLE: &str = "SINGULARITY_TEST_EMBEDDED_LINGER_MS";

/// Something that every helper process has in its environment and no server may have.
pub(crate) const SECRET: (&str, &str) = ("SINGULARITY_TEST_KEY", "do-not-pass-on");

/// A folder for a server. Dropping it waits until the server is stopped, which the guardian does if nobody else did.
pub(crate) struct Place {
    folder: TempDir,
    pub(crate) home: PathBuf,
    pub(crate) linger: Duration,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The server's user must be able to enter.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let home = folder.path().join("postgres");
        Self { folder, home, linger: Duration::from_millis(200) }
    }

    /// The folder that `home` lies in.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn options(&self) -> Options {
        options(&self.home, self.linger)
    }

    pub(crate) fn acquire(&self) -> Server {
        Server::acquire(&self.options()).unwrap()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.home.join("server/data")
    }

    /// Pid in `postmaster.pid` as long as that process lives.
    pub(crate) fn postmaster(&self) -> Option<u32> {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        text.lines().next()?.parse().ok().filter(|pid| lives(*pid))
    }

    /// Whether a guardian watches this folder.
    pub(crate) fn is_guarded(&self) -> bool {
        fs::File::open(self.home.join("guardian.lock")).is_ok_and(|file| file.try_lock().is_err())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let end = Instant::now() + PATIENCE;
        while (self.postmaster().is_some() || self.is_guarded()) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        if let Some(pid) = self.postmaster() {
            signal(pid, "QUIT");
            println!("the server with pid {pid} had to be stopped by force");
            assert!(std::thread::panicking(), "nobody stopped the server");
        }
    }
}

pub(crate) fn options(home: &Path, linger: Duration) -> Options {
    let guardian: Vec<OsString> = vec![env!("CARGO_BIN_EXE_singularity").into(), GUARDIAN_ARGUMENT.into()];
    Options { linger, profile: Profile::Fast, guardian: Some(guardian), ..Options::new(home) }
}

/// Another process with a share of a server.
pub(crate) struct Helper {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Helper {
    pub(crate) fn spawn(place: &Place) -> Self {
        Self::spawn_as(place, None, "022", &[])
    }

    /// Starts a helper, as another user if asked for, with a umask and further variables.
    pub(crate) fn spawn_as(place: &Place, uid: Option<u32>, umask: &str, variables: &[(&str, &Path)]) -> Self {
        Self::spawn_through(&["/bin/sh", "-c", "umask \"$0\"; exec \"$@\"", umask], place, uid, variables)
    }

    /// Starts a helper through another program, which gets the helper's command as its last arguments.
    pub(crate) fn spawn_through(
        through: &[&str],
        place: &Place,
        uid: Option<u32>,
        variables: &[(&str, &Path)],
    ) -> Self {
        let mut command = Command::new(through[0]);
        command
            .args(&through[1..])
            .arg(std::env::current_exe().unwrap())
            .args(["embedded_support::shares_a_server", "--exact", "--nocapture", "--test-threads=1"])
            .env(HOME_VARIABLE, &place.home)
            .env(LINGER_VARIABLE, place.linger.as_millis().to_string())
            .env(SECRET.0, SECRET.1)
            .envs(variables.iter().copied())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
        let mut child = command.spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some((_, answer)) = line.split_once(MARK)
                    && sender.send(answer.to_owned()).is_err()
                {
                    break;
                }
            }
        });
        Self { child, stdin, lines }
    }

    /// Gives an order without waiting for the answer.
    pub(crate) fn order(&mut self, order: &str) {
        writeln!(self.stdin, "{order}").unwrap();
    }

    /// The next answer.
    pub(crate) fn answer(&mut self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("the helper says nothing: {:?}", self.child))
    }

    /// Waits for the server; returns the postmaster's pid.
    pub(crate) fn acquired(&mut self) -> u32 {
        let answer = self.answer();
        let pid = answer.strip_prefix("acquired ").unwrap_or_else(|| panic!("{answer}"));
        pid.parse().unwrap()
    }

    pub(crate) fn ask(&mut self, order: &str) -> String {
        self.order(order);
        self.answer()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What a helper process runs; as an ordinary test it does nothing.
#[test]
fn shares_a_server() {
    let Some(home) = std::env::var_os(HOME_VARIABLE) else { return };
    let linger: u64 = std::env::var(LINGER_VARIABLE).unwrap().parse().unwrap();
    let server = match Server::acquire(&options(Path::new(&home), Duration::from_millis(linger))) {
        Ok(server) => server,
        Err(error) => return println!("{MARK}{} {error}", error.code()),
    };
    println!("{MARK}acquired {}", server.postmaster_pid());
    let mut server = Some(server);
    for order in std::io::stdin().lines().map_while(Result::ok) {
        let Some(held) = server.as_ref() else { break };
        let answer = match order.as_str() {
            "ensure" => held.ensure_running().map(|restarted| format!("{restarted:?}")),
            "query" => Ok(query(&held.connection().socket_url(), "SELECT current_database()")),
            "folder" => Ok(held.data_dir().display().to_string()),
            "notes" => Ok(format!("{:?}", held.notes())),
            "release" => server.take().unwrap().release().map(|()| "released".to_owned()),
            other => panic!("{other}"),
        };
        println!("{MARK}{}", answer.unwrap_or_else(|error| format!("{} {error}", error.code())));
    }
}

/// Runs a statement for its effect.
pub(crate) fn execute(url: &SecretString, sql: &'static str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = PgConnection::connect(url.expose_secret()).await.unwrap();
        sqlx::query(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
}

/// Runs a query that returns one text.
pub(crate) fn query(url: &SecretString, sql: &'static str) -> String {
    try_query(url, sql).unwrap()
}

pub(crate) fn try_query(url: &SecretString, sql: &'static str) -> Result<String, sqlx::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = PgConnection::connect(url.expose_secret()).await?;
        let answer = sqlx::query_scalar(sql).fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok(answer)
    })
}

/// Polls until the condition holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether a process exists and is no zombie.
pub(crate) fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("/bin/sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &pid.to_string()]).status();
    assert!(status.unwrap().success(), "kill -s {name} {pid}");
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// Uid of a user who owns nothing, which root can run a helper as.
pub(crate) const NOBODY: u32 = 65_534;
