//! Which visual tokens say something: the vocabulary words nearest to them part them into sink, dead and alive.
//!
//! Source: Fan, Tong, Zhao, Shen 2026, "What Do Visual Tokens Really Encode?", arXiv 2603.00510; EIT-NLP/EmbedLens at
//! bc877d4707, `find_useless_tokens`. Takes: visual tokens as the language model gets them, its input embeddings, and,
//! where the ids that mark sink and dead tokens are not given, its attention. Gives: a class and the nearest words of
//! each token. Departs: the authors name the marking ids of LLaVA-1.5-7B (1141 and 26673 sink, 30296 dead) and have no
//! rule for others; here an id marks where it is the nearest one of at least a share of the tokens, as sink if those
//! get some times the attention of a visual token on average, else as dead.
//! Cost: O(tokens · vocabulary · width), memory for a part of the vocabulary at a time.

use super::Method;
use crate::array::Array;
use crate::ctx::Ctx;
use crate::finding::{Class, Classes, Datum, Figure, Finding, Heat, Look, Measure, Table, Unit};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::passes::attention_map;
use crate::passes::attention_received::{self, Groups};
use crate::raw::{Adapter, RawInput};
use crate::token::TokenKind;
use crate::trace::{Site, Tower};
use crate::{Error, Result, Subject};
use candle_core::{D, Device, Tensor};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const TOP_K: Param = Param::count("top_k", "Nearest words looked at for each token", 1, 16, 3);
const SINK: Param =
    Param::schedule("sink", "Ids that mark a sink token; -1 finds them by the rule", -1.0, 4e9, &[-1.0]);
const DEAD: Param =
    Param::schedule("dead", "Ids that mark a dead token; -1 finds them by the rule", -1.0, 4e9, &[-1.0]);
const SHARE: Param =
    Param::share("share", "An id marks where it is the nearest of at least this share of tokens", 0.05);
const FACTOR: Param = Param::number(
    "sink_attention",
    "Tokens of a marking id are sinks where they get this many times the mean attention of a visual token",
    1.0,
    100.0,
    2.0,
);

static INFO: Info = Info {
    id: "embedlens",
    title: "EmbedLens",
    summary: "Parts visual tokens into sink, dead and alive by the vocabulary words nearest to them.",
    family: "image tokens",
    basis: Basis::Authors { repo: "EIT-NLP/EmbedLens", commit: "bc877d4707" },
    paper: Some(Paper {
        title: "What Do Visual Tokens Really Encode? Uncovering Sparsity and Redundancy in Multimodal Large Language Models",
        authors: "Fan, Tong, Zhao, Shen",
        year: 2026,
        arxiv: "2603.00510",
    }),
    departs: "ids that mark sink and dead tokens are found by a rule where none are given",
    needs: &[Need::ImageTokens, Need::Logits, Need::Attention],
    params: &[TOP_K, SINK, DEAD, SHARE, FACTOR],
    raw: &[Adapter { name: "embedlens", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct EmbedLens;

/// Vocabulary ids compared at a time.
const PART: usize = 4096;

/// The nearest ids of one token, the nearest first, with their cosine.
type Nearest = Vec<(u32, f32)>;

impl Method for EmbedLens {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        INFO.check(params)?;
        // What the image encoder sees has no words near to it.
        if on.tower != Tower::Text {
            return Err(INFO.needs(Need::Logits.words()));
        }
        let (model, tower) = (on.weights(&INFO)?, on.trace.tower(Tower::Text)?);
        let entry = on.trace.get(Tower::Text, 0, Site::ResidPre)?;
        // (token, row): of a reduced run, those that are still there.
        let visual: Vec<(usize, usize)> = (0..tower.tokens.len())
            .filter(|&t| tower.tokens[t].kind == TokenKind::Image)
            .filter_map(|t| Some((t, entry.rows.row_of(t)?)))
            .collect();
        if visual.is_empty() {
            return Err(INFO.needs(Need::ImageTokens.words()));
        }
        let rows = visual.iter().flat_map(|(_, r)| entry.array.row(*r)).copied().collect();
        let rows = Array::new([visual.len(), tower.width], rows)?;
        let k = params.count(&TOP_K).max(1) as usize;
        let vocab = model.info().vocab;
        let embed = |from: usize, to: usize| model.embed(&(from as u32..to as u32).collect::<Vec<_>>());
        let near = nearest(&rows, vocab, &embed, k, &ctx.part(0, 2))?;
        let markers = markers(on, params, &visual, &near, &ctx.part(1, 2))?;
        let class = |near: &Nearest| -> usize {
            let has = |c| near.iter().any(|(id, _)| markers.get(id).is_some_and(|m| m.class == c));
            (0..ALIVE).find(|&c| has(c)).unwrap_or(ALIVE)
        };
        let word = |id: u32| on.tokenizer.map_or_else(|| format!("<{id}>"), |t| t.token_text(id));
        let n = tower.tokens.len();
        let (mut of, mut labels, mut cosine) = (vec![None; n], vec![String::new(); n], vec![None; n]);
        for ((token, _), near) in visual.iter().zip(&near) {
            of[*token] = Some(class(near));
            labels[*token] =
                near.iter().map(|(id, c)| format!("{} {c:.2}", word(*id).trim())).collect::<Vec<_>>().join(", ");
            cosine[*token] = near.first().map(|n| n.1);
        }
        let classes =
            Classes { labels, ..Classes::new("sink, dead and alive", Unit::Tokens(Tower::Text), classes(), of) };
        let counts = classes.counts(None);
        let mut table = Table::new(&["id", "word", "marks", "tokens", "attention"]).titled("ids that mark");
        for (id, m) in &markers {
            let name = if m.class == 0 { "sink" } else { "dead" };
            table.rows.push(vec![json!(id), json!(word(*id)), json!(name), json!(m.tokens), json!(m.attention)]);
        }
        let share = |c: usize| Datum::Share(counts[c] as f64 / visual.len() as f64);
        let mut out = Finding::of(classes)
            .with(Heat::new(
                "likeness of the nearest word",
                Unit::Tokens(Tower::Text),
                Measure::new("cosine", ""),
                cosine,
            ))
            .with(table)
            .figure(Figure::new("alive", share(ALIVE), "visual tokens that no marking id is near to"))
            .figure(Figure::new("sink", share(0), "visual tokens near to an id that marks attention sinks"))
            .figure(Figure::new("dead", share(1), "visual tokens near to an id that marks tokens that say nothing"));
        if markers.is_empty() {
            out.notes.push("no id is the nearest of enough tokens to mark any, so all count as alive".into());
        }
        let mut near: Vec<f32> = near.iter().filter_map(|n| n.first()).map(|n| n.1).collect();
        near.sort_by(f32::total_cmp);
        if let Some(median) = near.get(near.len() / 2).filter(|m| **m < FAR) {
            out.notes.push(format!(
                "even the nearest words are far away (median cosine {median:.2}), so little hangs on them"
            ));
        }
        Ok(out)
    }
}

/// Median cosine below which nearest words are hardly near.
const FAR: f32 = 0.3;

/// Index of the last class: what no marking id is near to.
const ALIVE: usize = 2;

fn classes() -> Vec<Class> {
    vec![
        Class::new("sink", "near to an id that marks attention sinks", Look::Category(0)),
        Class::new("dead", "near to an id that marks tokens that say nothing", Look::Quiet),
        Class::new("alive", "near to words of its own", Look::Good),
    ]
}

/// The `k` nearest of `vocab` embeddings for each row of `x` `[n, d]`, by cosine, the lower id on a tie. `embed` gives
/// the embeddings of ids from..to.
fn nearest(
    x: &Array,
    vocab: usize,
    embed: &dyn Fn(usize, usize) -> Result<Tensor>,
    k: usize,
    ctx: &Ctx,
) -> Result<Vec<Nearest>> {
    let [n, d] = x.dims::<2>("visual tokens")?;
    ctx.fits((4 * PART.min(vocab) * (n + d)) as u64, "choose a smaller picture")?;
    let x = unit(&Tensor::from_vec(x.data().to_vec(), (n, d), &Device::Cpu)?)?;
    let mut best: Vec<Nearest> = vec![Vec::new(); n];
    for from in (0..vocab).step_by(PART) {
        ctx.step(from, vocab)?;
        let to = (from + PART).min(vocab);
        let part = unit(&embed(from, to)?.to_device(&Device::Cpu)?)?;
        if part.dim(1)? != d {
            return Err(Error::shape("embeddings", format!("width {d}"), part.dims()));
        }
        let likeness = Array::from_tensor(&x.matmul(&part.t()?)?)?;
        for (row, best) in best.iter_mut().enumerate() {
            for (i, &c) in likeness.row(row).iter().enumerate() {
                if best.len() == k && best.last().is_some_and(|b| c <= b.1) {
                    continue;
                }
                let at = best.partition_point(|b| b.1 >= c);
                best.insert(at, ((from + i) as u32, c));
                best.truncate(k);
            }
        }
    }
    Ok(best)
}

/// Rows of length 1; rows of length 0 stay.
fn unit(x: &Tensor) -> Result<Tensor> {
    let x = x.to_dtype(candle_core::DType::F32)?;
    let length = x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.maximum(1e-12)?;
    Ok(x.broadcast_div(&length)?)
}

/// An id that marks.
struct Marker {
    /// 0 is sink, 1 is dead.
    class: usize,
    /// Tokens that it is the nearest id of.
    tokens: usize,
    /// Attention that they get, over that of a visual token on average; `None` where nobody had to know.
    attention: Option<f64>,
}

/// The ids that mark: those given, and where one list is left to the rule, those of many tokens.
fn markers(
    on: &Subject,
    params: &Params,
    visual: &[(usize, usize)],
    near: &[Nearest],
    ctx: &Ctx,
) -> Result<BTreeMap<u32, Marker>> {
    let mut of: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for ((token, _), near) in visual.iter().zip(near) {
        if let Some((id, _)) = near.first() {
            of.entry(*id).or_default().push(*token);
        }
    }
    let lists = [params.schedule(&SINK), params.schedule(&DEAD)];
    let mut out = BTreeMap::new();
    for (class, list) in lists.iter().enumerate() {
        for id in list.iter().filter(|v| **v >= 0.0).map(|v| *v as u32) {
            let tokens = of.get(&id).map_or(0, Vec::len);
            out.entry(id).or_insert(Marker { class, tokens, attention: None });
        }
    }
    let found = lists.each_ref().map(|l| l.iter().any(|v| *v < 0.0));
    let least = (params.share(&SHARE) * visual.len() as f64).ceil().max(2.0) as usize;
    let many: Vec<(&u32, &Vec<usize>)> =
        of.iter().filter(|(id, t)| t.len() >= least && !out.contains_key(id)).collect();
    if found == [false; 2] || many.is_empty() {
        return Ok(out);
    }
    let got = received(on, ctx)?;
    let mean = |tokens: &mut dyn Iterator<Item = usize>| {
        let (sum, n) = tokens.fold((0.0, 0usize), |(s, n), t| (s + got[t], n + 1));
        sum / n.max(1) as f64
    };
    let all = mean(&mut visual.iter().map(|v| v.0)).max(f64::MIN_POSITIVE);
    for (&id, tokens) in many {
        let attention = mean(&mut tokens.iter().copied()) / all;
        let class = usize::from(attention < params.number(&FACTOR));
        if found[class] {
            out.insert(id, Marker { class, tokens: tokens.len(), attention: Some(attention) });
        }
    }
    Ok(out)
}

/// Attention that each token of the language model gets, mean over layers, heads and the queries that see it.
fn received(on: &Subject, ctx: &Ctx) -> Result<Vec<f64>> {
    let tower = on.trace.tower(Tower::Text)?;
    let layers = tower.attention.len();
    let mut out = vec![0f64; tower.tokens.len()];
    for layer in 0..layers {
        let heads = attention_map::heads(on.trace, Tower::Text, 0, layer)?;
        let rows = &on.trace.get(Tower::Text, layer, Site::Q)?.rows;
        let seen = heads.first().map_or(Vec::new(), |h| h.spans().seen_by(rows.len()));
        let layer_ctx = ctx.part(layer, layers);
        for (h, head) in heads.iter().enumerate() {
            let got = attention_received::run(head, &Groups::all(rows.len()), &layer_ctx.part(h, heads.len()))?;
            for ((tokens, got), seen) in rows.tokens.iter().zip(got.data()).zip(&seen) {
                let share =
                    f64::from(*got) / (*seen).max(1) as f64 / (heads.len() * layers * tokens.len().max(1)) as f64;
                tokens.iter().for_each(|&t| out[t] += share);
            }
        }
    }
    Ok(out)
}

/// `input_embeds [n, d]`, `vocab_embeds [v, d]`, the range of visual tokens and the ids that mark them. Gives the marked
/// tokens, counted from the first of all and from the first visual one, and the nearest id of each. Of the authors' two
/// signs, -2 turns the marks around, and -1 marks as many others by chance instead.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (all, words) = (input.array("input_embeds")?, input.array("vocab_embeds")?);
    let ([n, d], [vocab, _]) = (all.dims::<2>("input_embeds")?, words.dims::<2>("vocab_embeds")?);
    let (start, end): (usize, usize) = (input.read("vis_start")?, input.read("vis_end")?);
    if start > end || end > n {
        return Err(Error::invalid(format!("visual tokens {start}..{end} are not among {n}")));
    }
    let ids: Vec<i64> = input.read("target_ids")?;
    let k: usize = input.read_or("top_k", 3)?;
    let visual = Array::new([end - start, d], all.data()[start * d..end * d].to_vec())?;
    let words = Tensor::from_vec(words.data().to_vec(), words.shape(), &Device::Cpu)?;
    let embed = |from: usize, to: usize| Ok(words.narrow(0, from, to - from)?);
    let near = nearest(&visual, vocab, &embed, k.clamp(1, vocab.max(1)), ctx)?;
    let turned = ids.contains(&-2);
    let marked = |near: &Nearest| near.iter().any(|(id, _)| ids.contains(&i64::from(*id))) != turned;
    let mut dropped: Vec<usize> = (0..near.len()).filter(|&i| marked(&near[i])).collect();
    if ids.contains(&-1) {
        let mut others: Vec<usize> = (0..near.len()).filter(|i| dropped.binary_search(i).is_err()).collect();
        others.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(input.read_or("seed", 0)?));
        others.truncate(dropped.len());
        others.sort_unstable();
        dropped = others;
    }
    let first: Vec<Option<u32>> = near.iter().map(|n| n.first().map(|n| n.0)).collect();
    let absolute: Vec<usize> = dropped.iter().map(|i| i + start).collect();
    Ok(json!({ "dropped": dropped, "dropped_absolute": absolute, "nearest_vocab": first }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_are_found_across_parts_and_equal_ones_by_the_lower_id() {
        // Two directions; id i of the vocabulary is the first where i is even, twice as long where it is large.
        let vocab = PART + 3;
        let x = Array::new([2, 2], vec![3.0, 0.0, 1.0, 1.0]).unwrap();
        let embed = |from: usize, to: usize| {
            let row = |i: usize| {
                if i == PART + 1 {
                    [5.0f32, 5.0]
                } else if i.is_multiple_of(2) {
                    [1.0, 0.0]
                } else {
                    [0.0, 1.0]
                }
            };
            let data: Vec<f32> = (from..to).flat_map(row).collect();
            Ok(Tensor::from_vec(data, (to - from, 2), &Device::Cpu)?)
        };
        let near = nearest(&x, vocab, &embed, 3, &Ctx::default()).unwrap();
        let ids = |i: usize| near[i].iter().map(|n| n.0).collect::<Vec<_>>();
        assert_eq!((ids(0), ids(1)), (vec![0, 2, 4], vec![PART as u32 + 1, 0, 1]));
        assert!((near[1][0].1 - 1.0).abs() < 1e-6 && (near[1][1].1 - 0.5f32.sqrt()).abs() < 1e-6);
    }

    fn raw_of(ids: &[i64], seed: u64) -> Vec<usize> {
        let mut input = RawInput::default();
        // Tokens 1 to 4 are nearest to ids 0, 1, 1, 2.
        let rows = vec![9.0, 9.0, 9.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 2.0, 0.1, 0.0, 0.0, 1.0];
        input.arrays.insert("input_embeds".into(), Array::new([5, 3], rows).unwrap());
        let words = vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        input.arrays.insert("vocab_embeds".into(), Array::new([3, 3], words).unwrap());
        input.params = json!({ "vis_start": 1, "vis_end": 5, "top_k": 1, "target_ids": ids, "seed": seed })
            .as_object()
            .unwrap()
            .clone();
        let out = raw(&input, &Ctx::default()).unwrap();
        assert_eq!(out["nearest_vocab"], json!([0, 1, 1, 2]));
        serde_json::from_value(out["dropped"].clone()).unwrap()
    }

    #[test]
    fn marks_may_be_turned_around_or_left_to_chance() {
        assert_eq!(raw_of(&[1], 0), [1, 2]);
        assert_eq!(raw_of(&[1, -2], 0), [0, 3]);
        assert_eq!(raw_of(&[1, -1], 0), [0, 3]);
        assert_eq!(raw_of(&[0, -1], 5).len(), 1);
    }
}
