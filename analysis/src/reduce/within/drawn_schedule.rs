//! A schedule drawn by hand: so many of a picture's tokens from each place on, over the image encoder, between it and the
//! language model, and over its layers.
//!
//! Source: own definition; what published methods do over the depth of a model is a schedule in this sense (late
//! injection, pyramids, early exit), so that one can begin with theirs. Takes: what the chosen order looks at. Gives: a
//! step for each entry. Departs: see [`Info::departs`]. Cost: that of the order at each entry; spread O(k · n · d).

use crate::array::Array;
use crate::ctx::Ctx;
use crate::math::argmax;
use crate::method::{Info, Kind, Need, Param, Params};
use crate::passes::farthest_first::{self, Selection, Start};
use crate::passes::{cosine_matrix, top_k};
use crate::reduce::matching::by_size;
use crate::reduce::noted::{attended, looked_at};
use crate::reduce::place::one_tile;
use crate::reduce::schedule::{Entering, How, Known, Room, Schedule};
use crate::reduce::seen::pick;
use crate::reduce::{Asked, Decide, Decision, Method, Seen};
use crate::trace::{Regroup, Tower};
use crate::{Error, Result, Subject};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use std::collections::BTreeMap;

const STEPS: Param = Param::text(
    Schedule::KEY,
    "How many of the picture's tokens there are from where on: 2:288 entering layer 2, 2:50%, 2~288 merges the others, \
     inject@8 lets in what waits, exit@20, e3~100 in the image encoder, f:144 between both",
    &[
        ("halves", "1:50% 2:25%"),
        ("once", "f:25%"),
        ("merge and drop", "e2~75% f:50% 2:25%"),
        ("late and early", "exit@0 inject@1 2:50% exit@3"),
    ],
);
const ORDER: Param = Param::choice(
    "order",
    "Which go on: those that the last token looks at most (in an encoder and before the first layer what its class token \
     does), those that lie farthest from each other, the longest vectors, evenly spaced ones, or any",
    &["attention", "spread", "norm", "uniform", "random"],
);
const RENUMBER: Param = Param::toggle(
    "renumber",
    "Counts positions anew where tokens leave inside the language model; between encoder and language model they always are",
    false,
);
const PROPORTIONAL: Param =
    Param::toggle("proportional", "Attention counts merged tokens by how many stand behind them", true);
const SEED: Param = Param::seed();

static INFO: Info = Info {
    id: "drawn_schedule",
    title: "Drawn schedule",
    summary: "Carries out a schedule that is drawn or written by hand: where tokens come in, merge, are dropped and leave.",
    family: "inside the language model",
    departs: "entries of the encoder are not for models that read a picture in tiles one by one",
    needs: &[Need::ImageTokens],
    params: &[STEPS, ORDER, RENUMBER, PROPORTIONAL, SEED],
    ..Info::of(Kind::Reduce)
};

pub(super) struct DrawnSchedule;

impl Method for DrawnSchedule {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        if !on.tower()?.has_image() {
            return Err(INFO.needs(Need::ImageTokens.words()));
        }
        let schedule = Schedule::parse(&params.text(&STEPS))?;
        if on.tower == Tower::Vision {
            one_tile(on, Tower::Vision)?;
        }
        let known: BTreeMap<_, Known> =
            schedule.known(&Room::of(on)?)?.into_iter().map(|k| (k.entry.at.place(on.tower), k)).collect();
        let (order, renumber) = (params.choice(&ORDER), params.toggle(&RENUMBER));
        let merges = known.values().any(|k| k.entry.how == How::Merge);
        let (proportional, seed) = (merges && params.toggle(&PROPORTIONAL), params.seed(&SEED));
        let encoder = on.trace.towers.get(&Tower::Vision).map_or(0, |t| t.n_layers);
        let class_layer = encoder.saturating_sub(2);
        let stops: Vec<_> = known.keys().copied().collect();
        // How good tokens were when they left, for those that come in again.
        let mut left: BTreeMap<usize, f32> = BTreeMap::new();
        let decide = move |seen: &dyn Seen, ctx: &Ctx| {
            let Some(k) = known.get(&seen.place()) else { return Ok(Decision::stay()) };
            if k.entry.how == How::Inject {
                return Ok(enter(seen, k, &left));
            }
            let n = seen.open().len();
            // The pass may have fewer by then, e.g. as the encoder gave fewer features.
            let count = k.left.min(n);
            if count == n {
                return Ok(Decision::stay());
            }
            let scores = scores(seen, k, (order, seed, class_layer), ctx)?;
            let kept = best(seen, &scores, count, order, ctx)?;
            if k.waits {
                for (i, &r) in seen.open().iter().enumerate() {
                    left.extend(seen.rows().tokens[r].iter().map(|&t| (t, scores[i])));
                }
            }
            let decision = match (k.entry.how, k.waits) {
                (How::Merge, _) => merged(seen, &kept, ctx)?,
                (_, true) => aside(seen, &kept, ctx),
                _ => Decision::keep(seen, &kept),
            };
            let inside = matches!(k.entry.at, Entering::Layer(_)) && seen.place().tower() == Tower::Text;
            let decision = if renumber && inside { decision.renumbered() } else { decision };
            Ok(decision.scored(seen, &scores))
        };
        Ok(Box::new(Asked::at(stops, decide).proportional(proportional)))
    }
}

/// A score for each open row, larger for those that go on.
fn scores(seen: &dyn Seen, k: &Known, (order, seed, class_layer): (&str, u64, usize), ctx: &Ctx) -> Result<Vec<f32>> {
    let n = seen.open().len();
    match order {
        "norm" => {
            let x = seen.values()?;
            Ok(seen.open().iter().map(|&r| x.row(r).iter().map(|v| v * v).sum::<f32>().sqrt()).collect())
        }
        "spread" => {
            let x = pick(&seen.values()?, seen.open())?;
            let what = Selection { k: k.left.clamp(1, n), start: Start::Loneliest, repeats: false };
            let mut out = vec![0.0; n];
            // The first that is chosen is the best; those that are not are equal.
            let chosen = farthest_first::run(&x, &what, ctx)?;
            chosen.iter().enumerate().for_each(|(i, &t)| out[t] = (n - i) as f32);
            Ok(out)
        }
        "random" => {
            let mut ranks: Vec<usize> = (0..n).collect();
            ranks.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(seed.wrapping_add(layer_of(k) as u64)));
            Ok(ranks.into_iter().map(|r| r as f32).collect())
        }
        "uniform" => Ok(even(n, k.left.min(n))),
        _ => looked(seen, k, class_layer, ctx),
    }
}

/// A number for each place, so that chance draws anew at each.
fn layer_of(k: &Known) -> usize {
    match k.entry.at {
        Entering::Encoder(l) => l,
        Entering::Features => 1 << 21,
        Entering::Layer(l) => (1 << 22) + l,
    }
}

/// 1 at `k` evenly spaced ones of `n`, 0 elsewhere.
fn even(n: usize, k: usize) -> Vec<f32> {
    let mut out = vec![0.0; n];
    (0..k).for_each(|i| out[(2 * i + 1) * n / (2 * k)] = 1.0);
    out
}

/// What is looked at: in an encoder what its class token does, in the language model what the last token does, mean over
/// heads. Before the first layer of each nothing has been looked at yet, and the encoder's last but one layer stands in.
fn looked(seen: &dyn Seen, k: &Known, class_layer: usize, ctx: &Ctx) -> Result<Vec<f32>> {
    let mean = |a: Array| a.mean_over_first().into_iter().map(|v| v as f32).collect::<Vec<f32>>();
    match k.entry.at {
        Entering::Encoder(l) | Entering::Layer(l) if l > 0 => {
            if seen.place().tower() == Tower::Vision {
                return looked_at(seen, ctx).map(mean);
            }
            let Some(last) = seen.rows().len().checked_sub(1) else { return Ok(Vec::new()) };
            Ok(attended(seen, &[last])?.into_iter().map(|v| v as f32).collect())
        }
        _ => match seen.class_row(class_layer) {
            Ok(row) => {
                let row = mean(row);
                let of = |&r: &usize| {
                    let all: Vec<f32> = seen.patches(r).iter().filter_map(|p| row.get(*p).copied()).collect();
                    all.iter().sum::<f32>() / all.len().max(1) as f32
                };
                Ok(seen.open().iter().map(of).collect())
            }
            Err(Error::Cancelled) => Err(Error::Cancelled),
            Err(_) => {
                ctx.note("nothing has looked at the picture there yet; evenly spaced tokens stand in");
                Ok(even(seen.open().len(), k.left.min(seen.open().len())))
            }
        },
    }
}

/// The open rows that go on, ascending.
fn best(seen: &dyn Seen, scores: &[f32], count: usize, order: &str, ctx: &Ctx) -> Result<Vec<usize>> {
    if scores.len() != seen.open().len() {
        return Err(Error::invalid(format!("the order {order} says nothing about the rows {}", seen.place())));
    }
    top_k::of_row(scores, count, ctx)
}

/// The others are merged into the most similar of those that go on.
fn merged(seen: &dyn Seen, kept: &[usize], ctx: &Ctx) -> Result<Decision> {
    let (x, open) = (seen.values()?, seen.open());
    let others: Vec<usize> = (0..open.len()).filter(|i| kept.binary_search(i).is_err()).collect();
    let rows = |some: &[usize]| pick(&x, &some.iter().map(|&i| open[i]).collect::<Vec<_>>());
    let cosines = cosine_matrix::run(&rows(&others)?, &rows(kept)?, ctx)?;
    let mut with: BTreeMap<usize, Vec<usize>> = kept.iter().map(|&i| (open[i], vec![open[i]])).collect();
    for (i, &o) in others.iter().enumerate() {
        let target = open[kept[argmax(cosines.row(i)).unwrap_or(0)]];
        with.entry(target).or_default().push(open[o]);
    }
    let leaves: std::collections::BTreeSet<usize> = others.iter().map(|&i| open[i]).collect();
    let all = (0..seen.rows().len()).filter(|r| !leaves.contains(r));
    Ok(by_size(seen, all.map(|r| with.remove(&r).unwrap_or_else(|| vec![r])).collect()))
}

/// The others wait.
fn aside(seen: &dyn Seen, kept: &[usize], ctx: &Ctx) -> Decision {
    let open = seen.open();
    let waits: Vec<usize> = (0..open.len()).filter(|i| kept.binary_search(i).is_err()).map(|i| open[i]).collect();
    let stays: Vec<usize> = (0..seen.rows().len()).filter(|r| waits.binary_search(r).is_err()).collect();
    if stays.is_empty() {
        ctx.note("there is no text besides the image, so its tokens stay");
        return Decision::stay();
    }
    Decision { regroup: Some(Regroup { aside: waits, ..Regroup::keep(&stays) }), ..Decision::stay() }
}

/// Lets in the best of what waits, until there are as many as the entry says.
fn enter(seen: &dyn Seen, k: &Known, left: &BTreeMap<usize, f32>) -> Decision {
    let n = seen.rows().len();
    let score =
        |tokens: &Vec<usize>| tokens.iter().filter_map(|t| left.get(t)).copied().fold(f32::NEG_INFINITY, f32::max);
    let mut waiting: Vec<(f32, usize)> =
        seen.waiting().tokens.iter().enumerate().map(|(i, t)| (score(t), n + i)).collect();
    waiting.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    waiting.truncate(k.left.saturating_sub(seen.open().len()));
    if waiting.is_empty() {
        return Decision::stay();
    }
    let mut rows: Vec<usize> = (0..n).chain(waiting.into_iter().map(|w| w.1)).collect();
    rows.sort_unstable();
    Decision::rows(rows.into_iter().map(|r| vec![(r, 1.0)]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reduce::schedule::{Amount, Entry};
    use crate::reduce::{Half, Place, Table};

    #[test]
    fn evenly_spaced_ones_are_the_middles_of_equal_parts() {
        assert_eq!(even(6, 2), [0.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
        assert_eq!((even(3, 3), even(2, 0)), (vec![1.0; 3], vec![0.0; 2]));
    }

    #[test]
    fn what_leaves_is_merged_into_the_most_similar_one_by_size() {
        // Rows 1 to 3 are the image's; row 3 is like row 1.
        let x = Array::new([5, 2], vec![9.0, 9.0, 1.0, 0.0, 0.0, 1.0, 0.9, 0.1, 9.0, 9.0]).unwrap();
        let seen = Table::new(Place::Decoder(0, Half::After), 5, 1..4).with_values(&x);
        let decision = merged(&seen, &[0, 1], &Ctx::default()).unwrap();
        let after = seen.after(&decision).unwrap();
        assert_eq!(after.rows().tokens, [vec![0], vec![1, 3], vec![2], vec![4]]);
        assert_eq!(after.values().unwrap().row(1), [0.95, 0.05]);
    }

    #[test]
    fn the_longest_go_on_by_norm_and_others_wait() {
        let x = Array::new([4, 1], vec![0.0, 1.0, -3.0, 2.0]).unwrap();
        let seen = Table::new(Place::Decoder(0, Half::After), 4, 1..4).with_values(&x);
        let entry = Entry { at: Entering::Layer(1), how: How::Keep, amount: Amount::Count(2) };
        let known = Known { entry, before: 3, left: 2, waits: true };
        let ctx = Ctx::default();
        let found = scores(&seen, &known, ("norm", 0, 0), &ctx).unwrap();
        assert_eq!(found, [1.0, 3.0, 2.0]);
        let kept = best(&seen, &found, 2, "norm", &ctx).unwrap();
        let regroup = aside(&seen, &kept, &ctx).regroup.unwrap();
        assert_eq!((kept, regroup.aside), (vec![1, 2], vec![1]));
        assert!(best(&seen, &found[1..], 2, "norm", &ctx).is_err());
    }
}
