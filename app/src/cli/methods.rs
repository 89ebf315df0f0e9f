//! The verb `methods`: what the registry holds.

use super::terminal::{data, say};
use serde_json::{Value, json};
use tokenscope_analysis::catalog;
use tokenscope_analysis::method::{Domain, Info, Kind, LayerPick, Param, Role};

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

/// Runs the verb.
pub fn run(args: Args) -> anyhow::Result<()> {
    let mine = |i: &&Info| args.kind.as_deref().is_none_or(|k| k == i.kind.name());
    let infos: Vec<&Info> = catalog::infos().filter(mine).collect();
    if args.json {
        let raw: Vec<&str> = catalog::adapters().iter().map(|a| a.name).collect();
        let methods: Vec<Value> = infos.iter().map(|i| describe(i)).collect();
        return data(&json!({ "methods": methods, "raw": raw }).to_string());
    }
    for kind in Kind::ALL {
        let of_kind: Vec<_> = infos.iter().filter(|i| i.kind == kind).collect();
        if of_kind.is_empty() {
            continue;
        }
        say!("{}", kind.name());
        for i in of_kind {
            let paper = i.paper.map(|p| format!(" ({}, {})", p.authors, p.year)).unwrap_or_default();
            say!("  {:<26}{}{paper}", i.id, i.summary);
            for p in i.params {
                say!("      --set {:<18}{} (default {})", format!("{}=…", p.key), p.doc, p.default());
            }
        }
    }
    if args.kind.is_none() {
        let names: Vec<&str> = catalog::adapters().iter().map(|a| a.name).collect();
        say!("raw entries, for `tokenscope method`\n  {}", names.join(", "));
    }
    Ok(())
}

fn describe(i: &Info) -> Value {
    let param = |p: &Param| {
        let mut out = json!({ "key": p.key, "doc": p.doc, "default": p.default().to_json(), "type": "number" });
        match p.domain {
            Domain::Share { .. } => (out["min"], out["max"]) = (json!(0), json!(1)),
            Domain::Number { min, max, .. } => (out["min"], out["max"]) = (json!(min), json!(max)),
            Domain::Count { min, max, .. } => {
                (out["type"], out["min"], out["max"]) = (json!("count"), json!(min), json!(max));
            }
            Domain::Choice { options } => (out["type"], out["options"]) = (json!("choice"), json!(options)),
            Domain::Text { presets } => {
                let names: Vec<&str> = presets.iter().map(|p| p.0).collect();
                (out["type"], out["presets"]) = (json!("text"), json!(names));
            }
            Domain::Toggle { .. } => out["type"] = json!("toggle"),
            Domain::Seed => out["type"] = json!("seed"),
            Domain::Layer { tower, default, .. } => {
                (out["type"], out["all"]) = (json!("layer"), json!(default == LayerPick::All));
                out["tower"] = json!(tower);
            }
            Domain::Schedule { min, max, .. } => {
                (out["type"], out["min"], out["max"]) = (json!("schedule"), json!(min), json!(max));
            }
        }
        out
    };
    let paper = i.paper.map(|p| json!({ "title": p.title, "authors": p.authors, "year": p.year, "arxiv": p.arxiv }));
    json!({
        "id": i.id, "title": i.title, "kind": i.kind.name(), "summary": i.summary, "paper": paper,
        "family": i.family, "basis": i.basis.words(), "role": role(i.role), "budget": i.budget.map(|p| p.key),
        "departs": i.departs, "raw": i.raw.iter().map(|a| a.name).collect::<Vec<_>>(), "needs": i.needs.iter().map(|n| n.words()).collect::<Vec<_>>(),
        "params": i.params.iter().map(param).collect::<Vec<_>>(),
    })
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Method => "method",
        Role::Floor => "floor",
        Role::StandIn => "stand-in",
        Role::Oracle => "oracle",
    }
}
