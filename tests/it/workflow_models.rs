//! The model service with real tables and providers over HTTP: fallbacks, budgets, kept answers, pace.

use serde_json::{Value, json};
use singularity::config::{
    Budget, Complexity, Config, Limits, Model, Period, PeriodOrOff, Price, Provider, ProviderKind, SecretRef,
};
use singularity::queue::{Engine, Job, NewJob, State, Workers};
use singularity::workflow::{Budgets, LLM_REQUEST, Limited, Window};

use crate::support::db::TestDb;
use crate::support::node::{TestNode, reaches, until};
use crate::support::provider::{FakeProvider, Reply, USAGE, Wire};
use crate::support::rows::seconds_until;

/// Two models of two providers at 1 and 10 dollars per million tokens; `a` is the reference of all complexities, `b`
/// its fallback.
fn two_models(config: &mut Config, a: &FakeProvider, b: &FakeProvider) {
    for (name, provider) in [("a", a), ("b", b)] {
        let mut at =
            Provider { kind: ProviderKind::Openai, base_url: Some(provider.base_url()), ..Provider::default() };
        (at.timeouts.first_byte, at.timeouts.idle) = (Period::from_millis(1_500), Period::from_millis(1_500));
        config.providers.insert(format!("at_{name}"), at);
        let price = Price { input: 1.0, output: 10.0, cache_read: None, cache_write: None };
        let model = Model {
            provider: format!("at_{name}"),
            name: format!("{name}-1"),
            max_tokens: Some(100),
            price: Some(price),
            ..Model::default()
        };
        config.models.insert(name.into(), model);
    }
    for complexity in [Complexity::Simple, Complexity::Medium, Complexity::Complex] {
        config.routing.models.insert(complexity, "a".into());
        config.routing.candidates.insert(complexity, vec!["b".into()]);
    }
    // Jobs that wait stay where they are, so that tests can look at them.
    config.services.stager.interval = Period::from_secs(3_600);
}

struct Bench {
    db: TestDb,
    node: TestNode,
    a: FakeProvider,
    b: FakeProvider,
}

/// A row of `job_results`.
type Row = (i32, bool, String, Option<String>, Option<i64>, i32);

impl Bench {
    async fn new(change: impl FnOnce(&mut Config)) -> Self {
        let db = TestDb::new().await;
        let (a, b) = (FakeProvider::start(Wire::Openai).await, FakeProvider::start(Wire::Openai).await);
        let node = TestNode::try_start(db.url(), "one", Workers::default(), |config| {
            two_models(config, &a, &b);
            change(config);
        })
        .await
        .unwrap();
        Self { db, node, a, b }
    }

    fn engine(&self) -> &Engine {
        self.node.engine()
    }

    async fn insert(&self, args: Value) -> i64 {
        self.engine().insert(NewJob::new(LLM_REQUEST, args).max_attempts(5)).await.unwrap().id
    }

    async fn ask(&self, prompt: &str, state: State) -> Job {
        let id = self.insert(json!({ "prompt": prompt })).await;
        reaches(self.engine(), id, state).await
    }

    /// Attempt, success, model, outcome, cost and number of the call, in the order of the calls.
    async fn rows(&self, id: i64) -> Vec<Row> {
        sqlx::query_as(
            "SELECT attempt, success, model_used, outcome, cost_nanousd, hop FROM job_results WHERE job_id = $1 ORDER BY hop",
        )
        .bind(id)
        .fetch_all(self.engine().db().pool())
        .await
        .unwrap()
    }

    /// Lets a job run again that waits.
    async fn again(&self, id: i64) {
        self.engine().retry(id).await.unwrap();
    }

    async fn window(&self, limit: &Limited) -> Window {
        Budgets::new(self.engine().db().clone()).windows(std::slice::from_ref(limit)).await.unwrap().remove(0)
    }
}

fn answer_cost() -> i64 {
    i64::try_from(USAGE.0 * 1_000 + USAGE.1 * 10_000).unwrap()
}

fn reason(job: &Job) -> &str {
    job.meta["waiting"]["reason"].as_str().unwrap_or_default()
}

fn requests(requests: u64) -> Budget {
    Budget { requests: Some(requests), ..Budget::default() }
}

#[tokio::test]
async fn a_busy_endpoint_leads_to_the_next_model_and_each_call_has_its_row() {
    let bench = Bench::new(|_| ()).await;
    bench.a.then([Reply::overloaded()]);
    let job = bench.ask("hello", State::Completed).await;
    assert_eq!((job.attempt, bench.a.calls(), bench.b.calls()), (1, 1, 1));
    let row = |model: &str, success, outcome: &str, cost, hop| {
        (1, success, model.to_owned(), Some(outcome.to_owned()), cost, hop)
    };
    // An answer with an error status costs nothing, and that is known.
    let expected = [row("a", false, "infrastructure", Some(0), 0), row("b", true, "success", Some(answer_cost()), 1)];
    assert_eq!(bench.rows(job.id).await, expected);
}

#[tokio::test]
async fn a_model_that_helps_out_is_not_blamed_for_the_time_of_the_one_before() {
    let bench = Bench::new(|_| ()).await;
    bench.a.then([Reply::Hang]);
    let job = bench.ask("hello", State::Completed).await;
    let times: Vec<i64> = sqlx::query_scalar("SELECT duration_ms FROM job_results WHERE job_id = $1 ORDER BY hop")
        .bind(job.id)
        .fetch_all(bench.engine().db().pool())
        .await
        .unwrap();
    assert_eq!(times.len(), 2);
    assert!(times[0] >= 1_500 && times[1] < 1_500, "{times:?}");
}

#[tokio::test]
async fn a_failed_call_that_used_tokens_costs_money_beside_the_one_that_answered() {
    let bench = Bench::new(|_| ()).await;
    bench.a.then([Reply::BreakOff("x".repeat(400))]);
    let job = bench.ask("hello", State::Completed).await;
    let rows = bench.rows(job.id).await;
    assert_eq!(rows.len(), 2);
    assert!(rows[0].4.unwrap() > 100 * 10_000 - 10_000, "{rows:?}");
    assert_eq!(rows[1].4, Some(answer_cost()));
}

#[tokio::test]
async fn an_answer_that_is_empty_or_cut_is_a_failure_of_its_model() {
    let bench = Bench::new(|_| ()).await;
    bench.a.then([Reply::stream("")]);
    let job = bench.ask("hello", State::Completed).await;
    let cost = Some(answer_cost());
    let row =
        |success, model: &str, outcome: &str, hop| (1, success, model.to_owned(), Some(outcome.to_owned()), cost, hop);
    assert_eq!(bench.rows(job.id).await, [row(false, "a", "failure", 0), row(true, "b", "success", 1)]);
    // What was cut is better than nothing for the job. Who sets the limit gets what was asked for.
    let usage = json!({"prompt_tokens": USAGE.0, "completion_tokens": USAGE.1});
    let choices = json!([{"message": {"content": "Once upon"}, "finish_reason": "length"}]);
    let body = json!({"choices": choices, "usage": usage}).to_string();
    let cut = || Reply::Body { content_type: "application/json", body: body.clone() };
    bench.a.then([cut(), cut()]);
    let job = bench.ask("a story", State::Completed).await;
    assert_eq!(bench.rows(job.id).await, [row(true, "a", "failure", 0)]);
    let id = bench.insert(json!({"prompt": "a story", "max_tokens": 2})).await;
    reaches(bench.engine(), id, State::Completed).await;
    assert_eq!(bench.rows(id).await, [row(true, "a", "success", 0)]);
}

#[tokio::test]
async fn what_is_wrong_with_the_request_for_one_model_alone_is_a_failure_of_that_model() {
    let bench = Bench::new(|_| ()).await;
    let outcomes = |rows: Vec<Row>| rows.into_iter().map(|row| (row.2, row.3.unwrap())).collect::<Vec<_>>();
    let expected = |rows: [(&str, &str); 2]| rows.map(|(model, outcome)| (model.to_owned(), outcome.to_owned()));
    bench.a.then([Reply::status(400, "invalid_request_error")]);
    let job = bench.ask("hello", State::Completed).await;
    assert_eq!((bench.a.calls(), bench.b.calls()), (1, 1));
    assert_eq!(outcomes(bench.rows(job.id).await), expected([("a", "failure"), ("b", "success")]));
    // What no model takes is wrong, and says nothing about any of them.
    for provider in [&bench.a, &bench.b] {
        provider.then([Reply::status(400, "invalid_request_error")]);
    }
    let job = bench.ask("no model takes it", State::Cancelled).await;
    assert_eq!(outcomes(bench.rows(job.id).await), expected([("a", "invalid"), ("b", "invalid")]));
    // Where another is busy, it may be the one that would take it.
    bench.a.then([Reply::overloaded()]);
    bench.b.then([Reply::status(400, "invalid_request_error")]);
    let job = bench.ask("too long for b", State::Scheduled).await;
    assert_eq!(outcomes(bench.rows(job.id).await), expected([("a", "infrastructure"), ("b", "invalid")]));
}

#[tokio::test]
async fn a_request_that_is_wrong_does_not_wait_for_a_model_whose_key_nobody_sets() {
    let bench = Bench::new(|config| {
        config.providers.get_mut("at_b").unwrap().api_key = Some(SecretRef::File("/no/such/key".into()));
    })
    .await;
    bench.a.set_default(Reply::status(400, "invalid_request_error"));
    let job = bench.ask("hello", State::Retryable).await;
    let error = job.errors.last().unwrap()["error"].as_str().unwrap();
    assert!(error.starts_with("** (E0505)") && error.contains("model a"), "{error}");
    assert_eq!((bench.rows(job.id).await.len(), bench.rows(job.id).await[0].3.as_deref()), (1, Some("invalid")));
}

#[tokio::test]
async fn a_model_that_is_named_is_asked_alone() {
    let bench = Bench::new(|_| ()).await;
    bench.a.then([Reply::overloaded()]);
    let id = bench.insert(json!({"prompt": "hello", "model": "a"})).await;
    reaches(bench.engine(), id, State::Scheduled).await;
    assert_eq!(bench.b.calls(), 0);
}

#[tokio::test]
async fn when_all_are_busy_the_job_waits_as_short_as_it_may_and_says_why() {
    let bench = Bench::new(|_| ()).await;
    bench.a.then([Reply::overloaded().with_header("retry-after", "500")]);
    bench.b.then([Reply::throttled("100")]);
    let job = bench.ask("hello", State::Scheduled).await;
    assert_eq!((job.attempt, job.errors.len()), (0, 0));
    let wait = seconds_until(bench.engine().db(), job.id, "scheduled_at").await;
    assert!((90.0..=125.0).contains(&wait), "{wait} s");
    assert!(
        reason(&job).contains("[E0502] overloaded: model a") && reason(&job).contains("; then [E0503]"),
        "{}",
        reason(&job)
    );
    let rows = bench.rows(job.id).await;
    assert_eq!(rows.iter().map(|row| (&*row.2, row.5)).collect::<Vec<_>>(), [("a", 0), ("b", 1)]);
    // When it goes on, it says no longer that it waits, and its calls go on counting.
    bench.again(job.id).await;
    let done = reaches(bench.engine(), job.id, State::Completed).await;
    assert!(done.meta.get("waiting").is_none(), "{}", done.meta);
    assert!(bench.rows(job.id).await.last().unwrap().1);
}

#[tokio::test]
async fn a_used_up_budget_makes_jobs_wait_without_an_attempt_until_it_is_full_again() {
    let bench = Bench::new(|config| drop(config.budgets.insert("few".into(), requests(2)))).await;
    for prompt in ["one", "two"] {
        bench.ask(prompt, State::Completed).await;
    }
    let job = bench.ask("three", State::Scheduled).await;
    assert_eq!((job.attempt, job.errors.len(), bench.a.calls() + bench.b.calls()), (0, 0, 2));
    assert!(reason(&job).starts_with("budget \"few\" is used up until "), "{}", reason(&job));
    assert!(reason(&job).ends_with(": 2 of 2 requests"), "{}", reason(&job));
    let window = bench.window(&Limited { name: "few".into(), budget: requests(2) }).await;
    assert_eq!((window.requests, window.reserved_requests, window.spent_nanousd), (2, 0, 2 * answer_cost()));
    let wait = seconds_until(bench.engine().db(), job.id, "scheduled_at").await;
    let full: f64 = sqlx::query_scalar("SELECT extract(epoch FROM $1 - now())::float8")
        .bind(window.ends_at)
        .fetch_one(bench.engine().db().pool())
        .await
        .unwrap();
    assert!(wait >= full - 1.0 && wait <= full * 1.03 + 5.0, "{wait} s, and it is full in {full} s");
    // A new period.
    bench.db.execute("DELETE FROM budget_windows").await;
    bench.again(job.id).await;
    reaches(bench.engine(), job.id, State::Completed).await;
}

#[tokio::test]
async fn a_used_up_quota_of_one_provider_leads_to_another() {
    let budget = Budget { provider: Some("at_a".into()), ..requests(1) };
    let bench = Bench::new(|config| drop(config.budgets.insert("subscription".into(), budget))).await;
    for prompt in ["one", "two", "three"] {
        bench.ask(prompt, State::Completed).await;
    }
    assert_eq!((bench.a.calls(), bench.b.calls()), (1, 2));
}

#[tokio::test]
async fn a_model_that_failed_for_a_moment_is_tried_again_long_before_the_budget_of_another_is_full() {
    let budget = Budget { provider: Some("at_a".into()), ..requests(1) };
    let bench = Bench::new(|config| drop(config.budgets.insert("subscription".into(), budget))).await;
    bench.ask("one", State::Completed).await;
    bench.b.then([Reply::status(500, "server_error")]);
    let job = bench.ask("two", State::Retryable).await;
    assert_eq!((job.attempt, job.errors.len(), bench.a.calls()), (1, 1, 1));
    let wait = seconds_until(bench.engine().db(), job.id, "scheduled_at").await;
    assert!(wait < 60.0, "{wait} s");
    bench.again(job.id).await;
    reaches(bench.engine(), job.id, State::Completed).await;
    // Without an attempt left it waits until the budget is full rather than to be lost.
    bench.b.then([Reply::status(500, "server_error")]);
    let last = NewJob::new(LLM_REQUEST, json!({"prompt": "three"})).max_attempts(1);
    let id = bench.engine().insert(last).await.unwrap().id;
    let job = reaches(bench.engine(), id, State::Scheduled).await;
    assert!(reason(&job).contains("; then [E0501]"), "{}", reason(&job));
}

#[tokio::test]
async fn a_call_ends_before_its_attempt_does_and_leaves_what_it_used_up() {
    let bench = Bench::new(|config| {
        for provider in config.providers.values_mut() {
            provider.timeouts.idle = Period::from_secs(60);
        }
        config.workflows.llm_request.timeout = Period::from_secs(4);
        config.budgets.insert("few".into(), Budget { usd: Some(1.0), ..requests(9) });
    })
    .await;
    bench.a.then([Reply::Stall("x".repeat(400))]);
    let job = bench.ask("hello", State::Retryable).await;
    let error = job.errors.last().unwrap()["error"].as_str().unwrap();
    assert!(error.starts_with("** (E0501)") && error.contains("the time of the attempt"), "{error}");
    let rows = bench.rows(job.id).await;
    assert_eq!((rows.len(), rows[0].3.as_deref()), (1, Some("infrastructure")), "{rows:?}");
    let window = bench.window(&Limited { name: "few".into(), budget: requests(9) }).await;
    assert_eq!((window.requests, window.reserved_requests, Some(window.spent_nanousd)), (1, 0, rows[0].4));
    assert!(window.spent_nanousd > 90 * 10_000, "{window:?}");
    assert_eq!(bench.b.calls(), 0, "there is no time for another model");
}

#[tokio::test]
async fn each_model_is_called_by_a_key_of_its_own_that_stays_the_same() {
    let bench = Bench::new(|_| ()).await;
    bench.a.then([Reply::status(500, "server_error")]);
    bench.b.then([Reply::status(500, "server_error")]);
    let job = bench.ask("hello", State::Retryable).await;
    bench.again(job.id).await;
    reaches(bench.engine(), job.id, State::Completed).await;
    let keys = |provider: &FakeProvider| -> Vec<String> {
        provider.received().iter().map(|sent| sent.header("idempotency-key").unwrap().to_owned()).collect()
    };
    let (a, b) = (keys(&bench.a), keys(&bench.b));
    assert_eq!((a.len(), b.len(), &a[0]), (2, 1, &a[1]));
    assert_ne!(a[0], b[0]);
}

#[tokio::test]
async fn calls_that_were_refused_use_up_no_budget_and_those_that_broke_off_do() {
    let bench = Bench::new(|config| {
        config.routing.candidates.clear();
        config.budgets.insert("few".into(), Budget { usd: Some(1.0), ..requests(9) });
    })
    .await;
    let limit = Limited { name: "few".into(), budget: Budget { usd: Some(1.0), ..requests(9) } };
    bench.a.then([Reply::throttled("100")]);
    bench.ask("one", State::Scheduled).await;
    let window = bench.window(&limit).await;
    assert_eq!((window.requests, window.spent_nanousd, window.reserved_requests), (0, 0, 0));
    bench.a.then([Reply::BreakOff("x".repeat(400))]);
    bench.ask("two", State::Retryable).await;
    let window = bench.window(&limit).await;
    assert_eq!((window.requests, window.reserved_requests, window.reserved_nanousd), (1, 0, 0));
    assert!(window.spent_nanousd > 0);
}

#[tokio::test]
async fn three_nodes_together_make_no_more_calls_than_their_budget() {
    let db = TestDb::new().await;
    let (a, b) = (FakeProvider::start(Wire::Openai).await, FakeProvider::start(Wire::Openai).await);
    let mut nodes = Vec::new();
    for id in ["one", "two", "three"] {
        let node = TestNode::try_start(db.url(), id, Workers::default(), |config| {
            two_models(config, &a, &b);
            config.budgets.insert("few".into(), requests(17));
        })
        .await
        .unwrap();
        nodes.push(node);
    }
    let jobs = (0..60).map(|n| NewJob::new(LLM_REQUEST, json!({ "prompt": format!("question {n}") }))).collect();
    nodes[0].engine().insert_many(jobs).await.unwrap();
    until("all jobs to be done or to wait", || async {
        let open: i64 =
            sqlx::query_scalar("SELECT count(*) FROM oban_jobs WHERE state NOT IN ('completed', 'scheduled')")
                .fetch_one(nodes[0].engine().db().pool())
                .await
                .unwrap();
        (open == 0).then_some(())
    })
    .await;
    // Some found the rest promised to calls under way, and may look again; none of them was called.
    assert!(a.calls() + b.calls() <= 17, "{} calls", a.calls() + b.calls());
    let (done, window): (i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM oban_jobs WHERE state = 'completed'), (SELECT requests FROM budget_windows)",
    )
    .fetch_one(nodes[0].engine().db().pool())
    .await
    .unwrap();
    assert_eq!((done, window), (17, 17));
}

#[tokio::test]
async fn a_kept_answer_costs_nothing_says_so_and_serves_the_same_request_alone() {
    let hour = PeriodOrOff::on(Period::from_secs(3_600));
    let bench = Bench::new(|config| {
        config.workflows.llm_request.cache = hour;
        config.budgets.insert("few".into(), requests(3));
    })
    .await;
    bench.a.then([Reply::stream("the answer")]);
    let first = bench.ask("hello", State::Completed).await;
    let second = bench.ask("hello", State::Completed).await;
    assert_eq!(bench.a.calls(), 1);
    let kept = (1, true, "a".to_owned(), Some("cached".to_owned()), Some(0), 0);
    assert_eq!(bench.rows(second.id).await, [kept]);
    assert_eq!(bench.rows(first.id).await[0].3.as_deref(), Some("success"));
    let text: (String, Option<i64>) =
        sqlx::query_as("SELECT result ->> 'text', tokens_used FROM job_results WHERE job_id = $1")
            .bind(second.id)
            .fetch_one(bench.engine().db().pool())
            .await
            .unwrap();
    assert_eq!(text, ("the answer".to_owned(), Some(0)));
    bench.ask("hello!", State::Completed).await;
    assert_eq!(bench.a.calls(), 2);
    bench.db.execute("UPDATE cached_answers SET expires_at = now()").await;
    bench.ask("hello", State::Completed).await;
    assert_eq!(bench.a.calls(), 3);
    // Kept answers were none of the budget's three calls; the next one would be the fourth.
    bench.ask("hello", State::Completed).await;
    bench.ask("another", State::Scheduled).await;
}

#[tokio::test]
async fn without_the_setting_the_same_request_is_asked_again() {
    let bench = Bench::new(|_| ()).await;
    bench.ask("hello", State::Completed).await;
    bench.ask("hello", State::Completed).await;
    assert_eq!(bench.a.calls(), 2);
    let kept: i64 =
        sqlx::query_scalar("SELECT count(*) FROM cached_answers").fetch_one(bench.engine().db().pool()).await.unwrap();
    assert_eq!(kept, 0);
}

#[tokio::test]
async fn a_call_that_is_too_early_waits_in_the_queue_with_its_reason() {
    let bench = Bench::new(|config| {
        config.routing.candidates.clear();
        // One at once, then one each ten seconds.
        config.providers.get_mut("at_a").unwrap().limits = Limits { requests_per_minute: Some(6), ..Limits::default() };
    })
    .await;
    bench.ask("one", State::Completed).await;
    let job = bench.ask("two", State::Scheduled).await;
    assert_eq!((job.attempt, job.errors.len(), bench.a.calls()), (0, 0, 1));
    assert!(reason(&job).contains("providers.at_a.limits.requests_per_minute is reached"), "{}", reason(&job));
}
