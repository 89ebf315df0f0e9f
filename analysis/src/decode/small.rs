//! A small model that guesses: what it says after each node of a tree that grows level by level, and how it keeps up
//! with the text.

use super::chance::Chance;
use super::engine::{Draft, Turn, Verified};
use super::oracle::Oracle;
use super::row::Row;
use super::tree::Tree;
use crate::Result;
use crate::ctx::Ctx;

/// A model that has read all of the text but its last token, the root of the next tree.
pub struct Small<O>(pub O);

/// Nodes of a tree at most, whatever widths ask for.
pub const MAX_NODES: usize = 256;

impl<O: Oracle> Small<O> {
    /// What it says after each node, in one pass that is forgotten again.
    pub fn rows(&self, tree: &mut Tree, ctx: &Ctx) -> Result<Vec<Row>> {
        ctx.check()?;
        tree.passes += 1;
        self.0.clone().read_guesses(tree, ctx)
    }

    /// Grows a tree by `depth` levels: `children` says for each node of the last level, with what the model says after
    /// it, which tokens follow. A policy that draws them says from what, by [`Tree::draws_from`].
    pub fn grow(
        &self,
        turn: &Turn,
        depth: usize,
        ctx: &Ctx,
        children: &mut dyn FnMut(&mut Tree, usize, &Row),
    ) -> Result<Tree> {
        let mut tree = Tree::new(turn.root());
        let mut level = 0..1;
        for _ in 0..depth.min(turn.room) {
            if level.is_empty() || tree.len() > MAX_NODES {
                break;
            }
            let rows = self.rows(&mut tree, ctx)?;
            let next = tree.len();
            for node in level {
                if tree.len() <= MAX_NODES {
                    children(&mut tree, node, &rows[node]);
                }
            }
            level = next..tree.len();
        }
        Ok(tree)
    }

    /// Reads what became text: the root and the accepted path.
    pub fn learn(&mut self, round: &Verified, ctx: &Ctx) -> Result<()> {
        let path = round.path.iter().map(|&i| round.tree.nodes()[i].token);
        let ids: Vec<u32> = [round.tree.nodes()[0].token].into_iter().chain(path).collect();
        self.0.read(&ids, ctx)?;
        Ok(())
    }
}

/// A tree of the model's most probable tokens, narrower the deeper.
pub struct Narrowing<O> {
    /// Who guesses.
    pub small: Small<O>,
    /// Guesses at the first place; one less at each further one, down to one.
    pub width: usize,
    /// Levels.
    pub depth: usize,
}

impl<O: Oracle> Draft for Narrowing<O> {
    fn grow(&mut self, turn: &Turn, _: &mut dyn Chance, ctx: &Ctx) -> Result<Tree> {
        self.small.grow(turn, self.depth, ctx, &mut |tree, node, row| {
            let width = self.width.saturating_sub(tree.nodes()[node].depth).max(1);
            put(tree, node, row, &row.top(width), turn.warmth());
        })
    }

    fn learn(&mut self, round: &Verified, ctx: &Ctx) -> Result<()> {
        self.small.learn(round, ctx)
    }
}

/// Adds these tokens below `node` as they are, with the model's probabilities of them.
pub fn put(tree: &mut Tree, node: usize, row: &Row, tokens: &[usize], warmth: f64) {
    let p = row.probabilities(tokens.iter().map(|&t| t as u32), warmth);
    for (&t, p) in tokens.iter().zip(p) {
        tree.push(node, t as u32, Some(p), None);
    }
}
