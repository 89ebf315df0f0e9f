//! A token as a lesson names it: by its place in the run or by its text.

use serde_json::Value;
use tokenscope_analysis::token::Token;

/// A token of a run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TokenAt {
    /// By its number from 0; negative ones count from the last.
    Number(i64),
    /// By its exact text; the `nth` from 1 of those that read so, negative ones count from the last.
    Text {
        /// The text, with the space that belongs to it.
        text: String,
        /// Which of them.
        nth: i64,
    },
}

/// How a token is written.
pub(super) const WANTED: &str = "a token: its number, its text, or {\"text\": …, \"nth\": 2}";

impl TokenAt {
    /// Reads one. Errors: what is wrong, in words.
    pub(super) fn read(value: &Value) -> Result<Self, String> {
        let wrong = || format!("write {WANTED}");
        match value {
            Value::Number(n) => n.as_i64().map(Self::Number).ok_or_else(wrong),
            Value::String(text) if !text.is_empty() => Ok(Self::Text { text: text.clone(), nth: 1 }),
            Value::Object(map) => {
                if let Some(key) = map.keys().find(|k| !["text", "nth"].contains(&k.as_str())) {
                    return Err(format!("a token has no field {key}; known: text, nth"));
                }
                let text = map.get("text").and_then(Value::as_str).filter(|t| !t.is_empty()).ok_or_else(wrong)?;
                let nth = map.get("nth").map_or(Some(1), Value::as_i64).filter(|n| *n != 0);
                Ok(Self::Text { text: text.into(), nth: nth.ok_or("nth counts from 1, or from -1 for the last")? })
            }
            _ => Err(wrong()),
        }
    }

    /// The number of the token among these. Errors: there is none, in words.
    pub fn find(&self, tokens: &[Token]) -> Result<usize, String> {
        let counted = |i: i64, n: usize| if i < 0 { n.checked_add_signed(i as isize) } else { usize::try_from(i).ok() };
        match self {
            Self::Number(i) => counted(*i, tokens.len())
                .filter(|i| *i < tokens.len())
                .ok_or_else(|| format!("there is no token {i}: the run has {}", tokens.len())),
            Self::Text { text, nth } => {
                let all: Vec<usize> = (0..tokens.len()).filter(|i| tokens[*i].text == *text).collect();
                let at = if *nth < 0 { *nth } else { nth - 1 };
                let found = counted(at, all.len()).and_then(|i| all.get(i)).copied();
                found.ok_or_else(|| match all.len() {
                    0 => format!("no token of the run reads {text:?}"),
                    n => format!("{n} tokens of the run read {text:?}, not {}", nth.unsigned_abs()),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokenscope_analysis::token::{Source, TokenKind};

    #[test]
    fn a_token_is_found_by_number_and_by_text_from_either_end() {
        let token = |t: &str| Token { id: None, text: t.into(), kind: TokenKind::Text, source: Source::None };
        let tokens: Vec<Token> = ["a", " b", "a", "c", "a"].map(token).into();
        let find = |v: Value| TokenAt::read(&v).unwrap().find(&tokens);
        assert_eq!(find(json!(0)), Ok(0));
        assert_eq!((find(json!(-1)), find(json!(-5))), (Ok(4), Ok(0)));
        assert_eq!((find(json!("a")), find(json!(" b"))), (Ok(0), Ok(1)));
        assert_eq!(find(json!({ "text": "a", "nth": 2 })), Ok(2));
        assert_eq!(find(json!({ "text": "a", "nth": -1 })), Ok(4));
        for (bad, word) in [
            (json!(5), "has 5"),
            (json!(-6), "has 5"),
            (json!("b"), "no token"),
            (json!({ "text": "a", "nth": 4 }), "3 tokens"),
            (json!({ "text": "a", "nth": -4 }), "3 tokens"),
        ] {
            assert!(find(bad.clone()).is_err_and(|e| e.contains(word)), "{bad}");
        }
        for bad in [json!(""), json!(1.5), json!([]), json!({ "text": "a", "nth": 0 }), json!({ "txt": "a" })] {
            assert!(TokenAt::read(&bad).is_err(), "{bad}");
        }
    }
}
