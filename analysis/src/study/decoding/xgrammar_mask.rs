//! Grammar masks: at each step which tokens a JSON schema, a regular expression or a grammar allows, what is forced, and
//! how much of the vocabulary is decided without context.
//!
//! Source: Dong et al. 2024, "XGrammar: Flexible and Efficient Structured Generation Engine for Large Language Models",
//! arXiv 2411.15100; compared with xgrammar 0.2.8. Takes: a rule and a vocabulary. Gives: the mask at each step, and its
//! split into tokens that the lexeme decides in which the text is, which hang on no context, and those that leave it.
//! Departs: the llguidance crate follows the rule, by Earley parsing instead of stacks; nothing is kept between runs.

use super::super::Method;
use super::ebnf::to_lark;
use super::grammar::{Constraint, Rule, Split, Words};
use crate::ctx::Ctx;
use crate::decode::SEED;
use crate::decode::chance::{Chance as _, Seeded};
use crate::decode::oracle::{Oracle, Reader};
use crate::decode::row::Row;
use crate::finding::{
    Axis, Class, Datum, Figure, Finding, Look, Measure, Plot, Series, Style, Table, TimeCell, Timeline, Unit,
};
use crate::math::{softmax, softmax_of};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::tokenize::Tokenizer;
use crate::{Error, Result, Subject};
use serde_json::{Value, json};
use std::sync::Arc;

const RULE: Param = Param::choice(
    "rule",
    "What may be written: JSON of a schema, texts that match an expression, or texts of a grammar",
    &["grammar", "json_schema", "regex"],
);
const SCHEMA: Param = Param::text(
    "schema",
    "json_schema: the schema of what is written",
    &[
        (
            "person",
            "{\n  \"type\": \"object\",\n  \"properties\": {\n    \"name\": { \"type\": \"string\" },\n    \
             \"age\": { \"type\": \"integer\", \"minimum\": 0 }\n  },\n  \"required\": [\"name\", \"age\"],\n  \
             \"additionalProperties\": false\n}\n",
        ),
        ("any value", "true"),
        (
            "choice",
            "{\n  \"type\": \"object\",\n  \"properties\": { \"answer\": { \"enum\": [\"yes\", \"no\"] } },\n  \
             \"required\": [\"answer\"],\n  \"additionalProperties\": false\n}\n",
        ),
    ],
);
const REGEX: Param = Param::text(
    "regex",
    "regex: the expression that the whole text matches",
    &[
        ("a date", "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"),
        ("a sentence", " ?[A-Z][a-z ,]*\\."),
        ("a number", " ?-?[0-9]+(\\.[0-9]+)?"),
    ],
);
const GRAMMAR: Param = Param::text(
    "grammar",
    "grammar: rules in Lark's notation; the first one is start",
    &[
        (
            "json",
            "start: value\nvalue: object | array | STRING | NUMBER | \"true\" | \"false\" | \"null\"\n\
             object: \"{\" [pair (\",\" pair)*] \"}\"\npair: STRING \":\" value\narray: \"[\" [value (\",\" value)*] \"]\"\n\
             STRING: /\"[^\"\\\\\\x00-\\x1f]*\"/\nNUMBER: /-?[0-9]+(\\.[0-9]+)?/\n%ignore /[ ]/\n",
        ),
        ("numbers", "start: \" \"? NUMBER (\",\" \" \"? NUMBER)*\nNUMBER: /[0-9]+/\n"),
        ("names", "start: \" \"? WORD (\" \" WORD)* \".\"?\nWORD: /[A-Z][a-z]*/\n"),
    ],
);
const TOKENS: Param = Param::count("max_new", "Tokens to write at most", 1, 256, 16);
const FORWARD: Param =
    Param::toggle("fast_forward", "Writes what is forced at once, without asking the model for each token of it", true);
const TEMPERATURE: Param =
    Param::number("temperature", "0 writes the most probable token that is allowed", 0.0, 4.0, 0.0);

static INFO: Info = Info {
    id: "xgrammar_mask",
    title: "Grammar masks",
    summary: "Writes on under a JSON schema, a regular expression or a grammar, and shows at each step what that allows.",
    family: "constraints",
    basis: Basis::Authors { repo: "PyPI xgrammar", commit: "0.2.8" },
    paper: Some(Paper {
        title: "XGrammar: Flexible and Efficient Structured Generation Engine for Large Language Models",
        authors: "Dong et al.",
        year: 2024,
        arxiv: "2411.15100",
    }),
    departs: "the llguidance crate follows the rules and gives the same masks; what hangs on no context is what the lexeme \
              decides in which the text is, where the paper takes the rule of the grammar; nothing is kept between runs",
    needs: &[Need::Writes, Need::Tokenizer],
    params: &[RULE, SCHEMA, REGEX, GRAMMAR, TOKENS, FORWARD, TEMPERATURE, SEED],
    budget: Some(&TOKENS),
    raw: &[Adapter { name: "xgrammar_mask", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct XGrammar;

/// One token that was written.
struct Written {
    /// The step, which may write several.
    step: usize,
    id: u32,
    /// The model's probability, where it was asked.
    p: Option<f64>,
    /// Whether it was forced, or what the model would have written without the rule.
    why: Why,
}

enum Why {
    Forced,
    Own,
    Turned(u32),
}

/// The tokens that spell `forced`, as the tokenizer cuts them, but the last one, to which more may be added.
fn spelled(forced: &[u8], tokenizer: &Tokenizer, before: &[u32], constraint: &mut Constraint) -> Result<Vec<u32>> {
    let Ok(text) = std::str::from_utf8(forced) else { return Ok(Vec::new()) };
    // Cut behind what was written, whose end may change how it is cut.
    let prefix = tokenizer.decode(before, false)?;
    let cut = |text: &str| tokenizer.encode(text, None, false).map(|e| e.ids);
    let (start, all) = (cut(&prefix)?, cut(&format!("{prefix}{text}"))?);
    let Some(mut ids) = all.strip_prefix(&start[..]).map(<[u32]>::to_vec) else { return Ok(Vec::new()) };
    ids.pop();
    ids.truncate(constraint.allows(&ids));
    Ok(ids)
}

impl Method for XGrammar {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        super::show::ready(on, &INFO, params)?;
        let model = on.weights(&INFO)?;
        let tokenizer = on.tokenizer.ok_or_else(|| INFO.needs(Need::Tokenizer.words()))?;
        let text = params.text(match params.choice(&RULE) {
            "json_schema" => &SCHEMA,
            "regex" => &REGEX,
            _ => &GRAMMAR,
        });
        let rule = match params.choice(&RULE) {
            "json_schema" => Rule::Schema(&text),
            "regex" => Rule::Regex(&text),
            _ => Rule::Lark(&text),
        };
        let mut bytes = tokenizer.token_bytes();
        bytes.resize(model.info().vocab, Vec::new());
        let words = Arc::new(Words::new(bytes));
        let mut constraint = Constraint::new(rule, words)?;
        let input = on.again();
        let Some((&last, before)) = input.ids.split_last() else {
            return Err(Error::invalid("the prompt has no tokens"));
        };
        let mut reader = Reader::new(model);
        reader.begin(before, input.image.clone(), ctx)?;
        let (n, temperature) = (params.count(&TOKENS) as usize, params.number(&TEMPERATURE));
        let (forward, mut chance) = (params.toggle(&FORWARD), Seeded::new(params.seed(&SEED)));
        let mut table = Table::new(&[
            "step",
            "token",
            "how",
            "allowed",
            "accepted alone",
            "refused alone",
            "by context",
            "allowed mass",
            "best without",
        ])
        .titled("steps");
        let (mut written, mut splits): (Vec<Written>, Vec<(usize, usize, Split)>) = (Vec::new(), Vec::new());
        // Read, but not yet by the model.
        let mut unread = vec![last];
        let (mut step, mut passes) = (0, 0);
        while written.len() < n && !constraint.stopped() {
            ctx.step(written.len(), n)?;
            if forward {
                let forced = constraint.forced();
                let so_far: Vec<u32> = input.ids.iter().copied().chain(written.iter().map(|w| w.id)).collect();
                let mut ids = match forced.is_empty() {
                    true => Vec::new(),
                    false => spelled(&forced, tokenizer, &so_far, &mut constraint)?,
                };
                ids.truncate(n - written.len());
                if !ids.is_empty() {
                    for &id in &ids {
                        constraint.take(id)?;
                        let empty = [json!(step), json!(on.word(id)), json!("forced")].into_iter();
                        table.rows.push(empty.chain(std::iter::repeat_n(Value::Null, 6)).collect());
                        written.push(Written { step, id, p: None, why: Why::Forced });
                    }
                    unread.extend(&ids);
                    step += 1;
                    continue;
                }
            }
            let row = reader.read(&unread, ctx)?.pop().ok_or_else(|| Error::invalid("the model gave no logits"))?;
            passes += 1;
            let (allowed, split) = constraint.mask()?;
            let Row::Logits(logits) = &row else { break };
            let Some(id) = chosen(logits, &allowed, temperature, &mut chance) else { break };
            let mass: f64 = softmax_of(logits, 1.0, allowed.iter().map(|&i| i as usize)).iter().sum();
            let free = row.best() as u32;
            table.rows.push(vec![
                json!(step),
                json!(on.word(id)),
                json!(if free == id { "as without" } else { "turned" }),
                json!(allowed.len()),
                json!(split.accepted),
                json!(split.rejected),
                json!(split.dependent.0),
                json!(mass),
                json!(on.word(free)),
            ]);
            let why = if free == id { Why::Own } else { Why::Turned(free) };
            written.push(Written { step, id, p: Some(softmax_of(logits, 1.0, [id as usize])[0]), why });
            splits.push((step, allowed.len(), split));
            constraint.take(id)?;
            (unread, step) = (vec![id], step + 1);
        }
        let ids: Vec<u32> = written.iter().map(|w| w.id).collect();
        let series = |name: &'static str, of: fn(&(usize, usize, Split)) -> usize| {
            Series::new(name, Style::Step, splits.iter().map(|s| [s.0 as f64, of(s) as f64]).collect())
        };
        let all = vec![
            series("allowed", |s| s.1),
            series("accepted alone", |s| s.2.accepted),
            series("by context", |s| s.2.dependent.0),
        ];
        let plot = Plot::new("tokens of the vocabulary", Axis::Unit(Unit::Steps), Measure::new("tokens", ""), all);
        let shares: f64 = splits.iter().map(|s| s.2.independent()).sum();
        let forced = written.iter().filter(|w| matches!(w.why, Why::Forced)).count();
        let mut finding = Finding::of(timeline(on, &written, step)).with(plot).with(table);
        if written.is_empty() {
            finding.notes.push("nothing that the rule allows can be spelled with this vocabulary".into());
        }
        Ok(finding
            .figure(Figure::new("text", Datum::Text(on.text(&ids)), "what was written: allowed tokens alone"))
            .figure(Figure::new(
                "may end",
                Datum::Flag(constraint.ends()),
                "whether the rule allows the text to end here",
            ))
            .figure(Figure::new(
                "context-independent",
                Datum::Share(if splits.is_empty() { 1.0 } else { shares / splits.len() as f64 }),
                "tokens of the vocabulary that the lexeme decides by itself in which the text is, accepted or refused, mean \
                 over steps: for those no context is needed, so that they can be kept",
            ))
            .figure(Figure::new("forced", Datum::Count(forced), "tokens that nothing else could have stood for"))
            .figure(Figure::new("passes", Datum::Count(passes), "of the model; one a token without fast-forward")))
    }
}

/// The most probable allowed id, the lowest on a tie, or one drawn among them.
fn chosen(logits: &[f32], allowed: &[u32], temperature: f64, chance: &mut Seeded) -> Option<u32> {
    if temperature > 0.0 && !allowed.is_empty() {
        let own: Vec<f32> =
            allowed.iter().map(|&i| logits.get(i as usize).copied().unwrap_or(f32::NEG_INFINITY)).collect();
        return allowed.get(chance.draw(&softmax(&own, temperature))).copied();
    }
    let value = |i: &u32| logits.get(*i as usize).copied().unwrap_or(f32::NEG_INFINITY);
    allowed.iter().copied().reduce(|best, i| if value(&i) > value(&best) { i } else { best })
}

/// What was written when, what was forced, and where the rule turned the model away.
fn timeline(on: &Subject, written: &[Written], steps: usize) -> Timeline {
    let cell = |(position, w): (usize, &Written)| {
        let (state, why) = match w.why {
            Why::Forced => (0, "forced: nothing else is allowed".to_string()),
            Why::Own => (1, "allowed, and what the model writes without the rule, too".to_string()),
            Why::Turned(free) => (2, format!("allowed; without the rule it would be \"{}\"", on.word(free).trim())),
        };
        TimeCell {
            step: w.step,
            position,
            id: Some(w.id),
            text: on.word(w.id).into(),
            confidence: w.p.map(|p| p as f32),
            why: why.into(),
            state,
        }
    };
    Timeline {
        title: "what was written when".into(),
        steps: Unit::Steps,
        n_steps: steps,
        places: Unit::Positions,
        n_places: written.len(),
        measure: Measure::new("confidence", "probability"),
        states: vec![
            Class::new("forced", "written without asking the model", Look::Given),
            Class::new("as without", "allowed, and the model's own choice", Look::Good),
            Class::new("turned", "the model's own choice was not allowed, or another one was drawn", Look::Category(1)),
        ],
        cells: written.iter().enumerate().map(cell).collect(),
    }
}

/// Raw entry: a `vocab`, `stop_token_ids`, a `walk` of tokens, and one of `grammar_ebnf`, `grammar_lark`, `json_schema` (a
/// schema, or its text) and `regex` → what is allowed after each token of the walk.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let vocab: Vec<String> = input.read("vocab")?;
    let stops: Vec<usize> = input.read_or("stop_token_ids", Vec::new())?;
    let walk: Vec<String> = input.read("walk")?;
    let text = |name: &str| input.read_or(name, None::<String>);
    let schema = match input.read_or("json_schema", Value::Null)? {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    };
    let ebnf = match text("grammar_ebnf")? {
        Some(ebnf) => Some(to_lark(&ebnf).map_err(|e| Error::invalid(format!("field grammar_ebnf: {e}")))?),
        None => None,
    };
    let (lark, regex) = (text("grammar_lark")?, text("regex")?);
    let rules = [
        ebnf.as_deref().map(Rule::Lark),
        lark.as_deref().map(Rule::Lark),
        schema.as_deref().map(Rule::Schema),
        regex.as_deref().map(Rule::Regex),
    ];
    let mut given = rules.into_iter().flatten();
    let (Some(rule), None) = (given.next(), given.next()) else {
        return Err(Error::invalid("one of grammar_ebnf, grammar_lark, json_schema and regex must be given"));
    };
    if stops.iter().any(|s| *s >= vocab.len()) {
        return Err(Error::invalid("stop_token_ids must be ids of vocab"));
    }
    let own = |(id, w): (usize, &String)| if stops.contains(&id) { Vec::new() } else { w.clone().into_bytes() };
    let words = Arc::new(Words::new(vocab.iter().enumerate().map(own).collect()));
    let mut constraint = Constraint::new(rule, words.clone())?;
    let (mut steps, mut whole) = (Vec::new(), Split::default());
    for at in 0..=walk.len() {
        ctx.step(at, walk.len() + 1)?;
        let mut step = json!({ "accepted_token": Value::Null });
        if let Some(token) = at.checked_sub(1).map(|i| &walk[i]) {
            let id = (0..vocab.len() as u32).find(|&i| words.get(i) == token.as_bytes() && !token.is_empty());
            let allowed = |id: &u32, c: &mut Constraint| c.allows(&[*id]) == 1;
            let Some(id) = id.filter(|id| allowed(id, &mut constraint)) else {
                return Err(Error::invalid(format!(
                    "walk: {token:?} is not in vocab, or the grammar does not allow it there"
                )));
            };
            constraint.take(id)?;
            step = json!({ "accepted_token": id, "can_stop": constraint.ends() });
        }
        let (mut allowed, split) = constraint.mask()?;
        whole.accepted += split.accepted;
        whole.rejected += split.rejected;
        whole.dependent.0 += split.dependent.0;
        if constraint.ends() {
            allowed.extend(stops.iter().map(|s| *s as u32));
            allowed.sort_unstable();
            allowed.dedup();
        }
        step["allowed"] = json!(allowed);
        steps.push(step);
    }
    Ok(json!({
        "steps": steps,
        "context_independent_entries": whole.accepted + whole.rejected,
        "context_dependent_entries": whole.dependent.0,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::param::Domain;

    #[test]
    fn the_texts_that_can_be_chosen_can_be_read() {
        let words = Arc::new(Words::new((0..=255u8).map(|b| vec![b]).collect()));
        let presets = |p: &Param| match p.domain {
            Domain::Text { presets } => presets,
            _ => &[],
        };
        let accepts = |rule: Rule, text: &str| {
            let mut c = Constraint::new(rule, words.clone()).unwrap();
            text.bytes().all(|b| c.allows(&[b.into()]) == 1 && c.take(b.into()).is_ok()) && c.ends()
        };
        for (name, good, wrong) in
            [("json", "{\"a\": [1, -2.5]}", "{a}"), ("numbers", "1, 2,3", "1 2"), ("names", "Ada Ben.", "ada")]
        {
            let rule = Rule::Lark(presets(&GRAMMAR).iter().find(|p| p.0 == name).unwrap().1);
            assert!(accepts(rule, good) && !accepts(rule, wrong), "{name}");
        }
        for (name, good, wrong) in [
            ("person", r#"{"name":"Ada","age":36}"#, r#"{"name":1}"#),
            ("any value", "[1,null]", "[1"),
            ("choice", r#"{"answer":"no"}"#, r#"{"answer":"so"}"#),
        ] {
            let rule = Rule::Schema(presets(&SCHEMA).iter().find(|p| p.0 == name).unwrap().1);
            assert!(accepts(rule, good) && !accepts(rule, wrong), "{name}");
        }
        for (name, good, wrong) in [
            ("a date", "2026-11-28", "2026-13-28"),
            ("a sentence", " Ada runs, too.", "ada."),
            ("a number", "-3.5", "3."),
        ] {
            let rule = Rule::Regex(presets(&REGEX).iter().find(|p| p.0 == name).unwrap().1);
            assert!(accepts(rule, good) && !accepts(rule, wrong), "{name}");
        }
    }

    #[test]
    fn the_best_allowed_token_is_taken_and_drawn_ones_are_allowed() {
        let (logits, mut chance) = ([0.0, 3.0, 1.0, 1.0], Seeded::new(1));
        assert_eq!(chosen(&logits, &[0, 2, 3], 0.0, &mut chance), Some(2));
        assert_eq!(chosen(&logits, &[], 1.0, &mut chance), None);
        assert!((0..50).all(|_| chosen(&logits, &[0, 3], 1.0, &mut chance).is_some_and(|i| i == 0 || i == 3)));
    }
}
