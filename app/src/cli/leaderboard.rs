//! The verb `leaderboard`: reductions on many pictures and questions.

use super::common;
use super::terminal::remark;
use crate::board::{Board, COLUMNS, Contest, Figure, SLOT};
use crate::export::{self, Page};
use crate::keys::ModelSource;
use crate::pane::{Leaderboard, MAX_QUESTIONS, REPEATS};
use crate::questions::Questions;
use crate::state::Doc;
use crate::views;
use anyhow::bail;
use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use tokenscope_analysis::Ctx;
use tokenscope_analysis::method::Kind;
use tokenscope_analysis::save::save_bytes;

/// Arguments of `leaderboard`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Questions of your own: a CSV with the columns image, question and answer, or a JSON object with these a line, or a
    /// folder with one such file. Pictures are named relative to it. An answer is right where the text that the model
    /// writes begins with it [default: the program's, about drawn scenes, or stories for a model that only reads]
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Model folder or name of a sample [default: sample-vlm]
    #[arg(long)]
    model: Option<OsString>,
    /// Methods, comma-separated; random and uniform are always there [default: all but those that take minutes]
    #[arg(long, value_delimiter = ',')]
    methods: Vec<String>,
    /// Shares of the tokens that are kept, comma-separated; of a picture's tokens where there is a picture
    #[arg(long, default_value = "0.25,0.5", value_name = "SHARES")]
    keep: String,
    /// Questions at most
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=MAX_QUESTIONS as i64))]
    questions: u32,
    /// The prompt around a question of your own, with {question} in its place [default: the question alone]
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// A parameter of the methods that have it, as key=value; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Measure deletion and insertion, too: some forty passes for each question and row
    #[arg(long)]
    areas: bool,
    /// Warm passes whose median is the time; 0 measures neither time nor memory, and gives the same bytes each time
    #[arg(long, default_value_t = REPEATS, value_parser = clap::value_parser!(u8).range(0..=100))]
    repeats: u8,
    /// Figure that rows are sorted by: accuracy, kl_nats, top1_same, … as in a file; the best first
    #[arg(long, value_name = "FIGURE", value_parser = clap::builder::PossibleValuesParser::new(COLUMNS.iter().map(|c| c.key)))]
    sort: Option<String>,
    /// Dark colours of a figure
    #[arg(long)]
    dark: bool,
    #[command(flatten)]
    weights: common::Numbered,
    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV
    #[arg(long)]
    csv: bool,
    /// File to write: .csv, .json, or .svg, .png or .pdf with a figure; standard output without it
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(args: Args) -> anyhow::Result<()> {
    let shares = Leaderboard::read_shares(&args.keep).map_err(|why| anyhow::anyhow!("--keep {}: {why}", args.keep))?;
    let prompt = args.prompt.clone().unwrap_or_default();
    if args.prompt.is_some() && !prompt.contains(SLOT) {
        bail!("--prompt {prompt}: write {SLOT} where the question goes");
    }
    if args.prompt.is_some() && args.data.is_none() {
        bail!("--prompt is for questions of your own; give them with --data");
    }
    let asked = args.data.as_deref().and_then(|d| std::fs::canonicalize(Questions::file(d).ok()?).ok());
    if let Some(out) = &args.out
        && asked.is_some()
        && asked == std::fs::canonicalize(out).ok()
    {
        bail!("--out {} is the file of questions; write to another", out.display());
    }
    let end = args.out.as_ref().and_then(|p| p.extension()).map(|e| e.to_string_lossy().to_lowercase());
    if let (Some(out), Some(end)) = (&args.out, &end)
        && !export::FORMATS.contains(&end.as_str())
    {
        bail!("cannot write .{end}; use {}: {}", export::FORMATS.join(", "), out.display());
    }
    for (asked, form) in [(args.json, "json"), (args.csv, "csv")] {
        if let (true, Some(out), Some(end)) = (asked, &args.out, end.as_deref().filter(|e| *e != form)) {
            bail!(
                "--{form} and --out {} say two things: leave out --{form}, or write to a .{form} file, not .{end}",
                out.display()
            );
        }
    }
    let mut chosen = super::judge::chosen(Kind::Reduce, &args.methods)?;
    let slow = super::judge::left_out(Kind::Reduce, &args.methods);
    if !slow.is_empty() {
        remark(format_args!("left out, because they take minutes: {}; name them with --methods", slow.join(", ")));
    }
    // Each once.
    let mut ids = HashSet::new();
    chosen.retain(|i| ids.insert(i.id));
    let contest = Contest {
        model: args.model.as_ref().map_or(ModelSource::Sample("sample-vlm"), ModelSource::parse),
        placement: args.weights.placement()?,
        data: args.data.clone(),
        questions: args.questions as usize,
        calls: super::judge::calls(&chosen, &args.set)?,
        shares,
        prompt,
        areas: args.areas,
        repeats: args.repeats,
    };
    let jobs = common::jobs(args.weights)?;
    let ctx = Ctx::default();
    let board = jobs.get(&contest, &ctx)?;
    common::notes(&ctx.notes());
    common::notes(&board.notes);
    board.bad.iter().for_each(|why| remark(format_args!("left out: {why}")));
    let sort = args.sort.as_deref().and_then(Figure::find).map(|i| (i, Figure::rises(i)));
    let shown = Board { rows: board.sorted(sort).into_iter().cloned().collect(), ..board.as_ref().clone() };
    if let (Some(out), Some(end @ ("svg" | "png" | "pdf"))) = (&args.out, end.as_deref()) {
        return figure(&args, &contest, sort, &jobs, out, end);
    }
    let json = args.json || end.as_deref() == Some("json");
    let text = match (json, args.csv || end.as_deref() == Some("csv")) {
        (true, _) => export::json(&shown.table()),
        (_, true) => shown.table().csv(),
        _ => words(&shown),
    };
    common::write(args.out.as_deref(), text.trim_end())
}

/// Draws the table and its plot to a file with this end.
fn figure(
    args: &Args,
    contest: &Contest,
    sort: Option<(usize, bool)>,
    jobs: &crate::jobs::Jobs,
    out: &Path,
    end: &str,
) -> anyhow::Result<()> {
    let mut doc = Doc::default();
    doc.look.dark = args.dark;
    doc.pane_mut().run.model = contest.model.clone();
    doc.pane_mut().shows.board.sort = sort.map(|(i, falling)| (COLUMNS[i].key.into(), falling));
    let page = Page::screen(egui::vec2(900.0, 640.0), 2.0);
    let mut figure = export::draw_with(&|cx, ui| views::board_ui(cx, ui, contest), true, &doc, jobs, &page)?;
    figure.about = vec![
        ("software", export::SOFTWARE.into()),
        ("view", "Leaderboard".into()),
        ("model", export::source(&contest.model)),
        ("methods", contest.calls.iter().map(|c| c.method).collect::<Vec<_>>().join(", ")),
    ];
    let bytes = match end {
        "png" => figure.png(page.scale)?,
        "pdf" => figure.pdf()?,
        _ => figure.svg().into_bytes(),
    };
    Ok(save_bytes(out, &bytes)?)
}

/// The table for people.
fn words(board: &Board) -> String {
    let mut out = format!("{} {}\n\n", board.asked, board.set);
    let figures: Vec<usize> = (0..COLUMNS.len())
        .filter(|i| ![Figure::Low as usize, Figure::High as usize].contains(i))
        .filter(|i| board.rows.iter().any(|r| r.values[*i].is_some()))
        .collect();
    out += &format!("{:<30}{:>6}{:>5}", "method", "kept", "n");
    for i in &figures {
        let width = if *i == 0 { 18 } else { 11 };
        out += &format!("{:>width$}", COLUMNS[*i].title);
    }
    out.push('\n');
    for r in &board.rows {
        let name = format!("{}{}", r.method, if r.floor { " (floor)" } else { "" });
        let share = r.share.map_or("–".into(), |s| format!("{:.3}", crate::board::share(s)));
        out += &format!("{name:<30}{share:>6}{:>5}", r.n);
        for i in &figures {
            let cell = match (r.values[*i], *i) {
                (None, _) => "–".to_string(),
                (Some(v), 0) => {
                    let [low, high] = [Figure::Low, Figure::High].map(|f| r.get(f).unwrap_or(v));
                    format!("{v:.3} {low:.2}–{high:.2}")
                }
                (Some(v), i) if i == Figure::Flops as usize => format!("{:.4}", v / 1e9),
                (Some(v), i) if i == Figure::KvBytes as usize => format!("{:.1}", v / 1e3),
                (Some(v), i) if i == Figure::PeakBytes as usize => format!("{:.2}", v / 1e6),
                (Some(v), _) => format!("{v:.3}"),
            };
            let width = if *i == 0 { 18 } else { 11 };
            out += &format!("{cell:>width$}");
        }
        out.push('\n');
    }
    out.push('\n');
    figures.iter().for_each(|i| out += &format!("{}: {}\n", COLUMNS[*i].title, COLUMNS[*i].meaning));
    for r in &board.rows {
        let at = r.share.map_or(String::new(), |s| format!(" at {}", crate::board::share(s)));
        r.notes.iter().for_each(|note| out += &format!("{}{at}: {note}\n", r.method));
    }
    out
}
