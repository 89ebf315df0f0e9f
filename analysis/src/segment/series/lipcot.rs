//! LiPCoT: windows of a series become tokens by the nearest of a few spectral shapes.
//!
//! Source: Anjum 2024, arXiv 2408.07292, code MDFahimAnjum/LiPCoT (lipcot_module.py) with TurboLPC and scikit-learn.
//! Takes: a series. Gives: windows with tokens, the spectrum of each token, how often each is used. Departs: the
//! codebook is fitted to this one series and not to a data set; silence has a least power, so that its logarithm is
//! finite; a series with fewer windows than tokens gets as many tokens as windows.

use super::burg::Model;
use super::{Window, Windows, windows};
use crate::ctx::Ctx;
use crate::finding::{Axis, Datum, Figure, Measure, Plot, Series as Curve, Style};
use crate::kmeans::{self, Settings};
use crate::method::{Basis, Info, Kind, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::segment::{Input, Method, Reads, Segmentation};
use crate::{Error, Result};
use num_complex::Complex64;
use rayon::prelude::*;
use serde_json::{Value, json};
use std::f64::consts::PI;

const WINDOW: Param = Param::count("window", "Samples of a window", 8, 65_536, 256);
const OVERLAP: Param =
    Param::number("overlap", "Share of a window that the next one begins before its end", 0.0, 0.95, 0.0);
const ORDER: Param = Param::count("order", "Poles of the model of a window", 1, 64, 8);
const FEATURES: Param = Param::choice(
    "features",
    "What of a model is compared: its coefficients, its poles, or its cepstrum",
    &["coefficients", "poles", "cepstrum"],
);
const TOKENS: Param = Param::count("tokens", "Size of the vocabulary", 1, 1024, 8);
const WARP: Param =
    Param::number("warp", "Stretches low frequencies where above 0, high ones where below", -0.95, 0.95, 0.0);
const SEED: Param = Param::seed();

static INFO: Info = Info {
    id: "lipcot",
    title: "LiPCoT",
    summary: "Cuts a series into windows and gives each the token of the nearest of a few spectral shapes.",
    family: "series cuts",
    basis: Basis::Authors { repo: "MDFahimAnjum/LiPCoT", commit: "40d2e6391d3eddc591035f444406ddabd9af120f" },
    paper: Some(Paper {
        title: "LiPCoT: Linear Predictive Coding based Tokenizer for Self-supervised Learning of Time Series Data via \
                Language Models",
        authors: "Anjum",
        year: 2024,
        arxiv: "2408.07292",
    }),
    departs: "the codebook is fitted to this series alone; silence has a least power; never more tokens than windows",
    params: &[WINDOW, OVERLAP, ORDER, FEATURES, TOKENS, WARP, SEED],
    raw: &[Adapter { name: "lipcot", run: raw }],
    ..Info::of(Kind::Segment)
};

/// Frequencies at which a token's spectrum is shown.
const SPECTRUM: usize = 129;
/// Tokens whose spectrum is shown, the most frequent first.
const SHOWN: usize = 8;
/// Starts of the clustering.
const RESTARTS: usize = 10;
/// Iterations of each.
const ITERATIONS: usize = 500;
/// Seed of the clustering in the authors' code.
const AUTHORS_SEED: u32 = 42;

/// What of a model is compared, in the authors' numbering from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Features {
    Poles,
    Coefficients,
    Cepstrum,
}

impl Features {
    fn of(self, m: &Model, rate: f64) -> Vec<f64> {
        match self {
            Features::Poles => [m.pole_features(rate), vec![m.noise.log10()]].concat(),
            Features::Coefficients => [m.a.as_slice(), &[m.noise.log10()]].concat(),
            Features::Cepstrum => {
                let scale = |(n, c): (usize, f64)| if n == 0 { c } else { c * (n as f64).sqrt() };
                m.cepstrum().into_iter().enumerate().map(scale).collect()
            }
        }
    }

    /// The model that has these features: what a token sounds like.
    fn model(self, f: &[f64], rate: f64) -> Model {
        let noise = |last: &f64| 10f64.powf(*last);
        match (self, f) {
            (Features::Cepstrum, f) => {
                let scale = |(n, c): (usize, &f64)| if n == 0 { *c } else { c / (n as f64).sqrt() };
                Model::of_cepstrum(&f.iter().enumerate().map(scale).collect::<Vec<_>>())
            }
            (Features::Coefficients, [a @ .., last]) => {
                Model { a: a.to_vec(), noise: noise(last), reflection: Vec::new() }
            }
            (Features::Poles, [poles @ .., last]) => {
                let (near, turn) = poles.split_at(poles.len() / 2);
                let pole =
                    |(n, t): (&f64, &f64)| Complex64::from_polar(1.0 - 10f64.powf(-n / 2.0), 2.0 * PI * t / rate);
                Model::of_poles(&near.iter().zip(turn).map(pole).collect::<Vec<_>>(), noise(last))
            }
            (_, []) => Model { a: Vec::new(), noise: 1.0, reflection: Vec::new() },
        }
    }
}

/// How windows become tokens.
struct Coder {
    order: usize,
    features: Features,
    warp: f64,
    rate: f64,
    tokens: usize,
    seed: u32,
}

/// Windows as tokens, and all that led there.
struct Coded {
    models: Vec<Model>,
    /// Features `[windows, width]`.
    features: Vec<f64>,
    /// Mean and scale of each feature.
    mean: Vec<f64>,
    scale: Vec<f64>,
    /// Centres of the standardised features `[tokens, width]`.
    centers: Vec<f64>,
    ids: Vec<u32>,
}

impl Coder {
    /// Errors: no window, one that is not longer than the order, fewer windows than tokens.
    fn code(&self, windows: &[Vec<f64>], ctx: &Ctx) -> Result<Coded> {
        if let Some(w) = windows.iter().find(|w| w.len() <= self.order) {
            return Err(Error::invalid(format!(
                "a window of {} samples is too short for {} poles: take longer windows or fewer poles",
                w.len(),
                self.order
            )));
        }
        let model = |w: &Vec<f64>| ctx.check().map(|()| Model::burg(w, self.order, self.warp));
        let models: Vec<Model> = windows.par_iter().map(model).collect::<Result<_>>()?;
        let all: Vec<Vec<f64>> = models.par_iter().map(|m| self.features.of(m, self.rate)).collect();
        let (n, width) = (all.len(), all.first().map_or(0, Vec::len));
        let features = all.concat();
        let column = |j: usize| features.iter().skip(j).step_by(width.max(1));
        let mean: Vec<f64> = (0..width).map(|j| column(j).sum::<f64>() / n as f64).collect();
        let variance = |j: usize| column(j).map(|x| (x - mean[j]).powi(2)).sum::<f64>() / n as f64;
        // A feature that is the same everywhere says nothing and keeps its scale.
        let flat = |v: f64, m: f64| v <= n as f64 * f64::EPSILON * v + (n as f64 * m * f64::EPSILON).powi(2);
        let scale = (0..width).map(|j| (variance(j), mean[j])).map(|(v, m)| if flat(v, m) { 1.0 } else { v.sqrt() });
        let scale: Vec<f64> = scale.collect();
        let standard: Vec<f64> =
            features.iter().enumerate().map(|(i, x)| (x - mean[i % width]) / scale[i % width]).collect();
        let settings = Settings { clusters: self.tokens, restarts: RESTARTS, iterations: ITERATIONS, seed: self.seed };
        let clusters = kmeans::fit(&standard, width, &settings, ctx)?;
        let ids = clusters.labels.iter().map(|l| *l as u32).collect();
        Ok(Coded { models, features, mean, scale, centers: clusters.centers, ids })
    }

    /// The spectrum of a token, in hertz and decibels.
    fn spectrum(&self, coded: &Coded, token: usize) -> Vec<[f64; 2]> {
        let width = coded.mean.len();
        let center = coded.centers[token * width..(token + 1) * width].iter().enumerate();
        let features: Vec<f64> = center.map(|(j, c)| c * coded.scale[j] + coded.mean[j]).collect();
        let model = self.features.model(&features, self.rate);
        let at = |i: usize| {
            let share = i as f64 / (SPECTRUM - 1) as f64;
            [share * self.rate / 2.0, model.decibels(share * PI, self.warp)]
        };
        (0..SPECTRUM).map(at).collect()
    }
}

/// The method.
pub(super) struct Lipcot;

impl Method for Lipcot {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn reads(&self) -> Reads {
        Reads::Series
    }

    fn cut(&self, input: Input, params: &Params, ctx: &Ctx) -> Result<Segmentation> {
        INFO.check(params)?;
        let series = input.series(&INFO)?;
        let length = params.count(&WINDOW) as usize;
        let hop = ((length as f64 * (1.0 - params.number(&OVERLAP))).round() as usize).max(1);
        let (ranges, rest) = windows(series.samples.len(), length, hop);
        let order = params.count(&ORDER) as usize;
        let doubles = ranges.len() as u64 * (length + 8 * order + 64) as u64;
        ctx.fits(8 * doubles, "take shorter or fewer windows, or a shorter series")?;
        let tokens = (params.count(&TOKENS) as usize).min(ranges.len());
        let features = match params.choice(&FEATURES) {
            "poles" => Features::Poles,
            "cepstrum" => Features::Cepstrum,
            _ => Features::Coefficients,
        };
        // The authors' own clusters at seed 0.
        let seed = AUTHORS_SEED.wrapping_add(params.seed(&SEED) as u32);
        let coder = Coder { order, features, warp: params.number(&WARP), rate: series.rate, tokens, seed };
        let cut: Vec<Vec<f64>> =
            ranges.iter().map(|r| series.samples[r.clone()].iter().map(|x| f64::from(*x)).collect()).collect();
        let coded = if cut.is_empty() { None } else { Some(coder.code(&cut, ctx)?) };
        let id = |i: usize| coded.as_ref().and_then(|c| c.ids.get(i).copied());
        let window = |(i, r): (usize, &std::ops::Range<usize>)| Window { id: id(i), start: r.start, end: r.end };
        let seconds = |n: usize| Datum::Number(n as f64 / series.rate);
        Ok(Segmentation::Series(Windows {
            name: INFO.id.into(),
            windows: ranges.iter().enumerate().map(window).collect(),
            rest,
            vocab: Some(tokens),
            figures: vec![
                Figure::new("window", seconds(length), "Samples of a window over samples a second").unit("s"),
                Figure::new("hop", seconds(hop), "From the beginning of a window to that of the next").unit("s"),
            ],
            pictures: coded.iter().map(|c| spectra(&coder, c).into()).collect(),
        }))
    }
}

/// Spectra of the most frequent tokens.
fn spectra(coder: &Coder, coded: &Coded) -> Plot {
    let usage = crate::segment::Usage::of(coded.ids.iter().copied());
    let curve = |(id, n): &(u32, usize)| {
        let name = format!("token {id}, {n} ×");
        let points = coder.spectrum(coded, *id as usize);
        Curve { look: Some(*id as usize), ..Curve::new(name, Style::Line, points) }
    };
    let title = match usage.counts.len() {
        n if n > SHOWN => format!("spectra of the {SHOWN} most frequent of {n} tokens"),
        _ => "spectra of the tokens".to_string(),
    };
    let curves = usage.counts.iter().take(SHOWN).map(curve).collect();
    Plot::new(title, Axis::Number(Measure::new("frequency", "Hz")), Measure::signed("power", "dB"), curves)
}

/// Raw entry: windows `[n, samples]`, order, rate, kind of features and number of clusters in; the models, features,
/// centres and tokens out.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let windows = input.array("windows")?;
    let [n, _] = windows.dims("windows")?;
    windows.check_finite("windows")?;
    let features = match input.read::<u32>("method")? {
        1 => Features::Poles,
        2 => Features::Coefficients,
        3 => Features::Cepstrum,
        other => return Err(Error::invalid(format!("method {other}: 1 is poles, 2 coefficients, 3 cepstrum"))),
    };
    let (tokens, warp) = (input.read("clusters")?, input.read_or::<Option<f64>>("warp_factor", None)?);
    let coder = Coder {
        order: input.read("order")?,
        features,
        warp: warp.unwrap_or(0.0),
        rate: input.read("Fs")?,
        tokens,
        seed: AUTHORS_SEED,
    };
    let rows: Vec<Vec<f64>> = (0..n).map(|i| windows.row(i).iter().map(|&x| f64::from(x)).collect()).collect();
    let c = coder.code(&rows, ctx)?;
    let width = c.mean.len();
    let reflection: Vec<Vec<f64>> =
        (0..coder.order).map(|m| c.models.iter().map(|model| model.reflection[m]).collect()).collect();
    Ok(json!({
        "ar_coeff": c.models.iter().map(|m| &m.a).collect::<Vec<_>>(),
        "ar_sigma2": c.models.iter().map(|m| m.noise).collect::<Vec<_>>(),
        "reflection": reflection,
        "features": c.features.chunks(width).collect::<Vec<_>>(),
        "scaler_mean": c.mean,
        "scaler_scale": c.scale,
        "centers": c.centers.chunks(width).collect::<Vec<_>>(),
        "token_ids": c.ids,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::Series;

    /// Windows of 64 samples of one of two tones, in this order.
    fn tones(order: &[usize]) -> Series {
        let tone =
            |&k: &usize| (0..64).map(move |i| ((i as f32) * [0.3, 1.9][k]).sin() + 0.01 * ((i * i) as f32).sin());
        Series::new("tones", 100.0, order.iter().flat_map(tone).chain([0.0; 5]).collect()).unwrap()
    }

    fn cut(series: &Series, params: Params) -> Result<Windows> {
        match Lipcot.cut(Input::Series(series), &params, &Ctx::default())? {
            Segmentation::Series(w) => Ok(w),
            other => panic!("{other:?}"),
        }
    }

    fn two() -> Params {
        Params::new().set("window", 64i64).set("order", 2i64).set("tokens", 2i64)
    }

    #[test]
    fn two_tones_are_two_tokens_whatever_is_compared() {
        let order = [0, 0, 1, 0, 1, 1];
        for features in ["coefficients", "poles", "cepstrum"] {
            let w = cut(&tones(&order), two().set("features", features)).unwrap();
            let ids: Vec<u32> = w.windows.iter().filter_map(|w| w.id).collect();
            let same: Vec<bool> = ids.iter().map(|id| *id == ids[0]).collect();
            assert_eq!(same, order.map(|k| k == 0), "{features}: {ids:?}");
            assert_eq!((w.rest.clone(), w.vocab), (384..389, Some(2)));
            // The token of the first tone peaks at 0.3 / 2π · 100 = 4.8 Hz.
            let crate::finding::Picture::Plot(plot) = &w.pictures[0] else { panic!() };
            plot.check().unwrap();
            let own = plot.series.iter().find(|s| s.name.starts_with(&format!("token {},", ids[0]))).unwrap();
            let peak = own.points.iter().max_by(|a, b| a[1].total_cmp(&b[1])).unwrap();
            assert!((peak[0] - 4.8).abs() < 1.0, "{features}: {peak:?}");
        }
    }

    #[test]
    fn short_silent_and_single_series_are_cut_without_failing() {
        let of = |samples: Vec<f32>, p: Params| cut(&Series::new("s", 1.0, samples).unwrap(), p);
        for n in [0, 1, 63] {
            let w = of(vec![0.5; n], two()).unwrap();
            assert_eq!((w.windows.len(), w.rest, w.vocab, w.pictures.len()), (0, 0..n, Some(0), 0));
        }
        // One window, two tokens wished: one is there.
        let w = of((0..64).map(|i| i as f32).collect(), two()).unwrap();
        assert_eq!((w.windows.len(), w.vocab, w.windows[0].id), (1, Some(1), Some(0)));
        let w = of(vec![0.0; 64 * 4], two().set("overlap", 0.5)).unwrap();
        assert_eq!((w.windows.len(), w.windows[1].start), (7, 32));
        let why = of(vec![0.0; 99], Params::new().set("window", 8i64).set("order", 8i64)).unwrap_err().to_string();
        assert!(why.contains("too short for 8 poles"), "{why}");
    }

    #[test]
    fn the_same_seed_gives_the_same_tokens() {
        let s = tones(&[0, 1, 1, 0, 1, 0, 0, 0, 1, 1]);
        let ids = |seed: i64| cut(&s, two().set("tokens", 5i64).set("seed", seed)).unwrap().windows;
        assert_eq!(ids(3), ids(3));
    }
}
