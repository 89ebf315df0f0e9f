//! Baselines as a widely used library has them, which runs them on encoders without a class token: FastV, DART, VisPruner,
//! SCOPE, DivPrune and VisionZip, each a little other than its authors'.
//!
//! Source: Tencent's AngelSlim, `token_compressor/algorithm`. Takes: queries and keys of the encoder's last layer, image
//! features `[n, d]`, queries and keys of one layer of the language model. Gives: a score, a metric, and what each keeps.
//! Departs: see [`Info::departs`]. Cost: that of the one that is chosen.

use crate::array::Array;
use crate::ctx::Ctx;
use crate::math::{largest, softmax};
use crate::method::{Basis, Info, Kind, LayerPick, Need, Paper, Param, Params};
use crate::passes::cosine_matrix;
use crate::passes::farthest_first::{self, Selection, Start};
use crate::passes::host::greedy::{self, Combined};
use crate::passes::top_k;
use crate::raw::{Adapter, RawInput};
use crate::reduce::noted::{both_per_feature, noted};
use crate::reduce::place::{Half, KEEP, Place, image_cut};
use crate::reduce::seen::pick;
use crate::reduce::select::{Contextual, budget, round_half_even};
use crate::reduce::{Asked, Decide, Decision, Method, Seen};
use crate::trace::Tower;
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const ALGORITHM: Param = Param::choice(
    "algorithm",
    "Which of the library's baselines",
    &["VisionZip", "VisPruner", "SCOPE", "DivPrune", "FastV", "DART"],
);
const LAYER: Param = Param::layer_of(
    "layer",
    "Layer of the language model that FastV and DART read and cut behind",
    Tower::Text,
    LayerPick::At(1),
);

static INFO: Info = Info {
    id: "angelslim_ports",
    title: "AngelSlim ports",
    summary: "Runs FastV, DART, VisPruner, SCOPE, DivPrune or VisionZip as AngelSlim has them, which needs no class token.",
    family: "image features",
    basis: Basis::Authors { repo: "Tencent/AngelSlim", commit: "67394ce55f" },
    paper: Some(Paper {
        title: "AngelSlim: A more accessible, comprehensive, and efficient toolkit for large model compression",
        authors: "Cen et al.",
        year: 2026,
        arxiv: "2602.21233",
    }),
    departs: "the encoder's last layer is read as it runs here, so windows have no order to undo; rows stand in the order \
              of their first tokens; DART's features are what the layer gives",
    needs: &[Need::ReadsImage, Need::Attention],
    params: &[ALGORITHM, KEEP, LAYER],
    budget: Some(&KEEP),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct AngelSlimPorts;

/// Queries from which on their mean stands for all of them.
const MANY: usize = 6144;
/// Pivots of DART, of the image and of the text.
const PIVOTS: usize = 4;
/// Share of VisPruner's tokens that are chosen by attention.
const IMPORTANT: f64 = 0.5;
/// Share of VisionZip's tokens that take others in.
const CONTEXTUAL: f64 = 10.0 / 64.0;

impl Method for AngelSlimPorts {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let on = on.of(Tower::Text);
        let cut = image_cut(&on, &Params::new(), &INFO)?;
        let (algorithm, share) = (params.choice(&ALGORITHM), params.share(&KEEP));
        if algorithm == "FastV" || algorithm == "DART" {
            let layer = params.one_layer(&LAYER, on.tower()?.n_layers)?;
            return Ok(Box::new(Asked::at([Place::Decoder(layer, Half::After)], move |seen, ctx| {
                let (open, k) = (seen.open(), budget(seen, share).max(1));
                if algorithm == "FastV" {
                    let scores = fastv(&seen.head_queries()?, &seen.head_keys()?, open)?;
                    return Ok(Decision::keep(seen, &top_k::of_row(&scores, k, ctx)?).scored(seen, &scores));
                }
                let kept = dart(&seen.values()?, &seen.head_keys()?, open, k, (PIVOTS, PIVOTS), ctx)?;
                Ok(Decision::keep(seen, &kept))
            })));
        }
        let last = on.trace.tower(Tower::Vision)?.n_layers - 1;
        let note = |seen: &dyn Seen, _: usize, _: &Ctx| {
            let keys = seen.keys()?.map_or_else(|| seen.values(), Ok)?;
            let first = seen.open().first().copied().unwrap_or(0);
            let (q, k) = (seen.head_queries()?, seen.head_keys()?);
            Ok((looked_at(&q, &k, first, seen.rows().len())?, pick(&keys, seen.open())?))
        };
        Ok(noted(vec![last], cut, note, move |seen, notes, ctx| {
            let (scores, metric) = both_per_feature(&on, seen, notes.of(0))?;
            let (x, k) = (pick(&seen.values()?, seen.open())?, budget(seen, share).max(1));
            if k >= scores.len() {
                return Ok(Decision::stay());
            }
            let kept = match algorithm {
                "VisPruner" => vispruner(&x, &scores, k, IMPORTANT, ctx)?,
                "SCOPE" => scope(&x, &scores, 1.0, k, ctx)?,
                "DivPrune" => divprune(&x, k, ctx)?,
                _ => {
                    let made = visionzip(&scores, &metric, k, CONTEXTUAL, ctx)?;
                    return Ok(Decision::remade(seen, made, Vec::new()).scored(seen, &scores));
                }
            };
            Ok(Decision::keep(seen, &kept).scored(seen, &scores))
        }))
    }
}

/// How much the patches, rows `first` to `n` of queries and keys `[heads, n, e]`, are looked at: by row 0 where that is a
/// class token, else by all of them together. Only patches count as keys; a mean over heads.
fn looked_at(q: &Array, k: &Array, first: usize, n: usize) -> Result<Vec<f32>> {
    let ([heads, rows, e], [kv_heads, m, _]) = (q.dims("queries")?, k.dims("keys")?);
    if rows < n || m < n || kv_heads == 0 || heads % kv_heads != 0 || k.shape()[2] != e {
        return Err(Error::shape("keys", format!("[divisor of {heads}, {n}, {e}]"), k.shape()));
    }
    let mut sum = vec![0f64; n.saturating_sub(first)];
    for h in 0..heads {
        let key = |j: usize| &k.row(h * kv_heads / heads)[j * e..(j + 1) * e];
        let mut add = |query: &[f32]| {
            let dot = |j: usize| query.iter().zip(key(j)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            let logits: Vec<f64> = (first..n).map(|j| dot(j) / (e as f64).sqrt()).collect();
            sum.iter_mut().zip(softmax(&logits, 1.0)).for_each(|(s, p)| *s += p / heads as f64);
        };
        let query = |i: usize| &q.row(h)[i * e..(i + 1) * e];
        match (first, n) {
            (0, n) if n >= MANY => {
                let mean = |c: usize| ((0..n).map(|i| f64::from(query(i)[c])).sum::<f64>() / n as f64) as f32;
                add(&(0..e).map(mean).collect::<Vec<_>>());
            }
            (0, n) => (0..n).for_each(|i| add(query(i))),
            _ => add(query(0)),
        }
    }
    Ok(sum.into_iter().map(|s| s as f32).collect())
}

/// What the last token that is none of the image's gives each of these rows, of all it gives them; a mean over heads.
fn fastv(q: &Array, k: &Array, image: &[usize]) -> Result<Vec<f32>> {
    let ([heads, n, e], [kv_heads, ..]) = (q.dims("queries")?, k.dims::<3>("keys")?);
    let Some(last) = (0..n).rev().find(|r| image.binary_search(r).is_err()) else {
        return Err(Error::invalid("there is no token besides the image's to ask"));
    };
    let mut sum = vec![0f64; image.len()];
    for h in 0..heads {
        let query = &q.row(h)[last * e..(last + 1) * e];
        let key = |j: usize| &k.row(h * kv_heads / heads)[j * e..(j + 1) * e];
        let dot = |&j: &usize| query.iter().zip(key(j)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let logits: Vec<f64> = image.iter().map(|j| dot(j) / (e as f64).sqrt()).collect();
        sum.iter_mut().zip(softmax(&logits, 1.0)).for_each(|(s, p)| *s += p / heads as f64);
    }
    Ok(sum.into_iter().map(|s| s as f32).collect())
}

/// Pivots by the length of their keys, text before the image among them, each picking an even part of the rest.
fn dart(x: &Array, keys: &Array, image: &[usize], k: usize, pivots: (usize, usize), ctx: &Ctx) -> Result<Vec<usize>> {
    let [heads, n, e] = keys.dims("keys")?;
    let part = |h: usize, r: usize| keys.row(h)[r * e..(r + 1) * e].iter().map(|v| f64::from(v.abs())).sum::<f64>();
    let length: Vec<f32> = (0..n).map(|r| (0..heads).map(|h| part(h, r)).sum::<f64>() as f32).collect();
    let longest = |rows: &[usize], k: usize| {
        let of: Vec<f32> = rows.iter().map(|&r| length[r]).collect();
        largest(&of, k).into_iter().map(|i| rows[i]).collect::<Vec<_>>()
    };
    let text: Vec<usize> = (0..n).filter(|r| image.binary_search(r).is_err()).collect();
    let own = longest(image, pivots.0.min(k));
    let all: Vec<usize> = own.iter().copied().chain(longest(&text, pivots.1)).collect();
    let mut taken: Vec<bool> = image.iter().map(|r| own.contains(r)).collect();
    let mut left = k.min(image.len()).saturating_sub(own.len());
    let each = left.div_ceil(all.len().max(1));
    let cosines = cosine_matrix::run(&pick(x, &all)?, &pick(x, image)?, ctx)?;
    for i in 0..all.len() {
        ctx.step(i, all.len())?;
        let row = cosines.row(i);
        let mut pool: Vec<usize> = (0..image.len()).filter(|&j| !taken[j]).collect();
        pool.sort_by(|&a, &b| row[a].total_cmp(&row[b]).then(a.cmp(&b)));
        pool.truncate(each.min(left));
        left -= pool.len();
        pool.into_iter().for_each(|j| taken[j] = true);
    }
    Ok((0..image.len()).filter(|&j| taken[j]).collect())
}

/// The most looked at, and of the rest what repeats nothing: a list in the order of the tokens, sorted after each round.
fn vispruner(x: &Array, scores: &[f32], k: usize, share: f64, ctx: &Ctx) -> Result<Vec<usize>> {
    let some = (round_half_even(k as f64 * share) as usize).min(if k > 1 { k - 1 } else { k });
    let mut kept = top_k::of_row(scores, some, ctx)?;
    let mut list: Vec<usize> = (0..scores.len()).filter(|i| kept.binary_search(i).is_err()).collect();
    let (wanted, total) = (k - some, list.len());
    let cosines = cosine_matrix::of_itself(x, ctx)?;
    while list.len() > wanted {
        ctx.step(total - list.len(), total - wanted)?;
        let a: Vec<usize> = list.iter().step_by(2).copied().collect();
        let b: Vec<usize> = list.iter().skip(1).step_by(2).copied().collect();
        let n = 8.min(list.len() / 2).min(list.len() - wanted);
        if n == 0 {
            list.truncate(wanted);
            break;
        }
        let alike = greedy::most_alike(&cosines, &a, &b)?;
        let gone: Vec<usize> = largest(&alike, n).into_iter().map(|i| a[i]).collect();
        list.retain(|i| !gone.contains(i));
    }
    kept.extend(list);
    kept.sort_unstable();
    Ok(kept)
}

fn scope(x: &Array, scores: &[f32], alpha: f64, k: usize, ctx: &Ctx) -> Result<Vec<usize>> {
    let weights: Vec<f32> = scores.iter().map(|w| f64::from(*w).powf(alpha) as f32).collect();
    let order = greedy::coverage(&cosine_matrix::of_itself(x, ctx)?, &weights, Combined::Product, k, ctx)?;
    Ok(order.into_iter().map(|c| c.token).collect())
}

fn divprune(x: &Array, k: usize, ctx: &Ctx) -> Result<Vec<usize>> {
    farthest_first::run(x, &Selection { k, start: Start::Loneliest, repeats: false }, ctx)
}

/// Dominant tokens and means around targets, as weights of new rows in the order of the tokens that they stand at.
fn visionzip(scores: &[f32], metric: &Array, k: usize, share: f64, ctx: &Ctx) -> Result<Vec<Vec<(usize, f64)>>> {
    let targets = (round_half_even(k as f64 * share) as usize).max(1).min(k);
    let dominant = top_k::of_row(scores, k - targets, ctx)?;
    let rest: Vec<usize> = (0..scores.len()).filter(|i| dominant.binary_search(i).is_err()).collect();
    let mut rows: Vec<Vec<(usize, f64)>> = dominant.into_iter().map(|i| vec![(i, 1.0)]).collect();
    for row in Contextual::of(metric, &rest, targets, ctx)?.rows(|_| 1.0) {
        let share = 1.0 / (row.len() as f64 + 1e-8);
        rows.push(row.into_iter().map(|m| (m.0, share)).collect());
    }
    rows.sort_by_key(|r| r[0].0);
    Ok(rows)
}

/// Raw entry: `embeds` and `feature_map` `[length, d]`, `llm_q` `[heads, length, e]` and `llm_k` of one layer, `vit_q` and
/// `vit_k` `[heads, patches, e]` in the order of merged groups; `image_start`, `image_length`, `spatial_merge_size`,
/// `ratio` (the share that goes), `pivot_image_token`, `pivot_text_token` (numbers, or shares), `important_ratio`,
/// `zip_ratio`, `alpha`.
const ADAPTER: Adapter = Adapter { name: "angelslim_ports", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let names = ["embeds", "feature_map", "llm_q", "llm_k", "vit_q", "vit_k"];
    for name in names {
        input.array(name)?.check_finite(name)?;
    }
    let [embeds, features, q, k, vit_q, vit_k] = names.map(|n| &input.arrays[n]);
    let ([length, _], [other, _]) = (embeds.dims("embeds")?, features.dims("feature_map")?);
    let (first, n): (usize, usize) = (input.read("image_start")?, input.read("image_length")?);
    let group: usize = input.read_or("spatial_merge_size", 1)?;
    let group = group.checked_mul(group).filter(|g| *g > 0);
    let patches = group.and_then(|g| g.checked_mul(n));
    let ([heads, rows, e], [vit_heads, m, width]) = (q.dims("llm_q")?, vit_q.dims("vit_q")?);
    let [kv_heads, keys, key_width] = k.dims("llm_k")?;
    let fits = first.saturating_add(n) <= length && other == length && n > 0;
    let llm = (rows, keys, key_width) == (length, length, e) && kv_heads > 0 && heads % kv_heads == 0;
    if !fits || !llm || patches != Some(m) || vit_k.dims::<3>("vit_k")? != [vit_heads, m, width] {
        let e =
            format!("image tokens {first} to {first} + {n} of {length}, {m} patches, and arrays of the same lengths");
        return Err(Error::invalid(e));
    }
    let group = group.unwrap_or(1);
    let of_patches = looked_at(vit_q, vit_k, 0, m)?;
    let scores: Vec<f32> =
        of_patches.chunks(group).map(|g| g.iter().map(|v| f64::from(*v)).sum::<f64>() as f32).collect();
    let mean = |t: usize, c: usize| {
        let cells = (0..vit_heads).flat_map(|h| (0..group).map(move |g| (h, t * group + g)));
        cells.map(|(h, p)| f64::from(vit_k.row(h)[p * width + c])).sum::<f64>() / (vit_heads * group) as f64
    };
    let metric: Vec<f32> =
        (0..n).flat_map(|t| (0..width).map(move |c| (t, c))).map(|(t, c)| mean(t, c) as f32).collect();
    let metric = Array::new([n, width], metric)?;
    let ratio: f64 = input.read("ratio")?;
    if !(0.0..=1.0).contains(&ratio) {
        return Err(Error::invalid(format!("ratio is {ratio}, not a share from 0 to 1")));
    }
    let count = round_half_even(n as f64 * (1.0 - ratio)) as usize;
    let count = if ratio < 1.0 { count.max(1) } else { 0 };
    let image: Vec<usize> = (first..first + n).collect();
    let x = pick(embeds, &image)?;
    let pivots = |name: &str| -> Result<usize> {
        match input.read_or(name, Value::from(PIVOTS))? {
            Value::Number(v) if v.is_u64() => Ok(v.as_u64().unwrap_or(0) as usize),
            v => match v.as_f64() {
                Some(share) if (0.0..=1.0).contains(&share) => Ok((share * count as f64) as usize),
                _ => Err(Error::invalid(format!("{name} is {v}; it is a number of tokens or a share of those kept"))),
            },
        }
    };
    let pivots = (pivots("pivot_image_token")?, pivots("pivot_text_token")?);
    let sorted = |mut kept: Vec<usize>| {
        kept.sort_unstable();
        kept
    };
    let asked = fastv(q, k, &image)?;
    let rows = visionzip(&scores, &metric, count.max(1), input.read_or("zip_ratio", CONTEXTUAL)?, ctx)?;
    let mut merge: Vec<(usize, usize, f64)> =
        rows.iter().enumerate().flat_map(|(r, row)| row.iter().map(move |m| (m.0, r, m.1))).collect();
    merge.sort_by_key(|m| (m.1, m.0));
    Ok(json!({
        "score": scores, "metric": (0..n).map(|i| metric.row(i)).collect::<Vec<_>>(), "n_keep": count,
        "fastv_keep": top_k::of_row(&asked, count, ctx)?,
        "dart_keep": dart(features, k, &image, count, pivots, ctx)?,
        "vispruner_keep": vispruner(&x, &scores, count.min(n), input.read_or("important_ratio", IMPORTANT)?, ctx)?,
        "scope_keep": sorted(scope(&x, &scores, input.read_or("alpha", 1.0)?, count, ctx)?),
        "divprune_keep": sorted(divprune(&x, count, ctx)?),
        "visionzip_rows": rows.len(), "visionzip_merge": merge,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_means_here_and_stand_in_the_order_of_the_tokens() {
        let metric = Array::new([4, 2], vec![1.0, 0.0, 0.0, 1.0, 1.0, 0.1, 0.0, 1.0]).unwrap();
        let rows = visionzip(&[0.1, 0.9, 0.2, 0.3], &metric, 2, 0.5, &Ctx::default()).unwrap();
        let third = 1.0 / (3.0 + 1e-8);
        assert_eq!(rows, [vec![(0, third), (2, third), (3, third)], vec![(1, 1.0)]]);
    }

    #[test]
    fn text_before_the_image_is_a_pivot_too() {
        let x = Array::new([4, 2], vec![0.0, 1.0, 1.0, 0.0, 0.9, 0.1, 0.0, 1.0]).unwrap();
        let k = Array::new([1, 4, 1], vec![9.0, 2.0, 1.0, 1.0]).unwrap();
        // The image's rows are 1 to 3; its pivot is 1, which picks what is least like it.
        assert_eq!(dart(&x, &k, &[1, 2, 3], 2, (1, 1), &Ctx::default()).unwrap(), [0, 2]);
    }
}
