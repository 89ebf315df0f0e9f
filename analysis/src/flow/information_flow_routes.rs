//! Information-flow routes: how much each part contributes to what it is added into, by L1 proximity.
//!
//! Source: Ferrando & Voita 2024, "Information Flow Routes: Automatically Interpreting Language Models at Scale",
//! arXiv 2403.00824. Takes: per-head attention contributions, MLP outputs, residual streams. Gives: edges.
//! Departs: feed-forward pairs are renormalised per position, as documented, not over all as the released code does.
//! Cost: O(layers · n² · heads · width).

use super::{Edge, FlowGraph, FlowInput, Method, Node, Part};
use crate::array::Array;
use crate::ctx::Ctx;
use crate::method::{Info, Kind, Need, Paper, Param, Params};
use crate::passes::attention_map;
use crate::raw::{Adapter, RawInput};
use crate::trace::Site;
use crate::{Error, Result};
use candle_core::Tensor;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const TAU: Param = Param::Number {
    key: "renormalize",
    doc: "Contributions up to this are zeroed and the rest renormalised",
    min: 0.0,
    max: 1.0,
    default: 0.0,
};

static INFO: Info = Info {
    id: "information_flow_routes",
    title: "Information-flow routes",
    summary: "Weighs every edge of the layer-by-token lattice by how much it contributes.",
    kind: Kind::Flow,
    paper: Some(Paper {
        title: "Information Flow Routes: Automatically Interpreting Language Models at Scale",
        authors: "Ferrando, Voita",
        year: 2024,
        arxiv: "2403.00824",
    }),
    departs: "feed-forward pairs are renormalised per position, as documented; biases of values and output are left out of the parts",
    needs: &[Need::Attention, Need::Values, Need::Residual],
    params: &[TAU],
};

pub(super) struct InformationFlowRoutes;

/// The smallest contribution: parts farther away than the whole is long count as this.
const FLOOR: f64 = 1e-5;
/// torch's pairwise distance adds this to every coordinate difference.
const PAIRWISE_EPS: f64 = 1e-6;

/// `max(|whole|₁ − |part − whole|₁, 1e-5)`.
fn proximity(part: impl Iterator<Item = f64>, whole: &[f32]) -> f64 {
    let norm: f64 = whole.iter().map(|&w| f64::from(w).abs()).sum();
    let distance: f64 = part.zip(whole).map(|(p, &w)| (p - f64::from(w) + PAIRWISE_EPS).abs()).sum();
    (norm - distance).max(FLOOR)
}

/// Contributions at one layer: attention `[to][from][head]`, residual `[to]`, MLP `[to]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Contributions {
    /// Of each earlier token through each head.
    pub attn: Vec<Vec<Vec<f64>>>,
    /// Of the residual stream around the attention.
    pub resid: Vec<f64>,
    /// Of the MLP to the block's output; the residual has the rest.
    pub ffn: Vec<f64>,
    /// Of the residual stream around the MLP.
    pub ffn_resid: Vec<f64>,
}

/// `part(to, from, head)` gives the vectors that attention adds; the arrays are `[n, d]`.
fn contributions<P, I>(
    part: P,
    n: usize,
    heads: usize,
    resid_in: &Array,
    resid_mid: &Array,
    ffn: &Array,
    resid_out: &Array,
) -> Contributions
where
    P: Fn(usize, usize, usize) -> I,
    I: Iterator<Item = f64>,
{
    let wide = |a: &Array, i: usize| a.row(i).iter().map(|&x| f64::from(x)).collect::<Vec<_>>().into_iter();
    let mut out = Contributions { attn: Vec::new(), resid: Vec::new(), ffn: Vec::new(), ffn_resid: Vec::new() };
    for to in 0..n {
        let whole = resid_mid.row(to);
        let resid = proximity(wide(resid_in, to), whole);
        let mut c: Vec<Vec<f64>> =
            (0..n).map(|from| (0..heads).map(|h| proximity(part(to, from, h), whole)).collect()).collect();
        let sum = resid + c.iter().flatten().sum::<f64>();
        c.iter_mut().flatten().for_each(|x| *x /= sum);
        out.attn.push(c);
        out.resid.push(resid / sum);
        let whole = resid_out.row(to);
        let (f, r) = (proximity(wide(ffn, to), whole), proximity(wide(resid_mid, to), whole));
        out.ffn.push(f / (f + r));
        out.ffn_resid.push(r / (f + r));
    }
    out
}

impl Contributions {
    /// Contributions up to `tau` become zero, the rest is renormalised per token.
    pub fn thresholded(&self, tau: f64) -> Self {
        let cut = |x: f64| if x > tau { x } else { 0.0 };
        let share = |x: f64, sum: f64| if sum > 0.0 { x / sum } else { 0.0 };
        let mut out = self.clone();
        for to in 0..self.resid.len() {
            let resid = cut(self.resid[to]);
            let sum = resid + self.attn[to].iter().flatten().map(|&x| cut(x)).sum::<f64>();
            out.resid[to] = share(resid, sum);
            out.attn[to].iter_mut().flatten().for_each(|x| *x = share(cut(*x), sum));
            let (f, r) = (cut(self.ffn[to]), cut(self.ffn_resid[to]));
            out.ffn[to] = share(f, f + r);
            out.ffn_resid[to] = share(r, f + r);
        }
        out
    }

    fn edge(&self, to: usize, from: usize) -> f64 {
        let heads: f64 = self.attn[to][from].iter().sum();
        if to == from { heads + self.resid[to] } else { heads }
    }
}

impl Method for InformationFlowRoutes {
    fn info(&self) -> &'static Info {
        &INFO
    }

    fn graph(&self, input: &FlowInput, params: &Params, ctx: &Ctx) -> Result<FlowGraph> {
        INFO.check(params)?;
        let need = |what: &str| Error::Need { method: INFO.id.into(), need: what.into() };
        let model = input.model.ok_or_else(|| need("the model's weights"))?;
        let tower = input.trace.tower(input.tower)?;
        let n = tower.tokens.len();
        let tau = params.number(&TAU);
        let mut edges = Vec::new();
        for layer in 0..tower.n_layers {
            ctx.step(layer, tower.n_layers)?;
            let get = |site| input.trace.get(input.tower, layer, site);
            let (pre, mid, post, mlp) =
                (get(Site::ResidPre)?, get(Site::ResidMid)?, get(Site::ResidPost)?, get(Site::MlpOut)?);
            let v = get(Site::V)?;
            if v.rows.len() != n || mlp.rows.len() != n {
                return Err(Error::invalid("the run was reduced; choose the full run"));
            }
            let rule = &tower.attention[layer];
            let o = model.output_projection(input.tower, layer)?;
            let values = Tensor::from_slice(v.array.data(), v.array.shape().to_vec(), model.device())?;
            // Per head: the map and every token's value through the output projection, [n, d].
            let mut heads = Vec::new();
            for h in 0..rule.n_heads {
                let moved = values.get(h / (rule.n_heads / rule.n_kv_heads))?.matmul(&o.get(h)?)?;
                let map = attention_map::of_trace(input.trace, input.tower, 0, layer, h, ctx)?;
                heads.push((map, Array::from_tensor(&moved)?));
            }
            let part = |to: usize, from: usize, h: usize| {
                let (map, moved) = &heads[h];
                let a = f64::from(map.row(to)[from]);
                moved.row(from).iter().map(move |&x| a * f64::from(x)).collect::<Vec<_>>().into_iter()
            };
            let mut c = contributions(part, n, rule.n_heads, &pre.array, &mid.array, &mlp.array, &post.array);
            // What the mask hides is no edge, however small its floor.
            for to in 0..n {
                for from in 0..n {
                    if !rule.mask.allows(to, v.rows.positions[to], from, v.rows.positions[from]) {
                        c.attn[to][from].iter_mut().for_each(|x| *x = 0.0);
                    }
                }
            }
            push_edges(&mut edges, layer, &c.thresholded(tau));
        }
        edges.sort_by(|a: &Edge, b: &Edge| {
            b.weight.total_cmp(&a.weight).then(a.to.cmp(&b.to)).then(a.from.cmp(&b.from))
        });
        Ok(FlowGraph { n_layers: tower.n_layers, n_tokens: n, edges, unit: "share of what arrives" })
    }
}

fn push_edges(edges: &mut Vec<Edge>, layer: usize, c: &Contributions) {
    let level = layer as u32 + 1;
    for to in 0..c.resid.len() {
        let node = |level, part, token: usize| Node { level, part, token: token as u32 };
        let mut push = |from, to, weight: f64| {
            if weight > 0.0 {
                edges.push(Edge { from, to, weight: weight as f32 });
            }
        };
        let attn = node(level, Part::Attn, to);
        for from in 0..c.resid.len() {
            push(node(level - 1, Part::Resid, from), attn, c.edge(to, from));
        }
        let (mlp, out) = (node(level, Part::Mlp, to), node(level, Part::Resid, to));
        push(attn, mlp, c.ffn[to]);
        push(mlp, out, c.ffn[to]);
        push(attn, out, c.ffn_resid[to]);
    }
}

/// Raw entry: `decomposed_attn` `[layers, to, from, head, d]`, `ffn_out`, `resid_in`, `resid_mid`, `resid_out` `[layers, n, d]`.
pub(super) static ADAPTER: Adapter =
    Adapter { name: "information_flow_routes", methods: &["information_flow_routes"], run: raw };

type NamedEdge = (String, String, f64);

fn raw(input: &RawInput, ctx: &Ctx) -> Result<Value> {
    let attn = input.array("decomposed_attn")?;
    let [n_layers, n, m, heads, d] = attn.dims("decomposed_attn")?;
    let mut streams = Vec::new();
    for name in ["resid_in", "resid_mid", "ffn_out", "resid_out"] {
        let a = input.array(name)?;
        if a.shape() != [n_layers, n, d] || m != n {
            return Err(Error::shape(name, format!("[{n_layers}, {n}, {d}]"), a.shape()));
        }
        a.check_finite(name)?;
        streams.push(a);
    }
    attn.check_finite("decomposed_attn")?;
    let tau: f64 = input.read_or("threshold", 0.04)?;
    let mut layers = Vec::new();
    for l in 0..n_layers {
        ctx.step(l, n_layers)?;
        let block = attn.row(l);
        let part = |to: usize, from: usize, h: usize| {
            block[((to * n + from) * heads + h) * d..][..d]
                .iter()
                .map(|&x| f64::from(x))
                .collect::<Vec<_>>()
                .into_iter()
        };
        let [a, b, c, e] = [0, 1, 2, 3].map(|i: usize| streams[i].sub(l));
        layers.push(contributions(part, n, heads, &a, &b, &c, &e));
    }
    let cut: Vec<_> = layers.iter().map(|c| c.thresholded(tau)).collect();
    let (full, thresholded) = (named_edges(&layers), named_edges(&cut));
    let target = format!("I{}_{}", n_layers.saturating_sub(1), n.saturating_sub(1));
    Ok(json!({
        "paths_last_token": paths(&thresholded, &target, tau),
        "full": full,
        "thresholded": thresholded,
        "attn_contrib": layers.iter().map(|c| &c.attn).collect::<Vec<_>>(),
        "attn_resid": layers.iter().map(|c| &c.resid).collect::<Vec<_>>(),
        "ffn_contrib": layers.iter().map(|c| &c.ffn).collect::<Vec<_>>(),
    }))
}

/// Edges under the names of the authors' graph, zero ones too, sorted as text.
fn named_edges(layers: &[Contributions]) -> Vec<NamedEdge> {
    let mut out = Vec::new();
    for (l, c) in layers.iter().enumerate() {
        for to in 0..c.resid.len() {
            for from in 0..c.resid.len() {
                let source = if l == 0 { format!("X0_{from}") } else { format!("I{}_{from}", l - 1) };
                out.push((source, format!("A{l}_{to}"), c.edge(to, from)));
            }
            out.push((format!("A{l}_{to}"), format!("M{l}_{to}"), c.ffn[to]));
            out.push((format!("M{l}_{to}"), format!("I{l}_{to}"), c.ffn[to]));
            out.push((format!("A{l}_{to}"), format!("I{l}_{to}"), c.ffn_resid[to]));
        }
    }
    out.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    out
}

/// Edges with weight above `tau` from which `target` can be reached, sorted as text.
fn paths(edges: &[NamedEdge], target: &str, tau: f64) -> Vec<(String, String)> {
    let mut reached = BTreeSet::from([target.to_string()]);
    let mut stack = vec![target.to_string()];
    let mut out = BTreeSet::new();
    while let Some(node) = stack.pop() {
        for (from, to, _) in edges.iter().filter(|e| e.1 == node && e.2 > tau) {
            out.insert((from.clone(), to.clone()));
            if reached.insert(from.clone()) {
                stack.push(from.clone());
            }
        }
    }
    out.into_iter().collect()
}
