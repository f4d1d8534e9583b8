//! The configuration as typed values: one struct a table of `actors.toml`.
//!
//! Every field has a default, so an empty file is valid. The doc comment of a field is its contract; the shipped
//! `actors.toml` says the same to a person who edits it. Names (queues, providers, models, task types) are lower case
//! letters, digits and underscores, because environment overrides lower-case their keys.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::agent::{Agent, AgentWorkflow, SimulatedAnswer};
use super::cloud::{Central, Cloud};
use super::command::Command;
use super::cron::Cron;
use super::embedding::{EmbeddingModel, EmbeddingWorkflow, ModelKind};
use super::ground::{Database, Embedded, Instance, Mode, Runtime};
use super::limits::{Budget, Limits};
use super::period::{Period, PeriodOrOff};
use super::rules::SCHEDULE_OFF;
use super::secret::SecretRef;
use crate::cron::{self, CronError, Expression, Zone};

/// Everything one instance is told at start. Frozen after loading; shared as `Arc<Config>`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which part this instance takes beside Oban nodes in other languages. Default `auto`.
    pub mode: Mode,
    /// Who this instance is and how it proves that it lives.
    pub instance: Instance,
    /// Where the shared PostgreSQL is.
    pub database: Database,
    /// The server that is started when no database is named.
    pub embedded: Embedded,
    /// Root supervisor and shutdown.
    pub runtime: Runtime,
    /// Queues that this instance works on, by name.
    pub queues: BTreeMap<String, Queue>,
    /// What differs on single instances, by instance id: letters, digits, `_` and `-`. Instances that do not exist are
    /// fine, so one file serves all.
    pub instances: BTreeMap<String, InstanceTable>,
    /// Periodic services.
    pub services: Services,
    /// Jobs that are inserted when their time comes, by name.
    pub cron: BTreeMap<String, Cron>,
    /// What this instance reports, and what it does in its fleet.
    pub cloud: Cloud,
    /// What CentralCloud does and keeps.
    pub central: Central,
    /// Settings of built-in workflows.
    pub workflows: Workflows,
    /// Who does tasks of `agent_coordination`, by name.
    pub agents: BTreeMap<String, Agent>,
    /// Which model serves which kind of request.
    pub routing: Routing,
    /// Who serves models, by name.
    pub providers: BTreeMap<String, Provider>,
    /// Models that requests may name, by name.
    pub models: BTreeMap<String, Model>,
    /// What calls of models may cost, by name.
    pub budgets: BTreeMap<String, Budget>,
    /// Log output on stderr.
    pub log: Log,
    /// Plugins of an Oban configuration that was carried over. Only `repeater` is known: it was a poll, and polling is
    /// built into every queue here, so the entry is accepted and has no effect.
    pub plugins: Vec<String>,
}

/// `[queues.NAME]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Queue {
    /// Jobs that run at once on this instance; 1 to 10,000. Default 10.
    pub limit: u32,
    /// Start without claiming.
    pub paused: bool,
    /// Start with the instance. Default true; without it the queue begins when it is told to.
    pub start: bool,
    /// Longest time between two looks at the table, 10 ms to 1 hour; notifications usually arrive first. Default 1 s.
    pub poll_interval: Period,
    /// Least time between two claims, at most 1 minute; what asks for one meanwhile is answered by the next. Default 0
    /// s: whatever arrives while a claim is under way is one claim anyway. Oban, which has no such merging, waits 5 ms.
    pub dispatch_cooldown: Period,
    /// What becomes of the slot of a job that was told to end and does not. Default `hold`.
    pub on_stuck: OnStuck,
    /// Pieces of blocking code that its jobs run at once on threads of their own; 1 to 512. Default: as many as
    /// `limit`.
    pub blocking_max: Option<u32>,
}

/// What becomes of the slot of a job whose code was told to end and does not, because it never awaits. Its row stays
/// `executing` either way, so that nobody runs it a second time, until the code returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnStuck {
    /// It stays taken until the code returns: never more code runs than the limit says.
    #[default]
    Hold,
    /// It is free at once: the queue goes on at its pace beside the stuck code, of which it passes over at most as many
    /// as its limit.
    Release,
}

/// `[instances.ID]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InstanceTable {
    /// Changes to queues of `[queues]`, by name.
    pub queues: BTreeMap<String, QueueChange>,
}

/// `[instances.ID.queues.NAME]`: keys of `[queues.NAME]`; what is not stated is as there.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueChange {
    /// Instead of [`Queue::limit`].
    pub limit: Option<u32>,
    /// Instead of [`Queue::paused`].
    pub paused: Option<bool>,
    /// Instead of [`Queue::start`].
    pub start: Option<bool>,
    /// Instead of [`Queue::poll_interval`].
    pub poll_interval: Option<Period>,
    /// Instead of [`Queue::dispatch_cooldown`].
    pub dispatch_cooldown: Option<Period>,
    /// Instead of [`Queue::on_stuck`].
    pub on_stuck: Option<OnStuck>,
    /// Instead of [`Queue::blocking_max`].
    pub blocking_max: Option<u32>,
}

/// `[services]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Services {
    /// The lease of the one who leads all.
    pub leader: Leader,
    /// Makes scheduled and retryable jobs available when their time has come.
    pub stager: Stager,
    /// Takes over the jobs of dead instances.
    pub lifeline: Lifeline,
    /// Deletes jobs that finished long ago.
    pub pruner: Pruner,
    /// Rebuilds indexes that bloat.
    pub reindexer: Reindexer,
    /// Tells dashboards about queues.
    pub gossip: Gossip,
    /// Tells dashboards about attempts and numbers of jobs.
    pub metrics: Metrics,
}

/// `[services.leader]`: the lease in `oban_peers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Leader {
    /// Name of the Oban whose leader is elected, the key of the lease: 1 to 127 letters, digits, dots and underscores.
    /// Default `Oban`, the one that every Oban node has unless it is told otherwise.
    pub name: String,
    /// How long a lease lasts that is not prolonged; 1 s to 5 minutes. Default 30 s, as in Oban.
    pub lease: Period,
}

/// `[services.stager]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stager {
    /// Time between two runs; 10 ms to 1 hour. Default 1 s.
    pub interval: Period,
    /// Jobs staged in one statement; 1 to 50,000. Default 5,000.
    pub limit: u32,
}

/// `[services.lifeline]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lifeline {
    /// Time between two runs; 10 ms to 1 hour. Default 5 s.
    pub interval: Period,
    /// After how long the leader returns jobs that execute on nodes of other runtimes, of which nothing tells whether
    /// they live; 1 s to 1,000 days. Default 1 hour, as in Oban.
    pub rescue_after: PeriodOrOff,
}

/// `[services.pruner]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pruner {
    /// How long after its end a job is deleted, at most 1,000 days; `off` keeps every job. Default 1 day, what Oban's
    /// installer writes.
    pub max_age: PeriodOrOff,
    /// How long after its end a run of a workflow is deleted with its checkpoints, at most 1,000 days; `off` keeps
    /// every run. Default 30 days.
    pub runs_max_age: PeriodOrOff,
    /// Jobs deleted in one statement; 1 to 50,000. Default 10,000, as in Oban.
    pub limit: u32,
    /// Time between two runs; 10 ms to 1 day. Default 30 s, as in Oban.
    pub interval: Period,
}

/// `[services.gossip]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gossip {
    /// When to send. Default `auto`.
    pub send: Tell,
    /// Time between two messages; 1 s to 20 s. Default 1 s.
    pub interval: Period,
}

/// `[services.metrics]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// When to send. Default `auto`.
    pub send: Tell,
    /// Whether jobs are counted while this instance leads. Default true.
    pub counts: bool,
}

/// When dashboards are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tell {
    /// While an Oban node in another language is there, beside which a dashboard may run.
    #[default]
    Auto,
    /// As long as the instance runs.
    Always,
    /// Not at all.
    Never,
}

impl Tell {
    /// Whether to tell now.
    pub fn is_wanted(self, somebody_is_there: bool) -> bool {
        match self {
            Self::Auto => somebody_is_there,
            Self::Always => true,
            Self::Never => false,
        }
    }

    /// What the tree shows when this is what came of it.
    pub fn describe(self, tells: bool) -> &'static str {
        match (tells, self) {
            (true, _) => "yes",
            (false, Self::Never) => "never",
            (false, _) => "no, nobody listens",
        }
    }
}

/// `[services.reindexer]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reindexer {
    /// When the leader rebuilds: an expression as in `[cron.NAME]`, but not `@reboot`, or `off`. Default `off`, as in
    /// Oban.
    pub schedule: String,
    /// Zone whose clocks `schedule` means. Default `Etc/UTC`.
    pub timezone: String,
    /// Indexes of `oban_jobs` that are rebuilt; those that are not there are passed over. Default the two GIN indexes,
    /// which bloat most.
    pub indexes: Vec<String>,
    /// Limit of one statement; 1 s to 1 day. Default 15 s, as in Oban.
    pub timeout: Period,
}

impl Reindexer {
    /// The expression and its zone; `None` when it is off.
    ///
    /// # Errors
    /// [`CronError`], not with a configuration that was loaded.
    pub fn times(&self) -> Result<Option<(Expression, Zone)>, CronError> {
        if self.schedule == SCHEDULE_OFF {
            return Ok(None);
        }
        Ok(Some((self.schedule.parse()?, cron::zone(&self.timezone)?)))
    }
}

/// `[workflows]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Workflows {
    /// `llm_request`: prompt in, answer and cost out.
    pub llm_request: Workflow,
    /// `embedding`: texts in, vectors stored.
    pub embedding: EmbeddingWorkflow,
    /// `agent_coordination`: a task in, the merged answers of agents out.
    pub agent_coordination: AgentWorkflow,
    /// `agent_task`: what one agent does for it.
    pub agent_task: AgentWorkflow,
}

impl Workflows {
    /// Queue and most attempts of the jobs of a built-in workflow, by the worker that they name.
    pub fn jobs_of(&self, worker: &str) -> Option<(&str, u32)> {
        Some(match worker {
            "llm_request" => (&self.llm_request.queue, self.llm_request.max_attempts),
            "embedding" => (&self.embedding.queue, self.embedding.max_attempts),
            "agent_coordination" => (&self.agent_coordination.queue, self.agent_coordination.max_attempts),
            "agent_task" => (&self.agent_task.queue, self.agent_task.max_attempts),
            _ => return None,
        })
    }
}

/// `[workflows.NAME]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Workflow {
    /// Queue of its jobs.
    pub queue: String,
    /// Attempts before a job is discarded; 1 to 32,767. Default 5.
    pub max_attempts: u32,
    /// Limit of one attempt; 100 ms to 7 days. Default 10 minutes.
    pub timeout: Period,
    /// How long an answer serves the same request again, 1 s to 366 days. Default `off`.
    pub cache: PeriodOrOff,
}

/// `[routing]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Routing {
    /// Complexity of a request that names neither a complexity nor a known task type.
    pub default_complexity: Complexity,
    /// Task type → complexity.
    pub task_types: BTreeMap<String, Complexity>,
    /// Complexity → name of a model of `[models]`, the reference of what is learned.
    pub models: BTreeMap<Complexity, String>,
    /// Complexity → further models that may serve it, in the order in which they are fallbacks.
    pub candidates: BTreeMap<Complexity, Vec<String>>,
    /// Routes beside the complexities, by the name that requests give.
    pub routes: BTreeMap<String, Route>,
}

/// `[routing.routes.NAME]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// Names of models of `[models]`: the reference, then further candidates in the order in which they are fallbacks.
    pub models: Vec<String>,
}

/// How demanding a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Complexity {
    /// Classification, parsing, short chat.
    Simple,
    /// Coding, planning, decomposition.
    Medium,
    /// Architecture, large code generation, review.
    Complex,
}

impl Complexity {
    /// Its name, which is that of its route too.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Medium => "medium",
            Self::Complex => "complex",
        }
    }
}

impl fmt::Display for Complexity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `[providers.NAME]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Provider {
    /// Which wire format it speaks.
    pub kind: ProviderKind,
    /// Root of the API, for example `https://api.openai.com/v1`. Unused by `simulated` and `command`.
    pub base_url: Option<String>,
    /// Key by reference; a server on loopback may need none.
    pub api_key: Option<SecretRef>,
    /// What a provider of the kind `openai` calls the output limit. Default: `max_completion_tokens` on the hosts of
    /// OpenAI and Azure, else `max_tokens`.
    pub output_limit: Option<OutputLimit>,
    /// Time limits of a call; each 1 ms to 1 day. Of a program, `total` alone holds.
    pub timeouts: Timeouts,
    /// The program of a provider of the kind `command`.
    pub command: Option<Command>,
    /// How fast it is called.
    pub limits: Limits,
}

/// `[providers.NAME] output_limit`: OpenAI's two names of the output limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputLimit {
    /// The old one, which every compatible server knows. OpenAI's reasoning models refuse it.
    MaxTokens,
    /// The new one.
    MaxCompletionTokens,
}

/// Wire format of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    /// `POST /chat/completions` as OpenAI and compatible servers.
    Openai,
    /// `POST /v1/messages` as Anthropic.
    Anthropic,
    /// A local program: prompt on its standard input, answer on its standard output.
    Command,
    /// No network: answers are made up, deterministic by seed, and marked simulated.
    #[default]
    Simulated,
}

/// `[providers.NAME.timeouts]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// TCP and TLS. Default 5 s.
    pub connect: Period,
    /// From the request to the first byte of the answer. Default 5 min: some providers send nothing at all while their
    /// model thinks. A peer that is gone is noticed before, by the connection.
    pub first_byte: Period,
    /// Between two chunks of a stream. Default 30 s.
    pub idle: Period,
    /// The whole call. Default 600 s.
    pub total: Period,
}

/// `[models.NAME]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// Name of a provider of `[providers]`.
    pub provider: String,
    /// What the provider calls it, and its key in `prices.toml`.
    pub name: String,
    /// What it answers with. Default `chat`.
    pub kind: ModelKind,
    /// Output limit when a request names none; 1 to 10,000,000. Default 1,024.
    pub max_tokens: Option<u32>,
    /// Vectors and batches of an embedding model.
    pub embedding: Option<EmbeddingModel>,
    /// Dollars per million tokens; wins over `prices.toml`.
    pub price: Option<Price>,
    /// How fast it is called, beside the limits of its provider.
    pub limits: Limits,
    /// Behaviour of a model of a simulated provider.
    pub simulated: Option<Simulated>,
}

/// Dollars per million tokens; each from 0 to 1,000,000.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Fresh input.
    pub input: f64,
    /// Output, reasoning included.
    pub output: f64,
    /// Input read from the provider's cache; defaults to `input`.
    pub cache_read: Option<f64>,
    /// Input written to the provider's cache for five minutes; defaults to `input`.
    pub cache_write: Option<f64>,
}

/// `[models.NAME.simulated]`: what a simulated model does. Every draw comes from `seed` and the request, so the same
/// request meets the same fate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Simulated {
    /// Seed of all draws. In the file at most `i64::MAX`.
    pub seed: u64,
    /// Mean time to the whole answer; at most 1 hour. Default 200 ms.
    pub latency: Period,
    /// Added to the mean for each token of the answer; at most 1 minute. Default 0 s.
    pub latency_per_token: Period,
    /// Spread around the mean, 0 to 1: 0.5 means half to one and a half times. Default 0.5.
    pub jitter: f64,
    /// Share of calls that fail like a 500; 0 to 1.
    pub failure_rate: f64,
    /// Share of calls that are refused like a 429 with `retry_after`; 0 to 1.
    pub throttle_rate: f64,
    /// Share of calls that the model declines to answer; 0 to 1.
    pub refusal_rate: f64,
    /// What a simulated 429 asks for; at most a day. Default 1 s.
    pub retry_after: Period,
    /// Length of an answer in tokens, smallest and largest; each 1 to 100,000. Default 20 to 200.
    pub output_tokens: (u32, u32),
    /// Answers to requests of a known kind, by name; the first that fits counts. What none fits is answered with words.
    pub answers: BTreeMap<String, SimulatedAnswer>,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `auto` is `text` on a terminal and `json` elsewhere.
    pub format: LogFormat,
    /// Directives as of `RUST_LOG`. Default `info,sqlx=warn,ractor=warn,sup.progress=warn`.
    pub filter: String,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// `text` on a terminal, `json` elsewhere.
    #[default]
    Auto,
    /// For people.
    Text,
    /// One object a line.
    Json,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            limit: 10,
            paused: false,
            start: true,
            poll_interval: Period::from_secs(1),
            dispatch_cooldown: Period::from_secs(0),
            on_stuck: OnStuck::Hold,
            blocking_max: None,
        }
    }
}

impl Default for Leader {
    fn default() -> Self {
        Self { name: "Oban".into(), lease: Period::from_secs(30) }
    }
}

impl Default for Stager {
    fn default() -> Self {
        Self { interval: Period::from_secs(1), limit: 5_000 }
    }
}

impl Default for Lifeline {
    fn default() -> Self {
        Self { interval: Period::from_secs(5), rescue_after: PeriodOrOff::on(Period::from_secs(3_600)) }
    }
}

impl Default for Pruner {
    fn default() -> Self {
        Self {
            max_age: PeriodOrOff::on(Period::from_secs(86_400)),
            runs_max_age: PeriodOrOff::on(Period::from_secs(30 * 86_400)),
            limit: 10_000,
            interval: Period::from_secs(30),
        }
    }
}

impl Default for Gossip {
    fn default() -> Self {
        Self { send: Tell::Auto, interval: Period::from_secs(1) }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { send: Tell::Auto, counts: true }
    }
}

impl Default for Reindexer {
    fn default() -> Self {
        Self {
            schedule: SCHEDULE_OFF.into(),
            timezone: cron::ZONE_DEFAULT.into(),
            indexes: vec!["oban_jobs_args_index".into(), "oban_jobs_meta_index".into()],
            timeout: Period::from_secs(15),
        }
    }
}

impl Default for Workflow {
    fn default() -> Self {
        Self { queue: "default".into(), max_attempts: 5, timeout: Period::from_secs(600), cache: PeriodOrOff::OFF }
    }
}

impl Default for Routing {
    fn default() -> Self {
        Self {
            default_complexity: Complexity::Medium,
            task_types: BTreeMap::new(),
            models: BTreeMap::new(),
            candidates: BTreeMap::new(),
            routes: BTreeMap::new(),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Period::from_secs(5),
            first_byte: Period::from_secs(300),
            idle: Period::from_secs(30),
            total: Period::from_secs(600),
        }
    }
}

impl Default for Simulated {
    fn default() -> Self {
        Self {
            seed: 1,
            latency: Period::from_millis(200),
            latency_per_token: Period::from_millis(0),
            jitter: 0.5,
            failure_rate: 0.0,
            throttle_rate: 0.0,
            refusal_rate: 0.0,
            retry_after: Period::from_secs(1),
            output_tokens: (20, 200),
            answers: BTreeMap::new(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Auto, filter: "info,sqlx=warn,ractor=warn,sup.progress=warn".into() }
    }
}
