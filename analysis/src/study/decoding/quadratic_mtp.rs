//! Quadratic decoding: masks behind every guess, so that new guesses are there however many are accepted.
//!
//! Source: Samragh et al. 2025, "Your LLM Knows the Future: Uncovering Its Multi-Token Prediction Potential",
//! arXiv 2507.11851. Takes: the number of masks, and how many guesses are accepted. Gives: the layout of a pass, who sees whom,
//! what each round gives. Departs: own reading of the paper; the order of slots is ours, the masks are trained.

use super::super::Method;
use crate::array::Array;
use crate::ctx::Ctx;
use crate::finding::{Datum, Figure, Finding, Matrix, Measure, Unit};
use crate::method::{Basis, Info, Kind, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const K: Param = Param::count("k", "Masks behind each token: tokens foreseen", 1, 16, 4);
const ACCEPTED: Param = Param::schedule("accepted", "Guesses accepted in each round", 0.0, 16.0, &[3.0, 1.0, 4.0]);

static INFO: Info = Info {
    id: "quadratic_mtp",
    title: "Quadratic layout",
    summary: "Shows how a pass holds guesses and masks so that as many new guesses exist whatever is accepted.",
    family: "adaptive compute",
    basis: Basis::OwnReading,
    paper: Some(Paper {
        title: "Your LLM Knows the Future: Uncovering Its Multi-Token Prediction Potential",
        authors: "Samragh et al.",
        year: 2025,
        arxiv: "2507.11851",
    }),
    departs: "own reading of the paper, whose code is not public; the order of slots is ours; the masks are trained",
    params: &[K, ACCEPTED],
    budget: Some(&K),
    raw: &[Adapter { name: "quadratic_mtp", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct Quadratic;

/// A slot: a mask or a token (the last of the text, or a guess), its anchor among those tokens, its place after the text.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Slot {
    mask: bool,
    anchor: usize,
    place: usize,
}

/// The last token and `k` guesses, each followed by `k` masks.
fn slots(k: usize) -> Vec<Slot> {
    let own = |anchor: usize| (0..=k).map(move |j| Slot { mask: j > 0, anchor, place: anchor + j });
    (0..=k).flat_map(own).collect()
}

/// Whether slot `i` sees slot `j`: tokens up to its anchor, and of masks those of its own anchor up to itself.
fn sees(slots: &[Slot], i: usize, j: usize) -> bool {
    let (a, b) = (slots[i], slots[j]);
    if b.mask { a.mask && a.anchor == b.anchor && j <= i } else { b.anchor <= a.anchor }
}

impl Method for Quadratic {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, _: &Subject, params: &Params, _: &Ctx) -> Result<Finding> {
        INFO.check(params)?;
        let k = params.count(&K) as usize;
        let slots = slots(k);
        let n = slots.len();
        let cells: Vec<f32> = (0..n * n).map(|c| f32::from(u8::from(sees(&slots, c / n, c % n)))).collect();
        let name = |s: &Slot| match (s.mask, s.anchor) {
            (true, a) => format!("mask {} of {a}", s.place - a),
            (false, 0) => "last token".to_string(),
            (false, a) => format!("guess {a}"),
        };
        let unit = || Unit::named(slots.iter().map(name));
        let accepted = params.schedule(&ACCEPTED);
        let tokens: f64 = accepted.iter().map(|a| a.round().min(k as f64) + 1.0).sum();
        let cells = Array::new([n, n], cells)?;
        Ok(Finding::of(Matrix::dense("who sees whom", unit(), unit(), Measure::new("sees", ""), cells)?)
            .figure(Figure::new("slots", Datum::Count(n), "tokens of a pass: (k + 1) + k (k + 1)"))
            .figure(Figure::new(
                "tokens per round",
                Datum::Number(tokens / accepted.len().max(1) as f64),
                "accepted ones and the target's own",
            )))
    }
}

/// Masks that the raw entry lists at most: the table of who sees whom grows with the fourth power.
const MOST: usize = 32;

/// Raw entry: `k` and accepted guesses by round → slots, who sees whom, rounds.
fn raw(input: &RawInput, _: &Ctx) -> Result<Value> {
    let k = input.within("k", 0..=MOST)?;
    let accepted: Vec<usize> = input.read("accepted_per_round")?;
    if accepted.iter().any(|a| *a > k) {
        return Err(Error::invalid("accepted_per_round must not be more than k"));
    }
    let slots = slots(k);
    let n = slots.len();
    let kind = |s: &Slot| {
        if s.mask {
            "mask"
        } else if s.anchor == 0 {
            "tok"
        } else {
            "spec"
        }
    };
    let row = |i: usize| (0..n).map(|j| u8::from(sees(&slots, i, j))).collect::<Vec<_>>();
    let round = |a: &usize| json!({ "accepted": a, "new_tokens": a + 1, "speculated_next_round": k });
    let tokens: usize = accepted.iter().map(|a| a + 1).sum();
    Ok(json!({
        "slots": slots.iter().map(|s| json!([kind(s), s.anchor, s.place])).collect::<Vec<_>>(),
        "visibility": (0..n).map(row).collect::<Vec<_>>(),
        "input_length": n,
        "rounds": accepted.iter().map(round).collect::<Vec<_>>(),
        "mean_accept_rate_tokens_per_round": if accepted.is_empty() { 0.0 } else { tokens as f64 / accepted.len() as f64 },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mask_behind_each_of_two_tokens() {
        let s = slots(1);
        let own = |anchor, mask, place| Slot { mask, anchor, place };
        assert_eq!(s, [own(0, false, 0), own(0, true, 1), own(1, false, 1), own(1, true, 2)]);
        let seen = |i: usize| (0..4).filter(|&j| sees(&s, i, j)).collect::<Vec<_>>();
        assert_eq!([seen(0), seen(1), seen(2), seen(3)], [vec![0], vec![0, 1], vec![0, 2], vec![0, 2, 3]]);
    }
}
