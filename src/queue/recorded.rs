//! A result that is kept with its job, in the form that Oban's runtimes write and read: base64 without padding of
//! Erlang's external term format, in `meta.return`, beside `meta.recorded`.
//!
//! Only what JSON can say is written. More is read than is written, because other runtimes choose other forms.

use serde_json::{Map, Number, Value};

/// Largest result in encoded form; Oban for Python allows 64 MB, which a row that is read with every listing should
/// not carry.
pub const RECORDED_BYTES_MAX: usize = 1024 * 1024;
/// Deepest nesting that is read.
const DEPTH_MAX: usize = 100;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// `value` as text for `meta.return`.
pub(crate) fn encoded(value: &Value) -> String {
    let mut bytes = vec![131];
    term(value, &mut bytes);
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().enumerate().fold(0_u32, |word, (place, byte)| word | u32::from(*byte) << (16 - 8 * place));
        for place in 0..=chunk.len() {
            let index = (word >> (18 - 6 * place)) & 63;
            text.push(char::from(ALPHABET.get(index as usize).copied().unwrap_or_default()));
        }
    }
    text
}

fn term(value: &Value, out: &mut Vec<u8>) {
    let length = |out: &mut Vec<u8>, len: usize| out.extend(u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
    let atom = |out: &mut Vec<u8>, name: &str| {
        out.extend([119, u8::try_from(name.len()).unwrap_or(u8::MAX)]);
        out.extend(name.as_bytes());
    };
    let text = |out: &mut Vec<u8>, text: &str| {
        out.push(109);
        length(out, text.len());
        out.extend(text.as_bytes());
    };
    match value {
        Value::Null => atom(out, "nil"),
        Value::Bool(yes) => atom(out, if *yes { "true" } else { "false" }),
        Value::Number(number) => numeral(number, out),
        Value::String(string) => text(out, string),
        Value::Array(items) => {
            if !items.is_empty() {
                out.push(108);
                length(out, items.len());
                items.iter().for_each(|item| term(item, out));
            }
            out.push(106);
        }
        Value::Object(map) => {
            out.push(116);
            length(out, map.len());
            for (key, value) in map {
                text(out, key);
                term(value, out);
            }
        }
    }
}

fn numeral(number: &Number, out: &mut Vec<u8>) {
    let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    match whole {
        Some(small) if (0..=255).contains(&small) => out.extend([97, small as u8]),
        Some(medium) if i32::try_from(medium).is_ok() => {
            out.push(98);
            out.extend((medium as i32).to_be_bytes());
        }
        Some(big) => {
            out.extend([110, 8, u8::from(big < 0)]);
            out.extend((big.unsigned_abs() as u64).to_le_bytes());
        }
        None => {
            out.push(70);
            out.extend(number.as_f64().unwrap_or_default().to_be_bytes());
        }
    }
}

/// What `meta` of a job records; `None` where it records nothing, or something that JSON cannot say.
pub(crate) fn recorded(meta: &Value) -> Option<Value> {
    if meta.get("recorded") != Some(&Value::Bool(true)) {
        return None;
    }
    let text = meta.get("return")?.as_str()?;
    let (mut bytes, mut word, mut bits) = (Vec::with_capacity(text.len()), 0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let digit = ALPHABET.iter().position(|known| *known == byte)?;
        word = (word << 6) | u32::try_from(digit).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits) as u8);
            word &= (1 << bits) - 1;
        }
    }
    let mut rest = bytes.strip_prefix(&[131])?;
    let value = read(&mut rest, 0)?;
    rest.is_empty().then_some(value)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    Some(head)
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    take(rest, 1)?.first().copied()
}

fn size(rest: &mut &[u8], bytes: usize) -> Option<usize> {
    Some(take(rest, bytes)?.iter().fold(0, |size, byte| size << 8 | usize::from(*byte)))
}

fn read(rest: &mut &[u8], depth: usize) -> Option<Value> {
    if depth > DEPTH_MAX {
        return None;
    }
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let named = |name: String| match name.as_str() {
        "nil" | "undefined" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => Value::String(name),
    };
    Some(match byte(rest)? {
        70 => Value::from(f64::from_be_bytes(take(rest, 8)?.try_into().ok()?)),
        97 => byte(rest)?.into(),
        98 => i32::from_be_bytes(take(rest, 4)?.try_into().ok()?).into(),
        100 | 118 => {
            let len = size(rest, 2)?;
            named(text(take(rest, len)?)?)
        }
        115 | 119 => {
            let len = size(rest, 1)?;
            named(text(take(rest, len)?)?)
        }
        104 => {
            let len = size(rest, 1)?;
            Value::Array((0..len).map(|_| read(rest, depth + 1)).collect::<Option<_>>()?)
        }
        106 => Value::Array(Vec::new()),
        107 => {
            let len = size(rest, 2)?;
            take(rest, len)?.iter().map(|byte| Value::from(*byte)).collect()
        }
        108 => {
            let len = size(rest, 4)?;
            let items = (0..len).map(|_| read(rest, depth + 1)).collect::<Option<_>>()?;
            // A list that ends in something else is none in JSON.
            (byte(rest)? == 106).then_some(Value::Array(items))?
        }
        109 => {
            let len = size(rest, 4)?;
            Value::String(text(take(rest, len)?)?)
        }
        110 => {
            let (len, negative) = (size(rest, 1)?, byte(rest)? != 0);
            let mut digits = take(rest, len)?.iter().rev();
            let number =
                digits.try_fold(0_u64, |number, byte| number.checked_mul(256)?.checked_add(u64::from(*byte)))?;
            if negative { Value::from(i64::try_from(-i128::from(number)).ok()?) } else { number.into() }
        }
        116 => {
            let len = size(rest, 4)?;
            let mut map = Map::new();
            for _ in 0..len {
                let key = match read(rest, depth + 1)? {
                    Value::String(key) => key,
                    other => other.to_string(),
                };
                map.insert(key, read(rest, depth + 1)?);
            }
            map.into()
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn is_written_as_erlang_writes_it() {
        // `term_to_binary(...)` of the same terms, by the published format.
        assert_eq!(encoded(&json!(1)), "g2EB");
        assert_eq!(encoded(&json!("ok")), "g20AAAACb2s");
        assert_eq!(encoded(&json!({"a": [1, null]})), "g3QAAAABbQAAAAFhbAAAAAJhAXcDbmlsag");
    }

    #[test]
    fn forms_of_other_runtimes_are_read() {
        // An atom in the old form, a list of small numbers as a string, a pair.
        for (text, value) in [("g2QAAm9r", json!("ok")), ("g2sAAgEC", json!([1, 2])), ("g2gCYQFhAg", json!([1, 2]))] {
            assert_eq!(recorded(&json!({"recorded": true, "return": text})), Some(value));
        }
        for bad in ["", "g2", "####", "g3QAAAAB", "g2EBYQ"] {
            assert_eq!(recorded(&json!({"recorded": true, "return": bad})), None, "{bad}");
        }
        assert_eq!(recorded(&json!({"return": "g2EB"})), None);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_filter("finite", |float| float.is_finite()).prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(value in any_json()) {
            prop_assert_eq!(recorded(&json!({"recorded": true, "return": encoded(&value)})), Some(value));
        }
    }
}
