//! Models as folders in Hugging Face format, with their cards.

use crate::fit::Report;
use crate::params::Params;
use crate::quality::Line;
use crate::tower::preprocessor;
use crate::words::Words;
use anyhow::Context as _;
use candle_core::DType;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

/// What a card says besides the figures.
pub struct Card<'a> {
    /// Name of the model.
    pub name: &'a str,
    /// What it is, in a sentence or two.
    pub about: &'a str,
    /// What it learned from.
    pub data: &'a str,
    /// What it cannot do.
    pub weaknesses: &'a str,
    /// Stages of training, by name.
    pub stages: Vec<(String, Report)>,
}

/// Writes configuration, weights in f16, tokenizer and, for models that see, the processor's settings.
/// Variables that `keep` refuses were only there for training.
pub fn write(
    dir: &Path,
    config: &Map<String, Value>,
    params: &Params,
    words: &Words,
    sees: bool,
    keep: &dyn Fn(&str) -> bool,
) -> anyhow::Result<usize> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    put(dir, "config.json", &(serde_json::to_string_pretty(config)? + "\n"))?;
    put(dir, "tokenizer.json", &words.json()?)?;
    if sees {
        put(dir, "preprocessor_config.json", &(serde_json::to_string_pretty(&preprocessor())? + "\n"))?;
    }
    let (mut tensors, mut n) = (HashMap::new(), 0);
    for (key, var) in params.iter().filter(|(k, _)| keep(k)) {
        n += var.elem_count();
        tensors.insert(key.clone(), var.as_detached_tensor().to_dtype(DType::F16)?);
    }
    let file = dir.join("model.safetensors");
    candle_core::safetensors::save(&tensors, &file).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(n)
}

/// Writes the card.
pub fn card(dir: &Path, card: &Card, n_params: usize, figures: &[Line]) -> anyhow::Result<()> {
    let mut text = format!(
        "# {}\n\n{}\n\n{} parameters, stored as f16. Under the MIT licence, as the program; so is its data.\n\n",
        card.name, card.about, n_params
    );
    write!(text, "Data: {}\n\n## Training\n\n", card.data)?;
    text += "AdamW, rate rising over 3% of the steps and falling as a cosine; seed 1.\n\n";
    text += "| stage | steps | samples | last loss | seconds |\n|---|---|---|---|---|\n";
    for (name, r) in &card.stages {
        writeln!(text, "| {name} | {} | {} | {:.3} | {:.0} |", r.steps, r.samples, r.last_loss, r.seconds)?;
    }
    text += "\nSeconds on two shared CPU cores with other work going on; about twice what an idle core needs.\n";
    text += "\n## Quality\n\nOn seeds that training never used, by `cargo run --release -p tokenscope-train -- quality`.\n\n";
    text += "| | |\n|---|---|\n";
    for l in figures {
        writeln!(text, "| {} | {} |", l.what.replace('|', "/"), l.value.replace('|', "/").replace('\n', " "))?;
    }
    write!(text, "\n## Weaknesses\n\n{}\n", card.weaknesses)?;
    put(dir, "README.md", &text)
}

fn put(dir: &Path, file: &str, text: &str) -> anyhow::Result<()> {
    std::fs::write(dir.join(file), text).with_context(|| format!("cannot write {}", dir.join(file).display()))
}
