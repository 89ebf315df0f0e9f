//! Changes to an input. What the form of the file is made of is changed as such, so that most inputs get behind the
//! outermost check; the rest is changed as plain bytes.

use rand::Rng;
use rand::seq::IndexedRandom as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

/// What an input is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Anything.
    Bytes,
    /// One JSON value.
    Json,
    /// Eight bytes of length, a JSON header of that length, numbers.
    Safetensors,
}

/// Numbers at which lengths, offsets and products of both go wrong.
const EDGES: &[u64] = &[
    0,
    1,
    2,
    7,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    1 << 53,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// `input` with one to four changes; `other` is another input of the same parser, to take parts from.
pub fn mutated(input: &[u8], other: &[u8], form: Form, words: &[&str], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut out = input.to_vec();
    for _ in 0..rng.random_range(1..=4) {
        let whole = match form {
            Form::Bytes => None,
            Form::Json if rng.random_bool(0.8) => json_of(&out, other, words, rng),
            Form::Safetensors if rng.random_bool(0.7) => header_of(&out, other, words, rng),
            Form::Json | Form::Safetensors => None,
        };
        match whole {
            Some(changed) => out = changed,
            None => bytes_of(&mut out, other, words, rng),
        }
    }
    out
}

fn json_of(input: &[u8], other: &[u8], words: &[&str], rng: &mut ChaCha8Rng) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(input).ok()?;
    let other: Value = serde_json::from_slice(other).unwrap_or(Value::Null);
    change(&mut value, &other, words, rng);
    serde_json::to_vec(&value).ok()
}

fn header_of(input: &[u8], other: &[u8], words: &[&str], rng: &mut ChaCha8Rng) -> Option<Vec<u8>> {
    let split = |bytes: &[u8]| -> Option<(Value, usize)> {
        let length = usize::try_from(u64::from_le_bytes(*bytes.first_chunk()?)).ok()?;
        let end = length.checked_add(8)?;
        Some((serde_json::from_slice(bytes.get(8..end)?).ok()?, end))
    };
    let (mut header, end) = split(input)?;
    change(&mut header, &split(other).map_or(Value::Null, |o| o.0), words, rng);
    let text = serde_json::to_vec(&header).ok()?;
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend(text);
    out.extend(&input[end..]);
    Some(out)
}

/// Changes one node of `value`, itself or any below.
fn change(value: &mut Value, other: &Value, words: &[&str], rng: &mut ChaCha8Rng) {
    let at = rng.random_range(0..nodes(value));
    let from = rng.random_range(0..nodes(other));
    let mut taken = Value::Null;
    visit(&mut other.clone(), &mut { from }, &mut |v| taken = v.clone());
    visit(value, &mut { at }, &mut |v| change_node(v, &taken, words, rng));
}

/// The value and everything below it, counted.
fn nodes(v: &Value) -> usize {
    1 + match v {
        Value::Array(list) => list.iter().map(nodes).sum(),
        Value::Object(map) => map.values().map(nodes).sum(),
        _ => 0,
    }
}

/// Calls `f` with node number `at`, counted from the top.
fn visit(v: &mut Value, at: &mut usize, f: &mut dyn FnMut(&mut Value)) -> bool {
    if *at == 0 {
        f(v);
        return true;
    }
    *at -= 1;
    match v {
        Value::Array(list) => list.iter_mut().any(|v| visit(v, at, f)),
        Value::Object(map) => map.values_mut().any(|v| visit(v, at, f)),
        _ => false,
    }
}

fn change_node(v: &mut Value, taken: &Value, words: &[&str], rng: &mut ChaCha8Rng) {
    match rng.random_range(0..8) {
        0 => return *v = hostile(rng),
        1 => return *v = taken.clone(),
        2 if !words.is_empty() => return *v = json!(words.choose(rng)),
        _ => {}
    }
    match v {
        Value::Array(list) => change_list(list, taken, rng),
        Value::Object(map) => change_map(map, taken, words, rng),
        Value::Number(n) => *v = near(n.as_f64().unwrap_or(0.0), rng),
        Value::Bool(b) => *v = json!(!*b),
        Value::Null => *v = taken.clone(),
        Value::String(text) => match serde_json::from_str::<Value>(text) {
            // A header that holds JSON as a text.
            Ok(mut inner) if inner.is_object() => {
                change(&mut inner, taken, words, rng);
                *text = inner.to_string();
            }
            _ => *text = other_text(text, rng),
        },
    }
}

fn change_list(list: &mut Vec<Value>, taken: &Value, rng: &mut ChaCha8Rng) {
    let at = rng.random_range(0..=list.len());
    match rng.random_range(0..5) {
        0 => list.truncate(at),
        1 => list.insert(at, taken.clone()),
        2 if at < list.len() => drop(list.remove(at)),
        3 if at < list.len() => {
            let again = list[at].clone();
            list.insert(at, again);
        }
        _ => list.reverse(),
    }
}

fn change_map(map: &mut Map<String, Value>, taken: &Value, words: &[&str], rng: &mut ChaCha8Rng) {
    let keys: Vec<String> = map.keys().cloned().collect();
    let key = keys.choose(rng).cloned().unwrap_or_default();
    match rng.random_range(0..4) {
        0 => drop(map.remove(&key)),
        1 => drop(map.insert(key, taken.clone())),
        2 => {
            if let (Some(value), Some(name)) = (map.remove(&key), keys.choose(rng)) {
                map.insert(name.clone(), value);
            }
        }
        _ => drop(map.insert(words.choose(rng).map_or_else(|| key + "x", |w| w.to_string()), taken.clone())),
    }
}

fn hostile(rng: &mut ChaCha8Rng) -> Value {
    let some = [
        Value::Null,
        json!(-1),
        json!(0),
        json!(0.37),
        json!(-1e-300),
        json!(f64::MAX),
        json!(1e18 as u64),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(""),
        json!("x"),
        json!(true),
        json!([]),
        json!([3, -2]),
        json!([[]]),
        json!({}),
    ];
    some.choose(rng).cloned().unwrap_or_default()
}

fn near(n: f64, rng: &mut ChaCha8Rng) -> Value {
    let whole = |x: f64| if x.fract() == 0.0 && x.abs() < 1e15 { json!(x as i64) } else { json!(x) };
    match rng.random_range(0..6) {
        0 => whole(n + 1.0),
        1 => whole(n - 1.0),
        2 => whole(-n),
        3 => whole(n * 2.0),
        4 => json!(n + 0.5),
        _ => json!(EDGES.choose(rng)),
    }
}

fn other_text(text: &str, rng: &mut ChaCha8Rng) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    let at = rng.random_range(0..=chars.len());
    match rng.random_range(0..5) {
        0 => chars.truncate(at),
        1 => chars.insert(at, *['\0', '/', '.', '\u{301}', '漢', '\u{202e}', '🚂'].choose(rng).unwrap_or(&'x')),
        2 => chars = chars.repeat(rng.random_range(2..40)),
        3 if at < chars.len() => drop(chars.remove(at)),
        _ => chars.reverse(),
    }
    chars.into_iter().take(4000).collect()
}

fn bytes_of(out: &mut Vec<u8>, other: &[u8], words: &[&str], rng: &mut ChaCha8Rng) {
    if out.is_empty() {
        return out.extend(other);
    }
    // Headers stand in front and matter more than the numbers behind them.
    let near = out.len().min(if rng.random_bool(0.7) { 400 } else { usize::MAX });
    let at = rng.random_range(0..near);
    let to = (at + rng.random_range(1..=16)).min(out.len());
    match rng.random_range(0..9) {
        0 => out[at] = rng.random(),
        1 => out[at] ^= 1 << rng.random_range(0..8),
        2 => out.truncate(at),
        3 => drop(out.drain(at..to)),
        4 => out[at..to].fill(0xff),
        5 => {
            let part = out[at..to].to_vec();
            out.splice(at..at, part);
        }
        6 => {
            let number = EDGES.choose(rng).copied().unwrap_or_default().to_le_bytes();
            let width = *[1, 2, 4, 8].choose(rng).unwrap_or(&4);
            let end = (at + width).min(out.len());
            out[at..end].copy_from_slice(&number[..end - at]);
        }
        7 => drop(out.splice(at..at, words.choose(rng).unwrap_or(&"\0").bytes())),
        _ if !other.is_empty() => {
            let from = rng.random_range(0..other.len());
            let part = &other[from..(from + rng.random_range(1..=64)).min(other.len())];
            drop(out.splice(at..to, part.iter().copied()));
        }
        _ => out.reverse(),
    }
}
