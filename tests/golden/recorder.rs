//! What `tokenscope recorder` prints, run on tiny models of many architectures, several of which the program itself does
//! not open: the traces are read here, and their maps, streams and logits compared with what `transformers` returned.
//!
//! Needs a Python with torch, transformers and safetensors: `TOKENSCOPE_PYTHON`, or else `python3`. Where that lacks
//! them nothing is tested, and standard error says so, past the test's own capture.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Command;
use tokenscope_analysis::Ctx;
use tokenscope_analysis::array::Array;
use tokenscope_analysis::names::{Named, to_transformers};
use tokenscope_analysis::trace::{Site, Tower, Trace, read_trace};
use tokenscope_tests::{close, root, tensors};

/// A Python that has what the recorder needs.
fn python() -> Option<String> {
    let name = std::env::var("TOKENSCOPE_PYTHON").unwrap_or_else(|_| "python3".into());
    let tried = Command::new(&name).args(["-c", "import torch, transformers, safetensors"]).output();
    if tried.is_ok_and(|out| out.status.success()) {
        return Some(name);
    }
    let _ = writeln!(
        std::io::stderr(),
        "!!! NOT TESTED: the recorder: {name} has no torch, transformers and safetensors; set TOKENSCOPE_PYTHON to one \
         that has"
    );
    None
}

#[test]
fn recorded_runs_equal_transformers() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let out = Command::new(python)
        .arg(root().join("tests/recorder/runs.py"))
        .arg(root().join("assets/tokenscope_record.py"))
        .arg(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{}{said}", String::from_utf8_lossy(&out.stdout));
    assert!(!said.contains("the recorder failed"), "{said}");
    let mut names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).collect();
    names.retain(|p| p.extension().is_some_and(|e| e == "trace"));
    assert!(names.len() >= 20, "{names:?}");
    for path in names {
        let trace = read_trace(&path, &Ctx::default()).unwrap();
        assert_eq!(trace.not_finite(), None);
        assert_eq!(trace.dtype.as_deref(), Some("float32"));
        let got: BTreeMap<String, Named> = to_transformers(&trace, &Ctx::default()).unwrap().into_iter().collect();
        let want = tensors(&path.with_extension("safetensors"));
        assert!(want.keys().filter(|k| k.contains("attentions_")).count() >= 2, "{}", path.display());
        let mut problems = Vec::new();
        for (name, w) in &want {
            let Some(Named::Float(a)) = got.get(name) else {
                problems.push(format!("{name}: missing"));
                continue;
            };
            assert_eq!(a.shape(), w.shape, "{}: {name}", path.display());
            let values: Vec<f64> = a.data().iter().map(|&x| f64::from(x)).collect();
            let size = w.values.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
            problems.extend(close(name, &values, &w.values, 2e-6 * size).err());
        }
        assert!(problems.is_empty(), "{}: {problems:#?}", path.display());
        let name = path.file_stem().unwrap().to_str().unwrap();
        check_parts(name, &trace);
        check_experts(name, &trace);
        let sinks = trace.towers.values().flat_map(|t| &t.attention).any(|rule| rule.sinks.is_some());
        assert_eq!(sinks, name == "gpt_oss", "{name}");
        let ids = trace.towers.get(&Tower::Text).is_none_or(|t| t.tokens.iter().all(|t| t.id.is_some()));
        assert!(ids, "{name}: tokens without ids");
    }
}

/// Models whose norms stand behind the sums.
const POST_NORM: &[&str] = &["bert", "xlm_roberta", "albert", "deberta", "mpnet", "xlnet"];

/// The experts that a softmax over the router's logits chooses are the largest, the best first; others weigh otherwise.
fn check_experts(name: &str, trace: &Trace) {
    let routed = [("mixtral", 3, 2), ("gpt_oss", 3, 2), ("qwen3_moe", 2, 3), ("deepseek_v3", 2, 3)];
    let (layers, chosen) = routed.iter().find(|r| r.0 == name).map_or((0, 0), |r| (r.1, r.2));
    let all = trace.arrays.iter().filter(|(k, _)| k.site == Site::Experts);
    let all: Vec<_> = all.collect();
    assert_eq!(all.len(), layers, "{name}");
    for (key, experts) in all {
        let router = &trace.get(key.tower, key.layer, Site::Router).unwrap().array;
        let [n, k] = experts.array.dims("experts").unwrap();
        assert_eq!((k, router.shape()[0]), (chosen, n), "{name}");
        for row in (0..n).filter(|_| name != "deepseek_v3") {
            let logits = router.row(row);
            let mut order: Vec<usize> = (0..logits.len()).collect();
            order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
            let best: Vec<f32> = order[..k].iter().map(|&i| i as f32).collect();
            assert_eq!(experts.array.row(row), best, "{name} {} {row}", key.layer);
        }
    }
}

/// What a layer's parts add to its stream adds up.
fn check_parts(name: &str, trace: &Trace) {
    for (&tower, run) in &trace.towers {
        for layer in 0..run.n_layers {
            let of = |site| trace.get(tower, layer, site).unwrap_or_else(|e| panic!("{name}: {e}")).array.clone();
            let [pre, attention, mid, mlp, post] =
                [Site::ResidPre, Site::AttnOut, Site::ResidMid, Site::MlpOut, Site::ResidPost].map(of);
            let sum = |a: &Array, b: &Array| -> Vec<f64> {
                a.data().iter().zip(b.data()).map(|(a, b)| f64::from(*a) + f64::from(*b)).collect()
            };
            let values = |a: &Array| a.data().iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
            if POST_NORM.contains(&name) {
                continue;
            }
            close(&format!("{name}: {tower:?} {layer} mid + mlp"), &sum(&mid, &mlp), &values(&post), 1e-4).unwrap();
            // Where a decoder reads an encoder, that is added between.
            if !["t5", "whisper"].contains(&name) {
                let what = format!("{name}: {tower:?} {layer} pre + attention");
                close(&what, &sum(&pre, &attention), &values(&mid), 1e-4).unwrap();
            }
        }
    }
}
