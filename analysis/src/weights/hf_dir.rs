//! Finds the files of a checkpoint: plain folder, entry of the Hugging Face cache, single file. What indexes and names
//! say is compared with what lies there.

use super::{hub, parts, read_json, recognise};
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

/// Safetensors files that stand beside models and are none: adapters, and Mistral's own names for the same weights.
const OTHERS: [&str; 4] = ["adapter_model", "consolidated", "adapter", "training_args"];

/// The GGUF files, one after the other, that `path` is a part of, or that lie in a folder with nothing else to open.
///
/// Errors: several models in the folder, parts that are not there.
pub(crate) fn gguf(path: &Path) -> Result<Option<Vec<PathBuf>>> {
    if recognise::is_gguf(path) {
        return super::gguf::set(path).map(Some);
    }
    if !path.is_dir() {
        return Ok(None);
    }
    let dir = folder(path);
    let weights = recognise::with_end(&dir, ".safetensors")?;
    if dir.join("config.json").exists() && (!weights.is_empty() || dir.join(INDEX).exists()) {
        return Ok(None);
    }
    let all = recognise::with_end(&dir, ".gguf")?;
    // What sees pictures for the model is no model of its own.
    let is_projector = |p: &&PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().contains("mmproj"));
    let models: Vec<&PathBuf> = match all.iter().filter(|p| !is_projector(p)).collect::<Vec<_>>() {
        models if models.is_empty() => all.iter().collect(),
        models => models,
    };
    let Some(first) = models.first() else { return Ok(None) };
    let set = super::gguf::set(first)?;
    if models.iter().all(|m| set.contains(m)) {
        return Ok(Some(set));
    }
    let names: Vec<_> = models.iter().take(8).map(|m| m.file_name().unwrap_or_default().to_string_lossy()).collect();
    let what = format!("the folder holds {} GGUF files ({})", models.len(), names.join(", "));
    Err(Error::file(dir, what, "choose one of them"))
}

/// `path`, or the snapshot of the cache entry that it is.
fn folder(path: &Path) -> PathBuf {
    let whole = |dir: &Path| dir.join("config.json").exists() && holds_weights(dir);
    if path.join("config.json").exists() {
        return path.to_path_buf();
    }
    hub::snapshot(path, &whole).unwrap_or_else(|| path.to_path_buf())
}

fn holds_weights(dir: &Path) -> bool {
    [".safetensors", ".safetensors.index.json", ".gguf", ".bin"]
        .iter()
        .any(|end| recognise::with_end(dir, end).is_ok_and(|l| !l.is_empty()))
}

pub(super) fn find(path: &Path) -> Result<Found> {
    let meta = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    if meta.is_file() {
        return one(path);
    }
    if !meta.is_dir() {
        return Err(Error::file(path, "neither a file nor a folder", "choose a model folder"));
    }
    let dir = folder(path);
    let config = dir.join("config.json");
    if !config.exists() {
        return Err(recognise::folder(&dir));
    }
    let single = dir.join("model.safetensors");
    let is_there = |p: &Path| p.exists() || p.is_symlink();
    let indexes = recognise::with_end(&dir, ".safetensors.index.json")?;
    let index = indexes.iter().find(|i| i.file_name().is_some_and(|n| n == INDEX)).or(indexes.first());
    if let Some(index) = index {
        let shards: Vec<PathBuf> = shard_files(index)?.iter().map(|f| dir.join(f)).collect();
        let missing: Vec<&PathBuf> = shards.iter().filter(|s| !is_there(s)).collect();
        if missing.is_empty() {
            return Ok(Found { dir, config, shards, index: Some(index.clone()) });
        }
        // An index may have been left over from before the shards were joined.
        if !is_there(&single) {
            let names: Vec<_> =
                missing.iter().take(4).map(|m| m.file_name().unwrap_or_default().to_string_lossy()).collect();
            let more = if missing.len() > 4 { format!(" and {} more", missing.len() - 4) } else { String::new() };
            let what = format!("of the {} shards of the index {} are not there", shards.len(), missing.len());
            return Err(Error::file(index, what, format!("put {}{more} beside it", names.join(", "))));
        }
    }
    if is_there(&single) {
        return Ok(Found { dir, config, shards: vec![single], index: None });
    }
    let mut own: Vec<PathBuf> = recognise::with_end(&dir, ".safetensors")?;
    own.retain(|p| p.file_stem().is_some_and(|s| !OTHERS.iter().any(|o| s.to_string_lossy().starts_with(o))));
    let Some(first) = own.first() else { return Err(recognise::folder(&dir)) };
    let set = parts::set(first)?;
    if own.iter().all(|p| set.contains(p)) {
        return Ok(Found { dir, config, shards: set, index: None });
    }
    let names: Vec<_> = own.iter().take(8).map(|p| p.file_name().unwrap_or_default().to_string_lossy()).collect();
    let what = format!("the folder holds several safetensors files ({})", names.join(", "));
    Err(Error::file(dir, what, "choose one of them, or name it model.safetensors"))
}

/// A single file, with the set that it is a part of.
fn one(path: &Path) -> Result<Found> {
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf();
    // What a file is its content says before its name.
    let holds = || super::shard::Shard::open(path).is_ok_and(|s| s.safetensors().is_ok());
    match path.extension().and_then(|e| e.to_str()) {
        end if end == Some("safetensors") || holds() => {
            let config = dir.join("config.json");
            if !config.exists() {
                super::shard::Shard::open(path)?.safetensors()?;
                return Err(recognise::adapter(&dir).unwrap_or_else(|| {
                    let what = "beside the weights there is no config.json that says what model they are";
                    Error::file(path, what, "put the model's config.json beside them")
                }));
            }
            let shards = parts::set(path)?;
            Ok(Found { dir, config, shards, index: None })
        }
        Some("bin" | "pt" | "pth" | "ckpt" | "pkl") => Err(recognise::pickle(path)),
        Some("onnx") => {
            let remedy = "get the model's original weights as safetensors";
            Err(Error::file(path, "this is an ONNX model, which is not read", remedy))
        }
        _ => Err(recognise::strange(path).unwrap_or_else(|| {
            Error::file(path, "not a model file", "choose a model folder, a .safetensors or a .gguf file")
        })),
    }
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

/// The shard in which the index says that `tensor` stands.
pub(super) fn promised(index: &Path, tensor: &str) -> Option<String> {
    Some(read_json(index).ok()?["weight_map"][tensor].as_str()?.to_string())
}
