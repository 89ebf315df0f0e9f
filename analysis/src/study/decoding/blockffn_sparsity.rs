//! BlockFFN's measures: how many experts are at rest for a token, and for a chunk of neighbouring tokens.
//!
//! Source: Song et al. 2025, "BlockFFN: Towards End-Side Acceleration-Friendly Mixture-of-Experts with Chunk-Level Activation
//! Sparsity", arXiv 2507.08771; thunlp/BlockFFN baseline/cpm/dragonfly/activation.py. Takes: which experts are active for each
//! token. Gives: token- and chunk-level sparsity. Departs: none known; live, active experts are those that the model chose.

use super::super::Method;
use super::routed;
use crate::ctx::Ctx;
use crate::finding::{Axis, Datum, Figure, Finding, Measure, Plot, Series, Style};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const WINDOW: Param = Param::count("window", "Tokens of a chunk for the headline figure", 1, 64, 8);

static INFO: Info = Info {
    id: "blockffn_sparsity",
    title: "Expert sparsity",
    summary: "Measures how many experts rest for a token and for a chunk of neighbouring tokens.",
    family: "routing and systems",
    basis: Basis::Authors { repo: "thunlp/BlockFFN", commit: "6905545" },
    paper: Some(Paper {
        title: "BlockFFN: Towards End-Side Acceleration-Friendly Mixture-of-Experts with Chunk-Level Activation Sparsity",
        authors: "Song et al.",
        year: 2025,
        arxiv: "2507.08771",
    }),
    departs: "active experts are those that the loaded model chose, a fixed number for each token; the authors' router may \
              choose any number",
    needs: &[Need::Experts],
    params: &[WINDOW],
    raw: &[Adapter { name: "blockffn_sparsity", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct BlockFfn;

/// Experts that are active in whole chunks of `window` tokens, summed over the chunks, and all there are in them.
fn activated(active: &[Vec<usize>], experts: usize, window: usize) -> (usize, usize) {
    let chunks = active.chunks_exact(window);
    // The last chunk in which each expert was active, from 1.
    let (n, mut sum, mut last) = (chunks.len(), 0, vec![0; experts]);
    for (c, chunk) in chunks.enumerate() {
        for &e in chunk.iter().flatten() {
            sum += usize::from(last[e] != c + 1);
            last[e] = c + 1;
        }
    }
    (sum, n * experts)
}

fn sparsity(active: &[Vec<usize>], experts: usize, window: usize) -> Option<f64> {
    let (on, all) = activated(active, experts, window);
    (all > 0).then(|| 1.0 - on as f64 / all as f64)
}

impl Method for BlockFfn {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, _: &Ctx) -> Result<Finding> {
        super::show::ready(on, &INFO, params)?;
        let window = params.count(&WINDOW) as usize;
        let (mut series, mut token, mut chunk) = (Vec::new(), Vec::new(), Vec::new());
        for l in routed::layers(on, &INFO)? {
            let experts = l.logits.first().map_or(0, Vec::len);
            let points: Vec<[f64; 2]> = (0..7)
                .map(|k| 1usize << k)
                .filter_map(|w| Some([w as f64, sparsity(&l.chosen, experts, w)?]))
                .collect();
            token.extend(sparsity(&l.chosen, experts, 1));
            chunk.extend(sparsity(&l.chosen, experts, window));
            series.push(Series::new(format!("layer {}", l.layer), Style::Line, points));
        }
        let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len().max(1) as f64;
        let axis = Axis::Number(Measure::new("tokens of a chunk", ""));
        let mut out = Finding::of(Plot::new("experts at rest", axis, Measure::new("at rest", "share"), series));
        if chunk.is_empty() {
            out.notes.push(format!("the text has fewer than {window} tokens, so that there is no chunk to measure"));
        } else {
            let about = format!("experts that no token of a chunk of {window} needs, mean over chunks and layers");
            out = out.figure(Figure::new("of a chunk", Datum::Share(mean(&chunk)), about));
        }
        Ok(out.figure(Figure::new(
            "of a token",
            Datum::Share(mean(&token)),
            "experts that a token does not need, mean over layers",
        )))
    }
}

/// Raw entry: active experts by token, padded with −1 → sparsity of tokens and of windows.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let listed: Vec<Vec<i64>> = input.read("active_indices_pad_-1")?;
    let experts = input.within("num_experts", 1..=1 << 20)?;
    let windows: Vec<usize> = input.read("windows")?;
    if windows.contains(&0) || listed.iter().flatten().any(|e| *e >= experts as i64) {
        return Err(Error::invalid("windows must be from 1, and active_indices_pad_-1 below num_experts"));
    }
    let own = |r: &Vec<i64>| r.iter().filter_map(|e| usize::try_from(*e).ok()).collect();
    let active: Vec<Vec<usize>> = listed.iter().map(own).collect();
    let own = |w: &usize| ctx.check().map(|()| activated(&active, experts, *w));
    let all: Vec<(usize, usize)> = windows.iter().map(own).collect::<Result<_>>()?;
    let rest = |(on, all): &(usize, usize)| if *all > 0 { json!(1.0 - *on as f64 / *all as f64) } else { Value::Null };
    let named: usize = active.iter().map(Vec::len).sum();
    let cells = active.len() * experts;
    Ok(json!({
        "TLS": if cells > 0 { json!(1.0 - named as f64 / cells as f64) } else { Value::Null },
        "window_activated": all.iter().map(|a| a.0).collect::<Vec<_>>(),
        "window_total": all.iter().map(|a| a.1).collect::<Vec<_>>(),
        "CLS": all.iter().map(rest).collect::<Vec<_>>(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_count_an_expert_once_and_drop_the_tail() {
        let active = [vec![0, 1], vec![1], vec![2], vec![], vec![3]];
        assert_eq!((activated(&active, 4, 1), activated(&active, 4, 2)), ((5, 20), (3, 8)));
        assert_eq!(sparsity(&active, 4, 8), None);
    }
}
