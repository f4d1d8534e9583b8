//! Sums by hand, and that they can be added.

use proptest::prelude::*;

use super::*;

pub(in crate::cloud) fn record(model: &str, outcome: Attempted, cost_nanousd: Option<i64>, duration_ms: i64) -> Record {
    Record {
        job_id: 1,
        attempt: 1,
        hop: 0,
        success: matches!(outcome, Attempted::Success | Attempted::Cached),
        job_type: "llm_request".into(),
        route: Some("complex".into()),
        provider: Some("p".into()),
        model: Some(model.into()),
        policy_version: None,
        propensity: Some(1.0),
        outcome,
        simulated: false,
        cached: outcome == Attempted::Cached,
        cost_nanousd,
        tokens_input: Some(3),
        tokens_output: Some(4),
        duration_ms,
        time_to_first_token_ms: None,
        completed_at: DateTime::from_timestamp(1_700_000_000 + duration_ms, 0).unwrap(),
        patterns: Vec::new(),
    }
}

#[test]
fn each_kind_of_outcome_counts_where_it_belongs() {
    let records = [
        record("m", Attempted::Success, Some(10), 1),
        record("m", Attempted::Failure, Some(20), 3),
        record("m", Attempted::Refused, None, 4),
        record("m", Attempted::Infrastructure, Some(1), 1_000),
        record("m", Attempted::Invalid, Some(0), 0),
        record("m", Attempted::Cached, Some(7_777), 7_777),
    ];
    let sums = Sums::of(&records);
    let [sums] = sums.as_slice() else { panic!("{sums:?}") };
    let counts = [sums.attempts, sums.successes, sums.failures, sums.refusals, sums.infrastructure, sums.priced];
    assert_eq!(counts, [6, 1, 1, 1, 1, 4]);
    assert_eq!((sums.cost_nanousd, sums.cost_nanousd_squared), (31, 100 + 400 + 1));
    assert_eq!((sums.tokens_input, sums.tokens_output), (15, 20));
    assert_eq!((sums.latency_ms, sums.latency_ms_squared), (1_008, 1 + 9 + 16 + 1_000_000));
    // Below 2 ms: 1 and 0; below 4: 3; below 8: 4; below 1,024: 1,000.
    assert_eq!(sums.latency_counts, [2, 1, 1, 0, 0, 0, 0, 0, 0, 1]);
}

#[test]
fn cells_are_apart_and_in_order() {
    let mut other = record("m", Attempted::Success, None, 1);
    other.route = None;
    let records = [record("n", Attempted::Success, None, 1), record("m", Attempted::Success, None, 1), other];
    let cells: Vec<_> = Sums::of(&records).into_iter().map(|sums| (sums.route, sums.model)).collect();
    assert_eq!(cells, [("", "m"), ("complex", "m"), ("complex", "n")].map(|(r, m)| (r.into(), m.into())));
}

#[test]
fn latencies_are_told_apart_by_powers_of_two() {
    for (latency_ms, place) in [(-1, 0), (0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (1_023, 9), (1_024, 10)] {
        assert_eq!(latency_place(latency_ms), place, "{latency_ms}");
    }
    assert_eq!(latency_place(i64::MAX), LATENCY_COUNTS_MAX - 1);
}

proptest! {
    #[test]
    fn the_sums_of_parts_added_are_those_of_the_whole(
        costs in proptest::collection::vec((any::<u32>(), 0_i64..10_000_000), 1..40),
        cut in 0_usize..40,
    ) {
        let records: Vec<_> =
            costs.iter().map(|(cost, ms)| record("m", Attempted::Success, Some((*cost).into()), *ms)).collect();
        let cut = cut.min(records.len());
        let part = |records: &[Record]| Sums::of(records).pop();
        let whole = part(&records).unwrap();
        let parts: Vec<_> = [part(&records[..cut]), part(&records[cut..])].into_iter().flatten().collect();
        prop_assert_eq!(whole.attempts, parts.iter().map(|part| part.attempts).sum::<i64>());
        prop_assert_eq!(whole.cost_nanousd, parts.iter().map(|part| part.cost_nanousd).sum::<i128>());
        let squares = parts.iter().map(|part| part.cost_nanousd_squared).sum::<i128>();
        prop_assert_eq!(whole.cost_nanousd_squared, squares);
        let squares = parts.iter().map(|part| part.latency_ms_squared).sum::<i128>();
        prop_assert_eq!(whole.latency_ms_squared, squares);
        let counted = parts.iter().flat_map(|part| &part.latency_counts).sum::<i64>();
        prop_assert_eq!(counted, whole.latency_counts.iter().sum::<i64>());
    }

    #[test]
    fn sums_survive_json(cost in any::<i64>()) {
        let mut sums = Sums::of(&[record("m", Attempted::Success, None, 1)]);
        sums[0].cost_nanousd_squared = i128::from(cost) * i128::from(cost);
        let text = serde_json::to_string(&sums).unwrap();
        prop_assert_eq!(serde_json::from_str::<Vec<Sums>>(&text).unwrap(), sums);
    }
}
