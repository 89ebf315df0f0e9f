//! Fonts: those that are part of the program, then those of the system for characters that these lack.
//!
//! The system's fonts are looked for only when such a character is on screen, and never before the first frame.

use egui::epaint::text::{FallbackRequest, FontInsert, FontPriority, FontProvider, InsertFontFamily};
use egui::{FontData, FontDefinitions, FontFamily};
use skrifa::{FontRef, MetadataProvider as _};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

macro_rules! font {
    ($file:literal) => {
        ($file, include_bytes!(concat!("../../assets/fonts/", $file)).as_slice())
    };
}

/// Inter for words.
const WORDS: (&str, &[u8]) = font!("Inter-Regular.otf");
/// JetBrains Mono for tokens.
const TOKENS: (&str, &[u8]) = font!("JetBrainsMono-Regular.ttf");
/// Other scripts; assets/fonts/README.md says what they hold and how they were made.
const SCRIPTS: [(&str, &[u8]); 7] = [
    font!("NotoSansHebrew.ttf"),
    font!("NotoSansArabic-common.ttf"),
    font!("NotoSansDevanagari.ttf"),
    font!("NotoSansThai.ttf"),
    font!("NotoSansCJK-common.otf"),
    font!("Symbola-emoji.ttf"),
    font!("NotoSansSymbols2-common.ttf"),
];

/// The fonts that are part of the program.
pub fn bundled() -> FontDefinitions {
    let mut fonts = FontDefinitions::default();
    for ((name, bytes), family) in [(WORDS, FontFamily::Proportional), (TOKENS, FontFamily::Monospace)] {
        fonts.font_data.insert(name.into(), Arc::new(FontData::from_owned(plain(bytes))));
        fonts.families.entry(family).or_default().insert(0, name.into());
    }
    for (name, bytes) in SCRIPTS {
        fonts.font_data.insert(name.into(), Arc::new(FontData::from_static(bytes)));
        fonts.families.values_mut().for_each(|list| list.push(name.into()));
    }
    fonts
}

/// Features of a font that draw other characters than those that are there, such as ≠ for `!=`.
const LIGATURES: [&[u8; 4]; 6] = [b"calt", b"clig", b"dlig", b"hlig", b"liga", b"rclt"];

/// The font without its ligatures: their features get a name that no program asks for. Only for fonts of scripts that
/// can be read without; Arabic and Devanagari cannot.
fn plain(font: &[u8]) -> Vec<u8> {
    let mut out = font.to_vec();
    let word = |at: usize| font.get(at..at + 2).map(|b| usize::from(b[0]) << 8 | usize::from(b[1]));
    let long = |at: usize| Some(word(at)? << 16 | word(at + 2)?);
    let tables = 0..word(4).unwrap_or(0);
    let record = tables.map(|i| 12 + 16 * i).find(|r| font.get(*r..r + 4) == Some(b"GSUB"));
    // A table's head: version, list of scripts, list of features.
    let features = record.and_then(|r| long(r + 8)).and_then(|gsub| Some(gsub + word(gsub + 6)?));
    let Some(list) = features else { return out };
    for i in 0..word(list).unwrap_or(0) {
        let tag = list + 2 + 6 * i;
        if let Some(name) = out.get_mut(tag..tag + 4)
            && LIGATURES.iter().any(|l| *l == name)
        {
            name.copy_from_slice(b"none");
        }
    }
    out
}

/// Beginnings of file names of fonts for further scripts, lower case, the best first.
const PREFERRED: &[&str] = &[
    "notosanscjk-regular",
    "notosanscjksc-regular",
    "notosanssc-regular",
    "wqy-",
    "droidsansfallback",
    "pingfang",
    "hiragino",
    "applesdgothicneo",
    "msyh",
    "yugothr",
    "malgun",
    "simsun",
    "nirmala",
    "segoeui",
    "seguisym",
    "notosans",
    "dejavusans",
    "arial unicode",
    "freesans",
    "unifont",
    "notoserif",
    "symbola",
    "notoemoji",
    "seguiemj",
];
/// The largest font file that is read, in bytes.
const MAX_FILE: u64 = 40 << 20;
/// Fonts of the system that are kept, in bytes.
const MAX_KEPT: u64 = 96 << 20;
/// Folder entries that are looked at.
const MAX_ENTRIES: usize = 20_000;
/// Faces of one collection.
const MAX_FACES: u32 = 16;

/// Font files of the system that come into question, the best first.
pub fn system_files() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let mut folders: Vec<PathBuf> =
        ["/usr/share/fonts", "/usr/local/share/fonts", "/System/Library/Fonts", "/Library/Fonts", "C:/Windows/Fonts"]
            .map(PathBuf::from)
            .to_vec();
    folders.extend([".local/share/fonts", ".fonts", "Library/Fonts"].map(|f| home.join(f)));
    files_in(folders)
}

fn files_in(mut folders: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut out: Vec<(usize, PathBuf)> = Vec::new();
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        // Most of these folders are not there; one that cannot be read holds no fonts for us.
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            seen += 1;
            let (path, kind) = (entry.path(), entry.file_type());
            match kind {
                Ok(k) if k.is_dir() && seen < MAX_ENTRIES => folders.push(path),
                Ok(k) if k.is_dir() => {}
                _ => out.extend(rank(&path).map(|r| (r, path))),
            }
        }
    }
    out.sort();
    out.into_iter().map(|o| o.1).collect()
}

/// How well a file suits, by its name; `None` if it is not a font that is looked for.
fn rank(path: &Path) -> Option<usize> {
    let end = path.extension()?.to_string_lossy().to_lowercase();
    let name = path.file_stem()?.to_string_lossy().to_lowercase();
    let cut = ["bold", "italic", "light", "thin", "black", "medium", "condensed", "oblique"];
    if !["ttf", "otf", "ttc", "otc"].contains(&end.as_str()) || cut.iter().any(|c| name.contains(c)) {
        return None;
    }
    PREFERRED.iter().position(|p| name.starts_with(p))
}

/// The face of the file that has a glyph for `c`.
fn face_with(bytes: &[u8], c: char) -> Option<u32> {
    let face = |i: &u32| FontRef::from_index(bytes, *i);
    (0..MAX_FACES).map_while(|i| face(&i).ok().map(|f| (i, f))).find(|(_, f)| f.charmap().map(c).is_some()).map(|f| f.0)
}

/// Fonts of the system, looked for by character.
pub struct SystemFonts {
    found: Mutex<Found>,
    /// Told when a search on a thread of its own found something; without it the search is done at once.
    window: Option<egui::Context>,
}

#[derive(Default)]
struct Found {
    files: Option<Vec<PathBuf>>,
    fonts: Vec<(String, FontData)>,
    /// Which font has a character; `None` if none has.
    of: HashMap<char, Option<usize>>,
    wanted: BTreeSet<char>,
    searching: bool,
    kept: u64,
}

impl SystemFonts {
    /// Lets the window use the system's fonts: they are searched aside and appear when they are there.
    pub fn follow(ctx: &egui::Context) {
        ctx.add_font_provider(Arc::new(Handle(Arc::new(Self { found: Mutex::default(), window: Some(ctx.clone()) }))));
    }

    /// Lets a figure use the system's fonts, which are searched when a character asks for them.
    pub fn at_once(ctx: &egui::Context) {
        ctx.add_font_provider(Arc::new(Handle(Arc::new(Self { found: Mutex::default(), window: None }))));
    }

    fn lock(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for fonts of the wanted characters until there are none.
    fn search(&self) {
        let files = self.lock().files.get_or_insert_with(system_files).clone();
        loop {
            let (wanted, kept) = {
                let mut found = self.lock();
                found.searching = !found.wanted.is_empty();
                (std::mem::take(&mut found.wanted), found.kept)
            };
            let Some(&first) = wanted.first() else { return };
            let new = first_with(&files, first, MAX_KEPT.saturating_sub(kept));
            let mut found = self.lock();
            let at = new.map(|(name, data)| {
                found.kept += data.bytes().len() as u64;
                found.fonts.push((name, data));
                found.fonts.len() - 1
            });
            found.of.insert(first, at);
            // The others are looked up in the new font first.
            for c in wanted.into_iter().skip(1) {
                match at.filter(|i| has(&found.fonts[*i].1, c)) {
                    Some(i) => drop(found.of.insert(c, Some(i))),
                    None => drop(found.wanted.insert(c)),
                }
            }
        }
    }
}

fn has(font: &FontData, c: char) -> bool {
    FontRef::from_index(font.bytes(), font.index).is_ok_and(|f| f.charmap().map(c).is_some())
}

/// The first of the files with a glyph for `c` that is no larger than `room`.
fn first_with(files: &[PathBuf], c: char, room: u64) -> Option<(String, FontData)> {
    files.iter().find_map(|path| {
        let size = std::fs::metadata(path).ok()?.len();
        if size > MAX_FILE.min(room) {
            return None;
        }
        // A file that cannot be read is passed over, as is one without the character.
        let bytes = std::fs::read(path).ok()?;
        let index = face_with(&bytes, c)?;
        Some((format!("{} {index}", path.display()), FontData::from_blob(Arc::new(bytes), index)))
    })
}

/// What egui asks. A thread that searches needs a share of its own.
struct Handle(Arc<SystemFonts>);

impl FontProvider for Handle {
    fn font_for(&self, request: &FallbackRequest<'_>) -> Option<FontInsert> {
        let c = request.cluster.chars().next()?;
        let mut found = self.0.lock();
        if !found.of.contains_key(&c) {
            let known = found.fonts.iter().position(|f| has(&f.1, c));
            match known {
                Some(i) => drop(found.of.insert(c, Some(i))),
                None => drop(found.wanted.insert(c)),
            }
        }
        if !found.wanted.is_empty() && !found.searching {
            found.searching = true;
            drop(found);
            match &self.0.window {
                None => self.0.search(),
                Some(ctx) => {
                    let (fonts, ctx) = (self.0.clone(), ctx.clone());
                    // Without a thread the character stays a box.
                    let _ = std::thread::Builder::new().name("fonts".into()).spawn(move || {
                        let before = fonts.lock().fonts.len();
                        fonts.search();
                        if fonts.lock().fonts.len() > before {
                            // Set anew, so that egui asks again for what it has missed.
                            ctx.set_font_providers(vec![Arc::new(Handle(fonts.clone()))]);
                            ctx.request_repaint();
                        }
                    });
                }
            }
            found = self.0.lock();
        }
        let (name, data) = found.of.get(&c).copied().flatten().and_then(|i| found.fonts.get(i))?;
        let families = [FontFamily::Proportional, FontFamily::Monospace];
        let families = families.map(|family| InsertFontFamily { family, priority: FontPriority::Lowest }).to_vec();
        Some(FontInsert::new(name, data.clone(), families))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundled_fonts_have_the_common_characters_of_their_scripts() {
        let all: Vec<FontRef> = SCRIPTS.iter().chain([&WORDS, &TOKENS]).map(|f| FontRef::new(f.1).unwrap()).collect();
        let text = "aéß Ελληνικά кириллица العربية עברית हिन्दी ภาษาไทย 汉字漢字テストひらがな한국어 🚂🙂👩 ⏎→·…";
        for c in text.chars() {
            assert!(all.iter().any(|f| f.charmap().map(c).is_some()), "{c:?}");
        }
        let size: usize = SCRIPTS.iter().chain([&WORDS, &TOKENS]).map(|f| f.1.len()).sum();
        assert!(size < 12_000_000, "{size} bytes of fonts");
    }

    #[test]
    fn files_are_found_by_name_and_tried_by_what_they_hold() {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join("truetype/noto");
        std::fs::create_dir_all(&sub).unwrap();
        let put = |name: &str, bytes: &[u8]| std::fs::write(sub.join(name), bytes).unwrap();
        put("NotoSansThai-Regular.ttf", SCRIPTS[3].1);
        put("DejaVuSans.ttf", b"not a font");
        put("NotoSansHebrew-Bold.ttf", SCRIPTS[0].1);
        put("NotoSansHebrew-Regular.ttf", SCRIPTS[0].1);
        put("letter.txt", b"");
        let files = files_in(vec![dir.path().to_path_buf(), dir.path().join("nowhere")]);
        let names: Vec<_> = files.iter().map(|f| f.file_name().unwrap().to_string_lossy().into_owned()).collect();
        assert_eq!(names, ["NotoSansHebrew-Regular.ttf", "NotoSansThai-Regular.ttf", "DejaVuSans.ttf"]);
        let name = |c: char, room: u64| first_with(&files, c, room).map(|f| f.0);
        assert!(name('ก', MAX_FILE).is_some_and(|n| n.contains("Thai") && n.ends_with(" 0")));
        assert!(name('א', MAX_FILE).is_some_and(|n| n.contains("Hebrew-Regular")));
        assert_eq!((name('漢', MAX_FILE), name('ก', 100)), (None, None));
    }
}
