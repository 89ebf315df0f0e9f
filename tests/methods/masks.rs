//! Masked diffusion on a real model: every gap is filled once, blocks go left to right, and parameters matter.

use candle_core::Device;
use tokenscope_analysis::decode::mask::{Timeline, decode};
use tokenscope_analysis::decode::reveal::{ALL, find};
use tokenscope_analysis::method::Params;
use tokenscope_analysis::model::{Input, LogitRows, Model, load};
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::NoTap;
use tokenscope_analysis::{Ctx, Result, Subject};
use tokenscope_tests::{read, root};

const PROMPT: &str = "In the library live the owl, the crow and the duck. Every evening";

fn open(name: &str) -> (Box<dyn Model>, Vec<u32>) {
    let dir = root().join("sample_data/models").join(name);
    let words = Tokenizer::load(&dir.join("tokenizer.json")).unwrap();
    (load(&dir, &Device::Cpu).unwrap(), words.encode(PROMPT, None, true).unwrap().ids)
}

fn write(model: &dyn Model, prompt: &[u32], policy: &str, params: &Params) -> Result<Timeline> {
    let trace = read(model, prompt);
    let mut steps = 0;
    let on = Subject::new(&trace).with_model(model);
    let out = decode(find(policy)?, &on, params, &Ctx::default(), &mut |t| {
        steps += 1;
        assert_eq!(t.steps.len(), steps, "{policy}: a step was not reported");
    })?;
    assert_eq!(out.steps.len(), steps);
    Ok(out)
}

#[test]
fn every_policy_fills_every_gap_once_block_by_block() {
    let (model, prompt) = open("sample-diffusion");
    for method in ALL {
        let id = method.info().id;
        let params = Params::new().set("gen_length", 22).set("block_length", 8);
        let out = write(model.as_ref(), &prompt, id, &params).unwrap();
        let text = out.output();
        assert_eq!((&text[..prompt.len()], text.len()), (&prompt[..], prompt.len() + 22), "{id}");
        assert!(text[prompt.len()..].iter().all(|t| *t != out.mask), "{id}: a gap is left");
        let mut places: Vec<usize> = out.revealed().map(|(_, r)| r.position).collect();
        places.sort_unstable();
        assert_eq!(places, (prompt.len()..prompt.len() + 22).collect::<Vec<_>>(), "{id}");
        for (step, r) in out.revealed() {
            assert_eq!(out.steps[step].block, (r.position - prompt.len()) / 8, "{id}");
            assert!(!r.why.is_empty() && r.alternatives.len() == 4, "{id}");
        }
        assert!(out.steps.iter().is_sorted_by_key(|s| s.block));
        // What it says of a step is what the model says of the text before it.
        let at = out.steps.len() / 2;
        let mut input = Input { ids: out.text_after(at), logits: Some(LogitRows::All), ..Input::default() };
        let rows = model.forward(&mut input, &mut NoTap, &Ctx::default()).unwrap().logits.unwrap();
        let rows = rows.to_vec2::<f32>().unwrap();
        for seen in &out.steps[at].seen {
            let row = &rows[seen.position];
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = row.iter().map(|x| f64::from(x - max).exp()).sum();
            let want = f64::from(row[seen.id as usize] - max).exp() / sum;
            assert!((seen.confidence - want).abs() < 1e-5, "{id}: {} and {want}", seen.confidence);
        }
    }
}

#[test]
fn parameters_of_policies_matter_and_seeds_repeat() {
    let (model, prompt) = open("sample-diffusion");
    let go = |policy: &str, params: Params| write(model.as_ref(), &prompt, policy, &params).unwrap();
    let base = || Params::new().set("gen_length", 16).set("block_length", 16);
    assert_eq!(go("llada_low_confidence", base().set("steps", 4)).forwards, 4);
    assert_eq!(go("llada_low_confidence", base().set("steps", 16)).forwards, 16);
    // All at once where nothing must be sure, one at a time where everything must.
    let leap = |sure: f64, relaxed: f64, radius: i64| {
        let params = base().set("threshold", sure).set("relaxed_threshold", relaxed).set("radius", radius);
        go("localleap", params).forwards
    };
    assert_eq!((leap(0.0, 0.0, 4), leap(1.0, 1.0, 4)), (1, 16));
    assert!(leap(0.9, 0.3, 8) <= leap(0.9, 0.3, 0) && leap(0.9, 0.3, 8) < 16);
    let warm = |seed: i64| go("localleap", base().set("temperature", 1.2).set("seed", seed)).output();
    assert_eq!(warm(1), warm(1));
    assert_ne!(warm(1), warm(2));
    let guided = go("localleap", base().set("cfg_scale", 1.5));
    assert_eq!(guided.forwards, 2 * guided.steps.len());
}

#[test]
fn what_cannot_be_filled_in_says_why() {
    let (model, prompt) = open("sample-diffusion");
    let long = write(model.as_ref(), &prompt, "localleap", &Params::new().set("gen_length", 64)).unwrap_err();
    assert!(long.to_string().contains("shorten the prompt"), "{long}");
    let (causal, ids) = open("sample-lm");
    let causal = write(causal.as_ref(), &ids, "localleap", &Params::new()).unwrap_err();
    assert!(causal.to_string().contains("fills in"), "{causal}");
    let strange = write(model.as_ref(), &prompt, "localleap", &Params::new().set("steps", 3)).unwrap_err();
    assert!(strange.to_string().contains("localleap.steps"), "{strange}");
}
