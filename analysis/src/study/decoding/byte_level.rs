//! Exact probabilities of bytes from a model of tokens: every encoding that covers the bytes counts.
//!
//! Source: Phan et al. 2024, "Exact Byte-Level Probabilities from Tokenized Language Models for FIM-Tasks and Model
//! Ensembles", arXiv 2410.09303; the rule of facebookresearch/Exact-Byte-Level-Probabilities. Takes: a tokenizer of merges and
//! what the model says after each token. Gives: covers of a text, the next byte exactly and as by its tokens. Departs: none
//! known; on a loaded model this needs the bytes of every token, which is not here.

use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub(super) static INFO: Info = Info {
    id: "byte_level",
    title: "Byte-level probabilities",
    summary: "Gives the exact next byte of a text, whatever tokens it may be cut into.",
    family: "probability",
    basis: Basis::OwnReading,
    paper: Some(Paper {
        title: "Exact Byte-Level Probabilities from Tokenized Language Models for FIM-Tasks and Model Ensembles",
        authors: "Phan et al.",
        year: 2024,
        arxiv: "2410.09303",
    }),
    departs: "a tokenizer of plain merges and a model that looks at one token back",
    needs: &[Need::Arrays],
    raw: &[Adapter { name: "byte_level", run: raw }],
    ..Info::of(Kind::Study)
};

/// A tokenizer of merges, and the next token after each.
struct World {
    tokens: Vec<String>,
    merges: Vec<[String; 2]>,
    /// Row by token, the last row at the beginning.
    next: Vec<Vec<f64>>,
    alphabet: Vec<char>,
}

/// An encoding and its probability.
type Cover = (Vec<usize>, f64);

/// Covers and what they are expanded to at most.
const MOST: usize = 20_000;

impl World {
    /// The encoding of a text: merges one rule at a time, in order, from left to right.
    fn encode(&self, text: &str) -> Vec<String> {
        let mut out: Vec<String> = text.chars().map(String::from).collect();
        for [a, b] in &self.merges {
            let mut i = 0;
            while i + 1 < out.len() {
                if out[i] == *a && out[i + 1] == *b {
                    out[i] = format!("{a}{b}");
                    out.remove(i + 1);
                }
                i += 1;
            }
        }
        out
    }

    fn id(&self, token: &str) -> Option<usize> {
        self.tokens.iter().position(|t| t == token)
    }

    fn is_valid(&self, ids: &[usize]) -> bool {
        let text: String = ids.iter().map(|&i| self.tokens[i].as_str()).collect();
        let own = self.encode(&text);
        own.len() == ids.len() && own.iter().zip(ids).all(|(a, &i)| *a == self.tokens[i])
    }

    /// Probabilities of tokens after `ids`, those that no encoding has left out; all renormalised, or not.
    fn after(&self, ids: &[usize], renorm: bool) -> Vec<f64> {
        let row = &self.next[ids.last().copied().unwrap_or(self.tokens.len())];
        let own = |t: usize| if self.is_valid(&[ids, &[t]].concat()) { row[t] } else { 0.0 };
        let mut out: Vec<f64> = (0..self.tokens.len()).map(own).collect();
        let sum: f64 = out.iter().sum();
        if renorm && sum > 0.0 {
            out.iter_mut().for_each(|p| *p /= sum);
        }
        out
    }

    /// Encodings that begin with `text` and whose last token begins inside of it, with their probabilities.
    fn covers(&self, text: &str, renorm: bool, ctx: &Ctx) -> Result<Vec<Cover>> {
        let (mut out, mut todo) = (Vec::new(), vec![(Vec::new(), 1.0, 0usize)]);
        while let Some((ids, p, at)) = todo.pop() {
            ctx.check()?;
            if at >= text.len() {
                out.push((ids, p));
                continue;
            }
            if out.len() + todo.len() > MOST {
                return Err(Error::invalid("queries have too many encodings to list"));
            }
            let rest = &text[at..];
            for (t, q) in self.after(&ids, renorm).into_iter().enumerate().rev().filter(|(_, q)| *q > 0.0) {
                let own = &self.tokens[t];
                if rest.starts_with(own.as_str()) || own.starts_with(rest) {
                    todo.push(([&ids[..], &[t]].concat(), p * q, at + own.len()));
                }
            }
        }
        Ok(out)
    }

    /// Probability of a text, its covers, and the next character.
    fn exact(&self, text: &str, renorm: bool, ctx: &Ctx) -> Result<(f64, Vec<Cover>, BTreeMap<char, f64>)> {
        let covers = self.covers(text, renorm, ctx)?;
        let whole: f64 = covers.iter().map(|c| c.1).sum();
        let mut next = BTreeMap::new();
        for &c in &self.alphabet {
            let p: f64 = self.covers(&format!("{text}{c}"), renorm, ctx)?.iter().map(|c| c.1).sum();
            next.insert(c, p);
        }
        let sum: f64 = if renorm { whole } else { next.values().sum() };
        if sum > 0.0 {
            next.values_mut().for_each(|p| *p /= sum);
        }
        Ok((whole, covers, next))
    }

    /// The next character as the tokens of the text foresee it.
    fn naive(&self, text: &str) -> BTreeMap<char, f64> {
        let ids: Vec<usize> = self.encode(text).iter().filter_map(|t| self.id(t)).collect();
        let mut out: BTreeMap<char, f64> = self.alphabet.iter().map(|c| (*c, 0.0)).collect();
        for (t, p) in self.after(&ids, true).into_iter().enumerate() {
            if let Some(c) = self.tokens[t].chars().next() {
                *out.entry(c).or_default() += p;
            }
        }
        out
    }
}

/// Raw entry: `alphabet`, `merges`, `tokens`, `bigram` (the last row begins a text), `queries` → both next bytes of each.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (alphabet, tokens): (String, Vec<String>) = (input.read("alphabet")?, input.read("tokens")?);
    let merges: Vec<[String; 2]> = input.read("merges")?;
    let next = input.table("bigram")?;
    let queries: Vec<String> = input.read("queries")?;
    let n = tokens.len();
    if n == 0 || n > 4096 || next.len() != n + 1 || next[0].len() != n || next.iter().flatten().any(|p| *p < 0.0) {
        return Err(Error::invalid("bigram needs a row of probabilities for each of tokens and one for the beginning"));
    }
    let world = World { tokens, merges, next, alphabet: alphabet.chars().collect() };
    let known = |c: char| world.id(c.encode_utf8(&mut [0; 4])).is_some();
    let merged = world.merges.iter().all(|[a, b]| world.id(&format!("{a}{b}")).is_some());
    if world.tokens.iter().any(String::is_empty) || !world.alphabet.iter().all(|c| known(*c)) || !merged {
        return Err(Error::invalid(
            "tokens must hold every character of alphabet and what every merge gives, none empty",
        ));
    }
    if queries.iter().any(|q| q.chars().count() > 64 || !q.chars().all(|c| world.alphabet.contains(&c))) {
        return Err(Error::invalid("queries must be short texts of the alphabet"));
    }
    let mut out = Map::new();
    for text in &queries {
        let of = |renorm: bool| -> Result<(Value, BTreeMap<char, f64>)> {
            let (p, covers, next) = world.exact(text, renorm, ctx)?;
            let covers: Vec<Value> = covers
                .iter()
                .map(|(ids, p)| json!([ids.iter().map(|&i| world.tokens[i].as_str()).collect::<Vec<_>>(), p]))
                .collect();
            Ok((json!({ "P_prefix": p, "covers": covers, "next_byte": listed(&next) }), next))
        };
        let ((renorm, exact), (truncate, _)) = (of(true)?, of(false)?);
        let naive = world.naive(text);
        let apart = exact.iter().map(|(c, p)| (p - naive.get(c).copied().unwrap_or(0.0)).abs()).sum::<f64>() / 2.0;
        out.insert(
            text.clone(),
            json!({ "renorm": renorm, "truncate": truncate, "naive_token_conditioned_next_byte": listed(&naive),
                "tokenization_bias_tv": apart }),
        );
    }
    Ok(Value::Object(out))
}

fn listed(next: &BTreeMap<char, f64>) -> Value {
    Value::Object(next.iter().map(|(c, p)| (c.to_string(), json!(p))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_a_tokens_first_half_knows_how_it_goes_on() {
        // Tokens a, b, ab; a text begins with a or ab, half each. "a" itself is never followed by b: that would be ab.
        let world = World {
            tokens: ["a", "b", "ab"].map(String::from).to_vec(),
            merges: vec![["a".into(), "b".into()]],
            next: vec![vec![0.5, 0.25, 0.25], vec![0.5, 0.5, 0.0], vec![0.5, 0.5, 0.0], vec![0.5, 0.0, 0.5]],
            alphabet: vec!['a', 'b'],
        };
        assert_eq!(world.encode("aab"), ["a", "ab"]);
        let (p, covers, next) = world.exact("a", true, &Ctx::default()).unwrap();
        assert_eq!((p, covers.len()), (1.0, 2));
        // b follows in the half that is ab, a in the half that is a.
        assert!((next[&'b'] - 0.5).abs() < 1e-12 && world.naive("a")[&'b'] == 0.0);
    }
}
