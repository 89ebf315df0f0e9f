//! What vision-language models share: image features take the place of their placeholders in the text.

use super::blocks::{Pass, Stack};
use super::decoder::Decoder;
use super::vision::VisionTower;
use super::{Input, Model, ModelInfo, Output, TowerRun};
use crate::ctx::Ctx;
use crate::image::ImageInput;
use crate::token::{Grid, Source, Token, TokenKind};
use crate::trace::{Rows, Site, Tap, Tower};
use crate::{Error, Result};
use candle_core::{Device, Tensor};

/// Features of the whole image as the language model gets them.
pub(super) struct Features {
    /// `[rows, d]`.
    pub x: Tensor,
    /// Per row: the placeholders, counted from 0 over the whole image, that it stands for.
    pub of: Vec<Vec<usize>>,
    /// Per placeholder: name and rectangle of the original image.
    pub tokens: Vec<(String, Source)>,
    /// Grids over the placeholders, `first` counted in placeholders.
    pub grids: Vec<Grid>,
}

/// How a family gets from the image tower's rows to features.
pub(super) trait Connect: Send + Sync {
    /// Runs tower and projector over all tiles.
    fn features(
        &self,
        tower: &VisionTower,
        image: &ImageInput,
        run: &mut TowerRun,
        tap: &mut dyn Tap,
        ctx: &Ctx,
    ) -> Result<Features>;
}

/// An image tower, a connector and a language model.
pub(super) struct Vlm<C> {
    pub info: ModelInfo,
    pub tower: VisionTower,
    pub connector: C,
    pub text: Decoder,
    pub image_token: u32,
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
        let features = self.connector.features(&self.tower, &image, &mut vision, tap, ctx)?;
        let places: Vec<usize> = (0..input.ids.len()).filter(|&i| input.ids[i] == self.image_token).collect();
        if places.len() != features.tokens.len() {
            return Err(Error::invalid(format!(
                "the prompt has {} image tokens and the image gives {}",
                places.len(),
                features.tokens.len()
            )));
        }
        let embeds = match &input.embeds {
            Some(x) => x.clone(),
            None => self.text.embed(&input.ids)?,
        };
        let base = self.text.rows(input.ids.len(), input)?;
        // Rows of the features are tokens of the text, so that a cut here reads like one inside the language model.
        let tokens: Vec<Vec<usize>> =
            features.of.iter().map(|of| of.iter().map(|&k| base.tokens[places[k]][0]).collect()).collect();
        let positions = features.of.iter().map(|of| base.positions[places[of[0]]]).collect();
        let mut pass = Pass::new(Tower::Text, 0, Rows { tokens, positions }, tap, ctx);
        let x = pass.tap(Site::Features, 0, features.x)?;
        let x = pass.regroup(Site::Features, 0, x, &mut None)?;
        if pass.any_aside() {
            return Err(Error::invalid("image features cannot be set aside; do so before the first layer"));
        }
        // Where the encoder gives fewer features than there are placeholders, the text closes up, as it would for a
        // model that was given the shorter sequence; a tap that regroups features says itself what it wants.
        let renumber = pass.renumbered.unwrap_or(pass.rows.len() != places.len());
        let (x, rows) = join(&embeds, &x, &base, &pass.rows, &places, renumber, input)?;
        let mut out = self.text.run(x, rows, input, tap, ctx)?;
        let own = out.towers.entry(Tower::Text).or_default();
        own.tokens = input
            .ids
            .iter()
            .map(|&id| Token { id: Some(id), text: String::new(), kind: TokenKind::Text, source: Source::None })
            .collect();
        for (&place, (name, source)) in places.iter().zip(&features.tokens) {
            let t = &mut own.tokens[place];
            (t.text, t.kind, t.source) = (name.clone(), TokenKind::Image, *source);
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
            Tower::Vision => Ok(&self.tower.stack),
            Tower::Text => self.text.stack(tower),
        }
    }

    fn lens(&self, resid: &Tensor) -> Result<Tensor> {
        self.text.lens(resid)
    }

    fn image_token(&self) -> Option<u32> {
        Some(self.image_token)
    }

    fn device(&self) -> &Device {
        self.text.device()
    }
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
    // (first token, row of embeds stacked on features, tokens, position)
    let mut all: Vec<(usize, u32, Vec<usize>, usize)> = (0..n)
        .filter(|i| places.binary_search(i).is_err())
        .map(|i| (base.tokens[i][0], i as u32, base.tokens[i].clone(), base.positions[i]))
        .collect();
    for (i, tokens) in of.tokens.iter().enumerate() {
        let first = tokens.iter().min().copied().unwrap_or(0);
        all.push((first, (n + i) as u32, tokens.clone(), of.positions[i]));
    }
    all.sort_by_key(|r| r.0);
    let ids: Vec<u32> = all.iter().map(|r| r.1).collect();
    let stacked = Tensor::cat(&[embeds, features], 0)?;
    let x = stacked.index_select(&Tensor::new(ids, stacked.device())?, 0)?;
    let start = base.positions.first().copied().unwrap_or(0);
    let positions = all.iter().enumerate().map(|(i, r)| if renumber { start + i } else { r.3 }).collect();
    Ok((x, Rows { tokens: all.into_iter().map(|r| r.2).collect(), positions }))
}
