//! `config.json` as it comes: every number is checked before it sizes anything.

use crate::{Error, Result};
use serde_json::{Map, Value};

/// A view of a configuration, with the names it may use for one thing.
#[derive(Clone, Copy)]
pub struct Config<'a>(pub &'a Map<String, Value>);

/// More than any published model has, and small enough that products do not overflow.
const MAX_SIZE: u64 = 1 << 24;

impl<'a> Config<'a> {
    /// The first of `keys` that is there and not null.
    pub fn value(&self, keys: &[&str]) -> Option<&'a Value> {
        keys.iter().filter_map(|k| self.0.get(*k)).find(|v| !v.is_null())
    }

    /// A size of at least 1. Errors if it is missing, no whole number, or absurd.
    pub fn size(&self, keys: &[&str]) -> Result<usize> {
        self.size_opt(keys)?.ok_or_else(|| Error::invalid(format!("config.json has no {}", keys[0])))
    }

    /// A size of at least 1, if it is there.
    pub fn size_opt(&self, keys: &[&str]) -> Result<Option<usize>> {
        match self.value(keys) {
            None => Ok(None),
            Some(v) => match v.as_u64() {
                Some(n) if (1..=MAX_SIZE).contains(&n) => Ok(Some(n as usize)),
                _ => Err(Error::invalid(format!("config.json: {} is {v}, not a size from 1 to {MAX_SIZE}", keys[0]))),
            },
        }
    }

    /// A finite number, or `default`.
    pub fn number(&self, keys: &[&str], default: f64) -> Result<f64> {
        match self.value(keys) {
            None => Ok(default),
            Some(v) => v
                .as_f64()
                .filter(|x| x.is_finite())
                .ok_or_else(|| Error::invalid(format!("config.json: {} is {v}, not a number", keys[0]))),
        }
    }

    /// A flag, or `default`.
    pub fn flag(&self, keys: &[&str], default: bool) -> bool {
        self.value(keys).and_then(Value::as_bool).unwrap_or(default)
    }

    /// A word, or `default`.
    pub fn word(&self, keys: &[&str], default: &'a str) -> &'a str {
        self.value(keys).and_then(Value::as_str).unwrap_or(default)
    }

    /// A nested object.
    pub fn sub(&self, key: &str) -> Option<Config<'a>> {
        self.0.get(key).and_then(Value::as_object).map(Config)
    }

    /// `d` split over `heads`. Errors unless it divides.
    pub fn split(d: usize, heads: usize, what: &str) -> Result<usize> {
        if heads == 0 || !d.is_multiple_of(heads) {
            return Err(Error::invalid(format!("config.json: {d} does not divide into {heads} {what}")));
        }
        Ok(d / heads)
    }
}
