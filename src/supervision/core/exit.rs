//! Why an actor ended.
//!
//! OTP tells reasons apart by term shape; here each kind is a variant, so that a panic, an error, a kill and a
//! cancelled task are never confused. Clean reasons are OTP's `normal`, `shutdown` and `{shutdown, Term}`.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest text kept of an error or a panic message; the rest is cut off with a mark.
pub const ERROR_TEXT_BYTES_MAX: usize = 8 * 1024;

/// Most causes kept below an error.
const CHAIN_MAX: usize = 16;

/// Why an actor ended. Decides, together with [`Restart`](super::Restart), whether it is started again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
pub enum ExitReason {
    /// It was done.
    Normal,
    /// Its supervisor, or it itself, ordered an orderly end.
    Shutdown,
    /// An orderly end with a note, OTP's `{shutdown, Term}`.
    ShutdownWith(String),
    /// It was killed: no cleanup ran.
    Killed,
    /// Its task was cancelled from outside, for example because the runtime went down.
    Aborted,
    /// A callback returned an error.
    Error(Box<ErrorInfo>),
    /// A callback panicked.
    Panic(Box<CrashInfo>),
    /// It never ran: its start failed.
    StartFailed(String),
}

/// An error without its type: text, causes and, when it had one, its code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorInfo {
    /// Stable code such as `E0203`, if the error had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Cow<'static, str>>,
    /// What to try, if the error said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The error's own text.
    pub text: String,
    /// Texts of its causes, nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<String>,
}

/// What is known about a panic, OTP's crash report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashInfo {
    /// Where in the tree it happened.
    pub path: String,
    /// In which life of that child.
    pub incarnation: u64,
    /// Short type name of the actor.
    pub actor: String,
    /// What it was doing: a message kind, or `init`, `stopped`, `start`.
    pub doing: String,
    /// The panic's text.
    pub text: String,
    /// `file:line:column`, if the panic hook saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Present when `RUST_BACKTRACE` asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backtrace: Option<String>,
    /// Messages that waited and are lost.
    pub mailbox_depth: usize,
    /// Paths of the supervisors above, nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ancestors: Vec<String>,
    /// How long this incarnation lived.
    pub lived_ms: u64,
}

impl ExitReason {
    /// Whether a transient child stays down after it: `Normal`, `Shutdown` and `ShutdownWith`. Killed and aborted are
    /// abnormal.
    pub fn is_clean(&self) -> bool {
        matches!(self, Self::Normal | Self::Shutdown | Self::ShutdownWith(_))
    }

    /// Short stable name of the kind: `normal`, `shutdown`, `killed`, `aborted`, `error`, `panic`, `start_failed`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Shutdown | Self::ShutdownWith(_) => "shutdown",
            Self::Killed => "killed",
            Self::Aborted => "aborted",
            Self::Error(_) => "error",
            Self::Panic(_) => "panic",
            Self::StartFailed(_) => "start_failed",
        }
    }

    /// What called what when it went wrong, known for panics where `RUST_BACKTRACE` asks for it.
    pub fn backtrace(&self) -> Option<&str> {
        match self {
            Self::Panic(crash) => crash.backtrace.as_deref(),
            _ => None,
        }
    }

    /// Where in the source it went wrong, known for panics.
    pub fn location(&self) -> Option<&str> {
        match self {
            Self::Panic(crash) => crash.location.as_deref(),
            _ => None,
        }
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("normal"),
            Self::Shutdown => f.write_str("shutdown"),
            Self::ShutdownWith(note) => write!(f, "shutdown: {note}"),
            Self::Killed => f.write_str("killed"),
            Self::Aborted => f.write_str("aborted"),
            Self::Error(error) => write!(f, "error: {error}"),
            Self::Panic(crash) => write!(f, "panic in {}: {}", crash.doing, crash.text),
            Self::StartFailed(text) => write!(f, "start failed: {text}"),
        }
    }
}

impl ErrorInfo {
    /// Text and causes of `error`, cut to [`ERROR_TEXT_BYTES_MAX`] each.
    pub fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut chain = Vec::new();
        let mut next = error.source();
        while let Some(cause) = next
            && chain.len() < CHAIN_MAX
        {
            chain.push(truncate(cause.to_string()));
            next = cause.source();
        }
        Self { text: truncate(error.to_string()), chain, ..Self::default() }
    }

    /// An error that is only a text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: truncate(text.into()), ..Self::default() }
    }
}

impl fmt::Display for ErrorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        // Many errors already repeat their cause in their own text.
        let mut said = self.text.as_str();
        for cause in &self.chain {
            if !said.contains(cause.as_str()) {
                write!(f, ": {cause}")?;
            }
            said = cause;
        }
        Ok(())
    }
}

/// Cuts `text` at a character boundary so that it stays within [`ERROR_TEXT_BYTES_MAX`].
pub(crate) fn truncate(mut text: String) -> String {
    const MARK: &str = "… (cut)";
    if text.len() > ERROR_TEXT_BYTES_MAX {
        let mut end = ERROR_TEXT_BYTES_MAX - MARK.len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(MARK);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_normal_and_the_shutdowns_are_clean() {
        let clean = [ExitReason::Normal, ExitReason::Shutdown, ExitReason::ShutdownWith("x".into())];
        let abnormal = [
            ExitReason::Killed,
            ExitReason::Aborted,
            ExitReason::Error(Box::new(ErrorInfo::text("x"))),
            ExitReason::Panic(Box::default()),
            ExitReason::StartFailed("x".into()),
        ];
        assert!(clean.iter().all(ExitReason::is_clean));
        assert!(!abnormal.iter().any(ExitReason::is_clean));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let cut = truncate("é".repeat(ERROR_TEXT_BYTES_MAX));
        assert!(cut.len() <= ERROR_TEXT_BYTES_MAX);
        assert!(cut.ends_with("(cut)"));
    }
}
