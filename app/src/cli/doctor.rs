//! The verb `doctor`: what this machine offers, and whether the program works on it.

use crate::request::{ModelSource, SAMPLE_NAMES};
use serde_json::json;

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb. Fails with exit code 1 if an embedded model does not open.
pub fn run(args: Args) -> anyhow::Result<()> {
    let adapters = tokenscope_analysis::gpu::adapters();
    let samples: Vec<(&str, Result<usize, String>)> = SAMPLE_NAMES
        .iter()
        .map(|name| {
            let open = crate::work::open(&ModelSource::Sample(name));
            (*name, open.map(|o| o.model.info().n_params).map_err(|e| e.to_string()))
        })
        .collect();
    let fonts = crate::theme::system_font_paths();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let hub = crate::recents::hub();
    let broken = samples.iter().filter(|s| s.1.is_err()).count();
    if args.json {
        println!(
            "{}",
            json!({
                "version": env!("CARGO_PKG_VERSION"),
                "cores": cores,
                "adapters": adapters.iter().map(|a| json!({
                    "name": a.name, "backend": a.backend, "driver": a.driver, "software": a.software,
                    "max_storage_binding_bytes": a.max_storage_binding_bytes,
                })).collect::<Vec<_>>(),
                "samples": samples.iter().map(|(name, r)| json!({ "name": name, "n_params": r.as_ref().ok(), "error": r.as_ref().err() })).collect::<Vec<_>>(),
                "system_fonts": fonts,
                "hugging_face_cache": hub.iter().map(|m| &m.0).collect::<Vec<_>>(),
            })
        );
    } else {
        println!("tokenscope {} on {cores} cores", env!("CARGO_PKG_VERSION"));
        if adapters.is_empty() {
            println!("graphics: no adapter; install a Vulkan driver, e.g. mesa-vulkan-drivers, to open the window");
        }
        for a in &adapters {
            let kind = if a.software { "software" } else { "hardware" };
            let mb = a.max_storage_binding_bytes >> 20;
            println!("graphics: {} ({}, {}, {kind}, buffers up to {mb} MB)", a.name, a.backend, a.driver);
        }
        for (name, result) in &samples {
            match result {
                Ok(n) => println!("sample: {name} opens, {n} parameters"),
                Err(e) => println!("sample: {name} does not open: {e}"),
            }
        }
        match fonts.is_empty() {
            true => println!("fonts: none of the system's; scripts beyond Latin, Greek and Cyrillic show boxes"),
            false => fonts.iter().for_each(|f| println!("fonts: {f}")),
        }
        println!("Hugging Face cache: {} models", hub.len());
    }
    if broken > 0 {
        return Err(super::CheckFailed(format!("{broken} embedded models do not open")).into());
    }
    Ok(())
}
