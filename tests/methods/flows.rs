//! Flow graphs on models whose heads add to the residual stream, and on one where a norm stands between.

use candle_core::{Device, Tensor};
use tokenscope_analysis::flow;
use tokenscope_analysis::method::Params;
use tokenscope_analysis::model::{Model, load};
use tokenscope_analysis::passes::attention_map;
use tokenscope_analysis::run::run;
use tokenscope_analysis::trace::{CaptureSpec, Site, Tower, Trace};
use tokenscope_analysis::{Ctx, Error, Subject};
use tokenscope_tests::{golden, recorded_request};

fn traced(name: &str) -> (Box<dyn Model>, Trace) {
    let dir = golden().join("models/settings").join(name);
    let model = load(&dir, &Device::Cpu).unwrap();
    let request = recorded_request(&dir.join("expected.safetensors"));
    let trace = run(model.as_ref(), None, &request, &CaptureSpec::views(), &Ctx::default()).unwrap();
    (model, trace)
}

fn graph(model: &str, method: &str) -> Result<flow::FlowGraph, Error> {
    let (model, trace) = traced(model);
    let input = Subject::new(&trace).with_model(model.as_ref()).of(Tower::Text);
    flow::find(method).unwrap().graph(&input, &Params::new(), &Ctx::default())
}

/// The largest difference between what attention of the first layer adds to the last token and the sum of its heads'
/// parts: attention times value times output projection.
fn rest_of_parts(name: &str) -> f32 {
    let (model, t) = traced(name);
    let (tower, get) = (Tower::Text, |site| &t.get(Tower::Text, 0, site).unwrap().array);
    let rule = &t.tower(tower).unwrap().attention[0];
    let (v, o) = (get(Site::V), model.output_projection(tower, 0).unwrap());
    let values = Tensor::from_slice(v.data(), v.shape().to_vec(), &Device::Cpu).unwrap();
    let last = v.shape()[1] - 1;
    let mut sum = vec![0f32; get(Site::ResidPre).shape()[1]];
    for h in 0..rule.n_heads {
        let shares = attention_map::row_of_trace(&t, tower, 0, 0, h, last).unwrap();
        let shares = Tensor::from_slice(&shares, (1, last + 1), &Device::Cpu).unwrap();
        let read = shares.matmul(&values.get(h / (rule.n_heads / rule.n_kv_heads)).unwrap()).unwrap();
        let part = read.matmul(&o.get(h).unwrap()).unwrap().squeeze(0).unwrap().to_vec1::<f32>().unwrap();
        sum.iter_mut().zip(part).for_each(|(s, p)| *s += p);
    }
    let added = get(Site::ResidMid).row(last).iter().zip(get(Site::ResidPre).row(last)).map(|(mid, pre)| mid - pre);
    added.zip(sum).map(|(a, s)| (a - s).abs()).fold(0.0, f32::max)
}

#[test]
fn the_parts_of_heads_are_what_attention_adds_but_not_where_a_norm_stands_between() {
    // Models without a bias on the output projection.
    for name in ["gemma_first", "phi3_longrope"] {
        assert!(rest_of_parts(name) < 1e-5, "{name}: {}", rest_of_parts(name));
    }
    assert!(rest_of_parts("gemma2_windows") > 1e-3);
}

#[test]
fn routes_are_refused_where_a_norm_stands_between_heads_and_stream() {
    let why = graph("gemma2_windows", "information_flow_routes").expect_err("no routes").to_string();
    assert!(why.contains("without a norm between"), "{why}");
    assert!(!graph("gemma2_windows", "rollout_graph").unwrap().links.links.is_empty());
    for model in ["gpt_neox_pythia", "gemma_first", "opt_before"] {
        assert!(!graph(model, "information_flow_routes").unwrap().links.links.is_empty(), "{model}");
    }
}
