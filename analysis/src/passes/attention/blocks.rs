//! The fast CPU path of the attention passes: f32 scores of blocks of queries and keys by matrix products, sums of
//! rows in f64, blocks in parallel. Nothing of the size queries × keys is held, and each score is computed once
//! where what is made of it can wait for its row's sum.

use super::Head;
use crate::Result;
use crate::cpu::{self, LANES, Matrix, Scores, exp, gemm, vectorised, wide};
use crate::ctx::Ctx;
use crate::trace::Spans;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Queries of a block: with many, packing the keys for a product costs little beside it.
pub(in crate::passes) const QUERIES: usize = 128;
/// Keys of a block; with [`QUERIES`] its scores stay within a core's cache.
const KEYS: usize = 1024;

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

    /// Before any key: nothing, or the sink's score.
    fn beside(sink: Option<f32>) -> Self {
        sink.map_or(Self::NOTHING, |max| Self { max, sum: 1.0, ..Self::NOTHING })
    }

    /// Measures scores from `max` on, which is no less than the own one; gives the factor that weights change by.
    fn raise(&mut self, max: f32) -> f32 {
        if max == self.max || self.max == f32::NEG_INFINITY {
            self.max = max;
            return 1.0;
        }
        let by = f64::from(self.max - max);
        let factor = by.exp();
        self.shifted = factor * (self.shifted + by * self.sum);
        self.sum *= factor;
        self.distance *= factor;
        self.max = max;
        factor as f32
    }

    /// Scores of keys at `places` become weights `exp(s − max)`, which are added up; gives the factor that earlier
    /// weights of the row change by.
    fn weigh(&mut self, scores: &mut [f32], places: &[f32], place: f32) -> f32 {
        let max = vectorised(|| cpu::max(scores)).max(self.max);
        if max == f32::NEG_INFINITY {
            scores.fill(0.0);
            return 1.0;
        }
        let factor = self.raise(max);
        let [sum, shifted, distance] = weights(scores, places, place, max);
        self.sum += sum;
        self.shifted += shifted;
        self.distance += distance;
        factor
    }

    /// ln Σ exp(s − max).
    pub fn log_sum(&self) -> f32 {
        self.sum.ln() as f32
    }
}

/// Scores that are weighed at a time, so that how much lower they are is at hand for the sums.
const WEIGHED: usize = 256;

wide! {
    /// Scores become weights; their sums alone, times what they were lower than `max`, and times distances.
    fn weights<'a>(scores: &'a mut [f32], places: &'a [f32], place: f32, max: f32) -> [f64; 3] {
        let (mut sum, mut shifted, mut distance) = ([0f32; LANES], [0f32; LANES], [0f32; LANES]);
        let mut held = [0f32; WEIGHED];
        for (scores, places) in scores.chunks_mut(WEIGHED).zip(places.chunks(WEIGHED)) {
            let shifts = &mut held[..scores.len()];
            for (shift, s) in shifts.iter_mut().zip(&*scores) {
                *shift = *s - max;
            }
            // A loop of its own: the compiler finds no vectors where it is joined with sums.
            for s in scores.iter_mut() {
                *s = exp(*s - max);
            }
            let (whole, rest) = scores.as_chunks::<LANES>();
            let (shifts, shifts_rest) = shifts.as_chunks::<LANES>();
            let (places, places_rest) = places.as_chunks::<LANES>();
            for ((w, shift), there) in whole.iter().zip(shifts).zip(places) {
                for i in 0..LANES {
                    sum[i] += w[i];
                    shifted[i] += w[i] * shift[i];
                    distance[i] += w[i] * (there[i] - place).abs();
                }
            }
            for (i, ((w, shift), there)) in rest.iter().zip(shifts_rest).zip(places_rest).enumerate() {
                sum[i] += w;
                shifted[i] += w * shift;
                distance[i] += w * (there - place).abs();
            }
        }
        [sum, shifted, distance].map(|lanes| lanes.iter().map(|&x| f64::from(x)).sum())
    }
}

wide! {
    /// Scores become shares of a row whose largest score and log-sum are known.
    fn shares<'a>(scores: &'a mut [f32], max: f32, log_sum: f32) {
        for s in scores.iter_mut() {
            *s = exp(*s - max - log_sum);
        }
    }
}

wide! {
    fn multiply<'a>(x: &'a mut [f32], by: f32) {
        for x in x.iter_mut() {
            *x *= by;
        }
    }
}

/// Some weights of a row: `exp(s − reference)` of keys side by side.
pub(in crate::passes) struct Weights<'a> {
    /// Which of the queries asked for, from 0.
    pub query: usize,
    /// Factor on the weights of the row that came before.
    pub factor: f32,
    /// The keys; seen by the query and in the window.
    pub keys: Range<usize>,
    /// Their weights.
    pub values: &'a [f32],
}

/// One head, ready to be computed block by block.
pub(in crate::passes) struct Blocks<'h> {
    head: &'h Head<'h>,
    pub spans: Spans,
    /// Queries times the factor on scores, where no cap follows.
    q: Vec<f32>,
    /// Key positions, to measure distances with.
    places: Vec<f32>,
    /// Keys by component `[width, keys]`, where whole maps are asked for: each product would turn them otherwise.
    turned: Vec<f32>,
}

impl<'h> Blocks<'h> {
    pub fn new(head: &'h Head<'h>) -> Self {
        let scale = if head.soft_cap.is_some() { 1.0 } else { head.scale };
        Self {
            head,
            spans: head.spans(),
            q: head.q.iter().map(|q| q * scale).collect(),
            places: head.k_positions.iter().map(|&p| p as f32).collect(),
            turned: Vec::new(),
        }
    }

    /// The same for [`Blocks::map`].
    pub fn whole(head: &'h Head<'h>) -> Self {
        let (m, e) = (head.n_keys(), head.width);
        let mut turned = vec![0f32; e * m];
        cpu::turn(head.k, e, [m, e], &mut turned, m);
        Self { turned, ..Self::new(head) }
    }

    /// Writes the shares of `queries` over all keys to `place` `[queries, keys]`, which holds zeros: their scores first,
    /// where they stay.
    pub fn map(&self, queries: Range<usize>, place: &mut [f32]) {
        let (m, e) = (self.head.n_keys(), self.head.width);
        let hull = self.spans.hull(queries.clone());
        if hull.is_empty() {
            return;
        }
        let q = Matrix { values: &self.q[queries.start * e..], row: e, col: 1 };
        let k = Matrix { values: &self.turned[hull.start..], row: m, col: 1 };
        gemm([queries.len(), e, hull.len()], (&mut place[hull.start..], m), false, q, k, false);
        let scale = if self.head.soft_cap.is_some() { self.head.scale } else { 1.0 };
        let scores = Scores { scale, cap: self.head.soft_cap, bias: None, sink: self.head.sink };
        for (query, row) in queries.zip(place.chunks_exact_mut(m)) {
            let runs = self.spans.of(query);
            let sum = scores.weigh(runs, hull.start, &mut row[hull.clone()]);
            if sum > 0.0 {
                runs.iter().for_each(|&(a, b)| multiply(&mut row[a..b], 1.0 / sum));
            }
        }
    }

    /// Scaled and capped scores `[queries, keys]`; those that the mask hides are there, too.
    fn scores(&self, queries: &Range<usize>, keys: &Range<usize>, out: &mut Vec<f32>) {
        let (n, m, e) = (queries.len(), keys.len(), self.head.width);
        out.resize(n * m, 0.0);
        let q = Matrix { values: &self.q[queries.start * e..], row: e, col: 1 };
        let k = Matrix { values: &self.head.k[keys.start * e..], row: 1, col: e };
        gemm([n, e, m], (out, m), false, q, k, false);
        if let Some(cap) = self.head.soft_cap {
            cpu::cap(out, self.head.scale, cap);
        }
    }

    /// The parts of `keys` that `query` sees.
    fn seen(&self, query: usize, keys: &Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let (first, end) = (keys.start, keys.end);
        self.spans.of(query).iter().map(move |&(a, b)| a.max(first)..b.min(end)).filter(|r| r.start < r.end)
    }

    /// Statistics of the rows `queries`.
    pub fn statistics(&self, queries: Range<usize>) -> Vec<Running> {
        self.weights(queries, &(0..0), |_| ())
    }

    /// Calls `each` with what every one of `queries` weighs in `window`, keys in ascending order; gives the rows'
    /// statistics, by which weights become shares: these are measured from `max`, and sum to `sum`.
    pub fn weights(&self, queries: Range<usize>, window: &Range<usize>, mut each: impl FnMut(Weights)) -> Vec<Running> {
        let mut out = vec![Running::beside(self.head.sink); queries.len()];
        let mut scores = Vec::new();
        for keys in chunks(self.spans.hull(queries.clone())) {
            self.scores(&queries, &keys, &mut scores);
            for ((i, run), row) in out.iter_mut().enumerate().zip(scores.chunks_exact_mut(keys.len())) {
                for part in self.seen(queries.start + i, &keys) {
                    let place = self.head.q_positions[queries.start + i] as f32;
                    let row = &mut row[part.start - keys.start..part.end - keys.start];
                    let factor = run.weigh(row, &self.places[part.clone()], place);
                    let keys = part.start.max(window.start)..part.end.min(window.end);
                    let values =
                        if keys.start < keys.end { &row[keys.start - part.start..keys.end - part.start] } else { &[] };
                    if factor != 1.0 || !values.is_empty() {
                        each(Weights { query: i, factor, keys, values });
                    }
                }
            }
        }
        out
    }

    /// Calls `each` with the shares of every one of `queries` in `window`, by known statistics of the rows: max and
    /// log-sum.
    pub fn shares(
        &self,
        queries: Range<usize>,
        window: &Range<usize>,
        known: &dyn Fn(usize) -> (f32, f32),
        mut each: impl FnMut(Weights),
    ) {
        let hull = self.spans.hull(queries.clone());
        let mut scores = Vec::new();
        for keys in chunks(hull.start.max(window.start)..hull.end.min(window.end)) {
            self.scores(&queries, &keys, &mut scores);
            for (i, row) in scores.chunks_exact_mut(keys.len()).enumerate() {
                let (max, log_sum) = known(queries.start + i);
                for part in self.seen(queries.start + i, &keys) {
                    let row = &mut row[part.start - keys.start..part.end - keys.start];
                    shares(row, max, log_sum);
                    each(Weights { query: i, factor: 1.0, keys: part, values: row });
                }
            }
        }
    }
}

/// Keys in blocks; none of an empty or inverted range.
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
pub(in crate::passes) fn in_parallel<U: Send, T: Send>(
    units: Vec<U>,
    ctx: &Ctx,
    each: impl Fn(U) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let (done, all) = (AtomicUsize::new(0), units.len());
    units
        .into_par_iter()
        .with_max_len(1)
        .map(|unit| {
            ctx.step(done.fetch_add(1, Ordering::Relaxed), all)?;
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
