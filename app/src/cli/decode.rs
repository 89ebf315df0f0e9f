//! The verb `decode`: a text written by filling in masks.

use super::common;
use super::figures::{Input, result};
use crate::samples;
use crate::work::TimelineOf;
use anyhow::{Context as _, bail};
use std::path::PathBuf;
use tokenscope_analysis::method::Kind;
use tokenscope_analysis::{Ctx, catalog};

/// Arguments of `decode`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id of the policy that says which guesses stay [default: the window's first]
    #[arg(long)]
    policy: Option<String>,
    #[command(flatten)]
    input: Input,
    /// Steps for the whole text, for policies that have a schedule; short for --set steps=N
    #[arg(long)]
    steps: Option<u32>,
    /// Print JSON with every step; without it the text, and how many passes it took
    #[arg(long)]
    json: bool,
    /// File to write; standard output without it
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(mut args: Args) -> anyhow::Result<()> {
    let first = || catalog::first(Kind::Reveal).map(|i| i.id.to_string());
    let policy = args.policy.or_else(first).context("there is no policy")?;
    let info = catalog::info(Kind::Reveal, &policy)?;
    if args.input.model.is_none() && args.input.example.is_none() {
        args.input.model = Some(samples::FILLER.into());
    }
    if let Some(n) = args.steps {
        if info.param("steps").is_none() {
            bail!("--steps {n}: {} has no schedule; it takes as many steps as it needs", info.id);
        }
        args.input.set.push(format!("steps={n}"));
    }
    let doc = args.input.doc(&[(Kind::Reveal, info.id)])?;
    if args.json {
        let value = result(doc.pane(), info)?;
        return common::write(args.out.as_deref(), &serde_json::to_string_pretty(&value)?);
    }
    let asked = TimelineOf { run: doc.pane().run.clone(), call: doc.pane().call(Kind::Reveal) };
    let w = common::jobs()?.get(&asked, &Ctx::default())?;
    let t = &w.timeline;
    let words = format!(
        "{}\n\n{} tokens in {} passes, {:.2} a pass",
        w.whole.as_deref().unwrap_or_default(),
        t.revealed().count(),
        t.forwards,
        t.tokens_per_forward()
    );
    common::write(args.out.as_deref(), &words)
}
