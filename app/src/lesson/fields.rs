//! Objects of a file, read field by field, so that an error names file, step and field.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::fmt;

/// What is wrong with a lesson, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}: {file}")]
pub struct Wrong {
    /// What is wrong, and what would be right.
    pub what: String,
    /// Step and field, as `step 3, at.view`.
    pub place: String,
    /// The file.
    pub file: String,
}

/// An object whose fields are taken one after the other; what is left in the end is unknown.
pub(super) struct Fields<'f> {
    file: &'f str,
    /// The object's own place; empty for the whole file.
    place: String,
    map: Map<String, Value>,
    known: Vec<&'static str>,
}

impl<'f> Fields<'f> {
    /// The fields of `value`. Errors: it is no object.
    pub fn new(file: &'f str, place: impl Into<String>, value: Value) -> Result<Self, Wrong> {
        let out = Self { file, place: place.into(), map: Map::new(), known: Vec::new() };
        match value {
            Value::Object(map) => Ok(Self { map, ..out }),
            other => Err(out.wrong("", format!("this is {}, write an object in braces", kind(&other)))),
        }
    }

    /// The place of a field.
    pub fn place(&self, key: &str) -> String {
        match (self.place.as_str(), key) {
            ("", "") => "the whole file".into(),
            ("", key) => key.into(),
            (place, "") => place.into(),
            (place, key) if place.starts_with("step ") && !place.contains(", ") => format!("{place}, {key}"),
            (place, key) => format!("{place}.{key}"),
        }
    }

    /// The error about a field.
    pub fn wrong(&self, key: &str, what: impl fmt::Display) -> Wrong {
        Wrong { what: what.to_string(), place: self.place(key), file: self.file.into() }
    }

    /// A field as it stands there; `null` is as if it was not there.
    pub fn value(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.map.remove(key).filter(|v| !v.is_null())
    }

    /// A field of a type that serde reads.
    pub fn get<T: DeserializeOwned>(&mut self, key: &'static str, wanted: &str) -> Result<Option<T>, Wrong> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let is = kind(&value);
        let read = serde_json::from_value(value);
        read.map(Some).map_err(|why| self.wrong(key, format!("this is {is}, write {wanted} ({why})")))
    }

    /// A field that has to be there.
    pub fn must<T: DeserializeOwned>(&mut self, key: &'static str, wanted: &str) -> Result<T, Wrong> {
        self.get(key, wanted)?.ok_or_else(|| self.wrong(key, format!("it is missing, write {wanted}")))
    }

    /// A text that has to be there and say something.
    pub fn words(&mut self, key: &'static str, wanted: &str) -> Result<String, Wrong> {
        let text: String = self.must(key, wanted)?;
        if text.trim().is_empty() { Err(self.wrong(key, format!("it is empty, write {wanted}"))) } else { Ok(text) }
    }

    /// A field that is an object of its own.
    pub fn object(&mut self, key: &'static str) -> Result<Option<Fields<'f>>, Wrong> {
        let place = self.place(key);
        self.value(key).map(|v| Fields::new(self.file, place, v)).transpose()
    }

    /// A field that is a list, its elements with their places.
    pub fn list(&mut self, key: &'static str) -> Result<Option<Vec<(String, Value)>>, Wrong> {
        let place = self.place(key);
        match self.value(key) {
            None => Ok(None),
            Some(Value::Array(all)) => {
                Ok(Some(all.into_iter().enumerate().map(|(i, v)| (format!("{place}[{}]", i + 1), v)).collect()))
            }
            Some(other) => Err(self.wrong(key, format!("this is {}, write a list in brackets", kind(&other)))),
        }
    }

    /// A field that is one element or a list of them, with their places.
    pub fn one_or_more(&mut self, key: &'static str) -> Result<Vec<(String, Value)>, Wrong> {
        match self.map.get(key) {
            Some(Value::Array(_)) => Ok(self.list(key)?.unwrap_or_default()),
            _ => Ok(self.value(key).map(|v| (self.place(key), v)).into_iter().collect()),
        }
    }

    /// The first field that is left, of an object whose one field says what it is about.
    pub fn only(&mut self) -> Option<(String, Value)> {
        let key = self.map.keys().next()?.clone();
        self.map.remove(&key).map(|v| (key, v))
    }

    /// Errors if something is left that nobody asked for.
    pub fn end(&self) -> Result<(), Wrong> {
        match self.map.keys().next() {
            None => Ok(()),
            Some(key) => Err(self.wrong(key, format!("no field has this name; known: {}", self.known.join(", ")))),
        }
    }
}

/// What a value is, in words.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "yes or no",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
