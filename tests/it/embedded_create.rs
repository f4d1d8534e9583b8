//! Making a cluster, and what a newcomer finds.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use secrecy::ExposeSecret;
use singularity::error::Coded;
use singularity::postgres::embedded::{Profile, Server};

use crate::embedded_support::{Helper, Place, SECRET, eventually, is_root, query, try_query};
use crate::support::skipped;

#[test]
fn an_empty_folder_becomes_a_durable_server_that_needs_its_password() {
    let place = Place::new();
    let server =
        Server::acquire(&singularity::postgres::embedded::Options { profile: Profile::Durable, ..place.options() })
            .unwrap();
    let connection = server.connection();
    assert!(server.notes().is_empty(), "{:?}", server.notes());
    assert_eq!(server.data_dir(), place.home);

    for url in [connection.url(), connection.socket_url()] {
        assert_eq!(query(&url, "SELECT current_database() || ' ' || current_user"), "singularity postgres");
        let wrong = url.expose_secret().replace(connection.password.expose_secret(), "wrong").into();
        let error = try_query(&wrong, "SELECT ''").unwrap_err().to_string();
        assert!(error.contains("password authentication failed"), "{error}");
    }
    let settings = "SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings WHERE name IN \
        ('fsync', 'jit', 'listen_addresses', 'max_wal_senders', 'synchronous_commit', 'wal_level')";
    assert_eq!(
        query(&connection.url(), settings),
        "fsync=on jit=off listen_addresses=127.0.0.1 max_wal_senders=0 synchronous_commit=on wal_level=minimal"
    );

    for (name, mode) in [("pgpass", 0o600), ("url", 0o600), ("use.lock", 0o600), ("server", 0o700)] {
        assert_eq!(fs::metadata(place.home.join(name)).unwrap().mode() & 0o777, mode, "{name}");
    }
    if is_root() {
        assert_eq!(fs::metadata(place.home.join("pgpass")).unwrap().uid(), 0);
        assert_ne!(fs::metadata(place.data()).unwrap().uid(), 0);
    }
    server.release().unwrap();
    assert_eq!(place.postmaster(), None);
}

#[test]
fn psql_connects_with_the_url_file_and_with_the_displayed_url() {
    if Command::new("psql").arg("--version").output().is_err() {
        return skipped("no psql here");
    }
    let place = Place::new();
    let server = place.acquire();
    let shown = server.connection().display_url();
    assert!(!shown.contains(server.connection().password.expose_secret()), "{shown}");
    let file = fs::read_to_string(place.home.join("url")).unwrap();
    let socket = server.connection().socket_url();
    for url in [shown.as_str(), file.trim(), socket.expose_secret()] {
        let output = Command::new("psql").args(["-w", "-Atc", "SELECT current_database()", url]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "singularity", "{output:?}");
    }
    server.release().unwrap();
}

#[test]
fn the_server_has_a_session_of_its_own_and_none_of_the_nodes_variables() {
    let place = Place::new();
    let mut helper = Helper::spawn(&place);
    let pid = helper.acquired();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let session = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap();
    assert_eq!(session, pid.to_string());
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    assert!(!String::from_utf8_lossy(&environment).contains(SECRET.0));
    assert_eq!(helper.ask("release"), "released");
}

/// Kills the creating process at every stage that shows in the folder, each time in the same folder.
#[test]
fn a_creation_killed_at_any_stage_leaves_no_half_cluster() {
    let place = Place::new();
    let unfinished = || -> BTreeSet<PathBuf> {
        let entries = fs::read_dir(place.home.join("server")).into_iter().flatten().flatten().map(|entry| entry.path());
        entries.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("data.new.")).collect()
    };
    // Below an unfinished cluster of this very process, or below the home.
    for (stage, below_unfinished) in [
        ("start.lock", false),
        ("pgpass", false),
        ("server", false),
        ("", true),
        ("PG_VERSION", true),
        ("base/5/PG_VERSION", true),
        ("server/data", false),
        ("server/data/postmaster.pid", false),
    ] {
        let before = unfinished();
        let mut helper = Helper::spawn(&place);
        eventually(stage, || match below_unfinished {
            true => unfinished().difference(&before).any(|path| path.join(stage).exists()),
            false => place.home.join(stage).exists(),
        });
        helper.kill();
        let half = place.data().exists() && !place.data().join("PG_VERSION").exists();
        assert!(!half, "a half cluster after {stage}");
    }
    let server = place.acquire();
    assert_eq!(query(&server.connection().url(), "SELECT current_database()"), "singularity");
    server.release().unwrap();
    // An initdb that outlived its node may still write; a later start removes what it left.
    eventually("no leftovers", || {
        place.acquire().release().unwrap();
        unfinished().is_empty()
    });
}

#[test]
fn without_programs_the_error_shows_the_three_ways_out() {
    let place = Place::new();
    let empty = place.folder().join("bin");
    fs::create_dir(&empty).unwrap();
    let options = singularity::postgres::embedded::Options { bin_dir: Some(empty.clone()), ..place.options() };
    let error = Server::acquire(&options).unwrap_err();
    assert_eq!(error.code(), "E0201");
    assert!(error.to_string().contains(&empty.display().to_string()), "{error}");
    let hint = error.hint().unwrap();
    for way in ["apt-get install postgresql", "DATABASE_URL", "bin_dir under [embedded]"] {
        assert!(hint.contains(way), "{hint}");
    }
    assert!(!place.data().exists());
}

#[test]
fn a_lost_password_is_told_and_nothing_is_overwritten() {
    let place = Place::new();
    place.acquire().release().unwrap();
    let pgpass = place.home.join("pgpass");
    let aside = place.home.join("aside");
    fs::rename(&pgpass, &aside).unwrap();
    let error = Server::acquire(&place.options()).unwrap_err();
    assert_eq!(error.code(), "E0213", "{error}");
    fs::rename(&aside, &pgpass).unwrap();
    place.acquire().release().unwrap();
}

#[test]
fn a_long_path_with_blanks_and_quotes_does_no_harm() {
    let mut place = Place::new();
    let long = "a folder, 'quoted' \"twice\" $(and) more ".repeat(4);
    place.home = place.folder().join(long).join("postgres");
    fs::create_dir(place.home.parent().unwrap()).unwrap();
    fs::set_permissions(place.home.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    let server = place.acquire();
    assert!(server.notes().is_empty(), "{:?}", server.notes());
    let socket_dir = server.connection().socket_dir;
    assert!(socket_dir.starts_with("/tmp") || socket_dir.starts_with("/var/tmp"), "{}", socket_dir.display());
    assert_eq!(fs::metadata(&socket_dir).unwrap().mode() & 0o777, 0o700);
    assert_eq!(query(&server.connection().socket_url(), "SELECT 'here'"), "here");
    server.release().unwrap();
    assert!(!Path::new(&socket_dir).exists(), "the socket folder outside the home is removed");
}
