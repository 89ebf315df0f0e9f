//! Sampling with drafts gives texts that are distributed as the target's own: a chi-square test over whole decodes.
//!
//! Error level: with other seeds a correct method would fail each of these tests once in a million.

use candle_core::Device;
use rayon::prelude::*;
use std::collections::HashMap;
use tokenscope_analysis::decode::decode;
use tokenscope_analysis::decode::draft::find;
use tokenscope_analysis::method::Params;
use tokenscope_analysis::model::{Input, LogitRows, Model, load};
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::NoTap;
use tokenscope_analysis::{Ctx, Subject};
use tokenscope_tests::{read, root};

/// Upper quantile of the normal distribution at one in a million.
const Z: f64 = 4.753;
/// Decodes per method.
const RUNS: usize = 3000;
/// Texts expected less often than this share one cell.
const LEAST: f64 = 8.0;
const TEMPERATURE: f64 = 0.9;

/// The next-token distribution of `model` after `ids`.
fn next(model: &dyn Model, ids: &[u32]) -> Vec<f64> {
    let mut input = Input { ids: ids.to_vec(), logits: Some(LogitRows::Last), ..Input::default() };
    let out = model.forward(&mut input, &mut NoTap, &Ctx::default()).unwrap();
    let row = out.logits.unwrap().squeeze(0).unwrap().to_vec1::<f32>().unwrap();
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let e: Vec<f64> = row.iter().map(|x| (f64::from(x - max) / TEMPERATURE).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.into_iter().map(|x| x / sum).collect()
}

/// Texts of `length` tokens after `prompt` with their probability, those above `least` only.
fn likely(model: &dyn Model, prompt: &[u32], length: usize, least: f64) -> HashMap<Vec<u32>, f64> {
    let mut level = vec![(Vec::new(), 1.0)];
    for _ in 0..length {
        let mut out = Vec::new();
        for (text, p) in level {
            let ids: Vec<u32> = prompt.iter().chain(&text).copied().collect();
            for (id, q) in next(model, &ids).into_iter().enumerate() {
                if p * q >= least {
                    out.push((text.iter().copied().chain([id as u32]).collect(), p * q));
                }
            }
        }
        level = out;
    }
    level.into_iter().collect()
}

/// The statistic and what it may reach at the error level (Wilson and Hilferty's approximation).
fn chi_square(seen: &HashMap<Vec<u32>, usize>, want: &HashMap<Vec<u32>, f64>, runs: usize) -> (f64, f64) {
    let n = runs as f64;
    let part = |count: f64, expected: f64| (count - expected).powi(2) / expected;
    let (mut sum, mut rest_seen, mut rest_want) = (0.0, n, n);
    for (text, p) in want {
        let count = seen.get(text).copied().unwrap_or(0) as f64;
        sum += part(count, p * n);
        rest_seen -= count;
        rest_want -= p * n;
    }
    let mut cells = want.len();
    if rest_want >= LEAST {
        sum += part(rest_seen, rest_want);
        cells += 1;
    }
    let free = (cells - 1) as f64;
    let a = 2.0 / (9.0 * free);
    (sum, free * (1.0 - a + Z * a.sqrt()).powi(3))
}

fn counted(runs: usize, decode: impl Fn(usize) -> Vec<u32> + Sync + Send) -> HashMap<Vec<u32>, usize> {
    let all: Vec<Vec<u32>> = (0..runs).into_par_iter().map(decode).collect();
    let mut seen = HashMap::new();
    for text in all {
        *seen.entry(text).or_default() += 1;
    }
    seen
}

#[test]
fn sampled_texts_are_distributed_as_the_targets_own() {
    let sample = root().join("sample_data/models");
    let open = |name: &str| load(&sample.join(name), &Device::Cpu).unwrap();
    let (target, draft) = (open("sample-lm"), open("sample-draft"));
    // What follows is open enough that draft and target differ, and not so open that no text comes often.
    let words = Tokenizer::load(&sample.join("sample-lm/tokenizer.json")).unwrap();
    let prompt = words.encode("Ada and Ben are in the garden. Ada", None, true).unwrap().ids;
    const LENGTH: usize = 3;
    let want = likely(target.as_ref(), &prompt, LENGTH, LEAST / RUNS as f64);
    assert!(want.len() >= 12, "only {} texts are likely enough to be counted", want.len());
    let trace = read(target.as_ref(), &prompt);
    let on = Subject { partner: Some(draft.as_ref()), ..Subject::new(&trace).with_model(target.as_ref()) };
    let sampled = |method: &str, key: &'static str, value: i64, verify: &'static str| {
        counted(RUNS, |seed| {
            let params = Params::new()
                .set("temperature", TEMPERATURE)
                .set("seed", seed as i64)
                .set("new_tokens", LENGTH as i64)
                .set(key, value);
            let params = if verify.is_empty() { params } else { params.set("verify", verify) };
            decode(find(method).unwrap(), &on, &params, &Ctx::default(), &mut |_| ()).unwrap().output()
        })
    };
    for (method, key, value, verify) in [
        ("speculative_sampling", "gamma", 3, "recursive_rejection"),
        ("dyspec", "tree_size", 5, "recursive_rejection"),
        ("token_recycling", "depth", 1, "exact_match"),
        ("spectr", "drafts", 2, ""),
        ("rsd_sbs", "beam", 2, "recursive_rejection"),
    ] {
        let (got, most) = chi_square(&sampled(method, key, value, verify), &want, RUNS);
        let n = want.len();
        assert!(got < most, "{method} with {verify}: chi-square {got:.1}, at most {most:.1} with {n} texts");
    }
    // The test has the power to see a difference: the draft's own texts are refused by far.
    let alone = Subject { model: Some(draft.as_ref()), ..on };
    let own = counted(RUNS, |seed| {
        let params =
            Params::new().set("temperature", TEMPERATURE).set("seed", seed as i64).set("new_tokens", LENGTH as i64);
        let method = find("speculative_sampling").unwrap();
        decode(method, &alone, &params, &Ctx::default(), &mut |_| ()).unwrap().output()
    });
    let (got, most) = chi_square(&own, &want, RUNS);
    assert!(got > 2.0 * most, "the draft's own texts pass: {got:.1} of {most:.1}");
}
