//! LLaVA-NeXT and LLaVA-OneVision: the whole picture and tiles of the best of several sizes, without the bars around
//! the picture, a learned mark at the end of every row of patches.
//! Liu et al. 2024, <https://llava-vl.github.io/blog/2024-01-30-llava-next/>; Li et al. 2024, arXiv 2408.03326.

use super::blocks::{Config, Scope, Stack, apply_regroup};
use super::llava::{self, Projector};
use super::vlm::{self, Connect, Features, Vlm};
use super::{Model, TowerRun};
use crate::ctx::Ctx;
use crate::image::{AnyRes, ImageInput, most_tiles, pinpoints};
use crate::token::{Grid, Source};
use crate::trace::{Regroup, Tap, Tower};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;

struct AnyResolution {
    projector: Projector,
    /// Mark of a row's end, `[1, d]`.
    newline: Tensor,
    /// Heights and widths that a picture may be cut from.
    sizes: Vec<(usize, usize)>,
    /// Pixels of a tile and of a patch.
    tile: usize,
    patch: usize,
    /// Tiles from whose patches on features are sampled.
    most: Option<usize>,
}

/// Loads a checkpoint.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config());
    let next = c.word(&["model_type"], "llava_next")? == "llava_next";
    let root = Scope::root(w, device);
    let (projector, text) = llava::parts(w, &c, &root, if next { (-2, "default") } else { (-1, "full") })?;
    let vc = vlm::part(&c, "vision_config")?;
    let tile = vc.size_opt(&["image_size"])?.unwrap_or(if next { 336 } else { 384 });
    let (patch, _) = projector.tower.patch.sides;
    let list =
        c.value(&["image_grid_pinpoints"]).ok_or_else(|| Error::invalid("config.json has no image_grid_pinpoints"))?;
    let config = |e: Error| Error::invalid(format!("config.json: {e}"));
    let names = ["image_newline", "model.image_newline"];
    let name = names.into_iter().find(|n| root.has(n)).unwrap_or(names[0]);
    let image_token =
        vlm::image_token(&c, &["image_token_index", "image_token_id"], if next { 32000 } else { 151_646 })?;
    let mut info = text.info().clone();
    info.towers.insert(Tower::Vision, projector.tower.info(projector.class)?);
    let connector = AnyResolution {
        newline: root.get(name, &[text.width()])?.unsqueeze(0)?,
        sizes: pinpoints(list).map_err(config)?,
        tile,
        patch,
        most: match next {
            true => None,
            false => most_tiles(c.word(&["vision_aspect_ratio"], "anyres_max_9")?).map_err(config)?,
        },
        projector,
    };
    Ok(Box::new(Vlm { info, connector, text, image_token }))
}

impl Connect for AnyResolution {
    fn stack(&self) -> &Stack {
        &self.projector.tower.stack
    }

    fn features(&self, image: &ImageInput, run: &mut TowerRun, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Features> {
        let (w, h) = image.original;
        let cut = AnyRes::new((w as usize, h as usize), &self.sizes, self.tile, self.patch, self.most)?;
        let (rows, cols) = cut.layout;
        if image.tiles.len() != 1 && image.tiles.len() != 1 + rows * cols {
            let e = format!("a picture of {w} x {h} gives {} tiles, not {}", 1 + rows * cols, image.tiles.len());
            return Err(Error::invalid(e));
        }
        // A picture that was not cut says itself what it shows.
        let whole = image.tiles.len() == 1 && image.rects.len() == 1;
        let rects = if whole { image.rects.clone() } else { cut.rects.clone() };
        let image = ImageInput { rects, ..image.clone() };
        let f = self.projector.of_tiles(&image, run, tap, ctx)?;
        let per_tile = f.tokens.len() / image.tiles.len();
        let mut out = Packed::new(&f);
        let mut grids: Vec<Grid> = f.grids.iter().filter(|g| g.tile == 0).cloned().collect();
        for k in 0..per_tile {
            out.keep(k, f.tokens[k].clone());
        }
        if image.tiles.len() == 1 {
            out.end();
            return out.done(&f.x, &self.newline, grids);
        }
        if per_tile != cut.side * cut.side {
            let e = format!("a tile gives {per_tile} features, not {0} x {0}", cut.side);
            return Err(Error::invalid(e));
        }
        let [top, left, ..] = cut.kept;
        let (n_rows, n_cols) = cut.grid();
        // The feature of a patch, counted over all tiles.
        let place = |r: usize, c: usize| {
            let tile = 1 + (r / cut.side) * cols + c / cut.side;
            tile * per_tile + (r % cut.side) * cut.side + c % cut.side
        };
        grids.push(Grid { rows: n_rows, cols: n_cols, first: out.tokens.len(), tile: 1, gap: 1 });
        for r in 0..n_rows {
            for c in 0..n_cols {
                let [x, y, w, h] = cut.cell(r, c);
                let named = (format!("{r},{c}"), Source::Rect { x, y, w, h });
                match cut.sampled {
                    None => out.keep(place(top + r, left + c), named),
                    Some(_) => {
                        let (rs, cs) = (between(r, n_rows, cut.kept[2]), between(c, n_cols, cut.kept[3]));
                        let mix = rs.iter().flat_map(|&(r, a)| cs.iter().map(move |&(c, b)| (r, c, a * b)));
                        let mix: Vec<(usize, f32)> = mix.map(|(r, c, by)| (place(top + r, left + c), by)).collect();
                        out.mix(&mix, named);
                    }
                }
            }
            out.end();
        }
        out.done(&f.x, &self.newline, grids)
    }
}

/// The two places of `from` that place `i` of `to` lies between, with their shares (bilinear, corners not aligned).
fn between(i: usize, to: usize, from: usize) -> [(usize, f32); 2] {
    let at = ((i as f32 + 0.5) * (from as f32 / to as f32) - 0.5).max(0.0);
    let low = (at as usize).min(from - 1);
    let by = at - low as f32;
    [(low, 1.0 - by), ((low + 1).min(from - 1), by)]
}

/// Features in the order in which the language model reads them.
struct Packed {
    /// Row of each place of the tiles; `None` where it was pruned.
    row_of: Vec<Option<usize>>,
    tokens: Vec<(String, Source)>,
    /// What each new row is made of: rows of the tiles, and the mark behind them.
    groups: Vec<Vec<(usize, f32)>>,
    /// New places that each new row stands for.
    of: Vec<Vec<usize>>,
    ends: Vec<usize>,
    /// The new row of a row of the tiles.
    made: BTreeMap<usize, usize>,
    /// Number of rows of the tiles.
    n: usize,
}

impl Packed {
    fn new(f: &Features) -> Self {
        let mut row_of = vec![None; f.tokens.len()];
        for (row, of) in f.of.iter().enumerate() {
            of.iter().for_each(|&k| row_of[k] = Some(row));
        }
        let (tokens, groups, of, ends) = Default::default();
        Self { row_of, tokens, groups, of, ends, made: BTreeMap::new(), n: f.of.len() }
    }

    /// The feature of place `k`. Places that share a row go on sharing it.
    fn keep(&mut self, k: usize, named: (String, Source)) {
        let token = self.tokens.len();
        self.tokens.push(named);
        let Some(row) = self.row_of[k] else { return };
        match self.made.get(&row) {
            Some(&new) => self.of[new].push(token),
            None => {
                self.made.insert(row, self.groups.len());
                self.groups.push(vec![(row, 1.0)]);
                self.of.push(vec![token]);
            }
        }
    }

    /// A mixture of places; those that were pruned count as zero.
    fn mix(&mut self, places: &[(usize, f32)], named: (String, Source)) {
        let group: Vec<_> = places.iter().filter_map(|&(k, by)| Some((self.row_of[k]?, by))).collect();
        if !group.is_empty() {
            self.of.push(vec![self.tokens.len()]);
            self.groups.push(group);
        }
        self.tokens.push(named);
    }

    /// The mark of a row's end.
    fn end(&mut self) {
        self.ends.push(self.tokens.len());
        self.of.push(vec![self.tokens.len()]);
        self.groups.push(vec![(self.n, 1.0)]);
        self.tokens.push(("row end".into(), Source::None));
    }

    fn done(self, x: &Tensor, newline: &Tensor, grids: Vec<Grid>) -> Result<Features> {
        let x = apply_regroup(&Tensor::cat(&[x, newline], 0)?, &Regroup::of(self.groups))?;
        Ok(Features { x, of: self.of, tokens: self.tokens, grids, ends: self.ends, ..Features::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_share_a_row_keep_it_and_ends_stand_between_rows() {
        let tokens: Vec<_> = (0..4).map(|i| (format!("{i}"), Source::None)).collect();
        // Places 0 and 2 are one row, 1 is gone, 3 is itself.
        let x = Tensor::new(&[[1f32], [2.0]], &Device::Cpu).unwrap();
        let f = Features { x: x.clone(), of: vec![vec![0, 2], vec![3]], tokens, ..Features::default() };
        let mut p = Packed::new(&f);
        for k in 0..4 {
            p.keep(k, f.tokens[k].clone());
            if k % 2 == 1 {
                p.end();
            }
        }
        p.mix(&[(0, 0.25), (1, 0.5), (3, 0.25)], ("mixed".into(), Source::None));
        let out = p.done(&x, &Tensor::new(&[[9f32]], &Device::Cpu).unwrap(), Vec::new()).unwrap();
        assert_eq!(out.of, [vec![0, 3], vec![2], vec![4], vec![5], vec![6]]);
        assert_eq!(out.x.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [1.0, 9.0, 2.0, 9.0, 0.75]);
        assert_eq!((out.ends, out.tokens.len()), (vec![2, 5], 7));
    }

    #[test]
    fn sampling_lies_between_the_two_nearest() {
        assert_eq!(between(0, 2, 4), [(0, 0.5), (1, 0.5)]);
        assert_eq!(between(1, 2, 4), [(2, 0.5), (3, 0.5)]);
        assert_eq!(between(0, 4, 2), [(0, 1.0), (1, 0.0)]);
        assert_eq!(between(3, 4, 2), [(1, 0.75), (1, 0.25)]);
    }
}
