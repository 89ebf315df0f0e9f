//! Passes on their sides, in one run: the plain f64 loop, the fast CPU path, and the graphics adapter where there is
//! one (a software adapter is named as such). At the end the ratios are printed.

use criterion::Criterion;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokenscope_analysis::Ctx;
use tokenscope_analysis::array::Array;
use tokenscope_analysis::gpu::Gpu;
use tokenscope_analysis::passes::attention_tile::{Reduce, Window};
use tokenscope_analysis::passes::farthest_first::{Selection, Start};
use tokenscope_analysis::passes::samples::{OwnedHead, values};
use tokenscope_analysis::passes::{attention_row_stats, attention_tile, cosine_matrix, farthest_first, top_k};

/// Mean times by pass, then by side.
type Times = BTreeMap<&'static str, Vec<(String, Duration)>>;

struct Bench<'c> {
    criterion: &'c mut Criterion,
    times: Times,
}

impl Bench<'_> {
    fn run<T>(&mut self, pass: &'static str, side: &str, mut f: impl FnMut() -> T) {
        let (mut total, mut n) = (Duration::ZERO, 0u32);
        self.criterion.bench_function(&format!("{pass}/{side}"), |b| {
            b.iter_custom(|iters| {
                let start = Instant::now();
                for _ in 0..iters {
                    black_box(f());
                }
                let took = start.elapsed();
                total += took;
                n += iters as u32;
                took
            });
        });
        if n > 0 {
            self.times.entry(pass).or_default().push((side.to_string(), total / n));
        }
    }
}

fn attention(bench: &mut Bench, gpu: Option<&Arc<Gpu>>, side: &str) {
    let ctx = Ctx::default();
    // The statistics of one head of a usual input.
    let owned = OwnedHead::new(1, 1, 64, 1024, 1);
    let head = owned.head().expect("the head is well formed");
    bench.run("attention_row_stats, 1,024 tokens", "plain f64", || attention_row_stats::cpu(&head));
    bench.run("attention_row_stats, 1,024 tokens", "fast CPU", || attention_row_stats::fast(&head, &ctx));
    if let Some(g) = gpu {
        bench.run("attention_row_stats, 1,024 tokens", side, || attention_row_stats::gpu(&head, g, &ctx));
    }
    let whole = Window::whole(&head, 24, Reduce::Max);
    let stats = attention_row_stats::fast(&head, &ctx).expect("statistics");
    bench.run("attention_tile, 1,024 tokens in 24 × 24", "plain f64", || attention_tile::cpu(&head, &whole));
    bench.run("attention_tile, 1,024 tokens in 24 × 24", "fast CPU", || {
        attention_tile::fast(&head, Some(&stats), &whole, &ctx)
    });
    if let Some(g) = gpu {
        bench.run("attention_tile, 1,024 tokens in 24 × 24", side, || {
            attention_tile::gpu(&head, Some(&stats), &whole, g, &ctx)
        });
    }
    // A window of a very long head. Its last 512 queries are the map's last rows; every row's statistics are known,
    // as they are in the window once a head was opened.
    let n = 131_072;
    let long = OwnedHead::new(1, 1, 64, n, 2);
    let head = long.head().expect("the head is well formed");
    let name = "attention_tile, 512 × 4,096 of 131,072 tokens in 512 × 512";
    let window = Window { queries: n - 512..n, keys: 100_000..104_096, rows: 512, cols: 512, reduce: Reduce::Max };
    let known = attention_row_stats::RowStats {
        max: vec![0.0; n],
        log_sum: vec![12.0; n],
        entropy: vec![0.0; n],
        distance: vec![0.0; n],
    };
    bench.run(name, "fast CPU", || attention_tile::fast(&head, Some(&known), &window, &ctx));
    if let Some(g) = gpu {
        bench.run(name, &format!("{side}, copied each time"), || {
            attention_tile::gpu(&head, Some(&known), &window, g, &ctx)
        });
    }
}

fn matrices(bench: &mut Bench, gpu: Option<&Arc<Gpu>>, side: &str) {
    let ctx = Ctx::default();
    let x = Array::new([576, 1024], values(576 * 1024, 3)).expect("as many values");
    bench.run("cosine_matrix, 576 × 1,024", "plain f64", || cosine_matrix::cpu(&x, &x));
    bench.run("cosine_matrix, 576 × 1,024", "fast CPU", || cosine_matrix::fast(&x, &x));
    let what = Selection { k: 58, start: Start::Loneliest, repeats: true };
    bench.run("farthest_first, 58 of 576 × 1,024", "plain f64", || farthest_first::cpu(&x, &what, &ctx));
    bench.run("farthest_first, 58 of 576 × 1,024", "fast CPU", || farthest_first::fast(&x, &what, &ctx));
    let row = Array::new([1, 131_072], values(131_072, 4)).expect("as many values");
    bench.run("top_k, 1,000 of 131,072", "plain f64", || top_k::cpu(&row, 1000));
    bench.run("top_k, 1,000 of 131,072", "fast CPU", || top_k::fast(&row, 1000));
    if let Some(g) = gpu {
        bench.run("cosine_matrix, 576 × 1,024", side, || cosine_matrix::gpu(&x, &x, g, &ctx));
        bench.run("farthest_first, 58 of 576 × 1,024", side, || farthest_first::gpu(&x, &what, g, &ctx));
        bench.run("top_k, 1,000 of 131,072", side, || top_k::gpu(&row, 1000, g, &ctx));
    }
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let gpu = Gpu::headless().map(Arc::new);
    let side = gpu.as_ref().map_or(String::new(), |g| {
        let kind = if g.software { "software" } else { "hardware" };
        format!("{} ({}, {kind})", g.adapter.name, g.adapter.backend)
    });
    let mut bench = Bench { criterion: &mut criterion, times: Times::new() };
    attention(&mut bench, gpu.as_ref(), &side);
    matrices(&mut bench, gpu.as_ref(), &side);
    println!("\ntimes, and ratios to the fast CPU path of the same run");
    for (pass, sides) in &bench.times {
        println!("{pass}");
        let fast = sides.iter().find(|s| s.0 == "fast CPU").map(|s| s.1.as_secs_f64());
        for (side, time) in sides {
            let ratio = fast.map_or(f64::NAN, |f| time.as_secs_f64() / f);
            println!("  {:10.3} ms  {ratio:8.2} ×  {side}", time.as_secs_f64() * 1e3);
        }
    }
    criterion.final_summary();
}
