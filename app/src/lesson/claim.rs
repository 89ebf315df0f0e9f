//! What a caption claims, as data: a quantity of the run and what it has to be.

use super::fields::{Fields, Wrong};
use super::token::{TokenAt, WANTED};
use crate::keys::Call;
use crate::pane::Pane;
use serde_json::{Map, Value};
use tokenscope_analysis::catalog;
use tokenscope_analysis::method::{Info, Kind, Params};
use tokenscope_analysis::trace::Tower;

/// A claim of a caption.
#[derive(Debug, Clone)]
pub struct Claim {
    /// What is looked at.
    pub of: Quantity,
    /// What it has to be.
    pub test: Test,
    /// Where it stands, as `step 3, claims[1]`.
    pub place: String,
}

/// Something that is computed of the run of a step.
#[derive(Debug, Clone)]
pub enum Quantity {
    /// How many tokens a row of the segmentation cuts a text into.
    Tokens {
        /// Name of the row; `None` is the model's own.
        row: Option<String>,
        /// The text; `None` is the prompt.
        text: Option<String>,
    },
    /// Bytes of a text; `None` is the prompt.
    Bytes(Option<String>),
    /// Characters (Unicode scalar values) of a text; `None` is the prompt.
    Characters(Option<String>),
    /// The text of a token of the run.
    Token(TokenAt),
    /// The tokens of the run, or those of a kind of it.
    Count {
        /// `None` counts all, else only those of the picture, or only the others.
        image: Option<bool>,
    },
    /// The most probable next token at a token, by the logit lens after a layer; `level` `None` is the model's own
    /// prediction, 0 reads the inputs.
    Predicts {
        /// The token.
        at: TokenAt,
        /// Levels above the inputs.
        level: Option<usize>,
        /// Place in the list, from 1.
        rank: usize,
    },
    /// The probability of a next token among the first of that list.
    Chance {
        /// Its text.
        of: String,
        /// Where it is predicted.
        at: TokenAt,
        /// As of [`Quantity::Predicts`].
        level: Option<usize>,
    },
    /// The token with the largest score.
    Largest {
        /// The score.
        call: Called,
        /// Tokens that do not compete.
        besides: Vec<TokenAt>,
    },
    /// The score of a token.
    Score {
        /// The score.
        call: Called,
        /// The token.
        at: TokenAt,
    },
    /// Whether the token with the largest score decides the answer, where that is known.
    Hit(Called),
    /// The share of a head's attention that goes from a token to another.
    Attention {
        /// Layer and head.
        head: (usize, usize),
        /// From where; `None` is the mean over all that see it and are not the first.
        from: Option<TokenAt>,
        /// To where.
        to: Target,
    },
    /// How the full or the reduced model goes on, greedily, up to the end of its answer and without spaces around it.
    Answer(Option<Called>),
    /// Whether the reduced model goes on as the full one.
    SameAnswer(Called),
    /// How many tokens a reduction leaves, those of the picture where there is one.
    Kept(Called),
    /// How many of the tokens that decide the answer it leaves, where those are known.
    TrueLeft(Called),
    /// Tokens that a round of a decode with drafts guesses, or of these those that are accepted.
    Round {
        /// The method.
        call: Called,
        /// The round, from 1.
        round: usize,
        /// Whether accepted ones only.
        accepted: bool,
    },
    /// Whether a decode with drafts gives the text that the target writes alone.
    Lossless(Called),
    /// How surprising a token was, in bits.
    Surprisal(TokenAt),
    /// The token from which the strongest edge of the flow comes to a node, itself left out.
    ArrivesFrom {
        /// The graph.
        call: Called,
        /// Level of the node: 1 is the output of layer 0.
        level: usize,
        /// Its token.
        at: TokenAt,
    },
    /// What a model writes by filling in masks.
    Fills(Called),
    /// A figure of what a method finds.
    Found {
        /// The method.
        call: Called,
        /// Name of the figure.
        figure: String,
    },
}

/// Where attention goes.
#[derive(Debug, Clone)]
pub enum Target {
    /// To this token.
    Token(TokenAt),
    /// So many tokens back; 0 is the token itself.
    Back(usize),
}

/// A method that a claim names; what it leaves open is what the step shows.
#[derive(Debug, Clone)]
pub struct Called {
    kind: Option<Kind>,
    method: Option<&'static Info>,
    params: Option<Params>,
}

impl Called {
    /// The call on what a pane shows.
    pub fn on(&self, pane: &Pane) -> Call {
        let kind = self.method.map(|i| i.kind).or(self.kind).unwrap_or(pane.shows.found);
        let shown = pane.call(kind);
        let mut call = match self.method {
            Some(info) if info.id != shown.method => Call::of(info),
            _ => shown,
        };
        if let Some(params) = &self.params {
            call.params = params.clone();
        }
        call
    }
}

/// What a quantity has to be; every part that is there has to hold.
#[derive(Debug, Clone)]
pub struct Test {
    /// Equal to this.
    pub is: Option<Value>,
    /// Different from this.
    pub is_not: Option<Value>,
    /// A text that begins so.
    pub begins: Option<String>,
    /// How far a number may be off what it is to be.
    pub within: f64,
    /// More than this.
    pub above: Option<f64>,
    /// Less than this.
    pub below: Option<f64>,
}

/// Every quantity by its name in a file.
const QUANTITIES: [&str; 21] = [
    "tokens",
    "bytes",
    "characters",
    "token",
    "count",
    "predicts",
    "chance",
    "largest",
    "score",
    "hit",
    "attention",
    "answer",
    "same_answer",
    "kept",
    "true_left",
    "round",
    "lossless",
    "surprisal",
    "arrives_from",
    "fills",
    "found",
];

impl Claim {
    /// Reads a claim that stands at `place`.
    pub(super) fn read(file: &str, place: String, value: Value) -> Result<Self, Wrong> {
        let mut f = Fields::new(file, place.clone(), value)?;
        let test = Test {
            is: f.value("is"),
            is_not: f.value("is_not"),
            begins: f.get("begins", "a text")?,
            within: f.get("within", "a number from 0 up")?.unwrap_or(0.0),
            above: f.get("above", "a number")?,
            below: f.get("below", "a number")?,
        };
        let Test { is, is_not, begins, above, below, .. } = &test;
        if is.is_none() && is_not.is_none() && begins.is_none() && above.is_none() && below.is_none() {
            let add = "add is, is_not, begins, above or below";
            return Err(f.wrong("", format!("it says what is looked at, but not what that is: {add}")));
        }
        for (key, what) in [("is", &test.is), ("is_not", &test.is_not)] {
            if what.as_ref().is_some_and(Value::is_array) {
                return Err(f.wrong(key, "this is a list, write a number, a text, a token, or true or false"));
            }
        }
        let known = || format!("write what is looked at, one of {}", QUANTITIES.join(", "));
        let (name, value) = f.only().ok_or_else(|| f.wrong("", known()))?;
        if !QUANTITIES.contains(&name.as_str()) {
            return Err(f.wrong(&name, format!("nothing of this name is looked at; {}", known())));
        }
        f.end()?;
        // What has one part may be written as that part.
        let value = match (name.as_str(), value) {
            ("token" | "surprisal", v @ (Value::Number(_) | Value::String(_))) => Value::Object(one("at", v)),
            ("token" | "surprisal", Value::Object(map)) if map.contains_key("text") => {
                Value::Object(one("at", Value::Object(map)))
            }
            (_, v) => v,
        };
        let of = quantity(&name, &mut Fields::new(file, f.place(&name), value)?)?;
        Ok(Self { of, test, place })
    }

    /// The tokens that it names.
    pub fn tokens(&self) -> Vec<&TokenAt> {
        match &self.of {
            Quantity::Token(at) | Quantity::Surprisal(at) => vec![at],
            Quantity::Predicts { at, .. } | Quantity::Chance { at, .. } => vec![at],
            Quantity::Score { at, .. } | Quantity::ArrivesFrom { at, .. } => vec![at],
            Quantity::Largest { besides, .. } => besides.iter().collect(),
            Quantity::Attention { from, to, .. } => {
                let to = if let Target::Token(to) = to { Some(to) } else { None };
                from.iter().chain(to).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The stack of layers that its tokens are of; `None` is the one that the step shows.
    pub fn tower(&self) -> Option<Tower> {
        matches!(self.of, Quantity::Predicts { .. } | Quantity::Chance { .. } | Quantity::Surprisal(_))
            .then_some(Tower::Text)
    }
}

fn one(key: &str, value: Value) -> Map<String, Value> {
    Map::from_iter([(key.to_string(), value)])
}

fn quantity(name: &str, f: &mut Fields) -> Result<Quantity, Wrong> {
    let text = |f: &mut Fields| f.get::<String>("text", "a text");
    let out = match name {
        "tokens" => Quantity::Tokens { row: f.get("row", "the name of a row, as words or r50k_base")?, text: text(f)? },
        "bytes" => Quantity::Bytes(text(f)?),
        "characters" => Quantity::Characters(text(f)?),
        "token" => Quantity::Token(token(f, "at")?),
        "surprisal" => Quantity::Surprisal(token(f, "at")?),
        "count" => {
            let of: Option<String> = f.get("of", "image or text")?;
            let image = match of.as_deref() {
                None => None,
                Some("image") => Some(true),
                Some("text") => Some(false),
                Some(_) => return Err(f.wrong("of", "write image or text")),
            };
            Quantity::Count { image }
        }
        "predicts" => {
            let rank = f.get("rank", "a number from 1 to 8")?.unwrap_or(1);
            if !(1..=8).contains(&rank) {
                return Err(f.wrong("rank", "write a number from 1 to 8"));
            }
            Quantity::Predicts { at: token(f, "at")?, level: level(f)?, rank }
        }
        "chance" => {
            Quantity::Chance { of: f.words("of", "the text of a token")?, at: token(f, "at")?, level: level(f)? }
        }
        "largest" => {
            let besides = f.list("besides")?.unwrap_or_default();
            let besides = besides.iter().map(|(_, v)| TokenAt::read(v)).collect::<Result<_, _>>();
            Quantity::Largest { besides: besides.map_err(|why| f.wrong("besides", why))?, call: call(f, Kind::Score)? }
        }
        "score" => Quantity::Score { at: token(f, "at")?, call: call(f, Kind::Score)? },
        "hit" => Quantity::Hit(call(f, Kind::Score)?),
        "attention" => {
            let head = f.must("head", "layer and head, as [1, 0]")?;
            let back = f.get("back", "a number of tokens")?;
            let from = if let Some(v) = f.value("from") {
                Some(TokenAt::read(&v).map_err(|why| f.wrong("from", why))?)
            } else {
                None
            };
            let to = match (f.value("to"), back) {
                (Some(v), None) => Target::Token(TokenAt::read(&v).map_err(|why| f.wrong("to", why))?),
                (None, Some(back)) => Target::Back(back),
                _ => return Err(f.wrong("to", "write either to, a token, or back, a number of tokens")),
            };
            Quantity::Attention { head, from, to }
        }
        "answer" => {
            let call = call(f, Kind::Reduce)?;
            Quantity::Answer(call.method.is_some().then_some(call))
        }
        "same_answer" => Quantity::SameAnswer(call(f, Kind::Reduce)?),
        "kept" => Quantity::Kept(call(f, Kind::Reduce)?),
        "true_left" => Quantity::TrueLeft(call(f, Kind::Reduce)?),
        "round" => {
            let round = f.must("number", "a round from 1")?;
            let of: Option<String> = f.get("of", "accepted or drafted")?;
            let accepted = match of.as_deref() {
                None | Some("accepted") => true,
                Some("drafted") => false,
                Some(_) => return Err(f.wrong("of", "write accepted or drafted")),
            };
            Quantity::Round { call: call(f, Kind::Draft)?, round, accepted }
        }
        "lossless" => Quantity::Lossless(call(f, Kind::Draft)?),
        "arrives_from" => {
            let level = f.must("level", "a level from 1: 1 is the output of layer 0")?;
            Quantity::ArrivesFrom { call: call(f, Kind::Flow)?, level, at: token(f, "at")? }
        }
        "fills" => Quantity::Fills(call(f, Kind::Reveal)?),
        _ => Quantity::Found {
            figure: f.words("figure", "the name of a figure of what is found")?,
            call: Called { kind: None, ..called(f, None)? },
        },
    };
    f.end()?;
    Ok(out)
}

fn token(f: &mut Fields, key: &'static str) -> Result<TokenAt, Wrong> {
    let value = f.value(key).ok_or_else(|| f.wrong(key, format!("it is missing, write {WANTED}")))?;
    TokenAt::read(&value).map_err(|why| f.wrong(key, why))
}

fn level(f: &mut Fields) -> Result<Option<usize>, Wrong> {
    f.get("level", "a level from 0: 0 is the inputs, 1 the output of layer 0")
}

fn call(f: &mut Fields, kind: Kind) -> Result<Called, Wrong> {
    called(f, Some(kind))
}

/// A method of the kind with its parameters, each as far as it is given.
fn called(f: &mut Fields, kind: Option<Kind>) -> Result<Called, Wrong> {
    let id: Option<String> = f.get("method", "the id of a method")?;
    let info = match (&id, kind) {
        (None, _) => None,
        (Some(id), Some(kind)) => Some(catalog::info(kind, id).map_err(|why| f.wrong("method", why))?),
        (Some(id), None) => Some(catalog::find(id).map_err(|why| f.wrong("method", why))?.info()),
    };
    let given: Option<Map<String, Value>> = f.get("params", "an object of parameters")?;
    let params = match (given, info) {
        (None, _) => None,
        (Some(_), None) => return Err(f.wrong("params", "name the method that they are of")),
        (Some(map), Some(info)) => Some(info.read(&map).map_err(|why| f.wrong("params", why))?),
    };
    Ok(Called { kind, method: info, params })
}
