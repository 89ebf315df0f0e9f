//! Uses the window for as long as one wants, and watches memory, panics and frames:
//!
//! ```sh
//! cargo run --example soak -- MINUTES [SEED]
//! ```
//!
//! Clicks, types, drops files, scrolls and opens models by a seed, through the code of the window. A line a minute says
//! how it stands. It fails on a panic of a frame and on memory that grows after the first part, which fills caches.

mod hands;

use egui::vec2;
use egui_kittest::Harness;
use hands::{Deed, Hands};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokenscope_app::app::App;
use tokenscope_app::state::Doc;
use tokenscope_app::theme::{ColorMap, Theme};

/// Panics so far, those that the program caught among them.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Growth that is allowed, as a share of what was held after the first part, and in MB.
const SHARE: f64 = 0.1;
const SLACK: f64 = 64.0;
/// The first part is this share of the time, and no longer than this.
const FIRST: f64 = 0.5;
const LONGEST: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    let args: Vec<u64> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let Some(&minutes) = args.first().filter(|m| **m > 0) else {
        eprintln!("say how many minutes: cargo run --example soak -- MINUTES [SEED]");
        return ExitCode::from(2);
    };
    let seed = args.get(1).copied().unwrap_or(1);
    // Nothing that a click writes lies where it is not looked for.
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let mut hands = Hands::new(seed, scratch.path());
    std::env::set_current_dir(scratch.path()).expect("the temporary folder can be entered");
    std::panic::set_hook(Box::new(|info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        eprintln!("panic: {info}");
    }));
    let app = App::with_doc(&egui::Context::default(), Doc::default());
    let mut window = Harness::builder()
        .with_size(vec2(1280.0, 800.0))
        .with_context_setup(|ctx: &egui::Context| Theme::new(false, ColorMap::default()).install(ctx))
        .with_max_steps(100_000)
        .build_ui_state(|ui, app: &mut App| app.frame(ui), app);
    // The harness ends at a character that no font here has; the window draws a box.
    window.ctx.set_missing_glyph_policy(egui::MissingGlyphPolicy::Tofu);

    let (start, whole) = (Instant::now(), Duration::from_secs(60 * minutes));
    let first = whole.mul_f64(FIRST).min(LONGEST);
    let (mut said, mut deeds, mut frames) = (Instant::now(), 0usize, Vec::new());
    let mut held: Vec<(Duration, f64)> = Vec::new();
    while start.elapsed() < whole {
        let deed = hands.next();
        let done = catch_unwind(AssertUnwindSafe(|| act(&mut window, &deed, &mut frames)));
        if done.is_err() {
            eprintln!("a frame panicked after {deeds} deeds of seed {seed}, at {deed:?}");
            return ExitCode::FAILURE;
        }
        deeds += 1;
        if said.elapsed() >= Duration::from_secs(60) {
            said = Instant::now();
            held.push((start.elapsed(), resident()));
            report(start.elapsed(), deeds, &mut frames);
        }
    }
    // What is left when nobody acts.
    for _ in 0..200 {
        frame(&mut window, &mut frames);
    }
    held.push((start.elapsed(), resident()));
    report(start.elapsed(), deeds, &mut frames);
    judge(&held, first)
}

/// Does a deed and draws frames as long as its work runs, for at most the time a hand rests.
fn act(window: &mut Harness<'static, App>, deed: &Deed, frames: &mut Vec<Duration>) {
    hands::carry_out(window, deed, &mut |w| frame(w, frames));
    let rest = Instant::now();
    while rest.elapsed() < deed.rest() {
        frame(window, frames);
        if window.state().jobs.running().0 == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn frame(window: &mut Harness<'static, App>, frames: &mut Vec<Duration>) {
    let start = Instant::now();
    window.step();
    frames.push(start.elapsed());
}

fn report(at: Duration, deeds: usize, frames: &mut Vec<Duration>) {
    frames.sort_unstable();
    let of = |share: f64| {
        let i = ((frames.len() as f64 * share) as usize).min(frames.len().saturating_sub(1));
        frames.get(i).map_or(0.0, |f| f.as_secs_f64() * 1e3)
    };
    println!(
        "{:>4} min: {:>5.0} MB, {deeds} deeds, {} frames: median {:.1} ms, 99% {:.1} ms, worst {:.0} ms; {} panics",
        at.as_secs() / 60,
        resident(),
        frames.len(),
        of(0.5),
        of(0.99),
        of(1.0),
        PANICS.load(Ordering::Relaxed),
    );
    frames.clear();
}

/// Fails if the least of the last third is above the most of the first part by more than is allowed.
fn judge(held: &[(Duration, f64)], first: Duration) -> ExitCode {
    let before = held.iter().filter(|(at, _)| *at <= first).map(|h| h.1).fold(0.0, f64::max);
    let after: Vec<f64> = held.iter().filter(|(at, _)| *at > first).map(|h| h.1).collect();
    let last = after.iter().rev().take(after.len().div_ceil(3)).copied().fold(f64::INFINITY, f64::min);
    if before == 0.0 || !last.is_finite() {
        println!("too short, or memory cannot be read here: growth was not judged");
        return ExitCode::SUCCESS;
    }
    let allowed = before * (1.0 + SHARE) + SLACK;
    println!("{before:.0} MB in the first part, {last:.0} MB at the end, {allowed:.0} MB allowed");
    if last > allowed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Memory that the process holds, in MB; 0 where the system does not say.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok()).map_or(0.0, |kb| kb / 1024.0)
}
