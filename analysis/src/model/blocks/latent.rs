//! Queries, keys and values through narrow latents (multi-head latent attention). DeepSeek-AI 2024, arXiv 2405.04434.

use super::rope::Tables;
use super::{Attention, Linear, Norm, Rope};
use crate::Result;
use crate::ctx::Ctx;
use candle_core::Tensor;

/// What an attention has whose key map gives a latent and one rotary key for all heads, and whose value map makes keys
/// and values of all heads from the latent.
#[derive(Debug, Clone)]
pub struct Latent {
    /// Map to the latent of queries and its norm, in front of the query map.
    pub queries: Option<(Linear, Norm)>,
    /// Norm of the latent of keys and values.
    pub norm: Norm,
    /// Width of that latent.
    pub rank: usize,
    /// Components of a head's queries and keys that are not turned; those that are come behind them.
    pub plain: usize,
    /// Width of a head's values.
    pub values: usize,
    /// How the components that are turned together lie.
    pub pairs: Pairs,
}

/// How the components lie that a rotary embedding turns together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// In two halves, before and after.
    Apart,
    /// Beside each other, before and after.
    Beside,
    /// Beside each other before, and in two halves after.
    Parted,
}

impl Latent {
    /// Queries `[h, n, e]`, keys `[h, n, e]` and values `[h, n, w]` of rows `[n, d]`.
    pub(super) fn project(
        &self,
        a: &Attention,
        x: &Tensor,
        tables: Option<&Tables>,
        ctx: &Ctx,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        let (n, h, plain) = (x.dim(0)?, a.rule.n_heads, self.plain);
        let heads = |t: Tensor, wide: usize| -> Result<Tensor> { Ok(t.reshape((n, h, wide))?.transpose(0, 1)?) };
        let turned = a.head_width - plain;
        let q = match &self.queries {
            Some((down, norm)) => a.q.apply_in(&norm.apply(&down.apply_in(x, ctx)?)?, ctx)?,
            None => a.q.apply_in(x, ctx)?,
        };
        let q = heads(q, a.head_width)?;
        let both = a.k.apply_in(x, ctx)?;
        let latent = self.norm.apply(&both.narrow(1, 0, self.rank)?.contiguous()?)?;
        let made = heads(a.v.apply_in(&latent, ctx)?, plain + self.values)?;
        let (mut q_end, mut k_end) =
            (q.narrow(2, plain, turned)?.contiguous()?, both.narrow(1, self.rank, turned)?.contiguous()?.unsqueeze(0)?);
        if let Some((rope, tables)) = a.rope.as_ref().zip(tables) {
            q_end = self.turn(rope, &q_end, tables, self.pairs != Pairs::Apart)?;
            k_end = self.turn(rope, &k_end, tables, self.pairs != Pairs::Apart)?;
        }
        let q = Tensor::cat(&[&q.narrow(2, 0, plain)?.contiguous()?, &q_end], 2)?;
        let k_end = k_end.broadcast_as((h, n, turned))?.contiguous()?;
        let k = Tensor::cat(&[&made.narrow(2, 0, plain)?.contiguous()?, &k_end], 2)?;
        Ok((q, k, made.narrow(2, plain, self.values)?.contiguous()?))
    }

    /// Keys `[h, m, e]`, turned once before, turned again by `tables`.
    pub(super) fn moved(&self, rope: &Rope, k: &Tensor, tables: &Tables) -> Result<Tensor> {
        let turned = k.dim(2)? - self.plain;
        let end =
            self.turn(rope, &k.narrow(2, self.plain, turned)?.contiguous()?, tables, self.pairs == Pairs::Beside)?;
        Ok(Tensor::cat(&[&k.narrow(2, 0, self.plain)?.contiguous()?, &end], 2)?)
    }

    /// Components `[h, n, turned]`, turned; `beside` says whether pairs lie beside each other before.
    fn turn(&self, rope: &Rope, x: &Tensor, tables: &Tables, beside: bool) -> Result<Tensor> {
        let (h, n, e) = x.dims3()?;
        let halves = match beside {
            true => x.reshape((h, n, e / 2, 2))?.transpose(2, 3)?.contiguous()?.reshape((h, n, e))?,
            false => x.clone(),
        };
        let y = rope.turn(&halves, tables)?;
        if self.pairs != Pairs::Beside {
            return Ok(y);
        }
        Ok(y.contiguous()?.reshape((h, n, 2, e / 2))?.transpose(2, 3)?.contiguous()?.reshape((h, n, e))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::blocks::Places;
    use candle_core::Device;

    fn latent(pairs: Pairs) -> Latent {
        let norm = Norm::layer_without_weights(1, 0.0, &Device::Cpu).unwrap();
        Latent { queries: None, norm, rank: 1, plain: 1, values: 1, pairs }
    }

    #[test]
    fn pairs_are_turned_wherever_they_lie_and_a_moved_key_is_as_if_it_had_stood_there() {
        let rope = Rope::plain(10.0, 4).unwrap();
        let at = |p: usize| rope.tables(Places { positions: &[p], turns: &[] }, &Device::Cpu).unwrap();
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        // The pairs (1, 2) and (3, 4).
        for (pairs, before, order) in [
            (Pairs::Apart, [1f32, 3.0, 2.0, 4.0], [0, 2, 1, 3]),
            (Pairs::Beside, [1.0, 2.0, 3.0, 4.0], [0, 1, 2, 3]),
            (Pairs::Parted, [1.0, 2.0, 3.0, 4.0], [0, 2, 1, 3]),
        ] {
            let l = latent(pairs);
            let x = Tensor::new(&[[before]], &Device::Cpu).unwrap();
            let turned = |p: usize| flat(&l.turn(&rope, &x, &at(p), pairs != Pairs::Apart).unwrap());
            let got = turned(3);
            for (pair, (a, b)) in [(1f32, 2f32), (3.0, 4.0)].into_iter().enumerate() {
                let angle = 3.0 * 10f32.powf(-0.5 * pair as f32);
                let want = [a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()];
                for (i, want) in want.iter().enumerate() {
                    let got = got[order[2 * pair + i]];
                    assert!((got - want).abs() < 1e-5, "{pairs:?} {pair} {i}: {got}, not {want}");
                }
            }
            let whole = Tensor::from_vec([vec![7.0], turned(5)].concat(), (1, 1, 5), &Device::Cpu).unwrap();
            let by = rope.between(&[5], &[3], &Device::Cpu).unwrap();
            let moved = flat(&l.moved(&rope, &whole, &by).unwrap());
            assert!(moved[0] == 7.0 && moved[1..].iter().zip(&got).all(|(a, b)| (a - b).abs() < 1e-5), "{pairs:?}");
        }
    }
}
