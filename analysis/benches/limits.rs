//! How far the slowest work is from what the machine could do: each row's time as a multiple of a limit that is
//! measured in the same run, in turns with it. The limit is the time that a large matrix product takes for as many
//! multiplications as the row cannot do without, or the bare library where the work is a library's.

mod shared;

use candle_core::{Device, Tensor};
use criterion::Criterion;
use std::hint::black_box;
use std::time::{Duration, Instant};
use tokenscope_analysis::array::Array;
use tokenscope_analysis::image::ImageInput;
use tokenscope_analysis::method::Params;
use tokenscope_analysis::names::to_transformers;
use tokenscope_analysis::passes::attention_tile::{self, Reduce};
use tokenscope_analysis::passes::farthest_first::{self, Selection, Start};
use tokenscope_analysis::passes::samples::{OwnedHead, values};
use tokenscope_analysis::passes::{attention_map, bipartite_matching};
use tokenscope_analysis::run::{RunRequest, run};
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::{CaptureSpec, Site, Tower};
use tokenscope_analysis::{Ctx, Subject, flow, score};

/// What a row is measured by.
enum Limit<'a> {
    /// Multiplications, each with an addition, by a matrix product.
    Products(f64),
    /// The bare work of a library.
    Bare(&'a dyn Fn()),
}

struct Bench {
    criterion: Criterion,
    factor: Tensor,
    lines: Vec<String>,
}

/// Side of the product that the machine is measured by.
const SIDE: usize = 1024;

impl Bench {
    fn row<T>(&mut self, name: &str, limit: Limit, mut f: impl FnMut() -> T) {
        let (mut own, mut other) = (Vec::new(), Vec::new());
        let factor = &self.factor;
        self.criterion.bench_function(name, |b| {
            b.iter_custom(|iters| {
                // In turns, but each several times on end, as the peers are measured: a large product between two calls
                // would take away what the caches hold.
                let mut total = Duration::ZERO;
                for _ in 0..iters {
                    let start = Instant::now();
                    black_box(f());
                    let took = start.elapsed();
                    own.push(took.as_secs_f64());
                    total += took;
                }
                for _ in 0..iters {
                    let start = Instant::now();
                    match limit {
                        Limit::Products(_) => drop(black_box(factor.matmul(factor).expect("a square product"))),
                        Limit::Bare(bare) => bare(),
                    }
                    other.push(start.elapsed().as_secs_f64());
                }
                total
            });
        });
        if own.is_empty() {
            return;
        }
        let (own, other) = (median(own), median(other));
        let limit = match limit {
            Limit::Products(n) => other * n / (SIDE * SIDE * SIDE) as f64,
            Limit::Bare(_) => other,
        };
        self.lines.push(format!("{:10.2} ms  {:10.2} ms  {:6.2} ×  {name}", own * 1e3, limit * 1e3, own / limit));
    }
}

fn median(mut x: Vec<f64>) -> f64 {
    x.sort_unstable_by(f64::total_cmp);
    x[x.len() / 2]
}

fn selections(bench: &mut Bench, ctx: &Ctx) {
    const WIDTH: usize = 1024;
    for n in [2880, 576] {
        let x = Array::new([n, WIDTH], values(n * WIDTH, 3)).expect("as many values");
        let what = Selection { k: n / 10, start: Start::Loneliest, repeats: true };
        let pairs = (n * (n + 1) / 2 * WIDTH) as f64;
        bench.row(&format!("farthest of {n} × {WIDTH}"), Limit::Products(pairs), || {
            farthest_first::fast(&x, &what, ctx)
        });
        let pairs = (n / 2 * (n / 2) * WIDTH) as f64;
        bench.row(&format!("matching of {n} × {WIDTH}"), Limit::Products(pairs), || bipartite_matching::fast(&x, 0));
    }
}

fn maps(bench: &mut Bench, ctx: &Ctx) {
    let n = 16_384;
    let owned = OwnedHead::new(1, 1, 64, n, 1);
    let head = owned.head().expect("the head is well formed");
    let limit = Limit::Products((n * n / 2 * 64) as f64);
    bench.row("a map of 16,384 tokens in 2,048 × 2,048", limit, || {
        attention_tile::overview(&head, 2048, Reduce::Max, ctx)
    });
}

/// Multiplications of one pass over `n` tokens: maps of every layer, and attention over what is seen.
fn pass(layers: usize, heads: usize, n: usize) -> f64 {
    let width = 64 * heads;
    (layers * (12 * n * width * width + n * n * width)) as f64
}

fn models(bench: &mut Bench, ctx: &Ctx) {
    let (layers, heads) = (12, 12);
    let (_dir, own) = shared::gpt2(layers, heads, 50_257);
    for n in [256, 1024] {
        let work = pass(layers, heads, n);
        let quiet = CaptureSpec::sites(&[Site::Logits]);
        bench
            .row(&format!("a pass over {n} tokens"), Limit::Products(work), || shared::traced(own.as_ref(), n, &quiet));
        bench.row(&format!("a traced pass over {n} tokens"), Limit::Products(work), || {
            shared::traced(own.as_ref(), n, &CaptureSpec::views())
        });
    }
    let trace = shared::traced(own.as_ref(), 1024, &CaptureSpec::views());
    let scores = (layers * heads * 1024 * 1024 / 2 * 64) as f64;
    bench.row("all maps of 1,024 tokens", Limit::Products(scores), || {
        (0..layers).map(|l| attention_map::of_layer(&trace, Tower::Text, 0, l, ctx)).collect::<Vec<_>>()
    });
    let whole = Limit::Products(pass(layers, heads, 1024) + scores);
    bench.row("a traced pass over 1,024 tokens and its maps by name", whole, || {
        to_transformers(&shared::traced(own.as_ref(), 1024, &CaptureSpec::views()), ctx)
    });
    let rollout = score::find("attention_rollout").expect("a score of the library");
    // A trace holds queries and keys; products of whole maps are not needed for one row.
    bench.row("attention rollout, 1,024 tokens", Limit::Products(scores), || {
        rollout.score(&Subject::new(&trace), &Params::new(), ctx).expect("a score")
    });
    // A way back that leaves the weights alone costs as much as the way there.
    let n = 256;
    let trace = shared::traced(own.as_ref(), n, &CaptureSpec::views());
    let gradient = score::find("gradient_input").expect("a score of the library");
    bench.row(&format!("gradient x input, {n} tokens"), Limit::Products(2.0 * pass(layers, heads, n)), || {
        gradient.score(&Subject::new(&trace).with_model(own.as_ref()), &Params::new(), ctx).expect("a score")
    });
    let routes = flow::find("information_flow_routes").expect("a graph of the library");
    // Each head's part of each pair of tokens is looked at as a whole.
    let parts = (layers * heads * n * n / 2 * 64 * heads) as f64;
    bench.row(&format!("contribution routes, {n} tokens"), Limit::Products(parts), || {
        routes.graph(&Subject::new(&trace).with_model(own.as_ref()), &Params::new(), ctx).expect("a graph")
    });
    let (_dir, small) = shared::gpt2(layers, 2, 1000);
    let n = 128;
    let trace = shared::traced(small.as_ref(), n, &CaptureSpec::views());
    // Each input's flow sees each capacity once at least.
    let flow = score::find("attention_flow").expect("a score of the library");
    let name = format!("attention flow, {n} tokens, {layers} layers");
    bench.row(&name, Limit::Products((n * layers * n * n / 2) as f64), || {
        flow.score(&Subject::new(&trace).with_model(small.as_ref()), &Params::new(), ctx).expect("a score")
    });
}

fn pictures(bench: &mut Bench, ctx: &Ctx) {
    let (layers, heads, side) = (12, 12, 384);
    let (_dir, own) = shared::vit(layers, heads, side);
    let pixels = Tensor::rand(-1f32, 1f32, (3, side, side), &Device::Cpu).expect("random pixels");
    let image = ImageInput {
        tiles: vec![pixels],
        rects: vec![[0.0, 0.0, side as f32, side as f32]],
        layout: (1, 1),
        original: (0, 0),
        grid: None,
        at: [0.0; 2],
        rest: Vec::new(),
    };
    let request = RunRequest { image: Some(image), ..RunRequest::default() };
    let n = (side / 16) * (side / 16) + 1;
    // Every patch sees every other one.
    let work = pass(layers, heads, n) + (layers * n * n * 64 * heads) as f64;
    let traced = || run(own.as_ref(), None, &request, &CaptureSpec::views(), ctx).expect("the run works");
    bench.row("a traced pass over a picture of 384 × 384", Limit::Products(work), traced);
    let scores = (layers * heads * n * n * 64) as f64;
    bench.row("a traced pass over a picture and its maps by name", Limit::Products(work + scores), || {
        to_transformers(&traced(), ctx)
    });
}

fn tokenizers(bench: &mut Bench) {
    let line = "The naïve fox (aged 12) didn't jump; 漢字 and many more words go on and on.\n";
    let text = line.repeat(4_000_000 / line.len());
    for (name, bare) in
        [("cl100k_base", tiktoken_rs::cl100k_base_singleton()), ("o200k_base", tiktoken_rs::o200k_base_singleton())]
    {
        let own = Tokenizer::named(name).expect("a built-in vocabulary");
        let bare = || drop(black_box(bare.encode_ordinary(&text)));
        bench.row(&format!("{name} with offsets, 4 MB"), Limit::Bare(&bare), || own.encode(&text, None, true));
    }
}

fn main() {
    shared::as_the_program(rows);
}

fn rows() {
    let criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let factor = Tensor::rand(-1f32, 1f32, (SIDE, SIDE), &Device::Cpu).expect("a random matrix");
    let mut bench = Bench { criterion, factor, lines: Vec::new() };
    let ctx = Ctx::default();
    selections(&mut bench, &ctx);
    maps(&mut bench, &ctx);
    models(&mut bench, &ctx);
    pictures(&mut bench, &ctx);
    tokenizers(&mut bench);
    println!("\n      time         limit      ratio   row");
    bench.lines.iter().for_each(|l| println!("{l}"));
    bench.criterion.final_summary();
}
