//! The one tap that carries out any plan inside a forward pass.

use super::{Plan, Stage};
use crate::Result;
use crate::trace::{At, Positions, Regroup, Site, Tap};
use candle_core::Tensor;

/// Carries out a plan.
pub struct Pruner<'a> {
    plan: &'a Plan,
}

impl<'a> Pruner<'a> {
    /// A tap for `plan`. Errors if the plan is not consistent.
    pub fn new(plan: &'a Plan) -> Result<Self> {
        plan.outcome()?;
        Ok(Self { plan })
    }
}

impl Tap for Pruner<'_> {
    fn regroup(&mut self, at: &At, _x: &Tensor) -> Result<Option<Regroup>> {
        // A plan is about the prompt's rows; what is written afterwards reads what is left of them.
        if at.step > 0 {
            return Ok(None);
        }
        let stage = match at.site {
            Site::Features => Stage::Features,
            Site::ResidMid => Stage::Mid(at.layer),
            Site::ResidPost => Stage::After(at.layer),
            _ => return Ok(None),
        };
        let tower_matches = stage == Stage::Features || at.tower == self.plan.tower;
        let cut = self.plan.cuts.iter().find(|c| tower_matches && c.stage == stage);
        // Features close up, as a language model that was given the shorter sequence would number them.
        let positions = if stage == Stage::Features { Positions::Renumber } else { Positions::Keep };
        Ok(cut.map(|c| Regroup { positions, ..c.regroup.clone() }))
    }

    fn proportional_attention(&self) -> bool {
        self.plan.proportional_attention
    }
}
