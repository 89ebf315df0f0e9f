//! What a file or folder is that does not open as what it was taken for: intact files of other kinds are called by
//! their names, with what helps, and not damaged.

use crate::{Error, Result};
use serde_json::Value;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Bytes at the start of a file by which it is known.
const START: u64 = 1024;
/// The largest JSON file beside a model that is looked at here, in bytes.
const SMALL: u64 = 1 << 20;

/// The error that says what the file at `path` is, if it begins as something that nobody would open here.
pub(crate) fn strange(path: &Path) -> Option<Error> {
    let path = super::hub::real(path);
    let mut start = Vec::new();
    std::fs::File::open(&path).ok()?.take(START).read_to_end(&mut start).ok()?;
    let (what, remedy) = kind(&start, &path)?;
    Some(Error::file(path, what, remedy))
}

/// Whether a file is GGUF: by its name, or by how it begins.
pub(crate) fn is_gguf(path: &Path) -> bool {
    let named = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
    let begins = || {
        let mut magic = [0; 4];
        let read = std::fs::File::open(super::hub::real(path)).and_then(|mut f| f.read_exact(&mut magic));
        read.is_ok() && &magic == b"GGUF"
    };
    !path.is_dir() && (named || path.is_file() && begins())
}

/// What bytes at the start of a file say it is, and what helps.
fn kind(start: &[u8], path: &Path) -> Option<(String, String)> {
    let own = |what: &str, remedy: &str| Some((what.to_string(), remedy.to_string()));
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    let text = String::from_utf8_lossy(start);
    let text = text.trim_start();
    let lower = text.get(..200.min(text.floor_char_boundary(200))).unwrap_or(text).to_lowercase();
    if lower.starts_with("version https://git-lfs") || lower.starts_with("version https://hawser") {
        let size = text.lines().find_map(|l| l.strip_prefix("size ")).unwrap_or("?").trim();
        let what = format!("this is a Git LFS pointer to a file of {size} bytes, not the file itself");
        return Some((what, "run git lfs pull in the folder, or download the file from its page".into()));
    }
    if lower.starts_with("<!doctype html") || lower.starts_with("<html") || lower.starts_with("<head") {
        return own(
            "this is a web page, not the file itself",
            "fetch the file itself (on Hugging Face /resolve/ instead of /blob/ in its address; log in where it asks)",
        );
    }
    if lower.starts_with("<?xml") || lower.starts_with("<error>") {
        let what = "this is an XML document, as a server sends it for an error, not the file itself";
        return own(what, "open it with a text editor to see what the server said");
    }
    let refusals = [
        "entry not found",
        "repository not found",
        "invalid username or password",
        "invalid credentials",
        "access to model",
        "404: not found",
        "404 not found",
        "unauthorized",
        "forbidden",
        "not found",
    ];
    let refused = refusals.iter().any(|r| lower.starts_with(r));
    if refused || lower.starts_with("{\"error\"") || lower.starts_with("{ \"error\"") {
        let line: String = text.lines().next().unwrap_or_default().chars().take(120).collect();
        let what = format!("this is what a server answered instead of the file: {line:?}");
        return Some((what, "check address and access, then fetch the file".into()));
    }
    let ends = |end: &str| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(end));
    if start.starts_with(b"PK\x03\x04") {
        return if ends("zip") || ends("npz") || ends("mlpackage") {
            own("this is a ZIP archive", "unpack it and open the folder inside")
        } else {
            Some((PICKLE.into(), to_safetensors(&class_of(path.parent().unwrap_or(Path::new("."))))))
        };
    }
    if start.starts_with(b"\x80\x02") || start.starts_with(b"\x80\x03") || start.starts_with(b"\x80\x04") {
        return Some((PICKLE.into(), to_safetensors(&class_of(path.parent().unwrap_or(Path::new("."))))));
    }
    let archives: [(&[u8], &str); 5] = [
        (b"\x1f\x8b", "a gzip archive"),
        (b"BZh", "a bzip2 archive"),
        (b"\xfd7zXZ\0", "an xz archive"),
        (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
        (b"7z\xbc\xaf", "a 7z archive"),
    ];
    if let Some((_, name)) = archives.iter().find(|a| start.starts_with(a.0)) {
        return Some((format!("this is {name}"), "unpack it and open what is inside".into()));
    }
    if start.starts_with(b"GGUF") && !ends("gguf") {
        return own("this is a GGUF file under another name", "rename it so that it ends in .gguf");
    }
    let old: [&[u8]; 4] = [b"lmgg", b"fmgg", b"tjgg", b"algg"];
    if old.iter().any(|m| start.starts_with(m)) {
        return own("this is a GGML file of before GGUF", "convert the model to GGUF with llama.cpp");
    }
    if start.starts_with(b"\x89HDF\r\n") {
        let what = "this is an HDF5 file, as TensorFlow and Keras write weights";
        return Some((what.into(), from_other(path.parent().unwrap_or(Path::new(".")), "from_tf=True")));
    }
    if start.starts_with(b"\x93NUMPY") {
        return own("this is a NumPy array", "give weights as safetensors");
    }
    None
}

const PICKLE: &str = "this is a Python pickle, which can run code when opened, so it is never read";

/// How a pickle becomes safetensors, by the class that keeps the model's head.
fn to_safetensors(class: &str) -> String {
    format!(
        "convert it once: python -c \"from transformers import {class} as M; \
         M.from_pretrained('DIR').save_pretrained('OUT')\""
    )
}

/// The same for weights of another library, in the folder `dir`.
fn from_other(dir: &Path, argument: &str) -> String {
    let class = class_of(dir);
    format!(
        "convert it once: python -c \"from transformers import {class} as M; \
         M.from_pretrained('DIR', {argument}).save_pretrained('OUT')\""
    )
}

/// The class of transformers that loads everything that a checkpoint of this configuration holds.
fn class_of(dir: &Path) -> String {
    let config = small_json(&dir.join("config.json")).unwrap_or(Value::Null);
    let named = config["architectures"][0].as_str().filter(|c| c.chars().all(|c| c.is_ascii_alphanumeric()));
    // Transformers itself opens a model without its head where nothing names one; a guess must not drop it.
    let kind = config["model_type"].as_str().unwrap_or_default();
    let fills = ["bert", "electra", "mpnet", "deberta", "camembert", "xlm-roberta", "modernbert"];
    let guess = match kind {
        _ if fills.iter().any(|f| kind.contains(f)) => "AutoModelForMaskedLM",
        _ if ["vit", "deit", "beit", "swin"].iter().any(|f| kind.starts_with(f)) => "AutoModelForImageClassification",
        "clip" | "siglip" | "siglip2" | "dinov2" => "AutoModel",
        _ if config.get("vision_config").is_some() => "AutoModelForImageTextToText",
        _ => "AutoModelForCausalLM",
    };
    named.unwrap_or(guess).to_string()
}

/// A pickle, with the class that converts it.
pub(super) fn pickle(path: &Path) -> Error {
    // What is called a pickle may still be something else, such as a pointer.
    let class = class_of(path.parent().unwrap_or(Path::new(".")));
    let other = strange(path).filter(|e| !e.to_string().contains("pickle"));
    other.unwrap_or_else(|| Error::file(path, PICKLE, to_safetensors(&class)))
}

/// The error for a link to a file that is not there, as an unfinished download leaves one.
pub(super) fn dangling(path: &Path) -> Option<Error> {
    let to = std::fs::read_link(path).ok()?;
    let what = format!("this is a link to a file that is not there ({})", to.display());
    Some(Error::file(path, what, "finish the download, or copy the files with what their links lead to"))
}

/// What lies in a folder that holds no checkpoint to open.
pub(super) fn folder(dir: &Path) -> Error {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into())
        .collect();
    names.sort();
    let has = |name: &str| names.iter().any(|n| n == name);
    let first = |end: &str| names.iter().find(|n| n.to_lowercase().ends_with(end)).cloned();
    let error = |what: String, remedy: &str| Error::file(dir, what, remedy);
    if let Some(e) = adapter(dir) {
        return e;
    }
    if let Some(e) = super::hub::cache(dir) {
        return e;
    }
    if has("params.json") && !has("config.json") && first(".pth").is_some() {
        let what = "these are weights in Meta's own form (params.json, consolidated.*.pth), which are not read";
        return error(what.into(), "get the version of the model for transformers (config.json, model.safetensors)");
    }
    if has("refs") && (has("blobs") || has("snapshots")) {
        let what = "this entry of the Hugging Face cache holds no whole snapshot of the model";
        return error(what.into(), "finish its download");
    }
    for end in [".bin.index.json", ".bin", ".pt", ".pth", ".ckpt", ".pkl"] {
        // What a training run leaves beside its weights.
        let rest = ["training_args", "optimizer", "scheduler", "rng_state", "scaler"];
        let weights = |n: &&String| n.ends_with(end) && !rest.iter().any(|r| n.starts_with(r));
        if let Some(name) = names.iter().find(weights) {
            return pickle(&dir.join(name));
        }
    }
    if has("model_index.json") {
        let parts = "choose one of its parts that is a model, such as text_encoder";
        return error("this is a pipeline of the diffusers library".into(), parts);
    }
    if let Some(name) = first(".onnx").or_else(|| names.iter().find(|n| *n == "onnx").cloned()) {
        let what = format!("the folder holds an ONNX model ({name}), which is not read");
        return error(what, "get the model's original weights as safetensors");
    }
    for (end, kind, how) in
        [(".h5", "TensorFlow weights", "from_tf=True"), (".msgpack", "Flax weights", "from_flax=True")]
    {
        if let Some(name) = first(end) {
            return error(format!("the folder holds {kind} ({name}), which are not read"), &from_other(dir, how));
        }
    }
    for (end, kind) in [
        (".npz", "MLX or NumPy weights"),
        ("openvino_model.xml", "an OpenVINO model"),
        (".mlmodel", "a Core ML model"),
        (".mlpackage", "a Core ML model"),
        (".tflite", "a TensorFlow Lite model"),
        (".engine", "a TensorRT engine"),
        (".ot", "weights of rust-bert"),
        ("saved_model.pb", "a TensorFlow model"),
    ] {
        if let Some(name) = first(end) {
            let what = format!("the folder holds {kind} ({name}), which is not read");
            return error(what, "get the model's original weights as safetensors");
        }
    }
    let inner: Vec<&String> = names.iter().filter(|n| dir.join(n).join("config.json").exists()).take(8).collect();
    if !inner.is_empty() {
        let list = inner.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(", ");
        return error(format!("the folder holds folders of models ({list})"), "choose one of them");
    }
    if first(".safetensors").is_some() {
        let what = "the folder has weights, but no config.json that says what model they are";
        return error(what.into(), "put the model's config.json beside them");
    }
    if has("config.json") {
        let what = "the folder has a config.json, but no weights (model.safetensors)";
        return error(what.into(), "choose the folder that holds the weights, too, or download them");
    }
    if has("tokenizer.json") || has("vocab.json") || has("vocab.txt") || has("tokenizer.model") {
        let what = "the folder holds a tokenizer, but no model";
        return error(what.into(), "choose a folder with config.json and model.safetensors, or only cut texts with it");
    }
    let what = "the folder has no config.json and model.safetensors, and no GGUF file";
    error(what.into(), "choose the folder that holds config.json and the weights")
}

/// The error for a folder that holds an adapter and not the model that it changes.
pub(super) fn adapter(dir: &Path) -> Option<Error> {
    let config = small_json(&dir.join("adapter_config.json"))?;
    let word = |key: &str| config[key].as_str().unwrap_or("?").to_string();
    let (kind, base) = (word("peft_type"), word("base_model_name_or_path"));
    let what = format!("this is an adapter ({kind}) for the model {base}, not a model");
    let remedy =
        format!("open {base}; to see both together, merge them (merge_and_unload of peft) and save the result");
    Some(Error::file(dir, what, remedy))
}

/// A small JSON file, if it is one.
pub(super) fn small_json(path: &Path) -> Option<Value> {
    let path = super::hub::real(path);
    if std::fs::metadata(&path).ok()?.len() > SMALL {
        return None;
    }
    super::json(&std::fs::read(path).ok()?).ok()
}

/// How a checkpoint is quantized, by its configuration, the files beside it or the names of its tensors: the usual
/// name, such as `GPTQ`, with bits where they are said.
pub(super) fn quantization<'a>(
    config: &serde_json::Map<String, Value>,
    dir: &Path,
    names: impl Iterator<Item = &'a str> + Clone,
) -> Option<String> {
    let beside = ["quantize_config.json", "quant_config.json"].iter().find_map(|n| small_json(&dir.join(n)));
    let own = config.get("quantization_config").or_else(|| config.get("quantization")).filter(|v| v.is_object());
    let own = own.cloned().or(beside);
    let has = |end: &str| names.clone().any(|n| n.ends_with(end));
    let by_names = || {
        let found = [
            (".qzeros", "GPTQ or AWQ"),
            (".qweight", "GPTQ or AWQ"),
            (".weight_packed", "compressed-tensors"),
            (".quant_map", "bitsandbytes"),
            (".absmax", "bitsandbytes"),
            (".SCB", "bitsandbytes"),
            (".codebooks", "AQLM"),
            (".q_invperm", "EXL2"),
            ("_blocks", "MXFP4"),
        ];
        found.iter().find(|(end, _)| has(end)).map(|f| f.1.to_string())
    };
    let Some(own) = own else { return by_names() };
    let word = |keys: &[&str]| keys.iter().find_map(|k| own[*k].as_str()).map(str::to_string);
    let method = word(&["quant_method", "quant_algo", "version"]).or_else(by_names);
    let method = method.or_else(|| own["group_size"].is_number().then(|| "MLX".to_string()))?;
    let bits = ["bits", "w_bit", "wbits"].iter().find_map(|k| own[*k].as_u64()).map(|b| format!(", {b} bits"));
    let four = own["load_in_4bit"] == true;
    let bits = bits.or_else(|| four.then(|| ", 4 bits".to_string())).unwrap_or_default();
    let format = word(&["format", "fmt", "checkpoint_format"]).map(|f| format!(", {f}")).unwrap_or_default();
    Some(format!("{method}{bits}{format}"))
}

/// The files of a folder whose names end with `end`, in lower case, sorted.
pub(super) fn with_end(dir: &Path, end: &str) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).map_err(|e| Error::io(dir, e))?;
    let mut out: Vec<PathBuf> = entries
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().to_lowercase().ends_with(end)))
        .collect();
    out.sort();
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_no_weights_is_called_by_its_name() {
        let of = |bytes: &[u8], name: &str| kind(bytes, Path::new(name)).map(|k| k.0).unwrap_or_default();
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 548105171\n";
        assert!(of(pointer, "model.safetensors").contains("Git LFS pointer to a file of 548105171 bytes"));
        for (bytes, name, words) in [
            (&b"\n <!DOCTYPE html><html>"[..], "a.safetensors", "web page"),
            (b"\xef\xbb\xbf<html lang=en>", "a.json", "web page"),
            (b"Entry not found", "config.json", "a server answered"),
            (b"{\"error\":\"Repository not found\"}", "tokenizer.json", "a server answered"),
            (b"<?xml version=\"1.0\"?><Error>", "a.gguf", "XML"),
            (b"PK\x03\x04abc", "model.safetensors", "pickle"),
            (b"\x80\x02}q\0", "model.bin", "pickle"),
            (b"PK\x03\x04abc", "weights.npz", "ZIP"),
            (b"\x1f\x8b\x08", "model.safetensors", "gzip"),
            (b"GGUF\x03\0\0\0", "model.bin", "GGUF file under another name"),
            (b"tjgg\x03\0\0\0", "model.bin", "before GGUF"),
            (b"\x89HDF\r\n\x1a\n", "tf_model.h5", "HDF5"),
        ] {
            assert!(of(bytes, name).contains(words), "{name}: {}", of(bytes, name));
        }
        assert_eq!(of(b"GGUF\x03\0\0\0", "model.gguf"), "");
        assert_eq!(of(b"{\"model_type\": \"llama\"}", "config.json"), "");
    }

    #[test]
    fn quantization_is_named_by_what_is_said_or_by_the_tensors() {
        let of = |config: Value, names: &[&str]| {
            let config = config.as_object().cloned().unwrap_or_default();
            quantization(&config, Path::new("/nowhere"), names.iter().copied())
        };
        let gptq = json!({ "quantization_config": { "quant_method": "gptq", "bits": 4, "group_size": 128 } });
        assert_eq!(of(gptq, &[]).unwrap(), "gptq, 4 bits");
        assert_eq!(of(json!({ "quantization": { "group_size": 64, "bits": 4 } }), &[]).unwrap(), "MLX, 4 bits");
        assert_eq!(of(json!({}), &["a.qweight", "a.qzeros"]).unwrap(), "GPTQ or AWQ");
        let nf4 = json!({ "quantization_config": { "quant_method": "bitsandbytes", "load_in_4bit": true } });
        assert_eq!(of(nf4, &[]).unwrap(), "bitsandbytes, 4 bits");
        assert_eq!(of(json!({}), &["a.weight"]), None);
    }

    #[test]
    fn folders_say_what_lies_in_them() {
        let t = tempfile::tempdir().unwrap();
        let said = || folder(t.path()).to_string();
        assert!(said().contains("no config.json"));
        let put = |name: &str, text: &str| std::fs::write(t.path().join(name), text).unwrap();
        put("config.json", r#"{"architectures": ["BertForMaskedLM"]}"#);
        assert!(said().contains("no weights"), "{}", said());
        put("model.onnx", "x");
        assert!(said().contains("ONNX"), "{}", said());
        put("pytorch_model.bin", "\u{0}");
        assert!(said().contains("pickle") && said().contains("BertForMaskedLM"), "{}", said());
        put("adapter_config.json", r#"{"peft_type": "LORA", "base_model_name_or_path": "acme/tiny"}"#);
        assert!(said().contains("adapter (LORA)") && said().contains("acme/tiny"), "{}", said());
    }
}
