//! Checkpoints: a name → tensor look-up over Hugging Face folders, their cache layout, and GGUF files.
//!
//! Files are memory-mapped and hostile until parsed: lengths are checked before anything is allocated, shard
//! paths stay inside the folder, and pickles are never opened.

mod convert;
pub(crate) mod gguf;
mod hf_dir;

use crate::ctx::Ctx;
use crate::{Error, Result};
use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Tensor};
use convert::Source;
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// One tensor's place in a shard.
#[derive(Debug, Clone)]
struct Slot {
    shard: usize,
    dtype: Stored,
    shape: Vec<usize>,
    start: usize,
    end: usize,
}

/// How a tensor is stored.
#[derive(Debug, Clone, Copy)]
enum Stored {
    Plain(Dtype),
    /// Blocks of llama.cpp; `heads` where the rows of each head are interleaved.
    Ggml {
        dtype: GgmlDType,
        heads: Option<usize>,
    },
    /// A tensor of [`Weights::from_tensors`], by its place in the list.
    Memory(usize),
}

impl Stored {
    /// The usual name in small letters, e.g. `bf16` or `q8_0`.
    fn name(self) -> String {
        match self {
            Stored::Plain(d) => format!("{d:?}").to_lowercase(),
            Stored::Memory(_) => "f32".into(),
            Stored::Ggml { dtype, .. } => {
                let name = format!("{dtype:?}").to_lowercase();
                // candle writes q4k where everybody says q4_k.
                if name.ends_with('k') { format!("{}_k", name.trim_end_matches('k')) } else { name }
            }
        }
    }
}

/// A file of the checkpoint. What is converted in blocks is read from the map; plain numbers are read from the file,
/// because pages of a map that was copied would count twice.
struct Shard {
    path: PathBuf,
    map: Mmap,
    #[cfg(unix)]
    file: File,
}

/// An open checkpoint.
pub struct Weights {
    dir: PathBuf,
    name: String,
    gguf: Option<PathBuf>,
    config: Map<String, Value>,
    shards: Vec<Shard>,
    slots: BTreeMap<String, Slot>,
    tensors: Vec<Tensor>,
    /// Progress and cancel of whoever loads, and bytes handed out so far.
    ctx: Ctx,
    read: AtomicUsize,
}

/// The largest JSON side file (config, index) that is read, in bytes.
const MAX_JSON_BYTES: u64 = 64 << 20;

impl Weights {
    /// Opens a model folder, a Hugging Face cache entry (`models--org--name`), a `.safetensors` file with
    /// its `config.json` beside it, or a `.gguf` file (or a folder with one and nothing else to open).
    ///
    /// Errors name the file, what is wrong with it and what to do.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(file) = hf_dir::gguf(path) {
            return Self::open_gguf(&file);
        }
        let found = hf_dir::find(path)?;
        let config = read_json(&found.config)?;
        let Value::Object(config) = config else {
            return Err(Error::file(&found.config, "config.json is not a JSON object", "download the model again"));
        };
        let name = found.dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let mut out = Self {
            dir: found.dir,
            name,
            gguf: None,
            config,
            shards: Vec::new(),
            slots: BTreeMap::new(),
            tensors: Vec::new(),
            ctx: Ctx::default(),
            read: AtomicUsize::new(0),
        };
        for shard in &found.shards {
            out.add_shard(shard)?;
        }
        if let Some(index) = &found.index {
            hf_dir::check_index(index, &found.shards, |name, file| {
                out.slots.get(name).is_some_and(|s| out.shards[s.shard].path.file_name() == Some(file.as_ref()))
            })?;
        }
        Ok(out)
    }

    fn open_gguf(path: &Path) -> Result<Self> {
        let shard = Shard::open(path)?;
        let map = &shard.map;
        let header = gguf::parse(path, map)?;
        let mut slots = BTreeMap::new();
        let mut factors = None;
        for t in &header.tensors {
            let stored = Stored::Ggml { dtype: t.dtype, heads: header.interleaved_heads(&t.name) };
            let slot = Slot { shard: 0, dtype: stored, shape: t.shape.clone(), start: t.start, end: t.end };
            if t.name == "rope_freqs.weight" {
                factors = Some(convert::ggml(t.dtype, &map[t.start..t.end], &Ctx::default())?);
                continue;
            }
            slots.insert(gguf::hf_name(&t.name), slot);
        }
        let config = header.config(path, factors.as_deref())?;
        Ok(Self {
            dir: path.parent().unwrap_or(Path::new(".")).to_path_buf(),
            name: path.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
            gguf: Some(path.to_path_buf()),
            config,
            shards: vec![shard],
            slots,
            tensors: Vec::new(),
            ctx: Ctx::default(),
            read: AtomicUsize::new(0),
        })
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
        let (mut slots, mut list) = (BTreeMap::new(), Vec::new());
        for (key, t) in tensors {
            if t.dtype() != DType::F32 {
                return Err(Error::Weight { name: key, what: format!("{:?} in memory; only f32 is taken", t.dtype()) });
            }
            let (shape, end) = (t.dims().to_vec(), 4 * t.elem_count());
            slots.insert(key, Slot { shard: 0, dtype: Stored::Memory(list.len()), shape, start: 0, end });
            list.push(t);
        }
        let name = name.to_string();
        Ok(Self {
            dir: PathBuf::new(),
            name,
            gguf: None,
            config,
            shards: Vec::new(),
            slots,
            tensors: list,
            ctx: Ctx::default(),
            read: AtomicUsize::new(0),
        })
    }

    fn add_shard(&mut self, path: &Path) -> Result<()> {
        let file = Shard::open(path)?;
        let map = &file.map;
        if map.len() < 8 {
            let size = map.len();
            return Err(damaged(path, format!("the file has {size} bytes and cannot hold a safetensors header")));
        }
        let shard = self.shards.len();
        // The crate checks header length, JSON, offsets, overlaps and coverage before any tensor is touched.
        let parsed = SafeTensors::deserialize(map).map_err(|e| damaged(path, format!("damaged safetensors: {e}")))?;
        let base = map.as_ptr() as usize;
        for (name, view) in parsed.tensors() {
            let start = view.data().as_ptr() as usize - base;
            let slot = Slot {
                shard,
                dtype: Stored::Plain(view.dtype()),
                shape: view.shape().to_vec(),
                start,
                end: start + view.data().len(),
            };
            if self.slots.insert(name.clone(), slot).is_some() {
                return Err(damaged(path, format!("tensor {name} stands in two shards")));
            }
        }
        drop(parsed);
        self.shards.push(file);
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
        self.slots.values().map(|s| s.end - s.start).sum()
    }

    /// The type most values are stored in, e.g. `bf16`.
    pub fn dtype(&self) -> String {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for s in self.slots.values() {
            *counts.entry(s.dtype.name()).or_default() += s.end - s.start;
        }
        counts.into_iter().max_by_key(|(_, n)| *n).map(|(d, _)| d).unwrap_or_default()
    }

    /// A short hash of names, shapes and a sample of the data; equal checkpoints have equal ones.
    pub fn fingerprint(&self) -> String {
        let mut h = DefaultHasher::new();
        for (name, s) in &self.slots {
            let Some(shard) = self.shards.get(s.shard) else {
                // Tensors in memory may change under way; their names and shapes must do.
                (name, &s.shape).hash(&mut h);
                continue;
            };
            let stride = ((s.end - s.start) / 64).max(1);
            (name, &s.shape, s.dtype.name()).hash(&mut h);
            (s.start..s.end).step_by(stride).for_each(|at| shard.byte(at).hash(&mut h));
        }
        format!("{:016x}", h.finish())
    }

    /// The tensor `name` as f32 on `device`. Errors unless it is there with exactly `shape`, or if the load was
    /// cancelled.
    pub fn get(&self, name: &str, shape: &[usize], device: &Device) -> Result<Tensor> {
        let weight = |what: String| Error::Weight { name: name.to_string(), what };
        let slot = self.slots.get(name).ok_or_else(|| {
            weight(format!("missing; the checkpoint is incomplete, download it again: {}", self.dir.display()))
        })?;
        if slot.shape != shape {
            let got = &slot.shape;
            let place = self.shards.get(slot.shard).map_or(self.name.clone(), |s| s.path.display().to_string());
            return Err(weight(format!(
                "config.json asks for shape {shape:?}, the file has {got:?}; they do not belong together: {place}"
            )));
        }
        let values = match slot.dtype {
            Stored::Memory(i) => return Ok(self.tensors[i].to_device(device)?),
            Stored::Plain(d) => convert::plain(d, self.source(slot)?, &self.ctx).ok_or_else(|| {
                weight(format!(
                    "stored as {d:?}; only f64, f32, f16 and bf16 can be read, convert it: {}",
                    self.shards[slot.shard].path.display()
                ))
            })??,
            Stored::Ggml { dtype, .. } => convert::ggml(dtype, self.bytes(slot)?, &self.ctx)?,
        };
        let mut t = Tensor::from_vec(values, shape, &Device::Cpu)?;
        if let Stored::Ggml { heads: Some(h), .. } = slot.dtype {
            t = deinterleave(&t, h).map_err(|e| weight(e.to_string()))?;
        }
        Ok(t.to_device(device)?)
    }

    /// Counts a tensor in a file as a step of whoever loads.
    fn step(&self, slot: &Slot) -> Result<()> {
        let len = slot.end - slot.start;
        let read = self.read.fetch_add(len, Ordering::Relaxed);
        let all = self.size_bytes();
        self.ctx.step(read.min(all), all)
    }

    /// The bytes of a tensor in the mapped file.
    fn bytes(&self, slot: &Slot) -> Result<&[u8]> {
        self.step(slot)?;
        Ok(&self.shards[slot.shard].map[slot.start..slot.end])
    }

    /// Where the bytes of a tensor of plain numbers are read.
    #[cfg(unix)]
    fn source(&self, slot: &Slot) -> Result<Source<'_>> {
        self.step(slot)?;
        let Shard { file, path, .. } = &self.shards[slot.shard];
        Ok(Source::File { file, path, start: slot.start as u64, len: slot.end - slot.start })
    }

    #[cfg(not(unix))]
    fn source(&self, slot: &Slot) -> Result<Source<'_>> {
        self.bytes(slot).map(Source::Bytes)
    }
}

impl Shard {
    fn open(path: &Path) -> Result<Self> {
        let (file, map) = map(path)?;
        #[cfg(not(unix))]
        drop(file);
        Ok(Self {
            path: path.to_path_buf(),
            map,
            #[cfg(unix)]
            file,
        })
    }

    /// One byte, without its neighbours in the map becoming the program's memory. 0 where the file has shrunk.
    fn byte(&self, at: usize) -> u8 {
        let mut byte = [0];
        #[cfg(unix)]
        let _ = std::os::unix::fs::FileExt::read_exact_at(&self.file, &mut byte, at as u64);
        #[cfg(not(unix))]
        byte.copy_from_slice(&self.map[at..=at]);
        byte[0]
    }
}

/// Name and header of a GGUF file, for its vocabulary.
pub(crate) fn read_gguf(path: &Path) -> Result<(String, gguf::Header)> {
    let (_, map) = map(path)?;
    let name = path.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    Ok((name, gguf::parse(path, &map)?))
}

/// Maps a regular file for reading.
fn map(path: &Path) -> Result<(File, Mmap)> {
    let meta = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    if !meta.is_file() {
        return Err(Error::file(path, "not a regular file", "choose a file"));
    }
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    if meta.len() == 0 {
        return Err(damaged(path, "the file is empty".into()));
    }
    #[expect(unsafe_code, reason = "mapping is the only way not to copy gigabytes; the file is opened read-only")]
    let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
    Ok((file, map))
}

/// Rows of each head from interleaved (first half and second half in turn) to halves one after another.
fn deinterleave(t: &Tensor, heads: usize) -> Result<Tensor> {
    let dims = t.dims().to_vec();
    let rows = dims.first().copied().unwrap_or(0);
    if heads == 0 || !rows.is_multiple_of(2 * heads) {
        return Err(Error::invalid(format!("{rows} rows do not divide into halves of {heads} heads")));
    }
    let rest: usize = dims[1..].iter().product();
    let t = t.reshape((heads, rows / heads / 2, 2, rest))?.transpose(1, 2)?.contiguous()?;
    Ok(t.reshape(dims)?)
}

fn damaged(path: &Path, what: String) -> Error {
    Error::file(path, what, "download it again")
}

/// Reads a regular file of at most `max` bytes. Errors name the file; nothing is allocated for a larger one.
pub fn read_bounded(path: &Path, max: u64) -> Result<Vec<u8>> {
    let meta = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
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

/// Reads a JSON side file of bounded size.
pub fn read_json(path: &Path) -> Result<Value> {
    let bytes = read_bounded(path, MAX_JSON_BYTES)?;
    serde_json::from_slice(&bytes).map_err(|e| Error::file(path, format!("not valid JSON: {e}"), "download it again"))
}
