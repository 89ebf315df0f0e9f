//! How much the class token of an image encoder looks at each patch: the class row, mean over heads.
//!
//! Source: plain baseline. Takes: queries and keys of one encoder layer. Gives: a share per patch, the class
//! column removed and not renormalised. Departs: none known. Cost: O(heads · n · width).

use super::{Method, Scores};
use crate::Subject;
use crate::ctx::Ctx;
use crate::method::{Info, Kind, LayerPick, Need, Param, Params};
use crate::passes::attention_map;
use crate::token::TokenKind;
use crate::trace::Tower;
use crate::{Error, Result};

const LAYER: Param = Param::layer_of("layer", "Encoder layer to read", Tower::Vision, LayerPick::At(-1));

static INFO: Info = Info {
    id: "cls_score",
    title: "[CLS] score",
    summary: "Reads how much the encoder's class token attends to each patch.",
    family: "attention",
    needs: &[Need::ImageTokens, Need::ClassToken, Need::Attention],
    params: &[LAYER],
    ..Info::of(Kind::Score)
};

pub(super) struct ClsScore;

impl Method for ClsScore {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn score(&self, input: &Subject, params: &Params, ctx: &Ctx) -> Result<Scores> {
        INFO.check(params)?;
        let need = |what: &str| INFO.needs(what);
        let vision = input.trace.towers.get(&Tower::Vision).ok_or_else(|| need(Need::ImageTokens.words()))?;
        let class = vision.class_token.ok_or_else(|| need(Need::ClassToken.words()))?;
        let layer = params.one_layer(&LAYER, vision.n_layers)?;
        let heads = vision.attention.get(layer).map_or(0, |a| a.n_heads);
        let mut mean = vec![0f64; vision.tokens.len()];
        for head in 0..heads {
            ctx.step(head, heads)?;
            let row = attention_map::row_of_trace(input.trace, Tower::Vision, 0, layer, head, class)?;
            mean.iter_mut().zip(row).for_each(|(m, a)| *m += f64::from(a) / heads as f64);
        }
        let patch = |i: usize| vision.tokens[i].kind == TokenKind::Image;
        let patches: Vec<f32> = (0..mean.len()).filter(|&i| patch(i)).map(|i| mean[i] as f32).collect();
        let tower = input.trace.tower(input.tower)?;
        // In the language model each image token shows the patch that it came from.
        let places: Vec<usize> =
            (0..tower.tokens.len()).filter(|&i| tower.tokens[i].kind == TokenKind::Image).collect();
        if places.len() != patches.len() {
            return Err(Error::invalid("the tokens shown here are not one per patch; choose the image encoder"));
        }
        let mut values = vec![None; tower.tokens.len()];
        places.into_iter().zip(patches).for_each(|(i, v)| values[i] = Some(v));
        Ok(Scores::new(values, "share of the class token's attention"))
    }
}
