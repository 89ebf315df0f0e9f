//! A grid of patches, as vision transformers read a picture.
//!
//! Source: Dosovitskiy et al. 2020, arXiv 2010.11929, whose patches are the steps of a strided convolution. Takes: a
//! picture at its own size. Gives: rectangles row by row, without ids. Departs: models first resize a picture to the
//! size that they were trained on; this cuts the picture as it is.

use super::{Grid, Rest, Tiles, fits};
use crate::Result;
use crate::ctx::Ctx;
use crate::finding::{Datum, Figure};
use crate::method::{Info, Kind, Paper, Param, Params};
use crate::segment::{Input, Method, Reads, Segmentation};

const WIDTH: Param = Param::count("patch_width", "Width of a patch in pixels", 1, 1024, 16);
const HEIGHT: Param = Param::count("patch_height", "Height of a patch in pixels", 1, 1024, 16);
const REST: Param = Param::choice(
    "rest",
    "Pixels at the edge that fill no patch: left out, as a strided convolution does, or smaller patches",
    &["left_out", "smaller"],
);

static INFO: Info = Info {
    id: "patch_grid",
    title: "Patch grid",
    summary: "Cuts a picture into patches of one size, row by row, as vision transformers do.",
    family: "image cuts",
    paper: Some(Paper {
        title: "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
        authors: "Dosovitskiy et al.",
        year: 2020,
        arxiv: "2010.11929",
    }),
    departs: "the picture is cut at its own size; models resize it first",
    params: &[WIDTH, HEIGHT, REST],
    ..Info::of(Kind::Segment)
};

/// The method.
pub(super) struct PatchGrid;

impl Method for PatchGrid {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn reads(&self) -> Reads {
        Reads::Image
    }

    fn cut(&self, input: Input, params: &Params, ctx: &Ctx) -> Result<Segmentation> {
        INFO.check(params)?;
        let picture = input.image(&INFO)?;
        let rest = if params.choice(&REST) == "smaller" { Rest::Smaller } else { Rest::LeftOut };
        let grid = Grid::new(picture, params.count(&WIDTH) as usize, params.count(&HEIGHT) as usize, rest);
        fits(&grid, 0, ctx)?;
        ctx.check()?;
        let values = 3 * grid.patch_width * grid.patch_height;
        let meaning = "Pixels of a whole patch times three colours";
        let figures = vec![Figure::new("values a patch", Datum::Count(values), meaning)];
        Ok(Segmentation::Image(Tiles { figures, ..Tiles::of(INFO.id, &grid, None, |_| None) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Picture;

    #[test]
    fn patches_and_rest_by_hand() {
        let picture = Picture::new(5, 4, vec![0; 60]).unwrap();
        let cut = |params: Params| match PatchGrid.cut(Input::Image(&picture), &params, &Ctx::default()).unwrap() {
            Segmentation::Image(t) => t,
            other => panic!("{other:?}"),
        };
        let sized = Params::new().set("patch_width", 2i64).set("patch_height", 3i64);
        let t = cut(sized.clone());
        assert_eq!((t.grid, t.tiles.len(), t.rest.len(), t.vocab), ([1, 2], 2, 2, None));
        assert_eq!(cut(sized.set("rest", "smaller")).grid, [2, 3]);
        // The picture is smaller than one patch.
        let t = cut(Params::new());
        assert_eq!((t.tiles.len(), t.rest.len()), (0, 1));
    }
}
