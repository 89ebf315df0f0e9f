//! Row is not token: after pruning or merging, a row of an array stands for one token or for a group.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// For each row: the tokens it stands for (sorted) and the position id it carries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// Token indices behind each row.
    pub tokens: Vec<Vec<usize>>,
    /// Position id of each row.
    pub positions: Vec<usize>,
    /// Time, row and column that each row is turned by, where the model's rotary embedding asks for more than a
    /// position; empty elsewhere. A row that goes on keeps its own, however positions are counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<[u32; 3]>,
}

/// Position ids of the rows that go on after a regrouping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// Every row keeps the position that it had; a merged row that of its first listed old row.
    #[default]
    Keep,
    /// Counted anew from the lowest one on, as if the shorter sequence were all that there is.
    Renumber,
    /// Counted from this one on: where what is written stands behind rows that were counted anew.
    From(usize),
}

/// How new rows are made of old ones: `groups[i]` lists (old row, weight) of new row `i`;
/// the new value is the weighted sum, so the weights of a mean sum to one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Regroup {
    /// New rows in order. Of `n` rows, an index of `n + i` means row `i` of those that were set aside before: it
    /// comes back here.
    pub groups: Vec<Vec<(usize, f32)>>,
    /// For each new row, old ones that are added to its value, too, though it does not stand for them: they go on
    /// elsewhere, or leave. Empty where there are none at all.
    pub lent: Vec<Vec<(usize, f32)>>,
    /// Old rows that leave the layers here as they are, after those that wait already. They come back where a later
    /// regrouping names them (late entry), or else behind the last layer (early exit). Once nothing is left to work
    /// on, the remaining layers are skipped.
    pub aside: Vec<usize>,
    /// What positions the new rows have.
    pub positions: Positions,
}

impl Regroup {
    /// Keeps these old rows, in this order, unchanged.
    pub fn keep(rows: &[usize]) -> Self {
        Self::of(rows.iter().map(|&r| vec![(r, 1.0)]).collect())
    }

    /// Makes these new rows, at the positions that they had.
    pub fn of(groups: Vec<Vec<(usize, f32)>>) -> Self {
        Self { groups, ..Self::default() }
    }

    /// The same with positions counted anew.
    pub fn renumbered(self) -> Self {
        Self { positions: Positions::Renumber, ..self }
    }

    /// The same with these old rows added to the new ones.
    pub fn lending(self, lent: Vec<Vec<(usize, f32)>>) -> Self {
        Self { lent: if lent.iter().all(Vec::is_empty) { Vec::new() } else { lent }, ..self }
    }

    /// What is added to new row `i` of rows that it does not stand for.
    pub fn lent_to(&self, i: usize) -> &[(usize, f32)] {
        self.lent.get(i).map_or(&[], Vec::as_slice)
    }

    /// The new rows in this order of their numbers.
    pub fn in_order(&mut self, order: &[usize]) {
        self.groups = order.iter().map(|&i| std::mem::take(&mut self.groups[i])).collect();
        if !self.lent.is_empty() {
            self.lent = order.iter().map(|&i| std::mem::take(&mut self.lent[i])).collect();
        }
    }

    /// Row maps of what goes on and of what waits, from those of `rows` and of what waited before.
    ///
    /// Errors: a row that is not there, a new row that stands for nothing, a row that both goes on and waits.
    pub fn follow(&self, rows: &Rows, waiting: &Rows) -> Result<(Rows, Rows)> {
        let n = rows.len();
        let old = |row: usize| match row.checked_sub(n) {
            None => Ok((&rows.tokens[row], rows.positions[row])),
            Some(i) if i < waiting.len() => Ok((&waiting.tokens[i], waiting.positions[i])),
            Some(_) => Err(Error::invalid(format!("row {row} of {} does not exist", n + waiting.len()))),
        };
        let mut out = Rows::default();
        let mut goes_on = vec![false; n + waiting.len()];
        let turn = |row: usize| row.checked_sub(n).map_or_else(|| rows.turns.get(row), |i| waiting.turns.get(i));
        for g in &self.groups {
            let Some(&(first, _)) = g.first() else {
                return Err(Error::invalid("a new row must be made of at least one old row"));
            };
            let mut tokens = Vec::new();
            for &(row, _) in g {
                tokens.extend_from_slice(old(row)?.0);
                goes_on[row] = true;
            }
            tokens.sort_unstable();
            out.tokens.push(tokens);
            out.positions.push(old(first)?.1);
            out.turns.extend(turn(first));
        }
        if !self.lent.is_empty() && self.lent.len() != self.groups.len() {
            let e = format!("rows are lent to {} new rows of {}", self.lent.len(), self.groups.len());
            return Err(Error::invalid(e));
        }
        for &(row, _) in self.lent.iter().flatten() {
            old(row)?;
        }
        let mut wait = Rows::default();
        for i in (0..waiting.len()).map(|i| n + i).filter(|&i| !goes_on[i]).chain(self.aside.iter().copied()) {
            let (tokens, position) = old(i)?;
            if goes_on[i] {
                return Err(Error::invalid(format!("row {i} cannot both go on and be set aside")));
            }
            wait.tokens.push(tokens.clone());
            wait.positions.push(position);
            wait.turns.extend(turn(i));
        }
        let first = match self.positions {
            Positions::Keep => None,
            Positions::Renumber => rows.positions.iter().min().copied(),
            Positions::From(first) => Some(first),
        };
        if let Some(first) = first {
            out.positions = (first..first + out.len()).collect();
        }
        Ok((out, wait))
    }

    /// This regrouping and then `next`, as one. Errors: rows that are set aside by either.
    pub fn then(&self, next: &Self) -> Result<Self> {
        if !self.aside.is_empty() || !next.aside.is_empty() {
            return Err(Error::invalid("rows are set aside where other rows change, too; do so at another place"));
        }
        let times = |old: &[(usize, f32)], w: f32| old.iter().map(|&(r, v)| (r, v * w)).collect::<Vec<_>>();
        let (mut groups, mut lent) = (Vec::new(), Vec::new());
        for (i, g) in next.groups.iter().enumerate() {
            let (mut own, mut others) = (Vec::new(), Vec::new());
            for (&(row, w), owns) in g.iter().map(|m| (m, true)).chain(next.lent_to(i).iter().map(|m| (m, false))) {
                let old = self.groups.get(row).ok_or_else(|| Error::invalid(format!("row {row} does not exist")))?;
                if owns { &mut own } else { &mut others }.extend(times(old, w));
                others.extend(times(self.lent_to(row), w));
            }
            groups.push(own);
            lent.push(others);
        }
        let positions = if next.positions == Positions::Keep { self.positions } else { next.positions };
        Ok(Self { groups, positions, ..Self::default() }.lending(lent))
    }

    /// Old rows that wait afterwards, of `n` rows and `waiting` ones: those not called back, then those set aside.
    pub fn waits(&self, n: usize, waiting: usize) -> Vec<usize> {
        let back = |i: usize| self.groups.iter().flatten().any(|m| m.0 == i);
        (n..n + waiting).filter(|&i| !back(i)).chain(self.aside.iter().copied()).collect()
    }
}

impl Rows {
    /// Row i is token i at position i.
    pub fn identity(n: usize) -> Self {
        Self::span(0, n)
    }

    /// Row i is token `first + i` at position `first + i`.
    pub fn span(first: usize, n: usize) -> Self {
        Self {
            tokens: (first..first + n).map(|i| vec![i]).collect(),
            positions: (first..first + n).collect(),
            turns: Vec::new(),
        }
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

    /// The map after a regrouping of rows none of which wait.
    ///
    /// Errors: as [`Regroup::follow`].
    pub fn regroup(&self, regroup: &Regroup) -> Result<Self> {
        Ok(regroup.follow(self, &Self::default())?.0)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_set_aside_wait_and_come_back_where_they_are_named() {
        let rows = Rows::identity(4);
        let cut = Regroup { aside: vec![1, 3], ..Regroup::keep(&[0, 2]) };
        let (on, wait) = cut.follow(&rows, &Rows::default()).unwrap();
        assert_eq!((&on.positions[..], &wait.positions[..]), (&[0, 2][..], &[1, 3][..]));
        // Row 3 comes back as the second of those that wait, merged with row 0; row 1 waits on.
        let back = Regroup::of(vec![vec![(0, 0.5), (3, 0.5)], vec![(1, 1.0)]]);
        let (on, wait) = back.follow(&on, &wait).unwrap();
        assert_eq!((on.tokens, wait.tokens), (vec![vec![0, 3], vec![2]], vec![vec![1]]));
        assert_eq!(back.waits(2, 2), [2]);
        assert!(Regroup { aside: vec![0], ..Regroup::keep(&[0]) }.follow(&rows, &Rows::default()).is_err());
        assert!(Regroup::keep(&[4]).follow(&rows, &Rows::default()).is_err());
    }

    #[test]
    fn two_regroupings_are_one() {
        let first = Regroup::of(vec![vec![(0, 0.5), (2, 0.5)], vec![(1, 1.0)]]).renumbered();
        let both = first.then(&Regroup::of(vec![vec![(1, 0.25), (0, 0.75)]])).unwrap();
        assert_eq!(both.groups, [vec![(1, 0.25), (0, 0.375), (2, 0.375)]]);
        assert_eq!(both.positions, Positions::Renumber);
        assert!(first.then(&Regroup::keep(&[2])).is_err());
    }

    #[test]
    fn what_is_lent_is_added_and_stays_where_it_was() {
        // Row 0 takes half of row 1 on, which stays; then the two are added.
        let first = Regroup::keep(&[0, 1]).lending(vec![vec![(1, 0.5)], vec![]]);
        assert_eq!(first.follow(&Rows::identity(2), &Rows::default()).unwrap().0, Rows::identity(2));
        let both = first.then(&Regroup::of(vec![vec![(0, 1.0)], vec![(1, 1.0)]]).lending(vec![vec![], vec![(0, 2.0)]]));
        let both = both.unwrap();
        assert_eq!(both.groups, [vec![(0, 1.0)], vec![(1, 1.0)]]);
        assert_eq!(both.lent, [vec![(1, 0.5)], vec![(0, 2.0), (1, 1.0)]]);
        assert!(
            Regroup::keep(&[0]).lending(vec![vec![(7, 1.0)]]).follow(&Rows::identity(2), &Rows::default()).is_err()
        );
    }

    #[test]
    fn positions_are_kept_or_counted_anew_from_the_lowest() {
        let rows = Rows::span(10, 4);
        assert_eq!(rows.regroup(&Regroup::keep(&[1, 3])).unwrap().positions, [11, 13]);
        assert_eq!(rows.regroup(&Regroup::keep(&[1, 3]).renumbered()).unwrap().positions, [10, 11]);
        let from = Regroup { positions: Positions::From(3), ..Regroup::keep(&[1, 3]) };
        assert_eq!(rows.regroup(&from).unwrap().positions, [3, 4]);
    }
}
