//! The key of a kept answer: a hash of the model and of everything in a request that can change its answer. Pure.

use sha2::{Digest, Sha256};

use crate::llm::{ChatRequest, ModelInfo};

/// Counted up when the form of kept answers changes, so that older ones are not found.
const VERSION: &[u8] = b"1";

/// SHA-256 of the model and the request; its idempotency key has no part in it.
pub(super) fn key(model: &ModelInfo, request: &ChatRequest) -> Vec<u8> {
    let mut hash = Sha256::new();
    // Each part with its length, so that no two requests have the same bytes.
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(VERSION);
    [&model.name, &model.provider, &model.upstream].into_iter().for_each(|name| part(name.as_bytes()));
    part(&request.max_tokens.unwrap_or(model.max_tokens).to_le_bytes());
    part(&request.temperature.map(f64::to_le_bytes).unwrap_or_default());
    part(&[u8::from(request.temperature.is_some())]);
    for message in &request.messages {
        part(message.role.as_str().as_bytes());
        part(message.content.as_bytes());
    }
    hash.finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::{Message, Role};

    fn model() -> ModelInfo {
        ModelInfo {
            name: "m".into(),
            provider: "p".into(),
            upstream: "u".into(),
            kind: crate::config::ModelKind::Chat,
            max_tokens: 100,
            simulated: false,
            priced: true,
        }
    }

    #[test]
    fn only_what_changes_an_answer_changes_the_key() {
        let request = ChatRequest::prompt("hi");
        let same = ChatRequest { idempotency_key: Some("k".into()), max_tokens: Some(100), ..request.clone() };
        assert_eq!(key(&model(), &request), key(&model(), &same));
        let message = |role, content: &str| Message { role, content: content.into() };
        let others = [
            ChatRequest::prompt("hi "),
            ChatRequest { max_tokens: Some(99), ..request.clone() },
            ChatRequest { temperature: Some(0.0), ..request.clone() },
            ChatRequest { temperature: Some(1.0), ..request.clone() },
            ChatRequest { messages: vec![message(Role::Assistant, "hi")], ..request.clone() },
            ChatRequest { messages: vec![message(Role::User, "h"), message(Role::User, "i")], ..request.clone() },
        ];
        let mut keys: Vec<Vec<u8>> = others.iter().map(|other| key(&model(), other)).collect();
        keys.push(key(&model(), &request));
        for change in ["name", "provider", "upstream"] {
            let mut other = model();
            *match change {
                "name" => &mut other.name,
                "provider" => &mut other.provider,
                _ => &mut other.upstream,
            } = "x".into();
            keys.push(key(&other, &request));
        }
        let all = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), all);
    }
}
