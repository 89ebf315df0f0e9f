//! Dynamic packing: the samples of a batch share rows, which are padded to the longest row of that batch.
//!
//! Source: Lv et al. 2025, "Data-efficient LLM Fine-tuning for Code Generation", arXiv 2504.12687. Takes: lengths of samples.
//! Gives: padding of three strategies, and the packed rows. Departs: the strategies are the paper's; how samples are placed in
//! rows is ours, its training code is not public.

use super::super::Method;
use super::show::bars;
use crate::ctx::Ctx;
use crate::decode::SEED;
use crate::decode::chance::{Chance, Seeded};
use crate::finding::{Datum, Figure, Finding, Measure, Table};
use crate::method::{Basis, Info, Kind, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const SAMPLES: Param = Param::count("samples", "Samples whose lengths are drawn", 1, 512, 64);
const MOST: Param = Param::count("max_len", "Tokens of a row at most; longer samples are cut", 8, 4096, 512);
const BATCH: Param = Param::count("batch", "Samples of a batch", 1, 64, 8);
const SPREAD: Param =
    Param::number("spread", "How uneven lengths are: 1 evenly drawn, larger mostly short", 0.2, 8.0, 2.0);

static INFO: Info = Info {
    id: "dynamic_pack",
    title: "Dynamic packing",
    summary: "Compares padding to one length, padding by batch, and packing samples of a batch into shared rows.",
    family: "routing and systems",
    basis: Basis::Text,
    paper: Some(Paper {
        title: "Data-efficient LLM Fine-tuning for Code Generation",
        authors: "Lv et al.",
        year: 2025,
        arxiv: "2504.12687",
    }),
    departs: "the placement in rows is ours, the training code is not public; lengths are drawn, no corpus is read",
    params: &[SAMPLES, MOST, BATCH, SPREAD, SEED],
    budget: Some(&BATCH),
    raw: &[Adapter { name: "dynamic_pack", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct DynamicPack;

/// Rows of each batch as indices of samples: longest first, each to the first row with room.
fn pack(lengths: &[usize], batch: usize, most: usize, ctx: &Ctx) -> Result<Vec<Vec<Vec<usize>>>> {
    let mut out = Vec::new();
    for start in (0..lengths.len()).step_by(batch) {
        let mut order: Vec<usize> = (start..lengths.len().min(start + batch)).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(lengths[i]));
        let (mut rows, mut fill): (Vec<Vec<usize>>, Vec<usize>) = (Vec::new(), Vec::new());
        for i in order {
            ctx.check()?;
            match (0..rows.len()).find(|&r| fill[r] + lengths[i] <= most) {
                Some(r) => {
                    rows[r].push(i);
                    fill[r] += lengths[i];
                }
                None => {
                    rows.push(vec![i]);
                    fill.push(lengths[i]);
                }
            }
        }
        out.push(rows);
    }
    Ok(out)
}

/// Padding, tokens, and cells of attention of rows with these widths.
struct Padding {
    pad: usize,
    real: usize,
    cells: usize,
}

impl Padding {
    /// Of `(rows, width)` by batch.
    fn of(real: usize, batches: impl Iterator<Item = (usize, usize)>) -> Self {
        let (all, cells) = batches.fold((0, 0), |(a, c), (rows, width)| (a + rows * width, c + rows * width * width));
        Self { pad: all - real, real, cells }
    }

    fn waste(&self) -> f64 {
        let all = self.pad + self.real;
        if all > 0 { self.pad as f64 / all as f64 } else { 0.0 }
    }

    fn json(&self) -> Value {
        json!({ "pad": self.pad, "real": self.real, "waste": self.waste(), "cells": self.cells })
    }
}

/// Numbers of the texts in each row of each batch.
type Batches = Vec<Vec<Vec<usize>>>;

/// The three strategies, and the rows of the third; lengths are cut already.
fn compare(lengths: &[usize], batch: usize, most: usize, ctx: &Ctx) -> Result<([Padding; 3], Batches)> {
    let real = lengths.iter().sum();
    let rows = pack(lengths, batch, most, ctx)?;
    let own = |row: &Vec<usize>| row.iter().map(|&i| lengths[i]).sum::<usize>();
    let longest = |c: &[usize]| c.iter().copied().max().unwrap_or(0);
    let packed = rows.iter().map(|b| (b.len(), b.iter().map(own).max().unwrap_or(0)));
    let all = [
        Padding::of(real, lengths.chunks(batch).map(|c| (c.len(), most))),
        Padding::of(real, lengths.chunks(batch).map(|c| (c.len(), longest(c)))),
        Padding::of(real, packed),
    ];
    Ok((all, rows))
}

impl Method for DynamicPack {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, _: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        INFO.check(params)?;
        let of = |p| params.count(p) as usize;
        let (most, spread) = (of(&MOST), params.number(&SPREAD));
        let mut chance = Seeded::new(params.seed(&SEED));
        let mut length = || (1.0 + chance.uniform().powf(spread) * (most as f64 * 1.1)) as usize;
        let drawn: Vec<usize> = (0..of(&SAMPLES)).map(|_| length()).collect();
        let lengths: Vec<usize> = drawn.iter().map(|l| (*l).min(most)).collect();
        let (all, rows) = compare(&lengths, of(&BATCH), most, ctx)?;
        let mut table = Table::new(&["strategy", "padding", "tokens", "waste", "cells"]).titled("padding");
        for (name, p) in ["one length", "by batch", "packed"].iter().zip(&all) {
            table.rows.push(vec![json!(name), json!(p.pad), json!(p.real), json!(p.waste()), json!(p.cells)]);
        }
        let waste = all.iter().map(Padding::waste);
        Ok(Finding::of(bars("waste: one length, by batch, packed", "strategy", Measure::new("waste", "share"), waste))
            .with(table)
            .figure(Figure::new("rows", Datum::Count(rows.iter().map(Vec::len).sum()), "packed rows of all batches"))
            .figure(Figure::new(
                "cut",
                Datum::Count(drawn.iter().filter(|l| **l > most).count()),
                "samples longer than a row",
            )))
    }
}

/// Raw entry: `lengths`, `max_len`, `batch` → padding of three strategies, packed rows by batch.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let given: Vec<usize> = input.read("lengths")?;
    let (most, batch) = (input.within("max_len", 1..=1 << 23)?, input.within("batch", 1..=1 << 20)?);
    if given.len() > 1 << 16 {
        return Err(Error::invalid("lengths are too many"));
    }
    let lengths: Vec<usize> = given.iter().map(|l| (*l).min(most)).collect();
    let ([one, by, packed], rows) = compare(&lengths, batch, most, ctx)?;
    Ok(json!({
        "strategies": { "traditional": one.json(), "dynamic_padding": by.json(), "dynamic_pack": packed.json() },
        "rows": rows,
        "truncated": given.iter().filter(|l| **l > most).count(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_of_three_shares_two_rows() {
        let (all, rows) = compare(&[3, 5, 2, 4], 3, 6, &Ctx::default()).unwrap();
        // 5; then 3 and 2 together; the second batch alone.
        assert_eq!(rows, [vec![vec![1], vec![0, 2]], vec![vec![3]]]);
        assert_eq!(all.iter().map(|p| (p.pad, p.cells)).collect::<Vec<_>>(), [(10, 144), (5, 91), (0, 66)]);
    }
}
