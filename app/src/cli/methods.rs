//! The verb `methods`: what the registry holds.

use serde_json::{Value, json};
use tokenscope_analysis::method::{Info, Kind, Param};
use tokenscope_analysis::raw;

/// Arguments of `methods`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only methods of this kind
    #[arg(long, value_parser = Kind::ALL.map(Kind::name))]
    kind: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Every method, in the order of their kinds.
pub fn registry() -> Vec<&'static Info> {
    Kind::ALL.into_iter().flat_map(crate::views::methods).collect()
}

/// Runs the verb.
pub fn run(args: Args) -> anyhow::Result<()> {
    let mine = |i: &&Info| args.kind.as_deref().is_none_or(|k| k == i.kind.name());
    let infos: Vec<&Info> = registry().into_iter().filter(mine).collect();
    if args.json {
        let raw: Vec<&str> = raw::adapters().iter().map(|a| a.name).collect();
        println!("{}", json!({ "methods": infos.iter().map(|i| describe(i)).collect::<Vec<_>>(), "raw": raw }));
        return Ok(());
    }
    for kind in Kind::ALL {
        let of_kind: Vec<_> = infos.iter().filter(|i| i.kind == kind).collect();
        if of_kind.is_empty() {
            continue;
        }
        println!("{}", kind.name());
        for i in of_kind {
            let paper = i.paper.map(|p| format!(" ({}, {})", p.authors, p.year)).unwrap_or_default();
            println!("  {:<26}{}{paper}", i.id, i.summary);
            for p in i.params {
                println!("      --set {:<18}{} (default {})", format!("{}=…", p.key()), p.doc(), p.default());
            }
        }
    }
    if args.kind.is_none() {
        let names: Vec<&str> = raw::adapters().iter().map(|a| a.name).collect();
        println!("raw entries, for `tokenscope method`\n  {}", names.join(", "));
    }
    Ok(())
}

fn describe(i: &Info) -> Value {
    let param = |p: &Param| {
        let mut out = json!({ "key": p.key(), "doc": p.doc(), "default": p.default() });
        match *p {
            Param::Number { min, max, .. } => (out["min"], out["max"]) = (json!(min), json!(max)),
            Param::Count { min, max, .. } => (out["min"], out["max"]) = (json!(min), json!(max)),
            Param::Choice { options, .. } => out["options"] = json!(options),
            Param::Toggle { .. } => {}
        }
        out
    };
    let paper = i.paper.map(|p| json!({ "title": p.title, "authors": p.authors, "year": p.year, "arxiv": p.arxiv }));
    json!({
        "id": i.id, "title": i.title, "kind": i.kind.name(), "summary": i.summary, "paper": paper,
        "departs": i.departs, "needs": i.needs.iter().map(|n| n.words()).collect::<Vec<_>>(),
        "params": i.params.iter().map(param).collect::<Vec<_>>(),
    })
}
