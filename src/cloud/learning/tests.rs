//! Tests of the types of learnings.

use serde_json::json;

use super::*;
use crate::error::Coded;

fn routing() -> Value {
    json!({"routing_rules": [{
        "job_type": "llm_request", "route": "complex", "reference": "opus",
        "models": [{"model": "opus", "weight": 0.9}, {"model": "sonnet", "weight": 0.1}],
    }]})
}

fn claim() -> Value {
    json!({
        "estimated_savings": {"fraction": 0.15, "per_success_nanousd": 1_500_000},
        "settings": {"cell": "llm_request/complex", "prefer": "sonnet", "instead_of": "opus"},
    })
}

fn benchmark() -> Value {
    json!({"benchmarks": [{
        "job_type": "llm_request", "route": "complex", "model": "opus", "n": 100, "success_rate": 0.95,
        "success_low": 0.89, "success_high": 0.98, "cost_per_success_nanousd": 10_000_000, "latency_p50_ms": 900,
        "latency_p95_ms": null,
    }]})
}

fn pattern() -> Value {
    json!({"pattern_name": "classifier>coder", "pattern_definition": {"steps": ["classifier", "coder"]}})
}

fn read(kind: &str, payload: &Value) -> Result<Payload, LearningError> {
    Payload::read(kind, SCHEMA_VERSION, payload)
}

/// `payload` with the value at `pointer` replaced.
fn with(mut payload: Value, pointer: &str, value: Value) -> Value {
    *payload.pointer_mut(pointer).unwrap() = value;
    payload
}

#[test]
fn each_type_reads_its_payload_and_writes_it_again() {
    let all = [
        ("model_routing", routing(), "llm_request/complex"),
        ("pattern_discovery", pattern(), "classifier>coder"),
        ("cost_optimization", claim(), "llm_request/complex"),
        ("performance_benchmark", benchmark(), "llm_request/complex"),
    ];
    for (kind, payload, key) in all {
        let read = read(kind, &payload).unwrap();
        assert_eq!((read.kind().as_str(), read.key().as_str()), (kind, key));
        assert_eq!(read.to_json(), payload);
    }
}

#[test]
fn a_message_is_read_in_two_parts_and_survives_the_way() {
    let payload = read("model_routing", &routing()).unwrap();
    let mut learning = Learning::new(7, &payload, "Use sonnet more.", DateTime::UNIX_EPOCH);
    learning.rolls_back = Some(3);
    learning.evidence = json!({"n": 5});
    let message = serde_json::to_value(&learning).unwrap();
    assert_eq!(message["v"], 1);
    assert_eq!(message["type"], "model_routing");
    assert_eq!(Learning::from_message(&message).unwrap(), learning);
    assert_eq!(learning.read().unwrap(), payload);
}

#[test]
fn a_message_that_is_no_learning_says_why() {
    let learning = Learning::new(7, &read("model_routing", &routing()).unwrap(), "", DateTime::UNIX_EPOCH);
    let message = serde_json::to_value(learning).unwrap();
    let cases = [
        (json!(null), "invalid type: null"),
        (json!({"v": 1}), "missing field `id`"),
        (with(message.clone(), "/v", json!(2)), "v is 2, expected 1"),
        (with(message.clone(), "/id", json!(0)), "id is 0"),
        (with(message, "/created_at", json!("yesterday")), "invalid characters"),
    ];
    for (message, reason) in cases {
        let error = Learning::from_message(&message).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(error.code(), "E1101");
    }
}

#[test]
fn a_later_type_or_shape_is_unknown_and_not_wrong() {
    for (kind, version) in [("prompt_rewrite", 1), ("model_routing", 2)] {
        let error = Payload::read(kind, version, &json!({"anything": true})).unwrap_err();
        assert!(error.is_unknown() && error.code() == "E1102", "{error}");
    }
}

#[test]
fn a_payload_of_another_shape_is_refused() {
    let unknown_key = with(routing(), "/routing_rules/0", json!({"weights": []}));
    for (kind, payload) in [("model_routing", unknown_key), ("model_routing", claim()), ("cost_optimization", json!(1))]
    {
        assert_eq!(read(kind, &payload).unwrap_err().code(), "E1103", "{payload}");
    }
}

#[test]
fn a_value_that_is_not_allowed_is_named() {
    let rule = "/routing_rules/0";
    let at = |field: &str| format!("{rule}/{field}");
    let too_many: Vec<_> = (0..33).map(|n| json!({"model": format!("m{n}"), "weight": 1.0 / 33.0})).collect();
    let cases = [
        ("model_routing", with(routing(), "/routing_rules", json!([])), "routing_rules is 0, expected 1 to 1"),
        ("model_routing", with(routing(), &at("job_type"), json!("a/b")), "job_type is \"a/b\""),
        ("model_routing", with(routing(), &at("route"), json!("")), "route is \"\""),
        ("model_routing", with(routing(), &at("models"), json!(too_many)), "models is 33"),
        ("model_routing", with(routing(), &at("models/0/weight"), json!(0.8)), "the sum of the weights is 0.9"),
        ("model_routing", with(routing(), &at("models/0/weight"), json!(1.8)), "the weight of opus is 1.8"),
        ("model_routing", with(routing(), &at("models/1/weight"), json!(-0.1)), "the weight of sonnet is -0.1"),
        ("model_routing", with(routing(), &at("models/1/model"), json!("opus")), "models is \"opus\", expected each"),
        ("model_routing", with(routing(), &at("reference"), json!("gpt")), "the weight of the reference is 0.0"),
        ("pattern_discovery", with(pattern(), "/pattern_name", json!("a b")), "pattern_name is \"a b\""),
        ("pattern_discovery", with(pattern(), "/pattern_definition", json!([])), "expected an object"),
        ("cost_optimization", with(claim(), "/estimated_savings/fraction", json!(-0.1)), "fraction is -0.1"),
        ("cost_optimization", with(claim(), "/settings/prefer", json!("opus")), "expected another model"),
        ("performance_benchmark", with(benchmark(), "/benchmarks/0/success_low", json!(0.96)), "in rising order"),
        ("performance_benchmark", with(benchmark(), "/benchmarks/0/success_rate", json!(1.5)), "from 0 to 1"),
    ];
    for (kind, payload, text) in cases {
        let error = read(kind, &payload).unwrap_err();
        assert!(error.to_string().contains(text), "{error}\n{text}");
        assert_eq!(error.code(), "E1104");
    }
}

#[test]
fn a_key_that_is_not_its_payloads_is_refused() {
    let mut learning = Learning::new(1, &read("model_routing", &routing()).unwrap(), "", DateTime::UNIX_EPOCH);
    learning.key = "llm_request/simple".into();
    assert!(learning.read().unwrap_err().to_string().contains("\"llm_request/complex\", which its payload is about"));
}

#[test]
fn it_expires_at_its_time() {
    let mut learning = Learning::new(1, &read("model_routing", &routing()).unwrap(), "", DateTime::UNIX_EPOCH);
    let now = DateTime::UNIX_EPOCH;
    assert!(!learning.is_expired(now));
    learning.expires_at = Some(now);
    assert!(learning.is_expired(now));
}

#[test]
fn cells_are_written_with_a_slash() {
    let cell: Cell = "llm_request/complex".parse().unwrap();
    assert_eq!((cell.job_type.as_str(), cell.route.as_str()), ("llm_request", "complex"));
    assert_eq!(cell.to_string(), "llm_request/complex");
    for bad in ["", "a", "a/", "/b", "a/b/c", "a b/c"] {
        assert!(bad.parse::<Cell>().is_err(), "{bad}");
    }
}
