//! Makes every model folder in `sample_data/models` part of the program: a list of their files for `src/samples.rs`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Which come first in lists; the others follow by name.
const FIRST: [&str; 2] = ["sample-lm", "sample-draft"];

fn main() -> std::io::Result<()> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample_data/models");
    println!("cargo:rerun-if-changed={}", models.display());
    let mut dirs = entries(&models)?;
    dirs.retain(|d| d.join("config.json").exists());
    dirs.sort_by_key(|d| (FIRST.iter().position(|f| *f == name(d)).unwrap_or(FIRST.len()), name(d)));
    let mut text = "/// Files of every sample model, by name.\nstatic FILES: &[(&str, &[Embedded])] = &[\n".to_string();
    for dir in &dirs {
        let files: Vec<String> = entries(dir)?
            .iter()
            // The card is for readers of the repository.
            .filter(|f| f.extension().is_none_or(|e| e != "md"))
            .map(|f| format!("({:?}, include_bytes!({:?}))", name(f), f.display().to_string()))
            .collect();
        // Writing to a string does not fail.
        let _ = writeln!(text, "    ({:?}, &[{}]),", name(dir), files.join(", "));
    }
    text += "];\n\n/// Names of the models that are part of the program.\npub static NAMES: &[&str] = &[";
    text += &dirs.iter().map(|d| format!("{:?}", name(d))).collect::<Vec<_>>().join(", ");
    text += "];\n";
    let out = std::env::var_os("OUT_DIR").map(PathBuf::from).expect("cargo says where build output goes");
    std::fs::write(out.join("samples.rs"), text)
}

/// What a folder holds, sorted, without hidden files.
fn entries(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut out = std::fs::read_dir(dir)?.map(|e| e.map(|e| e.path())).collect::<std::io::Result<Vec<_>>>()?;
    out.retain(|p| !name(p).starts_with('.'));
    out.sort();
    Ok(out)
}

fn name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}
