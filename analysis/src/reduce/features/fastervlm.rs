//! FasterVLM: keeps the image patches that the encoder's class token attends to most.
//!
//! Source: Zhang et al. 2024, "[CLS] Attention is All You Need for Training-Free Visual Token Pruning", arXiv 2412.01818.
//! Takes: the class row of one encoder layer `[views, heads, n]`, class column removed. Gives: the top k per view.
//! Departs: none known. Cost: O(heads · n).

use crate::array::Array;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, LayerPick, Need, Paper, Param, Params};
use crate::passes::top_k;
use crate::raw::{Adapter, RawInput};
use crate::reduce::place::{Half, KEEP, LAYER, Place, image_cut};
use crate::reduce::select::budget;
use crate::reduce::{Asked, Decide, Decision, Method, Seen, Table};
use crate::trace::Tower;
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const VISION_LAYER: Param =
    Param::layer_of("attention_layer", "Encoder layer whose class row is read", Tower::Vision, LayerPick::At(-2));

static INFO: Info = Info {
    id: "fastervlm",
    title: "FasterVLM",
    summary: "Keeps the image tokens that the encoder's class token attends to most.",
    family: "image features",
    basis: Basis::Authors { repo: "Theia-4869/FasterVLM", commit: "" },
    paper: Some(Paper {
        title: "[CLS] Attention is All You Need for Training-Free Visual Token Pruning: Make VLM Inference Faster",
        authors: "Zhang et al.",
        year: 2024,
        arxiv: "2412.01818",
    }),
    departs: "inside a plain encoder the cut is after the layer chosen, which the paper does not do",
    needs: &[Need::ImageTokens, Need::ClassToken, Need::Attention],
    params: &[KEEP, VISION_LAYER, LAYER],
    budget: Some(&KEEP),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct FasterVlm;

impl Method for FasterVlm {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let cut = image_cut(on, params, &INFO)?;
        let vision = on.trace.towers.get(&Tower::Vision).filter(|t| t.class_token.is_some());
        let vision = vision.ok_or_else(|| INFO.needs(Need::ClassToken.words()))?;
        let layer = params.one_layer(&VISION_LAYER, vision.n_layers)?;
        let share = params.share(&KEEP);
        let read = Place::Encoder(layer, Half::Mid);
        // A cut before that layer goes by the full run.
        let stops = if read < cut { vec![read, cut] } else { vec![cut] };
        let mut scores: Vec<f32> = Vec::new();
        Ok(Box::new(Asked::at(stops, move |seen, ctx| {
            if seen.place() != cut || scores.is_empty() {
                scores.extend(score(&seen.class_row(layer)?));
            }
            if seen.place() != cut {
                return Ok(Decision::stay());
            }
            if scores.len() != seen.open().len() {
                return Err(Error::invalid(
                    "this model merges patches on their way to the language model, so the class token's view does not \
                     fit them",
                ));
            }
            decide(seen, &scores, budget(seen, share), ctx)
        })))
    }
}

/// Mean over heads of the class row `[heads, n]`.
fn score(class_row: &Array) -> Vec<f32> {
    class_row.mean_over_first().into_iter().map(|x| x as f32).collect()
}

/// Keeps the best `k`.
fn decide(seen: &dyn Seen, scores: &[f32], k: usize, ctx: &Ctx) -> Result<Decision> {
    Ok(Decision::keep(seen, &top_k::of_row(scores, k, ctx)?).scored(seen, scores))
}

/// Raw entry: `cls_attn` `[views, heads, n]` and `visual_token_num`.
const ADAPTER: Adapter = Adapter { name: "fastervlm", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let a = input.array("cls_attn")?;
    a.check_finite("cls_attn")?;
    let [views, heads, n] = a.dims("cls_attn")?;
    let k: usize = input.read("visual_token_num")?;
    if k > n {
        return Err(Error::invalid(format!("visual_token_num is {k}, but a view has {n} tokens")));
    }
    let (mut all, mut keep) = (Vec::new(), Vec::new());
    for v in 0..views {
        ctx.step(v, views)?;
        let seen = Table::new(Place::Features, n, 0..n).with_class_row(&Array::new([heads, n], a.row(v).to_vec())?);
        let scores = score(&seen.class_row(0)?);
        keep.push(decide(&seen, &scores, k, ctx)?.kept(&seen));
        all.push(scores);
    }
    Ok(json!({ "score": all, "keep": keep }))
}
