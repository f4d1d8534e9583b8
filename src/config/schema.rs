//! The keys of `actors.toml` as data: names, types, ranges, and how a file meets the shipped one.
//!
//! It repeats the shape of `model.rs` because serde stops at its first error and knows no ranges; a test compares the
//! two key by key. With it, a file, environment variables and overrides go through the same checks.

use super::cloud;
use super::command;
use super::cron;
use super::kind::{Kind, Rule};
use super::limits;
use super::period::Period;
use super::rules;

/// A table or a value.
#[derive(Debug)]
pub(super) enum Node {
    /// Fixed keys.
    Table(Table),
    /// Keys are names that a person chooses.
    Named { entry: &'static Node, layering: Layering, name: Rule },
    /// A value.
    Leaf(Kind),
}

/// A table with fixed keys.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) fields: &'static [(&'static str, Node)],
    /// A file that has this table states all of it: nothing is left of the shipped one.
    pub(super) whole: bool,
}

/// What a file's named entries do to the shipped ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layering {
    /// They are added to; an entry of the same name changes key by key.
    Merge,
    /// As `Merge`, but an entry that states this key is a new definition.
    WholeWith(&'static str),
    /// They replace all of them.
    Replace,
}

impl Table {
    pub(super) fn field(&self, name: &str) -> Option<&'static Node> {
        self.fields.iter().find(|(field, _)| *field == name).map(|(_, node)| node)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().map(|(field, _)| *field)
    }
}

impl Node {
    /// Dotted path of a table that has a key `name`, with `NAME` for what a person chooses.
    pub(super) fn home_of(&self, name: &str) -> Option<String> {
        self.leaves()
            .into_iter()
            .find_map(|(path, _)| path.strip_suffix(name).and_then(|table| table.strip_suffix('.')).map(str::to_owned))
    }

    /// Every value below, by dotted path with `NAME` for what a person chooses.
    pub(super) fn leaves(&self) -> Vec<(String, Kind)> {
        fn walk(node: &Node, path: &str, leaves: &mut Vec<(String, Kind)>) {
            let below = |name| if path.is_empty() { String::from(name) } else { format!("{path}.{name}") };
            match node {
                Node::Leaf(kind) => leaves.push((path.to_owned(), *kind)),
                Node::Named { entry, .. } => walk(entry, &below("NAME"), leaves),
                Node::Table(table) => table.fields.iter().for_each(|(name, node)| walk(node, &below(name), leaves)),
            }
        }
        let mut leaves = Vec::new();
        walk(self, "", &mut leaves);
        leaves
    }
}

const fn table(fields: &'static [(&'static str, Node)]) -> Node {
    Node::Table(Table { fields, whole: false })
}

const fn integer(min: i64, max: i64) -> Node {
    Node::Leaf(Kind::Integer { min, max })
}

const fn number(min: f64, max: f64) -> Node {
    Node::Leaf(Kind::Number { min, max })
}

const fn period(min: Period, max: Period) -> Node {
    Node::Leaf(Kind::Period { min, max })
}

const fn text(rule: Rule) -> Node {
    Node::Leaf(Kind::Text(rule))
}

const COMPLEXITIES: Kind = Kind::Choice(&["simple", "medium", "complex"]);
const NAMES: Node = Node::Leaf(Kind::Texts(rules::name));
const SECRET: Node = Node::Leaf(Kind::Secret);
const ZERO: Period = Period::from_secs(0);
const MINUTE: Period = Period::from_secs(60);
const HOUR: Period = Period::from_secs(3_600);
const DAY: Period = Period::from_secs(86_400);
/// Longest age of a job: as long as a period may be.
const AGE_MAX: Period = Period::from_secs(1_000 * 86_400);
/// Shortest time between two looks at a table: below it an idle instance is a load on the server.
const POLL_MIN: Period = Period::from_millis(10);
/// Shortest limit of a statement or an attempt, and shortest heartbeat: below it, ordinary delays count as failures.
const LIMIT_MIN: Period = Period::from_millis(100);

/// Longest life of an answer in the cache.
const CACHE_MAX: Period = Period::from_secs(366 * 86_400);

/// An instance stops its jobs between the end of its lease and the moment in which others take them over; 10 s leave 3
/// s for that.
const STALE_AFTER_MIN: Period = Period::from_secs(10);

const QUEUE: Node = table(&[
    ("limit", integer(1, 10_000)),
    ("paused", Node::Leaf(Kind::Bool)),
    ("start", Node::Leaf(Kind::Bool)),
    ("poll_interval", period(POLL_MIN, HOUR)),
    ("dispatch_cooldown", period(ZERO, MINUTE)),
    ("on_stuck", Node::Leaf(Kind::Choice(&["hold", "release"]))),
    ("blocking_max", integer(1, 512)),
]);

/// What differs on one instance. Its queues have the keys of the common ones, and nothing but what they state changes.
const INSTANCE: Node =
    table(&[("queues", Node::Named { entry: &QUEUE, layering: Layering::Merge, name: rules::name })]);

const WORKFLOW: Node = table(&[
    ("queue", text(rules::name)),
    ("max_attempts", integer(1, 32_767)),
    ("timeout", period(LIMIT_MIN, Period::from_secs(7 * 86_400))),
    ("cache", Node::Leaf(Kind::PeriodOrOff { min: Period::from_secs(1), max: CACHE_MAX })),
]);

const AGENT_WORKFLOW: Node = table(&[
    ("queue", text(rules::name)),
    ("max_attempts", integer(1, 32_767)),
    ("timeout", period(LIMIT_MIN, Period::from_secs(7 * 86_400))),
]);

const EMBEDDING_WORKFLOW: Node = table(&[
    ("queue", text(rules::name)),
    ("max_attempts", integer(1, 32_767)),
    ("timeout", period(LIMIT_MIN, Period::from_secs(7 * 86_400))),
    ("model", text(rules::name)),
]);

const PROVIDER: Node = table(&[
    ("kind", Node::Leaf(Kind::Choice(&["openai", "anthropic", "command", "simulated"]))),
    ("base_url", text(rules::base_url)),
    ("api_key", SECRET),
    ("output_limit", Node::Leaf(Kind::Choice(&["max_tokens", "max_completion_tokens"]))),
    (
        "timeouts",
        table(&[
            ("connect", period(Period::from_millis(1), DAY)),
            ("first_byte", period(Period::from_millis(1), DAY)),
            ("idle", period(Period::from_millis(1), DAY)),
            ("total", period(Period::from_millis(1), DAY)),
        ]),
    ),
    ("command", command::TABLE),
    ("limits", limits::LIMITS),
]);

const AGENT: Node = table(&[
    ("capabilities", Node::Leaf(Kind::Texts(rules::name))),
    ("system_prompt", text(rules::not_empty)),
    ("complexity", Node::Leaf(COMPLEXITIES)),
    ("route", text(rules::name)),
    ("model", text(rules::name)),
    ("max_tokens", integer(1, 1_000_000)),
    ("parallel", integer(1, 10_000)),
]);

const SIMULATED_ANSWER: Node = table(&[("when", text(rules::not_empty)), ("text", text(rules::not_empty))]);

const MODEL: Node = table(&[
    ("provider", text(rules::name)),
    ("name", text(rules::not_empty)),
    ("kind", Node::Leaf(Kind::Choice(&["chat", "embedding"]))),
    ("max_tokens", integer(1, 10_000_000)),
    ("limits", limits::LIMITS),
    (
        "embedding",
        table(&[
            ("dimensions", integer(1, 16_000)),
            ("shorten", Node::Leaf(Kind::Bool)),
            ("batch_items", integer(1, 2_048)),
            ("batch_tokens", integer(1, 1_000_000)),
        ]),
    ),
    (
        "price",
        Node::Table(Table {
            whole: true,
            fields: &[
                ("input", number(0.0, 1_000_000.0)),
                ("output", number(0.0, 1_000_000.0)),
                ("cache_read", number(0.0, 1_000_000.0)),
                ("cache_write", number(0.0, 1_000_000.0)),
            ],
        }),
    ),
    (
        "simulated",
        table(&[
            ("seed", integer(0, i64::MAX)),
            ("latency", period(ZERO, HOUR)),
            ("latency_per_token", period(ZERO, MINUTE)),
            ("jitter", number(0.0, 1.0)),
            ("failure_rate", number(0.0, 1.0)),
            ("throttle_rate", number(0.0, 1.0)),
            ("refusal_rate", number(0.0, 1.0)),
            ("retry_after", period(ZERO, DAY)),
            ("output_tokens", Node::Leaf(Kind::Bounds { min: 1, max: 100_000 })),
            ("answers", Node::Named { entry: &SIMULATED_ANSWER, layering: Layering::Merge, name: rules::name }),
        ]),
    ),
]);

const TELL: Node = Node::Leaf(Kind::Choice(&["auto", "always", "never"]));

/// The whole file.
pub(super) static ROOT: Node = table(&[
    ("mode", Node::Leaf(Kind::Choice(&["auto", "standalone", "guest", "peer"]))),
    (
        "instance",
        table(&[
            ("id", text(rules::instance_id)),
            ("capabilities", Node::Leaf(Kind::Texts(rules::name))),
            ("heartbeat", period(LIMIT_MIN, MINUTE)),
            ("stale_after", period(STALE_AFTER_MIN, DAY)),
        ]),
    ),
    (
        "database",
        table(&[
            ("url", SECRET),
            ("schema", text(rules::schema)),
            ("pool_max", integer(4, 200)),
            ("statement_timeout", period(LIMIT_MIN, HOUR)),
            ("indexes", Node::Leaf(Kind::Choice(&["oban", "lean"]))),
        ]),
    ),
    (
        "embedded",
        table(&[
            ("data_dir", text(rules::not_empty)),
            ("bin_dir", text(rules::not_empty)),
            ("linger", period(ZERO, DAY)),
        ]),
    ),
    (
        "runtime",
        table(&[
            ("max_restarts", integer(0, 1_000)),
            ("max_window", period(Period::from_secs(1), DAY)),
            ("shutdown_grace", period(ZERO, DAY)),
            ("job_threads", integer(0, 1_024)),
        ]),
    ),
    ("queues", Node::Named { entry: &QUEUE, layering: Layering::Replace, name: rules::name }),
    ("instances", Node::Named { entry: &INSTANCE, layering: Layering::Merge, name: rules::instance_key }),
    (
        "services",
        table(&[
            (
                "leader",
                table(&[
                    ("name", text(rules::oban_name)),
                    ("lease", period(Period::from_secs(1), Period::from_secs(300))),
                ]),
            ),
            ("stager", table(&[("interval", period(POLL_MIN, HOUR)), ("limit", integer(1, 50_000))])),
            (
                "lifeline",
                table(&[
                    ("interval", period(POLL_MIN, HOUR)),
                    ("rescue_after", Node::Leaf(Kind::PeriodOrOff { min: Period::from_secs(1), max: AGE_MAX })),
                ]),
            ),
            (
                "pruner",
                table(&[
                    ("max_age", Node::Leaf(Kind::PeriodOrOff { min: ZERO, max: AGE_MAX })),
                    ("runs_max_age", Node::Leaf(Kind::PeriodOrOff { min: ZERO, max: AGE_MAX })),
                    ("limit", integer(1, 50_000)),
                    ("interval", period(POLL_MIN, DAY)),
                ]),
            ),
            (
                "reindexer",
                table(&[
                    ("schedule", text(rules::schedule)),
                    ("timezone", text(cron::timezone)),
                    ("indexes", Node::Leaf(Kind::Texts(rules::index_name))),
                    ("timeout", period(Period::from_secs(1), DAY)),
                ]),
            ),
            ("gossip", table(&[("send", TELL), ("interval", period(Period::from_secs(1), Period::from_secs(20)))])),
            ("metrics", table(&[("send", TELL), ("counts", Node::Leaf(Kind::Bool))])),
        ]),
    ),
    ("cron", Node::Named { entry: &cron::ENTRY, layering: Layering::Merge, name: rules::name }),
    ("cloud", cloud::CLOUD),
    ("central", cloud::CENTRAL),
    (
        "workflows",
        table(&[
            ("llm_request", WORKFLOW),
            ("embedding", EMBEDDING_WORKFLOW),
            ("agent_coordination", AGENT_WORKFLOW),
            ("agent_task", AGENT_WORKFLOW),
        ]),
    ),
    ("agents", Node::Named { entry: &AGENT, layering: Layering::Merge, name: rules::name }),
    (
        "routing",
        table(&[
            ("default_complexity", Node::Leaf(COMPLEXITIES)),
            (
                "task_types",
                Node::Named { entry: &Node::Leaf(COMPLEXITIES), layering: Layering::Merge, name: rules::name },
            ),
            (
                "models",
                table(&[("simple", text(rules::name)), ("medium", text(rules::name)), ("complex", text(rules::name))]),
            ),
            ("candidates", table(&[("simple", NAMES), ("medium", NAMES), ("complex", NAMES)])),
            (
                "routes",
                Node::Named { entry: &table(&[("models", NAMES)]), layering: Layering::Merge, name: rules::route },
            ),
        ]),
    ),
    ("providers", Node::Named { entry: &PROVIDER, layering: Layering::WholeWith("kind"), name: rules::name }),
    ("models", Node::Named { entry: &MODEL, layering: Layering::WholeWith("provider"), name: rules::name }),
    ("budgets", Node::Named { entry: &limits::BUDGET, layering: Layering::Merge, name: rules::name }),
    (
        "log",
        table(&[("format", Node::Leaf(Kind::Choice(&["auto", "text", "json"]))), ("filter", text(rules::log_filter))]),
    ),
    ("plugins", Node::Leaf(Kind::Texts(rules::plugin))),
]);
