//! The verb `tokenize`: cut a text with one tokenizer.

use super::common;
use anyhow::{Context as _, bail};
use std::path::PathBuf;

/// Arguments of `tokenize`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Built-in name (gpt2, r50k_base, p50k_base, cl100k_base, o200k_base), tokenizer.json, or model folder
    #[arg(long)]
    tokenizer: String,
    /// The text
    #[arg(long)]
    text: Option<String>,
    /// File with the text (UTF-8)
    #[arg(long, conflicts_with = "text")]
    file: Option<PathBuf>,
    /// Print JSON: ids, tokens, offsets_byte, special_mask
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: Args) -> anyhow::Result<()> {
    let text = match (args.text, &args.file) {
        (Some(t), _) => t,
        (None, Some(f)) => {
            let bytes = std::fs::read(f).with_context(|| format!("cannot read {}", f.display()))?;
            String::from_utf8(bytes).with_context(|| format!("the file is not UTF-8 text: {}", f.display()))?
        }
        (None, None) => bail!("give --text or --file"),
    };
    let tokenizer = common::tokenizer(&args.tokenizer)?;
    let e = tokenizer.encode(&text, None, true)?;
    if args.json {
        let json = serde_json::json!({
            "ids": e.ids, "tokens": e.tokens, "offsets_byte": e.offsets_byte, "special_mask": e.special_mask,
        });
        println!("{json}");
        return Ok(());
    }
    println!("{} tokens for {} bytes ({})", e.ids.len(), text.len(), tokenizer.name());
    for (i, id) in e.ids.iter().enumerate() {
        let (a, b) = e.offsets_byte[i];
        println!("{id:>8}  {a:>6}..{b:<6}  {}", e.tokens[i].escape_debug());
    }
    Ok(())
}
