//! The one tap that carries out any plan inside a forward pass.

use super::{Plan, Stage};
use crate::Result;
use crate::trace::{At, Regroup, Site, Tap};
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
        let stage = match at.site {
            Site::Features => Stage::Features,
            Site::ResidMid => Stage::Mid(at.layer),
            Site::ResidPost => Stage::After(at.layer),
            _ => return Ok(None),
        };
        let tower_matches = stage == Stage::Features || at.tower == self.plan.tower;
        Ok(self.plan.cuts.iter().find(|c| tower_matches && c.stage == stage).map(|c| c.regroup.clone()))
    }

    fn proportional_attention(&self) -> bool {
        self.plan.proportional_attention
    }
}
