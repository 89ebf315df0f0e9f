//! The verb `tokenize`.

/// Arguments of `tokenize`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("tokenize is not in this build")
}
