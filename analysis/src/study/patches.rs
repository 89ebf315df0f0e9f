//! The patches of a picture as an image encoder leaves them, tile by tile, for studies that look at these.

use crate::array::Array;
use crate::finding::{CellGrid, Heat, Measure, Unit};
use crate::math::length;
use crate::method::{Info, LayerPick, Need, Param, Params};
use crate::token::{Grid, Source};
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
    /// Which of the encoder's tokens they are, row by row.
    tokens: Vec<usize>,
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
            // Rows of a tile count from its own first token; before its patches stand as many as in the first.
            let (tile, row) = if vision.n_tiles > 1 { (number, vision.grids[0].first) } else { (0, g.first) };
            let entry = on.trace.get_tile(Tower::Vision, tile, layer, Site::ResidPost)?;
            let [rows, d] = entry.array.dims("patches")?;
            let cells: Vec<usize> = Grid { first: row, ..g.clone() }.tokens().collect();
            if cells.last().is_some_and(|c| *c >= rows) {
                return Err(Error::invalid("this needs every patch of the picture, and the run has fewer"));
            }
            let values = cells.iter().flat_map(|&c| entry.array.row(c).iter().copied()).collect();
            let x = Array::new([cells.len(), d], values)?;
            out.push(Self { grid: (g.rows, g.cols), tile, row, tokens: g.tokens().collect(), x });
        }
        out.retain(|p| p.len() > 0);
        if out.is_empty() { Err(info.needs(Need::ImageTokens.words())) } else { Ok(out) }
    }

    /// Number of patches.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Which of the encoder's tokens patch `i` is.
    pub fn token(&self, i: usize) -> usize {
        self.tokens[i]
    }

    /// The rectangle of the picture that patch `i` shows, in pixels, where it is known: left, top, width, height.
    pub fn rect(&self, vision: &TowerTrace, i: usize) -> Option<[f32; 4]> {
        match vision.tokens.get(self.token(i))?.source {
            Source::Rect { x, y, w, h } => Some([x, y, w, h]),
            _ => None,
        }
    }

    /// [`Self::rect`] of all from patch `first` to patch `last`, the corners of what is meant.
    pub fn span(&self, vision: &TowerTrace, first: usize, last: usize) -> Option<[f32; 4]> {
        let (a, b) = self.rect(vision, first).zip(self.rect(vision, last))?;
        Some([a[0], a[1], b[0] + b[2] - a[0], b[1] + b[3] - a[1]])
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
        let area = tile.span(vision, 0, tile.len() - 1);
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

/// Of several tiles, those of the first one's shape, which can be compared patch by patch, and a note on the others.
pub(super) fn alike(mut tiles: Vec<Patches>) -> (Vec<Patches>, Option<String>) {
    let (grid, all) = (tiles[0].grid, tiles.len());
    tiles.retain(|t| t.grid == grid);
    let others = all - tiles.len();
    let note = || format!("{others} tiles have another shape than the first and are left out.");
    (tiles, (others > 0).then(note))
}

/// How far each row moves from an old array `[n, d]` to a new one, over the length of the old row.
pub(super) fn moved(old: &Array, new: &Array) -> Vec<f32> {
    let of = |i: usize| {
        let both = new.row(i).iter().zip(old.row(i));
        let away: Vec<f64> = both.map(|(n, o)| f64::from(*n) - f64::from(*o)).collect();
        let whole = length(old.row(i));
        if whole > 0.0 { (length(&away) / whole) as f32 } else { 0.0 }
    };
    (0..old.shape()[0]).map(of).collect()
}
