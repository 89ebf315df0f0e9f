//! The image tower that ViT, CLIP, SigLIP, DINOv2 and the vision-language models share: patches, class and
//! register tokens, positions, a pre-norm stack.

use super::blocks::{Attention, Config, Defaults, Linear, Norm, Pass, Scope, Stack, centres};
use super::patches::{Fit, PatchEmbed, fit_positions};
use super::{Input, Output, Patches, Tile, TowerInfo, TowerRun};
use crate::ctx::Ctx;
use crate::image::ImageInput;
use crate::token::{Grid, Source, Token, TokenKind};
use crate::trace::{At, Attending, AttentionRule, KeySet, MaskRule, Regroup, Rows, Site, Tap, Tower};
use crate::{Error, Result};
use candle_core::Tensor;
use std::ops::Range;

/// Sizes that every image encoder's configuration names alike.
pub(super) struct Sizes {
    pub d: usize,
    pub heads: usize,
    pub layers: usize,
    /// Height and width of a patch in pixels.
    pub sides: (usize, usize),
    pub channels: usize,
    /// Rows and columns of the position table, without class token.
    pub grid: (usize, usize),
}

/// What the image encoders agree on where a file says nothing.
pub(super) const BASE: Defaults = &[
    ("hidden_size", 768.0),
    ("intermediate_size", 3072.0),
    ("num_hidden_layers", 12.0),
    ("num_attention_heads", 12.0),
    ("image_size", 224.0),
    ("patch_size", 16.0),
    ("num_patches", 256.0),
];

impl Sizes {
    pub fn read(c: &Config) -> Result<Self> {
        let (height, width) = c.sides("image_size")?;
        let sides = c.sides("patch_size")?;
        Ok(Self {
            d: c.size(&["hidden_size"])?,
            heads: c.size(&["num_attention_heads"])?,
            layers: c.size(&["num_hidden_layers"])?,
            sides,
            channels: c.size_opt(&["num_channels"])?.unwrap_or(3),
            grid: (height / sides.0, width / sides.1),
        })
    }

    /// Positions of the table, without class token.
    pub fn positions(&self) -> usize {
        self.grid.0 * self.grid.1
    }
}

/// An image encoder.
pub(super) struct VisionTower {
    pub patch: PatchEmbed,
    /// Class token and others that have positions (DeiT's distillation token): `[n, d]`.
    pub leading: Option<Tensor>,
    /// Positions of the leading tokens, `[n, d]`.
    pub leading_positions: Option<Tensor>,
    /// Register tokens, which have no positions, after the leading ones.
    pub registers: Option<Tensor>,
    /// Positions of the patches, `[rows · columns, d]`.
    pub positions: Tensor,
    /// Rows and columns of that table.
    pub table: (usize, usize),
    pub fit: Fit,
    /// Norm before the first block (CLIP).
    pub pre_norm: Option<Norm>,
    pub stack: Stack,
    /// Norm after the last block.
    pub post_norm: Option<Norm>,
}

/// What one tile left.
pub(super) struct TileRun {
    /// Output of the last block `[n, d]`.
    pub raw: Tensor,
    /// The same after the final norm, where the tower has one.
    pub last: Tensor,
    pub rows: Rows,
    /// Hidden states asked for, in that order, with their rows.
    pub hidden: Vec<(Tensor, Rows)>,
    /// Grid of patches.
    pub grid: (usize, usize),
    /// Tokens that fill up the list of patches, and count for nothing.
    pub unseen: Range<usize>,
}

/// Multi-head attention of an encoder; `names` are those of q, k, v and the output projection.
pub(super) fn attention(
    s: &Scope,
    names: [&str; 4],
    (d, heads): (usize, usize),
    (qkv_bias, o_bias): (bool, bool),
    mask: MaskRule,
) -> Result<Attention> {
    let e = Config::split(d, heads, "heads")?;
    let [q, k, v, o] = names;
    Ok(Attention::new(
        [
            Linear::load(&s.sub(q), d, d, qkv_bias)?,
            Linear::load(&s.sub(k), d, d, qkv_bias)?,
            Linear::load(&s.sub(v), d, d, qkv_bias)?,
            Linear::load(&s.sub(o), d, d, o_bias)?,
        ],
        AttentionRule::new((heads, heads), e, mask),
        e,
    ))
}

/// Keeps the inputs of some layers on their way, whatever the tap behind it does.
pub(super) struct Keep<'a> {
    inner: &'a mut dyn Tap,
    layers: Vec<usize>,
    found: Vec<Option<(Tensor, Rows)>>,
}

impl<'a> Keep<'a> {
    /// Keeps what enters `layers`, behind `inner`.
    pub fn new(inner: &'a mut dyn Tap, layers: Vec<usize>) -> Self {
        Self { found: vec![None; layers.len()], inner, layers }
    }

    /// What entered each of them; `None` for one behind the last.
    pub fn found(self) -> Vec<Option<(Tensor, Rows)>> {
        self.found
    }
}

impl Tap for Keep<'_> {
    fn wants(&self, at: &At) -> bool {
        (at.site == Site::ResidPre && self.layers.contains(&at.layer)) || self.inner.wants(at)
    }
    fn pass(&mut self, at: &At, x: Tensor) -> Result<Tensor> {
        let x = if self.inner.wants(at) { self.inner.pass(at, x)? } else { x };
        for (layer, slot) in self.layers.iter().zip(&mut self.found) {
            if at.site == Site::ResidPre && *layer == at.layer {
                *slot = Some((x.clone(), at.rows.clone()));
            }
        }
        Ok(x)
    }
    fn regroup(&mut self, at: &At, x: &Tensor) -> Result<Option<Regroup>> {
        self.inner.regroup(at, x)
    }
    fn proportional_attention(&self) -> bool {
        self.inner.proportional_attention()
    }
    fn keys(&mut self, at: &At, seen: &Attending) -> Result<Option<KeySet>> {
        self.inner.keys(at, seen)
    }
}

impl VisionTower {
    /// Tokens before the patches: class, distillation and register tokens.
    pub fn n_leading(&self) -> Result<usize> {
        let count = |t: &Option<Tensor>| t.as_ref().map_or(Ok(0), |t| t.dim(0));
        Ok(count(&self.leading)? + count(&self.registers)?)
    }

    /// What the tower says about itself.
    pub fn info(&self, class_token: bool) -> Result<TowerInfo> {
        let own = Patches { grid: self.table, beside: self.n_leading()? };
        let tile = Tile { patch: self.patch.sides, own, pads: false };
        Ok(TowerInfo { tile: Some(tile), ..self.stack.info(class_token) })
    }

    /// Runs the one picture of an input, and puts its tokens, grids and attention rules into `out`.
    pub fn picture(&self, input: &Input, out: &mut Output, tap: &mut dyn Tap, ctx: &Ctx) -> Result<TileRun> {
        let mut run = TowerRun::default();
        let t = self.tile(need_image(input)?, 0, &[], &mut run, tap, ctx)?;
        out.towers.insert(Tower::Vision, run);
        Ok(t)
    }

    /// Runs one tile. `run` collects tokens, grids and attention rules; rows are numbered over all tiles.
    /// `hidden` are the indices of hidden states to keep (0 is the embedding, the number of layers the output).
    pub fn tile(
        &self,
        image: &ImageInput,
        tile: usize,
        hidden: &[usize],
        run: &mut TowerRun,
        tap: &mut dyn Tap,
        ctx: &Ctx,
    ) -> Result<TileRun> {
        // Counted over all pictures of the prompt.
        let number = run.n_tiles;
        let pixels = image.tiles.get(tile).ok_or_else(|| Error::invalid(format!("the image has no tile {tile}")))?;
        let (mut x, rows, cols) =
            if self.fit == Fit::Tent { self.listed(image, pixels)? } else { self.patch.apply(pixels)? };
        // What fills up a list stands at the first place.
        let (places, filled) =
            (fit_positions(&self.positions, self.table, (rows, cols), self.fit)?, x.dim(0)? - rows * cols);
        let first = places.narrow(0, 0, 1)?.broadcast_as((filled, places.dim(1)?))?;
        x = (x + if filled > 0 { Tensor::cat(&[&places, &first.contiguous()?], 0)? } else { places })?;
        let leading = match (&self.leading, &self.leading_positions) {
            (Some(l), Some(p)) => Some((l + p)?),
            (l, _) => l.clone(),
        };
        let parts: Vec<Tensor> = leading.into_iter().chain(self.registers.clone()).chain([x]).collect();
        x = Tensor::cat(&parts, 0)?;
        if let Some(norm) = &self.pre_norm {
            x = norm.apply(&x)?;
        }
        let (n, n_layers) = (x.dim(0)?, self.stack.blocks.len());
        let first = run.tokens.len();
        self.describe(image, (tile, number), (rows, cols), pixels.dims(), run)?;
        let padding = || Token { id: None, text: "padding".into(), kind: TokenKind::Padding, source: Source::None };
        run.tokens.extend(std::iter::repeat_with(padding).take(filled));
        // Tokens are numbered over all tiles; positions only within one.
        let rope = self.stack.blocks.first().and_then(|b| b.attention.rope.as_ref());
        let turns = match rope {
            Some(rope) if rope.is_centred() => centres(n - rows * cols, (rows, cols)),
            _ => Vec::new(),
        };
        let map = Rows { positions: (0..n).collect(), turns, ..Rows::span(first, n) };
        let mut keep = Keep::new(tap, hidden.to_vec());
        let mut pass = Pass::new(Tower::Vision, number, map, &mut keep, ctx);
        pass.unseen = first + n - filled..first + n;
        let raw = self.stack.apply(x, &mut pass)?;
        let last = match &self.post_norm {
            Some(norm) => pass.tap(Site::Final, n_layers, norm.apply(&raw)?)?,
            None => raw.clone(),
        };
        run.attention = std::mem::take(&mut pass.rules);
        run.n_tiles = number + 1;
        let map = pass.rows;
        let hidden = keep.found().into_iter().map(|f| f.unwrap_or_else(|| (raw.clone(), map.clone()))).collect();
        Ok(TileRun { raw, last, rows: map, hidden, grid: (rows, cols), unseen: first + n - filled..first + n })
    }

    /// Rows of patches that come as a list with a grid, and the grid; the list may go on with padding.
    fn listed(&self, image: &ImageInput, patches: &Tensor) -> Result<(Tensor, usize, usize)> {
        let Some([0 | 1, rows, cols]) = image.grid else {
            let e = "this model reads a list of patches and their grid (pixel_values and spatial_shapes)";
            return Err(Error::invalid(e));
        };
        let x = self.patch.apply_listed(patches)?;
        if rows.checked_mul(cols).is_none_or(|n| n == 0 || n > x.dims()[0]) {
            return Err(Error::shape("pixel_values", format!("[at least {rows} · {cols}, values]"), patches.dims()));
        }
        Ok((x, rows, cols))
    }

    /// Tokens of one tile, with the rectangles of the original image that they show.
    fn describe(
        &self,
        image: &ImageInput,
        (tile, number): (usize, usize),
        (rows, cols): (usize, usize),
        dims: &[usize],
        run: &mut TowerRun,
    ) -> Result<()> {
        let special = |text: String| Token { id: None, text, kind: TokenKind::Special, source: Source::None };
        let n_lead = self.leading.as_ref().map_or(Ok(0), |t| t.dim(0))?;
        for i in 0..n_lead {
            run.tokens.push(special(if i == 0 { "class".into() } else { "distillation".into() }));
        }
        for i in 0..self.n_leading()? - n_lead {
            run.tokens.push(special(format!("register {i}")));
        }
        let size = match (image.grid, dims) {
            (None, &[_, height, width]) => (height, width),
            _ => (rows * self.patch.sides.0, cols * self.patch.sides.1),
        };
        put_patches(image, (tile, number), (rows, cols), (self.patch.sides, size), run);
        Ok(())
    }
}

/// Adds the patches of a tile, row by row, as tokens with the rectangles of the original image that they show, and their
/// grid. A tile is known by its place in the picture and by its number among all; `sides` are height and width of a
/// patch and of the tile in its own pixels, which the last patches may reach beyond.
pub(super) fn put_patches(
    image: &ImageInput,
    (tile, number): (usize, usize),
    (rows, cols): (usize, usize),
    ((ph, pw), (height, width)): ((usize, usize), (usize, usize)),
    run: &mut TowerRun,
) {
    let (height, width) = (height as f32, width as f32);
    let [x, y, w, h] = image.rects.get(tile).copied().unwrap_or([0.0, 0.0, width, height]);
    run.grids.push(Grid { rows, cols, first: run.tokens.len(), tile: number, gap: 0 });
    let (pw, ph) = (pw as f32 * w / width, ph as f32 * h / height);
    for (r, c) in (0..rows).flat_map(|r| (0..cols).map(move |c| (r, c))) {
        let source = Source::Rect { x: x + c as f32 * pw, y: y + r as f32 * ph, w: pw, h: ph };
        run.tokens.push(Token { id: None, text: format!("patch {r},{c}"), kind: TokenKind::Image, source });
    }
}

/// The one image of an input, or an error that says that one is needed.
pub(super) fn need_image<'i>(input: &'i Input) -> Result<&'i ImageInput> {
    match &input.image {
        Some(image) if !image.rest.is_empty() => Err(Error::invalid("this model reads one picture; give it one")),
        Some(image) if !image.tiles.is_empty() => Ok(image),
        _ => Err(Error::invalid("this model reads images; give it one")),
    }
}

/// The row that holds `token`, as a vector `[1, d]`. Errors if it was pruned away.
pub(super) fn row_of(x: &Tensor, rows: &Rows, token: usize) -> Result<Tensor> {
    let row = rows.row_of(token).ok_or_else(|| Error::invalid("the token that the output is read from was pruned"))?;
    Ok(x.narrow(0, row, 1)?)
}

/// What guesses the pixels of masked patches: a map to `channels · stride²` values of a square (SimMIM; Xie et al. 2021,
/// arXiv 2111.09886).
pub(super) struct Pixels {
    map: Linear,
    stride: usize,
    channels: usize,
}

impl Pixels {
    /// Reads `decoder.0` of a model of this width.
    pub fn load(root: &Scope, c: &Config, (width, channels): (usize, usize)) -> Result<Self> {
        let (own, stride) = (root.sub("decoder.0"), c.size(&["encoder_stride"])?);
        let out = stride.checked_mul(stride).and_then(|n| n.checked_mul(channels));
        let out = out.ok_or_else(|| Error::invalid("config.json: encoder_stride is too large"))?;
        let map = own.get("weight", &[out, width, 1, 1])?.reshape((out, width))?;
        Ok(Self { map: Linear::from_matrix(&map, Some(own.get("bias", &[out])?))?, stride, channels })
    }

    /// Patches `[rows · columns, d]` → `[channels, rows · stride, columns · stride]`. Errors where patches are missing.
    pub fn apply(&self, x: &Tensor, (rows, cols): (usize, usize)) -> Result<Tensor> {
        if x.dim(0)? != rows * cols {
            return Err(Error::invalid("pixels are guessed from all patches; none may be pruned or merged"));
        }
        let (s, c) = (self.stride, self.channels);
        let x = self.map.apply(x)?.reshape(&[rows, cols, c, s, s][..])?.permute([2, 0, 3, 1, 4])?;
        Ok(x.contiguous()?.reshape((c, rows * s, cols * s))?)
    }
}

/// The rows that stand for patches alone; tokens below `first` are not patches. Errors where there are none.
pub(super) fn patch_rows(x: &Tensor, rows: &Rows, first: usize) -> Result<Tensor> {
    rows_where(x, rows, |tokens| tokens.iter().all(|&k| k >= first))
}

/// The rows that stand for more than tokens `unseen`. Errors where there are none.
pub(super) fn seen_rows(x: &Tensor, rows: &Rows, unseen: &Range<usize>) -> Result<Tensor> {
    rows_where(x, rows, |tokens| !tokens.iter().all(|k| unseen.contains(k)))
}

/// The rows whose tokens are so. Errors where there are none.
fn rows_where(x: &Tensor, rows: &Rows, is: impl Fn(&[usize]) -> bool) -> Result<Tensor> {
    let patches: Vec<u32> = (0..rows.len()).filter(|&r| is(&rows.tokens[r])).map(|r| r as u32).collect();
    if patches.is_empty() {
        return Err(Error::invalid("every patch was pruned; the model's head reads them"));
    }
    Ok(x.index_select(&Tensor::new(patches, x.device())?, 0)?)
}

/// Mean `[1, d]` of [`patch_rows`].
pub(super) fn patch_mean(x: &Tensor, rows: &Rows, first: usize) -> Result<Tensor> {
    Ok(patch_rows(x, rows, first)?.mean_keepdim(0)?)
}

/// Puts a classifier's logits `[1, labels]` into `out`, past the tap; they are read from row `row`.
pub(super) fn put_labels(
    out: &mut Output,
    logits: Tensor,
    (layer, rows, row): (usize, &Rows, usize),
    tap: &mut dyn Tap,
) -> Result<()> {
    let aside = Rows::default();
    let at = At { tower: Tower::Vision, tile: 0, step: 0, layer, site: Site::Logits, rows, aside: &aside };
    out.logits = Some(if tap.wants(&at) { tap.pass(&at, logits)? } else { logits });
    out.logit_rows = vec![row];
    Ok(())
}

/// `x / ‖x‖` of a row vector.
pub(super) fn normalise(x: &Tensor) -> Result<Tensor> {
    Ok(x.broadcast_div(&x.sqr()?.sum_keepdim(candle_core::D::Minus1)?.sqrt()?)?)
}
