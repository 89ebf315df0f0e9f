//! Everything the window shows, as plain data. Only commands change it; undo keeps copies of [`Doc`].

use crate::request::{Call, ImageSource, ModelSource, RunKey};
use crate::selection::Selection;
use std::path::PathBuf;
use tokenscope_analysis::method::Params;
use tokenscope_analysis::trace::Tower;

/// How magnitudes become colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ScaleKind {
    /// Proportional.
    #[default]
    Linear,
    /// Logarithmic over four decades below the largest value.
    Log,
    /// By rank.
    Rank,
    /// Each row by its own largest value.
    PerRow,
}

/// Settings of every heatmap; printed on legends and exports.
#[derive(Debug, Clone, PartialEq)]
pub struct ScaleSettings {
    /// How magnitudes become colours.
    pub kind: ScaleKind,
    /// Values above this percentile (0..=100) get the last colour.
    pub clip_percentile: f32,
    /// Leave the first token (attention sink) out of the scale and draw it hatched.
    pub mask_sink: bool,
}

impl Default for ScaleSettings {
    fn default() -> Self {
        Self { kind: ScaleKind::Linear, clip_percentile: 99.0, mask_sink: false }
    }
}

/// What the user has chosen: the part that undo, sessions and exports are about.
#[derive(Debug, Clone, PartialEq)]
pub struct Doc {
    /// The open model.
    pub model: ModelSource,
    /// The draft model for methods that need one.
    pub draft_model: Option<ModelSource>,
    /// The prompt.
    pub prompt: String,
    /// The image.
    pub image: Option<ImageSource>,
    /// Whose tokens the importance view shows; `None` follows the model.
    pub tower: Option<Tower>,
    /// Layer of the attention map.
    pub layer: usize,
    /// Head of the attention map.
    pub head: usize,
    /// The explained token; `None` means the last.
    pub target: Option<usize>,
    /// Score method and parameters.
    pub score: (String, Params),
    /// Pruning method and parameters.
    pub prune: (String, Params),
    /// Flow method and parameters.
    pub flow: (String, Params),
    /// Threshold on edges of the flow graph.
    pub flow_threshold: f32,
    /// Draft method and parameters.
    pub draft: (String, Params),
    /// Round shown of the decode.
    pub round: usize,
    /// Names of the rows of the segmentation view.
    pub rows: Vec<String>,
    /// Further tokenizers.
    pub tokenizer_files: Vec<PathBuf>,
    /// Settings of heatmaps.
    pub scale: ScaleSettings,
    /// Dark colours.
    pub dark: bool,
}

impl Doc {
    /// The run that the views show.
    pub fn run(&self) -> RunKey {
        RunKey { model: self.model.clone(), prompt: self.prompt.clone(), image: self.image.clone() }
    }
    /// The score as a call.
    pub fn score_call(&self) -> Call {
        Call::new(&self.score.0, &self.score.1)
    }
    /// The reduction as a call.
    pub fn prune_call(&self) -> Call {
        Call::new(&self.prune.0, &self.prune.1)
    }
    /// The flow method as a call.
    pub fn flow_call(&self) -> Call {
        Call::new(&self.flow.0, &self.flow.1)
    }
    /// The draft method as a call.
    pub fn draft_call(&self) -> Call {
        Call::new(&self.draft.0, &self.draft.1)
    }
}

/// The whole state of the window.
#[derive(Debug, Clone)]
pub struct State {
    /// What the user has chosen.
    pub doc: Doc,
    /// Hovered and locked tokens.
    pub selection: Selection,
    /// Recently opened paths, newest first.
    pub recents: Vec<PathBuf>,
}
