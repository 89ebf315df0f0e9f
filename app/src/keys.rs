//! What names a run, a method or a cut: the parts that asks and the document are made of.

use crate::picture_source::PictureSource;
use crate::samples;
use crate::text::Text;
use std::path::PathBuf;
use tokenscope_analysis::method::Params;
use tokenscope_analysis::trace::Tower;

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ModelSource {
    /// Part of the program, one of [`samples::NAMES`].
    Sample(&'static str),
    /// A Hugging Face folder or a GGUF file.
    Path(PathBuf),
    /// A trace file: a run that was recorded, without weights.
    Recorded(PathBuf),
}

impl ModelSource {
    /// The source that `text` names: a sample, a trace file of ours, or a model's path.
    pub fn parse(text: &str) -> Self {
        if let Some(name) = samples::find(text) {
            return ModelSource::Sample(name);
        }
        Self::of_path(text.into())
    }

    /// The source at `path`, told apart by what the file says about itself.
    pub fn of_path(path: PathBuf) -> Self {
        if tokenscope_analysis::trace::is_trace(&path) { Self::Recorded(path) } else { Self::Path(path) }
    }

    /// A short name for titles.
    pub fn title(&self) -> String {
        match self {
            ModelSource::Sample(name) => (*name).to_string(),
            ModelSource::Path(p) | ModelSource::Recorded(p) => {
                p.file_name().map_or_else(|| p.display().to_string(), |n| n.to_string_lossy().into_owned())
            }
        }
    }
}

/// A method and its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Call {
    /// Method id.
    pub method: String,
    /// Parameters.
    pub params: Params,
}

impl Call {
    /// A call of `method`.
    pub fn new(method: &str, params: &Params) -> Self {
        Self { method: method.into(), params: params.clone() }
    }
}

/// One run of one model on one input.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RunKey {
    /// The model.
    pub model: ModelSource,
    /// The prompt.
    pub prompt: Text,
    /// The picture, for models that read one.
    pub image: Option<PictureSource>,
}

/// One stack of layers of a run; `None` is the main one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    /// The run.
    pub run: RunKey,
    /// Which stack.
    pub tower: Option<Tower>,
}

/// A text and what cuts it: the rows of the segmentation view.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CutKey {
    /// The model whose tokenizer gives the first row, if it has one.
    pub model: ModelSource,
    /// The text.
    pub text: Text,
    /// Tokenizer files, a row each.
    pub files: Vec<PathBuf>,
    /// Built-in rows, by name.
    pub named: Vec<&'static str>,
}

/// Where a row of the segmentation view comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RowSource {
    /// The tokenizer of a model.
    Model(ModelSource),
    /// A tokenizer file.
    File(PathBuf),
    /// A built-in row.
    Named(&'static str),
}
