//! Deciders: what a method is while a pass goes on, and what it may decide.

use super::place::Place;
use super::seen::Seen;
use crate::ctx::Ctx;
use crate::passes::host::resample::Weights;
use crate::trace::Regroup;
use crate::{Error, Result};
use std::ops::Range;

/// Decides at its stops which rows go on.
pub trait Decide {
    /// Where it wants to be asked, in the order of a pass. A place that is named twice is asked twice, the second time
    /// about what the first left.
    fn stops(&self) -> &[Place];

    /// Looks at what is there and decides; to look only, it lets everything stay.
    fn decide(&mut self, seen: &dyn Seen, ctx: &Ctx) -> Result<Decision>;

    /// Whether attention counts merged rows by the tokens behind them (ToMe).
    fn proportional(&self) -> bool {
        false
    }

    /// Whether it looks at the wide middle of MLPs, which is kept for it only then.
    fn reads_hidden(&self) -> bool {
        false
    }
}

/// What is to become of the rows that are there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decision {
    /// New rows of the old ones; `None` if all stay.
    pub regroup: Option<Regroup>,
    /// The score that each row was chosen by, NaN where it has none; empty without scores.
    pub scores: Vec<f32>,
    /// The score below which rows go, where that is the rule.
    pub threshold: Option<f32>,
    /// At [`Place::Step`]: the layers in which the keys of tokens that are not left are forgotten.
    pub forget: Option<Range<usize>>,
}

impl Decision {
    /// Everything stays.
    pub fn stay() -> Self {
        Self::default()
    }

    /// Exactly these rows, each made of old ones with their weights, in this order.
    pub fn rows(groups: Vec<Vec<(usize, f32)>>) -> Self {
        Self { regroup: Some(Regroup::of(groups)), ..Self::default() }
    }

    /// New rows in place of those that may be touched, each made of some of these (by index among them, with weights),
    /// in this order and before what stood behind them; `lent` of others, too, or empty. All other rows stay.
    pub fn remade(seen: &dyn Seen, made: Vec<Vec<(usize, f64)>>, lent: Vec<Vec<(usize, f64)>>) -> Self {
        let open = seen.open();
        let old = |g: Vec<(usize, f64)>| g.into_iter().map(|(i, w)| (open[i], w as f32)).collect::<Vec<_>>();
        let first = open.first().copied().unwrap_or(0);
        let stays = (0..seen.rows().len()).filter(|r| open.binary_search(r).is_err());
        let (before, behind): (Vec<usize>, Vec<usize>) = stays.partition(|&r| r < first);
        let alone = |rows: Vec<usize>| rows.into_iter().map(|r| vec![(r, 1.0)]).collect::<Vec<_>>();
        let mut all_lent: Vec<Vec<(usize, f32)>> = vec![Vec::new(); before.len()];
        all_lent.extend(lent.into_iter().map(old));
        let mut groups = alone(before);
        groups.extend(made.into_iter().map(old));
        groups.extend(alone(behind));
        if !all_lent.is_empty() {
            all_lent.resize(groups.len(), Vec::new());
        }
        let made = Self { regroup: Some(Regroup::of(groups).lending(all_lent)), ..Self::default() };
        if seen.place() == Place::Features { made.renumbered() } else { made }
    }

    /// [`Decision::remade`] of each grid of patches by itself: `each` is given its rows and columns, and says by cell of
    /// the grid what new rows are made of, and what is lent to them.
    ///
    /// Errors: rows that are no longer whole grids; those of `each`.
    pub fn by_tile(
        seen: &dyn Seen,
        ctx: &Ctx,
        mut each: impl FnMut(usize, (usize, usize)) -> Result<Vec<(Weights, Weights)>>,
    ) -> Result<Self> {
        let tiles = seen.tiles();
        if tiles.is_empty() {
            return Err(Error::invalid("this needs the whole grid of patches, one row each"));
        }
        let (mut made, mut lent) = (Vec::new(), Vec::new());
        for (i, &(first, rows, cols)) in tiles.iter().enumerate() {
            ctx.step(i, tiles.len())?;
            let at = |w: Weights| w.into_iter().map(|(i, w)| (first + i, w)).collect::<Weights>();
            for (own, others) in each(first, (rows, cols))? {
                made.push(at(own));
                lent.push(at(others));
            }
        }
        Ok(Self::remade(seen, made, lent))
    }

    /// Of the rows that may be touched, those with these indices among them; all others stay.
    pub fn keep(seen: &dyn Seen, open: &[usize]) -> Self {
        let mut stays = vec![true; seen.rows().len()];
        seen.open().iter().for_each(|&r| stays[r] = false);
        open.iter().for_each(|&i| stays[seen.open()[i]] = true);
        if stays.iter().all(|s| *s) {
            return Self::stay();
        }
        let rows: Vec<usize> = (0..stays.len()).filter(|&r| stays[r]).collect();
        let kept = Self { regroup: Some(Regroup::keep(&rows)), ..Self::default() };
        // The language model is given the shorter sequence.
        if seen.place() == Place::Features { kept.renumbered() } else { kept }
    }

    /// The same with the score of each row that may be touched.
    pub fn scored(mut self, seen: &dyn Seen, open: &[f32]) -> Self {
        self.scores = vec![f32::NAN; seen.rows().len()];
        seen.open().iter().zip(open).for_each(|(&r, &s)| self.scores[r] = s);
        self
    }

    /// The same with positions counted anew.
    pub fn renumbered(mut self) -> Self {
        self.regroup = self.regroup.map(Regroup::renumbered);
        self
    }

    /// Which of the rows that may be touched go on, by index among them; for raw entries.
    pub fn kept(&self, seen: &dyn Seen) -> Vec<usize> {
        let Some(regroup) = &self.regroup else { return (0..seen.open().len()).collect() };
        let stays: std::collections::BTreeSet<usize> = regroup.groups.iter().flatten().map(|m| m.0).collect();
        (0..seen.open().len()).filter(|&i| stays.contains(&seen.open()[i])).collect()
    }
}

/// A decider made of a function; most methods need no more.
pub struct Asked<F> {
    stops: Vec<Place>,
    proportional: bool,
    hidden: bool,
    decide: F,
}

impl<F: FnMut(&dyn Seen, &Ctx) -> Result<Decision>> Asked<F> {
    /// Asks `decide` at `stops`.
    pub fn at(stops: impl Into<Vec<Place>>, decide: F) -> Self {
        Self { stops: stops.into(), proportional: false, hidden: false, decide }
    }

    /// The same, with the wide middle of MLPs to look at.
    pub fn reading_hidden(self) -> Self {
        Self { hidden: true, ..self }
    }

    /// The same, with attention that counts merged rows by the tokens behind them.
    pub fn proportional(self, proportional: bool) -> Self {
        Self { proportional, ..self }
    }
}

impl<F: FnMut(&dyn Seen, &Ctx) -> Result<Decision>> Decide for Asked<F> {
    fn stops(&self) -> &[Place] {
        &self.stops
    }

    fn decide(&mut self, seen: &dyn Seen, ctx: &Ctx) -> Result<Decision> {
        (self.decide)(seen, ctx)
    }

    fn proportional(&self) -> bool {
        self.proportional
    }

    fn reads_hidden(&self) -> bool {
        self.hidden
    }
}
