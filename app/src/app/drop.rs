//! Files that are dropped on the window, and what their being opened means.

use crate::lesson::is_lesson;
use crate::opening::{command_of, is_session, words_of};
use crate::state::Command;
use crate::theme::Theme;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Adds what files that were dropped in this frame ask for, and gives the last session among them. Lessons are
/// left out, which are no command.
pub(super) fn dropped(ctx: &egui::Context, commands: &mut Vec<Command>) -> Option<PathBuf> {
    let files: Vec<PathBuf> = ctx.input(|i| i.raw.dropped_files.iter().map(|f| f.path().to_path_buf()).collect());
    let (mut sessions, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|p| is_session(p));
    commands.extend(others.into_iter().filter(|p| !is_lesson(p)).map(command_of));
    sessions.pop()
}

/// What dropping the files that hang over the window would do, said across it.
pub(super) fn hovering_ui(ctx: &egui::Context, theme: &Theme) {
    // Some systems tell only on the drop which files they are; then there is nothing to say but that they are welcome.
    let over: Vec<Option<PathBuf>> = ctx.input(|i| i.raw.hovered_files.iter().map(|f| f.path.clone()).collect());
    if over.is_empty() {
        return;
    }
    let id = egui::Id::unique("hovering files");
    // What files are is read from them, once.
    type Said = (Vec<Option<PathBuf>>, Arc<Vec<String>>);
    let known = ctx.data(|d| d.get_temp::<Said>(id)).filter(|k| k.0 == over);
    let words = known.map(|k| k.1).unwrap_or_else(|| {
        let say = |p: &Option<PathBuf>| p.as_deref().map_or_else(welcome, words);
        let fresh: Arc<Vec<String>> = Arc::new(over.iter().take(6).map(say).collect());
        ctx.data_mut(|d| d.insert_temp(id, (over.clone(), fresh.clone())));
        fresh
    });
    let screen = ctx.content_rect();
    // Above tooltips, which stay where the pointer was before it brought the files.
    let layer = egui::LayerId::new(egui::Order::Debug, id);
    let painter = ctx.layer_painter(layer);
    painter.rect_filled(screen, 0.0, theme.veil);
    let edge = egui::Stroke::new(3.0, theme.accent);
    painter.rect_stroke(screen.shrink(6.0), 8.0, edge, egui::StrokeKind::Inside);
    let area = egui::Area::new(id).order(egui::Order::Debug).anchor(egui::Align2::CENTER_CENTER, egui::Vec2::ZERO);
    area.interactable(false).show(ctx, |ui| {
        let frame = egui::Frame::new().fill(theme.background).stroke(egui::Stroke::new(1.0, theme.line));
        frame.corner_radius(8.0).inner_margin(16.0).show(ui, |ui| {
            ui.set_max_width(screen.width() * 0.8);
            words.iter().for_each(|w| drop(ui.heading(w)));
            if over.len() > words.len() {
                ui.label(format!("and {} more", over.len() - words.len()));
            }
        });
    });
}

fn words(path: &Path) -> String {
    if is_lesson(path) {
        let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        return format!("Drop to start the lesson {name}");
    }
    words_of(path)
}

fn welcome() -> String {
    "Drop a model folder, a GGUF or safetensors file, a picture, a WAV or CSV file, a tokenizer.json, a recorded run, a session \
     or a lesson"
        .into()
}
