//! Bytes of a body with status 200 → reply or failure, for either format and for servers that ignore `stream: true`.
//! Pure: the time since the request is an argument.

use std::time::Duration;

use super::answer::FinishReason;
use super::classify::{Hints, classify};
use super::draft::{Draft, Fault, TEXT_BYTES_MAX};
use super::error::ErrorClass;
use super::reply::{Failure, Reply, Spent, millis};
use super::sse::{Decoder, EVENT_BYTES_MAX};
use super::text::excerpt;
use super::{anthropic, openai};

/// Largest body that is read in all. A stream of 128,000 tokens at 400 bytes an event is about 50 MB; none of it is
/// kept but the text.
pub(crate) const BODY_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Largest answer in one JSON object.
const JSON_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Finish reasons that say that the answer broke off: OpenRouter's and vLLM's `error`, vLLM's and SGLang's `abort`,
/// watsonx's `cancelled`, DeepSeek's for a server that ran out of capacity.
const BROKE_OFF: [&str; 4] = ["error", "abort", "cancelled", "insufficient_system_resource"];
/// Bytes kept from the beginning of a body, to show when nothing in it could be understood.
const HEAD_BYTES: usize = 256;

/// The format that a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Openai,
    Anthropic,
}

impl Wire {
    const fn name(self) -> &'static str {
        match self {
            Self::Openai => "OpenAI's",
            Self::Anthropic => "Anthropic's",
        }
    }
}

#[derive(Debug)]
enum Body {
    Undecided,
    Events(Decoder),
    Json(Vec<u8>),
}

/// Reads one answer.
#[derive(Debug)]
pub(crate) struct Reader {
    wire: Wire,
    /// Bytes of the request's messages, to guess the input from.
    input_bytes: usize,
    request_id: Option<String>,
    body: Body,
    draft: Draft,
    head: Vec<u8>,
    bytes: usize,
    first_output: Option<Duration>,
}

impl Reader {
    /// `is_event_stream` is what the content type says; otherwise the first visible byte decides.
    pub(crate) fn new(wire: Wire, input_bytes: usize, is_event_stream: bool, request_id: Option<String>) -> Self {
        let body = if is_event_stream { Body::Events(Decoder::default()) } else { Body::Undecided };
        Self {
            wire,
            input_bytes,
            request_id,
            body,
            draft: Draft::default(),
            head: Vec::new(),
            bytes: 0,
            first_output: None,
        }
    }

    /// Bytes have come.
    pub(crate) const fn has_begun(&self) -> bool {
        self.bytes > 0
    }

    /// The end mark has come; what follows is of no interest.
    pub(crate) const fn is_done(&self) -> bool {
        self.draft.done
    }

    /// Takes the next piece, which came `elapsed` after the request.
    ///
    /// # Errors
    /// What makes the answer unusable, with what it has cost so far.
    pub(crate) fn push(&mut self, piece: &[u8], elapsed: Duration) -> Result<(), Failure> {
        self.bytes += piece.len();
        if self.bytes > BODY_BYTES_MAX {
            return Err(self.too_large("body", BODY_BYTES_MAX));
        }
        let room = HEAD_BYTES.saturating_sub(self.head.len()).min(piece.len());
        self.head.extend_from_slice(&piece[..room]);
        if matches!(self.body, Body::Undecided)
            && let Some(first) = piece.iter().find(|byte| !byte.is_ascii_whitespace())
        {
            let is_json = matches!(first, b'{' | b'[');
            self.body = if is_json { Body::Json(Vec::new()) } else { Body::Events(Decoder::default()) };
        }
        let outcome = match &mut self.body {
            Body::Undecided => Ok(()),
            Body::Json(buffer) if buffer.len() + piece.len() > JSON_BYTES_MAX => {
                return Err(self.too_large("JSON body", JSON_BYTES_MAX));
            }
            Body::Json(buffer) => {
                buffer.extend_from_slice(piece);
                Ok(())
            }
            Body::Events(decoder) => {
                let mut events = Vec::new();
                let whole = decoder.push(piece, &mut events);
                let taken = events.iter().try_for_each(|event| on_event(self.wire, &mut self.draft, event));
                if taken.is_ok() && whole.is_err() {
                    return Err(self.too_large("event", EVENT_BYTES_MAX));
                }
                taken
            }
        };
        if self.first_output.is_none() && self.draft.has_output() {
            self.first_output = Some(elapsed);
        }
        outcome.map_err(|fault| self.fault(fault))
    }

    /// The body is over, or its connection broke (`broken` says how) `elapsed` after the request.
    ///
    /// # Errors
    /// The answer is incomplete, malformed or a refusal.
    pub(crate) fn finish(mut self, elapsed: Duration, broken: Option<String>) -> Result<Reply, Failure> {
        match std::mem::replace(&mut self.body, Body::Undecided) {
            Body::Json(buffer) if broken.is_none() => {
                let taken = match self.wire {
                    Wire::Openai => openai::on_body(&mut self.draft, &buffer),
                    Wire::Anthropic => anthropic::on_body(&mut self.draft, &buffer),
                };
                taken.map_err(|fault| self.fault(fault))?;
            }
            Body::Events(decoder) => {
                // Half an event at the end is a broken stream and reported as such below.
                if let Some(event) = decoder.finish()
                    && let Err(Fault::Reported(body)) = on_event(self.wire, &mut self.draft, &event)
                {
                    return Err(self.fault(Fault::Reported(body)));
                }
            }
            _ => {}
        }
        if !self.draft.is_complete() {
            return Err(self.incomplete(broken));
        }
        let first_output = self.first_output.unwrap_or(elapsed);
        let declined = self.draft.text.is_empty() && !self.draft.refusal.is_empty();
        if declined || self.draft.finish_reason == Some(FinishReason::ContentFilter) {
            return Err(self.refused());
        }
        let finish_reason =
            self.draft.finish_reason.clone().unwrap_or_else(|| FinishReason::Other("unknown".to_owned()));
        match &finish_reason {
            FinishReason::Other(word) if BROKE_OFF.contains(&&**word) => return Err(self.broke_off(word)),
            FinishReason::ToolCalls => {}
            _ if self.draft.text.trim().is_empty() => return Err(self.empty(finish_reason)),
            _ => {}
        }
        let (usage, usage_estimated) = self.draft.usage_or_estimate(self.input_bytes);
        Ok(Reply {
            text: self.draft.text,
            finish_reason,
            usage,
            usage_estimated,
            raw_usage: self.draft.raw_usage,
            model_reported: self.draft.model,
            request_id: self.request_id.or(self.draft.id),
            time_to_first_token_ms: millis(first_output),
            duration_ms: millis(elapsed),
        })
    }

    fn failure(&self, class: ErrorClass, message: String) -> Failure {
        let (usage, estimated) = self.draft.usage_or_estimate(self.input_bytes);
        let spent = (self.draft.begun || self.draft.is_complete()).then(|| {
            Box::new(Spent {
                usage,
                estimated,
                text_bytes: self.draft.text.len(),
                time_to_first_token_ms: self.first_output.map(millis),
            })
        });
        Failure { status: Some(200), spent, ..Failure::new(class, message) }
    }

    fn fault(&self, fault: Fault) -> Failure {
        match fault {
            Fault::TooLarge => self.too_large("text", TEXT_BYTES_MAX),
            Fault::Malformed(what) => {
                let message = format!("the answer is not in {} format: {what}", self.wire.name());
                self.failure(ErrorClass::Transient, message)
            }
            Fault::Reported(body) => {
                let class = classify(None, &Hints::default(), &body);
                let word = body.word().unwrap_or("error").to_owned();
                let message = format!("{word} in the answer: {}", body.message);
                Failure { provider_code: Some(word), retry_after: body.retry_delay, ..self.failure(class, message) }
            }
        }
    }

    fn too_large(&self, what: &str, bytes_max: usize) -> Failure {
        self.failure(ErrorClass::Permanent, format!("the {what} of the answer is larger than {bytes_max} bytes"))
    }

    fn refused(&self) -> Failure {
        let message = match excerpt(self.draft.refusal.as_bytes()) {
            words if words.is_empty() => "the model or its content filter declined".to_owned(),
            words => format!("the model declined: {words}"),
        };
        Failure { provider_code: Some("refusal".to_owned()), ..self.failure(ErrorClass::Refused, message) }
    }

    fn broke_off(&self, word: &str) -> Failure {
        let message = format!("the provider broke the answer off: finish reason {word:?}, after {} bytes", self.bytes);
        Failure { provider_code: Some(word.to_owned()), ..self.failure(ErrorClass::Transient, message) }
    }

    fn empty(&self, finish_reason: FinishReason) -> Failure {
        let used_up =
            if finish_reason == FinishReason::Length { ", all of the output limit was used up before it" } else { "" };
        let word = String::from(finish_reason);
        let message = format!("there is no text in the answer{used_up}: finish reason {word:?}");
        Failure { provider_code: Some(word), ..self.failure(ErrorClass::Empty, message) }
    }

    fn incomplete(&self, broken: Option<String>) -> Failure {
        let lost = broken.is_some() && !self.has_begun();
        let message = match broken {
            Some(how) if self.has_begun() => format!("the answer broke off after {} bytes: {how}", self.bytes),
            Some(how) => format!("no byte of an answer came: {how}"),
            None if !self.has_begun() => "the body is empty".to_owned(),
            None if self.draft.begun => {
                format!("the stream ended before the answer was complete, after {} bytes", self.bytes)
            }
            None => format!("the answer is not in {} format: {}", self.wire.name(), excerpt(&self.head)),
        };
        // An empty body is an answer, if a bad one; a connection that was lost before it is none.
        Failure { lost, ..self.failure(ErrorClass::Transient, message) }
    }
}

fn on_event(wire: Wire, draft: &mut Draft, event: &super::sse::Event) -> Result<(), Fault> {
    // Servers may send more after the end mark; it belongs to nobody.
    if draft.done {
        return Ok(());
    }
    match wire {
        Wire::Openai => openai::on_event(draft, event),
        Wire::Anthropic => anthropic::on_event(draft, event),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &str = concat!(
        "data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"lo\"},\"finish_reason\":\"stop\"}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\n\n",
        "data: [DONE]\n\n",
    );

    fn read(wire: Wire, pieces: &[&[u8]], broken: Option<&str>) -> Result<Reply, Failure> {
        let mut reader = Reader::new(wire, 40, false, None);
        for (index, piece) in (1..).zip(pieces) {
            reader.push(piece, Duration::from_millis(index * 10))?;
        }
        reader.finish(Duration::from_secs(1), broken.map(str::to_owned))
    }

    #[test]
    fn the_first_output_and_the_end_are_timed() {
        let (first, rest) = STREAM.split_at(20);
        let reply = read(Wire::Openai, &[first.as_bytes(), rest.as_bytes()], None).unwrap();
        assert_eq!((reply.text.as_str(), reply.time_to_first_token_ms, reply.duration_ms), ("Hello", 20, 1_000));
        assert_eq!((reply.usage.total(), reply.usage_estimated), (7, false));
    }

    #[test]
    fn a_text_that_is_whole_counts_although_its_usage_was_lost() {
        let cut = STREAM.find("data: {\"choices\":[],").unwrap();
        let reply = read(Wire::Openai, &[&STREAM.as_bytes()[..cut]], Some("reset")).unwrap();
        assert_eq!((reply.text.as_str(), reply.usage_estimated), ("Hello", true));
        assert_eq!((reply.usage.input_fresh, reply.usage.output), (10, 2));
    }

    #[test]
    fn a_stream_that_broke_off_tells_what_it_cost() {
        let cut = STREAM.find("lo\\\"").unwrap_or(60);
        for broken in [None, Some("reset")] {
            let failure = read(Wire::Openai, &[&STREAM.as_bytes()[..cut]], broken).unwrap_err();
            assert_eq!(failure.class, ErrorClass::Transient);
            let spent = failure.spent.unwrap();
            assert_eq!((spent.text_bytes, spent.estimated, spent.usage.input_fresh), (3, true, 10));
            assert!(!failure.lost);
        }
    }

    #[test]
    fn what_is_no_answer_costs_nothing() {
        let bodies: [&[u8]; 7] =
            [b"", b" \n", b"<html>oops</html>", b"{\"a\":", b"{}", b": ping\n\n", b"data: nonsense\n\n"];
        for wire in [Wire::Openai, Wire::Anthropic] {
            for body in bodies {
                let failure = read(wire, &[body], None).unwrap_err();
                assert_eq!(failure.class, ErrorClass::Transient, "{}", failure.message);
                assert!(failure.spent.is_none(), "{}", failure.message);
            }
        }
    }

    #[test]
    fn a_declined_request_is_refused_with_its_cost() {
        let body = br#"{"content":[],"stop_reason":"refusal","usage":{"input_tokens":8,"output_tokens":1}}"#;
        let failure = read(Wire::Anthropic, &[body], None).unwrap_err();
        assert_eq!(failure.class, ErrorClass::Refused);
        let spent = failure.spent.unwrap();
        assert_eq!((spent.usage.total(), spent.estimated), (9, false));
        let body = br#"{"choices":[{"message":{"refusal":"I can't help."},"finish_reason":"stop"}]}"#;
        assert_eq!(read(Wire::Openai, &[body], None).unwrap_err().message, "the model declined: I can't help.");
    }

    #[test]
    fn an_answer_without_text_is_a_failure_with_its_cost() {
        let of = |text: &str, finish: &str| {
            let usage = r#""usage":{"prompt_tokens":8,"completion_tokens":1024}"#;
            format!(r#"{{"choices":[{{"message":{{"content":"{text}"}},"finish_reason":"{finish}"}}],{usage}}}"#)
        };
        for (text, finish) in [("", "length"), (" \\n", "stop"), ("", "eos")] {
            let failure = read(Wire::Openai, &[of(text, finish).as_bytes()], None).unwrap_err();
            assert_eq!((failure.class, failure.provider_code.as_deref()), (ErrorClass::Empty, Some(finish)));
            assert_eq!(failure.spent.unwrap().usage.total(), 1_032);
        }
        let body = br#"{"content":[],"stop_reason":"max_tokens","usage":{"input_tokens":8,"output_tokens":9}}"#;
        let failure = read(Wire::Anthropic, &[body], None).unwrap_err();
        assert_eq!((failure.class, failure.spent.unwrap().usage.total()), (ErrorClass::Empty, 17));
        assert_eq!(
            failure.message,
            r#"there is no text in the answer, all of the output limit was used up before it: finish reason "length""#
        );
        // A proxy that says nothing but that it is done was asked nevertheless.
        let failure = read(Wire::Openai, &[b"data: [DONE]\n\n"], None).unwrap_err();
        assert_eq!((failure.class, failure.spent.unwrap().usage.input_fresh), (ErrorClass::Empty, 10));
        // Who wants a tool says nothing, and servers that give no reason or one of their own answer all the same.
        for (text, finish) in [("", "tool_calls"), ("x", "eos")] {
            assert_eq!(read(Wire::Openai, &[of(text, finish).as_bytes()], None).unwrap().text, text);
        }
        let bare = b"data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\ndata: [DONE]\n\n";
        assert_eq!(read(Wire::Openai, &[bare], None).unwrap().finish_reason, FinishReason::Other("unknown".into()));
    }

    #[test]
    fn an_answer_whose_provider_gave_up_is_no_answer() {
        for word in BROKE_OFF {
            let event = format!(
                "data: {{\"choices\":[{{\"delta\":{{\"content\":\"ha\"}},\"finish_reason\":\"{word}\"}}]}}\n\n"
            );
            let failure = read(Wire::Openai, &[event.as_bytes(), b"data: [DONE]\n\n"], None).unwrap_err();
            assert_eq!((failure.class, failure.provider_code.as_deref()), (ErrorClass::Transient, Some(word)));
            assert_eq!(failure.spent.unwrap().text_bytes, 2);
        }
    }

    #[test]
    fn an_error_after_the_status_has_its_class() {
        let event = b"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
        let failure = read(Wire::Anthropic, &[event], None).unwrap_err();
        assert_eq!(
            (failure.class, failure.provider_code.as_deref()),
            (ErrorClass::Overloaded, Some("overloaded_error"))
        );
        assert!(failure.spent.is_none());
    }

    #[test]
    fn limits_hold() {
        let text = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n", "x".repeat(1_000_000));
        let pieces = vec![text.as_bytes(); 5];
        let failure = read(Wire::Openai, &pieces, None).unwrap_err();
        assert_eq!(failure.class, ErrorClass::Permanent);
        assert!(failure.message.starts_with("the text of the answer is larger than"), "{}", failure.message);
        let endless = vec![b'x'; EVENT_BYTES_MAX + 1];
        assert!(read(Wire::Openai, &[&endless], None).unwrap_err().message.contains("event"));
        let json = [b"{".as_slice(), &vec![b' '; JSON_BYTES_MAX]].concat();
        assert!(read(Wire::Openai, &[&json], None).unwrap_err().message.contains("JSON body"));
    }

    proptest! {
        #[test]
        fn the_cuts_do_not_matter(cut in 0..STREAM.len()) {
            let (first, rest) = STREAM.as_bytes().split_at(cut);
            let reply = read(Wire::Openai, &[first, rest], None).unwrap();
            prop_assert_eq!((reply.text.as_str(), reply.usage.total()), ("Hello", 7));
        }

        #[test]
        fn garbage_never_panics(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..8)) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            for wire in [Wire::Openai, Wire::Anthropic] {
                drop(read(wire, &pieces, None));
            }
        }
    }
}
