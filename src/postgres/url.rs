//! URLs of databases: what people may see of them, and parameters that would be ignored.

use super::DbError;
use crate::config::nearest;

/// Parameters that sqlx reads.
const KNOWN: [&str; 13] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
    "statement-cache-capacity",
];
/// Other spellings of theirs.
const ALIASES: [&str; 5] = ["ssl-mode", "ssl-root-cert", "ssl-ca", "ssl-cert", "ssl-key"];

/// Refuses parameters that are ignored though they seem to be meant for us: those that look like a known one, and all
/// about TLS, because a connection would be open to others than its owner believes. The rest, which other programs may
/// need (`connect_timeout`, `channel_binding`, `pool_size`), is let pass.
///
/// # Errors
/// [`DbError::InvalidUrl`]; it repeats the name, not the value.
pub(super) fn check_parameters(url: &str) -> Result<(), DbError> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let query = query.split_once('#').map_or(query, |(query, _)| query);
    for name in query.split('&').filter_map(|pair| pair.split('=').next()).filter(|name| !name.is_empty()) {
        if KNOWN.contains(&name) || ALIASES.contains(&name) || name.starts_with("options[") {
            continue;
        }
        let meant = nearest(name, KNOWN);
        let is_about_tls = ["ssl", "tls"].iter().any(|word| name.to_lowercase().starts_with(word));
        let reason = match meant {
            Some(meant) => format!("its parameter \"{}\" is not known; did you mean \"{meant}\"?", shown(name)),
            None if is_about_tls => {
                let known = "sslmode, sslrootcert, sslcert and sslkey are";
                format!("its parameter \"{}\" is not known; {known}, for example sslmode=verify-full", shown(name))
            }
            None => continue,
        };
        return Err(DbError::InvalidUrl { reason });
    }
    Ok(())
}

/// What can be shown of a name that is none.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// Takes the password out of `scheme://user:password@…` and out of `?password=…`.
pub(super) fn without_password(url: &str) -> String {
    let (main, query) = url.split_once('?').unwrap_or((url, ""));
    let (scheme, rest) = main.split_once("://").unwrap_or(("postgres", main));
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => format!("{}@{host}", user.split(':').next().unwrap_or_default()),
        None => authority.to_owned(),
    };
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.split('=').next().unwrap_or_default().contains("password"))
        .collect();
    let separator = if kept.is_empty() { "" } else { "?" };
    format!("{scheme}://{authority}{path}{separator}{}", kept.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_seem_to_be_meant_are_not_ignored() {
        for (query, meant) in [
            ("sslmdoe=verify-full", "\"sslmode\""),
            ("host=h&SSLMode=require", "\"sslmode\""),
            ("ssl=true", "sslmode=verify-full"),
            ("sslsni=secret", "sslrootcert"),
            ("pasword=secret", "\"password\""),
        ] {
            let error = check_parameters(&format!("postgres://h/d?{query}")).unwrap_err().to_string();
            assert!(error.contains(meant) && !error.contains("secret"), "{query}: {error}");
        }
        for query in ["", "sslmode=require&channel_binding=require", "connect_timeout=5&pool_size=2", "options[a]=b"] {
            check_parameters(&format!("postgres://h/d?{query}")).unwrap();
        }
        check_parameters("postgres://h/d").unwrap();
    }

    #[test]
    fn shows_no_password() {
        assert_eq!(without_password("postgres://h/d"), "postgres://h/d");
        assert_eq!(without_password("postgres://u:a@b@h"), "postgres://u@h");
    }
}
