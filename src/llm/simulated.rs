//! A provider without network: made-up answers, so that a newcomer without a key sees real flow.
//!
//! Every draw comes from a hash of (seed, model, request), and those about the fate of a call also from the number of
//! the call, so that a failed request can succeed later and a test can know in advance what will happen. The hash is
//! SHA-256, not a random number generator, because generators may change their sequences between versions.

use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::answer::FinishReason;
use super::error::ErrorClass;
use super::reply::{Failure, Reply, Spent, millis};
use super::request::ChatRequest;
use super::usage::{Usage, estimate_tokens};
use crate::config::Simulated;

/// Longest simulated answer in tokens.
pub(crate) const OUTPUT_TOKENS_MAX: u32 = 100_000;
/// A throttled call is answered in this share of the latency: refusing is quick.
const THROTTLE_SHARE: f64 = 0.1;
/// The first token comes after this share of the latency.
const FIRST_TOKEN_SHARE: f64 = 0.25;
/// An answer says what it is, where it has room for that.
const OPENING: &str = "This is a simulated answer.";
const WORDS: [&str; 32] = [
    "the", "queue", "holds", "each", "job", "until", "a", "worker", "claims", "it", "and", "every", "result", "is",
    "stored", "once", "so", "that", "nothing", "gets", "lost", "when", "one", "machine", "stops", "while", "others",
    "carry", "on", "with", "their", "work",
];

/// What will happen to one call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) latency: Duration,
    pub(crate) fate: Fate,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fate {
    Answer(String, FinishReason),
    Fail,
    Throttle(Duration),
    Refuse,
}

/// A stream of numbers that depends on what was hashed alone.
struct Draws {
    base: Sha256,
    counter: u64,
}

impl Draws {
    fn next_u64(&mut self) -> u64 {
        let digest = self.base.clone().chain_update(self.counter.to_le_bytes()).finalize();
        self.counter += 1;
        digest.iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
    }

    /// From 0, inclusive, to 1, exclusive.
    fn next_unit(&mut self) -> f64 {
        // 53 bits are what a float holds exactly.
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Decides everything about a call. The idempotency key has no part in it: it names the caller, not the question.
pub(crate) fn plan(spec: &Simulated, model: &str, request: &ChatRequest, max_tokens: u32, attempt: u32) -> Plan {
    let mut base = Sha256::new_with_prefix(spec.seed.to_le_bytes());
    let mut field = |bytes: &[u8]| {
        base.update((bytes.len() as u64).to_le_bytes());
        base.update(bytes);
    };
    field(model.as_bytes());
    for message in &request.messages {
        field(message.role.as_str().as_bytes());
        field(message.content.as_bytes());
    }
    field(&request.temperature.unwrap_or(-1.0).to_le_bytes());
    let mut content = Draws { base: base.clone().chain_update(b"content"), counter: 0 };
    let mut fate = Draws { base: base.chain_update(b"fate").chain_update(attempt.to_le_bytes()), counter: 0 };

    let spread = 1.0 + spec.jitter.clamp(0.0, 1.0) * (2.0 * fate.next_unit() - 1.0);
    let lot = fate.next_unit();
    let (least, most) = (spec.output_tokens.0.max(1), spec.output_tokens.1.clamp(1, OUTPUT_TOKENS_MAX));
    let span = u64::from(most.saturating_sub(least)) + 1;
    let wanted = u64::from(least) + content.next_u64() % span;
    let written = u32::try_from(wanted).unwrap_or(u32::MAX).min(max_tokens);
    let latency = (spec.latency.get() + spec.latency_per_token.get() * written).mul_f64(spread);
    if lot < spec.throttle_rate {
        return Plan { latency: latency.mul_f64(THROTTLE_SHARE), fate: Fate::Throttle(spec.retry_after.get()) };
    }
    if lot < spec.throttle_rate + spec.failure_rate {
        return Plan { latency, fate: Fate::Fail };
    }
    if lot < spec.throttle_rate + spec.failure_rate + spec.refusal_rate {
        return Plan { latency, fate: Fate::Refuse };
    }
    if let Some(answer) = scripted(spec, request) {
        return Plan { latency, fate: cut(answer.to_owned(), max_tokens) };
    }
    let text = text(&mut content, wanted);
    Plan { latency, fate: cut(text, max_tokens) }
}

/// The answer that is written for this kind of request.
fn scripted<'a>(spec: &'a Simulated, request: &ChatRequest) -> Option<&'a str> {
    let fits = |when: &str| request.messages.iter().any(|message| message.content.contains(when));
    spec.answers.values().find(|answer| fits(&answer.when)).map(|answer| answer.text.as_str())
}

/// As much of the answer as the limit allows, at four bytes a token.
fn cut(text: String, max_tokens: u32) -> Fate {
    let bytes = usize::try_from(max_tokens).unwrap_or(usize::MAX).saturating_mul(4);
    if text.len() <= bytes {
        return Fate::Answer(text, FinishReason::Stop);
    }
    let end = text.floor_char_boundary(bytes);
    Fate::Answer(text[..end].to_owned(), FinishReason::Length)
}

/// ASCII sentences of exactly so many tokens at four bytes a token.
fn text(draws: &mut Draws, tokens: u64) -> String {
    let bytes = usize::try_from(tokens).unwrap_or(usize::MAX).saturating_mul(4);
    let mut text = String::with_capacity(bytes + 16);
    if OPENING.len() < bytes {
        text.push_str(OPENING);
    }
    while text.len() < bytes {
        let length = 5 + draws.next_u64() % 8;
        let mut number = draws.next_u64();
        for position in 0..length {
            let word = WORDS[usize::try_from(number % WORDS.len() as u64).unwrap_or(0)];
            number = number.rotate_right(5);
            let (first, rest) = word.split_at(1);
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(&if position == 0 { first.to_uppercase() } else { first.to_owned() });
            text.push_str(rest);
        }
        text.push('.');
    }
    text.truncate(bytes - 1);
    // Words are separated by single blanks, so at most one byte is lost and the count of tokens stays.
    text.truncate(text.trim_end().len());
    text.push('.');
    text
}

/// Waits out the latency and gives what was planned.
///
/// Cancel safety: nothing happens but the waiting.
pub(crate) async fn call(
    spec: &Simulated,
    model: &str,
    request: &ChatRequest,
    max_tokens: u32,
    attempt: u32,
) -> Result<Reply, Failure> {
    let Plan { latency, fate } = plan(spec, model, request, max_tokens, attempt);
    tokio::time::sleep(latency).await;
    match fate {
        Fate::Throttle(retry_after) => Err(Failure {
            status: Some(429),
            provider_code: Some("rate_limit_error".to_owned()),
            retry_after: Some(retry_after),
            ..Failure::new(ErrorClass::Throttled, "status 429: simulated rate limit")
        }),
        Fate::Fail => Err(Failure {
            status: Some(500),
            provider_code: Some("api_error".to_owned()),
            ..Failure::new(ErrorClass::Transient, "status 500: simulated failure")
        }),
        Fate::Refuse => Err(Failure {
            provider_code: Some("refusal".to_owned()),
            spent: Some(Box::new(Spent {
                usage: Usage { input_fresh: estimate_tokens(request.message_bytes()), ..Usage::default() },
                estimated: false,
                text_bytes: 0,
                time_to_first_token_ms: None,
            })),
            ..Failure::new(ErrorClass::Refused, "simulated refusal")
        }),
        Fate::Answer(text, finish_reason) => {
            let usage = Usage {
                input_fresh: estimate_tokens(request.message_bytes()),
                output: estimate_tokens(text.len()),
                ..Usage::default()
            };
            Ok(Reply {
                text,
                finish_reason,
                usage,
                usage_estimated: false,
                raw_usage: json!({"simulated": true, "input_tokens": usage.input_fresh, "output_tokens": usage.output}),
                model_reported: Some(model.to_owned()),
                request_id: None,
                time_to_first_token_ms: millis(latency.mul_f64(FIRST_TOKEN_SHARE)),
                duration_ms: millis(latency),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Period, SimulatedAnswer};

    fn spec() -> Simulated {
        Simulated {
            failure_rate: 0.2,
            throttle_rate: 0.1,
            refusal_rate: 0.05,
            output_tokens: (5, 60),
            ..Simulated::default()
        }
    }

    fn plan_of(number: u32, attempt: u32) -> Plan {
        plan(&spec(), "m", &ChatRequest::prompt(format!("question {number}")), 1_024, attempt)
    }

    /// The literal values are the contract: answers that a user has seen once come again in every version.
    #[test]
    fn the_same_call_meets_the_same_fate_in_every_build() {
        let spec = Simulated { output_tokens: (8, 24), ..Simulated::default() };
        let plan = plan(&spec, "m", &ChatRequest::prompt("question"), 1_024, 1);
        let text = "This is a simulated answer. Nothing work stops others with it on others.";
        assert_eq!(plan.latency.as_micros(), 240_239);
        assert_eq!(plan.fate, Fate::Answer(text.into(), FinishReason::Stop));
    }

    #[test]
    fn rates_and_lengths_are_as_configured() {
        let (mut failed, mut throttled, mut refused) = (0, 0, 0);
        for number in 0..2_000 {
            match plan_of(number, 1).fate {
                Fate::Fail => failed += 1,
                Fate::Refuse => refused += 1,
                Fate::Throttle(wait) => {
                    assert_eq!(wait, Period::from_secs(1).get());
                    throttled += 1;
                }
                Fate::Answer(text, _) => {
                    assert!(text.is_ascii() && text.ends_with('.'));
                    assert!((5..=60).contains(&estimate_tokens(text.len())), "{text}");
                }
            }
        }
        assert!((50..150).contains(&refused), "{refused} of 2,000 were refused at 5 %");
        assert!((300..500).contains(&failed), "{failed} of 2,000 failed at 20 %");
        assert!((140..260).contains(&throttled), "{throttled} of 2,000 were throttled at 10 %");
    }

    #[test]
    fn another_attempt_draws_another_fate_and_the_same_text() {
        let unlucky = (0..100).find(|number| plan_of(*number, 1).fate == Fate::Fail).unwrap();
        assert!((2..20).any(|attempt| matches!(plan_of(unlucky, attempt).fate, Fate::Answer(..))));
        let texts: std::collections::BTreeSet<String> = (0..50)
            .filter_map(|attempt| match plan_of(1, attempt).fate {
                Fate::Answer(text, _) => Some(text),
                _ => None,
            })
            .collect();
        assert_eq!(texts.len(), 1);
    }

    #[test]
    fn seed_model_and_request_all_matter_and_the_idempotency_key_does_not() {
        let request = ChatRequest::prompt("x");
        let first = plan(&spec(), "m", &request, 1_024, 1);
        assert_ne!(plan(&Simulated { seed: 2, ..spec() }, "m", &request, 1_024, 1), first);
        assert_ne!(plan(&spec(), "n", &request, 1_024, 1), first);
        assert_ne!(plan(&spec(), "m", &ChatRequest::prompt("y"), 1_024, 1), first);
        let keyed = ChatRequest { idempotency_key: Some("k".into()), ..request };
        assert_eq!(plan(&spec(), "m", &keyed, 1_024, 1), first);
    }

    #[test]
    fn the_output_limit_cuts() {
        let spec = Simulated { output_tokens: (50, 50), ..Simulated::default() };
        let Fate::Answer(text, reason) = plan(&spec, "m", &ChatRequest::prompt("x"), 3, 1).fate else { panic!() };
        assert_eq!((text.len(), reason), (12, FinishReason::Length));
        for tokens in 1..200 {
            let exact = Simulated { output_tokens: (tokens, tokens), ..Simulated::default() };
            let Fate::Answer(text, _) = plan(&exact, "m", &ChatRequest::prompt("x"), 1_024, 1).fate else { panic!() };
            assert_eq!(estimate_tokens(text.len()), u64::from(tokens), "{text}");
        }
    }

    #[test]
    fn a_request_of_a_known_kind_gets_the_answer_that_is_written_for_it() {
        let answer = |when: &str, text: &str| SimulatedAnswer { when: when.into(), text: text.into() };
        let answers = [
            ("a".to_owned(), answer("classify", "{\"capability\": \"code\"}")),
            ("b".to_owned(), answer("Grüße", "Grüße zurück")),
            ("c".to_owned(), answer("", "anything")),
        ];
        let mut spec = Simulated { answers: answers.into(), ..Simulated::default() };
        let fate = |spec: &Simulated, prompt: &str, max| plan(spec, "m", &ChatRequest::prompt(prompt), max, 1).fate;
        let stopped = |text: &str| Fate::Answer(text.into(), FinishReason::Stop);
        assert_eq!(fate(&spec, "please classify Grüße", 99), stopped("{\"capability\": \"code\"}"), "first by name");
        assert_eq!(fate(&spec, "Grüße!", 99), stopped("Grüße zurück"));
        assert_eq!(fate(&spec, "Grüße!", 1), Fate::Answer("Grü".into(), FinishReason::Length), "at a character's end");
        assert_eq!(fate(&spec, "else", 99), stopped("anything"));
        spec.answers.clear();
        let Fate::Answer(text, _) = fate(&spec, "classify", 99) else { panic!() };
        assert!(text.starts_with(OPENING));
        // Failures are drawn as for every request.
        spec.failure_rate = 1.0;
        spec.answers.insert("c".into(), answer("", "anything"));
        assert_eq!(fate(&spec, "else", 99), Fate::Fail);
    }

    #[tokio::test(start_paused = true)]
    async fn the_latency_is_waited_out() {
        let before = tokio::time::Instant::now();
        let per_token = Period::from_millis(100);
        let output_tokens = (10, 10);
        let spec = Simulated {
            latency: Period::from_secs(2),
            latency_per_token: per_token,
            jitter: 0.0,
            output_tokens,
            ..Simulated::default()
        };
        let reply = call(&spec, "m", &ChatRequest::prompt("x"), 1_024, 1).await.unwrap();
        assert_eq!(before.elapsed(), Duration::from_secs(3));
        assert_eq!((reply.duration_ms, reply.time_to_first_token_ms), (3_000, 750));
    }
}
