//! The verb `draft`.

/// Arguments of `draft`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("draft is not in this build")
}
