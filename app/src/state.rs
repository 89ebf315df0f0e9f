//! What the user has chosen, as plain data, and the commands that change it.

use crate::request::{Call, ModelSource, RunKey, Scope};
use std::path::PathBuf;
use tokenscope_analysis::method::{Kind, Params};
use tokenscope_analysis::trace::Tower;

/// The whole map.
pub const WHOLE: [f32; 4] = [0.0, 0.0, 1.0, 1.0];

/// How values become places on the colour map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    /// In proportion.
    Linear,
    /// By logarithm, over four decades below the upper end.
    Log,
    /// By rank among the values seen: equal areas of the map get equal steps.
    Rank,
}

/// The colour scale of the map.
#[derive(Debug, Clone, Copy, PartialEq)]
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

/// What thumbnails are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of `Thumbnail`")]
pub enum Sort {
    Layer,
    Entropy,
    Sink,
    Distance,
}

/// The window inside the map, never empty.
fn clamp_window([x, y, w, h]: [f32; 4]) -> [f32; 4] {
    let (w, h) = (w.clamp(1e-5, 1.0), h.clamp(1e-5, 1.0));
    [x.clamp(0.0, 1.0 - w), y.clamp(0.0, 1.0 - h), w, h]
}

/// What undo is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Doc {
    /// The model.
    pub model: ModelSource,
    /// The prompt.
    pub prompt: String,
    /// The picture.
    pub image: Option<PathBuf>,
    /// The stack of layers that views show; `None` is the main one.
    pub tower: Option<Tower>,
    /// The model that drafts.
    pub draft_model: ModelSource,
    /// Further tokenizers to compare.
    pub tokenizers: Vec<PathBuf>,
    /// How the attention map is coloured.
    pub scale: Scale,
    /// The part of the map that is seen, as shares of it: left, top, width, height.
    pub window: [f32; 4],
    /// Order of the thumbnails.
    pub sort: Sort,
    /// Which parts of the importance view are open: scores, reduction, attention.
    pub parts: [bool; 3],
    /// Layer and head of the attention map.
    pub head: (usize, usize),
    /// The explained token; `None` is the last.
    pub target: Option<usize>,
    /// Chosen method and parameters per kind.
    pub score: (String, Params),
    /// See `score`.
    pub prune: (String, Params),
    /// See `score`.
    pub flow: (String, Params),
    /// See `score`.
    pub draft: (String, Params),
    /// Edges below this are not drawn.
    pub threshold: f32,
    /// Round of the decode.
    pub round: usize,
    /// Dark colours.
    pub dark: bool,
}

impl Default for Doc {
    fn default() -> Self {
        let method = |id: &str| (id.to_string(), Params::new());
        Self {
            model: ModelSource::Sample("sample-lm"),
            prompt: "In the harbour live the owl, the fox and the hen. Every evening the owl, the".into(),
            image: None,
            tower: None,
            draft_model: ModelSource::Sample("sample-draft"),
            tokenizers: Vec::new(),
            scale: Scale::default(),
            window: WHOLE,
            sort: Sort::Layer,
            parts: [true; 3],
            head: (1, 0),
            target: None,
            score: method("gradient_input"),
            prune: method("uniform"),
            flow: method("information_flow_routes"),
            draft: method("speculative_sampling"),
            threshold: 0.08,
            round: 0,
            dark: false,
        }
    }
}

impl Doc {
    /// The run that the views show.
    pub fn run(&self) -> RunKey {
        RunKey { model: self.model.clone(), prompt: self.prompt.clone(), image: self.image.clone() }
    }

    /// The stack of layers that the views show.
    pub fn scope(&self) -> Scope {
        Scope { run: self.run(), tower: self.tower }
    }

    /// The chosen method of a kind.
    pub fn method(&self, kind: Kind) -> &(String, Params) {
        match kind {
            Kind::Prune => &self.prune,
            Kind::Flow => &self.flow,
            Kind::Draft => &self.draft,
            Kind::Score | Kind::Segment => &self.score,
        }
    }

    fn method_mut(&mut self, kind: Kind) -> &mut (String, Params) {
        match kind {
            Kind::Prune => &mut self.prune,
            Kind::Flow => &mut self.flow,
            Kind::Draft => &mut self.draft,
            Kind::Score | Kind::Segment => &mut self.score,
        }
    }

    /// The chosen method of a kind as a call.
    pub fn call(&self, kind: Kind) -> Call {
        let (id, params) = self.method(kind);
        Call::new(id, params)
    }

    /// Carries out a command.
    pub fn apply(&mut self, command: Command) {
        match command {
            Command::Model(m) => {
                (self.model, self.target, self.head, self.round) = (m, None, (0, 0), 0);
                (self.tower, self.window) = (None, WHOLE);
            }
            Command::Prompt(p) => (self.prompt, self.target, self.round, self.window) = (p, None, 0, WHOLE),
            Command::Image(i) => (self.image, self.target, self.window) = (i, None, WHOLE),
            Command::Tower(t) => (self.tower, self.target, self.head, self.window) = (t, None, (0, 0), WHOLE),
            Command::DraftModel(m) => (self.draft_model, self.round) = (m, 0),
            Command::Tokenizers(list) => self.tokenizers = list,
            Command::Scale(s) => self.scale = s,
            Command::Window(w) => self.window = clamp_window(w),
            Command::Sort(s) => self.sort = s,
            Command::Parts(p) => self.parts = p,
            Command::Head(layer, head) => self.head = (layer, head),
            Command::Target(t) => self.target = t,
            Command::Method(kind, id) => *self.method_mut(kind) = (id, Params::new()),
            Command::Param(kind, key, value) => self.method_mut(kind).1.insert(key, value),
            Command::Threshold(t) => self.threshold = t,
            Command::Round(r) => self.round = r,
            Command::Dark(d) => self.dark = d,
        }
    }
}

/// A change of [`Doc`]; views send these and change nothing themselves.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Use this model.
    Model(ModelSource),
    /// Use this prompt.
    Prompt(String),
    /// Use this picture.
    Image(Option<PathBuf>),
    /// Show this stack of layers.
    Tower(Option<Tower>),
    /// Draft with this model.
    DraftModel(ModelSource),
    /// Compare with these tokenizers.
    Tokenizers(Vec<PathBuf>),
    /// Colour the map so.
    Scale(Scale),
    /// Show this part of the map.
    Window([f32; 4]),
    /// Order the thumbnails so.
    Sort(Sort),
    /// Open these parts of the importance view.
    Parts([bool; 3]),
    /// Show this layer's head.
    Head(usize, usize),
    /// Explain the prediction at this token.
    Target(Option<usize>),
    /// Choose a method; its parameters go back to their defaults.
    Method(Kind, String),
    /// Set a parameter of the chosen method.
    Param(Kind, &'static str, serde_json::Value),
    /// Draw edges from this weight on.
    Threshold(f32),
    /// Show this round of the decode.
    Round(usize),
    /// Dark or light colours.
    Dark(bool),
}
