//! The one tap that carries reductions out: it asks the deciders at their stops, applies what they decide to the rows,
//! and records a plan of it.

use super::decide::{Decide, Decision};
use super::live::{Live, Read, Tokens};
use super::place::{Half, Place};
use super::plan::Plan;
use super::step::Step;
use crate::ctx::Ctx;
use crate::model::blocks::apply_regroup;
use crate::trace::{At, Attending, KeySet, PerHead, Positions, Regroup, Rows, Site, Tap, Tower};
use crate::{Error, Result, Subject};
use candle_core::Tensor;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Tokens behind rows.
type Behind = Arc<Vec<Vec<usize>>>;

/// Carries out one or several reductions in one pass, and in what is written after it.
pub struct Runner<'a> {
    on: Subject<'a>,
    deciders: Vec<Box<dyn Decide + 'a>>,
    tokens: BTreeMap<Tower, Tokens>,
    steps: Vec<Step>,
    /// What the present layer's attention read, where somebody will be asked about it.
    read: Option<Read>,
    sites: BTreeMap<Site, Tensor>,
    ctx: Ctx,
    /// Rows of the language model as they are now.
    now: Behind,
    /// Rows that each of its layers read the prompt with, and so holds keys of.
    held: Vec<Behind>,
    /// Layers in which keys of tokens that are not left are forgotten once the answer begins.
    forget: Option<Range<usize>>,
    /// From which layer on positions were counted anew.
    renumbered: Option<usize>,
}

impl<'a> Runner<'a> {
    /// A tap for these deciders, each asked in this order where they stop at the same place.
    ///
    /// Errors: stops out of order, or at layers that the run does not have.
    pub fn new(on: &Subject<'a>, deciders: Vec<Box<dyn Decide + 'a>>, ctx: &Ctx) -> Result<Self> {
        for place in deciders.iter().flat_map(|d| d.stops()) {
            let n = on.trace.towers.get(&place.tower()).map_or(0, |t| t.n_layers);
            if place.layer().is_some_and(|l| l >= n) {
                return Err(Error::invalid(format!("there is no place {place}; the stack has {n} layers")));
            }
        }
        if deciders.iter().any(|d| !d.stops().is_sorted()) {
            return Err(Error::invalid("the stops of a reduction must be in the order of a pass"));
        }
        let tokens = on.trace.towers.keys().map(|t| (*t, Tokens::of(on, *t))).collect();
        Ok(Self {
            on: *on,
            deciders,
            tokens,
            steps: Vec::new(),
            read: None,
            sites: BTreeMap::new(),
            ctx: ctx.clone(),
            now: Behind::default(),
            held: Vec::new(),
            forget: None,
            renumbered: None,
        })
    }

    /// What was done, once the pass is through.
    pub fn plan(mut self) -> Plan {
        self.steps.sort_by_key(|s| (s.place, s.tile));
        let tokens = self.tokens.iter().map(|(t, all)| (*t, all.len())).collect();
        Plan { tokens, steps: self.steps, proportional: self.deciders.iter().any(|d| d.proportional()) }
    }

    /// Whether somebody stops in this layer.
    fn stops_in(&self, at: &At) -> bool {
        let here = |p: &Place| p.tower() == at.tower && p.layer() == Some(at.layer);
        at.step == 0 && self.deciders.iter().any(|d| d.stops().iter().any(here))
    }

    /// Asks everybody who stops at `place`; gives what the model is to do, in one.
    fn ask(
        &mut self,
        place: Place,
        tile: usize,
        (rows, waiting): (&Rows, &Rows),
        x: Option<&Tensor>,
    ) -> Result<Option<Regroup>> {
        let tokens = self.tokens.get(&place.tower()).ok_or_else(|| Error::invalid("the run has no such tower"))?;
        let before = (rows, waiting);
        let (mut rows, mut waiting, mut x) = (rows.clone(), waiting.clone(), x.cloned());
        let mut all: Option<Regroup> = None;
        let mut step = if place == Place::Features { as_they_come(&rows, tokens) } else { None };
        for decider in &mut self.deciders {
            for _ in 0..decider.stops().iter().filter(|s| **s == place).count() {
                let fresh = all.is_none();
                let seen = Live {
                    on: &self.on,
                    place,
                    tile,
                    tokens,
                    open: tokens.open(&rows),
                    rows: &rows,
                    waiting: &waiting,
                    x: x.as_ref(),
                    read: self.read.as_ref().filter(|_| fresh),
                    sites: fresh.then_some(&self.sites),
                };
                let mut decision = decider.decide(&seen, &self.ctx)?;
                in_order(place, (&rows, &waiting), &mut decision);
                if decision == Decision::stay() {
                    continue;
                }
                let (made, on, wait) = Step::record((place, tile), (&rows, &waiting), &decision)?;
                if let Some(regroup) = decision.regroup {
                    x = values_of(x.as_ref(), &regroup, rows.len())?;
                    all = Some(match all {
                        Some(first) => first.then(&regroup)?,
                        None => regroup,
                    });
                }
                (rows, waiting) = (on, wait);
                step = Some(match step {
                    Some(first) => first.and(made).rounded(before),
                    None => made,
                });
            }
        }
        if let Some(step) = step {
            self.forget = step.forget.clone().or(self.forget.take());
            if let Place::Decoder(l, half) = place {
                self.now = Arc::new(rows.tokens);
                if step.positions == Positions::Renumber {
                    let next = l + usize::from(half == Half::After);
                    self.renumbered = Some(self.renumbered.map_or(next, |r| r.min(next)));
                }
            }
            self.steps.push(step);
        }
        Ok(all)
    }

    /// Keys that a token written later reads in a layer: those of the prompt that are not forgotten.
    fn read_later(&self, layer: usize) -> Option<Vec<usize>> {
        let held = self.held.get(layer)?;
        let left: std::collections::BTreeSet<usize> = self.held_last()?.iter().flatten().copied().collect();
        let stays = |r: &usize| held[*r].iter().any(|t| left.contains(t));
        self.forget.as_ref().is_some_and(|f| f.contains(&layer)).then(|| (0..held.len()).filter(stays).collect())
    }

    fn held_last(&self) -> Option<&Behind> {
        (!self.now.is_empty()).then_some(&self.now)
    }

    /// Where a token written in pass `step` stands in `layer`, where rows before it were counted anew.
    fn stands_at(&self, layer: usize, step: usize) -> Option<usize> {
        let from = [self.renumbered, self.forget.as_ref().map(|f| f.start)].into_iter().flatten().min()?;
        let n = self.read_later(layer).map_or_else(|| self.held.get(layer).map(|h| h.len()), |r| Some(r.len()))?;
        (self.renumbered.is_some() && layer >= from).then_some(n + step - 1)
    }
}

impl Tap for Runner<'_> {
    fn wants(&self, at: &At) -> bool {
        let wanted = match at.site {
            Site::AttnIn | Site::AttnOut | Site::MlpIn | Site::MlpOut => true,
            Site::MlpHidden => self.deciders.iter().any(|d| d.reads_hidden()),
            _ => false,
        };
        wanted && self.stops_in(at)
    }

    fn pass(&mut self, at: &At, x: Tensor) -> Result<Tensor> {
        self.sites.insert(at.site, x.clone());
        Ok(x)
    }

    fn keys(&mut self, at: &At, seen: &Attending) -> Result<Option<KeySet>> {
        if at.step == 0 {
            if at.tower == Tower::Text {
                if self.now.len() != at.rows.len() {
                    self.now = Arc::new(at.rows.tokens.clone());
                }
                self.held.truncate(at.layer);
                self.held.push(self.now.clone());
            }
            if self.stops_in(at) {
                self.read = Some(Read {
                    q: seen.q.clone(),
                    held: seen.held.to_vec(),
                    rule: seen.rule.clone(),
                    positions: seen.positions.to_vec(),
                    sizes: seen.sizes.map(<[usize]>::to_vec),
                });
            }
            return Ok(None);
        }
        let (Some(mut keys), Some(held)) = (self.read_later(at.layer), self.held.get(at.layer)) else {
            return Ok(None);
        };
        keys.extend(held.len()..seen.n_keys());
        Ok(Some(PerHead::Same(keys)))
    }

    fn regroup(&mut self, at: &At, x: &Tensor) -> Result<Option<Regroup>> {
        let Some(place) = Place::of(at) else { return Ok(None) };
        if at.step > 0 {
            // A token that is written stands behind the keys that the next layer holds.
            let next = match place {
                Place::Decoder(_, Half::Before) => 0,
                Place::Decoder(l, Half::After) => l + 1,
                _ => return Ok(None),
            };
            let here = self.stands_at(next, at.step);
            let stay = Regroup::keep(&(0..at.rows.len()).collect::<Vec<_>>());
            return Ok(here.map(|p| Regroup { positions: Positions::From(p), ..stay }));
        }
        let mut done = self.ask(place, at.tile, (at.rows, at.aside), Some(x))?;
        let n_layers = self.on.trace.towers.get(&Tower::Text).map_or(0, |t| t.n_layers);
        if place == Place::Decoder(n_layers.wrapping_sub(1), Half::After) {
            let (rows, waiting) = match &done {
                Some(r) => r.follow(at.rows, at.aside)?,
                None => (at.rows.clone(), at.aside.clone()),
            };
            let x = match &done {
                Some(r) => values_of(Some(x), r, at.rows.len())?,
                None => Some(x.clone()),
            };
            done = match (done, self.ask(Place::Step, at.tile, (&rows, &waiting), x.as_ref())?) {
                (Some(a), Some(b)) => Some(a.then(&b)?),
                (a, b) => a.or(b),
            };
        }
        if matches!(place, Place::Encoder(_, Half::After) | Place::Decoder(_, Half::After)) {
            self.read = None;
            self.sites.clear();
        }
        Ok(done)
    }

    fn proportional_attention(&self) -> bool {
        self.deciders.iter().any(|d| d.proportional())
    }
}

/// The new rows of `n` old ones; `None` where some come back that were set aside, whose values are not seen here.
fn values_of(x: Option<&Tensor>, r: &Regroup, n: usize) -> Result<Option<Tensor>> {
    let here = r.groups.iter().chain(&r.lent).flatten().all(|m| m.0 < n);
    x.filter(|_| here).map(|x| apply_regroup(x, r)).transpose()
}

/// Rows of a text stand in the order of their first tokens, so that a causal model reads from left to right; those of
/// an encoder as the method has them.
fn in_order(place: Place, (rows, waiting): (&Rows, &Rows), decision: &mut Decision) {
    let first = |r: usize| rows.tokens.iter().chain(&waiting.tokens).nth(r).and_then(|t| t.first().copied());
    if let (Tower::Text, Some(r)) = (place.tower(), &mut decision.regroup) {
        let keys: Vec<_> = r.groups.iter().map(|g| g.iter().filter_map(|m| first(m.0)).min()).collect();
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by_key(|&i| keys[i]);
        r.in_order(&order);
    }
}

/// What a reduction inside the encoder made of the image's tokens, where it left fewer features than those.
fn as_they_come(rows: &Rows, tokens: &Tokens) -> Option<Step> {
    let image = tokens.of_image();
    if rows.len() == image.len() && rows.is_unmerged() {
        return None;
    }
    let there: std::collections::BTreeSet<usize> = rows.tokens.iter().flatten().copied().collect();
    let gone: Vec<usize> = image.into_iter().filter(|t| !there.contains(t)).collect();
    let mean = |r: &Vec<usize>| r.iter().map(|&t| (t, 1.0 / r.len() as f64)).collect();
    let rows = rows.tokens.iter().map(mean).collect();
    Some(Step { rows, ..Step::keep(Place::Features, &[], &gone) }.renumbered())
}
