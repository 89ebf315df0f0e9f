//! What several verbs share: opening a model with its tokenizer, writing results.

use super::terminal::{Progress, data, pieces, remark};
use crate::jobs::Jobs;
use crate::keys::ModelSource;
use crate::memory;
use crate::picture_source::PictureSource;
use crate::samples;
use crate::work::OpenModel;
use anyhow::{Context as _, bail};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Read as _, Write};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokenscope_analysis::gpu::{Compute, Gpu};
use tokenscope_analysis::image::Picture;
use tokenscope_analysis::method::{Info, Kind};
use tokenscope_analysis::run::RunRequest;
use tokenscope_analysis::save::{save, save_bytes};
use tokenscope_analysis::tokenize::{TIKTOKEN_NAMES, Tokenizer};
use tokenscope_analysis::weights::{Chip, DEVICE_VARIABLE, DTYPE_VARIABLE, Hold, Numbers, Placement, WEIGHTS_VARIABLE};
use tokenscope_analysis::{Ctx, catalog};

/// Where passes compute: the adapter, if one may be used, and what `TOKENSCOPE_COMPUTE` says.
pub fn device() -> anyhow::Result<(Option<Arc<Gpu>>, Compute)> {
    let compute = Compute::from_env()?;
    let gpu = if compute == Compute::Cpu { None } else { Gpu::headless() };
    Ok((gpu.map(Arc::new), compute))
}

/// What `work` gives in the context of a computation of the command line, which says on a terminal how far it is.
pub fn working<T>(work: impl FnOnce(&Ctx) -> T) -> anyhow::Result<T> {
    let (gpu, compute) = device()?;
    Ok(on_processor(|ctx| work(&ctx.clone().with_gpu(gpu, compute))))
}

/// As [`working`], for what has no pass to compute: no driver is loaded.
pub fn on_processor<T>(work: impl FnOnce(&Ctx) -> T) -> T {
    let done = Arc::new(AtomicU32::new(0));
    let (seen, put) = (done.clone(), move |share: f32| done.store(share.to_bits(), Ordering::Relaxed));
    let _progress = Progress::from(move || f32::from_bits(seen.load(Ordering::Relaxed)));
    work(&Ctx::new(Arc::default(), Arc::new(put)).with_room(memory::available).spilling_to(&memory::folder()))
}

/// Jobs without a window, and who says on a terminal how far they are.
pub struct Working {
    jobs: Jobs,
    _progress: Progress,
}

impl Deref for Working {
    type Target = Jobs;

    fn deref(&self) -> &Jobs {
        &self.jobs
    }
}

/// How a verb that opens models holds their weights.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct Weights {
    /// Where weights are: f32 brings them into memory, stored leaves them in their file as they are and makes parts of
    /// them f32 when they are needed, auto decides by their size [default: TOKENSCOPE_WEIGHTS, or auto]
    #[arg(long, value_name = "WHERE", value_parser = holds())]
    weights: Option<Hold>,
}

/// The same, in which numbers they are, and what computes with them.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct Numbered {
    #[command(flatten)]
    held: Weights,
    /// Numbers that weight matrices are in: f32, or bf16, to which they are rounded, in half of the memory; all else is
    /// computed in f32 [default: TOKENSCOPE_DTYPE, or f32, or that of the session]
    #[arg(long, value_name = "TYPE", value_parser = numbers())]
    dtype: Option<Numbers>,
    /// What computes the model: cpu; cuda or cuda:N, metal in builds that can (`tokenscope doctor` says which); auto takes
    /// what there is [default: TOKENSCOPE_DEVICE, or cpu, or that of the session]
    #[arg(long, value_name = "DEVICE", value_parser = chip)]
    device: Option<Chip>,
}

/// A device by its name. Errors: none has it, or this build cannot compute on it.
fn chip(text: &str) -> Result<Chip, String> {
    let chip = Chip::parse(text).ok_or("it may be cpu, cuda, cuda:N, metal or auto")?;
    chip.open().map(|_| chip).map_err(|e| e.to_string())
}

/// The pictures of a prompt.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Images {
    /// Picture (PNG, JPEG, WebP, BMP, GIF, or a drawn scene as scene:SEED) for models that read one; several for those
    /// that read several, in the order of their places in the prompt
    #[arg(long, value_name = "FILE")]
    image: Vec<OsString>,
    /// Take so many frames, evenly spread, of a clip given as --image: an animated GIF or WebP, or a folder of pictures
    #[arg(long, value_name = "N", requires = "image", value_parser = clap::value_parser!(u16).range(1..=64))]
    frames: Option<u16>,
}

impl Images {
    /// Whether none is given.
    pub fn is_none(&self) -> bool {
        self.image.is_empty()
    }

    /// The paths that are given.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.image.iter().map(Path::new)
    }

    /// What they name, if something.
    pub fn source(&self) -> anyhow::Result<Option<PictureSource>> {
        PictureSource::parse_all(&self.image, self.frames.map(usize::from))
    }
}

/// The names of all ways to hold weights.
fn holds() -> impl TypedValueParser<Value = Hold> {
    let names = Hold::ALL.map(|h| {
        let name = PossibleValue::new(h.name());
        if h == Hold::Memory { name.alias("memory") } else { name }
    });
    PossibleValuesParser::new(names).map(|name| Hold::parse(&name).unwrap_or_default())
}

/// The names of all numbers.
fn numbers() -> impl TypedValueParser<Value = Numbers> {
    PossibleValuesParser::new(Numbers::ALL.map(Numbers::name)).map(|name| Numbers::parse(&name).unwrap_or_default())
}

impl From<Weights> for Numbered {
    fn from(held: Weights) -> Self {
        Self { held, dtype: None, device: None }
    }
}

impl From<Numbered> for Weights {
    fn from(numbered: Numbered) -> Self {
        numbered.held
    }
}

impl Numbered {
    /// How weights are held, where option or environment say something. Errors: as of [`Weights::hold`].
    pub fn given(self) -> anyhow::Result<Option<Hold>> {
        self.held.given()
    }

    /// The same on the processor.
    pub fn on_processor(self) -> Self {
        Self { device: Some(Chip::Cpu), ..self }
    }

    /// How numbers are computed, as the options say, or else the environment. Errors: a value there that is none.
    pub fn placement(self) -> anyhow::Result<Placement> {
        Ok(self.onto(Placement { chip: Chip::from_env()?, numbers: Numbers::from_env()? }))
    }

    /// The same as the options alone say; what they do not say is as in `before`.
    pub fn onto(self, before: Placement) -> Placement {
        Placement { chip: self.device.unwrap_or(before.chip), numbers: self.dtype.unwrap_or(before.numbers) }
    }

    /// The same, where options or environment say something. Errors: as of [`Weights::placement`].
    pub fn given_placement(self) -> anyhow::Result<Option<Placement>> {
        let env = [DTYPE_VARIABLE, DEVICE_VARIABLE].iter().any(|name| std::env::var_os(name).is_some());
        (env || self.dtype.is_some() || self.device.is_some()).then(|| self.placement()).transpose()
    }
}

impl Weights {
    /// What the option says, or else the environment. Errors: a value there that is none.
    pub fn hold(self) -> anyhow::Result<Hold> {
        Ok(self.weights.map_or_else(Hold::from_env, Ok)?)
    }

    /// The same, where either says something. Errors: as [`Weights::hold`].
    pub fn given(self) -> anyhow::Result<Option<Hold>> {
        let said = self.weights.is_some() || std::env::var_os(WEIGHTS_VARIABLE).is_some();
        said.then(|| self.hold()).transpose()
    }
}

/// Jobs without a window.
pub fn jobs(weights: impl Into<Weights>) -> anyhow::Result<Working> {
    let (gpu, compute) = device()?;
    let jobs = Jobs::new(|| ()).on(gpu, compute);
    jobs.hold(weights.into().hold()?);
    Ok(Working { _progress: Progress::of(&jobs), jobs })
}

/// Opens a model on the CPU, with its tokenizer and image processor, where there are such: the name of a sample, or a
/// path.
pub fn open(model: &OsStr, weights: impl Into<Numbered>) -> anyhow::Result<OpenModel> {
    open_source(&ModelSource::parse(model), weights.into())
}

/// As [`open`], for a source that is known.
pub fn open_source(source: &ModelSource, weights: Numbered) -> anyhow::Result<OpenModel> {
    let ctx = Ctx::default().with_room(memory::available);
    Ok(crate::work::open(source, weights.placement()?, weights.held.hold()?, &ctx)?)
}

/// Adds the picture of `source` to `request`, and gives it. Errors if the model reads no images.
pub fn add_picture(open: &OpenModel, request: &mut RunRequest, source: &PictureSource) -> anyhow::Result<Picture> {
    let Some(processor) = &open.processor else {
        bail!("{} reads no images; leave out --image or choose another model", open.model.info().architecture);
    };
    let picture = source.open(&Ctx::default())?;
    request.add_picture(processor, &picture)?;
    Ok(picture)
}

/// A tokenizer by name of a built-in vocabulary or of a sample model, by file or by folder. What was decided where its
/// files disagree is said on standard error.
pub fn tokenizer(name: &OsStr) -> anyhow::Result<Tokenizer> {
    let known = name.to_str().filter(|n| TIKTOKEN_NAMES.contains(n));
    if let Some(name) = known {
        return Ok(Tokenizer::named(name)?);
    }
    if let Some(sample) = name.to_str().and_then(samples::find) {
        return Ok(Tokenizer::load(samples::unpack(sample)?.path())?.called(sample));
    }
    let path = Path::new(name);
    if !path.exists() {
        let known = TIKTOKEN_NAMES.join(", ");
        bail!("no tokenizer file or folder {}; built in are {known}", path.display());
    }
    let t = Tokenizer::load(path)?;
    t.notes().iter().for_each(|n| remark(format_args!("note: {n}: {}", path.display())));
    Ok(t)
}

/// Says notes on standard error.
pub fn notes<'a>(notes: impl IntoIterator<Item = &'a String>) {
    notes.into_iter().for_each(|n| remark(format_args!("note: {n}")));
}

/// The text of a file, or of standard input for `-`; a byte order mark says how it is read.
pub fn text(path: &Path) -> anyhow::Result<String> {
    let name = if path.as_os_str() == "-" { "standard input".into() } else { path.display().to_string() };
    let read = |from: &mut dyn std::io::Read| {
        let mut out = Vec::new();
        from.take(MAX_TEXT + 1).read_to_end(&mut out).map(|_| out)
    };
    let bytes = match path.as_os_str() == "-" {
        true => read(&mut std::io::stdin().lock()),
        false => std::fs::File::open(path).and_then(|mut f| read(&mut f)),
    };
    let bytes = bytes.with_context(|| format!("cannot read {name}"))?;
    if bytes.len() as u64 > MAX_TEXT {
        bail!("the text is longer than {} MB; cut it: {name}", MAX_TEXT >> 20);
    }
    tokenscope_analysis::utf::text(bytes).map_err(|what| anyhow::anyhow!("{what}; save it as UTF-8: {name}"))
}

/// The longest text that is read, in bytes.
const MAX_TEXT: u64 = 1 << 30;

/// Writes text to `path`, or to standard output without one.
pub fn write(path: Option<&Path>, text: &str) -> anyhow::Result<()> {
    match path {
        Some(p) => Ok(save_bytes(p, text.as_bytes())?),
        None => data(text),
    }
}

/// Writes what `write` gives piece by piece to `path`, or to standard output without one.
pub fn write_by(path: Option<&Path>, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<()> {
    let Some(path) = path else {
        return pieces(|out| write(out).and_then(|()| out.write_all(b"\n")));
    };
    Ok(save(path, |fresh| {
        let mut out = BufWriter::with_capacity(1 << 16, OpenOptions::new().write(true).truncate(true).open(fresh)?);
        write(&mut out)?;
        out.flush()
    })?)
}

/// What a kind of methods was called once; scripts may say so still.
pub fn former(kind: Kind) -> Option<&'static str> {
    (kind == Kind::Reduce).then_some("prune")
}

/// The kind of that name, of today or once.
pub fn kind(name: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|k| k.name() == name || former(*k) == Some(name))
}

/// The method of that kind and id, or what a window shows first of the kind.
pub fn named_or_first(kind: Kind, id: Option<&str>) -> anyhow::Result<&'static Info> {
    match id {
        Some(id) => Ok(catalog::info(kind, id)?),
        None => catalog::first(kind).with_context(|| format!("there is no {}", kind.noun())),
    }
}
