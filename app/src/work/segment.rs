//! Cuts of a text by several tokenizers, their lines, and how probable the model found its own tokens.

use super::{Store, model_of, tokenizer_of, trace_of};
use crate::request::{
    CutKey, ModelSource, OtherEncodings, Product, Request, RowSource, Rows, RunKey, Surprisal, TextStrip,
};
use crate::text::Text;
use std::path::Path;
use tokenscope_analysis::segment::{Metrics, Strip, rows as cut_rows};
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::{Site, Tower};
use tokenscope_analysis::{Ctx, Error, Result};

/// Name of the row of the model's own tokenizer.
pub const OWN: &str = "this model";

/// Rows of the final residual stream that are read at once: a vocabulary's worth of logits for each.
const ROWS: usize = 256;

pub(super) fn rows(key: &CutKey, store: &dyn Store, ctx: &Ctx) -> Result<Rows> {
    let run = RunKey { model: key.model.clone(), prompt: key.text.clone(), image: None };
    let open = match key.model {
        ModelSource::Recorded(_) => None,
        _ => Some(model_of(&run, store, ctx)?),
    };
    // A broken file must not take the other rows along.
    let (mut loaded, mut broken) = (Vec::new(), Vec::new());
    for file in &key.files {
        match tokenizer_of(file, store, ctx) {
            Ok(t) => loaded.push((file, t)),
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(why) => broken.push(why.to_string()),
        }
    }
    let own = open.as_ref().and_then(|o| o.tokenizer.as_ref()).map(|t| (OWN.to_string(), t));
    let mut sources: Vec<RowSource> = own.iter().map(|_| RowSource::Model(key.model.clone())).collect();
    sources.extend(loaded.iter().map(|(file, _)| RowSource::File(file.to_path_buf())));
    sources.extend(key.named.iter().map(|n| RowSource::Named(n)));
    let others = loaded.iter().map(|(file, t)| (row_name(file), t.as_ref()));
    let rows = cut_rows(&own.into_iter().chain(others).collect::<Vec<_>>(), &key.named, &key.text, ctx)?;
    let metrics = rows.iter().map(|r| Metrics::of(r, &key.text)).collect();
    Ok(Rows { text: key.text.clone(), rows, sources, metrics, broken })
}

/// Shortest encodings that are shown of a word.
const SHORTEST: usize = 8;

/// What `f` says of the tokenizer of a row; `None` for models without one and for rows that follow a rule.
pub(super) fn with_tokenizer<T>(
    source: &RowSource,
    store: &dyn Store,
    ctx: &Ctx,
    f: impl FnOnce(&Tokenizer) -> T,
) -> Result<Option<T>> {
    Ok(match source {
        RowSource::Model(m) => {
            let run = RunKey { model: m.clone(), prompt: Text::default(), image: None };
            model_of(&run, store, ctx)?.tokenizer.as_ref().map(f)
        }
        RowSource::File(file) => Some(f(tokenizer_of(file, store, ctx)?.as_ref())),
        RowSource::Named(name) => Tokenizer::named(name).ok().as_ref().map(f),
    })
}

pub(super) fn encodings(t: &Tokenizer, ids: &[u32]) -> Option<OtherEncodings> {
    let all = t.encodings(ids, SHORTEST)?;
    let spelled = |ids: Vec<u32>| ids.into_iter().map(|id| (id, t.token(id).unwrap_or_default())).collect();
    Some(OtherEncodings { count: all.count, shortest: all.shortest.into_iter().map(spelled).collect() })
}

/// Folder and file, because most tokenizers are called `tokenizer.json`.
pub fn row_name(file: &Path) -> String {
    let folder = file.parent().and_then(Path::file_name).map(|p| format!("{}/", p.to_string_lossy()));
    format!("{}{}", folder.unwrap_or_default(), ModelSource::Path(file.to_path_buf()).title())
}

pub(super) fn strip(key: &CutKey, columns: usize, store: &dyn Store, ctx: &Ctx) -> Result<TextStrip> {
    let Product::Segment(rows) = store.get(&Request::Segment(key.clone()), ctx)? else {
        return Err(Error::invalid("the request for cuts gave something else"));
    };
    let strip = Strip::new(&rows.text, &rows.rows, columns, ctx)?;
    Ok(TextStrip { rows, strip })
}

/// Reads the probability of every token off the last residual stream, through the final norm and head.
pub(super) fn surprisal(key: &RunKey, store: &dyn Store, ctx: &Ctx) -> Result<Surprisal> {
    let (t, open) = (trace_of(key, store, ctx)?, model_of(key, store, ctx)?);
    if !open.model.info().generates {
        return Err(Error::invalid("this model does not predict the next token, so its tokens have no surprisal"));
    }
    let tower = t.tower(Tower::Text)?;
    let n = tower.tokens.len();
    let last = tower.n_layers.checked_sub(1).ok_or_else(|| Error::invalid("the model has no layers"))?;
    let resid = &t.get(Tower::Text, last, Site::ResidPost)?.array;
    if resid.shape().first() != Some(&n) {
        return Err(Error::invalid("the run was reduced; choose the full run"));
    }
    let width = resid.shape().last().copied().unwrap_or(0);
    let mut ln_p = vec![None; n.min(1)];
    for start in (0..n.saturating_sub(1)).step_by(ROWS) {
        ctx.step(start, n)?;
        let end = (start + ROWS).min(n - 1);
        let part = &resid.data()[start * width..end * width];
        let part = candle_core::Tensor::from_slice(part, (end - start, width), open.model.device())?;
        let logits = open.model.lens(&part)?.to_vec2::<f32>()?;
        for (row, token) in logits.iter().zip(&tower.tokens[start + 1..=end]) {
            ln_p.push(token.id.and_then(|id| ln_share(row, id as usize)));
        }
    }
    let lowest = ln_p.iter().flatten().copied().fold(0.0, f32::min);
    Ok(Surprisal { ln_p, max_bits: -lowest / std::f32::consts::LN_2 })
}

/// Natural logarithm of the softmax of `logits` at `id`.
fn ln_share(logits: &[f32], id: usize) -> Option<f32> {
    let own = f64::from(*logits.get(id)?);
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from(x - max).exp()).sum();
    Some((own - f64::from(max) - sum.ln()) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
