//! Names of the places in a transformer that a tap sees, in TransformerLens's words.

use super::rows::Rows;
use serde::{Deserialize, Serialize};

/// A place in a block. `n` rows, `d` model width, `h` heads, `g` key-value heads, `e` head width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Site {
    /// Input of the block `[n, d]`; layer 0 is the embedding output.
    ResidPre,
    /// Queries after rotary embedding and normalisation `[h, n, e]`.
    Q,
    /// Keys after rotary embedding and normalisation, before repetition of grouped heads `[g, n, e]`.
    K,
    /// Values before repetition of grouped heads `[g, n, e]`.
    V,
    /// Weighted values per head, before the output projection `[h, n, e]`.
    Z,
    /// Output of the attention block, after the output projection `[n, d]`.
    AttnOut,
    /// Residual stream between attention and MLP `[n, d]`.
    ResidMid,
    /// Output of the MLP `[n, d]`.
    MlpOut,
    /// Output of the block `[n, d]`.
    ResidPost,
    /// Output of the final norm `[n, d]`; its layer is the number of layers.
    Final,
    /// Image features after the projector, as the language model gets them `[n, d]`; layer 0.
    Features,
    /// Logits `[rows, vocab]`; its layer is the number of layers.
    Logits,
}

impl Site {
    /// Every site.
    pub const ALL: [Site; 12] = [
        Site::ResidPre,
        Site::Q,
        Site::K,
        Site::V,
        Site::Z,
        Site::AttnOut,
        Site::ResidMid,
        Site::MlpOut,
        Site::ResidPost,
        Site::Final,
        Site::Features,
        Site::Logits,
    ];
    /// The name in trace files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Site::ResidPre => "resid_pre",
            Site::Q => "q",
            Site::K => "k",
            Site::V => "v",
            Site::Z => "z",
            Site::AttnOut => "attn_out",
            Site::ResidMid => "resid_mid",
            Site::MlpOut => "mlp_out",
            Site::ResidPost => "resid_post",
            Site::Final => "final",
            Site::Features => "features",
            Site::Logits => "logits",
        }
    }
    /// The site of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name)
    }
}

/// Which stack of layers: a model has one or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tower {
    /// The language model or text encoder.
    Text,
    /// The image encoder.
    Vision,
}

/// Where in a run a tap is called.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    /// Which stack of layers.
    pub tower: Tower,
    /// Tile of a tiled image, 0 elsewhere.
    pub tile: usize,
    /// Layer, from 0.
    pub layer: usize,
    /// The place in the layer.
    pub site: Site,
    /// Which tokens the rows stand for.
    pub rows: &'a Rows,
}
