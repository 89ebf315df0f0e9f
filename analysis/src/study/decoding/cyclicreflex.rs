//! CyclicReflex: the logits of words of reflection are raised and lowered in a triangular wave.
//!
//! Source: Fan et al. 2025, "CyclicReflex: Improving Large Reasoning Models via Cyclical Reflection Token Scheduling",
//! arXiv 2506.11077; OPTML-Group/CyclicReflex Base/evaluate.py. Takes: amplitude, period, shift. Gives: the bias at each
//! token. Departs: none known.

use super::super::Method;
use super::show::line;
use crate::ctx::Ctx;
use crate::finding::{Finding, Measure};
use crate::method::{Basis, Info, Kind, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const AMPLITUDE: Param = Param::number("amplitude", "Largest bias", 0.0, 20.0, 5.0);
const PERIOD: Param = Param::number("period", "Tokens from one rise to the next", 1.0, 8192.0, 1200.0);
const SHIFT: Param = Param::share("shift", "Share of a period by which the wave begins later", 0.0);
const TOKENS: Param = Param::count("tokens", "Tokens shown", 2, 8192, 2400);

static INFO: Info = Info {
    id: "cyclicreflex",
    title: "CyclicReflex",
    summary: "Shows the bias that words of reflection such as \"wait\" would get at each token.",
    family: "adaptive compute",
    basis: Basis::Authors { repo: "OPTML-Group/CyclicReflex", commit: "1987e20" },
    paper: Some(Paper {
        title: "CyclicReflex: Improving Large Reasoning Models via Cyclical Reflection Token Scheduling",
        authors: "Fan et al.",
        year: 2025,
        arxiv: "2506.11077",
    }),
    departs: "the schedule only; the words are wait, Wait, but, But, Alternatively before the end of thinking",
    params: &[AMPLITUDE, PERIOD, SHIFT, TOKENS],
    raw: &[Adapter { name: "cyclicreflex", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct CyclicReflex;

/// The wave after `t` tokens: up to the amplitude in a quarter of a period, down to minus it in the next half, and back.
fn bias(t: f64, amplitude: f64, period: f64, shift: f64) -> f64 {
    let c = (t + shift * period).rem_euclid(period) / period;
    match c {
        c if c <= 0.25 => amplitude * c / 0.25,
        c if c <= 0.75 => amplitude - 2.0 * amplitude * (c - 0.25) / 0.5,
        c => amplitude * (c - 0.75) / 0.25 - amplitude,
    }
}

impl Method for CyclicReflex {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, _: &Subject, params: &Params, _: &Ctx) -> Result<Finding> {
        INFO.check(params)?;
        let (a, p, s) = (params.number(&AMPLITUDE), params.number(&PERIOD), params.share(&SHIFT));
        let n = params.count(&TOKENS) as usize;
        let wave = (0..n).map(|t| bias(t as f64, a, p, s));
        Ok(Finding::of(line("bias of words of reflection", "token", Measure::signed("bias", "nats"), wave)))
    }
}

/// Raw entry: `amplitude`, `period`, `shift`, ranges `phi` where it acts (everywhere if null), `n` tokens.
fn raw(input: &RawInput, _: &Ctx) -> Result<Value> {
    let (a, p, s): (f64, f64, f64) = (input.read("amplitude")?, input.read("period")?, input.read_or("shift", 0.0)?);
    let phi: Option<Vec<[f64; 2]>> = input.read_or("phi", None)?;
    let n = input.within("n", 0..=1 << 22)?;
    if p <= 0.0 || ![a, p, s].iter().all(|x| x.is_finite()) {
        return Err(Error::invalid("period must be above 0, amplitude and shift numbers"));
    }
    let acts = |t: f64| phi.as_ref().is_none_or(|r| r.iter().any(|r| (r[0]..=r[1]).contains(&t)));
    let at = |t: usize| if acts(t as f64) { bias(t as f64, a, p, s) } else { 0.0 };
    Ok(json!({ "bias_at_position": (0..n).map(at).collect::<Vec<_>>() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_period_by_hand() {
        let wave: Vec<f64> = (0..9).map(|t| bias(f64::from(t), 2.0, 8.0, 0.0)).collect();
        assert_eq!(wave, [0.0, 1.0, 2.0, 1.0, 0.0, -1.0, -2.0, -1.0, 0.0]);
        assert_eq!(bias(0.0, 2.0, 8.0, 0.25), 2.0);
    }
}
