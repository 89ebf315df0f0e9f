//! FasterVLM: keeps the image patches that the encoder's class token attends to most.
//!
//! Source: Zhang et al. 2024, "[CLS] Attention is All You Need for Training-Free Visual Token Pruning", arXiv 2412.01818.
//! Takes: the class row of one encoder layer `[views, heads, n]`, class column removed. Gives: the top k per view.
//! Departs: none known. Cost: O(heads · n).

use super::place::{KEEP, LAYER, Place};
use super::{Method, Plan};
use crate::Subject;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, LayerPick, Need, Paper, Param, Params};
use crate::passes::{attention_map, top_k};
use crate::raw::{Adapter, RawInput};
use crate::trace::{Tower, TowerTrace, Trace};
use crate::{Error, Result};
use serde_json::{Value, json};

/// Mean over heads of the class row: `[heads, n]` flattened → one score per patch.
pub fn scores(cls: &[f32], heads: usize) -> Vec<f32> {
    let n = cls.len() / heads.max(1);
    let mean = |j: usize| (0..heads).map(|h| f64::from(cls[h * n + j])).sum::<f64>() / heads.max(1) as f64;
    (0..n).map(|j| mean(j) as f32).collect()
}

const VISION_LAYER: Param =
    Param::layer_of("attention_layer", "Encoder layer whose class row is read", Tower::Vision, LayerPick::At(-2));

static INFO: Info = Info {
    id: "fastervlm",
    title: "FasterVLM",
    summary: "Keeps the image tokens that the encoder's class token attends to most.",
    family: "image features",
    paper: Some(Paper {
        title: "[CLS] Attention is All You Need for Training-Free Visual Token Pruning: Make VLM Inference Faster",
        authors: "Zhang et al.",
        year: 2024,
        arxiv: "2412.01818",
    }),
    departs: "inside a plain encoder the cut is after the layer chosen, which the paper does not do",
    needs: &[Need::ImageTokens, Need::ClassToken, Need::Attention],
    params: &[KEEP, VISION_LAYER, LAYER],
    basis: Basis::Authors { repo: "Theia-4869/FasterVLM", commit: "" },
    budget: Some(&KEEP),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct FasterVlm;

impl Method for FasterVlm {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn plan(&self, input: &Subject, params: &Params, ctx: &Ctx) -> Result<Plan> {
        INFO.check(params)?;
        let place = Place::of_image(input, INFO.id)?;
        let (vision, class) = class_tower(input, INFO.id)?;
        let layer = params.one_layer(&VISION_LAYER, vision.n_layers)?;
        let mut score = Vec::new();
        for tile in 0..vision.n_tiles.max(1) {
            ctx.step(tile, vision.n_tiles.max(1))?;
            let (cls, heads) = class_rows(input.trace, tile, layer, class)?;
            score.extend(scores(&cls, heads));
        }
        if score.len() != place.rows.len() {
            return Err(Error::invalid(
                "this model merges patches on their way to the language model, so the class token's view does not fit them",
            ));
        }
        let kept = top_k::of_row(&score, place.budget(params.number(&KEEP)), ctx)?;
        place.keep(input, params, &kept, score)
    }
}

/// The image encoder and its class token. Errors if the run has none.
fn class_tower<'t>(input: &Subject<'t>, method: &str) -> Result<(&'t TowerTrace, usize)> {
    let vision = input.trace.towers.get(&Tower::Vision);
    let found = vision.and_then(|t| t.class_token.map(|c| (t, c)));
    found.ok_or_else(|| Error::Need { method: method.into(), need: Need::ClassToken.words().into() })
}

/// The class row of every head, patch columns only, `[heads, patches]` flattened, and the number of heads.
fn class_rows(trace: &Trace, tile: usize, layer: usize, class: usize) -> Result<(Vec<f32>, usize)> {
    let vision = trace.tower(Tower::Vision)?;
    let heads = vision.attention.get(layer).map_or(0, |a| a.n_heads);
    let grid = vision.grids.get(tile).ok_or_else(|| Error::invalid("the image has no grid of patches"))?;
    // Rows of a tile count from its own first token.
    let first =
        grid.first - vision.grids[..tile].iter().map(|g| g.rows * g.cols + (vision.grids[0].first)).sum::<usize>();
    let mut out = Vec::new();
    for head in 0..heads {
        let row = attention_map::row_of_trace(trace, Tower::Vision, tile, layer, head, class)?;
        out.extend_from_slice(&row[first..first + grid.rows * grid.cols]);
    }
    Ok((out, heads))
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
    let (mut score, mut keep) = (Vec::new(), Vec::new());
    for v in 0..views {
        ctx.step(v, views)?;
        let s = scores(a.row(v), heads);
        keep.push(top_k::of_row(&s, k, ctx)?);
        score.push(s);
    }
    Ok(json!({ "score": score, "keep": keep }))
}
