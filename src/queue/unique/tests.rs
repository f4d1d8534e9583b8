//! Options as Oban checks them, and the lock that is the same exactly for the same.

use serde_json::json;

use super::*;

fn key(unique: &Unique, job: &NewJob) -> i64 {
    unique.lock_key("public", job)
}

#[test]
fn bad_options_are_refused_with_obans_text() {
    for (unique, text) in [
        (
            Unique { fields: vec![], ..Unique::default() },
            "expected :fields [] to overlap [:args, :meta, :queue, :worker]",
        ),
        (Unique { states: vec![], ..Unique::default() }, "expected :states [] to overlap in [:suspended, :scheduled"),
        (
            Unique { fields: vec![UniqueField::Worker], keys: vec!["id".into()], ..Unique::default() },
            "using :keys expects :fields to contain at least one of [:args, :meta]",
        ),
        (Unique { keys: vec![String::new()], ..Unique::default() }, "expected :keys to be a list"),
        (Unique { keys: vec!["k".into(); UNIQUE_KEYS_MAX + 1], ..Unique::default() }, "expected :keys to be a list"),
        (
            Unique { period: Some(Duration::ZERO), ..Unique::default() },
            "expected :period to be an integer greater than 0",
        ),
    ] {
        let error = unique.validate().unwrap_err().to_string();
        assert!(error.contains("invalid option") && error.contains(text), "{error}");
    }
    for good in [Unique::default(), Unique::forever(), Unique { states: Unique::scheduled(), ..Unique::default() }] {
        good.validate().unwrap();
    }
}

#[test]
fn groups_have_obans_states() {
    assert_eq!(Unique::states_named("all").unwrap().len(), 8);
    let incomplete = Unique::states_named("incomplete").unwrap();
    assert!(incomplete.len() == 5 && incomplete.iter().all(|state| !state.is_terminal()));
    assert_eq!(Unique::states_named("scheduled").unwrap(), [State::Scheduled]);
    let successful = Unique::states_named("successful").unwrap();
    assert!(successful.len() == 6 && successful.contains(&State::Completed));
    assert_eq!(Unique::states_named("discarded").unwrap(), [State::Discarded]);
    let error = Unique::states_named("done").unwrap_err();
    assert!(error.contains("suspended") && error.contains("incomplete"), "{error}");
}

#[test]
fn names_are_read_and_an_unknown_one_is_told_with_those_that_there_are() {
    assert_eq!("meta".parse::<UniqueField>(), Ok(UniqueField::Meta));
    assert_eq!("scheduled_at".parse::<UniqueTimestamp>(), Ok(UniqueTimestamp::ScheduledAt));
    assert_eq!("max_attempts".parse::<ReplaceField>(), Ok(ReplaceField::MaxAttempts));
    assert!("state".parse::<ReplaceField>().unwrap_err().contains("max_attempts, meta"));
}

#[test]
fn equal_jobs_have_one_lock_however_they_are_written() {
    let unique = Unique::default();
    let job = |args: Value| NewJob::new("w", args);
    let one = key(&unique, &job(json!({"a": 1, "b": [0.0, {"c": null}]})));
    assert_eq!(one, key(&unique, &job(json!({"b": [-0.0, {"c": null}], "a": 1.0}))));
    let later =
        Unique { period: None, states: Unique::all(), timestamp: UniqueTimestamp::ScheduledAt, ..unique.clone() };
    assert_eq!(one, key(&later, &job(json!({"a": 1, "b": [0, {"c": null}]}))), "only what is compared counts");
}

#[test]
fn the_lock_is_what_it_was_in_every_version() {
    let job = NewJob::new("mail", json!({"to": "ann", "n": 1}));
    assert_eq!(key(&Unique::default(), &job), LOCK_OF_MAIL, "nodes of two versions would not exclude each other");
}

/// Computed by another program from the description of the key.
const LOCK_OF_MAIL: i64 = -978_523_640_677_726_378;

#[test]
fn different_jobs_have_different_locks() {
    let unique = Unique::default();
    let jobs = [
        NewJob::new("w", json!({})),
        NewJob::new("v", json!({})),
        NewJob::new("w", json!({})).queue("q"),
        NewJob::new("w", json!({"a": "1"})),
        NewJob::new("w", json!({"a": 1})),
        NewJob::new("w", json!({"a": true})),
        NewJob::new("w", json!({"a": null})),
        NewJob::new("w", json!({"a": [1]})),
        NewJob::new("w", json!({"a": {"1": 1}})),
        NewJob::new("w", json!({"a": ["b", "c"]})),
        NewJob::new("w", json!({"a": ["bc"]})),
    ];
    let mut keys: Vec<i64> = jobs.iter().map(|job| key(&unique, job)).collect();
    keys.push(unique.lock_key("other", &jobs[0]));
    keys.push(key(&Unique { fields: vec![UniqueField::Worker], ..unique.clone() }, &jobs[0]));
    keys.push(key(&Unique { keys: vec!["a".into()], ..unique.clone() }, &jobs[4]));
    let distinct: std::collections::BTreeSet<i64> = keys.iter().copied().collect();
    assert_eq!(distinct.len(), keys.len());
}

#[test]
fn chosen_keys_are_contained_and_no_chosen_key_means_empty() {
    let unique = Unique { keys: vec!["id".into()], ..Unique::default() };
    let map = |value: Value| value.as_object().unwrap().clone();
    assert_eq!(unique.wanted(&map(json!({"id": 1, "x": 2}))), Wanted::Contains(map(json!({"id": 1}))));
    assert_eq!(unique.wanted(&map(json!({"x": 2}))), Wanted::Equal(Map::new()));
    assert_eq!(Unique::default().wanted(&map(json!({"x": 2}))), Wanted::Equal(map(json!({"x": 2}))));
}

#[test]
fn a_replacement_knows_its_states() {
    let replace = Replace::always(&[ReplaceField::Tags]).when(State::Scheduled, &[ReplaceField::Args]);
    assert_eq!(replace.states_of(ReplaceField::Args), [State::Scheduled]);
    assert_eq!(replace.states_of(ReplaceField::Tags).len(), 8);
    assert!(replace.states_of(ReplaceField::Queue).is_empty() && !replace.is_empty());
    assert!(Replace::default().is_empty() && Replace::always(&[]).is_empty());
}
