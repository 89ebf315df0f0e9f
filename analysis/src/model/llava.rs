//! LLaVA: CLIP (or SigLIP) patches of an early layer, a two-layer projector, a Llama or Gemma.
//! Liu et al. 2023, arXiv 2304.08485; 2310.03744.

use super::blocks::{Activation, Config, Linear, Scope, Stack};
use super::decoder::Decoder;
use super::patches::Fit;
use super::vision::{BASE, VisionTower};
use super::vlm::{self, Connect, Features, Vlm};
use super::{Model, TowerRun, clip, siglip};
use crate::ctx::Ctx;
use crate::image::ImageInput;
use crate::token::Grid;
use crate::trace::{Tap, Tower};
use crate::weights::Weights;
use crate::{Error, Result};
use candle_core::{Device, Tensor};

pub(super) struct Projector {
    pub tower: VisionTower,
    /// Whether the tower has a class token.
    pub class: bool,
    first: Linear,
    act: Activation,
    second: Linear,
    /// Hidden states of the tower that are read, side by side.
    pub layers: Vec<usize>,
    /// Leading tokens that are left out (1 for the strategy `default`, 0 for `full`).
    pub skip: usize,
}

/// Loads a checkpoint.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config());
    let root = Scope::root(w, device);
    let (connector, text) = parts(w, &c, &root, (-2, "default"))?;
    let image_token = vlm::image_token(&c, &["image_token_index", "image_token_id"], 32000)?;
    let mut info = text.info().clone();
    info.towers.insert(Tower::Vision, connector.tower.info(connector.class)?);
    Ok(Box::new(Vlm { info, connector, text, image_token }))
}

/// Image tower with projector, and language model, as LLaVA and its followers store them; `defaults` are the hidden
/// state that is read and the strategy where the file does not say.
pub(super) fn parts(
    w: &Weights,
    c: &Config,
    root: &Scope,
    defaults: (i64, &'static str),
) -> Result<(Projector, Decoder)> {
    let (vc, tc) = (vlm::part(c, "vision_config")?, vlm::part(c, "text_config")?);
    let names = ["vision_tower.vision_model", "vision_tower", "model.vision_tower.vision_model", "model.vision_tower"];
    let s = root.first(&names, "embeddings.patch_embedding.weight");
    let (tower, class) = match vc.word(&["model_type"], "clip_vision_model")? {
        "clip_vision_model" => (clip::tower(&s, &vc.with(clip::VISION))?, true),
        "siglip_vision_model" => (siglip::tower(&s, &vc.with(BASE), Fit::Bicubic { antialias: false })?, false),
        other => return Err(Error::invalid(format!("config.json: image tower {other} is not supported"))),
    };
    let newer = root.has("model.language_model.embed_tokens.weight");
    let names =
        if newer { ("model.language_model", "lm_head") } else { ("language_model.model", "language_model.lm_head") };
    let text = vlm::text(w, &tc, root, names, c.flag(&["tie_word_embeddings"], false)?)?;

    let n = tower.stack.blocks.len() as i64;
    let layer = |v: &serde_json::Value| -> Result<usize> {
        let i = v.as_i64().map(|i| if i < 0 { i + n + 1 } else { i });
        i.filter(|i| (0..=n).contains(i))
            .map(|i| i as usize)
            .ok_or_else(|| Error::invalid(format!("config.json: vision_feature_layer {v} is not a layer of the tower")))
    };
    let layers = match c.value(&["vision_feature_layer"]) {
        None => vec![layer(&serde_json::Value::from(defaults.0))?],
        Some(serde_json::Value::Array(a)) if !a.is_empty() => a.iter().map(layer).collect::<Result<_>>()?,
        Some(v) => vec![layer(v)?],
    };
    let skip = match c.word(&["vision_feature_select_strategy"], defaults.1)? {
        "default" => 1,
        "full" => 0,
        other => {
            let e = format!("config.json: vision_feature_select_strategy {other} is not supported");
            return Err(Error::invalid(e));
        }
    };
    let p = root.first(&["multi_modal_projector", "model.multi_modal_projector"], "linear_1.weight");
    let bias = c.flag(&["multimodal_projector_bias"], true)?;
    let (dv, dt) = (tower.stack.width * layers.len(), text.width());
    let projector = Projector {
        class,
        first: Linear::load(&p.sub("linear_1"), dv, dt, bias)?,
        act: Activation::parse(c.word(&["projector_hidden_act"], "gelu")?)?,
        second: Linear::load(&p.sub("linear_2"), dt, dt, bias)?,
        tower,
        layers,
        skip,
    };
    Ok((projector, text))
}

impl Projector {
    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        self.second.apply(&self.act.apply(&self.first.apply(x)?)?)
    }

    /// Features of every tile on its own, one after the other.
    pub fn of_tiles(&self, image: &ImageInput, run: &mut TowerRun, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Features> {
        let tower = &self.tower;
        let (mut parts, mut of, mut tokens, mut grids) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for tile in 0..image.tiles.len() {
            let first = run.tokens.len();
            let t = tower.tile(image, tile, &self.layers, run, tap, ctx)?;
            let rows = &t.hidden[0].1;
            if t.hidden.iter().any(|(_, r)| r != rows) {
                return Err(Error::invalid("the projector reads several layers, and rows were pruned between them"));
            }
            let columns: Vec<Tensor> = t.hidden.iter().map(|(x, _)| x.clone()).collect();
            let x = Tensor::cat(&columns, 1)?;
            // A row goes on with those of its tokens that the language model has a place for.
            let (mut keep, base) = (Vec::new(), tokens.len());
            for (r, t) in rows.tokens.iter().enumerate() {
                let places: Vec<usize> =
                    t.iter().filter(|&&k| k >= first + self.skip).map(|k| base + k - first - self.skip).collect();
                if !places.is_empty() {
                    keep.push(r as u32);
                    of.push(places);
                }
            }
            parts.push(x.index_select(&Tensor::new(keep, x.device())?, 0)?);
            tokens.extend(run.tokens[first + self.skip..].iter().map(|t| (t.text.clone(), t.source)));
            // Without a class token, `default` leaves out the first patch, and no whole grid remains.
            let lead = tower.n_leading()?;
            if lead >= self.skip {
                let (rows, cols) = t.grid;
                grids.push(Grid { rows, cols, first: base + lead - self.skip, tile, gap: 0 });
            }
        }
        let x = self.apply(&Tensor::cat(&parts, 0)?)?;
        Ok(Features { x, of, tokens, grids, ..Features::default() })
    }
}

impl Connect for Projector {
    fn stack(&self) -> &Stack {
        &self.tower.stack
    }

    fn features(&self, image: &ImageInput, run: &mut TowerRun, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Features> {
        self.of_tiles(image, run, tap, ctx)
    }

    fn project(&self, patches: &Tensor) -> Result<Tensor> {
        match self.layers.as_slice() {
            [_] => self.apply(patches),
            _ => Err(Error::invalid("this model's projector reads several layers at once")),
        }
    }

    fn projected_layer(&self) -> Option<usize> {
        match self.layers.as_slice() {
            [state] => state.checked_sub(1),
            _ => None,
        }
    }
}
