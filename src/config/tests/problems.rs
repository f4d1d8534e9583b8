//! What is refused, that all of it is reported at once, and that no secret is repeated.

use proptest::prelude::*;

use super::Case;
use crate::config::{Config, Fault, Period, Queue, Source, load};
use crate::error::Coded as _;

/// Files of several mistakes each, with every `code line key` that is reported.
const BAD_FILES: &[(&str, &[&str])] = &[
    (
        "[queues.default]\nlimits = 3\nlimit = 0\npaused = \"yes\"\npoll_interval = 5\n[que]\nx = 1",
        &[
            "E0101 2 queues.default.limits",
            "E0103 3 queues.default.limit",
            "E0102 4 queues.default.paused",
            "E0102 5 queues.default.poll_interval",
            "E0101 6 que",
        ],
    ),
    (
        "plugins = [\n  \"repeater\",\n  \"cron\",\n  7,\n]\n[queues.\"Big One\"]\n[queues.default]\nlimit = 10_001",
        &["E0103 3 plugins", "E0102 4 plugins", "E0103 6 queues.\"Big One\"", "E0103 8 queues.default.limit"],
    ),
    (
        "[routing.models]\nsimple = \"sonet\"\nhard = \"opus\"\n[models.mine]\nprovider = \"opnai\"\nname = \"x\"",
        &["E0104 2 routing.models.simple", "E0101 3 routing.models.hard", "E0104 5 models.mine.provider"],
    ),
    (
        "[models.a]\n[models.b]\nprovider = \"openai\"\n[models.c]\nprovidr = \"openai\"\nname = \"c\"",
        &["E0103 1 models.a", "E0103 2 models.b", "E0101 5 models.c.providr"],
    ),
    (
        "[providers.a]\nkind = \"openai\"\n[providers.b]\nkind = \"anthropic\"\nbase_url = \"host/v1\"\n[providers.c]\nkind = \"cohere\"",
        &["E0103 1 providers.a", "E0103 5 providers.b.base_url", "E0103 7 providers.c.kind"],
    ),
    (
        "[providers.anthropic]\noutput_limit = \"max_tokens\"\n[providers.openai]\noutput_limit = \"tokens\"",
        &["E0103 2 providers.anthropic.output_limit", "E0103 4 providers.openai.output_limit"],
    ),
    (
        "[models.m]\nprovider = \"openai\"\nname = \"m\"\nmax_tokens = 0\nprice = { input = 1 }\n[models.m.simulated]\njitter = 1.5\nfailure_rate = -0.1\nthrottle_rate = nan\noutput_tokens = [9, 5]",
        &[
            "E0103 4 models.m.max_tokens",
            "E0103 5 models.m.price",
            "E0103 7 models.m.simulated.jitter",
            "E0103 8 models.m.simulated.failure_rate",
            "E0103 9 models.m.simulated.throttle_rate",
            "E0103 10 models.m.simulated.output_tokens",
        ],
    ),
    (
        "[models.m]\nprovider = \"openai\"\nname = \"m\"\n[models.m.simulated]\noutput_tokens = [1, 2]",
        &["E0103 4 models.m.simulated"],
    ),
    (
        "[models.m]\nprovider = \"simulated\"\nname = \"m\"\nsimulated.output_tokens = [1]",
        &["E0103 4 models.m.simulated.output_tokens"],
    ),
    (
        "[instance]\nid = \"a b\"\nheartbeat = \"10s\"\nstale_after = \"29s\"\n[database]\nschema = \"Oban\"\npool_max = 3\nurl = 5",
        &[
            "E0103 2 instance.id",
            "E0103 4 instance.stale_after",
            "E0103 6 database.schema",
            "E0103 7 database.pool_max",
            "E0105 8 database.url",
        ],
    ),
    ("[instance]\nheartbeat = \"11s\"", &["E0103 2 instance.heartbeat"]),
    (
        "[instance]\nheartbeat = \"50ms\"\nstale_after = \"1001d\"",
        &["E0103 2 instance.heartbeat", "E0103 3 instance.stale_after"],
    ),
    ("[queues.other]", &["E0104 0 workflows.llm_request.queue"]),
    ("[queues.Default]", &["E0103 1 queues.Default"]),
    (
        "[workflows.llm_request]\nqueue = \"defualt\"\nmax_attempts = 32768",
        &["E0104 2 workflows.llm_request.queue", "E0103 3 workflows.llm_request.max_attempts"],
    ),
    ("[workflows.embeddings]\nqueue = \"default\"", &["E0101 1 workflows.embeddings"]),
    ("queues = 5\nlog = []\n[[providers]]\nkind = \"openai\"", &["E0102 1 queues", "E0102 2 log", "E0102 3 providers"]),
    (
        "[routing]\ndefault_complexity = \"hard\"\ntask_types = { Chat = \"simple\", code = \"complx\" }",
        &["E0103 2 routing.default_complexity", "E0103 3 routing.task_types.Chat", "E0103 3 routing.task_types.code"],
    ),
    ("[log]\nformat = \"xml\"\nfilter = \"\"", &["E0103 2 log.format", "E0103 3 log.filter"]),
    (
        "[runtime]\njob_threads = 99999999999999999999\nmax_restarts = 1.5\nmax_window = 2024-01-01",
        &["E0103 2 runtime.job_threads", "E0102 3 runtime.max_restarts", "E0102 4 runtime.max_window"],
    ),
    ("[log]\nformat = \nfilter = \"x\"\nfilter = \"y\"", &["E0107 2 ", "E0107 4 "]),
    (
        "[cron.a]\nexpr = \"60 * * * *\"\nworker = \"w\"\n[cron.b]\nexpr = \"@daily\"\n[cron.c]\nworkr = \"w\"\n\
         [cron.d]\nexpr = \"* * * * 7\"\nworker = \"\"\nargs = 5\nqueue = \"a b\"\nmax_attempts = 0\npriority = 10\n\
         tags = [\"ok\", \" \"]\nmeta = { cron = false }\ntimezone = \"Europe/Berln\"\ncatch_up = \"every\"\n\
         catch_up_within = \"1s\"\n[cron.e]\nexpr = \"0 0 30 2 *\"\nworker = \"w\"\nargs = { at = 2026-01-01 }\n\
         meta = \"[1]\"\n[cron.Big-One]\nexpr = \"@daily\"",
        &[
            "E0103 2 cron.a.expr",
            "E0103 4 cron.b",
            "E0101 7 cron.c.workr",
            "E0103 9 cron.d.expr",
            "E0103 10 cron.d.worker",
            "E0102 11 cron.d.args",
            "E0103 12 cron.d.queue",
            "E0103 13 cron.d.max_attempts",
            "E0103 14 cron.d.priority",
            "E0103 15 cron.d.tags",
            "E0103 16 cron.d.meta",
            "E0103 17 cron.d.timezone",
            "E0103 18 cron.d.catch_up",
            "E0103 19 cron.d.catch_up_within",
            "E0103 21 cron.e.expr",
            "E0103 23 cron.e.args",
            "E0103 24 cron.e.meta",
            "E0103 25 cron.Big-One",
        ],
    ),
    (
        "[cron.a]\nexpr = \"@daily\"\nworker = \"w\"\n[cron.a.unique]\nfields = [\"args\", \"arg\"]\nkeys = [\"\"]\n\
         period = \"0s\"\nstates = [\"success\"]\ntimestamp = \"now\"\nreplace = []",
        &[
            "E0103 5 cron.a.unique.fields",
            "E0103 6 cron.a.unique.keys",
            "E0103 7 cron.a.unique.period",
            "E0103 8 cron.a.unique.states",
            "E0103 9 cron.a.unique.timestamp",
            "E0101 10 cron.a.unique.replace",
        ],
    ),
    (
        "[services.reindexer]\nschedule = \"61 * * * *\"\ntimezone = \"Berlin\"",
        &["E0103 2 services.reindexer.schedule", "E0103 3 services.reindexer.timezone"],
    ),
    ("[services.reindexer]\nschedule = \"@reboot\"", &["E0103 2 services.reindexer.schedule"]),
    (
        "[agents.a]\nsystem_prompt = \"x\"\n[agents.b]\ncapabilities = [\"code\"]\nmodel = \"sim_embedding\"\n\
         [agents.c]\ncapabilities = [\"Two Words\"]\nmodel = \"nobody\"\nparallel = 0\n\
         [models.m]\nprovider = \"simulated\"\nname = \"m\"\nembedding = { shorten = true }\n\
         [models.n]\nprovider = \"simulated\"\nname = \"n\"\nkind = \"embedding\"\nembedding = { shorten = true }\n\
         [workflows.embedding]\nmodel = \"m\"",
        &[
            "E0103 1 agents.a",
            "E0103 5 agents.b.model",
            "E0103 7 agents.c.capabilities",
            "E0104 8 agents.c.model",
            "E0103 9 agents.c.parallel",
            "E0103 13 models.m.embedding",
            "E0103 18 models.n.embedding.shorten",
            "E0103 20 workflows.embedding.model",
        ],
    ),
    ("[embedded]\ndata_dir = \"\"\nlinger = \"soon\"", &["E0103 2 embedded.data_dir", "E0103 3 embedded.linger"]),
];

#[test]
fn every_problem_of_a_file_is_reported_in_the_order_of_the_file() {
    for (file, expected) in BAD_FILES {
        let case = Case::new(file);
        assert_eq!(case.problems(), *expected, "{file}\n\n{}", case.report());
    }
}

/// Only the binary installs a subscriber, so only it knows what a filter is.
#[cfg(feature = "cli")]
#[test]
fn a_log_filter_that_no_subscriber_takes_is_refused() {
    let case = Case::new("[log]\nfilter = \"a=b=c\"");
    assert_eq!(case.problems(), ["E0103 2 log.filter"], "{}", case.report());
}

#[test]
fn a_log_filter_that_would_say_nothing_at_all_is_refused() {
    for (filter, hint) in [
        ("warning", "did you mean \"warn\"?"),
        ("info,inof", "did you mean \"info\"?"),
        ("info,queue", "write \"info,queue=trace\""),
        ("", ""),
    ] {
        let case = Case::new(&format!("[log]\nfilter = \"{filter}\""));
        assert_eq!(case.problems(), ["E0103 2 log.filter"], "{filter}: {}", case.report());
        assert!(case.report().contains(hint), "{}", case.report());
    }
    for filter in ["info", "WARN", "3", "info,", "queue=debug,error"] {
        let case = Case::new(&format!("[log]\nfilter = \"{filter}\""));
        assert!(case.problems().is_empty(), "{filter}: {}", case.report());
    }
}

#[test]
fn a_report_shows_line_caret_and_way_out_and_ends_with_a_count() {
    let case =
        Case::new("[queues.default]\nlimt = 20\n\n[instance]\nid = \"one two\"").env("SINGULARITY__LOGS__FILTER", "x");
    assert_eq!(
        case.report(),
        r#"error[E0101]: queues.default.limt: unknown key "limt" in [queues.default]
  at actors.toml:2
  2 | limt = …
    | ^^^^
  try: did you mean "limit"?

error[E0103]: instance.id: "one two" is not an instance id, expected 1 to 63 visible ASCII characters without spaces
  at actors.toml:5
  5 | id = "one two"
    |      ^^^^^^^^^
  try: write "auto" for host name and process id

error[E0101]: logs.filter: unknown key "logs" at the top level
  at environment variable SINGULARITY__LOGS__FILTER
  try: did you mean SINGULARITY__LOG__FILTER?

3 problems in the configuration"#
    );
    let errors = case.load().unwrap_err();
    assert_eq!(errors.code(), "E0101");
    let json = serde_json::to_value(&errors).unwrap();
    assert_eq!(json["problems"][1]["code"], "E0103");
    assert_eq!(json["problems"][1]["origin"]["line"], 5);
}

#[test]
fn suggestions_name_the_nearest_word_or_where_a_key_belongs() {
    let cases = [
        ("[queues.default]\nlimt = 1", "did you mean \"limit\"?"),
        (
            "[queues.default]\nconcurrency = 1",
            "use one of the keys that are known here: limit, paused, start, poll_interval, dispatch_cooldown, on_stuck, \
             blocking_max",
        ),
        ("heartbeat = \"5s\"", "move it: \"heartbeat\" is a key of [instance]"),
        ("[routing.models]\nsimple = \"sim_flsh\"", "did you mean \"sim_flash\"?"),
        ("[queues.default]\npoll_interval = 30", "name the unit: \"30s\" or \"30ms\""),
        ("[queues.default]\nlimit = \"30\"", "write 30 without quotes"),
        ("[queues]\ndefault = 10", "write [queues.default] and below it the line limit = …"),
        ("[instance]\ncapabilities = \"llm\"", "write [\"llm\"]"),
        ("[queues.default]\n[queues.Pattern-Mining]", "write pattern_mining"),
        ("[log]\nformat = \"jsn\"", "write \"json\""),
        ("[queues.default]\non_stuck = \"realease\"", "write \"release\""),
        (
            "[services.leader]\ncampaign = true",
            "remove it: an instance campaigns unless nodes of another runtime lead; to decide it yourself, write \
             mode = \"standalone\", \"guest\" or \"peer\" at the top of the file",
        ),
        ("[services.reindexer]\nschedule = \"@midnigth\"", "write \"@midnight\""),
        ("[services.reindexer]\nindexes = [\"users_pkey\"]", "write names such as \"oban_jobs_args_index\""),
        ("mode = \"gest\"", "write \"guest\""),
        ("[instance]\nmode = \"guest\"", "move it: \"mode\" stands at the top of the file, before the first table"),
        ("[services.pruner]\nmax_age = 60", "name the unit: \"60s\" or \"60ms\""),
        ("[services.pruner]\nmax_age = false", "write \"off\""),
        ("[queues.other]", "add [queues.default], with paused = true if this instance shall not work on it"),
        (
            "plugins = [\"lifeline\"]",
            "taking over the jobs of dead instances is always on and set in [services.lifeline]; remove the entry",
        ),
    ];
    for (file, expected) in cases {
        let errors = Case::new(file).load().unwrap_err();
        let [problem] = errors.problems() else { panic!("{errors}") };
        assert_eq!(problem.suggestion.as_deref(), Some(expected), "{file}");
    }
}

#[test]
fn variables_and_overrides_that_lead_nowhere_are_errors() {
    let cases = [
        ("SINGULARITY__QUEUES__DEFUALT__LIMIT", "5", "E0108 0 queues.defualt.limit"),
        ("SINGULARITY__QUEUES__DEFAULT__LIMT", "5", "E0101 0 queues.default.limt"),
        ("SINGULARITY__QUEUES__DEFAULT__LIMIT__X", "5", "E0101 0 queues.default.limit.x"),
        ("SINGULARITY__QUEUES__DEFAULT", "5", "E0108 0 queues.default"),
        ("SINGULARITY__QUEUES", "5", "E0108 0 queues"),
        ("SINGULARITY__", "5", "E0101 0 "),
        ("SINGULARITY__QUEUES__DEFAULT__LIMIT", "many", "E0102 0 queues.default.limit"),
        ("SINGULARITY__QUEUES__DEFAULT__LIMIT", "0", "E0103 0 queues.default.limit"),
        ("SINGULARITY__DATABASE__URL", "postgres://u:p@h/d", "E0105 0 database.url"),
        ("SINGULARITY__ROUTING__TASK_TYPES__A-B", "simple", "E0103 0 routing.task_types.a-b"),
        ("SINGULARITY__MODELS__SONNET__PRICE__INPUT", "2", "E0103 0 models.sonnet.price"),
    ];
    for (name, value, expected) in cases {
        let case = Case::new("").env(name, value);
        assert_eq!(case.problems(), [expected], "{name}={value}\n{}", case.report());
        let key = name["SINGULARITY__".len()..].to_lowercase().replace("__", ".");
        assert_eq!(Case::new("").setting(&key, value).problems(), [expected], "{key}={value}");
    }
    let errors = Case::new("").env("SINGULARITY__QUEUES__DEFUALT__LIMIT", "5").load().unwrap_err();
    let suggestion = errors.problems()[0].suggestion.as_deref();
    assert_eq!(suggestion, Some("did you mean SINGULARITY__QUEUES__DEFAULT__LIMIT?"));
}

#[test]
fn variables_are_checked_even_when_the_file_cannot_be_read() {
    let case =
        Case::new("[log\n").env("SINGULARITY__RUNTIME__JOB_THREADS", "x").env("SINGULARITY__QUEUES__Q__LIMIT", "1");
    assert_eq!(case.problems(), ["E0107 1 ", "E0102 0 runtime.job_threads"]);
    let case = Case::new("");
    std::fs::write(case.dir.path().join("actors.toml"), [0xff, 0xfe]).unwrap();
    assert_eq!(case.problems(), ["E0106 0 "]);
    std::fs::write(case.dir.path().join("actors.toml"), vec![b'#'; 1024 * 1024 + 1]).unwrap();
    assert_eq!(case.problems(), ["E0106 0 "]);
}

#[test]
fn a_secret_that_was_pasted_is_never_repeated() {
    const SECRET: &str = "hunter2hunter2";
    let files = [
        "[database]\nurl = \"SECRET\"",
        "[database]\nurl = \"postgres://me:SECRET@host/db\"",
        "[database]\nurl = \"env:sk-SECRET\"",
        "[database]\npassword = \"SECRET\"",
        "[providers.openai]\napi_key = \"SECRET\"",
        "[providers.openai]\napi_key = [\n  \"SECRET\",\n]",
        "[providers.openai]\napi_key = \"SECRET",
        "[providers.openai]\napi_key = \"\"\"\nSECRET\n\"\"\" x",
        "[providers.openai]\nbase_url = \"https://me:SECRET@host/v1\"",
        "[providers.openai]\nbase_url = \"https://host/v1?key=SECRET\"",
        "[providers]\nopenai = \"SECRET\"",
        "providers.openai = { kind = \"openai\", api_key = \"SECRET\" }",
        "providers.openai = { kind = \"openai\", api_key = \"SECRET\" ",
        "[providers.openai]\ntimeouts = \"SECRET\"",
        "[database]\npool_max = 3 url = \"SECRET\"",
        "[database]\npool_max = 3 # SECRET",
        "[database]\nschema = \"postgres://me:SECRET@host/db\"",
        "[log]\nformat = \"https://SECRET@host\"",
    ];
    for file in files {
        let case = Case::new(&file.replace("SECRET", SECRET));
        let errors = case.load().unwrap_err();
        for text in [errors.to_string(), format!("{errors:?}"), serde_json::to_string(&errors).unwrap()] {
            assert!(!text.contains(SECRET), "{file}\n\n{text}");
        }
    }
    for key in ["DATABASE__URL", "PROVIDERS__OPENAI__API_KEY", "DATABASE__PASSWORD", "PROVIDERS__OPENAI"] {
        let case = Case::new("").env(&format!("SINGULARITY__{key}"), SECRET).setting("database.url", SECRET);
        let errors = case.load().unwrap_err();
        assert!(!format!("{errors} {errors:?} {:?}", case.source).contains(SECRET), "{key}\n\n{errors}");
    }
}

#[test]
fn a_literal_secret_has_its_own_code() {
    let errors = Case::new("[providers.openai]\napi_key = \"sk-1\"").load().unwrap_err();
    assert_eq!(errors.problems()[0].fault, Fault::LiteralSecret);
}

#[test]
fn a_report_of_very_many_problems_is_cut_and_counted() {
    let file: String = (0..500).map(|index| format!("k{index} = 1\n")).collect();
    let report = Case::new(&file).report();
    assert!(report.ends_with("500 problems in the configuration, 400 of them not shown"));
    assert_eq!(report.matches("error[").count(), 100);
}

/// Lines that look like configuration, so that random files get past the parser.
fn line() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "limit",
        "kind",
        "provider",
        "name",
        "api_key",
        "url",
        "heartbeat",
        "price",
        "simulated",
        "plugins",
        "timeouts",
        "\"ä b\"",
        "a.b.c",
        "x",
    ]);
    let value = prop::sample::select(vec![
        "1",
        "-9223372036854775808",
        "0xffffffffffffffff",
        "nan",
        "1e400",
        "\"\"",
        "\"30s\"",
        "\"ü\\u0000\"",
        "[]",
        "[[1], {a = 1}]",
        "{}",
        "true",
        "1979-05-27",
        "\"\"\"\nx",
        "{ input = 1, output = -1 }",
    ]);
    let table = prop::sample::select(vec![
        "queues",
        "queues.default",
        "models.m",
        "models.m.simulated",
        "providers.p",
        "routing.models",
        "log",
        "instance",
        "routing.task_types",
        "\"\"",
        "a",
    ]);
    prop_oneof![
        (key, value).prop_map(|(key, value)| format!("{key} = {value}")),
        table.clone().prop_map(|table| format!("[{table}]")),
        table.prop_map(|table| format!("[[{table}]]")),
        ".{0,20}",
    ]
}

proptest! {
    #[test]
    fn no_input_panics_and_every_report_can_be_printed(
        lines in prop::collection::vec(line(), 0..12),
        variable in "[A-Z_.]{0,12}",
        value in ".{0,12}",
    ) {
        let case = Case::new(&lines.join("\n"))
            .env(&format!("SINGULARITY__{variable}"), &value)
            .setting(&variable, &value);
        if let Err(errors) = case.load() {
            prop_assert!(!errors.problems().is_empty());
            prop_assert!(errors.to_string().contains("in the configuration"));
        }
    }

    #[test]
    fn a_value_behind_the_name_of_a_variable_never_panics(
        key in prop::sample::select(vec![
            "queues.default.limit", "queues.default.poll_interval", "models.sim_opus.price.input", "log.filter",
            "models.sim_opus.simulated.output_tokens", "database.schema", "providers.openai.base_url", "plugins",
        ]),
        value in "\\PC{0,16}",
    ) {
        let overrides = vec![(key.to_owned(), value)];
        let result = load(&Source { search_dir: "/nonexistent".into(), overrides, ..Source::default() });
        if let Err(errors) = result {
            prop_assert_eq!(&errors.problems()[0].key, key);
        }
    }
}

#[test]
fn fields_that_a_program_sets_have_the_ranges_of_a_file() {
    for config in [Config::default(), Config::shipped().unwrap()] {
        config.check().unwrap_or_else(|errors| panic!("{errors}"));
    }
    let mut config = Config::shipped().unwrap();
    config.instance.stale_after = Period::from_secs(5);
    config.services.stager.interval = Period::from_secs(0);
    config.queues.insert("mail".into(), Queue { limit: 0, ..Queue::default() });
    let errors = config.check().unwrap_err();
    let keys: Vec<&str> = errors.problems().iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["instance.stale_after", "queues.mail.limit", "services.stager.interval"]);
    assert!(errors.to_string().contains("at a field that the program sets"), "{errors}");
    let mut config = Config::shipped().unwrap();
    config.instance.heartbeat = Period::from_secs(20);
    let errors = config.check().unwrap_err();
    assert_eq!((errors.problems().len(), errors.problems()[0].key.as_str()), (1, "instance.stale_after"));
}
