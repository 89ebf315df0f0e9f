//! Looking into one edge of the flow lattice: what each head carries along it and what that does to the prediction.

use super::{model_of, tower, trace_of, weights_of};
use crate::jobs::{Ask, Store};
use crate::keys::{RunKey, Scope};
use candle_core::Tensor;
use tokenscope_analysis::math::{largest, log_softmax};
use tokenscope_analysis::model::Model;
use tokenscope_analysis::passes::attention_map;
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::{Site, Tower, Trace};
use tokenscope_analysis::{Ctx, Error, Result};

/// Entries listed on each side.
const TOP: usize = 8;

/// What each head of a layer carries from one token to another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EdgeOf {
    /// The stack.
    pub scope: Scope,
    /// Layer.
    pub layer: usize,
    /// Giving token.
    pub from: usize,
    /// Receiving token.
    pub to: usize,
}

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

impl Ask for EdgeOf {
    type Out = Vec<HeadShare>;

    /// Attention of every head from the receiving token to the giving one, and the length of what it adds for that.
    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Vec<HeadShare>> {
        let Self { scope, layer, from, to } = self;
        let (layer, from, to) = (*layer, *from, *to);
        let (t, open) = (trace_of(&scope.run, store, ctx)?, weights_of(&scope.run, store, ctx)?);
        let name = tower(scope, &t);
        let run = t.tower(name)?;
        let n = run.attention.get(layer).map_or(0, |a| a.n_heads);
        let mut out = Vec::with_capacity(n);
        for head in 0..n {
            ctx.step(head, n)?;
            let (attention, norm) = match &open {
                Some(open) if !norms(open.model.as_ref(), name) => {
                    let (a, c) = contribution(&t, name, open.model.as_ref(), layer, head, from, to)?;
                    (a, c.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt() as f32)
                }
                _ => (attention(&t, name, layer, head, from, to)?, f32::NAN),
            };
            out.push(HeadShare { head, attention, norm });
        }
        Ok(out)
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.scope.run)
    }
}

/// Whether what the heads of this stack say is normed together, so that none adds a part of its own.
fn norms(model: &dyn Model, name: Tower) -> bool {
    model.info().towers.get(&name).is_some_and(|t| t.norms_attention)
}

fn attention(t: &Trace, name: Tower, layer: usize, head: usize, from: usize, to: usize) -> Result<f32> {
    let row = attention_map::row_of_trace(t, name, 0, layer, head, to)?;
    row.get(from).copied().ok_or_else(|| Error::invalid(format!("there is no token {from}")))
}

/// The attention and the vector `[d]` that `head` adds to the residual stream of `to` for what it read at `from`.
fn contribution(
    t: &Trace,
    name: Tower,
    model: &dyn Model,
    layer: usize,
    head: usize,
    from: usize,
    to: usize,
) -> Result<(f32, Vec<f32>)> {
    let a = attention(t, name, layer, head, from, to)?;
    let rule = t
        .tower(name)?
        .attention
        .get(layer)
        .ok_or_else(|| Error::invalid(format!("there is no layer {layer} in this run")))?;
    let v = &t.get(name, layer, Site::V)?.array;
    let [_, n, e] = v.dims("values")?;
    let kv = v.row(head / (rule.n_heads / rule.n_kv_heads.max(1)).max(1));
    let value = Tensor::from_slice(&kv[from.min(n - 1) * e..][..e], (1, e), model.device())?;
    let moved = value.matmul(&model.output_projection(name, layer)?.get(head)?)?.squeeze(0)?;
    Ok((a, (moved * f64::from(a))?.to_vec1::<f32>()?))
}

/// What one head's share of an edge does to the prediction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EffectOf {
    /// The edge.
    pub edge: EdgeOf,
    /// Head.
    pub head: usize,
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
pub struct Effect {
    /// What it makes more probable, strongest first.
    pub promoted: Vec<Moved>,
    /// What it makes less probable, strongest first.
    pub suppressed: Vec<Moved>,
}

impl Ask for EffectOf {
    type Out = Effect;

    /// What the logit lens reads after the layer with and without the head's contribution.
    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Effect> {
        let EdgeOf { scope, layer, from, to } = &self.edge;
        let (layer, from, to) = (*layer, *from, *to);
        let (t, open) = (trace_of(&scope.run, store, ctx)?, model_of(&scope.run, store, ctx)?);
        let name = tower(scope, &t);
        if name != Tower::Text {
            return Err(Error::invalid("an image encoder has no vocabulary to read its states with"));
        }
        let model = open.model.as_ref();
        if norms(model, name) {
            return Err(Error::invalid(
                "this model norms what its heads say together before it is added, so one head's part cannot be taken out",
            ));
        }
        let (_, c) = contribution(&t, name, model, layer, self.head, from, to)?;
        let post = &t.get(name, layer, Site::ResidPost)?.array;
        let [n, d] = post.dims("residual stream")?;
        if to >= n || c.len() != d {
            return Err(Error::invalid("the run was reduced; choose the full run"));
        }
        let with = post.row(to).to_vec();
        let without: Vec<f32> = with.iter().zip(&c).map(|(x, c)| x - c).collect();
        let both = Tensor::from_slice(&[without, with].concat(), (2, d), model.device())?;
        let rows = model.lens(&both)?.to_vec2::<f32>()?;
        let [before, after] = [log_softmax(&rows[0]), log_softmax(&rows[1])];
        Ok(moved(&before, &after, open.tokenizer.as_ref()))
    }

    fn run(&self) -> Option<&RunKey> {
        self.edge.run()
    }
}

fn moved(before: &[f64], after: &[f64], tokenizer: Option<&Tokenizer>) -> Effect {
    let delta: Vec<f64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
    let order = largest(&delta, delta.len());
    let rank = |p: &[f64], i: usize| 1 + p.iter().filter(|x| **x > p[i]).count();
    let line = |&i: &usize| Moved {
        text: tokenizer.map_or_else(|| format!("<{i}>"), |t| t.token_text(i as u32)),
        delta: delta[i] as f32,
        before: rank(before, i),
        after: rank(after, i),
    };
    Effect {
        promoted: order.iter().filter(|&&i| delta[i] > 0.0).take(TOP).map(line).collect(),
        suppressed: order.iter().rev().filter(|&&i| delta[i] < 0.0).take(TOP).map(line).collect(),
    }
}

/// Most probable next tokens at one node of the lattice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeLensOf {
    /// The run.
    pub run: RunKey,
    /// Level of the node, 0 for the inputs.
    pub level: usize,
    /// Its token.
    pub token: usize,
}

impl Ask for NodeLensOf {
    type Out = Vec<(String, f32)>;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Vec<(String, f32)>> {
        let (t, open) = (trace_of(&self.run, store, ctx)?, model_of(&self.run, store, ctx)?);
        let entry = match self.level.checked_sub(1) {
            None => t.get(Tower::Text, 0, Site::ResidPre)?,
            Some(layer) => t.get(Tower::Text, layer, Site::ResidPost)?,
        };
        let [n, d] = entry.array.dims("residual stream")?;
        let token = self.token;
        if token >= n {
            return Err(Error::invalid(format!("there is no token {token}")));
        }
        let row = Tensor::from_slice(entry.array.row(token), (1, d), open.model.device())?;
        let logp = log_softmax(&open.model.lens(&row)?.squeeze(0)?.to_vec1::<f32>()?);
        let text = |i: usize| open.tokenizer.as_ref().map_or_else(|| format!("<{i}>"), |t| t.token_text(i as u32));
        Ok(largest(&logp, TOP).into_iter().map(|i| (text(i), logp[i].exp() as f32)).collect())
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
