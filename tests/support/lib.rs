//! What the tests share: fixtures, tensors of a file, comparisons that print where they fail.

pub mod tiny;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tokenscope_analysis::Ctx;
use tokenscope_analysis::gpu::Gpu;
use tokenscope_analysis::image::ImageInput;
use tokenscope_analysis::model::{Model, from_weights};
use tokenscope_analysis::names::{Named, to_transformers};
use tokenscope_analysis::parity::INPUTS;
use tokenscope_analysis::run::{RunRequest, run};
use tokenscope_analysis::trace::{CaptureSpec, Trace};
use tokenscope_analysis::weights::{Hold, Weights};

/// A file as the system hands it to a window that it is dropped on.
#[derive(Debug)]
pub struct Dropped(pub PathBuf);

impl egui::DroppedFile for Dropped {
    fn path(&self) -> &Path {
        &self.0
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        std::fs::read(&self.0).map_err(|e| e.to_string())
    }
}

/// The folder of the golden data.
pub fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_path_buf()
}

/// The graphics adapter to test on, a software one at worst. Without any: `None`, said on standard error, or a
/// panic where `TOKENSCOPE_REQUIRE_GPU=1` says that there must be one.
pub fn gpu(test: &str) -> Option<Gpu> {
    let found = Gpu::headless();
    if found.is_none() {
        let required = std::env::var("TOKENSCOPE_REQUIRE_GPU").is_ok_and(|v| v == "1");
        assert!(!required, "{test}: TOKENSCOPE_REQUIRE_GPU=1 and there is no graphics adapter");
        eprintln!("SKIPPED: {test}: no graphics adapter");
    }
    found
}

/// A JSON file.
pub fn json(path: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A tensor of a fixture as f64 values.
#[derive(Debug, Clone)]
pub struct Values {
    /// The shape.
    pub shape: Vec<usize>,
    /// The values, row-major.
    pub values: Vec<f64>,
    /// Whether the file holds integers.
    pub whole: bool,
}

/// All tensors of a safetensors file.
pub fn tensors(path: &Path) -> BTreeMap<String, Values> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let read = |view: safetensors::tensor::TensorView| {
        let d = view.data();
        let (values, whole) = match view.dtype() {
            safetensors::Dtype::F32 => {
                (d.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(), false)
            }
            safetensors::Dtype::F64 => (d.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect(), false),
            safetensors::Dtype::I64 => {
                (d.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(), true)
            }
            safetensors::Dtype::I32 => {
                (d.as_chunks::<4>().0.iter().map(|b| f64::from(i32::from_le_bytes(*b))).collect(), true)
            }
            safetensors::Dtype::U8 => (d.iter().map(|b| f64::from(*b)).collect(), true),
            other => panic!("{other:?} in a fixture"),
        };
        Values { shape: view.shape().to_vec(), values, whole }
    };
    file.tensors().into_iter().map(|(name, view)| (name, read(view))).collect()
}

/// Errors with the worst index and both values unless `got` is within `atol` of `want` everywhere.
pub fn close(name: &str, got: &[f64], want: &[f64], atol: f64) -> Result<(), String> {
    if got.len() != want.len() {
        return Err(format!("{name}: {} values, want {}", got.len(), want.len()));
    }
    let distance = |i: &usize| {
        let d = (got[*i] - want[*i]).abs();
        if d.is_nan() { f64::INFINITY } else { d }
    };
    let Some(i) = (0..want.len()).max_by(|a, b| distance(a).total_cmp(&distance(b))) else { return Ok(()) };
    if distance(&i) <= atol {
        return Ok(());
    }
    Err(format!("{name}[{i}]: {} != {} (tolerance {atol})", got[i], want[i]))
}

/// What a fixture gave the model: ids, token types, prepared pixels, length of the greedy continuation.
pub fn recorded_request(expected: &Path) -> RunRequest {
    let want = tensors(expected);
    let whole = |name: &str| want.get(name).map(|v| v.values.iter().map(|&x| x as u32).collect());
    RunRequest {
        ids: whole("input_ids"),
        token_types: whole("token_type_ids"),
        image: want.contains_key("pixel_values").then(|| ImageInput::from_pixel_values(expected).unwrap()),
        greedy: want.get("greedy_ids").map_or(0, |v| v.values.len()),
        ..RunRequest::default()
    }
}

/// The trace of a model that read these ids, without what it computed on the way.
pub fn read(model: &dyn Model, ids: &[u32]) -> Trace {
    let request = RunRequest { ids: Some(ids.to_vec()), ..RunRequest::default() };
    run(model, None, &request, &CaptureSpec::sites(&[]), &Ctx::default()).unwrap()
}

/// The tolerance that a fixture states for a tensor of this name.
pub fn tolerance(tolerances: &serde_json::Value, name: &str) -> f64 {
    let name = name.trim_start_matches("vision_").trim_start_matches("text_");
    let group = if name.contains("attentions_") {
        "attentions"
    } else if ["hidden_states_", "last_layer_output", "image_features"].iter().any(|p| name.contains(p)) {
        "hidden_states"
    } else if ["q_", "k_", "v_"].iter().any(|p| name.starts_with(p)) {
        "qkv"
    } else {
        "outputs"
    };
    // Old fixtures state no tolerance of their own for q, k and v.
    let own = if tolerances[group].is_null() { &tolerances["outputs"] } else { &tolerances[group] };
    own["atol_f32_cpu"].as_f64().expect("the fixture states tolerances")
}

/// Runs `model` on what `expected` recorded and compares every tensor within the fixture's tolerances.
pub fn check_forward(model: &Path, expected: &Path, tolerances: &serde_json::Value) {
    [Hold::Memory, Hold::File].iter().for_each(|hold| check_held(model, *hold, expected, tolerances));
}

/// [`check_forward`] with weights that are held so.
fn check_held(model: &Path, hold: Hold, expected: &Path, tolerances: &serde_json::Value) {
    let want = tensors(expected);
    let open = Weights::open(model).and_then(|w| from_weights(&w.holding(hold), &candle_core::Device::Cpu));
    let open = open.unwrap_or_else(|e| panic!("{}: {e}", model.display()));
    let request = recorded_request(expected);
    let trace = run(open.as_ref(), None, &request, &CaptureSpec::views(), &Ctx::default()).unwrap();
    let got: BTreeMap<String, Named> = to_transformers(&trace, &Ctx::default()).unwrap().into_iter().collect();
    let mut problems = Vec::new();
    for (name, w) in want.iter().filter(|(n, _)| !INPUTS.contains(&n.as_str())) {
        let (shape, values) = match got.get(name) {
            None => {
                problems.push(format!("{name}: missing"));
                continue;
            }
            Some(Named::Float(a)) => (a.shape().to_vec(), a.data().iter().map(|&x| f64::from(x)).collect::<Vec<_>>()),
            Some(Named::Int(v)) => (vec![v.len()], v.iter().map(|&x| x as f64).collect()),
            Some(Named::Table(v, n)) => (vec![v.len() / n, *n], v.iter().map(|&x| x as f64).collect()),
        };
        assert_eq!(shape, w.shape, "{name}");
        let atol = if w.whole { 0.0 } else { tolerance(tolerances, name) };
        problems.extend(close(name, &values, &w.values, atol).err());
    }
    assert!(problems.is_empty(), "{}, weights {}: {problems:#?}", model.display(), hold.name());
}

/// [`check_forward`] of a fixture: as saved, with the configuration of transformers 4, and with the tensor names
/// of hub checkpoints.
pub fn check_fixture(dir: &Path) {
    let tolerances = &json(&dir.join("meta.json"))["tolerances"];
    let expected = dir.join("expected.safetensors");
    check_forward(dir, &expected, tolerances);
    let legacy = tempfile::tempdir().unwrap();
    std::fs::copy(dir.join("config.legacy.json"), legacy.path().join("config.json")).unwrap();
    std::fs::copy(dir.join("model.safetensors"), legacy.path().join("model.safetensors")).unwrap();
    check_forward(legacy.path(), &expected, tolerances);
    if dir.join("hub_layout").is_dir() {
        check_forward(&dir.join("hub_layout"), &expected, tolerances);
    }
}
