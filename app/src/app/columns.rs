//! Several panes side by side: the same views of each, laid out alike, scrolled together, with the pointer's token marked
//! in all of them.

use super::App;
use super::tiles::{Asked, Tiles};
use crate::cx::{Cx, Scrolls};
use crate::differs::differs;
use crate::jobs::{Jobs, Spot, Status};
use crate::pictures::widgets::{named, readable};
use crate::selection::Hover;
use crate::state::{Command, Doc};
use crate::work::{PairingsOf, TraceOf};
use egui::{Rect, Sense, Ui, pos2, vec2};
use egui_tiles::Tree;
use std::cell::{Cell, RefCell};

/// Width below which a pane is no use, in points: then there is one at a time.
const NARROWEST: f32 = 330.0;
/// Room below which four views would be four slits.
const SMALL: egui::Vec2 = vec2(560.0, 400.0);

/// What is kept of the panes between frames.
#[derive(Default)]
pub(super) struct Columns {
    /// The layouts of each pane: views side by side, and one at a time.
    trees: Vec<[Tree<usize>; 2]>,
    pub scrolls: Scrolls,
    /// The pane that the pointer was in.
    pub hovered_in: usize,
}

/// What came of a frame.
#[derive(Default)]
pub(super) struct Done {
    /// The pane that was pressed in.
    pub pressed: Option<usize>,
    /// What panes asked for that are not worked in.
    pub sent: Vec<(usize, Vec<Command>)>,
    /// What the pointer is on, and in which pane.
    pub hover: Option<(usize, Hover)>,
    /// The pane to close.
    pub closed: Option<usize>,
}

/// Whether `n` panes have room in `width` points.
pub(super) fn fit(n: usize, width: f32) -> bool {
    n > 1 && width / n as f32 >= NARROWEST
}

/// Whether a view alone has room, but not several.
pub(super) fn is_small(size: egui::Vec2) -> bool {
    size.x < SMALL.x || size.y < SMALL.y
}

/// The same layout under another name, so that two of them can be drawn in one frame.
fn copy(of: &Tree<usize>, id: egui::Id) -> Tree<usize> {
    of.root().map_or_else(|| Tree::empty(id), |root| Tree::new(id, root, of.tiles.clone()))
}

fn alike(a: &Tree<usize>, b: &Tree<usize>) -> bool {
    a.root() == b.root() && a.tiles == b.tiles
}

impl Columns {
    /// Draws all panes of the document; `base` are the layouts that they share, views side by side and one at a time.
    /// `cx` is of the pane that is worked in.
    pub fn ui(
        &mut self,
        ui: &mut Ui,
        cx: &Cx,
        base: [&mut Tree<usize>; 2],
        alone: Option<usize>,
        asked: &mut Asked,
    ) -> Done {
        let panes = cx.doc.panes();
        let (n, active) = (panes.len(), cx.doc.active());
        let seen: Vec<Hover> = (0..n).map(|i| self.seen(cx.doc, cx.jobs, cx.hovered, i)).collect();
        let lists: Vec<RefCell<Vec<Command>>> = (0..n).map(|_| RefCell::default()).collect();
        let hovers: Vec<RefCell<Hover>> = (0..n).map(|_| RefCell::default()).collect();
        let Self { trees, scrolls, .. } = self;
        let scrolls = (!cx.doc.look.apart).then_some(&*scrolls);
        let mut done = Done::default();
        let room = ui.max_rect();
        let each = room.width() / n as f32;
        let [grid, tabs] = base;
        trees.resize_with(n, || [0, 1].map(|_| Tree::empty(egui::Id::NULL)));
        let pressed = ui.input(|i| if i.pointer.any_pressed() { i.pointer.interact_pos() } else { None });
        for i in 0..n {
            let left = room.left() + each * i as f32;
            let rect = Rect::from_min_max(pos2(left, room.top()), pos2(left + each, room.bottom()));
            if pressed.is_some_and(|p| rect.contains(p)) && ui.rect_contains_pointer(rect) {
                done.pressed = Some(i);
            }
            let own = Cx {
                pane: &panes[i],
                at: i,
                typed: cx.typed.clone().filter(|_| i == active),
                commands: if i == active { cx.commands } else { &lists[i] },
                hovered: &seen[i],
                hover: &hovers[i],
                excused: Cell::new(false),
                waits: Cell::new(false),
                view: Cell::new(""),
                scrolls,
                ..*cx
            };
            // Whichever view is in front, a pane has its run: its tokens are what the others are held against.
            if own.pane.run.image.is_some() || !own.sees_only() {
                own.status("trace", &TraceOf(own.pane.run.clone()));
            }
            let id = egui::Id::unique("pane").with(i);
            ui.scope_builder(egui::UiBuilder::new().scope_id(id).max_rect(rect), |ui| {
                ui.set_clip_rect(rect.intersect(ui.clip_rect()));
                ui.painter().rect_filled(rect, 0.0, own.theme.background);
                ui.spacing_mut().item_spacing.y = 0.0;
                if i > 0 {
                    let stroke = egui::Stroke::new(1.0, own.theme.line);
                    ui.painter().vline(rect.left(), rect.y_range(), stroke);
                }
                if heading_ui(ui, &own, i == active) {
                    done.closed = Some(i);
                }
                let rest = Rect::from_min_max(pos2(rect.left() + 1.0, ui.cursor().top()), rect.max);
                let small = is_small(rest.size());
                ui.scope_builder(egui::UiBuilder::new().scope_id(id.with("views")).max_rect(rest), |ui| {
                    let mut tiles = Tiles { cx: own, asked: &mut *asked, alone };
                    if let Some(view) = alone {
                        tiles.view_ui(ui, view);
                        return;
                    }
                    let (which, shared) = if small { (1, &mut *tabs) } else { (0, &mut *grid) };
                    let tree = &mut trees[i][which];
                    let name = egui::Id::unique("views of").with((i, which));
                    if tree.id() != name || !alike(tree, shared) {
                        *tree = copy(shared, name);
                    }
                    tree.ui(&mut tiles, ui);
                    // What is done to one layout is done to all.
                    if !alike(tree, shared) {
                        *shared = copy(tree, shared.id());
                    }
                });
            });
        }
        let sent = lists.into_iter().map(RefCell::into_inner).enumerate();
        done.sent = sent.filter(|(_, s)| !s.is_empty()).collect();
        let hovers = hovers.into_iter().map(RefCell::into_inner).enumerate();
        done.hover = hovers.into_iter().find(|(_, h)| *h != Hover::default());
        done
    }

    /// What a pane marks as under the pointer, which is in this pane or in another: the tokens that stand for the same.
    pub fn seen(&self, doc: &Doc, jobs: &Jobs, hovered: &Hover, pane: usize) -> Hover {
        let from = self.hovered_in;
        let panes = doc.panes();
        let Some(origin) = panes.get(from).filter(|o| from != pane && o.run != panes[pane].run) else {
            return hovered.clone();
        };
        if origin.run.prompt == panes[pane].run.prompt && hovered.tokens.is_none() {
            return Hover { bytes: hovered.bytes, ..Hover::default() };
        }
        let Some((first, last)) = hovered.tokens else { return Hover::default() };
        let asked = PairingsOf { first: origin.run.clone(), second: panes[pane].run.clone() };
        let own = jobs.ready(&TraceOf(panes[pane].run.clone()));
        let (Some(trace), Some(own)) = (jobs.ready(&TraceOf(origin.run.clone())), own) else { return Hover::default() };
        let Status::Ready(pairings) = jobs.need(Spot::from("pairing").of_pane(pane), &asked) else {
            return Hover::default();
        };
        let tower = origin.tower_of(&trace);
        let same = tower == panes[pane].tower_of(&own);
        let met = pairings.get(tower).filter(|_| same).and_then(|p| p.second_of(first..last + 1));
        let Some(met) = met else { return Hover::default() };
        let tokens = own.towers.get(&tower).map_or(&[][..], |t| &t.tokens);
        let covered = tokens.get(met.clone()).unwrap_or_default();
        let bytes = covered.iter().filter_map(|t| t.bytes()).map(|b| (b.start, b.end));
        Hover {
            tokens: Some((met.start, met.end - 1)),
            bytes: bytes.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))),
            id: covered.first().filter(|_| covered.len() == 1).and_then(|t| t.id),
            decoded: None,
        }
    }
}

impl App {
    /// Opens, closes or changes panes.
    pub(super) fn change_panes(&mut self, ctx: &egui::Context, what: &'static str, change: fn(&mut Doc)) {
        self.take_typed(ctx);
        self.apply(ctx, vec![Command::whole(what, change)]);
    }

    /// Carries out what was done in panes that are not worked in, and goes to the one that was pressed in.
    pub(super) fn columns_done(
        &mut self,
        ctx: &egui::Context,
        pressed: Option<usize>,
        sent: Vec<(usize, Vec<Command>)>,
        closed: Option<usize>,
    ) {
        let go_to = |app: &mut Self, pane: usize| {
            app.take_typed(ctx);
            // Looking at another pane changes nothing that could be undone.
            app.doc.go_to(pane);
            app.follow(ctx);
        };
        if let Some(pane) = pressed.filter(|p| *p != self.doc.active()) {
            go_to(self, pane);
        }
        for (pane, commands) in sent {
            go_to(self, pane);
            self.apply(ctx, commands);
        }
        if let Some(pane) = closed {
            go_to(self, pane);
            self.change_panes(ctx, "pane", Doc::close);
        }
    }
}

/// Which pane it is and what is special about it. Gives whether it is to be closed.
fn heading_ui(ui: &mut Ui, cx: &Cx, active: bool) -> bool {
    let mut closed = false;
    let frame = egui::Frame::new().inner_margin(egui::Margin::symmetric(8, 2));
    let fill = if active { ui.visuals().selection.bg_fill } else { ui.visuals().widgets.inactive.weak_bg_fill };
    frame.fill(fill).show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.horizontal(|ui| {
            let words = words(cx.doc, cx.at);
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                let close = ui.small_button("×").on_hover_text(format!("Closes pane {}", cx.at + 1));
                named(&close, &format!("close pane {}", cx.at + 1));
                closed = close.clicked();
                ui.with_layout(egui::Layout::left_to_right(egui::Align::Center), |ui| {
                    let text = egui::RichText::new(&words);
                    let text = if active { text.strong() } else { text };
                    ui.add(egui::Label::new(text).truncate().sense(Sense::hover())).on_hover_text(&words);
                });
            });
        });
    });
    closed
}

/// A pane in words: its number, and what differs from the first one, or what the first one shows.
pub(super) fn words(doc: &Doc, i: usize) -> String {
    let panes = doc.panes();
    let lines = if i == 0 { Vec::new() } else { differs(&panes[0], &panes[i]) };
    // Where panes differ in whether they are reduced, the first says so, too.
    let speaks = panes.iter().any(|p| p.reduced != panes[0].reduced).then(|| format!(" · {}", panes[i].speaks()));
    let what = match &lines[..] {
        [] => {
            let text: String = panes[i].run.prompt.chars().take(24).collect();
            format!("{} · {}{}", panes[i].run.model.title(), readable(&text), speaks.unwrap_or_default())
        }
        lines => lines.iter().map(|[what, _, own]| format!("{what} {}", readable(own))).collect::<Vec<_>>().join(" · "),
    };
    format!("{}: {what}", i + 1)
}
