//! Workers: the code that performs jobs, and the registry that knows them by name.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::attempt::Attempt;
use super::context::JobContext;
use super::error::QueueError;
use super::job::Job;
use super::job_error::JobError;
use super::new_job::NewJob;
use super::options::WorkerOptions;
use super::outcome::Outcome;
use super::young::Young;
use crate::error::Coded;
use crate::supervision::ChildSpec;

/// Performs one kind of job.
///
/// Execution is at least once: an instance that dies in the middle leaves a job that another one performs again, so
/// effects outside the database need a key of their own.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use singularity::queue::{JobContext, JobError, Outcome, Worker, WorkerOptions};
///
/// struct Greet;
///
/// #[derive(Serialize, Deserialize)]
/// struct Guest {
///     name: String,
/// }
///
/// impl Worker for Greet {
///     type Args = Guest;
///     const NAME: &'static str = "greet";
///     const OPTIONS: WorkerOptions = WorkerOptions { max_attempts: 3, ..WorkerOptions::DEFAULT };
///
///     async fn perform(&self, guest: Guest, _context: JobContext) -> Result<Outcome, JobError> {
///         if guest.name.is_empty() {
///             return Ok(Outcome::Cancelled("nobody to greet".into()));
///         }
///         Ok(Outcome::Completed)
///     }
/// }
///
/// let job = Greet::new_job(&Guest { name: "Joe".into() })?.queue("welcome");
/// assert_eq!((job.worker.as_str(), job.max_attempts), ("greet", 3));
/// # Ok::<(), singularity::queue::QueueError>(())
/// ```
pub trait Worker: Send + Sync + 'static {
    /// Arguments of its jobs. [`serde_json::Value`] takes them as they are; [`JobContext::job`] has them too.
    ///
    /// Arguments of another form are a failure that names what is wrong: the job is tried again, as in Oban, because in
    /// a fleet that is being updated another instance may know the form.
    type Args: DeserializeOwned + Send;

    /// Name in the `worker` column.
    const NAME: &'static str;

    /// Other names whose jobs it performs: what it was called before, or the module of another runtime
    /// (`MyApp.Greet`, without `Elixir.`, as Oban stores it).
    const ALIASES: &'static [&'static str] = &[];

    /// What its jobs have unless one says otherwise.
    const OPTIONS: WorkerOptions = WorkerOptions::DEFAULT;

    /// A job for it, with its options. The setters of [`NewJob`] change them for this one.
    ///
    /// # Errors
    /// [`QueueError::Args`] for arguments that have no JSON form.
    fn new_job(args: &Self::Args) -> Result<NewJob, QueueError>
    where
        Self: Sized,
        Self::Args: Serialize,
    {
        let args = serde_json::to_value(args).map_err(|error| wrong_args(Self::NAME, &error))?;
        Ok(Self::OPTIONS.applied(NewJob::new(Self::NAME, args)))
    }

    /// Limit of one attempt at `job`; that of the options unless overridden.
    fn timeout(&self, _job: &Job) -> Option<Duration> {
        Self::OPTIONS.timeout
    }

    /// Wait before the next attempt after one that failed and named none; that of the options unless overridden, and
    /// with `None` Oban's formula. Asked after errors, panics and time-outs alike, with the text that is recorded.
    fn backoff(&self, _job: &Job, _error: &str) -> Option<Duration> {
        Self::OPTIONS.backoff
    }

    /// Performs one attempt on the job runtime. Returning early is never needed: when the job is cancelled or the
    /// instance stops, the context's token fires first, and a moment later the future is dropped at its next await.
    /// Code that blocks its thread belongs into [`JobContext::run_blocking`].
    ///
    /// # Errors
    /// Any error is a failure with its text; see [`JobError`].
    fn perform(&self, args: Self::Args, context: JobContext) -> impl Future<Output = Result<Outcome, JobError>> + Send;
}

/// An attempt that begins.
#[derive(Debug)]
pub enum Execution {
    /// As the child of its queue's dynamic supervisor that executes it. Temporary: the database decides whether there
    /// is another attempt.
    Executor(ChildSpec),
    /// With code that runs already; it gets an executor when it is not done soon.
    Young(Young),
}

/// Anything that can execute an attempt.
pub trait Executable: Send + Sync + 'static {
    /// Name in the `worker` column.
    fn name(&self) -> &str;

    /// Other names whose jobs it executes; none unless overridden.
    fn aliases(&self) -> &[&str] {
        &[]
    }

    /// `job`, which names this worker, with what its jobs have in common; nothing unless overridden.
    fn template(&self, job: NewJob) -> NewJob {
        job
    }

    /// Begins to execute `attempt`.
    fn begin(&self, attempt: Attempt) -> Execution;
}

/// The workers that an instance knows. Built once, then shared.
#[derive(Clone, Default)]
pub struct Workers {
    known: BTreeMap<String, Arc<dyn Executable>>,
    /// Apart, so that a worker's own name always wins over another one's alias.
    aliases: BTreeMap<String, Arc<dyn Executable>>,
}

impl Workers {
    /// Adds a worker; one of the same name is replaced.
    pub fn register(&mut self, worker: impl Worker) {
        self.register_executable(Performs(Arc::new(worker)));
    }

    /// Adds something that executes attempts in its own way.
    pub fn register_executable(&mut self, executable: impl Executable) {
        let executable: Arc<dyn Executable> = Arc::new(executable);
        for alias in executable.aliases() {
            self.aliases.insert((*alias).to_owned(), Arc::clone(&executable));
        }
        self.known.insert(executable.name().to_owned(), executable);
    }

    /// Adds all of `others`; they win over those of the same name.
    pub fn extend(&mut self, others: Self) {
        self.known.extend(others.known);
        self.aliases.extend(others.aliases);
    }

    /// Names and aliases in alphabetical order: the workers whose jobs are claimed.
    pub fn names(&self) -> Vec<String> {
        let aliases = self.aliases.keys().filter(|alias| !self.known.contains_key(*alias));
        let mut names: Vec<String> = self.known.keys().chain(aliases).cloned().collect();
        names.sort_unstable();
        names
    }

    /// `job` with what the jobs of its worker have in common; as it is where the worker is not known here.
    pub fn template(&self, job: NewJob) -> NewJob {
        match self.get(&job.worker) {
            Some(worker) => worker.template(job),
            None => job,
        }
    }

    /// The worker of this name, or else the one with this alias.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Executable>> {
        self.known.get(name).or_else(|| self.aliases.get(name))
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// A plain worker as an executable.
struct Performs<W>(Arc<W>);

impl<W: Worker> Executable for Performs<W> {
    fn name(&self) -> &str {
        W::NAME
    }

    fn aliases(&self) -> &[&str] {
        W::ALIASES
    }

    fn template(&self, job: NewJob) -> NewJob {
        W::OPTIONS.applied(job)
    }

    fn begin(&self, attempt: Attempt) -> Execution {
        let timeout = self.0.timeout(attempt.job());
        let (worker, backoff) = (Arc::clone(&self.0), Arc::clone(&self.0));
        attempt.back_off_by(Arc::new(move |job, error| backoff.backoff(job, error)));
        Execution::Young(Young::begin(
            attempt,
            timeout,
            move |context| async move { performed(&*worker, context).await },
        ))
    }
}

/// Runs a worker's code once.
pub(crate) async fn performed<W: Worker>(worker: &W, context: JobContext) -> Outcome {
    match check_args::<W>(&context.job) {
        Ok(args) => worker.perform(args, context).await.unwrap_or_else(JobError::into_outcome),
        Err(error) => Outcome::Failed { error: format!("** (ArgsError) {}: {error}", error.code()), retry_in: None },
    }
}

/// The arguments of a job as its worker takes them; the job keeps them as they are.
pub(crate) fn check_args<W: Worker>(job: &Job) -> Result<W::Args, QueueError> {
    W::Args::deserialize(&job.args).map_err(|error| wrong_args(&job.worker, &error))
}

fn wrong_args(worker: &str, error: &serde_json::Error) -> QueueError {
    QueueError::Args { worker: worker.into(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::queue::{Replace, ReplaceField, Unique};

    struct Old;
    struct New;

    impl Worker for Old {
        type Args = Value;
        const NAME: &'static str = "old";
        const ALIASES: &'static [&'static str] = &["older"];

        async fn perform(&self, _: Value, _: JobContext) -> Result<Outcome, JobError> {
            Ok(Outcome::Completed)
        }
    }

    impl Worker for New {
        type Args = Value;
        const NAME: &'static str = "new";
        const ALIASES: &'static [&'static str] = &["MyApp.Old", "old"];
        const OPTIONS: WorkerOptions = WorkerOptions {
            queue: "mail",
            max_attempts: 3,
            priority: 2,
            tags: &["a", "b"],
            unique: Some(Unique::forever),
            replace: Some(|| Replace::always(&[ReplaceField::Args])),
            ..WorkerOptions::DEFAULT
        };

        async fn perform(&self, _: Value, _: JobContext) -> Result<Outcome, JobError> {
            Ok(Outcome::Completed)
        }
    }

    #[test]
    fn a_worker_is_found_by_its_aliases_where_no_other_has_the_name() {
        let found = |workers: &Workers, name: &str| workers.get(name).map(|worker| worker.name().to_owned());
        let mut workers = Workers::default();
        workers.register(New);
        assert_eq!(workers.names(), ["MyApp.Old", "new", "old"]);
        assert_eq!(found(&workers, "old").as_deref(), Some("new"));
        let mut others = Workers::default();
        others.register(Old);
        workers.extend(others);
        assert_eq!(workers.names(), ["MyApp.Old", "new", "old", "older"]);
        for (name, worker) in [("old", "old"), ("older", "old"), ("new", "new"), ("MyApp.Old", "new")] {
            assert_eq!(found(&workers, name).as_deref(), Some(worker), "{name}");
        }
        assert!(workers.get("newest").is_none());
    }

    #[test]
    fn a_job_has_the_options_of_its_worker_unless_it_says_otherwise() {
        let job = New::new_job(&json!({"id": 1})).unwrap();
        let wanted = NewJob {
            queue: "mail".into(),
            max_attempts: 3,
            priority: 2,
            tags: vec!["a".into(), "b".into()],
            unique: Some(Unique::forever()),
            replace: Replace::always(&[ReplaceField::Args]),
            ..NewJob::new("new", json!({"id": 1}))
        };
        assert_eq!(job, wanted);
        let own = New::new_job(&json!({})).unwrap().queue("other").priority(0).tags(["c"]);
        assert_eq!((own.queue.as_str(), own.priority, own.tags), ("other", 0, vec!["c".to_owned()]));
        assert_eq!(Old::new_job(&json!({})).unwrap(), NewJob::new("old", json!({})));
        let hour = Some(Duration::from_secs(3_600));
        let merged = New::new_job(&json!({})).unwrap().unique_with(|unique| Unique { period: hour, ..unique });
        assert_eq!(merged.unique, Some(Unique { period: hour, ..Unique::forever() }), "the rest is the worker's");
        let fresh = Old::new_job(&json!({})).unwrap().unique_with(|unique| unique);
        assert_eq!(fresh.unique, Some(Unique::default()), "or Oban's");
    }

    #[test]
    fn arguments_without_a_json_form_are_refused() {
        struct Keyed;
        impl Worker for Keyed {
            type Args = BTreeMap<(u8, u8), u8>;
            const NAME: &'static str = "keyed";

            async fn perform(&self, _: Self::Args, _: JobContext) -> Result<Outcome, JobError> {
                Ok(Outcome::Completed)
            }
        }
        let error = Keyed::new_job(&BTreeMap::from([((1, 2), 3)])).unwrap_err();
        assert_eq!((error.code(), error.to_string().contains("keyed")), ("E0441", true), "{error}");
    }
}
