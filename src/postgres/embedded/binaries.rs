//! Finds the programs of an installed PostgreSQL.
//!
//! Order: the configured folder alone when there is one; else `PATH`, `pg_config --bindir`, then the folders of
//! distributions, Homebrew and Postgres.app, highest version first. The first hit counts; for an existing cluster the
//! first hit of its major version, because PostgreSQL opens no other.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::error::EmbeddedError;
use super::identity::Identity;

/// Oldest major version that is taken: what is asked of every server.
const MAJOR_MIN: u32 = 14;

/// What a folder must have.
const PROGRAMS: [&str; 3] = ["initdb", "pg_ctl", "postgres"];

/// Parent folder, beginning of the name, and the way down to the programs.
const INSTALL_FOLDERS: [(&str, &str, &str); 6] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];

/// Programs of one installed PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// Folder with `initdb`, `pg_ctl` and `postgres`.
    pub bin_dir: PathBuf,
    /// Major version, such as 15.
    pub major: u32,
    /// What `postgres --version` said, without the leading program name.
    pub version: String,
}

impl Binaries {
    /// Path of one of the programs.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.bin_dir.join(name)
    }
}

/// Finds usable server programs; runs `postgres --version` of those it looks at, as root with the rights of the user
/// that the server would run as. Blocks for some tens of milliseconds.
///
/// `bin_dir` is looked at alone when given; `major` restricts the answer to one major version.
///
/// # Errors
/// `E0201` when nothing was found, `E0202` when nothing of that major version was, `E0203` when root has no other user
/// to run as.
pub fn discover(bin_dir: Option<&Path>, major: Option<u32>) -> Result<Binaries, EmbeddedError> {
    discover_as(&Identity::detect(None)?, bin_dir, major)
}

/// As [`discover`] for a known server user.
pub(super) fn discover_as(
    identity: &Identity,
    bin_dir: Option<&Path>,
    major: Option<u32>,
) -> Result<Binaries, EmbeddedError> {
    match bin_dir {
        Some(dir) => {
            let dir = std::path::absolute(dir).map_err(EmbeddedError::io("resolve", dir))?;
            search([(format!("bin_dir {}", dir.display()), vec![dir])].into_iter(), identity, major)
        }
        None => search(usual_places(std::env::var_os("PATH")), identity, major),
    }
}

/// Where to look, as a label for people and its folders; lazy, because a later place may cost a program run.
fn usual_places(path: Option<OsString>) -> impl Iterator<Item = (String, Vec<PathBuf>)> {
    let from_path = path.iter().flat_map(std::env::split_paths).filter(|dir| dir.is_absolute()).collect();
    let from_config = std::iter::once_with(|| ("pg_config --bindir".to_owned(), pg_config_dir().into_iter().collect()));
    let installed = INSTALL_FOLDERS.iter().map(|(parent, prefix, below)| {
        let label = Path::new(parent).join(format!("{prefix}*")).join(below).display().to_string();
        (label, numbered_folders(Path::new(parent), prefix, below))
    });
    std::iter::once(("PATH".to_owned(), from_path)).chain(from_config).chain(installed)
}

fn search(
    places: impl Iterator<Item = (String, Vec<PathBuf>)>,
    identity: &Identity,
    major: Option<u32>,
) -> Result<Binaries, EmbeddedError> {
    let mut searched = Vec::new();
    for (mut label, folders) in places {
        for folder in folders {
            match probe(&folder, identity) {
                Probe::Absent => {}
                Probe::Unusable(reason) => label.push_str(&format!(" ({}: {reason})", folder.display())),
                Probe::Usable(found) if major.is_some_and(|major| major != found.major) => {
                    label.push_str(&format!(" ({} has {})", found.bin_dir.display(), found.major));
                }
                Probe::Usable(found) => return Ok(found),
            }
        }
        searched.push(label);
    }
    Err(match major {
        Some(major) => EmbeddedError::MajorMissing { major, searched },
        None => EmbeddedError::NoBinaries { searched },
    })
}

enum Probe {
    Absent,
    Unusable(String),
    Usable(Binaries),
}

fn probe(folder: &Path, identity: &Identity) -> Probe {
    // A link in PATH leads to the folder where the programs find each other and their share files.
    let real = folder.join("initdb").canonicalize().ok().and_then(|file| Some(file.parent()?.to_owned()));
    let Some(dir) = [real, Some(folder.to_owned())]
        .into_iter()
        .flatten()
        .find(|dir| PROGRAMS.iter().all(|program| dir.join(program).is_file()))
    else {
        return Probe::Absent;
    };
    let output = match identity.server_command(dir.join("postgres"), Path::new("/")).arg("--version").output() {
        Ok(output) => output,
        Err(error) => return Probe::Unusable(format!("postgres does not run: {error}")),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    match parse_version(&text) {
        Some((major, _)) if major < MAJOR_MIN => Probe::Unusable(format!("{major} is older than {MAJOR_MIN}")),
        Some((major, version)) => Probe::Usable(Binaries { bin_dir: dir, major, version }),
        None => Probe::Unusable(format!("postgres --version said {:?}", text.trim())),
    }
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0)` → 15 and everything after the bracket.
fn parse_version(text: &str) -> Option<(u32, String)> {
    let version = text.trim().strip_prefix("postgres (PostgreSQL) ")?;
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    Some((version[..digits].parse().ok()?, version.to_owned()))
}

fn pg_config_dir() -> Option<PathBuf> {
    let output = super::identity::bare_command("pg_config", Path::new("/")).arg("--bindir").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| PathBuf::from(text.trim()))
}

/// `<parent>/<prefix>*/<below>`, highest number in the name first, no number last.
fn numbered_folders(parent: &Path, prefix: &str, below: &str) -> Vec<PathBuf> {
    let names =
        std::fs::read_dir(parent).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
    names.sort_by_key(|name| std::cmp::Reverse(number_in(name)));
    names.into_iter().map(|name| parent.join(name).join(below)).collect()
}

fn number_in(name: &str) -> u32 {
    let digits: String = name.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::error::Coded;

    #[test]
    fn reads_versions_of_releases_and_betas() {
        let debian = parse_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n").unwrap();
        assert_eq!(debian, (15, "15.18 (Debian 15.18-0+deb12u1)".to_owned()));
        assert_eq!(parse_version("postgres (PostgreSQL) 18beta1").unwrap().0, 18);
        assert_eq!(parse_version("mysqld 8"), None);
    }

    #[test]
    fn prefers_the_highest_installed_version() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["9.6", "15", "postgresql@17", "other"] {
            std::fs::create_dir(parent.path().join(name)).unwrap();
        }
        let found = numbered_folders(parent.path(), "", "bin");
        let names: Vec<_> =
            found.iter().map(|path| path.strip_prefix(parent.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["postgresql@17/bin", "15/bin", "9.6/bin", "other/bin"]);
    }

    #[test]
    fn nothing_found_names_the_places_and_the_three_ways_out() {
        let identity = Identity::detect(None).unwrap();
        let empty = tempfile::tempdir().unwrap();
        let places =
            [("PATH".to_owned(), vec![empty.path().to_owned()]), ("/usr/lib/postgresql/*/bin".to_owned(), vec![])];
        let error = search(places.into_iter(), &identity, None).unwrap_err();
        assert_eq!(error.code(), "E0201");
        assert!(error.to_string().ends_with("looked at PATH; /usr/lib/postgresql/*/bin"), "{error}");
        let hint = error.hint().unwrap();
        for way in ["apt-get install postgresql", "DATABASE_URL", "bin_dir under [embedded]"] {
            assert!(hint.contains(way), "{hint}");
        }
    }

    #[test]
    fn a_missing_major_is_told_with_what_was_found() {
        let Ok(found) = discover(None, None) else {
            // Not captured, as what is printed would be.
            return std::io::stderr().write_all(b"skipped: no PostgreSQL programs here\n").unwrap();
        };
        assert!(found.major >= MAJOR_MIN);
        let error = discover(Some(&found.bin_dir), Some(99)).unwrap_err();
        assert_eq!(error.code(), "E0202");
        assert!(error.to_string().contains(&format!("has {}", found.major)), "{error}");
    }
}
