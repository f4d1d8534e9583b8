//! Embeddings in OpenAI's format, spoken by many compatible servers: request JSON, answer → vectors, batches. Pure.
//!
//! Servers may answer in any order, so vectors are sorted by their index; their number and length are checked, because
//! a vector at the wrong text is a mistake that nobody sees later.

use std::ops::Range;

use serde_json::{Map, Value, json};

use super::error::ErrorClass;
use super::prices::Cost;
use super::reply::{Failure, Spent};
use super::text::excerpt;
use super::usage::{Usage, estimate_tokens};

/// Texts of one request to a model whose configuration states no other number.
pub const BATCH_ITEMS_DEFAULT: u32 = 256;
/// The same at Google's host: "at most 100 requests can be in one batch".
const BATCH_ITEMS_OF_GOOGLE: (&str, u32) = ("generativelanguage.googleapis.com", 100);
/// Estimated tokens of one request to a model whose configuration states no other number; OpenAI allows 300,000.
pub const BATCH_TOKENS_DEFAULT: u32 = 100_000;
/// Texts of one request to a model at this host whose configuration states no other number.
pub(crate) fn batch_items_default(host: &str) -> u32 {
    let (google, fewer) = BATCH_ITEMS_OF_GOOGLE;
    if host == google { fewer } else { BATCH_ITEMS_DEFAULT }
}

/// Longest vector that is accepted.
pub const DIMENSIONS_MAX: usize = 16_000;

/// Vectors of texts, in the order of the texts, with everything that is recorded about them.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// One vector a text, all of one length, none of them zero.
    pub vectors: Vec<Vec<f32>>,
    /// Our name of the model.
    pub model: String,
    /// The provider's name of the model that answered.
    pub model_reported: Option<String>,
    /// Our name of the provider.
    pub provider: String,
    /// Tokens of all requests.
    pub usage: Usage,
    /// For some request the provider reported no usage; its part of `usage` is text size divided by four.
    pub usage_estimated: bool,
    /// The usage objects as they came, one a request.
    pub raw_usage: Vec<Value>,
    /// What all of it cost.
    pub cost: Cost,
    /// Made here, from words and letters, without a model.
    pub simulated: bool,
    /// Time of all requests.
    pub duration_ms: u64,
}

/// The answer to one request.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) vectors: Vec<Vec<f32>>,
    pub(crate) model_reported: Option<String>,
    pub(crate) usage: Usage,
    pub(crate) usage_estimated: bool,
    pub(crate) raw_usage: Value,
}

/// The body of a request. `dimensions` asks for shorter vectors than the model's own.
pub(crate) fn body(model: &str, texts: &[&str], dimensions: Option<u32>) -> Value {
    let mut body = Map::new();
    body.insert("model".into(), model.into());
    body.insert("input".into(), json!(texts));
    body.insert("encoding_format".into(), "float".into());
    if let Some(dimensions) = dimensions {
        body.insert("dimensions".into(), dimensions.into());
    }
    Value::Object(body)
}

/// Splits texts into requests, in order: at most so many texts and so many estimated tokens each. A text that is larger
/// than that alone is a request of its own.
pub(crate) fn batches(texts: &[&str], items_max: usize, tokens_max: u64) -> Vec<Range<usize>> {
    let mut batches = Vec::new();
    let (mut start, mut tokens) = (0, 0);
    for (index, text) in texts.iter().enumerate() {
        let size = estimate_tokens(text.len());
        if index > start && (index - start >= items_max || tokens + size > tokens_max) {
            batches.push(start..index);
            (start, tokens) = (index, 0);
        }
        tokens += size;
    }
    if start < texts.len() {
        batches.push(start..texts.len());
    }
    batches
}

/// Reads the answer to a request of `texts`.
pub(crate) fn parse(body: &[u8], texts: &[&str], dimensions: Option<u32>) -> Result<Batch, Failure> {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let reported = value.get("usage").and_then(Usage::from_openai).filter(|usage| usage.input_total() > 0);
    let usage = reported.unwrap_or_else(|| Usage::estimate(texts.iter().map(|text| text.len()).sum(), 0));
    let unusable = |class, message| {
        let spent = Spent { usage, estimated: reported.is_none(), text_bytes: 0, time_to_first_token_ms: None };
        Failure { spent: Some(Box::new(spent)), ..Failure::new(class, message) }
    };
    let malformed = |message: String| unusable(ErrorClass::Transient, message);
    let Some(data) = value.get("data").and_then(Value::as_array) else {
        return Err(malformed(format!("no list of vectors in {}", excerpt(body))));
    };
    if data.len() != texts.len() {
        return Err(malformed(format!("{} vectors came for {} texts", data.len(), texts.len())));
    }
    let mut vectors: Vec<Vec<f32>> = vec![Vec::new(); texts.len()];
    for (position, entry) in data.iter().enumerate() {
        // Some servers leave the index out and answer in order.
        let index = match entry.get("index") {
            None | Some(Value::Null) => Some(position),
            Some(index) => index.as_u64().and_then(|index| usize::try_from(index).ok()),
        };
        let Some(place) = index.and_then(|index| vectors.get_mut(index)).filter(|place| place.is_empty()) else {
            return Err(malformed(format!(
                "vector {position} has the index {}, which is no free place",
                entry["index"]
            )));
        };
        *place = vector(&entry["embedding"]).map_err(|what| malformed(format!("vector {position} {what}")))?;
    }
    let length = vectors.first().map_or(0, Vec::len);
    if let Some(other) = vectors.iter().find(|vector| vector.len() != length) {
        return Err(malformed(format!("vectors of {length} and of {} numbers came in one answer", other.len())));
    }
    if let Some(wanted) = dimensions.filter(|wanted| usize::try_from(*wanted).is_ok_and(|wanted| wanted != length)) {
        let message = format!("its vectors have {length} numbers, and embedding.dimensions says {wanted}");
        return Err(unusable(ErrorClass::Misconfigured, message));
    }
    Ok(Batch {
        vectors,
        model_reported: value["model"].as_str().map(|name| super::text::tidy(name).to_string()),
        usage,
        usage_estimated: reported.is_none(),
        raw_usage: super::text::storable_json(&value["usage"]),
    })
}

/// A vector of finite numbers with a direction.
#[expect(
    clippy::cast_possible_truncation,
    reason = "vectors are kept in single precision, which is what models compute in"
)]
fn vector(value: &Value) -> Result<Vec<f32>, String> {
    let Some(numbers) = value.as_array() else { return Err("is no list of numbers".into()) };
    if numbers.is_empty() || numbers.len() > DIMENSIONS_MAX {
        return Err(format!("has {} numbers; 1 to {DIMENSIONS_MAX} are allowed", numbers.len()));
    }
    let vector: Option<Vec<f32>> = numbers.iter().map(|number| number.as_f64().map(|number| number as f32)).collect();
    let Some(vector) = vector.filter(|vector| vector.iter().all(|number| number.is_finite())) else {
        return Err("has something else than numbers".into());
    };
    if vector.iter().all(|number| *number == 0.0) {
        return Err("is all zeros, which has no direction to compare".into());
    }
    Ok(vector)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(answer: &Value, texts: &[&str]) -> Result<Batch, Failure> {
        parse(answer.to_string().as_bytes(), texts, Some(2))
    }

    #[test]
    fn the_request_has_the_fields_of_the_format() {
        let expected = json!({"model": "m", "input": ["a", "b"], "encoding_format": "float"});
        assert_eq!(body("m", &["a", "b"], None), expected);
        assert_eq!(body("m", &["a"], Some(8))["dimensions"], 8);
    }

    #[test]
    fn vectors_are_sorted_by_their_index() {
        let answer = json!({
            "model": "m-1", "usage": {"prompt_tokens": 5, "total_tokens": 5},
            "data": [{"index": 1, "embedding": [0.0, 1.0]}, {"index": 0, "embedding": [1, 0.5]}]
        });
        let batch = read(&answer, &["a", "b"]).unwrap();
        assert_eq!(batch.vectors, [[1.0, 0.5], [0.0, 1.0]]);
        assert_eq!((batch.usage.input_fresh, batch.usage_estimated), (5, false));
        assert_eq!(batch.model_reported.as_deref(), Some("m-1"));
    }

    #[test]
    fn a_missing_usage_or_index_is_made_up_for() {
        let answer = json!({"data": [{"embedding": [1, 0]}, {"embedding": [0, 1]}], "usage": {"prompt_tokens": 0}});
        let batch = read(&answer, &["abcd", "efghi"]).unwrap();
        assert_eq!(batch.vectors, [[1.0, 0.0], [0.0, 1.0]]);
        assert_eq!((batch.usage.input_fresh, batch.usage_estimated), (3, true));
    }

    #[test]
    fn what_does_not_fit_the_texts_is_refused() {
        let one = |entry: Value| json!({"data": [entry]});
        let good = json!({"index": 0, "embedding": [1, 0]});
        for (answer, says) in [
            (json!([]), "no list of vectors"),
            (json!({"data": []}), "0 vectors came for 1 texts"),
            (json!({"data": [good, good]}), "2 vectors came for 1 texts"),
            (one(json!({"index": 1, "embedding": [1, 0]})), "no free place"),
            (one(json!({"index": -1, "embedding": [1, 0]})), "no free place"),
            (one(json!({"index": 0})), "no list of numbers"),
            (one(json!({"index": 0, "embedding": []})), "has 0 numbers"),
            (one(json!({"index": 0, "embedding": [1, null]})), "something else than numbers"),
            (one(json!({"index": 0, "embedding": [1e300, 1]})), "something else than numbers"),
            (one(json!({"index": 0, "embedding": [0, 0.0]})), "all zeros"),
        ] {
            let failure = read(&answer, &["abcd"]).unwrap_err();
            assert!(failure.message.contains(says), "{answer}: {}", failure.message);
            assert_eq!((failure.class, failure.spent.unwrap().usage.input_fresh), (ErrorClass::Transient, 1));
        }
        let twice = json!({"data": [good, good]});
        assert!(read(&twice, &["a", "b"]).unwrap_err().message.contains("no free place"));
        let mixed = json!({"data": [{"embedding": [1, 0]}, {"embedding": [1, 0, 0]}]});
        assert!(read(&mixed, &["a", "b"]).unwrap_err().message.contains("of 2 and of 3 numbers"));
        let other = read(&one(json!({"embedding": [1, 0, 0]})), &["a"]).unwrap_err();
        assert_eq!(other.class, ErrorClass::Misconfigured);
        assert!(other.message.contains("3 numbers, and embedding.dimensions says 2"), "{}", other.message);
    }

    proptest! {
        #[test]
        fn batches_cover_all_texts_in_order_within_both_limits(
            sizes in prop::collection::vec(0_usize..60, 0..60), items_max in 1_usize..9, tokens_max in 1_u64..20,
        ) {
            let texts: Vec<String> = sizes.iter().map(|size| "x".repeat(*size)).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let ranges = batches(&texts, items_max, tokens_max);
            let covered: Vec<usize> = ranges.iter().cloned().flatten().collect();
            prop_assert_eq!(covered, (0..texts.len()).collect::<Vec<_>>());
            for range in ranges {
                let tokens: u64 = texts[range.clone()].iter().map(|text| estimate_tokens(text.len())).sum();
                prop_assert!(range.len() <= items_max && (tokens <= tokens_max || range.len() == 1));
            }
        }
    }
}
