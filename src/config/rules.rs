//! Rules of texts in the configuration: names, identifiers, URLs, log filters, plugins.
//!
//! Each says what is wrong, what is allowed and, where it can tell, what to write.

use super::kind::shown;
use super::problem::{Fault, Flaw};

/// What stands for no schedule.
pub(super) const SCHEDULE_OFF: &str = "off";

/// Longest name of a queue, provider, model or task type; Oban's limit of a queue name.
const NAME_CHARS_MAX: usize = 127;

/// Longest instance id: PostgreSQL cuts `application_name` there.
const INSTANCE_ID_CHARS_MAX: usize = 63;

/// Longest schema name: leaves room for the names of notification channels and indexes in PostgreSQL's 63 bytes.
const SCHEMA_CHARS_MAX: usize = 30;

/// Longest identifier: PostgreSQL cuts longer ones there.
const IDENTIFIER_BYTES_MAX: usize = 63;

/// Plugins of Oban and where their work is done here.
const PLUGINS: [(&str, &str); 7] = [
    (
        "cron",
        "periodic jobs are tables of their own, [cron.NAME] with expr and worker; write one for each and remove the entry",
    ),
    ("pruner", "deleting old jobs is on unless [services.pruner] says max_age = \"off\"; remove the entry"),
    (
        "reindexer",
        "rebuilding indexes is set in [services.reindexer]; write schedule = \"@midnight\" there and remove the entry",
    ),
    ("gossip", "what dashboards are told is set in [services.gossip] and [services.metrics]; remove the entry"),
    ("stager", "staging is always on and set in [services.stager]; remove the entry"),
    (
        "lifeline",
        "taking over the jobs of dead instances is always on and set in [services.lifeline]; remove the entry",
    ),
    ("dynamiclifeline", "taking over the jobs of dead instances is set in [services.lifeline]; remove the entry"),
];

/// Keys of queues that Oban has and we do not, and what is there instead.
pub(super) const QUEUE_KEYS_OF_OBAN: [(&str, &str); 3] = [
    ("refresh_interval", "write poll_interval: every look at the table also finds what a lost notice would have told"),
    ("debounce_interval", "write dispatch_cooldown, as Oban for Elixir does"),
    ("local_limit", "write limit: the limit of a queue is that of one instance"),
];

/// When indexes are rebuilt: "off", or an expression with times of its own.
pub(super) fn schedule(text: &str) -> Result<(), Flaw> {
    if text == SCHEDULE_OFF {
        return Ok(());
    }
    super::cron::expression(text)?;
    if text.trim() == "@reboot" {
        return Err(Flaw::bad("\"@reboot\" is due at no time of the clock").suggest("write \"@midnight\""));
    }
    Ok(())
}

/// Any text but none.
pub(super) fn not_empty(text: &str) -> Result<(), Flaw> {
    if text.is_empty() { Err(Flaw::bad("is empty")) } else { Ok(()) }
}

/// Name of a queue, provider, model, task type or capability.
pub(super) fn name(text: &str) -> Result<(), Flaw> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let length = text.chars().count();
    if !text.is_empty() && length <= NAME_CHARS_MAX && text.chars().all(allowed) {
        return Ok(());
    }
    let flaw = Flaw::bad(format!(
        "\"{}\" is not a name, expected 1 to {NAME_CHARS_MAX} lower-case letters, digits and underscores",
        shown(text)
    ));
    let repaired: String =
        text.to_lowercase().chars().map(|c| if matches!(c, '-' | ' ' | '.') { '_' } else { c }).collect();
    let repairable = length <= NAME_CHARS_MAX && !repaired.is_empty() && repaired.chars().all(allowed);
    Err(flaw.maybe_suggest(repairable.then(|| format!("write {}", shown(&repaired)))))
}

/// Name of a route, which is none of the complexities: they are routes already.
pub(super) fn route(text: &str) -> Result<(), Flaw> {
    name(text)?;
    if ["simple", "medium", "complex"].contains(&text) {
        let message = format!("\"{text}\" is a complexity, and each of these is a route already");
        return Err(Flaw::bad(message).suggest(format!(
            "set its reference in [routing.models] and further models in [routing.candidates], or choose another name than {text}"
        )));
    }
    Ok(())
}

/// Id of an instance: visible ASCII characters without a space.
pub(super) fn instance_id(text: &str) -> Result<(), Flaw> {
    if (1..=INSTANCE_ID_CHARS_MAX).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic()) {
        return Ok(());
    }
    Err(Flaw::bad(format!(
        "\"{}\" is not an instance id, expected 1 to {INSTANCE_ID_CHARS_MAX} visible ASCII characters without spaces",
        shown(text)
    ))
    .suggest("write \"auto\" for host name and process id"))
}

/// Id of an instance as the name of a table: what TOML and dotted keys take without quotes.
pub(super) fn instance_key(text: &str) -> Result<(), Flaw> {
    instance_id(text).map_err(|flaw| Flaw { suggestion: None, ..flaw })?;
    if text == "auto" {
        return Err(Flaw::bad("\"auto\" is no id, so no instance has it")
            .suggest("give the instance an id, with --instance-id, INSTANCE_ID or [instance], and name that"));
    }
    if text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        return Ok(());
    }
    let message =
        format!("\"{}\" cannot be named here: its characters are not all letters, digits, _ or -", shown(text));
    Err(Flaw::bad(message).suggest("give the instance such an id, with --instance-id, INSTANCE_ID or [instance]"))
}

/// Name of an Oban: letters, digits, dots and underscores, as Elixir prints module names.
pub(super) fn oban_name(text: &str) -> Result<(), Flaw> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    if (1..=NAME_CHARS_MAX).contains(&text.len()) && text.chars().all(allowed) {
        return Ok(());
    }
    let message = format!(
        "\"{}\" is not the name of an Oban, expected 1 to {NAME_CHARS_MAX} letters, digits, dots and underscores",
        shown(text)
    );
    Err(Flaw::bad(message).suggest("write \"Oban\", or the name that the Oban nodes on this database have"))
}

/// An index of `oban_jobs`, by Oban's names.
pub(super) fn index_name(text: &str) -> Result<(), Flaw> {
    if text.len() <= IDENTIFIER_BYTES_MAX && text.starts_with("oban_jobs") && !text.contains('\0') {
        return Ok(());
    }
    Err(Flaw::bad(format!("\"{}\" is not the name of an index of oban_jobs", shown(text)))
        .suggest("write names such as \"oban_jobs_args_index\""))
}

/// A PostgreSQL schema that never needs quotes.
pub(super) fn schema(text: &str) -> Result<(), Flaw> {
    let starts = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !(starts && text.len() <= SCHEMA_CHARS_MAX && text.chars().all(allowed)) {
        let message = format!(
            "\"{}\" is not a schema name, expected at most {SCHEMA_CHARS_MAX} lower-case letters, digits and \
             underscores, not starting with a digit",
            shown(text)
        );
        return Err(Flaw::bad(message));
    }
    if text.starts_with("pg_") || text == "information_schema" {
        return Err(Flaw::bad(format!("\"{text}\" is a schema of PostgreSQL itself")).suggest("choose another name"));
    }
    Ok(())
}

/// Root of an HTTP API. A password in it is a literal secret; its text is then not repeated.
pub(super) fn base_url(text: &str) -> Result<(), Flaw> {
    let example = "write the root of the API, for example \"https://api.openai.com/v1\"";
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return Err(Flaw::bad(format!("\"{}\" is not a URL of http or https", shown(text))).suggest(example));
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        let message = "the URL carries a user or password, which is a secret and not repeated here";
        return Err(Flaw::new(Fault::LiteralSecret, message).suggest("remove it and name the key in api_key"));
    }
    if text.contains(['?', '#']) {
        return Err(Flaw::bad("the URL has a query or fragment, which paths cannot be added to").suggest(example));
    }
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            let valid = address.parse::<std::net::Ipv6Addr>().is_ok();
            (if valid { address } else { "" }, port.strip_prefix(':').or((!port.is_empty()).then_some("")))
        }
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let valid_host = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control());
    let valid_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    if valid_host && valid_port && !text.contains(char::is_whitespace) {
        return Ok(());
    }
    Err(Flaw::bad(format!("\"{}\" is not a URL: its host or port is missing or wrong", shown(text))).suggest(example))
}

/// Levels of a log filter; also written in capitals, and as 0 to 5.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Directives as of `RUST_LOG`. A word alone must be a level: of a target that nobody has, such as "warning", there is
/// never a line, and of nothing else either. Only the binary installs a subscriber, so only there all else is checked.
pub(super) fn log_filter(text: &str) -> Result<(), Flaw> {
    not_empty(text)?;
    let is_level = |word: &str| {
        LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word))
            || word.parse().is_ok_and(|n: usize| n < LEVELS.len())
    };
    let mut words = text.split(',').map(str::trim).filter(|word| !word.is_empty() && !word.contains(['=', '[']));
    if let Some(word) = words.find(|word| !is_level(word)) {
        let flaw = Flaw::bad(format!(
            "\"{}\" in \"{}\" is neither a level ({}) nor TARGET=LEVEL",
            shown(word),
            shown(text),
            LEVELS.join(", ")
        ));
        let begun = LEVELS.into_iter().find(|level| word.to_lowercase().starts_with(level));
        return Err(match begun.or_else(|| super::suggest::nearest(word, LEVELS)) {
            Some(level) => flaw.suggest(format!("did you mean \"{level}\"?")),
            None => flaw.suggest(format!("for all lines of that target write \"info,{}=trace\"", shown(word))),
        });
    }
    #[cfg(feature = "cli")]
    if let Err(error) = tracing_subscriber::EnvFilter::builder().parse(text) {
        return Err(Flaw::bad(format!("\"{}\" is not a log filter: {}", shown(text), shown(&error.to_string())))
            .suggest("write levels by target, for example \"info,sqlx=warn\""));
    }
    Ok(())
}

/// A plugin of a carried-over Oban configuration.
pub(super) fn plugin(text: &str) -> Result<(), Flaw> {
    if text == "repeater" {
        return Ok(());
    }
    let flaw = Flaw::bad(format!("there is no plugin \"{}\", only \"repeater\" is accepted", shown(text)));
    let name = text.rsplit('.').next().unwrap_or_default().to_lowercase();
    Err(match PLUGINS.iter().find(|(plugin, _)| *plugin == name) {
        Some((_, instead)) => flaw.suggest(*instead),
        None if super::suggest::nearest(&name, ["repeater"]).is_some() => flaw.suggest("write \"repeater\""),
        None => flaw.suggest("remove the entry; plugins are not a setting of this program"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_roots_without_secrets() {
        for good in ["https://api.openai.com/v1", "http://127.0.0.1:8080", "http://[::1]:8080/v1/", "http://llm.local"]
        {
            assert_eq!(base_url(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "api.openai.com",
            "ftp://x",
            "https://",
            "https:///v1",
            "http://a b",
            "http://a:99999",
            "http://a:",
            "http://[::1",
            "http://[nothex]",
            "http://[::1]8080",
            "http://a/?key=1",
            "http://a/#x",
        ] {
            assert_eq!(base_url(bad).unwrap_err().fault, Fault::BadValue, "{bad}");
        }
        let flaw = base_url("https://me:hunter2@host/v1").unwrap_err();
        assert_eq!(flaw.fault, Fault::LiteralSecret);
        assert!(!flaw.message.contains("hunter2"));
    }

    #[test]
    fn schemas_need_no_quotes_and_are_not_the_servers_own() {
        for good in ["public", "_x", "oban_2", &"a".repeat(30)] {
            assert_eq!(schema(good), Ok(()), "{good}");
        }
        for bad in ["", "Public", "2x", "a-b", "a\"b", "pg_catalog", "information_schema", &"a".repeat(31)] {
            assert!(schema(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_and_ids_have_their_lengths() {
        assert_eq!(name(&"q".repeat(127)), Ok(()));
        assert!(name(&"q".repeat(128)).is_err());
        assert_eq!(name("Pattern-Mining").unwrap_err().suggestion.as_deref(), Some("write pattern_mining"));
        assert_eq!(instance_id("host-1:42"), Ok(()));
        for bad in ["", "a b", "a\u{200b}b", "tab\t", &"i".repeat(64)] {
            assert!(instance_id(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn plugins_are_told_what_does_their_work() {
        assert_eq!(plugin("repeater"), Ok(()));
        let advice = |name| plugin(name).unwrap_err().suggestion.unwrap();
        assert!(advice("cron").contains("[cron.NAME]"));
        assert!(advice("Oban.Plugins.Lifeline").contains("[services.lifeline]"));
        assert_eq!(advice("Oban.Plugins.Repeater"), "write \"repeater\"");
        assert!(advice("anything").contains("remove the entry"));
    }
}
