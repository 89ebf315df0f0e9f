//! Mixtures of experts: a router chooses some of many MLPs for every row. Shazeer et al. 2017, arXiv 1701.06538; Jiang
//! et al. 2024, 2401.04088.

use super::{Activation, Linear, Mlp, Pass, Scope, cpu};
use crate::ctx::Ctx;
use crate::trace::Site;
use crate::{Error, Result};
use candle_core::{D, Device, Tensor};

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
        mlp.and_then(|m| m.down.inputs().ok()).unwrap_or(0)
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

/// How the logits of a router become scores, which experts are chosen by them, and how much each of these counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Shares {
    /// Each score is a sigmoid of its own, and not a part of a softmax over all (DeepSeek-V3).
    pub sigmoid: bool,
    /// Scores are divided by the sum of the chosen ones; of a softmax, that is a softmax over the chosen ones.
    pub divides: bool,
    /// What the scores are multiplied by then.
    pub factor: f64,
    /// Added to the scores of the experts for the choice alone, one each; empty where nothing is.
    pub bias: Vec<f32>,
    /// Experts are chosen out of a few groups only, where there are such.
    pub groups: Option<Groups>,
}

/// Experts next to each other form groups, of which the best few may be chosen from (DeepSeek-V2, arXiv 2405.04434).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups {
    /// How many there are.
    pub all: usize,
    /// How many may be chosen from.
    pub open: usize,
    /// A group counts as much as its best so many experts together.
    pub best: usize,
}

impl Shares {
    /// Softmax over all experts.
    pub fn softmax() -> Self {
        Self { sigmoid: false, divides: false, factor: 1.0, bias: Vec::new(), groups: None }
    }

    /// Softmax over the chosen ones.
    pub fn chosen() -> Self {
        Self { divides: true, ..Self::softmax() }
    }

    /// Errors unless `all` experts form the groups, and the open ones hold `chosen`.
    fn check(&self, all: usize, chosen: usize) -> Result<()> {
        let Some(g) = self.groups else { return Ok(()) };
        let fits = g.all > 0 && all.is_multiple_of(g.all) && (1..=g.all).contains(&g.open);
        if !fits || g.best == 0 || g.best > all / g.all || chosen > g.open * (all / g.all) {
            let Groups { all: groups, open, .. } = g;
            let e = format!("config.json: {chosen} of {all} experts cannot be chosen out of {open} of {groups} groups");
            return Err(Error::invalid(e));
        }
        Ok(())
    }

    /// The scores of all experts.
    fn scores(&self, logits: &Tensor) -> Result<Tensor> {
        if self.sigmoid {
            return Ok((logits.neg()?.exp()? + 1.0)?.recip()?);
        }
        let e = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?)?.exp()?;
        Ok(e.broadcast_div(&e.sum_keepdim(D::Minus1)?)?)
    }

    /// Indices `[n, k]` of the experts that read each row, best first; of equal ones the lower.
    fn best(&self, logits: &Tensor, k: usize) -> Result<Tensor> {
        // Where nothing is added, the logits have the order of their scores.
        if self.bias.is_empty() && self.groups.is_none() {
            return best(&logits.detach().to_vec2()?, k, logits.device());
        }
        let mut rows = self.scores(&logits.detach())?.to_vec2::<f32>()?;
        for row in &mut rows {
            row.iter_mut().zip(&self.bias).for_each(|(x, b)| *x += b);
            if let Some(groups) = self.groups {
                groups.close(row);
            }
        }
        best(&rows, k, logits.device())
    }
}

impl Groups {
    /// Takes the experts of all but the best groups out of the choice.
    fn close(self, row: &mut [f32]) {
        let size = row.len() / self.all.max(1);
        let worth = |group: &[f32]| {
            let mut group = group.to_vec();
            group.sort_by(|a, b| b.total_cmp(a));
            group[..self.best.min(group.len())].iter().sum::<f32>()
        };
        let worths: Vec<f32> = row.chunks(size.max(1)).map(worth).collect();
        let mut order: Vec<usize> = (0..worths.len()).collect();
        order.sort_by(|&a, &b| worths[b].total_cmp(&worths[a]));
        for &closed in order.iter().skip(self.open) {
            row[closed * size..(closed + 1) * size].fill(f32::NEG_INFINITY);
        }
    }
}

/// What stands between the maps of an expert whose first map gives gate and value in turn (GPT-OSS):
/// `(value + 1) · gate · sigmoid(alpha · gate)`, gates up to the limit, values within it on both sides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clamped {
    /// How steep the gate is.
    pub alpha: f32,
    /// The limit.
    pub limit: f32,
}

impl Clamped {
    /// `[n, 2 · m]` → `[n, m]`.
    fn apply(self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        let (n, both) = x.dims2()?;
        let m = both / 2;
        if cpu::is_plain(x) {
            let x = x.contiguous()?;
            let mut y = vec![0f32; n * m];
            cpu::read(&x, |x, _| {
                cpu::each(&mut y, m.max(1), ctx, |i, y| {
                    for (y, pair) in y.iter_mut().zip(x[2 * m * i..].as_chunks::<2>().0) {
                        let gate = pair[0].min(self.limit);
                        let value = pair[1].clamp(-self.limit, self.limit);
                        *y = (value + 1.0) * cpu::swish(gate, self.alpha);
                    }
                });
                Ok(())
            })?;
            ctx.check()?;
            return Ok(Tensor::from_vec(y, (n, m), x.device())?);
        }
        let pairs = x.reshape((n, m, 2))?;
        let of = |i: usize| pairs.narrow(2, i, 1)?.squeeze(2);
        let gate = of(0)?.minimum(self.limit)?;
        let value = of(1)?.minimum(self.limit)?.maximum(-self.limit)?;
        let open = ((&gate * f64::from(-self.alpha))?.exp()? + 1.0)?.recip()?;
        Ok(((value + 1.0)? * (gate * open)?)?)
    }
}

/// Columns of the first `[n, m]` and the second in turn, `[n, 2 · m]`.
fn in_turn(first: &Tensor, second: &Tensor) -> Result<Tensor> {
    let (n, m) = first.dims2()?;
    Ok(Tensor::stack(&[first, second], 2)?.reshape((n, 2 * m))?)
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
    /// What stands between their maps instead of gate and activation.
    pub clamped: Option<Clamped>,
    /// One that reads every row, with a map to the logit of its share (Qwen2-MoE), or as it is (DeepSeek).
    pub shared: Option<(Mlp, Option<Linear>)>,
}

impl Experts {
    fn apply(&self, x: &Tensor, layer: usize, pass: &mut Pass) -> Result<Tensor> {
        let logits = pass.tap(Site::Router, layer, self.router.apply_in(x, pass.ctx)?)?;
        let best = self.shares.best(&logits, self.chosen)?;
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
            Some((mlp, Some(gate))) => {
                let share = gate.apply(x)?;
                let share = (share.neg()?.exp()? + 1.0)?.recip()?;
                mlp.apply_in(x, pass.ctx)?.broadcast_mul(&share)?
            }
            Some((mlp, None)) => mlp.apply_in(x, pass.ctx)?,
            None => x.zeros_like()?,
        };
        let flat = weights.flatten_all()?;
        for (expert, rows) in self.experts.iter().zip(&rows_of).filter(|(_, rows)| !rows.is_empty()) {
            pass.ctx.check()?;
            let index = Tensor::new(rows.iter().map(|r| r.0).collect::<Vec<_>>(), x.device())?;
            let shares: Vec<u32> =
                rows.iter().map(|&(row, rank)| row * best[row as usize].len() as u32 + rank).collect();
            let shares = flat.index_select(&Tensor::new(shares, x.device())?, 0)?.unsqueeze(1)?;
            let own = x.index_select(&index, 0)?;
            let y = match self.clamped {
                Some(c) => {
                    let up = expert.up.apply_in(&own, pass.ctx)?;
                    let pairs = match &expert.gate {
                        Some(gate) => in_turn(&gate.apply_in(&own, pass.ctx)?, &up)?,
                        None => up,
                    };
                    expert.down.apply_in(&c.apply(&pairs, pass.ctx)?, pass.ctx)?
                }
                None => expert.apply_in(&own, pass.ctx)?,
            };
            let y = y.broadcast_mul(&shares)?;
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
        let index = Tensor::from_vec(index, (best.len(), k), logits.device())?;
        let mut p = self.shares.scores(logits)?.gather(&index, 1)?;
        if self.shares.divides {
            // The smallest number keeps sigmoids that are all 0 finite, as in the original.
            p = p.broadcast_div(&(p.sum_keepdim(D::Minus1)? + 1e-20)?)?;
        }
        Ok(if self.shares.factor == 1.0 { p } else { (p * self.shares.factor)? })
    }
}

/// Indices `[n, k]` of the `k` largest of each row, best first; of equal ones the lower.
fn best(rows: &[Vec<f32>], k: usize, device: &Device) -> Result<Tensor> {
    let mut out = Vec::with_capacity(rows.len() * k);
    for row in rows {
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
        out.extend(order[..k].iter().map(|&i| i as f32));
    }
    Ok(Tensor::from_vec(out, (rows.len(), k), device)?)
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
    /// Errors unless `chosen` of `all` experts can be chosen.
    pub fn check_counts(all: usize, chosen: usize) -> Result<()> {
        if (1..=all).contains(&chosen) {
            return Ok(());
        }
        Err(Error::invalid(format!("config.json: {chosen} of {all} experts cannot be chosen")))
    }

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
        Self::check_counts(all, chosen)?;
        shares.check(all, chosen)?;
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
        Ok(Self { router, chosen, shares, experts, clamped: None, shared: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{NoTap, Rows, Tower};
    use candle_core::Var;

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
            shares: Shares::chosen(),
            experts: vec![expert(1.0), expert(2.0), expert(3.0)],
            clamped: None,
            shared: None,
        };
        let x = Tensor::new(&[[1f32], [-1.0]], &Device::Cpu).unwrap();
        let close = |got: Vec<f32>, want: [f32; 2]| {
            assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?}, not {want:?}");
        };
        // 1: experts 2 and 1 by 4 : 2, so 3 · 2/3 + 2 · 1/3; -1: experts 0 and 1 by 4 : 2.
        close(run(&experts, &x), [8.0 / 3.0, -4.0 / 3.0]);
        // Without the division: 4/7, 2/7 and 1/7.
        experts.shares = Shares::softmax();
        close(run(&experts, &x), [16.0 / 7.0, -8.0 / 7.0]);
        // One for every row, by half.
        experts.shared = Some((expert(10.0), Some(map(&[&[0.0]]))));
        close(run(&experts, &x), [16.0 / 7.0 + 5.0, -8.0 / 7.0 - 5.0]);
    }

    #[test]
    fn sigmoids_that_are_chosen_with_a_bias_out_of_the_best_groups_by_hand() {
        // Expert i gives i + 1 for a row of 1; logits ln 3, 0, 0, ln 3, so sigmoids 3/4, 1/2, 1/2, 3/4.
        let ln3 = 3f32.ln();
        let expert = |by: f32| Mlp { gate: None, up: map(&[&[by]]), down: map(&[&[1.0]]), act: Activation::Linear };
        let groups = Some(Groups { all: 2, open: 1, best: 2 });
        let shares = Shares { sigmoid: true, divides: true, factor: 2.0, bias: vec![0.0, 0.5, 0.1, 0.0], groups };
        let mut e = Experts {
            router: map(&[&[ln3], &[0.0], &[0.0], &[ln3]]),
            chosen: 2,
            shares,
            experts: (1..=4).map(|i| expert(i as f32)).collect(),
            clamped: None,
            shared: Some((expert(100.0), None)),
        };
        let x = Tensor::new(&[[1f32]], &Device::Cpu).unwrap();
        let near = |got: Vec<f32>, want: f32| assert!((got[0] - want).abs() < 1e-4, "{got:?}, not {want}");
        // With the bias the groups hold 1.75 and 1.35, so experts 1 and 0 by 1/2 : 3/4; the bias weighs nothing.
        let logits = e.router.apply(&x).unwrap();
        assert_eq!(e.shares.best(&logits, 2).unwrap().to_vec2::<f32>().unwrap(), [[1.0, 0.0]]);
        near(run(&e, &x), 100.0 + 2.0 * (0.4 * 2.0 + 0.6));
        // Two of all four: experts 1 (1.0 with its bias) and 0.
        e.shares.groups = None;
        near(run(&e, &x), 100.0 + 2.0 * (0.4 * 2.0 + 0.6));
        // Without bias and division: 0 and 3, three quarters each.
        e.shares = Shares { divides: false, bias: Vec::new(), ..e.shares.clone() };
        near(run(&e, &x), 100.0 + 2.0 * 0.75 * (1.0 + 4.0));
        // More than the open groups hold.
        let groups = Some(Groups { all: 2, open: 1, best: 1 });
        assert!(Shares { groups, ..Shares::softmax() }.check(4, 3).is_err());
        assert!(Shares { groups, ..Shares::softmax() }.check(5, 1).is_err());
    }

    #[test]
    fn clamped_pairs_and_their_gradients_are_those_of_plain_arithmetic() {
        let c = Clamped { alpha: 1.702, limit: 2.0 };
        let x = Var::new(&[[0.5f32, -0.25, 3.0, 1.0], [-1.0, 5.0, 2.5, -7.0]], &Device::Cpu).unwrap();
        let swish = |x: f64| x / (1.0 + (-1.702 * x).exp());
        let want = [0.75 * swish(0.5), 2.0 * swish(2.0), 3.0 * swish(-1.0), -swish(2.0)];
        for x in [x.as_tensor().clone(), x.as_detached_tensor()] {
            let y = c.apply(&x, &Ctx::default()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(y.iter().zip(want).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6), "{y:?}, not {want:?}");
        }
        let y = c.apply(x.as_tensor(), &Ctx::default()).unwrap().sum_all().unwrap();
        let grads = y.backward().unwrap().get(&x).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        // What is clamped gets nothing back.
        assert_eq!([grads[2], grads[5], grads[6], grads[7]], [0.0; 4]);
        assert!((f64::from(grads[1]) - swish(0.5)).abs() < 1e-6, "{grads:?}");
    }
}
