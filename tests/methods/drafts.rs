//! Draft methods: the text is the target's own, the tree's numbers are those of reading each path by itself.

use candle_core::Device;
use std::path::PathBuf;
use tokenscope_analysis::decode::draft::{ALL, find};
use tokenscope_analysis::decode::{self, DraftRun, NodeState};
use tokenscope_analysis::method::Params;
use tokenscope_analysis::model::{Input, LogitRows, Model, load};
use tokenscope_analysis::run::{RunRequest, run};
use tokenscope_analysis::trace::{CaptureSpec, NoTap};
use tokenscope_analysis::{Ctx, Subject};
use tokenscope_tests::{golden, json, read, recorded_request, root};

fn open(path: PathBuf) -> Box<dyn Model> {
    load(&path, &Device::Cpu).unwrap()
}

fn decode(method: &str, target: &dyn Model, draft: &dyn Model, prompt: &[u32], params: &Params) -> DraftRun {
    let trace = read(target, prompt);
    let on = Subject { partner: Some(draft), ..Subject::new(&trace).with_model(target) };
    let mut rounds = 0;
    let run = decode::decode(find(method).unwrap(), &on, params, &Ctx::default(), &mut |r| {
        assert_eq!(r.rounds.len(), rounds + 1, "{method}: a round was not reported");
        rounds += 1;
    });
    let run = run.unwrap();
    assert_eq!(run.rounds.len(), rounds);
    run
}

#[test]
fn greedy_text_is_the_targets_own_for_every_method_and_family() {
    let models = golden().join("models");
    let sample = root().join("sample_data/models");
    let pairs = [
        (sample.join("sample-lm"), sample.join("sample-draft")),
        (models.join("llama"), models.join("llama_bf16")),
        (models.join("gpt2"), models.join("gpt2")),
        (models.join("qwen3"), models.join("qwen2")),
    ];
    for (target, draft) in pairs {
        let (t, d) = (open(target.clone()), open(draft));
        if t.info().vocab != d.info().vocab {
            continue;
        }
        for method in ALL {
            let id = method.info().id;
            for prompt in [vec![5u32], vec![7, 9, 11, 200, 13]] {
                for new in [1, 2, 19] {
                    let params = Params::new().set("new_tokens", new);
                    let run = decode(id, t.as_ref(), d.as_ref(), &prompt, &params);
                    // What is not lossless above temperature 0 claims nothing, and is the same at 0.
                    let alone = || decode("speculative_sampling", t.as_ref(), d.as_ref(), &prompt, &params).output();
                    let (same, words) =
                        run.lossless.clone().unwrap_or_else(|| (run.output() == alone(), "claims nothing".into()));
                    assert!(same, "{id} on {}: {words}", target.display());
                    assert_eq!(run.output().len(), new as usize, "{id}");
                    check_rounds(id, &run);
                }
            }
        }
    }
}

/// Accepted nodes form one path from the root, emitted tokens follow it, and states agree with the path.
fn check_rounds(id: &str, run: &DraftRun) {
    for (i, round) in run.rounds.iter().enumerate() {
        let accepted: Vec<usize> =
            (0..round.nodes.len()).filter(|&n| round.nodes[n].state == NodeState::Accepted).collect();
        let mut parent = None;
        for (k, &n) in accepted.iter().enumerate() {
            assert_eq!((round.nodes[n].parent, round.nodes[n].depth), (parent, k + 1), "{id} round {i}");
            parent = Some(n);
            if let Some(&e) = round.emitted.get(k) {
                assert_eq!(e, round.nodes[n].token, "{id} round {i}");
            }
        }
        assert!(round.emitted.len() <= accepted.len() + 1);
        for n in &round.nodes {
            if let Some(p) = n.parent {
                assert_eq!(round.nodes[p].depth + 1, n.depth);
                // What hangs below a refused node was never looked at.
                if round.nodes[p].state != NodeState::Accepted {
                    assert_eq!(n.state, NodeState::Unverified, "{id} round {i}");
                }
            }
        }
        if let Some(next) = run.rounds.get(i + 1) {
            assert_eq!(Some(&next.root), round.emitted.last());
        }
    }
}

#[test]
fn probabilities_in_a_tree_are_those_of_each_path_read_by_itself() {
    let sample = root().join("sample_data/models");
    let (target, draft) = (open(sample.join("sample-lm")), open(sample.join("sample-draft")));
    let prompt = [3u32, 40, 41, 42, 17];
    for method in ["token_recycling", "dyspec"] {
        let run = decode(method, target.as_ref(), draft.as_ref(), &prompt, &Params::new().set("new_tokens", 12));
        let mut text = prompt.to_vec();
        let mut checked = 0;
        for round in &run.rounds {
            for (i, node) in round.nodes.iter().enumerate().step_by(7) {
                let mut path = Vec::new();
                let mut at = round.nodes[i].parent;
                while let Some(p) = at {
                    path.push(round.nodes[p].token);
                    at = round.nodes[p].parent;
                }
                path.reverse();
                let ids: Vec<u32> = text.iter().copied().chain(path).collect();
                let mut input = Input { ids, logits: Some(LogitRows::Last), ..Input::default() };
                let out = target.forward(&mut input, &mut NoTap, &Ctx::default()).unwrap();
                let row = out.logits.unwrap().squeeze(0).unwrap().to_vec1::<f32>().unwrap();
                let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let sum: f64 = row.iter().map(|x| f64::from(x - max).exp()).sum();
                let want = f64::from(row[node.token as usize] - max).exp() / sum;
                let got = f64::from(node.p_target.unwrap());
                assert!((got - want).abs() < 1e-4, "{method}: {got} and {want}");
                checked += 1;
            }
            text.extend(&round.emitted);
        }
        assert!(checked > 10, "{method}: only {checked} nodes");
    }
}

#[test]
fn sampling_is_seeded_and_its_parameters_matter() {
    let sample = root().join("sample_data/models");
    let (target, draft) = (open(sample.join("sample-lm")), open(sample.join("sample-draft")));
    let prompt = [3u32, 40, 41];
    for method in ["dyspec", "speculative_sampling"] {
        let warm = |seed: i64| Params::new().set("temperature", 1.5).set("seed", seed).set("new_tokens", 24);
        let go = |p: &Params| decode(method, target.as_ref(), draft.as_ref(), &prompt, p).output();
        assert_eq!(go(&warm(1)), go(&warm(1)), "{method}");
        assert_ne!(go(&warm(1)), go(&warm(2)), "{method}");
    }
    let size = |n: i64| {
        decode("dyspec", target.as_ref(), draft.as_ref(), &prompt, &Params::new().set("tree_size", n)).rounds[0]
            .nodes
            .len()
    };
    assert_eq!((size(1), size(9), size(40)), (1, 9, 40));
    let tree = |key: &'static str, v: i64| {
        decode("token_recycling", target.as_ref(), draft.as_ref(), &prompt, &Params::new().set(key, v)).rounds[0]
            .nodes
            .len()
    };
    assert_eq!((tree("depth", 1), tree("depth", 6), tree("successors", 1)), (8, 80, 6));
}

#[test]
fn a_target_that_reads_an_image_goes_on_as_it_would_by_itself() {
    let dir = golden().join("models/llava");
    let model = open(dir.clone());
    let request = recorded_request(&dir.join("expected.safetensors"));
    let prompt = request.ids.clone().unwrap();
    let stands_for_image = json(&dir.join("config.json"))["image_token_index"].as_u64().unwrap() as u32;
    let text: Vec<u32> = prompt.iter().copied().filter(|&id| id != stands_for_image).collect();
    assert!(text.len() < prompt.len());
    let plain = RunRequest { greedy: 12, ..request.clone() };
    let want = run(model.as_ref(), None, &plain, &CaptureSpec::sites(&[]), &Ctx::default()).unwrap().continuation;
    let blind = RunRequest { ids: Some(text.clone()), greedy: 12, ..RunRequest::default() };
    let without = run(model.as_ref(), None, &blind, &CaptureSpec::sites(&[]), &Ctx::default()).unwrap().continuation;
    assert_ne!(want, without, "the image makes no difference here");
    let trace = run(model.as_ref(), None, &request, &CaptureSpec::sites(&[]), &Ctx::default()).unwrap();
    for method in ALL {
        let mut on = Subject::new(&trace).with_model(model.as_ref());
        (on.partner, on.partner_ids) = (Some(model.as_ref()), Some(&text[..]));
        let params = Params::new().set("new_tokens", 12i64);
        let decoded = decode::decode(*method, &on, &params, &Ctx::default(), &mut |_| ()).unwrap();
        assert_eq!(decoded.output(), want, "{}", method.info().id);
        assert!(decoded.lossless.clone().is_none_or(|l| l.0));
        check_rounds(method.info().id, &decoded);
    }
}

#[test]
fn a_sliding_window_refuses_a_tree_that_it_would_cut() {
    let models = golden().join("models");
    let target = open(models.join("mistral"));
    let trace = read(target.as_ref(), &[5; 12]);
    let on = Subject::new(&trace).with_model(target.as_ref());
    let method = find("token_recycling").unwrap();
    let error = decode::decode(method, &on, &Params::new(), &Ctx::default(), &mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("sliding window"), "{error}");
}
