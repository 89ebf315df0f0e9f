//! The verb `doctor`.

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("doctor is not in this build")
}
