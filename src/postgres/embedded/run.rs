//! Start, heal and stop. Everything here runs under the start lock, so one process at a time does it.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::binaries::Binaries;
use super::cluster::{Cluster, tail};
use super::connection;
use super::error::EmbeddedError;
use super::lock::Held;
use super::postmaster::{self, Endpoint, State};
use super::settings;
use super::socket;

/// Longest wait for a server that is starting, recovering from a crash or shutting down.
const BUSY_WAIT_MAX: Duration = Duration::from_secs(240);

/// Longest wait for a dead postmaster to be reaped, and for backends that outlived it. Containers take about 2 s.
const ZOMBIE_WAIT_MAX: Duration = Duration::from_secs(30);

/// How long a start is tried again when the reason may pass.
const START_RETRY_MAX: Duration = Duration::from_secs(30);

/// How long an empty `postmaster.pid` may be work in progress.
const GARBLED_WAIT: Duration = Duration::from_secs(2);

/// Longest wait for a fast shutdown, and then again for an immediate one.
const STOP_WAIT_MAX: Duration = Duration::from_secs(30);

/// Time between two looks at the server while waiting.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Log size beyond which a start begins a new file, in bytes; the one before is kept.
const LOG_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Ports that are drawn from: below the ranges that systems take client ports from.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Draws of a free port.
const PORT_TRIES: u32 = 64;

/// In the log of a failed start: the reason may pass by itself.
const PASSING_REASONS: [&str; 2] = ["lock file \"", "is still in use"];

/// In the log of a failed start: the port is taken.
const PORT_TAKEN: &str = "could not bind";

impl Cluster {
    /// The running server's endpoint, and whether this call started it.
    pub(super) fn ensure_started(&self, start: &Held<'_>) -> Result<(Endpoint, bool), EmbeddedError> {
        let data = self.home.data();
        let begun = Instant::now();
        let mut started = false;
        let mut attempt = Attempt::default();
        loop {
            let stuck = |pid, what, limit: Duration| match begun.elapsed() > limit {
                true => Err(EmbeddedError::Stuck { pid, what, waited: limit }),
                false => Ok(()),
            };
            match postmaster::inspect(&data, &self.identity)? {
                State::Ready(endpoint) => return Ok((endpoint, started)),
                State::Down => {
                    self.start(&mut attempt, start)?;
                    started = true;
                }
                State::Busy(pid) => stuck(pid, "is neither ready nor gone", BUSY_WAIT_MAX)?,
                State::Zombie(pid) => stuck(pid, "is a zombie that its parent does not reap", ZOMBIE_WAIT_MAX)?,
                State::Stranger(pid) if postmaster::is_in_use(&data, &self.identity) => {
                    stuck(pid, "is no server, yet backends of the old one live on", ZOMBIE_WAIT_MAX)?;
                }
                State::Stranger(pid) => self.forget_postmaster(Some(pid))?,
                State::Garbled if begun.elapsed() > GARBLED_WAIT && !postmaster::is_in_use(&data, &self.identity) => {
                    self.forget_postmaster(None)?;
                }
                State::Garbled => {}
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Removes a `postmaster.pid` that PostgreSQL would respect for ever, because its pid lives on in another program.
    fn forget_postmaster(&self, stranger: Option<u32>) -> Result<(), EmbeddedError> {
        let path = self.home.data().join("postmaster.pid");
        tracing::warn!(path = %path.display(), stranger, "stale postmaster.pid removed");
        fs::remove_file(&path).map_err(EmbeddedError::io("remove", &path))
    }

    /// One try to start. Comes back without an error when it worked, and when it is worth another look.
    fn start(&self, attempt: &mut Attempt, _start: &Held<'_>) -> Result<(), EmbeddedError> {
        let binaries = match attempt.binaries.take() {
            Some(binaries) => binaries,
            None => self.binaries()?,
        };
        self.remove_leftovers();
        let socket_dir = socket::prepare(&self.home, &self.identity)?;
        let port = self.choose_port(attempt.port_taken)?;
        let text = settings::text(port, &socket_dir, self.profile);
        connection::replace(&self.home.settings(), 0o644, &text)?;
        let log_start = self.rotate_log();

        // Relative names: pg_ctl puts them into a shell command.
        let output = self
            .identity
            .server_command(binaries.program("pg_ctl"), &self.home.server())
            .args(["start", "-w", "-t", "60", "-D", "data", "-l", "log"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
            .map_err(EmbeddedError::io("run", &binaries.program("pg_ctl")))?;
        attempt.binaries = Some(binaries);
        if output.status.success() {
            return Ok(());
        }
        let log = read_from(&self.home.log(), log_start).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        attempt.port_taken = text.contains(PORT_TAKEN);
        let passing = attempt.port_taken || PASSING_REASONS.iter().any(|reason| text.contains(reason));
        let since = *attempt.failing_since.get_or_insert_with(Instant::now);
        let still_starting = !matches!(postmaster::inspect(&self.home.data(), &self.identity)?, State::Down);
        if still_starting || (passing && since.elapsed() < START_RETRY_MAX) {
            return Ok(());
        }
        let mut output = output.stderr;
        output.extend_from_slice(&log);
        Err(EmbeddedError::Start { path: self.home.path().to_owned(), output: tail(&output) })
    }

    /// The port of the last start when it is free, so that pools of other nodes reconnect by themselves.
    fn choose_port(&self, last_was_taken: bool) -> Result<u16, EmbeddedError> {
        let last = fs::read_to_string(self.home.port()).ok().and_then(|text| text.trim().parse().ok());
        let drawn = std::iter::repeat_with(|| rand::random_range(PORTS)).take(PORT_TRIES as usize);
        let mut candidates = last.filter(|_| !last_was_taken).into_iter().chain(drawn);
        candidates.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).ok_or_else(|| {
            EmbeddedError::Start {
                path: self.home.path().to_owned(),
                output: format!("none of {PORT_TRIES} drawn ports on 127.0.0.1 is free"),
            }
        })
    }

    /// Puts a long log aside. Returns the size of what the coming start appends to.
    fn rotate_log(&self) -> u64 {
        let log = self.home.log();
        let bytes = fs::symlink_metadata(&log).map_or(0, |meta| meta.len());
        if bytes > LOG_BYTES_MAX && fs::rename(&log, log.with_extension("1")).is_ok() { 0 } else { bytes }
    }

    /// Stops the server in order, and at once when that takes too long. Does nothing when it does not run.
    pub(super) fn stop(&self, _start: &Held<'_>, _last: &Held<'_>) -> Result<(), EmbeddedError> {
        let (pid, socket_dir) = match postmaster::inspect(&self.home.data(), &self.identity)? {
            State::Ready(endpoint) => (endpoint.pid, Some(endpoint.socket_dir)),
            State::Busy(pid) => (pid, None),
            State::Down | State::Zombie(_) | State::Stranger(_) | State::Garbled => return Ok(()),
        };
        for (signal, mode) in [("INT", "fast"), ("QUIT", "immediate")] {
            self.signal(pid, signal)?;
            let begun = Instant::now();
            while begun.elapsed() < STOP_WAIT_MAX {
                if postmaster::has_ended(pid) {
                    tracing::info!(pid, mode, "embedded PostgreSQL stopped");
                    if let Some(dir) = socket_dir {
                        socket::discard(&self.home, &dir);
                    }
                    return Ok(());
                }
                std::thread::sleep(LOOK_AGAIN);
            }
        }
        Err(EmbeddedError::Stop { pid, waited: STOP_WAIT_MAX * 2 })
    }

    /// Signals as the server's user, who can hit nothing of ours if the pid has changed hands in the meantime.
    fn signal(&self, pid: u32, signal: &str) -> Result<(), EmbeddedError> {
        let shell = Path::new("/bin/sh");
        self.identity
            .server_command(shell, Path::new("/"))
            .args(["-c", "kill -s \"$0\" \"$1\"", signal, &pid.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map(drop)
            .map_err(EmbeddedError::io("run", shell))
    }
}

/// What the tries of one start have found out.
#[derive(Default)]
struct Attempt {
    binaries: Option<Binaries>,
    failing_since: Option<Instant>,
    port_taken: bool,
}

/// The end of a file, from an offset; a regular file only, because the folder is the server's user's.
fn read_from(path: &Path, offset: u64) -> io::Result<Vec<u8>> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Ok(Vec::new());
    }
    let mut file = fs::File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}
