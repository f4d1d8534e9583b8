//! OpenAI's chat completions, spoken by many compatible servers: request JSON, and events → draft. Pure.
//!
//! The stream is data-only events; usage comes last, in a chunk without choices, then the literal `[DONE]`. Compatible
//! servers leave out each of these at times, so a finish reason completes an answer as well.

use serde_json::{Map, Value, json};

use super::answer::FinishReason;
use super::classify::ErrorBody;
use super::draft::{Draft, Fault, content_text};
use super::request::ChatRequest;
use super::sse::Event;
use super::text::{excerpt, storable_json, tidy};
use super::usage::Usage;
use crate::config::OutputLimit;

/// Root of OpenAI's own API.
pub(crate) const BASE_URL: &str = "https://api.openai.com/v1";
/// OpenAI's own host. Those of its regions stand below it (`eu.api.openai.com`).
pub(crate) const HOST: &str = "api.openai.com";
/// Below these, Azure serves OpenAI's models.
const AZURE: [&str; 3] = [".openai.azure.com", ".services.ai.azure.com", ".cognitiveservices.azure.com"];

const DONE: &str = "[DONE]";

/// Whether a host is OpenAI's own.
pub(crate) fn is_own_host(host: &str) -> bool {
    host.strip_suffix(HOST).is_some_and(|region| region.is_empty() || region.ends_with('.'))
}

/// What the output limit is called at a host. `max_tokens` is deprecated at OpenAI, whose newer models refuse it, and
/// the only name that all compatible servers know.
pub(crate) fn output_limit(host: &str) -> OutputLimit {
    if is_own_host(host) || AZURE.iter().any(|suffix| host.ends_with(suffix)) {
        OutputLimit::MaxCompletionTokens
    } else {
        OutputLimit::MaxTokens
    }
}

/// The body of a request.
pub(crate) fn body(model: &str, request: &ChatRequest, max_tokens: u32, output_limit: OutputLimit) -> Value {
    let messages: Vec<Value> =
        request.messages.iter().map(|m| json!({"role": m.role.as_str(), "content": m.content})).collect();
    let mut body = Map::new();
    body.insert("model".into(), model.into());
    body.insert("messages".into(), messages.into());
    let limit = match output_limit {
        OutputLimit::MaxTokens => "max_tokens",
        OutputLimit::MaxCompletionTokens => "max_completion_tokens",
    };
    body.insert(limit.into(), max_tokens.into());
    if let Some(temperature) = request.temperature {
        body.insert("temperature".into(), temperature.into());
    }
    body.insert("stream".into(), true.into());
    body.insert("stream_options".into(), json!({"include_usage": true}));
    Value::Object(body)
}

/// Takes one event of the stream.
pub(crate) fn on_event(draft: &mut Draft, event: &Event) -> Result<(), Fault> {
    let data = event.data.trim();
    if data == DONE {
        draft.done = true;
        return Ok(());
    }
    let value = parse(data.as_bytes())?;
    if event.name == "error" {
        return Err(Fault::Reported(ErrorBody::from_json(&value)));
    }
    take(draft, &value, "delta")
}

/// Takes a whole answer in one object, from a server that does not stream.
pub(crate) fn on_body(draft: &mut Draft, body: &[u8]) -> Result<(), Fault> {
    let value = parse(body)?;
    let has_choice = value.get("choices").and_then(|choices| choices.get(0)).is_some_and(Value::is_object);
    if !has_choice {
        return Err(Fault::Malformed(format!("no choices in {}", excerpt(body))));
    }
    draft.done = true;
    take(draft, &value, "message")
}

fn parse(bytes: &[u8]) -> Result<Value, Fault> {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) if value.is_object() => reported(value),
        Ok(Value::Array(list)) if list.first().is_some_and(|first| first.get("error").is_some()) => {
            reported(list.into_iter().next().unwrap_or_default())
        }
        _ => Err(Fault::Malformed(format!("no JSON object: {}", excerpt(bytes)))),
    }
}

fn reported(value: Value) -> Result<Value, Fault> {
    // vLLM marks its errors by `object` and has no inner object.
    let is_error = value.get("error").is_some_and(|error| !error.is_null()) || value["object"] == "error";
    if is_error { Err(Fault::Reported(ErrorBody::from_json(&value))) } else { Ok(value) }
}

fn take(draft: &mut Draft, value: &Value, part: &str) -> Result<(), Fault> {
    draft.identify(value);
    draft.begun |= value.get("choices").is_some_and(Value::is_array);
    if let Some(tier) = value.get("service_tier").filter(|tier| tier.is_string()) {
        draft.service_tier = tier.clone();
    }
    if let Some(raw) = value.get("usage").and_then(Value::as_object) {
        // Kept with the counts, because a cost cannot be calculated without it.
        let mut raw = raw.clone();
        if !draft.service_tier.is_null() {
            raw.entry("service_tier").or_insert_with(|| draft.service_tier.clone());
        }
        let raw = Value::Object(raw);
        draft.usage = Usage::from_openai(&raw).or(draft.usage);
        draft.raw_usage = storable_json(&raw);
    }
    let choices = value.get("choices").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    // One answer is asked for; others would be a server's mistake.
    let first = choices.iter().find(|choice| choice.get("index").and_then(Value::as_u64).unwrap_or(0) == 0);
    let Some(choice) = first else { return Ok(()) };
    let piece = &choice[part];
    draft.push_text(&content_text(&piece["content"]))?;
    draft.push_refusal(piece["refusal"].as_str().unwrap_or_default());
    for reasoning in ["reasoning_content", "reasoning"] {
        draft.hidden_bytes += piece[reasoning].as_str().map_or(0, str::len);
    }
    if let Some(reason) = choice["finish_reason"].as_str() {
        draft.finish_reason = Some(match reason {
            "function_call" => FinishReason::ToolCalls,
            other => FinishReason::from(tidy(other)),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(events: &[&str]) -> Result<Draft, Fault> {
        let mut draft = Draft::default();
        for data in events {
            on_event(&mut draft, &Event { name: String::new(), data: (*data).into() })?;
        }
        Ok(draft)
    }

    #[test]
    fn the_output_limit_has_the_name_that_the_host_knows() {
        let request = ChatRequest { temperature: Some(0.5), ..ChatRequest::prompt("hi") };
        let own = body("gpt-6-luna", &request, 7, OutputLimit::MaxCompletionTokens);
        let expected = json!({
            "model": "gpt-6-luna", "messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 7,
            "temperature": 0.5, "stream": true, "stream_options": {"include_usage": true}
        });
        assert_eq!(own, expected);
        let compatible = body("m", &ChatRequest::prompt("hi"), 7, OutputLimit::MaxTokens);
        assert_eq!(compatible["max_tokens"], 7);
        assert!(compatible.get("max_completion_tokens").is_none() && compatible.get("temperature").is_none());
    }

    #[test]
    fn a_stream_becomes_an_answer() {
        let draft = feed(&[
            r#"{"id":"c1","model":"gpt","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
            r#"{"id":"c1","choices":[{"index":0,"delta":{"reasoning_content":"hmm"}}],"usage":null}"#,
            r#"{"id":"c1","choices":[{"index":0,"delta":{"content":"Hel"}},{"index":1,"delta":{"content":"no"}}]}"#,
            r#"{"id":"c1","choices":[{"index":0,"delta":{"content":[{"type":"text","text":"lo\u0000"}]}}]}"#,
            r#"{"id":"c1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
            r#"{"id":"c1","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}"#,
            "[DONE]",
        ])
        .unwrap();
        assert_eq!(draft.text, "Hello\u{FFFD}");
        assert_eq!((draft.model.as_deref(), draft.id.as_deref()), (Some("gpt"), Some("c1")));
        assert_eq!(draft.finish_reason, Some(FinishReason::Stop));
        assert_eq!(draft.usage_or_estimate(99), (Usage { input_fresh: 5, output: 2, ..Usage::default() }, false));
        assert_eq!((draft.done, draft.hidden_bytes), (true, 3));
    }

    #[test]
    fn one_object_is_an_answer_too() {
        let mut draft = Draft::default();
        let body = br#"{"id":"c","model":"m","choices":[{"message":{"content":"Hi","refusal":null},"finish_reason":"length"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
        on_body(&mut draft, body).unwrap();
        assert_eq!((draft.text.as_str(), draft.finish_reason), ("Hi", Some(FinishReason::Length)));
        for wrong in ["{}", r#"{"choices":[]}"#, r#"{"choices":[7]}"#, "[]", "null", "<html>", ""] {
            let fault = on_body(&mut Draft::default(), wrong.as_bytes());
            assert!(matches!(fault, Err(Fault::Malformed(_))), "{wrong}");
        }
    }

    #[test]
    fn errors_in_a_stream_are_seen_in_every_dialect() {
        for data in [
            r#"{"error":{"message":"m","type":"server_error","code":null}}"#,
            r#"{"object":"error","message":"m","type":"server_error"}"#,
            r#"[{"error":{"message":"m","type":"server_error"}}]"#,
        ] {
            let Err(Fault::Reported(body)) = feed(&[data]) else { panic!("{data}") };
            assert_eq!((body.message.as_str(), body.kind.as_str()), ("m", "server_error"));
        }
        assert!(feed(&[r#"{"error":null,"choices":[]}"#]).is_ok());
        assert!(matches!(feed(&["{\"choices\":"]), Err(Fault::Malformed(_))));
    }

    #[test]
    fn a_refusal_is_kept_apart_from_the_text() {
        let draft = feed(&[r#"{"choices":[{"delta":{"refusal":"I cannot"},"finish_reason":"stop"}]}"#]).unwrap();
        assert_eq!((draft.text.as_str(), draft.refusal.as_str()), ("", "I cannot"));
    }
}
