//! GGUF files as checkpoints: whose tensors and what of them each one holds, and in which order rows lie.

use super::arch::{self, Change};
use super::convert::{Form, Source};
use super::gguf;
use super::shard::Shard;
use super::{Slot, Stored, Weights, damaged};
use crate::ctx::Ctx;
use crate::{Error, Result};
use serde_json::Map;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Experts of a layer that are told apart.
const MAX_EXPERTS: usize = 4096;

impl Weights {
    /// Opens the files of one GGUF model; the first holds the metadata.
    pub(super) fn open_gguf(files: &[PathBuf]) -> Result<Self> {
        let first = &files[0];
        let name = first.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let mut out = Self::empty(name, Map::new());
        out.dir = first.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf();
        out.gguf = Some(first.clone());
        let mut whole: Option<gguf::Header> = None;
        let mut factors = arch::Factors::new();
        for (i, path) in files.iter().enumerate() {
            let shard = Shard::open(path)?;
            let header = gguf::header(&shard)?;
            header.check_extents(path, shard.len)?;
            let about = whole.as_ref().unwrap_or(&header);
            for t in &header.tensors {
                if arch::is_factor(&t.name) {
                    let len = usize::try_from(t.end - t.start).unwrap_or(0);
                    let source = Source { shard: &shard, start: t.start, len };
                    if let Some(form) = Form::ggml(t.dtype) {
                        factors.insert(t.name.clone(), form.values(source, &Ctx::default())?.into());
                    }
                    continue;
                }
                let (own, change) = arch::tensor(about, &t.name);
                let mut shape = t.shape.clone();
                match change {
                    Change::Turned => shape.reverse(),
                    Change::Without(axis) if shape.len() == axis + 1 => shape.insert(axis, 1),
                    Change::Cut | Change::Fade { vector: true } => shape = vec![shape.iter().product()],
                    _ => {}
                }
                let stored = Stored::Ggml { dtype: t.dtype, change };
                let slot = |shape: &[usize], start: u64, end: u64| Slot {
                    shard: i,
                    dtype: stored,
                    shape: shape.to_vec(),
                    start,
                    end,
                };
                let mut slots = Vec::new();
                match (own.split_once(arch::EACH), shape.split_first()) {
                    // Experts lie one behind the other, each of whole blocks.
                    (Some((before, after)), Some((&n, one))) if one.len() == 2 && n <= MAX_EXPERTS => {
                        let size = (t.end - t.start) / n as u64;
                        for e in 0..n {
                            let start = t.start + e as u64 * size;
                            slots.push((format!("{before}.{e}.{after}"), slot(one, start, start + size)));
                        }
                    }
                    // Several next to each other, each of whole rows.
                    (None, Some((&n, rest))) if own.contains(arch::JOINED) => {
                        let parts = own.split(arch::JOINED).count();
                        let rows: Vec<usize> = std::iter::once(n / parts).chain(rest.iter().copied()).collect();
                        let size = (t.end - t.start) / parts as u64;
                        for (i, own) in own.split(arch::JOINED).enumerate().filter(|_| n.is_multiple_of(parts)) {
                            let start = t.start + i as u64 * size;
                            slots.push((own.to_string(), slot(&rows, start, start + size)));
                        }
                    }
                    _ => slots.push((own, slot(&shape, t.start, t.end))),
                }
                for (own, slot) in slots {
                    if out.slots.insert(own, slot).is_some() {
                        return Err(damaged(path, format!("tensor {} stands in two files of the set", t.name)));
                    }
                }
            }
            match &mut whole {
                None => whole = Some(header),
                Some(whole) => whole.tensors.extend(header.tensors),
            }
            out.shards.push(Arc::new(shard));
        }
        if let Some(header) = whole {
            out.config = arch::config(&header, first, &factors)?;
        }
        Ok(out)
    }
}

/// Name and header of a GGUF file, for its vocabulary; of a set, those of its first file.
pub(crate) fn read_gguf(path: &Path) -> Result<(String, gguf::Header)> {
    let shard = Shard::open(path)?;
    let mut header = gguf::header(&shard)?;
    let mut first = path.to_path_buf();
    if header.part().is_some_and(|p| p.0 > 0) {
        first = gguf::set(path)?.swap_remove(0);
        header = gguf::header(&Shard::open(&first)?)?;
    }
    let name = first.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    Ok((name, header))
}

/// The order in which rows of the file are those of the checkpoint, where it is another one: of interleaved rows (first
/// half and second half of a head in turn) halves one after another; of rows by their kind those of a head together.
pub(super) fn order(name: &str, rows: usize, change: Change) -> Result<Option<Vec<u32>>> {
    let (heads, parts) = match change {
        Change::Interleaved(heads) => (heads, 2),
        Change::ByKind(heads) => (heads, 3),
        _ => return Ok(None),
    };
    let each = heads.checked_mul(parts).filter(|n| *n > 0 && rows.is_multiple_of(*n)).map(|n| rows / n);
    let Some(each) = each else {
        let what = format!("{rows} rows do not divide into {parts} parts of {heads} heads");
        return Err(Error::Weight { name: name.to_string(), what });
    };
    // Row `i` of part `p` of head `h`.
    let place = |r: usize| {
        let (h, p, i) = (r / (parts * each), r / each % parts, r % each);
        let at = match change {
            Change::Interleaved(_) => h * parts * each + parts * i + p,
            _ => (p * heads + h) * each + i,
        };
        at as u32
    };
    Ok(Some((0..rows).map(place).collect()))
}
