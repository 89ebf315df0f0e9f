//! The verb `info`: what a model folder holds and what a run would cost.

use super::terminal::{data, say};
use std::path::PathBuf;
use tokenscope_analysis::run::estimate;
use tokenscope_analysis::trace::CaptureSpec;

/// Arguments of `info`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model folder
    #[arg(long)]
    model: PathBuf,
    /// Tokens to estimate a run for
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    tokens: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: Args) -> anyhow::Result<()> {
    let crate::work::OpenModel { model, tokenizer, .. } = super::common::open(&args.model)?;
    let info = model.info();
    let cost = estimate(model.as_ref(), args.tokens as usize, &CaptureSpec::views());
    let (tokenizer, tokens) = (tokenizer.map(|t| t.vocab_size()), args.tokens);
    if args.json {
        let json = serde_json::json!({
            "name": info.name, "architecture": info.architecture, "n_params": info.n_params, "dtype": info.dtype,
            "fingerprint": info.fingerprint, "vocab": info.vocab, "writes": info.writes.name(),
            "max_tokens": info.max_tokens, "tokenizer_vocab": tokenizer,
            "towers": info.towers.iter().map(|(name, t)| serde_json::json!({
                "tower": name, "n_layers": t.n_layers, "width": t.width, "n_heads": t.n_heads,
                "n_kv_heads": t.n_kv_heads, "head_width": t.head_width, "mlp_width": t.mlp_width,
            })).collect::<Vec<_>>(),
            "estimate": { "tokens": tokens, "capture_bytes": cost.capture_bytes, "peak_bytes": cost.peak_bytes, "flops": cost.flops },
        });
        return data(&json.to_string());
    }
    say!("{} ({}), {} parameters in {}", info.name, info.architecture, info.n_params, info.dtype);
    for (name, t) in &info.towers {
        say!(
            "{name:?}: {} layers, width {}, {} heads ({} key-value), head width {}, MLP width {}",
            t.n_layers,
            t.width,
            t.n_heads,
            t.n_kv_heads,
            t.head_width,
            t.mlp_width
        );
    }
    match tokenizer {
        Some(n) => say!("tokenizer: {n} ids"),
        None => say!("tokenizer: none; give token ids instead of text"),
    }
    say!(
        "a run of {tokens} tokens keeps {:.1} MB, needs {:.1} MB on top at its worst and takes {:.2} GFLOP",
        cost.capture_bytes as f64 / 1e6,
        cost.peak_bytes as f64 / 1e6,
        cost.flops as f64 / 1e9
    );
    Ok(())
}
