//! How probable the model found each token of a run.

use super::weights;
use crate::math::log_sum_exp;
use crate::model::Writes;
use crate::trace::{Site, Tower, Trace};
use crate::{Ctx, Error, Result, Subject};
use candle_core::Tensor;

/// Rows of the final residual stream that are read at once: a vocabulary's worth of logits for each.
const ROWS: usize = 256;

/// How probable a model found the tokens of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Surprisal {
    /// Natural logarithm of each token's probability after those before it; `None` where nothing predicts it.
    pub ln_p: Vec<Option<f32>>,
    /// The largest surprisal, in bits.
    pub max_bits: f32,
}

impl Surprisal {
    fn new(ln_p: Vec<Option<f32>>) -> Self {
        let lowest = ln_p.iter().flatten().copied().fold(0.0, f32::min);
        Self { ln_p, max_bits: -lowest / std::f32::consts::LN_2 }
    }

    /// Probability and surprisal in bits of a token.
    pub fn of(&self, token: usize) -> Option<(f32, f32)> {
        let ln_p = self.ln_p.get(token).copied().flatten()?;
        Some((ln_p.exp(), (-ln_p / std::f32::consts::LN_2).max(0.0)))
    }
}

/// Reads the probability of every token off the last residual stream, through the final norm and head; of a recorded
/// run off the logits of all its tokens, where they are there.
///
/// Errors: a model that predicts no next token, a run with neither weights nor those logits, a reduced run, cancelled.
pub fn surprisal(on: &Subject, ctx: &Ctx) -> Result<Surprisal> {
    if on.model.is_none() && holds_predictions(on.trace) {
        return recorded(on.trace, ctx);
    }
    let model = weights(on)?;
    if model.info().writes != Writes::Causal {
        return Err(Error::invalid("this model does not predict the next token, so its tokens have no surprisal"));
    }
    let tower = on.trace.tower(Tower::Text)?;
    let n = tower.tokens.len();
    let last = tower.n_layers.checked_sub(1).ok_or_else(|| Error::invalid("the model has no layers"))?;
    let resid = &on.trace.get(Tower::Text, last, Site::ResidPost)?.array;
    if resid.shape().first() != Some(&n) {
        return Err(Error::invalid("the run was reduced; choose the full run"));
    }
    let width = resid.shape().last().copied().unwrap_or(0);
    let mut ln_p = vec![None; n.min(1)];
    for start in (0..n.saturating_sub(1)).step_by(ROWS) {
        ctx.step(start, n)?;
        let end = (start + ROWS).min(n - 1);
        let part = &resid.data()[start * width..end * width];
        let logits = model.lens(&Tensor::from_slice(part, (end - start, width), model.device())?)?.to_vec2::<f32>()?;
        for (row, token) in logits.iter().zip(&tower.tokens[start + 1..=end]) {
            ln_p.push(token.id.and_then(|id| ln_share(row, id as usize)));
        }
    }
    Ok(Surprisal::new(ln_p))
}

/// Whether a run holds the logits of all its tokens, of a model whose tokens see none that come after them: then they
/// say how probable each was.
pub fn holds_predictions(trace: &Trace) -> bool {
    let Some(tower) = trace.towers.get(&Tower::Text) else { return false };
    let n = tower.tokens.len();
    n > 0 && trace.logit_rows.iter().copied().eq(0..n) && !tower.attention.iter().any(|rule| rule.mask.sees_ahead(n))
}

fn recorded(trace: &Trace, ctx: &Ctx) -> Result<Surprisal> {
    let tower = trace.tower(Tower::Text)?;
    let logits = &trace.get(Tower::Text, tower.n_layers, Site::Logits)?.array;
    let [n, _] = logits.dims("logits")?;
    let mut ln_p = vec![None; n.min(1)];
    for (row, token) in tower.tokens.iter().enumerate().take(n).skip(1) {
        ctx.step(row, n)?;
        ln_p.push(token.id.and_then(|id| ln_share(logits.row(row - 1), id as usize)));
    }
    Ok(Surprisal::new(ln_p))
}

/// Natural logarithm of the softmax of `logits` at `id`.
fn ln_share(logits: &[f32], id: usize) -> Option<f32> {
    Some((f64::from(*logits.get(id)?) - log_sum_exp(logits)) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LogitRows;
    use crate::model::tests::tiny;
    use crate::run::{RunRequest, run};
    use crate::trace::{CaptureSpec, MaskRule};

    #[test]
    fn a_share_by_hand() {
        // exp: 1, 3, 4 of 8.
        let logits = [0.0, 3.0_f32.ln(), 4.0_f32.ln()];
        let p = |id| ln_share(&logits, id).map(f32::exp);
        assert!((p(1).unwrap() - 0.375).abs() < 1e-6 && (p(2).unwrap() - 0.5).abs() < 1e-6);
        assert_eq!(p(3), None);
        let s = Surprisal { ln_p: vec![None, ln_share(&logits, 2)], max_bits: 1.0 };
        let (p, bits) = s.of(1).unwrap();
        assert!((p - 0.5).abs() < 1e-6 && (bits - 1.0).abs() < 1e-5);
        assert_eq!((s.of(0), s.of(9)), (None, None));
    }

    #[test]
    fn a_recording_with_all_logits_needs_no_weights() {
        let ids = Some(vec![3, 1, 4, 1, 5]);
        let request = RunRequest { ids, logits: Some(LogitRows::All), ..RunRequest::default() };
        let model = tiny();
        let trace = run(model.as_ref(), None, &request, &CaptureSpec::views(), &Ctx::default()).unwrap();
        let of = |model| surprisal(&Subject { model, ..Subject::new(&trace) }, &Ctx::default()).unwrap().ln_p;
        let (with, without) = (of(Some(model.as_ref())), of(None));
        assert_eq!((with.len(), with[0], without[0]), (5, None, None));
        for (a, b) in with.iter().zip(&without).skip(1) {
            assert!((a.unwrap() - b.unwrap()).abs() < 1e-4, "{a:?} {b:?}");
        }
        // The last token's alone do not say it, and tokens that are seen from before are not predicted.
        let mut last = trace.clone();
        last.logit_rows = vec![4];
        assert!(holds_predictions(&trace) && !holds_predictions(&last));
        let mut both = trace;
        both.towers.get_mut(&Tower::Text).unwrap().attention[0].mask = MaskRule::Bidirectional;
        assert!(!holds_predictions(&both));
    }
}
