//! The verb `methods`.

/// Arguments of `methods`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("methods is not in this build")
}
