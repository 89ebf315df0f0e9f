//! Rules of the house, read from the tree itself.

mod catalog;
mod order;

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

/// The file's lines with their numbers, without comments and without the tests at its end; none of a file of tests.
fn code(file: &Path) -> Vec<(usize, String)> {
    if file.ends_with("tests.rs") {
        return Vec::new();
    }
    let text = std::fs::read_to_string(file).unwrap();
    // Tests in a file of their own are named anywhere; those of this file end it.
    let tests = text.find("\n#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let lines = text[..tests].lines().enumerate();
    lines.map(|(i, line)| (i + 1, line.trim_start().to_string())).filter(|l| !l.1.starts_with("//")).collect()
}

/// Path of `file` below the root, with slashes.
fn name_of(file: &Path) -> String {
    file.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/")
}

/// Lines of code (comments and tests aside) of `dir` that hold one of `words`, outside the files that `may` allows.
fn offenders(dir: &str, words: &[&str], may: impl Fn(&str) -> bool) -> Vec<String> {
    let mut out = Vec::new();
    for file in sources(&root().join(dir)) {
        let name = name_of(&file);
        if may(&name) {
            continue;
        }
        let found = code(&file).into_iter().filter(|(_, line)| words.iter().any(|w| line.contains(w)));
        out.extend(found.map(|(i, line)| format!("{name}:{i}: {line}")));
    }
    out
}

/// Whether `line` names `word` and not a longer name that it is part of.
fn names(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(i, _)| {
        !line[..i].chars().next_back().is_some_and(part) && !line[i + word.len()..].chars().next().is_some_and(part)
    })
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
        ["weights/", "tokenize/", "image/", "series/"].iter().any(|d| f.starts_with(&format!("analysis/src/{d}")))
            || ["analysis/src/trace/file.rs", "analysis/src/trace/spill.rs", "analysis/src/save.rs"].contains(&f)
    };
    assert_eq!(offenders("analysis/src", &["std::fs", "File::open"], may), [""; 0]);
}

/// What is printed goes through one place, which lets no file steer the terminal and no closed pipe panic; what is
/// saved goes through another, which leaves nothing half written.
#[test]
fn the_app_prints_and_saves_in_one_place_each() {
    let terminal = |f: &str| f == "app/src/cli/terminal.rs";
    assert_eq!(offenders("app/src", &["println!", "print!", "stdout()", "stderr()"], terminal), [""; 0]);
    // Samples are unpacked into a folder that only this process knows.
    let own = |f: &str| f == "app/src/samples.rs";
    assert_eq!(offenders("app/src", &["fs::write", "File::create"], own), [""; 0]);
}

#[test]
fn a_methods_file_imports_no_other_methods_file() {
    for kind in ["segment", "score", "reduce", "flow", "decode/draft", "decode/reveal", "cache", "study"] {
        let files: Vec<PathBuf> = sources(&root().join("analysis/src").join(kind))
            .into_iter()
            .filter(|f| code(f).iter().any(|(_, line)| line.starts_with("impl Method for")))
            .collect();
        assert!(!files.is_empty(), "{kind} has no method");
        for file in &files {
            for other in files.iter().filter(|o| *o != file) {
                // A kind may sort its methods into folders.
                let folder = other.parent().unwrap().file_name().unwrap().to_str().unwrap();
                let other = other.file_stem().unwrap().to_str().unwrap();
                for (i, line) in code(file).iter().filter(|(_, l)| l.contains("super::") || l.contains("crate::")) {
                    let at = format!("{}:{i}: {line}", name_of(file));
                    assert!(!names(line, &format!("super::{other}")), "{at}");
                    assert!(!names(line, &format!("{folder}::{other}")), "{at}");
                }
            }
        }
    }
}

/// Names that are ordinary words, too.
const ORDINARY: &[&str] = &["bytes", "characters", "graphemes", "words", "sentences", "lines", "random", "uniform"];

#[test]
fn no_code_names_a_method_but_its_own_file() {
    // The gallery is a list of inputs and methods that go with them.
    let may = |file: &str, id: &str| file.ends_with(&format!("/{id}.rs")) || file == "app/src/examples.rs";
    // Vocabularies are called as their tokenizers are.
    let vocabularies = tokenscope_analysis::tokenize::TIKTOKEN_NAMES;
    let all = tokenscope_analysis::catalog::infos().map(|i| i.id);
    let ids: Vec<&str> = all.filter(|id| !vocabularies.contains(id)).collect();
    let mut files = sources(&root().join("app/src"));
    files.extend(sources(&root().join("analysis/src")));
    for file in files {
        let name = name_of(&file);
        for (i, line) in code(&file) {
            let own = |id: &&&str| line.contains(&format!("\"{id}\"")) && !may(&name, id) && !ORDINARY.contains(*id);
            // Ways to cut share the files of their vocabularies and rules.
            let named: Vec<&&str> = ids.iter().filter(own).filter(|_| !name.contains("/segment/")).collect();
            assert!(named.is_empty(), "{name}:{i} names {named:?}: {line}");
        }
    }
}

#[test]
fn a_view_imports_no_other_view() {
    let views: Vec<&str> = tokenscope_app::views::ALL.iter().map(|v| v.id).collect();
    assert_eq!(views.len(), 6);
    for view in &views {
        for file in sources(&root().join("app/src/views").join(view)) {
            for other in views.iter().filter(|o| *o != view) {
                for (i, line) in code(&file).iter().filter(|(_, l)| l.starts_with("use ") || l.contains("views::")) {
                    let imports = names(line, &format!("views::{other}")) || names(line, &format!("super::{other}"));
                    assert!(!imports, "{}:{i}: {line}", name_of(&file));
                }
            }
        }
    }
}

#[test]
fn only_the_theme_names_colours() {
    // What is no colour of the program: none at all, a picture's own, the mean of a textured shape.
    let free = ["TRANSPARENT", "PLACEHOLDER", "from_rgb(r, g, b)"];
    let white_leaves_a_picture_as_it_is =
        |line: &str| line.contains("texture.id(), ") && line.contains("Color32::WHITE");
    for file in sources(&root().join("app/src")) {
        let name = name_of(&file);
        if name == "app/src/theme.rs" || name.starts_with("app/src/export/") {
            continue;
        }
        for (i, line) in code(&file) {
            let named = line.match_indices("Color32::").any(|(at, all)| {
                let after = &line[at + all.len()..];
                let value = after.starts_with("from_") || after.starts_with(|c: char| c.is_ascii_uppercase());
                value && !free.iter().any(|f| after.starts_with(f))
            });
            assert!(!named || white_leaves_a_picture_as_it_is(&line), "{name}:{i}: {line}");
        }
    }
}

#[test]
fn only_files_that_are_kept_are_read_back_from_disk() {
    // Trace files and what they hold, settings and recents; raw entries read what scripts give them.
    let may = |f: &str| {
        [
            "analysis/src/trace/",
            "analysis/src/raw.rs",
            "analysis/src/token.rs",
            // Where a model is computed, which settings and sessions keep.
            "analysis/src/weights/placement.rs",
            // Results that sessions keep on request.
            "analysis/src/decode/mask.rs",
            "analysis/src/decode/metrics.rs",
            "analysis/src/decode/pace.rs",
            "analysis/src/faithful.rs",
            "analysis/src/finding/",
            "analysis/src/reduce/budget.rs",
            "analysis/src/reduce/judge.rs",
            "analysis/src/reduce/place.rs",
            "analysis/src/reduce/plan.rs",
            "analysis/src/reduce/step.rs",
            "analysis/src/score/mod.rs",
            "app/src/work/",
            "app/src/settings.rs",
            "app/src/session",
            "app/src/recents.rs",
            "app/src/verified.rs",
            // A file of the program itself.
            "app/src/licences.rs",
            // The document.
            "app/src/state.rs",
            "app/src/pane.rs",
            "app/src/pane/",
            "app/src/series_source.rs",
            "app/src/keys.rs",
            "app/src/text.rs",
            "app/src/selection.rs",
            "app/src/picture_source.rs",
            "app/src/theme.rs",
            "app/src/heatmap/scale.rs",
        ]
        .iter()
        .any(|d| f.starts_with(d))
    };
    let reads = ["Serialize, Deserialize)]", "(Deserialize)]", "serde::Deserialize)]"];
    let raw = |f: &str| may(f) || f == "analysis/src/decode/draft/speculative_sampling.rs";
    assert_eq!(offenders("analysis/src", &reads, raw), [""; 0]);
    assert_eq!(offenders("app/src", &reads, may), [""; 0]);
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
