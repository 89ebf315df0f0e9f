//! The one way in which a file is written: it is whole under its name, or the one that was there stays.
//!
//! What is written goes into a new file beside the target, reaches the disk, and takes the target's name. Symbolic
//! links are followed, a file that was there keeps its mode, a new one gets what the umask leaves. Devices, pipes and
//! what `/dev/stdout` means are written into, never replaced.

use crate::{Error, Result};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Writes `bytes` to `path`.
pub fn save_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    save(path, |fresh| fs::write(fresh, bytes))
}

/// Lets `write` fill a file and gives it the name `path` when it is whole.
///
/// Errors: no folder of that name, no right to write there, a folder or a write-protected file in that place, no room.
/// What was at `path` before is unchanged then.
pub fn save(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> Result<()> {
    let bad = |e: io::Error| {
        Error::file(path, format!("cannot be written: {e}"), "check the folder, its rights and the free space")
    };
    match place(path).map_err(bad)? {
        Place::File(target) => replace(&target, write).map_err(bad),
        Place::Stream => {
            let fresh = tempfile::NamedTempFile::new().map_err(bad)?;
            write(fresh.path()).map_err(bad)?;
            let mut from = File::open(fresh.path()).map_err(bad)?;
            let mut into = fs::OpenOptions::new().write(true).open(path).map_err(bad)?;
            io::copy(&mut from, &mut into).and_then(|_| into.flush()).map_err(bad)
        }
    }
}

/// What stands at a path.
enum Place {
    /// A file of this name, or none yet.
    File(PathBuf),
    /// Something that takes bytes and has no content of its own.
    Stream,
}

/// Symbolic links in a row that are followed at most.
const MAX_LINKS: usize = 40;

/// Whether a path is a name of one of the process's own open files, whatever that is.
fn is_open_file(path: &Path) -> bool {
    ["/proc", "/dev/fd", "/dev/stdin", "/dev/stdout", "/dev/stderr"].iter().any(|d| path.starts_with(d))
}

fn place(path: &Path) -> io::Result<Place> {
    if is_open_file(path) {
        return Ok(Place::Stream);
    }
    let mut target = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        match fs::symlink_metadata(&target) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Place::File(target)),
            Err(e) => return Err(e),
            Ok(about) if about.is_symlink() => {
                let to = fs::read_link(&target)?;
                // A link is read from the folder that it lies in.
                target = target.parent().unwrap_or(Path::new("")).join(to);
                if is_open_file(&target) {
                    return Ok(Place::Stream);
                }
            }
            Ok(about) if about.is_dir() => return Err(io::Error::other("it is a folder")),
            Ok(about) if about.is_file() => return Ok(Place::File(target)),
            Ok(_) => return Ok(Place::Stream),
        }
    }
    Err(io::Error::other("symbolic links lead round in a circle"))
}

fn replace(target: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let before = fs::metadata(target).ok();
    if before.as_ref().is_some_and(|b| b.permissions().readonly()) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the file is write-protected"));
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(".tokenscope-").suffix(".part");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let fresh = builder.tempfile_in(folder)?.into_temp_path();
    let mode = before.map_or_else(|| fs::metadata(&fresh), Ok)?.permissions();
    // The writer may put a file of its own there, so what lies there afterwards is opened anew and given its mode.
    write(&fresh)?;
    fs::set_permissions(&fresh, mode)?;
    File::open(&fresh)?.sync_all()?;
    fresh.persist(target).map_err(|e| e.error)?;
    // The new name reaches the disk, too; where folders cannot be opened the file is whole all the same.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// Errors if writing to `path` would destroy one of `inputs`: the same file, or one within a folder that is read.
pub fn spares(path: &Path, inputs: &[&Path]) -> Result<()> {
    let Ok(target) = path.canonicalize().and_then(|p| if p.is_file() { Ok(p) } else { Err(io::Error::other("")) })
    else {
        return Ok(());
    };
    for input in inputs {
        let Ok(read) = input.canonicalize() else { continue };
        if target == read || (read.is_dir() && target.starts_with(&read)) || same_file(&target, &read) {
            return Err(Error::file(path, "this file is an input of the command", "choose another name to write to"));
        }
    }
    Ok(())
}

/// Whether two names are one file, as hard links are.
#[cfg(unix)]
fn same_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |p: &Path| fs::metadata(p).ok().map(|m| (m.dev(), m.ino()));
    id(a).is_some() && id(a) == id(b)
}

/// Whether two names are one file; only the names tell here.
#[cfg(not(unix))]
fn same_file(_: &Path, _: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_stays_where_writing_fails() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        save_bytes(&path, b"first").unwrap();
        let error = save(&path, |fresh| {
            fs::write(fresh, "half")?;
            Err(io::Error::other("disk full"))
        })
        .unwrap_err()
        .to_string();
        assert!(error.contains("disk full") && error.contains("a.json"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
        assert!(save_bytes(&dir.path().join("none/a.json"), b"").is_err());
        assert!(save_bytes(dir.path(), b"").unwrap_err().to_string().contains("folder"));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_modes_kept_and_devices_written_into() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        save_bytes(&at("real"), b"1").unwrap();
        fs::set_permissions(at("real"), fs::Permissions::from_mode(0o604)).unwrap();
        symlink("real", at("link")).unwrap();
        save_bytes(&at("link"), b"2").unwrap();
        assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
        assert_eq!(fs::read(at("real")).unwrap(), b"2");
        assert_eq!(fs::metadata(at("real")).unwrap().permissions().mode() & 0o777, 0o604);
        // A link to nothing yet makes what it points at.
        symlink("later", at("early")).unwrap();
        save_bytes(&at("early"), b"3").unwrap();
        assert_eq!(fs::read(at("later")).unwrap(), b"3");
        // A new file is no more private than any program's.
        fs::write(at("plain"), "").unwrap();
        let mode = |name: &str| fs::metadata(at(name)).unwrap().permissions().mode();
        assert_eq!(mode("later"), mode("plain"));
        symlink("/dev/null", at("nothing")).unwrap();
        save_bytes(&at("nothing"), b"4").unwrap();
        assert!(fs::symlink_metadata(at("nothing")).unwrap().is_symlink());
        // A folder of files there is one like any other.
        if Path::new("/dev/shm").is_dir() {
            let shared = tempfile::tempdir_in("/dev/shm").unwrap().path().join("none yet");
            assert!(save_bytes(&shared, b"").is_err(), "its folder is gone");
            let shared = tempfile::tempdir_in("/dev/shm").unwrap();
            let file = shared.path().join("x");
            save_bytes(&file, b"long before").unwrap();
            save_bytes(&file, b"short").unwrap();
            assert_eq!(fs::read(&file).unwrap(), b"short");
        }
        symlink("b", at("a")).unwrap();
        symlink("a", at("b")).unwrap();
        assert!(save_bytes(&at("a"), b"").unwrap_err().to_string().contains("circle"));
        fs::set_permissions(at("real"), fs::Permissions::from_mode(0o444)).unwrap();
        assert!(save_bytes(&at("real"), b"5").unwrap_err().to_string().contains("write-protected"));
    }

    #[test]
    fn an_input_is_no_output() {
        let dir = tempfile::tempdir().unwrap();
        let (model, other) = (dir.path().join("model"), dir.path().join("other"));
        fs::create_dir(&model).unwrap();
        fs::write(model.join("w"), "").unwrap();
        fs::write(&other, "").unwrap();
        assert!(spares(&model.join("w"), &[&other, &model]).is_err());
        assert!(spares(&other, &[&other]).is_err());
        fs::hard_link(&other, dir.path().join("twin")).unwrap();
        assert_eq!(spares(&dir.path().join("twin"), &[&other]).is_err(), cfg!(unix));
        assert!(spares(&model.join("new"), &[&model]).is_ok());
        assert!(spares(&other, &[&model]).is_ok());
    }
}
