//! The verb `flow`.

/// Arguments of `flow`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("flow is not in this build")
}
