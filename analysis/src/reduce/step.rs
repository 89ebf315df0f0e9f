//! One step of a plan: what one place made of the rows that were there, in tokens and not in rows.

use super::decide::Decision;
use super::place::Place;
use crate::trace::{Positions, Regroup, Rows};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::ops::Range;

/// What one place made of the rows that were there. It speaks of tokens, so that plans can be joined and edited.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Step {
    /// Where.
    pub place: Place,
    /// Tile of a tiled image; 0 elsewhere.
    pub tile: usize,
    /// New rows in order: the tokens behind each, with their weights in its value. A row that stays as it is has
    /// weights that sum to 1, like any mean. Rows of tokens that are named nowhere stay where they are.
    pub rows: Vec<Vec<(usize, f64)>>,
    /// For each new row, tokens that are added to its value, too, with their weights, though they go on elsewhere or
    /// go; empty where there are none at all.
    pub lent: Vec<Vec<(usize, f64)>>,
    /// Tokens that are set aside here: no layer works on them until a later step names them again.
    pub aside: Vec<usize>,
    /// Tokens that go here.
    pub gone: Vec<usize>,
    /// What becomes of the position ids.
    pub positions: Positions,
    /// Score that a token was chosen by, where the method has one.
    pub scores: Vec<(usize, f32)>,
    /// The score below which tokens go, where that is the method's rule.
    pub threshold: Option<f32>,
    /// For [`Place::Step`]: the layers in which the keys of tokens that are not left are forgotten.
    pub forget: Option<Range<usize>>,
}

/// Where a token goes.
enum To {
    /// Into this new row, with this weight.
    Row(usize, f64),
    /// Aside.
    Aside,
    /// Away.
    Gone,
}

/// A new row: the old rows that it stands for, and those that it takes in besides.
type Made = (Vec<(usize, f64)>, Vec<(usize, f32)>);

/// A mean's weights sum to 1; what is off by less is rounding.
const ROUNDING: f64 = 1e-6;

impl Step {
    /// A step that keeps these tokens as they are and drops those.
    pub fn keep(place: Place, kept: &[usize], gone: &[usize]) -> Self {
        let rows = kept.iter().map(|&t| vec![(t, 1.0)]).collect();
        Self {
            place,
            tile: 0,
            rows,
            lent: Vec::new(),
            aside: Vec::new(),
            gone: gone.to_vec(),
            positions: Positions::Keep,
            scores: Vec::new(),
            threshold: None,
            forget: None,
        }
    }

    /// The same with positions counted anew.
    pub fn renumbered(self) -> Self {
        Self { positions: Positions::Renumber, ..self }
    }

    /// The scores by token, for a tower of `n` tokens; empty if it has none.
    pub fn by_token(&self, n: usize) -> Vec<Option<f32>> {
        let mut out = vec![None; if self.scores.is_empty() { 0 } else { n }];
        self.scores.iter().for_each(|&(t, s)| out[t] = Some(s));
        out
    }

    /// Every token that it names, ascending.
    pub fn named(&self) -> Vec<usize> {
        let rows = self.rows.iter().flatten().map(|m| m.0);
        let mut all: Vec<usize> = rows.chain(self.aside.iter().chain(&self.gone).copied()).collect();
        all.sort_unstable();
        all
    }

    /// What is to be done with `rows` and with those that `wait`, which need not be those that the step was made for:
    /// a row goes where the first of its tokens goes that the step names, and stays if it names none. Means stay means
    /// where some of their tokens are not there. `None` if nothing changes.
    pub fn on(&self, rows: &Rows, wait: &Rows) -> Option<Regroup> {
        let mut to: BTreeMap<usize, To> = self.aside.iter().map(|&t| (t, To::Aside)).collect();
        to.extend(self.gone.iter().map(|&t| (t, To::Gone)));
        for (i, row) in self.rows.iter().enumerate() {
            to.extend(row.iter().map(|&(t, w)| (t, To::Row(i, w))));
        }
        let mut groups: Vec<Vec<(usize, f64)>> = vec![Vec::new(); self.rows.len()];
        let (mut aside, mut others) = (Vec::new(), Vec::new());
        for (r, tokens) in rows.tokens.iter().chain(&wait.tokens).enumerate() {
            match tokens.iter().find_map(|t| to.get(t)) {
                Some(To::Row(i, _)) => {
                    let own = |t| match to.get(t) {
                        Some(To::Row(j, w)) if i == j => *w,
                        _ => 0.0,
                    };
                    groups[*i].push((r, tokens.iter().map(own).sum()));
                }
                Some(To::Aside) if r < rows.len() => aside.push(r),
                None if r < rows.len() => others.push(vec![(r, 1.0)]),
                _ => {}
            }
        }
        for (group, row) in groups.iter_mut().zip(&self.rows) {
            // In the order of the step: a merged row stands where the first of its rows stood.
            let place: BTreeMap<usize, usize> = row.iter().enumerate().map(|(i, m)| (m.0, i)).collect();
            let old = |r: usize| if r < rows.len() { &rows.tokens[r] } else { &wait.tokens[r - rows.len()] };
            group.sort_by_key(|m| old(m.0).iter().filter_map(|t| place.get(t)).min());
            let sum = |g: &[(usize, f64)]| g.iter().map(|m| m.1).sum::<f64>();
            let (had, has) = (sum(row), sum(group));
            // Means only: what takes others in, too, is none.
            if self.lent.is_empty() && (had - 1.0).abs() < ROUNDING && (has - had).abs() > ROUNDING && has > 0.0 {
                group.iter_mut().for_each(|m| m.1 *= had / has);
            }
        }
        let mut made: Vec<Made> =
            groups.into_iter().zip(self.lent_rows(rows, wait)).filter(|m| !m.0.is_empty()).collect();
        if !others.is_empty() {
            made.extend(others.into_iter().map(|g| (g, Vec::new())));
            made.sort_by_key(|m| m.0.iter().map(|m| m.0).min());
        }
        let stays = |(i, m): (usize, &Made)| m.0.len() == 1 && m.0[0].0 == i && m.1.is_empty();
        if made.len() == rows.len() && made.iter().enumerate().all(stays) {
            return None;
        }
        let (groups, lent): (Vec<_>, Vec<_>) = made.into_iter().unzip();
        let small = |g: Vec<(usize, f64)>| match g.as_slice() {
            // A row by itself is the row, whatever rounding left of its weight.
            [(r, w)] if (w - 1.0).abs() < ROUNDING => vec![(*r, 1.0)],
            _ => g.into_iter().map(|(r, w)| (r, w as f32)).collect(),
        };
        let groups = groups.into_iter().map(small).collect();
        Some(Regroup { groups, aside, positions: self.positions, lent: Vec::new() }.lending(lent))
    }

    /// The rows behind what is lent to each new row, as far as they are there.
    fn lent_rows(&self, rows: &Rows, wait: &Rows) -> Vec<Vec<(usize, f32)>> {
        if self.lent.is_empty() {
            return vec![Vec::new(); self.rows.len()];
        }
        let all = rows.tokens.iter().chain(&wait.tokens).enumerate();
        let row_of: BTreeMap<usize, usize> = all.flat_map(|(r, tokens)| tokens.iter().map(move |&t| (t, r))).collect();
        let of = |lent: &Vec<(usize, f64)>| {
            let mut sum: BTreeMap<usize, f64> = BTreeMap::new();
            for (t, w) in lent {
                if let Some(&r) = row_of.get(t) {
                    *sum.entry(r).or_default() += w;
                }
            }
            sum.into_iter().map(|(r, w)| (r, w as f32)).collect()
        };
        self.lent.iter().map(of).collect()
    }

    /// What a decision means for the tokens behind `rows` and those that `wait`, and both afterwards.
    ///
    /// Errors: nothing left, a row that is not there or in two new ones.
    pub(super) fn record(
        (place, tile): (Place, usize),
        (rows, wait): (&Rows, &Rows),
        decision: &Decision,
    ) -> Result<(Self, Rows, Rows)> {
        let n = rows.len();
        let same;
        let regroup = match &decision.regroup {
            Some(r) => r,
            None => {
                same = Regroup::keep(&(0..n).collect::<Vec<_>>());
                &same
            }
        };
        if regroup.groups.is_empty() && regroup.aside.is_empty() {
            return Err(Error::invalid(format!("nothing would be left {place}; keep at least one token")));
        }
        let (on, waits) = regroup.follow(rows, wait)?;
        let old = |r: usize| if r < n { &rows.tokens[r] } else { &wait.tokens[r - n] };
        let mut stays = vec![false; n];
        let mut taken = vec![false; n + wait.len()];
        for &(r, _) in regroup.groups.iter().flatten() {
            if std::mem::replace(&mut taken[r], true) {
                return Err(Error::invalid(format!("row {r} would be part of two rows {place}")));
            }
        }
        taken.iter().take(n).zip(&mut stays).for_each(|(t, s)| *s = *t);
        regroup.aside.iter().for_each(|&r| stays[r] = true);
        let row = |g: &Vec<(usize, f32)>| -> Vec<(usize, f64)> {
            let of = |&(r, w): &(usize, f32)| {
                let share = f64::from(w) / old(r).len().max(1) as f64;
                old(r).iter().map(move |&t| (t, share)).collect::<Vec<_>>()
            };
            g.iter().flat_map(of).collect()
        };
        // By token, each once, so that a plan that is carried out again is the same.
        let lent = regroup.lent.iter().map(|g| {
            let mut sum: BTreeMap<usize, f64> = BTreeMap::new();
            row(g).into_iter().for_each(|(t, w)| *sum.entry(t).or_default() += w);
            sum.into_iter().collect()
        });
        let lent = lent.collect();
        let scored = decision.scores.iter().take(n).enumerate().filter(|(_, s)| !s.is_nan());
        let step = Self {
            place,
            tile,
            rows: regroup.groups.iter().map(row).collect(),
            lent,
            aside: regroup.aside.iter().flat_map(|&r| old(r).clone()).collect(),
            gone: (0..n).filter(|&r| !stays[r]).flat_map(|r| old(r).clone()).collect(),
            positions: regroup.positions,
            scores: scored.flat_map(|(r, &s)| rows.tokens[r].iter().map(move |&t| (t, s))).collect(),
            threshold: decision.threshold,
            forget: decision.forget.clone(),
        };
        Ok((step, on, waits))
    }

    /// The same with weights as they are for the rows that were there and those that waited, in f32, so that a plan that
    /// is carried out again is the same.
    pub(super) fn rounded(mut self, (rows, wait): (&Rows, &Rows)) -> Self {
        let all = rows.tokens.iter().chain(&wait.tokens);
        let among: BTreeMap<usize, f64> = all.flat_map(|g| g.iter().map(|&t| (t, g.len() as f64))).collect();
        for (t, w) in self.rows.iter_mut().chain(&mut self.lent).flatten() {
            let n = among.get(t).copied().unwrap_or(1.0);
            *w = f64::from((*w * n) as f32) / n;
        }
        self
    }

    /// This step and then `next` at the same place, as one.
    pub(super) fn and(self, next: Self) -> Self {
        // A token's share of a new row was an even part of its old row's; it is its own part of it.
        let own: BTreeMap<usize, (f64, usize)> = (self.rows.iter().enumerate())
            .flat_map(|(i, row)| row.iter().map(move |&(t, w)| (t, (w * row.len() as f64, i))))
            .collect();
        let share = |&(t, w): &(usize, f64)| (t, own.get(&t).map_or(w, |own| w * own.0));
        let mut lent: Vec<Vec<(usize, f64)>> = Vec::new();
        if !self.lent.is_empty() || !next.lent.is_empty() {
            for (i, row) in next.rows.iter().enumerate() {
                let borrowed = next.lent.get(i).map_or(&[][..], Vec::as_slice);
                let mut sum: BTreeMap<usize, f64> = BTreeMap::new();
                borrowed.iter().map(share).for_each(|(t, w)| *sum.entry(t).or_default() += w);
                for (t, w) in row.iter().chain(borrowed) {
                    let before = own.get(t).and_then(|own| self.lent.get(own.1));
                    before.into_iter().flatten().for_each(|(u, v)| *sum.entry(*u).or_default() += v * w);
                }
                lent.push(sum.into_iter().collect());
            }
        }
        let rows = next.rows.iter().map(|row| row.iter().map(share).collect()).collect();
        let both = |a: Vec<usize>, b: Vec<usize>| a.into_iter().chain(b).collect();
        let keep = next.positions == Positions::Keep;
        Self {
            rows,
            lent,
            aside: both(self.aside, next.aside),
            gone: both(self.gone, next.gone),
            positions: if keep { self.positions } else { next.positions },
            scores: if next.scores.is_empty() { self.scores } else { next.scores },
            threshold: next.threshold.or(self.threshold),
            forget: next.forget.or(self.forget),
            ..self
        }
    }
}
