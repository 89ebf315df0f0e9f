//! Carries out requests with the library. The window's jobs and the command line both come here.

mod decode;
mod edge;
mod judge;
mod maps;
mod reduction;
mod segment;

pub use reduction::SEEDS;
pub use segment::{OWN, row_name};

use crate::request::{Call, Lens, ModelSource, OpenModel, Product, Request, RunKey, Scope};
use crate::samples;
use crate::truth;
use std::path::Path;
use std::sync::Arc;
use tokenscope_analysis::image::Processor;
use tokenscope_analysis::model::{self, LogitRows, Model};
use tokenscope_analysis::passes::attention::Head;
use tokenscope_analysis::passes::{attention_row_stats, attention_tile};
use tokenscope_analysis::run::{RunRequest, argmax, estimate, run};
use tokenscope_analysis::score::Scores;
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::{CaptureSpec, Site, Tower, Trace, read_trace};
use tokenscope_analysis::{Ctx, Error, Result, Subject, flow, score};

/// Does `f`, and where it does not fit the memory, once more after the store has forgotten what nobody uses.
fn with_room<T>(store: &dyn Store, f: impl Fn() -> Result<T>) -> Result<T> {
    match f() {
        Err(Error::Memory { .. }) => {
            store.make_room();
            f()
        }
        other => other,
    }
}

/// Opens a model with its tokenizer.
pub fn open(source: &ModelSource, ctx: &Ctx) -> Result<OpenModel> {
    match source {
        ModelSource::Sample(name) => open_path(samples::unpack(name)?.path(), ctx),
        ModelSource::Path(path) => open_path(path, ctx),
        ModelSource::Recorded(path) => {
            let what = "this is a recorded run; it holds no weights";
            Err(Error::file(path, what, "open the model itself for what needs them"))
        }
    }
}

/// Opens the model at `path` on the CPU and its tokenizer, where there is one.
///
/// Errors: what is wrong with a file, weights that do not fit the memory, cancelled.
pub fn open_path(path: &Path, ctx: &Ctx) -> Result<OpenModel> {
    let weights = tokenscope_analysis::weights::Weights::open(path)?.watched(ctx);
    // Weights are computed with as f32, whatever they are stored as.
    ctx.fits(4 * weights.n_params() as u64, "close other programs or choose a smaller model")?;
    let model = model::from_weights(&weights, &candle_core::Device::Cpu)?;
    let file = weights.dir().join("tokenizer.json");
    let tokenizer = match weights.gguf_file() {
        Some(gguf) => Some(Tokenizer::load(gguf)?),
        None if file.exists() => Some(Tokenizer::load(&file)?),
        None => None,
    };
    let processor = Processor::load(&weights)?;
    Ok(OpenModel { model, tokenizer, processor })
}

/// Products made before, and a way to make those that a request builds on.
pub trait Store: Sync {
    /// The product of `request`, made now if it is not there.
    fn get(&self, request: &Request, ctx: &Ctx) -> Result<Product>;

    /// Forgets the products that nobody uses, because memory is needed.
    fn make_room(&self) {}

    /// Other jobs that compute at this moment.
    fn others(&self) -> usize {
        0
    }
}

fn model_of(key: &RunKey, store: &dyn Store, ctx: &Ctx) -> Result<Arc<OpenModel>> {
    match store.get(&Request::Model(key.model.clone()), ctx)? {
        Product::Model(m) => Ok(m),
        _ => Err(Error::invalid("the request for a model gave something else")),
    }
}

fn trace_of(key: &RunKey, store: &dyn Store, ctx: &Ctx) -> Result<Arc<Trace>> {
    match store.get(&Request::Trace(key.clone()), ctx)? {
        Product::Trace(t) => Ok(t),
        _ => Err(Error::invalid("the request for a trace gave something else")),
    }
}

/// The model of a run, unless the run was recorded elsewhere and there are no weights.
fn weights_of(key: &RunKey, store: &dyn Store, ctx: &Ctx) -> Result<Option<Arc<OpenModel>>> {
    match key.model {
        ModelSource::Recorded(_) => Ok(None),
        _ => model_of(key, store, ctx).map(Some),
    }
}

/// Carries out `request`.
pub fn carry_out(request: &Request, store: &dyn Store, ctx: &Ctx) -> Result<Product> {
    Ok(match request {
        Request::Model(source) => Product::Model(Arc::new(with_room(store, || open(source, ctx))?)),
        Request::Tokenizer(file) => Product::Tokenizer(Arc::new(Tokenizer::load(file)?)),
        Request::Picture(source) => Product::Picture(Arc::new(source.open()?)),
        Request::Truth(key) => Product::Truth(truth::of(key).map(Arc::new)),
        Request::Trace(key) => Product::Trace(Arc::new(trace(key, store, ctx)?)),
        Request::Estimate(key) => {
            let open = model_of(key, store, ctx)?;
            let n = match (&open.tokenizer, key.prompt.is_empty()) {
                (Some(t), false) => t.encode(&key.prompt, None, true)?.ids.len(),
                _ => 1,
            };
            Product::Estimate(estimate(open.model.as_ref(), n, &CaptureSpec::views()))
        }
        Request::Segment(key) => Product::Segment(Arc::new(segment::rows(key, store, ctx)?)),
        Request::Strip(key, columns) => Product::Strip(Arc::new(segment::strip(key, *columns, store, ctx)?)),
        Request::Surprisal(key) => Product::Surprisal(Arc::new(segment::surprisal(key, store, ctx)?)),
        Request::Merges(source, id) => {
            let merges = segment::with_tokenizer(source, store, ctx, |t| t.merges(*id))?;
            Product::Merges(Arc::new(merges.flatten()))
        }
        Request::Encodings(source, ids) => {
            let all = segment::with_tokenizer(source, store, ctx, |t| segment::encodings(t, ids))?;
            Product::Encodings(Arc::new(all.flatten()))
        }
        Request::Map(scope, layer, head, part) => {
            Product::Map(Arc::new(maps::map(scope, *layer, *head, part.as_ref(), store, ctx)?))
        }
        Request::Cells(scope, layer, head, part) => Product::Cells({
            let map = Request::Map(scope.clone(), *layer, *head, part.clone());
            match store.get(&map, ctx)? {
                Product::Map(m) => maps::cells(&m)?,
                _ => return Err(Error::invalid("the request for a map gave something else")),
            }
        }),
        Request::DeviceHead(scope, layer, head) => {
            let t = trace_of(&scope.run, store, ctx)?;
            let head = Head::of_trace(&t, tower(scope, &t), 0, *layer, *head)?;
            let gpu = ctx.gpu.as_ref().ok_or_else(|| Error::Gpu("there is no graphics adapter".into()))?;
            Product::DeviceHead(Arc::new(attention_tile::on_device(&head, gpu, ctx)?))
        }
        Request::RowStats(scope, layer, head) => {
            let t = trace_of(&scope.run, store, ctx)?;
            let head = Head::of_trace(&t, tower(scope, &t), 0, *layer, *head)?;
            Product::RowStats(Arc::new(attention_row_stats::run(&head, ctx)?))
        }
        Request::Thumbnails(scope) => Product::Thumbnails(Arc::new(maps::thumbnails(scope, store, ctx)?)),
        Request::Score(scope, targets, call) => {
            let (t, open) = (trace_of(&scope.run, store, ctx)?, weights_of(&scope.run, store, ctx)?);
            let input = subject(&t, scope, open.as_deref());
            Product::Score(Arc::new(with_room(store, || scores(&input, targets, call, ctx))?))
        }
        Request::Prune(scope, call) => Product::Prune(Arc::new(reduction::pruned(scope, call, store, ctx)?)),
        Request::Answer(scope, call) => Product::Answer(Arc::new(reduction::answer(scope, call.as_ref(), store, ctx)?)),
        Request::Retention(scope, call) => Product::Retention(Arc::new(reduction::retention(scope, call, store, ctx)?)),
        Request::Edge(scope, layer, from, to) => {
            Product::Edge(Arc::new(edge::heads(scope, *layer, *from, *to, store, ctx)?))
        }
        Request::Effect(scope, layer, head, from, to) => {
            Product::Effect(Arc::new(edge::effect(scope, *layer, *head, *from, *to, store, ctx)?))
        }
        Request::NodeLens(key, level, token) => {
            Product::NodeLens(Arc::new(edge::node_lens(key, *level, *token, store, ctx)?))
        }
        Request::Flow(scope, call) => {
            let (t, open) = (trace_of(&scope.run, store, ctx)?, weights_of(&scope.run, store, ctx)?);
            let input = subject(&t, scope, open.as_deref());
            let graph = || flow::find(&call.method)?.graph(&input, &call.params, ctx);
            Product::Flow(Arc::new(with_room(store, graph)?))
        }
        Request::Lens(key) => Product::Lens(Arc::new(lens(key, store, ctx)?)),
        Request::Trial(trial) => Product::Trial(Arc::new(judge::judged(trial, store, ctx)?)),
        Request::Draft(key, draft_model, call) => {
            Product::Draft(Arc::new(decode::drafted(key, draft_model, call, store, ctx)?))
        }
        Request::Times(key, draft_model, call) => {
            Product::Times(decode::drafted(key, draft_model, call, store, ctx)?.times)
        }
    })
}

/// The run that methods of `scope` are about.
fn subject<'a>(trace: &'a Trace, scope: &Scope, open: Option<&'a OpenModel>) -> Subject<'a> {
    Subject {
        tower: tower(scope, trace),
        model: open.map(|o| o.model.as_ref()),
        tokenizer: open.and_then(|o| o.tokenizer.as_ref()),
        ..Subject::new(trace)
    }
}

fn tower(scope: &Scope, trace: &Trace) -> Tower {
    scope.tower.filter(|t| trace.towers.contains_key(t)).unwrap_or(trace.main_tower())
}

fn tokenizer_of(file: &Path, store: &dyn Store, ctx: &Ctx) -> Result<Arc<Tokenizer>> {
    match store.get(&Request::Tokenizer(file.to_path_buf()), ctx)? {
        Product::Tokenizer(t) => Ok(t),
        _ => Err(Error::invalid("the request for a tokenizer gave something else")),
    }
}

/// The mean of the scores for several explained tokens, over those that say something about a token.
fn scores(input: &Subject, targets: &[usize], call: &Call, ctx: &Ctx) -> Result<Scores> {
    let (method, params) = (score::find(&call.method)?, &call.params);
    let (Some(&first), n) = (targets.first(), targets.len()) else { return method.score(input, params, ctx) };
    let mut out = method.score(&input.at(Some(first)), params, ctx)?;
    let mut counts: Vec<f32> = out.values.iter().map(|v| f32::from(u8::from(v.is_some()))).collect();
    for (done, &target) in targets.iter().enumerate().skip(1) {
        ctx.step(done, n)?;
        let next = method.score(&input.at(Some(target)), params, ctx)?;
        for ((sum, count), v) in out.values.iter_mut().zip(&mut counts).zip(next.values) {
            if let Some(v) = v {
                *sum = Some(sum.unwrap_or(0.0) + v);
                *count += 1.0;
            }
        }
        let all = out.layers.iter_mut().flatten().zip(next.layers.iter().flatten());
        all.for_each(|(sum, v)| *sum += v);
    }
    for (v, count) in out.values.iter_mut().zip(counts) {
        *v = v.map(|v| v / count);
    }
    out.layers.iter_mut().flatten().for_each(|v| *v /= n as f32);
    Ok(out)
}

fn trace(key: &RunKey, store: &dyn Store, ctx: &Ctx) -> Result<Trace> {
    if let ModelSource::Recorded(path) = &key.model {
        return read_trace(path);
    }
    let open = model_of(key, store, ctx)?;
    let spec = CaptureSpec::views();
    // The logits of other rows are read off the last hidden state where somebody looks.
    let logits = Some(LogitRows::Last);
    let mut request = RunRequest { prompt: Some(key.prompt.to_string()), logits, ..RunRequest::default() };
    if let (Some(source), Some(processor)) = (&key.image, &open.processor) {
        match store.get(&Request::Picture(source.clone()), ctx)? {
            Product::Picture(p) => request.add_picture(processor, &p)?,
            _ => return Err(Error::invalid("the request for a picture gave something else")),
        }
    }
    if let Some(t) = &open.tokenizer {
        let text = request.expansion.as_ref().map_or(&*key.prompt, |e| &e.text);
        let n = t.encode(text, None, true)?.ids.len();
        let cost = estimate(open.model.as_ref(), n, &spec);
        with_room(store, || ctx.fits(cost.capture_bytes + cost.peak_bytes, "shorten the prompt"))?;
    }
    if !open.model.info().towers.contains_key(&Tower::Text) {
        request.prompt = None;
    }
    run(open.model.as_ref(), open.tokenizer.as_ref(), &request, &spec, ctx)
}

fn lens(key: &RunKey, store: &dyn Store, ctx: &Ctx) -> Result<Lens> {
    let (t, open) = (trace_of(key, store, ctx)?, model_of(key, store, ctx)?);
    let model: &dyn Model = open.model.as_ref();
    let n_layers = t.tower(Tower::Text)?.n_layers;
    let mut top = Vec::new();
    for layer in 0..n_layers {
        ctx.step(layer, n_layers)?;
        let e = t.get(Tower::Text, layer, Site::ResidPost)?;
        let resid = candle_core::Tensor::from_slice(e.array.data(), e.array.shape().to_vec(), model.device())?;
        let rows = model.lens(&resid)?.to_vec2::<f32>()?;
        let read = |row: Vec<f32>| {
            let best = argmax(&row).unwrap_or(0);
            let sum: f32 = row.iter().map(|x| (x - row[best]).exp()).sum();
            (open.tokenizer.as_ref().map_or_else(|| format!("<{best}>"), |t| t.token_text(best as u32)), 1.0 / sum)
        };
        top.push(rows.into_iter().map(read).collect());
    }
    Ok(Lens { top })
}
