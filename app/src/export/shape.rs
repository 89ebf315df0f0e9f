//! Runs of text as glyphs, shaped as the window shapes them, from the same fonts.

use egui::{FontData, FontFamily};
use harfrust::{ShapeOptions, ShaperData, UnicodeBuffer};
use skrifa::instance::{LocationRef, Size};
use skrifa::{FontRef, MetadataProvider as _};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// A glyph of a run. Lengths are shares of the font's size; up is positive.
pub(super) struct Glyph {
    /// Its number in the font.
    pub id: u32,
    /// Bytes of the run that it stands for; glyphs that stand for the same together have the same.
    pub bytes: Range<usize>,
    /// Where it stands, from the start of the run.
    pub at: [f32; 2],
}

/// Glyphs of one font.
pub(super) struct Part {
    /// The font, as [`Shaper::font`] knows it.
    pub font: usize,
    /// Units of the font to shares of its size.
    pub scale: f32,
    /// The glyphs, left to right.
    pub glyphs: Vec<Glyph>,
}

/// A run as glyphs.
pub(super) struct Shaped {
    /// Its parts, left to right.
    pub parts: Vec<Part>,
    /// Its width in shares of the font's size.
    pub width: f32,
    /// Whether every character has a glyph.
    pub whole: bool,
}

/// The fonts of a figure.
#[derive(Default)]
pub(super) struct Shaper {
    fonts: Vec<Arc<FontData>>,
    /// Fonts of each family, the first that has a character draws it.
    families: HashMap<FontFamily, Vec<usize>>,
}

impl Shaper {
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

    /// A font by its number.
    pub fn font(&self, at: usize) -> &Arc<FontData> {
        &self.fonts[at]
    }

    /// The glyphs of a run. `None` where the family has no font that can be read.
    pub fn run(&self, family: &FontFamily, text: &str) -> Option<Shaped> {
        let fonts = self.families.get(family)?;
        let has = |at: &&usize, c: char| {
            let font = &self.fonts[**at];
            FontRef::from_index(font.bytes(), font.index).is_ok_and(|f| f.charmap().map(c).is_some())
        };
        let mut parts: Vec<(usize, Range<usize>)> = Vec::new();
        for (byte, c) in text.char_indices() {
            let end = byte + c.len_utf8();
            let joins = matches!(c, '\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{300}'..='\u{36f}');
            let own = fonts.iter().find(|f| has(f, c));
            match parts.last_mut() {
                // Marks stay with what they mark, and a font goes on as long as it can.
                Some((_, part)) if joins => part.end = end,
                Some((at, part)) if own == Some(at) => part.end = end,
                _ => parts.push((*own.or(fonts.first())?, byte..end)),
            }
        }
        let mut out = Shaped { parts: Vec::new(), width: 0.0, whole: true };
        for (at, part) in parts {
            let data = &self.fonts[at];
            let font = FontRef::from_index(data.bytes(), data.index).ok()?;
            let metrics = font.metrics(Size::unscaled(), LocationRef::default());
            let scale = data.tweak.scale / f32::from(metrics.units_per_em.max(1));
            let mut buffer = UnicodeBuffer::new();
            buffer.push_str(&text[part.clone()]);
            buffer.guess_segment_properties();
            let shaped = ShaperData::new(&font).shaper(&font).build().shape(buffer, ShapeOptions::new());
            let mut starts: Vec<usize> = shaped.glyph_infos().iter().map(|g| g.cluster as usize).collect();
            starts.sort_unstable();
            let mut glyphs = Vec::with_capacity(starts.len());
            for (glyph, place) in shaped.glyph_infos().iter().zip(shaped.glyph_positions()) {
                let start = glyph.cluster as usize;
                let next = starts.get(starts.partition_point(|s| *s <= start)).copied();
                let bytes = part.start + start..part.start + next.unwrap_or(part.len());
                let at = [out.width + place.x_offset as f32 * scale, place.y_offset as f32 * scale];
                out.whole &= glyph.glyph_id != 0;
                glyphs.push(Glyph { id: glyph.glyph_id, bytes, at });
                out.width += place.x_advance as f32 * scale;
            }
            out.parts.push(Part { font: at, scale, glyphs });
        }
        Some(out)
    }
}
