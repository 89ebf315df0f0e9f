//! What `run` writes of a way to cut: pieces with their places and ids, what the ids are worth, what was left out.

use super::common;
use super::figures::Input;
use anyhow::Context as _;
use serde_json::{Map, Value, json};
use tokenscope_analysis::Ctx;
use tokenscope_analysis::finding::{Finding, Picture};
use tokenscope_analysis::method::Info;
use tokenscope_analysis::segment::{self, Metrics, Reads, Segmentation, Usage};

/// The input of a kind that `info` reads, cut by it.
///
/// Errors: the input is missing or cannot be read, an unknown parameter, a value out of range.
pub(super) fn cut(input: &Input, info: &Info) -> anyhow::Result<Value> {
    let params = input.params(info)?;
    let pane = input.start()?.pane().clone();
    let (method, ctx) = (segment::find(info.id)?, common::ctx()?);
    let mut out = Map::new();
    out.insert("method".into(), json!(info.id));
    out.insert("params".into(), json!(params.to_json()));
    match method.reads() {
        Reads::Text => {
            let whole = segment::Input::Text(&pane.run.prompt);
            let cut = method.cut(whole, &params, &ctx)?;
            out.insert("finding".into(), cut.finding(whole).json());
            let row = cut.text()?;
            out.insert("prompt".into(), json!(&*pane.run.prompt));
            out.insert("vocabulary".into(), json!(row.vocab));
            out.insert("metrics".into(), json!(Metrics::of(&row, &pane.run.prompt)));
            out.insert("pieces".into(), json!(row.pieces));
        }
        Reads::Image => {
            let source = pane.run.image.with_context(|| {
                format!("{} cuts a picture: give --image FILE, or scene:7 for one that is drawn", info.id)
            })?;
            let picture = source.open()?;
            let whole = segment::Input::Image(&picture);
            let cut = method.cut(whole, &params, &ctx)?;
            out.insert("image".into(), json!(source.to_string()));
            out.insert("width".into(), json!(picture.width));
            out.insert("height".into(), json!(picture.height));
            put(&mut out, &cut, cut.finding(whole), &ctx);
        }
        Reads::Series => {
            let source = pane.series.with_context(|| {
                format!("{} cuts a series: give --series FILE, or signal:7 for one that is made", info.id)
            })?;
            let series = source.open()?;
            let whole = segment::Input::Series(&series);
            let cut = method.cut(whole, &params, &ctx)?;
            out.insert("series".into(), json!(source.to_string()));
            out.insert("channel".into(), json!(series.name));
            out.insert("samples".into(), json!(series.samples.len()));
            out.insert("rate".into(), json!(series.rate));
            put(&mut out, &cut, cut.finding(whole), &ctx);
        }
    }
    out.insert("notes".into(), json!(ctx.notes()));
    Ok(Value::Object(out))
}

/// Pieces, what they leave out, use of the ids, and what is found, but for pixels; its notes are those of the whole, too.
fn put(out: &mut Map<String, Value>, cut: &Segmentation, mut found: Finding, ctx: &Ctx) {
    found.notes.iter().for_each(|n| ctx.note(n));
    // A row for each pixel would be most of the file.
    found.pictures.retain(|p| !matches!(p, Picture::Image(_)));

    let (pieces, rest) = match cut {
        Segmentation::Image(t) => {
            out.insert("grid".into(), json!(t.grid));
            (json!(t.tiles), json!(t.rest))
        }
        Segmentation::Series(w) => (json!(w.windows), json!({ "start": w.rest.start, "end": w.rest.end })),
        Segmentation::Text(row) => (json!(row.pieces), json!([])),
    };
    let usage = Usage::of(cut.ids().into_iter().flatten());
    out.insert("vocabulary".into(), json!(cut.vocab()));
    out.insert("pieces".into(), pieces);
    out.insert("rest".into(), rest);
    out.insert("usage".into(), usage.counts.iter().map(|(id, n)| json!({ "id": id, "pieces": n })).collect());
    out.insert("finding".into(), found.json());
}
