//! Generic relevancy: attention and its gradient, multiplied and rolled up through the layers, say what an answer rests
//! on.
//!
//! Source: Chefer et al. 2021, arXiv 2103.15679 (the rule); arXiv 2506.01097 (averaged over the answer's tokens, to
//! choose image tokens). Takes: patterns and their gradients. Gives: relevance per token. Cost: a pass and its backward
//! pass for each token of the answer, O(layers · heads · n²) memory.

use super::{Method, Scores};
use crate::Subject;
use crate::array::Array;
use crate::ctx::Ctx;
use crate::math::largest;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::model::{Input, LogitRows, Model, Writes, backward};
use crate::raw::{Adapter, RawInput};
use crate::subject::Aim;
use crate::trace::{At, Site, Tap, Tower};
use crate::{Error, Result};
use candle_core::{Tensor, Var};
use serde_json::{Value, json};

const ANSWER: Param =
    Param::count("answer", "Tokens of the answer whose relevance is averaged, from the explained one on", 1, 64, 1);

static INFO: Info = Info {
    id: "explain_gae",
    title: "Generic relevancy",
    summary: "Rolls up attention times its gradient through the layers, for the tokens that the model answers with.",
    family: "gradient",
    basis: Basis::OwnReading,
    paper: Some(Paper {
        title: "Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder Transformers",
        authors: "Chefer, Gur, Wolf",
        year: 2021,
        arxiv: "2103.15679",
    }),
    departs: "one answer token by default; the trained network that stands in for it where gradients cost too much is \
              not here",
    needs: &[Need::Gradients, Need::Logits],
    contrasts: true,
    params: &[ANSWER],
    raw: &[Adapter { name: "explain_gae", run: raw }],
    ..Info::of(Kind::Score)
};

pub(super) struct ExplainGae;

impl Method for ExplainGae {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn score(&self, input: &Subject, params: &Params, ctx: &Ctx) -> Result<Scores> {
        INFO.check(params)?;
        let model = input.weights(&INFO)?;
        let n = input.tower()?.tokens.len();
        let mut ids = input.ids();
        if input.tower != Tower::Text || ids.len() != n {
            return Err(INFO.needs("a text run"));
        }
        let first = input.explained(n)?;
        let answer = params.count(&ANSWER).unsigned_abs() as usize;
        if let Some(t) = model.info().towers.get(&input.tower) {
            // Scores, shares, their sum with what is differentiated by, and the gradients of all of them.
            let kept = 6 * size_of::<f32>() * t.n_layers * t.n_heads * (n + answer).pow(2);
            ctx.fits(kept as u64, "shorten the prompt, or choose a score without gradients")?;
        }
        let (mut sum, mut rows) = (vec![0f64; n], 0);
        for row in first..first + answer {
            ctx.step(row - first, answer)?;
            if row >= n && model.info().writes != Writes::Causal {
                ctx.note("the answer ends with the text, which this model does not continue");
                break;
            }
            let again = Input { ids: ids.clone(), logits: Some(LogitRows::These(vec![row])), ..input.again() };
            // What is held against a token is so at the explained one; the rest of the answer follows from it.
            let aim = if row == first { input.aim } else { Aim::default() };
            let (next, layers) = patterns(model, again, aim, &ctx.part(row - first, answer))?;
            if row + 1 >= ids.len() {
                ids.push(next);
            }
            let relevance = roll_up(&layers, row)?;
            sum.iter_mut().zip(relevance).for_each(|(s, r)| *s += r);
            rows += 1;
        }
        let values = sum.into_iter().map(|s| Some((s / f64::from(rows.max(1))) as f32)).collect();
        Ok(Scores::new(values, "relevance"))
    }
}

/// Adds zeros to every pattern of the language model, to differentiate by them.
struct Variables(Vec<(Tensor, Var)>);

impl Tap for Variables {
    fn wants(&self, at: &At) -> bool {
        at.tower == Tower::Text && at.site == Site::Pattern
    }
    fn pass(&mut self, _: &At, x: Tensor) -> Result<Tensor> {
        let zeros = Var::zeros(x.shape(), x.dtype(), x.device())?;
        let sum = (&x + zeros.as_tensor())?;
        self.0.push((x.detach(), zeros));
        Ok(sum)
    }
}

/// The token that is explained behind the asked row, and each layer's pattern with the gradient of that token's logit.
fn patterns(model: &dyn Model, mut input: Input, aim: Aim, ctx: &Ctx) -> Result<(u32, Vec<(Array, Array)>)> {
    let mut tap = Variables(Vec::new());
    let logits = model.forward(&mut input, &mut tap, ctx)?.logits;
    let logits = logits.ok_or_else(|| INFO.needs(Need::Logits.words()))?.squeeze(0)?;
    let (best, value) = aim.logit(&logits, &model.info().name)?;
    let grads = backward(&value, ctx)?;
    let pair = |(p, zeros): &(Tensor, Var)| {
        // The last layer's other rows lead nowhere, and a layer may have no gradient at all.
        let grad = grads.get(zeros).map_or_else(|| Ok(Array::zeros(p.dims())), Array::from_tensor)?;
        Ok((Array::from_tensor(p)?, grad))
    };
    Ok((best as u32, tap.0.iter().map(pair).collect::<Result<_>>()?))
}

/// Row `row` of R, where R ← R + mean over heads of max(A ∘ ∇A, 0) · R from the identity on, layer by layer. Taken from
/// the last layer back, one row is all that is needed.
fn roll_up(layers: &[(Array, Array)], row: usize) -> Result<Vec<f64>> {
    let mut out: Vec<f64> = Vec::new();
    for (a, grad) in layers.iter().rev() {
        let [heads, n, m] = a.dims("pattern")?;
        if grad.shape() != a.shape() || n != m || row >= n || (!out.is_empty() && out.len() != n) {
            return Err(Error::shape("gradient", format!("{:?}, square", a.shape()), grad.shape()));
        }
        if out.is_empty() {
            out = vec![0.0; n];
            out[row] = 1.0;
        }
        let mut next = out.clone();
        for (i, (a, g)) in a.data().chunks(n).zip(grad.data().chunks(n)).enumerate() {
            let from = out[i % n] / heads as f64;
            if from != 0.0 {
                let part = a.iter().zip(g).map(|(a, g)| f64::from(a * g).max(0.0));
                next.iter_mut().zip(part).for_each(|(r, p)| *r += from * p);
            }
        }
        out = next;
    }
    Ok(out)
}

/// Raw entry: `attn_s` and `grad_s` `[layers, heads, n, n]` for each of `steps` answer tokens; `n_system`, `n_visual`,
/// `keep_ratio`.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (first, n): (usize, usize) = (input.read("n_system")?, input.read("n_visual")?);
    let (steps, share): (usize, f64) = (input.read("steps")?, input.read("keep_ratio")?);
    if steps == 0 {
        return Err(Error::invalid("steps must be at least 1"));
    }
    let columns = first..first.saturating_add(n);
    // Made once the first step has shown that there are so many.
    let mut sum = Vec::new();
    for step in 0..steps {
        ctx.step(step, steps)?;
        let (a, g) = (input.array(&format!("attn_{step}"))?, input.array(&format!("grad_{step}"))?);
        a.check_finite("attn")?;
        g.check_finite("grad")?;
        let [n_layers, heads, rows, _] = a.dims("attn")?;
        if g.shape() != a.shape() || rows < columns.end {
            return Err(Error::shape("grad", format!("{:?}, at least {} rows", a.shape(), columns.end), g.shape()));
        }
        sum.resize(n, 0f64);
        let layer = |x: &Array, l: usize| Array::new([heads, rows, x.shape()[3]], x.row(l).to_vec());
        let layers = (0..n_layers).map(|l| Ok((layer(a, l)?, layer(g, l)?))).collect::<Result<Vec<_>>>()?;
        let last = roll_up(&layers, rows.saturating_sub(1))?;
        sum.iter_mut().zip(&last[columns.clone()]).for_each(|(s, r)| *s += r / steps as f64);
    }
    let mut keep = largest(&sum, (share.clamp(0.0, 1.0) * n as f64) as usize);
    keep.sort_unstable();
    // What a small network is taught in the paper: the lower half is nothing, the rest sums to 1.
    let mut label = sum.clone();
    let rising = { largest(&sum.iter().map(|s| -s).collect::<Vec<_>>(), n / 2) };
    rising.into_iter().for_each(|i| label[i] = 0.0);
    let total: f64 = label.iter().sum();
    label.iter_mut().for_each(|l| *l /= total);
    Ok(json!({ "relevance": sum, "keep": keep, "training_label": label }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::tiny;
    use crate::run::{RunRequest, run};
    use crate::trace::CaptureSpec;

    #[test]
    fn two_layers_of_two_tokens_by_hand() {
        // max(A ∘ G, 0) is [[0, 0], [2, 1]] and [[0, 0], [3, 0]]; row 1 of (I + second)(I + first) is
        // [3, 1] (I + first) = [3 + 2, 1 + 1].
        let a = |x: [f32; 4]| Array::new([1, 2, 2], x.to_vec()).unwrap();
        let ones = a([1.0; 4]);
        let layers = [(a([-1.0, 0.0, 2.0, 1.0]), ones.clone()), (a([-4.0, 0.0, 3.0, -1.0]), ones)];
        assert_eq!(roll_up(&layers, 1).unwrap(), [5.0, 2.0]);
        // Heads are averaged.
        let two = (Array::new([2, 1, 1], vec![4.0, -2.0]).unwrap(), Array::new([2, 1, 1], vec![1.0, 1.0]).unwrap());
        assert_eq!(roll_up(&[two], 0).unwrap(), [3.0]);
    }

    #[test]
    fn a_real_run_rests_on_what_its_gradients_say_and_on_nothing_later() {
        let model = tiny();
        let ids = Some(vec![3, 1, 4, 15, 9]);
        let request = RunRequest { ids, ..RunRequest::default() };
        let trace = run(model.as_ref(), None, &request, &CaptureSpec::views(), &Ctx::default()).unwrap();
        let on = Subject::new(&trace).with_model(model.as_ref());
        let score = |on: &Subject, answer: i64| {
            let params = Params::new().set("answer", answer);
            let s = ExplainGae.score(on, &params, &Ctx::default()).unwrap();
            s.values.into_iter().map(Option::unwrap).collect::<Vec<_>>()
        };
        let early = score(&on.at(Some(2)), 1);
        assert!(early[..3].iter().all(|&v| v >= 0.0) && early[2] >= 1.0 && early[3..] == [0.0, 0.0]);
        // Held against another token, it rests on other tokens, and only at the explained one.
        let against = |a: Option<u32>, b: Option<u32>| score(&on.at(Some(2)).aimed(Aim { token: a, against: b }), 1);
        assert_ne!(against(None, Some(0)), early);
        assert_ne!(against(Some(0), Some(1)), against(Some(1), Some(0)));
        // Over three tokens: those behind the explained one, and one that the model writes.
        let single: Vec<Vec<f32>> = (3..5).map(|t| score(&on.at(Some(t)), 1)).collect();
        let three = score(&on.at(Some(3)), 3);
        assert!((0..5).all(|i| three[i] >= (single[0][i] + single[1][i]) / 3.0 - 1e-5));
        assert!((0..4).any(|i| three[i] > (single[0][i] + single[1][i]) / 3.0 + 1e-6));
    }
}
