//! One run of a model on an input: tokens in, trace out. The window and the command line both come here.

mod estimate;

pub use estimate::{Estimate, advice, estimate};

use crate::array::Array;
use crate::ctx::Ctx;
use crate::image::{Expansion, ImageInput, Picture, Processor};
use crate::math::argmax;
use crate::model::{Input, KvCache, LogitRows, Model, Writes};
use crate::token::{Source, Token, TokenKind};
use crate::tokenize::Tokenizer;
use crate::trace::{Both, Capture, CaptureSpec, NoTap, Site, Spill, Tap, Tower, TowerTrace, Trace};
use crate::{Error, Result};
use candle_core::Tensor;

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct RunRequest {
    /// The text, cut by the model's tokenizer.
    pub prompt: Option<String>,
    /// A second text, for models that read pairs.
    pub pair: Option<String>,
    /// Token ids instead of a text.
    pub ids: Option<Vec<u32>>,
    /// Segment ids that go with `ids`.
    pub token_types: Option<Vec<u32>>,
    /// The image, as the model's processor made it.
    pub image: Option<ImageInput>,
    /// The prompt with the place of the image written out; without it `prompt` is read as it stands.
    pub expansion: Option<Expansion>,
    /// Tokens to continue with, each the most probable one.
    pub greedy: usize,
    /// For which rows logits are computed, where they are captured; `None` means every row. A long text has more
    /// logits than everything else together.
    pub logits: Option<LogitRows>,
}

impl RunRequest {
    /// Adds a picture: its pixels as the model gets them, and its place in the prompt where the model reads both
    /// as one sequence.
    ///
    /// Several pictures that lie side by side on one are several pictures to the model, too.
    ///
    /// Errors: another number of image places in the prompt, several for a model that reads one, a picture too extreme
    /// in shape for the model.
    pub fn add_picture(&mut self, processor: &Processor, picture: &Picture) -> Result<()> {
        let image = processor.process(picture)?;
        if !image.rest.is_empty() && !processor.writes_into_the_prompt() {
            return Err(Error::invalid("this model reads one picture; give it one"));
        }
        if self.ids.is_none() && processor.writes_into_the_prompt() {
            self.expansion = processor.expand(self.prompt.get_or_insert_default(), &image)?;
        }
        self.image = Some(image);
        Ok(())
    }
}

/// Runs `model` on the request, keeps what `spec` asks for, and continues greedily if asked.
///
/// Errors: no tokens, a text without a tokenizer, a text too long for the model, too little memory, cancelled.
pub fn run(
    model: &dyn Model,
    tokenizer: Option<&Tokenizer>,
    request: &RunRequest,
    spec: &CaptureSpec,
    ctx: &Ctx,
) -> Result<Trace> {
    run_with(model, tokenizer, request, spec, &mut NoTap, ctx)
}

/// As [`run`], with a tap that acts before the capture sees the result. It goes on acting while the text is continued.
pub fn run_with(
    model: &dyn Model,
    tokenizer: Option<&Tokenizer>,
    request: &RunRequest,
    spec: &CaptureSpec,
    first: &mut dyn Tap,
    ctx: &Ctx,
) -> Result<Trace> {
    let info = model.info();
    let reads = |tower| info.towers.contains_key(&tower);
    if !reads(Tower::Text) && request.image.is_none() {
        return Err(Error::invalid(format!("{} reads pictures and no text; give a picture", info.name)));
    }
    if !reads(Tower::Vision) && request.image.is_some() {
        return Err(Error::invalid(format!("{} reads no pictures; leave the picture out", info.name)));
    }
    let (mut tokens, mut ids, mut types) = tokens_of(tokenizer, request)?;
    if request.ids.is_none() && !ids.is_empty() {
        fill(model, tokenizer, (&mut tokens, &mut ids, &mut types), ctx);
    }
    let mut capture = Capture::new(spec.clone());
    let mut cache = KvCache::default();
    let generate = request.greedy > 0;
    if generate && info.writes != Writes::Causal {
        return Err(Error::invalid(format!("{} cannot continue a text", info.architecture)));
    }
    // The logits of every continued token are kept.
    let kept = (request.greedy as u64).saturating_mul(4 * info.vocab as u64);
    ctx.fits(kept, "continue with fewer tokens")?;
    let logits = logit_rows(request, spec, ids.len());
    let tiles = match (info.towers.get(&Tower::Vision), &request.image) {
        (Some(t), Some(image)) => t.tiles(Some(image)),
        _ => Vec::new(),
    };
    let cost = estimate(model, ids.len(), &tiles, &logits, spec);
    if let Some(room) = ctx.room().filter(|room| cost.bytes() > *room) {
        // What is kept may lie in a file; what the pass needs may not.
        match ctx.spill().filter(|_| cost.peak_bytes <= room) {
            Some(folder) => {
                capture = capture.spilling(Spill::new(folder)?);
                ctx.note(format!(
                    "memory has no room for what this run keeps, about {} MB; it lies in a file in {}, which goes with \
                     the run, and is read as it is looked at",
                    (cost.capture_bytes >> 20).max(1),
                    folder.display()
                ));
            }
            None => ctx.fits(cost.bytes(), &advice(model, ids.len(), &tiles, &logits, spec, room))?,
        }
    }
    let mut tap = Both { first, then: &mut capture };
    let mut input = Input {
        ids,
        token_types: types.clone(),
        image: request.image.clone(),
        cache: generate.then_some(&mut cache),
        logits: Some(logits),
        ..Input::default()
    };
    let mut out = model.forward(&mut input, &mut tap, ctx)?;
    let (mut continuation, mut greedy_logits) = (Vec::new(), None);
    if generate && let Some(logits) = &out.logits {
        let last = logits.narrow(0, logits.dim(0)? - 1, 1)?;
        let (ids, rows) =
            continue_greedily(model, &mut cache, last, request.greedy, &mut tap, &mut |_, _| Ok(()), ctx)?;
        (continuation, greedy_logits) = (ids, Some(rows));
    }
    let mut trace = Trace {
        model: info.name.clone(),
        architecture: info.architecture.clone(),
        fingerprint: info.fingerprint.clone(),
        text: request.prompt.clone().unwrap_or_default(),
        image_size: request.image.as_ref().and_then(ImageInput::extent),
        arrays: capture.arrays,
        steps: capture.steps,
        token_types: types.filter(|t| t.iter().any(|&t| t != 0)),
        logit_rows: std::mem::take(&mut out.logit_rows),
        image: request.image.clone(),
        ..Trace::default()
    };
    for (tower, mut run) in std::mem::take(&mut out.towers) {
        let t = &info.towers[&tower];
        let own = std::mem::take(&mut run.tokens);
        trace.towers.insert(
            tower,
            TowerTrace {
                tokens: if tower == Tower::Text { with_image_tokens(&tokens, own) } else { own },
                n_layers: t.n_layers,
                width: t.width,
                attention: run.attention,
                grids: run.grids,
                n_tiles: run.n_tiles,
                class_token: t.class_token.then_some(0),
            },
        );
    }
    for (name, t) in &out.extras {
        trace.extras.insert(name.clone(), Array::from_tensor(t)?);
    }
    if let Some(rows) = greedy_logits {
        if let Some(t) = tokenizer {
            trace.continuation_text = t.decode(&continuation, true)?;
        }
        trace.continuation = continuation;
        trace.extras.insert("greedy_logits".into(), Array::from_tensor(&rows)?);
    }
    if let Some(what) = trace.not_finite() {
        ctx.note(what);
    }
    trace.notes = ctx.notes();
    Ok(trace)
}

/// The rows that need logits: those asked for where logits are kept, and the last one to continue from.
fn logit_rows(request: &RunRequest, spec: &CaptureSpec, n: usize) -> LogitRows {
    let kept = spec.sites.contains(&Site::Logits);
    let mut asked = if kept { request.logits.clone().unwrap_or(LogitRows::All) } else { LogitRows::None };
    if request.greedy > 0 {
        match &mut asked {
            LogitRows::None => asked = LogitRows::Last,
            LogitRows::These(rows) if n > 0 && rows.last() != Some(&(n - 1)) => rows.push(n - 1),
            _ => {}
        }
    }
    asked
}

/// The tokenizer's tokens, with name and rectangle where the model says that one stands for a part of the image.
fn with_image_tokens(tokens: &[Token], own: Vec<Token>) -> Vec<Token> {
    if own.is_empty() {
        return tokens.to_vec();
    }
    let merge = |(i, o): (usize, Token)| match tokens.get(i) {
        Some(t) if o.kind == TokenKind::Text => t.clone(),
        _ => o,
    };
    own.into_iter().enumerate().map(merge).collect()
}

/// Most probable token after token, from the logits `[1, vocab]` of the last row. Gives the ids and the logits
/// `[n, vocab]` that chose them. End tokens do not stop it: a microscope shows what comes after, too.
///
/// The tap sees every pass under its step, from 1 on; `each` is called with the cache before each of them, so that a
/// policy may take rows away.
pub fn continue_greedily(
    model: &dyn Model,
    cache: &mut KvCache,
    mut logits: Tensor,
    n: usize,
    tap: &mut dyn Tap,
    each: &mut dyn FnMut(usize, &mut KvCache) -> Result<()>,
    ctx: &Ctx,
) -> Result<(Vec<u32>, Tensor)> {
    let (mut ids, mut rows) = (Vec::new(), Vec::new());
    for i in 0..n {
        ctx.step(i, n)?;
        let row = logits.squeeze(0)?.to_vec1::<f32>()?;
        let best = argmax(&row).ok_or_else(|| not_finite(&model.info().name))?;
        ids.push(best as u32);
        rows.push(logits.clone());
        if i + 1 == n {
            break;
        }
        let step = i + 1;
        each(step, cache)?;
        let (ids, logits_of) = (vec![best as u32], Some(LogitRows::Last));
        let mut input = Input { ids, cache: Some(cache), logits: logits_of, step, ..Input::default() };
        let out = model.forward(&mut input, tap, &ctx.part(i, n))?;
        logits = out.logits.ok_or_else(|| Error::invalid("the model gave no logits"))?;
    }
    Ok((ids, Tensor::cat(&rows, 0)?))
}

/// The error for a model whose numbers are not finite.
pub(crate) fn not_finite(model: &str) -> Error {
    Error::invalid(format!(
        "the logits of {model} are not finite (NaN or infinity); nothing can be said of such a run. Its weights may \
         hold such numbers, or overflow on this input: get them again, or try another input"
    ))
}

/// What is wrong with a model that should read a text and has no tokenizer.
pub const NO_TOKENIZER: &str = "this model has no tokenizer beside it, so it cannot read text; put its tokenizer.json \
    (or vocab.json with merges.txt, vocab.txt, tokenizer.model) into its folder";

/// Brings a text to the length that the model was trained with; one that is longer is cut, and that is noted.
fn fill(
    model: &dyn Model,
    tokenizer: Option<&Tokenizer>,
    (tokens, ids, types): (&mut Vec<Token>, &mut Vec<u32>, &mut Option<Vec<u32>>),
    ctx: &Ctx,
) {
    let Some((most, pad)) = model.padding() else { return };
    // The tokenizer's own settings count where they fit the model.
    let own = tokenizer.and_then(Tokenizer::padding).filter(|(n, _)| *n <= most);
    let (to, pad) = own.unwrap_or((most, pad));
    if ids.len() > to {
        ctx.note(format!("the text has {} tokens; this model reads {to}, so its end is left out", ids.len()));
        if let Some(last) = ids.last().copied().filter(|_| tokens.last().is_some_and(|t| t.kind == TokenKind::Special))
        {
            let end = tokens.last().cloned();
            ids.truncate(to - 1);
            tokens.truncate(to - 1);
            ids.push(last);
            tokens.extend(end);
        }
        ids.truncate(to);
        tokens.truncate(to);
    }
    let text = tokenizer.map_or_else(|| format!("<{pad}>"), |t| t.token_text(pad));
    let filler = Token { id: Some(pad), text, kind: TokenKind::Padding, source: Source::None };
    let (missing, before) = (to - ids.len(), tokenizer.is_some_and(Tokenizer::pads_before));
    let at = |n: usize| if before { 0..0 } else { n..n };
    ids.splice(at(ids.len()), vec![pad; missing]);
    tokens.splice(at(tokens.len()), vec![filler; missing]);
    if let Some(types) = types {
        types.truncate(to);
        types.splice(at(types.len()), vec![0; missing]);
    }
}

type Tokens = (Vec<Token>, Vec<u32>, Option<Vec<u32>>);

fn tokens_of(tokenizer: Option<&Tokenizer>, request: &RunRequest) -> Result<Tokens> {
    if let Some(ids) = &request.ids {
        let text = |id: u32| tokenizer.map_or_else(|| format!("<{id}>"), |t| t.token_text(id));
        let tokens = ids
            .iter()
            .map(|&id| Token { id: Some(id), text: text(id), kind: TokenKind::Text, source: Source::None })
            .collect();
        return Ok((tokens, ids.clone(), request.token_types.clone()));
    }
    let Some(prompt) = &request.prompt else {
        if request.image.is_some() {
            return Ok((Vec::new(), Vec::new(), None));
        }
        return Err(Error::invalid("there is no input; give a prompt or token ids"));
    };
    let Some(t) = tokenizer else {
        return Err(Error::invalid(NO_TOKENIZER));
    };
    let read = request.expansion.as_ref().map_or(prompt, |e| &e.text);
    let marks = request.expansion.as_ref().is_none_or(|e| e.marks);
    let e = t.encode(read, request.pair.as_deref(), marks)?;
    let tokens = (0..e.ids.len())
        .map(|i| {
            let (start, end) = e.offsets_byte[i];
            let special = e.special_mask[i];
            let own = !special && e.type_ids[i] == 0 && end > start;
            let bytes = request.expansion.as_ref().map_or(Source::Bytes { start, end }, |x| x.source(start, end));
            Token {
                id: Some(e.ids[i]),
                text: t.token_text(e.ids[i]),
                kind: if special { TokenKind::Special } else { TokenKind::Text },
                source: if own { bytes } else { Source::None },
            }
        })
        .collect();
    Ok((tokens, e.ids, Some(e.type_ids)))
}
