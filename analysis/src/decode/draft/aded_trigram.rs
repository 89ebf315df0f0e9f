//! ADED: a table of which word follows two others, and a tree search in it.
//!
//! Source: Liu et al. 2024, "Adaptive Draft-Verification for Efficient Large Language Model Decoding", arXiv 2407.12021. Takes:
//! the text so far. Gives: a tree per round. Departs: only the authors' README could be read: the table is certain, the search
//! and its constants (those of MuZero) are ours; the table comes from prompt and text, not from a corpus. Lossless.

use crate::ctx::Ctx;
use crate::decode::chance::Chance;
use crate::decode::cut::{TOP_K, TOP_P};
use crate::decode::engine::{Draft, NEW, TEMPERATURE, Turn};
use crate::decode::tree::Tree;
use crate::decode::verify::{self, Verify};
use crate::decode::{Method, SEED, With};
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ops::Range;

const TOP: Param = Param::count("top", "Words kept behind each pair", 1, 64, 12);
const ITERATIONS: Param = Param::count("iterations", "Visits of the search; each adds a guess at most", 1, 128, 24);
const DEPTH: Param = Param::count("depth", "Levels of the tree", 1, 16, 5);

static INFO: Info = Info {
    id: "aded_trigram",
    title: "Trigram search",
    summary: "Drafts from which words followed which pairs before, and searches the tree of them where it is likely.",
    family: "speculative",
    basis: Basis::Text,
    paper: Some(Paper {
        title: "Adaptive Draft-Verification for Efficient Large Language Model Decoding",
        authors: "Liu et al.",
        year: 2024,
        arxiv: "2407.12021",
    }),
    departs: "only the authors' description could be read: the table is theirs, the search is in the form of MuZero with its \
              constants, of our choice; the table comes from the text at hand",
    needs: &[Need::Writes],
    params: &[TOP, ITERATIONS, DEPTH, NEW, verify::PUT, TEMPERATURE, TOP_K, TOP_P, SEED],
    budget: Some(&ITERATIONS),
    raw: &[Adapter { name: "aded_trigram", run: raw }],
    ..Info::of(Kind::Draft)
};

pub(super) struct Aded;

/// The constants of MuZero.
const C: [f64; 2] = [1.25, 19652.0];

impl Method for Aded {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn draft<'a>(&self, _: &With<'a>, params: &Params, _: &Ctx) -> Result<Box<dyn Draft + 'a>> {
        let of = |p| params.count(p) as usize;
        let rules = Rules { top: of(&TOP), iterations: of(&ITERATIONS), depth: of(&DEPTH), c: C };
        Ok(Box::new(Searching { table: Table::default(), rules, read: 0 }))
    }

    fn verify<'a>(&self, _: &With<'a>, params: &Params, _: &Ctx) -> Result<Box<dyn Verify + 'a>> {
        Ok(verify::chosen(params, &verify::PUT))
    }
}

#[derive(Debug, Clone, Copy)]
struct Rules {
    top: usize,
    iterations: usize,
    depth: usize,
    c: [f64; 2],
}

/// How often which word followed which pair.
#[derive(Debug, Default)]
struct Table(BTreeMap<(u32, u32), BTreeMap<u32, usize>>);

impl Table {
    fn add(&mut self, text: &[u32]) {
        for w in text.windows(3) {
            *self.0.entry((w[0], w[1])).or_default().entry(w[2]).or_default() += 1;
        }
    }

    /// The most frequent words behind a pair, the lower id first on a tie, and their shares among them.
    fn row(&self, pair: (u32, u32), top: usize) -> Vec<(u32, f64)> {
        let mut all: Vec<(u32, usize)> = self.0.get(&pair).into_iter().flatten().map(|(w, n)| (*w, *n)).collect();
        all.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        all.truncate(top);
        let sum = all.iter().map(|w| w.1).sum::<usize>().max(1) as f64;
        all.into_iter().map(|(w, n)| (w, n as f64 / sum)).collect()
    }
}

/// A place of the search.
#[derive(Debug)]
struct Found {
    token: u32,
    p: f64,
    depth: usize,
    visits: usize,
    sum: f64,
    /// Children, in the order of the table; `None` before they were looked up.
    below: Option<Range<usize>>,
}

/// Visits places from `pair` on; index 0 is the root.
fn search(table: &Table, pair: (u32, u32), rules: Rules, ctx: &Ctx) -> Result<Vec<Found>> {
    let found = |token, p, depth| Found { token, p, depth, visits: 0, sum: 0.0, below: None };
    let mut all = vec![found(pair.1, 1.0, 0)];
    for _ in 0..rules.iterations {
        ctx.check()?;
        let (mut at, mut now, mut path, mut value) = (0, pair, vec![0], 1.0);
        while all[at].depth < rules.depth {
            if all[at].below.is_none() {
                let depth = all[at].depth + 1;
                let row = table.row(now, rules.top);
                let first = all.len();
                all[at].below = Some(first..first + row.len());
                all.extend(row.into_iter().map(|(token, p)| found(token, p, depth)));
            }
            let below = all[at].below.clone().unwrap_or_default();
            let total: usize = below.clone().map(|c| all[c].visits).sum();
            let explore = rules.c[0] + ((total as f64 + rules.c[1] + 1.0) / rules.c[1]).ln();
            let score = |c: usize| {
                let f = &all[c];
                let mean = if f.visits > 0 { f.sum / f.visits as f64 } else { 0.0 };
                if total == 0 { f.p } else { mean + explore * f.p * (total as f64).sqrt() / (1.0 + f.visits as f64) }
            };
            let Some(next) = below.reduce(|b, c| if score(c) > score(b) { c } else { b }) else {
                break;
            };
            let new = all[next].visits == 0;
            value *= all[next].p;
            (now, at) = ((now.1, all[next].token), next);
            path.push(at);
            if new {
                break;
            }
        }
        for f in path {
            (all[f].visits, all[f].sum) = (all[f].visits + 1, all[f].sum + value);
        }
    }
    Ok(all)
}

/// Visited places below the root, each before its children: index, and that of the parent.
fn visited(all: &[Found]) -> Vec<(usize, usize)> {
    let (mut out, mut todo) = (Vec::new(), vec![(0, 0)]);
    while let Some((at, parent)) = todo.pop() {
        if at != 0 {
            out.push((at, parent));
        }
        let below = all[at].below.clone().into_iter().flatten().rev().filter(|&c| all[c].visits > 0);
        todo.extend(below.map(|c| (c, at)));
    }
    out
}

struct Searching {
    table: Table,
    rules: Rules,
    /// Tokens of the text that the table has seen.
    read: usize,
}

impl Draft for Searching {
    fn grow(&mut self, turn: &Turn, _: &mut dyn Chance, ctx: &Ctx) -> Result<Tree> {
        self.table.add(&turn.text[self.read.saturating_sub(2).min(turn.text.len())..]);
        self.read = turn.text.len();
        let mut tree = Tree::new(turn.root());
        let [.., before, last] = turn.text else { return Ok(tree) };
        let rules = Rules { depth: self.rules.depth.min(turn.room), ..self.rules };
        let all = search(&self.table, (*before, *last), rules, ctx)?;
        let mut node = BTreeMap::from([(0, 0)]);
        for (at, parent) in visited(&all) {
            let f = &all[at];
            let id = tree.push(node[&parent], f.token, Some(f.p), Some(f.sum / f.visits as f64));
            node.insert(at, id);
        }
        Ok(tree)
    }
}

/// Raw entry: a `corpus` of ids below `vocab`, `top`, a `context` of two, and the search → table and tree.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let vocab = input.within("vocab", 1..=1 << 24)? as u32;
    let (corpus, context): (Vec<u32>, [u32; 2]) = (input.read("corpus")?, input.read("context")?);
    let rules = Rules {
        top: input.within("top", 1..=1 << 20)?,
        iterations: input.rounds("iterations", 64)?,
        depth: input.within("max_depth", 0..=1 << 10)?,
        c: [input.read_or("c1", C[0])?, input.read_or("c2", C[1])?],
    };
    if corpus.iter().chain(&context).any(|x| *x >= vocab) || !rules.c[1].is_finite() || rules.c[1] <= 0.0 {
        return Err(Error::invalid("corpus and context must be ids below vocab, and c2 above 0"));
    }
    let mut table = Table::default();
    table.add(&corpus);
    let pair = (context[0], context[1]);
    let all = search(&table, pair, rules, ctx)?;
    let places = visited(&all);
    let ids = places.iter().enumerate().map(|(i, p)| (p.0, i + 1));
    let id: BTreeMap<usize, usize> = [(0, 0)].into_iter().chain(ids).collect();
    let node = |(i, &(at, parent)): (usize, &(usize, usize))| {
        let f = &all[at];
        json!({ "id": i + 1, "parent": id[&parent], "token": f.token, "depth": f.depth, "p": f.p, "visits": f.visits,
            "mean_value": f.sum / f.visits as f64 })
    };
    let first: Vec<Value> =
        table.0.keys().take(20).map(|&(a, b)| json!([[a, b], table.row((a, b), rules.top)])).collect();
    Ok(json!({
        "context_row": table.row(pair, rules.top),
        "num_contexts": table.0.len(),
        "table_first_20": first,
        "tree": places.iter().enumerate().map(node).collect::<Vec<_>>(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_most_is_visited_first_and_most() {
        let mut table = Table::default();
        table.add(&[1, 2, 3, 1, 2, 3, 1, 2, 4]);
        assert_eq!(table.row((1, 2), 9), [(3, 2.0 / 3.0), (4, 1.0 / 3.0)]);
        assert_eq!(table.row((1, 2), 1), [(3, 1.0)]);
        let rules = Rules { top: 9, iterations: 3, depth: 2, c: C };
        let all = search(&table, (1, 2), rules, &Ctx::default()).unwrap();
        let tree: Vec<(u32, usize, usize)> =
            visited(&all).iter().map(|&(at, _)| (all[at].token, all[at].depth, all[at].visits)).collect();
        // 3 is new and ends the first visit; then its only follower; 4 would need more visits to 3 to come.
        assert_eq!(tree, [(3, 1, 3), (1, 2, 2)]);
    }
}
