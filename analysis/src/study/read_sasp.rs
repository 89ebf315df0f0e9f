//! READ's points: where on the picture a token's likeness to visual tokens is high and low.
//!
//! Source: Qian et al. 2024, "Reasoning to Attend: Try to Understand How `<SEG>` Token Works", arXiv 2412.17741;
//! rui-qian/READ at 254924020e, `model/READ.py`. Takes: last hidden states of a picture's tokens and of one or several
//! asking tokens. Gives: products, and points of high, low and middling ones, drawn to where the map around them is high.
//! Departs: see [`Info::departs`]. Cost: O(n · d + points).

use super::Method;
use crate::array::Array;
use crate::ctx::Ctx;
use crate::finding::{Class, Datum, Figure, Finding, Heat, Image, Look, Measure, Outline, Raster, Region, Unit};
use crate::math::{dot, softmax};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::passes::host::resample::{apply, bilinear, bilinear_at};
use crate::raw::{Adapter, RawInput};
use crate::token::Source;
use crate::trace::{Site, Tower};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const HIGH: Param =
    Param::share("t_pos", "Likeness from which a point is a positive one, between the least and the most", 0.8);
const LOW: Param = Param::share("t_neg", "Likeness up to which it is a negative one", 0.2);
const POINTS: Param =
    Param::count("num_points", "Points at most: positive, then negative, then the others", 1, 4096, 30);
const DOWN: Param = Param::count("down_sample", "Tokens along a side that points are made of together", 1, 16, 2);

static INFO: Info = Info {
    id: "read_sasp",
    title: "READ's points",
    summary: "Shows where on the picture visual tokens are like the chosen token, and makes points of it.",
    family: "image tokens",
    basis: Basis::Authors { repo: "rui-qian/READ", commit: "254924020e" },
    paper: Some(Paper {
        title: "Reasoning to Attend: Try to Understand How <SEG> Token Works",
        authors: "Qian et al.",
        year: 2024,
        arxiv: "2412.17741",
    }),
    departs: "there the token was trained to ask for a mask; here it is the chosen one, or the last; the picture is known to \
              lie below the grid as it does, so it is not padded to its shape; of several tiles the first is looked at",
    needs: &[Need::ReadsImage, Need::Residual],
    params: &[HIGH, LOW, POINTS, DOWN],
    raw: &[Adapter { name: "read_sasp", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct ReadSasp;

impl Method for ReadSasp {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        INFO.check(params)?;
        let text = on.reader(&INFO)?;
        let n = text.tokens.len();
        let asks = on.target.filter(|_| on.tower == Tower::Text).unwrap_or(n - 1);
        let entry = on.trace.get(Tower::Text, text.n_layers - 1, Site::ResidPost)?;
        let normed = match on.model {
            Some(model) => Array::from_tensor(&model.last_norm(&entry.array.to_tensor(model.device())?)?)?,
            None => (*entry.array).clone(),
        };
        let row = |t: usize| entry.rows.row_of(t);
        let gone = |t: usize| Error::invalid(format!("token {t} is not in this run any more"));
        let own = normed.row(row(asks).ok_or_else(|| gone(asks))?).to_vec();
        let g = text.grids.first().ok_or_else(|| INFO.needs(Need::ReadsImage.words()))?;
        let cells: Vec<usize> = g.tokens().collect();
        let mut likeness = Vec::with_capacity(cells.len());
        let mut values = vec![None; n];
        for &t in &cells {
            let x = normed.row(row(t).ok_or_else(|| gone(t))?);
            let v = dot(x, &own) as f32;
            likeness.push(v);
            values[t] = Some(v);
        }
        let rect = |t: &usize| match text.tokens[*t].source {
            Source::Rect { x, y, w, h } => Some([x, y, x + w, y + h]),
            _ => None,
        };
        let area = cells.first().and_then(rect).zip(cells.last().and_then(rect));
        let [left, top, right, bottom] =
            area.map_or([0.0, 0.0, g.cols as f32, g.rows as f32], |(a, b)| [a[0], a[1], b[2], b[3]]);
        let shape = [(bottom - top).round().max(1.0) as usize, (right - left).round().max(1.0) as usize];
        let rule = Rule {
            high: params.share(&HIGH) as f32,
            low: params.share(&LOW) as f32,
            most: params.count(&POINTS) as usize,
            down: params.count(&DOWN) as usize,
            padded: false,
        };
        let points = rule.points(&likeness, (g.rows, g.cols), shape, ctx)?;
        let title = format!("like token {asks}");
        let heat = Heat::new(title, Unit::Tokens(Tower::Text), Measure::signed("product", ""), values);
        let count = |l: i8| points.iter().filter(|p| p.1 == l).count();
        let mut out = Finding::of(heat)
            .figure(Figure::new("positive", Datum::Count(count(1)), "Points where tokens are like it"))
            .figure(Figure::new("negative", Datum::Count(count(0)), "Points where they are not"));
        if let Some((w, h)) = on.trace.image_size.filter(|s| s.0 > 0 && s.1 > 0) {
            let region = |((x, y), label): &((f64, f64), i8)| Region {
                outline: Outline::Point([left + *x as f32, top + *y as f32]),
                label: String::new(),
                class: Some(match label {
                    1 => 0,
                    0 => 1,
                    _ => 2,
                }),
                value: None,
            };
            let image = Image {
                regions: points.iter().map(region).collect(),
                classes: vec![
                    Class::new("positive", "like the token", Look::Good),
                    Class::new("negative", "unlike it", Look::Bad),
                    Class::new("neutral", "between both", Look::Quiet),
                ],
                ..Image::new("points", [w as usize, h as usize], Raster::Input)
            };
            out.pictures.insert(0, image.into());
        }
        Ok(out)
    }
}

/// A point of a picture, and whether it is positive (1), negative (0) or neither (-1).
type Point = ((f64, f64), i8);

/// How points are chosen.
#[derive(Clone, Copy)]
struct Rule {
    high: f32,
    low: f32,
    most: usize,
    down: usize,
    /// Whether the grid shows the middle of the picture's longer side alone, as a square crop does.
    padded: bool,
}

/// Side of the map that points are drawn to.
const FINE: usize = 336;
/// Pixels beyond which nothing draws a point: e^-d² is nothing in single precision there.
const REACH: i64 = 11;

/// Between the least and the most; `None` where these are equal.
fn scaled(x: &[f32]) -> Option<Vec<f32>> {
    let (low, high) = x.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
    (high > low).then(|| x.iter().map(|v| (v - low) / (high - low)).collect())
}

/// Cells that are added at both ends of rows and columns so that a square of side `to` has the shape of a picture; below 0
/// where rounding takes some away.
fn padding(to: usize, [height, width]: [usize; 2]) -> [i64; 2] {
    let scale = to as f64 / height.min(width) as f64;
    [height, width].map(|n| ((n as f64 * scale) as i64 - to as i64).div_euclid(2))
}

/// A map with `pad` cells of `value` more at both ends of rows and columns: rows, columns, values.
fn padded(x: &[f32], (rows, cols): (usize, usize), pad: [i64; 2], value: f32) -> (usize, usize, Vec<f32>) {
    let [h, w] = [(rows as i64 + 2 * pad[0]).max(0) as usize, (cols as i64 + 2 * pad[1]).max(0) as usize];
    let cell = |y: usize, c: usize| {
        let (y, c) = (y as i64 - pad[0], c as i64 - pad[1]);
        let inside = (0..rows as i64).contains(&y) && (0..cols as i64).contains(&c);
        if inside { x[y as usize * cols + c as usize] } else { value }
    };
    (h, w, (0..h).flat_map(|y| (0..w).map(move |c| (y, c))).map(|(y, c)| cell(y, c)).collect())
}

impl Rule {
    /// Points of a map over a grid, for a picture of this height and width.
    fn points(&self, x: &[f32], grid: (usize, usize), shape: [usize; 2], ctx: &Ctx) -> Result<Vec<Point>> {
        let coarse = ((grid.0 / self.down).max(1), (grid.1 / self.down).max(1));
        let Some(small) = scaled(&apply(&bilinear(grid, coarse), x, 1)) else { return Ok(Vec::new()) };
        let Some(whole) = scaled(x) else { return Ok(Vec::new()) };
        let fine = apply(&bilinear(grid, (FINE, FINE)), &whole, 1);
        let pad = |to: usize| if self.padded { padding(to, shape) } else { [0, 0] };
        let (rows, cols, cells) = padded(&small, coarse, pad(coarse.0), -1.0);
        let (fine_rows, fine_cols, fine) = padded(&fine, (FINE, FINE), pad(FINE), 0.0);
        if rows * cols == 0 || fine_rows * fine_cols == 0 {
            return Err(Error::invalid(format!("a picture of {} by {} has no room for points", shape[1], shape[0])));
        }
        let mut positive: Vec<usize> = (0..cells.len()).filter(|&i| cells[i] >= self.high).collect();
        positive.sort_by(|&a, &b| cells[b].total_cmp(&cells[a]));
        let mut negative: Vec<usize> = (0..cells.len()).filter(|&i| cells[i] >= 0.0 && cells[i] <= self.low).collect();
        negative.sort_by(|&a, &b| cells[a].total_cmp(&cells[b]));
        let neutral = (0..cells.len()).filter(|&i| cells[i] > self.low && cells[i] < self.high);
        let chosen: Vec<usize> = positive.iter().chain(&negative).copied().chain(neutral).take(self.most).collect();
        let map = Fine { rows: fine_rows, cols: fine_cols, cells: fine, shape };
        let point = |i: usize| {
            let pixel = |at: usize, cells: usize, length: usize| {
                ((at as f64 + 0.5) * (length as f64 / cells as f64)).min((length - 1) as f64) as i64
            };
            let at = [pixel(i % cols, cols, shape[1]), pixel(i / cols, rows, shape[0])];
            let label =
                if cells[i] >= 0.0 && cells[i] <= self.low { 0 } else { i8::from(cells[i] >= self.high) * 2 - 1 };
            (map.drawn(at), label)
        };
        let mut out = Vec::with_capacity(chosen.len());
        for (at, &i) in chosen.iter().enumerate() {
            ctx.step(at, chosen.len())?;
            out.push(point(i));
        }
        Ok(out)
    }
}

/// A map that is interpolated to the pixels of a picture.
struct Fine {
    rows: usize,
    cols: usize,
    cells: Vec<f32>,
    /// Height and width of the picture.
    shape: [usize; 2],
}

impl Fine {
    /// The map at a pixel.
    fn at(&self, x: usize, y: usize) -> f64 {
        let (down, across) = (bilinear_at(y, self.shape[0], self.rows), bilinear_at(x, self.shape[1], self.cols));
        let cell = |&(r, v): &(usize, f64)| {
            across.iter().map(|&(c, w)| v * w * f64::from(self.cells[r * self.cols + c])).sum::<f64>()
        };
        down.iter().map(cell).sum()
    }

    /// The middle of the pixels around a point, by their nearness and the exponential of the map.
    fn drawn(&self, [x, y]: [i64; 2]) -> (f64, f64) {
        let span = |at: i64, n: usize| (at - REACH).max(0)..(at + REACH + 1).min(n as i64);
        let (mut whole, mut sum) = (0f64, (0f64, 0f64));
        for (py, px) in span(y, self.shape[0]).flat_map(|py| span(x, self.shape[1]).map(move |px| (py, px))) {
            let away = ((px - x).pow(2) + (py - y).pow(2)) as f64;
            let w = (self.at(px as usize, py as usize) - away).exp();
            whole += w;
            sum = (sum.0 + w * px as f64, sum.1 + w * py as f64);
        }
        (sum.0 / whole, sum.1 / whole)
    }
}

/// Raw entry: `image_tokens` `[n, d]` on a square grid, `seg_token` `[m, d]`, `image_shape_hw`, `t_pos`, `t_neg`,
/// `num_points`, `down_sample`. Of several asking tokens each counts by how well the first visual one fits it, and the map
/// is that of the first.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (x, asks) = (input.array("image_tokens")?, input.array("seg_token")?);
    x.check_finite("image_tokens")?;
    asks.check_finite("seg_token")?;
    let ([n, d], [m, e]) = (x.dims("image_tokens")?, asks.dims("seg_token")?);
    let side = n.isqrt();
    let shape: [usize; 2] = input.read("image_shape_hw")?;
    let fits =
        shape.iter().all(|s| (1..=1 << 20).contains(s)) && shape[0].max(shape[1]) / shape[0].min(shape[1]).max(1) < 64;
    if d != e || n == 0 || m == 0 || side * side != n || !fits {
        return Err(Error::invalid(format!(
            "{n} tokens of {d} numbers on a square grid, {m} asking ones of {e}, a picture of {} by {} pixels",
            shape[1], shape[0]
        )));
    }
    let twice: Vec<f64> = (0..m).map(|t| 2.0 * dot(x.row(0), asks.row(t))).collect();
    let weight = softmax(&twice, 1.0)[0] * m as f64;
    let likeness: Vec<f32> = (0..n).map(|i| (dot(x.row(i), asks.row(0)) * weight) as f32).collect();
    let rule = Rule {
        high: input.read_or("t_pos", 0.8f32)?,
        low: input.read_or("t_neg", 0.2f32)?,
        most: input.read_or("num_points", 30)?,
        down: input.read_or("down_sample", 2)?,
        padded: true,
    };
    if rule.down == 0 || rule.down > side {
        return Err(Error::invalid(format!("field down_sample is {}; the grid has a side of {side}", rule.down)));
    }
    let points = rule.points(&likeness, (side, side), shape, ctx)?;
    Ok(json!({
        "similarity": likeness,
        "points_xy": points.iter().map(|p| [p.0.0, p.0.1]).collect::<Vec<_>>(),
        "labels": points.iter().map(|p| p.1).collect::<Vec<_>>(),
        "n_points": points.len(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_come_by_likeness_and_are_drawn_little_where_the_map_is_even() {
        let rule = Rule { high: 0.8, low: 0.2, most: 9, down: 1, padded: true };
        let of = |rule: Rule, x: &[f32]| rule.points(x, (2, 2), [40, 40], &Ctx::default()).unwrap();
        let points = of(rule, &[0.0, 10.0, 5.0, 9.0]);
        assert_eq!(points.iter().map(|p| p.1).collect::<Vec<_>>(), [1, 1, 0, -1]);
        // The second cell's middle is pixel (30, 10).
        assert!((points[0].0.0 - 30.0).abs() < 0.2 && (points[0].0.1 - 10.0).abs() < 0.2, "{points:?}");
        assert!(of(rule, &[3.0; 4]).is_empty());
        assert_eq!(of(Rule { most: 1, ..rule }, &[0.0, 10.0, 5.0, 9.0]).len(), 1);
    }

    #[test]
    fn a_square_is_padded_to_the_shape_of_the_picture() {
        assert_eq!((padding(4, [60, 80]), padding(4, [50, 50])), ([0, 0], [0, 0]));
        assert_eq!(padding(4, [40, 80]), [0, 2]);
        let (h, w, cells) = padded(&[1.0], (1, 1), [0, 1], -1.0);
        assert_eq!((h, w, cells), (1, 3, vec![-1.0, 1.0, -1.0]));
    }
}
