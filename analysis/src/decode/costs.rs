//! What passes cost on this machine, for policies that choose by it.

use super::With;
use super::oracle::{Oracle, Reader};
use super::tree::Tree;
use crate::Result;
use crate::ctx::Ctx;
use std::time::Instant;

/// Times of passes in seconds, each the quickest of a few, behind the prompt of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Costs {
    /// A pass of the draft model over one token.
    pub draft: f64,
    /// Passes of the target over trees of so many nodes, the root included; from small to large.
    pub verify: Vec<(usize, f64)>,
}

/// Tries whose quickest counts.
const TRIES: usize = 3;

fn quickest(mut pass: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..TRIES {
        let start = Instant::now();
        pass()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

impl Costs {
    /// Times passes of `small`, which has read the prompt but its last token, and of the target over trees of 1, 2, 4, …
    /// nodes, up to `most`.
    ///
    /// Errors: no weights, whatever the models fail with, cancelled.
    pub fn measure(with: &With, small: &Reader, most: usize, ctx: &Ctx) -> Result<Self> {
        let again = with.on.again();
        let (root, before) = again.ids.split_last().map_or((0, &[][..]), |(last, before)| (*last, before));
        let mut target = Reader::new(with.on.weights(with.info)?).cut(with.cut);
        target.begin(before, again.image.clone(), ctx)?;
        let draft = quickest(|| small.clone().read(&[root], ctx).map(drop))?;
        let powers = (0..).map(|i| 1usize << i).take_while(|n| *n < most);
        let mut verify = Vec::new();
        for n in powers.chain([most.max(1)]) {
            ctx.check()?;
            // Siblings, which need no more positions than one guess.
            let mut tree = Tree::new(root);
            (1..n).for_each(|_| {
                tree.push(0, root, None, None);
            });
            let time = quickest(|| target.clone().read_guesses(&tree, ctx).map(drop))?;
            verify.push((n, time));
        }
        Ok(Self { draft, verify })
    }
}
