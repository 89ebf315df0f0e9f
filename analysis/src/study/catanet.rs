//! CATANet: tokens in groups by content, each around a centre of directions.
//!
//! Source: Liu et al. 2025, "CATANet: Efficient Content-Aware Token Aggregation for Lightweight Image Super-Resolution",
//! arXiv 2503.06896; EquationWalker/CATANet at fd2222f305, `catanet_arch.py`. Takes: patches `[n, d]`. Gives: centres, the
//! centre of each token, and tokens in the order of centres, in groups that attend to each other. Departs: see
//! [`Info::departs`]. Cost: O(rounds · n · centres · d).

use super::Method;
use super::patches::{self, LAYER, Patches};
use crate::array::Array;
use crate::ctx::Ctx;
use crate::finding::{Class, Classes, Datum, Figure, Finding, Table};
use crate::math::{argmax, length};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::passes::cosine_matrix;
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const CENTRES: Param = Param::count("num_centers", "Centres that tokens gather around", 1, 256, 8);
const ROUNDS: Param = Param::count("n_iter", "Times that the centres are moved", 0, 64, 3);
const GROUP: Param =
    Param::count("group_size", "Tokens that attend to each other, in the order of centres", 1, 4096, 128);

static INFO: Info = Info {
    id: "catanet",
    title: "CATANet groups",
    summary: "Groups the patches of a picture by content, wherever they stand.",
    family: "image tokens",
    basis: Basis::Authors { repo: "EquationWalker/CATANet", commit: "fd2222f305" },
    paper: Some(Paper {
        title: "CATANet: Efficient Content-Aware Token Aggregation for Lightweight Image Super-Resolution",
        authors: "Liu et al.",
        year: 2025,
        arxiv: "2503.06896",
    }),
    departs: "centres that were averaged over a training set are not there, so those of the picture itself are found as in a \
              step of training; the attention inside a group is trained and left out; tiles are grouped together",
    needs: &[Need::ImageTokens, Need::Residual],
    params: &[CENTRES, ROUNDS, GROUP, LAYER],
    raw: &[Adapter { name: "catanet", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct CataNet;

impl Method for CataNet {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        INFO.check(params)?;
        let vision = patches::encoder(on, &INFO)?;
        let tiles = Patches::of(on, params, &INFO)?;
        let d = tiles[0].x.shape()[1];
        let n = tiles.iter().map(Patches::len).sum::<usize>();
        let x = Array::new([n, d], tiles.iter().flat_map(|t| t.x.data().iter().copied()).collect())?;
        let (k, rounds) = (params.count(&CENTRES) as usize, params.count(&ROUNDS) as usize);
        // A small picture has fewer tokens than there may be centres.
        let found = Centres::of(&x, k.min(n), rounds, ctx)?;
        let mut rest = found.labels.as_slice();
        let own = |t: &Patches| {
            let (own, others) = rest.split_at(t.len());
            rest = others;
            own.to_vec()
        };
        let labels: Vec<Vec<usize>> = tiles.iter().map(own).collect();
        let (unit, of) = patches::laid(on, vision, &tiles, &labels);
        let names = (0..found.now.shape()[0]).map(|c| format!("centre {c}"));
        let classes = Classes::new("centres", unit, Class::categories(names), of);
        let counts = classes.counts(None);
        let groups = found.groups(params.count(&GROUP) as usize);
        let mut table = Table::new(&["group", "tokens", "centres in it"]).titled("groups that attend to each other");
        for (g, group) in groups.iter().enumerate() {
            let first = found.labels[group[0]];
            let last = found.labels[group[group.len() - 1]];
            table.rows.push(vec![json!(g), json!(group.len()), json!(last + 1 - first)]);
        }
        let used = counts.iter().filter(|c| **c > 0).count();
        let most = counts.iter().max().copied().unwrap_or(0);
        Ok(Finding::of(classes)
            .with(table)
            .figure(Figure::new("centres in use", Datum::Count(used), format!("Of {}", counts.len())))
            .figure(Figure::new("largest", Datum::Share(most as f64 / n as f64), "Tokens of the centre that has most"))
            .figure(Figure::new("groups", Datum::Count(groups.len()), "Each attends to itself and to the next one")))
    }
}

/// Centres of directions.
struct Centres {
    /// Before any round, `[k, d]`.
    first: Array,
    /// After all of them.
    now: Array,
    /// The centre of each token.
    labels: Vec<usize>,
}

impl Centres {
    /// Of `x` `[n, d]`: means of `k` blocks of the sequence, lengthened by its own turned end to a multiple of `k`; then
    /// in each round the direction of the sum of those that are nearest. A centre that nobody is near to stays.
    fn of(x: &Array, k: usize, rounds: usize, ctx: &Ctx) -> Result<Self> {
        let [n, d] = x.dims("tokens")?;
        let more = k - n % k.max(1);
        if k == 0 || n == 0 || more > n {
            return Err(Error::invalid(format!("{k} centres of {n} tokens; take fewer centres")));
        }
        ctx.fits(4 * (n as u64).saturating_mul(k as u64), "take fewer centres")?;
        let block = (n + more) / k;
        let row = |i: usize| x.row(if i < n { i } else { 2 * n - 1 - i });
        let mut first = vec![0f64; k * d];
        for i in 0..n + more {
            let centre = &mut first[i / block * d..(i / block + 1) * d];
            centre.iter_mut().zip(row(i)).for_each(|(c, v)| *c += f64::from(*v) / block as f64);
        }
        let first = Array::new([k, d], first.into_iter().map(|v| v as f32).collect())?;
        let mut now = first.clone();
        let nearest = |centres: &Array| -> Result<Vec<usize>> {
            let cosines = cosine_matrix::run(x, centres, ctx)?;
            Ok((0..n).map(|i| argmax(cosines.row(i)).unwrap_or(0)).collect())
        };
        for round in 0..rounds {
            ctx.step(round, rounds)?;
            let labels = nearest(&now)?;
            let (mut sums, mut some) = (vec![0f64; k * d], vec![false; k]);
            for (i, &c) in labels.iter().enumerate() {
                some[c] = true;
                let length = length(x.row(i)).max(SHORTEST);
                let sum = &mut sums[c * d..(c + 1) * d];
                sum.iter_mut().zip(x.row(i)).for_each(|(s, v)| *s += f64::from(*v) / length);
            }
            for c in (0..k).filter(|c| some[*c]) {
                let sum = &sums[c * d..(c + 1) * d];
                let length = length(sum).max(SHORTEST);
                let centre = &mut now.data_mut()[c * d..(c + 1) * d];
                centre.iter_mut().zip(sum).for_each(|(v, s)| *v = (s / length) as f32);
            }
        }
        let labels = nearest(&now)?;
        Ok(Self { first, now, labels })
    }

    /// Tokens by centre, those of a centre in their own order, cut into groups of this size.
    fn groups(&self, size: usize) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..self.labels.len()).collect();
        order.sort_by_key(|&i| self.labels[i]);
        order.chunks(size.max(1)).map(<[usize]>::to_vec).collect()
    }
}

/// Length that a vector is divided by at least.
const SHORTEST: f64 = 1e-12;

/// Raw entry: `x` `[n, d]`, `num_centers`, `n_iter`, `group_size`.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let x = input.array("x")?;
    x.check_finite("x")?;
    let found = Centres::of(x, input.read("num_centers")?, input.rounds("n_iter", 3)?, ctx)?;
    let rows = |a: &Array| (0..a.shape()[0]).map(|i| a.row(i).to_vec()).collect::<Vec<_>>();
    Ok(json!({
        "initial_centers": rows(&found.first),
        "centers": rows(&found.now),
        "groups": found.groups(input.read_or("group_size", 128)?),
        "assignment": found.labels,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_lengthened_by_the_turned_end_and_empty_centres_stay() {
        let x = Array::new([3, 2], vec![2.0, 0.0, 0.0, 4.0, 0.0, 6.0]).unwrap();
        // Two blocks of two: tokens 0 and 1, 2 and 2 again.
        let found = Centres::of(&x, 2, 1, &Ctx::default()).unwrap();
        assert_eq!(found.first.data(), [1.0, 2.0, 0.0, 6.0]);
        assert_eq!((found.now.data(), found.labels.as_slice()), (&[1.0, 0.0, 0.0, 1.0][..], &[0, 1, 1][..]));
        assert_eq!(found.groups(2), [vec![0, 1], vec![2]]);
        // All point one way: they go to the first of two equal centres, and the second stays as it was.
        let one = Array::new([4, 1], vec![1.0, 2.0, 3.0, 4.0]).unwrap();
        let found = Centres::of(&one, 2, 2, &Ctx::default()).unwrap();
        assert_eq!((found.labels.as_slice(), found.now.data()[0]), (&[0; 4][..], 1.0));
        assert!((found.now.data()[1] - 11.0 / 3.0).abs() < 1e-6, "{:?}", found.now);
        assert!(Centres::of(&x, 4, 1, &Ctx::default()).is_ok() && Centres::of(&x, 7, 1, &Ctx::default()).is_err());
    }
}
