//! Anthropic's messages: request JSON, and events → draft. Pure.
//!
//! System messages travel outside the conversation, `max_tokens` is required, and the usage of `message_delta` is
//! cumulative: it replaces what `message_start` said. An error event may follow a status of 200.

use serde_json::{Map, Value, json};

use super::answer::FinishReason;
use super::classify::ErrorBody;
use super::draft::{Draft, Fault};
use super::request::{ChatRequest, Role};
use super::sse::Event;
use super::text::{excerpt, storable_json, tidy};
use super::usage::Usage;

/// Root of Anthropic's own API.
pub(crate) const BASE_URL: &str = "https://api.anthropic.com";
/// Anthropic's own host.
pub(crate) const HOST: &str = "api.anthropic.com";
/// Value of the required header `anthropic-version`; newer behaviour is asked for by other headers.
pub(crate) const VERSION: &str = "2023-06-01";

/// The body of a request.
pub(crate) fn body(model: &str, request: &ChatRequest, max_tokens: u32) -> Value {
    let of = |system: bool| request.messages.iter().filter(move |m| (m.role == Role::System) == system);
    let messages: Vec<Value> = of(false).map(|m| json!({"role": m.role.as_str(), "content": m.content})).collect();
    let system: Vec<&str> = of(true).map(|m| m.content.as_str()).collect();
    let mut body = Map::new();
    body.insert("model".into(), model.into());
    body.insert("max_tokens".into(), max_tokens.into());
    body.insert("messages".into(), messages.into());
    if !system.is_empty() {
        body.insert("system".into(), system.join("\n\n").into());
    }
    if let Some(temperature) = request.temperature {
        body.insert("temperature".into(), temperature.into());
    }
    body.insert("stream".into(), true.into());
    Value::Object(body)
}

/// Takes one event of the stream.
pub(crate) fn on_event(draft: &mut Draft, event: &Event) -> Result<(), Fault> {
    let value = parse(event.data.as_bytes())?;
    // The data repeats the event's name, and proxies that drop the `event:` line exist.
    match value["type"].as_str().unwrap_or(&event.name) {
        "message_start" => {
            let message = &value["message"];
            draft.identify(message);
            draft.begun = true;
            merge_usage(draft, &message["usage"]);
        }
        "content_block_start" => {
            draft.begun = true;
            draft.push_text(value["content_block"]["text"].as_str().unwrap_or_default())?;
        }
        "content_block_delta" => {
            draft.begun = true;
            let delta = &value["delta"];
            draft.push_text(delta["text"].as_str().unwrap_or_default())?;
            for hidden in ["thinking", "partial_json"] {
                draft.hidden_bytes += delta[hidden].as_str().map_or(0, str::len);
            }
        }
        "message_delta" => {
            draft.begun = true;
            merge_usage(draft, &value["usage"]);
            draft.finish_reason = finish_reason(&value["delta"]["stop_reason"]).or(draft.finish_reason.take());
        }
        "message_stop" => draft.done = true,
        // ping, content_block_stop, and whatever comes in later versions.
        _ => {}
    }
    Ok(())
}

/// Takes a whole answer in one object, from a server that does not stream.
pub(crate) fn on_body(draft: &mut Draft, body: &[u8]) -> Result<(), Fault> {
    let value = parse(body)?;
    let Some(blocks) = value["content"].as_array() else {
        return Err(Fault::Malformed(format!("no content in {}", excerpt(body))));
    };
    draft.identify(&value);
    draft.begun = true;
    for block in blocks {
        draft.push_text(block["text"].as_str().unwrap_or_default())?;
    }
    merge_usage(draft, &value["usage"]);
    draft.finish_reason = finish_reason(&value["stop_reason"]);
    draft.done = true;
    Ok(())
}

fn parse(bytes: &[u8]) -> Result<Value, Fault> {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) if value["type"] == "error" => Err(Fault::Reported(ErrorBody::from_json(&value))),
        Ok(value) if value.is_object() => Ok(value),
        _ => Err(Fault::Malformed(format!("no JSON object: {}", excerpt(bytes)))),
    }
}

fn merge_usage(draft: &mut Draft, report: &Value) {
    let Some(report) = report.as_object() else { return };
    let mut merged = draft.raw_usage.as_object().cloned().unwrap_or_default();
    merged.extend(report.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.clone(), value.clone())));
    let merged = Value::Object(merged);
    draft.usage = Usage::from_anthropic(&merged).or(draft.usage);
    draft.raw_usage = storable_json(&merged);
}

fn finish_reason(value: &Value) -> Option<FinishReason> {
    Some(match value.as_str()? {
        "end_turn" | "stop_sequence" => FinishReason::Stop,
        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
        "tool_use" => FinishReason::ToolCalls,
        "refusal" => FinishReason::ContentFilter,
        other => FinishReason::Other(tidy(other)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::request::Message;

    fn feed(events: &[&str]) -> Result<Draft, Fault> {
        let mut draft = Draft::default();
        for data in events {
            on_event(&mut draft, &Event { name: String::new(), data: (*data).into() })?;
        }
        Ok(draft)
    }

    #[test]
    fn system_messages_travel_outside_the_conversation() {
        let message = |role, content: &str| Message { role, content: content.into() };
        let mut request = ChatRequest::prompt("hi");
        request.messages.insert(0, message(Role::System, "be brief"));
        request.messages.push(message(Role::System, "be kind"));
        let expected = json!({
            "model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}],
            "system": "be brief\n\nbe kind", "stream": true
        });
        assert_eq!(body("claude", &request, 9), expected);
    }

    #[test]
    fn a_stream_becomes_an_answer_and_the_last_usage_counts() {
        let draft = feed(&[
            r#"{"type":"message_start","message":{"id":"msg_1","model":"claude-x","usage":{"input_tokens":10,"cache_read_input_tokens":5,"output_tokens":1}}}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"ping"}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hmm"}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Hello"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":12,"cache_read_input_tokens":null}}"#,
            r#"{"type":"message_stop"}"#,
        ])
        .unwrap();
        assert_eq!((draft.text.as_str(), draft.hidden_bytes, draft.done), ("Hello", 3, true));
        assert_eq!((draft.model.as_deref(), draft.id.as_deref()), (Some("claude-x"), Some("msg_1")));
        let usage = Usage { input_fresh: 10, input_cache_read: 5, output: 12, ..Usage::default() };
        assert_eq!(draft.usage_or_estimate(0), (usage, false));
        assert_eq!(draft.raw_usage["cache_read_input_tokens"], 5);
    }

    #[test]
    fn a_broken_stream_keeps_the_input_and_guesses_the_output() {
        let draft = feed(&[
            r#"{"type":"message_start","message":{"usage":{"input_tokens":10,"output_tokens":1}}}"#,
            r#"{"type":"content_block_delta","delta":{"text":"12345678901234567"}}"#,
        ])
        .unwrap();
        assert_eq!(draft.usage_or_estimate(0), (Usage { input_fresh: 10, output: 5, ..Usage::default() }, true));
        assert!(!draft.is_complete());
    }

    #[test]
    fn stop_reasons_have_one_vocabulary() {
        let reason = |text: &str| finish_reason(&json!(text)).unwrap();
        assert_eq!(reason("stop_sequence"), FinishReason::Stop);
        assert_eq!(reason("model_context_window_exceeded"), FinishReason::Length);
        assert_eq!(reason("refusal"), FinishReason::ContentFilter);
        assert_eq!(reason("pause_turn"), FinishReason::Other("pause_turn".into()));
    }

    #[test]
    fn errors_and_nonsense_are_told_apart() {
        let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        let Err(Fault::Reported(body)) = feed(&[error]) else { panic!() };
        assert_eq!(body.word(), Some("overloaded_error"));
        assert!(matches!(feed(&["{"]), Err(Fault::Malformed(_))));
        assert!(feed(&[r#"{"type":"content_block_delta"}"#, "{}"]).is_ok());
        assert!(matches!(on_body(&mut Draft::default(), b"{}"), Err(Fault::Malformed(_))));
        let mut draft = Draft::default();
        on_body(
            &mut draft,
            br#"{"type":"message","content":[{"type":"text","text":"a"},{"text":"b"}],"stop_reason":"max_tokens"}"#,
        )
        .unwrap();
        assert_eq!((draft.text.as_str(), draft.finish_reason), ("ab", Some(FinishReason::Length)));
    }
}
