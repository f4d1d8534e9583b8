//! Where a provider is and how it is addressed: URL, key, headers, client.
//!
//! A key is read at each call and lives as long as the call, so that a rotated one is used at once and a missing one is
//! an error of the call. No error or debug output contains it.

use std::sync::OnceLock;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Url};
use secrecy::SecretString;

use super::error::ErrorClass;
use super::reply::Failure;
use super::request::ChatRequest;
use super::stream::Wire;
use super::{anthropic, openai};
use crate::config::{OutputLimit, SecretRef, Timeouts};

/// Where OpenAI's format has its chat.
const CHAT_PATH: &str = "chat/completions";
/// Idle connections kept for reuse.
const IDLE_CONNECTIONS_MAX: usize = 64;
/// Probes of a silent TCP connection, so that a vanished peer is noticed below the time limits as well.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

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

/// One provider's address with everything that a call needs.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) wire: Wire,
    pub(crate) url: Url,
    output_limit: OutputLimit,
    key: Option<SecretRef>,
    pub(crate) timeouts: Timeouts,
    /// Made at the first call: loading the certificates of the machine costs time and may fail where there are none.
    client: OnceLock<Result<Client, String>>,
}

impl Endpoint {
    /// `base_url` is the root of the API; the provider's own when absent. On the provider's own host a missing key
    /// reference means the usual environment variable.
    ///
    /// # Errors
    /// What is wrong with the address, as a sentence.
    pub(crate) fn new(
        wire: Wire,
        base_url: Option<&str>,
        key: Option<&SecretRef>,
        timeouts: &Timeouts,
    ) -> Result<Self, String> {
        let (default, path, variable) = match wire {
            Wire::Openai => (openai::BASE_URL, CHAT_PATH, "OPENAI_API_KEY"),
            Wire::Anthropic => (anthropic::BASE_URL, "v1/messages", "ANTHROPIC_API_KEY"),
        };
        let mut root = parse_root(base_url.unwrap_or(default))?;
        let host = root.host_str().unwrap_or_default();
        let output_limit = openai::output_limit(host);
        let own_host = match wire {
            Wire::Openai => openai::is_own_host(host),
            Wire::Anthropic => host == anthropic::HOST,
        };
        let trimmed = root.path().trim_end_matches('/');
        // Both `https://host` and `https://host/v1` are seen for Anthropic's format.
        let trimmed = if wire == Wire::Anthropic { trimmed.trim_end_matches("/v1") } else { trimmed };
        let path = format!("{trimmed}/{path}");
        root.set_path(&path);
        let key = key.cloned().or_else(|| own_host.then(|| SecretRef::env(variable)));
        Ok(Self { wire, url: root, output_limit, key, timeouts: timeouts.clone(), client: OnceLock::new() })
    }

    /// The same with another name of the output limit than the host's, where one is configured.
    pub(crate) fn with_output_limit(self, configured: Option<OutputLimit>) -> Self {
        Self { output_limit: configured.unwrap_or(self.output_limit), ..self }
    }

    /// The address that is called.
    pub(crate) fn url(&self) -> &str {
        self.url.as_str()
    }

    /// The address that makes vectors; `None` where the format has none.
    pub(crate) fn embeddings_url(&self) -> Option<Url> {
        let root = self.url.path().strip_suffix(CHAT_PATH).filter(|_| self.wire == Wire::Openai)?;
        let mut url = self.url.clone();
        url.set_path(&format!("{root}embeddings"));
        Some(url)
    }

    /// Whether the key can be read now.
    pub(crate) fn key_state(&self) -> KeyState {
        match self.read_key() {
            Ok(None) => KeyState::NotNeeded,
            Ok(Some(_)) => KeyState::Present,
            Err(failure) => KeyState::Missing { advice: failure.message },
        }
    }

    /// The client, made at the first call. No redirect is followed, because it would carry the key elsewhere.
    pub(crate) fn client(&self) -> Result<&Client, Failure> {
        self.client.get_or_init(|| self.build_client()).as_ref().map_err(|why| Failure {
            sent: false,
            ..Failure::new(ErrorClass::Misconfigured, format!("no HTTP client can be made: {why}"))
        })
    }

    /// The body of a request in this format.
    pub(crate) fn body(&self, model: &str, request: &ChatRequest, max_tokens: u32) -> Vec<u8> {
        let body = match self.wire {
            Wire::Openai => openai::body(model, request, max_tokens, self.output_limit),
            Wire::Anthropic => anthropic::body(model, request, max_tokens),
        };
        body.to_string().into_bytes()
    }

    /// The key of a call; `None` when none is configured.
    pub(crate) fn read_key(&self) -> Result<Option<SecretString>, Failure> {
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

    /// The headers of a request.
    pub(crate) fn headers(&self, idempotency_key: Option<&str>, key: Option<&str>) -> Result<HeaderMap, Failure> {
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
        if let Some(key) = idempotency_key {
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
    // What stands before an @ may be a password.
    let shown = if text.contains('@') { "the address".to_owned() } else { format!("{text:?}") };
    let url = Url::parse(text).map_err(|error| format!("{shown} is no URL ({error}); {example}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(format!("{shown} is no http or https address; {example}"));
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

/// An error with its causes, without the address, which may be private.
pub(crate) fn chain(error: reqwest::Error) -> String {
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
        Endpoint::new(wire, Some(base), None, &Timeouts::default()).map(|p| p.url().to_owned()).unwrap_or_else(|e| e)
    }

    #[test]
    fn addresses_are_completed() {
        assert_eq!(url(Wire::Openai, "http://127.0.0.1:8000/v1"), "http://127.0.0.1:8000/v1/chat/completions");
        assert_eq!(url(Wire::Openai, "http://host/"), "http://host/chat/completions");
        let vectors =
            |wire, base| Endpoint::new(wire, Some(base), None, &Timeouts::default()).unwrap().embeddings_url();
        assert_eq!(vectors(Wire::Openai, "http://host/v1").unwrap().as_str(), "http://host/v1/embeddings");
        assert_eq!(vectors(Wire::Anthropic, "http://host"), None);
        assert_eq!(url(Wire::Anthropic, "http://host"), "http://host/v1/messages");
        assert_eq!(url(Wire::Anthropic, "http://host/proxy/v1/"), "http://host/proxy/v1/messages");
    }

    #[test]
    fn addresses_that_cannot_work_are_refused_without_their_secrets() {
        for bad in ["", "api.openai.com", "ftp://host", "http://", "http://host?key=1"] {
            assert!(Endpoint::new(Wire::Openai, Some(bad), None, &Timeouts::default()).is_err(), "{bad}");
        }
        for with_password in ["https://me:secret@host/v1", "https://me:secret@host:99999", "ftp://me:secret@host"] {
            assert!(!url(Wire::Openai, with_password).contains("secret"), "{with_password}");
        }
    }

    #[test]
    fn the_providers_own_hosts_expect_a_key() {
        let own = Endpoint::new(Wire::Anthropic, None, None, &Timeouts::default()).unwrap();
        assert_eq!(own.key, Some(SecretRef::env("ANTHROPIC_API_KEY")));
        let local = Endpoint::new(Wire::Openai, Some("http://[::1]:1/v1"), None, &Timeouts::default()).unwrap();
        assert_eq!(local.key_state(), KeyState::NotNeeded);
        assert!(is_loopback(&local.url));
        let region = Endpoint::new(Wire::Openai, Some("https://eu.api.openai.com/v1"), None, &Timeouts::default());
        assert_eq!(region.unwrap().key, Some(SecretRef::env("OPENAI_API_KEY")));
    }

    #[test]
    fn the_output_limit_has_the_name_that_the_host_knows_unless_another_is_configured() {
        let limit = |base: &str, configured: Option<OutputLimit>| {
            let endpoint = Endpoint::new(Wire::Openai, Some(base), None, &Timeouts::default()).unwrap();
            let body = endpoint.with_output_limit(configured).body("m", &ChatRequest::prompt("hi"), 7);
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let names = ["max_tokens", "max_completion_tokens"];
            names.into_iter().filter(|name| body[name] == 7).collect::<Vec<_>>()
        };
        for of_openai in [
            "https://api.openai.com/v1",
            "https://us.api.openai.com/v1",
            "https://name.openai.azure.com/openai/v1",
            "https://name.services.ai.azure.com/openai/v1",
            "https://name.cognitiveservices.azure.com/openai/v1",
        ] {
            assert_eq!(limit(of_openai, None), ["max_completion_tokens"], "{of_openai}");
        }
        for other in
            ["http://127.0.0.1:8000/v1", "https://notapi.openai.com.example/v1", "https://my-api.openai.com/v1"]
        {
            assert_eq!(limit(other, None), ["max_tokens"], "{other}");
        }
        assert_eq!(limit("http://gateway/v1", Some(OutputLimit::MaxCompletionTokens)), ["max_completion_tokens"]);
        assert_eq!(limit("https://api.openai.com/v1", Some(OutputLimit::MaxTokens)), ["max_tokens"]);
    }
}
