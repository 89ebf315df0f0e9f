//! Received attention, weighted by how much a token's value can move the stream.
//!
//! Source: plain baseline after Kobayashi et al. 2020, "Attention is Not Only a Weight", arXiv 2004.10102.
//! Takes: maps, values, output projection. Gives: per token, received attention times the norm of its value
//! vector through the output projection, per head, then summed. Departs: none known. Cost: O(heads · n² · width).

use super::{Method, Scores};
use crate::Subject;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, LayerPick, Need, Paper, Param, Params};
use crate::passes::attention::Head;
use crate::passes::attention_received::{self, Groups};
use crate::trace::Site;
use crate::{Error, Result};
use candle_core::Tensor;

const LAYER: Param = Param::layer("layer", "Layer to read, or the mean of all", LayerPick::All);

static INFO: Info = Info {
    id: "value_weighted_attention",
    title: "Value-weighted attention",
    summary: "Weighs received attention by the size of what each token passes on.",
    family: "attention",
    paper: Some(Paper {
        title: "Attention is Not Only a Weight: Analyzing Transformers with Vector Norms",
        authors: "Kobayashi et al.",
        year: 2020,
        arxiv: "2004.10102",
    }),
    departs: "the paper norms each weighted vector; here norms are summed over heads as a baseline",
    needs: &[Need::Attention, Need::Values],
    params: &[LAYER],
    basis: Basis::OwnReading,
    ..Info::of(Kind::Score)
};

pub(super) struct ValueWeightedAttention;

impl Method for ValueWeightedAttention {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn score(&self, input: &Subject, params: &Params, ctx: &Ctx) -> Result<Scores> {
        INFO.check(params)?;
        let model = input.weights(&INFO)?;
        let tower = input.trace.tower(input.tower)?;
        let n_tokens = tower.tokens.len();
        let layers = params.layers(&LAYER, tower.attention.len())?;
        let mut per_layer = Vec::new();
        for (i, &layer) in layers.iter().enumerate() {
            ctx.step(i, layers.len())?;
            let rule =
                tower.attention.get(layer).ok_or_else(|| Error::invalid(format!("there is no layer {layer}")))?;
            let v = input.trace.get(input.tower, layer, Site::V)?;
            let [_, n, _] = v.array.dims("values")?;
            let v_tensor = Tensor::from_slice(v.array.data(), v.array.shape().to_vec(), model.device())?;
            let o = model.output_projection(input.tower, layer)?;
            let mut got = vec![0f64; n];
            for head in 0..rule.n_heads {
                let group = head / (rule.n_heads / rule.n_kv_heads);
                let moved = v_tensor.get(group)?.matmul(&o.get(head)?)?;
                let norms = moved.sqr()?.sum(1)?.sqrt()?.to_vec1::<f32>()?;
                let map = Head::of_trace(input.trace, input.tower, 0, layer, head)?;
                let received = attention_received::run(
                    &map,
                    &Groups::all(n),
                    &ctx.part(i, layers.len()).part(head, rule.n_heads),
                )?;
                for (g, (sum, norm)) in got.iter_mut().zip(received.data().iter().zip(norms)) {
                    *g += f64::from(*sum) / n.max(1) as f64 * f64::from(norm);
                }
            }
            let got: Vec<f32> = got.iter().map(|&g| g as f32).collect();
            per_layer.push(v.rows.to_tokens(&got, n_tokens));
        }
        Ok(Scores::over_layers(per_layer, n_tokens, "attention × value norm"))
    }
}
