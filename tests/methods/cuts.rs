//! Ways to cut, walked through: pieces and what is left out cover the input once, ids lie in the vocabulary, odd
//! inputs are cut or refused in words, and the same call gives the same cut.

use std::ops::Range;
use tokenscope_analysis::image::Picture;
use tokenscope_analysis::method::{Domain, Param, Params, Setting};
use tokenscope_analysis::segment::{self, Input, Method, Reads, Rect, Segmentation};
use tokenscope_analysis::series::Series;
use tokenscope_analysis::{Ctx, Error};

const TEXTS: [&str; 7] = ["", "a", "é", "ab", "\n", "naïve 👩‍👩‍👧 = 12,\r\n  שלום", "<|endoftext|> a\u{0}b"];

fn pictures() -> Vec<Picture> {
    let of = |w: usize, h: usize| {
        Picture::new(w, h, (0..3 * w * h).map(|i| (i * 7919 % 256) as u8).collect()).expect("a picture of this size")
    };
    let flat = Picture::new(40, 40, vec![200; 4800]).expect("a picture of this size");
    vec![of(1, 1), of(2, 1), of(1, 40), of(17, 16), of(67, 35), flat]
}

fn series() -> Vec<Series> {
    let tone = |n: usize| (0..n).map(|i| (i as f32 * 0.37).sin()).collect();
    let of = |samples| Series::new("s", 100.0, samples).expect("finite samples");
    vec![
        of(vec![]),
        of(vec![1.0]),
        of(vec![0.0; 600]),
        of(vec![3.0; 600]),
        of(tone(255)),
        of(tone(256)),
        of(tone(2000)),
    ]
}

/// Every method with every input of its kind.
fn each(mut f: impl FnMut(&'static dyn Method, Input)) {
    let (pictures, series) = (pictures(), series());
    for method in segment::all() {
        match method.reads() {
            Reads::Text => TEXTS.iter().for_each(|t| f(method, Input::Text(t))),
            Reads::Image => pictures.iter().for_each(|p| f(method, Input::Image(p))),
            Reads::Series => series.iter().for_each(|s| f(method, Input::Series(s))),
        }
    }
}

/// The method's parameters at their default, and each alone at either end of its range.
fn settings(method: &dyn Method) -> Vec<Params> {
    let ends = |p: &Param| -> Vec<Setting> {
        match p.domain {
            Domain::Share { .. } => vec![0.0.into(), 1.0.into()],
            Domain::Number { min, max, .. } => vec![min.into(), max.into()],
            Domain::Count { min, max, .. } => vec![min.into(), max.into()],
            Domain::Choice { options } => options.iter().map(|o| (*o).into()).collect(),
            Domain::Toggle { .. } => vec![false.into(), true.into()],
            Domain::Schedule { min, max, .. } => vec![vec![min].into(), vec![max, min].into()],
            Domain::Text { presets } => presets.iter().map(|p| Setting::Text(p.1.into())).collect(),
            Domain::Seed => vec![7i64.into()],
            Domain::Layer { .. } => Vec::new(),
        }
    };
    let alone = |p: &'static Param| ends(p).into_iter().map(|v| Params::new().set(p.key, v));
    std::iter::once(Params::new()).chain(method.info().params.iter().flat_map(alone)).collect()
}

fn ranges_cover(what: &str, ranges: impl Iterator<Item = Range<usize>>, rest: Range<usize>, len: usize) {
    let mut at = 0;
    for r in ranges {
        // Windows may overlap, but leave no gap.
        assert!(r.start <= at && r.end >= at && r.end <= len, "{what}: {r:?} after {at} of {len}");
        at = r.end;
    }
    assert_eq!((rest.start, rest.end), (at, len), "{what}");
}

fn rects_cover(what: &str, rects: &[Rect], picture: &Picture) {
    let mut times = vec![0u8; picture.width * picture.height];
    for r in rects {
        for y in r.y..r.y + r.h {
            for x in r.x..r.x + r.w {
                times[y as usize * picture.width + x as usize] += 1;
            }
        }
    }
    assert!(times.iter().all(|n| *n == 1), "{what}");
}

#[test]
fn pieces_and_rest_cover_the_input_once_and_ids_are_in_range() {
    each(|method, input| {
        for params in settings(method) {
            let what = format!("{} {params:?} on {:.60}", method.info().id, format!("{input:?}"));
            let cut = match method.cut(input, &params, &Ctx::default()) {
                Ok(cut) => cut,
                // What cannot be is said in words.
                Err(Error::Invalid(why)) => {
                    assert!(why.len() > 20, "{what}: {why}");
                    continue;
                }
                Err(other) => panic!("{what}: {other}"),
            };
            match (&cut, input) {
                (Segmentation::Text(row), Input::Text(text)) => {
                    let pieces = row.pieces.iter().filter(|p| p.start < p.end).map(|p| p.start..p.end);
                    ranges_cover(&what, pieces, text.len()..text.len(), text.len());
                }
                (Segmentation::Image(t), Input::Image(picture)) => {
                    let all: Vec<Rect> = t.tiles.iter().map(|t| t.rect).chain(t.rest.iter().copied()).collect();
                    rects_cover(&what, &all, picture);
                    assert_eq!(t.tiles.len(), t.grid[0] * t.grid[1], "{what}");
                }
                (Segmentation::Series(w), Input::Series(series)) => {
                    let pieces = w.windows.iter().map(|w| w.start..w.end);
                    ranges_cover(&what, pieces, w.rest.clone(), series.samples.len());
                }
                _ => panic!("{what}: a cut of another kind"),
            }
            let vocab = cut.vocab();
            for id in cut.ids() {
                assert_eq!(id.is_some(), vocab.is_some(), "{what}");
                assert!(id.is_none_or(|id| (id as usize) < vocab.unwrap_or(0)), "{what}: {id:?} of {vocab:?}");
            }
            cut.finding(input).check().unwrap_or_else(|e| panic!("{what}: {e}"));
            let again = method.cut(input, &params, &Ctx::default()).expect("it was cut before");
            assert!(cut == again, "{what}: the same call gives another cut");
        }
    });
}

#[test]
fn other_inputs_wrong_parameters_and_a_stop_are_refused() {
    let (pictures, series) = (pictures(), series());
    let all = [Input::Text("abc"), Input::Image(&pictures[4]), Input::Series(&series[6])];
    let stop = Ctx::new(std::sync::Arc::new(true.into()), std::sync::Arc::new(|_| ()));
    let tight = Ctx::default().with_room(|| 16);
    for method in segment::all() {
        let id = method.info().id;
        for input in all {
            let cut = |params: &Params, ctx: &Ctx| method.cut(input, params, ctx);
            if input.kind() != method.reads() {
                let why = cut(&Params::new(), &Ctx::default()).expect_err(id).to_string();
                assert!(why.contains(id) && why.contains(input.kind().words()), "{why}");
                continue;
            }
            let why = cut(&Params::new().set("misspelt", 1i64), &Ctx::default()).expect_err(id).to_string();
            assert!(why.contains("misspelt"), "{id}: {why}");
            assert!(matches!(cut(&Params::new(), &stop), Err(Error::Cancelled)), "{id}");
            if method.reads() != Reads::Text {
                assert!(matches!(cut(&Params::new(), &tight), Err(Error::Memory { .. })), "{id}");
            }
        }
    }
}
