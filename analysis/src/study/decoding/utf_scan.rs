//! Unconditional token forcing: every id of the vocabulary as the whole text, to find what the model says by heart.
//!
//! Source: Hoscilowicz et al. 2024, "Hiding Text in Large Language Models: Introducing Unconditional Token Forcing
//! Confusion", arXiv 2406.02481, in the form of j-hoscilowic/zurek-stegano unconditional_token_forcing.ipynb. Takes: a model
//! that writes. Gives: what each id is gone on with greedily, how probable that is, and what stands out. Departs: none known;
//! the start token is what the tokenizer puts before a text, and where it puts none a text begins with the id itself.
//! Cost: `length` passes over every id, some hundred ids in one pass as branches of a tree.

use super::super::Method;
use super::show;
use crate::ctx::Ctx;
use crate::decode::oracle::{Oracle, Reader};
use crate::decode::row::Row;
use crate::decode::toy::Markov;
use crate::finding::{Axis, Datum, Figure, Finding, Measure, Plot, Series, Style, Table};
use crate::math::{largest, softmax};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};
use std::collections::HashSet;

const LENGTH: Param = Param::count("length", "Tokens that each id is gone on with", 1, 16, 3);
const FLAG: Param = Param::share("threshold", "Mean probability above which a text stands out", 0.95);
const FIRST: Param = Param::count("ids", "Ids that are looked at, from id 0 on; 0 is all", 0, 1 << 20, 0);
const LONGER: Param = Param::count("longer", "Tokens that those that stand out are gone on with", 0, 128, 24);

static INFO: Info = Info {
    id: "utf_scan",
    title: "Vocabulary scan",
    summary: "Starts a text with every id of the vocabulary and lists those after which the model is surest of what follows.",
    family: "probability",
    basis: Basis::Authors { repo: "j-hoscilowic/zurek-stegano", commit: "a075197" },
    paper: Some(Paper {
        title: "Hiding Text in Large Language Models: Introducing Unconditional Token Forcing Confusion",
        authors: "Hoscilowicz et al.",
        year: 2024,
        arxiv: "2406.02481",
    }),
    departs: "a text starts with what the tokenizer puts before it, or with the id itself where that is nothing",
    needs: &[Need::Writes],
    params: &[LENGTH, FLAG, FIRST, LONGER],
    raw: &[Adapter { name: "utf_scan", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct UtfScan;

/// Texts that are listed and gone on with, at most.
const LISTED: usize = 200;
const GONE_ON: usize = 32;
/// Bytes of logits that a pass makes, about.
const BYTES: usize = 32 << 20;
/// Bars of the histogram.
const BARS: usize = 20;

/// An id and what follows it.
#[derive(Debug, Clone, PartialEq)]
struct Text {
    ids: Vec<u32>,
    /// Sum of the probabilities of all of them; that of the first is 1, as it is put there.
    sum: f64,
}

impl Text {
    fn mean(&self) -> f64 {
        self.sum / self.ids.len().max(1) as f64
    }
}

/// What comes after each of some texts of the same length.
type After<'a> = &'a dyn Fn(&[Text]) -> Result<Vec<Row>>;

/// Each of `texts` gone on with by `length` tokens, the most probable ones, some texts at a time.
fn gone_on(mut texts: Vec<Text>, length: usize, some: usize, after: After, ctx: &Ctx) -> Result<Vec<Text>> {
    let n = texts.len();
    for (i, texts) in texts.chunks_mut(some.max(1)).enumerate() {
        for step in 0..length {
            ctx.step(i * some * length + step * texts.len(), n * length)?;
            let rows = after(texts)?;
            for (text, row) in texts.iter_mut().zip(rows) {
                let p = match &row {
                    Row::Logits(x) => softmax(x, 1.0),
                    Row::Chances(p) => p.clone(),
                };
                let best = row.best();
                text.sum += p.get(best).copied().unwrap_or(0.0);
                text.ids.push(best as u32);
            }
        }
    }
    Ok(texts)
}

/// Texts of one id each.
fn starts(n: usize) -> Vec<Text> {
    (0..n as u32).map(|id| Text { ids: vec![id], sum: 1.0 }).collect()
}

/// What `reader` says after each text behind `start`, as branches of one tree; without a start, text by text.
fn live(reader: &Reader, start: Option<u32>, texts: &[Text], ctx: &Ctx) -> Result<Vec<Row>> {
    let lacks = || Error::invalid("the model gave no logits");
    let Some(start) = start else {
        let last = |t: &Text| reader.clone().read(&t.ids, ctx)?.pop().ok_or_else(lacks);
        return texts.iter().map(last).collect();
    };
    let (mut ids, mut parents, mut ends) = (vec![start], vec![0], Vec::with_capacity(texts.len()));
    for text in texts {
        for (i, &id) in text.ids.iter().enumerate() {
            parents.push(if i == 0 { 0 } else { ids.len() - 1 });
            ids.push(id);
        }
        ends.push(ids.len() - 1);
    }
    let mut rows: Vec<Option<Row>> = reader.clone().read_tree(&ids, &parents, ctx)?.into_iter().map(Some).collect();
    ends.into_iter().map(|i| rows.get_mut(i).and_then(Option::take).ok_or_else(lacks)).collect()
}

/// Share of the pairs of neighbours that were there before: 1 where a text goes round.
fn repeats(ids: &[u32]) -> f64 {
    let mut seen = HashSet::new();
    let again = ids.windows(2).filter(|w| !seen.insert([w[0], w[1]])).count();
    again as f64 / ids.len().saturating_sub(1).max(1) as f64
}

impl Method for UtfScan {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        show::ready(on, &INFO, params)?;
        let model = on.weights(&INFO)?;
        let of = |p| params.count(p) as usize;
        let (length, flag, vocab) = (of(&LENGTH), params.share(&FLAG), model.info().vocab);
        let n = if of(&FIRST) == 0 { vocab } else { of(&FIRST).min(vocab) };
        let start = on.tokenizer.and_then(|t| t.encode("", None, true).ok()).and_then(|e| e.ids.first().copied());
        let reader = Reader::new(model);
        let some = |length: usize| (BYTES / (4 * vocab.max(1) * (length + 1))).clamp(1, 256);
        let after = |texts: &[Text]| live(&reader, start, texts, ctx);
        let texts = gone_on(starts(n), length, some(length), &after, ctx)?;
        let means: Vec<f64> = texts.iter().map(Text::mean).collect();
        let flagged = means.iter().filter(|m| **m > flag).count();
        let order = largest(&means, LISTED);
        let first: Vec<Text> =
            order.iter().filter(|&&i| means[i] > flag).take(GONE_ON).map(|&i| texts[i].clone()).collect();
        let longer = gone_on(first, of(&LONGER), some(length + of(&LONGER)), &after, &ctx.quiet())?;
        let mut table = Table::new(&["id", "token", "text", "mean probability", "stands out", "longer", "repeats"]);
        table.title = "surest texts".into();
        for (k, &i) in order.iter().enumerate() {
            let more = longer.get(k).filter(|t| t.ids.len() > length + 1);
            table.rows.push(vec![
                json!(i),
                json!(on.word(i as u32)),
                json!(on.text(&texts[i].ids)),
                json!(means[i]),
                json!(means[i] > flag),
                json!(more.map(|t| on.text(&t.ids))),
                json!(more.map(|t| repeats(&t.ids))),
            ]);
        }
        let mut counts = [0usize; BARS];
        means.iter().for_each(|m| counts[((m * BARS as f64) as usize).min(BARS - 1)] += 1);
        let bar = |(i, &c): (usize, &usize)| [(i as f64 + 0.5) / BARS as f64, c as f64];
        let bars = vec![Series::new("ids", Style::Bars, counts.iter().enumerate().map(bar).collect())];
        let x = Axis::Number(Measure::new("mean probability", "probability"));
        let mut finding = Finding::of(table)
            .figure(Figure::new("ids", Datum::Count(n), "ids that a text was started with"))
            .figure(Figure::new(
                "stand out",
                Datum::Count(flagged),
                "ids whose text has a mean probability above the threshold; the id itself counts as 1",
            ))
            .figure(Figure::new(
                "mean",
                Datum::Number(means.iter().sum::<f64>() / n.max(1) as f64),
                "mean probability of all texts",
            ));
        finding.pictures.push(Plot::new("how sure texts are", x, Measure::new("ids", ""), bars).into());
        if start.is_none() {
            finding.notes.push("the tokenizer puts nothing before a text, so each begins with the id itself".into());
        }
        if flagged > GONE_ON {
            finding.notes.push(format!("the {GONE_ON} surest of {flagged} that stand out were gone on with"));
        }
        Ok(finding)
    }
}

/// Raw entry: `bigram_logits` `[vocab, vocab]` of what follows each id, `length`, `threshold` → the text of each id.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (logits, [n, m]) = input.finite("bigram_logits")?;
    if n == 0 || m != n {
        return Err(Error::shape("bigram_logits", "[vocab, vocab]", logits.shape()));
    }
    let (length, flag) = (input.within("length", 1..=4096)?, input.read_or("threshold", 0.95)?);
    let table = (0..n).map(|i| softmax(logits.row(i), 1.0)).collect();
    let model = Markov::first_order(table, "bigram_logits")?;
    let after = |texts: &[Text]| -> Result<Vec<Row>> {
        let last = |t: &Text| model.clone().read(&t.ids[t.ids.len() - 1..], ctx);
        Ok(texts.iter().map(last).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    };
    let row = |(start, t): (usize, Text)| json!({ "start": start, "ids": t.ids, "mean_prob": t.mean(), "flagged": t.mean() > flag });
    let texts = gone_on(starts(n), length, 256, &after, ctx)?;
    Ok(json!({ "rows": texts.into_iter().enumerate().map(row).collect::<Vec<_>>() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_surest_way_on_from_each_id_and_its_mean_by_hand() {
        // 0 is followed by 1 with 0.8, 1 by 0 with 0.6: from 0 the mean of 1, 0.8 and 0.6 is 0.8.
        let model = Markov::first_order(vec![vec![0.2, 0.8], vec![0.6, 0.4]], "T").unwrap();
        let ctx = Ctx::default();
        let stopped = Ctx::new(std::sync::Arc::new(true.into()), std::sync::Arc::new(|_| ()));
        let after = |texts: &[Text]| -> Result<Vec<Row>> {
            Ok(texts.iter().map(|t| model.clone().read(&t.ids, &ctx).unwrap().pop().unwrap()).collect())
        };
        for some in [1, 2, 9] {
            let texts = gone_on(starts(2), 2, some, &after, &ctx).unwrap();
            assert_eq!((texts[0].ids.clone(), texts[1].ids.clone()), (vec![0, 1, 0], vec![1, 0, 1]));
            assert!((texts[0].mean() - 0.8).abs() < 1e-12 && (texts[1].mean() - 0.8).abs() < 1e-12);
        }
        assert!(gone_on(starts(2), 2, 1, &after, &stopped).is_err());
        assert_eq!((repeats(&[1, 2, 1, 2, 1]), repeats(&[1, 2, 3]), repeats(&[1])), (0.5, 0.0, 0.0));
    }
}
