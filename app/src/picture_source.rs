//! Where a picture comes from: a file, a scene that the program draws itself, or several of such side by side.

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use tokenscope_analysis::Ctx;
use tokenscope_analysis::image::{Picture, frames};
use tokenscope_generate::HELD_OUT;
use tokenscope_generate::scenes::{SIDE, Scene};

/// How a scene's name begins.
const SCENE: &str = "scene:";
/// How a seed that no training used is written: counted from the first of them.
const TEST: &str = "test+";
/// How a clip's name begins.
const CLIP: &str = "clip:";

/// Where a picture comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PictureSource {
    /// A picture file.
    File(PathBuf),
    /// The drawn scene of this seed.
    Scene(u64),
    /// So many frames of a clip, evenly spread: an animated GIF or WebP, or a folder of pictures.
    Clip(PathBuf, usize),
    /// Several pictures of one prompt, in its order; two at least, and none of them several itself.
    Several(Vec<PictureSource>),
}

/// Frames of a clip that are taken where nobody says how many.
pub const FRAMES: usize = 4;
/// The most pictures of one prompt, and frames of one clip.
const MOST: usize = 64;

impl PictureSource {
    /// The scene of seed [`HELD_OUT`] `+ n`, which no training used.
    pub fn test_scene(n: u64) -> Self {
        Self::Scene(HELD_OUT + n)
    }

    /// `scene:SEED` or `scene:test+N`, or `clip:N:PATH`, else the path of a file; a file of such a name is written
    /// `./scene:…`.
    ///
    /// Errors: what follows `scene:` is no seed, what follows `clip:` no number of frames and a path.
    pub fn parse(text: OsString) -> anyhow::Result<Self> {
        if let Some(clip) = text.to_str().and_then(|t| t.strip_prefix(CLIP)) {
            let how =
                format!("{CLIP}{clip}: write it as {CLIP}4:PATH, with 1 to {MOST} frames; a file of that name as ./");
            let (n, path) = clip.split_once(':').with_context(|| how.clone())?;
            return Ok(Self::Clip(path.into(), n.parse().ok().filter(|n| (1..=MOST).contains(n)).context(how)?));
        }
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

    /// All that an option that may be given several times names, with `frames` of each folder and animation; `None` for
    /// none. Errors: as [`PictureSource::parse`], `frames` of what is no clip, too many.
    pub fn parse_all(texts: &[OsString], frames: Option<usize>) -> anyhow::Result<Option<Self>> {
        let mut all = Vec::new();
        for text in texts {
            all.push(match (Self::parse(text.clone())?, frames) {
                (Self::File(path), n) if n.is_some() || path.is_dir() => Self::Clip(path, n.unwrap_or(FRAMES)),
                (_, Some(_)) if texts.len() == 1 => {
                    bail!("--frames is for a clip: a folder of pictures, a GIF or a WebP")
                }
                (other, _) => other,
            });
        }
        let n: usize = all.iter().map(|s| if let Self::Clip(_, n) = s { *n } else { 1 }).sum();
        if n > MOST {
            bail!("{n} pictures are more than the {MOST} of one prompt; leave some out");
        }
        Ok(Self::joined(all))
    }

    /// Several as one; `None` for none.
    pub fn joined(all: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut all: Vec<Self> = all.into_iter().flat_map(|s| s.each().cloned().collect::<Vec<_>>()).collect();
        if all.len() > 1 { Some(Self::Several(all)) } else { all.pop() }
    }

    /// The source of a file as options would give it: no more pictures than one prompt may have, none of them several.
    pub fn held(self) -> Option<Self> {
        let (mut left, mut all) = (vec![self], Vec::new());
        while let Some(source) = left.pop() {
            match source {
                Self::Several(own) => left.extend(own.into_iter().rev()),
                Self::Clip(path, n) => all.push(Self::Clip(path, n.clamp(1, MOST))),
                one => all.push(one),
            }
        }
        let mut room = MOST;
        all.retain(|s| {
            let n = if let Self::Clip(_, n) = s { *n } else { 1 };
            let fits = n <= room;
            room -= if fits { n } else { 0 };
            fits
        });
        Self::joined(all)
    }

    /// This picture, or each of several.
    pub fn each(&self) -> std::slice::Iter<'_, Self> {
        match self {
            Self::Several(all) => all.iter(),
            one => std::slice::from_ref(one).iter(),
        }
    }

    /// The files that it is read from, to be replaced.
    pub fn files_mut(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::File(p) | Self::Clip(p, _) => vec![p],
            Self::Scene(_) => Vec::new(),
            Self::Several(all) => all.iter_mut().flat_map(Self::files_mut).collect(),
        }
    }

    /// The picture files that it is read from; a folder of frames is none.
    pub fn files(&self) -> Vec<&Path> {
        match self {
            Self::File(p) => vec![p],
            Self::Clip(p, _) if !p.is_dir() => vec![p],
            Self::Clip(..) | Self::Scene(_) => Vec::new(),
            Self::Several(all) => all.iter().flat_map(Self::files).collect(),
        }
    }

    /// A short name for titles.
    pub fn title(&self) -> String {
        match self {
            Self::Several(all) => all.iter().map(Self::title).collect::<Vec<_>>().join(", "),
            Self::Clip(p, n) => format!("{n} frames of {}", Self::File(p.clone()).title()),
            Self::File(p) => p.file_name().map_or_else(|| p.display().to_string(), |n| n.to_string_lossy().into()),
            Self::Scene(_) => self.to_string(),
        }
    }

    /// Opens the file or draws the scene; several lie side by side. Errors: what is wrong with a file, cancelled.
    pub fn open(&self, ctx: &Ctx) -> tokenscope_analysis::Result<Picture> {
        Picture::beside(&self.pictures(ctx)?)
    }

    fn pictures(&self, ctx: &Ctx) -> tokenscope_analysis::Result<Vec<Picture>> {
        Ok(match self {
            Self::File(path) => vec![Picture::open(path)?],
            Self::Scene(seed) => vec![Picture::new(SIDE, SIDE, Scene::new(*seed).rgb)?],
            Self::Clip(path, n) => frames(path, *n, ctx)?,
            Self::Several(all) => {
                let mut out = Vec::new();
                for source in all {
                    ctx.check()?;
                    out.extend(source.pictures(ctx)?);
                }
                out
            }
        })
    }
}

impl fmt::Display for PictureSource {
    /// What [`PictureSource::parse`] reads; several as options one after the other.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::File(p) => write!(f, "{}", p.display()),
            Self::Scene(seed) if *seed >= HELD_OUT => write!(f, "{SCENE}{TEST}{}", seed - HELD_OUT),
            Self::Scene(seed) => write!(f, "{SCENE}{seed}"),
            Self::Clip(p, n) => write!(f, "{CLIP}{n}:{}", p.display()),
            Self::Several(all) => {
                let all: Vec<String> = all.iter().map(Self::to_string).collect();
                f.write_str(&all.join(" --image "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_says_is_held_to_what_options_give() {
        let several = PictureSource::Several;
        let scene = PictureSource::Scene;
        let nested =
            several(vec![scene(1), several(vec![scene(2), several(vec![])]), PictureSource::Clip("a".into(), 0)]);
        let clip = PictureSource::Clip("a".into(), 1);
        assert_eq!(nested.held(), Some(several(vec![scene(1), scene(2), clip])));
        assert_eq!(several(vec![several(vec![scene(3)])]).held(), Some(scene(3)));
        assert_eq!(several(Vec::new()).held(), None);
        let many = several((0..100).map(scene).collect()).held().expect("some");
        assert_eq!(many.each().count(), MOST);
    }

    #[test]
    fn scenes_and_files_are_told_apart_and_written_as_they_are_read() {
        let parse = |t: &str| PictureSource::parse(t.into());
        assert_eq!(parse("scene:7").unwrap(), PictureSource::Scene(7));
        assert_eq!(parse("scene:test+7").unwrap(), PictureSource::Scene(HELD_OUT + 7));
        assert_eq!(parse("./scene:7").unwrap(), PictureSource::File("./scene:7".into()));
        for text in ["scene:7", "scene:test+7", "a/b.png", "clip:4:a:b.gif"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        for bad in ["scene:", "scene:-1", "scene:test+", "scene:x", "scene:test+18446744073709551615"] {
            let why = parse(bad).unwrap_err().to_string();
            assert!(why.contains("scene:test+7"), "{why}");
        }
    }

    #[test]
    fn several_are_one_source_and_files_of_one_picture_open_as_before() {
        let words = |all: &[&str]| all.iter().map(OsString::from).collect::<Vec<_>>();
        let of = |all: &[&str]| PictureSource::parse_all(&words(all), None).unwrap();
        assert_eq!((of(&[]), of(&["scene:7"])), (None, Some(PictureSource::Scene(7))));
        let two = of(&["scene:7", "a.png"]).unwrap();
        assert_eq!((two.to_string().as_str(), two.title().as_str()), ("scene:7 --image a.png", "scene:7, a.png"));
        let json = serde_json::to_string(&two).unwrap();
        assert_eq!(serde_json::from_str::<PictureSource>(&json).unwrap(), two);
        assert_eq!(serde_json::from_str::<PictureSource>(r#"{"file":"a.png"}"#).unwrap(), of(&["a.png"]).unwrap());
        // One more joins them, and none lies within another.
        let three = PictureSource::joined([two.clone(), PictureSource::Scene(8)]).unwrap();
        assert_eq!((three.each().len(), three.files().len()), (3, 1));
        let drawn = PictureSource::Several(vec![PictureSource::Scene(7), PictureSource::Scene(8)]);
        assert_eq!(drawn.open(&Ctx::default()).unwrap().parts.len(), 2);
        assert!(PictureSource::parse_all(&words(&["scene:7"]), Some(3)).is_err());
        assert!(PictureSource::parse_all(&words(&["clip:99:a.gif"]), None).is_err());
    }

    #[test]
    fn a_scene_is_the_generators_own_pixels() {
        let p = PictureSource::test_scene(3).open(&Ctx::default()).unwrap();
        assert_eq!((p.width, p.height), (SIDE, SIDE));
        assert_eq!(p.rgb, Scene::new(HELD_OUT + 3).rgb);
    }
}
