//! A unit in named classes: a colour and a shape for each, on tokens and the picture, else as a row of marks.

use super::marks::{self, Mark};
use super::overlay::{self, Over};
use super::tokens::{self, More};
use super::{On, stage, widgets};
use crate::cx::Cx;
use egui::{Color32, Sense, Ui, vec2};
use tokenscope_analysis::finding::{Classes, Look, Unit};

/// Elements drawn one by one where they are neither tokens nor cells.
const MAX_MARKS: usize = 4096;

/// Draws `classes`, with a slider where there are stages.
pub fn ui(cx: &Cx, ui: &mut Ui, on: &On, classes: &Classes) {
    let stage = classes.stages.as_ref().and_then(|s| stage::ui(cx, ui, &s.unit, s.values.len(), "the whole"));
    marks::classes_ui(cx.theme, ui, &classes.classes, &classes.counts(stage));
    let of = classes.at(stage);
    let look = |i: usize| -> Option<(Color32, Mark, Look)> {
        let class = classes.classes.get(of.get(i).copied().flatten()?)?;
        let (color, mark) = marks::of(cx.theme, class.look);
        Some((color, mark, class.look))
    };
    let say = |i: usize| {
        let class = of.get(i).copied().flatten().and_then(|c| classes.classes.get(c));
        let mut out = format!("{}: {}", classes.unit.label(i), class.map_or("no class", |c| &c.name));
        if let Some(label) = classes.labels.get(i).filter(|l| !l.is_empty()) {
            out += &format!("\n{label}");
        }
        out
    };
    let over = |i: usize| match look(i) {
        // What matters less is veiled, so that the picture shows below the rest.
        Some((color, mark, Look::Quiet)) => Over { fill: cx.theme.veil, mark: Some((mark, color)), ..Over::default() },
        Some((color, mark, _)) => {
            Over { fill: color.gamma_multiply(0.3), outline: Some(color), mark: Some((mark, color)), crossed: false }
        }
        None => Over::default(),
    };
    match (&classes.unit, on.picture) {
        (Unit::Tokens(_), _) if on.tokens(&classes.unit).is_some() => {
            let chip = |i: usize| match look(i) {
                Some((_, _, Look::Quiet)) => cx.theme.line,
                Some((color, ..)) => color,
                None => cx.theme.background,
            };
            let token = |i: usize| tokens::Look { chip: chip(i), struck: false, over: over(i) };
            let more = &mut |ui: &Ui, more: More| {
                // The shape stands on the corner of the chip, where it hides no letter.
                if let More::Chip(i, rect) = more
                    && let Some((color, mark, _)) = look(i)
                {
                    let c = rect.right_top() + vec2(-4.0, 4.0);
                    marks::paint(ui.painter(), c, 3.5, mark, cx.theme.background);
                    marks::paint(ui.painter(), c, 2.5, mark, color);
                }
            };
            tokens::ui(cx, ui, on, &classes.unit, &token, &say, more);
        }
        (Unit::Cells(grid), Some(picture)) => {
            let height = tokens::picture_height(ui);
            overlay::ui(cx, ui, picture, on, &classes.unit, &overlay::of_cells(grid, picture), height, &over, &say);
        }
        _ => {
            let n = of.len().min(MAX_MARKS);
            row_ui(cx, ui, on, classes, n, &|i| look(i).map(|l| (l.0, l.1)), &say);
            if of.len() > n {
                ui.small(format!("the first {n} of {}", of.len()));
            }
        }
    }
}

/// A mark for each element, in lines; a grid keeps its rows.
fn row_ui(
    cx: &Cx,
    ui: &mut Ui,
    on: &On,
    classes: &Classes,
    n: usize,
    look: &dyn Fn(usize) -> Option<(Color32, Mark)>,
    say: &dyn Fn(usize) -> String,
) {
    const CELL: f32 = 14.0;
    let per_line = match &classes.unit {
        Unit::Cells(g) => g.cols.max(1),
        Unit::Heads { per_layer } => (*per_layer).max(1),
        _ => ((ui.available_width() / CELL) as usize).max(1),
    };
    let size = vec2(per_line.min(n) as f32, n.div_ceil(per_line) as f32) * CELL;
    let (rect, response) = ui.allocate_exact_size(size, Sense::click() - Sense::FOCUSABLE);
    let place = |i: usize| rect.min + vec2((i % per_line) as f32 + 0.5, (i / per_line) as f32 + 0.5) * CELL;
    let painter = ui.painter_at(rect);
    for i in 0..n {
        if let Some((color, mark)) = look(i) {
            marks::paint(&painter, place(i), 4.5, mark, color);
        }
        if let Some(stroke) = widgets::outline(cx, on.standing(cx, &classes.unit, i)) {
            painter.circle_stroke(place(i), 6.5, stroke);
        }
    }
    let under = response.hover_pos().map(|p| {
        let at = (p - rect.min) / CELL;
        at.y.max(0.0) as usize * per_line + (at.x.max(0.0) as usize).min(per_line - 1)
    });
    let under = under.filter(|i| *i < n);
    let label = match under {
        Some(i) => format!("{} {}, at {}", n, classes.unit.plural(), say(i)),
        None => format!("{} {} in {} classes", n, classes.unit.plural(), classes.classes.len()),
    };
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, &label));
    if let Some(i) = under {
        on.follow(cx, ui, &response, &classes.unit, i);
        response.on_hover_text_at_pointer(say(i));
    }
}
