//! One call to a provider over HTTP: four time limits, one retry in place.
//!
//! Always streams on the wire, also though the caller wants one answer: that gives the time to the first token, sees a
//! hanging server early, and makes dropping the call close the connection.

use std::time::Duration;

use chrono::Utc;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Client, Response};
use secrecy::ExposeSecret;
use tokio::time::{Instant, timeout_at};

use super::classify::{ErrorBody, Hints, classify};
use super::end::End;
use super::endpoint::{Endpoint, chain};
use super::error::ErrorClass;
use super::reply::{Failure, Reply};
use super::request::ChatRequest;
use super::stream::Reader;
use super::text::redact;

/// Bytes read of the body of an error.
const ERROR_BODY_BYTES_MAX: usize = 64 * 1024;
/// Wait before the one retry in place, before jitter; the official clients begin with the same.
pub(super) const RETRY_DELAY: Duration = Duration::from_millis(500);
/// The wait is shortened by up to this share at random, as in the official clients.
pub(super) const RETRY_JITTER: f64 = 0.25;
/// How long the rest of a finished body is awaited, because only a body read to its end leaves a reusable connection.
const DRAIN_GRACE: Duration = Duration::from_millis(200);

/// One request on its way.
struct Exchange<'a> {
    endpoint: &'a Endpoint,
    client: &'a Client,
    headers: HeaderMap,
    body: Vec<u8>,
    /// Bytes of the messages, to guess the input from where nobody counts it.
    input_bytes: usize,
    started: Instant,
    end: End,
}

/// Asks the model called `model` at the provider, until `until` at most.
///
/// A call whose connection is lost before anything came back is tried once more in place: whether the provider has
/// billed it is unknown, and most such losses are connections that went stale. One that is waited for in vain is not:
/// a model that thinks for long would do so again, and both are billed.
///
/// Cancel safety: dropping the future closes the connection; the provider may bill what it has produced until then, and
/// that is recorded nowhere.
pub(crate) async fn call(
    endpoint: &Endpoint,
    model: &str,
    request: &ChatRequest,
    max_tokens: u32,
    until: Option<Instant>,
) -> Result<Reply, Failure> {
    let started = Instant::now();
    let key = endpoint.read_key()?;
    let key = key.as_ref().map(ExposeSecret::expose_secret);
    let exchange = Exchange {
        endpoint,
        client: endpoint.client()?,
        headers: endpoint.headers(request.idempotency_key.as_deref(), key)?,
        body: endpoint.body(model, request, max_tokens),
        input_bytes: request.message_bytes(),
        started,
        end: End::of(endpoint.timeouts.total, until),
    };
    exchange.run().await.map_err(|failure| Failure {
        message: redact(failure.message, key),
        provider_code: failure.provider_code.map(|code| redact(code, key)),
        ..failure
    })
}

impl Exchange<'_> {
    async fn run(&self) -> Result<Reply, Failure> {
        let first = self.once().await;
        let Err(failure) = &first else { return first };
        let delay = RETRY_DELAY.mul_f64(1.0 - RETRY_JITTER * rand::random::<f64>());
        if !failure.lost || Instant::now() + delay >= self.end.at {
            return first;
        }
        tokio::time::sleep(delay).await;
        self.once().await
    }

    async fn once(&self) -> Result<Reply, Failure> {
        let first_byte = self.end.at.min(Instant::now() + self.endpoint.timeouts.first_byte.get());
        let request = self.client.post(self.endpoint.url.clone()).headers(self.headers.clone()).body(self.body.clone());
        let response = match timeout_at(first_byte, request.send()).await {
            Err(_) => return Err(Failure::new(ErrorClass::Transient, self.late(false))),
            Ok(Err(error)) if error.is_builder() => {
                return Err(Failure { sent: false, ..Failure::new(ErrorClass::Misconfigured, chain(error)) });
            }
            Ok(Err(error)) => {
                return Err(Failure { lost: true, ..Failure::new(ErrorClass::Transient, chain(error)) });
            }
            Ok(Ok(response)) => response,
        };
        let hints = Hints::read(response.headers(), Utc::now());
        if response.status().is_success() {
            self.read_answer(response, hints.request_id, first_byte).await
        } else {
            let limit = self.end.at.min(Instant::now() + self.endpoint.timeouts.idle.get());
            Err(read_error(response, &hints, limit).await)
        }
    }

    async fn read_answer(
        &self,
        mut response: Response,
        request_id: Option<String>,
        first_byte: Instant,
    ) -> Result<Reply, Failure> {
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_event_stream = content_type.is_some_and(|kind| kind.starts_with("text/event-stream"));
        let mut reader = Reader::new(self.endpoint.wire, self.input_bytes, is_event_stream, request_id);
        let mut limit = first_byte;
        let mut in_time = true;
        let broken = loop {
            match timeout_at(limit, response.chunk()).await {
                Ok(Ok(Some(piece))) => reader.push(&piece, self.started.elapsed())?,
                Ok(Ok(None)) => break None,
                Ok(Err(error)) => break Some(chain(error)),
                Err(_) => {
                    in_time = false;
                    break Some(self.late(reader.has_begun()));
                }
            }
            if reader.is_done() {
                break None;
            }
            limit = self.end.at.min(Instant::now() + self.endpoint.timeouts.idle.get());
        };
        let is_done = reader.is_done();
        let reply = reader.finish(self.started.elapsed(), broken);
        let reply = reply.map_err(|failure| Failure { lost: failure.lost && in_time, ..failure });
        if is_done {
            let drain = async { while let Ok(Some(_)) = response.chunk().await {} };
            let _in_time = timeout_at(self.end.at.min(Instant::now() + DRAIN_GRACE), drain).await;
        }
        reply
    }

    /// Which limit has passed.
    fn late(&self, has_begun: bool) -> String {
        if self.end.has_passed() {
            return format!("the answer was not there within {}", self.end.limit());
        }
        let timeouts = &self.endpoint.timeouts;
        let (name, limit) = if has_begun { ("idle", timeouts.idle) } else { ("first_byte", timeouts.first_byte) };
        format!("nothing came within {limit}, the time limit {name}")
    }
}

/// What a server that refuses says. Waits for it until `limit` at most.
pub(super) async fn read_error(mut response: Response, hints: &Hints, limit: Instant) -> Failure {
    let status = response.status().as_u16();
    let mut body = Vec::new();
    // The status says enough when the body does not come.
    while let Ok(Ok(Some(piece))) = timeout_at(limit, response.chunk()).await {
        let room = ERROR_BODY_BYTES_MAX.saturating_sub(body.len()).min(piece.len());
        body.extend_from_slice(&piece[..room]);
        if body.len() == ERROR_BODY_BYTES_MAX {
            break;
        }
    }
    let body = ErrorBody::parse(&body);
    let class = classify(Some(status), hints, &body);
    let word = body.word().map(str::to_owned);
    let mut message = match &word {
        Some(word) => format!("status {status} {word}"),
        None => format!("status {status}"),
    };
    if !body.message.is_empty() {
        message.push_str(": ");
        message.push_str(&body.message);
    }
    if let Some(id) = &hints.request_id {
        message.push_str(&format!(" (request {id})"));
    }
    Failure {
        status: Some(status),
        provider_code: word,
        retry_after: hints.retry_after.or(body.retry_delay),
        lost: status == 408,
        ..Failure::new(class, message)
    }
}
