//! Runs one program in a process group of its own, within a time and a size.
//!
//! Invariant: the group is killed before its leader is waited for. While the leader is not waited for, its process id,
//! which is the group's, cannot be given to anybody else, so the signal reaches nobody but the group.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, timeout_at};

/// Bytes kept from the end of standard error, where the reason of a failure usually stands.
const ERRORS_BYTES_KEPT: usize = 4 * 1024;
/// Bytes read at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// How often the end of the program is looked for, at first and at most. (An asynchronous wait would also reap it, and
/// with that give its process id away.)
const LOOK_MIN: Duration = Duration::from_millis(1);
const LOOK_MAX: Duration = Duration::from_millis(25);
/// How long output is read on after the group has ended: all of it is there, unless a process that left the group holds
/// the pipe open.
const DRAIN_GRACE: Duration = Duration::from_millis(500);

/// A program that ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) output: Vec<u8>,
    /// The last bytes of standard error.
    pub(super) errors: Vec<u8>,
    /// When the first output came, since the start.
    pub(super) first_output: Option<Duration>,
}

/// Why there is no end to report.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It could not be started.
    Start(io::Error),
    /// It ran beyond its limit, and was killed.
    Late,
    /// It printed too much, and was killed.
    TooLarge,
    /// Its pipes failed.
    Io(io::Error),
}

/// The process group of a running program; killed when dropped.
struct Group {
    child: Child,
    leader: Option<Pid>,
}

impl Group {
    fn start(mut command: Command) -> io::Result<Self> {
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Self { child, leader })
    }

    /// Waits until the leader has ended, and leaves it unreaped.
    async fn leader_ended(leader: Option<Pid>) {
        let Some(leader) = leader else { return };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let mut pause = LOOK_MIN;
        while let Ok(None) | Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(leader), options) {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_MAX);
        }
    }

    /// Kills what is left of the group, and reaps its leader.
    async fn end(mut self) -> io::Result<ExitStatus> {
        self.kill();
        self.child.wait().await
    }

    fn kill(&mut self) {
        if let Some(leader) = self.leader.take()
            && let Err(error) = kill_process_group(leader, Signal::KILL)
            && error != rustix::io::Errno::SRCH
        {
            tracing::warn!(group = leader.as_raw_nonzero().get(), %error, "the processes of a program were not killed");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs `command`, with `input` on its standard input, until `limit`.
///
/// Cancel safety: dropping the future kills the group.
pub(super) async fn run(
    command: Command,
    input: Vec<u8>,
    limit: Instant,
    output_bytes_max: usize,
) -> Result<Ended, Trouble> {
    let started = Instant::now();
    let mut group = Group::start(command).map_err(Trouble::Start)?;
    let pipes = (group.child.stdin.take(), group.child.stdout.take(), group.child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(Trouble::Io(io::Error::other("its pipes are missing")));
    };
    let mut output = Vec::new();
    let mut first_output = None;
    let mut errors = Vec::new();
    let leader = group.leader;
    let talk = async {
        let reading = read_output(stdout, output_bytes_max, &mut output, &mut first_output, started);
        tokio::try_join!(write(stdin, &input), reading, read_tail(stderr, &mut errors)).map(|_| ())
    };
    let whole = async {
        tokio::pin!(talk);
        let ended = Group::leader_ended(leader);
        tokio::pin!(ended);
        tokio::select! {
            // All pipes closed, or one failed.
            talked = &mut talk => {
                talked?;
                ended.await;
                Ok(group)
            }
            () = &mut ended => {
                // Children that still hold a pipe are gone after this.
                group.kill();
                if let Ok(talked) = timeout_at(Instant::now() + DRAIN_GRACE, talk).await {
                    talked?;
                }
                Ok(group)
            }
        }
    };
    let group = timeout_at(limit, whole).await.map_err(|_| Trouble::Late)??;
    let status = group.end().await.map_err(Trouble::Io)?;
    Ok(Ended { status, output, errors, first_output })
}

async fn write(mut stdin: ChildStdin, input: &[u8]) -> Result<(), Trouble> {
    match stdin.write_all(input).await {
        // A program may know enough before it has read all.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Trouble::Io(error)),
        _ => Ok(()),
    }
}

async fn read_output(
    mut pipe: impl AsyncRead + Unpin,
    bytes_max: usize,
    output: &mut Vec<u8>,
    first: &mut Option<Duration>,
    started: Instant,
) -> Result<(), Trouble> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = pipe.read(&mut chunk).await.map_err(Trouble::Io)?;
        if read == 0 {
            return Ok(());
        }
        first.get_or_insert_with(|| started.elapsed());
        if output.len() + read > bytes_max {
            return Err(Trouble::TooLarge);
        }
        output.extend_from_slice(&chunk[..read]);
    }
}

async fn read_tail(mut pipe: impl AsyncRead + Unpin, tail: &mut Vec<u8>) -> Result<(), Trouble> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = pipe.read(&mut chunk).await.map_err(Trouble::Io)?;
        if read == 0 {
            return Ok(());
        }
        tail.extend_from_slice(&chunk[..read]);
        tail.drain(..tail.len().saturating_sub(ERRORS_BYTES_KEPT));
    }
}
