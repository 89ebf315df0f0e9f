//! Grammar masks: which tokens a grammar allows next, and for how many of them the stack must be asked.
//!
//! Source: Dong et al. 2024, "XGrammar: Flexible and Efficient Structured Generation Engine for Large Language Models",
//! arXiv 2411.15100; compared with xgrammar 0.2.8. Takes: a grammar and a vocabulary. Gives: the mask at each step. Departs: a
//! plain automaton of ours over bytes without the cache; which tokens stay inside of the present rules is counted, not cached.

use super::super::Method;
use super::grammar::{Grammar, Place};
use crate::ctx::Ctx;
use crate::decode::oracle::{Oracle, Reader};
use crate::finding::{Axis, Datum, Figure, Finding, Measure, Plot, Series, Style, Table, Unit};
use crate::math::softmax_of;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const GRAMMAR: Param = Param::choice(
    "grammar",
    "What may be written: JSON, a list of numbers, or capitalised words",
    &["json", "numbers", "names"],
);
const TOKENS: Param = Param::count("max_new", "Tokens to write at most", 1, 64, 16);

static INFO: Info = Info {
    id: "xgrammar_mask",
    title: "Grammar masks",
    summary: "Writes on under a grammar and shows at each step how many tokens it allows.",
    family: "constraints",
    basis: Basis::Authors { repo: "PyPI xgrammar", commit: "0.2.8" },
    paper: Some(Paper {
        title: "XGrammar: Flexible and Efficient Structured Generation Engine for Large Language Models",
        authors: "Dong et al.",
        year: 2024,
        arxiv: "2411.15100",
    }),
    departs: "an automaton of our own that gives the same masks; it caches nothing, and its split into context-independent \
              tokens asks whether a token stays inside of the present rules",
    needs: &[Need::Writes, Need::Tokenizer],
    params: &[GRAMMAR, TOKENS],
    raw: &[Adapter { name: "xgrammar_mask", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct XGrammar;

/// The grammar of a word of [`GRAMMAR`].
fn chosen(word: &str) -> &'static str {
    match word {
        "json" => {
            "root ::= ws value\nvalue ::= object | array | string | number | \"true\" | \"false\" | \"null\"\n\
             object ::= \"{\" ws (pair (\",\" ws pair)*)? \"}\" ws\npair ::= string ws \":\" ws value ws\n\
             array ::= \"[\" ws (value ws (\",\" ws value ws)*)? \"]\"\nstring ::= \"\\\"\" [^\"\\\\\\x00-\\x1f]* \"\\\"\"\n\
             number ::= \"-\"? [0-9]+ (\".\" [0-9]+)?\nws ::= \" \"?\n"
        }
        "numbers" => "root ::= \" \"? [0-9]+ (\",\" \" \"? [0-9]+)*\n",
        _ => "root ::= \" \"? word (\" \" word)* \".\"?\nword ::= [A-Z] [a-z]*\n",
    }
}

/// Allowed tokens of a vocabulary, and how many of them the stack was not needed for.
fn mask(g: &Grammar, place: &Place, words: &[Vec<u8>], ctx: &Ctx) -> Result<(Vec<usize>, usize)> {
    let (mut out, mut inside) = (Vec::new(), 0);
    for (id, bytes) in words.iter().enumerate().filter(|(_, b)| !b.is_empty()) {
        ctx.check()?;
        if let Some(alone) = g.inside(place, bytes)? {
            out.push(id);
            inside += usize::from(alone);
        }
    }
    Ok((out, inside))
}

impl Method for XGrammar {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        super::show::ready(on, &INFO, params)?;
        let model = on.weights(&INFO)?;
        let tokenizer = on.tokenizer.ok_or_else(|| INFO.needs(Need::Tokenizer.words()))?;
        let grammar = Grammar::parse(chosen(params.choice(&GRAMMAR)))?;
        // What is no whole character alone stands for no text here.
        let word = |id: usize| {
            let text = tokenizer.token_text(id as u32);
            if text.contains('\u{fffd}') { Vec::new() } else { text.into_bytes() }
        };
        let words: Vec<Vec<u8>> = (0..model.info().vocab.min(tokenizer.vocab_size())).map(word).collect();
        let input = on.again();
        let Some((&last, before)) = input.ids.split_last() else {
            return Err(Error::invalid("the prompt has no tokens"));
        };
        let mut reader = Reader::new(model);
        reader.begin(before, input.image.clone(), ctx)?;
        let (mut last, mut place, mut written) = (last, grammar.start()?, Vec::new());
        let n = params.count(&TOKENS) as usize;
        let mut table =
            Table::new(&["token", "allowed", "inside a rule", "allowed mass", "best without"]).titled("steps");
        let (mut counts, mut own) = (Vec::new(), Vec::new());
        for step in 0..n {
            ctx.step(step, n)?;
            let row = reader.read(&[last], ctx)?.pop().ok_or_else(|| Error::invalid("the model gave no logits"))?;
            let (allowed, inside) = mask(&grammar, &place, &words, ctx)?;
            let crate::decode::row::Row::Logits(logits) = &row else { break };
            let mut best = None;
            for &id in &allowed {
                if best.is_none_or(|b: usize| logits[id] > logits[b]) {
                    best = Some(id);
                }
            }
            let Some(id) = best else { break };
            let mass: f64 = softmax_of(logits, 1.0, allowed.iter().copied()).iter().sum();
            let free = on.word(row.best() as u32);
            table.rows.push(vec![
                json!(on.word(id as u32)),
                json!(allowed.len()),
                json!(inside),
                json!(mass),
                json!(free),
            ]);
            counts.push([step as f64, allowed.len() as f64]);
            own.push([step as f64, inside as f64]);
            let Some(next) = grammar.after(&place, &words[id])? else { break };
            (place, last) = (next, id as u32);
            written.push(id as u32);
        }
        let all: f64 = counts.iter().map(|c| c[1]).sum();
        let inside: f64 = own.iter().map(|c| c[1]).sum();
        let series = vec![Series::new("allowed", Style::Step, counts), Series::new("inside a rule", Style::Step, own)];
        let plot = Plot::new("tokens allowed", Axis::Unit(Unit::Steps), Measure::new("tokens", ""), series);
        let share = if all > 0.0 { inside / all } else { 1.0 };
        Ok(Finding::of(plot)
            .with(table)
            .figure(Figure::new("text", Datum::Text(on.text(&written)), "the most probable allowed tokens"))
            .figure(Figure::new(
                "may end",
                Datum::Flag(grammar.ends(&place)),
                "whether the grammar allows the text to end here",
            ))
            .figure(Figure::new(
                "context-independent",
                Datum::Share(share),
                "allowed tokens that stay inside of the present rules",
            )))
    }
}

/// Raw entry: `grammar_ebnf`, `vocab`, `stop_token_ids`, and a `walk` of tokens → what is allowed after each.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let text: String = input.read("grammar_ebnf")?;
    let vocab: Vec<String> = input.read("vocab")?;
    let stops: Vec<usize> = input.read_or("stop_token_ids", Vec::new())?;
    let walk: Vec<String> = input.read("walk")?;
    let grammar = Grammar::parse(&text).map_err(|e| Error::invalid(format!("field grammar_ebnf: {e}")))?;
    if stops.iter().any(|s| *s >= vocab.len()) {
        return Err(Error::invalid("stop_token_ids must be ids of vocab"));
    }
    let own = |(id, w): (usize, &String)| if stops.contains(&id) { Vec::new() } else { w.clone().into_bytes() };
    let words: Vec<Vec<u8>> = vocab.iter().enumerate().map(own).collect();
    let mut place = grammar.start()?;
    let (mut steps, mut inside, mut outside) = (Vec::new(), 0, 0);
    for at in 0..=walk.len() {
        ctx.step(at, walk.len() + 1)?;
        let mut step = json!({ "accepted_token": Value::Null });
        if let Some(token) = at.checked_sub(1).map(|i| &walk[i]) {
            let id = words.iter().position(|w| w == token.as_bytes() && !w.is_empty());
            let next = match id {
                Some(id) => grammar.after(&place, &words[id])?,
                None => None,
            };
            let Some((id, next)) = id.zip(next) else {
                return Err(Error::invalid(format!(
                    "walk: {token:?} is not in vocab, or the grammar does not allow it there"
                )));
            };
            place = next;
            step = json!({ "accepted_token": id, "can_stop": grammar.ends(&place) });
        }
        let (mut allowed, alone) = mask(&grammar, &place, &words, ctx)?;
        (inside, outside) = (inside + alone, outside + allowed.len() - alone);
        if grammar.ends(&place) {
            allowed.extend(&stops);
            allowed.sort_unstable();
            allowed.dedup();
        }
        step["allowed"] = json!(allowed);
        steps.push(step);
    }
    Ok(json!({ "steps": steps, "context_independent_entries": inside, "context_dependent_entries": outside }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammars_that_can_be_chosen_can_be_read() {
        for (word, good, bad) in
            [("json", "{\"a\":[1,-2.5]}", "{a}"), ("numbers", "1, 2,3", "1 2"), ("names", "Ada Ben.", "ada")]
        {
            let g = Grammar::parse(chosen(word)).unwrap();
            let after = |text: &str| g.after(&g.start().unwrap(), text.as_bytes()).unwrap();
            assert!(after(good).is_some_and(|p| g.ends(&p)) && after(bad).is_none_or(|p| !g.ends(&p)), "{word}");
        }
        let g = Grammar::parse(chosen("numbers")).unwrap();
        let words: Vec<Vec<u8>> = ["1", "a", "12,", ""].iter().map(|w| w.as_bytes().to_vec()).collect();
        assert_eq!(mask(&g, &g.start().unwrap(), &words, &Ctx::default()).unwrap(), (vec![0, 2], 2));
    }
}
