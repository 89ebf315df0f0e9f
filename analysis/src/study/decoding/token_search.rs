//! Test-time search over ordered tokens: best of several texts, beams, and beams that look ahead.
//!
//! Source: Gao et al. 2026, "(1D) Ordered Tokens Enable Efficient Test-Time Search". Takes: a model that writes and a score
//! of any prefix. Gives: every prefix that was scored, and those that were kept. Departs: own reading of the paper; live, the
//! score is the mean log-probability that the model itself gives a prefix, where the paper lets a verifier look at images.

use super::super::Method;
use crate::ctx::Ctx;
use crate::decode::oracle::{Oracle, Reader};
use crate::finding::{Class, Datum, Figure, Finding, Look, Measure, Table, Tree, TreeNode};
use crate::math::{largest, log_softmax};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const BEAMS: Param = Param::count("beam_width", "Prefixes that are kept", 1, 16, 3);
const EXPAND: Param = Param::count("expand", "Most probable tokens tried after each", 1, 16, 3);
const LENGTH: Param = Param::count("length", "Tokens of a text", 1, 24, 6);
const AHEAD: Param = Param::count("lookahead", "Tokens that a prefix is gone on with before it is scored", 0, 16, 2);

static INFO: Info = Info {
    id: "token_search",
    title: "Token search",
    summary: "Searches for the text that scores best, with beams that may look ahead before they are judged.",
    family: "adaptive compute",
    basis: Basis::OwnReading,
    paper: Some(Paper {
        title: "(1D) Ordered Tokens Enable Efficient Test-Time Search",
        authors: "Gao et al.",
        year: 2026,
        arxiv: "",
    }),
    departs: "own reading of the paper; the score is the mean log-probability of the prefix, where the paper has a verifier \
              of images",
    needs: &[Need::Writes],
    params: &[BEAMS, EXPAND, LENGTH, AHEAD],
    budget: Some(&BEAMS),
    raw: &[Adapter { name: "token_search", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct TokenSearch;

/// A model and a verifier of prefixes.
trait World {
    /// Log-probabilities of the next token after a prefix.
    fn prior(&mut self, prefix: &[usize]) -> Result<Vec<f64>>;
    /// Score of a prefix.
    fn score(&mut self, prefix: &[usize]) -> Result<f64>;
}

/// A prefix that was scored.
#[derive(Debug, Clone, PartialEq)]
struct Scored {
    tokens: Vec<usize>,
    score: f64,
    /// Which kept prefix of the round before it continues.
    parent: usize,
}

/// One round: what was scored, and which of it is kept, best first.
#[derive(Debug, Clone, PartialEq, Default)]
struct Round {
    scored: Vec<Scored>,
    kept: Vec<usize>,
}

/// What a search costs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Cost {
    verifier: usize,
    steps: usize,
}

/// How wide and far a search looks.
#[derive(Debug, Clone, Copy)]
struct Rules {
    width: usize,
    expand: usize,
    length: usize,
    ahead: usize,
}

/// Beams; with `ahead` a child is scored as it would go on greedily.
fn beams(world: &mut dyn World, rules: Rules, ctx: &Ctx) -> Result<(Vec<Round>, Cost)> {
    let (mut rounds, mut cost, mut kept): (Vec<Round>, Cost, Vec<Vec<usize>>) =
        (Vec::new(), Cost::default(), vec![vec![]]);
    for depth in 0..rules.length {
        let mut round = Round::default();
        for (parent, prefix) in kept.iter().enumerate() {
            ctx.step(depth * kept.len() + parent, rules.length * kept.len())?;
            let prior = world.prior(prefix)?;
            cost.steps += 1;
            for token in largest(&prior, rules.expand) {
                let tokens = [&prefix[..], &[token]].concat();
                let mut seen = tokens.clone();
                while seen.len() < rules.length.min(tokens.len() + rules.ahead) {
                    let next = largest(&world.prior(&seen)?, 1);
                    cost.steps += 1;
                    seen.extend(next);
                }
                let score = world.score(&seen)?;
                cost.verifier += 1;
                round.scored.push(Scored { tokens, score, parent });
            }
        }
        let scores: Vec<f64> = round.scored.iter().map(|s| s.score).collect();
        round.kept = largest(&scores, rules.width);
        kept = round.kept.iter().map(|&i| round.scored[i].tokens.clone()).collect();
        rounds.push(round);
    }
    Ok((rounds, cost))
}

/// A model that goes on with a prompt, and scores prefixes by their mean log-probability.
struct Live<'a> {
    /// Has read all of the prompt but its last token.
    reader: Reader<'a>,
    last: u32,
    ctx: &'a Ctx,
    /// Mean log-probabilities of prefixes met.
    sums: std::collections::HashMap<Vec<usize>, f64>,
}

impl World for Live<'_> {
    fn prior(&mut self, prefix: &[usize]) -> Result<Vec<f64>> {
        let ids: Vec<u32> = [self.last].into_iter().chain(prefix.iter().map(|&x| x as u32)).collect();
        let row = self
            .reader
            .clone()
            .read(&ids, self.ctx)?
            .pop()
            .ok_or_else(|| Error::invalid("the model gave no logits"))?;
        let logs = match row {
            crate::decode::row::Row::Logits(x) => log_softmax(&x),
            crate::decode::row::Row::Chances(p) => p.into_iter().map(f64::ln).collect(),
        };
        let before = self.sums.get(prefix).copied().unwrap_or(0.0);
        for token in largest(&logs, 32) {
            self.sums.insert([prefix, &[token]].concat(), before + logs[token]);
        }
        Ok(logs)
    }

    fn score(&mut self, prefix: &[usize]) -> Result<f64> {
        Ok(self.sums.get(prefix).copied().unwrap_or(0.0) / prefix.len().max(1) as f64)
    }
}

impl Method for TokenSearch {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        super::show::ready(on, &INFO, params)?;
        let model = on.weights(&INFO)?;
        let input = on.again();
        let Some((&last, before)) = input.ids.split_last() else {
            return Err(Error::invalid("the prompt has no tokens"));
        };
        let mut reader = Reader::new(model);
        reader.begin(before, input.image.clone(), ctx)?;
        let of = |p| params.count(p) as usize;
        let rules = Rules { width: of(&BEAMS), expand: of(&EXPAND), length: of(&LENGTH), ahead: of(&AHEAD) };
        let mut world = Live { reader, last, ctx, sums: Default::default() };
        let (rounds, cost) = beams(&mut world, rules, ctx)?;
        let node = |parent, label: String, id, position, score: Option<f64>, state| TreeNode {
            parent,
            label,
            id,
            position,
            values: vec![score.map(|s| s as f32)],
            state,
        };
        let start = input.ids.len();
        let mut nodes = vec![node(None, on.word(last), Some(last), Some(start - 1), None, 2)];
        let mut kept = vec![0];
        for round in &rounds {
            let first = nodes.len();
            for (i, s) in round.scored.iter().enumerate() {
                let id = s.tokens.last().map(|&x| x as u32);
                let word = id.map_or(String::new(), |id| on.word(id));
                let state = usize::from(!round.kept.contains(&i));
                nodes.push(node(
                    Some(kept[s.parent]),
                    word,
                    id,
                    Some(start + s.tokens.len() - 1),
                    Some(s.score),
                    state,
                ));
            }
            kept = round.kept.iter().map(|i| first + i).collect();
        }
        let tree = Tree {
            title: "prefixes".into(),
            nodes,
            measures: vec![Measure::signed("score", "nats per token")],
            states: vec![
                Class::new("kept", "among the best of its round", Look::Good),
                Class::new("cut", "scored and not kept", Look::Quiet),
                Class::new("start", "the last token of the text", Look::Plain),
            ],
        };
        let best = rounds.last().and_then(|r| r.scored.get(*r.kept.first()?));
        let text = best.map_or(String::new(), |s| on.text(&s.tokens.iter().map(|&x| x as u32).collect::<Vec<_>>()));
        let mut table = Table::new(&["text", "score"]).titled("texts kept last");
        for s in rounds.last().into_iter().flat_map(|r| r.kept.iter().map(|&i| &r.scored[i])) {
            let ids: Vec<u32> = s.tokens.iter().map(|&x| x as u32).collect();
            table.rows.push(vec![json!(on.text(&ids)), json!(s.score)]);
        }
        Ok(Finding::of(tree)
            .with(table)
            .figure(Figure::new("text", Datum::Text(text), "the best of the last round"))
            .figure(Figure::new("scored", Datum::Count(cost.verifier), "prefixes that were judged"))
            .figure(Figure::new(
                "model steps",
                Datum::Count(cost.steps),
                "one for each prefix gone on from, and each token ahead",
            )))
    }
}

/// Tables of a toy, of finite numbers: rows are prefixes as numbers in base V, the first token counting most.
struct Tables<'a> {
    input: &'a RawInput,
    v: usize,
}

impl Tables<'_> {
    /// `None` where the number is too large for any table.
    fn row(&self, prefix: &[usize]) -> Option<usize> {
        prefix.iter().try_fold(0usize, |at, x| at.checked_mul(self.v)?.checked_add(*x))
    }
}

impl World for Tables<'_> {
    fn prior(&mut self, prefix: &[usize]) -> Result<Vec<f64>> {
        let name = format!("prior_{}", prefix.len());
        let array = self.input.array(&name)?;
        let [rows, v] = array.dims(&name)?;
        let Some(row) = self.row(prefix).filter(|row| v == self.v && *row < rows) else {
            return Err(Error::shape(&name, "[prefixes, vocab]", array.shape()));
        };
        Ok(array.row(row).iter().map(|x| f64::from(*x)).collect())
    }

    fn score(&mut self, prefix: &[usize]) -> Result<f64> {
        let name = format!("verifier_{}", prefix.len());
        let array = self.input.array(&name)?;
        let [n] = array.dims(&name)?;
        let value = self.row(prefix).and_then(|row| array.data().get(row));
        value.map(|x| f64::from(*x)).ok_or_else(|| Error::shape(&name, "[prefixes]", &[n]))
    }
}

/// Raw entry: `prior_t` `[vocab^t, vocab]` and `verifier_t` `[vocab^t]`, an algorithm and its widths → the search.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (v, length) = (input.within("vocab", 1..=1 << 16)?, input.within("length", 1..=64)?);
    // Whatever is read later must be numbers.
    for t in 0..length {
        input.array(&format!("prior_{t}"))?.check_finite(&format!("prior_{t}"))?;
        input.array(&format!("verifier_{}", t + 1))?.check_finite(&format!("verifier_{}", t + 1))?;
    }
    let mut world = Tables { input, v };
    let algorithm: String = input.read("algorithm")?;
    if algorithm == "best_of_n" {
        let samples: Vec<Vec<usize>> = match input.arrays.get("samples") {
            Some(a) => {
                let [n, l] = a.dims("samples")?;
                a.check_finite("samples")?;
                (0..n).map(|i| a.row(i)[..l].iter().map(|x| *x as usize).collect()).collect()
            }
            None => input.read("samples")?,
        };
        if samples.is_empty() || samples.iter().any(|s| s.len() != length || s.iter().any(|x| *x >= v)) {
            return Err(Error::invalid("samples must be texts of length ids below vocab, at least one"));
        }
        let mut scores = Vec::with_capacity(samples.len());
        for s in &samples {
            scores.push(world.score(s)?);
        }
        let best = largest(&scores, 1)[0];
        let scored: Vec<Value> =
            samples.iter().zip(&scores).map(|(tokens, score)| json!({ "tokens": tokens, "score": score })).collect();
        return Ok(json!({
            "rounds": [{ "scored": scored, "kept": [best] }],
            "best": samples[best],
            "best_score": scores[best],
            "scores": scores,
            "verifier_calls": samples.len(),
            "model_steps": samples.len() * length,
        }));
    }
    let ahead = match algorithm.as_str() {
        "beam" => 0,
        "lookahead" => input.within("lookahead", 0..=64)?,
        other => return Err(Error::invalid(format!("algorithm must be best_of_n, beam or lookahead, not {other}"))),
    };
    let rules = Rules {
        width: input.within("beam_width", 1..=4096)?,
        expand: input.within("expand", 1..=4096)?,
        length,
        ahead,
    };
    let (rounds, cost) = beams(&mut world, rules, ctx)?;
    let best = rounds.last().and_then(|r| r.scored.get(*r.kept.first()?)).cloned();
    let best = best.ok_or_else(|| Error::invalid("vocab leaves nothing to search"))?;
    let round = |r: &Round| {
        let scored = r.scored.iter().map(|s| json!({ "tokens": s.tokens, "score": s.score }));
        json!({ "scored": scored.collect::<Vec<_>>(), "kept": r.kept })
    };
    Ok(json!({
        "rounds": rounds.iter().map(round).collect::<Vec<_>>(),
        "best": best.tokens,
        "best_score": best.score,
        "verifier_calls": cost.verifier,
        "model_steps": cost.steps,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Token 0 is always likelier; the verifier wants ones, but judges a single 1 badly.
    struct Toy;

    impl World for Toy {
        fn prior(&mut self, _: &[usize]) -> Result<Vec<f64>> {
            Ok(vec![-0.5, -1.0])
        }
        fn score(&mut self, prefix: &[usize]) -> Result<f64> {
            let ones = prefix.iter().filter(|x| **x == 1).count() as f64;
            Ok(if prefix.len() == 1 { -ones } else { ones })
        }
    }

    #[test]
    fn one_beam_is_led_astray_and_a_look_ahead_helps() {
        let rules = Rules { width: 1, expand: 2, length: 2, ahead: 0 };
        let best = |rules| {
            let (rounds, cost) = beams(&mut Toy, rules, &Ctx::default()).unwrap();
            let last = rounds.last().unwrap();
            (last.scored[last.kept[0]].tokens.clone(), cost)
        };
        assert_eq!(best(rules), (vec![0, 1], Cost { verifier: 4, steps: 2 }));
        // With a token ahead 1 0 scores more than 0 0; two tokens ahead of one were asked for.
        assert_eq!(best(Rules { ahead: 1, ..rules }), (vec![1, 1], Cost { verifier: 4, steps: 4 }));
    }
}
