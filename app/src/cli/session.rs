//! The verb `session`: what a session file holds, without a window.

use super::terminal::{json, remark, say};
use crate::keys::ModelSource;
use crate::pane::Pane;
use crate::session::{Session, Stamp, State};
use serde_json::{Value, json as value};
use std::path::PathBuf;
use tokenscope_analysis::method::Kind;

/// Arguments of `session`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The session, a file *.tokenscope
    file: PathBuf,
    /// Print JSON: the whole document, and what the session knows of its models and files
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: Args) -> anyhow::Result<()> {
    let session = Session::open(&args.file)?;
    if args.json {
        return json(&told(&session));
    }
    let Session { doc, window, models, inputs, recordings, results, lost, version, program } = &session;
    let program = if program.is_empty() { String::new() } else { format!(" of Tokenscope {program}") };
    say!("a session in format {version}{program}");
    for (i, pane) in doc.panes().iter().enumerate() {
        let mark = if i == doc.active() && doc.panes().len() > 1 { " (worked in)" } else { "" };
        say!("pane {}{mark}: {}", i + 1, line(pane));
    }
    for pin in &doc.pins {
        say!("pin {:?}: {}", pin.name, line(&pin.pane));
    }
    if let Some(view) = &window.alone {
        say!("the view {view} has the window to itself");
    }
    for m in models {
        say!("model {}: {} files, {} bytes, {}", m.name, m.files, m.bytes, state(m));
    }
    for i in inputs {
        let held = if i.content.is_some() { "held by the session" } else { "not in the session" };
        say!("{} {}: {} bytes, {held}", i.kind.noun(), i.path.display(), i.bytes);
    }
    for r in recordings {
        say!("recorded run of {}: {} bytes", r.run.model.title(), r.file.len());
    }
    for k in results {
        say!("kept result, {} bytes, by {}", k.size(), k.software);
    }
    lost.words().for_each(|w| remark(format_args!("lost: {w}")));
    Ok(())
}

/// Model, prompt and what goes with it, and the chosen methods.
fn line(pane: &Pane) -> String {
    let mut prompt: String = pane.run.prompt.chars().take(60).collect();
    if prompt.len() < pane.run.prompt.len() {
        prompt.push('…');
    }
    let mut out = format!("{} on {prompt:?}", pane.run.model.title());
    out.extend(pane.run.image.as_ref().map(|i| format!(", picture {}", i.title())));
    out.extend(pane.series.as_ref().map(|s| format!(", series {}", s.title())));
    let chosen = Kind::ALL.into_iter().filter_map(|k| Some(format!(", {} {}", k.name(), pane.choices.get(k)?.method)));
    out.extend(chosen);
    out
}

fn state(m: &Stamp) -> &'static str {
    match m.state() {
        State::Same => "the same as when it was saved",
        State::Other => "another one now",
        State::Gone => "not there",
    }
}

fn told(s: &Session) -> Value {
    let source = |m: &ModelSource| serde_json::to_value(m).unwrap_or_default();
    value!({
        "version": s.version,
        "program": s.program,
        "document": s.doc,
        "alone": s.window.alone,
        "models": s.models.iter().map(|m| value!({
            "source": source(&m.source), "name": m.name, "files": m.files, "bytes": m.bytes, "sha256": m.sha256,
            "covers": m.covers, "now": state(m),
        })).collect::<Vec<_>>(),
        "inputs": s.inputs.iter().map(|i| value!({
            "kind": i.kind.noun(), "path": i.path.display().to_string(), "bytes": i.bytes, "sha256": i.sha256,
            "held": i.content.is_some(),
        })).collect::<Vec<_>>(),
        "recordings": s.recordings.iter().map(|r| value!({
            "model": source(&r.run.model), "prompt": r.run.prompt, "bytes": r.file.len(),
        })).collect::<Vec<_>>(),
        "results": s.results.iter().map(|k| value!({
            "asked": k.asked, "bytes": k.size(), "software": k.software,
            "models": k.models.iter().map(|(m, hash)| value!({ "source": source(m), "sha256": hash })).collect::<Vec<_>>(),
            "inputs": k.inputs,
        })).collect::<Vec<_>>(),
        "lost": s.lost.words().collect::<Vec<_>>(),
    })
}
