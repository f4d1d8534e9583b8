//! A task taken apart: what a model answers, checked before anything of it runs. Pure.
//!
//! Every problem is told at once, because the model that made the plan is shown them and may try again.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Subtasks of one plan.
pub const PLAN_TASKS_MAX: usize = 50;
/// Characters of a subtask's prompt.
pub const PLAN_PROMPT_CHARS_MAX: usize = 20_000;
/// Characters of a subtask's id.
pub const PLAN_ID_CHARS_MAX: usize = 40;
/// Problems that are told of one plan.
const PROBLEMS_MAX: usize = 10;
/// Characters of a foreign word that a problem repeats.
const SHOWN_CHARS_MAX: usize = 60;

/// A task as subtasks that wait for each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskPlan {
    /// Subtasks, in the order in which their results are put together.
    pub tasks: Vec<PlannedTask>,
}

/// One subtask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedTask {
    /// Unique in the plan: letters, digits, `_` and `-`.
    pub id: String,
    /// What its agent must be able to do.
    pub capability: String,
    /// What is to be done. The results of the subtasks that it waits for are handed to its agent as well.
    pub prompt: String,
    /// Ids of subtasks that must be done before.
    #[serde(default)]
    pub after: Vec<String>,
}

impl TaskPlan {
    /// Reads a plan and checks it. `capabilities` are those that some agent has.
    ///
    /// # Errors
    /// Everything that is wrong with it, as one text for people and for the model that made it.
    pub fn parse(text: &str, capabilities: &[String]) -> Result<Self, String> {
        let plan: Self = super::answer::json_of(text)?;
        let problems = plan.problems(capabilities);
        if problems.is_empty() { Ok(plan) } else { Err(problems.join("; ")) }
    }

    fn problems(&self, capabilities: &[String]) -> Vec<String> {
        let mut problems = Vec::new();
        if self.tasks.is_empty() {
            problems.push("it has no tasks".to_owned());
        }
        if self.tasks.len() > PLAN_TASKS_MAX {
            return vec![format!("it has {} tasks; at most {PLAN_TASKS_MAX} are allowed", self.tasks.len())];
        }
        let mut ids = BTreeSet::new();
        for task in &self.tasks {
            let shown = shown(&task.id);
            let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            if task.id.is_empty() || task.id.len() > PLAN_ID_CHARS_MAX || !task.id.chars().all(allowed) {
                problems.push(format!(
                    "id {shown} is not allowed; it has 1 to {PLAN_ID_CHARS_MAX} letters, digits, _ or -"
                ));
            }
            if !ids.insert(task.id.as_str()) {
                problems.push(format!("two tasks have the id {shown}"));
            }
            if !capabilities.contains(&task.capability) {
                let (asked, known) = (self::shown(&task.capability), capabilities.join(", "));
                problems.push(format!("task {shown} needs the capability {asked}; there are {known}"));
            }
            let chars = task.prompt.chars().count();
            if task.prompt.trim().is_empty() || chars > PLAN_PROMPT_CHARS_MAX {
                let allowed = format!("1 to {PLAN_PROMPT_CHARS_MAX} characters are allowed, not all blank");
                problems.push(format!("the prompt of task {shown} has {chars} characters; {allowed}"));
            }
        }
        for task in &self.tasks {
            let mut before = BTreeSet::new();
            for other in &task.after {
                let (task, other_shown) = (shown(&task.id), shown(other));
                if !ids.contains(other.as_str()) {
                    problems.push(format!("task {task} waits for {other_shown}, which is no task of the plan"));
                }
                if !before.insert(other) {
                    problems.push(format!("task {task} waits for {other_shown} twice"));
                }
            }
        }
        if problems.is_empty()
            && let Some(circle) = self.circle()
        {
            problems.push(format!("these tasks wait for each other in a circle: {}", circle.join(", ")));
        }
        problems.truncate(PROBLEMS_MAX);
        problems
    }

    /// Tasks that can never begin, because each waits for one of them; `None` when there are none.
    fn circle(&self) -> Option<Vec<&str>> {
        let mut left: BTreeMap<&str, BTreeSet<&str>> =
            self.tasks.iter().map(|task| (task.id.as_str(), task.after.iter().map(String::as_str).collect())).collect();
        loop {
            let free: Vec<&str> = left.iter().filter(|(_, after)| after.is_empty()).map(|(id, _)| *id).collect();
            if free.is_empty() {
                return (!left.is_empty()).then(|| left.into_keys().collect());
            }
            for id in free {
                left.remove(id);
                left.values_mut().for_each(|after| after.retain(|other| *other != id));
            }
        }
    }

    /// Subtasks that can begin: not begun, and everything that they wait for is done. In the order of the plan.
    pub fn ready<'a>(&'a self, begun: &BTreeSet<&str>, done: &BTreeSet<&str>) -> Vec<&'a PlannedTask> {
        let can_begin = |task: &&PlannedTask| {
            !begun.contains(task.id.as_str()) && task.after.iter().all(|other| done.contains(other.as_str()))
        };
        self.tasks.iter().filter(can_begin).collect()
    }

    /// Subtasks that no other waits for: what the plan is made for. In the order of the plan.
    pub fn last(&self) -> Vec<&PlannedTask> {
        let waited_for: BTreeSet<&String> = self.tasks.iter().flat_map(|task| &task.after).collect();
        self.tasks.iter().filter(|task| !waited_for.contains(&task.id)).collect()
    }

    /// The results as one text: that of the last subtask, or those of all last ones with their ids as headings.
    pub fn merged(&self, results: &BTreeMap<String, String>) -> String {
        let text = |task: &PlannedTask| results.get(&task.id).map(String::as_str).unwrap_or_default();
        match self.last().as_slice() {
            [only] => text(only).to_owned(),
            several => {
                let parts = several.iter().map(|task| format!("## {}\n\n{}", task.id, text(task).trim_end()));
                parts.collect::<Vec<_>>().join("\n\n")
            }
        }
    }
}

fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(SHOWN_CHARS_MAX).collect::<String>())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn known() -> Vec<String> {
        vec!["code".into(), "test".into()]
    }

    fn task(id: &str, after: &[&str]) -> Value {
        json!({"id": id, "capability": "code", "prompt": "do it", "after": after})
    }

    fn parse(tasks: &[Value]) -> Result<TaskPlan, String> {
        TaskPlan::parse(&json!({ "tasks": tasks }).to_string(), &known())
    }

    #[test]
    fn a_plan_is_read_with_and_without_a_fence() {
        let text = json!({"tasks": [{"id": "a", "capability": "test", "prompt": "p"}]}).to_string();
        let plan = TaskPlan::parse(&text, &known()).unwrap();
        assert_eq!((plan.tasks[0].id.as_str(), plan.tasks[0].after.len()), ("a", 0));
        assert_eq!(TaskPlan::parse(&format!("```json\n{text}\n```\n"), &known()).unwrap(), plan);
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let mut unable = task("u", &["nobody", "a", "a"]);
        unable["capability"] = "paint".into();
        let mut blank = task("a b", &[]);
        blank["prompt"] = " ".into();
        let text = parse(&[task("a", &[]), task("a", &[]), unable, blank]).unwrap_err();
        for part in [
            "two tasks have the id \"a\"",
            "needs the capability \"paint\"; there are code, test",
            "waits for \"nobody\", which is no task",
            "waits for \"a\" twice",
            "id \"a b\" is not allowed",
            "the prompt of task \"a b\" has 1 characters",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert!(parse(&[]).unwrap_err().contains("no tasks"));
        let many: Vec<Value> = (0..=PLAN_TASKS_MAX).map(|number| task(&format!("t{number}"), &[])).collect();
        assert_eq!(parse(&many).unwrap_err(), "it has 51 tasks; at most 50 are allowed");
        assert!(parse(&[task("x", &["x"])]).unwrap_err().contains("circle: x"));
        let circle = parse(&[task("free", &[]), task("a", &["b"]), task("b", &["c"]), task("c", &["a", "free"])]);
        assert!(circle.unwrap_err().ends_with("in a circle: a, b, c"));
    }

    #[test]
    fn what_is_no_plan_is_refused() {
        for text in ["", "Sure! Here is the plan.", "[]", "{}", r#"{"tasks": 7}"#, r#"{"tasks": [], "more": 1}"#] {
            assert!(TaskPlan::parse(text, &known()).is_err(), "{text}");
        }
        assert!(TaskPlan::parse(r#"{"tasks": [{"id": "a"}]}"#, &known()).unwrap_err().contains("capability"));
    }

    #[test]
    fn results_of_the_last_subtasks_are_put_together() {
        let results = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), format!("of {name}\n"))).collect();
        let chain = parse(&[task("a", &[]), task("b", &["a"])]).unwrap();
        assert_eq!(chain.merged(&results(&["a", "b"])), "of b\n");
        let fork = parse(&[task("b", &["a"]), task("a", &[]), task("c", &["a"])]).unwrap();
        assert_eq!(fork.merged(&results(&["a", "b", "c"])), "## b\n\nof b\n\n## c\n\nof c");
    }

    /// Tasks that wait only for tasks of lower numbers: no circle. Then in a drawn order.
    fn graphs() -> impl Strategy<Value = TaskPlan> {
        let edges = (1_usize..20).prop_flat_map(|count| {
            let masks = prop::collection::vec(prop::collection::vec(any::<bool>(), count), count);
            (masks, Just((0..count).collect::<Vec<usize>>()).prop_shuffle())
        });
        edges.prop_map(|(masks, order)| TaskPlan {
            tasks: order
                .iter()
                .map(|number| PlannedTask {
                    id: format!("t{number}"),
                    capability: "code".into(),
                    prompt: "do it".into(),
                    after: (0..*number)
                        .filter(|other| masks[*number][*other])
                        .map(|other| format!("t{other}"))
                        .collect(),
                })
                .collect(),
        })
    }

    proptest! {
        /// Subtasks end in any order: each begins once, after all that it waits for, and as soon as that is done.
        #[test]
        fn every_subtask_runs_once_and_after_what_it_waits_for(
            plan in graphs(), draws in prop::collection::vec(any::<u32>(), 40),
        ) {
            prop_assert_eq!(plan.problems(&known()), Vec::<String>::new());
            let (mut begun, mut done, mut under_way) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
            let mut draws = draws.into_iter().cycle();
            loop {
                for task in plan.ready(&begun, &done) {
                    prop_assert!(task.after.iter().all(|other| done.contains(other.as_str())));
                    prop_assert!(begun.insert(task.id.as_str()), "begun once");
                    under_way.push(task.id.as_str());
                }
                prop_assert!(plan.ready(&begun, &done).is_empty(), "nothing that could begin is left waiting");
                if under_way.is_empty() {
                    break;
                }
                let next = usize::try_from(draws.next().unwrap()).unwrap() % under_way.len();
                done.insert(under_way.swap_remove(next));
            }
            prop_assert_eq!(done.len(), plan.tasks.len());
            prop_assert!(!plan.last().is_empty());
        }

        #[test]
        fn one_edge_backwards_along_a_path_is_a_circle(mut plan in graphs()) {
            let Some(position) = plan.tasks.iter().position(|task| !task.after.is_empty()) else { return Ok(()) };
            let (id, before) = (plan.tasks[position].id.clone(), plan.tasks[position].after[0].clone());
            let other = plan.tasks.iter_mut().find(|task| task.id == before).unwrap();
            other.after.push(id.clone());
            let problems = plan.problems(&known());
            prop_assert!(problems[0].contains("circle") && problems[0].contains(&id), "{:?}", problems);
        }
    }
}
