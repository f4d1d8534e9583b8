//! Breakers behind the gateway: what later calls meet after a failure.

use std::time::Duration;

use singularity::config::{Config, Model, Period, Provider, Simulated};
use singularity::llm::{Advice, BreakerView, ChatRequest, ErrorClass, Gateway};

use crate::llm_wire::{BOTH, gateway};
use crate::support::provider::{FakeProvider, Reply};

fn request() -> ChatRequest {
    ChatRequest::prompt("hello")
}

#[tokio::test]
async fn money_and_rejected_keys_hold_back_the_whole_provider() {
    for wire in BOTH {
        for (reply, class) in [
            (Reply::exhausted(wire), ErrorClass::Exhausted),
            (Reply::status(401, "authentication_error"), ErrorClass::Misconfigured),
        ] {
            let provider = FakeProvider::with(wire, [reply]).await;
            let gateway = gateway(wire, &provider);
            let first = gateway.chat("m", &request(), 1).await.unwrap_err();
            for model in ["m", "other"] {
                let error = gateway.chat(model, &request(), 1).await.unwrap_err();
                assert_eq!((error.class, error.sent, error.advice(0.5)), (class, false, Advice::Cancel));
                assert!(error.message.ends_with(&first.message), "{error}");
            }
            assert_eq!(provider.calls(), 1);
            assert!(matches!(gateway.providers_status()[0].breaker, BreakerView::Open { .. }));
        }
    }
}

#[tokio::test]
async fn a_missing_model_holds_back_itself_alone() {
    for wire in BOTH {
        let provider = FakeProvider::with(wire, [Reply::status(404, "not_found_error")]).await;
        let gateway = gateway(wire, &provider);
        for sent in [true, false] {
            let error = gateway.chat("m", &request(), 1).await.unwrap_err();
            assert_eq!((error.class, error.sent), (ErrorClass::Misconfigured, sent));
        }
        assert!(gateway.chat("other", &request(), 1).await.is_ok());
        let status = &gateway.providers_status()[0];
        assert_eq!((&status.breaker, &status.models["other"]), (&BreakerView::Closed, &BreakerView::Closed));
        assert!(matches!(status.models["m"], BreakerView::Open { .. }));
    }
}

#[tokio::test]
async fn two_limits_in_a_row_hold_the_model_back_for_as_long_as_they_ask() {
    for wire in BOTH {
        let provider = FakeProvider::with(wire, [Reply::throttled("30"), Reply::throttled("30")]).await;
        let gateway = gateway(wire, &provider);
        for _ in 0..2 {
            assert_eq!(gateway.chat("m", &request(), 1).await.unwrap_err().class, ErrorClass::Throttled);
        }
        let held = gateway.chat("m", &request(), 1).await.unwrap_err();
        assert_eq!((held.class, held.sent, provider.calls()), (ErrorClass::Overloaded, false, 2));
        let Advice::Snooze(wait) = held.advice(0.0) else { panic!("{held}") };
        assert!(wait > Duration::from_secs(25) && wait <= Duration::from_secs(30), "{wait:?}");
    }
}

#[tokio::test]
async fn five_failures_hold_the_model_back_and_one_rejected_request_does_not() {
    for wire in BOTH {
        let provider = FakeProvider::start(wire).await;
        let gateway = gateway(wire, &provider);
        provider.set_default(Reply::status(400, "invalid_request_error"));
        for _ in 0..10 {
            assert!(gateway.chat("other", &request(), 1).await.unwrap_err().sent);
        }
        provider.set_default(Reply::status(500, "api_error"));
        for _ in 0..5 {
            assert_eq!(gateway.chat("m", &request(), 1).await.unwrap_err().class, ErrorClass::Transient);
        }
        let held = gateway.chat("m", &request(), 1).await.unwrap_err();
        assert_eq!((held.class, held.sent, provider.calls()), (ErrorClass::Overloaded, false, 15));
        assert!(held.message.contains("status 500 api_error"), "{held}");
    }
}

fn simulated(spec: Simulated) -> Gateway {
    let model = Model { provider: "sim".into(), name: "sim".into(), simulated: Some(spec), ..Model::default() };
    let config = Config {
        providers: [("sim".to_owned(), Provider::default())].into(),
        models: [("m".to_owned(), model)].into(),
        ..Config::default()
    };
    Gateway::new(&config).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_failing_model_is_left_alone_then_probed_once() {
    let gateway = simulated(Simulated { failure_rate: 1.0, latency: Period::from_millis(10), ..Simulated::default() });
    for attempt in 1..=5 {
        let error = gateway.chat("m", &request(), attempt).await.unwrap_err();
        assert_eq!((error.class, error.simulated, error.sent), (ErrorClass::Transient, true, true));
    }
    let held = gateway.chat("m", &request(), 6).await.unwrap_err();
    assert_eq!((held.class, held.sent), (ErrorClass::Overloaded, false));
    assert!(matches!(held.advice(0.0), Advice::Snooze(wait) if wait <= Duration::from_secs(5)));

    tokio::time::advance(Duration::from_secs(5)).await;
    let request = request();
    let calls = futures_util::future::join_all((7..17).map(|attempt| gateway.chat("m", &request, attempt))).await;
    assert_eq!(calls.iter().filter(|outcome| outcome.as_ref().unwrap_err().sent).count(), 1);
    assert!(matches!(gateway.providers_status()[0].models["m"], BreakerView::Open { retry_in_ms: 9_000.., .. }));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_probe_does_not_hold_the_model_back_for_ever() {
    let gateway = simulated(Simulated { failure_rate: 1.0, latency: Period::from_secs(1), ..Simulated::default() });
    let request = request();
    for attempt in 1..=5 {
        assert!(gateway.chat("m", &request, attempt).await.is_err());
    }
    tokio::time::advance(Duration::from_secs(5)).await;
    let probe = tokio::time::timeout(Duration::from_millis(1), gateway.chat("m", &request, 6)).await;
    assert!(probe.is_err(), "dropped on its way");
    assert!(gateway.chat("m", &request, 7).await.unwrap_err().sent);
}
