//! Context-free grammars over bytes, read from EBNF, and automata with stacks that follow a text through them.
//!
//! Read is: `name ::= …` rules with the rule `root`, `"literals"` with escapes, `[classes]`, groups, `|`, `*`, `+`, `?`,
//! `{m}`, `{m,}`, `{m,n}`, and comments from `#` on.

use crate::{Error, Result};
use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};
use regex_syntax::utf8::Utf8Sequences;
use std::collections::{BTreeMap, BTreeSet};

/// A step of the automaton.
#[derive(Debug, Clone, Copy)]
enum Edge {
    /// One byte of a range.
    Bytes(u8, u8, usize),
    /// Nothing.
    Free(usize),
    /// Another rule, then on.
    Call(usize, usize),
}

/// A grammar as one automaton per rule.
pub struct Grammar {
    edges: Vec<Vec<Edge>>,
    /// First and last state of each rule.
    rules: Vec<(usize, usize)>,
    /// Whether a state is the last one of a rule.
    last: Vec<bool>,
    root: usize,
}

/// Where a text can be in a grammar: states with the states to return to, all ways at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(BTreeSet<(usize, Vec<usize>)>);

/// Ways at once, states to return to, states of all rules, levels of groups at most.
const MAX_WAYS: usize = 2048;
const MAX_DEPTH: usize = 512;
const MAX_STATES: usize = 200_000;
const MAX_NESTED: usize = 64;
/// Repetitions of `{m,n}` at most.
const MAX_REPEAT: usize = 1000;

impl Grammar {
    /// Reads EBNF. Errors: what cannot be read, with the place; unknown rules; too large a grammar.
    pub fn parse(text: &str) -> Result<Self> {
        let mut p = Parser {
            chars: text.chars().collect(),
            at: 0,
            names: BTreeMap::new(),
            edges: Vec::new(),
            rules: Vec::new(),
        };
        p.rules()?;
        let Some(&root) = p.names.get("root") else { return Err(Error::invalid("the grammar has no rule root")) };
        let mut rules = Vec::with_capacity(p.rules.len());
        for (i, r) in p.rules.iter().enumerate() {
            let name = || p.names.iter().find(|n| *n.1 == i).map_or("", |n| n.0.as_str());
            rules.push(r.ok_or_else(|| {
                Error::invalid(format!("the grammar names the rule {}, which it does not have", name()))
            })?);
        }
        let mut last = vec![false; p.edges.len()];
        rules.iter().for_each(|r| last[r.1] = true);
        Ok(Self { edges: p.edges, rules, last, root })
    }

    /// The beginning. Errors: a rule that begins with itself.
    pub fn start(&self) -> Result<Place> {
        self.closed([(self.rules[self.root].0, Vec::new())])
    }

    /// Everything that can be reached without a byte.
    fn closed(&self, from: impl IntoIterator<Item = (usize, Vec<usize>)>) -> Result<Place> {
        let (mut out, mut todo) = (BTreeSet::new(), from.into_iter().collect::<Vec<_>>());
        while let Some((state, stack)) = todo.pop() {
            if !out.insert((state, stack.clone())) {
                continue;
            }
            if out.len() > MAX_WAYS || stack.len() > MAX_DEPTH {
                return Err(Error::invalid(
                    "the grammar can be followed in too many ways, or a rule begins with itself",
                ));
            }
            // The end of a rule goes back to where it was called.
            if let Some((&back, rest)) = stack.split_last().filter(|_| self.last[state]) {
                todo.push((back, rest.to_vec()));
            }
            for edge in &self.edges[state] {
                match *edge {
                    Edge::Free(to) => todo.push((to, stack.clone())),
                    Edge::Call(rule, to) => todo.push((self.rules[rule].0, [&stack[..], &[to]].concat())),
                    Edge::Bytes(..) => {}
                }
            }
        }
        Ok(Place(out))
    }

    /// Where the text is after these bytes; `None` where the grammar does not allow them.
    pub fn after(&self, place: &Place, bytes: &[u8]) -> Result<Option<Place>> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(Some(place.clone())) };
        let Some(mut now) = self.after_byte(place, first)? else { return Ok(None) };
        for &b in rest {
            let Some(next) = self.after_byte(&now, b)? else { return Ok(None) };
            now = next;
        }
        Ok(Some(now))
    }

    fn after_byte(&self, place: &Place, b: u8) -> Result<Option<Place>> {
        let mut next = Vec::new();
        for (state, stack) in &place.0 {
            for edge in &self.edges[*state] {
                if let Edge::Bytes(low, high, to) = *edge
                    && (low..=high).contains(&b)
                {
                    next.push((to, stack.clone()));
                }
            }
        }
        if next.is_empty() { Ok(None) } else { self.closed(next).map(Some) }
    }

    /// Whether the text may end here.
    pub fn ends(&self, place: &Place) -> bool {
        place.0.contains(&(self.rules[self.root].1, Vec::new()))
    }

    /// Whether these bytes stay inside of the rules that the text is in now, so that no stack is asked; `None` where they
    /// are not allowed at all.
    pub fn inside(&self, place: &Place, bytes: &[u8]) -> Result<Option<bool>> {
        if self.after(place, bytes)?.is_none() {
            return Ok(None);
        }
        let bare: BTreeSet<(usize, Vec<usize>)> = place.0.iter().map(|(state, _)| (*state, Vec::new())).collect();
        Ok(Some(self.after(&Place(bare), bytes)?.is_some()))
    }
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    names: BTreeMap<String, usize>,
    edges: Vec<Vec<Edge>>,
    rules: Vec<Option<(usize, usize)>>,
}

impl Parser {
    fn bad(&self, what: &str) -> Error {
        let line = self.chars[..self.at.min(self.chars.len())].iter().filter(|c| **c == '\n').count() + 1;
        Error::invalid(format!("the grammar, line {line}: {what}"))
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(c) = self.peek() {
            if c == '#' {
                while self.peek().is_some_and(|c| c != '\n') {
                    self.at += 1;
                }
            } else if c.is_whitespace() {
                self.at += 1;
            } else {
                break;
            }
        }
    }

    fn name(&mut self) -> Option<String> {
        let first = |c: char| c.is_alphabetic() || c == '_';
        self.peek().filter(|c| first(*c))?;
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_alphanumeric() || "_-.".contains(c)) {
            self.at += 1;
        }
        Some(self.chars[start..self.at].iter().collect())
    }

    fn defines(&self) -> bool {
        self.chars.get(self.at..self.at + 3) == Some(&[':', ':', '='])
    }

    fn state(&mut self) -> Result<usize> {
        if self.edges.len() == MAX_STATES {
            return Err(self.bad("it is too large"));
        }
        self.edges.push(Vec::new());
        Ok(self.edges.len() - 1)
    }

    fn rule(&mut self, name: String) -> usize {
        let next = self.rules.len();
        let id = *self.names.entry(name).or_insert(next);
        if id == next {
            self.rules.push(None);
        }
        id
    }

    fn rules(&mut self) -> Result<()> {
        self.space();
        while self.peek().is_some() {
            let name = self.name().ok_or_else(|| self.bad("a rule begins with its name"))?;
            self.space();
            if !self.defines() {
                return Err(self.bad("::= is missing after the name of a rule"));
            }
            self.at += 3;
            let id = self.rule(name);
            let from = self.state()?;
            let to = self.either(from, 0)?;
            if self.rules[id].is_some() {
                return Err(self.bad("a rule stands twice"));
            }
            // An end of its own, so that it is no inner state of the rule.
            let end = self.state()?;
            self.edges[to].push(Edge::Free(end));
            self.rules[id] = Some((from, end));
            self.space();
        }
        Ok(())
    }

    /// Alternatives from a state on; gives the state behind them.
    fn either(&mut self, from: usize, depth: usize) -> Result<usize> {
        if depth > MAX_NESTED {
            return Err(self.bad("groups are nested too deeply"));
        }
        let end = self.state()?;
        loop {
            let start = self.state()?;
            self.edges[from].push(Edge::Free(start));
            let last = self.sequence(start, depth)?;
            self.edges[last].push(Edge::Free(end));
            self.space();
            if self.peek() != Some('|') {
                return Ok(end);
            }
            self.at += 1;
        }
    }

    fn sequence(&mut self, mut from: usize, depth: usize) -> Result<usize> {
        loop {
            self.space();
            let start = self.at;
            match self.peek() {
                None | Some('|' | ')') => return Ok(from),
                Some(c) if c.is_alphabetic() || c == '_' => {
                    // The next rule begins here, if ::= follows the name.
                    self.name();
                    self.space();
                    let next = self.defines();
                    self.at = start;
                    if next {
                        return Ok(from);
                    }
                }
                Some(_) => {}
            }
            from = self.repeated(from, depth)?;
        }
    }

    /// An element and how often it may stand.
    fn repeated(&mut self, from: usize, depth: usize) -> Result<usize> {
        let start = self.at;
        let first = self.state()?;
        let last = self.element(first, depth)?;
        let (low, high) = match self.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => {
                let end = self.at;
                let bounds = self.bounds()?;
                let after = self.at;
                return self.copies(from, depth, (start, end, after), bounds);
            }
            _ => {
                self.edges[from].push(Edge::Free(first));
                return Ok(last);
            }
        };
        self.at += 1;
        let end = self.state()?;
        self.edges[from].push(Edge::Free(first));
        self.edges[last].push(Edge::Free(end));
        if low == 0 {
            self.edges[from].push(Edge::Free(end));
        }
        if high.is_none() {
            self.edges[last].push(Edge::Free(first));
        }
        Ok(end)
    }

    /// `{m}`, `{m,}` or `{m,n}`.
    fn bounds(&mut self) -> Result<(usize, Option<usize>)> {
        let close = self.chars[self.at..].iter().position(|c| *c == '}').ok_or_else(|| self.bad("} is missing"))?;
        let inner: String = self.chars[self.at + 1..self.at + close].iter().filter(|c| !c.is_whitespace()).collect();
        let number = |s: &str| s.parse::<usize>().ok().filter(|n| *n <= MAX_REPEAT);
        let bounds = match inner.split_once(',') {
            None => number(&inner).map(|n| (n, Some(n))),
            Some((a, "")) => number(a).map(|a| (a, None)),
            Some((a, b)) => number(a).zip(number(b)).map(|(a, b)| (a, Some(b))),
        };
        let bounds =
            bounds.filter(|b| b.1.is_none_or(|n| n >= b.0)).ok_or_else(|| self.bad("a repetition is no {m,n}"))?;
        self.at += close + 1;
        Ok(bounds)
    }

    /// The element between two places of the text again and again.
    fn copies(
        &mut self,
        from: usize,
        depth: usize,
        (start, end, after): (usize, usize, usize),
        (low, high): (usize, Option<usize>),
    ) -> Result<usize> {
        let (mut at, out) = (from, self.state()?);
        for k in 0..high.unwrap_or(low.max(1)) {
            if k >= low {
                self.edges[at].push(Edge::Free(out));
            }
            let first = self.state()?;
            self.edges[at].push(Edge::Free(first));
            self.at = start;
            let last = self.element(first, depth)?;
            if self.at != end {
                return Err(self.bad("a repetition cannot be read"));
            }
            at = last;
            if high.is_none() && k + 1 >= low {
                self.edges[last].push(Edge::Free(first));
            }
        }
        if low == 0 {
            self.edges[from].push(Edge::Free(out));
        }
        self.edges[at].push(Edge::Free(out));
        self.at = after;
        Ok(out)
    }

    fn element(&mut self, from: usize, depth: usize) -> Result<usize> {
        match self.peek() {
            Some('(') => {
                self.at += 1;
                let end = self.either(from, depth + 1)?;
                self.space();
                if self.peek() != Some(')') {
                    return Err(self.bad(") is missing"));
                }
                self.at += 1;
                Ok(end)
            }
            Some('"') => {
                self.at += 1;
                let mut at = from;
                loop {
                    match self.peek() {
                        None | Some('\n') => return Err(self.bad("\" is missing")),
                        Some('"') => break,
                        Some(_) => {
                            let c = self.char()?;
                            let mut buffer = [0; 4];
                            for &b in c.encode_utf8(&mut buffer).as_bytes() {
                                let next = self.state()?;
                                self.edges[at].push(Edge::Bytes(b, b, next));
                                at = next;
                            }
                        }
                    }
                }
                self.at += 1;
                Ok(at)
            }
            Some('[') => self.class(from),
            _ => {
                let name = self.name().ok_or_else(|| self.bad("a literal, a class, a group or a rule is missing"))?;
                let (rule, to) = (self.rule(name), self.state()?);
                self.edges[from].push(Edge::Call(rule, to));
                Ok(to)
            }
        }
    }

    /// A character, perhaps escaped.
    fn char(&mut self) -> Result<char> {
        let c = self.peek().ok_or_else(|| self.bad("it ends too early"))?;
        self.at += 1;
        if c != '\\' {
            return Ok(c);
        }
        let e = self.peek().ok_or_else(|| self.bad("it ends too early"))?;
        self.at += 1;
        let digits = match e {
            'n' => return Ok('\n'),
            't' => return Ok('\t'),
            'r' => return Ok('\r'),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            other => return Ok(other),
        };
        let hex: String = self.chars.iter().skip(self.at).take(digits).collect();
        self.at += digits;
        let proper = hex.len() == digits && hex.chars().all(|c| c.is_ascii_hexdigit());
        let code = u32::from_str_radix(&hex, 16).ok().filter(|_| proper).and_then(char::from_u32);
        code.ok_or_else(|| self.bad("an escape is no character"))
    }

    fn class(&mut self, from: usize) -> Result<usize> {
        self.at += 1;
        let negated = self.peek() == Some('^');
        self.at += usize::from(negated);
        let mut ranges = Vec::new();
        while self.peek().ok_or_else(|| self.bad("] is missing"))? != ']' {
            let low = self.char()?;
            let through = self.peek() == Some('-') && self.chars.get(self.at + 1).is_some_and(|c| *c != ']');
            let high = if through {
                self.at += 1;
                self.char()?
            } else {
                low
            };
            if high < low {
                return Err(self.bad("a class runs backwards"));
            }
            ranges.push(ClassUnicodeRange::new(low, high));
        }
        self.at += 1;
        let mut class = ClassUnicode::new(ranges);
        if negated {
            class.negate();
        }
        let end = self.state()?;
        for range in class.ranges() {
            for sequence in Utf8Sequences::new(range.start(), range.end()) {
                let (mut at, bytes) = (from, sequence.as_slice());
                for (k, b) in bytes.iter().enumerate() {
                    let next = if k + 1 == bytes.len() { end } else { self.state()? };
                    self.edges[at].push(Edge::Bytes(b.start, b.end, next));
                    at = next;
                }
            }
        }
        Ok(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(grammar: &str, text: &str) -> bool {
        let g = Grammar::parse(grammar).unwrap();
        g.after(&g.start().unwrap(), text.as_bytes()).unwrap().is_some_and(|p| g.ends(&p))
    }

    #[test]
    fn rules_classes_and_repetitions() {
        let g =
            "root ::= item (\",\" item)* # a list\nitem ::= \"é\" | [a-c]+ | \"(\" root \")\" | [^a-z\\x00-\\x7f]{2,3}";
        for text in ["é", "abc,é", "((a),b)", "ää,äöü"] {
            assert!(accepts(g, text), "{text}");
        }
        for text in ["", "d", "(a", "a,", "ä", "äöüä"] {
            assert!(!accepts(g, text), "{text}");
        }
        assert!(
            accepts("root ::= \"a\"{0} \"b\"?", "b")
                && accepts("root ::= \"a\"{2,}", "aaaa")
                && !accepts("root ::= \"a\"{2,}", "a")
        );
    }

    #[test]
    fn what_cannot_be_read_says_where() {
        for bad in [
            "",
            "root ::= other",
            "root = \"a\"",
            "root ::= \"a",
            "root ::= (\"a\"",
            "root ::= [z-a]",
            "root ::= \"a\"{3,2}",
        ] {
            assert!(Grammar::parse(bad).is_err(), "{bad}");
        }
        let left = Grammar::parse("root ::= root \"a\" | \"b\"").unwrap();
        assert!(left.start().is_err());
    }

    #[test]
    fn a_token_that_leaves_its_rule_asks_the_stack() {
        let g = Grammar::parse("root ::= \"[\" num \"]\"\nnum ::= [0-9]+").unwrap();
        let p = g.after(&g.start().unwrap(), b"[1").unwrap().unwrap();
        assert_eq!((g.inside(&p, b"23").unwrap(), g.inside(&p, b"2]").unwrap()), (Some(true), Some(false)));
        assert_eq!(g.inside(&p, b"x").unwrap(), None);
    }
}
