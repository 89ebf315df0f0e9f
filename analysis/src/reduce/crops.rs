//! The crops of a picture that is read in tiles: which tile shows the whole, and which part of it the others show.

use crate::token::Source;
use crate::trace::{Tower, TowerTrace};
use crate::{Result, Subject};

/// Tiles of a picture.
pub(super) struct Crops {
    /// The tile that shows all of it.
    pub whole: usize,
    /// The others, in the order of the tiles.
    pub parts: Vec<usize>,
    /// Left and upper edge of each part.
    corners: Vec<(f32, f32)>,
    /// For each token of the whole, the part that shows its middle.
    part_of: Vec<Option<usize>>,
}

impl Crops {
    /// Of the image tokens of `tower`. Errors if the run has no such tower.
    pub fn of(on: &Subject, tower: Tower) -> Result<Self> {
        let t = on.trace.tower(tower)?;
        let frames: Vec<Frame> = t.grids.iter().map(|g| Frame::around(t, g.first, g.rows * (g.cols + g.gap))).collect();
        let area = |i: &usize| frames[*i].area();
        // Of several that show as much, the first.
        let most = (0..frames.len()).map(|i| area(&i)).fold(0.0, f32::max);
        let whole = (0..frames.len()).find(|i| area(i) >= 0.99 * most).unwrap_or(0);
        let parts: Vec<usize> = (0..frames.len()).filter(|i| *i != whole).collect();
        let grid = t.grids.get(whole);
        let tokens = grid.map_or(0..0, |g| g.first..g.first + g.rows * g.cols);
        let place = |i: usize| {
            let middle = Frame::around(t, i, 1).middle();
            parts.iter().position(|&p| frames[p].holds(middle))
        };
        let part_of = tokens.map(place).collect();
        let corners = parts.iter().map(|&p| (frames[p].0[0], frames[p].0[1])).collect();
        Ok(Self { whole, parts, corners, part_of })
    }

    /// Rows and columns that the parts stand in, row by row; `None` where they form no grid.
    pub fn layout(&self) -> Option<(usize, usize)> {
        let cols = self.corners.iter().take_while(|c| c.1 == self.corners[0].1).count();
        let rows = self.corners.len().checked_div(cols)?;
        let stands =
            |(i, c): (usize, &(f32, f32))| c.0 == self.corners[i % cols].0 && c.1 == self.corners[i / cols * cols].1;
        (rows * cols == self.corners.len() && self.corners.iter().enumerate().all(stands)).then_some((rows, cols))
    }

    /// Which of the parts shows the middle of token `i` of the whole.
    pub fn part_of(&self, i: usize) -> Option<usize> {
        self.part_of.get(i).copied().flatten()
    }
}

/// A rectangle of the picture, by its edges.
#[derive(Clone, Copy)]
struct Frame([f32; 4]);

impl Frame {
    /// Around some tokens.
    fn around(t: &TowerTrace, first: usize, n: usize) -> Self {
        let mut all = [f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY];
        for token in t.tokens.iter().skip(first).take(n) {
            if let Source::Rect { x, y, w, h } = token.source {
                all = [all[0].min(x), all[1].min(y), all[2].max(x + w), all[3].max(y + h)];
            }
        }
        Self(all)
    }

    fn area(self) -> f32 {
        ((self.0[2] - self.0[0]) * (self.0[3] - self.0[1])).max(0.0)
    }

    fn middle(self) -> (f32, f32) {
        ((self.0[0] + self.0[2]) / 2.0, (self.0[1] + self.0[3]) / 2.0)
    }

    fn holds(self, (x, y): (f32, f32)) -> bool {
        (self.0[0]..self.0[2]).contains(&x) && (self.0[1]..self.0[3]).contains(&y)
    }
}
