//! Root, ordinary users, and folders that one of them cannot use.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use singularity::error::Coded;
use singularity::postgres::embedded::Server;

use crate::embedded_support::{Helper, NOBODY, Place, eventually, is_root, lives, options, query, signal};
use crate::support::skipped;

/// Whether the tests of several users can run; says so when not.
fn can_change_user() -> bool {
    let program = std::env::current_exe().unwrap();
    let reachable = program.ancestors().all(|path| fs::metadata(path).unwrap().mode() & 0o005 == 0o005);
    if !is_root() || !reachable {
        skipped("needs root, and a test binary that other users can reach");
    }
    is_root() && reachable
}

#[test]
fn an_ordinary_user_runs_a_server_of_its_own() {
    if !can_change_user() {
        return;
    }
    let place = Place::new();
    chown(place.folder(), Some(NOBODY), Some(NOBODY)).unwrap();
    let mut helper = Helper::spawn_as(&place, Some(NOBODY), "022", &[]);
    let pid = helper.acquired();
    assert_eq!(helper.ask("query"), "singularity");
    assert_eq!(helper.ask("notes"), "[]");
    assert_eq!(fs::metadata(format!("/proc/{pid}")).unwrap().uid(), NOBODY);
    assert_eq!(fs::metadata(&place.home).unwrap().mode() & 0o777, 0o700);

    // Root does not take over what is another user's.
    let error = Server::acquire(&place.options()).unwrap_err();
    assert_eq!(error.code(), "E0204");
    assert!(error.to_string().contains("belongs to uid 65534"), "{error}");

    assert_eq!(helper.ask("release"), "released");
    assert!(!lives(pid));
}

#[test]
fn an_ordinary_user_is_told_that_a_folder_is_roots() {
    if !can_change_user() {
        return;
    }
    let place = Place::new();
    place.acquire().release().unwrap();
    let mut helper = Helper::spawn_as(&place, Some(NOBODY), "022", &[]);
    let answer = helper.answer();
    assert!(answer.starts_with("E0204") && answer.contains("belongs to uid 0"), "{answer}");
}

#[test]
fn an_ordinary_user_who_cannot_write_there_gets_a_folder_below_its_home() {
    if !can_change_user() {
        return;
    }
    let place = Place::new();
    let home = place.folder().join("home");
    fs::create_dir(&home).unwrap();
    chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
    let mut helper = Helper::spawn_as(&place, Some(NOBODY), "022", &[("HOME", &home)]);
    let pid = helper.acquired();
    let folder = helper.ask("folder");
    assert!(Path::new(&folder).starts_with(home.join(".local/state/singularity")), "{folder}");
    let notes = helper.ask("notes");
    assert!(notes.contains(&folder) && notes.contains("cannot be made"), "{notes}");
    assert_eq!(helper.ask("release"), "released");
    assert!(!lives(pid));
}

#[test]
fn root_goes_elsewhere_when_the_servers_user_cannot_enter_and_stays_there() {
    if !can_change_user() {
        return;
    }
    let place = Place::new();
    fs::set_permissions(place.folder(), Permissions::from_mode(0o700)).unwrap();
    let server = place.acquire();
    let folder = server.data_dir().to_owned();
    let cleanup = RemoveAtEnd(&folder);
    assert!(!folder.starts_with(place.folder()), "{}", folder.display());
    assert!(!place.home.exists(), "nothing is made where it cannot be used");
    let note = server.notes().concat();
    assert!(note.contains(folder.to_str().unwrap()) && note.contains("cannot enter"), "{note}");
    assert_eq!(query(&server.connection().socket_url(), "SELECT 'here'"), "here");
    server.release().unwrap();

    // The way is open now, but the cluster is where it was made.
    fs::set_permissions(place.folder(), Permissions::from_mode(0o755)).unwrap();
    let server = place.acquire();
    assert_eq!(server.data_dir(), folder);
    assert_eq!(server.notes().len(), 1);
    server.release().unwrap();
    drop(cleanup);
}

#[test]
fn a_strict_umask_does_not_lock_the_servers_user_out() {
    let place = Place::new();
    let mut helper = Helper::spawn_as(&place, None, "077", &[]);
    let pid = helper.acquired();
    assert_eq!(helper.ask("notes"), "[]");
    assert_eq!(helper.ask("query"), "singularity");
    assert_eq!(helper.ask("release"), "released");
    assert!(!lives(pid));
}

/// As root in a container, who may not look into the processes of other users.
const UNSEEING: [&str; 3] = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"];

#[test]
fn root_without_the_capability_to_see_other_users_processes_runs_a_server_and_takes_none_away() {
    let hides = |own: &str| {
        let script = "test -e /proc/$0/cwd || exit 7";
        let status = Command::new(UNSEEING[0]).args(&UNSEEING[1..]).args(["/bin/sh", "-c", script, own]).status();
        status.is_ok_and(|status| status.code() == Some(7))
    };
    let mut other = Command::new("sleep").arg("60").uid(NOBODY).gid(NOBODY).spawn();
    let can = is_root() && other.as_ref().is_ok_and(|other| hides(&other.id().to_string()));
    if let Ok(other) = &mut other {
        other.kill().unwrap();
        other.wait().unwrap();
    }
    if !can {
        return skipped("needs root, and setpriv to take a capability away");
    }

    let place = Place::new();
    let mut helper = Helper::spawn_through(&UNSEEING, &place, None, &[]);
    let pid = helper.acquired();
    assert_eq!(helper.ask("query"), "singularity");
    assert_eq!(place.postmaster(), Some(pid), "its pid file was removed");
    // A second one finds the server of the first, and one that healed it finds nothing to do.
    let mut second = Helper::spawn_through(&UNSEEING, &place, None, &[]);
    assert_eq!(second.acquired(), pid);
    assert_eq!(helper.ask("ensure"), "No");
    assert_eq!(second.ask("release"), "released");

    // The pid of a dead server may be another server's by now: that one is seen to be no user of this folder.
    signal(pid, "KILL");
    eventually("the server is gone", || !lives(pid));
    let stranger = Place::new();
    let mut other = Helper::spawn_through(&UNSEEING, &stranger, None, &[]);
    let strange = other.acquired();
    let file = place.data().join("postmaster.pid");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen(&pid.to_string(), &strange.to_string(), 1)).unwrap();
    assert_eq!(helper.ask("ensure"), "Here");
    assert_eq!(helper.ask("query"), "singularity");
    assert_eq!(helper.ask("release"), "released");
    assert_eq!(place.postmaster(), None, "it was stopped");
    assert_eq!(other.ask("query"), "singularity");
    assert_eq!(other.ask("release"), "released");
}

#[test]
fn a_cluster_that_became_unreachable_is_told_and_not_replaced() {
    if !can_change_user() {
        return;
    }
    let place = Place::new();
    place.acquire().release().unwrap();
    fs::set_permissions(place.folder(), Permissions::from_mode(0o700)).unwrap();
    let error = Server::acquire(&options(&place.home, place.linger)).unwrap_err();
    assert_eq!(error.code(), "E0205", "{error}");
    assert!(error.to_string().contains("cannot enter"), "{error}");
    fs::set_permissions(place.folder(), Permissions::from_mode(0o755)).unwrap();
    place.acquire().release().unwrap();
}

/// A folder outside the test's own.
struct RemoveAtEnd<'a>(&'a Path);

impl Drop for RemoveAtEnd<'_> {
    fn drop(&mut self) {
        fs::remove_dir_all(self.0).ok();
        // The parent is left unless it is empty.
        self.0.parent().map(fs::remove_dir);
    }
}
