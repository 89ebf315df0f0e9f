//! The verb `compare`: what one run says minus what another does.

use super::beside::{self, Shown};
use super::common;
use super::input::{Input, spares_all};
use crate::differs::differs;
use crate::export;
use crate::jobs::Jobs;
use crate::keys::ModelSource;
use crate::pane::{Compared, Fold, Pane};
use crate::state::Doc;
use crate::views;
use crate::work::{MinusOf, ModelOf, PairingsOf, Side, TraceOf};
use anyhow::bail;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::PathBuf;
use tokenscope_analysis::model::Writes;
use tokenscope_analysis::{Ctx, Result};

/// Arguments of `compare`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    shown: Shown,
    /// What the first run is compared with: options for what is another in it, in quotes, as
    /// --with '--prompt "A cat" --score attention_rollout'; may be given several times
    #[arg(long, value_name = "OPTIONS", required = true)]
    with: Vec<String>,
    /// What is compared, comma-separated [default: next,scores]
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(Compared::ALL.map(Compared::name)))]
    parts: Option<Vec<String>>,
    /// What becomes of tokens that another tokenizer has as one [default: sum, or that of the session]
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(Fold::ALL.map(Fold::name)))]
    fold: Option<String>,
    /// Model that drafts [default: sample-draft, or that of the session]
    #[arg(long)]
    draft_model: Option<OsString>,
    /// Layer and head of the attention map [default: 1 0, or those of the example]
    #[arg(long, value_names = ["LAYER", "HEAD"], num_args = 2)]
    head: Option<Vec<usize>>,
    /// File to write: .json with everything, .csv with the numbers of the first part, .svg, .png or .pdf with a figure
    /// of the first comparison; JSON on standard output without it
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(args: Args) -> anyhow::Result<()> {
    args.input.spares(args.out.as_deref())?;
    let mut doc = args.input.start()?;
    args.shown.choose(&mut doc, &args.input, None)?;
    let pane = doc.pane_mut();
    if let Some(model) = &args.draft_model {
        pane.partner = ModelSource::parse(model);
    }
    if let Some(head) = &args.head {
        pane.cursor.head = (head[0], head[1]);
    }
    if let Some(parts) = &args.parts {
        pane.shows.compared = beside::parts(parts);
    }
    if let Some(fold) = &args.fold {
        pane.shows.fold = beside::fold(fold);
    }
    let jobs = common::jobs(args.input.weights)?;
    args.input.hold_against(doc.pane_mut(), &jobs)?;
    args.input.sees(doc.pane(), &jobs)?;
    let before = doc.panes().len();
    beside::open(&mut doc, &args.with, &jobs)?;
    spares_all(&doc, args.out.as_deref())?;
    let end = args.out.as_ref().and_then(|p| p.extension()).map(|e| e.to_string_lossy().to_lowercase());
    match (&args.out, end.as_deref()) {
        (Some(out), Some("svg" | "png" | "csv" | "pdf")) => {
            let page = export::Page::screen(egui::vec2(900.0, 640.0), 2.0);
            export::save_page(views::find("compare")?, &doc, &jobs, &page, out)
        }
        (Some(out), Some(end)) if end != "json" => {
            bail!("cannot write .{end}; use .json, .csv, .svg, .png or .pdf: {}", out.display())
        }
        (out, _) => {
            let all: Vec<Value> =
                (before..doc.panes().len()).map(|i| compared(&doc, i, &jobs)).collect::<Result<_>>()?;
            common::write(out.as_deref(), &format!("{:#}\n", json!({ "comparisons": all })))
        }
    }
}

/// The pane that is worked in minus pane `i`. A part that one of them lacks says why; the rest is told all the same.
fn compared(doc: &Doc, i: usize, jobs: &Jobs) -> Result<Value> {
    let ctx = Ctx::default();
    let (a, b) = (doc.pane(), &doc.panes()[i]);
    // A run that fails is no difference.
    let pairings = jobs.get(&PairingsOf { first: a.run.clone(), second: b.run.clone() }, &ctx)?;
    let words = a.tower_of(&*jobs.get(&TraceOf(a.run.clone()), &ctx)?);
    let words = pairings.get(words).and_then(|p| p.words());
    let mut parts = serde_json::Map::new();
    for part in &a.shows.compared {
        let found = minus(*part, [a, b], jobs, &ctx).unwrap_or_else(|e| json!({ "why_not": e.to_string() }));
        parts.insert(part.name().into(), found);
    }
    let side = |p: &Pane| {
        let image = p.run.image.as_ref().map(|i| i.to_string());
        json!({ "model": p.run.model.title(), "prompt": &*p.run.prompt, "image": image })
    };
    let lines = differs(a, b);
    let lines: Vec<Value> = lines.iter().map(|[what, a, b]| json!({ "what": what, "first": a, "second": b })).collect();
    Ok(json!({
        "first": side(a), "second": side(b), "differs": lines, "fold": a.shows.fold.name(), "pairing": words,
        "parts": parts, "notes": ctx.notes(),
    }))
}

fn minus(part: Compared, panes: [&Pane; 2], jobs: &Jobs, ctx: &Ctx) -> Result<Value> {
    let fills = |p: &Pane| jobs.get(&ModelOf::of(&p.run), ctx).is_ok_and(|m| m.model.info().writes == Writes::Fills);
    let [a, b] = panes;
    let (call_a, call_b) = (|kind| a.call(kind), |kind| b.call(kind));
    let sides = [Side { pane: a, call: &call_a, fills: fills(a) }, Side { pane: b, call: &call_b, fills: fills(b) }];
    Ok(jobs.get(&MinusOf::new(part, sides, a.shows.fold)?, ctx)?.json())
}
