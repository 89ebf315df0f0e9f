//! What a figure says about itself in its file: model, input, methods with their seeds, version, and the command that
//! makes it again.

use super::Page;
use crate::heatmap::Curve;
use crate::keys::ModelSource;
use crate::pane::Pane;
use crate::picture_source::PictureSource;
use crate::state::Doc;
use crate::views::{PARTS, View};
use std::path::Path;
use tokenscope_analysis::catalog;
use tokenscope_analysis::method::Kind;
use tokenscope_analysis::trace::Tower;

/// Names and what stands under them.
pub type About = Vec<(&'static str, String)>;

/// How the command line names the method of a kind.
fn option(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::Score => "--score",
        Kind::Reduce => "--reduce",
        Kind::Flow => "--flow",
        Kind::Draft => "--draft",
        Kind::Study => "--study",
        Kind::Cache => "--cache",
        Kind::Reveal => "--reveal",
        _ => return None,
    })
}

fn source(model: &ModelSource) -> String {
    match model {
        ModelSource::Sample(name) => (*name).into(),
        ModelSource::Path(p) | ModelSource::Recorded(p) => p.display().to_string(),
    }
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Kinds of methods that the figure shows; of findings there is one at a time.
fn shown<'a>(view: &'a View, pane: &'a Pane) -> impl Iterator<Item = &'a Kind> {
    view.shows.iter().filter(|k| !Kind::FOUND.contains(k) || **k == pane.shows.found)
}

/// What the figure of `view` says about itself.
pub fn of(view: &View, doc: &Doc, page: &Page, path: &Path) -> About {
    let pane = doc.pane();
    let mut out: About = vec![
        ("software", format!("Tokenscope {}", env!("CARGO_PKG_VERSION"))),
        ("view", view.title.into()),
        ("model", source(&pane.run.model)),
        ("prompt", pane.run.prompt.to_string()),
    ];
    out.extend(pane.run.image.as_ref().map(|i| ("picture", i.to_string())));
    for kind in shown(view, pane).filter(|k| option(**k).is_some()) {
        let call = pane.call(*kind);
        let Ok(info) = catalog::info(*kind, call.method) else { continue };
        let set: Vec<String> = info.params.iter().map(|p| format!("{}={}", p.key, call.params.value(p))).collect();
        out.push((kind.name(), format!("{} {}", info.id, set.join(" ")).trim().into()));
    }
    if let Some(contrast) = pane.contrast.as_ref().filter(|_| view.shows.contains(&Kind::Score)) {
        out.push(("explained", format!("rather than {:?}, token {}", contrast.text, contrast.id)));
    }
    out.push(("command", command(view, doc, page, path)));
    // What no option says is here: the whole document.
    out.extend(serde_json::to_string(doc).ok().map(|text| ("document", text)));
    out
}

fn command(view: &View, doc: &Doc, page: &Page, path: &Path) -> String {
    let pane = doc.pane();
    let mut words: Vec<String> = ["tokenscope", "render", "--view", view.id].map(Into::into).to_vec();
    let mut say = |name: &str, value: String| words.extend([name.to_string(), value]);
    say("--model", source(&pane.run.model));
    say("--prompt", pane.run.prompt.to_string());
    for image in pane.run.image.iter().flat_map(PictureSource::each) {
        say("--image", image.to_string());
    }
    match pane.tower {
        Some(Tower::Vision) => say("--tower", "vision".into()),
        Some(Tower::Text) => say("--tower", "text".into()),
        None => {}
    }
    if let [target] = pane.aim.tokens() {
        say("--target", target.to_string());
    }
    if let Some(contrast) = pane.contrast.as_ref().filter(|_| view.shows.contains(&Kind::Score)) {
        say("--rather-than", contrast.text.clone());
    }
    for kind in shown(view, pane) {
        let (Some(name), call) = (option(*kind), pane.call(*kind)) else { continue };
        let Ok(info) = catalog::info(*kind, call.method) else { continue };
        say(name, info.id.into());
        for p in info.params.iter().filter(|p| call.params.value(p) != p.default()) {
            say("--set", format!("{}={}", p.key, call.params.value(p)));
        }
    }
    match view.id {
        "importance" => {
            let open = PARTS.iter().zip(pane.shows.parts).filter(|p| p.1).map(|p| *p.0);
            say("--parts", open.collect::<Vec<_>>().join(","));
            let (layer, head) = pane.cursor.head;
            say("--head", layer.to_string());
            words.push(head.to_string());
            let curve = match pane.shows.scale.curve {
                Curve::Linear => "linear",
                Curve::Log => "log",
                Curve::Rank => "rank",
                Curve::Row => "row",
            };
            words.extend(["--scale".into(), curve.into()]);
            words.extend((!pane.shows.truth).then(|| "--no-truth".into()));
        }
        "flow" => say("--threshold", pane.shows.threshold.to_string()),
        "drafts" => {
            say("--draft-model", source(&pane.partner));
            say("--round", (pane.cursor.round + 1).to_string());
        }
        "segmentation" => {
            say("--rows", pane.shows.cuts.named.join(","));
            for file in &pane.shows.cuts.files {
                say("--tokenizer", file.display().to_string());
            }
            words.extend(pane.shows.cuts.surprisal.then(|| "--surprisal".into()));
        }
        _ => {}
    }
    words.extend(doc.look.dark.then(|| "--dark".into()));
    words.extend(["--colors".into(), doc.look.map.name().into()]);
    words.extend(["--size".into(), format!("{:.0}x{:.0}", page.size.x, page.size.y)]);
    if page.print {
        words.extend(["--width-mm".into(), format!("{:.0}", page.size.x / 96.0 * 25.4)]);
    }
    words.extend(["--pixels".into(), page.scale.to_string()]);
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    words.extend(["--out".into(), name]);
    words.iter().map(|w| quoted(w)).collect::<Vec<_>>().join(" ")
}
