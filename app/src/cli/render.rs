//! The verb `render`: a view drawn without a window.

use super::common;
use super::figure::{Figure, size};
use crate::app::{draw_lesson, draw_window};
use crate::export::{self, Page};
use crate::lesson;
use crate::views;
use anyhow::bail;
use std::path::PathBuf;
use tokenscope_analysis::method::Kind;
use tokenscope_analysis::save::save_bytes;

/// Size of a figure that is not asked for.
const SIZE: &str = "900x640";

/// Options that say what a step of a lesson says itself, some as the groups of those that stand together; colours
/// are not among them.
fn set_by_lessons() -> Vec<&'static str> {
    let input = ["example", "session", "pin", "prompt", "series", "column", "rate", "tower", "target", "rather_than"];
    let rest = ["view", "Beside", "Images", "reduced", "branch", "set", "width_mm", "height_mm"];
    let figure =
        ["parts", "draft_model", "head", "scale", "threshold", "with", "compared", "fold", "no_truth", "round"];
    let cuts = ["tokenizer", "rows", "cut", "reference", "surprisal", "pane"];
    // Cuts of a text have options of their own, which are among those of figures.
    let methods = Kind::ALL.into_iter().filter(|k| *k != Kind::Segment).map(Kind::name);
    input.into_iter().chain(rest).chain(figure).chain(cuts).chain(methods).collect()
}

/// Arguments of `render`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// View: segmentation, importance, flow, drafts, findings, compare, or window for all of them with their panels
    #[arg(long, required_unless_present = "lesson")]
    view: Option<String>,
    /// Draw the window at a step of this lesson, with its caption; on the model of --model, where one is named. The lesson
    /// says itself what is shown
    #[arg(long, value_name = "NAME", conflicts_with_all = set_by_lessons())]
    lesson: Option<String>,
    /// Step of the lesson
    #[arg(long, requires = "lesson", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    step: u32,
    #[command(flatten)]
    figure: Figure,
    /// Width and height in points (CSS pixels)
    #[arg(long, default_value = SIZE, value_name = "WxH")]
    size: String,
    /// A figure for paper of this width in millimetres, with text of 7 to 9 pt on white: 85 is one column, 178 two.
    /// The shape is that of --size, for views without a height of their own
    #[arg(long, value_name = "MM")]
    width_mm: Option<f32>,
    /// Its height in millimetres, instead of the shape of --size
    #[arg(long, value_name = "MM", requires = "width_mm")]
    height_mm: Option<f32>,
    /// Pixels per point of a PNG; default 2, for paper 3.125, which is 300 dots an inch
    #[arg(long)]
    pixels: Option<f32>,
    /// File to write; .png, .svg, .pdf, .csv or .json. In CSV, words that a spreadsheet would run as a formula get an
    /// apostrophe in front
    #[arg(long)]
    out: PathBuf,
}

/// Runs the verb.
pub fn run(args: Args) -> anyhow::Result<()> {
    let lesson = args.lesson.as_deref().map(lesson::find).transpose()?;
    let asked = args.view.as_deref().unwrap_or("window");
    let whole = asked == "window";
    let view = if whole { None } else { Some(views::find(asked)?) };
    let mut doc = args.figure.start(&args.out)?;
    let [w, h] = size("--size", &args.size, 64.0..=8192.0)?;
    let pixels = args.pixels.unwrap_or(if args.width_mm.is_some() { export::PRINT_SCALE } else { 2.0 });
    if !(0.5..=8.0).contains(&pixels) {
        bail!("--pixels {pixels}: from 0.5 to 8");
    }
    if let Some(mm) = args.height_mm.filter(|mm| !(10.0..=2000.0).contains(mm)) {
        bail!("--height-mm {mm}: from 10 to 2000");
    }
    let page = match (args.width_mm, args.height_mm) {
        (Some(mm), _) if !(30.0..=500.0).contains(&mm) => bail!("--width-mm {mm}: from 30 to 500"),
        (Some(_), _) if whole => bail!("--width-mm is for single views; the window has a --size"),
        (Some(mm), Some(height)) => Page::paper(mm, height, pixels),
        // A column of a page needs more height for the same words.
        (Some(mm), None) if args.size == SIZE => Page::paper(mm, (mm * h / w).max(80.0), pixels),
        (Some(mm), None) => Page::paper(mm, mm * h / w, pixels),
        (None, _) => Page::screen(egui::vec2(w, h), pixels),
    };
    let jobs = common::jobs(args.figure.input.weights)?;
    if view.is_some_and(|v| v.id != "segmentation") {
        args.figure.input.sees(doc.pane(), &jobs)?;
    }
    args.figure.finish(&mut doc, view, &jobs, &args.out)?;
    let Some(view) = view else {
        let about = export::about(None, &doc, &page, &args.out);
        let figure = match lesson {
            Some(lesson) if args.step as usize > lesson.steps.len() => {
                bail!("--step {}: {} has {}", args.step, lesson.id, lesson.steps.len())
            }
            Some(lesson) => draw_lesson(doc, &lesson, args.step as usize - 1, page.size, pixels, jobs.held())?,
            None => {
                let mut figure = draw_window(doc, page.size, pixels, jobs.held())?;
                figure.about = about;
                figure
            }
        };
        let end = args.out.extension().map(|e| e.to_string_lossy().to_lowercase());
        let bytes = match end.as_deref() {
            Some("png") => figure.png(pixels)?,
            Some("svg") => figure.svg().into_bytes(),
            Some("pdf") => figure.pdf()?,
            _ => bail!("the window can be drawn as .png, .svg or .pdf: {}", args.out.display()),
        };
        return Ok(save_bytes(&args.out, &bytes)?);
    };
    export::save_page(view, &doc, &jobs, &page, &args.out)
}
