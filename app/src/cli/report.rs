//! The verb `report`: what the views show on one page, with settings, commands and papers.

use super::common;
use super::figure::Figure;
use super::input::spares_all;
use super::terminal::remark;
use crate::report;
use crate::views::{self, View};
use anyhow::bail;
use std::path::PathBuf;
use tokenscope_analysis::save::save_bytes;

/// Arguments of `report`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    figure: Figure,
    /// Views to show, comma-separated [default: every view that has something to show]
    #[arg(long, value_delimiter = ',')]
    views: Option<Vec<String>>,
    /// File to write; .html or .pdf
    #[arg(long)]
    out: PathBuf,
    /// Write the papers behind the methods to this file, too, as BibTeX
    #[arg(long, value_name = "FILE")]
    bibtex: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(args: Args) -> anyhow::Result<()> {
    args.figure.input.spares(args.bibtex.as_deref())?;
    let views: Vec<&View> = match &args.views {
        Some(names) => names.iter().map(|n| views::find(n)).collect::<anyhow::Result<_>>()?,
        None => views::ALL.iter().collect(),
    };
    let mut doc = args.figure.start(&args.out)?;
    let jobs = common::jobs(args.figure.input.weights)?;
    args.figure.finish(&mut doc, None, &jobs, &args.out)?;
    spares_all(&doc, args.bibtex.as_deref())?;
    if args.bibtex.as_ref() == Some(&args.out) {
        bail!("--bibtex and --out are the same file: {}", args.out.display());
    }
    let report = report::save(&doc, &views, &jobs, &args.out)?;
    if let Some(path) = &args.bibtex {
        save_bytes(path, report.bibtex().as_bytes())?;
    }
    for (view, why) in report.left_out() {
        remark(format_args!("note: {view} is left out: {why}"));
    }
    Ok(())
}
