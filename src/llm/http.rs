//! A provider behind HTTP: one client, four time limits, one retry in place.
//!
//! Always streams on the wire, also though the caller wants one answer: that gives the time to the first token, sees a hanging
//! server early, and makes dropping the call close the connection. No redirect is followed, because it would carry the key
//! elsewhere. No error, log or debug output contains a key: it is read at each call and lives as long as the call.

use std::sync::OnceLock;
use std::time::Duration;

use chrono::Utc;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, Url};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout_at};

use super::classify::{ErrorBody, Hints, classify};
use super::error::ErrorClass;
use super::reply::{Failure, Reply};
use super::request::ChatRequest;
use super::stream::{Reader, Wire};
use super::text::redact;
use super::{anthropic, openai};
use crate::config::{SecretRef, Timeouts};

/// Bytes read of the body of an error.
const ERROR_BODY_BYTES_MAX: usize = 64 * 1024;
/// Wait before the one retry in place, before jitter; the official clients begin with the same.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// The wait is shortened by up to this share at random, as in the official clients.
const RETRY_JITTER: f64 = 0.25;
/// Idle connections kept for reuse.
const IDLE_CONNECTIONS_MAX: usize = 64;
/// Probes of a silent TCP connection, so that a vanished peer is noticed below the time limits as well.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// How long the rest of a finished body is awaited, because only a body read to its end leaves a reusable connection.
const DRAIN_GRACE: Duration = Duration::from_millis(200);

/// Whether a provider's key is there.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum KeyState {
    /// None is configured, and calls carry none.
    NotNeeded,
    /// It can be read.
    Present,
    /// The reference leads nowhere.
    Missing {
        /// What to do about it.
        advice: String,
    },
}

/// One provider's endpoint.
#[derive(Debug)]
pub(crate) struct HttpProvider {
    wire: Wire,
    url: Url,
    own_host: bool,
    key: Option<SecretRef>,
    timeouts: Timeouts,
    /// Made at the first call: loading the certificates of the machine costs time and may fail where there are none.
    client: OnceLock<Result<Client, String>>,
}

/// What one call sends.
struct Outgoing {
    headers: HeaderMap,
    body: Vec<u8>,
    input_bytes: usize,
}

impl HttpProvider {
    /// `base_url` is the root of the API; the provider's own when absent. On the provider's own host a missing key reference
    /// means the usual environment variable.
    ///
    /// # Errors
    /// What is wrong with the address, as a sentence.
    pub(crate) fn new(
        wire: Wire,
        base_url: Option<&str>,
        key: Option<&SecretRef>,
        timeouts: &Timeouts,
    ) -> Result<Self, String> {
        let (default, path, host, variable) = match wire {
            Wire::Openai => (openai::BASE_URL, "chat/completions", openai::HOST, "OPENAI_API_KEY"),
            Wire::Anthropic => (anthropic::BASE_URL, "v1/messages", anthropic::HOST, "ANTHROPIC_API_KEY"),
        };
        let mut root = parse_root(base_url.unwrap_or(default))?;
        let own_host = root.host_str() == Some(host);
        let trimmed = root.path().trim_end_matches('/');
        // Both `https://host` and `https://host/v1` are seen for Anthropic's format.
        let trimmed = if wire == Wire::Anthropic { trimmed.trim_end_matches("/v1") } else { trimmed };
        let path = format!("{trimmed}/{path}");
        root.set_path(&path);
        let key = key.cloned().or_else(|| own_host.then(|| SecretRef::env(variable)));
        Ok(Self { wire, url: root, own_host, key, timeouts: timeouts.clone(), client: OnceLock::new() })
    }

    /// The address that is called.
    pub(crate) fn url(&self) -> &str {
        self.url.as_str()
    }

    /// Whether the key can be read now.
    pub(crate) fn key_state(&self) -> KeyState {
        match self.read_key() {
            Ok(None) => KeyState::NotNeeded,
            Ok(Some(_)) => KeyState::Present,
            Err(failure) => KeyState::Missing { advice: failure.message },
        }
    }

    /// Asks the model called `model` at the provider.
    ///
    /// Cancel safety: dropping the future closes the connection; the provider may bill what it has produced until then, and
    /// that is recorded nowhere.
    pub(crate) async fn call(&self, model: &str, request: &ChatRequest, max_tokens: u32) -> Result<Reply, Failure> {
        let started = Instant::now();
        let key = self.read_key()?;
        let key = key.as_ref().map(ExposeSecret::expose_secret);
        let outcome = self.call_with_key(model, request, max_tokens, key, started).await;
        outcome.map_err(|failure| Failure {
            message: redact(failure.message, key),
            provider_code: failure.provider_code.map(|code| redact(code, key)),
            ..failure
        })
    }

    async fn call_with_key(
        &self,
        model: &str,
        request: &ChatRequest,
        max_tokens: u32,
        key: Option<&str>,
        started: Instant,
    ) -> Result<Reply, Failure> {
        let client = self.client.get_or_init(|| self.build_client()).as_ref().map_err(|why| Failure {
            sent: false,
            ..Failure::new(ErrorClass::Misconfigured, format!("no HTTP client can be made: {why}"))
        })?;
        let body = match self.wire {
            Wire::Openai => openai::body(model, request, max_tokens, self.own_host),
            Wire::Anthropic => anthropic::body(model, request, max_tokens),
        };
        let outgoing = Outgoing {
            headers: self.headers(request, key)?,
            body: body.to_string().into_bytes(),
            input_bytes: request.message_bytes(),
        };
        let deadline = started + self.timeouts.total.get();
        let first = self.once(client, &outgoing, started, deadline).await;
        let Err(failure) = &first else { return first };
        let delay = RETRY_DELAY.mul_f64(1.0 - RETRY_JITTER * rand::random::<f64>());
        if !failure.before_first_byte || Instant::now() + delay >= deadline {
            return first;
        }
        tokio::time::sleep(delay).await;
        self.once(client, &outgoing, started, deadline).await
    }

    async fn once(
        &self,
        client: &Client,
        outgoing: &Outgoing,
        started: Instant,
        deadline: Instant,
    ) -> Result<Reply, Failure> {
        let first_byte = deadline.min(Instant::now() + self.timeouts.first_byte.get());
        let request = client.post(self.url.clone()).headers(outgoing.headers.clone()).body(outgoing.body.clone());
        let unanswered =
            |message: String| Failure { before_first_byte: true, ..Failure::new(ErrorClass::Transient, message) };
        let response = match timeout_at(first_byte, request.send()).await {
            Err(_) => return Err(unanswered(self.late(deadline, "first_byte", self.timeouts.first_byte.get()))),
            Ok(Err(error)) if error.is_builder() => {
                return Err(Failure { sent: false, ..Failure::new(ErrorClass::Misconfigured, chain(error)) });
            }
            Ok(Err(error)) => return Err(unanswered(chain(error))),
            Ok(Ok(response)) => response,
        };
        let hints = Hints::read(response.headers(), Utc::now());
        if response.status().is_success() {
            self.read_answer(response, outgoing.input_bytes, hints.request_id, started, first_byte, deadline).await
        } else {
            Err(self.read_error(response, &hints, deadline).await)
        }
    }

    async fn read_answer(
        &self,
        mut response: Response,
        input_bytes: usize,
        request_id: Option<String>,
        started: Instant,
        first_byte: Instant,
        deadline: Instant,
    ) -> Result<Reply, Failure> {
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_event_stream = content_type.is_some_and(|kind| kind.starts_with("text/event-stream"));
        let mut reader = Reader::new(self.wire, input_bytes, is_event_stream, request_id);
        let mut limit = first_byte;
        let broken = loop {
            match timeout_at(limit, response.chunk()).await {
                Ok(Ok(Some(piece))) => reader.push(&piece, started.elapsed())?,
                Ok(Ok(None)) => break None,
                Ok(Err(error)) => break Some(chain(error)),
                Err(_) if reader.has_begun() => break Some(self.late(deadline, "idle", self.timeouts.idle.get())),
                Err(_) => break Some(self.late(deadline, "first_byte", self.timeouts.first_byte.get())),
            }
            if reader.is_done() {
                break None;
            }
            limit = deadline.min(Instant::now() + self.timeouts.idle.get());
        };
        let is_done = reader.is_done();
        let reply = reader.finish(started.elapsed(), broken);
        if is_done {
            let drain = async { while let Ok(Some(_)) = response.chunk().await {} };
            let _in_time = timeout_at(deadline.min(Instant::now() + DRAIN_GRACE), drain).await;
        }
        reply
    }

    async fn read_error(&self, mut response: Response, hints: &Hints, deadline: Instant) -> Failure {
        let status = response.status().as_u16();
        let limit = deadline.min(Instant::now() + self.timeouts.idle.get());
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
            retry_after: hints.retry_after,
            before_first_byte: status == 408,
            ..Failure::new(class, message)
        }
    }

    fn late(&self, deadline: Instant, setting: &str, limit: Duration) -> String {
        let (setting, limit) =
            if Instant::now() >= deadline { ("total", self.timeouts.total.get()) } else { (setting, limit) };
        format!("nothing came within {limit:?}, the time limit {setting}")
    }

    fn read_key(&self) -> Result<Option<SecretString>, Failure> {
        let Some(reference) = &self.key else { return Ok(None) };
        let missing = |message: String| Failure { sent: false, ..Failure::new(ErrorClass::Misconfigured, message) };
        match (reference.read(), reference) {
            (Ok(Some(key)), _) => Ok(Some(key)),
            (Ok(None), SecretRef::Env(name)) => Err(missing(format!("there is no key: set {name}"))),
            (Ok(None), SecretRef::File(path)) => {
                Err(missing(format!("there is no key: write it to {}", path.display())))
            }
            (Err(error), _) => Err(missing(format!("the key {reference} cannot be read: {error}"))),
        }
    }

    fn headers(&self, request: &ChatRequest, key: Option<&str>) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream, application/json"));
        if self.wire == Wire::Anthropic {
            headers.insert(HeaderName::from_static("anthropic-version"), HeaderValue::from_static(anthropic::VERSION));
        }
        let refused = |class, what: &str| Failure {
            sent: false,
            ..Failure::new(class, format!("{what} has characters that no header can carry"))
        };
        if let Some(key) = key {
            let (name, text) = match self.wire {
                Wire::Openai => (AUTHORIZATION, format!("Bearer {key}")),
                Wire::Anthropic => (HeaderName::from_static("x-api-key"), key.to_owned()),
            };
            let mut value = HeaderValue::try_from(text).map_err(|_| refused(ErrorClass::Misconfigured, "the key"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        if let Some(key) = &request.idempotency_key {
            let value = HeaderValue::from_str(key).map_err(|_| refused(ErrorClass::Permanent, "idempotency_key"))?;
            headers.insert(HeaderName::from_static("idempotency-key"), value);
        }
        Ok(headers)
    }

    fn build_client(&self) -> Result<Client, String> {
        let mut builder = Client::builder()
            .user_agent(concat!("singularity/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.timeouts.connect.get())
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .tcp_keepalive(TCP_KEEPALIVE)
            .tcp_nodelay(true);
        // A proxy cannot reach this machine's loopback.
        if is_loopback(&self.url) {
            builder = builder.no_proxy();
        }
        builder.build().map_err(chain)
    }
}

fn parse_root(text: &str) -> Result<Url, String> {
    let example = "write the root of the API, for example https://api.openai.com/v1";
    let url = Url::parse(text).map_err(|error| format!("{text:?} is no URL ({error}); {example}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(format!("{text:?} is no http or https address; {example}"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // The value is not repeated: it contains a secret.
        return Err("the address contains a user name or password; use api_key with a reference".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!(
            "the address of {} has a query or fragment; {example}",
            url.host_str().unwrap_or_default()
        ));
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// An error with its causes, without the address.
fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(wire: Wire, base: &str) -> String {
        HttpProvider::new(wire, Some(base), None, &Timeouts::default())
            .map(|p| p.url().to_owned())
            .unwrap_or_else(|e| e)
    }

    #[test]
    fn addresses_are_completed() {
        assert_eq!(url(Wire::Openai, "http://127.0.0.1:8000/v1"), "http://127.0.0.1:8000/v1/chat/completions");
        assert_eq!(url(Wire::Openai, "http://host/"), "http://host/chat/completions");
        assert_eq!(url(Wire::Anthropic, "http://host"), "http://host/v1/messages");
        assert_eq!(url(Wire::Anthropic, "http://host/proxy/v1/"), "http://host/proxy/v1/messages");
    }

    #[test]
    fn addresses_that_cannot_work_are_refused_without_their_secrets() {
        for bad in ["", "api.openai.com", "ftp://host", "http://", "http://host?key=1"] {
            assert!(HttpProvider::new(Wire::Openai, Some(bad), None, &Timeouts::default()).is_err(), "{bad}");
        }
        assert!(!url(Wire::Openai, "https://me:secret@host/v1").contains("secret"));
    }

    #[test]
    fn the_providers_own_hosts_expect_a_key() {
        let own = HttpProvider::new(Wire::Anthropic, None, None, &Timeouts::default()).unwrap();
        assert_eq!(own.key, Some(SecretRef::env("ANTHROPIC_API_KEY")));
        let local = HttpProvider::new(Wire::Openai, Some("http://[::1]:1/v1"), None, &Timeouts::default()).unwrap();
        assert_eq!(local.key_state(), KeyState::NotNeeded);
        assert!(is_loopback(&local.url));
    }
}
