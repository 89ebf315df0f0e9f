//! The views: each reads shared state, asks for what it needs and draws pictures; it writes only by sending commands.

mod compare;
mod drafts;
mod findings;
mod flow;
mod heat;
mod importance;
mod picker;
mod segmentation;

pub use importance::PARTS;
/// Draws a leaderboard alone, as a figure.
pub use importance::leaderboard::figure_ui as board_ui;
/// The reduction that carries out drawn schedules.
pub use importance::schedule::drawn_call;
/// Closes the detail that a view of a pane has open; false if there is none.
pub use segmentation::merges::close as close_detail;

use crate::cx::Cx;
use tokenscope_analysis::finding::Table;
use tokenscope_analysis::method::Kind;

/// A view: what it is called, what to look at, how it draws, and the numbers behind it.
pub struct View {
    /// Name on the command line.
    pub id: &'static str,
    /// Title of its tab.
    pub title: &'static str,
    /// Kinds of methods whose results it shows; it comes to the front when one of them is chosen.
    pub shows: &'static [Kind],
    /// What it shows and how to use it.
    pub help: &'static str,
    /// One line for who sees it the first time.
    pub hint: &'static str,
    /// Draws it into all of the `Ui`.
    pub ui: fn(&Cx, &mut egui::Ui),
    /// Whether a figure is as high as its content; otherwise the view fills what it is given.
    pub own_height: bool,
    /// Its numbers, once everything is there.
    pub table: fn(&Cx) -> Option<Table>,
}

impl View {
    /// Whether it is about two panes, whatever they show.
    pub fn compares(&self) -> bool {
        self.shows.is_empty()
    }
}

/// The views in the order of the default layout.
pub static ALL: &[View] =
    &[segmentation::VIEW, importance::VIEW, flow::VIEW, drafts::VIEW, findings::VIEW, compare::VIEW];

/// The view of that name. The error lists the known ones.
pub fn find(id: &str) -> anyhow::Result<&'static View> {
    let known = || ALL.iter().map(|v| v.id).collect::<Vec<_>>().join(", ");
    ALL.iter().find(|v| v.id == id).ok_or_else(|| anyhow::anyhow!("no view named {id}; known: {}, window", known()))
}
