//! What opening a file means, told by its name.

use crate::keys::ModelSource;
use crate::picture_source::PictureSource;
use crate::series_source::SeriesSource;
use crate::state::Command;
use std::path::{Path, PathBuf};

/// What a file is by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Session,
    Picture,
    Series,
    Tokenizer,
    /// A file that describes the model in its folder.
    InModel,
    /// A model, or a recorded run.
    Model,
}

fn kind_of(path: &Path) -> Kind {
    let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    match name.rsplit_once('.').map_or("", |(_, end)| end) {
        SESSION => Kind::Session,
        "png" | "jpg" | "jpeg" | "webp" | "bmp" | "gif" => Kind::Picture,
        // The reader says what to do with these.
        "tif" | "tiff" | "avif" | "heic" | "heif" => Kind::Picture,
        "wav" | "csv" | "tsv" => Kind::Series,
        // Every other JSON file that stands beside weights says something about them; none is a tokenizer.
        "json" if name.ends_with("config.json") || name.ends_with(".index.json") => Kind::InModel,
        "json" => Kind::Tokenizer,
        _ => Kind::Model,
    }
}

/// How the names of session files end.
pub const SESSION: &str = "tokenscope";

/// Whether a file is a session by its name.
pub fn is_session(path: &Path) -> bool {
    kind_of(path) == Kind::Session
}

/// What opening `path` means: a picture, a series, a tokenizer to compare with, else a model or a trace. A session is
/// more than a command and opened by the window.
pub fn command_of(path: PathBuf) -> Command {
    // Clips and drawn scenes have names of their own.
    if let Ok(named @ (PictureSource::Clip(..) | PictureSource::Scene(_))) = PictureSource::parse(path.clone().into()) {
        return Command::Image(Some(named));
    }
    match kind_of(&path) {
        Kind::Picture => Command::Image(Some(PictureSource::File(path))),
        Kind::Series => Command::Series(Some(SeriesSource::file(path))),
        Kind::Tokenizer => Command::AddTokenizer(path),
        Kind::InModel => {
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            Command::Model(ModelSource::of_path(folder.to_path_buf()))
        }
        Kind::Model | Kind::Session => Command::Model(ModelSource::of_path(path)),
    }
}

/// What dropping the file at `path` would do, in words.
pub fn words_of(path: &Path) -> String {
    let name = |p: &Path| p.file_name().map_or_else(|| p.display().to_string(), |n| n.to_string_lossy().into_owned());
    match kind_of(path) {
        Kind::Session => format!("Drop to open the session {}", name(path)),
        Kind::Picture => format!("Drop to show the picture {}", name(path)),
        Kind::Series => format!("Drop to cut the series {}", name(path)),
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
        let opened = |p: &str| format!("{:?}", command_of(p.into()));
        let model = |p: &str| format!("{:?}", Command::Model(ModelSource::Path(p.into())));
        let tokenizer = |p: &str| format!("{:?}", Command::AddTokenizer(p.into()));
        let series = |p: &str| format!("{:?}", Command::Series(Some(SeriesSource::file(p.into()))));
        assert!(opened("/a/b.JPG").starts_with("Image(Some("));
        assert!(opened("/a/b.tiff").starts_with("Image(Some("));
        assert_eq!(opened("/a/b.Wav"), series("/a/b.Wav"));
        assert_eq!(opened("/a/b.csv"), series("/a/b.csv"));
        assert_eq!(opened("/a/llama3.json"), tokenizer("/a/llama3.json"));
        assert_eq!(opened("/a/tokenizer.json"), tokenizer("/a/tokenizer.json"));
        for inside in ["config.json", "tokenizer_config.json", "model.safetensors.index.json"] {
            assert_eq!(opened(&format!("/a/gpt2/{inside}")), model("/a/gpt2"), "{inside}");
        }
        assert_eq!(opened("config.json"), model("."));
        for whole in ["/a/model", "/a/m.gguf", "/a/m.safetensors", "/a/note.txt"] {
            assert_eq!(opened(whole), model(whole));
        }
        assert!(is_session(Path::new("/a/b.Tokenscope")) && !is_session(Path::new("/a/tokenscope")));
        assert_eq!(words_of(Path::new("b.tokenscope")), "Drop to open the session b.tokenscope");
        assert_eq!(words_of(Path::new("/a/gpt2/config.json")), "Drop to open the model gpt2");
    }
}
