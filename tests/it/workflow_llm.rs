//! The `llm_request` workflow against a provider over HTTP: what each of its answers does to job and result.

use serde_json::{Value, json};
use singularity::config::{Complexity, Config, Model, Period, Price, Provider, ProviderKind, SecretRef};
use singularity::queue::{Engine, Job, NewJob, State, Workers};
use singularity::workflow::{LLM_REQUEST, Store, StoredResult};

use crate::cli_support::run;
use crate::support::db::TestDb;
use crate::support::node::{TestNode, reaches};
use crate::support::process::Place;
use crate::support::provider::{FakeProvider, Reply, USAGE, Wire};
use crate::support::rows::seconds_until;

/// One model `m` at 1 and 10 dollars per million tokens, which serves everything.
pub fn models(config: &mut Config, wire: Wire, base_url: String) {
    let kind = match wire {
        Wire::Openai => ProviderKind::Openai,
        Wire::Anthropic => ProviderKind::Anthropic,
    };
    let mut provider = Provider { kind, base_url: Some(base_url), ..Provider::default() };
    (provider.timeouts.first_byte, provider.timeouts.idle) = (Period::from_millis(1_500), Period::from_millis(1_500));
    let price = Price { input: 1.0, output: 10.0, cache_read: None, cache_write: None };
    config.providers = [("p".to_owned(), provider)].into();
    config.models =
        [("m".to_owned(), Model { provider: "p".into(), name: "m-1".into(), price: Some(price), ..Model::default() })]
            .into();
    config.routing.models = [(Complexity::Medium, "m".to_owned()), (Complexity::Simple, "m".to_owned())].into();
    config.routing.task_types = [("parser".to_owned(), Complexity::Simple)].into();
}

struct Bench {
    db: TestDb,
    node: TestNode,
    provider: FakeProvider,
    store: Store,
    key: tempfile::NamedTempFile,
}

impl Bench {
    async fn new(wire: Wire) -> Self {
        let db = TestDb::new().await;
        let provider = FakeProvider::start(wire).await;
        let key = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(key.path(), "sk-secret").unwrap();
        let node = TestNode::try_start(db.url(), "one", Workers::default(), |config| {
            models(config, wire, provider.base_url());
            config.providers.get_mut("p").unwrap().api_key = Some(SecretRef::File(key.path().into()));
            // Snoozed and failed jobs stay where they are, so that tests can look at them.
            config.services.stager.interval = Period::from_secs(3_600);
        })
        .await
        .unwrap();
        let store = Store::new(node.engine().db().clone());
        Self { db, node, provider, store, key }
    }

    fn engine(&self) -> &Engine {
        self.node.engine()
    }

    async fn insert(&self, args: Value) -> i64 {
        self.engine().insert(NewJob::new(LLM_REQUEST, args).max_attempts(5)).await.unwrap().id
    }

    /// One request that is answered like this, until its job is in this state.
    async fn ask(&self, reply: Reply, state: State) -> Job {
        self.provider.then([reply]);
        let id = self.insert(json!({"prompt": "hello", "id": "r-1"})).await;
        reaches(self.engine(), id, state).await
    }

    async fn result(&self, id: i64) -> Option<StoredResult> {
        self.store.results(&[id]).await.unwrap().into_iter().next()
    }

    async fn steps(&self, id: i64) -> Vec<String> {
        self.store.run(id).await.unwrap().unwrap().steps.into_iter().map(|step| step.step).collect()
    }

    /// Lets a job run again that waits.
    async fn again(&self, id: i64) {
        self.engine().retry(id).await.unwrap();
    }
}

fn error(job: &Job) -> &str {
    job.errors.last().unwrap()["error"].as_str().unwrap()
}

#[tokio::test]
async fn an_answer_is_stored_with_tokens_cost_and_reason_of_the_choice() {
    for wire in [Wire::Openai, Wire::Anthropic] {
        let bench = Bench::new(wire).await;
        bench.provider.then([Reply::stream("the answer")]);
        let id = bench.insert(json!({"prompt": "hello", "id": "r-1", "task_type": "parser", "max_tokens": 77})).await;
        reaches(bench.engine(), id, State::Completed).await;
        let result = bench.result(id).await.unwrap();
        assert_eq!((result.success, result.request_id.as_deref(), result.error_reason), (true, Some("r-1"), None));
        let (input, output) = (USAGE.0 as i64, USAGE.1 as i64);
        assert_eq!((result.tokens_input, result.tokens_output), (Some(input), Some(output)));
        assert_eq!(result.cost_nanousd, Some(input * 1_000 + output * 10_000));
        assert_eq!(
            (result.provider.as_deref(), result.model_used.as_deref(), result.simulated),
            (Some("p"), Some("m"), false)
        );
        assert!(result.time_to_first_token_ms.is_some());
        let answer = result.result.unwrap();
        assert_eq!((&answer["text"], &answer["finish_reason"]), (&json!("the answer"), &json!("stop")));
        assert_eq!(bench.steps(id).await, ["receive", "select_model", "call_llm", "publish_result"]);
        let run = bench.store.run(id).await.unwrap().unwrap();
        assert_eq!(run.steps[1].output["reason"], "task_type");
        let sent = &bench.provider.received()[0];
        assert_eq!((&sent.body["model"], sent.body.to_string().contains("hello")), (&json!("m-1"), true));
        let row: (i64, String, String, String, Option<i64>) = sqlx::query_as(
            "SELECT tokens_used, job_type, workflow_type, prices_version, cost_cents
             FROM job_results WHERE job_id = $1",
        )
        .bind(id)
        .fetch_one(bench.engine().db().pool())
        .await
        .unwrap();
        assert_eq!(row, (input + output, "llm_request".into(), "LlmRequest".into(), "actors.toml".into(), Some(0)));
    }
}

#[tokio::test]
async fn a_429_snoozes_the_job_for_as_long_as_it_asks_and_spends_no_attempt() {
    for wire in [Wire::Openai, Wire::Anthropic] {
        let bench = Bench::new(wire).await;
        let job = bench.ask(Reply::throttled("100"), State::Scheduled).await;
        assert_eq!((job.attempt, &job.meta["snoozed"], job.errors.len()), (0, &json!(1), 0));
        let wait = seconds_until(bench.engine().db(), job.id, "scheduled_at").await;
        assert!((90.0..=125.0).contains(&wait), "{wait} s");
        assert_eq!(bench.result(job.id).await, None, "no failure: nothing was answered and nothing spent");
        assert_eq!(bench.steps(job.id).await, ["receive", "select_model"]);
        // When it is due it goes on with the call alone.
        bench.again(job.id).await;
        let done = reaches(bench.engine(), job.id, State::Completed).await;
        assert_eq!((done.attempt, bench.provider.calls()), (1, 2));
    }
}

#[tokio::test]
async fn a_busy_provider_snoozes_the_job() {
    let bench = Bench::new(Wire::Anthropic).await;
    let job = bench.ask(Reply::overloaded(), State::Scheduled).await;
    assert_eq!((job.attempt, &job.meta["snoozed"], job.errors.len()), (0, &json!(1), 0));
    let wait = seconds_until(bench.engine().db(), job.id, "scheduled_at").await;
    assert!((5.0..=25.0).contains(&wait), "{wait} s");
}

#[tokio::test]
async fn trouble_of_the_provider_fails_the_attempt_and_the_next_one_calls_again() {
    let malformed = Reply::Body { content_type: "application/json", body: "{\"choices\": 7}".into() };
    for (reply, words) in [
        (Reply::status(500, "server_error"), "status 500"),
        (malformed, "E0501"),
        (Reply::Stall("half of".into()), "time limit idle"),
    ] {
        let bench = Bench::new(Wire::Openai).await;
        let job = bench.ask(reply.clone(), State::Retryable).await;
        assert_eq!((job.attempt, job.errors.len()), (1, 1));
        assert!(error(&job).starts_with("** (E0501)") && error(&job).contains(words), "{}", error(&job));
        let result = bench.result(job.id).await.unwrap();
        assert_eq!((result.success, result.attempt, result.error_reason.as_deref()), (false, 1, Some(error(&job))));
        let calls = bench.provider.calls();
        bench.again(job.id).await;
        let done = reaches(bench.engine(), job.id, State::Completed).await;
        assert_eq!((done.attempt, bench.provider.calls()), (2, calls + 1), "{reply:?}");
        assert!(bench.result(job.id).await.unwrap().success);
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_retried_and_what_it_used_up_is_recorded() {
    let bench = Bench::new(Wire::Anthropic).await;
    let text = "x".repeat(400);
    let job = bench.ask(Reply::BreakOff(text), State::Retryable).await;
    assert!(error(&job).starts_with("** (E0501)"), "{}", error(&job));
    let result = bench.result(job.id).await.unwrap();
    assert!(!result.success);
    let (input, output) = (result.tokens_input.unwrap(), result.tokens_output.unwrap());
    assert!(output >= 90, "four bytes a token: {output}");
    assert_eq!(result.cost_nanousd, Some(input * 1_000 + output * 10_000));
    bench.again(job.id).await;
    reaches(bench.engine(), job.id, State::Completed).await;
    let sum: i64 = sqlx::query_scalar("SELECT sum(cost_nanousd)::bigint FROM job_results WHERE job_id = $1")
        .bind(job.id)
        .fetch_one(bench.engine().db().pool())
        .await
        .unwrap();
    assert!(sum > result.cost_nanousd.unwrap(), "both are paid");
}

#[tokio::test]
async fn what_no_second_try_can_help_is_cancelled_with_its_reason() {
    for (reply, code, hint) in [
        (Reply::exhausted(Wire::Openai), "E0504", "spending limit"),
        (Reply::status(401, "authentication_error"), "E0506", "api_key"),
        (Reply::status(400, "invalid_request_error"), "E0505", "change the request"),
    ] {
        let bench = Bench::new(Wire::Openai).await;
        let job = bench.ask(reply, State::Cancelled).await;
        assert_eq!((job.attempt, bench.provider.calls()), (1, 1));
        assert!(error(&job).starts_with(&format!("** ({code})")) && error(&job).contains(hint), "{}", error(&job));
        assert!(!error(&job).contains("sk-secret"));
        let result = bench.result(job.id).await.unwrap();
        assert_eq!((result.success, result.error_reason.as_deref()), (false, Some(error(&job))));
    }
}

#[tokio::test]
async fn a_missing_key_is_told_costs_no_call_and_loses_no_job() {
    let bench = Bench::new(Wire::Openai).await;
    std::fs::write(bench.key.path(), "").unwrap();
    let id = bench.insert(json!({"prompt": "hello"})).await;
    // Another instance may have it.
    let job = reaches(bench.engine(), id, State::Scheduled).await;
    let waiting = job.meta["waiting"]["reason"].as_str().unwrap_or_default();
    assert!(waiting.starts_with("[E0506]") && waiting.contains("there is no key: write it to"), "{waiting}");
    assert_eq!((job.attempt, job.errors.len(), bench.provider.calls()), (0, 0, 0));
    let wait = seconds_until(bench.engine().db(), id, "scheduled_at").await;
    assert!((290.0..=605.0).contains(&wait), "{wait} s");
    // Who waits for it is told why.
    let place = Place::new(&bench.db, "");
    let waited = run(&place, &["job", "wait", &id.to_string(), "--timeout", "1s"]);
    waited.refused(5, &[&format!("note: job {id} waits: [E0506] "), "there is no key"]);
    // As soon as it is there, the same job works.
    std::fs::write(bench.key.path(), "sk-secret").unwrap();
    bench.again(id).await;
    reaches(bench.engine(), id, State::Completed).await;
}

#[tokio::test]
async fn a_key_that_was_rejected_makes_the_jobs_behind_the_first_wait() {
    let bench = Bench::new(Wire::Openai).await;
    bench.ask(Reply::status(401, "authentication_error"), State::Cancelled).await;
    let id = bench.insert(json!({"prompt": "hello"})).await;
    let job = reaches(bench.engine(), id, State::Scheduled).await;
    assert_eq!((job.attempt, job.errors.len(), bench.provider.calls()), (0, 0, 1));
    let waiting = job.meta["waiting"]["reason"].as_str().unwrap_or_default();
    assert!(waiting.starts_with("[E0506]") && waiting.contains("not called"), "{waiting}");
}

#[tokio::test]
async fn a_request_that_cannot_be_served_is_cancelled_and_says_what_is_allowed() {
    let bench = Bench::new(Wire::Openai).await;
    for (args, code, words) in [
        (json!({"prompt": "hi", "model": "gpt-9"}), "E0610", "configured are m"),
        (json!({"prompt": "hi", "complexity": "complex"}), "E0611", "routing.models"),
        (json!({"promt": "hi"}), "E0601", "use the fields"),
        (json!({}), "E0602", "give one of them"),
        (json!({"prompt": " "}), "E0512", ""),
    ] {
        let id = bench.insert(args.clone()).await;
        let job = reaches(bench.engine(), id, State::Cancelled).await;
        assert!(
            error(&job).starts_with(&format!("** ({code})")) && error(&job).contains(words),
            "{args}: {}",
            error(&job)
        );
        let result = bench.result(id).await.unwrap();
        assert_eq!((result.success, result.cost_nanousd), (false, Some(0)), "{args}");
    }
    assert_eq!(bench.provider.calls(), 0);
}

#[tokio::test]
async fn a_crash_after_the_call_goes_on_behind_it_and_does_not_pay_twice() {
    let bench = Bench::new(Wire::Openai).await;
    // The answer's checkpoint is stored, then the last step's write is refused once.
    bench
        .db
        .execute(
            "CREATE TABLE fuse (burnt boolean); INSERT INTO fuse VALUES (false);
             CREATE FUNCTION crash() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF NEW.success AND NOT (SELECT burnt FROM fuse) THEN RAISE 'crash before the result is stored'; END IF;
               RETURN NEW;
             END $$;
             CREATE TRIGGER crash BEFORE INSERT ON job_results FOR EACH ROW EXECUTE FUNCTION crash()",
        )
        .await;
    let id = bench.insert(json!({"prompt": "hello"})).await;
    let job = reaches(bench.engine(), id, State::Retryable).await;
    assert!(error(&job).contains("crash before the result is stored"), "{}", error(&job));
    assert_eq!(bench.steps(id).await, ["receive", "select_model", "call_llm"]);
    bench.db.execute("UPDATE fuse SET burnt = true").await;
    bench.again(id).await;
    reaches(bench.engine(), id, State::Completed).await;
    assert_eq!(bench.provider.calls(), 1);
    let result = bench.result(id).await.unwrap();
    assert_eq!((result.attempt, result.tokens_output), (2, Some(USAGE.1 as i64)));
}
