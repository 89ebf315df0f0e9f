//! Painting a line of the text: the same bytes once for every row, cut by each.
//!
//! Only lines on screen come here; whatever is drawn is laid out for them alone.

use super::links::Links;
use super::{merges, paint};
use crate::cx::{Cx, Standing};
use crate::jobs::Status;
use crate::keys::RowSource;
use crate::pictures::widgets::{self, Link, visible};
use crate::work::{SurprisalOf, TextStrip};
use egui::{Color32, CornerRadius, Rect, Sense, Stroke, StrokeKind, pos2, vec2};
use std::sync::Arc;
use tokenscope_analysis::lens::Surprisal;
use tokenscope_analysis::segment::text::{Chip, Line, Piece, label_columns};

/// Between lines of text, in points.
pub(super) const LINE_GAP: f32 = 8.0;
/// Between rows of a line.
const ROW_GAP: f32 = 1.0;

/// Everything the lines have in common.
pub(super) struct Shown<'a> {
    pub cx: &'a Cx<'a>,
    pub strip: &'a TextStrip,
    pub links: Links,
    /// Colours the model's own row.
    pub surprisal: Option<Arc<Surprisal>>,
    pub font: egui::FontId,
    /// Width of a column.
    pub cell: f32,
    /// Width of the labels at the left.
    pub label: f32,
    /// Columns of a line.
    pub columns: usize,
}

/// A piece where it stands.
struct Place<'a> {
    row: usize,
    index: usize,
    piece: &'a Piece,
    rect: Rect,
}

impl Shown<'_> {
    fn row_height(&self) -> f32 {
        (self.font.size * 1.4).ceil()
    }

    /// Height of a line with all its rows.
    pub(super) fn line_height(&self) -> f32 {
        (self.row_height() + ROW_GAP) * self.strip.rows.rows.len() as f32
    }

    pub(super) fn line_ui(&self, ui: &mut egui::Ui, number: usize) {
        let rows = &self.strip.rows;
        let line = self.strip.strip.line(&rows.text, &rows.rows, number);
        let size = vec2(ui.available_width(), self.line_height());
        let (rect, _) = ui.allocate_exact_size(size, Sense::empty());
        if !ui.is_rect_visible(rect) {
            return;
        }
        // A line that runs right to left begins at the right edge, in every row alike.
        let indent = if line.rtl { self.columns.saturating_sub(line.width()) } else { 0 };
        let left = rect.left() + self.label + indent as f32 * self.cell;
        for (row, chips) in line.rows.iter().enumerate() {
            let top = rect.top() + row as f32 * (self.row_height() + ROW_GAP);
            self.label_ui(ui, &rows.rows[row].name, pos2(rect.left(), top));
            for chip in chips {
                self.chip_ui(ui, number, row, chip, &line, pos2(left, top));
            }
        }
    }

    fn label_ui(&self, ui: &egui::Ui, name: &str, at: egui::Pos2) {
        let font = egui::TextStyle::Small.resolve(ui.style());
        let mut job = egui::text::LayoutJob::simple_singleline(name.into(), font, self.cx.theme.weak);
        job.wrap = egui::text::TextWrapping::truncate_at_width(self.label - 6.0);
        let galley = ui.painter().layout_job(job);
        let y = at.y + (self.row_height() - galley.size().y) / 2.0;
        ui.painter().galley(pos2(at.x, y), galley, self.cx.theme.weak);
    }

    /// A chip: one piece with its letters, or pieces that share bytes side by side with their labels.
    fn chip_ui(&self, ui: &mut egui::Ui, number: usize, row: usize, chip: &Chip, line: &Line, origin: egui::Pos2) {
        let pieces = &self.strip.rows.rows[row].pieces;
        let x_of = |column: usize| origin.x + column as f32 * self.cell;
        let (left, right) = (x_of(chip.column), x_of(chip.column + chip.width));
        let whole = Rect::from_min_max(pos2(left, origin.y), pos2(right, origin.y + self.row_height()));
        if let [index] = chip.pieces[..] {
            let place = Place { row, index, piece: &pieces[index], rect: whole };
            let text = paint::Cells { cells: &line.cells[chip.cells.clone()], text: &self.strip.rows.text, left };
            self.piece_ui(ui, number, &place, (chip.opens, chip.closes), Some(&text));
            return;
        }
        let columns: usize = chip.pieces.iter().map(|i| label_columns(&pieces[*i].token)).sum();
        let mut x = left;
        for &index in &chip.pieces {
            let piece = &pieces[index];
            let width = whole.width() * label_columns(&piece.token) as f32 / columns.max(1) as f32;
            let rect = Rect::from_min_size(pos2(x, origin.y), vec2(width, self.row_height()));
            self.piece_ui(ui, number, &Place { row, index, piece, rect }, (true, true), None);
            x += width;
        }
    }

    fn piece_ui(
        &self,
        ui: &mut egui::Ui,
        number: usize,
        place: &Place,
        (opens, closes): (bool, bool),
        text: Option<&paint::Cells>,
    ) {
        let (cx, p) = (self.cx, place.piece);
        let link = Link::Bytes(p.start, p.end, self.links.tokens(p.start, p.end));
        // Thousands of chips must not be thousands of stops of the Tab key; keys walk tokens by commands.
        let sense = Sense::CLICK - Sense::FOCUSABLE;
        let id = ui.scope_id().with((number, place.row, place.index, place.rect.left() as i32));
        let response = ui.interact(place.rect, id, sense);
        let fill = self.fill(place);
        let radius = |round: bool| if round { 3 } else { 0 };
        let corners = CornerRadius { nw: radius(opens), sw: radius(opens), ne: radius(closes), se: radius(closes) };
        // The gap between chips is the cut.
        let cut = |shown: bool| if shown { 0.75 } else { 0.0 };
        let mut rect = place.rect;
        (rect.min.x, rect.max.x) = (rect.min.x + cut(opens), rect.max.x - cut(closes));
        ui.painter().rect_filled(rect, corners, fill);
        if let Some(stroke) = self.outline(&link) {
            ui.painter().rect_stroke(rect, corners, stroke, StrokeKind::Inside);
        }
        let color = cx.theme.text_on(fill);
        match text {
            Some(cells) => cells.paint(ui, &self.font, self.cell, place.rect, color),
            None => paint::fitted(ui, &visible(&p.token), &self.font, place.rect, color),
        }
        response.widget_info(|| {
            let own = text.and_then(|_| self.strip.rows.text.get(p.start..p.end)).unwrap_or(&p.token);
            egui::WidgetInfo::labeled(egui::Role::Label, true, format!("token {}", visible(own)))
        });
        link.follow(cx, ui, &response);
        if response.clicked() {
            merges::toggle(ui, cx.at, (self.strip.rows.rows[place.row].name.clone(), place.index));
        }
        response.on_hover_ui(|ui| self.tip_ui(ui, place));
    }

    fn outline(&self, link: &Link) -> Option<Stroke> {
        match link.standing(self.cx) {
            // In a figure nobody points or selects.
            Standing::Plain => None,
            standing => widgets::outline(self.cx, standing),
        }
    }

    /// Neighbours differ by the last digit, and the same token keeps its hue but for that.
    fn fill(&self, place: &Place) -> Color32 {
        let theme = self.cx.theme;
        if let (Some(s), RowSource::Model(..)) = (&self.surprisal, &self.strip.rows.sources[place.row]) {
            let p = place.piece;
            let bits = self.links.token(place.index, p).and_then(|t| s.of(t)).map(|s| s.1);
            return bits.map_or(theme.chips[0], |b| theme.magnitude(b / s.max_bits.max(f32::EPSILON)));
        }
        let kind = place.piece.id.map_or(place.index / 2, |id| id as usize);
        theme.chips[2 * (kind % 4) + place.index % 2]
    }

    fn tip_ui(&self, ui: &mut egui::Ui, place: &Place) {
        let (cx, p) = (self.cx, place.piece);
        let id = p.id.map_or(String::new(), |id| format!("id {id} · "));
        ui.label(format!("{id}{}", p.token.escape_debug()));
        let bytes = self.strip.rows.text.as_bytes().get(p.start..p.end).unwrap_or_default();
        let mut hex: Vec<String> = bytes.iter().take(16).map(|b| format!("{b:02X}")).collect();
        hex.extend((bytes.len() > 16).then(|| "…".to_string()));
        ui.label(format!("bytes {}..{} · {}", p.start, p.end, hex.join(" ")));
        let own = matches!(self.strip.rows.sources[place.row], RowSource::Model(..)) && cx.lacks_surprisal().is_none();
        let Some(token) = self.links.token(place.index, p).filter(|_| own) else { return };
        match cx.status("surprisal of the hovered token", &SurprisalOf(cx.pane.run.clone())) {
            Status::Ready(s) => {
                ui.label(match s.of(token) {
                    Some((p, bits)) => format!("probability {:.2}% · surprisal {bits:.2} bits", 100.0 * p),
                    None => "nothing before it predicts it".into(),
                });
            }
            Status::Failed(why) => {
                ui.weak(why.to_string());
            }
            _ => {
                ui.weak("probability: computing");
            }
        }
    }
}
