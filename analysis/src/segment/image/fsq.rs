//! Finite scalar quantization: each of a few numbers is rounded to one of a few levels, and the levels together are
//! the entry of a codebook that nobody had to learn.
//!
//! Source: Mentzer et al. 2023, arXiv 2309.15505, whose appendix holds the code; numbers are checked against the port
//! lucidrains/vector-quantize-pytorch. Takes: a picture. Gives: a tile with an id per patch, and the picture that the
//! ids alone give back. Departs: the paper learns an encoder and a decoder; here a patch becomes the first coefficients
//! of an orthonormal transform (cosines in three opponent colours, by frequency), each around its mean over this picture
//! and over the scale, a few times its spread, at which its levels err least; and a level gives back the middle of its
//! cell, seen through the same tanh.

use super::transform::Transform;
use super::{Grid, Rest, Tiles, fits};
use crate::ctx::Ctx;
use crate::finding::{Datum, Figure};
use crate::method::{Basis, Info, Kind, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::segment::{Input, Method, Reads, Segmentation};
use crate::{Error, Result};
use rayon::prelude::*;
use serde_json::{Value, json};

const PATCH: Param = Param::count("patch", "Side of a patch in pixels", 1, 256, 8);
const LEVELS: Param = Param::schedule(
    "levels",
    "Levels of each number of a patch, in the order of the transform; their product is the size of the codebook",
    3.0,
    64.0,
    &[7.0, 5.0, 5.0, 5.0, 5.0],
);

static INFO: Info = Info {
    id: "fsq",
    title: "Finite scalar quantization",
    summary: "Gives every patch of a picture a code by rounding a few of its coefficients to a few levels each.",
    family: "image cuts",
    basis: Basis::OwnReading,
    paper: Some(Paper {
        title: "Finite Scalar Quantization: VQ-VAE Made Simple",
        authors: "Mentzer et al.",
        year: 2023,
        arxiv: "2309.15505",
    }),
    departs: "a fixed cosine transform in opponent colours, scaled to the picture, stands for the learned encoder and \
              decoder; the rounding and the ids are the paper's",
    params: &[PATCH, LEVELS],
    raw: &[Adapter { name: "fsq", run: raw }],
    ..Info::of(Kind::Segment)
};

/// Rounding to levels, one count of them per number.
struct Quantizer(Vec<Levels>);

/// The levels of one number.
struct Levels {
    n: i64,
    half: f64,
    offset: f64,
    shift: f64,
}

impl Quantizer {
    /// Errors: a count of levels that is not whole or below 2, more codes than ids.
    fn new(counts: &[f64]) -> Result<Self> {
        let bad = || Error::invalid("levels: give whole numbers from 2 on whose product is below 2^32");
        let whole = |n: &f64| n.fract() == 0.0 && (2.0..=1e6).contains(n);
        if counts.is_empty() || !counts.iter().all(whole) || counts.iter().product::<f64>() >= 2f64.powi(32) {
            return Err(bad());
        }
        let levels = |n: &f64| {
            // A little more than the levels need, so that the outermost ones can be reached.
            let half = (n - 1.0) * 1.001 / 2.0;
            let offset = if n % 2.0 == 0.0 { 0.5 } else { 0.0 };
            Levels { n: *n as i64, half, offset, shift: (offset / half).atanh() }
        };
        Ok(Self(counts.iter().map(levels).collect()))
    }

    fn size(&self) -> usize {
        self.0.iter().map(|l| l.n as usize).product()
    }

    /// The id of levels that are counted from 0, the first number's lowest.
    fn id(&self, levels: &[i64]) -> u32 {
        let add = |(id, base): (i64, i64), (q, l): (&i64, &Levels)| (id + q * base, base * l.n);
        levels.iter().zip(&self.0).fold((0, 1), add).0 as u32
    }

    /// The levels of an id.
    fn levels(&self, id: u32) -> Vec<i64> {
        let mut rest = i64::from(id);
        let take = |l: &Levels| {
            let q = rest % l.n;
            rest /= l.n;
            q
        };
        self.0.iter().map(take).collect()
    }

    /// Levels of numbers, from 0.
    fn round(&self, z: &[f64]) -> Vec<i64> {
        z.iter().zip(&self.0).map(|(z, l)| l.round(*z)).collect()
    }
}

impl Levels {
    /// The level of `z`, from 0.
    fn round(&self, z: f64) -> i64 {
        let bounded = (z + self.shift).tanh() * self.half - self.offset;
        (bounded.round_ties_even() as i64 + self.n / 2).clamp(0, self.n - 1)
    }

    /// A level as the paper's code of it, -1..=1.
    fn code(&self, level: i64) -> f64 {
        (level - self.n / 2) as f64 / (self.n / 2) as f64
    }

    /// The number in the middle of a level's cell, where the middle is taken behind the tanh. The outermost cells end
    /// where the tanh does.
    fn middle(&self, level: i64) -> f64 {
        let q = (level - self.n / 2) as f64;
        let (low, high) = (-self.half - self.offset, self.half - self.offset);
        let middle = ((q - 0.5).max(low) + (q + 0.5).min(high)) / 2.0;
        ((middle + self.offset) / self.half).atanh() - self.shift
    }
}

/// The method.
pub(super) struct Fsq;

/// Spreads that the scale of a coefficient may be, in steps of √2 from 1/2 to 8.
const SCALES: i32 = 9;

/// Mean of each coefficient over all patches, and the scale at which its levels give it back with the least squared
/// error; a scale of 0 where it never changes.
fn scales(all: &[Vec<f64>], levels: &[Levels]) -> Vec<(f64, f64)> {
    let count = all.len().max(1) as f64;
    let of = |(k, level): (usize, &Levels)| {
        let mean = all.iter().map(|c| c[k]).sum::<f64>() / count;
        let spread = (all.iter().map(|c| (c[k] - mean).powi(2)).sum::<f64>() / count).sqrt();
        if spread == 0.0 {
            return (mean, 0.0);
        }
        let middles: Vec<f64> = (0..level.n).map(|q| level.middle(q)).collect();
        let error = |scale: f64| -> f64 {
            let back = |x: f64| scale * middles[level.round(x / scale) as usize];
            all.iter().map(|c| (c[k] - mean - back(c[k] - mean)).powi(2)).sum()
        };
        let tried = (0..SCALES).map(|i| spread * 2f64.powf(f64::from(i) / 2.0 - 1.0)).map(|s| (error(s), s));
        let best = tried.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(spread, |best| best.1);
        (mean, best)
    };
    levels.par_iter().enumerate().map(of).collect()
}

impl Method for Fsq {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn reads(&self) -> Reads {
        Reads::Image
    }

    fn cut(&self, input: Input, params: &Params, ctx: &Ctx) -> Result<Segmentation> {
        INFO.check(params)?;
        let picture = input.image(&INFO)?;
        let (patch, counts) = (params.count(&PATCH) as usize, params.schedule(&LEVELS));
        let quantizer = Quantizer::new(&counts)?;
        let most = 3 * patch * patch;
        if counts.len() > most {
            return Err(Error::invalid(format!(
                "{} levels for {most} values of a patch: give fewer levels, or take a larger patch",
                counts.len()
            )));
        }
        let grid = Grid::new(picture, patch, patch, Rest::LeftOut);
        fits(&grid, 2 * counts.len() + most, ctx)?;
        let transform = Transform::new(patch, patch, counts.len());
        let all = transform.forward_all(picture, &grid, ctx)?;
        ctx.step(1, 2)?;
        let scales = scales(&all, &quantizer.0);
        let id = |c: &Vec<f64>| {
            let z: Vec<f64> =
                c.iter().zip(&scales).map(|(c, (m, s))| if *s > 0.0 { (c - m) / s } else { 0.0 }).collect();
            quantizer.id(&quantizer.round(&z))
        };
        let ids: Vec<u32> = all.par_iter().map(id).collect();
        let back = |id: &u32| {
            let numbers = quantizer.levels(*id).into_iter().zip(&quantizer.0).map(|(q, l)| l.middle(q));
            numbers.zip(&scales).map(|(z, (m, s))| m + s * z).collect::<Vec<_>>()
        };
        let patches = transform.backward_all(&ids.iter().flat_map(back).collect::<Vec<_>>(), ctx)?;
        let bits = (quantizer.size() as f64).log2();
        let figures = vec![
            Figure::new(
                "bits per pixel",
                Datum::Number(bits / (patch * patch) as f64),
                "Logarithm to base 2 of the codebook's size over the pixels of a patch; mean and scale of each \
                 coefficient, two numbers a picture, not counted",
            ),
            Figure::new(
                "levels",
                Datum::Text(counts.iter().map(f64::to_string).collect::<Vec<_>>().join(" × ")),
                "Levels of each number",
            ),
        ];
        let tiles = Tiles::of(INFO.id, &grid, Some(quantizer.size()), |i| ids.get(i).copied());
        Ok(Segmentation::Image(Tiles { figures, ..tiles }.giving_back(picture, &grid, &patches)?))
    }
}

/// Raw entry: numbers `z` `[n, d]` and `d` counts of levels in; codes, ids and the codes of those ids out.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (z, counts) = (input.array("z")?, input.read::<Vec<f64>>("levels")?);
    let quantizer = Quantizer::new(&counts)?;
    let [n, d] = z.dims("z")?;
    if d != counts.len() {
        return Err(Error::shape("z", format!("[n, {}], a number for each of the levels", counts.len()), z.shape()));
    }
    ctx.check()?;
    let codes = |levels: &[i64]| levels.iter().zip(&quantizer.0).map(|(q, l)| l.code(*q)).collect::<Vec<f64>>();
    let rows = (0..n).map(|i| quantizer.round(&z.row(i).iter().map(|&x| f64::from(x)).collect::<Vec<_>>()));
    let rows: Vec<Vec<i64>> = rows.collect();
    let ids: Vec<u32> = rows.iter().map(|r| quantizer.id(r)).collect();
    Ok(json!({
        "codes": rows.iter().map(|r| codes(r)).collect::<Vec<_>>(),
        "indices": ids,
        "roundtrip": ids.iter().map(|id| codes(&quantizer.levels(*id))).collect::<Vec<_>>(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Picture;
    use crate::segment::image::mean_squared_error;

    fn cut(picture: &Picture, params: Params) -> Result<Tiles> {
        match Fsq.cut(Input::Image(picture), &params, &Ctx::default())? {
            Segmentation::Image(t) => Ok(t),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn levels_and_ids_by_hand() {
        let q = Quantizer::new(&[5.0, 4.0]).unwrap();
        // tanh 0.2 · 2.002 = 0.395 rounds to 0, the middle one of five; tanh 1 · 2.002 = 1.52 to 2, the last.
        assert_eq!(q.round(&[0.2, 9.0]), [2, 3]);
        assert_eq!(q.round(&[1.0, -9.0]), [4, 0]);
        assert_eq!((q.id(&[2, 3]), q.levels(17), q.size()), (2 + 3 * 5, vec![2, 3], 20));
        // Five levels are -1, -1/2, 0, 1/2, 1; four are -1, -1/2, 0, 1/2.
        assert_eq!((q.0[0].code(0), q.0[0].code(3), q.0[1].code(0), q.0[1].code(3)), (-1.0, 0.5, -1.0, 0.5));
        for l in &q.0 {
            (0..l.n).for_each(|level| assert_eq!(l.round(l.middle(level)), level));
        }
        assert!(q.0[0].middle(2).abs() < 1e-12);
        for bad in [&[][..], &[1.0], &[2.5], &[1000.0; 4]] {
            assert!(Quantizer::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn two_colours_have_two_codes_and_come_back_alike() {
        // Left half black, right half white, patches of 2 x 2, a column and a row left over.
        let rgb: Vec<u8> = (0..5 * 5).flat_map(|i| [if i % 5 < 2 { 0 } else { 255 }; 3]).collect();
        let picture = Picture::new(5, 5, rgb).unwrap();
        let t = cut(&picture, Params::new().set("patch", 2i64).set("levels", vec![5.0, 3.0, 3.0])).unwrap();
        assert_eq!((t.grid, t.tiles.len(), t.vocab, t.rest.len()), ([2, 2], 4, Some(45), 2));
        let ids: Vec<u32> = t.tiles.iter().filter_map(|t| t.id).collect();
        // Luminance stands at one spread below and above its mean. At the scale of 0.71 spreads that is 1.41, at the
        // outermost levels 0 and 4, whose middles are ±1.35; the colours do not change and stay at 1, which is 5 and 15
        // in the id.
        assert_eq!(ids, [20, 24, 20, 24]);
        let back = t.rebuilt.unwrap();
        assert_eq!((back.width, back.height), (4, 4));
        assert!(back.pixel(0, 0)[0] < 10 && back.pixel(3, 3)[2] > 245, "{:?}", back.rgb);
    }

    #[test]
    fn finer_levels_give_back_more_and_too_many_are_refused() {
        let rgb: Vec<u8> = (0..16 * 16).flat_map(|i: u32| [(i * 7 % 256) as u8, (i / 3) as u8, 99]).collect();
        let picture = Picture::new(16, 16, rgb).unwrap();
        let error = |levels: Vec<f64>| {
            let t = cut(&picture, Params::new().set("patch", 4i64).set("levels", levels)).unwrap();
            mean_squared_error(&picture, &t.rebuilt.unwrap())
        };
        let (coarse, fine, more) = (error(vec![3.0; 3]), error(vec![15.0; 3]), error(vec![15.0; 6]));
        assert!(coarse > fine && fine > more, "{coarse} {fine} {more}");
        let why = cut(&picture, Params::new().set("patch", 1i64)).unwrap_err().to_string();
        assert!(why.contains("5 levels for 3 values"), "{why}");
        let small = cut(&Picture::new(1, 1, vec![1, 2, 3]).unwrap(), Params::new()).unwrap();
        assert!(small.tiles.is_empty() && small.rebuilt.is_none() && small.rest.len() == 1);
    }
}
