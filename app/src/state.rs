//! The document: what the user has chosen, as plain data that a file can hold, and the commands that change it.

use crate::keys::{Call, ModelSource};
use crate::pane::{Compared, Contrast, Drill, Pane};
use crate::picture_source::PictureSource;
use crate::selection::Selection;
use crate::series_source::SeriesSource;
use crate::text::Text;
use crate::theme::ColorMap;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use tokenscope_analysis::method::{Kind, Params, Setting};
use tokenscope_analysis::segment::Reads;
use tokenscope_analysis::trace::Tower;

/// What undo is about: panes, of which one is worked in, and how everything looks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "DocFile")]
pub struct Doc {
    /// At least one.
    panes: Vec<Pane>,
    active: usize,
    /// How everything looks.
    pub look: Look,
    /// Runs that were kept under a name, in the order in which that was done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<Pin>,
}

/// A run, and how it was looked at, under a name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Pin {
    /// Its name.
    pub name: String,
    /// What is shown when it is recalled.
    pub pane: Pane,
}

/// How everything looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Look {
    /// Dark colours.
    pub dark: bool,
    /// Colours of magnitudes.
    pub map: ColorMap,
    /// Whether each pane is scrolled, zoomed and set for itself.
    pub apart: bool,
}

/// A document as a file says it.
#[derive(Deserialize)]
struct DocFile {
    panes: Vec<Pane>,
    #[serde(default)]
    active: usize,
    #[serde(default)]
    look: Look,
    #[serde(default)]
    pins: Vec<Pin>,
}

impl TryFrom<DocFile> for Doc {
    type Error = String;

    fn try_from(DocFile { panes, active, look, pins }: DocFile) -> Result<Self, String> {
        match panes.len() {
            0 => Err("a document has at least one pane".into()),
            n if active >= n => Err(format!("pane {active} is active and there are {n}")),
            _ => Ok(Self { panes, active, look, pins }),
        }
    }
}

impl Default for Doc {
    fn default() -> Self {
        Self::of(Pane::default())
    }
}

impl Doc {
    /// A document of one pane.
    pub fn of(pane: Pane) -> Self {
        Self { panes: vec![pane], active: 0, look: Look::default(), pins: Vec::new() }
    }

    /// A document of these panes, of which the last is worked in where there are fewer than `active` says; of the
    /// default one where there are none.
    pub fn of_parts(mut panes: Vec<Pane>, active: usize, look: Look, pins: Vec<Pin>) -> Self {
        if panes.is_empty() {
            panes.push(Pane::default());
        }
        Self { active: active.min(panes.len() - 1), panes, look, pins }
    }

    /// Changes every pane, and those under a name.
    pub fn each_pane(&mut self, change: impl FnMut(&mut Pane)) {
        self.panes.iter_mut().chain(self.pins.iter_mut().map(|p| &mut p.pane)).for_each(change);
    }

    /// All panes.
    pub fn panes(&self) -> &[Pane] {
        &self.panes
    }

    /// The number of the pane that is worked in.
    pub fn active(&self) -> usize {
        self.active
    }

    /// The pane that is worked in.
    pub fn pane(&self) -> &Pane {
        &self.panes[self.active]
    }

    /// The same, to be changed.
    pub fn pane_mut(&mut self) -> &mut Pane {
        &mut self.panes[self.active]
    }

    /// Adds a pane like the one that is worked in, beside it, and goes there.
    pub fn split(&mut self) {
        self.active += 1;
        self.panes.insert(self.active, self.panes[self.active - 1].clone());
        let at = self.active;
        self.renumber(|i| Some(if i >= at { i + 1 } else { i }));
    }

    /// The same with the copy behind all others, whose numbers stay.
    pub fn split_behind(&mut self) {
        self.panes.push(self.panes[self.active].clone());
        self.active = self.panes.len() - 1;
    }

    /// Puts the same run with the chosen reduction beside it without one, and compares what comes next.
    pub fn before_and_after(&mut self) {
        let show = |pane: &mut Pane| {
            pane.shows.parts[1] = true;
            if !pane.shows.compared.contains(&Compared::Next) {
                pane.shows.compared.push(Compared::Next);
            }
        };
        self.pane_mut().reduced = false;
        show(self.pane_mut());
        let full = self.active;
        self.split();
        let after = self.pane_mut();
        (after.reduced, after.shows.against) = (true, Some(full));
        self.panes[full].shows.against = Some(full + 1);
    }

    /// Other numbers for the panes that panes are compared with; `None` for one that is gone.
    fn renumber(&mut self, to: impl Fn(usize) -> Option<usize>) {
        for pane in &mut self.panes {
            pane.shows.against = pane.shows.against.and_then(&to);
        }
    }

    /// Closes the pane that is worked in; the last one stays.
    pub fn close(&mut self) {
        if self.panes.len() > 1 {
            let at = self.active;
            self.panes.remove(at);
            self.renumber(|i| if i == at { None } else { Some(i - usize::from(i > at)) });
            self.active = self.active.min(self.panes.len() - 1);
        }
    }

    /// The pane that pane `at` is compared with, if there is another: the chosen one, else the next.
    pub fn against(&self, at: usize) -> Option<usize> {
        let n = self.panes.len();
        let chosen = self.panes.get(at)?.shows.against.filter(|i| *i != at && *i < n);
        chosen.or((n > 1).then(|| (at + 1) % n))
    }

    /// What a figure of the pane that is worked in needs: this pane alone, with the one that it is compared with where
    /// `pair` says so and there is one.
    pub fn figured(&self, pair: bool) -> Self {
        let mut panes = vec![self.pane().clone()];
        if pair {
            panes.extend(self.against(self.active).map(|i| self.panes[i].clone()));
        }
        panes[0].shows.against = None;
        Self::of_parts(panes, 0, Look { apart: false, ..self.look }, Vec::new())
    }

    /// Goes to that pane; after the last comes the first.
    pub fn go_to(&mut self, pane: usize) {
        self.active = pane % self.panes.len();
    }

    /// Carries out a command on the pane that is worked in.
    pub fn apply(&mut self, command: Command) {
        let pane = self.pane_mut();
        match command {
            Command::Model(m) => {
                pane.forget_tokens();
                // Ids of another vocabulary mean other tokens.
                (pane.run.model, pane.tower, pane.contrast) = (m, None, None);
                (pane.cursor.head, pane.cursor.round, pane.cursor.at_layer) = ((0, 0), 0, None);
            }
            Command::Prompt(p) => {
                pane.forget_tokens();
                (pane.run.prompt, pane.cursor.round) = (p, 0);
            }
            Command::Image(i) => {
                pane.forget_tokens();
                pane.shows.cuts.without(Reads::Image, i.is_none());
                pane.run.image = i;
            }
            Command::Series(s) => pane.cut_series(s),
            Command::Tower(t) => {
                pane.forget_tokens();
                (pane.tower, pane.cursor.head, pane.cursor.at_layer) = (t, (0, 0), None);
            }
            Command::Select(s) => pane.aim = s,
            Command::AddTokenizer(file) => pane.shows.cuts.add(file),
            // A method that the catalog does not have changes nothing; senders take theirs from there.
            Command::Method(id) => drop(pane.choose(Call { method: id, params: Params::new() })),
            Command::Param(kind, key, value) => {
                let Call { method, params } = pane.call(kind);
                drop(pane.keep(Call { method, params: params.set(key, value) }));
            }
            Command::Set(set) => (set.change)(self),
            Command::Show(shown) => *pane = *shown,
        }
    }
}

/// A change of [`Doc`]; views send these and change nothing themselves.
#[derive(Debug, Clone)]
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
    /// Select these tokens and explain the predictions at them.
    Select(Selection),
    /// Compare with this tokenizer, too.
    AddTokenizer(PathBuf),
    /// Choose a method of the catalog; its parameters go back to their defaults. Ways to cut the text stand side by
    /// side: one more row, or one less.
    Method(&'static str),
    /// Set a parameter of the chosen method.
    Param(Kind, &'static str, Setting),
    /// Set something of what is shown and how.
    Set(Set),
    /// Show all of this, e.g. an example.
    Show(Box<Pane>),
}

/// A change of one thing that no other hangs on.
#[derive(Clone)]
pub struct Set {
    /// What it sets, in words for the menu; changes of one thing in one gesture are one step of undo.
    what: &'static str,
    /// Whether it is part of a gesture that sets the same thing again and again.
    goes_on: bool,
    change: Arc<dyn Fn(&mut Doc) + Send + Sync>,
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_tuple("Set").field(&self.what).finish()
    }
}

impl Command {
    /// Sets something of the pane that is worked in; `what` names it in words for the menu.
    pub fn set(what: &'static str, change: impl Fn(&mut Pane) + Send + Sync + 'static) -> Self {
        Self::Set(Set { what, goes_on: true, change: Arc::new(move |doc| change(doc.pane_mut())) })
    }

    /// Sets something of how everything looks, or which panes there are; each time is a step of its own.
    pub fn whole(what: &'static str, change: impl Fn(&mut Doc) + Send + Sync + 'static) -> Self {
        Self::Set(Set { what, goes_on: false, change: Arc::new(change) })
    }

    /// Shows this layer's head; views hold both to what the model has.
    pub fn head(layer: usize, head: usize) -> Self {
        Self::set("head", move |p| p.cursor.head = (layer, head))
    }

    /// Sets something of how panes are looked at: of all of them, unless each is looked at for itself.
    pub fn look(what: &'static str, change: impl Fn(&mut Pane) + Send + Sync + 'static) -> Self {
        let change = move |doc: &mut Doc| match doc.look.apart {
            true => change(doc.pane_mut()),
            false => doc.panes.iter_mut().for_each(&change),
        };
        Self::Set(Set { what, goes_on: true, change: Arc::new(change) })
    }

    /// Shows this part of the attention map.
    pub fn part(window: [f32; 4]) -> Self {
        Self::look("part of the map", move |p| p.cursor.look(window))
    }

    /// Shows pictures of stages as they enter this layer, or after all of them.
    pub fn layer(layer: Option<usize>) -> Self {
        Self::set("layer of the reduction", move |p| p.cursor.at_layer = layer)
    }

    /// Shows this round of the decode; views hold it to what there is.
    pub fn round(round: usize) -> Self {
        Self::set("round", move |p| p.cursor.round = round)
    }

    /// Drills into the flow, or leaves it.
    pub fn drill(drill: Option<Drill>) -> Self {
        Self::set("drill into the flow", move |p| p.cursor.drill = drill)
    }

    /// Explains why what is predicted at this token, rather than another; or no longer rather than anything.
    pub fn contrast(at: Option<usize>, contrast: Option<Contrast>) -> Self {
        Self::set("what a prediction is held against", move |p| {
            if let Some(at) = at {
                p.aim = Selection::one(at);
            }
            p.contrast.clone_from(&contrast);
        })
    }

    /// What it changes, in words for the menu.
    pub fn what(&self) -> &'static str {
        match self {
            Command::Model(_) => "model",
            Command::Prompt(_) => "prompt",
            Command::Image(_) => "picture",
            Command::Series(_) => "series",
            Command::Tower(_) => "stack of layers",
            Command::Select(_) => "selection",
            Command::AddTokenizer(_) => "list of tokenizers",
            Command::Method(_) => "method",
            Command::Param(..) => "parameter",
            Command::Set(set) => set.what,
            Command::Show(_) => "example",
        }
    }

    /// The thing it sets, so that repeated changes of one thing are known; `None` where each is a step of its own.
    pub fn thing(&self) -> Option<String> {
        match self {
            Command::Param(kind, key, _) => Some(format!("{} {key}", kind.name())),
            Command::Set(set) => set.goes_on.then(|| set.what.into()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pane::{Cuts, Measure, Sort};
    use tokenscope_analysis::method::Real;

    /// A document in which nothing has its default.
    fn full() -> Doc {
        let mut pane = Pane::default();
        pane.run.model = ModelSource::Path("/models/a".into());
        pane.run.image = Some(PictureSource::Scene(7));
        pane.tower = Some(Tower::Vision);
        pane.partner = ModelSource::Sample("sample-lm");
        pane.aim = Selection::one(3);
        pane.contrast = Some(Contrast { id: 7, text: " b".into() });
        pane.choose(Call { method: "tome", params: Params::new() }).unwrap();
        pane.cut_series(Some(SeriesSource::File {
            path: "/s.csv".into(),
            column: Some("volt".into()),
            rate: Some(Real::new(50.0)),
        }));
        pane.choose(Call { method: "lipcot", params: Params::new() }).unwrap();
        let mut other = Pane { run: pane.run.clone(), ..Pane::default() };
        other.run.model = ModelSource::Recorded("/runs/b.safetensors".into());
        other.beside.choose(Call::of(tokenscope_analysis::catalog::first(Kind::Draft).unwrap())).unwrap();
        pane.cursor.look([0.25, 0.5, 0.25, 0.25]);
        pane.cursor.drill = Some(Drill { level: 2, token: 1, from: Some(0), head: None });
        (pane.cursor.head, pane.cursor.at_layer, pane.cursor.round) = ((1, 2), Some(1), 4);
        let cuts = pane.shows.cuts.clone();
        pane.shows.cuts = Cuts { files: vec!["/t.json".into()], named: vec!["words"], ..cuts };
        (pane.shows.measure, pane.shows.sort, pane.shows.truth) = (Measure::Top1, Sort::Sink, false);
        pane.shows.curves = vec!["tome"];
        let look = Look { dark: true, map: ColorMap::Magma, apart: true };
        let pins = vec![Pin { name: "before".into(), pane: other.clone() }];
        let mut doc = Doc { panes: vec![other, pane], active: 1, look, pins };
        doc.apply(Command::Param(Kind::Reduce, "r", 5.into()));
        doc
    }

    #[test]
    fn a_document_comes_back_from_its_file_as_it_was() {
        let doc = full();
        let text = serde_json::to_string(&doc).unwrap();
        assert_eq!(serde_json::from_str::<Doc>(&text).unwrap(), doc);
        assert_eq!(doc.pane().call(Kind::Reduce).method, "tome");
        // What a file does not say has its default.
        let short = r#"{"panes":[{"run":{"model":{"sample":"sample-lm"},"prompt":"a","image":null},"partner":{"sample":"sample-draft"}}]}"#;
        let mut pane = Pane::default();
        pane.run.prompt = "a".into();
        assert_eq!(serde_json::from_str::<Doc>(short).unwrap(), Doc::of(pane));
    }

    #[test]
    fn panes_open_beside_each_other_and_the_last_stays() {
        let mut doc = Doc::default();
        doc.split();
        doc.apply(Command::Prompt("b".into()));
        assert_eq!((doc.panes().len(), doc.active(), &*doc.pane().run.prompt), (2, 1, "b"));
        assert_ne!(&*doc.panes()[0].run.prompt, "b");
        doc.go_to(2);
        assert_eq!(doc.active(), 0);
        doc.split();
        assert_eq!((doc.active(), &*doc.panes()[2].run.prompt), (1, "b"));
        // What one is compared with stays the same pane.
        doc.pane_mut().shows.against = Some(2);
        doc.go_to(0);
        doc.split();
        assert_eq!(doc.panes()[2].shows.against, Some(3));
        doc.close();
        assert_eq!(doc.panes()[1].shows.against, Some(2));
        doc.go_to(2);
        doc.close();
        assert_eq!(doc.panes()[1].shows.against, None);
        (0..5).for_each(|_| doc.close());
        assert_eq!((doc.panes().len(), doc.active(), &*doc.pane().run.prompt), (1, 0, &*Pane::default().run.prompt));
    }

    #[test]
    fn before_and_after_a_reduction_stand_beside_each_other_and_are_compared() {
        let mut doc = Doc::default();
        doc.pane_mut().choose(Call { method: "divprune", params: Params::new() }).unwrap();
        doc.before_and_after();
        let [full, reduced] = doc.panes() else { panic!() };
        assert_eq!((full.reduced, reduced.reduced, doc.active()), (false, true, 1));
        assert_eq!((doc.against(0), doc.against(1)), (Some(1), Some(0)));
        assert_eq!((full.run.clone(), full.call(Kind::Reduce)), (reduced.run.clone(), reduced.call(Kind::Reduce)));
        assert_eq!(full.speaks(), "full model");
        assert!(reduced.speaks().starts_with("reduced by "), "{}", reduced.speaks());
        // From the reduced one on, the full one is made, not a third of the same.
        doc.before_and_after();
        assert_eq!(doc.panes().iter().map(|p| p.reduced).collect::<Vec<_>>(), [false, false, true]);
    }

    #[test]
    fn names_that_this_program_does_not_have_are_named_in_the_error() {
        let text = serde_json::to_string(&full()).unwrap();
        for (name, other) in [
            (r#""method":"tome""#, r#""method":"tomato""#),
            (r#""curves":["tome"]"#, r#""curves":["tomato"]"#),
            (r#""named":["words"]"#, r#""named":["tomato"]"#),
            (r#"{"sample":"sample-lm"}"#, r#"{"sample":"tomato"}"#),
            (r#""r":5"#, r#""tomato":5"#),
        ] {
            assert!(text.contains(name), "{name} in {text}");
            let why = serde_json::from_str::<Doc>(&text.replace(name, other)).unwrap_err().to_string();
            assert!(why.contains("tomato"), "{name}: {why}");
        }
        for bad in [r#"{"panes":[]}"#.to_string(), text.replace(r#""active":1"#, r#""active":2"#)] {
            assert!(serde_json::from_str::<Doc>(&bad).is_err_and(|e| e.to_string().contains("pane")), "{bad}");
        }
    }
}
