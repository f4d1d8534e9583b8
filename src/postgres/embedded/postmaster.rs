//! Is the server running? What `postmaster.pid` says, checked against the process it names.
//!
//! The file alone proves nothing: after kill -9 it stays, and its pid may belong to a stranger by then, or to a zombie
//! that nobody has reaped yet. A process is ours when it is called `postgres` and its working folder is the data
//! folder. Root in a container may not see the folder of another user's process (that takes CAP_SYS_PTRACE); the
//! server's user may, and is asked then. Doubt is not "no": a process that nobody can look into counts as ours.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::EmbeddedError;
use super::identity::{Identity, uid_of_status};

/// Largest `postmaster.pid` that is read, in bytes; real ones have eight short lines.
const PID_FILE_BYTES_MAX: u64 = 16 * 1024;

/// Shell script: is the working folder of process `$0` the folder `$1`? Fails with 2 when it cannot be seen.
const WORKS_IN: &str = r#"test -e "/proc/$0/cwd" || exit 2; test "/proc/$0/cwd" -ef "$1""#;

/// Where a running server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) pid: u32,
    pub(super) port: u16,
    pub(super) socket_dir: PathBuf,
}

/// State of the server of a data folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// No postmaster, perhaps a file that one left behind.
    Down,
    /// Accepts connections.
    Ready(Endpoint),
    /// Ours, and starting, recovering or stopping.
    Busy(u32),
    /// Dead, and not yet reaped by its parent. PostgreSQL refuses to start as long as it is there.
    Zombie(u32),
    /// The file names a living process that has nothing to do with this folder.
    Stranger(u32),
    /// The file is empty or cut off: somebody is writing it, or the disk was full.
    Garbled,
}

/// Looks at the data folder's `postmaster.pid` and at the process in it.
pub(super) fn inspect(data: &Path, identity: &Identity) -> Result<State, EmbeddedError> {
    let path = data.join("postmaster.pid");
    let text = match fs::metadata(&path).map(|meta| meta.len()) {
        Ok(bytes) if bytes > PID_FILE_BYTES_MAX => return Ok(State::Garbled),
        Ok(_) => fs::read_to_string(&path),
        Err(error) => Err(error),
    };
    let text = match text {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::Down),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(State::Garbled),
        Err(error) => return Err(EmbeddedError::io("read", &path)(error)),
    };
    let Some((pid, endpoint)) = parse(&text) else { return Ok(State::Garbled) };
    Ok(match process(pid, data, identity) {
        Process::Gone => State::Down,
        Process::Zombie => State::Zombie(pid),
        Process::Stranger => State::Stranger(pid),
        Process::Ours => endpoint.map_or(State::Busy(pid), State::Ready),
    })
}

/// The pid, and the endpoint when the last line says `ready`. Lines: pid, data folder, start time, port, socket folder,
/// listen address, shared memory key, status. A single-user server writes its pid with a minus sign.
fn parse(text: &str) -> Option<(u32, Option<Endpoint>)> {
    let mut lines = text.lines();
    let pid = u32::try_from(lines.next()?.trim().parse::<i64>().ok()?.unsigned_abs()).ok().filter(|pid| *pid > 0)?;
    let port = lines.nth(2).and_then(|line| line.trim().parse().ok());
    let socket_dir = lines.next().map(PathBuf::from);
    let ready = lines.nth(2).is_some_and(|status| status.trim() == "ready");
    let endpoint = match (port, socket_dir) {
        (Some(port), Some(socket_dir)) if ready => Some(Endpoint { pid, port, socket_dir }),
        _ => None,
    };
    Some((pid, endpoint))
}

/// What a pid is to a data folder.
#[derive(Debug, PartialEq, Eq)]
enum Process {
    Gone,
    Zombie,
    Stranger,
    Ours,
}

fn process(pid: u32, data: &Path, identity: &Identity) -> Process {
    let Some((name, state)) = name_and_state(pid) else { return Process::Gone };
    match state {
        'Z' | 'X' => Process::Zombie,
        _ if is_server(&name) && works_in(pid, data, identity) => Process::Ours,
        _ => Process::Stranger,
    }
}

/// Whether this process is gone, or dead and only not reaped.
pub(super) fn has_ended(pid: u32) -> bool {
    name_and_state(pid).is_none_or(|(_, state)| matches!(state, 'Z' | 'X'))
}

/// Whether any server process still works in the data folder, a backend that outlived its postmaster included. While
/// there is one, `postmaster.pid` must stay: it holds the key of the shared memory that protects the data.
pub(super) fn is_in_use(data: &Path, identity: &Identity) -> bool {
    let Ok(entries) = fs::read_dir("/proc") else { return false };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .any(|pid| name_and_state(pid).is_some_and(|(name, _)| is_server(&name)) && works_in(pid, data, identity))
}

fn is_server(name: &str) -> bool {
    matches!(name, "postgres" | "postmaster")
}

/// Whether the working folder of a server process is `data`, also by another path. Without `/proc` the name has to do.
fn works_in(pid: u32, data: &Path, identity: &Identity) -> bool {
    if !has_proc() {
        return true;
    }
    let Ok(data_meta) = fs::metadata(data) else { return false };
    match fs::metadata(format!("/proc/{pid}/cwd")) {
        Ok(cwd) => (cwd.dev(), cwd.ino()) == (data_meta.dev(), data_meta.ino()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            // PostgreSQL serves no folder of another user than its own.
            uid(pid) == Some(data_meta.uid()) && works_in_for_its_user(pid, data, identity)
        }
        Err(_) => false,
    }
}

/// The same as the server's user sees it.
fn works_in_for_its_user(pid: u32, data: &Path, identity: &Identity) -> bool {
    let status = identity
        .server_command("/bin/sh", Path::new("/"))
        .args(["-c", WORKS_IN, &pid.to_string()])
        .arg(data)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match status.ok().and_then(|status| status.code()) {
        Some(code @ (0 | 1)) => code == 0,
        _ => !has_ended(pid),
    }
}

fn uid(pid: u32) -> Option<u32> {
    uid_of_status(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn has_proc() -> bool {
    Path::new("/proc/self/stat").exists()
}

/// Name and state letter of a process; `None` when there is none.
fn name_and_state(pid: u32) -> Option<(String, char)> {
    if has_proc() {
        return parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?);
    }
    let output = Command::new("ps").args(["-o", "state=,comm=", "-p", &pid.to_string()]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (state, name) = text.trim().split_once(char::is_whitespace)?;
    Some((name.trim().rsplit('/').next()?.to_owned(), state.chars().next()?))
}

/// `pid (name) state …`; the name may hold brackets and spaces itself.
fn parse_stat(text: &str) -> Option<(String, char)> {
    let (start, end) = (text.find('(')?, text.rfind(')')?);
    Some((text.get(start + 1..end)?.to_owned(), text.get(end + 1..)?.trim_start().chars().next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: &str = "4711\n/d/data\n1700000000\n5433\n/d/socket\n127.0.0.1\n  5433001    65538\nready   \n";

    #[test]
    fn an_endpoint_needs_the_ready_line() {
        let endpoint = Endpoint { pid: 4711, port: 5433, socket_dir: "/d/socket".into() };
        assert_eq!(parse(READY), Some((4711, Some(endpoint))));
        assert_eq!(parse(&READY.replace("ready", "starting")), Some((4711, None)));
        assert_eq!(parse("4711\n/d/data\n"), Some((4711, None)));
        assert_eq!(parse("-12\n"), Some((12, None)));
        for text in ["", "\n", "0\n", "x\n", "99999999999\n"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn reads_names_with_brackets() {
        assert_eq!(parse_stat("7 (a) b (c) S 1 2"), Some(("a) b (c".to_owned(), 'S')));
        assert_eq!(parse_stat("7"), None);
    }

    #[test]
    fn a_living_stranger_a_zombie_and_nobody_are_told_apart() {
        let data = tempfile::tempdir().unwrap();
        let identity = Identity { user: fs::metadata(data.path()).unwrap().uid(), server: None };
        let inspect = |data: &Path| inspect(data, &identity);
        assert_eq!(inspect(data.path()).unwrap(), State::Down);
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        fs::write(data.path().join("postmaster.pid"), READY.replace("4711", &pid.to_string())).unwrap();
        assert_eq!(inspect(data.path()).unwrap(), State::Stranger(pid));
        child.kill().unwrap();
        while !has_ended(pid) {
            std::thread::yield_now();
        }
        assert_eq!(inspect(data.path()).unwrap(), State::Zombie(pid));
        child.wait().unwrap();
        assert_eq!(inspect(data.path()).unwrap(), State::Down);
        fs::write(data.path().join("postmaster.pid"), "").unwrap();
        assert_eq!(inspect(data.path()).unwrap(), State::Garbled);
    }
}
