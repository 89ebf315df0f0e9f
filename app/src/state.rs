//! What the user has chosen, as plain data, and the commands that change it.

use crate::request::{Call, ModelSource, RunKey};
use tokenscope_analysis::method::{Kind, Params};

/// What undo is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Doc {
    /// The model.
    pub model: ModelSource,
    /// The prompt.
    pub prompt: String,
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
        RunKey { model: self.model.clone(), prompt: self.prompt.clone() }
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
            Command::Model(m) => (self.model, self.target, self.head, self.round) = (m, None, (0, 0), 0),
            Command::Prompt(p) => (self.prompt, self.target, self.round) = (p, None, 0),
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
