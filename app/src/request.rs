//! Requests name a computation as data; products are what comes back.

use crate::heatmap::Summary;
use crate::picture_source::PictureSource;
use crate::samples;
use crate::text::Text;
use crate::trial::{Trial, Verdict};
use crate::truth::Truth;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokenscope_analysis::array::Array;
use tokenscope_analysis::draft::DraftRun;
use tokenscope_analysis::flow::FlowGraph;
use tokenscope_analysis::image::{Picture, Processor};
use tokenscope_analysis::method::Params;
use tokenscope_analysis::model::Model;
use tokenscope_analysis::passes::attention_row_stats::RowStats;
use tokenscope_analysis::passes::attention_tile::{DeviceHead, DeviceTile, Window};
use tokenscope_analysis::prune::{Fate, Judgement, Stage};
use tokenscope_analysis::run::Estimate;
use tokenscope_analysis::score::Scores;
use tokenscope_analysis::segment::bpe::Step;
use tokenscope_analysis::segment::{Metrics, Segmentation, Strip};
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::{Tower, Trace};

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ModelSource {
    /// Part of the program, one of [`samples::NAMES`].
    Sample(&'static str),
    /// A Hugging Face folder or a GGUF file.
    Path(PathBuf),
    /// A trace file: a run that was recorded, without weights.
    Recorded(PathBuf),
}

impl ModelSource {
    /// The source that `text` names: a sample, a trace file of ours, or a model's path.
    pub fn parse(text: &str) -> Self {
        if let Some(name) = samples::find(text) {
            return ModelSource::Sample(name);
        }
        Self::of_path(text.into())
    }

    /// The source at `path`, told apart by what the file says about itself.
    pub fn of_path(path: PathBuf) -> Self {
        if tokenscope_analysis::trace::is_trace(&path) { Self::Recorded(path) } else { Self::Path(path) }
    }

    /// A short name for titles.
    pub fn title(&self) -> String {
        match self {
            ModelSource::Sample(name) => (*name).to_string(),
            ModelSource::Path(p) | ModelSource::Recorded(p) => {
                p.file_name().map_or_else(|| p.display().to_string(), |n| n.to_string_lossy().into_owned())
            }
        }
    }
}

/// A method and its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Call {
    /// Method id.
    pub method: String,
    /// Parameters.
    pub params: Params,
}

impl Call {
    /// A call of `method`.
    pub fn new(method: &str, params: &Params) -> Self {
        Self { method: method.into(), params: params.clone() }
    }
}

/// One run of one model on one input.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RunKey {
    /// The model.
    pub model: ModelSource,
    /// The prompt.
    pub prompt: Text,
    /// The picture, for models that read one.
    pub image: Option<PictureSource>,
}

/// One stack of layers of a run; `None` is the main one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    /// The run.
    pub run: RunKey,
    /// Which stack.
    pub tower: Option<Tower>,
}

/// A text and what cuts it: the rows of the segmentation view.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CutKey {
    /// The model whose tokenizer gives the first row, if it has one.
    pub model: ModelSource,
    /// The text.
    pub text: Text,
    /// Tokenizer files, a row each.
    pub files: Vec<PathBuf>,
    /// Built-in rows, by name.
    pub named: Vec<&'static str>,
}

/// Where a row of the segmentation view comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RowSource {
    /// The tokenizer of a model.
    Model(ModelSource),
    /// A tokenizer file.
    File(PathBuf),
    /// A built-in row.
    Named(&'static str),
}

/// A computation, named by everything its result depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Request {
    /// Open a model.
    Model(ModelSource),
    /// Load a tokenizer file.
    Tokenizer(PathBuf),
    /// Decode or draw a picture.
    Picture(PictureSource),
    /// What decides the answer of a run, where the program made the input itself.
    Truth(RunKey),
    /// Run the model and keep what the views need.
    Trace(RunKey),
    /// What the run would cost.
    Estimate(RunKey),
    /// Cut a text by several tokenizers and rules.
    Segment(CutKey),
    /// The same in lines of so many columns, which all rows share.
    Strip(CutKey, usize),
    /// How probable the model found each token of the run.
    Surprisal(RunKey),
    /// How a tokenizer merged its way to the token of this id.
    Merges(RowSource, u32),
    /// Which other sequences of tokens spell the same as these, one after the other.
    Encodings(RowSource, Vec<u32>),
    /// One head's map: the whole in [`MAP_SIDE`] cells a side at most, or a part of it that is zoomed into.
    Map(Scope, usize, usize, Option<Part>),
    /// The cells of such a map on the host, where it was computed on a device.
    Cells(Scope, usize, usize, Option<Part>),
    /// One head's queries and keys on the device that computes, with the statistics of its rows.
    DeviceHead(Scope, usize, usize),
    /// Statistics of the rows of one head's map, which parts of it build on.
    RowStats(Scope, usize, usize),
    /// All heads' maps, small.
    Thumbnails(Scope),
    /// Importance of the tokens for the predictions at these tokens, their mean; none means the last token.
    Score(Scope, Vec<usize>, Call),
    /// A reduction, really carried out.
    Prune(Scope, Call),
    /// How the full (`None`) or the reduced model goes on after the input, greedily.
    Answer(Scope, Option<Call>),
    /// The same reduction at several budgets.
    Retention(Scope, Call),
    /// A flow graph.
    Flow(Scope, Call),
    /// What each head carries from one token to another in a layer: layer, from, to.
    Edge(Scope, usize, usize, usize),
    /// What one head's share of an edge does to the prediction: layer, head, from, to.
    Effect(Scope, usize, usize, usize, usize),
    /// Most probable next tokens at one node of the lattice: level, token.
    NodeLens(RunKey, usize, usize),
    /// Most probable token at every layer and position.
    Lens(RunKey),
    /// Methods against the truth of many inputs.
    Trial(Trial),
    /// A whole decode.
    Draft(RunKey, ModelSource, Call),
    /// The times of such a decode, taken again.
    Times(RunKey, ModelSource, Call),
}

impl Request {
    /// The run whose outcome it is; none for what hangs on no run, as cuts of a text that is being typed.
    pub fn run(&self) -> Option<&RunKey> {
        use Request as R;
        match self {
            R::Truth(r) | R::Trace(r) | R::Estimate(r) | R::Surprisal(r) | R::Lens(r) => Some(r),
            R::NodeLens(r, ..) | R::Draft(r, ..) | R::Times(r, ..) => Some(r),
            R::Map(s, ..) | R::Cells(s, ..) | R::DeviceHead(s, ..) | R::RowStats(s, ..) | R::Thumbnails(s) => {
                Some(&s.run)
            }
            R::Score(s, ..) | R::Prune(s, ..) | R::Answer(s, ..) | R::Retention(s, ..) | R::Flow(s, ..) => Some(&s.run),
            R::Edge(s, ..) | R::Effect(s, ..) => Some(&s.run),
            R::Model(_) | R::Tokenizer(_) | R::Picture(_) | R::Segment(_) | R::Strip(..) | R::Merges(..) => None,
            R::Encodings(..) | R::Trial(_) => None,
        }
    }
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
    /// What became of each token in the end.
    pub fates: Vec<Fate>,
    /// The same after each cut, with its stage.
    pub cuts: Vec<(Stage, Vec<Fate>)>,
    /// Reduced against full.
    pub judgement: Judgement,
    /// Most probable next tokens of the full model, as text.
    pub full: Vec<(String, f32)>,
    /// Those of the reduced one.
    pub reduced: Vec<(String, f32)>,
}

/// One point of a retention curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retained {
    /// Share of the tower's tokens that are rows of their own or part of one in the end, 0..=1.
    pub kept: f64,
    /// Divergence of the next-token distribution in nats, for models with logits.
    pub kl: Option<f64>,
    /// Share of runs whose most probable token is the full model's, for models with logits.
    pub top1: Option<f64>,
    /// Cosine of the embedding, for models without logits.
    pub cosine: Option<f64>,
}

/// What one head moves along an edge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadShare {
    /// Head.
    pub head: usize,
    /// Its attention from the receiving to the giving token.
    pub attention: f32,
    /// L2 norm of what it adds to the residual stream for that.
    pub norm: f32,
}

/// A vocabulary entry and how it moved.
#[derive(Debug, Clone, PartialEq)]
pub struct Moved {
    /// Its text.
    pub text: String,
    /// Change of its log-probability in nats.
    pub delta: f32,
    /// Rank without the contribution, 1 is the most probable.
    pub before: usize,
    /// Rank with it.
    pub after: usize,
}

/// What a contribution does to the prediction that the logit lens reads.
pub struct Effect {
    /// What it makes more probable, strongest first.
    pub promoted: Vec<Moved>,
    /// What it makes less probable, strongest first.
    pub suppressed: Vec<Moved>,
}

/// One head's map at a glance.
pub struct Thumbnail {
    /// See [`version`].
    pub version: u64,
    /// Layer.
    pub layer: usize,
    /// Head.
    pub head: usize,
    /// Side of `cells`.
    pub side: usize,
    /// Largest share in each part of the map, `side · side`, queries down, keys across.
    pub cells: Vec<f32>,
    /// What a colour scale is fitted to.
    pub summary: Arc<Summary>,
    /// Mean entropy of the rows over its largest possible value, 0..=1.
    pub entropy: f32,
    /// Share of all attention that the first token gets.
    pub sink: f32,
    /// Mean distance from query to key in tokens.
    pub distance: f32,
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
    /// Number of tokens of the prompt.
    pub n_prompt: usize,
    /// How long it took.
    pub times: Times,
}

/// How long a decode took, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Times {
    /// The decode, its own check left out.
    pub own: f64,
    /// A plain greedy decode of as many tokens, right after it.
    pub plain: f64,
    /// A pass of the target, decoding one by one.
    pub target: f64,
    /// A pass of the draft model, decoding one by one; 0 without one.
    pub draft: f64,
    /// Whether no other job computed before, between and after.
    pub alone: bool,
}

/// Cells of a map a side at most; up to so many tokens every cell is one pair.
pub const MAP_SIDE: usize = 2048;

/// A part of a map.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Part {
    /// Query rows.
    pub queries: Range<usize>,
    /// Key rows.
    pub keys: Range<usize>,
}

/// Rows of cuts of one text; the lists of rows, sources and metrics are equally long.
pub struct Rows {
    /// The text.
    pub text: Text,
    /// The cuts.
    pub rows: Vec<Segmentation>,
    /// Where each comes from.
    pub sources: Vec<RowSource>,
    /// What each costs.
    pub metrics: Vec<Metrics>,
    /// Why tokenizer files that were asked for have no row.
    pub broken: Vec<String>,
}

/// Rows in shared lines.
pub struct TextStrip {
    /// The rows.
    pub rows: Arc<Rows>,
    /// Their lines.
    pub strip: Strip,
}

/// How probable a model found the tokens of a run.
pub struct Surprisal {
    /// Natural logarithm of each token's probability after those before it; `None` where nothing predicts it.
    pub ln_p: Vec<Option<f32>>,
    /// The largest surprisal, in bits.
    pub max_bits: f32,
}

impl Surprisal {
    /// Probability and surprisal in bits of a token.
    pub fn of(&self, token: usize) -> Option<(f32, f32)> {
        let ln_p = self.ln_p.get(token).copied().flatten()?;
        Some((ln_p.exp(), (-ln_p / std::f32::consts::LN_2).max(0.0)))
    }
}

/// Sequences of tokens that spell one word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherEncodings {
    /// How many there are; `None` where it passes 2^64.
    pub count: Option<u64>,
    /// The shortest, each as ids and their spellings.
    pub shortest: Vec<Vec<(u32, String)>>,
}

/// A number that nothing else in this process has. What is drawn from a product is kept under it: an address can
/// come back for another product, this does not.
pub fn version() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// One head's map, or a part of it. A cell that covers several pairs shows the largest share among them.
pub struct AttentionMap {
    /// See [`version`].
    pub version: u64,
    /// Rows of the whole map, queries and keys alike.
    pub n: usize,
    /// What is covered.
    pub window: Window,
    /// Shares `[rows, cols]`.
    pub cells: Cells,
    /// What a colour scale is fitted to; empty for a part, which keeps the scale of the whole.
    pub summary: Arc<Summary>,
}

/// Where the cells of a map are.
pub enum Cells {
    /// On the host.
    Host(Arc<Array>),
    /// On the device that computed them.
    Device(Arc<DeviceTile>),
}

impl AttentionMap {
    /// The share of the cell that covers this pair, if it is in the window; `cells` are those of this map.
    pub fn at(&self, cells: &Array, query: usize, key: usize) -> Option<f32> {
        cells.row(self.window.row_of(query)?).get(self.window.col_of(key)?).copied()
    }
}

/// What comes back. Cheap to clone.
#[derive(Clone)]
#[expect(missing_docs, reason = "each is the product of the request of its name")]
pub enum Product {
    Model(Arc<OpenModel>),
    Tokenizer(Arc<Tokenizer>),
    Picture(Arc<Picture>),
    Truth(Option<Arc<Truth>>),
    Trial(Arc<Verdict>),
    Estimate(Estimate),
    Merges(Arc<Option<Vec<Step>>>),
    Encodings(Arc<Option<OtherEncodings>>),
    Thumbnails(Arc<Vec<Thumbnail>>),
    Trace(Arc<Trace>),
    Segment(Arc<Rows>),
    Strip(Arc<TextStrip>),
    Surprisal(Arc<Surprisal>),
    Map(Arc<AttentionMap>),
    Cells(Arc<Array>),
    DeviceHead(Arc<DeviceHead>),
    RowStats(Arc<RowStats>),
    Score(Arc<Scores>),
    Prune(Arc<Pruned>),
    Answer(Arc<Vec<String>>),
    Retention(Arc<Vec<Retained>>),
    Edge(Arc<Vec<HeadShare>>),
    Effect(Arc<Effect>),
    NodeLens(Arc<Vec<(String, f32)>>),
    Flow(Arc<FlowGraph>),
    Lens(Arc<Lens>),
    Draft(Arc<Drafted>),
    Times(Times),
}

impl Product {
    /// About how much memory it holds, in bytes.
    pub fn bytes(&self) -> u64 {
        let size = match self {
            Product::Model(m) => 4 * m.model.info().n_params,
            Product::Trace(t) => t.size_bytes(),
            Product::Map(a) => 4 * a.window.rows * a.window.cols + a.summary.bytes(),
            Product::Cells(a) => size_of_val(a.data()),
            Product::DeviceHead(h) => h.bytes(),
            Product::Picture(p) => p.rgb.len(),
            Product::Flow(g) => size_of_val(g.edges.as_slice()),
            Product::Thumbnails(list) => list.iter().map(|t| size_of_val(t.cells.as_slice()) + t.summary.bytes()).sum(),
            Product::Lens(l) => l.top.iter().map(|layer| 48 * layer.len()).sum(),
            Product::Segment(rows) => rows.rows.iter().map(|r| 96 * r.pieces.len()).sum(),
            Product::Strip(s) => s.strip.bytes_held(),
            Product::Surprisal(s) => size_of_val(s.ln_p.as_slice()),
            _ => 0,
        };
        // The smallest ones hold a few short lists.
        size as u64 + 4096
    }
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
