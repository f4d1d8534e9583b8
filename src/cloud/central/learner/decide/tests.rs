//! Tests of decisions.

use chrono::TimeDelta;

use super::super::row::Row;
use super::super::view::{InForce, ModelView, Sums};
use super::*;
use crate::cloud::{Cell, CostOptimization};
use crate::workflow::Attempted;

const DAY: i64 = 86_400;

fn now() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(10_000)
}

/// A model of which `n` attempts are known, the last one just now, one a second; every `fails`-th failed.
fn model(name: &str, n: i64, fails: i64, cost: i64, version: Option<i64>) -> ModelView {
    let rows: Vec<Row> = (0..n)
        .map(|i| Row {
            outcome: if i % fails == fails - 1 { Attempted::Failure } else { Attempted::Success },
            cost_nanousd: Some(cost + i % 7 * cost / 70),
            duration_ms: 1_000 + i % 100,
            completed_at: now() - TimeDelta::seconds(n - i),
            policy_version: version,
            propensity: Some(0.5),
        })
        .collect();
    let mut sums = Sums::default();
    rows.iter().for_each(|row| sums.add(row));
    let sums = [(version.unwrap_or_default(), sums)].into();
    ModelView { model: name.into(), rows, sums, ..ModelView::default() }
}

fn view(models: Vec<ModelView>) -> CellView {
    CellView { cell: Cell::new("llm_request", "complex"), models, rule: None, claim: None, benchmarks: None }
}

fn rule(weights: &[(&str, f64)]) -> InForce<RoutingRule> {
    let models = weights.iter().map(|(model, weight)| WeightedModel { model: (*model).into(), weight: *weight });
    let (job_type, route, reference) = ("llm_request".into(), "complex".into(), weights[0].0.into());
    InForce {
        id: 7,
        value: RoutingRule { job_type, route, reference, models: models.collect() },
        created_at: now() - TimeDelta::hours(1),
        expires_at: Some(now() + TimeDelta::days(6)),
    }
}

fn decide_now(view: &CellView) -> Vec<Decision> {
    let decisions = decide(view, &Settings::default(), now(), 1);
    for draft in decisions.iter().filter_map(|decision| decision.draft.as_ref()) {
        draft.payload.check().unwrap();
        assert!(!draft.summary.is_empty());
    }
    decisions
}

fn names(decisions: &[Decision]) -> Vec<&'static str> {
    decisions.iter().map(|decision| decision.name).collect()
}

/// The weights of the rule that was decided.
fn weights_of(decisions: &[Decision]) -> Vec<f64> {
    let Some(Draft { payload: Payload::ModelRouting(routing), .. }) = &decisions[0].draft else {
        panic!("no rule: {decisions:?}")
    };
    routing.routing_rules[0].models.iter().map(|model| model.weight).collect()
}

#[test]
fn a_cell_without_attempts_is_left_alone() {
    assert_eq!(decide_now(&view(vec![ModelView::default(), ModelView::default()])), []);
}

#[test]
fn a_candidate_that_was_never_tried_starts_in_the_nursery() {
    let new = ModelView { model: "sonnet".into(), ..ModelView::default() };
    let decisions = decide_now(&view(vec![model("opus", 40, 10, 100, None), new]));
    assert_eq!(names(&decisions), ["reallocate", "benchmark"]);
    assert_eq!(weights_of(&decisions), [0.95, 0.05]);
    let evidence = &decisions[0].draft.as_ref().unwrap().evidence;
    assert_eq!(evidence["models"][1]["takes_no_part"], "in the nursery");
    assert_eq!(evidence["models"][0]["n"], 40);
}

#[test]
fn a_route_of_one_model_is_only_measured() {
    assert_eq!(names(&decide_now(&view(vec![model("opus", 40, 10, 100, None)]))), ["benchmark"]);
}

#[test]
fn a_cheaper_model_that_is_as_good_is_given_more_step_by_step_and_said_why() {
    let mut view = view(vec![model("opus", 400, 20, 100, Some(7)), model("sonnet", 400, 20, 60, Some(7))]);
    view.rule = Some(rule(&[("opus", 0.8), ("sonnet", 0.2)]));
    let decisions = decide_now(&view);
    assert_eq!(weights_of(&decisions), [0.6, 0.4]);
    let draft = decisions[0].draft.as_ref().unwrap();
    assert_eq!(draft.summary, "Send 40 % of llm_request/complex to sonnet, 20 % before.");
    let sonnet = &draft.evidence["models"][1];
    assert!(sonnet["draws_won"].as_f64().unwrap() > 0.8, "{sonnet}");
    assert!(draft.evidence["comparisons"][0]["difference_low"].as_f64().unwrap() < 0.0);
    assert!(draft.evidence["replay"]["n"] == 800);
    assert_eq!(decide(&view, &Settings::default(), now(), 1), decisions, "the same again from the same");
}

#[test]
fn nothing_rises_before_the_present_rule_was_seen() {
    let mut view = view(vec![model("opus", 400, 20, 100, Some(6)), model("sonnet", 400, 20, 60, Some(6))]);
    view.rule = Some(rule(&[("opus", 0.8), ("sonnet", 0.2)]));
    assert_eq!(names(&decide_now(&view)), ["keep", "benchmark"]);
}

#[test]
fn a_model_whose_success_fell_is_taken_back_at_once() {
    let mut fallen = model("sonnet", 400, 20, 60, Some(7));
    for row in fallen.rows.iter_mut().skip(300).step_by(3) {
        row.outcome = Attempted::Failure;
    }
    let began = fallen.rows[300].completed_at;
    let mut view = view(vec![model("opus", 400, 20, 100, Some(7)), fallen]);
    view.rule = Some(rule(&[("opus", 0.1), ("sonnet", 0.9)]));
    let decisions = decide_now(&view);
    assert_eq!(names(&decisions)[0], "roll_back");
    assert_eq!(weights_of(&decisions), [0.95, 0.05]);
    let draft = decisions[0].draft.as_ref().unwrap();
    assert_eq!(draft.rolls_back, Some(7));
    let falls = crate::cloud::central::learner::evidence::falls(&draft.evidence);
    assert_eq!(falls[0].0, "sonnet");
    assert!((falls[0].1 - began).num_seconds().abs() < 40, "{falls:?} {began}");
    // At the floor there is nothing to take back, and what was before the fall says nothing.
    view.rule = Some(rule(&[("opus", 0.95), ("sonnet", 0.05)]));
    view.models[1].since = Some(falls[0].1);
    assert_eq!(names(&decide_now(&view))[0], "keep");
}

#[test]
fn a_proven_claim_is_told_once_and_taken_back_when_the_price_rises() {
    let mut view = view(vec![model("opus", 4_000, 20, 100, Some(7)), model("sonnet", 4_000, 20, 60, Some(7))]);
    view.rule = Some(rule(&[("opus", 0.1), ("sonnet", 0.9)]));
    let decisions = decide_now(&view);
    assert_eq!(names(&decisions), ["keep", "claim", "benchmark"]);
    let claim = decisions[1].draft.as_ref().unwrap();
    let Payload::CostOptimization(told) = &claim.payload else { panic!("{claim:?}") };
    assert!((told.estimated_savings.fraction - 0.4).abs() < 0.01);
    assert!(
        claim.summary.starts_with("Use sonnet more in llm_request/complex: 40.2 % cheaper than opus"),
        "{}",
        claim.summary
    );
    assert!(claim.evidence["difference_low"].as_f64().unwrap() > -0.02);
    let in_force = |value: &CostOptimization| InForce {
        id: 9,
        value: value.clone(),
        created_at: now(),
        expires_at: Some(now() + TimeDelta::seconds(30 * DAY)),
    };
    view.claim = Some(in_force(told));
    assert_eq!(names(&decide_now(&view)), ["keep", "benchmark"]);
    let newest = view.models[1].rows.len() - 200;
    for row in view.models[1].rows.iter_mut().skip(newest) {
        row.cost_nanousd = Some(150);
    }
    let decisions = decide_now(&view);
    let back = decisions.iter().find(|decision| decision.name == "withdraw_claim").unwrap().draft.as_ref().unwrap();
    assert_eq!((back.rolls_back, back.payload.key().as_str()), (Some(9), "llm_request/complex"));
}

#[test]
fn a_rule_is_confirmed_before_it_ends() {
    let mut view = view(vec![model("opus", 400, 20, 100, Some(7)), model("sonnet", 400, 20, 60, Some(7))]);
    view.rule = Some(rule(&[("opus", 0.1), ("sonnet", 0.9)]));
    assert_eq!(names(&decide_now(&view))[0], "keep");
    view.rule.as_mut().unwrap().created_at = now() - TimeDelta::days(4);
    view.rule.as_mut().unwrap().expires_at = Some(now() + TimeDelta::days(3));
    let decisions = decide_now(&view);
    assert_eq!(names(&decisions)[0], "confirm");
    assert_eq!(weights_of(&decisions), [0.1, 0.9]);
}

#[test]
fn a_model_above_the_ceiling_of_latency_loses_its_share_by_steps() {
    let mut slow = model("sonnet", 400, 20, 60, Some(7));
    slow.rows.iter_mut().step_by(8).for_each(|row| row.duration_ms = 9_000);
    let mut view = view(vec![model("opus", 400, 20, 100, Some(7)), slow]);
    view.rule = Some(rule(&[("opus", 0.2), ("sonnet", 0.8)]));
    let settings = Settings { latency_ceiling_ms: Some(5_000), ..Settings::default() };
    let decisions = decide(&view, &settings, now(), 1);
    assert_eq!(weights_of(&decisions), [0.6, 0.4]);
    let evidence = &decisions[0].draft.as_ref().unwrap().evidence;
    assert_eq!(evidence["models"][1]["takes_no_part"], "slower than the ceiling");
}

#[test]
fn infrastructure_costs_money_and_says_nothing_about_quality() {
    let mut broken = model("sonnet", 400, 20, 60, Some(7));
    let extra: Vec<_> = broken.rows.iter().map(|row| Row { outcome: Attempted::Infrastructure, ..*row }).collect();
    for row in extra {
        broken.sums.get_mut(&7).unwrap().add(&row);
        broken.rows.push(row);
    }
    broken.rows.sort_by_key(|row| row.completed_at);
    let mut view = view(vec![model("opus", 400, 20, 100, Some(7)), broken]);
    view.rule = Some(rule(&[("opus", 0.5), ("sonnet", 0.5)]));
    let decisions = decide_now(&view);
    // 60 for each success and as much for each attempt that came to nothing: 120, dearer than opus.
    let sonnet = &decisions[0].draft.as_ref().unwrap().evidence["models"][1];
    assert_eq!(sonnet["n"], 400);
    assert!((sonnet["success_rate"].as_f64().unwrap() - 0.95).abs() < 0.01);
    assert!(sonnet["cost_per_success_nanousd"].as_f64().unwrap() > 120.0, "{sonnet}");
    assert!(weights_of(&decisions)[1] < 0.5);
}

/// Adds attempts that infrastructure failed and whose cost nobody knows, one in front of every `each`-th.
fn with_trouble(mut model: ModelView, each: usize) -> ModelView {
    let trouble = |row: &Row| Row { outcome: Attempted::Infrastructure, cost_nanousd: None, ..*row };
    let extra: Vec<_> = model.rows.iter().step_by(each).map(trouble).collect();
    for row in extra {
        model.sums.values_mut().next().unwrap().add(&row);
        model.rows.push(row);
    }
    model.rows.sort_by_key(|row| row.completed_at);
    model
}

#[test]
fn attempts_of_unknown_cost_that_infrastructure_failed_switch_nothing_off() {
    let mut view = view(vec![
        with_trouble(model("opus", 4_000, 20, 100, Some(7)), 4),
        with_trouble(model("sonnet", 4_000, 20, 60, Some(7)), 3),
    ]);
    view.rule = Some(rule(&[("opus", 0.8), ("sonnet", 0.2)]));
    let decisions = decide_now(&view);
    assert_eq!(weights_of(&decisions), [0.6, 0.4]);
    let claim = decisions.iter().find(|decision| decision.name == "claim").unwrap().draft.as_ref().unwrap();
    let Payload::CostOptimization(told) = &claim.payload else { panic!("{claim:?}") };
    assert!((told.estimated_savings.fraction - 0.4).abs() < 0.01, "{told:?}");
    // A claim stays, and a share too, while the reference does not answer at all.
    view.claim = Some(InForce { id: 9, value: told.clone(), created_at: now(), expires_at: None });
    view.rule = Some(rule(&[("opus", 0.1), ("sonnet", 0.9)]));
    let last = view.models[0].rows.len() - 1;
    let down = Row { outcome: Attempted::Infrastructure, cost_nanousd: None, ..view.models[0].rows[last] };
    view.models[0].rows.extend([down; 500]);
    assert_eq!(names(&decide_now(&view))[0], "keep");
    assert!(!names(&decide_now(&view)).contains(&"withdraw_claim"));
}
