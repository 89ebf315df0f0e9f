//! Files that are dropped on the window, and what their being opened means.

use crate::keys::ModelSource;
use crate::picture_source::PictureSource;
use crate::state::Command;
use crate::theme::Theme;
use std::path::{Path, PathBuf};

/// What a file is by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Picture,
    Tokenizer,
    /// A file that describes the model in its folder.
    InModel,
    /// A model, or a recorded run.
    Model,
}

fn kind_of(path: &Path) -> Kind {
    let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    match name.rsplit_once('.').map_or("", |(_, end)| end) {
        "png" | "jpg" | "jpeg" | "webp" | "bmp" | "gif" => Kind::Picture,
        // The reader says what to do with these.
        "tif" | "tiff" | "avif" | "heic" | "heif" => Kind::Picture,
        // Every other JSON file that stands beside weights says something about them; none is a tokenizer.
        "json" if name.ends_with("config.json") || name.ends_with(".index.json") => Kind::InModel,
        "json" => Kind::Tokenizer,
        _ => Kind::Model,
    }
}

/// What opening `path` means: a picture, a tokenizer to compare with, else a model or a trace.
pub fn command_of(path: PathBuf) -> Command {
    match kind_of(&path) {
        Kind::Picture => Command::Image(Some(PictureSource::File(path))),
        Kind::Tokenizer => Command::AddTokenizer(path),
        Kind::InModel => {
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            Command::Model(ModelSource::of_path(folder.to_path_buf()))
        }
        Kind::Model => Command::Model(ModelSource::of_path(path)),
    }
}

/// Files dropped in this frame, by what they are.
pub(super) fn dropped(ctx: &egui::Context) -> Vec<Command> {
    ctx.input(|i| i.raw.dropped_files.iter().map(|f| command_of(f.path().to_path_buf())).collect())
}

/// What dropping the files that hang over the window would do, said across it.
pub(super) fn hovering_ui(ctx: &egui::Context, theme: &Theme) {
    // Some systems tell only on the drop which files they are; then there is nothing to say but that they are welcome.
    let over: Vec<Option<PathBuf>> = ctx.input(|i| i.raw.hovered_files.iter().map(|f| f.path.clone()).collect());
    if over.is_empty() {
        return;
    }
    let words: Vec<String> = over.iter().take(6).map(|p| p.as_deref().map_or_else(welcome, words_of)).collect();
    let id = egui::Id::unique("hovering files");
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

fn welcome() -> String {
    "Drop a model folder, a GGUF or safetensors file, a picture, a tokenizer.json or a recorded run".into()
}

fn words_of(path: &Path) -> String {
    let name = |p: &Path| p.file_name().map_or_else(|| p.display().to_string(), |n| n.to_string_lossy().into_owned());
    match kind_of(path) {
        Kind::Picture => format!("Drop to show the picture {}", name(path)),
        Kind::Tokenizer => format!("Drop to compare the tokenizer {}", name(path)),
        Kind::InModel => format!("Drop to open the model {}", path.parent().map(name).unwrap_or_default()),
        Kind::Model => format!("Drop to open {}", name(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_taken_for_what_its_name_says() {
        let opened = |p: &str| command_of(p.into());
        let model = |p: &str| Command::Model(ModelSource::Path(p.into()));
        assert!(matches!(opened("/a/b.JPG"), Command::Image(Some(_))));
        assert!(matches!(opened("/a/b.tiff"), Command::Image(Some(_))));
        assert_eq!(opened("/a/llama3.json"), Command::AddTokenizer("/a/llama3.json".into()));
        assert_eq!(opened("/a/tokenizer.json"), Command::AddTokenizer("/a/tokenizer.json".into()));
        for inside in ["config.json", "tokenizer_config.json", "model.safetensors.index.json"] {
            assert_eq!(opened(&format!("/a/gpt2/{inside}")), model("/a/gpt2"), "{inside}");
        }
        assert_eq!(opened("config.json"), model("."));
        for whole in ["/a/model", "/a/m.gguf", "/a/m.safetensors", "/a/note.txt"] {
            assert_eq!(opened(whole), model(whole));
        }
        assert_eq!(words_of(Path::new("/a/gpt2/config.json")), "Drop to open the model gpt2");
    }
}
