//! Time of one traced pass of a model of GPT-2 small's shape with random weights over 1,024 tokens.

use candle_core::{Device, Tensor};
use criterion::Criterion;
use std::collections::HashMap;
use std::path::Path;
use tokenscope_analysis::Ctx;
use tokenscope_analysis::model::load;
use tokenscope_analysis::run::{RunRequest, run};
use tokenscope_analysis::trace::CaptureSpec;

const WIDTH: usize = 768;
const LAYERS: usize = 12;
const TOKENS: usize = 1024;
const VOCAB: usize = 50_257;

/// Writes `config.json` and `model.safetensors` of that shape.
fn write_model(dir: &Path) {
    let config = format!(
        r#"{{"model_type":"gpt2","n_embd":{WIDTH},"n_head":12,"n_layer":{LAYERS},"n_positions":{TOKENS},"vocab_size":{VOCAB}}}"#
    );
    std::fs::write(dir.join("config.json"), config).expect("the temporary folder is writable");
    let mut t: HashMap<String, Tensor> = HashMap::new();
    let mut add = |name: String, shape: &[usize]| {
        let x = Tensor::randn(0f32, 0.02, shape, &Device::Cpu).expect("a random tensor");
        t.insert(name, x);
    };
    add("wte.weight".into(), &[VOCAB, WIDTH]);
    add("wpe.weight".into(), &[TOKENS, WIDTH]);
    let mut norms = vec!["ln_f".to_string()];
    for i in 0..LAYERS {
        for (name, input, output) in [
            ("attn.c_attn", WIDTH, 3 * WIDTH),
            ("attn.c_proj", WIDTH, WIDTH),
            ("mlp.c_fc", WIDTH, 4 * WIDTH),
            ("mlp.c_proj", 4 * WIDTH, WIDTH),
        ] {
            add(format!("h.{i}.{name}.weight"), &[input, output]);
            add(format!("h.{i}.{name}.bias"), &[output]);
        }
        norms.extend([format!("h.{i}.ln_1"), format!("h.{i}.ln_2")]);
    }
    for name in norms {
        add(format!("{name}.weight"), &[WIDTH]);
        add(format!("{name}.bias"), &[WIDTH]);
    }
    candle_core::safetensors::save(&t, dir.join("model.safetensors")).expect("the temporary folder is writable");
}

fn trace(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    write_model(dir.path());
    let model = load(dir.path(), &Device::Cpu).expect("the model loads");
    let ids = (0..TOKENS as u32).map(|i| i * 37 % VOCAB as u32).collect();
    let request = RunRequest { ids: Some(ids), ..RunRequest::default() };
    let mut group = c.benchmark_group("trace");
    group.sample_size(10);
    group.bench_function("gpt2_small_shape_1024_tokens", |b| {
        b.iter(|| run(model.as_ref(), None, &request, &CaptureSpec::views(), &Ctx::default()).expect("the run works"));
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    trace(&mut criterion);
    criterion.final_summary();
}
