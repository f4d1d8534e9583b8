//! Polls of producers, and when none is needed.

use std::time::Duration;

use singularity::queue::{Looks, Queues};
use tokio::time::Instant;

use crate::support::node::job;
use crate::support::rows::engine;

#[tokio::test]
async fn a_producer_that_was_woken_within_its_interval_need_not_ask() {
    let (_db, engine) = engine().await;
    engine.insert(job(serde_json::json!({})).queue("full")).await.unwrap();
    let looks = Looks::new(engine, Queues::default());
    let (hour, past) = (Duration::from_secs(3_600), Duration::ZERO);
    assert!(looks.has_jobs("full", hour).await.unwrap());
    assert!(!looks.has_jobs("empty", hour).await.unwrap());
    looks.have_been_woken(Instant::now(), Some(vec!["full".into()]));
    assert!(!looks.has_jobs("full", hour).await.unwrap(), "it was woken");
    assert!(looks.has_jobs("full", past).await.unwrap(), "that is longer ago than its interval");
    looks.have_been_woken(Instant::now(), Some(vec!["empty".into()]));
    assert!(looks.has_jobs("full", hour).await.unwrap(), "another was");
    looks.have_been_woken(Instant::now(), None);
    assert!(!looks.has_jobs("full", hour).await.unwrap(), "all were");
}
