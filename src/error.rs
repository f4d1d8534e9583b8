//! Coded errors: what every error of this crate can tell besides its text.
//!
//! Each module has its own error enum; this trait is what the command line, the logs and stored failures read from all
//! of them. Ranges: `E01xx` configuration and cron expressions, `E02xx` PostgreSQL and the embedded server, `E03xx`
//! migrations, `E04xx` queue and testing, `E05xx` models, `E06xx` workflows, `E07xx` instance, `E08xx` command line,
//! `E09xx` supervision, `E11xx` cloud.

/// An error with a stable code and, where there is one, a next step.
///
/// The `Display` text names the thing, the value and what is allowed; it does not repeat the code.
pub trait Coded: std::error::Error {
    /// Stable code such as `E0203`; never reused for another meaning.
    fn code(&self) -> &'static str;

    /// What to try, as one imperative sentence without a leading "try:".
    fn hint(&self) -> Option<String> {
        None
    }
}
