//! The verb `render`: a view drawn without a window.

use super::beside::{self, Shown};
use super::common;
use super::input::Input;
use crate::app::{draw_lesson, draw_window};
use crate::export::{self, Page};
use crate::heatmap::Curve;
use crate::jobs::Jobs;
use crate::keys::ModelSource;
use crate::lesson;
use crate::pane::{Compared, Fold, Pane};
use crate::state::Look;
use crate::theme::ColorMap;
use crate::views;
use crate::work::{DraftOf, ModelOf, Serves as _, TimelineOf, TraceOf};
use anyhow::{Context as _, bail};
use std::ffi::OsString;
use std::path::PathBuf;
use tokenscope_analysis::Ctx;
use tokenscope_analysis::method::Kind;
use tokenscope_analysis::model::Writes;
use tokenscope_analysis::save::save_bytes;
use tokenscope_analysis::segment::{self, Reads};
use tokenscope_analysis::trace::Site;

/// Ways to cut what is no text.
fn wholes() -> Vec<&'static str> {
    segment::all().filter(|m| m.reads() != Reads::Text).map(|m| m.info().id).collect()
}

/// Size of a figure that is not asked for.
const SIZE: &str = "900x640";

/// Arguments of `render`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// View: segmentation, importance, flow, drafts, findings, compare, or window for all of them with their panels
    #[arg(long, required_unless_present = "lesson")]
    view: Option<String>,
    /// Draw the window at a step of this lesson, with its caption; on the model of --model, where one is named
    #[arg(long, value_name = "NAME", conflicts_with_all = ["view", "example"])]
    lesson: Option<String>,
    /// Step of the lesson
    #[arg(long, requires = "lesson", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    step: u32,
    #[command(flatten)]
    input: Input,
    /// Parts of the importance view, comma-separated [default: all, or those of the example or session]
    #[arg(long, value_delimiter = ',', value_parser = views::PARTS)]
    parts: Option<Vec<String>>,
    #[command(flatten)]
    shown: Shown,
    /// Model that drafts [default: sample-draft, or that of the session]
    #[arg(long)]
    draft_model: Option<OsString>,
    /// Layer and head of the attention map [default: 1 0, or those of the example or session]
    #[arg(long, value_names = ["LAYER", "HEAD"], num_args = 2)]
    head: Option<Vec<usize>>,
    /// Colour scale of the attention map [default: linear, or that of the session]
    #[arg(long, value_parser = ["linear", "log", "rank", "row"])]
    scale: Option<String>,
    /// Edges of the flow view below this share are left out [default: 0.08, or that of the example or session]
    #[arg(long)]
    threshold: Option<f32>,
    /// A further pane: options for what is another in it, in quotes, as --with '--prompt "A cat" --head 2 1'; may be
    /// given several times. The view compare shows the first pane minus it
    #[arg(long, value_name = "OPTIONS")]
    with: Vec<String>,
    /// Parts of the view compare, comma-separated [default: next,scores]
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(Compared::ALL.map(Compared::name)))]
    compared: Option<Vec<String>>,
    /// What becomes of tokens in the view compare that another tokenizer has as one [default: sum]
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(Fold::ALL.map(Fold::name)))]
    fold: Option<String>,
    /// Leave out the marks of the ground truth
    #[arg(long)]
    no_truth: bool,
    /// Round of the drafts view, from 1; of models that fill in, the number of steps that are done [default: 1, or that
    /// of the session]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    round: Option<u32>,
    /// Tokenizer files that the segmentation view compares [default: none, or those of the session]
    #[arg(long)]
    tokenizer: Vec<PathBuf>,
    /// Built-in rows of the segmentation view, comma-separated [default: the window's, or those of the session]
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(segment::text::names()))]
    rows: Option<Vec<String>>,
    /// Way to cut the picture or the series, shown by the segmentation view instead of the text
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(wholes()))]
    cut: Option<String>,
    /// Row that premiums of the segmentation view are relative to [default: the first, or that of the session]
    #[arg(long)]
    reference: Option<String>,
    /// Colour the model's own row of the segmentation view by surprisal
    #[arg(long)]
    surprisal: bool,
    /// Dark colours
    #[arg(long)]
    dark: bool,
    /// Colours of magnitudes [default: cividis, or those of the session]
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(ColorMap::ALL.map(ColorMap::name)))]
    colors: Option<String>,
    /// Width and height in points (CSS pixels)
    #[arg(long, default_value = SIZE, value_name = "WxH")]
    size: String,
    /// A figure for paper of this width in millimetres, with text of 7 to 9 pt on white: 85 is one column, 178 two.
    /// The shape is that of --size, for views without a height of their own
    #[arg(long, value_name = "MM")]
    width_mm: Option<f32>,
    /// Pixels per point of a PNG; default 2, for paper 3.125, which is 300 dots an inch
    #[arg(long)]
    pixels: Option<f32>,
    /// File to write; .png, .svg, .csv or .json. In CSV, words that a spreadsheet would run as a formula get an
    /// apostrophe in front
    #[arg(long)]
    out: PathBuf,
}

/// Runs the verb.
pub fn run(args: Args) -> anyhow::Result<()> {
    args.input.spares(Some(&args.out))?;
    let lesson = args.lesson.as_deref().map(lesson::find).transpose()?;
    let asked = args.view.as_deref().unwrap_or("window");
    let whole = asked == "window";
    let view = if whole { None } else { Some(views::find(asked)?) };
    let mut doc = args.input.start()?;
    args.shown.choose(&mut doc, &args.input, args.cut.as_deref())?;
    let map = args.colors.as_deref().and_then(ColorMap::find).unwrap_or(doc.look.map);
    doc.look = Look { dark: args.dark || doc.look.dark, map, ..doc.look };
    let pane = doc.pane_mut();
    if let Some(model) = &args.draft_model {
        pane.partner = ModelSource::parse(model);
    }
    if let Some(share) = args.threshold.filter(|t| !(0.0..=1.0).contains(t)) {
        bail!("--threshold {share}: a share from 0 to 1");
    }
    if let Some(head) = &args.head {
        pane.cursor.head = (head[0], head[1]);
    }
    if let Some(round) = args.round {
        pane.cursor.round = round as usize - 1;
    }
    let cuts = &mut pane.shows.cuts;
    if let Some(rows) = &args.rows {
        cuts.named = segment::text::names().filter(|n| rows.iter().any(|r| r == n)).collect();
    }
    if !args.tokenizer.is_empty() {
        cuts.files = args.tokenizer;
    }
    cuts.reference = args.reference.unwrap_or_else(|| std::mem::take(&mut cuts.reference));
    cuts.surprisal |= args.surprisal;
    pane.shows.truth &= !args.no_truth;
    pane.shows.threshold = args.threshold.unwrap_or(pane.shows.threshold);
    match args.parts {
        Some(parts) => pane.shows.parts = views::PARTS.map(|p| parts.iter().any(|x| x == p)),
        None if !args.input.begun() => pane.shows.parts = [true; 4],
        None => {}
    }
    if let Some(scale) = &args.scale {
        pane.shows.scale.curve = match scale.as_str() {
            "log" => Curve::Log,
            "rank" => Curve::Rank,
            "row" => Curve::Row,
            _ => Curve::Linear,
        };
    }
    if let Some(parts) = &args.compared {
        pane.shows.compared = beside::parts(parts);
    }
    if let Some(fold) = &args.fold {
        pane.shows.fold = beside::fold(fold);
    }
    let size = args.size.split_once('x').and_then(|(w, h)| Some((w.parse::<f32>().ok()?, h.parse::<f32>().ok()?)));
    let size = size.filter(|(w, h)| (64.0..=8192.0).contains(w) && (64.0..=8192.0).contains(h));
    let (w, h) = size.with_context(|| format!("--size {}: write it as 900x640, each from 64 to 8192", args.size))?;
    let pixels = args.pixels.unwrap_or(if args.width_mm.is_some() { export::PRINT_SCALE } else { 2.0 });
    if !(0.5..=8.0).contains(&pixels) {
        bail!("--pixels {pixels}: from 0.5 to 8");
    }
    let page = match args.width_mm {
        Some(mm) if !(30.0..=500.0).contains(&mm) => bail!("--width-mm {mm}: from 30 to 500"),
        Some(_) if whole => bail!("--width-mm is for single views; the window has a --size"),
        // A column of a page needs more height for the same words.
        Some(mm) if args.size == SIZE => Page::paper(mm, (mm * h / w).max(80.0), pixels),
        Some(mm) => Page::paper(mm, mm * h / w, pixels),
        None => Page::screen(egui::vec2(w, h), pixels),
    };
    let size = egui::vec2(w, h);
    let jobs = common::jobs(args.input.weights)?;
    if view.is_some_and(|v| v.id != "segmentation") {
        args.input.sees(doc.pane(), &jobs)?;
    }
    args.input.hold_against(doc.pane_mut(), &jobs)?;
    let round = args.round.filter(|r| *r > 1 && view.is_none_or(|v| v.id == "drafts")).map(|r| r as usize);
    beside::open(&mut doc, &args.with)?;
    check_cursor(doc.pane(), args.head.as_deref(), round, &jobs)?;
    let Some(view) = view else {
        let figure = match lesson {
            Some(lesson) if args.step as usize > lesson.steps.len() => {
                bail!("--step {}: {} has {}", args.step, lesson.id, lesson.steps.len())
            }
            Some(lesson) => draw_lesson(doc, &lesson, args.step as usize - 1, size, pixels, jobs.held())?,
            None => draw_window(doc, size, pixels, jobs.held())?,
        };
        let end = args.out.extension().map(|e| e.to_string_lossy().to_lowercase());
        let bytes = match end.as_deref() {
            Some("png") => figure.png(pixels)?,
            Some("svg") => figure.svg().into_bytes(),
            _ => bail!("the window can be drawn as .png or .svg: {}", args.out.display()),
        };
        return Ok(save_bytes(&args.out, &bytes)?);
    };
    export::save_page(view, &doc, &jobs, &page, &args.out)
}

/// Errors if the head or the round that is to be shown is not there.
fn check_cursor(pane: &Pane, head: Option<&[usize]>, round: Option<usize>, jobs: &Jobs) -> anyhow::Result<()> {
    let ctx = Ctx::default();
    if let Some(&[layer, head]) = head {
        let t = jobs.get(&TraceOf(pane.run.clone()), &ctx)?;
        let tower = pane.tower_of(&t);
        let layers = t.tower(tower)?.n_layers;
        if layer >= layers {
            bail!("--head {layer} {head}: there are {layers} layers, counted from 0");
        }
        let heads = t.get(tower, layer, Site::Q).map_or(usize::MAX, |q| q.array.shape()[0]);
        if head >= heads {
            bail!("--head {layer} {head}: a layer has {heads} heads, counted from 0");
        }
    }
    let Some(round) = round else { return Ok(()) };
    let writes = jobs.get(&ModelOf(pane.run.model.clone()), &ctx)?.model.info().writes;
    let n = if writes == Writes::Fills {
        jobs.get(&TimelineOf::of(pane, pane.call(Kind::Reveal)), &ctx)?.timeline.steps.len()
    } else {
        jobs.get(&DraftOf::of(pane, pane.call(Kind::Draft)), &ctx)?.run.rounds.len()
    };
    if round > n {
        bail!("--round {round}: there are {n}");
    }
    Ok(())
}
