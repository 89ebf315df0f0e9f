//! ZOO-Prune: keeps tokens to which the projector is sensitive and that are far from each other behind it.
//!
//! Source: Kim et al. 2025, "Training-Free Token Pruning via Zeroth-Order Gradient Estimation in Vision-Language Models",
//! arXiv 2509.24837. Takes: patches `[n, encoder's width]` as the projector reads them, and the projector. Gives: how much
//! its output moves, and the order of choice. Departs: see [`Info::departs`]. Cost: 2 · m passes of the projector, and
//! O(n² · d).

use crate::array::Array;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::passes::cosine_matrix;
use crate::passes::host::greedy;
use crate::raw::{Adapter, RawInput};
use crate::reduce::noted::noted;
use crate::reduce::place::{KEEP, Place, image_cut};
use crate::reduce::seen::pick;
use crate::reduce::select::budget;
use crate::reduce::{Decide, Decision, Method, Seen, Table};
use crate::{Error, Result, Subject};
use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

const DIRECTIONS: Param = Param::count("directions", "Random directions that patches are moved in", 1, 1024, 64);
const STEP: Param = Param::number("step", "How far they are moved", 1e-4, 10.0, 0.01);
const SEED: Param = Param::seed();

static INFO: Info = Info {
    id: "zoo_prune",
    title: "ZOO-Prune",
    summary: "Keeps tokens that are far from each other and that the projector answers strongly to when they are moved.",
    family: "image features",
    basis: Basis::Authors { repo: "AIM-SKKU/ZOO-Prune", commit: "159f7f9607" },
    paper: Some(Paper {
        title: "Training-Free Token Pruning via Zeroth-Order Gradient Estimation in Vision-Language Models",
        authors: "Kim et al.",
        year: 2025,
        arxiv: "2509.24837",
    }),
    departs: "computed in single precision, where the authors' code works in half; the directions are the program's own \
              for each seed; the share is of all tiles together, and the whole projector is asked for them, too",
    needs: &[Need::ReadsImage],
    params: &[KEEP, DIRECTIONS, STEP, SEED],
    budget: Some(&KEEP),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct ZooPrune;

impl Method for ZooPrune {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let on = on.of(crate::trace::Tower::Text);
        let cut = image_cut(&on, &Params::new(), &INFO)?;
        let layer = on.weights(&INFO)?.projected_layer();
        let layer = layer.ok_or_else(|| INFO.needs("a projector that reads the patches of one layer one by one"))?;
        let (keep, m, h) = (params.share(&KEEP), params.count(&DIRECTIONS) as usize, params.number(&STEP));
        let seed = params.seed(&SEED);
        let note = |seen: &dyn Seen, _: usize, _: &Ctx| pick(&seen.values()?, seen.open());
        Ok(noted(vec![layer], cut, note, move |seen, notes, ctx| {
            let tiles = notes.of(0);
            let width = tiles.first().map_or(0, |t| t.shape()[1]);
            let values: Vec<f32> = tiles.iter().flat_map(|t| t.data().iter().copied()).collect();
            let x = Array::new([values.len() / width.max(1), width], values)?;
            if x.shape()[0] != seen.open().len() {
                return Err(Error::invalid(
                    "the projector leaves patches out, so what it answers to does not fit them",
                ));
            }
            let moved = sensitivity(&x, &directions(m, width, seed), h, ctx, |x| seen.project(x))?;
            let order = choose(&pick(&seen.values()?, seen.open())?, &moved, budget(seen, keep), ctx)?;
            Ok(Decision::keep(seen, &order).scored(seen, &moved))
        }))
    }
}

/// `m` directions of length 1, evenly over the sphere.
fn directions(m: usize, width: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let mut normal = || {
        // Box and Muller.
        let (u, v) = (1.0 - random.random::<f64>(), random.random::<f64>());
        ((-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos()) as f32
    };
    (0..m).map(|_| unit((0..width).map(|_| normal()).collect())).collect()
}

fn unit(v: Vec<f32>) -> Vec<f32> {
    let length = v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    v.into_iter().map(|x| (f64::from(x) / length) as f32).collect()
}

/// Mean length of what the projector's output changes by per step, for each row of `x` `[n, d]`.
fn sensitivity(
    x: &Array,
    directions: &[Vec<f32>],
    h: f64,
    ctx: &Ctx,
    project: impl Fn(&Array) -> Result<Array>,
) -> Result<Vec<f32>> {
    let [n, d] = x.dims("patches")?;
    let mut sums = vec![0f64; n];
    for (i, u) in directions.iter().enumerate() {
        ctx.step(i, directions.len())?;
        let moved = |sign: f64| {
            let values = x
                .data()
                .chunks(d.max(1))
                .flat_map(|row| row.iter().zip(u).map(move |(x, u)| x + (sign * h) as f32 * u));
            project(&Array::new([n, d], values.collect())?)
        };
        let (forth, back) = (moved(1.0)?, moved(-1.0)?);
        for (r, sum) in sums.iter_mut().enumerate() {
            let square = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
            *sum += forth.row(r).iter().zip(back.row(r)).map(square).sum::<f64>().sqrt() / (2.0 * h);
        }
    }
    Ok(sums.into_iter().map(|s| (s / directions.len().max(1) as f64) as f32).collect())
}

/// Tokens in the order in which they are taken: far from those before, times how sensitive they are.
fn choose(projected: &Array, sensitivity: &[f32], k: usize, ctx: &Ctx) -> Result<Vec<usize>> {
    let (low, high) = sensitivity.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
    let weight = |v: &f32| if high > low { (v - low) / (high - low + 1e-8) } else { 1.0 };
    let weights: Vec<f32> = sensitivity.iter().map(weight).collect();
    greedy::weighted_farthest(&cosine_matrix::of_itself(projected, ctx)?, &weights, k, ctx)
}

/// Raw entry: `pre_features` `[n, d]`, `directions` `[m, d]`, the projector's `W1`, `b1`, `W2`, `b2` with a GELU between,
/// `h`, and `k` or `ratio`; `projected` `[n, e]` instead of what the projector makes of them.
const ADAPTER: Adapter = Adapter { name: "zoo_prune", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (x, u) = (input.array("pre_features")?, input.array("directions")?);
    x.check_finite("pre_features")?;
    u.check_finite("directions")?;
    let ([n, d], [m, e]) = (x.dims("pre_features")?, u.dims("directions")?);
    if e != d {
        return Err(Error::shape("directions", format!("[any, {d}]"), u.shape()));
    }
    let linear = |w: &str, b: &str, width: usize| -> Result<(Tensor, Tensor)> {
        let (w_name, w, b_name, b) = (w, input.array(w)?, b, input.array(b)?);
        let [out, inner] = w.dims(w_name)?;
        if inner != width || b.shape() != [out] {
            return Err(Error::shape(
                if inner == width { b_name } else { w_name },
                format!("[{out}, {width}]"),
                w.shape(),
            ));
        }
        let double =
            |x: &Array| -> Result<Tensor> { Ok(x.to_tensor(&Device::Cpu)?.to_dtype(candle_core::DType::F64)?) };
        Ok((double(w)?.t()?.contiguous()?, double(b)?))
    };
    let (w1, b1) = linear("W1", "b1", d)?;
    let (w2, b2) = linear("W2", "b2", b1.dim(0)?)?;
    let project = |x: &Array| -> Result<Array> {
        let x = x.to_tensor(&Device::Cpu)?.to_dtype(candle_core::DType::F64)?;
        let middle = x.matmul(&w1)?.broadcast_add(&b1)?.gelu_erf()?;
        Array::from_tensor(&middle.matmul(&w2)?.broadcast_add(&b2)?)
    };
    let h: f64 = input.read_or("h", 0.01)?;
    let ratio: f64 = input.read_or("ratio", 0.1)?;
    let k: usize = input.read_or("k", (ratio.clamp(0.0, 1.0) * n as f64) as usize)?;
    if h <= 0.0 || k > n || m == 0 {
        return Err(Error::invalid(format!("k is {k} of {n} tokens, h is {h}, with {m} directions")));
    }
    let u: Vec<Vec<f32>> = (0..m).map(|i| unit(u.row(i).to_vec())).collect();
    let moved = sensitivity(x, &u, h, ctx, project)?;
    let projected =
        if input.arrays.contains_key("projected") { input.array("projected")?.clone() } else { project(x)? };
    if projected.shape().first() != Some(&n) || projected.rank() != 2 {
        return Err(Error::shape("projected", format!("[{n}, any]"), projected.shape()));
    }
    let order = choose(&projected, &moved, k, ctx)?;
    let seen = Table::new(Place::Features, n, 0..n);
    let keep = Decision::keep(&seen, &order).kept(&seen);
    Ok(json!({ "sensitivity": moved, "selection_order": order, "keep": keep }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_projector_that_doubles_one_side_answers_more_to_it() {
        // The square of a number moves by twice the number.
        let x = Array::new([2, 1], vec![1.0, 3.0]).unwrap();
        let square = |x: &Array| Array::new([2, 1], x.data().iter().map(|v| v * v).collect());
        let found = sensitivity(&x, &[vec![1.0]], 0.5, &Ctx::default(), square).unwrap();
        assert!((found[0] - 2.0).abs() < 1e-5 && (found[1] - 6.0).abs() < 1e-5, "{found:?}");
        let u = directions(3, 5, 1);
        assert!(u.iter().all(|u| (u.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5) && u[0] != u[1]);
    }
}
