//! Fourier-VLM: a grid of patches loses its high frequencies and becomes a smaller one.
//!
//! Source: Wang et al. 2025, "Fourier-VLM: Compressing Vision Tokens in the Frequency Domain for Large Vision-Language
//! Models", arXiv 2508.06038. Takes: patches `[n, d]` and their grid. Gives: the lowest coefficients of their cosine
//! transform, transformed back. Departs: see [`Info::departs`]. Cost: O(n · kept · d).

use crate::ctx::Ctx;
use crate::method::{Basis, Info, Kind, Need, Paper, Param, Params};
use crate::passes::cosine_transform::{self, Along, Norm, of_grid, squeeze};
use crate::passes::host::resample::Weights;
use crate::raw::{Adapter, RawInput};
use crate::reduce::place::{LAYER, encoded};
use crate::reduce::{Asked, Decide, Decision, Method};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const KEEP: Param = Param::share("keep", "Share of the frequencies kept, the same of either side", 0.25);
const NORM: Param = Param::choice("norm", "Scale of the transform", &["ortho", "none"]);

static INFO: Info = Info {
    id: "fourier_vlm",
    title: "Fourier-VLM",
    summary: "Makes a smaller grid of the low frequencies of the image's features.",
    family: "image features",
    basis: Basis::Authors { repo: "whyisverysmart/Fourier-Compressor", commit: "45ab404875" },
    paper: Some(Paper {
        title: "Fourier-VLM: Compressing Vision Tokens in the Frequency Domain for Large Vision-Language Models",
        authors: "Wang et al.",
        year: 2025,
        arxiv: "2508.06038",
    }),
    departs: "the published models were trained with it, these were not; as in the authors' code values are not scaled \
              back, so that an even map grows by the root of the share; a new token stands for the patches of its part of \
              the grid, though all patches are in it",
    needs: &[Need::ImageTokens],
    params: &[KEEP, NORM, LAYER],
    budget: Some(&KEEP),
    raw: &[ADAPTER],
    ..Info::of(Kind::Reduce)
};

pub(super) struct FourierVlm;

impl Method for FourierVlm {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn start<'a>(&self, on: &Subject<'a>, params: &Params) -> Result<Box<dyn Decide + 'a>> {
        INFO.check(params)?;
        let side = params.share(&KEEP).sqrt();
        let norm = norm(params.choice(&NORM))?;
        Ok(Box::new(Asked::at([encoded(on, params, &INFO)?], move |seen, ctx| {
            Decision::by_tile(seen, ctx, |_, (rows, cols)| {
                let kept = |n: usize| ((side * n as f64).round() as usize).clamp(1, n);
                let (down, across) = (kept(rows), kept(cols));
                let map = squeezed((rows, cols), (down, across), norm);
                let token = |(at, weights): (usize, &[f64])| {
                    // The part of the grid that the new token stands at.
                    let own =
                        |m: &(usize, f64)| (m.0 / cols) * down / rows * across + (m.0 % cols) * across / cols == at;
                    let (mine, mut others): (Weights, Weights) = weights.iter().copied().enumerate().partition(own);
                    others.retain(|m| m.1 != 0.0);
                    (mine, others)
                };
                Ok(map.chunks_exact(rows * cols).enumerate().map(token).collect())
            })
        })))
    }
}

fn norm(word: &str) -> Result<Norm> {
    match word {
        "ortho" => Ok(Norm::Orthonormal),
        "none" | "backward" => Ok(Norm::Plain),
        _ => Err(Error::invalid(format!("norm is {word}; it is ortho or none"))),
    }
}

/// How the cells of the small grid are made of those of the large one.
fn squeezed((rows, cols): (usize, usize), (down, across): (usize, usize), norm: Norm) -> Vec<f64> {
    of_grid((&squeeze(down, rows, norm), down, rows), (&squeeze(across, cols, norm), across, cols))
}

/// Raw entry: `x` `[n, channels]`, `grid`, `reserve` (rows and columns of coefficients), `norm`.
const ADAPTER: Adapter = Adapter { name: "fourier_vlm", run: raw };

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (x, [n, d]) = input.finite("x")?;
    let (grid, kept): ((usize, usize), (usize, usize)) = (input.read("grid")?, input.read("reserve")?);
    let fits = kept.0 > 0 && kept.1 > 0 && kept.0 <= grid.0 && kept.1 <= grid.1;
    if grid.0.checked_mul(grid.1) != Some(n) || !fits {
        let e = format!("{} by {} coefficients of a grid of {} by {} for {n} tokens", kept.0, kept.1, grid.0, grid.1);
        return Err(Error::invalid(e));
    }
    let word: Option<String> = input.read_or("norm", Some("ortho".into()))?;
    let norm = norm(word.as_deref().unwrap_or("none"))?;
    let axes = [Along::squeeze(kept.0, grid.0, norm), Along::squeeze(kept.1, grid.1, norm)];
    let small = cosine_transform::run(x, &axes[0], &axes[1], ctx)?;
    let coefficients = cosine_transform::run(x, &Along::forward(grid.0, norm), &Along::forward(grid.1, norm), ctx)?;
    let energy = |i: usize| coefficients.row(i).iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
    let low = |i: &usize| i / grid.1 < kept.0 && i % grid.1 < kept.1;
    let (part, whole) = ((0..n).filter(low).map(energy).sum::<f64>(), (0..n).map(energy).sum::<f64>());
    let channel = |c: usize| -> Vec<Vec<f32>> {
        (0..grid.0).map(|y| (0..grid.1).map(|x| coefficients.row(y * grid.1 + x)[c]).collect()).collect()
    };
    Ok(json!({
        "compressed_tokens": small.data().chunks(d.max(1)).collect::<Vec<_>>(),
        "dct_coefficients": (0..d).map(channel).collect::<Vec<_>>(),
        "energy_kept_fraction": if whole > 0.0 { part / whole } else { 1.0 },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_even_grid_the_mean_stays_and_grows() {
        let map = squeezed((2, 2), (1, 1), Norm::Orthonormal);
        assert!(map.iter().all(|w| (w - 0.5).abs() < 1e-12), "{map:?}");
        let whole = squeezed((2, 3), (2, 3), Norm::Plain);
        assert!((0..36).all(|i| (whole[i] - f64::from(u8::from(i % 7 == 0))).abs() < 1e-12));
    }
}
