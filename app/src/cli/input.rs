//! The input of a run and the parameters of a method, the same for every verb that runs one.

use super::common;
use super::terminal::remark;
use crate::branch::Way;
use crate::examples;
use crate::jobs::Jobs;
use crate::keys::{Call, ModelSource};
use crate::pane::{Contrast, Pane};
use crate::picture_source::PictureSource;
use crate::selection::Selection;
use crate::series_source::SeriesSource;
use crate::session::{Opened, Placed};
use crate::state::{Command, Doc};
use crate::text::Text;
use crate::work::{self, ModelOf, TraceOf};
use anyhow::{Context as _, bail};
use std::cell::OnceCell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use tokenscope_analysis::Ctx;
use tokenscope_analysis::method::{Domain, Info, Kind, Param, Setting};
use tokenscope_analysis::save::spares;
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::Tower;

/// The one token that a text is. Errors: it is several, or none.
fn one_token(tokenizer: &Tokenizer, text: &str) -> anyhow::Result<u32> {
    let ids = tokenizer.encode(text, None, false)?.ids;
    let [id] = ids[..] else {
        let pieces: Vec<String> = ids.iter().map(|id| format!("{:?}", tokenizer.token_text(*id))).collect();
        let (n, pieces) = (ids.len(), pieces.join(", "));
        bail!("this is {n} tokens ({pieces}), name one; most words have their space before them");
    };
    Ok(id)
}

/// Errors if writing to `out` would destroy what any pane of `doc` reads.
pub(super) fn spares_all(doc: &Doc, out: Option<&Path>) -> anyhow::Result<()> {
    let Some(out) = out else { return Ok(()) };
    let mut inputs: Vec<PathBuf> = Vec::new();
    for pane in doc.panes() {
        for model in [&pane.run.model, &pane.partner] {
            if let ModelSource::Path(p) | ModelSource::Recorded(p) = model {
                inputs.push(p.clone());
            }
        }
        for image in pane.run.image.iter().flat_map(PictureSource::each) {
            if let PictureSource::File(p) | PictureSource::Clip(p, _) = image {
                inputs.push(p.clone());
            }
        }
        if let Some(SeriesSource::File { path, .. }) = &pane.series {
            inputs.push(path.clone());
        }
        inputs.extend(pane.shows.cuts.files.iter().cloned());
    }
    Ok(spares(out, &inputs.iter().map(PathBuf::as_path).collect::<Vec<_>>())?)
}

/// The input of a run, the same for every verb.
#[derive(Debug, clap::Args)]
pub struct Input {
    /// Start from this example of the gallery; what else is given replaces its part of it
    #[arg(long, value_name = "NAME")]
    pub(super) example: Option<String>,
    /// Start from this session, a file *.tokenscope: from the pane that is worked in, or from --pin; what else is given
    /// replaces its part of it
    #[arg(long, value_name = "FILE", conflicts_with = "example")]
    pub(super) session: Option<PathBuf>,
    /// Start from the run that the session keeps under this name
    #[arg(long, requires = "session", value_name = "NAME")]
    pin: Option<String>,
    /// Model folder, GGUF file, recorded trace, or the name of a sample model [default: sample-lm]
    #[arg(long, visible_alias = "trace")]
    pub(super) model: Option<OsString>,
    /// Text for the model; the default is the window's first example
    #[arg(long)]
    prompt: Option<String>,
    #[command(flatten)]
    image: common::Images,
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
    /// Explain why what is predicted there rather than this token, given by its exact text, with the space that belongs
    /// to it: for scores that explain a prediction
    #[arg(long, value_name = "TEXT")]
    rather_than: Option<String>,
    /// Have the model say what comes next after the chosen reduction: for `compare` and the view compare
    #[arg(long)]
    reduced: bool,
    /// Go on from another token: the prompt becomes the text up to token N of the run, counted from 0, and the token TEXT
    /// behind it, given by its exact text, or as N=ID by its number
    #[arg(long, value_name = "N:TEXT")]
    branch: Option<String>,
    /// A parameter of the method, as key=value, or as kind.key=value where methods of several kinds have one of that
    /// name; may be given several times. A text may stand in a file: key=@FILE
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    #[command(flatten)]
    pub(super) weights: common::Numbered,
    /// Files that were unpacked of the session, as long as the verb runs.
    #[arg(skip)]
    placed: OnceCell<Placed>,
}

impl Input {
    /// Errors if writing to `out` would destroy what is read.
    pub(super) fn spares(&self, out: Option<&Path>) -> anyhow::Result<()> {
        let (model, series) = (self.model.as_ref().map(Path::new), self.series.as_ref().map(Path::new));
        let inputs = [model, series, self.session.as_deref()];
        let inputs: Vec<&Path> = inputs.into_iter().flatten().chain(self.image.paths()).collect();
        Ok(out.map_or(Ok(()), |out| spares(out, &inputs))?)
    }

    /// Errors if `--rather-than` is given to a verb that explains no prediction, or `--reduced` to one that reduces none.
    pub(super) fn explains_nothing(&self, verb: &str) -> anyhow::Result<()> {
        if self.reduced {
            bail!("--reduced is for what comes next in a comparison, and {verb} goes on from the full run");
        }
        match &self.rather_than {
            Some(text) => bail!("--rather-than {text:?} is for scores, and {verb} has none"),
            None => Ok(()),
        }
    }

    /// The document with model, input and what an example chose. Errors: an unknown example, a bad picture.
    pub(super) fn start(&self) -> anyhow::Result<Doc> {
        let mut doc = match &self.session {
            Some(path) => self.opened(path)?,
            None => {
                let mut doc = Doc::default();
                doc.pane_mut().run.placement = self.weights.placement()?;
                doc
            }
        };
        self.change(&mut doc)?;
        Ok(doc)
    }

    /// Changes the pane that is worked in to what is given; the rest of it, and a session, stay. Errors: as of [`Input::start`].
    pub(super) fn change(&self, doc: &mut Doc) -> anyhow::Result<()> {
        if let Some(name) = &self.example {
            let pane = examples::find(name)?.pane(doc.pane());
            *doc.pane_mut() = pane;
        }
        let run = &mut doc.pane_mut().run;
        run.placement = self.weights.onto(run.placement);
        if let Some(model) = &self.model {
            // Another model shows the same: what the example chose stays.
            let pane = doc.pane_mut();
            (pane.run.model, pane.contrast) = (ModelSource::parse(model), None);
        }
        if let ModelSource::Recorded(path) = &doc.pane().run.model {
            let given = [("--prompt", self.prompt.is_some()), ("--image", !self.image.is_none())];
            if let Some((option, _)) = given.iter().find(|(_, given)| *given) {
                bail!("{option}: a recorded run has read what it has read; leave it out: {}", path.display());
            }
        }
        if let Some(prompt) = &self.prompt {
            doc.apply(Command::Prompt(prompt.into()));
        }
        if let Some(image) = self.image.source()? {
            doc.apply(Command::Image(Some(image)));
        }
        if let Some(series) = self.series()? {
            doc.apply(Command::Series(Some(series)));
        }
        let towers = [("text", Tower::Text), ("vision", Tower::Vision)];
        if let Some((_, tower)) = self.tower.as_deref().and_then(|t| towers.iter().find(|x| x.0 == t)) {
            doc.apply(Command::Tower(Some(*tower)));
        }
        doc.pane_mut().reduced |= self.reduced;
        if let Some(words) = &self.branch {
            let text = self.branched(words, doc.pane()).with_context(|| format!("--branch {words}"))?;
            doc.apply(Command::Prompt(text));
        }
        if let Some(token) = self.target {
            doc.apply(Command::Select(Selection::one(token)));
        }
        Ok(())
    }

    /// The prompt that goes on from another token of what `pane` runs; where it is cut otherwise, that is said on
    /// standard error.
    ///
    /// Errors: words that name no token, a recorded run, a model without a tokenizer.
    fn branched(&self, words: &str, pane: &Pane) -> anyhow::Result<Text> {
        let place =
            words.find(|c: char| !c.is_ascii_digit()).and_then(|i| Some((words[..i].parse::<usize>().ok()?, i)));
        let (at, i) = place.context("write it as N:TEXT, or as N=ID by the number of the token")?;
        let (sign, token) = words[i..].split_at(words[i..].chars().next().map_or(0, char::len_utf8));
        let (jobs, ctx) = (common::jobs(self.weights)?, Ctx::default());
        let open = jobs.get(&ModelOf::of(&pane.run), &ctx)?;
        let tokenizer = open.text()?;
        let id = match sign {
            ":" => one_token(tokenizer, token)?,
            "=" => {
                token.parse().ok().filter(|id| tokenizer.token(*id).is_some()).context("no token has that number")?
            }
            _ => bail!("write it as N:TEXT, or as N=ID by the number of the token"),
        };
        let trace = jobs.get(&TraceOf(pane.run.clone()), &ctx)?;
        let Way { text, otherwise } = Way::after(tokenizer, &trace.text, &trace.tower(Tower::Text)?.tokens, at, &[id])?;
        otherwise.iter().for_each(|why| remark(format_args!("note: {why}")));
        Ok(text)
    }

    /// Whether the document begins with choices that were made elsewhere, which stay where nothing else is given.
    pub(super) fn begun(&self) -> bool {
        self.example.is_some() || self.session.is_some()
    }

    /// The document of a session; what cannot be shown as it was is said on standard error.
    ///
    /// Errors: it does not open, or has no such pin.
    fn opened(&self, path: &Path) -> anyhow::Result<Doc> {
        let Opened { session, placed, remarks, .. } = Opened::open(path)?;
        remarks.iter().for_each(|r| remark(format_args!("note: {r}")));
        let _ = self.placed.set(placed);
        let mut doc = session.doc;
        if let Some(name) = &self.pin {
            let named = doc.pins.iter().find(|p| p.name == *name).map(|p| p.pane.clone());
            let known = || doc.pins.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", ");
            let pane = named.with_context(|| format!("no pin named {name}; known: {}: {}", known(), path.display()))?;
            *doc.pane_mut() = pane;
        }
        Ok(doc)
    }

    /// The series, where one is given. Errors: a bad seed or rate.
    pub(super) fn series(&self) -> anyhow::Result<Option<SeriesSource>> {
        let of = |text: &OsString| SeriesSource::parse(text.clone(), self.column.clone(), self.rate);
        self.series.as_ref().map(of).transpose()
    }

    /// What `--set` says, each parameter for every one of the methods that has it, or for that of the kind it names.
    ///
    /// Errors: none has it, a bad value.
    pub(super) fn settings(&self, methods: &[&Info]) -> anyhow::Result<Vec<(Kind, &'static str, Setting)>> {
        let mut out = Vec::new();
        for pair in &self.set {
            let (key, value) = pair.split_once('=').with_context(|| format!("--set {pair}: write it as key=value"))?;
            let of = key.split_once('.').and_then(|(kind, key)| Some((common::kind(kind)?, key)));
            let (only, key) = of.map_or((None, key), |(kind, key)| (Some(kind), key));
            let methods: Vec<&&Info> = methods.iter().filter(|i| only.is_none_or(|kind| i.kind == kind)).collect();
            let before = out.len();
            let text = |p: &Param| matches!(p.domain, Domain::Text { .. });
            let from_file;
            // A text may stand in a file.
            let value = match value.strip_prefix('@') {
                Some(file) if methods.iter().filter_map(|i| i.param(key)).any(text) => {
                    from_file = common::text(Path::new(file))?;
                    &from_file
                }
                _ => value,
            };
            for (kind, p) in methods.iter().filter_map(|i| Some((i.kind, i.param(key)?))) {
                out.push((kind, p.key, p.parse(value)?));
            }
            let known: Vec<&str> = methods.iter().flat_map(|i| i.params).map(|p| p.key).collect();
            match (out.len() == before, known.is_empty()) {
                (true, true) => bail!("--set {pair}: this method has no parameters"),
                (true, false) => bail!("no parameter named {key}; known: {}", known.join(", ")),
                (false, _) => {}
            }
        }
        Ok(out)
    }

    /// The method with what `--set` says; one that the example chose keeps its other parameters.
    pub(super) fn call(&self, pane: &Pane, info: &'static Info) -> anyhow::Result<Call> {
        let chosen = Some(pane.call(info.kind)).filter(|c| c.method == info.id);
        let mut call = chosen.unwrap_or_else(|| Call::of(info));
        for (_, key, value) in self.settings(&[info])? {
            call.params.insert(key, value);
        }
        Ok(call)
    }

    /// Errors if a picture is given that the model would not look at.
    pub(super) fn sees(&self, pane: &Pane, jobs: &Jobs) -> anyhow::Result<()> {
        if self.image.is_none() {
            return Ok(());
        }
        let open = jobs.get(&ModelOf::of(&pane.run), &Ctx::default())?;
        match open.processor {
            Some(_) => Ok(()),
            None => bail!("--image: {} reads no images; choose another --model", open.model.info().architecture),
        }
    }

    /// Holds the prediction of `pane` against the token that `--rather-than` names. Errors: a model without a tokenizer, a
    /// text that is not one token of it.
    pub(super) fn hold_against(&self, pane: &mut Pane, jobs: &Jobs) -> anyhow::Result<()> {
        let Some(text) = &self.rather_than else { return Ok(()) };
        let open = jobs.get(&ModelOf::of(&pane.run), &Ctx::default())?;
        let id = one_token(open.text()?, text).with_context(|| format!("--rather-than {text:?}"))?;
        pane.contrast = Some(Contrast { id, text: text.clone() });
        Ok(())
    }

    /// Writes the method on what `pane` shows as JSON, to a file or to standard output. Errors: an unknown parameter, a
    /// bad value, those of the method.
    pub(super) fn tell(&self, pane: &Pane, info: &'static Info, out: Option<&Path>) -> anyhow::Result<()> {
        let jobs = common::jobs(self.weights)?;
        if info.kind != Kind::Segment {
            self.sees(pane, &jobs)?;
        }
        if self.reduced {
            bail!("--reduced is for what comes next in a comparison; {} runs on the full run", info.id);
        }
        if self.rather_than.is_some() && info.kind != Kind::Score {
            bail!("--rather-than is for scores; {} is a {}", info.id, info.kind.noun());
        }
        let mut pane = pane.clone();
        self.hold_against(&mut pane, &jobs)?;
        let pane = &pane;
        let many = |bytes: u64| {
            remark(format_args!(
                "this may write up to {} MB; --threshold of `tokenscope flow` leaves out weak edges",
                bytes >> 20
            ))
        };
        let telling = work::tell(pane, self.call(pane, info)?, &jobs, &Ctx::default(), &many)?;
        common::write_by(out, |out| telling.write(out))
    }
}
