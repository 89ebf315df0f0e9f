//! How faithful a score is to the model: deletion and insertion against random order.

use super::{ScoreOf, subject, trace_of, weights_of};
use crate::jobs::{Ask, Store};
use crate::keys::RunKey;
use serde_json::{Value, json};
use std::sync::Arc;
use tokenscope_analysis::faithful::{Curves, DRAWS, Faithfulness, area, faithfulness};
use tokenscope_analysis::finding::Finding;
use tokenscope_analysis::{Ctx, Result, score};

/// The curves of a score, which grow while they are made.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct FaithfulOf(pub ScoreOf);

/// Curves and areas.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Faithful {
    /// The curves.
    pub curves: Faithfulness,
    /// As plots and figures.
    #[serde(with = "super::whole")]
    pub finding: Arc<Finding>,
}

impl Faithful {
    fn new(curves: Faithfulness, name: &str) -> Self {
        let finding = Arc::new(curves.finding(name));
        Self { curves, finding }
    }

    /// What scripts are told: the curves of the score and of each random order, and what was found.
    pub fn json(&self) -> Value {
        let curves = |c: &Curves| json!({ "deletion": c.deletion, "insertion": c.insertion });
        let areas = |c: &Curves| json!({ "deletion": area(&c.deletion), "insertion": area(&c.insertion) });
        let random: Vec<Value> = self.curves.random.iter().map(curves).collect();
        let random_areas: Vec<Value> = self.curves.random.iter().map(areas).collect();
        json!({
            "measure": self.curves.measure.words(), "competing": self.curves.competing,
            "score": curves(&self.curves.score), "areas": areas(&self.curves.score),
            "random": random, "random_areas": random_areas, "finding": self.finding.json(),
        })
    }
}

impl Ask for FaithfulOf {
    type Out = Faithful;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Faithful> {
        let ScoreOf { scope, targets, call, .. } = &self.0;
        let (t, open) = (trace_of(&scope.run, store, ctx)?, weights_of(&scope.run, store, ctx)?);
        let scores = store.get(&self.0, ctx)?;
        let name = score::find(call.method)?.info().title;
        let on = subject(&t, scope, open.as_deref()).aimed(self.0.aim());
        let mut so_far = |curves: &Faithfulness| store.show::<Self>(Faithful::new(curves.clone(), name));
        Ok(Faithful::new(faithfulness(&on, targets, &scores, DRAWS, ctx, &mut so_far)?, name))
    }

    fn run(&self) -> Option<&RunKey> {
        Some(&self.0.scope.run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples;
    use crate::jobs::Jobs;
    use crate::keys::Scope;
    use crate::pane::Pane;
    use crate::work::{ModelOf, TraceOf, TruthOf};
    use tokenscope_analysis::faithful::STEPS;
    use tokenscope_analysis::score::Scores;
    use tokenscope_analysis::{Error, Subject};

    /// The run of an example, and what `with` makes of it.
    fn on<T>(example: &str, with: impl FnOnce(&Subject, &crate::keys::RunKey, &Jobs) -> T) -> T {
        let pane = examples::find(example).unwrap().pane(&Pane::default());
        let (jobs, ctx) = (Jobs::new(|| ()), Ctx::default());
        let trace = jobs.get(&TraceOf(pane.run.clone()), &ctx).unwrap();
        let open = jobs.get(&ModelOf::of(&pane.run), &ctx).unwrap();
        let scope = Scope { run: pane.run.clone(), tower: None };
        with(&subject(&trace, &scope, Some(&open)), &pane.run, &jobs)
    }

    #[test]
    fn a_curve_per_order_grows_from_nothing_to_all_and_what_decides_is_missed_first() {
        for example in ["recall", "scene-color"] {
            let found = on(example, |on, run, jobs| {
                let truth = jobs.get(&TruthOf(run.clone()), &Ctx::default()).unwrap();
                let shares = truth.as_ref().as_ref().unwrap().shares(on.tower().unwrap()).unwrap();
                let scores = Scores::new(shares, "truth");
                let mut grown = 0;
                let found = faithfulness(on, &[], &scores, DRAWS, &Ctx::default(), &mut |_| grown += 1).unwrap();
                assert_eq!(grown, 2 * (DRAWS + 1) * (found.competing.min(STEPS) + 1), "{example}");
                found
            });
            assert_eq!(found.random.len(), DRAWS);
            let (own, ends) = (&found.score, |c: &[[f64; 2]]| (c[0], c[c.len() - 1]));
            // Nothing taken away is everything there.
            let ((none_gone, all_gone), (none_there, all_there)) = (ends(&own.deletion), ends(&own.insertion));
            assert_eq!((none_gone[1], all_gone[1]), (all_there[1], none_there[1]), "{example}");
            let mean = |of: fn(&Curves) -> &Vec<[f64; 2]>| {
                found.random.iter().map(|c| area(of(c)).unwrap()).sum::<f64>() / found.random.len() as f64
            };
            // A small text is broken by the loss of any few words, whichever they are; a picture is not.
            if example == "recall" {
                continue;
            }
            let (gone, there) = (area(&own.deletion).unwrap(), area(&own.insertion).unwrap());
            assert!(gone < mean(|c| &c.deletion), "{example}: {gone}");
            assert!(there > mean(|c| &c.insertion), "{example}: {there}");
            found.finding("truth").check().unwrap();
        }
    }

    #[test]
    fn held_against_another_token_the_curves_follow_the_lead_over_it() {
        use tokenscope_analysis::lens;
        use tokenscope_analysis::subject::Aim;
        on("recall", |on, _, _| {
            let scores = Scores::new(vec![Some(1.0); on.tower().unwrap().tokens.len()], "parts");
            let ln_p = lens::next(on, None).unwrap();
            let mut order: Vec<usize> = (0..ln_p.len()).collect();
            order.sort_by(|a, b| ln_p[*b].total_cmp(&ln_p[*a]));
            let (best, other) = (order[0], order[3]);
            let of = |aim: Aim| faithfulness(&on.aimed(aim), &[], &scores, 1, &Ctx::default(), &mut |_| ());
            let held = of(Aim::rather_than(other as u32)).unwrap();
            assert_eq!((held.measure.unit, held.measure.signed), ("nats", true));
            // With everything there it is the difference of the two log-probabilities, and with as much gone as is there
            // it is the same from both sides.
            let (deletion, insertion) = (&held.score.deletion, &held.score.insertion);
            let lead = ln_p[best] - ln_p[other];
            assert!((deletion[0][1] - lead).abs() < 1e-4, "{} {lead}", deletion[0][1]);
            assert_eq!(deletion[0][1], insertion[insertion.len() - 1][1]);
            // Turned round it is the same with another sign, and by itself a probability.
            let back = of(Aim { token: Some(other as u32), against: Some(best as u32) }).unwrap();
            for (a, b) in deletion.iter().zip(&back.score.deletion) {
                assert!((a[1] + b[1]).abs() < 1e-6, "{a:?} {b:?}");
            }
            let plain = of(Aim::default()).unwrap();
            assert!((plain.score.deletion[0][1] - ln_p[best].exp()).abs() < 1e-5);
            assert!(
                of(Aim::rather_than(best as u32)).is_err_and(|e| e.to_string().contains("what the model predicts"))
            );
        });
    }

    #[test]
    fn what_stands_behind_the_explained_token_does_not_compete_and_it_stays_itself() {
        let same = |on: &Subject| Scores::new(vec![Some(1.0); on.tower().unwrap().tokens.len()], "parts");
        let found = on("recall", |on, _, _| {
            let scores = same(on);
            let of = |targets: &[usize]| faithfulness(on, targets, &scores, DRAWS, &Ctx::default(), &mut |_| ());
            // Tokens 0 to 5, of which the first is special and the last is explained.
            assert_eq!(of(&[5]).unwrap().competing, 4);
            assert_eq!(of(&[5, 2]).unwrap().competing, 3);
            assert!(of(&[0]).is_err_and(|e| e.to_string().contains("special")));
            assert!(of(&[100_000]).is_err_and(|e| e.to_string().contains("100000")));
            let cancelled = Ctx::new(Arc::new(true.into()), Arc::new(|_| ()));
            faithfulness(on, &[5], &scores, DRAWS, &cancelled, &mut |_| ())
        });
        assert!(matches!(found, Err(Error::Cancelled)));
    }
}
