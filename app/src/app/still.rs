//! A picture of the whole window, without a window.

use super::App;
use super::lesson::presenters_zoom;
use crate::export::{Figure, settle};
use crate::fonts::SystemFonts;
use crate::lesson::Lesson;
use crate::state::Doc;
use crate::theme::Theme;
use std::cell::Cell;
use std::sync::Arc;
use tokenscope_analysis::weights::Hold;

/// Draws the whole window as it shows `doc`, `size` points large, for `scale` pixels a point. Weights are held so.
///
/// Errors: it was not finished within ten minutes.
pub fn draw_window(doc: Doc, size: egui::Vec2, scale: f32, hold: Hold) -> anyhow::Result<Figure> {
    draw(doc, size, scale, hold, |_, _| ())
}

/// Draws the window at step `step`, from 0, of a lesson, on the model of `doc` where that is the user's own; in a window
/// of `size` points, with print as large as a lesson makes it.
///
/// Errors: it was not finished within ten minutes.
pub fn draw_lesson(
    doc: Doc,
    lesson: &Arc<Lesson>,
    step: usize,
    size: egui::Vec2,
    scale: f32,
    hold: Hold,
) -> anyhow::Result<Figure> {
    // Without a system that zooms, a window with larger print is a smaller one of larger pixels.
    let zoom = presenters_zoom(size);
    draw(doc, size / zoom, scale * zoom, hold, |app, ctx| {
        app.start_lesson(ctx, lesson.clone());
        app.show_step(ctx, step);
        app.keep_print(ctx);
    })
}

/// Frames in which a lesson may look for what it points at.
const SEEK: u32 = 60;

fn draw(
    doc: Doc,
    size: egui::Vec2,
    scale: f32,
    hold: Hold,
    prepare: impl FnOnce(&mut App, &egui::Context),
) -> anyhow::Result<Figure> {
    let ctx = egui::Context::default();
    let background = Theme::new(doc.look.dark, doc.look.map).background;
    let mut app = App::with_doc(&ctx, doc);
    SystemFonts::at_once(&ctx);
    prepare(&mut app, &ctx);
    let jobs = app.jobs.clone();
    jobs.hold(hold);
    // What a lesson points at may have to be scrolled to; what is never there is not waited for long.
    let (seeks, mut left) = (Cell::new(0), SEEK);
    settle(ctx, size, scale, background, &|| jobs.running().0 + seeks.get(), |ui| {
        app.frame(ui);
        let waits = left > 0 && jobs.running().0 == 0 && app.seeks();
        left -= u32::from(waits);
        seeks.set(usize::from(waits));
    })
}
