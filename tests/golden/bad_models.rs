//! Damaged and hostile model folders: each is refused with an error that names what is wrong, or gives the
//! intact model's numbers.

use tokenscope_analysis::Ctx;
use tokenscope_analysis::model::load;
use tokenscope_analysis::run::{RunRequest, run};
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::{CaptureSpec, Site};
use tokenscope_tests::{close, golden, json, tensors};

#[test]
fn every_item_of_the_manifest_is_treated_as_it_says() {
    let root = golden().join("models/bad_inputs");
    let want = tensors(&root.join("model/control/expected.safetensors"));
    let ids: Vec<u32> = want["input_ids"].values.iter().map(|&x| x as u32).collect();
    let mut problems = Vec::new();
    let mut seen = 0;
    for entry in json(&root.join("manifest.json"))["entries"].as_array().unwrap() {
        let path = entry["path"].as_str().unwrap();
        // Images and GGUF files have tests of their own.
        if entry["kind"] != "model" || !root.join(path).exists() {
            continue;
        }
        seen += 1;
        let dir = root.join(path);
        let numbers = load(&dir, &candle_core::Device::Cpu).and_then(|model| {
            let request = RunRequest { ids: Some(ids.clone()), ..RunRequest::default() };
            let t = run(model.as_ref(), None, &request, &CaptureSpec::sites(&[Site::Logits]), &Ctx::default())?;
            let logits = t.arrays.values().next().map(|e| e.array.clone());
            logits.ok_or_else(|| tokenscope_analysis::Error::invalid("no logits"))
        });
        let tokenizer = path.contains("tokenizer_").then(|| Tokenizer::load(&dir));
        let refused = numbers.is_err() || matches!(tokenizer, Some(Err(_)));
        match (entry["expect"].as_str().unwrap(), numbers) {
            ("reject", Ok(_)) if !refused => problems.push(format!("{path} was accepted: {}", entry["reason"])),
            ("accept", Err(e)) => problems.push(format!("{path} was refused: {e}")),
            ("accept", Ok(a)) => {
                let got: Vec<f64> = a.data().iter().map(|&x| f64::from(x)).collect();
                problems.extend(close(path, &got, &want["logits"].values, 1e-4).err());
            }
            _ => {}
        }
    }
    assert!(seen > 30, "only {seen} items were found");
    assert!(problems.is_empty(), "{problems:#?}");
}
