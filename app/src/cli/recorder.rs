//! The verb `recorder`: the Python program that records runs of `transformers` models.

use super::terminal::data;

/// One file that needs nothing of ours.
const PROGRAM: &str = include_str!("../../../assets/tokenscope_record.py");

/// Arguments of `recorder`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
pub fn run(_: Args) -> anyhow::Result<()> {
    data(PROGRAM.trim_end())
}
