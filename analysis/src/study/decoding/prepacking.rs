//! Prepacking: prompts of different lengths share rows of a batch instead of being padded.
//!
//! Source: Zhao et al. 2024, "Prepacking: A Simple Method for Fast Prefilling and Increased Throughput in Large Language
//! Models", arXiv 2404.09529; siyan-zhao/prepacking utils.py, processor.py. Takes: lengths of prompts. Gives: which share a
//! row, positions, and what is saved. Departs: none known; the fewest rows are found by a search of ours.

use super::super::Method;
use super::show::bars;
use crate::ctx::Ctx;
use crate::finding::{Datum, Figure, Finding, Measure, Table};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Map, Value, json};

const SPLIT: Param = Param::choice(
    "prompts",
    "What counts as a prompt: sentences, lines or words of the text",
    &["sentences", "lines", "words"],
);

static INFO: Info = Info {
    id: "prepacking",
    title: "Prepacking",
    summary: "Packs the pieces of the text into rows of one length as a batch of prompts, and counts the padding saved.",
    family: "routing and systems",
    basis: Basis::Authors { repo: "siyan-zhao/prepacking", commit: "04e723a" },
    paper: Some(Paper {
        title: "Prepacking: A Simple Method for Fast Prefilling and Increased Throughput in Large Language Models",
        authors: "Zhao et al.",
        year: 2024,
        arxiv: "2404.09529",
    }),
    departs: "lengths are those of pieces of the text at hand; nothing is run",
    needs: &[Need::Tokenizer],
    params: &[SPLIT],
    raw: &[Adapter { name: "prepacking", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct Prepacking;

/// Longest first, each to the emptiest row that has room, else to a new one.
fn pack(lengths: &[usize], capacity: usize, ctx: &Ctx) -> Result<(Vec<Vec<usize>>, Vec<usize>)> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(lengths[i]));
    let (mut bins, mut fill): (Vec<Vec<usize>>, Vec<usize>) = (Vec::new(), Vec::new());
    for i in order {
        ctx.check()?;
        let fits = (0..bins.len()).filter(|&b| fill[b] + lengths[i] <= capacity).min_by_key(|&b| fill[b]);
        let b = fits.unwrap_or_else(|| {
            bins.push(Vec::new());
            fill.push(0);
            bins.len() - 1
        });
        bins[b].push(i);
        fill[b] += lengths[i];
    }
    Ok((bins, fill))
}

/// Tries of the search for the fewest rows, and prompts that it is tried with at most: it goes a call deeper for each.
const TRIES: usize = 200_000;
const SEARCHED: usize = 256;

/// The fewest rows that hold all; `None` where the search does not end, or is cancelled.
fn fewest(lengths: &[usize], capacity: usize, at_most: usize, ctx: &Ctx) -> Option<usize> {
    fn place(
        left: &[usize],
        fill: &mut Vec<usize>,
        rows: usize,
        capacity: usize,
        tries: &mut usize,
        ctx: &Ctx,
    ) -> Option<bool> {
        let Some((&first, rest)) = left.split_first() else { return Some(true) };
        *tries = tries.checked_sub(1).filter(|_| !ctx.cancelled())?;
        let mut seen = Vec::new();
        for b in 0..fill.len() {
            if fill[b] + first <= capacity && !seen.contains(&fill[b]) {
                seen.push(fill[b]);
                fill[b] += first;
                let done = place(rest, fill, rows, capacity, tries, ctx);
                fill[b] -= first;
                if done != Some(false) {
                    return done;
                }
            }
        }
        if fill.len() == rows {
            return Some(false);
        }
        fill.push(first);
        let done = place(rest, fill, rows, capacity, tries, ctx);
        fill.pop();
        done
    }
    if lengths.len() > SEARCHED {
        return None;
    }
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    let least = sorted.iter().sum::<usize>().div_ceil(capacity.max(1)).max(usize::from(!sorted.is_empty()));
    let mut tries = TRIES;
    for rows in least..at_most {
        if place(&sorted, &mut Vec::new(), rows, capacity, &mut tries, ctx)? {
            return Some(rows);
        }
    }
    Some(at_most)
}

/// Share of rows that is padding, and cells that attention looks at: of rows padded to the longest, and packed.
struct Saved {
    naive: (f64, usize),
    packed: (f64, usize),
    width: usize,
}

fn saved(lengths: &[usize], bins: &[Vec<usize>]) -> Saved {
    let waste = |real: usize, all: usize| if all > 0 { 1.0 - real as f64 / all as f64 } else { 0.0 };
    let (n, longest) = (lengths.len(), lengths.iter().copied().max().unwrap_or(0));
    // The last token of each prompt is held back for the first step of writing.
    let own = |b: &Vec<usize>| b.iter().map(|&i| lengths[i].saturating_sub(1)).sum::<usize>();
    let width = bins.iter().map(own).max().unwrap_or(0);
    Saved {
        naive: (waste(lengths.iter().sum(), n * longest), n * longest * longest),
        packed: (waste(bins.iter().map(own).sum(), bins.len() * width), bins.len() * width * width),
        width,
    }
}

impl Method for Prepacking {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        super::show::ready(on, &INFO, params)?;
        let ids = on.ids();
        let rule = params.choice(&SPLIT);
        let (mut lengths, mut now) = (Vec::new(), 0);
        for &id in &ids {
            let word = on.word(id);
            let begins = rule == "words" && word.starts_with([' ', '▁', 'Ġ', '\n']);
            if begins && now > 0 {
                lengths.push(now);
                now = 0;
            }
            now += 1;
            let ends = match rule {
                "sentences" => word.trim_end().ends_with(['.', '!', '?', '\n']) || word.contains('\n'),
                "lines" => word.contains('\n'),
                _ => false,
            };
            if ends {
                lengths.push(now);
                now = 0;
            }
        }
        lengths.extend((now > 0).then_some(now));
        if lengths.is_empty() {
            return Err(Error::invalid("the input has no text to cut into prompts"));
        }
        let capacity = lengths.iter().copied().max().unwrap_or(1);
        let (bins, fill) = pack(&lengths, capacity, ctx)?;
        let s = saved(&lengths, &bins);
        let mut table = Table::new(&["row", "prompts", "tokens"]).titled("rows");
        for (i, (bin, n)) in bins.iter().zip(&fill).enumerate() {
            table.rows.push(vec![json!(i), json!(format!("{bin:?}")), json!(n)]);
        }
        Ok(Finding::of(bars("tokens of each row", "row", Measure::new("tokens", ""), fill.iter().map(|n| *n as f64)))
            .with(table)
            .figure(Figure::new("prompts", Datum::Count(lengths.len()), "pieces of the text"))
            .figure(Figure::new("rows", Datum::Count(bins.len()), "rows that hold them, as long as the longest"))
            .figure(Figure::new("padding", Datum::Share(s.packed.0), "of the packed rows"))
            .figure(Figure::new("padding before", Datum::Share(s.naive.0), "with a row for each prompt"))
            .figure(Figure::new("cells", Datum::Count(s.packed.1), "pairs that attention looks at: rows × width²"))
            .figure(Figure::new("cells before", Datum::Count(s.naive.1), "with a row for each prompt")))
    }
}

/// Raw entry: prompts `tokens` (or their `lengths`) → rows, packed tokens and positions, and what is saved.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let lengths: Vec<usize> = input.read("lengths")?;
    let tokens: Vec<Vec<u32>> = input.read_or("tokens", Vec::new())?;
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let capacity: usize = input.read_or("max_bin_size", longest)?;
    let (pad, pad_position): (u32, usize) = (input.read_or("pad_token", 0)?, input.read_or("pad_position", 1)?);
    let sum = lengths.iter().try_fold(0usize, |a, b| a.checked_add(*b)).filter(|n| *n < 1 << 22);
    if lengths.contains(&0) || lengths.is_empty() || longest > capacity || sum.is_none() || lengths.len() > 4096 {
        return Err(Error::invalid("lengths must be from 1 to max_bin_size, and not be too many"));
    }
    if !tokens.is_empty() && (tokens.len() != lengths.len() || tokens.iter().zip(&lengths).any(|(t, l)| t.len() != *l))
    {
        return Err(Error::invalid("tokens must hold a list of the length in lengths for each prompt"));
    }
    ctx.check()?;
    let (bins, fill) = pack(&lengths, capacity, ctx)?;
    let s = saved(&lengths, &bins);
    if bins.len() * s.width > 1 << 24 {
        return Err(Error::invalid("lengths give rows that are too large to list"));
    }
    let (mut packed, mut positions, mut restart, mut sums) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for bin in &bins {
        let (mut row, mut at, mut seen) = (Vec::new(), Vec::new(), Vec::new());
        let mut ends = Map::from_iter([("0".to_string(), json!(-1))]);
        for &i in bin {
            let own = lengths[i] - 1;
            row.extend(tokens.get(i).map_or(&[][..], |t| &t[..own]));
            at.extend(0..own);
            seen.extend(1..=own);
            ends.insert(at.len().to_string(), json!(i));
        }
        row.resize(if tokens.is_empty() { 0 } else { s.width }, pad);
        at.resize(s.width, pad_position);
        seen.resize(s.width, 0);
        packed.push(row);
        positions.push(at);
        restart.push(Value::Object(ends));
        sums.push(seen);
    }
    let optimal = fewest(&lengths, capacity, bins.len(), ctx);
    ctx.check()?;
    Ok(json!({
        "n_bins_optimal": optimal,
        "n_bins_greedy": bins.len(),
        "bins": bins,
        "bin_fill": fill,
        "packed_tokens": packed,
        "positions": positions,
        "restart": restart,
        "mask_block_rowsum": sums,
        "padding_waste_naive": s.naive.0,
        "padding_waste_packed": s.packed.0,
        "attention_cost_naive": s.naive.1,
        "attention_cost_packed": s.packed.1,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_rows_and_the_fewest() {
        let (bins, fill) = pack(&[4, 3, 3, 2, 2, 2], 8, &Ctx::default()).unwrap();
        // 4, 3 and 3 to the first row and the emptiest with room, and so on.
        assert_eq!((bins, fill), (vec![vec![0, 1], vec![2, 3, 4], vec![5]], vec![7, 7, 2]));
        let fewest = |lengths: &[usize], at_most| fewest(lengths, 8, at_most, &Ctx::default());
        assert_eq!((fewest(&[4, 3, 3, 2, 2, 2], 3), fewest(&[5, 5], 2)), (Some(2), Some(2)));
    }
}
