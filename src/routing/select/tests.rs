//! Who decides, and that what happens is what the stored probability says.

use proptest::prelude::*;
use serde_json::json;

use super::super::policy::{Rule, Weight};
use super::*;
use crate::config::Model;

const JOB_TYPE: &str = "llm_request";

fn config() -> Config {
    let mut config = Config::default();
    for (complexity, name) in
        [(Complexity::Simple, "flash"), (Complexity::Medium, "sonnet"), (Complexity::Complex, "opus")]
    {
        config.models.insert(name.into(), Model::default());
        config.routing.models.insert(complexity, name.into());
    }
    config.routing.task_types.insert("architect".into(), Complexity::Complex);
    config
}

fn policy(weights: &[(&str, f64)]) -> Policy {
    let mut policy = Policy::default();
    let weights: Vec<Weight> =
        weights.iter().map(|(model, weight)| Weight { model: (*model).into(), weight: *weight }).collect();
    let rule = Rule { version: 7, reference: "opus".into(), weights, expires_at: None };
    assert!(policy.learn("llm_request/complex", rule));
    policy
}

fn complex() -> Wish<'static> {
    Wish { complexity: Some(Complexity::Complex), ..Wish::default() }
}

fn choose(wish: Wish<'_>, policy: &Policy, draw: f64, held_back: &[&str]) -> Result<Choice, RoutingError> {
    let config = config();
    let is_held_back = |model: &str| held_back.contains(&model);
    select(wish, &Situation { config: &config, policy, job_type: JOB_TYPE, draw, is_held_back: &is_held_back })
}

#[test]
fn an_explicit_model_wins_then_complexity_then_task_type_then_the_default() {
    let none = Policy::default();
    let select = |wish| choose(wish, &none, 0.0, &[]);
    let (complexity, task_type) = (Some(Complexity::Simple), Some("architect"));
    let mut wish = Wish { model: Some("flash"), complexity, task_type, ..Wish::default() };
    let choice = select(wish).unwrap();
    assert_eq!((choice.reason, choice.route, choice.basis), (Reason::ExplicitModel, None, None));
    wish.model = Some("auto");
    assert_eq!(select(wish).unwrap().model, "flash");
    wish.complexity = None;
    let choice = select(wish).unwrap();
    assert_eq!((choice.model.as_str(), choice.reason), ("opus", Reason::TaskType));
    wish.task_type = Some("never heard of");
    let choice = select(wish).unwrap();
    assert_eq!((choice.model.as_str(), choice.reason), ("sonnet", Reason::DefaultComplexity));
    assert_eq!((choice.route.as_deref(), choice.propensity, choice.policy_version), (Some("medium"), 1.0, None));
}

#[test]
fn an_unknown_model_is_refused_with_the_known_ones() {
    let error = choose(Wish { model: Some("gpt-9"), ..Wish::default() }, &Policy::default(), 0.0, &[]).unwrap_err();
    assert_eq!(error.to_string(), "model \"gpt-9\" is not configured; configured are flash, opus, sonnet");
}

#[test]
fn a_rule_decides_by_the_draw_and_its_probability_is_kept() {
    let policy = policy(&[("opus", 0.25), ("sonnet", 0.75)]);
    for (draw, model, propensity) in
        [(0.0, "opus", 0.25), (0.249, "opus", 0.25), (0.25, "sonnet", 0.75), (0.999_999, "sonnet", 0.75)]
    {
        let choice = choose(complex(), &policy, draw, &[]).unwrap();
        assert_eq!((choice.model.as_str(), choice.propensity, choice.policy_version), (model, propensity, Some(7)));
        assert_eq!(choice.basis.unwrap().decided, Decided::Rule);
    }
    // Of other routes it says nothing.
    assert_eq!(choose(Wish::default(), &policy, 0.3, &[]).unwrap().policy_version, None);
}

#[test]
fn a_held_back_model_leaves_its_weight_to_the_others_unless_there_is_no_other() {
    let policy = policy(&[("opus", 0.2), ("sonnet", 0.6), ("flash", 0.2)]);
    let choice = choose(complex(), &policy, 0.9, &["flash"]).unwrap();
    assert_eq!((choice.model.as_str(), choice.propensity), ("sonnet", 0.6 / 0.8));
    let shares = choice.basis.unwrap().shares;
    assert_eq!((shares[2].barred, shares[2].share), (Some(Barred::HeldBack), 0.0));
    let choice = choose(complex(), &policy, 0.9, &["flash", "opus", "sonnet"]).unwrap();
    assert_eq!((choice.model.as_str(), choice.propensity), ("flash", 0.2));
}

#[test]
fn a_model_that_this_instance_does_not_have_leaves_its_weight_to_the_others() {
    let choice = choose(complex(), &policy(&[("opus", 0.1), ("mini", 0.9)]), 0.5, &[]).unwrap();
    assert_eq!((choice.model.as_str(), choice.propensity, choice.policy_version), ("opus", 1.0, Some(7)));
    // Not one of them: the reference of the configuration, and no rule chose it.
    let mut other = Policy::default();
    let weights = vec![Weight { model: "mini".into(), weight: 1.0 }];
    other.learn("llm_request/complex", Rule { version: 8, reference: "mini".into(), weights, expires_at: None });
    let choice = choose(complex(), &other, 0.5, &[]).unwrap();
    assert_eq!((choice.model.as_str(), choice.policy_version), ("opus", None));
}

#[test]
fn a_pin_beats_a_rule_and_a_switch_beats_both() {
    let mut policy = policy(&[("opus", 0.5), ("sonnet", 0.5)]);
    policy.orders.pins.insert("complex".into(), "flash".into());
    let choice = choose(complex(), &policy, 0.9, &["flash"]).unwrap();
    assert_eq!((choice.model.as_str(), choice.propensity, choice.policy_version), ("flash", 1.0, None));
    assert_eq!(choice.basis.unwrap().decided, Decided::Pin);
    policy.orders.off.insert("flash".into());
    policy.orders.off.insert("sonnet".into());
    let choice = choose(complex(), &policy, 0.9, &[]).unwrap();
    assert_eq!((choice.model.as_str(), choice.propensity, choice.policy_version), ("opus", 1.0, Some(7)));
    assert_eq!(choice.fallbacks, [""; 0]);
    policy.orders.off.insert("opus".into());
    assert_eq!(choose(complex(), &policy, 0.9, &[]).unwrap_err(), RoutingError::AllOff("opus".into()));
    let named = Wish { model: Some("opus"), ..Wish::default() };
    assert_eq!(choose(named, &policy, 0.9, &[]).unwrap_err(), RoutingError::AllOff("opus".into()));
}

#[test]
fn learning_that_is_switched_off_leaves_the_reference() {
    let mut policy = policy(&[("opus", 0.0), ("sonnet", 1.0)]);
    policy.prefer("llm_request/complex", "flash");
    assert_eq!(choose(complex(), &policy, 0.5, &[]).unwrap().fallbacks, ["flash", "opus"]);
    policy.orders.learning_off = true;
    let choice = choose(complex(), &policy, 0.5, &[]).unwrap();
    assert_eq!((choice.model.as_str(), choice.policy_version, choice.fallbacks), ("opus", None, vec![]));
}

#[test]
fn choices_of_older_runs_can_be_read() {
    let old = json!({"model": "opus", "complexity": "complex", "reason": "task_type"});
    let choice: Choice = serde_json::from_value(old).unwrap();
    assert_eq!((choice.route, choice.policy_version, choice.propensity), (None, None, 1.0));
    let new = choose(complex(), &policy(&[("opus", 0.5), ("flash", 0.5)]), 0.1, &["opus"]).unwrap();
    assert_eq!(serde_json::from_value::<Choice>(serde_json::to_value(&new).unwrap()).unwrap(), new);
}

#[test]
fn what_was_switched_off_after_the_choice_is_not_called() {
    let mut policy = policy(&[("opus", 0.5), ("sonnet", 0.3), ("flash", 0.2)]);
    let choice = choose(complex(), &policy, 0.0, &[]).unwrap();
    assert_eq!((choice.model.as_str(), choice.fallbacks.len()), ("opus", 2));
    policy.orders.off.insert("sonnet".into());
    assert_eq!(choice.clone().still(&policy).unwrap().fallbacks, ["flash"]);
    policy.orders.off.insert("opus".into());
    assert_eq!(choice.still(&policy), None);
}

#[test]
fn draws_are_repeatable_and_evenly_spread() {
    assert_eq!(draw(4711, 1).to_bits(), draw(4711, 1).to_bits());
    assert_ne!(draw(4711, 1).to_bits(), draw(4711, 2).to_bits());
    let mut tenths = [0_u32; 10];
    for job in 1..=10_000 {
        let draw = draw(job, 1);
        assert!((0.0..1.0).contains(&draw));
        tenths[(draw * 10.0) as usize] += 1;
    }
    // Each has 1,000 ± 30 on average; 5 deviations are no accident.
    assert!(tenths.iter().all(|count| (850..1_150).contains(count)), "{tenths:?}");
}

proptest! {
    /// Over many draws each model is taken as often as its stored probability says.
    #[test]
    fn shares_are_what_happens(weights in proptest::collection::vec(0_u32..10, 3), held in 0_usize..8) {
        let sum: u32 = weights.iter().sum();
        prop_assume!(sum > 0);
        let names = ["opus", "sonnet", "flash"];
        let pairs: Vec<(&str, f64)> =
            names.iter().zip(&weights).map(|(name, weight)| (*name, f64::from(*weight) / f64::from(sum))).collect();
        let policy = policy(&pairs);
        let held_back: Vec<&str> =
            names.iter().enumerate().filter(|(bit, _)| held >> bit & 1 == 1).map(|(_, name)| *name).collect();
        let mut taken = std::collections::BTreeMap::<String, (u32, f64)>::new();
        for step in 0..1_000 {
            let choice = choose(complex(), &policy, f64::from(step) / 1_000.0, &held_back).unwrap();
            prop_assert!(choice.propensity > 0.0 && choice.propensity <= 1.0);
            prop_assert!(!choice.fallbacks.contains(&choice.model));
            let entry = taken.entry(choice.model).or_insert((0, choice.propensity));
            prop_assert_eq!(entry.1, choice.propensity);
            entry.0 += 1;
        }
        for (count, propensity) in taken.values() {
            prop_assert!((f64::from(*count) / 1_000.0 - propensity).abs() < 0.01);
        }
    }
}
