//! The colour and the shape that each class, state and series has, so that colour is never all.

use crate::theme::Theme;
use egui::{Color32, Painter, Pos2, Rect, Sense, Shape, Stroke, Ui, pos2, vec2};
use tokenscope_analysis::finding::{Class, Look};

/// A shape that tells without colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Filled circle.
    Disc,
    /// Hollow circle.
    Ring,
    /// Two crossed strokes.
    Cross,
    /// Filled square.
    Square,
    /// Square on its corner.
    Diamond,
    /// Triangle pointing up.
    Up,
    /// Triangle pointing down.
    Down,
    /// Two strokes, upright and level.
    Plus,
}

/// Shapes of classes that are told apart by number.
const CATEGORIES: [Mark; 6] = [Mark::Square, Mark::Diamond, Mark::Up, Mark::Down, Mark::Disc, Mark::Plus];

/// Colour and shape of a look.
pub fn of(theme: &Theme, look: Look) -> (Color32, Mark) {
    match look {
        Look::Category(i) => (theme.group(i), CATEGORIES[i % CATEGORIES.len()]),
        Look::Good => (theme.good, Mark::Disc),
        Look::Given => (theme.good, Mark::Square),
        Look::Bad => (theme.bad, Mark::Cross),
        Look::Quiet => (theme.weak, Mark::Ring),
        Look::Plain => (theme.weak, Mark::Disc),
    }
}

/// Paints a mark of radius `r` around `c`.
pub fn paint(painter: &Painter, c: Pos2, r: f32, mark: Mark, color: Color32) {
    let polygon = |at: &[[f32; 2]]| {
        let points = at.iter().map(|[x, y]| c + r * vec2(*x, *y)).collect();
        painter.add(Shape::convex_polygon(points, color, Stroke::NONE));
    };
    let strokes = |at: [[f32; 2]; 2]| {
        for [x, y] in at {
            painter.line_segment([c + r * vec2(x, y), c - r * vec2(x, y)], Stroke::new((r * 0.45).max(1.0), color));
        }
    };
    match mark {
        Mark::Disc => drop(painter.circle_filled(c, r, color)),
        Mark::Ring => drop(painter.circle_stroke(c, r * 0.85, Stroke::new((r * 0.3).max(1.0), color))),
        Mark::Square => polygon(&[[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]]),
        Mark::Diamond => polygon(&[[0.0, -1.1], [1.1, 0.0], [0.0, 1.1], [-1.1, 0.0]]),
        Mark::Up => polygon(&[[0.0, -1.0], [0.95, 0.8], [-0.95, 0.8]]),
        Mark::Down => polygon(&[[0.0, 1.0], [-0.95, -0.8], [0.95, -0.8]]),
        Mark::Cross => strokes([[0.75, 0.75], [0.75, -0.75]]),
        Mark::Plus => strokes([[1.0, 0.0], [0.0, 1.0]]),
    }
}

/// A mark and what it means, for a legend; a sample and its words stay together.
pub fn key(theme: &Theme, ui: &mut Ui, look: Look, words: &str, tip: &str) {
    let (color, mark) = of(theme, look);
    entry(theme, ui, words, tip, 14.0, &|painter, rect| paint(painter, rect.center(), 5.0, mark, color));
}

/// An entry of a legend: a sample of `width` points and its words.
pub fn entry(theme: &Theme, ui: &mut Ui, words: &str, tip: &str, width: f32, sample: &dyn Fn(&Painter, Rect)) {
    let font = egui::TextStyle::Small.resolve(ui.style());
    let galley = ui.painter().layout_no_wrap(words.to_string(), font, theme.text);
    let (rect, response) = ui.allocate_exact_size(vec2(width + 8.0 + galley.size().x, 14.0), Sense::hover());
    sample(ui.painter(), Rect::from_min_size(rect.min, vec2(width, 14.0)));
    let at = pos2(rect.left() + width + 4.0, rect.center().y - galley.size().y / 2.0);
    ui.painter().galley(at, galley, theme.text);
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Label, true, words));
    if !tip.is_empty() {
        response.on_hover_text(tip);
    }
}

/// Legend entries shown at most; codes and experts may be thousands.
const MAX_KEYS: usize = 12;

/// The legend of classes with how many elements each has; classes without any are left out.
pub fn classes_ui(theme: &Theme, ui: &mut Ui, classes: &[Class], counts: &[usize]) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = vec2(8.0, 2.0);
        let used: Vec<(&Class, usize)> = classes.iter().zip(counts.iter().copied()).filter(|(_, n)| *n > 0).collect();
        for (class, n) in used.iter().take(MAX_KEYS) {
            key(theme, ui, class.look, &format!("{n} {}", class.name), &class.meaning);
        }
        if used.len() > MAX_KEYS {
            ui.small(format!("and {} more", used.len() - MAX_KEYS));
        }
    });
}
