//! A small GPT-2 and a small Llama against `transformers`: logits, gradients by the embeddings, integrated
//! gradients, logit lens; the cache against no cache; rows after a cut.

use candle_core::{D, Device, Tensor, Var};
use std::path::{Path, PathBuf};
use tokenscope_analysis::Ctx;
use tokenscope_analysis::array::Array;
use tokenscope_analysis::model::{Input, KvCache, Model, load};
use tokenscope_analysis::run::{RunRequest, run, run_with};
use tokenscope_analysis::trace::{At, CaptureSpec, NoTap, Regroup, Site, Tap};
use tokenscope_tests::{close, golden, json, tensors};

/// Float32 against float32 in another order of summation.
const ATOL: f64 = 2e-4;

fn cases() -> Vec<PathBuf> {
    let mut out = Vec::new();
    for family in ["tiny_gpt2_forward", "tiny_llama_forward"] {
        for entry in std::fs::read_dir(golden().join("forward").join(family)).unwrap() {
            out.push(entry.unwrap().path());
        }
    }
    out.sort();
    assert!(!out.is_empty());
    out
}

/// The fixture's weights and configuration as a model folder, and its token ids.
fn open(case: &Path) -> (Box<dyn Model>, Vec<u32>) {
    let dir = tempfile::tempdir().unwrap();
    let params = json(&case.join("params.json"));
    std::fs::write(dir.path().join("config.json"), params["params"]["config"].to_string()).unwrap();
    std::fs::copy(case.join("input.safetensors"), dir.path().join("model.safetensors")).unwrap();
    let ids = tensors(&case.join("input.safetensors"))["input_ids"].values.iter().map(|&x| x as u32).collect();
    (load(dir.path(), &Device::Cpu).unwrap_or_else(|e| panic!("{}: {e}", case.display())), ids)
}

/// Every number below a JSON value, in order.
fn flat(v: &serde_json::Value) -> Vec<f64> {
    match v {
        serde_json::Value::Array(a) => a.iter().flat_map(flat).collect(),
        v => vec![v.as_f64().expect("a number")],
    }
}

fn values(t: &Tensor) -> Vec<f64> {
    Array::from_tensor(t).unwrap().data().iter().map(|&x| f64::from(x)).collect()
}

fn log_softmax(x: &Tensor) -> Tensor {
    let x = x.broadcast_sub(&x.max_keepdim(D::Minus1).unwrap()).unwrap();
    let sum = x.exp().unwrap().sum_keepdim(D::Minus1).unwrap().log().unwrap();
    x.broadcast_sub(&sum).unwrap()
}

/// Gradient `[n, d]` of the last row's log-probability of `target` by the embeddings.
fn gradient(model: &dyn Model, ids: &[u32], embeds: &Tensor, target: usize) -> Tensor {
    let x = Var::from_tensor(embeds).unwrap();
    let mut input = Input { ids: ids.to_vec(), embeds: Some(x.as_tensor().clone()), ..Input::default() };
    let logits = model.forward(&mut input, &mut NoTap, &Ctx::default()).unwrap().logits.unwrap();
    let last = log_softmax(&logits.narrow(0, ids.len() - 1, 1).unwrap());
    let grads = last.narrow(1, target, 1).unwrap().sum_all().unwrap().backward().unwrap();
    grads.get(&x).expect("the embeddings have a gradient").clone()
}

#[test]
fn logits_and_gradients_equal_transformers() {
    for case in cases() {
        let (model, ids) = open(&case);
        let want = json(&case.join("expected.json"));
        let params = json(&case.join("params.json"));
        let target = params["params"]["target"].as_u64().unwrap() as usize;
        let mut input = Input { ids: ids.clone(), ..Input::default() };
        let logits = model.forward(&mut input, &mut NoTap, &Ctx::default()).unwrap().logits.unwrap();
        close("logits", &values(&logits), &flat(&want["logits"]), ATOL).unwrap();

        let x = model.embed(&ids).unwrap();
        let g = gradient(model.as_ref(), &ids, &x, target);
        let dot = (&g * &x).unwrap().sum(1).unwrap();
        close("grad_x_input", &values(&dot), &flat(&want["grad_x_input"]), ATOL).unwrap();
        let norm = g.sqr().unwrap().sum(1).unwrap().sqrt().unwrap();
        close("grad_norm", &values(&norm), &flat(&want["grad_norm"]), ATOL).unwrap();

        let steps = params["params"]["ig_steps"].as_u64().unwrap();
        let mut sum = x.zeros_like().unwrap();
        for i in 0..steps {
            let share = (i as f64 + 0.5) / steps as f64;
            let at = (&x * share).unwrap();
            sum = (sum + gradient(model.as_ref(), &ids, &at, target)).unwrap();
        }
        let ig = ((sum * x).unwrap().sum(1).unwrap() / steps as f64).unwrap();
        close("integrated_gradients", &values(&ig), &flat(&want["integrated_gradients"]), ATOL).unwrap();
    }
}

#[test]
fn the_logit_lens_equals_transformers() {
    for case in cases() {
        let (model, ids) = open(&case);
        let want = json(&case.join("expected.json"));
        let request = RunRequest { ids: Some(ids), ..RunRequest::default() };
        let trace = run(model.as_ref(), None, &request, &CaptureSpec::all(), &Ctx::default()).unwrap();
        let (mut top, mut prob) = (Vec::new(), Vec::new());
        let streams = trace.arrays.iter().filter(|(k, _)| k.site == Site::ResidPre);
        let last = trace.arrays.iter().filter(|(k, _)| k.site == Site::Logits);
        let mut tables: Vec<Tensor> = Vec::new();
        for (key, entry) in streams.chain(last) {
            let a = &entry.array;
            let t = Tensor::from_slice(a.data(), a.shape(), &Device::Cpu).unwrap();
            tables.push(if key.site == Site::Logits { t } else { model.lens(&t).unwrap() });
        }
        for t in tables {
            for row in log_softmax(&t).to_vec2::<f32>().unwrap() {
                let best = tokenscope_analysis::math::argmax(&row).unwrap();
                top.push(best as f64);
                prob.push(f64::from(row[best]));
            }
        }
        close("logit_lens_top1", &top, &flat(&want["logit_lens_top1"]), 0.0).unwrap();
        close("logit_lens_top1_logprob", &prob, &flat(&want["logit_lens_top1_logprob"]), ATOL).unwrap();
    }
}

#[test]
fn the_cache_gives_what_the_whole_text_gives() {
    for case in cases() {
        let (model, ids) = open(&case);
        let want = flat(&json(&case.join("expected.json"))["logits"]);
        let mut cache = KvCache::default();
        let mut got = Vec::new();
        for part in [&ids[..3], &ids[3..4], &ids[4..]] {
            let mut input = Input { ids: part.to_vec(), cache: Some(&mut cache), ..Input::default() };
            let out = model.forward(&mut input, &mut NoTap, &Ctx::default()).unwrap();
            got.extend(values(&out.logits.unwrap()));
        }
        close("logits", &got, &want, ATOL).unwrap();
        assert_eq!(cache.len(), ids.len());
    }
}

/// Keeps some rows after the first block.
struct Cut(Vec<usize>);

impl Tap for Cut {
    fn regroup(&mut self, at: &At, _: &Tensor) -> tokenscope_analysis::Result<Option<Regroup>> {
        Ok((at.site == Site::ResidPost && at.layer == 0).then(|| Regroup::keep(&self.0)))
    }
}

#[test]
fn rows_know_their_token_after_a_cut() {
    let (model, ids) = open(&cases()[0]);
    let n = ids.len();
    let keep = vec![0, 2, n - 1];
    let request = RunRequest { ids: Some(ids), ..RunRequest::default() };
    let mut cut = Cut(keep.clone());
    let trace = run_with(model.as_ref(), None, &request, &CaptureSpec::all(), &mut cut, &Ctx::default()).unwrap();
    for (key, entry) in &trace.arrays {
        let tokens: Vec<usize> = entry.rows.tokens.iter().map(|t| t[0]).collect();
        let whole = key.layer == 0 && key.site != Site::Logits && key.site != Site::Final;
        assert_eq!(tokens, if whole { (0..n).collect() } else { keep.clone() }, "{key:?}");
        // A token keeps the position that it had.
        assert_eq!(entry.rows.positions, tokens, "{key:?}");
    }
}
