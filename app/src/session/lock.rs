//! Who has a session open, and whether its file changed meanwhile.

use crate::hash::sha256;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Keeps a session for one window, as long as it lives. The lock lies in the folder of settings and not on the session
/// itself, whose file is another one after every save, nor beside it, where it would be litter.
#[derive(Debug)]
pub struct Held {
    /// The session.
    path: PathBuf,
    /// Locked; the system lets go of it however the process ends.
    _file: Option<File>,
}

impl Held {
    /// Takes the session at `path`, with a lock below the folder `dir`; `None` where another window has it. Where
    /// nothing can be locked, or there is no folder for it, nobody is kept out.
    pub fn take(dir: Option<&Path>, path: &Path) -> Option<Self> {
        let Some(dir) = dir else { return Some(Self { path: path.into(), _file: None }) };
        // However it is written, it is one file.
        let whole = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let name = &sha256(whole.as_os_str().as_encoded_bytes())[..16];
        match try_lock(&dir.join("open").join(format!("{name}.lock"))) {
            Ok(file) => Some(Self { path: path.into(), _file: file }),
            Err(Taken) => None,
        }
    }

    /// Whether this is the session at `path`.
    pub fn is(&self, path: &Path) -> bool {
        self.path == path || matches!((self.path.canonicalize(), path.canonicalize()), (Ok(a), Ok(b)) if a == b)
    }
}

/// Another process has it.
#[derive(Debug)]
pub(super) struct Taken;

/// Locks a file, which is made where there is none. `None` where that cannot be done on this system or disk.
pub(super) fn try_lock(path: &Path) -> Result<Option<File>, Taken> {
    let made = path.parent().is_none_or(|dir| std::fs::create_dir_all(dir).is_ok());
    if !made {
        return Ok(None);
    }
    let Ok(file) = OpenOptions::new().create(true).truncate(false).write(true).open(path) else { return Ok(None) };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(Taken),
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// What a file was when it was read or written last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mark(Option<(SystemTime, u64)>);

impl Mark {
    /// The file as it is now.
    pub fn of(path: &Path) -> Self {
        Self(std::fs::metadata(path).ok().and_then(|m| Some((m.modified().ok()?, m.len()))))
    }

    /// Whether the file at `path` was changed by others since. One that is gone has nothing that could be lost.
    pub fn changed(&self, path: &Path) -> bool {
        let now = Self::of(path);
        now.0.is_some() && now != *self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_one_windows_until_it_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tokenscope");
        std::fs::write(&path, "").unwrap();
        let held = Held::take(Some(dir.path()), &path).expect("free");
        assert!(held.is(&path) && held.is(&dir.path().join("./a.tokenscope")));
        assert!(Held::take(Some(dir.path()), &dir.path().join("./a.tokenscope")).is_none(), "two have it");
        assert!(Held::take(Some(dir.path()), &dir.path().join("b.tokenscope")).is_some());
        drop(held);
        assert!(Held::take(Some(dir.path()), &path).is_some());
        // Where no lock can lie, the window works all the same.
        assert!(Held::take(Some(&path), &path).is_some());
    }

    #[test]
    fn a_file_that_others_wrote_has_changed_and_one_that_is_gone_has_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tokenscope");
        std::fs::write(&path, "a").unwrap();
        let mark = Mark::of(&path);
        assert!(!mark.changed(&path));
        std::fs::write(&path, "ab").unwrap();
        assert!(mark.changed(&path));
        std::fs::remove_file(&path).unwrap();
        assert!(!mark.changed(&path) && !Mark::of(&path).changed(&path));
        std::fs::write(&path, "a").unwrap();
        assert!(Mark(None).changed(&path), "a file that appeared is somebody's");
    }
}
