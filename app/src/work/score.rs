//! Importance of the tokens for a prediction, or for several.

use super::{Around, FaithfulOf, GatheredOf, Serves, Told, TraceFrom, TruthOf, subject, tower, trace_of, weights_of};
use crate::jobs::{Ask, Store};
use crate::keys::{Call, RunKey, Scope};
use crate::pane::{Pane, Per};
use serde_json::json;
use std::borrow::Cow;
use tokenscope_analysis::finding::Finding;
use tokenscope_analysis::score::{self, Scores};
use tokenscope_analysis::subject::Aim;
use tokenscope_analysis::truth::Agreement;
use tokenscope_analysis::{Ctx, Result, Subject};

/// Importance of the tokens for the predictions at the targets, their mean.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ScoreOf {
    /// The stack whose tokens are scored.
    pub scope: Scope,
    /// Tokens whose predictions are explained; none means the last token.
    pub targets: Vec<usize>,
    /// What those predictions are held against.
    pub against: Option<u32>,
    /// The score.
    pub call: Call,
}

impl ScoreOf {
    /// What of the predictions is explained.
    pub fn aim(&self) -> Aim {
        self.against.map_or_else(Aim::default, Aim::rather_than)
    }
}

impl Ask for ScoreOf {
    type Out = Scores;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Scores> {
        let run = &self.scope.run;
        let (t, open) = (trace_of(run, store, ctx)?, weights_of(run, store, ctx)?);
        let subject = subject(&t, &self.scope, open.as_deref()).aimed(self.aim());
        // An encoder of pictures says what it saw at its class token; the last patch is nobody's question.
        let class: Vec<usize> = t.towers.get(&subject.tower).and_then(|t| t.class_token).into_iter().collect();
        let targets = if self.targets.is_empty() { &class } else { &self.targets };
        scores(&subject, targets, &self.call, ctx)
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.scope.run)
    }
}

impl Serves for ScoreOf {
    fn of(pane: &Pane, call: Call) -> Self {
        let against = pane.contrast.as_ref().map(|c| c.id);
        Self { scope: pane.scope(), targets: pane.targets(), against, call }
    }

    fn found<'a>(&self, s: &'a Scores, trace: &TraceFrom) -> Result<Cow<'a, Finding>> {
        Ok(Cow::Owned(s.finding(tower(&self.scope, &*trace()?))))
    }

    fn tell<'a>(&self, s: &'a Scores, around: &Around) -> Result<Told<'a>> {
        let trace = around.trace(&self.scope.run)?;
        let on = subject(&trace, &self.scope, None);
        let tower = on.tower()?;
        let mut fields = json!({
            "tokens": tower.tokens, "unit": s.unit, "signed": s.signed, "values": s.values, "layers": s.layers,
        });
        if let Some(contrast) = &around.pane.contrast {
            fields["rather_than"] = json!({ "id": contrast.id, "text": contrast.text });
        }
        // What decides the answer is known of inputs that the program makes itself, for the last prediction.
        let about_the_last = matches!(self.targets[..], []) || self.targets == [tower.tokens.len().wrapping_sub(1)];
        if about_the_last
            && let Some(truth) = around.get(&TruthOf(self.scope.run.clone()))?.as_ref()
            && let Some(shares) = truth.shares(tower)
        {
            let a = Agreement::new(&s.values, s.signed, &shares);
            fields["truth"] = json!({
                "answer": truth.answer, "shares": shares, "pointing_game_hit": a.map(|a| a.hit),
                "precision_at_true_size": a.map(|a| a.precision), "true_size": a.map(|a| a.n_true),
                "rank_correlation": a.and_then(|a| a.rank),
            });
        }
        let aggregate = around.pane.shows.aggregate.clone();
        if aggregate.per != Per::Token {
            let gathered = around.get(&GatheredOf { score: self.clone(), aggregate: aggregate.clone() })?;
            fields["aggregate"] = gathered.json(&aggregate);
        }
        if around.pane.shows.faithful {
            fields["faithful"] = around.get(&FaithfulOf(self.clone()))?.json();
        }
        Ok(Told { found: self.found(s, &|| Ok(trace.clone()))?, fields })
    }
}

/// The mean of the scores for several explained tokens, over those that say something about a token.
fn scores(input: &Subject, targets: &[usize], call: &Call, ctx: &Ctx) -> Result<Scores> {
    let (method, params) = (score::find(call.method)?, &call.params);
    let (Some(&first), n) = (targets.first(), targets.len()) else { return score::run(method, input, params, ctx) };
    let mut out = score::run(method, &input.at(Some(first)), params, ctx)?;
    let mut counts: Vec<f32> = out.values.iter().map(|v| f32::from(u8::from(v.is_some()))).collect();
    for (done, &target) in targets.iter().enumerate().skip(1) {
        ctx.step(done, n)?;
        let next = score::run(method, &input.at(Some(target)), params, ctx)?;
        for ((sum, count), v) in out.values.iter_mut().zip(&mut counts).zip(next.values) {
            if let Some(v) = v {
                *sum = Some(sum.unwrap_or(0.0) + v);
                *count += 1.0;
            }
        }
        let all = out.layers.iter_mut().flatten().zip(next.layers.iter().flatten());
        all.for_each(|(sum, v)| *sum += v);
        if next.also != out.also {
            // Pictures that differ from target to target have no mean.
            out.also = Finding::default();
        }
    }
    for (v, count) in out.values.iter_mut().zip(counts) {
        *v = v.map(|v| v / count);
    }
    out.layers.iter_mut().flatten().for_each(|v| *v /= n as f32);
    Ok(out)
}
