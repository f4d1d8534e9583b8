//! The floor that the engine is compared with, as the benches ask for it: every batch is whole.

use serde_json::{Value, json};
use singularity::queue::engine;

use super::fixture::{Bench, QUEUE, WORKER};

/// The least SQL, on connections of its own.
pub struct Bare(engine::Bare);

/// Arguments of so many jobs, the same as those of [`Bench::jobs`].
pub fn args(count: usize) -> Vec<Value> {
    (0..count).map(|number| json!({ "number": number, "text": "sixteen letters." })).collect()
}

impl Bare {
    pub fn on(bench: &Bench<'_>) -> Self {
        Self(bench.block_on(engine::Bare::open(bench.engine.db(), QUEUE, WORKER)).unwrap())
    }

    pub async fn claim(&mut self, batch: usize) -> Vec<i64> {
        let ids = self.0.claim(i64::try_from(batch).unwrap()).await.unwrap();
        assert_eq!(ids.len(), batch);
        ids
    }

    pub async fn complete(&mut self, ids: &[i64]) {
        assert_eq!(self.0.complete(ids).await.unwrap(), ids.len() as u64);
    }

    pub async fn insert(&mut self, args: Vec<Value>) {
        let count = args.len();
        assert_eq!(self.0.insert(args).await.unwrap(), count);
    }
}
