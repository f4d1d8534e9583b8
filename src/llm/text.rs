//! Text that came from outside and goes into messages, logs and rows.
//!
//! PostgreSQL's `jsonb` refuses U+0000, and a provider's error page may be long, so nothing foreign is kept as it came.

use serde_json::Value;

/// Characters kept of a foreign message.
const TIDY_CHARS_MAX: usize = 500;
/// Bytes of a malformed body that are shown.
const EXCERPT_BYTES_MAX: usize = 200;
/// Bytes of a usage report that is kept as it came; real ones have a few hundred.
const RAW_BYTES_MAX: usize = 16 * 1024;

/// One line without control characters, cut where it is too long.
pub(crate) fn tidy(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut tidy: String = text.trim().chars().take(TIDY_CHARS_MAX).map(clean).collect();
    if text.trim().chars().nth(TIDY_CHARS_MAX).is_some() {
        tidy.push('…');
    }
    tidy
}

/// The beginning of a body that could not be understood.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    let cut = bytes.len().min(EXCERPT_BYTES_MAX);
    let mut text = tidy(&String::from_utf8_lossy(&bytes[..cut]));
    if cut < bytes.len() {
        text.push('…');
    }
    text
}

/// Text that can be stored: U+0000 becomes U+FFFD.
pub(crate) fn storable(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{FFFD}").into() } else { text.into() }
}

/// A provider's report as it came, or null when it cannot be stored or is unreasonably large.
pub(crate) fn storable_json(value: &Value) -> Value {
    let text = value.to_string();
    if text.len() > RAW_BYTES_MAX || text.contains("\\u0000") { Value::Null } else { value.clone() }
}

/// Replaces a key that a server repeated in its answer.
pub(crate) fn redact(text: String, key: Option<&str>) -> String {
    match key {
        Some(key) if !key.is_empty() && text.contains(key) => text.replace(key, "[key]"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_becomes_one_short_line() {
        assert_eq!(tidy(" a\r\nb\0c "), "a  b c");
        assert_eq!(tidy(&"ä".repeat(600)).chars().count(), TIDY_CHARS_MAX + 1);
        assert_eq!(excerpt(&[0xFF, b'a']), "\u{FFFD}a");
        assert!(excerpt(&[b'x'; 1_000]).ends_with('…'));
    }

    #[test]
    fn what_postgres_refuses_is_replaced() {
        assert_eq!(storable("a\0b"), "a\u{FFFD}b");
        assert_eq!(storable_json(&serde_json::json!({"a": "\0"})), Value::Null);
        assert_eq!(storable_json(&serde_json::json!({"a": 1})), serde_json::json!({"a": 1}));
    }

    #[test]
    fn a_repeated_key_is_hidden() {
        assert_eq!(redact("bad key sk-1".into(), Some("sk-1")), "bad key [key]");
        assert_eq!(redact("bad".into(), Some("")), "bad");
    }
}
