//! How much attention each token gets: column means of the maps over queries and heads.
//!
//! Source: plain baseline. Takes: queries and keys of a layer. Gives: a share per token.
//! Departs: none known. Cost: O(heads · n² · width), memory O(n).

use super::{Method, Scores};
use crate::Result;
use crate::Subject;
use crate::ctx::Ctx;
use crate::method::{Info, Kind, LayerPick, Need, Param, Params};
use crate::passes::attention_received::Groups;
use crate::passes::{attention_map, attention_received};

const LAYER: Param = Param::layer("layer", "Layer to read, or the mean of all", LayerPick::All);
const ROW: Param = Param::toggle("target_row", "Only the row of the explained token instead of all rows", false);
const FAIR: Param = Param::toggle("fair", "Divide by the number of rows that can see the token", true);
const NO_SINK: Param =
    Param::toggle("drop_first", "Leave out the first token, which often only collects attention", false);

static INFO: Info = Info {
    id: "received_attention",
    title: "Received attention",
    summary: "Averages the attention that each token gets from the others.",
    family: "attention",
    needs: &[Need::Attention],
    params: &[LAYER, ROW, FAIR, NO_SINK],
    ..Info::of(Kind::Score)
};

pub(super) struct ReceivedAttention;

impl Method for ReceivedAttention {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn score(&self, input: &Subject, params: &Params, ctx: &Ctx) -> Result<Scores> {
        INFO.check(params)?;
        let tower = input.trace.tower(input.tower)?;
        let layers = params.layers(&LAYER, tower.attention.len())?;
        let n_tokens = tower.tokens.len();
        let mut per_layer = Vec::new();
        for (i, &layer) in layers.iter().enumerate() {
            ctx.step(i, layers.len())?;
            let heads = attention_map::heads(input.trace, input.tower, 0, layer)?;
            let rows = &input.trace.get(input.tower, layer, crate::trace::Site::Q)?.rows;
            let n = rows.len();
            let mut got = vec![0f64; n];
            let mut add = |received: &[f32]| {
                got.iter_mut().zip(received).for_each(|(g, v)| *g += f64::from(*v) / heads.len() as f64);
            };
            if params.toggle(&ROW) {
                let target = input.explained(n_tokens)?;
                if let Some(r) = rows.row_of(target) {
                    for head in 0..heads.len() {
                        add(&attention_map::row_of_trace(input.trace, input.tower, 0, layer, head, r)?);
                    }
                }
            } else {
                let layer_ctx = ctx.part(i, layers.len());
                for (h, head) in heads.iter().enumerate() {
                    add(attention_received::run(head, &Groups::all(n), &layer_ctx.part(h, heads.len()))?.data());
                }
                let seen_by = match heads.first().filter(|_| params.toggle(&FAIR)) {
                    Some(head) => head.spans().seen_by(n),
                    None => vec![n; n],
                };
                got.iter_mut().zip(seen_by).for_each(|(g, seen)| *g /= seen.max(1) as f64);
            }
            if params.toggle(&NO_SINK) && n > 1 {
                got[0] = 0.0;
                let sum: f64 = got.iter().sum();
                got.iter_mut().for_each(|g| *g /= sum.max(f64::MIN_POSITIVE));
            }
            let got: Vec<f32> = got.iter().map(|&g| g as f32).collect();
            per_layer.push(rows.to_tokens(&got, n_tokens));
        }
        Ok(Scores::over_layers(per_layer, n_tokens, "share of attention"))
    }
}
