//! Who this process is: instance id, incarnation, and the marks by which a neighbour can see that it is gone.

use std::fs;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use uuid::Uuid;

use super::error::InstanceError;

/// Longest instance id in characters; the column and `application_name` allow no more.
pub const INSTANCE_ID_CHARS_MAX: usize = 63;

/// Identity of one process as an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Name of the instance, the same over restarts where it was given.
    pub instance_id: String,
    /// New for every process.
    pub incarnation: Uuid,
    /// Host name.
    pub hostname: String,
    /// Process id.
    pub pid: u32,
    /// Machine boot and process table: two processes with the same key can see each other's process ids.
    pub host_key: Option<String>,
}

impl Identity {
    /// Whether no later process will have this name, because it is that of host and process.
    pub fn is_passing(&self) -> bool {
        self.instance_id == passing(&self.hostname, self.pid)
    }

    /// The identity of this process. `id` is a fixed name, by the rule of `[instance] id`, or `auto` for host name and
    /// process id.
    ///
    /// # Errors
    /// [`InstanceError::BadId`].
    pub fn of_this_process(id: &str) -> Result<Self, InstanceError> {
        let (hostname, pid) = (hostname(), std::process::id());
        let instance_id = if id == "auto" { passing(&hostname, pid) } else { id.to_owned() };
        let chars = instance_id.chars().count();
        let is_fit = |c: char| c.is_ascii_graphic() || (id == "auto" && !c.is_whitespace() && !c.is_control());
        if chars == 0 || chars > INSTANCE_ID_CHARS_MAX || !instance_id.chars().all(is_fit) {
            return Err(InstanceError::BadId(instance_id));
        }
        Ok(Self { instance_id, incarnation: Uuid::now_v7(), hostname, pid, host_key: host_key() })
    }
}

fn passing(hostname: &str, pid: u32) -> String {
    format!("{hostname}:{pid}")
}

/// Host name as the kernel knows it.
fn hostname() -> String {
    let read = |path| fs::read_to_string(path).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let name = read("/proc/sys/kernel/hostname")
        .or_else(|| std::env::var("HOSTNAME").ok())
        .unwrap_or_else(|| "localhost".into());
    // Leaves room for the process id within the limit of an instance id.
    name.chars().filter(|c| !c.is_whitespace()).take(48).collect()
}

/// Boot id and process-id namespace. `None` where there is no `/proc`: then only heartbeats tell who is dead.
fn host_key() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{}/{}", boot.trim(), namespace.display()))
}

/// Whether a process of this machine is gone. Only the kernel's word that there is no such process counts: `/proc` may
/// hide those of other users (`hidepid`). A process id that was given to another program is not noticed here; the
/// heartbeat is what notices it.
pub(super) fn process_is_gone(pid: &str) -> bool {
    let Some(process) = pid.parse::<u32>().ok().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) else {
        return false;
    };
    if test_kill_process(process) == Err(Errno::SRCH) {
        return true;
    }
    // A zombie runs nothing any more; its parent just has not asked for its exit code.
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with(['Z', 'X'])))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;

    use rustix::process::{WaitId, WaitIdOptions, waitid};

    use super::*;

    #[test]
    fn auto_names_host_and_process() {
        let identity = Identity::of_this_process("auto").unwrap();
        assert_eq!(identity.instance_id, format!("{}:{}", identity.hostname, std::process::id()));
        assert_ne!(identity.incarnation, Identity::of_this_process("auto").unwrap().incarnation);
    }

    #[test]
    fn refuses_names_that_cannot_be_an_application_name() {
        for id in ["", "a b", "a\n", "ä", &"x".repeat(64)] {
            assert!(Identity::of_this_process(id).is_err(), "{id:?}");
        }
    }

    #[test]
    fn sees_who_is_gone() {
        assert!(!process_is_gone(&std::process::id().to_string()));
        assert!(process_is_gone(&i32::MAX.to_string()));
        for text in ["not a pid", "", "0", "-1", "4294967294"] {
            assert!(!process_is_gone(text), "{text:?}");
        }
    }

    #[test]
    fn a_process_that_ended_and_was_not_waited_for_is_gone() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = Pid::from_child(&child);
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        assert!(process_is_gone(&child.id().to_string()));
        child.wait().unwrap();
    }

    /// Runs itself again, as a user from whom `/proc` hides this process.
    #[test]
    fn a_process_that_cannot_be_seen_is_not_gone() {
        const HIDDEN: &str = "SINGULARITY_TEST_HIDDEN_PID";
        if let Ok(pid) = std::env::var(HIDDEN) {
            assert!(fs::metadata(format!("/proc/{pid}")).is_err(), "it can be seen");
            assert!(!process_is_gone(&pid), "it lives");
            return println!("looked");
        }
        let as_nobody = "mount -t proc -o hidepid=invisible proc /proc && \
                         exec setpriv --reuid=65534 --regid=65534 --clear-groups -- \"$@\"";
        let myself = "instance::identity::tests::a_process_that_cannot_be_seen_is_not_gone";
        let run = |how| {
            let mut command = Command::new("unshare");
            command.args(["-m", "sh", "-c", as_nobody, "sh"]).arg(std::env::current_exe().unwrap());
            command.args(["--exact", myself, how]).env(HIDDEN, std::process::id().to_string()).output()
        };
        if !run("--list").is_ok_and(|output| output.status.success()) {
            let why = b"skipped: needs root, setpriv, and a test binary that other users can reach\n";
            // Not captured, as what is printed would be.
            return std::io::stderr().write_all(why).unwrap();
        }
        let output = run("--nocapture").unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("looked"),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
