//! The three forms in which Oban's nodes write a payload: a JSON object as it is, and two that are compressed.
//!
//! | Form | Written by | Read by |
//! | --- | --- | --- |
//! | `{…}` | everybody when it is short; SQL always | everybody |
//! | `H4sI…`: base64 of gzip | Oban for Python; Oban for Elixir until 2.20 | everybody since Elixir 2.15 |
//! | `Z:` before the same | Oban for Elixir since 2.21, above 512 bytes | Oban for Elixir since 2.21 alone |
//!
//! All three are read and the last one is never written: Oban for Python takes it for a lost connection and older
//! Elixir nodes crash on it. A payload may come from anybody who can connect, so both sizes are bounded, that of the
//! text and that of what it unpacks to.

use std::borrow::Cow;
use std::io::{Read, Write};

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::Serialize;

use super::message::Undecodable;

/// Largest payload that is looked at, in bytes; PostgreSQL delivers none this large.
pub const RECEIVED_BYTES_MAX: usize = 8_000;

/// Largest payload that is sent, in bytes: PostgreSQL refuses 8,000 and more.
pub const PAYLOAD_BYTES_MAX: usize = 7_900;

/// Most that a compressed payload may unpack to, in bytes, and the largest text that is compressed. What Oban's nodes
/// send is far below; 6,000 bytes of gzip could unpack to 6 MB.
pub const UNPACKED_BYTES_MAX: usize = 256 * 1024;

/// How every compressed text begins: base64 of the first three bytes of gzip.
const GZIP: &str = "H4sI";

/// What stands before the compressed form of newer Elixir nodes.
const MARK: &str = "Z:";

/// Base64 as both runtimes write it; a missing padding harms nobody.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The JSON text of a payload, in whichever form it came. Whether it is JSON is not looked at.
///
/// # Errors
/// [`Undecodable::TooLarge`], [`Undecodable::Unpacks`] or [`Undecodable::Compressed`].
pub fn read(payload: &str) -> Result<Cow<'_, str>, Undecodable> {
    if payload.len() > RECEIVED_BYTES_MAX {
        return Err(Undecodable::TooLarge { bytes: payload.len() });
    }
    match payload.strip_prefix(MARK) {
        Some(rest) => unpack(rest).map(Cow::Owned),
        None if payload.starts_with(GZIP) => unpack(payload).map(Cow::Owned),
        None => Ok(Cow::Borrowed(payload)),
    }
}

fn unpack(text: &str) -> Result<String, Undecodable> {
    let broken = |reason: String| Undecodable::Compressed { reason };
    let packed = BASE64.decode(text).map_err(|error| broken(format!("not base64: {error}")))?;
    // One byte more than is allowed shows that there is too much; the rest is never unpacked.
    let limit = u64::try_from(UNPACKED_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut unpacked = Vec::new();
    let read = GzDecoder::new(packed.as_slice()).take(limit).read_to_end(&mut unpacked);
    if unpacked.len() > UNPACKED_BYTES_MAX {
        return Err(Undecodable::Unpacks { limit: UNPACKED_BYTES_MAX });
    }
    read.map_err(|error| broken(format!("not gzip: {error}")))?;
    String::from_utf8(unpacked).map_err(|_| broken("not UTF-8".into()))
}

/// Why a payload cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsendable {
    /// Its type cannot be written as JSON.
    #[error("{reason}")]
    Json {
        /// What the writer says.
        reason: String,
    },
    /// Elixir nodes match on objects, Python looks for the brace.
    #[error("a payload must be a JSON object")]
    NoObject,
    /// Too large, also when it is compressed.
    #[error("it has {bytes} bytes, {packed} when compressed; at most {PAYLOAD_BYTES_MAX} are allowed")]
    TooLarge {
        /// As JSON.
        bytes: usize,
        /// As it would be sent.
        packed: usize,
    },
}

/// A text that may be sent: an object, short enough, in a form that everybody reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload(String);

impl Payload {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text to send for a payload: the object as it is while that is short enough, otherwise `H4sI…`.
///
/// # Errors
/// [`Unsendable`].
pub fn write(payload: &impl Serialize) -> Result<Payload, Unsendable> {
    let text = json(payload)?;
    if !text.starts_with('{') {
        return Err(Unsendable::NoObject);
    }
    if text.len() <= PAYLOAD_BYTES_MAX {
        return Ok(Payload(text));
    }
    let bytes = text.len();
    if bytes > UNPACKED_BYTES_MAX {
        return Err(Unsendable::TooLarge { bytes, packed: bytes });
    }
    let packed = pack(&text).map_err(|error| Unsendable::Json { reason: error.to_string() })?;
    if packed.len() <= PAYLOAD_BYTES_MAX {
        Ok(Payload(packed))
    } else {
        Err(Unsendable::TooLarge { bytes, packed: packed.len() })
    }
}

/// Divides a list, in its order, so that each group has at most `room` bytes when it is written into an array. An item
/// that has more is a group by itself.
pub(super) fn in_groups<T: Serialize>(items: Vec<T>, room: usize) -> Result<Vec<Vec<T>>, Unsendable> {
    let mut groups: Vec<Vec<T>> = Vec::new();
    let mut left = 0;
    for item in items {
        let size = json(&item)?.len() + ",".len();
        match groups.last_mut() {
            Some(group) if size <= left => {
                left -= size;
                group.push(item);
            }
            _ => {
                left = room.saturating_sub(size);
                groups.push(vec![item]);
            }
        }
    }
    Ok(groups)
}

pub(super) fn json(value: &impl Serialize) -> Result<String, Unsendable> {
    serde_json::to_string(value).map_err(|error| Unsendable::Json { reason: error.to_string() })
}

fn pack(text: &str) -> std::io::Result<String> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes())?;
    Ok(BASE64.encode(encoder.finish()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// `{"queue":"default"}`, written by Oban for Python 0.7 (`oban._notifier.encode_payload`).
    const BY_PYTHON: &str = "H4sIAE+qB2sC/6tWKixNLU1VslJKSU1LLM0pUaoFAJj2NkcTAAAA";

    fn broken(payload: &str) -> String {
        match read(payload) {
            Err(Undecodable::Compressed { reason }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reads_the_three_forms() {
        let plain = r#"{"queue":"default"}"#;
        assert_eq!(read(plain).unwrap(), plain);
        assert_eq!(read(BY_PYTHON).unwrap(), plain);
        assert_eq!(read(&format!("Z:{BY_PYTHON}")).unwrap(), plain);
        assert_eq!(read(BY_PYTHON.trim_end_matches('=')).unwrap(), plain, "padding may be missing");
        assert_eq!(read("").unwrap(), "", "whether it is JSON is for others to say");
    }

    #[test]
    fn says_what_is_broken() {
        assert!(broken("H4sI*").starts_with("not base64"));
        assert!(broken("H4sIAAAA").starts_with("not gzip"));
        assert!(broken("Z:").starts_with("not gzip"));
        assert!(broken(&format!("Z:{}", BASE64.encode("{}"))).starts_with("not gzip"));
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&[b'{', 0xff, b'}']).unwrap();
        assert_eq!(broken(&BASE64.encode(encoder.finish().unwrap())), "not UTF-8");
        for cut in (4..BY_PYTHON.len() - 4).step_by(4) {
            assert!(!broken(&BY_PYTHON[..cut]).is_empty(), "{cut}");
        }
        assert_eq!(read(&"x".repeat(9_000)), Err(Undecodable::TooLarge { bytes: 9_000 }));
    }

    #[test]
    fn unpacks_no_more_than_the_limit() {
        for (size, fits) in [(UNPACKED_BYTES_MAX, true), (UNPACKED_BYTES_MAX + 1, false), (5_000_000, false)] {
            let packed = pack(&"a".repeat(size)).unwrap();
            assert!(packed.len() < RECEIVED_BYTES_MAX, "a payload that PostgreSQL delivers");
            match read(&packed) {
                Ok(text) => assert!(fits && text.len() == size),
                Err(error) => assert!(!fits && error == Undecodable::Unpacks { limit: UNPACKED_BYTES_MAX }, "{error}"),
            }
        }
    }

    #[test]
    fn writes_plain_text_while_it_is_short_and_never_the_form_that_python_cannot_read() {
        assert_eq!(write(&json!({"queue": "default"})).unwrap().as_str(), r#"{"queue":"default"}"#);
        let frame = r#"{"a":""}"#.len();
        let longest = json!({"a": "x".repeat(PAYLOAD_BYTES_MAX - frame)});
        assert_eq!(write(&longest).unwrap().as_str(), longest.to_string());
        let longer = json!({"a": "x".repeat(PAYLOAD_BYTES_MAX - frame + 1)});
        let Payload(packed) = write(&longer).unwrap();
        assert!(packed.starts_with(GZIP) && packed.len() < 100, "{packed}");
        assert_eq!(read(&packed).unwrap(), longer.to_string());
    }

    #[test]
    fn refuses_what_others_could_not_read() {
        for value in [json!([1]), json!(1), json!("{}"), Value::Null] {
            assert_eq!(write(&value), Err(Unsendable::NoObject));
        }
        let noise: Vec<u32> = (0..4_000_u32).map(|i| i.wrapping_mul(2_654_435_761)).collect();
        match write(&json!({"a": noise})) {
            Err(error @ Unsendable::TooLarge { packed, .. }) => {
                assert!(packed > PAYLOAD_BYTES_MAX && error.to_string().contains("at most 7900"), "{error}");
            }
            other => panic!("{other:?}"),
        }
        let large = json!({"a": "x".repeat(UNPACKED_BYTES_MAX)});
        assert!(matches!(write(&large), Err(Unsendable::TooLarge { .. })), "we could not read it ourselves");
    }

    proptest! {
        #[test]
        fn survives_anything(payload in ".{0,200}", mark in prop_oneof![Just(""), Just("Z:"), Just("H4sI"), Just("Z:H4sI")]) {
            drop(read(&format!("{mark}{payload}")));
        }

        #[test]
        fn survives_any_bytes_in_base64(bytes in prop::collection::vec(any::<u8>(), 0..300), header in any::<bool>()) {
            let head: &[u8] = if header { &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3] } else { &[] };
            let text = BASE64.encode([head, &bytes].concat());
            drop(read(&format!("Z:{text}")));
            drop(read(&text));
        }

        #[test]
        fn survives_a_changed_or_cut_payload(at in 0..BY_PYTHON.len(), byte in 33..127_u8, cut in 0..=BY_PYTHON.len()) {
            let mut bytes = BY_PYTHON.as_bytes().to_vec();
            bytes[at] = byte;
            let changed = String::from_utf8(bytes).unwrap();
            if let Ok(text) = read(&changed) {
                // The prefix is gone, or the checksum says that nothing changed in the text.
                let same = text == changed || text == r#"{"queue":"default"}"#;
                prop_assert!(same);
            }
            drop(read(&changed[..cut]));
        }

        #[test]
        fn reads_what_it_wrote(text in ".{0,3000}", times in 1..8_usize) {
            let payload = json!({"text": text.repeat(times)});
            if let Ok(Payload(written)) = write(&payload) {
                prop_assert!(written.len() <= PAYLOAD_BYTES_MAX && !written.starts_with(MARK));
                prop_assert_eq!(serde_json::from_str::<Value>(&read(&written).unwrap()).unwrap(), payload);
            }
        }
    }
}
