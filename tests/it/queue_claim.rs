//! Claiming in Oban's order, by demand, by one claimer each; and claims whose reply was lost.

use std::collections::HashSet;

use serde_json::json;
use singularity::queue::engine::Claim;
use singularity::queue::{NewJob, State};
use uuid::Uuid;

use crate::support::rows::{
    SHAPES, claim, engine, engine_in, ids, names, row, seconds_until, set_columns, state, with,
};

fn job() -> NewJob {
    NewJob::new("w", json!({}))
}

#[tokio::test]
async fn claims_by_priority_then_due_time_then_id_up_to_the_demand() {
    let (_db, engine) = engine().await;
    let early = "scheduled_at = timezone('UTC', now()) - interval '1 hour'";
    let last = with(&engine, NewJob { priority: 1, ..job() }, early).await;
    let third = engine.insert(job()).await.unwrap().id;
    let fourth =
        with(&engine, job(), &format!("scheduled_at = (SELECT scheduled_at FROM oban_jobs WHERE id = {third})")).await;
    let second = with(&engine, job(), early).await;
    let first = with(&engine, job(), "scheduled_at = timezone('UTC', now()) - interval '2 hours'").await;
    let producer = Uuid::now_v7();
    assert_eq!(ids(&claim(&engine, producer, 2).await), [first, second]);
    assert_eq!(ids(&claim(&engine, producer, 10).await), [third, fourth, last]);
    assert!(claim(&engine, producer, 10).await.is_empty());
}

#[tokio::test]
async fn a_claim_writes_owner_time_and_attempt_in_both_row_shapes() {
    for shape in SHAPES {
        let (_db, engine) = engine_in(shape).await;
        let id = engine.insert(job().meta("k", 1)).await.unwrap().id;
        let before = row(engine.db(), id).await;
        let producer = Uuid::now_v7();
        let jobs = claim(&engine, producer, 5).await;
        assert_eq!((jobs.len(), jobs[0].attempt, jobs[0].state), (1, 1, State::Executing));
        assert_eq!(jobs[0], engine.get(id).await.unwrap().unwrap(), "the claim returns the row as it is");
        let mut expected = before;
        let after = row(engine.db(), id).await;
        (expected["state"], expected["attempt"]) = (json!("executing"), json!(1));
        expected["attempted_by"] = json!(["here", producer.to_string()]);
        expected["attempted_at"] = after["attempted_at"].clone();
        assert_eq!(after, expected, "{shape:?}");
        let age = -seconds_until(engine.db(), id, "attempted_at").await;
        assert!((0.0..5.0).contains(&age), "{age}");
    }
}

#[tokio::test]
async fn jobs_of_other_queues_and_unknown_workers_are_left_to_others() {
    let (_db, engine) = engine().await;
    let foreign = engine.insert(NewJob::new("Elixir.Worker", json!({}))).await.unwrap().id;
    let elsewhere = engine.insert(job().queue("q")).await.unwrap().id;
    let states = ["suspended", "scheduled", "executing", "retryable", "completed", "discarded", "cancelled"];
    for state in states {
        with(&engine, job(), &format!("state = '{state}'")).await;
    }
    let mine = engine.insert(job()).await.unwrap().id;
    assert_eq!(ids(&claim(&engine, Uuid::now_v7(), 100).await), [mine]);
    assert_eq!(state(&engine, foreign).await, State::Available);
    let workers = names(&["v", "w", "Elixir.Worker"]);
    let claim = Claim { queue: "q", instance_id: "here", producer: Uuid::now_v7(), workers: &workers, demand: 9 };
    assert_eq!(ids(&engine.claim(&claim).await.unwrap()), [elsewhere]);
}

#[tokio::test]
async fn rows_whose_attempts_are_used_up_do_not_block_the_head_of_the_queue() {
    let (_db, engine) = engine().await;
    for _ in 0..3 {
        with(&engine, job(), "attempt = 20").await;
    }
    let next = engine.insert(job()).await.unwrap().id;
    assert_eq!(ids(&claim(&engine, Uuid::now_v7(), 1).await), [next]);
}

#[tokio::test]
async fn two_claimers_never_get_the_same_job() {
    let (_db, engine) = engine().await;
    engine.insert_many(vec![job(); 500]).await.unwrap();
    let claimers = (0..8).map(|_| {
        let engine = engine.clone();
        tokio::spawn(async move {
            let mut mine = Vec::new();
            loop {
                let jobs = claim(&engine, Uuid::now_v7(), 7).await;
                if jobs.is_empty() {
                    return mine;
                }
                mine.extend(ids(&jobs));
            }
        })
    });
    let all: Vec<i64> = futures_util::future::join_all(claimers).await.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(all.len(), 500);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 500);
}

#[tokio::test]
async fn a_row_that_somebody_else_is_about_to_take_is_skipped_and_not_waited_for() {
    let (_db, engine) = engine().await;
    let (held, free) = (engine.insert(job()).await.unwrap().id, engine.insert(job()).await.unwrap().id);
    let mut other = engine.db().pool().begin().await.unwrap();
    sqlx::query("SELECT FROM oban_jobs WHERE id = $1 FOR UPDATE").bind(held).execute(&mut *other).await.unwrap();
    assert_eq!(ids(&claim(&engine, Uuid::now_v7(), 2).await), [free]);
    other.rollback().await.unwrap();
    assert_eq!(ids(&claim(&engine, Uuid::now_v7(), 2).await), [held]);
}

#[tokio::test]
async fn claims_whose_reply_was_lost_are_handed_back_with_their_attempt_unspent() {
    let (_db, engine) = engine().await;
    engine.insert_many(vec![job(); 4]).await.unwrap();
    let (mine, other) = (Uuid::now_v7(), Uuid::now_v7());
    let claimed = ids(&claim(&engine, mine, 3).await);
    let foreign = ids(&claim(&engine, other, 1).await)[0];
    set_columns(&engine, claimed[0], "attempt = 7").await;
    let (lost, runs) = (&claimed[..2], &claimed[2..]);
    let mut recovered = engine.recover("default", "here", mine, runs).await.unwrap();
    recovered.sort_unstable();
    assert_eq!(recovered, lost);
    for (id, wanted) in [
        (lost[0], ("available", 6)),
        (lost[1], ("available", 0)),
        (runs[0], ("executing", 1)),
        (foreign, ("executing", 1)),
    ] {
        let job = engine.get(id).await.unwrap().unwrap();
        assert_eq!((job.state.as_str(), job.attempt), wanted, "job {id}");
    }
    assert!(engine.recover("other", "here", mine, &[]).await.unwrap().is_empty(), "another queue");
    assert!(engine.recover("default", "there", mine, &[]).await.unwrap().is_empty(), "another instance");
}
