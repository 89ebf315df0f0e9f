//! Distances between all pairs of points, each computed once: `1 − a · b` is the same to the bit either way round.

use super::{BLOCK, Blocks, Square};
use crate::Result;
use crate::ctx::Ctx;
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Pairs that are kept at most, 64 MB of them; of more, what is asked for is computed anew.
const KEPT: usize = 1 << 24;

/// What all pairs say.
pub struct Pairs {
    /// Distance of each point to its nearest neighbour: the second smallest, its own included.
    pub lonely: Vec<f32>,
    /// Where they are few, the distances of each block's points to all from the block's first one on,
    /// `[block][point][other]`.
    kept: Option<Vec<Vec<f32>>>,
    n: usize,
}

impl Pairs {
    /// Of all points. Errors where the job is cancelled.
    pub fn new(points: &Blocks, ctx: &Ctx) -> Result<Self> {
        Self::keeping(points, KEPT, ctx)
    }

    fn keeping(points: &Blocks, at_most: usize, ctx: &Ctx) -> Result<Self> {
        let (n, len) = (points.points(), points.len());
        let keeps = n * (n + 1) / 2 <= at_most;
        let done = AtomicUsize::new(0);
        let one = |mut found: (Smallest, Vec<(usize, Vec<f32>)>), i: usize| -> Result<_> {
            ctx.step(done.fetch_add(1, Ordering::Relaxed), len)?;
            let (first, own) = (i * BLOCK, BLOCK.min(n - i * BLOCK));
            let mut rows = if keeps { vec![0f32; own * (n - first)] } else { Vec::new() };
            let mut across = Smallest::new(BLOCK * BLOCK);
            for j in i..len {
                let (at, there) = (j * BLOCK, BLOCK.min(n - j * BLOCK));
                let distances = away(points.square(i, points, j), own, there);
                across.see(0, distances.as_flattened());
                if j > i {
                    distances.iter().for_each(|row| found.0.see(at, row));
                }
                if keeps {
                    let rows = rows.chunks_exact_mut(n - first).zip(&distances);
                    rows.for_each(|(row, d)| row[at - first..][..there].copy_from_slice(&d[..there]));
                }
            }
            for r in 0..BLOCK {
                across.of(r * BLOCK..(r + 1) * BLOCK).for_each(|d| found.0.see(first + r, &[d]));
            }
            if keeps {
                found.1.push((i, rows));
            }
            Ok(found)
        };
        let none = || (Smallest::new(len * BLOCK), Vec::new());
        // Later blocks have fewer pairs: one from either end in turn, so that parts of the list are about as much work.
        let turn = |k: usize| if k.is_multiple_of(2) { k / 2 } else { len - 1 - k / 2 };
        let blocks = (0..len).into_par_iter().map(turn);
        let (smallest, mut rows) = blocks.try_fold(none, one).try_reduce(none, |mut a, mut b| {
            a.0.join(&b.0);
            a.1.append(&mut b.1);
            Ok(a)
        })?;
        rows.sort_unstable_by_key(|r| r.0);
        let lonely = smallest.second[..n].to_vec();
        Ok(Self { lonely, kept: keeps.then(|| rows.into_iter().map(|r| r.1).collect()), n })
    }

    /// Lowers `nearest` to the distances to `point`; false where they are not kept.
    pub fn approach(&self, point: usize, nearest: &mut [f32]) -> bool {
        let Some(kept) = &self.kept else { return false };
        let first = point / BLOCK * BLOCK;
        for (block, near) in kept.iter().zip(nearest[..first].chunks_mut(BLOCK)) {
            let long = block.len() / BLOCK;
            let column = block[point - (self.n - long)..].iter().step_by(long);
            near.iter_mut().zip(column).for_each(|(near, d)| *near = near.min(*d));
        }
        let row = &kept[point / BLOCK][(point - first) * (self.n - first)..][..self.n - first];
        nearest[first..].iter_mut().zip(row).for_each(|(near, d)| *near = near.min(*d));
        true
    }
}

/// Distances of products; those of points that are missing are no distance at all.
fn away(products: Square, own: usize, there: usize) -> Square {
    let mut out = [[f32::INFINITY; BLOCK]; BLOCK];
    for (out, products) in out.iter_mut().zip(&products).take(own) {
        out.iter_mut().zip(products).take(there).for_each(|(out, dot)| *out = 1.0 - dot);
    }
    out
}

/// The two smallest values seen at each place.
struct Smallest {
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Smallest {
    fn new(n: usize) -> Self {
        Self { first: vec![f32::INFINITY; n], second: vec![f32::INFINITY; n] }
    }

    /// One value more for each place from `at` on.
    #[inline(always)]
    fn see(&mut self, at: usize, values: &[f32]) {
        let smaller = |a: f32, b: f32| if b < a { b } else { a };
        let places = self.first[at..].iter_mut().zip(&mut self.second[at..]);
        for ((first, second), &d) in places.zip(values) {
            let larger = if d < *first { *first } else { d };
            *second = smaller(*second, larger);
            *first = smaller(*first, d);
        }
    }

    /// What was seen at some places.
    fn of(&self, places: std::ops::Range<usize>) -> impl Iterator<Item = f32> {
        self.first[places.clone()].iter().chain(&self.second[places]).copied()
    }

    fn join(&mut self, other: &Self) {
        self.see(0, &other.first);
        self.see(0, &other.second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Array;
    use crate::passes::single::{dot, unit_rows};

    #[test]
    fn kept_or_not_every_point_knows_its_nearest_neighbour() {
        for n in [1, 2, 15, 16, 17, 33, 50] {
            let row = |i: usize| (0..5).map(|c| ((i * 37 + c * 101) % 19) as f32 - 9.0).collect::<Vec<_>>();
            let x = Array::new([n, 5], (0..n).flat_map(row).collect()).unwrap();
            let (rows, points) = (unit_rows(&x), Blocks::unit(&x, &(0..n).collect::<Vec<_>>()));
            let distance = |i: usize, j: usize| 1.0 - dot(&rows[i], &rows[j]);
            let second = |i: usize| {
                let mut all: Vec<f32> = (0..n).map(|j| distance(i, j)).collect();
                all.sort_unstable_by(f32::total_cmp);
                all.get(1).copied().unwrap_or(f32::INFINITY)
            };
            let lonely: Vec<f32> = (0..n).map(second).collect();
            for at_most in [0, usize::MAX] {
                let pairs = Pairs::keeping(&points, at_most, &Ctx::default()).unwrap();
                assert_eq!(pairs.lonely, lonely, "{n}");
                for i in 0..n {
                    let mut nearest = vec![f32::INFINITY; n];
                    assert_eq!(pairs.approach(i, &mut nearest), at_most > 0);
                    if at_most > 0 {
                        assert_eq!(nearest, (0..n).map(|j| distance(i, j)).collect::<Vec<_>>(), "{n} {i}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_cancelled_job_stops() {
        let x = Array::new([40, 3], vec![1.0; 120]).unwrap();
        let points = Blocks::unit(&x, &(0..40).collect::<Vec<_>>());
        let stop = Ctx::new(std::sync::Arc::new(true.into()), std::sync::Arc::new(|_| ()));
        assert!(Pairs::new(&points, &stop).is_err());
    }
}
