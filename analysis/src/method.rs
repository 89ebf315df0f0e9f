//! What any method says about itself: the window's sliders, the command line, help and tests come from this.

pub use crate::param::{Domain, LayerPick, Param, Params, Real, Setting};
use crate::raw::Adapter;
use crate::{Error, Result};
use serde_json::{Map, Value};

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

/// The kinds of methods, by what they give; each is a folder of this crate and a static list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// How an input is cut.
    Segment,
    /// How much each token matters.
    Score,
    /// Which tokens are kept, merged, dropped.
    Reduce,
    /// Graphs of information between tokens and layers.
    Flow,
    /// Guessing ahead and verifying.
    Draft,
    /// Which masked positions are filled in next.
    Reveal,
    /// Which keys and values a cache keeps.
    Cache,
    /// Everything else that is found out about a run.
    Study,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 8] =
        [Kind::Segment, Kind::Score, Kind::Reduce, Kind::Flow, Kind::Draft, Kind::Reveal, Kind::Cache, Kind::Study];

    /// The kinds whose methods give a finding and nothing besides, so that one view shows them all.
    pub const FOUND: [Kind; 2] = [Kind::Study, Kind::Cache];

    /// The name used on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Segment => "segment",
            Kind::Score => "score",
            Kind::Reduce => "reduce",
            Kind::Flow => "flow",
            Kind::Draft => "draft",
            Kind::Reveal => "reveal",
            Kind::Cache => "cache",
            Kind::Study => "study",
        }
    }
    /// What one of its methods is called in a message: "no reduction named …".
    pub fn noun(self) -> &'static str {
        match self {
            Kind::Segment => "way to cut an input",
            Kind::Score => "score",
            Kind::Reduce => "reduction",
            Kind::Flow => "flow method",
            Kind::Draft => "draft method",
            Kind::Reveal => "reveal policy",
            Kind::Cache => "cache policy",
            Kind::Study => "study",
        }
    }
    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.name() == name)
    }
}

/// What a method was written from, so that a reader knows how far its numbers bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// A plain baseline, or a definition of our own.
    Baseline,
    /// The authors' published code.
    Authors {
        /// Repository, as `owner/name`.
        repo: &'static str,
        /// The commit that was read, empty where only the release is known.
        commit: &'static str,
    },
    /// Our own reading of the paper, whose code is not public.
    OwnReading,
    /// The paper's text alone; it leaves details open, and `departs` says how they were closed.
    Text,
}

impl Basis {
    /// In words, for tables and tooltips.
    pub fn words(self) -> String {
        match self {
            Basis::Baseline => "plain baseline".into(),
            Basis::Authors { repo, commit: "" } => format!("authors' code, {repo}"),
            Basis::Authors { repo, commit } => format!("authors' code, {repo} at {commit}"),
            Basis::OwnReading => "own reading of the paper".into(),
            Basis::Text => "the paper's text".into(),
        }
    }
}

/// What a method is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A method in its own right.
    Method,
    /// A floor that others have to beat, drawn and judged beside them.
    Floor,
    /// Stands for a method that needs training, by the part that does not.
    StandIn,
    /// Knows what no method can know, as an upper bound.
    Oracle,
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
    /// A language model that reads an image.
    ReadsImage,
    /// A class token in the image encoder.
    ClassToken,
    /// Heads whose outputs are added to the residual stream as they are, without a norm between.
    HeadParts,
    /// Gradients of the model.
    Gradients,
    /// A second, smaller model with the same vocabulary.
    DraftModel,
    /// A model that writes a text from left to right.
    Writes,
    /// A model that fills in masked positions.
    Fills,
    /// Experts and a router that chooses among them.
    Experts,
    /// Arrays of the user's own: no loaded model gives them.
    Arrays,
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
            Need::ReadsImage => "a language model that reads an image",
            Need::ClassToken => "a class token in the image encoder",
            Need::HeadParts => "heads whose outputs are added as they are, without a norm between",
            Need::Gradients => "gradients, so a model with its weights",
            Need::DraftModel => "a draft model with the same vocabulary",
            Need::Writes => "a model that writes from left to right",
            Need::Fills => "a model that fills in masked positions",
            Need::Experts => "experts and a router",
            Need::Arrays => "arrays of your own (tokenscope method)",
        }
    }
}

/// What a method says about itself. Written as `Info { id: …, ..Info::of(kind) }`.
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
    /// Heading that it stands under in lists, one of [`FAMILIES`].
    pub family: &'static str,
    /// What it was written from.
    pub basis: Basis,
    /// What it is there for.
    pub role: Role,
    /// Where it was published; `None` for plain baselines.
    pub paper: Option<Paper>,
    /// Where this departs from its source; "none known" is an answer.
    pub departs: &'static str,
    /// What it needs from the run.
    pub needs: &'static [Need],
    /// Its parameters.
    pub params: &'static [Param],
    /// The one of `params` that says how much is kept, drafted or decided; curves over budgets move it.
    pub budget: Option<&'static Param>,
    /// Entries for raw arrays that run this method's code.
    pub raw: &'static [Adapter],
    /// Whether it explains a token of the prediction, so that it can say why this one rather than that.
    pub contrasts: bool,
    /// Whether it takes minutes on a picture's tokens, so that it runs with all others only where it is named.
    pub slow: bool,
    /// Whether it is what a window shows first of its kind; of cuts of a text, which stand side by side, several are.
    pub first: bool,
}

/// Headings of lists of methods, in their order.
pub const FAMILIES: &[&str] = &[
    "vocabularies",
    "rules",
    "image cuts",
    "series cuts",
    "attention",
    "gradient",
    "probability",
    "perturbation",
    "image features",
    "inside the encoder",
    "inside the language model",
    "contributions",
    "speculative",
    "masked diffusion",
    "decode orders",
    "adaptive compute",
    "constraints",
    "routing and systems",
    "cache policies",
    "image tokens",
    "floors",
];

impl Info {
    /// What every method of `kind` begins with: a baseline without needs, parameters or raw entries.
    pub const fn of(kind: Kind) -> Self {
        Self {
            id: "",
            title: "",
            summary: "",
            kind,
            family: "",
            basis: Basis::Baseline,
            role: Role::Method,
            paper: None,
            departs: "none known",
            needs: &[],
            params: &[],
            budget: None,
            raw: &[],
            contrasts: false,
            slow: false,
            first: false,
        }
    }

    /// The parameter of that key.
    pub fn param(&self, key: &str) -> Option<&'static Param> {
        self.params.iter().find(|p| p.key == key)
    }

    fn unknown(&self, key: &str) -> Error {
        let known = self.params.iter().map(|p| p.key).collect::<Vec<_>>().join(", ");
        Error::Unknown {
            kind: "parameter",
            name: format!("{}.{key}", self.id),
            known: if known.is_empty() { "none".into() } else { known },
        }
    }

    /// Checks every set parameter: known key, right type, in range.
    pub fn check(&self, params: &Params) -> Result<()> {
        params.iter().try_for_each(|(key, v)| self.param(key).ok_or_else(|| self.unknown(key))?.check(v))
    }

    /// Reads parameters from JSON, as in files. Errors: an unknown key, a value out of range.
    pub fn read(&self, map: &Map<String, Value>) -> Result<Params> {
        map.iter().try_fold(Params::new(), |params, (key, v)| {
            let p = self.param(key).ok_or_else(|| self.unknown(key))?;
            Ok(params.set(p.key, p.read(v)?))
        })
    }

    /// Whether every word of `words` occurs in what it says about itself and its paper.
    pub fn fits(&self, words: &str) -> bool {
        let paper = self.paper.map_or(String::new(), |p| format!("{} {} {} {}", p.title, p.authors, p.year, p.arxiv));
        let text = format!("{} {} {} {} {paper}", self.id, self.title, self.summary, self.family).to_lowercase();
        words.to_lowercase().split_whitespace().all(|w| text.contains(w))
    }

    /// The error of a method that a run cannot serve for want of `need`.
    pub fn needs(&self, need: impl Into<String>) -> Error {
        Error::Need { method: self.id.into(), need: need.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog;

    #[test]
    fn a_method_is_found_by_words_of_its_title_authors_or_year() {
        let tome = catalog::of(Kind::Reduce).find(|i| i.title == "ToMe").unwrap();
        assert!(tome.fits("") && tome.fits("bolya 2023") && tome.fits("MERG faster"));
        assert!(!tome.fits("bolya 2024") && !tome.fits("pyramid"));
    }
}
