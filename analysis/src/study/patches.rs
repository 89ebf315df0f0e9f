//! The patches of a picture as an image encoder leaves them, tile by tile, for studies that look at these.

use crate::array::Array;
use crate::finding::{CellGrid, Heat, Measure, Unit};
use crate::method::{Info, LayerPick, Need, Param, Params};
use crate::token::Source;
use crate::trace::{Site, Tower, TowerTrace};
use crate::{Error, Result, Subject};

/// Which layer's patches.
pub(super) const LAYER: Param =
    Param::layer_of("layer", "Encoder layer whose output is looked at", Tower::Vision, LayerPick::At(-1));

/// The patches of one tile.
pub(super) struct Patches {
    /// Rows and columns.
    pub grid: (usize, usize),
    /// Which of the encoder's passes they stand in, and the row of the first one there.
    pub tile: usize,
    /// See `tile`.
    pub row: usize,
    /// The first of its tokens among those of the encoder, whose rows may have a gap behind each.
    first: usize,
    gap: usize,
    /// `[rows · cols, d]`, row by row.
    pub x: Array,
}

impl Patches {
    /// Of every tile of the run's picture, as [`LAYER`] says. Errors: no image in the shown tower; no such layer; nothing
    /// recorded.
    pub fn of(on: &Subject, params: &Params, info: &Info) -> Result<Vec<Self>> {
        let vision = encoder(on, info)?;
        let layer = params.one_layer(&LAYER, vision.n_layers)?;
        let mut out = Vec::new();
        for (number, g) in vision.grids.iter().enumerate() {
            let tiled = vision.n_tiles > 1;
            let entry = on.trace.get_tile(Tower::Vision, if tiled { number } else { 0 }, layer, Site::ResidPost)?;
            // Rows of a tile count from its own first token; before its patches stand as many as in the first.
            let first = if tiled { vision.grids[0].first } else { g.first };
            let [rows, d] = entry.array.dims("patches")?;
            let cell = |i: usize| first + i / g.cols * (g.cols + g.gap) + i % g.cols;
            let n = g.rows * g.cols;
            if n > 0 && cell(n - 1) >= rows {
                return Err(Error::invalid("this needs every patch of the picture, and the run has fewer"));
            }
            let x = Array::new([n, d], (0..n).flat_map(|i| entry.array.row(cell(i)).iter().copied()).collect())?;
            let tile = if tiled { number } else { 0 };
            out.push(Self { grid: (g.rows, g.cols), tile, row: first, first: g.first, gap: g.gap, x });
        }
        out.retain(|p| p.len() > 0);
        if out.is_empty() { Err(info.needs(Need::ImageTokens.words())) } else { Ok(out) }
    }

    /// Number of patches.
    pub fn len(&self) -> usize {
        self.grid.0 * self.grid.1
    }

    /// Which of the encoder's tokens patch `i` is.
    pub fn token(&self, i: usize) -> usize {
        self.first + i / self.grid.1 * (self.grid.1 + self.gap) + i % self.grid.1
    }

    /// The rectangle of the picture that patch `i` shows, in pixels, where it is known: left, top, width, height.
    pub fn rect(&self, vision: &TowerTrace, i: usize) -> Option<[f32; 4]> {
        match vision.tokens.get(self.token(i))?.source {
            Source::Rect { x, y, w, h } => Some([x, y, w, h]),
            _ => None,
        }
    }
}

/// The image encoder of a run whose shown tower has an image. Errors: there is none.
pub(super) fn encoder<'a>(on: &Subject<'a>, info: &Info) -> Result<&'a TowerTrace> {
    let vision = on.trace.towers.get(&Tower::Vision).filter(|_| on.tower().is_ok_and(TowerTrace::has_image));
    vision.ok_or_else(|| info.needs(Need::ImageTokens.words()))
}

/// What is known of patches, tile by tile, over what is drawn on the picture: the encoder's tokens where these are shown or
/// stand in several tiles, else the cells of the only grid.
pub(super) fn laid<T: Clone>(
    on: &Subject,
    vision: &TowerTrace,
    tiles: &[Patches],
    values: &[Vec<T>],
) -> (Unit, Vec<Option<T>>) {
    if let ([tile], [values]) = (tiles, values)
        && on.tower != Tower::Vision
    {
        let corners = tile.rect(vision, 0).zip(tile.rect(vision, tile.len() - 1));
        let area = corners.map(|(a, b)| [a[0], a[1], b[0] + b[2] - a[0], b[1] + b[3] - a[1]]);
        let grid = CellGrid { rows: tile.grid.0, cols: tile.grid.1, area };
        return (Unit::Cells(grid), values.iter().cloned().map(Some).collect());
    }
    let mut all = vec![None; vision.tokens.len()];
    for (tile, values) in tiles.iter().zip(values) {
        values.iter().enumerate().for_each(|(i, v)| all[tile.token(i)] = Some(v.clone()));
    }
    (Unit::Tokens(Tower::Vision), all)
}

/// Numbers of patches, tile by tile, as a picture.
pub(super) fn heat(
    on: &Subject,
    title: &'static str,
    measure: Measure,
    vision: &TowerTrace,
    tiles: &[Patches],
    values: &[Vec<f32>],
) -> Heat {
    let (unit, values) = laid(on, vision, tiles, values);
    Heat::new(title, unit, measure, values)
}

/// Of several tiles, those with as many patches as the first, and how many others there are: what frames are compared by.
pub(super) fn alike(mut tiles: Vec<Patches>) -> (Vec<Patches>, usize) {
    let (grid, all) = (tiles[0].grid, tiles.len());
    tiles.retain(|t| t.grid == grid);
    let others = all - tiles.len();
    (tiles, others)
}
