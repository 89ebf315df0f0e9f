//! What a cache policy did, as pictures: which keys each step could read, bytes, attention lost.

use super::CacheRun;
use crate::array::Array;
use crate::finding::{Axis, Datum, Figure, Finding, Matrix, Measure, Plot, Series, SeriesRole, Style, Table, Unit};
use crate::trace::Tower;
use crate::{Result, Subject};
use serde_json::json;
use std::ops::Range;

impl CacheRun {
    /// Step by key for every layer, bytes and lost attention by step, and the numbers behind them.
    pub fn finding(&self, on: &Subject) -> Result<Finding> {
        let mut out = Finding::default();
        let n_layers = self.steps.first().map_or(0, |s| s.layers.len());
        // Policies that look at nothing keep the same everywhere.
        let alike = self.steps.iter().all(|s| s.layers.iter().all(|l| l.kept == s.layers[0].kept));
        if n_layers > 0 {
            out = out.with(self.held(if alike { "every layer" } else { "all layers" }, 0..n_layers)?);
        }
        out = out.with(self.bytes());
        for layer in (0..n_layers).filter(|_| !alike && n_layers > 1) {
            out = out.with(self.held(&format!("layer {layer}"), layer..layer + 1)?);
        }
        if n_layers > 0 {
            out = out.with(self.lost()?);
        }
        out = out.with(self.table(&|id| on.word(id)));
        if self.steps.iter().all(|s| s.bytes == s.full_bytes) {
            out.notes.push("nothing was taken away: the text has no more tokens than the policy keeps".into());
        }
        let agree = self.steps.iter().zip(&self.reduced[1..]).filter(|(s, id)| s.full_next == **id).count();
        if !self.steps.is_empty() {
            out = out.figure(Figure::new(
                "next token agrees",
                Datum::Share(agree as f64 / self.steps.len() as f64),
                "steps at which the full model, reading the same text, would write the same token",
            ));
        }
        let same = self.full.iter().zip(&self.reduced).take_while(|(a, b)| a == b).count();
        let last = self.steps.last();
        let share = |s: &super::CacheStep| s.bytes as f64 / s.full_bytes.max(1) as f64;
        Ok(out
            .figure(Figure::new("text", Datum::Text(on.text(&self.reduced)), "what the model writes with this cache"))
            .figure(Figure::new("full text", Datum::Text(on.text(&self.full)), "what it writes with a full cache"))
            .figure(Figure::new(
                "bytes left",
                Datum::Share(last.map_or(1.0, share).min(1.0)),
                "bytes of keys and values at the last step, of those of a full cache",
            ))
            .figure(Figure::new(
                "attention lost",
                Datum::Share(self.mean_lost().clamp(0.0, 1.0)),
                "mean over steps, layers and heads: what of the full model's attention, reading the same text, falls on \
                 tokens that are gone",
            ))
            .figure(Figure::new(
                "same text for",
                Datum::Count(same),
                format!("tokens until the text differs from the full model's, of {}", self.full.len()),
            ))
            .figure(Figure::new(
                "numbered anew",
                Datum::Flag(self.renumbered),
                "whether positions count places in the cache instead of places in the text",
            )))
    }

    fn mean_lost(&self) -> f64 {
        let all = || self.steps.iter().flat_map(|s| &s.layers).flat_map(|l| &l.lost);
        all().map(|&l| f64::from(l)).sum::<f64>() / all().count().max(1) as f64
    }

    fn bytes(&self) -> Plot {
        let series = |name, role, of: fn(&super::CacheStep) -> u64| {
            let points = self.steps.iter().enumerate().map(|(i, s)| [(i + 1) as f64, of(s) as f64]).collect();
            Series { role, ..Series::new(name, Style::Step, points) }
        };
        Plot::new(
            "Keys and values in memory",
            Axis::Unit(Unit::Steps),
            Measure::new("memory", "bytes"),
            vec![
                series("kept", SeriesRole::Main, |s| s.bytes),
                series("full cache", SeriesRole::Reference, |s| s.full_bytes),
            ],
        )
    }

    /// Rows are the tokens read after the prompt, columns the text; a cell is the share of the layers' key-value heads
    /// that hold the token. What was not read yet has no value.
    fn held(&self, name: &str, layers: Range<usize>) -> Result<Matrix> {
        let n = self.n_prompt + self.steps.len();
        let mut cells = vec![f32::NAN; self.steps.len() * n];
        for (i, (step, row)) in self.steps.iter().zip(cells.chunks_mut(n)).enumerate() {
            let row = &mut row[..=self.n_prompt + i];
            row.fill(0.0);
            for layer in &step.layers[layers.clone()] {
                let heads = layer.kept.all();
                let one = 1.0 / (heads.len() * layers.len()) as f64;
                heads.iter().flat_map(|kept| kept.iter()).for_each(|&token| row[token] += one as f32);
            }
            row.iter_mut().for_each(|share| *share = share.min(1.0));
        }
        let measure = Measure::new("held by", "share of heads");
        let cells = Array::new([self.steps.len(), n], cells)?;
        Matrix::dense(format!("Keys held in {name}"), Unit::Steps, Unit::Tokens(Tower::Text), measure, cells)
    }

    /// Attention lost, by step and head of every layer.
    fn lost(&self) -> Result<Matrix> {
        let cells: Vec<f32> = self.steps.iter().flat_map(|s| &s.layers).flat_map(|l| l.lost.iter().copied()).collect();
        let rows = self.steps.len();
        let cells = Array::new([rows, cells.len() / rows.max(1)], cells)?;
        let heads = Unit::Heads { per_layer: self.n_heads };
        let measure = Measure::new("attention lost", "share of the full model's");
        Matrix::dense("Attention on tokens that are gone", Unit::Steps, heads, measure, cells)
    }

    fn table(&self, words: &dyn Fn(u32) -> String) -> Table {
        let columns = [
            "step",
            "position",
            "id",
            "token",
            "id of the full model",
            "token of the full model",
            "rows per head",
            "bytes",
            "full bytes",
            "attention lost",
        ];
        let rows = self.steps.iter().enumerate().map(|(i, s)| {
            let held: usize = s.layers.iter().map(|l| l.kept.all().iter().map(|k| k.len()).sum::<usize>()).sum();
            let heads: usize = s.layers.iter().map(|l| l.kept.all().len()).sum();
            let lost: Vec<f32> = s.layers.iter().flat_map(|l| l.lost.iter().copied()).collect();
            vec![
                json!(i + 1),
                json!(s.position),
                json!(self.reduced.get(i)),
                json!(self.reduced.get(i).map(|id| words(*id))),
                json!(self.full.get(i)),
                json!(self.full.get(i).map(|id| words(*id))),
                json!(held as f64 / heads.max(1) as f64),
                json!(s.bytes),
                json!(s.full_bytes),
                json!(lost.iter().sum::<f32>() / lost.len().max(1) as f32),
            ]
        });
        Table { rows: rows.collect(), ..Table::new(&columns).titled("Steps") }
    }
}

#[cfg(test)]
mod tests {
    use crate::ctx::Ctx;
    use crate::finding::Picture;
    use crate::method::Params;
    use crate::model::tests::tiny;
    use crate::run::{RunRequest, run};
    use crate::trace::CaptureSpec;
    use crate::{Subject, cache};

    #[test]
    fn streaming_shows_a_sink_and_a_window_that_moves() {
        let model = tiny();
        let request = RunRequest { ids: Some(vec![3, 1, 4, 15, 9, 2, 6, 5]), ..RunRequest::default() };
        let trace = run(model.as_ref(), None, &request, &CaptureSpec::views(), &Ctx::default()).unwrap();
        let on = Subject::new(&trace).with_model(model.as_ref());
        let params = Params::new().set("start", 1).set("recent", 3).set("new_tokens", 4);
        let method = cache::ALL.iter().find(|m| m.info().id == "streaming_llm").unwrap();
        let run = cache::run(*method, &on, &params, &Ctx::default()).unwrap();
        let finding = run.finding(&on).unwrap();
        finding.check().unwrap();
        let Picture::Matrix(held) = &finding.pictures[0] else { panic!() };
        let row = |i: usize| (0..11).map(|c| held.at(i, c)).collect::<Vec<_>>();
        let (o, x) = (Some(0.0), Some(1.0));
        assert_eq!(row(0), [x, o, o, o, o, o, x, x, x, None, None]);
        assert_eq!(row(2), [x, o, o, o, o, o, o, o, x, x, x]);
        // Four rows are held whenever a token is read, at the last of their places.
        assert!(run.steps.iter().all(|s| s.position == 3 && s.bytes * 9 <= s.full_bytes * 4));
        assert!(run.renumbered);
        // A budget that leaves room for everything changes nothing.
        let params = Params::new().set("start", 4).set("recent", 60).set("new_tokens", 4);
        let run = cache::run(*method, &on, &params, &Ctx::default()).unwrap();
        assert_eq!(run.finding(&on).unwrap().notes.len(), 1);
        assert_eq!((run.reduced, run.renumbered), (run.full, false));
    }

    #[test]
    fn snapkv_lets_every_head_hold_its_own_tokens() {
        let model = tiny();
        let request = RunRequest { ids: Some((0..20).collect()), ..RunRequest::default() };
        let trace = run(model.as_ref(), None, &request, &CaptureSpec::views(), &Ctx::default()).unwrap();
        let on = Subject::new(&trace).with_model(model.as_ref());
        let params = Params::new().set("capacity", 6).set("window", 2).set("kernel", 1).set("new_tokens", 3);
        let method = cache::ALL.iter().find(|m| m.info().id == "snapkv").unwrap();
        let run = cache::run(*method, &on, &params, &Ctx::default()).unwrap();
        let sets: Vec<_> = run.steps[1].layers.iter().flat_map(|l| l.kept.all()).collect();
        assert!(sets.iter().all(|s| s.len() == 8 && s[4..] == [18, 19, 20, 21]));
        assert!(sets.iter().any(|s| s != &sets[0]), "heads choose by themselves");
        run.finding(&on).unwrap().check().unwrap();
    }
}
