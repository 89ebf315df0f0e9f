//! The text of a shape as runs of one row and one format, which every back end sets in its own way.

use egui::epaint::TextShape;
use egui::epaint::text::Row;
use egui::{Color32, Pos2, TextFormat};

/// Glyphs of one row and one format. Heights and widths are in points.
pub(super) struct Run<'a> {
    /// The words.
    pub text: String,
    /// How they look.
    pub format: &'a TextFormat,
    /// Their colour.
    pub color: Color32,
    /// Where the baseline begins.
    pub at: Pos2,
    /// Width on the page.
    pub width: f32,
    /// Where a line through the words goes, and one below them.
    pub middle: f32,
    /// The lower edge of the row.
    pub bottom: f32,
}

/// The characters of a galley's text, glyph by glyph. A glyph names the first character of the cluster that it is part
/// of, and where text runs from right to left glyphs come the other way round; what is written down are the characters
/// themselves, in the order in which they are read.
struct Source<'a> {
    chars: std::iter::Peekable<std::str::CharIndices<'a>>,
    /// Whether there is a glyph for each character, as there is unless a font takes several for one.
    even: bool,
    len: usize,
}

impl<'a> Source<'a> {
    fn new(galley: &'a egui::Galley) -> Self {
        let text = galley.job.text.as_str();
        let glyphs: usize = galley.rows.iter().map(|r| r.row.glyphs.len()).sum();
        let even = galley.elided || glyphs == text.chars().filter(|c| *c != '\n').count();
        Self { chars: text.char_indices().peekable(), even, len: text.len() }
    }

    /// Whether the next character is that of the glyph.
    fn is_at(&mut self, glyph: char) -> bool {
        self.chars.peek().is_some_and(|c| c.1 == glyph)
    }

    /// The character of the next glyph, with the place of it in the text.
    fn next(&mut self, glyph: char) -> (usize, char) {
        // A line's end has no glyph.
        while self.chars.next_if(|c| c.1 == '\n').is_some() {}
        match self.chars.peek().copied() {
            // An elided galley ends with a glyph that the text does not have.
            Some((byte, c)) if c == glyph || self.even && glyph != '…' => {
                self.chars.next();
                (byte, c)
            }
            Some((byte, _)) => (byte, glyph),
            None => (self.len.saturating_sub(1), glyph),
        }
    }
}

/// The whole of a shape that has one line in one format, whatever its glyphs are.
fn one(t: &TextShape) -> Option<Run<'_>> {
    let galley = &*t.galley;
    let ([placed], [section], false) = (&galley.rows[..], &galley.job.sections[..], galley.elided) else { return None };
    let (at, glyphs) = (t.pos + placed.pos.to_vec2(), &placed.row.glyphs);
    let first = glyphs.iter().min_by(|a, b| a.pos.x.total_cmp(&b.pos.x))?;
    let right = glyphs.iter().map(|g| g.pos.x + g.advance_width).fold(first.pos.x, f32::max);
    let color = t.override_text_color.unwrap_or(section.format.color);
    let color = if color == Color32::PLACEHOLDER { t.fallback_color } else { color };
    let box_ = first.logical_rect();
    Some(Run {
        text: galley.job.text.trim_end_matches('\n').into(),
        format: &section.format,
        color: color.gamma_multiply(t.opacity_factor),
        at: at + first.pos.to_vec2(),
        width: right - first.pos.x,
        middle: at.y + box_.center().y,
        bottom: at.y + box_.bottom(),
    })
}

/// The runs of a shape, row by row, before it is turned. Those of white space alone are among them, since they may have
/// a background.
pub(super) fn of(t: &TextShape) -> Vec<Run<'_>> {
    let galley = &*t.galley;
    let mut out = Vec::new();
    let mut source = Source::new(galley);
    if let Some(run) = one(t).filter(|_| !source.even) {
        return vec![run];
    }
    for placed in &galley.rows {
        let row: &Row = &placed.row;
        let at = t.pos + placed.pos.to_vec2();
        let mut run: Option<(usize, Run)> = None;
        for g in &row.glyphs {
            // What has no width and no place in the text only completes a cluster.
            if !source.even && g.advance_width == 0.0 && !source.is_at(g.chr) {
                continue;
            }
            let (byte, c) = source.next(g.chr);
            let here = |s: &&egui::text::LayoutSection| byte >= s.byte_range.start.0 && byte < s.byte_range.end.0;
            let section = galley.job.sections.iter().position(|s| here(&s)).unwrap_or(0);
            match &mut run {
                Some((of, r)) if *of == section => {
                    r.text.push(c);
                    r.width = at.x + g.pos.x + g.advance_width - r.at.x;
                }
                _ => {
                    out.extend(run.take().map(|r| r.1));
                    let Some(format) = galley.job.sections.get(section).map(|s| &s.format) else { continue };
                    let mut color = t.override_text_color.unwrap_or(format.color);
                    if color == Color32::PLACEHOLDER {
                        color = t.fallback_color;
                    }
                    let box_ = g.logical_rect();
                    let new = Run {
                        text: c.to_string(),
                        format,
                        color: color.gamma_multiply(t.opacity_factor),
                        at: at + g.pos.to_vec2(),
                        width: g.advance_width,
                        middle: at.y + box_.center().y,
                        bottom: at.y + box_.bottom(),
                    };
                    run = Some((section, new));
                }
            }
        }
        out.extend(run.map(|r| r.1));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use egui::FontId;

    /// The words of each run of a text, wrapped at so many points.
    fn words(text: &str, width: f32) -> Vec<String> {
        let ctx = egui::Context::default();
        crate::theme::Theme::new(false, crate::theme::ColorMap::default()).install(&ctx);
        let mut out = Vec::new();
        let mut output = ctx.run_ui(Default::default(), |ui| {
            let mut job = egui::text::LayoutJob::simple(text.into(), FontId::monospace(10.0), Color32::BLACK, width);
            if width < 50.0 {
                job.wrap = egui::text::TextWrapping::truncate_at_width(width);
            }
            let shape = TextShape::new(Pos2::ZERO, ui.painter().layout_job(job), Color32::BLACK);
            out = of(&shape).into_iter().map(|r| r.text).collect();
        });
        output.textures_delta.clear();
        out
    }

    #[test]
    fn words_are_those_of_the_text_in_any_script_and_over_lines() {
        for text in ["plain", "हिन्दी", "العربية", "e\u{301}a", "ไทย 漢字"] {
            assert_eq!(words(text, 500.0).concat(), text);
        }
        assert_eq!(words("one\n\ntwo", 500.0), ["one", "two"]);
        let cut = words("a long line", 40.0).concat();
        assert!(cut.ends_with('…') && "a long line".starts_with(cut.trim_end_matches('…')), "{cut}");
    }
}
