//! LaVIT's selector: a small network says of each patch how likely it stays, and those that stay take in what the
//! others hold.
//!
//! Source: Jin et al. 2023, "Unified Language-Vision Pretraining in LLM with Dynamic Discrete Visual Tokenization",
//! arXiv 2309.04669; jy0205/LaVIT at 8cde9b4, `modeling_visual_tokenzier.py`. Takes: patches `[n, d]`, the network's
//! weights, and scores between patches. Gives: what stays, how much of each dropped patch each one takes in. Departs: see
//! [`Info::departs`]. Cost: O(n² · d).

use crate::array::Array;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params, Role};
use crate::raw::{Adapter, RawInput};
use crate::reduce::noted::{head_mean, looked_at, noted, per_feature};
use crate::reduce::place::{LAYER, READ_LAYER, encoded, read_layer};
use crate::reduce::seen::pick;
use crate::reduce::{Decide, Decision, Method, Seen};
use crate::{Error, Result, Subject};
use candle_core::{D, DType, Device, Tensor};
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

const TAU: Param = Param::number("tau", "Probability from which a patch stays", 0.0, 1.0, 0.5);
const ABSORB: Param =
    Param::share("absorb", "Share of a kept patch that is made of the dropped ones it is like; 0 drops these", 0.5);
const NOISE: Param =
    Param::toggle("noise", "Whether chance decides, by these probabilities, as it does in the authors' code", false);
const SEED: Param = Param::seed();

static INFO: Info = Info {
    id: "lavit_selector",
    title: "LaVIT's selector",
    summary: "Keeps the patches that are likely enough to matter, and lets these take in the others.",
    family: "image features",
    basis: Basis::Authors { repo: "jy0205/LaVIT", commit: "8cde9b4" },
    paper: Some(Paper {
        title: "Unified Language-Vision Pretraining in LLM with Dynamic Discrete Visual Tokenization",
        authors: "Jin et al.",
        year: 2023,
        arxiv: "2309.04669",
    }),
    departs: "the network is trained; here the odds of a patch are the class token's attention to it over the mean of all \
              patches, or what all patches look at where there is no class token; the merging attention is trained, too: the \
              product of patches over √d stands in, and a share of each kept patch is taken from it, where it is added there; \
              the raw entry takes the network's weights; at least one patch stays",
    needs: &[Need::ImageTokens, Need::Attention],
    params: &[TAU, ABSORB, NOISE, SEED, READ_LAYER, LAYER],
    role: Role::StandIn,
    budget: Some(&TAU),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct LavitSelector;

impl Method for LavitSelector {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let place = encoded(on, params, &INFO)?;
        let layer = read_layer(on, params, &READ_LAYER, &INFO)?;
        let (tau, absorb) = (params.number(&TAU), params.share(&ABSORB));
        let noise = params.toggle(&NOISE).then(|| params.seed(&SEED));
        let on = *on;
        let note = |seen: &dyn Seen, _: usize, ctx: &Ctx| Ok(head_mean(&looked_at(seen, ctx)?));
        Ok(noted(vec![layer], place, note, move |seen, notes, ctx| {
            let n = seen.open().len();
            let weighs = per_feature(&on, seen, &notes.of(0).concat())?;
            let mean = weighs.iter().map(|w| f64::from(*w)).sum::<f64>() / n.max(1) as f64;
            let p: Vec<f64> = weighs.iter().map(|w| odds(f64::from(*w), mean)).collect();
            let mut random = noise.map(rand_chacha::ChaCha8Rng::seed_from_u64);
            let mut gumbel = || random.as_mut().map_or(0.0, |r| -(-r.random::<f64>().max(f64::MIN_POSITIVE).ln()).ln());
            // Of the difference of both logarithms, as the network's outputs are compared.
            let stays = |p: &f64| p.ln() - (1.0 - p).ln() + gumbel() - gumbel() >= tau.ln() - (1.0 - tau).ln();
            let mut keep: Vec<bool> = p.iter().map(stays).collect();
            if !keep.contains(&true) && n > 0 {
                keep[crate::math::argmax(&weighs).unwrap_or(0)] = true;
            }
            let scores: Vec<f32> = p.iter().map(|p| *p as f32).collect();
            let kept: Vec<usize> = (0..n).filter(|&i| keep[i]).collect();
            let chosen = if kept.len() == n || absorb == 0.0 {
                Decision::keep(seen, &kept)
            } else {
                let (made, lent) = absorbed(&pick(&seen.values()?, seen.open())?, &keep, absorb, ctx)?;
                Decision::remade(seen, made, lent)
            };
            Ok(Decision { threshold: (noise.is_none()).then_some(tau as f32), ..chosen.scored(seen, &scores) })
        }))
    }
}

/// A probability whose odds are `w` to `mean`.
fn odds(w: f64, mean: f64) -> f64 {
    if w + mean > 0.0 { w / (w + mean) } else { 0.5 }
}

/// Weighted old rows, by new row.
type Rows = Vec<Vec<(usize, f64)>>;

/// Kept rows of `x` `[n, d]`, `share` of each made of the dropped ones by the softmax of products over √d.
fn absorbed(x: &Array, keep: &[bool], share: f64, ctx: &Ctx) -> Result<(Rows, Rows)> {
    let [n, d] = x.dims("patches")?;
    let kept: Vec<usize> = (0..n).filter(|&i| keep[i]).collect();
    let root = (d.max(1) as f64).sqrt();
    let all = Tensor::from_slice(x.data(), (n, d), &Device::Cpu)?;
    let scores = Array::from_tensor(&pick(x, &kept)?.to_tensor(&Device::Cpu)?.matmul(&all.t()?)?)?;
    let (mut made, mut lent) = (Vec::new(), Vec::new());
    for (row, &i) in kept.iter().enumerate() {
        ctx.step(row, kept.len())?;
        let s: Vec<f64> = scores.row(row).iter().map(|v| f64::from(*v) / root).collect();
        let w = under(&s, |j| !keep[j]);
        made.push(vec![(i, 1.0 - share)]);
        lent.push((0..n).filter(|&j| !keep[j] && w[j] > 0.0).map(|j| (j, share * w[j])).collect());
    }
    Ok((made, lent))
}

/// Softmax of scores over those that `may` be read. A little goes to all, so that nobody reads nothing.
fn under(scores: &[f64], may: impl Fn(usize) -> bool) -> Vec<f64> {
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let e: Vec<f64> = (0..scores.len()).map(|j| if may(j) { (scores[j] - top).exp() } else { 0.0 }).collect();
    let (sum, least) = (e.iter().sum::<f64>() + EPS, EPS / scores.len().max(1) as f64);
    e.into_iter().map(|e| (e + least) / sum).collect()
}

const EPS: f64 = 1e-6;

/// The authors' network: a norm, a layer, the second half of whose outputs is replaced by its mean over patches, and
/// three layers more. Gives the logarithms of both probabilities, `[n, 2]`: to stay and to go.
fn predicted(input: &RawInput, x: &Array) -> Result<Vec<Vec<f64>>> {
    let [n, c] = x.dims("x")?;
    let get = |name: &str, shape: &[usize]| -> Result<Tensor> {
        let a = input.array(name)?;
        a.check_finite(name)?;
        if a.shape() != shape {
            return Err(Error::shape(name, format!("{shape:?}"), a.shape()));
        }
        Ok(a.to_tensor(&Device::Cpu)?.to_dtype(DType::F64)?)
    };
    // Of the last two layers only the outputs' number is given by their weights.
    let outputs = |name: &str| Ok::<_, Error>(input.array(name)?.shape().first().copied().unwrap_or(0));
    let linear = |x: &Tensor, name: &str, from: usize, to: usize| -> Result<Tensor> {
        let (w, b) = (get(&format!("{name}_w"), &[to, from])?, get(&format!("{name}_b"), &[to])?);
        Ok(x.matmul(&w.t()?)?.broadcast_add(&b)?)
    };
    if n == 0 || c < 2 {
        return Err(Error::shape("x", "[patches, channels], at least two channels", x.shape()));
    }
    let x = x.to_tensor(&Device::Cpu)?.to_dtype(DType::F64)?;
    let away = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let spread = (away.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.sqrt()?;
    let normed = away.broadcast_div(&spread)?.broadcast_mul(&get("ln_w", &[c])?)?.broadcast_add(&get("ln_b", &[c])?)?;
    let middle = linear(&normed, "in", c, c)?.gelu_erf()?;
    let half = c / 2;
    let (own, shared) = (middle.narrow(1, 0, half)?, middle.narrow(1, half, c - half)?);
    let shared = shared.mean_keepdim(0)?.broadcast_as((n, c - half))?;
    let (first, second) = (outputs("o1_w")?, outputs("o2_w")?);
    let out = linear(&Tensor::cat(&[&own, &shared.contiguous()?], 1)?, "o1", c, first)?.gelu_erf()?;
    let out = linear(&out, "o2", first, second)?.gelu_erf()?;
    let logits: Vec<Vec<f64>> = linear(&out, "o3", second, 2)?.to_vec2()?;
    let logs = |l: &Vec<f64>| {
        let top = l[0].max(l[1]);
        let whole = top + ((l[0] - top).exp() + (l[1] - top).exp()).ln();
        vec![l[0] - whole, l[1] - whole]
    };
    Ok(logits.iter().map(logs).collect())
}

/// Raw entry: `x` `[n, c]`, the network `ln_w`, `ln_b`, `in_w`, `in_b`, `o1_w` … `o3_b` (`[out, in]`), `scores` `[n, n]`,
/// and `gumbel` `[n, 2]`, zeros where it is not given.
const ADAPTER: Adapter = Adapter { name: "lavit_selector", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (x, scores) = (input.array("x")?, input.array("scores")?);
    x.check_finite("x")?;
    scores.check_finite("scores")?;
    let [n, _] = x.dims("x")?;
    let none = Array::zeros([n, 2]);
    let noise = input.array("gumbel").unwrap_or(&none);
    noise.check_finite("gumbel")?;
    if scores.shape() != [n, n] || noise.shape() != [n, 2] {
        return Err(Error::shape("scores and gumbel", format!("[{n}, {n}] and [{n}, 2]"), scores.shape()));
    }
    let logs = predicted(input, x)?;
    let stays = |i: usize| logs[i][0] + f64::from(noise.row(i)[0]) >= logs[i][1] + f64::from(noise.row(i)[1]);
    let keep: Vec<bool> = (0..n).map(stays).collect();
    let kept: Vec<usize> = (0..n).filter(|&i| keep[i]).collect();
    let (mut cross, mut causal, mut absorbed) = (Vec::new(), Vec::new(), vec![0f64; n]);
    for (at, &i) in kept.iter().enumerate() {
        ctx.step(at, kept.len())?;
        let s: Vec<f64> = scores.row(i).iter().map(|v| f64::from(*v)).collect();
        let row = under(&s, |j| !keep[j]);
        absorbed.iter_mut().zip(&row).for_each(|(a, w)| *a += w);
        cross.push(row);
        causal.push(under(&s, |j| (keep[j] || j == i) && j <= i));
    }
    Ok(json!({
        "logp": logs,
        "keep": kept,
        "count": kept.len(),
        "cross": cross,
        "causal": causal,
        "absorbed": absorbed,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_that_is_looked_at_as_much_as_the_mean_is_even() {
        assert_eq!([odds(0.25, 0.25), odds(0.75, 0.25), odds(0.0, 0.2), odds(0.0, 0.0)], [0.5, 0.75, 0.0, 0.5]);
    }

    #[test]
    fn kept_patches_take_in_the_dropped_ones_they_are_like() {
        let x = Array::new([3, 1], vec![2.0, 1.0, 0.0]).unwrap();
        let (made, lent) = absorbed(&x, &[true, false, false], 0.5, &Ctx::default()).unwrap();
        let e = 2f64.exp();
        assert_eq!(made, [vec![(0, 0.5)]]);
        assert_eq!(lent[0].iter().map(|l| l.0).collect::<Vec<_>>(), [1, 2]);
        assert!((lent[0][0].1 - 0.5 * e / (e + 1.0)).abs() < 1e-4, "{lent:?}");
        // Nothing to read: as much of everything.
        assert!(under(&[3.0, 5.0], |_| false).iter().all(|w| (w - 0.5).abs() < 1e-12));
    }
}
