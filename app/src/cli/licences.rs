//! The verb `licences`: whose work is in the program, and on what terms.

use super::terminal::{data, line};
use crate::licences::licences;

/// Arguments of `licences`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON: crates, fonts and tables with indices of their texts, and the texts
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: Args) -> anyhow::Result<()> {
    let all = licences()?;
    match args.json {
        true => data(&serde_json::to_string(&all)?),
        false => line(format_args!("{}", all.text())),
    }
}
