//! What a decode amounts to: tokens per pass, acceptance by depth, speed-up, and whether the text is the target's own.

use crate::cx::Cx;
use crate::pictures::plot;
use crate::work::{Drafted, Times};
use egui::Ui;
use tokenscope_analysis::decode::DraftRun;
use tokenscope_analysis::finding::{Axis, Measure, Plot, Series, Style};

pub(super) fn ui(cx: &Cx, ui: &mut Ui, d: &Drafted, times: &Option<Times>) {
    let (drafted, accepted) = d.run.drafted();
    let line = |ui: &mut Ui, words: String, tip: &str| drop(ui.label(words).on_hover_text(tip));
    line(
        ui,
        format!(
            "{:.2} tokens per target pass · {accepted} of {drafted} drafted tokens accepted · {} rounds",
            d.run.tokens_per_round(),
            d.run.rounds.len()
        ),
        "Tokens per target pass: all new tokens, the target's own ones included, divided by the rounds. A round is one \
         verifying pass of the target.",
    );
    match times {
        Some(t) => speed_ui(ui, &Speed::of(&d.run, t), t),
        None if cx.figure || d.times.is_none() => {}
        None => drop(ui.weak("speed-up: taken when nothing else computes")),
    }
    depths_ui(cx, ui, &d.run);
    // While it goes on, nothing was compared.
    if d.times.is_some() {
        lossless_ui(cx, ui, d);
    }
}

fn speed_ui(ui: &mut Ui, speed: &Speed, times: &Times) {
    let Some(expected) = speed.expected else { return };
    let fair = if times.alone {
        "Both decodes ran one after the other while nothing else computed here."
    } else {
        "Other views computed meanwhile, so this may read low."
    };
    ui.label(format!("speed-up expected {expected:.2}×, measured {:.2}×", speed.measured)).on_hover_text(
            format!(
                "Expected: tokens per target pass ÷ (1 + c · draft passes per round), as if a verifying pass cost as much as \
                 a plain one. c = {:.2} is the time of a draft pass over that of a target pass, each decoding one by one here; \
                 {:.1} draft passes per round.\nMeasured: plain greedy decode of as many tokens, {:.1} ms, ÷ this decode, \
                 {:.1} ms, on this machine; the prompt's pass is part of both. {fair}",
                speed.cost,
                speed.passes,
                times.plain * 1e3,
                times.own * 1e3
            ),
        );
}

fn lossless_ui(cx: &Cx, ui: &mut Ui, d: &Drafted) {
    match &d.run.lossless {
        Some((ok, words)) => {
            let (mark, color) =
                if *ok { ("✔ lossless:", cx.theme.good) } else { ("✖ not lossless:", cx.theme.bad) };
            ui.colored_label(color, format!("{mark} {words}")).on_hover_text(
                "At temperature 0 the decode must give what the target alone would; both texts are compared id by id.",
            );
        }
        None if !d.run.strayed.is_empty() => {
            let mean = d.run.strayed.iter().sum::<f64>() / d.run.strayed.len() as f64;
            ui.colored_label(cx.theme.bad, format!("✖ not lossless: strays by {mean:.3}")).on_hover_text(
                "Total-variation distance between the first token of a round and the target's own, mean over rounds. At \
                 temperature 0 it is 0: the text is the target's.",
            );
        }
        None => {
            ui.small("sampled: lossless in distribution, which one run cannot show");
        }
    }
}

struct Speed {
    /// Draft pass over target pass.
    cost: f64,
    /// Draft passes per round.
    passes: f64,
    /// `None` where no times were taken.
    expected: Option<f64>,
    measured: f64,
}

impl Speed {
    fn of(run: &DraftRun, times: &Times) -> Self {
        let (target, draft) = (times.target, times.draft);
        let cost = if target > 0.0 { draft / target } else { 0.0 };
        Self {
            cost,
            passes: run.draft_passes_per_round(),
            expected: (target > 0.0).then(|| run.expected_speed_up(cost)),
            measured: times.plain / times.own.max(1e-9),
        }
    }
}

/// Bars of the accepted share by depth.
fn depths_ui(cx: &Cx, ui: &mut Ui, run: &DraftRun) {
    let all = run.accepted_by_depth();
    let deepest = all.len().min(16);
    if deepest == 0 {
        return;
    }
    ui.small("accepted by depth")
        .on_hover_text("Share of the rounds with a draft of this depth in which one was accepted");
    let points = (1..=deepest).map(|depth| {
        let (hit, deep) = all[depth - 1];
        [depth as f64, 100.0 * hit as f64 / deep.max(1) as f64]
    });
    let bars = Series::new("accepted", Style::Bars, points.collect());
    let x = Axis::Number(Measure::new("depth", ""));
    let plot = Plot::new("accepted by depth", x, Measure::new("accepted", "% of rounds"), vec![bars]);
    let size = plot::Size { width: 90.0 + 34.0 * deepest as f32, height: 110.0, bare: false };
    plot::sized(cx, ui, &plot, size);
}
