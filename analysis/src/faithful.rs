//! How faithful a score is to the model: what the model still says when the tokens that the score puts first are taken
//! away (deletion), and when they are all it is given (insertion), against tokens in random order.
//!
//! Sources: Petsiuk et al. 2018, "RISE: Randomized Input Sampling for Explanation of Black-box Models", for the curves
//! and their areas; DeYoung et al. 2020, "ERASER: A Benchmark to Evaluate Rationalized NLP Models", for doing the same
//! to texts. Departs: tokens are not blurred or masked but really removed, before the first layer, and those that stay
//! keep their positions; special tokens and the explained ones always stay.

use crate::ctx::Ctx;
use crate::finding::{Axis, Datum, Figure, Finding, Measure, Plot, Series, SeriesRole, Style};
use crate::math::{cosine, log_softmax};
use crate::model::{Input, LogitRows, Model, Output, Writes};
use crate::reduce::{Asked, Decision, Half, Place, Runner};
use crate::score::Scores;
use crate::token::TokenKind;
use crate::trace::{NoTap, Regroup, Tap, Tower, TowerTrace};
use crate::truth::mean_and_error;
use crate::{Error, Result, Subject};
use rand::SeedableRng;
use rand::seq::SliceRandom;

/// Steps of a curve from nothing to all tokens; fewer where there are fewer tokens.
pub const STEPS: usize = 10;
/// Random orders that the score's is held against.
pub const DRAWS: usize = 5;

/// Both curves of one order of the tokens: points of the share of tokens, from 0 to 1, and what the model then says.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Curves {
    /// This share of the tokens is removed, the first of the order first.
    pub deletion: Vec<[f64; 2]>,
    /// This share of the tokens, the first of the order, is all that is there.
    pub insertion: Vec<[f64; 2]>,
}

/// The curves of a score and of random orders, as far as they are there.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Faithfulness {
    /// What the curves measure.
    pub measure: Measure,
    /// Tokens that compete: those that the score says something about, but special ones, the explained ones, and in a
    /// model that reads from left to right those behind them.
    pub competing: usize,
    /// By falling score; equal ones in a random order.
    pub score: Curves,
    /// In random orders; the last may be under way.
    pub random: Vec<Curves>,
}

/// The area under a curve from 0 to 1, by trapezoids; `None` while it does not reach so far.
pub fn area(points: &[[f64; 2]]) -> Option<f64> {
    let whole = points.first().is_some_and(|p| p[0] == 0.0) && points.last().is_some_and(|p| p[0] == 1.0);
    whole.then(|| points.windows(2).map(|w| (w[1][0] - w[0][0]) * (w[0][1] + w[1][1]) / 2.0).sum())
}

/// Which of the two curves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Deletion,
    Insertion,
}

impl Which {
    const ALL: [Self; 2] = [Self::Deletion, Self::Insertion];

    fn name(self) -> &'static str {
        match self {
            Self::Deletion => "deletion",
            Self::Insertion => "insertion",
        }
    }

    fn of(self, curves: &Curves) -> &[[f64; 2]] {
        match self {
            Self::Deletion => &curves.deletion,
            Self::Insertion => &curves.insertion,
        }
    }
}

impl Faithfulness {
    /// Areas under the random curves that are whole.
    fn random_areas(&self, which: Which) -> Vec<f64> {
        self.random.iter().filter_map(|c| area(which.of(c))).collect()
    }

    /// The mean of the random curves that are whole, with the standard error at each point.
    fn random_mean(&self, which: Which) -> (Vec<[f64; 2]>, Vec<f64>) {
        let whole: Vec<&[[f64; 2]]> = self.random.iter().map(|c| which.of(c)).filter(|c| area(c).is_some()).collect();
        let Some(first) = whole.first() else { return Default::default() };
        let at = |i: usize| whole.iter().filter_map(|c| c.get(i)).map(|p| p[1]).collect::<Vec<_>>();
        let all = (0..first.len()).filter_map(|i| Some((first[i][0], mean_and_error(&at(i))?)));
        all.map(|(x, (mean, error))| ([x, mean], error.unwrap_or(0.0))).unzip()
    }

    /// As pictures and figures; `name` is that of the score.
    pub fn finding(&self, name: &str) -> Finding {
        let mut out = Finding::default();
        for which in Which::ALL {
            let (random, errors) = self.random_mean(which);
            let x = Measure::new(
                if which == Which::Deletion { "share of the tokens removed" } else { "share of the tokens there" },
                "",
            );
            let own =
                Series { look: Some(0), ..Series::new(name.to_string(), Style::Line, which.of(&self.score).to_vec()) };
            let mut series = vec![own];
            if !random.is_empty() {
                let n = self.random_areas(which).len();
                let floor = Series::new(format!("random order (mean of {n})"), Style::Line, random);
                series.push(Series { role: SeriesRole::Floor, look: Some(1), errors, ..floor });
            }
            out = out.with(Plot::new(which.name(), Axis::Number(x), self.measure, series));
        }
        for which in Which::ALL {
            out.figures.extend(self.areas(which));
        }
        out
    }

    /// The areas under a curve of the score and of random orders.
    fn areas(&self, which: Which) -> Vec<Figure> {
        let (what, better) = match which {
            Which::Deletion => ("removed, the highest score first", "Smaller is more faithful"),
            Which::Insertion => ("all that is there, the highest score first", "Larger is more faithful"),
        };
        let meaning = format!(
            "Area under the curve of {} over the share of the {} competing tokens that are {what}, by trapezoids. \
             Tokens are really removed before the first layer, and the others keep their positions; special tokens and \
             the explained ones always stay. {better}; below random order the score is no better than chance.",
            self.measure.name, self.competing
        );
        let mut out = Vec::new();
        if let Some(own) = area(which.of(&self.score)) {
            out.push(Figure::new(format!("{} area", which.name()), Datum::Number(own), meaning));
        }
        let areas = self.random_areas(which);
        if let Some((mean, error)) = mean_and_error(&areas) {
            let n = areas.len();
            // Spread of single draws, not of their mean.
            let spread = error.map(|e| e * (n as f64).sqrt());
            let words = spread.map_or(format!("{mean:.3}"), |s| format!("{mean:.3} ± {s:.3}"));
            let meaning = format!(
                "The same area for tokens in random order: mean of {n} orders, seeds 0 to {}, and their standard deviation",
                n - 1
            );
            out.push(Figure::new(format!("random {} area", which.name()), Datum::Text(words), meaning));
        }
        out
    }
}

/// What the full model says, which the curves follow.
enum Said {
    /// The explained token of the prediction at each explained one, which is the most probable where none is named.
    Next(Vec<usize>),
    /// The same, and the token that it is held against.
    Lead(Vec<[usize; 2]>),
    /// An embedding of the input.
    Embedding(Vec<f32>),
}

/// One run whose tokens are taken away.
struct Trial<'a> {
    on: Subject<'a>,
    model: &'a dyn Model,
    /// Explained tokens whose predictions are looked at; empty where the answer is not theirs.
    targets: Vec<usize>,
    tokens: &'a TowerTrace,
}

impl Trial<'_> {
    /// Runs the model on the tokens that stay: the output, and the rows of the explained ones.
    fn run(&self, stays: &[bool], ctx: &Ctx) -> Result<Output> {
        let here = Place::inside(self.on.tower, 0, Half::Before);
        let all = stays.iter().all(|s| *s);
        let mut none = NoTap;
        let mut runner;
        let tap: &mut dyn Tap = if all {
            &mut none
        } else {
            let removes = Asked::at([here], |seen, _: &Ctx| {
                let left = |tokens: &Vec<usize>| tokens.iter().any(|t| stays.get(*t).copied().unwrap_or(true));
                let rows: Vec<usize> =
                    seen.rows().tokens.iter().enumerate().filter(|(_, t)| left(t)).map(|(r, _)| r).collect();
                Ok(Decision { regroup: Some(Regroup::keep(&rows)), ..Decision::stay() })
            });
            runner = Runner::new(&self.on, vec![Box::new(removes)], ctx)?;
            &mut runner
        };
        let logits = match (self.model.info().vocab, &self.targets[..]) {
            (0, _) => LogitRows::None,
            (_, []) => LogitRows::Last,
            (_, targets) => {
                let row = |t: &usize| stays[..*t].iter().filter(|s| **s).count();
                LogitRows::These(targets.iter().map(row).collect())
            }
        };
        self.model.forward(&mut Input { logits: Some(logits), ..self.on.again() }, tap, ctx)
    }

    /// What the full model says. Errors: it gives neither logits nor an embedding.
    fn full(&self, ctx: &Ctx) -> Result<Said> {
        let out = self.run(&vec![true; self.tokens.tokens.len()], ctx)?;
        match &out.logits {
            Some(logits) => {
                let (rows, name) = (logits.to_vec2::<f32>()?, &self.model.info().name);
                let said = rows.iter().map(|row| self.on.aim.of(row, name)).collect::<Result<Vec<_>>>()?;
                Ok(match said.iter().map(|(token, other)| Some([*token, (*other)?])).collect() {
                    Some(pairs) => Said::Lead(pairs),
                    None => Said::Next(said.into_iter().map(|s| s.0).collect()),
                })
            }
            None => Ok(Said::Embedding(out.embedding(self.on.tower)?)),
        }
    }

    /// How much of what the full model says is left, with the tokens that stay.
    fn left(&self, said: &Said, stays: &[bool], ctx: &Ctx) -> Result<f64> {
        let out = self.run(stays, ctx)?;
        match (said, &out.logits) {
            (Said::Next(best), Some(logits)) => {
                let rows = logits.to_vec2::<f32>()?;
                let p = |(row, best): (&Vec<f32>, &usize)| log_softmax(row).get(*best).map_or(0.0, |l| l.exp());
                Ok(rows.iter().zip(best).map(p).sum::<f64>() / best.len().max(1) as f64)
            }
            (Said::Lead(pairs), Some(logits)) => {
                let rows = logits.to_vec2::<f32>()?;
                let at = |row: &[f32], i: usize| row.get(i).copied().map_or(0.0, f64::from);
                let lead = |(row, [a, b]): (&Vec<f32>, &[usize; 2])| at(row, *a) - at(row, *b);
                Ok(rows.iter().zip(pairs).map(lead).sum::<f64>() / pairs.len().max(1) as f64)
            }
            (Said::Embedding(a), _) => Ok(cosine(a, &out.embedding(self.on.tower)?)),
            _ => Err(Error::invalid("the full and the reduced model gave different kinds of answers")),
        }
    }

    /// Both curves of an order, put into `into` point by point. `ends` are the values with all tokens and with none of
    /// those that compete.
    fn curves(
        &self,
        said: &Said,
        order: &[usize],
        ends: [f64; 2],
        ctx: &Ctx,
        mut put: impl FnMut(Which, [f64; 2]),
    ) -> Result<()> {
        let n = order.len();
        let counts = counts(n);
        for (i, which) in Which::ALL.into_iter().enumerate() {
            for (j, &k) in counts.iter().enumerate() {
                ctx.step(i * counts.len() + j, 2 * counts.len())?;
                let mut stays = vec![true; self.tokens.tokens.len()];
                let gone = if which == Which::Deletion { &order[..k] } else { &order[k..] };
                gone.iter().for_each(|t| stays[*t] = false);
                let value = match (gone.len(), n - gone.len()) {
                    (0, _) => ends[0],
                    (_, 0) => ends[1],
                    _ => self.left(said, &stays, &ctx.quiet())?,
                };
                put(which, [k as f64 / n as f64, value]);
            }
        }
        Ok(())
    }
}

/// How many of `n` tokens each point of a curve is about, from none to all.
fn counts(n: usize) -> Vec<usize> {
    let steps = n.min(STEPS);
    (0..=steps).map(|j| (j * n + steps / 2) / steps.max(1)).collect()
}

/// The tokens that compete, by falling score, equal ones as they fall.
fn ordered(scores: &Scores, competing: &[usize]) -> Vec<usize> {
    let mut order = drawn(competing, 0);
    let value = |t: &usize| scores.values.get(*t).copied().flatten().unwrap_or(f32::NEG_INFINITY);
    order.sort_by(|a, b| value(b).total_cmp(&value(a)));
    order
}

/// The tokens in a random order.
fn drawn(competing: &[usize], seed: u64) -> Vec<usize> {
    let mut order = competing.to_vec();
    order.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(seed));
    order
}

/// The curves of `scores`, which explain the predictions at `targets` (the last token where there are none), and of
/// `draws` random orders, of which a view shows [`DRAWS`]; `so_far` sees them grow. They follow the probability of what the full
/// model says; where the subject is aimed at one token rather than another, the difference of their logits, in nats.
///
/// Errors: no weights; no token that competes; an encoder that reads tiles one by one; cancelled.
pub fn faithfulness(
    on: &Subject,
    targets: &[usize],
    scores: &Scores,
    draws: usize,
    ctx: &Ctx,
    so_far: &mut dyn FnMut(&Faithfulness),
) -> Result<Faithfulness> {
    let model = on.model.ok_or_else(|| {
        Error::invalid("tokens can only be taken away with the model's weights; open the model itself")
    })?;
    let tokens = on.tower()?;
    if tokens.n_tiles > 1 {
        return Err(Error::invalid(
            "the image is cut into tiles that the encoder reads one by one; look at the language model's tokens instead",
        ));
    }
    let n = tokens.tokens.len();
    let default = tokens.class_token.or(n.checked_sub(1));
    let targets: Vec<usize> = if targets.is_empty() { default.into_iter().collect() } else { targets.to_vec() };
    if let Some(t) = targets.iter().find(|t| **t >= n) {
        return Err(Error::invalid(format!("there is no token {t}; the run has {n}")));
    }
    let causal = model.info().writes == Writes::Causal && on.tower == Tower::Text;
    let last = targets.iter().max().copied().unwrap_or(0);
    let competes = |i: &usize| {
        let plain = matches!(tokens.tokens[*i].kind, TokenKind::Text | TokenKind::Image);
        let said = scores.values.get(*i).is_some_and(Option::is_some);
        plain && said && !targets.contains(i) && (!causal || *i < last)
    };
    let competing: Vec<usize> = (0..n).filter(competes).collect();
    if competing.is_empty() {
        return Err(Error::invalid(
            "the score says nothing about a token that could be taken away: special tokens and the explained ones stay",
        ));
    }
    // The tokens of an encoder predict nothing themselves: the answer is the language model's, or an embedding.
    let own = on.tower == Tower::Text && model.info().vocab > 0;
    let trial = Trial { on: *on, model, targets: if own { targets } else { Vec::new() }, tokens };
    let said = trial.full(ctx)?;
    let measure = match &said {
        Said::Next(_) => Measure::new("probability of the full model's answer", ""),
        // Of log-probabilities, too: their normalizer is the same.
        Said::Lead(_) => Measure::signed("lead of the full model's answer over the other token", "nats"),
        Said::Embedding(_) => Measure::new("cosine to the full embedding", ""),
    };
    let mut stays = vec![true; n];
    let all = trial.left(&said, &stays, ctx)?;
    competing.iter().for_each(|t| stays[*t] = false);
    let none = trial.left(&said, &stays, ctx)?;
    let mut out = Faithfulness { measure, competing: competing.len(), score: Curves::default(), random: Vec::new() };
    for draw in 0..=draws {
        let order = match draw {
            0 => ordered(scores, &competing),
            _ => drawn(&competing, draw as u64 - 1),
        };
        if draw > 0 {
            out.random.push(Curves::default());
        }
        let part = ctx.part(draw, draws + 1);
        trial.curves(&said, &order, [all, none], &part, |which, point| {
            let curves = out.random.last_mut().unwrap_or(&mut out.score);
            match which {
                Which::Deletion => curves.deletion.push(point),
                Which::Insertion => curves.insertion.push(point),
            }
            so_far(&out);
        })?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_by_hand_and_none_while_a_curve_grows() {
        // Trapezoids: 0.5 · (1 + 0.5) / 2 and 0.5 · (0.5 + 0) / 2.
        assert_eq!(area(&[[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]), Some(0.5));
        let uneven = area(&[[0.0, 1.0], [0.25, 0.2], [1.0, 0.2]]);
        assert!(uneven.is_some_and(|a| (a - 0.3).abs() < 1e-12), "{uneven:?}");
        assert_eq!(area(&[[0.0, 1.0], [0.5, 0.5]]), None);
        assert_eq!(area(&[]), None);
    }

    #[test]
    fn points_go_from_none_to_all_in_even_steps() {
        assert_eq!(counts(1), [0, 1]);
        assert_eq!(counts(3), [0, 1, 2, 3]);
        assert_eq!(counts(10), (0..=10).collect::<Vec<_>>());
        assert_eq!(counts(25), [0, 3, 5, 8, 10, 13, 15, 18, 20, 23, 25]);
    }

    #[test]
    fn higher_scores_come_first_and_equal_ones_as_they_fall() {
        let scores = Scores::new(vec![Some(0.1), Some(-2.0), None, Some(3.0), Some(0.5)], "parts");
        assert_eq!(ordered(&scores, &[0, 1, 3, 4]), [3, 4, 0, 1]);
        let same = Scores::new(vec![Some(1.0); 40], "parts");
        let all: Vec<usize> = (0..40).collect();
        let order = ordered(&same, &all);
        assert_ne!(order, all);
        assert_eq!(order, drawn(&all, 0));
    }

    #[test]
    fn what_is_told_has_the_areas_of_whole_curves_only() {
        let whole = |y: f64| Curves { deletion: vec![[0.0, 1.0], [1.0, y]], insertion: vec![[0.0, y], [1.0, 1.0]] };
        let mut f = Faithfulness {
            measure: Measure::new("probability", ""),
            competing: 4,
            score: whole(0.0),
            random: vec![whole(0.5), whole(1.0), Curves { deletion: vec![[0.0, 1.0]], ..Curves::default() }],
        };
        assert_eq!(f.random_areas(Which::Deletion), [0.75, 1.0]);
        let found = f.finding("own");
        found.check().unwrap();
        let words: Vec<String> = found.figures.iter().map(|f| f.words()).collect();
        // Standard deviation of 0.75 and 1: 0.25 / √2.
        assert_eq!(words, ["0.500", "0.875 ± 0.177", "0.500", "0.875 ± 0.177"]);
        let (mean, error) = f.random_mean(Which::Deletion);
        assert_eq!(mean, [[0.0, 1.0], [1.0, 0.75]]);
        assert_eq!(error, [0.0, 0.25]);
        f.random.clear();
        assert_eq!(f.finding("own").figures.len(), 2);
    }
}
