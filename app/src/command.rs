//! Commands are values: everything that changes the state. Menus, palette, keyboard and tests read them here.

use crate::request::{ImageSource, ModelSource};
use crate::selection::Item;
use crate::state::ScaleSettings;
use std::path::PathBuf;
use tokenscope_analysis::method::Kind;
use tokenscope_analysis::trace::Tower;

/// A change of the state, or something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Open any path: model folder, GGUF, trace, tokenizer.json, image, session; decided by content.
    Open(PathBuf),
    /// Show a dialog to choose a file.
    OpenFileDialog,
    /// Show a dialog to choose a model folder.
    OpenFolderDialog,
    /// Use this model.
    SetModel(ModelSource),
    /// Use this draft model.
    SetDraftModel(Option<ModelSource>),
    /// Use this prompt.
    SetPrompt(String),
    /// Use this image.
    SetImage(Option<ImageSource>),
    /// Show the tokens of this tower.
    SetTower(Tower),
    /// Show this head.
    SetHead {
        /// Layer.
        layer: usize,
        /// Head.
        head: usize,
    },
    /// Explain this token; `None` means the last.
    SetTarget(Option<usize>),
    /// Choose a method of a kind; its parameters go back to their defaults.
    SetMethod(Kind, String),
    /// Set a parameter of the chosen method of a kind.
    SetParam(Kind, &'static str, serde_json::Value),
    /// Threshold on edges of the flow graph.
    SetFlowThreshold(f32),
    /// Show this round of the decode.
    SetRound(usize),
    /// Rows of the segmentation view.
    SetRows(Vec<String>),
    /// Settings of heatmaps.
    SetScale(ScaleSettings),
    /// Lock an item; `None` releases.
    Lock(Option<Item>),
    /// Back to the embedded sample.
    OpenSample(String),
    /// Light or dark colours.
    ToggleDark,
    /// Save a view (id) as PNG, SVG, CSV or JSON, by a dialog or to a given path.
    Export {
        /// View id; `None` means the focused one.
        view: Option<&'static str>,
        /// `png`, `svg`, `csv` or `json`.
        format: &'static str,
        /// Where to; `None` asks.
        path: Option<PathBuf>,
    },
    /// Copy text.
    Copy(String),
    /// Undo the last change.
    Undo,
    /// Redo it.
    Redo,
    /// Show or hide the command palette.
    TogglePalette,
    /// Stop every running job.
    CancelAll,
    /// Go back to the default layout.
    ResetLayout,
    /// Bring a view to the front.
    FocusView(&'static str),
    /// Show the help of a view.
    Help(&'static str),
    /// Close the window.
    Quit,
}
