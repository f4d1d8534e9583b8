//! Workflows: ordered steps with a checkpoint in the database after each, run as the work of one job.

mod definition;
mod executor;
mod llm_request;
mod request;
mod requests;
mod result;
mod store;
mod stored;

pub use definition::{Definition, Effect, Step, StepContext, StepError, StepFn, StepOutput};
pub use executor::{WorkflowExecutor, WorkflowRun, WorkflowWorker};
pub use llm_request::{LLM_REQUEST, llm_request};
pub use request::{InvalidRequest, LlmRequest, REQUEST_ID_CHARS_MAX};
pub use requests::{BATCH_REQUESTS_MAX, Batch, BatchRequest, Conflict, EnqueuedBatch, Requests, RequestsError};
pub use result::{JobResult, StoredResult};
pub use store::{Begun, Checkpoint, Owner, Store};
pub use stored::{StoredRun, StoredStep};
