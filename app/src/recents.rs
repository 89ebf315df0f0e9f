//! What was opened lately, and what the Hugging Face cache on this machine holds.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tokenscope_analysis::save::save_bytes;

/// Entries kept per list.
const KEEP: usize = 10;

/// Models, pictures and sessions opened lately, the last one first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Recents {
    /// Model folders and files.
    pub models: Vec<PathBuf>,
    /// Pictures.
    pub pictures: Vec<PathBuf>,
    /// Sessions.
    pub sessions: Vec<PathBuf>,
}

/// The folder of settings: `TOKENSCOPE_CONFIG_DIR`, or the system's place for them.
pub(crate) fn folder() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("TOKENSCOPE_CONFIG_DIR") {
        return Some(dir.into());
    }
    directories::ProjectDirs::from("", "", "tokenscope").map(|d| d.config_dir().to_path_buf())
}

/// Files of settings are a few kilobytes; longer ones are not ours, in bytes.
const MOST: u64 = 1 << 20;

/// What a file of settings holds. `None` where there is none.
///
/// Errors: what is no file, as a pipe, which would keep the window waiting for ever; too long a file; not readable.
pub(crate) fn read_small(file: &Path) -> std::io::Result<Option<String>> {
    let meta = match std::fs::metadata(file) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        meta => meta?,
    };
    let refused = |why: String| Err(std::io::Error::new(std::io::ErrorKind::InvalidData, why));
    if !meta.is_file() {
        return refused("it is not a file".into());
    }
    if meta.len() > MOST {
        return refused(format!("it has {} bytes; at most {MOST} are read", meta.len()));
    }
    std::fs::read_to_string(file).map(Some)
}

impl Recents {
    /// The stored list; empty if there is none or it cannot be read.
    pub fn load() -> Self {
        folder().map_or_else(Self::default, |dir| Self::load_from(&dir))
    }

    /// As [`Recents::load`], from another folder.
    pub fn load_from(dir: &Path) -> Self {
        let read = || serde_json::from_str(&read_small(&dir.join("recent.json")).ok()??).ok();
        read().unwrap_or_default()
    }

    /// Stores the list. That it cannot be stored must not disturb the work, so failure is silent.
    pub fn store(&self) {
        let write = || -> Option<()> {
            let dir = folder()?;
            std::fs::create_dir_all(&dir).ok()?;
            save_bytes(&dir.join("recent.json"), &serde_json::to_vec_pretty(self).ok()?).ok()
        };
        let _ = write();
    }

    /// Puts a model at the front.
    pub fn add_model(&mut self, path: &Path) {
        push(&mut self.models, path);
    }

    /// Puts a session at the front.
    pub fn add_session(&mut self, path: &Path) {
        push(&mut self.sessions, path);
    }

    /// Puts a picture at the front.
    pub fn add_picture(&mut self, path: &Path) {
        push(&mut self.pictures, path);
    }
}

fn push(list: &mut Vec<PathBuf>, path: &Path) {
    list.retain(|p| p != path);
    list.insert(0, path.to_path_buf());
    list.truncate(KEEP);
}

/// Models in the Hugging Face cache: their names and folders, sorted. Looks at `HF_HUB_CACHE`, `HF_HOME` and the
/// usual place.
pub fn hub() -> Vec<(String, PathBuf)> {
    let env = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let root = env("HF_HUB_CACHE")
        .or_else(|| env("HF_HOME").map(|h| h.join("hub")))
        .or_else(|| directories::BaseDirs::new().map(|d| d.home_dir().join(".cache/huggingface/hub")));
    root.map(|r| models_in(&r)).unwrap_or_default()
}

fn models_in(root: &Path) -> Vec<(String, PathBuf)> {
    let mut out: Vec<(String, PathBuf)> = std::fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| {
            let name = e.file_name().to_str()?.strip_prefix("models--")?.replace("--", "/");
            e.path().join("snapshots").is_dir().then(|| (name, e.path()))
        })
        .collect();
    out.sort();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_comes_first_and_only_once() {
        let mut r = Recents::default();
        for i in 0..12 {
            r.add_model(Path::new(&format!("/m{i}")));
        }
        r.add_model(Path::new("/m5"));
        assert_eq!(
            (r.models.len(), r.models[0].as_path(), r.models[1].as_path()),
            (10, Path::new("/m5"), Path::new("/m11"))
        );
    }

    #[test]
    fn the_cache_lists_models_with_snapshots_by_their_hub_names() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("models--org--name/snapshots/abc")).unwrap();
        std::fs::create_dir_all(dir.path().join("models--org--empty")).unwrap();
        std::fs::create_dir_all(dir.path().join("datasets--org--name/snapshots/abc")).unwrap();
        let names: Vec<String> = models_in(dir.path()).into_iter().map(|m| m.0).collect();
        assert_eq!(names, ["org/name"]);
        assert!(models_in(Path::new("/nowhere")).is_empty());
    }
}
