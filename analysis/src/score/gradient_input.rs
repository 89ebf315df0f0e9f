//! Gradient × input: how the log-probability of the explained prediction changes along each token embedding.
//!
//! Source: Simonyan et al. 2014, arXiv 1312.6034 (gradients); Shrikumar et al. 2017, arXiv 1605.01713 (times input).
//! Takes: the model. Gives: nats per token. Departs: none known. Cost: one pass and its backward pass.

use super::{Method, Scores};
use crate::Result;
use crate::Subject;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::model::{Input, LogitRows, backward};
use crate::token::TokenKind;
use crate::trace::NoTap;
use candle_core::{D, Var};

const KIND: Param = Param::choice("kind", "What is read from the gradient", &["gradient_x_input", "gradient_norm"]);
// The probability of a sure model hardly moves, its logit does.
const OUTPUT: Param = Param::choice("output", "What is differentiated", &["logit", "log_probability"]);

static INFO: Info = Info {
    id: "gradient_input",
    title: "Gradient × input",
    summary: "Differentiates the most probable prediction, or its lead over another token, by each token's embedding.",
    family: "gradient",
    paper: Some(Paper {
        title: "Learning Important Features Through Propagating Activation Differences",
        authors: "Shrikumar et al.",
        year: 2017,
        arxiv: "1605.01713",
    }),
    needs: &[Need::Gradients, Need::Logits],
    params: &[KIND, OUTPUT],
    basis: Basis::OwnReading,
    contrasts: true,
    first: true,
    ..Info::of(Kind::Score)
};

pub(super) struct GradientInput;

impl Method for GradientInput {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn score(&self, input: &Subject, params: &Params, ctx: &Ctx) -> Result<Scores> {
        INFO.check(params)?;
        let need = |what: &str| INFO.needs(what);
        let model = input.weights(&INFO)?;
        let tokens = &input.trace.tower(input.tower)?.tokens;
        let ids: Vec<u32> = tokens.iter().filter_map(|t| t.id).collect();
        if ids.len() != tokens.len() {
            return Err(need("a text run"));
        }
        let target = input.explained(ids.len())?;
        if let Some(t) = model.info().towers.get(&input.tower) {
            // What the way back needs of each layer: what goes into its parts, and of capped scores all that is made
            // of them.
            let capped = input.trace.tower(input.tower)?.attention.iter().any(|a| a.soft_cap.is_some());
            let scores = if capped { 4 * t.n_heads * ids.len() } else { 0 };
            let kept = t.n_layers * ids.len() * (12 * t.width + 3 * t.mlp_width + scores);
            ctx.fits((size_of::<f32>() * kept) as u64, "shorten the prompt, or choose a score without gradients")?;
        }
        let embeds = Var::from_tensor(&model.embed(&ids)?)?;
        let (given, logits) = (Some(embeds.as_tensor().clone()), Some(LogitRows::These(vec![target])));
        let mut request = Input { embeds: given, logits, ..input.again() };
        let out = model.forward(&mut request, &mut NoTap, ctx)?;
        let logits = out.logits.ok_or_else(|| need("logits of a language model"))?;
        let (_, mut value) = input.aim.logit(&logits.squeeze(0)?, &model.info().name)?;
        // Of two tokens the normalizer is the same.
        if params.choice(&OUTPUT) == "log_probability" && input.aim.against.is_none() {
            let max = logits.detach().max_keepdim(D::Minus1)?;
            let lse = (logits.broadcast_sub(&max)?.exp()?.sum_keepdim(D::Minus1)?.log()? + max)?;
            value = (value - lse.flatten_all()?.get(0)?)?;
        }
        let grads = backward(&value.sum_all()?, ctx)?;
        let grad = grads.get(&embeds).ok_or_else(|| need("gradients"))?;
        let norm = params.choice(&KIND) == "gradient_norm";
        let per_token = if norm { grad.sqr()?.sum(1)?.sqrt()? } else { (grad * embeds.as_tensor())?.sum(1)? };
        // The embeddings of image placeholders are replaced by features, so their gradient says nothing.
        let values = per_token.to_vec1::<f32>()?.into_iter().zip(tokens);
        let values = values.map(|(v, t)| (t.kind != TokenKind::Image).then_some(v)).collect();
        Ok(Scores { signed: !norm, ..Scores::new(values, if norm { "nats per unit" } else { "nats" }) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::tiny;
    use crate::run::{RunRequest, run};
    use crate::subject::Aim;
    use crate::trace::CaptureSpec;

    #[test]
    fn a_score_against_another_token_is_the_difference_of_both_scores() {
        let model = tiny();
        let request = RunRequest { ids: Some(vec![3, 1, 4, 15, 9]), ..RunRequest::default() };
        let trace = run(model.as_ref(), None, &request, &CaptureSpec::views(), &Ctx::default()).unwrap();
        let on = Subject::new(&trace).with_model(model.as_ref()).at(Some(3));
        let score = |aim: Aim, output: &'static str| {
            let params = Params::new().set("output", output);
            let s = GradientInput.score(&on.aimed(aim), &params, &Ctx::default()).unwrap();
            s.values.into_iter().map(Option::unwrap).collect::<Vec<f32>>()
        };
        let of = |token: u32| score(Aim { token: Some(token), against: None }, "logit");
        let (a, b) = (of(2), of(7));
        assert_ne!(a, b);
        for output in ["logit", "log_probability"] {
            let both = score(Aim { token: Some(2), against: Some(7) }, output);
            for ((a, b), both) in a.iter().zip(&b).zip(&both) {
                assert!((a - b - both).abs() < 1e-5, "{output}: {a} - {b} is not {both}");
            }
        }
        // Nothing that is named is what the model predicts.
        let best = score(Aim::default(), "logit");
        let named = (0..model.info().vocab as u32).filter(|t| of(*t) == best).count();
        assert_eq!(named, 1);
        let own = (0..model.info().vocab as u32).find(|t| of(*t) == best).unwrap();
        let against = GradientInput.score(&on.aimed(Aim::rather_than(own)), &Params::new(), &Ctx::default());
        assert!(against.is_err_and(|e| e.to_string().contains("what the model predicts")));
    }
}
