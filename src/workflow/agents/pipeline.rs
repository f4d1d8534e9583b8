//! What comes next in a coordinated task: a pure function of the task and of what agents have answered so far.
//!
//! It is asked again after each answer, here or on another instance after a crash, and keeps nothing: what was begun is
//! known by the keys of the answers and of those that are awaited.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::{Classification, Expect};
use super::plan::{PlannedTask, TaskPlan};
use super::request::{CoordinationRequest, Decompose, PROMPT_BYTES_MAX};

/// What a classifier must be able to do.
pub const CLASSIFY: &str = "classify";
/// What an agent must be able to do that takes tasks apart.
pub const DECOMPOSE: &str = "decompose";

const CLASSIFY_KEY: &str = "classify";
const DECOMPOSE_KEY: &str = "decompose";
/// The whole task, where it is not taken apart.
const WHOLE_KEY: &str = "task";
/// Before the id of a subtask.
const SUBTASK_PREFIX: &str = "task.";
/// Behind a result of which only the beginning fits into a prompt.
const CUT: &str = "\n[the rest did not fit]";
/// Capabilities that are steps of the coordination itself: subtasks do not need them.
const OWN: [&str; 2] = [CLASSIFY, DECOMPOSE];

/// How a task begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Route {
    /// This agent does it.
    Agent {
        /// Its name.
        agent: String,
    },
    /// An agent with this capability does it.
    Capability {
        /// Which.
        capability: String,
    },
    /// A classifier is asked which capability it needs, and perhaps whether to take it apart.
    Classify {
        /// Whether it may be taken apart.
        may_decompose: bool,
    },
    /// It is taken apart.
    Decompose,
}

impl Route {
    /// The beginning that a request asks for.
    pub fn of(request: &CoordinationRequest) -> Self {
        match (&request.agent, &request.capability, request.decompose) {
            (Some(agent), _, _) => Self::Agent { agent: agent.clone() },
            (None, Some(capability), _) => Self::Capability { capability: capability.clone() },
            (None, None, Decompose::Always) => Self::Decompose,
            (None, None, decompose) => Self::Classify { may_decompose: decompose == Decompose::Auto },
        }
    }

    /// The capability that is needed first; `None` where the agent is named.
    pub fn first_capability(&self) -> Option<&str> {
        match self {
            Self::Agent { .. } => None,
            Self::Capability { capability } => Some(capability),
            Self::Classify { .. } => Some(CLASSIFY),
            Self::Decompose => Some(DECOMPOSE),
        }
    }
}

/// Who shall do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Who {
    Agent(String),
    Capable(String),
}

/// Something that an agent shall do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) key: String,
    pub(super) who: Who,
    pub(super) prompt: String,
    pub(super) expect: Expect,
}

/// What an agent answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentAnswer {
    /// Who.
    pub agent: String,
    /// What, in the form that was expected: text, or the object of a classification or a plan.
    pub answer: Value,
    /// Our name of the model.
    pub model: String,
    /// Made up by a simulated provider.
    pub simulated: bool,
    /// The first answer could not be used, and this is the second.
    pub repaired: bool,
    /// What it cost, all calls; `None` where no price is known.
    pub cost_nanousd: Option<i64>,
}

/// What comes next.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// These begin now, beside those that are under way.
    Begin(Vec<Wanted>),
    /// Nothing, until an answer comes.
    Wait,
    /// All is done.
    Done(Merged),
}

/// A task that is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Merged {
    /// The results as one text.
    pub(super) text: String,
    /// The agents that worked on it, in order, such as `classifier>decomposition>coder`.
    pub(super) pattern: String,
    /// Each answer to a task or subtask, by its id.
    pub(super) results: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) id: String,
    pub(super) agent: String,
    pub(super) text: String,
}

/// Where a task stands.
#[derive(Debug)]
pub(super) struct Progress<'a> {
    pub(super) request: &'a CoordinationRequest,
    pub(super) route: &'a Route,
    /// What some agent can do.
    pub(super) capabilities: &'a [String],
    /// Keys of everything that was begun.
    pub(super) begun: &'a BTreeSet<String>,
    /// Answers by key.
    pub(super) answers: &'a BTreeMap<String, AgentAnswer>,
}

impl Progress<'_> {
    /// What comes next.
    ///
    /// # Errors
    /// An answer that is not of the form that was expected, which only another version of this program can have stored.
    pub(super) fn next(&self) -> Result<Next, serde_json::Error> {
        match self.route {
            Route::Agent { agent } => self.whole(Who::Agent(agent.clone())),
            Route::Capability { capability } => self.whole(Who::Capable(capability.clone())),
            Route::Decompose => self.apart(),
            Route::Classify { may_decompose } => {
                let Some(answer) = self.answers.get(CLASSIFY_KEY) else {
                    let expect = Expect::Classification { capabilities: self.of_subtasks() };
                    return Ok(self.once(CLASSIFY_KEY, Who::Capable(CLASSIFY.into()), expect));
                };
                let found = Classification::deserialize(&answer.answer)?;
                if found.decompose && *may_decompose {
                    self.apart()
                } else {
                    self.whole(Who::Capable(found.capability))
                }
            }
        }
    }

    /// Capabilities that subtasks may need.
    fn of_subtasks(&self) -> Vec<String> {
        self.capabilities.iter().filter(|name| !OWN.contains(&name.as_str())).cloned().collect()
    }

    /// Something about the whole task, unless it is under way.
    fn once(&self, key: &str, who: Who, expect: Expect) -> Next {
        if self.begun.contains(key) {
            return Next::Wait;
        }
        Next::Begin(vec![Wanted { key: key.to_owned(), who, prompt: self.request.task.clone(), expect }])
    }

    fn whole(&self, who: Who) -> Result<Next, serde_json::Error> {
        let Some(answer) = self.answers.get(WHOLE_KEY) else { return Ok(self.once(WHOLE_KEY, who, Expect::Text)) };
        let text = String::deserialize(&answer.answer)?;
        let part = Part { id: WHOLE_KEY.into(), agent: answer.agent.clone(), text: text.clone() };
        Ok(Next::Done(Merged { text, pattern: self.pattern(&[WHOLE_KEY.into()]), results: vec![part] }))
    }

    fn apart(&self) -> Result<Next, serde_json::Error> {
        let Some(answer) = self.answers.get(DECOMPOSE_KEY) else {
            let expect = Expect::Plan { capabilities: self.of_subtasks() };
            return Ok(self.once(DECOMPOSE_KEY, Who::Capable(DECOMPOSE.into()), expect));
        };
        let plan = TaskPlan::deserialize(&answer.answer)?;
        let (begun, done) = (subtasks(self.begun.iter()), subtasks(self.answers.keys()));
        let (begun, done) = (names(&begun), names(&done));
        let ready = plan.ready(&begun, &done);
        if !ready.is_empty() {
            return Ok(Next::Begin(ready.into_iter().map(|task| self.subtask(task)).collect()));
        }
        if done.len() < plan.tasks.len() {
            return Ok(Next::Wait);
        }
        let mut texts = BTreeMap::new();
        let mut results = Vec::with_capacity(plan.tasks.len());
        for task in &plan.tasks {
            let Some(answer) = self.answers.get(&key_of(task)) else { continue };
            let text = String::deserialize(&answer.answer)?;
            texts.insert(task.id.clone(), text.clone());
            results.push(Part { id: task.id.clone(), agent: answer.agent.clone(), text });
        }
        let pattern = self.pattern(&in_order(&plan).map(key_of).collect::<Vec<_>>());
        Ok(Next::Done(Merged { text: plan.merged(&texts), pattern, results }))
    }

    /// A subtask, told the whole task and the results that it waited for. They were paid for, so where there is not
    /// room for all of them, each has an equal share.
    fn subtask(&self, task: &PlannedTask) -> Wanted {
        let mut prompt = format!("{}\n\nThis is one part of a larger task:\n\n{}", task.prompt, self.request.task);
        let results = task.after.iter().enumerate().map(|(position, other)| {
            let answer = self.answers.get(&format!("{SUBTASK_PREFIX}{other}"));
            let text = answer.and_then(|answer| answer.answer.as_str()).unwrap_or_default();
            let opening = if position == 0 { "\n\nResults of the parts before it:" } else { "" };
            (format!("{opening}\n\n## {other}\n\n"), text)
        });
        let results: Vec<(String, &str)> = results.collect();
        let titles: usize = results.iter().map(|(title, _)| title.len()).sum();
        let room = PROMPT_BYTES_MAX.saturating_sub(prompt.len() + titles);
        let are_cut = results.iter().map(|(_, text)| text.len()).sum::<usize>() > room;
        let share = room / results.len().max(1);
        for (title, text) in results {
            prompt.push_str(&title);
            if are_cut && text.len() > share {
                prompt.push_str(&text[..text.floor_char_boundary(share.saturating_sub(CUT.len()))]);
                prompt.push_str(CUT);
            } else {
                prompt.push_str(text);
            }
        }
        Wanted { key: key_of(task), who: Who::Capable(task.capability.clone()), prompt, expect: Expect::Text }
    }

    /// The agents of the steps before and of `keys`, one after the other; who comes twice in a row stands once.
    fn pattern(&self, keys: &[String]) -> String {
        let before = [CLASSIFY_KEY, DECOMPOSE_KEY].map(str::to_owned);
        let all = before.iter().chain(keys).filter_map(|key| self.answers.get(key));
        let mut names: Vec<&str> = all.map(|answer| answer.agent.as_str()).collect();
        names.dedup();
        names.join(">")
    }
}

/// The ids of subtasks among keys.
fn subtasks<'a>(keys: impl Iterator<Item = &'a String>) -> BTreeSet<String> {
    keys.filter_map(|key| key.strip_prefix(SUBTASK_PREFIX)).map(str::to_owned).collect()
}

fn names(ids: &BTreeSet<String>) -> BTreeSet<&str> {
    ids.iter().map(String::as_str).collect()
}

fn key_of(task: &PlannedTask) -> String {
    format!("{SUBTASK_PREFIX}{}", task.id)
}

/// Subtasks so that each stands behind those that it waits for.
fn in_order(plan: &TaskPlan) -> impl Iterator<Item = &PlannedTask> {
    let mut done: BTreeSet<&str> = BTreeSet::new();
    let mut order = Vec::with_capacity(plan.tasks.len());
    loop {
        let ready = plan.ready(&done, &done);
        if ready.is_empty() {
            return order.into_iter();
        }
        done.extend(ready.iter().map(|task| task.id.as_str()));
        order.extend(ready);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Case {
        request: CoordinationRequest,
        route: Route,
        begun: BTreeSet<String>,
        answers: BTreeMap<String, AgentAnswer>,
    }

    impl Case {
        fn of(request: Value) -> Self {
            let request = CoordinationRequest::parse(&request).unwrap();
            let route = Route::of(&request);
            Self { request, route, begun: BTreeSet::new(), answers: BTreeMap::new() }
        }

        /// What begins now; it counts as begun afterwards.
        fn begins(&mut self) -> Vec<Wanted> {
            match self.next() {
                Next::Begin(wanted) => {
                    self.begun.extend(wanted.iter().map(|wanted| wanted.key.clone()));
                    wanted
                }
                other => panic!("{other:?}"),
            }
        }

        fn next(&self) -> Next {
            let capabilities = ["classify", "code", "decompose", "write"].map(str::to_owned);
            let Self { request, route, begun, answers } = self;
            Progress { request, route, capabilities: &capabilities, begun, answers }.next().unwrap()
        }

        fn answered(&mut self, key: &str, agent: &str, answer: Value) {
            let answer = AgentAnswer {
                agent: agent.into(),
                answer,
                model: "m".into(),
                simulated: true,
                repaired: false,
                cost_nanousd: Some(1),
            };
            self.answers.insert(key.into(), answer);
        }
    }

    #[test]
    fn a_named_agent_or_capability_does_the_task_at_once() {
        for (request, who) in [
            (json!({"task": "t", "agent": "ann"}), Who::Agent("ann".into())),
            (json!({"task": "t", "capability": "code"}), Who::Capable("code".into())),
        ] {
            let mut case = Case::of(request);
            let wanted = case.begins();
            assert_eq!((wanted.len(), &wanted[0].who, wanted[0].prompt.as_str()), (1, &who, "t"));
            assert_eq!(case.next(), Next::Wait);
            case.answered("task", "ann", json!("done"));
            let Next::Done(merged) = case.next() else { panic!() };
            assert_eq!((merged.text.as_str(), merged.pattern.as_str()), ("done", "ann"));
        }
    }

    #[test]
    fn classifier_decomposition_and_coders_make_the_pattern() {
        let mut case = Case::of(json!({"task": "build it"}));
        let wanted = case.begins();
        let classification = Expect::Classification { capabilities: vec!["code".into(), "write".into()] };
        assert_eq!((wanted[0].who.clone(), &wanted[0].expect), (Who::Capable("classify".into()), &classification));
        assert_eq!(case.next(), Next::Wait);
        case.answered("classify", "classifier", json!({"capability": "code", "decompose": true}));
        assert_eq!(case.begins()[0].key, "decompose");
        let task = |id: &str, after: &[&str]| {
            let prompt = format!("do {id}");
            json!({"id": id, "capability": "code", "prompt": prompt, "after": after})
        };
        let plan = json!({"tasks": [task("join", &["a", "b"]), task("a", &[]), task("b", &[])]});
        case.answered("decompose", "decomposition", plan);
        let wanted = case.begins();
        assert_eq!(wanted.iter().map(|wanted| wanted.key.as_str()).collect::<Vec<_>>(), ["task.a", "task.b"]);
        assert!(wanted[0].prompt.starts_with("do a\n\n") && wanted[0].prompt.ends_with("build it"));
        case.answered("task.b", "coder", json!("result of b"));
        assert_eq!(case.next(), Next::Wait);
        case.answered("task.a", "coder", json!("result of a"));
        let wanted = case.begins();
        assert_eq!(wanted[0].key, "task.join");
        assert!(wanted[0].prompt.ends_with("## a\n\nresult of a\n\n## b\n\nresult of b"), "{}", wanted[0].prompt);
        case.answered("task.join", "coder", json!("all of it"));
        let Next::Done(merged) = case.next() else { panic!() };
        assert_eq!((merged.text.as_str(), merged.pattern.as_str()), ("all of it", "classifier>decomposition>coder"));
        assert_eq!(merged.results.iter().map(|part| part.id.as_str()).collect::<Vec<_>>(), ["join", "a", "b"]);
    }

    #[test]
    fn results_that_are_too_long_together_are_cut_to_equal_shares() {
        use crate::workflow::agents::AgentTask;
        let join = |lengths: [usize; 2]| {
            let mut case = Case::of(json!({"task": "t".repeat(100_000), "decompose": "always"}));
            case.begins();
            let task =
                |id: &str, after: &[&str]| json!({"id": id, "capability": "code", "prompt": "p", "after": after});
            let plan = json!({"tasks": [task("join", &["a", "b"]), task("a", &[]), task("b", &[])]});
            case.answered("decompose", "decomposition", plan);
            case.begins();
            case.answered("task.a", "coder", json!("ä".repeat(lengths[0] / 2)));
            case.answered("task.b", "coder", json!("b".repeat(lengths[1])));
            let prompt = case.begins().remove(0).prompt;
            AgentTask::parse(&json!({"agent": "coder", "prompt": prompt})).unwrap();
            let marks = prompt.matches("[the rest did not fit]").count();
            (prompt.matches('ä').count() * 2, prompt.matches('b').count() > lengths[1], marks)
        };
        assert_eq!(join([150_000, 150_000]), (150_000, true, 0), "what users may not write fits all the same");
        let (cut, is_whole, marks) = join([3_000_000, 1_000]);
        assert!((440_000..450_000).contains(&cut) && is_whole && marks == 1, "{cut} {is_whole} {marks}");
        assert_eq!(join([3_000_000, 3_000_000]).2, 2);
    }

    #[test]
    fn a_task_is_taken_apart_only_where_it_may_be() {
        let mut case = Case::of(json!({"task": "t", "decompose": "never"}));
        case.begins();
        case.answered("classify", "classifier", json!({"capability": "write", "decompose": true}));
        assert_eq!(case.begins()[0].who, Who::Capable("write".into()));
        case.answered("task", "writer", json!("done"));
        let Next::Done(merged) = case.next() else { panic!() };
        assert_eq!(merged.pattern, "classifier>writer");
        let mut case = Case::of(json!({"task": "t", "decompose": "always"}));
        assert_eq!(case.begins()[0].who, Who::Capable("decompose".into()));
    }
}
