//! Sets up log output: text for people on a terminal, one JSON object a line elsewhere, always on stderr.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Starts logging with the directives `filter`. A second call in one process changes nothing.
///
/// # Errors
/// What is wrong with the directives.
pub fn init(log: &Log, filter: &str) -> Result<(), String> {
    let filter: EnvFilter =
        filter.parse().map_err(|error| format!("log filter {filter:?} is not understood: {error}"))?;
    let terminal = io::stderr().is_terminal();
    let text = match log.format {
        LogFormat::Text => true,
        LogFormat::Json => false,
        LogFormat::Auto => terminal,
    };
    let colour = terminal && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colour);
    // An error means that somebody, such as a program that embeds this crate, has set up logging already.
    drop(if text {
        builder.try_init()
    } else {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    });
    Ok(())
}
