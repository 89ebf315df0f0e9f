//! What a model says once something in it is another, beside what it says as it is.

use crate::ctx::Ctx;
use crate::finding::{Datum, Figure};
use crate::math::{divergence, largest, log_softmax};
use crate::method::Info;
use crate::model::{Input, LogitRows};
use crate::trace::Tap;
use crate::{Result, Subject};
use std::sync::Arc;

/// Logarithms of the next token's probabilities, with this tap, and this mask in place of the model's; `None` for models
/// without logits.
pub(super) fn next(
    on: &Subject,
    info: &Info,
    mask: Option<Arc<Vec<Vec<usize>>>>,
    tap: &mut dyn Tap,
    ctx: &Ctx,
) -> Result<Option<Vec<f64>>> {
    let model = on.weights(info)?;
    let says = model.info().vocab > 0;
    let logits = Some(if says { LogitRows::Last } else { LogitRows::None });
    let out = model.forward(&mut Input { mask, logits, ..on.again() }, tap, ctx)?;
    let last = out.logits.filter(|_| says).map(|l| crate::array::Array::from_tensor(&l)).transpose()?;
    Ok(last.map(|l| log_softmax(l.row(l.shape()[0].saturating_sub(1)))))
}

/// How far `other` is from `full`: the divergence, whether both prefer the same, and by how much each does.
pub(super) fn compared(on: &Subject, full: &[f64], other: &[f64]) -> Vec<Figure> {
    let best = |p: &[f64]| largest(p, 1).first().copied().unwrap_or(0);
    let (a, b) = (best(full), best(other));
    let says = |p: &[f64], i: usize| {
        format!("{} {:.2}", on.word(i as u32).trim(), p.get(i).copied().unwrap_or(f64::NEG_INFINITY).exp())
    };
    vec![
        Figure::new(
            "divergence",
            Datum::Number(divergence(full, other)),
            "Of the next token's distribution from the model's own",
        )
        .unit("nats"),
        Figure::new(
            "same answer",
            Datum::Text(if a == b { "yes" } else { "no" }.into()),
            "The most probable next token",
        ),
        Figure::new("says", Datum::Text(says(full, a)), "The model as it is, and how probable that is"),
        Figure::new("says then", Datum::Text(says(other, b)), "With the change, and how probable that is"),
    ]
}
