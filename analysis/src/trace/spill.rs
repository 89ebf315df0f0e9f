//! Where arrays go that memory has no room for: a file, from which they are read when they are looked at.

use crate::array::Array;
use crate::{Error, Result};
use memmap2::{Mmap, MmapOptions};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file without a name, which is gone when the last array in it is, or when the program ends, however it does.
pub struct Spill {
    file: File,
    /// Bytes written.
    end: u64,
    folder: PathBuf,
}

/// Values of a mapped part of a file.
struct Mapped(Mmap);

impl AsRef<[f32]> for Mapped {
    fn as_ref(&self) -> &[f32] {
        // Every part is whole values long, so each begins at a multiple of their size.
        bytemuck::try_cast_slice(&self.0).unwrap_or_default()
    }
}

impl Spill {
    /// A file in `folder`.
    ///
    /// Errors: no such folder, no right to write there.
    pub fn new(folder: &Path) -> Result<Self> {
        let file = tempfile::tempfile_in(folder).map_err(|e| bad(folder, e))?;
        Ok(Self { file, end: 0, folder: folder.to_path_buf() })
    }

    /// The array with its values in the file.
    ///
    /// Errors: no space is left there.
    pub fn keep(&mut self, array: Array) -> Result<Array> {
        let values = array.data();
        self.file.write_all(bytemuck::cast_slice(values)).map_err(|e| bad(&self.folder, e))?;
        let at = self.end;
        self.end += size_of_val(values) as u64;
        if values.is_empty() {
            return Ok(array);
        }
        #[expect(
            unsafe_code,
            reason = "a map is read as memory is; the file has no name, so nobody else can change it"
        )]
        // SAFETY: the file is this process's alone, and what is written is neither written to nor cut off again.
        let map = unsafe { MmapOptions::new().offset(at).len(size_of_val(values)).map(&self.file) };
        Array::elsewhere(array.shape(), Arc::new(Mapped(map.map_err(|e| bad(&self.folder, e))?)))
    }
}

fn bad(folder: &Path, e: std::io::Error) -> Error {
    let what = format!("arrays that memory has no room for cannot be kept there: {e}");
    Error::file(
        folder,
        what,
        "free some space there, choose another folder with TOKENSCOPE_SPILL, or record fewer layers",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_come_back_from_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut spill = Spill::new(dir.path()).unwrap();
        let arrays: Vec<Array> = [[3, 5], [1, 1], [0, 4], [64, 100]]
            .into_iter()
            .map(|s| Array::new(s, (0..s[0] * s[1]).map(|i| i as f32 * 0.5 - 3.0).collect()).unwrap())
            .collect();
        let kept: Vec<Array> = arrays.iter().map(|a| spill.keep(a.clone()).unwrap()).collect();
        drop(spill);
        assert_eq!(kept, arrays);
        assert!(kept.iter().all(|a| a.own_bytes() == 0));
        // Nothing is left of it in the folder.
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let why = Spill::new(&dir.path().join("none")).err().unwrap().to_string();
        assert!(why.contains("TOKENSCOPE_SPILL"), "{why}");
    }
}
