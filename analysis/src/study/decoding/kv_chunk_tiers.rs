//! LeoAM's tiers: chunks of keys are judged by bounds, split where that may pay, and kept near or far.
//!
//! Source: Sun et al. 2025, "Breaking the Boundaries of Long-Context LLM Inference: Adaptive KV Management on a Single
//! Commodity GPU". Takes: keys and a query. Gives: chunks in memory of the GPU, of the CPU, and on disk, and the search for
//! them. Departs: bounds and tiers are the paper's; the rule that splits is ours.

use super::super::Method;
use crate::ctx::Ctx;
use crate::finding::{Class, Classes, Datum, Figure, Finding, Look, Measure, Tree, TreeNode, Unit};
use crate::math::largest;
use crate::method::{Basis, Info, Kind, LayerPick, Need, Paper, Param, Params};
use crate::raw::{Adapter, RawInput};
use crate::trace::Site;
use crate::{Error, Result, Subject};
use serde_json::{Value, json};

const LAYER: Param = Param::layer("layer", "Layer whose keys are looked at", LayerPick::At(-1));
const HEAD: Param = Param::count("head", "Head whose query asks; the last one where there are fewer", 0, 127, 0);
const CHUNK: Param = Param::count("chunk", "Keys of a chunk at first", 1, 256, 16);
const LEAST: Param = Param::count("c_min", "Chunks of so many are not split", 1, 64, 4);
const GPU: Param = Param::share("gpu", "Share of the keys that the GPU holds", 0.25);
const CPU: Param = Param::share("cpu", "Share that the CPU holds", 0.25);

static INFO: Info = Info {
    id: "kv_chunk_tiers",
    title: "Tiers of keys",
    summary: "Finds the chunks of keys that a query may need most by bounds, and puts the others farther away.",
    family: "routing and systems",
    basis: Basis::Text,
    paper: Some(Paper {
        title: "Breaking the Boundaries of Long-Context LLM Inference: Adaptive KV Management on a Single Commodity GPU",
        authors: "Sun et al.",
        year: 2025,
        arxiv: "",
    }),
    departs: "the rule that splits chunks is ours; the pipeline of disk, CPU and GPU is not modelled",
    needs: &[Need::Attention],
    params: &[LAYER, HEAD, CHUNK, LEAST, GPU, CPU],
    budget: Some(&GPU),
    raw: &[Adapter { name: "kv_chunk_tiers", run: raw }],
    ..Info::of(Kind::Study)
};

pub(super) struct KvTiers;

#[derive(Debug, Clone, Copy)]
struct Rules {
    chunk: usize,
    least: usize,
    gpu: usize,
    cpu: usize,
}

/// A chunk with the bounds of what a query finds in it.
#[derive(Debug, Clone, PartialEq)]
struct Chunk {
    start: usize,
    end: usize,
    parent: Option<usize>,
    upper: f64,
    lower: f64,
}

/// Chunks in order of their creation, and where they went, as indices.
struct Tiers {
    tree: Vec<Chunk>,
    loaded: Vec<usize>,
    cpu: Vec<usize>,
    disk: Vec<usize>,
    /// Share of the keys that are best for the query among those loaded, of as many.
    recall: f64,
}

fn chunk(keys: &[&[f32]], query: &[f32], start: usize, end: usize, parent: Option<usize>) -> Chunk {
    let (mut upper, mut lower) = (0.0, 0.0);
    for (i, q) in query.iter().enumerate() {
        let own = keys[start..end].iter().map(|k| f64::from(k[i]));
        let (a, b) = own.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), k| (a.min(k), b.max(k)));
        let (x, y) = (f64::from(*q) * a, f64::from(*q) * b);
        (upper, lower) = (upper + x.max(y), lower + x.min(y));
    }
    Chunk { start, end, parent, upper, lower }
}

fn tiers(keys: &[&[f32]], query: &[f32], rules: Rules, ctx: &Ctx) -> Result<Tiers> {
    let n = keys.len();
    let mut tree: Vec<Chunk> =
        (0..n).step_by(rules.chunk).map(|s| chunk(keys, query, s, n.min(s + rules.chunk), None)).collect();
    let (mut open, mut loaded, mut held): (Vec<usize>, Vec<usize>, usize) = ((0..tree.len()).collect(), Vec::new(), 0);
    let before = |tree: &[Chunk], a: usize, b: usize| {
        tree[b].upper.total_cmp(&tree[a].upper).then(tree[a].start.cmp(&tree[b].start))
    };
    while held < rules.gpu {
        ctx.check()?;
        open.sort_by(|&a, &b| before(&tree, a, b));
        let Some(&top) = open.first() else { break };
        let (c, size) = (tree[top].clone(), tree[top].end - tree[top].start);
        let others = open.get(1).map_or(f64::NEG_INFINITY, |&i| tree[i].upper);
        if size <= rules.least || c.lower >= others {
            if !loaded.is_empty() && held + size > rules.gpu {
                break;
            }
            held += size;
            loaded.push(top);
            open.remove(0);
        } else {
            let mid = c.start + size.div_ceil(2);
            open.remove(0);
            for (a, b) in [(c.start, mid), (mid, c.end)] {
                open.push(tree.len());
                tree.push(chunk(keys, query, a, b, Some(top)));
            }
        }
    }
    open.sort_by(|&a, &b| before(&tree, a, b));
    let (mut cpu, mut disk, mut room) = (Vec::new(), Vec::new(), rules.cpu);
    for i in open {
        let size = tree[i].end - tree[i].start;
        if size <= room {
            room -= size;
            cpu.push(i);
        } else {
            disk.push(i);
        }
    }
    let scores: Vec<f64> =
        keys.iter().map(|k| k.iter().zip(query).map(|(k, q)| f64::from(*k) * f64::from(*q)).sum()).collect();
    let mut near = vec![false; n];
    loaded.iter().for_each(|&i| near[tree[i].start..tree[i].end].fill(true));
    let best = largest(&scores, held);
    let recall = if held > 0 { best.iter().filter(|t| near[**t]).count() as f64 / held as f64 } else { 0.0 };
    Ok(Tiers { tree, loaded, cpu, disk, recall })
}

impl Method for KvTiers {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn find(&self, on: &Subject, params: &Params, ctx: &Ctx) -> Result<Finding> {
        super::show::ready(on, &INFO, params)?;
        let tower = on.tower()?;
        let layer = params.one_layer(&LAYER, tower.n_layers)?;
        let (k, q) = (on.trace.get(on.tower, layer, Site::K)?, on.trace.get(on.tower, layer, Site::Q)?);
        let ([groups, n, kw], [heads, _, qw]) = (k.array.dims("keys")?, q.array.dims("queries")?);
        if groups == 0 || heads == 0 || n == 0 || tower.tokens.len() != n {
            return Err(Error::invalid("the run was reduced, or has no keys; choose the full run"));
        }
        k.array.check_finite("keys")?;
        q.array.check_finite("queries")?;
        let at = on.explained(n)?;
        let head = (params.count(&HEAD) as usize).min(heads - 1);
        let (keys, queries) = (k.array.sub(head * groups / heads), q.array.sub(head));
        // A causal query finds what is before it; where a component holds a bias, keys have it too.
        let rows: Vec<&[f32]> = (0..=at).map(|i| &keys.row(i)[..kw.min(qw)]).collect();
        let query = &queries.row(at)[..kw.min(qw)];
        let share = |p| (params.share(p) * rows.len() as f64).round() as usize;
        let (gpu, cpu) = (share(&GPU).max(1), share(&CPU));
        let rules = Rules { chunk: params.count(&CHUNK) as usize, least: params.count(&LEAST) as usize, gpu, cpu };
        let t = tiers(&rows, query, rules, ctx)?;
        let tier = |i: usize| match i {
            i if t.loaded.contains(&i) => 0,
            i if t.cpu.contains(&i) => 1,
            i if t.disk.contains(&i) => 2,
            _ => 3,
        };
        let mut where_ = vec![None; n];
        for (i, c) in t.tree.iter().enumerate().filter(|(i, _)| tier(*i) < 3) {
            where_[c.start..c.end].fill(Some(tier(i)));
        }
        let states = || {
            vec![
                Class::new("GPU", "loaded, in order of its bound", Look::Good),
                Class::new("CPU", "next by its bound", Look::Category(1)),
                Class::new("disk", "the rest", Look::Quiet),
                Class::new("split", "opened into halves", Look::Plain),
            ]
        };
        let root =
            TreeNode { parent: None, label: "keys".into(), id: None, position: None, values: vec![None; 2], state: 3 };
        let node = |(i, c): (usize, &Chunk)| TreeNode {
            parent: Some(c.parent.map_or(0, |p| p + 1)),
            label: format!("{}–{}", c.start, c.end - 1),
            id: None,
            position: Some(c.start),
            values: vec![Some(c.upper as f32), Some(c.lower as f32)],
            state: tier(i),
        };
        let tree = Tree {
            title: "chunks".into(),
            nodes: [root].into_iter().chain(t.tree.iter().enumerate().map(node)).collect(),
            measures: vec![Measure::signed("upper bound", ""), Measure::signed("lower bound", "")],
            states: states(),
        };
        let held: usize = t.loaded.iter().map(|&i| t.tree[i].end - t.tree[i].start).sum();
        Ok(Finding::of(Classes::new("where keys are kept", Unit::Tokens(on.tower), states(), where_))
            .with(tree)
            .figure(Figure::new(
                "recall",
                Datum::Share(t.recall),
                "of the keys with the largest scores, as many as are loaded",
            ))
            .figure(Figure::new("loaded", Datum::Count(held), "keys in memory of the GPU"))
            .figure(Figure::new("bounds", Datum::Count(t.tree.len()), "chunks whose bounds were looked at")))
    }
}

/// Raw entry: `keys` `[n, width]`, `query` `[width]`, `chunk`, `c_min`, budgets `gpu`, `cpu`, bytes → tiers and the search.
fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let (keys, [n, width]) = input.finite("keys")?;
    let (query, [w]) = input.finite("query")?;
    let rules = Rules {
        chunk: input.within("chunk", 1..=1 << 24)?,
        least: input.within("c_min", 1..=1 << 24)?,
        gpu: input.read("gpu")?,
        cpu: input.read("cpu")?,
    };
    let (token, abstract_) = (input.within("bytes_token", 0..=1 << 30)?, input.within("bytes_abstract", 0..=1 << 30)?);
    if w != width {
        return Err(Error::shape("query", "[width of keys]", query.shape()));
    }
    let rows: Vec<&[f32]> = (0..n).map(|i| keys.row(i)).collect();
    let t = tiers(&rows, query.data(), rules, ctx)?;
    let spans = |of: &[usize]| of.iter().map(|&i| [t.tree[i].start, t.tree[i].end]).collect::<Vec<_>>();
    let held: usize = t.loaded.iter().map(|&i| t.tree[i].end - t.tree[i].start).sum();
    let node = |c: &Chunk| json!([c.start, c.end, c.parent, c.upper, c.lower]);
    Ok(json!({
        "loaded": spans(&t.loaded),
        "cpu": spans(&t.cpu),
        "disk": spans(&t.disk),
        "evaluated": t.tree.len(),
        "bytes": held * token + t.tree.len() * abstract_,
        "recall": t.recall,
        "tree": t.tree.iter().map(node).collect::<Vec<_>>(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_half_is_found_by_splitting() {
        let keys = [[0.0f32], [9.0], [1.0], [1.0], [2.0]];
        let rows: Vec<&[f32]> = keys.iter().map(|k| &k[..]).collect();
        let rules = Rules { chunk: 4, least: 1, gpu: 1, cpu: 2 };
        let t = tiers(&rows, &[1.0], rules, &Ctx::default()).unwrap();
        // 0–3 has the bound 9 and is split, then 0–1; key 1 is certain to be the best.
        let spans = |of: &[usize]| of.iter().map(|&i| (t.tree[i].start, t.tree[i].end)).collect::<Vec<_>>();
        assert_eq!(
            (spans(&t.loaded), spans(&t.cpu), spans(&t.disk)),
            (vec![(1, 2)], vec![(4, 5), (0, 1)], vec![(2, 4)])
        );
        assert_eq!(t.recall, 1.0);
    }
}
