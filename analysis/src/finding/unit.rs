//! What an index counts. Selection, hover and labels follow from it, in every picture alike.

use crate::trace::Tower;
use crate::{Error, Result};
use serde_json::{Value, json};
use std::sync::Arc;

/// A regular grid of cells over the input's picture, row by row.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CellGrid {
    /// Rows of cells.
    pub rows: usize,
    /// Cells in a row.
    pub cols: usize,
    /// The part of the picture that the grid covers, in pixels of the original: left, top, width, height. `None` is
    /// all of it.
    pub area: Option<[f32; 4]>,
}

/// What an index counts.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Unit {
    /// Tokens of one stack of layers, in order.
    Tokens(Tower),
    /// Bytes of the text (UTF-8).
    Bytes,
    /// Cells of a grid over the picture.
    Cells(CellGrid),
    /// Samples of a series.
    Samples,
    /// Layers, from 0.
    Layers,
    /// Heads of all layers: index = layer · `per_layer` + head.
    Heads {
        /// Heads in each layer.
        per_layer: usize,
    },
    /// Steps of a decode, or stages of any other process, in order.
    Steps,
    /// Places in a sequence that is being written.
    Positions,
    /// Ids of a vocabulary or codebook.
    Ids,
    /// Experts of a layer.
    Experts,
    /// A short list of anything else, by name.
    Named(#[serde(with = "super::name::shared")] Arc<[String]>),
}

impl Unit {
    /// A list by name.
    pub fn named<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        Self::Named(names.into_iter().map(Into::into).collect())
    }

    /// What one of them is called; heads the column of indices.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Tokens(_) => "token",
            Self::Bytes => "byte",
            Self::Cells(_) => "cell",
            Self::Samples => "sample",
            Self::Layers => "layer",
            Self::Heads { .. } => "head",
            Self::Steps => "step",
            Self::Positions => "position",
            Self::Ids => "id",
            Self::Experts => "expert",
            Self::Named(_) => "item",
        }
    }

    /// Several of them.
    pub fn plural(&self) -> &'static str {
        match self {
            Self::Tokens(_) => "tokens",
            Self::Bytes => "bytes",
            Self::Cells(_) => "cells",
            Self::Samples => "samples",
            Self::Layers => "layers",
            Self::Heads { .. } => "heads",
            Self::Steps => "steps",
            Self::Positions => "positions",
            Self::Ids => "ids",
            Self::Experts => "experts",
            Self::Named(_) => "items",
        }
    }

    /// How many there are, where the unit itself says so.
    pub fn count(&self) -> Option<usize> {
        match self {
            Self::Cells(g) => g.rows.checked_mul(g.cols),
            Self::Named(names) => Some(names.len()),
            _ => None,
        }
    }

    /// Number `i` in words, for hover texts and screen readers.
    pub fn label(&self, i: usize) -> String {
        match self {
            Self::Cells(g) if g.cols > 0 => format!("row {}, column {}", i / g.cols, i % g.cols),
            Self::Heads { per_layer } if *per_layer > 0 => format!("layer {}, head {}", i / per_layer, i % per_layer),
            Self::Named(names) => names.get(i).cloned().unwrap_or_else(|| format!("item {i}")),
            _ => format!("{} {i}", self.name()),
        }
    }

    /// Headings of the columns that name an element in a table.
    pub fn columns(&self) -> &'static [&'static str] {
        match self {
            Self::Tokens(_) => &["token"],
            Self::Bytes => &["byte"],
            Self::Cells(_) => &["cell", "row", "column"],
            Self::Samples => &["sample"],
            Self::Layers => &["layer"],
            Self::Heads { .. } => &["layer", "head"],
            Self::Steps => &["step"],
            Self::Positions => &["position"],
            Self::Ids => &["id"],
            Self::Experts => &["expert"],
            Self::Named(_) => &["item"],
        }
    }

    /// The cells under [`Unit::columns`] for element `i`.
    pub fn cells(&self, i: usize) -> Vec<Value> {
        match self {
            Self::Cells(g) => vec![json!(i), json!(i / g.cols.max(1)), json!(i % g.cols.max(1))],
            Self::Heads { per_layer } => vec![json!(i / per_layer.max(&1)), json!(i % per_layer.max(&1))],
            Self::Named(_) => vec![json!(self.label(i))],
            _ => vec![json!(i)],
        }
    }

    /// Errors unless `n` elements can be all there are of this unit.
    pub(super) fn holds(&self, n: usize) -> Result<()> {
        match self.count() {
            Some(own) if own != n => Err(Error::invalid(format!("{n} values for {own} {}", self.plural()))),
            _ => match self {
                Self::Heads { per_layer } if *per_layer == 0 || !n.is_multiple_of(*per_layer) => {
                    Err(Error::invalid(format!("{n} values are not whole layers of {per_layer} heads")))
                }
                _ => Ok(()),
            },
        }
    }

    /// Errors unless `n` of these and `m` of those are the same things, so that one can be taken from the other.
    pub(super) fn matches(&self, n: usize, other: &Self, m: usize) -> Result<()> {
        if self != other {
            let words = (self.plural(), other.plural());
            return Err(Error::invalid(match words.0 == words.1 {
                true => format!("these are different {}", words.0),
                false => format!("one counts {} and the other {}", words.0, words.1),
            }));
        }
        if n != m {
            return Err(Error::invalid(format!("one has {n} {} and the other {m}", self.plural())));
        }
        Ok(())
    }
}

/// The same values once per layer, or once per step.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Stages<T> {
    /// What the stages count: layers or steps, as a rule.
    pub unit: Unit,
    /// `[stage][element]`.
    pub values: Vec<Vec<T>>,
}

impl<T> Stages<T> {
    /// Errors unless every stage has `n` elements.
    pub(super) fn check(&self, n: usize) -> Result<()> {
        self.unit.holds(self.values.len())?;
        match self.values.iter().position(|v| v.len() != n) {
            Some(i) => {
                let got = self.values[i].len();
                Err(Error::invalid(format!("{}: {got} values instead of {n}", self.unit.label(i))))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_named_by_what_they_are() {
        let cells = Unit::Cells(CellGrid { rows: 2, cols: 3, area: None });
        assert_eq!((cells.label(4), cells.count()), ("row 1, column 1".into(), Some(6)));
        assert_eq!(cells.cells(4), [json!(4), json!(1), json!(1)]);
        assert_eq!(Unit::Heads { per_layer: 4 }.label(9), "layer 2, head 1");
        assert_eq!(Unit::named(["a", "b"]).label(1), "b");
        assert_eq!(Unit::Tokens(Tower::Text).label(7), "token 7");
    }

    #[test]
    fn what_does_not_fit_or_match_is_said() {
        let cells = |rows| Unit::Cells(CellGrid { rows, cols: 3, area: None });
        assert_eq!(cells(2).holds(5).unwrap_err().to_string(), "5 values for 6 cells");
        assert!(Unit::Heads { per_layer: 4 }.holds(8).is_ok() && Unit::Heads { per_layer: 4 }.holds(9).is_err());
        let words = |a: &Unit, n, b: &Unit, m| a.matches(n, b, m).unwrap_err().to_string();
        assert_eq!(words(&cells(2), 6, &cells(4), 12), "these are different cells");
        assert_eq!(words(&Unit::Layers, 2, &Unit::Steps, 2), "one counts layers and the other steps");
        assert_eq!(words(&Unit::Layers, 2, &Unit::Layers, 3), "one has 2 layers and the other 3");
    }
}
