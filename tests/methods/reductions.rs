//! Reductions are really carried out: counts, sizes, weighted means, and parameters that matter.

use candle_core::Device;
use std::time::Duration;
use tokenscope_analysis::image::{Picture, Processor};
use tokenscope_analysis::method::{LayerPick, Params, Setting};
use tokenscope_analysis::model::{Model, load};
use tokenscope_analysis::prune::{ALL, Fate, Plan, Pruner, Stage, find, judge};
use tokenscope_analysis::run::{RunRequest, run, run_with};
use tokenscope_analysis::score;
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::{CaptureSpec, Site, Tower, Trace};
use tokenscope_analysis::weights::Weights;
use tokenscope_analysis::{Ctx, Subject};
use tokenscope_tests::golden;

struct Case {
    model: Box<dyn Model>,
    tokenizer: Option<Tokenizer>,
    request: RunRequest,
    trace: Trace,
}

fn case(name: &str) -> Case {
    let dir = golden().join("models").join(name);
    let model = load(&dir, &Device::Cpu).unwrap();
    let tokenizer = dir.join("tokenizer.json").exists().then(|| Tokenizer::load(&dir).unwrap());
    let mut request = RunRequest::default();
    if tokenizer.is_some() {
        request.prompt = Some("Where is the train?".into());
    }
    if let Some(processor) = Processor::load(&Weights::open(&dir).unwrap()).unwrap() {
        request.add_picture(&processor, &Picture::open(&dir.join("image.png")).unwrap()).unwrap();
    }
    let spec = CaptureSpec::views();
    let trace = run(model.as_ref(), tokenizer.as_ref(), &request, &spec, &Ctx::default()).unwrap();
    Case { model, tokenizer, request, trace }
}

impl Case {
    fn plan(&self, method: &str, tower: Tower, params: &Params) -> tokenscope_analysis::Result<Plan> {
        let input = Subject::new(&self.trace).with_model(self.model.as_ref()).of(tower);
        find(method).unwrap().plan(&input, params, &Ctx::default())
    }

    fn reduced(&self, plan: &Plan) -> Trace {
        let mut pruner = Pruner::new(plan).unwrap();
        let spec = CaptureSpec::views();
        run_with(self.model.as_ref(), self.tokenizer.as_ref(), &self.request, &spec, &mut pruner, &Ctx::default())
            .unwrap()
    }
}

fn share(method: &str, keep: f64) -> Params {
    Params::new().set(if method == "divprune" { "ratio" } else { "keep" }, keep)
}

#[test]
fn keeping_everything_changes_nothing() {
    for (name, tower) in
        [("vit", Tower::Vision), ("llava", Tower::Text), ("smolvlm", Tower::Text), ("gpt2", Tower::Text)]
    {
        let c = case(name);
        for method in ["random", "uniform"] {
            let plan = c.plan(method, tower, &share(method, 1.0)).unwrap();
            let j = judge(c.model.as_ref(), &c.trace, &plan, &|| Duration::ZERO, &Ctx::default()).unwrap();
            assert!(j.kl.unwrap() < 1e-10, "{name} {method}: {:?}", j.kl);
            assert_eq!((j.top1_same, j.flops_share), (Some(true), 1.0), "{name} {method}");
        }
    }
    let c = case("dinov2");
    let plan = c.plan("tome", Tower::Vision, &Params::new().set("r", 0)).unwrap();
    let j = judge(c.model.as_ref(), &c.trace, &plan, &|| Duration::ZERO, &Ctx::default()).unwrap();
    assert!((j.cosine.unwrap() - 1.0).abs() < 1e-6);
}

#[test]
fn every_method_keeps_its_share_of_the_image_and_all_of_the_text() {
    for (name, tower) in
        [("vit", Tower::Vision), ("clip", Tower::Vision), ("dinov2_registers", Tower::Vision), ("llava", Tower::Text)]
    {
        let c = case(name);
        let tokens = &c.trace.tower(tower).unwrap().tokens;
        let image = |i: &usize| tokens[*i].kind == tokenscope_analysis::token::TokenKind::Image;
        let n = (0..tokens.len()).filter(image).count();
        for method in ["random", "uniform", "divprune", "fastervlm"] {
            for keep in [0.25, 0.5, 0.9] {
                let plan = c.plan(method, tower, &share(method, keep)).unwrap();
                let reduced = c.reduced(&plan);
                let last = reduced.tower(tower).unwrap().n_layers - 1;
                let rows = &reduced.get(tower, last, Site::ResidPost).unwrap().rows;
                let want = (keep * n as f64).round_ties_even() as usize;
                // DivPrune's code may name a token twice; these pictures hold no duplicates.
                assert_eq!(rows.len(), tokens.len() - n + want, "{name} {method} {keep}");
                let texts = (0..tokens.len()).filter(|i| !image(i)).all(|i| rows.row_of(i).is_some());
                assert!(texts, "{name} {method}: a token outside the image is gone");
            }
        }
    }
}

#[test]
fn fastervlm_keeps_what_the_class_token_looks_at() {
    let c = case("llava");
    let params = Params::new().set("keep", 0.25).set("attention_layer", -2);
    let plan = c.plan("fastervlm", Tower::Text, &params).unwrap();
    let input = Subject::new(&c.trace).of(Tower::Vision);
    let cls =
        score::find("cls_score").unwrap().score(&input, &Params::new().set("layer", -2), &Ctx::default()).unwrap();
    let scores: Vec<f32> = cls.values.iter().flatten().copied().collect();
    assert_eq!(plan.scores, scores);
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let kept: Vec<usize> = plan.cuts[0].regroup.groups.iter().map(|g| g[0].0).collect();
    let mut best = order[..kept.len()].to_vec();
    best.sort_unstable();
    assert_eq!((plan.cuts[0].stage, kept), (Stage::Features, best));
    let other = c.plan("fastervlm", Tower::Text, &params.set("attention_layer", 0)).unwrap();
    assert_ne!(other.scores, plan.scores, "the layer does nothing");
}

#[test]
fn tome_merges_r_tokens_per_layer_into_their_weighted_means() {
    for name in ["vit", "siglip_vision", "dinov2_registers"] {
        let c = case(name);
        let n = c.trace.tower(Tower::Vision).unwrap().tokens.len();
        for r in [1usize, 3, 6] {
            let plan = c.plan("tome", Tower::Vision, &Params::new().set("r", r as i64)).unwrap();
            let reduced = c.reduced(&plan);
            let layers = reduced.tower(Tower::Vision).unwrap().n_layers;
            let mut left = n;
            for layer in 0..layers {
                let before = reduced.get(Tower::Vision, layer, Site::ResidPre).unwrap();
                assert_eq!(before.rows.len(), left, "{name} r = {r}, layer {layer}");
                let all: usize = (0..left).map(|i| before.rows.size(i)).sum();
                assert_eq!(all, n, "{name}: sizes do not add up to the tokens");
                // The MLP works on the means, weighted by size, of what attention gave.
                let mid = reduced.get(Tower::Vision, layer, Site::ResidMid).unwrap();
                let post = reduced.get(Tower::Vision, layer, Site::ResidPost).unwrap();
                let mlp = reduced.get(Tower::Vision, layer, Site::MlpOut).unwrap();
                let cut = &plan.cuts[layer];
                assert_eq!(cut.stage, Stage::Mid(layer));
                for (i, group) in cut.regroup.groups.iter().enumerate() {
                    let total: usize = group.iter().map(|&(row, _)| mid.rows.size(row)).sum();
                    for (x, (got, m)) in post.array.row(i).iter().zip(mlp.array.row(i)).enumerate() {
                        let mean: f64 = group
                            .iter()
                            .map(|&(row, _)| {
                                f64::from(mid.array.row(row)[x]) * mid.rows.size(row) as f64 / total as f64
                            })
                            .sum();
                        assert!((f64::from(*got) - f64::from(*m) - mean).abs() < 1e-4, "{name} layer {layer} row {i}");
                    }
                }
                left -= r.min((left - lead(&c)) / 2);
            }
        }
    }
}

fn lead(c: &Case) -> usize {
    c.trace.tower(Tower::Vision).unwrap().grids[0].first
}

#[test]
fn tome_equals_a_slow_reference_written_from_the_paper() {
    let c = case("vit");
    let plan = c.plan("tome", Tower::Vision, &Params::new().set("r", 4)).unwrap();
    let reduced = c.reduced(&plan);
    for (layer, cut) in plan.cuts.iter().enumerate() {
        let k = reduced.get(Tower::Vision, layer, Site::K).unwrap();
        let [heads, n, e] = k.array.dims("keys").unwrap();
        let key = |i: usize| -> Vec<f64> {
            (0..e)
                .map(|c| (0..heads).map(|h| f64::from(k.array.row(h)[i * e + c])).sum::<f64>() / heads as f64)
                .collect()
        };
        let cosine = |i: usize, j: usize| {
            let (a, b) = (key(i), key(j));
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
            dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
        };
        // Row 0 is the class token: never merged, never a partner's source.
        let mut pairs: Vec<(f64, usize, usize)> = (2..n)
            .step_by(2)
            .map(|i| {
                let best =
                    (1..n).step_by(2).max_by(|&a, &b| cosine(i, a).total_cmp(&cosine(i, b)).then(b.cmp(&a))).unwrap();
                (cosine(i, best), i, best)
            })
            .collect();
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut want: Vec<(usize, usize)> = pairs[..4].iter().map(|p| (p.1, p.2)).collect();
        want.sort_unstable();
        let mut got: Vec<(usize, usize)> = Vec::new();
        for group in cut.regroup.groups.iter().filter(|g| g.len() > 1) {
            let odd = group.iter().find(|m| m.0 % 2 == 1).unwrap().0;
            got.extend(group.iter().filter(|m| m.0 % 2 == 0).map(|m| (m.0, odd)));
        }
        got.sort_unstable();
        assert_eq!(got, want, "layer {layer}");
    }
    assert!(plan.proportional_attention);
    let flat = c.plan("tome", Tower::Vision, &Params::new().set("r", 4).set("proportional", false)).unwrap();
    let after = |plan: &Plan| c.reduced(plan).get(Tower::Vision, 1, Site::ResidMid).unwrap().array.clone();
    assert_ne!(after(&flat), after(&plan), "counting sizes in attention does nothing");
}

#[test]
fn merged_image_features_shorten_the_language_model() {
    for name in ["llava", "smolvlm"] {
        let c = case(name);
        let n = c.trace.tower(Tower::Text).unwrap().tokens.len();
        let mut before = n;
        for steps in [1, 2] {
            let plan = c.plan("tome", Tower::Text, &Params::new().set("r", 3).set("steps", steps)).unwrap();
            let rows = c.reduced(&plan).get(Tower::Text, 0, Site::ResidPre).unwrap().rows.len();
            assert_eq!(rows, before - 3, "{name}, {steps} steps");
            before = rows;
            let merged = plan.outcome().unwrap().fates.iter().filter(|f| matches!(f, Fate::Merged(_))).count();
            assert!(merged > 3, "{name}");
        }
    }
}

#[test]
fn what_a_run_lacks_is_said() {
    let c = case("smolvlm");
    let error = c.plan("fastervlm", Tower::Text, &Params::new()).unwrap_err().to_string();
    assert!(error.contains("class token"), "{error}");
    let error = c.plan("uniform", Tower::Vision, &Params::new()).unwrap_err().to_string();
    assert!(error.contains("tiles"), "{error}");
    let text = case("gpt2");
    for method in ["fastervlm", "divprune", "tome"] {
        let error = text.plan(method, Tower::Text, &Params::new()).unwrap_err().to_string();
        assert!(error.contains("image"), "{method}: {error}");
    }
    let error = text.plan("uniform", Tower::Text, &Params::new().set("layer", 99)).unwrap_err().to_string();
    assert!(error.contains("there is no layer 99"), "{error}");
}

#[test]
fn no_method_ignores_a_parameter() {
    let c = case("vit");
    let llava = case("llava");
    for method in ALL {
        let info = method.info();
        for p in info.params {
            // `steps` acts between encoder and language model only.
            let (c, tower) = if p.key == "steps" { (&llava, Tower::Text) } else { (&c, Tower::Vision) };
            let base = c.plan(info.id, tower, &Params::new()).unwrap();
            let values: Vec<Setting> = match p.default() {
                Setting::Toggle(b) => vec![(!b).into()],
                Setting::Number(_) => vec![0.2.into(), 0.8.into()],
                Setting::Layer(_) => vec![LayerPick::At(0).into(), LayerPick::At(1).into(), LayerPick::At(-1).into()],
                _ => [0i64, 1, 2, 3, 4, 7].map(Setting::from).to_vec(),
            };
            let changed = values.iter().any(|v| {
                c.plan(info.id, tower, &Params::new().set(p.key, v.clone())).is_ok_and(|plan| {
                    plan.cuts != base.cuts
                        || plan.scores.iter().map(|s| s.to_bits()).ne(base.scores.iter().map(|s| s.to_bits()))
                })
            });
            assert!(changed, "{}: {} changes nothing", info.id, p.key);
        }
    }
}
