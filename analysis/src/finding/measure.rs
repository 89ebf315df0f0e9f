//! What numbers and classes of a picture mean: names, units, definitions, looks.

use super::name::Name;
use crate::{Error, Result};
use serde_json::{Value, json};
use std::borrow::Cow;

/// What a number is: legend, axis and column heading come from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Measure {
    /// Name, e.g. `surprisal`.
    #[serde(deserialize_with = "super::name::read_name")]
    pub name: Name,
    /// Unit, e.g. `nats`; empty for plain numbers.
    #[serde(deserialize_with = "super::name::read_name")]
    pub unit: Name,
    /// Whether values have a sign, so that a diverging colour map fits.
    pub signed: bool,
}

impl Measure {
    /// Values from 0 up.
    pub const fn new(name: &'static str, unit: &'static str) -> Self {
        Self { name, unit, signed: false }
    }

    /// Values on both sides of 0.
    pub const fn signed(name: &'static str, unit: &'static str) -> Self {
        Self { name, unit, signed: true }
    }

    /// Name and unit, as on an axis.
    pub fn words(&self) -> String {
        match (self.name, self.unit) {
            (name, "") => name.to_string(),
            ("", unit) => unit.to_string(),
            (name, unit) => format!("{name} ({unit})"),
        }
    }

    /// The measure of a difference. Errors unless both are in the same unit.
    pub(super) fn minus(&self, other: &Self) -> Result<Self> {
        if self.unit != other.unit || (self.unit.is_empty() && self.name != other.name) {
            return Err(Error::invalid(format!(
                "one is in {} and the other in {}",
                if self.unit.is_empty() { self.name } else { self.unit },
                if other.unit.is_empty() { other.name } else { other.unit }
            )));
        }
        Ok(Self { signed: true, ..*self })
    }
}

/// How a class stands out: each has a colour and a shape, so that colour is never all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Look {
    /// One of many alike, told apart by number.
    Category(usize),
    /// What was hoped for: accepted, kept, right.
    Good,
    /// What was given and needed no guess, such as the token that a verifier adds itself.
    Given,
    /// What was not: rejected, wrong.
    Bad,
    /// What matters less: never looked at, dropped, far away.
    Quiet,
    /// Neither.
    Plain,
}

/// A named class of elements, nodes or cells.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Class {
    /// Name, as in the legend.
    pub name: Cow<'static, str>,
    /// What makes something belong to it; empty if the name says it.
    pub meaning: Cow<'static, str>,
    /// How it stands out.
    pub look: Look,
}

impl Class {
    /// A class with a sentence about it.
    pub fn new(name: impl Into<Cow<'static, str>>, meaning: impl Into<Cow<'static, str>>, look: Look) -> Self {
        Self { name: name.into(), meaning: meaning.into(), look }
    }

    /// Classes told apart by number only, such as codes and experts.
    pub fn categories<S: Into<Cow<'static, str>>>(names: impl IntoIterator<Item = S>) -> Vec<Self> {
        names.into_iter().enumerate().map(|(i, name)| Self::new(name, "", Look::Category(i))).collect()
    }
}

/// How many of `all` there are of each of `n` classes.
pub fn count(n: usize, all: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut out = vec![0; n];
    for c in all {
        if let Some(n) = out.get_mut(c) {
            *n += 1;
        }
    }
    out
}

/// Errors unless the names differ.
pub(super) fn check_classes(classes: &[Class]) -> Result<()> {
    for (i, c) in classes.iter().enumerate() {
        if c.name.is_empty() || classes[..i].iter().any(|d| d.name == c.name) {
            return Err(Error::invalid(format!("class {i} needs a name of its own, not \"{}\"", c.name)));
        }
    }
    Ok(())
}

/// Errors unless every value is finite.
pub(super) fn check_finite(what: &str, values: impl IntoIterator<Item = f64>) -> Result<()> {
    match values.into_iter().enumerate().find(|(_, v)| !v.is_finite()) {
        Some((i, v)) => Err(Error::invalid(format!("{what} {i} is {v}"))),
        None => Ok(()),
    }
}

/// A value of a [`Figure`].
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Datum {
    /// A real number.
    Number(f64),
    /// A share from 0 to 1, shown in per cent.
    Share(f64),
    /// A whole number.
    Count(usize),
    /// Yes or no.
    Flag(bool),
    /// Words.
    Text(String),
}

/// One result beside the pictures, with its definition.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Figure {
    /// Name, e.g. `tokens per round`.
    pub name: Cow<'static, str>,
    /// The value.
    pub value: Datum,
    /// Unit; empty for shares, counts and words.
    #[serde(deserialize_with = "super::name::read_name")]
    pub unit: Name,
    /// How it is defined, for the hover text.
    pub meaning: Cow<'static, str>,
}

impl Figure {
    /// A figure without a unit.
    pub fn new(name: impl Into<Cow<'static, str>>, value: Datum, meaning: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), value, unit: "", meaning: meaning.into() }
    }

    /// The same in a unit.
    pub fn unit(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }

    /// Value and unit in words.
    pub fn words(&self) -> String {
        let value = match &self.value {
            Datum::Number(v) if *v == 0.0 || (0.01..1000.0).contains(&v.abs()) => format!("{v:.3}"),
            Datum::Number(v) => format!("{v:.2e}"),
            Datum::Share(v) => format!("{:.1}%", v * 100.0),
            Datum::Count(n) => n.to_string(),
            Datum::Flag(b) => if *b { "yes" } else { "no" }.to_string(),
            Datum::Text(s) => s.clone(),
        };
        if self.unit.is_empty() { value } else { format!("{value} {}", self.unit) }
    }

    /// The value for scripts; numbers that are not finite are null.
    pub fn json(&self) -> Value {
        match &self.value {
            Datum::Number(v) | Datum::Share(v) => json!(v),
            Datum::Count(n) => json!(n),
            Datum::Flag(b) => json!(b),
            Datum::Text(s) => json!(s),
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        match self.value {
            Datum::Share(v) if !(0.0..=1.0).contains(&v) => {
                Err(Error::invalid(format!("figure \"{}\": {v} is no share", self.name)))
            }
            Datum::Number(v) if !v.is_finite() => Err(Error::invalid(format!("figure \"{}\" is {v}", self.name))),
            _ => Ok(()),
        }
    }
}

/// A claim that was checked on this very run, e.g. that a decode gives the target's own text.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Proof {
    /// What is claimed, in a word or two, e.g. `lossless`.
    pub claim: Cow<'static, str>,
    /// Whether it holds here.
    pub holds: bool,
    /// What was compared, and how it came out.
    pub words: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_are_read_as_on_an_axis_and_subtract_only_in_one_unit() {
        let nats = Measure::new("surprisal", "nats");
        assert_eq!((nats.words(), Measure::new("rank", "").words()), ("surprisal (nats)".into(), "rank".into()));
        assert!(nats.minus(&Measure::new("KL", "nats")).unwrap().signed);
        let bits = Measure::new("surprisal", "bits");
        assert_eq!(nats.minus(&bits).unwrap_err().to_string(), "one is in nats and the other in bits");
        assert!(Measure::new("rank", "").minus(&Measure::new("order", "")).is_err());
    }

    #[test]
    fn figures_in_words_and_wrong_shares() {
        let figure = |value| Figure::new("f", value, "");
        assert_eq!(figure(Datum::Share(0.1234)).words(), "12.3%");
        assert_eq!(figure(Datum::Number(0.5)).unit("ms").words(), "0.500 ms");
        assert_eq!(figure(Datum::Number(1e-9)).words(), "1.00e-9");
        assert!(figure(Datum::Share(1.5)).check().is_err() && figure(Datum::Number(f64::NAN)).check().is_err());
        assert!(check_classes(&Class::categories(["a", "b", "a"])).is_err());
    }
}
