//! The tap that keeps what it is asked for, and says beforehand what that will cost.

use super::{At, Entry, Key, Per, Rows, Site, Spill, Tap, Tower};
use crate::Result;
use crate::array::Array;
use candle_core::{Tensor, TensorId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What to keep of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureSpec {
    /// Sites to keep.
    pub sites: BTreeSet<Site>,
    /// Layers to keep; `None` keeps all.
    pub layers: Option<BTreeSet<usize>>,
    /// Whether the passes that continue a text are kept, too, each by itself.
    pub steps: bool,
}

impl CaptureSpec {
    /// Keeps `sites` of every layer.
    pub fn sites(sites: &[Site]) -> Self {
        Self { sites: sites.iter().copied().collect(), layers: None, steps: false }
    }

    /// What the window's views need: attention, values, the residual stream.
    pub fn views() -> Self {
        Self::sites(&[
            Site::ResidPre,
            Site::Q,
            Site::K,
            Site::V,
            Site::ResidMid,
            Site::Router,
            Site::Experts,
            Site::MlpOut,
            Site::ResidPost,
            Site::Final,
            Site::Features,
            Site::Logits,
        ])
    }

    /// Everything, attention maps included: their memory grows with the square of the input.
    pub fn all() -> Self {
        Self::sites(&Site::ALL)
    }

    /// Whether this place is kept.
    pub fn keeps(&self, site: Site, layer: usize) -> bool {
        // What is no layer's is kept whenever the site is.
        let every = site.per() != Per::Layer;
        self.sites.contains(&site) && (every || self.layers.as_ref().is_none_or(|l| l.contains(&layer)))
    }
}

/// Keeps copies of the asked sites on the host.
pub struct Capture {
    spec: CaptureSpec,
    /// What was kept of the first pass.
    pub arrays: BTreeMap<Key, Entry>,
    /// What was kept of each pass after it.
    pub steps: Vec<BTreeMap<Key, Entry>>,
    rows: BTreeMap<(Tower, usize), Arc<Rows>>,
    /// The last tensor kept and its copy: what leaves one block enters the next, and is kept once.
    last: Option<(TensorId, Arc<Array>)>,
    /// Where arrays go, if not into memory.
    spill: Option<Spill>,
}

impl Capture {
    /// A capture of `spec`.
    pub fn new(spec: CaptureSpec) -> Self {
        Self { spec, arrays: BTreeMap::new(), steps: Vec::new(), rows: BTreeMap::new(), last: None, spill: None }
    }

    /// The same with arrays in a file.
    pub fn spilling(self, spill: Spill) -> Self {
        Self { spill: Some(spill), ..self }
    }
}

impl Tap for Capture {
    fn wants(&self, at: &At) -> bool {
        self.spec.keeps(at.site, at.layer) && (at.step == 0 || self.spec.steps)
    }

    fn pass(&mut self, at: &At, x: Tensor) -> Result<Tensor> {
        // Consecutive arrays mostly share one row map; keep it once.
        let shared = self.rows.get(&(at.tower, at.tile)).filter(|r| r.as_ref() == at.rows).cloned();
        let rows = shared.unwrap_or_else(|| Arc::new(at.rows.clone()));
        self.rows.insert((at.tower, at.tile), rows.clone());
        let key = Key { tower: at.tower, tile: at.tile, layer: at.layer, site: at.site };
        let array = match self.last.take() {
            Some((id, array)) if id == x.id() => array,
            _ => Arc::new(match &mut self.spill {
                Some(spill) => spill.keep(Array::from_tensor(&x)?)?,
                None => Array::of_tensor(&x)?,
            }),
        };
        self.last = Some((x.id(), array.clone()));
        let arrays = match at.step.checked_sub(1) {
            None => &mut self.arrays,
            Some(i) => {
                self.steps.resize_with(self.steps.len().max(i + 1), BTreeMap::new);
                &mut self.steps[i]
            }
        };
        arrays.insert(key, Entry { array, rows });
        Ok(x)
    }
}
