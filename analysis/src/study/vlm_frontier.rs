//! Few tokens or a larger model: what a budget buys, by a law fitted to published scores.
//!
//! Source: Li et al. 2024, "Inference Optimal VLMs Need Only One Visual Token but Larger Models", arXiv 2411.03312;
//! locuslab/llava-token-compression, `scaling_law_code`, for the law and the scores. Takes: scores by size of the language
//! model and number of visual tokens. Gives: error = A / N^α / T^β + D, what it predicts, and the pairs that no other
//! beats. Departs: see [`Info::departs`]. Cost: O(α · β · pairs).

use super::Method;
use crate::ctx::Ctx;
use crate::finding::{Axis, Datum, Figure, Finding, Measure, Plot, Series, SeriesRole, Style, Table};
use crate::method::{Basis, Info, Kind, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const TEXT: Param = Param::count("text", "Text tokens that are read beside the visual ones", 0, 1 << 20, 0);
const BUDGET: Param = Param::number("budget", "Billions of parameters times tokens that may be spent", 0.0, 1e7, 64.0);

static INFO: Info = Info {
    id: "vlm_frontier",
    title: "Tokens or parameters",
    summary: "Shows what fewer visual tokens and larger models cost and err, by a law fitted to published scores.",
    family: "image tokens",
    basis: Basis::Authors { repo: "locuslab/llava-token-compression", commit: "" },
    paper: Some(Paper {
        title: "Inference Optimal VLMs Need Only One Visual Token but Larger Models",
        authors: "Li et al.",
        year: 2024,
        arxiv: "2411.03312",
    }),
    departs: "their exponents come from a search by chance, these from a grid, the first of the best; the scores are the \
              published means over tasks of reasoning; other tables go through the raw entry",
    params: &[TEXT, BUDGET],
    raw: &[Adapter { name: "vlm_frontier", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct VlmFrontier;

/// Billions of parameters, visual tokens, and mean scores by both.
const SIZES: [f64; 4] = [0.5, 1.8, 4.0, 7.0];
const TOKENS: [f64; 7] = [1.0, 4.0, 16.0, 36.0, 64.0, 144.0, 576.0];

/// How far apart exponents of the grid are, and how many there are: α, β.
const STEPS: [(f64, usize); 2] = [(0.002, 101), (0.001, 51)];

/// Scores by size and number of tokens.
struct Scores {
    sizes: Vec<f64>,
    tokens: Vec<f64>,
    /// Text tokens beside these.
    text: f64,
    /// By size, then by tokens.
    errors: Vec<Vec<f64>>,
}

/// Error = a / N^alpha / T^beta + d.
#[derive(Debug, Clone, Copy)]
struct Law {
    alpha: f64,
    beta: f64,
    a: f64,
    d: f64,
    rss: f64,
}

impl Law {
    fn error(&self, size: f64, read: f64) -> f64 {
        self.a * size.powf(-self.alpha) * read.powf(-self.beta) + self.d
    }
}

/// A pair of a size and a number of tokens.
#[derive(Debug, Clone, Copy)]
struct Pair {
    at: [usize; 2],
    cost: f64,
    error: f64,
}

impl Scores {
    /// The law with the smallest sum of squares among these exponents, the first on a tie.
    fn fit(&self, alphas: &[f64], betas: &[f64], ctx: &Ctx) -> Result<Law> {
        let mut best: Option<Law> = None;
        for (i, &alpha) in alphas.iter().enumerate() {
            ctx.step(i, alphas.len())?;
            for &beta in betas {
                let (x, y): (Vec<f64>, Vec<f64>) = self
                    .sizes
                    .iter()
                    .zip(&self.errors)
                    .flat_map(|(n, row)| self.tokens.iter().zip(row).map(move |(v, e)| (n, v, e)))
                    .map(|(n, v, e)| (n.powf(-alpha) * (self.text + v).powf(-beta), *e))
                    .unzip();
                let law = line(&x, &y);
                let off = |(x, y): (&f64, &f64)| (y - law.0 * x - law.1).powi(2);
                let rss: f64 = x.iter().zip(&y).map(off).sum();
                if best.is_none_or(|b| rss < b.rss) {
                    best = Some(Law { alpha, beta, a: law.0, d: law.1, rss });
                }
            }
        }
        best.ok_or_else(|| Error::invalid("a fit needs at least one exponent of each kind"))
    }

    /// Every pair, sizes outermost.
    fn pairs(&self, law: &Law) -> Vec<Pair> {
        let pair = |(i, n): (usize, &f64)| {
            let one = |(j, v): (usize, &f64)| {
                let read = self.text + v;
                Pair { at: [i, j], cost: n * read, error: law.error(*n, read) }
            };
            self.tokens.iter().enumerate().map(one).collect::<Vec<_>>()
        };
        self.sizes.iter().enumerate().flat_map(pair).collect()
    }
}

/// Slope and intercept of a line through points, neither below what an error can be: an intercept below 0 is 0, and the
/// slope is that through the origin then. Points at one x have no slope.
fn line(x: &[f64], y: &[f64]) -> (f64, f64) {
    let n = x.len().max(1) as f64;
    let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let spread: f64 = x.iter().map(|x| (x - mx).powi(2)).sum();
    let (mut slope, mut at) = (0.0, my);
    if spread > 1e-18 {
        slope = x.iter().zip(y).map(|(x, y)| (x - mx) * (y - my)).sum::<f64>() / spread;
        at = my - slope * mx;
    }
    if at < 0.0 {
        let squares: f64 = x.iter().map(|x| x * x).sum();
        slope = if squares > 0.0 { x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>() / squares } else { 0.0 };
        at = 0.0;
    }
    (slope, at)
}

/// The pair of the lowest error that a budget pays, the first on a tie.
fn bought(pairs: &[Pair], budget: f64) -> Option<Pair> {
    let paid = pairs.iter().filter(|p| p.cost <= budget).copied();
    paid.reduce(|best, p| if p.error < best.error { p } else { best })
}

/// Pairs that no other beats in cost and error, by cost.
fn frontier(pairs: &[Pair]) -> Vec<Pair> {
    let mut all = pairs.to_vec();
    all.sort_by(|a, b| a.cost.total_cmp(&b.cost).then(a.error.total_cmp(&b.error)).then(a.at.cmp(&b.at)));
    let mut out: Vec<Pair> = Vec::new();
    for p in all {
        // Of those that cost no more, the last one kept has the lowest error.
        if out.last().is_none_or(|b| p.error < b.error || (p.error == b.error && p.cost == b.cost)) {
            out.push(p);
        }
    }
    out
}

impl Method for VlmFrontier {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        INFO.check(params)?;
        let errors = PUBLISHED.iter().map(|row| row.iter().map(|s| 1.0 - s).collect()).collect();
        let scores =
            Scores { sizes: SIZES.to_vec(), tokens: TOKENS.to_vec(), text: params.count(&TEXT) as f64, errors };
        let [alphas, betas] = STEPS.map(|(step, n)| (0..n).map(|i| step * i as f64).collect::<Vec<_>>());
        let law = scores.fit(&alphas, &betas, ctx)?;
        let pairs = scores.pairs(&law);
        let best = frontier(&pairs);
        let at = |p: &Pair| [p.cost, p.error];
        let mut series: Vec<Series> = Vec::new();
        for (i, size) in SIZES.iter().enumerate() {
            let own = pairs.iter().filter(|p| p.at[0] == i);
            series.push(Series::new(format!("{size} billion"), Style::Line, own.map(at).collect()));
        }
        let steps = Series::new("nothing is better", Style::Step, best.iter().map(at).collect());
        series.push(Series { role: SeriesRole::Reference, ..steps });
        let published = pairs.iter().map(|p| [p.cost, scores.errors[p.at[0]][p.at[1]]]).collect();
        series.push(Series { role: SeriesRole::Floor, ..Series::new("published", Style::Points, published) });
        let cost = Axis::Number(Measure::new("cost", "billion parameters · tokens"));
        let mut plot = Plot::new("error by cost", cost, Measure::new("error", "1 − score"), series);
        plot.log = [true, false];
        if let Some(model) = on.model.map(|m| m.info()) {
            let tokens = on.tower()?.tokens.len();
            let own = model.n_params as f64 / 1e9 * tokens as f64;
            if own > 0.0 {
                plot.marks.push((own, "this run".into()));
            }
        }
        let budget = params.number(&BUDGET);
        let mut table =
            Table::new(&["billion parameters", "visual tokens", "cost", "error"]).titled("nothing is better");
        let row = |p: &Pair| vec![json!(SIZES[p.at[0]]), json!(TOKENS[p.at[1]]), json!(p.cost), json!(p.error)];
        table.rows.extend(best.iter().map(row));
        let number = |name: &'static str, v: f64, meaning: &'static str| Figure::new(name, Datum::Number(v), meaning);
        let words = bought(&pairs, budget)
            .map_or("nothing".into(), |p| format!("{} billion, {} tokens", SIZES[p.at[0]], TOKENS[p.at[1]]));
        let mut out = Finding::of(plot)
            .with(table)
            .figure(Figure::new("bought", Datum::Text(words), format!("The lowest error that a cost of {budget} pays")))
            .figure(number("α", law.alpha, "Exponent of the parameters"))
            .figure(number("β", law.beta, "Exponent of the tokens"))
            .figure(number("A", law.a, "Factor of the law"))
            .figure(number("D", law.d, "Error that nothing takes away"));
        if law.beta > 0.0 {
            out = out.figure(number(
                "α / β",
                law.alpha / law.beta,
                "How much more a larger model brings than more tokens",
            ));
        }
        Ok(out)
    }
}

/// Mean scores, by size and number of tokens.
const PUBLISHED: [[f64; 7]; 4] = [
    [0.3855, 0.3917, 0.4078, 0.4133, 0.4151, 0.4244, 0.432],
    [0.4333, 0.4519, 0.4528, 0.4597, 0.4609, 0.4758, 0.4808],
    [0.463, 0.4692, 0.4858, 0.4916, 0.5023, 0.5092, 0.5185],
    [0.481, 0.4971, 0.505, 0.5141, 0.5172, 0.5238, 0.5354],
];

/// Raw entry: sizes `N` in billions, visual tokens `V`, `scores` by both, exponents `alphas` and `betas` to try, text
/// tokens `Q`, `budgets`.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (sizes, tokens): (Vec<Value>, Vec<Value>) = (input.read("N")?, input.read("V")?);
    let numbers = |name: &str, list: &[Value]| -> Result<Vec<f64>> {
        let all: Option<Vec<f64>> = list.iter().map(Value::as_f64).collect();
        all.filter(|v| v.iter().all(|x| x.is_finite() && *x >= 0.0))
            .ok_or_else(|| Error::invalid(format!("field {name} holds numbers from 0 up")))
    };
    let table: Vec<Vec<f64>> = input.read("scores")?;
    let text: f64 = input.read_or("Q", 0.0)?;
    let scores = Scores {
        sizes: numbers("N", &sizes)?,
        tokens: numbers("V", &tokens)?,
        text,
        errors: table.iter().map(|row| row.iter().map(|s| 1.0 - s).collect()).collect(),
    };
    let fits = table.len() == sizes.len() && table.iter().all(|r| r.len() == tokens.len());
    let read = scores.sizes.iter().all(|n| *n > 0.0) && scores.tokens.iter().all(|v| v + text > 0.0);
    if !fits || !read || sizes.is_empty() || tokens.is_empty() {
        return Err(Error::invalid(format!(
            "scores of {} sizes above 0 by {} numbers of tokens above 0, text included, are needed",
            sizes.len(),
            tokens.len()
        )));
    }
    let (alphas, betas): (Vec<f64>, Vec<f64>) = (input.read("alphas")?, input.read("betas")?);
    let work = alphas.len().saturating_mul(betas.len()).saturating_mul(sizes.len() * tokens.len());
    if work > 1 << 32 {
        return Err(Error::invalid(format!("{} by {} exponents are too many", alphas.len(), betas.len())));
    }
    let budgets: Vec<f64> = input.read_or("budgets", Vec::new())?;
    let law = scores.fit(&alphas, &betas, ctx)?;
    let pairs = scores.pairs(&law);
    let chosen = |b: &f64| {
        bought(&pairs, *b).map_or(
            Value::Null,
            |p| json!({ "N": sizes[p.at[0]], "V": tokens[p.at[1]], "cost": p.cost, "error": p.error }),
        )
    };
    Ok(json!({
        "alpha": law.alpha,
        "beta": law.beta,
        "A": law.a,
        "D": law.d,
        "rss": law.rss,
        "predicted": pairs.chunks(tokens.len()).map(|r| r.iter().map(|p| p.error).collect()).collect::<Vec<Vec<f64>>>(),
        "ratio": (law.beta != 0.0).then(|| law.alpha / law.beta),
        "budgets": budgets.iter().map(chosen).collect::<Vec<_>>(),
        "frontier": frontier(&pairs).iter().map(|p| p.at).collect::<Vec<_>>(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_law_is_found_again_and_an_error_that_stays_is_never_below_zero() {
        let law = Law { alpha: 0.5, beta: 0.25, a: 0.4, d: 0.1, rss: 0.0 };
        let (sizes, tokens) = (vec![1.0, 4.0], vec![1.0, 16.0]);
        let errors = sizes.iter().map(|n| tokens.iter().map(|t| law.error(*n, *t)).collect()).collect();
        let scores = Scores { sizes, tokens, text: 0.0, errors };
        let found = scores.fit(&[0.25, 0.5], &[0.0, 0.25, 0.5], &Ctx::default()).unwrap();
        assert_eq!((found.alpha, found.beta), (0.5, 0.25));
        assert!((found.a - 0.4).abs() < 1e-9 && (found.d - 0.1).abs() < 1e-9 && found.rss < 1e-18);
        assert_eq!(line(&[1.0, 2.0], &[1.0, 3.0]), (1.4, 0.0));
        assert_eq!(line(&[2.0, 2.0], &[1.0, 3.0]), (0.0, 2.0));
    }

    #[test]
    fn a_budget_buys_the_lowest_error_and_dominated_pairs_are_out() {
        let pair = |i: usize, cost, error| Pair { at: [i, 0], cost, error };
        let pairs = [pair(0, 1.0, 0.5), pair(1, 2.0, 0.5), pair(2, 3.0, 0.2), pair(3, 3.0, 0.2)];
        assert_eq!(frontier(&pairs).iter().map(|p| p.at[0]).collect::<Vec<_>>(), [0, 2, 3]);
        assert_eq!(bought(&pairs, 2.5).unwrap().at[0], 0);
        assert_eq!(bought(&pairs, 3.0).unwrap().at[0], 2);
        assert!(bought(&pairs, 0.5).is_none());
    }
}
