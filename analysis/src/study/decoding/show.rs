//! What studies of decoding share: small pictures of orders and counts, and what a run's own logits say.

use crate::array::Array;
use crate::ctx::Ctx;
use crate::finding::{Axis, Class, Look, Matrix, Measure, Plot, Series, Style, TimeCell, Timeline, Unit};
use crate::method::{Info, Params};
use crate::trace::Site;
use crate::{Error, Result, Subject};
use candle_core::Tensor;

/// Errors: parameters that are refused, a run that lacks what the method needs.
pub fn ready(on: &Subject, info: &Info, params: &Params) -> Result<()> {
    info.check(params)?;
    on.lacks(info).map_or(Ok(()), |why| Err(info.needs(why.trim_start_matches("needs "))))
}

/// The step at which each place of a grid is decided, as a map.
pub fn order_map(title: &str, steps: &[usize], cols: usize) -> Result<Matrix> {
    let rows = steps.len() / cols.max(1);
    let cells = Array::new([rows, cols], steps[..rows * cols].iter().map(|&s| s as f32).collect::<Vec<_>>())?;
    let side = |name: &str, n: usize| Unit::named((0..n).map(|i| format!("{name} {i}")));
    Matrix::dense(title, side("row", rows), side("column", cols), Measure::new("step", ""), cells)
}

/// The step of each of `n` places of which every step decides a group.
pub fn step_of_each(groups: &[Vec<usize>], n: usize) -> Vec<usize> {
    let mut out = vec![0; n];
    groups.iter().enumerate().for_each(|(s, own)| own.iter().for_each(|&i| out[i] = s));
    out
}

/// The step at which each place is decided, as a timeline.
pub fn order_timeline(title: &str, steps: &[usize]) -> Timeline {
    let cell = |(position, &step): (usize, &usize)| {
        let (id, text, why) = (None, "".into(), "".into());
        TimeCell { step, position, id, text, confidence: None, why, state: 0 }
    };
    let mut cells: Vec<TimeCell> = steps.iter().enumerate().map(cell).collect();
    cells.sort_by_key(|c| (c.step, c.position));
    Timeline {
        title: title.into(),
        steps: Unit::Steps,
        n_steps: steps.iter().max().map_or(0, |s| s + 1),
        places: Unit::Positions,
        n_places: steps.len(),
        measure: Measure::new("confidence", ""),
        states: vec![Class::new("decided", "from this step on it stays", Look::Good)],
        cells,
    }
}

/// Values by their number, as bars.
pub fn bars(title: &str, x: &'static str, y: Measure, values: impl IntoIterator<Item = f64>) -> Plot {
    let points = values.into_iter().enumerate().map(|(i, v)| [i as f64, v]).collect();
    Plot::new(title, Axis::Number(Measure::new(x, "")), y, vec![Series::new(y.name, Style::Bars, points)])
}

/// Values by their number, as a line.
pub fn line(title: &str, x: &'static str, y: Measure, values: impl IntoIterator<Item = f64>) -> Plot {
    let mut plot = bars(title, x, y, values);
    plot.series[0].style = Style::Line;
    plot
}

/// What the model would say after each token if it stopped behind `layer`, `[tokens, vocab]`; the last layer is the model
/// itself.
///
/// Errors: a run without weights, one that was reduced, numbers that are none.
pub fn logits(on: &Subject, info: &Info, layer: usize, ctx: &Ctx) -> Result<Array> {
    said(on, info, layer, None, ctx)
}

/// What the model itself says after each token, `[tokens, vocab]`.
///
/// Errors: those of [`logits`], a run without layers.
pub fn last_logits(on: &Subject, info: &Info, ctx: &Ctx) -> Result<Array> {
    said(on, info, last(on)?, None, ctx)
}

/// What the model itself says after token `at` alone, `[vocab]`.
///
/// Errors: those of [`last_logits`].
pub fn last_logits_at(on: &Subject, info: &Info, at: usize, ctx: &Ctx) -> Result<Vec<f32>> {
    Ok(said(on, info, last(on)?, Some(at), ctx)?.into_data())
}

fn last(on: &Subject) -> Result<usize> {
    on.tower()?.n_layers.checked_sub(1).ok_or_else(|| Error::invalid("the run has no layers"))
}

/// What is said behind `layer` after one token, or after each.
fn said(on: &Subject, info: &Info, layer: usize, at: Option<usize>, ctx: &Ctx) -> Result<Array> {
    let model = on.weights(info)?;
    let entry = on.trace.get(on.tower, layer, Site::ResidPost)?;
    let [n, width] = entry.array.dims("residual stream")?;
    if !entry.rows.is_unmerged() || entry.rows.len() != n || on.tower()?.tokens.len() != n {
        return Err(Error::invalid("the run was reduced; choose the full run"));
    }
    let (n, own) = at.map_or((n, entry.array.data()), |at| (1, entry.array.row(at)));
    ctx.fits((n * model.info().vocab * 8) as u64, "choose a shorter input")?;
    let resid = Tensor::from_slice(own, (n, width), model.device())?;
    let rows = Array::from_tensor(&model.lens(&resid)?)?;
    if rows.data().iter().any(|x| x.is_nan() || *x == f32::INFINITY) {
        return Err(crate::run::not_finite(&model.info().name));
    }
    Ok(rows)
}

/// The most probable id of a row and its probability.
pub fn surest(row: &[f32]) -> (usize, f64) {
    let best = crate::math::argmax(row).unwrap_or(0);
    (best, crate::math::softmax_of(row, 1.0, [best])[0])
}

/// Entropy of the softmax of a row, in nats.
pub fn entropy(row: &[f32]) -> f64 {
    crate::math::softmax(row, 1.0).iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum()
}
