//! The cells of a window in one go over its pairs, with the statistics of the rows where they are not known yet.

use super::super::attention_tile::{Reduce, Window};
use super::blocks::Weights;
use super::{Blocks, Head, QUERIES, Running, in_parallel};
use crate::Result;
use crate::cpu::{self, vectorised};
use crate::ctx::Ctx;
use std::ops::Range;

/// Max and log-sum of a row of the map.
pub(in crate::passes) type Norm<'a> = &'a (dyn Fn(usize) -> (f32, f32) + Sync);

/// Adds to `cells` `[rows, cols]`, all 0 before, the sums or largest values of the shares that each covers; gives the
/// statistics of the window's rows where they are not `known`.
pub(in crate::passes) fn sweep(
    head: &Head,
    known: Option<Norm>,
    window: &Window,
    cells: &mut [f32],
    ctx: &Ctx,
) -> Result<Vec<Running>> {
    sweep_rows(head, known, window, 0..window.rows, cells, ctx)
}

/// The same for some rows of the window's cells, which `cells` holds, and their queries.
pub(in crate::passes) fn sweep_rows(
    head: &Head,
    known: Option<Norm>,
    window: &Window,
    rows: Range<usize>,
    cells: &mut [f32],
    ctx: &Ctx,
) -> Result<Vec<Running>> {
    let sweep = Sweep {
        blocks: Blocks::new(head),
        window,
        query_edges: window.query_edges()[rows.start..=rows.end].to_vec(),
        key_edges: window.key_edges(),
        known,
    };
    let mut rest = &mut *cells;
    let mut units = Vec::new();
    for unit in sweep.units() {
        // The first unit of a row of cells writes to their place, others of the same row beside it.
        let own = unit.begins.then(|| {
            let (own, after) = std::mem::take(&mut rest).split_at_mut(unit.rows.len() * window.cols);
            rest = after;
            own
        });
        units.push((unit, own));
    }
    let parts = in_parallel(units, ctx, |(unit, own)| {
        let mut beside = vec![0f32; if own.is_none() { window.cols } else { 0 }];
        let row = unit.rows.start;
        let running = sweep.fill(unit, own.unwrap_or(&mut beside));
        Ok((running, row, beside))
    })?;
    let mut running = Vec::new();
    for (found, row, beside) in parts {
        running.extend(found);
        join(&mut cells[row * window.cols..][..beside.len()], &beside, window.reduce);
    }
    Ok(running)
}

/// Queries of some rows of cells that one thread takes.
struct Unit {
    rows: Range<usize>,
    queries: Range<usize>,
    /// Whether the first row of cells begins here, and not in a unit before.
    begins: bool,
}

struct Sweep<'a> {
    blocks: Blocks<'a>,
    window: &'a Window,
    query_edges: Vec<usize>,
    key_edges: Vec<usize>,
    known: Option<Norm<'a>>,
}

impl Sweep<'_> {
    /// Cuts the rows of cells into units of at most [`QUERIES`] queries; a row of more becomes several units.
    fn units(&self) -> Vec<Unit> {
        let mut out: Vec<Unit> = Vec::new();
        for (r, edges) in self.query_edges.windows(2).enumerate() {
            let (first, end) = (edges[0], edges[1]);
            if let Some(last) = out.last_mut().filter(|u| u.begins && end - u.queries.start <= QUERIES) {
                last.rows.end = r + 1;
                last.queries.end = end;
                continue;
            }
            for from in (first..end).step_by(QUERIES) {
                let queries = from..(from + QUERIES).min(end);
                out.push(Unit { rows: r..r + 1, queries, begins: from == first });
            }
        }
        out
    }

    /// Adds what the unit's queries say to `cells`, which are those of its rows; gives the statistics of its rows.
    fn fill(&self, unit: Unit, cells: &mut [f32]) -> Vec<Running> {
        let (cols, reduce) = (self.window.cols, self.window.reduce);
        let Unit { rows, queries, .. } = unit;
        let row_of = |query: usize| {
            let r = self.query_edges[rows.start + 1..rows.end].partition_point(|e| *e <= queries.start + query);
            r * cols..(r + 1) * cols
        };
        let alone = rows.len() == queries.len();
        if let Some(known) = self.known {
            let add = |part: Weights| self.add(&mut cells[row_of(part.query)], part.keys, part.values, alone);
            self.blocks.shares(queries.clone(), &self.window.keys, known, add);
            return Vec::new();
        }
        // What a query weighs becomes shares when all its keys were seen; until then it has a line of its own.
        let mut beside = vec![0f32; if alone { 0 } else { queries.len() * cols }];
        let lines = if alone { &mut *cells } else { &mut beside };
        let running = self.blocks.weights(queries.clone(), &self.window.keys, |part| {
            let line = &mut lines[part.query * cols..][..cols];
            if part.factor != 1.0 {
                line.iter_mut().for_each(|w| *w *= part.factor);
            }
            self.add(line, part.keys, part.values, true);
        });
        for (line, run) in lines.chunks_exact_mut(cols.max(1)).zip(&running) {
            let share = if run.sum == 0.0 { 0.0 } else { (1.0 / run.sum) as f32 };
            vectorised(|| line.iter_mut().for_each(|w| *w *= share));
        }
        for (query, line) in beside.chunks_exact(cols.max(1)).enumerate() {
            join(&mut cells[row_of(query)], line, reduce);
        }
        running
    }

    /// Adds values of `keys` to the line of cells that cover them; `alone` where the line is of one query.
    fn add(&self, line: &mut [f32], keys: Range<usize>, values: &[f32], alone: bool) {
        if values.is_empty() {
            return;
        }
        let (edges, reduce) = (&self.key_edges, self.window.reduce);
        if line.len() == self.window.keys.len() {
            let first = keys.start - self.window.keys.start;
            if alone {
                // A pair comes once. What is read before it is written costs the memory of a new map twice.
                return line[first..][..values.len()].copy_from_slice(values);
            }
            return join(&mut line[first..][..values.len()], values, reduce);
        }
        let mut c = edges.partition_point(|e| *e <= keys.start).saturating_sub(1);
        vectorised(|| {
            let (mut from, mut values) = (keys.start, values);
            while !values.is_empty() && c < line.len() {
                let (own, after) = values.split_at((edges[c + 1] - from).min(values.len()));
                line[c] = match reduce {
                    Reduce::Mean => line[c] + cpu::sum(own, |x| x),
                    Reduce::Max => cpu::max(own).max(line[c]),
                };
                from += own.len();
                values = after;
                c += 1;
            }
        });
    }
}

/// Adds cells to those of the same place.
fn join(cells: &mut [f32], others: &[f32], reduce: Reduce) {
    vectorised(|| {
        let both = cells.iter_mut().zip(others);
        match reduce {
            Reduce::Mean => both.for_each(|(c, v)| *c += v),
            Reduce::Max => both.for_each(|(c, v)| *c = if *v > *c { *v } else { *c }),
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::attention_row_stats;
    use crate::passes::attention_tile::cpu;
    use crate::passes::samples::OwnedHead;

    #[test]
    fn windows_of_more_queries_and_keys_than_a_block_are_those_of_the_plain_loops() {
        let n = 1500;
        let owned = OwnedHead::new(1, 1, 4, n, 9);
        let head = owned.head().unwrap();
        let stats = attention_row_stats::cpu(&head);
        let norm = |q: usize| (stats.max[q], stats.log_sum[q]);
        for reduce in [Reduce::Mean, Reduce::Max] {
            for (queries, keys, rows, cols) in
                [(0..n, 0..n, 3, 7), (700..n, 3..1400, 1, 1), (1100..1400, 0..n, 300, 40), (1370..n, 900..n, 50, 600)]
            {
                let window = Window { queries, keys, rows, cols, reduce };
                let (query_edges, key_edges) = (window.query_edges(), window.key_edges());
                let pairs = |i: usize| {
                    let (r, c) = (i / cols, i % cols);
                    ((query_edges[r + 1] - query_edges[r]) * (key_edges[c + 1] - key_edges[c])) as f32
                };
                let want = cpu(&head, &window).unwrap();
                for known in [None, Some(&norm as Norm)] {
                    let mut got = vec![0f32; rows * cols];
                    let running = sweep(&head, known, &window, &mut got, &Ctx::default()).unwrap();
                    for (i, (got, want)) in got.iter().zip(want.data()).enumerate() {
                        let got = if reduce == Reduce::Mean { got / pairs(i) } else { *got };
                        assert!((got - want).abs() < 1e-5 * (want + 1e-3), "{window:?} {i}: {got}, not {want}");
                    }
                    let (asked, found) = (window.queries.clone(), running.iter().map(|r| (r.max, r.log_sum())));
                    let close = |(q, (max, log)): (usize, (f32, f32))| {
                        (max - stats.max[q]).abs() < 1e-5 && (log - stats.log_sum[q]).abs() < 1e-5
                    };
                    assert!(known.is_some() || (running.len() == asked.len() && asked.zip(found).all(close)));
                }
            }
        }
    }
}
