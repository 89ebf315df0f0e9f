//! AdaptVision: how large a picture is read and into how many views it is cut follow from its size and shape.
//!
//! Source: Wang et al. 2024, "AdaptVision: Dynamic Input Scaling in MLLMs for Versatile Scene Understanding",
//! arXiv 2408.16986. Takes: a picture. Gives: the parts of it that are read beside an overview, and what they cost.
//! Departs: see [`Info::departs`].

use super::{Grid, Tiles};
use crate::ctx::Ctx;
use crate::finding::{Datum, Figure, Image, Raster};
use crate::image::{Filter, resize};
use crate::method::{Basis, Info, Kind, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::segment::{Input, Method, Reads, Segmentation};
use crate::{Error, Result};
use serde_json::{Value, json};

const SHARD: Param = Param::count("shard", "Side of a view in pixels", 14, 1344, 336);
const MOST: Param = Param::count("max_grid", "Most views along a side", 1, 16, 3);
const PATCH: Param = Param::count("patch", "Side of a token in pixels of a view", 1, 112, 14);

static INFO: Info = Info {
    id: "adaptvision",
    title: "AdaptVision",
    summary: "Cuts a picture into as many views of one size as its own size and shape ask for, beside an overview.",
    family: "image cuts",
    basis: Basis::Authors { repo: "harrytea/AdaptVision", commit: "7518e3b30f" },
    paper: Some(Paper {
        title: "AdaptVision: Dynamic Input Scaling in MLLMs for Versatile Scene Understanding",
        authors: "Wang et al.",
        year: 2024,
        arxiv: "2408.16986",
    }),
    departs: "parts are drawn on the picture as it is, to whole pixels; there it is stretched first, so that each part is \
              one view",
    params: &[SHARD, MOST, PATCH],
    raw: &[Adapter { name: "adaptvision", run: raw }],
    ..Info::of(Kind::Segment)
};

pub(super) struct AdaptVision;

/// Most views along a side that raw entries may ask for.
const MAX_GRID: usize = 256;

/// How a picture is read.
#[derive(Debug, PartialEq)]
struct Plan {
    /// Width and height that it is stretched to.
    size: [usize; 2],
    /// Columns and rows of views.
    grid: [usize; 2],
}

impl Plan {
    fn of([width, height]: [usize; 2], shard: usize, most: usize) -> Self {
        let long = shard * width.max(height).div_ceil(shard).min(most);
        let other = |short: usize, length: usize| {
            let scaled = ((long as f64 * short as f64 / length as f64) as usize).max(1);
            shard * scaled.div_ceil(shard).min(most)
        };
        let size = if height >= width { [other(width, height), long] } else { [long, other(height, width)] };
        Self { size, grid: size.map(|s| s / shard) }
    }

    /// The overview and every part.
    fn views(&self) -> usize {
        1 + self.grid[0] * self.grid[1]
    }
}

impl Method for AdaptVision {
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
        let (shard, patch) = (count(&SHARD), count(&PATCH));
        let plan = Plan::of([picture.width, picture.height], shard, count(&MOST));
        ctx.fits((6 * shard * shard) as u64, "take a smaller shard")?;
        ctx.check()?;
        let [cols, rows] = plan.grid;
        let side = (shard / patch).max(1);
        let overview = resize(picture, shard, shard, Filter::Bicubic, None)?;
        let figures = vec![
            Figure::new("views", Datum::Count(plan.views()), "The overview and every part"),
            Figure::new(
                "tokens",
                Datum::Count(plan.views() * side * side),
                format!("{side} by {side} in each view, before a projector"),
            ),
            Figure::new(
                "read at",
                Datum::Text(format!("{} × {}", plan.size[0], plan.size[1])),
                "Width and height that the picture is stretched to before it is cut",
            ),
        ];
        let overview = Image::new("overview", [shard, shard], Raster::Rgb(overview.rgb.into()));
        Ok(Segmentation::Image(Tiles {
            figures,
            pictures: vec![overview.into()],
            ..Tiles::parts(INFO.id, [rows, cols], Grid::even(picture, rows, cols))
        }))
    }
}

/// Raw entry: `sizes_wh` `[pictures, 2]`, `shard`, `max_grid_num`. Views are numbered by row and column from 1, the
/// overview is (0, 0).
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let sizes = input.array("sizes_wh")?;
    let [n, two] = sizes.dims("sizes_wh")?;
    let whole = |v: &f32| *v >= 1.0 && v.fract() == 0.0 && *v <= 16_777_216.0;
    if two != 2 || !sizes.data().iter().all(whole) {
        return Err(Error::invalid("sizes_wh holds a width and a height of at least one pixel for each picture"));
    }
    let (shard, most): (usize, usize) = (input.read_or("shard", 336)?, input.read_or("max_grid_num", 3)?);
    if !(1..=1 << 20).contains(&shard) || !(1..=MAX_GRID).contains(&most) {
        return Err(Error::invalid(format!(
            "views of {shard} pixels, up to {most} along a side of at most {MAX_GRID}"
        )));
    }
    let size = |i: usize| [sizes.row(i)[0] as usize, sizes.row(i)[1] as usize];
    let plans: Vec<Plan> = (0..n).map(|i| Plan::of(size(i), shard, most)).collect();
    // A number and a size of each view, two lists of two values.
    ctx.fits(256 * plans.iter().map(Plan::views).sum::<usize>() as u64, "ask for fewer views")?;
    let mut results = Vec::new();
    for (i, plan) in plans.iter().enumerate() {
        ctx.step(i, n)?;
        let [cols, rows] = plan.grid;
        let parts = (1..=rows).flat_map(|r| (1..=cols).map(move |c| [r, c]));
        results.push(json!({
            "size": size(i),
            "resized": plan.size,
            "n_views": plan.views(),
            "index": std::iter::once([0, 0]).chain(parts).collect::<Vec<_>>(),
            "view_sizes": vec![[shard, shard]; plan.views()],
        }));
    }
    Ok(json!({ "results": results }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Picture;

    #[test]
    fn the_long_side_counts_first_and_the_other_follows_the_shape() {
        // 50 of 10 are 5, at most 3; 30 · 20 / 50 = 12 are two.
        assert_eq!(Plan::of([50, 20], 10, 3), Plan { size: [30, 20], grid: [3, 2] });
        assert_eq!(Plan::of([20, 50], 10, 3), Plan { size: [20, 30], grid: [2, 3] });
        assert_eq!(Plan::of([3, 4], 10, 3).views(), 2);
        // A line is one view wide.
        assert_eq!(Plan::of([1, 400], 10, 3).grid, [1, 3]);
    }

    #[test]
    fn parts_cover_the_picture_and_tokens_are_those_of_all_views() {
        let picture = Picture::new(50, 20, vec![9; 3000]).unwrap();
        let params = Params::new().set("shard", 20i64).set("patch", 7i64);
        let Segmentation::Image(t) = AdaptVision.cut(Input::Image(&picture), &params, &Ctx::default()).unwrap() else {
            panic!()
        };
        // Three columns of one row, and an overview of 2 by 2 tokens like each of these.
        let edges: Vec<(u32, u32)> = t.tiles.iter().map(|t| (t.rect.x, t.rect.w)).collect();
        assert_eq!((t.grid, t.tiles.len(), edges[1]), ([2, 3], 6, (16, 17)));
        assert_eq!(t.figures[1].words(), "28");
    }
}
