//! A server that was killed, and what a killed server leaves behind.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use singularity::error::Coded;
use singularity::postgres::embedded::{Options, Profile, Restarted, Server};

use crate::embedded_support::{Helper, Place, eventually, execute, is_root, lives, query, signal, try_query};

#[test]
fn after_kill_9_of_the_postmaster_one_user_restarts_it_for_all() {
    let place = Place::new();
    // Durable: what was committed must be there afterwards.
    let server = Server::acquire(&Options { profile: Profile::Durable, ..place.options() }).unwrap();
    let (pid, port) = (server.postmaster_pid(), server.connection().port);
    execute(&server.connection().url(), "CREATE TABLE kept AS SELECT 'kept' AS word");
    let mut helpers = [Helper::spawn(&place), Helper::spawn(&place)];
    for helper in &mut helpers {
        assert_eq!(helper.acquired(), pid);
    }

    signal(pid, "KILL");
    // The signal is delivered some time after it was sent.
    eventually("the postmaster is dead", || !lives(pid));
    for helper in &mut helpers {
        helper.order("ensure");
    }
    let mut outcomes = vec![format!("{:?}", server.ensure_running().unwrap())];
    outcomes.extend(helpers.iter_mut().map(Helper::answer));
    outcomes.sort();
    assert_eq!(outcomes, ["ByOther", "ByOther", "Here"]);

    assert_ne!(server.postmaster_pid(), pid);
    assert_eq!(server.connection().port, port, "the port stays");
    assert_eq!(query(&server.connection().url(), "SELECT word FROM kept"), "kept");
    assert_eq!(server.ensure_running().unwrap(), Restarted::No);
    for helper in &mut helpers {
        assert_eq!(helper.ask("query"), "singularity");
        assert_eq!(helper.ask("release"), "released");
    }
    server.release().unwrap();
}

#[test]
fn kill_9_of_one_backend_needs_no_restart() {
    let place = Place::new();
    let server = place.acquire();
    let url = server.connection().url();
    let backend = query(&url, "SELECT pid::text FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
    signal(backend.parse().unwrap(), "KILL");
    eventually("queries work again", || try_query(&url, "SELECT ''").is_ok());
    assert_eq!(server.ensure_running().unwrap(), Restarted::No);
    server.release().unwrap();
}

#[test]
fn a_port_that_was_taken_meanwhile_is_replaced_and_told() {
    let place = Place::new();
    let server = place.acquire();
    let port = server.connection().port;
    server.release().unwrap();
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let server = place.acquire();
    assert_ne!(server.connection().port, port);
    assert_eq!(query(&server.connection().url(), "SELECT 'here'"), "here");
    let file = fs::read_to_string(place.home.join("port")).unwrap();
    assert_eq!(file.trim(), server.connection().port.to_string());
    server.release().unwrap();
    drop(taken);
}

#[test]
fn a_postmaster_pid_that_names_a_living_stranger_is_forgotten_and_the_stranger_lives() {
    let place = Place::new();
    place.acquire().release().unwrap();
    let mut stranger = stranger(&place);
    write_pid_file(&place, stranger.id());
    let server = place.acquire();
    assert_ne!(server.postmaster_pid(), stranger.id());
    assert_eq!(query(&server.connection().url(), "SELECT 'here'"), "here");
    assert!(lives(stranger.id()));
    server.release().unwrap();
    assert!(lives(stranger.id()));
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn a_start_waits_until_a_dead_postmaster_is_reaped() {
    let place = Place::new();
    place.acquire().release().unwrap();
    let mut dead = stranger(&place);
    let pid = dead.id();
    write_pid_file(&place, pid);
    dead.kill().unwrap();
    eventually("a zombie", || !lives(pid));
    std::thread::scope(|scope| {
        let server = scope.spawn(|| place.acquire());
        eventually("the start is under way", || {
            fs::File::open(place.home.join("start.lock")).unwrap().try_lock().is_err()
        });
        let text = fs::read_to_string(place.data().join("postmaster.pid")).unwrap();
        assert_eq!(text.lines().next(), Some(pid.to_string().as_str()), "the file of a zombie is not touched");
        dead.wait().unwrap();
        server.join().unwrap().release().unwrap();
    });
}

#[test]
fn an_empty_postmaster_pid_does_not_stop_a_start_for_ever() {
    let place = Place::new();
    place.acquire().release().unwrap();
    fs::write(place.data().join("postmaster.pid"), "").unwrap();
    let server = place.acquire();
    assert_eq!(query(&server.connection().url(), "SELECT 'here'"), "here");
    server.release().unwrap();
}

#[test]
fn a_start_that_cannot_work_shows_the_servers_own_words() {
    let place = Place::new();
    place.acquire().release().unwrap();
    let auto = place.data().join("postgresql.auto.conf");
    fs::write(&auto, "shared_buffers = 'much'\n").unwrap();
    let error = Server::acquire(&place.options()).unwrap_err();
    assert_eq!(error.code(), "E0208");
    assert!(error.to_string().contains("shared_buffers"), "{error}");
    fs::write(&auto, "").unwrap();
    place.acquire().release().unwrap();
}

#[test]
fn a_folder_removed_in_use_is_told_and_not_made_again() {
    let place = Place::new();
    let server = place.acquire();
    let aside = place.folder().join("aside");
    fs::rename(&place.home, &aside).unwrap();
    let error = server.ensure_running().unwrap_err();
    assert_eq!(error.code(), "E0212", "{error}");
    assert!(!place.home.exists());
    fs::rename(&aside, &place.home).unwrap();
    assert_eq!(server.ensure_running().unwrap(), Restarted::No);
    server.release().unwrap();
}

/// A process of the server's user that is no server.
fn stranger(place: &Place) -> Child {
    let mut command = Command::new("sleep");
    command.arg("600").stdout(Stdio::null()).stderr(Stdio::null());
    if is_root() {
        command.uid(fs::metadata(place.data()).unwrap().uid());
    }
    command.spawn().unwrap()
}

/// What a killed server would have left, with another process's pid in it.
fn write_pid_file(place: &Place, pid: u32) {
    let data = place.data();
    let text =
        format!("{pid}\n{}\n1700000000\n20000\n/tmp\n127.0.0.1\n  1234567         0\nready   \n", data.display());
    fs::write(data.join("postmaster.pid"), text).unwrap();
}
