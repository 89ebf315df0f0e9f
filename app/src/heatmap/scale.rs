//! What of a map's values becomes which colour.

use serde::{Deserialize, Serialize};

/// How values become places on the colour map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Curve {
    /// In proportion.
    Linear,
    /// By logarithm, over four decades below the upper end.
    Log,
    /// By rank among the values seen: equal areas of the map get equal steps.
    Rank,
    /// As a share of the largest value of the cell's own row.
    Row,
}

/// The colour scale of the map.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// The curve.
    pub curve: Curve,
    /// Values above this percentile share the last colour, 50..=100.
    pub clip: f32,
    /// Leaves the first token, where attention often piles up, out of the scale and hatches it.
    pub mask_sink: bool,
}

impl Default for Scale {
    fn default() -> Self {
        Self { curve: Curve::Linear, clip: 100.0, mask_sink: false }
    }
}
