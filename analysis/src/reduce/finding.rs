//! A plan as pictures: what became of the tokens at every step, by what they were chosen, how many rows each layer
//! works on.

use super::judge::Judgement;
use super::place::{Half, Place};
use super::plan::{Fate, Plan};
use crate::finding::{
    self, Axis, Datum, FateStage, Fates, Figure, Finding, Heat, Measure, Plot, Series, Stages, Style, Table, Unit,
};
use crate::trace::{Positions, Tower};
use crate::{Result, Subject};
use serde_json::json;

const SCORE: Measure = Measure::new("score", "");

impl Plan {
    /// What was done to the run, the tower that `on` is about first, and what the reduced model says, where it was
    /// asked. Errors: a run that has no such tower.
    pub fn finding(&self, on: &Subject, judgement: Option<&Judgement>) -> Result<Finding> {
        let mut out = Finding::default();
        let mut towers: Vec<Tower> = self.tokens.keys().copied().filter(|t| *t != on.tower).collect();
        towers.insert(0, on.tower);
        for tower in towers {
            if tower == on.tower || self.of(tower).next().is_some() {
                out = out.with(self.picture(tower)).with(self.rows_plot(on, tower)?);
            }
            if let Some(heat) = self.heat(tower) {
                out = out.with(heat);
            }
        }
        out = out.with(self.steps_table());
        for f in judgement.into_iter().flat_map(figures) {
            out = out.figure(f);
        }
        Ok(out)
    }

    /// Fates of a tower's tokens by step, with what they were chosen by.
    pub fn picture(&self, tower: Tower) -> Fates {
        let n = self.tokens.get(&tower).copied().unwrap_or(0);
        let fate = |f: &Fate| match f {
            Fate::Kept => finding::Fate::Kept,
            Fate::Merged(row) => finding::Fate::Merged(*row),
            Fate::Aside(_) => finding::Fate::Away,
            Fate::Dropped(_) => finding::Fate::Dropped,
        };
        let all = self.of(tower).zip(self.fates(tower)).map(|(step, fates)| FateStage {
            scores: step.by_token(n),
            threshold: step.threshold,
            ..FateStage::new(step.place.to_string(), seen_from(step.place), fates.iter().map(fate).collect())
        });
        let stages: Vec<FateStage> = all.collect();
        let measure = stages.iter().any(|s| !s.scores.is_empty()).then_some(SCORE);
        Fates { title: format!("{}: what is left", words(tower)), unit: Unit::Tokens(tower), measure, stages }
    }

    /// Scores, the last ones whole and all of them by step; `None` where no step scores.
    fn heat(&self, tower: Tower) -> Option<Heat> {
        let n = self.tokens.get(&tower).copied().unwrap_or(0);
        let scored: Vec<_> = self.of(tower).filter(|s| !s.scores.is_empty()).collect();
        let values = scored.last()?.by_token(n);
        let heat = Heat::new(format!("{}: scores", words(tower)), Unit::Tokens(tower), SCORE, values);
        let names = Unit::named(scored.iter().map(|s| s.place.to_string()));
        let stages = Stages { unit: names, values: scored.iter().map(|s| s.by_token(n)).collect() };
        Some(Heat { stages: (scored.len() > 1).then_some(stages), ..heat })
    }

    /// Rows that each layer works on.
    fn rows_plot(&self, on: &Subject, tower: Tower) -> Result<Plot> {
        let rows = self.rows_by_layer(tower, on.trace.tower(tower)?.n_layers);
        let points = rows.iter().enumerate().map(|(l, r)| [l as f64, r.0 as f64]).collect();
        let series = Series::new("rows", Style::Step, points);
        let title = format!("{}: rows by layer", words(tower));
        Ok(Plot::new(title, Axis::Unit(Unit::Layers), Measure::new("rows", ""), vec![series]))
    }

    /// A row for each step.
    fn steps_table(&self) -> Table {
        let columns = ["stack", "place", "rows left", "tokens gone", "tokens set aside", "positions", "threshold"];
        let mut table = Table::new(&columns).titled("steps");
        for s in &self.steps {
            let positions = if s.positions == Positions::Keep { "kept" } else { "counted anew" };
            table.rows.push(vec![
                json!(words(s.place.tower())),
                json!(s.place.to_string()),
                json!(s.rows.len()),
                json!(s.gone.len()),
                json!(s.aside.len()),
                json!(positions),
                json!(s.threshold),
            ]);
        }
        table
    }
}

/// The first layer that sees what was done at a place; `None` where none does.
fn seen_from(place: Place) -> Option<usize> {
    match place {
        Place::Encoder(l, Half::Before) | Place::Decoder(l, Half::Before) => Some(l),
        Place::Encoder(l, _) | Place::Decoder(l, _) => Some(l + 1),
        Place::Features => Some(0),
        Place::Step => None,
    }
}

fn words(tower: Tower) -> &'static str {
    match tower {
        Tower::Text => "language model",
        Tower::Vision => "image encoder",
    }
}

fn figures(j: &Judgement) -> Vec<Figure> {
    let kl = j.kl.map(|v| {
        let meaning = "Kullback–Leibler divergence of the next-token distribution from the full model's";
        Figure::new("KL", Datum::Number(v), meaning).unit("nats")
    });
    let same = j.top1_same.map(|v| Figure::new("same token", Datum::Flag(v), "both models prefer the same next token"));
    let cosine = j.cosine.map(|v| Figure::new("cosine", Datum::Number(v), "of the embedding to the full model's"));
    let share = Figure::new(
        "operations",
        Datum::Share(j.flops_share.min(1.0)),
        "share of the attention and MLP operations that remains, in the stacks that change",
    );
    let bytes = Figure::new(
        "keys and values",
        Datum::Number(j.kv_bytes_by_layer.iter().sum::<usize>() as f64 / 1e3),
        "what the answer reads of the input, as f32",
    );
    [kl, same, cosine, Some(share), Some(bytes.unit("kB"))].into_iter().flatten().collect()
}
