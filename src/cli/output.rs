//! The only place that prints. Data goes to stdout, everything else to stderr.
//!
//! A closed pipe (`singularity job list | head`) ends the output quietly; a full disk is an error at the end. Money,
//! durations and times have one form each.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use chrono::{DateTime, Utc};
use rustix::termios::tcgetwinsize;
use serde::Serialize;

use super::codes;
use super::exit::{Exit, Failure};
use super::table;

/// The first error of standard output.
static UNWRITTEN: OnceLock<String> = OnceLock::new();

/// Prints one line of data for a person, as [`harmless`] text.
pub(super) fn line(text: impl AsRef<str>) {
    raw_line(&harmless(text.as_ref()));
}

fn raw_line(text: &str) {
    written(writeln!(io::stdout().lock(), "{text}"));
}

/// Prints one line for the person, apart from the data, as [`harmless`] text.
pub(super) fn note(text: impl AsRef<str>) {
    // There is nowhere left to say what is wrong with this stream.
    drop(writeln!(io::stderr().lock(), "{}", harmless(text.as_ref())));
}

/// The text with what a terminal would obey written out as `\u{1b}`: control characters other than tab and line feed,
/// and those that turn the direction of writing. Answers of models and arguments of jobs are written by strangers.
fn harmless(text: &str) -> Cow<'_, str> {
    let obeyed = |c: char| {
        (c.is_control() && !matches!(c, '\t' | '\n')) || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(obeyed) {
        return Cow::Borrowed(text);
    }
    let mut written = String::with_capacity(text.len());
    for c in text.chars() {
        if obeyed(c) { written.extend(c.escape_unicode()) } else { written.push(c) }
    }
    Cow::Owned(written)
}

/// Prints one JSON document.
///
/// # Errors
/// The value cannot be written as JSON.
pub(super) fn json(value: &impl Serialize) -> Result<(), Failure> {
    raw_line(&to_json(value)?);
    Ok(())
}

fn to_json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::new(Exit::Failed, codes::NOT_JSON, error))
}

/// Prints one JSON document: `schema`, a stable name with a version, and the fields of `body` beside it.
///
/// # Errors
/// The value cannot be written as JSON.
pub(super) fn document(schema: &'static str, body: &impl Serialize) -> Result<(), Failure> {
    raw_line(&document_text(schema, body)?);
    Ok(())
}

/// The line of [`document`].
///
/// # Errors
/// The value cannot be written as JSON.
pub(super) fn document_text(schema: &'static str, body: &impl Serialize) -> Result<String, Failure> {
    #[derive(Serialize)]
    struct Document<'a, T> {
        schema: &'static str,
        #[serde(flatten)]
        body: &'a T,
    }
    to_json(&Document { schema, body })
}

/// Prints a text of this program's own as it is, for another program.
pub(super) fn script(text: &str) {
    written(io::stdout().lock().write_all(text.as_bytes()));
}

/// Prints names and values, one pair a line; the values begin in one column, and so do their further lines.
pub(super) fn pairs(pairs: &[(String, String)]) {
    pair_lines(pairs).iter().for_each(line);
}

/// The lines of [`pairs`].
pub(super) fn pair_lines(pairs: &[(String, String)]) -> Vec<String> {
    let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let mut texts = Vec::with_capacity(pairs.len());
    for (name, value) in pairs {
        let mut lines = value.lines();
        texts.push(format!("{name:width$}  {}", lines.next().unwrap_or_default()).trim_end().to_owned());
        texts.extend(lines.map(|more| format!("{:width$}  {more}", "").trim_end().to_owned()));
    }
    texts
}

/// Whether the data goes to a terminal.
pub(super) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Prints a text of any number of lines; tells whether anybody still reads.
pub(super) fn is_read(text: &str) -> bool {
    let mut stdout = io::stdout().lock();
    written(writeln!(stdout, "{text}").and_then(|()| stdout.flush()))
}

/// As [`is_read`], of [`harmless`] text, on a terminal in place of what was there.
pub(super) fn repaint(text: &str) -> bool {
    let text = harmless(text);
    // Clear, then the cursor to the first line.
    if is_terminal() { is_read(&format!("\x1b[2J\x1b[H{text}")) } else { is_read(&text) }
}

/// Prints a table with a head line; numbers and all else are given as text. On a terminal no line is wider than it.
pub(super) fn table(head: &[&str], rows: Vec<Vec<String>>) {
    let cell = |text: String| harmless(&text).replace('\t', " ");
    let rows: Vec<Vec<String>> = rows.into_iter().map(|row| row.into_iter().map(cell).collect()).collect();
    table::lines(head, &rows, columns()).iter().for_each(line);
}

/// How wide a line may be: what `COLUMNS` says, as programs such as watch(1) set it that pass lines on, else the width
/// of the terminal; as wide as it comes where the data goes elsewhere.
fn columns() -> Option<usize> {
    let told = std::env::var("COLUMNS").ok().and_then(|text| text.parse::<usize>().ok());
    let terminal = || is_terminal().then(|| tcgetwinsize(io::stdout()).ok()).flatten().map(|size| size.ws_col.into());
    told.or_else(terminal).filter(|columns| *columns > 0)
}

/// Prints why a command failed.
pub(super) fn failure(failure: &Failure) {
    if let Some(message) = &failure.message {
        note(message);
    }
    if let Some(hint) = &failure.hint {
        note(format!("try: {hint}"));
    }
}

/// Dollars with six decimals; unknown is `?`.
pub(super) fn dollars(nanousd: Option<i64>) -> String {
    let Some(nanousd) = nanousd else { return "?".into() };
    // Rounded half away from zero to the sixth decimal, in integers.
    let micro = (nanousd.unsigned_abs() + 500) / 1_000;
    let sign = if nanousd < 0 { "-" } else { "" };
    format!("{sign}${}.{:06}", micro / 1_000_000, micro % 1_000_000)
}

/// Milliseconds for people: `850ms`, `12.3s`, `5m 10s`, `2h 3m`, `4d 2h`.
pub(super) fn millis(ms: i64) -> String {
    let ms = ms.max(0);
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{}m {}s", ms / 60_000, ms % 60_000 / 1_000),
        3_600_000..86_400_000 => format!("{}h {}m", ms / 3_600_000, ms % 3_600_000 / 60_000),
        _ => format!("{}d {}h", ms / 86_400_000, ms % 86_400_000 / 3_600_000),
    }
}

/// A moment relative to `now`: `12.3s ago`, `in 5m 0s`.
pub(super) fn relative(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let ms = (now - at).num_milliseconds();
    if ms >= 0 { format!("{} ago", millis(ms)) } else { format!("in {}", millis(-ms)) }
}

/// The first characters of a text on one line.
pub(super) fn shortened(text: &str, chars_max: usize) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().count() <= chars_max {
        return line;
    }
    let mut cut: String = line.chars().take(chars_max.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// Keeps the first error of standard output for the end; a reader that has gone away is no error of ours.
fn written(result: io::Result<()>) -> bool {
    match result {
        Ok(()) => true,
        Err(error) => {
            if error.kind() != io::ErrorKind::BrokenPipe {
                UNWRITTEN.get_or_init(|| error.to_string());
            }
            false
        }
    }
}

/// What could not be written, if anything: to be asked at the end of the program.
pub(super) fn unwritten() -> Option<Failure> {
    written(io::stdout().flush());
    let error = UNWRITTEN.get()?;
    let text = format!("the output could not be written as a whole: {error}");
    Some(Failure::new(Exit::Failed, codes::UNWRITTEN, text).hint("make room there, or write it elsewhere"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_has_six_decimals_and_unknown_is_not_zero() {
        assert_eq!(dollars(Some(0)), "$0.000000");
        assert_eq!(dollars(Some(1_234_567_890)), "$1.234568");
        assert_eq!(dollars(Some(499)), "$0.000000");
        assert_eq!(dollars(Some(500)), "$0.000001");
        assert_eq!(dollars(None), "?");
    }

    #[test]
    fn nothing_that_a_stranger_wrote_is_obeyed_by_a_terminal() {
        assert!(matches!(harmless("täglich\t1\n2"), Cow::Borrowed(_)));
        assert_eq!(harmless("a\u{1b}[2J\u{7}b\rc\u{9b}1m"), "a\\u{1b}[2J\\u{7}b\\u{d}c\\u{9b}1m");
        assert_eq!(harmless("\u{202e}txt.exe"), "\\u{202e}txt.exe");
    }

    #[test]
    fn durations_have_at_most_two_units() {
        let cases = [
            (0, "0ms"),
            (999, "999ms"),
            (12_345, "12.3s"),
            (310_000, "5m 10s"),
            (7_380_000, "2h 3m"),
            (353_000_000, "4d 2h"),
        ];
        for (ms, text) in cases {
            assert_eq!(millis(ms), text);
        }
    }

    #[test]
    fn long_texts_are_cut_to_one_line() {
        assert_eq!(shortened("a\nb", 10), "a b");
        assert_eq!(shortened("abcdef", 4), "abc…");
    }
}
