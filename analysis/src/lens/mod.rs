//! Reading the residual stream with the model's own final norm and head (the logit lens, nostalgebraist 2020): what
//! would be predicted where, how probable the tokens were, and what one head's share of it does.

mod edge;
mod next;
mod surprisal;

pub use edge::{Effect, HeadShare, Lead, Moved, effect, heads};
pub use next::{contrast, held, next};
pub use surprisal::{Surprisal, holds_predictions, surprisal};

use crate::math::{largest, log_softmax, log_sum_exp};
use crate::model::Model;
use crate::tokenize::Tokenizer;
use crate::trace::{Site, Tower};
use crate::{Ctx, Error, Result, Subject};
use candle_core::Tensor;

/// Entries of a list of vocabulary.
const TOP: usize = 8;

/// A next token that may come.
#[derive(Debug, Clone, PartialEq)]
pub struct Guess {
    /// Its vocabulary id.
    pub id: u32,
    /// Its text, or its number where there is no tokenizer.
    pub text: String,
    /// Its probability.
    pub p: f32,
}

/// What would be predicted at every layer and token.
#[derive(Debug, Clone, PartialEq)]
pub struct Lens {
    /// Per layer and token: text and probability of the most probable next token.
    pub top: Vec<Vec<(String, f32)>>,
}

/// The most probable next token that is read after every layer at every token of the language model.
///
/// Errors: a run without weights or residual stream, cancelled.
pub fn read(on: &Subject, ctx: &Ctx) -> Result<Lens> {
    let model = weights(on)?;
    let n_layers = on.trace.tower(Tower::Text)?.n_layers;
    let mut top = Vec::with_capacity(n_layers);
    for layer in 0..n_layers {
        ctx.step(layer, n_layers)?;
        let resid = &on.trace.get(Tower::Text, layer, Site::ResidPost)?.array;
        let resid = Tensor::from_slice(resid.data(), resid.shape().to_vec(), model.device())?;
        let rows = model.lens(&resid)?.to_vec2::<f32>()?;
        let best = |row: Vec<f32>| {
            let best = crate::math::argmax(&row).unwrap_or(0);
            let p = row.get(best).map_or(0.0, |&x| (f64::from(x) - log_sum_exp(&row)).exp());
            (word(on.tokenizer, best), p as f32)
        };
        top.push(rows.into_iter().map(best).collect());
    }
    Ok(Lens { top })
}

/// The most probable next tokens that are read at one token, with their probabilities: after layer `level` - 1, or from
/// the inputs at level 0.
///
/// Errors: a run without weights or residual stream, a level or token that it does not have.
pub fn node(on: &Subject, level: usize, token: usize) -> Result<Vec<Guess>> {
    let model = weights(on)?;
    let entry = match level.checked_sub(1) {
        None => on.trace.get(Tower::Text, 0, Site::ResidPre)?,
        Some(layer) => on.trace.get(Tower::Text, layer, Site::ResidPost)?,
    };
    let [n, d] = entry.array.dims("residual stream")?;
    if token >= n {
        return Err(Error::invalid(format!("there is no token {token}")));
    }
    let row = Tensor::from_slice(entry.array.row(token), (1, d), model.device())?;
    let logp = log_softmax(&model.lens(&row)?.squeeze(0)?.to_vec1::<f32>()?);
    let guess = |i: usize| Guess { id: i as u32, text: word(on.tokenizer, i), p: logp[i].exp() as f32 };
    Ok(largest(&logp, TOP).into_iter().map(guess).collect())
}

fn weights<'a>(on: &Subject<'a>) -> Result<&'a dyn Model> {
    on.model.ok_or_else(|| Error::invalid("a recorded run holds no weights to read its states with"))
}

/// The text of a vocabulary entry, or its number where there is no tokenizer.
fn word(tokenizer: Option<&Tokenizer>, id: usize) -> String {
    tokenizer.map_or_else(|| format!("<{id}>"), |t| t.token_text(id as u32))
}
