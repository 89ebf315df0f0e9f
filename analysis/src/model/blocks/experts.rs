//! Mixtures of experts: a router chooses some of many MLPs for every row. Shazeer et al. 2017, arXiv 1701.06538; Jiang
//! et al. 2024, 2401.04088.

use super::{Activation, Linear, Mlp, Pass, Scope};
use crate::trace::Site;
use crate::{Error, Result};
use candle_core::{D, Tensor};

/// The part of a block behind attention.
#[derive(Debug, Clone)]
pub enum FeedForward {
    /// One MLP for every row.
    Dense(Mlp),
    /// Several, of which a router chooses.
    Experts(Experts),
}

impl From<Mlp> for FeedForward {
    fn from(mlp: Mlp) -> Self {
        Self::Dense(mlp)
    }
}

impl FeedForward {
    /// The one MLP, where there is no router.
    pub fn dense(&self) -> Option<&Mlp> {
        match self {
            Self::Dense(mlp) => Some(mlp),
            Self::Experts(_) => None,
        }
    }

    /// Width of the wide middle: that of one expert where there are several.
    pub fn wide(&self) -> usize {
        let mlp = match self {
            Self::Dense(mlp) => Some(mlp),
            Self::Experts(e) => e.experts.first(),
        };
        mlp.and_then(|m| m.up.outputs().ok()).unwrap_or(0)
    }

    /// Experts, and how many of them are chosen for a row; 0 where there is no router.
    pub fn counts(&self) -> (usize, usize) {
        match self {
            Self::Dense(_) => (0, 0),
            Self::Experts(e) => (e.experts.len(), e.chosen),
        }
    }

    /// `[n, d]` → `[n, d]`, past the taps of its middle or of its router.
    pub(super) fn apply(&self, x: &Tensor, layer: usize, pass: &mut Pass) -> Result<Tensor> {
        match self {
            Self::Dense(mlp) if pass.wants(Site::MlpHidden, layer) => {
                let h = pass.tap(Site::MlpHidden, layer, mlp.hidden(x, pass.ctx)?)?;
                mlp.down.apply_in(&h, pass.ctx)
            }
            Self::Dense(mlp) => mlp.apply_in(x, pass.ctx),
            Self::Experts(experts) => experts.apply(x, layer, pass),
        }
    }
}

/// How the logits of a router become weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shares {
    /// Softmax over all experts.
    Softmax,
    /// Softmax over all, divided by the sum of the chosen ones: a softmax over the chosen ones.
    Chosen,
}

/// Several MLPs and their router.
#[derive(Debug, Clone)]
pub struct Experts {
    /// Row → logits of the experts.
    pub router: Linear,
    /// Experts that read each row.
    pub chosen: usize,
    /// How much each of them counts.
    pub shares: Shares,
    /// The MLPs.
    pub experts: Vec<Mlp>,
    /// One that reads every row (Qwen2-MoE), with a map to the logit of its share.
    pub shared: Option<(Mlp, Linear)>,
}

impl Experts {
    fn apply(&self, x: &Tensor, layer: usize, pass: &mut Pass) -> Result<Tensor> {
        let logits = pass.tap(Site::Router, layer, self.router.apply_in(x, pass.ctx)?)?;
        let best = best(&logits, self.chosen)?;
        // Who changes the choice sends rows to other experts, with the shares that the router gives these.
        let best = pass.tap(Site::Experts, layer, best)?.to_vec2::<f32>()?;
        let (n, all) = logits.dims2()?;
        let mut rows_of: Vec<Vec<(u32, u32)>> = vec![Vec::new(); all];
        for (row, best) in best.iter().enumerate() {
            for (rank, &e) in best.iter().enumerate() {
                let rows = (e >= 0.0).then(|| rows_of.get_mut(e as usize)).flatten();
                let rows =
                    rows.ok_or_else(|| Error::invalid(format!("there is no expert {e}; the layer has {all}")))?;
                rows.push((row as u32, rank as u32));
            }
        }
        let weights = self.weights(&logits, &best)?;
        let mut out = match &self.shared {
            Some((mlp, gate)) => {
                let share = gate.apply(x)?;
                let share = (share.neg()?.exp()? + 1.0)?.recip()?;
                mlp.apply_in(x, pass.ctx)?.broadcast_mul(&share)?
            }
            None => x.zeros_like()?,
        };
        let flat = weights.flatten_all()?;
        for (expert, rows) in self.experts.iter().zip(&rows_of).filter(|(_, rows)| !rows.is_empty()) {
            pass.ctx.check()?;
            let index = Tensor::new(rows.iter().map(|r| r.0).collect::<Vec<_>>(), x.device())?;
            let shares: Vec<u32> =
                rows.iter().map(|&(row, rank)| row * best[row as usize].len() as u32 + rank).collect();
            let shares = flat.index_select(&Tensor::new(shares, x.device())?, 0)?.unsqueeze(1)?;
            let y = expert.apply_in(&x.index_select(&index, 0)?, pass.ctx)?.broadcast_mul(&shares)?;
            out = if rows.len() == n && rows.iter().enumerate().all(|(i, r)| r.0 as usize == i) {
                (out + y)?
            } else {
                out.index_add(&index, &y, 0)?
            };
        }
        Ok(out)
    }

    /// Shares `[n, chosen]` of the chosen experts.
    fn weights(&self, logits: &Tensor, best: &[Vec<f32>]) -> Result<Tensor> {
        let index: Vec<u32> = best.iter().flatten().map(|&e| e as u32).collect();
        let k = best.first().map_or(0, Vec::len);
        if best.iter().any(|b| b.len() != k) || k == 0 {
            return Err(Error::invalid("every row needs the same number of experts, at least one"));
        }
        let e = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?)?.exp()?;
        let p = e.broadcast_div(&e.sum_keepdim(D::Minus1)?)?;
        let p = p.gather(&Tensor::from_vec(index, (best.len(), k), logits.device())?, 1)?;
        Ok(match self.shares {
            Shares::Softmax => p,
            Shares::Chosen => p.broadcast_div(&p.sum_keepdim(D::Minus1)?)?,
        })
    }
}

/// Indices `[n, k]` of the `k` largest of each row, best first; of equal ones the lower.
fn best(logits: &Tensor, k: usize) -> Result<Tensor> {
    let rows = logits.detach().to_vec2::<f32>()?;
    let mut out = Vec::with_capacity(rows.len() * k);
    for row in &rows {
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
        out.extend(order[..k].iter().map(|&i| i as f32));
    }
    Ok(Tensor::from_vec(out, (rows.len(), k), logits.device())?)
}

/// What a router's weights and those of its experts are called.
pub struct Names {
    /// Below the block: the router.
    pub router: &'static str,
    /// Below the block: where the experts stand.
    pub experts: &'static str,
    /// Gate, first and second map of one expert.
    pub maps: [&'static str; 3],
}

impl Experts {
    /// Reads experts that are stored one by one, or all in `gate_up_proj` `[experts, 2 · inner, d]` and `down_proj`
    /// `[experts, d, inner]`.
    ///
    /// Errors: more chosen than there are, weights that are missing or of another shape.
    pub fn load(
        s: &Scope,
        names: &[Names],
        (d, inner): (usize, usize),
        (all, chosen): (usize, usize),
        (act, shares): (Activation, Shares),
    ) -> Result<Self> {
        if chosen == 0 || chosen > all {
            return Err(Error::invalid(format!("config.json: {chosen} of {all} experts cannot be chosen")));
        }
        let own = names.iter().find(|n| s.sub(n.router).has("weight")).or(names.first());
        let own = own.ok_or_else(|| Error::invalid("experts need names"))?;
        let router = Linear::load(&s.sub(own.router), d, all, false)?;
        let e = s.sub(own.experts);
        let mut experts = Vec::with_capacity(all);
        if e.has("gate_up_proj") {
            // Some files hold them the other way round.
            let turned =
                e.shape("gate_up_proj") == Some(&[all, d, 2 * inner]) && e.shape("down_proj") == Some(&[all, inner, d]);
            // Rows and columns of one map as stored; all of them stand below each other.
            let ((wide, high), (long, short)) =
                if turned { ((2 * inner, d), (d, inner)) } else { ((d, 2 * inner), (inner, d)) };
            let both = e.table("gate_up_proj", &[all, high, wide])?;
            let last = e.table("down_proj", &[all, short, long])?;
            for i in 0..all {
                let (own, last) = (both.rows(i * high..(i + 1) * high)?, last.rows(i * short..(i + 1) * short)?);
                let half = |from: usize| {
                    if turned { own.columns(from..from + inner)?.turned() } else { own.rows(from..from + inner) }
                };
                let down = if turned { last.turned()? } else { last };
                experts.push(Mlp {
                    gate: Some(Linear::from_table(&half(0)?, None)?),
                    up: Linear::from_table(&half(inner)?, None)?,
                    down: Linear::from_table(&down, None)?,
                    act,
                });
            }
        } else {
            let [gate, up, down] = own.maps;
            for i in 0..all {
                let one = e.sub(i);
                experts.push(Mlp {
                    gate: Some(Linear::load(&one.sub(gate), d, inner, false)?),
                    up: Linear::load(&one.sub(up), d, inner, false)?,
                    down: Linear::load(&one.sub(down), inner, d, false)?,
                    act,
                });
            }
        }
        Ok(Self { router, chosen, shares, experts, shared: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::Ctx;
    use crate::trace::{NoTap, Rows, Tower};
    use candle_core::Device;

    /// The experts on `[n, d]`, and nobody looks.
    fn run(e: &Experts, x: &Tensor) -> Vec<f32> {
        let (mut tap, ctx) = (NoTap, Ctx::default());
        let mut pass = Pass::new(Tower::Text, 0, Rows::identity(x.dim(0).unwrap()), &mut tap, &ctx);
        e.apply(x, 0, &mut pass).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    fn map(rows: &[&[f32]]) -> Linear {
        let (n, d) = (rows.len(), rows[0].len());
        let m = Tensor::from_vec(rows.concat(), (n, d), &Device::Cpu).unwrap();
        Linear::from_matrix(&m, None).unwrap()
    }

    #[test]
    fn two_of_three_experts_by_hand() {
        // Expert i multiplies by i + 1; the router's logits are 0, ln 2 and ln 4 times the row's value.
        let expert = |by: f32| Mlp { gate: None, up: map(&[&[by]]), down: map(&[&[1.0]]), act: Activation::Linear };
        let mut experts = Experts {
            router: map(&[&[0.0], &[2f32.ln()], &[4f32.ln()]]),
            chosen: 2,
            shares: Shares::Chosen,
            experts: vec![expert(1.0), expert(2.0), expert(3.0)],
            shared: None,
        };
        let x = Tensor::new(&[[1f32], [-1.0]], &Device::Cpu).unwrap();
        let close = |got: Vec<f32>, want: [f32; 2]| {
            assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?}, not {want:?}");
        };
        // 1: experts 2 and 1 by 4 : 2, so 3 · 2/3 + 2 · 1/3; -1: experts 0 and 1 by 4 : 2.
        close(run(&experts, &x), [8.0 / 3.0, -4.0 / 3.0]);
        // Without the division: 4/7, 2/7 and 1/7.
        experts.shares = Shares::Softmax;
        close(run(&experts, &x), [16.0 / 7.0, -8.0 / 7.0]);
        // One for every row, by half.
        experts.shared = Some((expert(10.0), map(&[&[0.0]])));
        close(run(&experts, &x), [16.0 / 7.0 + 5.0, -8.0 / 7.0 - 5.0]);
    }
}
