//! A trial: methods of one kind against the truth of many inputs, and the table that comes out.

use crate::keys::{Call, ModelSource};
use serde_json::json;
use tokenscope_analysis::finding::Table;
use tokenscope_analysis::method::Kind;
use tokenscope_analysis::weights::Placement;

/// What is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Judged {
    /// Importance: does the score find what decides the answer?
    Scores,
    /// Reduction: is the answer still right when this share of the tokens is kept, in thousandths?
    Reductions(u16),
}

impl Judged {
    /// What is judged of a kind; `keep` is a share of the tokens. `None` where no truth is known about the kind.
    pub fn of(kind: Kind, keep: f64) -> Option<Self> {
        match kind {
            Kind::Score => Some(Self::Scores),
            Kind::Reduce => Some(Self::Reductions((keep * 1000.0).round() as u16)),
            _ => None,
        }
    }

    /// The kind whose methods are judged.
    pub fn kind(self) -> Kind {
        match self {
            Self::Scores => Kind::Score,
            Self::Reductions(_) => Kind::Reduce,
        }
    }

    /// What the figures are.
    pub fn columns(self) -> &'static [Column] {
        match self {
            Self::Scores => &SCORES,
            Self::Reductions(_) => &REDUCTIONS,
        }
    }
}

/// Methods against the truth of many inputs: questions about drawn scenes for a model that sees, stories for one that
/// only reads. No training used any of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Trial {
    /// The model.
    pub model: ModelSource,
    /// How its numbers are computed.
    pub placement: Placement,
    /// What is judged.
    pub judged: Judged,
    /// The methods. Random and uniform come on top.
    pub calls: Vec<Call>,
    /// Number of inputs.
    pub samples: usize,
    /// Whether inputs count that the full model answers wrong.
    pub wrong_too: bool,
}

/// Mean of a figure and its standard error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    /// Mean over the inputs.
    pub mean: f64,
    /// Standard error of the mean; `None` for fewer than two inputs.
    pub error: Option<f64>,
}

/// How one method did.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its id.
    pub method: String,
    /// Stack of layers whose tokens were scored or reduced.
    pub stack: &'static str,
    /// Whether it is there as the floor.
    pub floor: bool,
    /// Inputs that it served.
    pub n: usize,
    /// One per column of the verdict.
    pub figures: Vec<Option<Figure>>,
    /// Why it could not serve all of them, and what it said about its numbers.
    pub notes: Vec<String>,
}

/// The table of a trial.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// What the inputs are.
    pub set: &'static str,
    /// Inputs looked at.
    pub asked: usize,
    /// Those that the full model answers right.
    pub right: usize,
    /// Names of the figures: key, heading, meaning.
    pub columns: &'static [Column],
    /// The methods, the floor last.
    pub rows: Vec<Row>,
}

/// A figure's name.
#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    /// Name in files.
    pub key: &'static str,
    /// Heading.
    pub title: &'static str,
    /// Definition.
    pub meaning: &'static str,
}

/// Figures of scores.
pub static SCORES: [Column; 3] = [
    Column {
        key: "pointing_game_hit",
        title: "pointing game",
        meaning: "share of inputs whose largest score is at a true token (equal scores by their mean)",
    },
    Column {
        key: "precision_at_true_size",
        title: "precision",
        meaning: "share of true tokens among as many largest scores as there are true tokens",
    },
    Column {
        key: "rank_correlation",
        title: "rank corr.",
        meaning: "Spearman's correlation of the score with the share of each token that decides the answer",
    },
];

/// Figures of reductions.
pub static REDUCTIONS: [Column; 4] = [
    Column {
        key: "answers_right",
        title: "answers right",
        meaning: "share of inputs that the reduced model, really run, answers right word for word",
    },
    Column {
        key: "kl_nats",
        title: "KL (nats)",
        meaning: "divergence of its next-token distribution from the full model's",
    },
    Column {
        key: "true_tokens_kept",
        title: "true kept",
        meaning: "share of the tokens that decide the answer which are kept or merged into others",
    },
    Column { key: "rows_kept", title: "rows kept", meaning: "share of the tokens' rows that are left" },
];

impl Verdict {
    /// As numbers for a file: a line per method, each figure with its standard error; `notes` are about all of them.
    pub fn table(&self, notes: &[String]) -> Table {
        let mut names: Vec<String> = ["method", "stack", "floor", "n"].map(String::from).to_vec();
        for c in self.columns {
            names.extend([c.key.to_string(), format!("{}_standard_error", c.key)]);
        }
        names.push("note".into());
        let mut out = Table::new(&names);
        for r in &self.rows {
            let mut row = vec![json!(r.method), json!(r.stack), json!(r.floor), json!(r.n)];
            for f in &r.figures {
                row.extend([json!(f.map(|f| f.mean)), json!(f.and_then(|f| f.error))]);
            }
            let notes: Vec<&str> = r.notes.iter().chain(notes).map(String::as_str).collect();
            row.push(json!((!notes.is_empty()).then(|| notes.join("; "))));
            out.rows.push(row);
        }
        out
    }
}
