//! The views: each reads shared state, asks for what it needs and draws; it writes only by sending commands.

mod drafts;
mod flow;
mod heat;
mod importance;
mod picture;
mod segmentation;
mod widgets;

pub use importance::PARTS;
pub use widgets::{named, number};

use crate::export::Table;
use crate::jobs::Jobs;
use crate::request::{Call, Product, Request, Status};
use crate::state::{Command, Doc};
use crate::theme::Theme;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use tokenscope_analysis::method::{Info, Kind, Need, Params};
use tokenscope_analysis::token::TokenKind;
use tokenscope_analysis::trace::{Tower, TowerTrace, Trace};

/// A view: what it is called, what to look at, how it draws, and the numbers behind it.
pub struct View {
    /// Name on the command line.
    pub id: &'static str,
    /// Title of its tab.
    pub title: &'static str,
    /// What it shows and how to use it.
    pub help: &'static str,
    /// Draws it into all of the `Ui`.
    pub ui: fn(&Cx, &mut egui::Ui),
    /// Whether a figure is as high as its content; otherwise the view fills what it is given.
    pub own_height: bool,
    /// Its numbers, once everything is there.
    pub table: fn(&Cx) -> Option<Table>,
}

/// The views in the order of the default layout.
pub static ALL: &[View] = &[segmentation::VIEW, importance::VIEW, flow::VIEW, drafts::VIEW];

/// The view of that name. The error lists the known ones.
pub fn find(id: &str) -> anyhow::Result<&'static View> {
    let known = || ALL.iter().map(|v| v.id).collect::<Vec<_>>().join(", ");
    ALL.iter().find(|v| v.id == id).ok_or_else(|| anyhow::anyhow!("no view named {id}; known: {}, window", known()))
}

/// The methods of a kind that run on a model.
pub fn methods(kind: Kind) -> Vec<&'static Info> {
    use tokenscope_analysis::{draft, flow, prune, score};
    match kind {
        Kind::Score => score::ALL.iter().map(|m| m.info()).collect(),
        Kind::Prune => prune::ALL.iter().map(|m| m.info()).collect(),
        Kind::Flow => flow::ALL.iter().map(|m| m.info()).collect(),
        Kind::Draft => draft::ALL.iter().map(|m| m.info()).collect(),
        Kind::Segment => Vec::new(),
    }
}

/// Everything a view may look at.
pub struct Cx<'a> {
    /// What is chosen.
    pub doc: &'a Doc,
    /// Colours and sizes.
    pub theme: &'a Theme,
    /// Where requests go.
    pub jobs: &'a Jobs,
    /// What should change, carried out after the frame.
    pub commands: &'a RefCell<Vec<Command>>,
    /// Token hovered in the last frame.
    pub hovered: Option<usize>,
    /// Token hovered in this frame.
    pub hover: &'a Cell<Option<usize>>,
    /// The first failure of this frame.
    pub failed: &'a RefCell<Option<String>>,
    /// Whether this becomes a figure: then there are captions instead of controls.
    pub figure: bool,
}

impl Cx<'_> {
    /// Sends a command.
    pub fn send(&self, command: Command) {
        self.commands.borrow_mut().push(command);
    }

    /// The product of `request`, or the one from before while it is under way or after it failed. Draws the
    /// waiting and failed faces itself and gives `None` where there is nothing to show.
    pub fn need(&self, ui: &mut egui::Ui, place: &'static str, request: Request) -> Option<Product> {
        match self.jobs.need(place, &request) {
            Status::Ready(p) => Some(p),
            Status::Running(done, previous) => {
                if previous.is_none() {
                    ui.horizontal(|ui| {
                        ui.add(egui::ProgressBar::new(done).desired_width(120.0).desired_height(3.0));
                        ui.small("computing");
                    });
                }
                previous
            }
            Status::Failed(why) => {
                self.failed.borrow_mut().get_or_insert_with(|| why.to_string());
                ui.horizontal_wrapped(|ui| {
                    ui.colored_label(self.theme.bad, why.as_ref());
                    if ui.small_button("Retry").clicked() {
                        self.jobs.retry();
                    }
                });
                // What was on screen stays, below the message.
                self.jobs.previous(place)
            }
        }
    }

    /// The product of `request` if it is there; asks for nothing.
    pub fn ready(&self, request: &Request) -> Option<Product> {
        self.jobs.ready(request)
    }

    /// Draws content that may be longer than the view: scrolling in the window, at its full length in a figure.
    pub fn long(&self, ui: &mut egui::Ui, content: impl FnOnce(&mut egui::Ui)) {
        if self.figure {
            content(ui);
        } else {
            egui::ScrollArea::vertical().auto_shrink(false).show(ui, content);
        }
    }

    /// The run that is shown.
    pub fn trace(&self, ui: &mut egui::Ui) -> Option<Arc<Trace>> {
        match self.need(ui, "trace", Request::Trace(self.doc.run())) {
            Some(Product::Trace(t)) => Some(t),
            _ => None,
        }
    }

    /// The run that is shown, if it is there.
    pub fn ready_trace(&self) -> Option<Arc<Trace>> {
        match self.ready(&Request::Trace(self.doc.run())) {
            Some(Product::Trace(t)) => Some(t),
            _ => None,
        }
    }

    /// The chosen method of a kind as a call, or where the run cannot serve it, the first that it can.
    pub fn call(&self, kind: Kind) -> Call {
        let all = methods(kind);
        let chosen = all.iter().find(|i| i.id == self.doc.method(kind).0);
        if chosen.is_none_or(|i| self.lacks(i).is_none()) {
            return self.doc.call(kind);
        }
        // Received attention is the plainest score and needs least.
        let mut others: Vec<&&Info> = all.iter().collect();
        others.sort_by_key(|i| i.id != "received_attention");
        match others.into_iter().find(|i| self.lacks(i).is_none()) {
            Some(i) => Call::new(i.id, &Params::new()),
            None => self.doc.call(kind),
        }
    }

    /// What the shown run lacks for a method, in words; `None` if it can run.
    pub fn lacks(&self, info: &Info) -> Option<String> {
        let trace = self.ready_trace()?;
        let (name, tower) = self.tower(&trace)?;
        let open = match self.ready(&Request::Model(self.doc.model.clone())) {
            Some(Product::Model(m)) => Some(m),
            _ => None,
        };
        let model = open.as_ref().map(|m| m.model.info());
        let lacking = info.needs.iter().find(|need| match need {
            Need::ImageTokens => !tower.tokens.iter().any(|t| t.kind == TokenKind::Image),
            Need::ClassToken => !trace.towers.values().any(|t| t.class_token.is_some()),
            Need::Gradients | Need::DraftModel => open.is_none(),
            Need::Logits => name != Tower::Text || model.is_none_or(|m| m.vocab == 0),
            Need::Tokenizer => open.as_ref().is_none_or(|m| m.tokenizer.is_none()),
            Need::Attention | Need::Values | Need::Residual => trace.arrays.is_empty(),
        })?;
        Some(format!("needs {}, which this run does not have", lacking.words()))
    }

    /// The stack of layers that is shown.
    pub fn tower<'t>(&self, trace: &'t Trace) -> Option<(Tower, &'t TowerTrace)> {
        let name = self.doc.tower.filter(|t| trace.towers.contains_key(t)).unwrap_or(trace.main_tower());
        trace.towers.get(&name).map(|t| (name, t))
    }
}
