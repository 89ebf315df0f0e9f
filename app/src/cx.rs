//! What everything that is drawn looks at: the document, the jobs, the theme, the pointer. It writes only by sending
//! commands.

use crate::heatmap::Painter;
use crate::jobs::{Ask, Jobs, Spot, Status};
use crate::keys::{Call, ModelSource, RunKey};
use crate::pane::Pane;
use crate::picture_source::PictureSource;
use crate::selection::{Hover, Pick};
use crate::state::{Command, Doc};
use crate::text::Text;
use crate::theme::Theme;
use crate::work::{
    CellsOf, DraftOf, FindingOf, MapOf, ModelOf, OpenModel, PictureOf, ReducedOf, ScoreOf, Serves as _, TimelineOf,
    TraceOf,
};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokenscope_analysis::array::Array;
use tokenscope_analysis::image::Picture;
use tokenscope_analysis::lens::holds_predictions;
use tokenscope_analysis::method::{Info, Kind, Need, Role};
use tokenscope_analysis::subject::{Aim, cannot_draft};
use tokenscope_analysis::token::Token;
use tokenscope_analysis::trace::{Tower, TowerTrace, Trace};
use tokenscope_analysis::{Error, Subject, catalog};

/// How a token stands out, the strongest reason first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Under the pointer in this or another view.
    Hovered,
    /// Selected.
    Selected,
    /// The same vocabulary id as the hovered one.
    Twin,
    /// None of these.
    Plain,
}

/// The number of the pane of a figure: what it shows is not what the window showed before, nor the other way round.
pub const FIGURE: usize = usize::MAX;

/// A part whose ids hang on nothing but `name`: what comes and goes above it must not take the keyboard from it, nor the
/// pointer that drags in it.
pub fn fixed<R>(
    ui: &mut egui::Ui,
    name: impl egui::AsIdSalt,
    content: impl FnOnce(&mut egui::Ui) -> R,
) -> egui::InnerResponse<R> {
    let id = ui.scope_id().with(name);
    ui.scope_builder(egui::UiBuilder::new().scope_id(id), content)
}

/// How far each view is scrolled, in points, and in which pane it was.
pub type Scrolls = RefCell<BTreeMap<&'static str, (f32, usize)>>;

/// Where a part of a view of pane `pane` lies, and what it is known by, where it was drawn in the last pass or in this
/// one.
pub fn part_place(ctx: &egui::Context, pane: usize, name: &str) -> Option<(egui::Rect, egui::Id)> {
    let (pass, rect, id) = ctx.data(|d| d.get_temp::<(u64, egui::Rect, egui::Id)>(part_id(pane, name)))?;
    (pass + 1 >= ctx.cumulative_pass_nr()).then_some((rect, id))
}

fn part_id(pane: usize, name: &str) -> egui::Id {
    egui::Id::unique("part of a view").with((pane, name))
}

/// Everything that is drawn may look at.
pub struct Cx<'a> {
    /// What is chosen.
    pub doc: &'a Doc,
    /// The pane that is drawn.
    pub pane: &'a Pane,
    /// Its number, or [`FIGURE`].
    pub at: usize,
    /// The prompt as it stands in its box, where it is ahead of the document's.
    pub typed: Option<Text>,
    /// Colours and sizes.
    pub theme: &'a Theme,
    /// Where requests go.
    pub jobs: &'a Jobs,
    /// What should change, carried out after the frame.
    pub commands: &'a RefCell<Vec<Command>>,
    /// What the pointer was on in the last pass.
    pub hovered: &'a Hover,
    /// What it is on in this pass.
    pub hover: &'a RefCell<Hover>,
    /// The first failure of this frame.
    pub failed: &'a RefCell<Option<String>>,
    /// Whether the view being drawn has said that a failure keeps it from showing more; once is enough.
    pub excused: Cell<bool>,
    /// Whether something that is drawn has nothing to show yet.
    pub waits: Cell<bool>,
    /// Whether this becomes a figure: then there are captions instead of controls.
    pub figure: bool,
    /// Name of the view that is drawn.
    pub view: Cell<&'static str>,
    /// Where the views of all panes are scrolled to, where they are scrolled together.
    pub scrolls: Option<&'a Scrolls>,
    /// Draws heatmaps on the window's device; without it they are drawn on the CPU.
    pub painter: Option<&'a Painter>,
}

/// What the views of a figure write into.
#[derive(Default)]
pub struct Sheet {
    commands: RefCell<Vec<Command>>,
    hovered: Hover,
    hover: RefCell<Hover>,
    /// The first failure.
    pub failed: RefCell<Option<String>>,
}

impl Sheet {
    /// What they draw with.
    pub fn cx<'a>(&'a self, doc: &'a Doc, jobs: &'a Jobs, theme: &'a Theme) -> Cx<'a> {
        Cx {
            doc,
            pane: doc.pane(),
            at: FIGURE,
            typed: None,
            theme,
            jobs,
            commands: &self.commands,
            hovered: &self.hovered,
            hover: &self.hover,
            failed: &self.failed,
            excused: Cell::new(false),
            waits: Cell::new(false),
            figure: true,
            view: Cell::new(""),
            scrolls: None,
            painter: None,
        }
    }
}

impl<'a> Cx<'a> {
    /// The same for another pane of the document; what it sends goes to the pane that is worked in.
    pub fn on_pane(&self, pane: usize) -> Self {
        let at = if self.figure { FIGURE - 1 - pane } else { pane };
        Self {
            pane: &self.doc.panes()[pane],
            at,
            typed: None,
            excused: Cell::new(false),
            waits: Cell::new(false),
            view: Cell::new(""),
            ..*self
        }
    }

    /// Sends a command.
    pub fn send(&self, command: Command) {
        self.commands.borrow_mut().push(command);
    }

    /// Sets something of the pane; `what` names it in words for the menu.
    pub fn set(&self, what: &'static str, change: impl Fn(&mut Pane) + Send + Sync + 'static) {
        self.send(Command::set(what, change));
    }

    /// Sets something of how panes are looked at, of all of them where they move together.
    pub fn set_look(&self, what: &'static str, change: impl Fn(&mut Pane) + Send + Sync + 'static) {
        self.send(Command::look(what, change));
    }

    /// Where a spot of this pane stands; asks for it.
    pub fn status<A: Ask>(&self, spot: impl Into<Spot>, ask: &A) -> Status<A::Out> {
        self.jobs.need(spot.into().of_pane(self.at), ask)
    }

    /// The last product that a spot of this pane showed.
    pub fn previous<T: Send + Sync + 'static>(&self, spot: impl Into<Spot>) -> Option<Arc<T>> {
        self.jobs.previous(spot.into().of_pane(self.at))
    }

    /// How token `i` of the shown stack of layers stands out.
    pub fn standing(&self, i: usize, id: Option<u32>) -> Standing {
        if self.hovered.has(i) {
            Standing::Hovered
        } else if self.pane.aim.contains(i) {
            Standing::Selected
        } else if id.is_some() && self.hovered.id == id {
            Standing::Twin
        } else {
            Standing::Plain
        }
    }

    /// Tells every view that the pointer is on token `i`.
    pub fn hover_token(&self, i: usize, token: Option<&Token>) {
        *self.hover.borrow_mut() = Hover {
            tokens: Some((i, i)),
            bytes: token.and_then(Token::bytes).map(|b| (b.start, b.end)),
            id: token.and_then(|t| t.id),
            decoded: None,
        };
    }

    /// Selects `first..=last` as the held keys ask for.
    pub fn pick(&self, ui: &egui::Ui, first: usize, last: usize) {
        let pick = Pick::of(ui.input(|i| i.modifiers));
        self.send(Command::Select(self.pane.aim.picked(first, last, pick)));
    }

    /// The tokens to explain: the hovered one, else the selected ones, else the class token, else the last of `n`.
    pub fn explained(&self, n: usize) -> Vec<usize> {
        let hovered = self.hovered.token().filter(|t| *t < n).map(|t| vec![t]);
        let selected = || self.pane.targets().into_iter().filter(|t| *t < n).collect::<Vec<_>>();
        let mut out = hovered.unwrap_or_else(selected);
        if out.is_empty() {
            let class = self.ready_trace().and_then(|t| self.tower(&t)?.1.class_token).filter(|c| *c < n);
            out.extend(class.or(n.checked_sub(1)));
        }
        out
    }

    /// Whether the shown stack of layers is that of the text.
    pub fn shows_text(&self) -> bool {
        self.ready_trace().and_then(|t| self.tower(&t).map(|t| t.0)).is_none_or(|name| name == Tower::Text)
    }

    /// Whether the run was recorded elsewhere, so that there are no weights.
    pub fn recorded(&self) -> bool {
        matches!(self.pane.run.model, ModelSource::Recorded(_))
    }

    /// The picture of the run whose tokens are on screen: the one that was chosen, or the recording's own.
    pub fn picture(&self, ui: &mut egui::Ui, spot: &'static str, trace: &Trace) -> Option<Arc<Picture>> {
        match self.shown_image() {
            Some(source) if !self.recorded() => self.need(ui, spot, &PictureOf(source)),
            source => {
                let own = trace.picture.clone();
                own.or_else(|| source.and_then(|source| self.need(ui, spot, &PictureOf(source))))
            }
        }
    }

    /// Why the run says nothing of how probable its tokens were, if it does not: a recording may lack what it takes.
    pub fn lacks_surprisal(&self) -> Option<&'static str> {
        let lacks = self.recorded() && !self.ready_trace().is_some_and(|t| holds_predictions(&t));
        lacks.then_some("This recording has no weights and not the logits of every token; record with logits=\"all\"")
    }

    /// Why the model did not open, if it did not.
    pub fn model_failure(&self) -> Option<Arc<Error>> {
        if self.recorded() {
            return None;
        }
        match self.status("model", &ModelOf::of(&self.pane.run)) {
            Status::Failed(why) => Some(why),
            _ => None,
        }
    }

    /// What `ask` gives, or what there is of it so far, or what the spot showed before while it is under way or after
    /// it failed. Draws the waiting and failed faces itself and gives `None` where there is nothing to show.
    pub fn need<A: Ask>(&self, ui: &mut egui::Ui, spot: impl Into<Spot>, ask: &A) -> Option<Arc<A::Out>> {
        let spot = spot.into().of_pane(self.at);
        let status = self.jobs.need(spot, ask);
        self.fade(ui, spot, matches!(status, Status::Running(_, Some(_))).then(|| ask.run()));
        let progress = |ui: &mut egui::Ui, done| {
            ui.horizontal(|ui| {
                ui.add(egui::ProgressBar::new(done).desired_width(120.0).desired_height(3.0));
                ui.small("computing");
            });
        };
        // What hangs on a run is drawn on that run's own tokens and picture or not at all.
        let early = ask.run().is_some() && self.jobs.is_running(&TraceOf(self.pane.run.clone()));
        match status {
            Status::Ready(out) if !early || !self.outrun(spot) => Some(out),
            Status::Ready(_) => {
                self.waits.set(true);
                None
            }
            Status::Running(done, previous) => {
                let previous = previous.filter(|_| !self.outrun(spot));
                if previous.is_none() {
                    self.waits.set(true);
                    progress(ui, done);
                }
                previous
            }
            Status::Partly(done, so_far) => {
                progress(ui, done);
                Some(so_far)
            }
            Status::Failed(why) => {
                let before = self.jobs.previous(spot).filter(|_| !self.outrun(spot));
                self.failed_ui(ui, &why.to_string(), before.is_some());
                // What was on screen stays, below the message.
                before
            }
        }
    }

    /// Says what failed: in full where it has not been said in this frame, else that it is for the same reason. `old`
    /// says that what was there before stays on screen.
    fn failed_ui(&self, ui: &mut egui::Ui, why: &str, old: bool) {
        if self.figure || !self.has_told(why) {
            self.failure_ui(ui, why);
        } else if !self.excused.replace(true) {
            let model = self.model_failure().is_some_and(|m| why.contains(&m.to_string()));
            let what = if model { "The model did not open" } else { "This failed" };
            ui.weak(match (old, model) {
                (true, _) => format!("{what}; this is the picture from before."),
                (false, true) => format!("{what}; the reason stands beside its name."),
                (false, false) => format!("{what}; the reason was said already."),
            });
        }
    }

    /// Whether this frame has said already what failed.
    fn has_told(&self, why: &str) -> bool {
        self.failed.borrow().as_ref().is_some_and(|told| why.contains(told.as_str()) || told.contains(why))
    }

    /// Says what failed, unless this frame has said it already, with what one can do about it: try again, or go back
    /// to the run that is still on screen.
    pub fn failure_ui(&self, ui: &mut egui::Ui, why: &str) {
        let told = self.has_told(why);
        self.failed.borrow_mut().get_or_insert_with(|| why.into());
        if told && !self.figure {
            return;
        }
        ui.colored_label(self.theme.bad, why);
        if self.figure {
            return;
        }
        ui.horizontal_wrapped(|ui| {
            if ui.small_button("Retry").on_hover_text("Tries it again").clicked() {
                self.jobs.retry();
            }
            let Some(before) = self.shown_run().filter(|r| *r != self.pane.run) else { return };
            let what = match (&before.image, before.model != self.pane.run.model) {
                (_, true) => before.model.title(),
                (Some(picture), _) if before.image != self.pane.run.image => picture.title(),
                (None, _) if self.pane.run.image.is_some() => "no picture".into(),
                _ => "the prompt before".into(),
            };
            let back = ui.small_button(format!("Back to {what}"));
            if back.on_hover_text("What is still on screen").clicked() {
                self.set("way back", move |p| p.run = before.clone());
            }
        });
    }

    /// The run whose tokens are on screen; another than the pane's while that is under way or has failed.
    pub fn shown_run(&self) -> Option<RunKey> {
        self.jobs.run_of(Spot::from("trace").of_pane(self.at)).flatten()
    }

    /// The picture of the run whose tokens are on screen.
    pub fn shown_image(&self) -> Option<PictureSource> {
        self.shown_run().map_or_else(|| self.pane.run.image.clone(), |r| r.image)
    }

    /// Draws a part whose ids do not hang on what stands above it, and which stays as high as it was while something
    /// of it is under way, so that what stands below does not jump.
    pub fn steady<R>(&self, ui: &mut egui::Ui, name: &str, content: impl FnOnce(&mut egui::Ui) -> R) -> R {
        let slot = ui.scope_id().with(("height of", name));
        let around = self.waits.replace(false);
        let inner = fixed(ui, name, content);
        let (height, waits) = (inner.response.rect.height(), self.waits.get());
        let place = (ui.ctx().cumulative_pass_nr(), inner.response.rect, inner.response.id);
        ui.data_mut(|d| d.insert_temp(part_id(self.at, name), place));
        let before: f32 = ui.data(|d| d.get_temp(slot)).unwrap_or(0.0);
        if !waits {
            ui.data_mut(|d| d.insert_temp(slot, height));
        } else if before > height && !self.figure {
            ui.add_space(before - height);
        }
        self.waits.set(around || waits);
        inner.inner
    }

    /// What the user should know about what a spot shows, in small print.
    pub fn notes_ui(&self, ui: &mut egui::Ui, spot: impl Into<Spot>) {
        for note in self.jobs.notes(spot.into().of_pane(self.at)).iter() {
            ui.small(note);
        }
    }

    /// Fades what is drawn next while it is still that of another run than the one that is waited for, more the longer
    /// it lasts.
    fn fade(&self, ui: &mut egui::Ui, spot: Spot, waited: Option<Option<&RunKey>>) {
        let id = egui::Id::unique("stale since").with(spot);
        let stale = waited.is_some_and(|run| self.jobs.run_of(spot).flatten().as_ref() != run);
        if !stale || self.figure {
            ui.data_mut(|d| d.remove::<f64>(id));
            return;
        }
        let now = ui.input(|i| i.time);
        let since = ui.data_mut(|d| *d.get_temp_mut_or(id, now));
        // Most runs are there sooner than anybody would see it.
        let share = ((now - since - 0.4) / 0.6).clamp(0.0, 1.0) as f32;
        ui.set_opacity(ui.opacity().min(1.0 - 0.6 * share));
    }

    /// Whether what a spot of this pane shows is of another run than the one that views show.
    pub fn outrun_at(&self, spot: impl Into<Spot>) -> bool {
        self.outrun(spot.into().of_pane(self.at))
    }

    /// Whether what a spot shows is of another run than the one that views show.
    fn outrun(&self, spot: Spot) -> bool {
        let of = |spot: Spot| self.jobs.run_of(spot).flatten();
        matches!((of(spot), of(Spot::from("trace").of_pane(self.at))), (Some(old), Some(shown)) if old != shown)
    }

    /// What `ask` gives if it is there; asks for nothing.
    pub fn ready<A: Ask>(&self, ask: &A) -> Option<Arc<A::Out>> {
        self.jobs.ready(ask)
    }

    /// The model that is shown, if it is open.
    pub fn ready_model(&self) -> Option<Arc<OpenModel>> {
        self.ready(&ModelOf::of(&self.pane.run))
    }

    /// Draws content that may be longer than the view: scrolling in the window, at its full length in a figure.
    pub fn long(&self, ui: &mut egui::Ui, content: impl FnOnce(&mut egui::Ui)) {
        if self.figure {
            content(ui);
            return;
        }
        let mut area = egui::ScrollArea::vertical().auto_shrink(false);
        let shared = self.scrolls.and_then(|s| s.borrow().get(self.view.get()).copied());
        if let Some((y, _)) = shared.filter(|(_, pane)| *pane != self.at) {
            area = area.vertical_scroll_offset(y);
        }
        let out = area.show(ui, content);
        // A shorter pane ends sooner without the user's doing.
        let moved = ui.input(|i| i.smooth_scroll_delta.y != 0.0 || i.pointer.any_down());
        if let Some(scrolls) = self.scrolls.filter(|_| moved && ui.rect_contains_pointer(out.inner_rect)) {
            scrolls.borrow_mut().insert(self.view.get(), (out.state.clamped_offset().y, self.at));
        }
    }

    /// The text that is shown: as typed where that is ahead, and of a recorded run the recording's.
    pub fn text(&self, ui: &egui::Ui) -> Text {
        if let Some(typed) = &self.typed {
            return typed.clone();
        }
        let Some(trace) = self.ready_trace().filter(|_| self.recorded()) else { return self.pane.run.prompt.clone() };
        // Kept, because a long text is not copied in every frame.
        let id = egui::Id::unique("text of the recording").with(self.at);
        match ui.data(|d| d.get_temp::<(Arc<Trace>, Text)>(id)) {
            Some((of, text)) if Arc::ptr_eq(&of, &trace) => text,
            _ => {
                let text = Text::from(&trace.text);
                ui.data_mut(|d| d.insert_temp(id, (trace, text.clone())));
                text
            }
        }
    }

    /// The run that is shown.
    pub fn trace(&self, ui: &mut egui::Ui) -> Option<Arc<Trace>> {
        if self.pane.run.image.is_none() && self.sees_only() {
            let words =
                "This model reads pictures: drop one on the window, or choose Picture… in the panel of sources.";
            self.failed.borrow_mut().get_or_insert_with(|| words.into());
            ui.weak(words);
            return None;
        }
        self.need(ui, "trace", &TraceOf(self.pane.run.clone()))
    }

    /// The cells of a map on the host. `None` while they are copied from a device.
    pub fn cells(&self, map: &MapOf) -> Option<Arc<Array>> {
        match self.status("cells", &CellsOf(map.clone())) {
            Status::Ready(cells) => Some(Arc::clone(&cells)),
            _ => None,
        }
    }

    /// Whether the model reads pictures and no text.
    pub fn sees_only(&self) -> bool {
        self.ready_model().is_some_and(|m| m.processor.is_some() && m.tokenizer.is_none())
    }

    /// The run that is shown, if it is there.
    pub fn ready_trace(&self) -> Option<Arc<Trace>> {
        self.ready(&TraceOf(self.pane.run.clone()))
    }

    /// Whether the result of the chosen method of a kind is there already, as from a session that kept it.
    pub fn keeps(&self, kind: Kind) -> bool {
        let (pane, call) = (self.pane, self.pane.call(kind));
        match kind {
            Kind::Score => self.ready(&ScoreOf::of(pane, call)).is_some(),
            Kind::Reduce => self.ready(&ReducedOf::of(pane, call)).is_some(),
            Kind::Draft => self.ready(&DraftOf::of(pane, call)).is_some(),
            Kind::Reveal => self.ready(&TimelineOf::of(pane, call)).is_some(),
            kind if Kind::FOUND.contains(&kind) => self.ready(&FindingOf::of(pane, call)).is_some(),
            _ => false,
        }
    }

    /// The chosen method of a kind as a call, or where the run cannot serve it, the first that it can.
    pub fn call(&self, kind: Kind) -> Call {
        if self.recorded() && self.keeps(kind) {
            return self.pane.call(kind);
        }
        let chosen = catalog::info(kind, self.pane.call(kind).method);
        if chosen.is_ok_and(|i| self.lacks(i).is_none()) {
            return self.pane.call(kind);
        }
        // What needs least is the plainest; a floor says nothing.
        let mut others: Vec<&Info> = catalog::of(kind).filter(|i| !i.slow).collect();
        others.sort_by_key(|i| (i.role == Role::Floor, i.needs.len(), i.paper.is_some()));
        match others.into_iter().find(|i| self.lacks(i).is_none()) {
            Some(i) => Call::of(i),
            None => self.pane.call(kind),
        }
    }

    /// What the shown run lacks for a method, in words; `None` if it can run.
    pub fn lacks(&self, info: &Info) -> Option<String> {
        let trace = self.ready_trace()?;
        let (tower, _) = self.tower(&trace)?;
        let open = self.ready_model();
        if open.is_none() && !self.recorded() && self.model_failure().is_none() {
            // A run may be kept longer than its model, and where the panel of sources is closed nobody else asks.
            return None;
        }
        let drafts = info.needs.contains(&Need::DraftModel);
        let partner = if drafts { self.drafter(&self.pane.partner) } else { None };
        if drafts && partner.is_none() && open.is_some() {
            // Nobody knows yet.
            return None;
        }
        let subject = Subject {
            tower,
            model: open.as_ref().map(|m| m.model.as_ref()),
            tokenizer: open.as_ref().and_then(|m| m.tokenizer.as_ref()),
            partner: partner.as_ref().map(|m| m.model.as_ref()),
            partner_tokenizer: partner.as_ref().and_then(|m| m.tokenizer.as_ref()),
            aim: self.pane.contrast.as_ref().map_or_else(Aim::default, |c| Aim::rather_than(c.id)),
            ..Subject::new(&trace)
        };
        subject.lacks(info)
    }

    /// The model at `source`, if it is open; the samples are small enough to be opened at once.
    fn drafter(&self, source: &ModelSource) -> Option<Arc<OpenModel>> {
        let asked = ModelOf(source.clone(), self.pane.run.placement);
        match source {
            ModelSource::Sample(name) => match self.status(Spot::part("drafter", name), &asked) {
                Status::Ready(m) => Some(m),
                _ => None,
            },
            _ => self.ready(&asked),
        }
    }

    /// Why the model at `source` cannot draft for the shown one, in words; `None` if it can, or if nobody knows yet.
    pub fn cannot_draft(&self, source: &ModelSource) -> Option<String> {
        let (target, drafter) = (self.ready_model()?, self.drafter(source)?);
        let tokenizers = target.tokenizer.as_ref().zip(drafter.tokenizer.as_ref());
        cannot_draft(target.model.info(), drafter.model.info(), tokenizers)
    }

    /// The stack of layers that is shown.
    pub fn tower<'t>(&self, trace: &'t Trace) -> Option<(Tower, &'t TowerTrace)> {
        let name = self.pane.tower_of(trace);
        trace.towers.get(&name).map(|t| (name, t))
    }
}
