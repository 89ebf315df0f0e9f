//! The verb `verify`: what a model computes here beside what was computed elsewhere.

use super::common;
use super::terminal::{CheckFailed, json, say};
use crate::keys::ModelSource;
use crate::verified::{Entry, Verified};
use anyhow::{Context as _, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use tokenscope_analysis::parity::{Parity, Reference, beside, tolerance};

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model folder, GGUF file, or the name of a sample model
    #[arg(long)]
    model: OsString,
    /// What to compare with: a trace of the recorder (python tokenscope_record.py --model DIR --prompt TEXT --out FILE)
    /// or of tokenscope trace, or tensors under the names of transformers [default: reference.trace or
    /// expected.safetensors in the model's folder, or the folder's name with .trace beside it]
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Largest error that counts as equal, as a share of the largest value of its kind [default: by the type that the
    /// reference was computed in: 1e-4 for float32, 1e-2 for float16, 5e-2 for bfloat16]
    #[arg(long, value_name = "SHARE")]
    tolerance: Option<f64>,
    /// Compare with what the processor computes of the reference's input in the same numbers, and not with what the
    /// reference holds: for --device, and so that the rounding of --dtype does not count
    #[arg(long)]
    beside_processor: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    weights: common::Numbered,
}

/// Runs the verb.
pub fn run(args: Args) -> anyhow::Result<()> {
    if let Some(t) = args.tolerance.filter(|t| !t.is_finite() || *t < 0.0) {
        bail!("--tolerance {t}: a share from 0 on, as 1e-4");
    }
    let source = ModelSource::parse(&args.model);
    let model = Path::new(&args.model);
    let reference = match args.against {
        Some(path) => path,
        None => beside(model).with_context(|| {
            format!(
                "there is nothing to compare with beside {}; give --against, or make it where Python has transformers: \
                 tokenscope recorder > tokenscope_record.py && python tokenscope_record.py --model {} --prompt TEXT \
                 --out {}",
                model.display(),
                model.display(),
                model.join("reference.trace").display()
            )
        })?,
    };
    let open = common::open_source(&source, args.weights)?;
    let processor =
        args.beside_processor.then(|| common::open_source(&source, args.weights.on_processor())).transpose()?;
    let found = common::working(|ctx| {
        let held = Reference::open(&reference, ctx)?;
        match &processor {
            None => held.compare(open.model.as_ref(), args.tolerance, ctx),
            Some(here) => {
                let here = held.again(here.model.as_ref(), &ctx.part(0, 2))?;
                here.compare(open.model.as_ref(), args.tolerance.or(Some(tolerance(&here.dtype))), &ctx.part(1, 2))
            }
        }
    })??;
    if let (ModelSource::Path(path), None) = (&source, &processor) {
        Verified::load().add(Entry::of(path, &open.model.info().fingerprint, &reference, &found));
    }
    tell(&reference, &found, args.json)?;
    match found.worst() {
        None => Err(CheckFailed(format!("nothing in {} could be compared", reference.display())).into()),
        Some(w) if !found.holds() => {
            let what =
                format!("{} differs by {:.1e} of its largest value, more than {:.0e}", w.at, w.share(), w.tolerance);
            Err(CheckFailed(what).into())
        }
        _ => Ok(()),
    }
}

fn tell(reference: &Path, found: &Parity, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        let finite = |x: f64| Some(x).filter(|x| x.is_finite());
        return json(&serde_json::json!({
            "holds": found.holds(), "reference": reference, "dtype": found.dtype,
            "kinds": found.kinds.iter().map(|w| serde_json::json!({
                "kind": w.kind, "tensors": w.tensors, "values": w.values, "error": finite(w.error), "scale": w.scale,
                "share": finite(w.share()), "tolerance": w.tolerance, "holds": w.holds(), "worst": w.at,
            })).collect::<Vec<_>>(),
            "not_compared": found.left,
        }));
    }
    say!("compared with {} ({}):", reference.display(), found.dtype);
    let wide = found.kinds.iter().map(|w| w.kind.len()).max().unwrap_or(0);
    for w in &found.kinds {
        let s = if w.tensors == 1 { " " } else { "s" };
        say!(
            "{:wide$}  {:>4} tensor{s}  largest error {:.1e}, {:.1e} of {:.1e}  tolerance {:.0e}  {}{}",
            w.kind,
            w.tensors,
            w.error,
            w.share(),
            w.scale,
            w.tolerance,
            if w.holds() { "holds" } else { "DOES NOT HOLD: " },
            if w.holds() { "" } else { &w.at }
        );
    }
    if !found.left.is_empty() {
        say!("not compared, as the program does not compute them: {}", found.left.join(", "));
    }
    Ok(())
}
