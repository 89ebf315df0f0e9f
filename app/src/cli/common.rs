//! What several verbs share: opening a model with its tokenizer, writing results.

use anyhow::{Context as _, bail};
use std::path::Path;
use tokenscope_analysis::model::Model;
use tokenscope_analysis::tokenize::Tokenizer;

/// Opens the model at `path` on the CPU and its tokenizer, where there is one.
pub fn open(path: &Path) -> anyhow::Result<(Box<dyn Model>, Option<Tokenizer>)> {
    let open = crate::work::open_path(path)?;
    Ok((open.model, open.tokenizer))
}

/// A tokenizer by name of a built-in vocabulary, by file or by folder.
pub fn tokenizer(name: &str) -> anyhow::Result<Tokenizer> {
    if tokenscope_analysis::tokenize::TIKTOKEN_NAMES.contains(&name) {
        return Ok(Tokenizer::named(name)?);
    }
    if !Path::new(name).exists() {
        let known = tokenscope_analysis::tokenize::TIKTOKEN_NAMES.join(", ");
        bail!("no tokenizer file or folder {name}; built in are {known}");
    }
    Ok(Tokenizer::load(Path::new(name))?)
}

/// Writes text to `path`, or to standard output without one.
pub fn write(path: Option<&Path>, text: &str) -> anyhow::Result<()> {
    match path {
        Some(p) => std::fs::write(p, text).with_context(|| format!("cannot write {}", p.display())),
        None => {
            println!("{text}");
            Ok(())
        }
    }
}
