//! A plan says, stage by stage, how rows become fewer rows; it is checked when made.

use crate::trace::{Regroup, Rows, Tower};
use crate::{Error, Result};

/// Where in the model a cut happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Between encoder and language model, on the projected image features.
    Features,
    /// Between attention and MLP of this layer.
    Mid(usize),
    /// After this layer.
    After(usize),
}

/// One step of a reduction.
#[derive(Debug, Clone, PartialEq)]
pub struct Cut {
    /// Where.
    pub stage: Stage,
    /// New rows from the rows that are there when the cut happens.
    pub regroup: Regroup,
}

/// A whole reduction of one tower's rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Whose rows.
    pub tower: Tower,
    /// Number of rows before the first cut (image features for [`Stage::Features`], else the tower's tokens).
    pub n_rows: usize,
    /// Cuts in order of their stages.
    pub cuts: Vec<Cut>,
    /// Whether attention counts merged tokens by their size (ToMe).
    pub proportional_attention: bool,
    /// One score per original row, where the method has one, for display.
    pub scores: Vec<f32>,
}

/// What became of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Still a row of its own.
    Kept,
    /// Part of the row with this index in the last row map.
    Merged(usize),
    /// Gone since the cut with this index.
    Dropped(usize),
}

/// Row maps and fates of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Row map after each cut.
    pub rows: Vec<Rows>,
    /// Fate of each original row after all cuts.
    pub fates: Vec<Fate>,
}

impl Plan {
    /// Follows the cuts and errors if one names a row that is not there, leaves none, or uses stages out of order.
    pub fn outcome(&self) -> Result<Outcome> {
        let mut rows = Rows::identity(self.n_rows);
        let mut all = Vec::new();
        let mut dropped_at = vec![None; self.n_rows];
        let mut last: Option<Stage> = None;
        for (i, cut) in self.cuts.iter().enumerate() {
            if last.is_some_and(|s| s >= cut.stage) {
                return Err(Error::invalid("cuts of a plan must be in order of their stages"));
            }
            last = Some(cut.stage);
            if cut.regroup.groups.is_empty() {
                return Err(Error::invalid("a cut must leave at least one row"));
            }
            rows = rows.regroup(&cut.regroup)?;
            let mut seen = vec![false; self.n_rows];
            for t in rows.tokens.iter().flatten() {
                if std::mem::replace(&mut seen[*t], true) {
                    return Err(Error::invalid(format!("token {t} is in two rows after cut {i}")));
                }
            }
            for (t, s) in seen.iter().enumerate() {
                if !s && dropped_at[t].is_none() {
                    dropped_at[t] = Some(i);
                }
            }
            all.push(rows.clone());
        }
        let fates = (0..self.n_rows)
            .map(|t| match dropped_at[t] {
                Some(i) => Fate::Dropped(i),
                None => {
                    let row = rows.row_of(t).expect("a token not dropped has a row");
                    if rows.size(row) == 1 { Fate::Kept } else { Fate::Merged(row) }
                }
            })
            .collect();
        Ok(Outcome { rows: all, fates })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_a_merge_and_a_drop() {
        let merge = Regroup::of(vec![vec![(0, 0.5), (2, 0.5)], vec![(1, 1.0)], vec![(3, 1.0)]]);
        let plan = Plan {
            tower: Tower::Vision,
            n_rows: 4,
            cuts: vec![
                Cut { stage: Stage::Mid(0), regroup: merge },
                Cut { stage: Stage::After(1), regroup: Regroup::keep(&[0, 2]) },
            ],
            proportional_attention: true,
            scores: vec![],
        };
        let out = plan.outcome().unwrap();
        assert_eq!(out.fates, [Fate::Merged(0), Fate::Dropped(1), Fate::Merged(0), Fate::Kept]);
        assert_eq!(out.rows[1].positions, [0, 3]);
    }

    #[test]
    fn refuses_a_row_that_does_not_exist() {
        let cuts = vec![Cut { stage: Stage::Features, regroup: Regroup::keep(&[5]) }];
        let plan = Plan { tower: Tower::Vision, n_rows: 2, cuts, proportional_attention: false, scores: vec![] };
        assert!(plan.outcome().is_err());
    }
}
