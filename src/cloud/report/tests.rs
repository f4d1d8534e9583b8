//! Reports by hand.

use serde_json::json;

use super::*;
use crate::cloud::sums::tests::record;

fn period() -> Period {
    let at = |seconds: i64| DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap();
    Period { instance_id: "a".into(), reported_by: "b".into(), number: 3, start: at(0), end: at(30) }
}

#[test]
fn it_has_the_keys_of_the_first_design_and_sums() {
    let mut records = vec![
        record("opus", Attempted::Success, Some(20_000_000), 100),
        record("sonnet", Attempted::Success, Some(10_000_000), 300),
        record("sonnet", Attempted::Failure, None, 200),
        record("sonnet", Attempted::Cached, Some(0), 0),
    ];
    records[0].patterns = vec!["b".into(), "a".into()];
    records[1].patterns = vec!["b".into()];
    let report = serde_json::to_value(Report::of(&period(), &records)).unwrap();
    let expected = json!({
        "v": 1, "report_key": "a:3", "instance_id": "a", "reported_by": "b", "timestamp": "2023-11-14T22:13:50Z",
        "period_seconds": 30, "period_start": "2023-11-14T22:13:20Z", "period_end": "2023-11-14T22:13:50Z",
        "job_count": 4, "failures": 1, "success_rate": 0.75, "avg_cost_cents": 1.5, "avg_latency_ms": 200.0,
        "models_used": [{ "model": "opus", "count": 1 }, { "model": "sonnet", "count": 3 }],
        "patterns_discovered": ["a", "b"], "total_tokens": 21,
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&report[key], value, "{key}");
    }
    assert_eq!(report["sums"].as_array().unwrap().len(), 2);
}

#[test]
fn what_is_not_known_is_null_and_not_zero() {
    let report = Report::of(&period(), &[]);
    assert_eq!((report.success_rate, report.avg_cost_cents, report.avg_latency_ms), (None, None, None));
    let report = Report::of(&period(), &[record("m", Attempted::Failure, None, 1)]);
    assert_eq!((report.success_rate, report.avg_cost_cents), (Some(0.0), None));
}

#[test]
fn what_is_sent_is_read_and_what_is_not_one_is_refused() {
    let report = Report::of(&period(), &[record("m", Attempted::Success, Some(i64::MAX), 1)]);
    let body = serde_json::to_string(&report).unwrap();
    assert_eq!(Report::parse(Some(&body)).unwrap(), report);
    assert!(Report::parse(None).unwrap_err().contains("NULL"));
    assert!(Report::parse(Some(r#"{"v":1}"#)).unwrap_err().contains("report_key"));
    assert!(
        Report::parse(Some(&body.replacen("\"job_count\":1", "\"job_count\":-1", 1)))
            .unwrap_err()
            .contains("job_count")
    );
}
