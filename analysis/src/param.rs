//! Parameters of methods: what each may be, and typed values of them. JSON and text exist at the program's edges only.

use crate::trace::Tower;
use crate::{Error, Result};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A layer, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayerPick {
    /// Every layer, or their mean, as the method says.
    All,
    /// One layer; negative numbers count from the last, which is -1.
    At(i64),
}

/// What a parameter may be; slider, flag and help follow from it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Domain {
    /// A share, 0..=1.
    Share {
        /// Value where none is given.
        default: f64,
    },
    /// A real number.
    Number {
        /// Smallest value.
        min: f64,
        /// Largest value.
        max: f64,
        /// Value where none is given.
        default: f64,
    },
    /// A whole number.
    Count {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
        /// Value where none is given.
        default: i64,
    },
    /// A layer of a stack.
    Layer {
        /// Of which stack; `None` is the one that is shown.
        tower: Option<Tower>,
        /// Whether "all" is an answer, too.
        all: bool,
        /// Value where none is given.
        default: LayerPick,
    },
    /// Where chance starts; any whole number from 0 on.
    Seed,
    /// On or off.
    Toggle {
        /// Value where none is given.
        default: bool,
    },
    /// One of a few words.
    Choice {
        /// The words; the first is the default.
        options: &'static [&'static str],
    },
    /// A text of several lines, such as a grammar.
    Text {
        /// Texts to begin with, by name; the first is the default, and the name of one stands for it.
        presets: &'static [(&'static str, &'static str)],
    },
    /// A list of numbers, such as shares by stage or levels by dimension.
    Schedule {
        /// Smallest value of an entry.
        min: f64,
        /// Largest value of an entry.
        max: f64,
        /// Value where none is given.
        default: &'static [f64],
    },
}

/// One parameter: slider, flag, help and documentation come from it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Param {
    /// Key on the command line and in files.
    pub key: &'static str,
    /// One phrase for tooltip and help.
    pub doc: &'static str,
    /// What it may be.
    pub domain: Domain,
}

/// A schedule has at most this many entries.
const MAX_SCHEDULE: usize = 4096;
/// A text has at most this many bytes.
const MAX_TEXT: usize = 64 << 10;

impl Param {
    /// A share from 0 to 1.
    pub const fn share(key: &'static str, doc: &'static str, default: f64) -> Self {
        Self { key, doc, domain: Domain::Share { default } }
    }
    /// A real number.
    pub const fn number(key: &'static str, doc: &'static str, min: f64, max: f64, default: f64) -> Self {
        Self { key, doc, domain: Domain::Number { min, max, default } }
    }
    /// A whole number.
    pub const fn count(key: &'static str, doc: &'static str, min: i64, max: i64, default: i64) -> Self {
        Self { key, doc, domain: Domain::Count { min, max, default } }
    }
    /// A layer of the stack that is shown. "all" is an answer where it is the default.
    pub const fn layer(key: &'static str, doc: &'static str, default: LayerPick) -> Self {
        Self { key, doc, domain: Domain::Layer { tower: None, all: matches!(default, LayerPick::All), default } }
    }
    /// A layer of this stack.
    pub const fn layer_of(key: &'static str, doc: &'static str, tower: Tower, default: LayerPick) -> Self {
        let all = matches!(default, LayerPick::All);
        Self { key, doc, domain: Domain::Layer { tower: Some(tower), all, default } }
    }
    /// The seed of everything random in a method.
    pub const fn seed() -> Self {
        Self { key: "seed", doc: "Where chance starts; the same seed gives the same result", domain: Domain::Seed }
    }
    /// On or off.
    pub const fn toggle(key: &'static str, doc: &'static str, default: bool) -> Self {
        Self { key, doc, domain: Domain::Toggle { default } }
    }
    /// One of a few words, the first by default.
    pub const fn choice(key: &'static str, doc: &'static str, options: &'static [&'static str]) -> Self {
        Self { key, doc, domain: Domain::Choice { options } }
    }
    /// A text, with some to begin with.
    pub const fn text(key: &'static str, doc: &'static str, presets: &'static [(&'static str, &'static str)]) -> Self {
        Self { key, doc, domain: Domain::Text { presets } }
    }
    /// A list of numbers, each from `min` to `max`.
    pub const fn schedule(key: &'static str, doc: &'static str, min: f64, max: f64, default: &'static [f64]) -> Self {
        Self { key, doc, domain: Domain::Schedule { min, max, default } }
    }

    /// The value where none is given.
    pub fn default(&self) -> Setting {
        match self.domain {
            Domain::Share { default } | Domain::Number { default, .. } => default.into(),
            Domain::Count { default, .. } => default.into(),
            Domain::Layer { default, .. } => default.into(),
            Domain::Seed => 0.into(),
            Domain::Toggle { default } => default.into(),
            Domain::Choice { options } => options[0].into(),
            Domain::Text { presets } => Setting::Text(presets[0].1.into()),
            Domain::Schedule { default, .. } => default.into(),
        }
    }

    /// What it may be, in words: "a number from 0 to 1".
    pub fn range(&self) -> String {
        match self.domain {
            Domain::Share { .. } => "a number from 0 to 1".into(),
            Domain::Number { min, max, .. } => format!("a number from {min} to {max}"),
            Domain::Count { min, max, .. } => format!("a whole number from {min} to {max}"),
            Domain::Layer { all: true, .. } => "a layer (-1 is the last), or all".into(),
            Domain::Layer { .. } => "a layer (-1 is the last)".into(),
            Domain::Seed => "a whole number from 0 on".into(),
            Domain::Toggle { .. } => "true or false".into(),
            Domain::Choice { options } => format!("one of {}", options.join(", ")),
            Domain::Text { presets } => {
                let names: Vec<&str> = presets.iter().map(|p| p.0).collect();
                format!("a text of at most {MAX_TEXT} bytes, or the name of one: {}", names.join(", "))
            }
            Domain::Schedule { min, max, .. } => format!("a list of numbers from {min} to {max}"),
        }
    }

    /// Checks a value against range or options.
    pub fn check(&self, v: &Setting) -> Result<()> {
        let fine = match (self.domain, v) {
            (Domain::Share { .. }, v) => v.number().is_some_and(|x| (0.0..=1.0).contains(&x)),
            (Domain::Number { min, max, .. }, v) => v.number().is_some_and(|x| (min..=max).contains(&x)),
            (Domain::Count { min, max, .. }, Setting::Count(n)) => (min..=max).contains(n),
            (Domain::Layer { all, .. }, Setting::Layer(LayerPick::All)) => all,
            (Domain::Layer { .. }, Setting::Layer(_) | Setting::Count(_)) => true,
            (Domain::Seed, Setting::Count(n)) => *n >= 0,
            (Domain::Toggle { .. }, Setting::Toggle(_)) => true,
            (Domain::Choice { options }, Setting::Word(w)) => options.contains(w),
            (Domain::Text { .. }, Setting::Text(text)) => text.len() <= MAX_TEXT,
            (Domain::Schedule { min, max, .. }, Setting::List(list)) => {
                !list.is_empty() && list.len() <= MAX_SCHEDULE && list.iter().all(|x| (min..=max).contains(&x.get()))
            }
            _ => false,
        };
        if fine {
            return Ok(());
        }
        Err(Error::invalid(format!("parameter {}: {v} is not {}", self.key, self.range())))
    }

    /// Reads a value from JSON, as in files.
    pub fn read(&self, v: &Value) -> Result<Setting> {
        let bad = || Error::invalid(format!("parameter {}: {v} is not {}", self.key, self.range()));
        let setting = match self.domain {
            Domain::Share { .. } | Domain::Number { .. } => v.as_f64().map(Setting::from),
            Domain::Count { .. } | Domain::Seed => v.as_i64().map(Setting::from),
            Domain::Layer { .. } if v == "all" => Some(LayerPick::All.into()),
            Domain::Layer { .. } => v.as_i64().map(|i| LayerPick::At(i).into()),
            Domain::Toggle { .. } => v.as_bool().map(Setting::from),
            Domain::Choice { options } => options.iter().find(|o| v == **o).map(|o| Setting::from(*o)),
            Domain::Text { presets } => v.as_str().map(|text| {
                let named = presets.iter().find(|p| p.0 == text);
                Setting::Text(named.map_or(text, |p| p.1).into())
            }),
            Domain::Schedule { .. } => match v {
                Value::Array(list) => list.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>().map(Setting::from),
                one => one.as_f64().map(|x| vec![x].into()),
            },
        }
        .ok_or_else(bad)?;
        self.check(&setting)?;
        Ok(setting)
    }

    /// Reads `text` as typed after `--set key=`. A schedule may be written without brackets.
    pub fn parse(&self, text: &str) -> Result<Setting> {
        if matches!(self.domain, Domain::Text { .. }) {
            return self.read(&json!(text));
        }
        let listed = matches!(self.domain, Domain::Schedule { .. }) && !text.trim_start().starts_with('[');
        let json = if listed { format!("[{text}]") } else { text.to_string() };
        self.read(&serde_json::from_str(&json).unwrap_or_else(|_| json!(text)))
    }
}

/// A finite number that can be compared for equality and hashed, by its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Real(u64);

impl Real {
    /// The number; zero has one form.
    pub fn new(x: f64) -> Self {
        Self((x + 0.0).to_bits())
    }
    /// The number.
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

/// A value of a parameter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Setting {
    /// A share or a number.
    Number(Real),
    /// A whole number or a seed.
    Count(i64),
    /// A layer.
    Layer(LayerPick),
    /// On or off.
    Toggle(bool),
    /// One of a few words.
    Word(&'static str),
    /// A text.
    Text(Arc<str>),
    /// A schedule.
    List(Vec<Real>),
}

impl Setting {
    /// The value as a number, where it is one.
    pub fn number(&self) -> Option<f64> {
        match self {
            Setting::Number(x) => Some(x.get()),
            Setting::Count(n) => Some(*n as f64),
            _ => None,
        }
    }
    /// The value as JSON.
    pub fn to_json(&self) -> Value {
        match self {
            Setting::Number(x) => json!(x.get()),
            Setting::Count(n) | Setting::Layer(LayerPick::At(n)) => json!(n),
            Setting::Layer(LayerPick::All) => json!("all"),
            Setting::Toggle(b) => json!(b),
            Setting::Word(w) => json!(w),
            Setting::Text(text) => json!(&**text),
            Setting::List(list) => json!(list.iter().map(|x| x.get()).collect::<Vec<_>>()),
        }
    }
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Setting::Word(w) => f.write_str(w),
            Setting::Text(text) => f.write_str(text),
            Setting::Layer(LayerPick::All) => f.write_str("all"),
            other => write!(f, "{}", other.to_json()),
        }
    }
}

impl From<f64> for Setting {
    fn from(x: f64) -> Self {
        Setting::Number(Real::new(x))
    }
}
impl From<i64> for Setting {
    fn from(n: i64) -> Self {
        Setting::Count(n)
    }
}
impl From<LayerPick> for Setting {
    fn from(l: LayerPick) -> Self {
        Setting::Layer(l)
    }
}
impl From<bool> for Setting {
    fn from(b: bool) -> Self {
        Setting::Toggle(b)
    }
}
impl From<&'static str> for Setting {
    fn from(w: &'static str) -> Self {
        Setting::Word(w)
    }
}
impl From<&[f64]> for Setting {
    fn from(list: &[f64]) -> Self {
        Setting::List(list.iter().map(|&x| Real::new(x)).collect())
    }
}
impl From<Vec<f64>> for Setting {
    fn from(list: Vec<f64>) -> Self {
        list.as_slice().into()
    }
}

/// Values of a method's parameters; those not set have their default.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Params(BTreeMap<&'static str, Setting>);

impl Params {
    /// Nothing set.
    pub fn new() -> Self {
        Self::default()
    }
    /// Sets `key`; the value is checked when a method checks its parameters.
    pub fn set(mut self, key: &'static str, v: impl Into<Setting>) -> Self {
        self.0.insert(key, v.into());
        self
    }
    /// Sets `key` in place.
    pub fn insert(&mut self, key: &'static str, v: Setting) {
        self.0.insert(key, v);
    }
    /// What was set, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Setting)> {
        self.0.iter().map(|(k, v)| (*k, v))
    }
    /// Whether `key` was set.
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }
    /// What was set, as JSON.
    pub fn to_json(&self) -> Map<String, Value> {
        self.iter().map(|(k, v)| (k.to_string(), v.to_json())).collect()
    }
    /// The value of `p`, or its default.
    pub fn value(&self, p: &Param) -> Setting {
        self.0.get(p.key).cloned().unwrap_or_else(|| p.default())
    }
    /// The value of a number or a share.
    pub fn number(&self, p: &Param) -> f64 {
        let number = |v: Setting| v.number();
        number(self.value(p)).or_else(|| number(p.default())).unwrap_or(0.0)
    }
    /// The value of a share.
    pub fn share(&self, p: &Param) -> f64 {
        self.number(p)
    }
    /// The value of a count.
    pub fn count(&self, p: &Param) -> i64 {
        match self.value(p) {
            Setting::Count(n) => n,
            other => other.number().map_or(0, |x| x as i64),
        }
    }
    /// The value of a seed.
    pub fn seed(&self, p: &Param) -> u64 {
        self.count(p).unsigned_abs()
    }
    /// The value of a toggle.
    pub fn toggle(&self, p: &Param) -> bool {
        self.value(p) == Setting::Toggle(true)
    }
    /// The value of a choice.
    pub fn choice(&self, p: &Param) -> &'static str {
        match self.value(p) {
            Setting::Word(w) => w,
            _ => "",
        }
    }
    /// The value of a text.
    pub fn text(&self, p: &Param) -> Arc<str> {
        match self.value(p) {
            Setting::Text(text) => text,
            _ => "".into(),
        }
    }
    /// The value of a schedule.
    pub fn schedule(&self, p: &Param) -> Vec<f64> {
        match self.value(p) {
            Setting::List(list) => list.into_iter().map(Real::get).collect(),
            _ => Vec::new(),
        }
    }
    /// The layer among `n_layers`; `None` is all of them. Errors if there is no such layer.
    pub fn layer(&self, p: &Param, n_layers: usize) -> Result<Option<usize>> {
        match self.value(p) {
            Setting::Layer(LayerPick::All) => Ok(None),
            Setting::Layer(LayerPick::At(i)) | Setting::Count(i) => layer_of(i, n_layers).map(Some),
            other => Err(Error::invalid(format!("parameter {}: {other} is not {}", p.key, p.range()))),
        }
    }
    /// The layers among `n_layers` that are meant. Errors if there is no such layer.
    pub fn layers(&self, p: &Param, n_layers: usize) -> Result<Vec<usize>> {
        Ok(self.layer(p, n_layers)?.map_or_else(|| (0..n_layers).collect(), |l| vec![l]))
    }
    /// The one layer that is meant, the last where all are. Errors if there is no such layer.
    pub fn one_layer(&self, p: &Param, n_layers: usize) -> Result<usize> {
        match self.layer(p, n_layers)? {
            Some(l) => Ok(l),
            None => layer_of(-1, n_layers),
        }
    }
}

/// A layer by index; negative ones count from the last (-1). Errors if there is none.
fn layer_of(index: i64, n_layers: usize) -> Result<usize> {
    let i = if index < 0 { index.saturating_add(n_layers as i64) } else { index };
    usize::try_from(i)
        .ok()
        .filter(|i| *i < n_layers)
        .ok_or_else(|| Error::invalid(format!("there is no layer {index}; the stack has {n_layers}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYER: Param = Param::layer("layer", "Layer to read", LayerPick::All);

    #[test]
    fn minus_one_is_the_last_layer_and_never_all_of_them() {
        let one = Params::new().set("layer", LayerPick::At(-1));
        assert_eq!(one.layer(&LAYER, 4).unwrap(), Some(3));
        assert_eq!(Params::new().layer(&LAYER, 4).unwrap(), None);
        assert_eq!(one.layers(&LAYER, 4).unwrap(), [3]);
        assert_eq!(Params::new().layers(&LAYER, 3).unwrap(), [0, 1, 2]);
        assert!(Params::new().set("layer", LayerPick::At(4)).layer(&LAYER, 4).is_err());
        let single = Param::layer("layer", "Layer to cut after", LayerPick::At(0));
        assert!(single.read(&json!("all")).is_err() && single.parse("-1").is_ok() && LAYER.parse("all").is_ok());
    }

    #[test]
    fn text_and_json_become_settings_within_their_range() {
        let share = Param::share("keep", "Share kept", 0.5);
        assert_eq!(share.parse("0.25").unwrap(), 0.25.into());
        assert_eq!(share.parse("1").unwrap(), 1.0.into());
        assert!(share.parse("1.5").is_err() && share.parse("nan").is_err() && share.parse("half").is_err());
        let levels = Param::schedule("levels", "Levels", 2.0, 64.0, &[8.0, 5.0]);
        assert_eq!(levels.parse("7, 5,5").unwrap(), vec![7.0, 5.0, 5.0].into());
        assert_eq!(levels.parse("[8]").unwrap(), vec![8.0].into());
        assert!(levels.parse("1,5").is_err() && levels.parse("").is_err());
        let word = Param::choice("output", "What is read", &["logit", "probability"]);
        assert_eq!(word.parse("probability").unwrap(), "probability".into());
        let error = word.parse("logits").unwrap_err().to_string();
        assert_eq!(error, "parameter output: \"logits\" is not one of logit, probability");
        assert!(Param::seed().parse("-1").is_err() && Param::seed().parse("7").is_ok());
    }

    #[test]
    fn a_text_is_taken_as_it_is_and_the_name_of_a_preset_stands_for_it() {
        let p = Param::text("rule", "What may be written", &[("short", "a"), ("long", "[1,\n2]")]);
        assert_eq!(Params::new().text(&p).as_ref(), "a");
        assert_eq!(p.parse("long").unwrap(), Setting::Text("[1,\n2]".into()));
        assert_eq!(p.parse("12").unwrap(), Setting::Text("12".into()));
        assert!(p.parse(&"x".repeat(MAX_TEXT + 1)).is_err() && p.read(&json!(12)).is_err());
        assert_eq!(p.parse("{\"a\":1}").unwrap().to_json(), json!("{\"a\":1}"));
    }

    #[test]
    fn equal_settings_are_one_key() {
        assert_eq!(Setting::from(0.0), Setting::from(-0.0));
        let (a, b) = (Params::new().set("r", 3).set("keep", 0.5), Params::new().set("keep", 0.5).set("r", 3));
        assert_eq!(a, b);
        assert_eq!(serde_json::to_string(&a.to_json()).unwrap(), r#"{"keep":0.5,"r":3}"#);
    }
}
