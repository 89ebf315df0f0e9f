//! What a figure says about itself in its file: model, input, methods with their seeds, version, and the command that
//! makes it again.

use super::Page;
use super::command::{self, Again};
use crate::state::Doc;
use crate::views::View;
use std::path::Path;
use tokenscope_analysis::catalog;
use tokenscope_analysis::method::Kind;

/// Names and what stands under them.
pub type About = Vec<(&'static str, String)>;

/// The program and its version.
pub const SOFTWARE: &str = concat!("Tokenscope ", env!("TOKENSCOPE_VERSION"));

/// What the figure of `view` says about itself; without a view, that of the window.
pub fn about(view: Option<&View>, doc: &Doc, page: &Page, path: &Path) -> About {
    let pane = doc.pane();
    let mut out: About = vec![
        ("software", SOFTWARE.into()),
        ("view", view.map_or("Window", |v| v.title).into()),
        ("model", command::source(&pane.run.model)),
        ("prompt", pane.run.prompt.to_string()),
    ];
    out.extend(pane.run.image.as_ref().map(|i| ("picture", i.to_string())));
    for kind in command::shown(view, pane).into_iter().filter(|k| command::option(*k).is_some()) {
        let call = pane.call(kind);
        let Ok(info) = catalog::info(kind, call.method) else { continue };
        let set: Vec<String> = info.params.iter().map(|p| format!("{}={}", p.key, call.params.value(p))).collect();
        out.push((kind.name(), format!("{} {}", info.id, set.join(" ")).trim().into()));
    }
    if let Some(contrast) = pane.contrast.as_ref().filter(|_| command::shown(view, pane).contains(&Kind::Score)) {
        out.push(("explained", format!("rather than {:?}, token {}", contrast.text, contrast.id)));
    }
    if let Some(Again { words, doc }) = again(view, doc, page, path) {
        out.push(("command", words));
        // The same for programs: the document that the figure is of.
        out.extend(serde_json::to_string(&doc).ok().map(|text| ("document", text)));
    }
    out
}

/// The command that makes the figure of `view` again, or that of the window, under the name of `path`. `None` where a
/// file it needs has a name that is no Unicode.
pub fn command_of(view: Option<&View>, doc: &Doc, page: &Page, path: &Path) -> Option<String> {
    again(view, doc, page, path).map(|a| a.words)
}

fn again(view: Option<&View>, doc: &Doc, page: &Page, path: &Path) -> Option<Again> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    command::again(view, doc, page, &name)
}
