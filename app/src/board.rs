//! A leaderboard: reductions on many pictures and questions, each really carried out at several shares of the tokens and
//! held against the full model, and the table that comes out.

use crate::keys::{Call, ModelSource};
use crate::trial::Column;
use serde_json::json;
use std::borrow::Cow;
use std::path::PathBuf;
use tokenscope_analysis::finding::{Axis, Measure, Plot, Series, SeriesRole, Style, Table};
use tokenscope_analysis::method::Role;
use tokenscope_analysis::weights::Placement;
use tokenscope_analysis::{catalog, truth};

/// What is to be measured.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Contest {
    /// The model.
    pub model: ModelSource,
    /// How its numbers are computed.
    pub placement: Placement,
    /// Where the questions come from; without one they are those of the program, about scenes that it draws, or stories
    /// for a model that only reads.
    pub data: Option<PathBuf>,
    /// Questions at most.
    pub questions: usize,
    /// The methods with their parameters. Random and uniform come on top.
    pub calls: Vec<Call>,
    /// Shares of the tokens that are kept, in thousandths.
    pub shares: Vec<u16>,
    /// The prompt with [`SLOT`] where the question goes; where a model's pictures are named in the prompt, it has their
    /// places, too.
    pub prompt: String,
    /// Whether deletion and insertion are measured, which takes some forty passes for each question.
    pub areas: bool,
    /// Warm passes whose median is the time; none is measured with 0.
    pub repeats: u8,
}

/// Where the question stands in a prompt.
pub const SLOT: &str = "{question}";

/// One method at one share.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Its id, or [`FULL`].
    pub method: &'static str,
    /// Whether it is there as the floor.
    pub floor: bool,
    /// The share that was asked for, in thousandths; `None` for the full model and methods without a budget.
    pub share: Option<u16>,
    /// Questions that it served.
    pub n: usize,
    /// Those that it answered right.
    pub right: usize,
    /// A value for each of [`COLUMNS`]; `None` where there is none.
    pub values: [Option<f64>; COLUMNS.len()],
    /// Why it could not serve all questions, and what it said about its numbers.
    pub notes: Vec<String>,
}

/// The name of the full model's row.
pub const FULL: &str = "full";

/// The table so far.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Board {
    /// What the questions are.
    pub set: String,
    /// Questions there are.
    pub asked: usize,
    /// Those that every row has seen.
    pub done: usize,
    /// The full model first, the floors last.
    pub rows: Vec<Standing>,
    /// Questions that could not be used, each with file and line.
    pub bad: Vec<String>,
    /// What there is to know about all of it.
    pub notes: Vec<String>,
}

/// The figures, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns say what they are")]
pub enum Figure {
    Accuracy,
    Low,
    High,
    Kl,
    Top1,
    Kept,
    Flops,
    FlopsShare,
    KvBytes,
    KvShare,
    Milliseconds,
    PeakBytes,
    Deletion,
    Insertion,
}

impl Figure {
    /// Those that are measured on this machine and so are others each time.
    pub const MEASURED: [Self; 2] = [Self::Milliseconds, Self::PeakBytes];

    /// The figure with that key.
    pub fn find(key: &str) -> Option<usize> {
        COLUMNS.iter().position(|c| c.key == key)
    }

    /// Whether large values of this column are the better ones.
    pub fn rises(column: usize) -> bool {
        [Self::Accuracy, Self::Top1, Self::Kept, Self::Insertion].iter().any(|f| *f as usize == column)
    }
}

/// What each figure is.
pub static COLUMNS: [Column; 14] = [
    Column {
        key: "accuracy",
        title: "right",
        meaning: "share of the questions that are answered right, with the 95% interval of Wilson",
    },
    Column { key: "accuracy_low", title: "from", meaning: "lower end of the 95% interval" },
    Column { key: "accuracy_high", title: "to", meaning: "upper end of the 95% interval" },
    Column {
        key: "kl_nats",
        title: "KL (nats)",
        meaning: "divergence of the next-token distribution from the full model's, mean",
    },
    Column {
        key: "top1_same",
        title: "top-1",
        meaning: "share of the questions whose most probable next token is the full model's",
    },
    Column {
        key: "kept",
        title: "kept",
        meaning: "share of the tokens that are left as rows in the end, of the picture's where there is one; mean",
    },
    Column {
        key: "flops",
        title: "GFLOP",
        meaning: "operations of attention and MLPs over the input, in closed form, of all stacks; mean, in 10⁹ (files: in 1)",
    },
    Column { key: "flops_share", title: "of full", meaning: "those operations as a share of the full model's" },
    Column {
        key: "kv_bytes",
        title: "KV (kB)",
        meaning: "keys and values that the answer reads of the input, as f32; mean, in 10³ bytes (files: in bytes)",
    },
    Column { key: "kv_share", title: "of full", meaning: "those bytes as a share of the full model's" },
    Column {
        key: "time_ms",
        title: "ms",
        meaning: "time of a pass over the input, choice of the tokens included: median of warm passes, then of questions",
    },
    Column {
        key: "peak_bytes",
        title: "peak (MB)",
        meaning: "the most memory that was taken during the pass beyond what was there before it; median, in 10⁶ bytes (files: in bytes)",
    },
    Column {
        key: "deletion_auc",
        title: "deletion",
        meaning: "area under the probability of the full model's answer while the tokens that the method keeps longest are \
                  removed first; smaller is better",
    },
    Column {
        key: "insertion_auc",
        title: "insertion",
        meaning: "area under that probability while those tokens are all that is there, the best first; larger is better",
    },
];

impl Standing {
    /// A row without a question.
    pub fn new(method: &'static str, share: Option<u16>) -> Self {
        let values = [None; COLUMNS.len()];
        Self { method, floor: is_floor(method), share, n: 0, right: 0, values, notes: Vec::new() }
    }

    /// A value.
    pub fn get(&self, figure: Figure) -> Option<f64> {
        self.values[figure as usize]
    }

    /// The title of the method.
    pub fn title(&self) -> &'static str {
        match self.method {
            FULL => "Full model",
            id => catalog::find(id).map_or(id, |e| e.info().title),
        }
    }

    /// Fills in how many questions were answered right.
    pub fn count(&mut self, right: usize, n: usize) {
        (self.n, self.right) = (n, right);
        let interval = truth::wilson(right, n);
        self.values[Figure::Accuracy as usize] = (n > 0).then(|| right as f64 / n as f64);
        self.values[Figure::Low as usize] = interval.map(|i| i[0]);
        self.values[Figure::High as usize] = interval.map(|i| i[1]);
    }
}

impl Board {
    /// As numbers for a file, a line per method and share.
    pub fn table(&self) -> Table {
        let mut names = vec!["method", "asked_share", "floor", "n", "right"];
        names.extend(COLUMNS.iter().map(|c| c.key));
        names.push("note");
        let mut out = Table::new(&names);
        for r in &self.rows {
            let mut row = vec![json!(r.method), json!(r.share.map(share)), json!(r.floor), json!(r.n), json!(r.right)];
            row.extend(r.values.iter().map(|v| json!(v)));
            row.push(json!((!r.notes.is_empty()).then(|| r.notes.join("; "))));
            out.rows.push(row);
        }
        out
    }

    /// The rows in the order of a figure, the full model first; what has none comes last. Without a figure as they are.
    pub fn sorted(&self, by: Option<(usize, bool)>) -> Vec<&Standing> {
        let mut rows: Vec<&Standing> = self.rows.iter().collect();
        if let Some((i, falling)) = by.filter(|b| b.0 < COLUMNS.len()) {
            rows.sort_by(|a, b| {
                let (x, y) = (a.values[i], b.values[i]);
                let order = match (x, y) {
                    (Some(x), Some(y)) if falling => y.total_cmp(&x),
                    (Some(x), Some(y)) => x.total_cmp(&y),
                    _ => x.is_none().cmp(&y.is_none()),
                };
                (a.method != FULL).cmp(&(b.method != FULL)).then(order)
            });
        }
        rows
    }

    /// A figure over the share kept, a line a method; `None` where there is one share only. The full model is at the right.
    pub fn plot(&self, figure: Figure) -> Option<Plot> {
        let full = self.rows.iter().find(|r| r.method == FULL)?.get(figure);
        let ids: Vec<&'static str> = catalog::of(tokenscope_analysis::method::Kind::Reduce).map(|i| i.id).collect();
        let mut series: Vec<Series> = Vec::new();
        for (look, id) in ids.into_iter().enumerate() {
            let own: Vec<&Standing> = self.rows.iter().filter(|r| r.method == id && r.share.is_some()).collect();
            let mut points: Vec<[f64; 2]> =
                own.iter().filter_map(|r| Some([r.get(Figure::Kept)?, r.get(figure)?])).collect();
            points.extend(full.map(|v| [1.0, v]).filter(|_| !points.is_empty()));
            points.sort_by(|a, b| a[0].total_cmp(&b[0]));
            if points.len() < 3 {
                continue;
            }
            let role = if own.iter().any(|r| r.floor) { SeriesRole::Floor } else { SeriesRole::Main };
            let title: Cow<'static, str> = own[0].title().into();
            series.push(Series { role, look: Some(look), ..Series::new(title, Style::Line, points) });
        }
        let column = &COLUMNS[figure as usize];
        let x = Axis::Number(Measure::new("share of the tokens kept", ""));
        let y = match figure {
            Figure::Accuracy => Measure::new("questions answered right", "share"),
            Figure::Kl => Measure::new("KL to the full output", "nats"),
            _ => Measure::new(column.title, ""),
        };
        (!series.is_empty()).then(|| Plot::new("figure over the share kept", x, y, series))
    }
}

/// Thousandths as a share.
pub fn share(thousandths: u16) -> f64 {
    f64::from(thousandths) / 1000.0
}

/// Whether a method is the floor of its kind.
pub fn is_floor(id: &str) -> bool {
    catalog::find(id).is_ok_and(|e| e.info().role == Role::Floor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(method: &'static str, share: Option<u16>, accuracy: usize, kept: f64) -> Standing {
        let mut out = Standing::new(method, share);
        out.count(accuracy, 10);
        out.values[Figure::Kept as usize] = Some(kept);
        out
    }

    #[test]
    fn rows_are_sorted_below_the_full_model_and_what_has_no_figure_comes_last() {
        let rows = vec![
            standing(FULL, None, 5, 1.0),
            standing("tome", Some(250), 4, 0.25),
            Standing::new("fastv", Some(250)),
            standing("random", Some(250), 9, 0.25),
        ];
        let mut board = Board { rows, ..Board::default() };
        let ids = |by| board.sorted(by).iter().map(|r| r.method).collect::<Vec<_>>();
        assert_eq!(ids(None), [FULL, "tome", "fastv", "random"]);
        let accuracy = Figure::find("accuracy").unwrap();
        assert_eq!(ids(Some((accuracy, true))), [FULL, "random", "tome", "fastv"]);
        assert_eq!(ids(Some((accuracy, false))), [FULL, "tome", "random", "fastv"]);
        assert_eq!(ids(Some((99, false))), [FULL, "tome", "fastv", "random"]);
        assert_eq!(board.table().rows[1][..5], [json!("tome"), json!(0.25), json!(false), json!(10), json!(4)]);
        // One share makes no line.
        assert_eq!(board.plot(Figure::Accuracy), None);
        board.rows.push(standing("tome", Some(500), 5, 0.5));
        let plot = board.plot(Figure::Accuracy).unwrap();
        assert_eq!(plot.series.len(), 1);
        assert_eq!(plot.series[0].points, [[0.25, 0.4], [0.5, 0.5], [1.0, 0.5]]);
    }
}
