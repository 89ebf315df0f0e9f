//! The verb `method`: run a method on raw arrays, as people feed them from Python.

use super::common;
use anyhow::{Context as _, bail};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use tokenscope_analysis::array::Array;
use tokenscope_analysis::catalog;
use tokenscope_analysis::raw::RawInput;
use tokenscope_analysis::save::spares;

/// Arguments of `method`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the raw entry; `tokenscope methods` lists them
    name: String,
    /// input.safetensors or input.json; may be given twice
    #[arg(long, required = true)]
    input: Vec<PathBuf>,
    /// JSON file with parameters
    #[arg(long)]
    params: Option<PathBuf>,
    /// JSON file to write; standard output without it
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(args: Args) -> anyhow::Result<()> {
    let adapter = catalog::raw(&args.name)?;
    if let Some(out) = &args.out {
        let inputs = args.input.iter().chain(&args.params);
        spares(out, &inputs.map(PathBuf::as_path).collect::<Vec<_>>())?;
    }
    let mut input = RawInput::default();
    for path in &args.input {
        if path.extension().is_some_and(|e| e == "json") {
            input.json.extend(object(path)?);
        } else {
            read_arrays(path, &mut input)?;
        }
    }
    if let Some(path) = &args.params {
        let top = object(path)?;
        for key in ["scalar_inputs", "params"] {
            if let Some(Value::Object(inner)) = top.get(key) {
                input.params.extend(inner.clone());
            }
        }
        for (key, value) in top {
            input.params.entry(key).or_insert(value);
        }
    }
    let value = common::working(|ctx| (adapter.run)(&input, ctx))?.map_err(|e| {
        let files: Vec<String> = args.input.iter().chain(&args.params).map(|p| p.display().to_string()).collect();
        let how = format!("`tokenscope methods` says what {} reads", args.name);
        anyhow::anyhow!("{e}; {how}: {}", files.join(", "))
    })?;
    common::write(args.out.as_deref(), &value.to_string())
}

fn object(path: &Path) -> anyhow::Result<Map<String, Value>> {
    match tokenscope_analysis::weights::read_json(path)? {
        Value::Object(map) => Ok(map),
        _ => bail!("the file does not hold a JSON object: {}", path.display()),
    }
}

/// Arrays of one file that are read at most, in bytes.
const MAX_BYTES: u64 = 4 << 30;

fn read_arrays(path: &Path, input: &mut RawInput) -> anyhow::Result<()> {
    let bytes = tokenscope_analysis::weights::read_bounded(path, MAX_BYTES)?;
    let file = safetensors::SafeTensors::deserialize(&bytes)
        .with_context(|| format!("damaged safetensors: {}", path.display()))?;
    for (name, view) in file.tensors() {
        use safetensors::Dtype as D;
        let d = view.data();
        let values: Vec<f32> = match view.dtype() {
            D::F32 => d.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            D::F64 => d.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
            D::I64 => d.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as f32).collect(),
            D::I32 => d.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b) as f32).collect(),
            D::U8 | D::BOOL => d.iter().map(|&b| f32::from(b)).collect(),
            other => bail!("tensor {name} is {other:?}; f32, f64, i64, i32, u8 and bool are read: {}", path.display()),
        };
        input.arrays.insert(name, Array::new(view.shape().to_vec(), values)?);
    }
    Ok(())
}
