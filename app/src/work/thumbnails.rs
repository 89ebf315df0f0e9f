//! All heads' maps at a glance.

use super::map::MAP_SIDE;
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

/// One head at a glance. It stays when the list of all is given up for something more urgent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ThumbnailOf {
    scope: Scope,
    layer: usize,
    head: usize,
}

impl Ask for ThumbnailOf {
    type Out = Thumbnail;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Thumbnail> {
        let (layer, head) = (self.layer, self.head);
        let t = trace_of(&self.scope.run, store, ctx)?;
        let map = Head::of_trace(&t, tower(&self.scope, &t), 0, layer, head)?;
        let glance = heads::glance(&map, SIDE, ctx)?;
        let summary = Arc::new(Summary::new(&glance.counts, 0));
        Ok(Thumbnail { version: version(), layer, head, glance, summary })
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.scope.run)
    }

    fn bytes(t: &Thumbnail) -> u64 {
        (size_of_val(t.glance.cells.data()) + t.summary.bytes()) as u64
    }
}

impl Ask for ThumbnailsOf {
    type Out = Vec<Arc<Thumbnail>>;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Vec<Arc<Thumbnail>>> {
        let t = trace_of(&self.0.run, store, ctx)?;
        let tower = t.tower(tower(&self.0, &t))?;
        let all: usize = tower.attention.iter().map(|r| r.n_heads).sum();
        let mut out = Vec::with_capacity(all);
        // Of a short input all heads are quicker than one job for each.
        let long = tower.tokens.len() > MAP_SIDE;
        for (layer, rule) in tower.attention.iter().enumerate() {
            for head in 0..rule.n_heads {
                ctx.step(out.len(), all)?;
                let part = ctx.part(out.len(), all);
                let own = ThumbnailOf { scope: self.0.clone(), layer, head };
                out.push(if long { store.get(&own, &part)? } else { Arc::new(own.carry_out(store, &part)?) });
            }
        }
        Ok(out)
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.0.run)
    }

    fn bytes(list: &Vec<Arc<Thumbnail>>) -> u64 {
        list.iter().map(|t| ThumbnailOf::bytes(t)).sum()
    }
}
