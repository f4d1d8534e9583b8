//! Several processes, one server: who starts it, who stops it.

use std::time::Duration;

use singularity::postgres::embedded::{Restarted, Server};

use crate::embedded_support::{Helper, Place, eventually, lives, query};

#[test]
fn a_second_process_attaches_and_the_last_one_out_stops_the_server() {
    let place = Place::new();
    let server = place.acquire();
    let pid = server.postmaster_pid();
    let mut other = Helper::spawn(&place);
    assert_eq!(other.acquired(), pid);
    assert_eq!(other.ask("query"), "singularity");

    server.release().unwrap();
    assert_eq!(other.ask("query"), "singularity");
    assert_eq!(place.postmaster(), Some(pid));

    assert_eq!(other.ask("release"), "released");
    assert!(!lives(pid));
}

#[test]
fn three_processes_at_once_on_an_empty_folder_make_one_server() {
    let place = Place::new();
    let mut helpers: Vec<Helper> = (0..3).map(|_| Helper::spawn(&place)).collect();
    let pids: Vec<u32> = helpers.iter_mut().map(Helper::acquired).collect();
    assert_eq!(pids, [pids[0]; 3]);
    for helper in &mut helpers {
        helper.order("release");
    }
    for helper in &mut helpers {
        assert_eq!(helper.answer(), "released");
    }
    eventually("the server is stopped", || !lives(pids[0]));
}

#[test]
fn the_server_survives_kill_9_of_its_starter_and_is_stopped_after_kill_9_of_all() {
    let place = Place::new();
    let mut starter = Helper::spawn(&place);
    let pid = starter.acquired();
    let mut other = Helper::spawn(&place);
    assert_eq!(other.acquired(), pid);

    starter.kill();
    assert_eq!(other.ask("query"), "singularity");
    assert_eq!(place.postmaster(), Some(pid));

    other.kill();
    eventually("the guardian stops the server", || !lives(pid));
    eventually("the guardian is gone", || !place.is_guarded());
}

#[test]
fn a_server_that_shall_linger_is_there_for_who_comes_soon_and_stops_later() {
    let mut place = Place::new();
    place.linger = Duration::from_secs(3);
    let server = place.acquire();
    let pid = server.postmaster_pid();
    server.release().unwrap();
    assert_eq!(place.postmaster(), Some(pid));
    let server = place.acquire();
    assert_eq!(server.postmaster_pid(), pid, "it was not started again");
    assert_eq!(query(&server.connection().socket_url(), "SELECT 'here'"), "here");
    server.release().unwrap();
    eventually("the guardian stops the server", || !lives(pid));
}

#[test]
fn a_newcomer_within_the_grace_time_keeps_the_server() {
    let mut place = Place::new();
    place.linger = Duration::from_secs(2);
    let mut first = Helper::spawn(&place);
    let pid = first.acquired();
    first.kill();
    let second = place.acquire();
    assert_eq!(second.postmaster_pid(), pid);
    eventually("a guardian", || place.is_guarded());
    assert_eq!(second.ensure_running().unwrap(), Restarted::No);
    second.release().unwrap();
    assert!(!lives(pid));
}

#[test]
fn a_dropped_share_lets_the_guardian_stop_the_server() {
    let place = Place::new();
    let server = place.acquire();
    let pid = server.postmaster_pid();
    drop(server);
    eventually("the guardian stops the server", || !lives(pid));
}

#[test]
fn without_a_guardian_the_next_user_attaches_and_stops_it_at_its_exit() {
    let place = Place::new();
    let server =
        Server::acquire(&singularity::postgres::embedded::Options { guardian: Some(Vec::new()), ..place.options() })
            .unwrap();
    let pid = server.postmaster_pid();
    drop(server);
    assert!(!place.is_guarded());
    assert_eq!(place.postmaster(), Some(pid));

    let next = place.acquire();
    assert_eq!(next.postmaster_pid(), pid);
    eventually("the newcomer brings a guardian", || place.is_guarded());
    next.release().unwrap();
    assert!(!lives(pid));
}

#[test]
fn a_killed_guardian_is_replaced_by_the_next_user() {
    let place = Place::new();
    let first = place.acquire();
    eventually("a guardian", || place.is_guarded());
    let guardian = guardian_of(&place).unwrap();
    crate::embedded_support::signal(guardian, "KILL");
    eventually("no guardian", || !place.is_guarded());
    let second = place.acquire();
    eventually("another guardian", || place.is_guarded());
    drop((first, second));
    eventually("the guardian stops the server", || place.postmaster().is_none());
}

#[test]
fn a_folder_that_was_removed_and_made_anew_is_not_the_old_guardians_business() {
    let mut place = Place::new();
    place.linger = Duration::from_secs(2);
    let first = place.acquire();
    eventually("a guardian", || place.is_guarded());
    let guardian = guardian_of(&place).unwrap();
    first.release().unwrap();
    std::fs::remove_dir_all(&place.home).unwrap();
    let second = place.acquire();
    eventually("the end of the first guardian", || !lives(guardian));
    assert_eq!(place.postmaster(), Some(second.postmaster_pid()));
    assert_eq!(second.ensure_running().unwrap(), Restarted::No);
    second.release().unwrap();
}

/// Pid of the guardian process that has this folder among its arguments.
fn guardian_of(place: &Place) -> Option<u32> {
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let arguments = std::fs::read(entry.path().join("cmdline")).ok()?;
        let arguments = String::from_utf8_lossy(&arguments).into_owned();
        let ours = arguments.contains("__postgres-guardian") && arguments.contains(place.home.to_str()?);
        (ours && lives(pid)).then_some(pid)
    })
}
