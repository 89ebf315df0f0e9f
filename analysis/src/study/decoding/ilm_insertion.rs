//! Insertion language models: the next token may go anywhere between those that are there.
//!
//! Source: Patel et al. 2025, "Insertion Language Models: Sequence Generation with Arbitrary-Position Insertions",
//! arXiv 2505.05755; dhruvdcoder/ILM src/pcdd/diffusion/ilm_v2.py. Takes: what each slot says, and when to stop. Gives: tokens
//! in the order in which they are inserted. Departs: none known; the model is trained, so that there is no run to show.

use crate::array::Array;
use crate::ctx::Ctx;
use crate::math::{argmax, log_sum_exp};
use crate::method::{Basis, Info, Kind, Need, Paper};
use crate::raw::{Adapter, MAX_ROUNDS, RawInput};
use crate::{Error, Result};
use serde_json::{Value, json};

pub(super) static INFO: Info = Info {
    id: "ilm_insertion",
    title: "Insertion",
    summary: "Inserts one token after another wherever it fits best, until it has enough.",
    family: "decode orders",
    basis: Basis::Authors { repo: "dhruvdcoder/ILM", commit: "04f78bd" },
    paper: Some(Paper {
        title: "Insertion Language Models: Sequence Generation with Arbitrary-Position Insertions",
        authors: "Patel et al.",
        year: 2025,
        arxiv: "2505.05755",
    }),
    departs: "the greedy samplers only",
    needs: &[Need::Arrays],
    raw: &[Adapter { name: "ilm_insertion", run: raw }],
    ..Info::of(Kind::Study)
};

/// How a slot and its token are chosen.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// The largest logit of all.
    Joint,
    /// The slot with the largest sum of exponentials, then its largest logit.
    SlotFirst,
}

/// The slot and the token to put there; `None` where nothing may be inserted.
fn choose(slots: &[Vec<f32>], mode: Mode) -> Option<(usize, usize)> {
    let best = |row: &Vec<f32>| argmax(row).map(|x| (x, row[x])).filter(|b| b.1 > f32::NEG_INFINITY);
    let slot = match mode {
        Mode::Joint => argmax(&slots.iter().map(|r| best(r).map_or(f32::NEG_INFINITY, |b| b.1)).collect::<Vec<_>>()),
        Mode::SlotFirst => argmax(&slots.iter().map(|r| log_sum_exp(r) as f32).collect::<Vec<_>>()),
    }?;
    best(&slots[slot]).map(|(token, _)| (slot, token))
}

/// The stub of the golden: `W[0, token] + W[1, right neighbour] + pos_bias[rank]`; `bos` and mask are never inserted.
fn slots(text: &[usize], w: &Array, bias: &[f32], never: [usize; 2]) -> Vec<Vec<f32>> {
    let v = w.shape()[1];
    let row = |i: usize| {
        let right = text.get(i + 1).copied().unwrap_or(0);
        let (own, next) = (&w.data()[text[i] * v..][..v], &w.data()[(v + right) * v..][..v]);
        let bias = bias.get(i).copied().unwrap_or(0.0);
        let mut out: Vec<f32> = own.iter().zip(next).map(|(a, b)| a + b + bias).collect();
        never.iter().for_each(|&x| out[x] = f32::NEG_INFINITY);
        out
    };
    (0..text.len()).map(row).collect()
}

/// Raw entry: `W` `[2, vocab, vocab]`, `pos_bias`, `stop_w` of the golden's stub, `initial` tokens → insertions until the
/// stop probability reaches its threshold or the text its length.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (w, [two, v, columns]) = input.finite("W")?;
    let (bias, [_]) = input.finite("pos_bias")?;
    let (stop, [n_stop]) = input.finite("stop_w")?;
    let mut text: Vec<usize> = input.read("initial")?;
    let never = [input.read("bos")?, input.read("mask_token")?];
    let longest = input.rounds("max_length", 64)?;
    let threshold: f64 = input.read("stopping_threshold")?;
    let mode = match input.read::<String>("mode")?.as_str() {
        "joint" => Mode::Joint,
        "two" => Mode::SlotFirst,
        other => return Err(Error::invalid(format!("mode must be joint or two, not {other}"))),
    };
    if two != 2 || v == 0 || columns != v || n_stop != v {
        return Err(Error::invalid("W must be [2, vocab, vocab] and stop_w [vocab]"));
    }
    if text.is_empty() || text.len() > MAX_ROUNDS || text.iter().chain(&never).any(|x| *x >= v) {
        return Err(Error::invalid("initial, bos and mask_token must be ids of the vocabulary, initial not empty"));
    }
    let mut timeline = Vec::new();
    for step in 1.. {
        ctx.step(text.len().min(longest), longest)?;
        let sum: f64 = text.iter().map(|&x| f64::from(stop.data()[x])).sum::<f64>() - 4.0 + 0.45 * text.len() as f64;
        let stop_prob = 1.0 / (1.0 + (-sum).exp());
        let next = choose(&slots(&text, w, bias.data(), never), mode);
        let (Some((slot, token)), true) = (next, stop_prob < threshold && text.len() < longest) else {
            timeline.push(json!({ "step": step, "stopped": true, "stop_prob": stop_prob }));
            break;
        };
        text.insert(slot + 1, token);
        timeline
            .push(json!({ "step": step, "token": token, "inserted_at_position": slot + 1, "stop_prob": stop_prob }));
    }
    Ok(json!({ "timeline": timeline, "final_tokens_in_order": text }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_logit_or_the_fullest_slot() {
        let slots = [vec![f32::NEG_INFINITY, 3.0, 0.0], vec![f32::NEG_INFINITY, 2.8, 2.9]];
        assert_eq!((choose(&slots, Mode::Joint), choose(&slots, Mode::SlotFirst)), (Some((0, 1)), Some((1, 2))));
        assert_eq!(choose(&[vec![f32::NEG_INFINITY; 2]], Mode::Joint), None);
    }
}
