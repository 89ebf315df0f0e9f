//! Clusters of rows by k-means, with the draws of scikit-learn's `KMeans`, so that a seed gives the same clusters with
//! the same numbers as there.
//!
//! Source: Lloyd's iterations from the greedy k-means++ start of Arthur & Vassilvitskii 2007, as scikit-learn 1.3 and
//! later carries them out; its `RandomState` is MT19937. Takes rows `[n, d]` in f64.

use crate::ctx::Ctx;
use crate::{Error, Result};
use rand_mt::Mt;
use rayon::prelude::*;

/// Rows that one thread assigns at a time.
const ROWS: usize = 256;

/// How k-means is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Clusters, 1..=rows.
    pub clusters: usize,
    /// Starts, of which the best counts.
    pub restarts: usize,
    /// Iterations of each at most.
    pub iterations: usize,
    /// Seed of the starts.
    pub seed: u32,
}

/// Clusters of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Clusters {
    /// Centres `[clusters, d]`, row-major.
    pub centers: Vec<f64>,
    /// Cluster of each row.
    pub labels: Vec<usize>,
    /// Sum of the squared distances from the rows to their centres.
    pub inertia: f64,
}

/// Rows of one width.
#[derive(Clone, Copy)]
struct Rows<'a> {
    data: &'a [f64],
    d: usize,
}

impl<'a> Rows<'a> {
    fn n(self) -> usize {
        self.data.len() / self.d
    }

    fn row(self, i: usize) -> &'a [f64] {
        &self.data[i * self.d..(i + 1) * self.d]
    }
}

fn squared(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
}

/// The clusters of `rows`, `[n, d]` row-major.
///
/// Errors: values that are not whole rows, fewer rows than clusters, no cluster; cancelled.
pub fn fit(rows: &[f64], d: usize, settings: &Settings, ctx: &Ctx) -> Result<Clusters> {
    let k = settings.clusters;
    if d == 0 || !rows.len().is_multiple_of(d) || k == 0 || rows.len() / d < k {
        return Err(Error::shape("rows to cluster", format!("at least {k} rows of {d} values"), &[rows.len()]));
    }
    // Around the mean, so that squares stay small.
    let n = rows.len() / d;
    let mean: Vec<f64> = (0..d).map(|j| rows.iter().skip(j).step_by(d).sum::<f64>() / n as f64).collect();
    let centred: Vec<f64> = rows.iter().enumerate().map(|(i, x)| x - mean[i % d]).collect();
    let rows = Rows { data: &centred, d };
    let variance = centred.iter().map(|x| x * x).sum::<f64>() / (n * d) as f64;
    let mut random = Mt::new(settings.seed);
    let mut best: Option<Clusters> = None;
    for start in 0..settings.restarts.max(1) {
        let ctx = ctx.part(start, settings.restarts.max(1));
        let centers = plus_plus(rows, k, &mut random, &ctx)?;
        let found = lloyd(rows, centers, k, settings.iterations, variance * 1e-4, &ctx)?;
        let better = best.as_ref().is_none_or(|b| found.inertia < b.inertia && !same(&found.labels, &b.labels, k));
        if better {
            best = Some(found);
        }
    }
    let mut best = best.expect("there is at least one start");
    best.centers.iter_mut().enumerate().for_each(|(i, x)| *x += mean[i % d]);
    Ok(best)
}

/// The nearest of `centers`, the first on a tie, for each of `rows` `[n, d]`.
pub fn nearest(rows: &[f64], centers: &[f64], d: usize) -> Vec<usize> {
    let (rows, centers) = (Rows { data: rows, d }, Rows { data: centers, d });
    let of = |i: usize| {
        let distance = |c: usize| squared(rows.row(i), centers.row(c));
        (1..centers.n()).fold((0, distance(0)), |best, c| {
            let here = distance(c);
            if here < best.1 { (c, here) } else { best }
        })
    };
    (0..rows.n()).into_par_iter().with_min_len(ROWS).map(|i| of(i).0).collect()
}

/// A number from 0 to 1 as numpy draws it: 53 bits of two words.
fn draw(random: &mut Mt) -> f64 {
    let (a, b) = (random.next_u32() >> 5, random.next_u32() >> 6);
    (f64::from(a) * 67_108_864.0 + f64::from(b)) / 9_007_199_254_740_992.0
}

/// Starting centres: each the best of a few rows that were drawn by their squared distance to those before.
fn plus_plus(rows: Rows, k: usize, random: &mut Mt, ctx: &Ctx) -> Result<Vec<f64>> {
    let n = rows.n();
    let trials = 2 + (k as f64).ln() as usize;
    let even = 1.0 / n as f64;
    let mut sum = 0.0;
    let running: Vec<f64> = (0..n).map(|_| (sum += even, sum).1).collect();
    let u = draw(random);
    let first = running.partition_point(|c| c / sum <= u).min(n - 1);
    let mut centers = rows.row(first).to_vec();
    let mut closest: Vec<f64> = (0..n).map(|i| squared(rows.row(i), rows.row(first))).collect();
    for _ in 1..k {
        ctx.check()?;
        let mut sum = 0.0;
        let running: Vec<f64> = closest.iter().map(|c| (sum += c, sum).1).collect();
        let total: f64 = closest.iter().sum();
        let drawn: Vec<f64> = (0..trials).map(|_| draw(random) * total).collect();
        let mut best: Option<(f64, usize, Vec<f64>)> = None;
        for u in drawn {
            let at = running.partition_point(|c| *c < u).min(n - 1);
            let now: Vec<f64> =
                closest.iter().enumerate().map(|(i, c)| c.min(squared(rows.row(i), rows.row(at)))).collect();
            let left: f64 = now.iter().sum();
            if best.as_ref().is_none_or(|b| left < b.0) {
                best = Some((left, at, now));
            }
        }
        let (_, at, now) = best.expect("there are at least two trials");
        centers.extend_from_slice(rows.row(at));
        closest = now;
    }
    Ok(centers)
}

fn lloyd(rows: Rows, mut centers: Vec<f64>, k: usize, most: usize, tolerance: f64, ctx: &Ctx) -> Result<Clusters> {
    let (n, d) = (rows.n(), rows.d);
    let mut labels = vec![usize::MAX; n];
    let mut settled = false;
    for i in 0..most {
        ctx.step(i, most)?;
        let now = nearest(rows.data, &centers, d);
        let next = means(rows, &now, &centers, k);
        let moved = squared(&next, &centers);
        centers = next;
        settled = now == labels;
        labels = now;
        if settled || moved <= tolerance {
            break;
        }
    }
    if !settled {
        labels = nearest(rows.data, &centers, d);
    }
    let inertia = labels.iter().enumerate().map(|(i, c)| squared(rows.row(i), &centers[c * d..(c + 1) * d])).sum();
    Ok(Clusters { centers, labels, inertia })
}

/// Means of the clusters. One without rows takes the row that is farthest from its centre.
fn means(rows: Rows, labels: &[usize], centers: &[f64], k: usize) -> Vec<f64> {
    let d = rows.d;
    let (mut sums, mut sizes) = (vec![0.0; k * d], vec![0usize; k]);
    for (i, &c) in labels.iter().enumerate() {
        sizes[c] += 1;
        sums[c * d..(c + 1) * d].iter_mut().zip(rows.row(i)).for_each(|(s, x)| *s += x);
    }
    let empty: Vec<usize> = (0..k).filter(|c| sizes[*c] == 0).collect();
    if !empty.is_empty() {
        let far = |i: &usize| squared(rows.row(*i), &centers[labels[*i] * d..(labels[*i] + 1) * d]);
        let mut order: Vec<usize> = (0..labels.len()).collect();
        order.sort_by(|a, b| far(b).total_cmp(&far(a)).then(a.cmp(b)));
        for (new, i) in empty.into_iter().zip(order) {
            let old = labels[i];
            for (j, x) in rows.row(i).iter().enumerate() {
                sums[old * d + j] -= x;
                sums[new * d + j] = *x;
            }
            (sizes[old], sizes[new]) = (sizes[old].saturating_sub(1), 1);
        }
    }
    for c in 0..k {
        let size = sizes[c] as f64;
        // A cluster that gave its only row away stays where it was.
        match sizes[c] {
            0 => sums[c * d..(c + 1) * d].copy_from_slice(&centers[c * d..(c + 1) * d]),
            _ => sums[c * d..(c + 1) * d].iter_mut().for_each(|s| *s /= size),
        }
    }
    sums
}

/// Whether two labellings part the rows alike, whatever the numbers.
fn same(a: &[usize], b: &[usize], k: usize) -> bool {
    let mut map = vec![usize::MAX; k];
    a.iter().zip(b).all(|(a, b)| {
        if map[*a] == usize::MAX {
            map[*a] = *b;
        }
        map[*a] == *b
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(clusters: usize, seed: u32) -> Settings {
        Settings { clusters, restarts: 10, iterations: 500, seed }
    }

    #[test]
    fn draws_are_those_of_numpy() {
        // RandomState(42).random_sample(3).
        let mut random = Mt::new(42);
        let three: Vec<f64> = (0..3).map(|_| draw(&mut random)).collect();
        for (got, want) in three.iter().zip([0.374_540_118_847_362_5, 0.950_714_306_409_916_2, 0.731_993_941_811_405_1])
        {
            assert!((got - want).abs() < 1e-15, "{got} {want}");
        }
    }

    #[test]
    fn two_heaps_are_found_with_their_means() {
        let rows = [0.0, 1.0, 0.5, 10.0, 11.0];
        let c = fit(&rows, 1, &settings(2, 1), &Ctx::default()).unwrap();
        let low = c.labels[0];
        assert_eq!(c.labels, [low, low, low, 1 - low, 1 - low]);
        assert!((c.centers[low] - 0.5).abs() < 1e-12 && (c.centers[1 - low] - 10.5).abs() < 1e-12);
        // 0.25 + 0.25 + 0 + 0.25 + 0.25.
        assert!((c.inertia - 1.0).abs() < 1e-12);
        assert_eq!(nearest(&[4.0, 9.0], &c.centers, 1), [low, 1 - low]);
    }

    #[test]
    fn as_many_clusters_as_rows_and_rows_that_are_the_same() {
        let c = fit(&[3.0, 1.0, 2.0], 1, &settings(3, 5), &Ctx::default()).unwrap();
        assert!(c.inertia < 1e-20);
        let all: std::collections::BTreeSet<usize> = c.labels.iter().copied().collect();
        assert_eq!(all.len(), 3);
        let c = fit(&[2.0; 6], 2, &settings(3, 5), &Ctx::default()).unwrap();
        assert_eq!((c.inertia, c.centers.len()), (0.0, 6));
        assert!(c.centers.iter().all(|x| x.is_finite()));
        assert!(fit(&[1.0, 2.0], 1, &settings(3, 5), &Ctx::default()).is_err());
        let stop = Ctx::new(std::sync::Arc::new(true.into()), std::sync::Arc::new(|_| ()));
        assert!(matches!(fit(&[1.0, 2.0], 1, &settings(2, 5), &stop), Err(Error::Cancelled)));
    }
}
