//! The verb `trace`.

/// Arguments of `trace`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("trace is not in this build")
}
