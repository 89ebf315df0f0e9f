//! Importance: one number per token of a run, by published scores and plain baselines.

mod attention_flow;
mod attention_rollout;
mod cls_score;
mod explain_gae;
mod gradient_input;
mod logit_lens_surprise;
mod maps;
mod random_score;
mod received_attention;
mod uniform_score;
mod value_weighted_attention;

pub use maps::{all_head_means, augment};

use crate::ctx::Ctx;
use crate::finding::{Finding, Heat, Measure, Stages, Unit};
use crate::method::{Info, Params};
use crate::trace::Tower;
use crate::{Error, Result, Subject};

/// One value per token of the tower.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// `None` where the method says nothing about the token.
    pub values: Vec<Option<f32>>,
    /// Unit, for the legend, e.g. `share of attention` or `nats`.
    pub unit: &'static str,
    /// True if values have a sign, so that a diverging colour map fits.
    pub signed: bool,
    /// Where there is a value per layer too: `[layer][token]`.
    pub layers: Vec<Vec<f32>>,
}

impl Scores {
    /// The scores as a picture of the tokens of `tower`, without those of single layers.
    pub fn heat(&self, tower: Tower) -> Heat {
        let measure = Measure { name: "", unit: self.unit, signed: self.signed };
        Heat::new("scores", Unit::Tokens(tower), measure, self.values.clone())
    }

    /// All of them as a finding.
    pub fn finding(&self, tower: Tower) -> Finding {
        let layer = |v: &Vec<f32>| v.iter().map(|v| Some(*v)).collect();
        let stages = Stages { unit: Unit::Layers, values: self.layers.iter().map(layer).collect() };
        Finding::of(Heat { stages: Some(stages).filter(|s| !s.values.is_empty()), ..self.heat(tower) })
    }
}

/// One way to score tokens. Pure: the same input and parameters give the same scores.
pub trait Method: Sync {
    /// What it says about itself.
    fn info(&self) -> &'static Info;
    /// One value per token. Errors: [`Error::Need`] where the run lacks something.
    fn score(&self, input: &Subject, params: &Params, ctx: &Ctx) -> Result<Scores>;
}

/// Every score, alphabetical by id.
pub static ALL: &[&dyn Method] = &[
    &attention_flow::AttentionFlow,
    &attention_rollout::AttentionRollout,
    &cls_score::ClsScore,
    &explain_gae::ExplainGae,
    &gradient_input::GradientInput,
    &logit_lens_surprise::LogitLensSurprise,
    &random_score::RandomScore,
    &received_attention::ReceivedAttention,
    &uniform_score::UniformScore,
    &value_weighted_attention::ValueWeightedAttention,
];

/// The score of that id.
pub fn find(id: &str) -> Result<&'static dyn Method> {
    ALL.iter().copied().find(|m| m.info().id == id).ok_or_else(|| Error::Unknown {
        kind: "score",
        name: id.into(),
        known: ALL.iter().map(|m| m.info().id).collect::<Vec<_>>().join(", "),
    })
}
