//! Importance: one number per token of a run, by published scores and plain baselines.

mod attention_flow;
mod attention_rollout;
mod cls_score;
mod explain_gae;
mod gradient_input;
mod lemo_informativeness;
mod logit_lens_surprise;
mod maps;
mod max_flow;
mod random_score;
mod received_attention;
mod uniform_score;
mod value_weighted_attention;

pub use maps::{all_head_means, augment};

use crate::ctx::Ctx;
use crate::finding::{Finding, Heat, Measure, Stages, Unit};
use crate::method::{Info, Params};
use crate::subject::Aim;
use crate::trace::Tower;
use crate::{Error, Result, Subject};

/// One value per token of the tower.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Scores {
    /// `None` where the method says nothing about the token.
    pub values: Vec<Option<f32>>,
    /// Unit, for the legend, e.g. `share of attention` or `nats`.
    #[serde(deserialize_with = "crate::finding::read_name")]
    pub unit: crate::finding::Name,
    /// True if values have a sign, so that a diverging colour map fits.
    pub signed: bool,
    /// Where there is a value per layer too: `[layer][token]`.
    pub layers: Vec<Vec<f32>>,
    /// What the score shows besides: other pictures, figures.
    pub also: Finding,
}

impl Scores {
    /// Values without a sign, and nothing else.
    pub fn new(values: Vec<Option<f32>>, unit: &'static str) -> Self {
        Self { values, unit, signed: false, layers: Vec::new(), also: Finding::default() }
    }

    /// The mean over layers of these values, `[layer][token]` of `n` tokens. Where only some layers say something about
    /// a token, the others count 0.
    pub fn over_layers(layers: Vec<Vec<Option<f32>>>, n: usize, unit: &'static str) -> Self {
        let mut values = vec![None; n];
        for layer in &layers {
            for (value, v) in values.iter_mut().zip(layer) {
                *value = v.map(|v| value.unwrap_or(0.0) + v / layers.len() as f32).or(*value);
            }
        }
        let or_zero = |layer: Vec<Option<f32>>| layer.into_iter().map(|v| v.unwrap_or(0.0)).collect();
        Self::new(values, unit).with_layers(layers.into_iter().map(or_zero).collect())
    }

    /// The same with a value per layer, `[layer][token]`.
    pub fn with_layers(self, layers: Vec<Vec<f32>>) -> Self {
        Self { layers, ..self }
    }

    /// The scores as a picture of the tokens of `tower`, without those of single layers.
    pub fn heat(&self, tower: Tower) -> Heat {
        let measure = Measure { name: "", unit: self.unit, signed: self.signed };
        Heat::new("scores", Unit::Tokens(tower), measure, self.values.clone())
    }

    /// All of them as a finding.
    pub fn finding(&self, tower: Tower) -> Finding {
        let layer = |v: &Vec<f32>| v.iter().map(|v| Some(*v)).collect();
        let stages = Stages { unit: Unit::Layers, values: self.layers.iter().map(layer).collect() };
        let heat = Heat { stages: Some(stages).filter(|s| !s.values.is_empty()), ..self.heat(tower) };
        let mut out = self.also.clone();
        out.pictures.insert(0, heat.into());
        out
    }
}

/// One way to score tokens. Pure: the same input and parameters give the same scores.
pub trait Method: Sync {
    /// What it says about itself.
    fn info(&self) -> &'static Info;
    /// One value per token. Errors: [`Error::Need`] where the run lacks something.
    fn score(&self, input: &Subject, params: &Params, ctx: &Ctx) -> Result<Scores>;
}

/// What `method` says of `on`. Errors: those of the method; one that explains no token of the prediction cannot say why
/// this one rather than that.
pub fn run(method: &dyn Method, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Scores> {
    let info = method.info();
    if !info.contrasts
        && let Some(why) = on.lacks(info).filter(|_| on.aim != Aim::default())
    {
        return Err(Error::invalid(format!("{} {why}", info.id)));
    }
    method.score(on, params, ctx)
}

/// Every score, alphabetical by id.
pub static ALL: &[&dyn Method] = &[
    &attention_flow::AttentionFlow,
    &attention_rollout::AttentionRollout,
    &cls_score::ClsScore,
    &explain_gae::ExplainGae,
    &gradient_input::GradientInput,
    &lemo_informativeness::LemoInformativeness,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::{Datum, Figure};

    #[test]
    fn a_token_that_a_layer_says_nothing_about_counts_nothing_there() {
        let layers = vec![vec![Some(1.0), None, Some(3.0)], vec![Some(2.0), None, None]];
        let scores = Scores::over_layers(layers, 3, "parts");
        assert_eq!(scores.values, [Some(1.5), None, Some(1.5)]);
        assert_eq!(scores.layers, [[1.0, 0.0, 3.0], [2.0, 0.0, 0.0]]);
    }

    #[test]
    fn scores_that_explain_no_prediction_say_that_they_cannot_say_why_one_token_rather_than_another() {
        let model = crate::model::tests::tiny();
        let request = crate::run::RunRequest { ids: Some(vec![3, 1, 4]), ..Default::default() };
        let spec = crate::trace::CaptureSpec::views();
        let trace = crate::run::run(model.as_ref(), None, &request, &spec, &Ctx::default()).unwrap();
        let on = Subject::new(&trace).with_model(model.as_ref());
        let ids = |all: bool| ALL.iter().filter(move |m| m.info().contrasts == all);
        assert!(ids(true).count() >= 2 && ids(false).count() >= 2);
        for (m, against) in ALL.iter().flat_map(|m| [(m, None), (m, Some(0))]) {
            let aim = Aim { token: None, against };
            let ran = run(*m, &on.aimed(aim), &Params::new(), &Ctx::default());
            let why = ran.err().map_or_else(String::new, |e| e.to_string());
            let refused = why.contains("why one rather than another");
            assert_eq!(refused, against.is_some() && !m.info().contrasts, "{}: {why}", m.info().id);
        }
    }

    #[test]
    fn what_a_score_shows_besides_follows_its_heat() {
        let mut scores = Scores::new(vec![Some(1.0), None], "parts").with_layers(vec![vec![0.5, 0.0]]);
        scores.also = Finding::default().with(scores.heat(Tower::Text)).figure(Figure::new("n", Datum::Count(2), ""));
        let found = scores.finding(Tower::Text);
        let staged = |p: &crate::finding::Picture| matches!(p, crate::finding::Picture::Heat(h) if h.stages.is_some());
        assert_eq!(found.pictures.iter().map(staged).collect::<Vec<_>>(), [true, false]);
        assert_eq!(found.figures[0].name, "n");
    }
}
