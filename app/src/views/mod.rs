//! The views. A view reads shared state and draws; it writes only by sending commands, and asks for what it
//! needs with [`ViewCx::need`], every frame. Views never import each other.

use crate::command::Command;
use crate::request::{Request, Status};
use crate::selection::Item;
use crate::state::State;
use crate::theme::Theme;
use std::cell::RefCell;

/// What a view says about itself.
#[derive(Debug, Clone, Copy)]
pub struct ViewInfo {
    /// Name on the command line and in sessions.
    pub id: &'static str,
    /// Title of its tab.
    pub title: &'static str,
    /// What to look at and how to use it, for the help button.
    pub help: &'static str,
}

/// Numbers behind a view, for CSV and JSON.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// Column names, units included.
    pub columns: Vec<String>,
    /// Rows; each as long as `columns`.
    pub rows: Vec<Vec<serde_json::Value>>,
}

/// Everything a view may look at. All shared references: a view cannot change the program through it.
pub struct ViewCx<'a> {
    /// What is chosen.
    pub state: &'a State,
    /// Colours and sizes.
    pub theme: &'a Theme,
    /// Where requests go.
    pub needs: &'a dyn Needs,
    /// What the view wants changed, applied after the frame.
    pub commands: &'a RefCell<Vec<Command>>,
    /// Hovered item of this frame, shown in the next.
    pub hover: &'a RefCell<Option<Item>>,
}

/// Somebody who gets products: background jobs in the window, a plain call on the command line.
pub trait Needs {
    /// Asks for a product; asked every frame, computed once.
    fn need(&self, place: &'static str, request: Request) -> Status;
    /// The GPU state of the window, for painters; `None` headless.
    fn render_state(&self) -> Option<&egui_wgpu::RenderState> {
        None
    }
}

impl ViewCx<'_> {
    /// Asks for a product. `place` names the spot of the view, so that its previous picture stays until the
    /// new one is there.
    pub fn need(&self, place: &'static str, request: Request) -> Status {
        self.needs.need(place, request)
    }
    /// Sends a command.
    pub fn send(&self, command: Command) {
        self.commands.borrow_mut().push(command);
    }
    /// Says what the pointer is over.
    pub fn set_hover(&self, item: Item) {
        *self.hover.borrow_mut() = Some(item);
    }
}

/// A view.
pub trait View {
    /// What it says about itself.
    fn info(&self) -> &'static ViewInfo;
    /// Draws it into all of `ui`.
    fn ui(&mut self, cx: &ViewCx<'_>, ui: &mut egui::Ui);
    /// The numbers behind what is drawn; `None` while there are none.
    fn table(&self, cx: &ViewCx<'_>) -> Option<Table>;
}

/// Makes one of each view, in the order of the default layout.
pub fn all() -> Vec<Box<dyn View>> {
    Vec::new()
}
