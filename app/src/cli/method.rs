//! The verb `method`: run a method on raw arrays, as people feed them from Python.

use super::common;
use anyhow::{Context as _, bail};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tokenscope_analysis::Error;
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
    let (mut input, mut from) = (RawInput::default(), BTreeMap::new());
    for path in &args.input {
        if path.extension().is_some_and(|e| e == "json") {
            let top = object(path)?;
            from.extend(top.keys().map(|k| (k.clone(), path.as_path())));
            input.json.extend(top);
        } else {
            let arrays = read_arrays(path)?;
            from.extend(arrays.keys().map(|k| (k.clone(), path.as_path())));
            input.arrays.extend(arrays);
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
        // A field of an input file comes before a parameter.
        input.params.keys().for_each(|k| {
            from.entry(k.clone()).or_insert(path);
        });
    }
    let value = common::working(|ctx| (adapter.run)(&input, ctx))?.map_err(|e| refusal(e, &args, &input, &from))?;
    common::write(args.out.as_deref(), &value.to_string())
}

/// What an entry refused, with what to mend in which file: the fields that its words name, or all that it had asked
/// for.
fn refusal(e: Error, args: &Args, input: &RawInput, from: &BTreeMap<String, &Path>) -> anyhow::Error {
    if matches!(e, Error::Cancelled | Error::Memory { .. } | Error::Io { .. } | Error::File { .. }) {
        return e.into();
    }
    let said = e.to_string();
    let asked = input.asked();
    let names = |name: &&String| said.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == **name);
    let mut named: Vec<&String> = match &e {
        // Its words list what there is, too.
        Error::Unknown { kind, name, .. } if kind.starts_with("input ") => vec![name],
        _ => asked.iter().filter(names).collect(),
    };
    if named.is_empty() {
        named = asked.iter().collect();
    }
    let mut mend: BTreeMap<&Path, Vec<String>> = BTreeMap::new();
    let mut missing = Vec::new();
    for name in named {
        match from.get(name) {
            Some(path) => mend.entry(path).or_default().push(described(name, input)),
            None => missing.push(name.as_str()),
        }
    }
    let given: Vec<String> = args.input.iter().chain(&args.params).map(|p| p.display().to_string()).collect();
    let mut remedies: Vec<String> =
        mend.iter().map(|(path, names)| format!("correct {} in {}", names.join(", "), path.display())).collect();
    // What may be left out is no remedy while something that is there can be wrong.
    if remedies.is_empty() && !missing.is_empty() {
        // A number may be why more is asked for than is there.
        let number = |n: &&String| input.json.get(*n).or_else(|| input.params.get(*n)).is_some_and(Value::is_number);
        let numbers: Vec<String> = asked.iter().filter(number).map(|n| described(n, input)).collect();
        let or = if numbers.is_empty() { String::new() } else { format!(", or correct {}", numbers.join(", ")) };
        remedies.push(format!("add {} to one of {}{or}", missing.join(", "), given.join(", ")));
    }
    if remedies.is_empty() {
        remedies.push(format!("correct {}", given.join(", ")));
    }
    anyhow::anyhow!("{}: {said}; {}", args.name, remedies.join("; "))
}

/// A field and what came as it: the shape of an array, a short value as it stands.
fn described(name: &str, input: &RawInput) -> String {
    const SHORT: usize = 40;
    if let Some(a) = input.arrays.get(name) {
        return format!("{name} (of shape {:?})", a.shape());
    }
    let value = input.json.get(name).or_else(|| input.params.get(name)).map(Value::to_string);
    match value.filter(|v| v.len() <= SHORT) {
        Some(v) => format!("{name} ({v})"),
        None => name.into(),
    }
}

fn object(path: &Path) -> anyhow::Result<Map<String, Value>> {
    match tokenscope_analysis::weights::read_json(path)? {
        Value::Object(map) => Ok(map),
        _ => bail!("the file holds no JSON object; write the fields as {{\"name\": value}}: {}", path.display()),
    }
}

/// Arrays of one file that are read at most, in bytes.
const MAX_BYTES: u64 = 4 << 30;

fn read_arrays(path: &Path) -> anyhow::Result<BTreeMap<String, Array>> {
    let bytes = tokenscope_analysis::weights::read_bounded(path, MAX_BYTES)?;
    let file = safetensors::SafeTensors::deserialize(&bytes)
        .with_context(|| format!("damaged safetensors: {}", path.display()))?;
    let mut out = BTreeMap::new();
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
        if let Some(at) = values.iter().position(|v| v.is_nan()) {
            bail!("tensor {name} holds NaN, first at {at}; give numbers: {}", path.display());
        }
        out.insert(name, Array::new(view.shape().to_vec(), values)?);
    }
    Ok(out)
}
