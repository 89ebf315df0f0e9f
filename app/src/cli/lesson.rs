//! The verbs `lessons` and `lesson`: guided walks through the window, and whether what they claim holds.

use super::common;
use super::terminal::{CheckFailed, json, say};
use crate::keys::ModelSource;
use crate::lesson::{self, Checks, ChecksOf, Lesson};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::sync::Arc;
use tokenscope_analysis::Ctx;

/// Arguments of `lessons`.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb `lessons`.
pub fn list(args: ListArgs) -> anyhow::Result<()> {
    let (lessons, wrong) = lesson::all();
    common::notes(&wrong.iter().map(ToString::to_string).collect::<Vec<_>>());
    if args.json {
        let of = |l: &Arc<Lesson>| {
            json!({
                "id": l.id, "title": l.title, "about": l.about, "file": l.file.display().to_string(),
                "own": l.is_own(), "steps": l.steps.iter().map(|s| s.says.as_str()).collect::<Vec<_>>(),
            })
        };
        return json(&lessons.iter().map(of).collect::<Vec<Value>>());
    }
    for l in &lessons {
        say!("{:<12}{} ({} steps): {}", l.id, l.title, l.steps.len(), l.about);
    }
    Ok(())
}

/// Arguments of `lesson`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of a lesson, of which `tokenscope lessons` has a list, or the path of a file
    lesson: String,
    /// Walk it without a window and say of every step whether what its caption claims holds; exit code 1 where not
    #[arg(long)]
    check: bool,
    /// Run it on this model instead of its own: a folder, a file, a recorded trace, or the name of a sample
    #[arg(long, value_name = "MODEL")]
    model: Option<OsString>,
    #[command(flatten)]
    weights: common::Weights,
    /// Print JSON
    #[arg(long, requires = "check")]
    json: bool,
}

/// Runs the verb `lesson`.
pub fn run(args: Args) -> anyhow::Result<()> {
    let lesson = lesson::find(&args.lesson)?;
    if !args.check {
        return crate::app::open_window(
            args.model.as_deref().map(std::path::Path::new),
            None,
            Some(lesson),
            (args.weights.given()?, None),
        );
    }
    let own = args.model.map(ModelSource::parse);
    let jobs = common::jobs(args.weights)?;
    let mut steps = Vec::new();
    let (mut claims, mut failed) = (0, 0);
    for (i, step) in lesson.steps.iter().enumerate() {
        let asked = ChecksOf { lesson: lesson.clone(), step: i, own: own.clone() };
        let checks = jobs.get(&asked, &Ctx::default());
        let bad = match &checks {
            Ok(c) => c.failures().count() + usize::from(c.lacks.is_some()),
            Err(_) => 1,
        };
        claims += step.claims.len();
        failed += bad;
        if args.json {
            steps.push(told(i, &step.says, &checks));
        } else {
            say!("step {}: {}", i + 1, step.says);
            tell(&checks)?;
        }
    }
    if args.json {
        json(&json!({ "id": lesson.id, "title": lesson.title, "holds": failed == 0, "steps": steps }))?;
    } else {
        say!("{}: {} steps, {claims} claims, {failed} failed", lesson.id, lesson.steps.len());
    }
    if failed > 0 {
        return Err(CheckFailed(format!("{failed} of what {} says does not hold here", lesson.id)).into());
    }
    Ok(())
}

fn tell(checks: &tokenscope_analysis::Result<Arc<Checks>>) -> anyhow::Result<()> {
    match checks {
        Err(why) => say!("  failed: {why}"),
        Ok(checks) => {
            if let Some(why) = &checks.lacks {
                say!("  not served: this step {why}");
            }
            for c in &checks.claims {
                say!("  {} {}: {}", if c.holds { "holds" } else { "FAILS" }, c.place, c.words);
            }
        }
    }
    Ok(())
}

fn told(i: usize, says: &str, checks: &tokenscope_analysis::Result<Arc<Checks>>) -> Value {
    match checks {
        Err(why) => json!({ "step": i + 1, "says": says, "failed": why.to_string() }),
        Ok(c) => {
            let claim = |c: &lesson::Checked| json!({ "place": c.place, "holds": c.holds, "words": c.words });
            let claims: Vec<Value> = c.claims.iter().map(claim).collect();
            json!({ "step": i + 1, "says": says, "lacks": c.lacks, "claims": claims })
        }
    }
}
