//! How time and memory of the slowest work grow while its input doubles. Of each size the middle time of some calls, the
//! power of the size that the step to it is, and, where the system says it, how much memory the process held at most
//! beyond what it held before.

mod shared;

use shared::traced;
use std::hint::black_box;
use std::time::Instant;
use tokenscope_analysis::array::Array;
use tokenscope_analysis::method::Params;
use tokenscope_analysis::passes::attention_tile::{self, Reduce};
use tokenscope_analysis::passes::farthest_first::{self, Selection, Start};
use tokenscope_analysis::passes::samples::{OwnedHead, values};
use tokenscope_analysis::passes::{attention_map, bipartite_matching};
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::{CaptureSpec, Site, Tower};
use tokenscope_analysis::{Ctx, Subject, flow, score};

/// Bytes that the process holds now, and the most that it held since [`forget_peak`].
fn resident() -> Option<[f64; 2]> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let of = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name))?;
        line.trim_start_matches(':').trim().split(' ').next()?.parse::<f64>().ok().map(|kb| kb * 1024.0)
    };
    Some([of("VmRSS")?, of("VmHWM")?])
}

fn forget_peak() -> bool {
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// Seconds of the middle one of some calls, and bytes beyond those held before.
fn measured<T>(f: &mut dyn FnMut() -> T) -> (f64, Option<f64>) {
    let before = forget_peak().then(resident).flatten();
    let mut times = Vec::new();
    while times.len() < 3 || times.len() < 15 && times.iter().sum::<f64>() < 1.0 {
        let start = Instant::now();
        black_box(f());
        times.push(start.elapsed().as_secs_f64());
        if times[0] > 10.0 {
            break;
        }
    }
    times.sort_unstable_by(f64::total_cmp);
    let bytes = before.zip(resident()).map(|([before, _], [_, most])| most - before);
    (times[times.len() / 2], bytes)
}

/// The rows of one kind of work; `make` makes what is called for a size.
fn rows<'a, T>(name: &str, sizes: &[usize], mut make: impl FnMut(usize) -> Box<dyn FnMut() -> T + 'a>) {
    if std::env::args().skip(1).any(|a| !a.starts_with('-') && !name.contains(&a)) {
        return;
    }
    println!("\n{name}");
    let mut last: Option<(f64, f64)> = None;
    for &n in sizes {
        let (seconds, bytes) = measured(&mut *make(n));
        let size = n as f64;
        let power = last.map(|(n, s)| (seconds / s).ln() / (size / n).ln());
        let power = power.map_or(String::new(), |p| format!("n^{p:.2}"));
        let bytes = bytes.map_or(String::new(), |b| format!("{:8.1} MB", b / 1e6));
        println!("  {n:>9}  {:10.2} ms  {power:>7}  {bytes}", seconds * 1e3);
        last = Some((size, seconds));
    }
}

fn all() {
    let ctx = &Ctx::default();
    const WIDTH: usize = 1024;
    let points = |n: usize| Array::new([n, WIDTH], values(n * WIDTH, 3)).expect("as many values");
    rows("farthest-first selection of a tenth of n points", &[720, 1440, 2880, 5760], |n| {
        let (x, what) = (points(n), Selection { k: n / 10, start: Start::Loneliest, repeats: true });
        Box::new(move || farthest_first::fast(&x, &what, ctx))
    });
    rows("bipartite matching of n points", &[720, 1440, 2880, 5760], |n| {
        let x = points(n);
        Box::new(move || bipartite_matching::fast(&x, 0))
    });
    rows("one map of n tokens in 1,024 × 1,024", &[4096, 8192, 16_384, 32_768], |n| {
        let owned = OwnedHead::new(1, 1, 64, n, 1);
        Box::new(move || attention_tile::overview(&owned.head().expect("a head"), 1024, Reduce::Max, ctx))
    });
    let (_dir, own) = shared::gpt2(12, 12, 50_257);
    let own = own.as_ref();
    rows("a pass over n tokens", &[256, 512, 1024, 2048, 4096], |n| {
        Box::new(move || traced(own, n, &CaptureSpec::sites(&[Site::Logits])))
    });
    rows("a traced pass over n tokens", &[256, 512, 1024, 2048, 4096], |n| {
        Box::new(move || traced(own, n, &CaptureSpec::views()))
    });
    rows("one layer's maps of n tokens", &[512, 1024, 2048, 4096], |n| {
        let trace = traced(own, n, &CaptureSpec::views());
        Box::new(move || attention_map::of_layer(&trace, Tower::Text, 0, 5, ctx))
    });
    for (name, sizes) in [("attention_rollout", [512, 1024, 2048]), ("gradient_input", [256, 512, 1024])] {
        rows(&format!("{name} of n tokens"), &sizes, |n| {
            let (score, trace) = (score::find(name).expect("a score"), traced(own, n, &CaptureSpec::views()));
            Box::new(move || {
                score.score(&Subject::new(&trace).with_model(own), &Params::new(), ctx).map(|_| ()).expect("a score")
            })
        });
    }
    rows("contribution routes of n tokens", &[128, 256, 512], |n| {
        let (graph, trace) =
            (flow::find("information_flow_routes").expect("a graph"), traced(own, n, &CaptureSpec::views()));
        Box::new(move || {
            graph.graph(&Subject::new(&trace).with_model(own), &Params::new(), ctx).map(|_| ()).expect("a graph")
        })
    });
    let (_dir, small) = shared::gpt2(12, 2, 1000);
    let small = small.as_ref();
    rows("attention flow of n tokens, 12 layers", &[64, 128, 256, 512], |n| {
        let (score, trace) = (score::find("attention_flow").expect("a score"), traced(small, n, &CaptureSpec::views()));
        Box::new(move || {
            score.score(&Subject::new(&trace).with_model(small), &Params::new(), ctx).map(|_| ()).expect("a score")
        })
    });
    rows("cl100k_base of n bytes, with offsets", &[1_000_000, 2_000_000, 4_000_000, 8_000_000], |n| {
        let line = "The naïve fox (aged 12) didn't jump; 漢字 and many more words go on and on.\n";
        let text = line.repeat(n / line.len());
        let own = Tokenizer::named("cl100k_base").expect("a built-in vocabulary");
        Box::new(move || own.encode(&text, None, true))
    });
}

fn main() {
    shared::as_the_program(all);
}
