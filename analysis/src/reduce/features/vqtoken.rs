//! VQToken: image tokens of a direction become one, by k-means with as many clusters as are asked for or as an elbow says.
//!
//! Source: Zhang et al. 2025, "Neural Discrete Token Representation Learning for Extreme Token Reduction in Video Large
//! Language Models", arXiv 2503.16980. Takes: image features `[n, d]`. Gives: a cluster for each, and the clusters' means.
//! Departs: see [`Info::departs`]. Cost: O(n · clusters · d) per iteration.

use crate::array::Array;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params, Role};
use crate::passes::host::cluster::{self, Cosine};
use crate::raw::{Adapter, RawInput};
use crate::reduce::place::{LAYER, image_cut};
use crate::reduce::seen::pick;
use crate::reduce::select::budget;
use crate::reduce::{Asked, Decide, Decision, Method};
use crate::{Error, Result, Subject};
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

const KEEP: Param = Param::share("keep", "Clusters as a share of the image tokens; at most, where an elbow says", 0.25);
const ADAPTIVE: Param = Param::toggle("adaptive", "The number of clusters is where the distortion bends most", false);
const ITERATIONS: Param = Param::count("iterations", "Iterations at most", 1, 1000, 300);
const SEED: Param = Param::seed();

static INFO: Info = Info {
    id: "vqtoken",
    title: "VQToken",
    summary: "Clusters image tokens by direction and makes one token of each cluster.",
    family: "image features",
    basis: Basis::Authors { repo: "Hai-chao-Zhang/VQToken", commit: "019f89fd87" },
    paper: Some(Paper {
        title: "Neural Discrete Token Representation Learning for Extreme Token Reduction in Video Large Language Models",
        authors: "Zhang et al.",
        year: 2025,
        arxiv: "2503.16980",
    }),
    departs: "the trained attention from clusters to tokens and the map of their places are left out; the mean of a \
              cluster's features stands in; the start is the program's own for each seed; a cluster without tokens is no \
              token",
    needs: &[Need::ImageTokens],
    params: &[KEEP, ADAPTIVE, ITERATIONS, SEED, LAYER],
    role: Role::StandIn,
    budget: Some(&KEEP),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct VqToken;

/// Fewest clusters that an elbow is looked for from.
const FEWEST: usize = 12;
/// Moves of the centres below which clusters are settled.
const TOLERANCE: f64 = 1e-4;

impl Method for VqToken {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let (keep, adaptive, seed) = (params.share(&KEEP), params.toggle(&ADAPTIVE), params.seed(&SEED));
        let iterations = params.count(&ITERATIONS) as usize;
        Ok(Box::new(Asked::at([image_cut(on, params, &INFO)?], move |seen, ctx| {
            let x = pick(&seen.values()?, seen.open())?;
            let most = budget(seen, keep).max(1);
            // Fewer rows begin with the same ones.
            let begin = start(&x, most, seed)?;
            let fit =
                |k: usize, ctx: &Ctx| cluster::by_cosine(&x, &begin[..k.min(begin.len())], iterations, TOLERANCE, ctx);
            let k = if adaptive { elbow(most, ctx, |k, ctx| Ok(fit(k, ctx)?.distortion))? } else { most };
            let found = fit(k, ctx)?;
            let mut made: Vec<Vec<(usize, f64)>> = vec![Vec::new(); k];
            found.labels.iter().enumerate().for_each(|(i, &c)| made[c].push((i, 0.0)));
            made.retain(|m| !m.is_empty());
            for m in &mut made {
                let share = 1.0 / m.len() as f64;
                m.iter_mut().for_each(|m| m.1 = share);
            }
            Ok(Decision::remade(seen, made, Vec::new()))
        })))
    }
}

/// Rows that clusters begin with: each drawn by its squared distance to those before (k-means++).
fn start(x: &Array, k: usize, seed: u64) -> Result<Vec<usize>> {
    let [n, d] = x.dims("rows to cluster")?;
    let length = |i: usize| x.row(i).iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let lengths: Vec<f64> = (0..n).map(length).collect();
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let mut chosen = vec![random.random_range(0..n.max(1))];
    let mut nearest = vec![f64::INFINITY; n];
    while chosen.len() < k.min(n) && d > 0 {
        let last = chosen[chosen.len() - 1];
        for (i, near) in nearest.iter_mut().enumerate() {
            let dot: f64 = x.row(i).iter().zip(x.row(last)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let away = 1.0 - dot / (lengths[i] * lengths[last]);
            *near = if i == last { 0.0 } else { near.min((away * away).max(0.0)) };
        }
        let sum: f64 = nearest.iter().sum();
        let mut left = random.random::<f64>() * sum;
        let drawn = nearest.iter().position(|d| {
            left -= d;
            left < 0.0
        });
        // Of duplicates only, the first that is not there yet.
        chosen.push(drawn.unwrap_or_else(|| (0..n).find(|i| !chosen.contains(i)).unwrap_or(0)));
    }
    Ok(chosen)
}

/// The number of clusters, from [`FEWEST`] to `most`, at which the distortion bends most.
fn elbow(most: usize, ctx: &Ctx, distortion: impl Fn(usize, &Ctx) -> Result<f64>) -> Result<usize> {
    if most <= FEWEST {
        return Ok(most);
    }
    let tries: Vec<usize> = (FEWEST..=most).collect();
    let mut all = Vec::with_capacity(tries.len());
    for (i, &k) in tries.iter().enumerate() {
        all.push(distortion(k, &ctx.part(i, tries.len()))?);
    }
    let bends: Vec<f32> = all.windows(3).map(|w| (w[2] - 2.0 * w[1] + w[0]) as f32).collect();
    // The authors add 4, wherever their list begins.
    Ok(crate::math::argmax(&bends).map_or(FEWEST, |i| (i + 4).max(FEWEST)).min(most))
}

/// Raw entry: `tokens` `[frames, n, d]`, `init_indices` over all of them, `max_iteration`, `tol`.
const ADAPTER: Adapter = Adapter { name: "vqtoken", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (x, begin) = (input.array("tokens")?, input.array("init_indices")?);
    x.check_finite("tokens")?;
    begin.check_finite("init_indices")?;
    let [frames, n, d] = x.dims("tokens")?;
    let flat = Array::new([frames * n, d], x.data().to_vec())?;
    let begin: Vec<usize> = begin.data().iter().map(|v| *v as usize).collect();
    let (iterations, tolerance) = (input.rounds("max_iteration", 300)?, input.read_or("tol", TOLERANCE)?);
    if begin.is_empty() {
        return Err(Error::invalid("init_indices names no token to begin a cluster with"));
    }
    let Cosine { labels, centres, .. } = cluster::by_cosine(&flat, &begin, iterations, tolerance, ctx)?;
    let means = means(&flat, &labels, &centres);
    let rows = |x: &Array| (0..begin.len()).map(|i| x.row(i).to_vec()).collect::<Vec<_>>();
    Ok(json!({
        "labels": labels.chunks(n.max(1)).collect::<Vec<_>>(), "cluster_means": rows(&means),
        "final_centroids": rows(&centres),
    }))
}

/// Means of the members of each cluster, divided by their lengths; the centre where there is none.
fn means(x: &Array, labels: &[usize], centres: &Array) -> Array {
    let (mut out, d) = (centres.clone(), centres.shape()[1]);
    for c in 0..centres.shape()[0] {
        let members: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] == c).collect();
        let mut sum = vec![0f64; d];
        for &i in &members {
            let length = x.row(i).iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            sum.iter_mut().zip(x.row(i)).for_each(|(s, v)| *s += f64::from(*v) / length);
        }
        if !members.is_empty() {
            let mean = sum.iter().map(|s| (s / members.len() as f64) as f32);
            out.data_mut()[c * d..(c + 1) * d].iter_mut().zip(mean).for_each(|(o, m)| *o = m);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_takes_different_rows_and_the_elbow_is_where_it_bends() {
        let x = Array::new([4, 2], vec![1.0, 0.0, 1.0, 0.0, 0.0, 1.0, -1.0, 0.0]).unwrap();
        let mut rows = start(&x, 4, 3).unwrap();
        rows.sort_unstable();
        assert_eq!(rows, [0, 1, 2, 3]);
        // Falls by one each up to 20 clusters and then no more: the bend is the ninth, counted from 12.
        let found = elbow(40, &Ctx::default(), |k, _| Ok(40.0 - k.min(20) as f64)).unwrap();
        assert_eq!(found, FEWEST);
        let late = elbow(60, &Ctx::default(), |k, _| Ok(60.0 - k.min(50) as f64)).unwrap();
        assert_eq!(late, 50 - FEWEST - 1 + 4);
    }
}
