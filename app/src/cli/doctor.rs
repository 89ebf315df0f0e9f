//! The verb `doctor`: what this machine offers, whether the program works on it, and what a report of a fault should hold.

use super::terminal::{CheckFailed, data, harmless, line};
use crate::keys::ModelSource;
use crate::log;
use crate::recents;
use crate::samples;
use serde_json::json;
use std::path::PathBuf;
use sysinfo::System;
use tokenscope_analysis::array::Array;
use tokenscope_analysis::gpu::Side;
use tokenscope_analysis::model::Input;
use tokenscope_analysis::trace::NoTap;
use tokenscope_analysis::weights::{Chip, DEVICE_VARIABLE, DTYPE_VARIABLE, Hold, Placement, WEIGHTS_VARIABLE};
use tokenscope_analysis::{Ctx, passes};

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// What a report of a fault should hold, as one text: the same, the system, the settings, and the end of the log, where
    /// failures name the files that they are about. Into FILE, or on standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1, conflicts_with = "json")]
    report: Option<Option<PathBuf>>,
}

/// The passes tried on one side.
struct Checked {
    side: String,
    n: usize,
    /// What went wrong, in words.
    wrong: Vec<String>,
}

impl Checked {
    /// Runs every sample of every pass and compares it with the plain loop.
    fn new(name: &str, side: Side) -> Self {
        let mut out = Self { side: name.into(), n: passes::ALL.len(), wrong: Vec::new() };
        for pass in passes::ALL {
            let worst = pass.samples().iter().find_map(|s| match s.difference(side, &Ctx::default()) {
                Ok((off, _)) if off <= s.tolerance => None,
                Ok((off, _)) => Some(format!("{}, {}: off by {off:.1e}", pass.name(), s.name)),
                Err(e) => Some(format!("{}, {}: {e}", pass.name(), s.name)),
            });
            out.wrong.extend(worst);
        }
        out
    }
}

/// Largest distance of two logits, as a share of the largest one, at which two devices compute the same.
const SAME: f32 = 1e-4;

/// Runs the first embedded model on `chip` and on the processor: the largest distance of two logits, as a share of the
/// largest one.
fn distance(chip: Chip) -> tokenscope_analysis::Result<f32> {
    let source = ModelSource::Sample(samples::NAMES[0]);
    let logits = |chip: Chip| {
        let open =
            crate::work::open(&source, Placement { chip, ..Placement::default() }, Hold::Memory, &Ctx::default())?;
        let mut input = Input { ids: (0..48).collect(), ..Input::default() };
        let out = open.model.forward(&mut input, &mut NoTap, &Ctx::default())?;
        out.logits.as_ref().map(Array::from_tensor).transpose()
    };
    let (here, there) = (logits(Chip::Cpu)?, logits(chip)?);
    let (Some(here), Some(there)) = (here, there) else { return Ok(f32::INFINITY) };
    let scale = here.data().iter().fold(f32::MIN_POSITIVE, |m, x| m.max(x.abs()));
    // What is no number is far from every one.
    let far = here.data().iter().zip(there.data()).map(|(a, b)| (a - b).abs() / scale);
    Ok(far.fold(0.0, |m, d| {
        if d <= m {
            m
        } else if d.is_finite() {
            d
        } else {
            f32::INFINITY
        }
    }))
}

/// Runs the verb. Fails with exit code 1 if an embedded model does not open or a pass is wrong.
pub fn run(args: Args) -> anyhow::Result<()> {
    let adapters = tokenscope_analysis::gpu::adapters();
    let samples: Vec<(&str, Result<usize, String>)> = samples::NAMES
        .iter()
        .map(|name| {
            let open = crate::work::open(&ModelSource::Sample(name), Placement::default(), Hold::Auto, &Ctx::default());
            (*name, open.map(|o| o.model.info().n_params).map_err(|e| e.to_string()))
        })
        .collect();
    let fonts = crate::fonts::system_files();
    let (gpu, compute) = super::common::device()?;
    let computing = compute.words(gpu.as_deref());
    let mut passes = vec![Checked::new("the fast CPU path", Side::Fast)];
    if let Some(gpu) = &gpu {
        passes.push(Checked::new(&format!("{} ({})", gpu.adapter.name, gpu.adapter.backend), Side::Gpu(gpu)));
    }
    let wrong: usize = passes.iter().map(|p| p.wrong.len()).sum();
    // What computes besides the processor, and how far off; or why it does not.
    let devices: Vec<(Chip, Result<f32, String>)> = Chip::built()
        .into_iter()
        .filter(|c| *c != Chip::Cpu)
        .map(|c| (c, distance(c).map_err(|e| e.to_string())))
        .collect();
    let far = devices.iter().filter(|d| d.1.as_ref().is_ok_and(|far| *far > SAME)).count();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let hub = crate::recents::hub();
    let broken = samples.iter().filter(|s| s.1.is_err()).count();
    if args.json {
        data(
            &json!({
                "version": crate::VERSION,
                "cores": cores,
                "adapters": adapters.iter().map(|a| json!({
                    "name": a.name, "backend": a.backend, "driver": a.driver, "software": a.software,
                    "max_storage_binding_bytes": a.max_storage_binding_bytes,
                })).collect::<Vec<_>>(),
                "computing": computing,
                "passes": passes.iter().map(|p| json!({ "on": p.side, "tried": p.n, "wrong": p.wrong })).collect::<Vec<_>>(),
                "devices": devices.iter().map(|(chip, r)| json!({
                    "name": chip.to_string(), "difference": r.as_ref().ok(), "error": r.as_ref().err(),
                })).collect::<Vec<_>>(),
                "samples": samples.iter().map(|(name, r)| json!({ "name": name, "n_params": r.as_ref().ok(), "error": r.as_ref().err() })).collect::<Vec<_>>(),
                "system_fonts": fonts,
                "hugging_face_cache": hub.iter().map(|m| &m.0).collect::<Vec<_>>(),
            })
            .to_string(),
        )?;
    } else {
        let mut lines = Vec::new();
        let mut say = |words: String| lines.push(words);
        say(format!("tokenscope {} on {cores} cores", crate::VERSION));
        if adapters.is_empty() {
            say("graphics: no adapter; install a Vulkan driver, e.g. mesa-vulkan-drivers, to open the window".into());
        }
        for a in &adapters {
            let kind = if a.software { "software" } else { "hardware" };
            let mb = a.max_storage_binding_bytes >> 20;
            say(format!("graphics: {} ({}, {}, {kind}, buffers up to {mb} MB)", a.name, a.backend, a.driver));
        }
        say(format!("computing: {}", computing.trim_start_matches("computing ")));
        for p in &passes {
            match p.wrong.is_empty() {
                true => say(format!("passes: {} agree with their plain loops on {}", p.n, p.side)),
                false => {
                    for w in &p.wrong {
                        say(format!("passes: on {}: {w}", p.side));
                    }
                }
            }
        }
        if devices.is_empty() {
            say("device: models are computed on the processor; this build knows no other device".into());
        }
        for (chip, result) in &devices {
            match result {
                Ok(far) if *far <= SAME => say(format!("device: {chip} agrees with the processor within {far:.0e}")),
                Ok(far) => say(format!("device: {chip} does not agree with the processor: off by {far:.1e}")),
                Err(e) => say(format!("device: {chip}: {e}")),
            }
        }
        for (name, result) in &samples {
            match result {
                Ok(n) => say(format!("sample: {name} opens, {n} parameters")),
                Err(e) => say(format!("sample: {name} does not open: {e}")),
            }
        }
        match fonts.is_empty() {
            true => say("fonts: none of the system's; scripts that the program brings no font for show boxes".into()),
            false => {
                for f in &fonts {
                    say(format!("fonts: {}", f.display()));
                }
            }
        }
        say(format!("Hugging Face cache: {} models", hub.len()));
        match &args.report {
            None => lines.iter().try_for_each(|l| line(format_args!("{l}")))?,
            Some(file) => {
                let text = [lines, about()].concat().iter().map(|l| format!("{}\n", harmless(l))).collect::<String>();
                super::common::write(file.as_deref(), text.trim_end())?;
            }
        }
    }
    if wrong > 0 {
        let remedy = "set TOKENSCOPE_COMPUTE=cpu and report the adapter";
        return Err(CheckFailed(format!("{wrong} passes give wrong results here; {remedy}")).into());
    }
    if far > 0 {
        return Err(
            CheckFailed(format!("{far} devices give wrong results here; use --device cpu and report it")).into()
        );
    }
    if broken > 0 {
        return Err(CheckFailed(format!("{broken} embedded models do not open")).into());
    }
    Ok(())
}

/// Lines of the log in a report.
const TAIL: usize = 200;

/// The system and its kernel, as far as they say what they are.
fn system() -> String {
    let unknown = |_| "unknown".to_string();
    let (name, kernel) = (System::long_os_version(), System::kernel_version());
    format!("system: {}, kernel {}", name.unwrap_or_else(unknown), kernel.unwrap_or_else(unknown))
}

/// The system, what was set, and the end of the log.
fn about() -> Vec<String> {
    let mb = |bytes: u64| bytes >> 20;
    let mut out = vec![
        String::new(),
        system(),
        format!("architecture: {}", std::env::consts::ARCH),
        format!("memory: {} MB, {} MB free", mb(crate::memory::total()), mb(crate::memory::available())),
    ];
    for name in [
        "TOKENSCOPE_COMPUTE",
        WEIGHTS_VARIABLE,
        DTYPE_VARIABLE,
        DEVICE_VARIABLE,
        "XDG_SESSION_TYPE",
        "XDG_CURRENT_DESKTOP",
        "LANG",
    ] {
        out.extend(std::env::var(name).ok().map(|v| format!("{name}={v}")));
    }
    let settings = recents::folder().map(|dir| dir.join("settings.json"));
    if let Some(text) = settings.and_then(|file| recents::read_small(&file).ok().flatten()) {
        out.push(format!("settings: {}", log::plain(&text)));
    }
    match log::path() {
        Some(path) => out.push(format!("log: {}", log::plain(&path.display().to_string()))),
        None => out.push("log: none, since the system names no folder for it".into()),
    }
    out.extend(log::tail(TAIL).into_iter().map(|l| format!("  {l}")));
    out
}
