//! Every way in which a call can fail, in both formats, with its class, its cost and the advice to the job.

use std::time::Duration;

use singularity::config::{Config, Period, SecretRef};
use singularity::error::Coded;
use singularity::llm::{Advice, ChatRequest, ErrorClass, Gateway, LlmError};

use crate::llm_wire::{BOTH, config, gateway, impatient};
use crate::support::provider::{FakeProvider, Reply, Wire};

fn request() -> ChatRequest {
    ChatRequest::prompt("sixteen bytes ok")
}

/// The error of one call, and how many requests that took.
async fn fail(wire: Wire, script: impl IntoIterator<Item = Reply>) -> (LlmError, usize) {
    let provider = FakeProvider::with(wire, script).await;
    let error = gateway(wire, &provider).chat("m", &request(), 1).await.unwrap_err();
    (error, provider.calls())
}

/// The same with short time limits, for servers that fall silent.
async fn fail_impatiently(wire: Wire, script: impl IntoIterator<Item = Reply>) -> (LlmError, usize) {
    let provider = FakeProvider::with(wire, script).await;
    let error = impatient(wire, &provider).chat("m", &request(), 1).await.unwrap_err();
    (error, provider.calls())
}

#[tokio::test]
async fn a_429_snoozes_for_as_long_as_it_asks() {
    for wire in BOTH {
        let (error, calls) = fail(wire, [Reply::throttled("7")]).await;
        assert_eq!((error.class, error.status, calls), (ErrorClass::Throttled, Some(429), 1));
        assert_eq!(error.advice(0.0), Advice::Snooze(Duration::from_secs(7)));
        assert_eq!((error.code(), error.provider_code.as_deref()), ("E0503", Some("rate_limit_error")));
        let text = "throttled: model m of provider p: status 429 rate_limit_error: message of 429 (request req_4711)";
        assert_eq!(error.to_string(), text);
        assert!(error.sent && error.partial.is_none());
    }
}

#[tokio::test]
async fn a_429_holds_back_what_is_called_after_it_for_as_long_as_it_asks() {
    for wire in BOTH {
        let provider = FakeProvider::with(wire, [Reply::throttled("7")]).await;
        let mut config = config(wire, &provider.base_url(), None);
        config.models.get_mut("m").unwrap().limits.tokens_per_minute = Some(30_000);
        let gateway = Gateway::new(&config).unwrap();
        let sized = |max_tokens| ChatRequest { max_tokens: Some(max_tokens), ..request() };
        let error = gateway.chat("m", &sized(4_200), 1).await.unwrap_err();
        assert_eq!((error.class, error.sent), (ErrorClass::Throttled, true));
        // What the first did not use is no room for the next, however small that is.
        let error = gateway.chat("m", &sized(10), 2).await.unwrap_err();
        assert_eq!((error.class, error.sent, provider.calls()), (ErrorClass::Throttled, false, 1));
        assert!(error.retry_after.unwrap() > Duration::from_secs(6), "{error:?}");
    }
}

#[tokio::test]
async fn used_up_money_is_never_retried() {
    for wire in BOTH {
        let (error, calls) = fail(wire, [Reply::exhausted(wire)]).await;
        assert_eq!((error.class, calls), (ErrorClass::Exhausted, 1));
        assert_eq!(error.advice(0.5), Advice::Cancel);
        let (error, _) = fail(wire, [Reply::status(402, "billing_error")]).await;
        assert_eq!(error.class, ErrorClass::Exhausted);
    }
}

#[tokio::test]
async fn trouble_of_the_provider_spends_an_attempt() {
    for wire in BOTH {
        for status in [409, 500, 502, 503, 504] {
            let (error, calls) = fail(wire, [Reply::status(status, "api_error")]).await;
            assert_eq!((error.class, error.status, calls), (ErrorClass::Transient, Some(status), 1));
            assert_eq!(error.advice(0.5), Advice::Retry);
        }
    }
}

#[tokio::test]
async fn a_529_snoozes() {
    for wire in BOTH {
        let (error, calls) = fail(wire, [Reply::overloaded().with_header("retry-after-ms", "2500")]).await;
        assert_eq!((error.class, error.status, calls), (ErrorClass::Overloaded, Some(529), 1));
        assert_eq!(error.advice(0.0), Advice::Snooze(Duration::from_millis(2_500)));
        let (error, _) = fail(wire, [Reply::overloaded()]).await;
        assert!(matches!(error.advice(0.0), Advice::Snooze(_)));
    }
}

#[tokio::test]
async fn wrong_requests_and_wrong_configuration_are_final() {
    for wire in BOTH {
        for (status, class) in [
            (400, ErrorClass::Permanent),
            (413, ErrorClass::Permanent),
            (422, ErrorClass::Permanent),
            (401, ErrorClass::Misconfigured),
            (403, ErrorClass::Misconfigured),
            (404, ErrorClass::Misconfigured),
        ] {
            let (error, calls) = fail(wire, [Reply::status(status, "some_error")]).await;
            assert_eq!((error.class, calls), (class, 1), "{status}");
            assert_eq!(error.advice(0.5), Advice::Cancel);
            assert!(error.hint().is_some());
        }
    }
}

#[tokio::test]
async fn a_malformed_answer_is_trouble_of_the_provider_and_shown() {
    for wire in BOTH {
        for body in ["<html>welcome to the proxy</html>", "{\"id\": \"cut", "{}", "", "data: {\"cut\n\n"] {
            let (error, calls) = fail(wire, [Reply::Body { content_type: "text/html", body: body.into() }]).await;
            assert_eq!((error.class, error.status), (ErrorClass::Transient, Some(200)), "{body}: {error}");
            assert!(error.partial.is_none(), "{body}: {error}");
            assert_eq!(calls, 1, "{body}");
        }
        let (error, _) = fail(wire, [Reply::Body { content_type: "text/html", body: "<html>oops".into() }]).await;
        assert!(error.message.contains("<html>oops"), "{error}");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_tells_what_it_cost() {
    for wire in BOTH {
        for reply in [Reply::BreakOff("12345678".into()), Reply::Stall("12345678".into())] {
            let (error, calls) = fail_impatiently(wire, [reply]).await;
            assert_eq!((error.class, calls), (ErrorClass::Transient, 1), "{error}");
            assert_eq!(error.advice(0.5), Advice::Retry);
            let partial = error.partial.unwrap();
            assert_eq!((partial.text_bytes, partial.estimated, partial.usage.output), (8, true, 2));
            assert!(partial.time_to_first_token_ms.is_some());
            // Anthropic has told the input at once; OpenAI's is guessed from the 16 bytes of the request.
            let input = if wire == Wire::Anthropic { 12 } else { 4 };
            assert_eq!(partial.usage.input_total(), input);
            assert_eq!(partial.cost.nanousd, Some(input as i64 * 100 + 1_000));
        }
    }
}

#[tokio::test]
async fn an_error_in_the_stream_has_its_class_and_its_cost() {
    for wire in BOTH {
        let in_stream = |text: &str, kind: &str| Reply::StreamError { text: text.into(), kind: kind.into() };
        let (error, calls) = fail(wire, [in_stream("1234", "overloaded_error")]).await;
        assert_eq!((error.class, calls), (ErrorClass::Overloaded, 1));
        assert_eq!(error.partial.unwrap().text_bytes, 4);
        let (error, _) = fail(wire, [in_stream("1234", "api_error")]).await;
        assert_eq!(error.class, ErrorClass::Transient);
    }
}

#[tokio::test]
async fn a_refusal_is_not_a_failure_of_the_provider_and_costs() {
    let openai = r#"{"choices":[{"message":{"content":""},"finish_reason":"content_filter"}],"usage":{"prompt_tokens":10,"completion_tokens":0}}"#;
    let anthropic =
        r#"{"type":"message","content":[],"stop_reason":"refusal","usage":{"input_tokens":10,"output_tokens":0}}"#;
    for (wire, body) in BOTH.into_iter().zip([openai, anthropic]) {
        let (error, calls) = fail(wire, [Reply::Body { content_type: "application/json", body: body.into() }]).await;
        assert_eq!((error.class, error.advice(0.5), calls), (ErrorClass::Refused, Advice::Cancel, 1));
        let partial = error.partial.unwrap();
        assert_eq!((partial.estimated, partial.cost.nanousd), (false, Some(1_000)));
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_in_time_is_given_up_and_not_asked_again_for_what_it_may_bill() {
    for wire in BOTH {
        let (error, calls) = fail_impatiently(wire, [Reply::Hang, Reply::stream("too late")]).await;
        assert_eq!((error.class, error.status, calls), (ErrorClass::Transient, None, 1));
        assert_eq!(error.message, "nothing came within 2s, the time limit first_byte");
        assert_eq!(error.advice(0.5), Advice::Retry);
    }
}

#[tokio::test]
async fn one_lost_connection_before_the_answer_is_not_noticed() {
    for wire in BOTH {
        for lost in [Reply::Close, Reply::status(408, "timeout")] {
            let provider = FakeProvider::with(wire, [lost, Reply::stream("second")]).await;
            let answer = gateway(wire, &provider).chat("m", &request(), 1).await.unwrap();
            assert_eq!((answer.text.as_str(), provider.calls()), ("second", 2));
            assert!(answer.duration_ms >= 375, "the wait before the retry counts: {}", answer.duration_ms);
        }
    }
}

#[tokio::test]
async fn nobody_there_is_transient() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Gateway::new(&config(Wire::Openai, &format!("http://{free}/v1"), None)).unwrap();
    let error = gateway.chat("m", &request(), 1).await.unwrap_err();
    assert_eq!((error.class, error.advice(0.5)), (ErrorClass::Transient, Advice::Retry));
    assert!(error.message.to_lowercase().contains("refused"), "{error}");
    assert!(!error.message.contains(&free.to_string()), "addresses may be private: {error}");
}

#[tokio::test]
async fn the_total_limit_ends_a_call_that_never_stalls() {
    let provider = FakeProvider::with(Wire::Openai, [Reply::Stall("1234".into())]).await;
    let mut config = config(Wire::Openai, &provider.base_url(), None);
    let timeouts = &mut config.providers.get_mut("p").unwrap().timeouts;
    (timeouts.idle, timeouts.total) = (Period::from_secs(60), Period::from_secs(2));
    let error = Gateway::new(&config).unwrap().chat("m", &request(), 1).await.unwrap_err();
    assert!(error.message.ends_with("the answer was not there within 2s, the time limit total"), "{error}");
    assert_eq!(error.partial.unwrap().text_bytes, 4);
}

#[tokio::test]
async fn redirects_are_not_followed_with_the_key() {
    let elsewhere = FakeProvider::start(Wire::Anthropic).await;
    let redirect = Reply::status(307, "x").with_header("location", &format!("{}/v1/messages", elsewhere.base_url()));
    let (error, calls) = fail(Wire::Anthropic, [redirect]).await;
    assert_eq!((error.class, error.status, calls), (ErrorClass::Misconfigured, Some(307), 1));
    assert_eq!(elsewhere.calls(), 0);
}

#[tokio::test]
async fn a_key_that_the_server_repeats_is_hidden() {
    let key_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key_file.path(), "sk-secret").unwrap();
    for wire in BOTH {
        let refusal =
            Reply::status(401, "authentication_error").with_message("wrong key: sk-secret").with_code("sk-secret");
        let provider = FakeProvider::with(wire, [refusal]).await;
        let key = SecretRef::File(key_file.path().to_owned());
        let gateway = Gateway::new(&config(wire, &provider.base_url(), Some(key))).unwrap();
        let error = gateway.chat("m", &request(), 1).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Misconfigured);
        assert!(error.message.contains("wrong key: [key]"), "{error}");
        let again = gateway.chat("m", &request(), 1).await.unwrap_err();
        for text in [format!("{error:?}"), format!("{again:?}"), format!("{gateway:?}")] {
            assert!(!text.contains("sk-secret"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_missing_key_is_an_error_of_the_call_and_works_once_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    for (wire, reference, advice) in [
        (Wire::Openai, SecretRef::File(path.clone()), format!("there is no key: write it to {}", path.display())),
        (
            Wire::Anthropic,
            SecretRef::env("SINGULARITY_TEST_NO_KEY"),
            "there is no key: set SINGULARITY_TEST_NO_KEY".into(),
        ),
    ] {
        let provider = FakeProvider::start(wire).await;
        let gateway = Gateway::new(&config(wire, &provider.base_url(), Some(reference))).unwrap();
        for _ in 0..3 {
            let error = gateway.chat("m", &request(), 1).await.unwrap_err();
            assert_eq!(
                (error.class, error.sent, error.advice(0.5)),
                (ErrorClass::Misconfigured, false, Advice::Cancel)
            );
            assert_eq!(error.message, advice);
        }
        assert_eq!(provider.calls(), 0);
        if wire == Wire::Openai {
            std::fs::write(&path, "sk-now").unwrap();
            assert!(gateway.chat("m", &request(), 1).await.is_ok());
        }
    }
}

#[tokio::test]
async fn bad_requests_are_not_sent() {
    let provider = FakeProvider::start(Wire::Openai).await;
    let gateway = gateway(Wire::Openai, &provider);
    let error = gateway.chat("m", &ChatRequest::prompt(" "), 1).await.unwrap_err();
    assert_eq!((error.class, error.sent), (ErrorClass::Permanent, false));
    assert_eq!(error.message, "message 0 (user) is blank; remove the message or give it content");
    assert_eq!(provider.calls(), 0);
}

#[tokio::test]
async fn an_unknown_model_is_named_with_the_nearest_one() {
    let gateway = Gateway::new(&config(Wire::Openai, "http://127.0.0.1:1", None)).unwrap();
    let error = gateway.chat("othre", &request(), 1).await.unwrap_err();
    assert_eq!((error.class, error.code()), (ErrorClass::Misconfigured, "E0506"));
    assert_eq!(error.to_string(), "model \"othre\" is not in [models]; did you mean \"other\"?");
    let error = gateway.chat("zzz", &request(), 1).await.unwrap_err();
    assert_eq!(error.to_string(), "model \"zzz\" is not in [models]; there are m, other");
    let empty = Gateway::new(&Config::default()).unwrap();
    let error = empty.chat("m", &request(), 1).await.unwrap_err();
    assert_eq!(error.to_string(), "model \"m\" is not in [models], which is empty");
}
