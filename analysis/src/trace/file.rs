//! A trace as one file: safetensors with a JSON header, versioned, so that a run recorded elsewhere opens
//! without the weights.
//!
//! The file's own types live here, so that changing the library's does not change the format.

use super::{Entry, Key, Rows, Site, Tower, TowerTrace, Trace};
use crate::array::Array;
use crate::{Error, Result};
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

/// Version of the format; readers refuse newer ones.
const VERSION: u32 = 1;
const KEY: &str = "tokenscope_trace";
/// Traces larger than this are not read, in bytes.
const MAX_BYTES: u64 = 64 << 30;

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    model: String,
    architecture: String,
    fingerprint: String,
    text: String,
    image_size: Option<(u32, u32)>,
    towers: BTreeMap<Tower, TowerTrace>,
    /// Row maps, shared by arrays; an array names its own by index.
    rows: Vec<Rows>,
    arrays: Vec<ArrayHeader>,
    extras: Vec<String>,
    logit_rows: Vec<usize>,
    continuation: Vec<u32>,
    continuation_text: String,
    notes: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct ArrayHeader {
    tower: Tower,
    tile: usize,
    layer: usize,
    site: Site,
    rows: usize,
}

impl ArrayHeader {
    fn name(&self) -> String {
        let tower = if self.tower == Tower::Text { "text" } else { "vision" };
        format!("{tower}.{}.{}.{}", self.tile, self.layer, self.site.name())
    }
}

/// Writes named tensors and text metadata as safetensors. Used for traces and for exports to Python.
pub fn write_tensors(
    path: &Path,
    tensors: &[(String, Dtype, Vec<usize>, &[u8])],
    metadata: Option<HashMap<String, String>>,
) -> Result<()> {
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, data)| {
            let view = TensorView::new(*dtype, shape.clone(), data)
                .map_err(|e| Error::invalid(format!("tensor {name}: {e}")))?;
            Ok((name.clone(), view))
        })
        .collect::<Result<Vec<_>>>()?;
    safetensors::serialize_to_file(views, metadata, path)
        .map_err(|e| Error::file(path, format!("cannot be written: {e}"), "check the folder and the free space"))
}

const _: () =
    assert!(cfg!(target_endian = "little"), "safetensors are little-endian, and arrays are written as they lie");

/// The values as they lie in memory.
fn bytes(a: &Array) -> &[u8] {
    bytemuck::cast_slice(a.data())
}

/// Writes `trace` to `path`.
pub fn write_trace(trace: &Trace, path: &Path) -> Result<()> {
    let mut rows: Vec<Rows> = Vec::new();
    let mut arrays = Vec::new();
    let mut tensors = Vec::new();
    for (key, entry) in &trace.arrays {
        let index = rows.iter().position(|r| r == entry.rows.as_ref()).unwrap_or_else(|| {
            rows.push(entry.rows.as_ref().clone());
            rows.len() - 1
        });
        let header = ArrayHeader { tower: key.tower, tile: key.tile, layer: key.layer, site: key.site, rows: index };
        tensors.push((header.name(), Dtype::F32, entry.array.shape().to_vec(), bytes(&entry.array)));
        arrays.push(header);
    }
    for (name, a) in &trace.extras {
        tensors.push((format!("extra.{name}"), Dtype::F32, a.shape().to_vec(), bytes(a)));
    }
    let header = Header {
        version: VERSION,
        model: trace.model.clone(),
        architecture: trace.architecture.clone(),
        fingerprint: trace.fingerprint.clone(),
        text: trace.text.clone(),
        image_size: trace.image_size,
        towers: trace.towers.clone(),
        rows,
        arrays,
        extras: trace.extras.keys().cloned().collect(),
        logit_rows: trace.logit_rows.clone(),
        continuation: trace.continuation.clone(),
        continuation_text: trace.continuation_text.clone(),
        notes: trace.notes.clone(),
    };
    let text =
        serde_json::to_string(&header).map_err(|e| Error::invalid(format!("the trace has no JSON form: {e}")))?;
    write_tensors(path, &tensors, Some(HashMap::from([(KEY.to_string(), text)])))
}

/// Whether `path` is a file that [`write_trace`] wrote, by its first bytes. Anything unreadable is not.
pub fn is_trace(path: &Path) -> bool {
    // A FIFO would block the open.
    if !std::fs::metadata(path).is_ok_and(|m| m.is_file()) {
        return false;
    }
    let mut start = Vec::new();
    let read = std::fs::File::open(path).and_then(|f| f.take(256).read_to_end(&mut start));
    read.is_ok() && start.windows(KEY.len()).any(|w| w == KEY.as_bytes())
}

/// Reads a trace that [`write_trace`] wrote. Errors name the file and what is wrong with it.
pub fn read_trace(path: &Path) -> Result<Trace> {
    let bad = |what: String| Error::file(path, what, "record the trace again");
    let meta = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    if !meta.is_file() || meta.len() > MAX_BYTES {
        return Err(bad("not a trace file of sensible size".into()));
    }
    let data = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let damaged = |e| bad(format!("damaged safetensors: {e}"));
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&data).map_err(damaged)?;
    let file = safetensors::SafeTensors::deserialize(&data).map_err(damaged)?;
    let text = metadata.metadata().as_ref().and_then(|m| m.get(KEY));
    let text = text.ok_or_else(|| bad("a safetensors file, but not a trace of this program".into()))?;
    let header: Header = serde_json::from_str(text).map_err(|e| bad(format!("damaged trace header: {e}")))?;
    if header.version > VERSION {
        return Err(Error::file(path, format!("trace format {}", header.version), "open it with a newer Tokenscope"));
    }
    let read = |name: &str| -> Result<Array> {
        let view = file.tensor(name).map_err(|e| bad(format!("tensor {name}: {e}")))?;
        if view.dtype() != Dtype::F32 {
            return Err(bad(format!("tensor {name} is {:?}, not F32", view.dtype())));
        }
        let values = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        Array::new(view.shape().to_vec(), values)
    };
    let rows: Vec<Arc<Rows>> = header.rows.into_iter().map(Arc::new).collect();
    let mut trace = Trace {
        model: header.model,
        architecture: header.architecture,
        fingerprint: header.fingerprint,
        text: header.text,
        image_size: header.image_size,
        towers: header.towers,
        logit_rows: header.logit_rows,
        continuation: header.continuation,
        continuation_text: header.continuation_text,
        notes: header.notes,
        ..Trace::default()
    };
    for h in header.arrays {
        let array = read(&h.name())?;
        let map = rows.get(h.rows).ok_or_else(|| bad(format!("{} has no row map", h.name())))?;
        // The axis that counts rows: heads come first in q, k, v and z.
        let axis = usize::from(matches!(h.site, Site::Q | Site::K | Site::V | Site::Z));
        let fits = h.site == Site::Logits || array.shape().get(axis) == Some(&map.len());
        if !fits || map.tokens.len() != map.positions.len() {
            return Err(bad(format!("{} does not fit its row map", h.name())));
        }
        let key = Key { tower: h.tower, tile: h.tile, layer: h.layer, site: h.site };
        trace.arrays.insert(key, Entry { array: Arc::new(array), rows: map.clone() });
    }
    for name in header.extras {
        let array = read(&format!("extra.{name}"))?;
        trace.extras.insert(name, array);
    }
    Ok(trace)
}
