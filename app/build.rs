//! Makes every model folder in `sample_data/models` and every lesson of `assets/lessons` part of the program: lists of
//! their files for `src/samples.rs` and `src/lesson`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Which come first in lists; the others follow by name.
const FIRST: [&str; 2] = ["sample-lm", "sample-draft"];

/// Lessons in the order in which they are offered; others follow by name.
const LESSONS: [&str; 8] = ["tokens", "attention", "recall", "heatmap", "pruning", "drafts", "masks", "cache"];

fn main() -> std::io::Result<()> {
    version();
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
    std::fs::write(out.join("samples.rs"), text)?;
    std::fs::write(out.join("lessons.rs"), lessons()?)
}

/// Says the version and, where git knows it or `TOKENSCOPE_COMMIT` says it, the commit.
fn version() {
    println!("cargo:rerun-if-env-changed=TOKENSCOPE_COMMIT");
    let own = |args: &[&str]| {
        let out = std::process::Command::new("git").args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
        let text = String::from_utf8(out.stdout).ok().filter(|_| out.status.success())?;
        Some(text.trim().to_string()).filter(|t| !t.is_empty())
    };
    // The folder of a package may lie in a repository of somebody else.
    let ours = own(&["ls-files", "--error-unmatch", "build.rs"]).is_some();
    let commit = std::env::var("TOKENSCOPE_COMMIT").ok().filter(|c| !c.is_empty());
    let commit = commit.or_else(|| own(&["rev-parse", "--short=12", "HEAD"]).filter(|_| ours));
    for file in ["HEAD", "logs/HEAD"].iter().filter(|_| ours) {
        let path = own(&["rev-parse", "--path-format=absolute", "--git-path", file]);
        // One that is not there counts as changed at every build.
        if let Some(path) = path.filter(|p| Path::new(p).exists()) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    let number = env!("CARGO_PKG_VERSION");
    let words = commit.map_or_else(|| number.to_string(), |c| format!("{number} ({c})"));
    println!("cargo:rustc-env=TOKENSCOPE_VERSION={words}");
}

/// Names and texts of the lessons.
fn lessons() -> std::io::Result<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/lessons");
    println!("cargo:rerun-if-changed={}", dir.display());
    let mut files = entries(&dir)?;
    files.retain(|f| f.extension().is_some_and(|e| e == "json"));
    let place = |f: &Path| LESSONS.iter().position(|l| f.file_stem().is_some_and(|s| s == *l)).unwrap_or(LESSONS.len());
    files.sort_by_key(|f| (place(f), name(f)));
    let mut text =
        "/// Name and text of every lesson that is part of the program.\nstatic FILES: &[(&str, &str)] = &[\n"
            .to_string();
    for file in &files {
        // A folder is watched for files that come and go, a file for what stands in it.
        println!("cargo:rerun-if-changed={}", file.display());
        let _ = writeln!(text, "    ({:?}, include_str!({:?})),", name(file), file.display().to_string());
    }
    text += "];\n";
    Ok(text)
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
