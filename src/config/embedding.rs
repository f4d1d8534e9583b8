//! What makes vectors, as typed values.

use serde::{Deserialize, Serialize};

use super::model::Workflow;
use super::period::Period;

/// `[workflows.embedding]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddingWorkflow {
    /// Queue of its jobs.
    pub queue: String,
    /// Attempts before a job is discarded; 1 to 32,767. Default 5.
    pub max_attempts: u32,
    /// Limit of one attempt; 100 ms to 7 days. Default 10 minutes.
    pub timeout: Period,
    /// Model of requests that name none, one of `[models]` with `kind = "embedding"`. Default `sim_embedding`.
    pub model: String,
}

impl Default for EmbeddingWorkflow {
    fn default() -> Self {
        let Workflow { queue, max_attempts, timeout, .. } = Workflow::default();
        Self { queue, max_attempts, timeout, model: "sim_embedding".into() }
    }
}

/// What a model answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// Text.
    #[default]
    Chat,
    /// A vector for each text.
    Embedding,
}

/// `[models.NAME.embedding]`, of a model with `kind = "embedding"`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddingModel {
    /// Numbers of a vector; 1 to 16,000. Answers of another length are refused. Default: whatever the provider gives;
    /// 256 where the model is simulated.
    pub dimensions: Option<u32>,
    /// Ask the provider to shorten its vectors to `dimensions`, which only some models know. Default false.
    pub shorten: bool,
    /// Texts of one request; 1 to 2,048. Default 256, and 100 at Google's host.
    pub batch_items: Option<u32>,
    /// Estimated tokens of one request; 1 to 1,000,000. Default 100,000.
    pub batch_tokens: Option<u32>,
}
