//! What of a value differs from another of its kind, as JSON: it makes the one from the other.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// As a file would say it: numbers of 32 bits in their own few digits.
fn value<T: Serialize>(of: &T) -> serde_json::Result<Value> {
    serde_json::from_str(&serde_json::to_string(of)?)
}

/// What makes `want` from `base`; `None` where they are the same.
///
/// Parts of `want` at the paths `spared`, such as `/cursor/head`, do not count. Errors: a path of a file that is no
/// Unicode.
pub fn between<T: Serialize>(base: &T, want: &T, spared: &[&str]) -> serde_json::Result<Option<Value>> {
    let (base, mut want) = (value(base)?, value(want)?);
    for path in spared {
        if let (Some(old), Some(new)) = (base.pointer(path), want.pointer_mut(path)) {
            *new = old.clone();
        }
    }
    Ok(difference(&base, &want))
}

fn same_keys(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    a.len() == b.len() && a.keys().all(|k| b.contains_key(k))
}

fn difference(base: &Value, want: &Value) -> Option<Value> {
    match (base, want) {
        _ if base == want => None,
        (Value::Object(a), Value::Object(b)) if same_keys(a, b) => {
            let parts = b.iter().filter_map(|(key, v)| Some((key.clone(), difference(a.get(key)?, v)?)));
            Some(Value::Object(parts.collect()))
        }
        _ => Some(want.clone()),
    }
}

/// `base` with what `patch` says; what it does not name stays.
///
/// Errors: a name that nothing in `base` has, a value that does not fit there.
pub fn onto<T: Serialize + DeserializeOwned>(base: &T, patch: &Value) -> Result<T, String> {
    let before = value(base).map_err(|e| e.to_string())?;
    let mut all = before.clone();
    if !patch.is_object() {
        return Err(r#"write it as an object of JSON, such as {"cursor":{"head":[2,0]}}"#.into());
    }
    put(&mut all, patch);
    let named = |name: String| format!("nothing is named {name}");
    let out: T =
        serde_json::from_value(all).map_err(|e| unknown(&before, patch).map_or_else(|| e.to_string(), named))?;
    let back = value(&out).map_err(|e| e.to_string())?;
    unknown(&back, patch).map_or(Ok(out), |name| Err(named(name)))
}

fn put(base: &mut Value, patch: &Value) {
    match (base, patch) {
        // What goes by one of several names, such as where a model comes from, is replaced as a whole.
        (Value::Object(a), Value::Object(b)) if b.keys().all(|k| a.contains_key(k)) => {
            for (key, v) in b {
                if let Some(old) = a.get_mut(key) {
                    put(old, v);
                }
            }
        }
        (base, patch) => *base = patch.clone(),
    }
}

/// A name of `patch` that `all` does not have, which reads over what it does not know.
fn unknown(all: &Value, patch: &Value) -> Option<String> {
    let (Value::Object(all), Value::Object(patch)) = (all, patch) else { return None };
    patch.iter().find_map(|(key, v)| match all.get(key) {
        None => Some(key.clone()),
        Some(inner) => unknown(inner, v).map(|name| format!("{key}.{name}")),
    })
}

/// Whether a word can be said as it is: shells, terminals and XML keep it, and it reads in the order it is written in.
pub fn is_plain(word: &str) -> bool {
    !word.chars().any(needs_escape)
}

fn needs_escape(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// The value as JSON in plain characters only.
pub fn text(value: &Value) -> String {
    let mut out = String::new();
    for c in value.to_string().chars() {
        match needs_escape(c) {
            // JSON itself has escaped those that are more than one unit of UTF-16 or stand outside of strings.
            true => out.push_str(&format!("\\u{:04x}", c as u32)),
            false => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::ModelSource;
    use crate::pane::Pane;
    use serde_json::json;

    #[test]
    fn what_differs_makes_the_one_from_the_other() {
        let base = Pane::default();
        let mut want = base.clone();
        assert_eq!(between(&base, &want, &[]).unwrap(), None);
        want.run.model = ModelSource::Path("/models/a".into());
        want.cursor.head = (2, 3);
        want.shows.threshold = 0.1;
        let patch = between(&base, &want, &[]).unwrap().unwrap();
        let said =
            json!({"run": {"model": {"path": "/models/a"}}, "cursor": {"head": [2, 3]}, "shows": {"threshold": 0.1}});
        assert_eq!(patch, said);
        assert_eq!(onto(&base, &patch).unwrap(), want);
        let spared = between(&base, &want, &["/cursor/head", "/run/model"]).unwrap().unwrap();
        assert_eq!(spared, json!({"shows": {"threshold": 0.1}}));
    }

    #[test]
    fn names_that_nothing_has_are_named() {
        let of = |patch: Value| onto(&Pane::default(), &patch).unwrap_err();
        assert!(of(json!({"cursor": {"hed": [1, 2]}})).contains("cursor.hed"));
        assert!(of(json!({"shows": {"scale": {"klip": 3}}})).contains("shows.scale.klip"));
        assert!(of(json!({"tomato": 1})).contains("tomato"));
        assert!(of(json!([1])).contains("object"));
        assert!(of(json!({"cursor": {"head": "x"}})).contains("invalid type"));
    }

    #[test]
    fn plain_json_says_the_same() {
        let all = json!({"prompt": "a\n\u{202e}b\u{7f}\u{85}\u{feff}\u{0}'😀é"});
        let text = text(&all);
        assert!(is_plain(&text) && text.contains("😀é"), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), all);
        assert!(is_plain("it's \\ \"x\" ü") && !is_plain("a\tb"));
    }
}
