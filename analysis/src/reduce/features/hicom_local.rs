//! HICom's local part: the patches of each small window become one token, weighed by how well each fits what is asked,
//! or what is there.
//!
//! Source: Liu et al. 2025, "Hybrid-Level Instruction Injection for Video Token Compression in Multi-modal Large Language
//! Models", arXiv 2503.16036; lntzm/HICom at df67ea1, `projector.py`. Takes: patches `[t, h, w, d]`. Gives: windows, the
//! weights in them, one token each. Departs: see [`Info::departs`]. Cost: O(n · d).

use crate::array::Array;
use crate::ctx::Ctx;
use crate::math::softmax;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params, Role};
use crate::passes::host::resample::{self, Weights};
use crate::raw::{Adapter, RawInput};
use crate::reduce::noted::question;
use crate::reduce::place::{LAYER, encoded, image_cut};
use crate::reduce::seen::pick;
use crate::reduce::{Asked, Decide, Decision, Method};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const KERNEL: Param = Param::count("kernel", "Side of a window in patches", 1, 16, 3);
const GUIDE: Param = Param::choice(
    "guide",
    "What patches are weighed by: the resized picture itself, or the mean embedding of the text behind the image",
    &["none", "direct"],
);

static INFO: Info = Info {
    id: "hicom_local",
    title: "HICom, local",
    summary: "Makes one token of each small window of patches, weighed by what is asked or by what is there.",
    family: "image features",
    basis: Basis::Authors { repo: "lntzm/HICom", commit: "df67ea1" },
    paper: Some(Paper {
        title: "Hybrid-Level Instruction Injection for Video Token Compression in Multi-modal Large Language Models",
        authors: "Liu et al.",
        year: 2025,
        arxiv: "2503.16036",
    }),
    departs: "the local part alone, without what is trained of it; the guide is the text of a CLIP encoder there, the mean \
              embedding of the text behind the image stands in; lengths at which the authors' windows do not come out are cut \
              into even steps; a patch of two windows stands by the first",
    needs: &[Need::ImageTokens],
    params: &[KERNEL, GUIDE, LAYER],
    role: Role::StandIn,
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct HiComLocal;

impl Method for HiComLocal {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let kernel = params.count(&KERNEL) as usize;
        // A text fits what the language model is given, the picture itself what the encoder leaves.
        let (place, guide) = match params.choice(&GUIDE) {
            "direct" => (image_cut(on, params, &INFO)?, Some(question(on, &INFO)?)),
            _ => (encoded(on, params, &INFO)?, None),
        };
        Ok(Box::new(Asked::at([place], move |seen, ctx| {
            let x = pick(&seen.values()?, seen.open())?;
            let mut heat = vec![0f32; seen.open().len()];
            let made = Decision::by_tile(seen, ctx, |first, (rows, cols)| {
                let part = pick(&x, &(first..first + rows * cols).collect::<Vec<_>>())?;
                let windows = Windows::of([1, rows, cols], [1, kernel, kernel]);
                let weights = windows.weights(&part, guide.as_deref(), ctx)?;
                let mut owned = vec![false; rows * cols];
                let mut out = Vec::new();
                for (window, weights) in windows.all.iter().zip(&weights) {
                    let pairs = window.iter().copied().zip(weights.iter().copied());
                    pairs.clone().for_each(|(i, w)| heat[first + i] += w as f32);
                    let (own, shared): (Weights, Weights) = pairs.partition(|m| !owned[m.0]);
                    own.iter().for_each(|m| owned[m.0] = true);
                    out.push((own, shared));
                }
                Ok(out)
            })?;
            Ok(made.scored(seen, &heat))
        })))
    }
}

/// Where windows of length `k` begin along an axis of length `n`, and their length: in steps of `k` where these come
/// out, else the first in steps of `k` and the others in steps of one less, so that neighbours share an element.
fn starts(n: usize, k: usize) -> (Vec<usize>, usize) {
    if n <= k {
        return (vec![0], n);
    }
    if n.is_multiple_of(k) {
        return ((0..n / k).map(|i| i * k).collect(), k);
    }
    let m = n.div_ceil(k);
    let wide = if n.is_multiple_of(m) { m } else { n % m };
    if m * (k - 1) + wide != n {
        return ((0..m).map(|i| (i * k).min(n - k)).collect(), k);
    }
    let start = |i: usize| if i < wide { i * k } else { wide * k + (i - wide) * (k - 1) - 1 };
    ((0..m).map(start).collect(), k)
}

/// Windows over frames, rows and columns.
struct Windows {
    /// How many there are along each axis.
    shape: [usize; 3],
    /// Frames, rows and columns.
    sizes: [usize; 3],
    /// Elements of each, by frame, row, column.
    all: Vec<Vec<usize>>,
}

impl Windows {
    fn of(sizes: [usize; 3], kernel: [usize; 3]) -> Self {
        let [t, y, x] = [0, 1, 2].map(|a| starts(sizes[a], kernel[a]));
        let mut all = Vec::new();
        for ((&ft, &fy), &fx) in
            t.0.iter().flat_map(|a| y.0.iter().map(move |b| (a, b))).flat_map(|p| x.0.iter().map(move |c| (p, c)))
        {
            let cell = move |a: usize, b: usize, c: usize| ((ft + a) * sizes[1] + fy + b) * sizes[2] + fx + c;
            let rows = (0..t.1).flat_map(|a| (0..y.1).map(move |b| (a, b)));
            all.push(rows.flat_map(|(a, b)| (0..x.1).map(move |c| cell(a, b, c))).collect());
        }
        Self { shape: [t.0.len(), y.0.len(), x.0.len()], sizes, all }
    }

    /// Weights in each window of `x` `[frames · rows · columns, d]`: softmax of the products with the guide, or with
    /// `x` resized to one element a window, over √d.
    fn weights(&self, x: &Array, guide: Option<&[f32]>, ctx: &Ctx) -> Result<Vec<Vec<f64>>> {
        let [_, d] = x.dims("patches")?;
        let root = (d.max(1) as f64).sqrt();
        let mut out = Vec::with_capacity(self.all.len());
        for (i, window) in self.all.iter().enumerate() {
            ctx.step(i, self.all.len())?;
            let query: Vec<f64> = match guide {
                Some(guide) if guide.len() == d => guide.iter().map(|v| f64::from(*v)).collect(),
                Some(guide) => return Err(Error::shape("guide", format!("[{d}]"), &[guide.len()])),
                None => self.resized(x, i),
            };
            let dot = |&j: &usize| x.row(j).iter().zip(&query).map(|(a, b)| f64::from(*a) * b).sum::<f64>() / root;
            out.push(softmax(&window.iter().map(dot).collect::<Vec<_>>(), 1.0));
        }
        Ok(out)
    }

    /// Element `i` of `x` resized to one element a window, trilinear.
    fn resized(&self, x: &Array, i: usize) -> Vec<f64> {
        let [_, rows, cols] = self.shape;
        let at = [i / (rows * cols), i / cols % rows, i % cols];
        let [t, y, c] = [0, 1, 2].map(|a| resample::bilinear_at(at[a], self.shape[a], self.sizes[a]));
        let mut sum = vec![0f64; x.shape()[1]];
        for ((&(ft, wt), &(fy, wy)), &(fx, wx)) in
            t.iter().flat_map(|a| y.iter().map(move |b| (a, b))).flat_map(|p| c.iter().map(move |c| (p, c)))
        {
            let row = x.row((ft * self.sizes[1] + fy) * self.sizes[2] + fx);
            sum.iter_mut().zip(row).for_each(|(s, v)| *s += wt * wy * wx * f64::from(*v));
        }
        sum
    }
}

/// Raw entry: `feats` `[t, h, w, d]`, `kernel` (frames, side), `guide` "none" or "direct" with the array `guide` `[d]`.
const ADAPTER: Adapter = Adapter { name: "hicom_local", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (x, [t, h, w, d]) = input.finite("feats")?;
    let (frames, side): (usize, usize) = input.read("kernel")?;
    let word: String = input.read_or("guide", "none".to_string())?;
    if t * h * w == 0 || frames == 0 || side == 0 {
        return Err(Error::invalid(format!("windows of {frames} by {side} by {side} over {t} by {h} by {w} patches")));
    }
    let guide = match word.as_str() {
        "none" => None,
        "direct" => Some(input.array("guide")?),
        other => return Err(Error::invalid(format!("field guide is {other}; it is none or direct"))),
    };
    if let Some(guide) = guide {
        guide.check_finite("guide")?;
        guide.dims::<1>("guide")?;
    }
    let n = t * h * w;
    let x = Array::new([n, d], x.data().to_vec())?;
    let windows = Windows::of([t, h, w], [if t == 1 { 1 } else { frames }, side, side]);
    let weights = windows.weights(&x, guide.map(Array::data), ctx)?;
    let pairs: Vec<Weights> =
        windows.all.iter().zip(&weights).map(|(i, w)| i.iter().copied().zip(w.iter().copied()).collect()).collect();
    let mut heat = vec![0f64; n];
    pairs.iter().flatten().for_each(|&(i, w)| heat[i] += w);
    let tokens = resample::apply(&pairs, x.data(), d);
    Ok(json!({
        "shape": windows.shape,
        "windows": windows.all,
        "weights": weights,
        "tokens": tokens.chunks(d.max(1)).collect::<Vec<_>>(),
        "heat": heat,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_share_an_element_where_they_must() {
        assert_eq!(starts(6, 3), (vec![0, 3], 3));
        // 7 in threes: one in a step of three, two in steps of two.
        assert_eq!(starts(7, 3), (vec![0, 2, 4], 3));
        assert_eq!(starts(8, 3), (vec![0, 3, 5], 3));
        assert_eq!(starts(2, 3), (vec![0], 2));
        // The authors' rule does not come out at 5 and 6 in fours.
        assert_eq!((starts(5, 4).0, starts(6, 4).0, starts(3, 2).0), (vec![0, 1], vec![0, 2], vec![0, 1]));
    }

    #[test]
    fn what_fits_the_guide_weighs_most() {
        let x = Array::new([2, 1], vec![0.0, 2f32.ln()]).unwrap();
        let windows = Windows::of([1, 1, 2], [1, 2, 2]);
        assert_eq!(windows.all, [[0, 1]]);
        let w = windows.weights(&x, Some(&[1.0]), &Ctx::default()).unwrap();
        assert!((w[0][1] - 2.0 / 3.0).abs() < 1e-6);
        // Without one, the middle of both is the query.
        let w = windows.weights(&x, None, &Ctx::default()).unwrap();
        let e = (0.5 * 2f64.ln().powi(2)).exp();
        assert!((w[0][1] - e / (1.0 + e)).abs() < 1e-6);
    }
}
