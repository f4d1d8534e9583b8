//! What is read, and what each refusal says.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn good() -> Value {
    json!({
        "job_id": 1, "attempt": 1, "hop": 0, "success": true, "job_type": "llm_request", "route": "complex",
        "provider": "simulated", "model": "sim_opus", "policy_version": 7, "propensity": 0.25, "outcome": "success",
        "simulated": true, "cached": false, "cost_nanousd": 12_345, "tokens_input": 10, "tokens_output": 20,
        "duration_ms": 5, "time_to_first_token_ms": 1, "completed_at": "2026-01-02T03:04:05Z", "patterns": ["a>b"],
    })
}

fn message(record: Value) -> String {
    json!({ "v": 1, "instance_id": "a", "records": [record] }).to_string()
}

fn refusal(body: &str) -> String {
    Records::parse(Some(body)).unwrap_err()
}

#[test]
fn a_good_message_is_read_and_written_the_same() {
    let read = Records::parse(Some(&message(good()))).unwrap();
    assert_eq!(serde_json::to_value(&read.records[0]).unwrap(), good());
    // What is not known may be left out.
    let least = json!({
        "job_id": 1, "attempt": 1, "success": false, "job_type": "x", "outcome": "failure", "duration_ms": 0,
        "completed_at": "2026-01-02T03:04:05Z", "of_a_later_version": 1,
    });
    assert_eq!(Records::parse(Some(&message(least))).unwrap().records[0].cost_nanousd, None);
}

#[test]
fn a_job_may_succeed_whose_model_did_not() {
    let cut = json!({ "outcome": "failure", "success": true });
    let mut record = good();
    record.as_object_mut().unwrap().extend(cut.as_object().unwrap().clone());
    let read = Records::parse(Some(&message(record))).unwrap();
    assert_eq!((read.records[0].success, read.records[0].outcome), (true, Attempted::Failure));
}

#[test]
fn each_refusal_names_what_is_wrong() {
    assert!(Records::parse(None).unwrap_err().contains("NULL"));
    for body in ["null", "[]", "\"x\"", "7", "true"] {
        assert_eq!(refusal(body), "the message is no object", "{body}");
    }
    assert!(refusal("{}").contains("missing field `v`"));
    assert!(refusal(r#"{"v":2}"#).contains("version 2 is not known"));
    assert!(refusal(r#"{"v":"1"}"#).contains("version \"1\" is not known"));
    assert!(refusal(r#"{"v":1}"#).contains("instance_id"));
    assert!(refusal(&"{".repeat(MESSAGE_BYTES_MAX + 1)).contains("allowed are 4194304"));
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    let cases = [
        ("job_id", json!("1")),
        ("job_id", json!(0)),
        ("job_id", json!(1e30)),
        ("attempt", json!(i64::MAX)),
        ("outcome", json!("splendid")),
        ("outcome", json!("infrastructure")),
        ("cost_nanousd", json!(-1)),
        ("cost_nanousd", json!(i64::MAX)),
        ("tokens_input", json!(1.5)),
        ("duration_ms", json!(null)),
        ("propensity", json!(0.0)),
        ("propensity", json!(1.5)),
        ("job_type", json!("")),
        ("model", json!(long)),
        ("completed_at", json!("yesterday")),
        ("completed_at", json!("+12026-01-02T03:04:05Z")),
        ("patterns", json!([1])),
        ("patterns", json!(vec!["x"; PATTERNS_MAX + 1])),
    ];
    for (field, value) in cases {
        let mut record = good();
        record[field] = value.clone();
        let reason = refusal(&message(record));
        let of_serde = ["invalid", "unknown variant", "out of range"].iter().any(|word| reason.contains(word));
        assert!(reason.contains(field) || of_serde, "{field} = {value}: {reason}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in any::<String>(), key in "[a-z_]{1,12}", number in any::<f64>()) {
        drop(Records::parse(Some(&text)));
        let mut record = good();
        record[&key] = json!(number);
        drop(Records::parse(Some(&message(record))));
    }
}
