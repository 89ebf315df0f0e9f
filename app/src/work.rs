//! Carries out requests with the library. The window's jobs and the command line both come here.

use crate::request::{Call, Drafted, Lens, ModelSource, OpenModel, Product, Pruned, Request, RunKey};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;
use tokenscope_analysis::draft::DraftInput;
use tokenscope_analysis::flow::FlowInput;
use tokenscope_analysis::image::Processor;
use tokenscope_analysis::model::{self, Model};
use tokenscope_analysis::prune::{self, PruneInput};
use tokenscope_analysis::run::{RunRequest, argmax, estimate, run};
use tokenscope_analysis::score::ScoreInput;
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::{CaptureSpec, Site, Tower, Trace};
use tokenscope_analysis::{Ctx, Error, Result, draft, flow, passes, score, segment};

/// A run may keep and need this much together, in bytes.
const MEMORY_LIMIT: u64 = 8 << 30;

macro_rules! sample {
    ($name:literal) => {
        (
            $name,
            [
                ("config.json", include_bytes!(concat!("../../sample_data/models/", $name, "/config.json")).as_slice()),
                (
                    "model.safetensors",
                    include_bytes!(concat!("../../sample_data/models/", $name, "/model.safetensors")),
                ),
                ("tokenizer.json", include_bytes!(concat!("../../sample_data/models/", $name, "/tokenizer.json"))),
            ],
        )
    };
}

/// A file by name.
type Embedded = (&'static str, &'static [u8]);

/// The embedded models as files.
static SAMPLES: &[(&str, [Embedded; 3])] = &[sample!("sample-lm"), sample!("sample-draft")];

/// The folder of an embedded model, unpacked once per process, so that it loads through the same code as any.
fn unpack(name: &str) -> Result<PathBuf> {
    static LOCK: Mutex<()> = Mutex::new(());
    static ROOT: OnceLock<std::result::Result<tempfile::TempDir, String>> = OnceLock::new();
    let root = ROOT.get_or_init(|| tempfile::tempdir().map_err(|e| e.to_string()));
    let root = root.as_ref().map_err(|e| Error::invalid(format!("no temporary folder for the sample: {e}")))?;
    let (_, files) =
        SAMPLES.iter().find(|s| s.0 == name).ok_or_else(|| Error::invalid(format!("no sample named {name}")))?;
    let _guard = LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let dir = root.path().join(name);
    if !dir.join("tokenizer.json").exists() {
        std::fs::create_dir_all(&dir).map_err(|e| Error::io(&dir, e))?;
        for (file, bytes) in files {
            std::fs::write(dir.join(file), bytes).map_err(|e| Error::io(dir.join(file), e))?;
        }
    }
    Ok(dir)
}

/// Opens a model with its tokenizer.
pub fn open(source: &ModelSource) -> Result<OpenModel> {
    let dir = match source {
        ModelSource::Sample(name) => unpack(name)?,
        ModelSource::Path(path) => path.clone(),
    };
    open_path(&dir)
}

/// Opens the model at `path` on the CPU and its tokenizer, where there is one.
pub fn open_path(path: &Path) -> Result<OpenModel> {
    let weights = tokenscope_analysis::weights::Weights::open(path)?;
    let model = model::from_weights(&weights, &candle_core::Device::Cpu)?;
    let file = weights.dir().join("tokenizer.json");
    let tokenizer = if file.exists() { Some(Tokenizer::load(&file)?) } else { None };
    let processor = Processor::load(&weights)?;
    Ok(OpenModel { model, tokenizer, processor })
}

/// Products made before, and a way to make those that a request builds on.
pub trait Store: Sync {
    /// The product of `request`, made now if it is not there.
    fn get(&self, request: &Request, ctx: &Ctx) -> Result<Product>;
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

/// Carries out `request`.
pub fn carry_out(request: &Request, store: &dyn Store, ctx: &Ctx) -> Result<Product> {
    Ok(match request {
        Request::Model(source) => Product::Model(Arc::new(open(source)?)),
        Request::Trace(key) => Product::Trace(Arc::new(trace(key, store, ctx)?)),
        Request::Segment(key) => {
            let open = model_of(key, store, ctx)?;
            let mut rows = Vec::new();
            if let Some(t) = &open.tokenizer {
                rows.push(segment::by_tokenizer("this model", t, &key.prompt)?);
            }
            for (i, name) in segment::BUILT_IN.iter().enumerate() {
                ctx.step(i, segment::BUILT_IN.len())?;
                rows.push(segment::built_in(name, &key.prompt)?);
            }
            Product::Segment(Arc::new(rows))
        }
        Request::Map(key, layer, head) => {
            let t = trace_of(key, store, ctx)?;
            Product::Map(Arc::new(passes::attention_map::of_trace(&t, t.main_tower(), 0, *layer, *head)?))
        }
        Request::Score(key, target, call) => {
            let (t, open) = (trace_of(key, store, ctx)?, model_of(key, store, ctx)?);
            let input =
                ScoreInput { trace: &t, tower: t.main_tower(), target: *target, model: Some(open.model.as_ref()) };
            Product::Score(Arc::new(score::find(&call.method)?.score(&input, &call.params(), ctx)?))
        }
        Request::Prune(key, call) => Product::Prune(Arc::new(pruned(key, call, store, ctx)?)),
        Request::Flow(key, call) => {
            let (t, open) = (trace_of(key, store, ctx)?, model_of(key, store, ctx)?);
            let input = FlowInput { trace: &t, tower: t.main_tower(), model: Some(open.model.as_ref()) };
            Product::Flow(Arc::new(flow::find(&call.method)?.graph(&input, &call.params(), ctx)?))
        }
        Request::Lens(key) => Product::Lens(Arc::new(lens(key, store, ctx)?)),
        Request::Draft(key, draft_model, call) => {
            let open = model_of(key, store, ctx)?;
            let small = model_of(&RunKey { model: draft_model.clone(), prompt: String::new() }, store, ctx)?;
            let tokenizer =
                open.tokenizer.as_ref().ok_or_else(|| Error::invalid("this model has no tokenizer.json"))?;
            let prompt = tokenizer.encode(&key.prompt, None, true)?.ids;
            let input = DraftInput {
                target: open.model.as_ref(),
                draft: Some(small.model.as_ref()),
                prompt: &prompt,
                end: &[],
            };
            let run = draft::find(&call.method)?.run(&input, &call.params(), ctx, &mut |_| ())?;
            let mut text = BTreeMap::new();
            let ids = run
                .rounds
                .iter()
                .flat_map(|r| r.nodes.iter().map(|n| n.token).chain(r.emitted.iter().copied()).chain([r.root]));
            for id in ids {
                text.entry(id).or_insert_with(|| tokenizer.token_text(id));
            }
            Product::Draft(Arc::new(Drafted { run, text }))
        }
    })
}

fn trace(key: &RunKey, store: &dyn Store, ctx: &Ctx) -> Result<Trace> {
    let open = model_of(key, store, ctx)?;
    let spec = CaptureSpec::views();
    if let Some(t) = &open.tokenizer {
        let n = t.encode(&key.prompt, None, true)?.ids.len();
        let cost = estimate(open.model.as_ref(), n, &spec);
        let need = cost.capture_bytes + cost.peak_bytes;
        if need > MEMORY_LIMIT {
            let remedy = "shorten the prompt".to_string();
            return Err(Error::Memory { need_mb: need >> 20, limit_mb: MEMORY_LIMIT >> 20, remedy });
        }
    }
    let request = RunRequest { prompt: Some(key.prompt.clone()), ..RunRequest::default() };
    run(open.model.as_ref(), open.tokenizer.as_ref(), &request, &spec, ctx)
}

fn pruned(key: &RunKey, call: &Call, store: &dyn Store, ctx: &Ctx) -> Result<Pruned> {
    let (t, open) = (trace_of(key, store, ctx)?, model_of(key, store, ctx)?);
    let input = PruneInput { trace: &t, tower: t.main_tower(), model: Some(open.model.as_ref()) };
    let plan = prune::find(&call.method)?.plan(&input, &call.params(), ctx)?;
    let start = Instant::now();
    let judgement = prune::judge(open.model.as_ref(), &t, &plan, &|| start.elapsed(), ctx)?;
    let name = |list: &[(u32, f32)]| -> Vec<(String, f32)> {
        let text = |id| open.tokenizer.as_ref().map_or_else(|| format!("<{id}>"), |t| t.token_text(id));
        list.iter().map(|&(id, p)| (text(id), p)).collect()
    };
    let (full, reduced) = (name(&judgement.full_top), name(&judgement.reduced_top));
    Ok(Pruned { fates: plan.outcome()?.fates, judgement, full, reduced })
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
