//! What grammars allow next: JSON schemas, regular expressions and context-free grammars, followed token by token by the
//! llguidance crate (Earley parsing over the lexemes of a derivative-based lexer).
//!
//! The crate is told limits and guarded: a text that is too large, too deep or too hard is an error and nothing worse.

use crate::foreign::foreign;
use crate::{Error, Result};
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::earley::{BiasComputer, ParserRecognizer};
use llguidance::toktrie::{
    ApproximateTokEnv, INVALID_TOKEN, InferenceCapabilities, Recognizer as _, SimpleVob, TokEnv, TokRxInfo, TokTrie,
};
use llguidance::{ParserFactory, TokenParser};
use std::sync::{Arc, Mutex, PoisonError};

/// What may be written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule<'a> {
    /// JSON of this schema.
    Schema(&'a str),
    /// Texts that match this expression, from their first character to their last.
    Regex(&'a str),
    /// Texts of this grammar, in Lark's notation; it begins with the rule `start`.
    Lark(&'a str),
}

/// Longest text of a grammar, in bytes, and levels of brackets in it.
const MAX_TEXT: usize = 64 << 10;
const MAX_DEPTH: usize = 400;
/// Ways in which alternatives of a schema can be combined at most.
const MAX_WAYS: f64 = 4096.0;
/// The crate goes down a call for each rule that begins with another one.
const STACK: usize = 256 << 20;
const CRATE: &str = "llguidance";

/// A vocabulary by its bytes.
pub struct Words {
    words: Vec<Vec<u8>>,
    /// Ids of words that are not empty, by their bytes.
    order: Vec<u32>,
}

impl Words {
    /// From the bytes of each id; an empty word is never allowed.
    pub fn new(words: Vec<Vec<u8>>) -> Self {
        // The crate takes a byte that no text has for the mark of special tokens.
        let words: Vec<Vec<u8>> =
            words.into_iter().map(|w| if w.first() == Some(&0xff) { Vec::new() } else { w }).collect();
        let mut order: Vec<u32> = (0..words.len() as u32).filter(|&i| !words[i as usize].is_empty()).collect();
        order.sort_by(|&a, &b| words[a as usize].cmp(&words[b as usize]));
        Self { words, order }
    }

    /// The bytes of an id.
    pub fn get(&self, id: u32) -> &[u8] {
        self.words.get(id as usize).map_or(&[], Vec::as_slice)
    }
}

/// How a vocabulary is split at a place of a grammar: what the lexeme that the text is in decides by itself, which hangs
/// on no context and could be kept, and what leaves it, so that the parser has to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Split {
    /// Allowed without asking.
    pub accepted: usize,
    /// Refused without asking.
    pub rejected: usize,
    /// Decided by the parser, and how many of those are allowed.
    pub dependent: (usize, usize),
}

impl Split {
    /// Share of the vocabulary that no context is needed for.
    pub fn independent(&self) -> f64 {
        let own = self.accepted + self.rejected;
        own as f64 / (own + self.dependent.0).max(1) as f64
    }
}

/// Goes through the vocabulary in the order of its bytes, so that what words share is looked at once.
struct Walk {
    words: Arc<Words>,
    trie: TokTrie,
    split: Mutex<Split>,
}

impl BiasComputer for Walk {
    fn compute_bias(&self, parser: &mut ParserRecognizer<'_>, start: &[u8]) -> SimpleVob {
        let (mut set, mut split) = (self.trie.alloc_token_set(), Split::default());
        // Bytes on the parser's stack, and for each whether the parser had been asked by then.
        let (mut path, mut asked): (Vec<u8>, Vec<bool>) = (Vec::new(), Vec::new());
        // What was refused, and whether the parser did it: every word that begins so is refused, too.
        let mut refused: Option<(Vec<u8>, bool)> = None;
        parser.trie_started("mask");
        for &id in &self.words.order {
            let word = &self.words.words[id as usize];
            // Bytes that the grammar has written already are part of the next token.
            let Some(word) = word.strip_prefix(start) else {
                if start.starts_with(word) {
                    set.allow_token(id);
                    split.accepted += 1;
                } else {
                    split.rejected += 1;
                }
                continue;
            };
            if let Some((_, by_parser)) = refused.as_ref().filter(|(r, _)| word.starts_with(r)) {
                match by_parser {
                    true => split.dependent.0 += 1,
                    false => split.rejected += 1,
                }
                continue;
            }
            let shared = path.iter().zip(word).take_while(|(a, b)| a == b).count();
            parser.pop_bytes(path.len() - shared);
            path.truncate(shared);
            asked.truncate(shared);
            let mut fits = true;
            for &b in &word[shared..] {
                let rows = |p: &mut ParserRecognizer| p.stats_mut().rows + p.stats_mut().cached_rows;
                let before = rows(parser);
                fits = parser.try_push_byte(b);
                let by_parser = asked.last() == Some(&true) || rows(parser) != before;
                if !fits {
                    refused = Some(([&path[..], &[b]].concat(), by_parser));
                    match by_parser {
                        true => split.dependent.0 += 1,
                        false => split.rejected += 1,
                    }
                    break;
                }
                path.push(b);
                asked.push(by_parser);
            }
            if fits {
                set.allow_token(id);
                match asked.last() {
                    Some(true) => split.dependent = (split.dependent.0 + 1, split.dependent.1 + 1),
                    _ => split.accepted += 1,
                }
            }
        }
        parser.pop_bytes(path.len());
        parser.trie_finished();
        *self.split.lock().unwrap_or_else(PoisonError::into_inner) = split;
        set
    }

    fn trie(&self) -> &TokTrie {
        &self.trie
    }
}

/// Where a text is in a grammar.
pub struct Constraint {
    parser: TokenParser,
    walk: Arc<Walk>,
}

impl Constraint {
    /// The beginning of `rule` on a vocabulary.
    ///
    /// Errors: a text that cannot be read, with the place; one that is too large, too deep or too hard.
    pub fn new(rule: Rule, words: Arc<Words>) -> Result<Self> {
        let grammar = checked(rule)?;
        let info = TokRxInfo::new(words.words.len() as u32, INVALID_TOKEN);
        let made = || {
            let trie = TokTrie::from(&info, &words.words);
            let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie.clone()));
            let mut factory = ParserFactory::new(&env, InferenceCapabilities::default(), &[]).map_err(why)?;
            factory.quiet();
            *factory.limits_mut() = ParserLimits {
                // A rule that ends with itself is closed as often as it was opened, all at once.
                max_items_in_row: 50_000,
                step_max_items: 200_000,
                max_lexer_states: 50_000,
                max_grammar_size: 200_000,
                precompute_large_lexemes: false,
                verbose_errors: false,
                ..ParserLimits::default()
            };
            let mut parser = factory.create_parser(grammar).map_err(why)?;
            let walk = Arc::new(Walk { words: words.clone(), trie, split: Mutex::default() });
            parser.bias_computer = walk.clone();
            parser.start_without_prompt();
            Ok::<_, String>((parser, walk))
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).stack_size(STACK).build();
        let pool = pool.map_err(|e| Error::invalid(format!("no thread for the grammar: {e}")))?;
        match pool.install(|| foreign(CRATE, made)) {
            Ok(Ok((parser, walk))) => Ok(Self { parser, walk }),
            Ok(Err(why)) | Err(why) => Err(bad(rule, &why)),
        }
    }

    /// What is allowed next, ascending, and how the vocabulary is split there; nothing where the text is whole.
    ///
    /// Errors: a step that is too hard.
    pub fn mask(&mut self) -> Result<(Vec<u32>, Split)> {
        if self.stopped() {
            return Ok((Vec::new(), Split::default()));
        }
        let parser = &mut self.parser;
        match foreign(CRATE, || parser.compute_mask().map_err(why)) {
            Ok(Ok(set)) => {
                let split = *self.walk.split.lock().unwrap_or_else(PoisonError::into_inner);
                Ok((set.iter().collect(), split))
            }
            // A text that cannot go on and may not end: the vocabulary lacks what the grammar needs.
            Ok(Err(_)) if !self.too_hard() => Ok((Vec::new(), Split::default())),
            Ok(Err(why)) | Err(why) => Err(hard(&why)),
        }
    }

    /// Goes on with an id. Errors: it is not allowed, or too hard.
    pub fn take(&mut self, id: u32) -> Result<()> {
        let parser = &mut self.parser;
        let taken = foreign(CRATE, || {
            parser.consume_token(id).map_err(why)?;
            parser.check_stop().map_err(why)
        });
        match taken {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(why)) | Err(why) => Err(hard(&format!("token {id}: {why}"))),
        }
    }

    /// Whether these ids are allowed one after another, and how many of them are.
    pub fn allows(&mut self, ids: &[u32]) -> usize {
        let parser = &mut self.parser;
        foreign(CRATE, || parser.validate_tokens_raw(ids).unwrap_or(0)).unwrap_or(0)
    }

    /// Whether the text may end here.
    pub fn ends(&mut self) -> bool {
        let parser = &mut self.parser;
        self.walk.trie.vocab_size() > 0 && foreign(CRATE, || parser.stopped() || parser.is_accepting()).unwrap_or(false)
    }

    /// Bytes that come next whatever is chosen.
    pub fn forced(&mut self) -> Vec<u8> {
        let parser = &mut self.parser;
        match parser.stopped() {
            true => Vec::new(),
            false => foreign(CRATE, || parser.force_bytes()).unwrap_or_default(),
        }
    }

    /// Whether nothing can follow.
    pub fn stopped(&self) -> bool {
        self.parser.stopped()
    }

    fn too_hard(&self) -> bool {
        use llguidance::api::StopReason::{InternalError, LexerTooComplex, ParserTooComplex};
        matches!(self.parser.stop_reason(), InternalError | LexerTooComplex | ParserTooComplex)
    }
}

/// What the crate says went wrong.
fn why(error: impl std::fmt::Display) -> String {
    format!("{error:#}")
}

fn hard(why: &str) -> Error {
    Error::invalid(format!("the grammar cannot be followed further: {why}"))
}

fn bad(rule: Rule, why: &str) -> Error {
    let what = match rule {
        Rule::Schema(_) => "the JSON schema",
        Rule::Regex(_) => "the regular expression",
        Rule::Lark(_) => "the grammar",
    };
    Error::invalid(format!("{what}: {}", why.trim()))
}

/// The grammar for the crate. Errors: what is seen to be wrong before it is asked, with the place.
fn checked(rule: Rule) -> Result<TopLevelGrammar> {
    let (Rule::Schema(text) | Rule::Regex(text) | Rule::Lark(text)) = rule;
    if text.len() > MAX_TEXT {
        return Err(bad(rule, &format!("{} bytes are more than the {MAX_TEXT} that are read", text.len())));
    }
    let mut depth = 0usize;
    for (i, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            let line = text[..i].matches('\n').count() + 1;
            return Err(bad(rule, &format!("line {line}: brackets are nested more than {MAX_DEPTH} deep")));
        }
    }
    match rule {
        Rule::Schema(text) => {
            let schema: serde_json::Value = serde_json::from_str(text).map_err(|e| bad(rule, &e.to_string()))?;
            if !schema.is_object() && !schema.is_boolean() {
                return Err(bad(rule, "a schema is an object, true or false"));
            }
            if ways(&schema) > MAX_WAYS {
                let many =
                    format!("its allOf and anyOf combine in more than {MAX_WAYS} ways; write fewer alternatives");
                return Err(bad(rule, &many));
            }
            Ok(TopLevelGrammar::from_json_schema(schema))
        }
        Rule::Regex(text) => {
            regex_syntax::parse(text).map_err(|e| bad(rule, &e.to_string()))?;
            Ok(TopLevelGrammar::from_regex(text))
        }
        Rule::Lark(text) if text.trim().is_empty() => Err(bad(rule, "it is empty; it begins with the rule start")),
        Rule::Lark(text) => Ok(TopLevelGrammar::from_lark(text.to_string())),
    }
}

/// In how many ways alternatives that have to hold at once can be combined, at most anywhere in a schema.
fn ways(schema: &serde_json::Value) -> f64 {
    use serde_json::Value;
    let list = |key: &str| schema.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let sum = |key: &str| list(key).iter().map(ways).sum::<f64>();
    let own: f64 = ["anyOf", "oneOf"].iter().map(|k| sum(k).max(1.0)).product();
    let all: f64 = list("allOf").iter().map(ways).product();
    let below = match schema {
        Value::Object(map) => map
            .iter()
            .filter(|(k, _)| !matches!(k.as_str(), "allOf" | "anyOf" | "oneOf"))
            .map(|(_, v)| ways(v))
            .fold(1.0, f64::max),
        Value::Array(items) => items.iter().map(ways).fold(1.0, f64::max),
        _ => 1.0,
    };
    (own * all).max(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(words: &[&str]) -> Arc<Words> {
        Arc::new(Words::new(words.iter().map(|w| w.as_bytes().to_vec()).collect()))
    }

    fn letters() -> Arc<Words> {
        Arc::new(Words::new((0..=255u8).map(|b| if b < 0xf8 { vec![b] } else { Vec::new() }).collect()))
    }

    fn accepts(rule: Rule, text: &str) -> bool {
        let mut c = Constraint::new(rule, letters()).unwrap();
        let ids: Vec<u32> = text.bytes().map(u32::from).collect();
        for id in ids {
            let allowed = c.mask().unwrap().0;
            if !allowed.contains(&id) {
                return false;
            }
            c.take(id).unwrap();
        }
        c.ends()
    }

    #[test]
    fn each_kind_of_rule_allows_its_texts_and_no_others() {
        let schema =
            r#"{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false}"#;
        for (rule, good, wrong) in [
            (Rule::Schema(schema), r#"{"a":12}"#, r#"{"b":1}"#),
            (Rule::Regex("[0-9]{2}-[a-c]+"), "12-abc", "1-abc"),
            (Rule::Regex("a/b|\\d"), "a/b", "a"),
            (Rule::Lark("start: \"(\" start \")\" | \"x\"\n"), "((x))", "((x)"),
            (Rule::Lark("start: start \"a\" | \"b\"\n"), "baaa", "ab"),
        ] {
            assert!(accepts(rule, good) && !accepts(rule, wrong), "{rule:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_where() {
        for (rule, place) in [
            (Rule::Schema("{\n \"type\": \"strin"), "line 2"),
            (Rule::Schema("[1]"), "object"),
            (Rule::Schema("{\"type\": \"number\", \"minimum\": \"x\"}"), "minimum"),
            (Rule::Regex("a(b"), "unclosed"),
            (Rule::Lark("start: \"a\"\nother: (\"b\"\n"), "2("),
            (Rule::Lark("begin: \"a\"\n"), "start"),
            (Rule::Lark("start: missing\n"), "missing"),
            (Rule::Lark(" \n"), "empty"),
        ] {
            let why = Constraint::new(rule, letters()).err().expect("it is refused").to_string();
            assert!(why.contains(place), "{rule:?}: {why}");
        }
    }

    /// None of these may hang, panic or end the process; whether it is refused or followed is its own matter.
    #[test]
    fn hostile_texts_end() {
        let chain: String = (0..3000).map(|i| format!("r{i}: r{}\n", i + 1)).collect();
        let chain = format!("start: r0\n{chain}r3000: \"a\"\n");
        let deep = format!("start: {}\"a\"{}\n", "(".repeat(390), ")".repeat(390));
        let deeper = format!("start: {}", "(".repeat(60_000));
        let many = format!("start: {}\n", (0..3000).map(|i| format!("\"w{i}\"")).collect::<Vec<_>>().join(" | "));
        let alternatives: Vec<String> = (0..20).map(|i| format!("{{\"const\":{i}}}")).collect();
        let any = format!("{{\"anyOf\":[{}]}}", alternatives.join(","));
        let product = format!("{{\"allOf\":[{}]}}", vec![any; 8].join(","));
        let nested = format!("{}1{}", "{\"items\":".repeat(120), "}".repeat(120));
        for rule in [
            Rule::Lark(&chain),
            Rule::Lark(&deep),
            Rule::Lark(&deeper),
            Rule::Lark(&many),
            Rule::Lark("start: start start | \"a\" | \"\"\n"),
            Rule::Lark("start: a\na: b\nb: a\n"),
            Rule::Lark("start: /(a|aa|aaa)*b/ start | \"\"\n"),
            Rule::Regex("(((a{500}){500}){500}){500}"),
            Rule::Regex("(.*a.*b.*c.*d.*){40}"),
            Rule::Regex("[^\\x{0}-\\x{10FFFF}]"),
            Rule::Regex("(?=a)b"),
            Rule::Schema(&product),
            Rule::Schema(&nested),
            Rule::Schema("{\"$ref\":\"#\"}"),
            Rule::Schema(
                "{\"$defs\":{\"a\":{\"$ref\":\"#/$defs/b\"},\"b\":{\"$ref\":\"#/$defs/a\"}},\"$ref\":\"#/$defs/a\"}",
            ),
            Rule::Schema("{\"type\":\"array\",\"minItems\":100000000,\"items\":{\"type\":\"string\"}}"),
            Rule::Schema("{\"type\":\"string\",\"minLength\":4000000000,\"pattern\":\"^(a+)+$\"}"),
            Rule::Schema("{\"type\":\"number\",\"multipleOf\":1e-300}"),
            Rule::Schema("false"),
        ] {
            let Ok(mut c) = Constraint::new(rule, letters()) else { continue };
            for _ in 0..6 {
                let Ok((allowed, _)) = c.mask() else { break };
                let Some(&id) = allowed.first() else { break };
                if c.take(id).is_err() {
                    break;
                }
                c.forced();
                c.ends();
            }
        }
    }

    #[test]
    fn a_token_that_leaves_its_lexeme_asks_the_parser() {
        // After the bracket: digits stay inside of a number, what goes on behind them leaves it, and letters are refused.
        let words = bytes(&["[", "1", "23", "1]", "1,2", "x", "1x", "]"]);
        let mut c = Constraint::new(Rule::Lark("start: \"[\" NUM (\",\" NUM)* \"]\"\nNUM: /[0-9]+/\n"), words).unwrap();
        c.take(0).unwrap();
        let (allowed, split) = c.mask().unwrap();
        assert_eq!(allowed, [1, 2, 3, 4]);
        assert_eq!((split.accepted, split.accepted + split.rejected + split.dependent.0), (2, 8), "{split:?}");
        assert_eq!(split.dependent.1, 2, "{split:?}");
        assert!(!c.ends() && c.forced().is_empty());
    }

    #[test]
    fn what_is_forced_is_known_without_a_choice() {
        let mut c = Constraint::new(Rule::Regex("(cat|car)pet"), letters()).unwrap();
        assert_eq!(c.forced(), b"ca");
        let ids = [u32::from(b'c'), u32::from(b'a'), u32::from(b't'), u32::from(b'x')];
        assert_eq!(c.allows(&ids), 3);
        ids[..3].iter().for_each(|&id| c.take(id).unwrap());
        assert_eq!(c.forced(), b"pet");
        b"pet".iter().for_each(|&b| c.take(u32::from(b)).unwrap());
        assert!(c.ends() && c.stopped() && c.mask().unwrap().0.is_empty());
    }
}
