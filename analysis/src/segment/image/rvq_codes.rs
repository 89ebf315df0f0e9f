//! Residual vector quantization: a patch becomes the nearest entry of a codebook, what is left of it the nearest entry
//! of the next codebook, and so on; the codes of all levels together are its id.
//!
//! Source: Lee et al. 2022, arXiv 2203.01941; the rule was read in meituan-longcat/LongCat-Next-inference,
//! `visual_vector_quantize.py`. Takes: a picture. Gives: an id per patch, and what the ids give back. Departs: see
//! [`Info::departs`].

use super::transform::Transform;
use super::{Grid, Rest, Tiles, fits};
use crate::ctx::Ctx;
use crate::finding::{Axis, Datum, Figure, Image, Measure, Plot, Raster, Series, Style};
use crate::kmeans::{Settings, fit, nearest};
use crate::method::{Basis, Info, Kind, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::segment::{Input, Method, Reads, Segmentation, Usage};
use crate::{Error, Result};
use serde_json::{Value, json};

const PATCH: Param = Param::count("patch", "Side of a patch in pixels", 1, 256, 8);
const NUMBERS: Param = Param::count("numbers", "Coefficients of a patch that are coded", 1, 256, 12);
const CODES: Param = Param::count("codes", "Entries of the codebook of each level", 2, 1024, 16);
const LEVELS: Param = Param::count("levels", "Codebooks, each for what those before it leave", 1, 8, 3);
const SEED: Param = Param::seed();

static INFO: Info = Info {
    id: "rvq_codes",
    title: "Residual vector quantization",
    summary: "Gives every patch of a picture a code, codes what is left of it once more, and so on.",
    family: "image cuts",
    basis: Basis::OwnReading,
    paper: Some(Paper {
        title: "Autoregressive Image Generation using Residual Quantization",
        authors: "Lee et al.",
        year: 2022,
        arxiv: "2203.01941",
    }),
    departs: "a fixed cosine transform in opponent colours stands for the learned encoder and decoder, and codebooks found \
              on this very picture (k-means, level by level) for the learned ones; the coding is the paper's",
    params: &[PATCH, NUMBERS, CODES, LEVELS, SEED],
    raw: &[Adapter { name: "rvq_codes", run: raw }],
    ..Info::of(Kind::Segment)
};

pub(super) struct RvqCodes;

/// Rows coded level by level.
struct Coded {
    /// Entry of each row, by level.
    codes: Vec<Vec<usize>>,
    /// Squared length of what is left of each row, before the first level and after each.
    left: Vec<Vec<f64>>,
    /// What is left of the rows in the end, `[n, d]`.
    rest: Vec<f64>,
}

impl Coded {
    fn new(rows: &[f64], d: usize) -> Self {
        let mut out = Self { codes: Vec::new(), left: Vec::new(), rest: rows.to_vec() };
        out.measure(d);
        out
    }

    fn measure(&mut self, d: usize) {
        self.left.push(self.rest.chunks(d).map(|row| row.iter().map(|x| x * x).sum()).collect());
    }

    /// One level more, with the entries of `book` `[codes, d]`.
    fn level(&mut self, book: &[f64], d: usize) {
        let codes = nearest(&self.rest, book, d);
        for (row, &code) in self.rest.chunks_mut(d).zip(&codes) {
            row.iter_mut().zip(&book[code * d..]).for_each(|(x, e)| *x -= e);
        }
        self.codes.push(codes);
        self.measure(d);
    }

    /// Signal to noise after `level` levels in decibels; infinite where nothing is left.
    fn snr(&self, level: usize) -> f64 {
        let sum = |l: usize| self.left[l].iter().sum::<f64>();
        if sum(level) == 0.0 { f64::INFINITY } else { 10.0 * (sum(0) / sum(level)).log10() }
    }

    fn usage(&self, level: usize) -> Usage {
        Usage::of(self.codes[level].iter().map(|&c| c as u32))
    }
}

impl Method for RvqCodes {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn reads(&self) -> Reads {
        Reads::Image
    }

    fn cut(&self, input: Input, params: &Params, ctx: &Ctx) -> Result<Segmentation> {
        INFO.check(params)?;
        let picture = input.image(&INFO)?;
        let count = |p: &Param| params.count(p).unsigned_abs() as usize;
        let (patch, codes, levels) = (count(&PATCH), count(&CODES), count(&LEVELS));
        let d = count(&NUMBERS).min(3 * patch * patch);
        let vocab = codes.checked_pow(levels as u32).filter(|v| *v < 1 << 32);
        let vocab = vocab.ok_or_else(|| {
            Error::invalid(format!("{codes} codes in {levels} levels are more than 2^32 ids: take fewer of either"))
        })?;
        let grid = Grid::new(picture, patch, patch, Rest::LeftOut);
        fits(&grid, (2 + levels) * d + 3 * patch * patch, ctx)?;
        let transform = Transform::new(patch, patch, d);
        let rows = transform.forward_all(picture, &grid, ctx)?.concat();
        let (mut coded, mut pictures) = (Coded::new(&rows, d), Vec::new());
        let given = |coded: &Coded| {
            let back: Vec<f64> = rows.iter().zip(&coded.rest).map(|(x, left)| x - left).collect();
            transform.backward_all(&back, ctx)
        };
        for level in 0..if grid.is_empty() { 0 } else { levels } {
            ctx.step(level, levels)?;
            let clusters = codes.min(grid.len());
            let settings = Settings { clusters, restarts: 1, iterations: 50, seed: params.seed(&SEED) as u32 };
            coded.level(&fit(&coded.rest, d, &settings, &ctx.part(level, levels))?.centers, d);
            if level + 1 < levels {
                let title =
                    if level == 0 { "the first level".into() } else { format!("the first {} levels", level + 1) };
                let back = grid.laid_out(&given(&coded)?)?;
                pictures.push(Image::new(title, [back.width, back.height], Raster::Rgb(back.rgb.into())).into());
            }
        }
        let id = |i: usize| coded.codes.iter().fold(0, |id, level| id * codes + level[i]) as u32;
        let bits = (vocab as f64).log2() / (patch * patch) as f64;
        let used: Vec<String> = (0..coded.codes.len()).map(|l| coded.usage(l).counts.len().to_string()).collect();
        let meaning = "Logarithm to base 2 of the number of ids over the pixels of a patch; the codebooks, which are \
                       found on this picture, not counted";
        let figures = vec![
            Figure::new("bits per pixel", Datum::Number(bits), meaning),
            Figure::new("codes used", Datum::Text(used.join(", ")), format!("Of {codes}, level by level")),
        ];
        // Nothing is left of a picture of few patches: no level after that has a ratio.
        let points = (1..coded.left.len()).map(|l| [l as f64, coded.snr(l)]).filter(|p| p[1].is_finite());
        let points: Vec<[f64; 2]> = points.collect();
        if !points.is_empty() {
            let series = Series::new("coefficients", Style::Line, points);
            let (x, y) = (Axis::Number(Measure::new("levels", "")), Measure::new("signal to noise", "dB"));
            pictures.push(Plot::new("what each level adds", x, y, vec![series]).into());
        }
        let tiles = Tiles { figures, pictures, ..Tiles::of(INFO.id, &grid, Some(vocab), |i| Some(id(i))) };
        Ok(Segmentation::Image(tiles.giving_back(picture, &grid, &given(&coded)?)?))
    }
}

/// Raw entry: rows `x` `[n, d]` and `codebooks` `[levels, codes, d]`.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (x, books) = (input.array("x")?, input.array("codebooks")?);
    x.check_finite("x")?;
    books.check_finite("codebooks")?;
    let ([n, d], [levels, codes, e]) = (x.dims("x")?, books.dims("codebooks")?);
    if d != e || d == 0 || codes == 0 {
        return Err(Error::shape("codebooks", format!("[levels, codes, {d}], none of them 0"), books.shape()));
    }
    let wide = |row: &[f32]| row.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
    let mut coded = Coded::new(&wide(x.data()), d);
    for level in 0..levels {
        ctx.step(level, levels)?;
        coded.level(&wide(books.row(level)), d);
    }
    let of = |f: &dyn Fn(usize) -> Value| (0..levels).map(f).collect::<Vec<Value>>();
    let by_row = |f: &dyn Fn(usize, usize) -> Value| {
        (0..n).map(|i| (0..levels).map(|l| f(l, i)).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    let snr = |l: usize| Some(coded.snr(l + 1)).filter(|s| s.is_finite()).map_or(json!("inf"), |s| json!(s));
    Ok(json!({
        "codes": by_row(&|l, i| json!(coded.codes[l][i])),
        "mse": of(&|l| json!(coded.left[l + 1].iter().sum::<f64>() / (n * d).max(1) as f64)),
        "snr_db": of(&snr),
        "used": of(&|l| json!(coded.usage(l).counts.len())),
        "perplexity": of(&|l| json!(coded.usage(l).perplexity())),
        "explained": by_row(&|l, i| json!(coded.left[l][i] - coded.left[l + 1][i])),
        "residual_norm": coded.left[levels].iter().map(|s| s.sqrt()).collect::<Vec<_>>(),
        "bits": levels as f64 * (codes as f64).log2(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Picture;

    #[test]
    fn each_level_codes_what_is_left() {
        let mut coded = Coded::new(&[5.0, 0.0, 1.0, 0.0], 2);
        coded.level(&[4.0, 0.0, 0.0, 0.0], 2);
        coded.level(&[0.0, 1.0, 1.0, 0.0], 2);
        assert_eq!(coded.codes, [[0, 1], [1, 1]]);
        assert_eq!(coded.left, [[25.0, 1.0], [1.0, 1.0], [0.0, 0.0]]);
        assert!((coded.snr(1) - 10.0 * 13f64.log10()).abs() < 1e-12 && coded.snr(2).is_infinite());
    }

    #[test]
    fn four_colours_in_two_levels_of_two_come_back() {
        // Patches of 1: luminance 0 or 200, and on both a little less or more.
        let grey = [0u8, 20, 200, 220];
        let picture = Picture::new(4, 1, grey.iter().flat_map(|v| [*v; 3]).collect()).unwrap();
        let set = |levels: i64| {
            Params::new().set("patch", 1i64).set("codes", 2i64).set("numbers", 3i64).set("levels", levels)
        };
        let cut = |params: Params| match RvqCodes.cut(Input::Image(&picture), &params, &Ctx::default()).unwrap() {
            Segmentation::Image(t) => t,
            other => panic!("{other:?}"),
        };
        let (one, two) = (cut(set(1)), cut(set(2)));
        assert_eq!((one.vocab, two.vocab, two.pictures.len()), (Some(2), Some(4), 2));
        let back = |t: &Tiles| (0..4).map(|x| t.rebuilt.as_ref().unwrap().pixel(x, 0)[1]).collect::<Vec<_>>();
        assert_eq!((back(&one), back(&two)), (vec![10, 10, 210, 210], vec![0, 20, 200, 220]));
        let ids: std::collections::BTreeSet<_> = two.tiles.iter().map(|t| t.id).collect();
        assert_eq!(ids.len(), 4);
    }
}
