//! Point 10 of the conformance suite: an available row whose attempts are used up blocks nothing, and does not stay.

use serde_json::json;
use singularity::queue::{NewJob, Replace, ReplaceField, State, Unique};

use crate::support::db::TestDb;
use crate::support::node::{Fixture, TestNode, job};
use crate::support::rows::{SHAPES, engine_in, names, row, with};

#[tokio::test]
async fn oban_10_an_exhausted_available_row_does_not_block_and_is_discarded() {
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, |config| {
        config.queues.get_mut("default").unwrap().limit = 1;
        config.services.lifeline.interval = singularity::config::Period::from_secs(1);
    })
    .await;
    let queue = node.pause().await;
    let mut exhausted = Vec::new();
    for _ in 0..3 {
        let older = "attempt = 20, scheduled_at = scheduled_at - interval '1 hour'";
        exhausted.push(with(node.engine(), job(json!({"do": "ok"})), older).await);
    }
    let next = node.insert(json!({"do": "ok"})).await;
    queue.set_paused(false);
    node.reaches(next, State::Completed).await;
    for id in exhausted {
        let job = node.reaches(id, State::Discarded).await;
        assert_eq!((job.attempt, job.errors.len(), job.discarded_at.is_some()), (20, 0, true));
        assert_eq!(fixture.starts_of(id), 0);
    }
}

#[tokio::test]
async fn what_is_swept_is_available_of_these_queues_and_used_up_in_both_row_shapes() {
    for shape in SHAPES {
        let (_db, engine) = engine_in(shape).await;
        let job = || NewJob::new("w", json!({})).max_attempts(3);
        let used_up = [
            with(&engine, job(), "attempt = 3").await,
            with(&engine, job().queue("q"), "attempt = 3, priority = 4").await,
        ];
        let kept = [
            with(&engine, job(), "attempt = 2").await,
            // Its last attempt is under way.
            with(&engine, job(), "attempt = 3, state = 'executing'").await,
            with(&engine, job(), "attempt = 3, state = 'retryable'").await,
            with(&engine, job(), "attempt = 3, state = 'suspended'").await,
            with(&engine, job().queue("elsewhere"), "attempt = 3").await,
        ];
        let mut before = Vec::new();
        for id in kept.iter().chain(&used_up) {
            before.push(row(engine.db(), *id).await);
        }
        // One that somebody is about to change is left for the next time.
        let mut other = engine.db().pool().begin().await.unwrap();
        sqlx::query("SELECT FROM oban_jobs WHERE id = $1 FOR UPDATE")
            .bind(used_up[0])
            .execute(&mut *other)
            .await
            .unwrap();
        let queues = names(&["default", "q", "none"]);
        assert_eq!(engine.discard_exhausted(&queues).await.unwrap(), [used_up[1]]);
        other.rollback().await.unwrap();
        assert_eq!(engine.discard_exhausted(&queues).await.unwrap(), [used_up[0]]);
        for (number, id) in kept.iter().chain(&used_up).enumerate() {
            let (mut expected, after) = (before[number].clone(), row(engine.db(), *id).await);
            if used_up.contains(id) {
                expected["state"] = json!("discarded");
                expected["discarded_at"] = after["discarded_at"].clone();
                assert!(after["discarded_at"].is_string());
            }
            assert_eq!(after, expected, "{shape:?}");
        }
        assert!(engine.discard_exhausted(&queues).await.unwrap().is_empty());
        assert!(engine.discard_exhausted(&[]).await.unwrap().is_empty());
    }
}

/// What we do to jobs ourselves never leaves such a row.
#[tokio::test]
async fn no_way_of_ours_makes_an_exhausted_available_row() {
    for shape in SHAPES {
        let (_db, engine) = engine_in(shape).await;
        let id = with(&engine, NewJob::new("w", json!({})), "state = 'discarded', attempt = 20").await;
        engine.retry(id).await.unwrap();
        let few = singularity::queue::JobUpdate { max_attempts: Some(1), ..Default::default() };
        engine.update(id, few).await.unwrap();
        let job = engine.get(id).await.unwrap().unwrap();
        assert_eq!((job.state, job.attempt, job.max_attempts), (State::Available, 20, 21), "{shape:?}");
        for (state, fewest) in [
            (State::Suspended, 4),
            (State::Scheduled, 4),
            (State::Available, 4),
            (State::Retryable, 4),
            (State::Executing, 3),
            (State::Completed, 3),
        ] {
            let same = || NewJob::new(state.as_str(), json!({})).unique(Unique::forever());
            let id = with(&engine, same(), &format!("state = '{state}', attempt = 3")).await;
            let few = same().max_attempts(2).replace(Replace::always(&[ReplaceField::MaxAttempts]));
            assert!(engine.insert(few).await.unwrap().replaced);
            assert_eq!(engine.get(id).await.unwrap().unwrap().max_attempts, fewest, "{shape:?} {state}");
        }
    }
}
