//! The shipped file, the schema and the types say the same.

use std::collections::BTreeSet;

use super::flat;
use crate::config::schema::ROOT;
use crate::config::{
    Agent, Budget, Command, Complexity, Config, Cron, CronUnique, EmbeddingModel, ExitMeaning, InstanceTable, Limits,
    Model, OnStuck, OutputLimit, Period, PeriodOrOff, Price, Provider, ProviderKind, Queue, QueueChange, Route,
    SHIPPED, SecretRef, Simulated, SimulatedAnswer, Source, load,
};

/// A configuration in which every optional key has a value and every map the entry `NAME`.
fn complete() -> Config {
    let mut config = Config::default();
    config.embedded.bin_dir = Some("bin".into());
    config.queues.insert("NAME".into(), Queue { blocking_max: Some(1), ..Queue::default() });
    let unique = CronUnique {
        fields: Some(vec!["args".into()]),
        keys: Some(vec!["id".into()]),
        period: Some(PeriodOrOff::OFF),
        states: Some(vec!["all".into()]),
        timestamp: Some("inserted_at".into()),
    };
    let cron = Cron {
        queue: Some("NAME".into()),
        max_attempts: Some(1),
        priority: Some(1),
        tags: Some(vec!["a".into()]),
        unique: Some(unique),
        ..Cron::default()
    };
    config.cron.insert("NAME".into(), cron);
    let change = QueueChange {
        limit: Some(1),
        paused: Some(true),
        start: Some(false),
        poll_interval: Some(Period::from_secs(1)),
        dispatch_cooldown: Some(Period::from_secs(1)),
        on_stuck: Some(OnStuck::Release),
        blocking_max: Some(1),
    };
    let table = InstanceTable { queues: [("NAME".to_owned(), change)].into() };
    config.instances.insert("NAME".into(), table);
    config.routing.task_types.insert("NAME".into(), Complexity::Simple);
    for complexity in [Complexity::Simple, Complexity::Medium, Complexity::Complex] {
        config.routing.models.insert(complexity, "NAME".into());
    }
    let command = Command {
        text_at: Some("/text".into()),
        usage_at: Some("/usage".into()),
        exit_codes: [("NAME".to_owned(), ExitMeaning::Transient)].into(),
        ..Command::default()
    };
    let limits = Limits { requests_per_minute: Some(1), tokens_per_minute: Some(1) };
    let provider = Provider {
        base_url: Some("http://x".into()),
        api_key: Some(SecretRef::env("KEY")),
        output_limit: Some(OutputLimit::MaxTokens),
        command: Some(command),
        limits,
        ..Provider::default()
    };
    config.providers.insert("NAME".into(), provider);
    let price = Price { input: 1.0, output: 2.0, cache_read: Some(0.5), cache_write: Some(1.5) };
    let answers = [("NAME".to_owned(), SimulatedAnswer::default())].into();
    let embedding = EmbeddingModel {
        dimensions: Some(1),
        batch_items: Some(1),
        batch_tokens: Some(1),
        ..EmbeddingModel::default()
    };
    let model = Model {
        max_tokens: Some(1),
        price: Some(price),
        simulated: Some(Simulated { answers, ..Simulated::default() }),
        embedding: Some(embedding),
        limits,
        ..Model::default()
    };
    config.models.insert("NAME".into(), model);
    for complexity in [Complexity::Simple, Complexity::Medium, Complexity::Complex] {
        config.routing.candidates.insert(complexity, Vec::new());
    }
    config.routing.routes.insert("NAME".into(), Route::default());
    let budget = Budget {
        route: Some("NAME".into()),
        provider: Some("NAME".into()),
        usd: Some(1.0),
        requests: Some(1),
        ..Budget::default()
    };
    config.budgets.insert("NAME".into(), budget);
    let agent = Agent {
        complexity: Some(Complexity::Simple),
        route: Some("NAME".into()),
        model: Some("NAME".into()),
        max_tokens: Some(1),
        ..Agent::default()
    };
    config.agents.insert("NAME".into(), agent);
    config
}

fn schema_keys() -> BTreeSet<String> {
    ROOT.leaves().into_iter().map(|(path, _)| path).collect()
}

/// `queues.metrics.limit` → `queues.NAME.limit`.
fn pattern(key: &str) -> String {
    let parts: Vec<&str> = key.split('.').collect();
    match parts.as_slice() {
        ["models", _, "simulated", "answers", _, key] => format!("models.NAME.simulated.answers.NAME.{key}"),
        ["providers", _, "command", "exit_codes", _] => "providers.NAME.command.exit_codes.NAME".into(),
        ["queues" | "providers" | "models" | "budgets" | "agents", _, rest @ ..] => {
            format!("{}.NAME.{}", parts[0], rest.join("."))
        }
        ["cron", _, "unique", key] => format!("cron.NAME.unique.{key}"),
        // Below these keys stands what a person likes.
        ["cron", _, key, ..] => format!("cron.NAME.{key}"),
        ["instances", _, "queues", _, key] => format!("instances.NAME.queues.NAME.{key}"),
        ["routing", "routes", _, "models"] => "routing.routes.NAME.models".into(),
        ["routing", "task_types", _] => "routing.task_types.NAME".into(),
        _ => key.to_owned(),
    }
}

#[test]
fn the_schema_has_exactly_the_keys_of_the_types() {
    let types: BTreeSet<String> = flat(&serde_json::to_value(complete()).unwrap()).into_keys().collect();
    assert_eq!(schema_keys(), types);
}

/// With its unset keys (lines that start with `#` and a key, without a space between) the file has every key there is.
#[test]
fn the_shipped_file_has_every_key_and_a_comment_for_it() {
    let is_unset =
        |line: &str| line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
    let uncommented: Vec<&str> = SHIPPED.lines().map(|line| if is_unset(line) { &line[1..] } else { line }).collect();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("actors.toml"), uncommented.join("\n")).unwrap();
    load(&Source { search_dir: dir.path().into(), ..Source::default() }).unwrap_or_else(|errors| panic!("{errors}"));

    let table: toml::Table = uncommented.join("\n").parse().unwrap();
    let keys: BTreeSet<String> = flat(&serde_json::to_value(&table).unwrap()).keys().map(|key| pattern(key)).collect();
    assert_eq!(keys, schema_keys());

    let mut explained = BTreeSet::new();
    for (index, line) in uncommented.iter().enumerate() {
        if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#'))
            && index > 0
            && uncommented[index - 1].starts_with("# ")
        {
            explained.extend(key.rsplit('.').next().map(str::to_owned));
        }
    }
    for path in schema_keys() {
        let key = path.trim_end_matches(".NAME").rsplit('.').next().unwrap().to_owned();
        // The three complexities and the task types are explained together.
        let together = path.starts_with("routing.models")
            || path.starts_with("routing.candidates")
            || path.starts_with("routing.task_types");
        assert!(together || explained.contains(&key), "{path} has no comment line above it");
    }
}

#[test]
fn fixed_tables_of_the_shipped_file_have_the_documented_defaults() {
    let shipped = Config::shipped().unwrap_or_else(|errors| panic!("{errors}"));
    let documented = Config {
        queues: shipped.queues.clone(),
        routing: shipped.routing.clone(),
        providers: shipped.providers.clone(),
        models: shipped.models.clone(),
        budgets: shipped.budgets.clone(),
        ..Config::default()
    };
    assert_eq!(shipped, documented);
    assert_eq!(shipped.queues["default"], Queue::default());
    assert_eq!(shipped.providers["anthropic"].timeouts, Provider::default().timeouts);
    assert_eq!(shipped.routing.default_complexity, Complexity::Medium);
}

#[test]
fn shipped_queues_have_their_limits() {
    let limits: Vec<(String, u32)> =
        Config::shipped().unwrap().queues.into_iter().map(|(name, queue)| (name, queue.limit)).collect();
    let expected = [("default", 10), ("metrics", 5), ("pattern_mining", 3), ("training", 2)];
    assert_eq!(limits, expected.map(|(name, limit)| (name.to_owned(), limit)));
}

#[test]
fn shipped_routing_leads_every_task_type_to_a_simulated_model() {
    let config = Config::shipped().unwrap();
    let expected = [
        (Complexity::Simple, "sim_flash", ["classifier", "parser", "simple_chat"].as_slice()),
        (Complexity::Medium, "sim_sonnet", &["chat", "coder", "decomposition", "planning"]),
        (Complexity::Complex, "sim_opus", &["architect", "code_generation", "qa", "refactoring"]),
    ];
    for (complexity, name, task_types) in expected {
        let of: Vec<&String> =
            config.routing.task_types.iter().filter(|(_, to)| **to == complexity).map(|(task, _)| task).collect();
        assert_eq!(of, task_types);
        assert_eq!(config.routing.models[&complexity], name);
        let model = &config.models[name];
        assert_eq!(config.providers[&model.provider].kind, ProviderKind::Simulated);
        assert!(model.price.is_some());
        let simulated = model.simulated.as_ref().unwrap();
        assert_eq!((simulated.failure_rate, simulated.throttle_rate), (0.0, 0.0));
    }
}

#[test]
fn shipped_real_models_have_a_provider_with_a_key_by_reference() {
    let config = Config::shipped().unwrap();
    let expected = [
        ("flash", "gemini-3.8-flash", "env:GEMINI_API_KEY"),
        ("haiku", "claude-haiku-5-5", "env:ANTHROPIC_API_KEY"),
        ("sonnet", "claude-sonnet-5-5", "env:ANTHROPIC_API_KEY"),
        ("opus", "claude-opus-5-5", "env:ANTHROPIC_API_KEY"),
        ("gpt", "gpt-6-sol", "env:OPENAI_API_KEY"),
        ("gpt_mini", "gpt-6-luna", "env:OPENAI_API_KEY"),
    ];
    for (model, name, key) in expected {
        let model = &config.models[model];
        assert_eq!(model.name, name);
        let provider = &config.providers[&model.provider];
        assert_eq!(provider.api_key.as_ref().map(SecretRef::to_string).as_deref(), Some(key));
        assert!(provider.base_url.is_some());
    }
}

#[test]
fn the_shipped_file_as_a_persons_own_file_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("actors.toml"), SHIPPED).unwrap();
    let loaded = load(&Source { search_dir: dir.path().into(), ..Source::default() }).unwrap();
    assert_eq!(loaded.config, Config::shipped().unwrap());
}
