//! What is said of a run before it starts, against what it keeps: every fixture, texts and pictures.

use candle_core::Device;
use std::path::PathBuf;
use tokenscope_analysis::Ctx;
use tokenscope_analysis::model::{LogitRows, load};
use tokenscope_analysis::run::{RunRequest, estimate, run};
use tokenscope_analysis::trace::{CaptureSpec, Site, Tower};
use tokenscope_tests::{golden, recorded_request};

/// Folders of fixtures that hold a model and an input.
fn fixtures() -> Vec<PathBuf> {
    let root = golden().join("models");
    let list = |dir: &PathBuf| -> Vec<PathBuf> {
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect()
    };
    let mut all = list(&root);
    all.extend(["settings", "backbones"].iter().flat_map(|s| list(&root.join(s))));
    all.retain(|p| p.join("config.json").exists() && p.join("expected.safetensors").exists());
    all.sort();
    all
}

#[test]
fn what_a_run_keeps_is_what_is_said_beforehand() {
    let (mut seen, mut wrong) = (0, Vec::new());
    for dir in fixtures() {
        let name = dir.strip_prefix(golden().join("models")).unwrap().display().to_string();
        let model = load(&dir, &Device::Cpu).unwrap_or_else(|e| panic!("{name}: {e}"));
        let request = RunRequest { greedy: 0, ..recorded_request(&dir.join("expected.safetensors")) };
        let n = request.ids.as_ref().map_or(0, Vec::len);
        let vision = model.info().towers.get(&Tower::Vision).filter(|_| request.image.is_some());
        let tiles = vision.map(|t| t.tiles(request.image.as_ref())).unwrap_or_default();
        for spec in [CaptureSpec::views(), CaptureSpec::sites(&Site::ALL)] {
            let said = estimate(model.as_ref(), n, &tiles, &LogitRows::All, &spec);
            let trace = run(model.as_ref(), None, &request, &spec, &Ctx::default()).unwrap();
            let share = said.capture_bytes as f64 / trace.size_bytes() as f64;
            if !(0.8..=1.25).contains(&share) {
                wrong.push(format!("{name}: {} said, {} kept ({share:.3})", said.capture_bytes, trace.size_bytes()));
            }
        }
        seen += 1;
    }
    assert!(seen > 80, "{seen} fixtures");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
