//! What two runs predict next, held against each other.

use super::{weights, word};
use crate::finding::{Datum, Figure, Finding, Table};
use crate::math::{divergence, largest, log_softmax};
use crate::model::Writes;
use crate::tokenize::Tokenizer;
use crate::trace::{Site, Tower};
use crate::{Error, Result, Subject};
use candle_core::Tensor;
use serde_json::json;
use std::collections::HashMap;

/// Words of each run that the table lists.
const TOP: usize = 10;

/// Natural logarithms of the probabilities of all words after `token`, or after the last one: the logits of the run
/// where they were kept, else read off its last residual stream.
///
/// Errors: a model that predicts no next token, a run with neither weights nor those logits, no such token.
pub fn next(on: &Subject, token: Option<usize>) -> Result<Vec<f64>> {
    let tower = on.trace.tower(Tower::Text)?;
    let n = tower.tokens.len();
    let at = token.or(n.checked_sub(1)).filter(|t| *t < n);
    let at = at.ok_or_else(|| Error::invalid(format!("there is no token {}", token.unwrap_or(0))))?;
    if on.model.is_some_and(|m| m.info().writes != Writes::Causal) {
        return Err(Error::invalid("this model does not predict the next token"));
    }
    if let Some(row) = on.trace.logit_rows.iter().position(|r| *r == at)
        && let Ok(logits) = on.trace.get(Tower::Text, tower.n_layers, Site::Logits)
    {
        let [rows, _] = logits.array.dims("logits")?;
        if row < rows {
            return Ok(log_softmax(logits.array.row(row)));
        }
    }
    let model = weights(on)?;
    let last = tower.n_layers.checked_sub(1).ok_or_else(|| Error::invalid("the model has no layers"))?;
    let resid = &on.trace.get(Tower::Text, last, Site::ResidPost)?.array;
    let [rows, width] = resid.dims("residual stream")?;
    if rows != n {
        return Err(Error::invalid("the run was reduced; choose the full run"));
    }
    let row = Tensor::from_slice(resid.row(at), (1, width), model.device())?;
    Ok(log_softmax(&model.lens(&row)?.squeeze(0)?.to_vec1::<f32>()?))
}

/// What the first run predicts at a token, minus what the second does: the most probable words of both with their
/// probabilities, and the divergence where both have one vocabulary. Words of different vocabularies are the same where
/// they are spelled alike.
///
/// Errors: those of [`next`].
pub fn contrast(first: (&Subject, Option<usize>), second: (&Subject, Option<usize>)) -> Result<Finding> {
    let (a, b) = (next(first.0, first.1)?, next(second.0, second.1)?);
    Ok(held(&a, &b, first.0.tokenizer, second.0.tokenizer))
}

/// As [`contrast`], of predictions that are known as natural logarithms of probabilities.
pub fn held(a: &[f64], b: &[f64], of_a: Option<&Tokenizer>, of_b: Option<&Tokenizer>) -> Finding {
    let (top_a, top_b) = (largest(a, TOP), largest(b, TOP));
    let alike = |i: usize| i < a.len().min(b.len()) && word(of_a, i) == word(of_b, i);
    let one = a.len() == b.len() && top_a.iter().chain(&top_b).all(|i| alike(*i));
    // Only vocabularies that differ are searched for words of the same spelling.
    let by_word = |tokenizer: Option<&Tokenizer>, n: usize| -> HashMap<String, usize> {
        let all = if one { 0 } else { n };
        (0..all).rev().map(|i| (word(tokenizer, i), i)).collect()
    };
    let (ids_a, ids_b) = (by_word(of_a, a.len()), by_word(of_b, b.len()));
    let mut rows: Vec<(String, Option<f64>, Option<f64>)> = Vec::new();
    for &i in &top_a {
        let w = word(of_a, i);
        let theirs = if one { Some(i) } else { ids_b.get(&w).copied() };
        rows.push((w, Some(a[i].exp()), theirs.map(|j| b[j].exp())));
    }
    for &i in &top_b {
        let w = word(of_b, i);
        let own = if one { Some(i) } else { ids_a.get(&w).copied() };
        if !rows.iter().any(|r| r.0 == w) {
            rows.push((w, own.map(|j| a[j].exp()), Some(b[i].exp())));
        }
    }
    let minus = |r: &(String, Option<f64>, Option<f64>)| Some(r.1? - r.2?);
    let size = |r: &(String, Option<f64>, Option<f64>)| minus(r).or(r.1).or(r.2).unwrap_or(0.0).abs();
    rows.sort_by(|x, y| size(y).total_cmp(&size(x)));
    let mut table =
        Table::new(&["next word", "p, first", "p, second", "difference"]).titled("most probable next words");
    for r in &rows {
        table.rows.push(vec![json!(r.0), json!(r.1), json!(r.2), json!(minus(r))]);
    }
    let mut out = Finding::of(table);
    if let (Some(&x), Some(&y)) = (top_a.first(), top_b.first()) {
        let same = word(of_a, x) == word(of_b, y);
        out = out.figure(Figure::new(
            "same first word",
            Datum::Flag(same),
            "whether both find the same word most probable",
        ));
    }
    if one {
        let nats = |from: &[f64], to: &[f64]| Datum::Number(divergence(from, to));
        let way = |name, from, to, words| Figure::new(name, nats(from, to), words).unit("nats");
        out = out.figure(way("KL, first to second", a, b, "sum of p₁ ln(p₁ / p₂) over the vocabulary")).figure(way(
            "KL, second to first",
            b,
            a,
            "sum of p₂ ln(p₂ / p₁) over the vocabulary",
        ));
    } else {
        out.notes
            .push("the vocabularies differ, so there is no divergence; words spelled alike stand in one row".into());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ln(p: &[f64]) -> Vec<f64> {
        p.iter().map(|p| p.ln()).collect()
    }

    #[test]
    fn differences_of_two_predictions_by_hand() {
        let f = held(&ln(&[0.5, 0.25, 0.25]), &ln(&[0.25, 0.25, 0.5]), None, None);
        let table = f.pictures[0].table();
        assert_eq!(table.rows.len(), 3);
        let of = |w: &str| table.rows.iter().find(|r| r[0] == w).unwrap()[3].as_f64().unwrap();
        assert!((of("<0>") - 0.25).abs() < 1e-12 && of("<1>").abs() < 1e-12 && (of("<2>") + 0.25).abs() < 1e-12);
        assert_eq!(f.figures[0].value, Datum::Flag(false));
        // 0.5 ln 2 + 0 - 0.25 ln 2.
        let Datum::Number(kl) = f.figures[1].value else { panic!() };
        assert!((kl - 0.25 * std::f64::consts::LN_2).abs() < 1e-12);
        assert!(f.check().is_ok());
    }

    #[test]
    fn vocabularies_of_another_size_have_no_divergence() {
        let f = held(&ln(&[0.5, 0.5]), &ln(&[0.25, 0.25, 0.5]), None, None);
        assert_eq!((f.figures.len(), f.notes.len()), (1, 1));
        let table = f.pictures[0].table();
        let last = table.rows.iter().find(|r| r[0] == "<2>").unwrap();
        assert!(last[1].is_null() && last[3].is_null() && last[2].as_f64().is_some());
    }

    #[test]
    fn what_the_last_stream_says_is_what_the_logits_say() {
        use crate::model::LogitRows;
        use crate::model::tests::tiny;
        use crate::run::{RunRequest, run};
        use crate::trace::CaptureSpec;
        let model = tiny();
        let of = |logits| {
            let request = RunRequest { ids: Some(vec![3, 1, 4]), logits: Some(logits), ..RunRequest::default() };
            run(model.as_ref(), None, &request, &CaptureSpec::views(), &crate::Ctx::default()).unwrap()
        };
        let (all, last) = (of(LogitRows::All), of(LogitRows::Last));
        let by = |t| next(&Subject { model: Some(model.as_ref()), ..Subject::new(t) }, Some(1)).unwrap();
        for (x, y) in by(&all).iter().zip(by(&last)) {
            assert!((x - y).abs() < 1e-5, "{x} {y}");
        }
        let on = Subject::new(&all);
        assert!(next(&on, Some(9)).is_err_and(|e| e.to_string().contains("no token 9")));
        assert!(next(&Subject::new(&last), Some(1)).is_err());
    }
}
