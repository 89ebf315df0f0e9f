//! Token Recycling: drafts a static tree from a matrix of each token's latest top successors.
//!
//! Source: Luo et al. 2024, "Turning Trash into Treasure: Accelerating Inference of Large Language Models with
//! Token Recycling", arXiv 2408.08696. Takes: logits of every tree node. Gives: the longest path that greedy
//! decoding confirms. Departs: none known. Lossless for greedy decoding.

use super::reader::{NEW, Reader, check_greedy, distribution, start};
use super::{DraftInput, DraftNode, DraftRun, Method, NodeState, Round};
use crate::array::Array;
use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::run::argmax;
use crate::{Error, Result};
use serde_json::{Value, json};
use std::collections::HashMap;

/// A static tree: paths of successor ranks, parents before children; node 0 is the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Parent of each node; the root is its own.
    pub parents: Vec<usize>,
    /// Rank of each node among its parent's successors.
    pub ranks: Vec<usize>,
    /// Nodes without children, in template order.
    pub leaves: Vec<usize>,
}

impl Template {
    /// From paths such as `[0]`, `[0, 2]`. Errors if a path's parent does not come before it.
    pub fn new(paths: &[Vec<usize>]) -> Result<Self> {
        let mut index: HashMap<&[usize], usize> = HashMap::from([(&[][..], 0)]);
        let (mut parents, mut ranks) = (vec![0], vec![0]);
        let mut leaf = vec![true];
        for path in paths {
            let Some((&rank, above)) = path.split_last() else { continue };
            let parent = *index
                .get(above)
                .ok_or_else(|| Error::invalid(format!("tree path {path:?} comes before its parent")))?;
            index.insert(path, parents.len());
            parents.push(parent);
            ranks.push(rank);
            leaf[parent] = false;
            leaf.push(true);
        }
        let leaves = (0..leaf.len()).filter(|&i| leaf[i]).collect();
        Ok(Self { parents, ranks, leaves })
    }

    /// Nodes from the root (left out) to `node`.
    pub fn path(&self, mut node: usize) -> Vec<usize> {
        let mut out = Vec::new();
        while node != 0 {
            out.push(node);
            node = self.parents[node];
        }
        out.reverse();
        out
    }

    /// Token of every node, read from the matrix `[vocab][k]`. Errors if a rank is not kept there.
    pub fn fill(&self, root: usize, matrix: &[Vec<usize>]) -> Result<Vec<usize>> {
        let mut tokens = vec![root];
        for i in 1..self.parents.len() {
            let row = &matrix[tokens[self.parents[i]]];
            let token = row.get(self.ranks[i]).ok_or_else(|| {
                Error::invalid(format!("the tree asks for successor {} of {}", self.ranks[i], row.len()))
            })?;
            tokens.push(*token);
        }
        Ok(tokens)
    }

    /// The longest confirmed path: nodes whose token is the argmax of their parent; first on ties.
    pub fn accept(&self, tokens: &[usize], best: &[usize]) -> Vec<usize> {
        let mut found: Vec<usize> = Vec::new();
        for &leaf in &self.leaves {
            let path = self.path(leaf);
            let n = path.iter().take_while(|&&i| tokens[i] == best[self.parents[i]]).count();
            if n > found.len() {
                found = path[..n].to_vec();
            }
        }
        found
    }
}

/// Ids of the `k` largest logits, largest first, ties to the lower id.
pub fn top_ids(logits: &[f32], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    order.truncate(k);
    order
}

/// The paper's static tree of 80 nodes: a path per word, one digit per rank.
const TREE: &str = "0 1 2 3 4 5 6 7 00 01 02 03 04 05 06 07 10 11 12 13 20 21 22 30 31 40 50 60 70 000 001 002 003 004 \
    005 006 007 010 011 012 020 021 030 040 050 060 070 100 101 110 200 300 400 500 0000 0001 0002 0003 0004 0010 \
    0011 0020 0030 0040 0100 0200 1000 2000 3000 00000 00001 00002 00010 00020 00100 01000 10000 000000 000001 000100";

const WIDTH: Param = Param::count("successors", "Successors kept per token; the tree uses ranks below", 1, 8, 8);
const DEPTH: Param = Param::count("depth", "Deepest level of the tree", 1, 6, 6);

static INFO: Info = Info {
    id: "token_recycling",
    title: "Token recycling",
    summary: "Drafts a tree from the candidates that the target itself listed for each token when it last saw it.",
    family: "speculative",
    paper: Some(Paper {
        title: "Turning Trash into Treasure: Accelerating Inference of Large Language Models with Token Recycling",
        authors: "Luo et al.",
        year: 2024,
        arxiv: "2408.08696",
    }),
    departs: "none known; greedy decoding only, as in the paper's lossless setting",
    needs: &[Need::Logits],
    params: &[NEW, WIDTH, DEPTH],
    basis: Basis::Authors { repo: "Luowaterbi/TokenRecycling", commit: "" },
    raw: &[ADAPTER],
    ..Info::of(Kind::Draft)
};

pub(super) struct TokenRecycling;

impl Method for TokenRecycling {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn run(
        &self,
        input: &DraftInput,
        params: &Params,
        ctx: &Ctx,
        partial: &mut dyn FnMut(&DraftRun),
    ) -> Result<DraftRun> {
        INFO.check(params)?;
        let info = input.target.info();
        if !info.generates {
            return Err(Error::Need { method: INFO.id.into(), need: Need::Logits.words().into() });
        }
        let (new, k) = (params.count(&NEW) as usize, params.count(&WIDTH) as usize);
        let deepest = params.count(&DEPTH) as usize;
        let paths: Vec<Vec<usize>> = TREE
            .split_whitespace()
            .map(|w| w.bytes().map(|b| usize::from(b - b'0')).collect::<Vec<_>>())
            .filter(|p| p.len() <= deepest && p.iter().all(|r| *r < k))
            .collect();
        let template = Template::new(&paths)?;
        let depths: Vec<usize> = (0..template.parents.len()).map(|i| template.path(i).len()).collect();
        // As the authors, every token starts with successor 0, and only seen tokens take memory here.
        let mut matrix: HashMap<usize, Vec<usize>> = HashMap::new();
        let zeros = vec![0usize; k];
        let (mut run, mut root) = start(input)?;
        let mut target = Reader::target(input, ctx)?;
        let mut emitted = 0;
        while emitted < new {
            ctx.step(emitted, new)?;
            let mut tokens = vec![root as usize];
            for i in 1..template.parents.len() {
                let row = matrix.get(&tokens[template.parents[i]]).unwrap_or(&zeros);
                tokens.push(row[template.ranks[i]]);
            }
            let ids: Vec<u32> = tokens.iter().map(|&t| t as u32).collect();
            let kept = target.cache.len();
            let logits = target.read_tree(&ids, &template.parents, ctx)?;
            let best: Vec<usize> = logits.iter().map(|l| argmax(l).unwrap_or(0)).collect();
            let path = template.accept(&tokens, &best);
            let own = best[path.last().copied().unwrap_or(0)];
            let nodes = (1..tokens.len())
                .map(|i| {
                    let parent = template.parents[i];
                    let reached = parent == 0 || path.contains(&parent);
                    DraftNode {
                        parent: parent.checked_sub(1),
                        token: ids[i],
                        depth: depths[i],
                        p_draft: None,
                        p_target: Some(distribution(&logits[parent], 1.0)[tokens[i]] as f32),
                        p_accept: Some(f32::from(u8::from(tokens[i] == best[parent]))),
                        state: match (path.contains(&i), reached) {
                            (true, _) => NodeState::Accepted,
                            (false, true) => NodeState::Rejected,
                            (false, false) => NodeState::Unverified,
                        },
                    }
                })
                .collect();
            let mut out: Vec<u32> = path.iter().map(|&i| ids[i]).collect();
            out.push(own as u32);
            out.truncate(new - emitted);
            emitted += out.len();
            run.rounds.push(Round { root, nodes, emitted: out, draft_passes: 0 });
            for (token, row) in tokens.iter().zip(&logits) {
                matrix.insert(*token, top_ids(row, k));
            }
            target.keep_path(kept, &path)?;
            root = own as u32;
            partial(&run);
        }
        check_greedy(&mut run, input, ctx)?;
        Ok(run)
    }
}

/// Raw entry: an order-2 Markov model `T[prev, cur, next]` of logits, a prompt and a tree.
const ADAPTER: Adapter = Adapter { name: "token_recycling", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let t = input.array("T")?;
    t.check_finite("T")?;
    let [v, b, c] = t.dims("T")?;
    if b != v || c != v {
        return Err(Error::shape("T", "[vocab, vocab, vocab]", t.shape()));
    }
    let template = Template::new(&input.read::<Vec<Vec<usize>>>("tree_template")?)?;
    let k: usize = input.read_or("topk", 8)?;
    let prompt: Vec<usize> = input.read("prompt")?;
    let eos: Option<usize> = input.read_or("eos", None)?;
    let max_new: usize = input.read("max_new_tokens")?;
    if prompt.is_empty() || prompt.iter().any(|&x| x >= v) {
        return Err(Error::invalid("the prompt must hold ids of the vocabulary, at least one"));
    }
    if max_new == 0 {
        return Err(Error::invalid("max_new_tokens must be at least 1"));
    }
    let logits = |t: &Array, prev: usize, cur: usize| t.data()[(prev * v + cur) * v..][..v].to_vec();
    let best = |row: &[f32]| argmax(row).unwrap_or(0);
    let mut matrix = vec![vec![0usize; k]; v];
    let mut text = prompt[..prompt.len() - 1].to_vec();
    let mut root = prompt[prompt.len() - 1];
    let (mut accept_lengths, mut rounds) = (Vec::new(), Vec::new());
    // As in the authors' loop: at most one round per token asked for, `steps` counts the rounds that did not end it,
    // and an end token that would be the next root is a new token, but not part of the text.
    let (mut steps, mut ended) = (0, false);
    for _ in 0..max_new {
        ctx.step(text.len().saturating_sub(prompt.len()), max_new)?;
        let tokens = template.fill(root, &matrix)?;
        let above = text.last().copied();
        let rows: Vec<Vec<f32>> = (0..tokens.len())
            .map(|i| {
                let prev = if i == 0 { above.unwrap_or(root) } else { tokens[template.parents[i]] };
                logits(t, prev, tokens[i])
            })
            .collect();
        let argmaxes: Vec<usize> = rows.iter().map(|r| best(r)).collect();
        let path = template.accept(&tokens, &argmaxes);
        let committed: Vec<usize> = std::iter::once(root).chain(path.iter().map(|&i| tokens[i])).collect();
        accept_lengths.push(committed.len());
        root = argmaxes[path.last().copied().unwrap_or(0)];
        text.extend(&committed);
        rounds.push(json!({ "tree_tokens": tokens, "argmax": argmaxes }));
        if eos.is_some_and(|e| committed.contains(&e)) || text.len() - prompt.len() > max_new {
            break;
        }
        for (token, row) in tokens.iter().zip(&rows) {
            matrix[*token] = top_ids(row, k);
        }
        ended = eos == Some(root);
        if ended {
            break;
        }
        steps += 1;
    }
    let mut greedy = prompt.clone();
    while greedy.len() < text.len() {
        let n = greedy.len();
        let prev = if n > 1 { greedy[n - 2] } else { greedy[n - 1] };
        greedy.push(best(&logits(t, prev, greedy[n - 1])));
    }
    Ok(json!({
        "num_new": text.len() + usize::from(ended) - prompt.len(),
        "lossless_vs_greedy_ar": text == greedy,
        "output_ids": text,
        "steps": steps,
        "accept_lengths": accept_lengths,
        "rounds": rounds,
        "final_matrix": matrix,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_confirmed_path_is_taken() {
        let t = Template::new(&[vec![0], vec![1], vec![1, 0]]).unwrap();
        // Root 5 is followed by 7, which is node 2; after 7 comes 9, which is node 3.
        assert_eq!(t.accept(&[5, 6, 7, 9], &[7, 0, 9, 0]), [2, 3]);
    }
}
