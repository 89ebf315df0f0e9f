//! What names a run, a method or a cut: the parts that asks and the document are made of. Those of the document can
//! be kept in files; names that this program does not have are errors that name them.

use crate::picture_source::PictureSource;
use crate::samples;
use crate::text::Text;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::ffi::OsStr;
use std::path::PathBuf;
use tokenscope_analysis::catalog;
use tokenscope_analysis::method::{Info, Params};
use tokenscope_analysis::trace::Tower;
use tokenscope_analysis::weights::Placement;

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelSource {
    /// Part of the program, one of [`samples::NAMES`].
    Sample(&'static str),
    /// A Hugging Face folder or a GGUF file.
    Path(PathBuf),
    /// A trace file: a run that was recorded, without weights.
    Recorded(PathBuf),
}

/// A [`ModelSource`] as a file says it.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum SourceFile {
    Sample(String),
    Path(PathBuf),
    Recorded(PathBuf),
}

impl<'de> Deserialize<'de> for ModelSource {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(match SourceFile::deserialize(d)? {
            SourceFile::Sample(name) => {
                let known = || format!("no sample model named {name}; known: {}", samples::NAMES.join(", "));
                Self::Sample(samples::find(&name).ok_or_else(|| D::Error::custom(known()))?)
            }
            SourceFile::Path(p) => Self::Path(p),
            SourceFile::Recorded(p) => Self::Recorded(p),
        })
    }
}

impl ModelSource {
    /// The source that `text` names: a sample, a trace file of ours, or a model's path.
    pub fn parse(text: impl AsRef<OsStr>) -> Self {
        let text = text.as_ref();
        if let Some(name) = text.to_str().and_then(samples::find) {
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
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(into = "CallFile")]
pub struct Call {
    /// Method id, one of the catalog.
    pub method: &'static str,
    /// Parameters.
    pub params: Params,
}

impl Call {
    /// A call with the defaults of the method.
    pub fn of(method: &Info) -> Self {
        Self { method: method.id, params: Params::new() }
    }
}

/// A [`Call`] as a file says it.
#[derive(Serialize, Deserialize)]
struct CallFile {
    method: String,
    #[serde(default)]
    params: Map<String, Value>,
}

impl From<Call> for CallFile {
    fn from(call: Call) -> Self {
        Self { method: call.method.into(), params: call.params.to_json() }
    }
}

impl<'de> Deserialize<'de> for Call {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let file = CallFile::deserialize(d)?;
        let info = catalog::find(&file.method).map_err(D::Error::custom)?.info();
        Ok(Self { method: info.id, params: info.read(&file.params).map_err(D::Error::custom)? })
    }
}

/// One run of one model on one input.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RunKey {
    /// The model.
    pub model: ModelSource,
    /// The prompt.
    pub prompt: Text,
    /// The picture, for models that read one.
    #[serde(default)]
    pub image: Option<PictureSource>,
    /// How the model's numbers are computed.
    #[serde(default)]
    pub placement: Placement,
}

/// One stack of layers of a run; `None` is the main one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    /// How it is open, so that it is not opened twice.
    pub placement: Placement,
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
    /// The tokenizer of a model, which is open so.
    Model(ModelSource, Placement),
    /// A tokenizer file.
    File(PathBuf),
    /// A built-in row.
    Named(&'static str),
}
