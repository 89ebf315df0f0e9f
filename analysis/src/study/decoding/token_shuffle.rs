//! Token-Shuffle: windows of neighbouring tokens are one position of the transformer.
//!
//! Source: Ma et al. 2025, "Token-Shuffle: Towards High-Resolution Image Generation with Autoregressive Models",
//! arXiv 2504.17789. Takes: a grid and the side of a window. Gives: which tokens are one position, and what is saved.
//! Departs: own reading of the paper; what fuses and unfuses channels is trained.

use super::super::Method;
use super::show::{order_map, step_of_each};
use crate::ctx::Ctx;
use crate::finding::{Datum, Figure, Finding};
use crate::method::{Basis, Info, Kind, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const ROWS: Param = Param::count("rows", "Windows above each other", 1, 64, 8);
const COLS: Param = Param::count("columns", "Windows side by side", 1, 64, 8);
const WINDOW: Param = Param::count("s", "Tokens along a side of a window", 1, 8, 2);

static INFO: Info = Info {
    id: "token_shuffle",
    title: "Token-Shuffle",
    summary: "Shows which neighbouring tokens are written as one position, and what that saves.",
    family: "decode orders",
    basis: Basis::OwnReading,
    paper: Some(Paper {
        title: "Token-Shuffle: Towards High-Resolution Image Generation with Autoregressive Models",
        authors: "Ma et al.",
        year: 2025,
        arxiv: "2504.17789",
    }),
    departs: "own reading of the paper; the grouping only, what fuses and unfuses channels is trained",
    params: &[ROWS, COLS, WINDOW],
    budget: Some(&WINDOW),
    raw: &[Adapter { name: "token_shuffle", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct Shuffle;

/// Tokens of each window, row by row.
fn groups(h: usize, w: usize, s: usize) -> Vec<Vec<usize>> {
    let across = w / s;
    let own = |g: usize| (0..s * s).map(|i| (g / across * s + i / s) * w + g % across * s + i % s).collect();
    (0..h / s * across).map(own).collect()
}

impl Method for Shuffle {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, _: &Subject, params: &Params, _: &Ctx) -> Result<Finding> {
        INFO.check(params)?;
        let of = |p| params.count(p) as usize;
        let s = of(&WINDOW);
        let (h, w) = (of(&ROWS) * s, of(&COLS) * s);
        let groups = groups(h, w, s);
        Ok(Finding::of(order_map("position of each token", &step_of_each(&groups, h * w), w)?)
            .figure(Figure::new("positions", Datum::Count(groups.len()), "what the transformer reads and writes"))
            .figure(Figure::new("sequence", Datum::Count(s * s), "times fewer positions than tokens"))
            .figure(Figure::new("attention", Datum::Count(s.pow(4)), "times fewer pairs that attention looks at")))
    }
}

/// Raw entry: `h`, `w`, `s` → windows, the step of each token, what is saved.
fn raw(input: &RawInput, _: &Ctx) -> Result<Value> {
    let (h, w, s) = (input.within("h", 1..=1024)?, input.within("w", 1..=1024)?, input.within("s", 1..=1024)?);
    if !h.is_multiple_of(s) || !w.is_multiple_of(s) {
        return Err(Error::invalid(format!("s must divide h and w; {s} does not divide {h} and {w}")));
    }
    let groups = groups(h, w, s);
    let steps = step_of_each(&groups, h * w);
    Ok(json!({
        "ar_steps": groups.len(),
        "groups": groups,
        "step_of_token": steps.chunks(w).collect::<Vec<_>>(),
        "sequence_reduction": s * s,
        "attention_reduction": (s * s) * (s * s),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_two_rows_of_four() {
        let g = groups(2, 4, 2);
        assert_eq!(g, [[0, 1, 4, 5], [2, 3, 6, 7]]);
        assert_eq!(step_of_each(&g, 8), [0, 0, 1, 1, 0, 0, 1, 1]);
    }
}
