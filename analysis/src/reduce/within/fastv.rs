//! FastV: behind an early layer only those image tokens go on that the prompt's last token attends to most.
//!
//! Source: Chen et al. 2024, "An Image is Worth 1/2 Tokens After Layer 2", arXiv 2403.06764; pkunlp-icler/FastV,
//! `modeling_llama.py`. Takes: the last row of one layer's attention, `[heads, n]`. Gives: the best k image tokens.
//! Departs: see [`Info::departs`]. Cost: O(heads · n · width).

use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, LayerPick, Need, Paper, Param, Params};
use crate::passes::top_k;
use crate::raw::{Adapter, RawInput};
use crate::reduce::noted::attended;
use crate::reduce::place::{Half, Place};
use crate::reduce::select::budget;
use crate::reduce::{Asked, Decide, Decision, Method, Seen, Table};
use crate::trace::Tower;
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const KEEP: Param = Param::share("keep", "Share of the image tokens that go on", 0.5);
const LAYER: Param = Param::layer_of(
    "layer",
    "Layer of the language model whose attention is read and behind which the others go",
    Tower::Text,
    LayerPick::At(1),
);

static INFO: Info = Info {
    id: "fastv",
    title: "FastV",
    summary: "Keeps the image tokens that the prompt's last token attends to most in an early layer.",
    family: "inside the language model",
    basis: Basis::Authors { repo: "pkunlp-icler/FastV", commit: "d1659729b5" },
    paper: Some(Paper {
        title: "An Image is Worth 1/2 Tokens After Layer 2: Plug-and-Play Inference Acceleration for Large \
                Vision-Language Models",
        authors: "Chen et al.",
        year: 2024,
        arxiv: "2403.06764",
    }),
    departs: "tokens are really dropped, which gives what the authors' mask gives; the random choice that theirs makes \
              before the first layer is the floor's; keys and values of the layers before stay for the answer",
    needs: &[Need::ReadsImage, Need::Attention],
    params: &[KEEP, LAYER],
    budget: Some(&KEEP),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct FastV;

impl Method for FastV {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let layer = params.one_layer(&LAYER, on.reader(&INFO)?.n_layers)?;
        let share = params.share(&KEEP);
        let behind = Place::Decoder(layer, Half::After);
        Ok(Box::new(Asked::at([behind], move |seen, ctx| Ok(decide(seen, budget(seen, share), ctx)?.0))))
    }
}

/// Keeps the `k` open rows that the last row attends to most; with the score of each, a mean over heads.
fn decide(seen: &dyn Seen, k: usize, ctx: &Ctx) -> Result<(Decision, Vec<f32>)> {
    let Some(last) = seen.rows().len().checked_sub(1) else { return Ok((Decision::stay(), Vec::new())) };
    let scores: Vec<f32> = attended(seen, &[last])?.into_iter().map(|v| v as f32).collect();
    Ok((Decision::keep(seen, &top_k::of_row(&scores, k, ctx)?).scored(seen, &scores), scores))
}

/// Raw entry: `attn` `[heads, n, n]`; `sys_length` tokens before the image, `image_token_length` of it, and
/// `attention_rank`, how many of these are kept.
const ADAPTER: Adapter = Adapter { name: "fastv", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (a, [heads, n, m]) = input.finite("attn")?;
    if n != m {
        return Err(Error::shape("attn", format!("[{heads}, {n}, {n}]"), a.shape()));
    }
    let (first, len): (usize, usize) = (input.read("sys_length")?, input.read("image_token_length")?);
    let k: usize = input.read("attention_rank")?;
    if first.saturating_add(len) > n || k > len {
        return Err(Error::invalid(format!("{k} of the image tokens {first} to {first} + {len} of {n}")));
    }
    let seen = Table::new(Place::Decoder(0, Half::After), n, first..first + len).with_pattern(a);
    let (decision, scores) = decide(&seen, k, ctx)?;
    let keep = decision.kept(&seen);
    let absolute: Vec<usize> = (0..first).chain(keep.iter().map(|i| first + i)).chain(first + len..n).collect();
    Ok(json!({ "score": scores, "keep": keep, "n_after": absolute.len(), "keep_absolute": absolute }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Array;

    #[test]
    fn the_last_row_of_all_heads_together_decides_and_positions_stay() {
        // Two heads, four tokens; 1 and 2 are the image's. The last row gives them 0.1 and 0.4, then 0.5 and 0.1.
        let mut a = Array::zeros([2, 4, 4]);
        a.data_mut()[12..16].copy_from_slice(&[0.2, 0.1, 0.4, 0.3]);
        a.data_mut()[28..32].copy_from_slice(&[0.2, 0.5, 0.1, 0.2]);
        let seen = Table::new(Place::Decoder(1, Half::After), 4, 1..3).with_pattern(&a);
        let (decision, scores) = decide(&seen, 1, &Ctx::default()).unwrap();
        assert!((scores[0] - 0.3).abs() < 1e-6 && (scores[1] - 0.25).abs() < 1e-6);
        assert_eq!(decision.kept(&seen), [0]);
        assert_eq!(seen.after(&decision).unwrap().rows().positions, [0, 1, 3]);
    }
}
