//! A report of what a document shows, for a colleague: settings, figures with the commands that make them again, their
//! numbers, and the papers behind the methods, as one HTML page or as a PDF.
//!
//! It holds no date and no time, so that the same document makes the same report.

mod html;
mod papers;
mod pdf;
mod used;

pub use papers::{Cited, cited};

use crate::cx::Sheet;
use crate::digest::{self, Digest};
use crate::export::{self, Figure, Page, SOFTWARE};
use crate::jobs::Jobs;
use crate::pane::Pane;
use crate::state::Doc;
use crate::theme::Theme;
use crate::views::View;
use crate::work::{ModelOf, PictureOf, TraceOf};
use anyhow::bail;
use serde::Serialize;
use serde_json::Value;
use std::path::Path;
use tokenscope_analysis::Ctx;
use tokenscope_analysis::finding::Table;
use tokenscope_analysis::save::save_bytes;
use tokenscope_analysis::trace::Tower;
use tokenscope_analysis::weights::Numbers;
use used::Used;

/// Formats of a report, by the end of the file's name.
pub const FORMATS: &[&str] = &["html", "pdf"];
/// Size of a figure on a screen, in points; views with a height of their own take only its width.
const SCREEN: egui::Vec2 = egui::vec2(900.0, 640.0);
/// Width and height of a figure on A4 paper in millimetres.
const PAPER: [f32; 2] = [178.0, 127.0];
/// Lines of a table that are shown; the rest is in a CSV file that the report says how to make.
const ROWS: usize = 24;
/// Characters of a prompt that are shown.
const PROMPT: usize = 20_000;

/// What a document shows.
#[derive(Serialize)]
pub struct Report {
    title: String,
    software: &'static str,
    runs: Vec<Run>,
    /// What one run shows minus what another does.
    comparisons: Vec<Drawn>,
    methods: Vec<Used>,
    papers: Vec<Cited>,
    bibtex: String,
}

/// One pane.
#[derive(Serialize)]
struct Run {
    /// Which one of several; empty where there is one.
    name: String,
    model: String,
    /// Names of settings and what they are.
    facts: Vec<(&'static str, String)>,
    prompt: String,
    /// How many characters of the prompt are not shown.
    more_prompt: usize,
    picture: Option<Shown>,
    digests: Vec<Digest>,
    /// What is known about the model that a reader should know.
    notes: Vec<String>,
    figures: Vec<Drawn>,
    /// Views without a figure, and why.
    left_out: Vec<(&'static str, String)>,
}

/// The picture that a model was given.
#[derive(Serialize)]
struct Shown {
    name: String,
    width: usize,
    height: usize,
    /// The picture as the address of itself.
    uri: String,
    #[serde(skip)]
    png: Vec<u8>,
}

/// A figure.
#[derive(Serialize)]
struct Drawn {
    number: usize,
    title: &'static str,
    /// What it shows: method by method.
    caption: Vec<String>,
    command: Option<String>,
    /// Markup, light and dark.
    light: String,
    dark: String,
    table: Option<Cut>,
    #[serde(skip)]
    figure: Figure,
}

/// The first lines of a table.
#[derive(Serialize)]
struct Cut {
    columns: Vec<String>,
    rows: Vec<Vec<Cell>>,
    /// Lines of the whole.
    all: usize,
    /// The command that writes all of them.
    command: Option<String>,
}

/// A cell of a table as words.
#[derive(Serialize)]
struct Cell {
    words: String,
    number: bool,
}

/// Where a report is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Medium {
    Screen,
    Paper,
}

/// Writes the report of what all panes of `doc` show in these views to `path`; the end of the name says how.
///
/// Waits for every product that the views ask for; what fails is said in the report, as long as there is a figure at
/// all. Errors: an unknown format, no view with anything to show, a file that cannot be written.
pub fn save(doc: &Doc, views: &[&'static View], jobs: &Jobs, path: &Path) -> anyhow::Result<Report> {
    let format = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    let medium = match format.as_str() {
        "html" | "htm" => Medium::Screen,
        "pdf" => Medium::Paper,
        _ => bail!("cannot tell the format from the name; end it in {}: {}", FORMATS.join(", "), path.display()),
    };
    let report = Report::new(doc, views, jobs, medium)?;
    let bytes = match medium {
        Medium::Screen => html::page(&report)?.into_bytes(),
        Medium::Paper => pdf::pages(&report)?,
    };
    save_bytes(path, &bytes)?;
    Ok(report)
}

impl Report {
    fn new(doc: &Doc, views: &[&'static View], jobs: &Jobs, medium: Medium) -> anyhow::Result<Self> {
        let mut figures = 0;
        let (mut runs, mut methods) = (Vec::new(), Vec::new());
        for i in 0..doc.panes().len() {
            let mut at = Doc::of(doc.panes()[i].clone());
            at.look = doc.look;
            let name =
                if doc.panes().len() > 1 { format!("Run {} of {}", i + 1, doc.panes().len()) } else { String::new() };
            let mut run = Run::new(name, at.pane(), jobs)?;
            for view in views.iter().filter(|v| !v.compares()) {
                match drawn(view, &at, jobs, medium, figures + 1, &mut methods) {
                    Ok(Some(figure)) => {
                        figures += 1;
                        run.figures.push(figure);
                    }
                    Ok(None) => run.left_out.push((view.title, "it has nothing to show for this run".into())),
                    Err(why) => run.left_out.push((view.title, format!("{why:#}"))),
                }
            }
            runs.push(run);
        }
        let (mut comparisons, mut at) = (Vec::new(), doc.clone());
        for view in views.iter().filter(|v| v.compares()) {
            for other in (0..doc.panes().len()).filter(|i| *i != doc.active()) {
                at.pane_mut().shows.against = Some(other);
                match drawn(view, &at.figured(true), jobs, medium, figures + 1, &mut methods) {
                    Ok(Some(mut figure)) => {
                        figures += 1;
                        let words = format!("Pane 1 is run {}, pane 2 is run {}.", doc.active() + 1, other + 1);
                        figure.caption.insert(0, words);
                        comparisons.push(figure);
                    }
                    Ok(None) => {}
                    Err(why) => runs[other].left_out.push((view.title, format!("{why:#}"))),
                }
            }
        }
        if figures == 0 {
            let why = runs.iter().flat_map(|r| &r.left_out).map(|(view, why)| format!("{view}: {why}"));
            bail!("no view has anything to show\n{}", why.collect::<Vec<_>>().join("\n"));
        }
        let papers = cited(&methods.iter().map(|m: &Used| m.info).collect::<Vec<_>>());
        let bibtex = papers.iter().map(|p| p.bibtex.as_str()).collect::<Vec<_>>().join("\n");
        let title = match &runs[..] {
            [one] => format!("Tokenscope report of {}", one.model),
            all => format!("Tokenscope report of {} runs", all.len()),
        };
        Ok(Self { title, software: SOFTWARE, runs, comparisons, methods, papers, bibtex })
    }

    /// Views that the report has no figure of, and why.
    pub fn left_out(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.runs.iter().flat_map(|r| &r.left_out).map(|(view, why)| (*view, why.as_str()))
    }

    /// The papers as BibTeX.
    pub fn bibtex(&self) -> &str {
        &self.bibtex
    }
}

/// The figure of a view with its numbers, on what the one pane of `doc` shows; `None` where it has nothing to show.
/// What it uses is added to `methods`, where it is not there yet.
fn drawn(
    view: &'static View,
    doc: &Doc,
    jobs: &Jobs,
    medium: Medium,
    number: usize,
    methods: &mut Vec<Used>,
) -> anyhow::Result<Option<Drawn>> {
    let look = |dark: bool| {
        let mut doc = doc.clone();
        doc.look.dark = dark;
        doc
    };
    let page = match medium {
        Medium::Screen => Page::screen(SCREEN, 2.0),
        Medium::Paper => Page::paper(PAPER[0], PAPER[1], export::PRINT_SCALE),
    };
    let light = look(false);
    let figure = export::draw(view, &light, jobs, &page)?;
    let (sheet, theme) = (Sheet::default(), Theme::new(false, doc.look.map));
    let cx = sheet.cx(&light, jobs, &theme);
    let Some(table) = (view.table)(&cx) else { return Ok(None) };
    let used = used::of(&cx, view);
    let mut caption: Vec<String> = used.iter().filter_map(Used::words).collect();
    if caption.is_empty() {
        let names: Vec<&str> = used.iter().map(|u| u.title).collect();
        caption.extend((!names.is_empty()).then(|| format!("Compared: {}.", names.join(", "))));
    }
    for one in used {
        if !methods.contains(&one) {
            methods.push(one);
        }
    }
    let file = |end: &str| format!("{}.{end}", view.id);
    let command = |end: &str| export::command_of(Some(view), &light, &page, Path::new(&file(end)));
    let markup = |figure: &Figure, prefix: &str| figure.svg_in(&format!("{prefix}{number}-"));
    let (bright, dark) = match medium {
        Medium::Screen => (markup(&figure, "l"), markup(&export::draw(view, &look(true), jobs, &page)?, "d")),
        Medium::Paper => (String::new(), String::new()),
    };
    let end = if medium == Medium::Paper { "pdf" } else { "svg" };
    let table = cut(&table, command("csv"));
    Ok(Some(Drawn { number, title: view.title, caption, command: command(end), light: bright, dark, table, figure }))
}

impl Run {
    fn new(name: String, pane: &Pane, jobs: &Jobs) -> anyhow::Result<Self> {
        let ctx = Ctx::default();
        let mut facts = vec![("Model", export::source(&pane.run.model))];
        let mut digests = digest::model(&pane.run.model).unwrap_or_default();
        digests.extend(digest::inputs(&pane.run, pane.series.as_ref()).unwrap_or_default());
        let mut notes = Vec::new();
        // Why a model does not open stands with the views, which need it.
        if let Ok(open) = jobs.get(&ModelOf::of(&pane.run), &ctx) {
            let info = open.model.info();
            let rounded = if info.numbers == Numbers::Bf16 { ", rounded to bf16" } else { "" };
            let size =
                format!("{}, {} parameters in {}{rounded}", info.architecture, grouped(info.n_params), info.dtype);
            facts.push(("Architecture", size));
            for (tower, t) in &info.towers {
                let words = format!("{} layers, width {}, {} heads", t.n_layers, t.width, t.n_heads);
                facts.push((if info.towers.len() > 1 { stack(*tower) } else { "Layers" }, words));
            }
            facts.push(("Fingerprint of the weights", info.fingerprint.clone()));
            notes.extend(open.notes().cloned());
        }
        let trace = jobs.get(&TraceOf(pane.run.clone()), &ctx).ok();
        if let Some(trace) = &trace {
            let count = |n: usize| if n == 1 { "1 token".to_string() } else { format!("{} tokens", grouped(n)) };
            let all: Vec<String> =
                trace.towers.iter().map(|(name, t)| format!("{}: {}", stack(*name), count(t.tokens.len()))).collect();
            facts.push(("Input", all.join(", ")));
            notes.extend(trace.notes.iter().cloned());
        }
        facts.extend(pane.run.image.as_ref().map(|i| ("Picture", i.to_string())));
        facts.extend(pane.series.as_ref().map(|s| ("Series", s.to_string())));
        facts.extend(pane.tower.map(|t| ("Stack of layers", stack(t).into())));
        let aim = pane.aim.tokens();
        let explained = match aim {
            [] => "the last token, or the class token of an encoder".into(),
            _ => format!("at token {}", aim.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
        };
        facts.push(("Explained prediction", explained));
        facts.extend(pane.contrast.as_ref().map(|c| ("Rather than", format!("{:?}, token {}", c.text, c.id))));
        facts.push(("Computed on", jobs.device().into()));
        let text = trace.as_ref().map(|t| t.text.clone()).filter(|t| !t.is_empty());
        let text = text.unwrap_or_else(|| pane.run.prompt.to_string());
        let shown: String = text.chars().take(PROMPT).collect();
        let more_prompt = text.chars().count().saturating_sub(PROMPT);
        let picture = picture(pane, trace.as_ref().and_then(|t| t.picture.clone()), jobs);
        let model = pane.run.model.title();
        Ok(Self {
            name,
            model,
            facts,
            prompt: shown,
            more_prompt,
            picture,
            digests,
            notes,
            figures: Vec::new(),
            left_out: Vec::new(),
        })
    }
}

/// What a stack of layers reads.
fn stack(tower: Tower) -> &'static str {
    match tower {
        Tower::Text => "text",
        Tower::Vision => "image encoder",
    }
}

/// The picture of the run, as it was opened.
fn picture(
    pane: &Pane,
    own: Option<std::sync::Arc<tokenscope_analysis::image::Picture>>,
    jobs: &Jobs,
) -> Option<Shown> {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    let source = pane.run.image.clone();
    let picture = match (own, &source) {
        (Some(own), _) => own,
        (None, Some(source)) => jobs.get(&PictureOf(source.clone()), &Ctx::default()).ok()?,
        (None, None) => return None,
    };
    let png = picture.to_png().ok()?;
    let uri = format!("data:image/png;base64,{}", BASE64_STANDARD.encode(&png));
    let name = source.map_or_else(|| "picture of the recording".into(), |s| s.title());
    Some(Shown { name, width: picture.width, height: picture.height, uri, png })
}

/// The first lines of a table; `None` where it has none.
fn cut(table: &Table, command: Option<String>) -> Option<Cut> {
    // What is empty all the way down says nothing.
    let says = |i: usize| table.rows.iter().any(|r| r.get(i).is_some_and(|v| !v.is_null()));
    let told: Vec<usize> = (0..table.columns.len()).filter(|i| says(*i)).collect();
    let row = |r: &Vec<Value>| told.iter().map(|i| cell(r.get(*i).unwrap_or(&Value::Null))).collect();
    let rows: Vec<Vec<Cell>> = table.rows.iter().take(ROWS).map(row).collect();
    let columns = told.iter().map(|i| table.columns[*i].clone()).collect();
    (!rows.is_empty()).then_some(Cut { columns, rows, all: table.rows.len(), command })
}

/// Letters of a cell that are shown.
const CELL: usize = 80;

fn cell(value: &Value) -> Cell {
    let words = match value {
        Value::Null => String::new(),
        Value::Number(n) if n.is_f64() => n.as_f64().map_or(String::new(), number),
        // A token is often a blank.
        Value::String(s) => crate::pictures::widgets::visible(s),
        other => other.to_string(),
    };
    let short: String = words.chars().take(CELL).collect();
    let words = if short.len() < words.len() { format!("{short}…") } else { short };
    Cell { words, number: value.is_number() }
}

/// A number with five figures.
fn number(v: f64) -> String {
    if v == 0.0 {
        return "0".into();
    }
    if !(1e-4..1e6).contains(&v.abs()) {
        return format!("{v:.4e}");
    }
    let places = (4.0 - v.abs().log10().floor()).clamp(0.0, 9.0) as usize;
    let text = format!("{v:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
}

/// A whole number with its thousands apart.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_have_five_figures_and_thousands_stand_apart() {
        let all = [0.0, 1.0, -0.123_456_7, 12_345.678, 0.000_012_345_6, 2.5e9, 999_999.0];
        assert_eq!(all.map(number), ["0", "1", "-0.12346", "12346", "1.2346e-5", "2.5000e9", "999999"]);
        assert_eq!([7, 999, 1000, 1_234_567].map(grouped), ["7", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn long_tables_and_cells_are_cut_and_say_how_much_there_is() {
        let mut t = Table::new(&["i", "text"]);
        t.rows = (0..100).map(|i| vec![json!(i), json!("x".repeat(200))]).collect();
        let c = cut(&t, Some("tokenscope render".into())).unwrap();
        assert_eq!((c.rows.len(), c.all), (ROWS, 100));
        assert_eq!(c.rows[3][0].words, "3");
        assert!(c.rows[3][0].number && !c.rows[3][1].number);
        assert_eq!(c.rows[0][1].words.chars().count(), CELL + 1);
        assert!(cut(&Table::new(&["i"]), None).is_none());
    }
}
