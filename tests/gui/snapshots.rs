//! What each view and each of its faces looks like, as the text of its SVG: `snapshots/*.svg`, numbers to a tenth.
//! `TOKENSCOPE_REWRITE=1 cargo test --workspace --test gui snapshots` writes them anew; look at them before they land.

use egui::vec2;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokenscope_analysis::method::Kind;
use tokenscope_analysis::{Ctx, Result};
use tokenscope_app::cx::Sheet;
use tokenscope_app::export::settle;
use tokenscope_app::jobs::{Ask, Jobs, Spot, Status, Store};
use tokenscope_app::keys::ModelSource;
use tokenscope_app::state::{Command, Doc};
use tokenscope_app::theme::Theme;
use tokenscope_app::views::{self, View};
use tokenscope_app::work::{DraftOf, Drafted, Serves as _};
use tokenscope_tests::root;

/// Places may differ by so many points and channels of colours by so much: sums in another order are no other picture.
const POINTS: f64 = 1.0;
const CHANNEL: f64 = 24.0;
/// Numbers in words are rounded to a tenth, and may fall to either side.
const TENTH: f64 = 0.11;
/// A snapshot is to be read.
const MOST_BYTES: usize = 60_000;
/// Lists of points that are longer are told by their number and extent.
const MOST_POINTS: usize = 8;

/// A short prompt on the embedded sample, so that a snapshot can be read.
fn doc() -> Doc {
    let mut doc = Doc::default();
    doc.apply(Command::Prompt("The red fox met".into()));
    doc
}

/// An SVG with numbers to a tenth, without what only pixels say and without what differs from run to run.
fn rounded(svg: &str) -> String {
    let mut out = String::new();
    for line in svg.lines().filter(|l| !l.starts_with("<clipPath")) {
        let mut line = between(line, "clip-path=\"", "\"", |_| "…".into());
        // Embedded pixels are compared where they are made.
        line = between(&line, "data:image", "\"", |_| "…".into());
        line = between(&line, "points=\"", "\"", extent);
        // Measured times, and speed-ups made of them.
        if line.contains("speed-up") || line.contains(" ms instead of ") {
            line = between(&line, "textLength=\"", "\"", |_| "…".into());
            line = between(&line, "xml:space=\"preserve\"", "</text>", |words| {
                let kept = words.find("speed-up").or_else(|| words.rfind(" · ")).unwrap_or(0);
                format!("{}(measured)", &words[..kept])
            });
        }
        for part in Parts(&line) {
            match part {
                Part::Number(x) if !out.ends_with(char::is_alphabetic) => {
                    out += format!("{x:.1}").trim_end_matches(".0");
                }
                Part::Number(x) => write!(out, "{x}").unwrap(),
                Part::Colour([r, g, b]) => write!(out, "#{r:02x}{g:02x}{b:02x}").unwrap(),
                Part::Other(c) => out.push(c),
            }
        }
        out.push('\n');
    }
    out.replace("\"-0\"", "\"0\"")
}

/// `line` with what stands between `from` and `to` replaced, wherever it does.
fn between(line: &str, from: &str, to: &str, with: impl Fn(&str) -> String) -> String {
    let (mut out, mut rest) = (String::new(), line);
    while let Some((before, after)) = rest.split_once(from) {
        let end = after.find(to).unwrap_or(after.len());
        out += before;
        out += from;
        out += &with(&after[..end]);
        rest = &after[end..];
    }
    out + rest
}

/// A long list of points in short.
fn extent(points: &str) -> String {
    let all: Vec<[f64; 2]> = points
        .split(' ')
        .filter_map(|p| p.split_once(',').and_then(|(x, y)| Some([x.parse().ok()?, y.parse().ok()?])))
        .collect();
    if all.len() <= MOST_POINTS {
        return points.into();
    }
    let side = |i: usize, f: fn(f64, f64) -> f64| all.iter().map(|p| p[i]).reduce(f).unwrap_or(0.0);
    let (low, high) = ([0, 1].map(|i| side(i, f64::min)), [0, 1].map(|i| side(i, f64::max)));
    let middle = all[all.len() / 2];
    format!(
        "{} from {},{} by {},{} within {},{} and {},{}",
        all.len(),
        all[0][0],
        all[0][1],
        middle[0],
        middle[1],
        low[0],
        low[1],
        high[0],
        high[1]
    )
}

/// What a line is made of.
#[derive(Clone, Copy)]
enum Part {
    Number(f64),
    Colour([u8; 3]),
    Other(char),
}

struct Parts<'a>(&'a str);

impl Iterator for Parts<'_> {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        let (text, n) = (self.0, number_at(self.0));
        if let Some(hex) = text.strip_prefix('#').and_then(|t| t.get(..6))
            && let Ok(rgb) = u32::from_str_radix(hex, 16)
        {
            self.0 = &text[7..];
            return Some(Part::Colour([16, 8, 0].map(|shift| (rgb >> shift) as u8)));
        }
        if n > 0
            && let Ok(x) = text[..n].parse()
        {
            self.0 = &text[n..];
            return Some(Part::Number(x));
        }
        let c = text.chars().next()?;
        self.0 = &text[c.len_utf8()..];
        Some(Part::Other(c))
    }
}

/// Bytes of the number that `text` begins with; 0 where it begins with none.
fn number_at(text: &str) -> usize {
    let bytes = text.as_bytes();
    let sign = usize::from(bytes.first() == Some(&b'-'));
    let digits = |from: usize| bytes[from.min(bytes.len())..].iter().take_while(|b| b.is_ascii_digit()).count();
    let whole = digits(sign);
    if whole == 0 {
        return 0;
    }
    let end = sign + whole;
    match bytes.get(end) {
        Some(b'.') if digits(end + 1) > 0 => end + 1 + digits(end + 1),
        _ => end,
    }
}

/// Whether two lines say the same.
fn same(a: &str, b: &str) -> bool {
    let (mut a, mut b, mut inside, mut quoted) = (Parts(a), Parts(b), true, false);
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(Part::Other(x)), Some(Part::Other(y))) if x == y => match x {
                '<' => inside = true,
                '>' if !quoted => inside = false,
                '"' if inside => quoted = !quoted,
                _ => {}
            },
            (Some(Part::Number(x)), Some(Part::Number(y))) => {
                let whole = x.fract() == 0.0 && y.fract() == 0.0;
                let most = if inside { POINTS } else { [TENTH, 0.0][usize::from(whole)] };
                if (x - y).abs() > most {
                    return false;
                }
            }
            (Some(Part::Colour(x)), Some(Part::Colour(y))) => {
                if x.iter().zip(&y).any(|(x, y)| f64::from(x.abs_diff(*y)) > CHANNEL) {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

/// The first line that differs.
fn difference(got: &str, want: &str) -> Option<String> {
    let (mut g, mut w) = (got.lines(), want.lines());
    let mut n = 0;
    loop {
        n += 1;
        match (g.next(), w.next()) {
            (None, None) => return None,
            (Some(a), Some(b)) if same(a, b) => {}
            (a, b) => {
                let [a, b] = [a, b].map(|l| l.unwrap_or("(the end)"));
                return Some(format!("line {n}:\n  {a}\nis not\n  {b}"));
            }
        }
    }
}

/// Compares a picture with its snapshot, or writes that; what differs is said.
fn compare(name: &str, svg: &str) -> Option<String> {
    let path = root().join("tests/gui/snapshots").join(format!("{name}.svg"));
    let got = rounded(svg);
    assert!(got.len() < MOST_BYTES, "{name} has {} bytes", got.len());
    if std::env::var("TOKENSCOPE_REWRITE").is_ok_and(|v| v == "1") {
        std::fs::write(&path, got).unwrap();
        return None;
    }
    let want = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    difference(&got, &want).map(|what| format!("{name}, {what}"))
}

fn fail_on(problems: impl Iterator<Item = Option<String>>) {
    let problems: Vec<String> = problems.flatten().collect();
    assert!(problems.is_empty(), "other pictures:\n{}\nTOKENSCOPE_REWRITE=1 writes them anew", problems.join("\n"));
}

/// Holds a thread until it is cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Hold(usize);

impl Ask for Hold {
    type Out = ();
    fn carry_out(&self, _: &Store, ctx: &Ctx) -> Result<()> {
        loop {
            ctx.check()?;
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Takes every thread there can be.
fn hold_all(jobs: &Jobs) {
    (0..8).for_each(|i| drop(jobs.need(Spot::from("held").of_pane(i), &Hold(i))));
}

/// A view as a figure draws it, whether or not something failed. Fonts of the system have no part in it.
fn drawn(view: &View, doc: &Doc, jobs: &Jobs, running: &dyn Fn() -> usize, before: &dyn Fn(&Jobs)) -> String {
    let theme = Theme::new(doc.look.dark, doc.look.map);
    let ctx = egui::Context::default();
    theme.install(&ctx);
    let mut used = 0.0f32;
    let size = vec2(520.0, if view.own_height { 4096.0 } else { 360.0 });
    let figure = settle(ctx, size, 1.0, theme.background, running, |ui| {
        jobs.begin_frame();
        before(jobs);
        egui::CentralPanel::default().show(ui, |ui| {
            (view.ui)(&Sheet::default().cx(doc, jobs, &theme), ui);
            used = ui.cursor().top().ceil();
        });
    });
    jobs.cancel_all();
    let mut figure = figure.unwrap_or_else(|e| panic!("{}: {e}", view.id));
    if view.own_height {
        figure.size.y = used;
    }
    figure.svg_text()
}

/// The same when everything that is asked for is there.
fn done(view: &View, doc: &Doc) -> String {
    let jobs = Jobs::new(|| ());
    drawn(view, doc, &jobs, &|| jobs.running().0, &|_| ())
}

#[test]
fn each_view_with_everything_there() {
    fail_on(views::ALL.iter().map(|v| compare(v.id, &done(v, &doc()))));
}

#[test]
fn each_view_while_it_waits() {
    fail_on(views::ALL.iter().map(|v| {
        let svg = drawn(v, &doc(), &Jobs::new(|| ()), &|| 0, &hold_all);
        compare(&format!("{}_waiting", v.id), &svg)
    }));
}

#[test]
fn each_view_with_nothing_to_show() {
    let mut doc = doc();
    doc.apply(Command::Prompt("".into()));
    fail_on(views::ALL.iter().map(|v| compare(&format!("{}_empty", v.id), &done(v, &doc))));
}

#[test]
fn each_view_of_a_model_that_does_not_open() {
    let mut doc = doc();
    doc.apply(Command::Model(ModelSource::Path("/nowhere/model".into())));
    fail_on(views::ALL.iter().map(|v| compare(&format!("{}_failed", v.id), &done(v, &doc))));
}

/// A decode that is held after its second round.
#[test]
fn drafts_of_which_some_rounds_are_there() {
    let doc = doc();
    let pane = doc.pane();
    let asked = DraftOf::of(pane, pane.call(Kind::Draft));
    let (held, go) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let jobs_of: Arc<OnceLock<Jobs>> = Arc::default();
    let (own, holds, goes) = (jobs_of.clone(), held.clone(), go.clone());
    // The job tells of each round on its own thread, and goes on when it has told.
    let jobs = Jobs::new(move || {
        let Some(jobs) = own.get() else { return };
        let two = |s: Status<Drafted>| matches!(s, Status::Partly(_, d) if d.run.rounds.len() >= 2);
        while !goes.load(Ordering::SeqCst) && two(jobs.need("watch", &asked)) {
            holds.store(true, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    assert!(jobs_of.set(jobs.clone()).is_ok());
    let running = || if held.load(Ordering::SeqCst) { jobs.running().0.saturating_sub(1) } else { 1 };
    let svg = drawn(views::find("drafts").unwrap(), &doc, &jobs, &running, &|_| ());
    go.store(true, Ordering::SeqCst);
    fail_on([compare("drafts_partial", &svg)].into_iter());
}

#[test]
fn numbers_are_rounded_and_names_are_left_alone() {
    let svg = "<clipPath id=\"c0\">\n<text x=\"12.3456\" y=\"-0.04\" fill=\"#1234ab\">a2 7.26</text>\n\
               <image href=\"data:image/png;base64,xx\"/>\n<g clip-path=\"url(#c0)\">";
    let want =
        "<text x=\"12.3\" y=\"0\" fill=\"#1234ab\">a2 7.3</text>\n<image href=\"data:image…\"/>\n<g clip-path=\"…\">\n";
    assert_eq!(rounded(svg), want);
    let text = |words: &str| format!("<text textLength=\"9\" xml:space=\"preserve\">{words}</text>");
    let measured = rounded(&text("speed-up expected 1.20×, measured 3.00×"));
    assert_eq!(measured, rounded(&text("speed-up expected 2.20×, measured 4.00×")));
    assert!(measured.ends_with(">(measured)</text>\n"), "{measured}");
    let times = rounded(&text("keys and values 3 kB · 5.0 ms instead of 6.0 ms"));
    assert!(times.ends_with("3 kB(measured)</text>\n"), "{times}");
}

#[test]
fn a_difference_is_one_of_words_or_more_than_a_point() {
    let differ = |a, b| difference(a, b).is_some();
    assert!(!differ("<a x=\"1\" fill=\"#000000\"/>", "<a x=\"1.9\" fill=\"#101010\"/>"));
    assert!(differ("<a x=\"1\"/>", "<a x=\"3\"/>") && differ("<a/>", "<b/>"));
    assert!(differ("<a fill=\"#000000\"/>", "<a fill=\"#ff0000\"/>"));
    assert!(differ("<t>layer 3</t>", "<t>layer 4</t>") && !differ("<t>3.1 nats</t>", "<t>3.2 nats</t>"));
    assert_eq!(difference("<a/>\n<a/>", "<a/>").as_deref(), Some("line 2:\n  <a/>\nis not\n  (the end)"));
    let line = (0..20).map(|i| format!("{i},{}", i * i)).collect::<Vec<_>>().join(" ");
    assert_eq!(extent(&line), "20 from 0,0 by 10,100 within 0,0 and 19,361");
    assert_eq!(extent("1,2 3,4"), "1,2 3,4");
}
