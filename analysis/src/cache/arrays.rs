//! Queries and keys of a raw entry, read pass by pass as a model would read them.

use crate::array::Array;
use crate::raw::RawInput;
use crate::trace::{Attending, AttentionRule, Held, MaskRule};
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use std::ops::Range;

/// Queries `[heads, n, width]` and keys `[key-value heads, n, width]` of a text of `n` tokens, turned already.
pub(super) struct Arrays {
    q: Tensor,
    k: Tensor,
}

impl Arrays {
    /// `q` and `k` of a raw entry, `[1, heads, n, width]` each. Errors: shapes that do not go together, numbers that are
    /// none.
    pub fn of(input: &RawInput) -> Result<Self> {
        let one = |name: &str| -> Result<Array> {
            let a = input.array(name)?;
            a.check_finite(name)?;
            match a.dims(name)? {
                [1, _, _, _] => Ok(a.sub(0)),
                _ => Err(Error::shape(name, "[1, heads, n, width]", a.shape())),
            }
        };
        Self::new(&one("q")?, &one("k")?)
    }

    /// These queries and keys. Errors: shapes that do not go together.
    pub fn new(q: &Array, k: &Array) -> Result<Self> {
        let ([h, n, e], [g, m, _]) = (q.dims("q")?, k.dims("k")?);
        if g == 0 || h % g != 0 || n != m || k.shape()[2] != e {
            return Err(Error::shape("k", format!("[divisor of {h}, {n}, {e}]"), k.shape()));
        }
        let tensor = |a: &Array| Tensor::from_slice(a.data(), a.shape(), &Device::Cpu);
        Ok(Self { q: tensor(q)?, k: tensor(k)? })
    }

    /// Query heads, and tokens.
    pub fn size(&self) -> Result<(usize, usize)> {
        let (heads, n, _) = self.q.dims3()?;
        Ok((heads, n))
    }

    /// What a policy sees once these tokens are read, the last ones so far, where each query sees by `mask`.
    pub fn pass<T>(&self, read: Range<usize>, mask: MaskRule, see: impl FnOnce(&Attending) -> Result<T>) -> Result<T> {
        let (n_heads, _, e) = self.q.dims3()?;
        let (q, k) = (self.q.narrow(1, read.start, read.len())?, self.k.narrow(1, 0, read.end)?.contiguous()?);
        let rule = AttentionRule {
            n_heads,
            n_kv_heads: k.dim(0)?,
            scale: (e as f32).powf(-0.5),
            mask,
            soft_cap: None,
            sinks: None,
        };
        let held = [Held { v: k.clone(), k, positions: (0..read.end).collect() }];
        let positions: Vec<usize> = read.collect();
        see(&Attending { q: &q, held: &held, rule: &rule, positions: &positions, sizes: None })
    }
}
