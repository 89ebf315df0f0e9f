//! What any method says about itself: the window's sliders, the command line, help and tests come from this.

use crate::{Error, Result};
use serde_json::{Map, Value, json};

/// Where a method was published.
#[derive(Debug, Clone, Copy)]
pub struct Paper {
    /// Title as published.
    pub title: &'static str,
    /// First author and "et al.", or all of a few.
    pub authors: &'static str,
    /// Year of first publication.
    pub year: u16,
    /// arXiv id such as `2403.06764`, empty if it has none.
    pub arxiv: &'static str,
}

/// The kinds of methods; each is a folder of this crate and a static list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// How an input is cut.
    Segment,
    /// How much each token matters.
    Score,
    /// Which tokens are kept, merged, dropped.
    Prune,
    /// Graphs of information between tokens and layers.
    Flow,
    /// Guessing ahead and verifying.
    Draft,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 5] = [Kind::Segment, Kind::Score, Kind::Prune, Kind::Flow, Kind::Draft];
    /// The name used on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Segment => "segment",
            Kind::Score => "score",
            Kind::Prune => "prune",
            Kind::Flow => "flow",
            Kind::Draft => "draft",
        }
    }
}

/// What a method needs from the run; the window greys it out, with the reason, where it is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Need {
    /// A text tokenizer.
    Tokenizer,
    /// Post-rotary queries and keys of every layer.
    Attention,
    /// Values of every layer and the output projection.
    Values,
    /// The residual stream of every layer.
    Residual,
    /// Logits and an output vocabulary.
    Logits,
    /// Tokens of an image.
    ImageTokens,
    /// A class token in the image encoder.
    ClassToken,
    /// Heads whose outputs are added to the residual stream as they are, without a norm between.
    HeadParts,
    /// Gradients of the model.
    Gradients,
    /// A second, smaller model with the same vocabulary.
    DraftModel,
}

impl Need {
    /// In words, as in "needs …".
    pub fn words(self) -> &'static str {
        match self {
            Need::Tokenizer => "a text tokenizer",
            Need::Attention => "attention (queries and keys)",
            Need::Values => "values and the output projection",
            Need::Residual => "the residual stream",
            Need::Logits => "logits of a language model",
            Need::ImageTokens => "image tokens",
            Need::ClassToken => "a class token in the image encoder",
            Need::HeadParts => "heads whose outputs are added as they are, without a norm between",
            Need::Gradients => "gradients, so a model with its weights",
            Need::DraftModel => "a draft model with the same vocabulary",
        }
    }
}

/// One parameter: slider, flag, help and documentation come from it.
#[derive(Debug, Clone, Copy)]
pub enum Param {
    /// A real number on a slider.
    Number {
        /// Key on the command line and in files.
        key: &'static str,
        /// One phrase for tooltip and help.
        doc: &'static str,
        /// Smallest value.
        min: f64,
        /// Largest value.
        max: f64,
        /// Value where none is given.
        default: f64,
    },
    /// A whole number on a slider.
    Count {
        /// Key on the command line and in files.
        key: &'static str,
        /// One phrase for tooltip and help.
        doc: &'static str,
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
        /// Value where none is given.
        default: i64,
    },
    /// On or off.
    Toggle {
        /// Key on the command line and in files.
        key: &'static str,
        /// One phrase for tooltip and help.
        doc: &'static str,
        /// Value where none is given.
        default: bool,
    },
    /// One of a few words.
    Choice {
        /// Key on the command line and in files.
        key: &'static str,
        /// One phrase for tooltip and help.
        doc: &'static str,
        /// The words; the first is the default.
        options: &'static [&'static str],
    },
}

impl Param {
    /// The key.
    pub fn key(&self) -> &'static str {
        match self {
            Param::Number { key, .. }
            | Param::Count { key, .. }
            | Param::Toggle { key, .. }
            | Param::Choice { key, .. } => key,
        }
    }
    /// The phrase for tooltip and help.
    pub fn doc(&self) -> &'static str {
        match self {
            Param::Number { doc, .. }
            | Param::Count { doc, .. }
            | Param::Toggle { doc, .. }
            | Param::Choice { doc, .. } => doc,
        }
    }
    /// The default as JSON.
    pub fn default(&self) -> Value {
        match *self {
            Param::Number { default, .. } => json!(default),
            Param::Count { default, .. } => json!(default),
            Param::Toggle { default, .. } => json!(default),
            Param::Choice { options, .. } => json!(options[0]),
        }
    }
    /// Checks a value against range or options; numbers that should be whole must be.
    pub fn check(&self, v: &Value) -> Result<()> {
        let bad = |want: String| Error::invalid(format!("parameter {}: {v} is not {want}", self.key()));
        match *self {
            Param::Number { min, max, .. } => match v.as_f64() {
                Some(x) if (min..=max).contains(&x) => Ok(()),
                _ => Err(bad(format!("a number from {min} to {max}"))),
            },
            Param::Count { min, max, .. } => match v.as_i64() {
                Some(x) if (min..=max).contains(&x) => Ok(()),
                _ => Err(bad(format!("a whole number from {min} to {max}"))),
            },
            Param::Toggle { .. } => v.is_boolean().then_some(()).ok_or_else(|| bad("true or false".into())),
            Param::Choice { options, .. } => match v.as_str() {
                Some(s) if options.contains(&s) => Ok(()),
                _ => Err(bad(format!("one of {}", options.join(", ")))),
            },
        }
    }
    /// Reads `text` as typed after `--set key=`.
    pub fn parse(&self, text: &str) -> Result<Value> {
        let v = match self {
            Param::Choice { .. } => json!(text),
            _ => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
        };
        self.check(&v)?;
        Ok(v)
    }
}

/// Values of a method's parameters; those not set have their default.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Params(Map<String, Value>);

impl Params {
    /// Nothing set.
    pub fn new() -> Self {
        Self::default()
    }
    /// Sets `key`; the value is checked when a method reads its parameters through [`Info::check`].
    pub fn set(mut self, key: &str, v: impl Into<Value>) -> Self {
        self.0.insert(key.to_string(), v.into());
        self
    }
    /// Sets `key` in place.
    pub fn insert(&mut self, key: &str, v: Value) {
        self.0.insert(key.to_string(), v);
    }
    /// What was set, in order.
    pub fn map(&self) -> &Map<String, Value> {
        &self.0
    }
    /// The value of `p`, or its default.
    pub fn value(&self, p: &Param) -> Value {
        self.0.get(p.key()).cloned().unwrap_or_else(|| p.default())
    }
    /// The value of a number.
    pub fn number(&self, p: &Param) -> f64 {
        self.value(p).as_f64().unwrap_or_else(|| p.default().as_f64().unwrap_or(0.0))
    }
    /// The value of a count.
    pub fn count(&self, p: &Param) -> i64 {
        self.value(p).as_i64().unwrap_or_else(|| p.default().as_i64().unwrap_or(0))
    }
    /// The value of a toggle.
    pub fn toggle(&self, p: &Param) -> bool {
        self.value(p).as_bool().unwrap_or(false)
    }
    /// The value of a choice.
    pub fn choice(&self, p: &Param) -> String {
        self.value(p).as_str().unwrap_or_default().to_string()
    }
}

/// What a method says about itself.
#[derive(Debug, Clone, Copy)]
pub struct Info {
    /// Name everywhere: file, command line, documentation, tests.
    pub id: &'static str,
    /// Title in menus.
    pub title: &'static str,
    /// One sentence: what it does.
    pub summary: &'static str,
    /// The kind of method.
    pub kind: Kind,
    /// Where it was published; `None` for plain baselines.
    pub paper: Option<Paper>,
    /// Where this departs from the authors' code; "none known" is an answer.
    pub departs: &'static str,
    /// What it needs from the run.
    pub needs: &'static [Need],
    /// Its parameters.
    pub params: &'static [Param],
}

impl Info {
    /// Checks every set parameter: known key, right type, in range.
    pub fn check(&self, params: &Params) -> Result<()> {
        for (key, v) in params.map() {
            match self.params.iter().find(|p| p.key() == key) {
                Some(p) => p.check(v)?,
                None => {
                    return Err(Error::Unknown {
                        kind: "parameter",
                        name: format!("{}.{key}", self.id),
                        known: self.params.iter().map(Param::key).collect::<Vec<_>>().join(", "),
                    });
                }
            }
        }
        Ok(())
    }
}
