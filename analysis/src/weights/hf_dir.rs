//! Finds the files of a checkpoint: plain folder, Hugging Face cache entry, single file.

use super::read_json;
use crate::{Error, Result};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// The files of one checkpoint.
pub(super) struct Found {
    pub dir: PathBuf,
    pub config: PathBuf,
    pub shards: Vec<PathBuf>,
    pub index: Option<PathBuf>,
}

const INDEX: &str = "model.safetensors.index.json";

/// The GGUF file that `path` is, or that stands alone in a folder without `config.json`.
pub(super) fn gguf(path: &Path) -> Option<PathBuf> {
    let is = |p: &Path| p.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
    if is(path) && !path.is_dir() {
        return Some(path.to_path_buf());
    }
    let dir = snapshot(path).unwrap_or_else(|| path.to_path_buf());
    if dir.join("config.json").exists() {
        return None;
    }
    let mut found = std::fs::read_dir(dir).ok()?.flatten().map(|e| e.path()).filter(|p| is(p));
    match (found.next(), found.next()) {
        (Some(file), None) => Some(file),
        _ => None,
    }
}

pub(super) fn find(path: &Path) -> Result<Found> {
    let meta = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    if meta.is_file() {
        return match path.extension().and_then(|e| e.to_str()) {
            Some("safetensors") => {
                let dir = path.parent().unwrap_or(Path::new(".")).to_path_buf();
                let config = need_config(&dir)?;
                Ok(Found { dir, config, shards: vec![path.to_path_buf()], index: None })
            }
            Some("bin" | "pt" | "pth" | "ckpt" | "pkl") => Err(pickle(path)),
            _ => Err(Error::file(path, "not a model file", "choose a model folder, a .safetensors or a .gguf file")),
        };
    }
    if !meta.is_dir() {
        return Err(Error::file(path, "neither a file nor a folder", "choose a model folder"));
    }
    let dir = snapshot(path).unwrap_or_else(|| path.to_path_buf());
    let config = need_config(&dir)?;
    if dir.join(INDEX).exists() {
        let index = dir.join(INDEX);
        let shards = shard_files(&index)?.iter().map(|f| dir.join(f)).collect();
        return Ok(Found { dir, config, shards, index: Some(index) });
    }
    let single = dir.join("model.safetensors");
    if single.exists() || single.is_symlink() {
        return Ok(Found { dir, config, shards: vec![single], index: None });
    }
    for name in ["pytorch_model.bin", "model.bin", "pytorch_model.pt", "model.pt", "pytorch_model.bin.index.json"] {
        if dir.join(name).exists() {
            return Err(pickle(&dir.join(name)));
        }
    }
    Err(Error::file(&dir, "the folder has no model.safetensors", "choose the folder that holds the weights"))
}

/// The newest snapshot of a Hugging Face cache entry, if `path` is one.
fn snapshot(path: &Path) -> Option<PathBuf> {
    let snapshots = path.join("snapshots");
    if path.join("config.json").exists() || !snapshots.is_dir() {
        return None;
    }
    let main = std::fs::read_to_string(path.join("refs/main")).ok().map(|r| snapshots.join(r.trim()));
    main.filter(|p| p.starts_with(&snapshots) && p.is_dir()).or_else(|| {
        let mut all: Vec<_> = std::fs::read_dir(&snapshots).ok()?.flatten().map(|e| e.path()).collect();
        all.sort();
        all.pop()
    })
}

fn need_config(dir: &Path) -> Result<PathBuf> {
    let config = dir.join("config.json");
    if config.exists() {
        return Ok(config);
    }
    Err(Error::file(dir, "the folder has no config.json", "choose the folder that holds config.json and the weights"))
}

fn pickle(path: &Path) -> Error {
    Error::file(
        path,
        "this is a Python pickle, which can run code when opened, so it is never read",
        "convert it once: python -c \"from transformers import AutoModel as M; M.from_pretrained('DIR').save_pretrained('OUT')\"",
    )
}

/// Names of the shards in an index; each must be a plain file name, so that none points out of the folder.
fn shard_files(index: &Path) -> Result<BTreeSet<String>> {
    let bad = |what: String| Error::file(index, what, "download it again");
    let json = read_json(index)?;
    let map =
        json.get("weight_map").and_then(Value::as_object).ok_or_else(|| bad("the index has no weight_map".into()))?;
    let mut files = BTreeSet::new();
    for (tensor, file) in map {
        let file = file.as_str().ok_or_else(|| bad(format!("the shard of {tensor} is not a name")))?;
        let mut parts = Path::new(file).components();
        let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        if !plain || !file.ends_with(".safetensors") || file.contains('\\') {
            return Err(bad(format!(
                "the shard of {tensor} points outside the folder or is no safetensors file: {file:?}"
            )));
        }
        files.insert(file.to_string());
    }
    if files.is_empty() {
        return Err(bad("the index lists no shards".into()));
    }
    Ok(files)
}

/// Errors unless every tensor of the index stands in the shard that the index names.
pub(super) fn check_index(index: &Path, shards: &[PathBuf], holds: impl Fn(&str, &str) -> bool) -> Result<()> {
    debug_assert!(!shards.is_empty());
    let json = read_json(index)?;
    for (tensor, file) in json.get("weight_map").and_then(Value::as_object).into_iter().flatten() {
        let file = file.as_str().unwrap_or_default();
        if !holds(tensor, file) {
            return Err(Error::file(index, format!("tensor {tensor} is not in {file}"), "download the model again"));
        }
    }
    Ok(())
}
