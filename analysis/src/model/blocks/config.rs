//! `config.json` as it comes: every number is checked before it sizes anything.

use crate::{Error, Result};
use serde_json::{Map, Value};

/// What a family's configuration class says where a file says nothing; published files leave such values out.
pub type Defaults = &'static [(&'static str, f64)];

/// A view of a configuration, with the names it may use for one thing.
#[derive(Clone, Copy)]
pub struct Config<'a> {
    map: &'a Map<String, Value>,
    defaults: Defaults,
}

/// More than any published model has, and small enough that products do not overflow.
const MAX_SIZE: u64 = 1 << 24;

impl<'a> Config<'a> {
    /// A view of `map` without defaults.
    pub fn new(map: &'a Map<String, Value>) -> Self {
        Self { map, defaults: &[] }
    }

    /// The same view with the defaults of a family.
    pub fn with(self, defaults: Defaults) -> Self {
        Self { defaults, ..self }
    }

    /// Whether the file speaks of `key`, be it to say null.
    pub fn speaks_of(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The family's default of a number.
    pub fn default(&self, key: &str) -> Option<f64> {
        self.defaults.iter().find(|(k, _)| *k == key).map(|(_, v)| *v)
    }

    /// The first of `keys` that is there and not null.
    pub fn value(&self, keys: &[&str]) -> Option<&'a Value> {
        keys.iter().filter_map(|k| self.map.get(*k)).find(|v| !v.is_null())
    }

    /// A size of at least 1. Errors if it is missing without a default, no whole number, or absurd.
    pub fn size(&self, keys: &[&str]) -> Result<usize> {
        self.size_opt(keys)?.ok_or_else(|| Error::invalid(format!("config.json has no {}", keys[0])))
    }

    /// A size of at least 1, if it is there. Defaults go by the first key and hold only where the file is silent;
    /// null is an answer.
    pub fn size_opt(&self, keys: &[&str]) -> Result<Option<usize>> {
        match self.value(keys) {
            None if keys.iter().any(|k| self.speaks_of(k)) => Ok(None),
            None => Ok(self.default(keys[0]).map(|v| v as usize)),
            Some(v) => match v.as_u64() {
                Some(n) if (1..=MAX_SIZE).contains(&n) => Ok(Some(n as usize)),
                _ => Err(Error::invalid(format!("config.json: {} is {v}, not a size from 1 to {MAX_SIZE}", keys[0]))),
            },
        }
    }

    /// Height and width in pixels: one number for both, or a list of two.
    pub fn sides(&self, key: &str) -> Result<(usize, usize)> {
        let Some(Value::Array(list)) = self.value(&[key]) else {
            let side = self.size(&[key])?;
            return Ok((side, side));
        };
        let pixels = |v: &Value| v.as_u64().filter(|n| (1..=MAX_SIZE).contains(n)).map(|n| n as usize);
        match list.as_slice() {
            [h, w] => pixels(h).zip(pixels(w)),
            _ => None,
        }
        .ok_or_else(|| Error::invalid(format!("config.json: {key} is not a height and a width")))
    }

    /// A count, which may be 0, or `default`. Errors if it is no whole number or absurd.
    pub fn count(&self, keys: &[&str], default: usize) -> Result<usize> {
        match self.value(keys) {
            None => Ok(default),
            Some(v) => match v.as_u64() {
                Some(n) if n <= MAX_SIZE => Ok(n as usize),
                _ => Err(Error::invalid(format!("config.json: {} is {v}, not a number up to {MAX_SIZE}", keys[0]))),
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

    /// The constant that keeps a norm from dividing by zero. Errors unless it is a number from 0 to 1.
    pub fn eps(&self, keys: &[&str], default: f64) -> Result<f64> {
        let eps = self.number(keys, self.default(keys[0]).unwrap_or(default))?;
        if (0.0..=1.0).contains(&eps) {
            return Ok(eps);
        }
        Err(Error::invalid(format!("config.json: {} is {eps}, not a number from 0 to 1", keys[0])))
    }

    /// A flag, or `default`. Errors on anything but true and false.
    pub fn flag(&self, keys: &[&str], default: bool) -> Result<bool> {
        match self.value(keys) {
            None => Ok(default),
            Some(v) => {
                v.as_bool().ok_or_else(|| Error::invalid(format!("config.json: {} is {v}, not true or false", keys[0])))
            }
        }
    }

    /// A word, or `default`. Errors on anything but text.
    pub fn word(&self, keys: &[&str], default: &'a str) -> Result<&'a str> {
        match self.value(keys) {
            None => Ok(default),
            Some(v) => v.as_str().ok_or_else(|| Error::invalid(format!("config.json: {} is {v}, not a word", keys[0]))),
        }
    }

    /// A list of numbers, if it is there. Errors unless every entry is a finite number.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        let Some(v) = self.value(&[key]) else { return Ok(None) };
        let list: Option<Vec<f64>> = v.as_array().and_then(|l| l.iter().map(Value::as_f64).collect());
        let list = list.filter(|l| l.iter().all(|x| x.is_finite()));
        list.map(Some).ok_or_else(|| Error::invalid(format!("config.json: {key} is not a list of numbers")))
    }

    /// The architecture, e.g. `LlamaForCausalLM`; empty if the file names none.
    pub fn architecture(&self) -> &'a str {
        self.value(&["architectures"]).and_then(|v| v.get(0)).and_then(Value::as_str).unwrap_or("")
    }

    /// A nested object, without defaults.
    pub fn sub(&self, key: &str) -> Option<Config<'a>> {
        self.map.get(key).and_then(Value::as_object).map(Config::new)
    }

    /// `d` split over `heads`. Errors unless it divides.
    pub fn split(d: usize, heads: usize, what: &str) -> Result<usize> {
        if heads == 0 || !d.is_multiple_of(heads) {
            return Err(Error::invalid(format!("config.json: {d} does not divide into {heads} {what}")));
        }
        Ok(d / heads)
    }
}
