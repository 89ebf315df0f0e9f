//! The tap: sees every site of a forward pass and may hand back another tensor, fewer rows, or fewer keys.

use super::attending::{Attending, KeySet};
use super::rows::Regroup;
use super::site::At;
use crate::Result;
use candle_core::Tensor;

/// Sees every activation on its way and may hand back another one. Identity unless someone watches.
/// Capture, pruning, merging, ablation, patching and early exit are taps; model code knows none of them.
///
/// While a text is written on, the tap of the prompt goes on seeing: [`At::step`] counts the passes.
pub trait Tap {
    /// Whether [`Tap::pass`] should be called here; sites that cost something to make are skipped otherwise.
    fn wants(&self, _at: &At) -> bool {
        false
    }

    /// Looks at `x` and returns what the model goes on with. Whoever only looks returns the same tensor, so that
    /// gradients flow through and the model stays on its fastest path. To differentiate by a site, a tap hands back
    /// the sum with a variable of zeros.
    fn pass(&mut self, _at: &At, x: Tensor) -> Result<Tensor> {
        Ok(x)
    }

    /// Asked at `ResidPre` of the first layer, at `ResidMid`, `ResidPost` and `Features`: how to go on with other
    /// rows, if at all. `x` is `[n, d]`. The model applies it to the residual stream, the row map and the masks.
    fn regroup(&mut self, _at: &At, _x: &Tensor) -> Result<Option<Regroup>> {
        Ok(None)
    }

    /// Asked in every layer once queries and keys are there, at [`super::Site::Pattern`]: which keys may be read, if
    /// not all that the model's mask shows. `seen` gives rows of the pattern without the whole of it.
    fn keys(&mut self, _at: &At, _seen: &Attending) -> Result<Option<KeySet>> {
        Ok(None)
    }

    /// Whether attention adds the logarithm of the row sizes to its scores (ToMe's proportional attention).
    fn proportional_attention(&self) -> bool {
        false
    }
}

/// Nobody watches.
pub struct NoTap;
impl Tap for NoTap {}

/// Two taps, one after the other: `first` acts, `then` sees the result.
pub struct Both<'a> {
    /// Acts first.
    pub first: &'a mut dyn Tap,
    /// Sees what the first handed back.
    pub then: &'a mut dyn Tap,
}

impl Tap for Both<'_> {
    fn wants(&self, at: &At) -> bool {
        self.first.wants(at) || self.then.wants(at)
    }
    fn pass(&mut self, at: &At, x: Tensor) -> Result<Tensor> {
        let x = if self.first.wants(at) { self.first.pass(at, x)? } else { x };
        if self.then.wants(at) { self.then.pass(at, x) } else { Ok(x) }
    }
    fn regroup(&mut self, at: &At, x: &Tensor) -> Result<Option<Regroup>> {
        // Two reductions at the same place would need composing; the first one that acts decides.
        match self.first.regroup(at, x)? {
            Some(r) => Ok(Some(r)),
            None => self.then.regroup(at, x),
        }
    }
    fn keys(&mut self, at: &At, seen: &Attending) -> Result<Option<KeySet>> {
        // Both look; a key is read where both allow it.
        match (self.first.keys(at, seen)?, self.then.keys(at, seen)?) {
            (Some(a), Some(b)) => Ok(Some(a.and(&b)?)),
            (a, b) => Ok(a.or(b)),
        }
    }
    fn proportional_attention(&self) -> bool {
        self.first.proportional_attention() || self.then.proportional_attention()
    }
}
