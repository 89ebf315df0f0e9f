//! Requests name a computation as data; products are what comes back. The window asks for products every
//! frame, the command line runs the same requests one after another.

use std::path::PathBuf;
use std::sync::Arc;
use tokenscope_analysis::array::Array;
use tokenscope_analysis::draft::DraftRun;
use tokenscope_analysis::flow::FlowGraph;
use tokenscope_analysis::method::Params;
use tokenscope_analysis::model::{Model, ModelInfo};
use tokenscope_analysis::prune::{Outcome, Plan};
use tokenscope_analysis::score::Scores;
use tokenscope_analysis::segment::{Merge, Segmentation};
use tokenscope_analysis::trace::{Tower, Trace};

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ModelSource {
    /// An embedded sample, by name (`sample-lm`, `sample-draft`, …).
    Sample(String),
    /// A Hugging Face folder or a GGUF file.
    Path(PathBuf),
    /// A trace file that is opened without weights.
    TraceFile(PathBuf),
}

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ImageSource {
    /// An embedded sample, by name.
    Sample(String),
    /// A file.
    Path(PathBuf),
}

/// One run of one model on one input.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunKey {
    /// The model.
    pub model: ModelSource,
    /// The prompt; ignored by image-only models.
    pub prompt: String,
    /// The image, for models that take one.
    pub image: Option<ImageSource>,
}

/// A method with its parameters; parameters compare by their JSON text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call {
    /// Method id.
    pub method: String,
    /// Parameters as canonical JSON text.
    pub params: String,
}

impl Call {
    /// A call of `method` with `params`.
    pub fn new(method: &str, params: &Params) -> Self {
        let text = serde_json::Value::Object(params.map().clone()).to_string();
        Self { method: method.to_string(), params: text }
    }

    /// The parameters.
    pub fn params(&self) -> Params {
        let mut out = Params::new();
        if let Ok(serde_json::Value::Object(map)) = serde_json::from_str(&self.params) {
            for (k, v) in map {
                out.insert(&k, v);
            }
        }
        out
    }
}

/// A computation, named by everything its result depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Request {
    /// Open a model.
    Model(ModelSource),
    /// Decode a picture.
    Picture(ImageSource),
    /// Run a model and capture what the views need.
    Trace(RunKey),
    /// Cut a text by the built-in segmenters, and by the tokenizer of `model` and of each of `files`.
    Segment {
        /// The text.
        text: String,
        /// Names of built-in rows, in order.
        rows: Vec<String>,
        /// The open model, whose tokenizer gives the first row.
        model: Option<ModelSource>,
        /// Further tokenizer files or folders.
        files: Vec<PathBuf>,
    },
    /// How BPE arrives at the pieces of `text`, for one row of a segmentation.
    MergeHistory {
        /// Name of the row.
        row: String,
        /// The piece of text.
        text: String,
        /// As in [`Request::Segment`].
        model: Option<ModelSource>,
        /// As in [`Request::Segment`].
        files: Vec<PathBuf>,
    },
    /// One attention map in full, `[n, n]`.
    Map {
        /// The run.
        run: RunKey,
        /// Whose tokens.
        tower: Tower,
        /// Tile of a tiled image.
        tile: usize,
        /// Layer.
        layer: usize,
        /// Query head.
        head: usize,
    },
    /// Every head's map, down-sampled to at most `side` cells a side.
    Thumbnails {
        /// The run.
        run: RunKey,
        /// Whose tokens.
        tower: Tower,
        /// Most cells a side.
        side: usize,
    },
    /// Importance of the tokens.
    Score {
        /// The run.
        run: RunKey,
        /// Whose tokens.
        tower: Tower,
        /// The explained token; `None` means the last one.
        target: Option<usize>,
        /// The score.
        call: Call,
    },
    /// A reduction, really carried out.
    Prune {
        /// The run.
        run: RunKey,
        /// The reduction.
        call: Call,
    },
    /// A flow graph.
    Flow {
        /// The run.
        run: RunKey,
        /// Whose tokens.
        tower: Tower,
        /// The flow method.
        call: Call,
    },
    /// The logit lens of every layer and token.
    Lens(RunKey),
    /// A whole decode by a draft method.
    Draft {
        /// The target model.
        target: ModelSource,
        /// The draft model, where the method needs one.
        draft: Option<ModelSource>,
        /// The prompt.
        prompt: String,
        /// The method.
        call: Call,
    },
}

/// An open model with all that belongs to it.
pub struct OpenModel {
    /// Where it came from.
    pub source: ModelSource,
    /// The model; `None` for a trace opened without weights.
    pub model: Option<Box<dyn Model>>,
    /// Its text tokenizer, where it has one.
    pub tokenizer: Option<tokenscope_analysis::tokenize::Tokenizer>,
    /// What it says about itself; `None` for a trace opened without weights.
    pub info: Option<ModelInfo>,
}

/// Heads as small pictures with the numbers they can be sorted by.
#[derive(Debug, Clone)]
pub struct Thumbnails {
    /// Layers.
    pub n_layers: usize,
    /// Heads.
    pub n_heads: usize,
    /// Per layer and head (layer-major): a `[side, side]` map, mean of the cells behind each one.
    pub maps: Vec<Array>,
    /// Mean row entropy in bits, layer-major.
    pub entropy: Vec<f32>,
    /// Mean share of attention on the first token, layer-major.
    pub sink: Vec<f32>,
    /// Mean distance from query to key in tokens, layer-major.
    pub distance: Vec<f32>,
}

/// Result of really running a reduced model.
#[derive(Debug, Clone)]
pub struct PruneResult {
    /// What was planned.
    pub plan: Plan,
    /// What became of each row.
    pub outcome: Outcome,
    /// Original token index of each of the plan's rows.
    pub token_of_row: Vec<usize>,
    /// Reduced output against the full one.
    pub judgement: tokenscope_analysis::prune::Judgement,
}

/// Decoded text of the ids that a draft run uses.
#[derive(Debug, Clone)]
pub struct DraftProduct {
    /// The decode.
    pub run: DraftRun,
    /// Text of every id that occurs.
    pub text: std::collections::BTreeMap<u32, String>,
    /// False while rounds are still coming.
    pub complete: bool,
}

/// What comes back from a request. Cheap to clone.
#[derive(Clone)]
pub enum Product {
    /// Of [`Request::Model`].
    Model(Arc<OpenModel>),
    /// Of [`Request::Picture`].
    Picture(Arc<tokenscope_analysis::image::Picture>),
    /// Of [`Request::Trace`].
    Trace(Arc<Trace>),
    /// Of [`Request::Segment`].
    Segment(Arc<Vec<Segmentation>>),
    /// Of [`Request::MergeHistory`]; `None` where the row is not BPE.
    MergeHistory(Arc<Option<Vec<Merge>>>),
    /// Of [`Request::Map`].
    Map(Arc<Array>),
    /// Of [`Request::Thumbnails`].
    Thumbnails(Arc<Thumbnails>),
    /// Of [`Request::Score`].
    Score(Arc<Scores>),
    /// Of [`Request::Prune`].
    Prune(Arc<PruneResult>),
    /// Of [`Request::Flow`].
    Flow(Arc<FlowGraph>),
    /// Of [`Request::Lens`].
    Lens(Arc<tokenscope_analysis::flow::Lens>),
    /// Of [`Request::Draft`].
    Draft(Arc<DraftProduct>),
}

/// Where a request stands.
#[derive(Clone)]
pub enum Status {
    /// Done.
    Ready(Product),
    /// Under way; `previous` is the last product of a request of the same kind from the same place, to be
    /// kept on screen until the new one is there; `partial` is what there is so far.
    Running {
        /// Share done, 0..=1.
        progress: f32,
        /// The picture from before.
        previous: Option<Product>,
    },
    /// Failed; not tried again until something changes.
    Failed(Arc<str>),
}
