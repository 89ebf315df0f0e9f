//! Prints how long frames of the window take on this machine: `cargo run --example frames [TOKENS…]`, and what keys
//! in a long prompt cost: `cargo run --example frames typing`.
//!
//! Time that egui needs on the CPU (all four views laid out, shapes tessellated) is told apart for a still window, a
//! pointer that moves over tokens, and a map that is zoomed. What the graphics device needs comes on top.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokenscope_analysis::Ctx;
use tokenscope_analysis::run::{RunRequest, run};
use tokenscope_analysis::trace::CaptureSpec;
use tokenscope_app::app::App;
use tokenscope_app::keys::ModelSource;
use tokenscope_app::state::{Command, Doc};

const FRAMES: usize = 60;

/// Time that this thread has had on a processor, so that what else the machine does counts little; `None` where the
/// system does not tell. Some systems count in steps of milliseconds, so only sums over many frames are exact.
fn on_processor() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

struct Window {
    ctx: egui::Context,
    app: App,
    time: f64,
}

impl Window {
    /// One frame with these events. Gives the time to lay out and the time to tessellate.
    fn frame(&mut self, events: Vec<egui::Event>) -> (Duration, Duration) {
        self.time += 1.0 / 60.0;
        let input = egui::RawInput {
            screen_rect: Some(egui::Rect::from_min_size(egui::Pos2::ZERO, egui::vec2(1280.0, 800.0))),
            time: Some(self.time),
            events,
            ..Default::default()
        };
        let start = Instant::now();
        let mut output = self.ctx.run_ui(input, |ui| self.app.frame(ui));
        let laid_out = start.elapsed();
        output.textures_delta.clear();
        let shapes = self.ctx.tessellate(output.shapes, output.pixels_per_point);
        std::hint::black_box(shapes);
        (laid_out, start.elapsed() - laid_out)
    }
}

/// Draws [`FRAMES`] frames and prints what they took.
fn report(name: &str, mut frame: impl FnMut(usize) -> (Duration, Duration)) {
    let before = on_processor();
    let times: Vec<(Duration, Duration)> = (0..FRAMES).map(&mut frame).collect();
    let spent = on_processor().zip(before).map(|(now, before)| (now - before).as_secs_f64() * 1e3 / FRAMES as f64);
    let column = |f: fn(&(Duration, Duration)) -> Duration| {
        let mut ms: Vec<f64> = times.iter().map(|t| f(t).as_secs_f64() * 1e3).collect();
        ms.sort_by(f64::total_cmp);
        (ms[ms.len() / 2], ms[ms.len() * 99 / 100])
    };
    let (layout, mesh, whole) = (column(|t| t.0), column(|t| t.1), column(|t| t.0 + t.1));
    let spent = spent.map_or(String::new(), |ms| format!(" · on the processor {ms:.2} ms a frame"));
    println!(
        "  {name:18} p50 {:6.2} p99 {:6.2} ms (layout {:.2}, {:.2}; tessellation {:.2}, {:.2}){spent}",
        whole.0, whole.1, layout.0, layout.1, mesh.0, mesh.1
    );
}

fn measure(tokens: usize) {
    let ctx = egui::Context::default();
    let mut doc = Doc::default();
    doc.apply(Command::Prompt(" fox and the owl".repeat(tokens.div_ceil(4)).into()));
    let start = Instant::now();
    let app = App::with_doc(&ctx, doc);
    let mut w = Window { ctx, app, time: 0.0 };
    w.frame(Vec::new());
    while w.app.jobs.running().0 > 0 {
        std::thread::sleep(Duration::from_millis(5));
        w.frame(Vec::new());
    }
    println!("{tokens} tokens: everything computed after {:.1} s", start.elapsed().as_secs_f64());
    for _ in 0..5 {
        w.frame(Vec::new());
    }
    report("still", |_| w.frame(Vec::new()));
    let over = |x: f32, y: f32| vec![egui::Event::PointerMoved(egui::pos2(x, y))];
    report("pointer on tokens", |i| w.frame(over(300.0 + 7.0 * i as f32, 116.0)));
    report("pointer on lattice", |i| w.frame(over(320.0 + 5.0 * i as f32, 640.0 + (i % 7) as f32)));
    report("threshold moved", |i| {
        w.app.doc.pane_mut().shows.threshold = 0.01 + 0.001 * i as f32;
        w.frame(Vec::new())
    });
    report("map zoomed", |i| {
        let side = 1.0 - 0.01 * i as f32;
        w.app.doc.pane_mut().cursor.look([0.0, 0.0, side, side]);
        w.frame(Vec::new())
    });
}

/// How long a run of the sample model on `tokens` goes on after it was cancelled in the middle.
fn cancel(tokens: usize) {
    let open = tokenscope_app::work::open(
        &ModelSource::Sample("sample-lm"),
        Default::default(),
        Default::default(),
        &Ctx::default(),
    )
    .expect("the sample opens");
    let ids: Vec<u32> = (0..tokens as u32).map(|i| i % 500).collect();
    let request = RunRequest { ids: Some(ids), ..RunRequest::default() };
    let flag = Arc::new(AtomicBool::new(false));
    let ctx = Ctx::new(flag.clone(), Arc::new(|_| ()));
    let start = Instant::now();
    let whole =
        run(open.model.as_ref(), None, &request, &CaptureSpec::views(), &Ctx::default()).map(|_| start.elapsed());
    let Ok(whole) = whole else { return println!("a run of {tokens} tokens does not fit") };
    let late = std::thread::scope(|s| {
        let worker = s.spawn(|| {
            let end = run(open.model.as_ref(), None, &request, &CaptureSpec::views(), &ctx);
            (end.is_err(), Instant::now())
        });
        std::thread::sleep(whole / 2);
        flag.store(true, Ordering::Relaxed);
        let clicked = Instant::now();
        worker.join().map(|(cancelled, end)| (cancelled, end.saturating_duration_since(clicked)))
    });
    if let Ok((cancelled, late)) = late {
        println!(
            "a run of {tokens} tokens takes {:.2} s; cancelled in its middle ({cancelled}) it ends {:.1} ms later",
            whole.as_secs_f64(),
            late.as_secs_f64() * 1e3
        );
    }
}

/// What keys typed into a prompt of `bytes` cost: the frame that takes one, and when the rows follow. The model at the
/// prompt reads no text, so that only cutting is measured.
fn typing(bytes: usize) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let line = "The naïve fox (aged 12) didn't jump; 漢字 and many more words go on and on.\n";
    let mut doc = Doc::default();
    doc.apply(Command::Model(ModelSource::Path(here.join("tests/golden/models/vit"))));
    doc.apply(Command::AddTokenizer(here.join("sample_data/models/sample-lm/tokenizer.json")));
    doc.apply(Command::Prompt(line.repeat(bytes / line.len() + 1).into()));
    let ctx = egui::Context::default();
    let mut w = Window { app: App::with_doc(&ctx, doc), ctx, time: 0.0 };
    w.app.pause = Duration::from_secs(3600);
    let at = egui::pos2(100.0, 300.0);
    let button = |pressed| egui::Event::PointerButton {
        pos: at,
        button: egui::PointerButton::Primary,
        pressed,
        modifiers: egui::Modifiers::NONE,
    };
    let settle = |w: &mut Window| {
        while w.app.jobs.running().0 > 0 {
            std::thread::sleep(Duration::from_millis(1));
            w.frame(Vec::new());
        }
    };
    w.frame(Vec::new());
    settle(&mut w);
    for events in [vec![egui::Event::PointerMoved(at)], vec![button(true)], vec![button(false)]] {
        w.frame(events);
    }
    assert!(w.ctx.memory(|m| m.focused()).is_some(), "the prompt was clicked");
    let (mut frames, mut rows) = (Vec::new(), Vec::new());
    for _ in 0..11 {
        let start = Instant::now();
        w.frame(vec![egui::Event::Text("x".into())]);
        frames.push(start.elapsed().as_secs_f64() * 1e3);
        assert!(w.app.jobs.running().0 > 0, "the key went into the prompt");
        settle(&mut w);
        rows.push(start.elapsed().as_secs_f64() * 1e3);
    }
    frames.sort_by(f64::total_cmp);
    rows.sort_by(f64::total_cmp);
    println!(
        "a key in {} kB of text: its frame takes {:.1} ms (worst {:.1}), the five rows follow after {:.0} ms (worst {:.0})",
        bytes / 1000,
        frames[5],
        frames[10],
        rows[5],
        rows[10]
    );
}

fn main() {
    if std::env::args().any(|a| a == "typing") {
        return [10_000, 100_000, 1_000_000].into_iter().for_each(typing);
    }
    let given: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let sizes = if given.is_empty() { vec![512, 4096] } else { given };
    sizes.iter().copied().for_each(measure);
    sizes.into_iter().for_each(cancel);
}
