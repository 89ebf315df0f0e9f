//! What a method runs on: one run of one model, and what goes with it.

use crate::image::{Picture, Processor};
use crate::math::argmax;
use crate::method::{Info, Kind, Need};
use crate::model::{Input, Model, ModelInfo, Writes};
use crate::tokenize::{Shared, Tokenizer};
use crate::trace::{Site, Tower, TowerTrace, Trace};
use crate::{Error, Result};
use candle_core::Tensor;

/// What of a prediction is explained: why a token, or why this one rather than that.
///
/// The contrast is that of Yin and Neubig 2022, arXiv 2202.10419: a score of a token's logit becomes one of the
/// difference of two logits, which is that of their log-probabilities, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Aim {
    /// The token; `None` is the most probable one.
    pub token: Option<u32>,
    /// The token that it is held against.
    pub against: Option<u32>,
}

impl Aim {
    /// Why the most probable token rather than this one.
    pub fn rather_than(against: u32) -> Self {
        Self { token: None, against: Some(against) }
    }

    /// The explained token, and the one that it is held against, in these logits of the model `name`.
    ///
    /// Errors: logits that are not finite, a token that the vocabulary does not have, a token held against itself.
    pub fn of(self, logits: &[f32], name: &str) -> Result<(usize, Option<usize>)> {
        let known = |id: u32| {
            let n = logits.len();
            let unknown = || Error::invalid(format!("there is no token {id}; the vocabulary has {n}"));
            if (id as usize) < n { Ok(id as usize) } else { Err(unknown()) }
        };
        let best = argmax(logits).ok_or_else(|| crate::run::not_finite(name))?;
        let token = self.token.map_or(Ok(best), known)?;
        let against = self.against.map(known).transpose()?;
        if against == Some(token) {
            let which = if self.token.is_none() { ", which is what the model predicts here" } else { "" };
            return Err(Error::invalid(format!("token {token} is held against itself{which}; choose another")));
        }
        Ok((token, against))
    }

    /// What is differentiated of logits `[vocabulary]`: that of the token, less that of the one it is held against. Gives
    /// the token, too.
    ///
    /// Errors: those of [`Aim::of`].
    pub fn logit(self, logits: &Tensor, name: &str) -> Result<(usize, Tensor)> {
        let (token, against) = self.of(&logits.detach().to_vec1::<f32>()?, name)?;
        let value = logits.get(token)?;
        Ok((
            token,
            match against {
                Some(other) => (value - logits.get(other)?)?,
                None => value,
            },
        ))
    }
}

/// One run, and what goes with it. Cheap to copy.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The run.
    pub trace: &'a Trace,
    /// Whose tokens it is about.
    pub tower: Tower,
    /// The explained token; `None` means the last one.
    pub target: Option<usize>,
    /// What of its prediction is explained.
    pub aim: Aim,
    /// The model, unless the run was recorded elsewhere and there are no weights.
    pub model: Option<&'a dyn Model>,
    /// Its tokenizer, where it has one.
    pub tokenizer: Option<&'a Tokenizer>,
    /// A second, smaller model that drafts.
    pub partner: Option<&'a dyn Model>,
    /// The partner's tokenizer, where it has one.
    pub partner_tokenizer: Option<&'a Tokenizer>,
    /// What the partner reads where that is not the run's own tokens: one that sees no image gets the text alone.
    pub partner_ids: Option<&'a [u32]>,
    /// The picture as it was before the model's processor, and that processor, for what reads it at another size.
    pub picture: Option<(&'a Picture, &'a Processor)>,
}

impl<'a> Subject<'a> {
    /// A run without weights, about its main tower.
    pub fn new(trace: &'a Trace) -> Self {
        Self {
            trace,
            tower: trace.main_tower(),
            target: None,
            aim: Aim::default(),
            model: None,
            tokenizer: None,
            partner: None,
            partner_tokenizer: None,
            partner_ids: None,
            picture: None,
        }
    }

    /// The same with the model that ran.
    pub fn with_model(self, model: &'a dyn Model) -> Self {
        Self { model: Some(model), ..self }
    }

    /// The same about the tokens of `tower`.
    pub fn of(self, tower: Tower) -> Self {
        Self { tower, ..self }
    }

    /// The same with this token explained.
    pub fn at(self, target: Option<usize>) -> Self {
        Self { target, ..self }
    }

    /// The same about this token of the prediction, or about this one rather than that.
    pub fn aimed(self, aim: Aim) -> Self {
        Self { aim, ..self }
    }

    /// The tower that it is about. Errors if the run has none of the kind.
    pub fn tower(&self) -> Result<&'a TowerTrace> {
        self.trace.tower(self.tower)
    }

    /// The language model that reads an image. Errors: there is none.
    pub fn reader(&self, method: &Info) -> Result<&'a TowerTrace> {
        let text = self.trace.towers.get(&Tower::Text).filter(|t| t.has_image());
        text.ok_or_else(|| method.needs(Need::ReadsImage.words()))
    }

    /// The model; without one, the error that `method` needs it.
    pub fn weights(&self, method: &Info) -> Result<&'a dyn Model> {
        self.model.ok_or_else(|| method.needs("the model's weights"))
    }

    /// The explained token among `n`, or the last one. Errors if it is outside the run.
    pub fn explained(&self, n: usize) -> Result<usize> {
        match self.target {
            Some(t) if t < n => Ok(t),
            Some(t) => Err(Error::invalid(format!("token {t} is not in this run of {n} tokens"))),
            None => n.checked_sub(1).ok_or_else(|| Error::invalid("the run has no tokens")),
        }
    }

    /// The ids that the run read; empty for a picture alone.
    pub fn ids(&self) -> Vec<u32> {
        let text = self.trace.towers.get(&Tower::Text);
        text.map_or(Vec::new(), |t| t.tokens.iter().filter_map(|t| t.id).collect())
    }

    /// What token `id` is printed as.
    pub fn word(&self, id: u32) -> String {
        self.tokenizer.map_or_else(|| format!("<{id}>"), |t| t.token_text(id))
    }

    /// What these ids read as one text, which is not always their tokens one after the other.
    pub fn text(&self, ids: &[u32]) -> String {
        let decoded = self.tokenizer.and_then(|t| t.decode(ids, false).ok());
        decoded.unwrap_or_else(|| ids.iter().map(|&id| self.word(id)).collect())
    }

    /// The run's input, to be read once more: the one place that says how.
    pub fn again(&self) -> Input<'static> {
        Input {
            ids: self.ids(),
            token_types: self.trace.token_types.clone(),
            image: self.trace.image.clone(),
            ..Input::default()
        }
    }

    /// What the run lacks for a method, in words; `None` if it can be served.
    pub fn lacks(&self, info: &Info) -> Option<String> {
        let aims = self.aim != Aim::default() && info.kind == Kind::Score && !info.contrasts;
        if aims {
            return Some(
                "explains no token of the prediction, so that it cannot say why one rather than another".into(),
            );
        }
        info.needs.iter().find_map(|need| self.lacks_need(*need))
    }

    /// What the run lacks of one need, in words; `None` if it is met.
    pub fn lacks_need(&self, need: Need) -> Option<String> {
        let tower = self.trace.towers.get(&self.tower);
        let model = self.model.map(|m| m.info());
        let missing = match need {
            Need::ImageTokens => !tower.is_some_and(TowerTrace::has_image),
            Need::ReadsImage => !self.trace.towers.get(&Tower::Text).is_some_and(TowerTrace::has_image),
            Need::ClassToken => !self.trace.towers.values().any(|t| t.class_token.is_some()),
            Need::Gradients => model.is_none(),
            Need::Logits => self.tower != Tower::Text || model.is_none_or(|m| m.vocab == 0),
            Need::Tokenizer => self.tokenizer.is_none(),
            Need::HeadParts => model.and_then(|m| m.towers.get(&self.tower)).is_none_or(|t| t.norms_attention),
            // The output projection is a weight.
            Need::Values => model.is_none() || self.trace.arrays.is_empty(),
            Need::Attention | Need::Residual => self.trace.arrays.is_empty(),
            Need::Experts => !self.trace.arrays.keys().any(|k| k.tower == self.tower && k.site == Site::Router),
            Need::Arrays => true,
            Need::Fills => model.is_none_or(|m| m.writes != Writes::Fills),
            Need::Writes => model.is_none_or(|m| m.writes != Writes::Causal),
            Need::DraftModel => match (model, self.partner) {
                (Some(target), Some(partner)) => {
                    let why = cannot_draft(target, partner.info(), self.tokenizer.zip(self.partner_tokenizer))?;
                    return Some(format!("needs {}; {why}", need.words()));
                }
                _ => true,
            },
        };
        missing.then(|| format!("needs {}, which this run does not have", need.words()))
    }
}

/// Why `small` cannot draft for `large`, in words; `None` if it can.
pub fn cannot_draft(
    large: &ModelInfo,
    small: &ModelInfo,
    tokenizers: Option<(&Tokenizer, &Tokenizer)>,
) -> Option<String> {
    common_ids(large, small, tokenizers).err()
}

/// The ids, counted from 0, that mean the same to both models, by their tokenizers where both have one.
///
/// Errors: why `small` cannot draft for `large`, in words.
pub fn common_ids(
    large: &ModelInfo,
    small: &ModelInfo,
    tokenizers: Option<(&Tokenizer, &Tokenizer)>,
) -> std::result::Result<usize, String> {
    if large.writes != Writes::Causal {
        return Err("this model does not generate text".into());
    }
    if small.writes != Writes::Causal {
        return Err(format!("{} does not generate text", small.name));
    }
    let n = large.vocab.min(small.vocab);
    match tokenizers.map(|(a, b)| a.shared(b)) {
        Some(Shared::Differs { id, one, other }) => Err(format!(
            "the tokenizers spell ids differently: {id} is {one:?} to {} and {other:?} to {}",
            large.name, small.name
        )),
        // Rows behind the vocabulary are padding.
        Some(Shared::First(ids)) if large.vocab != small.vocab => Ok(n.min(ids)),
        None if large.vocab != small.vocab => {
            Err(format!("{} has {} vocabulary entries and this model {}", small.name, small.vocab, large.vocab))
        }
        _ => Ok(n),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn an_aim_is_the_best_token_or_a_named_one_less_the_one_it_is_held_against() {
        let row = [1.0, 4.0, -2.0];
        let logits = Tensor::new(&row, &Device::Cpu).unwrap();
        let value = |aim: Aim| {
            let (token, value) = aim.logit(&logits, "m").unwrap();
            (token, value.to_scalar::<f32>().unwrap())
        };
        assert_eq!(value(Aim::default()), (1, 4.0));
        assert_eq!(value(Aim::rather_than(2)), (1, 6.0));
        assert_eq!(value(Aim { token: Some(2), against: Some(0) }), (2, -3.0));
        let why = |aim: Aim| aim.of(&row, "m").unwrap_err().to_string();
        assert!(why(Aim::rather_than(3)).contains("the vocabulary has 3"));
        assert!(why(Aim::rather_than(1)).contains("what the model predicts"));
        assert!(why(Aim { token: Some(0), against: Some(0) }).contains("against itself"));
        assert!(Aim::default().of(&[f32::NAN; 2], "m").is_err());
    }
}
