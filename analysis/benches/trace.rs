//! A model of GPT-2 small's shape with random weights: one pass over 1,024 tokens with and without a trace, the ratio
//! of the two, decoding with a cache, and an image encoder of ViT-B/16's shape at 384 pixels beside a matrix product of
//! as many multiplications: how long both take, and how much of a second core each uses.

mod shared;

use candle_core::{Device, Tensor};
use criterion::Criterion;
use std::time::Instant;
use tokenscope_analysis::Ctx;
use tokenscope_analysis::image::ImageInput;
use tokenscope_analysis::model::{Input, KvCache, LogitRows, Model};
use tokenscope_analysis::run::{RunRequest, run};
use tokenscope_analysis::trace::{CaptureSpec, NoTap, Site, Trace};

const TOKENS: usize = 1024;
const VOCAB: usize = 50_257;

fn ids() -> Vec<u32> {
    (0..TOKENS as u32).map(|i| i * 37 % VOCAB as u32).collect()
}

/// One run that keeps what the views need, or nothing but the last logits.
fn pass(model: &dyn Model, traced: bool) -> Trace {
    let spec = if traced { CaptureSpec::views() } else { CaptureSpec::sites(&[Site::Logits]) };
    shared::traced(model, TOKENS, &spec)
}

fn trace(c: &mut Criterion, model: &dyn Model) {
    let mut group = c.benchmark_group("gpt2_small_shape_1024_tokens");
    group.sample_size(10);
    group.bench_function("traced", |b| b.iter(|| pass(model, true)));
    group.bench_function("untraced", |b| b.iter(|| pass(model, false)));
    group.bench_function("traced_all_logits", |b| {
        let request = RunRequest { ids: Some(ids()), ..RunRequest::default() };
        b.iter(|| run(model, None, &request, &CaptureSpec::views(), &Ctx::default()).expect("the run works"));
    });
    group.finish();
}

/// Tokens one at a time behind 512 cached ones.
fn decode(c: &mut Criterion, model: &dyn Model) {
    let mut cache = KvCache::default();
    let step = |ids: Vec<u32>, cache: &mut KvCache| {
        let mut input = Input { ids, cache: Some(cache), logits: Some(LogitRows::Last), ..Input::default() };
        model.forward(&mut input, &mut NoTap, &Ctx::default()).expect("the pass works")
    };
    step(ids()[..TOKENS / 2].to_vec(), &mut cache);
    let mut group = c.benchmark_group("gpt2_small_shape_decode");
    group.sample_size(20);
    group.bench_function("one_token_behind_512", |b| {
        b.iter(|| {
            step(vec![7], &mut cache);
            cache.truncate(TOKENS / 2).expect("the rows are there");
        });
    });
    group.finish();
}

/// What watching costs, measured in turns so that both see the same machine.
fn ratio(model: &dyn Model) {
    let time = |traced: bool| {
        let start = Instant::now();
        pass(model, traced);
        start.elapsed().as_secs_f64()
    };
    let mut pairs: Vec<(f64, f64)> = (0..7).map(|_| (time(true), time(false))).collect();
    pairs.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
    let (traced, untraced) = pairs[pairs.len() / 2];
    let kept = pass(model, true).size_bytes() as f64 / 1e6;
    println!(
        "traced / untraced: {:.2} (median of 7 pairs; that one {traced:.2} s and {untraced:.2} s); {kept:.0} MB kept",
        traced / untraced
    );
}

/// Layers, heads and width of the encoder.
const LAYERS: usize = 12;
const HEADS: usize = 12;
const WIDTH: usize = 64 * HEADS;
/// Patches of 384 × 384 pixels.
const PATCHES: usize = 24 * 24;
/// Side of the product that the machine is measured by.
const SIDE: usize = 1024;

fn encoder() {
    let (_dir, model) = shared::vit(LAYERS, HEADS, 384);
    let pixels = Tensor::rand(-1f32, 1f32, (3, 384, 384), &Device::Cpu).expect("a random picture");
    let rects = vec![[0.0, 0.0, 384.0, 384.0]];
    let image = ImageInput {
        tiles: vec![pixels],
        rects,
        layout: (1, 1),
        original: (384, 384),
        grid: None,
        at: [0.0; 2],
        rest: vec![],
    };
    let request = RunRequest { image: Some(image), ..RunRequest::default() };
    let factor = Tensor::rand(-1f32, 1f32, (SIDE, SIDE), &Device::Cpu).expect("a random matrix");
    let n = PATCHES + 1;
    let work = LAYERS * (12 * n * WIDTH * WIDTH + 2 * n * n * WIDTH);
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool of one thread");
    let pass = || drop(run(model.as_ref(), None, &request, &CaptureSpec::views(), &Ctx::default()).expect("it runs"));
    let product = || drop(std::hint::black_box(factor.matmul(&factor).expect("a square product")));
    let secs = |f: &dyn Fn()| {
        let start = Instant::now();
        f();
        start.elapsed().as_secs_f64()
    };
    let (mut own, mut own_alone, mut limit, mut limit_alone) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..7 {
        own.push(secs(&pass));
        limit.push(secs(&product));
        own_alone.push(alone.install(|| secs(&pass)));
        limit_alone.push(alone.install(|| secs(&product)));
    }
    let best = |x: Vec<f64>| x.into_iter().fold(f64::INFINITY, f64::min);
    let products = work as f64 / (SIDE * SIDE * SIDE) as f64;
    let (own, limit) = (best(own), best(limit) * products);
    println!(
        "encoder of {n} rows: {own:.2} s, {:.2} of its products in {limit:.2} s; a second core gives {:.2} and {:.2}",
        own / limit,
        best(own_alone) / own,
        best(limit_alone) * products / limit,
    );
}

fn main() {
    shared::as_the_program(all);
}

fn all() {
    let mut criterion = Criterion::default().configure_from_args();
    let (_dir, model) = shared::gpt2(12, 12, VOCAB);
    trace(&mut criterion, model.as_ref());
    decode(&mut criterion, model.as_ref());
    if std::env::args().any(|a| a == "--bench") {
        ratio(model.as_ref());
        encoder();
    }
    criterion.final_summary();
}
