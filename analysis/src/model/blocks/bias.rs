//! What some encoders add to the scores of attention beside the products of queries and keys.

use crate::{Error, Result};
use candle_core::Tensor;

/// Additions to scores, after their scale.
pub trait Bias: Send + Sync {
    /// `[h, n, n]` for queries `[h, n, e]` and keys `[h, n, e]` of rows at these positions.
    ///
    /// Errors: those of the tensor library.
    fn of(&self, q: &Tensor, k: &Tensor, positions: &[usize]) -> Result<Tensor>;
}

/// A number per head for each bucket of distances (T5, MPNet). Raffel et al. 2019, arXiv 1910.10683.
pub struct Buckets {
    /// `[buckets, h]`.
    pub table: Tensor,
    /// Distance from which all fall into the last bucket.
    pub most: usize,
}

impl Buckets {
    /// The bucket of a key `by` places behind the query: the first half of them before it, near ones one by one, far
    /// ones in steps that grow.
    fn of(&self, by: isize) -> Result<usize> {
        let half = self.table.dim(0)? / 2;
        let (side, by) = (if by > 0 { half } else { 0 }, by.unsigned_abs());
        let exact = half / 2;
        if by < exact || exact == 0 {
            return Ok(side + by.min(half.saturating_sub(1)));
        }
        // f32 as in the original, where a logarithm may fall on a whole number.
        let far = (by as f32 / exact as f32).ln() / (self.most as f64 / exact as f64).ln() as f32;
        let far = exact + (far * (half - exact) as f32) as usize;
        Ok(side + far.min(half - 1))
    }
}

impl Bias for Buckets {
    fn of(&self, q: &Tensor, _k: &Tensor, positions: &[usize]) -> Result<Tensor> {
        let n = positions.len();
        if q.dim(1)? != n {
            return Err(Error::shape("queries", format!("[heads, {n}, width]"), q.dims()));
        }
        let mut ids = Vec::with_capacity(n * n);
        for &a in positions {
            for &b in positions {
                ids.push(Buckets::of(self, b as isize - a as isize)? as u32);
            }
        }
        let h = self.table.dim(1)?;
        let ids = Tensor::new(ids, self.table.device())?;
        Ok(self.table.index_select(&ids, 0)?.reshape((n, n, h))?.permute([2, 0, 1])?.contiguous()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn near_distances_have_a_bucket_each_and_far_ones_share() {
        // 8 buckets: 4 a side, 2 of them exact; from 2 on by logarithm up to 16.
        let table = Tensor::from_vec((0..8).map(|i| i as f32).collect(), (8, 1), &Device::Cpu).unwrap();
        let b = Buckets { table, most: 16 };
        let of = |by| Buckets::of(&b, by).unwrap();
        assert_eq!([0, -1, -2, -5, -6, -100].map(of), [0, 1, 2, 2, 3, 3]);
        assert_eq!([1, 2, 6].map(of), [5, 6, 7]);
        let q = Tensor::zeros((1, 2, 1), candle_core::DType::F32, &Device::Cpu).unwrap();
        let bias = Bias::of(&b, &q, &q, &[3, 4]).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(bias, [0.0, 5.0, 1.0, 0.0]);
    }
}
