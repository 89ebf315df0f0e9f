//! The verb `draft`: a speculative decode with every round, several side by side, or the proof that one is lossless.

use super::common;
use super::input::Input;
use super::terminal::{CheckFailed, remark};
use crate::keys::{Call, ModelSource};
use crate::pane::Pane;
use crate::work::{DraftOf, Drafted, ProofOf, Serves as _, call_like, tell_of};
use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use tokenscope_analysis::decode::proof::{ROUNDS, Verdict};
use tokenscope_analysis::finding::Table;
use tokenscope_analysis::method::{Info, Kind};
use tokenscope_analysis::{Ctx, catalog};

/// Arguments of `draft`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id of the draft method [default: the window's]
    #[arg(long, visible_alias = "policy")]
    method: Option<String>,
    #[command(flatten)]
    input: Input,
    /// Model that drafts [default: sample-draft, or that of the session]
    #[arg(long)]
    draft_model: Option<OsString>,
    /// How guesses are accepted, for methods that leave it open; short for --set verify=WORD
    #[arg(long, value_name = "WORD")]
    verifier: Option<String>,
    /// Tokens drafted a round, for methods that have a budget; short for --set of that parameter
    #[arg(long, value_name = "N")]
    budget: Option<u32>,
    /// Rounds at most
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// 0 decodes greedily; short for --set temperature=T
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    temperature: Option<f64>,
    /// Above temperature 0, the k most probable ids alone can come; 0 is all; short for --set top_k=K
    #[arg(long, value_name = "K")]
    top_k: Option<u64>,
    /// Above temperature 0, the most probable ids alone can come that together first have this mass; short for
    /// --set top_p=P
    #[arg(long, value_name = "P", allow_hyphen_values = true)]
    top_p: Option<f64>,
    /// Where chance starts; short for --set seed=N
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Decode with these methods on the same input with the same budget, temperature and random numbers, and print one
    /// table; --policy, where it is given, comes first
    #[arg(long, value_name = "METHOD,…", value_delimiter = ',', conflicts_with = "prove")]
    compare: Vec<String>,
    /// Prove that what is emitted is the target's own text: greedily, exactly over few ids, and by a chi-square test over
    /// many decodes of the prompt; exit code 1 where it is not
    #[arg(long)]
    prove: bool,
    /// Decodes that the proof counts
    #[arg(long, value_name = "N", default_value_t = ROUNDS, requires = "prove")]
    rounds_of_proof: usize,
    /// Print JSON; what is neither compared nor proven is JSON in any case. `run.rounds` has a round each: `prefix`, the
    /// new text before it; `nodes`, parents before children, each with `parent` (null below the root), `token`, `text`,
    /// `depth`, `p_draft`, `p_target`, `p_accept`, `state`, and `path`, the text from the round's start to it;
    /// `deciding`, the node behind which the target's own token comes, and what that was drawn from, the residual where
    /// guesses were refused there. Prompt, prefix and path in a row are what one goes on with from a node
    #[arg(long)]
    json: bool,
    /// File to write; standard output without it
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(mut args: Args) -> anyhow::Result<()> {
    if args.method.is_none() && !args.compare.is_empty() {
        args.method = Some(args.compare[0].clone());
    }
    let info = common::named_or_first(Kind::Draft, args.method.as_deref())?;
    if let Some(word) = &args.verifier {
        if info.param("verify").is_none() {
            bail!("--verifier {word}: {} has a verifier of its own", info.id);
        }
        args.input.set.push(format!("verify={word}"));
    }
    if let Some(n) = args.budget {
        let Some(p) = info.budget else {
            bail!("--budget {n}: {} has no number of drafted tokens; --set its widths and depth", info.id);
        };
        args.input.set.push(format!("{}={n}", p.key));
    }
    if let Some(t) = args.temperature {
        args.input.set.push(format!("temperature={t}"));
    }
    if let Some(k) = args.top_k {
        args.input.set.push(format!("top_k={k}"));
    }
    if let Some(p) = args.top_p {
        args.input.set.push(format!("top_p={p}"));
    }
    if let Some(n) = args.seed {
        args.input.set.push(format!("seed={n}"));
    }
    if args.rounds == Some(0) {
        bail!("--rounds 0: a decode has at least one round");
    }
    args.input.spares(args.out.as_deref())?;
    args.input.explains_nothing("a decode")?;
    let mut doc = args.input.start()?;
    if let Some(model) = &args.draft_model {
        doc.pane_mut().partner = ModelSource::parse(model);
    }
    let call = args.input.call(doc.pane(), info)?;
    let asked = DraftOf { rounds: args.rounds, ..DraftOf::of(doc.pane(), call) };
    if args.prove {
        return prove(&args, doc.pane(), asked);
    }
    if !args.compare.is_empty() {
        return compare(&args, doc.pane(), &asked);
    }
    let jobs = common::jobs(args.input.weights)?;
    args.input.sees(doc.pane(), &jobs)?;
    let telling = tell_of(doc.pane(), asked, &jobs, &Ctx::default(), &|_| ())?;
    common::write_by(args.out.as_deref(), |out| telling.write(out))
}

/// The input as scripts read it.
fn about(asked: &DraftOf) -> Value {
    json!({
        "method": asked.call.method, "params": asked.call.params.to_json(), "model": asked.run.model.title(),
        "draft_model": asked.partner.title(), "prompt": &*asked.run.prompt,
    })
}

fn prove(args: &Args, pane: &Pane, draft: DraftOf) -> anyhow::Result<()> {
    let (jobs, ctx) = (common::jobs(args.input.weights)?, Ctx::default());
    args.input.sees(pane, &jobs)?;
    let mut out = about(&draft);
    let proof = jobs.get(&ProofOf { draft, decodes: args.rounds_of_proof }, &ctx)?;
    let words = match args.json {
        true => {
            out["proof"] = proof.json();
            out["notes"] = json!(ctx.notes());
            format!("{out:#}")
        }
        false => proof.lines().join("\n"),
    };
    common::write(args.out.as_deref(), &words)?;
    match proof.verdict() {
        Verdict::Broken => Err(CheckFailed(proof.words()).into()),
        _ => Ok(()),
    }
}

/// Several methods on one input, as one table.
fn compare(args: &Args, pane: &Pane, first: &DraftOf) -> anyhow::Result<()> {
    let mut asked = vec![first.clone()];
    for id in &args.compare {
        let info: &'static Info = catalog::info(Kind::Draft, id)?;
        if asked.iter().all(|a| a.call.method != info.id) {
            let call: Call = call_like(info, Default::default(), &first.call);
            asked.push(DraftOf { call, ..first.clone() });
        }
    }
    let (jobs, ctx) = (common::jobs(args.input.weights)?, Ctx::default());
    args.input.sees(pane, &jobs)?;
    let runs: Vec<std::sync::Arc<Drafted>> = asked
        .iter()
        .map(|a| jobs.get(a, &ctx).with_context(|| a.call.method.to_string()))
        .collect::<anyhow::Result<_>>()?;
    let text = match (args.json, args.out.as_deref().and_then(Path::extension)) {
        (true, _) => {
            let each = asked.iter().zip(&runs).map(|(a, d)| {
                let figures: serde_json::Map<String, Value> =
                    d.figures(None).iter().map(|f| (f.name.to_string(), f.json())).collect();
                let mut out = about(a);
                (out["figures"], out["text"]) = (json!(figures), json!(d.whole));
                out["lossless"] = json!(d.run.lossless.as_ref().map(|l| l.0));
                out
            });
            let meanings: serde_json::Map<String, Value> =
                runs.iter().flat_map(|d| d.figures(None)).map(|f| (f.name.to_string(), json!(f.meaning))).collect();
            format!("{:#}", json!({ "methods": each.collect::<Vec<_>>(), "meanings": meanings, "notes": ctx.notes() }))
        }
        (false, Some(end)) if end == "csv" => table(&asked, &runs).csv(),
        _ => plain(&table(&asked, &runs)),
    };
    common::write(args.out.as_deref(), &text)?;
    if !args.json {
        remark(format_args!("the same input, random numbers, temperature and, where a method has one, budget for all"));
    }
    Ok(())
}

/// A row per figure, a column per method, definitions last.
fn table(asked: &[DraftOf], runs: &[std::sync::Arc<Drafted>]) -> Table {
    let columns: Vec<&str> =
        ["figure"].into_iter().chain(asked.iter().map(|a| a.call.method)).chain(["meaning"]).collect();
    let mut out = Table::new(&columns);
    let all: Vec<_> = runs.iter().map(|d| d.figures(None)).collect();
    let mut names: Vec<(&str, &str)> = Vec::new();
    for f in all.iter().flatten() {
        if names.iter().all(|n| n.0 != f.name) {
            names.push((&f.name, &f.meaning));
        }
    }
    for (name, meaning) in names {
        let cell = |own: &Vec<_>| {
            let own: Option<&tokenscope_analysis::finding::Figure> =
                own.iter().find(|f: &&tokenscope_analysis::finding::Figure| f.name == name);
            own.map_or(Value::Null, |f| f.json())
        };
        out.rows.push([json!(name)].into_iter().chain(all.iter().map(cell)).chain([json!(meaning)]).collect());
    }
    out
}

/// A table in columns of one width each, without the definitions.
fn plain(table: &Table) -> String {
    let cell = |v: &Value| match v {
        Value::String(s) => s.clone(),
        Value::Number(n) if n.is_f64() => format!("{:.3}", n.as_f64().unwrap_or(0.0)),
        Value::Null => "–".into(),
        v => v.to_string(),
    };
    let n = table.columns.len() - 1;
    let mut rows: Vec<Vec<String>> = vec![table.columns[..n].to_vec()];
    rows.extend(table.rows.iter().map(|r| r[..n].iter().map(cell).collect()));
    let wide: Vec<usize> = (0..n).map(|c| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0)).collect();
    let line = |r: &Vec<String>| {
        let cells = r.iter().zip(&wide).enumerate().map(|(c, (s, &w))| match c {
            0 => format!("{s:<w$}"),
            _ => format!("{s:>w$}"),
        });
        cells.collect::<Vec<_>>().join("  ")
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}
