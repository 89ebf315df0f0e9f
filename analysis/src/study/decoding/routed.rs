//! What studies of experts read of a run: router logits and chosen experts of every layer that has a router.

use crate::method::Info;
use crate::trace::Site;
use crate::{Result, Subject};

/// A layer with experts.
pub struct Routed {
    /// The layer.
    pub layer: usize,
    /// Router logits by token `[tokens][experts]`.
    pub logits: Vec<Vec<f32>>,
    /// Experts that read each token, best first `[tokens][chosen]`.
    pub chosen: Vec<Vec<usize>>,
}

/// Every layer with experts. Errors: a run without any.
pub fn layers(on: &Subject, info: &Info) -> Result<Vec<Routed>> {
    let mut out = Vec::new();
    for layer in 0..on.tower()?.n_layers {
        let (Ok(logits), Ok(chosen)) =
            (on.trace.get(on.tower, layer, Site::Router), on.trace.get(on.tower, layer, Site::Experts))
        else {
            continue;
        };
        logits.array.check_finite("router logits")?;
        let rows = |a: &crate::array::Array| (0..a.shape()[0]).map(|i| a.row(i).to_vec()).collect::<Vec<_>>();
        let chosen = rows(&chosen.array).into_iter().map(|r| r.into_iter().map(|x| x as usize).collect()).collect();
        out.push(Routed { layer, logits: rows(&logits.array), chosen });
    }
    if out.is_empty() { Err(info.needs(crate::method::Need::Experts.words())) } else { Ok(out) }
}
