//! The verb `tokenize`: cut a text with one tokenizer, or compare several by what their cuts cost.

use super::common;
use anyhow::{Context as _, bail};
use std::path::PathBuf;
use tokenscope_analysis::Ctx;
use tokenscope_analysis::segment::{Metrics, by_tokenizer};

/// Arguments of `tokenize`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Built-in name (gpt2, r50k_base, p50k_base, cl100k_base, o200k_base), tokenizer.json, GGUF file or model folder;
    /// several are compared
    #[arg(long, required = true)]
    tokenizer: Vec<String>,
    /// The text
    #[arg(long)]
    text: Option<String>,
    /// File with the text (UTF-8)
    #[arg(long, conflicts_with = "text")]
    file: Option<PathBuf>,
    /// Print what the cuts cost, relative to the first tokenizer, instead of the tokens
    #[arg(long)]
    metrics: bool,
    /// Print JSON: ids, tokens, offsets_byte, special_mask; for several tokenizers or --metrics, the numbers of each
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
    if args.metrics || args.tokenizer.len() > 1 {
        return compare(&args.tokenizer, &text, args.json);
    }
    let tokenizer = common::tokenizer(&args.tokenizer[0])?;
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

/// Prints the numbers of each tokenizer's cut.
fn compare(names: &[String], text: &str, json: bool) -> anyhow::Result<()> {
    let row = |name: &String| {
        let cut = by_tokenizer(name, &common::tokenizer(name)?, text, &Ctx::default())?;
        Ok((cut.vocab, Metrics::of(&cut, text)))
    };
    let rows: Vec<_> = names.iter().map(row).collect::<anyhow::Result<_>>()?;
    let reference = rows[0].1;
    if json {
        let rows: Vec<_> = rows
            .iter()
            .zip(names)
            .map(|((vocab, m), name)| {
                serde_json::json!({
                    "tokenizer": name, "vocabulary": vocab, "tokens": m.tokens, "distinct": m.distinct,
                    "bytes_per_token": m.bytes_per_token, "tokens_per_word": m.fertility,
                    "entropy_bits": m.entropy_bits, "renyi_efficiency": m.renyi_efficiency,
                    "premium": m.premium(&reference),
                })
            })
            .collect();
        println!("{}", serde_json::json!({ "bytes": text.len(), "premium_relative_to": names[0], "rows": rows }));
        return Ok(());
    }
    let number = |v: Option<f64>| v.map_or_else(|| "-".to_string(), |v| format!("{v:.3}"));
    let width = names.iter().map(|n| n.chars().count()).max().unwrap_or(0);
    println!("{:width$}  tokens  bytes/token  tokens/word  entropy/bits  renyi-eff.  premium", "");
    for ((_, m), name) in rows.iter().zip(names) {
        println!(
            "{name:width$}  {:>6}  {:>11}  {:>11}  {:>12}  {:>10}  {:>7}",
            m.tokens,
            number(m.bytes_per_token),
            number(m.fertility),
            number(m.entropy_bits),
            number(m.renyi_efficiency),
            number(m.premium(&reference))
        );
    }
    Ok(())
}
