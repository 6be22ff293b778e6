//! Keys and values between bytes and what a person or a script writes.

use serde_json::Value;
use state::Layout;
use topology::{Format, WindowKind};

/// `string`, `i64`, `f64`, `json`, `bytes`, and these with a window: `windowed-string`, `session-string`.
pub fn format_named(name: &str) -> Option<Format> {
    Format::from_word(name)
}

pub fn name_of(format: Format) -> &'static str {
    format.word()
}

/// A windowed key as `{"key": …, "start": …}`, a session's with its `end`; `None`: the bytes are none.
fn decode_windowed(format: Format, bytes: &[u8]) -> Option<Value> {
    let (plain, kind) = format.unwindowed()?;
    let wire = match kind {
        WindowKind::Time => Layout::Window,
        WindowKind::Session => Layout::Session { segment_ms: 1 },
    };
    let parts = wire.read_wire(bytes)?;
    let key = decode(plain, Some(parts.key));
    Some(match kind {
        WindowKind::Time => serde_json::json!({ "key": key, "start": parts.start }),
        WindowKind::Session => serde_json::json!({ "key": key, "start": parts.start, "end": parts.end }),
    })
}

fn encode_windowed(plain: Format, kind: WindowKind, value: &Value) -> Result<Vec<u8>, String> {
    let time = |name: &str| {
        let time = value.get(name).and_then(Value::as_i64).filter(|time| *time >= 0);
        time.ok_or_else(|| format!("`{value}` has no `{name}`: a windowed key is like `{{\"key\": …, \"start\": 0}}`"))
    };
    let mut bytes = encode(plain, value.get("key").unwrap_or(&Value::Null))?.unwrap_or_default();
    if kind == WindowKind::Session {
        bytes.extend_from_slice(&time("end")?.to_be_bytes());
    }
    bytes.extend_from_slice(&time("start")?.to_be_bytes());
    Ok(bytes)
}

/// Bytes that do not have their format are shown as they are rather than refused: a reader must be able to look.
pub fn decode(format: Format, bytes: Option<&[u8]>) -> Value {
    let Some(bytes) = bytes else { return Value::Null };
    let decoded = match format {
        Format::I64 => <[u8; 8]>::try_from(bytes).ok().map(|b| i64::from_be_bytes(b).into()),
        Format::F64 => <[u8; 8]>::try_from(bytes).ok().map(|b| f64::from_be_bytes(b).into()),
        Format::Json => serde_json::from_slice(bytes).ok(),
        Format::String | Format::Bytes | Format::Any => None,
        windowed => decode_windowed(windowed, bytes),
    };
    decoded.unwrap_or_else(|| match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => serde_json::json!({ "base64": to_base64(bytes) }),
    })
}

/// # Errors
/// What is wrong with `value`, as a fragment.
pub fn encode(format: Format, value: &Value) -> Result<Option<Vec<u8>>, String> {
    if let Some(text) = value.get("base64").and_then(Value::as_str)
        && format != Format::Json
    {
        return from_base64(text)
            .map(Some)
            .ok_or_else(|| format!("`{text}` is not base64"));
    }
    if let (Some((plain, kind)), false) = (format.unwindowed(), value.is_null()) {
        return encode_windowed(plain, kind, value).map(Some);
    }
    let bytes = match (format, value) {
        (_, Value::Null) => return Ok(None),
        (Format::I64, value) => {
            let number = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok());
            number
                .ok_or_else(|| format!("`{value}` is not a whole number"))?
                .to_be_bytes()
                .to_vec()
        }
        (Format::F64, value) => {
            let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
            number
                .ok_or_else(|| format!("`{value}` is not a number"))?
                .to_be_bytes()
                .to_vec()
        }
        (Format::Json, value) => value.to_string().into_bytes(),
        (_, Value::String(text)) => text.clone().into_bytes(),
        (_, other) => other.to_string().into_bytes(),
    };
    Ok(Some(bytes))
}

/// A key as it is typed on a command line.
///
/// # Errors
/// What is wrong with `text`, as a fragment.
pub fn encode_text(format: Format, text: &str) -> Result<Vec<u8>, String> {
    let value = match format {
        format if format == Format::Json || format.unwindowed().is_some() => {
            serde_json::from_str(text).map_err(|e| format!("`{text}` is not JSON: {e}"))?
        }
        _ => Value::String(text.to_owned()),
    };
    Ok(encode(format, &value)?.unwrap_or_default())
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .enumerate()
            .fold(0u32, |w, (i, b)| w | u32::from(*b) << (16 - 8 * i));
        for i in 0..4 {
            let letter = ALPHABET
                .get((word >> (18 - 6 * i) & 63) as usize)
                .copied()
                .unwrap_or(b'=');
            text.push(if i <= chunk.len() { letter as char } else { '=' });
        }
    }
    text
}

pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut word, mut bits) = (0u32, 0);
    for letter in text.trim_end_matches('=').bytes() {
        word = word << 6 | ALPHABET.iter().position(|a| *a == letter)? as u32;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits) as u8);
            word &= (1 << bits) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn values_come_back_as_they_went() {
        for (format, value) in [
            (Format::I64, serde_json::json!(-5)),
            (Format::F64, serde_json::json!(2.5)),
            (Format::String, serde_json::json!("Wal")),
            (Format::Json, serde_json::json!({"a": [1, null]})),
            (Format::Bytes, serde_json::json!({"base64": "/wAB"})),
            (Format::Bytes, Value::Null),
        ] {
            let bytes = encode(format, &value).unwrap();
            assert_eq!(decode(format, bytes.as_deref()), value);
        }
        assert!(encode(Format::I64, &serde_json::json!("x")).is_err());
        assert_eq!(decode(Format::I64, Some(b"abc")), serde_json::json!("abc"));
    }

    #[test]
    fn base64_of_every_length() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
        ] {
            assert_eq!(to_base64(bytes), text);
            assert_eq!(from_base64(text).unwrap(), bytes);
        }
    }
}
