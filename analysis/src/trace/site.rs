//! Names of the places in a transformer that a tap sees, in TransformerLens's words, and the axes of what is there.
//!
//! A new place is one row of the table below and one call of `tap` where the model passes it.

use super::rows::Rows;
use serde::{Deserialize, Serialize};

/// What an axis of an activation counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// Rows that the layer works on.
    Rows,
    /// Rows whose logits were asked for.
    LogitRows,
    /// Key rows: cached ones first, then those that the layer works on.
    Keys,
    /// Query heads.
    Heads,
    /// Key-value heads.
    KvHeads,
    /// Components of one head.
    HeadWidth,
    /// Components of one head\'s values.
    ValueWidth,
    /// Components of the residual stream.
    Width,
    /// Components of the wide middle of an MLP.
    MlpWidth,
    /// Experts of a layer.
    Experts,
    /// Experts that read one row.
    Chosen,
    /// Heads of a recurrence.
    Mixers,
    /// Ids that a model can write.
    Vocab,
}

/// How often a place is met in one pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Per {
    /// Once in every layer.
    Layer,
    /// Once behind the layers of every tower.
    Tower,
    /// Once.
    Run,
}

/// Sizes that axes have in one run of one tower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    /// Rows.
    pub rows: usize,
    /// Key rows.
    pub keys: usize,
    /// Query heads.
    pub heads: usize,
    /// Key-value heads.
    pub kv_heads: usize,
    /// Components of one head's queries and keys.
    pub head_width: usize,
    /// Components of one head's values.
    pub value_width: usize,
    /// Components of the residual stream.
    pub width: usize,
    /// Components of the middle of an MLP.
    pub mlp_width: usize,
    /// Experts of a layer, and how many of them read one row.
    pub experts: (usize, usize),
    /// Heads of a recurrence that mix the rows of a layer; 0 where attention does.
    pub mixers: usize,
    /// Output vocabulary.
    pub vocab: usize,
}

impl Sizes {
    /// The size of one axis.
    pub fn of(&self, axis: Axis) -> usize {
        match axis {
            Axis::Rows | Axis::LogitRows => self.rows,
            Axis::Keys => self.keys,
            Axis::Heads => self.heads,
            Axis::KvHeads => self.kv_heads,
            Axis::HeadWidth => self.head_width,
            Axis::ValueWidth => self.value_width,
            Axis::Width => self.width,
            Axis::MlpWidth => self.mlp_width,
            Axis::Experts => self.experts.0,
            Axis::Chosen => self.experts.1,
            Axis::Mixers => self.mixers,
            Axis::Vocab => self.vocab,
        }
    }
}

macro_rules! sites {
    ($($(#[$doc:meta])+ $site:ident $name:literal [$($axis:ident)+] $per:ident;)+) => {
        /// A place in a pass; its doc says what is there, [`Site::axes`] how it is shaped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Site {
            $($(#[$doc])+ #[serde(rename = $name)] $site,)+
        }

        impl Site {
            /// Every site, in the order of a pass.
            pub const ALL: [Site; [$($name),+].len()] = [$(Site::$site),+];

            /// The name in trace files and on the command line, the axes, and how often it is met.
            const fn row(self) -> (&'static str, &'static [Axis], Per) {
                match self {
                    $(Site::$site => ($name, &[$(Axis::$axis),+], Per::$per),)+
                }
            }
        }
    };
}

sites! {
    /// Input of the block; layer 0 is the embedding output.
    ResidPre "resid_pre" [Rows Width] Layer;
    /// What attention reads: the stream behind the block's first norm, or the stream itself where norms come after.
    AttnIn "attn_in" [Rows Width] Layer;
    /// Queries after rotary embedding and normalisation; where the model adds something to scores (DeBERTa, T5, MPNet),
    /// a component for every key holds it.
    Q "q" [Heads Rows HeadWidth] Layer;
    /// Keys after rotary embedding and normalisation, before repetition of grouped heads; those of the new rows.
    K "k" [KvHeads Rows HeadWidth] Layer;
    /// Values before repetition of grouped heads; those of the new rows.
    V "v" [KvHeads Rows ValueWidth] Layer;
    /// Attention probabilities, made only where somebody wants them. Where heads hold different cached keys, each
    /// head has its own first, and zeros up to the longest.
    Pattern "pattern" [Heads Rows Keys] Layer;
    /// What each head of a recurrence takes of each row for each row, signed, so that the head gives `Σ_j mixing[i, j] ·
    /// x_j` and what skips it; made only where somebody wants it, and only where a recurrence mixes rows (Mamba).
    Mixing "mixing" [Mixers Rows Keys] Layer;
    /// Weighted values per head, before the output projection.
    Z "z" [Heads Rows ValueWidth] Layer;
    /// Output of the attention block, after the output projection.
    AttnOut "attn_out" [Rows Width] Layer;
    /// Residual stream between attention and MLP.
    ResidMid "resid_mid" [Rows Width] Layer;
    /// What the MLP reads, behind its norm where there is one before it.
    MlpIn "mlp_in" [Rows Width] Layer;
    /// The wide middle of the MLP: `act(gate) · up`, or `act(up)` where there is no gate; layers without experts only.
    /// Where a recurrence mixes rows, what its last map reads.
    MlpHidden "mlp_hidden" [Rows MlpWidth] Layer;
    /// Logits of the router over the experts, before the softmax; layers with experts only.
    Router "router" [Rows Experts] Layer;
    /// Indices of the experts that read each row, best first; layers with experts only.
    Experts "experts" [Rows Chosen] Layer;
    /// Output of the MLP.
    MlpOut "mlp_out" [Rows Width] Layer;
    /// Output of the block.
    ResidPost "resid_post" [Rows Width] Layer;
    /// Output of the final norm; its layer is the number of layers.
    Final "final" [Rows Width] Tower;
    /// Image features after the projector, as the language model gets them; layer 0.
    Features "features" [Rows Width] Run;
    /// Logits; their layer is the number of layers.
    Logits "logits" [LogitRows Vocab] Run;
}

impl Site {
    /// The name in trace files and on the command line.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// What the axes count.
    pub fn axes(self) -> &'static [Axis] {
        self.row().1
    }

    /// How often it is met in a pass.
    pub fn per(self) -> Per {
        self.row().2
    }

    /// Which axis counts the rows of the entry's row map; `None` where the rows are others.
    pub fn row_axis(self) -> Option<usize> {
        self.axes().iter().position(|a| *a == Axis::Rows)
    }

    /// The shape in a run of these sizes.
    pub fn shape(self, sizes: &Sizes) -> Vec<usize> {
        self.axes().iter().map(|&a| sizes.of(a)).collect()
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
    /// Which pass of a text that is written on: 0 reads the prompt, 1 its first continuation, and so on.
    pub step: usize,
    /// Layer, from 0.
    pub layer: usize,
    /// The place in the layer.
    pub site: Site,
    /// Which tokens the rows stand for.
    pub rows: &'a Rows,
    /// Rows that were set aside and are still waiting (see [`super::Regroup::aside`]).
    pub aside: &'a Rows,
}
