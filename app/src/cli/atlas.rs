//! The verb `atlas`: every paper that the program is to show, and what it does of each.

use super::common;
use serde_json::{Value, json};
use tokenscope_analysis::atlas::{Extent, Paper, families, others, papers};
use tokenscope_analysis::method::Info;

/// Arguments of `atlas`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only papers in which all of these words occur
    words: Vec<String>,
    /// Only papers of this family
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(families()))]
    family: Option<String>,
    /// Only papers that are computed, computed in part, or not yet
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(Extent::ALL.map(Extent::words)))]
    extent: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: Args) -> anyhow::Result<()> {
    let words = args.words.join(" ");
    let fits = |p: &&Paper| {
        p.fits(&words)
            && args.family.as_deref().is_none_or(|f| f == p.family)
            && args.extent.as_deref().is_none_or(|e| e == p.extent().words())
    };
    let shown: Vec<&Paper> = papers().iter().filter(fits).collect();
    if args.json {
        let rows: Vec<Value> = shown.iter().map(|p| describe(p)).collect();
        let beyond: Vec<Value> = others().iter().map(|i| method(i)).collect();
        return common::write(None, &json!({ "papers": rows, "beyond": beyond }).to_string());
    }
    let mut out = String::new();
    for extent in Extent::ALL {
        out += &format!("{}: {}  ", extent.words(), shown.iter().filter(|p| p.extent() == extent).count());
    }
    for family in families() {
        let mut of_family = shown.iter().filter(|p| p.family == family).peekable();
        if of_family.peek().is_some() {
            out += &format!("\n\n{family}");
        }
        for p in of_family {
            let ids: Vec<&str> = p.methods().iter().map(|i| i.id).collect();
            let ids = if ids.is_empty() { String::new() } else { format!(": {}", ids.join(", ")) };
            out += &format!("\n  {:>3} {} ({}{ids})\n      {}", p.row, p.name, p.extent().words(), p.shows);
        }
    }
    common::write(None, &out)
}

fn describe(p: &Paper) -> Value {
    json!({
        "row": p.row, "name": p.name, "title": p.title, "family": p.family, "shows": p.shows,
        "extent": p.extent().words(), "entries": p.entries().collect::<Vec<_>>(),
        "methods": p.methods().iter().map(|i| method(i)).collect::<Vec<_>>(),
    })
}

fn method(i: &Info) -> Value {
    let title = i.paper.map(|p| p.title);
    json!({ "id": i.id, "title": i.title, "kind": i.kind.name(), "basis": i.basis.words(), "departs": i.departs, "paper": title })
}
