//! What could stand behind a text: the most probable tokens of the target, and what the draft model makes of them.

use super::cut::Cut;
use super::oracle::{Oracle, Reader};
use super::row::Row;
use super::{Method, With};
use crate::ctx::Ctx;
use crate::method::Need;
use crate::subject::Subject;
use crate::{Error, Result};

/// A token that could come next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Next {
    /// Vocabulary id.
    pub id: u32,
    /// The target's probability, at temperature 1.
    pub target: f32,
    /// The draft model's; `None` where none drafts.
    pub draft: Option<f32>,
}

/// The `k` most probable tokens after the prompt of a run and `ids`, the most probable one first; `method` says whether
/// a model drafts.
///
/// Errors: a run without weights or text, whatever the models fail with, cancelled.
pub fn next(method: &dyn Method, on: &Subject, ids: &[u32], k: usize, ctx: &Ctx) -> Result<Vec<Next>> {
    let (info, input) = (method.info(), on.again());
    let Some((&last, before)) = input.ids.split_last() else {
        return Err(Error::invalid("the prompt has no tokens"));
    };
    let text = [&[last], ids].concat();
    let behind = |rows: Vec<Row>| rows.into_iter().last().ok_or_else(|| Error::invalid("the model gave no logits"));
    let mut target = Reader::new(on.weights(info)?);
    target.begin(before, input.image.clone(), ctx)?;
    let row = behind(target.read(&text, ctx)?)?;
    let top = row.top(k);
    let p = row.probabilities(top.iter().map(|&i| i as u32), 1.0);
    let q = match info.needs.contains(&Need::DraftModel) {
        true => {
            let mut draft = With { on, info, cut: Cut::NONE, shared: None }.partner(&ctx.apart())?;
            let row = behind(draft.read(&text, ctx)?)?;
            row.probabilities(top.iter().map(|&i| i as u32), 1.0).into_iter().map(Some).collect()
        }
        false => vec![None; top.len()],
    };
    let one = |((id, p), q): ((usize, f64), Option<f64>)| Next {
        id: id as u32,
        target: p as f32,
        draft: q.map(|q| q as f32),
    };
    Ok(top.into_iter().zip(p).zip(q).map(one).collect())
}
