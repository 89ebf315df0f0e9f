//! A trace as one file: safetensors with a JSON header, versioned, so that a run recorded elsewhere opens
//! without the weights.
//!
//! The file's own types live here, so that changing the library's does not change the format, which the front page of
//! the module describes entry by entry.

use super::check::check;
use super::{Entry, Key, Rows, Site, Spill, Tower, TowerTrace, Trace};
use crate::array::Array;
use crate::ctx::Ctx;
use crate::image::{ImageInput, Picture};
use crate::save::save;
use crate::{Error, Result};
use safetensors::tensor::{Dtype, Metadata, TensorInfo, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;

/// Version of the format; readers refuse newer ones. 2 added token types, decode steps and rules that name keys.
const VERSION: u32 = 2;
const KEY: &str = "tokenscope_trace";
/// The tensor of the picture, u8 `[height, width, 3]`.
const PICTURE: &str = "picture";
/// The tensor of the pixels as the model read them.
const PIXELS: &str = "pixel_values";
/// Traces larger than this are not read, in bytes.
const MAX_BYTES: u64 = 64 << 30;
/// The same of their headers, as safetensors itself has it.
const MAX_HEADER: u64 = 100_000_000;
/// What helps with a damaged file.
const HELP: &str = "record the trace again";

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
    #[serde(default)]
    token_types: Option<Vec<u32>>,
    logit_rows: Vec<usize>,
    continuation: Vec<u32>,
    continuation_text: String,
    notes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dtype: Option<String>,
    /// Left, top, width and height of several pictures on the one that is kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    parts: Vec<[usize; 4]>,
}

#[derive(Serialize, Deserialize)]
struct ArrayHeader {
    /// Which pass: 0 read the prompt.
    #[serde(default)]
    step: usize,
    tower: Tower,
    tile: usize,
    layer: usize,
    site: Site,
    rows: usize,
}

impl ArrayHeader {
    fn name(&self) -> String {
        let tower = if self.tower == Tower::Text { "text" } else { "vision" };
        let step = if self.step == 0 { String::new() } else { format!("step{}.", self.step) };
        format!("{step}{tower}.{}.{}.{}", self.tile, self.layer, self.site.name())
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
    save(path, |fresh| safetensors::serialize_to_file(views, metadata, fresh).map_err(std::io::Error::other))
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
    let passes = std::iter::once(&trace.arrays).chain(&trace.steps);
    let all = passes.enumerate().flat_map(|(step, arrays)| arrays.iter().map(move |(key, entry)| (step, key, entry)));
    for (step, key, entry) in all {
        let index = rows.iter().position(|r| r == entry.rows.as_ref()).unwrap_or_else(|| {
            rows.push(entry.rows.as_ref().clone());
            rows.len() - 1
        });
        let header =
            ArrayHeader { step, tower: key.tower, tile: key.tile, layer: key.layer, site: key.site, rows: index };
        tensors.push((header.name(), Dtype::F32, entry.array.shape().to_vec(), bytes(&entry.array)));
        arrays.push(header);
    }
    for (name, a) in &trace.extras {
        tensors.push((format!("extra.{name}"), Dtype::F32, a.shape().to_vec(), bytes(a)));
    }
    // What the model read of the picture, so that the run can be repeated.
    let pixels = trace.image.as_ref().map(ImageInput::to_arrays).transpose()?.flatten();
    if let Some((pixels, beside)) = &pixels {
        tensors.push((PIXELS.into(), Dtype::F32, pixels.shape().to_vec(), bytes(pixels)));
        for (name, values) in beside {
            tensors.push((name.to_string(), Dtype::I64, vec![values.len()], bytemuck::cast_slice(values)));
        }
    }
    if let Some(p) = &trace.picture {
        tensors.push((PICTURE.into(), Dtype::U8, vec![p.height, p.width, 3], &p.rgb));
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
        token_types: trace.token_types.clone(),
        logit_rows: trace.logit_rows.clone(),
        continuation: trace.continuation.clone(),
        continuation_text: trace.continuation_text.clone(),
        notes: trace.notes.clone(),
        dtype: trace.dtype.clone(),
        parts: trace.picture.as_ref().map(|p| p.parts.clone()).unwrap_or_default(),
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

/// Reads a trace that [`write_trace`] wrote. Its arrays are read one by one, so that the file is never held beside
/// them.
///
/// Errors: name the file and what is wrong with it; [`Error::Memory`] where its arrays have no room.
pub fn read_trace(path: &Path, ctx: &Ctx) -> Result<Trace> {
    let (mut file, header) = opened(path)?;
    let size = file.tensors.values().map(|t| t.data_offsets.1 - t.data_offsets.0).sum::<usize>();
    if let Err(full) = ctx.fits(size as u64, "record fewer sites or layers") {
        let Some(folder) = ctx.spill() else { return Err(full) };
        // The trace itself is not mapped: whoever shortens it meanwhile would end the program.
        file.spill = Some(Spill::new(folder)?);
        let said = format!(
            "memory has no room for this trace's {} MB; they lie in a file in {}, which goes with the run, and are read \
             as they are looked at",
            (size >> 20).max(1),
            folder.display()
        );
        ctx.note(said);
    }
    let parts = header.parts.clone();
    let (mut trace, rows, arrays, extras) = header.split();
    let rows: Vec<Arc<Rows>> = rows.into_iter().map(Arc::new).collect();
    let n = arrays.len();
    for (i, h) in arrays.into_iter().enumerate() {
        ctx.step(i, n)?;
        let array = file.read(&h.name())?;
        let map = rows.get(h.rows).ok_or_else(|| file.bad(format!("{} has no row map", h.name())))?;
        let fits = h.site.row_axis().is_none_or(|axis| array.shape().get(axis) == Some(&map.len()));
        if !fits || array.rank() != h.site.axes().len() || map.tokens.len() != map.positions.len() {
            return Err(file.bad(format!("{} does not fit its row map", h.name())));
        }
        let key = Key { tower: h.tower, tile: h.tile, layer: h.layer, site: h.site };
        let arrays = match h.step.checked_sub(1) {
            None => &mut trace.arrays,
            Some(step) if step < n => {
                trace.steps.resize_with(trace.steps.len().max(step + 1), BTreeMap::new);
                &mut trace.steps[step]
            }
            Some(step) => return Err(file.bad(format!("step {} of {n} arrays", step + 1))),
        };
        arrays.insert(key, Entry { array: Arc::new(array), rows: map.clone() });
    }
    for name in extras {
        let array = file.read(&format!("extra.{name}"))?;
        trace.extras.insert(name, array);
    }
    if file.tensors.contains_key(PICTURE) {
        trace.picture = Some(Arc::new(file.picture(parts)?));
    }
    check(&trace).map_err(|what| file.bad(what))?;
    Ok(trace)
}

/// What [`read_trace`] reads but for arrays and picture: text, tokens, towers, notes. Errors: the same.
pub fn read_outline(path: &Path) -> Result<Trace> {
    let (file, header) = opened(path)?;
    let trace = header.split().0;
    check(&trace).map_err(|what| file.bad(what))?;
    Ok(trace)
}

fn opened(path: &Path) -> Result<(TensorFile<'_>, Header)> {
    let mut file = TensorFile::open(path)?;
    let text = file.text.take();
    let header: Header =
        serde_json::from_str(&text.unwrap_or_default()).map_err(|e| file.bad(format!("damaged trace header: {e}")))?;
    if header.version > VERSION {
        return Err(Error::file(path, format!("trace format {}", header.version), "open it with a newer Tokenscope"));
    }
    Ok((file, header))
}

impl Header {
    /// The trace without what stands in tensors; row maps, arrays, extras.
    fn split(self) -> (Trace, Vec<Rows>, Vec<ArrayHeader>, Vec<String>) {
        let trace = Trace {
            model: self.model,
            architecture: self.architecture,
            fingerprint: self.fingerprint,
            text: self.text,
            image_size: self.image_size,
            towers: self.towers,
            token_types: self.token_types,
            logit_rows: self.logit_rows,
            continuation: self.continuation,
            continuation_text: self.continuation_text,
            notes: self.notes,
            dtype: self.dtype,
            ..Trace::default()
        };
        (trace, self.rows, self.arrays, self.extras)
    }
}

/// A tensor of any safetensors file.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Its values; whole numbers are kept as such up to 2²⁴.
    pub array: Array,
    /// Whether they are whole numbers.
    pub whole: bool,
}

/// The tensors of a safetensors file whose names are `wanted`, of a trace or of anything else. Those of types that hold
/// neither numbers nor room for them are left out.
///
/// Errors: as [`read_trace`].
pub fn read_tensors(path: &Path, wanted: impl Fn(&str) -> bool, ctx: &Ctx) -> Result<BTreeMap<String, Stored>> {
    let mut file = TensorFile::of(path)?;
    file.tensors.retain(|name, _| wanted(name));
    let sizes = file.tensors.values().map(|t| t.shape.iter().product::<usize>() as u64);
    ctx.fits(4 * sizes.sum::<u64>(), "close other programs, or compare with a shorter run")?;
    let names: Vec<String> = file.tensors.keys().cloned().collect();
    let n = names.len();
    let mut out = BTreeMap::new();
    for (i, name) in names.into_iter().enumerate() {
        ctx.step(i, n)?;
        out.extend(file.stored(&name)?.map(|t| (name, t)));
    }
    Ok(out)
}

/// An open safetensors file, of which nothing but the header is in memory.
struct TensorFile<'p> {
    path: &'p Path,
    file: std::fs::File,
    /// Where the tensors begin.
    start: u64,
    tensors: HashMap<String, TensorInfo>,
    /// The trace's own header.
    text: Option<String>,
    /// Where arrays go, if not into memory.
    spill: Option<Spill>,
}

impl<'p> TensorFile<'p> {
    /// A trace.
    fn open(path: &'p Path) -> Result<Self> {
        let file = Self::of(path)?;
        match file.text {
            Some(_) => Ok(file),
            None => Err(file.bad("a safetensors file, but not a trace of this program".into())),
        }
    }

    /// Any safetensors file.
    fn of(path: &'p Path) -> Result<Self> {
        let bad = |what: String| Error::file(path, what, HELP);
        let meta = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
        if !meta.is_file() || meta.len() > MAX_BYTES {
            return Err(bad("not a trace file of sensible size".into()));
        }
        let mut file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
        let damaged = |e: &dyn std::fmt::Display| bad(format!("damaged safetensors: {e}"));
        let mut first = [0; 8];
        file.read_exact(&mut first).map_err(|e| damaged(&e))?;
        let len = u64::from_le_bytes(first);
        if len > MAX_HEADER.min(meta.len() - 8) {
            return Err(damaged(&format!("a header of {len} bytes")));
        }
        let mut head = vec![0; len as usize];
        file.read_exact(&mut head).map_err(|e| damaged(&e))?;
        // Reading it checks that tensors follow each other and are as long as their shapes say.
        let metadata: Metadata = serde_json::from_slice(&head).map_err(|e| damaged(&e))?;
        let text = metadata.metadata().as_ref().and_then(|m| m.get(KEY)).cloned();
        let end = metadata.tensors().values().map(|t| t.data_offsets.1).max().unwrap_or(0);
        if 8 + len + end as u64 != meta.len() {
            return Err(damaged(&"the file is shorter or longer than its header says"));
        }
        let tensors = metadata.tensors().into_iter().map(|(name, t)| (name, t.clone())).collect();
        Ok(Self { path, file, start: 8 + len, tensors, text, spill: None })
    }

    fn bad(&self, what: String) -> Error {
        Error::file(self.path, what, HELP)
    }

    /// The f32 tensor of that name.
    fn read(&mut self, name: &str) -> Result<Array> {
        let info = self.tensors.get(name).ok_or_else(|| self.bad(format!("tensor {name} is not there")))?;
        if info.dtype != Dtype::F32 {
            return Err(self.bad(format!("tensor {name} is {:?}, not F32", info.dtype)));
        }
        let (from, to) = info.data_offsets;
        let mut values = vec![0f32; (to - from) / 4];
        let read = self.file.seek(SeekFrom::Start(self.start + from as u64));
        read.and_then(|_| self.file.read_exact(bytemuck::cast_slice_mut(&mut values)))
            .map_err(|e| Error::io(self.path, e))?;
        let array = Array::new(info.shape.clone(), values)?;
        match &mut self.spill {
            Some(spill) => spill.keep(array),
            None => Ok(array),
        }
    }

    /// The bytes of a tensor, and what they are.
    fn bytes(&mut self, name: &str) -> Result<(TensorInfo, Vec<u8>)> {
        let info = self.tensors.get(name).ok_or_else(|| self.bad(format!("tensor {name} is not there")))?.clone();
        let (from, to) = info.data_offsets;
        let mut bytes = vec![0; to - from];
        let read = self.file.seek(SeekFrom::Start(self.start + from as u64));
        read.and_then(|_| self.file.read_exact(&mut bytes)).map_err(|e| Error::io(self.path, e))?;
        Ok((info, bytes))
    }

    /// The picture, on which several may lie as `parts`.
    fn picture(&mut self, parts: Vec<[usize; 4]>) -> Result<Picture> {
        let (info, bytes) = self.bytes(PICTURE)?;
        match info.shape[..] {
            [height, width, 3] if info.dtype == Dtype::U8 => {
                let inside = |&[x, y, w, h]: &[usize; 4]| {
                    let fits =
                        |at: usize, len: usize, all: usize| len > 0 && at.checked_add(len).is_some_and(|e| e <= all);
                    fits(x, w, width) && fits(y, h, height)
                };
                if !parts.iter().all(inside) {
                    return Err(self.bad("a picture lies outside of those that it stands beside".into()));
                }
                let picture = Picture::new(width, height, bytes).map_err(|e| self.bad(e.to_string()))?;
                Ok(Picture { parts, ..picture })
            }
            _ => Err(self.bad(format!("the picture is {:?} {:?}, not U8 [height, width, 3]", info.dtype, info.shape))),
        }
    }

    /// A tensor of any type of numbers; `None` for others.
    fn stored(&mut self, name: &str) -> Result<Option<Stored>> {
        let (info, bytes) = self.bytes(name)?;
        let (values, whole): (Vec<f32>, bool) = match info.dtype {
            Dtype::F32 => (bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(), false),
            Dtype::F64 => (bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(), false),
            Dtype::F16 => (bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(), false),
            Dtype::BF16 => {
                (bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect(), false)
            }
            Dtype::I64 => (bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f32).collect(), true),
            Dtype::I32 => (bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b) as f32).collect(), true),
            Dtype::U8 => (bytes.iter().map(|b| f32::from(*b)).collect(), true),
            _ => return Ok(None),
        };
        Ok(Some(Stored { array: Array::new(info.shape, values)?, whole }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::tiny;
    use crate::run::{RunRequest, run};
    use crate::trace::CaptureSpec;

    fn recorded() -> Trace {
        let ids = Some(vec![3, 1, 4, 15, 9]);
        let token_types = Some(vec![0, 0, 0, 1, 1]);
        let request = RunRequest { ids, token_types, greedy: 3, ..RunRequest::default() };
        let spec = CaptureSpec { steps: true, ..CaptureSpec::all() };
        run(tiny().as_ref(), None, &request, &spec, &Ctx::default()).unwrap()
    }

    /// The file with another header of the trace.
    fn with_header(path: &Path, change: impl Fn(&str) -> String) {
        let data = std::fs::read(path).unwrap();
        let (_, metadata) = safetensors::SafeTensors::read_metadata(&data).unwrap();
        let text = change(&metadata.metadata().as_ref().unwrap()[KEY]);
        let file = safetensors::SafeTensors::deserialize(&data).unwrap();
        let tensors = file.tensors();
        let tensors: Vec<_> =
            tensors.iter().map(|(n, t)| (n.clone(), t.dtype(), t.shape().to_vec(), t.data())).collect();
        write_tensors(path, &tensors, Some(HashMap::from([(KEY.to_string(), text)]))).unwrap();
    }

    #[test]
    fn token_types_and_decode_steps_come_back() {
        let trace = recorded();
        let file = tempfile::NamedTempFile::new().unwrap();
        write_trace(&trace, file.path()).unwrap();
        let back = read_trace(file.path(), &Ctx::default()).unwrap();
        assert_eq!(back.token_types, Some(vec![0, 0, 0, 1, 1]));
        assert_eq!((back.arrays, back.steps.len(), back.steps), (trace.arrays, 2, trace.steps));
    }

    #[test]
    fn a_file_of_the_first_version_opens() {
        let trace = Trace { steps: Vec::new(), token_types: None, ..recorded() };
        let file = tempfile::NamedTempFile::new().unwrap();
        write_trace(&trace, file.path()).unwrap();
        with_header(file.path(), |h| {
            let old = h.replace("\"version\":2", "\"version\":1").replace("\"token_types\":null,", "");
            old.replace("\"step\":0,", "")
        });
        let back = read_trace(file.path(), &Ctx::default()).unwrap();
        assert_eq!((back.arrays, back.token_types), (trace.arrays, None));
        with_header(file.path(), |h| h.replace("\"version\":1", "\"version\":3"));
        let error = read_trace(file.path(), &Ctx::default()).unwrap_err();
        assert!(error.to_string().contains("newer"), "{error}");
    }

    #[test]
    fn picture_and_type_come_back_and_the_outline_holds_no_arrays() {
        let one = |by: u8| Picture::new(2, 1, vec![by, 2, 3, 4, 5, 6]).unwrap();
        let picture = Picture::beside(&[one(1), one(7)]).unwrap();
        assert_eq!(picture.parts.len(), 2);
        let shape = [picture.height, picture.width, 3];
        let trace = Trace { picture: Some(Arc::new(picture)), dtype: Some("bfloat16".into()), ..recorded() };
        let file = tempfile::NamedTempFile::new().unwrap();
        write_trace(&trace, file.path()).unwrap();
        let back = read_trace(file.path(), &Ctx::default()).unwrap();
        assert_eq!((&back.picture, &back.dtype), (&trace.picture, &trace.dtype));
        let outline = read_outline(file.path()).unwrap();
        assert_eq!((outline.towers, outline.arrays.len(), outline.picture), (trace.towers.clone(), 0, None));
        let tensors = read_tensors(file.path(), |_| true, &Ctx::default()).unwrap();
        assert_eq!((tensors["picture"].array.shape(), tensors["picture"].whole), (&shape[..], true));
        assert_eq!(tensors.len(), back.arrays.len() + back.steps.iter().map(BTreeMap::len).sum::<usize>() + 2);
        // A header that contradicts itself is refused.
        with_header(file.path(), |h| h.replace("\"n_tiles\":1", "\"n_tiles\":99999999"));
        let error = read_trace(file.path(), &Ctx::default()).unwrap_err();
        assert!(error.to_string().contains("99999999 tiles"), "{error}");
    }

    #[test]
    fn a_trace_that_does_not_fit_is_refused_before_it_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        write_trace(&recorded(), file.path()).unwrap();
        let full = Ctx::default().with_room(|| 1000);
        let error = read_trace(file.path(), &full).unwrap_err();
        assert!(matches!(error, Error::Memory { .. }), "{error}");
        // Where arrays may lie in a file, they do.
        let spilling = full.spilling_to(file.path().parent().unwrap());
        let back = read_trace(file.path(), &spilling).unwrap();
        let own = read_trace(file.path(), &Ctx::default()).unwrap();
        assert_eq!((&back.arrays, &back.towers, &back.extras), (&own.arrays, &own.towers, &own.extras));
        assert!(back.arrays.values().all(|e| e.array.own_bytes() == 0) && back.size_bytes() > 0);
        assert!(spilling.notes()[0].contains("read as they are looked at"), "{:?}", spilling.notes());
    }

    #[test]
    fn a_file_that_is_cut_or_lies_is_named_and_nothing_is_made_for_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        write_trace(&recorded(), file.path()).unwrap();
        let whole = std::fs::read(file.path()).unwrap();
        let mut long = whole.clone();
        long[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        for bytes in [&whole[..whole.len() - 5], &whole[..4], &long, &[]] {
            std::fs::write(file.path(), bytes).unwrap();
            let error = read_trace(file.path(), &Ctx::default()).unwrap_err();
            assert!(error.to_string().contains("damaged"), "{error}");
        }
    }
}
