//! GlobalCom²: the thumbnail of a picture says how much each of its crops may keep, and helps to choose what.
//!
//! Source: Liu et al. 2025, "Compression with Global Guidance: Towards Training-free High-Resolution MLLMs Acceleration",
//! arXiv 2501.05179. Takes: for the thumbnail and each crop, how much the class token's query fits each patch `[n]`. Gives:
//! a share for each crop, and what it keeps. Departs: see [`Info::departs`]. Cost: O(crops · n log n).

use crate::array::Array;
use crate::ctx::Ctx;
use crate::math::{largest, softmax};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::passes::host::resample;
use crate::raw::{Adapter, RawInput};
use crate::reduce::crops::Crops;
use crate::reduce::noted::{noted, per_feature};
use crate::reduce::place::{LAYER, image_cut};
use crate::reduce::{Decide, Decision, Method, Seen};
use crate::trace::Tower;
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const KEEP: Param = Param::share("keep", "Share of the thumbnail's tokens kept, and of the crops' on average", 0.25);
const TEMPERATURE: Param = Param::number("temperature", "How even the shares of crops are", 0.01, 1000.0, 10.0);

static INFO: Info = Info {
    id: "globalcom2",
    title: "GlobalCom²",
    summary: "Lets the thumbnail of a picture say how much each crop keeps, and what of it.",
    family: "image features",
    basis: Basis::Authors { repo: "xuyang-liu16/GlobalCom2", commit: "96b2d00b86" },
    paper: Some(Paper {
        title: "Compression with Global Guidance: Towards Training-free High-Resolution MLLMs Acceleration",
        authors: "Liu et al.",
        year: 2025,
        arxiv: "2501.05179",
    }),
    departs: "kept tokens stay where they are, where the authors' code moves those of crops with a margin (the raw entry \
              shows which are kept, in its order); without a class token all patches ask together; a picture without crops \
              keeps the share; crops that the model puts together in one grid are one; at least one \
              token stays",
    needs: &[Need::ImageTokens, Need::Attention],
    params: &[KEEP, TEMPERATURE, LAYER],
    budget: Some(&KEEP),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct GlobalCom2;

impl Method for GlobalCom2 {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let cut = image_cut(on, params, &INFO)?;
        let last = on.trace.tower(Tower::Vision)?.n_layers - 1;
        let (keep, temperature, on) = (params.share(&KEEP), params.number(&TEMPERATURE), *on);
        let crops = Crops::of(&on, on.tower)?;
        let note = |seen: &dyn Seen, _: usize, _: &Ctx| fits(seen);
        Ok(noted(vec![last], cut, note, move |seen, notes, _| {
            let scores = per_feature(&on, seen, &notes.of(0).concat())?;
            let tiles = seen.tiles();
            let Some(&(first, rows, cols)) = tiles.get(crops.whole) else {
                return Err(Error::invalid("crops need the whole grids of patches, one row each"));
            };
            let whole = &scores[first..first + rows * cols];
            let mut kept: Vec<usize> =
                largest(whole, (whole.len() as f64 * keep) as usize).into_iter().map(|i| first + i).collect();
            if !crops.parts.is_empty() {
                let side = tiles.get(crops.parts[0]).map_or((rows, cols), |t| (t.1, t.2));
                let alike = crops.parts.iter().all(|&p| tiles.get(p).is_some_and(|t| (t.1, t.2) == side));
                let layout = crops.layout().filter(|_| alike);
                let layout = layout.ok_or_else(|| Error::invalid("the crops of this picture form no even grid"))?;
                let parts: Vec<&[f32]> =
                    crops.parts.iter().map(|&p| &scores[tiles[p].0..tiles[p].0 + side.0 * side.1]).collect();
                let canvas = Canvas { thumbnail: (rows, cols), side, layout, margin: (0, 0) };
                let shares = canvas.shares(whole, keep, temperature);
                for (found, &p) in canvas.keep(whole, &parts, &shares).into_iter().zip(&crops.parts) {
                    kept.extend(found.into_iter().map(|i| tiles[p].0 + i));
                }
            }
            if kept.is_empty() {
                kept = largest(&scores, 1);
            }
            Ok(Decision::keep(seen, &kept).scored(seen, &scores))
        }))
    }
}

/// Products of the class token's query with each patch's key, of all queries where there is none, over √e; a mean over
/// heads.
fn fits(seen: &dyn Seen) -> Result<Vec<f32>> {
    let (q, k) = (seen.head_queries()?, seen.head_keys()?);
    let ([heads, n, e], [kv_heads, ..]) = (q.dims("queries")?, k.dims::<3>("keys")?);
    let open = seen.open();
    let mut sum = vec![0f64; open.len()];
    for h in 0..heads {
        let row = |i: usize| &q.row(h)[i * e..(i + 1) * e];
        let query: Vec<f64> = match open.first() {
            Some(0) => (0..e).map(|c| (0..n).map(|i| f64::from(row(i)[c])).sum::<f64>() / n as f64).collect(),
            _ => row(0).iter().map(|v| f64::from(*v)).collect(),
        };
        for (s, &r) in sum.iter_mut().zip(open) {
            let key = &k.row(h * kv_heads / heads)[r * e..(r + 1) * e];
            *s += query.iter().zip(key).map(|(a, b)| a * f64::from(*b)).sum::<f64>() / (e as f64).sqrt() / heads as f64;
        }
    }
    Ok(sum.into_iter().map(|s| s as f32).collect())
}

/// Crops side by side.
struct Canvas {
    /// Rows and columns of tokens in the thumbnail.
    thumbnail: (usize, usize),
    /// Rows and columns of tokens in each crop.
    side: (usize, usize),
    /// Rows and columns of crops.
    layout: (usize, usize),
    /// Rows above and below, and columns left and right, that show nothing of the picture.
    margin: (usize, usize),
}

impl Canvas {
    /// The margins that a picture of this width and height leaves, in whole tokens.
    fn of(side: (usize, usize), layout: (usize, usize), (width, height): (f64, f64)) -> Self {
        let (rows, cols) = (layout.0 * side.0, layout.1 * side.1);
        let margin = if width / height > cols as f64 / rows as f64 {
            ((rows.saturating_sub((height * cols as f64 / width) as usize)) / 2, 0)
        } else {
            (0, (cols.saturating_sub((width * rows as f64 / height) as usize)) / 2)
        };
        Self { thumbnail: side, side, layout, margin }
    }

    /// Share that each crop keeps, by how much the thumbnail's tokens at its place score.
    fn shares(&self, thumbnail: &[f32], share: f64, temperature: f64) -> Vec<f64> {
        let ((rows, cols), (down, across)) = (self.thumbnail, self.layout);
        let mut sums = vec![0f64; down * across];
        for (i, v) in thumbnail.iter().enumerate() {
            let y = (i / cols / (rows / down).max(1)).min(down - 1);
            let x = (i % cols / (cols / across).max(1)).min(across - 1);
            sums[y * across + x] += f64::from(*v);
        }
        let p = softmax(&sums, temperature);
        let mean = p.iter().sum::<f64>() / p.len() as f64;
        p.into_iter().map(|p| (share * (1.0 + p - mean)).clamp(0.0, 1.0)).collect()
    }

    /// What each crop keeps, ascending: by its own scores and the thumbnail's at the same place, each of length 1 there.
    fn keep(&self, thumbnail: &[f32], crops: &[&[f32]], shares: &[f64]) -> Vec<Vec<usize>> {
        let ((rows, cols), (down, across)) = (self.side, self.layout);
        let (high, wide) = (down * rows - 2 * self.margin.0, across * cols - 2 * self.margin.1);
        let blown = resample::apply(&resample::bilinear(self.thumbnail, (high, wide)), thumbnail, 1);
        let of = |(j, own): (usize, &&[f32])| {
            let valid = self.valid(j);
            let place = |&i: &usize| {
                let (y, x) =
                    (j / across * rows + i / cols - self.margin.0, j % across * cols + i % cols - self.margin.1);
                blown[y * wide + x]
            };
            let (a, b) = (unit(valid.iter().map(|&i| own[i])), unit(valid.iter().map(place)));
            let score: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
            let mut kept: Vec<usize> =
                largest(&score, (valid.len() as f64 * shares[j]) as usize).into_iter().map(|i| valid[i]).collect();
            kept.sort_unstable();
            kept
        };
        crops.iter().enumerate().map(of).collect()
    }

    /// Tokens of crop `j` that show something of the picture.
    fn valid(&self, j: usize) -> Vec<usize> {
        let ((rows, cols), (down, across)) = (self.side, self.layout);
        let shows = |&i: &usize| {
            let (y, x) = (j / across * rows + i / cols, j % across * cols + i % cols);
            (self.margin.0..down * rows - self.margin.0).contains(&y)
                && (self.margin.1..across * cols - self.margin.1).contains(&x)
        };
        (0..rows * cols).filter(shows).collect()
    }
}

/// Values over their length, as torch's `normalize` has it.
fn unit(values: impl Iterator<Item = f32>) -> Vec<f32> {
    let values: Vec<f32> = values.collect();
    let length = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt().max(1e-12);
    values.into_iter().map(|v| (f64::from(v) / length) as f32).collect()
}

/// Raw entry: `cls_attn` `[1 + crops, n]`, the thumbnail first; `grid_side`, `crops_w`, `crops_h`, `image_size_wh`,
/// `retention_ratio`, `temperature`.
const ADAPTER: Adapter = Adapter { name: "globalcom2", run: raw };

fn raw(input: &RawInput, _ctx: &Ctx) -> Result<Value> {
    let a: &Array = input.array("cls_attn")?;
    a.check_finite("cls_attn")?;
    let [views, n] = a.dims("cls_attn")?;
    let (side, across, down): (usize, usize, usize) =
        (input.read("grid_side")?, input.read("crops_w")?, input.read("crops_h")?);
    let size: (f64, f64) = input.read("image_size_wh")?;
    let crops = across.checked_mul(down).filter(|c| *c > 0);
    if side.checked_mul(side) != Some(n) || crops.and_then(|c| c.checked_add(1)) != Some(views) || n == 0 {
        let e = format!("[1 + {across} · {down}, {side} · {side}]");
        return Err(Error::shape("cls_attn", e, a.shape()));
    }
    if !(size.0 > 0.0 && size.1 > 0.0 && size.0.is_finite() && size.1.is_finite()) {
        return Err(Error::invalid(format!("a picture of {} by {} pixels", size.0, size.1)));
    }
    let (share, temperature): (f64, f64) =
        (input.read_or("retention_ratio", 0.25)?, input.read_or("temperature", 10.0)?);
    if !(0.0..=1.0).contains(&share) || temperature <= 0.0 {
        return Err(Error::invalid(format!("retention_ratio is {share}, and temperature {temperature}")));
    }
    let canvas = Canvas::of((side, side), (down, across), size);
    let shares = canvas.shares(a.row(0), share, temperature);
    let order = largest(a.row(0), (n as f64 * share) as usize);
    let mut thumbnail = order.clone();
    thumbnail.sort_unstable();
    let parts: Vec<&[f32]> = (1..views).map(|v| a.row(v)).collect();
    let kept = canvas.keep(a.row(0), &parts, &shares);
    // Each kept token is written at its number among those that show something.
    let mut slots: Vec<Vec<Option<usize>>> = vec![vec![None; n]; parts.len()];
    for (j, kept) in kept.iter().enumerate() {
        for (slot, i) in canvas.valid(j).into_iter().enumerate() {
            if kept.binary_search(&i).is_ok() {
                slots[j][slot] = Some(i);
            }
        }
    }
    let mut out: Vec<(i64, i64)> = Vec::new();
    for y in 0..down * side {
        for x in 0..across * side {
            let j = y / side * across + x / side;
            out.extend(slots[j][y % side * side + x % side].map(|i| (j as i64, i as i64)));
        }
        out.push((-1, -1));
    }
    Ok(json!({
        "crop_scales": shares, "thumbnail_keep": thumbnail, "thumbnail_order": order, "keep_per_crop": kept,
        "crop_tokens_in_output_order": out,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crop_that_the_thumbnail_points_at_keeps_more() {
        // A thumbnail of 2 × 2 over two crops side by side; a wide picture leaves no margin.
        let canvas = Canvas::of((2, 2), (1, 2), (200.0, 100.0));
        assert_eq!(canvas.margin, (0, 0));
        let shares = canvas.shares(&[9.0, 0.0, 9.0, 0.0], 0.5, 10.0);
        let p = 1.0 / (1.0 + (-1.8f64).exp());
        assert!((shares[0] - 0.5 * (0.5 + p)).abs() < 1e-9 && shares[0] + shares[1] - 1.0 < 1e-9);
        let own: [&[f32]; 2] = [&[0.0, 1.0, 0.0, 0.0], &[0.0, 0.0, 1.0, 0.0]];
        assert_eq!(canvas.keep(&[9.0, 0.0, 9.0, 0.0], &own, &[0.25, 0.25]), [vec![1], vec![2]]);
    }

    #[test]
    fn a_flat_picture_leaves_rows_that_show_nothing() {
        let canvas = Canvas::of((4, 4), (1, 2), (80.0, 20.0));
        assert_eq!((canvas.margin, canvas.valid(0)), ((1, 0), (4..12).collect()));
    }
}
