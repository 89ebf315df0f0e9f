//! The views: each reads shared state, asks for what it needs and draws; it writes only by sending commands.

mod drafts;
mod flow;
mod importance;
mod segmentation;
mod widgets;

use crate::jobs::Jobs;
use crate::request::{Product, Request, Status};
use crate::state::{Command, Doc};
use crate::theme::Theme;
use std::cell::{Cell, RefCell};

/// A view: what it is called, what to look at, and how it draws.
pub struct View {
    /// Title of its tab.
    pub title: &'static str,
    /// What it shows and how to use it.
    pub help: &'static str,
    /// Draws it into all of the `Ui`.
    pub ui: fn(&Cx, &mut egui::Ui),
}

/// The views in the order of the default layout.
pub static ALL: &[View] = &[segmentation::VIEW, importance::VIEW, flow::VIEW, drafts::VIEW];

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
                ui.add(egui::ProgressBar::new(done).desired_width(120.0).desired_height(3.0));
                previous
            }
            Status::Failed(why) => {
                ui.colored_label(self.theme.bad, why.as_ref());
                if ui.button("Retry").clicked() {
                    self.jobs.retry();
                }
                // What was on screen stays, below the message.
                self.jobs.previous(place)
            }
        }
    }
}
