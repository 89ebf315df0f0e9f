//! Any-subset speculative decoding: gaps are filled several at a time, and the model itself checks them in their order.
//!
//! Source: Guo & Ermon 2025, "Reviving Any-Subset Autoregressive Models with Principled Parallel Sampling and Speculative
//! Decoding", arXiv 2504.20456; gabeguo/any-order-speculative-decoding speculative_decoding.py. Takes: what a model says of
//! any gap given any of the others. Gives: a text that is distributed as by one gap after another. Departs: live, a model
//! without a mask of orders checks each draft in a pass of its own; passes are counted as the authors count theirs.

use super::super::Method;
use crate::array::Array;
use crate::ctx::Ctx;
use crate::decode::SEED;
use crate::decode::chance::{Chance, Seeded, inverse_cdf};
use crate::decode::mask::LENGTH;
use crate::decode::oracle::{Fill, Filler};
use crate::decode::verify::recursive_rejection::residual;
use crate::finding::{Class, Datum, Figure, Finding, Look, Measure, TimeCell, Timeline, Unit};
use crate::math::softmax;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};
use std::collections::VecDeque;

const K: Param = Param::count("k", "Gaps drafted at a time", 1, 32, 5);
const TEMPERATURE: Param =
    Param::number("temperature", "How far from the most probable tokens are drawn", 0.05, 4.0, 1.0);

static INFO: Info = Info {
    id: "assd",
    title: "Any-subset speculation",
    summary: "Fills several gaps at once and keeps of them what the model would have drawn one after another.",
    family: "masked diffusion",
    basis: Basis::Authors { repo: "gabeguo/any-order-speculative-decoding", commit: "83a444d" },
    paper: Some(Paper {
        title: "Reviving Any-Subset Autoregressive Models with Principled Parallel Sampling and Speculative Decoding",
        authors: "Guo & Ermon",
        year: 2025,
        arxiv: "2504.20456",
    }),
    departs: "a model without a mask of orders checks each draft in a pass of its own; passes are counted as the authors \
              count theirs; the drafter of bigrams and the relaxed test are left out",
    needs: &[Need::Fills],
    params: &[K, TEMPERATURE, LENGTH, SEED],
    budget: Some(&K),
    raw: &[Adapter { name: "assd", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct Assd;

/// What a model says of gaps: at each of `places` the distribution given those of `text` that are known.
type Given<'a> = &'a mut dyn FnMut(&[Option<u32>], &[usize]) -> Result<Vec<Vec<f64>>>;

/// What became of a gap.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Filled {
    round: usize,
    place: usize,
    /// Its probability where it was checked.
    p: f64,
    /// 0 accepted as drafted, 1 drawn anew, 2 the last one, which needs no check.
    how: usize,
}

/// Fills the gaps of `text` in `order`; gives what was filled, and passes.
fn fill(
    text: &mut [Option<u32>],
    order: &[usize],
    k: usize,
    given: Given,
    chance: &mut dyn Chance,
    ctx: &Ctx,
) -> Result<(Vec<Filled>, usize)> {
    let (mut done, mut passes, mut round, mut at) = (Vec::new(), 0, 0, 0);
    while at < order.len() {
        ctx.step(at, order.len())?;
        let next = &order[at..order.len().min(at + k)];
        let drafts = given(text, next)?;
        passes += 1;
        let drawn: Vec<u32> = drafts.iter().map(|q| chance.draw(q) as u32).collect();
        if at + 1 == order.len() {
            text[next[0]] = Some(drawn[0]);
            done.push(Filled { round, place: next[0], p: drafts[0][drawn[0] as usize], how: 2 });
            break;
        }
        passes += 1;
        for (j, &place) in next.iter().enumerate() {
            // Given what was decided and the drafts before it; the first is what it was drafted from.
            let p = if j == 0 { drafts[0].clone() } else { given(text, &[place])?.swap_remove(0) };
            let x = drawn[j] as usize;
            let share = if drafts[j][x] > 0.0 { (p[x] / drafts[j][x]).min(1.0) } else { 0.0 };
            let hit = chance.test(share);
            let id = if hit { drawn[j] } else { chance.draw(&residual(&p, &drafts[j])) as u32 };
            text[place] = Some(id);
            done.push(Filled { round, place, p: p[id as usize], how: usize::from(!hit) });
            at += 1;
            if !hit {
                break;
            }
        }
        round += 1;
    }
    Ok((done, passes))
}

impl Method for Assd {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        super::show::ready(on, &INFO, params)?;
        let model = on.weights(&INFO)?;
        let prompt = on.again().ids;
        let length = params.count(&LENGTH) as usize;
        let whole = prompt.len() + length;
        let mut filler = Filler::new(model, on.tokenizer)?;
        if let Some(most) = filler.longest().filter(|most| whole > *most) {
            return Err(Error::invalid(format!(
                "prompt and gen_length are {whole} tokens, more than the {most} that are read"
            )));
        }
        let (mask, temperature) = (filler.mask(), params.number(&TEMPERATURE));
        let mut given = |text: &[Option<u32>], places: &[usize]| -> Result<Vec<Vec<f64>>> {
            let ids: Vec<u32> = text.iter().map(|id| id.unwrap_or(mask)).collect();
            let without = |row: &crate::decode::row::Row| {
                let mut p = row.distribution(temperature);
                p.iter_mut().skip(mask as usize).take(1).for_each(|p| *p = 0.0);
                let sum: f64 = p.iter().sum();
                if sum > 0.0 {
                    p.iter_mut().for_each(|p| *p /= sum);
                } else {
                    // All of it was on the mask, as in a greedy decode where that is the most probable id.
                    p.iter_mut().skip(row.best_but(mask) as usize).take(1).for_each(|p| *p = 1.0);
                }
                p
            };
            Ok(filler.fill(&ids, places, ctx)?.iter().map(without).collect())
        };
        let mut text: Vec<Option<u32>> = prompt.iter().map(|id| Some(*id)).chain((0..length).map(|_| None)).collect();
        let order: Vec<usize> = (prompt.len()..whole).collect();
        let mut chance = Seeded::new(params.seed(&SEED));
        let k = params.count(&K) as usize;
        let (filled, passes) = fill(&mut text, &order, k, &mut given, &mut chance, ctx)?;
        let cell = |f: &Filled| {
            let id = text[f.place];
            let word = id.map_or(String::new(), |id| on.word(id));
            let position = f.place - prompt.len();
            TimeCell {
                step: f.round,
                position,
                id,
                text: word.into(),
                confidence: Some(f.p as f32),
                why: "".into(),
                state: f.how,
            }
        };
        let timeline = Timeline {
            title: "gaps filled".into(),
            steps: Unit::Steps,
            n_steps: filled.last().map_or(0, |f| f.round + 1),
            places: Unit::Positions,
            n_places: length,
            measure: Measure::new("probability", "given those before it"),
            states: vec![
                Class::new("accepted", "stays as drafted", Look::Good),
                Class::new("drawn anew", "the draft was refused and drawn from what was left", Look::Bad),
                Class::new("last", "nothing comes after it, so that its draft needs no check", Look::Given),
            ],
            cells: filled.iter().map(cell).collect(),
        };
        let ids: Vec<u32> = text[prompt.len()..].iter().flatten().copied().collect();
        Ok(Finding::of(timeline)
            .figure(Figure::new("passes", Datum::Count(passes), "one that drafts and one that checks in each round"))
            .figure(Figure::new(
                "tokens per pass",
                Datum::Number(length as f64 / passes.max(1) as f64),
                "never less than 1: the first draft of a round is always right",
            ))
            .figure(Figure::new("text", Datum::Text(on.text(&ids)), "what is written")))
    }
}

/// A stub: `base[i] + Σ A[i, j, x_j]` over known places `j`, in f32; the mask never.
struct Toy {
    base: Array,
    pull: Array,
    n: usize,
    v: usize,
    mask: usize,
}

impl Toy {
    fn given(&self, text: &[Option<u32>], place: usize) -> Vec<f64> {
        let mut row = self.base.row(place).to_vec();
        for (j, id) in text.iter().enumerate() {
            if let Some(id) = id {
                let own = &self.pull.data()[((place * self.n + j) * self.v + *id as usize) * self.v..][..self.v];
                row.iter_mut().zip(own).for_each(|(a, b)| *a += b);
            }
        }
        row[self.mask] = -40.0;
        let mut p = softmax(&row, 1.0);
        p[self.mask] = 0.0;
        p
    }
}

/// One stream of uniforms for draws and tests alike.
struct Stream(VecDeque<f64>, bool);

impl Stream {
    fn next(&mut self) -> f64 {
        let u = self.0.pop_front();
        self.1 |= u.is_none();
        u.unwrap_or(0.0)
    }
}

impl Chance for Stream {
    fn test(&mut self, p: f64) -> bool {
        self.next() < p
    }
    fn draw(&mut self, p: &[f64]) -> usize {
        let u = self.next();
        inverse_cdf(p, u)
    }
    fn uniform(&mut self) -> f64 {
        self.next()
    }
}

/// Texts that the joint distribution lists at most.
const MOST: usize = 100_000;

/// Raw entry: the stub of the golden, the rank of each place in the order, a prompt with `start` known places, `k` → the
/// joint distribution by the chain rule, and what recorded uniforms in `traces` give.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (base, [n, v]) = input.finite("base")?;
    let (pull, sizes) = input.finite::<4>("A")?;
    let mask = input.within("mask_token", 0..=v.saturating_sub(1))?;
    if sizes != [n, n, v, v] || n == 0 || v == 0 {
        return Err(Error::shape("A", "[places, places, vocab, vocab]", pull.shape()));
    }
    let toy = Toy { base: base.clone(), pull: pull.clone(), n, v, mask };
    let ranks: Vec<usize> = input.read("sigma_rank_of_position")?;
    let prompt: Vec<u32> = input.read("prompt")?;
    let (start, k) = (input.within("start", 0..=n)?, input.within("k", 1..=1 << 20)?);
    let mut order: Vec<usize> = (0..ranks.len()).collect();
    order.sort_by_key(|&i| ranks[i]);
    let proper = order.iter().enumerate().all(|(r, &i)| ranks[i] == r);
    if ranks.len() != n || prompt.len() != n || !proper || prompt.iter().any(|x| *x as usize >= v) {
        return Err(Error::invalid(
            "sigma_rank_of_position and prompt must hold each rank, and an id, for every place",
        ));
    }
    let (known, open) = order.split_at(start);
    let begin = || {
        let mut text = vec![None; n];
        known.iter().for_each(|&i| text[i] = Some(prompt[i]));
        text
    };
    let mut joint: Vec<(Vec<Option<u32>>, f64)> = vec![(begin(), 1.0)];
    for &place in open {
        if joint.len() * v > MOST {
            return Err(Error::invalid(
                "prompt leaves more texts than are listed; give more places or a smaller vocabulary",
            ));
        }
        let mut next = Vec::new();
        for (text, w) in &joint {
            ctx.check()?;
            for (id, p) in toy.given(text, place).into_iter().enumerate().filter(|(_, p)| *p > 0.0) {
                let mut text = text.clone();
                text[place] = Some(id as u32);
                next.push((text, w * p));
            }
        }
        joint = next;
    }
    joint.sort_by(|a, b| a.0.cmp(&b.0));
    let recorded: Vec<Value> = input.read_or("traces", Vec::new())?;
    let mut traces = Vec::with_capacity(recorded.len());
    for t in recorded {
        let u: Option<Vec<f64>> = t["uniforms"].as_array().and_then(|u| u.iter().map(Value::as_f64).collect());
        let Some(u) = u else { return Err(Error::invalid("traces need uniforms, numbers from 0 to 1")) };
        let (mut text, mut chance) = (begin(), Stream(u.iter().copied().collect(), false));
        let mut given =
            |text: &[Option<u32>], places: &[usize]| Ok(places.iter().map(|&i| toy.given(text, i)).collect());
        let (_, passes) = fill(&mut text, open, k, &mut given, &mut chance, ctx)?;
        if chance.1 {
            return Err(Error::invalid("traces hold fewer uniforms than are asked for"));
        }
        traces.push(json!({ "uniforms": u, "output": text, "nfe": passes }));
    }
    Ok(json!({ "traces": traces, "joint": joint, "max_nfe_bound": open.len() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::chance::every;
    use std::collections::BTreeMap;

    /// Every way in which three gaps can be filled two at a time, against the chain rule.
    #[test]
    fn what_is_filled_is_exactly_distributed_as_by_the_chain_rule() {
        let value = |i: usize| ((i * 37 % 19) as f32) / 7.0 - 1.2;
        let base = Array::new([3, 3], (0..9).map(value).collect::<Vec<_>>()).unwrap();
        let pull = Array::new([3, 3, 3, 3], (0..81).map(|i| value(i + 5)).collect::<Vec<_>>()).unwrap();
        let toy = Toy { base, pull, n: 3, v: 3, mask: 0 };
        let order = [1, 0, 2];
        let all = every(100_000, |chance| {
            let mut text = vec![None; 3];
            let mut given =
                |text: &[Option<u32>], places: &[usize]| Ok(places.iter().map(|&i| toy.given(text, i)).collect());
            let (_, passes) = fill(&mut text, &order, 2, &mut given, chance, &Ctx::default())?;
            assert!(passes <= 3);
            Ok(text)
        });
        let mut seen = BTreeMap::<Vec<Option<u32>>, f64>::new();
        all.unwrap().into_iter().for_each(|(text, w)| *seen.entry(text).or_default() += w);
        for (text, got) in seen {
            let (mut known, mut want) = (vec![None; 3], 1.0);
            for &i in &order {
                want *= toy.given(&known, i)[text[i].unwrap() as usize];
                known[i] = text[i];
            }
            assert!((got - want).abs() < 1e-9, "{text:?}: {got} and {want}");
        }
    }
}
