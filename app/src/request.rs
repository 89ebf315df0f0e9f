//! Requests name a computation as data; products are what comes back.

use std::path::PathBuf;
use std::sync::Arc;
use tokenscope_analysis::array::Array;
use tokenscope_analysis::draft::DraftRun;
use tokenscope_analysis::flow::FlowGraph;
use tokenscope_analysis::image::Processor;
use tokenscope_analysis::method::Params;
use tokenscope_analysis::model::Model;
use tokenscope_analysis::prune::{Fate, Judgement};
use tokenscope_analysis::score::Scores;
use tokenscope_analysis::segment::Segmentation;
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::Trace;

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ModelSource {
    /// Part of the program: `sample-lm` or `sample-draft`.
    Sample(&'static str),
    /// A Hugging Face folder.
    Path(PathBuf),
}

/// A method and its parameters as JSON text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Call {
    /// Method id.
    pub method: String,
    /// Parameters.
    pub params: String,
}

impl Call {
    /// A call of `method`.
    pub fn new(method: &str, params: &Params) -> Self {
        Self { method: method.into(), params: serde_json::Value::Object(params.map().clone()).to_string() }
    }

    /// The parameters.
    pub fn params(&self) -> Params {
        let map: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&self.params).unwrap_or_default();
        map.into_iter().fold(Params::new(), |p, (k, v)| p.set(&k, v))
    }
}

/// One run of one model on one prompt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RunKey {
    /// The model.
    pub model: ModelSource,
    /// The prompt.
    pub prompt: String,
}

/// A computation, named by everything its result depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Request {
    /// Open a model.
    Model(ModelSource),
    /// Run it and keep what the views need.
    Trace(RunKey),
    /// Cut the prompt by the model's tokenizer and the built-in ones.
    Segment(RunKey),
    /// One head's map.
    Map(RunKey, usize, usize),
    /// Importance of the tokens for the prediction at a token.
    Score(RunKey, Option<usize>, Call),
    /// A reduction, really carried out.
    Prune(RunKey, Call),
    /// A flow graph.
    Flow(RunKey, Call),
    /// Most probable token at every layer and position.
    Lens(RunKey),
    /// A whole decode.
    Draft(RunKey, ModelSource, Call),
}

/// An open model.
pub struct OpenModel {
    /// The model.
    pub model: Box<dyn Model>,
    /// Its tokenizer.
    pub tokenizer: Option<Tokenizer>,
    /// What it does to pictures, if it reads them.
    pub processor: Option<Processor>,
}

/// A reduction and what the reduced model says.
pub struct Pruned {
    /// What became of each token.
    pub fates: Vec<Fate>,
    /// Reduced against full.
    pub judgement: Judgement,
    /// Most probable next tokens of the full model, as text.
    pub full: Vec<(String, f32)>,
    /// Those of the reduced one.
    pub reduced: Vec<(String, f32)>,
}

/// The logit lens.
pub struct Lens {
    /// Per layer and token: text and probability of the most probable next token.
    pub top: Vec<Vec<(String, f32)>>,
}

/// A decode and the text of its tokens.
pub struct Drafted {
    /// The rounds.
    pub run: DraftRun,
    /// Text of every id that occurs.
    pub text: std::collections::BTreeMap<u32, String>,
}

/// What comes back. Cheap to clone.
#[derive(Clone)]
#[expect(missing_docs, reason = "each is the product of the request of its name")]
pub enum Product {
    Model(Arc<OpenModel>),
    Trace(Arc<Trace>),
    Segment(Arc<Vec<Segmentation>>),
    Map(Arc<Array>),
    Score(Arc<Scores>),
    Prune(Arc<Pruned>),
    Flow(Arc<FlowGraph>),
    Lens(Arc<Lens>),
    Draft(Arc<Drafted>),
}

/// Where a request stands.
#[derive(Clone)]
pub enum Status {
    /// Done.
    Ready(Product),
    /// Under way, with the share done and the picture from before.
    Running(f32, Option<Product>),
    /// Failed; not tried again until something changes.
    Failed(Arc<str>),
}
