//! One edge between two tokens of a layer: what each head carries along it, and what that does to the prediction.

use super::{TOP, next, weights, word};
use crate::math::{largest, log_softmax};
use crate::model::Model;
use crate::passes::attention_map;
use crate::tokenize::Tokenizer;
use crate::trace::{Site, Tower};
use crate::{Ctx, Error, Result, Subject};
use candle_core::Tensor;

/// What one head moves along an edge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadShare {
    /// Head.
    pub head: usize,
    /// Its attention from the receiving to the giving token.
    pub attention: f32,
    /// L2 norm of what it adds to the residual stream for that.
    pub norm: f32,
}

/// Attention of every head of `layer` from token `to` to token `from`, and the length of what it adds for that; the
/// length is NaN in runs without weights, and in models that norm what the heads say together.
///
/// Errors: a run without attention, a token or layer that it does not have, cancelled.
pub fn heads(on: &Subject, layer: usize, from: usize, to: usize, ctx: &Ctx) -> Result<Vec<HeadShare>> {
    let n = on.tower()?.attention.get(layer).map_or(0, |a| a.n_heads);
    let mut out = Vec::with_capacity(n);
    for head in 0..n {
        ctx.step(head, n)?;
        let (attention, norm) = match on.model.filter(|m| !norms(*m, on.tower)) {
            Some(model) => {
                let (a, c) = contribution(on, model, layer, head, from, to)?;
                (a, c.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt() as f32)
            }
            None => (attention(on, layer, head, from, to)?, f32::NAN),
        };
        out.push(HeadShare { head, attention, norm });
    }
    Ok(out)
}

/// Whether what the heads of this stack say is normed together, so that none adds a part of its own.
fn norms(model: &dyn Model, tower: Tower) -> bool {
    model.info().towers.get(&tower).is_some_and(|t| t.norms_attention)
}

fn attention(on: &Subject, layer: usize, head: usize, from: usize, to: usize) -> Result<f32> {
    let row = attention_map::row_of_trace(on.trace, on.tower, 0, layer, head, to)?;
    row.get(from).copied().ok_or_else(|| Error::invalid(format!("there is no token {from}")))
}

/// The attention and the vector `[d]` that `head` adds to the residual stream of `to` for what it read at `from`.
fn contribution(
    on: &Subject,
    model: &dyn Model,
    layer: usize,
    head: usize,
    from: usize,
    to: usize,
) -> Result<(f32, Vec<f32>)> {
    let a = attention(on, layer, head, from, to)?;
    let rule = on
        .tower()?
        .attention
        .get(layer)
        .ok_or_else(|| Error::invalid(format!("there is no layer {layer} in this run")))?;
    let v = &on.trace.get(on.tower, layer, Site::V)?.array;
    let [_, n, e] = v.dims("values")?;
    let kv = v.row(head / (rule.n_heads / rule.n_kv_heads.max(1)).max(1));
    let value = Tensor::from_slice(&kv[from.min(n - 1) * e..][..e], (1, e), model.device())?;
    let moved = value.matmul(&model.output_projection(on.tower, layer)?.get(head)?)?.squeeze(0)?;
    Ok((a, (moved * f64::from(a))?.to_vec1::<f32>()?))
}

/// A vocabulary entry and how it moved.
#[derive(Debug, Clone, PartialEq)]
pub struct Moved {
    /// Its text.
    pub text: String,
    /// Change of its log-probability in nats.
    pub delta: f32,
    /// Rank without the contribution, 1 is the most probable.
    pub before: usize,
    /// Rank with it.
    pub after: usize,
}

/// What a contribution does to the prediction that the logit lens reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// What it makes more probable, strongest first.
    pub promoted: Vec<Moved>,
    /// What it makes less probable, strongest first.
    pub suppressed: Vec<Moved>,
    /// What it adds, in nats, to the lead of what is explained over the token that it is held against, where there is one.
    pub lead: Option<Lead>,
}

/// A change of the lead of one token over another.
#[derive(Debug, Clone, PartialEq)]
pub struct Lead {
    /// Text of the token that is explained.
    pub token: String,
    /// Text of the one that it is held against.
    pub against: String,
    /// Change of the difference of their logits, in nats.
    pub delta: f32,
}

/// What the logit lens reads after `layer` with and without what `head` adds to token `to` for what it read at `from`;
/// where the subject is aimed at one token rather than another, what that does to their difference, too. The explained
/// token is the one that the whole model predicts at `to` where none is named.
///
/// Errors: another stack than the language model, a run without weights or a reduced one, a model that norms what its
/// heads say together, a token or layer that the run does not have.
pub fn effect(on: &Subject, layer: usize, head: usize, from: usize, to: usize) -> Result<Effect> {
    if on.tower != Tower::Text {
        return Err(Error::invalid("an image encoder has no vocabulary to read its states with"));
    }
    let model = weights(on)?;
    if norms(model, on.tower) {
        return Err(Error::invalid(
            "this model norms what its heads say together before it is added, so one head's part cannot be taken out",
        ));
    }
    let (_, c) = contribution(on, model, layer, head, from, to)?;
    let post = &on.trace.get(on.tower, layer, Site::ResidPost)?.array;
    let [n, d] = post.dims("residual stream")?;
    if to >= n || c.len() != d {
        return Err(Error::invalid("the run was reduced; choose the full run"));
    }
    let with = post.row(to).to_vec();
    let without: Vec<f32> = with.iter().zip(&c).map(|(x, c)| x - c).collect();
    let both = Tensor::from_slice(&[without, with].concat(), (2, d), model.device())?;
    let rows = model.lens(&both)?.to_vec2::<f32>()?;
    let [before, after] = [log_softmax(&rows[0]), log_softmax(&rows[1])];
    let mut out = moved(&before, &after, on.tokenizer);
    if on.aim.against.is_some() {
        let logits: Vec<f32> = next(on, Some(to))?.into_iter().map(|p| p as f32).collect();
        // Where the other token is what is predicted, nothing leads over it.
        let aim = on.aim.of(&logits, &model.info().name).ok();
        out.lead = aim.and_then(|aim| lead(aim, &before, &after, on.tokenizer));
    }
    Ok(out)
}

fn lead(aim: (usize, Option<usize>), before: &[f64], after: &[f64], tokenizer: Option<&Tokenizer>) -> Option<Lead> {
    let (token, against) = (aim.0, aim.1?);
    let of = |p: &[f64]| Some(p.get(token)? - p.get(against)?);
    let delta = (of(after)? - of(before)?) as f32;
    Some(Lead { token: word(tokenizer, token), against: word(tokenizer, against), delta })
}

fn moved(before: &[f64], after: &[f64], tokenizer: Option<&Tokenizer>) -> Effect {
    let delta: Vec<f64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
    let order = largest(&delta, delta.len());
    let rank = |p: &[f64], i: usize| 1 + p.iter().filter(|x| **x > p[i]).count();
    let line = |&i: &usize| Moved {
        text: word(tokenizer, i),
        delta: delta[i] as f32,
        before: rank(before, i),
        after: rank(after, i),
    };
    Effect {
        promoted: order.iter().filter(|&&i| delta[i] > 0.0).take(TOP).map(line).collect(),
        suppressed: order.iter().rev().filter(|&&i| delta[i] < 0.0).take(TOP).map(line).collect(),
        lead: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lead_grows_by_what_one_token_gains_and_the_other_loses() {
        let p = |x: [f64; 3]| x.map(f64::ln);
        let (before, after) = (p([0.5, 0.25, 0.25]), p([0.25, 0.5, 0.25]));
        // From 1/2 to 2: ln 4. Against what stays, half of it.
        let of = |a, b| lead((a, b), &before, &after, None).map(|l| l.delta);
        assert!((of(1, Some(0)).unwrap() - 4f32.ln()).abs() < 1e-6);
        assert!((of(0, Some(2)).unwrap() + 2f32.ln()).abs() < 1e-6);
        assert_eq!((of(0, None), of(0, Some(3))), (None, None));
    }

    #[test]
    fn promoted_and_suppressed_by_hand() {
        // Probabilities 1/2, 1/4, 1/4 become 1/4, 1/2, 1/4.
        let p = |x: [f64; 3]| x.map(f64::ln);
        let e = moved(&p([0.5, 0.25, 0.25]), &p([0.25, 0.5, 0.25]), None);
        assert_eq!((e.promoted.len(), e.suppressed.len()), (1, 1));
        let up = &e.promoted[0];
        assert_eq!((up.text.as_str(), up.before, up.after), ("<1>", 2, 1));
        assert!((up.delta - 2f32.ln()).abs() < 1e-6);
        assert_eq!((e.suppressed[0].before, e.suppressed[0].after), (1, 2));
    }
}
