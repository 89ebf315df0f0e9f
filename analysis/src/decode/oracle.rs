//! What decoding asks: a model that writes on, a model that fills in, or the toy of a golden in the place of either.

use super::cut::Cut;
use super::row::Row;
use super::tree::Tree;
use crate::ctx::Ctx;
use crate::image::ImageInput;
use crate::model::{Input, KvCache, LogitRows, Model};
use crate::run::not_finite;
use crate::tokenize::Tokenizer;
use crate::trace::{At, NoTap, Site, Tap, Tower};
use crate::{Error, Result};
use candle_core::Tensor;
use std::sync::Arc;

/// Something that reads a text and says what comes next. A clone has read the same and goes its own way.
pub trait Oracle: Clone {
    /// Size of the vocabulary.
    fn vocab(&self) -> usize;
    /// Tokens that were read and kept.
    fn len(&self) -> usize;
    /// True before the first token.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Reads `ids` as a text and gives what follows each.
    fn read(&mut self, ids: &[u32], ctx: &Ctx) -> Result<Vec<Row>>;
    /// Reads a tree whose node 0 follows what was read before, and gives what follows each node. `parents[i] < i` is
    /// the parent of node `i`, `parents[0]` is ignored; every node sees the text, its ancestors and itself.
    fn read_tree(&mut self, ids: &[u32], parents: &[usize], ctx: &Ctx) -> Result<Vec<Row>>;
    /// Reads the guesses of a round and gives what follows each; a chain is read as a text, which every model can.
    fn read_guesses(&mut self, tree: &Tree, ctx: &Ctx) -> Result<Vec<Row>> {
        match tree.is_chain() {
            true => self.read(&tree.tokens(), ctx),
            false => self.read_tree(&tree.tokens(), &tree.parents(), ctx),
        }
    }
    /// Keeps these of the tokens read, in this order, and forgets the others.
    fn keep(&mut self, tokens: &[usize]) -> Result<()>;
    /// Keeps the first `n` tokens.
    fn keep_first(&mut self, n: usize) -> Result<()> {
        self.keep(&(0..n.min(self.len())).collect::<Vec<_>>())
    }
}

/// Something that reads a text with gaps and says what belongs into them.
pub trait Fill {
    /// The id that stands for a gap.
    fn mask(&self) -> u32;
    /// Longest text it reads, where there is a limit.
    fn longest(&self) -> Option<usize>;
    /// What belongs at each of `positions` of `ids`.
    fn fill(&mut self, ids: &[u32], positions: &[usize], ctx: &Ctx) -> Result<Vec<Row>>;
    /// The same where only the places `seen`, ascending, are looked at, and each place itself; all others are gaps.
    fn fill_seeing(&mut self, ids: &[u32], positions: &[usize], seen: &[usize], ctx: &Ctx) -> Result<Vec<Row>> {
        let mut bare = vec![self.mask(); ids.len()];
        for &i in seen.iter().chain(positions) {
            bare[i] = ids[i];
        }
        self.fill(&bare, positions, ctx)
    }
}

/// A model and the keys and values of what it has read.
#[derive(Clone)]
pub struct Reader<'a> {
    model: &'a dyn Model,
    cache: KvCache,
    /// The shortest sliding window of any layer, known after the first pass.
    window: Option<usize>,
    /// For a model with another table than the one it guesses for: ids that both have, and the size of that table.
    over: Option<(usize, usize)>,
    /// The layer behind which it stops and says what it would, by the final norm and head; the last one otherwise.
    behind: Option<usize>,
    /// What sampling leaves of what it says.
    cut: Cut,
}

/// Keeps what leaves a layer of the text.
struct Leaving {
    layer: usize,
    resid: Option<Tensor>,
}

impl Tap for Leaving {
    fn wants(&self, at: &At) -> bool {
        at.tower == Tower::Text && at.site == Site::ResidPost && at.layer == self.layer
    }

    fn pass(&mut self, _: &At, x: Tensor) -> Result<Tensor> {
        self.resid = Some(x.clone());
        Ok(x)
    }
}

impl<'a> Reader<'a> {
    /// A reader that has read nothing.
    pub fn new(model: &'a dyn Model) -> Self {
        Self { model, cache: KvCache::default(), window: None, over: None, behind: None, cut: Cut::NONE }
    }

    /// The same, with rows `[vocab]` of which only the first `common` entries can be anything. An id that the model has
    /// no row for is read as id 0: what it guesses from there is worse, and no less checked.
    pub fn over(self, common: usize, vocab: usize) -> Self {
        Self { over: Some((common, vocab)), ..self }
    }

    /// The same, with what the model would say behind `layer`: the logit lens in the place of a trained early exit. Its
    /// passes cost as much as whole ones.
    pub fn stopping(self, layer: usize) -> Self {
        Self { behind: Some(layer), ..self }
    }

    /// The same, with rows of which sampling leaves so much.
    pub fn cut(self, cut: Cut) -> Self {
        Self { cut, ..self }
    }

    /// Reads the beginning of a text, with its picture; nothing where there are no ids.
    pub fn begin(&mut self, ids: &[u32], image: Option<ImageInput>, ctx: &Ctx) -> Result<()> {
        if !ids.is_empty() {
            let (ids, logits) = (self.readable(ids), Some(LogitRows::None));
            let input = Input { ids, image, logits, ..Input::default() };
            self.forward(input, ctx)?;
        }
        Ok(())
    }

    fn readable(&self, ids: &[u32]) -> Vec<u32> {
        let n = self.over.map_or(usize::MAX, |_| self.model.info().vocab);
        ids.iter().map(|&id| if (id as usize) < n { id } else { 0 }).collect()
    }

    fn rows(&self, logits: Option<Tensor>) -> Result<Vec<Row>> {
        let mut rows = rows(logits, self.model)?;
        for row in &mut rows {
            let Row::Logits(x) = row else { continue };
            if let Some((common, vocab)) = self.over {
                x.truncate(common);
                x.resize(vocab, f32::NEG_INFINITY);
            }
            self.cut.apply(x);
        }
        Ok(rows)
    }

    fn forward(&mut self, input: Input, ctx: &Ctx) -> Result<Option<Tensor>> {
        let logits = Some(input.logits.clone().unwrap_or(LogitRows::All));
        let wanted = !matches!(logits, Some(LogitRows::None));
        let logits = if self.behind.is_some() { Some(LogitRows::None) } else { logits };
        let mut input = Input { cache: Some(&mut self.cache), logits, ..input };
        let mut leaving = Leaving { layer: self.behind.unwrap_or(usize::MAX), resid: None };
        let mut out = self.model.forward(&mut input, &mut leaving, ctx)?;
        if let Some(resid) = leaving.resid.filter(|_| wanted) {
            out.logits = Some(self.model.lens(&resid)?);
        }
        if let Some(run) = out.towers.get(&Tower::Text) {
            let windows = run.attention.iter().filter_map(|a| a.mask.window());
            self.window = windows.chain(self.window).min();
        }
        Ok(out.logits)
    }
}

/// Errors: no logits, or some that are not finite. Minus infinity is what a model says of ids that it never gives.
fn rows(logits: Option<Tensor>, model: &dyn Model) -> Result<Vec<Row>> {
    let logits = logits.ok_or_else(|| Error::invalid("the model gave no logits"))?;
    let rows = logits.to_vec2::<f32>()?;
    if rows.iter().flatten().any(|x| x.is_nan() || *x == f32::INFINITY) {
        return Err(not_finite(&model.info().name));
    }
    Ok(rows.into_iter().map(Row::Logits).collect())
}

impl Oracle for Reader<'_> {
    fn vocab(&self) -> usize {
        self.model.info().vocab
    }

    fn len(&self) -> usize {
        self.cache.len()
    }

    fn read(&mut self, ids: &[u32], ctx: &Ctx) -> Result<Vec<Row>> {
        let logits = self.forward(Input { ids: self.readable(ids), ..Input::default() }, ctx)?;
        self.rows(logits)
    }

    /// Errors: a text longer than the sliding window of the model, which no mask of a tree takes into account.
    fn read_tree(&mut self, ids: &[u32], parents: &[usize], ctx: &Ctx) -> Result<Vec<Row>> {
        let (n, before) = (self.cache.len(), self.cache.next_position);
        let mut above: Vec<Vec<usize>> = Vec::with_capacity(ids.len());
        for (i, &p) in parents.iter().enumerate() {
            let mut own = if i == 0 { Vec::new() } else { above[p].clone() };
            own.push(n + i);
            above.push(own);
        }
        let positions: Vec<usize> = above.iter().map(|a| before + a.len() - 1).collect();
        let deepest = positions.iter().max().map_or(0, |p| p + 1);
        if self.window.is_some_and(|w| deepest > w) {
            return Err(Error::Need {
                method: "a draft tree".into(),
                need: "a text shorter than the sliding window of the model".into(),
            });
        }
        let mask = above.into_iter().map(|a| (0..n).chain(a).collect()).collect();
        let (positions, mask) = (Some(positions), Some(Arc::new(mask)));
        let logits = self.forward(Input { ids: self.readable(ids), positions, mask, ..Input::default() }, ctx)?;
        self.rows(logits)
    }

    fn keep(&mut self, tokens: &[usize]) -> Result<()> {
        self.cache.select(tokens)
    }
}

/// How tokenizers spell the token of a gap.
const MASKS: [&str; 3] = ["[MASK]", "<mask>", "<|mdm_mask|>"];

/// A model that fills in masked tokens.
pub struct Filler<'a> {
    model: &'a dyn Model,
    mask: u32,
}

impl<'a> Filler<'a> {
    /// The gap is what the model says, or else the token that its tokenizer spells like one.
    ///
    /// Errors: neither is there.
    pub fn new(model: &'a dyn Model, tokenizer: Option<&Tokenizer>) -> Result<Self> {
        let spelt = || tokenizer.and_then(|t| MASKS.iter().find_map(|m| t.id(m)));
        let mask = model.mask_token().or_else(spelt).ok_or_else(|| {
            Error::invalid(format!(
                "{} does not say which token stands for a gap; add mask_token_id to config.json",
                model.info().name
            ))
        })?;
        Ok(Self { model, mask })
    }
}

impl Fill for Filler<'_> {
    fn mask(&self) -> u32 {
        self.mask
    }

    fn longest(&self) -> Option<usize> {
        self.model.info().max_tokens
    }

    fn fill(&mut self, ids: &[u32], positions: &[usize], ctx: &Ctx) -> Result<Vec<Row>> {
        let logits = Some(LogitRows::These(positions.to_vec()));
        let mut input = Input { ids: ids.to_vec(), logits, ..Input::default() };
        rows(self.model.forward(&mut input, &mut NoTap, ctx)?.logits, self.model)
    }

    /// Other places are not there at all: attention does not see them.
    fn fill_seeing(&mut self, ids: &[u32], positions: &[usize], seen: &[usize], ctx: &Ctx) -> Result<Vec<Row>> {
        let logits = Some(LogitRows::These(positions.to_vec()));
        let row = |i: usize| {
            let mut own = seen.to_vec();
            if !seen.contains(&i) {
                own.push(i);
                own.sort_unstable();
            }
            own
        };
        let mask = Some(Arc::new((0..ids.len()).map(row).collect()));
        let mut input = Input { ids: ids.to_vec(), logits, mask, ..Input::default() };
        rows(self.model.forward(&mut input, &mut NoTap, ctx)?.logits, self.model)
    }
}
