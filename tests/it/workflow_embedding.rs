//! The `embedding` workflow against a provider over HTTP, its table, its search, and the embedder that needs no
//! network.

use serde_json::{Value, json};
use singularity::config::{
    Budget, Config, EmbeddingModel, Model, ModelKind, Period, Price, Provider, ProviderKind, SecretRef,
};
use singularity::llm::Gateway;
use singularity::queue::{Engine, Job, NewJob, State, Workers};
use singularity::workflow::{Budgets, EMBEDDING, Limited, NewVectors, Query, Store, StoredResult, Vectors, Written};
use uuid::Uuid;

use crate::support::db::TestDb;
use crate::support::node::{TestNode, reaches};
use crate::support::provider::{FakeProvider, Reply, Wire, vector_of};
use crate::support::rows::{engine, seconds_until, set_columns};

/// The model `m` of a provider, at a dollar per million tokens and two texts a request, and the simulated one.
fn models(config: &mut Config, base_url: String) {
    let mut provider = Provider { kind: ProviderKind::Openai, base_url: Some(base_url), ..Provider::default() };
    (provider.timeouts.first_byte, provider.timeouts.idle) = (Period::from_millis(1_500), Period::from_millis(1_500));
    let anthropic =
        Provider { kind: ProviderKind::Anthropic, base_url: Some("http://127.0.0.1:9".into()), ..provider.clone() };
    config.providers =
        [("p".to_owned(), provider), ("a".to_owned(), anthropic), ("sim".to_owned(), Provider::default())].into();
    let embedding = EmbeddingModel { dimensions: Some(3), batch_items: Some(2), ..EmbeddingModel::default() };
    let price = Price { input: 1.0, output: 0.0, cache_read: None, cache_write: None };
    let model = Model {
        provider: "p".into(),
        name: "m-1".into(),
        kind: ModelKind::Embedding,
        embedding: Some(embedding.clone()),
        price: Some(price),
        ..Model::default()
    };
    let simulated = Model { provider: "sim".into(), embedding: None, ..model.clone() };
    let other = Model { provider: "a".into(), ..model.clone() };
    let chat = Model { kind: ModelKind::Chat, embedding: None, ..model.clone() };
    let five =
        Model { embedding: Some(EmbeddingModel { dimensions: Some(5), shorten: true, ..embedding }), ..model.clone() };
    config.models = [("m", model), ("sim_embedding", simulated), ("claude", other), ("chat", chat), ("five", five)]
        .map(|(name, model)| (name.to_owned(), model))
        .into();
}

struct Bench {
    db: TestDb,
    node: TestNode,
    provider: FakeProvider,
    store: Store,
    vectors: Vectors,
    config: Config,
}

impl Bench {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let db = TestDb::new().await;
        let provider = FakeProvider::start(Wire::Openai).await;
        provider.set_default(Reply::Vectors);
        let mut used = Config::default();
        let node = TestNode::try_start(db.url(), "one", Workers::default(), |config| {
            models(config, provider.base_url());
            // Snoozed and failed jobs stay where they are, so that tests can look at them.
            config.services.stager.interval = Period::from_secs(3_600);
            change(config);
            used = config.clone();
        })
        .await
        .unwrap();
        let database = node.engine().db().clone();
        let (store, vectors) = (Store::new(database.clone()), Vectors::new(database));
        Self { db, node, provider, store, vectors, config: used }
    }

    fn engine(&self) -> &Engine {
        self.node.engine()
    }

    async fn insert(&self, args: Value) -> i64 {
        self.engine().insert(NewJob::new(EMBEDDING, args).max_attempts(5)).await.unwrap().id
    }

    async fn ends(&self, args: Value, state: State) -> Job {
        let id = self.insert(args).await;
        reaches(self.engine(), id, state).await
    }

    async fn result(&self, id: i64) -> Option<StoredResult> {
        self.store.results(&[id]).await.unwrap().into_iter().next()
    }

    async fn steps(&self, id: i64) -> Vec<String> {
        self.store.run(id).await.unwrap().unwrap().steps.into_iter().map(|step| step.step).collect()
    }
}

fn error(job: &Job) -> &str {
    job.errors.last().unwrap()["error"].as_str().unwrap()
}

#[tokio::test]
async fn texts_are_embedded_in_batches_and_each_vector_is_stored_with_its_text() {
    let bench = Bench::new().await;
    let items = json!([{"key": "a", "text": "one"}, {"key": "b", "text": "three"}, {"key": "c", "text": "fourteen"}]);
    let job =
        bench.ends(json!({"model": "m", "collection": "docs", "id": "r-1", "items": items}), State::Completed).await;
    for (key, text) in [("a", "one"), ("b", "three"), ("c", "fourteen")] {
        assert_eq!(bench.vectors.vector("docs", key).await.unwrap().unwrap(), vector_of(text), "{key}");
    }
    let mut sent = bench.provider.received();
    assert_eq!(sent.len(), 2, "two texts a request");
    // Both are under way at the same time.
    sent.sort_by_key(|received| received.body["input"].to_string().contains("fourteen"));
    assert!(sent[0].path.ends_with("/v1/embeddings"), "{}", sent[0].path);
    let expected = json!({"model": "m-1", "input": ["one", "three"], "encoding_format": "float"});
    assert_eq!((&sent[0].body, &sent[1].body["input"]), (&expected, &json!(["fourteen"])));
    assert_ne!(sent[0].header("idempotency-key"), sent[1].header("idempotency-key"));
    assert_eq!(bench.steps(job.id).await, ["receive", "validate", "generate", "publish"]);
    let result = bench.result(job.id).await.unwrap();
    assert_eq!((result.success, result.simulated, result.request_id.as_deref()), (true, false, Some("r-1")));
    assert_eq!((result.tokens_input, result.cost_nanousd), (Some(16), Some(16_000)));
    let stored = result.result.unwrap();
    assert_eq!(
        (&stored["stored"], &stored["keys"], &stored["dimensions"]),
        (&json!(3), &json!(["a", "b", "c"]), &json!(3))
    );
    let collections = bench.vectors.collections().await.unwrap();
    assert_eq!((collections.len(), collections[0].vectors, collections[0].vector_bytes), (1, 3, 36));
}

#[tokio::test]
async fn requests_count_in_budgets_and_a_job_without_room_waits_with_what_it_has_stored() {
    let two = Budget { provider: Some("p".into()), requests: Some(2), ..Budget::default() };
    let bench = Bench::with(|config| config.budgets = [("two".to_owned(), two)].into()).await;
    let items: Vec<Value> = ["a", "b", "c", "d", "e"].map(|text| json!({ "key": text, "text": text })).into();
    let args = json!({"model": "m", "collection": "docs", "items": items});
    let job = bench.ends(args, State::Scheduled).await;
    let waiting = &job.meta["waiting"]["reason"];
    // Those before it may still be under way, and then their requests are only promised.
    let says = ["budget \"two\" is used up until", "budget \"two\" is promised to calls under way"];
    assert!(says.iter().any(|text| waiting.as_str().unwrap().starts_with(text)), "{waiting}");
    assert_eq!((job.attempt, bench.provider.received().len()), (0, 2));
    let budgets = Budgets::new(bench.engine().db().clone());
    let window = &budgets.windows(&Limited::all(&bench.config)).await.unwrap()[0];
    assert_eq!((window.requests, window.reserved_requests, window.unpriced), (2, 0, 0));
    // The next day.
    bench.db.execute("UPDATE budget_windows SET requests = 0").await;
    bench.db.execute("UPDATE oban_jobs SET state = 'available'").await;
    let job = reaches(bench.engine(), job.id, State::Completed).await;
    assert_eq!((job.meta.get("waiting"), bench.provider.received().len()), (None, 3), "nothing is asked twice");
    let window = &budgets.windows(&Limited::all(&bench.config)).await.unwrap()[0];
    // A token for each of the five letters, at a dollar per million.
    assert_eq!((window.requests, window.spent_nanousd), (1, 5_000));
}

#[tokio::test]
async fn embedding_a_key_again_replaces_its_vector_and_an_older_job_does_not() {
    let bench = Bench::new().await;
    bench.provider.then([Reply::throttled("60")]);
    let late = bench.ends(json!({"model": "m", "key": "k", "text": "old"}), State::Scheduled).await;
    bench.ends(json!({"model": "m", "key": "k", "text": "newer"}), State::Completed).await;
    bench.engine().retry(late.id).await.unwrap();
    reaches(bench.engine(), late.id, State::Completed).await;
    let entries = bench.vectors.entries("default", None, 10).await.unwrap();
    assert_eq!((entries.len(), entries[0].content.as_str()), (1, "newer"));
    let result = bench.result(late.id).await.unwrap().result.unwrap();
    assert_eq!((&result["stored"], &result["left_for_newer"]), (&json!(0), &json!(1)));
    bench.ends(json!({"model": "m", "key": "k", "text": "the newest"}), State::Completed).await;
    assert_eq!(bench.vectors.vector("default", "k").await.unwrap().unwrap(), vector_of("the newest"));
}

#[tokio::test]
async fn what_is_like_a_text_is_found_among_vectors_of_its_model() {
    let bench = Bench::new().await;
    let items = json!([
        {"key": "restart", "text": "how to restart a failed job"},
        {"key": "weather", "text": "mild weather in Lisbon"},
        {"key": "queue", "text": "a queue that holds failed jobs until they restart"},
    ]);
    bench.ends(json!({"collection": "docs", "items": items}), State::Completed).await;
    bench.ends(json!({"collection": "other", "key": "twin", "text": "restart the failed job"}), State::Completed).await;
    bench.ends(json!({"collection": "docs", "model": "m", "key": "m", "text": "restart"}), State::Completed).await;
    let gateway = Gateway::new(&bench.config).unwrap();
    let embedded = gateway.embed("sim_embedding", &["restart the failed job"], "k").await.unwrap();
    assert!(embedded.simulated && embedded.raw_usage[0]["embedder"].as_str().unwrap().contains("without a model"));
    let mut query = Query { vector: &embedded.vectors[0], model: "sim_embedding", collection: Some("docs"), limit: 2 };
    let found = bench.vectors.search(&query).await.unwrap();
    let keys: Vec<&str> = found.matches.iter().map(|found| found.key.as_str()).collect();
    assert_eq!(keys, ["restart", "queue"]);
    assert!(found.matches[0].likeness > found.matches[1].likeness && found.matches[0].simulated);
    assert_eq!((found.compared, found.not_comparable), (3, 1));
    query.collection = None;
    let found = bench.vectors.search(&query).await.unwrap();
    assert_eq!((found.matches[0].key.as_str(), found.compared), ("twin", 4));
    assert!((found.matches[0].likeness - 1.0).abs() < 1e-6);
    let result: (bool, Value) = sqlx::query_as("SELECT simulated, result FROM job_results ORDER BY id LIMIT 1")
        .fetch_one(bench.engine().db().pool())
        .await
        .unwrap();
    assert_eq!((result.0, &result.1["simulated"]), (true, &json!(true)));
}

#[tokio::test]
async fn a_search_reads_past_one_page() {
    let bench = Bench::new().await;
    let db = bench.engine().db();
    sqlx::query(
        "INSERT INTO embeddings (collection, key, model, dimensions, vector, content, simulated, job_id)
         SELECT 'many', 'k' || n, 'm', 1, CASE n WHEN 2345 THEN '\\x0000803f'::bytea ELSE '\\x000080bf' END, 't', false, 1
         FROM generate_series(1, 2500) n",
    )
    .execute(db.pool())
    .await
    .unwrap();
    let query = Query { vector: &[2.0], model: "m", collection: Some("many"), limit: 1 };
    let found = bench.vectors.search(&query).await.unwrap();
    assert_eq!((found.matches[0].key.as_str(), found.matches[0].likeness, found.compared), ("k2345", 1.0, 2_500));
}

#[tokio::test]
async fn a_busy_provider_snoozes_and_trouble_is_tried_again_by_class() {
    for (reply, state, words) in [
        (Reply::throttled("60"), State::Scheduled, ""),
        (Reply::overloaded(), State::Scheduled, ""),
        (Reply::status(500, "server_error"), State::Retryable, "** (E0501)"),
        (
            Reply::Body { content_type: "application/json", body: "{\"data\": 7}".into() },
            State::Retryable,
            "no list of vectors",
        ),
        (Reply::exhausted(Wire::Openai), State::Cancelled, "** (E0504)"),
        (Reply::status(401, "authentication_error"), State::Cancelled, "** (E0506)"),
        (Reply::status(400, "invalid_request_error"), State::Cancelled, "** (E0505)"),
    ] {
        let bench = Bench::new().await;
        bench.provider.then([reply.clone()]);
        let job = bench.ends(json!({"model": "m", "text": "hello"}), state).await;
        let text = job.errors.last().map_or("", |entry| entry["error"].as_str().unwrap());
        assert!(text.contains(words), "{reply:?}: {text}");
        assert_eq!(bench.steps(job.id).await, ["receive", "validate"]);
        assert!(bench.vectors.collections().await.unwrap().is_empty());
        if state != State::Cancelled {
            bench.engine().retry(job.id).await.unwrap();
            reaches(bench.engine(), job.id, State::Completed).await;
        }
    }
}

#[tokio::test]
async fn jobs_that_meet_an_account_without_money_or_key_wait_with_the_reason() {
    for (reply, code) in
        [(Reply::exhausted(Wire::Openai), "[E0504]"), (Reply::status(401, "authentication_error"), "[E0506]")]
    {
        let bench = Bench::new().await;
        bench.provider.then([reply]);
        // The one that finds out is given up with the reason, those behind it are not lost.
        bench.ends(json!({"model": "m", "text": "one"}), State::Cancelled).await;
        let job = bench.ends(json!({"model": "m", "text": "two"}), State::Scheduled).await;
        assert_eq!((job.attempt, job.errors.len(), bench.provider.calls()), (0, 0, 1));
        let waiting = job.meta["waiting"]["reason"].as_str().unwrap_or_default();
        assert!(waiting.starts_with(code) && waiting.contains("not called"), "{waiting}");
        let wait = seconds_until(bench.engine().db(), job.id, "scheduled_at").await;
        assert!((20.0..=65.0).contains(&wait), "{wait} s");
    }
}

#[tokio::test]
async fn a_request_ends_before_its_attempt_does_and_is_counted() {
    let few = Budget { provider: Some("p".into()), requests: Some(9), ..Budget::default() };
    let bench = Bench::with(|config| {
        let timeouts = &mut config.providers.get_mut("p").unwrap().timeouts;
        (timeouts.first_byte, timeouts.idle) = (Period::from_secs(60), Period::from_secs(60));
        config.workflows.embedding.timeout = Period::from_secs(4);
        config.budgets = [("few".to_owned(), few)].into();
    })
    .await;
    bench.provider.then([Reply::Hang]);
    let job = bench.ends(json!({"model": "m", "text": "hello"}), State::Retryable).await;
    assert!(
        error(&job).starts_with("** (E0501)") && error(&job).contains("the time of the attempt"),
        "{}",
        error(&job)
    );
    assert!(!bench.result(job.id).await.unwrap().success);
    let budgets = Budgets::new(bench.engine().db().clone());
    let window = &budgets.windows(&Limited::all(&bench.config)).await.unwrap()[0];
    assert_eq!((window.requests, window.unpriced, window.reserved_requests), (1, 1, 0));
}

#[tokio::test]
async fn batches_that_went_well_are_not_asked_again() {
    let bench = Bench::new().await;
    bench.provider.then([Reply::Vectors, Reply::status(500, "server_error")]);
    let items = json!([{"text": "abcd"}, {"text": "efgh"}, {"text": "ijkl"}]);
    let job = bench.ends(json!({"model": "m", "items": items}), State::Retryable).await;
    assert!(!bench.result(job.id).await.unwrap().success);
    bench.engine().retry(job.id).await.unwrap();
    reaches(bench.engine(), job.id, State::Completed).await;
    assert_eq!(bench.provider.calls(), 3);
    let result = bench.result(job.id).await.unwrap();
    assert_eq!((result.tokens_input, result.cost_nanousd), (Some(12), Some(12_000)), "of all batches");
    assert_eq!(bench.vectors.entries("default", None, 10).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_request_that_cannot_be_served_is_cancelled_and_says_what_is_allowed() {
    let bench = Bench::new().await;
    for (args, code, words) in [
        (json!({"texts": ["a"]}), "E0650", "use the fields"),
        (json!({"items": []}), "E0651", "at least one text"),
        (json!({"text": " "}), "E0653", "text 0 is blank"),
        (json!({"text": "a", "model": "n"}), "E0655", "models that make vectors are claude, five, m, sim_embedding"),
        (json!({"text": "a", "model": "chat"}), "E0655", "answers with text"),
        (json!({"text": "a", "model": "claude"}), "E0505", "no embeddings"),
        (json!({"text": "a", "model": "five"}), "E0506", "3 numbers, and embedding.dimensions says 5"),
    ] {
        let job = bench.ends(args.clone(), State::Cancelled).await;
        assert!(
            error(&job).starts_with(&format!("** ({code})")) && error(&job).contains(words),
            "{args}: {}",
            error(&job)
        );
        assert!(!bench.result(job.id).await.unwrap().success);
    }
    assert_eq!(bench.provider.received()[0].body["dimensions"], 5, "asked for, because of shorten");
    let text = Gateway::new(&bench.config).unwrap().chat("m", &singularity::llm::ChatRequest::prompt("hi"), 1).await;
    assert!(text.unwrap_err().message.contains("answers with vectors"));
}

#[tokio::test]
async fn a_crash_before_or_after_the_vectors_are_written_pays_nothing_twice() {
    for (table, steps) in [("embeddings", 2), ("workflow_parts", 2), ("job_results", 3)] {
        let bench = Bench::new().await;
        bench
            .db
            .execute(&format!(
                "CREATE TABLE fuse (burnt boolean); INSERT INTO fuse VALUES (false);
                 CREATE FUNCTION crash() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                   IF NOT (SELECT burnt FROM fuse)
                      -- What was answered is stored; the write behind it is refused.
                      AND to_jsonb(NEW) ->> 'step' IS DISTINCT FROM 'generate[0]/ask'
                   THEN RAISE 'crash before it is stored'; END IF; RETURN NEW;
                 END $$;
                 CREATE TRIGGER crash BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION crash()"
            ))
            .await;
        let job = bench.ends(json!({"model": "m", "key": "k", "text": "hello"}), State::Retryable).await;
        assert!(error(&job).contains("crash before it is stored"), "{}", error(&job));
        assert_eq!(bench.steps(job.id).await, ["receive", "validate", "generate"][..steps], "{table}");
        bench.db.execute("UPDATE fuse SET burnt = true").await;
        bench.engine().retry(job.id).await.unwrap();
        reaches(bench.engine(), job.id, State::Completed).await;
        assert_eq!(bench.provider.calls(), 1, "{table}");
        assert_eq!(bench.vectors.vector("default", "k").await.unwrap().unwrap(), vector_of("hello"));
    }
}

/// Promise 2 for vectors: a write of an attempt that no longer owns its job changes nothing.
#[tokio::test]
async fn a_stale_runners_vectors_change_nothing() {
    let (_db, engine) = engine().await;
    let vectors = Vectors::new(engine.db().clone());
    let id = engine.insert(NewJob::new(EMBEDDING, json!({"text": "a"}))).await.unwrap().id;
    let producer = Uuid::now_v7();
    let own = format!("state = 'executing', attempt = 2, attempted_by = ARRAY['one', '{producer}']");
    set_columns(&engine, id, &own).await;
    let job = engine.get(id).await.unwrap().unwrap();
    let new = |number: f32| NewVectors {
        collection: "c",
        model: "m",
        simulated: false,
        keys: vec!["k".into()],
        vectors: vec![vec![number]],
        contents: vec!["t".into()],
    };
    assert_eq!(vectors.put(&job, &new(1.0)).await.unwrap(), Some(Written { stored: 1, newer: 0 }));
    let others = format!("attempted_by = ARRAY['two', '{}']", Uuid::now_v7());
    for change in ["attempt = 3", "state = 'cancelled'", "state = 'available'", others.as_str()] {
        set_columns(&engine, id, change).await;
        assert_eq!(vectors.put(&job, &new(2.0)).await.unwrap(), None, "{change}");
        assert_eq!(vectors.vector("c", "k").await.unwrap(), Some(vec![1.0]), "{change}");
        set_columns(&engine, id, &own).await;
    }
    assert_eq!(
        vectors.put(&job, &new(3.0)).await.unwrap(),
        Some(Written { stored: 1, newer: 0 }),
        "it may be repeated"
    );
    assert_eq!(vectors.vector("c", "k").await.unwrap(), Some(vec![3.0]));
    assert_eq!(vectors.vector("c", "other").await.unwrap(), None);
}

#[tokio::test]
async fn a_key_is_sent_and_never_shown() {
    let provider = FakeProvider::start(Wire::Openai).await;
    let mut config = Config::default();
    models(&mut config, provider.base_url());
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "sk-secret").unwrap();
    config.providers.get_mut("p").unwrap().api_key = Some(SecretRef::File(key.path().into()));
    let gateway = Gateway::new(&config).unwrap();
    provider.then([Reply::status(400, "invalid_request_error").with_message("bad key sk-secret")]);
    let error = gateway.embed("m", &["a"], "k").await.unwrap_err();
    assert!(!error.to_string().contains("sk-secret"), "{error}");
    assert_eq!(provider.received()[0].header("authorization"), Some("Bearer sk-secret"));
    // A connection that is closed without an answer is tried once more in place.
    provider.then([Reply::Close, Reply::Vectors]);
    assert_eq!(gateway.embed("m", &["a"], "k").await.unwrap().vectors, [vector_of("a")]);
}

#[tokio::test]
async fn a_429_holds_back_what_is_asked_after_it_for_as_long_as_it_asks() {
    let provider = FakeProvider::with(Wire::Openai, [Reply::throttled("7")]).await;
    let mut config = Config::default();
    models(&mut config, provider.base_url());
    config.models.get_mut("m").unwrap().limits.tokens_per_minute = Some(30_000);
    let gateway = Gateway::new(&config).unwrap();
    assert!(gateway.embed("m", &["x".repeat(16_800).as_str()], "k").await.unwrap_err().sent);
    let error = gateway.embed("m", &["a"], "k").await.unwrap_err();
    assert_eq!((error.sent, provider.calls()), (false, 1), "{error:?}");
}
