//! Sets of numbered files, `name-00001-of-00003.safetensors`: from any part to all of them.

use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// What the name of a part says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Name before the number.
    pub stem: String,
    /// Number from 1.
    pub number: usize,
    /// How many there are.
    pub of: usize,
    /// Digits of the numbers.
    digits: (usize, usize),
    /// End of the name, with its dot.
    end: String,
}

impl Part {
    /// Reads the name of a file; `None` if it is not that of a part.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let dot = name.rfind('.')?;
        let (rest, of) = name[..dot].rsplit_once("-of-")?;
        let (stem, number) = rest.rsplit_once('-')?;
        let whole = |t: &str| if t.bytes().all(|b| b.is_ascii_digit()) { t.parse::<usize>().ok() } else { None };
        let (number, n) = (whole(number).map(|n| (n, number.len()))?, whole(of)?);
        if n == 0 || n > 100_000 || number.0 == 0 || number.0 > n {
            return None;
        }
        let digits = (number.1, of.len());
        Some(Self { stem: stem.into(), number: number.0, of: n, digits, end: name[dot..].into() })
    }

    /// The paths of all parts in `dir`, in order.
    fn all(&self, dir: &Path) -> Vec<PathBuf> {
        let (a, b) = self.digits;
        let name = |i: usize| format!("{}-{i:0a$}-of-{:0b$}{}", self.stem, self.of, self.end);
        (1..=self.of).map(|i| dir.join(name(i))).collect()
    }
}

/// All files of the set that `path` is a part of; `path` alone if its name is not that of a part.
///
/// Errors: parts that do not lie beside it, by name.
pub(super) fn set(path: &Path) -> Result<Vec<PathBuf>> {
    let Some(part) = Part::of(path) else { return Ok(vec![path.to_path_buf()]) };
    let all = part.all(path.parent().unwrap_or(Path::new("")));
    let missing: Vec<String> = all
        .iter()
        .filter(|p| !p.exists())
        .map(|p| p.file_name().unwrap_or_default().to_string_lossy().into_owned())
        .collect();
    if missing.is_empty() { Ok(all) } else { Err(lacking(path, part.number, part.of, &missing)) }
}

/// The error for a part whose fellows are not there.
pub(super) fn lacking(path: &Path, number: usize, of: usize, missing: &[String]) -> Error {
    let list = missing.iter().take(4).cloned().collect::<Vec<_>>().join(", ");
    let more = if missing.len() > 4 { format!(" and {} more", missing.len() - 4) } else { String::new() };
    let what = format!(
        "this is part {number} of {of}, of which {} {} not there",
        missing.len(),
        if missing.len() == 1 { "is" } else { "are" }
    );
    Error::file(path, what, format!("put {list}{more} beside it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_leads_to_the_set_and_what_lacks_is_named() {
        let t = tempfile::tempdir().unwrap();
        let at = |n: &str| t.path().join(n);
        for n in ["m-1-of-3.gguf", "m-2-of-3.gguf"] {
            std::fs::write(at(n), "x").unwrap();
        }
        let e = set(&at("m-2-of-3.gguf")).unwrap_err().to_string();
        assert!(e.contains("part 2 of 3") && e.contains("put m-3-of-3.gguf beside it"), "{e}");
        std::fs::write(at("m-3-of-3.gguf"), "x").unwrap();
        assert_eq!(set(&at("m-2-of-3.gguf")).unwrap(), [at("m-1-of-3.gguf"), at("m-2-of-3.gguf"), at("m-3-of-3.gguf")]);
        assert_eq!(set(&at("model.safetensors")).unwrap(), [at("model.safetensors")]);
        for no in ["a-of-b.gguf", "a-0-of-2.gguf", "a-3-of-2.gguf", "a-1-of-x.gguf", "1-of-2"] {
            let part = Part::of(Path::new(no));
            assert!(part.is_none(), "{no}: {part:?}");
        }
        assert!(Part::of(Path::new("a--1-of-2.gguf")).is_some(), "a name may end in a dash");
    }
}
