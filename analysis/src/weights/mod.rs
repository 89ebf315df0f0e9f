//! Checkpoints: a name → tensor look-up over Hugging Face folders, their cache layout, and GGUF files.
//!
//! Files are hostile until parsed: lengths are checked before anything is allocated, shard paths stay inside the
//! folder, and pickles are never opened. What is intact, but no checkpoint that is read here, is called by its name.

mod arch;
mod codebook;
mod convert;
mod ggml;
pub(crate) mod gguf;
pub(crate) mod hf_dir;
mod hold;
pub(crate) mod hub;
mod json;
mod of_gguf;
mod packed;
mod parts;
mod placement;
pub(crate) mod recognise;
mod scales;
mod shard;
mod table;
mod wrapped;

pub use hold::{Hold, SMALL, WEIGHTS_VARIABLE};
pub(crate) use of_gguf::read_gguf;
pub use placement::{Chip, DEVICE_VARIABLE, DTYPE_VARIABLE, Numbers, Placement};
pub use table::{FileMatrix, Table};

use crate::cpu::is_here;
use crate::ctx::Ctx;
use crate::{Error, Result};
use arch::Change;
use candle_core::{DType, Device, Tensor};
use convert::{Form, Source};
use ggml::Ggml;
use json::parse as json;
use of_gguf::order;
use rayon::prelude::*;
use safetensors::Dtype;
use scales::Scales;
use serde_json::{Map, Value};
use shard::Shard;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// One tensor's place in a shard.
#[derive(Debug, Clone)]
struct Slot {
    shard: usize,
    dtype: Stored,
    shape: Vec<usize>,
    start: u64,
    end: u64,
}

impl Slot {
    /// What was done to the values on their way into the file.
    fn change(&self) -> Change {
        if let Stored::Ggml { change, .. } = self.dtype { change } else { Change::None }
    }
}

/// How a tensor is stored.
#[derive(Debug, Clone, Copy)]
enum Stored {
    Plain(Dtype),
    /// Blocks of llama.cpp.
    Ggml {
        dtype: Ggml,
        /// What was done to the values on their way into the file.
        change: Change,
    },
    /// A tensor of [`Weights::from_tensors`], by its place in the list.
    Memory(usize),
    /// Pairs of 4-bit floats; the exponents of each 32 stand from there on in that shard.
    Pairs {
        shard: usize,
        start: u64,
    },
}

impl Stored {
    /// The usual name in small letters, e.g. `bf16` or `q8_0`.
    fn name(self) -> String {
        match self {
            Stored::Plain(d) => format!("{d:?}").to_lowercase(),
            Stored::Memory(_) => "f32".into(),
            Stored::Pairs { .. } => "mxfp4".into(),
            Stored::Ggml { dtype, .. } => dtype.name().to_lowercase(),
        }
    }
}

/// An open checkpoint.
pub struct Weights {
    dir: PathBuf,
    name: String,
    gguf: Option<PathBuf>,
    config: Map<String, Value>,
    index: Option<PathBuf>,
    shards: Vec<Arc<Shard>>,
    slots: BTreeMap<String, Slot>,
    tensors: Vec<Tensor>,
    hold: Hold,
    numbers: Numbers,
    /// Whether matrices stay in the file, once that was decided.
    stays: OnceLock<bool>,
    /// Progress and cancel of whoever loads, and bytes handed out so far.
    ctx: Ctx,
    read: AtomicUsize,
    /// Bytes of memory of what was handed out.
    held: AtomicU64,
}

/// The largest JSON side file (config, index) that is read, in bytes.
const MAX_JSON_BYTES: u64 = 64 << 20;
/// Values that are multiplied by their scales at once.
const SCALED: usize = 1 << 15;

impl Weights {
    /// Opens a model folder, a Hugging Face cache entry (`models--org--name`), a `.safetensors` file with its
    /// `config.json` beside it, or a `.gguf` file (or a folder with one and nothing else to open). Of sets of numbered
    /// files any one stands for all.
    ///
    /// Errors name the file, what is wrong with it and what to do.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(files) = hf_dir::gguf(path)? {
            return Self::open_gguf(&files);
        }
        let found = hf_dir::find(path)?;
        let config = read_json(&found.config)?;
        let Value::Object(config) = config else {
            return Err(Error::file(&found.config, "config.json is not a JSON object", "take the model's own one"));
        };
        let name = found.dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let mut out = Self::empty(name, config);
        out.dir = found.dir;
        for shard in &found.shards {
            out.add_shard(shard)?;
        }
        wrapped::unwrap(&mut out.slots);
        packed::unpack(&mut out.slots);
        out.index = found.index;
        Ok(out)
    }

    fn empty(name: String, config: Map<String, Value>) -> Self {
        Self {
            dir: PathBuf::new(),
            name,
            gguf: None,
            config,
            index: None,
            shards: Vec::new(),
            slots: BTreeMap::new(),
            tensors: Vec::new(),
            hold: Hold::default(),
            numbers: Numbers::default(),
            stays: OnceLock::new(),
            ctx: Ctx::default(),
            read: AtomicUsize::new(0),
            held: AtomicU64::new(0),
        }
    }

    /// A checkpoint of f32 tensors in memory, e.g. the variables of a training run: [`Weights::get`] hands out the
    /// tensors themselves, so gradients of whatever is computed reach them.
    ///
    /// Errors: a tensor of another type.
    pub fn from_tensors(
        name: &str,
        config: Map<String, Value>,
        tensors: impl IntoIterator<Item = (String, Tensor)>,
    ) -> Result<Self> {
        let mut out = Self::empty(name.to_string(), config);
        for (key, t) in tensors {
            if t.dtype() != DType::F32 {
                return Err(Error::invalid(format!("weight {key}: {:?} in memory; only f32 is taken", t.dtype())));
            }
            let (shape, end) = (t.dims().to_vec(), 4 * t.elem_count() as u64);
            let dtype = Stored::Memory(out.tensors.len());
            out.slots.insert(key, Slot { shard: 0, dtype, shape, start: 0, end });
            out.tensors.push(t);
        }
        Ok(out)
    }

    fn add_shard(&mut self, path: &Path) -> Result<()> {
        let file = Shard::open(path)?;
        let shard = self.shards.len();
        for (name, t) in file.safetensors()? {
            let slot = Slot { shard, dtype: Stored::Plain(t.dtype), shape: t.shape, start: t.start, end: t.end };
            if self.slots.insert(name.clone(), slot).is_some() {
                return Err(damaged(path, format!("tensor {name} stands in two shards")));
            }
        }
        self.shards.push(Arc::new(file));
        Ok(())
    }

    /// The same checkpoint for a load that can be watched and stopped: each tensor is a step of `ctx`.
    pub fn watched(mut self, ctx: &Ctx) -> Self {
        self.ctx = ctx.clone();
        self
    }

    /// The configuration, as in `config.json`.
    pub fn config(&self) -> &Map<String, Value> {
        &self.config
    }

    /// Name of the folder or the GGUF file, for titles.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The GGUF file that this is, with a vocabulary inside; `None` for folders.
    pub fn gguf_file(&self) -> Option<&Path> {
        self.gguf.as_deref()
    }

    /// The folder of the checkpoint.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        self.slots.keys().cloned().collect()
    }

    /// Whether there is a tensor of that name.
    pub fn has(&self, name: &str) -> bool {
        self.slots.contains_key(name)
    }

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.slots.get(name).map(|s| s.shape.as_slice())
    }

    /// Number of values in all tensors.
    pub fn n_params(&self) -> usize {
        self.slots.values().map(|s| s.shape.iter().product::<usize>()).sum()
    }

    /// Bytes of all tensors as stored.
    pub fn size_bytes(&self) -> usize {
        self.slots.values().map(|s| (s.end - s.start) as usize).sum()
    }

    /// The type most values are stored in, e.g. `bf16`.
    pub fn dtype(&self) -> String {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for s in self.slots.values() {
            *counts.entry(s.dtype.name()).or_default() += s.end - s.start;
        }
        counts.into_iter().max_by_key(|(_, n)| *n).map(|(d, _)| d).unwrap_or_default()
    }

    /// A short hash of names, shapes and a sample of the data; equal checkpoints in equal numbers have equal ones.
    pub fn fingerprint(&self) -> String {
        let mut h = DefaultHasher::new();
        if self.numbers != Numbers::default() {
            self.numbers.hash(&mut h);
        }
        for (name, s) in &self.slots {
            let Some(shard) = self.shards.get(s.shard) else {
                // Tensors in memory may change under way; their names and shapes must do.
                (name, &s.shape).hash(&mut h);
                continue;
            };
            let stride = ((s.end - s.start) / 64).max(1);
            (name, &s.shape, s.dtype.name()).hash(&mut h);
            (s.start..s.end).step_by(stride as usize).for_each(|at| shard.byte(at).hash(&mut h));
        }
        format!("{:016x}", h.finish())
    }

    /// The same checkpoint with its weights held so.
    pub fn holding(mut self, hold: Hold) -> Self {
        (self.hold, self.stays) = (hold, OnceLock::new());
        self
    }

    /// The same checkpoint with its matrices in these numbers; tensors in memory stay what they are.
    pub fn in_numbers(mut self, numbers: Numbers) -> Self {
        (self.numbers, self.stays) = (numbers, OnceLock::new());
        self
    }

    /// The numbers that matrices are kept in.
    pub fn numbers(&self) -> Numbers {
        self.numbers
    }

    /// Whether matrices of weights stay in the file.
    pub fn stay_in_file(&self) -> bool {
        let decide = || self.hold.in_file(self.all_bytes(), || self.ctx.room());
        *self.stays.get_or_init(decide)
    }

    /// Bytes of memory that the weights will need: what a load brings into memory.
    pub fn need_bytes(&self) -> u64 {
        let stay = self.stay_in_file();
        let brought = self.slots.values().filter(|s| !stay || s.shape.len() < 2);
        brought.map(|s| self.slot_bytes(s)).sum()
    }

    /// Bytes of memory that all weights would need.
    fn all_bytes(&self) -> u64 {
        self.slots.values().map(|s| self.slot_bytes(s)).sum()
    }

    /// Bytes of memory of a tensor: matrices and stacks of them are kept in their numbers, others as f32.
    fn slot_bytes(&self, slot: &Slot) -> u64 {
        let each = if matches!(slot.shape.len(), 2 | 3) { self.numbers.bytes() } else { 4 };
        each * slot.shape.iter().product::<usize>() as u64
    }

    /// Bytes of memory that hold weights, of those that were handed out so far.
    pub fn held_bytes(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// The tensor `name`, if it is there with exactly `shape`.
    fn slot(&self, name: &str, shape: &[usize]) -> Result<&Slot> {
        let slot = self.slots.get(name).ok_or_else(|| self.missing(name))?;
        if slot.shape == shape {
            return Ok(slot);
        }
        if let Some(quantized) = self.quantization() {
            return Err(self.quantized(&quantized, name));
        }
        let got = &slot.shape;
        let place = self.shards.get(slot.shard).map_or(self.name.clone(), |s| s.path.display().to_string());
        Err(Error::Weight {
            name: name.to_string(),
            what: format!("{place} has shape {got:?}, config.json asks for {shape:?}"),
        })
    }

    /// How the values of a tensor are stored. Errors: a type that is not read, or none.
    fn form(&self, name: &str, slot: &Slot) -> Result<Form> {
        let (form, dtype) = match slot.dtype {
            Stored::Plain(d) => (Form::plain(d), format!("{d:?}")),
            Stored::Ggml { dtype, .. } => (Form::ggml(dtype), dtype.name()),
            Stored::Pairs { .. } => (Some(Form::Pairs), "mxfp4".into()),
            Stored::Memory(_) => (None, "f32 in memory".into()),
        };
        form.ok_or_else(|| self.unread(name, slot, &dtype))
    }

    /// The tensor `name` as f32 on `device`. Errors unless it is there with exactly `shape`, or if the load was
    /// cancelled.
    pub fn get(&self, name: &str, shape: &[usize], device: &Device) -> Result<Tensor> {
        let slot = self.slot(name, shape)?;
        if let Stored::Memory(i) = slot.dtype {
            return Ok(self.tensors[i].to_device(device)?);
        }
        let mut values = self.form(name, slot)?.values(self.source(slot)?, &self.ctx)?;
        if let Some(scales) = self.scales(name, slot)? {
            let columns = shape.last().copied().unwrap_or(1).max(1);
            let some = (SCALED / columns).max(1);
            let part =
                |held: &mut Vec<u8>, (i, rows): (usize, &mut [f32])| scales.apply(i * some, 0, columns, rows, held);
            values.par_chunks_mut((some * columns).max(1)).enumerate().try_for_each_init(Vec::new, part)?;
            self.ctx.check()?;
        }
        self.held.fetch_add(4 * values.len() as u64, Ordering::Relaxed);
        let t = match slot.change() {
            Change::None | Change::Without(_) | Change::Cut => Tensor::from_vec(values, shape, &Device::Cpu)?,
            Change::PlusOne => (Tensor::from_vec(values, shape, &Device::Cpu)? - 1.0)?,
            Change::Fade { .. } => Tensor::from_vec(values, shape, &Device::Cpu)?.neg()?.log()?,
            Change::Interleaved(_) | Change::ByKind(_) => {
                let t = Tensor::from_vec(values, shape, &Device::Cpu)?;
                match order(name, shape.first().copied().unwrap_or(0), slot.change())? {
                    Some(order) => t.index_select(&Tensor::new(order, &Device::Cpu)?, 0)?,
                    None => t,
                }
            }
            Change::Turned => {
                let stored: Vec<usize> = shape.iter().rev().copied().collect();
                Tensor::from_vec(values, stored, &Device::Cpu)?.t()?.contiguous()?
            }
        };
        Ok(t.to_device(device)?)
    }

    /// The tensor `name` as a matrix on `device` in the numbers of the checkpoint, its axes but the last taken together as
    /// rows. Where weights stay in the file, nothing is read yet. Errors are those of [`Weights::get`].
    pub fn table(&self, name: &str, shape: &[usize], device: &Device) -> Result<Table> {
        let slot = self.slot(name, shape)?;
        let (columns, rows) = match shape {
            [rows @ .., columns] => (*columns, rows.iter().product::<usize>()),
            [] => (1, 1),
        };
        let change = slot.change();
        let as_stored = rows > 1
            && u32::try_from(rows).is_ok()
            && !matches!(change, Change::PlusOne | Change::Fade { .. })
            && !matches!(slot.dtype, Stored::Memory(_));
        let rounds = as_stored && self.numbers == Numbers::Bf16;
        if !as_stored || !is_here(device) || !(rounds || self.stay_in_file()) {
            let t = if rounds {
                let n = (rows * columns) as u64;
                let t = self.get(name, shape, &Device::Cpu)?.to_dtype(DType::BF16)?.to_device(device)?;
                self.held.fetch_sub((Numbers::F32.bytes() - self.numbers.bytes()) * n, Ordering::Relaxed);
                t
            } else {
                self.get(name, shape, device)?
            };
            return Ok(Table::Memory(if shape.len() == 2 { t } else { t.reshape((rows, columns))? }));
        }
        let (form, source) = (self.form(name, slot)?, self.source(slot)?);
        let shard = self.shards[slot.shard].clone();
        let turned = change == Change::Turned;
        let size = if turned { (columns, rows) } else { (rows, columns) };
        let mut matrix = FileMatrix::new(shard, source.start, form, size, self.scales(name, slot)?);
        if let Some(order) = order(name, rows, change)? {
            matrix = matrix.pick(&order)?;
        }
        if rounds && self.stay_in_file() {
            matrix = matrix.rounded();
        } else if rounds {
            matrix = matrix.packed(&self.ctx)?;
            self.held.fetch_add(self.numbers.bytes() * (rows * columns) as u64, Ordering::Relaxed);
        }
        Ok(Table::file(matrix, turned))
    }

    /// Whether a tensor is stored as pairs of 4-bit floats with exponents beside them.
    pub fn is_packed(&self, name: &str) -> bool {
        self.slots.get(name).is_some_and(|s| matches!(s.dtype, Stored::Pairs { .. }))
    }

    /// The scales that stand beside 4- and 8-bit floats, if there are such.
    fn scales(&self, name: &str, slot: &Slot) -> Result<Option<Scales>> {
        if let Stored::Pairs { shard, start } = slot.dtype {
            let columns = slot.shape.last().copied().unwrap_or(0);
            return Ok(Some(Scales::exponents(self.shards[shard].clone(), start, columns)));
        }
        if !matches!(slot.dtype, Stored::Plain(Dtype::F8_E4M3 | Dtype::F8_E5M2)) {
            return Ok(None);
        }
        let Some(own) = ["_scale", "_scale_inv"].iter().map(|e| format!("{name}{e}")).find(|n| self.has(n)) else {
            return Ok(None);
        };
        let dims = self.shape(&own).unwrap_or_default().to_vec();
        let values = self.get(&own, &dims, &Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
        let columns = slot.shape.last().copied().unwrap_or(1);
        let rows = slot.shape.iter().product::<usize>() / columns.max(1);
        let said = &self.config.get("quantization_config").unwrap_or(&Value::Null)["weight_block_size"];
        let said = |i: usize| said[i].as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
        Ok(Some(Scales::new(&own, (values, &dims), (rows, columns), [said(0), said(1)])?))
    }

    /// The error for a tensor that is not there: what the checkpoint is instead.
    fn missing(&self, name: &str) -> Error {
        let place = self.place();
        if let Some(how) = self.quantization() {
            return self.quantized(&how, name);
        }
        if self.slots.keys().any(|n| n.contains(".lora_A.") || n.contains(".lora_B.")) {
            return recognise::adapter(&self.dir).unwrap_or_else(|| {
                Error::file(place, "these are the weights of an adapter (LoRA)", "open the model that it is for")
            });
        }
        let near = |n: &&String| n.ends_with(&format!(".{name}")) || name.ends_with(&format!(".{n}"));
        if let Some(other) = self.slots.keys().find(near) {
            let what = format!("the weight {name} is called {other} here");
            let remedy = "rename the tensors, or check that config.json belongs to these weights";
            return Error::file(place, what, remedy);
        }
        if let Some((index, shard)) = self.index.as_ref().and_then(|i| Some((i, hf_dir::promised(i, name)?))) {
            let what = format!("the weight {name} is not in {shard}, where the index says that it is");
            return Error::file(index, what, "get that shard and the index from the same version of the model");
        }
        let some = self.slots.keys().take(3).cloned().collect::<Vec<_>>().join(", ");
        let what = format!("there is no weight {name} among the {} that are there ({some}, …)", self.slots.len());
        Error::file(place, what, "check that config.json belongs to these weights, and that all of them are there")
    }

    /// The first file of the checkpoint, for messages about all of it.
    fn place(&self) -> &Path {
        self.shards.first().map_or(self.dir.as_path(), |s| s.path.as_path())
    }

    /// How the checkpoint is quantized, if it is.
    fn quantization(&self) -> Option<String> {
        recognise::quantization(&self.config, &self.dir, self.slots.keys().map(String::as_str))
    }

    /// The error for a quantized checkpoint in which `name` is no plain array.
    fn quantized(&self, how: &str, name: &str) -> Error {
        let what =
            format!("the checkpoint is quantized ({how}), which is not read; {name} does not stand there as numbers");
        Error::file(self.place(), what, "open a version of the model that is not quantized, or a GGUF file of it")
    }

    /// The error for a tensor of a type that is not read.
    fn unread(&self, name: &str, slot: &Slot, dtype: &str) -> Error {
        let of = self.quantization().map(|q| format!(" (quantized: {q})")).unwrap_or_default();
        let what = format!("tensor {name} is stored as {dtype}{of}, which is not read");
        let remedy = match self.gguf {
            Some(_) => "open another quantization of the model, such as Q8_0 or Q4_K_M",
            None => "open a version of the model in f32, f16 or bf16, or a GGUF file of it",
        };
        Error::file(&self.shards[slot.shard].path, what, remedy)
    }

    /// Where the bytes of a tensor are read; counts as a step of whoever loads.
    fn source(&self, slot: &Slot) -> Result<Source<'_>> {
        let len = usize::try_from(slot.end - slot.start).unwrap_or(usize::MAX);
        let read = self.read.fetch_add(len, Ordering::Relaxed);
        let all = self.size_bytes();
        self.ctx.step(read.min(all), all)?;
        Ok(Source { shard: &self.shards[slot.shard], start: slot.start, len })
    }
}

fn damaged(path: &Path, what: String) -> Error {
    Error::file(path, what, "download it again")
}

/// Reads a regular file of at most `max` bytes. Errors name the file; nothing is allocated for a larger one.
pub fn read_bounded(path: &Path, max: u64) -> Result<Vec<u8>> {
    let path = &hub::real(path);
    let meta = std::fs::metadata(path).map_err(|e| recognise::dangling(path).unwrap_or(Error::io(path, e)))?;
    if !meta.is_file() {
        return Err(Error::file(path, "not a regular file", "choose a file"));
    }
    if meta.len() > max {
        return Err(Error::file(
            path,
            format!("{} MB is too much", meta.len() >> 20),
            "check that it is the right file",
        ));
    }
    std::fs::read(path).map_err(|e| Error::io(path, e))
}

/// Reads a JSON side file of bounded size, as Python writes it: NaN and Infinity become words, and a byte order mark is
/// passed over.
pub fn read_json(path: &Path) -> Result<Value> {
    let bytes = read_bounded(path, MAX_JSON_BYTES)?;
    json(&bytes).map_err(|e| {
        recognise::strange(path)
            .unwrap_or_else(|| Error::file(path, format!("not valid JSON: {e}"), "download it again"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::TensorView;

    /// A folder with these tensors and this configuration.
    fn folder(config: &str, tensors: &[(&str, Dtype, &[usize], Vec<u8>)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), config).unwrap();
        let views = tensors.iter().map(|(n, d, s, b)| (n.to_string(), TensorView::new(*d, s.to_vec(), b).unwrap()));
        let bytes = safetensors::serialize(views.collect::<Vec<_>>(), None).unwrap();
        std::fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
        dir
    }

    fn floats(x: &[f32]) -> Vec<u8> {
        x.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn eight_bit_floats_are_multiplied_by_their_scales() {
        let ones = vec![0x38; 9];
        let of = |config: &str, scale: (&str, &[usize], &[f32])| {
            let tensors = [
                ("w", Dtype::F8_E4M3, [3, 3].as_slice(), ones.clone()),
                (scale.0, Dtype::F32, scale.1, floats(scale.2)),
            ];
            let dir = folder(config, &tensors);
            let w = Weights::open(dir.path()).unwrap().get("w", &[3, 3], &Device::Cpu);
            w.map(|w| w.flatten_all().unwrap().to_vec1::<f32>().unwrap())
        };
        let blocks = r#"{"quantization_config": {"quant_method": "fp8", "weight_block_size": [2, 2]}}"#;
        let want = [1., 1., 2., 1., 1., 2., 3., 3., 4.];
        assert_eq!(of(blocks, ("w_scale_inv", &[2, 2], &[1., 2., 3., 4.])).unwrap(), want);
        assert_eq!(of("{}", ("w_scale", &[3, 1], &[1., 2., 3.])).unwrap(), [1., 1., 1., 2., 2., 2., 3., 3., 3.]);
        assert_eq!(of("{}", ("w_scale", &[], &[5.])).unwrap(), [5.; 9]);
        assert!(of(blocks, ("w_scale_inv", &[3, 2], &[1.; 6])).unwrap_err().to_string().contains("do not fit"));
    }

    #[test]
    fn matrices_are_rounded_to_bf16_where_that_is_asked_for_and_nothing_else_is() {
        let values: Vec<f32> = (0..12).map(|i| 0.1 * i as f32 - 0.5).collect();
        let near: Vec<f32> = values.iter().map(|x| half::bf16::from_f32(*x).to_f32()).collect();
        assert!(near != values);
        let tensors =
            [("m", Dtype::F32, [4, 3].as_slice(), floats(&values)), ("v", Dtype::F32, &[12], floats(&values))];
        let dir = folder("{}", &tensors);
        let open = |numbers, hold| Weights::open(dir.path()).unwrap().in_numbers(numbers).holding(hold);
        let read = |w: &Weights| {
            let m = w.table("m", &[4, 3], &Device::Cpu).unwrap().tensor().unwrap().flatten_all().unwrap();
            (m.to_vec1::<f32>().unwrap(), w.get("v", &[12], &Device::Cpu).unwrap().to_vec1::<f32>().unwrap())
        };
        for (numbers, want, bytes) in [(Numbers::F32, &values, 4), (Numbers::Bf16, &near, 2)] {
            let (file, memory) = (open(numbers, Hold::File), open(numbers, Hold::Memory));
            assert_eq!((read(&file), read(&memory)), ((want.clone(), values.clone()), (want.clone(), values.clone())));
            assert_eq!((file.held_bytes(), memory.held_bytes()), (48, 12 * bytes + 48), "{numbers:?}");
            assert_eq!((file.need_bytes(), memory.need_bytes()), (48, 12 * bytes + 48), "{numbers:?}");
        }
        // Other numbers are other weights.
        let names = [Numbers::F32, Numbers::Bf16].map(|n| open(n, Hold::Auto).fingerprint());
        assert_ne!(names[0], names[1]);
        assert_eq!(names[0], Weights::open(dir.path()).unwrap().fingerprint());
    }

    #[test]
    fn what_is_missing_is_explained_by_what_is_there() {
        let of = |config: &str, name: &str| {
            let dir = folder(config, &[(name, Dtype::F32, &[2], floats(&[0.; 2]))]);
            let w = Weights::open(dir.path()).unwrap();
            w.get("model.layers.0.q_proj.weight", &[2], &Device::Cpu).unwrap_err().to_string()
        };
        let awq = r#"{"quantization_config": {"quant_method": "awq", "bits": 4}}"#;
        for (config, name, words) in [
            (awq, "model.layers.0.q_proj.qweight", "quantized (awq, 4 bits)"),
            ("{}", "layers.0.q_proj.weight", "is called layers.0.q_proj.weight here"),
            ("{}", "model.layers.0.q_proj.lora_A.weight", "adapter"),
            ("{}", "other", "there is no weight model.layers.0.q_proj.weight among the 1"),
        ] {
            let said = of(config, name);
            assert!(said.contains(words) && !said.contains("download"), "{said}");
        }
    }
}
