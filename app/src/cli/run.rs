//! The verbs that run a method on a model and an input: `run`, `flow`.
//!
//! They build the document that the window would have and ask for the same products.

use super::beside;
use super::common;
use super::gather::Beside;
use super::input::Input;
use crate::keys::ModelSource;
use anyhow::bail;
use std::ffi::OsString;
use std::path::PathBuf;
use tokenscope_analysis::catalog;
use tokenscope_analysis::method::Kind;

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Id of a method of any kind; `tokenscope methods` lists them
    #[arg(required_unless_present = "schedule")]
    method: Option<String>,
    /// Carry out this schedule instead, as of `render`: 2:288 3~100 inject@8 exit@20 e3~100 f:144
    #[arg(long, value_name = "TEXT", conflicts_with = "method")]
    schedule: Option<String>,
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    beside: Beside,
    /// Model that drafts, for draft methods that need one [default: sample-draft, or that of the session]
    #[arg(long)]
    draft_model: Option<OsString>,
    /// JSON file to write; standard output without it
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs the verb `run`.
pub fn run(args: RunArgs) -> anyhow::Result<()> {
    args.input.spares(args.out.as_deref())?;
    let drawn = args.schedule.as_deref().map(beside::drawn).transpose()?;
    let method = drawn.as_ref().map(|c| c.method).or(args.method.as_deref()).unwrap_or_default();
    let info = catalog::find(method)?.info();
    args.beside.fits(info.kind)?;
    let mut doc = args.input.start()?;
    if let Some(call) = drawn {
        doc.pane_mut().choose(call)?;
    }
    if let Some(model) = &args.draft_model {
        doc.pane_mut().partner = ModelSource::parse(model);
    }
    args.beside.put(doc.pane_mut())?;
    args.input.tell(doc.pane(), info, args.out.as_deref())
}

/// Arguments of `flow`.
#[derive(Debug, clap::Args)]
pub struct FlowArgs {
    /// Id of the flow method [default: the window's]
    #[arg(long)]
    method: Option<String>,
    #[command(flatten)]
    input: Input,
    /// Leave out edges below this share
    #[arg(long, default_value_t = 0.0)]
    threshold: f32,
    /// JSON file to write; standard output without it
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs the verb `flow`.
pub fn flow(args: FlowArgs) -> anyhow::Result<()> {
    if !(0.0..=1.0).contains(&args.threshold) {
        bail!("--threshold {}: a share from 0 to 1", args.threshold);
    }
    args.input.spares(args.out.as_deref())?;
    let info = common::named_or_first(Kind::Flow, args.method.as_deref())?;
    let mut doc = args.input.start()?;
    doc.pane_mut().shows.threshold = args.threshold;
    args.input.tell(doc.pane(), info, args.out.as_deref())
}
