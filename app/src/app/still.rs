//! A picture of the whole window, without a window.

use super::App;
use crate::export::{Figure, settle};
use crate::fonts::SystemFonts;
use crate::state::Doc;
use crate::theme::Theme;
use tokenscope_analysis::weights::Hold;

/// Draws the whole window as it shows `doc`, `size` points large, for `scale` pixels a point. Weights are held so.
///
/// Errors: it was not finished within ten minutes.
pub fn draw_window(doc: Doc, size: egui::Vec2, scale: f32, hold: Hold) -> anyhow::Result<Figure> {
    let ctx = egui::Context::default();
    let background = Theme::new(doc.look.dark, doc.look.map).background;
    let mut app = App::with_doc(&ctx, doc);
    SystemFonts::at_once(&ctx);
    let jobs = app.jobs.clone();
    jobs.hold(hold);
    settle(ctx, size, scale, background, &|| jobs.running().0, |ui| app.frame(ui))
}
