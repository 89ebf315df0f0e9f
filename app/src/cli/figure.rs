//! What figures show: the options that `render` and `report` share, and the document that they make.

use super::beside::{self, Shown};
use super::gather::Beside;
use super::input::{Input, spares_all};
use crate::heatmap::Curve;
use crate::jobs::Jobs;
use crate::keys::ModelSource;
use crate::pane::{Compared, Fold, Pane};
use crate::state::{Doc, Look};
use crate::theme::ColorMap;
use crate::views::{self, View};
use crate::work::{DraftOf, ModelOf, Serves as _, TimelineOf, TraceOf};
use anyhow::{Context as _, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use tokenscope_analysis::Ctx;
use tokenscope_analysis::method::Kind;
use tokenscope_analysis::model::Writes;
use tokenscope_analysis::segment::{self, Reads};
use tokenscope_analysis::trace::Site;

/// Ways to cut what is no text.
fn wholes() -> Vec<&'static str> {
    segment::all().filter(|m| m.reads() != Reads::Text).map(|m| m.info().id).collect()
}

/// What figures show.
#[derive(Debug, clap::Args)]
pub struct Figure {
    #[command(flatten)]
    pub(super) input: Input,
    /// Parts of the importance view, comma-separated [default: all, or those of the example or session]
    #[arg(long, value_delimiter = ',', value_parser = views::PARTS)]
    parts: Option<Vec<String>>,
    #[command(flatten)]
    shown: Shown,
    #[command(flatten)]
    beside: Beside,
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
    /// What no option says, e.g. a part of the attention map, as JSON of the window's pane, laid over everything else;
    /// commands in figures have it
    #[arg(long, value_name = "JSON")]
    pane: Option<String>,
    /// Dark colours
    #[arg(long)]
    dark: bool,
    /// Colours of magnitudes [default: cividis, or those of the session]
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(ColorMap::ALL.map(ColorMap::name)))]
    colors: Option<String>,
}

impl Figure {
    /// The document. Errors: what `out` names is an input, an unknown name, a bad value.
    pub(super) fn start(&self, out: &Path) -> anyhow::Result<Doc> {
        self.input.spares(Some(out))?;
        let mut doc = self.input.start()?;
        self.shown.choose(&mut doc, &self.input, self.cut.as_deref())?;
        let map = self.colors.as_deref().and_then(ColorMap::find).unwrap_or(doc.look.map);
        doc.look = Look { dark: self.dark || doc.look.dark, map, ..doc.look };
        let pane = doc.pane_mut();
        if let Some(model) = &self.draft_model {
            pane.partner = ModelSource::parse(model);
        }
        if let Some(share) = self.threshold.filter(|t| !(0.0..=1.0).contains(t)) {
            bail!("--threshold {share}: a share from 0 to 1");
        }
        if let Some(head) = &self.head {
            pane.cursor.head = (head[0], head[1]);
        }
        if let Some(round) = self.round {
            pane.cursor.round = round as usize - 1;
        }
        let cuts = &mut pane.shows.cuts;
        if let Some(rows) = &self.rows {
            cuts.named = segment::text::names().filter(|n| rows.iter().any(|r| r == n)).collect();
        }
        if !self.tokenizer.is_empty() {
            cuts.files.clone_from(&self.tokenizer);
        }
        if let Some(reference) = &self.reference {
            cuts.reference.clone_from(reference);
        }
        cuts.surprisal |= self.surprisal;
        pane.shows.truth &= !self.no_truth;
        pane.shows.threshold = self.threshold.unwrap_or(pane.shows.threshold);
        match &self.parts {
            Some(parts) => pane.shows.parts = views::PARTS.map(|p| parts.iter().any(|x| x == p)),
            None if !self.input.begun() => pane.shows.parts = [true; 4],
            None => {}
        }
        if let Some(scale) = &self.scale {
            pane.shows.scale.curve = match scale.as_str() {
                "log" => Curve::Log,
                "rank" => Curve::Rank,
                "row" => Curve::Row,
                _ => Curve::Linear,
            };
        }
        self.beside.put(pane)?;
        if let Some(parts) = &self.compared {
            pane.shows.compared = beside::parts(parts);
        }
        if let Some(fold) = &self.fold {
            pane.shows.fold = beside::fold(fold);
        }
        if let Some(text) = &self.pane {
            beside::lay(pane, text)?;
        }
        Ok(doc)
    }

    /// What needs a model to be said: what a prediction is held against, and the further panes, which begin as the first.
    ///
    /// Errors: what `out` names is an input, a text that is no token, options of a pane that there are not; a head or a round that is not there, of
    /// rounds those of `view`, or of all.
    pub(super) fn finish(&self, doc: &mut Doc, view: Option<&View>, jobs: &Jobs, out: &Path) -> anyhow::Result<()> {
        self.input.hold_against(doc.pane_mut(), jobs)?;
        beside::open(doc, &self.with, jobs)?;
        spares_all(doc, Some(out))?;
        self.check(doc.pane(), view, jobs)
    }

    fn check(&self, pane: &Pane, view: Option<&View>, jobs: &Jobs) -> anyhow::Result<()> {
        let ctx = Ctx::default();
        if let Some(&[layer, head]) = self.head.as_deref() {
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
        let round = self.round.unwrap_or(1) as usize;
        if round < 2 || view.is_some_and(|v| !v.shows.contains(&Kind::Draft)) {
            return Ok(());
        }
        let writes = jobs.get(&ModelOf::of(&pane.run), &ctx)?.model.info().writes;
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
}

/// Width and height as `900x640`, each within `range`. Errors: something else, which `name` gave.
pub(super) fn size(name: &str, text: &str, range: std::ops::RangeInclusive<f32>) -> anyhow::Result<[f32; 2]> {
    let pair = text.split_once('x').and_then(|(w, h)| Some([w.parse::<f32>().ok()?, h.parse::<f32>().ok()?]));
    let fits = pair.filter(|p| p.iter().all(|v| range.contains(v)));
    fits.with_context(|| format!("{name} {text}: write it as 900x640, each from {} to {}", range.start(), range.end()))
}
