//! Letters as outlines, so that a figure looks the same in every program: what other programs lack, or take another
//! width for, are fonts. Shaped as the window shapes them, from the same fonts.

use egui::{FontData, FontFamily};
use harfrust::{ShapeOptions, ShaperData, UnicodeBuffer};
use skrifa::instance::{LocationRef, Size};
use skrifa::outline::{DrawSettings, OutlinePen};
use skrifa::{FontRef, GlyphId, MetadataProvider as _};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

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
#[derive(Default)]
pub(super) struct Outliner {
    fonts: Vec<Arc<FontData>>,
    /// Fonts of each family, the first that has a character draws it.
    families: HashMap<FontFamily, Vec<usize>>,
    known: HashMap<(usize, u32), Option<usize>>,
    /// Outlines as SVG paths in font units, y upwards.
    pub paths: Vec<String>,
}

impl Outliner {
    /// The fonts that `ctx` draws with, those of the system that it has looked for among them.
    pub fn new(ctx: &egui::Context) -> Self {
        let mut out = Self::default();
        ctx.fonts(|fonts| {
            let definitions = fonts.definitions();
            for (family, names) in &definitions.families {
                for data in names.iter().filter_map(|n| definitions.font_data.get(n)) {
                    out.add(family.clone(), data.clone());
                }
            }
            for found in fonts.discovered_fonts() {
                let data = Arc::new(found.data.clone());
                found.families.iter().for_each(|f| out.add(f.family.clone(), data.clone()));
            }
        });
        out
    }

    fn add(&mut self, family: FontFamily, data: Arc<FontData>) {
        let known = self.fonts.iter().position(|f| Arc::ptr_eq(f, &data));
        let at = known.unwrap_or_else(|| {
            self.fonts.push(data);
            self.fonts.len() - 1
        });
        self.families.entry(family).or_default().push(at);
    }

    /// The glyphs of a run and its width in shares of the font's size. `None` where a character has no outline.
    pub fn run(&mut self, family: &FontFamily, text: &str) -> Option<(Vec<Placed>, f32)> {
        let fonts = self.families.get(family)?.clone();
        let has = |font: &FontData, c: char| {
            FontRef::from_index(font.bytes(), font.index).is_ok_and(|f| f.charmap().map(c).is_some())
        };
        let mut parts: Vec<(usize, String)> = Vec::new();
        for c in text.chars() {
            let joins = matches!(c, '\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{300}'..='\u{36f}');
            match parts.last_mut() {
                // Marks stay with what they mark, and a font goes on as long as it can.
                Some((_, words)) if joins => words.push(c),
                Some((at, words)) if fonts.iter().find(|f| has(&self.fonts[**f], c)) == Some(at) => words.push(c),
                _ => parts.push((*fonts.iter().find(|f| has(&self.fonts[**f], c))?, c.into())),
            }
        }
        let (mut out, mut x) = (Vec::new(), 0.0);
        for (at, words) in parts {
            let data = self.fonts[at].clone();
            let font = FontRef::from_index(data.bytes(), data.index).ok()?;
            let metrics = font.metrics(Size::unscaled(), LocationRef::default());
            let scale = data.tweak.scale / f32::from(metrics.units_per_em.max(1));
            let mut buffer = UnicodeBuffer::new();
            buffer.push_str(&words);
            buffer.guess_segment_properties();
            let shaped = ShaperData::new(&font).shaper(&font).build().shape(buffer, ShapeOptions::new());
            for (glyph, place) in shaped.glyph_infos().iter().zip(shaped.glyph_positions()) {
                if glyph.glyph_id == 0 {
                    return None;
                }
                if let Some(outline) = self.outline(at, &font, glyph.glyph_id)? {
                    let moved = [x + place.x_offset as f32 * scale, place.y_offset as f32 * scale];
                    out.push(Placed { outline, at: moved, scale });
                }
                x += place.x_advance as f32 * scale;
            }
        }
        Some((out, x))
    }

    /// The number of a glyph's outline; `Some(None)` for one without ink, `None` where there is no outline.
    fn outline(&mut self, at: usize, font: &FontRef, id: u32) -> Option<Option<usize>> {
        if let Some(known) = self.known.get(&(at, id)) {
            return Some(*known);
        }
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
