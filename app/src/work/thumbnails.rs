//! All heads' maps at a glance.

use super::{tower, trace_of};
use crate::heatmap::{Summary, version};
use crate::jobs::{Ask, Store};
use crate::keys::{RunKey, Scope};
use std::sync::Arc;
use tokenscope_analysis::heads::{self, Glance};
use tokenscope_analysis::passes::attention::Head;
use tokenscope_analysis::{Ctx, Result};

/// Cells per side of a thumbnail at most.
const SIDE: usize = 24;

/// All heads' maps, small.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ThumbnailsOf(pub Scope);

/// One head's map at a glance.
pub struct Thumbnail {
    /// A number that no other thumbnail has.
    pub version: u64,
    /// Layer.
    pub layer: usize,
    /// Head.
    pub head: usize,
    /// What it looks like.
    pub glance: Glance,
    /// What a colour scale is fitted to.
    pub summary: Arc<Summary>,
}

impl Ask for ThumbnailsOf {
    type Out = Vec<Thumbnail>;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Vec<Thumbnail>> {
        let t = trace_of(&self.0.run, store, ctx)?;
        let tower = tower(&self.0, &t);
        let rules = &t.tower(tower)?.attention;
        let all: usize = rules.iter().map(|r| r.n_heads).sum();
        let mut out = Vec::with_capacity(all);
        for (layer, rule) in rules.iter().enumerate() {
            for head in 0..rule.n_heads {
                ctx.step(out.len(), all)?;
                let map = Head::of_trace(&t, tower, 0, layer, head)?;
                let glance = heads::glance(&map, SIDE, &ctx.part(out.len(), all))?;
                let summary = Arc::new(Summary::new(&glance.counts, 0));
                out.push(Thumbnail { version: version(), layer, head, glance, summary });
            }
        }
        Ok(out)
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.0.run)
    }

    fn bytes(list: &Vec<Thumbnail>) -> u64 {
        list.iter().map(|t| size_of_val(t.glance.cells.data()) + t.summary.bytes()).sum::<usize>() as u64
    }
}
