//! A pane: one run, and how it is looked at. Plain data that a file can hold.

mod contest;
mod gather;

pub use contest::{Leaderboard, MAX_QUESTIONS, REPEATS};
pub use gather::{Aggregate, Gather, Per};

use crate::heatmap::Scale;
use crate::keys::{Call, CutKey, ModelSource, RunKey, Scope};
use crate::picture_source::PictureSource;
use crate::selection::Selection;
use crate::series_source::SeriesSource;
use crate::text::Text;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tokenscope_analysis::aggregate::MAX_CELLS;
use tokenscope_analysis::finding;
use tokenscope_analysis::method::{Kind, Params, Role};
use tokenscope_analysis::segment::{self, Reads};
use tokenscope_analysis::trace::{Tower, Trace};
use tokenscope_analysis::{Error, Result, catalog};

/// Width of a column of the flow lattice that has room for a token's name, in points.
pub const COLUMN: f32 = 44.0;
/// Layers, heads and tokens of a file are held below this, which is more than any model has.
const FARTHEST: usize = 1 << 24;
/// The whole map.
pub const WHOLE: [f32; 4] = [0.0, 0.0, 1.0, 1.0];

/// One run, and how it is looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pane {
    /// The run.
    pub run: RunKey,
    /// The series, which is cut and read by no model.
    #[serde(default)]
    pub series: Option<SeriesSource>,
    /// The stack of layers that views show; `None` is the main one.
    #[serde(default)]
    pub tower: Option<Tower>,
    /// The model that drafts.
    pub partner: ModelSource,
    /// Selected tokens; their predictions are explained. Empty means the last token.
    #[serde(default)]
    pub aim: Selection,
    /// The token that the explained prediction is held against: why what is predicted rather than this.
    #[serde(default)]
    pub contrast: Option<Contrast>,
    /// Chosen methods with their parameters; of other kinds what the catalog shows first.
    #[serde(default)]
    pub choices: Choices,
    /// Second methods, shown beside the chosen ones.
    #[serde(default)]
    pub beside: Choices,
    /// Where in the pictures one is.
    #[serde(default)]
    pub cursor: Cursor,
    /// What is shown, and how.
    #[serde(default)]
    pub shows: Shows,
    /// Whether what comes next is what the model says after the chosen reduction, and not the full one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reduced: bool,
}

/// A token of the vocabulary that a prediction is held against.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Contrast {
    /// Its id in the vocabulary of the pane's model.
    pub id: u32,
    /// Its text, for words and for the command line.
    pub text: String,
}

/// A method of each of some kinds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Choices(BTreeMap<Kind, Call>);

impl Choices {
    /// The method of that kind, if one is chosen.
    pub fn get(&self, kind: Kind) -> Option<&Call> {
        self.0.get(&kind)
    }

    /// Chooses a method; its parameters are checked when it runs. Errors: none of that name.
    pub fn choose(&mut self, call: Call) -> Result<()> {
        self.0.insert(catalog::find(call.method)?.info().kind, call);
        Ok(())
    }

    /// Chooses none of that kind.
    pub fn forget(&mut self, kind: Kind) {
        self.0.remove(&kind);
    }
}

impl Serialize for Choices {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.0.values())
    }
}

impl<'de> Deserialize<'de> for Choices {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let mut out = Self::default();
        for call in Vec::<Call>::deserialize(d)? {
            out.choose(call).map_err(D::Error::custom)?;
        }
        Ok(out)
    }
}

/// Where in the pictures one is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cursor {
    /// Layer and head of the attention map.
    pub head: (usize, usize),
    /// The part of the map that is seen, as shares of it: left, top, width, height.
    pub window: [f32; 4],
    /// The reduction is shown as it enters this layer; `None` shows it after all cuts.
    pub at_layer: Option<usize>,
    /// How far down the flow view is drilled.
    pub drill: Option<Drill>,
    /// Round of the decode.
    pub round: usize,
}

impl Default for Cursor {
    fn default() -> Self {
        Self { head: (1, 0), window: WHOLE, at_layer: None, drill: None, round: 0 }
    }
}

impl Cursor {
    /// Looks at this part of the map, held inside it and never empty.
    pub fn look(&mut self, [x, y, w, h]: [f32; 4]) {
        let (w, h) = (w.clamp(1e-5, 1.0), h.clamp(1e-5, 1.0));
        self.window = [x.clamp(0.0, 1.0 - w), y.clamp(0.0, 1.0 - h), w, h];
    }
}

/// How far down the drill of the flow view goes: node, edge into it, head of that edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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

/// What is shown, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shows {
    /// Which parts of the importance view are open: scores, reduction, retention, attention.
    pub parts: [bool; 4],
    /// How the attention map is coloured.
    pub scale: Scale,
    /// Order of the thumbnails.
    pub sort: Sort,
    /// Rows and colours of the segmentation view.
    pub cuts: Cuts,
    /// Reductions in the retention curves, by id.
    #[serde(deserialize_with = "reductions")]
    pub curves: Vec<&'static str>,
    /// What they measure.
    pub measure: Measure,
    /// The share of the tokens at which they are shown side by side.
    pub share: f32,
    /// Width of a column of the flow lattice in points; 0 fits all into the view.
    pub column: f32,
    /// Edges below this are not drawn.
    pub threshold: f32,
    /// How much colours hide of the picture they lie on, 0 to 1.
    pub cover: f32,
    /// Marks the ground truth on text and picture, where it is known.
    pub truth: bool,
    /// The kind of methods whose findings are shown where no view is their own.
    #[serde(with = "kind")]
    pub found: Kind,
    /// The pane that this one is compared with; `None` is the next one.
    pub against: Option<usize>,
    /// Parts of the comparison that are open.
    pub compared: Vec<Compared>,
    /// What becomes of tokens that another tokenizer has as one.
    pub fold: Fold,
    /// What scores are gathered into.
    pub aggregate: Aggregate,
    /// Whether it is shown how faithful the score is to the model.
    pub faithful: bool,
    /// The leaderboard of reductions over many questions.
    pub board: Leaderboard,
}

impl Default for Shows {
    fn default() -> Self {
        Self {
            parts: [true, true, false, true],
            scale: Scale::default(),
            sort: Sort::Layer,
            cuts: Cuts::default(),
            curves: catalog::of(Kind::Reduce).filter(|i| i.role == Role::Floor).map(|i| i.id).collect(),
            measure: Measure::Kl,
            share: 0.5,
            column: COLUMN,
            threshold: 0.08,
            cover: 0.6,
            truth: true,
            found: Kind::FOUND[0],
            against: None,
            compared: vec![Compared::Next, Compared::Scores],
            fold: Fold::default(),
            aggregate: Aggregate::default(),
            faithful: false,
            board: Leaderboard::default(),
        }
    }
}

/// What a retention curve measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Divergence of the next-token distribution from the full model's.
    Kl,
    /// Whether the most probable token is the same.
    Top1,
}

/// A part of what two panes show, to be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compared {
    /// What is predicted next.
    Next,
    /// The tokens' scores.
    Scores,
    /// The attention map of the head that each pane shows.
    Map,
    /// The flow graph.
    Flow,
    /// What a reduction leaves.
    Reduction,
    /// Findings without a view of their own.
    Findings,
    /// Drafts, or what was filled in.
    Drafts,
    /// How the input is cut.
    Cuts,
}

impl Compared {
    /// All of them, in the order of the view.
    pub const ALL: [Self; 8] =
        [Self::Next, Self::Scores, Self::Map, Self::Flow, Self::Reduction, Self::Findings, Self::Drafts, Self::Cuts];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Scores => "scores",
            Self::Map => "map",
            Self::Flow => "flow",
            Self::Reduction => "reduction",
            Self::Findings => "findings",
            Self::Drafts => "drafts",
            Self::Cuts => "cuts",
        }
    }

    /// What it is about, as a heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Next => "What is predicted next",
            Self::Scores => "Scores",
            Self::Map => "Attention map",
            Self::Flow => "Flow",
            Self::Reduction => "Reduction",
            Self::Findings => "Findings",
            Self::Drafts => "Drafts",
            Self::Cuts => "Tokens",
        }
    }
}

/// What the values of several tokens become that another tokenizer has as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fold {
    /// Their sum.
    #[default]
    Sum,
    /// Their mean.
    Mean,
    /// The one that is farthest from 0.
    Max,
}

impl Fold {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sum, Self::Mean, Self::Max];

    /// Its name.
    pub fn name(self) -> &'static str {
        finding::Fold::from(self).name()
    }
}

impl From<Fold> for finding::Fold {
    fn from(fold: Fold) -> Self {
        match fold {
            Fold::Sum => Self::Sum,
            Fold::Mean => Self::Mean,
            Fold::Max => Self::Max,
        }
    }
}

/// What thumbnails are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the figures of a head")]
pub enum Sort {
    Layer,
    Entropy,
    Sink,
    Distance,
}

/// What the segmentation view compares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cuts {
    /// Tokenizer files, a row each.
    pub files: Vec<PathBuf>,
    /// Built-in rows beside those of the model and of files, in the order of the program's list.
    #[serde(deserialize_with = "rows")]
    pub named: Vec<&'static str>,
    /// Row that premiums are relative to; the first row where there is none of this name.
    pub reference: String,
    /// Whether the model's own row is coloured by surprisal.
    pub surprisal: bool,
    /// Whether the cut of the text, of the picture or of the series is shown.
    #[serde(with = "reads")]
    pub shows: Reads,
    /// How the picture and the series are cut; what is not chosen is the first in the program's list.
    #[serde(serialize_with = "calls::write", deserialize_with = "calls::read")]
    pub calls: BTreeMap<Reads, Call>,
}

impl Default for Cuts {
    fn default() -> Self {
        let named = segment::of(Reads::Text).map(|m| m.info()).filter(|i| i.first).map(|i| i.id).collect();
        Self {
            files: Vec::new(),
            named,
            reference: String::new(),
            surprisal: false,
            shows: Reads::Text,
            calls: BTreeMap::new(),
        }
    }
}

impl Cuts {
    /// How a picture or a series is cut.
    pub fn call(&self, reads: Reads) -> Call {
        let first = || segment::of(reads).next().map_or("", |m| m.info().id);
        self.calls.get(&reads).cloned().unwrap_or_else(|| Call { method: first(), params: Params::new() })
    }

    /// Shows a way to cut: one more row of the text or one less, or the picture or the series cut by it.
    fn choose(&mut self, call: Call) -> Result<()> {
        self.shows = segment::find(call.method)?.reads();
        if self.shows == Reads::Text {
            let on = |n: &&str| self.named.contains(n) != (*n == call.method);
            self.named = segment::text::names().filter(on).collect();
        } else if self.call(self.shows).method != call.method || call.params != Params::new() {
            self.calls.insert(self.shows, call);
        }
        Ok(())
    }

    /// Shows the text again where what was shown is gone.
    pub fn without(&mut self, reads: Reads, gone: bool) {
        if gone && self.shows == reads {
            self.shows = Reads::Text;
        }
    }

    /// Adds a row for a tokenizer file.
    pub fn add(&mut self, file: PathBuf) {
        if !self.files.contains(&file) {
            self.files.push(file);
        }
    }
}

/// The program's own names for those of a file.
fn known<'de, D: Deserializer<'de>>(
    d: D,
    find: impl Fn(&str) -> Result<&'static str>,
) -> Result<Vec<&'static str>, D::Error> {
    let names = Vec::<String>::deserialize(d)?;
    names.iter().map(|n| find(n)).collect::<Result<_>>().map_err(D::Error::custom)
}

fn reductions<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<&'static str>, D::Error> {
    known(d, |name| Ok(catalog::info(Kind::Reduce, name)?.id))
}

fn rows<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<&'static str>, D::Error> {
    known(d, |name| {
        let unknown = || {
            let known = segment::text::names().collect::<Vec<_>>().join(", ");
            Error::Unknown { kind: "built-in row", name: name.into(), known }
        };
        segment::text::names().find(|n| *n == name).ok_or_else(unknown)
    })
}

/// A kind, by its name.
mod kind {
    use super::*;

    pub fn serialize<S: Serializer>(kind: &Kind, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(kind.name())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Kind, D::Error> {
        let asked = String::deserialize(d)?;
        Kind::parse(&asked).ok_or_else(|| D::Error::custom(format!("no kind of methods named {asked}")))
    }
}

/// What is cut, by a name.
mod reads {
    use super::*;

    fn name(reads: Reads) -> &'static str {
        match reads {
            Reads::Text => "text",
            Reads::Image => "image",
            Reads::Series => "series",
        }
    }

    pub fn serialize<S: Serializer>(reads: &Reads, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(name(*reads))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Reads, D::Error> {
        let asked = String::deserialize(d)?;
        let unknown = || D::Error::custom(format!("nothing named {asked} is cut; known: text, image, series"));
        Reads::ALL.into_iter().find(|r| name(*r) == asked).ok_or_else(unknown)
    }
}

/// Ways to cut, each of which says itself what it cuts.
mod calls {
    use super::*;

    pub fn write<S: Serializer>(calls: &BTreeMap<Reads, Call>, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(calls.values())
    }

    pub fn read<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<Reads, Call>, D::Error> {
        let all = Vec::<Call>::deserialize(d)?;
        let of = |call: Call| Ok((segment::find(call.method).map_err(D::Error::custom)?.reads(), call));
        all.into_iter().map(of).collect()
    }
}

impl Default for Pane {
    fn default() -> Self {
        Self {
            run: RunKey {
                model: ModelSource::Sample("sample-lm"),
                prompt: "In the harbour live the owl, the fox and the hen. Every evening the owl, the".into(),
                image: None,
                placement: Default::default(),
            },
            series: None,
            tower: None,
            partner: ModelSource::Sample("sample-draft"),
            aim: Selection::default(),
            contrast: None,
            choices: Choices::default(),
            beside: Choices::default(),
            cursor: Cursor::default(),
            shows: Shows::default(),
            reduced: false,
        }
    }
}

impl Pane {
    /// Which model says what comes next, in words.
    pub fn speaks(&self) -> String {
        if !self.reduced {
            return "full model".into();
        }
        let call = self.call(Kind::Reduce);
        let title = catalog::info(Kind::Reduce, call.method).map_or(call.method, |i| i.title);
        let params = call.params.to_json();
        let set: Vec<String> = params.iter().map(|(k, v)| format!("{k} {v}")).collect();
        if set.is_empty() { format!("reduced by {title}") } else { format!("reduced by {title} ({})", set.join(", ")) }
    }

    /// The pane of a file, held to what views can draw: shares between 0 and 1, widths that fit on a screen, numbers
    /// that can still be counted up.
    pub fn held(mut self) -> Self {
        self.run.image = self.run.image.and_then(PictureSource::held);
        let c = &mut self.cursor;
        let [x, y, w, h] = c.window;
        c.look(if [x, y, w, h].iter().all(|v| v.is_finite()) { c.window } else { WHOLE });
        let most = |n: usize| n.min(FARTHEST);
        (c.head, c.round) = ((most(c.head.0), most(c.head.1)), most(c.round));
        c.at_layer = c.at_layer.map(most);
        c.drill = c.drill.map(|d| Drill {
            level: most(d.level),
            token: most(d.token),
            from: d.from.map(most),
            head: d.head.map(most),
        });
        self.aim = self.aim.within(FARTHEST);
        let s = &mut self.shows;
        let share = |v: f32, usual: f32| if v.is_finite() { v.clamp(0.0, 1.0) } else { usual };
        let usual = Shows::default();
        (s.threshold, s.cover) = (share(s.threshold, usual.threshold), share(s.cover, usual.cover));
        s.aggregate.cells = s.aggregate.cells.clamp(1, MAX_CELLS);
        s.board = std::mem::take(&mut s.board).held();
        s.column = if s.column.is_finite() { s.column.clamp(0.0, 10.0 * COLUMN) } else { COLUMN };
        self
    }

    /// What the segmentation view cuts, and by what.
    pub fn cut(&self, text: Text) -> CutKey {
        let Cuts { files, named, .. } = self.shows.cuts.clone();
        CutKey { model: self.run.model.clone(), placement: self.run.placement, text, files, named }
    }

    /// The stack of layers that the views show.
    pub fn scope(&self) -> Scope {
        Scope { run: self.run.clone(), tower: self.tower }
    }

    /// The stack of layers of `trace` that is shown: the chosen one where the run has it.
    pub fn tower_of(&self, trace: &Trace) -> Tower {
        self.tower.filter(|t| trace.towers.contains_key(t)).unwrap_or(trace.main_tower())
    }

    /// The chosen method of a kind with its parameters. Of ways to cut a text none is chosen, they stand side by side;
    /// the way to cut is that of the picture or the series.
    pub fn call(&self, kind: Kind) -> Call {
        if kind == Kind::Segment {
            return self.shows.cuts.call(self.shows.cuts.shows);
        }
        let first = || Call { method: catalog::first(kind).map_or("", |i| i.id), params: Params::new() };
        self.choices.get(kind).cloned().unwrap_or_else(first)
    }

    /// The tokens whose predictions are explained; empty means the last.
    pub fn targets(&self) -> Vec<usize> {
        self.aim.tokens().to_vec()
    }

    /// Chooses a method; ways to cut a text stand side by side: one more row, or one less. What hangs on the method
    /// before goes. Errors: none of that name.
    pub fn choose(&mut self, call: Call) -> Result<()> {
        match catalog::find(call.method)?.info().kind {
            Kind::Segment => return self.shows.cuts.choose(call),
            Kind::Reduce => self.cursor.at_layer = None,
            Kind::Draft | Kind::Reveal => self.cursor.round = 0,
            kind if Kind::FOUND.contains(&kind) => self.shows.found = kind,
            _ => {}
        }
        self.choices.choose(call)
    }

    /// Keeps the chosen method with these parameters. Errors: none of that name.
    pub fn keep(&mut self, call: Call) -> Result<()> {
        match catalog::find(call.method)?.info().kind {
            Kind::Segment => drop(self.shows.cuts.calls.insert(self.shows.cuts.shows, call)),
            _ => self.choices.choose(call)?,
        }
        Ok(())
    }

    /// Cuts this series. No other view looks at it, so the segmentation does at once.
    pub fn cut_series(&mut self, series: Option<SeriesSource>) {
        self.shows.cuts.shows = if series.is_some() { Reads::Series } else { Reads::Text };
        self.series = series;
    }

    /// Forgets what hangs on the tokens of the run before.
    pub fn forget_tokens(&mut self) {
        self.aim = Selection::default();
        (self.cursor.window, self.cursor.drill) = (WHOLE, None);
        self.shows.aggregate.segments.clear();
    }

    /// Makes segments of the ranges of selected tokens, beside those that there are, and releases the selection. Where
    /// they meet, the new ones take the place of the old.
    pub fn add_segments(&mut self) {
        let new = std::mem::take(&mut self.aim).ranges();
        let all = &mut self.shows.aggregate.segments;
        all.retain(|(first, last)| new.iter().all(|n| n.1 < *first || n.0 > *last));
        all.extend(new);
        all.sort_unstable();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_of_the_map_stays_inside_and_is_never_empty() {
        let mut c = Cursor::default();
        c.look([0.9, -1.0, 0.5, 0.0]);
        assert_eq!(c.window, [0.5, 0.0, 0.5, 1e-5]);
        c.look([0.2, 0.2, 9.0, 9.0]);
        assert_eq!(c.window, WHOLE);
    }

    #[test]
    fn ways_to_cut_stand_side_by_side_and_other_methods_replace_each_other() {
        let call = |method| Call { method, params: Params::new() };
        let mut p = Pane::default();
        p.choose(call("words")).unwrap();
        assert!(!p.shows.cuts.named.contains(&"words"));
        p.choose(call("words")).unwrap();
        assert!(p.shows.cuts.named.contains(&"words"));
        p.cursor.at_layer = Some(1);
        p.choose(call("divprune")).unwrap();
        assert_eq!((p.call(Kind::Reduce).method, p.cursor.at_layer), ("divprune", None));
        assert!(p.choose(call("nonsense")).is_err_and(|e| e.to_string().contains("nonsense")));
    }
}
