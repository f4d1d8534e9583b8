//! The typed way to a workflow: each step says what it takes and what it gives, and the compiler checks that they fit.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use singularity::workflow::{StepError, Workflow};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Urls {
//!     urls: Vec<String>,
//! }
//!
//! let workflow = Workflow::<Urls>::builder("count_letters")
//!     .step("split", |given: Urls, _| async move { Ok(given.urls) })
//!     // Once for each element, each with a checkpoint of its own.
//!     .each("count", |url: String, _| async move { Ok::<usize, StepError>(url.len()) })
//!     .step("add", |counts: Vec<usize>, _| async move { Ok(counts.iter().sum::<usize>()) });
//! let definition = workflow.build()?;
//! assert_eq!(definition.steps.len(), 3);
//! # Ok::<(), singularity::workflow::DefinitionError>(())
//! ```
//!
//! Steps that do not fit are no program:
//!
//! ```compile_fail
//! use singularity::workflow::{StepError, Workflow};
//!
//! let workflow = Workflow::<String>::builder("wrong")
//!     .step("length", |text: String, _| async move { Ok::<usize, StepError>(text.len()) })
//!     .step("shout", |text: String, _| async move { Ok::<String, StepError>(text.to_uppercase()) });
//! ```

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::children::{Child, ChildJob, Children, Plan, Wait};
use super::definition::{
    Definition, Effect, FAN_OUT_PARALLEL_DEFAULT, FAN_OUT_PARALLEL_MAX, Step, StepContext, StepError, StepOutput, Work,
};
use super::error::{DefinitionError, INPUT, OUTPUT, discarded, failed};
use super::retry::{STEP_TRIES_MAX, StepRetry};
use crate::queue::NewJob;

/// Limit of one attempt at a workflow that says nothing about it.
pub const WORKFLOW_TIMEOUT_DEFAULT: Duration = Duration::from_secs(600);

/// A workflow in the making that takes `In` and by now comes to `Now`.
///
/// Steps take what the step before gave, the first one the arguments of the job. Settings of a step ([`within`],
/// [`retrying`], [`parallel`]) are given right after it. See the module's example.
///
/// [`within`]: Workflow::within
/// [`retrying`]: Workflow::retrying
/// [`parallel`]: Workflow::parallel
pub struct Workflow<In, Now = In> {
    worker: &'static str,
    name: &'static str,
    version: u32,
    timeout: Duration,
    steps: Vec<Step>,
    /// The first mistake.
    mistake: Option<DefinitionError>,
    types: PhantomData<fn(In) -> Now>,
}

impl<In> Workflow<In> {
    /// A workflow without steps, whose jobs name `worker`.
    pub fn builder(worker: &'static str) -> Self {
        Self {
            worker,
            name: worker,
            version: 1,
            timeout: WORKFLOW_TIMEOUT_DEFAULT,
            steps: Vec::new(),
            mistake: None,
            types: PhantomData,
        }
    }
}

impl<In, Now> Workflow<In, Now> {
    /// Its name in `job_results.workflow_type`; by default that of the worker.
    #[must_use]
    pub fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// Counted up when what a step stores changes its meaning while its name stays; 1 by default. A run that was begun
    /// with another version is finished by that one or not at all: see
    /// [`WorkflowWorker::with_older`](super::WorkflowWorker::with_older).
    #[must_use]
    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// Limit of one attempt, all of its steps together; [`WORKFLOW_TIMEOUT_DEFAULT`] by default. The time in which it
    /// waits for children does not count.
    #[must_use]
    pub fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    fn then<Next>(mut self, step: Step) -> Workflow<In, Next> {
        self.steps.push(step);
        let Self { worker, name, version, timeout, steps, mistake, types: _ } = self;
        Workflow { worker, name, version, timeout, steps, mistake, types: PhantomData }
    }

    /// Sets something of the last step, or remembers why not.
    fn set(mut self, what: &'static str, set: impl FnOnce(&mut Step) -> Result<(), String>) -> Self {
        let done = match self.steps.last_mut() {
            Some(step) => set(step),
            None => Err("there is no step before it".into()),
        };
        if let Err(why) = done {
            self.mistake.get_or_insert(DefinitionError::Misplaced { worker: self.worker, what, why });
        }
        self
    }

    /// Limit of one run of the last step's code, of a fan-out's for one element. Running over it is a failure
    /// (`E0622`).
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        self.set("a time limit", |step| {
            has_code(step)?;
            step.timeout = Some(limit);
            Ok(())
        })
    }

    /// What happens when the last step's code fails, of a fan-out that for one element.
    #[must_use]
    pub fn retrying(mut self, retry: StepRetry) -> Self {
        if !(1..=STEP_TRIES_MAX).contains(&retry.tries) {
            let step = self.steps.last().map_or("", |step| step.name);
            self.mistake.get_or_insert(DefinitionError::tries(self.worker, step, retry.tries));
        }
        self.set("a retry", |step| {
            has_code(step)?;
            step.retry = retry;
            Ok(())
        })
    }

    /// Elements that the last step, a fan-out, works on at the same time; [`FAN_OUT_PARALLEL_DEFAULT`] by default.
    #[must_use]
    pub fn parallel(mut self, count: usize) -> Self {
        if !(1..=FAN_OUT_PARALLEL_MAX).contains(&count) {
            let step = self.steps.last().map_or("", |step| step.name);
            self.mistake.get_or_insert(DefinitionError::parallel(self.worker, step, count));
        }
        self.set("a number of elements at the same time", |step| match &mut step.work {
            Work::Each { parallel, .. } => {
                *parallel = count;
                Ok(())
            }
            Work::Code(_) | Work::Steps(_) | Work::Children(_) => Err(format!("step {} is no fan-out", step.name)),
        })
    }

    /// The definition, for a [`WorkflowWorker`](super::WorkflowWorker).
    ///
    /// # Errors
    /// [`DefinitionError`], the first mistake.
    pub fn build(self) -> Result<Definition, DefinitionError> {
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        check(self.worker, &self.steps)?;
        let Self { worker, name, version, timeout, steps, .. } = self;
        Ok(Definition { worker, name, version, timeout, steps })
    }
}

impl<In, Now: DeserializeOwned + Send + 'static> Workflow<In, Now> {
    /// Adds a step that only computes.
    #[must_use]
    pub fn step<Next, F, Fut>(self, name: &'static str, code: F) -> Workflow<In, Next>
    where
        F: Fn(Now, StepContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Next, StepError>> + Send + 'static,
        Next: Serialize + Send + 'static,
    {
        self.then(Step::new(name, Effect::Pure, typed(name, code)))
    }

    /// Adds a step that reaches out of the database: a call, a file, a mail. All before it is stored before it begins,
    /// and what it comes to is stored at once.
    #[must_use]
    pub fn call<Next, F, Fut>(self, name: &'static str, code: F) -> Workflow<In, Next>
    where
        F: Fn(Now, StepContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Next, StepError>> + Send + 'static,
        Next: Serialize + Send + 'static,
    {
        self.then(Step::new(name, Effect::External, typed(name, code)))
    }

    /// Adds a step that runs the steps of another workflow in the same run, with a checkpoint after each.
    #[must_use]
    pub fn sub<Next>(self, name: &'static str, workflow: Workflow<Now, Next>) -> Workflow<In, Next> {
        let (this, work) = self.nested(workflow);
        this.then(Step::new(name, Effect::External, work))
    }

    /// Adds a step that enqueues jobs and waits for them without holding a slot. The plan is asked first without
    /// children, and again when those that it waits for have ended; see [`Plan`]. It only says what is to be done: what
    /// reaches out stands in steps before or in the children.
    #[must_use]
    pub fn children<Next, F, Fut>(self, name: &'static str, plan: F) -> Workflow<In, Next>
    where
        F: Fn(Now, Children, StepContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Plan<Next>, StepError>> + Send + 'static,
        Next: Serialize + Send + 'static,
    {
        let plan = Arc::new(plan);
        let work = Work::Children(Arc::new(move |context, children| {
            let plan = Arc::clone(&plan);
            Box::pin(async move {
                Ok(match plan(input(name, &context)?, children, context).await? {
                    Plan::Done(value) => Plan::Done(output(name, &value)?),
                    Plan::Wait { enqueue, until } => Plan::Wait { enqueue, until },
                })
            })
        }));
        self.then(Step::new(name, Effect::External, work))
    }

    /// Adds a step that enqueues one job for each that `jobs` makes and waits for all of them. Gives the children in
    /// the order of the jobs, whatever they came to: [`Child::output`] reads what one did. At most
    /// [`CHILDREN_MAX`](super::CHILDREN_MAX), and none of them unique: else the job is discarded (`E0626`).
    /// A worker with `OPTIONS.unique` makes unique ones, unless `unique: None` is set on them.
    #[must_use]
    pub fn jobs<F>(self, name: &'static str, jobs: F) -> Workflow<In, Vec<Child>>
    where
        F: Fn(Now) -> Result<Vec<NewJob>, StepError> + Send + Sync + 'static,
    {
        self.children(name, move |given, children, _| {
            let plan = plan_of_jobs(&children, || jobs(given));
            async move { plan }
        })
    }

    /// Takes over another workflow's steps, and its mistake if it has one.
    fn nested<From, Next>(mut self, workflow: Workflow<From, Next>) -> (Self, Work) {
        let mistake = workflow.mistake.or_else(|| check(workflow.worker, &workflow.steps).err());
        if let Some(mistake) = mistake {
            self.mistake.get_or_insert(mistake);
        }
        (self, Work::Steps(workflow.steps.into()))
    }
}

impl<In, Item: DeserializeOwned + Send + 'static> Workflow<In, Vec<Item>> {
    /// Adds a step that runs `code` for each element of the list that it takes, a few at the same time, each with a
    /// checkpoint of its own, and gives the list of what they came to in the same order. Lists have at most
    /// [`FAN_OUT_ITEMS_MAX`](super::FAN_OUT_ITEMS_MAX) elements, and what they come to is a result as any: together at
    /// most [`STEP_OUTPUT_BYTES_MAX`](super::STEP_OUTPUT_BYTES_MAX). When it becomes larger no other element is begun,
    /// and the job is discarded (`E0623`); what was done stays in the run's parts.
    ///
    /// When one fails, those that are under way are finished, no other is begun, and the step fails; another attempt
    /// runs those that are not done.
    #[must_use]
    pub fn each<Next, F, Fut>(self, name: &'static str, code: F) -> Workflow<In, Vec<Next>>
    where
        F: Fn(Item, StepContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Next, StepError>> + Send + 'static,
        Next: Serialize + Send + 'static,
    {
        self.then(fan_out(name, typed(name, code)))
    }

    /// As [`Workflow::each`], with the steps of another workflow for each element.
    #[must_use]
    pub fn each_sub<Next>(self, name: &'static str, workflow: Workflow<Item, Next>) -> Workflow<In, Vec<Next>> {
        let (this, work) = self.nested(workflow);
        this.then(fan_out(name, work))
    }
}

fn fan_out(name: &'static str, work: Work) -> Step {
    Step::new(name, Effect::External, Work::Each { work: Box::new(work), parallel: FAN_OUT_PARALLEL_DEFAULT })
}

/// Typed code as code of a step.
fn typed<T, Next, F, Fut>(name: &'static str, code: F) -> Work
where
    T: DeserializeOwned + Send + 'static,
    F: Fn(T, StepContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Next, StepError>> + Send + 'static,
    Next: Serialize + Send + 'static,
{
    let code = Arc::new(code);
    Work::code(move |context| {
        let code = Arc::clone(&code);
        async move { output(name, &code(input(name, &context)?, context).await?) }
    })
}

/// What a step takes. Arguments of another form are a failure, tried again, as for any worker; a stored result of
/// another form was stored by other code under the same names, and stays what it is.
fn input<T: DeserializeOwned>(name: &str, context: &StepContext) -> Result<T, StepError> {
    T::deserialize(&context.input).map_err(|error| {
        let text = format!("what step {name} is given has another form: {error}");
        if context.outputs.is_empty() && context.item.is_none() { failed(INPUT, text) } else { discarded(INPUT, text) }
    })
}

fn output(name: &str, value: &impl Serialize) -> Result<StepOutput, StepError> {
    serde_json::to_value(value)
        .map(StepOutput::value)
        .map_err(|error| discarded(OUTPUT, format!("the result of step {name} has no JSON form: {error}")))
}

/// The plan of a step that enqueues a list of jobs and waits for all. Keys are places in the list, so that a plan that
/// is repeated enqueues nothing twice.
fn plan_of_jobs(
    children: &Children,
    jobs: impl FnOnce() -> Result<Vec<NewJob>, StepError>,
) -> Result<Plan<Vec<Child>>, StepError> {
    if !children.all.is_empty() {
        return Ok(if children.have_ended() {
            // Keys have leading zeros, so their order is that of the list.
            Plan::Done(children.all.values().cloned().collect())
        } else {
            Plan::Wait { enqueue: Vec::new(), until: Wait::All }
        });
    }
    let jobs = jobs()?.into_iter().enumerate().map(|(place, job)| ChildJob { key: format!("{place:06}"), job });
    let enqueue: Vec<ChildJob> = jobs.collect();
    Ok(if enqueue.is_empty() { Plan::Done(Vec::new()) } else { Plan::Wait { enqueue, until: Wait::All } })
}

/// Settings of code make sense where there is code.
fn has_code(step: &Step) -> Result<(), String> {
    let work = match &step.work {
        Work::Each { work, .. } => work,
        work => work,
    };
    match work {
        Work::Code(_) => Ok(()),
        Work::Each { .. } | Work::Steps(_) => {
            Err(format!("step {} is a workflow; its steps have their own", step.name))
        }
        Work::Children(_) => Err(format!("step {} waits for children, which have their own", step.name)),
    }
}

fn check(worker: &'static str, steps: &[Step]) -> Result<(), DefinitionError> {
    if steps.is_empty() {
        return Err(DefinitionError::NoStep { worker });
    }
    let mut seen = std::collections::BTreeSet::new();
    match steps.iter().find(|step| !seen.insert(step.name)) {
        Some(step) => Err(DefinitionError::SameName { worker, step: step.name }),
        None => Ok(()),
    }
}

impl<In, Now> std::fmt::Debug for Workflow<In, Now> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workflow")
            .field("worker", &self.worker)
            .field("version", &self.version)
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Coded;

    fn base() -> Workflow<u32> {
        Workflow::builder("w")
    }

    async fn id<T: Send + 'static>(value: T, _: StepContext) -> Result<T, StepError> {
        Ok(value)
    }

    #[test]
    fn mistakes_are_named_and_the_first_counts() {
        let one = || base().step("a", id);
        let list = || base().step("list", |n: u32, _| async move { Ok(vec![n]) });
        let cases = [
            (base().build(), "E0627", "workflow w has no step; it has at least one"),
            (one().step("a", id).build(), "E0628", "workflow w has two steps \"a\"; names of steps are unique"),
            (
                one().retrying(StepRetry::in_place(0, Duration::ZERO)).build(),
                "E0629",
                "has tries: 0; 1 to 100 are allowed",
            ),
            (list().each("e", id::<u32>).parallel(257).build(), "E0629", "257; 1 to 256 are allowed"),
            (base().within(Duration::ZERO).step("a", id).build(), "E0630", "there is no step before it"),
            (one().parallel(2).build(), "E0630", "step a is no fan-out"),
            (one().sub("s", base().step("b", id)).within(Duration::ZERO).build(), "E0630", "step s is a workflow"),
            (one().sub("s", base()).build(), "E0627", "workflow w has no step"),
        ];
        for (built, code, text) in cases {
            let error = built.unwrap_err();
            assert_eq!(error.code(), code, "{error}");
            assert!(error.to_string().contains(text), "{error}");
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn settings_are_those_of_the_step_before() {
        let retry = StepRetry::in_place(3, Duration::from_secs(1));
        let definition = base()
            .named("W")
            .version(7)
            .attempt_timeout(Duration::from_secs(9))
            .step("a", |n: u32, _| async move { Ok(vec![n]) })
            .within(Duration::from_secs(5))
            .each("b", id::<u32>)
            .parallel(2)
            .retrying(retry)
            .build()
            .unwrap();
        assert_eq!((definition.worker, definition.name, definition.version), ("w", "W", 7));
        assert_eq!(definition.timeout, Duration::from_secs(9));
        let [a, b] = &definition.steps[..] else { panic!("{definition:?}") };
        assert_eq!((a.timeout, a.retry, a.effect), (Some(Duration::from_secs(5)), StepRetry::default(), Effect::Pure));
        assert_eq!((b.timeout, b.retry, b.effect), (None, retry, Effect::External));
        assert!(matches!(b.work, Work::Each { parallel: 2, .. }));
    }
}
