//! Models behind one door: providers, usage, prices, error classes, circuit breakers.
//!
//! Knows nothing of queues, PostgreSQL or workflows. Formats, classification, prices, breaker and the event decoder are
//! pure; effects are in `gateway`, `pace`, `http`, `embedding_http`, `command` and `simulated` alone.
//!
//! Invariants: money is integer nano-dollars and unknown is `None`, never 0; every limit has a name; no key appears in
//! any error, log or debug output; everything from a simulated provider says so.

mod answer;
mod anthropic;
mod breaker;
mod classify;
mod command;
mod draft;
mod embedding;
mod embedding_http;
mod end;
mod endpoint;
mod error;
mod gateway;
mod governor;
mod hashing;
mod http;
mod openai;
mod pace;
mod prices;
mod reply;
mod request;
mod setup;
mod simulated;
mod sse;
mod stream;
mod text;
mod usage;

pub use answer::{Answer, FinishReason};
pub use breaker::{Breaker, BreakerView, Outcome, Permit, Rejection};
pub use command::find_program;
pub use embedding::{BATCH_ITEMS_DEFAULT, BATCH_TOKENS_DEFAULT, DIMENSIONS_MAX, Embedded};
pub use endpoint::KeyState;
pub use error::{Advice, ErrorClass, LlmError, Partial, SNOOZE_MAX, SNOOZE_MIN};
pub use gateway::{Gateway, ModelInfo, ProviderStatus};
pub use pace::PACE_PATIENCE;
pub use prices::{CONFIGURED_VERSION, Cost, ModelPrice, PriceError, PriceTable, Rates};
pub use request::{
    ChatRequest, IDEMPOTENCY_KEY_BYTES_MAX, MESSAGE_BYTES_MAX, MESSAGES_MAX, Message, OUTPUT_TOKENS_MAX, RequestError,
    Role,
};
pub use setup::GatewayProblem;
pub use usage::{ServiceTier, TOKENS_MAX, Usage, estimate_tokens};
