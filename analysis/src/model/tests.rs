//! What taps can see and do, on a tiny seeded Llama with grouped heads.

use super::*;
use crate::array::Array;
use crate::run::{RunRequest, continue_greedily, estimate, run, run_with};
use crate::trace::{At, Attending, CaptureSpec, KeySet, NoTap, PerHead, Regroup, Site};
use candle_core::Var;
use serde_json::{Map, Value, json};

const LAYERS: usize = 3;
const HEADS: usize = 4;
const GROUPS: usize = 2;
const WIDTH: usize = 16;
const MIDDLE: usize = 24;
const VOCAB: usize = 23;

/// Seeded values that are small and spread.
fn values(n: usize, salt: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + salt * 104_729 + i * i % 31) % 997) as f32 / 1400.0 - 0.35).collect()
}

/// A Llama of three layers; four query heads share two key-value heads.
pub(crate) fn tiny() -> Box<dyn Model> {
    let config: Map<String, Value> = json!({"model_type": "llama", "architectures": ["LlamaForCausalLM"],
        "hidden_size": WIDTH, "num_attention_heads": HEADS, "num_key_value_heads": GROUPS,
        "num_hidden_layers": LAYERS, "intermediate_size": MIDDLE, "vocab_size": VOCAB,
        "tie_word_embeddings": false, "rms_norm_eps": 1e-5})
    .as_object()
    .unwrap()
    .clone();
    let kv = WIDTH / HEADS * GROUPS;
    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("model.embed_tokens.weight".into(), vec![VOCAB, WIDTH]),
        ("model.norm.weight".into(), vec![WIDTH]),
        ("lm_head.weight".into(), vec![VOCAB, WIDTH]),
    ];
    for i in 0..LAYERS {
        for (name, shape) in [
            ("input_layernorm", vec![WIDTH]),
            ("self_attn.q_proj", vec![WIDTH, WIDTH]),
            ("self_attn.k_proj", vec![kv, WIDTH]),
            ("self_attn.v_proj", vec![kv, WIDTH]),
            ("self_attn.o_proj", vec![WIDTH, WIDTH]),
            ("post_attention_layernorm", vec![WIDTH]),
            ("mlp.gate_proj", vec![MIDDLE, WIDTH]),
            ("mlp.up_proj", vec![MIDDLE, WIDTH]),
            ("mlp.down_proj", vec![WIDTH, MIDDLE]),
        ] {
            shapes.push((format!("model.layers.{i}.{name}.weight"), shape));
        }
    }
    let tensors: Vec<(String, Tensor)> = shapes
        .into_iter()
        .enumerate()
        .map(|(k, (name, shape))| {
            let mut x = values(shape.iter().product(), k);
            if shape.len() == 1 {
                x.iter_mut().for_each(|x| *x = 1.0 + *x / 2.0);
            }
            (name, Tensor::from_vec(x, shape, &Device::Cpu).unwrap())
        })
        .collect();
    from_weights(&Weights::from_tensors("tiny", config, tensors).unwrap(), &Device::Cpu).unwrap()
}

const IDS: [u32; 7] = [3, 1, 4, 15, 9, 2, 6];

fn flat(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn close(a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= tolerance, "value {i}: {a} and {b}");
    }
}

/// Logits `[n, vocab]` of a pass; by whole tensors where `tracked`.
fn logits(model: &dyn Model, tap: &mut dyn Tap, tracked: bool) -> Vec<f32> {
    let embeds = tracked.then(|| Var::from_tensor(&model.embed(&IDS).unwrap()).unwrap().as_tensor().clone());
    let mut input = Input { ids: IDS.to_vec(), embeds, ..Input::default() };
    flat(&model.forward(&mut input, tap, &Ctx::default()).unwrap().logits.unwrap())
}

fn everything(model: &dyn Model) -> crate::trace::Trace {
    let request = RunRequest { ids: Some(IDS.to_vec()), ..RunRequest::default() };
    run(model, None, &request, &CaptureSpec::all(), &Ctx::default()).unwrap()
}

/// Hands back other values at one site, or adds what it was given to them.
struct Change<F>(Site, F);

impl<F: FnMut(&At, &Tensor) -> Tensor> Tap for Change<F> {
    fn wants(&self, at: &At) -> bool {
        at.site == self.0
    }
    fn pass(&mut self, at: &At, x: Tensor) -> Result<Tensor> {
        Ok((self.1)(at, &x))
    }
}

/// What a run keeps goes into a file where memory has no room for it, and is the same; what the pass needs may not.
#[test]
fn what_a_run_keeps_is_in_a_file_where_memory_is_full() {
    let model = tiny();
    let request = RunRequest { ids: Some((0..1200).map(|i| i % 23).collect()), ..RunRequest::default() };
    let spec = CaptureSpec::all();
    let all = run(model.as_ref(), None, &request, &spec, &Ctx::default()).unwrap();
    let cost = estimate(model.as_ref(), 1200, &[], &LogitRows::All, &spec);
    // More than the pass needs, and less than it all.
    assert!(cost.peak_bytes < 80 << 20 && cost.bytes() > 80 << 20, "{cost:?}");
    let tight = Ctx::default().with_room(|| 80 << 20);
    let refused = run(model.as_ref(), None, &request, &spec, &tight).unwrap_err();
    assert!(matches!(refused, Error::Memory { .. }), "{refused}");
    let dir = tempfile::tempdir().unwrap();
    let tight = tight.spilling_to(dir.path());
    let kept = run(model.as_ref(), None, &request, &spec, &tight).unwrap();
    assert!(kept.arrays == all.arrays);
    assert_eq!((kept.size_bytes(), kept.memory_bytes()), (all.size_bytes(), 0));
    assert!(kept.notes[0].contains(&dir.path().display().to_string()), "{:?}", kept.notes);
    let none = Ctx::default().with_room(|| 1 << 10).spilling_to(dir.path());
    assert!(matches!(run(model.as_ref(), None, &request, &spec, &none), Err(Error::Memory { .. })));
    let gone = Ctx::default().with_room(|| 80 << 20).spilling_to(&dir.path().join("none"));
    let why = run(model.as_ref(), None, &request, &spec, &gone).unwrap_err().to_string();
    assert!(why.contains("TOKENSCOPE_SPILL"), "{why}");
}

#[test]
fn every_site_has_the_shape_that_the_table_and_the_estimate_say() {
    let model = tiny();
    let trace = everything(model.as_ref());
    let sizes = model.info().towers[&Tower::Text].sizes(IDS.len(), VOCAB);
    let mut seen: std::collections::BTreeSet<Site> = std::collections::BTreeSet::new();
    for (key, entry) in &trace.arrays {
        assert_eq!(entry.array.shape(), key.site.shape(&sizes), "{key:?}");
        seen.insert(key.site);
    }
    // A text model has no image features and this one no experts to choose from and no recurrence; what leaves one block
    // and enters the next is kept once.
    assert_eq!(seen.len(), Site::ALL.len() - 4);
    let cost = estimate(model.as_ref(), IDS.len(), &[], &LogitRows::All, &CaptureSpec::all());
    assert_eq!(cost.capture_bytes as usize, trace.size_bytes());
}

#[test]
fn looking_at_patterns_changes_nothing_and_shows_what_the_passes_compute() {
    let model = tiny();
    let trace = everything(model.as_ref());
    let own = trace.get(Tower::Text, LAYERS, Site::Logits).unwrap();
    assert_eq!(own.array.data(), logits(model.as_ref(), &mut NoTap, false));
    for layer in 0..LAYERS {
        let pattern = &trace.get(Tower::Text, layer, Site::Pattern).unwrap().array;
        for head in 0..HEADS {
            let map =
                crate::passes::attention_map::of_trace(&trace, Tower::Text, 0, layer, head, &Ctx::default()).unwrap();
            let n = IDS.len() * IDS.len();
            close(&pattern.data()[head * n..(head + 1) * n], map.data(), 1e-6);
        }
    }
}

#[test]
fn the_model_goes_on_with_the_pattern_that_a_tap_hands_back() {
    // Every query looks at itself alone: what heads say is their own value.
    let model = tiny();
    let eye = |_: &At, x: &Tensor| {
        let n = x.dim(1).unwrap();
        Tensor::eye(n, x.dtype(), x.device()).unwrap().broadcast_as(x.shape()).unwrap().contiguous().unwrap()
    };
    let request = RunRequest { ids: Some(IDS.to_vec()), ..RunRequest::default() };
    let mut tap = Change(Site::Pattern, eye);
    let trace = run_with(model.as_ref(), None, &request, &CaptureSpec::all(), &mut tap, &Ctx::default()).unwrap();
    for layer in 0..LAYERS {
        let z = &trace.get(Tower::Text, layer, Site::Z).unwrap().array;
        let v = &trace.get(Tower::Text, layer, Site::V).unwrap().array;
        let n = v.data().len() / GROUPS;
        for head in 0..HEADS {
            let own = head / (HEADS / GROUPS);
            close(&z.data()[head * n..(head + 1) * n], &v.data()[own * n..(own + 1) * n], 1e-6);
        }
    }
}

#[test]
fn a_logit_is_differentiated_by_the_pattern_of_every_layer_at_once() {
    let model = tiny();
    let mut zeros = Vec::new();
    let mut tap = Change(Site::Pattern, |_: &At, x: &Tensor| {
        let zero = Var::zeros(x.shape(), x.dtype(), x.device()).unwrap();
        let sum = (x + zero.as_tensor()).unwrap();
        zeros.push(zero);
        sum
    });
    let mut input = Input { ids: IDS.to_vec(), ..Input::default() };
    let out = model.forward(&mut input, &mut tap, &Ctx::default()).unwrap().logits.unwrap();
    let logit = |t: &Tensor| t.get(IDS.len() - 1).unwrap().get(5).unwrap();
    let grads = logit(&out).backward().unwrap();
    assert_eq!(zeros.len(), LAYERS);
    // Against the difference of two passes in which one share is a little larger and smaller.
    for (layer, head, query, key) in [(0, 0, 6, 2), (0, 3, 4, 4), (1, 1, 5, 0), (1, 2, 6, 6), (2, 0, 6, 3)] {
        let at = |by: f32| {
            let mut tap = Change(Site::Pattern, |at: &At, x: &Tensor| {
                let mut p = Array::from_tensor(x).unwrap();
                let n = IDS.len();
                if at.layer == layer {
                    p.data_mut()[(head * n + query) * n + key] += by;
                }
                Tensor::from_slice(p.data(), x.shape(), x.device()).unwrap()
            });
            let mut input = Input { ids: IDS.to_vec(), ..Input::default() };
            let out = model.forward(&mut input, &mut tap, &Ctx::default()).unwrap().logits.unwrap();
            logit(&out).to_scalar::<f32>().unwrap()
        };
        let slope = (at(0.02) - at(-0.02)) / 0.04;
        let got = grads.get(&zeros[layer]).unwrap().get(head).unwrap().get(query).unwrap().get(key).unwrap();
        let got = got.to_scalar::<f32>().unwrap();
        assert!((got - slope).abs() < 2e-3 * slope.abs().max(0.05), "layer {layer}: {got} and {slope}");
        assert!(got != 0.0);
    }
}

#[test]
fn what_parts_read_and_the_middle_of_the_mlp_are_sites() {
    let model = tiny();
    let trace = everything(model.as_ref());
    let stack = model.stack(Tower::Text).unwrap();
    for layer in 0..LAYERS {
        let get = |site| {
            let a = &trace.get(Tower::Text, layer, site).unwrap().array;
            Tensor::from_slice(a.data(), a.shape(), &Device::Cpu).unwrap()
        };
        let b = stack.layer(layer).unwrap();
        close(&flat(&get(Site::AttnIn)), &flat(&b.norm1.apply(&get(Site::ResidPre)).unwrap()), 0.0);
        close(&flat(&get(Site::MlpIn)), &flat(&b.norm2.apply(&get(Site::ResidMid)).unwrap()), 0.0);
        close(
            &flat(&get(Site::MlpOut)),
            &flat(&b.mlp.dense().unwrap().down.apply(&get(Site::MlpHidden)).unwrap()),
            1e-6,
        );
    }
    // A middle of zeros leaves the stream as it is.
    let mut none = Change(Site::MlpHidden, |_: &At, x: &Tensor| x.zeros_like().unwrap());
    let request = RunRequest { ids: Some(IDS.to_vec()), ..RunRequest::default() };
    let dark = run_with(model.as_ref(), None, &request, &CaptureSpec::all(), &mut none, &Ctx::default()).unwrap();
    let get = |site| dark.get(Tower::Text, 1, site).unwrap().array.data();
    assert_eq!(get(Site::ResidPost), get(Site::ResidMid));
}

/// Places of rows that are turned by their positions.
fn at(positions: &[usize]) -> blocks::Places<'_> {
    blocks::Places { positions, turns: &[] }
}

#[test]
fn queries_and_keys_of_the_next_layer_are_known_before_it_runs() {
    let model = tiny();
    let trace = everything(model.as_ref());
    let resid = &trace.get(Tower::Text, 0, Site::ResidPost).unwrap().array;
    let resid = Tensor::from_slice(resid.data(), resid.shape(), &Device::Cpu).unwrap();
    // Rows 5 and 2, in that order, at the positions that they have.
    let rows = resid.index_select(&Tensor::new(&[5u32, 2], &Device::Cpu).unwrap(), 0).unwrap();
    let (q, k) = model.queries_keys(Tower::Text, 1, &rows, at(&[5, 2])).unwrap();
    for (got, site, heads) in [(q, Site::Q, HEADS), (k, Site::K, GROUPS)] {
        let want = &trace.get(Tower::Text, 1, site).unwrap().array;
        let e = WIDTH / HEADS;
        for head in 0..heads {
            for (i, row) in [5, 2].into_iter().enumerate() {
                let from = (head * IDS.len() + row) * e;
                close(&flat(&got.get(head).unwrap().get(i).unwrap()), &want.data()[from..from + e], 1e-6);
            }
        }
    }
    assert!(model.queries_keys(Tower::Text, 1, &rows, at(&[5])).is_err());
    assert!(model.queries_keys(Tower::Vision, 1, &rows, at(&[5, 2])).is_err());
}

/// Regroups at some places, and notes how many rows each layer began with.
struct Regroups<'a>(&'a [(Site, usize, Regroup)], Vec<Vec<usize>>);

impl Tap for Regroups<'_> {
    fn wants(&self, at: &At) -> bool {
        at.site == Site::AttnIn
    }
    fn pass(&mut self, at: &At, x: Tensor) -> Result<Tensor> {
        self.1.push(at.rows.positions.clone());
        Ok(x)
    }
    fn regroup(&mut self, at: &At, _: &Tensor) -> Result<Option<Regroup>> {
        Ok(self.0.iter().find(|(site, layer, _)| (*site, *layer) == (at.site, at.layer)).map(|r| r.2.clone()))
    }
}

#[test]
fn rows_enter_late_and_leave_early() {
    let model = tiny();
    let n = IDS.len();
    // Rows 1 and 3 miss the first layer; row 2 leaves before the last one.
    let late = Regroup { aside: vec![1, 3], ..Regroup::keep(&[0, 2, 4, 5, 6]) };
    let back: Vec<usize> = vec![0, 5, 1, 6, 2, 3, 4];
    let early = Regroup { aside: vec![2], ..Regroup::keep(&[0, 1, 3, 4, 5, 6]) };
    let plan = [(Site::ResidPre, 0, late), (Site::ResidPost, 0, Regroup::keep(&back)), (Site::ResidPost, 1, early)];
    let mut tap = Regroups(&plan, Vec::new());
    let request = RunRequest { ids: Some(IDS.to_vec()), ..RunRequest::default() };
    let trace = run_with(model.as_ref(), None, &request, &CaptureSpec::all(), &mut tap, &Ctx::default()).unwrap();
    assert_eq!(tap.1, [vec![0, 2, 4, 5, 6], (0..n).collect(), vec![0, 1, 3, 4, 5, 6]]);
    let get = |layer, site| &trace.get(Tower::Text, layer, site).unwrap().array;
    // A late row enters as it was embedded, in its place.
    let embedded = model.embed(&IDS).unwrap();
    close(get(1, Site::ResidPre).row(3), &flat(&embedded.get(3).unwrap()), 0.0);
    // The row that left is read out as it was then.
    let at_exit = Tensor::from_slice(get(1, Site::ResidPost).row(2), (1, WIDTH), &Device::Cpu).unwrap();
    let logits = trace.get(Tower::Text, LAYERS, Site::Logits).unwrap();
    assert_eq!(logits.array.shape(), [n, VOCAB]);
    close(logits.array.row(2), &flat(&model.lens(&at_exit).unwrap()), 1e-5);
    assert_eq!(trace.get(Tower::Text, LAYERS, Site::Final).unwrap().rows.positions, (0..n).collect::<Vec<_>>());
}

#[test]
fn a_pass_ends_where_every_row_has_left() {
    let model = tiny();
    let all = Regroup { aside: (0..IDS.len()).collect(), ..Regroup::default() };
    for site in [Site::ResidPost, Site::ResidMid] {
        let plan = [(site, 0, all.clone())];
        let mut tap = Regroups(&plan, Vec::new());
        let got = logits(model.as_ref(), &mut tap, false);
        assert_eq!(tap.1.len(), 1, "later layers do not run");
        let trace = everything(model.as_ref());
        let left = &trace.get(Tower::Text, 0, site).unwrap().array;
        let left = Tensor::from_slice(left.data(), left.shape(), &Device::Cpu).unwrap();
        close(&got, &flat(&model.lens(&left).unwrap()), 1e-5);
    }
}

/// Lets heads read some keys, from a step on, and looks at rows of the pattern.
struct Reads {
    keys: KeySet,
    from: usize,
    rows: Vec<Array>,
}

impl Tap for Reads {
    fn keys(&mut self, at: &At, seen: &Attending) -> Result<Option<KeySet>> {
        self.rows.push(seen.rows(&[seen.positions.len() - 1])?);
        Ok((at.step >= self.from).then(|| self.keys.clone()))
    }
}

#[test]
fn keys_that_nobody_may_read_are_as_if_they_were_not_there() {
    let model = tiny();
    let keys = vec![0, 2, 3, 5, 6];
    let table: Vec<Vec<usize>> = (0..IDS.len()).map(|q| keys.iter().copied().filter(|&k| k <= q).collect()).collect();
    let mut input = Input { ids: IDS.to_vec(), mask: Some(Arc::new(table)), ..Input::default() };
    let want = flat(&model.forward(&mut input, &mut NoTap, &Ctx::default()).unwrap().logits.unwrap());
    for tracked in [false, true] {
        let mut tap = Reads { keys: PerHead::Same(keys.clone()), from: 0, rows: Vec::new() };
        close(&logits(model.as_ref(), &mut tap, tracked), &want, 1e-5);
    }
}

/// Key sets of different sizes for the two groups and for the four heads.
fn ragged() -> [KeySet; 2] {
    [
        PerHead::Each(vec![vec![0, 2, 3, 6], vec![0, 1, 5]]),
        PerHead::Each(vec![vec![0, 6], vec![0, 2, 3, 4, 5, 6], vec![0, 1], vec![0, 5, 6]]),
    ]
}

#[test]
fn every_head_reads_its_own_keys_on_every_path() {
    let model = tiny();
    for keys in ragged() {
        let request = RunRequest { ids: Some(IDS.to_vec()), ..RunRequest::default() };
        let mut tap = Reads { keys: keys.clone(), from: 0, rows: Vec::new() };
        let trace = run_with(model.as_ref(), None, &request, &CaptureSpec::all(), &mut tap, &Ctx::default()).unwrap();
        let n = IDS.len();
        for layer in 0..LAYERS {
            let get = |site| &trace.get(Tower::Text, layer, site).unwrap().array;
            let (q, k, v, z, p) = (get(Site::Q), get(Site::K), get(Site::V), get(Site::Z), get(Site::Pattern));
            let e = WIDTH / HEADS;
            let row = |a: &Array, head: usize, i: usize| a.data()[(head * n + i) * e..][..e].to_vec();
            for head in 0..HEADS {
                let own = head / (HEADS / GROUPS);
                for i in 0..n {
                    // The plain loop.
                    let seen: Vec<usize> = keys.of(head, HEADS).iter().copied().filter(|&j| j <= i).collect();
                    let score = |j: usize| {
                        let dot: f32 = row(q, head, i).iter().zip(row(k, own, j)).map(|(a, b)| a * b).sum();
                        (dot / (e as f32).sqrt()).exp()
                    };
                    let sum: f32 = seen.iter().map(|&j| score(j)).sum();
                    let mut want = vec![0f32; e];
                    for &j in &seen {
                        want.iter_mut().zip(row(v, own, j)).for_each(|(w, v)| *w += score(j) / sum * v);
                        assert!((p.data()[(head * n + i) * n + j] - score(j) / sum).abs() < 1e-5);
                    }
                    close(&row(z, head, i), &want, 1e-5);
                }
            }
        }
        // The maps that the passes compute from queries and keys know what was read.
        let map = crate::passes::attention_map::of_trace(&trace, Tower::Text, 0, 1, 2, &Ctx::default()).unwrap();
        let p = &trace.get(Tower::Text, 1, Site::Pattern).unwrap().array;
        close(map.data(), &p.data()[2 * n * n..3 * n * n], 1e-5);
        let fast = logits(model.as_ref(), &mut tap, false);
        close(&fast, &logits(model.as_ref(), &mut tap, true), 1e-5);
    }
}

/// The prompt in a cache.
fn prefill(model: &dyn Model, tap: &mut dyn Tap) -> KvCache {
    let mut cache = KvCache::default();
    let mut input = Input { ids: IDS.to_vec(), cache: Some(&mut cache), ..Input::default() };
    model.forward(&mut input, tap, &Ctx::default()).unwrap();
    cache
}

/// Logits of two further tokens; by whole tensors where `tracked`.
fn two_more(model: &dyn Model, cache: &KvCache, tap: &mut dyn Tap, tracked: bool) -> Vec<f32> {
    let mut cache = cache.clone();
    let ids = vec![8u32, 11];
    let embeds = tracked.then(|| Var::from_tensor(&model.embed(&ids).unwrap()).unwrap().as_tensor().clone());
    let mut input = Input { ids, embeds, cache: Some(&mut cache), step: 1, ..Input::default() };
    flat(&model.forward(&mut input, tap, &Ctx::default()).unwrap().logits.unwrap())
}

#[test]
fn rows_dropped_from_a_head_are_gone_and_their_memory_with_them() {
    let model = tiny();
    let full = prefill(model.as_ref(), &mut NoTap);
    let n = IDS.len();
    let [by_group, _] = ragged();
    // Reading a full cache under the same sets is the same as holding no more than them.
    let PerHead::Each(sets) = &by_group else { unreachable!() };
    let with_new = sets.iter().map(|s| s.iter().copied().chain([n, n + 1]).collect()).collect();
    let mut reads = Reads { keys: PerHead::Each(with_new), from: 1, rows: Vec::new() };
    let want = two_more(model.as_ref(), &full, &mut reads, false);
    let mut cache = full.clone();
    for layer in 0..LAYERS {
        cache.evict(layer, &by_group).unwrap();
    }
    assert_eq!(full.size_bytes(), (LAYERS * 2 * GROUPS * n * WIDTH / HEADS * 4) as u64);
    assert_eq!(cache.size_bytes(), (LAYERS * 2 * (4 + 3) * WIDTH / HEADS * 4) as u64);
    assert_eq!(cache.layers[1].positions(1, GROUPS), [0, 1, 5]);
    let mut looks = Reads { keys: PerHead::Same((0..9).collect()), from: 0, rows: Vec::new() };
    for tracked in [false, true] {
        close(&two_more(model.as_ref(), &cache, &mut NoTap, tracked), &want, 1e-5);
        close(&two_more(model.as_ref(), &cache, &mut looks, tracked), &want, 1e-5);
    }
    // The second group of heads sees three rows and the two new ones, and no sixth.
    let row = &looks.rows[0];
    assert_eq!(row.shape(), [HEADS, 1, 6]);
    let sixth: Vec<bool> = (0..HEADS).map(|head| row.data()[head * 6 + 5] > 0.0).collect();
    assert_eq!(sixth, [true, true, false, false]);
    // Looking at the pattern goes the same way.
    let mut same = Change(Site::Pattern, |_: &At, x: &Tensor| (x * 1.0).unwrap());
    close(&two_more(model.as_ref(), &cache, &mut same, false), &want, 1e-5);
    // Again, from what is held by each head; then the same of both.
    cache.evict(0, &PerHead::Each(vec![vec![3, 0], vec![1]])).unwrap();
    assert_eq!((cache.layers[0].positions(0, GROUPS), cache.layers[0].positions(1, GROUPS)), (&[6, 0][..], &[1][..]));
    cache.evict(0, &PerHead::Same(vec![0])).unwrap();
    assert_eq!(cache.layers[0].positions(0, GROUPS), [6]);
    assert!(cache.evict(0, &PerHead::Same(vec![1])).is_err());
    assert!(cache.evict(9, &PerHead::Same(vec![0])).is_err());
    assert!(cache.evict(1, &PerHead::Each(vec![vec![0]; 3])).is_err());
    assert!(cache.select(&[0]).is_err());
}

#[test]
fn rows_of_a_cache_are_numbered_anew() {
    let model = tiny();
    let mut cache = prefill(model.as_ref(), &mut NoTap);
    let kept = [0, 1, 5, 6];
    for layer in 0..LAYERS {
        cache.evict(layer, &PerHead::Same(kept.to_vec())).unwrap();
    }
    cache.renumber(model.as_ref()).unwrap();
    assert_eq!((cache.next_position, cache.layers[2].positions(0, GROUPS)), (4, &[0, 1, 2, 3][..]));
    // Keys of the first layer hang on token and position alone.
    let ids = kept.map(|i| IDS[i]).to_vec();
    let mut fresh = KvCache::default();
    let mut input = Input { ids, cache: Some(&mut fresh), ..Input::default() };
    model.forward(&mut input, &mut NoTap, &Ctx::default()).unwrap();
    close(&flat(&cache.layers[0].held[0].k), &flat(&fresh.layers[0].held[0].k), 1e-5);
    close(&flat(&cache.layers[0].held[0].v), &flat(&fresh.layers[0].held[0].v), 1e-6);
}

/// Notes the step of each pass and cuts the residual stream of the second one to nothing.
struct Steps(Vec<usize>);

impl Tap for Steps {
    fn wants(&self, at: &At) -> bool {
        at.site == Site::ResidPost && at.layer + 1 == LAYERS
    }
    fn pass(&mut self, at: &At, x: Tensor) -> Result<Tensor> {
        self.0.push(at.step);
        Ok(if at.step == 2 { x.zeros_like()? } else { x })
    }
}

#[test]
fn taps_act_while_a_text_is_written() {
    let model = tiny();
    let request = RunRequest { ids: Some(IDS.to_vec()), greedy: 4, ..RunRequest::default() };
    let mut spec = CaptureSpec::sites(&[Site::K, Site::ResidPost]);
    let plain = run(model.as_ref(), None, &request, &spec, &Ctx::default()).unwrap();
    assert!(plain.steps.is_empty());
    spec.steps = true;
    let mut tap = Steps(Vec::new());
    let trace = run_with(model.as_ref(), None, &request, &spec, &mut tap, &Ctx::default()).unwrap();
    assert_eq!(tap.0, [0, 1, 2, 3]);
    assert_eq!(trace.steps.len(), 3);
    let key = |layer, site| crate::trace::Key { tower: Tower::Text, tile: 0, layer, site };
    for (i, step) in trace.steps.iter().enumerate() {
        let e = &step[&key(0, Site::K)];
        assert_eq!((e.array.shape(), &e.rows.positions[..]), (&[GROUPS, 1, WIDTH / HEADS][..], &[IDS.len() + i][..]));
    }
    // A stream of zeros gives equal logits, of which the first is taken.
    assert_eq!(trace.steps[1][&key(LAYERS - 1, Site::ResidPost)].array.data(), [0.0; WIDTH]);
    assert_eq!(trace.continuation[2], 0);
    assert_eq!(trace.continuation[..2], plain.continuation[..2]);
}

#[test]
fn a_policy_takes_rows_away_between_steps() {
    let model = tiny();
    let mut cache = prefill(model.as_ref(), &mut NoTap);
    let first = Tensor::from_vec(vec![0f32; VOCAB], (1, VOCAB), &Device::Cpu).unwrap();
    let mut each =
        |_: usize, cache: &mut KvCache| (0..LAYERS).try_for_each(|l| cache.evict(l, &PerHead::Same(vec![0, 1])));
    let (ids, _) =
        continue_greedily(model.as_ref(), &mut cache, first, 3, &mut NoTap, &mut each, &Ctx::default()).unwrap();
    assert_eq!((ids.len(), cache.len(), cache.next_position), (3, 3, IDS.len() + 2));
    assert_eq!(cache.layers[0].positions(0, GROUPS), [0, 1, IDS.len() + 1]);
}
