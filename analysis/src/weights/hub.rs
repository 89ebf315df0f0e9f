//! The cache of Hugging Face: entries with snapshots whose files are links to blobs.

use crate::Error;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

/// The longest text that can be a link, in bytes.
const LINK: u64 = 256;

/// The file that `path` stands for. Where links cannot be made, copies of a snapshot hold the link as a text
/// (`../../blobs/…`); such a text is followed to a blob of the same entry and nowhere else.
pub(crate) fn real(path: &Path) -> PathBuf {
    follow(path).unwrap_or_else(|| path.to_path_buf())
}

fn follow(path: &Path) -> Option<PathBuf> {
    let entry = path.ancestors().skip(1).find(|p| p.file_name().is_some_and(|n| n == "snapshots"))?.parent()?;
    let meta = std::fs::metadata(path).ok()?;
    if !meta.is_file() || meta.len() > LINK {
        return None;
    }
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(LINK).read_to_string(&mut text).ok()?;
    let parts: Vec<Component> = Path::new(text.trim_end()).components().collect();
    let [up @ .., Component::Normal(blobs), Component::Normal(blob)] = parts.as_slice() else { return None };
    let up = up.iter().all(|p| matches!(p, Component::ParentDir | Component::CurDir));
    let to = entry.join("blobs").join(blob);
    (up && *blobs == "blobs" && to.is_file()).then_some(to)
}

/// The folder of the files, where `path` is an entry of the cache (`models--org--name`) or its `snapshots`: the snapshot
/// that `refs/main` names, else the last one; of those the first in which `wanted` is fulfilled.
pub(crate) fn snapshot(path: &Path, wanted: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    let own = path.join("snapshots");
    let (entry, snapshots) = match own.is_dir() {
        true => (path, own),
        false if path.file_name().is_some_and(|n| n == "snapshots") => (path.parent()?, path.to_path_buf()),
        false => return None,
    };
    let mut all: Vec<PathBuf> =
        std::fs::read_dir(&snapshots).ok()?.flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect();
    all.sort();
    all.reverse();
    let main = std::fs::read_to_string(entry.join("refs/main")).ok().map(|r| snapshots.join(r.trim()));
    if let Some(i) = main.and_then(|m| all.iter().position(|p| *p == m)) {
        let main = all.remove(i);
        all.insert(0, main);
    }
    all.iter().find(|p| wanted(p)).or(all.first()).cloned()
}

/// The error for the cache itself, with the models in it.
pub(crate) fn cache(dir: &Path) -> Option<Error> {
    let models = |dir: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let names = entries.map(|e| e.file_name().to_string_lossy().into_owned());
        let mut out: Vec<String> = names.filter(|n| n.starts_with("models--")).collect();
        out.sort();
        out
    };
    let hub = if models(dir).is_empty() { dir.join("hub") } else { dir.to_path_buf() };
    let found = models(&hub);
    if found.is_empty() {
        return None;
    }
    let list = found.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
    let more = if found.len() > 8 { format!(" and {} more", found.len() - 8) } else { String::new() };
    let what = format!("this is the Hugging Face cache with {} models ({list}{more})", found.len());
    Some(Error::file(hub, what, "choose the folder of one of them"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_snapshot_is_the_one_that_main_names_or_that_has_what_is_wanted() {
        let t = tempfile::tempdir().unwrap();
        let entry = t.path().join("models--a--b");
        let put = |path: &str, text: &str| {
            let path = entry.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("snapshots/1/config.json", "{}");
        put("snapshots/2/tokenizer.json", "{}");
        let has = |name: &'static str| move |p: &Path| p.join(name).exists();
        let of = |path: &Path, name: &'static str| snapshot(path, &has(name)).unwrap();
        assert_eq!(of(&entry, "config.json"), entry.join("snapshots/1"));
        assert_eq!(of(&entry, "tokenizer.json"), entry.join("snapshots/2"));
        assert_eq!(of(&entry.join("snapshots"), "config.json"), entry.join("snapshots/1"));
        put("refs/main", "1\n");
        assert_eq!(of(&entry, "nothing"), entry.join("snapshots/1"));
        put("refs/main", "../../elsewhere");
        assert_eq!(of(&entry, "nothing"), entry.join("snapshots/2"));
        assert!(snapshot(t.path(), &|_| true).is_none());
        assert!(cache(t.path()).unwrap().to_string().contains("models--a--b"));
    }

    #[test]
    fn links_as_texts_lead_to_blobs_of_the_same_entry_only() {
        let t = tempfile::tempdir().unwrap();
        let snapshot = t.path().join("models--a--b/snapshots/1");
        fs::create_dir_all(&snapshot).unwrap();
        fs::create_dir_all(t.path().join("models--a--b/blobs")).unwrap();
        fs::write(t.path().join("models--a--b/blobs/x"), "blob").unwrap();
        fs::write(t.path().join("secret"), "no").unwrap();
        let of = |text: &str| {
            fs::write(snapshot.join("f"), text).unwrap();
            real(&snapshot.join("f"))
        };
        assert_eq!(of("../../blobs/x"), t.path().join("models--a--b/blobs/x"));
        for text in ["../../../secret", "../../blobs/y", "/etc/passwd", "blobs", "{}", "../../blobs/../x"] {
            assert_eq!(of(text), snapshot.join("f"), "{text}");
        }
    }
}
