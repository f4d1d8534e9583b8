//! The database away under a running node: a state, not a crash; and an instance that cannot prove that it lives.

use std::time::Duration;

use serde_json::json;
use singularity::config::{Config, Period, Queue};
use singularity::instance::Presence;
use singularity::node::NodeError;
use singularity::queue::{Engine, State};
use singularity::supervision::NodeState;

use crate::support::db::TestDb;
use crate::support::node::{Fixture, TestNode, job, reaches, restarts, until, workers};
use crate::support::proxy::{Mode, Proxy};
use crate::support::rows::row;

/// Short limits, so that a silent connection is given up while a test waits.
fn short(config: &mut Config) {
    config.database.statement_timeout = Period::from_secs(2);
    config.queues.insert(
        "default".into(),
        Queue { limit: 3, paused: false, poll_interval: Period::from_millis(100), ..Queue::default() },
    );
}

struct Outage {
    db: TestDb,
    /// Straight to the database, past the proxy.
    engine: Engine,
    proxy: Proxy,
    fixture: Fixture,
    node: TestNode,
}

impl Outage {
    async fn new(change: impl Fn(&mut Config)) -> Self {
        let (db, database) = TestDb::migrated().await;
        let proxy = Proxy::start(db.host_and_port()).await;
        let fixture = Fixture::new();
        let settings = |config: &mut Config| {
            short(config);
            change(config);
        };
        let node = TestNode::start(&db.url_through(proxy.address()), "one", &fixture, settings).await;
        Self { db, engine: Engine::new(database), proxy, fixture, node }
    }

    async fn insert(&self, count: usize, args: serde_json::Value) -> Vec<i64> {
        self.engine.insert_many(vec![job(args); count]).await.unwrap().iter().map(|one| one.id).collect()
    }

    /// Waits until the node itself has noticed.
    async fn noticed(&self) {
        until("a node that waits for the database", || async {
            let tree = self.node.system().snapshot();
            tree.find("/queues/default").unwrap().labels.contains_key("waits").then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn while_the_database_is_away_nothing_restarts_and_results_wait_then_all_goes_on() {
    for mode in [Mode::Reset, Mode::Blackhole] {
        let outage = Outage::new(|config| {
            // One slot stays free, so that the producer goes on asking.
            config.queues.get_mut("default").unwrap().limit = 4;
            config.instance.stale_after = Period::from_secs(60);
        })
        .await;
        let Outage { engine, proxy, fixture, node, .. } = &outage;
        let finished = outage.insert(2, json!({"do": "hold"})).await;
        let runs = outage.insert(1, json!({"do": "hold"})).await[0];
        fixture.until("three runs", |seen| seen.running == 3).await;

        proxy.set(mode);
        finished.iter().for_each(|id| fixture.release(*id));
        fixture.until("two ends", |seen| seen.finished.len() == 2).await;
        let waiting = outage.insert(4, json!({"do": "ok"})).await;
        outage.noticed().await;
        for id in &finished {
            assert_eq!(engine.get(*id).await.unwrap().unwrap().state, State::Executing, "its result waits");
        }
        assert_eq!((node.queues().running(), fixture.seen().running), (3, 1), "{mode:?}");

        proxy.set(Mode::Pass);
        for id in finished.iter().chain(&waiting) {
            assert_eq!(reaches(engine, *id, State::Completed).await.attempt, 1, "{mode:?}");
        }
        fixture.release(runs);
        reaches(engine, runs, State::Completed).await;
        let seen = fixture.seen();
        assert_eq!((seen.started.len(), seen.dropped.len()), (7, 0), "each once");
        assert!(seen.peak <= 4);
        assert_eq!(restarts(&node.system().snapshot()), 0, "{mode:?}");
    }
}

#[tokio::test]
async fn an_instance_that_cannot_prove_that_it_lives_stops_its_jobs_before_others_take_them() {
    let outage = Outage::new(|config| config.instance.stale_after = Period::from_millis(2_000)).await;
    let Outage { db, engine, proxy, fixture, node } = &outage;
    let id = outage.insert(1, json!({"do": "hang"})).await[0];
    fixture.started(id).await;
    let other = TestNode::start(db.url(), "two", fixture, short).await;

    proxy.set(Mode::Blackhole);
    fixture.until("the end of the first run", |seen| seen.dropped == [(id, 1)]).await;
    let row_then = row(engine.db(), id).await;
    assert_eq!((&row_then["state"], &row_then["attempted_by"][0]), (&json!("executing"), &json!("one")));
    fixture.until("a second run", |seen| seen.started == [(id, 1), (id, 2)]).await;
    assert_eq!(fixture.seen().peak, 1, "never two at once");
    let taken = row(engine.db(), id).await;
    assert_eq!((&taken["state"], &taken["attempted_by"][0]), (&json!("executing"), &json!("two")));

    // Back again, the first one finds itself dead, changes nothing of the job that is not its own, and works.
    proxy.set(Mode::Pass);
    until("heartbeats again", || async {
        let all = Presence::new(engine.db().clone(), None).list().await.unwrap();
        all.iter().any(|row| row.instance_id == "one" && row.status == "online").then_some(())
    })
    .await;
    until("a free slot", || async { (node.queues().running() == 0).then_some(()) }).await;
    assert_eq!(row(engine.db(), id).await, taken);
    let more = outage.insert(4, json!({"do": "hold"})).await;
    fixture.until("work on both", |seen| seen.running == 5).await;
    fixture.release_all();
    for id in more {
        reaches(engine, id, State::Completed).await;
    }
    assert_eq!(restarts(&node.system().snapshot()) + restarts(&other.system().snapshot()), 0);
}

#[tokio::test]
async fn what_happens_while_the_database_is_away_is_kept_when_it_is_back() {
    let outage = Outage::new(|_| {}).await;
    let Outage { engine, proxy, node, .. } = &outage;
    proxy.set(Mode::Blackhole);
    outage.noticed().await;
    assert!(node.system().kill("/services/stager"));
    until("events that wait", || async {
        let tree = node.system().snapshot();
        tree.find("/instance/history").unwrap().labels.contains_key("waiting").then_some(())
    })
    .await;
    proxy.set(Mode::Pass);
    let kept = until("the crash", || async {
        let mut rows = singularity::instance::events(engine.db(), Some("one"), 10).await.unwrap();
        // Where the outage lasts, the instance has stopped its own jobs as well.
        rows.retain(|row| row.event != "fenced");
        (rows.len() == 2).then_some(rows)
    })
    .await;
    assert_eq!((kept[0].event.as_str(), kept[1].event.as_str()), ("exited", "started"));
}

/// A start that fails at once is repeated at once, until its supervisors give up.
#[tokio::test]
async fn a_registry_that_is_restarted_while_the_database_is_away_waits_for_it() {
    let outage = Outage::new(|config| config.instance.stale_after = Period::from_secs(60)).await;
    let Outage { engine, proxy, node, .. } = &outage;
    proxy.set(Mode::Reset);
    outage.noticed().await;
    assert!(node.system().kill("/instance/registry"));
    until("its next life", || async {
        let tree = node.system().snapshot();
        let registry = tree.find("/instance/registry")?;
        (registry.state == NodeState::Running && registry.incarnation == 2).then_some(())
    })
    .await;
    let presence = Presence::new(engine.db().clone(), None);
    let last = presence.get("one").await.unwrap().unwrap().last_heartbeat;
    proxy.set(Mode::Pass);
    until("a heartbeat", || async {
        (presence.get("one").await.unwrap().unwrap().last_heartbeat > last).then_some(())
    })
    .await;
    assert_eq!(restarts(&node.system().snapshot()), 1);
}

#[tokio::test]
async fn a_short_outage_does_not_stop_jobs() {
    let outage = Outage::new(|config| config.instance.stale_after = Period::from_secs(30)).await;
    let id = outage.insert(1, json!({"do": "hold"})).await[0];
    outage.fixture.started(id).await;
    outage.proxy.set(Mode::Blackhole);
    outage.noticed().await;
    outage.proxy.set(Mode::Pass);
    outage.fixture.release(id);
    assert_eq!(reaches(&outage.engine, id, State::Completed).await.attempt, 1);
    assert!(outage.fixture.seen().dropped.is_empty());
}

#[tokio::test]
async fn a_notice_that_was_lost_is_made_up_for_by_the_poll_and_by_the_stager() {
    let (soon, never) = (Period::from_millis(100), Period::from_secs(3_600));
    for (poll, stager) in [(soon, never), (never, soon)] {
        let outage = Outage::new(|config| {
            config.services.stager.interval = stager;
            config.queues.get_mut("default").unwrap().poll_interval = poll;
        })
        .await;
        // One after the other, so that neither is what a start looks for by itself.
        for id in [1, 2] {
            // Nothing was said: the row is simply there.
            outage.db.execute("INSERT INTO oban_jobs (worker, args) VALUES ('fixture', '{\"do\": \"ok\"}')").await;
            reaches(&outage.engine, id, State::Completed).await;
        }
    }
}

#[tokio::test]
async fn a_stop_ends_also_when_the_database_does_not_answer() {
    let outage = Outage::new(|config| {
        config.runtime.shutdown_grace = Period::from_millis(100);
        config.instance.stale_after = Period::from_secs(300);
    })
    .await;
    let Outage { db, engine, proxy, fixture, node } = outage;
    let id = engine.insert(job(json!({"do": "hang"}))).await.unwrap().id;
    fixture.started(id).await;
    proxy.set(Mode::Blackhole);
    let begun = std::time::Instant::now();
    node.shutdown().await;
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(fixture.seen().dropped, [(id, 1)]);
    // Its name is still taken, so the next process of that name has to wait for its last heartbeat to be stale.
    let error = TestNode::try_start(db.url(), "one", workers(&fixture), |_| {}).await.err().unwrap();
    assert!(matches!(error, NodeError::Instance(_)), "{error}");
}

#[tokio::test]
async fn a_node_whose_database_is_not_there_does_not_start_and_says_why() {
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let proxy = Proxy::start(db.host_and_port()).await;
    proxy.set(Mode::Reset);
    let through = db.url_through(proxy.address());
    let error = TestNode::try_start(&through, "one", workers(&fixture), |_| {}).await.err().unwrap();
    assert_eq!(singularity::error::Coded::code(&error), "E0222", "{error}");
}
