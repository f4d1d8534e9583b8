//! What `?` makes of an error in a worker's code.

use std::any::type_name;
use std::error::Error;
use std::fmt::{self, Display, Write as _};

use super::job_runtime::JobCodeError;
use super::outcome::Outcome;

/// Most causes of an error that are told.
const CAUSES_MAX: usize = 10;

/// Why a worker ends early. Made by `?` from any type of errors, which is a failure, or from an [`Outcome`], which is
/// taken as it is. Errors without a type (`Box<dyn Error + Send + Sync>`, `anyhow::Error`) are none to the compiler,
/// since they do not implement [`Error`]: `.map_err(JobError::boxed)` takes the first, `.map_err(|error|
/// JobError::boxed(error.into()))` the second, `.map_err(JobError::msg)` the text of either.
///
/// The text of a failure is in the form of Oban's: `** (ParseIntError) invalid digit found in string`, with causes on
/// lines of their own.
#[derive(Clone, PartialEq)]
pub struct JobError(Outcome);

impl JobError {
    /// A failure with a message of one's own.
    pub fn msg(message: impl Display) -> Self {
        Self(Outcome::Failed { error: format!("** (JobError) {message}"), retry_in: None })
    }

    /// A failure with the text and the causes of an error whose type is not known.
    #[expect(clippy::needless_pass_by_value, reason = "so that it can stand in `map_err` as it is")]
    pub fn boxed(error: Box<dyn Error + Send + Sync>) -> Self {
        failure("Error", &*error)
    }

    /// What the attempt comes to by it.
    pub fn into_outcome(self) -> Outcome {
        self.0
    }
}

impl fmt::Debug for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<E: Error> From<E> for JobError {
    fn from(error: E) -> Self {
        failure(short_name(type_name::<E>()), &error)
    }
}

fn failure(name: &str, error: &dyn Error) -> JobError {
    let mut text = format!("** ({name}) {error}");
    let mut cause = error.source();
    for _ in 0..CAUSES_MAX {
        let Some(error) = cause else { break };
        // Writing to a String cannot fail.
        let _infallible = write!(text, "\n    caused by: {error}");
        cause = error.source();
    }
    JobError(Outcome::Failed { error: text, retry_in: None })
}

impl From<Outcome> for JobError {
    fn from(outcome: Outcome) -> Self {
        Self(outcome)
    }
}

impl From<JobCodeError> for JobError {
    fn from(error: JobCodeError) -> Self {
        Self(error.into())
    }
}

impl From<JobCodeError> for Outcome {
    /// A panic is a failure like any other, with its message and location.
    fn from(error: JobCodeError) -> Self {
        match error {
            JobCodeError::Panicked(text) => Self::Failed { error: format!("** (Panic) {text}"), retry_in: None },
            JobCodeError::Gone => Self::HandedBack,
        }
    }
}

/// The last name in the path of a type, without its parameters.
fn short_name(name: &str) -> &str {
    let name = name.split('<').next().unwrap_or(name);
    name.rsplit("::").next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(error: &str) -> JobError {
        JobError(Outcome::Failed { error: error.into(), retry_in: None })
    }

    #[test]
    fn an_error_is_a_failure_that_names_its_type_and_its_causes() {
        fn parse(text: &str) -> Result<u8, JobError> {
            Ok(text.parse()?)
        }
        assert_eq!(parse("x").unwrap_err(), failed("** (ParseIntError) invalid digit found in string"));
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read {0}")]
        struct Unread<T: fmt::Debug + Display>(T, #[source] std::num::ParseIntError);
        let error = Unread("it", "x".parse::<u8>().unwrap_err());
        let text = "** (Unread) cannot read it\n    caused by: invalid digit found in string";
        assert_eq!(JobError::from(error), failed(text));
        assert_eq!(JobError::msg("no luck"), failed("** (JobError) no luck"));
        let error: Box<dyn Error + Send + Sync> = Box::new(Unread("it", "x".parse::<u8>().unwrap_err()));
        assert_eq!(JobError::boxed(error), failed(&text.replace("Unread", "Error")));
    }

    #[test]
    fn an_outcome_is_taken_as_it_is() {
        fn give_up() -> Result<(), JobError> {
            Err(Outcome::Cancelled("not wanted".into()))?
        }
        assert_eq!(give_up().unwrap_err().into_outcome(), Outcome::Cancelled("not wanted".into()));
    }

    #[test]
    fn a_panic_of_its_code_is_a_failure_and_a_runtime_that_is_gone_is_none() {
        assert_eq!(
            JobError::from(JobCodeError::Panicked("oh\n    at here".into())),
            failed("** (Panic) oh\n    at here")
        );
        assert_eq!(JobError::from(JobCodeError::Gone).into_outcome(), Outcome::HandedBack);
    }
}
