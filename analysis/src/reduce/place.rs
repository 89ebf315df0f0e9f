//! Where in a pass rows become other rows, and where a method that cuts once does so.

use crate::method::{Info, LayerPick, Need, Param, Params};
use crate::trace::{At, Site, Tower};
use crate::{Error, Result, Subject};

/// Which half of a block has been passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Half {
    /// Before the first layer; elsewhere that is behind the layer before.
    Before,
    /// Between attention and MLP.
    Mid,
    /// Behind the whole block.
    After,
}

/// A place where rows may change, ordered as a pass meets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Place {
    /// In this layer of the image encoder.
    Encoder(usize, Half),
    /// Between encoder and language model, on the projected image features.
    Features,
    /// In this layer of the language model, or of a text encoder.
    Decoder(usize, Half),
    /// Behind the prompt, before the first token that is written.
    Step,
}

impl Place {
    /// In `layer` of `tower`.
    pub fn inside(tower: Tower, layer: usize, half: Half) -> Self {
        match tower {
            Tower::Vision => Place::Encoder(layer, half),
            Tower::Text => Place::Decoder(layer, half),
        }
    }

    /// The place that a tap is asked at, if rows may change there.
    pub fn of(at: &At) -> Option<Self> {
        match at.site {
            Site::Features => Some(Place::Features),
            Site::ResidPre if at.layer == 0 => Some(Place::inside(at.tower, 0, Half::Before)),
            Site::ResidMid => Some(Place::inside(at.tower, at.layer, Half::Mid)),
            Site::ResidPost => Some(Place::inside(at.tower, at.layer, Half::After)),
            _ => None,
        }
    }

    /// Whose tokens change.
    pub fn tower(self) -> Tower {
        match self {
            Place::Encoder(..) => Tower::Vision,
            _ => Tower::Text,
        }
    }

    /// The layer, for places inside a stack.
    pub fn layer(self) -> Option<usize> {
        match self {
            Place::Encoder(layer, _) | Place::Decoder(layer, _) => Some(layer),
            Place::Features | Place::Step => None,
        }
    }

    /// Whether `layer` of the same tower begins with what was done here.
    pub fn is_before(self, layer: usize) -> bool {
        match self {
            Place::Encoder(l, Half::Before) | Place::Decoder(l, Half::Before) => l <= layer,
            Place::Encoder(l, _) | Place::Decoder(l, _) => l < layer,
            Place::Features => true,
            Place::Step => false,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Place::Encoder(_, Half::Before) => f.write_str("before the encoder"),
            Place::Decoder(_, Half::Before) => f.write_str("before the first layer"),
            Place::Encoder(l, Half::Mid) => write!(f, "inside encoder layer {l}, after its attention"),
            Place::Encoder(l, Half::After) => write!(f, "after encoder layer {l}"),
            Place::Features => f.write_str("between encoder and language model"),
            Place::Decoder(l, Half::Mid) => write!(f, "inside layer {l}, after its attention"),
            Place::Decoder(l, Half::After) => write!(f, "after layer {l}"),
            Place::Step => f.write_str("when the answer begins"),
        }
    }
}

/// Share of the rows that stay.
pub(super) const KEEP: Param =
    Param::share("keep", "Share of the image tokens kept; of all tokens where there is no image", 0.5);

/// Layer of a cut inside a stack.
pub(super) const LAYER: Param = Param::layer(
    "layer",
    "Layer after which the others are dropped; not used between encoder and language model",
    LayerPick::At(0),
);

/// Where a method that cuts once cuts: the image features of a vision-language model before its first layer; inside an
/// image encoder or a text model, after the layer that [`LAYER`] says.
///
/// Errors: no such layer; an encoder that reads tiles one by one.
pub(super) fn cut(on: &Subject, params: &Params) -> Result<Place> {
    let tower = on.tower()?;
    if on.tower == Tower::Text && tower.has_image() {
        return Ok(Place::Features);
    }
    one_tile(on, on.tower)?;
    Ok(Place::inside(on.tower, params.one_layer(&LAYER, tower.n_layers)?, Half::After))
}

/// Where a method makes new features of an image's patches as its encoder leaves them: behind the encoder layer that the
/// projector reads patch by patch; where it reads several at once, behind the projector; in a plain encoder after the
/// layer that [`LAYER`] says.
///
/// Errors: no image tokens; as [`cut`].
pub(super) fn encoded(on: &Subject, params: &Params, info: &Info) -> Result<Place> {
    let cut = image_cut(on, params, info)?;
    let projected = on.model.and_then(|m| m.projected_layer()).filter(|_| cut == Place::Features);
    Ok(projected.map_or(cut, |layer| Place::Encoder(layer, Half::After)))
}

/// Encoder layer whose attention methods at the encoder's output read.
pub(super) const READ_LAYER: Param = Param::layer_of(
    "attention_layer",
    "Encoder layer whose attention is read; in a plain encoder at most the one that is cut behind",
    Tower::Vision,
    LayerPick::At(-2),
);

/// The layer that [`READ_LAYER`], or another parameter of its kind, says. Errors: there is none; no image encoder.
pub(super) fn read_layer(on: &Subject, params: &Params, param: &Param, info: &Info) -> Result<usize> {
    let vision = on.trace.towers.get(&Tower::Vision).ok_or_else(|| info.needs(Need::ImageTokens.words()))?;
    // A small encoder has no layer before its last.
    if vision.n_layers == 1 && !params.has(param.key) {
        return Ok(0);
    }
    params.one_layer(param, vision.n_layers)
}

/// [`cut`] for methods about images. Errors, too, if the tower has no image tokens.
pub(super) fn image_cut(on: &Subject, params: &Params, info: &Info) -> Result<Place> {
    if !on.tower()?.has_image() {
        return Err(info.needs(Need::ImageTokens.words()));
    }
    cut(on, params)
}

/// Errors if a stack reads the image in tiles, one after the other.
pub(super) fn one_tile(on: &Subject, tower: Tower) -> Result<()> {
    if on.trace.tower(tower)?.n_tiles > 1 {
        return Err(Error::invalid(
            "the image is cut into tiles that the encoder reads one by one; reduce the language model's tokens instead",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_ordered_as_a_pass_meets_them() {
        use Half::{After, Before, Mid};
        let met = [
            Place::Encoder(0, Before),
            Place::Encoder(0, Mid),
            Place::Encoder(0, After),
            Place::Encoder(1, Mid),
            Place::Features,
            Place::Decoder(0, Before),
            Place::Decoder(0, Mid),
            Place::Decoder(0, After),
            Place::Decoder(1, Mid),
            Place::Step,
        ];
        assert!(met.is_sorted_by(|a, b| a < b));
        assert!(Place::Decoder(0, After).is_before(1) && !Place::Decoder(1, Mid).is_before(1));
    }
}
