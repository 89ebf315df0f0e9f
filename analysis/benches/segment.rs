//! What a key press costs: cutting a text of 100 kB, and breaking it into lines that the rows share.

use criterion::{Criterion, Throughput};
use std::hint::black_box;
use tokenscope_analysis::Ctx;
use tokenscope_analysis::segment::text::{Strip, rows};
use tokenscope_analysis::threads::alone;

fn segment(c: &mut Criterion) {
    let line = "The naïve fox (aged 12) didn't jump; 漢字 and many more words go on and on.\n";
    let text = line.repeat(100_000 / line.len());
    let ctx = Ctx::default();
    let mut group = c.benchmark_group("segment 100 kB");
    group.throughput(Throughput::Bytes(text.len() as u64));
    for name in ["r50k_base", "cl100k_base", "o200k_base", "words"] {
        group.bench_function(name, |b| b.iter(|| rows(&[], &[name], black_box(&text), &ctx).expect("a built-in row")));
    }
    let all = rows(&[], &["r50k_base", "cl100k_base", "o200k_base", "words"], &text, &ctx).expect("built-in rows");
    group.bench_function("lines of four rows", |b| {
        b.iter(|| Strip::new(black_box(&text), &all, 80, &ctx).expect("a text of this size"))
    });
    let strip = Strip::new(&text, &all, 80, &ctx).expect("a text of this size");
    group.bench_function("one line on screen", |b| b.iter(|| strip.line(&text, &all, black_box(500))));
    group.finish();
}

fn main() {
    alone(all);
}

fn all() {
    let mut c = Criterion::default().configure_from_args();
    segment(&mut c);
    c.final_summary();
}
