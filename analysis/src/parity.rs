//! How far what a model computes here is from what was computed elsewhere: a stored reference is read, the model runs on
//! the input that it holds, and every tensor of it is compared.

use crate::array::Array;
use crate::ctx::Ctx;
use crate::image::{BESIDE, ImageInput};
use crate::model::{LogitRows, Model};
use crate::names::{Named, to_transformers};
use crate::run::{RunRequest, run};
use crate::token::TokenKind;
use crate::trace::{CaptureSpec, Stored, Tower, Trace, is_trace, read_tensors, read_trace};
use crate::weights::Numbers;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Names that a reference has in the folder of its model.
const INSIDE: [&str; 2] = ["reference.trace", "expected.safetensors"];
/// Tensors that are given to a model and not computed by it, under the names of `transformers`.
pub const INPUTS: &[&str] = &[
    "input_ids",
    "token_type_ids",
    "attention_mask",
    "position_ids",
    "pixel_values",
    "pixel_values_torchvision",
    "pixel_attention_mask",
    "image_grid_thw",
    "image_sizes",
    "image_tiles",
    "spatial_shapes",
    "mm_token_type_ids",
];
/// What a picture is read from, beside what [`BESIDE`] names.
const PIXELS: &str = "pixel_values";
/// What helps with a reference that cannot be used.
const HELP: &str = "record it again: tokenscope recorder > tokenscope_record.py, then python tokenscope_record.py --model \
    DIR --prompt TEXT --out reference.trace";

/// What was computed elsewhere, and from what.
pub struct Reference {
    /// The input.
    request: RunRequest,
    /// What came out, under the names of `transformers`.
    tensors: BTreeMap<String, Stored>,
    /// Type that was computed in, as `float32`.
    pub dtype: String,
}

/// The largest error among the tensors of one kind, as of all attention maps.
#[derive(Debug, Clone, PartialEq)]
pub struct Worst {
    /// What is compared, as `hidden_states`.
    pub kind: String,
    /// Tensors of the kind.
    pub tensors: usize,
    /// Values in them.
    pub values: usize,
    /// The largest distance of two values; infinite where a shape differs or a value is not finite.
    pub error: f64,
    /// The largest value of the reference, of which the error is a share.
    pub scale: f64,
    /// The largest share that counts as equal; whole numbers must be the same.
    pub tolerance: f64,
    /// The tensor of the largest error, and what is wrong with its shape.
    pub at: String,
}

impl Worst {
    /// The error as a share of the largest value.
    pub fn share(&self) -> f64 {
        if self.error == 0.0 { 0.0 } else { self.error / self.scale.max(f64::MIN_POSITIVE) }
    }

    /// Whether it counts as equal.
    pub fn holds(&self) -> bool {
        self.share() <= self.tolerance
    }
}

/// What a comparison found.
#[derive(Debug, Clone, PartialEq)]
pub struct Parity {
    /// By kind, in the order of their names.
    pub kinds: Vec<Worst>,
    /// Tensors of the reference that the program does not compute.
    pub left: Vec<String>,
    /// Type that the reference was computed in.
    pub dtype: String,
}

impl Parity {
    /// Whether something was compared and everything that was counts as equal.
    pub fn holds(&self) -> bool {
        !self.kinds.is_empty() && self.kinds.iter().all(Worst::holds)
    }

    /// The kind that is farthest off, by what it may be.
    pub fn worst(&self) -> Option<&Worst> {
        let far = |w: &Worst| if w.tolerance > 0.0 { w.share() / w.tolerance } else { w.share() };
        self.kinds.iter().max_by(|a, b| far(a).total_cmp(&far(b)))
    }
}

/// The largest share of the largest value by which a tensor may differ, by the type that one of the two was computed in:
/// rounding of that type, many times over.
pub fn tolerance(dtype: &str) -> f64 {
    match dtype {
        "float16" => 1e-2,
        "bfloat16" => 5e-2,
        d if d == Numbers::Bf16.computed() => 5e-2,
        _ => 1e-4,
    }
}

/// The reference that lies in a model's folder (`reference.trace`, `expected.safetensors`) or beside it, called as it
/// is with `.trace` behind.
pub fn beside(model: &Path) -> Option<PathBuf> {
    let there = |p: &PathBuf| p.is_file();
    let inside = INSIDE.iter().map(|name| model.join(name)).find(there);
    let named = |name: std::ffi::OsString| {
        let mut name = name;
        name.push(".trace");
        model.parent().map(|dir| dir.join(name))
    };
    let next = model.file_name().and_then(|n| named(n.into())).filter(there);
    let stem = || model.file_stem().filter(|_| model.is_file()).and_then(|n| named(n.into())).filter(there);
    inside.or(next).or_else(stem)
}

impl Reference {
    /// Reads a trace file, as the recorder or `tokenscope trace` writes it, or tensors under the names of
    /// `transformers`.
    ///
    /// Errors: those of reading; a run that was padded, or that holds neither ids nor pixels.
    pub fn open(path: &Path, ctx: &Ctx) -> Result<Self> {
        let bad = |what: &str| Error::file(path, what, HELP);
        // A trace has tensors of its own, which are read as such.
        let traced = is_trace(path);
        let stored = read_tensors(path, |name| !traced || name == PIXELS || BESIDE.contains(&name), ctx)?;
        let image = stored.get(PIXELS).map(|t| {
            let of = |name: &str| stored.get(name).map(|t| t.array.data());
            ImageInput::of_arrays(&t.array, of).map_err(|e| bad(&e.to_string()))
        });
        let image = image.transpose()?;
        let out = if traced {
            Self::of_trace(&read_trace(path, ctx)?, image, ctx).map_err(|e| match e {
                Error::Invalid(what) => bad(&what),
                e => e,
            })?
        } else {
            Self::of_names(stored, image)
        };
        if out.request.ids.is_none() && out.request.image.is_none() {
            return Err(bad("it holds neither input_ids nor pixel_values, so the run cannot be repeated"));
        }
        Ok(out)
    }

    fn of_trace(trace: &Trace, image: Option<ImageInput>, ctx: &Ctx) -> Result<Self> {
        let tokens = trace.towers.get(&Tower::Text).map_or(&[][..], |t| &t.tokens);
        if tokens.iter().any(|t| t.kind == TokenKind::Padding) {
            return Err(Error::invalid("it was recorded with padding, which changes what is computed"));
        }
        let sees = trace.towers.contains_key(&Tower::Vision);
        if sees && image.is_none() {
            return Err(Error::invalid("it is of a picture and does not hold its pixel values"));
        }
        let ids: Vec<u32> = tokens.iter().filter_map(|t| t.id).collect();
        if ids.len() < tokens.len() {
            return Err(Error::invalid("some of its tokens have no id"));
        }
        let rows = (!trace.logit_rows.is_empty()).then(|| LogitRows::These(trace.logit_rows.clone()));
        let request = RunRequest {
            ids: Some(ids).filter(|ids| !ids.is_empty()),
            token_types: trace.token_types.clone(),
            image,
            logits: rows,
            greedy: trace.continuation.len(),
            ..RunRequest::default()
        };
        let tensors = to_transformers(trace, ctx)?.into_iter().map(|(name, t)| Ok((name, stored(t)?)));
        let dtype = trace.dtype.clone().unwrap_or_else(|| "float32".into());
        Ok(Self { request, tensors: tensors.collect::<Result<_>>()?, dtype })
    }

    fn of_names(stored: BTreeMap<String, Stored>, image: Option<ImageInput>) -> Self {
        let whole = |name: &str| stored.get(name).map(|t| t.array.data().iter().map(|&x| x as u32).collect::<Vec<_>>());
        let request = RunRequest {
            ids: whole("input_ids"),
            token_types: whole("token_type_ids"),
            image,
            logits: Some(LogitRows::All),
            greedy: whole("greedy_ids").map_or(0, |ids| ids.len()),
            ..RunRequest::default()
        };
        Self { request, tensors: stored, dtype: "float32".into() }
    }

    /// What `model` computes of the same input, to compare it with another device in the same numbers. Where somebody
    /// has other numbers than f32, this tells the device from the rounding.
    ///
    /// Errors: those of the run, as a model that does not read such an input; cancelled.
    pub fn again(&self, model: &dyn Model, ctx: &Ctx) -> Result<Self> {
        let mut request = self.request.clone();
        if model.info().vocab == 0 {
            request.logits = None;
        }
        let trace = run(model, None, &request, &CaptureSpec::views(), &ctx.part(0, 2))?;
        let tensors = to_transformers(&trace, &ctx.part(1, 2))?.into_iter().map(|(name, t)| Ok((name, stored(t)?)));
        Ok(Self { tensors: tensors.collect::<Result<_>>()?, dtype: self.dtype.clone(), request })
    }

    /// Runs `model` on the input of the reference and compares what comes out, within `share` of the largest value or
    /// what [`tolerance`] says of the coarser of the two.
    ///
    /// Errors: those of the run, as a model that does not read such an input; cancelled.
    pub fn compare(&self, model: &dyn Model, share: Option<f64>, ctx: &Ctx) -> Result<Parity> {
        let mut request = self.request.clone();
        if model.info().vocab == 0 {
            request.logits = None;
        }
        let spec = CaptureSpec::views();
        let trace = run(model, None, &request, &spec, &ctx.part(0, 2))?;
        let mut got: BTreeMap<String, Named> = to_transformers(&trace, &ctx.part(1, 2))?.into_iter().collect();
        let coarser = || tolerance(&self.dtype).max(tolerance(model.info().numbers.computed()));
        let share = share.unwrap_or_else(coarser);
        let mut kinds: BTreeMap<String, Worst> = BTreeMap::new();
        let mut left = Vec::new();
        for (name, want) in self.tensors.iter().filter(|(name, _)| !INPUTS.contains(&name.as_str())) {
            let Some(got) = got.remove(name) else {
                left.push(name.clone());
                continue;
            };
            let kind = name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('_');
            let tolerance = if want.whole { 0.0 } else { share };
            let fresh = || Worst {
                kind: kind.into(),
                tensors: 0,
                values: 0,
                error: 0.0,
                scale: 0.0,
                tolerance,
                at: name.clone(),
            };
            kinds.entry(kind.into()).or_insert_with(fresh).add(name, &stored(got)?.array, &want.array);
        }
        Ok(Parity { kinds: kinds.into_values().collect(), left, dtype: self.dtype.clone() })
    }
}

impl Worst {
    /// Takes one more tensor in.
    fn add(&mut self, name: &str, got: &Array, want: &Array) {
        self.tensors += 1;
        self.values += want.data().len();
        let finite = want.data().iter().copied().filter(|v| v.is_finite());
        self.scale = finite.fold(self.scale, |m, v| m.max(f64::from(v.abs())));
        let (error, at) = if got.shape() != want.shape() {
            (f64::INFINITY, format!("{name} is {:?}, not {:?}", got.shape(), want.shape()))
        } else {
            (got.data().iter().zip(want.data()).map(|(a, b)| distance(*a, *b)).fold(0.0, f64::max), name.to_string())
        };
        if error > self.error {
            (self.error, self.at) = (error, at);
        }
    }
}

/// A tensor of a run as a file would hold it.
fn stored(named: Named) -> Result<Stored> {
    let whole = |v: Vec<i64>, shape: Vec<usize>| -> Result<Stored> {
        Ok(Stored { array: Array::new(shape, v.into_iter().map(|x| x as f32).collect())?, whole: true })
    };
    match named {
        Named::Float(a) => Ok(Stored { array: Arc::unwrap_or_clone(a), whole: false }),
        Named::Int(v) => {
            let n = v.len();
            whole(v, vec![n])
        }
        Named::Table(v, columns) => {
            let rows = v.len() / columns.max(1);
            whole(v, vec![rows, columns])
        }
    }
}

/// How far two values are apart; those that are equal are, infinities among them, not at all.
fn distance(a: f32, b: f32) -> f64 {
    let d = (f64::from(a) - f64::from(b)).abs();
    if a == b {
        0.0
    } else if d.is_nan() {
        f64::INFINITY
    } else {
        d
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::tiny;
    use crate::trace::{Site, write_trace};

    fn recorded() -> Trace {
        let request =
            RunRequest { ids: Some(vec![3, 1, 4, 15]), logits: Some(LogitRows::All), ..RunRequest::default() };
        run(tiny().as_ref(), None, &request, &CaptureSpec::views(), &Ctx::default()).unwrap()
    }

    fn compared(trace: &Trace, share: Option<f64>) -> Result<Parity> {
        let file = tempfile::NamedTempFile::new().unwrap();
        write_trace(trace, file.path()).unwrap();
        Reference::open(file.path(), &Ctx::default())?.compare(tiny().as_ref(), share, &Ctx::default())
    }

    /// The trace with one value of a site moved by `by`.
    fn moved(site: Site, by: f32) -> Trace {
        let mut trace = recorded();
        let (_, entry) = trace.arrays.iter_mut().find(|(k, _)| k.site == site).unwrap();
        let mut array = entry.array.as_ref().clone();
        array.data_mut()[0] += by;
        entry.array = array.into();
        trace
    }

    #[test]
    fn the_same_run_holds_and_a_moved_value_is_found_where_it_is() {
        let same = compared(&recorded(), None).unwrap();
        assert!(same.holds() && same.kinds.iter().all(|w| w.error == 0.0), "{same:?}");
        let names: Vec<&str> = same.kinds.iter().map(|w| w.kind.as_str()).collect();
        assert!(
            ["attentions", "hidden_states", "k", "logits", "q", "v"].iter().all(|n| names.contains(n)),
            "{names:?}"
        );
        for (site, kind) in [(Site::V, "v"), (Site::Logits, "logits"), (Site::ResidPre, "hidden_states")] {
            let off = compared(&moved(site, 0.5), None).unwrap();
            let bad: Vec<&str> = off.kinds.iter().filter(|w| !w.holds()).map(|w| w.kind.as_str()).collect();
            assert_eq!((off.holds(), &bad[..]), (false, &[kind][..]));
            let worst = off.worst().unwrap();
            assert!((worst.error - 0.5).abs() < 1e-6 && worst.kind == kind, "{worst:?}");
            // What may be as far off holds.
            assert!(compared(&moved(site, 0.5), Some(1e6)).unwrap().holds());
        }
    }

    #[test]
    fn types_round_more_or_less() {
        let mut trace = moved(Site::V, 0.0);
        let scale = f64::from(
            trace
                .arrays
                .iter()
                .filter(|(k, _)| k.site == Site::V)
                .map(|(_, e)| e)
                .fold(0f32, |m, e| e.array.data().iter().fold(m, |m, v| m.max(v.abs()))),
        );
        trace = moved(Site::V, (0.02 * scale) as f32);
        assert!(!compared(&trace, None).unwrap().holds());
        trace.dtype = Some("bfloat16".into());
        assert!(compared(&trace, None).unwrap().holds());
    }

    #[test]
    fn other_shapes_nothing_and_padding_do_not_hold() {
        let mut cut = recorded();
        let (_, entry) = cut.arrays.iter_mut().find(|(k, _)| k.site == Site::Logits).unwrap();
        entry.array = Array::zeros([4, 3]).into();
        let found = compared(&cut, None).unwrap();
        assert!(!found.holds());
        assert!(found.worst().unwrap().at.contains("not [4, 3]"), "{found:?}");
        let mut empty = recorded();
        empty.arrays.clear();
        assert!(!compared(&empty, None).unwrap().holds());
        let mut padded = recorded();
        padded.towers.get_mut(&Tower::Text).unwrap().tokens[3].kind = TokenKind::Padding;
        assert!(compared(&padded, None).err().unwrap().to_string().contains("padding"));
    }

    #[test]
    fn a_reference_is_found_inside_and_beside() {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("gpt2");
        std::fs::create_dir(&model).unwrap();
        assert_eq!(beside(&model), None);
        let next = dir.path().join("gpt2.trace");
        std::fs::write(&next, "").unwrap();
        assert_eq!(beside(&model), Some(next));
        let inside = model.join("reference.trace");
        std::fs::write(&inside, "").unwrap();
        assert_eq!(beside(&model), Some(inside));
        let gguf = dir.path().join("m.gguf");
        std::fs::write(&gguf, "").unwrap();
        assert_eq!(beside(&gguf), None);
        std::fs::write(dir.path().join("m.trace"), "").unwrap();
        assert_eq!(beside(&gguf), Some(dir.path().join("m.trace")));
    }
}
