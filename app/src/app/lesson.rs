//! A lesson in the window: its caption, the spotlight on what it is about, and the keys that step through it.

use super::App;
use super::places;
use crate::cx::part_place;
use crate::history::History;
use crate::jobs::Status;
use crate::keys::ModelSource;
use crate::lesson::{Checks, ChecksOf, Lesson, Place, What, is_lesson};
use crate::pictures::widgets::chip_words;
use crate::state::{Command, Doc};
use crate::views::PARTS;
use crate::work::TraceOf;
use egui::accesskit::{Live, NodeId, Role};
use egui::{Align, Key, Layout, Modifiers, Rect, RichText, Stroke, StrokeKind, Ui, Vec2};
use std::mem;
use std::sync::Arc;

/// A lesson under way.
pub(super) struct Player {
    lesson: Arc<Lesson>,
    /// The step, from 0.
    at: usize,
    /// The user's own model, on which it runs.
    own: Option<ModelSource>,
    /// Whether the tokens of the step are selected.
    aimed: bool,
    /// Why they cannot be.
    missing: Option<String>,
    /// How often the step was scrolled to.
    scrolled: u32,
    /// What is scrolled to in the coming frame.
    scroll: Option<NodeId>,
    /// What is pointed at, in points.
    spot: Option<Rect>,
    /// Where the caption is.
    caption: Rect,
    large: bool,
    /// Whether print stays as it is.
    fixed: bool,
    /// Size of the window in points at zoom 1 when the print was made larger.
    fitted: Vec2,
    before: Before,
}

/// The window as it was.
struct Before {
    doc: Doc,
    history: History,
    alone: Option<usize>,
    sources: bool,
    zoom: f32,
}

/// How often a place is scrolled to: what stands above it may still grow.
const SCROLLS: u32 = 40;

/// How much larger print is for a room, in a window of that size at zoom 1: as large as leaves a view its room.
pub(super) fn presenters_zoom(size: Vec2) -> f32 {
    (size.x / 1000.0).min(size.y / 625.0).clamp(1.0, 2.5)
}

impl Player {
    /// Zoom and panel of sources as the user had them.
    pub(super) fn own_settings(&self) -> (f32, bool) {
        (self.before.zoom, self.before.sources)
    }
}

impl App {
    /// Starts a lesson, on the user's own model where one is open.
    pub fn start_lesson(&mut self, ctx: &egui::Context, lesson: Arc<Lesson>) {
        self.take_typed(ctx);
        let own = match &self.doc.pane().run.model {
            ModelSource::Sample(_) => None,
            own => Some(own.clone()),
        };
        let (before, own) = match self.lesson.take() {
            // From one lesson to the next: what was before the first one comes back.
            Some(player) => (player.before, player.own),
            None => {
                places::listen(ctx);
                let history = mem::take(&mut self.history);
                let (alone, sources) = (self.alone, self.sources);
                (Before { doc: self.doc.clone(), history, alone, sources, zoom: ctx.zoom_factor() }, own)
            }
        };
        self.palette.open = false;
        self.lesson = Some(Player {
            lesson,
            at: 0,
            own,
            aimed: false,
            missing: None,
            scrolled: 0,
            scroll: None,
            spot: None,
            caption: Rect::NOTHING,
            large: true,
            fixed: false,
            fitted: Vec2::ZERO,
            before,
        });
        self.show_step(ctx, 0);
    }

    /// Starts the lesson that was dropped on the window in this frame, if one was.
    pub(super) fn dropped_lesson(&mut self, ctx: &egui::Context) {
        let files: Vec<_> = ctx.input(|i| i.raw.dropped_files.iter().map(|f| f.path().to_path_buf()).collect());
        if let Some(file) = files.iter().find(|f| is_lesson(f)) {
            match Lesson::open(file) {
                Ok(lesson) => self.start_lesson(ctx, Arc::new(lesson)),
                Err(why) => self.notices.say(why.to_string(), false, Some(file.clone())),
            }
        }
    }

    /// Keeps print as it is, in pictures whose pixels are larger already.
    pub(super) fn keep_print(&mut self, ctx: &egui::Context) {
        if let Some(player) = &mut self.lesson {
            player.fixed = true;
            ctx.set_zoom_factor(player.before.zoom);
        }
    }

    /// Ends the lesson. The document from before comes back in one step of undo, which leads to what the lesson showed.
    pub fn leave_lesson(&mut self, ctx: &egui::Context) {
        let Some(player) = self.lesson.take() else { return };
        self.panels.typed_at = None;
        let Before { doc, history, alone, sources, zoom } = player.before;
        (self.history, self.alone, self.sources) = (history, alone, sources);
        ctx.set_zoom_factor(zoom);
        places::leave(ctx);
        // Colours are a matter of taste and stay as they are now.
        let back = move |d: &mut Doc| {
            let look = d.look;
            d.clone_from(&doc);
            d.look = look;
        };
        self.apply(ctx, vec![Command::whole("lesson", back)]);
    }

    /// The user's document: during a lesson the one from before.
    pub(super) fn own_doc(&self) -> &Doc {
        self.own_look().0
    }

    /// The same, with the view that has the window, and whether the panel of sources is open.
    pub(super) fn own_look(&self) -> (&Doc, Option<usize>, bool) {
        match &self.lesson {
            Some(p) => (&p.before.doc, p.before.alone, p.before.sources),
            None => (&self.doc, self.alone, self.sources),
        }
    }

    /// The lesson under way, and its step from 0.
    pub fn lesson(&self) -> Option<(&Arc<Lesson>, usize)> {
        self.lesson.as_ref().map(|p| (&p.lesson, p.at))
    }

    /// What the lesson points at, in points, once it is there.
    pub fn spotlight(&self) -> Option<Rect> {
        self.lesson.as_ref()?.spot
    }

    /// Whether the lesson points at something that is not found or not scrolled to yet.
    pub(super) fn seeks(&self) -> bool {
        let seeks = |p: &Player| p.scroll.is_some() || (p.spot.is_none() && !p.lesson.steps[p.at].at.is_empty());
        self.lesson.as_ref().is_some_and(seeks)
    }

    /// Where the lesson's caption is, in points.
    pub fn caption(&self) -> Option<Rect> {
        self.lesson.as_ref().map(|p| p.caption)
    }

    /// Shows a step; one that is not there changes nothing.
    pub fn show_step(&mut self, ctx: &egui::Context, to: usize) {
        let Some(player) = &mut self.lesson else { return };
        let Some(step) = player.lesson.steps.get(to) else { return };
        (player.at, player.aimed, player.missing) = (to, !step.aims(), None);
        (player.scrolled, player.scroll, player.spot) = (0, None, None);
        let look = self.doc.look;
        self.doc = Doc::of(step.pane(player.own.as_ref()));
        self.doc.look = look;
        (self.alone, self.sources) = (step.view, step.sources);
        self.panels.typed_at = None;
        self.history.clear();
        self.follow(ctx);
        ctx.request_repaint();
    }

    /// Keys and clickers. What is typed into a text box stays there.
    pub(super) fn lesson_keys(&mut self, ctx: &egui::Context) {
        let Some(player) = &self.lesson else { return };
        if self.palette.open || egui::Popup::is_any_open(ctx) || ctx.text_edit_focused() {
            return;
        }
        let pressed = |keys: &[Key]| {
            let one = |k: &Key| ctx.input_mut(|i| i.consume_key(Modifiers::NONE, *k));
            // Each is taken, or the next of them would reach something else.
            keys.iter().map(one).filter(|taken| *taken).count() > 0
        };
        let (at, covered) = (player.at, self.covered());
        let (next, back) =
            (pressed(&[Key::ArrowRight, Key::PageDown, Key::Space]), pressed(&[Key::ArrowLeft, Key::PageUp]));
        if next {
            self.show_step(ctx, at + 1);
        } else if back {
            self.show_step(ctx, at.saturating_sub(1));
        } else if !covered && pressed(&[Key::Escape]) {
            self.leave_lesson(ctx);
        }
    }

    /// Whether a window lies over the views, which Esc closes first.
    fn covered(&self) -> bool {
        self.palette.open || self.session.form.open || self.saving.open || self.atlas.open || self.help.open
    }

    /// Keeps a lesson up with the run and the window, before anything is drawn.
    pub(super) fn begin_lesson(&mut self, ctx: &egui::Context) {
        places::watch(ctx);
        let Some(player) = &mut self.lesson else { return };
        ctx.enable_accesskit();
        if let Some(to) = player.scroll.take() {
            places::scroll_to(ctx, to);
        }
        let size = ctx.content_rect().size() * ctx.zoom_factor();
        if !player.fixed && (size - player.fitted).length() > 1.0 {
            player.fitted = size;
            let factor = if player.large { presenters_zoom(size / player.before.zoom) } else { 1.0 };
            ctx.set_zoom_factor(player.before.zoom * factor);
        }
        let step = &player.lesson.steps[player.at];
        let run = step.pane(player.own.as_ref()).run;
        let points = step.at.iter().any(|at| matches!(at.what, What::Token(_)));
        // A view may show a text without a run of the model, whose tokens are what a step names.
        if (points || !player.aimed)
            && self.doc.pane().run == run
            && let Status::Ready(trace) = self.jobs.need("run of a lesson", &TraceOf(run))
            && !mem::replace(&mut player.aimed, true)
        {
            player.missing = step.aim(self.doc.pane_mut(), &trace).err();
        }
    }

    /// The caption with its buttons, in a row of its own, so that it covers nothing.
    pub(super) fn lesson_ui(&mut self, ui: &mut Ui) {
        let Some(player) = &mut self.lesson else { return };
        let ctx = ui.ctx().clone();
        let (lesson, own) = (player.lesson.clone(), player.own.clone());
        let step = &lesson.steps[player.at];
        let checks = checks(&self.jobs, &lesson, player.at, own.as_ref());
        let (theme, n) = (&self.theme, lesson.steps.len());
        let mut asked = None;
        let frame = egui::Frame::side_top_panel(ui.style()).stroke(Stroke::new(1.0, theme.accent)).inner_margin(10.0);
        let panel = egui::Panel::bottom("lesson").frame(frame).show_separator_line(false).min_size(96.0);
        let shown = panel.show(ui, |ui| {
            ui.horizontal(|ui| {
                ui.label(RichText::new(&lesson.title).strong().color(theme.accent));
                let progress = ui.label(format!("{} of {n}", player.at + 1));
                let spoken = format!("step {} of {n}", player.at + 1);
                ui.ctx().accesskit_node_builder(progress.id, |node| node.set_value(spoken));
                ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                    if ui.button("Leave").on_hover_text("Esc; the window is then as it was").clicked() {
                        asked = Some(Asked::Leave);
                    }
                    let mut large = player.large;
                    let tip = "Print for a room; off is your own size";
                    if ui.toggle_value(&mut large, "Large print").on_hover_text(tip).changed() {
                        asked = Some(Asked::Large(large));
                    }
                    let last = player.at + 1 == n;
                    let next = if last { "Finish" } else { "Next" };
                    let tip =
                        if last { "The window is then as it was" } else { "Right, Page down, Space, or a clicker" };
                    if ui.button(RichText::new(next).strong()).on_hover_text(tip).clicked() {
                        asked = Some(if last { Asked::Leave } else { Asked::Go(player.at + 1) });
                    }
                    let back = ui.add_enabled(player.at > 0, egui::Button::new("Back"));
                    if back.on_hover_text("Left, Page up").clicked() {
                        asked = Some(Asked::Go(player.at - 1));
                    }
                });
            });
            let caption = ui.add(egui::Label::new(RichText::new(&step.says).size(CAPTION)).wrap());
            ui.ctx().accesskit_node_builder(caption.id, |node| {
                node.set_role(Role::Status);
                node.set_label(step.says.as_str());
                node.set_live(Live::Polite);
            });
            let sample = step.pane(None).run.model;
            for words in trouble(player.missing.as_deref(), checks, own.as_ref()) {
                ui.horizontal_wrapped(|ui| {
                    ui.colored_label(theme.bad, words);
                    if own.is_some() && ui.small_button(format!("Go on with {}", sample.title())).clicked() {
                        asked = Some(Asked::Sample);
                    }
                });
            }
        });
        player.caption = shown.response.rect;
        match asked {
            None => {}
            Some(Asked::Go(to)) => self.show_step(&ctx, to),
            Some(Asked::Leave) => self.leave_lesson(&ctx),
            Some(Asked::Large(large)) => (player.large, player.fitted) = (large, Vec2::ZERO),
            Some(Asked::Sample) => {
                player.own = None;
                let at = player.at;
                self.show_step(&ctx, at);
            }
        }
    }

    /// Finds what the step points at among the views, which lie in these places, and dims the rest.
    pub(super) fn spotlight_ui(&mut self, ctx: &egui::Context, views: &[(usize, Rect)]) {
        let covered = self.covered();
        let Some(player) = &mut self.lesson else { return };
        let step = &player.lesson.steps[player.at];
        let trace = self.jobs.ready(&TraceOf(self.doc.pane().run.clone()));
        let doc = &self.doc;
        let find = |at: &Place| {
            let of = |view: usize| views.iter().find(|v| v.0 == view).map(|v| v.1);
            // What is named without its view is rather in the one that is shown than around it.
            if let (What::Control(name, nth), None, Some(shown)) = (&at.what, at.view, step.view.and_then(of))
                && let Some(found) = places::find(ctx, name, *nth, shown)
            {
                return Some((found.rect, Some(found.id()), shown));
            }
            let view = match at.view {
                Some(view) => of(view)?,
                None => ctx.content_rect(),
            };
            let part = at.part.map(|part| part_place(ctx, doc.active(), PARTS[part]));
            let (room, id) = match part {
                None => (view, None),
                Some(part) => part.map(|(rect, id)| (rect, Some(id.accesskit_id())))?,
            };
            let named = match &at.what {
                What::Whole => return Some((room, id, view)),
                What::Token(token) => {
                    let trace = trace.as_ref()?;
                    let tokens = &trace.towers.get(&doc.pane().tower_of(trace))?.tokens;
                    let i = token.find(tokens).ok()?;
                    let name = format!("token {}", chip_words(&tokens[i].text));
                    let nth = tokens[..=i].iter().filter(|t| t.text == tokens[i].text).count();
                    places::find(ctx, &name, nth, room)?
                }
                What::Control(name, nth) => places::find(ctx, name, *nth, room)?,
            };
            Some((named.rect, Some(named.id()), view))
        };
        // All of them, or it would point at half of what is talked about.
        let all: Option<Vec<_>> = step.at.iter().map(find).collect();
        let both = |a: (Rect, Option<NodeId>, Rect), b: (Rect, Option<NodeId>, Rect)| {
            (a.0.union(b.0), a.1.or(b.1), a.2.union(b.2))
        };
        let found = all.and_then(|all| all.into_iter().reduce(both));
        player.spot = None;
        let Some((rect, id, view)) = found else { return };
        if let Some(id) = id.filter(|_| player.scrolled < SCROLLS && !in_sight(rect, view)) {
            player.scrolled += 1;
            player.scroll = Some(id);
            ctx.request_repaint();
        }
        let seen = rect.expand(4.0).intersect(view).intersect(ctx.content_rect());
        if !seen.is_positive() {
            return;
        }
        player.spot = Some(seen);
        if covered {
            return;
        }
        let mut room = ctx.content_rect();
        room.max.y = player.caption.top();
        let layer = egui::LayerId::new(egui::Order::Middle, egui::Id::unique("spotlight"));
        let painter = ctx.layer_painter(layer).with_clip_rect(room);
        for side in around(room, seen) {
            painter.rect_filled(side, 0.0, self.theme.dim);
        }
        painter.rect_stroke(seen, 6.0, Stroke::new(3.0, self.theme.accent), StrokeKind::Outside);
    }
}

/// Size of the letters of a caption, in points.
const CAPTION: f32 = 18.0;

enum Asked {
    Go(usize),
    Leave,
    Large(bool),
    Sample,
}

/// How the step comes out on the model at hand. What is part of the program is right on its own models.
fn checks(
    jobs: &crate::jobs::Jobs,
    lesson: &Arc<Lesson>,
    step: usize,
    own: Option<&ModelSource>,
) -> Option<Result<Arc<Checks>, String>> {
    if own.is_none() && lesson.is_own() {
        return None;
    }
    match jobs.need("checks of a lesson", &ChecksOf { lesson: lesson.clone(), step, own: own.cloned() }) {
        Status::Ready(checks) => Some(Ok(checks)),
        Status::Failed(why) => Some(Err(why.to_string())),
        _ => None,
    }
}

/// What the user should know before believing a caption, a line each.
fn trouble(
    missing: Option<&str>,
    checks: Option<Result<Arc<Checks>, String>>,
    own: Option<&ModelSource>,
) -> Vec<String> {
    let name = own.map(|o| format!("{}: ", o.title())).unwrap_or_default();
    let checks = match checks {
        Some(Err(why)) => return vec![format!("{name}{why}")],
        Some(Ok(checks)) => Some(checks),
        None => None,
    };
    let lacks = checks.as_ref().and_then(|c| c.lacks.as_deref()).or(missing);
    if let Some(why) = lacks {
        return vec![format!("{name}this step {why}")];
    }
    let failures = checks.iter().flat_map(|c| c.failures());
    let words: Vec<String> = failures.map(|c| c.words.clone()).collect();
    match words.len() {
        0 => Vec::new(),
        _ => vec![format!("{name}the caption does not hold here: {}", words.join("; "))],
    }
}

/// Whether enough of a place is seen in its view.
fn in_sight(place: Rect, view: Rect) -> bool {
    let seen = place.intersect(view);
    let enough = |seen: f32, whole: f32, room: f32| seen >= 0.9 * whole.min(room) - 1.0;
    enough(seen.height(), place.height(), view.height()) && enough(seen.width(), place.width(), view.width())
}

/// What lies around a hole: above, below, left, right.
fn around(room: Rect, hole: Rect) -> [Rect; 4] {
    let (top, bottom) = (hole.top().max(room.top()), hole.bottom().min(room.bottom()));
    [
        Rect::from_min_max(room.min, egui::pos2(room.right(), top)),
        Rect::from_min_max(egui::pos2(room.left(), bottom), room.max),
        Rect::from_min_max(egui::pos2(room.left(), top), egui::pos2(hole.left(), bottom)),
        Rect::from_min_max(egui::pos2(hole.right(), top), egui::pos2(room.right(), bottom)),
    ]
}

/// What stands in a menu for each lesson.
pub(super) fn menu_ui(ui: &mut Ui, lessons: &[Arc<Lesson>]) -> Option<Arc<Lesson>> {
    let mut chosen = None;
    for lesson in lessons {
        if ui.button(&lesson.title).on_hover_text(&lesson.about).clicked() {
            chosen = Some(lesson.clone());
            ui.close();
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use egui::{pos2, vec2};

    #[test]
    fn what_is_dimmed_is_all_but_the_hole() {
        let room = Rect::from_min_size(pos2(0.0, 0.0), vec2(100.0, 80.0));
        let hole = Rect::from_min_max(pos2(10.0, 20.0), pos2(60.0, 50.0));
        let sides = around(room, hole);
        let area: f32 = sides.iter().map(|r| r.area()).sum();
        assert_eq!(area, room.area() - hole.area());
        assert!(sides.iter().all(|s| !s.shrink(0.1).intersects(hole)));
        // A hole that reaches over the edge dims what is left.
        let over = Rect::from_min_max(pos2(10.0, 20.0), pos2(60.0, 90.0));
        let left: f32 = around(room, over).iter().filter(|r| r.is_positive()).map(|r| r.area()).sum();
        assert_eq!(left, room.area() - 50.0 * 60.0);
    }

    #[test]
    fn print_grows_with_the_window_and_never_shrinks() {
        assert_eq!(presenters_zoom(vec2(800.0, 600.0)), 1.0);
        assert!((presenters_zoom(vec2(1280.0, 800.0)) - 1.28).abs() < 1e-6);
        assert!((presenters_zoom(vec2(2560.0, 1440.0)) - 1440.0 / 625.0).abs() < 1e-6);
        assert_eq!(presenters_zoom(vec2(9999.0, 9999.0)), 2.5);
    }

    #[test]
    fn a_place_is_in_sight_if_most_of_it_or_of_the_view_is() {
        let view = Rect::from_min_size(pos2(0.0, 0.0), vec2(100.0, 100.0));
        let at = |y: f32, h: f32| Rect::from_min_size(pos2(10.0, y), vec2(50.0, h));
        assert!(in_sight(at(10.0, 20.0), view) && in_sight(at(-5.0, 400.0), view));
        assert!(!in_sight(at(95.0, 20.0), view) && !in_sight(at(60.0, 400.0), view));
    }
}
