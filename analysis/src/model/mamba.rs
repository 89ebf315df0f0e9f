//! Mamba and Mamba 2: layers whose rows are mixed by a recurrence instead of attention. Gu & Dao 2023, arXiv 2312.00752;
//! Dao & Gu 2024, 2405.21060.
//!
//! Where attention maps are shown stands what the recurrence amounts to, a matrix of rows by rows (Ali et al. 2024,
//! 2403.01590): the size of its entries as shares of each row, for every head of Mamba 2, and of the mean over channels
//! of Mamba, each of which has a matrix of its own. Queries hold the logarithms of the shares and keys the identity, so
//! that their softmax is the matrix. The signed matrices themselves are [`Site::Mixing`].

use super::blocks::{Activation, Config, Defaults, Linear, Norm, Pass, Recurrence, Scope, Stack, Steps, look_up};
use super::cache::Recurrent;
use super::decoder::End;
use super::{Added, Input, LogitRows, Model, ModelInfo, Output, TowerInfo, TowerRun, Writes, embedded};
use crate::ctx::Ctx;
use crate::trace::{AttentionRule, MaskRule, Site, Tap, Tower};
use crate::weights::{Table, Weights};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};

const FIRST: Defaults = &[
    ("vocab_size", 50280.0),
    ("hidden_size", 768.0),
    ("state_size", 16.0),
    ("num_hidden_layers", 32.0),
    ("conv_kernel", 4.0),
];
const SECOND: Defaults = &[
    ("vocab_size", 32768.0),
    ("hidden_size", 4096.0),
    ("state_size", 128.0),
    ("num_hidden_layers", 64.0),
    ("conv_kernel", 4.0),
    ("num_heads", 128.0),
    ("head_dim", 64.0),
    ("n_groups", 8.0),
];

/// A share that is nothing.
const NOTHING: f32 = -100.0;

/// What the two versions do differently.
enum Kind {
    /// Steps and both vectors of a row are made of what the convolution gives.
    First { all: Linear, step: Linear, rank: usize },
    /// They come beside it, and a norm of groups of channels stands before the last map.
    Second { bias: Tensor, limit: (f64, f64), weight: Tensor, eps: f64, groups: usize },
}

struct Layer {
    norm: Norm,
    first: Linear,
    /// `[kernel, channels]`, and what is added.
    conv: (Tensor, Option<Tensor>),
    act: Activation,
    kind: Kind,
    recurrence: Recurrence,
    last: Linear,
}

struct Mamba {
    info: ModelInfo,
    embed: Table,
    layers: Vec<Layer>,
    norm: Norm,
    end: End,
}

/// What the first map makes of rows.
struct Parts {
    gate: Tensor,
    /// What the convolution reads.
    raw: Tensor,
    /// Steps before their bias, `[n, heads]`, where they come beside it.
    step: Option<Tensor>,
}

/// Loads a checkpoint of either version.
pub(super) fn load(w: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let c = Config::new(w.config());
    let second = c.word(&["model_type"], "mamba")? == "mamba2";
    let c = &c.with(if second { SECOND } else { FIRST });
    let root = Scope::root(w, device);
    // Old files speak of one embedding.
    let s = root.first(&["backbone", "model", ""], "norm_f.weight");
    let name = if s.has("embedding.weight") { "embedding.weight" } else { "embeddings.weight" };
    let (d, vocab) = (c.size(&["hidden_size"])?, c.size(&["vocab_size"])?);
    let eps = c.eps(&["layer_norm_epsilon"], 1e-5)?;
    let embed = s.table(name, &[vocab, d])?;
    let mut layers = Vec::new();
    for i in 0..c.size(&["num_hidden_layers"])? {
        let b = s.sub(format!("layers.{i}"));
        layers.push(layer(c, &b, second, (d, eps))?);
    }
    let tied = c.flag(&["tie_word_embeddings"], !second)?;
    let end = End::load(c, &root, &root.sub("lm_head"), &embed, tied)?;
    let heads = layers.first().map_or(Ok(0), |l| l.recurrence.heads())?;
    let wide = layers.first().map_or(Ok(0), |l| l.last.inputs())?;
    let mut info = super::describe(w);
    info.towers.insert(
        Tower::Text,
        TowerInfo {
            n_layers: layers.len(),
            width: d,
            n_heads: if second { heads } else { 1 },
            n_kv_heads: 1,
            head_width: 0,
            value_width: 0,
            mlp_width: wide,
            experts: (0, 0),
            mixers: heads,
            class_token: false,
            // Nothing that one head adds can be told from what the others add.
            norms_attention: true,
            reads_stream: false,
            added: Added::None,
            tile: None,
            stages: Vec::new(),
        },
    );
    if let End::Head(head) = &end {
        info.vocab = head.outputs()?;
        info.writes = Writes::Causal;
    }
    Ok(Box::new(Mamba { info, embed, layers, norm: Norm::rms(&s.sub("norm_f"), d, eps)?, end }))
}

fn layer(c: &Config, b: &Scope, second: bool, (d, eps): (usize, f64)) -> Result<Layer> {
    let m = b.sub("mixer");
    let (states, kernel) = (c.size(&["state_size"])?, c.size(&["conv_kernel"])?);
    let expand = c.number(&["expand"], 2.0)?;
    let inner = (expand * d as f64) as usize;
    if !(1..1 << 24).contains(&inner) {
        return Err(Error::invalid("config.json: expand is not usable here"));
    }
    let bias = c.flag(&["use_bias"], false)?;
    let fade = |shape: &[usize]| -> Result<Tensor> { Ok(m.get("A_log", shape)?.exp()?.neg()?) };
    let (kind, recurrence, channels, out) = if second {
        let (heads, width) = (c.size(&["num_heads"])?, c.size(&["head_dim"])?);
        let groups = c.size(&["n_groups"])?;
        if heads.checked_mul(width) != Some(inner) {
            return Err(Error::invalid(format!("config.json: {heads} heads of {width} are not {inner} channels")));
        }
        Config::split(heads, groups, "groups of heads")?;
        let limit = limit(c)?;
        let weight = m.get("norm.weight", &[inner])?;
        let kind = Kind::Second { bias: m.get("dt_bias", &[heads])?, limit, weight, eps, groups };
        let fade = fade(&[heads])?.unsqueeze(1)?;
        let channels = inner + 2 * groups * states;
        (kind, Recurrence { fade, skip: m.get("D", &[heads])?, width, states }, channels, inner + channels + heads)
    } else {
        let rank = match c.value(&["time_step_rank"]).and_then(serde_json::Value::as_str) {
            Some("auto") => d.div_ceil(16),
            _ => c.size_opt(&["time_step_rank"])?.unwrap_or(d.div_ceil(16)),
        };
        let all = Linear::load(&m.sub("x_proj"), inner, rank + 2 * states, false)?;
        let step = Linear::load(&m.sub("dt_proj"), rank, inner, true)?;
        let fade = fade(&[inner, states])?;
        let skip = m.get("D", &[inner])?;
        (Kind::First { all, step, rank }, Recurrence { fade, skip, width: 1, states }, inner, 2 * inner)
    };
    let conv = m.sub("conv1d");
    let taps = conv.get("weight", &[channels, 1, kernel])?.squeeze(1)?.t()?.contiguous()?;
    let added = c.flag(&["use_conv_bias"], true)?.then(|| conv.get("bias", &[channels])).transpose()?;
    Ok(Layer {
        norm: Norm::rms(&b.sub("norm"), d, eps)?,
        first: Linear::load(&m.sub("in_proj"), d, out, bias)?,
        conv: (taps, added),
        act: Activation::parse(c.word(&["hidden_act"], "silu")?)?,
        kind,
        recurrence,
        last: Linear::load(&m.sub("out_proj"), inner, d, bias)?,
    })
}

/// Bounds of a step; none above where the file says infinity.
fn limit(c: &Config) -> Result<(f64, f64)> {
    let bad = || Error::invalid("config.json: time_step_limit is not two numbers");
    let Some(v) = c.value(&["time_step_limit"]) else { return Ok((0.0, f64::INFINITY)) };
    let one = |v: &serde_json::Value| {
        let word = v.as_str().or_else(|| v.get("__float__")?.as_str());
        v.as_f64().or_else(|| word.filter(|w| w.eq_ignore_ascii_case("infinity")).map(|_| f64::INFINITY))
    };
    match v.as_array().map(Vec::as_slice) {
        Some([low, high]) => {
            let (low, high) = one(low).zip(one(high)).ok_or_else(bad)?;
            if low <= high { Ok((low, high)) } else { Err(bad()) }
        }
        _ => Err(bad()),
    }
}

/// `ln(1 + exp(x))`, which does not overflow.
fn softplus(x: &Tensor) -> Result<Tensor> {
    Ok((x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?)?)
}

impl Layer {
    /// Channels of the recurrence.
    fn inner(&self) -> Result<usize> {
        self.last.inputs()
    }

    /// What the first map makes of normed rows.
    fn parts(&self, x: &Tensor, ctx: &Ctx) -> Result<Parts> {
        let (all, inner) = (self.first.apply_in(x, ctx)?, self.inner()?);
        let columns = |from: usize, len: usize| -> Result<Tensor> { Ok(all.narrow(1, from, len)?.contiguous()?) };
        Ok(match &self.kind {
            Kind::First { .. } => Parts { raw: columns(0, inner)?, gate: columns(inner, inner)?, step: None },
            Kind::Second { bias, .. } => {
                let channels = self.conv.0.dim(1)?;
                let step = Some(columns(inner + channels, bias.dim(0)?)?);
                Parts { gate: columns(0, inner)?, raw: columns(inner, channels)?, step }
            }
        })
    }

    /// Each channel's last values weighed: of rows `[before + n, channels]` the last `n`, where rows before the first
    /// are zeros.
    fn convolve(&self, raw: &Tensor, n: usize) -> Result<Tensor> {
        let (taps, added) = &self.conv;
        let (kernel, channels) = taps.dims2()?;
        let zeros = (n + kernel - 1).saturating_sub(raw.dim(0)?);
        let raw = match zeros {
            0 => raw.narrow(0, raw.dim(0)? + 1 - n - kernel, n + kernel - 1)?,
            _ => Tensor::cat(&[&Tensor::zeros((zeros, channels), raw.dtype(), raw.device())?, raw], 0)?,
        };
        let mut sum: Option<Tensor> = None;
        for k in 0..kernel {
            let part = raw.narrow(0, k, n)?.broadcast_mul(&taps.narrow(0, k, 1)?)?;
            sum = Some(match sum {
                Some(s) => (s + part)?,
                None => part,
            });
        }
        let y = sum.ok_or_else(|| Error::invalid("config.json: conv_kernel is 0"))?;
        let y = added.as_ref().map_or(Ok(y.clone()), |b| y.broadcast_add(b))?;
        self.act.apply(&y.contiguous()?)
    }

    /// What the recurrence reads of `n` rows behind the convolution; `step` as it comes beside it, where it does.
    fn steps(&self, conv: &Tensor, step: Option<&Tensor>, ctx: &Ctx) -> Result<Steps> {
        let (inner, size) = (self.inner()?, self.recurrence.states);
        let columns =
            |t: &Tensor, from: usize, len: usize| -> Result<Tensor> { Ok(t.narrow(1, from, len)?.contiguous()?) };
        Ok(match &self.kind {
            Kind::First { all, step, rank } => {
                let all = all.apply_in(conv, ctx)?;
                let step = softplus(&step.apply_in(&columns(&all, 0, *rank)?, ctx)?)?;
                let (write, read) = (columns(&all, *rank, size)?, columns(&all, rank + size, size)?);
                Steps { x: conv.clone(), step, write, read }
            }
            Kind::Second { bias, limit, groups, .. } => {
                let step = step.ok_or_else(|| Error::invalid("rows without steps"))?;
                let step = softplus(&step.broadcast_add(bias)?)?.maximum(limit.0 as f32)?;
                // No bound above is no tensor operation: infinity times a gradient of zero is no number.
                let step = if limit.1.is_finite() { step.minimum(limit.1 as f32)? } else { step };
                let wide = groups * size;
                let (write, read) = (columns(conv, inner, wide)?, columns(conv, inner + wide, wide)?);
                Steps { x: columns(conv, 0, inner)?, step, write, read }
            }
        })
    }

    /// What the last map reads: the recurrence's rows behind their gate.
    fn gated(&self, y: &Tensor, gate: &Tensor) -> Result<Tensor> {
        let y = (y * Activation::Silu.apply(gate)?)?;
        let Kind::Second { weight, eps, groups, .. } = &self.kind else { return Ok(y) };
        let (n, inner) = y.dims2()?;
        let y = y.reshape((n, *groups, inner / groups))?;
        let long = (y.sqr()?.mean_keepdim(2)? + *eps)?.sqrt()?;
        Ok(y.broadcast_div(&long)?.reshape((n, inner))?.broadcast_mul(weight)?)
    }

    /// `[n, d]` normed rows → what the layer adds to the stream.
    fn apply(&self, x: &Tensor, i: usize, pass: &mut Pass) -> Result<Tensor> {
        let (n, ctx) = (x.dim(0)?, pass.ctx);
        let parts = self.parts(x, ctx)?;
        let (mut raw, mut step, mut state, mut before) = (parts.raw.clone(), parts.step.clone(), None, 0);
        if let Some(cache) = pass.cache.as_deref_mut() {
            before = cache.layers.get(i).map_or(0, super::LayerCache::len);
            let known = cache.layers.get(i).and_then(|l| l.recurrent.clone()).filter(|r| r.rows == before);
            let beside = match &parts.step {
                Some(step) => step.clone(),
                None => Tensor::zeros((n, 1), DType::F32, x.device())?,
            };
            let held = cache.extend(i, &raw.unsqueeze(0)?, &beside.unsqueeze(0)?, &pass.rows.positions)?;
            let [held] = &held[..] else { return Err(Error::invalid("a recurrence holds rows of one kind")) };
            raw = held.k.squeeze(0)?.contiguous()?;
            match known {
                // Where rows were taken back, what is left is gone through again.
                None if before > 0 => step = parts.step.as_ref().map(|_| held.v.squeeze(0)).transpose()?,
                known => state = known.map(|r| r.state),
            }
        }
        let again = if state.is_none() { raw.dim(0)? } else { n };
        let steps = self.steps(&self.convolve(&raw, again)?, step.as_ref(), ctx)?;
        let (y, after) = self.recurrence.run(&steps, state.as_ref(), ctx)?;
        if let Some(layer) = pass.cache.as_deref_mut().and_then(|c| c.layers.get_mut(i)) {
            layer.recurrent = Some(Recurrent { rows: before + n, state: after });
        }
        self.show(&steps, before, i, pass)?;
        let y = y.narrow(0, again - n, n)?.contiguous()?;
        let h = pass.tap(Site::MlpHidden, i, self.gated(&y, &parts.gate)?)?;
        self.last.apply_in(&h, pass.ctx)
    }

    /// Lets the tap see the matrix of a text that is read as a whole.
    fn show(&self, steps: &Steps, before: usize, i: usize, pass: &mut Pass) -> Result<()> {
        let one = matches!(self.kind, Kind::First { .. });
        let heads = if one { 1 } else { self.recurrence.heads()? };
        pass.note_rule(i, AttentionRule { scale: 1.0, ..AttentionRule::new((heads, 1), 1, MaskRule::Causal) });
        if before > 0 {
            return Ok(());
        }
        let (n, device) = (steps.x.dim(0)?, steps.x.device().clone());
        if pass.wants(Site::Mixing, i) {
            let m = self.recurrence.mixing(steps, pass.ctx)?;
            unchanged(pass, Site::Mixing, i, m)?;
        }
        let shown = [Site::Q, Site::K, Site::Pattern].map(|site| pass.wants(site, i));
        if !shown.contains(&true) {
            return Ok(());
        }
        let mut shares = self.recurrence.shares(steps, one, pass.ctx)?;
        if shown[2] {
            let map = Tensor::from_slice(&shares, (heads, n, n), &device)?;
            unchanged(pass, Site::Pattern, i, map)?;
        }
        shares.iter_mut().for_each(|x| *x = if *x > 0.0 { x.ln().max(NOTHING) } else { NOTHING });
        unchanged(pass, Site::Q, i, Tensor::from_vec(shares, (heads, n, n), &device)?)?;
        unchanged(pass, Site::K, i, Tensor::eye(n, DType::F32, &device)?.unsqueeze(0)?)
    }
}

/// Lets the tap look at what is computed for looking alone. Errors where it changes that, for nothing would follow.
fn unchanged(pass: &mut Pass, site: Site, layer: usize, x: Tensor) -> Result<()> {
    let own = x.id();
    if pass.tap(site, layer, x)?.id() == own {
        return Ok(());
    }
    Err(Error::invalid("this model has no attention; its mixing matrices can be looked at and not changed"))
}

impl Mamba {
    fn run(&self, mut x: Tensor, input: &mut Input, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Output> {
        if input.mask.is_some() {
            return Err(Error::invalid(
                "this model reads one row after the other; it takes no mask and no tree of drafts",
            ));
        }
        let (rows, n_layers) = (input.rows(x.dim(0)?)?, self.layers.len());
        let mut pass = Pass::new(Tower::Text, 0, rows, tap, ctx);
        pass.cache = input.cache.as_deref_mut();
        pass.step = input.step;
        for (i, layer) in self.layers.iter().enumerate() {
            ctx.step(i, n_layers)?;
            x = pass.tap(Site::ResidPre, i, x)?;
            if i == 0 {
                x = pass.regroup(Site::ResidPre, i, x, &mut None)?;
            }
            if pass.rows.is_empty() {
                break;
            }
            let read = pass.tap(Site::AttnIn, i, layer.norm.apply(&x)?)?;
            let added = layer.apply(&read, i, &mut pass)?;
            x = (x + pass.tap(Site::AttnOut, i, added)?)?;
            x = pass.tap(Site::ResidPost, i, x)?;
            x = pass.regroup(Site::ResidPost, i, x, &mut None)?;
        }
        ctx.step(n_layers, n_layers)?;
        let x = pass.with_those_aside(x)?;
        let x = pass.tap(Site::Final, n_layers, self.norm.apply(&x)?)?;
        let mut out = Output::default();
        if let End::Head(head) = &self.end {
            let (x, rows) = LogitRows::of(input.logits.as_ref(), &x)?;
            if !rows.is_empty() {
                out.logits = Some(pass.tap(Site::Logits, n_layers, head.apply_in(&x, ctx)?)?);
            }
            out.logit_rows = rows;
        }
        let attention = std::mem::take(&mut pass.rules);
        out.towers.insert(Tower::Text, TowerRun { attention, n_tiles: 1, ..TowerRun::default() });
        Ok(out)
    }
}

impl Model for Mamba {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn forward(&self, input: &mut Input, tap: &mut dyn Tap, ctx: &Ctx) -> Result<Output> {
        let x = embedded(self, input)?;
        self.run(x, input, tap, ctx)
    }

    fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        look_up(&self.embed, ids, "token id")
    }

    fn stack(&self, _tower: Tower) -> Result<&Stack> {
        Err(Error::invalid("this model has no attention, and so no queries, keys and heads to compute with"))
    }

    fn lens(&self, resid: &Tensor) -> Result<Tensor> {
        match &self.end {
            End::Head(head) => head.apply(&self.norm.apply(resid)?),
            _ => Err(Error::invalid("this model has no language-model head to look with")),
        }
    }

    fn last_norm(&self, resid: &Tensor) -> Result<Tensor> {
        self.norm.apply(resid)
    }

    fn device(&self) -> &Device {
        self.embed.device()
    }
}
