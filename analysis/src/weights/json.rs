//! JSON as Python writes it.

use serde_json::Value;

/// Parses JSON in which `NaN`, `Infinity` and `-Infinity` may stand for numbers, as Python's `json` writes and reads
/// them. They become texts of the same words, so that whoever needs a number there says that it has none.
pub(super) fn parse(bytes: &[u8]) -> serde_json::Result<Value> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    serde_json::from_slice(bytes).or_else(|e| match quoted(bytes) {
        Some(other) => serde_json::from_slice(&other),
        None => Err(e),
    })
}

/// The same with those words in quotes; `None` if there are none outside of texts.
fn quoted(bytes: &[u8]) -> Option<Vec<u8>> {
    const WORDS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];
    let mut out = Vec::with_capacity(bytes.len() + 16);
    let (mut at, mut inside, mut found) = (0, false, false);
    while at < bytes.len() {
        let rest = &bytes[at..];
        if let Some(word) = WORDS.iter().find(|w| !inside && rest.starts_with(w)) {
            out.push(b'"');
            out.extend_from_slice(word);
            out.push(b'"');
            at += word.len();
            found = true;
            continue;
        }
        if inside && rest[0] == b'\\' && rest.len() > 1 {
            out.extend_from_slice(&rest[..2]);
            at += 2;
            continue;
        }
        inside ^= rest[0] == b'"';
        out.push(rest[0]);
        at += 1;
    }
    found.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_python_writes_is_read() {
        let of = |text: &str| parse(text.as_bytes());
        assert_eq!(of(r#"{"a": [0.0, Infinity], "b": NaN}"#).unwrap(), json!({ "a": [0.0, "Infinity"], "b": "NaN" }));
        let inside = r#"{"NaN \" Infinity": -Infinity, "c": "NaN"}"#;
        assert_eq!(of(inside).unwrap(), json!({ "NaN \" Infinity": "-Infinity", "c": "NaN" }));
        assert_eq!(of("\u{feff}{}").unwrap(), json!({}));
        for bad in [r#"{"a": NaN"#, "", "{'a': 1}", "NaNs"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
