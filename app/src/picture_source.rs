//! Where a picture comes from: a file, or a scene that the program draws itself.

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use tokenscope_analysis::image::Picture;
use tokenscope_generate::HELD_OUT;
use tokenscope_generate::scenes::{SIDE, Scene};

/// How a scene's name begins.
const SCENE: &str = "scene:";
/// How a seed that no training used is written: counted from the first of them.
const TEST: &str = "test+";

/// Where a picture comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PictureSource {
    /// A picture file.
    File(PathBuf),
    /// The drawn scene of this seed.
    Scene(u64),
}

impl PictureSource {
    /// The scene of seed [`HELD_OUT`] `+ n`, which no training used.
    pub fn test_scene(n: u64) -> Self {
        Self::Scene(HELD_OUT + n)
    }

    /// `scene:SEED` or `scene:test+N`, else the path of a file; a file of such a name is written `./scene:…`.
    ///
    /// Errors: what follows `scene:` is no seed.
    pub fn parse(text: OsString) -> anyhow::Result<Self> {
        let Some(seed) = text.to_str().and_then(|t| t.strip_prefix(SCENE)) else {
            return Ok(Self::File(text.into()));
        };
        let (digits, first) = seed.strip_prefix(TEST).map_or((seed, 0), |n| (n, HELD_OUT));
        let number = digits.parse::<u64>().ok().and_then(|n| n.checked_add(first));
        let number = number.with_context(|| {
            format!(
                "{SCENE}{seed}: write a seed as {SCENE}7, or {SCENE}{TEST}7 for one that no training used; \
                 a file of that name as ./{SCENE}{seed}"
            )
        })?;
        Ok(Self::Scene(number))
    }

    /// As [`PictureSource::parse`], where there may be none.
    pub fn parse_some(text: Option<OsString>) -> anyhow::Result<Option<Self>> {
        text.map(Self::parse).transpose()
    }

    /// A short name for titles.
    pub fn title(&self) -> String {
        match self {
            Self::File(p) => p.file_name().map_or_else(|| p.display().to_string(), |n| n.to_string_lossy().into()),
            Self::Scene(_) => self.to_string(),
        }
    }

    /// Opens the file or draws the scene.
    pub fn open(&self) -> tokenscope_analysis::Result<Picture> {
        match self {
            Self::File(path) => Picture::open(path),
            Self::Scene(seed) => Picture::new(SIDE, SIDE, Scene::new(*seed).rgb),
        }
    }
}

impl fmt::Display for PictureSource {
    /// What [`PictureSource::parse`] reads.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::File(p) => write!(f, "{}", p.display()),
            Self::Scene(seed) if *seed >= HELD_OUT => write!(f, "{SCENE}{TEST}{}", seed - HELD_OUT),
            Self::Scene(seed) => write!(f, "{SCENE}{seed}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenes_and_files_are_told_apart_and_written_as_they_are_read() {
        let parse = |t: &str| PictureSource::parse(t.into());
        assert_eq!(parse("scene:7").unwrap(), PictureSource::Scene(7));
        assert_eq!(parse("scene:test+7").unwrap(), PictureSource::Scene(HELD_OUT + 7));
        assert_eq!(parse("./scene:7").unwrap(), PictureSource::File("./scene:7".into()));
        for text in ["scene:7", "scene:test+7", "a/b.png"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        for bad in ["scene:", "scene:-1", "scene:test+", "scene:x", "scene:test+18446744073709551615"] {
            let why = parse(bad).unwrap_err().to_string();
            assert!(why.contains("scene:test+7"), "{why}");
        }
    }

    #[test]
    fn a_scene_is_the_generators_own_pixels() {
        let p = PictureSource::test_scene(3).open().unwrap();
        assert_eq!((p.width, p.height), (SIDE, SIDE));
        assert_eq!(p.rgb, Scene::new(HELD_OUT + 3).rgb);
    }
}
