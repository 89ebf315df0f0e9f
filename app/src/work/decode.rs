//! Decodes ahead with a draft method and measures it against a plain decode.

use super::{Store, model_of, trace_of};
use crate::request::{Call, Drafted, ModelSource, RunKey, Times};
use crate::text::Text;
use std::collections::BTreeMap;
use std::time::Instant;
use tokenscope_analysis::draft::{self, DraftInput};
use tokenscope_analysis::method::Need;
use tokenscope_analysis::model::{ImageInput, Model};
use tokenscope_analysis::run::{RunRequest, run};
use tokenscope_analysis::trace::{CaptureSpec, Tower};
use tokenscope_analysis::{Ctx, Error, Result};

/// The whole decode, with the times that a speed-up is made of.
pub(super) fn drafted(
    key: &RunKey,
    draft_model: &ModelSource,
    call: &Call,
    store: &dyn Store,
    ctx: &Ctx,
) -> Result<Drafted> {
    let open = model_of(key, store, ctx)?;
    let method = draft::find(&call.method)?;
    let small = match method.info().needs.contains(&Need::DraftModel) {
        true => {
            let run = RunKey { model: draft_model.clone(), prompt: Text::default(), image: None };
            Some(model_of(&run, store, ctx)?)
        }
        false => None,
    };
    let tokenizer = open.tokenizer.as_ref().ok_or_else(|| Error::invalid("this model has no tokenizer.json"))?;
    let text = tokenizer.encode(&key.prompt, None, true)?.ids;
    let small = small.as_ref().map(|s| s.model.as_ref());
    // A model that reads a picture has the picture's tokens in its prompt; the draft model gets the text alone.
    let trace = if key.image.is_some() { Some(trace_of(key, store, ctx)?) } else { None };
    let seen: Option<Vec<u32>> = match &trace {
        Some(t) => t.tower(Tower::Text)?.tokens.iter().map(|t| t.id).collect(),
        None => None,
    };
    let prompt = seen.as_deref().unwrap_or(&text);
    let image = trace.as_ref().and_then(|t| t.image.as_ref());
    let draft_prompt = seen.is_some().then_some(&text[..]);
    let input = DraftInput { image, draft_prompt, ..DraftInput::text(open.model.as_ref(), small, prompt) };
    // Times are worth something only where nothing else took the cores meanwhile.
    let mut alone = store.others() == 0;
    let start = Instant::now();
    let mut last = start;
    // The check against the greedy text comes after the last round and does not count.
    let mut decode = method.run(&input, &call.params, ctx, &mut |_| last = Instant::now())?;
    let own = last.duration_since(start).as_secs_f64();
    let n = decode.output().len();
    alone &= store.others() == 0;
    let plain = greedy_secs(input.target, prompt, image, n, ctx)?;
    alone &= store.others() == 0;
    decode.target_secs = plain / n.max(1) as f64;
    if let Some(small) = small {
        decode.draft_secs = greedy_secs(small, &text, None, n, ctx)? / n.max(1) as f64;
    }
    alone &= store.others() == 0;
    let times = Times { own, plain, target: decode.target_secs, draft: decode.draft_secs, alone };
    let mut words = BTreeMap::new();
    let ids = decode
        .rounds
        .iter()
        .flat_map(|r| r.nodes.iter().map(|n| n.token).chain(r.emitted.iter().copied()).chain([r.root]));
    for id in ids {
        words.entry(id).or_insert_with(|| tokenizer.token_text(id));
    }
    Ok(Drafted { run: decode, text: words, n_prompt: prompt.len(), times })
}

/// Seconds for `n` tokens decoded one by one, the prompt's own pass included.
fn greedy_secs(model: &dyn Model, prompt: &[u32], image: Option<&ImageInput>, n: usize, ctx: &Ctx) -> Result<f64> {
    let (ids, image) = (Some(prompt.to_vec()), image.cloned());
    let request = RunRequest { ids, image, greedy: n.max(1), ..RunRequest::default() };
    let start = Instant::now();
    run(model, None, &request, &CaptureSpec::sites(&[]), ctx)?;
    Ok(start.elapsed().as_secs_f64())
}
