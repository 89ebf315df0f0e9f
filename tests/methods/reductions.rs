//! Reductions are really carried out: counts, sizes, weighted means, and parameters that matter.

use candle_core::{Device, Tensor};
use std::path::Path;
use std::time::Duration;
use tokenscope_analysis::image::{Picture, Processor};
use tokenscope_analysis::method::{Domain, LayerPick, Params, Setting};
use tokenscope_analysis::model::{Model, load};
use tokenscope_analysis::reduce::{self, Fate, Half, Judgement, Place, Plan, Runner, Step, all, find};
use tokenscope_analysis::run::{RunRequest, run, run_with};
use tokenscope_analysis::score;
use tokenscope_analysis::tokenize::Tokenizer;
use tokenscope_analysis::trace::{At, Attending, CaptureSpec, KeySet, Positions, Regroup, Site, Tap, Tower, Trace};
use tokenscope_analysis::weights::Weights;
use tokenscope_analysis::{Ctx, Subject};
use tokenscope_tests::{golden, root};

pub(super) struct Case {
    pub model: Box<dyn Model>,
    pub tokenizer: Option<Tokenizer>,
    pub request: RunRequest,
    pub trace: Trace,
}

pub(super) fn case(name: &str) -> Case {
    case_of(&golden().join("models").join(name), &golden().join("models").join(name).join("image.png"))
}

/// The sample that answers questions about pictures: four layers in each stack, 144 patches.
pub(super) fn sample() -> Case {
    case_of(&root().join("sample_data/models/sample-vlm"), &golden().join("models/llava/image.png"))
}

fn case_of(dir: &Path, picture: &Path) -> Case {
    let model = load(dir, &Device::Cpu).unwrap();
    let tokenizer = dir.join("tokenizer.json").exists().then(|| Tokenizer::load(dir).unwrap());
    let mut request = RunRequest::default();
    if tokenizer.is_some() {
        request.prompt = Some("Where is the train?".into());
    }
    if let Some(processor) = Processor::load(&Weights::open(dir).unwrap()).unwrap() {
        request.add_picture(&processor, &Picture::open(picture).unwrap()).unwrap();
    }
    let spec = CaptureSpec::views();
    let trace = run(model.as_ref(), tokenizer.as_ref(), &request, &spec, &Ctx::default()).unwrap();
    Case { model, tokenizer, request, trace }
}

impl Case {
    pub(super) fn on(&self, tower: Tower) -> Subject<'_> {
        Subject::new(&self.trace).with_model(self.model.as_ref()).of(tower)
    }

    pub(super) fn plan(&self, method: &str, tower: Tower, params: &Params) -> tokenscope_analysis::Result<Plan> {
        let plan = reduce::plan(find(method).unwrap(), &self.on(tower), params, &Ctx::default())?;
        plan.check()?;
        Ok(plan)
    }

    /// A run with the plan carried out, whose tap is watched.
    fn watched(&self, plan: &Plan, tower: Tower, request: &RunRequest) -> (Trace, Watch<'_>) {
        let on = self.on(tower);
        let plan = Box::leak(Box::new(plan.clone()));
        let inner = Runner::new(&on, vec![Box::new(plan.again())], &Ctx::default()).unwrap();
        let mut tap = Watch { inner, positions: Vec::new(), keys: Vec::new() };
        let spec = CaptureSpec::views();
        let trace =
            run_with(self.model.as_ref(), self.tokenizer.as_ref(), request, &spec, &mut tap, &Ctx::default()).unwrap();
        (trace, tap)
    }

    pub(super) fn reduced(&self, plan: &Plan) -> Trace {
        self.watched(plan, self.trace.main_tower(), &self.request).0
    }

    pub(super) fn judged(&self, plan: &Plan, tower: Tower) -> Judgement {
        let on = self.on(tower);
        let full = reduce::full(&on, &|| Duration::ZERO, &Ctx::default()).unwrap();
        reduce::judge(&full, &on, vec![Box::new(plan.again())], &|| Duration::ZERO, &Ctx::default()).unwrap().1
    }
}

/// Notes where rows of the language model stand and how many keys each layer reads, by pass.
struct Watch<'a> {
    inner: Runner<'a>,
    /// Step, layer, positions.
    positions: Vec<(usize, usize, Vec<usize>)>,
    /// Step, layer, number of keys.
    keys: Vec<(usize, usize, usize)>,
}

impl Tap for Watch<'_> {
    fn wants(&self, at: &At) -> bool {
        self.inner.wants(at)
    }
    fn pass(&mut self, at: &At, x: Tensor) -> tokenscope_analysis::Result<Tensor> {
        self.inner.pass(at, x)
    }
    fn regroup(&mut self, at: &At, x: &Tensor) -> tokenscope_analysis::Result<Option<Regroup>> {
        self.inner.regroup(at, x)
    }
    fn keys(&mut self, at: &At, seen: &Attending) -> tokenscope_analysis::Result<Option<KeySet>> {
        let keys = self.inner.keys(at, seen)?;
        if at.tower == Tower::Text {
            self.positions.push((at.step, at.layer, at.rows.positions.clone()));
            self.keys.push((at.step, at.layer, keys.as_ref().map_or(seen.n_keys(), |k| k.of(0, 1).len())));
        }
        Ok(keys)
    }
    fn proportional_attention(&self) -> bool {
        self.inner.proportional_attention()
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
            let j = c.judged(&plan, tower);
            assert!(j.kl.unwrap() < 1e-10, "{name} {method}: {:?}", j.kl);
            assert_eq!((j.top1_same, j.flops_share), (Some(true), 1.0), "{name} {method}");
        }
    }
    let c = case("dinov2");
    let plan = c.plan("tome", Tower::Vision, &Params::new().set("r", 0)).unwrap();
    let j = c.judged(&plan, Tower::Vision);
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
    let [step] = plan.steps.as_slice() else { panic!("{} steps", plan.steps.len()) };
    assert_eq!(step.scores.len(), scores.len());
    assert!(step.scores.iter().zip(&scores).all(|(a, b)| (a.1 - b).abs() < 1e-6));
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let first = c.trace.tower(Tower::Text).unwrap().grids[0].first;
    let kept: Vec<usize> = step.rows.iter().map(|g| g[0].0 - first).collect();
    let mut best = order[..kept.len()].to_vec();
    best.sort_unstable();
    assert_eq!((step.place, kept), (Place::Features, best));
    let other = c.plan("fastervlm", Tower::Text, &params.set("attention_layer", 0)).unwrap();
    assert_ne!(other.steps[0].scores, step.scores, "the layer does nothing");
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
                let step = &plan.steps[layer];
                assert_eq!(step.place, Place::Encoder(layer, Half::Mid));
                let regroup = step.on(&mid.rows, &Default::default()).unwrap();
                for (i, group) in regroup.groups.iter().enumerate() {
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
    for (layer, step) in plan.steps.iter().enumerate() {
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
        let regroup = step.on(&k.rows, &Default::default()).unwrap();
        for group in regroup.groups.iter().filter(|g| g.len() > 1) {
            let odd = group.iter().find(|m| m.0 % 2 == 1).unwrap().0;
            got.extend(group.iter().filter(|m| m.0 % 2 == 0).map(|m| (m.0, odd)));
        }
        got.sort_unstable();
        assert_eq!(got, want, "layer {layer}");
    }
    assert!(plan.proportional);
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
            let fates = plan.fates(Tower::Text).pop().unwrap();
            let merged = fates.iter().filter(|f| matches!(f, Fate::Merged(_))).count();
            assert!(merged > 3, "{name}");
        }
    }
}

#[test]
fn what_a_run_lacks_is_said() {
    let c = case("smolvlm");
    let error = c.plan("fastervlm", Tower::Text, &Params::new()).unwrap_err().to_string();
    assert!(error.contains("class token"), "{error}");
    let error = c.plan("mustdrop", Tower::Text, &Params::new()).unwrap_err().to_string();
    assert!(error.contains("class token"), "{error}");
    let error = c.plan("uniform", Tower::Vision, &Params::new()).unwrap_err().to_string();
    assert!(error.contains("tiles"), "{error}");
    let text = case("gpt2");
    for method in all().map(|m| m.info().id).filter(|id| !["random", "uniform"].contains(id)) {
        let error = text.plan(method, Tower::Text, &Params::new()).unwrap_err().to_string();
        assert!(error.contains("image"), "{method}: {error}");
    }
    let error = text.plan("uniform", Tower::Text, &Params::new().set("layer", 99)).unwrap_err().to_string();
    assert!(error.contains("there is no layer 99"), "{error}");
}

#[test]
fn no_method_ignores_a_parameter() {
    let (vit, llava, vlm, tiled) = (case("vit"), case("llava"), sample(), case("smolvlm"));
    let mut ignored = Vec::new();
    for method in all() {
        let info = method.info();
        for p in info.params {
            // Ranges and places are the same in the small grids of the fixtures; its own test tells them apart.
            if (info.id, p.key) == ("hired", "split") {
                continue;
            }
            // Some act in an encoder, some between it and a language model, some need layers, many patches, or crops.
            let places = [(&vit, Tower::Vision), (&llava, Tower::Text), (&vlm, Tower::Text), (&tiled, Tower::Text)];
            // Settings with which something happens.
            let busy = match (info.id, p.key) {
                ("mustdrop", _) => Params::new().set("threshold", 1.0),
                ("prumerge", "keep") => Params::new().set("adaptive", false),
                ("prumerge", "plus" | "neighbours") => Params::new().set("keep", 0.25),
                ("angelslim_ports", "layer") => Params::new().set("algorithm", "DART"),
                ("dart", "order") => Params::new().set("image_pivots", 8).set("keep", 0.6),
                ("idpruner", "at_once") => Params::new().set("lambda", 0.1),
                ("todre", "tau") => Params::new().set("depth", 0.5),
                ("todre", "depth") => Params::new().set("tau", 1.0),
                ("vqtoken", "adaptive") => Params::new().set("keep", 0.4),
                ("dtop", "depths" | "keep_per_class") => Params::new().set("thresh", 0.0),
                ("atp_llava", "depths" | "theta_s" | "r_s") => Params::new().set("theta_r", 50.0),
                ("urag_pages", "depth") => Params::new().set("remain", 1),
                ("lavit_selector", "seed") => Params::new().set("noise", true),
                ("dymu", "proportional") => Params::new().set("threshold", 0.2),
                ("drawn_schedule", "proportional") => Params::new().set("schedule", Setting::Text("1~50%".into())),
                ("drawn_schedule", "seed") => Params::new().set("order", "random"),
                _ => Params::new(),
            };
            let values: Vec<Setting> = match p.default() {
                Setting::Toggle(b) => vec![(!b).into()],
                Setting::Number(_) => [0.0, 0.05, 0.2, 0.6, 0.8, 1.0, 2.0, 5.0].map(Setting::from).to_vec(),
                Setting::Layer(_) => vec![LayerPick::At(0).into(), LayerPick::At(1).into(), LayerPick::At(-1).into()],
                Setting::List(list) => vec![vec![0.9; list.len()].into(), vec![0.3; list.len()].into()],
                Setting::Text(_) => match p.domain {
                    Domain::Text { presets } => presets.iter().map(|q| Setting::Text(q.1.into())).collect(),
                    _ => Vec::new(),
                },
                Setting::Word(_) => match p.domain {
                    Domain::Choice { options } => options.iter().map(|o| Setting::from(*o)).collect(),
                    _ => Vec::new(),
                },
                _ => [0i64, 1, 2, 3, 4, 7].map(Setting::from).to_vec(),
            };
            let bits = |plan: &Plan| -> Vec<(usize, u32)> {
                plan.steps.iter().flat_map(|s| s.scores.iter().map(|s| (s.0, s.1.to_bits()))).collect()
            };
            let bare = |p: &Plan| p.steps.iter().map(|s| Step { scores: vec![], ..s.clone() }).collect::<Vec<_>>();
            let changed = places.iter().any(|&(c, tower)| {
                let Ok(base) = c.plan(info.id, tower, &busy) else { return false };
                let same =
                    |a: &Plan| bare(a) == bare(&base) && bits(a) == bits(&base) && a.proportional == base.proportional;
                let other = |v: &Setting| c.plan(info.id, tower, &busy.clone().set(p.key, v.clone()));
                values.iter().any(|v| other(v).is_ok_and(|plan| !same(&plan)))
            });
            if !changed {
                ignored.push(format!("{}: {} changes nothing", info.id, p.key));
            }
        }
    }
    assert!(ignored.is_empty(), "{ignored:#?}");
}

/// Methods that leave exactly the share of the image's features that they are asked for.
const EXACT: &[&str] =
    &["scope", "vispruner", "visionzip", "idpruner", "todre", "textmonkey", "zoo_prune", "angelslim_ports", "hiprune"];

#[test]
fn features_are_cut_to_the_share_wherever_the_model_lets_them() {
    // A projector that reads patches one by one behind a class token, and one that reads four at once without.
    for name in ["llava", "smolvlm"] {
        let c = case(name);
        let text = c.trace.tower(Tower::Text).unwrap();
        let image: Vec<usize> = (0..text.tokens.len())
            .filter(|&i| text.tokens[i].kind == tokenscope_analysis::token::TokenKind::Image)
            .collect();
        for &method in EXACT {
            let params = Params::new().set("keep", 0.5);
            let params = if method == "hiprune" { params.set("alpha", 0.0) } else { params };
            let params = if method == "todre" { params.set("tau", 0.0) } else { params };
            let plan = match c.plan(method, Tower::Text, &params) {
                Ok(plan) => plan,
                Err(e) if method == "zoo_prune" && name == "smolvlm" => {
                    assert!(e.to_string().contains("one by one"), "{e}");
                    continue;
                }
                Err(e) => panic!("{name} {method}: {e}"),
            };
            let want = if method == "hiprune" {
                text.grids.iter().map(|g| (0.5 * (g.rows * g.cols) as f64).round_ties_even() as usize).sum()
            } else {
                (0.5 * image.len() as f64).round_ties_even() as usize
            };
            let rows = &c.reduced(&plan).get(Tower::Text, 0, Site::ResidPre).unwrap().rows.clone();
            assert_eq!(rows.len(), text.tokens.len() - image.len() + want, "{name} {method}");
        }
    }
}

#[test]
fn a_budget_that_leaves_more_the_higher_it_is_is_found_too() {
    let c = sample();
    let on = c.on(Tower::Text);
    for method in ["pitome", "dymu"].map(|m| find(m).unwrap()) {
        let params = reduce::budget::at_share(method, &on, &Params::new(), 0.75, &Ctx::default()).unwrap();
        let plan = reduce::plan(method, &on, &params, &Ctx::default()).unwrap();
        let kept = reduce::budget::kept(&on, &plan).unwrap();
        assert!((kept - 0.75).abs() < 0.03, "{}: {kept}", method.info().id);
    }
}

#[test]
fn patches_are_merged_before_the_projector_that_reads_them_one_by_one() {
    let c = case("llava");
    for method in ["visionzip", "prumerge", "fourier_vlm", "tokenpacker"] {
        let plan = c.plan(method, Tower::Text, &Params::new()).unwrap();
        let first = &plan.steps[0];
        assert!(matches!(first.place, Place::Encoder(..)), "{method} acts {}", first.place);
        // The language model is given what the projector makes of the sums.
        let layer = first.place.layer().unwrap();
        let full = c.trace.get(Tower::Vision, layer, Site::ResidPost).unwrap();
        let reduced = c.reduced(&plan);
        let next = reduced.get(Tower::Vision, layer + 1, Site::ResidPre).unwrap();
        for (i, row) in first.rows.iter().enumerate() {
            let parts = row.iter().chain(first.lent.get(i).into_iter().flatten());
            let mut want = vec![0f64; full.array.shape()[1]];
            parts.for_each(|(t, w)| want.iter_mut().zip(full.array.row(*t)).for_each(|(s, v)| *s += w * f64::from(*v)));
            let close =
                next.array.row(i).iter().zip(&want).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-4 * (1.0 + b.abs()));
            assert!(close, "{method}: row {i}");
        }
    }
}

#[test]
fn a_recorded_plan_does_what_the_method_did() {
    let (vit, vlm) = (case("vit"), sample());
    for method in all() {
        for (c, tower) in [(&vit, Tower::Vision), (&vlm, Tower::Text)] {
            let on = c.on(tower);
            if on.lacks(method.info()).is_some() {
                continue;
            }
            let Ok(decider) = method.start(&on, &Params::new()) else { continue };
            let (ctx, clock) = (Ctx::default(), || Duration::ZERO);
            let full = reduce::full(&on, &clock, &ctx).unwrap();
            let (plan, live) = reduce::judge(&full, &on, vec![decider], &clock, &ctx).unwrap();
            let (again, same) = reduce::judge(&full, &on, vec![Box::new(plan.again())], &clock, &ctx).unwrap();
            assert_eq!(again, plan, "{}", method.info().id);
            assert_eq!(same, live, "{}", method.info().id);
        }
    }
}

#[test]
fn a_cut_after_a_layer_and_one_inside_the_next_are_both_carried_out() {
    let c = case("gpt2");
    let n = c.trace.tower(Tower::Text).unwrap().tokens.len();
    let steps = vec![
        Step::keep(Place::Decoder(0, Half::After), &[], &[1]),
        Step::keep(Place::Decoder(1, Half::Mid), &[], &[2]),
    ];
    let plan = Plan::drawn([(Tower::Text, n)].into(), steps).unwrap();
    let trace = c.reduced(&plan);
    let rows = |site| trace.get(Tower::Text, 1, site).unwrap().rows.len();
    assert_eq!([Site::ResidPre, Site::ResidMid, Site::ResidPost].map(rows), [n - 1, n - 1, n - 2]);
    let gone = &trace.get(Tower::Text, 1, Site::ResidPost).unwrap().rows;
    assert_eq!((gone.row_of(1), gone.row_of(2), gone.row_of(3)), (None, None, Some(1)));
    assert_eq!(c.judged(&plan, Tower::Text).rows_by_layer[..2], [n, n - 1]);
}

/// Mean over heads of attention of the last queries from `first` on, of a layer of the full run.
fn text_attention(trace: &Trace, layer: usize, first: usize) -> Vec<f64> {
    let maps =
        tokenscope_analysis::passes::attention_map::head_mean(trace, Tower::Text, layer, &Ctx::default()).unwrap();
    let n = maps.shape()[0];
    (0..n).map(|k| (first..n).map(|q| f64::from(maps.row(q)[k])).sum::<f64>() / (n - first) as f64).collect()
}

#[test]
fn transprune_follows_its_schedule_inside_the_language_model() {
    let c = sample();
    let grid = &c.trace.tower(Tower::Text).unwrap().grids[0];
    let (first, n) = (grid.first, c.trace.tower(Tower::Text).unwrap().tokens.len());
    assert_eq!(grid.rows * grid.cols, 144);
    let plan = c.plan("transprune", Tower::Text, &Params::new()).unwrap();
    let places: Vec<Place> = plan.steps.iter().map(|s| s.place).collect();
    assert_eq!(places, [0, 1, 2].map(|l| Place::Decoder(l, Half::After)));
    let rows: Vec<usize> = plan.rows_by_layer(Tower::Text, 4).iter().map(|r| r.0).collect();
    assert_eq!(rows, [n, n - 144 + 126, n - 144 + 90, n - 144 + 18]);
    // The first stage by hand, from a full run: nothing was dropped before it.
    let spec = CaptureSpec::all();
    let full = run(c.model.as_ref(), c.tokenizer.as_ref(), &c.request, &spec, &Ctx::default()).unwrap();
    let turn = |x: Site, y: Site| -> Vec<f64> {
        let (x, y) = (&full.get(Tower::Text, 0, x).unwrap().array, &full.get(Tower::Text, 0, y).unwrap().array);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let of = |i: usize| {
            let (a, b) = (dot(x.row(i), x.row(i)).sqrt(), dot(y.row(i), y.row(i)).sqrt());
            (b / a, (1.0 - dot(x.row(i), y.row(i)) / (a * b)).exp())
        };
        let sum: f64 = (0..n).map(|i| of(i).1).sum();
        (0..n).map(|i| of(i).0 * of(i).1 / sum).collect()
    };
    let (a, m) = (turn(Site::AttnIn, Site::AttnOut), turn(Site::MlpIn, Site::MlpOut));
    let share = |v: Vec<f64>| {
        let sum: f64 = v.iter().sum();
        v.into_iter().map(|x| x / sum).collect::<Vec<f64>>()
    };
    let ttv = share((first..first + 144).map(|i| a[i] + m[i]).collect());
    let iga = share(text_attention(&full, 1, first + 144)[first..first + 144].to_vec());
    let score: Vec<f64> = ttv.iter().zip(iga).map(|(a, b)| a + b).collect();
    let recorded: Vec<f32> = plan.steps[0].scores.iter().map(|s| s.1).collect();
    assert_eq!(recorded.len(), 144);
    for (got, want) in recorded.iter().zip(&score) {
        assert!((f64::from(*got) - want).abs() < 1e-5, "{got} {want}");
    }
    let mut order: Vec<usize> = (0..144).collect();
    order.sort_by(|&a, &b| recorded[b].total_cmp(&recorded[a]).then(a.cmp(&b)));
    let mut gone: Vec<usize> = order[126..].iter().map(|i| first + i).collect();
    gone.sort_unstable();
    assert_eq!(plan.steps[0].gone, gone);
    // What is left reads on without gaps, and what is written stands right behind it in every layer.
    let request = RunRequest { greedy: 3, ..c.request.clone() };
    let (trace, watch) = c.watched(&plan, Tower::Text, &request);
    assert_eq!(trace.continuation.len(), 3);
    for (step, layer, positions) in watch.positions {
        let there = rows[layer];
        let want: Vec<usize> = if step == 0 { (0..there).collect() } else { vec![there + step - 1] };
        assert_eq!(positions, want, "pass {step}, layer {layer}");
    }
}

#[test]
fn mustdrop_is_one_plan_over_encoder_language_model_and_answer() {
    let c = sample();
    let params = Params::new().set("threshold", 1.0);
    let plan = c.plan("mustdrop", Tower::Text, &params).unwrap();
    let vision: Vec<Place> = plan.of(Tower::Vision).map(|s| s.place).collect();
    assert_eq!(vision, [Place::Encoder(0, Half::After), Place::Encoder(3, Half::Mid)]);
    let text: Vec<Place> = plan.of(Tower::Text).map(|s| s.place).collect();
    assert_eq!((text[0], text[text.len() - 1]), (Place::Features, Place::Step));
    // Merged windows of nine reach the language model as one row each.
    let windows = |s: &Step| s.rows.iter().filter(|r| r.len() == 9).count();
    let merged = windows(&plan.steps[0]);
    assert!(merged > 0 && merged < 16, "{merged}");
    assert_eq!(windows(&plan.steps[2]), merged);
    let first = c.trace.tower(Tower::Text).unwrap().grids[0].first;
    for row in plan.steps[0].rows.iter().filter(|r| r.len() == 9) {
        // The class token is token 0 of the encoder.
        let as_text: Vec<usize> = row.iter().map(|m| m.0 - 1 + first).collect();
        let has = |r: &Vec<(usize, f64)>| r.iter().map(|m| m.0).collect::<Vec<_>>() == as_text;
        assert!(plan.steps[2].rows.iter().any(has), "{as_text:?} is not one row of the text");
    }
    // The key set is 8% of what is left, and none of it goes.
    let scores = &plan.steps[1].scores;
    let rows = plan.steps[0].rows.len() - 1;
    let mut order: Vec<usize> = (0..144).collect();
    let score = |i: usize| scores.iter().find(|s| s.0 == i + 1).unwrap().1;
    order.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
    let least = (0.08 * rows as f64).ceil() as usize;
    let fates = plan.fates(Tower::Text);
    let end = fates.last().unwrap();
    assert!(order[..least].iter().all(|i| !matches!(end[first + i], Fate::Dropped(_))));
    assert!(end.iter().any(|f| matches!(f, Fate::Dropped(_))), "nothing was dropped in the language model");
    // Once the answer begins, layers from the first cut to the last read only what is left.
    let request = RunRequest { greedy: 3, ..c.request.clone() };
    let (_, watch) = c.watched(&plan, Tower::Text, &request);
    let step = plan.steps.last().unwrap();
    let (forget, left) = (step.forget.clone().unwrap(), step.rows.len());
    let rows: Vec<usize> = plan.rows_by_layer(Tower::Text, 4).iter().map(|r| r.0).collect();
    assert!(rows[0] > left);
    for (step, layer, keys) in watch.keys.iter().filter(|k| k.0 > 0) {
        let there = if forget.contains(layer) { left } else { rows[*layer] };
        assert_eq!(*keys, there + step, "pass {step}, layer {layer}");
        let position = &watch.positions.iter().find(|p| (p.0, p.1) == (*step, *layer)).unwrap().2;
        assert_eq!(position, &[there + step - 1], "pass {step}, layer {layer}");
    }
    let judged = c.judged(&plan, Tower::Text);
    assert!(judged.flops_share < 1.0);
    let per_row = judged.kv_bytes_by_layer[0] / if forget.contains(&0) { left } else { rows[0] };
    assert!(forget.clone().all(|l| judged.kv_bytes_by_layer[l] == left * per_row));
}

#[test]
fn plans_of_encoder_features_and_layers_are_carried_out_as_one() {
    let c = sample();
    let merge = Step { rows: vec![vec![(1, 0.5), (2, 0.5)]], ..Step::keep(Place::Encoder(1, Half::Mid), &[], &[]) };
    let tokens = c.plan("uniform", Tower::Text, &Params::new()).unwrap().tokens;
    let drawn = Plan::drawn(tokens, vec![merge]).unwrap();
    let kept = c.plan("uniform", Tower::Text, &Params::new().set("keep", 0.25)).unwrap();
    let first = c.trace.tower(Tower::Text).unwrap().grids[0].first;
    let image: Vec<usize> = (first..first + 144).collect();
    let out = Plan::drawn(kept.tokens.clone(), vec![Step::keep(Place::Decoder(2, Half::After), &[], &image)]).unwrap();
    let plan = drawn.then(kept).unwrap().then(out).unwrap();
    plan.check().unwrap();
    let judged = c.judged(&plan, Tower::Text);
    let n = c.trace.tower(Tower::Text).unwrap().tokens.len();
    assert_eq!(judged.rows_by_layer, [n - 108, n - 108, n - 108, n - 144]);
    assert_eq!(plan.left(Tower::Text, &image), 0);
    assert_eq!(plan.steps.last().unwrap().positions, Positions::Keep);
}
