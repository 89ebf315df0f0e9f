//! Letters as outlines, so that a figure looks the same in every program: what other programs lack, or take another
//! width for, are fonts.

use super::shape::Shaper;
use egui::FontFamily;
use skrifa::instance::{LocationRef, Size};
use skrifa::outline::{DrawSettings, OutlinePen};
use skrifa::{FontRef, GlyphId, MetadataProvider as _};
use std::collections::HashMap;
use std::fmt::Write as _;

/// A glyph of a run.
pub(super) struct Placed {
    /// Number of its outline.
    pub outline: usize,
    /// Where it stands, in shares of the font's size from the start of the run; up is positive.
    pub at: [f32; 2],
    /// Font units to shares of the font's size.
    pub scale: f32,
}

/// The fonts of a figure and the outlines taken from them so far.
pub(super) struct Outliner {
    fonts: Shaper,
    known: HashMap<(usize, u32), Option<usize>>,
    /// Outlines as SVG paths in font units, y upwards.
    pub paths: Vec<String>,
}

impl Outliner {
    /// The fonts that `ctx` draws with, those of the system that it has looked for among them.
    pub fn new(ctx: &egui::Context) -> Self {
        Self { fonts: Shaper::new(ctx), known: HashMap::new(), paths: Vec::new() }
    }

    /// The glyphs of a run and its width in shares of the font's size. `None` where a character has no outline.
    pub fn run(&mut self, family: &FontFamily, text: &str) -> Option<(Vec<Placed>, f32)> {
        let shaped = self.fonts.run(family, text).filter(|s| s.whole)?;
        let mut out = Vec::new();
        for part in shaped.parts {
            for glyph in part.glyphs {
                let outline = self.outline(part.font, glyph.id)?;
                out.extend(outline.map(|outline| Placed { outline, at: glyph.at, scale: part.scale }));
            }
        }
        Some((out, shaped.width))
    }

    /// The number of a glyph's outline; `Some(None)` for one without ink, `None` where there is no outline.
    fn outline(&mut self, at: usize, id: u32) -> Option<Option<usize>> {
        if let Some(known) = self.known.get(&(at, id)) {
            return Some(*known);
        }
        let data = self.fonts.font(at);
        let font = FontRef::from_index(data.bytes(), data.index).ok()?;
        let glyph = font.outline_glyphs().get(GlyphId::new(id))?;
        let mut path = Path(String::new());
        glyph.draw(DrawSettings::unhinted(Size::unscaled(), LocationRef::default()), &mut path).ok()?;
        let number = (!path.0.is_empty()).then(|| {
            self.paths.push(path.0);
            self.paths.len() - 1
        });
        self.known.insert((at, id), number);
        Some(number)
    }
}

/// An outline in the words of SVG.
struct Path(String);

impl OutlinePen for Path {
    fn move_to(&mut self, x: f32, y: f32) {
        let _ = write!(self.0, "M{} {}", x.round(), y.round());
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let _ = write!(self.0, "L{} {}", x.round(), y.round());
    }

    fn quad_to(&mut self, cx0: f32, cy0: f32, x: f32, y: f32) {
        let _ = write!(self.0, "Q{} {} {} {}", cx0.round(), cy0.round(), x.round(), y.round());
    }

    fn curve_to(&mut self, cx0: f32, cy0: f32, cx1: f32, cy1: f32, x: f32, y: f32) {
        let all = [cx0, cy0, cx1, cy1, x, y].map(f32::round);
        let _ = write!(self.0, "C{} {} {} {} {} {}", all[0], all[1], all[2], all[3], all[4], all[5]);
    }

    fn close(&mut self) {
        self.0.push('Z');
    }
}
