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

/// The runs of a shape, row by row, before it is turned. Those of white space alone are among them, since they may have
/// a background.
pub(super) fn of(t: &TextShape) -> Vec<Run<'_>> {
    let galley = &*t.galley;
    let mut out = Vec::new();
    // Glyphs follow the characters of the job's text; each row's newline has no glyph.
    let mut chars = galley.job.text.char_indices().peekable();
    for placed in &galley.rows {
        let row: &Row = &placed.row;
        let at = t.pos + placed.pos.to_vec2();
        let mut run: Option<(usize, Run)> = None;
        for g in &row.glyphs {
            // An elided galley ends with a glyph that the text does not have.
            let byte = match chars.peek() {
                Some(&(b, c)) if c == g.chr => {
                    chars.next();
                    b
                }
                Some(&(b, _)) => b,
                None => galley.job.text.len().saturating_sub(1),
            };
            let here = |s: &&egui::text::LayoutSection| byte >= s.byte_range.start.0 && byte < s.byte_range.end.0;
            let section = galley.job.sections.iter().position(|s| here(&s)).unwrap_or(0);
            match &mut run {
                Some((of, r)) if *of == section => {
                    r.text.push(g.chr);
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
                        text: g.chr.to_string(),
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
        if placed.ends_with_newline {
            chars.next_if(|&(_, c)| c == '\n');
        }
    }
    out
}
