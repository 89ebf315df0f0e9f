//! Surprise along the layers: −log p of each actual next token, read from a layer through the final norm and head.
//!
//! Source: baseline on nostalgebraist's logit lens (2020). Takes: the residual stream. Gives: nats per token.
//! Departs: none known. Cost: O(layers · n · width · vocabulary).

use super::{Method, Scores};
use crate::Subject;
use crate::ctx::Ctx;
use crate::method::{Info, Kind, LayerPick, Need, Param, Params};
use crate::model::Writes;
use crate::trace::Site;
use crate::{Error, Result};
use candle_core::{D, Tensor};

const LAYER: Param = Param::layer("layer", "Layer to read", LayerPick::At(-1));

static INFO: Info = Info {
    id: "logit_lens_surprise",
    title: "Logit-lens surprise",
    summary: "Reads from a layer how surprised the model is by each token.",
    family: "probability",
    needs: &[Need::Residual, Need::Logits],
    params: &[LAYER],
    ..Info::of(Kind::Score)
};

pub(super) struct LogitLensSurprise;

impl Method for LogitLensSurprise {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn score(&self, input: &Subject, params: &Params, ctx: &Ctx) -> Result<Scores> {
        INFO.check(params)?;
        let model = input.weights(&INFO)?;
        if model.info().writes != Writes::Causal {
            return Err(INFO.needs("a model that predicts the next token"));
        }
        let tower = input.trace.tower(input.tower)?;
        let n = tower.tokens.len();
        let chosen = params.one_layer(&LAYER, tower.n_layers)?;
        let mut layers = Vec::new();
        for layer in 0..tower.n_layers {
            ctx.step(layer, tower.n_layers)?;
            let entry = input.trace.get(input.tower, layer, Site::ResidPost)?;
            if !entry.rows.is_unmerged() || entry.rows.len() != n {
                return Err(Error::invalid("the run was reduced; choose the full run"));
            }
            let shape = entry.array.shape().to_vec();
            let resid = Tensor::from_slice(entry.array.data(), shape, model.device())?;
            let logits = model.lens(&resid)?;
            let max = logits.max_keepdim(D::Minus1)?;
            let lse = (logits.broadcast_sub(&max)?.exp()?.sum_keepdim(D::Minus1)?.log()? + &max)?;
            let logp = logits.broadcast_sub(&lse)?.to_vec2::<f32>()?;
            let mut row = vec![0.0; n];
            for t in 1..n {
                if let Some(id) = tower.tokens[t].id {
                    row[t] = -logp[t - 1].get(id as usize).copied().unwrap_or(f32::NAN);
                }
            }
            layers.push(row);
        }
        // Nothing comes before the first token, so nothing predicts it.
        let values = layers.get(chosen).into_iter().flatten().enumerate().map(|(t, &v)| (t > 0).then_some(v)).collect();
        Ok(Scores::new(values, "nats").with_layers(layers))
    }
}
