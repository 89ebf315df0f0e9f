//! Sequoia: the tree that is expected to give most tokens, found by dynamic programming from how often the first, second,
//! … guess at a place is accepted.
//!
//! Source: Chen et al. 2024, "Sequoia: Scalable and Robust Speculative Decoding", arXiv 2402.12374;
//! Infini-AI-Lab/Sequoia tree_search.py. Takes: two models with one vocabulary. Gives: a tree per round. Departs: live, how
//! often guesses are accepted is measured while decoding, from a guess of ours on, where the authors measure it beforehand.
//! Lossless. Cost: O(nodes² · levels · branches) per table.

use crate::ctx::Ctx;
use crate::decode::chance::Chance;
use crate::decode::costs::Costs;
use crate::decode::cut::{TOP_K, TOP_P};
use crate::decode::engine::{Draft, NEW, TEMPERATURE, Turn, Verified};
use crate::decode::oracle::Oracle;
use crate::decode::small::Small;
use crate::decode::tree::Tree;
use crate::decode::verify::{self, Verify};
use crate::decode::{Method, SEED, With};
use crate::math::largest;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput, number};
use crate::{Error, Result};
use serde_json::{Value, json};

const SIZE: Param = Param::count("tree_size", "Guesses per round", 1, 64, 16);
const SIZED: Param = Param::choice(
    "sized_by",
    "What decides how large the tree is: tree_size, or what passes cost on this machine, measured before the decode, up to \
     tree_size and depth",
    &["number", "costs"],
);
const DEPTH: Param = Param::count("depth", "Levels of the tree at most", 1, 16, 6);
const FIRST: Param = Param::share("first", "How often a first guess is taken to be accepted before any was seen", 0.6);

static INFO: Info = Info {
    id: "sequoia_dp",
    title: "Sequoia",
    summary: "Shapes the draft tree by how often first, second and later guesses were accepted.",
    family: "speculative",
    basis: Basis::Authors { repo: "Infini-AI-Lab/Sequoia", commit: "0ff3ff7" },
    paper: Some(Paper {
        title: "Sequoia: Scalable and Robust Speculative Decoding",
        authors: "Chen et al.",
        year: 2024,
        arxiv: "2402.12374",
    }),
    departs: "acceptance is measured while decoding, not beforehand; the size of the tree is set unless sized_by asks for the \
              machine's cost curve, by which decodes differ from one time to the next; sizes are then powers of two and \
              the largest",
    needs: &[Need::Writes, Need::DraftModel],
    params: &[SIZE, SIZED, DEPTH, FIRST, NEW, verify::DRAWN, TEMPERATURE, TOP_K, TOP_P, SEED],
    budget: Some(&SIZE),
    raw: &[Adapter { name: "sequoia_dp", run: raw }],
    ..Info::of(Kind::Draft)
};

pub(super) struct Sequoia;

impl Method for Sequoia {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn draft<'a>(&self, with: &With<'a>, params: &Params, ctx: &Ctx) -> Result<Box<dyn Draft + 'a>> {
        let first = params.share(&FIRST);
        // Each later guess is taken to be accepted half as often as the one before; as if that had been seen 8 times.
        let seen = (0..BRANCHES).map(|k| (first * 0.5f64.powi(k as i32) * 8.0, 8.0)).collect();
        let of = |p| params.count(p) as usize;
        let (small, size) = (with.small(ctx)?, of(&SIZE));
        let costs = match params.choice(&SIZED) {
            "costs" => Some(with.costs(&small.0, size + 1, ctx)?),
            _ => None,
        };
        Ok(Box::new(Shaped { small, size, costs, depth: of(&DEPTH), seen }))
    }

    fn verify<'a>(&self, _: &With<'a>, params: &Params, _: &Ctx) -> Result<Box<dyn Verify + 'a>> {
        Ok(verify::chosen(params, &verify::DRAWN))
    }
}

/// Children of a node at most.
const BRANCHES: usize = 8;

/// Expected tokens of the best tree of `m` nodes, at most `l` levels and `b` children of its root; in f32, as the authors
/// compute it, where ties are decided by rounding.
struct Best {
    /// How often the k-th child is the accepted one, from 1.
    p: Vec<f32>,
    levels: usize,
    /// `[m, l, b]`, −∞ where there is no such tree.
    tokens: Vec<f32>,
    /// `[m, l, b]`: nodes of the tree without its last branch.
    split: Vec<u32>,
}

/// Steps of a table at most.
const MAX_WORK: f64 = 4e8;

impl Best {
    /// The table for up to `size` nodes and `levels` levels. Errors: more work than is done.
    fn new(p: &[f64], size: usize, levels: usize, ctx: &Ctx) -> Result<Self> {
        let branches = p.len().saturating_sub(1);
        let work = (size as f64).powi(2) * (levels as f64 + 1.0) * (branches as f64 + 1.0);
        if work > MAX_WORK {
            return Err(Error::invalid("the table of p, max_budget and max_depth is too large; choose smaller ones"));
        }
        let n = (size + 1) * (levels + 1) * (branches + 1);
        let p = p.iter().map(|&p| p as f32).collect();
        let mut t = Self { p, levels, tokens: vec![f32::NEG_INFINITY; n], split: vec![0; n] };
        for l in 1..=levels {
            if size >= 1 {
                let at = t.at(1, l, 0);
                t.tokens[at] = 1.0;
            }
        }
        for m in 2..=size {
            ctx.step(m, size)?;
            for l in 2..=levels {
                // What the last branch gives where the others and the root take `y` nodes.
                let below: Vec<f32> = (0..m).map(|y| t.whole(m - y, l - 1).0).collect();
                for b in 1..=branches {
                    let (mut best, mut from) = (f32::NEG_INFINITY, 0);
                    // The first branch leaves the bare root.
                    for y in if b == 1 { 1..2 } else { 1..m } {
                        let (rest, below) = (t.tokens[t.at(y, l, b - 1)], below[y]);
                        let value = rest + t.p[b] * below;
                        if rest > f32::NEG_INFINITY && below > f32::NEG_INFINITY && value > best {
                            (best, from) = (value, y);
                        }
                    }
                    let at = t.at(m, l, b);
                    (t.tokens[at], t.split[at]) = (best, from as u32);
                }
            }
        }
        Ok(t)
    }

    fn at(&self, m: usize, l: usize, b: usize) -> usize {
        (m * (self.levels + 1) + l) * self.p.len().max(1) + b
    }

    /// The best number of branches, the lowest on a tie, and its tokens.
    fn whole(&self, m: usize, l: usize) -> (f32, usize) {
        let of = |b: usize| self.tokens[self.at(m, l, b)];
        let best = (0..self.p.len().max(1)).fold(0, |best, b| if of(b) > of(best) { b } else { best });
        (of(best), best)
    }

    /// The least time per token, and the nodes and levels of the tree that has it, where a level costs `draft` to draft,
    /// all but the first `free` of them, and a tree of so many nodes costs so much to verify. `None` where no tree has any of
    /// these sizes.
    fn cheapest(&self, sizes: &[(usize, f64)], draft: f64, free: usize) -> Option<(f64, usize, usize)> {
        let mut chosen: Option<(f64, usize, usize)> = None;
        for &(m, time) in sizes {
            for l in 0..=self.levels {
                let (tokens, _) = self.whole(m, l);
                let cost = (l.saturating_sub(free) as f64 * draft + time) / f64::from(tokens);
                if tokens > 0.0 && chosen.is_none_or(|c| cost < c.0) {
                    chosen = Some((cost, m, l));
                }
            }
        }
        chosen
    }

    /// Children of each node of the best tree of `m` nodes and `l` levels, level by level.
    fn shape(&self, m: usize, l: usize) -> Vec<Vec<usize>> {
        let (mut out, mut states) = (vec![Vec::new()], vec![(m, l, self.whole(m, l).1)]);
        let mut at = 0;
        while at < states.len() {
            let (mut m, l, b) = states[at];
            let mut below = Vec::new();
            for b in (1..=b).rev() {
                let y = self.split[self.at(m, l, b)] as usize;
                let rest = m - y;
                below.push((rest, l - 1, self.whole(rest, l - 1).1));
                m = y;
            }
            below.reverse();
            for state in below {
                out[at].push(states.len());
                states.push(state);
                out.push(Vec::new());
            }
            at += 1;
        }
        out
    }
}

struct Shaped<O> {
    small: Small<O>,
    size: usize,
    /// Where the size is chosen by them.
    costs: Option<Costs>,
    depth: usize,
    /// Per rank among siblings: how many were accepted, and how many looked at where one there was to be decided.
    seen: Vec<(f64, f64)>,
}

impl<O: Oracle> Draft for Shaped<O> {
    fn grow(&mut self, turn: &Turn, chance: &mut dyn Chance, ctx: &Ctx) -> Result<Tree> {
        let p: Vec<f64> = [0.0].into_iter().chain(self.seen.iter().map(|(hit, all)| hit / all)).collect();
        let (mut size, mut levels) = (self.size + 1, self.depth.min(turn.room) + 1);
        let best = Best::new(&p, size, levels, &Ctx::default())?;
        if let Some((_, m, l)) = self.costs.as_ref().and_then(|c| best.cheapest(&c.verify, c.draft, 1)) {
            (size, levels) = (m, l);
        }
        // With few levels and few branches there may be no tree of that many nodes.
        let size = (1..=size).rev().find(|&m| best.whole(m, levels).0 > f32::NEG_INFINITY).unwrap_or(1);
        let shape = best.shape(size, levels);
        // Nodes of the shape are in the order in which they are drawn, unless a distribution has too few tokens.
        let mut role = vec![0];
        self.small.grow(turn, levels - 1, ctx, &mut |tree, node, row| {
            let (q, own) = (row.distribution(turn.warmth()), &shape[role[node]]);
            let drawn = match turn.temperature == 0.0 {
                true => largest(&q, own.len()),
                false => chance.draw_some(&q, own.len()),
            };
            let mut left = 1.0;
            for (k, (x, &of)) in drawn.into_iter().zip(own).enumerate() {
                tree.push(node, x as u32, Some((q[x] / left).min(1.0)), Some(f64::from(best.p[k + 1])));
                left -= q[x];
                role.push(of);
            }
            tree.draws_from(node, q);
        })
    }

    fn learn(&mut self, round: &Verified, ctx: &Ctx) -> Result<()> {
        for node in [0].iter().chain(round.path) {
            let children: Vec<usize> = round.tree.children(*node).take(self.seen.len()).collect();
            let hit = children.iter().position(|c| round.path.contains(c));
            for k in 0..children.len() {
                self.seen[k].0 += f64::from(u8::from(hit == Some(k)));
                self.seen[k].1 += 1.0;
            }
        }
        self.small.learn(round, ctx)
    }
}

/// Raw entry: acceptance `p` by rank (entry 0 is left out), what a draft level and a verification of each size cost →
/// the table, the chosen size and depth, and the tree.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let p: Vec<f64> = input.read("p")?;
    let (size, levels) = (input.within("max_budget", 1..=4096)?, input.within("max_depth", 1..=256)?);
    let draft: f64 = input.read("draft_time")?;
    let (times, budgets): (Vec<f64>, Vec<usize>) = (input.read("target_time")?, input.read("valid_budget")?);
    if p.len() < 2 || p.len() > 257 || p.iter().any(|p| !(0.0..=1.0).contains(p)) {
        return Err(Error::invalid("p must be shares from 0 to 1, at least one behind the first, which is left out"));
    }
    if budgets.is_empty() || times.len() < budgets.len() || budgets.iter().any(|b| *b > size) {
        return Err(Error::invalid("valid_budget must be sizes up to max_budget, with a target_time for each"));
    }
    if !draft.is_finite() || times.iter().any(|t| !t.is_finite() || *t <= 0.0) {
        return Err(Error::invalid("draft_time and target_time must be times, those of the target above 0"));
    }
    let best = Best::new(&p, size, levels, ctx)?;
    let table: Vec<Vec<Value>> =
        (0..=size).map(|m| (0..=levels).map(|l| number(f64::from(best.whole(m, l).0))).collect()).collect();
    let sizes: Vec<(usize, f64)> = budgets.into_iter().zip(times.iter().copied()).collect();
    // The authors count the root among the levels that are drafted.
    let Some((cost, m, l)) = best.cheapest(&sizes, draft, 0) else {
        return Err(Error::invalid("no size in valid_budget has a tree of at most max_depth levels and p's branches"));
    };
    let shape = best.shape(m, l);
    let (mut parents, mut depth) = (vec![-1i64; shape.len()], vec![0usize; shape.len()]);
    for (i, children) in shape.iter().enumerate() {
        for &c in children {
            (parents[c], depth[c]) = (i as i64, depth[i] + 1);
        }
    }
    let deepest = depth.iter().copied().max().unwrap_or(0);
    let of = |d: usize| (0..shape.len()).filter(|&i| depth[i] == d).collect::<Vec<_>>();
    let roots: Vec<Vec<usize>> = (0..=deepest).map(of).collect();
    let branches: Vec<Vec<usize>> = roots.iter().map(|r| r.iter().map(|&i| shape[i].len()).collect()).collect();
    Ok(json!({
        "best_time": cost,
        "speedup": times[0] / cost,
        "chosen": { "size": m, "depth_index": l, "root_branches": shape[0].len() },
        "expected_tokens_table": table,
        "parents": parents,
        "successors": shape,
        "depth": depth,
        "roots": roots,
        "branches": branches,
        "size": shape.len(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_trees_by_hand() {
        let best = Best::new(&[0.0, 0.5, 0.25], 3, 3, &Ctx::default()).unwrap();
        // Root and one child: 1 + 0.5. Three nodes: a chain is 1 + 0.5 · 1.5 = 1.75, two children are 1 + 0.5 + 0.25.
        assert_eq!((best.whole(2, 2), best.whole(3, 2), best.whole(3, 3)), ((1.5, 1), (1.75, 2), (1.75, 1)));
        assert_eq!(best.whole(2, 1).0, f32::NEG_INFINITY);
        // Guesses that cost nothing are worth it, as many as possible where there is a chain; dear ones are not.
        let of = |t: [f64; 3], draft| best.cheapest(&[(1, t[0]), (2, t[1]), (3, t[2])], draft, 1).map(|c| (c.1, c.2));
        assert_eq!((of([1.0; 3], 0.0), of([1.0; 3], 0.1)), (Some((3, 2)), Some((3, 2))));
        assert_eq!((of([1.0, 1.0, 3.0], 0.0), of([1.0, 1.0, 1.0], 1.0)), (Some((2, 2)), Some((1, 1))));
        assert_eq!(
            (best.shape(3, 2), best.shape(3, 3)),
            (vec![vec![1, 2], vec![], vec![]], vec![vec![1], vec![2], vec![]])
        );
    }
}
