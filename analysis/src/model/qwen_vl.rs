//! Qwen2-VL, Qwen2.5-VL and Qwen3-VL: a picture of any size as a list of patches, 2 x 2 of which become one token; the
//! image tower is turned by rows and columns, the language model by time, rows and columns.
//! Wang et al. 2024, arXiv 2409.12191; Bai et al. 2025, 2502.13923; 2511.21631.

use super::blocks::{
    Activation, Attention, Block, Config, Defaults, Linear, Mlp, Norm, Order, Pass, Rope, Scope, Stack,
};
use super::vision::Keep;
use super::vlm::{self, Connect, Features, Vlm};
use super::{Model, Patches, Tile, TowerInfo, TowerRun, llama};
use crate::ctx::Ctx;
use crate::image::ImageInput;
use crate::token::{Grid, Source, Token, TokenKind};
use crate::trace::{AttentionRule, MaskRule, Rows, Tap, Tower};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use serde_json::Value;

const QWEN2: Defaults = &[("depth", 32.0), ("embed_dim", 1280.0), ("hidden_size", 3584.0), ("num_heads", 16.0)];
const QWEN25: Defaults =
    &[("depth", 32.0), ("hidden_size", 3584.0), ("intermediate_size", 3420.0), ("num_heads", 16.0)];
const QWEN3: Defaults = &[("depth", 27.0), ("hidden_size", 1152.0), ("intermediate_size", 4304.0), ("num_heads", 16.0)];

/// Which of the three it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Two,
    TwoFive,
    Three,
}

/// Tokens of a picture of which nothing is known yet: those of one of half a megapixel or so.
const OWN_TOKENS: usize = 576;

/// From merged patches to what the language model reads.
struct Merger {
    norm: Norm,
    /// Whether the norm is of all patches of a token together, and not of each.
    together: bool,
    first: Linear,
    second: Linear,
}

/// Layers that attend within windows.
struct Windows {
    /// Merged patches of a window's side.
    side: usize,
    /// Layers that see everything.
    whole: Vec<usize>,
}

struct QwenTower {
    patch: Linear,
    stack: Stack,
    /// Patches of a token's side.
    merge: usize,
    windows: Option<Windows>,
    /// Learned positions `[side · side, d]` that are brought to the picture's grid (Qwen3-VL).
    positions: Option<Tensor>,
    merger: Merger,
    /// Layers behind which features are read that join the language model's first layers, and what brings them there.
    deep: Vec<(usize, Merger)>,
}

/// Loads a checkpoint.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config());
    let kind = match c.word(&["model_type"], "qwen2_vl")? {
        "qwen2_vl" => Kind::Two,
        "qwen2_5_vl" => Kind::TwoFive,
        _ => Kind::Three,
    };
    let root = Scope::root(w, device);
    // Files of transformers 4 have the text's settings beside the vision's.
    let tc = c.sub("text_config").unwrap_or(c);
    let names = ["model.language_model", "language_model.model", "model"];
    let base = names.into_iter().find(|n| root.has(&format!("{n}.embed_tokens.weight"))).unwrap_or("model");
    let text = llama::decoder(w, &tc, &root, (base, "lm_head"), c.flag(&["tie_word_embeddings"], false)?)?;
    let vc = vlm::part(&c, "vision_config")?.with(match kind {
        Kind::Two => QWEN2,
        Kind::TwoFive => QWEN25,
        Kind::Three => QWEN3,
    });
    let connector =
        tower(&root.first(&["model.visual", "visual"], "patch_embed.proj.weight"), &vc, kind, text.width())?;
    let image_token = vlm::image_token(&c, &["image_token_id"], 151_655)?;
    let mut info = text.info().clone();
    // Pictures are read as large as they are; a token of the text stands for a square of patches.
    let side = vc.size_opt(&["patch_size"])?.unwrap_or(if kind == Kind::Three { 16 } else { 14 });
    let own = Patches { grid: (OWN_TOKENS * connector.merge, connector.merge), beside: 0 };
    let tile = Tile { patch: (side, side), own, pads: false };
    info.towers.insert(Tower::Vision, TowerInfo { tile: Some(tile), ..connector.stack.info(false) });
    Ok(Box::new(Vlm { info, connector, text, image_token }))
}

fn tower(s: &Scope, c: &Config, kind: Kind, out: usize) -> Result<QwenTower> {
    let (d, inner) = match kind {
        Kind::Two => {
            let d = c.size(&["embed_dim"])?;
            (d, (d as f64 * c.number(&["mlp_ratio"], 4.0)?) as usize)
        }
        _ => (c.size(&["hidden_size"])?, c.size(&["intermediate_size"])?),
    };
    let own = match kind {
        Kind::Two => c.size(&["hidden_size"])?,
        _ => c.size_opt(&["out_hidden_size"])?.unwrap_or(3584),
    };
    if own != out {
        let e = format!("config.json: the image tower gives rows of {own}, the language model reads rows of {out}");
        return Err(Error::invalid(e));
    }
    let h = c.size(&["num_heads"])?;
    let e = Config::split(d, h, "heads")?;
    let side = c.size_opt(&["patch_size"])?.unwrap_or(if kind == Kind::Three { 16 } else { 14 });
    let frames = c.size_opt(&["temporal_patch_size"])?.unwrap_or(2);
    let channels = c.size_opt(&["in_channels", "in_chans"])?.unwrap_or(3);
    let merge = c.size_opt(&["spatial_merge_size"])?.unwrap_or(2);
    let act = match kind {
        Kind::Two => "quick_gelu",
        Kind::TwoFive => "silu",
        Kind::Three => "gelu_pytorch_tanh",
    };
    let act = Activation::parse(c.word(&["hidden_act"], act)?)?;
    let theta = c.sub("rope_parameters").map_or(Ok(10_000.0), |p| p.number(&["rope_theta"], 10_000.0))?;
    let rope = Rope::of_grid(theta, e)?;
    let norm = |s: &Scope, d: usize| match kind {
        Kind::TwoFive => Norm::rms(s, d, 1e-6),
        _ => Norm::layer(s, d, 1e-6),
    };
    let mut blocks = Vec::new();
    for i in 0..c.size(&["depth"])? {
        let b = s.sub(format!("blocks.{i}"));
        let (a, m) = (b.sub("attn"), b.sub("mlp"));
        let all = Linear::load(&a.sub("qkv"), d, 3 * d, true)?;
        let map = |name: &str, from: usize, to: usize| Linear::load(&m.sub(name), from, to, true);
        let mlp = match kind {
            Kind::Two => Mlp { gate: None, up: map("fc1", d, inner)?, down: map("fc2", inner, d)?, act },
            Kind::TwoFive => Mlp {
                gate: Some(map("gate_proj", d, inner)?),
                up: map("up_proj", d, inner)?,
                down: map("down_proj", inner, d)?,
                act,
            },
            Kind::Three => {
                Mlp { gate: None, up: map("linear_fc1", d, inner)?, down: map("linear_fc2", inner, d)?, act }
            }
        };
        blocks.push(Block {
            norm1: norm(&b.sub("norm1"), d)?,
            attention: Attention {
                rope: Some(rope.clone()),
                ..Attention::new(
                    [
                        all.slice(0, d)?,
                        all.slice(d, d)?,
                        all.slice(2 * d, d)?,
                        Linear::load(&a.sub("proj"), d, d, true)?,
                    ],
                    AttentionRule::new((h, h), e, MaskRule::Bidirectional),
                    e,
                )
            },
            norm2: norm(&b.sub("norm2"), d)?,
            mlp: mlp.into(),
            after1: None,
            after2: None,
        });
    }
    // Numbers that no layer has name none.
    let layers = |key: &str, default: &[u64]| -> Result<Vec<u64>> {
        let Some(v) = c.value(&[key]) else { return Ok(default.to_vec()) };
        let list: Option<Vec<u64>> = v.as_array().and_then(|l| l.iter().map(Value::as_u64).collect());
        list.ok_or_else(|| Error::invalid(format!("config.json: {key} is not a list of layers of the image tower")))
    };
    let windows = match kind {
        Kind::TwoFive => {
            let side = c.size_opt(&["window_size"])?.unwrap_or(112) / merge / side;
            if side == 0 {
                return Err(Error::invalid("config.json: window_size is smaller than a merged patch"));
            }
            let whole = layers("fullatt_block_indexes", &[7, 15, 23, 31])?;
            Some(Windows { side, whole: (0..blocks.len()).filter(|i| whole.contains(&(*i as u64))).collect() })
        }
        _ => None,
    };
    let p = s.sub("patch_embed.proj");
    let values = channels * frames * side * side;
    let weight = p.get("weight", &[d, channels, frames, side, side])?.reshape((d, values))?;
    let bias = p.has("bias").then(|| p.get("bias", &[d])).transpose()?;
    let positions = match kind {
        Kind::Three => {
            let n = c.size_opt(&["num_position_embeddings"])?.unwrap_or(2304);
            Some(s.get("pos_embed.weight", &[n, d])?)
        }
        _ => None,
    };
    let wide = d * merge * merge;
    let merger = |m: &Scope, together: bool| -> Result<Merger> {
        let names = if kind == Kind::Three { ["norm", "linear_fc1", "linear_fc2"] } else { ["ln_q", "mlp.0", "mlp.2"] };
        Ok(Merger {
            norm: norm(&m.sub(names[0]), if together { wide } else { d })?,
            together,
            first: Linear::load(&m.sub(names[1]), wide, wide, true)?,
            second: Linear::load(&m.sub(names[2]), wide, out, true)?,
        })
    };
    let mut deep = Vec::new();
    if kind == Kind::Three {
        // A layer's place in the list says which merger reads it; features join in the order of the layers.
        let listed = layers("deepstack_visual_indexes", &[8, 16, 24])?;
        for layer in 0..blocks.len() {
            if let Some(i) = listed.iter().position(|&l| l == layer as u64) {
                deep.push((layer, merger(&s.sub(format!("deepstack_merger_list.{i}")), true)?));
            }
        }
    }
    Ok(QwenTower {
        patch: Linear::from_matrix(&weight, bias)?,
        merger: merger(&s.sub("merger"), false)?,
        stack: Stack { blocks, order: Order::PreNorm, width: d },
        merge,
        windows,
        positions,
        deep,
    })
}

impl Merger {
    /// Rows `[n, d]` of the tower → tokens. `places` are the rows of each token's patches, `n` where one was pruned:
    /// it counts as zero.
    fn apply(&self, x: &Tensor, places: &[u32], wide: usize) -> Result<Tensor> {
        let x = if self.together { x.clone() } else { self.norm.apply(x)? };
        let zero = Tensor::zeros((1, x.dim(1)?), x.dtype(), x.device())?;
        let x = Tensor::cat(&[x, zero], 0)?.index_select(&Tensor::new(places, self.first.device())?, 0)?;
        let x = x.reshape((x.elem_count() / wide, wide))?;
        let x = if self.together { self.norm.apply(&x)? } else { x };
        self.second.apply(&Activation::Gelu.apply(&self.first.apply(&x)?)?)
    }
}

/// Frames, rows and columns of patches, and in which order the tower reads them.
struct Layout {
    grid: [usize; 3],
    /// Frame, row and column of each of the tower's rows.
    at: Vec<[usize; 3]>,
    /// Place of each in the file's order, in which the patches of a token follow each other.
    from: Vec<u32>,
    /// Where windows begin and end, in patches.
    edges: Vec<usize>,
}

impl Layout {
    /// `window` merged patches of a side form a window; without it the order is the file's.
    fn new(grid: [usize; 3], merge: usize, window: Option<usize>) -> Result<Self> {
        let [t, rows, cols] = grid;
        if t * rows * cols == 0 || !rows.is_multiple_of(merge) || !cols.is_multiple_of(merge) {
            return Err(Error::invalid(format!("a grid of {rows} x {cols} patches does not divide by {merge}")));
        }
        let (mr, mc) = (rows / merge, cols / merge);
        let (wr, wc) = window.map_or((mr, mc), |w| (w, w));
        let (mut at, mut from, mut edges) = (Vec::new(), Vec::new(), Vec::new());
        for frame in 0..t {
            for (top, left) in (0..mr).step_by(wr).flat_map(|r| (0..mc).step_by(wc).map(move |c| (r, c))) {
                edges.push(at.len());
                for (r, c) in (top..(top + wr).min(mr)).flat_map(|r| (left..(left + wc).min(mc)).map(move |c| (r, c))) {
                    let token = (frame * mr + r) * mc + c;
                    for k in 0..merge * merge {
                        at.push([frame, r * merge + k / merge, c * merge + k % merge]);
                        from.push((token * merge * merge + k) as u32);
                    }
                }
            }
        }
        edges.push(at.len());
        Ok(Self { grid, at, from, edges })
    }

    /// Index of a patch among all, row by row.
    fn index(&self, [t, r, c]: [usize; 3]) -> usize {
        (t * self.grid[1] + r) * self.grid[2] + c
    }
}

impl QwenTower {
    /// Learned positions for every row, from a square table, by the four nearest.
    fn positions(&self, layout: &Layout) -> Result<Option<Tensor>> {
        let Some(table) = &self.positions else { return Ok(None) };
        let side = table.dim(0)?.isqrt();
        let step = |i: usize, n: usize| if n > 1 { i as f32 * ((side - 1) as f32 / (n - 1) as f32) } else { 0.0 };
        let mut sum: Option<Tensor> = None;
        for corner in 0..4 {
            let (mut ids, mut by) = (Vec::new(), Vec::new());
            for &[_, r, c] in &layout.at {
                let (y, x) = (step(r, layout.grid[1]), step(c, layout.grid[2]));
                let (dy, dx) = (y - y.floor(), x - x.floor());
                let pick = |v: f32, d: f32, next: bool| {
                    let i = (v as usize + usize::from(next)).min(side - 1);
                    (i, if next { d } else { 1.0 - d })
                };
                let ((i, a), (j, b)) = (pick(y, dy, corner / 2 == 1), pick(x, dx, corner % 2 == 1));
                ids.push((i * side + j) as u32);
                by.push(a * b);
            }
            let n = by.len();
            let part = table.index_select(&Tensor::new(ids, table.device())?, 0)?;
            let part = part.broadcast_mul(&Tensor::from_vec(by, (n, 1), table.device())?)?;
            sum = Some(match sum {
                Some(s) => (s + part)?,
                None => part,
            });
        }
        Ok(sum)
    }

    /// The mask of each layer: within a frame, or within a window. Positions are counted from `first` on.
    fn masks(&self, layout: &Layout, first: usize) -> Vec<Option<MaskRule>> {
        let per_frame = layout.grid[1] * layout.grid[2];
        let frames = (0..=layout.grid[0]).map(|f| first + f * per_frame);
        let frames = (layout.grid[0] > 1).then(|| MaskRule::Windows(frames.collect()));
        let edges = || layout.edges.iter().map(|e| first + e).collect();
        let within = self.windows.as_ref().map(|w| (w, MaskRule::Windows(edges())));
        (0..self.stack.blocks.len())
            .map(|i| match &within {
                Some((w, mask)) if !w.whole.contains(&i) => Some(mask.clone()),
                _ => frames.clone(),
            })
            .collect()
    }

    /// The tokens of a picture, and its grids under the number that its arrays have.
    fn describe(&self, image: &ImageInput, layout: &Layout, run: &mut TowerRun) {
        let [t, rows, cols] = layout.grid;
        let whole = [0.0, 0.0, cols as f32, rows as f32];
        let [x, y, w, h] = image.rects.first().copied().unwrap_or(whole);
        let (pw, ph) = (w / cols as f32, h / rows as f32);
        for frame in 0..t {
            run.grids.push(Grid { rows, cols, first: run.tokens.len(), tile: run.n_tiles + frame, gap: 0 });
            for (r, c) in (0..rows).flat_map(|r| (0..cols).map(move |c| (r, c))) {
                let source = Source::Rect { x: x + c as f32 * pw, y: y + r as f32 * ph, w: pw, h: ph };
                run.tokens.push(Token { id: None, text: format!("patch {r},{c}"), kind: TokenKind::Image, source });
            }
        }
    }
}

impl Connect for QwenTower {
    fn stack(&self) -> &Stack {
        &self.stack
    }

    fn features(&self, image: &ImageInput, run: &mut TowerRun, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Features> {
        let (Some(grid), [patches]) = (image.grid, image.tiles.as_slice()) else {
            return Err(Error::invalid(
                "this model reads a list of flattened patches and their grid (pixel_values and image_grid_thw)",
            ));
        };
        let layout = Layout::new(grid, self.merge, self.windows.as_ref().map(|w| w.side))?;
        let values = self.patch.inputs()?;
        if patches.dims() != [layout.at.len(), values] {
            return Err(Error::shape("pixel_values", format!("[{}, {values}]", layout.at.len()), patches.dims()));
        }
        let device = self.patch.device();
        let order = Tensor::new(layout.from.as_slice(), patches.device())?;
        let mut x = self.patch.apply_in(&patches.index_select(&order, 0)?.to_device(device)?, ctx)?;
        if let Some(p) = self.positions(&layout)? {
            x = (x + p)?;
        }
        // Tokens and positions are counted over all pictures of the prompt, so that one rule serves the arrays of each.
        let (first, number) = (run.tokens.len(), run.n_tiles);
        self.describe(image, &layout, run);
        // Tokens are numbered row by row, whatever order the tower reads them in.
        let rows = Rows {
            tokens: layout.at.iter().map(|&at| vec![first + layout.index(at)]).collect(),
            positions: (first..first + layout.at.len()).collect(),
            turns: layout.at.iter().map(|&[_, r, c]| [0, r as u32, c as u32]).collect(),
        };
        // What a layer gives is what the next one reads.
        let mut keep = Keep::new(tap, self.deep.iter().map(|d| d.0 + 1).collect());
        let mut pass = Pass::new(Tower::Vision, number, rows, &mut keep, ctx);
        pass.masks = self.masks(&layout, first);
        let x = self.stack.apply(x, &mut pass)?;
        run.attention = of_both(std::mem::take(&mut run.attention), std::mem::take(&mut pass.rules));
        run.n_tiles = number + 1;
        let rows = pass.rows;
        let (m, wide) = (self.merge, self.stack.width * self.merge * self.merge);
        let [t, n_rows, n_cols] = [grid[0], grid[1] / m, grid[2] / m];
        let mut out = Features::default();
        let mut places = Vec::new();
        for (frame, r, c) in (0..t).flat_map(|f| (0..n_rows).flat_map(move |r| (0..n_cols).map(move |c| (f, r, c)))) {
            let patches: Vec<usize> = (0..m * m).map(|k| layout.index([frame, r * m + k / m, c * m + k % m])).collect();
            places.push(patches.clone());
            let source = match run.tokens[first + patches[0]].source {
                Source::Rect { x, y, w, h } => Source::Rect { x, y, w: w * m as f32, h: h * m as f32 },
                other => other,
            };
            out.of.push(vec![out.tokens.len()]);
            out.tokens.push((format!("{r},{c}"), source));
            out.turns.push([frame as u32, r as u32, c as u32]);
        }
        out.grids =
            (0..t).map(|f| Grid { rows: n_rows, cols: n_cols, first: f * n_rows * n_cols, tile: f, gap: 0 }).collect();
        let rows_of = |rows: &Rows| -> Vec<u32> {
            let mut row_of = vec![rows.len() as u32; layout.at.len()];
            for (row, tokens) in rows.tokens.iter().enumerate() {
                tokens.iter().for_each(|&k| row_of[k - first] = row as u32);
            }
            places.iter().flatten().map(|&k| row_of[k]).collect()
        };
        out.x = self.merger.apply(&x, &rows_of(&rows), wide)?;
        for ((_, merger), found) in self.deep.iter().zip(keep.found()) {
            let (x, rows) = found.unwrap_or_else(|| (x.clone(), rows.clone()));
            out.deep.push(merger.apply(&x, &rows_of(&rows), wide)?);
        }
        Ok(out)
    }
}

/// The rules of layers that read pictures one by one: windows of either stand one behind the other.
fn of_both(before: Vec<AttentionRule>, mut own: Vec<AttentionRule>) -> Vec<AttentionRule> {
    for (a, b) in before.into_iter().zip(&mut own) {
        b.mask = match (a.mask, std::mem::replace(&mut b.mask, MaskRule::Bidirectional)) {
            (MaskRule::Windows(mut edges), MaskRule::Windows(more)) => {
                edges.extend(more);
                edges.dedup();
                MaskRule::Windows(edges)
            }
            (windows @ MaskRule::Windows(_), MaskRule::Bidirectional) => windows,
            (_, other) => other,
        };
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_read_one_after_the_other_and_merged_patches_stay_together() {
        // 4 x 6 patches, 2 x 2 merged: 2 x 3 tokens, windows of 2 x 2 of them, the last one narrower.
        let l = Layout::new([1, 4, 6], 2, Some(2)).unwrap();
        assert_eq!(l.edges, [0, 16, 24]);
        assert_eq!(l.at[..5], [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1], [0, 0, 2]]);
        // The third token of the window is the first of the second row: the fourth in the file.
        assert_eq!((l.at[8], l.from[8]), ([0, 2, 0], 12));
        assert_eq!((l.at[16], l.from[16], l.index(l.at[16])), ([0, 0, 4], 8, 4));
        let plain = Layout::new([2, 2, 4], 2, None).unwrap();
        assert_eq!((plain.edges.as_slice(), plain.from.iter().copied().is_sorted()), ([0, 8, 16].as_slice(), true));
        assert!(Layout::new([1, 3, 4], 2, None).is_err());
    }

    #[test]
    fn windows_of_two_pictures_stand_one_behind_the_other() {
        let rule = |mask| AttentionRule { n_heads: 1, n_kv_heads: 1, scale: 1.0, mask, soft_cap: None, sinks: None };
        let all = |a, b| of_both(vec![rule(a)], vec![rule(b)]).remove(0).mask;
        let (first, second) = (MaskRule::Windows(vec![0, 4, 6]), MaskRule::Windows(vec![6, 8]));
        assert_eq!(all(first.clone(), second.clone()), MaskRule::Windows(vec![0, 4, 6, 8]));
        // A picture that is no windows at all lies in one of its own.
        assert_eq!(all(first.clone(), MaskRule::Bidirectional), first);
        assert_eq!(all(MaskRule::Bidirectional, second.clone()), second);
        assert_eq!(of_both(Vec::new(), vec![rule(second.clone())]).len(), 1);
    }
}
