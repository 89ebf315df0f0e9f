//! What computes by whole tensors alone, as on another device, is what loops over values compute: every fixture that
//! `transformers` recorded, on the processor, with all paths that need its memory closed.

use super::super::{Input, Model, backward, from_weights};
use crate::cpu::ELSEWHERE;
use crate::ctx::Ctx;
use crate::parity::Reference;
use crate::trace::NoTap;
use crate::weights::{Hold, Numbers, Weights};
use candle_core::{Device, Var};
use std::path::{Path, PathBuf};

/// Runs `f` as if this thread's tensors lay on another device.
fn away<R>(f: impl FnOnce() -> R) -> R {
    ELSEWHERE.set(true);
    let out = f();
    ELSEWHERE.set(false);
    out
}

/// Folders with a model and what it computed elsewhere, below `dir`.
fn fixtures(dir: &Path, out: &mut Vec<PathBuf>) {
    if ["config.json", "expected.safetensors", "model.safetensors"].iter().all(|name| dir.join(name).is_file()) {
        out.push(dir.to_path_buf());
    }
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        // What several pictures were is not all in the tensors.
        if path.is_dir() && !path.ends_with("several") {
            fixtures(&path, out);
        }
    }
}

fn all() -> Vec<PathBuf> {
    let mut out = Vec::new();
    fixtures(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models"), &mut out);
    out.sort();
    assert!(out.len() > 90, "{}", out.len());
    out
}

fn open(dir: &Path, numbers: Numbers) -> Box<dyn Model> {
    let weights = Weights::open(dir).unwrap().holding(Hold::Memory).in_numbers(numbers);
    from_weights(&weights, &Device::Cpu).unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
}

#[test]
fn whole_tensors_give_what_transformers_gives() {
    let ctx = Ctx::default();
    for dir in all() {
        let compared = |with: &Reference| away(|| with.compare(open(&dir, Numbers::F32).as_ref(), None, &ctx)).unwrap();
        let reference = Reference::open(&dir.join("expected.safetensors"), &ctx).unwrap();
        let mut found = compared(&reference);
        if found.worst().is_none() {
            // Some hold nothing under names that a run has; loops over values are compared with transformers elsewhere.
            found = compared(&reference.again(open(&dir, Numbers::F32).as_ref(), &ctx).unwrap());
        }
        let worst = found.worst().unwrap();
        assert!(found.holds(), "{}: {} is off by {:.1e}", dir.display(), worst.at, worst.share());
    }
}

/// Weights in bf16 lie otherwise on another device, and compute the same.
#[test]
fn whole_tensors_of_bf16_give_what_packed_matrices_give() {
    for dir in all() {
        let here = Reference::open(&dir.join("expected.safetensors"), &Ctx::default()).unwrap();
        let here = here.again(open(&dir, Numbers::Bf16).as_ref(), &Ctx::default()).unwrap();
        let found = away(|| here.compare(open(&dir, Numbers::Bf16).as_ref(), Some(1e-4), &Ctx::default())).unwrap();
        let worst = found.worst().unwrap();
        assert!(found.holds(), "{}: {} is off by {:.1e}", dir.display(), worst.at, worst.share());
    }
}

/// The gradient of a logit by the embeddings goes back through whole tensors, too.
#[test]
fn gradients_of_whole_tensors_are_those_of_loops() {
    for name in ["gpt2", "llama", "mixtral", "gemma3", "gpt_oss"] {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models").join(name);
        let gradient = || {
            let model = open(&dir, Numbers::F32);
            let ids = vec![3, 5, 4, 7, 6];
            let x = Var::from_tensor(&model.embed(&ids).unwrap()).unwrap();
            let mut input = Input { ids, embeds: Some(x.as_tensor().clone()), ..Input::default() };
            let out = model.forward(&mut input, &mut NoTap, &Ctx::default()).unwrap();
            let logit = out.logits.unwrap().get(4).unwrap().get(9).unwrap();
            let grads = backward(&logit, &Ctx::default()).unwrap();
            grads.get(x.as_tensor()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let (want, got) = (gradient(), away(gradient));
        let scale = want.iter().fold(0f32, |m, x| m.max(x.abs()));
        let far = want.iter().zip(&got).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(scale > 0.0 && far < 1e-4 * scale, "{name}: {far} of {scale}");
    }
}
