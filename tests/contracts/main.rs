//! Rules of the house, read from the tree itself.

use std::path::{Path, PathBuf};
use tokenscope_tests::root;

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let mut stack = vec![dir.to_path_buf()];
    while let Some(d) = stack.pop() {
        for e in std::fs::read_dir(&d).unwrap_or_else(|e| panic!("{}: {e}", d.display())) {
            let p = e.unwrap().path();
            if p.is_dir() {
                stack.push(p);
            } else if p.extension().is_some_and(|e| e == "rs") {
                out.push(p);
            }
        }
    }
    out.sort();
    out
}

/// Lines of code (comments aside) of `dir` that hold one of `words`, outside the files that `may` allows.
fn offenders(dir: &str, words: &[&str], may: impl Fn(&str) -> bool) -> Vec<String> {
    let root = root();
    let mut out = Vec::new();
    for file in sources(&root.join(dir)) {
        let name = file.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
        if may(&name) {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        for (i, line) in text.lines().enumerate() {
            let code = line.trim_start();
            if !code.starts_with("//") && words.iter().any(|w| code.contains(w)) {
                out.push(format!("{name}:{}: {code}", i + 1));
            }
        }
    }
    out
}

#[test]
fn there_is_one_egui_and_one_wgpu() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    for name in ["egui", "wgpu", "naga", "candle-core"] {
        let n = lock.lines().filter(|l| *l == format!("name = \"{name}\"")).count();
        assert_eq!(n, 1, "{name} stands {n} times in Cargo.lock");
    }
}

#[test]
fn the_library_knows_no_window_prints_nothing_and_starts_no_threads() {
    let words = ["egui", "eframe", "println!", "eprintln!", "std::thread"];
    assert_eq!(offenders("analysis/src", &words, |_| false), [""; 0]);
}

#[test]
fn only_gpu_and_passes_name_wgpu() {
    let may = |f: &str| f.starts_with("analysis/src/gpu/") || f.starts_with("analysis/src/passes/");
    assert_eq!(offenders("analysis/src", &["wgpu::", "use wgpu"], may), [""; 0]);
}

#[test]
fn in_the_app_only_the_painter_of_heatmaps_names_wgpu() {
    let may = |f: &str| f == "app/src/heatmap/painter.rs";
    assert_eq!(offenders("app/src", &["wgpu::", "use wgpu"], may), [""; 0]);
}

#[test]
fn only_the_rooms_for_files_open_files() {
    let may = |f: &str| {
        ["weights/", "tokenize/", "image/"].iter().any(|d| f.starts_with(&format!("analysis/src/{d}")))
            || f == "analysis/src/trace/file.rs"
    };
    assert_eq!(offenders("analysis/src", &["std::fs", "File::open"], may), [""; 0]);
}

#[test]
fn the_root_holds_only_the_fixed_names() {
    let fixed =
        ["Cargo.toml", "Cargo.lock", "app", "analysis", "shaders", "assets", "sample_data", "tests", "README.md"];
    for e in std::fs::read_dir(root()).unwrap() {
        let name = e.unwrap().file_name().to_string_lossy().into_owned();
        let fine =
            name.starts_with('.') || name.starts_with("LICENSE") || name == "target" || fixed.contains(&name.as_str());
        assert!(fine, "{name} does not belong in the root");
    }
}
