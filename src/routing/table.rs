//! The routing table of a moment, for people: which model serves how much of each cell, and why.

use serde::{Deserialize, Serialize};

use super::policy::{Policy, Weight};
use super::select::{Barred, Share, Situation, of_route, shares};
use super::wish::{Reason, Route};
use crate::config::Config;

/// One model of one cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Job type and route.
    pub cell: String,
    /// Name in `[models]`.
    pub model: String,
    /// What the learned rule gives it; absent where there is no rule.
    pub weight: Option<f64>,
    /// Probability with which a request of this moment gets it.
    pub share: f64,
    /// It is the one that the others are measured by.
    pub reference: bool,
    /// It is proven to cost less than another of the cell.
    pub preferred: bool,
    /// A person pinned the route to it.
    pub pinned: bool,
    /// Why it cannot be called.
    pub barred: Option<Barred>,
    /// The learning whose rule holds.
    pub learning: Option<i64>,
}

/// The table of jobs of type `job_type`, and of every cell that has a rule.
pub fn table(config: &Config, policy: &Policy, job_type: &str, is_held_back: &dyn Fn(&str) -> bool) -> Vec<Line> {
    let mut cells: Vec<(String, String)> =
        routes(config).map(|route| (job_type.to_owned(), route.name.to_owned())).collect();
    for cell in policy.rules().keys() {
        let Some((job_type, route)) = cell.split_once('/') else { continue };
        let cell = (job_type.to_owned(), route.to_owned());
        if !cells.contains(&cell) {
            cells.push(cell);
        }
    }
    cells.iter().flat_map(|(job_type, route)| of_cell(config, policy, job_type, route, is_held_back)).collect()
}

/// Routes of the configuration: the complexities, then the others.
fn routes(config: &Config) -> impl Iterator<Item = Route<'_>> {
    config.routing.all().map(|route| Route {
        name: route.name,
        complexity: route.complexity,
        reason: if route.complexity.is_some() { Reason::ExplicitComplexity } else { Reason::ExplicitRoute },
        reference: route.reference,
        candidates: route.candidates,
    })
}

fn of_cell(
    config: &Config,
    policy: &Policy,
    job_type: &str,
    route: &str,
    is_held_back: &dyn Fn(&str) -> bool,
) -> Vec<Line> {
    let cell = Policy::cell(job_type, route);
    let found = routes(config).find(|configured| configured.name == route);
    let configured = found.map(|route| route.reference);
    let rule = policy.rule(&cell);
    let pin = policy.orders.pins.get(route).map(String::as_str);
    let reference = rule.map(|rule| rule.reference.as_str()).or(configured);
    let situation = Situation { config, policy, job_type, draw: 0.0, is_held_back };
    let chosen = found.and_then(|route| of_route(route, &situation).ok());
    let mut weights: Vec<Weight> = rule.map(|rule| rule.weights.clone()).unwrap_or_default();
    let others = [pin, configured, chosen.as_ref().map(|choice| choice.model.as_str())];
    let candidates = found.map(|route| route.candidates).unwrap_or_default().iter().map(String::as_str);
    for model in others.into_iter().flatten().chain(candidates) {
        if !weights.iter().any(|weight| weight.model == model) {
            weights.push(Weight { model: model.to_owned(), weight: 0.0 });
        }
    }
    let shares = shares(&weights, &situation);
    // What no draw decides is certain.
    let certain = chosen.filter(|choice| choice.policy_version.is_none());
    let line = |share: Share| Line {
        weight: rule.map(|_| share.weight),
        share: certain.as_ref().map_or(share.share, |choice| if choice.model == share.model { 1.0 } else { 0.0 }),
        reference: reference == Some(share.model.as_str()),
        preferred: policy.preferred(&cell) == Some(share.model.as_str()),
        pinned: pin == Some(share.model.as_str()),
        barred: share.barred,
        learning: rule.map(|rule| rule.version),
        cell: cell.clone(),
        model: share.model,
    };
    shares.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::super::policy::Rule;
    use super::*;
    use crate::config::{Complexity, Model};

    fn config() -> Config {
        let mut config = Config::default();
        for (complexity, name) in [(Complexity::Simple, "flash"), (Complexity::Complex, "opus")] {
            config.models.insert(name.into(), Model::default());
            config.routing.models.insert(complexity, name.into());
        }
        config
    }

    fn lines(policy: &Policy) -> Vec<(String, String, f64)> {
        let table = table(&config(), policy, "llm_request", &|_| false);
        table.into_iter().map(|line| (line.cell, line.model, line.share)).collect()
    }

    fn line(cell: &str, model: &str, share: f64) -> (String, String, f64) {
        (format!("llm_request/{cell}"), model.to_owned(), share)
    }

    #[test]
    fn it_shows_what_would_be_chosen() {
        let mut policy = Policy::default();
        assert_eq!(lines(&policy), [line("simple", "flash", 1.0), line("complex", "opus", 1.0)]);
        let weights = [("opus", 0.25), ("flash", 0.5), ("mini", 0.25)];
        let weights = weights.map(|(model, weight)| Weight { model: model.into(), weight }).to_vec();
        policy.learn("llm_request/complex", Rule { version: 3, reference: "opus".into(), weights, expires_at: None });
        let complex = |policy: &Policy| lines(policy).split_off(1);
        let third = 0.25 / 0.75;
        assert_eq!(
            complex(&policy),
            [line("complex", "opus", third), line("complex", "flash", 0.5 / 0.75), line("complex", "mini", 0.0)]
        );
        policy.orders.off.insert("flash".into());
        assert_eq!(complex(&policy)[..2], [line("complex", "opus", 1.0), line("complex", "flash", 0.0)]);
        policy.orders.pins.insert("complex".into(), "flash".into());
        assert_eq!(complex(&policy)[0], line("complex", "opus", 1.0), "a pin to a model that is off holds nothing");
        policy.orders.off.clear();
        assert_eq!(complex(&policy)[..2], [line("complex", "opus", 0.0), line("complex", "flash", 1.0)]);
        policy.orders = super::super::policy::Orders { learning_off: true, ..Default::default() };
        assert_eq!(complex(&policy), [line("complex", "opus", 1.0)]);
    }
}
