//! The verbs that run methods on a model: `run`, `draft`, `flow`, and `render`, which draws a view without a window.
//!
//! They build the document that the window would have and ask for the same products.

use super::common;
use crate::app::draw_window;
use crate::examples;
use crate::export::{self, Page};
use crate::heatmap::Curve;
use crate::keys::ModelSource;
use crate::pane::{Cuts, Pane};
use crate::picture_source::PictureSource;
use crate::selection::Selection;
use crate::series_source::SeriesSource;
use crate::state::{Command, Doc, Look};
use crate::theme::ColorMap;
use crate::views;
use crate::work::{DraftOf, FindingOf, FlowOf, ReducedOf, ScoreOf, Stage, TimelineOf, TraceOf, TruthOf};
use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::PathBuf;
use tokenscope_analysis::method::{Info, Kind, Params};
use tokenscope_analysis::reduce::{Fate, Step};
use tokenscope_analysis::segment::{self, Reads};
use tokenscope_analysis::trace::{Tower, Trace};
use tokenscope_analysis::truth::Agreement;
use tokenscope_analysis::{Ctx, Subject, catalog};

/// The input of a run, the same for every verb.
#[derive(Debug, clap::Args)]
pub struct Input {
    /// Start from this example of the gallery; what else is given replaces its part of it
    #[arg(long, value_name = "NAME")]
    pub(super) example: Option<String>,
    /// Model folder, GGUF file, recorded trace, or the name of a sample model [default: sample-lm]
    #[arg(long)]
    pub(super) model: Option<String>,
    /// Text for the model; the default is the window's first example
    #[arg(long)]
    prompt: Option<String>,
    /// Picture for models that read one: a file, or a drawn scene as scene:SEED
    #[arg(long)]
    image: Option<OsString>,
    /// Series for methods that cut one: a WAV or CSV file, or a made signal as signal:SEED
    #[arg(long, value_name = "FILE")]
    series: Option<OsString>,
    /// Column of a CSV file or channel of a WAV file, by name or number from 1; default: the first that is not the time
    #[arg(long, requires = "series")]
    column: Option<String>,
    /// Samples a second of the series, where the file does not say
    #[arg(long, requires = "series", value_name = "HZ")]
    rate: Option<f64>,
    /// Stack of layers: text or vision; default: the main one
    #[arg(long, value_parser = ["text", "vision"])]
    tower: Option<String>,
    /// Index of the token whose prediction is explained; default: the last
    #[arg(long)]
    target: Option<usize>,
    /// A parameter of the method, as key=value; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
}

impl Input {
    /// The document with model, input and what an example chose. Errors: an unknown example, a bad picture.
    pub(super) fn start(&self) -> anyhow::Result<Doc> {
        let mut doc = Doc::default();
        if let Some(name) = &self.example {
            doc = Doc::of(examples::find(name)?.pane(doc.pane()));
        }
        if let Some(model) = &self.model {
            // Another model shows the same: what the example chose stays.
            doc.pane_mut().run.model = ModelSource::parse(model);
        }
        if let Some(prompt) = &self.prompt {
            doc.apply(Command::Prompt(prompt.into()));
        }
        if let Some(image) = PictureSource::parse_some(self.image.clone())? {
            doc.apply(Command::Image(Some(image)));
        }
        if let Some(series) = self.series()? {
            doc.apply(Command::Series(Some(series)));
        }
        let towers = [("text", Tower::Text), ("vision", Tower::Vision)];
        if let Some((_, tower)) = self.tower.as_deref().and_then(|t| towers.iter().find(|x| x.0 == t)) {
            doc.apply(Command::Tower(Some(*tower)));
        }
        if let Some(token) = self.target {
            doc.apply(Command::Select(Selection::one(token)));
        }
        Ok(doc)
    }

    /// The series, where one is given. Errors: a bad seed or rate.
    pub(super) fn series(&self) -> anyhow::Result<Option<SeriesSource>> {
        let of = |text: &OsString| SeriesSource::parse(text.clone(), self.column.clone(), self.rate);
        self.series.as_ref().map(of).transpose()
    }

    /// What `--set` says about one method. Errors: an unknown parameter, a bad value.
    pub(super) fn params(&self, info: &Info) -> anyhow::Result<Params> {
        let mut params = Params::new();
        for pair in &self.set {
            let (key, value) = pair.split_once('=').with_context(|| format!("--set {pair}: write it as key=value"))?;
            let known = || info.params.iter().map(|p| p.key).collect::<Vec<_>>().join(", ");
            let p = match info.param(key) {
                Some(p) => p,
                None if info.params.is_empty() => bail!("--set {pair}: this method has no parameters"),
                None => bail!("no parameter named {key}; known: {}", known()),
            };
            params.insert(p.key, p.parse(value)?);
        }
        Ok(params)
    }

    /// The document that the window would have. Errors: an unknown method or parameter, a bad value.
    pub(super) fn doc(&self, methods: &[(Kind, &str)]) -> anyhow::Result<Doc> {
        let mut doc = self.start()?;
        for (kind, id) in methods {
            let id = catalog::info(*kind, id)?.id;
            // The method that is chosen already keeps its parameters.
            if doc.pane().call(*kind).method != id {
                doc.apply(Command::Method(id));
            }
        }
        for pair in &self.set {
            let Some((key, value)) = pair.split_once('=') else {
                bail!("--set {pair}: write it as key=value");
            };
            let mut known = Vec::new();
            let mut found = false;
            for (kind, id) in methods {
                let info = catalog::info(*kind, id)?;
                known.extend(info.params.iter().map(|p| p.key));
                if let Some(p) = info.param(key) {
                    doc.apply(Command::Param(*kind, p.key, p.parse(value)?));
                    found = true;
                }
            }
            if !found && known.is_empty() {
                bail!("--set {pair}: this method has no parameters");
            }
            if !found {
                bail!("no parameter named {key}; known: {}", known.join(", "));
            }
        }
        Ok(doc)
    }
}

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Id of a method that cuts a text, a picture or a series, scores, reduces, follows the flow, drafts or fills in;
    /// `tokenscope methods` lists them
    method: String,
    #[command(flatten)]
    input: Input,
    /// Model that drafts, for draft methods that need one
    #[arg(long, default_value = "sample-draft")]
    draft_model: String,
    /// JSON file to write; standard output without it
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs the verb `run`.
pub fn run(args: RunArgs) -> anyhow::Result<()> {
    let info = catalog::find(&args.method)?.info();
    let value = if info.kind == Kind::Segment {
        super::cut::cut(&args.input, info)?
    } else {
        let mut doc = args.input.doc(&[(info.kind, info.id)])?;
        doc.pane_mut().partner = ModelSource::parse(&args.draft_model);
        result(doc.pane(), info)?
    };
    common::write(args.out.as_deref(), &serde_json::to_string_pretty(&value)?)
}

/// The method of that kind and id, or what a window shows first of the kind.
fn named_or_first(kind: Kind, id: Option<&str>) -> anyhow::Result<&'static Info> {
    match id {
        Some(id) => Ok(catalog::info(kind, id)?),
        None => catalog::first(kind).with_context(|| format!("there is no {}", kind.noun())),
    }
}

/// Arguments of `draft`.
#[derive(Debug, clap::Args)]
pub struct DraftArgs {
    /// Id of the draft method [default: the window's]
    #[arg(long)]
    method: Option<String>,
    #[command(flatten)]
    input: Input,
    /// Model that drafts
    #[arg(long, default_value = "sample-draft")]
    draft_model: String,
    /// JSON file to write; standard output without it
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs the verb `draft`.
pub fn draft(args: DraftArgs) -> anyhow::Result<()> {
    let info = named_or_first(Kind::Draft, args.method.as_deref())?;
    let method = info.id.to_string();
    run(RunArgs { method, input: args.input, draft_model: args.draft_model, out: args.out })
}

/// Arguments of `flow`.
#[derive(Debug, clap::Args)]
pub struct FlowArgs {
    /// Id of the flow method [default: the window's]
    #[arg(long)]
    method: Option<String>,
    #[command(flatten)]
    input: Input,
    /// Leave out edges below this share
    #[arg(long, default_value_t = 0.0)]
    threshold: f32,
    /// JSON file to write; standard output without it
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs the verb `flow`.
pub fn flow(args: FlowArgs) -> anyhow::Result<()> {
    let info = named_or_first(Kind::Flow, args.method.as_deref())?;
    let mut doc = args.input.doc(&[(Kind::Flow, info.id)])?;
    doc.pane_mut().shows.threshold = args.threshold;
    let value = result(doc.pane(), info)?;
    common::write(args.out.as_deref(), &serde_json::to_string_pretty(&value)?)
}

/// The product of a method on the pane's run, as JSON.
pub(super) fn result(pane: &Pane, info: &Info) -> anyhow::Result<Value> {
    let jobs = common::jobs()?;
    let ctx = Ctx::default();
    let call = pane.call(info.kind);
    let head = json!({ "method": info.id, "params": call.params.to_json(), "model": pane.run.model.title(), "prompt": &*pane.run.prompt });
    let mut out = head.as_object().cloned().unwrap_or_default();
    let mut put = |key: &str, v: Value| out.insert(key.into(), v);
    let trace = || jobs.get(&TraceOf(pane.run.clone()), &ctx);
    match info.kind {
        Kind::Score => {
            let t = trace()?;
            let s = jobs.get(&ScoreOf { scope: pane.scope(), targets: pane.targets(), call }, &ctx)?;
            put("tokens", tokens(&t, pane));
            put("unit", json!(s.unit));
            put("signed", json!(s.signed));
            put("values", json!(s.values));
            put("layers", json!(s.layers));
            put("finding", s.finding(tower(&t, pane)).json());
            // What decides the answer is known of inputs that the program makes itself, for the last prediction.
            let last = t.towers.get(&tower(&t, pane)).map_or(0, |t| t.tokens.len()).checked_sub(1);
            let about_the_last =
                pane.targets().is_empty() || Some(pane.targets().as_slice()) == last.as_ref().map(std::slice::from_ref);
            if about_the_last
                && let Some(truth) = jobs.get(&TruthOf(pane.run.clone()), &ctx)?.as_ref()
                && let Some(shares) = t.towers.get(&tower(&t, pane)).and_then(|t| truth.shares(t))
            {
                let a = Agreement::new(&s.values, s.signed, &shares);
                put(
                    "truth",
                    json!({
                        "answer": truth.answer, "shares": shares, "pointing_game_hit": a.map(|a| a.hit),
                        "precision_at_true_size": a.map(|a| a.precision), "true_size": a.map(|a| a.n_true),
                        "rank_correlation": a.and_then(|a| a.rank),
                    }),
                );
            }
        }
        Kind::Reduce => {
            let t = trace()?;
            let p = jobs.get(&ReducedOf { scope: pane.scope(), call }, &ctx)?;
            let top =
                |list: &[(String, f32)]| list.iter().map(|(t, p)| json!({ "text": t, "p": p })).collect::<Vec<_>>();
            let j = &p.judgement;
            put("tokens", tokens(&t, pane));
            put("fates", p.fates.iter().map(fate).collect());
            put("steps", p.stages.iter().map(stage).collect());
            put("plan", p.plan.steps.iter().map(step).collect());
            put("kept_share", json!(p.kept));
            put("kl_nats", json!(j.kl));
            put("top1_same", json!(j.top1_same));
            put("cosine", json!(j.cosine));
            put("full", json!(top(&p.full)));
            put("reduced", json!(top(&p.reduced)));
            put("rows_by_layer", json!(j.rows_by_layer));
            put("kv_bytes_by_layer", json!(j.kv_bytes_by_layer));
            put("flops_share", json!(j.flops_share));
            put("finding", p.plan.finding(&Subject::new(&t).of(tower(&t, pane)), Some(j))?.json());
        }
        Kind::Flow => {
            let t = trace()?;
            let g = jobs.get(&FlowOf { scope: pane.scope(), call }, &ctx)?;
            put("tokens", tokens(&t, pane));
            put("n_layers", json!(g.n_layers));
            put("unit", json!(g.links.measure.unit));
            put("edges_from", json!(g.links.floor.max(pane.shows.threshold)));
            put("finding", g.finding().json());
            put("edges", json!(g.above(pane.shows.threshold).collect::<Vec<_>>()));
        }
        Kind::Draft => {
            let asked = DraftOf { run: pane.run.clone(), partner: pane.partner.clone(), call };
            let d = jobs.get(&asked, &ctx)?;
            put("draft_model", json!(pane.partner.title()));
            put("tokens_per_round", json!(d.run.tokens_per_round()));
            let text: String = d.run.output().iter().map(|id| d.text.get(id).map_or("", String::as_str)).collect();
            put("text", json!(text));
            put("finding", d.run.finding(&|id| d.text.get(&id).cloned().unwrap_or_default()).json());
            put("run", serde_json::to_value(&d.run)?);
        }
        Kind::Study | Kind::Cache => {
            let t = trace()?;
            let target = pane.aim.tokens().last().copied();
            let found = jobs.get(&FindingOf { scope: pane.scope(), target, call }, &ctx)?;
            put("tokens", tokens(&t, pane));
            put("finding", found.json());
        }
        Kind::Reveal => {
            let w = jobs.get(&TimelineOf { run: pane.run.clone(), call }, &ctx)?;
            put("text", json!(w.whole));
            put("tokens_per_forward", json!(w.timeline.tokens_per_forward()));
            put("steps_held_back", json!(w.timeline.steps_held_back()));
            put("finding", w.finding.json());
            put("timeline", serde_json::to_value(&w.timeline)?);
        }
        _ => bail!("{} is not run on a model", info.id),
    }
    put("notes", json!(ctx.notes()));
    Ok(Value::Object(out))
}

/// What became of a token, as JSON.
fn fate(f: &Fate) -> Value {
    match f {
        Fate::Kept => json!("kept"),
        Fate::Merged(row) => json!({ "merged": row }),
        Fate::Aside(step) => json!({ "aside": step }),
        Fate::Dropped(step) => json!({ "dropped": step }),
    }
}

/// What a step left, by the tokens of the tower that is shown.
fn stage(s: &Stage) -> Value {
    let fates: Vec<Value> = s.fates.iter().map(fate).collect();
    json!({
        "place": s.place.to_string(), "fates": fates, "scores": s.scores, "threshold": s.threshold,
        "positions": s.positions,
    })
}

/// A step of the whole plan: new rows as tokens with their weights.
fn step(s: &Step) -> Value {
    json!({
        "place": s.place.to_string(), "tower": s.place.tower(), "tile": s.tile, "rows": s.rows, "aside": s.aside,
        "gone": s.gone, "positions": s.positions, "forgets_in_layers": s.forget,
    })
}

/// The stack of layers that is shown.
fn tower(trace: &Trace, pane: &Pane) -> Tower {
    pane.tower.filter(|t| trace.towers.contains_key(t)).unwrap_or(trace.main_tower())
}

fn tokens(trace: &Trace, pane: &Pane) -> Value {
    json!(trace.towers.get(&tower(trace, pane)).map(|t| &t.tokens))
}

/// Ways to cut what is no text.
fn wholes() -> Vec<&'static str> {
    segment::all().filter(|m| m.reads() != Reads::Text).map(|m| m.info().id).collect()
}

/// Arguments of `render`.
#[derive(Debug, clap::Args)]
pub struct RenderArgs {
    /// View: segmentation, importance, flow, drafts, findings, or window for all of them with their panels
    #[arg(long)]
    view: String,
    #[command(flatten)]
    input: Input,
    /// Parts of the importance view, comma-separated [default: all, or those of the example]
    #[arg(long, value_delimiter = ',', value_parser = views::PARTS)]
    parts: Option<Vec<String>>,
    /// Score of the importance view [default: the window's, or that of the example]
    #[arg(long)]
    score: Option<String>,
    /// Reduction of the importance view [default: the window's, or that of the example]
    #[arg(long, alias = "prune")]
    reduce: Option<String>,
    /// Method of the flow view [default: the window's, or that of the example]
    #[arg(long)]
    flow: Option<String>,
    /// Method of the drafts view [default: the window's, or that of the example]
    #[arg(long)]
    draft: Option<String>,
    /// Study of the findings view [default: the window's, or that of the example]
    #[arg(long)]
    study: Option<String>,
    /// Policy of the drafts view for models that fill in [default: the window's, or that of the example]
    #[arg(long)]
    reveal: Option<String>,
    /// Model that drafts
    #[arg(long, default_value = "sample-draft")]
    draft_model: String,
    /// Layer and head of the attention map [default: 1 0, or those of the example]
    #[arg(long, value_names = ["LAYER", "HEAD"], num_args = 2)]
    head: Option<Vec<usize>>,
    /// Colour scale of the attention map
    #[arg(long, value_parser = ["linear", "log", "rank", "row"], default_value = "linear")]
    scale: String,
    /// Edges of the flow view below this share are left out [default: 0.08, or that of the example]
    #[arg(long)]
    threshold: Option<f32>,
    /// Leave out the marks of the ground truth
    #[arg(long)]
    no_truth: bool,
    /// Round of the drafts view, from 1; of models that fill in, the number of steps that are done
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    round: u32,
    /// Tokenizer files that the segmentation view compares
    #[arg(long)]
    tokenizer: Vec<PathBuf>,
    /// Built-in rows of the segmentation view, comma-separated
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(segment::text::names()), default_values_t = Cuts::default().named.iter().map(|n| n.to_string()))]
    rows: Vec<String>,
    /// Way to cut the picture or the series, shown by the segmentation view instead of the text
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(wholes()))]
    cut: Option<String>,
    /// Row that premiums of the segmentation view are relative to; default: the first
    #[arg(long, default_value = "")]
    reference: String,
    /// Colour the model's own row of the segmentation view by surprisal
    #[arg(long)]
    surprisal: bool,
    /// Dark colours
    #[arg(long)]
    dark: bool,
    /// Colours of magnitudes
    #[arg(long, default_value = ColorMap::default().name(), value_parser = clap::builder::PossibleValuesParser::new(ColorMap::ALL.map(ColorMap::name)))]
    colors: String,
    /// Width and height in points (CSS pixels)
    #[arg(long, default_value = "900x640", value_name = "WxH")]
    size: String,
    /// A figure for paper of this width in millimetres, with text of 7 to 9 pt on white: 85 is one column, 178 two.
    /// The shape is that of --size, for views without a height of their own
    #[arg(long, value_name = "MM")]
    width_mm: Option<f32>,
    /// Pixels per point of a PNG; default 2, for paper 3.125, which is 300 dots an inch
    #[arg(long)]
    pixels: Option<f32>,
    /// File to write; .png, .svg, .csv or .json
    #[arg(long)]
    out: PathBuf,
}

/// Runs the verb `render`.
pub fn render(args: RenderArgs) -> anyhow::Result<()> {
    let whole = args.view == "window";
    let view = if whole { None } else { Some(views::find(&args.view)?) };
    // Parameters may be set for the methods that are shown, whether named here or chosen by the example.
    let shown = args.input.start()?;
    let shown = shown.pane();
    let chosen = |kind: Kind, given: &Option<String>| given.clone().unwrap_or_else(|| shown.call(kind).method.into());
    let cuts = &shown.shows.cuts;
    let cut = match cuts.shows {
        Reads::Text => args.cut.clone(),
        reads => args.cut.clone().or_else(|| Some(cuts.call(reads).method.into())),
    };
    let mut named = vec![
        (Kind::Score, chosen(Kind::Score, &args.score)),
        (Kind::Reduce, chosen(Kind::Reduce, &args.reduce)),
        (Kind::Flow, chosen(Kind::Flow, &args.flow)),
        (Kind::Draft, chosen(Kind::Draft, &args.draft)),
        (Kind::Study, chosen(Kind::Study, &args.study)),
        (Kind::Reveal, chosen(Kind::Reveal, &args.reveal)),
    ];
    named.extend(cut.map(|id| (Kind::Segment, id)));
    let methods: Vec<(Kind, &str)> = named.iter().map(|(kind, id)| (*kind, id.as_str())).collect();
    let mut doc = args.input.doc(&methods)?;
    doc.look = Look { dark: args.dark, map: ColorMap::find(&args.colors).unwrap_or_default() };
    let pane = doc.pane_mut();
    pane.partner = ModelSource::parse(&args.draft_model);
    if let Some(head) = &args.head {
        pane.cursor.head = (head[0], head[1]);
    }
    pane.cursor.round = args.round as usize - 1;
    let named = segment::text::names().filter(|n| args.rows.iter().any(|r| r == n)).collect();
    let (files, reference, surprisal) = (args.tokenizer, args.reference, args.surprisal);
    pane.shows.cuts = Cuts { files, named, reference, surprisal, ..pane.shows.cuts.clone() };
    pane.shows.truth = !args.no_truth;
    pane.shows.threshold = args.threshold.unwrap_or(pane.shows.threshold);
    match args.parts {
        Some(parts) => pane.shows.parts = views::PARTS.map(|p| parts.iter().any(|x| x == p)),
        None if args.input.example.is_none() => pane.shows.parts = [true; 4],
        None => {}
    }
    pane.shows.scale.curve = match args.scale.as_str() {
        "log" => Curve::Log,
        "rank" => Curve::Rank,
        "row" => Curve::Row,
        _ => Curve::Linear,
    };
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
        Some(mm) => Page::paper(mm, mm * h / w, pixels),
        None => Page::screen(egui::vec2(w, h), pixels),
    };
    let size = egui::vec2(w, h);
    let Some(view) = view else {
        let figure = draw_window(doc, size, pixels)?;
        let end = args.out.extension().map(|e| e.to_string_lossy().to_lowercase());
        let bytes = match end.as_deref() {
            Some("png") => figure.png(pixels)?,
            Some("svg") => figure.svg().into_bytes(),
            _ => bail!("the window can be drawn as .png or .svg: {}", args.out.display()),
        };
        return std::fs::write(&args.out, bytes).with_context(|| format!("cannot write {}", args.out.display()));
    };
    export::save_page(view, &doc, &common::jobs()?, &page, &args.out)
}
