//! Row is not token: after pruning or merging, a row of an array stands for one token or for a group.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// For each row: the tokens it stands for (sorted) and the position id it carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// Token indices behind each row.
    pub tokens: Vec<Vec<usize>>,
    /// Position id of each row.
    pub positions: Vec<usize>,
}

/// How new rows are made of old ones: `groups[i]` lists (old row, weight) of new row `i`;
/// the new value is the weighted sum, so the weights of a mean sum to one.
#[derive(Debug, Clone, PartialEq)]
pub struct Regroup {
    /// New rows in order.
    pub groups: Vec<Vec<(usize, f32)>>,
}

impl Regroup {
    /// Keeps these old rows, in this order, unchanged.
    pub fn keep(rows: &[usize]) -> Self {
        Self { groups: rows.iter().map(|&r| vec![(r, 1.0)]).collect() }
    }
}

impl Rows {
    /// Row i is token i at position i.
    pub fn identity(n: usize) -> Self {
        Self { tokens: (0..n).map(|i| vec![i]).collect(), positions: (0..n).collect() }
    }

    /// Row i is token `first + i` at position `first + i`.
    pub fn span(first: usize, n: usize) -> Self {
        Self { tokens: (first..first + n).map(|i| vec![i]).collect(), positions: (first..first + n).collect() }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// True if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Number of tokens behind row `row`.
    pub fn size(&self, row: usize) -> usize {
        self.tokens[row].len()
    }

    /// True while every row is one token.
    pub fn is_unmerged(&self) -> bool {
        self.tokens.iter().all(|t| t.len() == 1)
    }

    /// The row that holds `token`, if it is still there.
    pub fn row_of(&self, token: usize) -> Option<usize> {
        self.tokens.iter().position(|t| t.contains(&token))
    }

    /// The map after a regrouping. A merged row keeps the position of its first listed old row.
    pub fn regroup(&self, regroup: &Regroup) -> Result<Self> {
        let mut out = Self { tokens: Vec::new(), positions: Vec::new() };
        for g in &regroup.groups {
            let Some(&(first, _)) = g.first() else {
                return Err(Error::invalid("a new row must be made of at least one old row"));
            };
            let mut tokens = Vec::new();
            for &(row, _) in g {
                let old = self
                    .tokens
                    .get(row)
                    .ok_or_else(|| Error::invalid(format!("row {row} of {} does not exist", self.len())))?;
                tokens.extend_from_slice(old);
            }
            tokens.sort_unstable();
            out.tokens.push(tokens);
            out.positions.push(self.positions[first]);
        }
        Ok(out)
    }

    /// Spreads one value per row back over `n_tokens` tokens; `None` where the token is gone.
    pub fn to_tokens(&self, per_row: &[f32], n_tokens: usize) -> Vec<Option<f32>> {
        let mut out = vec![None; n_tokens];
        for (tokens, &v) in self.tokens.iter().zip(per_row) {
            for &t in tokens {
                if let Some(o) = out.get_mut(t) {
                    *o = Some(v);
                }
            }
        }
        out
    }
}
