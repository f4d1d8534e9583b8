//! What is held does not depend on how it came.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn routing(id: i64, route: &str, weight: f64) -> Learning {
    let models = json!([{ "model": "opus", "weight": 1.0 - weight }, { "model": "flash", "weight": weight }]);
    let rule = json!({ "job_type": "llm_request", "route": route, "reference": "opus", "models": models });
    of(id, "model_routing", &format!("llm_request/{route}"), json!({ "routing_rules": [rule] }))
}

fn of(id: i64, kind: &str, key: &str, payload: Value) -> Learning {
    Learning::from_row(id, kind, key, 1, payload, DateTime::UNIX_EPOCH)
}

fn all(learnings: impl IntoIterator<Item = Learning>) -> Learned {
    let mut learned = Learned::default();
    for learning in learnings {
        learned.take(learning).unwrap();
    }
    learned
}

#[test]
fn each_type_becomes_what_it_says() {
    let claim = json!({
        "estimated_savings": { "fraction": 0.15, "per_success_nanousd": 1_000 },
        "settings": { "cell": "llm_request/complex", "prefer": "flash", "instead_of": "opus" },
    });
    let benchmark = json!({ "benchmarks": [{
        "job_type": "llm_request", "route": "complex", "model": "flash", "n": 10, "success_rate": 0.9,
        "success_low": 0.6, "success_high": 1.0, "cost_per_success_nanousd": null,
        "latency_p50_ms": 1, "latency_p95_ms": 2,
    }]});
    let learned = all([
        routing(1, "complex", 0.25),
        of(2, "pattern_discovery", "a>b", json!({ "pattern_name": "a>b", "pattern_definition": {} })),
        of(3, "cost_optimization", "llm_request/complex", claim),
        of(4, "performance_benchmark", "llm_request/complex", benchmark),
    ]);
    let now = DateTime::UNIX_EPOCH;
    let policy = learned.policy(Orders::default(), now);
    let rule = policy.rule("llm_request/complex").unwrap();
    assert_eq!((rule.version, rule.reference.as_str(), rule.weights[1].weight), (1, "opus", 0.25));
    assert_eq!(policy.preferred("llm_request/complex"), Some("flash"));
    assert_eq!(learned.patterns(now).map(|from| from.learning_id).collect::<Vec<_>>(), [2]);
    assert_eq!(learned.benchmarks(now).map(|measured| measured.n).collect::<Vec<_>>(), [10]);
    assert_eq!(learned.version(), 4);
}

#[test]
fn the_later_of_a_type_and_key_holds_and_expires_without_bringing_the_earlier_back() {
    let now = DateTime::UNIX_EPOCH;
    let mut expiring = routing(2, "complex", 0.5);
    expiring.expires_at = Some(now + chrono::TimeDelta::seconds(1));
    let learned = all([expiring, routing(1, "complex", 0.1), routing(3, "simple", 0.2)]);
    let versions = |now| {
        let policy = learned.policy(Orders::default(), now);
        policy.rules().iter().map(|(cell, rule)| (cell.clone(), rule.version)).collect::<Vec<_>>()
    };
    let simple = ("llm_request/simple".to_owned(), 3);
    assert_eq!(versions(now), [("llm_request/complex".to_owned(), 2), simple.clone()]);
    assert_eq!(versions(now + chrono::TimeDelta::seconds(1)), [simple]);
}

#[test]
fn what_cannot_be_read_changes_nothing() {
    let mut learned = all([routing(1, "complex", 0.5)]);
    let before = learned.clone();
    assert!(learned.take(of(2, "model_routing", "llm_request/complex", json!({ "routing_rules": [] }))).is_err());
    assert!(learned.take(of(3, "prompt_advice", "x", json!({}))).is_err());
    assert_eq!(learned, before);
}

proptest! {
    /// In whatever batches, order and repetition learnings come, what is held is the same.
    #[test]
    fn the_same_learnings_make_the_same_table(
        routes in proptest::collection::vec((0_u8..3, 0_u8..10), 1..25),
        late in proptest::collection::vec(any::<prop::sample::Index>(), 0..50),
    ) {
        let learning = |at: usize| {
            let (route, weight) = routes[at];
            let route = ["simple", "medium", "complex"][usize::from(route)];
            routing(i64::try_from(at).unwrap() + 1, route, f64::from(weight) / 20.0)
        };
        let in_order = all((0..routes.len()).map(learning));
        let repeated = late.iter().map(|index| index.index(routes.len())).chain((0..routes.len()).rev());
        let other = all(repeated.map(learning));
        prop_assert_eq!(&other, &in_order);
        let now = DateTime::UNIX_EPOCH;
        prop_assert_eq!(other.policy(Orders::default(), now), in_order.policy(Orders::default(), now));
    }
}
