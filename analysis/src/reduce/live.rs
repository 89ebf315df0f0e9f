//! What a pass that is under way shows to deciders.

use super::place::Place;
use super::seen::{Part, Seen};
use crate::array::Array;
use crate::model::Model;
use crate::passes::attention_map;
use crate::token::TokenKind;
use crate::trace::{Attending, AttentionRule, Held, Rows, Site, Tower};
use crate::{Error, Result, Subject};
use candle_core::Tensor;
use std::collections::BTreeMap;

/// What is known about the tokens of a tower.
pub(super) struct Tokens {
    /// Number of the token among those of the image, for image tokens.
    image: Vec<Option<usize>>,
    any_image: bool,
    /// Rows and columns of each tile's grid.
    grids: Vec<(usize, usize)>,
}

impl Tokens {
    pub fn of(on: &Subject, tower: Tower) -> Self {
        let t = on.trace.towers.get(&tower);
        let mut n = 0;
        let number = |kind| {
            (kind == TokenKind::Image).then(|| {
                n += 1;
                n - 1
            })
        };
        let image: Vec<Option<usize>> = t.map_or(Vec::new(), |t| t.tokens.iter().map(|t| t.kind).map(number).collect());
        let grids = t.map_or(Vec::new(), |t| t.grids.iter().map(|g| (g.rows, g.cols)).collect());
        Self { any_image: n > 0, image, grids }
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.image.len()
    }

    /// The tokens of the image.
    pub fn of_image(&self) -> Vec<usize> {
        (0..self.image.len()).filter(|&i| self.image[i].is_some()).collect()
    }

    /// Rows that may be touched.
    pub fn open(&self, rows: &Rows) -> Vec<usize> {
        let last = self.image.len().saturating_sub(1);
        let free = |t: &usize| match self.any_image {
            true => self.image.get(*t).is_some_and(Option::is_some),
            false => *t != 0 && *t < last,
        };
        (0..rows.len()).filter(|&r| rows.tokens[r].iter().all(free)).collect()
    }
}

/// What a layer's attention read, kept until its block is through.
pub(super) struct Read {
    pub q: Tensor,
    pub held: Vec<Held>,
    pub rule: AttentionRule,
    pub positions: Vec<usize>,
    pub sizes: Option<Vec<usize>>,
}

impl Read {
    fn rows(&self, queries: &[usize]) -> Result<Array> {
        let Self { q, held, rule, positions, sizes } = self;
        Attending { q, held, rule, positions, sizes: sizes.as_deref() }.rows(queries)
    }
}

/// What there is at one place of a pass.
pub(super) struct Live<'a> {
    pub on: &'a Subject<'a>,
    pub place: Place,
    pub tile: usize,
    pub tokens: &'a Tokens,
    pub rows: &'a Rows,
    pub waiting: &'a Rows,
    pub open: Vec<usize>,
    /// The residual stream or the features `[n, d]`; `None` once rows are among them that waited.
    pub x: Option<&'a Tensor>,
    /// What this layer's attention read; `None` once rows have changed since.
    pub read: Option<&'a Read>,
    /// Tensors of this layer that were asked for; none once rows have changed since.
    pub sites: Option<&'a BTreeMap<Site, Tensor>>,
}

impl Live<'_> {
    fn stale(&self, what: &str) -> Error {
        Error::invalid(format!("{} has no {what} of these rows; ask before other rows are made of them", self.place))
    }

    fn x(&self) -> Result<&Tensor> {
        self.x.ok_or_else(|| self.stale("values"))
    }

    fn read(&self) -> Result<&Read> {
        self.read.ok_or_else(|| self.stale("attention"))
    }

    /// What this layer's heads hold of the rows, `[key-value heads, n, e]`.
    fn held(&self, of: impl Fn(&Held) -> &Tensor) -> Result<Array> {
        let read = self.read()?;
        if read.held.iter().any(|h| h.positions.len() != self.rows.len()) {
            return Err(self.stale("keys"));
        }
        Array::from_tensor(&Tensor::cat(&read.held.iter().map(of).collect::<Vec<_>>(), 0)?)
    }

    fn model(&self) -> Result<&dyn Model> {
        self.on.model.ok_or_else(|| Error::invalid("looking ahead needs the model's weights"))
    }

    /// The class row of a layer of the full run, of all tiles, `[heads, patches]`.
    fn recorded_class_row(&self, layer: usize) -> Result<Array> {
        let vision = self.on.trace.tower(Tower::Vision)?;
        let class = vision.class_token.ok_or_else(|| Error::invalid("the image encoder has no class token"))?;
        let heads = vision.attention.get(layer).map_or(0, |a| a.n_heads);
        let mut out: Vec<f32> = Vec::new();
        for head in 0..heads {
            for (tile, grid) in vision.grids.iter().enumerate() {
                let row = attention_map::row_of_trace(self.on.trace, Tower::Vision, tile, layer, head, class)?;
                // Rows of a tile count from its own first token; before the patches stand as many in each.
                let (first, n) = (vision.grids[0].first, grid.rows * grid.cols);
                out.extend_from_slice(row.get(first..first + n).ok_or_else(|| self.stale("patches"))?);
            }
        }
        let patches = out.len() / heads.max(1);
        Array::new([heads, patches], out)
    }
}

impl Seen for Live<'_> {
    fn place(&self) -> Place {
        self.place
    }

    fn tile(&self) -> usize {
        self.tile
    }

    fn rows(&self) -> &Rows {
        self.rows
    }

    fn waiting(&self) -> &Rows {
        self.waiting
    }

    fn open(&self) -> &[usize] {
        &self.open
    }

    fn grid(&self) -> Option<(usize, usize)> {
        match self.tiles().as_slice() {
            [(0, rows, cols)] => Some((*rows, *cols)),
            _ => None,
        }
    }

    fn patches(&self, row: usize) -> Vec<usize> {
        self.rows.tokens[row].iter().filter_map(|&t| self.tokens.image.get(t).copied().flatten()).collect()
    }

    fn values(&self) -> Result<Array> {
        Array::from_tensor(self.x()?)
    }

    fn keys(&self) -> Result<Option<Array>> {
        let Some(read) = self.read else { return Ok(None) };
        let [held] = read.held.as_slice() else { return Ok(None) };
        Ok(Some(Array::from_tensor(&held.k.mean(0)?)?))
    }

    fn head_keys(&self) -> Result<Array> {
        self.held(|h| &h.k)
    }

    fn head_values(&self) -> Result<Array> {
        self.held(|h| &h.v)
    }

    fn head_queries(&self) -> Result<Array> {
        Array::from_tensor(&self.read()?.q)
    }

    fn next_queries_keys(&self) -> Result<(Array, Array)> {
        let next = self.place.layer().map_or(0, |l| l + 1);
        let (q, k) = self.model()?.queries_keys(self.place.tower(), next, self.x()?, self.rows.into())?;
        Ok((Array::from_tensor(&q)?, Array::from_tensor(&k)?))
    }

    fn normed(&self) -> Result<Array> {
        Array::from_tensor(&self.model()?.last_norm(self.x()?)?)
    }

    fn project(&self, x: &Array) -> Result<Array> {
        let model = self.model()?;
        Array::from_tensor(&model.project(&x.to_tensor(model.device())?)?)
    }

    fn hidden(&self) -> Result<Array> {
        let found = self.sites.and_then(|s| s.get(&Site::MlpHidden)).ok_or_else(|| self.stale("middle of the MLP"))?;
        Array::from_tensor(found)
    }

    fn tiles(&self) -> Vec<(usize, usize, usize)> {
        let own = match self.place {
            // The encoder reads tiles one by one.
            Place::Encoder(..) => self.tokens.grids.get(self.tile..self.tile + 1).unwrap_or_default(),
            _ => &self.tokens.grids,
        };
        let mut first = 0;
        let place = |&(rows, cols): &(usize, usize)| {
            first += rows * cols;
            (first - rows * cols, rows, cols)
        };
        let tiles = own.iter().map(place).collect();
        // Rows of an encoder with windows come in another order than their patches.
        let in_order = || self.open.iter().map(|&r| self.rows.tokens[r][0]).is_sorted();
        let whole = first == self.open.len() && self.open.iter().all(|&r| self.rows.size(r) == 1) && in_order();
        if whole { tiles } else { Vec::new() }
    }

    fn pattern(&self, queries: &[usize]) -> Result<Array> {
        self.read()?.rows(queries)
    }

    fn next_pattern(&self, queries: &[usize]) -> Result<Array> {
        let next = self.place.layer().map_or(0, |l| l + 1);
        let tower = self.place.tower();
        let rule = self.on.trace.tower(tower)?.attention.get(next);
        let rule = rule.ok_or_else(|| Error::invalid(format!("there is no layer {next} to look ahead to")))?.clone();
        let positions = self.rows.positions.clone();
        let (q, k) = self.model()?.queries_keys(tower, next, self.x()?, self.rows.into())?;
        let held = vec![Held { v: k.clone(), k, positions: positions.clone() }];
        Read { q, held, rule, positions, sizes: None }.rows(queries)
    }

    fn block(&self, part: Part) -> Result<(Array, Array)> {
        let (reads, adds) = match part {
            Part::Attention => (Site::AttnIn, Site::AttnOut),
            Part::Mlp => (Site::MlpIn, Site::MlpOut),
        };
        let get = |site| -> Result<Array> {
            let found = self.sites.and_then(|s| s.get(&site)).ok_or_else(|| self.stale("block"))?;
            Array::from_tensor(found)
        };
        Ok((get(reads)?, get(adds)?))
    }

    fn class_row(&self, layer: usize) -> Result<Array> {
        let here = matches!(self.place, Place::Encoder(l, _) if l == layer);
        let Some(read) = self.read.filter(|_| here) else { return self.recorded_class_row(layer) };
        let vision = self.on.trace.tower(Tower::Vision)?;
        let first = vision.grids.get(self.tile).map_or(0, |g| g.first - vision.grids[0].first);
        let class = vision.class_token.and_then(|c| self.rows.row_of(first + c));
        let class = class.ok_or_else(|| Error::invalid("the image encoder has no class token here"))?;
        let row = read.rows(&[class])?;
        let heads = row.shape()[0];
        let values = (0..heads).flat_map(|h| self.open.iter().map(move |&r| (h, r)));
        let n = self.rows.len();
        Array::new([heads, self.open.len()], values.map(|(h, r)| row.data()[h * n + r]).collect())
    }
}
