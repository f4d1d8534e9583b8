//! Which agent does a task: a pure function of what agents can do, how their last runs went and how busy they are.
//!
//! Of the agents with the capability the one with the best score is taken: the share of its runs that succeeded, drawn
//! towards a common expectation while there are few, divided by how full it is. So a new agent is tried, a failing one
//! is left, and two good ones share the work.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::error::Coded;

/// Share of successes that is expected of an agent of which nothing is known.
pub const EXPECTED_RATE: f64 = 0.8;
/// How many runs that expectation counts as.
pub const EXPECTED_RUNS: f64 = 5.0;

/// An agent as the choice sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// Runs at which it counts as twice as busy as idle; at least 1.
    pub parallel: u32,
    /// Its runs that are under way now, in the whole fleet.
    pub running: u32,
    /// Its last runs that succeeded.
    pub successes: u32,
    /// Its last runs that failed by its own fault.
    pub failures: u32,
}

/// The chosen agent and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pick {
    /// Its name.
    pub agent: String,
    /// What was asked for.
    pub capability: String,
    /// All agents that have it, the chosen one first.
    pub considered: Vec<Considered>,
}

/// What speaks for an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Considered {
    /// Its name.
    pub agent: String,
    /// `rate / (1 + running / parallel)`.
    pub score: f64,
    /// Share of successes, with the expectation counted in.
    pub rate: f64,
    /// Runs that it comes from.
    pub runs: u32,
    /// Runs that are under way.
    pub running: u32,
}

/// Nobody can do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no agent has the capability {capability:?}; capabilities are {}", list(.known))]
pub struct NoAgent {
    /// What was asked for.
    pub capability: String,
    /// What there is.
    pub known: Vec<String>,
}

impl Coded for NoAgent {
    fn code(&self) -> &'static str {
        "E0660"
    }

    fn hint(&self) -> Option<String> {
        Some(format!(
            "add an agent with capabilities = [{:?}] to [agents], or ask for another capability",
            self.capability
        ))
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none, because [agents] is empty".into() } else { names.join(", ") }
}

/// The agent that does a task which needs `capability`.
///
/// # Errors
/// [`NoAgent`].
pub fn choose(capability: &str, candidates: &[Candidate]) -> Result<Pick, NoAgent> {
    let able = candidates.iter().filter(|candidate| candidate.capabilities.iter().any(|have| have == capability));
    let mut considered: Vec<Considered> = able.map(consider).collect();
    // Of equals the first by name, so that the same facts give the same choice.
    considered.sort_by(|left, right| match right.score.total_cmp(&left.score) {
        Ordering::Equal => left.agent.cmp(&right.agent),
        order => order,
    });
    match considered.first() {
        Some(best) => Ok(Pick { agent: best.agent.clone(), capability: capability.to_owned(), considered }),
        None => Err(NoAgent { capability: capability.to_owned(), known: capabilities(candidates) }),
    }
}

/// Everything that some agent can do, in order.
pub fn capabilities(candidates: &[Candidate]) -> Vec<String> {
    let all: std::collections::BTreeSet<&String> =
        candidates.iter().flat_map(|candidate| &candidate.capabilities).collect();
    all.into_iter().cloned().collect()
}

fn consider(candidate: &Candidate) -> Considered {
    let (successes, failures) = (f64::from(candidate.successes), f64::from(candidate.failures));
    let rate = (successes + EXPECTED_RATE * EXPECTED_RUNS) / (successes + failures + EXPECTED_RUNS);
    let fullness = f64::from(candidate.running) / f64::from(candidate.parallel.max(1));
    Considered {
        agent: candidate.name.clone(),
        score: rate / (1.0 + fullness),
        rate,
        runs: candidate.successes.saturating_add(candidate.failures),
        running: candidate.running,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(name: &str, capabilities: &[&str]) -> Candidate {
        Candidate {
            name: name.into(),
            capabilities: capabilities.iter().map(|&name| name.into()).collect(),
            parallel: 2,
            running: 0,
            successes: 0,
            failures: 0,
        }
    }

    #[test]
    fn success_and_load_decide_among_those_that_can() {
        let mut agents = vec![candidate("a", &["code"]), candidate("b", &["code", "test"]), candidate("c", &["test"])];
        assert_eq!(choose("code", &agents).unwrap().agent, "a", "of equals the first by name");
        agents[0].failures = 10;
        let pick = choose("code", &agents).unwrap();
        assert_eq!((pick.agent.as_str(), pick.considered.len()), ("b", 2));
        assert!((pick.considered[1].rate - 4.0 / 15.0).abs() < 1e-9, "10 failures beside 4 of 5 that are expected");
        agents[1].running = 40;
        assert_eq!(choose("code", &agents).unwrap().agent, "a", "a busy agent is worth less than a poor one");
    }

    #[test]
    fn nobody_who_can_is_an_error_that_says_what_there_is() {
        let error = choose("paint", &[candidate("b", &["code", "test"])]).unwrap_err();
        assert_eq!(error.to_string(), "no agent has the capability \"paint\"; capabilities are code, test");
        assert_eq!(error.code(), "E0660");
        assert!(choose("x", &[]).unwrap_err().to_string().contains("[agents] is empty"));
    }

    #[test]
    fn little_experience_weighs_little() {
        let mut agents = vec![candidate("new", &["c"]), candidate("old", &["c"])];
        agents[1].successes = 95;
        agents[1].failures = 5;
        agents[0].successes = 1;
        assert_eq!(choose("c", &agents).unwrap().agent, "old", "one success is no proof");
        agents[1].failures = 40;
        assert_eq!(choose("c", &agents).unwrap().agent, "new");
    }

    proptest! {
        #[test]
        fn a_better_or_idler_agent_is_never_chosen_less(
            facts in prop::collection::vec((0_u32..50, 0_u32..50, 0_u32..20, 1_u32..9), 1..6), which in 0_usize..6,
        ) {
            let mut agents: Vec<Candidate> = facts.iter().enumerate().map(|(index, (good, bad, running, parallel))| {
                Candidate { successes: *good, failures: *bad, running: *running, parallel: *parallel,
                            ..candidate(&format!("agent_{index}"), &["c"]) }
            }).collect();
            let pick = choose("c", &agents).unwrap();
            prop_assert_eq!(pick.considered.len(), agents.len());
            prop_assert!(pick.considered.windows(2).all(|pair| pair[0].score >= pair[1].score));
            prop_assert!(pick.considered.iter().all(|one| one.score > 0.0 && one.score < 1.0));
            let chosen = agents.iter().position(|agent| agent.name == pick.agent).unwrap();
            agents[chosen].successes += 1;
            agents[chosen].running = agents[chosen].running.saturating_sub(1);
            prop_assert_eq!(&choose("c", &agents).unwrap().agent, &pick.agent);
            let other = which % agents.len();
            if other != chosen {
                agents[other].failures += 1;
                agents[other].running += 1;
                prop_assert_eq!(&choose("c", &agents).unwrap().agent, &pick.agent);
            }
        }
    }
}
