//! Which layer wins, what a file's tables do to the shipped ones, and what `print` says of it.

use super::Case;
use crate::config::{Complexity, Config, Origin, ProviderKind, SecretRef, Source, entries, load, print};

#[test]
fn no_file_and_an_empty_file_are_the_shipped_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let source = Source { search_dir: dir.path().into(), ..Source::default() };
    let loaded = load(&source).unwrap();
    assert_eq!(loaded.config, Config::shipped().unwrap());
    assert_eq!((loaded.path, loaded.base_dir.as_path()), (None, dir.path()));
    assert!(loaded.origins.values().all(|origin| *origin == Origin::Default));

    let empty = Case::new("");
    let loaded = empty.loaded();
    assert_eq!(loaded.config, Config::shipped().unwrap());
    assert_eq!(loaded.path, Some(empty.dir.path().join("actors.toml")));
}

#[test]
fn a_named_file_wins_over_the_one_in_the_folder_and_must_exist() {
    let mut case = Case::new("[log]\nfilter = \"debug\"");
    let other = case.dir.path().join("sub");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("mine.toml"), "[log]\nfilter = \"warn\"").unwrap();
    case.source.path = Some(other.join("mine.toml"));
    let loaded = case.loaded();
    assert_eq!(loaded.config.log.filter, "warn");
    assert_eq!(loaded.base_dir, other);

    case.source.path = Some(other.join("missing.toml"));
    assert_eq!(case.problems(), ["E0106 0 "]);
    case.source.path = Some(other.clone());
    assert_eq!(case.problems(), ["E0106 0 "]);
}

#[test]
fn secret_files_are_looked_for_beside_the_configuration_file() {
    let case = Case::new("database.url = \"file:url\"\nproviders.openai.api_key = \"file:/run/key\"");
    std::fs::write(case.dir.path().join("url"), "postgres://here\n").unwrap();
    let config = case.loaded().config;
    assert!(config.database.url.read().unwrap().is_some());
    assert_eq!(config.providers["openai"].api_key, Some(SecretRef::File("/run/key".into())));
}

#[test]
fn the_folder_of_relative_paths_is_never_empty() {
    let loaded = load(&Source { search_dir: "".into(), path: None, ..Source::default() }).unwrap();
    assert_eq!(loaded.base_dir.to_str(), Some("."));
}

#[test]
fn environment_wins_over_the_file_and_overrides_win_over_both() {
    let case = Case::new("[queues.default]\nlimit = 7\n[runtime]\njob_threads = 3\n[log]\nfilter = \"warn\"")
        .env("SINGULARITY__QUEUES__DEFAULT__LIMIT", "20")
        .env("SINGULARITY__RUNTIME__JOB_THREADS", "4")
        .setting("runtime.job_threads", "5")
        .setting("runtime.job_threads", "6");
    let loaded = case.loaded();
    assert_eq!(loaded.config.queues["default"].limit, 20);
    assert_eq!(loaded.config.runtime.job_threads, 6);
    let origin = |key: &str| loaded.origins[key].to_string();
    assert_eq!(origin("queues.default.limit"), "environment variable SINGULARITY__QUEUES__DEFAULT__LIMIT");
    assert_eq!(origin("runtime.job_threads"), "--set runtime.job_threads");
    assert_eq!(origin("log.filter"), format!("{}:6", loaded.path.as_ref().unwrap().display()));
    assert_eq!(origin("runtime.max_restarts"), "default");
}

#[test]
fn environment_values_are_read_by_the_type_of_their_key() {
    let config = Case::new("")
        .env("SINGULARITY__INSTANCE__CAPABILITIES", "llm, embedding")
        .env("SINGULARITY__INSTANCE__ID", "123")
        .env("SINGULARITY__QUEUES__PATTERN_MINING__PAUSED", "true")
        .env("SINGULARITY__EMBEDDED__LINGER", "500ms")
        .env("SINGULARITY__MODELS__SIM_FLASH__PRICE__INPUT", "3")
        .env("SINGULARITY__MODELS__SIM_FLASH__SIMULATED__OUTPUT_TOKENS", "5,9")
        .env("SINGULARITY__MODELS__SIM_FLASH__SIMULATED__SEED", "9_223_372_036_854_775_807")
        .env("SINGULARITY__DATABASE__URL", "file:/run/secrets/url")
        .env("SINGULARITY__ROUTING__TASK_TYPES__SUMMARY", "simple")
        .env("SINGULARITY__LOG__FORMAT", "json")
        .env("SINGULARITY_TOKEN", "not ours")
        .env("DATABASE_URL", "not ours either")
        .loaded()
        .config;
    assert_eq!(config.instance.capabilities, ["llm", "embedding"]);
    assert_eq!(config.instance.id, "123");
    assert!(config.queues["pattern_mining"].paused);
    assert_eq!(config.embedded.linger.to_string(), "500ms");
    let model = &config.models["sim_flash"];
    assert_eq!(model.price.as_ref().map(|price| (price.input, price.output)), Some((3.0, 3.75)));
    let simulated = model.simulated.as_ref().unwrap();
    assert_eq!((simulated.output_tokens, simulated.seed), ((5, 9), i64::MAX as u64));
    assert_eq!(config.database.url, SecretRef::File("/run/secrets/url".into()));
    assert_eq!(config.routing.task_types["summary"], Complexity::Simple);
}

#[test]
fn a_file_that_names_a_queue_runs_only_the_queues_it_names() {
    let config = Case::new("[queues.default]").loaded().config;
    assert_eq!(config.queues.keys().collect::<Vec<_>>(), ["default"]);
    assert_eq!(Case::new("[queues]").loaded().config.queues.len(), 4);
    let inline = Case::new("queues = { default = { limit = 1 }, x = {} }").loaded().config;
    assert_eq!(inline.queues.keys().collect::<Vec<_>>(), ["default", "x"]);
}

#[test]
fn providers_models_and_task_types_are_added_to_the_shipped_ones() {
    let file = r#"
        providers.local = { kind = "openai", base_url = "http://127.0.0.1:8080/v1" }
        models.tiny = { provider = "local", name = "tiny-1" }
        [routing]
        task_types.chat = "simple"
        task_types.summary = "simple"
        models.simple = "tiny"
    "#;
    let (config, shipped) = (Case::new(file).loaded().config, Config::shipped().unwrap());
    assert_eq!(config.models.len(), shipped.models.len() + 1);
    assert_eq!(config.providers.len(), shipped.providers.len() + 1);
    assert_eq!(config.routing.models[&Complexity::Simple], "tiny");
    assert_eq!(config.routing.models[&Complexity::Medium], "sim_sonnet");
    assert_eq!(config.routing.task_types["chat"], Complexity::Simple);
    assert_eq!(config.routing.task_types.len(), shipped.routing.task_types.len() + 1);
}

#[test]
fn an_entry_changes_key_by_key_until_it_states_what_it_is() {
    let shipped = Config::shipped().unwrap();
    let changed = Case::new("models.sim_flash.simulated.failure_rate = 0.5").loaded().config;
    let simulated = changed.models["sim_flash"].simulated.as_ref().unwrap();
    assert_eq!((simulated.failure_rate, simulated.latency.to_string().as_str()), (0.5, "120ms"));
    assert_eq!(changed.models["sim_flash"].price, shipped.models["sim_flash"].price);

    let file = "[models.sim_flash]\nprovider = \"openai\"\nname = \"x\"\n[providers.gemini]\nkind = \"simulated\"";
    let defined = Case::new(file).loaded().config;
    assert_eq!((&defined.models["sim_flash"].price, &defined.models["sim_flash"].simulated), (&None, &None));
    let gemini = &defined.providers["gemini"];
    assert_eq!((gemini.kind, &gemini.base_url), (ProviderKind::Simulated, &None));
}

#[test]
fn a_price_is_stated_as_a_whole() {
    let config = Case::new("models.sim_opus.price = { input = 1, output = 2.5 }").loaded().config;
    let price = config.models["sim_opus"].price.clone().unwrap();
    assert_eq!((price.input, price.output, price.cache_read), (1.0, 2.5, None));
}

#[test]
fn an_empty_simulated_table_counts_as_given() {
    let file = "[models.mine]\nprovider = \"simulated\"\nname = \"mine\"\n[models.mine.simulated]";
    assert!(Case::new(file).loaded().config.models["mine"].simulated.is_some());
}

#[test]
fn printed_text_loads_as_the_same_configuration() {
    let case = Case::new("[embedded]\nbin_dir = '/with \"quotes\"'\n[queues.default]\nlimit = 3")
        .env("SINGULARITY__LOG__FILTER", "warn");
    let loaded = case.loaded();
    let text = print(&loaded);
    assert_eq!(Case::new(&text).loaded().config, loaded.config, "{text}");
    let line = |key: &str| text.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    assert!(line("log.filter").ends_with("# environment variable SINGULARITY__LOG__FILTER"));
    assert!(line("queues.default.limit = 3").contains("actors.toml:4"));
    assert!(line("database.url = \"env:DATABASE_URL\"").ends_with("# default"));
    assert!(line("models.sim_flash.simulated.output_tokens = [20, 200]").ends_with("# default"));
}

#[test]
fn entries_have_a_json_form_with_the_layer_of_each_value() {
    let case = Case::new("[queues.default]\nlimit = 3").env("SINGULARITY__LOG__FILTER", "warn");
    let json = serde_json::to_value(entries(&case.loaded())).unwrap();
    let of = |key: &str| json.as_array().unwrap().iter().find(|entry| entry["key"] == key).unwrap().clone();
    assert_eq!(of("queues.default.limit")["value"], 3);
    assert_eq!(of("queues.default.limit")["origin"]["layer"], "file");
    assert_eq!(of("queues.default.limit")["origin"]["line"], 2);
    assert_eq!(of("queues.default.paused")["origin"]["layer"], "default");
    assert_eq!(of("log.filter")["origin"]["name"], "SINGULARITY__LOG__FILTER");
    assert_eq!(of("providers.openai.api_key")["value"], "env:OPENAI_API_KEY");
}
