//! Panes beside the first one, on the command line: each is the first with some things changed.

use super::common;
use super::input::Input;
use crate::jobs::Jobs;
use crate::keys::{Call, ModelSource};
use crate::pane::{Compared, Fold, Pane};
use crate::patch;
use crate::state::{Command, Doc};
use crate::views;
use anyhow::{Context as _, anyhow, bail};
use clap::Parser as _;
use std::ffi::OsString;
use tokenscope_analysis::catalog;
use tokenscope_analysis::method::{Info, Kind};
use tokenscope_analysis::reduce::Schedule;
use tokenscope_analysis::segment::Reads;

/// What is another in a further pane.
#[derive(Debug, clap::Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Change {
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    shown: Shown,
    #[arg(long)]
    draft_model: Option<OsString>,
    #[arg(long, num_args = 2)]
    head: Option<Vec<usize>>,
    #[arg(long)]
    cut: Option<String>,
    /// As of `render`.
    #[arg(long)]
    pane: Option<String>,
}

/// Lays what no option says, as JSON, over a pane. Errors: no JSON, names or values that do not fit.
pub(super) fn lay(pane: &mut Pane, text: &str) -> anyhow::Result<()> {
    let rest = serde_json::from_str(text).map_err(|e| anyhow!("--pane is no JSON: {e}"))?;
    *pane = patch::onto(pane, &rest).map_err(|e| anyhow!("--pane: {e}"))?.held();
    Ok(())
}

/// Opens a pane for each of `with`, the options for what is another in it, behind all others, and stays in the one that
/// is worked in, which is compared with the first of them. Errors: quotes that do not close, options that there are not,
/// and those of the options.
pub(super) fn open(doc: &mut Doc, with: &[String], jobs: &Jobs) -> anyhow::Result<()> {
    let (own, before) = (doc.active(), doc.panes().len());
    for words in with {
        let Some(split) = shlex::split(words) else { bail!("--with {words}: a quote is not closed") };
        let change = Change::try_parse_from(split).map_err(|e| {
            let why = e.render().to_string();
            let line = why.lines().next().unwrap_or_default();
            anyhow::anyhow!("--with {words}: {}", line.trim_start_matches("error: "))
        })?;
        if change.input.session.is_some() {
            bail!("--with {words}: --session is for the first pane, in front of --with");
        }
        doc.go_to(own);
        doc.split_behind();
        change.input.change(doc).with_context(|| format!("--with {words}"))?;
        change.shown.choose(doc, &change.input, change.cut.as_deref()).with_context(|| format!("--with {words}"))?;
        let pane = doc.pane_mut();
        change.input.hold_against(pane, jobs).with_context(|| format!("--with {words}"))?;
        change.input.sees(pane, jobs).with_context(|| format!("--with {words}"))?;
        if let Some(head) = &change.head {
            pane.cursor.head = (head[0], head[1]);
        }
        if let Some(model) = change.draft_model {
            pane.partner = ModelSource::parse(&model);
        }
        if let Some(text) = &change.pane {
            lay(pane, text).with_context(|| format!("--with {words}"))?;
        }
    }
    doc.go_to(own);
    // Without others, what comes next is the first of them already.
    if !with.is_empty() && before > 1 {
        doc.pane_mut().shows.against = Some(before);
    }
    Ok(())
}

/// The parts of these names.
pub(super) fn parts(names: &[String]) -> Vec<Compared> {
    Compared::ALL.into_iter().filter(|c| names.iter().any(|n| n == c.name())).collect()
}

/// The way of that name to put tokens together.
pub(super) fn fold(name: &str) -> Fold {
    Fold::ALL.into_iter().find(|f| f.name() == name).unwrap_or_default()
}

/// What `--schedule` is.
pub(super) const SCHEDULE: &str = "Carry out this schedule as the reduction: 2:288 leaves 288 of the picture's tokens \
                                   entering layer 2, 2:50% half, 2~288 merges the others, inject@8 lets in what waits, \
                                   exit@20, e3~100 in the image encoder, f:144 between both";

/// The reduction that carries out drawn schedules, with this one. Errors: what is wrong with it.
pub(super) fn drawn(text: &str) -> anyhow::Result<Call> {
    let schedule = Schedule::parse(text).map_err(|e| anyhow!("--schedule: {e}"))?;
    views::drawn_call(&schedule.to_string()).context("no reduction carries out drawn schedules")
}

/// A method of each kind for the views to show; cuts of a text stand side by side and have options of their own.
#[derive(Debug)]
pub(super) struct Shown {
    methods: Vec<(Kind, String)>,
    /// A schedule for the reduction that carries out drawn ones.
    schedule: Option<String>,
}

impl Shown {
    /// An option for each kind.
    fn options() -> impl Iterator<Item = clap::Arg> {
        Kind::ALL
            .into_iter()
            .filter(|k| *k != Kind::Segment)
            .map(|kind| {
                let help =
                    format!("Show this {} [default: the window's, or that of the example or session]", kind.noun());
                clap::Arg::new(kind.name()).long(kind.name()).aliases(common::former(kind)).value_name("ID").help(help)
            })
            .chain([clap::Arg::new(Schedule::KEY).long(Schedule::KEY).value_name("TEXT").help(SCHEDULE)])
    }

    /// Chooses the methods and a way to cut in the pane that is worked in, and sets their parameters. What is chosen
    /// already keeps its parameters. Errors: unknown names, bad values.
    pub(super) fn choose(&self, doc: &mut Doc, input: &Input, cut: Option<&str>) -> anyhow::Result<()> {
        let pane = doc.pane_mut();
        let cut = cut.map(|id| (Kind::Segment, id));
        for (kind, id) in self.methods.iter().map(|(kind, id)| (*kind, id.as_str())).chain(cut) {
            let (info, chosen) = (catalog::info(kind, id)?, pane.call(kind));
            let keeps = chosen.method == info.id;
            pane.choose(if keeps { chosen } else { Call::of(info) })?;
        }
        if let Some(text) = &self.schedule {
            doc.pane_mut().choose(drawn(text)?)?;
        }
        // Parameters may be set for the methods that are shown, whether named here or chosen by the example.
        let pane = doc.pane();
        let kinds = Kind::ALL.into_iter().filter(|k| *k != Kind::Segment || pane.shows.cuts.shows != Reads::Text);
        let methods: Vec<&Info> = kinds.filter_map(|k| catalog::info(k, pane.call(k).method).ok()).collect();
        for (kind, key, value) in input.settings(&methods)? {
            doc.apply(Command::Param(kind, key, value));
        }
        Ok(())
    }
}

impl clap::FromArgMatches for Shown {
    fn from_arg_matches(given: &clap::ArgMatches) -> Result<Self, clap::Error> {
        let of = |kind: Kind| Some((kind, given.try_get_one::<String>(kind.name()).ok()??.clone()));
        let schedule = given.try_get_one::<String>(Schedule::KEY).ok().flatten().cloned();
        Ok(Self { methods: Kind::ALL.into_iter().filter_map(of).collect(), schedule })
    }

    fn update_from_arg_matches(&mut self, given: &clap::ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(given)?;
        Ok(())
    }
}

impl clap::Args for Shown {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.args(Self::options())
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        command.args(Self::options())
    }
}
