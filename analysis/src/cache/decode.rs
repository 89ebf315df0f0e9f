//! A decode in which a policy takes rows out of the cache, beside one with the full cache.

use super::{CacheSeen, Evict, Moment};
use crate::ctx::Ctx;
use crate::math::argmax;
use crate::model::{Input, KvCache, LogitRows, Model, Writes};
use crate::run::{continue_greedily, not_finite};
use crate::trace::{At, Attending, KeySet, NoTap, PerHead, Tap, Tower};
use crate::{Error, Result};
use candle_core::Tensor;
use std::sync::Arc;

/// What one layer held while a token was read, by token of the text.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerHeld {
    /// Tokens whose keys the query could read, its own included, ascending: the same for all key-value heads, or
    /// those of each.
    pub kept: PerHead<Arc<[usize]>>,
    /// Per query head: share of the full model's attention, reading the same text, that falls on tokens that are gone.
    pub lost: Vec<f32>,
}

/// One token that was read with the reduced cache.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheStep {
    /// By layer.
    pub layers: Vec<LayerHeld>,
    /// Position id that the token had.
    pub position: usize,
    /// What the full model, reading the same text, would write next.
    pub full_next: u32,
    /// Bytes of keys and values while it was read.
    pub bytes: u64,
    /// The same of a full cache.
    pub full_bytes: u64,
}

/// What came of a policy in a greedy decode.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheRun {
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// Each token that was read after the prompt.
    pub steps: Vec<CacheStep>,
    /// What the full model writes.
    pub full: Vec<u32>,
    /// What it writes with the reduced cache.
    pub reduced: Vec<u32>,
    /// Whether rows were numbered anew inside the cache.
    pub renumbered: bool,
    /// Query heads of a layer.
    pub n_heads: usize,
}

/// Reads `input` and writes `new` tokens, each the most probable one, with what `policy` leaves in the cache; then the
/// same with all of it.
///
/// Errors: a model that does not continue texts, rows that are not held, [`Error::Memory`], cancelled.
pub fn decode(
    policy: &mut dyn Evict,
    model: &dyn Model,
    input: Input<'static>,
    new: usize,
    ctx: &Ctx,
) -> Result<CacheRun> {
    let info = model.info();
    let tower = info.towers.get(&Tower::Text).filter(|_| info.writes == Writes::Causal);
    let tower = tower.ok_or_else(|| Error::invalid(format!("{} cannot continue a text", info.architecture)))?;
    let n_prompt = input.ids.len();
    let row = size_of::<f32>() * tower.n_layers * tower.n_kv_heads * (tower.head_width + tower.value_width);
    // Beside the full cache, what each step and layer held.
    let notes = size_of::<usize>() * tower.n_layers * tower.n_kv_heads;
    ctx.fits(((n_prompt + new) * (3 * row + new * notes)) as u64, "shorten the prompt, or generate fewer tokens")?;

    let mut tokens = Held { rows: Vec::new(), n_kv_heads: tower.n_kv_heads, n_read: 0 };
    let mut cache = KvCache::default();
    let mut full_cache = KvCache::default();
    let mut watch = Watch { policy, keep: Vec::new(), n_kv_heads: tower.n_kv_heads };
    let parts = ctx.part(0, 2);
    let prompt = Input { logits: Some(LogitRows::Last), ..input };
    let first = read(model, prompt, &mut cache, &mut watch, &parts.part(0, new + 1))?;
    full_cache.clone_from(&cache);
    tokens.add(n_prompt, tower.n_layers);
    let mut renumbered = drop_rows(&mut watch, None, &mut cache, &mut tokens, model)?;

    let (mut logits, mut reduced, mut steps) = (first.clone(), Vec::new(), Vec::new());
    for step in 1..=new {
        parts.step(step, new + 1)?;
        reduced.push(best(model, &logits)?);
        if step == new {
            break;
        }
        renumbered |= drop_rows(&mut watch, Some((step, 1)), &mut cache, &mut tokens, model)?;
        let position = cache.next_position;
        let ids = vec![reduced[step - 1]];
        let next = Input { ids, step, logits: Some(LogitRows::Last), ..Input::default() };
        logits = read(model, next, &mut cache, &mut watch, &parts.part(step, new + 1))?;
        tokens.add(1, tower.n_layers);
        let layers = tokens.rows.iter().map(|kept| LayerHeld { kept: ascending(kept), lost: Vec::new() });
        steps.push(CacheStep {
            layers: layers.collect(),
            position,
            full_next: 0,
            bytes: cache.size_bytes(),
            full_bytes: (row * tokens.n_read) as u64,
        });
        renumbered |= drop_rows(&mut watch, None, &mut cache, &mut tokens, model)?;
    }

    // The full model, once reading the same text and once writing its own.
    let parts = ctx.part(1, 2);
    let mut own = full_cache.clone();
    for (i, step) in steps.iter_mut().enumerate() {
        let part = parts.part(i, 2 * new);
        let mut look = Look { lost: Vec::new(), step };
        let next = Input { ids: vec![reduced[i]], logits: Some(LogitRows::Last), ..Input::default() };
        let logits = read(model, next, &mut full_cache, &mut look, &part)?;
        let lost = look.lost;
        step.layers.iter_mut().zip(lost).for_each(|(layer, lost)| layer.lost = lost);
        step.full_next = best(model, &logits)?;
    }
    let (nobody, parts) = (&mut NoTap, parts.part(1, 2));
    let (full, _) = continue_greedily(model, &mut own, first, new, nobody, &mut |_, _| Ok(()), &parts)?;
    Ok(CacheRun { n_prompt, steps, full, reduced, renumbered, n_heads: tower.n_heads })
}

/// The most probable token of the model's logits `[1, vocab]`.
fn best(model: &dyn Model, logits: &Tensor) -> Result<u32> {
    let best = argmax(&logits.squeeze(0)?.to_vec1::<f32>()?);
    Ok(best.ok_or_else(|| not_finite(&model.info().name))? as u32)
}

/// Logits `[1, vocab]` after the last token of `input`.
fn read(model: &dyn Model, input: Input, cache: &mut KvCache, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Tensor> {
    let mut input = Input { cache: Some(cache), ..input };
    let out = model.forward(&mut input, tap, ctx)?;
    out.logits.ok_or_else(|| Error::invalid("the model gave no logits"))
}

/// Asks the policy in every layer of a pass what shall stay afterwards.
struct Watch<'a> {
    policy: &'a mut dyn Evict,
    /// By layer, as answered in the last pass.
    keep: Vec<Option<KeySet>>,
    n_kv_heads: usize,
}

impl Tap for Watch<'_> {
    fn keys(&mut self, at: &At, seen: &Attending) -> Result<Option<KeySet>> {
        if at.tower == Tower::Text {
            let held: Vec<usize> = (0..self.n_kv_heads).map(|h| seen.held_by(h).positions.len()).collect();
            let moment = Moment::After { seen };
            let keep = self.policy.keep(&CacheSeen { step: at.step, layer: at.layer, held: &held, moment })?;
            self.keep.resize(self.keep.len().max(at.layer + 1), None);
            self.keep[at.layer] = keep;
        }
        Ok(None)
    }
}

/// Takes away what the policy does not keep: as it answered in the pass before, or as it answers now that some tokens
/// are coming, given with their step. Says whether rows were numbered anew.
fn drop_rows(
    watch: &mut Watch,
    coming: Option<(usize, usize)>,
    cache: &mut KvCache,
    tokens: &mut Held,
    model: &dyn Model,
) -> Result<bool> {
    let mut any = false;
    for layer in 0..cache.layers.len() {
        let keep = match coming {
            None => watch.keep.get_mut(layer).and_then(Option::take),
            Some((step, coming)) => {
                let held = tokens.counts(layer);
                let moment = Moment::Before { coming };
                watch.policy.keep(&CacheSeen { step, layer, held: &held, moment })?
            }
        };
        if let Some(keep) = keep {
            cache.evict(layer, &keep)?;
            tokens.keep(layer, &keep);
            any = true;
        }
    }
    let renumber = any && watch.policy.renumbers();
    if renumber {
        cache.renumber(model)?;
    }
    Ok(renumber)
}

/// Which token stands behind each cached row, by layer.
struct Held {
    rows: Vec<PerHead<Vec<usize>>>,
    n_kv_heads: usize,
    n_read: usize,
}

impl Held {
    /// `n` tokens more, in every layer.
    fn add(&mut self, n: usize, n_layers: usize) {
        self.rows.resize(n_layers, PerHead::Same(Vec::new()));
        let new = self.n_read..self.n_read + n;
        for rows in &mut self.rows {
            match rows {
                PerHead::Same(rows) => rows.extend(new.clone()),
                PerHead::Each(all) => all.iter_mut().for_each(|rows| rows.extend(new.clone())),
            }
        }
        self.n_read += n;
    }

    /// Rows that each key-value head holds.
    fn counts(&self, layer: usize) -> Vec<usize> {
        (0..self.n_kv_heads).map(|h| self.rows[layer].of(h, self.n_kv_heads).len()).collect()
    }

    /// The cache has checked that the rows are there.
    fn keep(&mut self, layer: usize, keep: &KeySet) {
        let g = self.n_kv_heads;
        let own = &self.rows[layer];
        let pick = |head: usize, rows: &[usize]| rows.iter().map(|&r| own.of(head, g)[r]).collect();
        self.rows[layer] = match (own, keep) {
            (PerHead::Same(_), PerHead::Same(rows)) => PerHead::Same(pick(0, rows)),
            _ => PerHead::Each((0..g).map(|head| pick(head, keep.of(head, g))).collect()),
        };
    }
}

/// The same tokens in their order in the text.
fn ascending(rows: &PerHead<Vec<usize>>) -> PerHead<Arc<[usize]>> {
    let sorted = |rows: &Vec<usize>| -> Arc<[usize]> {
        let mut rows = rows.clone();
        rows.sort_unstable();
        rows.into()
    };
    match rows {
        PerHead::Same(rows) => PerHead::Same(sorted(rows)),
        PerHead::Each(all) => PerHead::Each(all.iter().map(sorted).collect()),
    }
}

/// Reads off a pass of the full model how much attention falls on what a step no longer held.
struct Look<'a> {
    lost: Vec<Vec<f32>>,
    step: &'a CacheStep,
}

impl Tap for Look<'_> {
    fn keys(&mut self, at: &At, seen: &Attending) -> Result<Option<KeySet>> {
        if let Some(held) = self.step.layers.get(at.layer) {
            let rows = seen.rows(&[seen.positions.len() - 1])?;
            let [heads, _, m] = rows.dims("rows of the pattern")?;
            let lost = |head: usize| {
                let kept: f32 = held.kept.of(head, heads).iter().map(|&k| rows.data()[head * m + k]).sum();
                (1.0 - kept).max(0.0)
            };
            self.lost.push((0..heads).map(lost).collect());
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::tiny;

    const PROMPT: [u32; 9] = [3, 1, 4, 15, 9, 2, 6, 5, 8];

    /// Keeps two rows of each head, others for each, once the prompt was read; then the newest four.
    struct Two;

    impl Evict for Two {
        fn keep(&mut self, at: &CacheSeen) -> Result<Option<KeySet>> {
            Ok(match at.moment {
                Moment::After { .. } if at.step == 0 => Some(PerHead::Each(vec![vec![0, 8], vec![7, 3, 1]])),
                Moment::Before { coming: 1 } if at.held[0] > 3 => Some(PerHead::Same(vec![0, 2])),
                _ => None,
            })
        }
    }

    fn prompt() -> Input<'static> {
        Input { ids: PROMPT.to_vec(), ..Input::default() }
    }

    #[test]
    fn what_is_held_is_noted_by_token_for_every_step_layer_and_head() {
        let model = tiny();
        let run = decode(&mut Two, model.as_ref(), prompt(), 4, &Ctx::default()).unwrap();
        assert_eq!((run.n_prompt, run.steps.len(), run.reduced.len(), run.full.len()), (9, 3, 4, 4));
        let kept = |step: usize, head| run.steps[step].layers[1].kept.of(head, 2).to_vec();
        assert_eq!((kept(0, 0), kept(0, 1)), (vec![0, 8, 9], vec![1, 3, 7, 9]));
        assert_eq!((kept(1, 0), kept(1, 1)), (vec![0, 8, 9, 10], vec![1, 3, 7, 9, 10]));
        // Rows 0 and 2 are tokens 0 and 9 of one head and 7 and 1 of the other.
        assert_eq!((kept(2, 0), kept(2, 1)), (vec![0, 9, 11], vec![1, 7, 11]));
        // Two tensors of three layers, head width 4, f32; 3 + 4 rows against 10 of both heads.
        assert_eq!((run.steps[0].bytes, run.steps[0].full_bytes), (2 * 3 * 7 * 16, 2 * 3 * 20 * 16));
        assert_eq!((run.steps[0].position, run.steps[2].position, run.renumbered), (9, 11, false));
    }

    #[test]
    fn a_policy_that_keeps_everything_loses_nothing() {
        struct All;
        impl Evict for All {
            fn keep(&mut self, _: &CacheSeen) -> Result<Option<KeySet>> {
                Ok(None)
            }
        }
        let model = tiny();
        let run = decode(&mut All, model.as_ref(), prompt(), 5, &Ctx::default()).unwrap();
        assert_eq!(run.full, run.reduced);
        assert!((0..4).all(|i| run.steps[i].full_next == run.reduced[i + 1]));
        assert!(run.steps.iter().flat_map(|s| &s.layers).flat_map(|l| &l.lost).all(|&l| l < 1e-6));
        assert_eq!(run.steps[3].bytes, run.steps[3].full_bytes);
        // What is written is what the run itself continues with.
        let request = crate::run::RunRequest { ids: Some(PROMPT.to_vec()), greedy: 5, ..Default::default() };
        let spec = crate::trace::CaptureSpec::sites(&[]);
        assert_eq!(
            crate::run::run(model.as_ref(), None, &request, &spec, &Ctx::default()).unwrap().continuation,
            run.full
        );
    }

    #[test]
    fn lost_attention_is_that_of_the_full_model_on_the_same_text() {
        let model = tiny();
        let run = decode(&mut Two, model.as_ref(), prompt(), 2, &Ctx::default()).unwrap();
        let mut ids = PROMPT.to_vec();
        ids.push(run.reduced[0]);
        let request = crate::run::RunRequest { ids: Some(ids), ..Default::default() };
        let trace = crate::run::run(model.as_ref(), None, &request, &crate::trace::CaptureSpec::all(), &Ctx::default());
        let trace = trace.unwrap();
        for (layer, held) in run.steps[0].layers.iter().enumerate() {
            let p = &trace.get(Tower::Text, layer, crate::trace::Site::Pattern).unwrap().array;
            for head in 0..4 {
                let row = &p.data()[(head * 10 + 9) * 10..][..10];
                let gone = (0..10).filter(|k| !held.kept.of(head, 4).contains(k));
                let want: f32 = gone.map(|k| row[k]).sum();
                assert!((held.lost[head] - want).abs() < 1e-5 && want > 0.0);
            }
        }
    }
}
