//! VisionThink's two sizes: a picture is read at half its sides first, and whole only where the model asks for that.
//!
//! Source: Yang et al. 2025, "VisionThink: Smart and Efficient Vision Language Model via Reinforcement Learning",
//! arXiv 2507.13348; sizes are those of Qwen2-VL's processor. Takes: a picture. Gives: the tokens of the pass that is
//! shown, and what both cost. Departs: see [`Info::departs`].

use super::{Grid, Tile, Tiles};
use crate::ctx::Ctx;
use crate::finding::{Datum, Figure};
use crate::image::in_units;
use crate::method::{Basis, Info, Kind, Paper, Param, Params, Role};
use crate::raw::{Adapter, RawInput};
use crate::segment::{Input, Method, Reads, Segmentation};
use crate::{Error, Result};
use serde_json::{Map, Value, json};

const FACTOR: Param = Param::count("factor", "Side of a token in pixels of the picture as it is read", 1, 512, 28);
const LEAST: Param = Param::count("min_pixels", "Pixels that a picture is read with at least", 1, 1 << 26, 3136);
const MOST: Param = Param::count("max_pixels", "Pixels that a picture is read with at most", 1, 1 << 26, 1_003_520);
const REQUEST: Param =
    Param::toggle("request", "The model asks for the whole picture, so that both passes are paid", false);

static INFO: Info = Info {
    id: "lowres_first",
    title: "Low resolution first",
    summary: "Reads a picture at half its sides, and whole only where that is asked for.",
    family: "image cuts",
    basis: Basis::Text,
    paper: Some(Paper {
        title: "VisionThink: Smart and Efficient Vision Language Model via Reinforcement Learning",
        authors: "Yang et al.",
        year: 2025,
        arxiv: "2507.13348",
    }),
    departs: "whether to ask is learned there and a switch here; the rest is counting",
    params: &[FACTOR, LEAST, MOST, REQUEST],
    role: Role::StandIn,
    raw: &[Adapter { name: "lowres_first", run: raw }],
    ..Info::of(Kind::Segment)
};

pub(super) struct LowResFirst;

/// Both passes over a picture.
struct Passes {
    /// Width and height of the first and of the second.
    sizes: [(usize, usize); 2],
    /// Tokens of the first and of the second.
    tokens: [usize; 2],
}

impl Passes {
    fn of((width, height): (usize, usize), factor: usize, bounds: (usize, usize)) -> Self {
        let half = ((width / 2).max(1), (height / 2).max(1));
        let sizes = [half, (width, height)].map(|s| in_units(s, factor, bounds));
        Self { tokens: sizes.map(|(w, h)| (w / factor).saturating_mul(h / factor)), sizes }
    }

    fn paid(&self, request: bool) -> usize {
        self.tokens[0].saturating_add(if request { self.tokens[1] } else { 0 })
    }
}

/// What is saved of `whole` by paying `paid`; 0 where there is nothing.
fn saved(paid: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { 1.0 - paid as f64 / whole as f64 }
}

impl Method for LowResFirst {
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
        let factor = count(&FACTOR);
        let passes = Passes::of((picture.width, picture.height), factor, (count(&LEAST), count(&MOST)));
        let request = params.toggle(&REQUEST);
        let (w, h) = passes.sizes[usize::from(request)];
        // Not more cells than pixels, of which a part has at least one.
        let (rows, cols) = ((h / factor).min(picture.height), (w / factor).min(picture.width));
        ctx.fits((rows * cols * size_of::<Tile>()) as u64, "take larger tokens or fewer pixels")?;
        ctx.check()?;
        let [low, high] = passes.tokens;
        let size = |(w, h): (usize, usize)| format!("{w} × {h} pixels");
        let tokens = |name: &'static str, n: usize, at| Figure::new(name, Datum::Count(n), size(at));
        let share = |name: &'static str, x: f64, meaning: &'static str| Figure::new(name, Datum::Number(x), meaning);
        let figures = vec![
            tokens("tokens at half the sides", low, passes.sizes[0]),
            tokens("tokens of the whole", high, passes.sizes[1]),
            Figure::new(
                "tokens paid",
                Datum::Count(passes.paid(request)),
                "Of the first pass, and of the second if asked",
            ),
            share(
                "saved",
                saved(passes.paid(request), high),
                "Share of the tokens of the whole; below 0 where it costs more",
            ),
            share("break even", saved(low, high), "Share of such pictures that may ask before nothing is saved"),
        ];
        Ok(Segmentation::Image(Tiles {
            figures,
            ..Tiles::parts(INFO.id, [rows.max(1), cols.max(1)], Grid::even(picture, rows, cols))
        }))
    }
}

/// Largest side of a picture in the raw entry.
const MAX_SIDE: usize = 1 << 24;

/// Raw entry: `images` with `w`, `h` and `request` (0 or 1); `factor`, `min_pixels`, `max_pixels`.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let images: Vec<Map<String, Value>> = input.read("images")?;
    let factor: usize = input.read_or("factor", 28)?;
    let bounds: (usize, usize) = (input.read_or("min_pixels", 3136)?, input.read_or("max_pixels", 1_003_520)?);
    if !(1..=MAX_SIDE).contains(&factor) || bounds.1 == 0 {
        return Err(Error::invalid(format!("tokens of {factor} pixels, at most {} pixels", bounds.1)));
    }
    let (mut totals, mut paid_total, mut asked) = ([0usize; 2], 0usize, 0);
    let mut out = Vec::new();
    for (i, image) in images.iter().enumerate() {
        ctx.step(i, images.len())?;
        let side = |name: &str| image.get(name).and_then(Value::as_u64).map(|n| n as usize);
        let sides = side("w").zip(side("h")).filter(|(w, h)| [w, h].iter().all(|s| (1..=MAX_SIDE).contains(*s)));
        let Some(size) = sides else {
            return Err(Error::invalid(format!("picture {i} needs sides w and h from 1 to {MAX_SIDE} pixels")));
        };
        let request = match image.get("request") {
            Some(Value::Bool(asks)) => *asks,
            asks => asks.and_then(Value::as_f64).is_some_and(|v| v != 0.0),
        };
        let passes = Passes::of(size, factor, bounds);
        let paid = passes.paid(request);
        totals.iter_mut().zip(passes.tokens).for_each(|(t, n)| *t = t.saturating_add(n));
        paid_total = paid_total.saturating_add(paid);
        asked += usize::from(request);
        out.push(json!({
            "low": passes.sizes[0],
            "high": passes.sizes[1],
            "low_tokens": passes.tokens[0],
            "high_tokens": passes.tokens[1],
            "paid": paid,
        }));
    }
    Ok(json!({
        "images": out,
        "low_total": totals[0],
        "high_total": totals[1],
        "paid_total": paid_total,
        "saved": saved(paid_total, totals[1]),
        "call_rate": if images.is_empty() { 0.0 } else { asked as f64 / images.len() as f64 },
        "break_even": saved(totals[0], totals[1]),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Picture;

    #[test]
    fn half_the_sides_are_a_quarter_of_the_tokens_and_asking_costs_both() {
        let passes = Passes::of((80, 40), 10, (1, 10_000));
        assert_eq!((passes.sizes, passes.tokens), ([(40, 20), (80, 40)], [8, 32]));
        assert_eq!((passes.paid(false), passes.paid(true)), (8, 40));
        assert_eq!((saved(8, 32), saved(40, 32)), (0.75, -0.25));
        // Of a small picture both are as small as may be, so that asking never pays.
        assert_eq!(Passes::of((9, 9), 10, (400, 10_000)).tokens, [4, 4]);
    }

    #[test]
    fn the_pass_that_is_asked_for_is_shown() {
        let picture = Picture::new(80, 40, vec![0; 9600]).unwrap();
        let grid = |request: bool| {
            let params = Params::new().set("factor", 10i64).set("min_pixels", 1i64).set("request", request);
            match LowResFirst.cut(Input::Image(&picture), &params, &Ctx::default()).unwrap() {
                Segmentation::Image(t) => t.grid,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!([grid(false), grid(true)], [[2, 4], [4, 8]]);
    }
}
