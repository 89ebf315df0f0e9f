//! The verb `examples`: the gallery.

use super::terminal::{data, say};
use crate::examples::shown;
use crate::pane::Pane;
use crate::work::TruthOf;
use serde_json::{Value, json};

/// Arguments of `examples`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: Args) -> anyhow::Result<()> {
    if args.json {
        let all: Vec<Value> = shown()
            .map(|e| {
                let pane = e.pane(&Pane::default());
                json!({
                    "id": e.id, "title": e.title, "look": e.look, "model": e.model(), "prompt": e.prompt(),
                    "image": e.picture().map(|p| p.to_string()), "answer": TruthOf(pane.run).find().map(|t| t.answer),
                })
            })
            .collect();
        data(&serde_json::to_string_pretty(&all)?)?;
        return Ok(());
    }
    for e in shown() {
        say!("{:<16}{}: {}", e.id, e.title, e.look);
    }
    Ok(())
}
