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
use tokenscope_analysis::passes::cosine_transform::{Along, Norm};
use tokenscope_analysis::passes::farthest_first::{Selection, Start};
use tokenscope_analysis::passes::marginal_relevance::Rule;
use tokenscope_analysis::passes::pair_energy::Pair;
use tokenscope_analysis::passes::samples::{OwnedHead, values};
use tokenscope_analysis::passes::{
    attention_row_stats, attention_tile, bipartite_matching, cosine_matrix, cosine_transform, farthest_first,
    marginal_relevance, nearest_centre, pair_energy, row_entropy, top_k,
};
use tokenscope_analysis::threads::alone;

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

/// Every selection of the pruning lab at a picture's and at several tiles' tokens.
fn selections(bench: &mut Bench, gpu: Option<&Arc<Gpu>>, side: &str) {
    let ctx = Ctx::default();
    for (n, [rows, cols], names) in [(576, [24, 24], &SELECTIONS_576), (2880, [48, 60], &SELECTIONS_2880)] {
        let x = Array::new([n, 1024], values(n * 1024, 5)).expect("as many values");
        let cosines = cosine_matrix::fast_itself(&x, &ctx).expect("cosines");
        let importance = values(n, 6);
        let (k, pair) = (n / 10, Pair::Elu { margin: 0.4, alpha: 1.0 });
        let rule = Rule { k, lambda: 0.5, at_once: 1 };
        let centres = Array::new([k, 1024], values(k * 1024, 7)).expect("as many values");
        let norm = Norm::Orthonormal;
        let (down, across) = (Along::squeeze(rows / 2, rows, norm), Along::squeeze(cols / 2, cols, norm));
        let lonely = Selection { k, start: Start::Loneliest, repeats: true };
        let given = Selection { k, start: Start::At(0), repeats: false };
        let shares = Array::new([n, 1024], x.data().iter().map(|v| (v + 1.0) / 2048.0).collect()).expect("as many");
        let [similarity, matching, max_min, k_centre, mmr, energy, entropy, clusters, transform] = *names;
        bench.run(similarity, "plain f64", || cosine_matrix::cpu(&x, &x));
        bench.run(similarity, "fast CPU", || cosine_matrix::fast_itself(&x, &ctx));
        bench.run(matching, "plain f64", || bipartite_matching::cpu(&x, 0));
        bench.run(matching, "fast CPU", || bipartite_matching::fast(&x, 0));
        bench.run(max_min, "plain f64", || farthest_first::cpu(&x, &lonely, &ctx));
        bench.run(max_min, "fast CPU", || farthest_first::fast(&x, &lonely, &ctx));
        bench.run(k_centre, "plain f64", || farthest_first::cpu(&x, &given, &ctx));
        bench.run(k_centre, "fast CPU", || farthest_first::fast(&x, &given, &ctx));
        bench.run(mmr, "plain f64", || marginal_relevance::cpu(&cosines, &importance, &rule, &ctx));
        bench.run(mmr, "fast CPU", || marginal_relevance::fast(&cosines, &importance, &rule, &ctx));
        bench.run(energy, "plain f64", || pair_energy::cpu(&cosines, pair));
        bench.run(energy, "fast CPU", || pair_energy::fast(&cosines, pair));
        bench.run(entropy, "plain f64", || row_entropy::cpu(&shares));
        bench.run(entropy, "fast CPU", || row_entropy::fast(&shares));
        bench.run(clusters, "plain f64", || nearest_centre::cpu(&x, &centres));
        bench.run(clusters, "fast CPU", || nearest_centre::fast(&x, &centres, &ctx));
        bench.run(transform, "plain f64", || cosine_transform::cpu(&x, &down, &across));
        bench.run(transform, "fast CPU", || cosine_transform::fast(&x, &down, &across, &ctx));
        let Some(g) = gpu else { continue };
        bench.run(similarity, side, || cosine_matrix::gpu(&x, &x, g, &ctx));
        bench.run(matching, side, || bipartite_matching::gpu(&x, 0, g, &ctx));
        bench.run(max_min, side, || farthest_first::gpu(&x, &lonely, g, &ctx));
        bench.run(k_centre, side, || farthest_first::gpu(&x, &given, g, &ctx));
        bench.run(mmr, side, || marginal_relevance::gpu(&cosines, &importance, &rule, g, &ctx));
        bench.run(energy, side, || pair_energy::gpu(&cosines, pair, g, &ctx));
        bench.run(entropy, side, || row_entropy::gpu(&shares, g, &ctx));
        bench.run(clusters, side, || nearest_centre::gpu(&x, &centres, g, &ctx));
        bench.run(transform, side, || cosine_transform::gpu(&x, &down, &across, g, &ctx));
    }
}

const SELECTIONS_576: [&str; 9] = [
    "similarity, 576 × 1,024",
    "matching, 576 × 1,024",
    "max-min, 57 of 576 × 1,024",
    "k-centre, 57 of 576 × 1,024",
    "marginal relevance, 57 of 576",
    "energy, 576 tokens",
    "entropy, 576 × 1,024",
    "nearest of 57 centres, 576 × 1,024",
    "cosine transform, 24 × 24 × 1,024 to a quarter",
];
const SELECTIONS_2880: [&str; 9] = [
    "similarity, 2,880 × 1,024",
    "matching, 2,880 × 1,024",
    "max-min, 288 of 2,880 × 1,024",
    "k-centre, 288 of 2,880 × 1,024",
    "marginal relevance, 288 of 2,880",
    "energy, 2,880 tokens",
    "entropy, 2,880 × 1,024",
    "nearest of 288 centres, 2,880 × 1,024",
    "cosine transform, 48 × 60 × 1,024 to a quarter",
];

fn main() {
    alone(all);
}

fn all() {
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
    selections(&mut bench, gpu.as_ref(), &side);
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
