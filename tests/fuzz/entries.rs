//! Every entry of a JSON file changed in turn, at any depth: nothing is left to chance.

use crate::driver::scratch;
use candle_core::Device;
use libtest_mimic::Failed;
use serde_json::{Value, json as value};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use tokenscope_analysis::Ctx;
use tokenscope_analysis::foreign::words_of;
use tokenscope_analysis::image::{Picture, Processor};
use tokenscope_analysis::model::from_weights;
use tokenscope_analysis::run::{RunRequest, run};
use tokenscope_analysis::trace::CaptureSpec;
use tokenscope_analysis::weights::Weights;
use tokenscope_tests::{golden, json, recorded_request};

const FAMILIES: &[&str] = &[
    "bert",
    "gpt2",
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "roberta",
    "vit",
    "clip",
    "siglip_vision",
    "dinov2",
    "llava",
    "smolvlm",
    "settings/distilbert_mlm",
    "settings/llama_yarn_opts",
    "settings/llama_longrope_long",
    "settings/qwen2_sw_some",
    "settings/dinov2_swiglu",
    "settings/gpt_neox_pythia",
    "settings/phi_grouped",
    "settings/phi3_longrope",
    "settings/opt_after",
    "settings/gemma2_windows",
    "settings/gemma3_ropes",
];

/// Opens the folder and runs what its fixture recorded; errors are fine.
pub fn open_and_run(dir: &Path, request: &RunRequest) -> Result<String, String> {
    let weights = Weights::open(dir).map_err(|e| e.to_string())?;
    let model = from_weights(&weights, &Device::Cpu).map_err(|e| e.to_string())?;
    let trace = run(model.as_ref(), None, request, &CaptureSpec::views(), &Ctx::default());
    trace.map(|t| t.model).map_err(|e| e.to_string())
}

pub fn configurations() -> Result<(), Failed> {
    let mut problems = Problems::default();
    for family in FAMILIES {
        let dir = golden().join("models").join(family);
        let mut request = recorded_request(&dir.join("expected.safetensors"));
        request.greedy = request.greedy.min(2);
        let copy = copy_of(&dir);
        for (what, config) in changed(&json(&dir.join("config.json"))) {
            std::fs::write(copy.path().join("config.json"), config.to_string())?;
            problems.watch(&format!("{family}: {what}"), || drop(open_and_run(copy.path(), &request)));
        }
    }
    problems.end(4000)
}

pub fn processors() -> Result<(), Failed> {
    let mut problems = Problems::default();
    for family in ["vit", "clip", "siglip_vision", "dinov2", "llava", "smolvlm"] {
        let dir = golden().join("models").join(family);
        let copy = copy_of(&dir);
        for name in ["preprocessor_config.json", "processor_config.json"] {
            if !dir.join(name).exists() {
                continue;
            }
            for (what, settings) in changed(&json(&dir.join(name))) {
                std::fs::write(copy.path().join(name), settings.to_string())?;
                problems.watch(&format!("{family}: {name}: {what}"), || drop(process(copy.path())));
            }
            std::fs::copy(dir.join(name), copy.path().join(name))?;
        }
    }
    problems.end(500)
}

/// Prepares a small picture and a prompt as the folder's processor says.
pub fn process(dir: &Path) -> Result<String, String> {
    let picture = Picture::new(9, 5, (0..135).collect()).map_err(|e| e.to_string())?;
    let weights = Weights::open(dir).map_err(|e| e.to_string())?;
    let Some(p) = Processor::load(&weights).map_err(|e| e.to_string())? else { return Ok("no processor".into()) };
    let image = p.process(&picture).map_err(|e| e.to_string())?;
    let prompt = p.expand("What <image>?", &image).map_err(|e| e.to_string())?;
    Ok(format!("{} tiles, {}", image.tiles.len(), if prompt.is_some() { "a prompt" } else { "none" }))
}

/// A copy of the files of a folder, to be damaged.
pub fn copy_of(dir: &Path) -> tempfile::TempDir {
    let copy = scratch();
    copy_into(dir, copy.path());
    copy
}

/// Copies the files of a folder.
pub fn copy_into(dir: &Path, to: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

#[derive(Default)]
struct Problems {
    tried: usize,
    list: Vec<String>,
}

impl Problems {
    /// Runs `f` and notes which input made it panic.
    fn watch(&mut self, what: &str, f: impl FnOnce()) {
        self.tried += 1;
        if let Err(e) = catch_unwind(AssertUnwindSafe(f)) {
            self.list.push(format!("{what}: {}", words_of(e.as_ref())));
        }
    }

    fn end(self, least: usize) -> Result<(), Failed> {
        if self.tried < least {
            return Err(format!("only {} were tried", self.tried).into());
        }
        if self.list.is_empty() {
            return Ok(());
        }
        Err(format!("{} of {}:\n{}", self.list.len(), self.tried, self.list.join("\n")).into())
    }
}

/// Every form of a JSON object with one entry changed, at any depth.
fn changed(v: &Value) -> Vec<(String, Value)> {
    let hostile = [
        Value::Null,
        value!(-1),
        value!(0),
        value!(1),
        value!(7),
        value!(1e18 as u64),
        value!(0.37),
        value!(f64::MAX),
        value!("x"),
        value!(true),
        value!([]),
        value!([3, -2]),
        value!({}),
    ];
    let mut out = Vec::new();
    let Value::Object(map) = v else { return out };
    for (key, old) in map {
        let mut put = |new: Value, what: String| {
            let mut copy = map.clone();
            copy.insert(key.clone(), new);
            out.push((what, Value::Object(copy)));
        };
        for h in &hostile {
            put(h.clone(), format!("{key} = {h}"));
        }
        for (what, inner) in changed(old) {
            put(inner, format!("{key}.{what}"));
        }
        let mut copy = map.clone();
        copy.remove(key);
        out.push((format!("no {key}"), Value::Object(copy)));
    }
    out
}
