//! Workflows: ordered steps with a checkpoint in the database after each, run as the work of one job.

pub mod agents;
mod asker;
mod builder;
mod children;
mod code;
mod definition;
mod embedding;
mod error;
mod executor;
mod known;
mod llm_request;
mod models;
mod parents;
mod pruner;
mod request;
mod requests;
mod result;
mod retry;
mod steps;
mod store;
mod stored;
mod walk;

pub use builder::{WORKFLOW_TIMEOUT_DEFAULT, Workflow};
pub use children::{
    CHILD_KEY_CHARS_MAX, CHILDREN_MAX, CHILDREN_POLL, Child, ChildJob, Children, META_PARENT_JOB, META_PARENT_RUN,
    Plan, PlanFn, Wait,
};
pub use definition::{
    Definition, Effect, FAN_OUT_ITEMS_MAX, FAN_OUT_PARALLEL_DEFAULT, FAN_OUT_PARALLEL_MAX, STEP_OUTPUT_BYTES_MAX, Step,
    StepContext, StepError, StepFn, StepOutput, Work,
};
pub use embedding::{
    COLLECTION_DEFAULT, Collection, EMBEDDING, EmbeddingRequest, Entry, Found, InvalidEmbedding, Item, KEY_CHARS_MAX,
    LISTING_MAX, Match, NewVectors, Query, SEARCH_LIMIT_MAX, SEARCH_VECTORS_MAX, SearchError, TEXT_BYTES_MAX,
    TEXT_TOKENS_MAX, TEXTS_MAX, UnservableEmbedding, Vectors, Written, cosine, embedding,
};
pub use error::DefinitionError;
pub use executor::{WorkflowExecutor, WorkflowRun, WorkflowWorker};
pub use known::Workflows;
pub use llm_request::{LLM_REQUEST, llm_request};
pub use models::{Answers, Asking, Budgets, Exhausted, Failed, Holder, Limited, Models, Spent, Unanswered, Window};
pub use pruner::{RunPruner, RunPrunerArgs};
pub use request::{InvalidRequest, LlmRequest, REQUEST_ID_CHARS_MAX};
pub use requests::{BATCH_REQUESTS_MAX, Batch, BatchRequest, Conflict, EnqueuedBatch, Requests, RequestsError};
pub use result::{Attempted, JobResult, StoredResult};
pub use retry::{STEP_TRIES_MAX, STEP_WAIT_MAX, StepRetry};
pub use store::{Begun, Checkpoint, Owner, Part, RUNS_LIST_MAX, RunFilter, Store};
pub use stored::{ListedRun, RETRYING, StoredChild, StoredPart, StoredRun, StoredStep};
