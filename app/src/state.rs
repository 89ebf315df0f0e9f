//! What the user has chosen, as plain data, and the commands that change it.

use crate::heatmap::Scale;
use crate::keys::{Call, CutKey, ModelSource, RunKey, Scope};
use crate::picture_source::PictureSource;
use crate::selection::Selection;
use crate::series_source::SeriesSource;
use crate::text::Text;
use crate::theme::ColorMap;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tokenscope_analysis::method::{Kind, Params, Setting};
use tokenscope_analysis::segment::{self, Reads};
use tokenscope_analysis::trace::Tower;
use tokenscope_analysis::{Result, catalog};

/// The whole map.
pub const WHOLE: [f32; 4] = [0.0, 0.0, 1.0, 1.0];

/// What a retention curve measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Divergence of the next-token distribution from the full model's.
    Kl,
    /// Whether the most probable token is the same.
    Top1,
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

/// What the segmentation view compares.
#[derive(Debug, Clone, PartialEq)]
pub struct Cuts {
    /// Built-in rows beside those of the model and of files, in the order of the program's list.
    pub named: Vec<&'static str>,
    /// Row that premiums are relative to; the first row where there is none of this name.
    pub reference: String,
    /// Whether the model's own row is coloured by surprisal.
    pub surprisal: bool,
    /// Whether the cut of the text, of the picture or of the series is shown.
    pub shows: Reads,
    /// How the picture and the series are cut; what is not chosen is the first in the program's list.
    pub calls: BTreeMap<Reads, Call>,
}

impl Default for Cuts {
    fn default() -> Self {
        let named = vec!["r50k_base", "cl100k_base", "o200k_base", "words"];
        Self { named, reference: String::new(), surprisal: false, shows: Reads::Text, calls: BTreeMap::new() }
    }
}

impl Cuts {
    /// How a picture or a series is cut.
    pub fn call(&self, reads: Reads) -> Call {
        let first = || Call::new(segment::of(reads).next().map_or("", |m| m.info().id), &Params::new());
        self.calls.get(&reads).cloned().unwrap_or_else(first)
    }

    /// Shows a way to cut: one more row of the text or one less, or the picture or the series cut by it.
    fn choose(&mut self, id: &str) {
        let Ok(method) = segment::find(id) else { return };
        self.shows = method.reads();
        if self.shows == Reads::Text {
            let on = |n: &&str| self.named.contains(n) != (*n == id);
            self.named = segment::text::names().filter(on).collect();
        } else if self.call(self.shows).method != id {
            self.calls.insert(self.shows, Call::new(id, &Params::new()));
        }
    }

    /// Sets a parameter of how the picture or the series is cut, whichever is shown.
    fn set(&mut self, key: &'static str, value: Setting) {
        let mut call = self.call(self.shows);
        call.params.insert(key, value);
        self.calls.insert(self.shows, call);
    }
}

/// How far down the drill of the flow view goes: node, edge into it, head of that edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drill {
    /// Level of the node, 0 for the inputs.
    pub level: usize,
    /// Token of the node.
    pub token: usize,
    /// Token that the edge comes from.
    pub from: Option<usize>,
    /// Head of the edge.
    pub head: Option<usize>,
}

impl Drill {
    /// One stage back; `None` where there is none.
    pub fn back(self) -> Option<Self> {
        match (self.from, self.head) {
            (_, Some(_)) => Some(Self { head: None, ..self }),
            (Some(_), None) => Some(Self { from: None, ..self }),
            (None, None) => None,
        }
    }
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
    pub prompt: Text,
    /// The picture.
    pub image: Option<PictureSource>,
    /// The series, which is cut and read by no model.
    pub series: Option<SeriesSource>,
    /// The stack of layers that views show; `None` is the main one.
    pub tower: Option<Tower>,
    /// The model that drafts.
    pub draft_model: ModelSource,
    /// Further tokenizers to compare.
    pub tokenizers: Vec<PathBuf>,
    /// Rows and colours of the segmentation view.
    pub cuts: Cuts,
    /// How the attention map is coloured.
    pub scale: Scale,
    /// The part of the map that is seen, as shares of it: left, top, width, height.
    pub window: [f32; 4],
    /// Order of the thumbnails.
    pub sort: Sort,
    /// Which parts of the importance view are open: scores, reduction, retention, attention.
    pub parts: [bool; 4],
    /// Layer and head of the attention map.
    pub head: (usize, usize),
    /// Selected tokens; their predictions are explained. Empty means the last token.
    pub selection: Selection,
    /// The reduction is shown as it enters this layer; `None` shows it after all cuts.
    pub at_layer: Option<usize>,
    /// Reductions in the retention curves, by id.
    pub curves: Vec<String>,
    /// What they measure.
    pub measure: Measure,
    /// How far down the flow view is drilled.
    pub drill: Option<Drill>,
    /// Width of a column of the flow lattice in points; 0 fits all into the view.
    pub column: f32,
    /// Chosen method and parameters per kind; of other kinds what the catalog shows first.
    pub choices: BTreeMap<Kind, Call>,
    /// The kind of methods whose findings are shown where no view is their own.
    pub found: Kind,
    /// A second draft method, shown beside the first.
    pub rival: Option<(String, Params)>,
    /// Marks the ground truth on text and picture, where it is known.
    pub truth: bool,
    /// Edges below this are not drawn.
    pub threshold: f32,
    /// Round of the decode.
    pub round: usize,
    /// Dark colours.
    pub dark: bool,
    /// Colours of magnitudes.
    pub map: ColorMap,
}

impl Default for Doc {
    fn default() -> Self {
        Self {
            model: ModelSource::Sample("sample-lm"),
            prompt: "In the harbour live the owl, the fox and the hen. Every evening the owl, the".into(),
            image: None,
            series: None,
            tower: None,
            draft_model: ModelSource::Sample("sample-draft"),
            tokenizers: Vec::new(),
            cuts: Cuts::default(),
            scale: Scale::default(),
            window: WHOLE,
            sort: Sort::Layer,
            parts: [true, true, false, true],
            head: (1, 0),
            selection: Selection::default(),
            at_layer: None,
            curves: vec!["random".into(), "uniform".into()],
            measure: Measure::Kl,
            drill: None,
            column: 26.0,
            choices: BTreeMap::new(),
            found: Kind::Study,
            rival: None,
            truth: true,
            threshold: 0.08,
            round: 0,
            dark: false,
            map: ColorMap::default(),
        }
    }
}

impl Doc {
    /// The run that the views show.
    pub fn run(&self) -> RunKey {
        RunKey { model: self.model.clone(), prompt: self.prompt.clone(), image: self.image.clone() }
    }

    /// What the segmentation view cuts, and by what.
    pub fn cut(&self, text: Text) -> CutKey {
        CutKey { model: self.model.clone(), text, files: self.tokenizers.clone(), named: self.cuts.named.clone() }
    }

    /// The stack of layers that the views show.
    pub fn scope(&self) -> Scope {
        Scope { run: self.run(), tower: self.tower }
    }

    /// The chosen method of a kind with its parameters. Of ways to cut a text none is chosen, they stand side by side.
    pub fn call(&self, kind: Kind) -> Call {
        let first = || Call::new(catalog::first(kind).map_or("", |i| i.id), &Params::new());
        self.choices.get(&kind).cloned().unwrap_or_else(first)
    }

    /// Chooses a method of the catalog. Errors: none of that name.
    pub fn choose(&mut self, id: &str, params: Params) -> Result<()> {
        let info = catalog::find(id)?.info();
        info.check(&params)?;
        self.choices.insert(info.kind, Call::new(info.id, &params));
        Ok(())
    }

    /// The tokens whose predictions are explained; empty means the last.
    pub fn targets(&self) -> Vec<usize> {
        self.selection.tokens().to_vec()
    }

    /// What hangs on the tokens of the run before and cannot stay.
    fn forget_tokens(&mut self) {
        (self.selection, self.window, self.drill) = (Selection::default(), WHOLE, None);
    }

    /// Carries out a command.
    pub fn apply(&mut self, command: Command) {
        match command {
            Command::Model(m) => {
                self.forget_tokens();
                (self.model, self.head, self.round, self.tower, self.at_layer) = (m, (0, 0), 0, None, None);
            }
            Command::Prompt(p) => {
                self.forget_tokens();
                (self.prompt, self.round) = (p, 0);
            }
            Command::Image(i) => {
                self.forget_tokens();
                if i.is_none() && self.cuts.shows == Reads::Image {
                    self.cuts.shows = Reads::Text;
                }
                self.image = i;
            }
            Command::Series(s) => {
                // No other view looks at it, so this one does at once.
                self.cuts.shows = if s.is_some() { Reads::Series } else { Reads::Text };
                self.series = s;
            }
            Command::Tower(t) => {
                self.forget_tokens();
                (self.tower, self.head, self.at_layer) = (t, (0, 0), None);
            }
            Command::DraftModel(m) => (self.draft_model, self.round) = (m, 0),
            Command::Tokenizers(list) => self.tokenizers = list,
            Command::AddTokenizer(file) => {
                if !self.tokenizers.contains(&file) {
                    self.tokenizers.push(file);
                }
            }
            Command::Cuts(c) => self.cuts = c,
            Command::Scale(s) => self.scale = s,
            Command::Window(w) => self.window = clamp_window(w),
            Command::Sort(s) => self.sort = s,
            Command::Parts(p) => self.parts = p,
            Command::Head(layer, head) => self.head = (layer, head),
            Command::Select(s) => self.selection = s,
            Command::AtLayer(l) => self.at_layer = l,
            Command::Curves(c) => self.curves = c,
            Command::Measure(m) => self.measure = m,
            Command::Drill(d) => self.drill = d,
            Command::Column(c) => self.column = c.clamp(0.0, 200.0),
            Command::Method(Kind::Segment, id) => self.cuts.choose(&id),
            Command::Method(kind, id) => {
                self.choices.insert(kind, Call::new(&id, &Params::new()));
                match kind {
                    Kind::Reduce => self.at_layer = None,
                    Kind::Draft => self.round = 0,
                    Kind::Study | Kind::Reveal | Kind::Cache => self.found = kind,
                    _ => {}
                }
            }
            Command::Param(Kind::Segment, key, value) => self.cuts.set(key, value),
            Command::Param(kind, key, value) => {
                let mut call = self.call(kind);
                call.params.insert(key, value);
                self.choices.insert(kind, call);
            }
            Command::Found(kind) => self.found = kind,
            Command::Rival(r) => self.rival = r,
            Command::Threshold(t) => self.threshold = t,
            Command::Round(r) => self.round = r,
            Command::Truth(t) => self.truth = t,
            Command::Show(doc) => *self = *doc,
            Command::Dark(d) => self.dark = d,
            Command::Colors(m) => self.map = m,
        }
    }
}

/// A change of [`Doc`]; views send these and change nothing themselves.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Use this model.
    Model(ModelSource),
    /// Use this prompt.
    Prompt(Text),
    /// Use this picture.
    Image(Option<PictureSource>),
    /// Cut this series.
    Series(Option<SeriesSource>),
    /// Show this stack of layers.
    Tower(Option<Tower>),
    /// Draft with this model.
    DraftModel(ModelSource),
    /// Compare with these tokenizers.
    Tokenizers(Vec<PathBuf>),
    /// Compare with this tokenizer, too.
    AddTokenizer(PathBuf),
    /// Compare these cuts so.
    Cuts(Cuts),
    /// Colour the map so.
    Scale(Scale),
    /// Show this part of the map.
    Window([f32; 4]),
    /// Order the thumbnails so.
    Sort(Sort),
    /// Open these parts of the importance view.
    Parts([bool; 4]),
    /// Show this layer's head.
    Head(usize, usize),
    /// Select these tokens and explain the predictions at them.
    Select(Selection),
    /// Show the reduction as it enters this layer.
    AtLayer(Option<usize>),
    /// Draw retention curves of these reductions.
    Curves(Vec<String>),
    /// Measure this in the retention curves.
    Measure(Measure),
    /// Show the findings of this kind of methods.
    Found(Kind),
    /// Drill into the flow graph, or leave it.
    Drill(Option<Drill>),
    /// Make the columns of the flow lattice this wide.
    Column(f32),
    /// Decode with a second method beside the first.
    Rival(Option<(String, Params)>),
    /// Choose a method; its parameters go back to their defaults. Ways to cut the text stand side by side: one more
    /// row, or one less.
    Method(Kind, String),
    /// Set a parameter of the chosen method.
    Param(Kind, &'static str, Setting),
    /// Draw edges from this weight on.
    Threshold(f32),
    /// Show this round of the decode.
    Round(usize),
    /// Mark the ground truth.
    Truth(bool),
    /// Show all of this, e.g. an example.
    Show(Box<Doc>),
    /// Dark or light colours.
    Dark(bool),
    /// Colours of magnitudes.
    Colors(ColorMap),
}

impl Command {
    /// What it changes, in words for the menu.
    pub fn what(&self) -> &'static str {
        match self {
            Command::Model(_) => "model",
            Command::Prompt(_) => "prompt",
            Command::Image(_) => "picture",
            Command::Series(_) => "series",
            Command::Tower(_) => "stack of layers",
            Command::DraftModel(_) => "draft model",
            Command::Tokenizers(_) | Command::AddTokenizer(_) => "list of tokenizers",
            Command::Cuts(_) => "rows of the segmentation",
            Command::Scale(_) => "colour scale",
            Command::Window(_) => "part of the map",
            Command::Sort(_) => "order of heads",
            Command::Parts(_) => "open parts",
            Command::Head(..) => "head",
            Command::Select(_) => "selection",
            Command::AtLayer(_) => "layer of the reduction",
            Command::Curves(_) | Command::Measure(_) => "retention curves",
            Command::Found(_) => "show other findings",
            Command::Drill(_) => "drill into the flow",
            Command::Column(_) => "width of columns",
            Command::Method(..) => "method",
            Command::Param(..) => "parameter",
            Command::Rival(_) => "second draft method",
            Command::Threshold(_) => "threshold",
            Command::Round(_) => "round",
            Command::Truth(_) => "ground truth",
            Command::Show(_) => "example",
            Command::Dark(_) => "colours",
            Command::Colors(_) => "colour map",
        }
    }

    /// The thing it sets, so that repeated changes of one thing are known.
    pub fn thing(&self) -> String {
        match self {
            Command::Param(kind, key, _) => format!("{} {key}", kind.name()),
            Command::Method(kind, _) => format!("{} method", kind.name()),
            other => other.what().into(),
        }
    }

    /// Whether controls send it many times in one gesture.
    pub fn repeats(&self) -> bool {
        matches!(
            self,
            Command::Threshold(_)
                | Command::Round(_)
                | Command::Param(..)
                | Command::Window(_)
                | Command::Scale(_)
                | Command::AtLayer(_)
                | Command::Column(_)
                | Command::Head(..)
                | Command::Rival(_)
        )
    }
}
