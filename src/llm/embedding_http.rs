//! One request for vectors over HTTP: the provider's time limits, one retry in place.

use chrono::Utc;
use reqwest::header::HeaderMap;
use reqwest::{Client, Response, Url};
use secrecy::ExposeSecret;
use tokio::time::{Instant, timeout_at};

use super::classify::Hints;
use super::embedding::{Batch, body, parse};
use super::end::End;
use super::endpoint::{Endpoint, chain};
use super::error::ErrorClass;
use super::http::{RETRY_DELAY, RETRY_JITTER, read_error};
use super::reply::Failure;
use super::text::redact;
use crate::config::EmbeddingModel;

/// Largest answer: 2,048 vectors of 3,072 numbers at 20 bytes each, and room.
const ANSWER_BYTES_MAX: usize = 160 * 1024 * 1024;

/// One request on its way.
struct Exchange<'a> {
    endpoint: &'a Endpoint,
    client: &'a Client,
    url: Url,
    headers: HeaderMap,
    body: Vec<u8>,
    end: End,
}

/// Asks the model called `model` at the provider for a vector of each text, until `until` at most. A request whose
/// connection is lost before anything came back is tried once more in place.
///
/// Cancel safety: dropping the future closes the connection; the provider may bill the request all the same.
pub(crate) async fn call(
    endpoint: &Endpoint,
    model: &str,
    spec: &EmbeddingModel,
    texts: &[&str],
    idempotency_key: &str,
    until: Option<Instant>,
) -> Result<Batch, Failure> {
    let end = End::of(endpoint.timeouts.total, until);
    // Nothing but another model in the request helps, as where one is asked for vectors that answers with text.
    let unsent = |message: &str| Failure { sent: false, ..Failure::new(ErrorClass::Permanent, message) };
    let url = endpoint.embeddings_url();
    let url = url.ok_or_else(|| unsent("its provider's wire format has no embeddings; use one of kind \"openai\""))?;
    let key = endpoint.read_key()?;
    let key = key.as_ref().map(ExposeSecret::expose_secret);
    let exchange = Exchange {
        endpoint,
        client: endpoint.client()?,
        url,
        headers: endpoint.headers(Some(idempotency_key), key)?,
        body: body(model, texts, spec.dimensions.filter(|_| spec.shorten)).to_string().into_bytes(),
        end,
    };
    let answer = match exchange.run().await {
        Ok(answer) => parse(&answer, texts, spec.dimensions),
        Err(failure) => Err(failure),
    };
    answer.map_err(|failure| Failure {
        message: redact(failure.message, key),
        provider_code: failure.provider_code.map(|code| redact(code, key)),
        ..failure
    })
}

impl Exchange<'_> {
    async fn run(&self) -> Result<Vec<u8>, Failure> {
        let first = self.once().await;
        let Err(failure) = &first else { return first };
        let delay = RETRY_DELAY.mul_f64(1.0 - RETRY_JITTER * rand::random::<f64>());
        if !failure.lost || Instant::now() + delay >= self.end.at {
            return first;
        }
        tokio::time::sleep(delay).await;
        self.once().await
    }

    async fn once(&self) -> Result<Vec<u8>, Failure> {
        let timeouts = &self.endpoint.timeouts;
        let first_byte = self.end.at.min(Instant::now() + timeouts.first_byte.get());
        let request = self.client.post(self.url.clone()).headers(self.headers.clone()).body(self.body.clone());
        let late = |message: String| Failure::new(ErrorClass::Transient, message);
        let response = match timeout_at(first_byte, request.send()).await {
            Err(_) if self.end.has_passed() => {
                return Err(late(format!("no answer within {}", self.end.limit())));
            }
            Err(_) => {
                return Err(late(format!("no answer within {}, the time limit first_byte", timeouts.first_byte)));
            }
            Ok(Err(error)) => {
                return Err(Failure { lost: true, ..Failure::new(ErrorClass::Transient, chain(error)) });
            }
            Ok(Ok(response)) => response,
        };
        let hints = Hints::read(response.headers(), Utc::now());
        if !response.status().is_success() {
            let limit = self.end.at.min(Instant::now() + timeouts.idle.get());
            return Err(read_error(response, &hints, limit).await);
        }
        self.read(response).await
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, Failure> {
        let broken = |message: String| Failure::new(ErrorClass::Transient, format!("the answer broke off: {message}"));
        let mut body = Vec::new();
        loop {
            let limit = self.end.at.min(Instant::now() + self.endpoint.timeouts.idle.get());
            match timeout_at(limit, response.chunk()).await {
                Ok(Ok(Some(piece))) if body.len() + piece.len() > ANSWER_BYTES_MAX => {
                    return Err(broken(format!("it has more than {ANSWER_BYTES_MAX} bytes")));
                }
                Ok(Ok(Some(piece))) => body.extend_from_slice(&piece),
                Ok(Ok(None)) => return Ok(body),
                Ok(Err(error)) => return Err(broken(chain(error))),
                Err(_) if self.end.has_passed() => {
                    return Err(broken(format!("it was not whole within {}", self.end.limit())));
                }
                Err(_) => {
                    let idle = self.endpoint.timeouts.idle;
                    return Err(broken(format!("nothing more came within {idle}, the time limit idle")));
                }
            }
        }
    }
}
