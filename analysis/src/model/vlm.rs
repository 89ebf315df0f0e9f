//! What vision-language models share: image features take the place of their placeholders in the text.

use super::blocks::{Config, Deep, Pass, Scope, Stack};
use super::decoder::{Around, Decoder};
use super::{Input, Model, ModelInfo, Output, TowerRun, gemma, llama};
use crate::ctx::Ctx;
use crate::image::ImageInput;
use crate::token::{Grid, Source, Token, TokenKind};
use crate::trace::{Rows, Site, Tap, Tower};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::{Device, Tensor};

/// Features of an image, or of several one behind the other, as the language model gets them.
pub(super) struct Features {
    /// `[rows, d]`.
    pub x: Tensor,
    /// Per row: the placeholders, counted from 0 over the whole image, that it stands for.
    pub of: Vec<Vec<usize>>,
    /// Per placeholder: name and rectangle of the original image.
    pub tokens: Vec<(String, Source)>,
    /// Grids over the placeholders, `first` counted in placeholders.
    pub grids: Vec<Grid>,
    /// Time, row and column of each placeholder, counted from the image's own first one, for language models that are
    /// turned by them; empty for others.
    pub turns: Vec<[u32; 3]>,
    /// What joins the stream behind the first layers of the language model, `[rows, d]` each (Qwen3-VL).
    pub deep: Vec<Tensor>,
    /// Placeholders that mark the end of a row of patches, not patches.
    pub ends: Vec<usize>,
    /// Placeholders of each image, where there are several.
    pub images: Vec<usize>,
}

impl Default for Features {
    fn default() -> Self {
        let (of, tokens, grids, turns, deep, ends, images) = Default::default();
        // A tensor without values takes no memory and cannot fail on the CPU.
        let x = Tensor::from_slice::<_, f32>(&[], (0, 0), &Device::Cpu).expect("an empty tensor");
        Self { x, of, tokens, grids, turns, deep, ends, images }
    }
}

impl Features {
    /// These, and behind them those of another image, whose tiles are counted from `tile` on.
    fn then(mut self, next: Self, tile: usize) -> Result<Self> {
        if self.images.is_empty() {
            self.images.push(self.tokens.len());
        }
        let base = self.tokens.len();
        self.images.push(next.tokens.len());
        self.x = Tensor::cat(&[self.x, next.x], 0)?;
        self.of.extend(next.of.into_iter().map(|of| of.into_iter().map(|k| base + k).collect()));
        self.tokens.extend(next.tokens);
        self.grids.extend(next.grids.into_iter().map(|g| Grid { first: base + g.first, tile: tile + g.tile, ..g }));
        self.turns.extend(next.turns);
        self.ends.extend(next.ends.into_iter().map(|k| base + k));
        for (own, more) in self.deep.iter_mut().zip(next.deep) {
            *own = Tensor::cat(&[&*own, &more], 0)?;
        }
        Ok(self)
    }
}

/// Moves rectangles to where their image lies beside others, without the bars around it, which would lie on those.
fn beside<'a>(sources: impl Iterator<Item = &'a mut Source>, image: &ImageInput) {
    let (wide, high) = (image.original.0 as f32, image.original.1 as f32);
    for source in sources {
        if let Source::Rect { x, y, w, h } = source {
            let within = |from: f32, to: f32, side: f32| (from.clamp(0.0, side), to.clamp(0.0, side));
            let ((left, right), (top, bottom)) = (within(*x, *x + *w, wide), within(*y, *y + *h, high));
            let (x, y, w, h) = (image.at[0] + left, image.at[1] + top, right - left, bottom - top);
            *source = Source::Rect { x, y, w, h };
        }
    }
}

/// Which tokens see each other whatever the order of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Both {
    /// None.
    None,
    /// Those of the image (Gemma 3).
    Image,
    /// Those of the whole prompt (PaliGemma).
    Prompt,
}

/// How a family gets from the image tower's rows to features.
pub(super) trait Connect: Send + Sync {
    /// The blocks of the image tower.
    fn stack(&self) -> &Stack;

    /// Which tokens see each other whatever their order.
    fn both(&self) -> Both {
        Both::None
    }

    /// Position of the first token.
    fn first_position(&self) -> usize {
        0
    }

    /// Runs tower and projector over all tiles.
    fn features(&self, image: &ImageInput, run: &mut TowerRun, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Features>;

    /// As [`Model::project`].
    fn project(&self, _patches: &Tensor) -> Result<Tensor> {
        Err(Error::invalid("this model's projector reads several patches at once"))
    }

    /// As [`Model::projected_layer`].
    fn projected_layer(&self) -> Option<usize> {
        None
    }
}

/// An image tower, a connector and a language model.
pub(super) struct Vlm<C> {
    pub info: ModelInfo,
    pub connector: C,
    pub text: Decoder,
    pub image_token: u32,
}

impl<C: Connect> Vlm<C> {
    /// Features of all images, one behind the other.
    fn features(&self, images: &ImageInput, run: &mut TowerRun, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Features> {
        let mut all: Option<Features> = None;
        for image in images.all() {
            ctx.check()?;
            let (first, tile) = (run.tokens.len(), run.n_tiles);
            let mut own = self.connector.features(image, run, tap, ctx)?;
            if !images.rest.is_empty() && image.original != (0, 0) {
                beside(own.tokens.iter_mut().map(|t| &mut t.1), image);
                beside(run.tokens[first..].iter_mut().map(|t| &mut t.source), image);
            }
            all = Some(match all {
                Some(before) => before.then(own, tile)?,
                None => own,
            });
        }
        all.ok_or_else(|| Error::invalid("there is no picture"))
    }

    /// The runs of positions that see each other.
    fn seen(&self, rows: &Rows, places: &[usize], base: &Rows) -> Vec<(usize, usize)> {
        let of_image: Vec<usize> = places.iter().map(|&k| base.tokens[k][0]).collect();
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for (tokens, &p) in rows.tokens.iter().zip(&rows.positions) {
            let among = match self.connector.both() {
                Both::None => false,
                Both::Prompt => true,
                Both::Image => tokens.iter().any(|t| of_image.binary_search(t).is_ok()),
            };
            // Pruned tokens leave gaps, and what is left sees each other across them.
            match runs.last_mut() {
                Some(last) if among && rows_between(rows, last.1, p) => last.1 = p + 1,
                _ if among => runs.push((p, p + 1)),
                _ => {}
            }
        }
        runs
    }
}

/// Whether no row stands at the positions `from..to`.
fn rows_between(rows: &Rows, from: usize, to: usize) -> bool {
    let at = rows.positions.partition_point(|&p| p < from);
    rows.positions.get(at).is_none_or(|&p| p >= to)
}

impl<C: Connect> Model for Vlm<C> {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn forward(&self, input: &mut Input, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Output> {
        let Some(image) = input.image.clone() else {
            // Further on in a text the id stands for itself: a model may well write it.
            let begins = input.cache.as_ref().is_none_or(|c| c.next_position == 0);
            if begins && input.ids.contains(&self.image_token) {
                return Err(Error::invalid("the prompt has a place for an image; give the image, too"));
            }
            return self.text.forward(input, tap, ctx);
        };
        let mut vision = TowerRun::default();
        let features = self.features(&image, &mut vision, tap, ctx)?;
        let places: Vec<usize> = (0..input.ids.len()).filter(|&i| input.ids[i] == self.image_token).collect();
        if places.len() != features.tokens.len() {
            return Err(Error::invalid(format!(
                "the prompt has {} image tokens and the {} {}",
                places.len(),
                if image.rest.is_empty() { "image gives" } else { "images give" },
                features.tokens.len()
            )));
        }
        let embeds = match &input.embeds {
            Some(x) => x.clone(),
            None => self.text.embed(&input.ids)?,
        };
        let mut base = self.text.rows(input.ids.len(), input)?;
        if input.positions.is_none() && input.cache.as_ref().is_none_or(|c| c.next_position == 0) {
            base.positions.iter_mut().for_each(|p| *p += self.connector.first_position());
        }
        if !features.turns.is_empty() {
            base.turns = turns(&base, &places, &features.turns, &features.images);
        }
        let next_turn = base.turns.iter().flatten().max().map(|t| *t as usize + 1);
        // Rows of the features are tokens of the text, so that a cut here reads like one inside the language model.
        let tokens: Vec<Vec<usize>> =
            features.of.iter().map(|of| of.iter().map(|&k| base.tokens[places[k]][0]).collect()).collect();
        let positions = features.of.iter().map(|of| base.positions[places[of[0]]]).collect();
        let turns = match base.turns.is_empty() {
            true => Vec::new(),
            false => features.of.iter().map(|of| base.turns[places[of[0]]]).collect(),
        };
        let mut pass = Pass::new(Tower::Text, 0, Rows { tokens, positions, turns }, tap, ctx);
        let x = pass.tap(Site::Features, 0, features.x)?;
        let x = pass.regroup(Site::Features, 0, x, &mut None)?;
        if pass.any_aside() {
            return Err(Error::invalid("image features cannot be set aside; do so before the first layer"));
        }
        // Where the encoder gives fewer features than there are placeholders, the text closes up, as it would for a
        // model that was given the shorter sequence; a tap that regroups features says itself what it wants.
        let renumber = pass.renumbered.unwrap_or(pass.rows.len() != places.len());
        let x = self.text.features(x)?;
        let (x, rows) = join(&embeds, &x, &base, &pass.rows, &places, renumber, input)?;
        let row_of = features.of.iter().enumerate().flat_map(|(row, of)| of.iter().map(move |&k| (k, row)));
        let row_of = row_of.map(|(k, row)| (base.tokens[places[k]][0], row)).collect();
        let around = Around {
            seen: self.seen(&rows, &places, &base),
            windowed: self.connector.both() == Both::Image,
            deep: (!features.deep.is_empty()).then_some(Deep { layers: features.deep, row_of }),
        };
        let mut out = self.text.run_with(x, rows, input, around, tap, ctx)?;
        if let (Some(next), Some(cache)) = (next_turn, input.cache.as_deref_mut()) {
            cache.turn_ahead = Some(next as isize - cache.next_position as isize);
        }
        let own = out.towers.entry(Tower::Text).or_default();
        own.tokens = input
            .ids
            .iter()
            .map(|&id| Token { id: Some(id), text: String::new(), kind: TokenKind::Text, source: Source::None })
            .collect();
        for (k, (&place, (name, source))) in places.iter().zip(&features.tokens).enumerate() {
            let t = &mut own.tokens[place];
            let kind = if features.ends.contains(&k) { TokenKind::Special } else { TokenKind::Image };
            (t.text, t.kind, t.source) = (name.clone(), kind, *source);
        }
        own.grids = features.grids.into_iter().map(|g| Grid { first: places[g.first], ..g }).collect();
        out.towers.insert(Tower::Vision, vision);
        Ok(out)
    }

    fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        self.text.embed(ids)
    }

    fn stack(&self, tower: Tower) -> Result<&Stack> {
        match tower {
            Tower::Vision => Ok(self.connector.stack()),
            Tower::Text => self.text.stack(tower),
        }
    }

    fn lens(&self, resid: &Tensor) -> Result<Tensor> {
        self.text.lens(resid)
    }

    fn last_norm(&self, resid: &Tensor) -> Result<Tensor> {
        self.text.last_norm(resid)
    }

    fn project(&self, patches: &Tensor) -> Result<Tensor> {
        self.connector.project(patches)
    }

    fn projected_layer(&self) -> Option<usize> {
        self.connector.projected_layer()
    }

    fn image_token(&self) -> Option<u32> {
        Some(self.image_token)
    }

    fn device(&self) -> &Device {
        self.text.device()
    }
}

/// Time, row and column of every token: those of a text are the same, and count on behind the largest of the image
/// before. `images` are the placeholders of each image, where there are several.
fn turns(base: &Rows, places: &[usize], own: &[[u32; 3]], images: &[usize]) -> Vec<[u32; 3]> {
    let first = base.turns.first().map(|t| t[0]);
    let mut next = first.or(base.positions.first().map(|p| *p as u32)).unwrap_or(0);
    let (mut out, mut seen) = (Vec::with_capacity(base.len()), 0);
    let mut images = images.iter().copied().chain(std::iter::repeat(usize::MAX));
    while out.len() < base.len() {
        let first = places.get(seen).copied().unwrap_or(base.len());
        while out.len() < first {
            out.push([next; 3]);
            next += 1;
        }
        // Placeholders side by side are one image, as far as it reaches.
        let (start, end) = (next, seen.saturating_add(images.next().unwrap_or(usize::MAX)));
        while seen < end && places.get(seen) == Some(&out.len()) {
            let at = own[seen].map(|t| start + t);
            next = next.max(at.into_iter().max().unwrap_or(0) + 1);
            out.push(at);
            seen += 1;
        }
    }
    out
}

/// The id that stands for an image, by the first of `keys` that `config.json` has.
pub(super) fn image_token(c: &Config, keys: &[&str], default: u64) -> Result<u32> {
    c.value(keys)
        .map_or(Some(default), serde_json::Value::as_u64)
        .and_then(|v| u32::try_from(v).ok())
        .ok_or_else(|| Error::invalid(format!("config.json: {} is not a token id", keys[0])))
}

/// The language model of a family that takes any, with the names of its own and its head's parts; `tied` says whether
/// the token table serves as head.
pub(super) fn text(w: &Weights, c: &Config, root: &Scope, names: (&str, &str), tied: bool) -> Result<Decoder> {
    match c.word(&["model_type"], "llama")? {
        "gemma" | "gemma2" | "gemma3_text" => gemma::decoder(w, c, root, names, gemma::Within::Other(tied)),
        _ => llama::decoder(w, c, root, names, tied),
    }
}

/// A part of `config.json` that a vision-language model cannot do without.
pub(super) fn part<'a>(c: &Config<'a>, name: &str) -> Result<Config<'a>> {
    c.sub(name).ok_or_else(|| Error::invalid(format!("config.json has no {name}")))
}

/// Text rows and feature rows in the order of their tokens, with positions counted anew where `renumber` says so.
fn join(
    embeds: &Tensor,
    features: &Tensor,
    base: &Rows,
    of: &Rows,
    places: &[usize],
    renumber: bool,
    input: &Input,
) -> Result<(Tensor, Rows)> {
    let n = base.len();
    if of.len() != places.len() && input.mask.is_some() {
        return Err(Error::invalid("image features cannot be pruned under a mask that lists rows"));
    }
    // First token, row of embeds stacked on features, and which row of either map it is.
    let mut all: Vec<(usize, u32, &Rows, usize)> =
        (0..n).filter(|i| places.binary_search(i).is_err()).map(|i| (base.tokens[i][0], i as u32, base, i)).collect();
    for (i, tokens) in of.tokens.iter().enumerate() {
        all.push((tokens.iter().min().copied().unwrap_or(0), (n + i) as u32, of, i));
    }
    all.sort_by_key(|r| r.0);
    let ids: Vec<u32> = all.iter().map(|r| r.1).collect();
    let stacked = Tensor::cat(&[embeds, features], 0)?;
    let x = stacked.index_select(&Tensor::new(ids, stacked.device())?, 0)?;
    let start = base.positions.first().copied().unwrap_or(0);
    let position = |(i, r): (usize, &(usize, u32, &Rows, usize))| if renumber { start + i } else { r.2.positions[r.3] };
    Ok((
        x,
        Rows {
            tokens: all.iter().map(|r| r.2.tokens[r.3].clone()).collect(),
            positions: all.iter().enumerate().map(position).collect(),
            turns: all.iter().filter_map(|r| r.2.turns.get(r.3).copied()).collect(),
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_counts_on_behind_each_image_and_images_side_by_side_are_told_apart() {
        // Text, an image of one row of two, another one of two rows of one right behind it, text.
        let own = [[0, 0, 0], [0, 0, 1], [0, 0, 0], [0, 1, 0]];
        let got = turns(&Rows::span(0, 6), &[1, 2, 3, 4], &own, &[2, 2]);
        assert_eq!(got, [[0; 3], [1, 1, 1], [1, 1, 2], [3, 3, 3], [3, 4, 3], [5; 3]]);
        let got = turns(&Rows::span(0, 3), &[1, 2], &own[..2], &[]);
        assert_eq!(got, [[0; 3], [1, 1, 1], [1, 1, 2]]);
    }
}
