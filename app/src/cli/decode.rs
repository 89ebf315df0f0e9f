//! The verb `decode`: a text written by filling in masks.

use super::common;
use super::input::Input;
use crate::samples;
use crate::work::{Serves as _, TimelineOf};
use anyhow::bail;
use std::path::PathBuf;
use tokenscope_analysis::Ctx;
use tokenscope_analysis::method::Kind;

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
    let info = common::named_or_first(Kind::Reveal, args.policy.as_deref())?;
    if args.input.model.is_none() && !args.input.begun() {
        args.input.model = Some(samples::FILLER.into());
    }
    if let Some(n) = args.steps {
        if info.param("steps").is_none() {
            bail!("--steps {n}: {} has no schedule; it takes as many steps as it needs", info.id);
        }
        args.input.set.push(format!("steps={n}"));
    }
    args.input.spares(args.out.as_deref())?;
    args.input.explains_nothing("a decode")?;
    let doc = args.input.start()?;
    if args.json {
        return args.input.tell(doc.pane(), info, args.out.as_deref());
    }
    let asked = TimelineOf::of(doc.pane(), args.input.call(doc.pane(), info)?);
    let w = common::jobs(args.input.weights)?.get(&asked, &Ctx::default())?;
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
