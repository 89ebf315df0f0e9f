//! Grammars in EBNF, rewritten in Lark's notation so that one engine follows both.
//!
//! Read is: `name ::= …` rules with the rule `root`, `"literals"` with escapes, `[classes]`, groups, `|`, `*`, `+`, `?`,
//! `{m}`, `{m,}`, `{m,n}`, and comments from `#` on. Each character becomes a lexeme of its own: in EBNF nothing is cut
//! into lexemes, so that the longest one must not win.

use crate::{Error, Result};
use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Longest grammar, levels of groups, repetitions of `{m,n}` at most.
const MAX_CHARS: usize = 64 << 10;
const MAX_NESTED: usize = 64;
const MAX_REPEAT: usize = 1000;

/// The same grammar in Lark's notation.
///
/// Errors: what cannot be read, with the line; rules that are named and not there; too large a grammar.
pub fn to_lark(text: &str) -> Result<String> {
    let mut p = Parser { chars: text.chars().collect(), at: 0, names: BTreeMap::new(), rules: Vec::new() };
    if p.chars.len() > MAX_CHARS {
        return Err(Error::invalid(format!("the grammar is longer than {MAX_CHARS} characters")));
    }
    p.rules()?;
    let Some(&root) = p.names.get("root") else { return Err(Error::invalid("the grammar has no rule root")) };
    let mut out = format!("start: r{root}\n");
    for (i, rule) in p.rules.iter().enumerate() {
        let name = || p.names.iter().find(|n| *n.1 == i).map_or("", |n| n.0.as_str());
        let Some(rule) = rule else {
            return Err(Error::invalid(format!("the grammar names the rule {}, which it does not have", name())));
        };
        let _ = writeln!(out, "r{i}: {rule}");
    }
    Ok(out)
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    names: BTreeMap<String, usize>,
    /// Right sides, by rule.
    rules: Vec<Option<String>>,
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
            let right = self.either(0)?;
            if self.rules[id].replace(right).is_some() {
                return Err(self.bad("a rule stands twice"));
            }
            self.space();
            if self.peek() == Some(')') {
                return Err(self.bad(") stands without ("));
            }
        }
        Ok(())
    }

    fn either(&mut self, depth: usize) -> Result<String> {
        if depth > MAX_NESTED {
            return Err(self.bad("groups are nested too deeply"));
        }
        let mut out = self.sequence(depth)?;
        while self.peek() == Some('|') {
            self.at += 1;
            out += " | ";
            out += &self.sequence(depth)?;
        }
        Ok(out)
    }

    /// Elements one after another, up to what ends them; the empty text where there are none.
    fn sequence(&mut self, depth: usize) -> Result<String> {
        let mut out = Vec::new();
        loop {
            self.space();
            let start = self.at;
            let ends = match self.peek() {
                None | Some('|' | ')') => true,
                Some(c) if c.is_alphabetic() || c == '_' => {
                    // The next rule begins here, if ::= follows the name.
                    self.name();
                    self.space();
                    let next = self.defines();
                    self.at = start;
                    next
                }
                Some(_) => false,
            };
            if ends {
                let whole: Vec<String> = out.into_iter().filter(|s: &String| !s.is_empty()).collect();
                return Ok(if whole.is_empty() { "\"\"".into() } else { whole.join(" ") });
            }
            out.push(self.repeated(depth)?);
        }
    }

    /// An element and how often it may stand; nothing for one that may not.
    fn repeated(&mut self, depth: usize) -> Result<String> {
        let one = self.element(depth)?;
        let times = match self.peek() {
            Some(c @ ('*' | '+' | '?')) => {
                self.at += 1;
                c.to_string()
            }
            Some('{') => match self.bounds()? {
                (_, Some(0)) => return Ok(String::new()),
                (low, None) => format!("{{{low},}}"),
                (low, Some(high)) => format!("{{{low},{high}}}"),
            },
            _ => return Ok(one),
        };
        Ok(if one.is_empty() { one } else { format!("({one}){times}") })
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

    fn element(&mut self, depth: usize) -> Result<String> {
        match self.peek() {
            Some('(') => {
                self.at += 1;
                let inner = self.either(depth + 1)?;
                self.space();
                if self.peek() != Some(')') {
                    return Err(self.bad(") is missing"));
                }
                self.at += 1;
                Ok(format!("({inner})"))
            }
            Some('"') => {
                self.at += 1;
                let mut out = Vec::new();
                loop {
                    match self.peek() {
                        None | Some('\n') => return Err(self.bad("\" is missing")),
                        Some('"') => break,
                        Some(_) => out.push(one_of(&[(self.char()?, None)])),
                    }
                }
                self.at += 1;
                Ok(out.join(" "))
            }
            Some('[') => self.class(),
            _ => {
                let name = self.name().ok_or_else(|| self.bad("a literal, a class, a group or a rule is missing"))?;
                Ok(format!("r{}", self.rule(name)))
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

    fn class(&mut self) -> Result<String> {
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
        let ranges: Vec<(char, Option<char>)> = class.ranges().iter().map(|r| (r.start(), Some(r.end()))).collect();
        if ranges.is_empty() {
            return Err(self.bad("a class holds no character"));
        }
        Ok(one_of(&ranges))
    }
}

/// A character of these ranges, as an expression in Lark's notation.
fn one_of(ranges: &[(char, Option<char>)]) -> String {
    let mut out = String::from("/[");
    for &(low, high) in ranges {
        let _ = write!(out, "\\x{{{:x}}}", u32::from(low));
        if let Some(high) = high.filter(|h| *h != low) {
            let _ = write!(out, "-\\x{{{:x}}}", u32::from(high));
        }
    }
    out + "]/"
}

#[cfg(test)]
mod tests {
    use super::super::grammar::{Constraint, Rule, Words};
    use super::*;
    use std::sync::Arc;

    fn accepts(grammar: &str, text: &str) -> bool {
        let lark = to_lark(grammar).unwrap();
        let words = Arc::new(Words::new((0..=255u8).map(|b| vec![b]).collect()));
        let mut c = Constraint::new(Rule::Lark(&lark), words).unwrap();
        text.bytes().all(|b| c.allows(&[b.into()]) == 1 && c.take(b.into()).is_ok()) && c.ends()
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
        // Alternatives that begin alike are kept, whichever is the longer.
        let g = "root ::= \"ab\" \"c\" | \"a\" \"bd\" | \"/\" | \"\\\"\" | ";
        assert!(["abc", "abd", "/", "\"", ""].iter().all(|t| accepts(g, t)) && !accepts(g, "ab"));
    }

    #[test]
    fn rules_may_begin_or_end_with_themselves() {
        let long = "a".repeat(2000);
        assert!(accepts("root ::= root \"a\" | \"b\"", &format!("b{long}")));
        assert!(accepts("root ::= \"a\" root | \"b\"", &format!("{long}b")));
    }

    #[test]
    fn what_cannot_be_read_says_where() {
        for bad in [
            "",
            "root ::= other",
            "root = \"a\"",
            "root ::= \"a",
            "root ::= (\"a\"",
            "root ::= \"a\")",
            "root ::= [z-a]",
            "root ::= []",
            "root ::= \"a\"{3,2}",
        ] {
            assert!(to_lark(bad).is_err(), "{bad}");
        }
        let why = to_lark("root ::= a\na ::= \"x").unwrap_err().to_string();
        assert!(why.contains("line 2"), "{why}");
    }
}
