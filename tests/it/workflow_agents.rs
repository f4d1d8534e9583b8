//! Agents against a provider over HTTP: the pipeline, who is chosen, answers that cannot be used, crashes and cancels.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use singularity::config::{Agent, Config, Model, Period, Price, Provider, ProviderKind, Route};
use singularity::queue::{Engine, Job, NewJob, State, Workers};
use singularity::workflow::agents::{AGENT_COORDINATION, AGENT_TASK, Facts, META_PICK};
use singularity::workflow::{Store, StoredResult};

use crate::cli_support::run;
use crate::support::db::TestDb;
use crate::support::node::{TestNode, reaches, until};
use crate::support::process::Place;
use crate::support::provider::{FakeProvider, Reply, USAGE, Wire};

/// What an agent's model answers: by model, and by a word of the last message.
type Script = Arc<Mutex<Vec<(&'static str, &'static str, Reply)>>>;

struct Bench {
    db: TestDb,
    node: TestNode,
    provider: FakeProvider,
    store: Store,
    script: Script,
    config: Config,
}

fn agents(config: &mut Config, base_url: String) {
    let mut provider = Provider { kind: ProviderKind::Openai, base_url: Some(base_url), ..Provider::default() };
    (provider.timeouts.first_byte, provider.timeouts.idle) = (Period::from_secs(60), Period::from_secs(60));
    config.providers = [("p".to_owned(), provider)].into();
    config.models.clear();
    for (name, capabilities) in [
        ("classifier", vec!["classify"]),
        ("decomposition", vec!["decompose"]),
        ("coder", vec!["code"]),
        ("twin", vec!["review"]),
    ] {
        let price = Price { input: 1.0, output: 10.0, cache_read: None, cache_write: None };
        let model = Model { provider: "p".into(), name: name.into(), price: Some(price), ..Model::default() };
        config.models.insert(name.into(), model);
        let agent = Agent {
            capabilities: capabilities.into_iter().map(str::to_owned).collect(),
            system_prompt: format!("You are the {name}."),
            model: Some(name.into()),
            ..Agent::default()
        };
        config.agents.insert(name.into(), agent);
    }
}

const CLASSIFIED: &str = r#"{"capability": "code", "decompose": true}"#;
/// Two parts at the same time, and one that needs both.
const PLAN: &str = r#"{"tasks": [
    {"id": "one", "capability": "code", "prompt": "part ONE"},
    {"id": "two", "capability": "code", "prompt": "part TWO"},
    {"id": "both", "capability": "code", "prompt": "part BOTH", "after": ["one", "two"]}
]}"#;

impl Bench {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let db = TestDb::new().await;
        let provider = FakeProvider::start(Wire::Openai).await;
        let script: Script = Arc::default();
        let rules = Arc::clone(&script);
        provider.choose(move |body| {
            let rules = rules.lock().unwrap();
            let last = body["messages"].as_array()?.last()?["content"].as_str()?.to_owned();
            let fits = |(model, word, _): &&(&str, &str, Reply)| body["model"] == *model && last.contains(word);
            rules.iter().find(fits).map(|(_, _, reply)| reply.clone())
        });
        let mut used = Config::default();
        let node = TestNode::try_start(db.url(), "one", Workers::default(), |config| {
            agents(config, provider.base_url());
            // Failed jobs stay where they are, so that tests can look at them; those that wait for children are woken.
            config.services.stager.interval = Period::from_secs(3_600);
            change(config);
            used = config.clone();
        })
        .await
        .unwrap();
        let store = Store::new(node.engine().db().clone());
        let bench = Self { db, node, provider, store, script, config: used };
        bench.answers(&[
            ("classifier", "", CLASSIFIED),
            ("decomposition", "", PLAN),
            ("coder", "part BOTH", "text of both"),
            ("coder", "part ONE", "text of one"),
            ("coder", "part TWO", "text of two"),
            ("coder", "", "text of the whole"),
        ]);
        bench
    }

    /// Instead of all rules before.
    fn answers(&self, rules: &[(&'static str, &'static str, &str)]) {
        let rules = rules.iter().map(|(model, word, text)| (*model, *word, Reply::stream(text)));
        *self.script.lock().unwrap() = rules.collect();
    }

    /// Before all rules that are there.
    fn first(&self, model: &'static str, word: &'static str, reply: Reply) {
        self.script.lock().unwrap().insert(0, (model, word, reply));
    }

    fn engine(&self) -> &Engine {
        self.node.engine()
    }

    async fn insert(&self, args: Value) -> i64 {
        self.engine().insert(NewJob::new(AGENT_COORDINATION, args).max_attempts(5)).await.unwrap().id
    }

    async fn ends(&self, args: Value, state: State) -> Job {
        let id = self.insert(args).await;
        reaches(self.engine(), id, state).await
    }

    async fn result(&self, id: i64) -> StoredResult {
        self.store.results(&[id]).await.unwrap().into_iter().next().unwrap()
    }

    /// Jobs of single agents, oldest first.
    async fn children(&self) -> Vec<Job> {
        let sql = "SELECT id FROM oban_jobs WHERE worker = $1 ORDER BY id";
        let ids: Vec<i64> =
            sqlx::query_scalar(sql).bind(AGENT_TASK).fetch_all(self.engine().db().pool()).await.unwrap();
        let mut jobs = Vec::new();
        for id in ids {
            jobs.push(self.engine().get(id).await.unwrap().unwrap());
        }
        jobs
    }

    /// How often each model was asked about something with this word in its last message.
    fn calls(&self) -> BTreeMap<String, usize> {
        let mut calls = BTreeMap::new();
        for received in self.provider.received() {
            let last = received.body["messages"].as_array().unwrap().last().unwrap()["content"].to_string();
            let part = ["BOTH", "ONE", "TWO"].into_iter().find(|word| last.contains(&format!("part {word}")));
            let model = received.body["model"].as_str().unwrap();
            *calls.entry(part.map_or(model.to_owned(), |part| format!("{model} {part}"))).or_default() += 1;
        }
        calls
    }
}

fn error(job: &Job) -> &str {
    job.errors.last().unwrap()["error"].as_str().unwrap()
}

#[tokio::test]
async fn a_task_is_classified_taken_apart_done_and_put_together() {
    // One slot: whoever waits for others holds none.
    let bench = Bench::with(|config| config.queues.get_mut("default").unwrap().limit = 1).await;
    let job = bench.ends(json!({"task": "build the thing", "id": "r-1"}), State::Completed).await;
    let result = bench.result(job.id).await;
    assert_eq!((result.success, result.request_id.as_deref(), result.cost_nanousd), (true, Some("r-1"), Some(0)));
    let answer = result.result.unwrap();
    assert_eq!(
        (&answer["text"], &answer["pattern"]),
        (&json!("text of both"), &json!("classifier>decomposition>coder"))
    );
    let patterns: Vec<String> = sqlx::query_scalar("SELECT patterns_discovered FROM job_results WHERE job_id = $1")
        .bind(job.id)
        .fetch_one(bench.engine().db().pool())
        .await
        .unwrap();
    assert_eq!(patterns, ["classifier>decomposition>coder"]);
    let parts: Vec<(&str, &str)> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| (part["id"].as_str().unwrap(), part["text"].as_str().unwrap()))
        .collect();
    assert_eq!(parts, [("one", "text of one"), ("two", "text of two"), ("both", "text of both")]);
    assert_eq!(bench.provider.calls(), 5);
    let received = bench.provider.received();
    let asked = |position: usize| received[position].body["messages"].to_string();
    assert!(asked(0).contains("You are the classifier.") && asked(0).contains("these capabilities"), "{}", asked(0));
    assert!(
        asked(4).contains("text of one") && asked(4).contains("text of two") && asked(4).contains("build the thing")
    );
    // What the agents cost stands in their own rows, and as a sum in the answer.
    let each = USAGE.0 as i64 * 1_000 + USAGE.1 as i64 * 10_000;
    let children = bench.children().await;
    for child in &children {
        let row = bench.result(child.id).await;
        assert_eq!((row.cost_nanousd, row.model_used.as_deref()), (Some(each), child.args["agent"].as_str()));
        assert_eq!(child.meta[META_PICK]["agent"], child.args["agent"]);
    }
    assert_eq!((children.len(), &answer["agents_cost_nanousd"]), (5, &json!(5 * each)));
}

#[tokio::test]
async fn parts_that_do_not_need_each_other_run_at_once_and_end_with_their_parent() {
    let bench = Bench::new().await;
    bench.first("coder", "part ONE", Reply::Hang);
    bench.first("coder", "part TWO", Reply::Hang);
    let id = bench.insert(json!({"task": "build it"})).await;
    // Neither part is answered, so both are under way.
    bench.provider.until(|counts| counts.calls == 4).await;
    let job = bench.engine().get(id).await.unwrap().unwrap();
    assert_eq!(job.state, State::Scheduled, "it waits without a slot");
    bench.engine().cancel(id).await.unwrap();
    bench.provider.until(|counts| counts.hung_up == 2).await;
    for child in &bench.children().await[2..] {
        reaches(bench.engine(), child.id, State::Cancelled).await;
    }
    assert_eq!(bench.engine().get(id).await.unwrap().unwrap().state, State::Cancelled);
    assert_eq!((bench.children().await.len(), bench.provider.calls()), (4, 4));
}

#[tokio::test]
async fn an_answer_that_cannot_be_used_is_shown_to_the_model_once_more() {
    let bench = Bench::new().await;
    bench.answers(&[
        ("classifier", "Your answer cannot be used", CLASSIFIED),
        ("classifier", "", "code, I think"),
        ("decomposition", "in a circle", PLAN),
        ("decomposition", "", r#"{"tasks": [{"id": "a", "capability": "code", "prompt": "p", "after": ["a"]}]}"#),
        ("coder", "", "done"),
    ]);
    let job = bench.ends(json!({"task": "build it"}), State::Completed).await;
    assert_eq!(bench.result(job.id).await.result.unwrap()["text"], "done");
    let children = bench.children().await;
    let each = USAGE.0 as i64 * 1_000 + USAGE.1 as i64 * 10_000;
    for (child, repaired) in children.iter().zip([true, true, false]) {
        let row = bench.result(child.id).await;
        assert_eq!(row.result.as_ref().unwrap()["repaired"], repaired);
        assert_eq!(row.cost_nanousd, Some(if repaired { 2 * each } else { each }));
    }
    let second = &bench.provider.received()[1].body["messages"];
    assert_eq!((&second[2]["role"], &second[2]["content"]), (&json!("assistant"), &json!("code, I think")));
}

#[tokio::test]
async fn an_answer_that_fills_the_limit_of_its_agent_is_no_failure_of_its_model() {
    for (max_tokens, outcome) in [(Some(2), "success"), (None, "failure")] {
        let bench = Bench::with(|config| config.agents.get_mut("coder").unwrap().max_tokens = max_tokens).await;
        let choices = json!([{"message": {"content": "Once upon"}, "finish_reason": "length"}]);
        let body = json!({"choices": choices, "usage": {"prompt_tokens": 5, "completion_tokens": 2}}).to_string();
        bench.first("coder", "", Reply::Body { content_type: "application/json", body });
        bench.ends(json!({"task": "a story", "agent": "coder"}), State::Completed).await;
        let stored: Option<String> = sqlx::query_scalar("SELECT outcome FROM job_results WHERE job_id = $1")
            .bind(bench.children().await[0].id)
            .fetch_one(bench.engine().db().pool())
            .await
            .unwrap();
        assert_eq!(stored.as_deref(), Some(outcome));
    }
}

#[tokio::test]
async fn two_answers_that_cannot_be_used_end_the_task_with_the_reason() {
    let bench = Bench::new().await;
    bench.first("decomposition", "", Reply::stream("first do this, then that"));
    let job = bench.ends(json!({"task": "build it"}), State::Discarded).await;
    assert!(error(&job).contains("\"decompose\"") && error(&job).contains("E0665"), "{}", error(&job));
    assert_eq!(bench.calls(), [("classifier".to_owned(), 1), ("decomposition".to_owned(), 2)].into());
    let child = bench.children().await.pop().unwrap();
    assert_eq!(child.state, State::Discarded);
    let row = bench.result(child.id).await;
    let each = USAGE.0 as i64 * 1_000 + USAGE.1 as i64 * 10_000;
    assert_eq!((row.success, row.cost_nanousd), (false, Some(2 * each)), "both calls are paid");
    assert!(!bench.result(job.id).await.success);
}

#[tokio::test]
async fn answers_that_cannot_be_used_are_recorded_beside_the_calls_that_failed_before_them() {
    let bench = Bench::with(|config| {
        let pair = Route { models: vec!["decomposition".into(), "twin".into()] };
        config.routing.routes.insert("pair".into(), pair);
        let agent = config.agents.get_mut("decomposition").unwrap();
        (agent.model, agent.route) = (None, Some("pair".into()));
    })
    .await;
    bench.first("twin", "", Reply::stream("first do this, then that"));
    bench.first("decomposition", "", Reply::overloaded());
    bench.ends(json!({"task": "build it"}), State::Discarded).await;
    let child = bench.children().await.pop().unwrap();
    let rows: Vec<(i32, String, String)> =
        sqlx::query_as("SELECT hop, model_used, outcome FROM job_results WHERE job_id = $1 ORDER BY hop")
            .bind(child.id)
            .fetch_all(bench.engine().db().pool())
            .await
            .unwrap();
    let row = |hop, model: &str, outcome: &str| (hop, model.to_owned(), outcome.to_owned());
    let failed = |hop| row(hop, "decomposition", "infrastructure");
    assert_eq!(rows, [failed(0), failed(2), row(3, "twin", "failure")]);
    let each = USAGE.0 as i64 * 1_000 + USAGE.1 as i64 * 10_000;
    let cost: Option<i64> = sqlx::query_scalar("SELECT cost_nanousd FROM job_results WHERE job_id = $1 AND hop = 3")
        .bind(child.id)
        .fetch_one(bench.engine().db().pool())
        .await
        .unwrap();
    assert_eq!(cost, Some(2 * each), "both answers are paid");
}

#[tokio::test]
async fn a_part_that_fails_ends_the_task_and_the_parts_beside_it() {
    let bench = Bench::new().await;
    bench.first("coder", "part ONE", Reply::Hang);
    bench.first("coder", "part TWO", Reply::status(400, "invalid_request_error"));
    let job = bench.ends(json!({"task": "build it"}), State::Discarded).await;
    assert!(error(&job).contains("\"task.two\""), "{}", error(&job));
    bench.provider.until(|counts| counts.hung_up == 1).await;
    let children = bench.children().await;
    let one = children.iter().find(|child| child.args["prompt"].as_str().unwrap().contains("part ONE")).unwrap();
    reaches(bench.engine(), one.id, State::Cancelled).await;
}

#[tokio::test]
async fn what_nobody_can_do_is_refused_at_once() {
    let bench = Bench::new().await;
    for (args, code, words) in [
        (json!({"task": "t", "capability": "paint"}), "E0660", "capabilities are classify, code, decompose, review"),
        (json!({"task": "t", "agent": "codr"}), "E0664", "did you mean \"coder\"?"),
        (json!({"task": " "}), "E0662", "task has 1 bytes"),
        (json!({"tasks": "t"}), "E0661", "agent_coordination has the fields"),
        (json!({"task": "t", "agent": "coder", "capability": "code"}), "E0663", "leave one of both out"),
    ] {
        let job = bench.ends(args.clone(), State::Cancelled).await;
        assert!(
            error(&job).starts_with(&format!("** ({code})")) && error(&job).contains(words),
            "{args}: {}",
            error(&job)
        );
        assert!(!bench.result(job.id).await.success);
    }
    assert_eq!((bench.provider.calls(), bench.children().await.len()), (0, 0));
}

#[tokio::test]
async fn the_agent_is_chosen_by_its_last_runs() {
    let bench = Bench::with(|config| {
        config.agents.get_mut("twin").unwrap().capabilities = vec!["code".into()];
    })
    .await;
    bench.script.lock().unwrap().push(("twin", "", Reply::stream("text of the twin")));
    let direct = json!({"task": "t", "capability": "code"});
    let job = bench.ends(direct.clone(), State::Completed).await;
    assert_eq!(bench.result(job.id).await.result.unwrap()["pattern"], "coder", "of equals the first by name");
    let rows =
        "INSERT INTO job_results (job_id, attempt, instance_id, job_type, workflow_type, success, duration_ms, outcome,
                                         input_summary)
                SELECT 1000 + n, 1, 'one', 'agent_task', 'AgentTask', false, 1, $1, '{\"agent\": \"coder\"}'
                FROM generate_series(1, 20) n";
    let pool = bench.engine().db().pool();
    sqlx::query(rows).bind("infrastructure").execute(pool).await.unwrap();
    let job = bench.ends(direct.clone(), State::Completed).await;
    assert_eq!(bench.result(job.id).await.result.unwrap()["pattern"], "coder", "the network is not its fault");
    sqlx::query("DELETE FROM job_results WHERE outcome = 'infrastructure'").execute(pool).await.unwrap();
    sqlx::query(rows).bind("failure").execute(pool).await.unwrap();
    let job = bench.ends(direct, State::Completed).await;
    assert_eq!(bench.result(job.id).await.result.unwrap()["pattern"], "twin");
    let pick = &bench.children().await.pop().unwrap().meta[META_PICK];
    assert_eq!((&pick["considered"][1]["agent"], pick["considered"].as_array().unwrap().len()), (&json!("coder"), 2));
    let candidates = Facts::new(bench.engine().db().clone()).candidates(&bench.config).await.unwrap();
    let coder = candidates.iter().find(|candidate| candidate.name == "coder").unwrap();
    assert_eq!((coder.successes, coder.failures, coder.running), (2, 20, 0));
}

/// A loop over all writes to a table: each is refused once, as a crash right before it would, and the jobs are tried
/// again. Nothing is lost, and only a call whose own answer could not be stored is made again.
async fn crashes_at_every_write_to(table: &str) {
    for number in 1_i64.. {
        let bench = Bench::new().await;
        bench
            .db
            .execute(&format!(
                "CREATE SEQUENCE writes;
                 -- The number of a sequence stays drawn when its transaction is rolled back.
                 CREATE FUNCTION crash() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                   IF nextval('writes') = {number} THEN RAISE 'crash at this write'; END IF; RETURN NEW;
                 END $$;
                 CREATE TRIGGER crash BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION crash()"
            ))
            .await;
        let id = bench.insert(json!({"task": "build it"})).await;
        until("the end of the task", || async {
            let failed: Vec<i64> = sqlx::query_scalar("SELECT id FROM oban_jobs WHERE state = 'retryable'")
                .fetch_all(bench.engine().db().pool())
                .await
                .unwrap();
            for job in failed {
                bench.engine().retry(job).await.unwrap();
            }
            let job = bench.engine().get(id).await.unwrap().unwrap();
            assert!(matches!(job.state, State::Completed) || !job.state.is_terminal(), "{job:?}");
            (job.state == State::Completed).then_some(())
        })
        .await;
        assert_eq!(bench.result(id).await.result.unwrap()["text"], "text of both", "{table} {number}");
        assert_eq!(bench.children().await.len(), 5, "{table} {number}");
        let repeated: usize = bench.calls().values().map(|calls| calls - 1).sum();
        // A call is made again only where the write of its own answer was refused.
        assert!(repeated <= usize::from(table == "workflow_steps"), "{table} {number}: {:?}", bench.calls());
        let successes: i64 = sqlx::query_scalar("SELECT count(*) FROM job_results WHERE success")
            .fetch_one(bench.engine().db().pool())
            .await
            .unwrap();
        assert_eq!(successes, 6, "{table} {number}");
        let drawn: i64 =
            sqlx::query_scalar("SELECT last_value FROM writes").fetch_one(bench.engine().db().pool()).await.unwrap();
        bench.node.shutdown().await;
        if drawn < number {
            // There was no such write: all have been refused once.
            assert!(number > 4, "{table} was written {drawn} times");
            break;
        }
    }
}

#[tokio::test]
async fn a_crash_at_any_begin_of_a_run_loses_nothing() {
    crashes_at_every_write_to("workflow_runs").await;
}

#[tokio::test]
async fn a_crash_at_any_checkpoint_loses_nothing_and_repeats_no_stored_answer() {
    crashes_at_every_write_to("workflow_steps").await;
}

#[tokio::test]
async fn a_crash_at_any_child_loses_nothing() {
    crashes_at_every_write_to("job_children").await;
}

#[tokio::test]
async fn a_crash_at_any_result_loses_nothing() {
    crashes_at_every_write_to("job_results").await;
}

#[tokio::test]
async fn the_shipped_example_runs_without_network_by_one_command() {
    let db = TestDb::new().await;
    let place = Place::new(&db, "");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/agents");
    let (task, config) = (format!("{folder}/task.json"), format!("{folder}/actors.toml"));
    let args = ["workflow", "run", AGENT_COORDINATION, "--file", &task, "--config", &config, "--here", "--json"];
    let shown = run(&place, &args).done().document("singularity.workflow.v1");
    let result = &shown["result"];
    assert_eq!((&result["success"], &result["simulated"]), (&json!(true), &json!(true)));
    assert_eq!(result["result"]["pattern"], "classifier>decomposition>coder");
    assert_eq!(result["result"]["text"], "for line in stdin: counts[parse(line).level] += 1; print(counts)");
    assert_eq!(shown["run"]["children"].as_array().unwrap().len(), 5);
}
