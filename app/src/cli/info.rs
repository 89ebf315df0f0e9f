//! The verb `info`: what a model folder holds and what a run would cost.

use super::common;
use super::terminal::{data, json, say};
use crate::keys::ModelSource;
use std::ffi::OsString;
use std::path::Path;
use tokenscope_analysis::Ctx;
use tokenscope_analysis::model::LogitRows;
use tokenscope_analysis::run::estimate;
use tokenscope_analysis::trace::{CaptureSpec, Tower, read_trace};
use tokenscope_analysis::weights::Numbers;

/// Arguments of `info`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model folder, GGUF file, recorded trace, or the name of a sample model
    #[arg(long, visible_alias = "trace")]
    model: OsString,
    /// Tokens to estimate a run for
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    tokens: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    weights: common::Numbered,
}

/// Runs the verb.
pub fn run(args: Args) -> anyhow::Result<()> {
    let source = ModelSource::parse(&args.model);
    if let ModelSource::Recorded(path) = &source {
        return recorded(path, args.json);
    }
    let open = common::open_source(&source, args.weights)?;
    common::notes(open.notes());
    let crate::work::OpenModel { model, tokenizer, unread, weights, .. } = open;
    let info = model.info();
    let name = source.title();
    // A model of pictures gets one of the size that it was made for, and no tokens if it reads none.
    let tiles = info.towers.get(&Tower::Vision).map(|t| t.tiles(None)).unwrap_or_default();
    let tokens = if info.towers.contains_key(&Tower::Text) { args.tokens } else { 0 };
    let cost = estimate(model.as_ref(), tokens as usize, &tiles, &LogitRows::Last, &CaptureSpec::views());
    let picture: usize = tiles.iter().map(|t| t.rows()).sum();
    let tokenizer = tokenizer.map(|t| t.vocab_size());
    if args.json {
        let json = serde_json::json!({
            "name": name, "architecture": info.architecture, "n_params": info.n_params, "dtype": info.dtype,
            "weights": { "in_file": weights.in_file, "numbers": info.numbers.name(), "memory_bytes": weights.bytes },
            "fingerprint": info.fingerprint, "vocab": info.vocab, "writes": info.writes.name(),
            "max_tokens": info.max_tokens, "tokenizer_vocab": tokenizer,
            "towers": info.towers.iter().map(|(name, t)| serde_json::json!({
                "tower": name, "n_layers": t.n_layers, "width": t.width, "n_heads": t.n_heads,
                "n_kv_heads": t.n_kv_heads, "head_width": t.head_width, "mlp_width": t.mlp_width,
            })).collect::<Vec<_>>(),
            "estimate": { "tokens": tokens, "picture_rows": picture, "capture_bytes": cost.capture_bytes, "peak_bytes": cost.peak_bytes, "flops": cost.flops },
        });
        return data(&json.to_string());
    }
    say!("{name} ({}), {} parameters in {}", info.architecture, info.n_params, info.dtype);
    let held = weights.bytes as f64 / 1e6;
    match (weights.in_file, info.numbers) {
        (true, Numbers::F32) => say!("weights stay in their file as stored; {held:.1} MB of them are in memory"),
        (true, Numbers::Bf16) => {
            say!("weights stay in their file, rounded to bf16 where they are read; {held:.1} MB of them are in memory")
        }
        (false, Numbers::F32) => say!("weights are in memory as f32: {held:.1} MB"),
        (false, Numbers::Bf16) => say!("weights are in memory, matrices as bf16: {held:.1} MB"),
    }
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
        None => match unread {
            Some(why) => say!("tokenizer: none, because {why}; token ids can be given instead of text"),
            None => say!("tokenizer: none; token ids can be given instead of text"),
        },
    }
    let what = match (tokens, picture) {
        (n, 0) => format!("{n} tokens"),
        (0, rows) => format!("a picture of {rows} rows"),
        (n, rows) => format!("{n} tokens and a picture of one tile, {rows} rows,"),
    };
    say!(
        "a run of {what} keeps {:.1} MB, needs {:.1} MB on top at its worst and takes {:.2} GFLOP",
        cost.capture_bytes as f64 / 1e6,
        cost.peak_bytes as f64 / 1e6,
        cost.flops as f64 / 1e9
    );
    Ok(())
}

/// What a trace file holds.
fn recorded(path: &Path, as_json: bool) -> anyhow::Result<()> {
    let t = read_trace(path, &Ctx::default())?;
    if as_json {
        let value = serde_json::json!({
            "recorded": true, "name": t.model, "architecture": t.architecture, "fingerprint": t.fingerprint,
            "text": t.text, "continuation": t.continuation_text, "notes": t.notes,
            "towers": t.towers.iter().map(|(name, tower)| serde_json::json!({
                "tower": name, "n_layers": tower.n_layers, "width": tower.width, "tokens": tower.tokens.len(),
            })).collect::<Vec<_>>(),
            "arrays": t.arrays.len(), "bytes": t.size_bytes(),
        });
        return json(&value);
    }
    say!("a recorded run of {} ({})", t.model, t.architecture);
    for (name, tower) in &t.towers {
        say!("{name:?}: {} layers, width {}, {} tokens", tower.n_layers, tower.width, tower.tokens.len());
    }
    say!("{} arrays, {:.1} MB", t.arrays.len(), t.size_bytes() as f64 / 1e6);
    if !t.text.is_empty() {
        say!("text: {:?}", t.text);
    }
    if !t.continuation_text.is_empty() {
        say!("continued: {:?}", t.continuation_text);
    }
    for n in &t.notes {
        say!("note: {n}");
    }
    Ok(())
}
