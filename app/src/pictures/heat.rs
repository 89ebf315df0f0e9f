//! Values over a unit: on tokens and the picture as colour, of heads as a grid, of anything else as bars.

use super::overlay::{self, Over};
use super::scale::Scale;
use super::tokens::{self, More};
use super::{On, matrix, plot, stage, widgets};
use crate::cx::Cx;
use egui::{Color32, Ui};
use tokenscope_analysis::array::Array;
use tokenscope_analysis::finding::{Axis, Heat, Matrix, Plot, Series, Style, Unit};

/// Draws `heat`, with a slider where it has stages.
pub fn ui(cx: &Cx, ui: &mut Ui, on: &On, heat: &Heat) {
    let stage = heat.stages.as_ref().and_then(|s| stage::ui(cx, ui, &s.unit, s.values.len(), "the whole"));
    if let Some(scale) = with(cx, ui, on, heat, stage, &|_| String::new(), &mut |_, _| {}) {
        scale.legend_ui(cx, ui);
    }
}

/// Draws the values of `stage`. `note` is said after a value, `more` may draw over tokens and pictures. Gives the scale,
/// unless what was drawn has its own legend.
pub fn with(
    cx: &Cx,
    ui: &mut Ui,
    on: &On,
    heat: &Heat,
    stage: Option<usize>,
    note: &dyn Fn(usize) -> String,
    more: &mut dyn FnMut(&Ui, More),
) -> Option<Scale> {
    let values = heat.at(stage);
    // The first token often takes more than all others together; it can be left out of the scale, here as in maps.
    let masked = |i: usize| i == 0 && cx.pane.shows.scale.mask_sink && matches!(heat.unit, Unit::Tokens(_));
    let scaled = values.iter().enumerate().filter(|(i, _)| !masked(*i)).filter_map(|(_, v)| *v);
    let scale = Scale::new(&heat.measure, scaled);
    let value = |i: usize| values.get(i).copied().flatten();
    let color = |i: usize| value(i).filter(|_| !masked(i)).map(|v| scale.color(cx, v));
    let say = |i: usize| {
        let mut out = format!("{}: {}", heat.unit.label(i), words(heat, value(i), i));
        if masked(i) {
            out += ", left out of the scale";
        }
        out + &note(i)
    };
    let over = |i: usize| Over { fill: color(i).map_or(Color32::TRANSPARENT, |c| c), ..Over::default() };
    match (&heat.unit, on.picture) {
        (Unit::Tokens(_), _) if on.tokens(&heat.unit).is_some() => {
            let look =
                |i: usize| tokens::Look { chip: color(i).unwrap_or(cx.theme.line), struck: false, over: over(i) };
            tokens::ui(cx, ui, on, &heat.unit, &look, &say, more);
        }
        (Unit::Cells(grid), Some(picture)) => {
            let height = tokens::picture_height(ui);
            let cells = overlay::of_cells(grid, picture);
            for rect in overlay::ui(cx, ui, picture, on, &heat.unit, &cells, height, &over, &say) {
                more(ui, More::Picture(rect));
            }
        }
        (Unit::Cells(grid), None) => {
            grid_ui(cx, ui, on, heat, values, [grid.rows, grid.cols]);
            return None;
        }
        (Unit::Heads { per_layer }, _) => {
            grid_ui(cx, ui, on, heat, values, [values.len() / (*per_layer).max(1), *per_layer]);
            return None;
        }
        _ => {
            bars_ui(cx, ui, heat, values);
            return None;
        }
    }
    Some(scale)
}

fn words(heat: &Heat, v: Option<f32>, i: usize) -> String {
    let unit = if heat.measure.unit.is_empty() { heat.measure.name } else { heat.measure.unit };
    let error = heat.errors.get(i).map_or(String::new(), |e| format!(" ± {}", widgets::number(*e)));
    v.map_or("no value".into(), |v| format!("{}{error} {unit}", widgets::number(v)))
}

/// Rows of cells without a picture below.
fn grid_ui(cx: &Cx, ui: &mut Ui, on: &On, heat: &Heat, values: &[Option<f32>], size: [usize; 2]) {
    let (rows, cols) = match heat.unit {
        Unit::Heads { .. } => (Unit::Layers, Unit::named((0..size[1]).map(|h| format!("head {h}")))),
        _ => (
            Unit::named((0..size[0]).map(|r| format!("row {r}"))),
            Unit::named((0..size[1]).map(|c| format!("column {c}"))),
        ),
    };
    let cells = values.iter().map(|v| v.unwrap_or(f32::NAN)).collect();
    // The unit itself says that the values fill the rows.
    let Ok(cells) = Array::new(size, cells) else { return };
    if let Ok(m) = Matrix::dense(heat.title.clone(), rows, cols, heat.measure, cells) {
        matrix::ui(cx, ui, on, &m);
    }
}

fn bars_ui(cx: &Cx, ui: &mut Ui, heat: &Heat, values: &[Option<f32>]) {
    let there = || values.iter().enumerate().filter_map(|(i, v)| Some((i, (*v)?)));
    let points = there().map(|(i, v)| [i as f64, f64::from(v)]).collect();
    let errors = there().filter_map(|(i, _)| heat.errors.get(i)).map(|e| f64::from(*e)).collect();
    let series = Series { errors, ..Series::new(heat.measure.name, Style::Bars, points) };
    plot::ui(cx, ui, &Plot::new(heat.title.clone(), Axis::Unit(heat.unit.clone()), heat.measure, vec![series]));
}
