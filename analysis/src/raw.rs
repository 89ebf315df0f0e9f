//! The raw entry of methods: arrays and parameters in, JSON out. It is how people feed arrays from Python
//! (`tokenscope method NAME --input F --params F`) and how goldens check the program.

use crate::array::Array;
use crate::ctx::Ctx;
use crate::{Error, Result};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Arrays and JSON given to a raw entry.
#[derive(Debug, Clone, Default)]
pub struct RawInput {
    /// Tensors of `input.safetensors`, whatever their type, as f32 (integers up to 2^24 stay exact).
    pub arrays: BTreeMap<String, Array>,
    /// Content of `input.json`.
    pub json: Map<String, Value>,
    /// `params` of `params.json` merged over its `scalar_inputs`, merged over its other top-level fields.
    pub params: Map<String, Value>,
    /// What was asked for so far, in order: whoever tells the user of a refusal names it.
    asked: Arc<Mutex<Vec<String>>>,
}

impl RawInput {
    /// Names of the arrays and fields that the entry asked for so far, each once.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, name: &str) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if !asked.iter().any(|n| n == name) {
            asked.push(name.into());
        }
    }

    /// The array `name`, or an error that names it.
    pub fn array(&self, name: &str) -> Result<&Array> {
        self.note(name);
        self.arrays.get(name).ok_or_else(|| {
            let known = self.arrays.keys().cloned().collect::<Vec<_>>().join(", ");
            Error::Unknown { kind: "input array", name: name.into(), known }
        })
    }
    /// A field of the JSON input or, failing that, of the parameters.
    pub fn field(&self, name: &str) -> Result<&Value> {
        self.note(name);
        self.json.get(name).or_else(|| self.params.get(name)).ok_or_else(|| {
            let known = self.json.keys().chain(self.params.keys()).cloned().collect::<Vec<_>>().join(", ");
            Error::Unknown { kind: "input field", name: name.into(), known }
        })
    }
    /// A field as any type that JSON can hold.
    pub fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T> {
        T::deserialize(self.field(name)?).map_err(|e| Error::invalid(format!("field {name}: {e}")))
    }
    /// A field, or `default` where there is none.
    pub fn read_or<T: serde::de::DeserializeOwned>(&self, name: &str, default: T) -> Result<T> {
        match self.field(name) {
            Ok(_) => self.read(name),
            Err(_) => Ok(default),
        }
    }
    /// The array `name` with its `N` sizes.
    ///
    /// Errors: another number of axes, values that are not finite.
    pub fn finite<const N: usize>(&self, name: &str) -> Result<(&Array, [usize; N])> {
        let array = self.array(name)?;
        array.check_finite(name)?;
        Ok((array, array.dims(name)?))
    }
    /// A field that is a table of finite numbers, at least one row, all of one width.
    pub fn table(&self, name: &str) -> Result<Vec<Vec<f64>>> {
        let rows: Vec<Vec<f64>> = self.read(name)?;
        let width = rows.first().map_or(0, Vec::len);
        if width == 0 || rows.iter().any(|r| r.len() != width || r.iter().any(|x| !x.is_finite())) {
            return Err(Error::invalid(format!("field {name}: not a table of numbers with rows of one width")));
        }
        Ok(rows)
    }
    /// A field that is a distribution: shares of 1 that are none below 0 (within rounding).
    pub fn shares(&self, name: &str) -> Result<Vec<f64>> {
        let p: Vec<f64> = self.read(name)?;
        let proper = p.iter().all(|x| *x >= 0.0) && (p.iter().sum::<f64>() - 1.0).abs() < 1e-3;
        if !proper {
            return Err(Error::invalid(format!("field {name}: not a list of probabilities that sum to 1")));
        }
        Ok(p)
    }
    /// A field that is a whole number in `range`.
    pub fn within(&self, name: &str, range: std::ops::RangeInclusive<usize>) -> Result<usize> {
        let n: usize = self.read(name)?;
        let (low, high) = (range.start(), range.end());
        if range.contains(&n) {
            Ok(n)
        } else {
            Err(Error::invalid(format!("field {name}: {n} is not from {low} to {high}")))
        }
    }
    /// A number of rounds of something that is done over and over, or `default` where there is none.
    ///
    /// Errors: more than [`MAX_ROUNDS`].
    pub fn rounds(&self, name: &str, default: usize) -> Result<usize> {
        let n = self.read_or(name, default)?;
        if n > MAX_ROUNDS {
            return Err(Error::invalid(format!("field {name}: {n} rounds; at most {MAX_ROUNDS} are done")));
        }
        Ok(n)
    }
}

/// A number for JSON, which has no infinities: those are words, as in Python.
pub fn number(x: f64) -> Value {
    match x {
        x if x.is_nan() => Value::from("nan"),
        f64::INFINITY => Value::from("inf"),
        f64::NEG_INFINITY => Value::from("-inf"),
        x => Value::from(x),
    }
}

/// Most rounds of anything; published settings stay below a thousand.
pub const MAX_ROUNDS: usize = 10_000;

/// An entry for raw arrays. A method lists those that run its code in [`crate::method::Info::raw`].
#[derive(Debug, Clone, Copy)]
pub struct Adapter {
    /// Name on the command line.
    pub name: &'static str,
    /// Runs it.
    pub run: fn(&RawInput, &Ctx) -> Result<Value>,
}
