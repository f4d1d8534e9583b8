//! How to connect to the embedded server, and the files that tell others.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rand::distr::{Alphanumeric, SampleString};
use secrecy::{ExposeSecret, SecretString};

use super::error::EmbeddedError;
use super::home::Home;
use super::postmaster::Endpoint;

/// Superuser of the cluster, and the user nodes connect as.
pub(super) const USER: &str = "postgres";

/// Database of the node, made together with the cluster.
pub(super) const DATABASE: &str = "singularity";

/// Host of TCP connections; the server listens nowhere else.
const HOST: &str = "127.0.0.1";

/// Length of a password. 32 of 62 characters are 190 bits.
const PASSWORD_LENGTH: usize = 32;

/// Beginning of the line in the password file that is ours.
const PGPASS_PREFIX: &str = "*:*:*:postgres:";

/// How to reach the embedded server. `Debug` hides the password.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Folder of the Unix socket, absolute; what libpq takes as host.
    pub socket_dir: PathBuf,
    /// Port on 127.0.0.1, and number in the socket's name.
    pub port: u16,
    /// User name, a superuser of this server.
    pub user: &'static str,
    /// Password, which TCP and socket both ask for.
    pub password: SecretString,
    /// The database of the node.
    pub database: &'static str,
    /// Password file of mode 0600 in libpq's format.
    pub passfile: PathBuf,
}

impl Connection {
    pub(super) fn new(home: &Home, endpoint: &Endpoint, password: SecretString) -> Self {
        Self {
            socket_dir: endpoint.socket_dir.clone(),
            port: endpoint.port,
            user: USER,
            password,
            database: DATABASE,
            passfile: home.pgpass(),
        }
    }

    /// URL for TCP on loopback, password included.
    pub fn url(&self) -> SecretString {
        let (user, password) = (self.user, self.password.expose_secret());
        format!("postgresql://{user}:{password}@{HOST}:{}/{}?sslmode=disable", self.port, self.database).into()
    }

    /// URL for the Unix socket, password included; the faster one.
    pub fn socket_url(&self) -> SecretString {
        let (user, password) = (self.user, self.password.expose_secret());
        let host = encode(self.socket_dir.as_os_str().as_bytes());
        format!("postgresql://{user}:{password}@{host}:{}/{}", self.port, self.database).into()
    }

    /// URL without the password that `psql` can use as it is, because it names the password file. Only for the user
    /// who may read that file.
    pub fn display_url(&self) -> String {
        let passfile = encode(self.passfile.as_os_str().as_bytes());
        format!("postgresql://{}@{HOST}:{}/{}?passfile={passfile}", self.user, self.port, self.database)
    }
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(char::from(*byte)),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

/// Reads the cluster's password; makes one when there is no cluster yet. The caller holds the start lock.
pub(super) fn password(home: &Home) -> Result<SecretString, EmbeddedError> {
    let path = home.pgpass();
    let what = match fs::read_to_string(&path) {
        Ok(text) => {
            match text.lines().find_map(|line| line.strip_prefix(PGPASS_PREFIX)).filter(|word| !word.is_empty()) {
                Some(word) => return Ok(word.into()),
                None => "has no line for the user postgres",
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => "is missing",
        Err(error) => return Err(EmbeddedError::io("read", &path)(error)),
    };
    if home.has_cluster() {
        return Err(EmbeddedError::Password { path, what });
    }
    let word = Alphanumeric.sample_string(&mut rand::rng(), PASSWORD_LENGTH);
    replace(&path, 0o600, &format!("{PGPASS_PREFIX}{word}\n"))?;
    Ok(word.into())
}

/// Writes the files that tell the port and the URL, where they say something else. The caller holds the start lock.
pub(super) fn announce(home: &Home, connection: &Connection) -> Result<(), EmbeddedError> {
    let url = format!("{}\n", connection.url().expose_secret());
    for (path, mode, text) in [(home.port(), 0o644, format!("{}\n", connection.port)), (home.url(), 0o600, url)] {
        if fs::read_to_string(&path).ok().as_deref() != Some(&text) {
            replace(&path, mode, &text)?;
        }
    }
    Ok(())
}

/// Writes a file of ours in one step: whoever reads it sees the old text or the new one.
pub(super) fn replace(path: &Path, mode: u32, text: &str) -> Result<(), EmbeddedError> {
    let next = path.with_extension("next");
    let write = || {
        match fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&next)?;
        // Whatever the umask is: the server's user reads the settings.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&next, path)
    };
    write().map_err(EmbeddedError::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        let endpoint = Endpoint { pid: 1, port: 5433, socket_dir: "/d/so cket".into() };
        Connection::new(&Home::at("/h".into()), &endpoint, "secret".into())
    }

    #[test]
    fn the_urls_carry_the_password_only_where_they_should() {
        let connection = connection();
        assert_eq!(
            connection.url().expose_secret(),
            "postgresql://postgres:secret@127.0.0.1:5433/singularity?sslmode=disable"
        );
        assert_eq!(
            connection.socket_url().expose_secret(),
            "postgresql://postgres:secret@%2Fd%2Fso%20cket:5433/singularity"
        );
        assert_eq!(connection.display_url(), "postgresql://postgres@127.0.0.1:5433/singularity?passfile=%2Fh%2Fpgpass");
        assert!(!format!("{connection:?}").contains("secret@"));
        assert!(!format!("{connection:?}").contains("\"secret\""));
    }

    #[test]
    fn a_password_is_made_once_and_never_for_an_existing_cluster() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().to_owned());
        let first = password(&home).unwrap();
        assert_eq!(first.expose_secret().len(), PASSWORD_LENGTH);
        assert_eq!(password(&home).unwrap().expose_secret(), first.expose_secret());
        fs::remove_file(home.pgpass()).unwrap();
        fs::create_dir_all(home.data()).unwrap();
        fs::write(home.data().join("PG_VERSION"), "15\n").unwrap();
        assert!(password(&home).unwrap_err().to_string().ends_with("is missing"));
    }
}
