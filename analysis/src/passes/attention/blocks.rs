//! The fast CPU path of the attention passes: f32 scores of blocks of queries and keys by candle's matmul, softmax
//! sums in f64, blocks in parallel. Nothing of the size queries × keys is held.

use super::Head;
use crate::Result;
use crate::ctx::Ctx;
use crate::math::exp;
use crate::trace::Spans;
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Queries of a block.
const QUERIES: usize = 64;
/// Keys of a block; with [`QUERIES`] its scores stay within a core's cache.
const KEYS: usize = 4096;

/// Statistics of a row while it is walked over.
#[derive(Debug, Clone, Copy)]
pub(in crate::passes) struct Running {
    /// Largest score so far.
    pub max: f32,
    /// Σ exp(s − max).
    pub sum: f64,
    /// Σ exp(s − max) · (s − max).
    pub shifted: f64,
    /// Σ exp(s − max) · |position of the query − position of the key|.
    pub distance: f64,
}

impl Running {
    const NOTHING: Self = Self { max: f32::NEG_INFINITY, sum: 0.0, shifted: 0.0, distance: 0.0 };

    fn merge(self, other: Self) -> Self {
        if other.max == f32::NEG_INFINITY {
            return self;
        }
        if self.max == f32::NEG_INFINITY {
            return other;
        }
        let max = self.max.max(other.max);
        let (a, b) = (f64::from(self.max - max), f64::from(other.max - max));
        let (fa, fb) = (a.exp(), b.exp());
        Self {
            max,
            sum: fa * self.sum + fb * other.sum,
            shifted: fa * (self.shifted + a * self.sum) + fb * (other.shifted + b * other.sum),
            distance: fa * self.distance + fb * other.distance,
        }
    }

    /// ln Σ exp(s − max).
    pub fn log_sum(&self) -> f32 {
        self.sum.ln() as f32
    }
}

/// Sums are kept in this many lanes, which the compiler can do at once and which round less than one.
const LANES: usize = 8;

/// One head, ready to be computed block by block.
pub(in crate::passes) struct Blocks<'h> {
    head: &'h Head<'h>,
    pub spans: Spans,
    q: Tensor,
    k: Tensor,
    /// Key positions, to measure distances with.
    places: Vec<f32>,
}

impl<'h> Blocks<'h> {
    pub fn new(head: &'h Head<'h>) -> Result<Self> {
        let tensor = |x: &[f32], n: usize| Tensor::from_slice(x, (n, head.width), &Device::Cpu);
        Ok(Self {
            head,
            spans: head.spans(),
            q: tensor(head.q, head.n_queries())?,
            k: tensor(head.k, head.n_keys())?,
            places: head.k_positions.iter().map(|&p| p as f32).collect(),
        })
    }

    /// Scaled and capped scores `[queries, keys]`; those that the mask hides are there, too.
    fn scores(&self, queries: &Range<usize>, keys: &Range<usize>) -> Result<Vec<f32>> {
        if self.head.width == 0 {
            return Ok(vec![0.0; queries.len() * keys.len()]);
        }
        let q = self.q.narrow(0, queries.start, queries.len())?;
        let k = self.k.narrow(0, keys.start, keys.len())?;
        let mut s = q.matmul(&k.t()?)?.flatten_all()?.to_vec1::<f32>()?;
        let scale = self.head.scale;
        match self.head.soft_cap {
            Some(cap) => s.iter_mut().for_each(|x| *x = cap * (*x * scale / cap).tanh()),
            None => s.iter_mut().for_each(|x| *x *= scale),
        }
        Ok(s)
    }

    /// The parts of `keys` that `query` sees, counted from the first of `keys`.
    fn seen(&self, query: usize, keys: &Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let (first, end) = (keys.start, keys.end);
        let clip = move |&(a, b): &(usize, usize)| (a.max(first), b.min(end));
        self.spans.of(query).iter().map(clip).filter(|(a, b)| a < b).map(move |(a, b)| a - first..b - first)
    }

    fn add(&self, running: &mut [Running], queries: &Range<usize>, keys: &Range<usize>, scores: &[f32]) {
        for ((q, run), row) in queries.clone().zip(running).zip(scores.chunks_exact(keys.len().max(1))) {
            for part in self.seen(q, keys) {
                let places = &self.places[keys.start + part.start..keys.start + part.end];
                *run = run.merge(part_of(&row[part], places, self.head.q_positions[q] as f32));
            }
        }
    }

    /// Statistics of the rows `queries`.
    pub fn statistics(&self, queries: Range<usize>) -> Result<Vec<Running>> {
        let mut out = vec![Running::NOTHING; queries.len()];
        for keys in chunks(self.spans.hull(queries.clone())) {
            let scores = self.scores(&queries, &keys)?;
            self.add(&mut out, &queries, &keys, &scores);
        }
        Ok(out)
    }

    /// Calls `each` with runs of keys that together cover what `window` has of the seen ones, and with their
    /// probabilities `[queries, keys]`; what is not seen is 0, and a run may reach beyond the window. Rows are normalised over all keys and not the window:
    /// by `known` statistics (max and log-sum), or by those found on the way, which come back.
    pub fn probabilities(
        &self,
        queries: Range<usize>,
        window: &Range<usize>,
        known: Option<&dyn Fn(usize) -> (f32, f32)>,
        mut each: impl FnMut(Range<usize>, &[f32]),
    ) -> Result<Option<Vec<Running>>> {
        let hull = self.spans.hull(queries.clone());
        let mut found = None;
        let mut at_hand = None;
        if known.is_none() {
            if hull.len() <= KEYS {
                // All that any of them sees is one block: its scores serve both for the sums and for the shares.
                let scores = self.scores(&queries, &hull)?;
                let mut running = vec![Running::NOTHING; queries.len()];
                self.add(&mut running, &queries, &hull, &scores);
                found = Some(running);
                at_hand = Some(scores);
            } else {
                found = Some(self.statistics(queries.clone())?);
            }
        }
        let norm = |i: usize| match (&found, known) {
            (Some(running), _) => (running[i].max, running[i].log_sum()),
            (None, Some(known)) => known(queries.start + i),
            (None, None) => (0.0, 0.0),
        };
        let asked = hull.start.max(window.start)..hull.end.min(window.end);
        let parts = if at_hand.is_some() { vec![hull] } else { chunks(asked) };
        for keys in parts.into_iter().filter(|k| !k.is_empty()) {
            let mut p = match at_hand.take() {
                Some(scores) => scores,
                None => self.scores(&queries, &keys)?,
            };
            for (i, row) in p.chunks_exact_mut(keys.len()).enumerate() {
                let (max, log_sum) = norm(i);
                let mut done = 0;
                for part in self.seen(queries.start + i, &keys) {
                    row[done..part.start].fill(0.0);
                    done = part.end;
                    row[part].iter_mut().for_each(|x| *x = exp(*x - max - log_sum));
                }
                row[done..].fill(0.0);
            }
            each(keys, &p);
        }
        Ok(found)
    }
}

/// Statistics of a run of scores.
fn part_of(scores: &[f32], places: &[f32], place: f32) -> Running {
    let mut tops = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = scores.as_chunks::<LANES>();
    for s in whole {
        tops.iter_mut().zip(s).for_each(|(t, x)| *t = t.max(*x));
    }
    let max = tops.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
    let (mut sum, mut shifted, mut distance) = ([0f32; LANES], [0f32; LANES], [0f32; LANES]);
    let (places_whole, places_rest) = places.as_chunks::<LANES>();
    for (s, there) in whole.iter().zip(places_whole) {
        for i in 0..LANES {
            let shift = s[i] - max;
            let w = exp(shift);
            sum[i] += w;
            shifted[i] += w * shift;
            distance[i] += w * (there[i] - place).abs();
        }
    }
    for (i, (s, there)) in rest.iter().zip(places_rest).enumerate() {
        let w = exp(s - max);
        sum[i] += w;
        shifted[i] += w * (s - max);
        distance[i] += w * (there - place).abs();
    }
    let total = |lanes: [f32; LANES]| lanes.iter().map(|&x| f64::from(x)).sum();
    Running { max, sum: total(sum), shifted: total(shifted), distance: total(distance) }
}

fn chunks(keys: Range<usize>) -> Vec<Range<usize>> {
    let end = keys.end;
    keys.step_by(KEYS).map(|first| first..(first + KEYS).min(end)).collect()
}

/// Where `parts` equal parts of `range` begin, and the end: `parts + 1` values.
pub(in crate::passes) fn edges(range: &Range<usize>, parts: usize) -> Vec<usize> {
    (0..=parts).map(|i| range.start + i * range.len() / parts.max(1)).collect()
}

/// The queries in blocks of [`QUERIES`].
pub(in crate::passes) fn query_units(n: usize) -> Vec<Range<usize>> {
    (0..n).step_by(QUERIES).map(|first| first..(first + QUERIES).min(n)).collect()
}

/// Does `each` for every unit in parallel and gives the results in order. Stops between units when the job is
/// cancelled.
pub(in crate::passes) fn in_parallel<U: Sync, T: Send>(
    units: &[U],
    ctx: &Ctx,
    each: impl Fn(&U) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let done = AtomicUsize::new(0);
    units
        .par_iter()
        .map(|unit| {
            ctx.step(done.fetch_add(1, Ordering::Relaxed), units.len())?;
            each(unit)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_cover_the_range_without_gaps() {
        assert_eq!(edges(&(10..17), 3), [10, 12, 14, 17]);
        assert_eq!(edges(&(4..4), 0), [4]);
    }
}
