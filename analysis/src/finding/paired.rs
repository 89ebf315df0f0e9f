//! Differences of what was found on two runs whose tokens are not the same: both sides are first put together by the
//! pieces of a [`Pairing`], then one is taken from the other.

use super::{Class, LinkEnd, Look};
use super::{
    Classes, Fate, FateStage, Fates, Heat, Level, Link, Links, Matrix, Pair, Pairing, Pairings, Picture, Stages, Unit,
};
use crate::array::Array;
use crate::trace::Tower;
use crate::{Error, Result};
use std::ops::Range;

/// What the values of several tokens that make up one piece become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Fold {
    /// Their sum, as of shares and of surprisal.
    #[default]
    Sum,
    /// Their mean.
    Mean,
    /// The one that is farthest from 0.
    Max,
}

impl Fold {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Mean => "mean",
            Self::Max => "max",
        }
    }

    /// Puts values together; `None` where there is none.
    pub fn of(self, values: impl Iterator<Item = f32>) -> Option<f32> {
        let (mut n, mut sum, mut far) = (0_usize, 0.0_f64, 0.0_f32);
        for v in values {
            n += 1;
            sum += f64::from(v);
            if n == 1 || v.abs() > far.abs() {
                far = v;
            }
        }
        let whole = match self {
            Self::Sum => sum as f32,
            Self::Mean => (sum / n.max(1) as f64) as f32,
            Self::Max => far,
        };
        (n > 0).then_some(whole)
    }
}

impl Picture {
    /// As [`Picture::minus`], for pictures of two runs: tokens are taken from the tokens that stand for the same part of
    /// the input, and several that make up one piece are put together by `fold` first. What counts tokens is drawn on
    /// those of the first run; each token of a piece shows the difference of the piece. Errors: as there, and where the
    /// runs have no stack of layers in common that the picture is about.
    pub fn minus_of(&self, other: &Self, pairings: &Pairings, fold: Fold) -> Result<Self> {
        let Some(tower) = self.tower().or(other.tower()) else { return self.minus(other) };
        let none = || Error::invalid("the two runs have no such tokens in common");
        let pairing = pairings.get(tower).ok_or_else(none)?;
        if pairing.is_plain() {
            return self.minus(other);
        }
        if pairing.pairs.is_empty() {
            return Err(none());
        }
        let side = |p: &Self, second| p.folded(&Folding { tower, pairing, second, fold });
        Ok(side(self, false)?.minus(&side(other, true)?)?.unfolded(tower, pairing))
    }

    /// The stack of layers whose tokens it counts, if it counts tokens.
    pub(super) fn tower(&self) -> Option<Tower> {
        let of = |u: &Unit| if let Unit::Tokens(t) = u { Some(*t) } else { None };
        match self {
            Self::Heat(p) => of(&p.unit),
            Self::Classes(p) => of(&p.unit),
            Self::Fates(p) => of(&p.unit),
            Self::Matrix(p) => of(&p.rows).or(of(&p.cols)),
            Self::Links(p) => p.levels.iter().find_map(|l| of(&l.unit)),
            Self::Timeline(p) => of(&p.places).or(of(&p.steps)),
            _ => None,
        }
    }

    fn folded(&self, by: &Folding) -> Result<Self> {
        Ok(match self {
            Self::Heat(p) => Self::Heat(by.heat(p)),
            Self::Classes(p) => Self::Classes(by.classes(p)),
            Self::Fates(p) => Self::Fates(by.fates(p)),
            Self::Matrix(p) => Self::Matrix(by.matrix(p)?),
            Self::Links(p) => Self::Links(by.links(p)),
            other => return Err(Error::invalid(format!("a {} of other tokens has no difference", other.name()))),
        })
    }

    /// What was found of pieces, on the tokens of the first run.
    fn unfolded(self, tower: Tower, pairing: &Pairing) -> Self {
        match self {
            Self::Heat(p) => Self::Heat(Heat {
                unit: Unit::Tokens(tower),
                values: unfold(&p.values, pairing),
                errors: match p.errors.is_empty() {
                    true => Vec::new(),
                    false => spread(&p.errors, pairing, 0.0),
                },
                stages: p.stages.map(|s| Stages { values: s.values.iter().map(|v| unfold(v, pairing)).collect(), ..s }),
                ..p
            }),
            Self::Classes(p) => Self::Classes(Classes {
                unit: Unit::Tokens(tower),
                of: unfold(&p.of, pairing),
                labels: Vec::new(),
                stages: p.stages.map(|s| Stages { values: s.values.iter().map(|v| unfold(v, pairing)).collect(), ..s }),
                ..p
            }),
            other => other,
        }
    }
}

/// Values of pieces on the tokens of the first run; of tokens without a partner `none`.
fn spread<T: Copy>(values: &[T], pairing: &Pairing, none: T) -> Vec<T> {
    let mut out = vec![none; pairing.n[0]];
    for (pair, v) in pairing.pairs.iter().zip(values) {
        out[pair.first.clone()].fill(*v);
    }
    out
}

fn unfold<T: Copy>(values: &[Option<T>], pairing: &Pairing) -> Vec<Option<T>> {
    spread(values, pairing, None)
}

/// Puts together what was found on one of two runs.
struct Folding<'a> {
    tower: Tower,
    pairing: &'a Pairing,
    /// Whether it is the second run.
    second: bool,
    fold: Fold,
}

impl Folding<'_> {
    /// The tokens of each piece.
    fn pieces(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let own = |p: &Pair| if self.second { p.second.clone() } else { p.first.clone() };
        self.pairing.pairs.iter().map(own)
    }

    fn counts(&self, unit: &Unit) -> bool {
        *unit == Unit::Tokens(self.tower)
    }

    /// The pieces by name.
    fn named(&self) -> Unit {
        Unit::named(self.pairing.pairs.iter().map(|p| p.label.as_str()))
    }

    fn values(&self, values: &[Option<f32>]) -> Vec<Option<f32>> {
        let of = |r: Range<usize>| self.fold.of(values.get(r).into_iter().flatten().flatten().copied());
        self.pieces().map(of).collect()
    }

    fn heat(&self, p: &Heat) -> Heat {
        let error = |r: Range<usize>| {
            let errors = p.errors.get(r.clone()).unwrap_or_default();
            match self.fold {
                Fold::Max => {
                    let far = r.zip(errors).max_by(|(i, _), (j, _)| {
                        let of = |i: usize| p.values.get(i).copied().flatten().unwrap_or(0.0).abs();
                        of(*i).total_cmp(&of(*j))
                    });
                    far.map_or(0.0, |(_, e)| *e)
                }
                fold => {
                    let all = errors.iter().map(|e| f64::from(*e).powi(2)).sum::<f64>().sqrt();
                    (if fold == Fold::Mean { all / errors.len().max(1) as f64 } else { all }) as f32
                }
            }
        };
        let stages = p.stages.as_ref().map(|s| {
            let values = s.values.iter().map(|v| self.values(v)).collect();
            Stages { unit: s.unit.clone(), values }
        });
        let errors = if p.errors.is_empty() { Vec::new() } else { self.pieces().map(error).collect() };
        let (title, values) = (p.title.clone(), self.values(&p.values));
        Heat { title, unit: Unit::Positions, measure: p.measure, values, errors, stages }
    }

    fn classes(&self, p: &Classes) -> Classes {
        let several = p.classes.len();
        let of = |of: &[Option<usize>]| -> Vec<Option<usize>> {
            let one = |r: Range<usize>| {
                let all = of.get(r).unwrap_or_default();
                let first = all.first().copied().flatten();
                if all.iter().all(|c| *c == first) { first } else { Some(several) }
            };
            self.pieces().map(one).collect()
        };
        let mut classes = p.classes.clone();
        classes.push(Class::new("several classes", "the tokens of the piece are of several classes", Look::Plain));
        let stages = p.stages.as_ref().map(|s| {
            let values = s.values.iter().map(|v| of(v)).collect();
            Stages { unit: s.unit.clone(), values }
        });
        Classes { stages, ..Classes::new(p.title.clone(), Unit::Positions, classes, of(&p.of)) }
    }

    /// A piece is there where one of its tokens is.
    fn fates(&self, p: &Fates) -> Fates {
        let stage = |s: &FateStage| {
            let there = |r: Range<usize>| s.fates.get(r).unwrap_or_default().iter().any(|f| f.is_there());
            let fates = self.pieces().map(|r| if there(r) { Fate::Kept } else { Fate::Dropped }).collect();
            FateStage::new(s.name.clone(), s.layer, fates)
        };
        let (title, stages) = (p.title.clone(), p.stages.iter().map(stage).collect());
        Fates { title, unit: Unit::Positions, measure: p.measure, stages }
    }

    /// Of tokens by tokens the mean over the rows of a piece of what its columns give together; of a map, what queries
    /// give on average to all of a piece.
    fn matrix(&self, p: &Matrix) -> Result<Matrix> {
        let (rows, cols) = (self.counts(&p.rows), self.counts(&p.cols));
        if p.size[0].saturating_mul(p.size[1]) > MAX_CELLS {
            return Err(Error::invalid("these maps are too large to subtract as a whole; look at a part of them"));
        }
        let own = |counts: bool, n: usize| -> Vec<Range<usize>> {
            if counts { self.pieces().collect() } else { (0..n).map(|i| i..i + 1).collect() }
        };
        let (tops, lefts) = (own(rows, p.size[0]), own(cols, p.size[1]));
        let down = if rows && cols { Fold::Mean } else { self.fold };
        let all = p.window(0..p.size[0], 0..p.size[1]);
        let cell = |r: usize, c: usize| all.get(r * p.size[1] + c).copied().filter(|v| !v.is_nan());
        let mut cells = Vec::with_capacity(tops.len() * lefts.len());
        for top in &tops {
            for left in &lefts {
                let across = |r: usize| self.fold.of(left.clone().filter_map(|c| cell(r, c)));
                cells.push(down.of(top.clone().filter_map(across)).unwrap_or(f32::NAN));
            }
        }
        let name = |counts: bool, unit: &Unit| if counts { self.named() } else { unit.clone() };
        let cells = Array::new([tops.len(), lefts.len()], cells)?;
        Matrix::dense(p.title.clone(), name(rows, &p.rows), name(cols, &p.cols), p.measure, cells)
    }

    /// What arrives at a piece from another: the sum over where it comes from, the mean over where it goes.
    fn links(&self, p: &Links) -> Links {
        let n = self.pairing.n[usize::from(self.second)];
        let mut piece = vec![None; n];
        for (i, r) in self.pieces().enumerate() {
            let size = r.len();
            piece[r].fill(Some((i as u32, size)));
        }
        let counts: Vec<bool> = p.levels.iter().map(|l| self.counts(&l.unit)).collect();
        let end = |e: LinkEnd| match counts.get(e.level as usize) {
            Some(true) => {
                let (at, size) = piece.get(e.at as usize).copied().flatten()?;
                Some((LinkEnd { at, ..e }, size))
            }
            _ => Some((e, 1)),
        };
        let link = |l: &Link| {
            let ((from, _), (to, size)) = (end(l.from)?, end(l.to)?);
            Some(Link { from, to, weight: l.weight / size as f32 })
        };
        let level = |l: &Level| match self.counts(&l.unit) {
            true => Level { unit: self.named(), n: self.pairing.pairs.len(), ..l.clone() },
            false => l.clone(),
        };
        // Edges that fall together are added up where the difference is taken.
        Links {
            links: p.links.iter().filter_map(link).collect(),
            levels: p.levels.iter().map(level).collect(),
            ..p.bare()
        }
    }
}

/// Cells of a map that are put together as a whole.
const MAX_CELLS: usize = 1 << 22;

#[cfg(test)]
mod tests {
    use super::super::Measure;
    use super::*;

    const TEXT: Unit = Unit::Tokens(Tower::Text);

    /// Three tokens and two: the first two of the one are the first of the other, the last has no partner.
    fn pairings() -> Pairings {
        let pairs = vec![Pair { first: 0..2, second: 0..1, label: "ab".into() }];
        Pairings::of_one(Tower::Text, Pairing { pairs, n: [3, 2] })
    }

    fn heat(values: &[f32]) -> Picture {
        let values = values.iter().map(|v| Some(*v)).collect();
        Heat::new("h", TEXT, Measure::new("share", "of all"), values).into()
    }

    #[test]
    fn values_are_put_together_and_shown_on_the_tokens_of_the_first_run() {
        let (a, b) = (heat(&[0.25, 0.5, 0.25]), heat(&[0.5, 0.5]));
        for (fold, want) in [(Fold::Sum, 0.25), (Fold::Mean, -0.125), (Fold::Max, 0.0)] {
            let Picture::Heat(d) = a.minus_of(&b, &pairings(), fold).unwrap() else { panic!() };
            assert_eq!((d.values, d.unit), (vec![Some(want), Some(want), None], TEXT), "{fold:?}");
        }
        // The other way round there are two tokens to draw on.
        let back = Pairing { pairs: vec![Pair { first: 0..1, second: 0..2, label: "ab".into() }], n: [2, 3] };
        let back = Pairings::of_one(Tower::Text, back);
        let Picture::Heat(d) = b.minus_of(&a, &back, Fold::Sum).unwrap() else { panic!() };
        assert_eq!(d.values, [Some(-0.25), None]);
    }

    #[test]
    fn of_a_map_queries_are_averaged_and_keys_added_up() {
        let map = |n: usize, cells: &[f32]| -> Picture {
            let cells = Array::new([n, n], cells.to_vec()).unwrap();
            Matrix::dense("m", TEXT, TEXT, Measure::new("attention", "share"), cells).unwrap().into()
        };
        let a = map(3, &[1.0, f32::NAN, f32::NAN, 0.25, 0.5, f32::NAN, 0.0, 0.0, 1.0]);
        let b = map(2, &[0.5, f32::NAN, 0.0, 1.0]);
        let Picture::Matrix(d) = a.minus_of(&b, &pairings(), Fold::Sum).unwrap() else { panic!() };
        // Queries 0 and 1 give 1 and 0.75 to keys 0 and 1, 0.875 on average.
        assert_eq!((d.size, d.at(0, 0), d.rows.label(0)), ([1, 1], Some(0.375), "ab".into()));
    }

    #[test]
    fn edges_into_a_piece_are_averaged_and_fates_and_classes_compared_by_piece() {
        let level = |n| Level { name: String::new(), unit: TEXT, n, height: 0.0, aside: 0.0 };
        let edge = |from: u32, to: u32, weight| Link {
            from: LinkEnd { level: 0, at: from },
            to: LinkEnd { level: 1, at: to },
            weight,
        };
        let links =
            |n, links| Picture::from(Links::new("l", vec![level(n), level(n)], Measure::new("share", "x"), links));
        let a = links(3, vec![edge(0, 0, 1.0), edge(0, 1, 0.5), edge(1, 1, 0.25), edge(2, 2, 1.0)]);
        let b = links(2, vec![edge(0, 0, 0.5)]);
        let Picture::Links(d) = a.minus_of(&b, &pairings(), Fold::Sum).unwrap() else { panic!() };
        // (1 + 0.5 + 0.25) / 2 - 0.5.
        assert_eq!((d.links.len(), d.links[0].weight, d.levels[0].n), (1, 0.375, 1));

        let fates = |fates: &[Fate]| {
            let stages = vec![FateStage::new("s", None, fates.to_vec())];
            Picture::from(Fates { title: "f".into(), unit: TEXT, measure: None, stages })
        };
        let (a, b) = (fates(&[Fate::Dropped, Fate::Kept, Fate::Kept]), fates(&[Fate::Dropped, Fate::Kept]));
        let Picture::Classes(d) = a.minus_of(&b, &pairings(), Fold::Sum).unwrap() else { panic!() };
        assert_eq!(d.of, [Some(1), Some(1), None]);

        let classes = |of: &[usize]| {
            let of = of.iter().map(|c| Some(*c)).collect();
            Picture::from(Classes::new("c", TEXT, Class::categories(["x", "y"]), of))
        };
        let Picture::Classes(d) = classes(&[0, 0, 1]).minus_of(&classes(&[0, 1]), &pairings(), Fold::Sum).unwrap()
        else {
            panic!()
        };
        assert_eq!((d.of, d.classes.len()), (vec![Some(0), Some(0), None], 1));
    }

    #[test]
    fn runs_without_tokens_in_common_say_so() {
        let none = Pairings::of_one(Tower::Text, Pairing { pairs: vec![], n: [3, 2] });
        let (a, b) = (heat(&[0.25, 0.5, 0.25]), heat(&[0.5, 0.5]));
        for p in [none, Pairings::default()] {
            let why = a.minus_of(&b, &p, Fold::Sum).unwrap_err().to_string();
            assert!(why.contains("no such tokens in common"), "{why}");
        }
        // What counts something else needs no pairing.
        let layers = |v: f32| Picture::from(Heat::new("h", Unit::Layers, Measure::new("x", ""), vec![Some(v)]));
        assert!(layers(1.0).minus_of(&layers(2.0), &Pairings::default(), Fold::Sum).is_ok());
    }
}
