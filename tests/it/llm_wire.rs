//! Answers of both formats over real connections: what is sent, what comes back, what it costs.

use singularity::config::{Config, Model, Period, Provider, ProviderKind, SecretRef, Timeouts};
use singularity::llm::{Answer, ChatRequest, FinishReason, Gateway, Message, Role, Usage};

use crate::support::provider::{FakeProvider, REQUEST_ID, Reply, USAGE, Wire};

pub const BOTH: [Wire; 2] = [Wire::Openai, Wire::Anthropic];

/// One provider `p` with the models `m` and `other`, and time limits that no answer meets on a busy machine.
pub fn config(wire: Wire, base_url: &str, key: Option<SecretRef>) -> Config {
    let timeouts = Timeouts {
        connect: Period::from_secs(5),
        first_byte: Period::from_secs(20),
        idle: Period::from_secs(20),
        total: Period::from_secs(60),
    };
    let kind = match wire {
        Wire::Openai => ProviderKind::Openai,
        Wire::Anthropic => ProviderKind::Anthropic,
    };
    let provider =
        Provider { kind, base_url: Some(base_url.to_owned()), api_key: key, timeouts, ..Provider::default() };
    // 0.10 and 0.50 dollars per million tokens.
    let model = Model { provider: "p".into(), name: "claude-haiku-5-5".into(), ..Model::default() };
    Config {
        providers: [("p".to_owned(), provider)].into(),
        models: [("m".to_owned(), model.clone()), ("other".to_owned(), model)].into(),
        ..Config::default()
    }
}

pub fn gateway(wire: Wire, provider: &FakeProvider) -> Gateway {
    Gateway::new(&config(wire, &provider.base_url(), None)).unwrap()
}

/// A gateway that waits two seconds for a first byte or the next one.
pub fn impatient(wire: Wire, provider: &FakeProvider) -> Gateway {
    let mut config = config(wire, &provider.base_url(), None);
    let timeouts = &mut config.providers.get_mut("p").unwrap().timeouts;
    (timeouts.first_byte, timeouts.idle) = (Period::from_secs(2), Period::from_secs(2));
    Gateway::new(&config).unwrap()
}

fn request() -> ChatRequest {
    let message = |role, content: &str| Message { role, content: content.into() };
    ChatRequest {
        messages: vec![message(Role::System, "be brief"), message(Role::User, "Grüße?")],
        max_tokens: Some(77),
        temperature: Some(0.5),
        idempotency_key: Some("job-4711-call_llm".into()),
    }
}

#[tokio::test]
async fn a_streamed_answer_has_text_usage_times_and_cost() {
    for wire in BOTH {
        let provider = FakeProvider::with(wire, [Reply::stream("Grüße! \u{1F980}")]).await;
        let gateway = gateway(wire, &provider);
        let answer = gateway.chat("m", &request(), 1).await.unwrap();
        assert_eq!(answer.text, "Grüße! \u{1F980}");
        assert_eq!(answer.finish_reason, FinishReason::Stop);
        assert_eq!(answer.usage, Usage { input_fresh: USAGE.0, output: USAGE.1, ..Usage::default() });
        assert!(!answer.usage_estimated && !answer.simulated);
        // 12 × 100 + 5 × 500 nano-dollars.
        assert_eq!(answer.cost.nanousd, Some(3_700));
        assert_eq!(answer.cost.prices_version, gateway.prices_version());
        assert_eq!((answer.model.as_str(), answer.provider.as_str()), ("m", "p"));
        assert_eq!(answer.model_reported.as_deref(), Some("reported"));
        assert_eq!(answer.provider_request_id.as_deref(), Some(REQUEST_ID));
        assert!(answer.raw_usage.is_object(), "{}", answer.raw_usage);
        assert!(answer.time_to_first_token_ms <= answer.duration_ms);
        let stored = serde_json::to_value(&answer).unwrap();
        assert_eq!(serde_json::from_value::<Answer>(stored).unwrap(), answer);
    }
}

#[tokio::test]
async fn a_server_that_ignores_streaming_gives_the_same_answer() {
    for wire in BOTH {
        let provider = FakeProvider::with(wire, [Reply::Plain("whole".into())]).await;
        let answer = gateway(wire, &provider).chat("m", &request(), 1).await.unwrap();
        assert_eq!((answer.text.as_str(), answer.cost.nanousd), ("whole", Some(3_700)));
    }
}

#[tokio::test]
async fn each_format_is_sent_as_its_servers_expect_it() {
    let key_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key_file.path(), "sk-secret\n").unwrap();
    for wire in BOTH {
        let provider = FakeProvider::start(wire).await;
        let key = SecretRef::File(key_file.path().to_owned());
        let gateway = Gateway::new(&config(wire, &provider.base_url(), Some(key))).unwrap();
        gateway.chat("m", &request(), 1).await.unwrap();
        gateway.chat("m", &ChatRequest::prompt("x"), 1).await.unwrap();

        let received = provider.received();
        let (full, plain) = (&received[0], &received[1]);
        assert_eq!(full.header("content-type"), Some("application/json"));
        assert_eq!(full.header("idempotency-key"), Some("job-4711-call_llm"));
        assert_eq!(plain.header("idempotency-key"), None);
        assert_eq!(full.body["model"], "claude-haiku-5-5");
        assert_eq!(full.body["stream"], true);
        assert_eq!((&full.body["max_tokens"], &plain.body["max_tokens"]), (&77.into(), &1_024.into()));
        assert_eq!(full.body["temperature"], 0.5);
        match wire {
            Wire::Openai => {
                assert_eq!(full.path, "/v1/chat/completions");
                assert_eq!(full.header("authorization"), Some("Bearer sk-secret"));
                assert_eq!(full.body["stream_options"]["include_usage"], true);
                assert_eq!(full.body["messages"][0]["role"], "system");
                assert_eq!(full.body["messages"][1]["content"], "Grüße?");
            }
            Wire::Anthropic => {
                assert_eq!(full.path, "/v1/messages");
                assert_eq!(full.header("x-api-key"), Some("sk-secret"));
                assert_eq!(full.header("anthropic-version"), Some("2023-06-01"));
                assert_eq!(full.body["system"], "be brief");
                assert_eq!(full.body["messages"][0]["content"], "Grüße?");
            }
        }
    }
}

#[tokio::test]
async fn connections_are_reused() {
    for wire in BOTH {
        let provider =
            FakeProvider::with(wire, [Reply::stream("a"), Reply::Plain("b".into()), Reply::status(500, "x")]).await;
        let gateway = gateway(wire, &provider);
        for _ in 0..5 {
            let _any = gateway.chat("m", &request(), 1).await.is_ok();
        }
        assert_eq!((provider.calls(), provider.counts().connections), (5, 1));
    }
}

#[tokio::test]
async fn a_text_that_is_whole_counts_although_its_usage_never_came() {
    let provider = FakeProvider::with(Wire::Openai, [Reply::StallAtEnd("12345678".into())]).await;
    let answer = impatient(Wire::Openai, &provider).chat("m", &request(), 1).await.unwrap();
    assert_eq!(answer.text, "12345678");
    assert!(answer.usage_estimated && answer.raw_usage.is_null());
    // "be brief" and "Grüße?" are 16 bytes: 4 × 100 + 2 × 500 nano-dollars.
    assert_eq!((answer.usage.input_fresh, answer.usage.output, answer.cost.nanousd), (4, 2, Some(1_400)));
}

#[tokio::test]
async fn a_model_without_price_has_no_cost() {
    let provider = FakeProvider::start(Wire::Openai).await;
    let mut config = config(Wire::Openai, &provider.base_url(), None);
    config.models.get_mut("m").unwrap().name = "local-llama".into();
    let gateway = Gateway::new(&config).unwrap();
    let answer = gateway.chat("m", &request(), 1).await.unwrap();
    assert_eq!(answer.cost.nanousd, None);
    assert!(!gateway.model("m").unwrap().priced);
}

#[tokio::test]
async fn dropping_a_call_closes_its_connection() {
    for (wire, reply) in [(Wire::Openai, Reply::Hang), (Wire::Anthropic, Reply::Stall("some".into()))] {
        let provider = FakeProvider::with(wire, [reply]).await;
        let gateway = gateway(wire, &provider);
        let request = request();
        let call = gateway.chat("m", &request, 1);
        tokio::select! {
            outcome = call => panic!("the server keeps the client waiting: {outcome:?}"),
            () = provider.until(|counts| counts.calls == 1) => {}
        }
        provider.until(|counts| counts.hung_up == 1).await;
    }
}

#[tokio::test]
async fn many_calls_run_at_once() {
    let provider = FakeProvider::start(Wire::Openai).await;
    let gateway = gateway(Wire::Openai, &provider);
    let request = request();
    let answers = futures_util::future::join_all((0..200).map(|_| gateway.chat("m", &request, 1))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(provider.calls(), 200);
}
