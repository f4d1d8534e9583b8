//! What an `embedding` job asks for.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::Coded;
use crate::llm::estimate_tokens;

/// Texts of one job. Larger sets are several jobs, which run beside each other and fail one by one.
pub const TEXTS_MAX: usize = 1_000;
/// Estimated tokens of one text; what OpenAI's and Gemini's models take.
pub const TEXT_TOKENS_MAX: u64 = 8_191;
/// Bytes of all texts of one job.
pub const TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest name of a collection and longest key, in characters; their columns hold no more.
pub const KEY_CHARS_MAX: usize = 255;
/// Where vectors go whose request names no collection.
pub const COLLECTION_DEFAULT: &str = "default";
/// Digits of the hash that is the key of a text without one.
const HASH_DIGITS: usize = 32;

/// A text and the key that its vector is stored under.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// Unique within the request. Without one it is a hash of the text, so that a text is stored once.
    #[serde(default)]
    pub key: String,
    /// What is embedded.
    pub text: String,
}

/// One request, complete: every text has a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbeddingRequest {
    /// Name of the request, for whoever looks for its result.
    pub id: Option<String>,
    /// Where the vectors are stored.
    pub collection: String,
    /// A model by name; otherwise that of the configuration.
    pub model: Option<String>,
    /// Texts, at least one.
    pub items: Vec<Item>,
}

/// The request as it is written: `text` and perhaps `key`, or `items`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(alias = "request_id")]
    id: Option<String>,
    collection: Option<String>,
    model: Option<String>,
    key: Option<String>,
    text: Option<String>,
    items: Option<Vec<Item>>,
}

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum InvalidEmbedding {
    /// Not an object.
    #[error("an embedding request is a JSON object")]
    NoObject,
    /// Not an object of the known fields.
    #[error("{0}")]
    Shape(#[from] serde_json::Error),
    /// No texts, or twice.
    #[error("an embedding request has either \"text\" or \"items\"; this one has {0}")]
    TextOrItems(&'static str),
    /// More than one job may have.
    #[error("the request has {found} {what}; at most {max} are allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many may be.
        max: usize,
    },
    /// A text without anything in it.
    #[error("text {position} is blank")]
    Blank {
        /// Its place, from 0.
        position: usize,
    },
    /// A text that no model takes.
    #[error("text {position} has about {found} tokens; at most {TEXT_TOKENS_MAX} are allowed")]
    TooLong {
        /// Its place, from 0.
        position: usize,
        /// Its size.
        found: u64,
    },
    /// Not usable as a key.
    #[error(
        "{what} {value:?} is not allowed; it has 1 to {KEY_CHARS_MAX} characters, none of them a control character"
    )]
    BadName {
        /// Which name.
        what: &'static str,
        /// Its beginning.
        value: String,
    },
    /// Two texts for one place.
    #[error("key {0:?} is given to two different texts")]
    SharedKey(String),
}

impl Coded for InvalidEmbedding {
    fn code(&self) -> &'static str {
        match self {
            Self::NoObject | Self::Shape(_) => "E0650",
            Self::TextOrItems(_) => "E0651",
            Self::TooMany { .. } | Self::TooLong { .. } => "E0652",
            Self::Blank { .. } => "E0653",
            Self::BadName { .. } | Self::SharedKey(_) => "E0654",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoObject | Self::Shape(_) => {
                "use the fields text and key, or items (a list of {key, text}), and collection, model, id".into()
            }
            Self::TextOrItems(_) => "give one of them, items with at least one text".into(),
            Self::TooMany { .. } => "split it into several requests".into(),
            Self::TooLong { .. } => "split the text into pieces, each with its own key".into(),
            Self::Blank { .. } => "leave it out".into(),
            Self::BadName { .. } => "shorten it, or leave it out".into(),
            Self::SharedKey(_) => "give each text its own key, or none".into(),
        })
    }
}

impl EmbeddingRequest {
    /// Reads a request from JSON, checks it and gives each text its key. The same text twice is one.
    ///
    /// # Errors
    /// [`InvalidEmbedding`], the first problem.
    pub fn parse(value: &Value) -> Result<Self, InvalidEmbedding> {
        // A derived struct would also be read from an array.
        if !value.is_object() {
            return Err(InvalidEmbedding::NoObject);
        }
        let Written { id, collection, model, key, text, items } = Written::deserialize(value)?;
        let items = match (text, items) {
            (Some(_), Some(_)) => return Err(InvalidEmbedding::TextOrItems("both")),
            (None, None) => return Err(InvalidEmbedding::TextOrItems("neither")),
            (None, Some(items)) if items.is_empty() => return Err(InvalidEmbedding::TextOrItems("no items")),
            (None, Some(_)) if key.is_some() => return Err(InvalidEmbedding::TextOrItems("a key beside its items")),
            (None, Some(items)) => items,
            (Some(text), None) => vec![Item { key: key.unwrap_or_default(), text }],
        };
        let collection = collection.unwrap_or_else(|| COLLECTION_DEFAULT.to_owned());
        check_name("collection", &collection)?;
        id.iter().try_for_each(|id| check_name("id", id))?;
        Ok(Self { id, collection, model, items: complete(items)? })
    }

    /// The texts, in order.
    pub fn texts(&self) -> Vec<&str> {
        self.items.iter().map(|item| item.text.as_str()).collect()
    }

    /// Short form for people.
    pub fn summary(&self, chars_max: usize) -> Value {
        let first = self.items.first().map(|item| item.text.chars().take(chars_max).collect::<String>());
        json!({ "text": first, "texts": self.items.len(), "collection": self.collection, "model": self.model })
    }
}

fn complete(items: Vec<Item>) -> Result<Vec<Item>, InvalidEmbedding> {
    let too_many = |what, found, max| Err(InvalidEmbedding::TooMany { what, found, max });
    if items.len() > TEXTS_MAX {
        return too_many("texts", items.len(), TEXTS_MAX);
    }
    let bytes: usize = items.iter().map(|item| item.text.len()).sum();
    if bytes > TEXT_BYTES_MAX {
        return too_many("bytes of text", bytes, TEXT_BYTES_MAX);
    }
    let mut complete: Vec<Item> = Vec::with_capacity(items.len());
    let mut keys = BTreeSet::new();
    for (position, item) in items.into_iter().enumerate() {
        if item.text.trim().is_empty() {
            return Err(InvalidEmbedding::Blank { position });
        }
        let tokens = estimate_tokens(item.text.len());
        if tokens > TEXT_TOKENS_MAX {
            return Err(InvalidEmbedding::TooLong { position, found: tokens });
        }
        let key = if item.key.is_empty() { hash_of(&item.text) } else { item.key };
        check_name("key", &key)?;
        if keys.insert(key.clone()) {
            complete.push(Item { key, text: item.text });
        } else if !complete.iter().any(|other| other.key == key && other.text == item.text) {
            return Err(InvalidEmbedding::SharedKey(key));
        }
    }
    Ok(complete)
}

fn hash_of(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>().split_off(HASH_DIGITS)
}

fn check_name(what: &'static str, name: &str) -> Result<(), InvalidEmbedding> {
    if name.is_empty() || name.chars().count() > KEY_CHARS_MAX || name.chars().any(char::is_control) {
        let value = name.chars().take(KEY_CHARS_MAX).collect();
        return Err(InvalidEmbedding::BadName { what, value });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_or_many_become_items_with_keys() {
        let one = EmbeddingRequest::parse(&json!({"text": "hello", "key": "a", "request_id": "r"})).unwrap();
        assert_eq!((one.id.as_deref(), one.collection.as_str()), (Some("r"), COLLECTION_DEFAULT));
        assert_eq!(one.items, [Item { key: "a".into(), text: "hello".into() }]);
        let many = json!({"collection": "c", "items": [{"text": "x"}, {"key": "k", "text": "y"}, {"text": "x"}]});
        let many = EmbeddingRequest::parse(&many).unwrap();
        assert_eq!(many.texts(), ["x", "y"], "the same text twice is one");
        assert_eq!((many.items[0].key.len(), many.items[1].key.as_str()), (HASH_DIGITS, "k"));
        // What is stored as a step's result is read back as it was.
        let stored = serde_json::to_value(&many).unwrap();
        assert_eq!(serde_json::from_value::<EmbeddingRequest>(stored).unwrap(), many);
    }

    #[test]
    fn says_what_is_wrong() {
        let long = "x".repeat(4 * 8_191 + 1);
        let cases = [
            (json!([]), "E0650"),
            (json!({"text": "a", "texts": 1}), "E0650"),
            (json!({"items": [{"key": "a"}]}), "E0650"),
            (json!({}), "E0651"),
            (json!({"text": "a", "items": []}), "E0651"),
            (json!({"items": []}), "E0651"),
            (json!({"items": [{"text": "a"}], "key": "k"}), "E0651"),
            (json!({"items": vec![json!({"text": "a"}); TEXTS_MAX + 1]}), "E0652"),
            (json!({"items": vec![json!({"text": "a".repeat(30_000)}); 200]}), "E0652"),
            (json!({"text": long}), "E0652"),
            (json!({"text": " \n"}), "E0653"),
            (json!({"text": "a", "collection": ""}), "E0654"),
            (json!({"text": "a", "key": "k\u{0}"}), "E0654"),
            (json!({"items": [{"key": "k", "text": "a"}, {"key": "k", "text": "b"}]}), "E0654"),
        ];
        for (value, code) in cases {
            assert_eq!(EmbeddingRequest::parse(&value).unwrap_err().code(), code, "{value:.200}");
        }
    }
}
