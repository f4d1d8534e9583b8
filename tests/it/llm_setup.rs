//! The gateway from configuration: simulated models, status, and what is refused.

use singularity::config::{
    Config, EmbeddingModel, Model, ModelKind, Period, Price, Provider, ProviderKind, SecretRef, Simulated,
};
use singularity::llm::{ChatRequest, ErrorClass, Gateway, KeyState};

fn provider(kind: ProviderKind, base_url: Option<&str>) -> Provider {
    Provider { kind, base_url: base_url.map(str::to_owned), ..Provider::default() }
}

fn model(provider: &str, name: &str) -> Model {
    Model { provider: provider.into(), name: name.into(), ..Model::default() }
}

#[tokio::test(start_paused = true)]
async fn a_simulated_model_answers_is_priced_and_says_what_it_is() {
    let price = Price { input: 2.0, output: 10.0, cache_read: None, cache_write: None };
    let spec = Simulated { output_tokens: (50, 50), ..Simulated::default() };
    let config = Config {
        providers: [("sim".to_owned(), Provider::default())].into(),
        models: [("m".to_owned(), Model { price: Some(price), simulated: Some(spec), ..model("sim", "sim-small") })]
            .into(),
        ..Config::default()
    };
    let gateway = Gateway::new(&config).unwrap();
    assert!(gateway.model("m").is_some_and(|info| info.simulated && info.priced));
    assert_eq!(gateway.models().count(), 1);
    let request = ChatRequest::prompt("sixteen bytes ok");
    let answer = gateway.chat("m", &request, 1).await.unwrap();
    assert!(answer.simulated);
    assert_eq!((answer.usage.input_fresh, answer.usage.output), (4, 50));
    assert_eq!((answer.cost.nanousd, answer.cost.prices_version.as_str()), (Some(508_000), "actors.toml"));
    assert_eq!(gateway.chat("m", &request, 1).await.unwrap(), answer);
}

#[tokio::test(start_paused = true)]
async fn a_simulated_failure_can_succeed_later() {
    let spec = Simulated { failure_rate: 0.3, throttle_rate: 0.2, ..Simulated::default() };
    let config = Config {
        providers: [("sim".to_owned(), Provider::default())].into(),
        models: [("m".to_owned(), Model { simulated: Some(spec), ..model("sim", "sim") })].into(),
        ..Config::default()
    };
    let mut classes = Vec::new();
    for number in 0..100 {
        // A gateway each, so that no breaker stands between.
        let gateway = Gateway::new(&config).unwrap();
        let request = ChatRequest::prompt(format!("question {number}"));
        let mut attempt = 1;
        while let Err(error) = gateway.chat("m", &request, attempt).await {
            if error.sent {
                classes.push(error.class);
            } else {
                tokio::time::advance(error.retry_after.unwrap()).await;
            }
            attempt += 1;
            assert!(attempt < 50, "{error}");
        }
    }
    assert!(classes.contains(&ErrorClass::Transient) && classes.contains(&ErrorClass::Throttled), "{classes:?}");
}

#[test]
fn status_tells_which_keys_are_there() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("there"), "sk").unwrap();
    let with_key =
        |key| Provider { api_key: Some(key), ..provider(ProviderKind::Openai, Some("http://127.0.0.1:1/v1")) };
    let config = Config {
        providers: [
            ("a".to_owned(), with_key(SecretRef::File(folder.path().join("there")))),
            ("b".to_owned(), with_key(SecretRef::env("SINGULARITY_TEST_NO_KEY"))),
            ("c".to_owned(), provider(ProviderKind::Openai, Some("http://127.0.0.1:1/v1"))),
            ("d".to_owned(), Provider::default()),
        ]
        .into(),
        ..Config::default()
    };
    let status = Gateway::new(&config).unwrap().providers_status();
    let missing = KeyState::Missing { advice: "there is no key: set SINGULARITY_TEST_NO_KEY".into() };
    let keys: Vec<&KeyState> = status.iter().map(|provider| &provider.key).collect();
    assert_eq!(keys, [&KeyState::Present, &missing, &KeyState::NotNeeded, &KeyState::NotNeeded]);
    assert_eq!(status[0].url.as_deref(), Some("http://127.0.0.1:1/v1/chat/completions"));
    assert!(status[3].simulated && status[3].url.is_none());
    let json = serde_json::to_value(&status[1]).unwrap();
    assert_eq!((&json["key"]["state"], &json["breaker"]["state"]), (&"missing".into(), &"closed".into()));
}

#[test]
fn no_more_texts_are_sent_at_once_than_the_host_takes() {
    let google = "https://generativelanguage.googleapis.com/v1beta/openai";
    let spec = |batch_items| Some(EmbeddingModel { batch_items, dimensions: Some(3), ..EmbeddingModel::default() });
    for (host, batch_items, requests) in [("http://localhost/v1", None, 2), (google, None, 3), (google, Some(200), 2)] {
        let vectors = Model { kind: ModelKind::Embedding, embedding: spec(batch_items), ..model("p", "m") };
        let config = Config {
            providers: [("p".to_owned(), provider(ProviderKind::Openai, Some(host)))].into(),
            models: [("m".to_owned(), vectors)].into(),
            ..Config::default()
        };
        let gateway = Gateway::new(&config).unwrap();
        assert_eq!(gateway.embedding_batches("m", &["text"; 300]).unwrap().len(), requests, "{host}");
    }
}

#[test]
fn every_problem_is_reported_at_once() {
    let price = Price { input: -1.0, output: 1.0, cache_read: None, cache_write: None };
    let spec =
        Simulated { jitter: 2.0, failure_rate: 0.7, throttle_rate: 0.7, output_tokens: (9, 3), ..Simulated::default() };
    let mut slow = provider(ProviderKind::Anthropic, None);
    slow.timeouts.idle = Period::from_millis(0);
    let config = Config {
        providers: [
            ("anthropic".to_owned(), slow),
            ("local".to_owned(), provider(ProviderKind::Openai, Some("localhost:8000"))),
            ("sim".to_owned(), Provider::default()),
        ]
        .into(),
        models: [
            ("a".to_owned(), model("antropic", "x")),
            ("b".to_owned(), Model { max_tokens: Some(0), price: Some(price), ..model("sim", " ") }),
            ("c".to_owned(), Model { simulated: Some(spec), ..model("sim", "x") }),
        ]
        .into(),
        ..Config::default()
    };
    let problems = Gateway::new(&config).unwrap_err();
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let expected = [
        "providers.anthropic.timeouts.idle is 0s; allowed is 1ms and more",
        "providers.local.base_url: \"localhost:8000\" is no http or https address; write the root of the API, for example https://api.openai.com/v1",
        "models.a.provider is \"antropic\", which is not in [providers]; did you mean \"anthropic\"?",
        "models.b.name is blank; write the provider's name of the model",
        "models.b.max_tokens is 0; allowed is 1 and more",
        "models.b.price: price input is \"-1\"; a decimal from 0 to 1000000 with at most 6 decimals is allowed (dollars per million tokens)",
        "models.c.simulated.jitter is 2; allowed is 0 to 1",
        "models.c.simulated.failure_rate + throttle_rate + refusal_rate is 1.4; allowed is 0 to 1 together",
        "models.c.simulated.output_tokens is (9, 3); allowed is smallest and largest, from 1 to 100000",
    ];
    assert_eq!(texts, expected);
}
