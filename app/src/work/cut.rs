//! Cuts of a text, a picture or a series by one method.

use super::{Around, PictureOf, Serves, Told, TraceFrom};
use crate::heatmap::version;
use crate::jobs::{Ask, Store};
use crate::keys::Call;
use crate::pane::Pane;
use crate::picture_source::PictureSource;
use crate::series_source::SeriesSource;
use crate::text::Text;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::sync::Arc;
use tokenscope_analysis::finding::{Finding, Picture as Shape};
use tokenscope_analysis::image::Picture;
use tokenscope_analysis::segment::{self, Input, Metrics, Reads, Segmentation, Usage};
use tokenscope_analysis::series::Series;
use tokenscope_analysis::{Ctx, Error, Result};

/// Read or make a series.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SeriesOf(pub SeriesSource);

impl Ask for SeriesOf {
    type Out = Series;

    fn carry_out(&self, _: &Store, _: &Ctx) -> Result<Series> {
        self.0.open()
    }

    fn bytes(series: &Series) -> u64 {
        4 * series.samples.len() as u64
    }
}

/// What is cut; where several cuts of a text stand side by side, [`super::CutsOf`] is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CutSource {
    /// A text.
    Text(Text),
    /// A picture.
    Image(PictureSource),
    /// A series.
    Series(SeriesSource),
    /// Nothing, though the method reads this.
    Missing(Reads),
}

/// Cut a text, a picture or a series.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CutOf {
    /// What is cut.
    pub source: CutSource,
    /// By which method.
    pub call: Call,
}

/// What was cut.
pub enum Whole {
    /// A text.
    Text(Text),
    /// A picture.
    Image(Arc<Picture>),
    /// A series.
    Series(Arc<Series>),
}

/// A cut with what it was made of.
pub struct Cut {
    /// A number of its own; see [`version`].
    pub version: u64,
    /// What was cut.
    pub whole: Whole,
    /// The lowest and the highest sample of a series; of anything else those of a byte.
    pub range: [f32; 2],
    /// The pieces.
    pub cut: Segmentation,
    /// The same in pictures and figures.
    pub found: Finding,
}

impl Ask for CutOf {
    type Out = Cut;

    fn carry_out(&self, store: &Store, ctx: &Ctx) -> Result<Cut> {
        let whole = match &self.source {
            CutSource::Text(text) => Whole::Text(text.clone()),
            CutSource::Image(source) => Whole::Image(store.get(&PictureOf(source.clone()), ctx)?),
            CutSource::Series(source) => Whole::Series(store.get(&SeriesOf(source.clone()), ctx)?),
            CutSource::Missing(reads) => {
                let remedy = match reads {
                    Reads::Text => "give --prompt TEXT",
                    Reads::Image => "give --image FILE, or scene:7 for one that is drawn",
                    Reads::Series => "give --series FILE, or signal:7 for one that is made",
                };
                return Err(Error::invalid(format!("{} cuts {}: {remedy}", self.call.method, reads.words())));
            }
        };
        let input = match &whole {
            Whole::Text(text) => Input::Text(text),
            Whole::Image(picture) => Input::Image(picture),
            Whole::Series(series) => Input::Series(series),
        };
        let cut = segment::find(self.call.method)?.cut(input, &self.call.params, ctx)?;
        let found = cut.finding(input);
        let range = match &whole {
            Whole::Text(_) | Whole::Image(_) => [0.0, 255.0],
            Whole::Series(s) => {
                s.samples.iter().fold([f32::INFINITY, f32::NEG_INFINITY], |[l, h], x| [l.min(*x), h.max(*x)])
            }
        };
        Ok(Cut { version: version(), range, cut, found, whole })
    }

    fn bytes(cut: &Cut) -> u64 {
        let pixels = match &cut.whole {
            // Of each pixel: what the ids give back, and the error.
            Whole::Image(p) => 10 * (p.width * p.height) as u64,
            Whole::Text(_) | Whole::Series(_) => 0,
        };
        100 * cut.cut.len() as u64 + pixels
    }
}

impl Serves for CutOf {
    fn of(pane: &Pane, call: Call) -> Self {
        let reads = segment::find(call.method).map_or(Reads::Text, |m| m.reads());
        let source = match reads {
            Reads::Text => Some(CutSource::Text(pane.run.prompt.clone())),
            Reads::Image => pane.run.image.clone().map(CutSource::Image),
            Reads::Series => pane.series.clone().map(CutSource::Series),
        };
        Self { source: source.unwrap_or(CutSource::Missing(reads)), call }
    }

    fn found<'a>(&self, cut: &'a Cut, _: &TraceFrom) -> Result<Cow<'a, Finding>> {
        Ok(Cow::Borrowed(&cut.found))
    }

    fn tell<'a>(&self, cut: &'a Cut, around: &Around) -> Result<Told<'a>> {
        cut.found.notes.iter().for_each(|n| around.note(n));
        let mut fields = match (&cut.cut, &cut.whole) {
            (Segmentation::Text(row), Whole::Text(text)) => {
                json!({ "prompt": &**text, "metrics": Metrics::of(row, text), "pieces": row.pieces })
            }
            (Segmentation::Image(t), Whole::Image(p)) => json!({
                "width": p.width, "height": p.height, "grid": t.grid, "pieces": t.tiles, "rest": t.rest,
            }),
            (Segmentation::Series(w), Whole::Series(s)) => json!({
                "channel": s.name, "samples": s.samples.len(), "rate": s.rate, "pieces": w.windows,
                "rest": { "start": w.rest.start, "end": w.rest.end },
            }),
            _ => return Err(Error::invalid(format!("{} gave a cut of something else", self.call.method))),
        };
        match &self.source {
            CutSource::Image(source) => fields["image"] = json!(source.to_string()),
            CutSource::Series(source) => fields["series"] = json!(source.to_string()),
            CutSource::Text(_) | CutSource::Missing(_) => {}
        }
        let usage = Usage::of(cut.cut.ids().into_iter().flatten());
        let of_id = |(id, n): &(u32, usize)| json!({ "id": id, "pieces": n });
        fields["vocabulary"] = json!(cut.cut.vocab());
        fields["usage"] = usage.counts.iter().map(of_id).collect::<Value>();
        // A row for each pixel would be most of the file.
        let pictures = cut.found.pictures.iter().filter(|p| !matches!(p, Shape::Image(_))).cloned().collect();
        let (figures, notes, proof) = (cut.found.figures.clone(), cut.found.notes.clone(), cut.found.proof.clone());
        Ok(Told { found: Cow::Owned(Finding { pictures, figures, notes, proof }), fields })
    }
}

#[cfg(test)]
mod tests {
    use crate::examples;
    use crate::pane::Pane;
    use std::collections::BTreeSet;
    use tokenscope_analysis::Ctx;
    use tokenscope_analysis::segment::{self, Input, Reads, Segmentation};
    use tokenscope_generate::signals::Signal;

    #[test]
    fn the_example_gives_each_voice_a_token_of_its_own() {
        let pane = examples::find("voices").unwrap().pane(&Pane::default());
        let (source, call) = (pane.series.unwrap(), pane.shows.cuts.call(Reads::Series));
        let series = source.open().unwrap();
        let cut = segment::find(call.method).unwrap().cut(Input::Series(&series), &call.params, &Ctx::default());
        let Segmentation::Series(windows) = cut.unwrap() else { panic!("a cut of something else") };
        let truth = Signal::new(7);
        let voice = |start: usize, end: usize| truth.stretches.iter().find(|s| s.0.start <= start && end <= s.0.end);
        let pairs: BTreeSet<(usize, u32)> =
            windows.windows.iter().filter_map(|w| Some((voice(w.start, w.end)?.1, w.id?))).collect();
        assert_eq!(pairs.len(), 4, "{pairs:?}");
        assert_eq!(pairs.iter().map(|p| p.1).collect::<BTreeSet<_>>().len(), 4, "{pairs:?}");
    }
}
