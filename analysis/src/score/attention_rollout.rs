//! Attention rollout: products of residual-augmented head means give each input's share in a node.
//!
//! Source: Abnar & Zuidema 2020, "Quantifying Attention Flow in Transformers", arXiv 2005.00928.
//! Takes: maps of every layer. Gives: a share per token. Departs: none known. Cost: O(layers · n³).

use super::maps::{self, PAPER, augment};
use super::{Method, Scores};
use crate::Result;
use crate::Subject;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Param, Params};
use crate::passes::rollout_product;

const RESIDUAL: Param =
    Param::toggle("add_residual", "Add the residual connection (identity) and renormalise rows", true);

static INFO: Info = Info {
    id: "attention_rollout",
    title: "Attention rollout",
    summary: "Multiplies the layers' attention maps, residual included, into shares of the inputs.",
    family: "attention",
    paper: Some(PAPER),
    needs: &[Need::Attention],
    params: &[RESIDUAL],
    basis: Basis::Authors { repo: "samiraabnar/attention_flow", commit: "" },
    ..Info::of(Kind::Score)
};

pub(super) struct AttentionRollout;

impl Method for AttentionRollout {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn score(&self, input: &Subject, params: &Params, ctx: &Ctx) -> Result<Scores> {
        INFO.check(params)?;
        let means = maps::all_head_means(input.trace, input.tower, ctx)?;
        let n = means.first().map_or(0, |m| m.shape()[0]);
        let target = maps::explained_row(input)?;
        let augmented: Vec<_> = means.iter().map(|m| augment(m, params.toggle(&RESIDUAL))).collect();
        let row = |r: &Vec<f64>| r[target * n..(target + 1) * n].iter().map(|&x| x as f32).collect::<Vec<f32>>();
        let shares = rollout_product::run(&augmented, n, ctx)?;
        let by_token = shares.iter().map(|r| maps::by_token(input, &row(r))).collect::<Result<Vec<_>>>()?;
        let layers = by_token.iter().map(|l| l.iter().map(|v| v.unwrap_or(0.0)).collect()).collect();
        let values = by_token.into_iter().next_back().unwrap_or_default();
        Ok(Scores::new(values, "share of the input").with_layers(layers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Array;

    #[test]
    fn two_layers_of_two_tokens_by_hand() {
        // A = [[1,0],[1,0]]: B = [[1,0],[.5,.5]], B·B = [[1,0],[.75,.25]].
        let b = augment(&Array::new([2, 2], vec![1.0, 0.0, 1.0, 0.0]).unwrap(), true);
        assert_eq!(b, [1.0, 0.0, 0.5, 0.5]);
        assert_eq!(rollout_product::cpu(&[b.clone(), b], 2).unwrap()[1], [1.0, 0.0, 0.75, 0.25]);
    }
}
