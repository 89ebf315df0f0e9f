//! What the tests share: fixtures, tensors of a file, comparisons that print where they fail.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The folder of the golden data.
pub fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_path_buf()
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
