//! Replies of providers and the classes they fall into.

use super::*;
use ErrorClass::{Exhausted, Misconfigured, Overloaded, Permanent, Refused, Throttled, Transient};

fn openai(kind: &str, code: &str) -> String {
    format!(r#"{{"error":{{"message":"text","type":"{kind}","param":null,"code":"{code}"}}}}"#)
}

fn anthropic(kind: &str) -> String {
    format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"text"}},"request_id":"req_1"}}"#)
}

fn class(status: u16, body: &str) -> ErrorClass {
    classify(Some(status), &Hints::default(), &ErrorBody::parse(body.as_bytes()))
}

fn headers(pairs: &[(&'static str, &str)]) -> Hints {
    let map = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    let now = DateTime::parse_from_rfc3339("2026-11-23T12:00:00Z").unwrap();
    Hints::read(&map, now.into())
}

#[test]
fn every_status_has_its_class_whatever_the_body() {
    let table = [
        (301, Misconfigured),
        (400, Permanent),
        (401, Misconfigured),
        (402, Exhausted),
        (403, Misconfigured),
        (404, Misconfigured),
        (405, Misconfigured),
        (408, Transient),
        (409, Transient),
        (413, Permanent),
        (418, Permanent),
        (422, Permanent),
        (429, Throttled),
        (500, Transient),
        (502, Transient),
        (503, Transient),
        (504, Transient),
        (529, Overloaded),
        (599, Transient),
    ];
    for (status, expected) in table {
        for body in
            ["", "{}", "[]", "null", "\"text\"", "<html>bad gateway</html>", r#"{"error":null}"#, r#"{"error":"x"}"#]
        {
            assert_eq!(class(status, body), expected, "{status} {body}");
        }
    }
}

#[test]
fn money_and_content_are_recognised_under_any_status() {
    assert_eq!(class(429, &openai("insufficient_quota", "insufficient_quota")), Exhausted);
    assert_eq!(class(429, &openai("requests", "rate_limit_exceeded")), Throttled);
    assert_eq!(class(403, &openai("x", "billing_not_active")), Exhausted);
    assert_eq!(class(402, &anthropic("billing_error")), Exhausted);
    let no_money = r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the API"}}"#;
    assert_eq!(class(400, no_money), Exhausted);
    assert_eq!(class(400, &openai("invalid_request_error", "content_policy_violation")), Refused);
    assert_eq!(class(400, &openai("invalid_request_error", "context_length_exceeded")), Permanent);
    assert_eq!(class(400, &openai("invalid_request_error", "invalid_api_key")), Misconfigured);
    assert_eq!(class(404, &openai("invalid_request_error", "model_not_found")), Misconfigured);
    assert_eq!(class(500, &anthropic("overloaded_error")), Overloaded);
}

#[test]
fn google_says_in_the_body_when_to_come_back() {
    let body = |delay: &str| {
        let details = format!(
            r#"[{{"@type":"type.googleapis.com/google.rpc.Help"}},
                {{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"{delay}"}}]"#
        );
        let body = format!(r#"[{{"error":{{"code":429,"message":"m","status":"X","details":{details}}}}}]"#);
        ErrorBody::parse(body.as_bytes()).retry_delay
    };
    assert_eq!(body("34s"), Some(Duration::from_secs(34)));
    assert_eq!(body("34.5s"), Some(Duration::from_millis(34_500)));
    assert_eq!(body("soon"), None);
}

#[test]
fn a_prompt_that_a_moderation_flagged_says_nothing_about_the_key() {
    let flagged = r#"{"error":{"code":403,"message":"Your chosen model requires moderation and your input was flagged",
        "metadata":{"reasons":["violence"],"flagged_input":"how to","provider_name":"OpenAI","model_slug":"gpt"}}}"#;
    assert_eq!(class(403, flagged), Refused);
    assert_eq!(classify(None, &Hints::default(), &ErrorBody::parse(flagged.as_bytes())), Refused);
    let other = r#"{"error":{"code":403,"message":"no access","metadata":{"provider_name":"OpenAI","reasons":null}}}"#;
    assert_eq!(class(403, other), Misconfigured);
}

#[test]
fn what_is_larger_than_the_limit_of_a_minute_is_not_waited_for() {
    let body = |message: &str| {
        format!(r#"{{"error":{{"message":"{message}","type":"tokens","param":null,"code":"rate_limit_exceeded"}}}}"#)
    };
    let too_large = "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 36278. The input or \
                     output tokens must be reduced in order to run successfully.";
    assert_eq!(class(429, &body(too_large)), Permanent);
    let retry = headers(&[("retry-after", "7"), ("x-should-retry", "true")]);
    assert_eq!(classify(Some(429), &retry, &ErrorBody::parse(body(too_large).as_bytes())), Permanent);
    let full = "Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000.";
    assert_eq!(class(429, &body(full)), Throttled);
}

#[test]
fn a_spend_limit_is_final_unless_its_end_is_announced() {
    let body = ErrorBody::parse(
        br#"{"type":"error","error":{"type":"rate_limit_error","message":"m","details":{"error_code":"enforced_spend_limit_reached"}}}"#,
    );
    assert_eq!(body.word(), Some("enforced_spend_limit_reached"));
    assert_eq!(classify(Some(429), &Hints::default(), &body), Exhausted);
    assert_eq!(classify(Some(429), &headers(&[("retry-after", "30")]), &body), Throttled);
}

#[test]
fn errors_inside_a_stream_are_classified_by_their_word() {
    let in_stream = |body: &str| classify(None, &Hints::default(), &ErrorBody::parse(body.as_bytes()));
    let words = [
        ("overloaded_error", Overloaded),
        ("rate_limit_error", Throttled),
        ("billing_error", Exhausted),
        ("invalid_request_error", Permanent),
        ("authentication_error", Misconfigured),
        ("api_error", Transient),
        ("timeout_error", Transient),
        ("something_new", Transient),
    ];
    for (word, expected) in words {
        assert_eq!(in_stream(&anthropic(word)), expected, "{word}");
    }
    assert_eq!(in_stream(r#"{"error":{"code":502,"message":"upstream"}}"#), Transient);
    assert_eq!(in_stream(r#"{"error":{"code":429,"message":"slow down"}}"#), Throttled);
    assert_eq!(in_stream(r#"[{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT"}}]"#), Permanent);
}

#[test]
fn should_retry_wins_over_the_status_where_a_retry_is_the_question() {
    let with = |status, value| classify(Some(status), &headers(&[("x-should-retry", value)]), &ErrorBody::default());
    assert_eq!(with(500, "false"), Permanent);
    assert_eq!(with(400, "true"), Transient);
    assert_eq!(with(500, "perhaps"), Transient);
    assert_eq!(with(401, "true"), Misconfigured);
    assert_eq!(with(429, "false"), Throttled);
}

#[test]
fn the_wait_is_read_in_the_order_of_the_official_clients() {
    let wait = |pairs: &[(&'static str, &str)]| headers(pairs).retry_after;
    let secs = |secs| Some(Duration::from_secs_f64(secs));
    assert_eq!(wait(&[("retry-after-ms", "1500"), ("retry-after", "9")]), secs(1.5));
    assert_eq!(wait(&[("retry-after-ms", "soon"), ("retry-after", "9")]), secs(9.0));
    assert_eq!(wait(&[("retry-after", "0.5")]), secs(0.5));
    assert_eq!(wait(&[("retry-after", "Mon, 23 Nov 2026 12:00:20 GMT")]), secs(20.0));
    assert_eq!(wait(&[("retry-after", "Mon, 23 Nov 2026 11:00:00 GMT")]), secs(0.0));
    assert_eq!(wait(&[("retry-after", "9999999999")]), Some(RETRY_AFTER_MAX));
    for nonsense in ["", "-1", "NaN", "inf", "tomorrow"] {
        assert_eq!(wait(&[("retry-after", nonsense)]), None, "{nonsense}");
    }
    let reset = ("x-ratelimit-reset-tokens", "6m0s");
    assert_eq!(wait(&[reset, ("x-ratelimit-remaining-tokens", "0")]), secs(360.0));
    assert_eq!(wait(&[reset, ("x-ratelimit-remaining-tokens", "5")]), None);
    assert_eq!(go_duration("1h2m3.5s20ms"), secs(3_723.52));
    for nonsense in ["s", "5", "5y", "5sm", "..s", "1e9s"] {
        assert_eq!(go_duration(nonsense), None, "{nonsense}");
    }
}
