//! A model with its cache, read token by token or as a tree; what every draft method verifies with, and the parameters
//! they share.

use super::{DraftInput, DraftRun};
use crate::ctx::Ctx;
use crate::method::{Need, Param};
use crate::model::{Input, KvCache, LogitRows, Model};
use crate::run::argmax;
use crate::trace::{MaskRule, NoTap, Tower};
use crate::{Error, Result};
use std::sync::Arc;

/// Length of a decode.
pub(super) const NEW: Param = Param::count("new_tokens", "Tokens to generate", 1, 512, 32);
/// How far from greedy it samples.
pub(super) const TEMPERATURE: Param = Param::number("temperature", "0 decodes greedily", 0.0, 4.0, 0.0);
/// Where its chances start.
pub(super) const SEED: Param = Param::seed();

/// One model and the keys and values of what it has read.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    model: &'a dyn Model,
    pub cache: KvCache,
    /// The shortest sliding window of any layer, known after the first pass.
    window: Option<usize>,
}

impl<'a> Reader<'a> {
    /// A reader that has read nothing.
    pub fn new(model: &'a dyn Model) -> Self {
        Self { model, cache: KvCache::default(), window: None }
    }

    /// The target, which has read all of the prompt but its last token.
    pub fn target(input: &DraftInput<'a>, ctx: &Ctx) -> Result<Self> {
        let mut out = Self::new(input.target);
        if let [before @ .., _] = input.prompt
            && !before.is_empty()
        {
            let image = input.image.cloned();
            let given = Input { ids: before.to_vec(), image, logits: Some(LogitRows::None), ..Input::default() };
            out.forward(given, ctx)?;
        }
        Ok(out)
    }

    /// The draft, which has read all of its prompt but the last token.
    pub fn draft(model: &'a dyn Model, input: &DraftInput, ctx: &Ctx) -> Result<Self> {
        let mut out = Self::new(model);
        if let [before @ .., _] = input.draft_prompt.unwrap_or(input.prompt)
            && !before.is_empty()
        {
            out.forward(Input { ids: before.to_vec(), logits: Some(LogitRows::None), ..Input::default() }, ctx)?;
        }
        Ok(out)
    }

    /// Logits after each of `tokens`, read as a text.
    pub fn read(&mut self, tokens: &[u32], ctx: &Ctx) -> Result<Vec<Vec<f32>>> {
        let logits = self.forward(Input { ids: tokens.to_vec(), ..Input::default() }, ctx)?;
        logits.ok_or_else(|| Error::invalid("the model gave no logits"))
    }

    /// Logits after each node of a tree whose node 0 follows what was read before; `parents[i] < i` is the parent
    /// of node `i` and `parents[0]` is ignored. Every node sees the text, its ancestors and itself.
    pub fn read_tree(&mut self, tokens: &[u32], parents: &[usize], ctx: &Ctx) -> Result<Vec<Vec<f32>>> {
        let (n, before) = (self.cache.len(), self.cache.next_position);
        let mut above: Vec<Vec<usize>> = Vec::with_capacity(tokens.len());
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
        let logits = self.forward(Input { ids: tokens.to_vec(), positions, mask, ..Input::default() }, ctx)?;
        logits.ok_or_else(|| Error::invalid("the model gave no logits"))
    }

    /// After [`Reader::read_tree`] on `n` tokens of text: keeps the text, the root and these nodes of the tree.
    pub fn keep_path(&mut self, n: usize, path: &[usize]) -> Result<()> {
        let rows: Vec<usize> = (0..=n).chain(path.iter().map(|i| n + i)).collect();
        self.cache.select(&rows)
    }

    fn forward(&mut self, input: Input, ctx: &Ctx) -> Result<Option<Vec<Vec<f32>>>> {
        let logits = Some(input.logits.clone().unwrap_or(LogitRows::All));
        let mut input = Input { cache: Some(&mut self.cache), logits, ..input };
        let out = self.model.forward(&mut input, &mut NoTap, ctx)?;
        if let Some(run) = out.towers.get(&Tower::Text) {
            let windows = run.attention.iter().filter_map(|a| match a.mask {
                MaskRule::SlidingWindow(w) => Some(w),
                _ => None,
            });
            self.window = windows.chain(self.window).min();
        }
        Ok(out.logits.map(|l| l.to_vec2::<f32>()).transpose()?)
    }
}

/// A distribution from logits; at temperature 0 all on the largest.
pub(super) fn distribution(logits: &[f32], temperature: f64) -> Vec<f64> {
    if temperature == 0.0 {
        let best = argmax(logits);
        return (0..logits.len()).map(|i| f64::from(u8::from(Some(i) == best))).collect();
    }
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let e: Vec<f64> = logits.iter().map(|&x| (f64::from(x - max) / temperature).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.into_iter().map(|x| x / sum).collect()
}

/// The draft model of a method. Errors unless it and the target write texts of one vocabulary.
pub(super) fn drafter<'a>(input: &DraftInput<'a>, method: &str) -> Result<&'a dyn Model> {
    let need = |what: &str| Error::Need { method: method.into(), need: what.into() };
    let draft = input.draft.ok_or_else(|| need(Need::DraftModel.words()))?;
    let (t, d) = (input.target.info(), draft.info());
    if !t.generates || !d.generates || t.vocab != d.vocab {
        return Err(need("two language models with the same vocabulary"));
    }
    Ok(draft)
}

/// A run on `prompt` without rounds. Errors on an empty prompt.
pub(super) fn start(input: &DraftInput) -> Result<(DraftRun, u32)> {
    let Some(&root) = input.prompt.last() else {
        return Err(Error::invalid("the prompt has no tokens"));
    };
    let run = DraftRun {
        prompt: input.prompt.to_vec(),
        rounds: Vec::new(),
        reference: None,
        lossless: None,
        target_secs: 0.0,
        draft_secs: 0.0,
    };
    Ok((run, root))
}

/// Decodes as many tokens greedily with the target alone and notes whether the run gave the same.
pub(super) fn check_greedy(run: &mut DraftRun, input: &DraftInput, ctx: &Ctx) -> Result<()> {
    let n = run.output().len();
    let mut reader = Reader::target(input, ctx)?;
    let mut logits = reader.read(&input.prompt[input.prompt.len() - 1..], ctx)?;
    let mut text = Vec::new();
    while text.len() < n {
        ctx.step(text.len(), n)?;
        let next = logits.last().and_then(|l| argmax(l)).unwrap_or(0) as u32;
        text.push(next);
        if text.len() < n {
            logits = reader.read(&[next], ctx)?;
        }
    }
    let same = text == run.output();
    let words =
        if same { "equal to the target's own greedy text" } else { "differs from the target's own greedy text" };
    run.lossless = Some((same, words.into()));
    run.reference = Some(text);
    Ok(())
}
