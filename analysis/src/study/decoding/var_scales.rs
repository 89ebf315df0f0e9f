//! VAR: an image is decided scale by scale, all tokens of a scale at once.
//!
//! Source: Tian et al. 2024, "Visual Autoregressive Modeling: Scalable Image Generation via Next-Scale Prediction",
//! arXiv 2404.02905; FoundationVision/VAR models/var.py, which STAR builds on (arXiv 2406.10797). Takes: sides of the
//! scales. Gives: the tokens of each, what they see, and how guidance grows. Departs: none known; the order only.

use super::super::Method;
use super::show::{bars, line, order_timeline};
use crate::ctx::Ctx;
use crate::finding::{Datum, Figure, Finding, Measure};
use crate::method::{Basis, Info, Kind, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const SCALES: Param = Param::schedule(
    "patch_nums",
    "Tokens along a side of each scale",
    1.0,
    32.0,
    &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 13.0, 16.0],
);
const GUIDANCE: Param =
    Param::number("cfg", "Guidance at the last scale; it grows from 0 at the first", 0.0, 20.0, 1.5);

static INFO: Info = Info {
    id: "var_scales",
    title: "VAR scales",
    summary: "Shows in which step each token is decided when an image is written from coarse to fine.",
    family: "decode orders",
    basis: Basis::OwnReading,
    paper: Some(Paper {
        title: "Visual Autoregressive Modeling: Scalable Image Generation via Next-Scale Prediction",
        authors: "Tian et al.",
        year: 2024,
        arxiv: "2404.02905",
    }),
    departs: "own reading of the authors' code; the order only, no image is made",
    params: &[SCALES, GUIDANCE],
    raw: &[Adapter { name: "var_scales", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct Var;

/// Most tokens of all scales together.
const MOST: usize = 1 << 20;

/// First token of each scale and one past its last. Errors: no scales, too many tokens.
fn spans(sides: &[usize]) -> Result<Vec<[usize; 2]>> {
    let (mut out, mut at) = (Vec::new(), 0usize);
    for &side in sides {
        let end = at.saturating_add(side.saturating_mul(side));
        if side == 0 || end > MOST {
            return Err(Error::invalid(format!("patch_nums must be sides from 1, of {MOST} tokens at most")));
        }
        out.push([at, end]);
        at = end;
    }
    if out.is_empty() { Err(Error::invalid("patch_nums lists no scale")) } else { Ok(out) }
}

/// The weight of guidance at each scale: `t · i / (n − 1)` in `(1 + t) c − t u`.
fn weights(n: usize, cfg: f64) -> Vec<f64> {
    (0..n).map(|i| if n > 1 { cfg * (i as f64 / (n - 1) as f64) } else { 0.0 }).collect()
}

impl Method for Var {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, _: &Subject, params: &Params, _: &Ctx) -> Result<Finding> {
        INFO.check(params)?;
        let sides: Vec<usize> = params.schedule(&SCALES).iter().map(|s| s.round() as usize).collect();
        let spans = spans(&sides)?;
        let n = spans.len();
        // A grid of steps by tokens is drawn where it is not too large.
        let all = spans[n - 1][1];
        let steps: Vec<usize> = spans.iter().enumerate().flat_map(|(i, s)| (s[0]..s[1]).map(move |_| i)).collect();
        let counts = spans.iter().map(|s| (s[1] - s[0]) as f64);
        let mut out = Finding::of(bars("tokens decided together", "scale", Measure::new("tokens", ""), counts))
            .with(line("guidance", "scale", Measure::new("weight", ""), weights(n, params.number(&GUIDANCE))));
        if all <= 4096 && n <= 64 {
            out = out.with(order_timeline("tokens decided", &steps));
        }
        Ok(out
            .figure(Figure::new("tokens", Datum::Count(all), "tokens of all scales"))
            .figure(Figure::new("steps", Datum::Count(n), "a pass for each scale, which sees itself and those before"))
            .figure(Figure::new("tokens per step", Datum::Number(all as f64 / n as f64), "tokens divided by steps")))
    }
}

/// Raw entry: `patch_nums` and `cfg` → spans, scale of each token, what it sees, guidance.
fn raw(input: &RawInput, _: &Ctx) -> Result<Value> {
    let sides: Vec<usize> = input.read("patch_nums")?;
    let spans = spans(&sides)?;
    let of = |value: &dyn Fn(usize) -> usize| -> Vec<usize> {
        spans.iter().enumerate().flat_map(|(i, s)| (s[0]..s[1]).map(move |_| i)).map(value).collect()
    };
    let (n, all) = (spans.len(), spans[spans.len() - 1][1]);
    Ok(json!({
        "total_tokens": all,
        "scale_of_token": of(&|i| i),
        "begin_end": spans,
        "attention_allowed_rowsum": of(&|i| spans[i][1]),
        "cfg_weight_per_scale": weights(n, input.read("cfg")?),
        "steps": n,
        "tokens_per_step": all as f64 / n as f64,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_follow_each_other_and_guidance_grows() {
        assert_eq!(spans(&[1, 2, 3]).unwrap(), [[0, 1], [1, 5], [5, 14]]);
        assert_eq!((weights(3, 1.5), weights(1, 1.5)), (vec![0.0, 0.75, 1.5], vec![0.0]));
        assert!(spans(&[]).is_err() && spans(&[0]).is_err() && spans(&[5000]).is_err());
    }
}
