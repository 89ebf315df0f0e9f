//! The verb `judge`: methods against the truth of many inputs.

use super::common;
use super::terminal::remark;
use crate::export;
use crate::keys::{Call, ModelSource};
use crate::samples;
use crate::trial::{Figure, Judged, Trial, Verdict};
use anyhow::{Context as _, bail};
use std::ffi::OsString;
use std::path::PathBuf;
use tokenscope_analysis::Ctx;
use tokenscope_analysis::catalog;
use tokenscope_analysis::method::{Info, Kind, Params, Role};

/// Arguments of `judge`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kind of methods to judge
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(kinds()))]
    kind: String,
    /// Model folder or name of a sample; judged on stories if it reads text only, else on questions about drawn
    /// scenes [default: sample-lm]
    #[arg(long)]
    model: Option<OsString>,
    /// Methods, comma-separated; random and uniform are always there [default: all but those that take minutes]
    #[arg(long, value_delimiter = ',')]
    methods: Vec<String>,
    /// Inputs to judge by
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    samples: u32,
    /// Share of the tokens that reductions keep; of a picture's tokens where there is a picture
    #[arg(long, default_value_t = 0.25)]
    keep: f64,
    /// A parameter of the methods that have it, as key=value; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Count inputs, too, that the full model answers wrong
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    weights: common::Numbered,
    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV
    #[arg(long)]
    csv: bool,
    /// File to write; standard output without it
    #[arg(long)]
    out: Option<PathBuf>,
}

/// The kinds that can be judged.
fn kinds() -> impl Iterator<Item = clap::builder::PossibleValue> {
    let judged = Kind::ALL.into_iter().filter(|k| Judged::of(*k, 1.0).is_some());
    judged.map(|k| clap::builder::PossibleValue::new(k.name()).aliases(common::former(k)))
}

/// Runs the verb.
pub fn run(args: Args) -> anyhow::Result<()> {
    let judged = common::kind(&args.kind).and_then(|k| Judged::of(k, args.keep));
    let judged = judged.with_context(|| format!("no truth is known to judge methods of the kind {}", args.kind))?;
    let kind = judged.kind();
    if !(0.0..=1.0).contains(&args.keep) {
        bail!("--keep {}: a share from 0 to 1", args.keep);
    }
    let chosen = chosen(kind, &args.methods)?;
    let left_out = left_out(kind, &args.methods);
    let trial = Trial {
        model: args.model.as_ref().map_or(ModelSource::Sample(samples::NAMES[0]), ModelSource::parse),
        placement: args.weights.placement()?,
        judged,
        calls: calls(&chosen, &args.set)?,
        samples: args.samples as usize,
        wrong_too: args.all,
    };
    let jobs = common::jobs(args.weights)?;
    let ctx = Ctx::default();
    let verdict = jobs.get(&trial, &ctx)?;
    let notes = ctx.notes();
    notes.iter().for_each(|note| remark(format_args!("{note}")));
    let text = match (args.json, args.csv) {
        (true, _) => export::json(&verdict.table(&notes)),
        (_, true) => verdict.table(&notes).csv(),
        _ => words(&verdict, args.all, &left_out),
    };
    common::write(args.out.as_deref(), text.trim_end())
}

/// The methods of these ids; without any all but the floors and those that take minutes.
pub(super) fn chosen(kind: Kind, ids: &[String]) -> tokenscope_analysis::Result<Vec<&'static Info>> {
    if ids.is_empty() {
        return Ok(catalog::of(kind).filter(|i| !i.slow && i.role == Role::Method).collect());
    }
    ids.iter().map(|id| catalog::info(kind, id)).collect()
}

/// The methods that [`chosen`] leaves out because they take minutes.
pub(super) fn left_out(kind: Kind, ids: &[String]) -> Vec<&'static str> {
    catalog::of(kind).filter(|i| i.slow && ids.is_empty()).map(|i| i.id).collect()
}

/// The methods with those of the parameters that they have.
pub(super) fn calls(methods: &[&Info], set: &[String]) -> anyhow::Result<Vec<Call>> {
    let mut all: Vec<(&Info, Params)> = methods.iter().map(|i| (*i, Params::new())).collect();
    for pair in set {
        let Some((key, value)) = pair.split_once('=') else { bail!("--set {pair}: write it as key=value") };
        let mut found = false;
        for (info, params) in &mut all {
            if info.budget.is_some_and(|p| p.key == key) {
                bail!("--set {pair}: the budget is the same for all methods; use --keep");
            }
            if let Some(p) = info.param(key) {
                params.insert(p.key, p.parse(value)?);
                found = true;
            }
        }
        if !found {
            bail!("--set {pair}: none of the methods has a parameter named {key}");
        }
    }
    Ok(all.into_iter().map(|(i, p)| Call { method: i.id, params: p }).collect())
}

/// The table for people.
fn words(v: &Verdict, all: bool, left_out: &[&str]) -> String {
    let counted = if all { "all of them count" } else { "these count" };
    let mut out = format!(
        "{} {}, none of them used in training; the full model answers {} right, {counted}\n\n",
        v.asked, v.set, v.right
    );
    let cell = |f: &Option<Figure>| match f {
        Some(Figure { mean, error: Some(e) }) => format!("{mean:.3} ± {e:.3}"),
        Some(Figure { mean, error: None }) => format!("{mean:.3}"),
        None => "–".into(),
    };
    out += &format!("{:<26}{:<8}{:>4}", "method", "stack", "n");
    v.columns.iter().for_each(|c| out += &format!("{:>17}", c.title));
    out.push('\n');
    for r in v.rows.iter().filter(|r| r.n > 0) {
        out += &format!(
            "{:<26}{:<8}{:>4}",
            format!("{}{}", r.method, if r.floor { " (floor)" } else { "" }),
            r.stack,
            r.n
        );
        r.figures.iter().for_each(|f| out += &format!("{:>17}", cell(f)));
        out.push('\n');
    }
    out.push('\n');
    v.columns.iter().for_each(|c| out += &format!("{}: {}\n", c.title, c.meaning));
    out += "Means with their standard errors.\n";
    for id in left_out {
        out += &format!("{id}: left out, because it takes minutes; name it with --methods\n");
    }
    for r in &v.rows {
        r.notes.iter().for_each(|note| out += &format!("{} ({}): {note}\n", r.method, r.stack));
    }
    out
}
