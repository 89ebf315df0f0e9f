//! Reads what a file says of a value as far as this version understands it: field by field where the whole does not do,
//! and says what had to be left out.

use super::Lost;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Values in a line that are looked at one by one. A line of more is read as a whole or not at all: taken apart it would
/// need many times its own length of memory.
const MOST: usize = 1 << 16;
/// Fields and entries of one line that are tried alone.
const TRIES: usize = 2000;

/// The value that `data` is JSON of, as far as it can be read; what cannot has its default. `what` names it in words.
///
/// `None`: it is no JSON, which is said, too.
pub(super) fn read<T>(data: &str, what: &str, lost: &mut Lost) -> Option<T>
where
    T: Default + Serialize + DeserializeOwned,
{
    let bad = |lost: &mut Lost, e: serde_json::Error| lost.say(format!("{what} is lost: {e}"));
    if values(data) > MOST {
        return serde_json::from_str(data).map_err(|e| bad(lost, e)).ok();
    }
    let given: Value = serde_json::from_str(data).map_err(|e| bad(lost, e)).ok()?;
    let base = serde_json::to_value(T::default()).map_err(|e| bad(lost, e)).ok()?;
    let read = match serde_json::from_value::<T>(given.clone()) {
        Ok(read) => read,
        Err(_) => {
            let reads = |v: Value| serde_json::from_value::<T>(v).map(drop).map_err(|e| e.to_string());
            let mut salvage = Salvage { out: base.clone(), base: &base, reads: &reads, what, lost, tries: TRIES };
            salvage.put("", &given);
            let out = salvage.out;
            serde_json::from_value(out).map_err(|e| bad(lost, e)).ok()?
        }
    };
    if let Ok(known) = serde_json::to_value(&read) {
        let mut strange = Vec::new();
        unknown(&given, &known, "", &mut strange);
        if !strange.is_empty() {
            let more = strange.len().saturating_sub(5);
            strange.truncate(5);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            lost.say(format!("{what}: this version does not know {}{more}", strange.join(", ")));
        }
    }
    Some(read)
}

/// An upper bound of the number of values in a JSON text: what parts them, outside strings.
fn values(text: &str) -> usize {
    let (mut n, mut inside, mut escaped) = (1, false, false);
    for b in text.bytes() {
        match b {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            b',' | b'[' | b'{' | b':' if !inside => n += 1,
            _ => {}
        }
    }
    n
}

/// Keys of `given` that `known`, which it was read as, does not have.
fn unknown(given: &Value, known: &Value, at: &str, out: &mut Vec<String>) {
    let (Value::Object(given), Value::Object(known)) = (given, known) else { return };
    for (key, v) in given {
        let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        match known.get(key) {
            Some(known) => unknown(v, known, &at, out),
            None => out.push(at.chars().take(80).collect()),
        }
    }
}

/// Puts together from defaults and a file what can be read.
struct Salvage<'a> {
    /// What is put together; it can always be read.
    out: Value,
    /// The defaults.
    base: &'a Value,
    reads: &'a dyn Fn(Value) -> Result<(), String>,
    what: &'a str,
    lost: &'a mut Lost,
    tries: usize,
}

impl Salvage<'_> {
    /// Whether the defaults with `v` at the pointer `at` can be read.
    fn may(&mut self, at: &str, v: &Value) -> Result<(), String> {
        self.tries = self.tries.checked_sub(1).ok_or("there is too much of it that cannot be read")?;
        let mut whole = self.base.clone();
        match whole.pointer_mut(at) {
            Some(place) => *place = v.clone(),
            None => return Err("there is no such field".into()),
        }
        (self.reads)(whole)
    }

    /// Takes over as much of `v` at the pointer `at` as can be read.
    fn put(&mut self, at: &str, v: &Value) {
        let why = match self.may(at, v) {
            Ok(()) => return self.set(at, v.clone()),
            Err(why) => why,
        };
        match (v, self.base.pointer(at)) {
            (Value::Object(given), Some(Value::Object(known))) => {
                // A field that stands in no default is named with the others that nobody knows.
                let fields: Vec<&String> = given.keys().filter(|k| known.contains_key(*k)).collect();
                if fields.is_empty() {
                    self.say(at, &why);
                }
                fields.into_iter().for_each(|k| self.put(&format!("{at}/{k}"), &given[k]));
            }
            (Value::Array(given), Some(Value::Array(_))) => self.entries(at, given, &why),
            _ => self.say(at, &why),
        }
    }

    /// Takes over those entries of a list that can be read alone.
    fn entries(&mut self, at: &str, given: &[Value], why: &str) {
        let mut kept = Vec::new();
        // A list of a fixed length has no entries that could stand alone.
        if self.may(at, &Value::Array(Vec::new())).is_err() {
            return self.say(at, why);
        }
        for v in given {
            match self.may(at, &Value::Array(vec![v.clone()])) {
                Ok(()) => kept.push(v.clone()),
                Err(why) => match self.call(at, v) {
                    Some(v) => kept.push(v),
                    None => self.say(at, &why),
                },
            }
        }
        let kept = Value::Array(kept);
        match self.may(at, &kept) {
            Ok(()) => self.set(at, kept),
            Err(_) => self.say(at, why),
        }
    }

    /// A method of which this version knows the name, with those of its parameters that it knows, too.
    fn call(&mut self, at: &str, v: &Value) -> Option<Value> {
        let (method, params) = (v.get("method")?, v.get("params")?.as_object()?);
        let with = |params: Map<String, Value>| serde_json::json!({ "method": method, "params": params });
        let alone = |v: Value| Value::Array(vec![v]);
        self.may(at, &alone(with(Map::new()))).ok()?;
        let mut kept = Map::new();
        for (key, v) in params {
            match self.may(at, &alone(with(Map::from_iter([(key.clone(), v.clone())])))) {
                Ok(()) => drop(kept.insert(key.clone(), v.clone())),
                Err(why) => self.say(at, &format!("{}: {why}", method.as_str().unwrap_or_default())),
            }
        }
        Some(with(kept))
    }

    fn set(&mut self, at: &str, v: Value) {
        if let Some(place) = self.out.pointer_mut(at) {
            *place = v;
        }
    }

    fn say(&mut self, at: &str, why: &str) {
        let field = at.trim_start_matches('/').replace('/', ".");
        let place = if field.is_empty() { self.what.into() } else { format!("{}, {field}", self.what) };
        // What there is instead would be a list of every method.
        let why = why.split_once("; known: ").map_or(why, |w| w.0);
        self.lost.say(format!("{place}: {why}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pane::Pane;
    use tokenscope_analysis::method::Kind;

    fn pane(data: &str) -> (Pane, Vec<String>) {
        let mut lost = Lost::default();
        let pane = read::<Pane>(data, "pane 1", &mut lost).expect("JSON");
        (pane, lost.words().collect())
    }

    #[test]
    fn what_this_version_does_not_know_costs_that_choice_only() {
        let data = r#"{"run":{"model":{"sample":"tomato"},"prompt":"hi"},
            "choices":[{"method":"tomato"},{"method":"tome","params":{"r":5,"potato":1}}],
            "shows":{"curves":["tomato","tome"],"threshold":0.5,"found":"potato","later":{"a":1}},
            "cursor":{"head":[2],"round":3},"aim":{"tokens":[4,2],"anchor":2},"leek":1}"#;
        let (pane, lost) = pane(data);
        assert_eq!((&*pane.run.prompt, pane.run.model.title().as_str()), ("hi", "sample-lm"));
        assert_eq!(pane.call(Kind::Reduce).method, "tome");
        assert_eq!(pane.call(Kind::Reduce).params.iter().count(), 1);
        assert_eq!((pane.shows.curves.as_slice(), pane.shows.threshold), (["tome"].as_slice(), 0.5));
        assert_eq!((pane.cursor.head, pane.cursor.round, pane.aim.tokens()), ((1, 0), 3, [2, 4].as_slice()));
        for words in [
            "run.model.sample: no sample model named tomato",
            "choices: no method named tomato",
            "potato",
            "shows.curves: ",
            "shows.found: ",
            "cursor.head: ",
            "this version does not know shows.later, leek",
        ] {
            assert!(lost.iter().any(|l| l.contains(words)), "{words} in {lost:#?}");
        }
        assert_eq!(lost.len(), 7, "{lost:#?}");
    }

    #[test]
    fn no_json_is_nothing_and_a_huge_line_is_read_as_a_whole_or_not() {
        let mut lost = Lost::default();
        assert!(read::<Pane>("{\"run\":", "pane 1", &mut lost).is_none());
        let many = |n: usize| {
            format!(
                r#"{{"run":{{"model":{{"sample":"sample-lm"}},"prompt":""}},"partner":{{"sample":"sample-lm"}},"aim":{{"tokens":[{}0],"anchor":null}}}}"#,
                "1,".repeat(n)
            )
        };
        assert_eq!(read::<Pane>(&many(MOST), "pane 2", &mut lost).map(|p| p.aim.tokens().to_vec()), Some(vec![0, 1]));
        assert!(read::<Pane>(&many(MOST).replace("sample-lm", "x"), "pane 3", &mut lost).is_none());
        assert_eq!(lost.words().count(), 2);
        assert_eq!(values(r#"{"a,[":[1,2]}"#), 5);
    }
}
