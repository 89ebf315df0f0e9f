//! A plan: what became of every token of a run, step by step. It is recorded by a pass, drawn by hand, or put together
//! of others, and [`Plan::again`] carries it out.

use super::decide::{Decide, Decision};
use super::place::{Half, Place};
use super::seen::Seen;
use super::step::Step;
use crate::ctx::Ctx;
use crate::trace::{Rows, Tower, Trace};
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

/// A whole reduction of one run: encoder, image features, language model and what is written after it. Every step
/// names every row that is there; [`Plan::drawn`] sees to that where somebody draws them by hand.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Plan {
    /// Number of tokens by tower.
    pub tokens: BTreeMap<Tower, usize>,
    /// The steps, in the order of a pass.
    pub steps: Vec<Step>,
    /// Whether attention counts merged tokens by their size (ToMe).
    pub proportional: bool,
}

/// What became of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Fate {
    /// A row of its own.
    Kept,
    /// Part of the row with this index among those that the step left.
    Merged(usize),
    /// Set aside at the step with this index: it has not entered yet, or has left early.
    Aside(usize),
    /// Gone since the step with this index, among the steps of its tower.
    Dropped(usize),
}

impl Fate {
    /// Whether what the token carried is still there, as a row of its own or in another.
    pub fn is_there(self) -> bool {
        matches!(self, Self::Kept | Self::Merged(_))
    }
}

/// How far two reductions agree: the tokens that both leave, as a share of those that at least one leaves (intersection
/// over union), among those that count; `None` where neither leaves any.
pub fn overlap(a: &[Fate], b: &[Fate], counts: &[bool]) -> Option<f64> {
    let (mut both, mut any) = (0, 0);
    for ((a, b), _) in a.iter().zip(b).zip(counts).filter(|(_, counts)| **counts) {
        both += usize::from(a.is_there() && b.is_there());
        any += usize::from(a.is_there() || b.is_there());
    }
    (any > 0).then(|| both as f64 / any as f64)
}

impl Plan {
    /// The plan of a run of which all stays.
    pub fn none(run: &Trace) -> Self {
        Self { tokens: run.towers.iter().map(|(t, tower)| (*t, tower.tokens.len())).collect(), ..Self::default() }
    }

    /// A plan of steps that name what changes and leave the rest as it is.
    ///
    /// Errors: as [`Plan::check`]; nothing left.
    pub fn drawn(tokens: BTreeMap<Tower, usize>, steps: Vec<Step>) -> Result<Self> {
        let drawn = Self { tokens: tokens.clone(), steps, proportional: false };
        drawn.check()?;
        Self { tokens, ..Self::default() }.then(drawn)
    }

    /// The steps that change the rows of `tower`.
    pub fn of(&self, tower: Tower) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(move |s| s.place.tower() == tower)
    }

    /// Errors if steps are out of order, name tokens that there are not, or name one twice.
    pub fn check(&self) -> Result<()> {
        let mut last: BTreeMap<Tower, Vec<usize>> = self.tokens.iter().map(|(t, n)| (*t, vec![0; *n])).collect();
        for (i, step) in self.steps.iter().enumerate() {
            let place = step.place;
            if i > 0 && (self.steps[i - 1].place, self.steps[i - 1].tile) >= (place, step.tile) {
                let e = format!("the steps of a plan must be in the order of a pass; one {place} is not");
                return Err(Error::invalid(e));
            }
            let last = last.entry(place.tower()).or_default();
            let n = last.len();
            for t in step.named() {
                match last.get_mut(t) {
                    Some(at) if *at == i + 1 => {
                        return Err(Error::invalid(format!("token {t} is named twice {place}")));
                    }
                    Some(at) => *at = i + 1,
                    None => return Err(Error::invalid(format!("there is no token {t} {place}; there are {n}"))),
                }
            }
        }
        Ok(())
    }

    /// This plan and then `next`, which may have been made for the full run: at one place both act, this one first.
    ///
    /// Errors: plans about different runs; nothing left.
    pub fn then(self, next: Plan) -> Result<Plan> {
        if self.tokens != next.tokens {
            return Err(Error::invalid("the two plans are about different runs: their numbers of tokens differ"));
        }
        let mut steps: Vec<Step> = self.steps.into_iter().chain(next.steps).collect();
        // A stable sort: of two at one place the one that was there first acts first.
        steps.sort_by_key(|s| (s.place, s.tile));
        let tiled = steps.iter().any(|s| s.tile > 0);
        let proportional = self.proportional || next.proportional;
        let mut out = Plan { tokens: self.tokens, steps: Vec::new(), proportional };
        let mut there: BTreeMap<(Tower, usize), (Rows, Rows)> = BTreeMap::new();
        for step in steps {
            let key = (step.place.tower(), step.tile);
            let (rows, wait) = there.remove(&key).unwrap_or_else(|| {
                // Tokens of other tiles are not this step's.
                let all = Rows::identity(out.tokens.get(&key.0).copied().unwrap_or(0));
                (if tiled && key.0 == Tower::Vision { alone(step.named()) } else { all }, Rows::default())
            });
            let decision = Decision {
                regroup: step.on(&rows, &wait),
                scores: Vec::new(),
                threshold: step.threshold,
                forget: step.forget.clone(),
            };
            let (mut made, on, wait) = Step::record((step.place, step.tile), (&rows, &wait), &decision)?;
            (made.scores, made.positions) = (step.scores, step.positions);
            there.insert(key, (on, wait));
            let last = out.steps.pop_if(|last| (last.place, last.tile) == (made.place, made.tile));
            out.steps.push(match last {
                Some(last) => last.and(made),
                None => made,
            });
        }
        Ok(out)
    }

    /// What became of the tokens of `tower` after each of its steps, in time linear in what is said.
    pub fn fates(&self, tower: Tower) -> Vec<Vec<Fate>> {
        let mut now = vec![Fate::Kept; self.tokens.get(&tower).copied().unwrap_or(0)];
        let mut out = Vec::new();
        for (i, step) in self.of(tower).enumerate() {
            for (r, row) in step.rows.iter().enumerate() {
                let fate = if row.len() == 1 { Fate::Kept } else { Fate::Merged(r) };
                row.iter().for_each(|&(t, _)| now[t] = fate);
            }
            step.aside.iter().for_each(|&t| now[t] = Fate::Aside(i));
            step.gone.iter().for_each(|&t| now[t] = Fate::Dropped(i));
            out.push(now.clone());
        }
        out
    }

    /// Rows that the attention and the MLP of each layer of `tower` work on. Tiles add up.
    pub fn rows_by_layer(&self, tower: Tower, n_layers: usize) -> Vec<(usize, usize)> {
        let mut n = self.tokens.get(&tower).copied().unwrap_or(0);
        let mut tiles: BTreeMap<usize, usize> = BTreeMap::new();
        let mut steps = self.of(tower).peekable();
        let mut take = |upto: Place| {
            while let Some(s) = steps.next_if(|s| s.place <= upto) {
                let left = s.rows.len();
                n = match s.place {
                    Place::Features => n + left - s.named().len(),
                    Place::Encoder(..) => n + left - tiles.insert(s.tile, left).unwrap_or(s.named().len()),
                    _ => left,
                };
            }
            n
        };
        let before = |layer: usize| match layer.checked_sub(1) {
            Some(l) => Place::inside(tower, l, Half::After),
            None => Place::inside(tower, 0, Half::Before),
        };
        let mut out = Vec::new();
        for layer in 0..n_layers {
            out.push((take(before(layer)), take(Place::inside(tower, layer, Half::Mid))));
        }
        out
    }

    /// How many rows stand for `among`, some tokens of `tower`, in the end.
    pub fn left(&self, tower: Tower, among: &[usize]) -> usize {
        let Some(fates) = self.fates(tower).pop() else { return among.len() };
        let mut merged = BTreeSet::new();
        let counts = |t: &&usize| match fates[**t] {
            Fate::Kept | Fate::Aside(_) => true,
            Fate::Merged(row) => merged.insert(row),
            Fate::Dropped(_) => false,
        };
        among.iter().filter(counts).count()
    }

    /// A decider that does the same again.
    pub fn again(&self) -> Again<'_> {
        Again { plan: self, stops: self.steps.iter().map(|s| s.place).collect() }
    }
}

/// A row for each of these tokens.
fn alone(tokens: Vec<usize>) -> Rows {
    Rows { positions: vec![0; tokens.len()], tokens: tokens.into_iter().map(|t| vec![t]).collect(), turns: Vec::new() }
}

/// A plan as a decider: at every place what the plan says of the tokens that are there.
pub struct Again<'p> {
    plan: &'p Plan,
    stops: Vec<Place>,
}

impl Decide for Again<'_> {
    fn stops(&self) -> &[Place] {
        &self.stops
    }

    fn proportional(&self) -> bool {
        self.plan.proportional
    }

    fn decide(&mut self, seen: &dyn Seen, _ctx: &Ctx) -> Result<Decision> {
        let here = self.plan.steps.iter().find(|s| s.place == seen.place() && s.tile == seen.tile());
        let Some(step) = here else { return Ok(Decision::stay()) };
        let scores: BTreeMap<usize, f32> = step.scores.iter().copied().collect();
        let score = |tokens: &Vec<usize>| tokens.iter().find_map(|t| scores.get(t)).copied().unwrap_or(f32::NAN);
        Ok(Decision {
            regroup: step.on(seen.rows(), seen.waiting()),
            scores: if scores.is_empty() { Vec::new() } else { seen.rows().tokens.iter().map(score).collect() },
            threshold: step.threshold,
            forget: step.forget.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Positions;

    fn plan(tokens: usize, steps: Vec<Step>) -> Plan {
        Plan::drawn([(Tower::Text, tokens)].into(), steps).unwrap()
    }

    #[test]
    fn overlap_counts_what_is_there_among_what_counts() {
        use Fate::{Aside, Dropped, Kept, Merged};
        let (a, b) = ([Kept, Merged(0), Dropped(0), Kept, Aside(0)], [Kept, Dropped(0), Dropped(0), Kept, Kept]);
        // Both: 0 and 3; at least one: 0, 1, 3, 4.
        assert_eq!(overlap(&a, &b, &[true; 5]), Some(0.5));
        assert_eq!(overlap(&a, &b, &[true, true, true, false, false]), Some(0.5));
        assert_eq!(overlap(&a, &b, &[false, false, true, false, false]), None);
    }

    fn merged(place: Place, rows: &[&[usize]]) -> Step {
        let mean = |r: &&[usize]| r.iter().map(|&t| (t, 1.0 / r.len() as f64)).collect();
        Step { rows: rows.iter().map(mean).collect(), ..Step::keep(place, &[], &[]) }
    }

    #[test]
    fn follows_a_merge_a_drop_and_what_waits() {
        let p = plan(
            5,
            vec![
                merged(Place::Decoder(0, Half::After), &[&[0, 2]]),
                Step { aside: vec![3], ..Step::keep(Place::Decoder(1, Half::Mid), &[], &[]) },
                Step::keep(Place::Decoder(2, Half::After), &[3], &[1]),
            ],
        );
        let fates = p.fates(Tower::Text);
        assert_eq!(fates[0], [Fate::Merged(0), Fate::Kept, Fate::Merged(0), Fate::Kept, Fate::Kept]);
        assert_eq!(fates[1][3], Fate::Aside(1));
        assert_eq!(fates[2], [Fate::Merged(0), Fate::Dropped(2), Fate::Merged(0), Fate::Kept, Fate::Kept]);
        assert_eq!(p.steps[2].rows, [vec![(0, 0.5), (2, 0.5)], vec![(4, 1.0)], vec![(3, 1.0)]]);
        assert_eq!(p.rows_by_layer(Tower::Text, 4), [(5, 5), (4, 3), (3, 3), (3, 3)]);
    }

    #[test]
    fn a_cut_after_layer_0_and_one_inside_layer_1_are_in_order() {
        let steps = vec![
            Step::keep(Place::Decoder(0, Half::After), &[0, 1, 3], &[2]),
            Step::keep(Place::Decoder(1, Half::Mid), &[0, 3], &[1]),
        ];
        let p = plan(4, steps.clone());
        assert_eq!(p.rows_by_layer(Tower::Text, 3), [(4, 4), (3, 2), (2, 2)]);
        let turned = Plan { steps: steps.into_iter().rev().collect(), ..p };
        assert!(turned.check().unwrap_err().to_string().contains("order of a pass"));
    }

    #[test]
    fn refuses_a_token_that_is_not_there_and_one_named_twice() {
        let bad = |kept: &[usize], gone: &[usize]| {
            let steps = vec![Step::keep(Place::Features, kept, gone)];
            Plan::drawn([(Tower::Text, 2)].into(), steps).unwrap_err().to_string()
        };
        assert!(bad(&[5], &[]).contains("no token 5"));
        assert!(bad(&[0, 1], &[1]).contains("token 1 is named twice"));
        assert!(bad(&[], &[0, 1]).contains("nothing would be left"));
    }

    #[test]
    fn a_plan_made_for_the_full_run_acts_on_what_another_left() {
        // Tokens 1 to 4 are the image's; text stands around them.
        let first = plan(6, vec![merged(Place::Features, &[&[1, 2], &[3], &[4]])]);
        let second = plan(
            6,
            vec![
                Step::keep(Place::Features, &[1, 4], &[2, 3]),
                Step::keep(Place::Decoder(1, Half::After), &[0, 1, 5], &[2, 3, 4]).renumbered(),
            ],
        );
        let both = first.clone().then(second.clone()).unwrap();
        both.check().unwrap();
        // The merged row goes where token 1 goes, with token 2.
        assert_eq!(both.steps[0].rows[1..3], [vec![(1, 0.5), (2, 0.5)], vec![(4, 1.0)]]);
        assert_eq!(both.steps[0].gone, [3]);
        // Of it, the later step keeps token 1, so the row stays, though token 2 was gone by then; token 4 goes.
        assert_eq!(both.steps[1].rows.len(), 3);
        assert_eq!((both.steps[1].gone.as_slice(), both.steps[1].positions), (&[4][..], Positions::Renumber));
        assert_eq!(both.rows_by_layer(Tower::Text, 3).iter().map(|r| r.0).collect::<Vec<_>>(), [4, 4, 3]);
        assert_eq!(both.left(Tower::Text, &[1, 2, 3, 4]), 1);
        // Doing it again on what it left changes nothing.
        let rows = Rows { tokens: vec![vec![1, 2], vec![4]], positions: vec![1, 2], turns: Vec::new() };
        assert_eq!(both.steps[0].on(&rows, &Rows::default()), None);
        let other = Plan { tokens: [(Tower::Text, 7)].into(), ..Plan::default() };
        assert!(first.then(other).is_err());
    }

    #[test]
    fn a_token_that_is_lent_is_added_there_and_stays_what_it_was() {
        // Row 0 takes a quarter of token 2 on, which goes; then rows 0 and 1 are added, half and half.
        let lends = Step { lent: vec![vec![(2, 0.25)], vec![]], ..Step::keep(Place::Features, &[0, 1], &[2]) };
        let both = plan(3, vec![lends]).then(plan(3, vec![merged(Place::Features, &[&[0, 1]])])).unwrap();
        assert_eq!(both.steps[0].rows, [vec![(0, 0.5), (1, 0.5)]]);
        assert_eq!((both.steps[0].lent.as_slice(), both.steps[0].gone.as_slice()), (&[vec![(2, 0.125)]][..], &[2][..]));
        assert_eq!(both.fates(Tower::Text)[0], [Fate::Merged(0), Fate::Merged(0), Fate::Dropped(0)]);
        let regroup = both.steps[0].on(&Rows::identity(3), &Rows::default()).unwrap();
        assert_eq!((regroup.groups.len(), regroup.lent_to(0)), (1, &[(2, 0.125)][..]));
    }

    #[test]
    fn thirty_two_cuts_of_2880_tokens_are_followed_at_once() {
        let n = 2880;
        let step = |l: usize| {
            let (kept, gone) = ((l + 1) * 80..n, l * 80..(l + 1) * 80);
            Step::keep(Place::Decoder(l, Half::After), &kept.collect::<Vec<_>>(), &gone.collect::<Vec<_>>())
        };
        let p = plan(n, (0..32).map(step).collect());
        let start = std::time::Instant::now();
        let fates = p.fates(Tower::Text);
        assert!(start.elapsed().as_millis() < 500, "{:?}", start.elapsed());
        assert_eq!(
            (fates.len(), fates[31][0], fates[31][2559], fates[31][2560]),
            (32, Fate::Dropped(0), Fate::Dropped(31), Fate::Kept)
        );
    }
}
