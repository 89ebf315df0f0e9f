//! Cuts of a picture or a series by a method.

use super::PictureOf;
use crate::heatmap::version;
use crate::jobs::{Ask, Store};
use crate::keys::Call;
use crate::picture_source::PictureSource;
use crate::series_source::SeriesSource;
use std::sync::Arc;
use tokenscope_analysis::finding::Finding;
use tokenscope_analysis::image::Picture;
use tokenscope_analysis::segment::{self, Input, Segmentation};
use tokenscope_analysis::series::Series;
use tokenscope_analysis::{Ctx, Result};

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

/// What is cut; texts have [`super::CutsOf`], where several cuts share their lines.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CutSource {
    /// A picture.
    Image(PictureSource),
    /// A series.
    Series(SeriesSource),
}

/// Cut a picture or a series.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CutOf {
    /// What is cut.
    pub source: CutSource,
    /// By which method.
    pub call: Call,
}

/// What was cut.
pub enum Whole {
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
    /// The lowest and the highest sample of a series; of a picture 0 to 255.
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
            CutSource::Image(source) => Whole::Image(store.get(&PictureOf(source.clone()), ctx)?),
            CutSource::Series(source) => Whole::Series(store.get(&SeriesOf(source.clone()), ctx)?),
        };
        let input = match &whole {
            Whole::Image(picture) => Input::Image(picture),
            Whole::Series(series) => Input::Series(series),
        };
        let cut = segment::find(self.call.method)?.cut(input, &self.call.params, ctx)?;
        let found = cut.finding(input);
        let range = match &whole {
            Whole::Image(_) => [0.0, 255.0],
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
            Whole::Series(_) => 0,
        };
        100 * cut.cut.len() as u64 + pixels
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
