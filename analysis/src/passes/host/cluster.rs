//! Clusters: k-means by cosine, and density peaks.

use crate::array::Array;
use crate::ctx::Ctx;
use crate::passes::{nearest_centre, single};
use crate::{Error, Result};
use rayon::prelude::*;

/// Clusters of rows by cosine.
#[derive(Debug, Clone, PartialEq)]
pub struct Cosine {
    /// Cluster of each row.
    pub labels: Vec<usize>,
    /// Centres `[k, d]`, means of rows of length 1, themselves not made so.
    pub centres: Array,
    /// Sum over rows of 1 − cosine with their centre.
    pub distortion: f64,
}

/// K-means of rows `[n, d]` divided by their lengths, from these rows on: each goes to the centre of largest cosine,
/// the first on a tie; a centre that has none stays. Ends once all centres together move by less than `tolerance`, or
/// after `iterations`.
pub fn by_cosine(x: &Array, start: &[usize], iterations: usize, tolerance: f64, ctx: &Ctx) -> Result<Cosine> {
    let [n, d] = x.dims("rows to cluster")?;
    if start.is_empty() || start.iter().any(|s| *s >= n) {
        return Err(Error::invalid(format!("clusters begin with some of the {n} rows; got {start:?}")));
    }
    let unit = Array::new([n, d], single::unit_rows(x).concat())?;
    if unit.data().iter().any(|v| !v.is_finite()) {
        return Err(Error::invalid("a row is zero or not finite, so it has no direction to cluster by"));
    }
    let k = start.len();
    let mut centres = Array::new([k, d], start.iter().flat_map(|&s| unit.row(s).iter().copied()).collect())?;
    let mut labels = Vec::new();
    for i in 0..iterations.max(1) {
        ctx.step(i, iterations.max(1))?;
        labels = nearest_centre::run(&unit, &centres, ctx)?.into_iter().map(|n| n.centre).collect();
        let mut sums = vec![0f64; k * d];
        let mut sizes = vec![0usize; k];
        for (row, &c) in labels.iter().enumerate() {
            sizes[c] += 1;
            sums[c * d..(c + 1) * d].iter_mut().zip(unit.row(row)).for_each(|(s, v)| *s += f64::from(*v));
        }
        let mut moved = 0.0;
        for c in (0..k).filter(|&c| sizes[c] > 0) {
            for (old, sum) in centres.data_mut()[c * d..(c + 1) * d].iter_mut().zip(&sums[c * d..(c + 1) * d]) {
                let new = (sum / sizes[c] as f64) as f32;
                moved += f64::from(new - *old).powi(2);
                *old = new;
            }
        }
        if moved.sqrt() < tolerance {
            break;
        }
    }
    let away = |n: &nearest_centre::Nearest| 1.0 - f64::from(n.cosine);
    let distortion = nearest_centre::run(&unit, &centres, ctx)?.iter().map(away).sum();
    Ok(Cosine { labels, centres, distortion })
}

/// Clusters of rows around peaks of density.
#[derive(Debug, Clone, PartialEq)]
pub struct Peaks {
    /// The rows that clusters form around, the best first.
    pub centres: Vec<usize>,
    /// Cluster of each row.
    pub labels: Vec<usize>,
}

/// Density peaks of rows `[n, d]` with `k` clusters. Distances are Euclid's over √d; a row's density is exp(−mean of
/// its `k` smallest squared distances, its own included) plus `noise`; centres are the `k` rows with the largest density
/// times distance to the nearest denser row (the largest distance of all where there is none); the rest goes to the
/// nearest centre.
///
/// Of two rows that are equally dense the one with the lower index counts as denser.
pub fn density_peaks(x: &Array, k: usize, noise: &[f64], ctx: &Ctx) -> Result<Peaks> {
    let [n, d] = x.dims("rows to cluster")?;
    if k == 0 || k > n || noise.len() != n {
        return Err(Error::invalid(format!("{k} clusters of {n} rows with {} numbers of noise", noise.len())));
    }
    let root = (d.max(1) as f64).sqrt();
    let distance = |i: usize, j: usize| {
        let square = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
        x.row(i).iter().zip(x.row(j)).map(square).sum::<f64>().sqrt() / root
    };
    ctx.fits((8 * n * n) as u64, "cluster fewer tokens")?;
    let all: Vec<Vec<f64>> = (0..n).into_par_iter().map(|i| (0..n).map(|j| distance(i, j)).collect()).collect();
    ctx.check()?;
    let density = |i: usize| {
        let mut squares: Vec<f64> = all[i].iter().map(|d| d * d).collect();
        squares.sort_by(f64::total_cmp);
        (-squares[..k].iter().sum::<f64>() / k as f64).exp() + noise[i]
    };
    let density: Vec<f64> = (0..n).map(density).collect();
    let largest = all.iter().flatten().copied().fold(0.0, f64::max);
    let denser = |j: usize, i: usize| density[j] > density[i] || (density[j] == density[i] && j < i);
    let away = |i: usize| (0..n).filter(|&j| denser(j, i)).map(|j| all[i][j]).fold(largest, f64::min);
    let score: Vec<f64> = (0..n).map(|i| density[i] * away(i)).collect();
    let centres = crate::math::largest(&score, k);
    let to = |i: usize| {
        let own = centres.iter().position(|&c| c == i);
        own.unwrap_or_else(|| {
            (1..k).fold(0, |best, c| if all[i][centres[c]] < all[i][centres[best]] { c } else { best })
        })
    };
    Ok(Peaks { labels: (0..n).map(to).collect(), centres })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_are_clustered_whatever_their_length_and_an_empty_centre_stays() {
        let x = Array::new([4, 2], vec![5.0, 0.0, 1.0, 0.1, 0.0, 2.0, 0.0, 0.3]).unwrap();
        let found = by_cosine(&x, &[0, 2], 10, 1e-4, &Ctx::default()).unwrap();
        assert_eq!(found.labels, [0, 0, 1, 1]);
        assert_eq!(found.centres.row(1), [0.0, 1.0]);
        // Of two equal centres the first takes all, once.
        let twice = by_cosine(&x, &[2, 3], 1, 1e-4, &Ctx::default()).unwrap();
        assert_eq!((twice.labels.as_slice(), twice.centres.row(1)), (&[0, 0, 0, 0][..], &[0.0, 1.0][..]));
    }

    #[test]
    fn a_crowd_and_one_that_stands_apart_are_two_peaks() {
        let x = Array::new([5, 1], vec![0.0, 0.1, 0.2, 5.0, 5.3]).unwrap();
        let found = density_peaks(&x, 2, &[0.0; 5], &Ctx::default()).unwrap();
        // Densities: exp(−0.005) thrice, then exp(−0.045) twice: the first of each is denser by its index.
        assert_eq!((found.centres.as_slice(), found.labels.as_slice()), (&[0, 3][..], &[0, 0, 0, 1, 1][..]));
        assert!(density_peaks(&x, 6, &[0.0; 5], &Ctx::default()).is_err());
    }
}
