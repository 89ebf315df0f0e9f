//! Treat visual tokens as text? A picture's tokens look at their neighbours alone, and heads that hardly look at the
//! picture are found.
//!
//! Source: Zhang et al. 2024, "Treat Visual Tokens as Text? But Your MLLM Only Needs Fewer Efforts to See",
//! arXiv 2410.06169; ZhangAIPI/YOPO_MLLM_Pruning at f0783f4427, `modeling_llama_prune.py`. Takes: a model that reads a
//! picture, and its run. Gives: who may look at whom, what the model says then, and how much each head looks at the
//! picture. Departs: see [`Info::departs`]. Cost: two passes, and O(layers · heads · n² · width).

use super::Method;
use super::answer::{compared, next};
use crate::array::Array;
use crate::ctx::Ctx;
use crate::finding::{Class, Classes, Datum, Figure, Finding, Heat, Look, Matrix, Measure, Unit};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::passes::attention_map;
use crate::passes::attention_received::{self, Groups};
use crate::raw::{Adapter, RawInput};
use crate::token::TokenKind;
use crate::trace::{NoTap, Site, Tower, TowerTrace};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};
use std::sync::Arc;

const WINDOW: Param =
    Param::count("window", "Side of the square that a visual token may look at, even ones one less", 1, 127, 7);
const CUT: Param = Param::number(
    "head_ratio",
    "A head is active where visual tokens get more than this over what the others get",
    0.0,
    10.0,
    0.035,
);

static INFO: Info = Info {
    id: "yopo",
    title: "Neighbours only",
    summary: "Lets visual tokens look at their neighbours alone, and shows what the model says then.",
    family: "inside the language model",
    basis: Basis::Authors { repo: "ZhangAIPI/YOPO_MLLM_Pruning", commit: "f0783f4427" },
    paper: Some(Paper {
        title: "Treat Visual Tokens as Text? But Your MLLM Only Needs Fewer Efforts to See",
        authors: "Zhang et al.",
        year: 2024,
        arxiv: "2410.06169",
    }),
    departs: "the mask is carried out in all layers; heads are told apart on this run alone, where the authors count over a \
              hundred pictures, and are shown and not switched off; their pruned MLPs and last layers are left out; tokens of \
              different tiles are no neighbours; as in the authors' code neighbours behind a token are seen, too",
    needs: &[Need::ReadsImage, Need::Attention],
    params: &[WINDOW, CUT],
    raw: &[Adapter { name: "yopo", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct Yopo;

impl Method for Yopo {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        INFO.check(params)?;
        let text = on.reader(&INFO)?;
        let n = text.tokens.len();
        ctx.fits((12 * n * n) as u64, "choose a smaller picture or a shorter prompt")?;
        let mask = mask(text, radius(params.count(&WINDOW) as usize));
        let mut cells = Array::zeros([n, n]);
        for (i, row) in mask.iter().enumerate() {
            row.iter().for_each(|&j| cells.data_mut()[i * n + j] = 1.0);
        }
        let pairs: usize = mask.iter().map(Vec::len).sum();
        let full = next(on, &INFO, None, &mut NoTap, &ctx.part(0, 3))?;
        let then = next(on, &INFO, Some(Arc::new(mask)), &mut NoTap, &ctx.part(1, 3))?;
        let ratios = head_ratios(on, text, &ctx.part(2, 3))?;
        let tokens = || Unit::Tokens(Tower::Text);
        let shown = Matrix::dense("who may look at whom", tokens(), tokens(), Measure::new("may look", ""), cells)?;
        let counts: Vec<usize> = text.attention.iter().map(|r| r.n_heads).collect();
        let unit = match counts.first() {
            Some(&per_layer) if per_layer > 0 && counts.iter().all(|c| *c == per_layer) => Unit::Heads { per_layer },
            _ => Unit::named(
                counts.iter().enumerate().flat_map(|(l, n)| (0..*n).map(move |h| format!("layer {l}, head {h}"))),
            ),
        };
        let first: usize = counts.iter().take(ALWAYS).sum();
        let cut = params.number(&CUT);
        let active: Vec<bool> = ratios.iter().enumerate().map(|(h, r)| h < first || *r > cut).collect();
        let kinds = vec![
            Class::new("active", "looks at the picture, or stands in one of the first two layers", Look::Good),
            Class::new("inactive", "hardly looks at the picture", Look::Quiet),
        ];
        let of = active.iter().map(|a| Some(usize::from(!a))).collect();
        let values = ratios.iter().map(|r| Some(*r as f32)).collect();
        let measure = Measure::new("attention", "to visual tokens over that to others");
        let all = n * (n + 1) / 2;
        let n_active = active.iter().filter(|a| **a).count();
        let mut out = Finding::of(shown)
            .with(Heat::new("how much heads look at the picture", unit.clone(), measure, values))
            .with(Classes::new("heads", unit, kinds, of))
            .figure(Figure::new(
                "pairs",
                Datum::Count(pairs),
                format!("Who may look at whom, of {all} of a causal mask"),
            ))
            .figure(Figure::new(
                "active heads",
                Datum::Share(n_active as f64 / active.len().max(1) as f64),
                "Of all heads",
            ));
        if let Some((full, then)) = full.zip(then) {
            out.figures.extend(compared(on, &full, &then));
        }
        Ok(out)
    }
}

/// Layers all of whose heads stay.
const ALWAYS: usize = 2;

/// How far a neighbour may be away in a square of this side.
fn radius(window: usize) -> usize {
    window.saturating_sub(1) / 2
}

/// Cells of a grid that cell `i` may look at, ascending.
fn near(i: usize, (rows, cols): (usize, usize), radius: usize) -> impl Iterator<Item = usize> {
    let (y, x) = (i / cols, i % cols);
    let span = |at: usize, n: usize| at.saturating_sub(radius)..(at + radius + 1).min(n);
    let across = span(x, cols);
    span(y, rows).flat_map(move |r| across.clone().map(move |c| r * cols + c))
}

/// What each row of a sequence with pictures may look at: of text all before it; of a picture its neighbours, and the text
/// before it.
fn mask(text: &TowerTrace, radius: usize) -> Vec<Vec<usize>> {
    let visual = |i: usize| text.tokens[i].kind == TokenKind::Image;
    let mut cell_of = vec![None; text.tokens.len()];
    let tokens: Vec<Vec<usize>> = text.grids.iter().map(|g| g.tokens().collect()).collect();
    for (number, tokens) in tokens.iter().enumerate() {
        for (cell, &token) in tokens.iter().enumerate() {
            if let Some(at) = cell_of.get_mut(token) {
                *at = Some((number, cell));
            }
        }
    }
    let row = |i: usize| -> Vec<usize> {
        let Some((number, cell)) = cell_of[i].filter(|_| visual(i)) else { return (0..=i).collect() };
        let g = &text.grids[number];
        let mut seen: Vec<usize> = (0..i).filter(|&j| !visual(j)).collect();
        seen.extend(near(cell, (g.rows, g.cols), radius).map(|c| tokens[number][c]));
        seen.sort_unstable();
        seen
    };
    (0..text.tokens.len()).map(row).collect()
}

/// Attention of all queries of each head to visual tokens, over that to the others.
fn head_ratios(on: &Subject, text: &TowerTrace, ctx: &Ctx) -> Result<Vec<f64>> {
    let mut out = Vec::new();
    for layer in 0..text.attention.len() {
        let heads = attention_map::heads(on.trace, Tower::Text, 0, layer)?;
        let rows = &on.trace.get(Tower::Text, layer, Site::Q)?.rows;
        let layer_ctx = ctx.part(layer, text.attention.len());
        for (h, head) in heads.iter().enumerate() {
            let got = attention_received::run(head, &Groups::all(rows.len()), &layer_ctx.part(h, heads.len()))?;
            let (mut visual, mut others) = (0f64, 0f64);
            for (tokens, got) in rows.tokens.iter().zip(got.data()) {
                let is_visual = tokens.iter().all(|&t| text.tokens[t].kind == TokenKind::Image);
                *(if is_visual { &mut visual } else { &mut others }) += f64::from(*got);
            }
            out.push(if others > 0.0 { visual / others } else { f64::from(f32::MAX) });
        }
    }
    Ok(out)
}

/// Longest grid of the raw entry, in cells.
const MAX_CELLS: usize = 1 << 16;

/// Raw entry: `grid` (rows, columns) and `window`, or both in the array `grid_h_w_window`. Gives what some cells may look
/// at, and how many each.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let given = |i: usize| -> Result<usize> {
        let x = input.array("grid_h_w_window")?;
        let v = x.data().get(i).copied().unwrap_or(-1.0);
        if v >= 0.0 && v.fract() == 0.0 {
            Ok(v as usize)
        } else {
            Err(Error::shape("grid_h_w_window", "three whole numbers", x.shape()))
        }
    };
    let grid: (usize, usize) = match input.field("grid") {
        Ok(_) => input.read("grid")?,
        Err(_) => (given(0)?, given(1)?),
    };
    let window: usize = if input.field("window").is_ok() { input.read("window")? } else { given(2)? };
    let n = grid.0.checked_mul(grid.1).filter(|n| (1..=MAX_CELLS).contains(n));
    let n =
        n.ok_or_else(|| Error::invalid(format!("a grid of {} by {} cells; from 1 to {MAX_CELLS}", grid.0, grid.1)))?;
    let radius = radius(window.min(2 * MAX_CELLS));
    let mut counts = Vec::with_capacity(n);
    for i in 0..n {
        ctx.step(i, n)?;
        let span = |at: usize, n: usize| (at + radius + 1).min(n) - at.saturating_sub(radius);
        counts.push(span(i / grid.1, grid.0) * span(i % grid.1, grid.1));
    }
    let some: Vec<usize> = [0, 1, grid.1, grid.1 + 1, n / 2, n - 1].into_iter().filter(|i| *i < n).collect();
    Ok(json!({
        "allowed_first_rows": some.iter().map(|&i| near(i, grid, radius).collect()).collect::<Vec<Vec<usize>>>(),
        "rows": some,
        "total_allowed": counts.iter().sum::<usize>(),
        "allowed_count_per_query": counts,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_stand_in_a_square_that_the_grid_cuts() {
        let of = |i, window| near(i, (3, 3), radius(window)).collect::<Vec<_>>();
        assert_eq!((of(0, 3), of(4, 3).len(), of(5, 3)), (vec![0, 1, 3, 4], 9, vec![1, 2, 4, 5, 7, 8]));
        // Even sides are one less.
        assert_eq!((of(4, 2), of(4, 1), of(0, 9).len()), (vec![4], vec![4], 9));
    }
}
